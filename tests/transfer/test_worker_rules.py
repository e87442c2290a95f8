"""What the worker asks for and what it takes, by the job and the settings of the service: the bytes on the wire.

Resume ladder, strict, other methods, dynamic content, limits, reported redirects, denied networks, login pages
(jobs.md §9, §13; reliability.md §5 rows 9, 18, 40, 57-58 and note A). The decisions alone are in test_download.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.transfer.conftest import Story, WorkerProcess
from tests.transfer.faultserver import CLOSE, Answer, FaultServer, Request, Step, date, head, part, size_only, whole

from openbits.core import codes
from openbits.core.enums import SecurityFlags

BODY = bytes(range(256)) * 1024
NEW = bytes(reversed(BODY))
HALF = len(BODY) // 2
MONDAY, TUESDAY = date(1_793_613_600), date(1_793_700_000)
TAG = 'ETag: "a"'
DATED = f"Last-Modified: {MONDAY}"
KNOWN = {"size_bytes": len(BODY), "etag": '"a"', "last_modified": MONDAY}


@pytest.fixture
def job(worker: WorkerProcess) -> Iterator[WorkerProcess]:
    """The worker; what a test sets for its orders is taken back."""
    before = {name: value for name, value in vars(worker).items() if not name.startswith("_")}
    yield worker
    vars(worker).update(before)


def resume(worker: WorkerProcess, server: FaultServer, destination: Path, *answers: Answer, **known: object) -> Story:
    """One run of a transfer that has the first half of BODY on the disk."""
    destination.write_bytes(BODY[:HALF])
    server.answer("GET", *answers)
    return worker.story(worker.start(server.url(), destination, HALF, **{**KNOWN, **known}))


def guards(server: FaultServer) -> list[tuple[str | None, str | None]]:
    """Range and If-Range of the requests, in order."""
    return [(one.headers.get("range"), one.headers.get("if-range")) for one in server.requests]


REST = f"bytes={HALF}-"


# -- the ladder (note A)


def test_9_a_server_that_never_honours_ranges_is_read_past_what_is_here(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    def trickling(_: Request) -> Iterator[Step]:
        yield head("200 OK", f"Content-Length: {len(BODY)}", TAG, DATED)
        yield from (BODY[start : start + 1009] for start in range(0, len(BODY), 1009))

    story = resume(job, server, destination, whole(BODY, TAG, DATED), whole(BODY, TAG, DATED), trickling)
    assert guards(server) == [(REST, '"a"'), (REST, MONDAY), (REST, None)]
    assert story.outcome == "transferred"
    assert story.connected["offset"] == HALF
    assert "bytes come again and are left out" in story.connected["note"]
    assert destination.read_bytes() == BODY


@pytest.mark.parametrize("honoured", [MONDAY, None])
def test_9_a_server_that_honours_another_condition_sends_the_rest_alone(
    job: WorkerProcess, server: FaultServer, destination: Path, honoured: str | None
) -> None:
    def picky(request: Request) -> list[Step]:
        is_right = request.headers.get("if-range") == honoured
        return part(BODY, HALF, TAG, DATED) if is_right else whole(BODY, TAG, DATED)

    story = resume(job, server, destination, picky)
    assert story.outcome == "transferred"
    assert story.connected["offset"] == HALF
    assert destination.read_bytes() == BODY


def test_9_what_is_here_survives_a_break_in_the_bytes_that_come_again(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    broken: list[Step] = [
        head("200 OK", f"Content-Length: {len(BODY)}", TAG, "Accept-Ranges: none"),
        BODY[: HALF // 2],
        CLOSE,
    ]
    story = resume(job, server, destination, broken)
    assert story.hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR
    assert story.last["durable_bytes"] == HALF
    assert destination.read_bytes() == BODY[:HALF]


def test_9_bytes_of_another_version_are_never_read_past(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """Nothing that counts is cut before the manager knows (P2)."""
    other = f"Last-Modified: {TUESDAY}"
    story = resume(job, server, destination, whole(BODY, TAG, DATED), whole(NEW, 'ETag: "b"', other))
    assert story.outcome == "restarted"
    assert story.last["hresult"] == codes.BG_E_REMOTE_FILE_CHANGED
    assert destination.read_bytes() == BODY[:HALF]


def test_a_server_that_names_no_version_is_the_end_of_resuming(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    story = resume(job, server, destination, whole(BODY), etag=None, last_modified=None)
    assert story.outcome == "restarted"
    assert story.last["hresult"] == codes.BG_E_INSUFFICIENT_RANGE_SUPPORT
    assert server.requests == []


def test_18_a_tag_that_is_new_in_each_answer_costs_no_byte(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    def node(request: Request) -> list[Step]:
        tag = f'ETag: "{len(server.requests)}"'
        is_met = request.headers.get("if-range") == MONDAY
        return part(BODY, HALF, tag, DATED) if is_met else whole(BODY, tag, DATED)

    story = resume(job, server, destination, node)
    assert story.outcome == "transferred"
    assert (story.connected["offset"], story.connected["etag"]) == (HALF, None)
    assert destination.read_bytes() == BODY


def test_18_two_nodes_with_tags_of_their_own_cost_no_byte(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    def node(request: Request) -> list[Step]:
        tag = '"a"' if len(server.requests) % 2 == 0 else '"b"'
        fields = (f"ETag: {tag}", DATED)
        return part(BODY, HALF, *fields) if request.headers.get("if-range") == tag else whole(BODY, *fields)

    story = resume(job, server, destination, node)
    assert story.outcome == "transferred"
    assert story.connected["offset"] == HALF
    assert destination.read_bytes() == BODY


def test_17_a_file_that_was_replaced_within_the_second_is_noticed_by_its_tag(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    story = resume(job, server, destination, whole(NEW, 'ETag: "b"', DATED))
    assert story.outcome == "restarted"
    assert 'ETag "a" -> "b"' in story.last["reason"]
    assert destination.read_bytes() == BODY[:HALF]


@pytest.mark.parametrize(("moved", "outcome"), [(date(1_793_613_601), "restarted"), (date(4_000_000_000), "restarted")])
def test_20_a_date_that_moves_by_a_second_is_another_version(
    job: WorkerProcess, server: FaultServer, destination: Path, moved: str, outcome: str
) -> None:
    answer = whole(NEW, f"Last-Modified: {moved}")
    assert resume(job, server, destination, answer, etag=None).outcome == outcome


def test_20_a_date_in_the_future_is_a_date(job: WorkerProcess, server: FaultServer, destination: Path) -> None:
    future = date(4_000_000_000)
    answer = part(BODY, HALF, f"Last-Modified: {future}")
    assert resume(job, server, destination, answer, etag=None, last_modified=future).outcome == "transferred"
    assert destination.read_bytes() == BODY


# -- strict (jobs.md §9.1)


@pytest.fixture(scope="module")
def strict() -> Iterator[WorkerProcess]:
    made = WorkerProcess(is_strict=True)
    made.is_foreground = False
    yield made
    made.close()


@pytest.mark.parametrize(
    ("answers", "hresult"),
    [
        ({"HEAD": [[head("200 OK")]]}, codes.BG_E_MISSING_FILE_SIZE),
        ({"HEAD": [size_only(BODY)], "GET": [whole(BODY)]}, codes.BG_E_INSUFFICIENT_RANGE_SUPPORT),
        ({"HEAD": [[b"HTTP/1.0 200 OK\r\n\r\n", CLOSE]]}, codes.BG_E_INSUFFICIENT_HTTP_SUPPORT),
        ({"HEAD": [[head("405 Not Allowed", "Content-Length: 0")]]}, codes.BG_E_HTTP_ERROR_405),
    ],
)
def test_strict_what_bits_needs_of_a_server_is_needed(
    strict: WorkerProcess, server: FaultServer, destination: Path, answers: dict[str, list[Answer]], hresult: int
) -> None:
    for method, said in answers.items():
        server.answer(method, *said)
    story = strict.fetch(server.url(), destination)
    assert (story.hresult, story.last["context"]) == (hresult, "remote_file")


def test_strict_a_sound_server_is_served(strict: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.serve_ranges(BODY, TAG)
    assert strict.fetch(server.url(), destination).outcome == "transferred"
    assert destination.read_bytes() == BODY
    assert guards(server) == [(None, None), ("bytes=0-", None)]


# -- other methods and made content (jobs.md §9.9, §13)


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("POST", "200 OK", "0"), ("PUT", "201 Created", "0"), ("PROPFIND", "207 Multi-Status", None)],
)
def test_another_method_is_sent_without_head_and_its_answer_is_the_file(
    job: WorkerProcess, server: FaultServer, destination: Path, method: str, status: str, length: str | None
) -> None:
    job.method, job.is_foreground = method, False
    server.answer(method, [head(status, f"Content-Length: {len(BODY)}"), BODY])
    assert job.fetch(server.url(), destination).outcome == "transferred"
    (request,) = server.requests
    assert (request.method, request.headers.get("content-length")) == (method, length)
    assert destination.read_bytes() == BODY


def test_a_connection_that_carried_another_method_is_good_for_get(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.answer("PROPFIND", whole(b"list"))
    server.answer("GET", whole(BODY))
    job.method = "PROPFIND"
    job.fetch(server.url(), destination)
    job.method = "GET"
    assert job.fetch(server.url(), destination).outcome == "transferred"
    assert [request.method for request in server.requests] == ["PROPFIND", "GET"]


def test_a_method_whose_answer_has_no_body_ends_without_waiting_for_one(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    job.method = "HEAD"
    server.answer("HEAD", size_only(BODY))
    assert job.fetch(server.url(), destination).hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR


def test_made_content_is_asked_for_as_a_whole_each_time(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    job.is_dynamic = True
    chunks = b"4\r\nmade\r\n0\r\n\r\n"
    server.answer("GET", [head("200 OK", "Transfer-Encoding: chunked", TAG), chunks])
    story = job.fetch(server.url(), destination)
    assert (story.outcome, story.last["size_bytes"]) == ("transferred", 4)
    assert guards(server) == [(None, None)]


# -- MAX_DOWNLOAD_SIZE (jobs.md §13)


def test_a_body_that_is_announced_too_large_is_not_read(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    job.size_limit_bytes = len(BODY) - 1
    server.answer("GET", whole(BODY))
    assert job.fetch(server.url(), destination).hresult == codes.BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED
    assert destination.read_bytes() == b""


def test_an_endless_body_is_cut_off_when_the_byte_comes(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    def endless(_: Request) -> Iterator[Step]:
        yield head("200 OK", "Connection: close")
        while True:
            yield BODY

    job.size_limit_bytes = HALF
    server.answer("GET", endless)
    assert job.fetch(server.url(), destination).hresult == codes.BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED
    assert destination.stat().st_size <= HALF + 512 * 1024


def test_exactly_so_many_bytes_may_come(job: WorkerProcess, server: FaultServer, destination: Path) -> None:
    job.size_limit_bytes = len(BODY)
    server.answer("GET", [head("200 OK", "Connection: close"), BODY, CLOSE])
    assert job.fetch(server.url(), destination).outcome == "transferred"


# -- redirects (jobs.md §9.4)


def to(location: str) -> list[Step]:
    return [head("302 Found", f"Location: {location}", "Content-Length: 0")]


def by_path(files: dict[str, list[Step]]) -> Callable[[Request], list[Step]]:
    return lambda request: files[request.target]


@pytest.mark.parametrize(
    ("flags", "reported"), [(SecurityFlags(0), False), (SecurityFlags.REDIRECT_ALLOW_REPORT, True)]
)
def test_where_redirects_ended_is_reported_if_the_job_wants_it(
    job: WorkerProcess,
    server: FaultServer,
    destination: Path,
    flags: SecurityFlags,
    reported: bool,  # noqa: FBT001
) -> None:
    job.security_flags = flags
    target = server.url("/b?s=1").replace("http://", "http://user:pass@")
    server.answer("GET", by_path({"/a": to(target), "/b?s=1": whole(BODY)}))
    story = job.fetch(server.url("/a"), destination)
    assert story.connected["remote_name"] == (server.url("/b?s=1") if reported else "")
    assert story.connected["peer"] == f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize("status", ["300 Multiple Choices", "301 Moved", "302 Found", "303 See Other", "307 Temporary"])
def test_a_disallowed_redirect_is_an_error_that_names_the_target(
    job: WorkerProcess, server: FaultServer, destination: Path, status: str
) -> None:
    job.security_flags = SecurityFlags.REDIRECT_DISALLOW
    server.answer("GET", [head(status, "Location: /b?s=1", "Content-Length: 0")])
    story = job.fetch(server.url("/a"), destination)
    assert (story.hresult, story.last["context"]) == (0x80190000 + int(status[:3]), "remote_file")
    assert story.last["remote_name"] == server.url("/b?s=1")
    assert "s=1" not in story.detail
    assert len(server.requests) == 1


def test_what_proves_who_asks_does_not_follow_the_name_to_where_a_redirect_led(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    job.headers = [("Authorization", "Bearer s3cret"), ("Cookie", "c=1"), ("X-Tenant", "t")]
    job.given_url = "http://other.example/a"
    server.answer("GET", whole(BODY))
    assert job.fetch(server.url("/b"), destination).outcome == "transferred"
    (request,) = server.requests
    assert request.headers.keys() & {"authorization", "cookie", "x-tenant"} == {"x-tenant"}


def test_421_is_tried_once_more_on_a_new_connection(job: WorkerProcess, server: FaultServer, destination: Path) -> None:
    misdirected: Answer = [head("421 Misdirected Request", "Content-Length: 0")]
    server.answer("GET", misdirected, whole(BODY))
    assert job.fetch(server.url(), destination).outcome == "transferred"
    assert [request.connection for request in server.requests] == [1, 2]
    server.answer("GET", misdirected)
    assert job.fetch(server.url(), destination).hresult == 0x801901A5
    assert len(server.requests) == 4


# -- networks that are denied (row 40)


@pytest.fixture(scope="module")
def confined() -> Iterator[WorkerProcess]:
    made = WorkerProcess(denied_networks=["127.0.0.2/32", "169.254.0.0/16"])
    yield made
    made.close()


def test_40_no_request_goes_to_a_denied_address(
    confined: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """The server listens on 127.0.0.1 alone; 127.0.0.2 is another address of the same machine."""
    other = FaultServer(host="127.0.0.2")
    try:
        other.serve(BODY)
        server.answer("GET", to(other.url(host="127.0.0.2")))
        for url in (other.url(host="127.0.0.2"), server.url()):
            story = confined.fetch(url, destination)
            assert (story.hresult, story.last["context"]) == (codes.E_ACCESSDENIED, "general_transport")
            assert "127.0.0.2 is an address that denied_networks under [http]" in story.detail
        assert other.requests == []
    finally:
        other.close()


@pytest.mark.parametrize("what", ["a proxy", "a tunnel", "a SOCKS proxy", "a look at a certificate"])
def test_40_not_even_a_connection_is_made(confined: WorkerProcess, destination: Path, what: str) -> None:
    """What a proxy is asked for, and hands that are shaken, come before the request."""
    with socket.create_server(("127.0.0.2", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        url = f"{'http' if what == 'a proxy' else 'https'}://127.0.0.{2 if 'look' in what else 1}:{port}/"
        kind = "socks5" if "SOCKS" in what else "http"
        before = confined.proxy
        confined.has_certificate_callback = "look" in what
        if "look" not in what:
            confined.proxy = {**before, "usage": "override", "list": f"{kind}://127.0.0.2:{port}"}
        try:
            story = confined.fetch(url, destination)
        finally:
            confined.proxy, confined.has_certificate_callback = before, False
        assert story.hresult == codes.E_ACCESSDENIED, story.last
        assert "127.0.0.2 is an address that denied_networks under [http]" in story.detail
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_40_other_addresses_are_served(confined: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.serve(BODY)
    assert confined.fetch(server.url(), destination).outcome == "transferred"


# -- login pages of networks (rows 57, 58)

PAGE = whole(b"<html>log in", "Content-Type: text/html; charset=utf-8")


def test_57_a_login_page_in_place_of_known_bytes_is_transient_and_is_not_written(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    story = resume(job, server, destination, PAGE, media_type="application/zip")
    assert story.hresult == 0x801901FF
    assert "a web page of 12 bytes came in place of" in story.detail
    assert destination.read_bytes() == BODY[:HALF]


def test_57_a_portal_between_head_and_get_is_transient(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    job.is_foreground = False
    server.answer("HEAD", size_only(BODY, "Content-Type: application/zip"))
    server.answer("GET", PAGE)
    assert job.fetch(server.url(), destination).hresult == 0x801901FF
    assert destination.read_bytes() == b""


def test_58_a_redirect_to_the_login_page_of_another_host_is_transient(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    login = f"http://localhost:{server.port}/login"
    server.answer("GET", by_path({"/setup.msi": to(login), "/login": PAGE}))
    story = job.fetch(server.url("/setup.msi"), destination)
    assert story.hresult == 0x801901FF
    assert destination.read_bytes() == b""


def test_58_511_is_transient(job: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("GET", [head("511 Network Authentication Required", "Content-Length: 0")])
    assert job.fetch(server.url(), destination).hresult == 0x801901FF


# -- connections (row 60)


def test_60_what_was_sent_unasked_is_never_an_answer(
    job: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    said = threading.Event()

    def more_than_asked(_: Request) -> Iterator[Step]:
        yield from whole(b"first")
        yield evil
        said.set()  # on the loopback it is there by now

    server.answer("GET", more_than_asked, whole(BODY))
    assert job.fetch(server.url("/1"), destination).outcome == "transferred"
    assert said.wait(10)
    assert job.fetch(server.url("/2"), destination).outcome == "transferred"
    assert destination.read_bytes() == BODY
    assert [request.connection for request in server.requests] == [1, 2]


def test_60_a_clean_connection_is_used_again(job: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.serve(BODY)
    for _ in range(3):
        assert job.fetch(server.url(), destination).outcome == "transferred"
    assert {request.connection for request in server.requests} == {1}
