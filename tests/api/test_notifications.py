"""Notices on the library's thread: taken, refused, let go, delivered again."""

import threading
from collections.abc import Callable

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values

from openbits.api.client import Client, Job
from openbits.api.notifications import ServerCertificate
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
        return {"registration": 1}

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


# The service goes away (jobs.md N4: at least once)


def test_after_a_restart_every_job_registers_again_by_itself(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    told: list[str] = []
    jobs = [client.create_job(name) for name in "xy"]
    for job in jobs:
        job.notify(lambda job, _info: told.append(job.info()["properties"]["display_name"]))
    service.disconnect()
    eventually(lambda: service.methods().count("SetNotify") == 4)
    for job in jobs:
        service.notice(job.id, "transferred")
    eventually(lambda: len(service.acknowledged) == 2)
    assert told == ["x", "y"]
    assert listeners() == 1


def test_a_job_that_ended_meanwhile_is_let_go(client: Client, service: FakeService, eventually: Eventually) -> None:
    job = client.create_job("x")
    job.notify(lambda _job, _info: None)
    with service.silence():
        service.jobs[str(job.id)]["state"] = "cancelled"
    eventually(lambda: client.notifier.handler(job.id) is None)
    eventually(lambda: listeners() == 0)


def test_a_notice_that_was_taken_is_not_told_twice_if_its_answer_was_lost(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    told: list[str] = []
    job = client.create_job("x")

    def callback(_job: Job, info: JobInfo) -> None:
        told.append(info["state"])
        if len(told) == 1:
            service.disconnect()

    job.notify(callback)
    service.notice(job.id, "transferred", seq=1)
    eventually(lambda: service.methods().count("SetNotify") == 2)
    assert service.acknowledged == []
    service.notice(job.id, "transferred", seq=1)  # as a service does that was told nothing
    eventually(lambda: service.acknowledged)
    assert told == ["suspended"]
    service.notice(job.id, "transferred", seq=2)
    eventually(lambda: len(service.acknowledged) == 2)
    assert told == ["suspended"] * 2


def test_a_refusal_whose_answer_was_lost_is_told_again(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    told: list[str] = []
    job = client.create_job("x")

    def callback(_job: Job, info: JobInfo) -> None:
        told.append(info["state"])
        if len(told) == 1:
            service.disconnect()
            raise ValueError("not now")

    job.notify(callback)
    service.notice(job.id, "transferred", seq=1)
    eventually(lambda: service.methods().count("SetNotify") == 2)
    service.notice(job.id, "transferred", seq=1)
    eventually(lambda: service.acknowledged)
    assert (told, service.acknowledged) == (["suspended"] * 2, [(str(job.id), 0)])


def test_an_answer_that_cannot_be_given_has_the_job_register_again(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    """Only the connection for calls ended, as after a call that was cut short; the service would wait for ever."""
    told: list[str] = []
    job = client.create_job("x")

    def callback(job: Job, info: JobInfo) -> None:
        told.append(info["state"])
        job.client.connection.close()

    job.notify(callback)
    service.notice(job.id, "transferred")
    eventually(lambda: service.methods().count("SetNotify") == 2)
    service.notice(job.id, "transferred")
    eventually(lambda: service.acknowledged)
    assert told == ["suspended"]


def test_a_call_inside_a_callback_fails_when_the_service_goes_and_works_after_its_return(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    codes_seen: list[int] = []
    job = client.create_job("x")

    def callback(job: Job, _info: JobInfo) -> None:
        if not codes_seen:
            service.disconnect()
        try:
            codes_seen.append(job.complete())
        except BitsError as error:
            codes_seen.append(error.hresult)
            raise

    job.notify(callback)
    service.notice(job.id, "transferred")
    eventually(lambda: service.methods().count("SetNotify") == 2)
    service.notice(job.id, "transferred")
    eventually(lambda: job.info()["state"] == "acknowledged")
    assert codes_seen == [0x800706BA, 0]


def test_a_registration_while_the_service_is_away_fails_and_does_not_hang(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    job, other = client.create_job("x"), client.create_job("y")
    job.notify(lambda _job, _info: None)
    service.close()
    for _ in range(2):
        with pytest.raises(BitsError) as caught:
            other.notify(lambda _job, _info: None)
        assert caught.value.hresult == 0x800706BA
    assert client.notifier.handler(other.id) is None
    assert client.notifier.handler(job.id) is not None
    client.close()
    eventually(lambda: listeners() == 0)


# What a callback may do to the thread


@pytest.mark.parametrize("failure", [SystemExit(), KeyboardInterrupt(), GeneratorExit()])
def test_nothing_a_callback_raises_ends_the_thread(
    failure: BaseException, client: Client, service: FakeService, eventually: Eventually
) -> None:
    def refuse(_job: Job, _info: JobInfo) -> None:
        raise failure

    job = client.create_job("x")
    job.notify(refuse)
    for seq in (1, 2):
        service.notice(job.id, "transferred", seq=seq)
    eventually(lambda: len(service.acknowledged) == 2)
    assert {code for _, code in service.acknowledged} == {0x80004005}


def test_a_callback_that_hangs_holds_up_no_call_of_others(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    entered, release = threading.Event(), threading.Event()
    job, other = client.create_job("x"), client.create_job("y")

    def hang(_job: Job, _info: JobInfo) -> None:
        entered.set()
        release.wait(30)

    job.notify(hang)
    service.notice(job.id, "transferred")
    assert entered.wait(10)
    other.notify(lambda _job, _info: None)
    assert other.info()["state"] == "suspended"
    other.notify(None)
    release.set()
    eventually(lambda: service.acknowledged)


def test_a_notice_of_a_state_that_is_over_is_not_told(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    """N8: here the job went on while an earlier callback was busy."""
    entered, release = threading.Event(), threading.Event()
    told: list[str] = []
    busy, job = client.create_job("busy"), client.create_job("x")

    def hang(_job: Job, _info: JobInfo) -> None:
        entered.set()
        release.wait(30)

    busy.notify(hang)
    job.notify(lambda _job, info: told.append(info["state"]))
    service.notice(busy.id, "transferred")
    assert entered.wait(10)
    service.change(job.id, state="error")
    service.notice(job.id, "error", seq=1)
    service.change(job.id, state="queued")
    service.change(job.id, state="transferred")
    service.notice(job.id, "transferred", seq=2)
    release.set()
    eventually(lambda: len(service.acknowledged) == 3)
    assert told == ["transferred"]
    assert service.acknowledged[1] == (str(job.id), codes.BG_E_INVALID_STATE)  # its place in flight is free again


def test_a_job_that_another_owner_took_is_not_told_and_is_let_go_at_its_end(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    """Its notices come without the job; the callback is made to be handed one."""
    told: list[str] = []
    job = client.create_job("x")
    job.notify(lambda _job, info: told.append(info["state"]))
    name = str(job.id)
    service.emit(
        {"kind": "notice", "job_id": name, "notice": "transferred", "notice_seq": 1}, only=service.targets[name]
    )
    eventually(lambda: service.acknowledged)
    assert (told, service.acknowledged) == ([], [(name, codes.E_ACCESSDENIED)])
    assert client.notifier.handler(job.id) is not None
    service.emit({"kind": "state", "job_id": name, "state": "acknowledged"})
    eventually(lambda: client.notifier.handler(job.id) is None)


def test_whoever_was_replaced_is_let_go_and_asks_no_more(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    job, other = client.create_job("x"), client.create_job("y")
    job.notify(lambda _job, _info: None)
    other.notify(lambda _job, _info: None)
    for one, number in ((job, 7), (other, 2)):  # the first is old news
        event = {"kind": "replaced", "job_id": str(one.id), "registration": number}
        service.emit(event, only=service.targets[str(one.id)])
    eventually(lambda: client.notifier.handler(other.id) is None)
    assert client.notifier.handler(job.id) is not None
    service.disconnect()
    eventually(lambda: service.methods().count("SetNotify") == 3)


def test_the_thread_lives_as_long_as_there_is_somebody_to_call(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    job = client.create_job("x")
    assert listeners() == 0
    for _ in range(3):
        job.notify(lambda _job, _info: None)
        assert listeners() == 1
        job.notify(None)
        eventually(lambda: listeners() == 0)
    job.notify(lambda job, _info: _complete(job))
    service.notice(job.id, "transferred")
    eventually(lambda: listeners() == 0)
    assert job.info()["state"] == "acknowledged"


def test_a_callback_may_close_the_client(client: Client, service: FakeService, eventually: Eventually) -> None:
    job = client.create_job("x")
    job.notify(lambda job, _info: job.client.close())
    service.notice(job.id, "transferred")
    eventually(lambda: client.is_closed)
    eventually(lambda: listeners() == 0)


def test_the_stream_brings_nothing_but_what_the_service_says_it_is_to_be_told(
    client: Client, service: FakeService
) -> None:
    client.create_job("x").notify(lambda _job, _info: None)
    assert [call.parameters["job_ids"] for call in service.calls if call.method == "Subscribe"] == [[]]


def test_the_answer_names_the_stream_that_was_told(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    """Another process of the same user may have been told of the same notice before."""
    job = client.create_job("x")
    job.notify(lambda _job, _info: None)
    service.notice(job.id, "transferred", seq=4)
    eventually(lambda: service.acknowledged)
    answer = next(call for call in service.calls if call.method == "AcknowledgeNotice")
    assert answer.parameters == {
        "job_id": str(job.id),
        "notice_seq": 4,
        "hresult": 0,
        "subscriber": service.targets[str(job.id)],
    }


def test_notices_without_a_number_want_no_answer_and_those_of_files_are_taken(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    """`Job.notify` is about the end of the job; flags that ask for more do no harm."""
    told: list[str] = []
    job = client.create_job("x")
    job.notify(lambda _job, info: told.append(info["state"]))
    service.tell(job.id, "modification")
    service.tell(job.id, "file-transferred", notice_seq=1, file_index=0)
    service.notice(job.id, "transferred", seq=2)
    eventually(lambda: len(service.acknowledged) == 2)
    assert (told, {code for _, code in service.acknowledged}) == (["suspended"], {0})


def test_the_notice_of_a_file_is_not_told_after_the_end_of_the_job(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    """The handler of another job was busy meanwhile."""
    told: list[str] = []
    job = client.create_job("x")
    client.notifier.register(job, lambda event: told.append(event["notice"]))
    service.jobs[str(job.id)]["state"] = "cancelled"
    service.tell(job.id, "file-transferred", notice_seq=1, file_index=0)
    eventually(lambda: service.acknowledged)
    assert (told, service.acknowledged) == ([], [(str(job.id), codes.BG_E_INVALID_STATE)])


# Certificate callbacks


def test_a_certificate_is_accepted_by_returning_and_refused_by_raising(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    asked: list[ServerCertificate] = []
    answers: list[Exception | None] = [None, BitsError(codes.E_ACCESSDENIED, "not this one"), ValueError("bug")]

    def check(certificate: ServerCertificate) -> None:
        asked.append(certificate)
        if (answer := answers[len(asked) - 1]) is not None:
            raise answer

    job = client.create_job("x")
    job.set_certificate_callback(check)
    for number in (1, 2, 3):
        service.ask(job.id, number, "files.example:443", b"\x30leaf", [b"\x30ca"])
    eventually(lambda: len(service.certificate_answers) == 3)
    assert service.certificate_answers == [(1, 0), (2, codes.E_ACCESSDENIED), (3, codes.E_FAIL)]
    assert asked[0] == ServerCertificate(
        file_index=0, server="files.example:443", certificate=b"\x30leaf", chain=[b"\x30ca"]
    )


def test_a_certificate_callback_ends_with_null_and_with_the_job(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    job, other = client.create_job("x"), client.create_job("y")
    job.set_certificate_callback(lambda _: None)
    other.set_certificate_callback(lambda _: None)
    job.set_certificate_callback(None)
    assert list(service.certificate_targets) == [str(other.id)]
    service.emit({"kind": "state", "job_id": str(other.id), "state": "cancelled"}, only=_only(service))
    eventually(lambda: listeners() == 0)


def test_a_certificate_callback_is_not_set_again_when_the_service_comes_back(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    """V5: it is not persisted, and the job may be active."""
    job, other = client.create_job("x"), client.create_job("y")
    job.set_certificate_callback(lambda _: None)
    other.notify(lambda _job, _info: None)
    service.disconnect()
    eventually(lambda: service.methods().count("SetNotify") == 2)
    assert service.methods().count("SetCertificateCallback") == 1
    other.notify(None)
    eventually(lambda: listeners() == 0)


def test_a_certificate_callback_that_is_refused_is_let_go(
    client: Client, service: FakeService, eventually: Eventually
) -> None:
    job = client.create_job("x")
    service.jobs[str(job.id)]["state"] = "transferring"
    with pytest.raises(BitsError) as caught:
        job.set_certificate_callback(lambda _: None)
    assert caught.value.hresult == codes.BG_E_READ_ONLY_WHEN_JOB_ACTIVE
    eventually(lambda: listeners() == 0)


def _only(service: FakeService) -> str:
    (target,) = service.certificate_targets.values()
    return target


def listeners() -> int:
    """Threads of notifiers in this process."""
    return sum(thread.name == "openbits-events" for thread in threading.enumerate())


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
