"""The manager's loop: event in, effects out (design.md §4).

`apply` steps a job in memory, hands the result to the writer thread and carries out the effects after the commit, in
commit order. Whoever asked is answered after the commit too. A failed commit is told to whoever asked and stops the
manager; the spawner starts the next one, which finds everything that was acknowledged in the store.
"""

import asyncio
import errno
import itertools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from openbits.api.wire import EventInfo, JobInfo
from openbits.core import codes, events, lifecycle, scheduler, timers
from openbits.core.enums import ErrorContext, JobState, Priority
from openbits.core.errors import BitsError
from openbits.core.model import Job, JobId, Now
from openbits.core.policies import Policies
from openbits.core.sessions import LogonRequired
from openbits.failpoints import failpoint
from openbits.service.events import EventStream
from openbits.service.index import Index
from openbits.service.record import Record, Shelf
from openbits.service.views import job_info
from openbits.store.changes import (
    AppendEvent,
    Change,
    ForgetJob,
    Head,
    SaveJob,
    StoreDamagedError,
    StoredEvent,
    StoreError,
)
from openbits.store.writer import Writer

log = logging.getLogger("openbits.manager")

SETTINGS = scheduler.Settings()

SLOTS = dict.fromkeys(Priority, 1) | {Priority.FOREGROUND: SETTINGS.max_foreground_jobs}
"""How many jobs of a level may run, so many of a line the scheduler has to see: it cannot give slots to more."""

PROGRESS_SECONDS = 0.5

CONDITION_SECONDS = 60.0
"""How often a job that waits for a condition (errors.md class E) is tried again: nobody watches networks and volumes
yet, so trying is how the end of the condition is seen (jobs.md §3.5, reliability.md P12)."""

WAKE_SLICE = 20
"""So many jobs that a start has to look at are looked at in a turn: in memory at once, and between two other calls."""

LONGEST_WAIT_SECONDS = 60.0
"""A timer is looked at so often: the clock of the loop stands while the machine sleeps, that of the timers does not."""

KINDS: dict[type[events.Event], str] = {
    events.AddFiles: "files-added",
    events.SetProperties: "changed",
    events.SetSecret: "changed",
    events.RemoveSecret: "changed",
    events.MakeHeadersWriteOnly: "changed",
    events.SetCertificate: "changed",
    events.SetCommandLine: "changed",
    events.SetHelperTokenFlags: "token",
    events.HelperTokenSet: "token",
    events.TakeOwnership: "owner",
    events.FilesTransferred: "file-transferred",
}
"""Stored event kinds besides `created`, `state` and `removed`; a state change is always an event of its own."""


FINAL_STATES = frozenset(state.name.lower() for state in JobState if state.is_final)
"""With them whoever registered for the job hears of it for the last time, also who may not see it any more (N9)."""


class Hands(Protocol):
    """Carries out the effects of steps (`service.transfers`, `service.notify`)."""

    def carry_out(self, record: Record, effect: events.Effect) -> None:
        """Begin the effect; it ends by applying the next event."""


class News(NamedTuple):
    """What follows from a step, when it is on the disk; `changed`: the event, if it is a modification of the job."""

    effects: Sequence[events.Effect]
    happened: Sequence[StoredEvent]
    changed: events.Event | None


class Engine:
    """The queue in memory and everything that changes it."""

    def __init__(
        self,
        *,
        writer: Writer,
        read_job: Callable[[JobId], Job],
        stream: EventStream,
        now: Callable[[], Now],
        on_failed_commit: Callable[[BaseException], None],
        on_owner_gone: Callable[[int], None],
        logon_needed: Callable[[int], LogonRequired | None],
    ) -> None:
        self.stream = stream
        self.now = now
        self.hands: Hands
        self.on_change: Callable[[Record, events.Event | None], None] = lambda _record, _event: None
        """Called after the commit of a step that changed the job by this event; None: bytes arrived."""
        self._owners_served: dict[int, float] = {}
        self._index = Index()
        self._asleep: dict[JobId, Record] = {}
        """Jobs that a restart of the service concerns (T25) and that were not looked at yet."""
        self._late: set[Record] = set()
        """Jobs whose latest progress is still to be told."""
        self._loaded_at = 0.0
        self._let_go_later: set[int] = set()
        self._shelf = Shelf(self._read)
        self._number = 0
        self._read_job = read_job
        self._writer = writer
        self._on_failed_commit = on_failed_commit
        self._on_owner_gone = on_owner_gone
        self._logon_needed = logon_needed
        self._slot_check: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- changes --------------------------------------------------------------------------------------------------

    @property
    def records(self) -> Mapping[JobId, Record]:
        """The queue, in the order in which its jobs were created."""
        return self._index.records

    def records_of(self, owner_uid: int) -> Collection[Record]:
        """The part of the queue that belongs to one owner, in the order in which its jobs became his."""
        return self._index.by_owner.get(owner_uid, {}).values()

    def account_of(self, owner_uid: int) -> str:
        """The account that this uid had when the oldest of its jobs was created; empty if there is none."""
        oldest = next(iter(self.records_of(owner_uid)), None)
        return oldest.job.owner.name if oldest is not None else ""

    @property
    def job_counts(self) -> Mapping[int, int]:
        """How many jobs of each owner are not over."""
        return self._index.job_counts

    @property
    def policies(self) -> Policies:
        """The policies in force."""
        return self._index.policies

    def set_policies(self, policies: Policies) -> None:
        """The policies have changed; timers that run by them run anew."""
        self._index.policies = policies
        for record in list(self._index.active.values()):
            self._index.leave(record)
            self._index.enter(record)
        self.reschedule()

    @property
    def owners(self) -> Collection[int]:
        """The uids that the queue belongs to."""
        return self._index.by_owner.keys()

    def littered(self, uid: int) -> list[Record]:
        """The jobs that left temporaries of this uid behind."""
        return self._index.littered(uid)

    def token_holders(self) -> list[Record]:
        """The records with a helper token."""
        return list(self._shelf.token_holders.values())

    def load(self, heads: Sequence[Head]) -> None:
        """Take over what the store knows; most jobs need not be read.

        What a crash may have cut off is redone (T25): for the first jobs at once, for the others by `wake_all`.
        """
        now = self.now()
        self._loaded_at = now.boot
        for head in heads:
            record = self._record(head.job_id, head.owner_uid, head.state, head.priority)
            record.queued_at = now.boot - max(0.0, now.wall - head.state_since)
            record.changed_at = timers.last_change_at(head.modified_at, now)
            self._index.add(record)
            if head.wakes:
                self._asleep[record.job_id] = record
        self._wake_some()
        self.reschedule()

    async def wake_all(self) -> None:
        """Look at every job that the restart concerns, part by part: each part is on the disk before the next one."""
        count = len(self._asleep)
        while self._asleep:
            try:
                await asyncio.gather(*self._wake_some())
            except BitsError:  # the store cannot be read or written: the manager ends
                return
        if count:
            log.info("jobs_woken later=%d", count)
        self.let_go(self._let_go_later)

    def wake(self, record: Record) -> None:
        """Look at this job now, for somebody who asks for it, if the restart concerns it and its turn has not come."""
        if record.job_id in self._asleep:
            self._wake(record)

    def _wake(self, record: Record) -> "asyncio.Future[None]":
        del self._asleep[record.job_id]
        return self.apply(record, events.ServiceRestarted())

    def _wake_some(self) -> "list[asyncio.Future[None]]":
        return [self._wake(record) for record in list(itertools.islice(self._asleep.values(), WAKE_SLICE))]

    def create(self, job: Job) -> tuple[Record, "asyncio.Future[None]"]:
        """A new job (T1)."""
        record = self._record(job.job_id, job.owner.uid, job.state, job.properties.priority)
        record.commits += 1
        record.job = job
        record.changed_at = self.now().boot
        self._index.add(record)
        return record, self._commit(record, None, [], ["created"])

    def announce(self, record: Record, kind: str) -> "asyncio.Future[None]":
        """Store and tell an event about a job that is not changed by it; done when it is committed."""
        record.commits += 1
        event = self._numbered(record, kind)
        return self._submit(record, [AppendEvent(event)], News((), [event], None))

    def _record(self, job_id: JobId, owner_uid: int, state: JobState, priority: Priority) -> Record:
        self._number += 1
        return Record(self._shelf, self._number, job_id, owner_uid, state, priority)

    def _read(self, job_id: JobId) -> Job:
        """A job that is not in memory. If that fails, the manager ends: the next start knows more of the store."""
        try:
            return self._read_job(job_id)
        except StoreError as error:
            self._on_failed_commit(error)
            is_damaged = isinstance(error, StoreDamagedError)
            code = codes.BG_E_DATABASE_CORRUPT if is_damaged else codes.from_errno(error.errno)
            raise BitsError(code, str(error), context=ErrorContext.GENERAL_QUEUE_MANAGER) from error

    def apply(self, record: Record, event: events.Event) -> "asyncio.Future[None]":
        """Step the job; the future is done when the result is committed.

        Raises BitsError at once if the event is a request that the job's state forbids.
        """
        self.wake(record)
        before = record.job
        now = self.now()
        after, effects = lifecycle.step(before, event, now)
        if after is before and not effects:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        owner_uid = record.owner_uid
        self._index.leave(record)
        record.commits += 1
        record.job = after
        if lifecycle.is_activity(before, event, after):
            record.changed_at = now.boot
        failpoint("step.taken")
        if record.owner_uid != owner_uid:
            self._index.hand_over(record, owner_uid)
        record.drop_useless_spares()
        kinds = [KINDS[type(event)]] if type(event) in KINDS else []
        if after.state is not before.state:
            kinds.append("state")
            self._entered(record, self._loaded_at if isinstance(event, events.ServiceRestarted) else now.boot)
            log.info("job_state job=%s from=%s to=%s", after.job_id, before.state.name, after.state.name)
        self._index.enter(record)
        changed = event if lifecycle.is_told_of(before, event, after) else None
        committed = self._commit(record, before, effects, kinds, changed)
        if after.owner is not before.owner or after.leftovers is not before.leftovers:
            self.let_go(lifecycle.admitted_uids(before) - lifecycle.admitted_uids(after))
        return committed

    def needs(self, uid: int) -> bool:
        """True while a job belongs to this identity, or has a file of it to remove."""
        littered = self._index.littered(uid)
        return bool(self.records_of(uid)) or any(uid in lifecycle.admitted_uids(record.job) for record in littered)

    def let_go(self, uids: set[int]) -> None:
        """Have those dismissed of these identities that no job needs any more."""
        if self._asleep:  # one of those may have a file of theirs to remove
            self._let_go_later |= uids
            return
        for uid in uids:
            if not self.needs(uid):
                self._on_owner_gone(uid)

    def _entered(self, record: Record, now: float) -> None:
        state = record.job.state
        if state is JobState.QUEUED:
            record.queued_at = now
            record.complete_error = None
        elif state is JobState.CONNECTING:
            record.active_since = record.last_served_at = now
            self._owners_served[record.job.owner.uid] = now
        record.look_again_at = now + CONDITION_SECONDS if record.job.retry_by_event else None
        if not state.is_active:
            record.live.clear()
            record.phase = ""

    def _commit(
        self,
        record: Record,
        before: Job | None,
        effects: Sequence[events.Effect],
        kinds: Sequence[str],
        changed: events.Event | None = None,
    ) -> "asyncio.Future[None]":
        job = record.job
        changes: list[Change] = []
        if lifecycle.is_forgotten(job):
            kinds = [*kinds, "removed"]
            changes.append(ForgetJob(job.job_id))
            self._forget(record)
        else:
            changes.append(SaveJob(before=before, after=job))
        happened = [self._numbered(record, kind) for kind in kinds]
        changes.extend(AppendEvent(event) for event in happened)
        answer = self._submit(record, changes, News(effects, happened, changed))
        self.reschedule()
        return answer

    def _submit(self, record: Record, changes: Sequence[Change], news: News) -> "asyncio.Future[None]":
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        committed = asyncio.wrap_future(self._writer.submit(changes))
        committed.add_done_callback(lambda done: self._committed(done, answer, record, news))
        return answer

    def _numbered(self, record: Record, kind: str) -> StoredEvent:
        return StoredEvent(
            seq=self.stream.next_seq(),
            at=self.now().wall,
            kind=kind,
            job_id=record.job_id,
            owner_uid=record.owner_uid,
            data={"state": record.state.name.lower()},
        )

    def _committed(
        self,
        done: "asyncio.Future[None]",
        answer: "asyncio.Future[None]",
        record: Record,
        news: News,
    ) -> None:
        error = done.exception()
        if error is not None:
            self._on_failed_commit(error)
            if not answer.done():
                answer.set_exception(_not_stored(error))
                answer.exception()  # not everybody waits
            return
        record.commits -= 1
        failpoint("step.committed")
        if news.changed is not None:  # before the event that may be the last one of the job
            self.on_change(record, news.changed)
        for event in news.happened:
            self.stream.committed_seq = event.seq
            self._tell(record, wire_event(event))
        failpoint("step.told")
        for effect in news.effects:
            self.hands.carry_out(record, effect)
            failpoint("step.effect-begun")
        if not answer.done():  # whoever asked may have gone
            answer.set_result(None)

    def _forget(self, record: Record) -> None:
        self._index.leave(record)
        self._index.drop(record)
        record.is_stored = False
        record.drop_token()
        self.let_go({record.owner_uid})

    def info(self, record: Record) -> JobInfo:
        """What the API shows of a job; why it waits is told by its own turn and by those who have a slot."""
        self.wake(record)
        rivals = [one for one in self._index.active.values() if one is not record]
        return job_info(record, [self._candidate(one) for one in (record, *rivals)], self.now(), self.policies)

    # -- news for subscribers -------------------------------------------------------------------------------------

    def progressed(self, record: Record) -> None:
        """Tell subscribers of bytes or a phase: at most every half second a job, and of what came last in any case."""
        if record.live:
            self.on_change(record, None)
        early_by = record.last_progress_at + PROGRESS_SECONDS - self.now().boot
        if early_by <= 0:
            self._tell_progress(record)
        elif record not in self._late:
            self._late.add(record)
            asyncio.get_running_loop().call_later(early_by, self._told_late, record)

    def _told_late(self, record: Record) -> None:
        self._late.discard(record)
        if record.state.is_active:  # else the change of its state has told it
            self._tell_progress(record)

    def _tell_progress(self, record: Record) -> None:
        now = self.now()
        record.last_progress_at = now.boot
        job_id = str(record.job.job_id)
        self._tell(record, {"seq": self.stream.committed_seq, "at": now.wall, "kind": "progress", "job_id": job_id})

    def _tell(self, record: Record, event: EventInfo) -> None:
        interested = self.stream.interested(record.job.owner.uid, event["job_id"])
        registered = self.stream.find(record.subscriber_id)
        if registered is not None and registered not in interested and event.get("state") in FINAL_STATES:
            registered.put(event)
        if not interested:
            return
        told: EventInfo = {**event, "job": self.info(record)}
        for subscriber in interested:
            subscriber.put(told)

    # -- scheduling -----------------------------------------------------------------------------------------------

    def candidates(self) -> list[scheduler.Candidate]:
        """What the scheduler chooses from: who has a slot, and so many of each line that the rest does not matter."""
        chosen = [*self._index.active.values(), *self._index.heads(SLOTS)]
        return [self._candidate(record) for record in sorted(chosen, key=lambda record: record.number)]

    def _candidate(self, record: Record) -> scheduler.Candidate:
        return scheduler.Candidate(
            job_id=record.job_id,
            owner_uid=record.owner_uid,
            priority=record.priority,
            is_active=record.state.is_active,
            is_runnable=record.state is JobState.QUEUED,
            queued_at=record.queued_at,
            active_since=record.active_since,
            last_served_at=record.last_served_at,
            owner_last_served_at=self._owners_served.get(record.owner_uid, scheduler.NEVER),
            logon_needed=self._logon_needed(record.owner_uid),
            is_resumable=record.state is not JobState.TRANSFERRING or _is_resumable(record),
        )

    def reschedule(self) -> None:
        """Look for work soon; many changes of one turn of the loop are looked at once."""
        if self._slot_check is None:
            self._slot_check = asyncio.get_running_loop().call_soon(self._schedule)

    def _schedule(self) -> None:
        self._slot_check = None
        decisions = scheduler.choose(self.candidates(), self.now().boot, SETTINGS)
        for job_id in decisions.revoke:
            self.apply(self.records[job_id], events.SlotRevoked())
        for job_id in decisions.grant:
            record = self.records[job_id]
            self.wake(record)
            if record.state is JobState.QUEUED:  # the restart may have ended its helper token
                self.apply(record, events.SlotGranted())
        self._set_timer(decisions.check_at)

    def _set_timer(self, check_at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = min((instant for instant in (self._index.timers.first, check_at) if instant is not None), default=None)
        if due is not None:
            delay = min(max(0.0, due - self.now().boot), LONGEST_WAIT_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(delay, self._timer_ran_out)

    def _timer_ran_out(self) -> None:
        self._timer = None
        for record in self._index.timers.until(self.now().boot):
            self.apply(record, lifecycle.timer_event(record.job, self.now(), self.policies) or events.RetryDue())
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


def _is_resumable(record: Record) -> bool:
    """False while a stop would lose bytes: the server named no version that a later request could ask for."""
    known = [record.job.file_at(index).validators for index in record.live]
    is_proven = all(validators.etag is not None or validators.last_modified is not None for validators in known)
    return is_proven and record.job.is_resumable
