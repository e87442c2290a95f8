"""Parts of files: what AddFileWithRanges takes (jobs.md §8.7), what random access asks for and has (§8.9).

A range without a length goes to the end of the file, wherever that is. Everything here is about sets of bytes and the
order in which they are wanted; who fetches them is not known here.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Final

from openbits.core import codes
from openbits.core.errors import BitsError
from openbits.core.model import File, Range

TO_EOF: Final = 2**64 - 1
"""BG_LENGTH_TO_EOF: as a length on the wire the same as none, as an offset an error (R2)."""

MOST: Final = 10_000
"""Ranges of one file, for everybody: as many as fit into one message. What a policy allows may be less."""

_END: Final = 2**64
"""Beyond every file: where a range without a length ends."""

Span = tuple[int, int]
"""First byte, and the byte after the last one."""


def check(ranges: Sequence[Range], most: int | None = None) -> tuple[Range, ...]:
    """The ranges of one file, if they can be those of AddFileWithRanges; `most`: how many may be.

    Raises BitsError E_INVALIDARG without ranges, BG_E_TOO_MANY_RANGES_IN_FILE, BG_E_INVALID_RANGE and
    BG_E_OVERLAPPING_RANGES. The test for overlaps sorts by offset alone (R4), before lengths are looked at: an empty
    range behind a longer one of the same offset overlaps, before it, it is merely empty (OPEN-40).
    """
    if not ranges:
        raise BitsError(codes.E_INVALIDARG, "the list of ranges is empty; give at least one range")
    check_number(len(ranges), most)
    for index, item in enumerate(ranges):
        _check_bounds(index, item)
    numbered = sorted(enumerate(ranges), key=lambda pair: pair[1].offset)
    for (index, before), (other, after) in pairwise(numbered):
        if after.offset < _span(before)[1]:
            raise BitsError(
                codes.BG_E_OVERLAPPING_RANGES,
                f"range {other} ({shown(after)}) begins inside range {index} ({shown(before)}); join the two",
            )
    _check_lengths(ranges)
    return tuple(ranges)


def check_request(ranges: Sequence[Range], size_bytes: int | None) -> None:
    """What RequestFileRanges takes; overlaps are welcome there. Raises BitsError, codes as of `check`."""
    if not ranges:
        raise BitsError(codes.E_INVALIDARG, "the list of ranges is empty; give at least one range")
    for index, item in enumerate(ranges):
        _check_bounds(index, item)
    _check_lengths(ranges)
    outside = None if size_bytes is None else first_outside(ranges, size_bytes)
    if outside is not None:
        raise BitsError(
            codes.BG_E_INVALID_RANGE,
            f"the range {shown(outside)} is not inside the file, which has {size_bytes} bytes; ask for what it has",
        )


def check_number(count: int, most: int | None = None) -> None:
    """Raises BitsError BG_E_TOO_MANY_RANGES_IN_FILE."""
    limit, whose = MOST, "the service takes"
    if most is not None and most < MOST:
        limit, whose = most, "policy MaxRangesPerFile allows"
    if count > limit:
        text = f"{count} ranges are too many for one file: {whose} {limit}"
        raise BitsError(codes.BG_E_TOO_MANY_RANGES_IN_FILE, text)


def first_outside(ranges: Iterable[Range], size_bytes: int) -> Range | None:
    """The first range that is not wholly inside a file of this size (R5); one without a length needs a byte, too."""
    for item in ranges:
        if item.offset >= size_bytes or item.offset + (item.length_bytes or 0) > size_bytes:
            return item
    return None


def local_size(ranges: Iterable[Range], remote_bytes: int | None) -> int | None:
    """Size of the file that these parts of a remote one make; None while that depends on an unknown size."""
    total = 0
    for item in ranges:
        if item.length_bytes is not None:
            total += item.length_bytes
        elif remote_bytes is not None:
            total += max(0, remote_bytes - item.offset)
        else:
            return None
    return total


def joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same bytes in as few ranges as possible, by offset."""
    return tuple(_range(span) for span in _merged(map(_span, ranges)))


def missing(wanted: Iterable[Range], present: Iterable[Range]) -> tuple[Range, ...]:
    """What of `wanted` is not `present`, in the order of `wanted`, every byte once."""
    taken = _merged(map(_span, present))
    return tuple(_range(piece) for item in wanted for piece in _claimed(taken, _span(item)))


def present(file: File) -> tuple[Range, ...]:
    """What is here of a file: GetFilledFileRanges."""
    begun = (Range(offset=0, length_bytes=file.transferred_bytes),) if file.transferred_bytes else ()
    return joined((*begun, *file.filled))


def progress(here: Sequence[Range]) -> tuple[int, tuple[Range, ...]]:
    """The bytes from the first one on without a gap, and the ranges beyond: `transferred_bytes` and `filled`."""
    if here and here[0].offset == 0 and here[0].length_bytes is not None:
        return here[0].length_bytes, tuple(here[1:])
    return 0, tuple(here)


def requested(file: File, new: Sequence[Range]) -> tuple[Range, ...]:
    """What is wanted after RequestFileRanges: the missing bytes of `new` first, then what was wanted before."""
    return missing((*_within(new, file.size_bytes), *file.wanted), present(file))


def still_wanted(file: File, here: Iterable[Range]) -> tuple[Range, ...]:
    """What is wanted when this much of the file is here; a range up to the end has one as soon as the size is known."""
    return missing(_within(file.wanted, file.size_bytes), here)


def repositioned(file: File, offset: int, *, is_on_demand: bool) -> tuple[Range, ...]:
    """What is wanted after UpdateDownloadPosition: all that is missing from `offset` on, then the rest.

    On demand only the order changes: nothing becomes wanted that was not requested.
    """
    rest = (Range(offset=offset, length_bytes=None),)
    if not is_on_demand:
        return requested(file, rest)
    before = (Range(offset=0, length_bytes=offset),) if offset else ()
    behind = joined(missing(file.wanted, before))
    return missing((*behind, *file.wanted), ())


def shown(item: Range) -> str:
    """`100-199`, `100-` for one that goes to the end."""
    return f"{item.offset}-{'' if item.length_bytes is None else item.offset + item.length_bytes - 1}"


def _check_bounds(index: int, item: Range) -> None:
    for name, value in (("offset", item.offset), ("length", item.length_bytes or 0)):
        if not 0 <= value <= TO_EOF:
            raise BitsError(codes.E_INVALIDARG, f"the {name} of range {index} is {value}; use 64 bits without sign")
    if item.offset == TO_EOF:
        raise BitsError(codes.BG_E_INVALID_RANGE, f"range {index} begins at BG_LENGTH_TO_EOF; begin it in the file")
    if item.offset + (item.length_bytes or 0) > TO_EOF:
        raise BitsError(codes.BG_E_INVALID_RANGE, f"range {index} ends beyond 64 bits; shorten it")


def _check_lengths(ranges: Iterable[Range]) -> None:
    for index, item in enumerate(ranges):
        if item.length_bytes == 0:
            raise BitsError(codes.BG_E_INVALID_RANGE, f"range {index} at {item.offset} is empty; give it a length")


def _within(ranges: Iterable[Range], size_bytes: int | None) -> Iterator[Range]:
    """The ranges with their ends, if those are known."""
    for item in ranges:
        if size_bytes is None or item.length_bytes is not None:
            yield item
        elif item.offset < size_bytes:
            yield Range(offset=item.offset, length_bytes=size_bytes - item.offset)


def _span(item: Range) -> Span:
    return item.offset, _END if item.length_bytes is None else item.offset + item.length_bytes


def _range(span: Span) -> Range:
    start, end = span
    return Range(offset=start, length_bytes=None if end == _END else end - start)


def _merged(spans: Iterable[Span]) -> list[Span]:
    """By offset, without empty ones; what overlaps or touches is one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if start == end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _claimed(taken: list[Span], span: Span) -> list[Span]:
    """The parts of `span` that are not taken; now they are. `taken` is merged and stays so."""
    start, end = span
    if start == end:
        return []
    first = bisect_left(taken, start, key=itemgetter(1))
    behind = bisect_right(taken, end, key=itemgetter(0))
    met = taken[first:behind]
    edges = [start, *(edge for each in met for edge in each), end]
    parts = [(left, right) for left, right in zip(edges[::2], edges[1::2], strict=True) if left < right]
    taken[first:behind] = [(min(start, *edges), max(end, *edges))]
    return parts
