"""Scripts that choose proxies (PAC): what such a script is told of a URL, and what its answer means.

The answer is a text `PROXY a:80; HTTPS b:443; SOCKS5 c; DIRECT`, to be tried in that order. `HTTP` is another word for
`PROXY`, `SOCKS` and `SOCKS5` are the same. An item that cannot be used is left out, as browsers do. Where nothing is
left the script is faulty: it may never lead past the proxies by mistake.
"""

import re
from typing import Final

from openbits.core import proxies
from openbits.core.proxies import Proxy

MAX_CHOICES: Final = 32
"""How many items of an answer are looked at."""

Choice = tuple[Proxy | None, ...]
"""Proxies in the order to try them; None stands for a direct connection."""

DIRECT: Final[Choice] = (None,)

_KINDS: Final = {"PROXY": "http", "HTTP": "http", "HTTPS": "https", "SOCKS": "socks5", "SOCKS5": "socks5"}

_ITEM: Final = re.compile(r"(?P<word>[A-Za-z0-9]+)[ \t]+(?P<host>\[[^\]\s]*\]|[^:\s]+)(?::(?P<port>[0-9]{1,5}))?")

_SHOWN: Final = 60


class BadScriptError(ValueError):
    """A script is no script, failed, or did not answer with proxies (0x80072F86)."""


def told_of(scheme: str, url: str, resource: str) -> str:
    """The URL as a script sees it, `resource` being its path and query: of https without, as no proxy sees them."""
    return f"{url.removesuffix(resource)}/" if scheme == "https" else url


def read_answer(answer: str) -> Choice:
    """What the script's answer means. Raises BadScriptError."""
    found = list[Proxy | None]()
    for item in [part.strip() for part in answer.split(";")][:MAX_CHOICES]:
        if item.upper() == "DIRECT":
            found.append(None)
            continue
        match = _ITEM.fullmatch(item)
        kind = _KINDS.get(match["word"].upper()) if match is not None else None
        proxy = proxies.proxy_of(kind, match["host"], match["port"] or "") if match is not None and kind else None
        if proxy is not None:
            found.append(proxy)
    if not found:
        raise BadScriptError(f"FindProxyForURL returned {answer[:_SHOWN]!a}, which names no proxy that can be used")
    return tuple(dict.fromkeys(found))
