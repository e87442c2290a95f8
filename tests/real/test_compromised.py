"""A broker, worker or manager that somebody took over: what the kernel still lets it do (identity.md §11, §16 T-9).

Under the real spawner, zygote, drop and manager runs a program that tries everything and reports it (`compromised/`).
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.real.compromised.liar import LIES, UPLOAD_LIES

from openbits import BitsError, JobState, JobType, Outcome, TokenFlags
from openbits.identity import landlock

pytestmark = pytest.mark.root

COMPROMISED = Path(__file__).with_name("compromised") / "bitsd.py"
E_ACCESSDENIED = 0x80070005


@pytest.fixture
def port() -> Iterator[int]:
    """A TCP server that accepts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@dataclass(frozen=True)
class Crime:
    """A service with one program taken over, a victim with a private folder, and a user whose program it is."""

    service: Any
    victim: Any
    user: Any
    folder: Path
    job_folder: Path
    new_file: Path


@pytest.fixture
def crime(
    make_service: Callable[..., Any],
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    open_tmp_path: Path,
    port: int,
) -> Iterator[Callable[[str], Crime]]:
    """Factory `crime("worker")`."""
    processes: list[subprocess.Popen[bytes]] = []

    def make(program: str) -> Crime:
        victim, user = throwaway_user(), throwaway_user(password="open sesame")
        folder, own_folder, job_folder = private_folder(victim), private_folder(user), private_folder(user)
        secret_of(folder / "private", victim)
        secret_of(own_folder / "file", user)
        shared = open_tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o1777)
        processes.append(subprocess.Popen(["sleep", "600"], user=user.uid, group=user.gid, extra_groups=[]))
        targets = {
            "owner_folder": str(folder),
            "owner_uid": str(victim.uid),
            "job_folder": str(job_folder),
            "own_file": str(own_folder / "file"),
            "own_process": str(processes[-1].pid),
            "new_file": str(shared / "made"),
            "port": str(port),
            "store": str(open_tmp_path / "service0" / "state" / "queue"),
        }
        command = (sys.executable, str(COMPROMISED), program)
        service = make_service(environ={"OPENBITS_TEST_TARGETS": json.dumps(targets)}, command=command)
        service.start()
        return Crime(service, victim, user, folder, job_folder, shared / "made")

    yield make
    for process in processes:
        process.kill()
        process.wait()


def secret_of(path: Path, user: Any) -> None:
    path.write_text("secret")
    os.chown(path, user.uid, user.gid)
    path.chmod(0o600)


def done(results: dict[str, str]) -> set[str]:
    return {name for name, outcome in results.items() if outcome == "done"}


LANDLOCK = landlock.abi()
WITHOUT_SCOPES = {"signal a process of its own user"} if LANDLOCK < 6 else set()
MAY_OF_A_MANAGER = {"use the store", "read a file that everybody may read", "list processes", "make a Unix socket"}
WITHOUT_LANDLOCK = {"trace a process of its own user", "take a descriptor of its own user", "execute a program"}

MAY_WITH_A_DESCRIPTOR = {"write", "truncate", "ask for the size", "sync"}
"""identity.md §11, "What B can do with the passed O_WRONLY fd"."""
MAY_OF_A_WORKER = MAY_WITH_A_DESCRIPTOR | {"read name-service files", "connect by TCP"}


def test_t9_a_network_worker_that_was_taken_over(crime: Callable[[str], Crime], as_user: Callable[..., Any]) -> None:
    """The victim owns job and file, the worker has the identity of the helper."""
    scene = crime("worker")
    target = scene.folder / "report"

    def story() -> None:
        with scene.service.client() as client:
            job = client.create_job("report")
            with client.logon_user(scene.user.name, "open sesame") as token, token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(TokenFlags.NETWORK)
            job.add_file("http://127.0.0.1/report", target)
            job.resume()
            assert job.wait(60) is Outcome.TRANSFERRED, job.error
            assert job.complete() == 0

    as_user(scene.victim, story)
    report = json.loads(target.read_text())
    assert target.stat().st_uid == scene.victim.uid
    assert (report["uid"], report["gid"]) == ([scene.user.uid] * 3, [scene.user.gid] * 3)
    assert set(report["groups"]) == set(os.getgrouplist(scene.user.name, scene.user.gid))
    assert set(report["environ"]) <= {"PATH", "LANG", "TZ"}
    if not LANDLOCK:
        own = {"open a file of its own user", "create in a folder that everybody may write"}
        assert done(report["results"]) == MAY_OF_A_WORKER | own | WITHOUT_SCOPES | WITHOUT_LANDLOCK
        return
    assert done(report["results"]) == MAY_OF_A_WORKER | WITHOUT_SCOPES
    assert not scene.new_file.exists()
    assert sorted(path.name for path in scene.folder.iterdir()) == ["private", "report"]
    assert (scene.folder / "private").read_text() == "secret"


@pytest.fixture
def lied_to(make_service: Callable[..., Any]) -> Iterator[Any]:
    """A service whose network workers lie. The manager that clients talk to has to be the same at the end."""
    command = (sys.executable, str(COMPROMISED), "worker=liar")
    service = make_service(environ={"OPENBITS_TEST_TARGETS": "{}"}, command=command)
    service.start()
    yield service
    with service.client() as client:
        assert client.create_job("of somebody else").state is JobState.SUSPENDED
    assert "generation_ended" not in service.log()


@pytest.mark.parametrize("lie", LIES)
def test_a_network_worker_that_lies_to_the_manager_harms_its_own_job_alone(
    lie: str, lied_to: Any, open_tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    with lied_to.client() as client:
        job = client.create_job("lies")
        job.add_file(f"http://127.0.0.1/{lie}", open_tmp_path / "file")
        job.resume()
        assert "network worker" in eventually(lambda: job.error)["message"]


@pytest.mark.parametrize("lie", UPLOAD_LIES)
@pytest.mark.parametrize("kind", [JobType.UPLOAD, JobType.UPLOAD_REPLY])
def test_a_network_worker_that_lies_about_an_upload_harms_its_own_job_alone(
    kind: JobType, lie: str, lied_to: Any, open_tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    """Nobody else talks to the server, so a session that could be is believed; what cannot be is an error."""
    (open_tmp_path / "file").write_bytes(b"x")
    with lied_to.client() as client:
        job = client.create_job("lies", type=kind)
        job.add_file(f"http://127.0.0.1/{lie}", open_tmp_path / "file")
        job.resume()
        eventually(lambda: job.error or job.state is JobState.TRANSFERRED)
        job.cancel()


def test_a_network_worker_with_sessions_without_end_harms_its_own_job_alone(
    lied_to: Any, open_tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    (open_tmp_path / "file").write_bytes(b"x")
    with lied_to.client() as client:
        job = client.create_job("floods", type=JobType.UPLOAD)
        job.add_file("http://127.0.0.1/acknowledgements", open_tmp_path / "file")
        job.resume()
        eventually(lambda: job.state is JobState.TRANSFERRING)
        job.cancel()
        assert job.state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("flood", "words"),
    [("phases", ""), ("parts", "more than 20000 parts"), ("questions", "asked 2048 things at a time")],
)
def test_a_network_worker_that_never_stops_talking_harms_its_own_job_alone(
    flood: str, words: str, lied_to: Any, open_tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    """The client of the job does not answer what it is asked before it leaves."""
    has_left = threading.Event()

    def check(_question: object) -> None:
        has_left.wait(60)

    with lied_to.client() as client:
        job = client.create_job("floods")
        job.add_file(f"http://127.0.0.1/{flood}", open_tmp_path / "file")
        job.set_certificate_callback(check)
        job.resume()
        if words:
            assert words in eventually(lambda: job.error, 30)["message"]
        else:
            eventually(lambda: job.state is JobState.CONNECTING)
        job.cancel()
        has_left.set()


@pytest.mark.skipif(not LANDLOCK, reason="this kernel has no Landlock")
def test_t9_a_file_broker_that_was_taken_over_while_nobody_is_logged_on(
    crime: Callable[[str], Crime], as_user: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """Admitted owners: the broker is confined to the directories of the jobs (design.md §2)."""
    scene = crime("broker")

    def begin() -> str:
        with scene.service.client() as client:
            job = client.create_job("report")
            job.add_file("http://127.0.0.1/report", scene.job_folder / "report")
            job.resume()
            return str(job.id)

    job_id = as_user(scene.user, begin)
    with scene.service.client() as client:
        job = client.job(job_id)
        error = eventually(lambda: job.error)
    match = re.search(r"report (\{.*\}) end", error["message"])
    assert match, error
    results = json.loads(match.group(1))
    assert done(results) == {"use the directory of the job"} | WITHOUT_SCOPES
    assert not scene.new_file.exists()
    assert [path.name for path in scene.folder.iterdir()] == ["private"]


def test_t9_a_file_broker_that_was_taken_over_while_its_user_is_connected(
    crime: Callable[[str], Crime], as_user: Callable[..., Any]
) -> None:
    """It is its user, with all rights of that user and none of anybody else."""
    scene = crime("broker")

    def story() -> str:
        with scene.service.client() as client:
            job = client.create_job("report")
            with pytest.raises(BitsError) as caught:
                job.add_file("http://127.0.0.1/report", scene.job_folder / "attack")
            assert caught.value.hresult == E_ACCESSDENIED
            return str(caught.value)

    match = re.search(r"report (\{.*\}) end", as_user(scene.user, story))
    assert match
    results = json.loads(match.group(1))
    refused = {
        "open the private file of another user",
        "list the private folder of another user",
        "create in the private folder of another user",
        "open the store",
        "become root",
        "become another user",
        "take a group",
        "change the root directory",
        "mount",
        "open a raw socket",
        "connect by TCP",
        "execute a program",
        "signal the zygote",
        "trace the zygote",
        "take a descriptor of the zygote",
    }
    assert refused & done(results) == set()
    assert "open a file of its own user" in done(results)
    assert (scene.new_file.stat().st_uid, scene.folder.stat().st_uid) == (scene.user.uid, scene.victim.uid)
    assert [path.name for path in scene.folder.iterdir()] == ["private"]


@pytest.mark.skipif(LANDLOCK < 3, reason="Landlock of this kernel does not know truncation")
def test_a_manager_that_was_taken_over(
    make_service: Callable[..., Any], throwaway_user: Callable[..., Any], open_tmp_path: Path, port: int
) -> None:
    """It has its store, may read what everybody may read, and reaches nobody but by Unix sockets (design.md §2)."""
    user, own, everybodys = throwaway_user(), open_tmp_path / "own", open_tmp_path / "everybodys"
    secret_of(own, user)
    everybodys.write_text("as it was")
    everybodys.chmod(0o666)
    open_tmp_path.chmod(0o1777)
    targets = {
        "owner_uid": str(user.uid),
        "own_file": str(own),
        "open_file": str(everybodys),
        "new_file": str(open_tmp_path / "made"),
        "port": str(port),
    }
    process = subprocess.Popen(["sleep", "600"], user=user.uid, group=user.gid, extra_groups=[])
    targets["own_process"] = str(process.pid)
    environ = {"OPENBITS_TEST_TARGETS": json.dumps(targets)}
    service = make_service(environ=environ, command=(sys.executable, str(COMPROMISED), "manager"))
    try:
        with pytest.raises(pytest.fail.Exception, match="the peer process has ended"):
            service.start()
    finally:
        process.kill()
        process.wait()
    report = json.loads((service.state / "queue" / "report.json").read_text())
    assert done(report) == MAY_OF_A_MANAGER
    assert everybodys.read_text() == "as it was"
    assert not (open_tmp_path / "made").exists()
