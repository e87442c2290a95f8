"""The checks of a packet in their order: steps 1 to 9 of upload-protocol.md §5.1. The others need the session.

Step 6 has no case: nothing that lies in a directory is ever run by this server.
"""

from dataclasses import dataclass

from openbits.core import codes, packets
from openbits.core.packets import REQUIRED, ContentRange, Header, PacketError, PacketType
from openbits.server import paths
from openbits.server.access import Access
from openbits.server.log import Entry
from openbits.server.model import Destination, Directory, Packet, RefusedError
from openbits.server.request import MALFORMED, Request
from openbits.server.settings import Settings

OVERRIDDEN_METHOD = "POST"
"""H12: with X-HTTP-Method-Override, where a directory allows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A packet that nothing but its session can be wrong with."""

    kind: PacketType
    packet: Packet
    length: int
    content_range: ContentRange | None = None
    is_overridden: bool = False


def is_packet(request: Request, directory: Directory | None) -> bool:
    """It is for the upload protocol, by its method or by the override of H12."""
    return request.method == packets.METHOD or (directory is not None and _is_overridden(request, directory))


def _is_overridden(request: Request, directory: Directory) -> bool:
    has_header = request.get(Header.METHOD_OVERRIDE).strip() == packets.METHOD
    return directory.method_override and request.method == OVERRIDDEN_METHOD and has_header


async def checked(request: Request, settings: Settings, access: Access, entry: Entry) -> Checked:
    """The packet of a request; `entry` learns what is known even of a refused one. Raises RefusedError."""
    _check_framing(request)  # step 1
    directory = _directory(request, settings)  # 2
    _check_enabled(directory)  # 3
    user = await access.user(request)  # 4
    entry.user = user.name
    access.check(request, user, directory, allows_anonymous=directory.allow_anonymous)  # 4, 5
    path = paths.relative(request.target.path)  # 5
    length = request.length()  # 7
    kind = _kind(request)  # 8
    entry.kind = kind
    _check_fields(kind, request, length)  # 9
    entry.session_id = session_id = _session_id(kind, request)
    return Checked(
        kind=kind,
        packet=Packet(
            directory=directory,
            destination=Destination(url=request.url(settings.public_url), path=path),
            user=user,
            session_id=session_id,
            content_name=_content_name(request),
        ),
        length=length,
        content_range=_content_range(request) if kind is PacketType.FRAGMENT else None,
        is_overridden=_is_overridden(request, directory),
    )


def _malformed(words: str) -> RefusedError:
    return RefusedError(400, codes.E_INVALIDARG, words)


def _check_framing(request: Request) -> None:
    if request.version != "1.1":
        raise _malformed("the version is not HTTP/1.1")
    if request.is_malformed:
        raise _malformed(MALFORMED)
    if not request.authority:
        raise _malformed("no Host, or one that is no name or address of a host")


def _directory(request: Request, settings: Settings) -> Directory:
    directory = settings.directory_of(request.target.path)
    if directory is None:
        raise RefusedError(404, None, "no virtual directory")
    return directory


def _check_enabled(directory: Directory) -> None:
    if not directory.upload_enabled:
        raise RefusedError(501, codes.E_ACCESSDENIED, "BITSUploadEnabled is off")


def _kind(request: Request) -> PacketType:
    kind = packets.packet_type(request.get(Header.PACKET_TYPE))
    if kind is None or kind is PacketType.ACK:
        raise _malformed("unknown packet type")
    return kind


def _check_fields(kind: PacketType, request: Request, length: int) -> None:
    missing = [name for name in REQUIRED[kind] if not request.get(name)]
    if missing:
        raise _malformed(f"no {missing[0]}")
    if length and kind is not PacketType.FRAGMENT:
        raise _malformed(f"{kind} has a body")  # H4
    if request.target.path.endswith("/") and kind is not PacketType.PING:
        raise _malformed("a directory is no destination")  # §5.4
    if kind is PacketType.CREATE_SESSION:
        _check_protocols(request)
    if kind is PacketType.FRAGMENT and request.get("content-encoding").strip().lower() not in {"", "identity"}:
        raise _malformed("the content is encoded")  # F1


def _check_protocols(request: Request) -> None:
    try:
        offered = packets.protocols(request.get(Header.SUPPORTED_PROTOCOLS))
    except PacketError as error:
        raise _malformed(str(error)) from None
    if packets.PROTOCOL not in offered:
        raise _malformed("no common protocol")


def _session_id(kind: PacketType, request: Request) -> str:
    """Empty of those packets that have none (D3)."""
    if Header.SESSION_ID not in REQUIRED[kind]:
        return ""
    session_id = request.get(Header.SESSION_ID).strip()
    if not packets.is_session_id(session_id):
        raise _malformed("the session id is no visible ASCII of at most 100 characters")
    return session_id


def _content_range(request: Request) -> ContentRange:
    try:
        return packets.content_range(request.get(Header.CONTENT_RANGE))
    except PacketError as error:
        raise _malformed(str(error)) from None


def _content_name(request: Request) -> str:
    """Only told, never used (§3.2): what is no name is none."""
    name = request.get(Header.CONTENT_NAME)
    return name if packets.is_content_name(name) else ""
