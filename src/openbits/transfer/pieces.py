"""Which bytes of a file are missing, in which order they are fetched, and by whom: sets of bytes, nothing else.

Values in, values out. A local file that is made of ranges (jobs.md §8.7) has its bytes elsewhere than the remote one;
`Layout` knows where. `Plan` hands out what is missing, each byte once; what was handed out and did not come is given
back. Offsets of the plan and of everybody outside are those of the local file.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from openbits.core import ranges
from openbits.core.model import Range

LOT_RANGES: Final = 100
"""Ranges of one request: Apache answers more than 200 with the whole file, and they have to fit into its header."""

LOT_BYTES: Final = 8 * 1024 * 1024
"""Pieces of a file made of ranges are asked for together up to this; a larger one is asked for alone."""

URGENT_BYTES: Final = 64 * 1024
"""The same where the order matters: together means by offset."""

SEGMENT_BYTES: Final = 4 * 1024 * 1024
"""Nothing smaller is taken from another lane."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that follow each other in the local file as in the remote one."""

    local: int
    remote: int
    length: int

    @property
    def end(self) -> int:
        """The byte behind it, in the local file."""
        return self.local + self.length


class Layout:
    """Where the bytes of the local file are in the remote one. `parts`: what it is made of; none: all, in place."""

    def __init__(self, parts: Sequence[Range], remote_bytes: int) -> None:
        self._pieces: list[Piece] = []
        self.size_bytes = 0
        """Of the local file."""
        for part in parts or (Range(offset=0, length_bytes=remote_bytes),):
            length = remote_bytes - part.offset if part.length_bytes is None else part.length_bytes
            self._pieces.append(Piece(self.size_bytes, part.offset, length))
            self.size_bytes += length
        self.is_made_of_ranges = bool(parts)
        self._starts = [piece.local for piece in self._pieces]

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """What these bytes of the local file are made of."""
        for piece in self._pieces[max(0, bisect_right(self._starts, start) - 1) :]:
            first, behind = max(start, piece.local), min(end, piece.end)
            if piece.local >= end:
                return
            if first < behind:
                yield Piece(first, piece.remote + first - piece.local, behind - first)


class Stretch:
    """Bytes that follow each other in the remote file, asked for as one range; they come from `position` on."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = deque(pieces)
        self.position = pieces[0].remote
        self.end = pieces[-1].remote + pieces[-1].length

    @property
    def left_bytes(self) -> int:
        """What has not come yet."""
        return self.end - self.position

    @property
    def next_local(self) -> int:
        """Where the next byte goes; there is one."""
        first = self._pieces[0]
        return first.local + self.position - first.remote

    def take(self, data: bytes) -> Iterator[tuple[Piece, bytes]]:
        """The next bytes, and where they go: piece by piece; what comes behind the end is ignored."""
        data = data[: self.left_bytes]
        while data:
            first = self._pieces[0]
            done = self.position - first.remote
            here = data[: first.length - done]
            self.position += len(here)
            if done + len(here) == first.length:
                self._pieces.popleft()
            yield Piece(first.local + done, first.remote + done, first.length - done), here
            data = data[len(here) :]

    def rest(self) -> list[Piece]:
        """What has not come yet."""
        return self._behind(self.position)

    def cut(self, position: int) -> list[Piece]:
        """End before this byte of the remote file; what was behind it."""
        taken = self._behind(position)
        kept = [piece for piece in self._pieces if piece.remote < position]
        self.end = min(self.end, position)
        if kept:
            last = kept[-1]
            kept[-1] = Piece(last.local, last.remote, min(last.length, position - last.remote))
        self._pieces = deque(kept)
        return taken

    def _behind(self, position: int) -> list[Piece]:
        """The bytes from this one of the remote file on."""
        found = []
        for piece in self._pieces:
            skipped = max(0, position - piece.remote)
            if skipped < piece.length:
                found.append(Piece(piece.local + skipped, piece.remote + skipped, piece.length - skipped))
        return found


Lot = list[Stretch]
"""What one request asks for, by offset in the remote file."""


class Plan:
    """What is missing. `here`: what is there already; `wanted`: what comes first, on demand all that comes."""

    def __init__(
        self, layout: Layout, here: Iterable[Range], wanted: Iterable[Range], *, is_on_demand: bool = False
    ) -> None:
        self._layout = layout
        self._lot_bytes = LOT_BYTES if layout.is_made_of_ranges else URGENT_BYTES
        self._is_on_demand = is_on_demand
        self._claimed = list(ranges.joined(here))
        self._first: deque[Piece] = deque()
        """What comes first of what nobody fetches."""
        self._free: deque[Piece] = deque()
        """And then this."""
        self.arrived_bytes = sum(item.length_bytes or 0 for item in self._claimed)
        """What is there, wherever in the file."""
        self.reorder(wanted)

    @property
    def is_whole(self) -> bool:
        """True if nothing of the file is missing."""
        return self.arrived_bytes == self._layout.size_bytes

    def due(self, wanted: Iterable[Range], fetched: Iterable[Piece]) -> tuple[Range, ...]:
        """What of `wanted` is not here, in that order, also if it is among what is being `fetched`."""
        under_way = [Range(offset=piece.local, length_bytes=piece.length) for piece in fetched]
        size = self._layout.size_bytes
        closed = (Range(offset=item.offset, length_bytes=_end_of(item, size) - item.offset) for item in wanted)
        return ranges.missing(closed, ranges.missing(self._claimed, under_way))

    def reorder(self, wanted: Iterable[Range]) -> None:
        """From now on this first, of what nobody fetches yet."""
        wanted = tuple(wanted)
        rest = () if self._is_on_demand else (Range(offset=0, length_bytes=self._layout.size_bytes),)
        self._first = self._pieces(ranges.missing(wanted, self._claimed))
        self._free = self._pieces(ranges.missing(rest, (*self._claimed, *wanted)))

    def take(self, most: int = LOT_RANGES) -> Lot:
        """What is to be asked for next, in at most so many ranges; nothing if all is there or under way.

        What comes first is not asked for together with what comes then.
        """
        waiting = self._first or self._free
        lot: list[Piece] = []
        total = 0
        while waiting and len(lot) < most and (not lot or total + waiting[0].length <= self._lot_bytes):
            lot.append(waiting.popleft())
            total += lot[-1].length
        self._claim(lot)
        return _stretches(lot)

    def share(self, others: Iterable[Stretch]) -> Lot:
        """The second half of the largest of what others still fetch, if it is worth it."""
        largest = max(others, key=lambda stretch: stretch.left_bytes, default=None)
        if largest is None or largest.left_bytes < 2 * SEGMENT_BYTES:
            return []
        return _stretches(largest.cut(largest.position + largest.left_bytes // 2))

    def give_back(self, pieces: Sequence[Piece]) -> None:
        """These bytes did not come; they are asked for next."""
        self._first.extendleft(reversed(pieces))
        given = [Range(offset=piece.local, length_bytes=piece.length) for piece in pieces]
        self._claimed = list(ranges.missing(self._claimed, given))

    def arrived(self, count: int) -> None:
        """So many of the bytes that were handed out are there."""
        self.arrived_bytes += count

    def _pieces(self, free: Iterable[Range]) -> deque[Piece]:
        size = self._layout.size_bytes
        spans = ((item.offset, _end_of(item, size)) for item in free)
        return deque(piece for start, end in spans for piece in self._layout.pieces(start, end))

    def _claim(self, pieces: Iterable[Piece]) -> None:
        taken = (Range(offset=piece.local, length_bytes=piece.length) for piece in pieces)
        self._claimed = list(ranges.joined((*self._claimed, *taken)))


def _stretches(pieces: Iterable[Piece]) -> Lot:
    """Neighbours in the remote file are one range: some servers would make one of them."""
    lots: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.remote):
        if lots and lots[-1][-1].remote + lots[-1][-1].length == piece.remote:
            lots[-1].append(piece)
        else:
            lots.append([piece])
    return [Stretch(lot) for lot in lots]


def _end_of(item: Range, size: int) -> int:
    return size if item.length_bytes is None else min(size, item.offset + item.length_bytes)
