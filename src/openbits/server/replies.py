"""Where a client finds the reply to its upload (§5.2, §8.3)."""

from typing import Final
from urllib.parse import urlsplit

from openbits.core.packets import MAX_REPLY_URL
from openbits.server.application_url import escaped
from openbits.server.model import Directory, Session

SUFFIX: Final = "BITS-Sessions/Replies/{id}/responsefile.bin"
"""Below the directory, whether the reply lies there or in a spool."""


def reply_url(directory: Directory, session: Session) -> str:
    """The absolute URL of the session's own reply, in ASCII, with the host id of the session if it has one.

    The directory is spelled as the destination was, so that prefixes and escapes of a reverse proxy stay.
    """
    parts = urlsplit(session.url)
    deeper = session.path.strip("/").count("/") - directory.url_path.strip("/").count("/")
    if directory.url_path == "/":
        deeper += 1
    folder = parts.path.rsplit("/", deeper)[0]
    path = escaped(f"{folder}/{SUFFIX}".replace("{id}", session.session_id))
    url = f"{parts.scheme}://{_authority(parts.netloc, session.host_id)}{path}"
    # Only a field Host that names nothing real is so long; from its client's view the path alone says the same.
    return url if len(url) <= MAX_REPLY_URL else path


def _authority(origin: str, host_id: str) -> str:
    """The host id takes the place of the host; the port stays unless it brings its own (§12)."""
    if not host_id:
        return escaped(origin)
    if _port(host_id) or not _port(origin):
        return host_id
    return f"{host_id}:{_port(origin)}"


def _port(authority: str) -> str:
    """The port, empty without one; an IPv6 address has its colons in brackets."""
    return authority.rpartition("]")[2].partition(":")[2]
