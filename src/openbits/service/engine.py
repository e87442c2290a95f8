"""The manager's loop: event in, effects out (design.md §4).

`apply` steps a job in memory, hands the result to the writer thread and carries out the effects after the commit, in
commit order. Whoever asked is answered after the commit too. A failed commit is told to whoever asked and stops the
manager; the spawner starts the next one, which finds everything that was acknowledged in the store.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from openbits.api.wire import EventInfo
from openbits.core import codes, events, lifecycle, scheduler
from openbits.core.enums import ErrorContext, JobState
from openbits.core.errors import BitsError
from openbits.core.model import Job, JobId, Now
from openbits.service.events import EventStream
from openbits.service.record import Record
from openbits.service.views import job_info
from openbits.store.changes import AppendEvent, Change, ForgetJob, SaveJob, StoredEvent, StoreError
from openbits.store.writer import Writer

log = logging.getLogger("openbits.manager")

PROGRESS_SECONDS = 0.5

CONDITION_SECONDS = 60.0
"""How often a job that waits for a condition (errors.md class E) is tried again: nobody watches networks and volumes
yet, so trying is how the end of the condition is seen (jobs.md §3.5, reliability.md P12)."""

KINDS: dict[type[events.Event], str] = {
    events.AddFiles: "files-added",
    events.SetProperties: "changed",
    events.SetHelperTokenFlags: "token",
    events.HelperTokenSet: "token",
    events.FileTransferred: "file-transferred",
}
"""Stored event kinds besides `created`, `state` and `removed`; a state change is always an event of its own."""


class Hands(Protocol):
    """Carries out the effects of steps (`service.transfers`, `service.notify`)."""

    def carry_out(self, record: Record, effect: events.Effect) -> None:
        """Begin the effect; it ends by applying the next event."""


class Engine:
    """The queue in memory and everything that changes it."""

    def __init__(
        self,
        *,
        writer: Writer,
        stream: EventStream,
        now: Callable[[], Now],
        on_failed_commit: Callable[[BaseException], None],
        on_owner_gone: Callable[[int], None],
    ) -> None:
        self.records: dict[JobId, Record] = {}
        self.stream = stream
        self.now = now
        self.hands: Hands
        self._owners_served: dict[int, float] = {}
        self._writer = writer
        self._on_failed_commit = on_failed_commit
        self._on_owner_gone = on_owner_gone
        self._slot_check: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- changes --------------------------------------------------------------------------------------------------

    def load(self, jobs: Sequence[Job]) -> None:
        """Take over what the store knows and redo what a crash may have cut off (T25)."""
        for job in jobs:
            self.records[job.job_id] = Record(job=job, queued_at=job.state_since)
        for record in list(self.records.values()):
            self.apply(record, events.ServiceRestarted())

    def create(self, job: Job) -> tuple[Record, "asyncio.Future[None]"]:
        """A new job (T1)."""
        record = Record(job=job)
        self.records[job.job_id] = record
        return record, self._commit(record, None, [], ["created"])

    def apply(self, record: Record, event: events.Event) -> "asyncio.Future[None]":
        """Step the job; the future is done when the result is committed.

        Raises BitsError at once if the event is a request that the job's state forbids.
        """
        before = record.job
        after, effects = lifecycle.step(before, event, self.now())
        if after is before and not effects:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        record.job = after
        kinds = [KINDS[type(event)]] if type(event) in KINDS else []
        if after.state is not before.state:
            kinds.append("state")
            self._entered(record)
            log.info("job_state job=%s from=%s to=%s", after.job_id, before.state.name, after.state.name)
        return self._commit(record, before, effects, kinds)

    def _entered(self, record: Record) -> None:
        now = self.now().boot
        state = record.job.state
        if state is JobState.QUEUED:
            record.queued_at = now
            record.complete_error = None
        elif state is JobState.CONNECTING:
            record.active_since = record.last_served_at = now
            self._owners_served[record.job.owner.uid] = now
        record.look_again_at = now + CONDITION_SECONDS if record.job.retry_by_event else None
        if not state.is_active:
            record.live_bytes = None
            record.phase = ""

    def _commit(
        self, record: Record, before: Job | None, effects: Sequence[events.Effect], kinds: Sequence[str]
    ) -> "asyncio.Future[None]":
        job = record.job
        changes: list[Change] = []
        if lifecycle.is_forgotten(job):
            kinds = [*kinds, "removed"]
            changes.append(ForgetJob(job.job_id))
            self._forget(record)
        else:
            changes.append(SaveJob(before=before, after=job))
        happened = [self._numbered(job, kind) for kind in kinds]
        changes.extend(AppendEvent(event) for event in happened)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        committed = asyncio.wrap_future(self._writer.submit(changes))
        committed.add_done_callback(lambda done: self._committed(done, answer, record, effects, happened))
        self.reschedule()
        return answer

    def _numbered(self, job: Job, kind: str) -> StoredEvent:
        data = {"state": job.state.name.lower()}
        return StoredEvent(
            seq=self.stream.next_seq(),
            at=self.now().wall,
            kind=kind,
            job_id=job.job_id,
            owner_uid=job.owner.uid,
            data=data,
        )

    def _committed(
        self,
        done: "asyncio.Future[None]",
        answer: "asyncio.Future[None]",
        record: Record,
        effects: Sequence[events.Effect],
        happened: Sequence[StoredEvent],
    ) -> None:
        error = done.exception()
        if error is not None:
            self._on_failed_commit(error)
            if not answer.done():
                answer.set_exception(_not_stored(error))
                answer.exception()  # not everybody waits
            return
        for event in happened:
            self.stream.committed_seq = event.seq
            self._tell(record, wire_event(event))
        for effect in effects:
            self.hands.carry_out(record, effect)
        if not answer.done():  # whoever asked may have gone
            answer.set_result(None)

    def _forget(self, record: Record) -> None:
        owner_uid = record.job.owner.uid
        self.records.pop(record.job.job_id, None)
        record.drop_token()
        if not any(other.job.owner.uid == owner_uid for other in self.records.values()):
            self._on_owner_gone(owner_uid)

    # -- news for subscribers -------------------------------------------------------------------------------------

    def progressed(self, record: Record) -> None:
        """Tell subscribers of bytes or a phase, at most every half second a job."""
        now = self.now()
        if now.boot - record.last_progress_at >= PROGRESS_SECONDS:
            record.last_progress_at = now.boot
            job_id = str(record.job.job_id)
            self._tell(record, {"seq": self.stream.committed_seq, "at": now.wall, "kind": "progress", "job_id": job_id})

    def _tell(self, record: Record, event: EventInfo) -> None:
        interested = list(self.stream.interested(record.job.owner.uid, event["job_id"]))
        if not interested:
            return
        event["job"] = job_info(record, self.candidates(), self.now())
        for subscriber in interested:
            subscriber.put(event)

    # -- scheduling -----------------------------------------------------------------------------------------------

    def candidates(self) -> list[scheduler.Candidate]:
        """What the scheduler chooses from."""
        return [
            scheduler.Candidate(
                job_id=record.job.job_id,
                owner_uid=record.job.owner.uid,
                priority=record.job.properties.priority,
                is_active=record.job.state.is_active,
                is_runnable=record.job.state is JobState.QUEUED and not record.job.is_completing,
                queued_at=record.queued_at,
                active_since=record.active_since,
                last_served_at=record.last_served_at,
                owner_last_served_at=self._owners_served.get(record.job.owner.uid, scheduler.NEVER),
                is_resumable=_is_resumable(record.job),
            )
            for record in self.records.values()
            if record.job.state is JobState.QUEUED or record.job.state.is_active
        ]

    def reschedule(self) -> None:
        """Look for work soon; many changes of one turn of the loop are looked at once."""
        if self._slot_check is None:
            self._slot_check = asyncio.get_running_loop().call_soon(self._schedule)

    def _schedule(self) -> None:
        self._slot_check = None
        decisions = scheduler.choose(self.candidates(), self.now().boot, scheduler.Settings())
        for job_id in decisions.revoke:
            self.apply(self.records[job_id], events.SlotRevoked())
        for job_id in decisions.grant:
            self.apply(self.records[job_id], events.SlotGranted())
        self._set_timer(decisions.check_at)

    def _set_timer(self, check_at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        timers = [lifecycle.next_timer(record.job) for record in self.records.values()]
        looks = [record.look_again_at for record in self.records.values()]
        due = min((instant for instant in (*timers, *looks, check_at) if instant is not None), default=None)
        if due is not None:
            delay = max(0.0, due - self.now().boot)
            self._timer = asyncio.get_running_loop().call_later(delay, self._timer_ran_out)

    def _timer_ran_out(self) -> None:
        self._timer = None
        for record in list(self.records.values()):
            event = lifecycle.timer_event(record.job, self.now())
            if event is None and record.look_again_at is not None and record.look_again_at <= self.now().boot:
                event = events.RetryDue()
            if event is not None:
                self.apply(record, event)
        self.reschedule()


def wire_event(event: StoredEvent) -> EventInfo:
    """A stored event as subscribers get it."""
    head: EventInfo = {"seq": event.seq, "at": event.at, "kind": event.kind, "job_id": str(event.job_id)}
    head["state"] = event.data["state"]
    return head


def _not_stored(error: BaseException) -> BitsError:
    """What a caller hears whose request could not be committed; the manager ends, and begins again from the store."""
    number = error.errno if isinstance(error, StoreError) else errno.EIO
    return BitsError(
        codes.from_errno(number), f"nothing was changed: {error}", context=ErrorContext.GENERAL_QUEUE_MANAGER
    )


def _is_resumable(job: Job) -> bool:
    """False while a stop would lose bytes: the server named no version that a later request could ask for."""
    current = job.current_file
    if current is None or job.state is not JobState.TRANSFERRING:
        return True
    validators = job.files[current].validators
    return validators.etag is not None or validators.last_modified is not None
