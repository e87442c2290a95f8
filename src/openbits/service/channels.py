"""A message channel on the manager's event loop: never blocks, keeps what the peer has not read yet."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence

from openbits import channel
from openbits.channel import ChannelClosedError, Message

QUEUE_LIMIT = 4096
"""Unsent messages after which a peer that does not read counts as dead."""

MESSAGES_AT_ONCE = 64
"""Messages taken before others have their turn: a peer that never stops writing must not be all that is served."""


class AsyncChannel:
    """Sends without waiting and hands every received message to `on_message`; `on_closed` is called once, at the end.

    `on_message(message, descriptors)` owns the descriptors. Descriptors given to `send` belong to the channel.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Message, list[int]], None],
        on_closed: Callable[[], None],
        *,
        most_descriptors: int = channel.MAX_DESCRIPTORS,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_closed = on_closed
        self._most_descriptors = most_descriptors
        self._unsent: deque[tuple[bytes, Sequence[int]]] = deque()
        self.is_closed = False
        self._loop.add_reader(sock, self._read)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send now or as soon as the peer reads; after the end it is silently dropped, `on_closed` has told why.

        Raises ValueError, and the channel goes on, if the message is too long for it.
        """
        try:
            data = channel.encode(message)
        except ValueError:
            channel.close_all(descriptors)
            raise
        if self.is_closed:
            channel.close_all(descriptors)
            return
        self._unsent.append((data, descriptors))
        if len(self._unsent) == 1:
            self._write()
        elif len(self._unsent) > QUEUE_LIMIT:
            self.close()

    def close(self) -> None:
        """End the channel; the peer sees end of file."""
        if self.is_closed:
            return
        self.is_closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        while self._unsent:
            channel.close_all(self._unsent.popleft()[1])
        self._loop.call_soon(self._on_closed)

    def _write(self) -> None:
        while self._unsent:
            data, descriptors = self._unsent[0]
            try:
                channel.send_encoded(self._socket, data, descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._write)
                return
            except ChannelClosedError:
                self.close()
                return
            self._unsent.popleft()
            channel.close_all(descriptors)
        self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        for _ in range(MESSAGES_AT_ONCE):
            if self.is_closed:
                return
            try:
                message, descriptors = channel.receive(self._socket, most_descriptors=self._most_descriptors)
            except BlockingIOError:
                return
            except ChannelClosedError:
                self.close()
                return
            self._on_message(message, descriptors)
