"""The part of the varlink interface that tells what happens: the event stream and the notices (docs/api.md)."""

import uuid
from collections.abc import AsyncIterator

from asyncvarlink import FileDescriptor, LastResult, varlinkmethod

from openbits.api.wire import EventInfo
from openbits.core import access, codes
from openbits.core.access import Verb
from openbits.core.errors import BitsError
from openbits.service.answers import answered, answered_stream
from openbits.service.connections import Handle
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
        target, sees = self._chosen(opened, subscriber, token)
        return self._context.notifier.register(opened.record, target, sees)

    @varlinkmethod
    @answered
    async def AcknowledgeNotice(
        self, *, job_id: str, notice_seq: int, hresult: int, subscriber: str | None = None
    ) -> None:
        """The notice was taken (0; of a file: no failure) or is to be delivered again."""
        with self._call(None) as call:
            uid = call.identity.uid
        code = _code(hresult)
        flight = self._context.notifier.flight(_uuid(job_id), notice_seq, uid, subscriber)
        if flight is None:
            self._find(job_id)
            raise BitsError(codes.E_INVALIDARG, f"no notice {notice_seq} of job {job_id} waits for an answer of yours")
        await self._context.notifier.acknowledge(flight, code)

    @varlinkmethod
    @answered
    async def SetCertificateCallback(self, *, handle: int, subscriber: str | None = None) -> None:
        """Ask this subscriber about the certificates of the job's servers; null: ask nobody, and need nobody."""
        opened = self._handle(handle)
        target, sees = self._chosen(opened, subscriber, None)
        await self._context.certificate_checks.set(opened.record, target, sees)

    @varlinkmethod
    @answered
    async def AnswerCertificate(self, *, question: int, hresult: int) -> None:
        """0 accepts the certificate; anything else refuses it, and is the error of the job."""
        with self._call(None) as call:
            self._context.certificate_checks.answer(question, call.identity.uid, _code(hresult))

    def _chosen(
        self, opened: Handle, subscriber: str | None, token: FileDescriptor | None
    ) -> tuple[Subscriber | None, int | None]:
        """A stream of the caller's, and whose jobs it may see: that uid's, None: everybody's."""
        with self._call(token):
            target = self._engine.stream.find(subscriber) if subscriber is not None else None
            if subscriber is not None and (target is None or target.uid != self._caller.peer.identity.uid):
                raise BitsError(codes.E_INVALIDARG, "the subscriber is not an event stream of yours; call Subscribe")
        is_administrator = access.is_administrator(opened.opened_by, self._context.access)
        return target, None if is_administrator else opened.opened_by.uid


def _uuid(job_id: str) -> uuid.UUID:
    try:
        return uuid.UUID(job_id)
    except ValueError:
        return uuid.UUID(int=0)  # no job has it


def _code(hresult: int) -> int:
    try:
        return codes.unsigned(hresult)
    except ValueError as error:
        raise BitsError(codes.E_INVALIDARG, f"cannot take {hresult} as an answer: {error}") from None
