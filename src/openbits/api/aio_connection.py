"""One connection to the service for asyncio: many calls under way, answered in order, with descriptors.

The rules of `api.connection` hold here too; it opens and judges the connection, which is then taken over. A call that
is cancelled leaves its answer to be read and dropped, so the others do not notice; only a request of which a part
was sent already ends the connection.
"""

import array
import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from openbits.api import framing
from openbits.api.connection import Connection, ConnectionLostError
from openbits.api.framing import BrokenPeerError, Frames, Parameters
from openbits.channel import close_all

Reply = tuple[Parameters, list[int]]

MAX_UNREAD_REPLIES = 64
"""Who reads a stream slowly holds the service back, not our memory."""


class AsyncConnection:
    """A judged connection of the running loop."""

    def __init__(self, connection: Connection) -> None:
        self.path = connection.path
        self._socket = connection.detach()
        self._socket.setblocking(False)
        self._frames = Frames()
        self._exchanges: deque[Replies] = deque()
        self._sending = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._is_reading = False
        self._read()

    async def call(
        self, method: str, parameters: Parameters | None = None, descriptors: Sequence[int] = ()
    ) -> tuple[Parameters, list[int]]:
        """Call one method; its answer and the descriptors that came with it, which then belong to the caller.

        Raises BitsError with what the service said, ConnectionLostError if the conversation ends before.
        """
        replies = await self.begin(framing.request(method, parameters), descriptors)
        try:
            reply, received = await replies.next()
        finally:
            replies.abandon()
        return framing.answer(reply, received), received

    async def collect(
        self, method: str, parameters: Parameters, key: str, descriptors: Sequence[int] = ()
    ) -> list[Any]:
        """Call a method whose answer is the list `key`; the service may spread it over several replies (`more`)."""
        items: list[Any] = []
        replies = await self.begin(framing.request(method, parameters, has_more=True), descriptors)
        try:
            is_over = False
            while not is_over:
                reply, received = await replies.next()
                items += framing.answer(reply, received, wants_descriptors=False)[key]
                is_over = not framing.continues(reply)
        finally:
            replies.abandon()
        return items

    async def begin(self, request: bytes, descriptors: Sequence[int] = ()) -> "Replies":
        """Send a request; its replies are to be read, or abandoned. Raises ConnectionLostError."""
        replies = Replies(self._read)
        async with self._sending:
            if self.is_closed:
                raise ConnectionLostError(self.path, "the connection was closed")
            self._exchanges.append(replies)
            try:
                await self._send(request, descriptors)
            except OSError as error:
                raise self._end(error.strerror or str(error)) from error
        return replies

    def close(self) -> None:
        """Close the socket; calls under way fail, handles and subscriptions of this connection end with it."""
        self._end("the connection was closed")

    @property
    def is_closed(self) -> bool:
        """True if no call can be made any more."""
        return self._socket.fileno() < 0

    async def _send(self, data: bytes, descriptors: Sequence[int]) -> None:
        sent = 0
        try:
            if descriptors:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
                while not sent:
                    try:
                        sent = self._socket.sendmsg([data], rights)
                    except BlockingIOError:
                        await self._writable()
            await self._loop.sock_sendall(self._socket, memoryview(data)[sent:])
        except asyncio.CancelledError:
            self._end("a request was cut short")
            raise

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        if not self._is_reading and not self.is_closed:
            self._is_reading = True
            self._loop.add_reader(self._socket, self._readable)

    def _stop_reading(self) -> None:
        self._is_reading = False
        self._loop.remove_reader(self._socket)

    def _readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                framing.CHUNK_BYTES, framing.RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC
            )
            self._frames.feed(data, ancillary, flags)
            while (message := self._frames.next()) is not None:
                self._hand_over(message)
            if self._exchanges and self._exchanges[0].is_full:
                self._stop_reading()
        except (BlockingIOError, InterruptedError):
            return
        except BrokenPeerError as error:
            self._end(str(error))
        except OSError as error:
            self._end(error.strerror or str(error))

    def _hand_over(self, message: Reply) -> None:
        if not self._exchanges:
            close_all(message[1])
            raise BrokenPeerError("it sent an answer that nobody asked for")
        self._exchanges[0].put(message)
        if not framing.continues(message[0]):
            self._exchanges.popleft()

    def _end(self, why: str) -> ConnectionLostError:
        if not self.is_closed:
            self._stop_reading()
            self._socket.close()
            self._frames.close()
        for replies in self._exchanges:
            replies.put(ConnectionLostError(self.path, why))
        self._exchanges.clear()
        return ConnectionLostError(self.path, why)


class Replies:
    """The replies to one request, collected until nobody wants them any more."""

    def __init__(self, on_room: Callable[[], None]) -> None:
        self._replies: asyncio.Queue[Reply | ConnectionLostError] = asyncio.Queue()
        self._is_wanted = True
        self._on_room = on_room

    @property
    def is_full(self) -> bool:
        """True if so much waits to be read that no more should come."""
        return self._replies.qsize() >= MAX_UNREAD_REPLIES

    def put(self, reply: Reply | ConnectionLostError) -> None:
        """The next reply, or the end of the connection instead of it."""
        if self._is_wanted:
            self._replies.put_nowait(reply)
        else:
            _drop(reply)

    async def next(self) -> Reply:
        """The next reply. Raises ConnectionLostError."""
        reply = await self._replies.get()
        if self._replies.empty():
            self._on_room()
        if isinstance(reply, ConnectionLostError):
            raise reply
        return reply

    def abandon(self) -> None:
        """Nobody will ask again: close the descriptors of what came and of what will come."""
        self._is_wanted = False
        while not self._replies.empty():
            _drop(self._replies.get_nowait())
        self._on_room()


def _drop(reply: Reply | ConnectionLostError) -> None:
    if not isinstance(reply, ConnectionLostError):
        close_all(reply[1])
