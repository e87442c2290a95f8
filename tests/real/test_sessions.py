"""Sessions that end: whose tokens go with them, which jobs fail, and both repairs (identity.md §10, T-6, T-7).

A stand-in for logind on a private bus says who is logged on; `make test-logind` has the real one.
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.conftest import User
from tests.real.conftest import Service, Site, run_as
from tests.real.login1 import Login1, login1_on_private_bus
from tests.real.logoff import (
    BG_E_TOKEN_REQUIRED,
    BODY,
    E_ACCESSDENIED,
    E_HANDLE,
    FILES,
    HALF,
    LOST,
    NETWORK,
    Stage,
    account,
    code_of,
    give_token,
    has_token,
    open_folder,
    service_with,
    until,
)
from tests.real.stories import Job, cancel_all

from openbits import BitsError, TokenFlags

pytestmark = [pytest.mark.root, pytest.mark.real("dbus-daemon")]


@pytest.fixture(scope="module")
def logind() -> Iterator[Login1]:
    with open_folder() as folder, login1_on_private_bus(folder) as made:
        yield made


@pytest.fixture(scope="module")
def alice() -> Iterator[User]:
    with account() as user:
        yield user


@pytest.fixture(scope="module")
def bob() -> Iterator[User]:
    with account() as user:
        yield user


@pytest.fixture(scope="module")
def running(logind: Login1) -> Iterator[Service]:
    with service_with(logind) as service:
        assert "sessions_watched by=logind" in service.log()
        yield service


@pytest.fixture
def service(running: Service, logind: Login1) -> Iterator[Service]:
    """A service where nobody is logged on and nothing is in the queue."""
    yield running
    cancel_all(running)
    for session_id in list(logind.logins):
        logind.log_out(session_id)


@pytest.fixture
def stage(service: Service, logind: Login1, site: Site, private_folder: Callable[[Any], Path]) -> Stage:
    return Stage(service, logind, site, private_folder)


# -- T-6: the owner logs off ----------------------------------------------------------------------------------------


def test_t6_log_off_ends_the_tokens_and_a_new_one_goes_on_at_the_same_byte(
    stage: Stage, logind: Login1, alice: User, bob: User
) -> None:
    logind.log_in("a1", alice)
    job = stage.job(alice, FILES | NETWORK, session="a1", helper=bob)
    plain = stage.job(alice, TokenFlags(0), session="a1", helper=bob)
    job.saves(HALF)
    logind.log_out("a1")
    job.reaches("error")
    assert job.code == LOST
    message = job.error["message"]
    for words in (
        f"helper token of {bob.name} (uid {bob.uid}) ended when",
        f"{alice.name} (uid {alice.uid})",
        "logged off",
    ):
        assert words in message
    assert job.error["identity"] == f"{bob.name} (uid {bob.uid})"
    assert not has_token(job)
    assert not has_token(plain), "one that was not used goes too"
    assert plain.state == "transferring", "logon_required = never: what needs no token goes on"
    stage.open_gates()
    assert stage.content(plain.reaches("transferred") and plain).stat().st_uid == alice.uid
    logind.log_in("a2", alice)
    stage.renew_token(job, alice, "a2", bob)
    job.resume()
    job.reaches("transferred")
    assert stage.site.offsets("/file1") == [0, HALF], "the bytes were kept"
    assert stage.content(job).stat().st_uid == bob.uid


def test_t6_without_flags_it_runs_with_the_owner_alone(stage: Stage, logind: Login1, alice: User, bob: User) -> None:
    logind.log_in("a1", alice)
    job = stage.job(alice, NETWORK, session="a1", helper=bob)
    job.saves(HALF)
    logind.log_out("a1")
    job.reaches("error")
    stage.open_gates()
    with stage.service.client() as client:
        client.job(job.id).set_helper_token_flags(TokenFlags(0))
    job.resume()
    job.reaches("transferred")
    assert stage.site.offsets("/file1") == [0, HALF]
    assert stage.site.uids("/file1") == {alice.uid, bob.uid}
    assert stage.content(job).stat().st_uid == alice.uid


def test_t6_what_is_transferred_stays_and_only_complete_needs_the_token(
    stage: Stage, logind: Login1, alice: User, bob: User
) -> None:
    logind.log_in("a1", alice)
    jobs = {flags: stage.job(alice, flags, session="a1", helper=bob) for flags in (FILES, NETWORK)}
    stage.open_gates()
    for job in jobs.values():
        job.reaches("transferred")
    logind.log_out("a1")
    until(lambda: not any(has_token(job) for job in jobs.values()))
    assert {job.state for job in jobs.values()} == {"transferred"}
    assert stage.content(jobs[NETWORK]).stat().st_uid == alice.uid
    logind.log_in("b1", bob)
    elsewhere = stage.job(bob, FILES, session="b1", helper=bob, is_resumed=False)
    assert has_token(elsewhere)  # a token of the same identity that was given to another job
    with pytest.raises(BitsError) as refused:
        jobs[FILES].complete()
    assert refused.value.hresult == BG_E_TOKEN_REQUIRED
    assert jobs[FILES].state == "transferred"
    stage.logind.log_in("a2", alice)
    stage.renew_token(jobs[FILES], alice, "a2", bob)
    assert stage.content(jobs[FILES]).stat().st_uid == bob.uid


def test_t6_every_unfinished_state_fails(stage: Stage, logind: Login1, alice: User) -> None:
    logind.log_in("a1", alice)
    fresh = stage.job(alice, NETWORK, session="a1", is_resumed=False)
    suspended = stage.job(alice, NETWORK, session="a1")
    suspended.suspend()
    assert (fresh.state, suspended.state) == ("suspended", "suspended")
    logind.log_out("a1")
    for job in (fresh, suspended):
        job.reaches("error")
        assert job.code == LOST


def test_t6_tokens_made_elsewhere_go_too_and_those_of_others_stay(
    stage: Stage, logind: Login1, alice: User, bob: User
) -> None:
    logind.log_in("a1", alice)
    logind.log_in("b1", bob)
    made_by_root = stage.job(alice, NETWORK, session="a1")
    with stage.service.client() as client:
        client.job(made_by_root.id).set_helper_token()
    of_bob = stage.job(bob, NETWORK, session="b1")
    logind.log_out("a1")
    made_by_root.reaches("error")
    assert made_by_root.code == LOST
    assert "root (uid 0) ended when" in made_by_root.error["message"]
    assert has_token(of_bob)
    assert of_bob.state == "transferring"


def test_t6_log_off_in_the_middle_of_adding_files(stage: Stage, logind: Login1, alice: User, bob: User) -> None:
    """What was added before stays; what comes after is refused for want of the token; nobody else opens anything."""
    url, folder = stage.site.put("/small", b"x"), stage.folder_of(bob)

    def as_owner() -> tuple[str, int, set[int]]:
        logind.claim("a1")
        with stage.service.client() as client:
            job = client.create_job("story")
            give_token(client, job, bob)
            job.set_helper_token_flags(FILES)
            codes = []
            for number in range(60):
                if number == 20:
                    logind.ask_log_out("a1", is_waited_for=False)
                codes.append(code_of(partial(job.add_file, url, folder / f"file{number}")))
            return str(job.id), codes.count(0), set(codes)

    logind.log_in("a1", alice)
    job_id, added, codes = run_as(alice, as_owner)
    job = Job(stage.service, job_id)
    assert codes <= {0, BG_E_TOKEN_REQUIRED, E_ACCESSDENIED}
    assert 20 <= added == len(job.files())
    until(lambda: not has_token(job))
    assert job.state in {"error", "suspended"}
    assert list(folder.iterdir()) == []


def test_t6_log_off_in_the_middle_of_complete_loses_no_file(
    stage: Stage, logind: Login1, alice: User, bob: User
) -> None:
    url, folder = stage.site.put("/small", BODY[:1000]), stage.folder_of(bob)

    def as_owner() -> str:
        logind.claim("a1")
        with stage.service.client() as client:
            job = client.create_job("story")
            give_token(client, job, bob)
            job.set_helper_token_flags(FILES)
            job.add_files((url, folder / f"file{number}") for number in range(40))
            job.resume()
            return str(job.id)

    logind.log_in("a1", alice)
    job = Job(stage.service, run_as(alice, as_owner))
    job.reaches("transferred")
    completing = Thread(target=lambda: code_of(job.complete))
    completing.start()
    until(lambda: any(not path.name.startswith(".") for path in folder.iterdir()))
    logind.log_out("a1")
    completing.join()
    if not job.is_gone():  # the token went before the last of forty files had its name
        assert job.state == "transferred"
        assert code_of(job.complete) == BG_E_TOKEN_REQUIRED
        logind.log_in("a2", alice)
        stage.renew_token(job, alice, "a2", bob)
        job.complete()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {f"file{n}": BODY[:1000] for n in range(40)}


# -- T-7: the session that made the token ---------------------------------------------------------------------------


def test_t7_the_end_of_its_session_ends_a_token_for_everybody(
    stage: Stage, logind: Login1, alice: User, bob: User
) -> None:
    for session_id, user in (("a1", alice), ("a2", alice), ("b1", bob)):
        logind.log_in(session_id, user)
    of_first, of_second = (stage.job(alice, NETWORK, session=session) for session in ("a1", "a2"))
    by_logon = stage.job(alice, FILES, session="a2", helper=bob)
    logind.log_out("a2")
    for job in (of_second, by_logon):
        job.reaches("error")
        assert job.code == LOST
        assert f"ended with session a2 of {alice.name} (uid {alice.uid})" in job.error["message"]
    assert has_token(of_first)
    assert of_first.state == "transferring", "its owner is still logged on"
    stage.open_gates()
    of_first.reaches("transferred")


def test_t7_a_token_of_a_token_ends_with_it_and_whoever_still_holds_one_is_refused(
    service: Service, logind: Login1, alice: User
) -> None:
    def as_alice() -> tuple[int, int, int, int]:
        with service.client() as client:
            logind.claim("a2")
            first = client.open_process_token()
            logind.claim("a1")
            with first.impersonate():
                second = client.open_process_token()
            other = client.open_process_token()
            job = client.create_job("aim")
            logind.ask_log_out("a2")
            until(lambda: code_of(lambda: client.token_info(second)))
            with first.impersonate():
                refused = code_of(job.set_helper_token)
            with other.impersonate():
                taken = code_of(job.set_helper_token)
            return code_of(lambda: client.token_info(first)), refused, taken, code_of(lambda: client.token_info(other))

    logind.log_in("a1", alice)
    logind.log_in("a2", alice)
    assert run_as(alice, as_alice) == (E_HANDLE, E_HANDLE, 0, 0)


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_t7_a_session_that_ends_during_the_call_leaves_no_token(
    seconds: float, service: Service, logind: Login1, alice: User
) -> None:
    def as_alice() -> tuple[str, int]:
        logind.claim("a1")
        with service.client() as client:
            job = client.create_job("aim")
            return str(job.id), code_of(job.set_helper_token)

    def end_session() -> None:
        logind.log_out("a1")
        time.sleep(seconds)  # the service hears of the end before it hears that this was the session, or after

    logind.log_in("a1", alice)
    logind.on_question = end_session
    job_id, code = run_as(alice, as_alice)
    assert code or not seconds, "the end was known by then"
    until(lambda: not has_token(Job(service, job_id)))


def test_a_token_that_was_being_made_does_not_get_into_the_job_of_a_new_owner(
    service: Service, logind: Login1, alice: User
) -> None:
    def as_alice() -> int:
        logind.claim("a1")
        with service.client() as client:
            job = client.create_job("aim")
            os.write(telling, str(job.id).encode())
            return code_of(job.set_helper_token)

    def take_over() -> None:
        taken.id = os.read(asking, 100).decode()
        with service.client() as client:
            client.job(taken.id).take_ownership()

    logind.log_in("a1", alice)
    asking, telling = os.pipe()
    taken = Job(service, "")
    logind.on_question = take_over
    assert run_as(alice, as_alice) == E_ACCESSDENIED
    os.close(asking)
    os.close(telling)
    assert (taken.info()["owner_uid"], has_token(taken)) == (0, False)


def test_a_process_that_has_ended_tells_no_session(service: Service, logind: Login1, alice: User) -> None:
    """Its pid may be somebody else's by then: only who lives is asked about."""

    def as_alice() -> tuple[int, str]:
        client, parent = service.client(), os.getpid()
        if os.fork():
            os._exit(0)
        until(lambda: os.getppid() != parent)
        client.connection._process_id = os.getpid()  # our own library refuses by itself
        try:
            client.open_process_token()
        except BitsError as error:
            return error.hresult, error.text
        return 0, ""

    logind.log_in("a1", alice)
    code, text = run_as(alice, as_alice)
    assert code == E_ACCESSDENIED, text
    assert "the process that opened this connection has ended" in text
