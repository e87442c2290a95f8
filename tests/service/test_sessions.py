"""How the service finds out who is logged on, where no user is needed for it (identity.md §10)."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from openbits.core.sessions import Difference, LogonRequired
from openbits.service import accounts, config, presence, sessions
from openbits.service.sessions import Sessions, rules_of


def is_logged_on(made: Sessions, uid: int) -> bool:
    """By the rules and the picture of now, whatever `logon_required` makes of it."""
    return made._rules.is_logged_on(uid, made._picture)


def watching(
    settings: config.Sessions, *, connected: Callable[[], set[int]] = set, heard: list[Difference] | None = None
) -> Sessions:
    return Sessions(
        settings,
        zygote_pid=os.getpid(),
        connected=connected,
        owners=lambda: [40_000],
        on_change=(heard if heard is not None else []).append,
    )


def test_a_bus_that_never_answers_delays_the_start_a_little_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        made = watching(config.Sessions(bus_address=f"unix:path={tmp_path}/bus"))
        async with asyncio.timeout(5):
            await made.watch()
        assert is_logged_on(made, os.getuid())

    monkeypatch.setattr(sessions, "ANSWER_SECONDS", 0.2)
    caplog.set_level("INFO")
    with socket.socket(socket.AF_UNIX) as bus:
        bus.bind(f"{tmp_path}/bus")
        bus.listen()
        asyncio.run(story())
    assert "logind_slow" in caplog.text
    assert "sessions_watched by=processes" in caplog.text


def test_without_any_layer_everybody_counts_as_logged_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        made = watching(config.Sessions(bus_address="", logon_required=LogonRequired.SESSION))
        await made.watch()
        assert is_logged_on(made, 40_000)
        assert made.logon_needed(40_000) is None
        assert await made.session_of(None) is None

    monkeypatch.setattr(presence, "PROCESSES", tmp_path)
    asyncio.run(story())
    assert "sessions_not_watched" in caplog.text


def test_a_short_visit_is_presence_until_two_scans_have_found_nobody(free_uid: int) -> None:
    async def story() -> list[tuple[bool, int]]:
        heard: list[Difference] = []
        made = watching(config.Sessions(bus_address="", scan_seconds=1000), heard=heard)
        await made.watch()
        seen = [(is_logged_on(made, free_uid), 0)]
        made.greet(free_uid)
        for _ in range(4):
            seen.append((is_logged_on(made, free_uid), sum(free_uid in change.logged_off for change in heard)))
            await made._presence.scan()
        return seen

    assert asyncio.run(story()) == [(False, 0), (True, 0), (True, 0), (True, 0), (False, 1)]


def test_who_is_connected_is_present(free_uid: int) -> None:
    async def story() -> bool:
        made = watching(config.Sessions(bus_address="", scan_seconds=1000), connected=lambda: {free_uid})
        await made.watch()
        for _ in range(3):
            await made._presence.scan()
        return is_logged_on(made, free_uid)

    assert asyncio.run(story())


@pytest.mark.root
def test_children_of_the_zygote_and_zombies_are_nobody(free_uid: int) -> None:
    """They act for somebody who may be gone; a zombie does nothing any more."""
    identity = {"user": free_uid, "group": free_uid, "extra_groups": []}
    running = subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE, **identity)  # type: ignore[call-overload]  # keywords
    with running:
        assert free_uid in presence.running_uids(running.pid)
        assert free_uid not in presence.running_uids(os.getpid())
        running.kill()
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        assert free_uid not in presence.running_uids(running.pid)


@pytest.mark.root
def test_a_program_that_a_child_of_the_zygote_runs_is_nobody(free_uid: int, eventually: Callable[..., object]) -> None:
    """A notify command does not keep its user logged on."""
    identity = {"user": free_uid, "group": free_uid, "extra_groups": []}
    command = ["sh", "-c", "sleep 600 & wait"]
    running = subprocess.Popen(command, start_new_session=True, **identity)  # type: ignore[call-overload]  # keywords
    with running:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        eventually(children.read_text)
        assert free_uid in presence.running_uids(running.pid)
        assert free_uid not in presence.running_uids(os.getpid())
        os.killpg(running.pid, signal.SIGKILL)


def test_names_become_uids_and_login_defs_says_who_is_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "login.defs"
    monkeypatch.setattr(accounts, "LOGIN_DEFS", path)
    named = config.Sessions(assume_logged_on=("root", "no-such-account"))
    assert rules_of(named).system_uid_max == 999, "no file"
    path.write_text("#SYS_UID_MAX 100\nSYS_UID_MIN 7\n")
    assert rules_of(named).system_uid_max == 999, "not said"
    path.write_text("UID_MIN\t1000\nSYS_UID_MAX\t\t499\n")
    rules = rules_of(named)
    assert (rules.system_uid_max, rules.assumed, rules.is_everybody_assumed) == (499, {0}, False)
    assert rules_of(config.Sessions(assume_logged_on=("*",))).is_everybody_assumed
