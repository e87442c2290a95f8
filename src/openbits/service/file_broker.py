"""The manager's end of a file broker (docs/processes.md, "Manager ↔ file broker")."""

import asyncio
import math
import os
import posixpath
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from openbits import channel
from openbits.channel import Message
from openbits.core.model import Directory, Temporary
from openbits.identity.broker import FILES_AT_ONCE
from openbits.service.child import Child, ChildLostError, Key
from openbits.service.spawner_link import answer_of

NAMES_BYTES = 20_000
"""Most that the final names of one request take: a path of a directory, and all else of 64 files, has room beside."""

ANSWER_SECONDS = 5.0
"""Silence after which nobody waits any more for a broker of somebody else, who may have stopped it."""

PUBLISH_SECONDS = 120.0
"""The same for a publication, whose syncs may be slow."""

SOURCE_SECONDS = 60.0
"""The same for opening a file to be read, which may have to be mounted first."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What a temporary file becomes: its final name, 0666 less `umask`, its modification time.

    Without an umask it keeps mode and access list, without a time the local one.
    """

    temporary: Temporary
    name: str
    umask: int | None
    modified_ns: int | None


class Broker(Child):
    """A file broker: one request at a time, answered in order."""

    MOST_DESCRIPTORS = FILES_AT_ONCE

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
        directory, _ = await self.resolve_several([path], is_source=is_source, within=within)
        return directory, posixpath.basename(path)

    async def resolve_several(
        self, paths: Sequence[str], *, is_source: bool, within: float = math.inf
    ) -> tuple[Directory, int]:
        """P1 for files of one directory, at most FILES_AT_ONCE: the directory, and how many of them it is good for.

        If one is refused the answer ends before it; BrokerError if that is the first.
        """
        others = [posixpath.basename(path) for path in paths[1:]]
        request = {"op": "resolve", "path": paths[0], "others": others, "is_source": is_source}
        answer, _ = await self._request(request, within=within)
        return Directory(**answer["directory"]), 1 + int(answer["others"])

    async def source(self, directory: Directory, name: str) -> tuple[Attributes, int]:
        """Attributes and read-only descriptor of a regular file."""
        request = {"op": "source", "directory": _plain(directory), "name": name}
        answer, descriptors = await self._request(request, within=SOURCE_SECONDS)
        (descriptor,) = descriptors
        return Attributes(**answer["attributes"]), descriptor

    async def create(self, directory: Directory, names: Sequence[str]) -> list[tuple[Message, int]]:
        """P3: make temporary files of these names, at most FILES_AT_ONCE: what proves each, a write-only descriptor.

        If one cannot be made the answer ends before it; BrokerError if that is the first.
        """
        request = {"op": "create", "directory": _plain(directory), "names": list(names)}
        answer, descriptors = await self._request(request)
        return list(zip(answer["temporaries"], descriptors, strict=True))

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

    async def snapshot(self, directory: Directory, temporary: Temporary, most: int) -> tuple[int, int | None]:
        """P4: size of a temporary file, or of one that was published, and a sealed copy of its bytes.

        None instead of the copy if it has more than `most` bytes.
        """
        place = {"directory": _plain(directory), "temporary": _plain_temporary(temporary)}
        answer, descriptors = await self._request({"op": "snapshot", **place, "most": most}, within=ANSWER_SECONDS)
        return int(answer["size_bytes"]), descriptors[0] if descriptors else None

    async def copy(self, directory: Directory, temporary: Temporary, source: int, offset: int, length: int) -> None:
        """Copy bytes of the file `source` to the same place of this identity's temporary file, durably."""
        place = {"directory": _plain(directory), "temporary": _plain_temporary(temporary)}
        await self._request({"op": "copy", **place, "offset": offset, "length": length}, [os.dup(source)])

    async def dress(self, directory: Directory, temporary: Temporary, like: Attributes, parts: Sequence[str]) -> None:
        """Give a temporary file these parts of what its source has: `owner`, `group`, `acl` (jobs.md §8.6)."""
        place = {"directory": _plain(directory), "temporary": _plain_temporary(temporary)}
        await self._request({"op": "dress", **place, "like": asdict(like), "parts": list(parts)})

    async def place(self, directory: Directory, temporary: Temporary, name: str) -> None:
        """Give a temporary file its final name before it has its bytes."""
        place = {"directory": _plain(directory), "temporary": _plain_temporary(temporary)}
        await self._request({"op": "place", **place, "name": name})

    async def publish(self, directory: Directory, files: Sequence[Publication]) -> int:
        """P6: rename files of one directory to their final names, durably; at most FILES_AT_ONCE.

        How many, in their order: if one cannot be published those behind it are not; BrokerError if that is the first.
        """
        plain = [
            {
                "temporary": _plain_temporary(one.temporary),
                "name": one.name,
                "umask": one.umask,
                "modified_ns": one.modified_ns,
            }
            for one in files
        ]
        request = {"op": "publish", "directory": _plain(directory), "files": plain}
        answer, _ = await self._request(request, within=PUBLISH_SECONDS)
        return int(answer["published"])

    async def remove(self, directory: Directory, temporary: Temporary) -> None:
        """P7: unlink the temporary file if it is still the one we made."""
        place = {"directory": _plain(directory), "temporary": _plain_temporary(temporary)}
        await self._request({"op": "remove", **place}, within=ANSWER_SECONDS)

    async def certificates(self, folder: str) -> int:
        """Descriptor of a memory file with the certificates in the PEM files of the folder."""
        _, descriptors = await self._request({"op": "certificates", "path": folder}, within=ANSWER_SECONDS)
        (descriptor,) = descriptors
        return descriptor

    async def key_pair(self, folder: str, sha1: str) -> int:
        """Descriptor of a memory file with a certificate of the folder, its chain and its private key, as PEM."""
        _, descriptors = await self._request({"op": "key-pair", "path": folder, "sha1": sha1}, within=ANSWER_SECONDS)
        (descriptor,) = descriptors
        return descriptor

    async def settings(self, path: str, *, is_secret: bool = False) -> int:
        """Descriptor of a sealed copy of a small file of this identity; a secret one must be its own alone."""
        request = {"op": "settings", "path": path, "is_secret": is_secret}
        _, descriptors = await self._request(request, within=ANSWER_SECONDS)
        (descriptor,) = descriptors
        return descriptor

    async def settings_folder(self, path: str, suffix: str) -> int:
        """Descriptor of a memory file: a JSON list of path and text of the small files with this ending, by name."""
        request = {"op": "settings", "path": path, "suffix": suffix}
        _, descriptors = await self._request(request, within=ANSWER_SECONDS)
        (descriptor,) = descriptors
        return descriptor

    async def tickets(self) -> tuple[str, int | None]:
        """Name of the ticket cache of this identity, and a sealed copy of it if it is a file."""
        answer, descriptors = await self._request({"op": "tickets"}, within=ANSWER_SECONDS)
        return str(answer["name"]), descriptors[0] if descriptors else None

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
