"""Odd terminals: streams that are closed, full, narrow, dumb, or of another encoding."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from tests.api.fakeservice import FakeService

COMMAND = [sys.executable, "-m", "openbits.cli.main"]


def shell(line: str, **environ: str) -> "subprocess.CompletedProcess[bytes]":
    """A line of sh in which `bits` is the command."""
    command = f'bits() {{ "{sys.executable}" -m openbits.cli.main "$@"; }}; {line}'
    return subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, check=False, timeout=30, env={**os.environ, **environ}
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_accident(closed: str, service: FakeService) -> None:
    service.add_job("x", state="error")
    done = shell(f"bits list {closed}")
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


@pytest.mark.usefixtures("service")
def test_messages_never_go_to_stdout() -> None:
    """`print` to a stderr that is missing would."""
    done = shell("bits show nobody 2>&-")
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_full_disk_is_an_error_that_says_so(service: FakeService) -> None:
    service.add_job("x")
    for line in ("bits list > /dev/full", "bits list --json > /dev/full"):
        done = shell(line)
        assert done.returncode == 1
        assert done.stderr.startswith(b"bits: cannot write the output: No space left on device")
        assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "environ", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_every_text_can_be_written_in_every_encoding(environ: dict[str, str], service: FakeService) -> None:
    service.add_job("Übertragung ☃ \udcff\x1b[2J")
    for line in ("bits list", "bits show 'Übertragung ☃ \udcff'; bits get --help", "bits explain 404", "bits doctor"):
        done = shell(line.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"), **environ)
        assert b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stdout
    assert json.loads(shell("bits list --json", **environ).stdout)


@pytest.mark.usefixtures("service")
def test_a_name_that_is_no_text_is_refused_without_a_traceback() -> None:
    done = shell("bits get http://h/a \"$(printf '/srv/\\377')\" --detach")
    assert b"Traceback" not in done.stderr


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *arguments: str, columns: int = 40, term: str = "xterm") -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": term}
        )
        os.close(theirs)
        self.text = ""

    def until(self, word: str, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while word not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self._ours], [], [], 0.1)[0]:
                self.text += os.read(self._ours, 65536).decode()

    def press_ctrl_c(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


def test_on_a_narrow_terminal_no_row_is_longer_than_the_terminal(service: FakeService) -> None:
    job_id = service.add_job("漢字" * 20, state="queued")
    service.add_job("x" * 100, state="suspended")
    screen = Terminal("watch")
    try:
        screen.until("xxx")
        screen.until("\x1b[J\x1b[")  # drawn once more: the cursor went up
        rows = [row.replace("\x1b[K", "") for row in screen.text.split("\x1b[J")[0].split("\r\n")]
        assert max(sum(2 if ord(letter) > 0x2E80 else 1 for letter in row.strip("\r")) for row in rows) <= 39
        assert screen.press_ctrl_c() == 130
        assert service.jobs[job_id]["state"] == "queued"
    finally:
        screen.close()


def test_a_dumb_terminal_gets_plain_lines(service: FakeService) -> None:
    service.add_job("nightly", state="queued")
    screen = Terminal("watch", term="dumb")
    try:
        screen.until("nightly")
        screen.press_ctrl_c()
        screen.until("the jobs go on")
        assert "\x1b" not in screen.text
    finally:
        screen.close()


def test_ctrl_c_ends_watch_and_wait_and_leaves_the_jobs(service: FakeService) -> None:
    job_id = service.add_job("x", state="queued")
    for command in ("watch", "wait"):
        screen = Terminal(command, "x", columns=80)
        try:
            screen.until("queued")
            assert screen.press_ctrl_c() == 130
            screen.until("the jobs go on")
            assert "Traceback" not in screen.text
        finally:
            screen.close()
    assert service.jobs[job_id]["state"] == "queued"
