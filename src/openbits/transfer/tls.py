"""What is found out about the certificate of a server, and what a job makes of it (jobs.md §9.6).

Values in, values out. A fault has a class, and each class has the flag that ignores it; what has no flag is never
ignored. `tls_verify` finds the faults, `tls_gate` asks here.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from openbits.core import codes
from openbits.core.enums import SecurityFlags
from openbits.transfer.headers import printable
from openbits.transfer.tls_names import BROKEN, names_of

NO_CA: Final = (
    "no trusted certificates are known, so no server can be verified; "
    "install the package ca-certificates or set [tls] ca_file in the configuration of the service"
)

VERDICTS: Final[Mapping[int, int]] = {
    # X509_V_ERR_* of the certificate that was refused
    1: codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID,  # no verdict: the chain is good, libcurl found another name in it
    2: codes.ERROR_WINHTTP_SECURE_INVALID_CA,  # issuer of the issuer unknown
    3: codes.ERROR_WINHTTP_SECURE_CERT_REV_FAILED,
    9: codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID,  # not yet valid
    10: codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID,  # expired
    18: codes.ERROR_WINHTTP_SECURE_INVALID_CA,  # self-signed
    19: codes.ERROR_WINHTTP_SECURE_INVALID_CA,  # self-signed in the chain
    20: codes.ERROR_WINHTTP_SECURE_INVALID_CA,  # issuer unknown
    21: codes.ERROR_WINHTTP_SECURE_INVALID_CA,  # chain incomplete
    23: codes.ERROR_WINHTTP_SECURE_CERT_REVOKED,
    26: codes.ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE,
    62: codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID,
    64: codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID,  # the same for an address
}

OTHER_VERDICT: Final = codes.ERROR_WINHTTP_SECURE_INVALID_CERT

IGNORED_BY: Final[Mapping[int, SecurityFlags]] = {
    codes.ERROR_WINHTTP_SECURE_INVALID_CA: SecurityFlags.IGNORE_UNKNOWN_CA,
    codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID: SecurityFlags.IGNORE_CERT_DATE_INVALID,
    codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID: SecurityFlags.IGNORE_CERT_CN_INVALID,
    codes.ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE: SecurityFlags.IGNORE_CERT_WRONG_USAGE,
}
"""The class of a fault is its code."""

CHECKS: Final = (
    SecurityFlags.ENABLE_CRL_CHECK
    | SecurityFlags.IGNORE_CERT_CN_INVALID
    | SecurityFlags.IGNORE_CERT_DATE_INVALID
    | SecurityFlags.IGNORE_UNKNOWN_CA
    | SecurityFlags.IGNORE_CERT_WRONG_USAGE
)
"""With one of these the certificate of a server is looked at before anything else is said to it."""

_SHOWN: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something is wrong with a certificate: the code of the class, and words for people."""

    hresult: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a server showed, and what is wrong with it.

    `chain`: as it was built, the server's own first, the anchor last; `presented`: as the server sent it (DER).
    """

    presented: tuple[bytes, ...]
    chain: tuple[x509.Certificate, ...]
    faults: tuple[Fault, ...]
    version: str

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the server's own certificate."""
        return hashlib.sha256(self.presented[0]).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a connection has to show to be used: one of these keys, and what else libcurl has to check.

    `pins`: SHA-256 of public keys (DER), base64.
    """

    pins: frozenset[str]
    is_chain_checked: bool = True
    is_name_checked: bool = True

    def joined(self, other: "Trust") -> "Trust":
        """Servers behind one name may have several keys."""
        return Trust(
            pins=self.pins | other.pins,
            is_chain_checked=self.is_chain_checked and other.is_chain_checked,
            is_name_checked=self.is_name_checked and other.is_name_checked,
        )


def judge(findings: Findings, flags: SecurityFlags) -> Trust | Fault:
    """The first fault that no flag ignores; else what may be trusted."""
    for fault in findings.faults:
        ignored_by = IGNORED_BY.get(fault.hresult)
        if ignored_by is None or ignored_by not in flags:
            return fault
    classes = {fault.hresult for fault in findings.faults}
    names = {codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID}
    return Trust(
        pins=frozenset([pin(findings.chain[0])]),
        is_chain_checked=not classes - names,
        is_name_checked=not classes & names,
    )


def pin(certificate: x509.Certificate) -> str:
    """SHA-256 of the public key, base64."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key = certificate.public_key().public_bytes(serialization.Encoding.DER, form)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def described(certificate: x509.Certificate) -> str:
    """Subject, issuer, dates and names, for people."""
    try:
        return _described(certificate)
    except BROKEN:  # each part is read when it is asked for
        return "with a subject, issuer or date that cannot be read"


def _described(certificate: x509.Certificate) -> str:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    names, addresses = names_of(certificate)
    hosts = ", ".join([*names, *map(str, addresses)]) or "no host name"
    subject, issuer = (printable(name.rfc4514_string(), _SHOWN) for name in (certificate.subject, certificate.issuer))
    return (
        f"subject {subject or 'empty'}, issuer {issuer or 'empty'}, valid from {first:%Y-%m-%d %H:%M} to"
        f" {last:%Y-%m-%d %H:%M} UTC, for {printable(hosts, _SHOWN)}"
    )
