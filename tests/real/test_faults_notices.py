"""Notices: who registers late is told, who refuses is told again, who vanishes leaves it to the next (N4, N5)."""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site, run_as
from tests.real.stories import Job, cancel_all, create, real_user, running_service, transferred

from openbits import BitsError
from openbits.channel import close_all

pytestmark = pytest.mark.root

BODY = secrets.token_bytes(20_000)


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The service of all tests here, with an empty queue."""
    yield running
    cancel_all(running)


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: Any) -> Path:
    return private_folder(owner)


def _with_notices(service: Service, job: Job, story: Callable[[Any, list[tuple[str, float]]], None]) -> Any:
    """Run as the owner with the job and a list that its callback fills: state and time of each notice."""

    def as_owner() -> list[tuple[str, float]]:
        with service.client() as client:
            heard: list[tuple[str, float]] = []
            story(client.job(job.id), heard)
            return heard

    return as_owner


def _until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_registers_after_the_event_is_told_at_once(service: Service, site: Site, owner: Any, folder: Path) -> None:
    job = transferred(service, site, owner, folder)

    def story(own: Any, heard: list[tuple[str, float]]) -> None:
        before = time.monotonic()
        own.notify(lambda _, info: heard.append((info["state"], time.monotonic() - before)))
        _until(lambda: heard)
        own.client.close()

    ((state, seconds),) = run_as(owner, _with_notices(service, job, story))
    assert (state, seconds < 2) == ("transferred", True)


def test_a_notice_that_was_taken_does_not_come_again(service: Service, site: Site, owner: Any, folder: Path) -> None:
    job = transferred(service, site, owner, folder)

    def story() -> list[str]:
        with service.client() as client:
            own = client.job(job.id)
            with client.events() as events:
                own.set_subscriber(events.subscriber)
                notice = events.next(10)
                assert notice is not None
                answer = {"job_id": job.id, "notice_seq": notice["notice_seq"]}
                with pytest.raises(BitsError) as caught:
                    client.call("AcknowledgeNotice", {**answer, "notice_seq": 99, "hresult": 0})
                assert caught.value.hresult == 0x80070057
                client.call("AcknowledgeNotice", {**answer, "hresult": 0})
            with client.events() as events:
                own.set_subscriber(events.subscriber)
                own.set(description="a change that is news for sure")
                news = events.next(10)
                assert news is not None
                return [notice["kind"], news["kind"]]

    assert run_as(owner, story) == ["notice", "changed"]


def test_a_refused_notice_comes_again_after_the_minimum_retry_delay(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    """N5, OPEN-52: at least 5 s, the smallest delay that a job can have."""
    job = transferred(service, site, owner, folder)
    job.set(minimum_retry_delay_seconds=1)
    assert job.info()["properties"]["minimum_retry_delay_seconds"] == 5

    def story(own: Any, heard: list[tuple[str, float]]) -> None:
        def callback(_: Any, info: Any) -> None:
            heard.append((info["state"], time.monotonic()))
            if len(heard) == 1:
                raise ValueError("not now")

        own.notify(callback)
        _until(lambda: len(heard) == 2)
        own.client.close()

    (_, first), (_, second) = run_as(owner, _with_notices(service, job, story))
    assert 4.9 < second - first < 6.5


def test_a_notice_whose_subscriber_vanished_goes_to_the_next(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    """N4: one who dies before the acknowledgement has not been told."""
    url = site.put("/file", BODY)
    gate = site.gate("/file", 1000)
    job = create(service, owner, [(url, folder / "file")])
    reading, writing = os.pipe()

    def dies() -> str:
        with service.client() as client:
            own = client.job(job.id)
            with client.events() as events:
                own.set_subscriber(events.subscriber)
                os.write(writing, b".")
                while (event := events.next(10)) is not None:
                    if event["kind"] == "notice":
                        return str(event["notice"])
        return "no notice"

    def open_gate() -> None:
        os.read(reading, 1)
        gate.set()

    thread = threading.Thread(target=open_gate)
    thread.start()
    assert run_as(owner, dies) == "transferred"
    thread.join(10)
    close_all([reading, writing])

    def story(own: Any, heard: list[tuple[str, float]]) -> None:
        own.notify(lambda _, info: heard.append((info["state"], 0)))
        _until(lambda: heard)
        own.client.close()

    assert run_as(owner, _with_notices(service, job, story)) == [("transferred", 0)]


def test_an_error_is_noticed_and_a_transient_one_is_not(service: Service, site: Site, owner: Any, folder: Path) -> None:
    """jobs.md §12.1; N8: what is pending is dropped when the job leaves the state."""
    job = create(service, owner, [(f"{site.url}/missing", folder / "file")])
    job.reaches("error")
    site.put("/missing", BODY)
    job.resume()
    job.reaches("transferred")

    def story(own: Any, heard: list[tuple[str, float]]) -> None:
        own.notify(lambda _, info: heard.append((info["state"], 0)))
        _until(lambda: heard)
        own.client.close()

    assert run_as(owner, _with_notices(service, job, story)) == [("transferred", 0)]
