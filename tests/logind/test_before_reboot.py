"""Log-off as logind sees it (identity.md §10, §16 T-6), and the unit as systemd runs it."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.logind.conftest import ACTS, Machine, Terminal, run, unit
from tests.real.conftest import Person, Site
from tests.real.stories import Job, create

from openbits import TokenFlags
from openbits.api.locate import MACHINE_DIRECTORY
from openbits.identity import landlock

pytestmark = pytest.mark.root

BG_E_TOKEN_REQUIRED = 0x80200056
BODY = os.urandom(900_000)
HELD_AT = 400_000
PASSWORD = "open sesame"
LIFE = ("Type=", "Exec", "Restart=", "RestartSec=", "Timeout", "Watchdog", "Kill", "OOM", "Conf", "State", "Wanted")
"""Directives that are about how the service lives, not about what it may."""
LogOn = Callable[[Any], Terminal]


@pytest.fixture
def people(throwaway_user: Callable[..., Any]) -> tuple[Any, Any]:
    """Owner and helper."""
    return throwaway_user(), throwaway_user(password=PASSWORD)


def folder_of(user: Any, name: str) -> Path:
    folder = Path(user.home, name)
    folder.mkdir(mode=0o700)
    os.chown(folder, user.uid, user.gid)
    user.home.chmod(0o711)
    return folder


def session(session_id: str, field: str) -> str:
    return run("loginctl", "show-session", session_id, "--value", "--property", field)


# -- log-off --------------------------------------------------------------------------------------------------------


def test_t6_log_off_ends_tokens_and_a_new_one_goes_on_where_it_was(
    machine: Machine, log_on: LogOn, people: tuple[Any, Any], site: Site
) -> None:
    owner, helper = people
    here = log_on(owner)
    assert (session(here.session_id, "Class"), session(here.session_id, "Name")) == ("user", owner.name)
    gate = site.gate("/held", HELD_AT)
    target = folder_of(helper, "in") / "held"
    job = machine.job(
        here.act("begin", site.put("/held", BODY), target, helper.name, PASSWORD, int(TokenFlags.LOCAL_FILE))
    )
    job.saves(HELD_AT)
    here.log_off()
    job.reaches("error")
    assert job.code[1] == BG_E_TOKEN_REQUIRED
    gate.set()
    assert log_on(owner).act("repair", job.id, helper.name, PASSWORD) == "repaired"
    job.reaches("transferred")
    assert site.offsets("/held")[-1] >= HELD_AT
    assert job.complete() == 0
    assert (target.read_bytes(), target.stat().st_uid) == (BODY, helper.uid)


def test_t6_the_other_repair_is_to_go_on_alone(
    machine: Machine, log_on: LogOn, people: tuple[Any, Any], site: Site
) -> None:
    owner, helper = people
    here = log_on(owner)
    gate = site.gate("/held", HELD_AT)
    target = folder_of(owner, "in") / "held"
    job = machine.job(
        here.act("begin", site.put("/held", BODY), target, helper.name, PASSWORD, int(TokenFlags.NETWORK))
    )
    job.saves(HELD_AT)
    assert site.uids("/held") == {helper.uid}
    run("loginctl", "terminate-session", here.session_id)
    job.reaches("error")
    assert job.code[1] == BG_E_TOKEN_REQUIRED
    gate.set()
    assert log_on(owner).act("repair_alone", job.id) == "repaired"
    job.reaches("transferred")
    assert site.offsets("/held")[-1] >= HELD_AT
    assert site.uids("/held") == {helper.uid, owner.uid}
    assert job.complete() == 0
    assert target.read_bytes() == BODY


def test_t6_a_transferred_job_keeps_its_state_and_a_job_without_token_goes_on(
    machine: Machine, log_on: LogOn, people: tuple[Any, Any], site: Site
) -> None:
    owner, helper = people
    here = log_on(owner)
    inbox = folder_of(helper, "in") / "file"
    ready = machine.job(
        here.act("begin", site.put("/file", BODY), inbox, helper.name, PASSWORD, int(TokenFlags.LOCAL_FILE))
    )
    ready.reaches("transferred")
    gate = site.gate("/held", HELD_AT)
    target = folder_of(owner, "in") / "held"
    alone = machine.job(here.act("begin_alone", site.put("/held", BODY), target))
    alone.saves(HELD_AT)
    witness = machine.job(
        here.act("begin", site.url + "/held", inbox.with_name("w"), helper.name, PASSWORD, int(TokenFlags.LOCAL_FILE))
    )
    here.log_off()
    witness.reaches("error")  # the log-off has arrived
    assert (ready.state, alone.state) == ("transferred", "transferring")
    gate.set()
    alone.reaches("transferred")
    for job in (ready, alone, witness):
        job.cancel()


def test_t6_lingering_does_not_save_tokens(
    machine: Machine, log_on: LogOn, people: tuple[Any, Any], site: Site
) -> None:
    owner, helper = people
    run("loginctl", "enable-linger", owner.name)
    try:
        here = log_on(owner)
        site.gate("/held", HELD_AT)
        target = folder_of(helper, "in") / "held"
        job = machine.job(
            here.act("begin", site.put("/held", BODY), target, helper.name, PASSWORD, int(TokenFlags.LOCAL_FILE))
        )
        job.saves(HELD_AT)
        here.log_off()
        job.reaches("error")
        assert job.code[1] == BG_E_TOKEN_REQUIRED
        assert run("loginctl", "show-user", owner.name, "--value", "--property", "State") == "lingering"
        job.cancel()
    finally:
        run("loginctl", "disable-linger", owner.name)


def test_t6_a_process_left_behind_does_not_save_tokens(
    machine: Machine, log_on: LogOn, people: tuple[Any, Any], site: Site
) -> None:
    owner, helper = people
    here = log_on(owner)
    site.gate("/held", HELD_AT)
    target = folder_of(helper, "in") / "held"
    job = machine.job(
        here.act("begin", site.put("/held", BODY), target, helper.name, PASSWORD, int(TokenFlags.LOCAL_FILE))
    )
    job.saves(HELD_AT)
    here.type("(setsid sleep 1000 >/dev/null 2>&1 &); echo ANSWER=left=")
    here.log_off()
    assert session(here.session_id, "State") == "closing"
    job.reaches("error", seconds=30)
    assert job.code[1] == BG_E_TOKEN_REQUIRED
    job.cancel()
    run("loginctl", "terminate-session", here.session_id)


def test_t7_the_end_of_one_session_ends_its_tokens_while_the_owner_stays_in_another(
    machine: Machine, log_on: LogOn, people: tuple[Any, Any], site: Site
) -> None:
    owner, helper = people
    first, second = log_on(owner), log_on(owner)
    assert first.session_id != second.session_id
    site.gate("/held", HELD_AT)
    url, inbox = site.put("/held", BODY), folder_of(helper, "in")
    flags = int(TokenFlags.LOCAL_FILE)
    ends = machine.job(first.act("begin", url, inbox / "1", helper.name, PASSWORD, flags))
    stays = machine.job(second.act("begin", url, inbox / "2", helper.name, PASSWORD, flags))
    ends.saves(HELD_AT)
    first.log_off()
    ends.reaches("error")
    assert ends.code[1] == BG_E_TOKEN_REQUIRED
    assert stays.info()["error"] is None
    for job in (ends, stays):
        job.cancel()


# -- the unit -------------------------------------------------------------------------------------------------------


def test_the_unit_runs_confined(machine: Machine) -> None:
    assert (unit("ActiveState"), unit("SubState"), unit("StatusErrno")) == ("active", "running", "0")
    assert (unit("NoNewPrivileges"), unit("LockPersonality")) == ("yes", "yes")
    pids = machine.pids()
    assert pids["spawner"] == int(unit("MainPID"))
    for name in ("spawner", "zygote", "manager"):
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pids[name]}/status").read_text().splitlines())
        assert (status["Seccomp"].strip(), status["NoNewPrivs"].strip()) == ("2", "1")
    manager = Path(f"/proc/{pids['manager']}")
    assert re.search(r"CapBnd:\t0+\n", (manager / "status").read_text())
    assert re.search(r"Uid:\t(\d+)\t", (manager / "status").read_text()).group(1) == run("id", "-u", "openbits")  # type: ignore[union-attr]


def test_the_sandbox_of_the_unit_leaves_landlock_to_its_programs() -> None:
    """Without it the confinement of manager, brokers and workers would be gone in silence."""
    lines = Path("/usr/local/lib/systemd/system/openbits.service").read_text().splitlines()
    sandbox = [line for line in lines if re.match(r"[A-Z]\w+=", line) and not line.startswith(LIFE)]
    assert "SystemCallFilter=@system-service" in sandbox
    options = [word for line in sandbox for word in ("-p", line)]
    probe = "from openbits.identity import landlock; print(landlock.abi())"
    inside = run("systemd-run", "--quiet", "--wait", "--pipe", *options, sys.executable, "-I", "-c", probe)
    assert int(inside) == landlock.abi() > 0


@pytest.mark.usefixtures("machine")
def test_a_peer_in_another_user_namespace_is_recognised(people: tuple[Any, Any], site: Site) -> None:
    """The spawner needs CAP_SYS_PTRACE for it (identity.md §8, T-16)."""
    owner, _ = people
    act = [sys.executable, "-m", ACTS, "begin_alone", site.put("/file", BODY), str(folder_of(owner, "in") / "file")]
    identity = ("setpriv", f"--reuid={owner.uid}", f"--regid={owner.gid}", "--clear-groups")
    assert "ANSWER=" in run(*identity, *act)
    with pytest.raises(AssertionError, match="user namespace"):
        run(*identity, "unshare", "--user", *act)


_SIGNALS = """
import pwd
from jeepney import DBusAddress, HeaderFields, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

bus = open_dbus_connection("SYSTEM")
ask = lambda call: bus.send_and_get_reply(call).body[0]
uid = pwd.getpwnam("openbits").pw_uid
there = [n for n in ask(message_bus.ListNames()) if n[0] == ":" and ask(message_bus.GetConnectionUnixUser(n)) == uid]
signal = new_signal(DBusAddress("/x", interface="a.b"), "C", "av", ([("y", 1)] * 1_000_000,))
signal.header.fields[HeaderFields.destination] = there[0]
for _ in range(6):
    bus.send(signal)
"""


def test_signals_of_strangers_do_not_reach_the_manager(machine: Machine, people: tuple[Any, Any]) -> None:
    owner, _ = people
    identity = (f"--reuid={owner.uid}", f"--regid={owner.gid}", "--clear-groups")
    began_at, answered_at = time.monotonic(), [time.monotonic()]
    with subprocess.Popen(["setpriv", *identity, sys.executable, "-c", _SIGNALS]) as sender:
        while sender.poll() is None or time.monotonic() - began_at < 4:
            machine.pids()
            answered_at.append(time.monotonic())
    assert sender.returncode == 0
    assert max(later - sooner for sooner, later in itertools.pairwise(answered_at)) < 0.5  # to parse one takes longer


def test_acts_are_in_the_journal_with_fields(machine: Machine, people: tuple[Any, Any], site: Site) -> None:
    owner, _ = people
    job = create(machine, owner, [(site.put("/file", BODY), folder_of(owner, "in") / "file")])  # type: ignore[arg-type]
    job.reaches("transferred")
    query = ("OPENBITS_ACT=create", f"OPENBITS_CALLER_UID={owner.uid}", "_SYSTEMD_UNIT=openbits.service")
    (line,) = run("journalctl", "--output", "json", *query).splitlines()
    entry = json.loads(line)
    assert (entry["_UID"], entry["OPENBITS_JOB"]) == (run("id", "-u", "openbits"), job.id)
    job.cancel()


@pytest.mark.usefixtures("machine")
def test_a_misspelt_setting_fails_the_start_and_the_journal_says_why() -> None:
    setting = Path("/etc/openbits/typo.toml")
    run("systemctl", "stop", "openbits.service")
    setting.write_text("[tsl]\n")
    try:
        with pytest.raises(AssertionError, match="failed"):
            run("systemctl", "start", "openbits.service")
        said = run("journalctl", "--unit", "openbits.service", "--output", "cat", "--lines", "50")
        assert "unknown table [tsl]" in said
    finally:
        setting.unlink()
        run("systemctl", "reset-failed", "openbits.service")
        run("systemctl", "start", "openbits.service")


@pytest.mark.usefixtures("machine")
def test_the_doctor_finds_nothing_wrong(people: tuple[Any, Any]) -> None:
    owner, _ = people
    run("setpriv", f"--reuid={owner.uid}", f"--regid={owner.gid}", "--clear-groups", "bits", "doctor")


@pytest.mark.usefixtures("machine")
def test_clients_of_a_stopped_service_say_so_and_start_no_other(people: tuple[Any, Any]) -> None:
    owner, _ = people
    run("systemctl", "stop", "openbits.service")
    assert Path(MACHINE_DIRECTORY).is_dir()
    identity = (f"--reuid={owner.uid}", f"--regid={owner.gid}", "--clear-groups")
    said = run("setpriv", *identity, "sh", "-c", "HOME=/nonexistent bits list 2>&1; echo status=$?")
    assert "status=6" in said
    assert not Path(owner.home, ".local").exists()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_the_queue_goes_on_after(
    how: str, machine: Machine, people: tuple[Any, Any], site: Site, eventually: Callable[..., Any]
) -> None:
    owner, _ = people
    gate = site.gate("/held", HELD_AT)
    target = folder_of(owner, "in") / "held"
    job: Job = create(machine, owner, [(site.put("/held", BODY), target)])  # type: ignore[arg-type]
    job.saves(HELD_AT)
    before = int(unit("MainPID"))
    if how == "restart":
        run("systemctl", "restart", "openbits.service")
    else:
        run("systemctl", "kill", "--signal", "KILL", "openbits.service")
    eventually(lambda: int(unit("MainPID")) not in {0, before} and unit("ActiveState") == "active", 20)
    gate.set()
    job.reaches("transferred")
    assert site.offsets("/held")[-1] >= HELD_AT
    assert job.complete() == 0
    assert target.read_bytes() == BODY


def test_a_stop_leaves_no_process(machine: Machine, people: tuple[Any, Any], site: Site) -> None:
    owner, _ = people
    site.gate("/held", HELD_AT)
    job = create(machine, owner, [(site.put("/held", BODY), folder_of(owner, "in") / "held")])  # type: ignore[arg-type]
    job.saves(HELD_AT)
    pids = machine.pids()
    assert len(pids) >= 5
    run("systemctl", "stop", "openbits.service")
    assert not [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]
    assert unit("Result") == "success"
    run("systemctl", "start", "openbits.service")
    job.cancel()


@pytest.mark.usefixtures("machine")
def test_a_spawner_that_is_stuck_is_started_again(eventually: Callable[..., Any]) -> None:
    drop_in = Path("/run/systemd/system/openbits.service.d/trial.conf")
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=35\n")
    try:
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "openbits.service")
        before = int(unit("MainPID"))
        os.kill(before, signal.SIGSTOP)
        eventually(lambda: int(unit("MainPID")) not in {0, before} and unit("ActiveState") == "active", 60)
    finally:
        drop_in.unlink()
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "openbits.service")


# -- the last one: what the second half finds ------------------------------------------------------------------------


def test_zz_a_job_is_left_in_the_queue(machine: Machine, site: Site) -> None:
    """The service is stopped before the server can give the rest, and starts again with the machine."""
    run("useradd", "--create-home", "--shell", "/bin/sh", "traveller")
    person = Person(uid=int(run("id", "-u", "traveller")), gid=int(run("id", "-g", "traveller")))
    site.gate("/left", HELD_AT)
    job = create(machine, person, [(site.put("/left", b"l" * 900_000), Path("/home/traveller/left"))])  # type: ignore[arg-type]
    job.saves(HELD_AT)
    run("systemctl", "stop", "openbits.service")
    Path("/var/lib/trial").write_text(f"{job.id} {site.url.rpartition(':')[2]}")
