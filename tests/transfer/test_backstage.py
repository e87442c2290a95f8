"""Who may wait in the place of a worker's loop: helper threads, which nothing that a call does can end."""

import threading
from collections.abc import Callable, Iterator
from typing import NoReturn, cast

import pytest

from openbits.transfer.backstage import MOST_THREADS, Helpers, Lane, Outcome
from openbits.transfer.ladder import Said
from openbits.transfer.loop import Loop
from openbits.transfer.mechanisms import Mechanism, MechanismError

SECONDS = 10
NOBODY = cast("Mechanism", None)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def helpers(loop: Loop) -> Helpers:
    return Helpers(loop)


class Told:
    """What the loop was told, by name."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._wanted = 0
        self.outcomes: list[tuple[str, Outcome]] = []

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.outcomes]

    def then(self, name: str) -> Callable[[Outcome], None]:
        def tell(outcome: Outcome) -> None:
            self.outcomes.append((name, outcome))
            if len(self.outcomes) == self._wanted:
                self._loop.stop()

        return tell

    def wait(self, count: int) -> None:
        """Until so many were told; a loop runs once only."""
        self._wanted = count
        deadline = self._loop.call_at(self._loop.now() + SECONDS, self._loop.stop)
        if len(self.outcomes) < count:
            self._loop.run()
        deadline.cancel()
        assert len(self.outcomes) == count


@pytest.fixture
def told(loop: Loop) -> Told:
    return Told(loop)


def say() -> Said:
    return Said(NOBODY, b"word")


def fail() -> NoReturn:
    raise RuntimeError("nobody has thought of this")


class Silent:
    """A call that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._may_go = threading.Event()

    def __call__(self) -> Said:
        self.begun.set()
        assert self._may_go.wait(SECONDS)
        return say()

    def go(self) -> None:
        self._may_go.set()


def test_what_nobody_has_thought_of_is_the_error_of_one_transfer_and_the_thread_lives_on(
    helpers: Helpers, told: Told
) -> None:
    lane = Lane()
    for _ in range(MOST_THREADS + 1):
        helpers.run(lane, fail, told.then("bad"))
    helpers.run(lane, say, told.then("good"))
    told.wait(MOST_THREADS + 2)
    assert told.names == ["bad"] * (MOST_THREADS + 1) + ["good"]
    (_, first), *_, (_, last) = told.outcomes
    assert isinstance(first, MechanismError)
    assert "RuntimeError" in str(first)
    assert isinstance(last, Said)


def test_a_job_that_waits_for_a_silent_kdc_holds_nobody_else_up(helpers: Helpers, told: Told) -> None:
    silent, lane = Silent(), Lane()
    helpers.run(lane, silent, told.then("silent"))
    helpers.run(lane, say, told.then("behind it"))
    helpers.run(Lane(), say, told.then("other"))
    told.wait(1)
    assert told.names == ["other"]
    silent.go()


def test_the_calls_of_one_job_are_made_one_after_the_other(helpers: Helpers, told: Told) -> None:
    lane, first, second = Lane(), Silent(), Silent()
    helpers.run(lane, first, told.then("first"))
    helpers.run(lane, second, told.then("second"))
    helpers.run(Lane(), say, told.then("other"))
    assert first.begun.wait(SECONDS)
    told.wait(1)
    assert not second.begun.is_set()
    first.go()
    assert second.begun.wait(SECONDS)
    second.go()


def test_there_are_no_more_than_so_many_threads_and_they_go_on_with_the_next(helpers: Helpers, told: Told) -> None:
    before = threading.active_count()
    waiting = [Silent() for _ in range(MOST_THREADS + 2)]
    for one in waiting:
        helpers.run(Lane(), one, told.then(""))
    assert all(one.begun.wait(SECONDS) for one in waiting[:MOST_THREADS])
    assert not any(one.begun.is_set() for one in waiting[MOST_THREADS:])
    assert threading.active_count() == before + MOST_THREADS
    for one in waiting:
        one.go()
    told.wait(len(waiting))


def test_what_nobody_waits_for_any_more_is_neither_made_nor_told(helpers: Helpers, told: Told) -> None:
    lane, begun, skipped = Lane(), Silent(), Silent()
    under_way = helpers.run(lane, begun, told.then("under way"))
    helpers.run(lane, skipped, told.then("skipped")).cancel()
    helpers.run(lane, say, told.then("last"))
    assert begun.begun.wait(SECONDS)
    under_way.cancel()
    begun.go()
    told.wait(1)
    assert told.names == ["last"]
    assert not skipped.begun.is_set()
