"""One request and its response on a connection of `protocol`: what the application receives and sends (ASGI).

The body does not pass through h11: its length is known from the head (a chunked one is not read at all), so that the
pieces go to the application as they came from the socket, without a copy.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import h11

QUEUED_BYTES: Final = 128 * 1024
"""With more than this waiting for the application nothing is read from the socket; one more read may come before."""

DRAINED_BYTES: Final = 64 * 1024
"""H9: so much of a body that nobody wanted is read so that the connection can go on."""

_PHRASES: Final = {one.value: one.phrase.encode() for one in HTTPStatus}


class Flow:
    """Both directions of a transport, each stopped and started once."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.is_reading = True
        self._written_bytes = 0
        self._writable = asyncio.Event()
        self._writable.set()

    def read(self, *, is_wanted: bool) -> None:
        """Go on or stop reading."""
        if is_wanted == self.is_reading or self.transport.is_closing():
            return
        self.is_reading = is_wanted
        if is_wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Hand over to the transport."""
        self._written_bytes += len(data)
        self.transport.write(data)

    @property
    def sent_bytes(self) -> int:
        """What has left the buffer of the transport."""
        return self._written_bytes - self.transport.get_write_buffer_size()

    @property
    def is_blocked(self) -> bool:
        """The client has to read before more can be written."""
        return not self._writable.is_set()

    def allow_writing(self, *, is_possible: bool) -> None:
        """The buffer of the transport has room again, or none."""
        if is_possible:
            self._writable.set()
        else:
            self._writable.clear()

    async def drained(self) -> None:
        """There is room to write."""
        await self._writable.wait()


class Exchange:
    """A request whose head has come; `body_bytes` of it are still to come."""

    def __init__(
        self,
        parser: h11.Connection,
        head: h11.Request,
        flow: Flow,
        *,
        default_fields: list[tuple[bytes, bytes]],
        ended: Callable[[], None],
    ) -> None:
        self.head = head
        self._parser = parser
        self._flow = flow
        self._default_fields = default_fields
        self._ended = ended
        names = dict(head.headers)
        self._is_chunked = b"transfer-encoding" in names
        self.body_bytes = 0 if self._is_chunked else int(names.get(b"content-length", b"0"))
        self.received_bytes = 0
        self._is_waiting_for_100 = parser.they_are_waiting_for_100_continue
        self._pieces: deque[bytes] = deque()
        self._queued_bytes = 0
        self._news = asyncio.Event()
        self._is_gone = False
        self._is_told_end = False
        self.is_complete = False

    @property
    def is_persistent(self) -> bool:
        """The connection can have another request, once the body of this one has come."""
        return self._parser.our_state is h11.DONE

    @property
    def is_receiving(self) -> bool:
        """It is up to the client that more of the body comes."""
        return bool(self.body_bytes) and self._flow.is_reading and not self._is_waiting_for_100

    @property
    def has_lost_the_next(self) -> bool:
        """Nobody knows, or wants to wait, where the next request begins (H9); of a chunked body nothing is read."""
        return self._is_chunked or self._is_waiting_for_100 or self.body_bytes > DRAINED_BYTES

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; returns what comes after it."""
        taken, rest = data, b""
        if len(data) > self.body_bytes:
            taken, rest = data[: self.body_bytes], data[self.body_bytes :]
        if taken:
            self.body_bytes -= len(taken)
            self.received_bytes += len(taken)
            if not self.is_complete:
                self._pieces.append(taken)
                self._queued_bytes += len(taken)
            if self._queued_bytes > QUEUED_BYTES:
                self._flow.read(is_wanted=False)
            self._news.set()
        return rest

    def lose(self) -> None:
        """The client is gone, or has to be; what came is still received."""
        self._is_gone = True
        self._news.set()
        self._flow.allow_writing(is_possible=True)

    async def receive(self) -> dict[str, Any]:
        """ASGI: the next piece of the body; the first call asks the client for it (H8)."""
        if self._is_waiting_for_100 and not self._is_gone:
            self._is_waiting_for_100 = False
            self._write(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
        while not self._pieces and not self._is_gone and not self.is_complete:
            if not self.body_bytes and not self._is_told_end:
                break
            self._news.clear()
            self._flow.read(is_wanted=True)
            await self._news.wait()
        if self._pieces:
            piece = self._pieces.popleft()
            self._queued_bytes -= len(piece)
        elif self._is_gone or self.is_complete:
            return {"type": "http.disconnect"}
        else:
            piece = b""
        self._is_told_end = not self.body_bytes and not self._pieces
        return {"type": "http.request", "body": piece, "more_body": not self._is_told_end}

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI: head and pieces of the response. Raises ConnectionError: nobody is there to read it."""
        await self._flow.drained()
        if self._is_gone or self._flow.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if message["type"] == "http.response.start":
            fields = [*self._default_fields, *message.get("headers", ())]
            if self.has_lost_the_next:
                fields.append((b"connection", b"close"))
            status = message["status"]
            self._write(h11.Response(status_code=status, headers=fields, reason=_PHRASES.get(status, b"")))
            return
        if message.get("body"):
            for piece in self._parser.send_with_data_passthrough(h11.Data(data=message["body"])) or ():
                self._flow.write(piece)
        if not message.get("more_body", False):
            self._write(h11.EndOfMessage())
            self.is_complete = True
            self._pieces.clear()
            self._queued_bytes = 0
            self._news.set()
            self._ended()

    def _write(self, event: h11.Event) -> None:
        data = self._parser.send(event)
        if data:
            self._flow.write(data)
