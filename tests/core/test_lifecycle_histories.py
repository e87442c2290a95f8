"""Random histories: one job with everything that may happen to it, and many jobs that share the slots."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.happened import created, transferred

from openbits.core import codes, events, scheduler, transitions
from openbits.core.enums import ErrorContext, JobState, Priority, TokenFlags
from openbits.core.errors import BitsError
from openbits.core.lifecycle import new_job, next_timer, step, timer_event
from openbits.core.model import Directory, File, Identity, Job, JobError, JobId, Leftover, Now, Temporary, Validators
from openbits.core.properties import Properties

WALL = 1_800_000_000.0
CODES = (codes.BG_E_CONNECTION_CLOSED, codes.BG_E_HTTP_ERROR_404, codes.BG_E_NETWORK_DISCONNECTED, 0x8007042B)

CheckStep = Callable[[Job, events.Event, Job, list[events.Effect]], None]


def at(boot: float) -> Now:
    return Now(wall=WALL + boot, boot=boot)


def a_new_file(number: int) -> File:
    name = f"file-{number}"
    directory = Directory(path="/srv/in", dev=1, ino=2)
    return File(
        remote_name=f"https://files.example/{name}", local_name=f"/srv/in/{name}", directory=directory, name=name
    )


def error(code: int) -> JobError:
    return JobError(code=code, context=ErrorContext.REMOTE_FILE, at=WALL)


# -- one job ----------------------------------------------------------------------------------------------------------


def requests_of(number: int) -> Iterator[events.Event]:
    """What a client may ask for at any time."""
    yield from (events.Suspend(), events.Resume(), events.Cancel(), events.Complete())
    yield events.AddFiles(files=(a_new_file(number),))
    yield events.SetProperties(properties=Properties(priority=Priority(number % 4)))
    yield events.SetHelperTokenFlags(flags=TokenFlags(number % 4))
    yield events.HelperTokenSet(is_set=number % 2 == 0)


def news_of(job: Job, number: int) -> Iterator[events.Event]:
    """What brokers and workers may report: of this attempt, and late news of the one before."""
    index = job.current_file
    if index is not None:
        for epoch in (job.epoch, job.epoch - 1):
            here: dict[str, Any] = {"epoch": epoch, "file_index": index}
            made = Temporary(name=f".BIT{number:08x}.tmp", dev=1, ino=number, birth_ns=1, uid=1000, by_helper=False)
            grown = job.files[index].transferred_bytes + number
            yield created(epoch, index, made)
            here_again = Leftover(directory=job.files[index].directory, temporary=made)
            yield events.LeftoverNoted(leftover=here_again)
            if job.files[index].temporary is not None and here_again in job.leftovers:
                yield events.TemporaryAdopted(temporary=made, **here)
            yield events.Connected(validators=Validators(etag=f'"{number}"'), size_bytes=None, **here)
            yield events.Progressed(transferred_bytes=grown, **here)
            yield events.FileRestarted(note="ETag changed", **here)
            yield transferred(epoch, index, grown)
            yield events.AttemptFailed(epoch=epoch, error=error(CODES[number % len(CODES)]), spread=0.05)
    if job.is_completing:
        yield from (
            events.FilesPublished(file_indexes=(index,))
            for index, file in enumerate(job.files)
            if file.is_transferred and not file.is_published
        )
        yield events.PublishingEnded(error=None)
        yield events.PublishingEnded(error=error(codes.E_ACCESSDENIED))


def conditions_of(job: Job) -> Iterator[events.Event]:
    """What the service and its surroundings bring."""
    if job.state is JobState.QUEUED:
        yield events.SlotGranted()
    yield from (events.SlotRevoked(), events.RetryDue(), events.NoProgressExpired(), events.ServiceRestarted())
    yield events.Blocked(error=error(codes.BG_E_NETWORK_DISCONNECTED))
    yield events.TokenLost(error=error(codes.BG_E_TOKEN_REQUIRED))
    yield from (events.TransferTimeExceeded(), events.NoticeDelivered(job.notice_seq))


def possible(job: Job, number: int) -> list[events.Event]:
    return [*conditions_of(job), *news_of(job, number), *requests_of(number)]


@settings(max_examples=300, deadline=None)
@given(choices=st.lists(st.tuples(st.integers(0, 10_000), st.floats(0.0, 1000.0)), max_size=60))
def test_a_job_keeps_its_invariants_and_can_always_be_brought_to_an_end(
    check_step: CheckStep, choices: list[tuple[int, float]]
) -> None:
    boot = 100.0
    job = new_job(job_id=uuid.UUID(int=1), owner=Identity(uid=1000, gid=1000), now=at(boot), display_name="story")
    job, _ = step(job, events.AddFiles(files=(a_new_file(0), a_new_file(1))), at(boot))
    for number, pause in choices:
        boot += pause
        options = possible(job, number)
        event = options[number % len(options)]
        try:
            after, effects = step(job, event, at(boot))
        except BitsError:
            continue
        check_step(job, event, after, effects)
        job = after
        timer = next_timer(job)
        assert timer is None or timer_event(job, at(timer)) is not None, "a timer that rings has something to say"
    if not job.state.is_final:
        bring_to_an_end(job, check_step, boot)


def bring_to_an_end(job: Job, check_step: CheckStep, boot: float) -> None:
    """With a good network and a patient client every job that is not final gets its files published."""
    for _ in range(4 * len(job.files) + 8):
        event = next_step_to_the_end(job)
        if event is None:
            break
        after, effects = step(job, event, at(boot))
        check_step(job, event, after, effects)
        job = after
    assert job.state is JobState.ACKNOWLEDGED
    assert all(file.is_transferred and file.is_published for file in job.files)


def next_step_to_the_end(job: Job) -> events.Event | None:
    if job.is_completing:
        ready = (i for i, file in enumerate(job.files) if file.is_transferred and not file.is_published)
        index = next(ready, None)
        is_done = index is None and job.current_file is None
        failed = events.PublishingEnded(error=None if is_done else error(codes.E_ACCESSDENIED))
        return failed if index is None else events.FilesPublished(file_indexes=(index,))
    match job.state:
        case JobState.SUSPENDED | JobState.ERROR | JobState.TRANSIENT_ERROR:
            return events.Resume()
        case JobState.QUEUED:
            return events.SlotGranted()
        case JobState.CONNECTING | JobState.TRANSFERRING:
            return transferred(job.epoch, job.current_file or 0, 1)
        case JobState.TRANSFERRED:
            return events.Complete()
        case _:
            return None


# -- many jobs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """A job that arrives, with so many seconds of work and attempts that fail after one second of it."""

    priority: Priority
    owner_uid: int
    arrives_at: float
    work_seconds: float
    failures: int


ORDERS = st.builds(
    Order,
    priority=st.sampled_from(Priority),
    owner_uid=st.sampled_from([1000, 1001, 1002]),
    arrives_at=st.integers(100, 500).map(float),
    work_seconds=st.integers(1, 300).map(float),
    failures=st.integers(0, 3),
)

START = 100.0
"""Boot-clock time at which the machine is switched on; nothing has happened before."""

RULES = scheduler.Settings(max_foreground_jobs=2, slice_seconds=60.0)


class Machine:
    """The manager's part in small: virtual time, slots given and taken as the scheduler decides."""

    def __init__(self, orders: list[Order], check_step: CheckStep) -> None:
        self.boot = START
        self.check_step = check_step
        self.coming = sorted(orders, key=lambda order: order.arrives_at)
        self.jobs: dict[JobId, Job] = {}
        self.left: dict[JobId, float] = {}
        self.failures: dict[JobId, int] = {}
        self.queued_at: dict[JobId, float] = {}
        self.active_since: dict[JobId, float] = {}
        self.owner_served_at: dict[int, float] = {}
        self.first_wait: dict[JobId, float] = {}

    def happen(self, job_id: JobId, event: events.Event) -> None:
        before = self.jobs[job_id]
        after, effects = step(before, event, at(self.boot))
        self.check_step(before, event, after, effects)
        self.jobs[job_id] = after
        if after.state is before.state:
            return
        if after.state is JobState.QUEUED:
            self.queued_at[job_id] = self.boot
        elif after.state is JobState.CONNECTING:
            self.active_since[job_id] = self.owner_served_at[after.owner.uid] = self.boot
            self.first_wait.setdefault(job_id, self.boot - self.queued_at[job_id])

    def arrive(self) -> None:
        while self.coming and self.coming[0].arrives_at <= self.boot:
            order = self.coming.pop(0)
            job_id = uuid.UUID(int=len(self.jobs) + 1)
            owner = Identity(uid=order.owner_uid, gid=order.owner_uid)
            job = new_job(job_id=job_id, owner=owner, now=at(self.boot), display_name="")
            limits = Properties(priority=order.priority)
            self.jobs[job_id] = replace(job, files=(a_new_file(1),), properties=limits)
            self.left[job_id] = order.work_seconds
            self.failures[job_id] = order.failures
            self.happen(job_id, events.Resume())

    def candidates(self) -> list[scheduler.Candidate]:
        return [
            scheduler.Candidate(
                job_id=job.job_id,
                owner_uid=job.owner.uid,
                priority=job.properties.priority,
                is_active=job.state.is_active,
                is_runnable=job.state is JobState.QUEUED,
                queued_at=self.queued_at[job.job_id],
                active_since=self.active_since.get(job.job_id, scheduler.NEVER),
                last_served_at=self.active_since.get(job.job_id, scheduler.NEVER),
                owner_last_served_at=self.owner_served_at.get(job.owner.uid, scheduler.NEVER),
            )
            for job in self.jobs.values()
        ]

    def schedule(self) -> float | None:
        """Carry out the decisions, check them, and give the time of the next look."""
        before = {one.job_id: one for one in self.candidates()}
        decisions = scheduler.choose(before.values(), self.boot, RULES)
        for job_id in decisions.revoke:
            assert any(before[other].priority <= before[job_id].priority for other in decisions.grant), "no competitor"
            self.happen(job_id, events.SlotRevoked())
        for job_id in decisions.grant:
            self.happen(job_id, events.SlotGranted())
        self.check_slots()
        again = scheduler.choose(self.candidates(), self.boot, RULES)
        assert (again.grant, again.revoke) == ([], []), "decisions are stable"
        return again.check_at

    def check_slots(self) -> None:
        active = [job.properties.priority for job in self.jobs.values() if job.state.is_active]
        queued = [job.properties.priority for job in self.jobs.values() if job.state is JobState.QUEUED]
        foreground = active.count(Priority.FOREGROUND)
        background = [priority for priority in active if priority is not Priority.FOREGROUND]
        waiting = [priority for priority in queued if priority is not Priority.FOREGROUND]
        assert foreground <= RULES.max_foreground_jobs
        assert foreground == RULES.max_foreground_jobs or Priority.FOREGROUND not in queued
        assert len(background) <= 1
        assert not waiting or (background and background[0] <= min(waiting)), "S3, S5: the most urgent has the slot"

    def next_instant(self, check_at: float | None) -> float:
        instants = [order.arrives_at for order in self.coming[:1]]
        instants += [check_at] if check_at is not None else []
        for job_id, job in self.jobs.items():
            if job.state.is_active:
                instants.append(
                    self.boot + (min(1.0, self.left[job_id]) if self.failures[job_id] else self.left[job_id])
                )
            timer = next_timer(job)
            if timer is not None:
                instants.append(timer)
        return min(instants)

    def work_until(self, instant: float) -> None:
        spent, self.boot = instant - self.boot, instant
        for job_id, job in list(self.jobs.items()):
            if job.state.is_active:
                self.left[job_id] -= spent
                self.report(job_id, job)
            elif (event := timer_event(job, at(self.boot))) is not None:
                self.happen(job_id, event)

    def report(self, job_id: JobId, job: Job) -> None:
        done = self.left[job_id] <= 1e-9
        if done:
            self.happen(job_id, transferred(job.epoch, 0, 1))
        elif self.failures[job_id] and self.boot - self.active_since[job_id] >= 1.0:
            self.failures[job_id] -= 1
            self.happen(job_id, events.AttemptFailed(epoch=job.epoch, error=error(codes.BG_E_CONNECTION_CLOSED)))

    def run(self) -> None:
        while True:
            self.arrive()
            check_at = self.schedule()
            if not self.coming and all(job.state is JobState.TRANSFERRED for job in self.jobs.values()):
                return
            self.work_until(self.next_instant(check_at))


@settings(max_examples=120, deadline=None)
@given(orders=st.lists(ORDERS, min_size=1, max_size=8))
def test_slots_are_never_idle_never_shared_and_everybody_gets_done(check_step: CheckStep, orders: list[Order]) -> None:
    machine = Machine(orders, check_step)
    machine.run()
    # A slot is never idle while somebody could use it, and stopping loses nothing: so the end comes in time.
    work = sum(order.work_seconds for order in orders)
    retries = sum(sum(scheduler.RETRY_STEPS_SECONDS[: order.failures]) for order in orders)
    assert machine.boot <= max(order.arrives_at for order in orders) + work + retries + 1e-6


@settings(max_examples=200, deadline=None)
@given(
    owners=st.lists(st.sampled_from([1000, 1001, 1002]), min_size=1, max_size=8),
    work_seconds=st.integers(1, 500).map(float),
)
def test_on_one_level_nobody_waits_longer_than_a_round(
    check_step: CheckStep, owners: list[int], work_seconds: float
) -> None:
    orders = [Order(Priority.NORMAL, uid, START, work_seconds, 0) for uid in owners]
    machine = Machine(orders, check_step)
    machine.run()
    for job_id, waited in machine.first_wait.items():
        own = owners.count(machine.jobs[job_id].owner.uid)
        assert waited <= own * len(set(owners)) * RULES.slice_seconds


def test_a_user_with_one_job_is_not_slowed_down_by_one_with_many(check_step: CheckStep) -> None:
    """The first choice that a newcomer meets is the fair one."""
    crowd = [Order(Priority.NORMAL, 1000, START, 600.0, 0) for _ in range(20)]
    machine = Machine([*crowd, Order(Priority.NORMAL, 1001, START + 1.0, 30.0, 0)], check_step)
    machine.run()
    newcomer = next(job for job in machine.jobs.values() if job.owner.uid == 1001)
    assert machine.first_wait[newcomer.job_id] == 59.0


def test_every_state_is_somewhere_in_the_table() -> None:
    assert {state for state, _, _ in transitions.LEGAL} == {state for state in JobState if not state.is_final}
