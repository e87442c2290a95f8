"""Following one job by its events until waiting for it is over, also across a restart of the service.

A job that left the queue while nobody answered (an `auto_complete` job does so by itself) is found in the stored
events: its last state is there.

What to do next is decided here, in `Following.steps`, a generator without I/O; `Job.follow` and `AsyncJob.follow`
carry the steps out, each in its way of waiting. There is one event stream at a time: opening one ends the one before.
"""

import contextlib
import time
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openbits.api.client import Job, Outcome, outcome_of
from openbits.api.connection import UnreachableError
from openbits.api.wire import EventInfo, JobInfo
from openbits.core import codes
from openbits.core.errors import BitsError

if TYPE_CHECKING:
    from openbits.api.notifications import EventStream

RECHECK_SECONDS = 30.0
"""The state is read anew this often even without news: a job of another owner may send us no events."""

RECONNECT_SECONDS = 90.0
"""How long a service that went away is waited for; the spawner's longest pause between two tries is 30 s."""

_PAUSE_SECONDS = 0.1
_LAST_WORDS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Show:
    """Hand this to whoever follows."""

    info: JobInfo


@dataclass(frozen=True, slots=True)
class ReadJob:
    """Answer: the JobInfo of now."""


@dataclass(frozen=True, slots=True)
class OpenEvents:
    """Open the event stream of the job. Answer: the sequence number at which it begins."""

    from_seq: int | None
    all_users: bool


@dataclass(frozen=True, slots=True)
class NextEvent:
    """Answer: the next event, or None after so many seconds without one."""

    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Connect to the service anew if it ended the conversation."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


Step = Show | ReadJob | OpenEvents | NextEvent | Reconnect | Pause
Steps = Generator[Step, Any, None]
"""Yields steps; is sent the answer of each, or thrown the BitsError with which it failed."""


class Following:
    """One job and what was last heard of it. `interval` and `timeout` as in `Job.follow`."""

    def __init__(self, job_id: uuid.UUID, caller_uid: int, *, interval: float | None, timeout: float | None) -> None:
        self._job_id = job_id
        self._caller_uid = caller_uid
        self._pause = RECHECK_SECONDS if interval is None else min(interval, RECHECK_SECONDS)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._info: JobInfo | None = None
        self._seq = 0
        self._loss: tuple[UnreachableError, float] | None = None
        """How the service went away, and when; None while it is there."""

    def steps(self) -> Steps:
        """Show the job now and after each event, up to its outcome or the deadline."""
        while True:
            try:
                yield from self._connected()
            except UnreachableError as error:
                if not self._may_try_again(error):
                    return
                yield Pause(_PAUSE_SECONDS)
            else:
                return

    def _connected(self) -> Steps:
        if self._loss is not None:
            yield Reconnect()
        try:
            info = yield from self._open()
        except BitsError as error:
            if error.hresult != codes.BG_E_NOT_FOUND or self._info is None:
                raise
            yield Show((yield from self._last_words(self._info, error)))
            return
        self._loss = None
        while True:
            self._info = info
            yield Show(info)
            left = self._pause if self._deadline is None else min(self._pause, self._deadline - time.monotonic())
            if outcome_of(info) is not None or left <= 0:
                return
            event: EventInfo | None = yield NextEvent(left)
            self._seq = max(self._seq, event["seq"] if event else 0)
            info = (event.get("job") if event else None) or (yield ReadJob())

    def _open(self) -> Generator[Step, Any, JobInfo]:
        """Events first, then the state: nothing is missed between the two."""
        self._info = self._info or (yield ReadJob())
        began_at = yield from self._events(None)
        info: JobInfo = yield ReadJob()
        self._seq = max(self._seq, began_at)  # not before: of a job that is gone, older events tell more
        return info

    def _events(self, from_seq: int | None) -> Generator[Step, Any, int]:
        """Events of the job; of somebody else's only an administrator gets any."""
        if self._info is not None and self._info["owner_uid"] != self._caller_uid:
            with contextlib.suppress(BitsError):
                return int((yield OpenEvents(from_seq, all_users=True)))
        return int((yield OpenEvents(from_seq, all_users=False)))

    def _may_try_again(self, error: UnreachableError) -> bool:
        """False if the deadline came first. Raises UnreachableError after RECONNECT_SECONDS in a row."""
        now = time.monotonic()
        first, since = self._loss = self._loss or (error, now)
        if self._deadline is not None and now >= self._deadline:
            return False
        if now - since >= RECONNECT_SECONDS:
            hint = f"job {self._job_id} is kept; when the service runs again: bits wait {self._job_id}"
            raise UnreachableError(first.path, f"{first.why}, and since then: {error.why}", hint) from error
        return True

    def _last_words(self, info: JobInfo, missing: BitsError) -> Generator[Step, Any, JobInfo]:
        """How the job ended meanwhile, from its stored events."""
        state = None
        yield from self._events(self._seq)
        while True:
            event: EventInfo | None = yield NextEvent(_LAST_WORDS_SECONDS)
            if event is None or event["kind"] == "removed":
                break
            state = event.get("state") or state
        if state == Outcome.ACKNOWLEDGED.value:
            size, count = info["bytes_total"], info["files_total"]
            moved = info["bytes_transferred"] if size is None else size
            return {**info, "state": state, "bytes_transferred": moved, "files_transferred": count, "waiting": None}
        if state == Outcome.CANCELLED.value:
            return {**info, "state": state, "waiting": None}
        raise missing


class Blocking:
    """Carries the steps out for `Job.follow`."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._events: EventStream | None = None

    def infos(self, steps: Steps) -> Iterator[JobInfo]:
        """What is shown on the way; ends the event stream however it is left."""
        try:
            step = next(steps)
            while True:
                answer: object = None
                if isinstance(step, Show):
                    yield step.info
                else:
                    try:
                        answer = self._perform(step)
                    except BitsError as error:
                        step = steps.throw(error)
                        continue
                step = steps.send(answer)
        except StopIteration:
            pass
        finally:
            self._close()

    def _perform(self, step: Step) -> object:
        match step:
            case ReadJob():
                return self._job.info()
            case OpenEvents(from_seq, all_users):
                self._close()
                self._events = self._job.client.events(from_seq=from_seq, job_ids=[self._job.id], all_users=all_users)
                return self._events.first["seq"]
            case NextEvent(seconds) if self._events is not None:
                return self._events.next(seconds)
            case Reconnect():
                self._job.client.reconnect()
            case Pause(seconds):
                time.sleep(seconds)
        return None

    def _close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None
