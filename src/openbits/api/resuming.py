"""The event stream over restarts of the service and over streams that were too slow: no gap, no repetition.

Stored events are numbered, so the stream is taken up again after the last one that was handed out. Events that are
not kept any more are told as one `overflow` event: what happened up to its number is not known.
"""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from openbits.api import following
from openbits.api.client import Client
from openbits.api.connection import UnreachableError
from openbits.api.wire import EventInfo

if TYPE_CHECKING:
    import uuid

    from openbits.api.notifications import EventStream

_UNNUMBERED = frozenset({"progress", "notice"})
"""Kinds that repeat the number of the last stored event."""

_PAUSE_SECONDS = 0.1


class ResumingEvents:
    """Events after number `from_seq` (None: from now on); `job_ids` and `all_users` as in `Client.events`."""

    def __init__(
        self,
        client: Client,
        *,
        from_seq: int | None = None,
        job_ids: "Iterable[uuid.UUID] | None" = None,
        all_users: bool = False,
    ) -> None:
        self._client = client
        self._job_ids = None if job_ids is None else list(job_ids)
        self._all_users = all_users
        self._stream: EventStream | None = None
        self._asked_seq: int | None = None
        self._lost_at = 0.0
        self.loss: UnreachableError | None = None
        """How the service went away; None while it is there."""
        self.seq = from_seq
        """Number of the last event that was handed out; None until the first stream stands."""
        self._opened()

    def next(self, timeout: float | None = None) -> EventInfo | None:
        """The next event; None if there is none within `timeout` seconds.

        Raises UnreachableError if the service is away for `following.RECONNECT_SECONDS`, BitsError if it refuses us.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            event = None
            try:
                event = self._opened().next(None if deadline is None else max(0.001, deadline - time.monotonic()))
            except UnreachableError as error:
                self._pause(error)
            if event is not None and self._is_new(event):
                return event
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def close(self) -> None:
        """End the stream; `next` would take it up again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _opened(self) -> "EventStream":
        if self._stream is None:
            self._stream = self._client.events(from_seq=self.seq, job_ids=self._job_ids, all_users=self._all_users)
            self.loss = None
            self._asked_seq = self.seq
            if self.seq is None:
                self.seq = self._stream.first["seq"]
        return self._stream

    def _pause(self, error: UnreachableError) -> None:
        self.close()
        now = time.monotonic()
        if self.loss is None:
            self.loss, self._lost_at = error, now
        if now - self._lost_at >= following.RECONNECT_SECONDS:
            why = f"{self.loss.why}, and since then: {error.why}"
            raise UnreachableError(error.path, why, f"the last event was number {self.seq}") from error
        time.sleep(_PAUSE_SECONDS)

    def _is_new(self, event: EventInfo) -> bool:
        """False for what was handed out before, and for an overflow that a new stream from our number cures."""
        seq = self.seq or 0
        if event["kind"] == "overflow":
            if self._asked_seq == seq:
                self.seq = event["seq"]  # asked for all after it, and they are not kept
                return True
            self.close()
            return False
        if event["kind"] in _UNNUMBERED:
            return True
        self.seq = max(seq, event["seq"])
        return event["seq"] > seq

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
