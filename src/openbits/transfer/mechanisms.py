"""NTLM and Negotiate: what the two sides of a conversation say next.

Tokens in, tokens out; they travel in header fields (`ladder`). A step may ask the KDC and DNS, so it may take long: it
belongs into a helper thread. Kerberos is GSS-API's (`gss`); NTLM, alone or inside SPNEGO, is pyspnego's.

Explicit credentials for Negotiate are Kerberos's if a KDC knows the user, and otherwise NTLM's, as on Windows: a
password that the KDC has refused goes nowhere else.
"""

import base64
import hashlib
import struct
from collections.abc import Callable
from typing import Final, Protocol

import spnego
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.backends import default_backend
from spnego import NegotiateOptions
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from openbits import gss
from openbits.core.enums import AuthScheme
from openbits.transfer.auth import Credential, Peer

default_backend()  # it imports something; pyspnego would ask for it only under the dropped uid, where imports fail

_UNSAFE_HASHES: Final = frozenset({"md5", "sha1"})
"""In their place RFC 5929 §4.1 has SHA-256."""


class MechanismError(Exception):
    """The conversation cannot go on; the text says why, for people. The flags are those of GssError."""

    def __init__(self, text: str, *, is_expired: bool = False, is_unknown: bool = False) -> None:
        super().__init__(text)
        self.is_expired = is_expired
        self.is_unknown = is_unknown


class Mechanism(Protocol):
    """One conversation."""

    @property
    def is_complete(self) -> bool:
        """True if nothing more is to be said or to be heard."""

    @property
    def who(self) -> str:
        """As whom, for people."""

    def step(self, token: bytes | None) -> bytes:
        """Take what the other side said, None at the beginning; what to say. Raises MechanismError."""


class Mechanisms:
    """Makes conversations; remembers the tickets that it got with a password."""

    def __init__(self) -> None:
        self._tickets: dict[Credential, gss.Credential] = {}

    def begin(self, credential: Credential, peer: Peer, certificate: str) -> Mechanism:
        """A conversation with this peer. `certificate`: PEM of the other end of the TLS connection, if any."""
        bindings = end_point(certificate) if certificate else None
        if credential.scheme is AuthScheme.NTLM:
            return _Ntlm(credential, peer, bindings, is_inside=False)
        if credential.is_implicit:
            return _Kerberos(gss.Credential, peer, bindings)
        return _Negotiate(self, credential, peer, bindings)

    def tickets(self, credential: Credential) -> gss.Credential:
        """The Kerberos tickets of a user, kept in memory. Raises GssError."""
        known = self._tickets.get(credential)
        if known is None:
            known = self._tickets[credential] = gss.Credential(credential.user, credential.password)
        return known

    def forget(self, credential: Credential) -> None:
        """They are too old."""
        self._tickets.pop(credential, None)


def end_point(certificate: str) -> bytes | None:
    """The channel binding `tls-server-end-point` (RFC 5929 §4), None if it is not defined for this certificate."""
    parsed = x509.load_pem_x509_certificate(certificate.encode())
    try:
        algorithm = parsed.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    if algorithm is None:
        return None
    name = "sha256" if algorithm.name in _UNSAFE_HASHES else algorithm.name.replace("-", "_")
    whole = base64.b64decode("".join(certificate.strip().splitlines()[1:-1]))
    return b"tls-server-end-point:" + hashlib.new(name, whole).digest()


class _Kerberos:
    """Kerberos in SPNEGO. `acquire` says who we are; it is called in the first step, because it may take long."""

    def __init__(self, acquire: Callable[[], gss.Credential], peer: Peer, bindings: bytes | None) -> None:
        self.who = "the own identity"
        self.is_complete = False
        self._acquire = acquire
        self._peer = peer
        self._bindings = bindings
        self._context: gss.Context | None = None

    def step(self, token: bytes | None) -> bytes:
        """See Mechanism."""
        try:
            if self._context is None:
                credential = self._acquire()
                self.who = credential.principal
                self._context = gss.Context(credential, self._peer.service_host, self._bindings)
            answer = self._context.step(token)
        except gss.GssError as error:
            raise MechanismError(
                f"Kerberos: {error}", is_expired=error.is_expired, is_unknown=error.is_unknown
            ) from None
        self.is_complete = self._context.is_complete
        return answer


class _Ntlm:
    """NTLM, alone or inside SPNEGO."""

    def __init__(self, credential: Credential, peer: Peer, bindings: bytes | None, *, is_inside: bool) -> None:
        self.who = f"{credential.user}{' (NTLM)' if is_inside else ''}"
        self.is_complete = False
        self._context = spnego.client(
            credential.user,
            credential.password,
            hostname=peer.service_host,
            service="HTTP",
            channel_bindings=None if bindings is None else GssChannelBindings(application_data=bindings),
            protocol="negotiate" if is_inside else "ntlm",
            options=NegotiateOptions.use_negotiate if is_inside else NegotiateOptions.use_ntlm,
        )

    def step(self, token: bytes | None) -> bytes:
        """See Mechanism."""
        try:
            answer = self._context.step(token)
        except SpnegoError as error:
            raise MechanismError(f"NTLM: {error}") from None
        except (ValueError, IndexError, LookupError, TypeError, OverflowError, struct.error) as error:
            raise MechanismError(f"NTLM: the other side's message cannot be read ({type(error).__name__})") from None
        self.is_complete = self._context.complete
        return answer or b""


class _Negotiate:
    """A user and password: Kerberos where a KDC knows the user and the service, else NTLM inside SPNEGO."""

    def __init__(self, owner: Mechanisms, credential: Credential, peer: Peer, bindings: bytes | None) -> None:
        self._owner = owner
        self._credential = credential
        self._peer = peer
        self._bindings = bindings
        self._chosen: Mechanism = self._kerberos()
        self._is_begun = False

    @property
    def who(self) -> str:
        """See Mechanism."""
        return self._chosen.who

    @property
    def is_complete(self) -> bool:
        """See Mechanism."""
        return self._chosen.is_complete

    def step(self, token: bytes | None) -> bytes:
        """See Mechanism."""
        if self._is_begun:
            return self._chosen.step(token)
        self._is_begun = True
        try:
            return self._begun_with_kerberos()
        except MechanismError as error:
            if not error.is_unknown:
                raise
        self._chosen = _Ntlm(self._credential, self._peer, self._bindings, is_inside=True)
        return self._chosen.step(None)

    def _begun_with_kerberos(self) -> bytes:
        try:
            return self._chosen.step(None)
        except MechanismError as error:
            if not error.is_expired:
                raise
        self._owner.forget(self._credential)
        self._chosen = self._kerberos()
        return self._chosen.step(None)

    def _kerberos(self) -> Mechanism:
        return _Kerberos(lambda: self._owner.tickets(self._credential), self._peer, self._bindings)
