"""The part of the varlink interface about identities: the connection's own, tokens, helper tokens (identity.md §3)."""

import os

from asyncvarlink import FileDescriptor, varlinkmethod

from openbits.api.wire import ServiceInfo, TokenInfo
from openbits.core import access, codes, events
from openbits.core.enums import Level, TokenFlags
from openbits.core.errors import BitsError
from openbits.failpoints import failpoint
from openbits.service import audit
from openbits.service.answers import answered
from openbits.service.methods import Methods
from openbits.version import VERSION


class TokenMethods(Methods):
    """The connection, tokens, and the helper token of a job."""

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


def _level(level: int) -> Level:
    if level not in set(Level):
        raise BitsError(codes.E_INVALIDARG, f"level {level} is not an impersonation level (1 to 4)")
    return Level(level)
