"""The contract between manager and network worker (docs/processes.md), with a worker in its own process."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import SILENCE, FaultServer, date, head, size_only, whole

from openbits import channel
from openbits.transfer.sink import SYNC_BYTES

BODY = os.urandom(300_000)
MONDAY = 1_793_613_600
Eventually = Callable[[Callable[[], object]], object]


def test_the_story_of_a_download(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.serve(BODY, 'ETag: "a"', f"Last-Modified: {date(MONDAY)}")
    story = worker.fetch(server.url(), destination)
    assert [news["event"] for news in story.told("connected", "transferred")] == ["connected", "transferred"]
    connected = story.connected
    assert (connected["size_bytes"], connected["etag"]) == (len(BODY), '"a"')
    assert (connected["last_modified"], connected["offset"], connected["note"]) == (date(MONDAY), 0, "")
    assert (story.last["size_bytes"], story.last["modified_at"]) == (len(BODY), MONDAY)
    assert destination.read_bytes() == BODY


def test_a_file_that_comes_whole_in_one_go_has_one_news_of_bytes(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """Thousands of small files: what was accepted is told with the end, and as news of its own of longer ones alone."""
    server.serve(b"x", 'ETag: "a"')
    key = worker.start(server.url(), destination)
    told = worker.wait_for(key, "transferred")["connected"]
    assert (told["size_bytes"], told["etag"], told["offset"]) == (1, '"a"', 0)
    server.answer("GET", [*whole(BODY)[:1], BODY[:1000], SILENCE])
    longer = worker.start(server.url(), destination.with_name("other"))
    assert worker.wait_for(longer, "connected")["size_bytes"] == len(BODY)
    assert worker.wait_for(longer, "progressed")["transferred_bytes"] == 1000
    worker.cancel(longer)


def test_the_header_block_of_the_last_response_goes_along(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.serve(BODY, 'ETag: "a"', "Set-Cookie: session=s3cret")
    told = worker.fetch(server.url(), destination).connected["headers"]
    assert told.startswith("HTTP/1.1 200 OK\r\n")
    assert told.endswith("\r\n\r\n")
    assert 'ETag: "a"\r\nSet-Cookie: (not stored)\r\n' in told
    assert f"Content-Length: {len(BODY)}\r\n" in told
    server.answer("GET", [head("404 Not Found", "X-Why: gone", "Content-Length: 0")])
    failed = worker.fetch(server.url(), destination)
    assert failed.last["headers"].startswith("HTTP/1.1 404 Not Found\r\nX-Why: gone\r\n")
    assert worker.fetch("http://127.0.0.1:1/", destination).last["headers"] == ""


def test_head_and_get_share_a_connection(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.serve(BODY)
    worker.is_foreground = False
    worker.fetch(server.url(), destination)
    worker.is_foreground = True
    worker.fetch(server.url(), destination)
    assert [(request.method, request.connection) for request in server.requests] == [
        ("HEAD", 1),
        ("GET", 1),
        ("GET", 1),
    ]


def test_the_path_is_asked_for_as_it_was_given(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.serve(BODY)
    worker.fetch(server.url("/a/../b/./%7e?x=/../y"), destination)
    assert {request.target for request in server.requests} == {"/a/../b/./%7e?x=/../y"}


def test_a_file_that_is_whole_already_is_transferred_without_network(worker: WorkerProcess, destination: Path) -> None:
    destination.write_bytes(BODY)
    story = worker.fetch(
        "http://127.0.0.1:1/x", destination, len(BODY), size_bytes=len(BODY), etag='"a"', last_modified=date(MONDAY)
    )
    assert story.connected["offset"] == len(BODY)
    assert (story.last["size_bytes"], story.last["modified_at"]) == (len(BODY), MONDAY)


def test_progress_is_told_and_durable_bytes_lag_behind(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.answer("HEAD", size_only(BODY))
    server.answer("GET", [*whole(BODY)[:1], BODY[:1000], SILENCE])
    key = worker.start(server.url(), destination)
    progressed = worker.wait_for(key, "progressed", until=lambda news: news["transferred_bytes"] == 1000)
    assert progressed["durable_bytes"] == 0
    phase = worker.wait_for(key, "phase")
    assert phase["text"] == f"receiving from 127.0.0.1:{server.port}"
    worker.cancel(key)


def test_bytes_become_durable_while_the_transfer_goes_on(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    large = bytes(SYNC_BYTES + 1)
    server.answer("HEAD", size_only(large))
    server.answer("GET", [*whole(large)[:1], large[:-1], SILENCE])
    key = worker.start(server.url(), destination)
    progressed = worker.wait_for(key, "progressed", until=lambda news: news["durable_bytes"] > 0)
    assert progressed["durable_bytes"] <= progressed["transferred_bytes"]
    worker.cancel(key)


def test_many_transfers_at_once(worker: WorkerProcess, server: FaultServer, tmp_path: Path) -> None:
    server.serve(BODY)
    paths = [tmp_path / str(number) for number in range(40)]
    keys = [worker.start(server.url(f"/{path.name}"), path) for path in paths]
    for key, path in zip(keys, paths, strict=True):
        assert worker.story(key).outcome == "transferred"
        assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("answers", "sign"),
    [
        ({"GET": [SILENCE]}, None),
        ({"GET": [head("200 OK", "Content-Le")[:-4], SILENCE]}, None),
        ({"HEAD": size_only(BODY), "GET": [*whole(BODY)[:1], BODY[:1000], SILENCE]}, "connected"),
        ({"HEAD": size_only(BODY), "GET": whole(BODY)}, "whole"),  # perhaps in its last sync
        ({"HEAD": size_only(BODY), "GET": whole(BODY)}, "transferred"),  # too late
    ],
    ids=["asking", "waiting", "receiving", "ending", "ended"],
)
def test_a_cancelled_transfer_is_forgotten(
    worker: WorkerProcess,
    server: FaultServer,
    destination: Path,
    eventually: Eventually,
    answers: dict[str, list[bytes]],
    sign: str | None,
) -> None:
    worker.fetch("http://127.0.0.1:1/", destination.with_name("first"))  # it has all it needs by then
    before = worker.descriptors()
    for method, answer in answers.items():
        server.answer(method, answer)
    key = worker.start(server.url(), destination)
    if sign is None:
        eventually(lambda: len(server.requests) == len(answers))
    elif sign == "whole":
        eventually(lambda: destination.stat().st_size == len(BODY))
    else:
        worker.wait_for(key, sign)
    worker.cancel(key)
    other = worker.fetch("http://127.0.0.1:1/", destination.with_name("other"))
    assert other.outcome == "failed", "the worker goes on"
    marker = worker.start("http://127.0.0.1:1/", destination.with_name("other"))
    late: list[channel.Message] = []
    while (news := worker.next_news())["transfer"] != marker or news["event"] != "failed":
        late.append(news)
    assert not [news for news in late if news["transfer"] == key]
    eventually(lambda: worker.descriptors() <= before + 1)  # one connection may be kept


def test_a_thousand_cancels_leave_nothing_behind(
    worker: WorkerProcess, server: FaultServer, destination: Path, eventually: Eventually
) -> None:
    server.answer("GET", [SILENCE])
    worker.fetch("http://127.0.0.1:1/", destination)
    before = worker.descriptors()
    for _ in range(1000):
        worker.cancel(worker.start(server.url(), destination))
    worker.fetch("http://127.0.0.1:1/", destination)
    eventually(lambda: worker.descriptors() <= before)


def test_an_unknown_key_may_be_cancelled(worker: WorkerProcess, destination: Path) -> None:
    worker.cancel("job:never")
    assert worker.fetch("http://127.0.0.1:1/", destination).outcome == "failed"


DESCRIPTOR = "a descriptor goes with it"
PROXY = {"usage": "no-proxy", "list": "", "bypass": "", "no_proxy": "", "script_url": ""}


def test_an_order_that_makes_sense_does_not_end_the_worker(
    start_worker: Callable[..., WorkerProcess], destination: Path
) -> None:
    """The control of the test below."""
    process = start_worker()
    with destination.open("wb") as file:
        process.send(process.order("job:x", "http://127.0.0.1:1/"), [file.fileno()])
    assert process.story("job:x").outcome == "failed"


@pytest.mark.parametrize(
    ("odd", "descriptors"),
    [
        ({}, 0),
        ({}, 4),
        ({"offset": -1}, 1),
        ({"offset": "many"}, 1),
        ({"validators": None}, 1),
        ({"proxy": None}, 1),
        ({"proxy": {**PROXY, "usage": "sometimes"}}, 1),
        ({"proxy": {**PROXY, "usage": "override", "list": "aaa.*"}}, 1),
        ({"size_limit_bytes": "much"}, 1),
        ({"op": "become-root"}, 0),
        ({"op": ["transfer"]}, 0),
    ],
)
def test_an_order_that_makes_no_sense_ends_the_worker(
    start_worker: Callable[..., WorkerProcess], destination: Path, odd: channel.Message, descriptors: int
) -> None:
    process = start_worker()
    with destination.open("wb") as file:
        process.send({**process.order("job:x", "http://127.0.0.1:1/"), **odd}, [file.fileno()] * descriptors)
    assert process.process.wait(10) == 0


@pytest.mark.parametrize("name", ["url", "validators", "proxy", "method"])
def test_an_order_that_lacks_something_ends_the_worker(
    start_worker: Callable[..., WorkerProcess], destination: Path, name: str
) -> None:
    process = start_worker()
    order = process.order("job:x", "http://127.0.0.1:1/")
    del order[name]
    with destination.open("wb") as file:
        process.send(order, [file.fileno()])
    assert process.process.wait(10) == 0


@pytest.mark.parametrize("message", [{"noise": 1}, {"op": "configure", "limits": {}}, {"op": "cancel"}])
def test_a_manager_that_makes_no_sense_ends_the_worker(
    start_worker: Callable[..., WorkerProcess], message: channel.Message
) -> None:
    process = start_worker()
    process.send(message)
    assert process.process.wait(10) == 0


def test_a_key_that_is_in_use_ends_the_worker(
    start_worker: Callable[..., WorkerProcess], server: FaultServer, destination: Path
) -> None:
    server.answer("GET", [SILENCE])
    process = start_worker()
    with destination.open("wb") as file:
        for _ in range(2):
            process.send(process.order("job:x", server.url()), [file.fileno()])
    assert process.process.wait(10) == 0


def test_an_idle_worker_waits_for_one_thing_without_a_timeout(
    start_worker: Callable[..., WorkerProcess], server: FaultServer, destination: Path, eventually: Eventually
) -> None:
    process = start_worker()
    server.serve(BODY)
    process.fetch(server.url(), destination)

    def waits_for_ever() -> bool:
        number, *arguments = Path(f"/proc/{process.process.pid}/syscall").read_text().split()
        return number != "running" and int(arguments[3], 16) & 0xFFFFFFFF == 0xFFFFFFFF

    eventually(waits_for_ever)
    before = process.cpu_seconds()
    assert process.cpu_seconds() == before


# -- what cannot work


@pytest.mark.parametrize(
    ("url", "hresult"),
    [
        ("http://127.0.0.1:1/file", 0x80072EFD),
        ("http://no-such-host.invalid/file", 0x80072EE7),
        ("smb://127.0.0.1/file", 0x80072EE6),
        ("no url at all", 0x80072EE6),
        ("http://127.0.0.1/a b", 0x80072EE5),
        ("http://127.0.0.1/\r\nX: y", 0x80072EE5),
    ],
)
def test_a_url_that_leads_nowhere(worker: WorkerProcess, destination: Path, url: str, hresult: int) -> None:
    story = worker.fetch(url, destination)
    assert story.hresult == hresult
    assert story.last["context"] == "general_transport"
    assert story.last["durable_bytes"] == 0


def test_a_descriptor_that_cannot_be_written_is_a_local_failure(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.serve(BODY)
    destination.touch()
    with destination.open("rb") as file:
        worker.send(worker.order("job:read-only", server.url()), [file.fileno()])
    story = worker.story("job:read-only")
    assert story.last["context"] == "local_file"


def test_proxies_of_the_environment_are_nobodys_wish(
    server: FaultServer, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.serve(BODY)
    process = WorkerProcess()
    try:
        assert process.fetch(server.url(), destination).outcome == "transferred"
    finally:
        process.close()
