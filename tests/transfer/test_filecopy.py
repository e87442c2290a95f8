"""What is peculiar to copies of files of this machine: holes, other file systems, locks, uploads, hanging disks."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.transfer.conformance import BODY, HELD_AT, FileRemote
from tests.transfer.conftest import WorkerProcess

from openbits.core import codes
from openbits.core.names import file_url
from openbits.transfer import filecopy

IMPATIENT = {"connect_seconds": 1, "first_byte_seconds": 1, "floor_bytes": 1, "floor_seconds": 1}


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[FileRemote]:
    made = FileRemote(tmp_path)
    yield made
    made.close()


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another kind of file system than that of `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def test_holes_stay_holes(worker: WorkerProcess, tmp_path: Path, destination: Path) -> None:
    """Ten terabytes, of which two pieces are there; what is durable is never beyond the end of the copy."""
    size, end = 10 * 1024**4, b"the end"
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.write(b"the beginning")
        file.truncate(size)
        file.seek(size // 2)
        file.write(b"the middle")
        file.seek(size - len(end))
        file.write(end)
    story = worker.fetch(file_url(str(source)), destination)
    assert (story.outcome, story.last["size_bytes"], destination.stat().st_size) == ("transferred", size, size)
    assert destination.stat().st_blocks * 512 < 64 * 1024 * 1024
    with destination.open("rb") as copy:
        assert copy.read(13) == b"the beginning"
        copy.seek(size // 2)
        assert copy.read(11) == b"the middle\0"
        copy.seek(size - len(end))
        assert copy.read() == end


def test_a_hole_counts_when_the_copy_is_as_long(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.touch()
    os.truncate(source, 1_000_000)
    target.touch()
    with source.open("rb") as reading, target.open("wb") as writing:
        assert filecopy.copy_piece(reading.fileno(), writing.fileno(), 0, 1_000_000) == 1_000_000
    assert target.stat().st_size == 1_000_000


@pytest.mark.parametrize("is_source", [True, False], ids=["from", "to"])
def test_another_file_system_is_copied_by_hand(
    worker: WorkerProcess, tmp_path: Path, elsewhere: Path, *, is_source: bool
) -> None:
    source, target = (elsewhere / "a", tmp_path / "b") if is_source else (tmp_path / "a", elsewhere / "b")
    source.write_bytes(BODY)
    assert source.parent.stat().st_dev != target.parent.stat().st_dev
    assert worker.fetch(file_url(str(source)), target).outcome == "transferred"
    assert target.read_bytes() == BODY


def test_a_growing_file_begins_again(remote: FileRemote, destination: Path) -> None:
    remote.put(BODY)
    worker = remote.start_worker()
    with remote.held() as release:
        key = worker.start(remote.url, destination)
        worker.wait_for(key, "progressed", until=lambda news: news["transferred_bytes"] >= HELD_AT)
        with (destination.parent / "remote file").open("ab") as log:
            log.write(b"one more line")
        release()
    story = worker.story(key)
    assert story.outcome == "restarted"
    assert f"the file changed ({len(BODY)} bytes" in story.last["reason"]
    worker.close()


# -- uploads


def test_an_upload_whose_source_changes_is_over(remote: FileRemote, destination: Path) -> None:
    """jobs.md §9.3: BG_E_LOCAL_FILE_CHANGED."""
    remote.put(BODY)
    worker = remote.start_worker()
    worker.is_upload = True
    with remote.held() as release:
        key = worker.start(remote.url, destination)
        worker.wait_for(key, "progressed", until=lambda news: news["transferred_bytes"] >= HELD_AT)
        remote.put(BODY)
        release()
    story = worker.story(key)
    assert (story.hresult, story.last["context"]) == (codes.BG_E_LOCAL_FILE_CHANGED, "local_file")
    assert destination.read_bytes()[: story.last["durable_bytes"]] == BODY[: story.last["durable_bytes"]]
    worker.close()


@pytest.mark.parametrize("offset", [0, HELD_AT])
def test_an_upload_whose_source_has_changed_since_does_not_begin(
    worker: WorkerProcess, remote: FileRemote, destination: Path, offset: int
) -> None:
    known = remote.put(BODY)
    destination.write_bytes(BODY[:offset])
    remote.put(BODY)
    worker.is_upload = True
    try:
        story = worker.story(worker.start(remote.url, destination, offset, **known))
    finally:
        worker.is_upload = False
    assert story.hresult == codes.BG_E_LOCAL_FILE_CHANGED
    assert destination.read_bytes() == BODY[:offset]


@pytest.mark.root
def test_the_full_disk_of_an_upload_is_the_remote_one(
    worker: WorkerProcess, remote: FileRemote, tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    remote.put(BODY)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    worker.is_upload = True
    try:
        story = worker.story(worker.start(remote.url, folder / "file"))
    finally:
        worker.is_upload = False
        subprocess.run(["umount", "--lazy", folder], check=True)  # its thread closes it a moment later
    assert (story.hresult, story.last["context"]) == (codes.ERROR_DISK_FULL, "remote_file")


# -- what cannot be called back


def test_a_file_system_that_hangs_holds_up_nobody_else(remote: FileRemote, destination: Path) -> None:
    """The attempt fails, others go on, and no late piece gets into the next attempt: that waits for its turn."""
    remote.put(BODY)
    worker = remote.start_worker(limits=IMPATIENT)
    with remote.held() as release:
        story = worker.story(worker.start(remote.url, destination))
        assert (story.hresult, story.last["context"]) == (codes.ERROR_WINHTTP_TIMEOUT, "remote_file")
        other = destination.with_name("other")
        other.write_bytes(b"another file")
        assert worker.fetch(file_url(str(other)), destination.with_name("copy")).outcome == "transferred"
        again = worker.story(worker.start(remote.url, destination))
        assert (again.hresult, again.last["context"]) == (codes.ERROR_SHARING_VIOLATION, "local_file")
        remote.put(BODY[::-1])
        key = worker.start(remote.url, destination)
        release()
        assert worker.story(key).outcome == "transferred"
    assert destination.read_bytes() == BODY[::-1]
    worker.close()


def test_a_lock_of_somebody_else_is_waited_for(worker: WorkerProcess, remote: FileRemote, destination: Path) -> None:
    remote.put(BODY)
    with destination.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        key = worker.start(remote.url, destination)
        worker.wait_for(key, "phase")
    assert worker.story(key).outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_an_order_without_a_source_is_a_broken_manager(
    start_worker: Callable[..., WorkerProcess], monkeypatch: pytest.MonkeyPatch, destination: Path
) -> None:
    process = start_worker()
    monkeypatch.setattr("tests.transfer.conftest.path_of", lambda _url: None)
    process.start(file_url("/etc/hostname"), destination)
    assert process.process.wait(10) == 0
