"""Jobs that are in memory only while somebody needs them: never two versions of one, and nothing is lost."""

import asyncio
import uuid
from dataclasses import replace

import pytest
from tests.service.enginebench import HERE, Bench, a_job

from openbits.core import codes, events, lifecycle
from openbits.core.enums import ErrorContext, JobState, Notice, TokenFlags
from openbits.core.errors import BitsError
from openbits.core.model import Job, JobError, JobId, Leftover, Temporary
from openbits.core.properties import Properties
from openbits.service import record as records
from openbits.store.changes import StoreDamagedError


@pytest.fixture
def small_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for one job with one file."""
    monkeypatch.setattr(records, "KEPT", 2)


@pytest.fixture
def every_stored() -> list[Job]:
    """Jobs of every state, and all that a restart asks about."""
    temporary = Temporary(name=".BIT1.tmp", dev=1, ino=3, birth_ns=4, uid=1000, by_helper=False)
    leftover = Leftover(directory=HERE, temporary=replace(temporary, name=".BIT2.tmp"))
    jobs = []
    for state in JobState:
        job = a_job(state)
        half = replace(job.files[0], temporary=temporary)
        whole = replace(half, is_transferred=True)
        jobs += [
            replace(job, files=(half,)),
            replace(job, files=(whole,), properties=Properties(auto_complete=True)),
            replace(job, helper_token_flags=TokenFlags.NETWORK, had_helper_token=True),
            replace(job, stalled_seconds=7.0, leftovers=(leftover,)),
            replace(job, pending_notice=Notice.ERROR, notice_seq=3),
        ]
        if state in {JobState.SUSPENDED, JobState.ERROR, JobState.TRANSFERRED}:
            jobs.append(replace(job, files=(whole,), is_completing=True))
    return [replace(job, job_id=uuid.uuid4()) for job in jobs if not lifecycle.is_forgotten(job)]


async def committed(bench: Bench) -> None:
    await bench.settle()
    bench.disk.commit()
    await bench.settle()


@pytest.mark.usefixtures("small_shelf")
def test_an_idle_job_makes_room_and_comes_back_with_its_instants() -> None:
    async def story() -> None:
        bench = Bench()
        record, other = bench.queued_job(), bench.queued_job()
        await committed(bench)
        error = JobError(code=codes.BG_E_CONNECT_FAILURE, context=ErrorContext.GENERAL_TRANSPORT)
        failed = events.AttemptFailed(epoch=record.job.epoch, error=error)
        bench.engine.apply(record, failed)
        before = record.job
        assert before.state is JobState.TRANSIENT_ERROR
        await committed(bench)
        bench.engine.apply(other, events.Suspend())
        await committed(bench)

        assert other.job.state is JobState.SUSPENDED
        assert record._job is None
        assert before.retry_at is not None
        assert record.job == before
        assert record.job_id in bench.disk.reads

    asyncio.run(story())


def test_a_job_that_changes_takes_the_room_of_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happened to it before, there is room for another one of its size."""
    monkeypatch.setattr(records, "KEPT", 4)

    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        await committed(bench)
        for number in range(20):
            event = events.SetProperties(properties=replace(record.job.properties, display_name=str(number)))
            await asyncio.gather(bench.engine.apply(record, event), committed(bench))
        bench.engine.apply(record, events.Suspend())
        await committed(bench)
        other = bench.queued_job()
        bench.engine.apply(other, events.Suspend())
        await committed(bench)
        reads = len(bench.disk.reads)
        assert (record.job.state, other.job.state) == (JobState.SUSPENDED, JobState.SUSPENDED)
        assert len(bench.disk.reads) == reads

    asyncio.run(story())


@pytest.mark.usefixtures("small_shelf")
def test_a_job_stays_in_memory_until_it_is_on_the_disk() -> None:
    async def story() -> None:
        bench = Bench()
        crowd = [bench.queued_job() for _ in range(5)]
        for record in crowd:
            bench.engine.apply(record, events.Suspend())
        await bench.settle()
        assert [record.job.state for record in crowd] == [JobState.SUSPENDED] * 5
        assert bench.disk.reads == []
        await committed(bench)
        for record in crowd:
            bench.engine.apply(record, events.Resume())
        assert sum(record._job is not None for record in crowd) == 5
        await committed(bench)
        bench.queued_job()
        assert sum(record._job is not None for record in crowd) < 5
        assert [record.job.was_resumed for record in crowd] == [True] * 5

    asyncio.run(story())


@pytest.mark.usefixtures("small_shelf")
def test_a_job_with_names_that_are_not_stored_stays_in_memory() -> None:
    """SetRemoteName is durable with the next Resume (jobs.md §7.11): the store does not know the name before."""

    async def story() -> None:
        bench = Bench()
        renamed, plain = bench.queued_job(), bench.queued_job()
        for record in (renamed, plain):
            bench.engine.apply(record, events.Suspend())
        bench.engine.apply(renamed, events.SetRemoteNames(names=((0, "https://mirror.example/a"),)))
        await committed(bench)
        for _ in range(5):
            bench.engine.apply(bench.queued_job(), events.Suspend())
        await committed(bench)
        assert plain._job is None
        assert renamed._job is not None
        assert renamed.job.files[0].present_remote_name == "https://mirror.example/a"
        bench.engine.apply(renamed, events.Resume())
        bench.engine.apply(renamed, events.Suspend())
        await committed(bench)
        for _ in range(5):
            bench.engine.apply(bench.queued_job(), events.Suspend())
        await committed(bench)
        assert renamed._job is None

    asyncio.run(story())


@pytest.mark.usefixtures("small_shelf")
def test_a_forgotten_job_can_still_be_read_by_who_holds_it() -> None:
    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        bench.engine.apply(record, events.Cancel())
        await committed(bench)
        for _ in range(5):
            bench.engine.apply(bench.queued_job(), events.Suspend())
        await committed(bench)
        assert record.job.state is JobState.CANCELLED
        assert record.job_id not in bench.disk.reads

    asyncio.run(story())


def test_the_start_with_few_jobs_in_memory_is_the_start_with_all_of_them(every_stored: list[Job]) -> None:
    """`lifecycle.step` with ServiceRestarted on every job is the model (T25)."""

    async def story() -> None:
        bench = Bench()
        bench.load(every_stored)
        restarted, now = events.ServiceRestarted(), bench.engine.now()
        for record in list(bench.engine.records.values()):
            bench.engine.wake(record)
        stepped = {job_id: lifecycle.step(job, restarted, now) for job_id, job in bench.disk.jobs.items()}
        assert {job_id: record.job for job_id, record in bench.engine.records.items()} == {
            job_id: after for job_id, (after, _) in stepped.items()
        }
        wanted = [effect for _, effects in stepped.values() for effect in effects]
        for record in list(bench.engine.records.values()):
            if record.state is JobState.QUEUED:  # or the scheduler begins
                bench.engine.apply(record, events.Suspend())
        await committed(bench)
        assert bench.hands.effects == wanted

    asyncio.run(story())


def test_a_job_that_cannot_be_read_stops_the_manager_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        bench = Bench()

        def damaged(_job_id: JobId) -> Job:
            raise StoreDamagedError("cannot read the store /q: it is damaged")

        monkeypatch.setattr(bench.engine, "_read_job", damaged)
        bench.load([a_job(JobState.SUSPENDED)])
        [record] = bench.engine.records.values()
        with pytest.raises(BitsError, match="it is damaged") as refused:
            bench.engine.info(record)
        assert refused.value.hresult == codes.BG_E_DATABASE_CORRUPT
        assert [type(failure) for failure in bench.failures] == [StoreDamagedError]

    asyncio.run(story())
