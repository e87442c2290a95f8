"""Turns: who has the network, and in which order ends are told (docs/processes.md, "Files of an attempt")."""

from collections.abc import Callable

import pytest

from openbits.transfer.turns import Turns


class Line:
    """A line of transfers; `begun`: in which order their turns came."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.begun: list[str] = []

    def enter(self, *keys: str, at_a_time: int = 1, name: str = "job:1") -> None:
        for key in keys:
            self.turns.enter(name, key, at_a_time, self.begin(key))

    def begin(self, key: str) -> Callable[[], None]:
        return lambda: self.begun.append(key)


@pytest.fixture
def line() -> Line:
    return Line()


def test_one_after_the_other_in_the_order_they_came(line: Line) -> None:
    line.enter("a", "b", "c")
    assert line.begun == ["a"]
    line.turns.leave("a")
    assert line.begun == ["a", "b"]
    line.turns.leave("b")
    assert line.begun == ["a", "b", "c"]


def test_so_many_at_a_time(line: Line) -> None:
    line.enter("a", "b", "c", "d", at_a_time=2)
    assert line.begun == ["a", "b"]
    line.turns.leave("b")
    assert line.begun == ["a", "b", "c"]


def test_the_number_of_the_last_order_holds(line: Line) -> None:
    line.enter("a", "b", "c")
    line.enter("d", at_a_time=3)
    assert line.begun == ["a", "b", "c"]


def test_a_turn_ends_with_the_last_byte_and_not_with_the_disk(line: Line) -> None:
    line.enter("a", "b", "c")
    line.turns.save("a")
    assert line.begun == ["a", "b"]
    line.turns.leave("a")
    assert line.begun == ["a", "b"]


def test_lines_do_not_wait_for_each_other(line: Line) -> None:
    line.enter("a", "b")
    line.enter("x", name="job:2")
    assert line.begun == ["a", "x"]


def test_what_was_restarted_goes_before_those_that_wait_and_nobody_passes_it(line: Line) -> None:
    line.enter("a", "b")
    line.turns.restart("a")
    assert line.begun == ["a"]
    line.enter("a")
    assert line.begun == ["a", "a"]
    line.turns.leave("a")
    assert line.begun == ["a", "a", "b"]


def test_who_is_cancelled_before_its_turn_never_begins(line: Line) -> None:
    line.enter("a", "b", "c")
    line.turns.leave("b")
    line.turns.leave("a")
    assert line.begun == ["a", "c"]


def test_after_a_failure_nobody_begins(line: Line) -> None:
    told: list[str] = []
    line.enter("a", "b")
    line.turns.fail("a", lambda: told.append("a failed"))
    assert (told, line.begun) == (["a failed"], ["a"])
    line.turns.leave("b")


def test_a_failure_is_told_after_the_files_that_only_wait_for_the_disk(line: Line) -> None:
    told: list[str] = []
    line.enter("a", "b", "c", at_a_time=3)
    line.turns.save("a")
    line.turns.save("b")
    line.turns.fail("c", lambda: told.append("c failed"))
    line.turns.leave("a")
    assert told == []
    line.turns.leave("b")
    assert told == ["c failed"]


def test_who_has_left_may_leave_again(line: Line) -> None:
    line.enter("a", "b")
    line.turns.leave("a")
    line.turns.leave("a")
    assert line.begun == ["a", "b"]


def test_a_line_that_is_over_is_forgotten_even_if_a_restart_was_never_ordered(line: Line) -> None:
    line.enter("a", "b")
    line.turns.restart("a")
    line.turns.leave("b")
    line.enter("c", "d")
    assert line.begun == ["a", "c"]
