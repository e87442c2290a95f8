"""The worker against servers that misbehave: reliability.md §5, by row.

The rows that need a real decision only are in test_download; here the bytes are on the wire.
"""

import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.nginx import Certificates
from tests.transfer.conftest import Story, WorkerProcess
from tests.transfer.faultserver import (
    CLOSE,
    END,
    RESET,
    SILENCE,
    Answer,
    FaultServer,
    Request,
    Step,
    date,
    head,
    part,
    size_only,
    whole,
)
from tests.transfer.forwardproxy import ForwardProxy

from openbits.core import codes

BODY = bytes(range(256)) * 1024
HALF = len(BODY) // 2
MONDAY, TUESDAY = date(1_793_613_600), date(1_793_700_000)
TAG, OTHER_TAG = 'ETag: "a"', 'ETag: "b"'
KNOWN = {"size_bytes": len(BODY), "etag": '"a"'}
IMPATIENT = {"connect_seconds": 0.5, "first_byte_seconds": 0.5, "floor_bytes": 1000, "floor_seconds": 0.5}


@pytest.fixture
def background(worker: WorkerProcess) -> Iterator[WorkerProcess]:
    """The worker, with orders of a background job."""
    worker.is_foreground = False
    yield worker
    worker.is_foreground = True


class Way:
    """How the worker reaches the servers: directly, over TLS, or over TLS through the tunnel of a proxy."""

    def __init__(self, *, is_tls: bool, is_tunnel: bool, certificates: Certificates | None) -> None:
        self.tls: ssl.SSLContext | None = None
        self.ca = certificates.ca if certificates is not None else None
        self.proxy = ForwardProxy() if is_tunnel else None
        if is_tls and certificates is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificates.issue("IP:127.0.0.1"))

    def server(self) -> FaultServer:
        return FaultServer(tls=self.tls)

    def worker(self, **options: Any) -> WorkerProcess:
        made = WorkerProcess(ca=self.ca, **options)
        if self.proxy is not None:
            made.proxy = {**made.proxy, "usage": "override", "list": self.proxy.name}
        return made


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((False, False), id="plain"),
        pytest.param((True, False), id="tls", marks=pytest.mark.real("openssl")),
        pytest.param((True, True), id="tunnel", marks=pytest.mark.real("openssl")),
    ],
)
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    is_tls, is_tunnel = request.param
    certificates = request.getfixturevalue("certificates") if is_tls else None
    made = Way(is_tls=is_tls, is_tunnel=is_tunnel, certificates=certificates)
    yield made
    if made.proxy is not None:
        assert made.proxy.lines, "nobody came through the proxy"
        made.proxy.close()


@pytest.fixture(scope="module")
def worker(way: Way) -> Iterator[WorkerProcess]:
    """One for all tests of a way: it must survive whatever a server does."""
    process = way.worker()
    yield process
    process.close()


@pytest.fixture
def start_worker(way: Way) -> Iterator[Callable[..., WorkerProcess]]:
    """Workers with limits of their own."""
    made: list[WorkerProcess] = []

    def make(**options: Any) -> WorkerProcess:
        made.append(way.worker(**options))
        return made[-1]

    yield make
    for process in made:
        process.close()


@pytest.fixture
def server(way: Way) -> Iterator[FaultServer]:
    """Says what it is told."""
    made = way.server()
    yield made
    made.close()


OK_LENGTH = f"Content-Length: {len(BODY)}"


def resume(worker: WorkerProcess, server: FaultServer, destination: Path, answer: Answer, *then: Answer) -> Story:
    """A transfer that has the first half; the server first says `answer`."""
    destination.write_bytes(BODY[:HALF])
    server.answer("HEAD", [head("405 Method Not Allowed", "Content-Length: 0")])
    server.answer("GET", answer, *then)
    return worker.fetch(server.url(), destination, HALF, **KNOWN)


# -- bodies that end at the wrong place


@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=repr)
def test_1_26_a_short_body_is_transient_and_what_came_is_kept(
    worker: WorkerProcess, server: FaultServer, destination: Path, ending: Step
) -> None:
    def rest(request: Request) -> list[Step]:
        return part(BODY, request.offset or 0, TAG)

    server.answer("HEAD", size_only(BODY, TAG))
    server.answer("GET", [head("200 OK", OK_LENGTH, TAG), BODY[:HALF], ending], rest)
    story = worker.fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR
    durable = story.last["durable_bytes"]
    assert 0 <= durable <= HALF
    assert destination.read_bytes() == BODY[:durable]
    if ending is CLOSE:
        assert durable == HALF
    again = worker.fetch(server.url(), destination, durable, **KNOWN)
    assert again.outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_2_bytes_beyond_the_length_are_ignored(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("HEAD", size_only(BODY))
    server.answer("GET", [*whole(BODY), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_60_what_comes_in_one_piece_with_the_end_of_a_body_is_no_answer(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """Over TLS it is in the same record, so it is not in the socket any more when the body ends."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    server.answer("GET", [head("200 OK", "Content-Length: 5") + b"first" + evil], whole(BODY))
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert destination.read_bytes() == b"first"
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_3_a_body_that_ends_with_the_connection_has_an_unknown_size(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.answer("HEAD", [head("200 OK")])
    server.answer("GET", [b"HTTP/1.0 200 OK\r\n\r\n", BODY, END])
    story = worker.fetch(server.url(), destination)
    assert story.connected["size_bytes"] is None
    assert "size unknown" in story.connected["note"]
    assert story.last["size_bytes"] == len(BODY)
    assert destination.read_bytes() == BODY


def test_27_without_a_goodbye_of_tls_a_body_of_unknown_size_may_be_cut_off(
    worker: WorkerProcess, server: FaultServer, destination: Path, way: Way
) -> None:
    """Anybody on the way can close a connection; with the size known the end is where it should be."""
    server.answer("GET", [b"HTTP/1.0 200 OK\r\n\r\n", BODY, CLOSE])
    story = worker.fetch(server.url(), destination)
    assert story.outcome == ("transferred" if way.tls is None else "failed")
    assert way.tls is None or story.hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR
    server.answer("GET", [*whole(BODY), CLOSE])
    assert worker.fetch(server.url(), destination).outcome == "transferred"


def test_7_get_wins_over_the_size_of_head(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("HEAD", size_only(BODY[:7]))
    server.answer("GET", whole(BODY))
    assert worker.fetch(server.url(), destination).last["size_bytes"] == len(BODY)
    assert destination.read_bytes() == BODY


def test_48_chunks_without_an_end_are_transient(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("HEAD", [head("200 OK")])
    server.answer("GET", [head("200 OK", "Transfer-Encoding: chunked"), b"4\r\nabcd\r\n", CLOSE])
    story = worker.fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR
    assert story.last["durable_bytes"] == 4


def test_49_trailers_are_ignored(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("HEAD", [head("200 OK")])
    chunks = b"4\r\nabcd\r\n0\r\nContent-Length: 77\r\nAuthorization: x\r\n\r\n"
    server.answer("GET", [head("200 OK", "Transfer-Encoding: chunked"), chunks])
    assert worker.fetch(server.url(), destination).last["size_bytes"] == 4


def test_47_the_extensions_of_a_chunk_are_no_bytes_of_the_file(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    extension = b"4;x=" + b"y" * 1_000_000 + b"\r\nabcd\r\n0\r\n\r\n"
    server.answer("GET", [head("200 OK", "Transfer-Encoding: chunked"), extension])
    story = worker.fetch(server.url(), destination)
    assert story.outcome == "transferred"
    assert destination.read_bytes() == b"abcd"


# -- answers that are no sound HTTP


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([head("200 OK", "Content-Length: -2"), b"hi"], id="4-negative"),
        pytest.param([head("200 OK", "Content-Length: 18446744073709551616"), b"hi"], id="4-two-to-the-64"),
        pytest.param([head("200 OK", "Content-Length: 2, 3"), b"hi"], id="4-unequal-list"),
        pytest.param([head("200 OK", "Content-Length: 2", "Content-Length: 3"), b"hi"], id="5-two-lengths"),
        pytest.param(
            [head("200 OK", "Content-Length: 12", "Transfer-Encoding: chunked"), b"2\r\nhi\r\n0\r\n\r\n"],
            id="6-smuggling",
        ),
        pytest.param([head("200 OK", "Content-Length: 2", "Content-Encoding: gzip"), b"hi"], id="44-gzip"),
        pytest.param([head("200 OK", "Content-Length: 2", "Content-Encoding: gzip, gzip"), b"hi"], id="45-double-gzip"),
        pytest.param([head("200 OK", "Transfer-Encoding: gzip, chunked"), b"2\r\nhi\r\n0\r\n\r\n"], id="44-te-gzip"),
        pytest.param([head("200 OK", "Transfer-Encoding: chunked"), b"F" * 40 + b"\r\nhi"], id="47-huge-chunk"),
        pytest.param([head("200 OK", "Transfer-Encoding: chunked"), b"-2\r\nhi\r\n0\r\n\r\n"], id="47-negative-chunk"),
        pytest.param(
            [head("200 OK", "Content-Length: 2", f"Content-Encoding: {'gzip, ' * 1000}br"), b"hi"], id="45-1000"
        ),
        pytest.param([b"hello, I have no status line", CLOSE], id="50-http-0.9"),
        pytest.param([b"HTTP/3.7 200 OK\r\nContent-Length: 2\r\n\r\nhi"], id="51-version"),
        pytest.param([b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nhi"], id="51-code-099"),
        pytest.param([b"HTTP/1.1 1000 OK\r\nContent-Length: 2\r\n\r\nhi"], id="51-code-1000"),
        pytest.param([b"HTTP/1.1 20O OK\r\nContent-Length: 2\r\n\r\nhi"], id="51-code-letter"),
        pytest.param([head("200 OK", *(f"X-{n}: y" for n in range(10_000)), "Content-Length: 2"), b"hi"], id="52-many"),
        pytest.param([head("200 OK", "X: " + "a" * 10_000_000, "Content-Length: 2"), b"hi"], id="52-10-mib"),
        pytest.param([b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100_000, SILENCE], id="52-endless"),
        pytest.param([head("103 Early Hints", "X: y") * 100_000], id="53-flood-103"),
        pytest.param([head("100 Continue") * 100_000], id="53-flood-100"),
        pytest.param([head("200 OK", "X: a\0b", "Content-Length: 2"), b"hi"], id="54-nul"),
        pytest.param([head("200 OK", "X: \xfc", "Content-Length: 2"), b"hi"], id="54-non-ascii"),
        pytest.param([head("200 OK", "X: a\rb", "Content-Length: 2"), b"hi"], id="54-cr"),
        pytest.param([head("200 OK", "bogus", "Content-Length: 2"), b"hi"], id="54-no-colon"),
        pytest.param([head("206 Partial Content", "Content-Range: bytes 0-1/2", "Content-Length: 2"), b"hi"], id="206"),
    ],
)
def test_an_answer_that_breaks_http_is_fatal(
    worker: WorkerProcess, server: FaultServer, destination: Path, answer: Answer
) -> None:
    server.answer("HEAD", [head("405 Not Allowed", "Content-Length: 0")])
    server.answer("GET", answer)
    story = worker.fetch(server.url("/file?key=secret"), destination)
    assert story.hresult == codes.BG_E_INVALID_SERVER_RESPONSE
    assert story.last["context"] == "remote_file"
    assert story.detail.startswith(f"127.0.0.1:{server.port}/file: ")
    assert "secret" not in story.detail
    assert not story.told("transferred")


@pytest.mark.parametrize("lengths", [["Content-Length: 2, 2"], ["Content-Length: 2", "Content-Length: 2"]])
def test_4_equal_lengths_are_one(
    worker: WorkerProcess, server: FaultServer, destination: Path, lengths: list[str]
) -> None:
    server.answer("HEAD", [head("200 OK", *lengths)])
    server.answer("GET", [head("200 OK", *lengths), b"hi"])
    assert worker.fetch(server.url(), destination).last["size_bytes"] == 2


def test_54_bare_line_feeds_are_tolerated(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("HEAD", [b"HTTP/1.1 200 OK\nContent-Length: 2\n\n"])
    server.answer("GET", [b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi"])
    assert worker.fetch(server.url(), destination).outcome == "transferred"


def test_a_head_that_stops_in_the_middle_is_transient(
    worker: WorkerProcess, server: FaultServer, destination: Path, way: Way
) -> None:
    server.answer("HEAD", size_only(BODY))
    server.answer("GET", [b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE])
    story = worker.fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR
    assert way.tls is not None or "middle of the header" in story.detail


# -- HEAD and statuses


@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=repr)
def test_8_a_server_that_breaks_off_at_head_is_no_failure(
    background: WorkerProcess, server: FaultServer, destination: Path, ending: Step
) -> None:
    server.answer("HEAD", [ending])
    server.answer("GET", whole(BODY))
    assert background.fetch(server.url(), destination).outcome == "transferred"


@pytest.mark.parametrize("status", ["403 Forbidden", "405 Not Allowed", "501 Not Implemented"])
def test_8_a_refused_head_is_no_failure_and_not_asked_again(
    background: WorkerProcess, server: FaultServer, destination: Path, status: str
) -> None:
    server.answer("HEAD", [head(status, "Content-Length: 0")])
    server.answer("GET", whole(BODY))
    story = background.fetch(server.url(), destination)
    assert story.outcome == "transferred"
    note = f"HEAD refused ({status[:3]}), GET works; HEAD skipped from now on for this host"
    assert story.connected["note"] == note
    assert background.fetch(server.url("/other?X-Signature=s"), destination).outcome == "transferred"
    assert [request.method for request in server.requests] == ["HEAD", "GET", "GET"]


def test_a_foreground_file_is_one_request(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.serve(BODY)
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert [request.method for request in server.requests] == ["GET"]


def test_a_background_file_is_head_and_get(background: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.serve(BODY)
    assert background.fetch(server.url(), destination).outcome == "transferred"
    assert [request.method for request in server.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("0", 1.0), ("30", 30.0), ("1000000000", 86_400.0), (date(1_000_000_000), 1.0), ("soon", None)],
)
def test_55_retry_after_is_clamped_and_garbage_ignored(
    worker: WorkerProcess, server: FaultServer, destination: Path, retry_after: str, seconds: float | None
) -> None:
    server.answer("GET", [head("503 Busy", f"Retry-After: {retry_after}", "Content-Length: 0")])
    story = worker.fetch(server.url(), destination)
    assert story.hresult == codes.BG_E_HTTP_ERROR_503
    assert story.last["retry_after_seconds"] == seconds


def test_a_missing_file_is_told_with_the_words_of_the_server(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.answer("HEAD", [head("404 Not Found", "Content-Length: 0")])
    server.answer("GET", [head("404 Not Found", "Content-Length: 9"), b"not found"])
    story = worker.fetch(server.url("/file?key=secret"), destination)
    assert story.hresult == codes.BG_E_HTTP_ERROR_404
    assert story.detail.startswith(f"127.0.0.1:{server.port}/file: ")
    assert story.detail.endswith(": GET: the server answered HTTP/1.1 404 Not Found")
    assert destination.read_bytes() == b"", "the page of the error is not the file"


# -- ranges


def test_a_resume_asks_for_the_rest_and_appends_it(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    story = resume(worker, server, destination, part(BODY, HALF, TAG))
    assert story.outcome == "transferred"
    assert story.connected["offset"] == HALF
    assert destination.read_bytes() == BODY
    (request,) = server.requests
    assert (request.method, request.headers["range"], request.headers["if-range"]) == ("GET", f"bytes={HALF}-", '"a"')


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (whole(BODY, TAG, "Via: 1.1 proxy", "Accept-Ranges: none"), "9-21-range-ignored"),
        (part(BODY, HALF - 5, TAG), "10-other-start"),
        ([head("206 Partial Content", TAG, f"Content-Length: {HALF}"), BODY[HALF:]], "12-no-content-range"),
        (
            [head("206 Partial Content", TAG, "Content-Type: multipart/byteranges; boundary=x"), b"--x", CLOSE],
            "14-multi",
        ),
        ([head("416 Range Not Satisfiable", "Content-Length: 0")], "416-without-reason"),
    ],
)
def test_9_to_14_a_range_that_is_not_honoured_loses_nothing_if_the_version_is_proven(
    worker: WorkerProcess, server: FaultServer, destination: Path, answer: Answer, name: str
) -> None:
    story = resume(worker, server, destination, answer, whole(BODY, TAG))
    assert story.outcome == "transferred", name
    assert destination.read_bytes() == BODY
    assert story.connected["offset"] == HALF, "what is here stays, and is read past"
    assert "resume not possible with this server" in story.connected["note"]
    assert not story.told("restarted")


def test_11_a_part_that_ends_early_is_continued(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    def hundred_bytes_each(request: Request) -> list[Step]:
        start = request.offset or 0
        end = min(start + 50_000, len(BODY))
        fields = (f"Content-Range: bytes {start}-{end - 1}/{len(BODY)}", f"Content-Length: {end - start}", TAG)
        return [head("206 Partial Content", *fields), BODY[start:end]]

    story = resume(worker, server, destination, hundred_bytes_each)
    assert story.outcome == "transferred"
    assert destination.read_bytes() == BODY
    assert len(server.requests) > 1


def test_11_a_part_that_is_shorter_than_it_says_is_transient(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    story = resume(worker, server, destination, [*part(BODY, HALF, TAG)[:1], BODY[HALF:-1], CLOSE])
    assert story.hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR
    assert story.last["durable_bytes"] == len(BODY) - 1


NEW = bytes(reversed(BODY))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (part(BODY + b"x", HALF, TAG), "size"),  # row 13
        ([head("416 Range Not Satisfiable", "Content-Range: bytes */7", "Content-Length: 0")], "size"),  # row 16
        (part(NEW, HALF, OTHER_TAG), "ETag"),  # row 17
        ([head("412 Precondition Failed", "Content-Length: 0")], "the one we began with"),
        (whole(NEW, OTHER_TAG), "ETag"),
    ],
)
def test_13_to_17_another_version_restarts_the_file(
    worker: WorkerProcess, server: FaultServer, destination: Path, answer: Answer, reason: str
) -> None:
    story = resume(worker, server, destination, answer, whole(NEW, OTHER_TAG))
    assert story.outcome == "transferred"
    assert destination.read_bytes() == NEW, "bytes of two versions were mixed"
    (restarted,) = story.told("restarted")
    assert reason in restarted["reason"]
    assert story.connected["offset"] == 0
    assert story.connected["etag"] == '"b"'


@pytest.mark.parametrize("answer", [whole(NEW, OTHER_TAG), whole(BODY), part(NEW, HALF, OTHER_TAG)])
def test_bytes_that_count_are_not_cut_before_a_restart_is_told(
    worker: WorkerProcess, server: FaultServer, destination: Path, answer: Answer
) -> None:
    """P2: the manager may die, or suspend the job, before its row forgets them."""
    destination.write_bytes(BODY[:HALF])
    server.answer("GET", answer)
    story = worker.story(worker.start(server.url(), destination, HALF, size_bytes=len(BODY), etag='"a"'))
    assert story.outcome == "restarted"
    assert destination.read_bytes() == BODY[:HALF]


def test_15_a_416_of_a_whole_file_is_success(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    destination.write_bytes(BODY)
    server.answer(
        "GET", [head("416 Range Not Satisfiable", f"Content-Range: bytes */{len(BODY)}", "Content-Length: 0")]
    )
    story = worker.fetch(server.url(), destination, len(BODY), etag='"a"')
    assert story.last["size_bytes"] == len(BODY)
    assert destination.read_bytes() == BODY


def test_18_an_etag_that_changes_with_every_request_costs_restarts_but_ends(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    answers = [whole(BODY, f'ETag: "node-{number}"') for number in range(5)]
    story = resume(worker, server, destination, *answers)
    assert story.outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_19_a_weak_etag_is_no_guard(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    destination.write_bytes(BODY[:HALF])
    server.answer("GET", part(BODY, HALF, 'ETag: W/"a"'))
    story = worker.fetch(server.url(), destination, HALF, size_bytes=len(BODY), etag='W/"a"')
    assert "if-range" not in server.requests[0].headers
    assert story.connected["offset"] == HALF
    assert destination.read_bytes() == BODY


def test_22_accept_ranges_none_means_nothing(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    story = resume(worker, server, destination, part(BODY, HALF, TAG, "Accept-Ranges: none"))
    assert story.connected["offset"] == HALF
    assert destination.read_bytes() == BODY


def test_46_a_gzip_part_is_never_appended(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    story = resume(worker, server, destination, part(BODY, HALF, TAG, "Content-Encoding: gzip"))
    assert story.hresult == codes.BG_E_INVALID_SERVER_RESPONSE
    assert destination.read_bytes() == BODY[:HALF]
    assert story.last["durable_bytes"] == HALF


def test_what_was_written_beyond_the_durable_bytes_does_not_survive_a_resume(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    destination.write_bytes(BODY[:HALF] + b"?" * len(BODY))
    server.answer("GET", part(BODY, HALF, TAG))
    assert worker.fetch(server.url(), destination, HALF, **KNOWN).outcome == "transferred"
    assert destination.read_bytes() == BODY


# -- clocks


def test_23_a_trickle_below_the_floor_is_a_timeout(
    start_worker: Callable[..., WorkerProcess], server: FaultServer, destination: Path
) -> None:
    server.answer("HEAD", size_only(BODY, TAG))
    server.answer("GET", [head("200 OK", OK_LENGTH, TAG), b"x", SILENCE])
    story = start_worker(limits=IMPATIENT).fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_TIMEOUT
    assert "progress floor" in story.detail
    assert f"127.0.0.1:{server.port}" in story.detail


@pytest.mark.parametrize("answer", [[SILENCE], [b"HTTP/1.1 200 OK\r\nX: ", SILENCE]], ids=["nothing", "half-a-head"])
def test_24_silence_is_a_timeout_of_the_first_byte_clock(
    start_worker: Callable[..., WorkerProcess], server: FaultServer, destination: Path, answer: Answer
) -> None:
    server.answer("GET", answer)
    story = start_worker(limits=IMPATIENT).fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_TIMEOUT
    assert story.last["context"] == "general_transport"
    assert f"waiting for the answer of 127.0.0.1:{server.port}" in story.detail
    assert "0.5 s (first-byte clock)" in story.detail


def test_24_silence_on_a_kept_connection_is_a_timeout_too(
    start_worker: Callable[..., WorkerProcess], server: FaultServer, destination: Path
) -> None:
    server.answer("GET", whole(b"first"), [SILENCE])
    impatient = start_worker(limits=IMPATIENT)
    impatient.fetch(server.url(), destination)
    story = impatient.fetch(server.url(), destination)
    assert {request.connection for request in server.requests} == {1}
    assert not story.told("progressed"), "nothing new is not news"
    assert story.hresult == codes.ERROR_WINHTTP_TIMEOUT
    assert "first-byte clock" in story.detail


@pytest.mark.real("openssl")
def test_24_a_handshake_without_an_answer_is_a_timeout_of_the_connect_clock(
    start_worker: Callable[..., WorkerProcess], destination: Path
) -> None:
    with contextlib.closing(FaultServer()) as deaf:
        deaf.answer("GET", [SILENCE])
        story = start_worker(limits=IMPATIENT).fetch(deaf.url().replace("http:", "https:"), destination)
        assert story.hresult == codes.ERROR_WINHTTP_TIMEOUT
        assert f"TLS handshake with 127.0.0.1:{deaf.port}" in story.detail
        assert "connect clock" in story.detail


def test_25_silence_shortly_before_the_end_keeps_what_came(
    start_worker: Callable[..., WorkerProcess], server: FaultServer, destination: Path
) -> None:
    server.answer("HEAD", size_only(BODY, TAG))
    server.answer("GET", [head("200 OK", OK_LENGTH, TAG), BODY[:-10], SILENCE])
    story = start_worker(limits=IMPATIENT).fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_TIMEOUT
    assert story.last["durable_bytes"] == len(BODY) - 10
    assert destination.read_bytes() == BODY[:-10]


# -- redirects


def redirect(location: str, body: bytes = b"") -> list[Step]:
    return [head("302 Found", f"Location: {location}", f"Content-Length: {len(body)}"), body]


def by_path(files: dict[str, list[Step]]) -> Callable[[Request], list[Step]]:
    return lambda request: files[request.target]


@pytest.mark.parametrize("page", [b"", b"moved", b"x" * 1_000_000], ids=["empty", "small", "large"])
def test_42_a_relative_redirect_is_followed(
    worker: WorkerProcess, server: FaultServer, destination: Path, page: bytes
) -> None:
    server.answer("HEAD", by_path({"/a/file": redirect("../b?x=1"), "/b?x=1": size_only(BODY)}))
    server.answer("GET", by_path({"/a/file": redirect("../b?x=1", page), "/b?x=1": whole(BODY)}))
    assert worker.fetch(server.url("/a/file"), destination).outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_the_page_of_a_redirect_is_not_read_for_ever(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    endless: list[Step] = [head("302 Found", "Location: /b"), b"x" * 100_000, SILENCE]
    server.answer("HEAD", size_only(BODY))
    server.answer("GET", by_path({"/a": endless, "/b": whole(BODY)}))
    assert worker.fetch(server.url("/a"), destination).outcome == "transferred"


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("/file", id="37-itself"),
        pytest.param("file:///etc/passwd", id="39-file"),
        pytest.param("ftp://127.0.0.1/x", id="39-ftp"),
        pytest.param("data:text/plain,x", id="39-data"),
        pytest.param("http+unix://%2Frun%2Fx/", id="39-unix"),
        pytest.param("/" + "x" * 20_000, id="42-long"),
    ],
)
def test_37_to_42_redirects_that_must_not_be_followed_are_fatal(
    worker: WorkerProcess, server: FaultServer, destination: Path, location: str
) -> None:
    server.answer("GET", redirect(location))
    story = worker.fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_REDIRECT_FAILED
    assert len(server.requests) == 1


def test_36_fifty_hops_end_at_the_cap(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.answer("GET", lambda request: redirect(f"/{int(request.target[1:]) + 1}"))
    story = worker.fetch(server.url("/0"), destination)
    assert story.hresult == codes.ERROR_WINHTTP_REDIRECT_FAILED
    assert len(server.requests) == 11


def test_41_user_information_goes_nowhere(
    worker: WorkerProcess, server: FaultServer, destination: Path, way: Way
) -> None:
    other = way.server()
    try:
        other.serve(BODY)
        server.answer("GET", redirect(other.url().replace("://", "://evil:secret@")))
        story = worker.fetch(server.url().replace("://", "://alice:secret@"), destination)
        assert story.outcome == "transferred"
        for request in [*server.requests, *other.requests]:
            assert set(request.headers) == {"host", "user-agent", "accept", "accept-encoding"}
            assert request.headers["accept-encoding"] == "identity"
    finally:
        other.close()
