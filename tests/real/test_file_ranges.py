"""Ranges, random access and segments with the running service: what is delivered, told, kept (jobs.md §8.7, §8.9)."""

# ruff: noqa: N802, N803  # names of the interface

import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, run_as
from tests.real.nginx import Certificates, Nginx
from tests.real.stories import Job, cancel_all, create, names, real_user, running_service
from tests.transfer.faultserver import SILENCE, FaultServer, Request, Step, whole
from tests.transfer.rangeserver import Span, serve, sound, spans_of

from openbits import com
from openbits.core import codes

pytestmark = pytest.mark.root

Eventually = Callable[..., object]
Parts = list[tuple[int, int | None]]

BODY = secrets.token_bytes(300_000)
LARGE = secrets.token_bytes(1024 * 1024) * 24
PARTS: Parts = [(250_000, 40_000), (100, 100), (290_000, None), (0, 7)]
TAG = 'ETag: "one"'


def made_of(parts: Sequence[tuple[int, int | None]], body: bytes = BODY) -> bytes:
    return b"".join(body[start : None if length is None else start + length] for start, length in parts)


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


@pytest.fixture
def server() -> Iterator[FaultServer]:
    made = FaultServer()
    yield made
    made.close()


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    made: list[Nginx] = []

    def start(**options: Any) -> Nginx:
        place = tmp_path / f"nginx{len(made)}"
        place.mkdir()
        made.append(Nginx(place, Certificates(place), **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def with_ranges(service: Service, user: Any, url: str, path: Path, parts: Parts = PARTS) -> Job:
    """A resumed job of one file that is made of these parts."""

    def act() -> str:
        with service.client() as client:
            job = client.create_job("parts", minimum_retry_delay_seconds=5)
            job.add_file_with_ranges(url, path, parts)
            job.resume()
            return str(job.id)

    return Job(service, run_as(user, act))


def request(job: Job, *parts: tuple[int, int | None], index: int = 0) -> None:
    with job.service.client() as client:
        client.job(job.id).request_ranges(index, parts)


def filled(job: Job, index: int = 0) -> list[Any]:
    with job.service.client() as client:
        return client.job(job.id).filled_ranges(index)


class Held:
    """A sound server that says no more than so many bytes of an answer until the gate is open."""

    def __init__(self, server: FaultServer, count: int, body: bytes = BODY) -> None:
        self.gate = threading.Event()
        self.server = server
        self._answer, self._count = sound(body, TAG), count
        serve(server, body, TAG, answer=self._act)

    def _act(self, asked: Request, spans: Sequence[Span]) -> Iterator[Step]:
        top, content = self._answer(asked, spans)
        assert isinstance(content, bytes)
        yield top
        yield content[: self._count]
        if len(content) > self._count:
            self.gate.wait(30)
            yield content[self._count :]

    def asked(self) -> list[list[Span]]:
        return [spans_of(one) for one in self.server.asked("GET")]


@pytest.fixture
def hold(server: FaultServer) -> Iterator[Callable[..., Held]]:
    made: list[Held] = []

    def make(count: int, body: bytes = BODY) -> Held:
        held = Held(server, count, body)
        server.answer("GET", lambda asked: held._act(asked, spans_of(asked)))
        made.append(held)
        return held

    yield make
    for held in made:
        held.gate.set()


# -- files made of ranges ---------------------------------------------------------------------------------------------


@pytest.mark.real("nginx")
def test_a_file_of_ranges_is_delivered_by_a_real_server(
    service: Service, start_nginx: Callable[..., Nginx], owner: Any, folder: Path
) -> None:
    nginx = start_nginx()
    (nginx.root / "file").write_bytes(BODY)
    job = with_ranges(service, owner, nginx.url("/file"), folder / "file")
    job.reaches("transferred")
    (file,) = job.files()
    assert file["bytes_total"] == file["bytes_transferred"] == len(made_of(PARTS))
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == made_of(PARTS)
    assert names(folder) == ["file"]


@pytest.mark.real("nginx")
@pytest.mark.parametrize("program", ["worker", "manager", "spawner"])
def test_a_file_of_ranges_goes_on_after_a_sudden_death(
    service: Service, start_nginx: Callable[..., Nginx], owner: Any, folder: Path, program: str, eventually: Eventually
) -> None:
    """What was on the disk is not fetched again, whatever range it is of."""
    nginx = start_nginx(bytes_a_second=2_000_000)
    (nginx.root / "file").write_bytes(LARGE)
    parts: Parts = [(12_000_000, 5_000_000), (1_000, 3_000_000), (20_000_000, None)]
    job = with_ranges(service, owner, nginx.url("/file"), folder / "file", parts)
    job.receives(2_000_000)
    service.kill(program)
    if program == "spawner":
        service.start()
    eventually(lambda: job.files()[0]["bytes_transferred"] >= 2_000_000, seconds=20)
    job.reaches("transferred", seconds=60)
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == made_of(parts, LARGE)
    assert job.is_gone()
    came = sum(size_in(line) for line in nginx.requests() if '" 206 ' in line)
    assert came < len(made_of(parts, LARGE)) + 2_000_000 + ON_THE_WAY, "what was on the disk came once"


ON_THE_WAY = 3_000_000
"""What is in the buffers of a connection that breaks off: nginx counts it as sent."""


def size_in(line: str) -> int:
    """Bytes of the body, of a line of nginx's log."""
    match = re.search(r'" \d{3} (\d+) ', line)
    assert match is not None
    return int(match[1])


def test_ranges_outside_the_file_end_the_job(service: Service, server: FaultServer, owner: Any, folder: Path) -> None:
    """R5: found at transfer time; nothing is left behind by Cancel."""
    serve(server, BODY, TAG)
    job = with_ranges(service, owner, server.url(), folder / "file", [(0, 5), (299_999, 2)])
    job.reaches("error")
    assert job.code == ("error", codes.BG_E_INVALID_RANGE, "remote_file")
    assert "299999-300000" in job.error["message"]
    assert job.cancel() == 0
    assert names(folder) == []


def test_a_server_without_ranges_ends_the_job(service: Service, server: FaultServer, owner: Any, folder: Path) -> None:
    """R6."""
    server.serve(BODY, TAG)
    job = with_ranges(service, owner, server.url(), folder / "file")
    job.reaches("error")
    assert job.code == ("error", codes.BG_E_INSUFFICIENT_RANGE_SUPPORT, "remote_file")


def test_a_change_of_the_file_ends_the_job_and_resume_begins_again(
    service: Service, owner: Any, folder: Path, hold: Callable[..., Held], server: FaultServer
) -> None:
    """OPEN-44: at the first change, because what was delivered is of no use; Resume fetches the new version."""
    held = hold(20_000)
    job = with_ranges(service, owner, server.url(), folder / "file")
    job.receives(19_000)
    job.suspend()
    held.gate.set()
    other = secrets.token_bytes(len(BODY))
    serve(server, other, 'ETag: "two"')
    job.resume()
    job.reaches("error")
    assert job.code == ("error", codes.BG_E_REMOTE_FILE_CHANGED, "remote_file")
    assert job.files()[0]["bytes_transferred"] == 0
    job.resume()
    job.reaches("transferred")
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == made_of(PARTS, other)


@pytest.mark.real("nginx")
def test_ranges_on_the_command_line(
    service: Service, start_nginx: Callable[..., Nginx], owner: Any, folder: Path
) -> None:
    nginx = start_nginx()
    (nginx.root / "file").write_bytes(BODY)

    def bits(*words: str) -> str:
        command = [sys.executable, "-m", "openbits.cli.main", *words]
        environment = {"OPENBITS_SOCKET": str(service.socket), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def act() -> None:
        job = bits("create", "parts").split()[-1]
        options = ["--range", "250000-289999", "--range", "100-199", "--range", "290000-", "--range", "0-6"]
        bits("add", *options, job, nginx.url("/file"), str(folder / "file"))
        bits("resume", job)
        bits("wait", job)
        bits("complete", job)

    run_as(owner, act)
    assert (folder / "file").read_bytes() == made_of(PARTS)


# -- random access ----------------------------------------------------------------------------------------------------


class Listener(com.IBackgroundCopyCallback3):
    """Notes the ranges of each call."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []
        self.transferred = threading.Event()

    def JobTransferred(self, pJob: com.IBackgroundCopyJob) -> int:
        self.transferred.set()
        return com.S_OK

    def JobError(self, pJob: com.IBackgroundCopyJob, pError: com.IBackgroundCopyError) -> int:
        return com.S_OK

    def JobModification(self, pJob: com.IBackgroundCopyJob, dwReserved: int) -> int:
        return com.S_OK

    def FileTransferred(self, pJob: com.IBackgroundCopyJob, pFile: com.IBackgroundCopyFile) -> int:
        return com.S_OK

    def FileRangesTransferred(
        self, pJob: com.IBackgroundCopyJob, pFile: com.IBackgroundCopyFile, rangeCount: int, ranges: list[Any]
    ) -> int:
        assert rangeCount == len(ranges)
        self.told += [(one.InitialOffset, one.Length) for one in ranges]
        return com.S_OK

    def bytes_told(self) -> set[int]:
        return {byte for start, length in self.told for byte in range(start, start + length)}


def test_on_demand_through_the_documented_interfaces(
    service: Service,
    server: FaultServer,
    owner: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
) -> None:
    """Requests, T11, FileRangesTransferred, and TRANSFERRED when the last range has come (§8.9)."""
    monkeypatch.setenv("OPENBITS_SOCKET", str(service.socket))
    serve(server, BODY, TAG)

    def act() -> None:
        job = com.BackgroundCopyManager().CreateJob("on demand", com.BG_JOB_TYPE_DOWNLOAD).Job
        job.AddFile(server.url(), str(folder / "file"))
        five = job.QueryInterface(com.IBackgroundCopyJob5)
        five.SetProperty(com.BITS_JOB_PROPERTY_ON_DEMAND_MODE, com.BITS_JOB_PROPERTY_VALUE(Enable=True))
        five.SetProperty(com.BITS_JOB_PROPERTY_MINIMUM_NOTIFICATION_INTERVAL_MS, com.BITS_JOB_PROPERTY_VALUE(Dword=10))
        listener = Listener()
        job.SetNotifyFlags(com.BG_NOTIFY_JOB_TRANSFERRED | com.BG_NOTIFY_FILE_RANGES_TRANSFERRED)
        job.SetNotifyInterface(listener)
        (file,) = job.EnumFiles().Next(1)
        file = file.QueryInterface(com.IBackgroundCopyFile6)
        file.RequestFileRanges([com.BG_FILE_RANGE(InitialOffset=1000, Length=500)])
        assert server.requests == []
        job.Resume()
        eventually(lambda: job.GetState() == com.BG_JOB_STATE_SUSPENDED)
        assert file.GetFilledFileRanges() == (1, [com.BG_FILE_RANGE(InitialOffset=1000, Length=500)])
        eventually(lambda: listener.bytes_told() == set(range(1000, 1500)))
        temporary = Path(file.GetTemporaryName())
        assert temporary.read_bytes()[1000:1500] == BODY[1000:1500]
        file.RequestFileRanges(
            [
                com.BG_FILE_RANGE(InitialOffset=1200, Length=1000),
                com.BG_FILE_RANGE(InitialOffset=0, Length=com.BG_LENGTH_TO_EOF),
            ]
        )
        job.Resume()
        assert listener.transferred.wait(20)
        eventually(lambda: listener.bytes_told() == set(range(len(BODY))))
        assert sum(length for _, length in listener.told) == len(BODY), "each byte is told once"
        job.Complete()
        com.CoUninitialize()

    run_as(owner, act)
    assert (folder / "file").read_bytes() == BODY
    asked = [span for one in server.asked("GET") for span in spans_of(one)]
    assert sum(last + 1 - first for first, last in asked) == len(BODY), "no byte is fetched twice"


def test_a_running_download_goes_where_it_is_told(
    service: Service,
    server: FaultServer,
    owner: Any,
    folder: Path,
    hold: Callable[..., Held],
    eventually: Eventually,
) -> None:
    """UpdateDownloadPosition and RequestFileRanges of a job that transfers the whole file."""
    held = hold(50_000)
    job = create(service, owner, [(server.url(), folder / "file")])
    job.saves(50_000)
    with service.client() as client:
        client.job(job.id).update_download_position(0, 280_000)
    eventually(lambda: filled(job)[-1:] == [(280_000, 20_000)])
    assert job.state == "transferring"
    request(job, (200_000, 100))
    eventually(lambda: (200_000, 100) in filled(job))
    held.gate.set()
    job.reaches("transferred")
    assert filled(job) == [(0, len(BODY))]
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == BODY


@pytest.mark.parametrize("program", ["worker", "manager"])
def test_what_was_filled_is_not_fetched_again_after_a_sudden_death(
    service: Service,
    server: FaultServer,
    owner: Any,
    folder: Path,
    hold: Callable[..., Held],
    program: str,
    eventually: Eventually,
) -> None:
    held = hold(50_000)
    job = create(service, owner, [(server.url(), folder / "file")], minimum_retry_delay_seconds=5)
    job.saves(50_000)
    request(job, (200_000, 1000))
    eventually(lambda: (200_000, 1000) in filled(job))
    here = filled(job)
    service.kill(program)
    before = len(held.asked())
    held.gate.set()
    job.reaches("transferred", seconds=30)
    asked = [span for spans in held.asked()[before:] for span in spans]
    again = {byte for first, last in asked for byte in range(first, last + 1)}
    assert not again & {byte for start, length in here for byte in range(start, start + length)}
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == BODY


def test_on_demand_a_server_without_ranges_ends_the_job(
    service: Service, server: FaultServer, owner: Any, folder: Path
) -> None:
    server.serve(BODY, TAG)
    job = create(service, owner, [(server.url(), folder / "file")], is_resumed=False, on_demand_mode=True)
    request(job, (5, 10))
    job.resume()
    job.reaches("error")
    assert job.code[:2] == ("error", codes.BG_E_RANDOM_ACCESS_NOT_SUPPORTED)
    job.set(on_demand_mode=False)
    job.resume()
    job.reaches("transferred")
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == BODY


def test_on_demand_the_rest_of_a_file_may_be_wanted_before_its_size_is_known(
    service: Service, server: FaultServer, owner: Any, folder: Path
) -> None:
    serve(server, BODY, TAG)
    job = create(service, owner, [(server.url(), folder / "file")], is_resumed=False, on_demand_mode=True)
    request(job, (len(BODY) - 1000, None))
    job.resume()
    job.reaches("suspended")
    assert filled(job, 0) == [(len(BODY) - 1000, 1000)]


def test_on_demand_several_files_take_their_turns(
    service: Service, server: FaultServer, owner: Any, folder: Path, eventually: Eventually
) -> None:
    serve(server, BODY, TAG)
    pairs = [(server.url(f"/{name}"), folder / name) for name in ("one", "two", "three")]
    job = create(service, owner, pairs, is_resumed=False, on_demand_mode=True)
    request(job, (100, 10), index=2)
    request(job, (200, 10), index=0)
    job.resume()
    eventually(lambda: (filled(job, 0), filled(job, 1), filled(job, 2)) == ([(200, 10)], [], [(100, 10)]))
    job.reaches("suspended")
    request(job, (0, None), index=1)
    job.resume()
    job.reaches("suspended")
    eventually(lambda: [file["is_transferred"] for file in job.files()] == [False, True, False])


# -- segments ---------------------------------------------------------------------------------------------------------


@pytest.mark.real("nginx")
def test_several_connections_fetch_one_large_file(
    service: Service, start_nginx: Callable[..., Nginx], owner: Any, folder: Path
) -> None:
    nginx = start_nginx(bytes_a_second=4_000_000)
    (nginx.root / "file").write_bytes(LARGE)
    job = create(service, owner, [(nginx.url("/file"), folder / "file")], segments=4)
    job.reaches("transferred", seconds=60)
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == LARGE
    parts = [line for line in nginx.requests() if '" 206 ' in line]
    assert len(parts) >= 4


@pytest.mark.parametrize("program", ["worker", "manager"])
def test_of_a_file_in_segments_every_one_goes_on_after_a_sudden_death(
    service: Service,
    server: FaultServer,
    owner: Any,
    folder: Path,
    hold: Callable[..., Held],
    program: str,
    eventually: Eventually,
) -> None:
    held = hold(2_000_000, LARGE)
    pairs = [(server.url(), folder / "file")]
    job = create(service, owner, pairs, segments=4, minimum_retry_delay_seconds=5)
    eventually(lambda: len(filled(job)) >= 4 and sum(length for _, length in filled(job)) >= 8_000_000, seconds=20)
    here = filled(job)
    before = len(held.asked())
    service.kill(program)
    held.gate.set()
    job.reaches("transferred", seconds=60)
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == LARGE
    for first, last in [span for spans in held.asked()[before:] for span in spans]:
        assert not any(start <= last and first < start + length for start, length in here), "fetched again"


def test_segments_need_ranges_and_do_without_them(
    service: Service, server: FaultServer, owner: Any, folder: Path
) -> None:
    top, content = whole(LARGE, TAG)
    assert isinstance(content, bytes)
    server.answer("HEAD", [top])
    server.answer("GET", [top, content[:1_000_000], SILENCE], [top, content])
    job = create(service, owner, [(server.url(), folder / "file")], segments=4)
    job.reaches("transferred", seconds=30)
    assert "fetched as a whole" in job.files()[0]["note"]
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == LARGE
