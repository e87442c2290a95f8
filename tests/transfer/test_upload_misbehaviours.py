"""Misbehaving upload servers, fresh and resumed uploads, by every way to the server (upload-protocol.md, C5).

Each cell is played by a real worker against real sockets: outcome, code and context are those of the specification,
few bytes are sent in vain, nothing hangs, an honest server then gets the file whole and once, and another upload of the
same job is not touched by what happened.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.transfer.misbehaviours import WAYS
from tests.transfer.upload_places import ELSEWHERE
from tests.transfer.upload_refusals import REFUSALS
from tests.transfer.upload_rows import ABOUT_SESSIONS
from tests.transfer.upload_stage import CLOSE, SEND, TARGET, Cell, Expected, Row, Stage, Told, is_fatal
from tests.transfer.upload_ways import ON_THE_WAY

from openbits.core import codes

ROWS: Final = (*ABOUT_SESSIONS, *REFUSALS, *ON_THE_WAY, *ELSEWHERE)
MOST_SECONDS: Final = 10
"""For an attempt: several clocks of a second or two, on a busy machine."""
MOST_GROWTH_BYTES: Final = 64 * 1024 * 1024
"""Of a worker over all cells of a way: buffers for fragments of up to 13 MiB, connections that are kept for seconds."""

CELLS: Final = [
    pytest.param((way, row.is_strict), row, kind, id=f"{way}-{kind}-{row.id}")
    for way in WAYS
    for row in ROWS
    if way in row.ways
    for kind in row.kinds
]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, bool], Stage]]:
    """The stage of a way, made when it is first needed: one worker for all of its cells."""
    made: dict[tuple[str, bool], Stage] = {}

    def get(way: str, is_strict: bool) -> Stage:  # noqa: FBT001  # of a parameter
        key = (way, is_strict)
        if key not in made:
            made[key] = Stage(way, tmp_path_factory.mktemp(way), is_strict=is_strict)
        return made[key]

    yield get
    for stage in made.values():
        stage.close()


@pytest.fixture
def way(request: pytest.FixtureRequest, stages: Callable[[str, bool], Stage]) -> Stage:
    return stages(*request.param)


@pytest.mark.parametrize(("way", "row", "kind"), CELLS, indirect=["way"])
def test_an_upload_server_misbehaves(way: Stage, row: Row, kind: str, tmp_path: Path) -> None:
    expected = row.of(kind, way.way)
    with way.cell(row, kind, tmp_path) as cell:
        began = time.monotonic()
        stories = cell.run()
        assert time.monotonic() - began < MOST_SECONDS * len(stories)
        told = cell.told(stories)
        if expected.outcome == "OK":
            assert told.last["event"] == "transferred", told.last
        else:
            _has_failed(told, expected)
        assert cell.server.body_bytes <= row.most_bytes, "bytes were sent in vain"
        if row.check is not None:
            row.check(told)
        if not row.is_lost:
            _is_made_good(cell, expected)
        cell.send_another()


def _has_failed(told: Told, expected: Expected) -> None:
    last = told.last
    assert last["event"] == "failed", last
    assert last["hresult"] in expected.codes, (codes.label(last["hresult"]), last)
    assert not expected.context or last["context"] == expected.context, last
    assert last["detail"], "nothing is said about it"
    assert last["durable_bytes"] == told.upload.acknowledged_bytes, "other bytes are counted than were acknowledged"
    if expected.outcome == "REPEATED":
        assert is_fatal(last), "it would be tried for ever"
        assert len(told.stories) > 1 or _asked(told) >= 3, "fatal at once"
    elif expected.outcome != "FAILED":
        assert is_fatal(last) == (expected.outcome == "ER"), last


def _asked(told: Told) -> int:
    """How often a packet of the type that is answered badly came."""
    return max(len(told.sent(kind)) for kind in ("Create-Session", "Ping", "Fragment"))


def _is_made_good(cell: Cell, expected: Expected) -> None:
    """An honest server gets everything that is missing; the file is there once, and is that file."""
    if cell.row.step == SEND or expected.outcome != "OK":
        cell.finish()
    if cell.row.step in {SEND, CLOSE}:
        assert TARGET in cell.server.files or not cell.server.binds_urls
        assert all(body == cell.body for body in cell.server.files.values())
        assert cell.server.files


@pytest.mark.parametrize("way", [(way, False) for way in WAYS], indirect=True, ids=WAYS)
def test_memory_does_not_grow_with_what_was_sent(way: Stage) -> None:
    """Runs last."""
    assert way.rss_bytes - way.rss_at_first_bytes < MOST_GROWTH_BYTES
