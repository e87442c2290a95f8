"""The part of the varlink interface that tells what happens: the event stream and the notices (docs/api.md)."""

from collections.abc import AsyncIterator

from asyncvarlink import FileDescriptor, LastResult, varlinkmethod

from openbits.api.wire import EventInfo
from openbits.core import access, codes
from openbits.core.access import Verb
from openbits.core.errors import BitsError
from openbits.service.answers import answered, answered_stream
from openbits.service.events import Subscriber
from openbits.service.methods import Methods


class EventMethods(Methods):
    """Subscriptions, and notices to acknowledge."""

    @varlinkmethod(return_parameter="event", delay_generator=False)
    @answered_stream
    async def Subscribe(
        self, *, from_seq: int | None = None, job_ids: list[str] | None = None, all_users: bool
    ) -> AsyncIterator[EventInfo]:
        """The event stream: `subscribed`, then stored events after from_seq, then live ones, until the service ends."""
        with self._call(None) as call:
            self._may(call.identity, Verb.LIST_ALL if all_users else Verb.LIST_OWN, None)
            wanted = frozenset(job_ids) if job_ids is not None else None
            subscriber = Subscriber(call.identity.uid, all_users, wanted)
        stream = self._engine.stream
        stream.add(subscriber)
        self._context.streams.setdefault(self._caller, []).append(subscriber)
        now = self._engine.now().wall
        first: EventInfo = {"seq": stream.committed_seq, "at": now, "kind": "subscribed", "job_id": ""}
        first["subscriber"] = subscriber.subscriber_id
        missed = await self._context.missed_events(subscriber, from_seq)
        yield first
        for event in missed:
            yield event
        while (live := await subscriber.queue.get()) is not None:
            yield live
        last: EventInfo = {"seq": stream.committed_seq, "at": self._engine.now().wall, "kind": "ended", "job_id": ""}
        raise LastResult(last)

    @varlinkmethod(return_parameter="registration")
    @answered
    async def SetNotify(
        self, *, handle: int, subscriber: str | None = None, token: FileDescriptor | None = None
    ) -> int:
        """Send the notices of this job to a subscriber; null: to nobody. The number of the registration."""
        opened = self._handle(handle)
        with self._call(token):
            target = self._engine.stream.find(subscriber) if subscriber is not None else None
            if subscriber is not None and (target is None or target.uid != self._caller.peer.identity.uid):
                raise BitsError(codes.E_INVALIDARG, "the subscriber is not an event stream of yours; call Subscribe")
        sees = None if access.is_administrator(opened.opened_by, self._context.access) else opened.opened_by.uid
        return self._context.notifier.register(opened.record, target, sees)

    @varlinkmethod
    @answered
    async def AcknowledgeNotice(self, *, job_id: str, notice_seq: int, hresult: int) -> None:
        """The notice was taken (0) or is to be delivered again."""
        with self._call(None) as call:
            await self._context.notifier.acknowledge(self._find(job_id), call.identity.uid, notice_seq, hresult)
