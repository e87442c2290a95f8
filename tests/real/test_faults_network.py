"""What servers and networks do wrong, through the whole service: state, code, context, words, and how it goes on.

The rows of errors.md §4, §5.1 and jobs.md §3.6; the sixty misbehaviours one by one are tests of the worker.
"""

import hashlib
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service
from tests.real.stories import Job, cancel_all, create, names, real_user, running_service
from tests.transfer.faultserver import (
    CLOSE,
    RESET,
    SILENCE,
    FaultServer,
    Request,
    Step,
    head,
    part,
    size_only,
    whole,
)

pytestmark = pytest.mark.root

CANNOT_CONNECT = 0x80072EFD
CONNECTION_ERROR = 0x80072EFE
TIMEOUT = 0x80072EE2
NAME_NOT_RESOLVED = 0x80072EE7
REMOTE_FILE_CHANGED = 0x80200073
INVALID_SERVER_RESPONSE = 0x8020001B
SECURE_CHANNEL_ERROR = 0x80072F7D

BODY = secrets.token_bytes(400_000)
OTHER = secrets.token_bytes(400_000)
HALF = len(BODY) // 2
TAG = 'ETag: "one"'

LONG_CLOCK_SECONDS = 60.0


CLOCKS = "[clocks]\nconnect_seconds = 2\nfirst_byte_seconds = 1\nfloor_bytes = 1000\nfloor_seconds = 1\n"
"""A test can wait for these."""


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service(CLOCKS) as made:
        yield made


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The service of all tests here, with an empty queue."""
    yield running
    cancel_all(running)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """Says what it is told."""
    made = FaultServer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: Any) -> Path:
    return private_folder(owner)


@pytest.fixture
def fetch(service: Service, owner: Any, folder: Path) -> Callable[..., Job]:
    """`fetch(url)`: a job of the owner that is under way."""
    return lambda url, **properties: create(service, owner, [(url, folder / "file")], **properties)


def _is_told(job: Job, owner: Any, *parts: str) -> None:
    """Symbol, number, identity and the given parts are in the error; why, since when, what next are in the API."""
    info = job.info()
    error, waiting = info["error"], info["waiting"]
    assert error is not None
    assert waiting is not None
    for part_of_text in (f"0x{error['hresult']:08X}", error["symbol"], f"{owner.name} (uid {owner.uid})", *parts):
        assert part_of_text in error["message"], error["message"]
    assert waiting["reason"]
    assert waiting["hint"]
    assert waiting["next"]
    assert abs(waiting["since"] - time.time()) < LONG_CLOCK_SECONDS
    if info["state"] == "transient_error":
        assert waiting["next_at"] is not None
        assert waiting["next_at"] > waiting["since"]


def _ends_well(job: Job, folder: Path, body: bytes = BODY) -> None:
    job.reaches("transferred")
    assert job.complete() == 0
    assert names(folder) == ["file"]
    assert hashlib.sha256((folder / "file").read_bytes()).digest() == hashlib.sha256(body).digest()


# -- transient --------------------------------------------------------------------------------------------------------


def test_a_refused_port_is_transient_and_resume_tries_at_once(
    fetch: Callable[..., Job], folder: Path, owner: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    job = fetch(f"http://127.0.0.1:{port}/file?signature=secret")
    job.reaches("transient_error")
    assert job.code == ("transient_error", CANNOT_CONNECT, "general_transport")
    _is_told(job, owner, f"127.0.0.1:{port}", "refused")
    assert "secret" not in job.error["message"]
    _wait_for_attempts(job, 2)  # now the next one is seconds away
    assert job.info()["error_count"] >= 1
    server = FaultServer(port=port)
    try:
        server.serve_ranges(BODY, TAG)
        before = time.monotonic()
        job.resume()
        job.reaches("transferred", seconds=3)
        assert time.monotonic() - before < 3
        _ends_well(job, folder)
    finally:
        server.close()


def _wait_for_attempts(job: Job, count: int) -> None:
    """Until the `count`-th failed attempt: the pause after it is the `count`-th of 1, 5, 15 s."""
    deadline = time.monotonic() + 15
    while f"attempt {count} failed" not in (job.info()["waiting"] or {"reason": ""})["reason"]:
        assert time.monotonic() < deadline, job.info()["waiting"]
        time.sleep(0.02)


def test_an_unknown_host_is_transient_and_named(fetch: Callable[..., Job], owner: Any) -> None:
    job = fetch("http://no-such-host.invalid/file")
    job.reaches("transient_error", seconds=30)
    assert job.code == ("transient_error", NAME_NOT_RESOLVED, "general_transport")
    _is_told(job, owner, "no-such-host.invalid")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429])
def test_a_server_that_fails_once_is_asked_again_after_a_second_without_anybody(
    status: int, fetch: Callable[..., Job], server: FaultServer, folder: Path, owner: Any
) -> None:
    server.answer("HEAD", size_only(BODY, TAG))
    server.answer("GET", [head(f"{status} Oh", "Content-Length: 0")], whole(BODY, TAG))
    job = fetch(server.url())
    info = job.reaches("transient_error")
    assert job.code == ("transient_error", 0x80190000 + status, "remote_file")
    _is_told(job, owner, f"127.0.0.1:{server.port}", f"{status} Oh")
    job.reaches("transferred", seconds=4)
    assert 0.9 < job.info()["state_since"] - info["state_since"] < 3
    assert job.info()["error"] is None, "the error object is discarded when bytes move (T5)"
    _ends_well(job, folder)


def test_retry_after_is_honoured_and_told(fetch: Callable[..., Job], server: FaultServer, owner: Any) -> None:
    server.answer("HEAD", [head("503 Busy", "Content-Length: 0", "Retry-After: 100")])
    job = fetch(server.url())
    info = job.reaches("transient_error")
    _is_told(job, owner, "asks to wait 100 s")
    waiting = info["waiting"]
    assert waiting is not None
    assert waiting["next_at"] is not None
    assert 95 < waiting["next_at"] - waiting["since"] <= 111


@pytest.mark.parametrize("ending", [CLOSE, RESET])
def test_a_body_cut_short_is_resumed_where_it_broke_and_ends_equal(
    ending: Step, fetch: Callable[..., Job], server: FaultServer, folder: Path, owner: Any
) -> None:
    def rest(request: Request) -> Sequence[Step]:
        return part(BODY, request.offset or 0, TAG)

    server.answer("HEAD", size_only(BODY, TAG))
    server.answer("GET", [head("200 OK", f"Content-Length: {len(BODY)}", TAG), BODY[:HALF], ending], rest)
    job = fetch(server.url())
    job.reaches("transient_error")
    assert job.code == ("transient_error", CONNECTION_ERROR, "general_transport")
    _is_told(job, owner, f"127.0.0.1:{server.port}")
    assert job.info()["error_count"] == 1, "TRANSFERRING to TRANSIENT_ERROR counts (jobs.md §3.6)"
    _ends_well(job, folder)
    if ending is CLOSE:
        assert server.asked("GET")[1].offset == HALF
        assert server.asked("GET")[1].headers["if-range"] == '"one"'


def test_a_reset_after_every_64_kib_costs_a_second_each_and_no_error_budget(
    fetch: Callable[..., Job], server: FaultServer, folder: Path
) -> None:
    """Row 26: while bytes move the delay does not grow."""
    step = 150_000

    def slice_of(request: Request) -> Sequence[Step]:
        first = request.offset or 0
        if first + step >= len(BODY):
            return part(BODY, first, TAG)
        steps = whole(BODY, TAG) if request.offset is None else part(BODY, first, TAG)
        return [steps[0], BODY[first : first + step], CLOSE]

    server.answer("HEAD", size_only(BODY, TAG))
    server.answer("GET", slice_of)
    job = fetch(server.url())
    before = time.monotonic()
    job.reaches("transferred", seconds=10)
    assert time.monotonic() - before < 6
    _ends_well(job, folder)


@pytest.mark.parametrize("steps", [[SILENCE], [head("200 OK", f"Content-Length: {len(BODY)}", TAG), b"x", SILENCE]])
def test_silence_is_a_time_out_that_says_which_clock(
    steps: list[Step], fetch: Callable[..., Job], server: FaultServer, owner: Any
) -> None:
    server.answer("HEAD", size_only(BODY, TAG))
    server.answer("GET", steps)
    job = fetch(server.url())
    job.reaches("transient_error")
    assert job.code == ("transient_error", TIMEOUT, "general_transport")
    _is_told(job, owner, "clock" if len(steps) == 1 else "progress floor")


def test_tls_to_a_server_without_it_is_transient(fetch: Callable[..., Job], server: FaultServer, owner: Any) -> None:
    server.answer("HEAD", [])
    job = fetch(server.url().replace("http:", "https:"))
    job.reaches("transient_error")
    state, code, context = job.code
    assert (state, context) == ("transient_error", "general_transport")
    assert code in {SECURE_CHANNEL_ERROR, TIMEOUT, CONNECTION_ERROR}
    _is_told(job, owner)


def test_the_no_progress_timeout_ends_it_with_the_last_error(fetch: Callable[..., Job], server: FaultServer) -> None:
    """T14: no timeout means no retry at all."""
    server.answer("HEAD", size_only(BODY))
    server.answer("GET", [head("500 Oh", "Content-Length: 0")])
    job = fetch(server.url(), no_progress_timeout_seconds=0)
    job.reaches("error")
    assert job.code == ("error", 0x801901F4, "remote_file")
    assert len(server.asked("GET")) == 1


# -- fatal ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 403, 401, 410, 501])
def test_a_refusal_is_an_error_at_once_with_url_identity_and_answer(
    status: int, fetch: Callable[..., Job], server: FaultServer, owner: Any, folder: Path
) -> None:
    server.answer("HEAD", [head(f"{status} No", "Content-Length: 0")])
    server.answer("GET", [head(f"{status} No", "Content-Length: 0")])
    job = fetch(server.url("/path/file?signature=secret"))
    job.reaches("error")
    assert job.code == ("error", 0x80190000 + status, "remote_file")
    _is_told(job, owner, f"http://127.0.0.1:{server.port}/path/file", f"{status} No")
    assert "secret" not in job.error["message"]
    assert job.error["identity"] == f"{owner.name} (uid {owner.uid})"
    assert job.cancel() == 0
    assert names(folder) == []


def test_a_job_in_error_is_resumed_after_the_repair(
    fetch: Callable[..., Job], server: FaultServer, folder: Path
) -> None:
    server.answer("HEAD", size_only(BODY))
    server.answer("GET", [head("404 No", "Content-Length: 0")], whole(BODY))
    job = fetch(server.url())
    job.reaches("error")
    job.resume()
    _ends_well(job, folder)


def test_an_answer_that_is_no_http_is_an_error(fetch: Callable[..., Job], server: FaultServer, owner: Any) -> None:
    server.answer("HEAD", [b"hello\r\n\r\n", CLOSE])
    server.answer("GET", [b"hello\r\n\r\n", CLOSE])
    job = fetch(server.url())
    job.reaches("error")
    assert job.code == ("error", INVALID_SERVER_RESPONSE, "remote_file")
    _is_told(job, owner)


def test_the_second_file_is_not_touched_after_a_fatal_error_of_the_first(
    service: Service, owner: Any, folder: Path, server: FaultServer
) -> None:
    """T8: all or nothing; Complete then publishes nothing and says so."""
    server.answer("HEAD", size_only(BODY))
    server.answer("GET", [head("404 No", "Content-Length: 0")], whole(BODY))
    job = create(service, owner, [(server.url("/a"), folder / "a"), (server.url("/b"), folder / "b")])
    job.reaches("error")
    assert [request.target for request in server.asked("GET")] == ["/a"]
    assert job.error["file_index"] == 0
    assert job.complete() == 0x00200017  # BG_S_PARTIAL_COMPLETE
    assert names(folder) == []


# -- the file changes, the server cannot resume -----------------------------------------------------------------------


def _broken_in_the_middle(server: FaultServer, *answers: Any) -> None:
    server.answer("HEAD", size_only(BODY, TAG))
    server.answer("GET", [head("200 OK", f"Content-Length: {len(BODY)}", TAG), BODY[:HALF], CLOSE], *answers)


def test_a_file_that_changed_before_the_resume_begins_again_and_is_not_mixed(
    fetch: Callable[..., Job], server: FaultServer, folder: Path
) -> None:
    _broken_in_the_middle(server, whole(OTHER, 'ETag: "two"'))
    job = fetch(server.url())
    _ends_after_restart(job, folder, OTHER, 'ETag "one" -> "two"')


def test_a_server_that_answers_a_range_with_the_whole_file_is_taken_at_its_word(
    fetch: Callable[..., Job], server: FaultServer, folder: Path
) -> None:
    _broken_in_the_middle(server, whole(BODY, TAG))
    job = fetch(server.url())
    _ends_after_restart(job, folder, BODY, "resume not possible")


def _ends_after_restart(job: Job, folder: Path, body: bytes, note: str) -> None:
    job.reaches("transferred")
    assert note in job.files()[0]["note"]
    _ends_well(job, folder, body)


def test_a_file_that_changes_at_every_request_is_given_up_with_the_reason(
    fetch: Callable[..., Job], server: FaultServer, folder: Path, owner: Any
) -> None:
    """OPEN-44: at most three restarts, then BG_E_REMOTE_FILE_CHANGED."""
    versions = iter(range(100))

    def another(_: Request) -> Sequence[Step]:
        tag = f'ETag: "{next(versions)}"'
        return [head("200 OK", f"Content-Length: {len(BODY)}", tag), BODY[:HALF], CLOSE]

    server.answer("HEAD", size_only(BODY))
    server.answer("GET", another)
    job = fetch(server.url())
    job.reaches("error", seconds=20)
    assert job.code == ("error", REMOTE_FILE_CHANGED, "remote_file")
    _is_told(job, owner)
    assert job.cancel() == 0
    assert names(folder) == []
