"""LogonUser of the running service against the real PAM: its table, its limits, and what others notice (T-12)."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User, _add_user, _remove_user
from tests.real.audited import entries
from tests.real.conftest import Person, Service
from tests.real.stories import running_service

from openbits import BitsError

pytestmark = pytest.mark.root

S_OK = 0
LOGON_FAILURE = 0x8007052E
ACCOUNT_EXPIRED = 0x80070701
PASSWORD_MUST_CHANGE = 0x80070773
NO_LOGON_SERVERS = 0x8007051F
E_INVALIDARG = 0x80070057

PASSWORD = "correct horse 7"

ATTEMPT = """
import json, sys, time
import openbits
user, password = json.load(sys.stdin)
began = time.monotonic()
code, text = 0, ""
try:
    with openbits.Client(socket=sys.argv[1]) as client:
        client.logon_user(user, password).close()
except openbits.BitsError as error:
    code, text = error.hresult, str(error)
print(json.dumps([code, text, time.monotonic() - began]))
"""

Result = tuple[int, str, float]


class Attempt:
    """A logon under way, made by a process of `uid`."""

    def __init__(self, service: Service, uid: int, user: str, password: str | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", ATTEMPT, str(service.socket)],
            user=uid,
            group=uid,
            extra_groups=[],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        json.dump([user, password], self._process.stdin)
        self._process.stdin.close()
        self._process.stdin = None

    def result(self) -> Result:
        """Code, text and seconds."""
        said, _ = self._process.communicate(timeout=30)
        code, text, seconds = json.loads(said)
        return code, text, seconds


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One service for the module."""
    with running_service() as made:
        yield made


@pytest.fixture(scope="module")
def callers() -> Iterator[int]:
    """Uids of callers, none twice: each has its own count of failures."""
    return iter(range(61_000, 62_000))


@contextlib.contextmanager
def account(*commands: str, password: str | None = PASSWORD) -> Iterator[User]:
    """An account that these commands have changed."""
    user = _add_user(password, ())
    try:
        for command in commands:
            subprocess.run([*command.split(), user.name], check=True)
        yield user
    finally:
        _remove_user(user.name, user.uid)


@pytest.fixture(scope="module")
def accounts() -> Iterator[Mapping[str, str]]:
    """Account names by what is the matter with them."""
    with (
        account() as good,
        account("/usr/sbin/usermod --lock") as locked,
        account("/usr/sbin/usermod --expiredate 1") as expired,
        account("/usr/bin/chage --lastday 0") as stale,
        account("/usr/bin/passwd --quiet --delete", password=None) as empty,
    ):
        yield {
            "good": good.name,
            "locked": locked.name,
            "expired": expired.name,
            "stale": stale.name,
            "empty": empty.name,
            "unknown": "bits-no-such-user",
        }


def slowest_call(service: Service, attempts: list[Attempt]) -> float:
    """The longest that a call of somebody else took while the attempts were under way, in seconds."""
    slowest = 0.0
    with service.client() as client:
        while any(attempt._process.poll() is None for attempt in attempts):
            began = time.monotonic()
            client.connection.call("Hello", {"level": 3})
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.02)
    return slowest


def test_t12_the_table_and_that_others_notice_nothing_of_it(
    service: Service, accounts: Mapping[str, str], callers: Iterator[int]
) -> None:
    table = {
        ("good", PASSWORD): S_OK,
        ("good", "wrong"): LOGON_FAILURE,
        ("unknown", "wrong"): LOGON_FAILURE,
        ("locked", PASSWORD): LOGON_FAILURE,
        ("empty", ""): LOGON_FAILURE,
        ("expired", PASSWORD): ACCOUNT_EXPIRED,
        ("stale", PASSWORD): PASSWORD_MUST_CHANGE,
        ("good", None): LOGON_FAILURE,
    }
    attempts = {
        case: Attempt(service, next(callers), accounts[case[0]], case[1]) for case in table
    }  # as many as may be under way at once
    slowest = slowest_call(service, list(attempts.values()))
    results = {case: attempt.result() for case, attempt in attempts.items()}
    assert {case: code for case, (code, _, _) in results.items()} == table
    assert slowest < 1.0

    (_, wrong, wrong_seconds), (_, unknown, unknown_seconds) = results["good", "wrong"], results["unknown", "wrong"]
    assert wrong.replace(accounts["good"], "X") == unknown.replace(accounts["unknown"], "X")
    assert min(wrong_seconds, unknown_seconds) > 1.0, "the delay of PAM tells nobody which names exist"
    refused = {entry["target"]: entry for entry in entries(service, "logon-refused")}
    assert set(refused) == set(accounts.values())
    assert all(61_000 <= entry["caller_uid"] < 62_000 for entry in refused.values())
    (logon,) = entries(service, "logon")
    assert logon["target"] == accounts["good"]
    assert PASSWORD not in service.log()


def test_t12_the_same_client_can_make_other_calls_during_the_delay(
    service: Service, accounts: Mapping[str, str], as_user: Callable[..., Any], callers: Iterator[int]
) -> None:
    caller = next(callers)

    def story() -> tuple[int, float, int]:
        import threading  # noqa: PLC0415  # in the child

        codes: list[int] = []
        with service.client() as client:

            def log_on() -> None:
                try:
                    client.logon_user(accounts["good"], "wrong").close()
                except BitsError as error:
                    codes.append(error.hresult)

            thread = threading.Thread(target=log_on)
            thread.start()
            job, calls, slowest = client.create_job("meanwhile"), 0, 0.0
            while thread.is_alive():
                began = time.monotonic()
                job.set(description=str(calls))
                slowest = max(slowest, time.monotonic() - began)
                calls += 1
                time.sleep(0.01)
            job.cancel()
            (code,) = codes
            return calls, slowest, code

    calls, slowest, code = as_user(Person(uid=caller, gid=caller), story)
    assert code == LOGON_FAILURE
    assert calls > 20
    assert slowest < 1.0


AT_ONCE = """
import json, socket, sys
call = {"method": "io.openbits.Service.LogonUser", "parameters": {"user": sys.argv[2], "password": "wrong", "level": 3}}
raws = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[3]))]
for raw in raws:
    raw.connect(sys.argv[1])
for raw in raws:
    raw.sendall(json.dumps(call).encode() + bytes(1))
print(json.dumps(sorted(json.loads(raw.recv(65536)[:-1])["parameters"]["hresult"] for raw in raws)))
"""


def at_once(service: Service, caller: int, user: str, count: int) -> list[int]:
    """Codes of so many logons with a wrong password that begin in the same moment."""
    command = [sys.executable, "-I", "-c", AT_ONCE, str(service.socket), user, str(count)]
    done = subprocess.run(
        command, user=caller, group=caller, extra_groups=[], capture_output=True, check=True, timeout=60
    )
    codes: list[int] = json.loads(done.stdout)
    return codes


def test_t12_two_at_a_time_and_five_failures_a_minute_for_each_caller(
    service: Service, accounts: Mapping[str, str], callers: Iterator[int]
) -> None:
    caller, other = next(callers), next(callers)

    assert at_once(service, caller, accounts["good"], 2) == [LOGON_FAILURE] * 2
    assert at_once(service, caller, accounts["good"], 5) == [NO_LOGON_SERVERS] * 3 + [LOGON_FAILURE] * 2
    assert at_once(service, caller, accounts["good"], 1) == [LOGON_FAILURE]

    code, text, seconds = Attempt(service, caller, accounts["good"], PASSWORD).result()
    assert (code, seconds < 1.0) == (NO_LOGON_SERVERS, True)
    assert f"cannot log on as '{accounts['good']}': 5 logons of yours failed within 60 s" in text
    found = re.search(r"the password was not looked at, wait (\d+) s", text)
    assert found, text
    assert 15 < int(found.group(1)) <= 30
    assert Attempt(service, other, accounts["good"], PASSWORD).result()[0] == S_OK
    assert {entry["caller_uid"] for entry in entries(service, "logon-blocked")} == {caller}


def test_t12_what_could_be_no_logon_counts_as_a_failure(service: Service, callers: Iterator[int]) -> None:
    """Each one starts a program of root."""
    caller = next(callers)
    results = [Attempt(service, caller, "ro\0ot", PASSWORD).result()[0] for _ in range(6)]
    assert results == [E_INVALIDARG] * 5 + [NO_LOGON_SERVERS]


BEGIN_TWO = """
import socket, sys
call = b'{"method":"io.openbits.Service.LogonUser","parameters":{"user":"%s","password":"wrong","level":3}}'
raws = [socket.socket(socket.AF_UNIX) for _ in range(2)]
for raw in raws:
    raw.connect(sys.argv[1])
    raw.sendall(call % sys.argv[2].encode() + bytes(1))
sys.stdin.read()
"""


def test_t12_a_logon_counts_also_if_its_client_hangs_up(
    service: Service, accounts: Mapping[str, str], callers: Iterator[int], eventually: Callable[..., Any]
) -> None:
    """Otherwise nobody would have to wait for the delay."""
    caller = next(callers)

    def helpers() -> int:
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
        return len(children) - 1  # the zygote

    eventually(lambda: helpers() == 0)
    command = [sys.executable, "-I", "-c", BEGIN_TWO, str(service.socket), accounts["good"]]
    with subprocess.Popen(command, user=caller, group=caller, extra_groups=[], stdin=subprocess.PIPE) as two:
        eventually(lambda: helpers() == 2)
        two.kill()
    code, text, _ = Attempt(service, caller, accounts["good"], PASSWORD).result()
    assert code == NO_LOGON_SERVERS
    assert "2 logons of yours are under way" in text
    eventually(lambda: len([e for e in entries(service, "logon-refused") if e["caller_uid"] == caller]) == 2)
    eventually(lambda: helpers() == 0)


LONG = "x" * 65_536

ODD = {
    "65 KiB of name": ("u" * 66_560, PASSWORD, E_INVALIDARG),
    "more than a message of name": ("u" * 200_000, PASSWORD, E_INVALIDARG),
    "257 bytes of name": ("u" * 257, PASSWORD, E_INVALIDARG),
    "NUL in the name": ("ro\0ot", PASSWORD, E_INVALIDARG),
    "65536 bytes of password": ("root", LONG, E_INVALIDARG),
    "NUL in the password": ("root", f"{PASSWORD}\0", E_INVALIDARG),
    "newline in the name": ("root\n", PASSWORD, LOGON_FAILURE),
    "60000 bytes of password": ("bits-no-such-user", "x" * 60_000, LOGON_FAILURE),
    "control characters": ("\x1b[2J\r\u202e", PASSWORD, LOGON_FAILURE),
}


def test_t12_odd_names_and_passwords_are_refused_in_one_short_line(service: Service, callers: Iterator[int]) -> None:
    attempts = {what: Attempt(service, next(callers), user, secret) for what, (user, secret, _) in ODD.items()}
    results = {what: attempt.result() for what, attempt in attempts.items()}
    assert {what: code for what, (code, _, _) in results.items()} == {what: code for what, (*_, code) in ODD.items()}
    for what, (_, text, _) in results.items():
        first = text.splitlines()[0]
        assert first.startswith("cannot log on as '"), what
        assert len(text) < 1000
        assert first.isprintable()
        assert PASSWORD not in text
    assert {entry["target"] for entry in entries(service, "logon-refused")} >= {r"root\n", r"\x1b[2J\r\u202e"}


@pytest.mark.attack(23)
def test_the_password_of_a_logon_is_in_no_message_log_or_command_line(
    service: Service, accounts: Mapping[str, str], callers: Iterator[int]
) -> None:
    """T-14 for logons: looked for while the logon helper is at work."""
    secret = f"canary-{os.urandom(8).hex()}"
    attempt = Attempt(service, next(callers), accounts["good"], secret)
    seen = []
    while attempt._process.poll() is None:
        for name in ("cmdline", "environ"):
            for pid in [entry for entry in os.listdir("/proc") if entry.isdecimal()]:  # noqa: PTH208
                with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123
                    if secret.encode() in file.read():
                        seen.append((pid, name))
        time.sleep(0.1)
    code, text, _ = attempt.result()
    assert (code, seen) == (LOGON_FAILURE, [])
    assert secret not in text + service.log()
    for path in service.state.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
