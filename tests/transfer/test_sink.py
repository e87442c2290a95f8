"""The local side: what is written, what is durable, what happens when the disk refuses."""

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openbits.transfer import filesystems
from openbits.transfer.sink import RESERVE_BYTES, SYNC_BYTES, SYNC_SECONDS, Sink
from openbits.transfer.syncing import Done


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


class Turn:
    """The turn of a loop: what is to be called before it waits again."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def over(self) -> None:
        while self.soon:
            self.soon.pop(0)()


@pytest.fixture
def turn() -> Turn:
    return Turn()


@pytest.fixture
def make_sink(destination: Path, disk: SlowDisk, turn: Turn) -> Iterator[Callable[..., Sink]]:
    """`make_sink(content, offset)`: a sink on a file that holds `content` already."""
    made: list[Sink] = []

    def make(content: bytes = b"", offset: int = 0) -> Sink:
        destination.write_bytes(content)
        made.append(Sink(os.open(destination, os.O_WRONLY), disk, turn.soon.append, offset, 0.0))
        return made[-1]

    yield make
    disk.waiting.clear()


def test_bytes_go_to_their_offset_and_what_was_beyond_is_cut(
    make_sink: Callable[..., Sink], destination: Path, turn: Turn
) -> None:
    sink = make_sink(b"abcdefXXXXXXXX", 6)
    sink.begin(6, None)
    assert sink.write(b"gh") is None
    turn.over()
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


def test_bytes_that_somebody_else_wrote_count_too(
    make_sink: Callable[..., Sink], destination: Path, turn: Turn
) -> None:
    sink = make_sink(b"abc", 3)
    sink.begin(3, None)
    descriptor = sink.duplicate()
    os.pwrite(descriptor, b"def", 3)
    os.close(descriptor)
    sink.reached(6)
    assert sink.write(b"g") is None
    turn.over()
    assert (sink.position, sink.durable, destination.read_bytes()) == (7, 3, b"abcdefg")


def test_bytes_after_the_end_are_ignored(make_sink: Callable[..., Sink], destination: Path, turn: Turn) -> None:
    sink = make_sink()
    sink.begin(0, 5)
    for data in (b"abc", b"defg", b"hi"):
        assert sink.write(data) is None
    turn.over()
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


@contextlib.contextmanager
def files_end_at(size_bytes: int) -> Iterator[None]:
    """The kernel takes no byte of any file beyond this."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("pieces", [[b"abcdefgh"], [b"abc", b"def", b"gh"]])
def test_a_full_file_is_an_error_and_keeps_what_fitted(
    make_sink: Callable[..., Sink], destination: Path, turn: Turn, pieces: list[bytes]
) -> None:
    sink = make_sink()
    sink.begin(0, None)
    with files_end_at(5):
        for piece in pieces:
            assert sink.write(piece) is None, "gathered"
        turn.over()
    assert sink.error is not None
    assert sink.error.errno == errno.EFBIG
    assert sink.write(b"x") == -1
    assert (sink.position, destination.read_bytes()) == (5, b"abcde")


def test_a_full_file_is_told_at_the_latest_when_it_is_flushed(
    make_sink: Callable[..., Sink], destination: Path, disk: SlowDisk
) -> None:
    sink = make_sink()
    sink.begin(0, None)
    flushed: list[int] = []
    with files_end_at(5):
        sink.write(b"abcdefgh")
        sink.flush(lambda: flushed.append(sink.durable))
        disk.finish()
    assert flushed == [5]
    assert sink.error is not None
    assert destination.read_bytes() == b"abcde"


def test_many_small_pieces_become_few_writes_and_lose_nothing(
    make_sink: Callable[..., Sink], destination: Path, turn: Turn
) -> None:
    sink = make_sink()
    sink.begin(0, None)
    content = bytes(range(256)) * 40
    for byte in content:
        assert sink.write(bytes([byte])) is None
    assert len(destination.read_bytes()) > len(content) - 1024, "the kernel takes 1,024 pieces at once"
    turn.over()
    assert destination.read_bytes() == content


def test_regions_are_written_side_by_side_and_cut_nothing(
    make_sink: Callable[..., Sink], destination: Path, turn: Turn
) -> None:
    sink = make_sink(b".........", 0)
    first, last = sink.region(1, 4), sink.region(6, None)
    last.write(b"xy")
    first.write(b"abcdef")
    turn.over()
    assert destination.read_bytes() == b".abc..xy."
    assert (first.position, last.position, sink.position) == (4, 8, 0)
    assert first.is_whole
    assert not last.is_whole, "nobody knows where it ends"


def test_one_sync_makes_all_regions_durable_up_to_where_they_were(
    make_sink: Callable[..., Sink], disk: SlowDisk
) -> None:
    sink = make_sink()
    first, second = sink.region(0, 3), sink.region(10, 20)
    first.write(b"abc")
    second.write(b"def")
    sink.sync_if_due(SYNC_SECONDS)
    second.write(b"ghi")
    assert (first.durable, second.durable) == (0, 10)
    disk.finish()
    assert (first.durable, second.durable) == (3, 13)


def test_flush_waits_for_every_region(make_sink: Callable[..., Sink], disk: SlowDisk) -> None:
    sink = make_sink()
    first, second = sink.region(0, 3), sink.region(10, 20)
    first.write(b"abc")
    sink.sync_if_due(SYNC_SECONDS)
    second.write(b"def")
    flushed: list[int] = []
    sink.flush(lambda: flushed.append(second.durable))
    disk.finish()
    assert not flushed
    disk.finish()
    assert flushed == [13]


def test_a_restart_forgets_the_regions_and_the_sync_under_way(make_sink: Callable[..., Sink], disk: SlowDisk) -> None:
    sink = make_sink(b"abc", 3)
    region = sink.region(5, None)
    region.write(b"def")
    sink.sync_if_due(SYNC_SECONDS)
    sink.begin(0, None)
    disk.finish()
    sink.sync_if_due(SYNC_SECONDS * 9)
    assert not disk.waiting, "nothing waits any more"
    flushed: list[bool] = []
    sink.flush(lambda: flushed.append(True))
    disk.finish()
    assert (sink.position, sink.durable, flushed) == (0, 0, [True])


def test_a_file_with_a_known_end_gets_its_room_at_once_and_keeps_its_length(
    make_sink: Callable[..., Sink], destination: Path
) -> None:
    sink = make_sink()
    if filesystems.kind_of(os.open(destination, os.O_RDONLY)) != 0xEF53:
        pytest.skip("needs a temporary folder on ext4")
    sink.begin(0, 4 * RESERVE_BYTES)
    figures = destination.stat()
    assert figures.st_blocks * 512 >= 4 * RESERVE_BYTES
    assert figures.st_size == 0


@pytest.mark.root
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_file_that_does_not_fit_is_refused_before_its_first_byte(
    tmp_path: Path, disk: SlowDisk, turn: Turn, kind: str
) -> None:
    with small_file_system(tmp_path, kind) as folder:
        path = folder / "file"
        sink = Sink(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), disk, turn.soon.append, 0, 0.0)
        free = os.statvfs(folder)
        room = free.f_bavail * free.f_frsize
        with pytest.raises(OSError, match="No space left") as refused:
            sink.begin(0, room + 2 * RESERVE_BYTES)
        assert f"needs {room + 2 * RESERVE_BYTES} more bytes of room, {room} bytes are free" in sink.refusal(
            refused.value, room + 2 * RESERVE_BYTES
        )
        after = os.statvfs(folder)
        assert after.f_bavail * after.f_frsize == room, "what it could get belongs to others again"
        sink.begin(0, room // 2)
        sink.close()


@contextlib.contextmanager
def small_file_system(folder: Path, kind: str) -> Iterator[Path]:
    """One with 16 MiB, which is gone afterwards."""
    mount = folder / "mount"
    mount.mkdir()
    if kind == "tmpfs":
        command: list[str | Path] = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", mount]
    else:
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(16 << 20)
        program = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin")
        assert program is not None, "e2fsprogs is not installed"
        subprocess.run([program, "-q", image], check=True)
        command = ["mount", "-o", "loop", image, mount]
    subprocess.run(command, check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


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


def is_open(path: Path) -> bool:
    """True if this process has a descriptor of the file."""
    return any(entry.exists() and entry.samefile(path) for entry in Path("/proc/self/fd").iterdir())
