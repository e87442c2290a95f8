"""Numbered schema steps: old stores are lifted, newer ones refused, foreign files set aside."""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from tests.store.reading import jobs_in

from openbits.core.enums import JobState, NotifyFlags, Priority
from openbits.core.model import Directory, File, Identity, Job
from openbits.core.properties import Properties
from openbits.store import Head, SaveJob, StoredEvent, StoreError, open_store, schema

STEP_1 = """
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1112101971;
PRAGMA user_version = 1;
CREATE TABLE jobs (id INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, owner_uid INTEGER NOT NULL,
    state INTEGER NOT NULL, priority INTEGER NOT NULL, document TEXT NOT NULL);
CREATE TABLE files (job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, file_index INTEGER NOT NULL,
    transferred_bytes INTEGER NOT NULL, is_transferred INTEGER NOT NULL, is_published INTEGER NOT NULL,
    document TEXT NOT NULL, PRIMARY KEY (job, file_index)) WITHOUT ROWID;
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL,
    job_id TEXT NOT NULL, owner_uid INTEGER NOT NULL, file_index INTEGER, data TEXT NOT NULL);
INSERT INTO jobs VALUES (4, '00000000-0000-0000-0000-00000000000a', 1000, 4, 0,
    '{"type":0,"state":4,"owner":{"uid":1000,"gid":100,"groups":[100,27],"name":"alice"},"created_at":1.5,"modified_at":2,"state_since":3,
      "properties":{"priority":0,"display_name":"nightly","notify_flags":3}}');
INSERT INTO files VALUES (4, 0, 512, 0, 0,
    '{"remote_name":"https://h/a","local_name":"/srv/a","directory":{"path":"/srv","dev":1,"ino":2},"name":"a"}');
INSERT INTO events VALUES (41, 9.5, 'created', '00000000-0000-0000-0000-00000000000a', 1000, NULL, '{"a":1}');
"""
"""A store as the first release writes it: what is true of it stays true of every later version of this program."""

STORED_JOB = Job(
    job_id=UUID(int=10),
    owner=Identity(uid=1000, gid=100, groups=(100, 27), name="alice"),
    state=JobState.ERROR,
    created_at=1.5,
    modified_at=2,
    state_since=3,
    properties=Properties(
        display_name="nightly",
        priority=Priority.FOREGROUND,
        notify_flags=NotifyFlags.JOB_TRANSFERRED | NotifyFlags.JOB_ERROR,
    ),
    files=(
        File(
            remote_name="https://h/a",
            local_name="/srv/a",
            directory=Directory(path="/srv", dev=1, ino=2),
            name="a",
            transferred_bytes=512,
        ),
    ),
)


def write(directory: Path, script: str) -> Path:
    path = directory / "queue.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


def test_a_store_of_schema_1_is_read_and_goes_on(directory: Path) -> None:
    write(directory, STEP_1)

    store = open_store(directory)
    loaded = store.load()

    assert jobs_in(store) == [STORED_JOB]
    assert loaded.last_seq == 41
    assert loaded.was_damaged is None
    assert [event.data for event in store.events_after(40, 1000, 10)] == [{"a": 1}]
    store.commit([SaveJob(before=STORED_JOB, after=STORED_JOB)])
    store.close()


def test_a_store_of_schema_1_tells_what_a_start_needs_and_wakes_every_job_once(directory: Path) -> None:
    broken = "INSERT INTO jobs VALUES (5, '00000000-0000-0000-0000-00000000000b', 1000, 3, 2, '{');"
    write(directory, STEP_1 + broken)

    store = open_store(directory)
    heads = store.load().heads
    store.close()

    assert heads == [
        Head(UUID(int=10), 1000, JobState.ERROR, Priority.FOREGROUND, 3.0, 2.0, wakes=True),
        Head(UUID(int=11), 1000, JobState.SUSPENDED, Priority.NORMAL, 0.0, 0.0, wakes=True),
    ]


def test_a_new_store_has_the_newest_schema_and_says_whose_it_is(directory: Path) -> None:
    open_store(directory).close()

    with closing(sqlite3.connect(directory / "queue.db")) as connection:
        assert schema.version(connection) == len(schema.STEPS)
        assert connection.execute("PRAGMA application_id").fetchone() == (0x42495453,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_only_the_steps_that_are_missing_are_carried_out(directory: Path) -> None:
    path = write(directory, STEP_1)
    steps = (*schema.STEPS[:1], ("ALTER TABLE jobs ADD COLUMN pool TEXT NOT NULL DEFAULT 'all'",), ("SELECT 1",))

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.lift(connection, steps)

        assert schema.version(connection) == 3
        assert connection.execute("SELECT id, pool FROM jobs").fetchall() == [(4, "all")]


def test_a_step_that_fails_leaves_the_schema_before_it(directory: Path) -> None:
    path = write(directory, STEP_1)
    steps = (*schema.STEPS[:1], ("SELECT 1",), ("CREATE TABLE pools (id INTEGER)", "INSERT INTO nowhere VALUES (1)"))

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            schema.lift(connection, steps)

        assert schema.version(connection) == 2
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'pools'").fetchone() == (0,)
        assert not connection.in_transaction


def test_a_store_of_a_newer_openbits_is_refused_and_not_touched(directory: Path) -> None:
    newer = len(schema.STEPS) + 7
    path = write(directory, f"{STEP_1} DROP TABLE files; PRAGMA user_version = {newer};")
    before = path.read_bytes()

    with pytest.raises(StoreError) as refused:
        open_store(directory)

    assert f"written by a newer OpenBITS (schema {newer}, this one knows {len(schema.STEPS)})" in str(refused.value)
    assert f"install that version or move {directory} aside" in str(refused.value)
    assert path.read_bytes() == before
    assert [entry.name for entry in directory.iterdir()] == ["queue.db"]


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE recipes (id INTEGER);",
        "PRAGMA user_version = 99; CREATE TABLE recipes (id INTEGER);",
        "PRAGMA application_id = 77;",
        "PRAGMA application_id = 1112101971; PRAGMA user_version = -1;",
    ],
)
def test_the_database_of_somebody_else_is_set_aside(directory: Path, script: str) -> None:
    write(directory, script)

    store = open_store(directory)
    loaded = store.load()
    store.close()

    assert loaded.was_damaged is not None
    assert loaded.was_damaged.exists()
    assert loaded.heads == []


def test_an_event_of_schema_1_keeps_every_column(directory: Path) -> None:
    write(directory, STEP_1)
    store = open_store(directory)

    assert store.events_after(40, None, -1) == [
        StoredEvent(seq=41, at=9.5, kind="created", job_id=UUID(int=10), owner_uid=1000, file_index=None, data={"a": 1})
    ]
    store.close()
