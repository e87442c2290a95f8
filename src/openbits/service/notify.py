"""Notices: who is told that a file or a job is done, in which order, and when again (jobs.md §12).

A job has one delivery at a time, that of its next notice (`core.notices`), and the next one begins when this one was
taken and that is on the disk (N1). Whom it goes to (§12.2): the live callback, that is the last subscriber that
SetNotify chose; else the program of the notification class id, which then registers; else the command line, for the
terminal notice, whatever files are still to be told; else nobody, and it waits. A callback that fails, or a program
that has not registered in time, has the command line run in its place, and if that fails too everything is tried again
after the minimum retry delay (N5, N6). A subscriber that vanishes has not been told (N4). The delay does not outlast
the service: after a restart everything is tried again at once.

No lock is held while a callback runs: an answer is a call like any other, and what the callback did to the job has
happened by then (N10). What is told of modifications is in `service.modifications`.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from openbits.api.wire import EventInfo
from openbits.core import codes, events, notices
from openbits.core.enums import Notice
from openbits.core.errors import BitsError
from openbits.core.model import Job, JobId
from openbits.core.moves import NOTICE_OF
from openbits.core.notices import Due
from openbits.core.wording import name_of
from openbits.failpoints import failpoint
from openbits.service.deliveries import Delivery, Means, Stage, Timer
from openbits.service.engine import Engine
from openbits.service.events import Subscriber
from openbits.service.modifications import Modifications
from openbits.service.record import Record
from openbits.service.shares import Shares

log = logging.getLogger("openbits.manager")


class Commands(Protocol):
    """Runs programs for notices (`service.commands`)."""

    def is_wanted(self, job: Job) -> bool:
        """A command line is set, the flag of the pending notice too, and it may be run now."""

    async def run(self, record: Record) -> bool:
        """Run the command line to its end: True if it took the notice, by exit code 0."""

    async def activate(self, record: Record) -> bool:
        """Start the program of the notification class id, which registers by itself: True if it was started."""


class Flight(NamedTuple):
    """A notice in flight to a subscriber; the job may have gone on meanwhile, or be over."""

    subscriber_id: str
    job_id: JobId
    notice_seq: int


@dataclass(frozen=True, slots=True)
class Sent:
    """Who has the share of a flight."""

    record: Record
    uid: int


class Notifier:
    """Who is to be told of which job; how far it has come is in the records."""

    def __init__(self, engine: Engine, commands: Commands | None = None, timer: Timer | None = None) -> None:
        self._engine = engine
        self._commands = commands
        self._timer = timer or (lambda delay, act: asyncio.get_running_loop().call_later(delay, act))
        self._shares = Shares(self._woken)
        self._flights: dict[Flight, Sent] = {}
        self._programs: set[asyncio.Task[None]] = set()
        self._modifications = Modifications(engine, self._timer)

    def register(self, record: Record, subscriber: Subscriber | None, sees: int | None) -> int:
        """SetNotifyInterface; a pending notice is delivered at once, even if an earlier target had it before (N4).

        `sees`: the uid whose jobs the subscriber may see, None: everybody's. The number of the choice; whoever was
        chosen before is told that this one was `replaced`. Raises BG_E_INVALID_STATE for a final job.
        """
        if record.job.state.is_final:
            raise BitsError(
                codes.BG_E_INVALID_STATE, f"cannot register for the notices of {name_of(record.job)}: it is over"
            )
        previous = self._engine.stream.find(record.subscriber_id)
        if previous is not None and previous is not subscriber:
            previous.put({**self._event(record, "replaced"), "registration": record.registrations})
        record.subscriber_id = "" if subscriber is None else subscriber.subscriber_id
        record.subscriber_sees = sees
        record.registrations += 1
        self._withdraw(record)
        self.deliver(record)
        return record.registrations

    def deliver(self, record: Record) -> None:
        """See that the next notice of a job is on its way, if its flag is set and there is somebody to tell.

        Called when another notice is the next one, and when the flags, the callback or the command line changed.
        """
        due = notices.due(record.job)
        if due is None or not notices.is_wanted(record.job, due.notice):
            self._withdraw(record)
            return
        if record.delivery is not None and record.delivery.due in {due, notices.terminal(record.job)}:
            return
        self._withdraw(record)
        target = self._engine.stream.find(record.subscriber_id)
        if target is not None:
            self._call(record, due, target)
        elif self._commands is not None and record.job.activation is not None:
            self._run(record, due, Means.PROGRAM)
        elif (last := self._due_for_command(record)) is not None:
            self._run(record, last, Means.COMMAND)

    def try_again(self, record: Record) -> None:
        """Somebody may be told now who could not be before: do not wait for the end of the delay."""
        if record.delivery is not None and record.delivery.stage is Stage.FAILED:
            self._withdraw(record)
        self.deliver(record)

    def changed(self, record: Record, event: events.Event | None) -> None:
        """A step changed the job by this event, or, if it is None, bytes arrived (`Engine.on_change`)."""
        if record.subscriber_id:
            is_filled = isinstance(event, events.RangesFilled)
            if not (is_filled and record.job.state in NOTICE_OF):  # which has a notice of its own (§12.1)
                self._modifications.happened(record)
            if isinstance(event, events.RangesFilled) and _is_told_by_ranges(record.job, event.file_index):
                self._modifications.ranges_filled(record, event.file_index, event.ranges)

    def flight(self, job_id: JobId, notice_seq: int, uid: int, subscriber_id: str | None) -> Flight | None:
        """The flight of this notice to a subscriber of this user; `subscriber_id` None: to any, the newest first."""
        return next(
            (
                flight
                for flight, sent in reversed(self._flights.items())
                if (flight.job_id, flight.notice_seq, sent.uid) == (job_id, notice_seq, uid)
                and subscriber_id in {None, flight.subscriber_id}
            ),
            None,
        )

    async def acknowledge(self, flight: Flight, hresult: int) -> None:
        """The callback returned; one that is not the target any more has no say."""
        sent = self._flights.pop(flight)
        self._shares.give_back(sent.uid)
        record, delivery = sent.record, sent.record.delivery
        if delivery is None or (delivery.subscriber_id, delivery.due.notice_seq) != flight[::2]:
            return
        if not _is_success(delivery.due, hresult):
            self._failed(record, delivery, f"{delivery.means.value} answered {codes.label(hresult)}")
            return
        self._withdraw(record)
        failpoint("notice.acknowledged")
        await self._engine.apply(record, events.NoticeDelivered(flight.notice_seq))
        failpoint("notice.delivered")

    def gone(self, subscriber: Subscriber) -> None:
        """A subscriber vanished, and with it the callbacks: what it had not answered goes to the next target."""
        subscriber_id = subscriber.subscriber_id
        lost = [flight for flight in self._flights if flight.subscriber_id == subscriber_id]
        left = [self._flights.pop(flight) for flight in lost]
        untold = [sent.record for sent in left] + self._shares.waiting(subscriber.uid)
        for sent in left:
            self._shares.give_back(sent.uid)
        for record in untold:
            if record.delivery is not None and record.delivery.subscriber_id == subscriber_id:
                self._withdraw(record)
                self.deliver(record)

    # -- one delivery ---------------------------------------------------------------------------------------------

    def _call(self, record: Record, due: Due, target: Subscriber) -> None:
        delivery = self._begin(record, due, Means.CALLBACK, target.uid)
        delivery.subscriber_id = target.subscriber_id
        flight = Flight(target.subscriber_id, record.job_id, due.notice_seq)
        if flight not in self._flights:
            if not self._shares.take(target.uid, record):
                return
            self._flights[flight] = Sent(record, target.uid)
        delivery.stage = Stage.SENT
        failpoint("notice.due")
        notice: EventInfo = {**self._event(record, "notice"), "notice": due.notice.value, "notice_seq": due.notice_seq}
        if due.notice is Notice.FILE:
            notice["file_index"] = due.file_index
        elif record.is_open_to_subscriber:
            notice["job"] = self._engine.info(record)
        target.put(notice)
        failpoint("notice.queued")

    def _run(self, record: Record, due: Due, means: Means) -> None:
        command = record.job.command_line if means is Means.COMMAND else record.job.activation
        assert command is not None  # noqa: S101  # looked at before
        delivery = self._begin(record, due, means, command.setter.uid)
        if self._shares.take(delivery.uid, record):
            delivery.stage = Stage.SENT
            task = asyncio.get_running_loop().create_task(self._program(record, delivery))
            self._programs.add(task)
            task.add_done_callback(self._programs.discard)

    async def _program(self, record: Record, delivery: Delivery) -> None:
        """One run of a program; a callback that registered meanwhile has the notice, too."""
        is_taken, is_started, why = False, False, f"{delivery.means.value} failed"
        owner_uid = record.owner_uid
        try:
            assert self._commands is not None  # noqa: S101  # else there is nothing to run
            if delivery.means is Means.COMMAND:
                is_taken = await self._commands.run(record) and record.owner_uid == owner_uid  # not for a new owner
            else:
                is_started = await self._commands.activate(record)
            if record.command_note:
                why = f"{delivery.means.value} {record.command_note}"
        except Exception:
            log.exception("notice_failed job=%s by=%s", record.job_id, delivery.means.name.lower())
        finally:
            self._shares.give_back(delivery.uid)
        if is_taken:
            if record.delivery is delivery:
                self._withdraw(record)
            await self._engine.apply(record, events.NoticeDelivered(delivery.due.notice_seq))
        elif record.delivery is delivery and is_started:
            why = "the program was started, and has not registered yet"
            self._wait(record, delivery, why, self._has_not_registered)
        elif record.delivery is delivery:
            self._failed(record, delivery, why)

    def _failed(self, record: Record, delivery: Delivery, why: str) -> None:
        """The command line comes in place of what failed; after it, everything again."""
        due = delivery.due
        is_refused_file = delivery.means is Means.CALLBACK and due.notice is Notice.FILE  # nothing else comes before it
        last = None if delivery.means is Means.COMMAND or is_refused_file else self._due_for_command(record)
        if last is not None:
            self._withdraw(record)
            self._run(record, last, Means.COMMAND)
            return
        self._wait(record, delivery, why, self._again)

    def _wait(self, record: Record, delivery: Delivery, why: str, then: Callable[[Record], None]) -> None:
        """Let the minimum retry delay pass."""
        delay = record.job.properties.minimum_retry_delay_seconds
        delivery.stage, delivery.why = Stage.FAILED, why
        delivery.next_at = self._engine.now().wall + delay
        delivery.timer = self._timer(delay, lambda: then(record))
        seq = delivery.due.notice_seq
        log.info("notice_failed job=%s seq=%d again_in=%d why=%s", record.job_id, seq, delay, why)

    def _has_not_registered(self, record: Record) -> None:
        """The program of the class has had its time: now it is the turn of the command line, if there is one."""
        last = self._due_for_command(record)
        self._withdraw(record)
        if last is None:
            self.deliver(record)
        else:
            self._run(record, last, Means.COMMAND)

    def _again(self, record: Record) -> None:
        self._withdraw(record)
        self.deliver(record)

    def _woken(self, record: Record) -> None:
        """A share is free, and this job is the next in line."""
        delivery = record.delivery
        if delivery is None or delivery.stage is not Stage.WAITING:
            return
        self._withdraw(record)
        is_command = delivery.means is Means.COMMAND
        if is_command and delivery.due == self._due_for_command(record):  # its callback may have failed before
            self._run(record, delivery.due, Means.COMMAND)
        else:
            self.deliver(record)

    def _begin(self, record: Record, due: Due, means: Means, uid: int) -> Delivery:
        record.delivery = Delivery(due, means, uid, self._engine.now().wall)
        return record.delivery

    def _withdraw(self, record: Record) -> None:
        """Forget the delivery; what is in flight keeps its share until it is answered."""
        if record.delivery is not None:
            record.delivery.stop()
            self._shares.leave(record.delivery.uid, record)
            record.delivery = None

    def _due_for_command(self, record: Record) -> Due | None:
        """The notice that the command line is run for now; None if there is none of either."""
        is_wanted = self._commands is not None and self._commands.is_wanted(record.job)
        return notices.terminal(record.job) if is_wanted else None

    def _event(self, record: Record, kind: str) -> EventInfo:
        """What an event to the one registered subscriber has; it is not stored and repeats the last number."""
        now = self._engine.now().wall
        return {"seq": self._engine.stream.committed_seq, "at": now, "kind": kind, "job_id": str(record.job.job_id)}


def _is_success(due: Due, hresult: int) -> bool:
    """S_OK; for a file every code that is no failure (OPEN-52)."""
    return hresult == codes.S_OK or (due.notice is Notice.FILE and not codes.is_failure(hresult))


def _is_told_by_ranges(job: Job, index: int) -> bool:
    """FileRangesTransferred is about files that may be fetched in any order (jobs.md §12.1), and not about replies."""
    return index < job.reply_index and not job.files[index].ranges
