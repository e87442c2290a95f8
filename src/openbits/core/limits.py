"""How often one caller may do what costs others: logons, and entries of the audit log.

Pure: each function takes what is remembered of the caller and the present of the boot clock, in seconds, and returns
what is to be remembered; `service.logons` and `service.audit` keep it, a value for each caller.
"""

from dataclasses import dataclass, replace

LOGONS_UNDER_WAY = 2
LOGON_FAILURES = 5
LOGON_FAILURE_SECONDS = 60.0
LOGON_BLOCK_SECONDS = 30.0
"""So many failures within so long a time block further logons of that caller for a while (identity.md §9)."""

REFILL_SECONDS = 10.0
"""After a burst of entries a caller causes one more each time this has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logons:
    """The logons of one caller that count: how many are under way, and when the latest failed."""

    under_way: int = 0
    failed_at: tuple[float, ...] = ()
    blocked_until: float = 0.0


def logon_refusal(past: Logons, now: float) -> str:
    """Why no further logon may begin now, and when one may; empty if one may."""
    if now < past.blocked_until:
        return (
            f"{LOGON_FAILURES} logons of yours failed within {LOGON_FAILURE_SECONDS:g} s; the password was not looked "
            f"at, wait {past.blocked_until - now:.0f} s"
        )
    if past.under_way >= LOGONS_UNDER_WAY:
        return f"{past.under_way} logons of yours are under way; the password was not looked at, wait for one of them"
    return ""


def logon_began(past: Logons) -> Logons:
    """A logon is under way."""
    return replace(past, under_way=past.under_way + 1)


def logon_ended(past: Logons, now: float, *, is_failure: bool) -> Logons:
    """A logon has ended. A success takes nothing back: a guesser may have an account of his own."""
    failed_at = tuple(at for at in past.failed_at if at > now - LOGON_FAILURE_SECONDS) + (now,) * is_failure
    is_blocked = is_failure and len(failed_at) >= LOGON_FAILURES
    return Logons(
        under_way=past.under_way - 1,
        failed_at=failed_at,
        blocked_until=now + LOGON_BLOCK_SECONDS if is_blocked else past.blocked_until,
    )


def is_forgettable(past: Logons, now: float) -> bool:
    """True if this caller is as good as one who never logged anybody on."""
    return not past.under_way and all(at <= now - LOGON_FAILURE_SECONDS for at in past.failed_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How many entries a caller may cause at once, as of `at`, and how many were left out since the last one."""

    left: float
    at: float
    left_out: int = 0


def spend(allowance: Allowance | None, burst: int, now: float) -> tuple[Allowance, bool]:
    """Whether one more entry may be written, and what is left then."""
    before = allowance or Allowance(left=burst, at=now)
    left = min(burst, before.left + (now - before.at) / REFILL_SECONDS)
    if left < 1:
        return Allowance(left=left, at=now, left_out=before.left_out + 1), False
    return Allowance(left=left - 1, at=now), True
