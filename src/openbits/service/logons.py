"""LogonUser: within the limits of `core.limits` for each calling uid, and every one of them in the audit log."""

import time

from openbits.core import codes, limits
from openbits.core.enums import Level
from openbits.service import audit
from openbits.service.connections import Call
from openbits.service.spawner_link import RefusedError, SpawnerLink, Token, cannot_log_on

FAILURES = frozenset({codes.ERROR_LOGON_FAILURE, codes.ERROR_ACCOUNT_LOCKED_OUT, codes.E_INVALIDARG})
"""What counts as a failure: answers to who has not proved to know the password."""


class Logons:
    """Logs accounts on for callers. A logon counts until PAM has answered, also if the caller has left."""

    def __init__(self, link: SpawnerLink) -> None:
        self._link = link
        self._past: dict[int, limits.Logons] = {}

    async def log_on(self, call: Call, level: Level, user: str, password: str | None) -> Token:
        """A token of the account. Raises RefusedError: what PAM said, or ERROR_NO_LOGON_SERVERS beyond the limits."""
        caller = call.identity
        refusal = limits.logon_refusal(self._past.get(caller.uid, limits.Logons()), _now())
        if refusal:
            audit.log("logon-blocked", caller, target=user, why=refusal)
            raise RefusedError("logon-failed", cannot_log_on(user, refusal), codes.ERROR_NO_LOGON_SERVERS)
        self._past[caller.uid] = limits.logon_began(self._past.get(caller.uid, limits.Logons()))
        is_failure = False
        try:
            made = await self._link.logon(call.cookie, level, user, password)
        except RefusedError as error:
            is_failure = error.hresult in FAILURES
            audit.log("logon-refused", caller, target=user, code=codes.label(error.hresult))
            raise
        finally:
            self._ended(caller.uid, is_failure=is_failure)
        audit.log("logon", caller, target=user, uid=made.record.identity.uid)
        return made

    def _ended(self, uid: int, *, is_failure: bool) -> None:
        now = _now()
        self._past[uid] = limits.logon_ended(self._past[uid], now, is_failure=is_failure)
        for other in [other for other, past in self._past.items() if limits.is_forgettable(past, now)]:
            del self._past[other]


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
