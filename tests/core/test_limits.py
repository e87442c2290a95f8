"""The limits of one caller: logons (identity.md §9) and entries of the audit log (reliability.md §6 row 24)."""

from collections.abc import Callable

import pytest

from openbits.core.limits import (
    Allowance,
    Logons,
    is_forgettable,
    logon_began,
    logon_ended,
    logon_refusal,
    spend,
)


def after_failures(*instants: float) -> Logons:
    past = Logons()
    for at in instants:
        past = logon_ended(logon_began(past), at, is_failure=True)
    return past


def test_who_never_logged_anybody_on_may() -> None:
    assert logon_refusal(Logons(), 0.0) == ""
    assert is_forgettable(Logons(), 0.0)


@pytest.mark.parametrize(("now", "seconds"), [(40.0, 30), (40.4, 30), (55.0, 15), (69.0, 1)])
def test_the_fifth_failure_within_a_minute_blocks_for_half_a_minute_and_says_how_long(now: float, seconds: int) -> None:
    past = after_failures(0.0, 10.0, 20.0, 30.0)
    assert logon_refusal(past, 40.0) == ""
    past = logon_ended(logon_began(past), 40.0, is_failure=True)
    refusal = logon_refusal(past, now)
    assert refusal.startswith("5 logons of yours failed within 60 s")
    assert refusal.endswith(f"wait {seconds} s")


def test_after_the_block_one_failure_blocks_again_until_the_old_ones_are_a_minute_old() -> None:
    past = after_failures(0.0, 1.0, 2.0, 3.0, 4.0)
    assert logon_refusal(past, 33.9)
    assert not logon_refusal(past, 34.0)
    again = logon_ended(logon_began(past), 35.0, is_failure=True)
    assert logon_refusal(again, 36.0)
    late = logon_ended(logon_began(past), 64.0, is_failure=True)
    assert not logon_refusal(late, 64.0)


def test_failures_over_more_than_a_minute_block_nobody() -> None:
    assert not logon_refusal(after_failures(*(20.0 * number for number in range(30))), 581.0)


def test_a_success_takes_no_failure_back() -> None:
    """A guesser may log his own account on in between."""
    past = after_failures(0.0, 1.0, 2.0, 3.0)
    past = logon_ended(logon_began(past), 4.0, is_failure=False)
    assert not logon_refusal(past, 5.0)
    assert logon_refusal(logon_ended(logon_began(past), 5.0, is_failure=True), 6.0)


def test_two_logons_may_be_under_way() -> None:
    one = logon_began(Logons())
    assert not logon_refusal(one, 0.0)
    two = logon_began(one)
    assert logon_refusal(two, 0.0).startswith("2 logons of yours are under way")
    assert not logon_refusal(logon_ended(two, 1.0, is_failure=False), 1.0)


@pytest.mark.parametrize(
    ("past", "forgettable"),
    [
        (lambda: logon_began(Logons()), False),
        (lambda: after_failures(50.0), False),
        (lambda: after_failures(40.0), True),
        (lambda: logon_ended(logon_began(Logons()), 100.0, is_failure=False), True),
    ],
)
def test_only_who_has_nothing_left_is_forgotten(past: Callable[[], Logons], *, forgettable: bool) -> None:
    assert is_forgettable(past(), 100.0) is forgettable


def spent(instants: list[float], burst: int) -> tuple[list[bool], Allowance]:
    allowance: Allowance | None = None
    written = []
    for now in instants:
        allowance, is_written = spend(allowance, burst, now)
        written.append(is_written)
    assert allowance is not None
    return written, allowance


def test_a_burst_is_written_and_then_one_entry_each_ten_seconds() -> None:
    written, allowance = spent([0.0] * 5, 3)
    assert written == [True, True, True, False, False]
    assert allowance.left_out == 2
    assert spent([0.0] * 3 + [9.9, 10.0, 10.1, 20.0], 3)[0] == [True, True, True, False, True, False, True]


def test_what_was_left_out_is_counted_until_an_entry_is_written() -> None:
    assert spent([0.0] * 6, 3)[1].left_out == 3
    assert spent([0.0] * 6 + [10.0], 3)[1].left_out == 0


def test_a_caller_who_was_quiet_has_no_more_than_a_burst() -> None:
    assert spent([0.0] * 3 + [1e6] * 4, 3)[0] == [True, True, True, True, True, True, False]
