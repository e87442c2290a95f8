"""How an answer looks on the wire: every Ack and every refusal (upload-protocol.md §3.1, §10.1)."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from openbits.core.packets import Header, Origin, PacketType
from openbits.server.access import CHALLENGE
from openbits.server.limits import BUSY_SECONDS
from openbits.server.model import Ack, RefusedError

Send = Callable[[dict[str, Any]], Awaitable[None]]

_EVERY: Final = (
    (Header.PACKET_TYPE, PacketType.ACK),
    ("Pragma", "no-cache"),
    ("Content-Length", "0"),
)
"""Of every Ack (H3, H7)."""


def accepted(ack: Ack) -> Ack:
    """An Ack with the fields that every one has."""
    return Ack(status=ack.status, fields=(*_EVERY, *ack.fields))


def refused(error: RefusedError) -> Ack:
    """The Ack of a refusal."""
    fields: list[tuple[str, str]] = []
    if error.session_id:
        fields.append((Header.SESSION_ID, error.session_id))
    if error.received is not None:
        fields.append((Header.RECEIVED, str(error.received)))
    if error.retry_after_seconds is not None:
        fields.append(("Retry-After", str(error.retry_after_seconds)))
    if error.status == 401 and error.origin is Origin.SERVER:  # not when an application says so (§9.3)
        fields.append(("WWW-Authenticate", CHALLENGE))
    if error.hresult is not None:
        fields += _code(error.hresult, error.origin)
    return Ack(status=error.status, fields=(*_EVERY, *fields))


def refusal(status: int, hresult: int) -> Ack:
    """The Ack of what could not even be read."""
    return refused(RefusedError(status, hresult, ""))


def _code(hresult: int, origin: Origin) -> list[tuple[str, str]]:
    """Both spellings (D6)."""
    code = f"0x{hresult:08X}" if hresult else "0x0"
    return [(Header.ERROR_CODE, code), (Header.ERROR, code), (Header.ERROR_CONTEXT, f"0x{origin.value:x}")]


def encoded(ack: Ack) -> list[tuple[bytes, bytes]]:
    """The fields as ASGI and h11 take them."""
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in ack.fields]


async def send(send_message: Send, ack: Ack) -> None:
    """Answer without a body."""
    await send_message({"type": "http.response.start", "status": ack.status, "headers": encoded(ack)})
    await send_message({"type": "http.response.body", "body": b""})


async def too_many(_scope: dict[str, Any], _receive: object, send_message: Send) -> None:
    """An application for connections above the limit."""
    await send(send_message, refused(RefusedError(503, None, "connections", retry_after_seconds=BUSY_SECONDS)))
