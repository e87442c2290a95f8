"""Who is logged on, and what the difference between two looks at it means (identity.md §10, design.md §5).

Pure. Whoever watches (`service.logind`, `service.presence`) gives whole pictures; whoever sees nothing gives none. So a
lost bus or a restarted logind logs nobody off: the last picture stays, and what happened meanwhile is in the next
difference. A log-off is an edge: somebody who was logged on no longer is; who never was does not log off.
"""

import enum
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

EVERYBODY = "*"
"""In the setting `assume_logged_on`: all accounts."""


class LogonRequired(enum.StrEnum):
    """When jobs run (setting `logon_required`): always, or while their owner is logged on, or also while it lingers."""

    NEVER = "never"
    SESSION = "session"
    LINGER = "linger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login session of a person. A later one of the same number differs in `began_at` (wall clock, microseconds)."""

    session_id: str
    uid: int
    user_name: str
    began_at: int

    def __str__(self) -> str:
        return f"session {self.session_id} of {self.user_name} (uid {self.uid})"


def is_of_person(session_class: str) -> bool:
    """True for the classes of logind in which somebody works: not for greeters, managers, cron, or half a login."""
    return session_class.startswith("user") and session_class != "user-incomplete"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Who is there at one moment: sessions, or, where nobody knows of sessions, uids that have a process."""

    sessions: frozenset[Session] = frozenset()
    lingering: frozenset[int] = frozenset()
    """Uids whose processes outlive their sessions (`loginctl enable-linger`)."""
    present: frozenset[int] = frozenset()

    @cached_property
    def logged_on(self) -> frozenset[int]:
        """Uids that are logged on."""
        return self.present | {session.uid for session in self.sessions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What happened between two pictures: sessions that ended, and uids of which nothing is left."""

    ended: frozenset[Session] = frozenset()
    logged_off: frozenset[int] = frozenset()


def difference(before: Picture | None, after: Picture) -> Difference:
    """What happened since `before`; nothing if there was no picture that could be compared.

    Who has none of the old sessions any more has logged off, also if there is a new one: nobody saw which came first,
    and no token may outlive a log-off.
    """
    if before is None:
        return Difference()
    remaining = after.present | {session.uid for session in before.sessions & after.sessions}
    return Difference(ended=before.sessions - after.sessions, logged_off=before.logged_on - remaining)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings `[sessions]`, with account names resolved."""

    logon_required: LogonRequired = LogonRequired.NEVER
    system_uid_max: int = 999
    """SYS_UID_MAX of /etc/login.defs: uids up to it are service accounts."""
    assumed: AbstractSet[int] = frozenset()
    is_everybody_assumed: bool = False

    def is_assumed(self, uid: int) -> bool:
        """True for service accounts and whom the settings name: always logged on, never logging off."""
        return self.is_everybody_assumed or uid <= self.system_uid_max or uid in self.assumed

    def is_logged_on(self, uid: int, picture: Picture | None) -> bool:
        """Whether somebody is logged on; without any picture everybody counts as it."""
        return picture is None or self.is_assumed(uid) or uid in picture.logged_on

    def counts_as_logged_on(self, uid: int, picture: Picture | None) -> bool:
        """The same for programs that are run for somebody (C10): where lingering users' jobs go on, they count, too."""
        is_lingering = self.logon_required is LogonRequired.LINGER and picture is not None and uid in picture.lingering
        return is_lingering or self.is_logged_on(uid, picture)

    def logon_needed(self, uid: int, picture: Picture | None) -> LogonRequired | None:
        """The rule that keeps the jobs of this owner from running now; None if they may (S9)."""
        if self.logon_required is LogonRequired.NEVER or self.counts_as_logged_on(uid, picture):
            return None
        return self.logon_required
