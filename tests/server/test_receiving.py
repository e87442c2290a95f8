"""Bytes on their way to the disk: when syncs begin, full and failing disks (F10, F11), bodies in any pieces."""

import asyncio
import errno
import itertools
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.uploading import DISK_FULL, Desk, Pieces, answer, field, refused, story
from tests.transfer.losingdisk import losing_disk

from openbits.core.packets import ContentRange, Header
from openbits.server import receiving
from openbits.server.fragments import Append
from openbits.server.model import RefusedError
from openbits.server.receiving import Reading, SpoolFile
from openbits.server.sessions import fill


@asynccontextmanager
async def opened(descriptor: int, offset: int = 0) -> AsyncIterator[SpoolFile]:
    with ThreadPoolExecutor(2) as executor:
        file = SpoolFile(descriptor, offset, offset, executor, lambda: None)
        try:
            yield file
        finally:
            await file.settle()
            file.close()


def new(tmp_path: Path) -> int:
    return os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)


@given(
    data=st.binary(min_size=1, max_size=200),
    cuts=st.lists(st.integers(1, 40), max_size=60),
    known=st.integers(0, 199),
    piece_bytes=st.integers(1, 64),
)
@settings(max_examples=60, deadline=None)
def test_f5_f6_a_body_in_any_pieces_arrives_whole(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int], known: int, piece_bytes: int
) -> None:
    known = min(known, len(data) - 1)
    pieces: list[bytes] = []
    rest = data
    for cut in cuts:
        pieces, rest = [*pieces, rest[:cut]], rest[cut:]
    pieces = [piece for piece in (*pieces, rest) if piece]

    async def tell() -> None:
        async with opened(os.open(path, os.O_RDWR), known) as file:
            await fill(file, Append(known, len(data) - known), Reading(Pieces(*pieces)))
            assert file.offset == len(data)

    path = tmp_path_factory.mktemp("bodies") / "file"
    path.write_bytes(data[:known])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openbits.server.sessions.PIECE_BYTES", piece_bytes)
        asyncio.run(tell())
    assert path.read_bytes() == data


@story
async def test_a_body_of_a_thousand_single_bytes_is_one_that_the_kernel_takes(tmp_path: Path) -> None:
    async with opened(new(tmp_path)) as file:
        body = Pieces(*(bytes([number % 256]) for number in range(3000)))
        await fill(file, Append(0, 3000), Reading(body))
    assert (tmp_path / "file").read_bytes() == bytes(number % 256 for number in range(3000))


@story
async def test_memory_at_most_256_kib_of_a_body_wait(tmp_path: Path) -> None:
    path = tmp_path / "file"
    sizes: list[int] = []

    class Watching(Pieces):
        async def read(self) -> bytes:
            sizes.append(path.stat().st_size)
            return await super().read()

    async with opened(new(tmp_path)) as file:
        body = Watching(*(bytes(64 * 1024) for _ in range(40)))
        await fill(file, Append(0, 40 * 64 * 1024), Reading(body))
    assert all(64 * 1024 * number - size <= 256 * 1024 for number, size in enumerate(sizes))


@story
async def test_s6_a_sync_begins_by_itself_and_the_writer_never_is_64_mib_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fdatasync = os.fdatasync

    def noted(descriptor: int) -> None:
        synced.append(descriptor)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    async with opened(new(tmp_path)) as file:
        most = 0
        for _ in range(200):
            await file.append([bytes(1024 * 1024)])
            most = max(most, file.offset - file.durable)
        assert most <= 65 * 1024 * 1024
        assert len(synced) >= 2


@story
async def test_s6_few_bytes_are_synced_after_five_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert receiving.SYNC_SECONDS == 5.0
    monkeypatch.setattr(receiving, "SYNC_SECONDS", 0.05)
    told = asyncio.Event()
    with ThreadPoolExecutor(1) as executor:
        file = SpoolFile(new(tmp_path), 0, 0, executor, told.set)
        await file.append([b"0123"])
        assert (file.durable, file.is_busy) == (0, True)
        await asyncio.wait_for(told.wait(), 10)
        assert (file.durable, file.is_busy) == (4, False)
        file.close()


@story
async def test_an_idle_session_holds_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "SYNC_SECONDS", 0.05)
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, b"01", 4)
        assert desk.sessions.in_use == 1
        await asyncio.wait_for(idle(desk), 10)
        assert not any(map(is_request, os.listdir("/proc/self/fd")))  # noqa: PTH208
        await desk.send(packet, 2, b"23", 4)
        assert (desk.inbox / "a.bin").read_bytes() == b"0123"


async def idle(desk: Desk) -> None:
    while desk.sessions.in_use:  # noqa: ASYNC110  # nobody is told
        await asyncio.sleep(0.01)


def is_request(link: str) -> bool:
    try:
        return "requestfile" in os.readlink(f"/proc/self/fd/{link}")  # noqa: PTH115
    except FileNotFoundError:
        return False


@story
async def test_where_the_disk_makes_us_wait_threads_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "SLOW_SECONDS", -1.0)  # every write counts as slow,
    monkeypatch.setattr(receiving, "_waits", itertools.count().__next__)  # and as one that had to wait
    async with opened(new(tmp_path)) as file:
        for number in range(10):
            await file.append([str(number).encode()])
    assert (tmp_path / "file").read_bytes() == b"0123456789"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@story
async def test_f10_what_was_written_before_the_error_counts_and_is_on_the_disk(tmp_path: Path) -> None:
    limit = 2**30
    async with opened(new(tmp_path), limit - 1000) as file:
        with largest_file(limit), pytest.raises(OSError, match="File too large"):
            await file.append([b"x" * 600, b"y" * 600, b"z" * 600])
        assert (file.offset, file.durable, file.has_failed) == (limit, limit, False)
        await file.append([b"!"])
    with (tmp_path / "file").open("rb") as written:
        written.seek(limit - 1000)
        assert written.read() == b"x" * 600 + b"y" * 400 + b"!"


@pytest.mark.root
@story
async def test_f11_what_could_not_be_synced_does_not_count(tmp_path: Path) -> None:
    with losing_disk(tmp_path) as disk:
        async with opened(disk.lost("file", 64 * 1024)) as file:
            await file.append([bytes(32 * 1024)])
            with pytest.raises(OSError, match=r"No space left|Input/output error"):
                await file.sync()
            assert (file.offset, file.durable, file.has_failed) == (0, 0, True)
            with pytest.raises(OSError, match=r"No space left|Input/output error"):  # and nothing can be added to it
                await file.append([b"more"])
            assert file.offset == 0


def fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next sync finds the disk failing, those after it do not."""
    failures = [OSError(errno.EIO, "Input/output error")]
    fdatasync = os.fdatasync

    def sync(descriptor: int) -> None:
        if failures:
            raise failures.pop()
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)


@story
async def test_f11_a_later_success_does_not_make_lost_bytes_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch)
    async with opened(new(tmp_path)) as file:
        await file.append([b"0123"])
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                await file.sync()
            with pytest.raises(OSError, match="Input/output error"):
                await file.append([b"4567"])
            assert (file.offset, file.durable, file.has_failed) == (0, 0, True)


@story
async def test_f11_an_upload_goes_on_after_the_disk_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once(monkeypatch)
    monkeypatch.setattr(receiving, "SYNC_BYTES", 10)
    monkeypatch.setattr(receiving, "MOST_UNSYNCED_BYTES", 20)
    monkeypatch.setattr("openbits.server.sessions.PIECE_BYTES", 10)
    data = bytes(range(100))
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        pieces = Pieces(*(data[first : first + 10] for first in range(0, 100, 10)))
        first = asyncio.create_task(desk.sessions.fragment(packet, ContentRange(0, 99, 100), 100, pieces))
        await pieces.is_asked.wait()
        second = asyncio.create_task(desk.send(packet, 0, data, 100))
        refusal = await refused(first)
        assert answer(refusal) == (500, 0x8007045D, 0)  # ERROR_IO_DEVICE; what could not be synced does not count
        assert field(await second, Header.RECEIVED) == "100"
        assert (desk.inbox / "a.bin").read_bytes() == data


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def fill_up(path: Path, *, but: int = 0) -> None:
    """Leave so many bytes free."""
    with path.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            filler.truncate(max(0, filler.tell() - but))


@pytest.mark.root
@story
async def test_f10_a_disk_that_fills_up_keeps_what_it_took(small: Path) -> None:
    data = os.urandom(900_000)
    async with Desk(small) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, data[:300_000], len(data))
        fill_up(small / "filler", but=100 * 1024)
        refusal = await refused(desk.send(packet, 300_000, data[300_000:600_000], len(data)))
        assert (refusal.status, refusal.hresult) == (500, DISK_FULL)
        assert refusal.received is not None
        assert 300_000 <= refusal.received <= 300_000 + 100 * 1024
        again = await refused(desk.send(packet, refusal.received, data[refusal.received :], len(data)))
        assert (again.status, again.hresult) == (500, DISK_FULL)
        (small / "filler").unlink()
        at = again.received or 0
        assert field(await desk.send(packet, at, data[at:], len(data)), Header.RECEIVED) == str(len(data))
        assert (desk.inbox / "a.bin").read_bytes() == data


@pytest.mark.root
@story
async def test_f10_a_session_can_be_cancelled_on_a_full_disk_which_makes_room(small: Path) -> None:
    async with Desk(small) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, bytes(500_000), 600_000)
        fill_up(small / "filler")
        assert (await refused(desk.send(packet, 500_000, bytes(100_000), 600_000))).hresult == DISK_FULL
        assert (await desk.sessions.cancel(packet)).status == 200
        new_one = desk.packet(await desk.create())
        await desk.send(new_one, 0, bytes(300_000), 300_000)
        assert (desk.inbox / "a.bin").stat().st_size == 300_000


@pytest.mark.root
@story
async def test_f10_a_create_on_a_full_disk_is_refused_with_the_code_of_a_full_disk(small: Path) -> None:
    async with Desk(small) as desk:
        fill_up(small / "filler")
        codes = set()
        for _ in range(200):  # the log of the records has some room left
            try:
                await desk.create()
            except RefusedError as refusal:
                codes.add(answer(refusal))
        assert codes == {(500, DISK_FULL, None)} or not codes
        (small / "filler").unlink()
        await desk.upload("a.bin", b"0123")
        assert (desk.inbox / "a.bin").read_bytes() == b"0123"


FRAGMENTS = st.tuples(
    st.integers(0, 30), st.integers(1, 30), st.sampled_from(["whole", "gone", "restart"]), st.integers(0, 30)
)


@given(st.lists(FRAGMENTS, max_size=12))
@settings(max_examples=40, deadline=None)
def test_f5_to_f9_any_history_of_fragments_gives_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[int, int, str, int]]
) -> None:
    data = bytes(range(1, 32))
    total = len(data)

    async def tell() -> None:
        known = 0
        async with Desk(tmp_path_factory.mktemp("history")) as desk:
            packet = desk.packet(await desk.create())
            for first, length, event, kept in history:
                last = min(first + length, total) - 1
                if first > last:
                    continue
                body = data[first : last + 1]
                if first > known:
                    assert answer(await refused(desk.send(packet, first, body, total))) == (416, 0, known)
                elif event == "gone":
                    came = body[:kept]
                    with pytest.raises(ConnectionError):
                        await desk.sessions.fragment(
                            packet, ContentRange(first, last, total), len(body), Pieces(came[:-1], then="gone")
                        )
                    known = max(known, first + max(0, len(came) - 1))
                else:
                    known = max(known, last + 1)
                    assert field(await desk.send(packet, first, body, total), Header.RECEIVED) == str(known)
                if event == "restart":
                    await desk.restart()
            if known < total:
                assert list(desk.inbox.iterdir()) == []
                await desk.send(packet, known, data[known:], total)
            assert (desk.inbox / "a.bin").read_bytes() == data
            await desk.sessions.close(packet)
            assert desk.spooled == []

    asyncio.run(tell())
