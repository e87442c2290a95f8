"""Many files of one job: their order, how many at a time, and that one of them fails in its turn (jobs.md S7, §3.1)."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site, run_as
from tests.real.stories import Job, cancel_all, create, descriptors, names, real_user, running_service

from openbits.core.errors import BitsError

pytestmark = pytest.mark.root

Eventually = Callable[..., Any]

NOT_FOUND = 0x80190194
BODY = secrets.token_bytes(100_000)
SMALL = secrets.token_bytes(2_000)


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    yield running
    cancel_all(running)


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: Any) -> Path:
    return private_folder(owner)


def put(site: Site, folder: Path, count: int, body: bytes = BODY) -> list[tuple[str, Path]]:
    """So many files on the server, and where each goes."""
    return [(site.put(f"/{number}", body), folder / f"{number}") for number in range(count)]


def fetched(site: Site) -> list[str]:
    """What was asked for with GET, in order."""
    return [seen.path for seen in site.seen if seen.method == "GET"]


def are_done(job: Job) -> list[bool]:
    return [file["is_transferred"] for file in job.files()]


def test_one_after_the_other_although_the_next_one_is_prepared(
    service: Service, owner: Any, site: Site, folder: Path, eventually: Eventually
) -> None:
    """S7: no byte of a file is asked for before the last byte of the one before it has come."""
    pairs = put(site, folder, 3)
    gates = [site.gate(f"/{number}", 50_000) for number in range(3)]
    job = create(service, owner, pairs)
    for number, gate in enumerate(gates):
        eventually(lambda: fetched(site) == [f"/{each}" for each in range(number + 1)])  # noqa: B023  # asked at once
        job.receives(100_000 * number + 50_000)
        assert len(names(folder)) >= min(number + 2, 3)  # the next one has its temporary file
        assert fetched(site) == [f"/{each}" for each in range(number + 1)]
        gate.set()
    job.reaches("transferred")
    assert job.complete() == 0
    assert [(folder / f"{number}").read_bytes() for number in range(3)] == [BODY] * 3
    assert names(folder) == ["0", "1", "2"]


def test_as_many_at_a_time_as_the_job_says_in_its_order(
    service: Service, owner: Any, site: Site, folder: Path, eventually: Eventually
) -> None:
    pairs = put(site, folder, 6)
    gates = [site.gate(f"/{number}", 50_000) for number in range(6)]
    job = create(service, owner, pairs, parallel_files=3)
    eventually(lambda: sorted(fetched(site)) == ["/0", "/1", "/2"])
    job.receives(150_000)
    assert job.info()["bytes_transferred"] == 150_000
    gates[1].set()
    eventually(lambda: sorted(fetched(site)) == ["/0", "/1", "/2", "/3"])
    eventually(lambda: are_done(job) == [False, True, False, False, False, False])
    assert job.info()["files_transferred"] == 1
    for gate in gates:
        gate.set()
    job.reaches("transferred")
    assert job.complete() == 0
    assert names(folder) == ["0", "1", "2", "3", "4", "5"]


def test_more_at_a_time_hold_for_the_next_file(
    service: Service, owner: Any, site: Site, folder: Path, eventually: Eventually
) -> None:
    pairs = put(site, folder, 4)
    gates = [site.gate(f"/{number}", 50_000) for number in range(4)]
    job = create(service, owner, pairs)
    job.receives(50_000)
    job.set(parallel_files=3)
    gates[0].set()
    eventually(lambda: sorted(fetched(site)) == ["/0", "/1", "/2", "/3"])
    for gate in gates:
        gate.set()
    job.reaches("transferred")


def test_a_file_that_fails_stops_the_job_and_the_bytes_of_the_others_count(
    service: Service, owner: Any, site: Site, folder: Path
) -> None:
    pairs = put(site, folder, 4)
    held = site.gate("/0", 50_000)
    late = site.gate("/1", 0)
    job = create(
        service, owner, [*pairs[:2], (f"{site.url}/missing", folder / "missing"), *pairs[2:]], parallel_files=2
    )
    job.saves(50_000)
    late.set()
    info = job.reaches("error")
    assert (job.code[1], job.error["file_index"]) == (NOT_FOUND, 2)
    assert are_done(job) == [False, True, False, False, False]
    assert info["bytes_transferred"] >= 150_000
    assert "/2" not in fetched(site)
    held.set()


def test_the_files_before_one_that_cannot_be_made_are_transferred_first(
    service: Service, owner: Any, site: Site, folder: Path
) -> None:
    """What fails while it is prepared fails in its turn."""
    pairs = put(site, folder, 3)
    gone = folder / "gone"
    run_as(owner, gone.mkdir)
    job = create(service, owner, [*pairs, (site.put("/last", BODY), gone / "last")], is_resumed=False, parallel_files=8)
    gone.rmdir()
    job.resume()
    job.reaches("error", "transient_error")
    assert are_done(job) == [True, True, True, False]
    assert job.error["file_index"] == 3


def test_two_hundred_small_files_arrive_whole_and_their_ends_share_steps(
    service: Service, owner: Any, site: Site, folder: Path
) -> None:
    count = 200
    bodies = [secrets.token_bytes(1_000 + number) for number in range(count)]
    pairs = [(site.put(f"/{number}", body), folder / f"{number:03}") for number, body in enumerate(bodies)]
    job = create(service, owner, pairs, parallel_files=8)
    job.reaches("transferred", seconds=60)
    assert job.info()["files_transferred"] == count
    assert job.complete() == 0
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == bodies
    assert {path.stat().st_uid for path in folder.iterdir()} == {owner.uid}
    assert sorted(fetched(site)) == sorted(f"/{number}" for number in range(count))


def test_of_many_files_the_one_that_cannot_be_made_is_named_and_none_is_added(
    service: Service, owner: Any, site: Site, folder: Path
) -> None:
    other = folder / "other"
    run_as(owner, other.mkdir)
    url = site.put("/file", SMALL)
    pairs = [(url, (folder if number % 40 else other) / f"{number:03}") for number in range(200)]
    job = create(service, owner, pairs, is_resumed=False)
    added = [(file["remote_name"], file["local_name"]) for file in job.files()]
    assert added == [(url, str(path)) for _, path in pairs], "all of them, in their order"
    bad = [*((url, folder / f"new-{number}") for number in range(100)), (url, other)]

    def add() -> tuple[str, int]:
        with service.client() as client:
            job = client.create_job("all or nothing")
            try:
                job.add_files(bad)
            except BitsError as error:
                return str(error), len(job.files())
        return "", len(bad)

    words, count = run_as(owner, add)
    assert (str(other) in words, "it is a directory" in words, count) == (True, True, 0)


def test_a_stopped_job_keeps_what_was_transferred_and_fetches_the_rest(
    service: Service, owner: Any, site: Site, folder: Path, eventually: Eventually
) -> None:
    pairs = put(site, folder, 30, SMALL)
    gate = site.gate("/20", 1_000)
    job = create(service, owner, pairs, parallel_files=2)
    eventually(lambda: job.info()["files_transferred"] >= 20)
    job.suspend()
    before = fetched(site)
    done = {f"/{number}" for number, is_done in enumerate(are_done(job)) if is_done}
    gate.set()
    job.resume()
    job.reaches("transferred")
    assert done.isdisjoint(fetched(site)[len(before) :])
    assert job.complete() == 0
    assert len(names(folder)) == 30


def test_cancel_leaves_nothing_of_what_was_prepared(
    service: Service, owner: Any, site: Site, folder: Path, eventually: Eventually
) -> None:
    pairs = put(site, folder, 100, SMALL)
    gate = site.gate("/40", 1_000)
    job = create(service, owner, pairs)
    eventually(lambda: job.info()["files_transferred"] == 40)
    eventually(lambda: len(names(folder)) > 50)
    assert job.cancel() == 0
    assert names(folder) == []
    gate.set()


def test_a_file_that_changes_keeps_its_turn(service: Service, owner: Any, site: Site, folder: Path) -> None:
    """The next file waits until the one that has to begin again is there, whole and of one version."""
    pairs = put(site, folder, 2)
    gate = site.gate("/0", 50_000)
    job = create(service, owner, pairs)
    job.saves(50_000)
    job.suspend()
    other = bytes(reversed(BODY))
    site.put("/0", other)
    gate.set()
    job.resume()
    job.reaches("transferred")
    asked = fetched(site)
    assert asked[-1] == "/1"
    assert "/1" not in asked[:-1]
    assert job.complete() == 0
    assert (folder / "0").read_bytes() == other


def test_what_is_prepared_ahead_is_bounded(
    service: Service, owner: Any, site: Site, folder: Path, eventually: Eventually
) -> None:
    """P10: the current file and 64 more, whatever the number of files."""
    pairs = put(site, folder, 200, SMALL)
    gate = site.gate("/100", 1_000)
    job = create(service, owner, pairs, parallel_files=1)
    eventually(lambda: job.info()["files_transferred"] == 100, 30)
    with service.client() as client:
        pids = client.info["process_ids"]
    worker = next(pid for name, pid in pids.items() if name == f"worker:{owner.uid}")
    eventually(lambda: 100 + 32 < len(names(folder)) <= 100 + 1 + 64)
    assert descriptors(worker) < 100
    gate.set()
    job.cancel()


# -- HIGH_PERFORMANCE (jobs.md §13) -----------------------------------------------------------------------------------


def test_a_file_is_written_straight_into_its_destination_and_complete_is_still_needed(
    service: Service, owner: Any, site: Site, folder: Path
) -> None:
    pairs = put(site, folder, 2)
    gate = site.gate("/1", 50_000)
    job = create(service, owner, pairs, high_performance=True)
    job.receives(150_000)
    assert names(folder) == ["0", "1"]
    assert ((folder / "0").read_bytes(), (folder / "1").read_bytes()) == (BODY, BODY[:50_000])
    assert (folder / "1").stat().st_mode & 0o777 == 0o600
    gate.set()
    job.reaches("transferred")
    assert [file["is_published"] for file in job.files()] == [False, False]
    assert job.complete() == 0
    assert [(folder / f"{number}").stat().st_mode & 0o777 for number in range(2)] == [0o644, 0o644]
    assert (folder / "1").read_bytes() == BODY


def test_cancel_leaves_what_was_written_straight_into_the_destination(
    service: Service, owner: Any, site: Site, folder: Path
) -> None:
    pairs = put(site, folder, 1)
    gate = site.gate("/0", 50_000)
    job = create(service, owner, pairs, high_performance=True)
    job.receives(50_000)
    assert job.cancel() == 0
    assert names(folder) == ["0"]
    assert (folder / "0").read_bytes() == BODY[:50_000]
    gate.set()


def test_what_has_the_name_is_replaced_and_a_symlink_is_not_followed(
    service: Service, owner: Any, site: Site, folder: Path
) -> None:
    pairs = put(site, folder, 2)
    (folder / "victim").write_bytes(b"precious")
    (folder / "0").symlink_to("victim")
    (folder / "1").write_bytes(b"old")
    job = create(service, owner, pairs, high_performance=True)
    job.reaches("transferred")
    assert job.complete() == 0
    assert not (folder / "0").is_symlink()
    assert [(folder / name).read_bytes() for name in ("0", "1", "victim")] == [BODY, BODY, b"precious"]


def test_a_file_that_somebody_put_in_its_place_meanwhile_is_not_written_to(
    service: Service, owner: Any, site: Site, folder: Path
) -> None:
    """P4: what is opened again is the file that was made, or the file begins again in a new one."""
    pairs = put(site, folder, 1)
    gate = site.gate("/0", 50_000)
    job = create(service, owner, pairs, high_performance=True)
    job.receives(50_000)
    job.suspend()
    (folder / "0").rename(folder / "away")
    (folder / "0").write_bytes(b"of somebody else")
    os.link(folder / "0", folder / "kept")
    gate.set()
    job.resume()
    job.reaches("transferred")
    assert job.complete() == 0
    assert (folder / "0").read_bytes() == BODY
    assert (folder / "kept").read_bytes() == b"of somebody else"
