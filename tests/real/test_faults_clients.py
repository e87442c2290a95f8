"""Clients that race, vanish, send rubbish or do not listen: the manager survives all of it and keeps no descriptor."""

import contextlib
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site, run_as
from tests.real.stories import cancel_all, create, descriptors, names, real_user, running_service, transferred

from openbits import BitsError
from openbits.channel import close_all

pytestmark = pytest.mark.root

BG_E_INVALID_STATE = 0x80200002
MAX_MESSAGE_BYTES = 1 << 20
MAX_CONNECTIONS = 64

BODY = secrets.token_bytes(20_000)


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The service of all tests here, with an empty queue; its manager is still the one that began."""
    before = running.pids()["manager"]
    yield running
    assert running.pids()["manager"] == before, f"the manager died:\n{running.log()[-3000:]}"
    assert "call_crashed" not in running.log()
    cancel_all(running)


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: Any) -> Path:
    return private_folder(owner)


# -- races ------------------------------------------------------------------------------------------------------------


def _at_once(*acts: Callable[[], int]) -> list[int]:
    """What each of the calls returns, or the code of its error; all begin at the same moment, none may hang."""
    results: list[int] = []
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], int]) -> None:
        barrier.wait()
        try:
            results.append(act())
        except BitsError as error:
            results.append(error.hresult)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a call got no answer"
    return sorted(results)


def test_two_clients_that_complete_one_job_are_both_answered(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    for _ in range(5):
        job = transferred(service, site, owner, folder)
        results = _at_once(job.complete, job.complete, job.complete)
        assert set(results) <= {0, BG_E_INVALID_STATE, 0x80200001}, results  # joined, too late, gone already
        assert 0 in results
        assert len(names(folder)) == 10


def test_complete_and_cancel_at_once_is_one_of_the_two(service: Service, site: Site, owner: Any, folder: Path) -> None:
    for _ in range(5):
        job = transferred(service, site, owner, folder)
        results = _at_once(job.complete, job.cancel)
        assert results[0] == 0, results
        assert results[1] in {BG_E_INVALID_STATE, 0x80200001}
        assert len(names(folder)) in {0, 10}
        assert job.is_gone()
        for name in names(folder):
            (folder / name).unlink()


def test_suspend_resume_and_cancel_from_three_clients_end_without_a_trace(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    site.put("/slow", BODY)
    site.gate("/slow", 100)
    job = create(service, owner, [(f"{site.url}/slow", folder / "slow")])

    def many_times(act: Callable[[], None]) -> Callable[[], int]:
        def run() -> int:
            for _ in range(20):
                act()
            return 0

        return run

    assert _at_once(many_times(job.suspend), many_times(job.resume)) == [0, 0]
    assert job.cancel() == 0
    assert names(folder) == []


# -- vanishing --------------------------------------------------------------------------------------------------------


def _raw(service: Service) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(service.socket))
    return connection


def _message(method: str, **parameters: object) -> bytes:
    return json.dumps({"method": f"io.openbits.Service.{method}", "parameters": parameters}).encode() + b"\0"


def _reply(connection: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\0"):
        more = connection.recv(65536)
        assert more, "the connection ended"
        data += more
    reply: dict[str, Any] = json.loads(data[:-1])
    return reply


@pytest.mark.parametrize("method", ["Complete", "Cancel"])
def test_a_client_that_vanishes_in_the_middle_of_a_call_has_it_carried_out(
    method: str, service: Service, site: Site, owner: Any, folder: Path, eventually: Callable[..., Any]
) -> None:
    job = transferred(service, site, owner, folder)

    def vanish() -> None:
        with _raw(service) as connection:
            connection.sendall(_message("OpenJob", job_id=job.id))
            handle = _reply(connection)["parameters"]["handle"]
            connection.sendall(_message(method, handle=handle))

    run_as(owner, vanish)
    eventually(job.is_gone)
    eventually(lambda: len(names(folder)) == (10 if method == "Complete" else 0))


def test_clients_that_vanish_while_they_create_leave_whole_jobs_and_no_descriptor(
    service: Service, owner: Any, eventually: Callable[..., Any]
) -> None:
    manager = service.pids()["manager"]

    def vanish() -> None:
        with service.client() as client:
            token = client.open_process_token()
            for _ in range(40):
                connection = _raw(service)
                socket.send_fds(
                    connection,
                    [_message("CreateJob", display_name="x", type="download", umask=0, token=0)],
                    [token.fileno()],
                )
                connection.close()

    before = descriptors(manager)
    run_as(owner, vanish)
    eventually(lambda: _descriptors_of(service, manager) <= before)
    with service.client() as client:
        assert {info["state"] for info in client.job_infos(all_users=True)} <= {"suspended"}


@pytest.mark.parametrize("answers", [0, 1])
def test_a_listener_that_leaves_while_nothing_happens_keeps_no_connection(
    answers: int, service: Service, owner: Any, eventually: Callable[..., Any]
) -> None:
    """There is no event that could not be sent to it; and its own service would never be idle."""
    manager = service.pids()["manager"]
    call = {"method": "io.openbits.Service.Subscribe", "parameters": {"all_users": False}, "more": True}

    def leave() -> None:
        for _ in range(20):
            with _raw(service) as connection:
                connection.sendall(json.dumps(call).encode() + b"\0")
                for _ in range(answers):
                    assert _reply(connection)["parameters"]["event"]["kind"] == "subscribed"

    before = _descriptors_of(service, manager)
    run_as(owner, leave)
    eventually(lambda: _descriptors_of(service, manager) <= before)


def _descriptors_of(service: Service, manager: int) -> int:
    """Counted after a call, since what a client left is looked at when the loop turns."""
    service.pids()
    return descriptors(manager)


# -- rubbish ----------------------------------------------------------------------------------------------------------

RUBBISH = {
    "no JSON": b"hello\0",
    "no text": b"\xff\xfe\xfa\0",
    "no object": b"[1, 2]\0",
    "a number": b"7\0",
    "nothing": b"\0\0\0",
    "empty object": b"{}\0",
    "method of a wrong type": b'{"method": 7}\0',
    "no interface": b'{"method": "Hello"}\0',
    "unknown interface": b'{"method": "a.b.C"}\0',
    "parameters of a wrong type": b'{"method": "io.openbits.Service.Hello", "parameters": [1]}\0',
    "nested too deeply": b"[" * 200_000 + b"\0",
    "objects nested too deeply": b'{"a":' * 100_000 + b"\0",
    "a huge number": b'{"method": "io.openbits.Service.Hello", "parameters": {"level": ' + b"9" * 5000 + b"}}\0",
    "half a message": b'{"method": "io.open',
    "too long": b" " * (2 * MAX_MESSAGE_BYTES),
    "too long, with an end": b'{"method": "' + b"x" * (2 * MAX_MESSAGE_BYTES) + b'"}\0',
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH.keys())
@pytest.mark.attack(16)
def test_rubbish_with_descriptors_is_refused_and_nothing_of_it_is_kept(
    rubbish: bytes, service: Service, owner: Any, eventually: Callable[..., Any]
) -> None:
    manager = service.pids()["manager"]

    def send() -> None:
        for _ in range(10):
            reading, writing = os.pipe()
            with _raw(service) as connection:
                try:
                    socket.send_fds(connection, [rubbish[:1000]], [reading, writing] * 10)
                    connection.sendall(rubbish[1000:])
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):  # an error reply, perhaps, and the end
                        pass
                except ConnectionError:
                    pass
            os.close(reading)
            os.close(writing)

    before = descriptors(manager)
    run_as(owner, send)
    eventually(lambda: _descriptors_of(service, manager) <= before)


@pytest.mark.attack(17)
def test_a_message_below_the_limit_is_answered_and_one_above_it_ends_the_connection(
    service: Service, owner: Any
) -> None:
    def story() -> None:
        with _raw(service) as connection:
            name = "x" * (MAX_MESSAGE_BYTES - 200)
            connection.sendall(_message("CreateJob", display_name=name, type="download", umask=0))
            assert _reply(connection)["parameters"]["hresult"] == 0x80070057
            name = "x" * (MAX_MESSAGE_BYTES + 200)
            with contextlib.suppress(ConnectionError):
                connection.sendall(_message("CreateJob", display_name=name, type="download", umask=0))
                assert connection.recv(1) == b""
        with service.client() as client, pytest.raises(BitsError, match="use several calls"):
            client.create_job(name)

    run_as(owner, story)


@pytest.mark.attack(16)
def test_good_calls_with_surplus_descriptors_are_answered_and_the_descriptors_closed(
    service: Service, owner: Any, eventually: Callable[..., Any]
) -> None:
    manager = service.pids()["manager"]

    def story() -> None:
        reading, writing = os.pipe()
        with _raw(service) as connection:
            for count in (1, 4, 5, 50, 250):
                for _ in range(5):
                    socket.send_fds(connection, [_message("Hello", level=3)], [reading] * count)
                    assert _reply(connection)["parameters"]["caller_uid"] == os.geteuid()
        os.close(writing)
        assert os.read(reading, 1) == b"", "somebody still holds the other end"

    before = descriptors(manager)
    run_as(owner, story)
    eventually(lambda: _descriptors_of(service, manager) <= before)


@pytest.mark.attack(17)
def test_the_65th_connection_of_a_user_is_closed_and_the_other_users_do_not_notice(
    service: Service, owner: Any
) -> None:
    full_reading, full_writing = os.pipe()
    done_reading, done_writing = os.pipe()

    def occupy() -> int:
        connections = [_raw(service) for _ in range(MAX_CONNECTIONS + 10)]
        answered = 0
        for connection in connections:
            try:
                connection.sendall(_message("Hello", level=3))
                answered += "parameters" in _reply(connection)
            except (ConnectionError, AssertionError):
                pass
        os.write(full_writing, b".")
        os.read(done_reading, 1)
        return answered

    def call() -> bool:
        with service.client() as client:
            return client.job_infos() == []

    others: list[bool] = []

    def other_user() -> None:
        os.read(full_reading, 1)
        others.append(call())
        os.write(done_writing, b".")

    thread = threading.Thread(target=other_user)
    thread.start()
    assert run_as(owner, occupy) == MAX_CONNECTIONS
    thread.join(10)
    assert others == [True]
    close_all([full_reading, full_writing, done_reading, done_writing])
    assert run_as(owner, call)


@pytest.mark.attack(17)
def test_a_client_that_does_not_read_its_answers_is_dropped_and_costs_no_memory(service: Service, owner: Any) -> None:
    manager = service.pids()["manager"]

    def story() -> str:
        with service.client() as client:
            job = client.create_job("x" * 256)
            job.set(description="x" * 1024)
            with _raw(service) as connection:
                connection.settimeout(2)
                calls = json.dumps(
                    {"method": "io.openbits.Service.ListJobs", "parameters": {"all_users": False}, "more": True}
                ).encode()
                try:
                    for _ in range(20_000):
                        connection.sendall(calls + b"\0")
                except TimeoutError:
                    return "held back"
                except ConnectionError:
                    return "dropped"
                finally:
                    job.cancel()
                return "all was taken"

    before = _resident_bytes(manager)
    assert run_as(owner, story) in {"held back", "dropped"}
    assert _resident_bytes(manager) < before + 20_000_000


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
