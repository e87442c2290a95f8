"""Durations are of the boot clock: setting the wall clock, or a time zone, moves no retry and no timeout (P11)."""

import os
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from openbits.core import events, lifecycle, timers
from openbits.core.enums import JobState
from openbits.core.model import Job, JobError, Now

YEARS = 365.0 * 86_400

pytestmark = pytest.mark.attack(29)


@pytest.fixture
def waiting(a_job: Callable[..., Job], an_error: Callable[..., JobError], now: Now) -> Job:
    """A job that waits for its next attempt."""
    job = a_job(JobState.CONNECTING)
    failed, _ = lifecycle.step(job, events.AttemptFailed(epoch=job.epoch, error=an_error()), now)
    assert failed.state is JobState.TRANSIENT_ERROR
    return failed


@pytest.mark.parametrize("step", [-10 * YEARS, -3600.0, -1.0, 1.0, 3600.0, 10 * YEARS])
def test_a_step_of_the_wall_clock_moves_no_timer(step: float, waiting: Job, now: Now) -> None:
    due_at = lifecycle.next_timer(waiting)
    assert due_at is not None
    early, late = Now(now.wall + step, due_at - 0.5), Now(now.wall + step, due_at)
    assert lifecycle.timer_event(waiting, early) is None
    assert isinstance(lifecycle.timer_event(waiting, late), events.RetryDue)


@pytest.mark.parametrize("step", [-10 * YEARS, 10 * YEARS])
def test_a_step_of_the_wall_clock_ends_no_patience(step: float, waiting: Job, now: Now) -> None:
    limit = timers.gives_up_at(waiting)
    assert limit == now.boot + waiting.properties.no_progress_timeout_seconds
    patient = replace(waiting, retry_at=limit + 1)
    assert lifecycle.timer_event(patient, Now(now.wall + step, limit - 1)) is None
    assert isinstance(lifecycle.timer_event(patient, Now(now.wall + step, limit)), events.NoProgressExpired)


def test_a_time_zone_moves_no_timer(waiting: Job, now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    due_at = lifecycle.next_timer(waiting)
    monkeypatch.setitem(os.environ, "TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert lifecycle.next_timer(waiting) == due_at
        assert due_at is not None
        assert lifecycle.timer_event(waiting, Now(now.wall, due_at - 0.5)) is None
    finally:
        monkeypatch.undo()
        time.tzset()
