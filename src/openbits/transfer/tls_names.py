"""Whether a certificate is for a host: the rules of libcurl, which looks itself wherever a name has to fit (RFC 6125).

Names and addresses of subjectAltName count; the last common name only if there are none. A wildcard is the whole first
label of a name with at least three.
"""

import ipaddress
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

BROKEN: Final = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""How the library says that a certificate or a list makes no sense, when the part of it is asked for."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """True if it is for this host: a name, or an address, IPv6 in brackets."""
    names, addresses = names_of(certificate)
    address = _address_of(host)
    if address is not None and address in addresses:
        return True
    if names or addresses:
        return address is None and any(_fits(name, host) for name in names)
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    last = common[-1].value if common else ""
    return isinstance(last, str) and (last == host.strip("[]") if address is not None else _fits(last, host))


def names_of(certificate: x509.Certificate) -> tuple[list[str], list[Address]]:
    """The host names and addresses it is for, without the common name; what cannot be read is left out."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
        addresses = found.get_values_for_type(x509.IPAddress)
    except (x509.ExtensionNotFound, *BROKEN):
        return [], []
    return names, [one for one in addresses if isinstance(one, Address)]


def _address_of(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _fits(pattern: str, host: str) -> bool:
    pattern, host = pattern.lower().removesuffix("."), host.lower().removesuffix(".")
    if not pattern.startswith("*."):
        return pattern == host != ""
    rest = pattern[1:]
    return "." in rest[1:] and host.partition(".")[0] != "" and host[len(host.partition(".")[0]) :] == rest
