"""Which server the packets of an upload go to, and where its reply is (upload-protocol.md §8.3, §12).

Values in, values out. What a server names as its host or as the place of the reply is somebody else's text: it must
not lead where the job would not have gone by itself.
"""

import re
import socket
from ipaddress import ip_address
from typing import Final
from urllib.parse import urljoin

from openbits.core import names, packets
from openbits.transfer import urls
from openbits.transfer.upload_answers import BadAnswerError
from openbits.transfer.urls import BadUrlError, Target

_ILLEGAL: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[^!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]")
"""In the text of a URL: what has to be percent-encoded, a percent sign included that begins no escape."""

_LEAST_LABELS: Final = 2
"""Of a domain that belongs to somebody; a country may have a level of its own before (`co.uk`)."""

_COUNTRY_LETTERS: Final = 2
_CATEGORY_LETTERS: Final = 3


def at_host(origin: Target, host_id: str) -> Target:
    """The remote name at the host that the server has named; scheme, path and query stay. Raises BadAnswerError."""
    if not packets.is_host_id(host_id):
        raise BadAnswerError(f"{packets.Header.HOST_ID} is no host name")
    host, port = _split(host_id)
    port = port or (f":{origin.port}" if origin.port != urls.DEFAULT_PORTS[origin.scheme] else "")
    try:
        target = urls.parse(f"{origin.scheme}://{host}{port}{origin.resource}")
    except BadUrlError as error:
        raise BadAnswerError(f"{packets.Header.HOST_ID} is no host name: {error}") from None
    _check_reach(origin, target, packets.Header.HOST_ID)
    return target


def reply_url(origin: Target, sent_to: Target, text: str) -> str:
    """The absolute URL of the reply, as the answer of `sent_to` names it (§8.3). Raises BadAnswerError."""
    name = packets.Header.REPLY_URL
    if len(text) > packets.MAX_REPLY_URL:
        raise BadAnswerError(f"{name} is longer than {packets.MAX_REPLY_URL} characters")
    mended = _ILLEGAL.sub(lambda found: f"%{ord(found[0]):02X}", text.strip(" ").replace("\\", "/"))
    try:
        target = urls.parse(urljoin(sent_to.url, mended))
    except ValueError as error:  # BadUrlError is one
        raise BadAnswerError(f"{name} cannot be used: {error}") from None
    if sent_to.scheme == "https" and target.scheme == "http":
        raise BadAnswerError(f"{name} leads from https to http ({target.label})")
    _check_reach(origin, target, name)
    if names.reported_url(target.url) != target.url:
        raise BadAnswerError(f"{name} is no URL that a file may have ({target.label[:100]})")
    return target.url


def may_know_us(origin: Target, other: Target) -> bool:
    """True if what proves who we are to the origin may be shown to the host that it has named (D27)."""
    if origin.scheme == "https":
        return True
    mine, theirs = origin.host.lower(), other.host.lower()
    return mine == theirs or (not _is_address(theirs) and theirs.endswith(f".{_domain(mine)}"))


def _split(host_id: str) -> tuple[str, str]:
    """Host, and the port with its colon, if there is one (D5)."""
    host, colon, port = host_id.rpartition(":")
    return (host, f":{port}") if colon and not host_id.endswith("]") else (host_id, "")


def _domain(host: str) -> str:
    """The domain of the host's owner, as far as its name tells: rather too small than too large."""
    labels = host.split(".")
    has_category = len(labels) > 1 and len(labels[-1]) == _COUNTRY_LETTERS and len(labels[-2]) <= _CATEGORY_LETTERS
    least = _LEAST_LABELS + has_category
    if _is_address(host) or len(labels) <= least:
        return host
    return ".".join(labels[1:])


def _check_reach(origin: Target, target: Target, what: str) -> None:
    """No server elsewhere may lead us to this machine or its link. Raises BadAnswerError."""
    if _is_here(target.host) and not _is_inside(origin.host):
        raise BadAnswerError(f"{what} leads to {target.host}, which is this machine or its link")


def _is_inside(host: str) -> bool:
    """True if the job itself has gone to this machine, its link or a private network."""
    address = _numeric(host)
    return _is_here(host) or (address is not None and ip_address(address).is_private)


def _is_here(host: str) -> bool:
    """True of names and addresses of this machine and its link."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    text = _numeric(host)
    if text is None:
        return False
    address = ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified)


def _is_address(host: str) -> bool:
    return _numeric(host) is not None


def _numeric(host: str) -> str | None:
    """An address in its usual form, however it is written (`127.1`, `0x7f000001`); None: it is a name."""
    try:
        if host.startswith("["):
            return str(ip_address(host[1:-1].partition("%")[0]))
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        return None
