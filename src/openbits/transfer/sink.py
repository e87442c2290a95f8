"""The local side of a transfer: bytes go into the descriptor the worker was handed, and then to the disk.

`position` is where the next byte goes, `durable` how far bytes certainly survive a power cut. Bytes are gathered to
larger writes, but not beyond the turn of the loop in which they came (`Loop.soon`); so an error of a write may be told
only with the next one, or by `flush`. The sink owns its descriptor; a sink that is closed while a sync (`syncing`) is
under way closes it afterwards. No paths in here.
"""

import errno
import os
from collections.abc import Callable, Sequence

from openbits.failpoints import failpoint
from openbits.transfer import filesystems
from openbits.transfer.syncing import Syncer

SYNC_BYTES = 64 * 1024 * 1024
"""Written bytes after which the disk is asked to have them."""

SYNC_SECONDS = 1.0

GATHER_BYTES = 128 * 1024
"""Bytes that are gathered for one write: libcurl hands over 16 KiB at a time. More would outgrow the heap's reserve."""

MOST_PIECES = 512
"""The kernel takes 1024 at once; a server may send its bytes one by one."""

RESERVE_BYTES = 1024 * 1024
"""Files with less to come are not worth asking for room."""


Soon = Callable[[Callable[[], None]], object]
"""Has something called before the loop waits again (`Loop.soon`)."""


class Region:
    """Bytes of a file that come one after the other, from `start` up to `end` (None: nobody knows yet).

    A file that is fetched in pieces has several at a time; they share descriptor, error and syncs of their sink.
    Bytes before `position` are taken, bytes before `durable` certainly survive a power cut. Nothing is cut or written
    beyond `end`; what is between regions stays as it is.
    """

    def __init__(self, sink: "Sink", start: int, end: int | None) -> None:
        self.start = self.position = self.durable = start
        self.end = end
        self._sink = sink
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0

    @property
    def is_whole(self) -> bool:
        """True if all of it was taken."""
        return self.position == self.end

    def write(self, data: bytes) -> int | None:
        """Take the next bytes, ignoring what comes after the end; -1 if the file cannot take them.

        Then the sink has the `error` (libcurl's convention).
        """
        if self.end is not None and self.position + len(data) > self.end:
            data = data[: max(0, self.end - self.position)]
        if self._sink.error is None and data:
            if not self._gathered:
                self._sink.drain_soon(self)
            self._gathered.append(data)
            self._gathered_bytes += len(data)
            self.position += len(data)
            if self._gathered_bytes >= GATHER_BYTES or len(self._gathered) >= MOST_PIECES:
                self.drain()
        return None if self._sink.error is None else -1

    def drain(self) -> None:
        """Hand what was gathered to the kernel; if it does not take it, `position` is how far it came."""
        data, size = self._gathered, self._gathered_bytes
        self._gathered, self._gathered_bytes = [], 0
        if size > 0:
            left = self._sink.put(data, self.position - size, size)
            self.position -= left


class Sink(Region):
    """One file, and the region of it that plain downloads write: from `offset` to its end.

    `offset`: bytes that are on the disk already; never believed beyond the end of the file.
    """

    def __init__(self, descriptor: int, syncer: Syncer, soon: Soon, offset: int, now: float) -> None:
        super().__init__(self, 0, None)
        self.position = self.durable = min(offset, os.fstat(descriptor).st_size)
        self.error: OSError | None = None
        """What the last refused write or sync ran into."""
        self._descriptor = descriptor
        self._syncer = syncer
        self._soon = soon
        self._regions: list[Region] = [self]
        self._undrained: set[Region] = set()
        self._synced_at = now
        self._is_syncing = False
        self._is_closed = False
        self._epoch = 0
        self._then: Callable[[], None] | None = None

    def begin(self, offset: int, end: int | None) -> None:
        """Cut the file at `offset` and write from there, ignoring what comes after `end`. Raises OSError.

        If the end is known there is room for all of it, or ENOSPC at once. Other regions are forgotten: they were made
        for what is gone.
        """
        self._drain_all()
        os.ftruncate(self._descriptor, offset)
        failpoint("sink.cut")
        if offset < self.position:
            self._epoch += 1  # a sync under way speaks of bytes that are gone
        self.durable = min(self.durable, offset)
        self.position = offset
        self.end = end
        self._regions = [self]
        if end is not None and end - offset >= RESERVE_BYTES:
            filesystems.reserve(self._descriptor, offset, end)

    def region(self, offset: int, end: int | None) -> Region:
        """Another part of the file, that begins at `offset`; nothing is cut. It counts until it is whole and durable.

        For plain files there is no need of one: the sink itself is the region from 0.
        """
        made = Region(self, offset, end)
        self._regions.append(made)
        return made

    def drain_soon(self, region: Region) -> None:
        """The region has begun to gather bytes; for regions."""
        if not self._undrained:
            self._soon(self._drain_all)
        self._undrained.add(region)

    def put(self, data: Sequence[bytes], position: int, size: int) -> int:
        """Write; returns how many bytes are left because of `error`. For regions: who has bytes calls their `write`."""
        if self.error is not None or self._is_closed:
            return size
        written = 0
        try:
            written = os.pwritev(self._descriptor, data, position)
            failpoint("sink.written")
            if written < size:  # the disk filled up or a signal came; the next call says which
                rest = memoryview(b"".join(data))
                while written < size:
                    written += os.pwrite(self._descriptor, rest[written:], position + written)
        except OSError as error:
            self.error = error
            return size - written
        return 0

    def _drain_all(self) -> None:
        undrained, self._undrained = self._undrained, set()
        for region in undrained:
            region.drain()

    def duplicate(self) -> int:
        """A second descriptor of the file, for who writes it without `write`; it belongs to the caller."""
        return os.dup(self._descriptor)

    def reached(self, position: int) -> None:
        """Somebody has written up to here, from where the file ended until now."""
        self.position = position

    def sync_if_due(self, now: float) -> None:
        """Start a sync if enough was written, or enough time went by, since the last one."""
        waiting = self._waiting_bytes
        if not self._is_syncing and (waiting >= SYNC_BYTES or (waiting > 0 and now - self._synced_at >= SYNC_SECONDS)):
            self._synced_at = now
            self._start_sync()

    def flush(self, then: Callable[[], None]) -> None:
        """Have everything written in any region on the disk, then call; `error` tells whether that failed."""
        self._then = then
        if not self._is_syncing:
            self._start_sync()

    def refusal(self, error: OSError, size_bytes: int | None) -> str:
        """Why the file takes no more, in words; on a full disk how much room a file of this size needs."""
        words = error.strerror or "unknown error"
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            return words
        needed = "more room" if size_bytes is None else f"{size_bytes - self.position} more bytes of room"
        free = filesystems.free_bytes(self._descriptor)
        return f"{words}: needs {needed}" + ("" if free is None else f", {free} bytes are free for this identity")

    def close(self) -> None:
        """Forget everything; nothing is called any more."""
        self._is_closed = True
        self._then = None
        if not self._is_syncing:
            os.close(self._descriptor)

    @property
    def _waiting_bytes(self) -> int:
        return sum(region.position - region.durable for region in self._regions)

    def _start_sync(self) -> None:
        self._drain_all()
        self._is_syncing = True
        written = [(region, region.position) for region in self._regions]
        epoch = self._epoch
        self._syncer.submit(self._descriptor, lambda error: self._synced(written, epoch, error))

    def _synced(self, written: Sequence[tuple[Region, int]], epoch: int, error: OSError | None) -> None:
        self._is_syncing = False
        if self._is_closed:
            os.close(self._descriptor)
            return
        if error is not None:
            self.error = error
        elif epoch == self._epoch:
            for region, position in written:
                region.durable = position
            self._regions = [one for one in self._regions if one is self or not one.is_whole or one.durable != one.end]
        if self._then is None:
            return
        if error is None and self._waiting_bytes:
            self._start_sync()
        else:
            then, self._then = self._then, None
            then()
