"""LogonUser through the real PAM of this machine, with real accounts: identity.md §9, test T-12."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openbits import channel

if TYPE_CHECKING:
    from tests.conftest import User

pytestmark = pytest.mark.root

PASSWORD = "correct horse 7 Батарейка"
ORDINARY_CALLER = 1000

CRED_INSUFFICIENT, NEW_AUTHTOK_REQD, ACCT_EXPIRED, BAD_ITEM = 8, 12, 13, 29
UNPROVED = {7, CRED_INSUFFICIENT, 9, 10}
"""Results of PAM that the manager makes one answer of: wrong password, unknown user and what goes with them."""


class Helper:
    """The logon helper as the spawner starts it: the request waits in descriptor 0, the spawner's channel is 3."""

    def __init__(self, request: bytes, caller_uid: int, errors: Path) -> None:
        far, near = channel.pair()
        self.spawner, child = channel.pair()
        self.spawner.settimeout(30)
        self.exit_status: int | None = None
        command = [sys.executable, "-I", "-m", "openbits.identity.logon", "--caller-uid", str(caller_uid)]
        actions = [
            (os.POSIX_SPAWN_DUP2, near.fileno(), 0),
            (os.POSIX_SPAWN_OPEN, 2, str(errors), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, child.fileno(), 3),
        ]
        with far, near, child:
            if request:
                far.send(request)
            self.pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)

    def answer(self) -> dict[str, Any]:
        message, descriptors = channel.receive(self.spawner)
        assert descriptors == []
        return message

    def has_ended(self) -> bool:
        """Reap it if it has; then `exit_status` is known."""
        if self.exit_status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.exit_status = os.waitstatus_to_exitcode(status) if pid else None
        return self.exit_status is not None


Start = Callable[..., Helper]
MakeUser = Callable[..., "User"]
Eventually = Callable[..., object]


@pytest.fixture
def start(tmp_path: Path, eventually: Eventually) -> Iterator[Start]:
    """Start a helper with a request; at the end each has ended by itself with status 0 and without a word."""
    helpers: list[Helper] = []
    errors = tmp_path / "stderr"

    def start_helper(request: object, *, caller_uid: int = ORDINARY_CALLER) -> Helper:
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        helpers.append(Helper(data, caller_uid, errors))
        return helpers[-1]

    yield start_helper
    for helper in helpers:
        helper.spawner.close()
    try:
        eventually(lambda: all(helper.has_ended() for helper in helpers))
    finally:
        for helper in helpers:
            if not helper.has_ended():
                os.kill(helper.pid, signal.SIGKILL)
    assert errors.read_text() == ""
    assert {helper.exit_status for helper in helpers} == {0}


def logon(user: str, password: str | None) -> dict[str, str | None]:
    return {"user": user, "password": password}


def usermod(user: User, *options: str) -> None:
    subprocess.run(["/usr/sbin/usermod", *options, user.name], check=True)


def assert_refused(answer: dict[str, Any], *results: int) -> None:
    assert set(answer) == {"ok", "pam", "text"}
    assert (answer["ok"], answer["pam"] in results) == (False, True), answer
    assert answer["text"]
    assert PASSWORD not in answer["text"]


def test_the_right_password_yields_the_identity_of_the_account(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user(password=PASSWORD, groups=("cdrom", "audio"))

    answer = start(logon(user.name, PASSWORD)).answer()

    groups = answer.pop("groups")
    assert answer == {"ok": True, "uid": user.uid, "gid": user.gid, "name": user.name, "ccache": None}
    expected = subprocess.run(["/usr/bin/id", "-G", user.name], check=True, capture_output=True, text=True).stdout
    assert sorted(groups) == sorted(int(gid) for gid in expected.split())
    assert len(groups) == 3


def test_a_wrong_password_and_an_unknown_user_prove_nothing(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user(password=PASSWORD)

    assert_refused(start(logon(user.name, "wrong")).answer(), *UNPROVED)
    assert_refused(start(logon("bits-no-such-user", PASSWORD)).answer(), *UNPROVED)


def test_an_empty_password_proves_nothing_even_if_the_account_has_none(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user()
    usermod(user, "--password", "")

    assert_refused(start(logon(user.name, "")).answer(), *UNPROVED)


def test_a_locked_password_is_a_logon_failure(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user(password=PASSWORD)
    usermod(user, "--lock")

    assert_refused(start(logon(user.name, PASSWORD)).answer(), *UNPROVED)


def test_an_expired_account_says_so_only_to_who_knows_the_password(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user(password=PASSWORD)
    usermod(user, "--expiredate", "1")

    assert_refused(start(logon(user.name, PASSWORD)).answer(), ACCT_EXPIRED)
    assert_refused(start(logon(user.name, "wrong")).answer(), *UNPROVED)


def test_a_password_that_must_change_says_so(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user(password=PASSWORD)
    subprocess.run(["/usr/bin/chage", "--lastday", "0", user.name], check=True)

    assert_refused(start(logon(user.name, PASSWORD)).answer(), NEW_AUTHTOK_REQD)


def test_root_needs_no_password(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user()

    answer = start(logon(user.name, None), caller_uid=0).answer()

    assert (answer["ok"], answer["uid"], answer["gid"]) == (True, user.uid, user.gid)


def test_root_gets_no_token_of_an_unusable_account(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user()
    usermod(user, "--expiredate", "1")

    assert_refused(start(logon(user.name, None), caller_uid=0).answer(), ACCT_EXPIRED)
    unknown = start(logon("bits-no-such-user", None), caller_uid=0).answer()
    assert_refused(unknown, *UNPROVED)


def test_a_wrong_password_of_root_as_caller_is_no_password_omitted(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user(password=PASSWORD)

    assert_refused(start(logon(user.name, ""), caller_uid=0).answer(), *UNPROVED)


def test_nobody_else_may_omit_the_password(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user(password=PASSWORD)

    assert_refused(start(logon(user.name, None)).answer(), *UNPROVED)
    assert_refused(start({"user": user.name}).answer(), *UNPROVED)


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (logon("a\0b", PASSWORD), "user name"),
        (logon("u" * 257, PASSWORD), "user name"),
        ({"password": PASSWORD}, "user name"),
        ({"user": 0, "password": PASSWORD}, "user name"),
        (logon("root", PASSWORD + "\0"), "password"),
        (logon("root", PASSWORD + "\ud800"), "password"),
        ({"user": "root", "password": [PASSWORD]}, "password"),
        (b"[]", "request"),
        (b'{"user": "root", "password": "' + PASSWORD.encode(), "request"),
        (b"", "request"),
    ],
)
def test_a_request_that_is_none_is_refused_at_once(start: Start, request_: object, named: str) -> None:
    answer = start(request_, caller_uid=0).answer()
    assert_refused(answer, BAD_ITEM)
    assert named in answer["text"]


@pytest.mark.parametrize("user", ["", " ", "-", "../root", "root:x", "%s%n", "u" * 256, "ü\n"])
def test_odd_names_are_unknown_users(start: Start, user: str) -> None:
    assert_refused(start(logon(user, PASSWORD)).answer(), *UNPROVED)


def test_a_very_long_password_is_only_wrong(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user(password=PASSWORD)

    assert_refused(start(logon(user.name, "x" * 60_000)).answer(), *UNPROVED)


def test_the_helper_lives_as_long_as_its_channel(
    throwaway_user: MakeUser, start: Start, eventually: Eventually
) -> None:
    user = throwaway_user(password=PASSWORD)
    helper = start(logon(user.name, PASSWORD))
    assert helper.answer()["ok"]

    os.kill(helper.pid, signal.SIGTERM)  # as a service manager sends to all processes of a service
    assert not helper.has_ended()

    helper.spawner.close()
    eventually(helper.has_ended)
    assert helper.exit_status == 0


def test_the_helper_ends_quietly_when_nobody_waits_for_the_answer(start: Start, eventually: Eventually) -> None:
    helper = start(logon("bits-no-such-user", PASSWORD))
    helper.spawner.close()

    eventually(helper.has_ended)
    assert helper.exit_status == 0


def test_the_password_shows_nowhere_and_core_dumps_are_off(throwaway_user: MakeUser, start: Start) -> None:
    user = throwaway_user(password=PASSWORD)
    helper = start(logon(user.name, PASSWORD))
    assert helper.answer()["ok"]

    process = Path("/proc") / str(helper.pid)
    for name in ("cmdline", "environ"):
        assert PASSWORD.encode() not in (process / name).read_bytes()
    limits = dict(line.rsplit(None, 3)[:2] for line in (process / "limits").read_text().splitlines() if "core" in line)
    assert limits == {"Max core file size": "0"}
    assert "Umask:\t0077" in (process / "status").read_text()
