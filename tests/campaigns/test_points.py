"""The table of failpoints and the sources agree."""

import ast
from collections import Counter
from pathlib import Path

import pytest
from tests.campaigns.board import Board
from tests.campaigns.points import POINTS
from tests.campaigns.workload import KINDS
from tests.server.points import SERVER_POINTS

import openbits
from openbits import failpoints


def points_in_sources() -> Counter[str]:
    found: Counter[str] = Counter()
    for path in Path(openbits.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                (name,) = node.args
                assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: the name of a failpoint is a literal"
                found[str(name.value)] += 1
    return found


def test_every_point_in_the_sources_is_in_a_table_and_there_once() -> None:
    assert points_in_sources() == Counter(POINTS.keys()) + Counter(SERVER_POINTS.keys())


def test_there_are_enough_points_and_each_has_work_that_passes_it() -> None:
    assert len(POINTS) >= 40
    assert {point.act for point in POINTS.values()} <= KINDS.keys()


def test_nothing_happens_at_a_point_unless_a_program_armed_itself() -> None:
    failpoints.failpoint("store.committed")


def test_only_test_programs_arm() -> None:
    sources = Path(openbits.__file__).parent
    for path in sources.rglob("*.py"):
        assert "failpoints" not in path.read_text().replace("from openbits.failpoints import failpoint\n", "")


def test_a_board_counts_for_all_who_map_it(tmp_path: Path) -> None:
    ours = Board.make(tmp_path / "board")
    theirs = Board(tmp_path / "board")
    theirs.passed("store.begun")
    assert "store.begun" not in ours.never_passed()
    assert len(ours.never_passed()) == len(POINTS) - 1


def test_a_lit_point_kills_who_passes_it_for_the_nth_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: killed.append((pid, number)))
    board = Board.make(tmp_path / "board")
    board.light("store.begun", 2)
    board.passed("store.begun")
    assert (killed, board.died("store.begun")) == ([], 0)
    board.passed("store.begun")
    assert len(killed) == 1
    assert board.put_out("store.begun") == killed[0][0]
    board.passed("store.begun")
    assert len(killed) == 1
