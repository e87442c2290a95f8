"""Jobs that nobody touches: announced once, cancelled in time, whatever the wall clock says."""

import asyncio
from dataclasses import replace

import pytest
from tests.service.enginebench import Bench, a_job

from openbits.core import events
from openbits.core.enums import JobState, Priority
from openbits.core.model import Job, Now
from openbits.core.policies import Policies
from openbits.core.properties import Properties
from openbits.service.inactivity import READ_SLICE, Inactivity
from openbits.service.record import Record
from openbits.store.changes import AppendEvent

DAY = 86_400.0


def idle_for(days: float) -> float:
    """Of the bench's wall clock: when a job was modified that is idle for so long now."""
    return 1e9 + 1000.0 - days * DAY


def started(bench: Bench, *jobs: Job) -> tuple[Inactivity, list[Record]]:
    """A start that finds these jobs."""
    bench.load(jobs)
    inactivity, records = Inactivity(bench.engine), list(bench.engine.records.values())
    inactivity.begin()
    return inactivity, records


async def swept(bench: Bench, inactivity: Inactivity) -> list[str]:
    """Sweep once with a disk that takes everything; the kinds of the events that were stored."""
    kinds: list[str] = []
    sweeping = asyncio.create_task(inactivity.sweep())
    while True:
        await bench.settle()
        changes = [change for submitted, _ in bench.disk.waiting for change in submitted]
        kinds += [change.event.kind for change in changes if isinstance(change, AppendEvent)]
        bench.disk.commit()
        if sweeping.done():
            await sweeping
            return kinds


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
@pytest.mark.parametrize(
    ("days", "expected"), [(82.9, "untouched"), (83.1, "announced"), (89.9, "announced"), (90.0, "cancelled")]
)
def test_after_90_days_every_job_goes_and_a_week_before_it_is_announced(
    state: JobState, days: float, expected: str
) -> None:
    async def story() -> None:
        bench = Bench()
        inactivity, [record] = started(bench, replace(a_job(state), modified_at=idle_for(days)))
        kinds = await swept(bench, inactivity)
        assert (record.state is JobState.CANCELLED) is (expected == "cancelled")
        has_begun_to_run = record.state.is_active
        assert ("expiring" in kinds) is (expected == "announced" and not has_begun_to_run)

    asyncio.run(story())


def test_a_job_that_waits_for_its_turn_all_the_time_is_inactive_too() -> None:
    async def story() -> None:
        bench = Bench()
        first = a_job(JobState.QUEUED, priority=Priority.HIGH)
        waiting = replace(a_job(JobState.QUEUED, priority=Priority.LOW), modified_at=idle_for(89))
        inactivity, [runs, waits] = started(bench, replace(first, modified_at=idle_for(89)), waiting)
        await bench.settle()
        assert await swept(bench, inactivity) == ["state", "expiring"]
        bench.boot += DAY
        await swept(bench, inactivity)
        assert not runs.state.is_final
        assert waits.state is JobState.CANCELLED

    asyncio.run(story())


def test_it_is_announced_once_and_after_a_change_the_days_begin_anew() -> None:
    async def story() -> None:
        bench = Bench()
        inactivity, [record] = started(bench, replace(a_job(JobState.SUSPENDED), modified_at=idle_for(85)))
        assert await swept(bench, inactivity) == ["expiring"]
        assert await swept(bench, inactivity) == []
        waiting = bench.engine.info(record)["waiting"]
        assert waiting is not None
        assert "it is cancelled on 2001-09-14 02:03 UTC, after 90 days" in waiting["hint"]
        bench.engine.apply(record, events.SetProperties(properties=Properties(display_name="y")))
        waiting = bench.engine.info(record)["waiting"]
        assert waiting is not None
        assert "cancelled" not in waiting["hint"]
        bench.boot += 89 * DAY
        assert await swept(bench, inactivity) == ["changed", "expiring"]  # the first was still on its way to the disk
        bench.boot += DAY
        await swept(bench, inactivity)
        assert record.state is JobState.CANCELLED

    asyncio.run(story())


@pytest.mark.parametrize("jump_days", [-4000, 4000])
def test_setting_the_wall_clock_changes_nothing_while_the_service_runs(jump_days: int) -> None:
    async def story() -> None:
        bench = Bench()
        inactivity, [record] = started(bench, replace(a_job(JobState.SUSPENDED), modified_at=idle_for(80)))
        bench.engine.now = lambda: Now(wall=1e9 + bench.boot + jump_days * DAY, boot=bench.boot)
        bench.boot += 9.9 * DAY
        await swept(bench, inactivity)
        assert not record.state.is_final
        expires_at = bench.engine.info(record)["expires_at"]
        assert expires_at == pytest.approx(bench.engine.now().wall + 0.1 * DAY)
        bench.boot += 0.1 * DAY
        await swept(bench, inactivity)
        assert record.state is JobState.CANCELLED

    asyncio.run(story())


def test_a_wall_clock_that_was_set_back_while_no_service_ran_lets_no_time_pass() -> None:
    async def story() -> None:
        bench = Bench()
        _, [record] = started(bench, replace(a_job(JobState.SUSPENDED), modified_at=idle_for(-500)))
        expires_at = bench.engine.info(record)["expires_at"]
        assert expires_at == pytest.approx(bench.engine.now().wall + 90 * DAY)

    asyncio.run(story())


def test_the_policy_is_that_of_now() -> None:
    async def story() -> None:
        bench = Bench()
        inactivity, [record] = started(bench, replace(a_job(JobState.SUSPENDED), modified_at=idle_for(3)))
        assert await swept(bench, inactivity) == []
        bench.engine.set_policies(Policies(job_inactivity_days=2))
        await swept(bench, inactivity)
        assert record.state is JobState.CANCELLED

    asyncio.run(story())


def test_many_that_expire_at_once_go_part_by_part_and_the_rest_is_not_read() -> None:
    async def story() -> None:
        bench = Bench()
        old = [replace(a_job(JobState.SUSPENDED), modified_at=idle_for(91)) for _ in range(3 * READ_SLICE)]
        fresh = [replace(a_job(JobState.SUSPENDED), modified_at=idle_for(80)) for _ in range(100)]
        inactivity, _ = started(bench, *old, *fresh)
        assert len(bench.disk.reads) == READ_SLICE
        sweeping = asyncio.create_task(inactivity.sweep())
        await bench.settle()
        assert len(bench.disk.reads) == 2 * READ_SLICE  # then it waits for their commit
        while not sweeping.done():
            await bench.commits()
        assert set(bench.engine.records) == {job.job_id for job in fresh}
        assert set(bench.disk.reads) == {job.job_id for job in old}

    asyncio.run(story())


def test_many_that_are_announced_at_once_reach_the_store_part_by_part() -> None:
    async def story() -> None:
        bench = Bench()
        jobs = [replace(a_job(JobState.SUSPENDED), modified_at=idle_for(85)) for _ in range(3 * READ_SLICE)]
        inactivity, _ = started(bench, *jobs)
        sweeping = asyncio.create_task(inactivity.sweep())
        await bench.settle()
        assert len(bench.disk.waiting) == READ_SLICE
        while not sweeping.done():
            await bench.commits()
        assert bench.engine.stream.committed_seq == 3 * READ_SLICE

    asyncio.run(story())


def test_a_job_that_is_changed_before_its_turn_to_go_stays() -> None:
    async def story() -> None:
        bench = Bench()
        old = [replace(a_job(JobState.SUSPENDED), modified_at=idle_for(91)) for _ in range(READ_SLICE + 2)]
        inactivity, [*_, changed, untouched] = started(bench, *old)
        bench.engine.apply(changed, events.Resume())
        await swept(bench, inactivity)
        assert list(bench.engine.records) == [changed.job_id]
        assert untouched.state is JobState.CANCELLED

    asyncio.run(story())


def test_a_job_that_ends_before_its_turn_to_be_announced_is_not_heard_of_again() -> None:
    async def story() -> None:
        bench = Bench()
        jobs = [replace(a_job(JobState.SUSPENDED), modified_at=idle_for(85)) for _ in range(READ_SLICE + 1)]
        inactivity, [*_, last] = started(bench, *jobs)
        sweeping = asyncio.create_task(inactivity.sweep())
        await bench.settle()
        bench.engine.apply(last, events.Cancel())
        while not sweeping.done():
            await bench.commits()
        assert bench.engine.stream.committed_seq == READ_SLICE + len(["state", "removed"])

    asyncio.run(story())


def test_a_policy_that_changes_during_a_sweep_is_not_forgotten() -> None:
    async def story() -> None:
        bench = Bench()
        inactivity, [record] = started(bench, replace(a_job(JobState.SUSPENDED), modified_at=idle_for(85)))
        running = asyncio.create_task(inactivity.run())
        await bench.settle()
        assert bench.disk.waiting, "the sweep waits for the disk"
        bench.engine.set_policies(Policies(job_inactivity_days=10))
        inactivity.sweep_soon()
        for _ in range(3):
            await bench.commits()
        running.cancel()
        assert record.state is JobState.CANCELLED

    asyncio.run(story())
