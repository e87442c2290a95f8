"""`python -m tests.store.examples make`: write the example store of the present schema, `schema<n>.sql`.

Once for each schema step, before it is released; the examples of older schemas stay as the programs of their time
wrote them. (Those of 1 and 2 were made by this program with PYTHONPATH at the sources of then; 3 is 4 without the
column that came with it, since no program ever wrote it alone.)
"""

import contextlib
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.store.examples.content import events, of_schema

from openbits.store import AppendEvent, SaveJob, open_store, schema

FOLDER = Path(__file__).parent


def make() -> Path:
    """Fill a store of the present schema and dump it; the path of the dump."""
    number = len(schema.STEPS)
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made, "queue")
        directory.mkdir(mode=0o700)
        store = open_store(directory)
        store.load()
        store.commit([SaveJob(before=None, after=job) for job in of_schema(number)])
        store.commit([AppendEvent(event) for event in events()])
        store.close()
        dump = "\n".join(_dumped(directory / "queue.db"))
    path = FOLDER / f"schema{number}.sql"
    path.write_text(f"{dump}\n")
    return path


def _dumped(path: Path) -> Iterator[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name in ("application_id", "user_version"):
            (value,) = connection.execute(f"PRAGMA {name}").fetchone()
            yield f"PRAGMA {name} = {value};"
        yield "PRAGMA journal_mode = WAL;"
        yield from connection.iterdump()


if __name__ == "__main__":
    if sys.argv[1:] != ["make"]:
        sys.exit("usage: python -m tests.store.examples make")
    sys.stdout.write(f"{make()}\n")
