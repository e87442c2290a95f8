"""The search for canaries finds what it is for: the checks at the end of every test are not vacuous."""

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.real import canaries
from tests.real.conftest import Service

from openbits import BitsError
from openbits.core import codes


@pytest.mark.parametrize("place", ["state/queue/queue.db", "state/new", "bitsd.log", f"state/{canaries.canary()}"])
def test_a_canary_in_a_file_or_in_its_name_fails_the_test_that_left_it(
    make_service: Callable[..., Service], place: str
) -> None:
    service = make_service()
    service.start()
    service.stop()
    path = service.base / place
    before = path.read_bytes() if path.exists() else None
    path.write_bytes((before or b"") + canaries.canary().encode())
    with pytest.raises(AssertionError, match="secrets are in clear"):
        service.close()
    path.unlink() if before is None else path.write_bytes(before)


@pytest.mark.parametrize("where", ["argument", "variable"])
def test_a_canary_in_a_process_below_is_found(where: str) -> None:
    canary = canaries.canary()
    nap = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    command = [*nap, canary] if where == "argument" else ["env", f"X={canary}", *nap]
    parent = "import subprocess, sys; subprocess.run(sys.argv[1:], check=False)"
    with subprocess.Popen([sys.executable, "-c", parent, *command], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = canaries.found_in_processes(process.pid)
        for child in list(canaries._descendants(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                subprocess.run(["kill", str(child)], check=False)
    name = "cmdline" if where == "argument" else "environ"
    assert [one for one in found if one.endswith(name) and str(process.pid) not in one]


def test_a_canary_in_an_exception_or_its_notes_is_found() -> None:
    hidden = BitsError(codes.E_FAIL, "cannot; do")
    canaries.assert_hidden(hidden, {"a": 1})
    shown = BitsError(codes.E_FAIL, f"cannot {canaries.canary()}; do")
    noted = BitsError(codes.E_FAIL, "cannot; do")
    noted.add_note(canaries.canary())
    for one in (shown, noted, {"a": canaries.canary()}, [canaries.canary()]):
        with pytest.raises(AssertionError):
            canaries.assert_hidden(one)


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("Canary")
    assert canaries.found_in_files(tmp_path) == []
