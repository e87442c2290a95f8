"""The manager's loop: effects and answers follow the commit, a failed commit stops it, conditions are tried again."""

import asyncio
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from typing import cast

import pytest

from openbits.core import codes, events, lifecycle
from openbits.core.enums import ErrorContext, JobState
from openbits.core.errors import BitsError
from openbits.core.model import Directory, File, Identity, JobError, Now
from openbits.service.engine import CONDITION_SECONDS, Engine
from openbits.service.events import EventStream
from openbits.service.record import Record
from openbits.store.changes import Change
from openbits.store.writer import Writer


class SlowDisk:
    """A writer whose commits end when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Sequence[Change], Future[None]]] = []

    def submit(self, changes: Sequence[Change]) -> Future[None]:
        future: Future[None] = Future()
        self.waiting.append((changes, future))
        return future

    def commit(self) -> None:
        """The disk has everything that was submitted."""
        while self.waiting:
            self.waiting.pop(0)[1].set_result(None)

    def fail(self) -> None:
        """The disk refuses."""
        while self.waiting:
            self.waiting.pop(0)[1].set_exception(OSError("disk full"))


class Recorder:
    """Hands that only remember what they were asked."""

    def __init__(self) -> None:
        self.effects: list[events.Effect] = []

    def carry_out(self, record: Record, effect: events.Effect) -> None:
        self.effects.append(effect)


class Bench:
    """An engine with a disk, hands and a clock of the test."""

    def __init__(self) -> None:
        self.boot = 1000.0
        self.disk, self.hands = SlowDisk(), Recorder()
        self.failures: list[BaseException] = []
        self.engine = Engine(
            writer=cast("Writer", self.disk),
            stream=EventStream(0, lambda _: None),
            now=lambda: Now(wall=1e9 + self.boot, boot=self.boot),
            on_failed_commit=self.failures.append,
            on_owner_gone=lambda _: None,
        )
        self.engine.hands = self.hands

    def queued_job(self) -> Record:
        """A job with one file that was resumed; not committed yet."""
        job = lifecycle.new_job(
            job_id=uuid.uuid4(),
            owner=Identity(uid=1000, gid=1000),
            display_name="x",
            now=Now(wall=0.0, boot=self.boot),
        )
        record, _ = self.engine.create(job)
        directory = Directory(path="/srv", dev=1, ino=2)
        file = File(remote_name="http://h/a", local_name="/srv/a", directory=directory, name="a")
        self.engine.apply(record, events.AddFiles(files=(file,)))
        self.engine.apply(record, events.Resume())
        return record

    async def settle(self) -> None:
        """Let the loop do what is due."""
        for _ in range(10):
            await asyncio.sleep(0)


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
