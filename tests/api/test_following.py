"""Waiting for a job across a restart of the service."""

import threading
from collections.abc import Callable, Iterator

import pytest
from tests.api.fakeservice import FakeService

from openbits.api import following, locate
from openbits.api.client import Client, Job, Outcome
from openbits.core.errors import BitsError

Eventually = Callable[..., object]


class Waiter:
    """Waits for a job on a thread; `result` is the outcome, or the error."""

    def __init__(self, job: Job, timeout: float = 20) -> None:
        self.result: Outcome | BitsError | None = None
        self.states: list[str] = []
        self._job = job
        self._timeout = timeout
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for info in self._job.follow(timeout=self._timeout):
                self.states.append(info["state"])
        except BitsError as error:
            self.result = error

    def join(self) -> None:
        """Until waiting is over."""
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def job(client: Client) -> Job:
    return client.create_job("x", auto_complete=True)


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What takes minutes in life."""
    monkeypatch.setattr(following, "_LAST_WORDS_SECONDS", 0.1)
    monkeypatch.setattr(following, "RECONNECT_SECONDS", 0.3)
    monkeypatch.setattr(locate, "_start", lambda _: "not in this test")
    return iter([None])


def test_a_restart_is_waited_for_and_the_job_followed_on(
    job: Job, service: FakeService, eventually: Eventually
) -> None:
    waiter = Waiter(job)
    eventually(lambda: waiter.states == ["suspended"])
    service.disconnect()
    eventually(lambda: service.methods().count("Subscribe") == 2)
    service.change(job.id, state="transferring")
    eventually(lambda: waiter.states[-1] == "transferring")
    service.change(job.id, state="acknowledged")
    waiter.join()
    assert waiter.result is None
    assert waiter.states[-1] == "acknowledged"


@pytest.mark.parametrize("last", ["acknowledged", "cancelled"])
def test_a_job_that_ended_while_nobody_answered_is_found_in_the_stored_events(
    last: str, job: Job, service: FakeService, eventually: Eventually
) -> None:
    waiter = Waiter(job)
    eventually(lambda: waiter.states == ["suspended"])
    with service.silence():
        service.change(job.id, state=last)
    waiter.join()
    assert waiter.result is None
    assert waiter.states == ["suspended", last]


def test_a_service_that_does_not_come_back_is_unreachable_and_the_text_says_how_to_go_on(
    job: Job, service: FakeService, eventually: Eventually
) -> None:
    waiter = Waiter(job)
    eventually(lambda: waiter.states == ["suspended"])
    service.close()
    waiter.join()
    assert isinstance(waiter.result, BitsError)
    assert waiter.result.hresult == 0x800706BA
    assert f"bits wait {job.id}" in str(waiter.result)


def test_a_deadline_holds_while_the_service_is_away(
    job: Job, service: FakeService, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RECONNECT_SECONDS", 60.0)
    waiter = Waiter(job, timeout=0.5)
    eventually(lambda: waiter.states == ["suspended"])
    service.close()
    waiter.join()
    assert waiter.result is None
    assert waiter.states == ["suspended"]
