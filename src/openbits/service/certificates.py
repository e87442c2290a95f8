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
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from openbits.core import codes
from openbits.core.enums import CertStore, ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import Certificate, Identity
from openbits.core.wording import label
from openbits.service import revocation_lists
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.failures import CHILD_ENDED, CannotFetchError, code_of_broker_error
from openbits.service.file_broker import Broker, BrokerError
from openbits.service.spawner_link import Cookie, RefusedError

OF_USER = Path(".config/openbits/certs")
OF_MACHINE = "certs"
OF_REVOCATIONS = "crls"
NO_STORE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
"""How the kernel says that there is no such folder."""
UNREADABLE_KEY = frozenset({errno.EACCES, errno.EKEYREJECTED})
"""How a broker says that there is a private key which it cannot use."""

Ask = Callable[[Callable[[Broker], Awaitable[int]]], Awaitable[int]]
"""Has a broker of the owner do something that gives a descriptor. Raises BrokerError, ChildLostError, RefusedError."""

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

        async def ask(act: Callable[[Broker], Awaitable[int]]) -> int:
            return await self._children.with_broker(owner.uid, by, act)

        try:
            await self._sha1_of(wanted, folder, what, ask)
        except ChildLostError as error:
            raise BitsError(CHILD_ENDED, f"{what}: {error}") from error
        except RefusedError as error:
            raise BitsError(error.hresult, f"{what}: {error}") from error

    async def key_pair(self, wanted: Certificate, owner: Identity, ask: Ask) -> str:
        """The certificate, those beside it in its file, and its private key, as PEM text, for a transfer.

        Raises what `check` does, and ERROR_WINHTTP_CLIENT_CERT_NO_PRIVATE_KEY, …_NO_ACCESS_PRIVATE_KEY;
        ChildLostError, RefusedError.
        """
        folder = await self._folder(wanted, owner)
        what = f"cannot use a client certificate of {folder} as {label(owner)}"
        try:
            sha1 = await self._sha1_of(wanted, folder, what, ask)
        except BitsError as error:  # no time will put it back
            raise CannotFetchError(error.hresult, error.text, context=ErrorContext.GENERAL_TRANSPORT) from error
        try:
            memory = await ask(lambda broker: broker.key_pair(str(folder), sha1))
        except BrokerError as error:
            is_there = error.errno in UNREADABLE_KEY
            code = codes.ERROR_WINHTTP_CLIENT_CERT_NO_ACCESS_PRIVATE_KEY
            code = code if is_there else codes.ERROR_WINHTTP_CLIENT_CERT_NO_PRIVATE_KEY
            raise BitsError(code, f"{what}: {error}", context=ErrorContext.GENERAL_TRANSPORT) from error
        with os.fdopen(memory, "rb") as file:
            return file.read().decode()

    async def revocation_lists(self) -> str:
        """The revocation lists that the administrator keeps in the folder `crls` of the settings, as PEM."""
        return await asyncio.to_thread(revocation_lists.read, self._settings / OF_REVOCATIONS)

    async def _sha1_of(self, wanted: Certificate, folder: Path, what: str, ask: Ask) -> str:
        """SHA-1 of the certificate that is meant; `what` cannot be done without."""
        try:
            memory = await ask(lambda broker: broker.certificates(str(folder)))
        except BrokerError as error:
            if error.errno in NO_STORE:
                text = f"{what}: there is no such folder; make it and put the certificate into it as a PEM file"
                raise BitsError(codes.ERROR_FILE_NOT_FOUND, text, context=ErrorContext.LOCAL_FILE) from error
            raise BitsError(code_of_broker_error(error), f"{what}: {error}", context=ErrorContext.LOCAL_FILE) from error
        with os.fdopen(memory, "rb") as file:
            pem = file.read()
        meant = next((certificate for certificate in parsed(pem) if is_meant(certificate, wanted)), None)
        if meant is None:
            which = f"with SHA-1 {wanted.sha1}" if wanted.sha1 else f"for clients with subject {wanted.subject!a}"
            text = f"{what}: no certificate {which} is there; put it into the folder as a PEM file"
            raise BitsError(codes.CRYPT_E_NOT_FOUND, text)
        return meant.fingerprint(hashes.SHA1()).hex()  # noqa: S303  # a name, not a proof

    async def _folder(self, wanted: Certificate, owner: Identity) -> Path:
        if wanted.location is CertStore.LOCAL_MACHINE:
            return self._settings / OF_MACHINE / wanted.store
        home = await home_of(owner.uid)
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


async def home_of(uid: int) -> Path | None:
    """Home of an account, None without one; the look-up may wait for a directory service, so it has a thread."""
    return await asyncio.to_thread(_home_of, uid)


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
