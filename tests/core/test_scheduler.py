"""Slots, slices, retry delays and the words for waiting (jobs.md §5, design.md §8, user-pains message rules)."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from openbits.core import codes
from openbits.core.enums import JobState, Priority
from openbits.core.model import Identity, Job, JobError, JobId, Now
from openbits.core.properties import Properties
from openbits.core.scheduler import Candidate, Decisions, Settings, choose, retry_delay, waiting_for
from openbits.core.sessions import LogonRequired

ALICE, BOB = 1000, 1001


def job_id(number: int) -> JobId:
    return uuid.UUID(int=number)


def waiting(number: int, priority: Priority = Priority.NORMAL, **changes: Any) -> Candidate:
    """A queued job; those with smaller numbers were queued earlier."""
    values = {"owner_uid": ALICE, "queued_at": float(number), **changes}
    return Candidate(job_id=job_id(number), priority=priority, is_active=False, is_runnable=True, **values)


def running(number: int, since: float, priority: Priority = Priority.NORMAL, **changes: Any) -> Candidate:
    values = {"owner_uid": ALICE, "queued_at": float(number), "active_since": since, "last_served_at": since, **changes}
    return Candidate(job_id=job_id(number), priority=priority, is_active=True, is_runnable=False, **values)


def decided(*jobs: Candidate, now: float = 1000.0, settings: Settings | None = None) -> tuple[list[int], list[int]]:
    """Numbers of the jobs that get a slot, and of those that lose theirs."""
    decisions = choose(jobs, now, settings or Settings())
    return [one.int for one in decisions.grant], [one.int for one in decisions.revoke]


# -- the background slot ----------------------------------------------------------------------------------------------


def test_nothing_to_do() -> None:
    assert choose([], 1000.0) == Decisions(grant=[], revoke=[], check_at=None)


def test_s3_one_background_job_runs_and_the_most_urgent_level_goes_first() -> None:
    jobs = [waiting(1, Priority.LOW), waiting(2, Priority.NORMAL), waiting(3, Priority.HIGH), waiting(4, Priority.HIGH)]
    assert decided(*jobs) == ([3], [])


def test_s3_a_more_urgent_job_preempts_at_once() -> None:
    assert decided(running(1, since=999.0), waiting(2, Priority.HIGH)) == ([2], [1])


def test_s5_a_less_urgent_job_waits_whatever_the_slice() -> None:
    assert decided(running(1, since=0.0, priority=Priority.HIGH), waiting(2, Priority.NORMAL)) == ([], [])


def test_s4_jobs_of_a_level_take_turns_of_one_slice() -> None:
    holder, other = running(1, since=950.0), waiting(2)
    assert decided(holder, other, now=1009.9) == ([], [])
    assert choose([holder, other], 1009.9).check_at == 1010.0
    assert decided(holder, other, now=1010.0) == ([2], [1])


def test_s4_without_a_competitor_a_job_keeps_the_slot() -> None:
    assert choose([running(1, since=0.0)], 1000.0) == Decisions(grant=[], revoke=[], check_at=None)


def test_s4_the_slice_is_a_setting() -> None:
    assert decided(running(1, since=995.0), waiting(2), settings=Settings(slice_seconds=5.0)) == ([2], [1])


def test_s6_within_an_owner_first_come_first_served() -> None:
    assert decided(waiting(3), waiting(2), waiting(7)) == ([2], [])


def test_s8_a_job_that_could_not_resume_is_not_stopped_at_the_end_of_its_slice() -> None:
    assert decided(running(1, since=0.0, is_resumable=False), waiting(2)) == ([], [])


def test_a_job_that_is_not_runnable_gets_nothing() -> None:
    assert decided(replace(waiting(1), is_runnable=False), waiting(2)) == ([2], [])


def test_s9_an_owner_who_has_to_log_on_first_neither_gets_nor_keeps_a_slot() -> None:
    held: dict[str, Any] = {"logon_needed": LogonRequired.SESSION}
    assert decided(waiting(1, **held), waiting(2, Priority.LOW, owner_uid=BOB)) == ([2], [])
    assert decided(running(1, since=999.0, **held), waiting(2, owner_uid=BOB)) == ([2], [1])
    assert decided(running(1, since=999.0, priority=Priority.FOREGROUND, **held)) == ([], [1])


def test_owners_take_turns_however_many_jobs_one_of_them_has() -> None:
    jobs = [*(waiting(number, last_served_at=900.0) for number in range(1, 50)), waiting(99, owner_uid=BOB)]
    assert decided(*jobs) == ([99], [])


def test_the_owner_served_least_recently_goes_first_even_if_those_jobs_are_gone() -> None:
    alice = waiting(1, owner_last_served_at=990.0)
    bob = waiting(2, owner_uid=BOB, owner_last_served_at=980.0)
    assert decided(alice, bob) == ([2], [])


def test_a_slot_is_given_to_the_other_owner_when_the_slice_is_over() -> None:
    jobs = [running(1, since=900.0), waiting(2), waiting(3, owner_uid=BOB, last_served_at=899.0)]
    assert decided(*jobs) == ([3], [1])


# -- foreground -------------------------------------------------------------------------------------------------------


def test_s2_all_foreground_jobs_run_beside_one_background_job() -> None:
    jobs = [waiting(number, Priority.FOREGROUND) for number in range(1, 6)]
    assert decided(*jobs, waiting(8), waiting(9)) == ([1, 2, 3, 4, 5, 8], [])


def test_open_11_at_most_32_foreground_jobs_run() -> None:
    jobs = [waiting(number, Priority.FOREGROUND) for number in range(1, 41)]
    assert decided(*jobs) == (list(range(1, 33)), [])


def test_free_foreground_slots_are_shared_between_owners() -> None:
    settings = Settings(max_foreground_jobs=4)
    alice = [waiting(number, Priority.FOREGROUND) for number in range(1, 9)]
    bob = [waiting(number, Priority.FOREGROUND, owner_uid=BOB) for number in range(11, 13)]
    granted, _ = decided(*alice, *bob, settings=settings)
    assert sorted(granted) == [1, 2, 11, 12]


def test_an_owner_with_all_foreground_slots_makes_room_after_a_slice() -> None:
    settings = Settings(max_foreground_jobs=2)
    fast = Priority.FOREGROUND
    held = [running(1, since=939.0, priority=fast), running(2, since=940.0, priority=fast)]
    bob = waiting(9, fast, owner_uid=BOB)
    assert decided(*held, bob, now=998.0, settings=settings) == ([], [])
    assert decided(*held, bob, now=1000.0, settings=settings) == ([9], [1])


def test_the_owner_with_the_most_slots_makes_room_first() -> None:
    settings = Settings(max_foreground_jobs=3)
    fast = Priority.FOREGROUND
    jobs = [
        running(1, since=20.0, priority=fast, owner_uid=BOB),
        running(2, since=30.0, priority=fast),
        running(3, since=40.0, priority=fast),
        waiting(4, fast, owner_uid=1002),
    ]
    assert decided(*jobs, settings=settings) == ([4], [2])


def test_a_lowered_cap_takes_slots_from_those_who_began_last() -> None:
    jobs = [running(number, since=900.0 + number, priority=Priority.FOREGROUND) for number in range(1, 4)]
    assert decided(*jobs, settings=Settings(max_foreground_jobs=1)) == ([], [2, 3])


def test_an_owner_with_fewer_slots_does_not_make_room() -> None:
    settings = Settings(max_foreground_jobs=3)
    fast = Priority.FOREGROUND
    jobs = [
        running(1, since=0.0, priority=fast, owner_uid=BOB),
        running(2, since=999.0, priority=fast),
        running(3, since=999.0, priority=fast),
        waiting(4, fast),
    ]
    assert decided(*jobs, settings=settings) == ([], [])


# -- retry delays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "expected"), [(1, 1), (2, 5), (3, 15), (4, 60), (5, 300), (6, 600), (7, 600), (1000, 600)]
)
def test_retries_are_quick_at_first_and_then_wait_for_the_minimum_delay(attempt: int, expected: float) -> None:
    assert retry_delay(attempt, 600, None, 0.0) == expected


@pytest.mark.parametrize(
    ("attempt", "minimum", "retry_after", "spread", "expected"),
    [
        (4, 30, None, 0.0, 30.0),  # capped by the job's minimum retry delay
        (2, 600, None, 0.1, 5.5),
        (1, 600, 120.0, 0.1, 120.0),  # a larger Retry-After is honoured
        (5, 600, 120.0, 0.0, 300.0),  # a smaller one is not
        (1, 600, 0.0, 0.0, 1.0),
        (1, 600, 1e9, 0.0, 86_400.0),
        (1, 600, float("nan"), 0.0, 1.0),
        (1, 0, None, 0.0, 1.0),
        (9, 4_000_000_000, None, 0.1, 86_400.0),
    ],
)
def test_limits_of_the_delay(
    attempt: int, minimum: int, retry_after: float | None, spread: float, expected: float
) -> None:
    assert retry_delay(attempt, minimum, retry_after, spread) == pytest.approx(expected)


# -- why it does not move ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_that_is_no_progress_says_why_since_when_and_what_to_do(
    a_job: Callable[..., Job], now: Now, state: JobState
) -> None:
    told = waiting_for(a_job(state), [], now)
    if state is JobState.TRANSFERRING or state.is_final:
        assert told is None
        return
    assert told is not None
    assert told.reason
    assert told.next
    assert told.hint
    assert told.since == a_job(state).state_since


def test_a_retry_says_when_which_attempt_and_when_it_gives_up(a_job: Callable[..., Job]) -> None:
    told = waiting_for(a_job(JobState.TRANSIENT_ERROR), [], Now(wall=1_800_000_019.0, boot=5_019.0))
    assert told is not None
    assert "attempt 1 failed" in told.reason
    assert "BG_E_CONNECT_FAILURE (0x8020002D)" in told.reason
    assert told.next == "attempt 2; it gives up on 2027-01-29 08:00 UTC"
    assert told.next_at == 1_800_000_060.0


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (codes.ERROR_WINHTTP_CANNOT_CONNECT, "check address, port and firewall; resume it to try now"),
        (codes.HTTP_STATUS_511, "log in to the network in a browser; resume it to try now"),
        (codes.ERROR_WINHTTP_TIMEOUT, "resume it to try now"),
        (
            codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED,
            "set the certificate callback again, then resume the job",
        ),
    ],
    ids=["unreachable", "portal", "time-out", "callback"],
)
def test_a_retry_says_what_can_be_done_about_its_cause(
    code: int, hint: str, a_job: Callable[..., Job], an_error: Callable[..., JobError], now: Now
) -> None:
    told = waiting_for(a_job(JobState.TRANSIENT_ERROR, error=an_error(code)), [], now)
    assert told is not None
    assert told.hint == hint


def test_a_blocked_job_names_the_condition_and_has_no_time(
    a_job: Callable[..., Job], an_error: Callable[..., JobError], now: Now
) -> None:
    error = an_error(codes.BG_E_NETWORK_DISCONNECTED)
    job = a_job(JobState.TRANSIENT_ERROR, error=error, retry_at=None, retry_by_event=True, stalled_since=None)
    told = waiting_for(job, [], now)
    assert told is not None
    assert "BG_E_NETWORK_DISCONNECTED" in told.reason
    assert told.next_at is None
    assert "connect to a network" in told.hint


def test_a_queued_job_says_behind_which_job_of_its_owner_it_waits(a_job: Callable[..., Job], now: Now) -> None:
    holder = running(7, since=now.boot - 20)
    told = waiting_for(a_job(JobState.QUEUED), [holder, waiting(1)], now)
    assert told is not None
    assert told.reason == f"waiting for its turn behind job {job_id(7)}"
    assert told.next_at == now.wall + 40


def test_a_queued_job_behind_a_higher_priority_knows_no_time(a_job: Callable[..., Job], now: Now) -> None:
    told = waiting_for(a_job(JobState.QUEUED), [running(7, since=0.0, priority=Priority.HIGH)], now)
    assert told is not None
    assert "higher priority" in told.reason
    assert told.next_at is None


def test_jobs_of_others_are_not_named(a_job: Callable[..., Job], now: Now) -> None:
    told = waiting_for(a_job(JobState.QUEUED, owner=Identity(uid=BOB, gid=BOB)), [running(7, since=now.boot)], now)
    assert told is not None
    assert told.reason == "waiting for its turn behind another job"


@pytest.mark.parametrize("rule", [LogonRequired.SESSION, LogonRequired.LINGER])
@pytest.mark.parametrize(("name", "shown"), [("alice", "user alice"), ("", "uid 1000")])
def test_who_has_to_log_on_first_is_told(
    rule: LogonRequired, name: str, shown: str, a_job: Callable[..., Job], now: Now
) -> None:
    job = a_job(JobState.QUEUED, owner=Identity(uid=ALICE, gid=ALICE, name=name))
    itself = replace(waiting(1, logon_needed=rule), job_id=job.job_id)
    told = waiting_for(job, [running(7, since=now.boot, priority=Priority.HIGH), itself], now)
    assert told is not None
    assert told.reason == f"waiting for {shown} to log in (logon_required = {rule})"
    assert told.next == f"it goes on when {shown} logs in"
    assert (told.since, told.next_at) == (job.state_since, None)
    assert told.hint


def test_foreground_jobs_wait_for_nobody_but_the_cap(a_job: Callable[..., Job], now: Now) -> None:
    job = a_job(JobState.QUEUED, properties=Properties(priority=Priority.FOREGROUND))
    rivals = [running(number, since=0.0, priority=Priority.FOREGROUND) for number in range(1, 33)]
    told = waiting_for(job, [*rivals[:31], running(50, since=0.0)], now)
    assert told is not None
    assert told.next == "it starts at once"
    told = waiting_for(job, rivals, now)
    assert told is not None
    assert told.reason == "waiting for one of the 32 slots of foreground jobs"


def test_connecting_names_the_host_and_no_secret(a_job: Callable[..., Job], now: Now) -> None:
    told = waiting_for(a_job(JobState.CONNECTING), [], now)
    assert told is not None
    assert told.reason == "connecting to files.example:8443, attempt 1"
    assert "hunter2" not in told.hint
    assert "s3cret" not in told.hint


def test_an_empty_job_asks_for_a_file(a_job: Callable[..., Job], now: Now) -> None:
    told = waiting_for(a_job(JobState.SUSPENDED, files=()), [], now)
    assert told is not None
    assert told.hint == "add a file, then resume it"


def test_a_failed_job_repeats_its_error_and_the_next_step(a_job: Callable[..., Job], now: Now) -> None:
    told = waiting_for(a_job(JobState.ERROR), [], now)
    assert told is not None
    assert "0x80190194" in told.reason
    assert told.hint == codes.lookup(codes.BG_E_HTTP_ERROR_404).next_step


def test_a_job_that_is_being_completed_says_so(a_job: Callable[..., Job], now: Now) -> None:
    told = waiting_for(a_job(JobState.SUSPENDED, is_completing=True), [], now)
    assert told is not None
    assert "being completed" in told.reason
