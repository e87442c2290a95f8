"""Where a server application is notified: from the setting BITSServerNotificationURL to an address (§9.2).

Pure. An address comes from the configuration alone: of what a client has sent only the path of its destination counts,
for a relative URL, and the query, which is appended and never taken apart (§13). A `unix:` URL is `unix:SOCKET`, with
`:` and a path after it if the application wants another one than `/`: `unix:/run/app.sock:/hooks/ingest`.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from openbits.core.packets import MAX_REPLY_URL

MAX_URL: Final = 2200
"""Characters of a notification URL with its query."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

LEGAL: Final = "!#$%&'()*+,/:;=?@[]~"
"""What a URL may have besides letters, digits and `-._`; all else is escaped, and escapes stay."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class UrlError(ValueError):
    """A URL that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a notification goes. `target`: path and query as they are sent.

    `host`: in ASCII, an IPv6 address without brackets; of the scheme `unix` the path of the socket.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The field Host."""
        if self.scheme == "unix":
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """All of it."""
        place = f"unix:{self.host}:" if self.scheme == "unix" else f"{self.scheme}://{self.authority}"
        return place + self.target


def address(configured: str, destination_url: str, public_url: str) -> Address:
    """Where the application of a destination is. Raises UrlError.

    `public_url`: what a relative URL is resolved against, with the path of the destination.
    """
    scheme = _scheme(configured)
    if scheme == "unix":
        found = _of_socket(configured)
    elif scheme:
        found = _of_url(configured)
    else:
        found = _of_url(_resolved(configured, destination_url, public_url))
    query = escaped(urlsplit(destination_url).query)
    if query:
        joined = "&" if "?" in found.target else "?"
        found = Address(scheme=found.scheme, host=found.host, port=found.port, target=found.target + joined + query)
    if len(found.url) > MAX_URL:
        raise UrlError(f"with the query of the destination it has {len(found.url)} characters, more than {MAX_URL}")
    return found


def escaped(text: str) -> str:
    """A URL, or a part of one, in visible ASCII: what is illegal is escaped, valid escapes are left alone (§8.3)."""
    return quote(_STRAY_PERCENT.sub("%25", text), safe=LEGAL)


def is_static_url(url: str) -> bool:
    """True of an absolute URL that a client can fetch a reply from."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return len(url) <= MAX_REPLY_URL and parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and escaped(url) == url


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def _of_socket(url: str) -> Address:
    socket, _, path = url[len("unix:") :].partition(":")
    if not socket.startswith("/"):
        raise UrlError("a unix: URL names a socket by its absolute path: unix:/run/app.sock:/path")
    if path and not path.startswith("/"):
        raise UrlError("the path after the socket must begin with a slash: unix:/run/app.sock:/path")
    return Address(scheme="unix", host=socket, port=0, target=escaped(path.partition("#")[0]) or "/")


def _of_url(url: str) -> Address:
    parts, port = _split(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise UrlError(f"the scheme is {parts.scheme!r}; http, https and unix are known")
    if not parts.hostname:
        raise UrlError("it has no host")
    if parts.username is not None:
        raise UrlError("it has user information; name a file with the Authorization value instead")
    query = f"?{escaped(parts.query)}" if parts.query else ""
    return Address(
        scheme=parts.scheme,
        host=_ascii_host(parts.hostname),
        port=DEFAULT_PORTS[parts.scheme] if port is None else port,
        target=(escaped(parts.path) or "/") + query,
    )


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UrlError("it is no URL") from None
    return parts, port


def _ascii_host(host: str) -> str:
    """IDN-encoded (§9.2)."""
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise UrlError("its host is no name that can be looked up") from None


def _resolved(configured: str, destination_url: str, public_url: str) -> str:
    """A relative URL, against the directory of the destination.

    Scheme and host of the destination are what the client has put into the field Host: they do not count.
    """
    if not configured:
        raise UrlError("it is empty, and BITSServerNotificationType is not 0")
    if configured.startswith("//"):
        raise UrlError("it begins with two slashes; write the scheme, too")
    if not public_url:
        raise UrlError("it is relative, which needs the setting public_url")
    public, asked = urlsplit(public_url), urlsplit(destination_url)
    base = f"{public.scheme}://{public.netloc}{asked.path}"
    return urljoin(base, configured)
