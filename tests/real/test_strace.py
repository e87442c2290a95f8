"""No process makes a system call on a user's path unless it has become that user (design.md §2, CVE-2020-0787).

The whole service runs under strace from its first instruction: start, downloads for two other identities with all that
can happen to them, kill -9, recovery at boot, clean-up, end. Each call is judged by what its process was at that
moment: a fork of the zygote counts as root until it has become somebody else.
"""

import os
import re
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from openbits import BitsError, JobState, JobType, Outcome, Priority, TokenFlags

pytestmark = [pytest.mark.root, pytest.mark.real("strace")]

BODY = secrets.token_bytes(400_000)

STRACE = ("strace", "-D", "-f", "-y", "-s", "4096", "-e", "trace=%file,setresuid", "-e", "signal=none")
"""`-D`: the spawner keeps its pid; `%file`: every call that takes a path; `-y`: descriptors show their paths, too."""

LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\()(?P<rest>.*)")
ON_A_DESCRIPTOR = re.compile(r'\d+<[^>]*>, "", ')
"""fstat(2) is newfstatat with an empty path: no path is looked up."""
BECAME = re.compile(r"(?P<uid>\d+), (?P=uid), (?P=uid)\b")
CHANGES = {"openat2", "renameat", "renameat2", "unlinkat", "fchmodat", "utimensat"}


@dataclass(frozen=True)
class Call:
    """One call with a path: who made it, as whom, and the line that shows it."""

    pid: int
    uid: int
    name: str
    line: str


def calls_of(trace: Path) -> list[Call]:
    """What `strace -f -o` wrote, judged."""
    uids: dict[str, int] = {}
    calls = []
    for line in trace.read_text(errors="surrogateescape").splitlines():
        match = LINE.match(line)
        if match is None:
            continue  # signals and ends
        name = match["name"] or match["resumed"]
        if name == "setresuid":
            if (became := BECAME.match(match["rest"])) is not None:
                uids[match["pid"]] = int(became["uid"])
        elif name not in {"newfstatat", "statx"} or not ON_A_DESCRIPTOR.match(match["rest"]):
            calls.append(Call(int(match["pid"]), uids.get(match["pid"], 0), name, line))
    return calls


@dataclass
class Traced:
    """A service that is traced at each start."""

    service: Any
    folder: Path
    plain_command: tuple[str, ...]
    traces: list[Path] = field(default_factory=list)
    workers: set[int] = field(default_factory=set)
    """Pids of all network workers that were seen."""

    def start(self) -> None:
        self.traces.append(self.folder / f"trace{len(self.traces)}")
        self.service.command = (*STRACE, "-o", str(self.traces[-1]), *self.plain_command)
        self.service.start()

    def are_transferring(self, *job_ids: str) -> bool:
        with self.service.client() as client:
            pids = client.info["process_ids"]
            self.workers |= {pid for name, pid in pids.items() if name.startswith("worker:")}
            return all(client.job(job_id).state is JobState.TRANSFERRING for job_id in job_ids)

    def calls(self) -> list[Call]:
        return [call for trace in self.traces for call in calls_of(trace)]


@pytest.fixture
def traced(make_service: Callable[..., Any], open_tmp_path: Path) -> Traced:
    service = make_service()
    return Traced(service, open_tmp_path, tuple(service.command))


def keep_settings(user: Any) -> None:
    """What a broker reads of a home."""
    settings = user.home / ".config" / "openbits"
    settings.mkdir(parents=True)
    (settings / "proxy.toml").write_text('[proxy]\nusage = "no-proxy"\n')
    subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", user.home], check=True)


def assert_theirs_alone(calls: list[Any], users: list[Any], workers: set[int]) -> None:
    """What users keep for the service is opened under their uid, and by no worker."""
    for user in users:
        found = [call for call in calls if f"{user.home}/.config" in call.line]
        assert {call.uid for call in found} == {user.uid}
        assert [call.line for call in found if call.pid in workers] == []


def test_only_the_broker_of_a_user_makes_calls_on_paths_of_that_user(
    traced: Traced,
    site: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    service = traced.service
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    owners, helpers = private_folder(owner), private_folder(helper)
    for user in (owner, helper):
        keep_settings(user)
    plain, held = site.put("/plain", BODY), site.put("/held", BODY)
    gate = site.gate("/held", 150_000)

    def begin(url: str, flags: int) -> str:
        """Create, a refused AddFile, a good one, Resume. Flag 1: the files are the helper's."""
        good, bad = (helpers, owners) if flags & 1 else (owners, helpers)
        with service.client() as client:
            job = client.create_job("traced", priority=Priority.FOREGROUND)
            with client.logon_user(helper.name, "open sesame") as token, token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(TokenFlags(flags))
            with pytest.raises(BitsError):
                job.add_file(url, bad / "refused.bin")
            job.add_file(url, good / f"{flags}.bin")
            job.resume()
            return str(job.id)

    def complete(job_id: str) -> int:
        with service.client() as client:
            job = client.job(job_id)
            assert job.wait(60) is Outcome.TRANSFERRED, job.error
            return int(job.complete())

    def cancel(job_id: str) -> int:
        with service.client() as client:
            return int(client.job(job_id).cancel())

    traced.start()
    assert as_user(owner, complete, as_user(owner, begin, plain, 1)) == 0
    given_up = as_user(owner, begin, held, 1)
    eventually(lambda: traced.are_transferring(given_up), 30)
    assert as_user(owner, cancel, given_up) == 0
    interrupted, tidied_up = as_user(owner, begin, held, 0), as_user(owner, begin, held, 2)
    eventually(lambda: traced.are_transferring(interrupted, tidied_up), 30)
    service.kill("spawner")

    traced.start()
    gate.set()
    assert as_user(owner, complete, interrupted) == 0
    assert as_user(owner, cancel, tidied_up) == 0
    assert service.stop() == 0
    assert [path.name for path in helpers.iterdir()] == ["1.bin"]
    assert [path.name for path in owners.iterdir()] == ["0.bin"]

    calls = traced.calls()
    on_users_paths = [call for call in calls if str(owners) in call.line or str(helpers) in call.line]
    assert [call.line for call in on_users_paths if call.uid not in {owner.uid, helper.uid}] == []
    assert traced.workers
    assert [call.line for call in on_users_paths if call.pid in traced.workers] == []
    assert_theirs_alone(calls, [owner, helper], traced.workers)
    # the control: the same reading shows what brokers do there, and what the spawner and the manager do elsewhere
    for user in (owner, helper):
        names = {call.name for call in on_users_paths if call.uid == user.uid}
        assert len(names & CHANGES) >= 3, names
    manager_uid = (service.state / "queue").stat().st_uid
    on_our_paths = [call for call in calls if str(service.state) in call.line]
    assert {call.uid for call in on_our_paths} == {0, manager_uid}


@pytest.mark.parametrize("kind", [JobType.DOWNLOAD, JobType.UPLOAD])
def test_files_of_this_machine_are_opened_by_the_brokers_of_their_users_too(
    kind: JobType,
    traced: Traced,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
) -> None:
    """The remote file is the helper's, the local one the owner's; the worker is handed both."""
    service = traced.service
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    owners, helpers = private_folder(owner), private_folder(helper)
    reader, folder = (owner, owners) if kind is JobType.UPLOAD else (helper, helpers)
    (folder / "source").write_bytes(BODY)
    os.chown(folder / "source", reader.uid, reader.gid)
    remote = helpers / ("target" if kind is JobType.UPLOAD else "source")
    local = owners / ("source" if kind is JobType.UPLOAD else "target")

    def story() -> set[int]:
        with service.client() as client:
            job = client.create_job("traced", type=kind)
            with client.logon_user(helper.name, "open sesame") as token, token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(TokenFlags.NETWORK)
            job.add_file(remote.as_uri(), local)
            job.resume()
            assert job.wait(60) is Outcome.TRANSFERRED, job.error
            with service.client() as fresh:  # who connects is told who runs at that moment
                pids = {pid for name, pid in fresh.info["process_ids"].items() if name.startswith("worker:")}
            assert job.complete() == 0
            return pids

    traced.start()
    workers = as_user(owner, story)
    assert service.stop() == 0
    calls = traced.calls()
    assert workers
    for folder, user in ((owners, owner), (helpers, helper)):
        on_path = [call for call in calls if str(folder) in call.line]
        assert user.uid in {call.uid for call in on_path} <= {owner.uid, helper.uid}
        assert [call.line for call in on_path if call.pid in workers] == []


@pytest.mark.attack(20)
def test_nobody_but_its_user_touches_the_program_of_a_notify_command(
    traced: Traced,
    site: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    service, user = traced.service, throwaway_user()
    folder = private_folder(user)
    program = folder / "program"
    program.write_text(f"#!/bin/sh\necho told > {folder}/told\n")
    os.chown(program, user.uid, user.gid)
    program.chmod(0o700)

    def story() -> None:
        with service.client() as client:
            job = client.create_job("traced")
            job.set_notify_command_line(str(program), f"{program} {job.id}")
            job.add_file(site.put("/plain", BODY), folder / "file")
            job.resume()

    traced.start()
    as_user(user, story)
    eventually((folder / "told").exists, 30)
    pids = set(service.pids().values())
    assert service.stop() == 0
    on_path = [call for call in traced.calls() if str(folder) in call.line]
    first, *others = [call for call in on_path if call.uid != user.uid]  # the program itself
    assert (first.name, {call.pid for call in others}) == ("execve", {first.pid})
    assert first.pid not in pids
    assert (folder / "told").stat().st_uid == user.uid


def test_the_reading_of_a_trace_finds_a_call_by_whoever_made_it(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(
        '10 mkdir("/home/alice/x", 0777) = 0\n'
        '11 openat(AT_FDCWD</>, "/home/alice" <unfinished ...>\n'
        "12 setresuid(1000, 1000, 1000 <unfinished ...>\n"
        "11 <... openat resumed>, O_RDONLY) = 3\n"
        "12 <... setresuid resumed>) = 0\n"
        '12 renameat(3</home/alice>, "a", 3</home/alice>, "b") = 0\n'
        "13 setresuid(-1, 0, -1) = 0\n"
        '13 unlinkat(3</home/alice>, "b", 0) = 0\n'
        '13 newfstatat(3</home/alice/b>, "", {...}, AT_EMPTY_PATH) = 0\n'
        "13 +++ exited with 0 +++\n"
    )
    found = [(call.pid, call.uid, call.name) for call in calls_of(trace) if "/home/alice" in call.line]
    assert found == [(10, 0, "mkdir"), (11, 0, "openat"), (12, 1000, "renameat"), (13, 0, "unlinkat")]


def test_this_strace_knows_the_calls_of_the_path_recipe(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    """openat2 is younger than the others: a `%file` without it would hide nearly all."""
    trace = tmp_path / "trace"
    program = "import ctypes, os; ctypes.CDLL(None).syscall(437, -100, b'/canary', bytes(24), 24)"
    command = [*STRACE, "-o", str(trace), "python3", "-c", program]
    assert os.spawnvp(os.P_WAIT, command[0], command) == 0
    eventually(lambda: "exited with 0" in trace.read_text())
    names = {call.name for call in calls_of(trace) if "/canary" in call.line}
    assert names - {"execve"} == {"openat2"}
