"""Which proxy a request goes through: proxy settings read and applied (jobs.md §9.7).

Proxy list: items `[protocol=][kind://]server[:port]`, separated by spaces or semicolons. The protocol before `=`
says for which URLs; an item without one is the default for the rest. A protocol has no proxy: direct. Several proxies
of one protocol are tried in order. `kind` says how the proxy is spoken to: `http` (the default), `https`, and, which
BITS does not have, `socks5`; such a proxy is always the one that looks names up, as `socks5h` says for those who know
it from curl. Bypass list: host names and addresses that are reached directly; `*` only leftmost; `<local>` means every
name without a dot. What the field calls no_proxy is another grammar (`core.no_proxy`).

Setters store the lists unread (§7.2), except that no user name or password gets in; this is where they are read.
"""

import enum
import re
from dataclasses import dataclass
from typing import Final

from openbits.core.no_proxy import Exceptions, canonical, parse_address

PROTOCOLS: Final = ("http", "https")

MAX_TOGETHER: Final = 48_000
"""Characters of all lists: they travel to the worker in one message of 64 KiB. Each may be stored up to 32,000."""

_SERVER: Final = r"(?P<host>[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])"
_PROXY: Final = re.compile(rf"(?:(?P<protocol>\w+)=)?(?:(?P<kind>\w+)://)?{_SERVER}(?::(?P<port>[0-9]{{1,5}}))?/?")
_NAME: Final = re.compile(r"\*?[A-Za-z0-9._-]{0,255}")
_SHOWN: Final = 60


class BadProxiesError(ValueError):
    """Proxy settings cannot be read; says which item and why."""


class Usage(enum.StrEnum):
    """What proxy settings mean, once PRECONFIG is looked up; the words of settings files."""

    ENVIRONMENT = "environment"
    """Nothing is said here: the next source is asked. Never in effect."""
    NO_PROXY = "no-proxy"
    OVERRIDE = "override"
    AUTODETECT = "autodetect"
    """A script that is looked for in the network (WPAD) decides for each file."""
    SCRIPT = "script"
    """The script at a given URL decides for each file."""


class Kind(enum.StrEnum):
    """How a proxy is spoken to."""

    HTTP = "http"
    HTTPS = "https"
    SOCKS5 = "socks5"


DEFAULT_PORTS: Final = {Kind.HTTP: 80, Kind.HTTPS: 443, Kind.SOCKS5: 1080}

KINDS: Final = {"http": Kind.HTTP, "https": Kind.HTTPS, "socks5": Kind.SOCKS5, "socks5h": Kind.SOCKS5}
"""The words of lists and environment variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One proxy; `host` is a name, an IPv4 address, or an IPv6 address in brackets."""

    host: str
    port: int
    kind: Kind = Kind.HTTP

    @property
    def label(self) -> str:
        """`host:port`, with the kind before it if that is not HTTP."""
        return f"{self.host}:{self.port}" if self.kind is Kind.HTTP else f"{self.kind}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Proxy settings in effect, as texts: what a worker is told (docs/processes.md). `source`: who says so."""

    usage: Usage = Usage.NO_PROXY
    proxy_list: str = ""
    bypass: str = ""
    no_proxy: str = ""
    script_url: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The choice for every URL, by lists."""

    rows: tuple[tuple[str, Proxy], ...] = ()
    """Protocol of URLs ("" for the rest) and proxy, in order."""
    bypass: tuple[str, ...] = ()
    exceptions: Exceptions = Exceptions()

    def of(self, scheme: str, host: str, port: int) -> tuple[Proxy, ...]:
        """The proxies for a URL of this server, in the order to try them; none: connect directly."""
        if self.why_bypassed(host, port):
            return ()
        own = tuple(proxy for protocol, proxy in self.rows if protocol == scheme)
        return own or tuple(proxy for protocol, proxy in self.rows if not protocol)

    def why_bypassed(self, host: str, port: int) -> str:
        """The item of the lists because of which this server is reached directly; empty if there is none."""
        name = canonical(host)
        return next((item for item in self.bypass if _is_bypassed(item, name)), "") or self.exceptions.match(host, port)


def read(settings: Settings) -> Proxies:
    """The choice that the lists mean; settings that have none mean to connect directly.

    Raises BadProxiesError (BG_E_INVALID_PROXY_INFO).
    """
    if settings.usage is not Usage.OVERRIDE:
        return Proxies()
    together = len(settings.proxy_list) + len(settings.bypass) + len(settings.no_proxy)
    if together > MAX_TOGETHER:
        raise BadProxiesError(f"proxy list and bypass list have {together} characters, at most {MAX_TOGETHER} are used")
    rows = tuple(_row(item) for item in _items(settings.proxy_list))
    if not rows:
        raise BadProxiesError("the proxy list names no proxy")
    bypass = tuple(_bypass(item) for item in _items(settings.bypass))
    return Proxies(rows=rows, bypass=bypass, exceptions=Exceptions.parse(settings.no_proxy))


def proxy_of(kind: str, host: str, port: str) -> Proxy | None:
    """A proxy by its parts as texts, an empty port being that of the kind; None if they make none."""
    if kind not in KINDS or not re.fullmatch(_SERVER, host) or not re.fullmatch("[0-9]{0,5}", port):
        return None
    number = int(port or DEFAULT_PORTS[KINDS[kind]])
    if not 0 < number <= 0xFFFF or (host.startswith("[") and parse_address(host) is None):
        return None
    return Proxy(host=host, port=number, kind=KINDS[kind])


def _items(text: str) -> list[str]:
    return [item for item in re.split(r"[\s;]+", text) if item]


def _row(item: str) -> tuple[str, Proxy]:
    match = _PROXY.fullmatch(item)
    if match is None:
        raise _unreadable("proxy", item, "write [protocol=][kind://]server[:port]")
    protocol, kind = (match["protocol"] or "").lower(), (match["kind"] or "http").lower()
    if protocol and protocol not in PROTOCOLS:
        raise _unreadable("proxy", item, f"the protocol before = is one of {', '.join(PROTOCOLS)}")
    if kind not in KINDS:
        raise _unreadable("proxy", item, f"proxies are spoken to in one of {', '.join(KINDS)}")
    proxy = proxy_of(kind, match["host"], match["port"] or "")
    if proxy is None:
        raise _unreadable("proxy", item, "this is no address or no port")
    return protocol, proxy


def _bypass(item: str) -> str:
    if item.lower() == "<local>" or parse_address(item) is not None or _NAME.fullmatch(item):
        return canonical(item)
    raise _unreadable("bypass", item, "write a host name, an address, <local>, or * and the end of names")


def _unreadable(kind: str, item: str, rule: str) -> BadProxiesError:
    return BadProxiesError(f"cannot read {item[:_SHOWN]!a} in the {kind} list: {rule}")


def _is_bypassed(item: str, host: str) -> bool:
    if item == "<local>":
        return "." not in host and parse_address(host) is None
    return host.endswith(item[1:]) if item.startswith("*") else host == item
