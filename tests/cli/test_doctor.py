"""`bits doctor`: what it finds, what it never does, and how it ends."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values
from tests.cli.conftest import Result

from openbits.api import locate
from openbits.cli import checks
from openbits.version import VERSION

Bits = Callable[..., Result]

SUBJECTS = {
    "client", "you", "limits", "chosen", "directory", "socket", "service", "state", "landlock", "peer pidfd",
    "openat2", "pam", "ca file", "kerberos", "clock",
}  # fmt: skip


def findings(bits: Bits) -> tuple[int, dict[str, dict[str, Any]]]:
    result = bits("doctor", "--json")
    return result.code, {one["subject"]: one for one in json.loads(result.out)}


def answer_with_version(service: FakeService, version: str) -> None:
    service.overrides["Hello"] = lambda _: {
        "version": version, "mode": "machine", "uid": 0, "caller_uid": 0, "caller_name": "me", "process_ids": {},
    }  # fmt: skip


def test_a_service_that_answers_is_healthy(bits: Bits, service: FakeService) -> None:
    answer_with_version(service, VERSION)
    code, found = findings(bits)
    assert code == 0
    assert set(found) >= SUBJECTS | {"version", "jobs"}
    assert {one["level"] for name, one in found.items() if name in {"service", "version", "jobs", "socket"}} == {"ok"}
    assert str(service.path) in found["chosen"]["text"]
    assert "OPENBITS_SOCKET" in found["chosen"]["text"]
    assert f"uid {os.geteuid()}" in found["socket"]["text"]
    assert " mode 0" in found["socket"]["text"]
    assert {call.method for call in service.calls} == {"Hello", "ListJobs", "GetPolicies"}  # it only looks


def test_every_line_that_is_not_ok_has_a_next_step(bits: Bits, service: FakeService) -> None:
    service.add_job("x", state="error")
    for one in json.loads(bits("doctor", "--json").out):
        assert one["level"] in {"ok", "warn", "fail"}
        assert one["text"]
        assert one["level"] == "ok" or one["step"]
    words = [line.split()[0] for line in bits("doctor").out.splitlines()]
    assert set(words) <= {"ok", "warn", "fail"}


def test_another_version_and_jobs_that_need_somebody_are_warnings(bits: Bits, service: FakeService) -> None:
    answer_with_version(service, "9.9")
    job_id = service.add_job("stuck\x1b", state="error")
    service.add_job("fine", state="queued")
    code, found = findings(bits)
    assert code == 0
    assert found["version"]["level"] == "warn"
    assert "9.9" in found["version"]["text"]
    assert found["job"]["text"].startswith(f'{job_id[:8]} "stuck?" is error')
    assert found["job"]["step"] == f"bits explain {job_id}"


def test_nothing_runs_and_nothing_is_started(bits: Bits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBITS_SOCKET", str(tmp_path / "no.sock"))
    monkeypatch.setenv("OPENBITS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(locate, "_start", lambda _: pytest.fail("started a service"))
    code, found = findings(bits)
    assert code == 6
    assert found["service"]["level"] == "warn"
    assert found["service"]["step"].startswith("any command starts it")
    assert set(found) >= SUBJECTS
    assert str(tmp_path) in found["state"]["text"]
    assert not (tmp_path / "state").exists()


def test_the_machines_service_that_does_not_run_is_a_failure_for_a_user(
    bits: Bits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = locate.Place(str(tmp_path / "no.sock"), str(tmp_path), may_start=False, why="it exists")
    monkeypatch.setattr(locate, "locate", lambda: place)
    code, found = findings(bits)
    assert code == 6
    assert found["service"]["level"] == "fail"
    assert "administrator" in found["service"]["step"]


def test_a_service_that_refuses_or_leaves_is_told_with_its_code(bits: Bits, service: FakeService) -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(0x80070005, "not you")

    service.overrides["Hello"] = refuse
    code, found = findings(bits)
    assert code == 6
    assert "E_ACCESSDENIED (0x80070005)" in found["service"]["text"]


def test_a_bad_environment_is_a_failure_and_the_rest_is_still_examined(
    bits: Bits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBITS_SOCKET", "relative.sock")
    code, found = findings(bits)
    assert code == 6
    assert found["chosen"]["level"] == "fail"
    assert "openat2" in found


def test_a_directory_that_others_can_write_is_a_failure(tmp_path: Path) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    place = locate.Place(str(open_folder / "s"), "", may_start=True)
    levels = {one.subject: one.level for one in checks.sockets(place)}
    assert levels == {"chosen": "ok", "directory": "fail", "socket": "ok"}  # it is not there before the first start


def test_little_space_few_descriptors_no_certificates_and_an_old_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "SMALLEST_FREE_BYTES", 1 << 60)
    monkeypatch.setattr(checks, "FEWEST_DESCRIPTORS", 1 << 30)
    monkeypatch.setattr(checks, "SYSTEM_CA_FILES", (str(tmp_path / "none"),))
    assert [one.level for one in checks.state_directory(str(tmp_path / "a" / "b"))] == ["warn"]
    assert [one.level for one in checks.you()] == ["ok", "warn"]
    assert [one.level for one in checks.certificates()] == ["warn"]
    monkeypatch.setattr(checks, "KERBEROS_LIBRARY", "libnobody.so.2")
    (without,) = checks.kerberos()
    assert (without.level, "install libgssapi-krb5-2" in without.text) == ("ok", True)
    assert [one.level for one in checks.clock(0.0)] == ["fail"]
    assert [one.level for one in checks.clock(time.time() + 60)] == ["ok"]
