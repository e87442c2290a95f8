"""File brokers and network workers of the identities that jobs need: started on demand, ended when idle.

A child is keyed by (program, uid, by): `by` is the connection or token that vouches for the identity, None the
admitted entry of a job's owner. Brokers of admitted entries are confined to the directories known when they started;
after a new directory was admitted the old broker is retired.
"""

import asyncio
import contextlib
import logging
import math
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, cast

from openbits import channel
from openbits.channel import Message
from openbits.core.model import Directory, Temporary
from openbits.failpoints import failpoint
from openbits.service.channels import AsyncChannel
from openbits.service.spawner_link import Cookie, RefusedError, SpawnerLink, answer_of

log = logging.getLogger("openbits.manager")

T = TypeVar("T")

IDLE_SECONDS = 60.0

BROKER_TRIES = 3

RETIRED_SECONDS = 10.0
"""How long the last request of a retired broker may take before the next broker starts beside it."""

HELLO_SECONDS = 30.0

ANSWER_SECONDS = 5.0
"""Silence after which nobody waits any more for a broker of somebody else, who may have stopped it."""

PUBLISH_SECONDS = 120.0
"""The same for a publication, whose syncs may be slow."""


SOURCE_SECONDS = 60.0
"""The same for opening a file to be read, which may have to be mounted first."""


class ChildLostError(Exception):
    """The child process ended before it answered."""


class BrokerError(Exception):
    """A file operation failed: errno, the step it failed at, the object, and a text for people."""

    def __init__(self, answer: Message) -> None:
        super().__init__(str(answer["text"]))
        self.errno = int(answer["errno"])
        self.step = str(answer["step"])
        self.subject = str(answer["subject"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a broker told of a file that is read; `acl` hexadecimal."""

    size_bytes: int
    modified_ns: int
    mode: int
    uid: int
    gid: int
    acl: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """What identifies a child: the program and where its identity comes from."""

    program: str
    uid: int
    by: Cookie | None


class Child:
    """One child process behind its control channel; usable after its hello."""

    def __init__(self, key: Key, sock: socket.socket, on_end: Callable[["Child"], None]) -> None:
        self.key = key
        self.pid = 0
        self.is_ended = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_retired = False
        self._hello: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._on_end = on_end
        self._idle_timer: asyncio.TimerHandle | None = None
        self._channel = AsyncChannel(sock, self._received, self._closed)

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


class Broker(Child):
    """A file broker: one request at a time, answered in order."""

    def __init__(self, key: Key, sock: socket.socket, on_end: Callable[[Child], None]) -> None:
        super().__init__(key, sock, on_end)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[tuple[Message, list[int]]]] = deque()
        self._next_id = 1
        self._heard_at = 0.0

    @property
    def is_busy(self) -> bool:
        """A request is unanswered."""
        return bool(self._waiting)

    @property
    def _silent_seconds(self) -> float:
        """How long it has been at its oldest request."""
        return self._loop.time() - self._heard_at if self._waiting else 0.0

    async def resolve(self, path: str, *, is_source: bool = False, within: float = math.inf) -> tuple[Directory, str]:
        """P1: fix the directory of a destination and check that this identity may create files there.

        Of a file that will be read: fix its directory.
        """
        answer, _ = await self._request({"op": "resolve", "path": path, "is_source": is_source}, within=within)
        return Directory(**answer["directory"]), str(answer["name"])

    async def source(self, directory: Directory, name: str) -> tuple[Attributes, int]:
        """Attributes and read-only descriptor of a regular file."""
        request = {"op": "source", "directory": _plain(directory), "name": name}
        answer, descriptors = await self._request(request, within=SOURCE_SECONDS)
        (descriptor,) = descriptors
        return Attributes(**answer["attributes"]), descriptor

    async def create(self, directory: Directory, name: str) -> tuple[Message, int]:
        """P3: make the temporary file `name`; its identity and a write-only descriptor."""
        answer, descriptors = await self._request({"op": "create", "directory": _plain(directory), "name": name})
        (descriptor,) = descriptors
        return dict(answer["temporary"]), descriptor

    async def reopen(self, directory: Directory, temporary: Temporary) -> tuple[int, int]:
        """P5: size and write-only descriptor of a temporary file that is still the same."""
        answer, descriptors = await self._request(
            {"op": "reopen", "directory": _plain(directory), "temporary": _plain_temporary(temporary)}
        )
        (descriptor,) = descriptors
        return int(answer["size_bytes"]), descriptor

    async def read(self, directory: Directory, temporary: Temporary) -> int:
        """P4: read-only descriptor of a temporary file that is still the same, whoever made it."""
        place = {"directory": _plain(directory), "temporary": _plain_temporary(temporary)}
        _, descriptors = await self._request({"op": "read", **place}, within=ANSWER_SECONDS)
        (descriptor,) = descriptors
        return descriptor

    async def snapshot(self, directory: Directory, source: Temporary | str, most: int) -> tuple[int, int | None]:
        """Size of a temporary file, or of the file with this final name, and a sealed copy of its bytes.

        None instead of the copy if it has more than `most` bytes.
        """
        what = {"name": source} if isinstance(source, str) else {"temporary": _plain_temporary(source)}
        request = {"op": "snapshot", "directory": _plain(directory), "most": most, **what}
        answer, descriptors = await self._request(request, within=ANSWER_SECONDS)
        return int(answer["size_bytes"]), descriptors[0] if descriptors else None

    async def copy(self, directory: Directory, temporary: Temporary, source: int, offset: int, length: int) -> None:
        """Copy bytes of the file `source` to the same place of this identity's temporary file, durably."""
        place = {"directory": _plain(directory), "temporary": _plain_temporary(temporary)}
        await self._request({"op": "copy", **place, "offset": offset, "length": length}, [os.dup(source)])

    async def dress(self, directory: Directory, temporary: Temporary, like: Attributes, parts: Sequence[str]) -> None:
        """Give a temporary file these parts of what its source has: `owner`, `group`, `acl` (jobs.md §8.6)."""
        place = {"directory": _plain(directory), "temporary": _plain_temporary(temporary)}
        await self._request({"op": "dress", **place, "like": asdict(like), "parts": list(parts)})

    async def publish(
        self, directory: Directory, temporary: Temporary, name: str, umask: int | None, modified_ns: int | None
    ) -> None:
        """P6: rename to the final name, durably; without an umask the file keeps mode and access list."""
        await self._request(
            {
                "op": "publish",
                "directory": _plain(directory),
                "temporary": _plain_temporary(temporary),
                "name": name,
                "umask": umask,
                "modified_ns": modified_ns,
            },
            within=PUBLISH_SECONDS,
        )

    async def remove(self, directory: Directory, temporary: Temporary) -> None:
        """P7: unlink the temporary file if it is still the one we made."""
        place = {"directory": _plain(directory), "temporary": _plain_temporary(temporary)}
        await self._request({"op": "remove", **place}, within=ANSWER_SECONDS)

    async def certificates(self, folder: str) -> int:
        """Descriptor of a memory file with the certificates in the PEM files of the folder."""
        _, descriptors = await self._request({"op": "certificates", "path": folder}, within=ANSWER_SECONDS)
        (descriptor,) = descriptors
        return descriptor

    async def _request(
        self, message: Message, descriptors: Sequence[int] = (), *, within: float = math.inf
    ) -> tuple[Message, list[int]]:
        """Ask, and wait for the answer; the descriptors belong to the request.

        Raises ChildLostError if the broker ends or is silent for `within` seconds: what it was asked for it may still
        do later. One that is so silent already is not asked.
        """
        if self.is_ended or self._silent_seconds >= within:
            channel.close_all(descriptors)
            raise self._lost_error() if self.is_ended else self._silent_error()
        if not self._waiting:
            self._heard_at = self._loop.time()
        future: asyncio.Future[tuple[Message, list[int]]] = self._loop.create_future()
        self._waiting.append(future)
        self._channel.send({**message, "id": self._next_id}, descriptors)
        self._next_id += 1
        if within < math.inf:
            self._limit(future, within)
        answer, received = await answer_of(future)
        if not answer["ok"]:
            channel.close_all(received)
            raise BrokerError(answer)
        return answer, received

    def _limit(self, future: "asyncio.Future[tuple[Message, list[int]]]", within: float) -> None:
        """Give the request up when the broker has been silent so long; its place in the order of answers stays."""
        if future.done():
            return
        left = within - self._silent_seconds
        if left <= 0:
            future.set_exception(self._silent_error())
            return
        timer = self._loop.call_later(left, self._limit, future, within)
        future.add_done_callback(lambda _: timer.cancel())

    def _lost_error(self) -> ChildLostError:
        return ChildLostError(f"file broker of uid {self.key.uid} ended")

    def _silent_error(self) -> ChildLostError:
        seconds = self._silent_seconds
        return ChildLostError(f"file broker of uid {self.key.uid} has not answered for {seconds:.0f} s; is it stopped?")

    def handle(self, message: Message, descriptors: list[int]) -> None:
        """The answer to the oldest request; if nobody waits for it any more its descriptors are closed."""
        if not self._waiting:
            channel.close_all(descriptors)
            self.end()
            return
        future = self._waiting.popleft()
        self._heard_at = self._loop.time()
        if future.done():
            channel.close_all(descriptors)
        else:
            future.set_result((message, descriptors))
        self.settle()

    def lost(self) -> None:
        """Every unanswered request fails."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._lost_error())


NewsHandler = Callable[[Message | None], None]
"""Takes the events of one transfer; None means that the worker is gone."""


class Worker(Child):
    """A network worker: many transfers at once, told apart by their key."""

    def __init__(self, key: Key, sock: socket.socket, on_end: Callable[[Child], None]) -> None:
        super().__init__(key, sock, on_end)
        self._transfers: dict[str, NewsHandler] = {}

    @property
    def is_busy(self) -> bool:
        """A transfer is under way."""
        return bool(self._transfers)

    def configure(self, message: Message, descriptors: list[int]) -> None:
        """The first message: limits and the trusted certificates."""
        self._channel.send(message, descriptors)

    def transfer(self, transfer_key: str, message: Message, descriptors: list[int], on_news: NewsHandler) -> None:
        """Begin a transfer; the descriptors belong to the worker from now on. Raises ChildLostError."""
        if self.is_ended:
            channel.close_all(descriptors)
            raise ChildLostError(f"network worker of uid {self.key.uid} ended")
        self._transfers[transfer_key] = on_news
        self.settle()
        self._channel.send({"op": "transfer", "transfer": transfer_key, **message}, descriptors)

    def cancel(self, transfer_key: str) -> None:
        """Stop a transfer and hear no more of it."""
        if self._transfers.pop(transfer_key, None) is not None:
            self._channel.send({"op": "cancel", "transfer": transfer_key})
            self.settle()

    def handle(self, message: Message, descriptors: list[int]) -> None:
        """News of a transfer; late news of a cancelled one is dropped."""
        channel.close_all(descriptors)
        on_news = self._transfers.get(message["transfer"])
        if on_news is None:
            return
        if message["event"] in {"transferred", "restarted", "failed"}:
            del self._transfers[message["transfer"]]
            self.settle()
        on_news(message)

    def lost(self) -> None:
        """Every transfer ends."""
        transfers, self._transfers = self._transfers, {}
        for on_news in transfers.values():
            on_news(None)


class Children:
    """The pool of brokers and workers."""

    def __init__(self, link: SpawnerLink, configure_worker: Callable[[Worker], None]) -> None:
        self._link = link
        self._configure_worker = configure_worker
        self._ready: dict[Key, Child] = {}
        self._starting: dict[Key, asyncio.Task[Child]] = {}
        self._retired: dict[Key, Child] = {}

    async def broker(self, uid: int, by: Cookie | None) -> Broker:
        """The file broker of an identity. Raises RefusedError, ChildLostError."""
        return cast("Broker", await self._child(Key("broker", uid, by), Broker))

    async def with_broker(self, uid: int, by: Cookie | None, act: Callable[[Broker], Awaitable[T]]) -> T:
        """What `act` does with the broker of an identity; it is done again if the broker dies, so it must bear that.

        Raises RefusedError, BrokerError, and ChildLostError if one broker after the other dies.
        """
        for _ in range(BROKER_TRIES - 1):
            with contextlib.suppress(ChildLostError):
                return await act(await self.broker(uid, by))
        return await act(await self.broker(uid, by))

    async def worker(self, uid: int, by: Cookie | None) -> Worker:
        """The network worker of an identity. Raises RefusedError, ChildLostError."""
        return cast("Worker", await self._child(Key("worker", uid, by), Worker))

    def retire_confined(self, uid: int) -> None:
        """A directory was admitted for `uid`: its confined broker does not know it, the next one will."""
        child = self._ready.pop(Key("broker", uid, None), None)
        if child is not None:
            self._retired[child.key] = child
            failpoint("child.retired")
            child.retire()

    def retire_vouched(self, by: Cookie) -> None:
        """The connection or token is gone: children it vouched for end when their work is done."""
        for key in [key for key in self._ready if key.by == by]:
            self._ready.pop(key).retire()

    def process_ids(self) -> dict[str, int]:
        """Pids by program and uid, for people who look at the machine."""
        return {f"{child.key.program}:{child.key.uid}": child.pid for child in self._ready.values()}

    async def _child(self, key: Key, make: Callable[[Key, socket.socket, Callable[[Child], None]], Child]) -> Child:
        child = self._ready.get(key)
        if child is not None:
            return child
        task = self._starting.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._start(key, make))
            self._starting[key] = task
            task.add_done_callback(lambda _: self._starting.pop(key, None))
        return await asyncio.shield(task)

    async def _start(self, key: Key, make: Callable[[Key, socket.socket, Callable[[Child], None]], Child]) -> Child:
        if key in self._retired:  # what it was asked for last must be done before what the next one is asked for
            await asyncio.wait([self._retired.pop(key).ended], timeout=RETIRED_SECONDS)
        child = make(key, await self._link.start(key.program, key.uid, key.by), self._ended)
        await child.ready()
        if child.is_ended:  # between its hello and now
            raise ChildLostError(f"{key.program} of uid {key.uid} ended at once")
        if isinstance(child, Worker):
            self._configure_worker(child)
        self._ready[key] = child
        failpoint("child.ready")
        child.settle()
        log.info("child_started program=%s uid=%d pid=%d", key.program, key.uid, child.pid)
        return child

    def _ended(self, child: Child) -> None:
        if self._ready.get(child.key) is child:
            del self._ready[child.key]
        log.info("child_ended program=%s uid=%d pid=%d", child.key.program, child.key.uid, child.pid)


def _plain(directory: Directory) -> dict[str, Any]:
    return {"path": directory.path, "dev": directory.dev, "ino": directory.ino}


def _plain_temporary(temporary: Temporary) -> dict[str, Any]:
    return {
        "name": temporary.name,
        "dev": temporary.dev,
        "ino": temporary.ino,
        "birth_ns": temporary.birth_ns,
        "uid": temporary.uid,
    }
