"""What a transfer may prove itself with, and to whom (identity.md §7, §13; reliability.md §2 "redirect / reuse").

Values in, values out. A job has one slot per target and scheme; what came with a URL, or from the settings of a proxy,
is for that one server or proxy. What is left of them for one peer is decided here, in one function; how it is used, and
that nothing is sent before it is asked for, is the ladder's (`ladder`).

A server is given the credentials of the job only where the URL of the file leads: a redirect to another scheme, host or
port is followed without. One exception: the same host over https instead of http, both on their usual ports.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from openbits.core.enums import AuthScheme, AuthTarget
from openbits.core.proxies import Proxy
from openbits.transfer.urls import Origin

NAMES: Final = {
    AuthScheme.NEGOTIATE: "Negotiate",
    AuthScheme.NTLM: "NTLM",
    AuthScheme.DIGEST: "Digest",
    AuthScheme.BASIC: "Basic",
}
"""The schemes that are spoken, strongest first, as they are written."""

CONNECTION_BOUND: Final = frozenset({AuthScheme.NEGOTIATE, AuthScheme.NTLM})
"""Schemes that are a conversation, and may authenticate the connection rather than a request."""

_STRENGTH: Final = list(NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One of the job's. No user and password: the identity of this process. `origin`: the one peer it is for."""

    target: AuthTarget
    scheme: AuthScheme
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    origin: str | None = None

    @property
    def is_implicit(self) -> bool:
        """True if it is the identity of this process."""
        return self.user is None or self.password is None

    @property
    def label(self) -> str:
        """Scheme and user, for people."""
        return f"{NAMES.get(self.scheme, self.scheme.name)} as {self.user or 'the own identity'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """All that a job has, and what the policies say (`use_lm_compat`, `disable_basic_auth_over_http`)."""

    credentials: tuple[Credential, ...] = ()
    is_implicit_for_server: bool = False
    is_implicit_for_proxy: bool = False
    may_send_basic_over_http: bool = True
    why_no_tickets: str = ""
    """Why this process has no Kerberos tickets, if that is known before they are looked for."""


NOTHING: Final = Authentication()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who may ask who we are: the server of a hop, or a proxy."""

    target: AuthTarget
    scheme: str
    host: str
    port: int

    @property
    def is_proxy(self) -> bool:
        """True for a proxy."""
        return self.target is AuthTarget.PROXY

    @property
    def who(self) -> str:
        """`the server` or `the proxy`."""
        return f"the {self.target.name.lower()}"

    @property
    def service_host(self) -> str:
        """The host as tickets are made for it."""
        return self.host.strip("[]").removesuffix(".").lower()


def server(origin: Origin) -> Peer:
    """A server."""
    scheme, host, port = origin
    return Peer(target=AuthTarget.SERVER, scheme=scheme, host=host, port=port)


def proxy(through: Proxy) -> Peer:
    """A proxy."""
    return Peer(target=AuthTarget.PROXY, scheme=str(through.kind), host=through.host.lower(), port=through.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """What a peer may be given, strongest first, and why nothing else may."""

    credentials: tuple[Credential, ...] = ()
    notes: tuple[str, ...] = ()


def usable(given: Authentication, peer: Peer, home: Peer) -> Usable:
    """What this peer may be given in a transfer from `home`, the server of the URL."""
    own = [one for one in given.credentials if one.target is peer.target]
    if not peer.is_proxy and not _is_at_home(peer, home):
        note = f"the credentials of the job are for {_origin(home)}, and are not sent where it redirects to"
        return Usable(notes=(note,) if own else ())
    own = [one for one in own if one.origin is None or one.origin.lower() in _origins(peer)]
    is_implicit = given.is_implicit_for_proxy if peer.is_proxy else given.is_implicit_for_server
    if is_implicit and not any(one.scheme is AuthScheme.NEGOTIATE for one in own):
        own.append(Credential(target=peer.target, scheme=AuthScheme.NEGOTIATE))
    unusable = {one: note for one in own if (note := _why_not(one, peer, given))}
    left = [one for one in own if one not in unusable]
    left.sort(key=lambda one: (_STRENGTH.index(one.scheme), one.origin is None and not peer.is_proxy))
    return Usable(credentials=tuple(left), notes=tuple(dict.fromkeys(unusable.values())))


def read(rules: Mapping[str, Any], entrusted: Iterable[Mapping[str, Any]], why_no_tickets: str = "") -> Authentication:
    """From the field `authentication` of an order and the `credentials` of its memory file (docs/processes.md).

    Raises KeyError, ValueError.
    """
    return Authentication(
        credentials=tuple(_read(entrusted)),
        is_implicit_for_server=rules["implicit_server"] is True,
        is_implicit_for_proxy=rules["implicit_proxy"] is True,
        may_send_basic_over_http=rules["basic_over_http"] is True,
        why_no_tickets=why_no_tickets,
    )


def _read(entrusted: Iterable[Mapping[str, Any]]) -> Iterator[Credential]:
    for one in entrusted:
        yield Credential(
            target=AuthTarget[str(one["target"]).upper()],
            scheme=AuthScheme[str(one["scheme"]).upper()],
            user=None if one["user"] is None else str(one["user"]),
            password=None if one["password"] is None else str(one["password"]),
            origin=None if one["origin"] is None else str(one["origin"]),
        )


def _is_at_home(peer: Peer, home: Peer) -> bool:
    if (peer.scheme, peer.host, peer.port) == (home.scheme, home.host, home.port):
        return True
    is_upgraded = (home.scheme, home.port, peer.scheme, peer.port) == ("http", 80, "https", 443)
    return is_upgraded and peer.host == home.host


def _why_not(one: Credential, peer: Peer, given: Authentication) -> str:
    """Why it cannot be used with this peer, empty if it can."""
    if one.scheme is AuthScheme.PASSPORT:
        return "Passport is not spoken: nobody gives out its tickets any more"
    if one.scheme is AuthScheme.NTLM and one.is_implicit:
        return "NTLM needs user and password: no password of the own identity is known here"
    if one.is_implicit and given.why_no_tickets:
        return f"there are no Kerberos tickets of the own identity ({given.why_no_tickets}); have it run kinit"
    is_open = peer.scheme == "http" and not peer.is_proxy
    if one.scheme is AuthScheme.BASIC and is_open and not given.may_send_basic_over_http:
        return "Basic would send the password in clear over http, which a policy forbids"
    return ""


def _origin(peer: Peer) -> str:
    return f"{peer.scheme}://{peer.host}:{peer.port}"


def _origins(peer: Peer) -> tuple[str, ...]:
    """How a credential may name the peer that it is for; of an HTTP proxy the kind may be left out."""
    return (_origin(peer), f"{peer.host}:{peer.port}") if peer.is_proxy else (_origin(peer),)
