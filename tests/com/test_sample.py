"""The helper-token sample over the fake service: its sixteen steps, its usage, its ways to fail."""

import io
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values

from openbits.samples import helper_token

Eventually = Callable[..., object]

ARGUMENTS = ["https://h/a", "/srv/a", ".", "beth"]


def play(service: FakeService, eventually: Eventually, state: str, **values: Any) -> threading.Thread:
    """Once the sample has resumed its job, the job goes to this state and the callback is due."""

    def run() -> None:
        eventually(lambda: "Resume" in service.methods())
        (job_id,) = service.jobs
        service.change(job_id, state=state, **values)
        service.notice(job_id, state)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_the_sixteen_steps(service: FakeService, eventually: Eventually, capsys: pytest.CaptureFixture[str]) -> None:
    playing = play(service, eventually, "transferred")
    assert helper_token.main([*ARGUMENTS, "secret"]) == 0
    playing.join(10)
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("    ")]
    assert [int(line.split()[0]) for line in printed] == list(range(1, 17))
    calls = [
        (call.method, call.token) for call in service.calls if call.method not in {"Hello", "ReleaseJob", "GetJob"}
    ]
    assert calls[:9] == [
        ("CreateJob", None),
        ("Subscribe", None),
        ("SetNotify", None),
        ("SetProperties", None),
        ("OpenJob", None),
        ("LogonUser", None),
        ("SetHelperToken", "beth"),
        ("SetHelperTokenFlags", None),
        ("AddFiles", None),
    ]
    (job,) = service.jobs.values()
    assert (job["state"], job["helper_token_flags"], job["properties"]["notify_flags"]) == ("acknowledged", 1, 3)
    assert service.calls[0].parameters == {"level": 3}


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_the_flags_may_be_chosen(flags: int, service: FakeService, eventually: Eventually) -> None:
    playing = play(service, eventually, "transferred")
    assert helper_token.main([*ARGUMENTS, "secret", "--flags", str(flags)]) == 0
    playing.join(10)
    assert next(iter(service.jobs.values()))["helper_token_flags"] == flags


def test_the_password_may_come_from_standard_input_or_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from input\nmore\n"))
    assert helper_token.read_password("-") == "from input"
    reading, writing = os.pipe()
    os.write(writing, b"from descriptor\n")
    os.close(writing)
    assert helper_token.read_password(f"fd:{reading}") == "from descriptor"
    assert helper_token.read_password("plain") == "plain"


@pytest.mark.parametrize("arguments", [[], ARGUMENTS, [*ARGUMENTS, "a", "b"], [*ARGUMENTS, "a", "--flags", "4"]])
def test_a_wrong_count_prints_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        helper_token.main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m openbits.samples.helper_token" in capsys.readouterr().err


def test_a_failed_logon_cancels_the_job(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    assert helper_token.main([*ARGUMENTS, "wrong"]) == 1
    assert "ERROR_LOGON_FAILURE (0x8007052E)" in capsys.readouterr().err
    assert [job["state"] for job in service.jobs.values()] == ["cancelled"]


def test_a_refused_token_reverts_before_it_cancels(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(0x80070005, "beth has privileged groups")

    service.overrides["SetHelperToken"] = refuse
    assert helper_token.main([*ARGUMENTS, "secret"]) == 1
    assert "E_ACCESSDENIED (0x80070005): beth has privileged groups" in capsys.readouterr().err
    assert [(call.method, call.token) for call in service.calls[-1:]] == [("Cancel", None)]


def test_a_job_error_is_printed_and_the_job_cancelled(
    service: FakeService, eventually: Eventually, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"hresult": 1, "symbol": "X", "context": "local_file", "message": "the disk is full; make room"}
    playing = play(service, eventually, "error", error=error)
    assert helper_token.main([*ARGUMENTS, "secret"]) == 1
    playing.join(10)
    assert "the disk is full" in capsys.readouterr().err
    assert [job["state"] for job in service.jobs.values()] == ["cancelled"]


def test_without_a_callback_the_job_is_cancelled_in_the_end(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_token, "FIFTEEN_MINUTES", 0.05)
    assert helper_token.main([*ARGUMENTS, "secret"]) == 1
    assert [job["state"] for job in service.jobs.values()] == ["cancelled"]


def test_a_complete_that_fails_is_printed_and_the_job_cancelled(
    service: FakeService, eventually: Eventually, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(0x80070005, "beth may not write /srv")

    service.overrides["Complete"] = refuse
    playing = play(service, eventually, "transferred")
    assert helper_token.main([*ARGUMENTS, "secret"]) == 1
    playing.join(10)
    assert "beth may not write /srv" in capsys.readouterr().err
