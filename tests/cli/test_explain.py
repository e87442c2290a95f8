"""`bits explain`: a code in every spelling, a job in every state."""

import json
import time
from collections.abc import Callable

import pytest
from tests.api.fakeservice import FakeService
from tests.cli.conftest import Result

from openbits.cli import explain
from openbits.core import access, codes
from openbits.core.codes_table import ROWS
from openbits.core.enums import TokenFlags

Bits = Callable[..., Result]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x80200013", 0x80200013),
        ("0X8020000f", 0x8020000F),
        ("2149580819", 0x80200013),
        ("-2145386477", 0x80200013),
        ("BG_E_INSUFFICIENT_RANGE_SUPPORT", 0x80200013),
        ("bg_e_not_found", 0x80200001),
        ("404", 0x80190194),
        ("429", 0x801901AD),
        ("ENOSPC", 0x80070070),
        ("EACCES", 0x80070005),
        ("12030", 0x80072EFE),
        ("0x12345678", 0x12345678),
    ],
)
def test_a_code_is_understood_in_every_spelling(text: str, value: int, bits: Bits) -> None:
    result = bits("explain", text)
    assert result.code == 0
    assert f"0x{value:08X}" in result.out
    assert codes.symbol(value) in result.out
    assert codes.lookup(value).sentence in result.out


@pytest.mark.parametrize("text", ["", "0x", "0x1ffffffff", "nightly", "12345678", "5", "99", "-1-1", "0xzz", "٤٠٤"])
def test_what_is_no_code_is_a_job(text: str) -> None:
    assert explain.code_of(text) is None


def test_explaining_a_code_asks_no_service(bits: Bits, service: FakeService) -> None:
    bits("explain", "404")
    assert service.calls == []


@pytest.mark.parametrize("value", ROWS, ids=lambda value: f"{value:08X}")
def test_every_code_has_symbol_number_class_meaning_and_next_step(value: int) -> None:
    lines = dict(line.split(maxsplit=1) for line in explain.code_lines(value))
    assert {"symbol", "number", "class", "meaning", "next"} <= set(lines)
    assert all(lines.values())
    assert explain.code_of(codes.symbol(value)) == value


def test_a_code_as_json_has_stable_keys(bits: Bits) -> None:
    assert json.loads(bits("explain", "--json", "0x80200013").out) == {
        "hresult": 2149580819,
        "hex": "0x80200013",
        "signed": -2145386477,
        "symbol": "BG_E_INSUFFICIENT_RANGE_SUPPORT",
        "class": "fatal",
        "context": "remote_file",
        "meaning": codes.lookup(0x80200013).sentence,
        "next_step": codes.lookup(0x80200013).next_step,
    }


ERROR = {
    "hresult": 0x80070005,
    "symbol": "E_ACCESSDENIED",
    "context": "local_file",
    "message": "E_ACCESSDENIED (0x80070005): denied",
    "detail": "mode 0750 root:ops",
    "identity": "beth (uid 1003)",
    "subject": "http://u:p@h/in?sig=secret",
    "file_index": 0,
    "protocol": None,
    "at": 1000.0,
}
WAITING = {"reason": "failed: denied", "since": 1000.0, "next": "nothing", "next_at": None, "hint": "let beth in"}


def test_notes_of_files_are_told_the_first_of_many(bits: Bits, service: FakeService) -> None:
    job_id = service.add_job("nightly", state="transferring")
    plain = {"remote_name": "http://h/a", "local_name": "/a", "note": ""}
    noted = {**plain, "note": "size unknown (the server sent no Content-Length)"}
    service.files[job_id] = [plain, noted]
    assert "note         file 1: size unknown (the server sent no Content-Length)\n" in bits("explain", job_id).out
    service.files[job_id] = [noted] * 7
    assert bits("explain", job_id).out.count("size unknown") == 5
    assert "and 2 more; see them with: bits show" in bits("explain", job_id).out


def test_a_failed_job_tells_all_of_its_error(bits: Bits, service: FakeService) -> None:
    service.add_job("nightly", state="error", error=ERROR, waiting=WAITING, error_count=3)
    shown = bits("explain", "nightly").out
    for text in (
        "state        error, since ",
        "why          failed: denied, since ",
        "next         nothing",
        "hint         let beth in",
        "last error   E_ACCESSDENIED (0x80070005)",
        "  context    while working on the local file",
        "  object     http://h/in?…",
        "  identity   beth (uid 1003)",
        "  told       mode 0750 root:ops",
        f"  next step  {codes.lookup(0x80070005).next_step}",
        "gives up after 14 d 0 h without progress",
        "errors       3 so far",
    ):
        assert text in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("state", "step"),
    [
        ("error", "check address, port and firewall, then resume the job"),
        ("transient_error", "check address, port and firewall; the job tries again by itself"),
    ],
)
def test_the_next_step_depends_on_who_tries_again(state: str, step: str, bits: Bits, service: FakeService) -> None:
    error = {**ERROR, "hresult": codes.ERROR_WINHTTP_CANNOT_CONNECT, "detail": "connecting to h:1: refused"}
    service.add_job("nightly", state=state, error=error, waiting=WAITING)
    assert f"  next step  {step}\n" in bits("explain", "nightly").out


def test_a_refusal_tells_its_own_next_step_once(bits: Bits, service: FakeService) -> None:
    error = {**ERROR, "hresult": codes.E_NOTIMPL, "detail": "no ranges here; add the whole file"}
    service.add_job("nightly", state="error", error=error, waiting=WAITING)
    shown = bits("explain", "nightly").out
    assert "  told       no ranges here\n  next step  add the whole file\n" in shown


def test_a_job_that_is_fine_says_so(bits: Bits, service: FakeService) -> None:
    service.add_job("nightly", state="transferring", phase="receiving from h:443")
    shown = bits("explain", "nightly").out
    assert "why          it is fine and moves: receiving from h:443" in shown
    assert "last error   none" in shown


def test_the_first_error_stays_beside_a_failed_complete(bits: Bits, service: FakeService) -> None:
    later = {**ERROR, "hresult": 0x80070070, "symbol": "ERROR_DISK_FULL"}
    service.add_job("nightly", state="transferred", error=ERROR, complete_error=later, waiting=WAITING)
    shown = bits("explain", "nightly").out
    assert "last error   E_ACCESSDENIED (0x80070005)" in shown
    assert "Complete     ERROR_DISK_FULL (0x80070070)" in shown


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_identities_are_those_of_the_table(flags: int, bits: Bits, service: FakeService) -> None:
    service.add_job("x", helper_token_flags=flags, helper_sid="S-1-22-1-7", helper_name="beth", owner_name="alice")
    told = json.loads(bits("explain", "x", "--json").out)["identities"]
    assert [row["who"] for row in told] == [
        access.identity_for(TokenFlags(flags), use).name.lower() for _, _, use in explain.IDENTITIES
    ]
    local, network = told[0], told[2]
    assert ("helper beth" in local["identity"]) is bool(flags & 1)
    assert ("owner alice" in network["identity"]) is not bool(flags & 2)


@pytest.mark.parametrize(
    ("job_type", "files"),
    [
        ("download", ["local files (create, reopen, publish, delete)"]),
        ("upload", ["local file (read it)"]),
        ("upload_reply", ["local file (read it)", "reply file (create, reopen, publish, delete)"]),
    ],
)
def test_whose_rights_count_for_which_file_depends_on_the_type(
    job_type: str, files: list[str], bits: Bits, service: FakeService
) -> None:
    service.add_job("x", type=job_type, helper_token_flags=1, helper_sid="S-1-22-1-7", helper_name="beth")
    told = json.loads(bits("explain", "x", "--json").out)["identities"]
    assert [row["use"] for row in told[: len(files) + 1]] == [*files, "directory check (when a file is added)"]
    assert all(row["identity"] == "helper beth" for row in told[: len(files)])


def test_a_flag_without_a_token_names_what_is_missing(bits: Bits, service: FakeService) -> None:
    service.add_job("x", helper_token_flags=1)
    shown = bits("explain", "x").out
    assert "helper token, which is missing" in shown
    assert "bits token set" in shown


def test_a_notice_that_somebody_has_yet_to_be_told_of_says_what_it_waits_for(service: FakeService, bits: Bits) -> None:
    now = time.time()
    notice = {
        "notice": "file-transferred",
        "file_index": 2,
        "to": "the callback of uid 1000",
        "since": now - 90,
        "next": "everything is tried again: the callback answered E_FAIL (0x80004005)",
        "next_at": now + 330,
        "hint": "mend what refuses it",
    }
    job_id = service.add_job("nightly", state="transferred", notice=notice)
    out = " ".join(bits("explain", job_id).out.split())
    assert "notice file-transferred of file 2 is to be told, to the callback of uid 1000, since 90 s" in out
    assert "next everything is tried again: the callback answered E_FAIL (0x80004005) (in 5 min" in out
    assert "hint mend what refuses it" in out
    service.jobs[job_id]["notice"] = None
    assert "notice" not in bits("explain", job_id).out
