"""The timers of jobs.md §3.4, as typed instants: when each rings, what sets it back, what a restart keeps.

Instants are seconds after `now`, on the boot clock; nothing here sleeps.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from openbits.core import codes, events, timers
from openbits.core.enums import JobState
from openbits.core.lifecycle import step, wakes
from openbits.core.model import Job, JobError, Now
from openbits.core.policies import DEFAULTS, Policies
from openbits.core.properties import Properties

DAY = 86_400
QUARTER = Policies(max_download_seconds=900)
MINUTE = 60.0


def at(now: Now, seconds: float) -> Now:
    """Both clocks have moved on by as much."""
    return Now(wall=now.wall + seconds, boot=now.boot + seconds)


def lived(job: Job, story: Sequence[tuple[float, events.Event]], now: Now) -> Job:
    """The job after these events, each at its time."""
    for seconds, event in story:
        job, _ = step(job, event, at(now, seconds))
    return job


def granted(job: Job) -> list[tuple[float, events.Event]]:
    """Resumed at 0, and running from 100 on."""
    assert job.state is JobState.SUSPENDED
    return [(0, events.Resume()), (100, events.SlotGranted())]


def connected(epoch: int, job: Job) -> events.Connected:
    return events.Connected(epoch=epoch, file_index=0, validators=job.files[0].validators, size_bytes=1000, note="")


# -- maximum download time (T17) -------------------------------------------------------------------------------------


@pytest.fixture
def job(a_job: Callable[..., Job]) -> Job:
    return a_job(JobState.SUSPENDED)


def test_the_download_time_counts_connecting_and_transferring_alone(job: Job, now: Now) -> None:
    running = lived(job, granted(job), now)
    assert timers.next_timer(running, QUARTER) == now.boot + 100 + 900
    moving = lived(running, [(150, connected(1, job))], now)
    assert moving.state is JobState.TRANSFERRING
    assert timers.next_timer(moving, QUARTER) == now.boot + 100 + 900
    waiting = lived(moving, [(300, events.SlotRevoked())], now)
    assert waiting.state is JobState.QUEUED
    assert timers.next_timer(waiting, QUARTER) is None
    assert timers.transferred_for(waiting, at(now, 5000)) == 200
    again = lived(waiting, [(5000, events.SlotGranted())], now)
    assert timers.next_timer(again, QUARTER) == now.boot + 5000 + 700


def test_time_in_a_transient_error_does_not_count(job: Job, now: Now, an_error: Callable[..., JobError]) -> None:
    failed = lived(job, [*granted(job), (160, events.AttemptFailed(epoch=1, error=an_error()))], now)
    assert failed.state is JobState.TRANSIENT_ERROR
    assert timers.transferred_for(failed, at(now, 9999)) == 60


def test_time_asleep_counts(job: Job, now: Now) -> None:
    """The boot clock runs through sleep; nothing else tells that time has passed."""
    running = lived(job, granted(job), now)
    after_sleep = Now(wall=now.wall + 100, boot=now.boot + 100 + 901)
    assert timers.timer_event(running, after_sleep, QUARTER) == events.TransferTimeExceeded()


@pytest.mark.parametrize("state", [JobState.CONNECTING, JobState.TRANSFERRING])
def test_when_the_time_is_up_the_job_fails(job: Job, now: Now, state: JobState) -> None:
    running = lived(job, granted(job), now)
    if state is JobState.TRANSFERRING:
        running = lived(running, [(150, connected(1, job))], now)
    assert running.state is state
    assert timers.timer_event(running, at(now, 999.9), QUARTER) is None
    event = timers.timer_event(running, at(now, 1000), QUARTER)
    assert event == events.TransferTimeExceeded()
    failed, effects = step(running, event, at(now, 1000))
    assert failed.state is JobState.ERROR
    assert failed.error is not None
    assert failed.error.code == 0x80200054  # BG_E_MAXDOWNLOAD_TIMEOUT
    assert failed.error.detail == "the job was connecting and transferring for 900 s altogether"
    assert events.StopTransfer() in effects
    assert timers.next_timer(failed, QUARTER) is None


def test_resume_sets_the_time_to_0_and_the_same_time_is_there_again(job: Job, now: Now) -> None:
    failed = lived(job, [*granted(job), (1000, events.TransferTimeExceeded())], now)
    assert timers.transferred_for(failed, at(now, 2000)) == 900
    again = lived(failed, [(2000, events.Resume()), (2000, events.SlotGranted())], now)
    assert timers.next_timer(again, QUARTER) == now.boot + 2000 + 900


def test_resume_of_a_job_that_runs_changes_nothing(job: Job, now: Now) -> None:
    running = lived(job, [*granted(job), (500, events.Resume())], now)
    assert timers.next_timer(running, QUARTER) == now.boot + 100 + 900


@pytest.mark.parametrize(
    ("own", "policies", "seconds"),
    [
        (None, DEFAULTS, 90 * DAY),
        (None, QUARTER, 900),
        (7, QUARTER, 7),
        (1800, QUARTER, 1800),
        ((1 << 32) - 1, DEFAULTS, (1 << 32) - 1),
    ],
)
def test_the_value_of_the_job_goes_before_that_of_the_policy(
    job: Job, now: Now, own: int | None, policies: Policies, seconds: int
) -> None:
    mine = replace(job, properties=Properties(maximum_download_seconds=own))
    assert timers.maximum_download_seconds(mine, policies) == seconds
    assert timers.next_timer(lived(mine, granted(job), now), policies) == now.boot + 100 + seconds


def test_a_value_below_what_was_used_ends_the_job_at_once(job: Job, now: Now) -> None:
    running = lived(job, granted(job), now)
    shorter = events.SetProperties(properties=Properties(maximum_download_seconds=5))
    changed = lived(running, [(400, shorter)], now)
    assert changed.state.is_active
    assert timers.timer_event(changed, at(now, 400), DEFAULTS) == events.TransferTimeExceeded()


def test_what_a_crash_forgets_of_the_download_time_is_what_came_after_the_last_bytes(job: Job, now: Now) -> None:
    story = [*granted(job), (150, connected(1, job)), (400, progressed(10)), (450, progressed(20))]
    running = lived(job, story, now)
    stored = replace(running, transferring_since=None)  # boot-clock instants are not in the store
    after = lived(stored, [(9000, events.ServiceRestarted()), (9000, events.SlotGranted())], now)
    assert timers.next_timer(after, QUARTER) == now.boot + 9000 + (900 - 350)


def progressed(count: int) -> events.Progressed:
    return events.Progressed(epoch=1, file_index=0, transferred_bytes=count)


# -- no progress and retry (T13, T14) ---------------------------------------------------------------------------------


def test_the_no_progress_time_runs_from_the_first_failure_and_any_byte_sets_it_back(
    job: Job, now: Now, an_error: Callable[..., JobError]
) -> None:
    def failed(epoch: int) -> events.AttemptFailed:
        return events.AttemptFailed(epoch=epoch, error=an_error())

    story = [*granted(job), (160, failed(1)), (170, events.RetryDue()), (170, events.SlotGranted()), (200, failed(2))]
    twice = lived(job, story, now)
    assert timers.gives_up_at(twice) == now.boot + 160 + 14 * DAY
    story = [(300, events.RetryDue()), (300, events.SlotGranted())]
    third = lived(twice, story, now)
    moved = lived(third, [(310, events.Progressed(epoch=3, file_index=0, transferred_bytes=1))], now)
    assert timers.gives_up_at(moved) is None
    assert timers.gives_up_at(lived(moved, [(400, failed(3))], now)) == now.boot + 400 + 14 * DAY


def test_resume_starts_the_no_progress_time_anew(job: Job, now: Now, an_error: Callable[..., JobError]) -> None:
    failed = lived(job, [*granted(job), (160, events.AttemptFailed(epoch=1, error=an_error()))], now)
    assert timers.gives_up_at(lived(failed, [(1000, events.Resume())], now)) is None


def test_a_retry_delay_beyond_the_no_progress_timeout_is_never_waited_for(
    job: Job, now: Now, an_error: Callable[..., JobError]
) -> None:
    limits = Properties(minimum_retry_delay_seconds=601, no_progress_timeout_seconds=600)
    running = lived(replace(job, properties=limits), granted(job), now)
    failed = lived(running, [(160, events.AttemptFailed(epoch=1, error=an_error()))], now)
    assert failed.state is JobState.ERROR
    assert failed.error == an_error()  # OPEN-10: the last error stays


def test_while_a_condition_blocks_the_no_progress_time_stands(
    job: Job, now: Now, an_error: Callable[..., JobError]
) -> None:
    """OPEN-07. A thousand days later nothing is given up, and what had run before goes on after that."""
    failed = lived(job, [*granted(job), (160, events.AttemptFailed(epoch=1, error=an_error()))], now)
    tried = lived(failed, [(170, events.RetryDue()), (170, events.SlotGranted())], now)
    blocked = lived(tried, [(260, events.Blocked(error=an_error(codes.BG_E_NETWORK_DISCONNECTED)))], now)
    assert blocked.state is JobState.TRANSIENT_ERROR
    assert timers.next_timer(blocked) is None
    later = 1000 * DAY
    story = [(later, events.RetryDue()), (later, events.SlotGranted())]
    again = lived(lived(blocked, story, now), [(later, events.AttemptFailed(epoch=3, error=an_error()))], now)
    assert timers.gives_up_at(again) == now.boot + later + 14 * DAY - 100


def test_a_restart_keeps_what_had_passed_at_the_last_failure(
    job: Job, now: Now, an_error: Callable[..., JobError]
) -> None:
    story = [*granted(job), (160, events.AttemptFailed(epoch=1, error=an_error())), (170, events.RetryDue())]
    story += [(170, events.SlotGranted()), (460, events.AttemptFailed(epoch=2, error=an_error()))]
    stored = replace(lived(job, story, now), retry_at=None, stalled_since=None)
    rebooted = Now(wall=now.wall + 5 * DAY, boot=30.0)  # the boot clock begins anew
    after, _ = step(stored, events.ServiceRestarted(), rebooted)
    assert timers.gives_up_at(after) == 30.0 + 14 * DAY - 300


def test_every_change_of_state_puts_down_what_the_no_progress_clock_has_counted(
    job: Job, now: Now, an_error: Callable[..., JobError]
) -> None:
    """The store has the spans and not the instants: a service that is killed while the job waits in the queue."""
    story = [*granted(job), (160, events.AttemptFailed(epoch=1, error=an_error())), (760, events.RetryDue())]
    stored = replace(lived(job, story, now), stalled_since=None)
    after, _ = step(stored, events.ServiceRestarted(), at(now, 9000))
    assert timers.gives_up_at(after) == now.boot + 9000 + 14 * DAY - 600


def test_giving_up_goes_before_trying_again(a_job: Callable[..., Job], now: Now) -> None:
    job = a_job(JobState.TRANSIENT_ERROR, retry_at=now.boot + 60, stalled_since=now.boot - 14 * DAY + 60)
    assert timers.timer_event(job, at(now, 60)) == events.NoProgressExpired()


# -- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-10 * 365 * DAY, -3600, 3600, 10 * 365 * DAY])
def test_setting_the_wall_clock_moves_no_timer(
    job: Job, now: Now, an_error: Callable[..., JobError], jump: float
) -> None:
    def of(story: Sequence[tuple[float, events.Event]], *, jumps: float) -> list[float | None]:
        present, found = job, []
        for seconds, event in story:
            moment = at(now, seconds)
            present, _ = step(present, event, Now(wall=moment.wall + jumps, boot=moment.boot))
            found += [timers.next_timer(present, QUARTER), timers.gives_up_at(present)]
        return found

    failed = events.AttemptFailed(epoch=1, error=an_error())
    story = [*granted(job), (150, connected(1, job)), (400, progressed(10)), (500, failed), (501, events.RetryDue())]
    assert of(story, jumps=jump) == of(story, jumps=0)


# -- inactivity (T23) -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "announced"), [(1, DAY * 0.9), (10, 9 * DAY), (90, 83 * DAY), (999, 992 * DAY)])
def test_a_job_expires_after_the_days_of_the_policy_and_is_announced_before(days: int, announced: float) -> None:
    policies = Policies(job_inactivity_days=days)
    assert timers.expires_at(1000.0, policies) == 1000.0 + days * DAY
    assert timers.is_announced_at(1000.0, policies) == pytest.approx(1000.0 + announced)


def test_the_time_in_which_no_service_ran_is_that_of_the_wall_clock(now: Now) -> None:
    assert timers.last_change_at(now.wall - 30 * DAY, now) == now.boot - 30 * DAY
    assert timers.last_change_at(now.wall + 3600, now) == now.boot  # somebody has set the clock back: no time passed


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
def test_inactivity_ends_a_job_in_every_state(a_job: Callable[..., Job], now: Now, state: JobState) -> None:
    job = a_job(state)
    after, effects = step(job, events.InactivityExpired(), now)
    assert after.state is JobState.CANCELLED
    has_temporary = any(file.temporary is not None for file in job.files)
    assert (events.RemoveTemporaries() in effects) is has_temporary


def test_every_received_byte_is_a_modification_and_a_restart_is_none(job: Job, now: Now) -> None:
    running = lived(job, [*granted(job), (150, connected(1, job)), (400, progressed(10))], now)
    assert running.modified_at == now.wall + 400
    after = lived(running, [(9000, events.ServiceRestarted())], now)
    assert after.state is JobState.QUEUED
    assert after.modified_at == now.wall + 400


def test_a_start_needs_not_look_at_a_job_for_the_time_it_has_used(job: Job, now: Now) -> None:
    waiting = lived(job, [*granted(job), (150, events.SlotRevoked())], now)
    assert waiting.transfer_seconds == 50
    assert not wakes(waiting)
