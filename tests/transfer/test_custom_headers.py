"""Custom headers of a job on the wire, byte by byte as a server receives them (jobs.md §7.8)."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import FaultServer, size_only, whole

BODY = os.urandom(30_000)


@pytest.fixture
def worker(start_worker: Callable[..., WorkerProcess]) -> WorkerProcess:
    """In the background, so that there are two requests for each file."""
    made = start_worker()
    made.is_foreground = False
    return made


def test_they_are_in_every_request_in_place_of_ours(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.serve(BODY)
    worker.headers = [("X-Tenant", "t1"), ("user-agent", "Mine/1.0"), ("X-Empty", ""), ("X-Word", "na\u00efve")]
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert [request.method for request in server.requests] == ["HEAD", "GET"]
    for request in server.requests:
        assert request.headers["x-tenant"] == "t1"
        assert request.headers["user-agent"] == "Mine/1.0"
        assert request.headers["x-empty"] == ""
        assert request.headers["x-word"].encode("latin-1").decode() == "na\u00efve"
        assert request.headers["accept-encoding"] == "identity"


def test_the_next_job_has_none_of_them(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.serve(BODY)
    worker.headers = [("X-Tenant", "t1"), ("User-Agent", "Mine/1.0")]
    worker.fetch(server.url(), destination)
    worker.headers = None
    worker.fetch(server.url(), destination)
    assert [request.headers.get("x-tenant") for request in server.requests] == ["t1", "t1", None, None]
    assert server.requests[-1].headers["user-agent"] == "OpenBITS"


def test_a_connection_that_may_be_authenticated_is_not_shared(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """Some schemes authenticate the connection and not the request: another job would come in with it."""
    server.serve(BODY)
    worker.fetch(server.url(), destination)
    worker.headers = [("Authorization", "Negotiate s3cret")]
    worker.fetch(server.url(), destination)
    worker.headers = None
    worker.fetch(server.url(), destination)
    proofs = [request.headers.get("authorization") for request in server.requests]
    assert proofs == [None, None, "Negotiate s3cret", "Negotiate s3cret", None, None]
    with_proof = {request.connection for request in server.requests if "authorization" in request.headers}
    without = {request.connection for request in server.requests if "authorization" not in request.headers}
    assert with_proof.isdisjoint(without)


def test_nobody_comes_in_with_a_connection_that_may_be_authenticated(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.serve(BODY)
    worker.headers = [("Authorization", "Negotiate s3cret")]
    worker.fetch(server.url(), destination)
    worker.headers = None
    worker.fetch(server.url(), destination)
    with_proof = {request.connection for request in server.requests if "authorization" in request.headers}
    without = {request.connection for request in server.requests if "authorization" not in request.headers}
    assert with_proof
    assert without
    assert with_proof.isdisjoint(without)


def test_another_server_gets_no_proof(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    with contextlib.closing(FaultServer()) as other:
        other.answer("HEAD", size_only(BODY))
        other.answer("GET", whole(BODY))
        found = [f"HTTP/1.1 302 Found\r\nLocation: {other.url()}\r\nContent-Length: 0\r\n\r\n".encode()]
        server.answer("HEAD", found)
        server.answer("GET", found)
        worker.headers = [("Authorization", "Bearer s3cret"), ("Cookie", "c=1"), ("X-Tenant", "t1")]
        assert worker.fetch(server.url(), destination).outcome == "transferred"
        for request in server.requests:
            assert (request.headers["authorization"], request.headers["cookie"]) == ("Bearer s3cret", "c=1")
        for request in other.requests:
            assert request.headers["x-tenant"] == "t1"
            assert request.headers.keys().isdisjoint({"authorization", "cookie"})
    assert destination.read_bytes() == BODY


def test_what_is_told_of_a_refusal_shows_none_of_them(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.answer("HEAD", [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"])
    server.answer("GET", [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"])
    worker.headers = [("Authorization", "Bearer Canary5ecret")]
    story = worker.fetch(server.url(), destination)
    assert story.outcome == "failed"
    assert "Canary5ecret" not in repr(story.news)
