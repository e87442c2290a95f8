"""The installed service under the real systemd and logind: only in the container of `scripts/test-logind`."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Site, site  # noqa: F401  # a fixture
from tests.real.stories import Job

import openbits
from openbits.api.locate import MACHINE_STATE_DIRECTORY

collect_ignore_glob = [] if "OPENBITS_TRIAL" in os.environ else ["test_*.py"]

ACTS = "tests.logind.acts"


class Machine:
    """The service of the machine, where every client finds it; the unit is its life."""

    state = Path(MACHINE_STATE_DIRECTORY)

    def client(self) -> openbits.Client:
        """A client that was told nothing."""
        return openbits.Client()

    def pids(self) -> dict[str, int]:
        """Pids of the programs by name."""
        with self.client() as client:
            return dict(client.info["process_ids"])

    def job(self, job_id: str) -> Job:
        """A job seen by root."""
        return Job(self, job_id)  # type: ignore[arg-type]  # it needs `client` and `state`


def run(*command: str) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def unit(field: str) -> str:
    """A property of openbits.service."""
    return run("systemctl", "show", "--value", "--property", field, "openbits.service")


class Terminal:
    """Somebody at a terminal: `login` makes the session, the shell runs what is typed."""

    def __init__(self, user: Any) -> None:
        self.user = user
        self._text, self._grown = "", threading.Condition()
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execv("/bin/login", ["login", "-f", user.name])
        threading.Thread(target=self._read, daemon=True).start()
        self.session_id = self.type("echo ANSWER=$XDG_SESSION_ID=")
        self.is_logged_off = False

    def type(self, command: str) -> str:
        """Type a command and return what it says between `ANSWER=` and `=`."""
        start = len(self._text)
        os.write(self._terminal, f"{command}\n".encode())
        with self._grown:
            answer = self._grown.wait_for(lambda: re.search(r"ANSWER=([^$=\s]*)=", self._text[start:]), timeout=60)
        assert answer, f"no answer to {command!r}: {self._text[start:]}"
        return answer.group(1)

    def act(self, name: str, *arguments: object) -> str:
        """Call a function of acts.py in this session."""
        words = " ".join(f"'{argument}'" for argument in arguments)
        return self.type(f"cd /clone && {sys.executable} -m {ACTS} {name} {words}")

    def log_off(self) -> None:
        """Leave the shell."""
        os.write(self._terminal, b"exit\n")
        os.waitpid(self._pid, 0)
        self.is_logged_off = True

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            while data := os.read(self._terminal, 4096):
                with self._grown:
                    self._text += data.decode(errors="replace")
                    self._grown.notify_all()


@pytest.fixture
def machine() -> Machine:
    """The running service."""
    run("systemctl", "reset-failed", "openbits.service")  # these tests start it oftener than an administrator may
    run("systemctl", "start", "openbits.service")
    return Machine()


@pytest.fixture
def log_on() -> Iterator[Callable[[Any], Terminal]]:
    """Factory `log_on(user)`; who is still there at the end is logged off."""
    made: list[Terminal] = []

    def make(user: Any) -> Terminal:
        made.append(Terminal(user))
        return made[-1]

    yield make
    for terminal in made:
        if not terminal.is_logged_off:
            terminal.log_off()
