"""The certificate callback as the worker asks for it: after the checks, before the first request (jobs.md §9.8)."""

import base64
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.real.authority import Authority, Pair
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import SILENCE, FaultServer, head
from tests.transfer.tlsserver import TlsServer

from openbits.channel import Message
from openbits.core import codes
from openbits.core.enums import SecurityFlags

BODY = b"content" * 1000
HOST = "127.0.0.1"
REFUSED = 0x80090327


@pytest.fixture
def root() -> Authority:
    return Authority()


@pytest.fixture
def worker(root: Authority, tmp_path: Path) -> Iterator[WorkerProcess]:
    made = WorkerProcess(ca=root.file(tmp_path))
    made.has_certificate_callback = True
    yield made
    made.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Pair], TlsServer]]:
    with contextlib.ExitStack() as stack:

        def start(pair: Pair) -> TlsServer:
            server = TlsServer(tmp_path, pair)
            stack.callback(server.close)
            server.serve(BODY)
            return server

        yield start


Serve = Callable[[Pair], TlsServer]


def test_the_certificate_is_shown_before_a_request_is_made(
    worker: WorkerProcess, serve: Serve, root: Authority, destination: Path
) -> None:
    """V1, V2."""
    pair = Authority("Between", above=root).issue(HOST)
    server = serve(pair)
    key = worker.start(server.url(), destination)
    question = worker.wait_for(key, "certificate")
    assert not server.requests
    assert question["server"] == f"{HOST}:{server.port}"
    shown = [base64.b64decode(one) for one in (question["certificate"], *question["chain"])]
    assert shown[:2] == pair.chain
    assert len(shown) == 3, "up to the root"
    worker.decide(question, codes.S_OK)
    assert worker.story(key).outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_a_refusal_is_the_code_of_the_failure(
    worker: WorkerProcess, serve: Serve, root: Authority, destination: Path
) -> None:
    """V2."""
    server = serve(root.issue(HOST, subject="www"))
    key = worker.start(server.url(), destination)
    worker.decide(worker.wait_for(key, "certificate"), REFUSED)
    story = worker.story(key)
    assert (story.hresult, story.last["context"]) == (REFUSED, "server_certificate_callback")
    assert f"{HOST}:{server.port}" in story.detail
    assert "CN=www" in story.detail
    assert not server.requests


def test_nobody_who_answers_is_told_with_the_next_step(
    worker: WorkerProcess, serve: Serve, root: Authority, destination: Path
) -> None:
    """V3."""
    key = worker.start(serve(root.issue(HOST)).url(), destination)
    required = codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED
    worker.decide(worker.wait_for(key, "certificate"), required)
    story = worker.story(key)
    assert story.hresult == required
    assert "resume" in story.detail


@pytest.mark.parametrize(
    ("flags", "is_asked"), [(SecurityFlags(0), False), (SecurityFlags.IGNORE_CERT_DATE_INVALID, True)]
)
def test_who_does_not_pass_the_checks_is_not_shown(
    worker: WorkerProcess, serve: Serve, root: Authority, destination: Path, flags: SecurityFlags, *, is_asked: bool
) -> None:
    """V1: the normal validation, with the flags."""
    worker.security_flags = flags
    key = worker.start(serve(root.issue(HOST, days=(-3, -1))).url(), destination)
    if is_asked:
        worker.decide(worker.wait_for(key, "certificate"), codes.S_OK)
        assert worker.story(key).outcome == "transferred"
        return
    story = worker.story(key)
    assert story.hresult == codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID
    assert not story.told("certificate")


def test_each_server_of_a_redirect_is_shown(
    worker: WorkerProcess, serve: Serve, root: Authority, destination: Path
) -> None:
    second, first = serve(root.issue(HOST)), serve(root.issue(HOST))
    for method in ("HEAD", "GET"):
        first.answer(method, [head("302 Found", f"Location: {second.url()}", "Content-Length: 0")])
    key = worker.start(first.url(), destination)
    for server in (first, second):
        port = str(server.port)
        question = worker.wait_for(key, "certificate", until=partial(_is_of, port))
        assert not server.requests
        worker.decide(question, codes.S_OK)
    assert worker.story(key).outcome == "transferred"


def _is_of(port: str, news: Message) -> bool:
    return bool(news["server"].endswith(f":{port}"))


def test_plain_http_has_no_certificate_to_show(worker: WorkerProcess, destination: Path) -> None:
    with contextlib.closing(FaultServer()) as plain:
        plain.serve(BODY)
        assert not worker.fetch(plain.url(), destination).told("certificate")


def test_every_run_asks_and_nobody_answers_for_another(
    worker: WorkerProcess, serve: Serve, root: Authority, destination: Path, tmp_path: Path
) -> None:
    """What was accepted is the manager's to know (V4): here nothing outlives a run."""
    server = serve(root.issue(HOST))
    for _ in range(2):
        key = worker.start(server.url(), destination)
        worker.decide(worker.wait_for(key, "certificate"), codes.S_OK)
        assert worker.story(key).outcome == "transferred"
        destination.unlink()
    late = worker.start(server.url(), destination)
    question = worker.wait_for(late, "certificate")
    asked = len(server.requests)
    worker.cancel(late)
    worker.decide(question, codes.S_OK)
    key = worker.start(server.url(), tmp_path / "next")
    worker.decide({**worker.wait_for(key, "certificate"), "number": 99}, codes.S_OK)  # nobody asked that
    assert len(server.requests) == asked
    worker.decide(worker.wait_for(key, "certificate"), REFUSED)
    assert worker.story(key).hresult == REFUSED


def test_the_answer_may_take_longer_than_the_clocks(
    start_worker: Callable[..., WorkerProcess], serve: Serve, root: Authority, destination: Path, tmp_path: Path
) -> None:
    limits = {"connect_seconds": 1, "first_byte_seconds": 1, "floor_bytes": 1, "floor_seconds": 1}
    worker = start_worker(limits=limits, ca=root.file(tmp_path))
    worker.has_certificate_callback = True
    server = serve(root.issue(HOST))
    key = worker.start(server.url(), destination)
    question = worker.wait_for(key, "certificate")
    worker.wait_for(key, "phase", until=lambda news: "program that checks" in news["text"])
    with contextlib.closing(FaultServer()) as other:  # whose transfer says when two seconds are over
        other.answer("HEAD", [SILENCE])
        other.answer("GET", [SILENCE])
        worker.job, worker.has_certificate_callback = "other", False
        for _ in range(2):
            assert worker.fetch(other.url(), tmp_path / "other").hresult == codes.ERROR_WINHTTP_TIMEOUT
    worker.decide(question, codes.S_OK)
    assert worker.story(key).outcome == "transferred"
