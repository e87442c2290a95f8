"""`bits put`: what is uploaded and as what, and how the command ends."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values
from tests.cli.conftest import MOVING, Result

from openbits.cli import put, targets
from openbits.core.enums import JobType
from openbits.core.properties import PROPERTIES

Bits = Callable[..., Result]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "a b.txt"
    path.write_bytes(b"x" * 100)
    return path


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h/in/", "http://h/in/a%20b.txt"),
        ("http://h/in/c.txt", "http://h/in/c.txt"),
        ("http://h/in", "http://h/in"),
        ("http://h/", "http://h/a%20b.txt"),
        ("http://h", "http://h/a%20b.txt"),
        ("http://h?tenant=1", "http://h/a%20b.txt?tenant=1"),
        ("http://h/in/?tenant=a/", "http://h/in/a%20b.txt?tenant=a/"),
        ("file:///srv/out/", "file:///srv/out/a%20b.txt"),
        ("/no/such/place/", "/no/such/place/a b.txt"),
        ("/no/such/place", "/no/such/place"),
    ],
)
def test_a_url_that_ends_like_a_folder_gets_the_name_of_the_file(url: str, target: str) -> None:
    assert targets.upload_target(url, "/home/alice/a b.txt") == target


def test_an_existing_folder_of_this_machine_gets_the_name_too(tmp_path: Path) -> None:
    assert targets.upload_target(str(tmp_path), "/x/a") == f"{tmp_path}/a"


@pytest.mark.parametrize(
    ("name", "escaped"),
    [("50%#?.txt", "50%25%23%3F.txt"), ("..", ".."), ("a:b@c", "a%3Ab%40c"), ("ä", "%C3%A4"), ("\udcff", "%FF")],
)
def test_whatever_a_file_is_called_its_name_is_one_segment_of_the_url(name: str, escaped: str) -> None:
    assert targets.upload_target("http://h/in/", f"/x/{name}") == f"http://h/in/{escaped}"


DONE = {"state": "acknowledged", "bytes_transferred": 100, "bytes_total": 100}


def _parameters(service: FakeService, method: str) -> Values:
    return next(call.parameters for call in service.calls if call.method == method)


def test_an_upload_is_created_added_resumed_watched_and_reported(
    bits: Bits, service: FakeService, play: Callable[..., None], report: Path
) -> None:
    play(MOVING, DONE)
    result = bits("put", str(report), "http://h/in/")
    assert result.code == 0
    assert service.methods()[:4] == ["CreateJob", "SetProperties", "AddFiles", "Resume"]
    (job,) = service.jobs.values()
    assert (job["type"], job["properties"]["display_name"]) == ("upload", "a b.txt")
    assert job["properties"]["priority"] == "foreground"
    assert job["properties"]["auto_complete"] is True
    (file,) = _parameters(service, "AddFiles")["files"]
    assert (file["remote_name"], file["local_name"]) == ("http://h/in/a%20b.txt", str(report))
    assert result.out.startswith(f"{report} -> http://h/in/a%20b.txt: 100 B in ")
    assert "a b.txt: 50% 50 B/100 B" in result.err


def test_a_relative_file_is_named_by_its_absolute_path(
    bits: Bits, service: FakeService, play: Callable[..., None], report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(report.parent)
    play(DONE)
    assert bits("put", "a b.txt", "http://h/in/").code == 0
    assert _parameters(service, "AddFiles")["files"][0]["local_name"] == str(report)


def test_the_reply_gets_its_name_before_the_file_and_is_told_at_the_end(
    bits: Bits, service: FakeService, play: Callable[..., None], report: Path
) -> None:
    answer = f"{report.parent}/answer.json"
    coming = {"local_name": answer, "bytes_total": 2048, "bytes_transferred": 1024}
    play(
        {**MOVING, "bytes_transferred": 100, "reply": coming}, {**DONE, "reply": {**coming, "bytes_transferred": 2048}}
    )
    result = bits("put", "--reply", answer, str(report), "http://h/in/")
    assert result.code == 0
    methods = service.methods()
    assert methods.index("SetReplyFileName") < methods.index("AddFiles")
    assert _parameters(service, "CreateJob")["type"] == "upload_reply"
    assert f"reply: {answer}, 2.0 KiB\n" in result.out
    assert "reply 1.0 KiB/2.0 KiB" in result.err


def test_a_server_without_an_answer_is_no_failure(bits: Bits, play: Callable[..., None], report: Path) -> None:
    """D19."""
    play({**DONE, "reply": {"local_name": "/srv/answer", "bytes_total": 0, "bytes_transferred": 0}})
    result = bits("put", "--reply", f"{report.parent}/answer", str(report), "http://h/in/")
    assert result.code == 0
    assert "reply: the server sent none\n" in result.out


def test_the_password_comes_before_there_is_a_job_and_never_from_the_command_line(
    bits: Bits,
    service: FakeService,
    play: Callable[..., None],
    report: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hunter2\n"))
    play(DONE)
    assert bits("put", "--user", "alice", "--scheme", "digest", str(report), "http://h/in/").code == 0
    told = _parameters(service, "SetCredentials")
    assert (told["target"], told["scheme"], told["user"], told["password"]) == ("server", "digest", "alice", "hunter2")
    assert service.methods().index("SetCredentials") < service.methods().index("Resume")


@pytest.mark.parametrize("arguments", [("--user", "alice"), ("--password-fd", "0")])
def test_without_a_password_or_without_a_user_nothing_is_created(
    arguments: tuple[str, ...], bits: Bits, service: FakeService, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert bits("put", *arguments, str(report), "http://h/in/").code == 2
    assert service.methods() == []


@pytest.mark.parametrize(
    ("file", "url", "code", "words"),
    [
        ("nothing.bin", "http://h/in/", 1, "No such file"),
        (".", "http://h/in/", 2, "is a folder"),
        ("/dev/null", "http://h/in/", 2, "no regular file"),
        ("a b.txt", "in/", 2, "is no URL"),
        ("a b.txt", "ftp.example", 2, "is no URL"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_leaves_nothing_behind(
    file: str,
    url: str,
    code: int,
    words: str,
    bits: Bits,
    service: FakeService,
    report: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(report.parent)
    result = bits("put", file, url)
    assert result.code == code
    assert words in result.err
    assert "; " in result.err  # the next step
    assert service.methods() == []


def test_a_reply_needs_the_name_of_a_file(bits: Bits, service: FakeService, report: Path) -> None:
    result = bits("put", "--reply", str(report.parent), str(report), "http://h/in/")
    assert result.code == 2
    assert "it is a folder; add a file name" in result.err
    assert service.methods() == []


@pytest.mark.parametrize("method", ["SetReplyFileName", "SetCredentials", "AddFiles", "Resume"])
def test_nothing_is_left_behind_if_the_job_cannot_begin(
    method: str, bits: Bits, service: FakeService, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(0x80070005, "cannot use it as alice; choose another one")

    monkeypatch.setattr("sys.stdin", io.StringIO("hunter2\n"))
    service.overrides[method] = refuse
    result = bits("put", "--user", "alice", "--reply", f"{report.parent}/r", str(report), "http://h/in/")
    assert result.code == 5
    assert [job["state"] for job in service.jobs.values()] == ["cancelled"]


def test_a_failed_upload_says_why_and_how_to_go_on(
    bits: Bits, service: FakeService, play: Callable[..., None], report: Path
) -> None:
    error = {
        "hresult": 0x801901F5,
        "symbol": "HTTP_STATUS_501",
        "context": "remote_file",
        "message": "no uploads there",
    }
    play({"state": "error", "error": error})
    result = bits("put", str(report), "http://h/in/")
    (job_id,) = service.jobs
    assert result.code == 1
    assert "no uploads there" in result.err
    assert f"bits resume {job_id}" in result.err


def test_a_detached_upload_prints_its_id_and_goes_on(bits: Bits, service: FakeService, report: Path) -> None:
    result = bits("put", "--detach", str(report), "http://h/in/")
    (job_id,) = service.jobs
    assert (result.code, result.out) == (0, f"{job_id}\n")
    assert service.jobs[job_id]["state"] == "queued"


def test_json_lines_end_with_the_result(bits: Bits, play: Callable[..., None], report: Path) -> None:
    play(MOVING, DONE)
    result = bits("put", "--json", str(report), "http://h/in/")
    lines: list[dict[str, Any]] = [json.loads(line) for line in result.out.splitlines()]
    assert [line["event"] for line in lines] == ["job", "job", "job", "result"]
    assert (lines[-1]["outcome"], lines[-1]["exit_code"]) == ("acknowledged", 0)


def test_ctrl_c_leaves_the_job_to_the_service(
    bits: Bits, service: FakeService, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("openbits.cli.foreground.watch", interrupt)
    result = bits("put", str(report), "http://h/in/")
    (job_id,) = service.jobs
    assert result.code == 130
    assert f"bits wait {job_id}" in result.err
    assert service.jobs[job_id]["state"] == "queued"


def test_options_of_downloads_alone_are_none_here(bits: Bits) -> None:
    known = bits("put", "--help").out
    assert "--priority" in known
    assert "--security-flags" in known
    for rule in PROPERTIES.values():
        if JobType.UPLOAD not in rule.job_types:
            assert f"--{rule.cli_name}" not in known
    assert {"high_performance", "on_demand_mode", "dynamic_content", "segments"} <= put.USELESS


def test_show_tells_an_upload_from_its_source_to_its_target(bits: Bits, service: FakeService) -> None:
    job_id = service.add_job("x", type="upload", files_total=1)
    file = {"remote_name": "http://h/a", "local_name": "/srv/a", "bytes_total": 9, "bytes_transferred": 9}
    service.files[job_id] = [
        {**file, "is_transferred": True, "is_published": True, "is_valid": False, "ranges": [], "note": ""}
    ]
    lines = bits("show", "x").out.splitlines()
    assert lines[-2:] == ["file 0       /srv/a", "             -> http://h/a, uploaded, 9 B/9 B"]


def test_the_umask_of_the_shell_decides_about_the_reply(
    bits: Bits, service: FakeService, play: Callable[..., None], report: Path
) -> None:
    play(DONE)
    before = os.umask(0o077)
    try:
        bits("put", "--reply", f"{report.parent}/r", str(report), "http://h/in/")
    finally:
        os.umask(before)
    assert _parameters(service, "CreateJob")["umask"] == 0o077
