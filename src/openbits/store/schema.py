"""The tables of the SQLite store, as numbered schema steps.

A step is never changed once it was released: what is different later is a new step at the end. Each step is one
transaction together with the number it leaves in `PRAGMA user_version`, so a crash leaves a whole schema, old or new.
"""

import sqlite3
from collections.abc import Sequence

APPLICATION_ID = 0x42495453
"""`PRAGMA application_id` of our files ("BITS"), what file(1) and a curious administrator see."""

Step = Sequence[str]
"""SQL statements that lift the schema by one."""

STEPS: Sequence[Step] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        """CREATE TABLE jobs (
            id INTEGER PRIMARY KEY,
            job_id TEXT NOT NULL UNIQUE,
            owner_uid INTEGER NOT NULL,
            state INTEGER NOT NULL,
            priority INTEGER NOT NULL,
            document TEXT NOT NULL
        )""",
        """CREATE TABLE files (
            job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
            file_index INTEGER NOT NULL,
            transferred_bytes INTEGER NOT NULL,
            is_transferred INTEGER NOT NULL,
            is_published INTEGER NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (job, file_index)
        ) WITHOUT ROWID""",
        """CREATE TABLE events (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            at REAL NOT NULL,
            kind TEXT NOT NULL,
            job_id TEXT NOT NULL,
            owner_uid INTEGER NOT NULL,
            file_index INTEGER,
            data TEXT NOT NULL
        )""",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN state_since REAL NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN wakes INTEGER NOT NULL DEFAULT 1",
        """UPDATE jobs SET state_since = coalesce(json_extract(document, '$.state_since'), 0)
            WHERE json_valid(document)""",
    ),
    (
        """CREATE TABLE secrets (
            job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
            slot TEXT NOT NULL,
            key_id TEXT NOT NULL,
            sealed TEXT NOT NULL,
            PRIMARY KEY (job, slot)
        ) WITHOUT ROWID""",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN modified_at REAL NOT NULL DEFAULT 0",
        """UPDATE jobs SET modified_at = coalesce(json_extract(document, '$.modified_at'), 0)
            WHERE json_valid(document)""",
    ),
)
"""Step n (from 1) makes schema n out of schema n - 1."""

TABLES = frozenset({"jobs", "files", "events", "secrets"})
"""What is there after the last step."""


def version(connection: sqlite3.Connection) -> int:
    """Number of the schema; 0 for a new, empty file."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def is_ours(connection: sqlite3.Connection) -> bool:
    """True for a store of any schema, newer ones too, and for a new, empty file."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if version(connection) == 0:
        return application == 0 and not _tables(connection)
    return application == APPLICATION_ID and version(connection) > 0


def is_whole(connection: sqlite3.Connection) -> bool:
    """True if no table of the newest schema is missing."""
    return _tables(connection) >= TABLES


def lift(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Carry out the steps that the file has not seen; the connection is in autocommit mode."""
    for number in range(version(connection) + 1, len(steps) + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in steps[number - 1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
