"""The store where nothing but its folder may be written: so is the manager confined."""

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from openbits.identity import landlock
from openbits.store import sqlite


@pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")
def test_sorting_more_than_fits_the_cache_needs_no_other_folder(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            landlock._libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
            root, store = (os.open(path, os.O_PATH) for path in ("/", tmp_path))
            landlock.restrict([root], [store], is_network_allowed=False)
            with contextlib.ExitStack() as opened:
                _sort(sqlite._connect(tmp_path / "queue.db", opened))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _sort(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA cache_size = 10")
    connection.execute("CREATE TABLE rows (text)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO rows VALUES (hex(randomblob(20 + ?)))", [(0,)] * 50000)
    connection.execute("COMMIT")
    assert len(connection.execute("SELECT text FROM rows ORDER BY text").fetchall()) == 50000
    connection.execute("CREATE INDEX texts ON rows (text)")
