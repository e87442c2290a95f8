"""Who is logged on, by logind or by processes, and which jobs wait for it (identity.md §10, jobs.md §18)."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.conftest import SPAWNER, Service, Site
from tests.real.login1 import Login1, login1_on_private_bus
from tests.real.logoff import (
    HALF,
    LOST,
    NETWORK,
    RPC_S_SERVER_UNAVAILABLE,
    Stage,
    account,
    code_of_new_token,
    has_token,
    open_folder,
    process_of,
    service_with,
    until,
)

from openbits import TokenFlags

PRESENCE = "scan_seconds = 1"

pytestmark = [pytest.mark.root, pytest.mark.real("dbus-daemon")]


@pytest.fixture(scope="module")
def logind() -> Iterator[Login1]:
    with open_folder() as folder, login1_on_private_bus(folder) as made:
        yield made


@pytest.fixture(autouse=True)
def _nobody_stays(logind: Login1) -> Iterator[None]:
    yield
    logind.logins.clear()


@pytest.fixture(scope="module")
def alice() -> Iterator[User]:
    with account() as user:
        yield user


@pytest.fixture(scope="module")
def bob() -> Iterator[User]:
    with account() as user:
        yield user


# -- logon_required -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["session", "linger"])
def test_jobs_wait_for_their_owner_and_go_on_with_the_next_logon(
    rule: str, logind: Login1, site: Site, private_folder: Callable[[Any], Path], alice: User, bob: User
) -> None:
    with service_with(logind, f'logon_required = "{rule}"') as service:
        stage = Stage(service, logind, site, private_folder)
        logind.log_in("a1", alice)
        logind.log_in("b1", bob)
        job, of_bob = stage.job(alice, TokenFlags(0), session="a1"), stage.job(bob, TokenFlags(0), session="b1")
        job.saves(HALF)
        logged_out_at = time.time()
        logind.log_out("a1")
        waiting = job.reaches("queued")["waiting"]
        assert waiting is not None
        assert waiting["reason"] == f"waiting for user {alice.name} to log in (logon_required = {rule})"
        assert waiting["next"] == f"it goes on when user {alice.name} logs in"
        assert waiting["since"] >= logged_out_at - 1
        assert "logon_required" in waiting["hint"]
        assert of_bob.state == "transferring"
        job.suspend()
        job.resume()
        assert job.state == "queued", "resumed, and still without its owner"
        started = f"job_state job={job.id} from=QUEUED to=CONNECTING"
        assert service.log().count(started) == 1
        logind.listing_seconds = 0.5  # the next manager has to wait for it
        service.kill("manager")
        service.wait_until_it_answers()
        logind.listing_seconds = 0.0
        assert service.log().count(started) == 1
        assert (again := job.info()["waiting"]) is not None
        assert again["reason"] == waiting["reason"]
        of_bob.reaches("transferring")
        stage.open_gates()
        of_bob.reaches("transferred")
        assert job.state == "queued"
        for session_class in ("greeter", "manager", "background", "user-incomplete"):
            logind.log_in(session_class, alice, session_class)
        logind.log_out("b1")
        until(lambda: f"logged_off uid={bob.uid}" in service.log())  # so what came before is known, too
        assert job.state == "queued"
        logind.set_class("user-incomplete", "user")
        job.reaches("transferred")
        assert site.offsets("/file1") == [0, HALF]


def test_lingering_keeps_jobs_running_and_saves_no_token(
    logind: Login1, site: Site, private_folder: Callable[[Any], Path], alice: User
) -> None:
    with service_with(logind, 'logon_required = "linger"') as service:
        stage = Stage(service, logind, site, private_folder)
        logind.log_in("a1", alice)
        job, with_token = stage.job(alice, TokenFlags(0), session="a1"), stage.job(alice, NETWORK)
        logind.lingering[alice.uid] = alice.name  # said by nobody while there is a session
        logind.log_out("a1")
        with_token.reaches("error")
        assert with_token.code == LOST
        assert job.state == "transferring"
        logind.set_linger(alice, is_on=False)
        job.reaches("queued")
        logind.set_linger(alice, is_on=True)
        job.reaches("transferring")
        stage.open_gates()
        job.reaches("transferred")
        logind.set_linger(alice, is_on=False)


def test_a_process_left_behind_keeps_no_token(
    logind: Login1, site: Site, private_folder: Callable[[Any], Path], alice: User
) -> None:
    """I-10, I-11: logind lists the session as closing as long as the process runs."""
    with service_with(logind, PRESENCE) as service:
        logind.log_in("a1", alice)
        job = Stage(service, logind, site, private_folder).job(alice, NETWORK, session="a1")
        logind.leave("a1")
        assert code_of_new_token(service, alice, logind, "a1") == RPC_S_SERVER_UNAVAILABLE
        job.reaches("error")
        assert job.code == LOST
        assert not has_token(job)


def test_an_owner_who_never_had_a_session_waits_but_does_not_log_off(
    logind: Login1, site: Site, private_folder: Callable[[Any], Path], alice: User, bob: User
) -> None:
    with service_with(logind, 'logon_required = "session"') as service:
        stage = Stage(service, logind, site, private_folder)
        job = stage.job(alice, NETWORK, is_resumed=False)
        job.resume()
        logind.log_in("b1", bob)
        assert code_of_new_token(service, bob, logind, "b1") == 0
        logind.log_out("b1")
        until(lambda: f"logged_off uid={bob.uid}" in service.log())
        assert (info := job.info())["state"] == "queued"
        assert info["waiting"] is not None
        assert "to log in (logon_required = session)" in info["waiting"]["reason"]
        assert has_token(job)
        assert f"logged_off uid={alice.uid}" not in service.log()
        logind.log_in("a1", alice)
        job.receives(HALF)
        logind.log_out("a1")


def test_who_is_assumed_to_be_logged_on_never_logs_off(
    logind: Login1, site: Site, private_folder: Callable[[Any], Path], alice: User, bob: User
) -> None:
    with service_with(logind, 'logon_required = "session"', assumed=[alice.name, "no-such-account"]) as service:
        stage = Stage(service, logind, site, private_folder)
        logind.log_in("a1", alice)
        logind.log_in("a2", alice)
        plain = stage.job(alice, TokenFlags(0), session="a1")
        of_first, elsewhere = stage.job(alice, NETWORK, session="a1"), stage.job(alice, NETWORK)
        of_bob = stage.job(bob, TokenFlags(0), is_resumed=False)
        of_bob.resume()
        for session_id in ("a1", "a2"):
            logind.log_out(session_id)
        of_first.reaches("error")
        assert "ended with session a1" in of_first.error["message"], "tokens end with their session all the same"
        assert (plain.state, elsewhere.state, of_bob.state) == ("transferring", "transferring", "queued")
        assert has_token(elsewhere)


# -- logind and bus go and come -------------------------------------------------------------------------------------


def test_a_lost_bus_logs_nobody_off_and_what_happened_meanwhile_counts(
    logind: Login1, site: Site, private_folder: Callable[[Any], Path], alice: User, bob: User
) -> None:
    with service_with(logind) as service:
        stage = Stage(service, logind, site, private_folder)
        for session_id, user in (("a1", alice), ("a2", alice), ("b1", bob)):
            logind.log_in(session_id, user)
        first, second = (stage.job(alice, NETWORK, session=session) for session in ("a1", "a2"))
        of_bob = stage.job(bob, NETWORK, session="b1")
        jobs = {"first": first, "second": second, "bob": of_bob}
        logind.stop_logind()  # as `systemctl restart systemd-logind` does
        logind.logins["a1"] = dataclasses.replace(logind.logins["a1"], began_at=1)  # the number was given again
        assert {name: has_token(job) for name, job in jobs.items()} == {"first": True, "second": True, "bob": True}
        logind.start_logind()
        first.reaches("error")
        assert "session a1 of" in first.error["message"]
        assert {name: has_token(job) for name, job in jobs.items()} == {"first": False, "second": True, "bob": True}
        logind.stop_bus()
        until(lambda: "logind_lost" in service.log())
        for session_id in ("a1", "a2"):
            del logind.logins[session_id]
        assert code_of_new_token(service, bob, logind, "b1") == RPC_S_SERVER_UNAVAILABLE, (
            "nobody can tell the session of a new token"
        )
        assert {name: job.state for name, job in jobs.items()} == {
            "first": "error",
            "second": "transferring",
            "bob": "transferring",
        }
        logind.start_bus()
        logind.start_logind()
        second.reaches("error")
        assert second.code == LOST
        assert has_token(of_bob)
        assert of_bob.state == "transferring"


def test_logind_takes_over_when_it_appears_and_logs_nobody_off_by_that(
    site: Site, private_folder: Callable[[Any], Path], throwaway_user: Callable[..., User]
) -> None:
    alice = throwaway_user()
    with open_folder() as folder:
        late = Login1(folder)
        with service_with(late, PRESENCE) as service, contextlib.ExitStack() as stack:
            assert "logind_absent" in service.log()
            assert "sessions_watched by=processes" in service.log()
            stage = Stage(service, late, site, private_folder)
            with process_of(alice):
                job = stage.job(alice, NETWORK)
                late.start_bus()
                stack.callback(late.stop_bus)
                late.start_logind()
                until(lambda: "sessions_watched by=logind" in service.log())
            late.log_in("a1", alice)
            assert code_of_new_token(service, alice, late, "a1") == 0
            late.log_out("a1")
            until(lambda: f"logged_off uid={alice.uid}" in service.log())
            job.reaches("error")
            assert service.log().count("logged_off") == 1


# -- without logind: processes --------------------------------------------------------------------------------------


def test_without_logind_the_last_process_of_the_owner_is_the_log_off(
    site: Site, private_folder: Callable[[Any], Path], throwaway_user: Callable[..., User]
) -> None:
    alice, bob = throwaway_user(), throwaway_user()  # nobody else's workers act for these
    with open_folder() as folder, service_with(None, f'{PRESENCE}\nlogon_required = "session"') as service:
        stage = Stage(service, Login1(folder), site, private_folder)
        assert "sessions_watched by=processes every_seconds=1" in service.log()
        with process_of(bob):
            with process_of(alice):
                of_alice, of_bob = stage.job(alice, NETWORK), stage.job(bob, NETWORK)
                plain = stage.job(alice, TokenFlags(0))
                time.sleep(2.2)  # two scans and more: nobody goes
                assert {job.state for job in (of_alice, of_bob, plain)} == {"transferring"}
            of_alice.reaches("error")
            assert of_alice.code == LOST
            assert "logged off" in of_alice.error["message"]
            waiting = plain.reaches("queued")["waiting"]
            assert waiting is not None
            assert f"waiting for user {alice.name} to log in" in waiting["reason"]
            assert has_token(of_bob)
            assert of_bob.state == "transferring"
            with process_of(alice):
                plain.reaches("transferring")


def test_where_processes_are_hidden_nobody_logs_off(
    make_service: Callable[..., Service], site: Site, private_folder: Callable[[Any], Path], alice: User
) -> None:
    hide = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    service = make_service(command=("unshare", "--mount", "sh", "-c", hide, "sh", *SPAWNER))
    service.configure(f'[sessions]\nassume_logged_on = []\nbus_address = ""\n{PRESENCE}\n')
    service.start()
    assert "sessions_not_watched" in service.log()
    with open_folder() as folder:
        job = Stage(service, Login1(folder), site, private_folder).job(alice, NETWORK)
    time.sleep(2.2)  # two scans and more, if there were any
    assert has_token(job)
