"""An engine with a notifier, whose subscribers, programs and clock do what the test says."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

from tests.core.happened import transferred
from tests.service.enginebench import HERE, Bench

from openbits.api.wire import EventInfo
from openbits.core import events, lifecycle
from openbits.core.enums import JobState, NotifyFlags
from openbits.core.model import CommandLine, File, Identity, Job, Now
from openbits.service.events import Subscriber
from openbits.service.notify import Notifier
from openbits.service.record import Record

SETTER = Identity(uid=1000, gid=1000)
COMMAND = CommandLine(program="/bin/true", parameters="true", setter=SETTER)

FILES = NotifyFlags.JOB_TRANSFERRED | NotifyFlags.JOB_ERROR | NotifyFlags.FILE_TRANSFERRED


class Alarm:
    """One call of the fake clock."""

    def __init__(self, due_at: float, act: Callable[[], None]) -> None:
        self.due_at = due_at
        self.act = act
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Programs:
    """Commands that end when the test says so."""

    def __init__(self) -> None:
        self.may_run = True
        self.runs: list[tuple[str, asyncio.Future[bool]]] = []

    def is_wanted(self, job: Job) -> bool:
        return self.may_run and job.command_line is not None

    async def run(self, record: Record) -> bool:
        return await self._begin("command")

    async def activate(self, record: Record) -> bool:
        return await self._begin("activation")

    async def _begin(self, what: str) -> bool:
        self.runs.append((what, asyncio.get_running_loop().create_future()))
        return await self.runs[-1][1]


class NoticeBench(Bench):
    """A bench with a notifier and a clock that stands still between calls of `wait`."""

    def __init__(self) -> None:
        super().__init__()
        self.alarms: list[Alarm] = []
        self.programs = Programs()
        self.notifier = Notifier(self.engine, self.programs, self._alarm)
        self.engine.hands = self
        self.engine.on_change = self.notifier.changed

    def carry_out(self, record: Record, effect: events.Effect) -> None:
        if isinstance(effect, events.Notify):
            self.notifier.deliver(record)

    def _alarm(self, delay: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        self.alarms.append(Alarm(self.boot + delay, act))
        return cast("asyncio.TimerHandle", self.alarms[-1])

    def wait(self, seconds: float) -> None:
        """Time passes, and what is due by then happens."""
        end = self.boot + seconds
        while due := [one for one in self.alarms if not one.is_cancelled and one.due_at <= end + 1e-9]:
            first = min(due, key=lambda one: one.due_at)
            self.alarms.remove(first)
            self.boot = max(self.boot, first.due_at)
            first.act()
        self.boot = end

    def subscriber(self, uid: int = 1000) -> Subscriber:
        """A program that listens for what it registers for."""
        made = Subscriber(uid, sees_all=False, job_ids=frozenset())
        self.engine.stream.add(made)
        return made

    def leave(self, subscriber: Subscriber) -> None:
        """Its process ends."""
        self.engine.stream.drop(subscriber)
        self.notifier.gone(subscriber)

    def job(self, *, files: int = 1, flags: NotifyFlags | None = None) -> Record:
        """A suspended job with files; not committed yet."""
        job = lifecycle.new_job(job_id=uuid.uuid4(), owner=SETTER, display_name="x", now=Now(wall=0.0, boot=self.boot))
        added = tuple(
            File(remote_name=f"http://h/{index}", local_name=f"/srv/{index}", directory=HERE, name=str(index))
            for index in range(files)
        )
        properties = job.properties if flags is None else replace(job.properties, notify_flags=flags)
        record, _ = self.engine.create(replace(job, files=added, properties=properties))
        return record

    async def failed(self, **changes: object) -> Record:
        """A job in ERROR, whose notice is pending."""
        record = self.job()
        record.job = replace(record.job, **changes)  # type: ignore[arg-type]  # fields of Job
        self.engine.apply(record, events.Resume())
        await self.commits()
        self.engine.apply(record, events.TransferTimeExceeded())
        await self.commits()
        assert record.job.state is JobState.ERROR
        return record

    async def moves(self, record: Record, files: int) -> None:
        """So many files of a job finish, one after the other; it is resumed if need be."""
        if not record.job.state.is_active:
            self.engine.apply(record, events.Resume())
            await self.commits()
        for _ in range(files):
            index = record.job.current_file
            assert index is not None
            self.engine.apply(record, transferred(record.job.epoch, index, 1))
        await self.commits()

    async def answer(self, subscriber: Subscriber, event: EventInfo, hresult: int = 0) -> None:
        """The callback returns."""
        number = event["notice_seq"]
        assert number is not None
        job_id = uuid.UUID(event["job_id"])
        flight = self.notifier.flight(job_id, number, subscriber.uid, subscriber.subscriber_id)
        assert flight is not None
        answered = asyncio.ensure_future(self.notifier.acknowledge(flight, hresult))
        await self.commits()
        await answered

    async def ends(self, *, is_taken: bool) -> None:
        """The program that was started last ends."""
        self.programs.runs[-1][1].set_result(is_taken)
        await self.commits()


def heard(subscriber: Subscriber) -> list[EventInfo]:
    """What waits for this subscriber."""
    waiting = [subscriber.queue.get_nowait() for _ in range(subscriber.queue.qsize())]
    return [event for event in waiting if event is not None]


def told(subscriber: Subscriber) -> list[tuple[str | None, int | None]]:
    """Kind and file of the notices among it."""
    return [(event.get("notice"), event.get("file_index")) for event in heard(subscriber) if event["kind"] == "notice"]


def run(story: Callable[[NoticeBench], Awaitable[None]]) -> None:
    """Tell a story with a bench of its own."""

    async def main() -> None:
        await story(NoticeBench())

    asyncio.run(main())
