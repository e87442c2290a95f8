"""Which proxy a request goes through: the settings of a job read and applied (jobs.md §9.7).

Proxy list: items `[protocol=][protocol://]server[:port]`, separated by spaces or semicolons. The protocol before `=`
says for which URLs; an item without one is the default for the rest. A protocol has no proxy: direct. Several proxies
of one protocol are tried in order. Bypass list: host names and addresses that are reached directly; `*` only leftmost;
`<local>` means every name without a dot.

Setters store the lists unread (§7.2), except that no user name or password gets in; this is where they are read.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from openbits.core.enums import ProxyUsage

PROTOCOLS: Final = ("http", "https")

DEFAULT_PORT: Final = 80

MAX_TOGETHER: Final = 48_000
"""Characters of both lists: they travel to the worker in one message of 64 KiB. Each may be stored up to 32,000."""

_SERVER: Final = r"(?P<host>[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])"
_PROXY: Final = re.compile(rf"(?:(?P<protocol>\w+)=)?(?:(?P<scheme>\w+)://)?{_SERVER}(?::(?P<port>[0-9]{{1,5}}))?/?")
_NAME: Final = re.compile(r"\*?[A-Za-z0-9._-]{0,255}")
_SHOWN: Final = 60


class BadProxiesError(ValueError):
    """A list cannot be read; says which item and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One HTTP proxy; `host` is a name, an IPv4 address, or an IPv6 address in brackets."""

    host: str
    port: int

    @property
    def label(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The choice for every URL. `note` is what people should know about how it was made."""

    rows: tuple[tuple[str, Proxy], ...] = ()
    """Protocol of URLs ("" for the rest) and proxy, in order."""
    bypass: tuple[str, ...] = ()
    note: str = ""

    def of(self, scheme: str, host: str) -> tuple[Proxy, ...]:
        """The proxies for a URL with this scheme and host, in the order to try them; none: connect directly."""
        name = _canonical(host)
        if any(_is_bypassed(item, name) for item in self.bypass):
            return ()
        own = tuple(proxy for protocol, proxy in self.rows if protocol == scheme)
        return own or tuple(proxy for protocol, proxy in self.rows if not protocol)


DIRECT: Final = Proxies()

_UNDETECTED: Final = Proxies(note="no proxy was looked for (AUTODETECT is not built yet), connected directly")


def of_settings(usage: ProxyUsage, proxy_list: str, bypass_list: str) -> Proxies:
    """The choice that the settings of a job mean. Raises BadProxiesError (BG_E_INVALID_PROXY_INFO) for OVERRIDE.

    PRECONFIG is direct: nothing of the user's or the system's configuration is read (OPEN-48).
    """
    if usage is ProxyUsage.OVERRIDE:
        return _parse(proxy_list, bypass_list)
    return _UNDETECTED if usage is ProxyUsage.AUTODETECT else DIRECT


def _parse(proxy_list: str, bypass_list: str) -> Proxies:
    together = len(proxy_list) + len(bypass_list)
    if together > MAX_TOGETHER:
        raise BadProxiesError(f"proxy list and bypass list have {together} characters, at most {MAX_TOGETHER} are used")
    rows = tuple(_row(item) for item in _items(proxy_list))
    if not rows:
        raise BadProxiesError("the proxy list names no proxy")
    return Proxies(rows=rows, bypass=tuple(_bypass(item) for item in _items(bypass_list)))


def _items(text: str) -> list[str]:
    return [item for item in re.split(r"[\s;]+", text) if item]


def _row(item: str) -> tuple[str, Proxy]:
    match = _PROXY.fullmatch(item)
    if match is None:
        raise _unreadable("proxy", item, "write [protocol=][protocol://]server[:port]")
    protocol, scheme = (match["protocol"] or "").lower(), (match["scheme"] or "http").lower()
    if protocol and protocol not in PROTOCOLS:
        raise _unreadable("proxy", item, f"the protocol before = is one of {', '.join(PROTOCOLS)}")
    if scheme != "http":
        raise _unreadable("proxy", item, f"proxies are spoken to in http, {scheme} is not built yet")
    port = int(match["port"] or DEFAULT_PORT)
    if not 0 < port <= 0xFFFF or (match["host"].startswith("[") and _address(match["host"]) is None):
        raise _unreadable("proxy", item, "this is no address or no port")
    return protocol, Proxy(host=match["host"], port=port)


def _bypass(item: str) -> str:
    if item.lower() == "<local>" or _address(item) is not None or _NAME.fullmatch(item):
        return _canonical(item)
    raise _unreadable("bypass", item, "write a host name, an address, <local>, or * and the end of names")


def _unreadable(kind: str, item: str, rule: str) -> BadProxiesError:
    return BadProxiesError(f"cannot read {item[:_SHOWN]!a} in the {kind} list: {rule}")


def _is_bypassed(item: str, host: str) -> bool:
    if item == "<local>":
        return "." not in host and _address(host) is None
    return host.endswith(item[1:]) if item.startswith("*") else host == item


def _canonical(host: str) -> str:
    """One spelling for one host: lower case, no dot at the end, addresses as the library writes them."""
    address = _address(host)
    return host.lower().removesuffix(".") if address is None else str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
