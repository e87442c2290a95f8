"""Syncs on helper threads: one by one, and together where that is cheaper."""

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.transfer.losingdisk import losing_disk

from openbits.transfer import filesystems, syncing
from openbits.transfer.loop import Loop
from openbits.transfer.syncing import Costs, ThreadSyncer, Waiting

DEADLINE_SECONDS = 20


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    made.call_at(made.now() + DEADLINE_SECONDS, lambda: pytest.fail("the syncs did not come back"))
    yield made
    made.close()


class Files:
    """Files that are synced; the loop stops with the last."""

    def __init__(self, folder: Path, loop: Loop) -> None:
        self.results: list[OSError | None] = []
        self._folder = folder
        self._loop = loop
        self._left = 0

    def submit(self, syncer: ThreadSyncer, count: int) -> None:
        for _ in range(count):
            self._left += 1
            descriptor = os.open(self._folder / str(self._left), os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(descriptor, b"abc")
            syncer.submit(descriptor, self._done(descriptor))

    def _done(self, descriptor: int) -> Callable[[OSError | None], None]:
        def done(error: OSError | None) -> None:
            assert threading.current_thread() is threading.main_thread(), "in the thread of the loop"
            os.close(descriptor)
            self.results.append(error)
            self._left -= 1
            if self._left == 0:
                self._loop.stop()

        return done


class Disk:
    """A disk that does nothing before it is let, and counts what it is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refuses: bool = False) -> None:
        self.asked = threading.Semaphore(0)
        self.may_go = threading.Event()
        self.calls: list[str] = []
        self._refuses = refuses
        monkeypatch.setattr(os, "fdatasync", self._one)
        monkeypatch.setattr(filesystems, "sync_all", self._all)
        monkeypatch.setattr(filesystems, "is_synced_as_one", lambda _descriptor: True)

    def _one(self, _descriptor: int) -> None:
        self.calls.append("one")
        self.asked.release()
        assert self.may_go.wait(DEADLINE_SECONDS)

    def _all(self, _descriptor: int) -> None:
        self.calls.append("all")
        if self._refuses:
            raise OSError(errno.EIO, "somebody's file could not be written")


@pytest.mark.parametrize("count", [1, 10, 300])
def test_each_file_is_told_once(tmp_path: Path, loop: Loop, count: int) -> None:
    files = Files(tmp_path, loop)
    files.submit(ThreadSyncer(loop), count)
    loop.run()
    assert files.results == [None] * count


@pytest.mark.parametrize("refuses", [False, True])
def test_files_that_come_during_a_sync_are_synced_together_or_each_if_that_is_refused(
    tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch, *, refuses: bool
) -> None:
    monkeypatch.setattr(syncing, "GATHER_SECONDS", 0.0)  # a sync may last much longer
    disk = Disk(monkeypatch, refuses=refuses)
    syncer, files = ThreadSyncer(loop), Files(tmp_path, loop)
    files.submit(syncer, 1)
    assert disk.asked.acquire(timeout=DEADLINE_SECONDS)
    files.submit(syncer, 100)
    disk.may_go.set()
    loop.run()
    assert files.results == [None] * 101
    assert disk.calls == (["one", "all", *["one"] * 100] if refuses else ["one", "all"])


def test_after_a_sync_the_next_one_waits_a_moment_for_more_files(
    tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = loop.now()
    monkeypatch.setattr(loop, "now", lambda: now)
    disk = Disk(monkeypatch)
    disk.may_go.set()
    syncer, files = ThreadSyncer(loop), Files(tmp_path, loop)
    first = os.open(tmp_path / "first", os.O_WRONLY | os.O_CREAT, 0o600)

    def first_is_synced(_error: OSError | None) -> None:
        nonlocal now
        files.submit(syncer, 2)
        now += syncing.GATHER_SECONDS

    syncer.submit(first, first_is_synced)
    loop.run()
    os.close(first)
    assert disk.calls == ["one", "all"], "nobody began with the first of the two"


def test_a_disk_that_hangs_does_not_hold_up_files_on_others(
    tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    syncer, files = ThreadSyncer(loop), Files(tmp_path, loop)
    files.submit(syncer, 3)
    assert disk.asked.acquire(timeout=DEADLINE_SECONDS)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)
    elsewhere = os.memfd_create("of another file system")
    syncer.submit(elsewhere, lambda _error: loop.stop())
    loop.run()
    assert files.results == [], "they still wait"
    disk.may_go.set()
    os.close(elsewhere)


def test_a_file_that_cannot_be_synced_is_told(loop: Loop) -> None:
    reading, writing = os.pipe()  # fdatasync of a pipe: EINVAL
    results: list[OSError | None] = []

    def done(error: OSError | None) -> None:
        results.append(error)
        loop.stop()

    ThreadSyncer(loop).submit(writing, done)
    loop.run()
    os.close(reading)
    os.close(writing)
    assert [error.errno for error in results if error is not None] == [errno.EINVAL]


@pytest.mark.root
@pytest.mark.real("mkfs.ext4")
def test_what_was_lost_before_the_others_were_opened_is_told_of_the_file_that_lost_it(
    tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel writes files by itself, too; a sync of all that is asked through a newer file says nothing of it."""
    asked, may_go, results = threading.Event(), threading.Event(), dict[str, OSError | None]()

    def one(_descriptor: int) -> None:
        asked.set()
        assert may_go.wait(DEADLINE_SECONDS)

    def done(name: str) -> Callable[[OSError | None], None]:
        def note(error: OSError | None) -> None:
            results[name] = error
            if len(results) == 3:
                loop.stop()

        return note

    monkeypatch.setattr(os, "fdatasync", one)
    with losing_disk(tmp_path) as disk, contextlib.ExitStack() as ending:
        lost = disk.lost("lost", 1_000_000)
        folder = os.open(disk.folder, os.O_RDONLY)
        os.write(lost, bytes(1_000_000))
        with pytest.raises(OSError, match="No space left"):
            filesystems.sync_all(folder)
        first, newer = (os.open(disk.folder / name, os.O_WRONLY | os.O_CREAT) for name in ("first", "newer"))
        for descriptor in (lost, folder, first, newer):
            ending.callback(os.close, descriptor)
        syncer = ThreadSyncer(loop)
        syncer.submit(first, done("first"))
        assert asked.wait(DEADLINE_SECONDS)
        syncer.submit(newer, done("newer"))
        syncer.submit(lost, done("lost"))
        may_go.set()
        loop.run()
    assert results["newer"] is None
    assert results["lost"] is not None, "its data are not on the disk"


def test_the_file_system_is_synced_where_that_was_cheaper() -> None:
    costs = Costs()
    assert not costs.together(1, 100.0), "one is one"
    assert costs.together(2, 100.0), "a first try"
    costs.one_took(0.010)
    costs.all_took(0.050, 100.0)
    assert not costs.together(5, 101.0)
    assert costs.together(6, 101.0)


def test_a_costly_sync_of_all_counts_at_once_and_is_tried_again_later() -> None:
    costs = Costs()
    costs.one_took(0.010)
    costs.all_took(0.010, 100.0)
    costs.all_took(5.0, 101.0)
    assert not costs.together(256, 102.0)
    assert costs.together(256, 101.0 + Costs.RETRY_SECONDS + 1)


@pytest.mark.parametrize(("cost_of_all", "taken"), [(0.1, 1), (0.001, 3)])
def test_files_that_wait_are_taken_together_only_where_that_is_cheaper(cost_of_all: float, taken: int) -> None:
    costs = Costs()
    costs.one_took(0.010)
    costs.all_took(cost_of_all, 100.0)
    disk = syncing.Disk(costs)
    disk.waiting.extend(Waiting(number, lambda _error: None) for number in range(3))
    assert [waiting.descriptor for waiting in disk.take(101.0)] == list(range(taken))


def test_files_in_memory_are_never_synced_all_together() -> None:
    descriptor = os.memfd_create("somewhere")
    assert not filesystems.is_synced_as_one(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("release", "is_good"), [("5.7.19", False), ("5.8.0-1-amd64", True), ("6.1", True), ("4.19", False)]
)
def test_old_kernels_say_nothing_of_lost_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, *, is_good: bool
) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    if filesystems.kind_of(descriptor) != 0xEF53:
        pytest.skip("needs a temporary folder on ext4")
    names = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((names[0], names[1], release, names[3], names[4])))
    assert filesystems.is_synced_as_one(descriptor) is is_good
    os.close(descriptor)
