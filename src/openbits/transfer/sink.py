"""The local side of a transfer: bytes go into the descriptor the worker was handed, and then to the disk.

`position` counts bytes written, `durable` bytes that certainly survive a power cut. fdatasync runs on helper threads,
because it may take seconds and the loop serves other transfers meanwhile. The sink owns its descriptor; a sink that is
closed while a sync is under way closes it afterwards. No paths in here.
"""

import contextlib
import errno
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from openbits.failpoints import failpoint

SYNC_BYTES = 64 * 1024 * 1024
"""Written bytes after which the disk is asked to have them."""

SYNC_SECONDS = 1.0

THREADS = 4
"""Most syncs at a time: one slow disk does not hold up files on others."""

Done = Callable[[OSError | None], None]


class Syncer(Protocol):
    """Runs fdatasync elsewhere and reports back in the loop's thread."""

    def submit(self, descriptor: int, done: Done) -> None:
        """Have the descriptor's data on the disk, then call `done`."""


class ThreadSyncer:
    """Daemon threads, started when needed, that do nothing but fdatasync."""

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        self._post = post
        self._work: queue.SimpleQueue[tuple[int, Done]] = queue.SimpleQueue()
        self._threads = 0
        self._unfinished = 0

    def submit(self, descriptor: int, done: Done) -> None:
        """See Syncer."""
        self._unfinished += 1
        if self._unfinished > self._threads < THREADS:
            self._threads += 1
            threading.Thread(target=self._serve, name=f"sync-{self._threads}", daemon=True).start()
        self._work.put((descriptor, done))

    def _serve(self) -> None:
        while True:
            descriptor, done = self._work.get()
            error = None
            try:
                failpoint("sink.syncing")
                os.fdatasync(descriptor)
                failpoint("sink.synced")
            except OSError as failure:
                error = failure
            self._post(functools.partial(self._finish, done, error))

    def _finish(self, done: Done, error: OSError | None) -> None:
        self._unfinished -= 1
        done(error)


class Sink:
    """Writes one file. `offset`: bytes that are on the disk already; never believed beyond the end of the file."""

    def __init__(self, descriptor: int, syncer: Syncer, offset: int, now: float) -> None:
        self.position = self.durable = min(offset, os.fstat(descriptor).st_size)
        self.error: OSError | None = None
        """What the last refused write or sync ran into."""
        self._descriptor = descriptor
        self._syncer = syncer
        self._limit = sys.maxsize
        self._synced_at = now
        self._is_syncing = False
        self._is_closed = False
        self._epoch = 0
        self._then: Callable[[], None] | None = None

    def begin(self, offset: int, end: int | None) -> None:
        """Cut the file at `offset` and write from there, ignoring what comes after `end`. Raises OSError."""
        os.ftruncate(self._descriptor, offset)
        failpoint("sink.cut")
        if offset < self.durable:
            self.durable = offset
            self._epoch += 1  # a sync under way speaks of bytes that are gone
        self.position = offset
        self._limit = sys.maxsize if end is None else end

    def write(self, data: bytes) -> int | None:
        """Take the next bytes of the body; -1 if the file cannot take them, with `error` set (libcurl's convention)."""
        if self.position + len(data) > self._limit:
            data = data[: max(0, self._limit - self.position)]
        try:
            written = os.pwrite(self._descriptor, data, self.position)
            self.position += written
            failpoint("sink.written")
            while written < len(data):  # the disk filled up or a signal came; the next call says which
                step = os.pwrite(self._descriptor, data[written:], self.position)
                written += step
                self.position += step
        except OSError as error:
            self.error = error
            return -1
        return None

    def duplicate(self) -> int:
        """A second descriptor of the file, for who writes it without `write`; it belongs to the caller."""
        return os.dup(self._descriptor)

    def reached(self, position: int) -> None:
        """Somebody has written up to here, from where the file ended until now."""
        self.position = position

    def sync_if_due(self, now: float) -> None:
        """Start a sync if enough was written, or enough time went by, since the last one."""
        waiting = self.position - self.durable
        if not self._is_syncing and (waiting >= SYNC_BYTES or (waiting > 0 and now - self._synced_at >= SYNC_SECONDS)):
            self._synced_at = now
            self._start_sync()

    def flush(self, then: Callable[[], None]) -> None:
        """Have everything written on the disk, then call; `error` tells whether that failed."""
        self._then = then
        if not self._is_syncing:
            self._start_sync()

    def refusal(self, error: OSError, size_bytes: int | None) -> str:
        """Why the file takes no more, in words; on a full disk how much room a file of this size needs."""
        words = error.strerror or "unknown error"
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            return words
        needed = "more room" if size_bytes is None else f"{size_bytes - self.position} more bytes of room"
        free = self._free_bytes()
        return f"{words}: needs {needed}" + ("" if free is None else f", {free} bytes are free for this identity")

    def _free_bytes(self) -> int | None:
        """What the file system has left for this identity, None if it does not say."""
        with contextlib.suppress(OSError):
            figures = os.fstatvfs(self._descriptor)
            return figures.f_bavail * figures.f_frsize
        return None

    def close(self) -> None:
        """Forget everything; nothing is called any more."""
        self._is_closed = True
        self._then = None
        if not self._is_syncing:
            os.close(self._descriptor)

    def _start_sync(self) -> None:
        self._is_syncing = True
        position, epoch = self.position, self._epoch
        self._syncer.submit(self._descriptor, lambda error: self._synced(position, epoch, error))

    def _synced(self, position: int, epoch: int, error: OSError | None) -> None:
        self._is_syncing = False
        if self._is_closed:
            os.close(self._descriptor)
            return
        if error is not None:
            self.error = error
        elif epoch == self._epoch:
            self.durable = position
        if self._then is None:
            return
        if error is None and self.durable != self.position:
            self._start_sync()
        else:
            then, self._then = self._then, None
            then()
