"""`bits get`: where files go, and how the command ends."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values
from tests.cli.conftest import MOVING, Eventually, Result

from openbits.cli import get, targets
from openbits.core.errors import BitsError

Bits = Callable[..., Result]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a.iso", "a.iso"),
        ("http://h/dir/a%20b.txt?x=/etc/passwd#f", "a b.txt"),
        ("http://h/", "download"),
        ("http://h", "download"),
        ("http://h/dir/", "dir"),
        ("http://h/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("http://h/%2e%2e", "download"),
        ("http://h/a%5Cb", "b"),
        ("http://h/a%00b%0Ac%1b", "a?b?c?"),
        ("http://h/$HOME", "_HOME"),
        ("http://h/~root", "_root"),
        ("http://h/%25TEMP%25", "_TEMP%"),
        ("http://h/" + "x" * 300, "x" * 255),
        ("file:///srv/a%20b", "a b"),
        ("/srv/a%20b?c", "a%20b?c"),
        ("http://h/" + "%C3%A4" * 200, "ä" * 127),
    ],
)
def test_the_name_is_one_safe_component(url: str, name: str) -> None:
    assert targets.safe_name(url) == name


def test_a_folder_gets_the_files_and_another_path_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert targets.destinations(["http://h/a"], ".") == [("http://h/a", f"{tmp_path}/a")]
    assert targets.destinations(["http://h/a"], "b") == [("http://h/a", f"{tmp_path}/b")]
    assert targets.destinations(["http://h/a"], "new/") == [("http://h/a", f"{tmp_path}/new/a")]
    assert targets.destinations(["http://h/a", "http://h/b"], str(tmp_path)) == [
        ("http://h/a", f"{tmp_path}/a"),
        ("http://h/b", f"{tmp_path}/b"),
    ]


def test_a_link_in_the_path_is_not_followed_here(tmp_path: Path) -> None:
    """Whose rights decide about it is the business of the broker."""
    (tmp_path / "link").symlink_to("/root")
    assert targets.destinations(["http://h/a"], f"{tmp_path}/link/a") == [("http://h/a", f"{tmp_path}/link/a")]


def test_a_file_of_this_machine_is_a_remote_name_too() -> None:
    assert get.split_operands(["file:///srv/a", "x"]) == (["file:///srv/a"], "x")
    assert get.split_operands(["/srv/a", "file:///srv/b"]) == (["/srv/a", "file:///srv/b"], ".")
    assert get.split_operands(["/srv/a", "/srv/b", "/mnt"]) == (["/srv/a", "/srv/b"], "/mnt")


@pytest.mark.parametrize(
    "operands", [["a.iso"], ["/srv/a"], ["a", "http://h/a"], ["http://h/a", "b", "c"], ["http://h/a", "http://g/a"]]
)
def test_what_cannot_be_meant_is_refused(operands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BitsError) as caught:
        targets.destinations(*get.split_operands(operands))
    assert caught.value.hresult == 0x80070057


def test_several_files_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BitsError, match="no existing folder"):
        targets.destinations(["http://h/a", "http://h/b"], f"{tmp_path}/file")


def test_a_download_is_created_added_resumed_watched_and_reported(
    bits: Bits, service: FakeService, play: Callable[..., None], tmp_path: Path
) -> None:
    play(MOVING, {"state": "acknowledged", "bytes_transferred": 100})
    result = bits("get", "http://h/a", f"{tmp_path}/b")
    assert result.code == 0
    assert service.methods()[:4] == ["CreateJob", "SetProperties", "AddFiles", "Resume"]
    (job,) = service.jobs.values()
    assert job["properties"]["display_name"] == "b"
    assert job["properties"]["priority"] == "foreground"
    assert job["properties"]["auto_complete"] is True
    assert result.out.startswith(f"{tmp_path}/b: 100 B in ")
    assert "b: 50% 50 B/100 B" in result.err  # not a terminal: a line for each change of state


def test_a_failed_download_says_why_and_how_to_go_on(
    bits: Bits, service: FakeService, play: Callable[..., None]
) -> None:
    error = {"hresult": 0x80190194, "symbol": "BG_E_HTTP_ERROR_404", "context": "remote_file", "message": "not there"}
    play({"state": "error", "error": error})
    result = bits("get", "http://h/a", "/srv/a")
    (job_id,) = service.jobs
    assert result.code == 1
    assert "bits: error: BG_E_HTTP_ERROR_404 (0x80190194): not there" in result.err
    assert f"bits resume {job_id}" in result.err


def test_a_file_that_cannot_be_published_is_a_failure(bits: Bits, play: Callable[..., None]) -> None:
    waiting = {"reason": "Complete failed: E_ACCESSDENIED", "since": 0.0, "next": "", "next_at": None, "hint": "x"}
    error = {"hresult": 0x80070005, "symbol": "E_ACCESSDENIED", "context": "local_file", "message": "denied"}
    play({"state": "transferred", "waiting": waiting, "complete_error": error})
    result = bits("get", "http://h/a", "/srv/a")
    assert result.code == 1
    assert "Complete failed: E_ACCESSDENIED" in result.err
    assert "bits complete" in result.err


@pytest.mark.parametrize("method", ["AddFiles", "Resume"])
def test_nothing_is_left_behind_if_the_job_cannot_begin(method: str, bits: Bits, service: FakeService) -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(0x80070005, "cannot use /srv/a as alice; choose another folder")

    service.overrides[method] = refuse
    result = bits("get", "http://h/a", "/srv/a")
    assert result.code == 5
    assert result.err == "bits: cannot use /srv/a as alice; choose another folder [E_ACCESSDENIED (0x80070005)]\n"
    assert [job["state"] for job in service.jobs.values()] == ["cancelled"]


def test_json_lines_end_with_the_result(bits: Bits, play: Callable[..., None]) -> None:
    play(MOVING, {"state": "acknowledged"})
    result = bits("get", "--json", "http://h/a", "/srv/a")
    lines: list[dict[str, Any]] = [json.loads(line) for line in result.out.splitlines()]
    assert [line["event"] for line in lines] == ["job", "job", "job", "result"]
    assert (lines[-1]["outcome"], lines[-1]["exit_code"]) == ("acknowledged", 0)
    assert lines[1]["job"]["bytes_transferred"] == 50
    assert result.err == ""


def test_a_service_that_ends_and_does_not_come_back_is_exit_code_6(
    bits: Bits, service: FakeService, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openbits.api.following.RECONNECT_SECONDS", 0.1)
    monkeypatch.setattr("openbits.api.locate._start", lambda _: "not in this test")

    def end() -> None:
        eventually(lambda: "Subscribe" in service.methods())
        service.close()

    ending = threading.Thread(target=end)
    ending.start()
    result = bits("get", "http://h/a", "/srv/a")
    ending.join(10)
    assert result.code == 6
    (job_id,) = service.jobs
    assert f"bits wait {job_id}" in result.err


def test_the_umask_of_the_shell_decides_about_the_file(
    bits: Bits, service: FakeService, play: Callable[..., None]
) -> None:
    play({"state": "acknowledged"})
    before = os.umask(0o077)
    try:
        bits("get", "http://h/a", "/srv/a")
    finally:
        os.umask(before)
    assert next(call for call in service.calls if call.method == "CreateJob").parameters["umask"] == 0o077
