"""Files of this machine (`file:`), copied from one descriptor to another inside the kernel where that is possible.

The worker was handed both descriptors and has no other right: who may open what was decided by the brokers that opened
them. Piece by piece a thread of the transfer copies, since a file system may take its time and the loop serves others;
the loop decides. Holes stay holes.

1. The version of the source is its size and modification time, which are looked at after every piece. A download of a
   source that has changed begins again, an upload of one is over (jobs.md §9.3).
2. A piece that is under way when the transfer ends cannot be called back. So nobody else writes the file until it is
   over: the transfer holds a lock of it, which ends with the last descriptor.
"""

import errno
import fcntl
import functools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from openbits.core import codes
from openbits.core.enums import ErrorContext
from openbits.core.model import Range, Validators
from openbits.failpoints import failpoint
from openbits.transfer import transport
from openbits.transfer.decisions import Fail, Finish, Restart
from openbits.transfer.loop import Loop
from openbits.transfer.sink import Sink
from openbits.transfer.transport import Limits, News, Order, Settings, last_word

PIECE_BYTES: Final = 4 * 1024 * 1024
"""Copied between two looks at what else there is to do: some milliseconds."""

READ_BYTES: Final = 1024 * 1024
"""The same where the bytes have to pass through our memory."""

_NO_LOCKS_HERE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})

_NANOSECONDS: Final = 1_000_000_000


@transport.register("file", is_copying=True)
class FileTransport:
    """Copies of files of this machine."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._loop = loop
        self._limits = settings.limits

    def transfer(self, order: Order, sink: Sink, news: News) -> "FileTransfer":
        """See Transport."""
        return FileTransfer(order, sink, news, self._loop, self._limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What became of a piece: where the copy ends now, and the source as it is now."""

    position: int
    status: os.stat_result
    has_more: bool = False
    """The source has bytes beyond its size, as files that the kernel makes up have."""


class ReadError(Exception):
    """The source could not be read; the cause is an OSError."""


class WriteError(Exception):
    """The copy could not be written; the cause is an OSError."""


class Copier:
    """The thread of one transfer; it owns its descriptors and closes them when the last piece is over."""

    def __init__(self, source: int, target: int, loop: Loop, tell: Callable[[Piece | Exception], None]) -> None:
        self.target = target
        self._source = source
        self._loop = loop
        self._tell = tell
        self._orders: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="copy", daemon=True).start()

    def copy(self, position: int, end: int) -> None:
        """Have the next piece before `end` copied, and the source looked at; then the loop is told."""
        self._orders.put((position, end))

    def close(self) -> None:
        """The end, as soon as nothing is under way."""
        self._orders.put(None)

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                told: Piece | Exception = self._act(*order)
            except (ReadError, WriteError) as error:
                told = error
            self._loop.post(functools.partial(self._tell, told))
        os.close(self._source)
        os.close(self.target)

    def _act(self, position: int, end: int) -> Piece:
        if position < end:
            failpoint("copy.piece")
            position = copy_piece(self._source, self.target, position, end)
        try:
            has_more = position == end and bool(os.pread(self._source, 1, end))
            return Piece(position=position, status=os.fstat(self._source), has_more=has_more)
        except OSError as error:
            raise ReadError from error


class FileTransfer:
    """One file."""

    def __init__(self, order: Order, sink: Sink, news: News, loop: Loop, limits: Limits) -> None:
        if order.source is None:
            raise ValueError("a copy has a source")
        self._order = order
        self._sink = sink
        self._news = news
        self._limits = limits
        self._seen: Validators | None = None
        self._outcome: Finish | Fail | Restart | None = None
        self._is_told = self._is_over = False
        self._waiting_since = loop.now()
        self._has_lock = False
        self._now = loop.now
        self._copier = Copier(order.source, sink.duplicate(), loop, self._moved)

    def begin(self) -> None:
        """See Transfer."""
        self._lock()

    def reposition(self, wanted: Sequence[Range]) -> None:
        """See Transfer: copies have one order."""

    def cancel(self) -> None:
        """See Transfer."""
        if not self._is_over:
            self._is_over = True
            self._copier.close()

    def tick(self, now: float) -> None:
        """See Transfer."""
        if not self._is_told:
            self._is_told = True
            self._news.phase(f"copying {self._order.url}")
        if self._outcome is None and self._sink.error is not None:  # a sync failed
            self._end(self._cannot_write(self._sink.error))
        elif self._outcome is None and now - self._waiting_since >= self._limits.floor_seconds:
            self._end(self._stuck())
        elif self._outcome is None and not self._has_lock:
            self._lock()

    # -- one after the other --------------------------------------------------------------------------------------

    def _lock(self) -> None:
        try:
            fcntl.flock(self._copier.target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                return  # an earlier transfer has it; the next tick tries again
        self._has_lock = True
        self._copy(0, 0)  # a first look

    def _copy(self, position: int, end: int) -> None:
        self._waiting_since = self._now()
        self._copier.copy(position, end)

    def _moved(self, told: Piece | Exception) -> None:
        """The thread has done what it was asked."""
        if self._is_over:
            return
        if isinstance(told, Piece):
            self._begin(told.status) if self._seen is None else self._go_on(told, self._seen)
        else:
            self._end(self._failure(told))

    def _begin(self, status: os.stat_result) -> None:
        known, seen, position = self._order.validators, version_of(status), self._sink.position
        is_begun = known.size_bytes is not None if self._order.is_upload else position > 0
        if is_begun and seen != known:
            self._end(self._changed(known, seen))
            return
        self._seen = seen
        try:
            self._sink.begin(position, None)
        except OSError as error:
            self._end(self._cannot_write(error))
            return
        self._news.connected(seen, position, "")
        self._copy(position, status.st_size)

    def _go_on(self, piece: Piece, seen: Validators) -> None:
        before, size = self._sink.position, piece.status.st_size
        if version_of(piece.status) != seen:
            self._end(self._changed(seen, version_of(piece.status)))
            return
        self._sink.reached(piece.position)
        if piece.has_more:
            words = f"it says that it has {size} bytes and has more; only files with a size can be copied"
            self._end(self._fail(codes.BG_E_MISSING_FILE_SIZE, self._reading, f"reading at byte {size}: {words}"))
        elif piece.position == size:
            self._end(Finish(size_bytes=size, modified_at=piece.status.st_mtime_ns / _NANOSECONDS))
        elif piece.position == before:
            self._end(self._fail(codes.ERROR_IO_DEVICE, self._reading, f"it ended at byte {before} of {size}"))
        else:
            self._copy(piece.position, size)

    # -- outcomes -------------------------------------------------------------------------------------------------

    @property
    def _reading(self) -> ErrorContext:
        return ErrorContext.LOCAL_FILE if self._order.is_upload else ErrorContext.REMOTE_FILE

    @property
    def _writing(self) -> ErrorContext:
        return ErrorContext.REMOTE_FILE if self._order.is_upload else ErrorContext.LOCAL_FILE

    def _end(self, outcome: Finish | Fail | Restart) -> None:
        """Save what was written, then say the last word."""
        self._outcome = outcome
        self.cancel()
        if isinstance(outcome, Finish):
            self._news.saving()
        self._sink.flush(self._saved)

    def _saved(self) -> None:
        outcome = self._outcome
        if isinstance(outcome, Finish) and self._sink.error is not None:
            outcome = self._cannot_write(self._sink.error)
        if outcome is not None:
            last_word(outcome, self._news)

    def _changed(self, before: Validators, after: Validators) -> Fail | Restart:
        reason = f"the file changed ({words_of(before)} -> {words_of(after)})"
        if self._order.is_upload:
            return self._fail(codes.BG_E_LOCAL_FILE_CHANGED, ErrorContext.LOCAL_FILE, reason)
        return Restart(reason)

    def _failure(self, error: Exception) -> Fail:
        cause = error.__cause__
        assert isinstance(cause, OSError), repr(error)  # noqa: S101  # both classes say so
        if isinstance(error, WriteError):
            return self._cannot_write(cause)
        words = f"reading at byte {self._sink.position}: {cause.strerror}"
        return self._fail(codes.from_errno(cause.errno or 0), self._reading, words)

    def _cannot_write(self, error: OSError) -> Fail:
        size = self._seen.size_bytes if self._seen is not None else None
        words = f"writing at byte {self._sink.position}: {self._sink.refusal(error, size)}"
        return self._fail(codes.from_errno(error.errno or 0), self._writing, words)

    def _stuck(self) -> Fail:
        limit = f"{self._limits.floor_seconds:g} s"
        if not self._has_lock:
            words = f"somebody else has held a lock of the temporary file for {limit}, perhaps an earlier attempt"
            return self._fail(codes.ERROR_SHARING_VIOLATION, self._writing, words)
        words = f"the file systems have moved nothing for {limit} at byte {self._sink.position}"
        return self._fail(codes.ERROR_WINHTTP_TIMEOUT, self._reading, words)

    def _fail(self, hresult: int, context: ErrorContext, words: str) -> Fail:
        return Fail(hresult=hresult, context=context, detail=f"{self._order.url}: {words}")


def copy_piece(source: int, target: int, position: int, end: int) -> int:
    """Copy some bytes to the same place of the target, which ends there, or pass over a hole; where the copy ends now.

    It has not moved if the source ends before. Raises ReadError, WriteError.
    """
    data = _next_data(source, position, end)
    if data > position:
        try:
            os.ftruncate(target, data)
        except OSError as error:
            raise WriteError from error
        return data
    try:
        moved = os.copy_file_range(source, target, min(PIECE_BYTES, end - position), position, position)
    except OSError:  # not between these file systems, or something is wrong with one of them: reading and writing tells
        moved = 0
    return position + (moved or _copy_by_hand(source, target, position, end))


def _copy_by_hand(source: int, target: int, position: int, end: int) -> int:
    try:
        data = memoryview(os.pread(source, min(READ_BYTES, end - position), position))
    except OSError as error:
        raise ReadError from error
    moved = 0
    try:
        while moved < len(data):
            moved += os.pwrite(target, data[moved:], position + moved)
    except OSError as error:
        raise WriteError from error
    return moved


def _next_data(source: int, position: int, end: int) -> int:
    """Where the next bytes are that are no hole, at most `end`; `position` itself if the file system knows no holes."""
    try:
        return min(os.lseek(source, position, os.SEEK_DATA), end)
    except OSError as error:
        return end if error.errno == errno.ENXIO else position  # a hole up to the end of the file


def version_of(status: os.stat_result) -> Validators:
    """Size and modification time in nanoseconds (jobs.md §9.3)."""
    return Validators(size_bytes=status.st_size, last_modified=str(status.st_mtime_ns))


def words_of(version: Validators) -> str:
    """A version for people; a file may have a time that no calendar has."""
    seconds, nanoseconds = divmod(int(version.last_modified or 0), 1_000_000_000)
    try:
        at = f"{datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(' ')}.{nanoseconds:09d} UTC"
    except (ValueError, OverflowError):
        at = f"{seconds} s after 1970"
    return f"{version.size_bytes} bytes, modified {at}"
