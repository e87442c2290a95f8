"""The audit log: who did what to which job, for the people who watch over the machine.

Every act of ACTS is one entry. It goes to the journal, with fields of its own (`journalctl OPENBITS_ACT=token-set`);
where no journal takes it, it is one line of JSON on stderr. What callers choose, such as names, is shortened and
escaped, so that it forges no line and commands no terminal; secrets are not passed to here.
"""

import contextlib
import json
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from openbits.core import limits
from openbits.core.model import Identity
from openbits.core.wording import label

JOURNAL = "/run/systemd/journal/socket"

NOTICE, WARNING = 5, 4
"""Priorities of syslog."""

SHOWN_CHARACTERS = 256
MAX_ALLOWANCES = 4096


@dataclass(frozen=True, slots=True)
class Act:
    """A kind of entry. `burst`: so many at once for each caller, where it costs the caller nothing to cause them."""

    text: str
    priority: int = NOTICE
    burst: int | None = None


ACTS: Mapping[str, Act] = {
    "create": Act("created a job"),
    "take-ownership": Act("took ownership of a job"),
    "administer": Act("changed a job of somebody else"),
    "token-open": Act("opened a token of its own identity", burst=100),
    "token-set": Act("gave a job a helper token"),
    "token-clear": Act("took the helper token from a job"),
    "token-flags": Act("chose what the helper token of a job opens"),
    "logon": Act("logged an account on"),
    "logon-refused": Act("failed to log an account on", WARNING),
    "logon-blocked": Act("was kept from logging an account on", WARNING, burst=20),
    "run-command": Act("had a notify command run", burst=100),
    "refused": Act("made a call that was refused", WARNING, burst=20),
}

_allowances: dict[tuple[int, str], limits.Allowance] = {}


def log(act: str, caller: Identity, **fields: object) -> None:
    """Write an entry of ACTS about what `caller` did; fields that are None are left out."""
    kind = ACTS[act]
    entry = {"act": act, "caller_uid": caller.uid, "caller_name": caller.name, **fields}
    if kind.burst is not None:
        left_out = _spend(caller.uid, act, kind.burst)
        if left_out is None:
            return
        entry["left_out"] = left_out or None
    shown = {name: _shown(value) for name, value in entry.items() if value is not None}
    if not _told_journal(kind, f"{_shown(label(caller))} {kind.text}", shown):
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        with contextlib.suppress(OSError):
            sys.stderr.write(json.dumps({"at": at, **shown}) + "\n")
            sys.stderr.flush()


def _spend(uid: int, act: str, burst: int) -> int | None:
    """How many entries were left out before this one; None if this one is, too."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    if len(_allowances) >= MAX_ALLOWANCES:
        for key, allowance in list(_allowances.items()):
            if now - allowance.at > limits.REFILL_SECONDS * burst:
                del _allowances[key]
    before = _allowances.get((uid, act))
    _allowances[uid, act], is_written = limits.spend(before, burst, now)
    return (before.left_out if before is not None else 0) if is_written else None


def _told_journal(kind: Act, text: str, shown: Mapping[str, int | str]) -> bool:
    """Send the entry in journald's own protocol; False if nobody takes it, or not now."""
    own = {f"OPENBITS_{name.upper()}": value for name, value in shown.items()}
    details = " ".join(f"{name}={value}" for name, value in shown.items() if not name.startswith(("act", "caller_")))
    message = {"MESSAGE": f"{text}: {details}", "PRIORITY": kind.priority, "SYSLOG_IDENTIFIER": "openbits", **own}
    data = "".join(f"{name}={value}\n" for name, value in message.items()).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as journal:
        try:
            journal.sendto(data, JOURNAL)
        except OSError:
            return False
    return True


def _shown(value: object) -> int | str:
    """A number as it is; anything else as short text of printable characters."""
    if isinstance(value, int):
        return int(value)
    text = str(value)
    if len(text) > SHOWN_CHARACTERS:
        text = f"{text[:SHOWN_CHARACTERS]}…"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
