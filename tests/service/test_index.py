"""What the engine looks at instead of the whole queue: the same decisions as from all of it, at a cost that stays."""

import asyncio
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.service.enginebench import HERE, Bench, a_job

from openbits.core import events, scheduler
from openbits.core.enums import JobState, Priority
from openbits.core.model import Identity, Job, Leftover, Temporary
from openbits.core.properties import Properties
from openbits.service import engine
from openbits.service.index import Ordered
from openbits.service.record import Record, Shelf

WAITS_OR_RUNS = (JobState.QUEUED, JobState.QUEUED, JobState.QUEUED, JobState.CONNECTING, JobState.TRANSFERRING)


Draw = tuple[JobState, int, Priority, str | None, float, float]

DRAWS = st.tuples(
    st.sampled_from(WAITS_OR_RUNS),
    st.integers(1, 3),
    st.sampled_from(Priority),
    st.sampled_from(["x", None]),
    st.sampled_from([900.0, 910.0, 930.0, 990.0]),
    st.sampled_from([880.0, 935.0, 940.0, 999.0]),
)
"""State, owner, level, what its server calls the version, queued at, active since."""


def engine_with(draws: list[Draw]) -> engine.Engine:
    made = Bench().engine
    for state, owner_uid, priority, etag, queued_at, active_since in draws:
        job = a_job(state, owner_uid=owner_uid, priority=priority, etag=etag)
        record = made._record(job.job_id, owner_uid, state, priority)
        record.job, record.queued_at = job, queued_at
        if state.is_active:
            record.active_since = record.last_served_at = active_since
            made._owners_served[owner_uid] = max(active_since, made._owners_served.get(owner_uid, 0.0))
        made._index.add(record)
        made._index.leave(record)
        made._index.enter(record)
    return made


@pytest.mark.parametrize("slots", [1, 2, 32])
def test_heads_of_lines_lead_to_the_decisions_of_the_whole_queue(slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`choose` with every job that waits or runs is the model."""
    settings = scheduler.Settings(max_foreground_jobs=slots)
    monkeypatch.setattr(engine, "SLOTS", engine.SLOTS | {Priority.FOREGROUND: slots})

    @given(st.lists(DRAWS, max_size=60), st.integers(0, 40))
    def check(draws: list[Draw], crowd: int) -> None:
        draws += [(JobState.QUEUED, 1, Priority.FOREGROUND, "x", 905.0, 0.0)] * crowd
        made = engine_with(draws)
        everybody = [made._candidate(record) for record in made.records.values()]

        model = scheduler.choose(everybody, 1000.0, settings)
        chosen = scheduler.choose(made.candidates(), 1000.0, settings)

        assert chosen.grant == model.grant
        assert set(chosen.revoke) == set(model.revoke)
        assert chosen.check_at == model.check_at

    check()


def test_what_a_change_costs_does_not_grow_with_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    async def looked_at(waiting: int) -> tuple[int, int]:
        """Jobs read from the store, and candidates made, while one of so many is suspended and resumed."""
        bench = Bench()
        jobs = [a_job(JobState.QUEUED, owner_uid=1 + n % 3, priority=Priority(n % 4)) for n in range(waiting)]
        bench.load(jobs)
        await bench.settle()
        bench.disk.commit()
        await bench.settle()
        made: list[Record] = []
        original = engine.Engine._candidate

        def counting(self: engine.Engine, record: Record) -> scheduler.Candidate:
            made.append(record)
            return original(self, record)

        monkeypatch.setattr(engine.Engine, "_candidate", counting)
        bench.disk.reads.clear()
        record = bench.engine.records[jobs[waiting // 2].job_id]
        for event in (events.Suspend(), events.Resume()):
            bench.engine.apply(record, event)
            await bench.settle()
            bench.disk.commit()
            await bench.settle()
        monkeypatch.undo()
        return len(bench.disk.reads), len(made)

    few, many = asyncio.run(looked_at(1_000)), asyncio.run(looked_at(10_000))

    assert few == many
    assert many[0] == 1


def test_a_start_reads_no_job_that_only_waits(every_state: list[Job]) -> None:
    async def story() -> None:
        bench = Bench()
        bench.load([a_job(JobState.QUEUED), a_job(JobState.SUSPENDED), *every_state])
        asleep = {JobState.QUEUED, JobState.SUSPENDED, JobState.ERROR, JobState.TRANSFERRED}
        assert {bench.disk.jobs[job_id].state for job_id in bench.disk.reads} == set(JobState) - asleep

    asyncio.run(story())


@pytest.fixture
def every_state() -> list[Job]:
    """One job of each state; final ones still have a temporary to be removed, no notice is pending."""
    temporary = Temporary(name=".BIT1.tmp", dev=1, ino=3, birth_ns=4, uid=1000, by_helper=False)
    jobs = [a_job(state) for state in JobState]
    return [replace(job, files=(replace(job.files[0], temporary=temporary),)) for job in jobs]


def test_after_a_start_the_one_who_has_waited_longest_is_served_first() -> None:
    async def story() -> None:
        bench = Bench()
        jobs = [replace(a_job(JobState.QUEUED), state_since=1e9 + since) for since in (500.0, 300.0, 700.0)]
        bench.load(jobs)
        late = bench.queued_job()
        order = [record.job_id for record in bench.engine._index.heads(dict.fromkeys(Priority, 9))]
        assert order == [jobs[1].job_id, jobs[0].job_id, jobs[2].job_id, late.job_id]

    asyncio.run(story())


def test_a_job_that_changes_hands_or_level_changes_its_line() -> None:
    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        root = Identity(uid=0, gid=0)
        bench.engine.apply(record, events.TakeOwnership(owner=root))
        bench.engine.apply(record, events.SetProperties(properties=Properties(priority=Priority.LOW)))
        assert list(bench.engine.owners) == [0]
        assert list(bench.engine.records_of(0)) == [record]
        [candidate] = bench.engine.candidates()
        assert (candidate.owner_uid, candidate.priority) == (0, Priority.LOW)
        await bench.settle()
        assert record.state is JobState.CONNECTING
        bench.engine.apply(record, events.Cancel())
        assert not bench.engine.owners
        assert bench.engine.candidates() == []

    asyncio.run(story())


def test_litter_is_found_by_the_uid_that_left_it() -> None:
    async def story() -> None:
        bench = Bench()
        temporary = Temporary(name=".BIT1.tmp", dev=1, ino=3, birth_ns=4, uid=1007, by_helper=True)
        leftover = Leftover(directory=HERE, temporary=temporary)
        littering = replace(a_job(JobState.SUSPENDED), leftovers=(leftover,))
        bench.load([a_job(JobState.SUSPENDED), littering])
        assert [record.job_id for record in bench.engine.littered(1007)] == [littering.job_id]
        assert bench.engine.littered(1000) == []
        [record] = bench.engine.littered(1007)
        bench.engine.apply(record, events.TemporariesRemoved(file_indexes=(), leftovers=(leftover,)))
        assert bench.engine.littered(1007) == []

    asyncio.run(story())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 5))))
def test_records_stand_in_the_order_of_their_instants(acts: list[tuple[bool, int, int]]) -> None:
    """A sorted list is the model."""
    shelf = Shelf(cannot_read)
    records = [Record(shelf, n, uuid.uuid4(), 1, JobState.QUEUED, Priority.LOW) for n in range(10)]
    ordered, model = Ordered(), dict[int, float]()
    for is_added, number, instant in acts:
        if number in model:
            ordered.remove(model.pop(number), records[number])
        if is_added:
            ordered.add(float(instant), records[number])
            model[number] = float(instant)
        expected = sorted(model, key=lambda one: (model[one], one))
        assert [record.number for record in ordered] == expected
        assert ordered.first == min(model.values(), default=None)
        assert [record.number for record in ordered.until(2.0)] == [one for one in expected if model[one] <= 2.0]


def cannot_read(_job_id: object) -> Job:
    raise AssertionError("nobody needs the job")
