"""What all tests share: the marks `root` and `real`, throw-away users, polling, and the list of what was not run.

A test that cannot run here is skipped by name and listed at the end; with CI=true it fails instead, so that a green
run there means that everything ran.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from tests import attacks

T = TypeVar("T")

REAL_PROGRAMS = ("nginx", "strace")
"""What a test marked `real` needs unless the mark names its own: `@pytest.mark.real("nginx")`."""

_SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_FREE_UIDS = range(40_000, 60_000)  # above what useradd hands out by itself, below nobody, containers and DynamicUser


def _why_not(item: pytest.Item) -> str | None:
    """Why this test cannot run here; None if it can."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        return "needs root (real uids, useradd, PAM)"
    for mark in item.iter_markers("real"):
        missing = [name for name in mark.args or REAL_PROGRAMS if shutil.which(name, path=_SYSTEM_PATH) is None]
        if missing:
            return f"needs {' and '.join(missing)} installed"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if numbers := attacks.numbers_of(item):
        item.user_properties.append(("attacks", numbers))
    if reason := _why_not(item):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true whatever was skipped, by whichever means, has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome, report.longrepr = "failed", f"CI must run everything: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not run, why, and where; after a run of the attacks what each met."""
    if terminalreporter.config.option.markexpr == "attack":
        terminalreporter.section("what the attacks met", sep="-")
        outcomes = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
        for line in attacks.summary(report for report in outcomes if isinstance(report, pytest.TestReport)):
            terminalreporter.line(line)
    skipped: Counter[tuple[str, str]] = Counter()
    for report in terminalreporter.getreports("skipped"):
        if isinstance(report, pytest.TestReport) and isinstance(report.longrepr, tuple):
            skipped[str(report.longrepr[2]).removeprefix("Skipped: "), report.location[0]] += 1
    if skipped:
        terminalreporter.section("not run", sep="-")
        for reason in sorted({reason for reason, _ in skipped}):
            files = {path: count for (why, path), count in sorted(skipped.items()) if why == reason}
            terminalreporter.line(f"{sum(files.values())} tests: {reason}")
            for path, count in files.items():
                terminalreporter.line(f"    {count:4} in {path}")
        terminalreporter.line("as root, with the programs scripts/setup names, everything runs: sudo sh scripts/test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class User:
    """A real account that exists for one test; without a password nobody can log on as it."""

    name: str
    uid: int
    gid: int
    home: Path
    password: str | None


def _free_uid() -> int:
    taken = {entry.pw_uid for entry in pwd.getpwall()} | {uid for _, uid in _processes()}
    return random.choice([uid for uid in _FREE_UIDS if uid not in taken])  # noqa: S311  # no secret


def _processes() -> Iterator[tuple[int, int]]:
    """Pid and real uid of every process; /proc/N itself belongs to root for a process that is not dumpable."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = dict(line.split(":", 1) for line in status.read_text(errors="replace").splitlines())
            yield int(status.parent.name), int(fields["Uid"].split()[0])


def _add_user(password: str | None, groups: tuple[str, ...]) -> User:
    uid, name = _free_uid(), f"bits-{secrets.token_hex(4)}"
    command = ["useradd", "--uid", str(uid), "--user-group", "--create-home", "--shell", "/bin/sh"]
    if groups:
        command += ["--groups", ",".join(groups)]
    _run_quietly([*command, name])
    if password is not None:
        _run_quietly(["chpasswd"], typed=f"{name}:{password}\n")
    entry = pwd.getpwnam(name)
    return User(name=name, uid=uid, gid=entry.pw_gid, home=Path(entry.pw_dir), password=password)


def _remove_user(name: str, uid: int) -> None:
    """Everything of it: processes that a failed test left, home, account."""
    for pid, owner in _processes():
        if owner == uid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    _run_quietly(["userdel", "--force", "--remove", name])


def _run_quietly(command: list[str], *, typed: str | None = None) -> None:
    environ = {**os.environ, "PATH": _SYSTEM_PATH}
    done = subprocess.run(command, input=typed, capture_output=True, text=True, check=False, timeout=60, env=environ)
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr.strip()}"


@pytest.fixture
def free_uid() -> int:
    """A uid that no account and no process has."""
    return _free_uid()


@pytest.fixture
def throwaway_user() -> Iterator[Callable[..., User]]:
    """Factory `throwaway_user(password=None, groups=())` of real accounts; needs the mark `root`."""
    made: list[User] = []

    def make(*, password: str | None = None, groups: tuple[str, ...] = ()) -> User:
        made.append(_add_user(password, groups))
        return made[-1]

    yield make
    for user in made:
        _remove_user(user.name, user.uid)


@pytest.fixture
def eventually() -> Callable[..., object]:
    """`eventually(condition, seconds=10)` polls until the condition is true and returns its value; fails after that."""

    def poll(condition: Callable[[], T], seconds: float = 10) -> T:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > deadline:
                pytest.fail(f"still {value!r} after {seconds} s: {getattr(condition, '__qualname__', condition)}")
            time.sleep(0.01)
        return value

    return poll


@pytest.fixture
def open_tmp_path() -> Iterator[Path]:
    """A work folder that other uids can pass and read (pytest's tmp_path is 0700 under root)."""
    path = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))  # the one folder all uids can pass
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
