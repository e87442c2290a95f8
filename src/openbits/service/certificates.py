"""Client certificates: whether the store has the one that a job names (jobs.md §7.8, identity.md §13).

A store is a folder of PEM files: `~/.config/openbits/certs/<store>` of the owner, or `certs/<store>` beside the
settings of the service. A file broker of the owner reads it, so that the kernel says what is readable; parsed is here,
in a process without privileges. A job keeps the reference; certificate and key are looked for anew when it is used.
"""

import asyncio
import errno
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from openbits.core import codes
from openbits.core.enums import CertStore, ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import Certificate, Identity
from openbits.core.wording import label
from openbits.service.children import BrokerError, ChildLostError, Children
from openbits.service.failures import CHILD_ENDED, code_of_broker_error
from openbits.service.spawner_link import Cookie, RefusedError

OF_USER = Path(".config/openbits/certs")
OF_MACHINE = "certs"
NO_STORE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
"""How the kernel says that there is no such folder."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)


class Certificates:
    """Looks for certificates under the identity of whoever owns the job."""

    def __init__(self, children: Children, settings: Path) -> None:
        self._children = children
        self._settings = settings

    async def check(self, wanted: Certificate, owner: Identity, by: Cookie) -> None:
        """Whether the store has the certificate; `by` vouches for the owner.

        Raises ERROR_FILE_NOT_FOUND (no such store), CRYPT_E_NOT_FOUND, E_ACCESSDENIED (the owner may not read it).
        """
        folder = await self._folder(wanted, owner)
        what = f"cannot use a client certificate of {folder} as {label(owner)}"
        try:
            memory = await self._children.with_broker(owner.uid, by, lambda broker: broker.certificates(str(folder)))
        except BrokerError as error:
            if error.errno in NO_STORE:
                text = f"{what}: there is no such folder; make it and put the certificate into it as a PEM file"
                raise BitsError(codes.ERROR_FILE_NOT_FOUND, text, context=ErrorContext.LOCAL_FILE) from error
            raise BitsError(code_of_broker_error(error), f"{what}: {error}", context=ErrorContext.LOCAL_FILE) from error
        except ChildLostError as error:
            raise BitsError(CHILD_ENDED, f"{what}: {error}") from error
        except RefusedError as error:
            raise BitsError(error.hresult, f"{what}: {error}") from error
        with os.fdopen(memory, "rb") as file:
            pem = file.read()
        if not any(is_meant(certificate, wanted) for certificate in parsed(pem)):
            which = f"with SHA-1 {wanted.sha1}" if wanted.sha1 else f"for clients with subject {wanted.subject!a}"
            text = f"{what}: no certificate {which} is there; put it into the folder as a PEM file"
            raise BitsError(codes.CRYPT_E_NOT_FOUND, text)

    async def _folder(self, wanted: Certificate, owner: Identity) -> Path:
        if wanted.location is CertStore.LOCAL_MACHINE:
            return self._settings / OF_MACHINE / wanted.store
        home = await asyncio.to_thread(_home_of, owner.uid)
        if home is None:
            text = f"{label(owner)} has no home, and so no store of certificates; use the location local_machine"
            raise BitsError(codes.ERROR_FILE_NOT_FOUND, text)
        return home / OF_USER / wanted.store


def parsed(pem: bytes) -> Iterator[x509.Certificate]:
    """The certificates in the text; what is none is left out."""
    for block in _CERTIFICATE.findall(pem):
        try:
            certificate = x509.load_pem_x509_certificate(block)
            subject_of(certificate)  # which is not read before somebody asks for it
        except (ValueError, x509.InvalidVersion):
            continue
        yield certificate


def is_meant(certificate: x509.Certificate, wanted: Certificate) -> bool:
    """By its SHA-1, or by a part of its subject if clients may use it."""
    if wanted.sha1:
        return certificate.fingerprint(hashes.SHA1()).hex() == wanted.sha1  # noqa: S303  # a name, not a proof
    return wanted.subject in subject_of(certificate) and _is_for_clients(certificate)


def subject_of(certificate: x509.Certificate) -> str:
    """`name3, name2, name1`: the values of the subject in reverse order, without their types (jobs.md §7.8)."""
    values = [part.value for part in certificate.subject]
    return ", ".join(value if isinstance(value, str) else value.hex() for value in reversed(values))


def _home_of(uid: int) -> Path | None:
    try:
        home = pwd.getpwuid(uid).pw_dir
    except KeyError:
        return None
    return Path(os.path.normpath(home)) if home.startswith("/") else None


def _is_for_clients(certificate: x509.Certificate) -> bool:
    """A certificate that names no purpose, in words that can be read, is for every one."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage
