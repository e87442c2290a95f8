"""Stores of every landed schema, as the programs of their time wrote them: read, gone on with, set aside if damaged."""

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.store.examples.content import OF_SCHEMA, events, of_schema
from tests.store.reading import jobs_in

from openbits.core.enums import JobState
from openbits.store import SaveJob, StoreError, open_store, schema

EXAMPLES = Path(__file__).parent / "examples"
NUMBERS = sorted(OF_SCHEMA)


def write(directory: Path, number: int) -> Path:
    """`queue.db` of the directory becomes the example."""
    path = directory / "queue.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((EXAMPLES / f"schema{number}.sql").read_text())
    path.chmod(0o600)
    return path


def test_every_schema_has_an_example() -> None:
    """A new step needs its dump and what is in it: see tests/store/examples."""
    everyone = list(range(1, len(schema.STEPS) + 1))
    assert everyone == NUMBERS, "type what the new schema holds: tests/store/examples/content.py"
    found = sorted(int(path.stem.removeprefix("schema")) for path in EXAMPLES.glob("*.sql"))
    assert found == everyone, "python -m tests.store.examples make"


@pytest.mark.parametrize("number", NUMBERS)
def test_an_example_is_of_its_schema_and_of_no_machine(number: int) -> None:
    text = (EXAMPLES / f"schema{number}.sql").read_text()
    assert f"PRAGMA user_version = {number};" in text
    local_names = set(re.findall(r'"(/[^"]*)"', text))
    assert {Path(name).parent.as_posix() for name in local_names} <= {"/srv", "/srv/example", "/usr/bin"}
    assert len(text) < 100_000


@pytest.mark.parametrize("number", NUMBERS)
def test_the_present_store_reads_each_job_as_it_was_written(directory: Path, number: int) -> None:
    write(directory, number)

    store = open_store(directory)
    loaded = store.load()
    jobs = jobs_in(store)
    told = store.events_after(0, None, -1)
    store.close()

    assert loaded.was_damaged is None
    assert jobs == of_schema(number)
    assert {job.state for job in jobs} == set(JobState)
    assert [head.job_id for head in loaded.heads] == [job.job_id for job in jobs]
    assert [(head.state, head.priority, head.owner_uid, head.state_since) for head in loaded.heads] == [
        (job.state, job.properties.priority, job.owner.uid, job.state_since) for job in jobs
    ]
    assert (told, loaded.last_seq) == (events(), len(events()))


@pytest.mark.parametrize("number", NUMBERS)
def test_every_job_is_written_anew_and_read_again(directory: Path, number: int) -> None:
    """The lifted store takes the present rows; the schema is the newest, and a second start finds nothing to lift."""
    path = write(directory, number)
    for _ in range(2):
        store = open_store(directory)
        wanted = of_schema(number)
        changed = [replace(job, modified_at=job.modified_at + 1) for job in wanted]
        for before, after in ((wanted, changed), (changed, wanted)):
            store.commit([SaveJob(before=old, after=new) for old, new in zip(before, after, strict=True)])
            assert jobs_in(store) == after
        store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert schema.version(connection) == len(schema.STEPS)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lifted_store_has_the_tables_of_a_new_one(directory: Path, tmp_path: Path, number: int) -> None:
    lifted = write(directory, number)
    open_store(directory).close()
    new = tmp_path / "new"
    new.mkdir(mode=0o700)
    open_store(new).close()

    assert columns(lifted) == columns(new / "queue.db")


def columns(path: Path) -> dict[str, list[tuple[str, str, int]]]:
    """Name, type and NOT NULL of the columns of each table."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: sorted(row[1:4] for row in connection.execute(f"PRAGMA table_info({table})")) for table in tables
        }


DAMAGES = {
    "not a store": "PRAGMA application_id = 7",
    "a table is gone": "DROP TABLE files",
    "a document is cut off": "UPDATE jobs SET document = substr(document, 1, 100)",
    "a file lost its job": "PRAGMA foreign_keys = OFF; DELETE FROM jobs WHERE id = 5",
    "a state nobody knows": "UPDATE jobs SET state = 99",
}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_example_is_set_aside(directory: Path, number: int, damage: str) -> None:
    """By the start that finds it, or by the one after the run that found it; the new store is empty and works."""
    path = write(directory, number)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(DAMAGES[damage])

    aside = None
    for _ in range(2):
        store = open_store(directory)
        loaded = store.load()
        try:
            jobs_in_heads = [store.job(head.job_id) for head in loaded.heads]
            store.check()
            store.check()
        except StoreError:
            jobs_in_heads = []
        store.close()
        aside = aside or loaded.was_damaged
    assert jobs_in_heads == []
    assert aside is not None
    assert aside.name.startswith("queue.db.damaged-")


@pytest.mark.parametrize("number", NUMBERS)
def test_the_example_can_be_told_from_another(directory: Path, number: int) -> None:
    """The expectation is not vacuous: one value changed in the store is seen."""
    path = write(directory, number)
    with closing(sqlite3.connect(path)) as connection:
        (text,) = connection.execute("SELECT document FROM jobs WHERE id = 2").fetchone()
        document = json.loads(text)
        document["properties"]["description"] = "other"
        connection.execute("UPDATE jobs SET document = ? WHERE id = 2", (json.dumps(document),))
        connection.commit()
    store = open_store(directory)
    assert jobs_in(store) != of_schema(number)
    store.close()
