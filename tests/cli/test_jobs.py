"""`bits list`, `show`, the verbs and `wait`: selection of jobs, output, exit codes."""

import json
import os
from collections.abc import Callable

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values
from tests.cli.conftest import Result

Bits = Callable[..., Result]

WAITING = {
    "reason": "network wlan0 is metered",
    "since": 1000.0,
    "next": "it starts when the network changes",
    "next_at": None,
    "hint": "allow it with a cost policy",
}


def test_list_shows_a_row_a_job_and_why_it_waits(bits: Bits, service: FakeService) -> None:
    service.add_job("moving", state="transferring", bytes_total=200, bytes_transferred=50)
    service.add_job("stuck", state="queued", waiting=WAITING, created_at=2000.0)
    result = bits("list")
    assert result.code == 0
    head, moving, stuck, reason, following, hint = result.out.splitlines()
    assert head.split() == ["ID", "STATE", "PRIORITY", "PROGRESS", "NAME"]
    assert moving.split()[1:] == ["transferring", "normal", "25%", "50", "B/200", "B", "moving"]
    assert stuck.split()[1] == "queued"
    assert reason.startswith("    waiting: network wlan0 is metered, since ")
    assert following == "    next: it starts when the network changes"
    assert hint == "    hint: allow it with a cost policy"


def test_an_empty_queue_prints_nothing(bits: Bits) -> None:
    assert bits("list") == Result(0, "", "")


def test_list_as_json_is_what_the_service_said(bits: Bits, service: FakeService) -> None:
    job_id = service.add_job("x")
    assert json.loads(bits("list", "--json").out) == [service.jobs[job_id]]


def test_names_cannot_steer_the_terminal(bits: Bits, service: FakeService) -> None:
    service.add_job("evil\x1b[2J\nname\u202e")
    shown = bits("list").out
    assert "evil?[2J?name?" in shown


def test_an_error_shows_symbol_and_number(bits: Bits, service: FakeService) -> None:
    error = {"hresult": 0x80070005, "symbol": "E_ACCESSDENIED", "message": "helper beth may not write /srv"}
    service.add_job("x", state="error", error=error)
    assert "error: E_ACCESSDENIED (0x80070005): helper beth may not write /srv" in bits("list").out


def test_a_reason_that_repeats_the_error_is_shown_once(bits: Bits, service: FakeService) -> None:
    error = {"hresult": 0x80070005, "symbol": "E_ACCESSDENIED", "message": "no right"}
    service.add_job("x", state="error", error=error, waiting={**WAITING, "reason": "failed: no right"})
    assert bits("list").out.count("no right") == 1


def test_show_tells_everything(bits: Bits, service: FakeService) -> None:
    job_id = service.add_job("nightly", state="transferring", phase="TLS handshake", helper_token_flags=1)
    service.jobs[job_id]["entrusted"] = ["headers", "server/basic"]
    service.files[job_id] = [
        {
            "remote_name": "https://h/a",
            "local_name": "/srv/a",
            "bytes_total": 10,
            "bytes_transferred": 4,
            "is_transferred": False,
            "is_published": False,
            "is_valid": False,
            "ranges": [],
            "temporary_name": None,
            "note": "resume not possible with this server",
        },
    ]
    parts = [{"offset": 100, "length": 100}, {"offset": 900, "length": None}]
    service.files[job_id].append({**service.files[job_id][0], "ranges": parts, "note": ""})
    service.files[job_id].append({**service.files[job_id][0], "ranges": parts * 6, "note": ""})
    shown = bits("show", job_id).out
    for text in (
        job_id,
        "nightly",
        "TLS handshake",
        f"S-1-22-1-{os.geteuid()}",
        "no token, for local-file",
        "headers, server/basic",
        "https://h/a",
        "-> /srv/a, not transferred, 4 B/10 B, resume not possible with this server",
        "-> /srv/a, not transferred, 4 B/10 B, made of bytes 100-199, 900-\n",
        "900- and 2 more ranges\n",
        "soon at first, then every 600 s; gives up after 14 d 0 h without progress",
        "expires      20",
        "time         0 s of at most 90 d 0 h connecting and transferring\n",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("verb", "state"),
    [("suspend", "suspended"), ("resume", "queued"), ("cancel", "cancelled"), ("complete", "acknowledged")],
)
def test_the_verbs_act_on_every_job_named(verb: str, state: str, bits: Bits, service: FakeService) -> None:
    ids = [service.add_job(name, files_total=1) for name in "ab"]
    assert bits(verb, *ids) == Result(0, "", "")
    assert [service.jobs[job_id]["state"] for job_id in ids] == [state, state]


def test_a_job_is_found_by_id_beginning_and_name(bits: Bits, service: FakeService) -> None:
    job_id = service.add_job("nightly")
    for reference in (job_id, f"{{{job_id}}}", job_id.upper(), job_id[:4], job_id[:13], "nightly"):
        assert job_id in bits("show", reference).out


def test_three_characters_are_no_beginning(bits: Bits, service: FakeService) -> None:
    job_id = service.add_job("nightly")
    result = bits("show", job_id[:3])
    assert result.code == 1
    assert "BG_E_NOT_FOUND (0x80200001)" in result.err


def test_an_ambiguous_name_is_refused_with_the_ids(bits: Bits, service: FakeService) -> None:
    ids = [service.add_job("nightly") for _ in range(2)]
    result = bits("cancel", "nightly")
    assert result.code == 2
    assert all(job_id in result.err for job_id in ids)
    assert [service.jobs[job_id]["state"] for job_id in ids] == ["suspended", "suspended"]


def test_one_failure_does_not_stop_the_others_and_decides_the_exit_code(bits: Bits, service: FakeService) -> None:
    job_id = service.add_job("b")
    result = bits("cancel", "nobody", "b")
    assert result.code == 1
    assert result.err.startswith("bits: cannot cancel nobody: ")
    assert service.jobs[job_id]["state"] == "cancelled"


def test_a_partial_complete_is_exit_code_3(bits: Bits, service: FakeService) -> None:
    service.overrides["Complete"] = lambda _: {"hresult": 0x00200017}
    service.add_job("x")
    result = bits("complete", "x")
    assert result.code == 3
    assert "BG_S_PARTIAL_COMPLETE (0x00200017)" in result.err


def test_files_that_stay_are_mentioned_and_no_failure(bits: Bits, service: FakeService) -> None:
    service.overrides["Cancel"] = lambda _: {"hresult": 0x0020001A}
    service.add_job("x")
    result = bits("cancel", "x")
    assert result.code == 0
    assert "BG_S_UNABLE_TO_DELETE_FILES" in result.err


@pytest.mark.parametrize(("state", "code"), [("transferred", 0), ("error", 1)])
def test_wait_ends_with_the_state_and_says_how_to_go_on(
    state: str, code: int, bits: Bits, service: FakeService
) -> None:
    job_id = service.add_job("x", state=state)
    result = bits("wait", "x")
    assert result.code == code
    assert f"{'complete' if code == 0 else 'resume'} {job_id}" in result.err


def test_wait_gives_up_with_exit_code_4_and_the_reason(bits: Bits, service: FakeService) -> None:
    service.add_job("x", state="queued", waiting=WAITING)
    result = bits("wait", "--timeout", "0.05", "x")
    assert result.code == 4
    assert "network wlan0 is metered" in result.err


def test_a_service_that_goes_away_is_told_once(bits: Bits, service: FakeService) -> None:
    def leave(_: Values) -> Values:
        service.disconnect()
        return {}

    service.overrides["Suspend"] = leave
    for name in "ab":
        service.add_job(name)
    result = bits("suspend", "a", "b")
    assert result.code == 6
    assert result.err.count("bits: ") == 1


def test_jobs_of_others_are_found_by_administrators(bits: Bits, service: FakeService) -> None:
    theirs = service.add_job("theirs", owner_uid=12345)
    info = service.jobs[theirs]
    service.overrides["ListJobs"] = lambda parameters: {"jobs": [info] if parameters["all_users"] else []}
    assert theirs in bits("show", "theirs").out

    def refuse(parameters: Values) -> Values:
        if parameters["all_users"]:
            raise FailedError(0x80070005)
        return {"jobs": []}

    service.overrides["ListJobs"] = refuse
    assert bits("show", "theirs").code == 1
