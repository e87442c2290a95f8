"""How large fragments are (upload-protocol.md §7.4), row by row."""

import pytest

from openbits.transfer.fragment_sizes import FragmentSizes

KIB, MIB = 1024, 1024 * 1024
HUGE = 2**40


def grown(times: int) -> FragmentSizes:
    """After so many quick fragments."""
    sizes = FragmentSizes()
    for _ in range(times):
        sizes.took(sizes.next(HUGE, None), 0.1)
    return sizes


def test_the_first_one_has_256_kib() -> None:
    assert FragmentSizes().next(HUGE, None) == 256 * KIB


def test_one_that_took_less_than_2_s_is_followed_by_one_of_twice_its_size() -> None:
    assert grown(1).next(HUGE, None) == 512 * KIB
    assert grown(3).next(HUGE, None) == 2 * MIB


def test_none_has_more_than_13_mib() -> None:
    assert grown(20).next(HUGE, None) == 13 * MIB


@pytest.mark.parametrize("seconds", [2.0, 5.0, 10.0])
def test_from_2_to_10_s_the_size_stays(seconds: float) -> None:
    sizes = grown(2)
    sizes.took(1 * MIB, seconds)
    assert sizes.next(HUGE, None) == 1 * MIB


def test_more_than_10_s_halve_it() -> None:
    sizes = grown(2)
    sizes.took(1 * MIB, 10.1)
    assert sizes.next(HUGE, None) == 512 * KIB


def test_a_cut_connection_halves_it_down_to_5_kib() -> None:
    sizes = FragmentSizes()
    sizes.broke()
    assert sizes.next(HUGE, None) == 128 * KIB
    for _ in range(20):
        sizes.broke()
    assert sizes.next(HUGE, None) == 5 * KIB


def test_what_is_left_is_less() -> None:
    assert FragmentSizes().next(100, None) == 100
    assert FragmentSizes().next(0, None) == 0


def test_a_limited_rate_fills_two_seconds_with_one_but_at_least_5_kib() -> None:
    assert FragmentSizes().next(HUGE, 100 * KIB) == 100 * KIB
    assert FragmentSizes().next(HUGE, 100) == 5 * KIB


def test_one_that_a_limit_has_made_small_says_nothing_about_the_size() -> None:
    sizes = FragmentSizes()
    sizes.took(sizes.next(HUGE, 100 * KIB), 0.1)
    assert sizes.next(HUGE, None) == 256 * KIB


def test_413_halves_what_was_sent_and_that_is_the_ceiling_of_the_session() -> None:
    sizes = grown(3)
    assert sizes.refused(2 * MIB)
    assert sizes.next(HUGE, None) == 1 * MIB
    sizes.took(1 * MIB, 0.1)
    assert sizes.next(HUGE, None) == 1 * MIB
    sizes.forget_ceiling()
    sizes.took(1 * MIB, 0.1)
    assert sizes.next(HUGE, None) == 2 * MIB


def test_413_at_5_kib_is_the_end() -> None:
    sizes = FragmentSizes()
    asked = [sizes.next(HUGE, None)]
    while sizes.refused(asked[-1]):
        asked.append(sizes.next(HUGE, None))
    assert asked == [256 * KIB, 128 * KIB, 64 * KIB, 32 * KIB, 16 * KIB, 8 * KIB, 5 * KIB]
