"""The bytes of one session on their way to the disk: a body that comes, a file that grows, syncs beside it (§6).

Written bytes are in the file; durable ones were synced. A sync begins, in a thread, when SYNC_BYTES are not durable
or the first of them is SYNC_SECONDS old; a writer who is MOST_UNSYNCED_BYTES ahead waits for it. So the promise of §6
holds, and a fast client does not wait for the disk as long as that keeps pace.

Writing itself is done in the loop's thread, as handing 128 KiB to another one costs more than copying them into the
page cache. Where the kernel makes us wait (slow disk, too many dirty pages), threads write the file for a while.
"""

import asyncio
import os
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from openbits.failpoints import failpoint

PIECE_BYTES: Final = 128 * 1024
"""So much of a body is written at once: no more is in memory, but for what came last."""
MAX_PIECES: Final = 512
"""Or so many parts, however small they came; the kernel takes 1024 at once."""
SYNC_BYTES: Final = 32 * 1024 * 1024
MOST_UNSYNCED_BYTES: Final = 64 * 1024 * 1024
SYNC_SECONDS: Final = 5.0
SLOW_SECONDS: Final = 0.02
"""A write that takes longer waits, if the kernel made it wait, and not another process that had its turn."""
SLOW_FOR_SECONDS: Final = 2.0


_GIVEN_UP: Final = "the fragment was given up"


class Body(Protocol):
    """The body of a fragment, as the server of HTTP reads it."""

    async def read(self) -> bytes:
        """Some more bytes; none at the end. Raises ConnectionError when the client is gone."""


class Reading:
    """A body that is being read, and may be given up from outside: its client sent a newer request, or is gone."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._task: asyncio.Task[object] | None = None
        self._is_over = False
        self._heard_at = asyncio.get_running_loop().time()

    async def read(self) -> bytes:
        """See Body; raises ConnectionAbortedError when it was given up."""
        task = self._task = asyncio.current_task()
        try:
            if self._is_over:
                raise ConnectionAbortedError(_GIVEN_UP)
            piece = await self._body.read()
        except asyncio.CancelledError:
            if task is None or not self._is_over:
                raise
            task.uncancel()
            raise ConnectionAbortedError(_GIVEN_UP) from None
        finally:
            self._task = None
        self._heard_at = asyncio.get_running_loop().time()
        return piece

    def is_stalled(self, seconds: float) -> bool:
        """Bytes are waited for, in vain for so long."""
        return self._task is not None and asyncio.get_running_loop().time() - self._heard_at >= seconds

    def give_up(self) -> None:
        """End it; bytes that came stay."""
        if not self._is_over:
            self._is_over = True
            if self._task is not None:
                self._task.cancel()


class SpoolFile:
    """The open file of a session. One task at a time writes; syncs run beside it.

    `on_synced` is called in the loop when a sync that nobody waited for has ended, well or badly.
    """

    def __init__(
        self, descriptor: int, offset: int, durable: int, executor: Executor, on_synced: Callable[[], None]
    ) -> None:
        self._descriptor = descriptor
        self.offset = offset
        self.durable = durable
        self._executor = executor
        self._on_synced = on_synced
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._error: OSError | None = None
        self._slow_until = 0.0

    @property
    def is_busy(self) -> bool:
        """Bytes are to be synced, or just being synced."""
        return self._timer is not None or self._syncing is not None

    @property
    def has_failed(self) -> bool:
        """The disk has lost bytes: close it, and go on with what the record says."""
        return self._error is not None

    async def append(self, pieces: Sequence[bytes]) -> None:
        """Write at the end. Raises OSError: `offset` then counts what was written and, if possible, synced (F10)."""
        try:
            await self._write([memoryview(piece) for piece in pieces])
        except OSError:
            with suppress(OSError):
                await self.sync()
            raise
        failpoint("server.written")
        await self._keep_up()

    async def sync(self) -> None:
        """Have all on the disk. Raises OSError: `offset` is back at what certainly is there."""
        if self._syncing is not None:
            await self._syncing
        self._stop_timer()
        if self.durable < self.offset:
            await self._sync()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the file, when it is not busy or its session is over and no sync runs."""
        self._stop_timer()
        os.close(self._descriptor)

    async def settle(self) -> None:
        """Wait for a sync that runs; there will be no further one unless something is written."""
        self._stop_timer()
        if self._syncing is not None:
            await self._syncing

    async def _write(self, pending: list[memoryview]) -> None:
        while pending:
            at, put = self.offset, partial(_put, self._descriptor, pending, self.offset)
            is_patient = self._loop.time() < self._slow_until
            written, has_waited = await self._loop.run_in_executor(self._executor, put) if is_patient else put()
            if has_waited:
                self._slow_until = self._loop.time() + SLOW_FOR_SECONDS
            if self._error is not None:
                break
            self.offset = at + written
            pending = _rest(pending, written)

    async def _keep_up(self) -> None:
        unsynced = self.offset - self.durable
        if unsynced >= MOST_UNSYNCED_BYTES and self._syncing is not None:
            await self._syncing
            unsynced = self.offset - self.durable
        if self._error is not None:
            await self.sync()
        if unsynced >= SYNC_BYTES:
            self._begin_sync()
        elif unsynced and self._timer is None:
            self._timer = self._loop.call_later(SYNC_SECONDS, self._begin_sync)

    def _begin_sync(self) -> None:
        self._stop_timer()
        if self._syncing is None:
            self._syncing = self._loop.create_task(self._sync_beside())

    async def _sync_beside(self) -> None:
        try:
            await self._sync()
        finally:
            self._syncing = None
            if self.durable < self.offset:
                self._timer = self._timer or self._loop.call_later(SYNC_SECONDS, self._begin_sync)
            self._on_synced()

    async def _sync(self) -> None:
        """After an error nobody knows which of the pages are lost, so none of them counts."""
        offset = self.offset
        failpoint("server.syncing")
        try:
            await self._loop.run_in_executor(self._executor, os.fdatasync, self._descriptor)
        except OSError as error:
            self._error = error
            self.offset = self.durable
        else:
            self.durable = max(self.durable, offset)
        failpoint("server.synced")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _rest(pending: list[memoryview], written: int) -> list[memoryview]:
    """What is left after so many bytes."""
    rest = []
    for view in pending:
        if written < len(view):
            rest.append(view[written:])
        written = max(0, written - len(view))
    return rest


def _put(descriptor: int, pieces: Sequence[memoryview], at: int) -> tuple[int, bool]:
    """Write; how much was written, and whether that had to wait for the disk. Raises OSError."""
    began, waits = time.monotonic(), _waits()
    written = os.pwritev(descriptor, pieces, at)
    return written, time.monotonic() - began > SLOW_SECONDS and _waits() > waits


def _waits() -> int:
    """How often this thread has given up the processor of its own accord."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
