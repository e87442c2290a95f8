"""What a URL means to a download: where to connect, what to show, where a redirect leads.

Parsed once, then rebuilt from its checked parts, so that libcurl and our own rules cannot read the same text
differently. User information never leaves the process: it is dropped here and credentials travel another way.
Nothing is escaped (jobs.md §8.1), except a space in a redirect, which servers send and browsers mend.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from openbits.core import codes

DEFAULT_PORTS = {"http": 80, "https": 443}

MAX_URL_CHARS = 8192
"""Longest redirect target; signed URLs stay well below, and libcurl and servers choke above."""

_LEGAL = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\]")


Origin = tuple[str, str, int]
"""Scheme, host in lower case, port."""


class BadUrlError(ValueError):
    """The text is no URL that can be used; says why, without repeating what may be secret."""

    def __init__(self, text: str, hresult: int = codes.ERROR_WINHTTP_INVALID_URL) -> None:
        super().__init__(text)
        self.hresult = hresult


class UnknownSchemeError(BadUrlError):
    """Nothing here moves files of that scheme."""

    def __init__(self, scheme: str, known: Iterable[str]) -> None:
        text = f"the URL scheme is {scheme[:20] or 'missing'!r}; known: {', '.join(sorted(known))}"
        super().__init__(text, codes.ERROR_WINHTTP_UNRECOGNIZED_SCHEME)


class RedirectRefusedError(ValueError):
    """The redirect may not be followed (jobs.md §9.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes. `url` is what is sent: no user information, no fragment."""

    url: str
    scheme: str
    host: str
    port: int
    resource: str
    """Path and query as they were given; libcurl would change the case of `%7e`, and signatures may cover it."""

    @property
    def peer(self) -> str:
        """`host:port`, for people."""
        return f"{self.host}:{self.port}"

    @property
    def origin(self) -> Origin:
        """Whose server it is: what is meant for one is not sent to another."""
        return self.scheme, self.host.lower(), self.port

    @property
    def label(self) -> str:
        """Host and path, without query, for people."""
        host = self.host if self.port == DEFAULT_PORTS[self.scheme] else self.peer
        return f"{host}{self.resource.partition('?')[0]}"


@functools.lru_cache(maxsize=128)  # a file's name is asked for several times
def parse(url: str) -> Target:
    """Take a URL apart. Raises BadUrlError."""
    if not _LEGAL.fullmatch(url):
        raise BadUrlError("the URL is empty or has a character that must be percent-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadUrlError(f"the URL cannot be read: {error}") from None
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise UnknownSchemeError(scheme, DEFAULT_PORTS)
    host = parts.netloc.rpartition("@")[2]
    host = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    if "\\" in parts.netloc or not _HOST.fullmatch(host):  # some readers end the authority at a backslash
        raise BadUrlError("the URL has no usable host name")
    if port == 0:
        raise BadUrlError("the URL names port 0")
    port_text = "" if port is None else f":{port}"
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(
        url=f"{scheme}://{host}{port_text}{resource}",
        scheme=scheme,
        host=host,
        port=port or DEFAULT_PORTS[scheme],
        resource=resource,
    )


def redirect(base: Target, location: str, *, may_downgrade: bool = False) -> Target:
    """The target of a Location field. Raises RedirectRefusedError: other scheme, downgrade, unusable text."""
    if len(location) > MAX_URL_CHARS:
        raise RedirectRefusedError(f"the redirect target is longer than {MAX_URL_CHARS} characters")
    wanted = location.strip(" ").replace(" ", "%20")
    if not _LEGAL.fullmatch(wanted):  # urljoin would silently drop line breaks
        raise RedirectRefusedError("the redirect target is empty or has a character that must be percent-encoded")
    try:
        target = parse(urljoin(base.url, wanted))
    except ValueError as error:  # BadUrlError is one
        raise RedirectRefusedError(f"the redirect leads nowhere: {error}") from None
    if base.scheme == "https" and target.scheme == "http" and not may_downgrade:
        why = f"the redirect leads from https to http ({target.label})"
        raise RedirectRefusedError(f"{why}, which the security flag redirect-allow-https-to-http would allow")
    return target
