"""Sixty misbehaviours of servers, for files of every kind and by every way to the server (reliability.md §5).

Each cell is played by a real worker against real sockets: outcome and code are those of the table, the file is of one
version, few bytes come beyond a cap, nothing hangs, what a sound server says afterwards completes the file, and another
file of the same job is not touched by what happened.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.transfer import misbehaviour_page
from tests.transfer.misbehaviour_stage import MOST_ATTEMPTS, Cell, Stage, file_of
from tests.transfer.misbehaviour_table import ROWS
from tests.transfer.misbehaviours import FRESH, PLAIN, RESUME, TLS, TUNNEL, WAYS, A, Expected, Row, sound, whole

from openbits.core import codes
from openbits.core.codes import CodeClass

MOST_BYTES: Final = 12 * 1024 * 1024
"""Of 32 MiB a server gets rid of so many at most until a cap is felt: what is on the way then."""

MOST_SECONDS: Final = 10
"""Several clocks of a second, on a busy machine."""

MOST_GROWTH_BYTES: Final = 48 * 1024 * 1024
"""A worker keeps connections and buffers of a job for some seconds, and each cell is a job: it grows by about 28 MiB
and then stays so over thousands of transfers. What a flood or a bomb brings is more."""

_CLASSES: Final = {"TR": CodeClass.TRANSIENT, "ER": CodeClass.FATAL, "CAP": CodeClass.FATAL}

CELLS: Final = [
    pytest.param(way, row, kind, id=f"{way}-{kind}-{row.id}")
    for way in WAYS
    for row in ROWS
    if way in row.ways
    for kind in row.kinds
]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stage]]:
    """The stage of a way, made when it is first needed: one worker for all of its cells."""
    made: dict[str, Stage] = {}

    def get(way: str) -> Stage:
        if way not in made:
            made[way] = Stage(way, tmp_path_factory.mktemp(way))
        return made[way]

    yield get
    for stage in made.values():
        stage.close()


@pytest.fixture
def way(request: pytest.FixtureRequest, stages: Callable[[str], Stage]) -> Stage:
    return stages(request.param)


@pytest.mark.parametrize(("way", "row", "kind"), CELLS, indirect=["way"])
def test_a_server_misbehaves(way: Stage, row: Row, kind: str, tmp_path: Path) -> None:
    expected = row.of(kind, way.way)
    with way.cell(row, kind, tmp_path) as cell:
        began = time.monotonic()
        stories = cell.run()
        if expected.by_resumes:
            while stories[-1].outcome == "failed" and len(stories) < MOST_ATTEMPTS:
                assert codes.classify(stories[-1].hresult) is CodeClass.TRANSIENT
                stories.append(cell.attempt())
        assert time.monotonic() - began < MOST_SECONDS * len(stories)
        told = cell.told(stories)
        if expected.outcome in _CLASSES:
            _has_failed(cell, told.last.last, expected)
        else:
            _has_arrived(cell, told.last.last, expected)
            assert bool(told.restarts) == (expected.outcome == "RS" and kind == RESUME)
        if row.check is not None:
            row.check(told)
        if expected.outcome == "CAP":
            assert cell.server.sent_bytes < MOST_BYTES
        cell.mend(expected.version)
        if expected.outcome in _CLASSES:
            (last,) = cell.run()[-1:]
            _has_arrived(cell, last.last, expected)
        assert cell.fetch_another() == expected.version.body


def _has_failed(cell: Cell, last: dict[str, object], expected: Expected) -> None:
    assert last["event"] == "failed", last
    hresult = int(str(last["hresult"]))
    assert hresult in expected.codes, (codes.label(hresult), last)
    assert codes.classify(hresult) is _CLASSES[expected.outcome]
    assert last["detail"], "nothing is said about it"
    cell.check_kept()


def _has_arrived(cell: Cell, last: dict[str, object], expected: Expected) -> None:
    assert last["event"] == "transferred", last
    assert cell.arrived() == file_of(cell.kind, expected.version)


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_nothing_is_left_of_them(way: Stage) -> None:
    """Runs last: descriptors are given back, and memory does not grow with what was sent."""
    way.wait_for_descriptors()
    assert way.rss_bytes - way.rss_at_first_bytes < MOST_GROWTH_BYTES


@pytest.mark.parametrize("way", [PLAIN, TLS, TUNNEL], indirect=True)
def test_a_sound_server_keeps_its_connection(way: Stage, tmp_path: Path) -> None:
    """What is done against row 60 takes no answer for one that was there before."""
    row = Row(number=60, name="sound", act=lambda request, _: sound(request).steps(), expected=whole())
    with way.cell(row, FRESH, tmp_path) as cell:
        for _ in range(60):
            assert cell.fetch_another() == A
        assert {request.connection for request in cell.server.requests} == {1}


def test_every_number_is_there() -> None:
    assert {row.number for row in ROWS} == set(range(1, 61))


def test_the_page_is_that_of_the_table() -> None:
    assert misbehaviour_page.PAGE.read_text() == misbehaviour_page.page(), (
        "run python -m tests.transfer.misbehaviour_page"
    )
