"""The program `bits`: overview, exit codes, error messages, start-up, signals and pipes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values
from tests.cli.conftest import Result

from openbits.cli.main import COMMANDS
from openbits.core import codes

Bits = Callable[..., Result]

HEAVY = {
    "asyncio", "asyncvarlink", "subprocess", "pathlib", "shutil", "ssl", "tempfile", "getpass", "logging", "pycurl",
    "urllib.request", "http", "email", "openbits.service", "openbits.com",
}  # fmt: skip


def start(*arguments: str) -> "subprocess.Popen[str]":
    """The command as a process of its own."""
    command = [sys.executable, "-m", "openbits.cli.main", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_help_names_every_command_and_the_exit_codes(bits: Bits) -> None:
    shown = bits("--help")
    assert shown.code == 0
    assert all(f"  {name} " in shown.out for name in COMMANDS)
    assert "6 service not reachable" in shown.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, bits: Bits) -> None:
    assert bits(name, "--help").code == 0


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("list", "surplus"), ("show",), ("get",), ("token",)])
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], bits: Bits) -> None:
    result = bits(*arguments)
    assert result.code == 2
    assert "usage: bits" in result.err


@pytest.mark.parametrize(
    ("hresult", "code"),
    [
        (codes.E_ACCESSDENIED, 5),
        (codes.E_INVALIDARG, 2),
        (codes.BG_E_NOT_FOUND, 1),
        (codes.RPC_S_SERVER_UNAVAILABLE, 6),
    ],
)
def test_a_refused_call_says_what_cannot_be_done_with_symbol_and_number(
    hresult: int, code: int, bits: Bits, service: FakeService
) -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(hresult, "alice may not; administrators may")

    service.overrides["ListJobs"] = refuse
    result = bits("list", "--all-users")
    assert result.code == code
    assert result.out == ""
    assert result.err == (
        f"bits: cannot list the jobs: alice may not; administrators may [{codes.symbol(hresult)} (0x{hresult:08X})]\n"
    )


@pytest.mark.parametrize("subject", ["command", "credentials", "headers", "certificate"])
def test_what_failed_to_be_shown_was_not_to_be_changed(subject: str, bits: Bits, service: FakeService) -> None:
    assert not service.jobs
    for action, verb in (("remove", "change"), ("show", "show")):
        if (subject, action) != ("credentials", "show"):
            assert bits(subject, action, "nope").err.startswith(f"bits: cannot {verb} the ")


def test_no_service_is_exit_code_6_and_says_which_socket_why_and_what_to_do(
    bits: Bits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "file"
    plain.touch()
    monkeypatch.setenv("OPENBITS_SOCKET", str(tmp_path / "other.sock"))
    monkeypatch.setenv("OPENBITS_STATE_DIR", str(plain / "state"))
    result = bits("list")
    assert result.code == 6
    assert result.err.startswith(f"bits: cannot reach the service at {tmp_path}/other.sock: ")
    assert "could not be started" in result.err
    assert result.err.rstrip().endswith("[RPC_S_SERVER_UNAVAILABLE (0x800706BA)]")


@pytest.mark.usefixtures("service")
def test_a_command_loads_nothing_heavy() -> None:
    """G7: most of the cost of a command is what it imports."""
    program = "import sys; from openbits.cli.main import main; main(['list']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.split()) & HEAVY == set()


def test_a_reader_that_leaves_is_no_error(service: FakeService) -> None:
    for number in range(400):
        service.add_job(f"a job with a long name, number {number}")
    process = start("list")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 141


def test_ctrl_c_is_quiet_and_leaves_the_job(service: FakeService, eventually: Callable[..., object]) -> None:
    process = start("get", "http://h/a", "/srv/a")
    eventually(lambda: "Subscribe" in service.methods())
    (job_id,) = service.jobs
    eventually(lambda: service.methods()[-1] == "GetJob")
    time.sleep(0.1)  # let it enter the read; a signal before that is handled the same way
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"bits wait {job_id}" in errors
    assert "Traceback" not in errors
    assert service.jobs[job_id]["state"] == "queued"
