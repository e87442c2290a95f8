"""Who is logged on: chooses how to know it, and tells what changed (identity.md §10).

The first layer that works at the start is used: logind (1), presence of processes (4), and if nobody can be seen,
everybody counts as logged on (5). logind takes over when it appears later; what it sees first is compared with nothing,
because somebody with a process and without a session has not logged off.

A user's own service watches nothing: it has one identity, no token of somebody else, and a process of that user is
itself.
"""

import asyncio
import logging
import os
import pwd
import re
import select
from collections.abc import Callable, Coroutine, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

from openbits.core import codes
from openbits.core.errors import BitsError
from openbits.core.sessions import EVERYBODY, Difference, LogonRequired, Picture, Rules, Session, difference
from openbits.service.accounts import system_uid_max
from openbits.service.config import Sessions as Settings
from openbits.service.logind import ANSWER_SECONDS, Logind, LogindError
from openbits.service.presence import Presence, are_processes_visible

log = logging.getLogger("openbits.manager")


class Sessions:
    """What the service knows of sessions. `on_change` hears of every new picture, however little it differs."""

    def __init__(
        self,
        settings: Settings,
        *,
        zygote_pid: int,
        connected: Callable[[], AbstractSet[int]],
        owners: Callable[[], Iterable[int]],
        on_change: Callable[[Difference], None],
    ) -> None:
        self._settings = settings
        self._rules = rules_of(settings)
        self._picture: Picture | None = None
        self._on_change = on_change

        def is_wanted() -> bool:
            return not all(self._rules.is_assumed(uid) for uid in owners())

        self._logind = Logind(
            settings.bus_address,
            settings.scan_seconds,
            is_linger_wanted=settings.logon_required is LogonRequired.LINGER,
            is_wanted=is_wanted,
            on_picture=self._take_over,
        )
        self._presence = Presence(
            zygote_pid,
            settings.scan_seconds,
            connected=connected,
            is_wanted=is_wanted,
            on_picture=self._take,
        )
        self._is_by_logind = False
        self._scanning: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def watch(self) -> None:
        """Begin to watch; returns when it is known who is logged on, after a few seconds at most."""
        if self._rules.is_everybody_assumed:
            log.info("sessions_assumed for=everybody")
            return
        if self._settings.bus_address:
            self._asking = _run(self._logind.run())
            try:
                await asyncio.wait_for(self._logind.tried.wait(), ANSWER_SECONDS)
            except TimeoutError:
                log.warning("logind_slow seconds=%g", ANSWER_SECONDS)
        if self._is_by_logind:
            return
        if are_processes_visible():
            log.info("sessions_watched by=processes every_seconds=%d", self._settings.scan_seconds)
            await self._presence.scan()
            self._scanning = _run(self._presence.run())
        else:
            log.warning("sessions_not_watched why=neither logind nor /proc shows who is there; nobody logs off")

    def greet(self, uid: int) -> None:
        """Somebody has connected."""
        if self._scanning is not None:
            self._presence.greet(uid)

    def logon_needed(self, uid: int) -> LogonRequired | None:
        """The rule that keeps the jobs of this owner from running now; None if they may."""
        return self._rules.logon_needed(uid, self._picture)

    def is_logged_on(self, uid: int) -> bool:
        """Whether programs may be run for this user now (jobs.md §12.5 C10)."""
        return self._rules.counts_as_logged_on(uid, self._picture)

    def is_over(self, session: Session) -> bool:
        """Whether a session has ended."""
        return self._picture is None or session not in self._picture.sessions

    async def session_of(self, process: int | None) -> Session | None:
        """The session of a process, given as a pidfd; None: it belongs to none, or nobody here knows of sessions.

        Raises BitsError if that cannot be told: a token of an unknown session would outlive it.
        """
        if process is None or not self._is_by_logind:
            return None
        kept = os.dup(process)  # the connection may end meanwhile and close the other
        try:
            return await self._session_of(kept)
        finally:
            os.close(kept)

    async def _session_of(self, process: int) -> Session | None:
        pid = _pid_of(process)
        if not _has_ended(process):
            try:
                session = await self._logind.session_of(pid)
            except LogindError as error:
                text = f"cannot tell which session you are in: {error}; try again"
                raise BitsError(codes.RPC_S_SERVER_UNAVAILABLE, text) from None
            if not _has_ended(process):  # so the pid was nobody else's meanwhile
                return session
        raise BitsError(
            codes.E_ACCESSDENIED,
            "cannot make a token: the process that opened this connection has ended, and only it tells the session; "
            "connect from the process that asks",
        )

    # -- pictures -------------------------------------------------------------------------------------------------

    def _take_over(self, picture: Picture) -> None:
        """A picture of logind."""
        if not self._is_by_logind:
            log.info("sessions_watched by=logind")
            self._is_by_logind, self._picture = True, None
            if self._scanning is not None:
                self._scanning.cancel()
                self._scanning = None
        self._take(picture)

    def _take(self, picture: Picture) -> None:
        before, self._picture = self._picture, picture
        change = difference(before, picture)
        gone = frozenset(uid for uid in change.logged_off if not self._rules.is_assumed(uid))
        self._on_change(Difference(ended=change.ended, logged_off=gone))


def rules_of(settings: Settings) -> Rules:
    """The settings with account names resolved; a name without an account is left out."""
    named = set(settings.assume_logged_on)
    return Rules(
        logon_required=settings.logon_required,
        system_uid_max=system_uid_max(),
        assumed=frozenset(account.pw_uid for account in map(_account, named - {EVERYBODY}) if account is not None),
        is_everybody_assumed=EVERYBODY in named,
    )


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _pid_of(process: int) -> int:
    """The pid behind a pidfd; -1 when the process has ended and was waited for."""
    found = re.search(r"^Pid:\s+(-?\d+)", Path(f"/proc/self/fdinfo/{process}").read_text(), re.MULTILINE)
    return int(found.group(1)) if found else -1


def _has_ended(process: int) -> bool:
    """Whether the process of a pidfd runs no more; as long as it runs nobody else gets its pid."""
    end = select.poll()
    end.register(process, select.POLLIN)
    return bool(end.poll(0))


def _run(work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
    return asyncio.get_running_loop().create_task(work)
