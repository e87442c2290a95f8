"""Layouts and plans: every byte is handed out once and goes to its place, whatever is taken, shared, given back."""

import itertools
import os
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from openbits.core.model import Range
from openbits.transfer import pieces
from openbits.transfer.lanes import Written
from openbits.transfer.pieces import Layout, Piece, Plan, Stretch
from openbits.transfer.sink import Sink
from openbits.transfer.syncing import Done

REMOTE = bytes(range(256)) * 4
SIZE = len(REMOTE)


def part(offset: int, length: int | None) -> Range:
    return Range(offset=offset, length_bytes=length)


PARTS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 16)), min_size=1, max_size=12).map(
    lambda pairs: tuple(part(16 * place, length) for place, length in dict(pairs).items())
)
ANYWHERE = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 200) | st.none()), max_size=5).map(
    lambda pairs: tuple(part(*pair) for pair in pairs)
)


def test_a_layout_packs_the_ranges_in_their_order() -> None:
    """R3."""
    layout = Layout((part(100, 100), part(900, 100), part(400, 100)), 1000)
    assert layout.size_bytes == 300
    assert list(layout.pieces(50, 250)) == [Piece(50, 150, 50), Piece(100, 900, 100), Piece(200, 400, 50)]
    assert list(Layout((part(900, None), part(0, 1)), 1000).pieces(99, 101)) == [Piece(99, 999, 1), Piece(100, 0, 1)]


def test_neighbours_are_asked_for_as_one_range() -> None:
    plan = Plan(Layout((part(10, 10), part(0, 10)), 100), (), ())
    (stretch,) = plan.take()
    assert (stretch.position, stretch.end) == (0, 20)
    assert [(place.local, data) for place, data in stretch.take(REMOTE[:20])] == [
        (10, REMOTE[:10]),
        (0, REMOTE[10:20]),
    ]


def test_a_stretch_that_is_cut_takes_no_more() -> None:
    stretch = Stretch([Piece(0, 0, 10), Piece(50, 10, 10)])
    assert stretch.cut(15) == [Piece(55, 15, 5)]
    assert [(place.local, data) for place, data in stretch.take(REMOTE[:20])] == [(0, REMOTE[:10]), (50, REMOTE[10:15])]
    assert (stretch.left_bytes, stretch.rest()) == (0, [])


def test_a_share_is_half_of_the_largest_if_that_is_worth_it() -> None:
    size = 4 * pieces.SEGMENT_BYTES
    plan = Plan(Layout((), size), (), ())
    first = plan.take()
    second = plan.share(first)
    third = plan.share([*first, *second])
    assert [(one.position, one.end) for one in (*first, *second, *third)] == [
        (0, size // 4),
        (size // 2, size),
        (size // 4, size // 2),
    ]
    assert [one.left_bytes for one in plan.share([*first, *second, *third])] == [size // 4]
    assert plan.share(first) == []


class Fetching(RuleBasedStateMachine):
    """Lanes that take, receive, share, fail; wishes that change."""

    @initialize(parts=PARTS | st.just(()), wanted=ANYWHERE, here=ANYWHERE, is_on_demand=st.booleans())
    def begin(self, parts: Any, wanted: Any, here: Any, is_on_demand: Any) -> None:
        self.layout = Layout(parts, SIZE)
        size = self.layout.size_bytes
        self.is_on_demand = is_on_demand and not parts
        wanted = () if parts else wanted
        here = tuple(
            part(item.offset, min(item.length_bytes or size, size - item.offset)) for item in here if item.offset < size
        )
        self.local = bytearray(size)
        self.come = {byte for item in here for byte in range(item.offset, item.offset + (item.length_bytes or 0))}
        self.expected = (
            b"".join(REMOTE[item.offset : item.offset + (item.length_bytes or 0)] for item in parts) or REMOTE
        )
        for byte in self.come:
            self.local[byte] = self.expected[byte]
        self.wanted = wanted
        self.plan = Plan(self.layout, here, wanted, is_on_demand=self.is_on_demand)
        self.lots: list[list[Stretch]] = []

    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        lot = self.plan.take(most)
        assert len(lot) <= most
        if lot:
            self.lots.append(lot)
        for before, after in itertools.pairwise(lot):
            assert before.end < after.position, "in order, and neighbours are one"

    @rule(count=st.integers(1, 300), which=st.integers(0, 9))
    def receive(self, count: int, which: int) -> None:
        if not self.lots:
            return
        lot = self.lots[which % len(self.lots)]
        for stretch in lot:
            data = REMOTE[stretch.position : stretch.position + count]
            for place, here in stretch.take(data):
                span = range(place.local, place.local + len(here))
                assert not self.come & set(span), "a byte came twice"
                assert len(here) <= place.length
                self.come |= set(span)
                self.local[place.local : place.local + len(here)] = here
                self.plan.arrived(len(here))
        if not any(stretch.left_bytes for stretch in lot):
            self.lots.remove(lot)

    @rule(which=st.integers(0, 9))
    def fail(self, which: int) -> None:
        if self.lots:
            lot = self.lots.pop(which % len(self.lots))
            self.plan.give_back([piece for stretch in lot for piece in stretch.rest()])

    @rule(wanted=ANYWHERE)
    def reorder(self, wanted: Any) -> None:
        if not self.layout.is_made_of_ranges:
            self.wanted = wanted
            self.plan.reorder(wanted)

    @invariant()
    def every_byte_is_in_its_place(self) -> None:
        if hasattr(self, "plan"):
            assert all(self.local[byte] == self.expected[byte] for byte in self.come)
            assert self.plan.arrived_bytes == len(self.come)
            assert self.plan.is_whole == (len(self.come) == self.layout.size_bytes)

    def teardown(self) -> None:
        """What is left comes, and nothing is missing of what was asked for."""
        if not hasattr(self, "plan"):
            return
        while self.lots or (lot := self.plan.take()):
            if not self.lots:
                self.lots.append(lot)
            self.receive(10_000, 0)
        due = {byte for item in self.wanted for byte in range(SIZE)[item.offset :][: item.length_bytes]}
        assert due <= self.come
        if not self.is_on_demand:
            assert bytes(self.local) == self.expected
            assert self.plan.is_whole


TestFetching = Fetching.TestCase
TestFetching.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


class Stuck:
    """A disk that has not got there yet."""

    def __init__(self) -> None:
        self.done: list[Done] = []

    def submit(self, descriptor: int, done: Done) -> None:
        """See Syncer."""
        assert descriptor >= 0
        self.done.append(done)


def test_what_is_told_is_on_the_disk_and_is_told_once(tmp_path: Path) -> None:
    stuck = Stuck()
    sink = Sink(os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT), stuck, lambda act: act(), 0, 0.0)
    region = sink.region(100, 200)
    written = Written(region)
    region.write(b"x" * 50)
    sink.sync_if_due(10.0)
    assert written.news() == []
    stuck.done.pop()(None)
    assert (written.news(), written.news(), written.is_growing) == ([part(100, 50)], [], False)
    region.write(b"x" * 70)
    assert written.is_growing
    sink.sync_if_due(20.0)
    stuck.done.pop()(None)
    assert written.news() == [part(150, 50)], "nothing beyond its end"
    sink.close()
