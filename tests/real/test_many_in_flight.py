"""Many files of one job in the middle when something happens to all of them (reliability.md P2, P3, P6, P7, P12)."""

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site, run_as
from tests.real.stories import Job, cancel_all, create, names, real_user, running_service
from tests.real.test_faults_disk import DISK_FULL, disk, remount

from openbits import TokenFlags

pytestmark = pytest.mark.root

BG_E_TOKEN_REQUIRED = 0x80200056

COUNT = 8
HALF = 50_000
BODIES = [secrets.token_bytes(2 * HALF + number) for number in range(COUNT)]


class Flight:
    """A job of which so many files move at a time; each has half of its bytes on the disk."""

    def __init__(self, service: Service, site: Site, folder: Path) -> None:
        self.service, self.site, self.folder = service, site, folder
        self.pairs = [(site.put(f"/{number}", body), folder / f"{number}") for number, body in enumerate(BODIES)]
        self.gates = [site.gate(f"/{number}", HALF) for number in range(COUNT)]
        self.job: Job

    def begin(self, owner: Any) -> None:
        self.job = create(self.service, owner, self.pairs, parallel_files=COUNT)
        self.is_half_way()

    def is_half_way(self) -> None:
        self.job.saves(COUNT * HALF)

    def makers(self) -> list[int]:
        """Uids of the temporary files, of which there is one for each file."""
        found = [path.stat().st_uid for path in self.folder.iterdir() if path.name.startswith(".BIT")]
        assert len(found) == COUNT
        return sorted(set(found))

    def ends_well(self, uid: int) -> None:
        """Each file went on at the byte that it had reached, and all belong to `uid`."""
        for gate in self.gates:
            gate.set()
        self.job.reaches("transferred", seconds=30)
        assert [self.site.offsets(f"/{number}") for number in range(COUNT)] == [[0, HALF]] * COUNT
        self.job.complete()
        published = [self.folder / f"{number}" for number in range(COUNT)]
        assert [path.read_bytes() for path in published] == BODIES
        assert {path.stat().st_uid for path in published} == {uid}


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture
def service(running: Service, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Ends the jobs of a test while its folder is still there."""
    request.getfixturevalue("open_tmp_path")
    yield running
    cancel_all(running)


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: Any) -> Path:
    return private_folder(owner)


@pytest.fixture
def shared(open_tmp_path: Path) -> Path:
    """A folder in which everybody may make files."""
    folder = open_tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.mark.parametrize("what", ["suspend", "worker", "broker", "manager", "spawner"])
def test_each_file_goes_on_at_its_byte(service: Service, site: Site, owner: Any, folder: Path, what: str) -> None:
    """Whether the job is stopped in order, or a program dies."""
    flight = Flight(service, site, folder)
    flight.begin(owner)
    assert flight.makers() == [owner.uid]
    if what == "suspend":
        flight.job.suspend()
        flight.job.resume()
    elif what == "broker":
        service.kill("broker")
        service.kill("worker")
    else:
        service.kill(what)
    if service.has_ended():
        service.start()
    service.wait_until_it_answers()
    flight.ends_well(owner.uid)
    assert names(folder) == sorted(f"{number}" for number in range(COUNT)), "nothing is left behind"


def test_a_new_owner_goes_on_in_copies_of_all_of_them(
    service: Service, site: Site, owner: Any, shared: Path, eventually: Callable[..., Any]
) -> None:
    flight = Flight(service, site, shared)
    flight.begin(owner)
    with service.client() as client:
        client.job(flight.job.id).take_ownership()
        client.job(flight.job.id).resume()
    flight.ends_well(0)
    eventually(lambda: len(names(shared)) == COUNT)


def test_the_end_of_a_token_stops_them_all_and_the_owner_goes_on(
    service: Service, site: Site, owner: Any, shared: Path
) -> None:
    flight = Flight(service, site, shared)
    with real_user() as helper, service.client() as client, client.logon_user(helper.name, None) as token:
        flight.job = create(service, owner, flight.pairs, is_resumed=False, parallel_files=COUNT)

        def equip() -> None:
            with service.client() as own:
                job = own.job(flight.job.id)
                with token.impersonate():
                    job.set_helper_token()
                job.set_helper_token_flags(TokenFlags.LOCAL_FILE)

        def repair() -> None:
            with service.client() as own:
                own.job(flight.job.id).clear_helper_token()
                own.job(flight.job.id).set_helper_token_flags(TokenFlags(0))

        run_as(owner, equip)
        flight.job.resume()
        flight.is_half_way()
        assert flight.makers() == [helper.uid]
        with socket.socket(fileno=os.dup(token.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)  # it ends for everybody
        flight.job.reaches("error")
        assert flight.job.error["hresult"] == BG_E_TOKEN_REQUIRED
        assert flight.makers() == [helper.uid], "all of them stay"
        run_as(owner, repair)
        flight.job.resume()
        flight.ends_well(owner.uid)


def test_a_disk_that_is_full_for_some_is_waited_for_by_all_and_nothing_spins(
    service: Service, site: Site, owner: Any, open_tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    small = open_tmp_path / "small"
    small.mkdir()
    with disk(small, f"size=400k,mode=0700,uid={owner.uid},gid={owner.gid}"):
        flight = Flight(service, site, small)
        for gate in flight.gates:
            gate.set()
        flight.job = create(service, owner, flight.pairs, parallel_files=COUNT, auto_complete=True)
        flight.job.reaches("transient_error")
        assert flight.job.code == ("transient_error", DISK_FULL, "local_file")
        concerned = flight.job.error["file_index"]
        assert concerned is not None
        assert f"{small}/{concerned}" in flight.job.error["message"]
        assert "more bytes of room" in flight.job.error["message"]
        eventually(lambda: "attempt 2 failed" in (flight.job.info()["waiting"] or {"reason": ""})["reason"])
        assert max(len(site.offsets(f"/{number}")) for number in range(COUNT)) <= 3
        remount(small, "size=2m")
        eventually(flight.job.is_gone, 20)
        assert [(small / f"{number}").read_bytes() for number in range(COUNT)] == BODIES
        assert len(names(small)) == COUNT


def test_a_hundred_transfers_lose_their_worker_and_none_of_them_its_bytes(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    count, half = 100, 5_000
    bodies = [secrets.token_bytes(2 * half + number) for number in range(count)]
    pairs = [(site.put(f"/{number}", body), folder / f"{number:03}") for number, body in enumerate(bodies)]
    gates = [site.gate(f"/{number}", half) for number in range(count)]
    job = create(service, owner, pairs, parallel_files=count)
    job.saves(count * half, seconds=30)
    service.kill("worker")
    for gate in gates:
        gate.set()
    job.reaches("transferred", seconds=30)
    assert [site.offsets(f"/{number}") for number in range(count)] == [[0, half]] * count
    assert job.complete() == 0
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == bodies
