"""A subscriber that resumes gets every event that is kept, or is told that some are not."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from tests.store.conftest import MakeEvent, MakeJob, directory, make_event, make_job, store

from openbits.core.model import Now
from openbits.service.context import Context
from openbits.service.events import EventStream, Subscriber
from openbits.store import AppendEvent, Store
from openbits.store.sqlite import KEPT_EVENTS, TRIM_EVENTS

__all__ = ["directory", "make_event", "make_job", "store"]

MOST_EVENTS = KEPT_EVENTS + TRIM_EVENTS - 1
"""So many there are at the longest before some go."""


def missed(store: Store, last_seq: int, from_seq: int) -> list[Any]:
    context = SimpleNamespace(
        store=store, engine=SimpleNamespace(stream=EventStream(last_seq), now=lambda: Now(wall=0.0, boot=0.0))
    )
    subscriber = Subscriber(0, sees_all=True, job_ids=None)
    return asyncio.run(Context.missed_events(cast("Context", context), subscriber, from_seq))


def test_all_that_are_kept_come_however_many(store: Store, make_job: MakeJob, make_event: MakeEvent) -> None:
    job = make_job()
    store.commit([AppendEvent(make_event(seq, job)) for seq in range(1, MOST_EVENTS + 1)])
    assert [event["seq"] for event in missed(store, MOST_EVENTS, 0)] == list(range(1, MOST_EVENTS + 1))
    store.commit([AppendEvent(make_event(MOST_EVENTS + 1, job)), AppendEvent(make_event(MOST_EVENTS + 2, job))])
    (told,) = missed(store, MOST_EVENTS + 2, 0)
    assert (told["kind"], told["seq"]) == ("overflow", MOST_EVENTS + 2)
