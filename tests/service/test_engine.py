"""The manager's loop: effects and answers follow the commit, a failed commit stops it, conditions are tried again."""

import asyncio

import pytest
from tests.service.enginebench import Bench

from openbits.core import codes, events
from openbits.core.enums import ErrorContext, JobState
from openbits.core.errors import BitsError
from openbits.core.model import JobError
from openbits.service.engine import CONDITION_SECONDS


def test_nothing_is_started_or_answered_before_it_is_on_the_disk() -> None:
    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        await bench.settle()  # the scheduler grants the slot: in memory the job is CONNECTING
        assert record.job.state is JobState.CONNECTING
        answer = bench.engine.apply(record, events.Suspend())
        await bench.settle()
        assert bench.hands.effects == []
        assert not answer.done()
        bench.disk.commit()
        await bench.settle()
        assert bench.hands.effects == [events.StartTransfer(0, 1), events.StopTransfer()]
        assert answer.done()

    asyncio.run(story())


def test_a_failed_commit_is_reported_and_nothing_is_carried_out() -> None:
    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        answer = bench.engine.apply(record, events.Suspend())
        bench.disk.fail()
        await bench.settle()
        assert [str(error) for error in bench.failures[:1]] == ["disk full"]
        assert bench.hands.effects == []
        with pytest.raises(BitsError, match="nothing was changed"):
            await answer

    asyncio.run(story())


def test_a_condition_that_ended_is_found_by_trying_again_after_a_minute() -> None:
    """BG_E_NETWORK_DISCONNECTED has no retry timer (jobs.md §3.5), yet the job must go on by itself (P12)."""

    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        await bench.settle()
        error = JobError(code=codes.BG_E_NETWORK_DISCONNECTED, context=ErrorContext.GENERAL_TRANSPORT)
        bench.engine.apply(record, events.Blocked(error=error))
        assert record.job.retry_at is None
        states = [record.job.state.name]
        for step in (CONDITION_SECONDS - 0.1, 0.1):
            bench.boot += step
            bench.engine._timer_ran_out()
            states.append(record.job.state.name)
        assert states == ["TRANSIENT_ERROR", "TRANSIENT_ERROR", "QUEUED"]

    asyncio.run(story())


def test_event_numbers_have_no_gap_and_go_to_the_store_with_their_step() -> None:
    async def story() -> None:
        bench = Bench()
        bench.queued_job()
        await bench.settle()
        stored = [change.event for changes, _ in bench.disk.waiting for change in changes if hasattr(change, "event")]
        assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
        assert [event.kind for event in stored] == ["created", "files-added", "state", "state"]

    asyncio.run(story())
