"""The command `bits` as people use it: a story for each command, over the machine's service and over one's own."""

import json
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site

PATIENCE_SECONDS = 60.0
BODY = b"cli" * 100_000
COMMAND = [sys.executable, "-I", "-m", "openbits.cli.main"]


@dataclass(frozen=True)
class Me:
    """Who types."""

    name: str
    uid: int
    gid: int


@dataclass
class Shell:
    """The command line of one user."""

    me: Any
    service: Service
    folder: Path
    patience: list[threading.Timer] = field(default_factory=list)
    """Ends each command that takes too long, so that no test reads for ever."""

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        identity: dict[str, Any] = {}
        if self.me.uid != os.geteuid():
            identity = {"user": self.me.uid, "group": self.me.gid, "extra_groups": []}
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "OPENBITS_SOCKET": str(self.service.socket),
            "OPENBITS_STATE_DIR": str(self.service.state),
        }
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            env=environ,
            cwd=self.folder,
            **identity,
        )
        self.patience.append(threading.Timer(PATIENCE_SECONDS, process.kill))
        self.patience[-1].start()
        return process

    def be_patient_no_more(self) -> None:
        for timer in self.patience:
            timer.cancel()

    def bits(self, *arguments: str, typed: str = "", code: int = 0) -> tuple[str, str]:
        """Output and messages of a command that ends with this exit code."""
        process = self.start(*arguments)
        out, err = process.communicate(typed, timeout=60)
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return out, err


@pytest.fixture(params=[pytest.param("machine", marks=pytest.mark.root), "own"])
def shell(
    request: pytest.FixtureRequest, make_service: Callable[..., Service], private_folder: Callable[[Any], Path]
) -> Iterator[Shell]:
    """An ordinary user at the machine's service; one at a service of his own."""
    if os.geteuid() == 0:
        me = request.getfixturevalue("throwaway_user")()
    else:
        me = Me(pwd.getpwuid(os.geteuid()).pw_name, os.geteuid(), os.getegid())
    service = make_service(uid=0 if request.param == "machine" else me.uid)
    service.start()
    made = Shell(me, service, private_folder(me))
    yield made
    made.be_patient_no_more()


def test_a_job_step_by_step(shell: Shell, site: Site) -> None:
    """create, add, set, resume, wait, complete; the files are there, as those of the user."""
    urls = [site.put(f"/{name}", BODY) for name in "abc"]
    job_id = shell.bits("create", "nightly", "--priority", "low")[0].strip()
    shell.bits("add", "nightly", urls[0], "one", urls[1], ".")
    shell.bits("add", job_id[:8], "-", typed=f"{urls[2]} {shell.folder}/with space\n")
    shell.bits("set", "nightly", "priority=foreground", "description=three files")
    told = json.loads(shell.bits("show", "nightly", "--json")[0])
    assert (told["properties"]["priority"], told["properties"]["description"]) == ("foreground", "three files")
    assert "suspended" in shell.bits("wait", "--timeout", "0.1", "nightly", code=4)[1]
    shell.bits("resume", "nightly")
    assert f"bits complete {job_id}" in shell.bits("wait", "nightly")[1]
    assert "transferred, waiting for Complete" in shell.bits("list")[0]
    assert not (shell.folder / "one").exists()
    shell.bits("complete", "nightly")
    for name in ("one", "b", "with space"):
        assert (shell.folder / name).read_bytes() == BODY
        assert (shell.folder / name).stat().st_uid == shell.me.uid
    assert shell.bits("list") == ("", "")


def test_get_is_all_of_it_at_once_and_watch_shows_what_is_left_to_the_service(shell: Shell, site: Site) -> None:
    shell.bits("get", site.put("/a", BODY), "here")
    assert (shell.folder / "here").read_bytes() == BODY
    gate = site.gate("/b", 1000)
    job_id = shell.bits("get", "--detach", site.put("/b", BODY))[0].strip()
    watching = shell.start("watch", job_id)
    assert watching.stdout is not None
    while "receiving from 127.0.0.1" not in (line := watching.stdout.readline()):
        assert line
    told = shell.bits("explain", job_id)[0]
    assert "it is fine and moves: receiving from 127.0.0.1" in told
    gate.set()
    out, _ = watching.communicate(timeout=30)
    assert watching.returncode == 0
    assert "acknowledged" in out
    assert (shell.folder / "b").read_bytes() == BODY


def test_events_go_on_over_a_restart_without_gap_or_repetition(shell: Shell, site: Site) -> None:
    following = shell.start("events", "--from", "0", "--json")
    assert following.stdout is not None
    numbers = []

    def read_until(kind: str) -> None:
        assert following.stdout is not None
        while True:
            event = json.loads(following.stdout.readline())
            numbers.append(event["seq"])
            if event["kind"] == kind:
                return

    shell.bits("get", site.put("/a", BODY), "a")
    read_until("removed")
    shell.service.kill("manager")
    shell.service.wait_until_it_answers()
    shell.bits("get", site.put("/b", BODY), "b")
    read_until("removed")
    following.send_signal(signal.SIGINT)
    rest, err = following.communicate(timeout=30)
    assert following.returncode == 130
    assert rest == ""
    assert "Traceback" not in err
    assert numbers == list(range(1, len(numbers) + 1))
    again, _ = _until_silent(shell, numbers[-3])
    assert again == numbers[-2:]


def _until_silent(shell: Shell, from_seq: int) -> tuple[list[int], str]:
    """The numbers of the two stored events after this one."""
    process = shell.start("events", "--from", str(from_seq), "--json")
    assert process.stdout is not None
    found = [json.loads(process.stdout.readline())["seq"] for _ in range(2)]
    process.send_signal(signal.SIGINT)
    return found, process.communicate(timeout=30)[1]


def test_a_failed_job_is_explained_and_its_error_is_not_lost_with_complete(shell: Shell, site: Site) -> None:
    job_id = shell.bits("create", "broken")[0].strip()
    shell.bits("add", "broken", site.put("/a", BODY), "a", f"{site.url}/missing?sig=secret", "b")
    shell.bits("resume", "broken")
    _, err = shell.bits("wait", "broken", code=1)
    assert "BG_E_HTTP_ERROR_404 (0x80190194)" in err
    told = shell.bits("explain", "broken")[0]
    for text in ("BG_E_HTTP_ERROR_404 (0x80190194)", f"{site.url}/missing", "HTTP/1.1 404", f"(uid {shell.me.uid})"):
        assert text in told
    assert "secret" not in told
    assert f"owner {shell.me.name}" in told
    _, err = shell.bits("complete", "broken", code=3)
    assert f"job {job_id}: 1 of 2 files were published" in err
    assert "had failed at" in err
    assert "BG_E_HTTP_ERROR_404 (0x80190194)" in err
    assert [path.name for path in shell.folder.iterdir()] == ["a"]


def test_doctor_finds_a_healthy_service_and_starts_none(shell: Shell) -> None:
    out, _ = shell.bits("doctor")
    assert f"{shell.service.socket} belongs to" in out
    assert "the service has the version of this client" in out
    shell.service.stop()
    out, _ = shell.bits("doctor", code=6)
    assert "no service runs" in out
    assert shell.service.wait() == 0
    assert not shell.service.socket.exists()


def test_nobody_takes_a_job_without_being_administrator(shell: Shell) -> None:
    shell.bits("create", "mine")
    assert "E_ACCESSDENIED (0x80070005)" in shell.bits("list", "--all-users", code=5)[1]
    _, err = shell.bits("take", "mine", code=5)
    assert "E_ACCESSDENIED (0x80070005)" in err


@pytest.mark.root
def test_an_administrator_takes_a_job(
    service: Service,
    site: Site,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    tmp_path: Path,
) -> None:
    user = throwaway_user()
    folder = private_folder(user)
    theirs, ours = Shell(user, service, folder), Shell(Me("root", 0, 0), service, tmp_path)
    job_id = theirs.bits("create", "left behind")[0].strip()
    theirs.bits("add", "left behind", site.put("/a", BODY), "a")
    assert user.name in ours.bits("list", "--all-users")[0]
    ours.bits("take", "left behind")
    assert "owner root" in ours.bits("explain", job_id)[0]
    assert "neither its owner nor an administrator" in theirs.bits("show", job_id, code=5)[1]
    ours.bits("cancel", job_id)
    for shell in (theirs, ours):
        shell.be_patient_no_more()


def test_a_second_job_of_the_same_name_has_to_be_named_by_its_id(shell: Shell) -> None:
    ids = [shell.bits("create", "twin")[0].strip() for _ in range(2)]
    _, err = shell.bits("cancel", "twin", code=2)
    assert all(job_id in err for job_id in ids)
    shell.bits("cancel", *ids)
    assert "BG_E_NOT_FOUND" in shell.bits("cancel", "twin", code=1)[1]


def test_service_not_reachable_is_exit_code_6_and_says_which(shell: Shell) -> None:
    shell.service.stop()
    shell.service.state.chmod(0o777)  # no service starts in a directory that others can write
    _, err = shell.bits("list", code=6)
    assert str(shell.service.socket) in err
    assert "RPC_S_SERVER_UNAVAILABLE (0x800706BA)" in err
