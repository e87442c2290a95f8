"""What a server says may be long; what the worker tells of it fits into a message all the same (docs/processes.md)."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import FaultServer, Step, date, head, whole

from openbits.core import codes

BODY = b"body"
MONDAY = date(1_793_613_600)
LONG = '"' * 50_000
"""Twice as long in a message, where each of these letters is escaped."""


def test_a_date_with_a_long_comment_is_no_version(
    start_worker: Callable[..., WorkerProcess], server: FaultServer, destination: Path
) -> None:
    """The standard library takes it for a date (RFC 5322), and it would be asked with for ever."""
    server.serve(BODY, f"Last-Modified: {MONDAY} ({LONG})")
    story = start_worker().fetch(server.url(), destination)
    assert story.outcome == "transferred", story.last
    assert story.connected["last_modified"] is None


@pytest.mark.parametrize("number", [3, 99])
def test_a_head_of_quotes_is_told_as_far_as_there_is_room(
    start_worker: Callable[..., WorkerProcess], server: FaultServer, destination: Path, number: int
) -> None:
    server.serve(BODY, *(f"X-{index}: {LONG[: 60_000 // number]}" for index in range(number)))
    story = start_worker().fetch(server.url(), destination)
    assert story.outcome == "transferred", story.last
    assert story.connected["headers"].startswith("HTTP/1.1 200 OK\r\n")


SAID: dict[str, Callable[[FaultServer], list[Step]]] = {
    "a status": lambda _: [head(f"404 {LONG}", "Content-Length: 0")],
    "a realm": lambda _: [head("401 No", f'WWW-Authenticate: Basic realm="{"é" * 20_000}"', "Content-Length: 0")],
    "schemes": lambda _: [head("401 No", f"WWW-Authenticate: {','.join('a' * n for n in range(300))}")],
    "a way back": lambda server: [head("302 Found", f"Location: {server.url('/' + 'a' * 9000)}?{LONG[:9000]}")],
    "a way elsewhere": lambda _: [head("302 Found", f"Location: gopher://{'a' * 9000}/{'%22' * 9000}")],
    "an encoding": lambda _: whole(BODY, f"Content-Encoding: {LONG}"),
    "a range": lambda _: [head("206 Partial Content", f"Content-Range: bytes {'9' * 50_000}", "Content-Length: 4")],
}


@pytest.mark.parametrize("said", SAID)
def test_a_failure_has_words_that_fit(
    start_worker: Callable[..., WorkerProcess], server: FaultServer, destination: Path, said: str
) -> None:
    server.answer("GET", SAID[said](server))
    story = start_worker().fetch(server.url(), destination)
    assert story.outcome == "failed", story.last
    assert codes.is_failure(story.hresult)
