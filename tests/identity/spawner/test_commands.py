"""Notify commands: what is run as whom, though the manager may lie (design.md §2, docs/processes.md `allow-command`).

The runner is the real one. Nothing here trusts what it says about itself: the program that it runs reports.
"""

from __future__ import annotations

import os
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openbits import channel, commandline

if TYPE_CHECKING:
    from tests.conftest import User
    from tests.identity.spawner.conftest import Manager, Service

pytestmark = pytest.mark.root

JOB = str(uuid.UUID(int=7))

OF_GLIBC = 0b11 << 31
"""Signals 32 and 33: no program can set them, and make(1) leaves them ignored in what it starts."""


class Runner:
    """A runner that was started for a command, in the hands of the manager."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.hello, _ = channel.receive(control)

    def order(self, program: str, parameters: str = "", job_id: str = JOB) -> channel.Message:
        """Have it run; the first answer."""
        text = {"program": program, "parameters": parameters}
        channel.send(self.control, {"op": "run", "job_id": job_id, **text})
        return self.heard()

    def heard(self) -> channel.Message:
        return channel.receive(self.control)[0]


class Scene:
    """A service, a user of it, and a connection of that user."""

    def __init__(self, service: Service, user: User) -> None:
        self.service, self.user = service, user
        self.manager: Manager = service.manager()
        self.client = service.connect_as(user.uid, user.gid, os.getgrouplist(user.name, user.gid))
        self.cookie, _, _ = self.manager.connected()

    def leave(self) -> None:
        """The user disconnects."""
        self.client.shutdown(socket.SHUT_RDWR)
        self.manager.event("disconnected")

    def allow(self, program: str, parameters: str = "", **fields: Any) -> channel.Message:
        name = commandline.name(JOB, program, parameters)
        request = {"uid": self.user.uid, "by": self.cookie, "command": name, **fields}
        return self.manager.ask("allow-command", **request)[0]

    def ask(self, program: str, parameters: str = "", **fields: Any) -> tuple[channel.Message, list[int]]:
        name = commandline.name(JOB, program, parameters)
        return self.manager.ask("start", program="notify", **{"uid": self.user.uid, "command": name, **fields})

    def start(self, program: str, parameters: str = "") -> Runner:
        answer, descriptors = self.ask(program, parameters)
        assert answer["ok"], answer
        return Runner(self.manager.own(*descriptors))

    def run(self, program: str, parameters: str = "") -> channel.Message:
        """Allow, start, order: the first answer."""
        assert self.allow(program, parameters)["ok"]
        return self.start(program, parameters).order(program, parameters)


@pytest.fixture
def scene(start_service: Callable[..., Service], throwaway_user: Callable[..., User]) -> Iterator[Scene]:
    made = Scene(start_service(), throwaway_user(groups=("audio", "video")))
    yield made
    made.client.close()


@pytest.fixture
def script(scene: Scene) -> Callable[[str, str], Path]:
    """Factory `script(name, text)` of programs in the home of the user."""

    def make(name: str, text: str) -> Path:
        path = scene.user.home / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return make


REFUSED = (False, "not-admitted")


class TestWhatIsAllowed:
    def test_its_user_alone_has_a_command_recorded(self, scene: Scene, free_uid: int) -> None:
        for fields in ({"uid": free_uid}, {"uid": 0}, {"by": scene.manager.cookie}):
            answer = scene.allow("/bin/true", **fields)
            assert (answer["ok"], answer["refused"]) == REFUSED, fields
        for by in (None, "12345"):
            answer = scene.allow("/bin/true", by=by)
            assert (answer["ok"], answer["refused"]) == (False, "unknown-cookie")
        assert not list((scene.service.state / "admitted").iterdir())
        assert scene.allow("/bin/true")["ok"]

    def test_root_has_no_command_recorded_not_even_by_itself(self, scene: Scene) -> None:
        answer = scene.allow("/bin/true", uid=0, by=scene.manager.cookie)
        assert (answer["ok"], answer["refused"]) == REFUSED

    def test_no_command_is_run_as_root_even_if_one_is_recorded(self, scene: Scene) -> None:
        name = commandline.name(JOB, "/bin/true", "")
        recorded = scene.service.state / "admitted" / f"0.{name}"
        recorded.touch(0o600)
        answer, descriptors = scene.ask("/bin/true", uid=0, by=scene.manager.cookie)
        assert (answer["ok"], answer["refused"], descriptors) == (*REFUSED, [])

    def test_a_token_proves_its_user_too(self, scene: Scene) -> None:
        answer, descriptors = scene.manager.ask("token", by=scene.cookie, level=3)
        scene.manager.own(*descriptors)
        assert scene.allow("/bin/true", by=answer["cookie"])["ok"]

    def test_an_admitted_owner_who_is_not_connected_gets_no_new_command(self, scene: Scene) -> None:
        assert scene.manager.ask("admit", uid=scene.user.uid, by=scene.cookie, directories=[])[0]["ok"]
        assert scene.allow("/bin/true")["ok"]
        scene.leave()
        assert scene.allow("/bin/false")["refused"] == "unknown-cookie"
        answer, _ = scene.ask("/bin/false")
        assert (answer["ok"], answer["refused"]) == REFUSED
        assert scene.ask("/bin/true")[0]["ok"]

    @pytest.mark.parametrize("by", ["connection", "root"])
    def test_nothing_but_the_record_vouches_for_a_command(self, scene: Scene, by: str) -> None:
        cookie = scene.cookie if by == "connection" else scene.manager.cookie
        answer, descriptors = scene.ask("/bin/true", by=cookie)
        assert (answer["ok"], answer["refused"], descriptors) == (*REFUSED, [])

    def test_what_is_allowed_for_one_is_not_for_another(self, scene: Scene, free_uid: int) -> None:
        assert scene.allow("/bin/true")["ok"]
        answer, _ = scene.ask("/bin/true", uid=free_uid)
        assert (answer["ok"], answer["refused"]) == REFUSED

    def test_a_forgotten_command_is_not_run_any_more(self, scene: Scene) -> None:
        assert scene.allow("/bin/true")["ok"]
        name = commandline.name(JOB, "/bin/true", "")
        assert scene.manager.ask("commands", after="")[0]["names"] == [f"{scene.user.uid}.{name}"]
        assert scene.manager.ask("forget-command", uid=scene.user.uid, command=name)[0]["ok"]
        assert scene.manager.ask("forget-command", uid=scene.user.uid, command=name)[0]["ok"]
        assert scene.ask("/bin/true")[0]["refused"] == "not-admitted"
        assert scene.manager.ask("commands", after="")[0]["names"] == []

    def test_a_command_outlasts_the_service(self, scene: Scene, start_service: Callable[..., Service]) -> None:
        assert scene.allow("/bin/true")["ok"]
        scene.service.stop()
        scene.manager = start_service(state=scene.service.state).manager()
        assert scene.start("/bin/true").order("/bin/true")["event"] == "started"

    @pytest.mark.parametrize("command", [None, 7, "json", "../../etc/passwd", "x" * 97])
    def test_a_malformed_name_ends_the_generation(self, scene: Scene, command: object) -> None:
        with pytest.raises(channel.ChannelClosedError):
            scene.manager.ask("start", program="notify", uid=scene.user.uid, command=command)


class TestWhatIsRun:
    @pytest.mark.parametrize(
        ("program", "parameters", "job_id"),
        [
            ("/bin/false", "", JOB),
            ("/bin/true", "true x", JOB),
            ("/bin/true", "", str(uuid.UUID(int=8))),
            ("", "/bin/true", JOB),
        ],
    )
    def test_another_text_than_the_recorded_one_is_not_run(
        self, scene: Scene, program: str, parameters: str, job_id: str
    ) -> None:
        assert scene.allow("/bin/true")["ok"]
        answer = scene.start("/bin/true").order(program, parameters, job_id)
        assert (answer["event"], answer["errno"]) == ("failed", 1)

    def test_the_program_is_the_user_and_nobody_else(self, scene: Scene, script: Callable[[str, str], Path]) -> None:
        """Without the connection: uid, gid and groups of the account, no capability, no way to more."""
        user = scene.user
        program = script("report", "cat /proc/self/status > status; exit 0")
        assert scene.allow(str(program))["ok"]
        scene.leave()
        runner = scene.start(str(program))
        assert runner.order(str(program))["event"] == "started"
        assert runner.heard() == {"event": "ended", "code": 0}
        lines = (line.partition(":") for line in (user.home / "status").read_text().splitlines())
        status = {name: value.split() for name, _, value in lines}
        assert (status["Uid"], status["Gid"]) == ([str(user.uid)] * 4, [str(user.gid)] * 4)
        assert set(map(int, status["Groups"])) == set(os.getgrouplist(user.name, user.gid))
        assert {status[name][0] for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["0"])
        signals = {name: int(status[name][0], 16) & ~OF_GLIBC for name in ("SigBlk", "SigIgn", "SigCgt")}
        assert signals == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}

    def test_what_the_program_finds_is_made_for_it(self, scene: Scene, script: Callable[[str, str], Path]) -> None:
        """Nothing of the service: environment, descriptors, terminal, folder, session, limits."""
        user = scene.user
        program = script(
            "report",
            "env > environ; pwd > pwd; umask > umask; ulimit -n > files; readlink /proc/self/fd/* > descriptors\n"
            "cut -d' ' -f1,5,6,7 /proc/$$/stat > ids; printf '%s\\n' \"$0\" \"$@\" > arguments; exit 3",
        )
        parameters = commandline.join(["my name", JOB, "a b", "", "$HOME; id"])
        assert scene.allow(str(program), parameters)["ok"]
        runner = scene.start(str(program), parameters)
        pid = runner.order(str(program), parameters)["pid"]
        assert runner.heard() == {"event": "ended", "code": 3}

        def told(name: str) -> list[str]:
            return (user.home / name).read_text().splitlines()

        assert dict(
            line.split("=", 1) for line in told("environ") if not line.startswith(("PWD=", "_=", "SHLVL="))
        ) == {
            "HOME": str(user.home),
            "USER": user.name,
            "LOGNAME": user.name,
            "SHELL": "/bin/sh",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "OPENBITS_SOCKET": str(scene.service.at),
        }
        assert (told("pwd"), told("umask"), told("files")) == ([str(user.home)], ["0022"], ["1024"])
        kept = [name for name in told("descriptors") if not name.startswith("/proc/")]
        assert kept == ["/dev/null", f"{user.home}/descriptors", "/dev/null"]
        session = [str(pid)] * 3
        assert told("ids") == [" ".join([*session, "0"])]  # pid, process group, session; no terminal
        assert told("arguments")[1:] == [JOB, "a b", "", "$HOME; id"]

    def test_the_first_word_is_the_name_that_the_program_gets(self, scene: Scene) -> None:
        pid = scene.run("/bin/sleep", "nap 60")["pid"]
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"nap\x0060\x00"

    def test_its_standard_streams_are_nothing(self, scene: Scene, script: Callable[[str, str], Path]) -> None:
        program = script("report", "cat > input; echo out; echo error >&2; exit 0")
        assert scene.allow(str(program))["ok"]
        runner = scene.start(str(program))
        assert runner.order(str(program))["event"] == "started"
        assert runner.heard() == {"event": "ended", "code": 0}
        assert (scene.user.home / "input").read_text() == ""
        assert "error" not in scene.service.said().replace("exit=0", "")

    @pytest.mark.parametrize(
        ("how", "number"), [("missing", 2), ("not executable", 13), ("a folder", 13), ("no format", 8)]
    )
    def test_what_the_kernel_does_not_start_is_told_with_its_errno(self, scene: Scene, how: str, number: int) -> None:
        path = scene.user.home / "program"
        if how == "a folder":
            path.mkdir()
        elif how != "missing":
            path.write_text("echo no shell reads this\n")
            path.chmod(0o755 if how == "no format" else 0o644)
        answer = scene.run(str(path))
        assert (answer["event"], answer["errno"]) == ("failed", number)

    def test_the_path_is_opened_as_the_user(self, scene: Scene, throwaway_user: Callable[..., User]) -> None:
        """A program in a folder that only root and somebody else may pass."""
        other = throwaway_user()
        program = other.home / "program"
        program.write_text("#!/bin/sh\nexit 0\n")
        program.chmod(0o755)
        other.home.chmod(0o700)
        answer = scene.run(str(program))
        assert (answer["event"], answer["errno"]) == ("failed", 13)

    @pytest.mark.attack(20)
    def test_a_setuid_program_gains_nothing(self, scene: Scene, open_folder: Path) -> None:
        program = open_folder / "id"
        program.write_bytes(Path("/usr/bin/id").read_bytes())
        program.chmod(0o4755)
        helper = scene.user.home / "report"
        helper.write_text(f"#!/bin/sh\n{program} -u > uid\n{program} -ru >> uid\n")
        helper.chmod(0o755)
        assert scene.allow(str(helper))["ok"]
        runner = scene.start(str(helper))
        runner.order(str(helper))
        assert runner.heard() == {"event": "ended", "code": 0}
        assert (scene.user.home / "uid").read_text().split() == [str(scene.user.uid)] * 2

    def test_a_signal_is_told_as_one(self, scene: Scene, script: Callable[[str, str], Path]) -> None:
        program = script("die", "kill -TERM $$")
        assert scene.allow(str(program))["ok"]
        runner = scene.start(str(program))
        runner.order(str(program))
        assert runner.heard() == {"event": "ended", "signal": 15}


class TestHowItEnds:
    def test_nothing_of_its_group_is_left(
        self, scene: Scene, script: Callable[[str, str], Path], eventually: Callable[..., Any]
    ) -> None:
        """It forks without end, each for long, and exits."""
        program = script("fork", "for n in 1 2 3 4 5 6 7 8; do (sleep 600 & sleep 600) & done; exit 0")
        assert scene.allow(str(program))["ok"]
        runner = scene.start(str(program))
        runner.order(str(program))
        assert runner.heard() == {"event": "ended", "code": 0}
        eventually(lambda: processes_of(scene) == [])

    @pytest.mark.attack(20)
    def test_a_program_that_loops_ends_with_the_channel(
        self, scene: Scene, script: Callable[[str, str], Path], eventually: Callable[..., Any]
    ) -> None:
        program = script("loop", "trap '' TERM HUP INT; sleep 600 & while :; do :; done")
        assert scene.allow(str(program))["ok"]
        runner = scene.start(str(program))
        pid = runner.order(str(program))["pid"]
        eventually(lambda: len(processes_of(scene)) >= 3)  # runner, program, its child
        assert pid in processes_of(scene)
        runner.control.close()
        eventually(lambda: processes_of(scene) == [])

    def test_the_program_ends_with_its_runner(self, scene: Scene, eventually: Callable[..., Any]) -> None:
        assert scene.allow("/bin/sleep", "sleep 600")["ok"]
        runner = scene.start("/bin/sleep", "sleep 600")
        assert runner.order("/bin/sleep", "sleep 600")["event"] == "started"
        os.kill(runner.hello["pid"], signal.SIGKILL)
        eventually(lambda: processes_of(scene) == [])

    def test_what_it_leaves_in_another_session_goes_on(
        self, scene: Scene, script: Callable[[str, str], Path], eventually: Callable[..., Any]
    ) -> None:
        program = script("leave", "setsid sleep 600 & sleep 0.2; exit 0")
        assert scene.allow(str(program))["ok"]
        runner = scene.start(str(program))
        runner.order(str(program))
        assert runner.heard() == {"event": "ended", "code": 0}
        eventually(lambda: len(processes_of(scene)) == 1)
        (left,) = processes_of(scene)
        assert Path(f"/proc/{left}/cmdline").read_bytes() == b"sleep\x00600\x00"

    def test_it_has_one_order(self, scene: Scene) -> None:
        assert scene.allow("/bin/true")["ok"]
        runner = scene.start("/bin/true")
        runner.order("/bin/true")
        runner.heard()
        with pytest.raises(channel.ChannelClosedError):
            runner.heard()


def processes_of(scene: Scene) -> list[int]:
    """Processes of the user that run, but the one that made its connection."""
    found = []
    connected = {pid for pid, _ in scene.service.peers}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = dict(
                line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line
            )
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields["Uid"].split()[0]) == scene.user.uid and fields["State"][0] not in "ZX":
            found.append(int(folder.name))
    return sorted(set(found) - connected)


class TestClasses:
    CLASS = "6f1b7c3e-0a52-4c55-9a80-1d2e3f4a5b6c"

    @pytest.fixture
    def manifest(
        self, open_folder: Path, start_service: Callable[..., Service], throwaway_user: Callable[..., User]
    ) -> Iterator[Path]:
        (open_folder / "activation.d").mkdir()
        self.scene = Scene(start_service(options=["--config-dir", str(open_folder)]), throwaway_user())
        yield open_folder / "activation.d" / f"{self.CLASS}.toml"
        self.scene.client.close()

    def start(self) -> tuple[Runner, channel.Message]:
        assert self.scene.allow("", self.CLASS.upper())["ok"]
        runner = self.scene.start("", self.CLASS.upper())
        return runner, runner.order("", self.CLASS.upper())

    def test_the_program_of_the_manifest_is_run(self, manifest: Path) -> None:
        report = self.scene.user.home / "made here"
        manifest.write_text(f'program = "/usr/bin/touch"\narguments = ["{report}"]\n')
        runner, answer = self.start()
        assert answer["event"] == "started"
        assert runner.heard() == {"event": "ended", "code": 0}
        assert report.stat().st_uid == self.scene.user.uid

    def test_without_a_manifest_nothing_is_registered(self, manifest: Path) -> None:
        assert not manifest.exists()
        _, answer = self.start()
        assert (answer["event"], answer["errno"]) == ("failed", 2)
        assert str(manifest) in answer["text"]

    @pytest.mark.parametrize("how", ["of another user", "writable by all", "a link", "a FIFO"])
    def test_a_manifest_that_others_may_have_written_is_not_believed(
        self, manifest: Path, free_uid: int, how: str
    ) -> None:
        text = 'program = "/bin/true"\n'
        manifest.write_text(text)
        if how == "of another user":
            os.chown(manifest, free_uid, free_uid)
        elif how == "writable by all":
            manifest.chmod(0o666)
        else:
            manifest.unlink()
            elsewhere = manifest.with_name("elsewhere")
            elsewhere.write_text(text)
            make = manifest.symlink_to if how == "a link" else lambda _: os.mkfifo(manifest, 0o600)
            make(elsewhere)
        _, answer = self.start()
        assert answer["event"] == "failed"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "program = 7",
            'program = "true"',
            'program = "/bin/true"\narguments = "ab"',
            "arguments = []",
            "x = [",
            "\0",
        ],
    )
    def test_a_manifest_that_says_nothing_usable_is_a_failure_to_start(self, manifest: Path, text: str) -> None:
        manifest.write_text(text)
        _, answer = self.start()
        assert (answer["event"], answer["errno"]) == ("failed", 22)
