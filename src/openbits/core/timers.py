"""The timers of a job (jobs.md §3.4): when each runs out, and what happens to the job then.

Pure. All instants are of the boot clock, which runs while the machine sleeps and which nobody can set: moving the wall
clock neither shortens nor lengthens anything. What has to survive a restart of the service is stored as a span that has
passed (`Job.stalled_seconds`, `Job.transfer_seconds`), in the case of inactivity as the wall-clock time of the last
change: only over the time in which no service ran does the wall clock count.
"""

from collections.abc import Callable
from dataclasses import dataclass

from openbits.core import events
from openbits.core.enums import JobState
from openbits.core.events import Event
from openbits.core.model import Job, Now
from openbits.core.policies import DEFAULTS, Policies

DAY_SECONDS = 86_400.0

ANNOUNCED_PART = 0.1
ANNOUNCED_SECONDS = 7 * DAY_SECONDS
"""The end by inactivity is announced for the last tenth of the time, but not longer before than this."""

_ACTIVE = frozenset(state for state in JobState if state.is_active)
_WAITING = frozenset({JobState.TRANSIENT_ERROR})


def gives_up_at(job: Job) -> float | None:
    """When the no-progress timeout of the job runs out (T14); None while its clock stands."""
    if job.stalled_since is None:
        return None
    return job.stalled_since + max(0.0, job.properties.no_progress_timeout_seconds - job.stalled_seconds)


def transferred_for(job: Job, now: Now) -> float:
    """Seconds that the job was connecting and transferring since the last Resume that made it runnable."""
    return job.transfer_seconds + (now.boot - job.transferring_since if job.transferring_since is not None else 0.0)


def maximum_download_seconds(job: Job, policies: Policies) -> int:
    """The maximum download time that holds for the job: its own value before that of the policy."""
    own = job.properties.maximum_download_seconds
    return policies.max_download_seconds if own is None else own


def time_is_up_at(job: Job, policies: Policies) -> float | None:
    """When an active job has used up its maximum download time (T17); None while that clock stands."""
    if job.transferring_since is None:
        return None
    return job.transferring_since + max(0.0, maximum_download_seconds(job, policies) - job.transfer_seconds)


@dataclass(frozen=True, slots=True)
class Timer:
    """One row: what happens, in which states it can, and when."""

    event: type[Event]
    states: frozenset[JobState]
    due_at: Callable[[Job, Policies], float | None]


TIMERS = (
    Timer(events.NoProgressExpired, _WAITING, lambda job, _: gives_up_at(job)),
    Timer(events.RetryDue, _WAITING, lambda job, _: job.retry_at),
    Timer(events.TransferTimeExceeded, _ACTIVE, time_is_up_at),
)
"""All timers of which each job has its own; of those that have run out, the first one rings: giving up (T14) goes
before trying again (T13)."""


def next_timer(job: Job, policies: Policies = DEFAULTS) -> float | None:
    """Boot-clock time at which `timer_event` has something to say; None if no timer runs."""
    return min((due_at for _, due_at in _running(job, policies)), default=None)


def timer_event(job: Job, now: Now, policies: Policies = DEFAULTS) -> Event | None:
    """The event of the timer that has run out."""
    return next((timer.event() for timer, due_at in _running(job, policies) if due_at <= now.boot), None)


def _running(job: Job, policies: Policies) -> list[tuple[Timer, float]]:
    rows = ((timer, timer.due_at(job, policies)) for timer in TIMERS if job.state in timer.states)
    return [(timer, due_at) for timer, due_at in rows if due_at is not None]


# Inactivity: one clock for every job that is not final, whatever its state, kept beside the job (100,000 of them wait).


def last_change_at(modified_at: float, now: Now) -> float:
    """The boot-clock time that stands for a stored `modified_at`, which may be before the machine was started."""
    return now.boot - max(0.0, now.wall - modified_at)


def expires_at(changed_at: float, policies: Policies) -> float:
    """When a job that was last changed at this instant is cancelled for inactivity (T23)."""
    return changed_at + policies.job_inactivity_days * DAY_SECONDS


def is_announced_at(changed_at: float, policies: Policies) -> float:
    """From when on the service says that it is going to happen."""
    whole = policies.job_inactivity_days * DAY_SECONDS
    return changed_at + whole - min(whole * ANNOUNCED_PART, ANNOUNCED_SECONDS)
