"""The exit codes of all commands, as one table, and what a failure says: never a number alone, never half of it."""

import re
from collections.abc import Callable

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values
from tests.cli.conftest import Result

from openbits.cli import exits
from openbits.cli.main import COMMANDS
from openbits.core import codes
from openbits.core.codes_table import ROWS, CodeClass

Bits = Callable[..., Result]

CALLS = [
    (("get", "http://h/a", "/srv/a"), "CreateJob"),
    (("get", "http://h/a", "/srv/a"), "AddFiles"),
    (("get", "http://h/a", "/srv/a"), "Resume"),
    (("put", __file__, "http://h/a"), "CreateJob"),
    (("put", __file__, "http://h/a"), "AddFiles"),
    (("put", __file__, "http://h/a"), "Resume"),
    (("create", "y"), "CreateJob"),
    (("create", "y", "--priority", "low"), "SetProperties"),
    (("add", "x", "http://h/a", "/srv/a"), "AddFiles"),
    (("set", "x", "priority=low"), "SetProperties"),
    (("list",), "ListJobs"),
    (("show", "x"), "ListFiles"),
    (("wait", "x"), "GetJob"),
    (("watch", "x"), "GetJob"),
    (("resume", "x"), "Resume"),
    (("suspend", "x"), "Suspend"),
    (("complete", "x"), "Complete"),
    (("cancel", "x"), "Cancel"),
    (("take", "x"), "TakeOwnership"),
    (("explain", "x"), "GetJob"),
    (("policy", "show"), "GetPolicies"),
    (("proxy", "explain", "http://h/a", "--job", "x"), "ExplainProxy"),
    (("token", "clear", "x"), "ClearHelperToken"),
    (("credentials", "remove", "x"), "RemoveCredentials"),
    (("headers", "show", "x"), "GetCustomHeaders"),
    (("command", "remove", "x"), "SetNotifyCmdLine"),
    (("certificate", "show", "x"), "GetClientCertificate"),
    (("token", "show", "x"), "GetJob"),
]
"""Commands, and the method in which each of them may fail."""

REFUSALS = {
    codes.E_FAIL: 1,
    codes.BG_E_NOT_FOUND: 1,
    codes.BG_E_EMPTY: 1,
    codes.BG_E_INVALID_STATE: 1,
    codes.ERROR_DISK_FULL: 1,
    codes.E_INVALIDARG: 2,
    codes.E_NOTIMPL: 2,
    codes.BG_E_STRING_TOO_LONG: 2,
    codes.BG_E_INVALID_RANGE: 2,
    codes.BG_E_OVERLAPPING_RANGES: 2,
    codes.BG_E_MAX_DOWNLOAD_SIZE_INVALID_VALUE: 2,
    codes.E_ACCESSDENIED: 5,
    codes.CO_E_FAILEDTOIMPERSONATE: 5,
    codes.RPC_S_SERVER_UNAVAILABLE: 6,
}


def refuse_with(service: FakeService, method: str, hresult: int, message: str = "") -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(hresult, message)

    service.overrides[method] = refuse


@pytest.mark.parametrize(("arguments", "method"), CALLS, ids=lambda value: " ".join(value) if value else None)
def test_a_refused_call_is_the_exit_code_of_its_reason(
    arguments: tuple[str, ...], method: str, bits: Bits, service: FakeService
) -> None:
    service.add_job("x", files_total=1)
    for hresult, code in REFUSALS.items():
        refuse_with(service, method, hresult, "alice may not; administrators may")
        result = bits(*arguments)
        assert (result.code, result.out) == (code, ""), codes.label(hresult)
        assert result.err.count("bits: ") == 1
        assert "alice may not; administrators may" in result.err
        assert f"[{codes.label(hresult)}]" in result.err


def test_no_command_is_left_out() -> None:
    """`events` follows a stream, `doctor` reports instead of failing: their own tests have their codes."""
    assert {arguments[0] for arguments, _ in CALLS} == set(COMMANDS) - {"events", "doctor"}


@pytest.mark.parametrize("hresult", [value for value, row in ROWS.items() if row.code_class is not CodeClass.SUCCESS])
def test_no_message_without_object_symbol_number_and_next_step(hresult: int, bits: Bits, service: FakeService) -> None:
    """Also when the service gives a code alone: the table has the words."""
    job_id = service.add_job("x")
    for message in ("", "cannot use /srv/in as beth"):
        refuse_with(service, "Suspend", hresult, message)
        shown = bits("suspend", job_id).err
        assert shown.startswith("bits: cannot ")
        assert job_id in shown or "/srv/in" in shown
        assert f"[{codes.label(hresult)}]" in shown
        step = codes.lookup(hresult).next_step
        assert not step or step in shown
        assert step or ROWS[hresult].code_class is CodeClass.CONTEXT


@pytest.mark.parametrize(
    ("state", "auto_complete", "wait", "watch"),
    [
        ("transferred", False, 0, 0),
        ("transferred", True, 1, 1),
        ("error", False, 1, 1),
        ("suspended", False, 4, None),
        ("queued", False, 4, None),
    ],
)
def test_waiting_ends_with_the_code_of_the_state(
    state: str,
    auto_complete: bool,  # noqa: FBT001
    wait: int,
    watch: int | None,
    bits: Bits,
    service: FakeService,
) -> None:
    error = {"hresult": 1, "symbol": "X", "context": "local_file", "message": "denied", "at": 0.0}
    job_id = service.add_job("x", state=state, complete_error=error if auto_complete else None)
    service.jobs[job_id]["properties"]["auto_complete"] = auto_complete
    assert bits("wait", "--timeout", "0.05", "x").code == wait
    if watch is not None:
        assert bits("watch", "x").code == watch


def test_an_ambiguous_name_is_usage_for_every_command_that_takes_a_job(bits: Bits, service: FakeService) -> None:
    ids = [service.add_job("x") for _ in range(2)]
    for arguments in {arguments for arguments, _ in CALLS if "x" in arguments} | {("events", "x")}:
        result = bits(*arguments)
        assert (result.code, result.out) == (exits.USAGE, "")
        assert all(job_id in result.err for job_id in ids)


# A second error never hides the first


ERROR = {
    "hresult": 0x80190194, "symbol": "BG_E_HTTP_ERROR_404", "context": "remote_file", "at": 1000.0,
    "message": "BG_E_HTTP_ERROR_404 (0x80190194): the server has no such file; http://h/a; check the url",
}  # fmt: skip


def test_complete_of_a_failed_job_says_what_was_kept_and_repeats_why_it_failed(
    bits: Bits, service: FakeService
) -> None:
    service.add_job("x", state="error", error=ERROR, files_total=5, files_transferred=3)
    service.overrides["Complete"] = lambda _: {"hresult": codes.BG_S_PARTIAL_COMPLETE}
    result = bits("complete", "x")
    assert result.code == 3
    assert "3 of 5 files were published" in result.err
    assert re.search(r"had failed at 19[67]\d-.*: BG_E_HTTP_ERROR_404 \(0x80190194\).*check the url", result.err)


def test_files_that_are_not_published_are_told_whatever_else_there_is_to_tell(bits: Bits, service: FakeService) -> None:
    service.add_job("x", state="error", error=ERROR, files_total=1, files_transferred=0)
    service.overrides["Complete"] = lambda _: {"hresult": codes.BG_S_UNABLE_TO_DELETE_FILES}
    result = bits("complete", "x")
    assert result.code == 3
    assert "BG_S_UNABLE_TO_DELETE_FILES" in result.err
    assert "0 of 1 files were published" in result.err


@pytest.mark.parametrize("verb", ["Complete", "Resume", "Cancel", "Suspend"])
def test_a_refused_verb_repeats_why_the_job_failed(verb: str, bits: Bits, service: FakeService) -> None:
    service.add_job("x", state="error", error=ERROR)
    refuse_with(service, verb, codes.BG_E_INVALID_STATE)
    first, second = bits(verb.lower(), "x").err.splitlines()
    assert "BG_E_INVALID_STATE" in first
    assert "BG_E_HTTP_ERROR_404 (0x80190194)" in second
