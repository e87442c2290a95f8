"""The event stream: numbered, stored with the step that caused them, handed to subscribers after the commit.

Progress events and notices are not stored; they carry the number of the last stored event. A subscriber that does
not read gets one `overflow` event in place of what it missed.
"""

import asyncio
import uuid
from dataclasses import dataclass, field

from openbits.api.wire import EventInfo

QUEUE_LIMIT = 1000

SENT_ONCE = frozenset({"notice", "replaced", "certificate"})
"""Events to whoever registered for the job: nothing else tells what they do. Notices without a number may be lost."""


@dataclass(eq=False, slots=True)
class Subscriber:
    """One Subscribe stream."""

    uid: int
    sees_all: bool
    job_ids: frozenset[str] | None
    subscriber_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    queue: "asyncio.Queue[EventInfo | None]" = field(default_factory=asyncio.Queue)

    def wants(self, owner_uid: int, job_id: str) -> bool:
        """True if this subscriber may see and asked for events of the job."""
        return (self.sees_all or owner_uid == self.uid) and (self.job_ids is None or job_id in self.job_ids)

    def put(self, event: EventInfo) -> None:
        """Queue an event; when the queue is full, say so once in place of all that is not for this subscriber alone."""
        if self.queue.qsize() >= QUEUE_LIMIT:
            waiting = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
            kept = [one for one in (*waiting, event) if one is not None and _is_sent_once(one)]
            for one in kept:  # few notices are in flight at a time, and the jobs of one subscriber bound the others
                self.queue.put_nowait(one)
            event = overflow(event["seq"], event["at"])
        self.queue.put_nowait(event)


def _is_sent_once(event: EventInfo) -> bool:
    return event["kind"] in SENT_ONCE and (event["kind"] != "notice" or "notice_seq" in event)


def overflow(seq: int, at: float) -> EventInfo:
    """Some events up to `seq` were missed: read the state anew."""
    return {"seq": seq, "at": at, "kind": "overflow", "job_id": ""}


class EventStream:
    """Numbers events and hands them out.

    `committed_seq` is the last number that a restart will not give out again: the only kind that subscribers hear.
    """

    def __init__(self, last_seq: int) -> None:
        self.last_seq = self.committed_seq = last_seq
        self._subscribers: dict[str, Subscriber] = {}

    def next_seq(self) -> int:
        """The number of the next stored event."""
        self.last_seq += 1
        return self.last_seq

    def add(self, subscriber: Subscriber) -> None:
        """Start handing events to a subscriber."""
        self._subscribers[subscriber.subscriber_id] = subscriber

    def drop(self, subscriber: Subscriber) -> None:
        """The stream of a subscriber ended."""
        self._subscribers.pop(subscriber.subscriber_id, None)

    def find(self, subscriber_id: str) -> Subscriber | None:
        """A live subscriber by its id."""
        return self._subscribers.get(subscriber_id)

    def interested(self, owner_uid: int, job_id: str) -> list[Subscriber]:
        """Subscribers that want events of this job."""
        return [one for one in self._subscribers.values() if one.wants(owner_uid, job_id)]

    def end(self) -> None:
        """The service stops: every stream ends."""
        for subscriber in self._subscribers.values():
            subscriber.queue.put_nowait(None)
