"""The notify command line: run as its setter, by the kernel's word, until it takes the notice (jobs.md §12.5).

What a program may and may not find is tested beside the runner (`tests/identity/spawner/test_commands.py`); here it is
the whole service that runs it.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.real import stories
from tests.real.conftest import Person, Service, Site, run_as
from tests.real.login1 import login1_on_private_bus
from tests.real.logoff import open_folder, service_with

from openbits import BitsError, Level, commandline

pytestmark = pytest.mark.root

RETRY_SECONDS = 5
"""The smallest minimum retry delay there is."""
INVALID_STATE, TOO_LONG, INVALID_ARGUMENT, FAILED_TO_IMPERSONATE = 0x80200002, 0x80200021, 0x80070057, 0x80010123


class Scene:
    """A service, an ordinary user with a folder, and a file for him."""

    def __init__(self, service: Service, site: Site, user: Any, folder: Path) -> None:
        self.service, self.user, self.folder = service, user, folder
        self.url = site.put("/file", secrets.token_bytes(1000))

    def script(self, text: str, name: str = "told") -> Path:
        """A program of the user; every run of it adds a line to `runs`."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "$0 $*" >> {self.folder}/runs\n{text}\n')
        os.chown(path, self.user.uid, self.user.gid)
        path.chmod(0o755)
        return path

    def job(self, user: Any = None) -> stories.Job:
        """A suspended job with one file."""
        pair = (self.url, self.folder / "file")
        return stories.create(
            self.service, user or self.user, [pair], is_resumed=False, minimum_retry_delay_seconds=RETRY_SECONDS
        )

    def told(self, program: str | Path | None, parameters: str | None = None, *, by: Any = None) -> stories.Job:
        """A job of which this program is told; it runs now."""
        job = self.job()
        self.set(job, program, parameters, by=by)
        job.resume()
        return job

    def set(
        self, job: stories.Job, program: str | Path | None, parameters: str | None = None, *, by: Any = None
    ) -> None:
        def call() -> None:
            with self.service.client() as client:
                client.job(job.id).set_notify_command_line(program if program is None else str(program), parameters)

        run_as(by or self.user, call)

    def runs(self) -> list[str]:
        """One line for each run so far."""
        path = self.folder / "runs"
        return path.read_text().splitlines() if path.exists() else []

    def command(self, job: stories.Job) -> Any:
        return job.info()["notify_command"]

    def recorded(self) -> list[str]:
        """What the spawner would run, as it is on the disk."""
        return sorted(path.name for path in (self.service.state / "admitted").iterdir() if "-" in path.name)

    def name(self, job: stories.Job, program: str | Path, parameters: str = "", user: Any = None) -> str:
        return f"{(user or self.user).uid}.{commandline.name(job.id, str(program), parameters)}"

    def processes(self, word: str) -> list[int]:
        """Processes of the user whose command line has this word."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if folder.stat().st_uid == self.user.uid and word.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found


@pytest.fixture
def scene(
    service: Service, site: Site, throwaway_user: Callable[..., Any], private_folder: Callable[[Any], Path]
) -> Scene:
    user = throwaway_user()
    return Scene(service, site, user, private_folder(user))


def is_delivered(job: stories.Job) -> bool:
    """Nobody is to be told of the job any more."""
    return job.info()["notice"] is None


# -- as whom, and with what ----------------------------------------------------------------------------------------


def test_the_program_runs_as_its_setter_and_gets_the_job_in_its_parameters(
    scene: Scene, eventually: Callable[..., Any]
) -> None:
    program = scene.script(f"id -u > {scene.folder}/uid; id -G > {scene.folder}/groups")
    job = scene.job()
    words = [str(program), job.id, "two words", "$HOME"]
    scene.set(job, program, commandline.join(words))
    job.resume()
    job.reaches("transferred")
    eventually(lambda: is_delivered(job))
    assert scene.runs() == [" ".join(words)]
    assert (scene.folder / "uid").read_text().split() == [str(scene.user.uid)]
    groups = set(map(int, (scene.folder / "groups").read_text().split()))
    assert groups == set(os.getgrouplist(scene.user.name, scene.user.gid))


def test_an_error_is_told_too_and_only_what_the_flags_ask_for(scene: Scene, eventually: Callable[..., Any]) -> None:
    program = scene.script("exit 0")
    lost = stories.create(scene.service, scene.user, [(f"{scene.url}-gone", scene.folder / "a")], is_resumed=False)
    quiet = scene.job()
    quiet.set(notify_flags=2)  # errors alone
    for job in (lost, quiet):
        scene.set(job, program, commandline.join([str(program), job.id]))
        job.resume()
    lost.reaches("error")
    quiet.reaches("transferred")
    eventually(lambda: is_delivered(lost))
    assert scene.runs() == [f"{program} {lost.id}"]


def test_a_command_that_is_set_after_the_event_is_run(scene: Scene, eventually: Callable[..., Any]) -> None:
    program, job = scene.script("exit 0"), scene.job()
    job.resume()
    job.reaches("transferred")
    scene.set(job, program)
    eventually(scene.runs)


def test_the_program_completes_its_job(scene: Scene, eventually: Callable[..., Any]) -> None:
    """It finds the service that has the job, wherever that is."""
    bits = [sys.executable, "-m", "openbits.cli.main", "complete"]
    job = scene.job()
    scene.set(job, sys.executable, commandline.join([*bits, job.id]))
    job.resume()
    eventually(job.is_gone, 30)
    assert (scene.folder / "file").stat().st_uid == scene.user.uid
    eventually(lambda: scene.recorded() == [])


# -- until it takes the notice -------------------------------------------------------------------------------------


def test_it_is_run_again_after_the_delay_until_it_ends_with_zero(scene: Scene, eventually: Callable[..., Any]) -> None:
    program = scene.script(f"test -e {scene.folder}/mended")
    job = scene.told(program)
    eventually(scene.runs)
    began_at = time.monotonic()
    waiting = eventually(lambda: (w := job.info()["waiting"]) and "exit code 1" in w["reason"] and w)
    assert "its notify command ended with exit code 1" in waiting["reason"]
    assert waiting["next"] == "its notify command is run again"
    assert waiting["next_at"] - time.time() == pytest.approx(RETRY_SECONDS, abs=2)
    assert scene.command(job)["note"] == "ended with exit code 1"
    (scene.folder / "mended").touch()
    eventually(lambda: len(scene.runs()) == 2, RETRY_SECONDS + 10)
    assert time.monotonic() - began_at > RETRY_SECONDS - 1
    eventually(lambda: is_delivered(job))
    assert job.state == "transferred"
    assert f"command_failed id=63 job={job.id} uid={scene.user.uid} program='{program}'" in scene.service.log()


@pytest.mark.parametrize(
    ("how", "note"),
    [
        ("missing", "was not started: No such file or directory (errno 2)"),
        ("not executable", "was not started: Permission denied (errno 13)"),
        ("killed", "was killed by SIGKILL"),
    ],
)
def test_what_went_wrong_is_told_to_its_user(scene: Scene, eventually: Callable[..., Any], how: str, note: str) -> None:
    program = scene.script("kill -KILL $$")
    if how == "missing":
        program.unlink()
    if how == "not executable":
        program.chmod(0o644)
    job = scene.told(program, "told --password=geheim")
    assert eventually(lambda: scene.command(job)["note"]) == note
    waiting = job.info()["waiting"]
    assert waiting is not None
    assert f"its notify command {note}" in waiting["reason"]
    assert "geheim" not in scene.service.log()


@pytest.mark.attack(20)
def test_the_program_and_all_it_forked_end_with_the_service_and_it_is_run_again(
    scene: Scene, eventually: Callable[..., Any]
) -> None:
    program = scene.script("trap '' TERM HUP INT; sleep 4711 & while :; do sleep 1; done")
    job = scene.told(program)
    eventually(lambda: scene.processes("4711"))
    first = min(scene.processes(str(program)))  # a fork of it looks the same for a moment
    scene.service.kill("spawner")
    eventually(lambda: first not in scene.processes(str(program)))
    scene.service.start()
    eventually(lambda: len(scene.runs()) == 2)
    assert first not in scene.processes(str(program))
    assert job.state == "transferred"
    scene.service.stop()
    eventually(lambda: scene.processes(str(program)) + scene.processes("4711") == [])


# -- who may -------------------------------------------------------------------------------------------------------


def test_nothing_is_run_as_root(scene: Scene, root: Person, eventually: Callable[..., Any]) -> None:
    program = scene.script("exit 0")
    job = scene.told(program, by=root)
    note = eventually(lambda: scene.command(job)["note"])
    assert note == "is not run: no program is run as root; have an ordinary user set it"
    assert scene.command(job)["setter_uid"] == 0
    assert scene.recorded() == []
    scene.set(job, program)  # by an ordinary user it is
    eventually(scene.runs)


def test_nothing_is_run_for_a_service_account_unless_the_policy_says_so(
    make_service: Callable[..., Service], site: Site, open_tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    daemon = Person(uid=2, gid=2)  # bin, which every system has
    folder = open_tmp_path / "of-a-service-account"
    folder.mkdir()
    os.chown(folder, 2, 2)
    service = make_service()
    service.start()
    scene = Scene(service, site, daemon, folder)
    job = scene.told(scene.script("exit 0"))
    note = eventually(lambda: scene.command(job)["note"])
    assert "is a service account; policy AllowServiceNotifyCmdLine would allow it" in note
    service.stop()
    (service.config / "policy.d").mkdir()
    (service.config / "policy.d" / "test.toml").write_text("AllowServiceNotifyCmdLine = true\n")
    service.start()
    eventually(scene.runs)


def test_nothing_is_run_for_another_account_that_has_the_uid_now(
    service: Service, site: Site, private_folder: Callable[[Any], Path], eventually: Callable[..., Any]
) -> None:
    with stories.real_user() as old:
        scene = Scene(service, site, old, private_folder(old))
        job = scene.job()
        scene.set(job, scene.script("exit 0"))
    new = f"bits-{secrets.token_hex(4)}"
    subprocess.run(["/usr/sbin/useradd", "--uid", str(old.uid), "--user-group", new], check=True)
    try:
        job.resume()
        note = eventually(lambda: scene.command(job)["note"])
        assert note.startswith(f"was not started: {old.name!r} has set it, and uid {old.uid} is {new!r} now;")
        assert scene.runs() == []
    finally:
        subprocess.run(["/usr/sbin/userdel", "--force", new], check=True, capture_output=True)


def test_a_token_is_who_sets_the_command(scene: Scene, throwaway_user: Callable[..., Any]) -> None:
    other = throwaway_user(password="open sesame")
    job = scene.job()

    def as_owner() -> None:
        with scene.service.client() as client, client.logon_user(other.name, "open sesame") as token:
            own = client.job(job.id)
            with token.impersonate():
                own.set_notify_command_line("/bin/true")
            with client.logon_user(other.name, "open sesame", level=Level.IDENTIFY) as weak, weak.impersonate():
                with pytest.raises(BitsError) as refused:
                    own.set_notify_command_line("/bin/false")
                assert refused.value.hresult == FAILED_TO_IMPERSONATE

    run_as(scene.user, as_owner)
    assert (scene.command(job)["setter_uid"], scene.command(job)["setter_name"]) == (other.uid, other.name)
    assert scene.recorded() == [scene.name(job, "/bin/true", user=other)]


def test_take_ownership_takes_the_command_away(scene: Scene, eventually: Callable[..., Any]) -> None:
    job = scene.job()
    scene.set(job, scene.script("exit 0"))
    assert len(scene.recorded()) == 1
    with scene.service.client() as client:
        client.job(job.id).take_ownership()
    assert scene.command(job) is None
    eventually(lambda: scene.recorded() == [])
    job.resume()
    job.reaches("transferred", "error")
    assert scene.runs() == []


# -- what is recorded ----------------------------------------------------------------------------------------------


def test_what_may_be_run_is_what_the_jobs_have(scene: Scene, eventually: Callable[..., Any]) -> None:
    first, second = scene.job(), scene.job()
    for job in (first, second):
        scene.set(job, "/bin/true", "true x")
    both = sorted(scene.name(job, "/bin/true", "true x") for job in (first, second))
    assert scene.recorded() == both
    scene.set(first, "/bin/true", "true x")
    scene.set(second, "/bin/false")
    changed = sorted([scene.name(first, "/bin/true", "true x"), scene.name(second, "/bin/false")])
    eventually(lambda: scene.recorded() == changed)
    scene.set(second, None)
    eventually(lambda: scene.recorded() == [scene.name(first, "/bin/true", "true x")])
    first.cancel()
    eventually(lambda: scene.recorded() == [])


def test_what_a_crash_left_recorded_is_forgotten_by_the_next_start(
    scene: Scene, eventually: Callable[..., Any]
) -> None:
    job = scene.job()
    scene.set(job, "/bin/true")
    kept = scene.name(job, "/bin/true")
    scene.service.stop()
    for name in (scene.name(job, "/bin/false"), f"{scene.user.uid}.{'0' * 32}-{'0' * 64}"):
        (scene.service.state / "admitted" / name).touch(0o600)
    scene.service.start()
    eventually(lambda: scene.recorded() == [kept])


# -- what may be set -----------------------------------------------------------------------------------------------


def test_what_was_set_is_read_back_and_removed(scene: Scene) -> None:
    job = scene.job()

    def call() -> None:
        with scene.service.client() as client:
            own = client.job(job.id)
            assert own.notify_command_line() == ("", "")
            longest = ("/" + "x" * 259, "y" * 4000)
            own.set_notify_command_line(*longest)
            assert own.notify_command_line() == longest
            own.set_notify_command_line("/bin/true", None)
            assert own.notify_command_line() == ("/bin/true", "")
            for program, parameters, code in (
                ("/" + "x" * 260, None, TOO_LONG),
                ("/bin/true", "y" * 4001, TOO_LONG),
                (None, "x", INVALID_ARGUMENT),
                ("true", None, INVALID_ARGUMENT),
                ("/bin/tr\nue", None, INVALID_ARGUMENT),
            ):
                with pytest.raises(BitsError) as refused:
                    own.set_notify_command_line(program, parameters)
                assert refused.value.hresult == code
            assert own.notify_command_line() == ("/bin/true", "")
            own.set_notify_command_line(None, None)
            assert own.notify_command_line() == ("", "")
            own.set_notify_command_line("/bin/true")
            own.cancel()
            with pytest.raises(BitsError) as refused:
                own.set_notify_command_line("/bin/false")
            assert refused.value.hresult == INVALID_STATE
            assert own.notify_command_line() == ("/bin/true", "")

    run_as(scene.user, call)


def test_a_command_survives_a_kill_of_the_service(scene: Scene, eventually: Callable[..., Any]) -> None:
    job = scene.job()
    program = scene.script("exit 0")
    scene.set(job, program, f"{program} {job.id}")
    scene.service.kill("manager")
    scene.service.wait_until_it_answers()
    before = scene.command(job)
    assert (before["program"], before["parameters"]) == (str(program), f"{program} {job.id}")
    job.resume()
    eventually(scene.runs)


# -- classes -------------------------------------------------------------------------------------------------------


CLASS = "6f1b7c3e-0a52-4c55-9a80-1d2e3f4a5b6c"
SERVER = """
import json, sys, time
import openbits

told = []
with openbits.Client() as client:
    for info in client.job_infos():
        if info["properties"]["notification_clsid"].lower() == sys.argv[1]:
            client.job(info["job_id"]).notify(lambda job, info: told.append(info["job_id"]))
    while not told:
        time.sleep(0.01)
    with open(sys.argv[2], "w") as report:
        json.dump(told, report)
    time.sleep(60)
"""


def test_the_program_of_a_class_is_started_and_registers(scene: Scene, eventually: Callable[..., Any]) -> None:
    server, report = scene.folder / "server.py", scene.folder / "report"
    server.write_text(SERVER)
    os.chown(server, scene.user.uid, scene.user.gid)
    manifests = scene.service.config / "activation.d"
    manifests.mkdir()
    arguments = json.dumps([str(server), CLASS, str(report)])
    (manifests / f"{CLASS}.toml").write_text(f'program = "{sys.executable}"\narguments = {arguments}\n')
    job = scene.job()

    def choose() -> None:
        with scene.service.client() as client:
            client.job(job.id).set(notification_clsid=CLASS)

    run_as(scene.user, choose)
    job.resume()
    assert json.loads(eventually(lambda: report.exists() and report.read_text())) == [job.id]
    eventually(lambda: is_delivered(job))
    assert len(scene.processes(str(server))) == 1
    job.set(notification_clsid="")
    eventually(lambda: scene.recorded() == [])


# -- a manager that was taken over ---------------------------------------------------------------------------------


@pytest.mark.attack(20)
def test_a_manager_that_was_taken_over_runs_what_was_set_and_nothing_else(
    make_service: Callable[..., Service], throwaway_user: Callable[..., Any], open_tmp_path: Path
) -> None:
    """It may run the commands of users who are not there, which they have set; no other, as nobody else."""
    user, other = throwaway_user(), throwaway_user()
    service = make_service()
    service.start()
    folder = open_tmp_path / "of-the-user"
    folder.mkdir()
    os.chown(folder, user.uid, user.gid)

    def set_one() -> str:
        with service.client() as client:
            job = client.create_job("told")
            job.set_notify_command_line("/usr/bin/touch", f"touch {folder}/allowed")
            return str(job.id)

    job_id = run_as(user, set_one)
    run_as(other, lambda: str(service.client().create_job("admitted").id))
    service.stop()
    targets = {"job_id": job_id, "uid": str(user.uid), "other_uid": str(other.uid), "folder": str(folder)}
    command = (sys.executable, str(Path(__file__).with_name("compromised") / "bitsd.py"), "manager=notifier")
    evil = make_service(environ={"OPENBITS_TEST_TARGETS": json.dumps(targets)}, command=command)
    evil.state = service.state
    with pytest.raises(pytest.fail.Exception):
        evil.start()
    report = json.loads((service.state / "queue" / "report.json").read_text())
    assert report == {
        "the command that was set": "started",
        "another program": "not-admitted",
        "other parameters": "not-admitted",
        "another text for the recorded name": "failed",
        "the command as another user": "not-admitted",
        "the command as root": "not-admitted",
        "a new command without a connection": "unknown-cookie",
    }
    assert sorted(path.name for path in folder.iterdir()) == ["allowed"]
    assert (folder / "allowed").stat().st_uid == user.uid


def test_the_service_of_one_user_runs_his_commands(
    make_service: Callable[..., Service],
    site: Site,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    eventually: Callable[..., Any],
) -> None:
    user = throwaway_user()
    folder = private_folder(user)
    service = make_service(uid=user.uid)
    service.start()

    def story() -> None:
        with service.client() as client:
            job = client.create_job("told")
            job.set_notify_command_line("/usr/bin/touch", f"touch {folder}/told")
            job.add_file(site.put("/file", b"x"), folder / "file")
            job.resume()

    run_as(user, story)
    eventually((folder / "told").exists)
    assert (folder / "told").stat().st_uid == user.uid


# -- sessions ------------------------------------------------------------------------------------------------------


@pytest.mark.real("dbus-daemon")
def test_it_waits_for_the_logon_of_its_user_and_ends_with_the_log_off(
    site: Site,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    eventually: Callable[..., Any],
) -> None:
    """The job goes on while nobody is there (logon_required = never); the program does not."""
    user = throwaway_user()
    with open_folder() as folder, login1_on_private_bus(folder) as logind, service_with(logind) as service:
        scene = Scene(service, site, user, private_folder(user))
        job = scene.told(scene.script("sleep 4712"))
        job.reaches("transferred")
        note = eventually(lambda: scene.command(job)["note"])
        assert note == f"is not run: {user.name} (uid {user.uid}) is not logged on; it is run at the next logon"
        assert scene.runs() == []
        logind.log_in("a1", user)
        eventually(lambda: scene.processes("4712"))
        logind.log_out("a1")
        eventually(lambda: scene.processes("4712") == [])
        assert eventually(lambda: scene.command(job)["note"]) == "was ended before it was done"
