"""Uploads by a real worker to a real server: the bytes on the wire, the file that is read, the news that are told.

The decisions alone are in test_upload; servers that misbehave are in test_upload_misbehaviours.
"""

import base64
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import CLOSE as ENDS
from tests.transfer.faultserver import SILENCE, Step
from tests.transfer.upload_stage import CANCEL, CLOSE, SEND, Upload, is_fatal
from tests.transfer.uploadserver import Act, Answer, Exchange, UploadServer, ack

from openbits.channel import ChannelClosedError
from openbits.core import codes
from openbits.core.enums import SecurityFlags
from openbits.version import VERSION

BODY = os.urandom(1_000_000)
FIRST = 256 * 1024
PATH = "/inbox/a.bin"
CREATE, PING, FRAGMENT = "Create-Session", "Ping", "Fragment"
Eventually = Callable[[Callable[[], object]], object]


@pytest.fixture
def there() -> Iterator[UploadServer]:
    """An honest upload server."""
    made = UploadServer()
    yield made
    made.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(BODY)
    return path


@pytest.fixture
def upload(worker: WorkerProcess, there: UploadServer, source: Path) -> Iterator[Upload]:
    """A job of its own; what a test sets for its orders is taken back."""
    before = {name: value for name, value in vars(worker).items() if not name.startswith("_")}
    worker.job = source.parent.name
    yield Upload(worker, there.url(PATH), source)
    vars(worker).update(before)


def then(answer: Callable[[Exchange], Answer], act: Callable[[], object]) -> Act:
    """Something happens between what the server does and what it says."""

    def steps(exchange: Exchange) -> Iterable[Step]:
        said = answer(exchange)
        act()
        return said.steps()

    return steps


def honestly(exchange: Exchange) -> Answer:
    return exchange.honest()


def silence(exchange: Exchange) -> Iterable[Step]:
    exchange.body()
    return [SILENCE]


# -- what goes out


def test_the_story_of_an_upload(upload: Upload, there: UploadServer) -> None:
    story = upload.attempt()
    events = [news["event"] for news in story.news if news["event"] != "phase"]
    assert events == ["connected", *["acknowledged"] * 4, "transferred"]
    assert [news["acknowledged_bytes"] for news in story.told("acknowledged")] == [0, FIRST, 3 * FIRST, len(BODY)]
    assert (story.connected["size_bytes"], story.connected["offset"]) == (len(BODY), 0)
    assert story.connected["last_modified"] == str(upload.path.stat().st_mtime_ns)
    assert (story.last["size_bytes"], story.last["modified_at"]) == (len(BODY), upload.path.stat().st_mtime)
    assert upload.session is not None
    assert upload.session["is_received"] is True
    assert upload.attempt(CLOSE).outcome == "transferred"
    assert there.files == {PATH: BODY}
    assert there.sessions == {}
    assert [packet.kind for packet in there.packets] == [CREATE, FRAGMENT, FRAGMENT, FRAGMENT, "Close-Session"]


def test_h1_h2_every_packet_is_bits_post_over_http_1_1_with_a_length(upload: Upload, there: UploadServer) -> None:
    upload.attempt()
    upload.attempt(CLOSE)
    assert {(packet.method, packet.version) for packet in there.packets} == {("BITS_POST", "HTTP/1.1")}
    assert [packet.length for packet in there.packets] == [0, FIRST, 2 * FIRST, len(BODY) - 3 * FIRST, 0]
    assert not any("transfer-encoding" in packet.headers for packet in there.packets)
    assert not any("content-type" in packet.headers for packet in there.packets)


def test_h6_all_packets_of_a_step_go_over_one_connection(upload: Upload, there: UploadServer) -> None:
    upload.attempt()
    upload.attempt(CLOSE)
    assert len({packet.connection for packet in there.packets}) == 1


def test_h10_the_target_is_path_and_query_without_a_fragment(upload: Upload, there: UploadServer) -> None:
    upload.url = there.url("/in/a%20b?x=1")
    upload.attempt()
    assert {packet.target for packet in there.packets} == {"/in/a%20b?x=1"}


def test_the_content_name_goes_with_fragments_and_close(upload: Upload, there: UploadServer) -> None:
    upload.attempt()
    upload.attempt(CLOSE)
    named = [(packet.kind, packet.headers.get("content-name")) for packet in there.packets]
    assert named[0] == (CREATE, None)
    assert set(named[1:]) == {(FRAGMENT, "a.bin"), ("Close-Session", "a.bin")}


def test_the_client_says_what_it_is_unless_the_job_says_it(upload: Upload, there: UploadServer) -> None:
    upload.attempt()
    assert {one.headers["user-agent"] for one in there.packets} == {f"openbits/{VERSION} (BITS upload 1.5)"}
    there.packets.clear()
    upload.worker.headers = [("User-Agent", "mine/1")]
    upload.attempt(CLOSE)
    assert [one.headers["user-agent"] for one in there.packets] == ["mine/1"]


def test_fields_of_a_job_go_along_but_not_in_place_of_those_of_a_packet(upload: Upload, there: UploadServer) -> None:
    upload.worker.headers = [
        ("X-Tenant", "42"),
        ("BITS-Packet-Type", "Cancel-Session"),
        ("Content-Range", "bytes 0-0/1"),
        ("Content-Length", "7"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Encoding", "gzip"),
    ]
    assert upload.attempt().outcome == "transferred"
    assert there.files == {PATH: BODY}
    assert {one.headers["x-tenant"] for one in there.packets} == {"42"}
    assert not any("content-encoding" in one.headers for one in there.packets)


@pytest.mark.parametrize("size", [0, 1, FIRST, FIRST + 1])
def test_d16_files_of_every_size(size: int, upload: Upload, there: UploadServer) -> None:
    upload.path.write_bytes(BODY[:size])
    assert upload.attempt().outcome == "transferred"
    assert there.files == {PATH: BODY[:size]}


def test_7_4_a_limited_rate_makes_fragments_of_two_seconds(upload: Upload, there: UploadServer) -> None:
    upload.path.write_bytes(BODY[:60_000])
    upload.worker.rate_bytes_per_second = 20_000
    begun = time.monotonic()
    assert upload.attempt().outcome == "transferred"
    assert [packet.length for packet in there.sent(FRAGMENT)] == [40_000, 20_000]
    assert time.monotonic() - begun > 1.5


# -- the file


def test_9_3_a_file_that_is_not_the_one_that_the_job_has_begun_with(upload: Upload, there: UploadServer) -> None:
    upload.attempt()
    upload.path.write_bytes(BODY[1:])
    for nanoseconds, at in ((1, "1970-01-01 00:00:00.000000001 UTC"), (10**18, "2001-09-09 01:46:40.000000000 UTC")):
        os.utime(upload.path, ns=(nanoseconds, nanoseconds))
        story = upload.attempt()
        assert (story.hresult, story.last["context"]) == (codes.BG_E_LOCAL_FILE_CHANGED, "local_file")
        assert story.last["detail"].startswith("it changed (1000000 bytes, modified 2")
        assert story.last["detail"].endswith(f" UTC -> 999999 bytes, modified {at})")
    assert there.sent(PING) == []


@pytest.mark.parametrize("fragment", [0, 1, 2])
@pytest.mark.parametrize("change", ["touch", "grow", "shrink"])
def test_7_1_a_file_that_changes_while_it_is_sent(
    change: str, fragment: int, upload: Upload, there: UploadServer
) -> None:
    def alter() -> None:
        if change == "touch":
            os.utime(upload.path, ns=(1, 1))
        else:
            os.truncate(upload.path, len(BODY) + (5 if change == "grow" else -1))

    there.tell(
        FRAGMENT, *[then(honestly, lambda: None)] * fragment, then(honestly, alter), then(honestly, lambda: None)
    )
    story = upload.attempt()
    assert (story.hresult, story.last["context"]) == (codes.BG_E_LOCAL_FILE_CHANGED, "local_file")
    assert len(there.sent(FRAGMENT)) == fragment + 1


def test_a_file_that_is_cut_under_a_fragment(upload: Upload, there: UploadServer) -> None:
    """H8: a large body waits for the server's word; when that comes the bytes are gone."""
    os.truncate(upload.path, 8 * 1024 * 1024)

    def cutting(exchange: Exchange) -> Iterable[Step]:
        if "expect" in exchange.packet.headers:
            os.truncate(upload.path, 1000)
        return exchange.honest().steps()

    there.tell(FRAGMENT, cutting)
    story = upload.attempt()
    assert (story.hresult, story.last["context"]) == (codes.BG_E_LOCAL_FILE_CHANGED, "local_file")
    assert there.packets[-1].body_bytes < there.packets[-1].length


def test_a_file_that_cannot_be_read(upload: Upload, there: UploadServer, tmp_path: Path) -> None:
    upload.path = tmp_path  # a folder has a size, and no bytes
    story = upload.attempt()
    assert story.last["context"] == "local_file"
    assert story.hresult == codes.E_ACCESSDENIED
    assert there.files == {}


# -- going on


def test_7_5_a_killed_worker_costs_one_fragment_at_most(
    start_worker: Callable[..., WorkerProcess], there: UploadServer, source: Path
) -> None:
    there.tell(FRAGMENT, then(honestly, lambda: None), silence)
    first = Upload(WorkerProcess(), there.url(PATH), source)
    key = first.start()
    first.worker.wait_for(key, "acknowledged", until=lambda news: news["acknowledged_bytes"] == FIRST)
    deadline = time.monotonic() + 10
    while len(there.sent(FRAGMENT)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    first.worker.process.send_signal(signal.SIGKILL)
    first.worker.process.wait()
    first.worker.channel.close()
    told = first.worker._news[key]
    there.mend()
    second = Upload(start_worker(), there.url(PATH), source)
    for news in told:
        if news["event"] == "acknowledged":
            second.session, second.acknowledged_bytes = news["session"], news["acknowledged_bytes"]
    before = len(there.packets)
    assert second.attempt().outcome == "transferred"
    again = there.packets[before:]
    assert again[0].kind == PING
    assert "bits-session-id" not in again[0].headers  # D3
    assert again[1].range.first == FIRST
    assert there.files == {PATH: BODY}


def test_7_5_a_row_that_is_behind_its_server_sends_one_fragment_again(upload: Upload, there: UploadServer) -> None:
    upload.attempt()
    assert upload.session is not None
    upload.session, upload.acknowledged_bytes = {**upload.session, "is_received": False}, 0
    there.packets.clear()
    assert upload.attempt().outcome == "transferred"
    assert [packet.kind for packet in there.packets] == [PING, FRAGMENT]


def test_7_1_a_forgotten_session_is_told_and_begun_again(upload: Upload, there: UploadServer) -> None:
    there.tell(FRAGMENT, then(honestly, there.forget), then(honestly, lambda: None))
    story = upload.attempt()
    told = [(news["session"] is None, news["acknowledged_bytes"]) for news in story.told("acknowledged")]
    assert told[:4] == [(False, 0), (False, FIRST), (True, 0), (False, 0)]
    assert there.files == {PATH: BODY}


def test_7_1_cancel_has_the_server_forget(upload: Upload, there: UploadServer) -> None:
    there.tell(FRAGMENT, then(honestly, lambda: None), lambda _: ack("503 Busy").steps())
    story = upload.attempt()
    assert (story.outcome, story.last["durable_bytes"]) == ("failed", FIRST)
    assert upload.attempt(CANCEL).outcome == "transferred"
    assert there.sessions == {}
    assert there.files == {}


def test_h3_what_follows_the_head_of_an_answer_is_not_waited_for(upload: Upload, there: UploadServer) -> None:
    def endless(exchange: Exchange) -> Iterable[Step]:
        yield from exchange.honest().bringing(b"").having("Content-Length", "1000").steps()
        yield b"<html>"
        yield SILENCE

    there.tell(FRAGMENT, then(honestly, lambda: None), endless, then(honestly, lambda: None))
    begun = time.monotonic()
    assert upload.attempt().outcome == "transferred"
    assert time.monotonic() - begun < 9  # the floor of this worker is 10 s
    assert there.files == {PATH: BODY}


def test_h3_an_answer_whose_body_is_cut_is_an_answer(upload: Upload, there: UploadServer) -> None:
    def cut(exchange: Exchange) -> Iterable[Step]:
        yield from exchange.honest().bringing(b"<ht").having("Content-Length", "1000").steps()
        yield ENDS

    there.tell(FRAGMENT, cut, then(honestly, lambda: None))
    assert upload.attempt().outcome == "transferred"
    assert [packet.range.first for packet in there.sent(FRAGMENT)] == [0, FIRST, 3 * FIRST]


# -- the host that a server names


def test_d27_the_job_proves_itself_to_another_host_only_where_that_is_safe(upload: Upload, there: UploadServer) -> None:
    other = UploadServer(host="127.0.0.2")
    try:
        other.sessions, other.files = there.sessions, there.files
        there.host_id = f"127.0.0.2:{other.port}"
        basic = base64.b64encode(b"ann:secret").decode()

        def asks(exchange: Exchange) -> Iterable[Step]:
            if exchange.packet.headers.get("authorization") == f"Basic {basic}":
                return exchange.honest().steps()
            return ack("401 No", ("WWW-Authenticate", 'Basic realm="x"')).steps()

        for kind in (CREATE, PING, FRAGMENT):
            there.tell(kind, asks)
            other.tell(kind, asks)
        upload.worker.entrusted = {
            "credentials": [
                {"target": "server", "scheme": "basic", "user": "ann", "password": "secret", "origin": None}
            ]
        }
        story = upload.attempt()
        assert story.hresult == codes.BG_E_HTTP_ERROR_401
        assert is_fatal(story.last)
        assert not any("authorization" in packet.headers for packet in other.packets)
        there.host_id = there.url().partition("://")[2].partition("/")[0]
        upload.session = None
        assert upload.attempt().outcome == "transferred"
    finally:
        other.close()


def test_7_3_a_host_that_is_out_of_reach_is_told_and_left_after_its_time(upload: Upload, there: UploadServer) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        there.host_id, there.fallback_seconds = f"127.0.0.1:{nobody.getsockname()[1]}", 1
        story = upload.attempt()
        assert (story.hresult, story.last["is_fatal"]) == (codes.ERROR_WINHTTP_CANNOT_CONNECT, False)
        assert upload.session is not None
        failed_at = upload.session["host_failed_at"]
        assert abs(failed_at - time.time()) < 5
        upload.session["host_failed_at"] = failed_at - 2
        assert upload.attempt().outcome == "transferred"
    assert upload.session["host"] == ""
    assert there.files == {PATH: BODY}


def test_9_4_redirect_policies_of_downloads_do_not_hold(upload: Upload, there: UploadServer) -> None:
    there.tell(
        CREATE, lambda _: ack("307 Over there", ("Location", "/elsewhere")).steps(), then(honestly, lambda: None)
    )
    upload.worker.security_flags = SecurityFlags.REDIRECT_DISALLOW | SecurityFlags.REDIRECT_ALLOW_REPORT
    there.binds_urls = False
    story = upload.attempt()
    assert story.outcome == "transferred"  # D24
    assert [packet.path for packet in there.sent(CREATE)] == [PATH, "/elsewhere"]
    assert story.connected["remote_name"] == ""


# -- what is told


def test_it_tells_what_it_is_doing(upload: Upload, there: UploadServer) -> None:
    upload.is_reply_wanted = True
    upload.path.write_bytes(b"x")
    there.tell(CREATE, _after(0.8))
    there.tell(FRAGMENT, _after(0.8))
    texts = [news["text"] for news in upload.attempt().told("phase")]
    assert any(re.match("opening an upload session: waiting for the answer", text) for text in texts)
    assert any(text.endswith("and of the application behind it") for text in texts)


def _after(seconds: float) -> Act:
    def steps(exchange: Exchange) -> Iterable[Step]:
        time.sleep(seconds)  # longer than two looks of the worker at its clocks
        return exchange.honest().steps()

    return steps


def test_d25_three_invalid_answers_are_transient_and_the_fourth_is_fatal(upload: Upload, there: UploadServer) -> None:
    there.tell(CREATE, lambda _: Answer("200 OK", (("Content-Length", "0"),)).steps())
    classes = [(last["is_transient"], last["is_fatal"]) for last in (upload.attempt().last for _ in range(4))]
    assert classes == [(True, False)] * 3 + [(False, True)]


def test_nothing_is_held_when_an_upload_is_over(
    start_worker: Callable[..., WorkerProcess], there: UploadServer, source: Path, eventually: Eventually
) -> None:
    upload = Upload(start_worker(), there.url(PATH), source)
    upload.attempt()
    before = upload.worker.descriptors()
    for _ in range(10):
        upload.session, upload.acknowledged_bytes = None, 0
        upload.attempt()
        upload.attempt(CLOSE)
    there.tell(FRAGMENT, silence)
    upload.session, upload.acknowledged_bytes = None, 0
    key = upload.start()
    upload.worker.wait_for(key, "acknowledged")
    upload.worker.cancel(key)
    eventually(lambda: upload.worker.descriptors() <= before)


def test_the_file_of_an_upload_that_never_began_is_let_go(
    upload: Upload, there: UploadServer, eventually: Eventually
) -> None:
    worker = upload.worker
    there.tell(CREATE, silence)
    first = upload.start()
    eventually(lambda: len(there.packets) == 1)
    before = worker.descriptors()
    waiting = upload.start()
    eventually(lambda: worker.descriptors() > before)
    worker.cancel(waiting)
    eventually(lambda: worker.descriptors() == before)
    worker.cancel(first)
    upload.url = "http://bad host/"
    assert upload.attempt().hresult == codes.ERROR_WINHTTP_INVALID_URL
    eventually(lambda: worker.descriptors() < before)


@pytest.mark.parametrize("case", ["no-file", "file-of-close", "no-step", "no-session-field"])
def test_an_order_that_makes_no_sense_ends_the_worker(case: str, source: Path) -> None:
    worker = WorkerProcess()
    order = worker.order("job:1", "http://127.0.0.1:1/x")
    session = {"session_id": "{1}"} if case == "no-session-field" else None
    step = {"no-step": "fly", "file-of-close": CLOSE}.get(case, SEND)
    order["upload"] = {"step": step, "session": session, "name": "x", "is_reply_wanted": False}
    descriptors = [] if case == "no-file" else [os.open(source, os.O_RDONLY) for _ in range(1)]
    if case == "file-of-close":
        descriptors = descriptors * 3
    worker.send(order, descriptors)
    for descriptor in set(descriptors):
        os.close(descriptor)
    with pytest.raises(ChannelClosedError):
        worker.next_news()
    worker.close()
