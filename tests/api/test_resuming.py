"""The event stream that is taken up again: over restarts, over streams that were too slow, over trimmed stores."""

from collections.abc import Iterator

import pytest
from tests.api.fakeservice import FakeService

from openbits.api import following, locate
from openbits.api.client import Client
from openbits.api.connection import UnreachableError
from openbits.api.resuming import ResumingEvents


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "RECONNECT_SECONDS", 0.3)
    monkeypatch.setattr(locate, "_start", lambda _: "not in this test")


@pytest.fixture
def job_id(service: FakeService) -> str:
    return service.add_job("x")


@pytest.fixture
def events(client: Client) -> Iterator[ResumingEvents]:
    with ResumingEvents(client) as stream:
        yield stream


def seqs(stream: ResumingEvents, count: int) -> list[int]:
    """Numbers of the next events; fails if there are fewer, or more."""
    found = []
    for _ in range(count):
        event = stream.next(5)
        assert event is not None
        found.append(event["seq"])
    assert stream.next(0.05) is None
    return found


def test_events_of_a_restart_come_once_and_in_order(events: ResumingEvents, service: FakeService, job_id: str) -> None:
    service.change(job_id, state="queued")
    assert seqs(events, 1) == [1]
    with service.silence():
        service.change(job_id, state="connecting")
        service.change(job_id, state="transferring")
    assert seqs(events, 2) == [2, 3]
    service.change(job_id, state="transferred")
    assert seqs(events, 1) == [4]


def test_what_was_handed_out_is_not_repeated(events: ResumingEvents, service: FakeService, job_id: str) -> None:
    service.change(job_id, state="queued")
    service.emit({"kind": "state", "job_id": job_id, "seq": 1})
    assert seqs(events, 1) == [1]


def test_a_restart_before_the_first_event_loses_none(events: ResumingEvents, service: FakeService, job_id: str) -> None:
    with service.silence():
        service.change(job_id, state="queued")
    assert seqs(events, 1) == [1]


def test_a_number_resumes_after_it(client: Client, service: FakeService, job_id: str) -> None:
    for state in ("queued", "connecting", "transferring"):
        service.change(job_id, state=state)
    with ResumingEvents(client, from_seq=1) as stream:
        assert seqs(stream, 2) == [2, 3]


def test_progress_repeats_its_number_and_is_no_repetition(
    events: ResumingEvents, service: FakeService, job_id: str
) -> None:
    service.change(job_id, state="transferring")
    for size in (1, 2):
        service.change(job_id, kind="progress", bytes_transferred=size)
    assert seqs(events, 3) == [1, 1, 1]


def test_a_stream_that_was_too_slow_is_read_from_the_store(
    events: ResumingEvents, service: FakeService, job_id: str
) -> None:
    service.change(job_id, state="queued")
    assert seqs(events, 1) == [1]
    peers = service._subscribers[:]
    service._subscribers.clear()  # what is dropped from a full queue
    service.change(job_id, state="connecting")
    service._subscribers[:] = peers
    service.emit({"kind": "overflow", "job_id": ""})
    assert seqs(events, 1) == [2]


def test_events_that_are_not_kept_are_told_as_missed_once(client: Client, service: FakeService, job_id: str) -> None:
    for state in ("queued", "connecting"):
        service.change(job_id, state=state)
    service.forget_events()
    with ResumingEvents(client, from_seq=0) as stream:
        missed = stream.next(5)
        assert missed is not None
        assert (missed["kind"], missed["seq"]) == ("overflow", 2)
        service.change(job_id, state="transferring")
        assert seqs(stream, 1) == [3]


def test_while_the_service_is_away_it_says_so_and_then_gives_up(events: ResumingEvents, service: FakeService) -> None:
    service.close()
    assert events.next(0.05) is None
    assert isinstance(events.loss, UnreachableError)
    with pytest.raises(UnreachableError, match=r"since then.*the last event was number 0"):
        events.next(5)
