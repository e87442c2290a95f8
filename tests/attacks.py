"""The thirty attacks by hostile local users (reliability.md §6): what each must meet, and whether it applies yet.

A test that makes an attack is marked `@pytest.mark.attack(number)`; `make campaign-attack` runs all of these and
prints, row by row, what the attack met. The racy ones try `ROUNDS` times there and for a moment in `make test`.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

ROUNDS = int(os.environ.get("OPENBITS_ATTACK_ROUNDS", "0"))
"""Tries of each race; 0: as many as a moment allows."""


@dataclass(frozen=True)
class Attack:
    """One row; `later` says with what the attacked part comes, empty if it is here."""

    number: int
    title: str
    expected: str
    later: str = ""


ATTACKS = (
    Attack(1, "destination directory swapped for a symlink", "dirfd pins: lands in the original directory or fails"),
    Attack(2, "temporary replaced by symlink, hard link, FIFO, file", "the check of identity fails, nothing foreign"),
    Attack(3, "final name pre-created as a symlink", "the rename replaces the link itself"),
    Attack(4, "hard link of store, socket or foreign temporary as upload source", "EACCES"),
    Attack(5, "upload source swapped after its size was read", "error, or it is sent as it was"),
    Attack(6, "source or destination is FIFO, tty, device", "refused without blocking"),
    Attack(7, "path through /proc/PID/root, /proc/self/fd, magic links", "RESOLVE_NO_MAGICLINKS"),
    Attack(8, "user namespace and mount trick to show another tree", "told apart by (dev, ino); restricted"),
    Attack(9, "FUSE mount that blocks for ever", "only that identity's broker hangs; others go on, the service ends"),
    Attack(10, "FUSE that lies about sizes or changes inodes", "the file begins again or fails, nothing is mixed"),
    Attack(11, "SetHelperToken for a uid the caller is not", "refused: a token is proof, a claim is none"),
    Attack(12, "a connection inherited from another uid's process", "identity is that of connect time, for that alone"),
    Attack(13, "setuid program connects for its user", "effective uid at connect, and nothing else of the peer"),
    Attack(14, "pid reused between check and use", "no pid authorises anything"),
    Attack(15, "client bound to a name with `;uid=0;`", "inert"),
    Attack(16, "descriptor flood of odd kinds", "at most four a message, type-checked, others closed"),
    Attack(17, "connection flood, half frames, endless frames", "64 connections a uid, 1 MiB a message; others served"),
    Attack(18, "long names, long URLs, jobs without end", "length limits (numbers of jobs come with policies)"),
    Attack(19, "guessing ids and handles of others", "E_ACCESSDENIED or BG_E_NOT_FOUND as documented, no detail"),
    Attack(20, "hostile notify command", "runs as its setter alone, without shell or privilege; its group is killed"),
    Attack(
        21, "ptrace, signals, core, memory of the other identity's worker", "refused by the kernel; death is retried"
    ),
    Attack(22, "owner reads credentials that an administrator set", "administrators set none; nobody reads any"),
    Attack(23, "/proc scans for secrets", "nothing: secrets travel over channels"),
    Attack(24, "state disk full, journal flooded", "clear errors, nothing lost; refusals are logged at a bounded rate"),
    Attack(25, "processes without end through jobs", "a bounded number of children for each uid"),
    Attack(26, "DNS rebinding, CSRF against the web page", "403", later="the dashboard"),
    Attack(27, "login link of another user, fixed session", "bound to the uid", later="the dashboard"),
    Attack(28, "account deleted, uid given to a new user", "the new user gets nothing of the old one's jobs"),
    Attack(29, "wall clock set", "durations are of the boot clock"),
    Attack(30, "planted state directory, stale or foreign socket", "strict owner and mode check; nothing is sent"),
)


def numbers_of(item: pytest.Item) -> list[int]:
    """The attacks that a test makes."""
    return [int(number) for mark in item.iter_markers("attack") for number in mark.args]


def summary(reports: Iterable[pytest.TestReport]) -> list[str]:
    """What each attack met in this run, one line a row of the table."""
    results: dict[int, list[str]] = defaultdict(list)
    tries: Counter[int] = Counter()
    for report in reports:
        properties: dict[str, Any] = dict(report.user_properties)
        for number in properties.get("attacks", ()):
            results[number].append(report.outcome)
            tries[number] += properties.get("tries", 1)
    return [_line(attack, results[attack.number], tries[attack.number]) for attack in ATTACKS]


def _line(attack: Attack, results: list[str], tries: int) -> str:
    head = f"{attack.number:2} {attack.title}: "
    if attack.later:
        return f"{head}not yet, comes with {attack.later}"
    if not results:
        return f"{head}NOT TRIED"
    failed = sum(result != "passed" for result in results)
    if failed:
        return f"{head}{failed} of {len(results)} tests FAILED; expected: {attack.expected}"
    return f"{head}0 successes in {tries} tries of {len(results)} tests; {attack.expected}"
