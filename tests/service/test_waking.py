"""A start that has to look at many jobs (T25) looks at them part by part, and serves meanwhile."""

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest
from tests.service.enginebench import HERE, Bench, a_job

from openbits.core import events
from openbits.core.enums import JobState, Priority, TokenFlags
from openbits.core.model import Leftover, Temporary
from openbits.service.engine import LONGEST_WAIT_SECONDS, WAKE_SLICE

HELPED: dict[str, Any] = {"helper_token_flags": TokenFlags.LOCAL_FILE, "had_helper_token": True}
"""A restart ends the token of such a job, and the job is in ERROR from then on."""


def asleep(bench: Bench) -> int:
    """How many jobs still are as the last service left them."""
    return sum(record.state.is_active for record in bench.engine.records.values()) - len(bench.engine._index.active)


def test_a_slice_is_on_the_disk_before_the_next_is_read() -> None:
    async def story() -> None:
        bench = Bench()
        bench.load([a_job(JobState.TRANSFERRING) for _ in range(3 * WAKE_SLICE)])
        assert asleep(bench) == 2 * WAKE_SLICE
        waking = asyncio.create_task(bench.engine.wake_all())
        await bench.settle()
        assert asleep(bench) == WAKE_SLICE  # the second slice waits for its commit
        assert len(bench.disk.reads) == 2 * WAKE_SLICE
        for _ in range(3):
            await bench.commits()
        assert asleep(bench) == 0
        assert waking.done()

    asyncio.run(story())


def test_whoever_asks_for_a_job_does_not_wait_for_its_turn() -> None:
    async def story() -> None:
        bench = Bench()
        jobs = [a_job(JobState.TRANSFERRING) for _ in range(WAKE_SLICE + 8)]
        jobs.append(replace(jobs[0], job_id=uuid.uuid4(), **HELPED))
        bench.load(jobs)
        asked, later, changed = (bench.engine.records[job.job_id] for job in jobs[-3:])
        assert bench.engine.info(asked)["state"] == "queued"
        bench.engine.apply(changed, events.SetProperties(properties=changed.job.properties))
        assert changed.state is JobState.ERROR  # its helper token ended with the service
        assert later.state is JobState.TRANSFERRING
        assert asleep(bench) == 7

    asyncio.run(story())


def test_they_are_queued_in_the_order_of_their_creation_whenever_they_wake() -> None:
    async def story() -> None:
        bench = Bench()
        jobs = [a_job(JobState.TRANSFERRING, priority=Priority.LOW) for _ in range(2 * WAKE_SLICE)]
        bench.load(jobs)
        bench.boot += 5
        newcomer = replace(bench.queued_job().job, properties=jobs[0].properties)
        record = bench.engine.records[newcomer.job_id]
        bench.engine.apply(record, events.SetProperties(properties=newcomer.properties))
        bench.boot += 5
        bench.engine.wake(bench.engine.records[jobs[-1].job_id])
        waking = asyncio.create_task(bench.engine.wake_all())
        await bench.settle()
        line = bench.engine._index.heads(dict.fromkeys(Priority, 2 * WAKE_SLICE + 1))
        active = {record.job_id for record in bench.engine._index.active.values()}
        order = [record.job_id for record in line]
        assert order == [job.job_id for job in [*jobs, newcomer] if job.job_id not in active]
        waking.cancel()

    asyncio.run(story())


def test_a_job_whose_helper_token_ended_with_the_service_gets_no_slot() -> None:
    """It is QUEUED in the store, so the scheduler sees it before its turn to wake has come (T18)."""

    async def story() -> None:
        bench = Bench()
        others = [a_job(JobState.TRANSFERRING, priority=Priority.LOW) for _ in range(WAKE_SLICE)]
        helped = replace(a_job(JobState.QUEUED, priority=Priority.FOREGROUND), **HELPED)
        broken: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
        bench.load([*others, helped])
        await bench.commits()
        assert broken == []
        assert bench.engine.records[helped.job_id].state is JobState.ERROR
        started = [effect for effect in bench.hands.effects if isinstance(effect, events.StartTransfer)]
        assert len(started) == 1  # of the others

    asyncio.run(story())


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_nobody_is_dismissed_of_whom_a_sleeping_job_may_have_a_file(*, is_asked_for: bool) -> None:
    async def story() -> None:
        bench, gone = Bench(), list[int]()
        bench.engine._on_owner_gone = gone.append
        temporary = Temporary(name=".BIT1.tmp", dev=1, ino=3, birth_ns=4, uid=1007, by_helper=False)
        littering = replace(a_job(JobState.SUSPENDED), leftovers=(Leftover(directory=HERE, temporary=temporary),))
        last_of_1007 = a_job(JobState.SUSPENDED, owner_uid=1007)
        last_of_1008 = a_job(JobState.SUSPENDED, owner_uid=1008)
        sleepers = [a_job(JobState.TRANSFERRING) for _ in range(WAKE_SLICE)]
        bench.load([*sleepers, littering, last_of_1007, last_of_1008])
        for job in (last_of_1007, last_of_1008):
            bench.engine.apply(bench.engine.records[job.job_id], events.Cancel())
        assert gone == []
        if is_asked_for:
            for record in bench.engine.records.values():
                bench.engine.info(record)
        waking = asyncio.create_task(bench.engine.wake_all())
        await bench.commits()
        await waking
        assert gone == [1008]

    asyncio.run(story())


def test_timers_are_looked_at_again_after_the_machine_has_slept() -> None:
    """The clock of the loop stands during sleep: no wait may be longer than a minute of it."""

    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        await bench.settle()
        assert record.state is JobState.CONNECTING  # 90 days of download time begin
        timer = bench.engine._timer
        assert timer is not None
        assert timer.when() - asyncio.get_running_loop().time() <= LONGEST_WAIT_SECONDS == 60

    asyncio.run(story())


def test_the_engine_rings_when_the_policy_becomes_shorter() -> None:
    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        await bench.settle()
        assert record.state.is_active
        bench.boot += 30
        bench.engine.set_policies(replace(bench.engine.policies, max_download_seconds=20))
        bench.engine._timer_ran_out()
        assert record.state is JobState.ERROR
        assert record.job.error is not None
        assert record.job.error.code == 0x80200054

    asyncio.run(story())
