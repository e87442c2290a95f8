"""Programs with callbacks, as processes: files in order, kill -9 on both sides, four at a time (jobs.md §12).

Each program registers one callback for its jobs and says on its standard output what it was called for.
"""

import os
import re
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns.board import Board
from tests.real.conftest import Service, Site, run_as
from tests.real.nginx import Certificates
from tests.real.stories import Job, cancel_all, create, real_user
from tests.transfer.faultserver import FaultServer

from openbits import NotifyFlags, com

pytestmark = pytest.mark.root

Eventually = Callable[..., Any]

BODY = secrets.token_bytes(20_000)
FILES = 3

ALL = int(NotifyFlags.JOB_TRANSFERRED | NotifyFlags.JOB_ERROR | NotifyFlags.FILE_TRANSFERRED)

CALLED = ["file 0", "file 1", "file 2", "transferred"]

PROGRAM = """
import sys, threading, uuid
from openbits import com

how = sys.argv[1]

def called(what):
    print("called", what, flush=True)
    if how == "hang":
        threading.Event().wait()
    return com.E_FAIL if how == "refuse" else com.S_OK

class Callback(com.IBackgroundCopyCallback2):
    def JobTransferred(self, job):
        if how == "complete":
            job.Complete()
        return called("transferred")
    def JobError(self, job, error):
        return called("error")
    def FileTransferred(self, job, file):
        return called("file " + file.GetLocalName().rpartition("/")[2])

class Checker(com.IBackgroundCopyServerCertificateValidationCallback):
    def ValidateServerCertificate(self, job, file, length, certificate, encoding, store_length, store):
        print("called certificate", file.GetLocalName().rpartition("/")[2], length, encoding, flush=True)
        return com.S_OK if how == "check" else com.E_ACCESSDENIED

manager = com.BackgroundCopyManager()
jobs = [manager.GetJob(uuid.UUID(name)) for name in sys.argv[2:]]
for job in jobs:
    if how.startswith("check"):
        options = job.QueryInterface(com.IBackgroundCopyJobHttpOptions3)
        options.SetServerCertificateValidationInterface(Checker())
    else:
        job.SetNotifyInterface(Callback())
print("ready", flush=True)
sys.stdin.read()
"""


class Program:
    """One process of a user; `how` it takes what it is told: take, refuse, hang, complete, check, check-refuse."""

    def __init__(self, service: Service, user: Any, how: str, *jobs: Job) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, how, *(str(job.id) for job in jobs)],
            env={"OPENBITS_SOCKET": str(service.socket), "HOME": "/"},
            cwd="/",
            user=user.uid,
            group=user.gid,
            extra_groups=[],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.strip())

    @property
    def called(self) -> list[str]:
        """What for, so far."""
        return [line.removeprefix("called ") for line in self.lines if line.startswith("called ")]

    def kill(self) -> None:
        """Kill -9, and wait for its end."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: Any) -> Path:
    return private_folder(owner)


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with tempfile.TemporaryDirectory() as folder:
        yield Certificates(Path(folder))


@pytest.fixture(scope="module")
def fated(certificates: Certificates) -> Iterator[tuple[Service, Board]]:
    """A service whose programs die at the point that is lit, and what lights it."""
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))  # the one folder all uids can pass
    folder.chmod(0o755)
    shutil.copy(certificates.ca, folder / "ca.pem")
    (folder / "ca.pem").chmod(0o644)
    bitsd = Path(__file__).parents[1] / "campaigns" / "bitsd.py"
    board = Board.make(folder / "board")
    made = Service(folder, 0, command=(sys.executable, "-I", str(bitsd), str(folder / "board")))
    made.configure(f'[tls]\nca_file = "{folder}/ca.pem"\n')
    made.start()
    yield made, board
    made.close()
    shutil.rmtree(folder)


@pytest.fixture
def service(fated: tuple[Service, Board]) -> Iterator[Service]:
    """The service of all tests here, with an empty queue."""
    yield fated[0]
    cancel_all(fated[0])


@pytest.fixture
def start(service: Service, owner: Any, eventually: Eventually) -> Iterator[Callable[..., Program]]:
    """`start(how, job, …)`: a program that has registered; `user` is the owner of the jobs unless given."""
    made: list[Program] = []

    def begin(how: str, *jobs: Job, user: Any = owner) -> Program:
        made.append(Program(service, user, how, *jobs))
        eventually(lambda: "ready" in made[-1].lines)
        return made[-1]

    yield begin
    for program in made:
        program.kill()


@pytest.fixture
def job(service: Service, site: Site, owner: Any, folder: Path) -> Job:
    """A job of three files, `0` to `2`, suspended, that tells of files."""
    url = site.put("/file", BODY)
    pairs = [(url, folder / str(number)) for number in range(FILES)]
    return create(service, owner, pairs, is_resumed=False, notify_flags=ALL)


def test_files_are_told_before_the_job(job: Job, start: Callable[..., Program], eventually: Eventually) -> None:
    program = start("take", job)
    job.resume()
    eventually(lambda: len(program.called) == len(CALLED))
    assert program.called == CALLED
    assert job.info()["notice"] is None


def test_who_registers_after_the_end_hears_of_files_and_job(
    job: Job, start: Callable[..., Program], eventually: Eventually
) -> None:
    job.resume()
    notice = job.reaches("transferred")["notice"]
    assert notice is not None
    assert (notice["notice"], notice["file_index"], notice["to"]) == ("file-transferred", 0, "nobody")
    program = start("take", job)
    eventually(lambda: len(program.called) == len(CALLED))
    assert program.called == CALLED


@pytest.mark.parametrize("point", ["notice.due", "notice.queued", "notice.acknowledged", "notice.delivered"])
@pytest.mark.parametrize("nth", range(1, len(CALLED) + 1))
def test_whatever_step_of_a_delivery_the_service_dies_at_everything_is_told_and_in_order(
    point: str,
    nth: int,
    job: Job,
    fated: tuple[Service, Board],
    start: Callable[..., Program],
    eventually: Eventually,
) -> None:
    """N1, N4, P5: the same may be told twice, by a service that does not know of the first time."""
    service, board = fated
    program = start("take", job)
    board.light(point, nth)
    job.resume()
    eventually(lambda: board.died(point))
    service.wait_until_it_answers()
    eventually(lambda: job.info()["notice"] is None and program.called[-1:] == ["transferred"])
    assert list(dict.fromkeys(program.called)) == CALLED


@pytest.mark.parametrize("nth", [1, FILES + 1])
def test_a_program_that_dies_in_its_callback_was_not_told(
    nth: int, job: Job, start: Callable[..., Program], eventually: Eventually
) -> None:
    """Of a file, and of the job."""
    if nth > 1:
        earlier = start("take", job)
        job.set(notify_flags=ALL & ~int(NotifyFlags.JOB_TRANSFERRED))
        job.resume()
        eventually(lambda: len(earlier.called) == FILES)
        earlier.kill()
        job.set(notify_flags=ALL)
    dying = start("hang", job)
    if nth == 1:
        job.resume()
    eventually(lambda: dying.called)
    dying.kill()
    heir = start("take", job)
    eventually(lambda: "transferred" in heir.called)
    assert heir.called == CALLED[nth - 1 :]


def test_a_callback_may_complete_its_job(
    job: Job, folder: Path, start: Callable[..., Program], eventually: Eventually
) -> None:
    """N10: while the service waits for its answer."""
    program = start("complete", job)
    job.resume()
    eventually(lambda: program.called == CALLED)
    assert sorted(os.listdir(folder)) == ["0", "1", "2"]  # noqa: PTH208  # names
    eventually(job.is_gone)


def test_four_callbacks_that_hang_stall_their_user_and_nobody_else(
    service: Service, site: Site, owner: Any, folder: Path, start: Callable[..., Program], eventually: Eventually
) -> None:
    """N3, A59: five processes; the end of one frees its place."""
    jobs = [create(service, owner, [(f"{site.url}/missing", folder / str(number))]) for number in range(5)]
    for one in jobs:
        one.reaches("error")
    hanging = [start("hang", one) for one in jobs[:4]]
    eventually(lambda: all(program.called for program in hanging))
    fifth = start("take", jobs[4])
    notice = jobs[4].info()["notice"]
    assert notice is not None
    assert notice["next"] == f"it is sent when one of the 4 that uid {owner.uid} has in flight was answered"
    with real_user() as other, tempfile.TemporaryDirectory(dir="/tmp") as home:
        os.chown(home, other.uid, other.gid)
        theirs = create(service, other, [(f"{site.url}/missing", Path(home) / "file")])
        theirs.reaches("error")
        program = start("take", theirs, user=other)
        eventually(lambda: program.called)
        theirs.cancel()
    assert fifth.called == []
    hanging[0].kill()
    eventually(lambda: fifth.called == ["error"])


def test_a_refused_file_comes_again_and_keeps_the_job_back(
    job: Job, start: Callable[..., Program], eventually: Eventually
) -> None:
    job.set(minimum_retry_delay_seconds=5)
    program = start("refuse", job)
    job.resume()
    job.reaches("transferred")
    eventually(lambda: program.called)
    notice = eventually(lambda: (told := job.info()["notice"]) and told["next_at"] and told)
    assert (notice["file_index"], notice["next"]) == (
        0,
        "everything is tried again: the callback answered E_FAIL (0x80004005)",
    )
    eventually(lambda: len(program.called) == 2)
    assert program.called == ["file 0", "file 0"]


def test_the_command_line_is_run_in_place_of_a_callback_that_fails_or_is_gone(
    job: Job,
    service: Service,
    owner: Any,
    folder: Path,
    start: Callable[..., Program],
    eventually: Eventually,
) -> None:
    """N6, C1: and not before; files are told to callbacks alone."""
    marker = folder / "marker"

    def set_command() -> None:
        with service.client() as client:
            client.job(job.id).set_notify_command_line("/usr/bin/touch", f"touch {marker}")

    run_as(owner, set_command)
    files = start("take", job)
    job.set(notify_flags=ALL & ~int(NotifyFlags.JOB_TRANSFERRED))
    job.resume()
    eventually(lambda: len(files.called) == FILES)
    files.kill()
    refusing = start("refuse", job)
    assert not marker.exists()
    job.set(notify_flags=ALL)
    eventually(marker.exists)
    eventually(lambda: job.info()["notice"] is None)
    assert refusing.called == ["transferred"]


# The certificate callback (jobs.md §9.8)


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[FaultServer]:
    """A TLS server that the service trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.issue("IP:127.0.0.1"))
    server = FaultServer(tls=context)
    server.serve(BODY, 'ETag: "a"')
    yield server
    server.close()


REFUSED = ("transient_error", com.E_ACCESSDENIED, "server_certificate_callback")
NOBODY = ("transient_error", com.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED, "server_certificate_callback")


def test_no_server_is_talked_to_while_its_certificate_is_not_checked(
    service: Service,
    owner: Any,
    folder: Path,
    secure: FaultServer,
    start: Callable[..., Program],
    eventually: Eventually,
) -> None:
    """V2, V3, V6: not if the program refuses it, not after the end of the program, not after that of the service."""
    job = create(service, owner, [(secure.url(), folder / "file")], is_resumed=False)
    program = start("check-refuse", job)
    job.resume()
    eventually(lambda: job.info()["error"])
    assert job.code == REFUSED
    assert f"127.0.0.1:{secure.port}" in job.error["message"]
    program.kill()
    job.suspend()
    job.resume()
    eventually(lambda: (error := job.info()["error"]) and error["hresult"] == NOBODY[1])
    assert job.code == NOBODY
    service.kill("manager")
    service.wait_until_it_answers()
    job.reaches("transient_error")
    assert job.code == NOBODY
    assert secure.requests == []
    with service.client() as client:  # NULL takes the need back
        root = client.job(job.id)
        root.suspend()
        root.set_certificate_callback(None)
    job.resume()
    job.reaches("transferred")
    assert secure.requests


def test_a_program_is_asked_once_for_a_server_and_then_its_files_come(
    service: Service, owner: Any, folder: Path, secure: FaultServer, start: Callable[..., Program]
) -> None:
    """V1, V2, V4: with the documented arguments, and what was accepted is not asked again."""
    files = [(secure.url(f"/{number}"), folder / str(number)) for number in range(3)]
    job = create(service, owner, files, is_resumed=False)
    program = start("check", job)
    job.resume()
    job.reaches("transferred")
    (asked,) = program.called
    assert re.fullmatch(r"certificate 0 \d{3,} 1", asked)
