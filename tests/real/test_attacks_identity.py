"""Hostile clients that want to be somebody else, or to learn what is not theirs (reliability.md §6)."""

import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real import canaries, stories
from tests.real.conftest import Person, Service, Site, run_as

import openbits
from openbits.api.connection import Connection
from openbits.core import codes
from openbits.core.errors import BitsError

pytestmark = pytest.mark.root

Eventually = Callable[..., Any]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with stories.running_service() as running:
        yield running


@pytest.fixture(scope="module")
def alice() -> Iterator[User]:
    with stories.real_user() as user:
        yield user


@pytest.fixture(scope="module")
def mallory() -> Iterator[User]:
    with stories.real_user() as user:
        yield user


@pytest.fixture(autouse=True)
def _no_job_stays(service: Service) -> Iterator[None]:
    yield
    stories.cancel_all(service)


def who_am_i(connection: Connection) -> int:
    """The uid that the service sees at the other end."""
    answer, _ = connection.call("Hello", {"level": 3})
    return int(answer["caller_uid"])


def become(user: User) -> None:
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


@pytest.mark.attack(12)
def test_an_inherited_connection_is_the_one_of_who_connected_and_proves_nothing_else(
    service: Service, alice: User, mallory: User
) -> None:
    """Mallory got Alice's open connection: she is Alice there, and nobody but Mallory on one of her own."""

    def launder() -> tuple[int, int, int]:
        os.setresuid(alice.uid, alice.uid, 0)
        inherited = Connection.open(str(service.socket))
        os.setresuid(0, 0, 0)
        become(mallory)
        own = Connection.open(str(service.socket))
        job = own.call("CreateJob", {"display_name": "mine", "type": "download", "umask": 0o022})[0]
        with pytest.raises(BitsError) as caught:  # a handle is worth nothing on the other connection
            inherited.call("SetHelperToken", {"handle": job["handle"]})
        return who_am_i(inherited), who_am_i(own), caught.value.hresult

    assert _in_child(launder) == (alice.uid, mallory.uid, codes.E_HANDLE)


@pytest.mark.attack(13)
def test_a_setuid_program_is_seen_as_whom_it_acts_as_at_connect(service: Service, alice: User, mallory: User) -> None:
    """Real uid Mallory, effective uid Alice: Alice's program talks, whoever started it; later changes do not count."""

    def setuid_program() -> tuple[int, int]:
        os.setresgid(mallory.gid, mallory.gid, mallory.gid)
        os.setresuid(mallory.uid, alice.uid, alice.uid)
        connection = Connection.open(str(service.socket))
        first = who_am_i(connection)
        os.setresuid(mallory.uid, mallory.uid, mallory.uid)
        return first, who_am_i(connection)

    assert _in_child(setuid_program) == (alice.uid, alice.uid)


@pytest.mark.attack(14)
def test_the_end_of_the_process_that_connected_changes_no_identity(
    service: Service, alice: User, mallory: User
) -> None:
    """Alice's process passes its connection on and dies; whoever gets its pid later is not asked for anything."""
    near, far = socket.socketpair()

    def connect_and_die() -> int:
        become(alice)
        connection = Connection.open(str(service.socket))
        assert who_am_i(connection) == alice.uid  # accepted while Alice was there
        socket.send_fds(near, [b"x"], [connection.detach().detach()])
        return os.getpid()

    with near, far:
        pid = _in_child(connect_and_die)
        _, (descriptor,), _, _ = socket.recv_fds(far, 1, 1)
    assert not Path(f"/proc/{pid}").exists()

    def use() -> int:
        become(mallory)
        return who_am_i(Connection(socket.socket(fileno=descriptor), str(service.socket)))

    assert _in_child(use) == alice.uid
    os.close(descriptor)


@pytest.mark.attack(15)
@pytest.mark.parametrize("name", ["\0x;uid=0;", "\0uid=0;pid=1;", "\0a\nuid=0", ";uid=0;"])
def test_the_name_a_client_is_bound_to_says_nothing(
    name: str, service: Service, mallory: User, private_folder: Callable[[Any], Path]
) -> None:
    """snapd CVE-2019-7304: a name of the client's own choice was parsed for its uid."""
    folder = private_folder(mallory)

    def connect() -> tuple[int, int]:
        become(mallory)
        os.chdir(folder)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(name)
        sock.connect(str(service.socket))
        connection = Connection(sock, str(service.socket))
        with pytest.raises(BitsError) as caught:
            connection.collect("ListJobs", {"all_users": True}, "jobs")
        return who_am_i(connection), caught.value.hresult

    assert _in_child(connect) == (mallory.uid, codes.E_ACCESSDENIED)
    assert name.strip("\0") not in service.log()


@pytest.mark.attack(19)
def test_guessed_handles_and_ids_give_nothing(
    service: Service, site: Site, alice: User, mallory: User, private_folder: Callable[[Any], Path]
) -> None:
    job = stories.create(service, alice, [(site.put("/secret-name", b"x"), private_folder(alice) / "secret-file")])

    def guess() -> tuple[set[int], str]:
        become(mallory)
        seen, texts = set(), ""
        with openbits.Client(socket=str(service.socket)) as client:
            for handle in range(200):
                for method in ("GetJob", "Cancel", "SetHelperToken"):
                    with pytest.raises(BitsError) as caught:
                        client.call(method, {"handle": handle})
                    seen.add(caught.value.hresult)
                    texts += str(caught.value)
            with pytest.raises(BitsError) as caught:
                client.job(job.id)
            texts += str(caught.value)
            texts += str(client.job_infos())
        return seen, texts

    codes_seen, texts = _in_child(guess)
    assert codes_seen == {codes.E_HANDLE}
    assert "secret" not in texts
    assert alice.name not in texts
    assert job.state in {"queued", "connecting", "transferring", "transferred"}


@pytest.mark.attack(21)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV])
def test_signals_of_the_same_uid_cost_its_own_job_a_retry(
    number: signal.Signals,
    service: Service,
    site: Site,
    alice: User,
    private_folder: Callable[[Any], Path],
) -> None:
    """The kernel lets a uid signal its own processes; that ends or delays its transfers and nobody else's."""
    body = secrets.token_bytes(300_000)
    url = site.put("/data", body)
    gate = site.gate("/data", 100_000)
    folder = private_folder(alice)
    job = stories.create(service, alice, [(url, folder / "x")], minimum_retry_delay_seconds=5)
    job.receives(100_000)
    worker = service.pids()[f"worker:{alice.uid}"]

    def signal_it() -> None:
        become(alice)
        os.kill(worker, number)

    _in_child(signal_it)
    if number == signal.SIGSTOP:
        job.suspend()
        assert job.state == "suspended"
        os.kill(worker, signal.SIGCONT)
        job.resume()
    gate.set()
    job.reaches("transferred", seconds=20)
    job.complete()
    assert (folder / "x").read_bytes() == body


@pytest.mark.attack(25)
def test_jobs_without_end_make_no_processes_without_end(
    service: Service, site: Site, alice: User, private_folder: Callable[[Any], Path], eventually: Eventually
) -> None:
    """Thirty foreground jobs that all hang in the middle: what one needs has the uid, and no more.

    That is a worker and the nursery of its proxy scripts, the broker of the owner, and for a moment that of the client.
    """
    url = site.put("/data", b"x" * 10_000)
    gate = site.gate("/data", 1_000)
    folder = private_folder(alice)

    def create_all() -> None:
        become(alice)
        with openbits.Client(socket=str(service.socket)) as client:
            for number in range(30):
                job = client.create_job(str(number), priority=openbits.Priority.FOREGROUND)
                job.add_file(url, folder / str(number))
                job.resume()

    _in_child(create_all)
    eventually(lambda: len(site.offsets("/data")) >= 20, 20)
    children = [status for status in _statuses() if f"Uid:\t{alice.uid}\t" in status]
    gate.set()
    names = Counter(status.partition("\n")[0].removeprefix("Name:\t") for status in children)
    assert names <= Counter({"bits-worker": 1, "bits-pac": 1, "bits-broker": 2})
    assert names["bits-worker"] == 1


def _statuses() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            yield path.read_text(errors="replace")


@pytest.mark.attack(23)
def test_t14_secrets_are_to_be_found_nowhere(
    make_service: Callable[..., Service],
    site: Site,
    throwaway_user: Callable[..., User],
    mallory: User,
    private_folder: Callable[[Any], Path],
) -> None:
    """Canary password and signed URL: not in any process's argv, environment, maps or status, log, journal or event."""
    canary, signature = canaries.canary(), f"sig{secrets.token_hex(16)}"
    service = make_service()
    service.start()
    helper, owner = throwaway_user(password=canary), throwaway_user()
    url = site.put(f"/data?signature={signature}", b"x" * 50_000)
    gate = site.gate(f"/data?signature={signature}", 10_000)
    seen = bytearray()

    def story() -> None:
        become(owner)
        with openbits.Client(socket=str(service.socket)) as client:
            with pytest.raises(BitsError) as caught:
                client.logon_user(helper.name, canary + "x")
            job = client.create_job("canary")
            with client.logon_user(helper.name, canary) as token, token.impersonate():
                job.set_helper_token()
                assert canary not in f"{caught.value!r} {caught.value} {token!r}"
            job.set_helper_token_flags(openbits.TokenFlags.NETWORK)
            job.add_file(url, private / "x")
            job.resume()
            while job.info()["bytes_transferred"] < 10_000:
                time.sleep(0.01)

    def scan() -> bytes:
        become(mallory)
        return b"".join(_everything_of_proc())

    private = private_folder(owner)
    pid = os.fork()
    if pid == 0:
        try:
            story()
        finally:
            os._exit(0 if sys.exception() is None else 1)
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        seen += b"".join(_everything_of_proc(pid))
    assert ended == (pid, 0)
    seen += _in_child(scan)
    gate.set()
    service.stop()
    for path in (service.log_path, *service.state.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert canary.encode() not in content, path
            assert signature.encode() not in content or path.parent.name == "queue", path  # the URL is job data
    assert canary.encode() not in seen
    assert signature.encode() not in seen


def _everything_of_proc(*without: int) -> Iterator[bytes]:
    """What any process but the test's own shows of itself."""
    own = {os.getpid(), os.getppid(), *without}
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) in own:
            continue
        for name in ("cmdline", "environ", "status", "comm", "maps", "mountinfo"):
            with contextlib.suppress(OSError):
                yield (process / name).read_bytes()
        with contextlib.suppress(OSError):
            for link in (process / "fd").iterdir():
                yield os.fsencode(link.readlink())


def _in_child(function: Callable[[], Any]) -> Any:
    """Call as root in a child, which may then become whom it wants."""
    return run_as(Person(uid=0, gid=0), function)
