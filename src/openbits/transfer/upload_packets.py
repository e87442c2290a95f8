"""The packets of an upload that a client sends, and what one run of it is about (upload-protocol.md §4).

Values in, values out; when which packet is sent is known by `upload`.
"""

from dataclasses import dataclass
from typing import Final

from openbits.core import packets
from openbits.core.packets import ContentRange, Header, PacketType
from openbits.transfer.decisions import Decision
from openbits.transfer.transport import UploadStep
from openbits.transfer.urls import Target

Fields = tuple[tuple[str, str], ...]
"""Header fields of a packet."""

NOTHING: Final = ContentRange(0, -1, 0)
"""The part of a file that a packet without a body has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is wanted. `size_bytes`: of the local file; `name`: its name, for the server's books."""

    step: UploadStep
    origin: Target
    size_bytes: int
    name: str = ""
    is_reply_wanted: bool = False
    is_strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet(Decision):
    """Send this to `target` next. `part`: of the file, which is the body.

    `is_application_awaited`: the answer may take as long as an application behind the server needs (D29).
    """

    type: PacketType
    target: Target
    fields: Fields = ()
    part: ContentRange = NOTHING
    is_application_awaited: bool = False

    @property
    def step(self) -> str:
        """Packet and part, for people."""
        return f"{self.type.value} ({self.part})" if self.type is PacketType.FRAGMENT else self.type.value


def create(target: Target) -> Packet:
    """Open a session: there is only one protocol to offer."""
    offered = (Header.SUPPORTED_PROTOCOLS.value, packets.PROTOCOL)
    return Packet(type=PacketType.CREATE_SESSION, target=target, fields=(offered,))


def ping(target: Target) -> Packet:
    """Open a connection; it names no session (D3)."""
    return Packet(type=PacketType.PING, target=target)


def fragment(target: Target, session_id: str, terms: Terms, part: ContentRange, *, is_resumed: bool) -> Packet:
    """Send this part of the file; `is_resumed`: the first one since the server was asked last.

    A server that has everything calls its application again, whatever fragment comes (§6 F7).
    """
    is_last = part.last + 1 == part.total
    return Packet(
        type=PacketType.FRAGMENT,
        target=target,
        fields=(*_named(session_id, terms.name), (Header.CONTENT_RANGE.value, str(part))),
        part=part,
        is_application_awaited=terms.is_reply_wanted and (is_last or is_resumed),
    )


def close(target: Target, session_id: str, terms: Terms) -> Packet:
    """End the session of a file that the server has."""
    return Packet(type=PacketType.CLOSE_SESSION, target=target, fields=_named(session_id, terms.name))


def cancel(target: Target, session_id: str) -> Packet:
    """Have the server forget the session."""
    return Packet(type=PacketType.CANCEL_SESSION, target=target, fields=_named(session_id, ""))


def _named(session_id: str, name: str) -> Fields:
    """Which session it is, and the name of the file if a field can carry it (§3.2)."""
    has_name = packets.is_content_name(name) and name.isascii()
    named = ((Header.CONTENT_NAME.value, name),) if has_name else ()
    return ((Header.SESSION_ID.value, session_id), *named)
