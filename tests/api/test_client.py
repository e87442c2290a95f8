"""Client and Job: what they ask the service, and what they make of the answers."""

import enum
import gc
import inspect
import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values

import openbits
from openbits.api import calls
from openbits.api.client import Client, Job, Outcome
from openbits.api.tokens import Token
from openbits.core import codes
from openbits.core.enums import JobState, JobType, Level, NotifyFlags, Priority, TokenFlags
from openbits.core.errors import BitsError
from openbits.core.properties import PROPERTIES


def test_the_package_offers_its_names_without_importing_them_all() -> None:
    assert openbits.Client is Client
    assert set(openbits.__all__) <= set(dir(openbits))
    assert all(getattr(openbits, name) is not None for name in openbits.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        openbits.nonsense  # noqa: B018  # the access is the test


def test_whatever_enumeration_a_property_or_a_method_takes_is_a_name_of_the_package() -> None:
    methods = [member for kind in Job.__mro__ for member in vars(kind).values() if inspect.isfunction(member)]
    named = [one.annotation for method in methods for one in inspect.signature(method).parameters.values()]
    kinds = {kind for kind in (*named, *(rule.type for rule in PROPERTIES.values())) if inspect.isclass(kind)}
    enumerations = {kind.__name__ for kind in kinds if issubclass(kind, enum.Enum)}
    assert {"AuthTarget", "CertStore", "SecurityFlags", "TokenFlags"} <= enumerations <= set(openbits.__all__)


def test_the_first_word_is_hello_with_the_level_and_the_answer_is_kept(service: FakeService) -> None:
    with Client(Level.IDENTIFY) as client:
        assert client.info["caller_name"] == "me"
    assert (service.calls[0].method, service.calls[0].parameters) == ("Hello", {"level": 2})


def test_a_job_from_creation_to_completion(client: Client, service: FakeService) -> None:
    job = client.create_job("nightly", priority=Priority.FOREGROUND, auto_complete=False)
    job.add_file("https://h/a", "/srv/a")
    job.resume()
    assert job.state is JobState.QUEUED
    assert [(file["remote_name"], file["local_name"]) for file in job.files()] == [("https://h/a", "/srv/a")]
    service.change(job.id, state="transferred")
    assert job.complete() == codes.S_OK
    assert job.info()["state"] == "acknowledged"
    with pytest.raises(BitsError) as caught:
        job.suspend()
    assert caught.value.hresult == 0x80200002
    with pytest.raises(BitsError) as caught:
        client.job(job.id)
    assert caught.value.hresult == 0x80200001


def test_create_job_sends_type_and_umask_of_the_process(client: Client, service: FakeService) -> None:
    before = os.umask(0o027)
    try:
        client.create_job("x", type=JobType.DOWNLOAD)
    finally:
        os.umask(before)
    call = next(call for call in service.calls if call.method == "CreateJob")
    assert call.parameters == {"display_name": "x", "type": "download", "umask": 0o027}


def test_enumerations_travel_by_name_and_flags_by_number(client: Client, service: FakeService) -> None:
    job = client.create_job("x")
    job.set(priority=Priority.LOW, notify_flags=NotifyFlags.JOB_ERROR, minimum_retry_delay_seconds=9)
    assert service.calls[-1].parameters["values"] == {
        "priority": "low",
        "notify_flags": 2,
        "minimum_retry_delay_seconds": 9,
    }


def test_a_name_that_is_no_property_is_told_with_those_that_are(client: Client, service: FakeService) -> None:
    job = client.create_job("x")
    for misspelt in (lambda: job.set(prio=1), lambda: client.create_job("y", prio=1)):
        with pytest.raises(BitsError, match=r"no property 'prio'; known are .*priority, .*auto_complete") as caught:
            misspelt()
        assert caught.value.hresult == codes.E_INVALIDARG
    assert "SetProperties" not in service.methods()


def test_a_job_whose_properties_are_refused_does_not_stay_behind(client: Client, service: FakeService) -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(codes.E_NOTIMPL)

    service.overrides["SetProperties"] = refuse
    with pytest.raises(BitsError) as caught:
        client.create_job("x", description="y")
    assert caught.value.hresult == 0x80004001
    assert [job["state"] for job in service.jobs.values()] == ["cancelled"]


def test_a_relative_path_is_refused_by_name_value_and_rule(client: Client) -> None:
    with pytest.raises(BitsError, match=r"a\.iso.*absolute") as caught:
        client.create_job("x").add_file("https://h/a", "a.iso")
    assert caught.value.hresult == 0x80070057


def test_jobs_lists_what_is_there_and_skips_what_ended_meanwhile(client: Client, service: FakeService) -> None:
    kept, gone = service.add_job("kept"), service.add_job("gone")
    listed = [service.jobs[kept], dict(service.jobs[gone])]
    service.overrides["ListJobs"] = lambda _: {"jobs": listed}
    service.jobs[gone]["state"] = "cancelled"
    assert [str(job.id) for job in client.jobs()] == [kept]


@pytest.mark.parametrize("code", [codes.E_OUTOFMEMORY, codes.RPC_S_SERVER_UNAVAILABLE])
def test_a_list_of_jobs_is_whole_or_fails(client: Client, service: FakeService, code: int) -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(code)

    service.add_job("one")
    service.overrides["OpenJob"] = refuse
    with pytest.raises(BitsError) as caught:
        client.jobs()
    assert caught.value.hresult == code


def test_an_unknown_id_is_not_found(client: Client) -> None:
    with pytest.raises(BitsError) as caught:
        client.job(uuid.uuid4())
    assert caught.value.symbol == "BG_E_NOT_FOUND"


def test_a_job_object_that_is_gone_gives_its_handle_back_with_the_next_call(
    client: Client, service: FakeService
) -> None:
    job = client.create_job("x")
    del job
    gc.collect()
    client.job_infos()
    assert service.methods() == ["CreateJob", "ReleaseJob", "ListJobs"]


# -- tokens -------------------------------------------------------------------------------------------------------


def test_calls_in_which_the_caller_matters_carry_the_impersonated_token_and_others_do_not(
    client: Client, service: FakeService
) -> None:
    job = client.create_job("x")
    with client.logon_user("beth", "secret") as token, token.impersonate():
        job.set_helper_token()
        job.set_helper_token_flags(TokenFlags.LOCAL_FILE)
        client.job(job.id)
        client.job_infos()
    client.job_infos()
    unasked = {"Hello", "LogonUser", "ReleaseJob"}
    seen = [(call.method, call.token) for call in service.calls if call.method not in unasked]
    assert seen == [
        ("CreateJob", None),
        ("SetHelperToken", "beth"),
        ("SetHelperTokenFlags", None),
        ("OpenJob", "beth"),
        ("ListJobs", "beth"),
        ("ListJobs", None),
    ]
    assert job.info()["helper_name"] == "beth"
    assert job.info()["helper_token_flags"] == 1


def test_without_cloaking_the_service_sees_the_process(service: FakeService) -> None:
    with Client(is_cloaking=False) as client, client.logon_user("beth", "secret") as token, token.impersonate():
        client.create_job("x").set_helper_token()
    assert {call.token for call in service.calls} == {None}


def test_impersonation_holds_for_the_thread_and_ends_with_the_block(client: Client, service: FakeService) -> None:
    with client.open_process_token() as token:
        with token.impersonate():
            other = threading.Thread(target=client.create_job, args=("by another thread",))
            other.start()
            other.join(10)
        client.create_job("after")
    assert [call.token for call in service.calls if call.method == "CreateJob"] == [None, None]


def test_impersonations_nest(client: Client, service: FakeService) -> None:
    service.passwords["carol"] = "secret"
    with client.logon_user("beth", "secret") as beth, client.logon_user("carol", "secret") as carol, beth.impersonate():
        with carol.impersonate():
            client.create_job("inner")
        client.create_job("outer")
    assert [call.token for call in service.calls if call.method == "CreateJob"] == ["carol", "beth"]


def test_a_closed_token_is_refused_before_anything_is_sent(client: Client, service: FakeService) -> None:
    token = client.open_process_token()
    token.close()
    token.close()
    before = len(service.calls)
    with pytest.raises(BitsError) as caught, token.impersonate():
        pytest.fail("impersonated a closed token")
    assert caught.value.hresult == 0x80070006
    with pytest.raises(BitsError):
        client.token_info(token)
    assert len(service.calls) == before


def test_token_info_shows_the_descriptor_to_the_service(client: Client) -> None:
    with client.logon_user("beth", "secret") as token:
        assert client.token_info(token)["name"] == "beth"
    with Token(os.memfd_create("foreign")) as foreign, pytest.raises(BitsError) as caught:
        client.token_info(foreign)
    assert caught.value.hresult == 0x80070006


def test_a_wrong_password_is_a_logon_failure_and_is_asked_on_a_connection_of_its_own(
    client: Client, service: FakeService
) -> None:
    with pytest.raises(BitsError) as caught:
        client.logon_user("beth", "wrong")
    assert caught.value.hresult == 0x8007052E
    assert "wrong'" not in repr(caught.value)
    assert service.calls[-2].method == "Hello"


@pytest.mark.usefixtures("service")
def test_an_anonymous_client_is_denied_every_call() -> None:
    with Client(Level.ANONYMOUS) as client, pytest.raises(BitsError) as caught:
        client.job_infos()
    assert caught.value.hresult == 0x80070005


# -- waiting ------------------------------------------------------------------------------------------------------


def in_background(target: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run it on a thread; the result ends up in the list."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(target()))
    thread.start()
    return thread, results


@pytest.mark.parametrize("state", ["transferred", "acknowledged", "error", "cancelled"])
def test_wait_ends_with_the_event_that_decides(
    state: str, client: Client, service: FakeService, eventually: Callable[..., object]
) -> None:
    job = client.create_job("x")
    thread, results = in_background(job.wait)
    eventually(lambda: "Subscribe" in service.methods())
    service.change(job.id, state="connecting")
    service.change(job.id, "progress", state="transferring", bytes_transferred=5)
    service.change(job.id, state=state)
    thread.join(10)
    assert results == [Outcome(state)]


def test_wait_returns_at_once_if_it_is_over_already(client: Client, service: FakeService) -> None:
    job = client.create_job("x")
    service.jobs[str(job.id)]["state"] = "error"
    assert job.wait(timeout=0) is Outcome.ERROR


def test_wait_times_out(client: Client) -> None:
    assert client.create_job("x").wait(timeout=0.05) is Outcome.TIMEOUT


def test_a_job_that_completes_by_itself_is_not_over_when_it_is_transferred(
    client: Client, service: FakeService, eventually: Callable[..., object]
) -> None:
    job = client.create_job("x", auto_complete=True)
    thread, results = in_background(job.wait)
    eventually(lambda: "Subscribe" in service.methods())
    service.change(job.id, state="transferred")
    service.change(job.id, state="acknowledged")
    thread.join(10)
    assert results == [Outcome.ACKNOWLEDGED]


def test_unless_publishing_failed_because_then_nothing_moves_any_more(client: Client, service: FakeService) -> None:
    job = client.create_job("x", auto_complete=True)
    error = {"hresult": 0x80070005, "symbol": "E_ACCESSDENIED", "context": "local_file", "message": "denied"}
    service.jobs[str(job.id)].update(state="transferred", complete_error=error)
    assert job.wait(timeout=5) is Outcome.TRANSFERRED


def test_after_an_overflow_the_state_is_read_anew(
    client: Client, service: FakeService, eventually: Callable[..., object]
) -> None:
    job = client.create_job("x")
    thread, results = in_background(job.wait)
    eventually(lambda: "Subscribe" in service.methods())
    service.jobs[str(job.id)]["state"] = "transferred"
    service.emit({"kind": "overflow", "job_id": ""})
    thread.join(10)
    assert results == [Outcome.TRANSFERRED]


def test_follow_yields_now_and_after_each_event(
    client: Client, service: FakeService, eventually: Callable[..., object]
) -> None:
    job = client.create_job("x")
    thread, results = in_background(lambda: [info["bytes_transferred"] for info in job.follow()])
    eventually(lambda: service.methods()[-1] == "GetJob" and "Subscribe" in service.methods())
    for count in (10, 20):
        service.change(job.id, "progress", state="transferring", bytes_transferred=count)
    service.change(job.id, state="transferred", bytes_transferred=30)
    thread.join(10)
    assert results == [[0, 10, 20, 30]]


def test_waiting_for_somebody_elses_job_asks_for_the_events_of_all_users(client: Client, service: FakeService) -> None:
    job_id = service.add_job("theirs", owner_uid=os.geteuid() + 1)
    client.job(job_id).wait(timeout=0.01)
    subscribe = next(call for call in service.calls if call.method == "Subscribe")
    assert subscribe.parameters == {"all_users": True, "job_ids": [job_id]}


def test_a_call_after_the_service_ended_fails_once_and_the_same_objects_work_on_after_reconnect(
    client: Client, service: FakeService
) -> None:
    job = client.create_job("x")
    service.disconnect()
    with pytest.raises(BitsError) as caught:
        job.info()
    assert caught.value.hresult == 0x800706BA
    assert client.is_closed
    client.reconnect()
    assert job.info()["properties"]["display_name"] == "x"
    client.reconnect()  # nothing to do
    assert [call.method for call in service.calls] == ["Hello", "CreateJob", "Hello", "OpenJob", "GetJob", "Hello"]


def test_what_the_caller_sees_at_remote_folders_of_this_machine_is_told_too(tmp_path: Path) -> None:
    """T-16: a path may lead elsewhere for the service (PrivateTmp, a container)."""
    remote, local = tmp_path / "remote", tmp_path / "local"
    remote.mkdir()
    local.mkdir()
    pairs = [((remote / "a b").as_uri(), local / "x"), (str(remote / ".." / "local" / "y"), local / "z")]
    seen = calls.additions([*pairs, ("file://elsewhere/x", "/missing/x"), ("https://h/x", local / "w")])["directories"]
    assert seen == {
        str(folder): {"dev": folder.stat().st_dev, "ino": folder.stat().st_ino} for folder in (remote, local)
    }
