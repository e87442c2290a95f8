"""Who may run now and for how long, when a failed attempt is repeated, and why a job does not move.

It decides from candidates and the time alone; it starts and stops nothing (the manager turns decisions into
`SlotGranted` and `SlotRevoked`). The rules are those of jobs.md §5:

* every runnable foreground job has a slot of its own, up to a cap (S2);
* all other jobs share one slot; the most urgent level that has work owns it, and takes it at once (S3, S5);
* jobs of one level take turns of one slice; without a competitor nobody has to stop (S4, S8);
* turns go round the owners first, then round the jobs of an owner in the order they were queued: a user with a
  hundred jobs does not slow down a user with one.

All instants are of the boot clock unless their name says otherwise.
"""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from openbits.core import codes
from openbits.core.enums import JobState, JobType, Priority
from openbits.core.model import Job, JobId, Now
from openbits.core.sessions import LogonRequired
from openbits.core.timers import gives_up_at
from openbits.core.wording import host_of, instant

RETRY_STEPS_SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0)
"""Delays before the first retries; later ones wait for the minimum retry delay of the job (design.md §8)."""

SHORTEST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 86_400.0
"""Cap of a Retry-After that a server asks for (OPEN-08)."""

NEVER = 0.0
"""Boot-clock value of something that has not happened yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """MaxForegroundJobs (OPEN-11) and TimeSlice (OPEN-12)."""

    max_foreground_jobs: int = 32
    slice_seconds: float = 60.0


DEFAULT_SETTINGS = Settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A job that has a slot (`is_active`) or may be given one (`is_runnable`: S9); others are not considered."""

    job_id: JobId
    owner_uid: int
    priority: Priority
    is_active: bool
    is_runnable: bool
    queued_at: float
    active_since: float = NEVER
    last_served_at: float = NEVER
    owner_last_served_at: float = NEVER
    """When any job of this owner was served last, jobs that have left the queue included."""
    logon_needed: LogonRequired | None = None
    """The rule by which its owner has to log on first; until then it neither gets nor keeps a slot."""
    is_resumable: bool = True
    """False while a stop would lose what was transferred: such a job is not stopped at the end of a slice (S8)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """Slots to take away first, slots to give then, and when to look again although nothing else happens."""

    grant: list[JobId]
    revoke: list[JobId]
    check_at: float | None = None


def retry_delay(attempt: int, minimum_seconds: float, retry_after_seconds: float | None, spread: float) -> float:
    """Seconds to wait after the `attempt`-th failure in a row (from 1): short at first, then the minimum retry delay.

    A larger Retry-After of the server wins; the result is at least 1 s and at most 24 h (OPEN-08, design.md §8).
    """
    step = RETRY_STEPS_SECONDS[attempt - 1] if attempt <= len(RETRY_STEPS_SECONDS) else minimum_seconds
    delay = min(step, minimum_seconds) * (1 + spread)
    if retry_after_seconds is not None:
        delay = max(delay, retry_after_seconds)
    return min(max(delay, SHORTEST_RETRY_SECONDS), LONGEST_RETRY_SECONDS)


def choose(jobs: Iterable[Candidate], now_boot: float, settings: Settings = DEFAULT_SETTINGS) -> Decisions:
    """Decide which jobs get a slot and which have to give theirs back."""
    levels: dict[Priority, list[Candidate]] = defaultdict(list)
    held: list[JobId] = []
    for job in jobs:
        if job.logon_needed is not None:
            held.extend([job.job_id] if job.is_active else [])
        elif job.is_active or job.is_runnable:
            levels[job.priority].append(job)
    foreground = _Share(levels.pop(Priority.FOREGROUND, []), settings.max_foreground_jobs, now_boot, settings)
    top = min(levels, default=Priority.LOW)
    background = _Share(levels.pop(top, []), 1, now_boot, settings)
    preempted = [job.job_id for level in levels.values() for job in level if job.is_active]
    checks = [share.check_at for share in (foreground, background) if share.check_at is not None]
    return Decisions(
        grant=[*foreground.grant, *background.grant],
        revoke=[*held, *preempted, *foreground.revoke, *background.revoke],
        check_at=min(checks, default=None),
    )


class _Share:
    """The jobs of one level share `slots` slots: fill the free ones, then exchange those whose slice is over."""

    def __init__(self, jobs: list[Candidate], slots: int, now_boot: float, settings: Settings) -> None:
        self.grant: list[JobId] = []
        self.revoke: list[JobId] = []
        self.check_at: float | None = None
        self._served_at: dict[int, float] = defaultdict(float)
        self._held: dict[int, int] = defaultdict(int)
        active = sorted((job for job in jobs if job.is_active), key=lambda job: job.active_since)
        for job in jobs:
            served_at = now_boot if job.is_active else max(job.last_served_at, job.owner_last_served_at)
            self._served_at[job.owner_uid] = max(self._served_at[job.owner_uid], served_at)
            self._held[job.owner_uid] += job.is_active
        self._waiting: dict[int, deque[Candidate]] = defaultdict(deque)
        for job in sorted((job for job in jobs if not job.is_active), key=lambda job: job.queued_at):
            self._waiting[job.owner_uid].append(job)
        for job in active[slots:]:
            self._take_from(job)
        self._fill(slots - len(active), now_boot)
        self._exchange(active[:slots], now_boot, settings.slice_seconds)

    def _fill(self, free: int, now_boot: float) -> None:
        for _ in range(free):
            job = self._next()
            if job is None:
                return
            self._give_to(job, now_boot)

    def _exchange(self, active: list[Candidate], now_boot: float, slice_seconds: float) -> None:
        """At the end of a slice the job makes room for one that has been waiting by then.

        The one who waits must not have more slots than the owner of the job: else that owner would lose its share.
        """
        holders = sorted((job for job in active if job.is_resumable), key=lambda job: -self._held[job.owner_uid])
        for holder in holders:
            slices = _slices_used(holder, now_boot, slice_seconds)
            ended_at = holder.active_since + slices * slice_seconds
            waiting = self._next(queued_before=ended_at) if slices else None
            if waiting is not None and self._held[waiting.owner_uid] <= self._held[holder.owner_uid]:
                self._take_from(holder)
                self._give_to(waiting, now_boot)
            elif self._waiting:
                self.check_at = min(self.check_at or math.inf, ended_at + slice_seconds)

    def _next(self, queued_before: float = math.inf) -> Candidate | None:
        """Whose turn it is: the owner with the fewest slots, then the one served least recently; then first come."""
        heads = (queue[0] for queue in self._waiting.values())
        return min(
            (job for job in heads if job.queued_at < queued_before),
            key=lambda job: (self._held[job.owner_uid], self._served_at[job.owner_uid], job.queued_at),
            default=None,
        )

    def _give_to(self, job: Candidate, now_boot: float) -> None:
        self._waiting[job.owner_uid].popleft()
        if not self._waiting[job.owner_uid]:
            del self._waiting[job.owner_uid]
        self._held[job.owner_uid] += 1
        self._served_at[job.owner_uid] = now_boot
        self.grant.append(job.job_id)

    def _take_from(self, job: Candidate) -> None:
        self._held[job.owner_uid] -= 1
        self.revoke.append(job.job_id)


def _slices_used(job: Candidate, now_boot: float, slice_seconds: float) -> int:
    """Whole slices that an active job has had; a timer that rings a hair too early counts as on time."""
    return math.floor((now_boot - job.active_since) / slice_seconds + 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a job does not move (user-pains, message rules). `since` and `next_at` are wall-clock times."""

    reason: str
    since: float
    next: str
    next_at: float | None = None
    hint: str = ""


def waiting_for(job: Job, jobs: Sequence[Candidate], now: Now, settings: Settings = DEFAULT_SETTINGS) -> Waiting | None:
    """What the job waits for; None while bytes move and when it is final. `jobs`: the candidates of `choose`.

    Jobs of other owners are not named (reliability.md P9).
    """
    if job.is_completing:
        return Waiting(
            reason="being completed: its files get their final names",
            since=job.state_since,
            next="it leaves the queue when all of them have",
            hint="wait for the end of Complete",
        )
    if job.state is JobState.QUEUED:
        return _waits_in_queue(job, jobs, now, settings)
    explain = _EXPLANATIONS.get(job.state)
    return explain(job, now) if explain is not None else None


def _waits_in_queue(job: Job, jobs: Sequence[Candidate], now: Now, settings: Settings) -> Waiting:
    logon_needed = next((one.logon_needed for one in jobs if one.job_id == job.job_id), None)
    if logon_needed is not None:
        return _waits_for_logon(job, logon_needed)
    is_foreground = job.properties.priority is Priority.FOREGROUND
    rivals = [one for one in jobs if one.is_active and (one.priority is Priority.FOREGROUND) is is_foreground]
    if is_foreground and len(rivals) >= settings.max_foreground_jobs:
        reason = f"waiting for one of the {settings.max_foreground_jobs} slots of foreground jobs"
        return Waiting(reason=reason, since=job.state_since, next="it starts when one is free", hint="wait")
    holder = min(rivals, key=lambda one: one.priority, default=None)
    if is_foreground or holder is None or holder.priority > job.properties.priority:
        return Waiting(reason="waiting for its slot", since=job.state_since, next="it starts at once", hint="wait")
    who = f"job {holder.job_id}" if holder.owner_uid == job.owner.uid else "another job"
    hint = "give it foreground priority to start it now"
    if holder.priority < job.properties.priority:
        return Waiting(
            reason=f"waiting behind {who}, which has a higher priority",
            since=job.state_since,
            next="it starts when no job of a higher priority can run",
            hint=hint,
        )
    slices = _slices_used(holder, now.boot, settings.slice_seconds) + 1
    slice_ends_at = now.wall + holder.active_since + slices * settings.slice_seconds - now.boot
    return Waiting(
        reason=f"waiting for its turn behind {who}",
        since=job.state_since,
        next="the next turn begins when that job ends or has had its slice",
        next_at=slice_ends_at if holder.is_resumable else None,
        hint=hint,
    )


def _waits_for_logon(job: Job, rule: LogonRequired) -> Waiting:
    who = f"user {job.owner.name}" if job.owner.name else f"uid {job.owner.uid}"
    return Waiting(
        reason=f"waiting for {who} to log in (logon_required = {rule})",
        since=job.state_since,
        next=f"it goes on when {who} logs in",
        hint=f'log in as {who}, or set logon_required = "never" under [sessions] in the settings of the service',
    )


def _connects(job: Job, _now: Now) -> Waiting:
    host = host_of(job.files[job.next_file or 0].present_remote_name)
    return Waiting(
        reason=f"connecting to {host}, attempt {job.attempt + 1}",
        since=job.state_since,
        next="the first answer of the server, or the end of this attempt",
        hint=f"if it stays like this, check the name {host}, the proxy and the firewall",
    )


def _is_suspended(job: Job, _now: Now) -> Waiting:
    if not job.files:
        return Waiting(
            reason="it has no file yet",
            since=job.state_since,
            next="nothing, until it has a file and is resumed",
            hint="add a file, then resume it",
        )
    if job.properties.on_demand_mode and job.next_file is None:
        return Waiting(
            reason="on demand: nothing of its files is requested",
            since=job.state_since,
            next="nothing, until ranges are requested and it is resumed",
            hint="request ranges, then resume it; or switch on_demand_mode off to get whole files",
        )
    return Waiting(reason="suspended", since=job.state_since, next="nothing, until it is resumed", hint="resume it")


def _will_retry(job: Job, now: Now) -> Waiting:
    error = _error_text(job)
    if job.retry_at is None:
        return Waiting(
            reason=f"held up: {error}",
            since=job.state_since,
            next="it goes on when that condition ends",
            hint=_next_step(job),
        )
    wait_seconds = max(0.0, job.retry_at - now.boot)
    limit = gives_up_at(job)
    end = f"; it gives up on {instant(now.wall + limit - now.boot)}" if limit is not None else ""
    return Waiting(
        reason=f"attempt {job.attempt} failed: {error}" if job.attempt else f"held up: {error}",
        since=job.state_since,
        next=f"attempt {job.attempt + 1}{end}",
        next_at=now.wall + wait_seconds,
        hint=_cure(job),
    )


def _cure(job: Job) -> str:
    """What helps while a job tries again by itself: what can be done about the cause, and not to wait."""
    step, _, _ = _next_step(job).partition("; the job tries again by itself")
    if step.endswith("resume the job to try now"):
        return _RETRY_NOW
    return step if step.endswith(("resume the job", "resume it")) else f"{step}; {_RETRY_NOW}"


def _has_failed(job: Job, _now: Now) -> Waiting:
    return Waiting(
        reason=f"failed: {_error_text(job)}",
        since=job.state_since,
        next="nothing, until it is resumed, completed or cancelled",
        hint=_next_step(job),
    )


def _is_transferred(job: Job, _now: Now) -> Waiting:
    what = "the files are here and not yet visible"
    if job.type is not JobType.DOWNLOAD:
        has_reply = job.reply is not None and bool(job.reply.size_bytes)
        what = "the file is at its destination" + (", its reply is here and not yet visible" if has_reply else "")
    return Waiting(
        reason=f"transferred, waiting for Complete: {what}",
        since=job.state_since,
        next="nothing, until it is completed or cancelled",
        hint="complete it",
    )


_RETRY_NOW: Final = "resume it to try now"


def _error_text(job: Job) -> str:
    return codes.describe_cause(job.error) if job.error is not None else "the reason is not known"


def _next_step(job: Job) -> str:
    if job.error is None:
        return "remove the cause, then resume it"
    tries_again = job.state is JobState.TRANSIENT_ERROR
    step = codes.next_step(job.error.code, job.error.detail, tries_again=tries_again)
    return codes.presentable(step) or "remove the cause, then resume it"


_EXPLANATIONS: dict[JobState, Callable[[Job, Now], Waiting]] = {
    JobState.CONNECTING: _connects,
    JobState.SUSPENDED: _is_suspended,
    JobState.TRANSIENT_ERROR: _will_retry,
    JobState.ERROR: _has_failed,
    JobState.TRANSFERRED: _is_transferred,
}
