"""The audit log: journald's protocol where something takes it, else JSON lines; nobody forges or floods it."""

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openbits.core.model import Identity
from openbits.service import audit

ALICE = Identity(uid=1000, gid=1000, name="alice")
JOB = uuid.UUID(int=7)
HOSTILE = "x\nOPENBITS_CALLER_UID=0\r\x1b[2J\u202e\ud800" + "y" * 1000


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody was heard of, and there is no journal."""
    monkeypatch.setattr(audit, "_allowances", {})
    monkeypatch.setattr(audit, "JOURNAL", str(tmp_path / "journal"))


@pytest.fixture
def journal() -> Iterator[Callable[[], dict[str, str]]]:
    """`journal()`: the fields of the next entry that a journal receives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(audit.JOURNAL)
        sock.setblocking(False)
        yield lambda: dict(line.split("=", 1) for line in sock.recv(65536).decode().removesuffix("\n").split("\n"))


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """`lines()`: the entries on stderr since the last call."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_entry_has_fields_of_its_own_in_the_journal(
    journal: Callable[[], dict[str, str]], lines: Callable[[], list[dict[str, Any]]]
) -> None:
    audit.log("token-set", ALICE, job=JOB, helper_uid=1001, helper_name="beth", session=None)
    assert journal() == {
        "MESSAGE": f"alice (uid 1000) gave a job a helper token: job={JOB} helper_uid=1001 helper_name=beth",
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "openbits",
        "OPENBITS_ACT": "token-set",
        "OPENBITS_CALLER_UID": "1000",
        "OPENBITS_CALLER_NAME": "alice",
        "OPENBITS_JOB": str(JOB),
        "OPENBITS_HELPER_UID": "1001",
        "OPENBITS_HELPER_NAME": "beth",
    }
    assert lines() == []


def test_without_a_journal_an_entry_is_one_line_of_json(lines: Callable[[], list[dict[str, Any]]]) -> None:
    audit.log("create", ALICE, job=JOB, display_name="nightly")
    (entry,) = lines()
    assert entry.pop("at").endswith("+00:00")
    assert entry == {
        "act": "create",
        "caller_uid": 1000,
        "caller_name": "alice",
        "job": str(JOB),
        "display_name": "nightly",
    }


def test_a_journal_that_takes_nothing_more_loses_no_entry(
    journal: Callable[[], dict[str, str]], lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """Its socket buffer is full: the manager does not wait for it."""
    for number in range(2000):
        audit.log("create", ALICE, job=number)
    assert journal()["OPENBITS_JOB"] == "0"
    said = lines()
    assert 0 < len(said) < 2000
    assert said[-1]["job"] == 1999


def test_names_forge_no_field_and_no_line_and_command_no_terminal(
    journal: Callable[[], dict[str, str]],
) -> None:
    audit.log("create", Identity(uid=1000, gid=1000, name="a\nPRIORITY=0"), job=JOB, display_name=HOSTILE)
    entry = journal()
    assert (entry["OPENBITS_CALLER_UID"], entry["PRIORITY"]) == ("1000", "5")
    assert entry["OPENBITS_DISPLAY_NAME"].startswith(r"x\nOPENBITS_CALLER_UID=0\r\x1b[2J\u202e\ud800yyy")
    assert len(entry["OPENBITS_DISPLAY_NAME"]) < 300
    assert all(value.isprintable() for value in entry.values())


def test_names_forge_no_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    audit.log("create", ALICE, job=JOB, display_name=HOSTILE)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.isascii()
    assert json.loads(said)["caller_uid"] == 1000


def test_refused_calls_of_one_caller_do_not_fill_the_log_nor_silence_others(
    lines: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "clock_gettime", lambda _: clock[0])
    for _ in range(5000):
        audit.log("refused", ALICE, call="OpenJob")
    assert len(lines()) == audit.ACTS["refused"].burst == 20
    audit.log("refused", Identity(uid=1001, gid=1001), call="OpenJob")
    audit.log("create", ALICE, job=JOB)
    assert [(entry["caller_uid"], entry["act"]) for entry in lines()] == [(1001, "refused"), (1000, "create")]
    clock[0] += 10
    audit.log("refused", ALICE, call="OpenJob")
    assert lines()[0]["left_out"] == 4980


def test_what_costs_its_caller_something_is_always_written(lines: Callable[[], list[dict[str, Any]]]) -> None:
    for act, kind in audit.ACTS.items():
        if kind.burst is None:
            for _ in range(300):
                audit.log(act, ALICE, job=JOB)
            assert len(lines()) == 300


def test_callers_who_are_long_quiet_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "clock_gettime", lambda _: clock[0])
    for uid in range(audit.MAX_ALLOWANCES + 10):
        audit.log("refused", Identity(uid=uid, gid=uid), call="OpenJob")
        clock[0] += 1
    assert len(audit._allowances) < audit.MAX_ALLOWANCES
    lines()
