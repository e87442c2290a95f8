"""The life of tokens: each is bound to the session of the process that made it, and ends with it (identity.md §10).

What ends a token for everybody: its session (I-11), its logon, the spawner's end. What takes it from a job alone: the
job's owner logs off (I-10), or clears it.
"""

import logging

from openbits.core import codes, events
from openbits.core.enums import ErrorContext, Integrity
from openbits.core.errors import BitsError
from openbits.core.model import JobError
from openbits.core.sessions import Difference
from openbits.core.wording import label
from openbits.service.children import Children
from openbits.service.connections import Call
from openbits.service.engine import Engine
from openbits.service.identities import named
from openbits.service.record import Record
from openbits.service.sessions import Sessions
from openbits.service.spawner_link import Cookie, SpawnerLink, Token

log = logging.getLogger("openbits.manager")


class Tokens:
    """Binds tokens to sessions, and carries out what the end of either means for jobs."""

    def __init__(self, link: SpawnerLink, engine: Engine, children: Children, sessions: Sessions) -> None:
        self._link = link
        self._engine = engine
        self._children = children
        self._sessions = sessions

    async def bind(self, token: Token, call: Call) -> Token:
        """A new token with its account name and the session of its maker: the one of the token that made it, if any.

        Raises BitsError if that session cannot be told or has ended meanwhile; the token has gone then.
        """
        try:
            presented = call.token
            session = presented.record.session if presented else await self._sessions.session_of(call.process)
            identity = token.record.identity
            self._link.describe(token, await named(identity), session)
            self.check(token)
        except BitsError:
            token.close()
            raise
        return token

    async def integrity_of(self, call: Call) -> Integrity:
        """The integrity level of who calls; whether the superuser is in a session, his token or his process says."""
        if call.identity.uid != 0:
            return Integrity.MEDIUM
        try:
            presented = call.token
            session = presented.record.session if presented else await self._sessions.session_of(call.process)
        except BitsError:  # as where nobody knows of sessions
            session = None
        return Integrity.SYSTEM if session is None else Integrity.HIGH

    def check(self, token: Token) -> None:
        """Raises BitsError E_HANDLE if the token has ended since it was recognised or made."""
        session = token.record.session
        if session is not None and self._sessions.is_over(session):
            raise BitsError(codes.E_HANDLE, f"cannot use the token: {session} has ended, and with it its tokens")
        if not self._link.is_live(token):
            who = label(token.record.identity)
            raise BitsError(codes.E_HANDLE, f"cannot use the token: the logon of {who} has ended; get a new one")

    def sessions_changed(self, change: Difference) -> None:
        """Sessions ended, owners logged off or on."""
        for session in change.ended:
            cookies = self._link.tokens_of(session)
            log.info("session_ended session=%s uid=%d tokens=%d", session.session_id, session.uid, len(cookies))
            for cookie in cookies:
                self._link.end_token(cookie)
        for uid in change.logged_off:
            log.info("logged_off uid=%d", uid)
        for record in self._engine.token_holders():
            if record.helper_token is not None and record.job.owner.uid in change.logged_off:
                self._children.retire_vouched(record.helper_token.record.cookie)
                self._take_from(record, f"ended when {label(record.job.owner)}, the owner of the job, logged off")
        self._engine.reschedule()

    def ended(self, cookie: Cookie) -> None:
        """A token has ended for everybody (jobs.md §14 H4)."""
        self._children.retire_vouched(cookie)
        for record in self._engine.token_holders():
            held = record.helper_token
            if held is not None and held.record.cookie == cookie:
                session = held.record.session
                is_by_session = session is not None and self._sessions.is_over(session)
                self._take_from(record, f"ended with {session if is_by_session else 'its logon'}")

    def _take_from(self, record: Record, why: str) -> None:
        """Let a job lose its helper token; one that needs it and is unfinished fails."""
        if record.helper_token is None:
            return
        helper = label(record.helper_token.record.identity)
        record.drop_token()
        log.info("helper_token_ended job=%s", record.job.job_id)
        if record.job.helper_token_flags:
            error = JobError(
                code=codes.BG_E_TOKEN_REQUIRED,
                context=ErrorContext.GENERAL_QUEUE_MANAGER,
                detail=f"the helper token of {helper} {why}",
                identity=helper,
                at=self._engine.now().wall,
            )
            self._engine.apply(record, events.TokenLost(error=error))
