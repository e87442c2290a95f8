"""The list of exceptions in the variable `no_proxy`, which every program of the field reads in its own way.

Ours: items separated by commas or spaces, in either case of letters. `*` alone: everything. A name: that host and all
below it, with or without a dot (or `*.`) before it. An address: that address, written as one in the URL. A network
such as `10.0.0.0/8`: the addresses in it. Each may have `:port` behind it, then it is for that port alone; an IPv6
address has brackets then. Names are not looked up. What is none of this matches nothing and is listed as ignored:
the variable is written for all programs, and some of them know more.
"""

import functools
import ipaddress
import re
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME: Final = re.compile(r"(?:\*?\.)?(?P<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?")
_WITH_PORT: Final = re.compile(r"(?P<host>[^:]*|\[[^\]]*\](?:/[0-9]+)?):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item: a domain (the empty one has all hosts), or a network of addresses."""

    text: str
    domain: str | None = None
    network: Network | None = None
    port: int | None = None

    def matches(self, host: str, address: Address | None, port: int) -> bool:
        """Whether this server is meant."""
        if self.port not in {None, port}:
            return False
        if self.network is not None:
            return address is not None and address in self.network
        if self.domain == "":
            return True
        return address is None and (host == self.domain or host.endswith(f".{self.domain}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exceptions:
    """All items; `ignored`: those that cannot be read."""

    items: tuple[Item, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What can be read, in the same grammar."""
        return ",".join(item.text for item in self.items)

    @classmethod
    def parse(cls, text: str) -> "Exceptions":
        """Read the value of the variable."""
        items, ignored = list[Item](), list[str]()
        for part in re.split(r"[\s,]+", text.lower()):
            item = _item(part) if part else None
            if item is not None:
                items.append(item)
            elif part:
                ignored.append(part)
        return cls(items=tuple(items), ignored=tuple(ignored))

    def match(self, host: str, port: int) -> str:
        """The first item that means this server; empty if none does."""
        name, address = canonical(host), parse_address(host)
        return next((item.text for item in self.items if item.matches(name, address, port)), "")


def _item(text: str) -> Item | None:
    if text == "*":
        return Item(text=text, domain="")
    host, port = text, None
    with_port = _WITH_PORT.fullmatch(host)
    if with_port is not None:
        host, port = with_port["host"], int(with_port["port"])
    network = _network(host)
    if network is not None:
        return Item(text=text, network=network, port=port)
    name = _NAME.fullmatch(host)
    return None if name is None else Item(text=text, domain=name["name"], port=port)


def _network(text: str) -> Network | None:
    host, slash, length = text.partition("/")
    address = parse_address(host)
    if address is None:
        return None
    try:
        return ipaddress.ip_network(f"{address}{slash}{length}", strict=False)
    except ValueError:
        return None


def canonical(host: str) -> str:
    """One spelling for one host: lower case, no dot at the end, addresses as the library writes them."""
    address = parse_address(host)
    return host.lower().removesuffix(".") if address is None else str(address)


@functools.lru_cache(maxsize=256)  # the same hosts again and again: each file asks several times
def parse_address(text: str) -> Address | None:
    """The address that a host is, IPv6 in brackets or without; None for a name."""
    is_bracketed = text.startswith("[") and text.endswith("]")
    try:
        return ipaddress.IPv6Address(text[1:-1]) if is_bracketed else ipaddress.ip_address(text)
    except ValueError:
        return None
