"""The local side: what is written, what is durable, what happens when the disk refuses."""

import errno
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openbits.transfer.loop import Loop
from openbits.transfer.sink import SYNC_BYTES, SYNC_SECONDS, Done, Sink, ThreadSyncer


class SlowDisk:
    """A syncer whose syncs end when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Done] = []

    def submit(self, descriptor: int, done: Done) -> None:
        os.fstat(descriptor)  # still open
        self.waiting.append(done)

    def finish(self, error: OSError | None = None) -> None:
        self.waiting.pop(0)(error)


@pytest.fixture
def disk() -> SlowDisk:
    return SlowDisk()


@pytest.fixture
def make_sink(destination: Path, disk: SlowDisk) -> Iterator[Callable[..., Sink]]:
    """`make_sink(content, offset)`: a sink on a file that holds `content` already."""
    made: list[Sink] = []

    def make(content: bytes = b"", offset: int = 0) -> Sink:
        destination.write_bytes(content)
        made.append(Sink(os.open(destination, os.O_WRONLY), disk, offset, 0.0))
        return made[-1]

    yield make
    disk.waiting.clear()


def test_bytes_go_to_their_offset_and_what_was_beyond_is_cut(make_sink: Callable[..., Sink], destination: Path) -> None:
    sink = make_sink(b"abcdefXXXXXXXX", 6)
    sink.begin(6, None)
    assert sink.write(b"gh") is None
    assert destination.read_bytes() == b"abcdefgh"
    assert (sink.position, sink.durable) == (8, 6)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_how_much_room_a_file_needs(make_sink: Callable[..., Sink], number: int) -> None:
    sink = make_sink()
    sink.begin(0, None)
    sink.write(b"abc")
    words = sink.refusal(OSError(number, "the reason"), 1000)
    assert re.fullmatch(r"the reason: needs 997 more bytes of room, \d+ bytes are free for this identity", words)
    assert "needs more room" in sink.refusal(OSError(number, "the reason"), None)


def test_another_refusal_has_the_words_of_the_kernel(make_sink: Callable[..., Sink]) -> None:
    assert make_sink().refusal(OSError(errno.EIO, "the reason"), 1000) == "the reason"


def test_bytes_that_somebody_else_wrote_count_too(make_sink: Callable[..., Sink], destination: Path) -> None:
    sink = make_sink(b"abc", 3)
    sink.begin(3, None)
    descriptor = sink.duplicate()
    os.pwrite(descriptor, b"def", 3)
    os.close(descriptor)
    sink.reached(6)
    assert sink.write(b"g") is None
    assert (sink.position, sink.durable, destination.read_bytes()) == (7, 3, b"abcdefg")


def test_bytes_after_the_end_are_ignored(make_sink: Callable[..., Sink], destination: Path) -> None:
    sink = make_sink()
    sink.begin(0, 5)
    for data in (b"abc", b"defg", b"hi"):
        assert sink.write(data) is None
    assert destination.read_bytes() == b"abcde"
    assert sink.position == 5


def test_an_offset_beyond_the_end_of_the_file_is_not_believed(make_sink: Callable[..., Sink]) -> None:
    sink = make_sink(b"abc", 10)
    assert (sink.position, sink.durable) == (3, 3)


def test_bytes_are_durable_when_their_sync_ended_and_not_before(make_sink: Callable[..., Sink], disk: SlowDisk) -> None:
    sink = make_sink()
    sink.begin(0, None)
    sink.write(b"abc")
    sink.sync_if_due(SYNC_SECONDS)
    sink.write(b"def")
    assert sink.durable == 0
    disk.finish()
    assert sink.durable == 3, "the sync began before the last three bytes"


def test_a_sync_is_due_after_some_seconds_or_many_bytes(make_sink: Callable[..., Sink], disk: SlowDisk) -> None:
    sink = make_sink()
    sink.begin(0, None)
    sink.sync_if_due(SYNC_SECONDS * 2)
    assert not disk.waiting, "nothing was written"
    sink.write(b"a")
    sink.sync_if_due(SYNC_SECONDS - 0.1)
    assert not disk.waiting, "too early"
    sink.position = SYNC_BYTES  # as if so much had been written
    sink.sync_if_due(SYNC_SECONDS - 0.1)
    sink.sync_if_due(SYNC_SECONDS * 9)
    assert len(disk.waiting) == 1, "one at a time"


def test_a_restart_makes_the_sync_under_way_worthless(make_sink: Callable[..., Sink], disk: SlowDisk) -> None:
    sink = make_sink(b"abc", 3)
    sink.begin(3, None)
    sink.write(b"def")
    sink.sync_if_due(SYNC_SECONDS)
    sink.begin(0, None)
    sink.write(b"x")
    disk.finish()
    assert (sink.position, sink.durable) == (1, 0)


def test_flush_waits_until_the_last_byte_is_durable(make_sink: Callable[..., Sink], disk: SlowDisk) -> None:
    sink = make_sink()
    sink.begin(0, None)
    sink.write(b"abc")
    sink.sync_if_due(SYNC_SECONDS)
    sink.write(b"def")
    flushed: list[int] = []
    sink.flush(lambda: flushed.append(sink.durable))
    disk.finish()
    assert not flushed, "the sync under way was an earlier one"
    disk.finish()
    assert flushed == [6]


def test_a_disk_that_refuses_the_sync_leaves_the_earlier_bytes(make_sink: Callable[..., Sink], disk: SlowDisk) -> None:
    sink = make_sink(b"abc", 3)
    sink.begin(3, None)
    sink.write(b"def")
    flushed: list[int] = []
    sink.flush(lambda: flushed.append(sink.durable))
    disk.finish(OSError(5, "Input/output error"))
    assert flushed == [3]
    assert sink.error is not None


def test_a_full_file_is_an_error_and_keeps_what_fitted(make_sink: Callable[..., Sink], destination: Path) -> None:
    sink = make_sink()
    sink.begin(0, None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, limits[1]))
    try:
        result = sink.write(b"abcdefgh")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert result == -1
    assert sink.error is not None
    assert (sink.position, destination.read_bytes()) == (5, b"abcde")


def test_closing_waits_for_the_sync_under_way(
    make_sink: Callable[..., Sink], disk: SlowDisk, destination: Path
) -> None:
    sink = make_sink()
    sink.begin(0, None)
    sink.write(b"abc")
    sink.flush(lambda: pytest.fail("closed: nothing is called any more"))
    sink.close()
    assert is_open(destination), "the helper thread still uses it"
    disk.finish()
    assert not is_open(destination)


def test_closing_an_idle_sink_closes_at_once(make_sink: Callable[..., Sink], destination: Path) -> None:
    make_sink().close()
    assert not is_open(destination)


def test_real_syncs_come_back_in_the_thread_of_the_loop(destination: Path) -> None:
    loop = Loop()
    syncer = ThreadSyncer(loop.post)
    sinks = []
    for number in range(10):  # more than there are threads
        path = destination.with_name(str(number))
        sink = Sink(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), syncer, 0, 0.0)
        sink.begin(0, None)
        sink.write(b"abc")
        sinks.append(sink)
    left = len(sinks)

    def flushed() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            loop.stop()

    for sink in sinks:
        sink.flush(flushed)
    loop.call_at(loop.now() + 20, loop.stop)
    loop.run()
    assert [sink.durable for sink in sinks] == [3] * 10
    for sink in sinks:
        sink.close()
    loop.close()


def is_open(path: Path) -> bool:
    """True if this process has a descriptor of the file."""
    return any(entry.exists() and entry.samefile(path) for entry in Path("/proc/self/fd").iterdir())
