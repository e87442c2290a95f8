"""The varlink interface `io.openbits.Service` (docs/api.md): one instance a connection.

Each method checks who calls, finds the job behind the handle and applies one request to the engine; nothing here
decides about states. Answers follow the commit.
"""

import asyncio
import logging
import math
import os
import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import TypedDict, TypeVar

from asyncvarlink import FileDescriptor, LastResult, VarlinkInterface, varlinkmethod

from openbits.api.wire import (
    INTERFACE,
    DirectorySeen,
    EventInfo,
    FileInfo,
    FileToAdd,
    JobInfo,
    PropertyValues,
    ServiceInfo,
    TokenInfo,
)
from openbits.core import access, codes, events, lifecycle, properties
from openbits.core.access import Verb
from openbits.core.enums import JobType, Level, TokenFlags
from openbits.core.errors import BitsError
from openbits.core.model import Identity
from openbits.core.wording import label
from openbits.failpoints import failpoint
from openbits.service import audit
from openbits.service.answers import Failed, answered, answered_stream, pages
from openbits.service.connections import MAX_HANDLES, Call, Caller, Handle
from openbits.service.context import Context
from openbits.service.events import Subscriber
from openbits.service.record import Record
from openbits.service.spawner_link import RefusedError, Token
from openbits.service.views import file_infos
from openbits.version import VERSION

log = logging.getLogger("openbits.manager")

R = TypeVar("R")


class Created(TypedDict):
    """Answer of CreateJob."""

    job_id: str
    handle: int


class ServiceInterface(VarlinkInterface, name=INTERFACE):
    """Jobs of the Background Intelligent Transfer Service."""

    errors = (Failed,)

    def __init__(self, context: Context, caller: Caller) -> None:
        self._context = context
        self._engine = context.engine
        self._caller = caller

    @property
    def caller(self) -> Caller:
        """Who is at the other end of this connection."""
        return self._caller

    # -- connection and tokens ------------------------------------------------------------------------------------

    @varlinkmethod
    @answered
    async def Hello(self, *, level: int) -> ServiceInfo:
        """Set the impersonation level of this connection and learn who answers."""
        if level not in set(Level):
            raise BitsError(codes.E_INVALIDARG, f"level {level} is not an impersonation level (1 to 4)")
        self._caller.level = Level(level)
        identity = self._caller.peer.identity
        return {
            "version": VERSION,
            "mode": self._context.mode,
            "uid": self._context.uid,
            "caller_uid": identity.uid,
            "caller_name": identity.name,
            "process_ids": {**self._context.process_ids, **self._context.children.process_ids()},
        }

    @varlinkmethod(return_parameter="token")
    @answered
    async def OpenProcessToken(self, *, level: int, token: FileDescriptor | None = None) -> FileDescriptor:
        """A token of the caller's own identity."""
        with self._call(token) as call:
            made = await self._bound(call, self._context.link.open_token(call.cookie, _level(level)))
            audit.log("token-open", call.identity, level=level)
        return FileDescriptor(made.held.descriptor, should_close=True)

    @varlinkmethod(return_parameter="token")
    @answered
    async def LogonUser(self, *, user: str, password: str | None = None, level: int) -> FileDescriptor:
        """Prove an account to PAM and get its token. Uid 0 may leave the password out."""
        with self._call(None) as call:
            made = await self._bound(call, self._context.logons.log_on(call, _level(level), user, password))
        return FileDescriptor(made.held.descriptor, should_close=True)

    @varlinkmethod
    @answered
    async def GetTokenInfo(self, *, token: FileDescriptor) -> TokenInfo:
        """What a token proves."""
        self._call(None).close()
        presented = self._context.link.recognise(os.dup(token.fileno()))
        presented.close()
        identity = presented.record.identity
        return {
            "uid": identity.uid,
            "gid": identity.gid,
            "groups": list(identity.groups),
            "name": identity.name,
            "sid": identity.sid,
            "level": int(presented.record.level),
        }

    # -- jobs -----------------------------------------------------------------------------------------------------

    @varlinkmethod
    @answered
    async def CreateJob(
        self,
        *,
        display_name: str,
        type: str,  # noqa: A002  # name on the wire
        umask: int,
        token: FileDescriptor | None = None,  # wire name
    ) -> Created:
        """Create a job; its owner is the caller."""
        call = self._call(token)
        with call:
            self._may(call.identity, Verb.CREATE_JOB, None)
            properties.check_display_name_at_create(display_name)
            if type.upper() not in JobType.__members__:
                raise BitsError(codes.E_NOTIMPL, f"{type!r} is not a job type; use download")
            if JobType[type.upper()] is not JobType.DOWNLOAD:
                raise BitsError(codes.E_NOTIMPL, f"{type} jobs are not built yet; only download jobs are")
            await self._spawner(self._context.link.admit(call.identity.uid, call.cookie, []))
            failpoint("create.admitted")
            job = lifecycle.new_job(
                job_id=uuid.uuid4(),
                owner=call.identity,
                display_name=display_name,
                umask=umask & 0o777,
                now=self._engine.now(),
            )
            record, committed = self._engine.create(job)
            await committed
            audit.log("create", job.owner, job=job.job_id, display_name=display_name, type=type)
            return {"job_id": str(job.job_id), "handle": self._open(record, call)}

    @varlinkmethod(return_parameter="handle")
    @answered
    async def OpenJob(self, *, job_id: str, handle: int | None = None, token: FileDescriptor | None = None) -> int:
        """Obtain a job's interface: here, and only here, access to it is checked. `handle` finds a final job, too."""
        with self._call(token) as call:
            held = None if handle is None else self._handle(handle).record
            record = held if held is not None and str(held.job.job_id) == job_id else self._find(job_id)
            self._may(call.identity, Verb.OPEN_JOB, record)
            return self._open(record, call)

    @varlinkmethod
    @answered
    async def ReleaseJob(self, *, handle: int) -> None:
        """Let go of an interface."""
        self._call(None).close()
        released = self._caller.handles.pop(handle, None)
        if released is not None and released.token is not None:
            released.token.close()

    @varlinkmethod(return_parameter="jobs")
    @answered_stream
    async def ListJobs(self, *, all_users: bool, token: FileDescriptor | None = None) -> AsyncIterator[list[JobInfo]]:
        """The jobs of the caller, or of everybody for administrators, page by page; no final ones."""
        with self._call(token) as call:
            self._may(call.identity, Verb.LIST_ALL if all_users else Verb.LIST_OWN, None)
            uid = call.identity.uid
        chosen = list(self._engine.records.values() if all_users else self._engine.records_of(uid))
        for page in pages((record for record in chosen if not record.state.is_final), _weight):
            yield [self._engine.info(record) for record in page]

    @varlinkmethod(return_parameter="job")
    @answered
    async def GetJob(self, *, handle: int) -> JobInfo:
        """Everything about a job, also about a final one while the handle is held."""
        record = self._handle(handle).record
        return self._engine.info(record)

    @varlinkmethod(return_parameter="files")
    @answered_stream
    async def ListFiles(self, *, handle: int) -> AsyncIterator[list[FileInfo]]:
        """The files of a job in the order they were added, page by page."""
        for page in pages(file_infos(self._handle(handle).record)):
            yield page

    @varlinkmethod
    @answered
    async def AddFiles(
        self, *, handle: int, files: list[FileToAdd], directories: dict[str, DirectorySeen] | None = None
    ) -> None:
        """Add files, all or nothing; what the caller sees at the directories must be what the service sees."""
        opened = self._handle(handle)
        await self._context.adding.add(opened.record, files, opened.by, directories or {})

    @varlinkmethod
    @answered
    async def SetProperties(self, *, handle: int, values: PropertyValues) -> None:
        """Set properties, all or nothing."""
        record = self._handle(handle).record
        changed = properties.changed(record.job.properties, dict(values))
        await self._engine.apply(record, events.SetProperties(properties=changed))
        self._context.notifier.deliver(record)

    @varlinkmethod
    @answered
    async def Suspend(self, *, handle: int) -> None:
        """Stop the transfer and keep what is there."""
        await self._engine.apply(self._handle(handle).record, events.Suspend())

    @varlinkmethod
    @answered
    async def Resume(self, *, handle: int) -> None:
        """Make the job runnable."""
        await self._engine.apply(self._handle(handle).record, events.Resume())

    @varlinkmethod(return_parameter="hresult")
    @answered
    async def Cancel(self, *, handle: int) -> int:
        """Give the job up and remove its temporary files."""
        record = self._handle(handle).record
        return await self._close(record, events.Cancel())

    @varlinkmethod(return_parameter="hresult")
    @answered
    async def Complete(self, *, handle: int, token: FileDescriptor | None = None) -> int:
        """Publish what is transferred and end the job."""
        with self._call(token):
            record = self._handle(handle).record
            return await self._close(record, events.Complete())

    @varlinkmethod
    @answered
    async def TakeOwnership(self, *, handle: int, token: FileDescriptor | None = None) -> None:
        """Become the owner (administrators); what the old one entrusted to the job is taken away."""
        record = self._handle(handle).record
        with self._call(token) as call:
            await self._context.ownership.take(record, call.identity, call.cookie)

    # -- helper tokens (identity.md §3) ---------------------------------------------------------------------------

    @varlinkmethod
    @answered
    async def SetHelperToken(self, *, handle: int, token: FileDescriptor | None = None) -> None:
        """Give the job the identity of this call as its second identity."""
        opened = self._handle(handle)
        with self._call(token) as call:
            owner_uid = opened.record.job.owner.uid
            access.check_set_helper_token(opened.opened_by, call.identity, call.level, owner_uid, self._context.access)
            held = call.token.duplicate() if call.token is not None else None
            if held is None:
                held = await self._bound(call, self._context.link.open_token(call.cookie, call.level))
        try:
            failpoint("token.held")
            self._handle(handle)  # while the token was made the job may have got another owner
            self._context.tokens.check(held)
            committed = self._engine.apply(opened.record, events.HelperTokenSet(is_set=True))
        except BitsError:
            held.close()
            raise
        former = opened.record.helper_token
        opened.record.drop_token()
        opened.record.helper_token = held
        failpoint("token.set")
        await committed
        failpoint("token.committed")
        job_id, helper = opened.record.job.job_id, held.record.identity
        if former is None or former.record.identity != helper:  # what changes nothing costs its caller nothing
            audit.log("token-set", opened.opened_by, job=job_id, helper_uid=helper.uid, helper_name=helper.name)
        self._context.publishing.sweep(helper.uid)

    @varlinkmethod
    @answered
    async def ClearHelperToken(self, *, handle: int) -> None:
        """Drop the helper token; the flags stay."""
        opened = self._handle(handle)
        access.check_helper_token_caller(opened.opened_by, opened.record.job.owner.uid, self._context.access)
        held = opened.record.helper_token
        committed = self._engine.apply(opened.record, events.HelperTokenSet(is_set=False))
        opened.record.drop_token()
        await committed
        if held is not None:
            audit.log("token-clear", opened.opened_by, job=opened.record.job.job_id)

    @varlinkmethod
    @answered
    async def SetHelperTokenFlags(self, *, handle: int, flags: int) -> None:
        """Choose which resources the helper token opens: 1 local files, 2 network; 0 one identity for all."""
        opened = self._handle(handle)
        if flags & ~int(TokenFlags.LOCAL_FILE | TokenFlags.NETWORK):
            raise BitsError(codes.E_INVALIDARG, f"flags {flags:#x} have unknown bits; known: 1 local file, 2 network")
        held = opened.record.helper_token
        access.check_set_helper_token_flags(
            opened.opened_by,
            held.record.identity if held is not None else None,
            opened.record.job.owner.uid,
            self._context.access,
        )
        before = opened.record.job.helper_token_flags
        await self._engine.apply(opened.record, events.SetHelperTokenFlags(flags=TokenFlags(flags)))
        if flags != before:
            audit.log("token-flags", opened.opened_by, job=opened.record.job.job_id, flags=flags)

    # -- events and notices ---------------------------------------------------------------------------------------

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

    # -- helpers --------------------------------------------------------------------------------------------------

    def _call(self, token: FileDescriptor | None) -> Call:
        """The identity of this call, which must be closed; refuses whom this service or connection does not serve."""
        presented = None
        if token is not None:
            presented = self._context.link.recognise(os.dup(token.fileno()))
        call = Call(self._caller, presented)
        refusal = self._refusal(call)
        if refusal:
            call.close()
            raise BitsError(codes.E_ACCESSDENIED, refusal)
        return call

    def _refusal(self, call: Call) -> str:
        uid = self._caller.peer.identity.uid
        if call.level is Level.ANONYMOUS:
            return (
                f"cannot serve {label(call.identity)}: the call was made at level ANONYMOUS; "
                "connect at level IDENTIFY or above, and impersonate tokens of such a level"
            )
        if self._caller.peer.is_foreign_userns:
            return (
                f"cannot serve {label(call.identity)} from a process in another user namespace; call from outside of it"
            )
        if self._context.mode == "user" and uid != self._context.uid:
            return (
                f"this is the own service of uid {self._context.uid} and serves that uid alone; you are uid {uid}; "
                "use the machine's service or your own"
            )
        former, present = self._engine.account_of(call.identity.uid), call.identity.name
        if former and present and former != present:  # an account was deleted, and its uid given to another
            return (
                f"cannot serve {label(call.identity)}: jobs in the queue belong to the account {former!r}, which had"
                " this uid before; have an administrator complete or cancel them"
            )
        return ""

    def _may(self, identity: Identity, verb: Verb, record: Record | None) -> None:
        owner_uid = record.job.owner.uid if record is not None else None
        if access.may(identity, verb, owner_uid, self._context.access):
            return
        text = f"cannot see the jobs of all users: {label(identity)} is no administrator; ask for your own jobs alone"
        if record is not None:
            text = (
                f"cannot open job {record.job.job_id}: {label(identity)} is neither its owner nor an administrator; "
                "ask its owner or an administrator"
            )
        raise BitsError(codes.E_ACCESSDENIED, text)

    def _find(self, job_id: str) -> Record:
        try:
            record = self._engine.records[uuid.UUID(job_id)]
        except (KeyError, ValueError):
            record = None
        if record is None or record.job.state.is_final:
            raise BitsError(
                codes.BG_E_NOT_FOUND, f"there is no job {job_id[:64]} in the queue; it may be completed or cancelled"
            )
        return record

    def _open(self, record: Record, call: Call) -> int:
        if self._caller.is_closed:
            raise BitsError(codes.E_HANDLE, "the connection ended during the call")
        if len(self._caller.handles) >= MAX_HANDLES:
            raise BitsError(codes.E_OUTOFMEMORY, f"this connection holds {MAX_HANDLES} jobs; release some")
        number = self._caller.next_handle
        self._caller.next_handle += 1
        token = call.token.duplicate() if call.token is not None else None
        self._caller.handles[number] = Handle(record, call.identity, call.cookie, token)
        return number

    def _handle(self, handle: int) -> Handle:
        self._call(None).close()
        try:
            opened = self._caller.handles[handle]
        except KeyError:
            raise BitsError(codes.E_HANDLE, f"{handle} is no handle of this connection; open the job first") from None
        self._may(opened.opened_by, Verb.OPEN_JOB, opened.record)  # the job may have another owner since
        return opened

    async def _close(self, record: Record, request: events.Complete | events.Cancel) -> int:
        committed = self._engine.apply(record, request)
        if record.closing is None:
            record.closing = asyncio.get_running_loop().create_future()
        closing = record.closing  # of another caller too: a second Complete joins the first
        log.info("job_closing job=%s by=%s", record.job.job_id, type(request).__name__.lower())
        await committed
        self._context.publishing.settle(record)
        return await asyncio.shield(closing)

    async def _bound(self, call: Call, making: Awaitable[Token]) -> Token:
        return await self._context.tokens.bind(await self._spawner(making), call)

    async def _spawner(self, request: Awaitable[R]) -> R:
        try:
            return await request
        except RefusedError as error:
            raise BitsError(error.hresult, str(error)) from None


def _weight(record: Record) -> int:
    """As how many jobs one counts in a page: proxy lists may be much longer than all the rest."""
    settings = record.job.properties
    return 1 + math.ceil((len(settings.proxy_list) + len(settings.proxy_bypass_list)) / 1024)


def _level(level: int) -> Level:
    if level not in set(Level):
        raise BitsError(codes.E_INVALIDARG, f"level {level} is not an impersonation level (1 to 4)")
    return Level(level)
