"""The server is killed at every failpoint, each time it passes it; the client goes on, the file is whole (§6, §9.5)."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.server.points import SERVER_POINTS
from tests.server.upload_program import DATA, TOTAL

PROGRAM = (sys.executable, "-m", "tests.server.upload_program")
AT_LEAST_ONCE = {"server.committing", "server.notified"}
"""Death between the answer of the application and the record of it (§9.5)."""


def run(base: Path, *point: str) -> int:
    ended = subprocess.run([*PROGRAM, base, *point], check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode in {0, -signal.SIGKILL}, ended.stderr
    return ended.returncode


def assert_whole(base: Path, point: str) -> None:
    assert [path.name for path in (base / "root" / "inbox").iterdir()] == ["a.bin"]
    published = base / "root" / "inbox" / "a.bin"
    assert published.read_bytes() == DATA
    assert (published.stat().st_nlink, published.stat().st_mode & 0o777) == (1, 0o640)
    assert [str(path) for path in (base / "spool" / "BITS-Sessions").glob("*/*")] == []
    calls = (base / "calls").read_text().splitlines()
    assert set(calls) == {"whole"}
    assert len(calls) <= (2 if point in AT_LEAST_ONCE else 1)
    offsets = [int(line) for line in (base / "told").read_text().splitlines()[1:]]
    assert offsets == sorted(offsets)  # a crash of the server alone takes nothing back that was acknowledged
    assert offsets[-1] == TOTAL


@pytest.mark.parametrize("point", SERVER_POINTS)
def test_the_client_goes_on_after_a_death_at(point: str, tmp_path: Path) -> None:
    deaths = 0
    while run(base := tmp_path / str(deaths), point, str(deaths + 1)) == -signal.SIGKILL:
        deaths += 1
        in_sight = [path.read_bytes() for path in (base / "root" / "inbox").iterdir()]
        assert in_sight in ([], [DATA])  # readers never see a partial file
        assert run(base) == 0
        assert_whole(base, point)
    assert deaths
    assert_whole(base, "")
