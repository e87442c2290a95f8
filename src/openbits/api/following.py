"""Following one job by its events until waiting for it is over, also across a restart of the service.

A job that left the queue while nobody answered (an `auto_complete` job does so by itself) is found in the stored
events: its last state is there.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from openbits.api.client import Job, Outcome, outcome_of
from openbits.api.connection import UnreachableError
from openbits.api.wire import JobInfo
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


class Following:
    """One job and what was last heard of it. `interval` and `timeout` as in `Job.follow`."""

    def __init__(self, job: Job, *, interval: float | None, timeout: float | None) -> None:
        self._job = job
        self._client = job.client
        self._pause = RECHECK_SECONDS if interval is None else min(interval, RECHECK_SECONDS)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._info: JobInfo | None = None
        self._seq = 0
        self._loss: tuple[UnreachableError, float] | None = None
        """How the service went away, and when; None while it is there."""

    def infos(self) -> Iterator[JobInfo]:
        """The job now and after each event, up to its outcome or the deadline."""
        while True:
            try:
                yield from self._connected()
            except UnreachableError as error:
                if not self._may_try_again(error):
                    return
            else:
                return

    def _connected(self) -> Iterator[JobInfo]:
        if self._loss is not None:
            self._client.reconnect()
        try:
            events, info = self._open()
        except BitsError as error:
            if error.hresult != codes.BG_E_NOT_FOUND or self._info is None:
                raise
            yield self._last_words(self._info, error)
            return
        self._loss = None
        with events:
            while True:
                self._info = info
                yield info
                left = self._pause if self._deadline is None else min(self._pause, self._deadline - time.monotonic())
                if outcome_of(info) is not None or left <= 0:
                    return
                event = events.next(left)
                self._seq = max(self._seq, event["seq"] if event else 0)
                info = (event.get("job") if event else None) or self._job.info()

    def _open(self) -> "tuple[EventStream, JobInfo]":
        """Events first, then the state: nothing is missed between the two."""
        self._info = self._info or self._job.info()
        events = self._events(None)
        try:
            info = self._job.info()
        except BaseException:
            events.close()
            raise
        self._seq = max(self._seq, events.first["seq"])  # not before: of a job that is gone, older events tell more
        return events, info

    def _events(self, from_seq: int | None) -> "EventStream":
        """Events of the job; of somebody else's only an administrator gets any."""
        if self._info is not None and self._info["owner_uid"] != self._client.info["caller_uid"]:
            with contextlib.suppress(BitsError):
                return self._client.events(from_seq=from_seq, job_ids=[self._job.id], all_users=True)
        return self._client.events(from_seq=from_seq, job_ids=[self._job.id])

    def _may_try_again(self, error: UnreachableError) -> bool:
        """After a pause; False if the deadline came first. Raises UnreachableError after RECONNECT_SECONDS in a row."""
        now = time.monotonic()
        first, since = self._loss = self._loss or (error, now)
        if self._deadline is not None and now >= self._deadline:
            return False
        if now - since >= RECONNECT_SECONDS:
            hint = f"job {self._job.id} is kept; when the service runs again: bits wait {self._job.id}"
            raise UnreachableError(first.path, f"{first.why}, and since then: {error.why}", hint) from error
        time.sleep(_PAUSE_SECONDS)
        return True

    def _last_words(self, info: JobInfo, missing: BitsError) -> JobInfo:
        """How the job ended meanwhile, from its stored events."""
        state = None
        with self._events(self._seq) as events:
            while (event := events.next(_LAST_WORDS_SECONDS)) is not None and event["kind"] != "removed":
                state = event.get("state") or state
        if state == Outcome.ACKNOWLEDGED.value:
            size, count = info["bytes_total"], info["files_total"]
            moved = info["bytes_transferred"] if size is None else size
            return {**info, "state": state, "bytes_transferred": moved, "files_transferred": count, "waiting": None}
        if state == Outcome.CANCELLED.value:
            return {**info, "state": state, "waiting": None}
        raise missing
