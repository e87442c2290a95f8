"""What the parts of the varlink interface share: who calls, which job is behind a handle, and how a call is refused.

The interface is one class for each subject (`methods_jobs`, `methods_files`, …), put together in `service.interface`.
"""

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from asyncvarlink import FileDescriptor

from openbits.core import access, codes, events
from openbits.core.access import Verb
from openbits.core.enums import Integrity, Level
from openbits.core.errors import BitsError
from openbits.core.model import CommandLine, Identity
from openbits.core.wording import label
from openbits.service.connections import MAX_HANDLES, Call, Caller, Handle
from openbits.service.context import Context
from openbits.service.record import Record
from openbits.service.spawner_link import Cookie, RefusedError, Token

log = logging.getLogger("openbits.manager")

R = TypeVar("R")


class Methods:
    """Base of the parts: one connection, its caller and the service."""

    def __init__(self, context: Context, caller: Caller) -> None:
        self._context = context
        self._engine = context.engine
        self._caller = caller

    @property
    def caller(self) -> Caller:
        """Who is at the other end of this connection."""
        return self._caller

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
        self._engine.wake(record)
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

    async def _integrity(self, call: Call) -> Integrity:
        """Asked once for each connection: a process stays in its session."""
        if call.token is not None:
            return await self._context.tokens.integrity_of(call)
        if self._caller.integrity is None:
            self._caller.integrity = await self._context.tokens.integrity_of(call)
        return self._caller.integrity

    @asynccontextmanager
    async def _allowed(self, record: Record, command: CommandLine | None, by: Cookie) -> AsyncIterator[None]:
        """`Commands.allowed`, with its refusal for whoever called."""
        try:
            async with self._context.commands.allowed(record, command, by):
                yield
        except RefusedError as error:
            raise BitsError(error.hresult, f"cannot record the program to run: {error}") from None

    async def _bound(self, call: Call, making: Awaitable[Token]) -> Token:
        return await self._context.tokens.bind(await self._spawner(making), call)

    async def _spawner(self, request: Awaitable[R]) -> R:
        try:
            return await request
        except RefusedError as error:
            raise BitsError(error.hresult, str(error)) from None


def check_may_act(token: Token | None, identity: Identity, act: str) -> None:
    """Whether the token that was presented lets us act for its user, which one that only identifies him does not.

    The connection's own identity (no token) may act at level IDENTIFY, too: it is who calls (identity.md A21).
    Raises BitsError CO_E_FAILEDTOIMPERSONATE.
    """
    if token is not None and token.record.level < Level.IMPERSONATE:
        why = f"the token is of level {token.record.level.name}; use one of level IMPERSONATE"
        raise BitsError(codes.CO_E_FAILEDTOIMPERSONATE, f"cannot {act} as {label(identity)}: {why}")
