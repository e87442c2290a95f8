"""Whether certificates are revoked, by lists that are here (RFC 5280 §6.3). Values in, values out.

A list counts if it is of the issuer of the certificate, signed by its key, of this time, and covers the certificate: it
is complete, and if it says for which certificates it is, this is one of them. What is in a list that cannot be
understood makes it useless, never good.
"""

import datetime as dt
import enum
import re
from collections.abc import Iterable, Iterator
from typing import Final

from cryptography import x509

from openbits.transfer.tls_names import BROKEN

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_MARK = b"-----BEGIN"


MAX_PLACES: Final = 4
"""Of lists, that one certificate may send us to: who made it is perhaps nobody's friend."""

MAX_PLACE: Final = 2048
"""Characters of one."""


class Standing(enum.Enum):
    """What the lists say of a certificate."""

    GOOD = enum.auto()
    REVOKED = enum.auto()
    UNKNOWN = enum.auto()
    """No list that counts."""


def read(content: bytes) -> Iterator[x509.CertificateRevocationList]:
    """The lists in PEM text, or the one in DER; what is none is left out."""
    is_text = _MARK in content
    load = x509.load_pem_x509_crl if is_text else x509.load_der_x509_crl
    for block in _PEM.findall(content) if is_text else [content]:
        try:
            yield load(block)
        except BROKEN:
            continue


def is_fresh(crl: x509.CertificateRevocationList, now: dt.datetime) -> bool:
    """True between its two dates; without the second nobody knows how long it holds."""
    return crl.next_update_utc is not None and crl.last_update_utc <= now < crl.next_update_utc


def standing(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    lists: Iterable[x509.CertificateRevocationList],
    now: dt.datetime,
) -> Standing:
    """By lists of this issuer, any other is passed over."""
    found = Standing.UNKNOWN
    for crl in lists:
        try:
            if not (is_fresh(crl, now) and _is_of(crl, issuer) and _covers(crl, certificate)):
                continue
            if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                return Standing.REVOKED
        except (TypeError, *BROKEN):
            continue
        found = Standing.GOOD
    return found


def urls_of(certificate: x509.Certificate) -> list[str]:
    """Where its issuer says that a complete list is, over http: the first places."""
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except (x509.ExtensionNotFound, *BROKEN):
        return []
    complete = [point for point in points if point.reasons is None and point.crl_issuer is None]
    named = [url for point in complete for url in _urls(point.full_name or ()) if url.lower().startswith("http://")]
    return [url for url in named if len(url) <= MAX_PLACE][:MAX_PLACES]


def _is_of(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    if crl.issuer != issuer.subject:
        return False
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    if usage is not None and not usage.crl_sign:
        return False
    return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # of another kind: TypeError


def _covers(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    for extension in crl.extensions:
        point = extension.value
        if not isinstance(point, x509.IssuingDistributionPoint):
            if extension.critical:  # a delta list, or something from the future
                return False
            continue
        if point.indirect_crl or point.only_contains_attribute_certs or point.only_some_reasons or point.relative_name:
            return False
        if point.only_contains_user_certs and _is_authority(certificate):
            return False
        if point.only_contains_ca_certs and not _is_authority(certificate):
            return False
        if point.full_name is not None and not set(_urls(point.full_name)) & set(urls_of(certificate)):
            return False  # another part of the same issuer's list
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _urls(names: Iterable[x509.GeneralName]) -> list[str]:
    return [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
