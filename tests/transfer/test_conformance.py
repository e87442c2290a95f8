"""One suite for all transports (design.md §6): resume at any byte, changed file, short body, wrong length, cancel at
any moment, disk full, throttle, progress, durability. That a token is lost is a matter of the whole service
(tests/real).
"""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.transfer.conformance import BODY, DYING, HELD_AT, MEANINGLESS, OTHER, REMOTES, Remote, told_until_death
from tests.transfer.conftest import Story, WorkerProcess

from openbits import channel
from openbits.core import codes

Eventually = Callable[[Callable[[], object]], object]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test for every transport, but for what has no meaning for uploads."""
    if "remote" in metafunc.fixturenames:
        without = {"upload"} if metafunc.function.__name__ in MEANINGLESS else set()
        metafunc.parametrize("remote", [name for name in REMOTES if name not in without], indirect=True)


@pytest.fixture
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    """Each transport with what is at its other end."""
    made: Remote = REMOTES[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def holding(remote: Remote) -> Iterator[WorkerProcess]:
    """A worker that can be held."""
    process = remote.start_worker()
    yield process
    process.close()


@pytest.fixture
def worker(remote: Remote) -> Iterator[WorkerProcess]:
    """A worker that nothing holds."""
    process = remote.drive(**remote.options)
    yield process
    process.close()


def moved(worker: WorkerProcess, key: str, size: int = HELD_AT) -> None:
    """Wait until so many bytes of a transfer are there."""
    worker.wait_for(key, "progressed", until=lambda news: news["transferred_bytes"] >= size)


def test_a_whole_file(remote: Remote, worker: WorkerProcess, destination: Path) -> None:
    known = remote.put(BODY)
    story = worker.fetch(remote.url, destination)
    assert destination.read_bytes() == BODY
    assert (story.outcome, story.last["size_bytes"]) == ("transferred", len(BODY))
    assert [news["event"] for news in story.told("connected", "transferred", "failed", "restarted")] == [
        "connected",
        "transferred",
    ]
    assert story.connected["offset"] == 0
    assert {name: story.connected[name] for name in known} == known


def test_an_empty_file(remote: Remote, worker: WorkerProcess, destination: Path) -> None:
    destination.write_bytes(b"older and longer")
    remote.put(b"")
    story = worker.fetch(remote.url, destination)
    assert (story.outcome, story.last["size_bytes"], destination.read_bytes()) == ("transferred", 0, b"")


@pytest.mark.parametrize("offset", [1, HELD_AT - 1, HELD_AT, HELD_AT + 1, len(BODY) - 1, len(BODY)])
def test_a_transfer_goes_on_at_any_byte_and_touches_none_before(
    remote: Remote, worker: WorkerProcess, destination: Path, offset: int
) -> None:
    known = remote.put(BODY)
    destination.write_bytes(b"x" * offset + b"bytes that do not count")
    story = worker.fetch(remote.url, destination, offset, **known)
    assert destination.read_bytes() == b"x" * offset + BODY[offset:]
    assert (story.outcome, story.connected["offset"]) == ("transferred", offset)


def test_another_version_begins_again_after_the_row_has_forgotten_the_bytes(
    remote: Remote, worker: WorkerProcess, destination: Path
) -> None:
    known = remote.put(BODY)
    destination.write_bytes(BODY[:HELD_AT])
    remote.put(OTHER)
    story = worker.story(worker.start(remote.url, destination, HELD_AT, **known))
    assert story.outcome == "restarted"
    assert destination.read_bytes() == BODY[:HELD_AT], "bytes that the row counts were cut"
    assert worker.fetch(remote.url, destination).outcome == "transferred"
    assert destination.read_bytes() == OTHER


def test_a_version_of_the_same_size_is_another_one_too(
    remote: Remote, worker: WorkerProcess, destination: Path
) -> None:
    known = remote.put(BODY)
    destination.write_bytes(BODY[:HELD_AT])
    remote.put(BODY[::-1])
    assert worker.story(worker.start(remote.url, destination, HELD_AT, **known)).outcome == "restarted"


def test_a_file_that_changes_meanwhile_is_never_a_mix(
    remote: Remote, holding: WorkerProcess, destination: Path
) -> None:
    remote.put(BODY)
    with remote.held() as release:
        key = holding.start(remote.url, destination)
        moved(holding, key)
        remote.put(OTHER)
        release()
    story = holding.story(key)
    if story.outcome == "restarted":
        story = holding.fetch(remote.url, destination)
    assert story.outcome == "transferred"
    assert destination.read_bytes() in {BODY, OTHER}
    assert story.last["size_bytes"] == destination.stat().st_size


def test_a_body_that_ends_too_early_is_no_success(remote: Remote, holding: WorkerProcess, destination: Path) -> None:
    known = remote.put(BODY)
    with remote.held() as release:
        key = holding.start(remote.url, destination)
        moved(holding, key)
        remote.cut(release)
    story = holding.story(key)
    if remote.short is None:
        assert story.outcome == "restarted"
        durable = 0
    else:
        assert story.hresult == remote.short
        durable = story.last["durable_bytes"]
        assert destination.read_bytes()[:durable] == BODY[:durable]
    remote.mend()
    assert holding.fetch(remote.url, destination, durable, **(known if durable else {})).outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_a_size_that_is_wrong_is_no_success(remote: Remote, worker: WorkerProcess, destination: Path) -> None:
    url, hresult = remote.lie()
    assert worker.fetch(url, destination).hresult == hresult


@pytest.mark.parametrize("moment", ["at once", "connected", "moving", "ended"])
def test_a_transfer_may_be_cancelled_at_any_moment(
    remote: Remote, holding: WorkerProcess, destination: Path, eventually: Eventually, moment: str
) -> None:
    remote.put(b"small")
    holding.fetch(remote.url, destination)
    before = holding.descriptors()
    remote.put(BODY)
    with remote.held() as release:
        key = holding.start(remote.url, destination)
        if moment == "connected":
            holding.wait_for(key, "connected")
        elif moment == "moving":
            moved(holding, key)
        elif moment == "ended":
            release()
            holding.wait_for(key, "transferred")
        holding.cancel(key)
        assert holding.fetch("http://127.0.0.1:1/", destination.with_name("other")).outcome == "failed"
        marker = holding.start("http://127.0.0.1:1/", destination.with_name("other"))
        late: list[channel.Message] = []
        while (news := holding.next_news())["transfer"] != marker or news["event"] != "failed":
            late.append(news)
        assert not [news for news in late if news["transfer"] == key]
    eventually(lambda: holding.descriptors() <= before + 1)  # one connection may be kept
    remote.mend()
    assert holding.fetch(remote.url, destination).outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_the_worker_ends_at_once_when_nobody_drives_it_any_more(
    remote: Remote, holding: WorkerProcess, destination: Path
) -> None:
    remote.put(BODY)
    with remote.held():
        key = holding.start(remote.url, destination)
        moved(holding, key)
        holding.channel.shutdown(socket.SHUT_RDWR)
        assert holding.process.wait(5) == 0


def test_progress_only_grows_and_what_is_durable_lags_behind(
    remote: Remote, holding: WorkerProcess, destination: Path
) -> None:
    remote.put(BODY)
    with remote.held() as release:
        key = holding.start(remote.url, destination)
        moved(holding, key)
        holding.wait_for(key, "progressed", until=lambda news: news["durable_bytes"] >= HELD_AT)
        release()
    progress = [(news["transferred_bytes"], news["durable_bytes"]) for news in holding.story(key).told("progressed")]
    assert progress == sorted(progress)
    assert all(durable <= transferred <= len(BODY) for transferred, durable in progress)


def test_the_limit_of_its_job_is_kept_by_what_comes_over_a_network(
    remote: Remote, worker: WorkerProcess, destination: Path
) -> None:
    remote.put(BODY)
    worker.rate_bytes_per_second = 2 * len(BODY)
    began = time.monotonic()
    assert worker.fetch(remote.url, destination).outcome == "transferred"
    seconds = time.monotonic() - began
    assert destination.read_bytes() == BODY
    if remote.is_limited:
        assert seconds >= 0.45


def test_nothing_counts_before_it_is_on_the_disk(remote: Remote, destination: Path) -> None:
    """A worker that dies where it would sync has told of no durable byte, and not that the file is there."""
    remote.put(BODY)
    process = remote.start_worker(program=DYING)
    process.start(remote.url, destination)
    told = told_until_death(process)
    assert "transferred" not in {news["event"] for news in told}
    assert {news["durable_bytes"] for news in told if news["event"] == "progressed"} <= {0}


@pytest.mark.root
def test_a_full_disk_is_transient_says_what_is_missing_and_keeps_what_it_has(
    remote: Remote, worker: WorkerProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    known = remote.put(BODY)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", folder], check=True)
    try:
        story: Story = worker.fetch(remote.url, folder / "file")
        assert (story.hresult, story.last["context"]) == (codes.ERROR_DISK_FULL, "local_file")
        durable = story.last["durable_bytes"]
        assert 0 <= durable <= 5 * 1024 * 1024, "who knows the size may have refused it before the first byte"
        assert f"needs {len(BODY) - durable} more bytes of room, " in story.detail
        subprocess.run(["mount", "-o", "remount,size=50m", folder], check=True)
        assert worker.fetch(remote.url, folder / "file", durable, **known).outcome == "transferred"
        assert (folder / "file").read_bytes() == BODY
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_descriptor_that_cannot_be_written_is_a_local_failure(
    remote: Remote, worker: WorkerProcess, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.put(BODY)
    destination.touch()
    openings = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *mode: openings(path, flags & ~os.O_WRONLY, *mode))
    story = worker.story(worker.start(remote.url, destination))
    assert story.last["context"] == "local_file"
    assert destination.stat().st_size == 0


def test_what_has_no_meaning_is_a_test_of_the_others() -> None:
    assert set(MEANINGLESS) <= set(globals())
