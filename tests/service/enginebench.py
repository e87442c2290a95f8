"""An engine on a disk, with hands and a clock, that do what the test says."""

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import cast

from openbits.core import events, lifecycle
from openbits.core.enums import JobState, Priority
from openbits.core.model import Directory, File, Identity, Job, JobId, Now, Validators
from openbits.core.properties import Properties
from openbits.service.engine import Engine
from openbits.service.events import EventStream
from openbits.service.record import Record
from openbits.store.changes import Change, ForgetJob, Head, SaveJob
from openbits.store.writer import Writer

HERE = Directory(path="/srv", dev=1, ino=2)


class SlowDisk:
    """A writer whose commits end when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Sequence[Change], Future[None]]] = []
        self.jobs: dict[JobId, Job] = {}
        self.reads: list[JobId] = []

    def submit(self, changes: Sequence[Change]) -> Future[None]:
        future: Future[None] = Future()
        self.waiting.append((changes, future))
        return future

    def commit(self) -> None:
        """The disk has everything that was submitted."""
        while self.waiting:
            changes, future = self.waiting.pop(0)
            for change in changes:
                match change:
                    case SaveJob(after=job):
                        self.jobs[job.job_id] = replace(job, retry_at=None, stalled_since=None)
                    case ForgetJob(job_id):
                        self.jobs.pop(job_id, None)
            future.set_result(None)

    def job(self, job_id: JobId) -> Job:
        """What the disk has of a job: no instants of the boot clock."""
        self.reads.append(job_id)
        return self.jobs[job_id]

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
            read_job=self.disk.job,
            stream=EventStream(0),
            now=lambda: Now(wall=1e9 + self.boot, boot=self.boot),
            on_failed_commit=self.failures.append,
            on_owner_gone=lambda _: None,
            logon_needed=lambda _: None,
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
        file = File(remote_name="http://h/a", local_name="/srv/a", directory=HERE, name="a")
        self.engine.apply(record, events.AddFiles(files=(file,)))
        self.engine.apply(record, events.Resume())
        return record

    def load(self, jobs: Iterable[Job]) -> None:
        """A start that finds these jobs on the disk."""
        self.disk.jobs = {job.job_id: replace(job, retry_at=None, stalled_since=None) for job in jobs}
        self.engine.load([head_of(job) for job in self.disk.jobs.values()])

    async def commits(self) -> None:
        """Let the loop do what is due, and the disk take it."""
        await self.settle()
        self.disk.commit()
        await self.settle()

    async def settle(self) -> None:
        """Let the loop do what is due."""
        for _ in range(10):
            await asyncio.sleep(0)


def a_job(
    state: JobState, *, owner_uid: int = 1000, priority: Priority = Priority.NORMAL, etag: str | None = "x"
) -> Job:
    """A job with one file; `etag`: what its server calls the version, None if it does not."""
    file = File(
        remote_name="http://h/a",
        local_name="/srv/a",
        directory=HERE,
        name="a",
        validators=Validators(etag=etag),
    )
    return Job(
        job_id=uuid.uuid4(),
        owner=Identity(uid=owner_uid, gid=owner_uid),
        state=state,
        properties=Properties(priority=priority),
        files=(file,),
        created_at=0.0,
        modified_at=0.0,
        state_since=0.0,
    )


def head_of(job: Job) -> Head:
    """What the store tells of a job at the start."""
    priority = job.properties.priority
    return Head(job.job_id, job.owner.uid, job.state, priority, job.state_since, job.modified_at, lifecycle.wakes(job))
