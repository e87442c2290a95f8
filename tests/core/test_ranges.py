"""Parts of files: the rules of AddFileWithRanges (jobs.md §8.7), and random access against a map of bytes (§8.9)."""

import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits.core import codes, ranges
from openbits.core.errors import BitsError
from openbits.core.model import Directory, File, Range

EOF = None
BIG = 2**64 - 1

SIZE = 40
"""Of the little files below; a range that is open at the end counts up to here."""


def made(*pairs: tuple[int, int | None]) -> tuple[Range, ...]:
    return tuple(Range(offset=offset, length_bytes=length) for offset, length in pairs)


def refused(given: Sequence[Range], most: int | None = None) -> int:
    with pytest.raises(BitsError) as error:
        ranges.check(given, most)
    return error.value.hresult


@pytest.mark.parametrize(
    "pairs",
    [
        [(100, 100), (900, 100), (400, 100)],
        [(0, 1), (1, 1)],
        [(0, EOF)],
        [(500, EOF), (0, 500)],
        [(BIG - 1, 1)],
        [(BIG - 1, EOF)],
        [(0, BIG)],
    ],
)
def test_ranges_in_any_order_are_kept_as_given(pairs: list[tuple[int, int | None]]) -> None:
    assert ranges.check(made(*pairs)) == made(*pairs)


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([], codes.E_INVALIDARG),
        ([(-1, 5)], codes.E_INVALIDARG),
        ([(0, -1)], codes.E_INVALIDARG),
        ([(BIG + 1, 1)], codes.E_INVALIDARG),
        ([(0, BIG + 1)], codes.E_INVALIDARG),
        ([(BIG, 1)], codes.BG_E_INVALID_RANGE),  # R2: InitialOffset = BG_LENGTH_TO_EOF
        ([(BIG, EOF)], codes.BG_E_INVALID_RANGE),
        ([(5, 0)], codes.BG_E_INVALID_RANGE),  # OPEN-40
        ([(BIG - 1, 2)], codes.BG_E_INVALID_RANGE),
        ([(1, BIG)], codes.BG_E_INVALID_RANGE),
        ([(0, 5), (0, 5)], codes.BG_E_OVERLAPPING_RANGES),
        ([(0, 6), (5, 5)], codes.BG_E_OVERLAPPING_RANGES),
        ([(5, 5), (0, 6)], codes.BG_E_OVERLAPPING_RANGES),
        ([(0, EOF), (BIG - 1, 1)], codes.BG_E_OVERLAPPING_RANGES),
        ([(7, EOF), (9, EOF)], codes.BG_E_OVERLAPPING_RANGES),
        ([(100, 5), (100, 0)], codes.BG_E_OVERLAPPING_RANGES),  # R4: the longer first
        ([(100, 0), (100, 5)], codes.BG_E_INVALID_RANGE),
        ([(100, 3), (100, 5)], codes.BG_E_OVERLAPPING_RANGES),
    ],
)
def test_ranges_that_no_file_can_be_made_of(pairs: list[tuple[int, int | None]], code: int) -> None:
    assert refused(made(*pairs)) == code


def test_how_many_is_limited_by_a_policy_and_for_everybody() -> None:
    def row(count: int) -> tuple[Range, ...]:
        return made(*((2 * index, 1) for index in range(count)))

    assert ranges.check(row(3), 3)
    assert refused(row(4), 3) == codes.BG_E_TOO_MANY_RANGES_IN_FILE
    assert ranges.check(row(ranges.MOST))
    assert refused(row(ranges.MOST + 1)) == codes.BG_E_TOO_MANY_RANGES_IN_FILE
    assert refused(row(ranges.MOST + 1), 10 * ranges.MOST) == codes.BG_E_TOO_MANY_RANGES_IN_FILE


def test_too_many_ranges_name_whose_limit_it_is() -> None:
    with pytest.raises(BitsError, match=r"3 ranges .*: policy MaxRangesPerFile allows 2;"):
        ranges.check_number(3, 2)
    with pytest.raises(BitsError, match=rf": the service takes {ranges.MOST};"):
        ranges.check_number(ranges.MOST + 1, 2 * ranges.MOST)


def test_a_refusal_names_the_ranges_and_what_to_do() -> None:
    with pytest.raises(BitsError, match=r"range 0 \(5-9\) begins inside range 1 \(0-5\); join the two"):
        ranges.check(made((5, 5), (0, 6)))
    with pytest.raises(BitsError, match=r"range 1 at 7 is empty; give it a length"):
        ranges.check(made((0, 5), (7, 0)))


@pytest.mark.parametrize(
    ("pairs", "remote", "local"),
    [
        ([(100, 100), (900, 100), (400, 100)], None, 300),
        ([(0, 10), (90, EOF)], None, None),
        ([(0, 10), (90, EOF)], 100, 20),
        ([(90, EOF)], 80, 0),
    ],
)
def test_the_local_file_is_as_long_as_its_ranges(
    pairs: list[tuple[int, int | None]], remote: int | None, local: int | None
) -> None:
    assert ranges.local_size(made(*pairs), remote) == local


@pytest.mark.parametrize(
    ("pair", "is_outside"),
    [((0, 10), False), ((0, 11), True), ((9, 1), False), ((10, 1), True), ((9, EOF), False), ((10, EOF), True)],
)
def test_a_range_beyond_the_remote_file_is_found(pair: tuple[int, int | None], *, is_outside: bool) -> None:
    assert (ranges.first_outside(made(pair), 10) is not None) is is_outside


def test_a_request_may_overlap_but_not_leave_the_file() -> None:
    ranges.check_request(made((0, 5), (3, 5)), None)
    ranges.check_request(made((0, 10), (3, EOF)), 10)
    for pairs, size, code in (
        ([(0, 11)], 10, codes.BG_E_INVALID_RANGE),
        ([(10, EOF)], 10, codes.BG_E_INVALID_RANGE),
        ([(3, 0)], 10, codes.BG_E_INVALID_RANGE),
        ([(BIG, 1)], None, codes.BG_E_INVALID_RANGE),
        ([], 10, codes.E_INVALIDARG),
    ):
        with pytest.raises(BitsError) as error:
            ranges.check_request(made(*pairs), size)
        assert error.value.hresult == code


# -- random access, against a list of bytes ---------------------------------------------------------------------------

PART = st.tuples(st.integers(0, SIZE - 1), st.one_of(st.none(), st.integers(1, SIZE))).map(
    lambda pair: Range(offset=pair[0], length_bytes=None if pair[1] is None else min(pair[1], SIZE - pair[0]))
)
PARTS = st.lists(PART, max_size=6)
KNOWN_SIZE = st.sampled_from((None, SIZE))


def bytes_of(item: Range) -> list[int]:
    return list(range(item.offset, SIZE if item.length_bytes is None else item.offset + item.length_bytes))


def in_order(parts: Sequence[Range]) -> list[int]:
    """Byte after byte as they would be fetched, each at its first turn."""
    return list(dict.fromkeys(number for item in parts for number in bytes_of(item)))


def raw(parts: Sequence[Range]) -> list[int]:
    return [number for item in parts for number in bytes_of(item)]


def a_file(begun: int, filled: Sequence[Range], wanted: Sequence[Range], size: int | None) -> File:
    """A file with these bytes; what the model of a file does not allow at once is put in order first."""
    closed = [Range(offset=item.offset, length_bytes=len(bytes_of(item))) for item in filled]
    here = ranges.joined((*([Range(offset=0, length_bytes=begun)] if begun else []), *closed))
    transferred_bytes, beyond = ranges.progress(here)
    return File(
        remote_name="https://files.example/data.bin",
        local_name="/srv/in/data.bin",
        directory=Directory(path="/srv/in", dev=1, ino=2),
        name="data.bin",
        size_bytes=size,
        transferred_bytes=transferred_bytes,
        filled=beyond,
        wanted=ranges.missing(wanted, here),
    )


FILES = st.builds(a_file, st.integers(0, SIZE), PARTS, PARTS, KNOWN_SIZE)


@given(PARTS)
def test_joined_ranges_are_the_same_bytes_sorted_and_apart(parts: list[Range]) -> None:
    joined = ranges.joined(parts)
    assert raw(joined) == sorted(set(raw(parts)))
    ends = [(item.offset, item.offset + len(bytes_of(item))) for item in joined]
    assert all(before[1] < after[0] for before, after in pairwise(ends))


@given(PARTS, PARTS)
def test_what_is_missing_comes_in_order_and_never_twice(wanted: list[Range], here: list[Range]) -> None:
    assert raw(ranges.missing(wanted, here)) == [number for number in in_order(wanted) if number not in raw(here)]


@given(st.integers(0, SIZE), PARTS)
def test_what_is_here_is_told_as_a_beginning_and_islands(begun: int, filled: list[Range]) -> None:
    file = a_file(begun, filled, (), SIZE)
    here = set(range(begun)) | set(raw(filled))
    beginning = next((number for number in range(SIZE + 1) if number not in here), SIZE)
    assert file.transferred_bytes == beginning
    assert raw(ranges.present(file)) == sorted(here)
    assert file.arrived_bytes == len(here)
    assert not file.filled or file.filled[0].offset > beginning


@given(FILES, PARTS)
def test_a_request_goes_first_and_takes_nothing_twice(file: File, new: list[Range]) -> None:
    here = set(raw(ranges.present(file)))
    wanted = raw(ranges.requested(file, new))
    assert wanted == [number for number in in_order([*new, *file.wanted]) if number not in here]


@given(FILES, st.integers(0, SIZE))
def test_a_position_brings_all_behind_it_to_the_front(file: File, offset: int) -> None:
    here = set(raw(ranges.present(file)))
    wanted = raw(ranges.repositioned(file, offset, is_on_demand=False))
    behind = [number for number in range(offset, SIZE) if number not in here]
    assert wanted == behind + [number for number in raw(file.wanted) if number < offset]


@given(FILES, st.integers(0, SIZE))
def test_on_demand_a_position_only_changes_the_order(file: File, offset: int) -> None:
    before = raw(file.wanted)
    wanted = raw(ranges.repositioned(file, offset, is_on_demand=True))
    assert wanted == sorted(number for number in before if number >= offset) + [
        number for number in before if number < offset
    ]


def test_thousands_of_ranges_are_no_work_worth_mentioning() -> None:
    """One busy client must not hold up the queue: the work may not grow with the square of what is asked for."""
    many = made(*((3 * index, 2) for index in range(ranges.MOST)))
    began = time.process_time()
    assert ranges.missing(reversed(many), many[::2]) == tuple(reversed(many[1::2]))
    assert time.process_time() - began < 1.0
