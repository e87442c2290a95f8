"""Notices on the library's thread: taken, refused, let go, delivered again."""

import threading
from collections.abc import Callable

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values

from openbits.api.client import Client, Job
from openbits.api.wire import JobInfo
from openbits.core import codes
from openbits.core.errors import BitsError

Eventually = Callable[..., object]


def test_a_notice_reaches_the_callback_and_is_acknowledged(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    told: list[tuple[Job, str, str]] = []
    job = client.create_job("x")
    job.notify(lambda job, info: told.append((job, info["state"], threading.current_thread().name)))
    service.change(job.id, state="transferred")
    service.notice(job.id, "transferred")
    eventually(lambda: service.acknowledged)
    assert told == [(job, "transferred", "openbits-events")]
    assert service.acknowledged == [(str(job.id), 0)]


def test_a_notice_that_is_faster_than_the_answer_of_the_registration_is_not_lost(
    client: Client, service: FakeService
) -> None:
    told = threading.Event()
    job = client.create_job("x")

    def set_notify(parameters: Values) -> Values:
        service.targets[str(job.id)] = parameters["subscriber"]
        service.notice(job.id, "error")
        return {}

    service.overrides["SetNotify"] = set_notify
    job.notify(lambda _job, _info: told.set())
    assert told.wait(10)


@pytest.mark.parametrize(
    ("failure", "hresult"),
    [
        (BitsError(codes.E_ACCESSDENIED, "no"), 0x80070005),
        (BitsError(codes.S_FALSE, "odd"), 0x80004005),
        (ValueError("bug"), 0x80004005),
    ],
)
def test_an_exception_means_not_taken(
    failure: Exception, hresult: int, client: Client, service: FakeService, eventually: Eventually
) -> None:
    def refuse(_job: Job, _info: JobInfo) -> None:
        raise failure

    job = client.create_job("x")
    job.notify(refuse)
    service.notice(job.id, "transferred")
    eventually(lambda: service.acknowledged)
    assert service.acknowledged == [(str(job.id), hresult)]


def test_methods_of_the_job_may_be_called_inside_the_callback(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    job = client.create_job("x")
    job.notify(lambda job, _info: _complete(job))
    service.notice(job.id, "transferred")
    eventually(lambda: job.info()["state"] == "acknowledged")
    eventually(lambda: client.notifier.handler(job.id) is None)  # let go: the job is final


def _complete(job: Job) -> None:
    assert job.complete() == codes.S_OK


def test_a_refused_registration_leaves_the_earlier_one(client: Client, service: FakeService) -> None:
    job = client.create_job("x")
    job.notify(lambda _job, _info: None)
    first = client.notifier.handler(job.id)

    def refuse(_: Values) -> Values:
        raise FailedError(codes.BG_E_INVALID_STATE)

    service.overrides["SetNotify"] = refuse
    with pytest.raises(BitsError):
        job.notify(lambda _job, _info: None)
    assert client.notifier.handler(job.id) is first
    other = client.create_job("y")
    with pytest.raises(BitsError):
        other.notify(lambda _job, _info: None)
    assert client.notifier.handler(other.id) is None


def test_none_ends_it(client: Client, service: FakeService) -> None:
    job = client.create_job("x")
    job.notify(lambda _job, _info: None)
    assert str(job.id) in service.targets
    job.notify(None)
    assert service.targets == {}
    assert client.notifier.handler(job.id) is None


def test_after_an_overflow_every_job_registers_again(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    """Registering has pending notices delivered again, so none is lost with the events that were."""
    jobs = [client.create_job(name) for name in "xy"]
    for job in jobs:
        job.notify(lambda _job, _info: None)
    service.emit({"kind": "overflow", "job_id": ""})
    eventually(lambda: service.methods().count("SetNotify") == 4)


def test_one_stream_serves_all_registrations(client: Client, service: FakeService) -> None:
    for name in "xyz":
        client.create_job(name).notify(lambda _job, _info: None)
    assert service.methods().count("Subscribe") == 1


def test_a_new_registration_after_the_service_was_lost_fails_and_does_not_hang(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    job = client.create_job("x")
    job.notify(lambda _job, _info: None)
    service.disconnect()
    eventually(lambda: client.notifier.handler(job.id) is None)
    with pytest.raises(BitsError) as caught:
        job.notify(lambda _job, _info: None)
    assert caught.value.hresult == 0x800706BA


def test_the_event_stream_resumes_after_a_number(client: Client, service: FakeService) -> None:
    with client.events(from_seq=41) as events:
        assert service.calls[-1].parameters == {"all_users": False, "from_seq": 41}
        job = client.create_job("x")
        service.change(job.id, state="queued")
        event = events.next(10)
        assert event is not None
        assert (event["kind"], event["job_id"]) == ("state", str(job.id))
        assert events.next(0.01) is None


def test_the_end_of_the_service_ends_the_stream(client: Client, service: FakeService) -> None:
    with client.events() as events:
        service.emit({"kind": "ended", "job_id": ""})
        with pytest.raises(BitsError) as caught:
            events.next(10)
    assert caught.value.hresult == 0x800706BA
