"""A process that the spawner has started for an identity, behind its control channel: hello, idle time, end."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from openbits import channel
from openbits.channel import Message
from openbits.service.channels import AsyncChannel
from openbits.service.spawner_link import Cookie, RefusedError

IDLE_SECONDS = 60.0

HELLO_SECONDS = 30.0


class ChildLostError(Exception):
    """The child process ended before it answered."""


@dataclass(frozen=True, slots=True)
class Key:
    """What identifies a child: the program and where its identity comes from."""

    program: str
    uid: int
    by: Cookie | None


class Child:
    """One child process behind its control channel; usable after its hello."""

    MOST_DESCRIPTORS = channel.MAX_DESCRIPTORS
    """In one message of this child."""

    def __init__(self, key: Key, sock: socket.socket, on_end: Callable[["Child"], None]) -> None:
        self.key = key
        self.pid = 0
        self.is_ended = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_retired = False
        self._hello: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._on_end = on_end
        self._idle_timer: asyncio.TimerHandle | None = None
        self._channel = AsyncChannel(sock, self._received, self._closed, most_descriptors=self.MOST_DESCRIPTORS)

    async def ready(self) -> None:
        """Wait for the hello that follows the drop of privileges. Raises ChildLostError or RefusedError."""
        try:
            hello = await asyncio.wait_for(asyncio.shield(self._hello), HELLO_SECONDS)
        except TimeoutError:
            self.end()
            raise ChildLostError(f"{self.key.program} of uid {self.key.uid} did not start in time") from None
        if hello["hello"] is None:
            self.end()
            raise RefusedError(str(hello["refused"]), str(hello["text"]))
        self.pid = hello["pid"]

    @property
    def is_busy(self) -> bool:
        """True while something is under way that needs this child."""
        raise NotImplementedError

    def end(self) -> None:
        """End the child by closing its control channel."""
        self._channel.close()

    def retire(self) -> None:
        """Take no new work and end as soon as the present work is done."""
        self.is_retired = True
        self.settle()

    def settle(self) -> None:
        """Called when work ended: an idle child lives on for a while, a retired one does not."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self.is_busy or self.is_ended:
            return
        if self.is_retired:
            self.end()
        else:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self.end)

    def handle(self, message: Message, descriptors: list[int]) -> None:
        """A message after the hello."""
        raise NotImplementedError

    def lost(self) -> None:
        """The process is gone: whatever waits for it must hear."""
        raise NotImplementedError

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if self._hello.done():
            self.handle(message, descriptors)
            return
        channel.close_all(descriptors)
        if "hello" in message:
            self._hello.set_result(message)
        else:
            self.end()

    def _closed(self) -> None:
        self.is_ended = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if not self._hello.done():
            self._hello.set_exception(ChildLostError(f"{self.key.program} of uid {self.key.uid} ended at once"))
            self._hello.exception()  # nobody may be waiting any more
        self._on_end(self)
        self.lost()
        self.ended.set_result(None)
