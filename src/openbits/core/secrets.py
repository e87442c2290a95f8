"""What clients entrust to a job: credentials, custom headers, a client certificate; their rules (jobs.md §7.4, §7.8).

Each secret has a slot, of which a job has one: `server/basic`, …, `proxy/passport`, `headers`, and for what was part of
a remote name `url/https://host:443`. Only the rules are here, which see what a caller sent; a job has what became of it
under the key of the service (`core.model.Secret`). Nothing here puts a value into a text. Lengths are counted in
Unicode code points (OPEN-01).
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urlsplit

from openbits.core import codes
from openbits.core.enums import AuthScheme, AuthTarget, CertStore
from openbits.core.errors import BitsError
from openbits.core.model import Certificate, Job, Secret

HEADERS: Final = "headers"
"""The slot of the custom headers."""

MAX_USER = 300
MAX_PASSWORD = 65_536
"""OPEN-24."""
MAX_HEADERS = 16_384
"""With the terminator that strings have there."""
MAX_CERTIFICATE_TEXT = 256
"""Name of a store, and subject."""

_IMPLICIT: Final = frozenset({AuthScheme.NTLM, AuthScheme.NEGOTIATE})
"""Schemes that may use the identity of the job itself: neither user nor password is given (identity.md A64)."""

_OWNED: Final = frozenset(
    {
        "accept-encoding", "connection", "content-length", "content-range", "expect", "host", "if-match",
        "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "keep-alive", "proxy-connection",
        "range", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Fields that the transfer itself decides about: framing, parts, versions, the connection (OPEN-25)."""

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_WITH_USER: Final = re.compile(r"(https?://)([^/?#]*)@([^/?#@]*(?:[/?#].*)?)", re.IGNORECASE | re.DOTALL)
_SHA1: Final = re.compile(r"[0-9a-f]{40}")


def entrusted(job: Job) -> tuple[str, ...]:
    """What a job was entrusted with, by the names of its slots, and `certificate`; all that others may know of it."""
    certificate = ("certificate",) if job.certificate is not None else ()
    return (*sorted(secret.slot for secret in job.secrets), *certificate)


def slot(target: str, scheme: str) -> str:
    """The slot of credentials by the names of the wire. Raises BG_E_INVALID_AUTH_TARGET, BG_E_INVALID_AUTH_SCHEME."""
    if target.upper() not in AuthTarget.__members__:
        known = _listed(AuthTarget.__members__)
        raise BitsError(codes.BG_E_INVALID_AUTH_TARGET, f"{_shown(target)} is no target of credentials; use {known}")
    if scheme.upper() not in AuthScheme.__members__:
        known = _listed(AuthScheme.__members__)
        raise BitsError(codes.BG_E_INVALID_AUTH_SCHEME, f"{_shown(scheme)} is no scheme of credentials; use {known}")
    return f"{target.lower()}/{scheme.lower()}"


def check_credentials(scheme: str, user: str | None, password: str | None) -> None:
    """Refuse what SetCredentials refuses, for a scheme that `slot` knows (identity.md A61, A64)."""
    if user is None or password is None:
        if user is None and password is None and AuthScheme[scheme.upper()] in _IMPLICIT:
            return
        how = "give both" if AuthScheme[scheme.upper()] not in _IMPLICIT else "give both, or neither"
        raise BitsError(
            codes.E_INVALIDARG,
            f"cannot set {scheme} credentials: {'user' if user is None else 'password'} is missing (NULL); {how}",
        )
    if len(user) > MAX_USER:
        raise BitsError(
            codes.BG_E_USERNAME_TOO_LARGE,
            f"cannot set the credentials: the user name has {len(user)} characters; use at most {MAX_USER}",
        )
    if len(password) > MAX_PASSWORD:
        raise BitsError(
            codes.BG_E_PASSWORD_TOO_LARGE,
            f"cannot set the credentials: the password has {len(password)} characters; use at most {MAX_PASSWORD}",
        )
    for name, value in (("user name", user), ("password", password)):
        if any(unicodedata.category(one) == "Cs" or one == "\0" for one in value):
            raise BitsError(
                codes.E_INVALIDARG, f"cannot set the credentials: the {name} has NUL or half a character; leave it out"
            )


def check_headers(text: str) -> None:
    """Refuse what SetCustomHeaders refuses: E_INVALIDARG with the number of the line, or BG_E_STRING_TOO_LONG."""
    if len(text) >= MAX_HEADERS:
        raise BitsError(
            codes.BG_E_STRING_TOO_LONG,
            f"cannot set the custom headers: they have {len(text)} characters; use at most {MAX_HEADERS - 1}",
        )
    for number, line in enumerate(_lines(text), 1):
        name, colon, value = line.partition(":")
        rule = ""
        if not colon or not _NAME.fullmatch(name):
            rule = "it is not of the form `Name: value`"
        elif any(unicodedata.category(one) in {"Cc", "Cs"} and one != "\t" for one in value):
            rule = "its value has a control character; lines end with CRLF"
        elif name.lower() in _OWNED or name.lower().startswith("bits-"):
            rule = f"{name} is decided by the transfer itself; leave it out"
        if rule:
            raise BitsError(codes.E_INVALIDARG, f"cannot set the custom headers: line {number} is refused: {rule}")


def fields_of(text: str) -> list[tuple[str, str]]:
    """Names and values of headers that `check_headers` has let through."""
    return [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in _lines(text))]


def without_user(url: str) -> tuple[str, tuple[str, str] | None]:
    """A URL of a web server without its user information; user and password, decoded, if it had some."""
    found_in = _WITH_USER.fullmatch(url)
    if found_in is None:
        return url, None
    scheme, given, rest = found_in.groups()
    user, _, password = given.partition(":")
    return scheme + rest, (unquote(user), unquote(password))


def slot_of_server(url: str) -> str:
    """The slot of credentials that were part of a URL: good for its scheme, host and port alone."""
    parts = urlsplit(url)
    return f"url/{parts.scheme}://{parts.hostname}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"


def certificate_reference(location: str, store: str, sha1: str, subject: str) -> Certificate:
    """What SetClientCertificateByID or ByName was given, checked; whether the certificate is there is looked at later.

    Raises E_NOTIMPL, BG_E_STRING_TOO_LONG, ERROR_FILE_NOT_FOUND, RPC_X_BAD_STUB_DATA, E_INVALIDARG.
    """
    act = "cannot set the client certificate"
    if location.upper() not in {CertStore.CURRENT_USER.name, CertStore.LOCAL_MACHINE.name}:
        known = "use current_user or local_machine"
        raise BitsError(codes.E_NOTIMPL, f"{act}: there is no store location {_shown(location)} here; {known}")
    for name, value in (("store", store), ("subject", subject)):
        if len(value) > MAX_CERTIFICATE_TEXT:
            rule = f"has {len(value)} characters; use at most {MAX_CERTIFICATE_TEXT}"
            raise BitsError(codes.BG_E_STRING_TOO_LONG, f"{act}: the name of the {name} {rule}")
    if "/" in store or store in {"", ".", ".."} or not store.isprintable():
        text = f"{act}: no store is called {_shown(store)}; use MY, CA or one of your own"
        raise BitsError(codes.ERROR_FILE_NOT_FOUND, text)
    if bool(sha1) == bool(subject):
        raise BitsError(codes.E_INVALIDARG, f"{act}: name it by its SHA-1 or by a part of its subject, not empty")
    if sha1 and not _SHA1.fullmatch(sha1.lower()):
        raise BitsError(codes.RPC_X_BAD_STUB_DATA, f"{act}: a SHA-1 is 20 bytes; give 40 hexadecimal digits")
    return Certificate(location=CertStore[location.upper()], store=store, sha1=sha1.lower(), subject=subject)


def credentials(job: Job) -> list[tuple[str, str, Secret]]:
    """Target, scheme and secret of each SetCredentials that the job has."""
    slots = [(target.lower(), scheme.lower()) for target in AuthTarget.__members__ for scheme in AuthScheme.__members__]
    found_in = ((target, scheme, found(job, slot(target, scheme))) for target, scheme in slots)
    return [(target, scheme, secret) for target, scheme, secret in found_in if secret is not None]


def found(job: Job, name: str) -> Secret | None:
    """The secret in this slot of the job."""
    return next((secret for secret in job.secrets if secret.slot == name), None)


def with_secret(present: tuple[Secret, ...], secret: Secret) -> tuple[Secret, ...]:
    """The secrets with one put in, in the order of their slots; it replaces the one that was in its slot."""
    others = without(present, secret.slot)
    return tuple(sorted((*others, secret), key=lambda one: one.slot))


def without(present: tuple[Secret, ...], name: str) -> tuple[Secret, ...]:
    """The secrets without the one in this slot."""
    return tuple(secret for secret in present if secret.slot != name)


def _lines(text: str) -> list[str]:
    """Lines end with CRLF, the last one may do without."""
    return text.removesuffix("\r\n").split("\r\n") if text else []


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name.lower() for name in names)


def _shown(value: str) -> str:
    return ascii(value[:40])
