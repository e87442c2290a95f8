"""Which network an address belongs to: where the administrator allows no connection (reliability.md §5 row 40)."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """True if one of the networks has the address, in whatever form; what is no address is in none."""
    if not networks:
        return False
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)
