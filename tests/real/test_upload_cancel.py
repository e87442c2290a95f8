"""Uploads that are given up: Cancel waits for nobody, and the server is told (jobs.md §3.4, §4, OPEN-21)."""

import contextlib
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns.board import Board
from tests.conftest import User
from tests.real.canaries import canary
from tests.real.conftest import Service, run_as
from tests.real.half_way import (
    CANCEL,
    CLOSE,
    CREATE,
    FIRST,
    FRAGMENT,
    PING,
    SIZE,
    Server,
    acknowledged,
    admitted,
    again,
    begin,
    cancel,
    half_way,
    is_gone,
    owner,
    server,
    source,
)
from tests.server.process import ServerProcess
from tests.transfer.faultserver import SILENCE
from tests.transfer.uploadserver import Answer, honest, says, says_raw

from openbits import BitsError, JobState, JobType, Priority
from openbits.core.enums import AuthScheme, AuthTarget

__all__ = ["again", "half_way", "owner", "server", "source"]

pytestmark = pytest.mark.root

S_OK = 0
BG_E_NOT_FOUND = 0x80200001
SOON_SECONDS = 3.0
"""No clock of a transfer is as short: what takes no longer has waited for no server."""

INBOX = """
[directories."/inbox/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1_000_000_000
"""

HASTY_PROGRAM = """
import sys
from openbits.identity import spawner
from openbits.service import abandoned
abandoned.MOST = 2
sys.exit(spawner.main(sys.argv[1:]))
"""
HASTY = (sys.executable, "-I", "-c", HASTY_PROGRAM)


def test_open21_cancel_is_done_at_once_and_the_server_is_told(
    service: Service, server: Server, owner: User, half_way: Callable[..., str], eventually: Callable[..., Any]
) -> None:
    job_id = half_way()
    (session_id,) = server.sessions
    hresult, state, took, listed = cancel(service, owner, job_id)
    assert (hresult, state, listed) == (S_OK, JobState.CANCELLED.name, [])
    assert took < SOON_SECONDS
    eventually(lambda: server.sessions == {})
    (packet,) = server.sent(CANCEL)
    assert (packet.session_id, packet.target, packet.length) == (session_id, "/in/report.bin", 0)
    assert set(server.uids_of(CANCEL)) == {owner.uid}
    assert server.files == {}
    eventually(lambda: is_gone(service))


def test_open21_it_goes_on_over_restarts_until_the_server_is_there_again(
    service: Service,
    server: Server,
    owner: User,
    half_way: Callable[..., str],
    again: Callable[[], Server],
    eventually: Callable[..., Any],
) -> None:
    job_id = half_way(minimum_retry_delay_seconds=5)
    server.close()
    hresult, state, took, listed = cancel(service, owner, job_id)
    assert (hresult, state, listed) == (S_OK, JobState.CANCELLED.name, [])
    assert took < SOON_SECONDS
    service.kill("spawner")
    service.start()
    assert not is_gone(service)
    assert admitted(service) == {str(owner.uid)}
    with service.client() as client:
        assert client.job_infos(all_users=True) == []
    with pytest.raises(BitsError) as caught, service.client() as client:
        client.job(job_id)
    assert caught.value.hresult == BG_E_NOT_FOUND
    back = again()
    eventually(lambda: len(back.sent(CANCEL)) == 1, 20)
    eventually(lambda: is_gone(service))
    assert back.sessions == {}
    eventually(lambda: admitted(service) == set())


def test_open21_it_is_counted_against_no_limit(
    service: Service, server: Server, owner: User, source: Path, half_way: Callable[..., str]
) -> None:
    job_id = half_way()
    server.close()
    cancel(service, owner, job_id)
    service.set_policies("MaxJobsPerUser = 1\n")
    service.stop()
    service.start()
    assert not is_gone(service)
    begin(service, owner, server.url("/in/report.bin"), source)
    with pytest.raises(BitsError):
        begin(service, owner, server.url("/in/report.bin"), source)


@pytest.fixture
def bits_server(open_tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(open_tmp_path / "server", INBOX)
    made.start()
    yield made
    made.close()


def test_open21_nothing_of_it_stays_at_bits_server_although_that_was_away(
    service: Service, bits_server: ServerProcess, owner: User, source: Path, eventually: Callable[..., Any]
) -> None:
    limits = {"maximum_rate_bytes_per_second": 200_000, "minimum_retry_delay_seconds": 5}
    job_id = begin(service, owner, f"{bits_server.url}/inbox/report.bin", source, **limits)
    eventually(lambda: 0 < acknowledged(service, job_id) < SIZE)
    assert any(path.is_file() and path.stat().st_size for path in bits_server.spool.rglob("requestfile.bin"))
    bits_server.kill()
    hresult, _, took, listed = cancel(service, owner, job_id)
    assert (hresult, listed) == (S_OK, [])
    assert took < SOON_SECONDS
    bits_server.start()
    eventually(lambda: is_gone(service), 20)
    assert list(bits_server.spool.rglob("requestfile.bin")) == []
    assert list(bits_server.inbox.iterdir()) == []


def test_section_3_4_it_is_dropped_after_the_no_progress_timeout(
    service: Service, server: Server, owner: User, half_way: Callable[..., str], eventually: Callable[..., Any]
) -> None:
    job_id = half_way(no_progress_timeout_seconds=1, minimum_retry_delay_seconds=5)
    server.tell(CANCEL, says(Answer("503 Service Unavailable", (("Content-Length", "0"),))))
    cancel(service, owner, job_id)
    eventually(lambda: is_gone(service))
    assert len(server.sent(CANCEL)) <= 2
    assert len(server.sessions) == 1


def test_section_5_5_a_5xx_is_asked_again_and_a_4xx_is_not(
    service: Service, server: Server, owner: User, half_way: Callable[..., str], eventually: Callable[..., Any]
) -> None:
    job_id = half_way()
    refused = Answer("403 Forbidden", (("Content-Length", "0"),))
    server.tell(CANCEL, says(Answer("502 Bad Gateway", (("Content-Length", "0"),))), says(refused))
    cancel(service, owner, job_id)
    eventually(lambda: is_gone(service), 20)
    assert len(server.sent(CANCEL)) == 2


def test_open21_what_was_entrusted_is_there_for_the_server_and_gone_with_it(
    service: Service,
    server: Server,
    owner: User,
    half_way: Callable[..., str],
    again: Callable[[], Server],
    eventually: Callable[..., Any],
) -> None:
    job_id, password = half_way(minimum_retry_delay_seconds=5), canary()

    def entrust() -> None:
        with service.client() as client:
            job = client.job(job_id)
            job.set_credentials(AuthTarget.SERVER, AuthScheme.BASIC, "alice", password)
            job.set_custom_headers("X-Tenant: seven\r\n")

    run_as(owner, entrust)
    server.close()
    cancel(service, owner, job_id)
    service.stop()
    service.start()
    back = again()
    challenge = (("WWW-Authenticate", 'Basic realm="in"'), ("Content-Length", "0"))
    back.tell(CANCEL, says(Answer("401 Unauthorized", challenge)), honest)
    eventually(lambda: back.sessions == {}, 20)
    eventually(lambda: is_gone(service))
    last = back.sent(CANCEL)[-1].headers
    assert last["authorization"].startswith("Basic ")
    assert last["x-tenant"] == "seven"


def test_section_4_a_finished_upload_stays(
    service: Service, server: Server, owner: User, source: Path, eventually: Callable[..., Any]
) -> None:
    job_id = begin(service, owner, server.url("/in/report.bin"), source)

    def is_transferred() -> bool:
        with service.client() as client:
            return client.job(job_id).state is JobState.TRANSFERRED

    eventually(is_transferred)
    cancel(service, owner, job_id)
    eventually(lambda: is_gone(service))
    assert server.sent(CANCEL) == []
    assert server.files == {"/in/report.bin": bytes(SIZE)}


def test_section_4_of_an_upload_reply_only_the_reply_is_cancelled(
    service: Service, server: Server, owner: User, source: Path, eventually: Callable[..., Any]
) -> None:
    server.reply = b"answer"
    server.tell("GET", says_raw(SILENCE))
    server.tell("HEAD", says_raw(SILENCE))

    def make() -> str:
        with service.client() as client:
            job = client.create_job("report", type=JobType.UPLOAD_REPLY)
            job.set_reply_file_name(source.with_name("answer"))
            job.add_file(server.url("/in/report.bin"), source)
            job.resume()
            return str(job.id)

    job_id = run_as(owner, make)
    eventually(lambda: server.sent("GET") + server.sent("HEAD"))
    assert server.sent(CLOSE) == []
    hresult, _, took, _ = cancel(service, owner, job_id)
    assert hresult == S_OK
    assert took < SOON_SECONDS
    eventually(lambda: server.sessions == {})
    eventually(lambda: is_gone(service))
    assert server.files == {"/in/report.bin": bytes(SIZE)}
    assert [path.name for path in source.parent.iterdir()] == ["report.bin"]


def test_without_a_session_nobody_is_asked(
    service: Service, server: Server, owner: User, source: Path, eventually: Callable[..., Any]
) -> None:
    for kind in (PING, CREATE):
        server.tell(kind, says_raw(SILENCE))
    job_id = begin(service, owner, server.url("/in/report.bin"), source)
    eventually(lambda: server.packets)
    cancel(service, owner, job_id)
    eventually(lambda: is_gone(service))
    assert server.sent(CANCEL) == []


# -- kill -9 and silence ----------------------------------------------------------------------------------------------


@pytest.fixture
def fated(open_tmp_path: Path, make_service: Callable[..., Service]) -> tuple[Service, Board]:
    """A service whose programs die at the point that is lit, and what lights it."""
    bitsd = Path(__file__).parents[1] / "campaigns" / "bitsd.py"
    board = Board.make(open_tmp_path / "board")
    made = make_service(command=(sys.executable, "-I", str(bitsd), str(open_tmp_path / "board")))
    made.start()
    return made, board


def test_open21_a_manager_that_dies_between_server_and_row_tells_it_again(
    fated: tuple[Service, Board], server: Server, owner: User, source: Path, eventually: Callable[..., Any]
) -> None:
    """The server has forgotten the session by then, which is a success (§5.5)."""
    service, board = fated
    server.stalls()
    job_id = begin(service, owner, server.url("/in/report.bin"), source)
    eventually(lambda: acknowledged(service, job_id) == FIRST)
    board.light("abandoned.told", 1)
    cancel(service, owner, job_id)
    eventually(lambda: board.died("abandoned.told"))
    service.wait_until_it_answers()
    eventually(lambda: is_gone(service))
    assert len(server.sent(CANCEL)) == 2
    assert server.sessions == {}


def test_open21_a_worker_that_dies_on_the_way_is_followed_by_another(
    service: Service, server: Server, owner: User, half_way: Callable[..., str], eventually: Callable[..., Any]
) -> None:
    job_id = half_way()
    server.tell(CANCEL, says_raw(SILENCE), honest)
    cancel(service, owner, job_id)
    eventually(lambda: server.sent(CANCEL))
    service.kill("worker")
    eventually(lambda: server.sessions == {})
    eventually(lambda: is_gone(service))
    assert len(server.sent(CANCEL)) == 2


def test_a_server_that_is_silent_holds_up_nobody(
    service: Service,
    server: Server,
    owner: User,
    source: Path,
    half_way: Callable[..., str],
    eventually: Callable[..., Any],
) -> None:
    job_id = half_way()
    server.tell(CANCEL, says_raw(SILENCE))
    cancel(service, owner, job_id)
    eventually(lambda: server.sent(CANCEL))
    server.tell(FRAGMENT, honest)
    other = begin(service, owner, server.url("/in/other.bin"), source)
    eventually(lambda: server.files.get("/in/other.bin") == bytes(SIZE))
    _, _, took, _ = cancel(service, owner, other)
    assert took < SOON_SECONDS
    began = time.monotonic()
    service.stop()
    assert time.monotonic() - began < SOON_SECONDS


def test_nobody_fills_the_store_with_jobs_that_no_limit_counts(
    make_service: Callable[..., Service],
    server: Server,
    owner: User,
    source: Path,
    eventually: Callable[..., Any],
) -> None:
    service = make_service(command=HASTY)
    service.start()
    job_ids: list[str] = []
    for number in range(4):
        server.stalls()
        job_ids.append(begin(service, owner, server.url(f"/in/{number}"), source, priority=Priority.FOREGROUND))
        eventually(lambda: len(server.sessions) == number + 1)  # noqa: B023
        eventually(lambda: acknowledged(service, job_ids[-1]))
        eventually(lambda: len(server.sent(FRAGMENT)) == 2 * (number + 1))  # noqa: B023
    server.close()
    for job_id in job_ids:
        cancel(service, owner, job_id)

    def count() -> int:
        with contextlib.closing(sqlite3.connect(service.state / "queue" / "queue.db")) as store:
            found: int = store.execute("SELECT count(*) FROM jobs").fetchone()[0]
        return found

    eventually(lambda: count() == 2)
    assert "session_given_up" in service.log()
