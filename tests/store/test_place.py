"""Who may own the store's directory, the modes of its files, and what happens to a damaged store."""

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.store.reading import jobs_in

from openbits.core.model import Job
from openbits.store import AppendEvent, SaveJob, StoreDamagedError, StoredEvent, StoreError, open_store, place

MakeJob = Callable[..., Job]
MakeEvent = Callable[[int, Job], StoredEvent]


def modes(directory: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_mode & 0o777 for entry in directory.iterdir()}


def test_database_and_companions_are_for_their_owner_alone(directory: Path) -> None:
    before = os.umask(0)
    try:
        store = open_store(directory)
    finally:
        os.umask(before)

    assert modes(directory) == {"queue.db": 0o600, "queue.db-wal": 0o600, "queue.db-shm": 0o600}
    store.close()


def test_a_database_with_a_wider_mode_is_narrowed(directory: Path) -> None:
    open_store(directory).close()
    (directory / "queue.db").chmod(0o644)

    open_store(directory).close()

    assert modes(directory) == {"queue.db": 0o600}


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_directory_that_others_may_write_is_refused(directory: Path, mode: int) -> None:
    directory.chmod(mode)

    with pytest.raises(StoreError, match=rf"cannot open the store in {directory}: .* mode {mode:04o}.*chmod 0700"):
        open_store(directory)
    assert list(directory.iterdir()) == []


@pytest.mark.root
def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    os.chown(directory, 65534, 65534)

    with pytest.raises(StoreError, match=r"belongs to uid 65534 with mode 0700, but must belong to uid 0 .* chown"):
        open_store(directory)
    assert list(directory.iterdir()) == []


def test_a_missing_directory_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"queue: No such file or directory; the service makes this directory"):
        open_store(tmp_path / "queue")
    assert not (tmp_path / "queue").exists()


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("")

    with pytest.raises(StoreError, match="not a directory; move it aside"):
        open_store(tmp_path / "queue")


def test_a_symbolic_link_in_place_of_the_database_is_not_followed(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("keep me")
    (directory / "queue.db").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match=r"queue\.db: Too many levels of symbolic links"):
        open_store(directory)
    assert (tmp_path / "elsewhere").read_text() == "keep me"


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff garbage \n" * 1000)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwritten_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * 4096)


def changed_by(script: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)

    return damage


DAMAGES = {
    "garbage": garbage,
    "truncated": truncated,
    "missing table": changed_by("DROP TABLE files;"),
    "job id": changed_by("UPDATE jobs SET job_id = 'me';"),
    "state": changed_by("UPDATE jobs SET state = 77;"),
}
DAMAGES_BESIDE_THE_HEADS = {
    "overwritten page": overwritten_page,
    "files without a job": changed_by("DELETE FROM jobs WHERE id = 1;"),
    "event": changed_by("UPDATE events SET data = 'x';"),
}
"""What the check of the whole store finds, which runs beside the service."""
DAMAGES_OF_A_JOB = {
    "document is no JSON": changed_by("UPDATE jobs SET document = '{';"),
    "document is no object": changed_by("UPDATE files SET document = '[]' WHERE file_index = 1;"),
    "document lacks a field": changed_by("UPDATE jobs SET document = '{}';"),
    "not UTF-8": changed_by("UPDATE jobs SET document = CAST(x'7bff7d' AS TEXT);"),
    "unknown state": changed_by("UPDATE jobs SET document = json_set(document, '$.state', 77);"),
    "missing file": changed_by("DELETE FROM files WHERE file_index = 1;"),
}
"""What a start does not see: it reads no job that nothing happens to."""


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_store_is_set_aside_and_an_empty_one_begun(
    directory: Path, damage: Callable[[Path], None], make_job: MakeJob, make_event: MakeEvent
) -> None:
    job = make_job(3)
    store = open_store(directory)
    store.commit([SaveJob(before=None, after=job), AppendEvent(make_event(1, job))])
    store.close()
    damage(directory / "queue.db")
    damaged = (directory / "queue.db").read_bytes()

    store = open_store(directory)
    loaded = store.load()

    assert loaded.heads == []
    assert loaded.last_seq == 0
    assert "cannot" in loaded.damage
    assert loaded.was_damaged is not None
    assert re.fullmatch(r"queue\.db\.damaged-\d{8}T\d{6}\.\d{6}Z", loaded.was_damaged.name)
    assert loaded.was_damaged.parent == directory
    assert loaded.was_damaged.read_bytes() == damaged
    store.commit([SaveJob(before=None, after=job), AppendEvent(make_event(1, job))])
    store.close()
    store = open_store(directory)
    again = store.load()
    assert jobs_in(store) == [job]
    store.close()
    assert (again.was_damaged, again.damage) == (None, "")


@pytest.mark.parametrize("damage", DAMAGES_BESIDE_THE_HEADS.values(), ids=DAMAGES_BESIDE_THE_HEADS.keys())
def test_damage_that_the_heads_do_not_show_is_found_by_the_check_and_the_next_start_sets_the_store_aside(
    directory: Path, damage: Callable[[Path], None], make_job: MakeJob, make_event: MakeEvent
) -> None:
    job = make_job(3)
    store = open_store(directory)
    store.commit([SaveJob(before=None, after=job), AppendEvent(make_event(1, job))])
    store.check()
    store.close()
    damage(directory / "queue.db")

    store = open_store(directory)
    assert store.load().was_damaged is None
    with pytest.raises(StoreDamagedError, match=r"cannot read the store .*: it is damaged .* next start sets it aside"):
        store.check()
    store.close()

    store = open_store(directory)
    loaded = store.load()
    assert loaded.heads == []
    assert loaded.was_damaged is not None
    assert "cannot read the store" in loaded.damage
    store.check()
    store.close()


def test_after_a_crash_every_page_is_looked_at_before_any_is_used(directory: Path, make_job: MakeJob) -> None:
    store = open_store(directory)
    store.commit([SaveJob(before=None, after=make_job(3))])
    store.close()
    overwritten_page(directory / "queue.db")
    (directory / "queue.db-wal").write_bytes(bytes(32))  # SQLite removes it when it is closed

    store = open_store(directory)

    assert store.load().was_damaged is not None
    store.close()


def test_the_check_neither_waits_for_a_commit_nor_sees_half_of_one(directory: Path, make_job: MakeJob) -> None:
    store = open_store(directory)
    store.commit([SaveJob(before=None, after=make_job(3))])
    with closing(sqlite3.connect(directory / "queue.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM jobs")  # its files are not gone yet: foreign keys are off here

        store.check()

        other.execute("ROLLBACK")
    store.close()


@pytest.mark.parametrize("damage", DAMAGES_OF_A_JOB.values(), ids=DAMAGES_OF_A_JOB.keys())
def test_a_damaged_job_is_found_when_it_is_read_and_the_next_start_sets_the_store_aside(
    directory: Path, damage: Callable[[Path], None], make_job: MakeJob
) -> None:
    job = make_job(3)
    store = open_store(directory)
    store.commit([SaveJob(before=None, after=job)])
    store.close()
    damage(directory / "queue.db")

    store = open_store(directory)
    assert len(store.load().heads) == 1
    with pytest.raises(StoreDamagedError, match=r"cannot read the store .*: it is damaged .* next start sets it aside"):
        store.job(job.job_id)
    store.close()

    store = open_store(directory)
    loaded = store.load()
    assert loaded.heads == []
    assert "cannot read the store" in loaded.damage
    assert loaded.was_damaged is not None
    assert loaded.damage in loaded.was_damaged.with_name(f"{loaded.was_damaged.name}-damage").read_text()
    store.close()
    store = open_store(directory)
    assert store.load().was_damaged is None
    store.close()


def test_the_log_of_a_damaged_store_goes_with_it_under_the_name_that_belongs_to_it(directory: Path) -> None:
    for name in ("queue.db", "queue.db-wal", "queue.db-shm", "queue.db.damaged-before"):
        (directory / name).write_text(name)

    aside = place.set_aside(directory / "queue.db", datetime(2026, 11, 5, 23, 59, 7, 42, tzinfo=UTC))

    assert aside == directory / "queue.db.damaged-20261105T235907.000042Z"
    assert {entry.name: entry.read_text() for entry in directory.iterdir()} == {
        "queue.db.damaged-before": "queue.db.damaged-before",
        "queue.db.damaged-20261105T235907.000042Z": "queue.db",
        "queue.db.damaged-20261105T235907.000042Z-wal": "queue.db-wal",
        "queue.db.damaged-20261105T235907.000042Z-shm": "queue.db-shm",
    }


def test_a_log_without_its_file_is_not_taken_for_a_new_store(directory: Path, make_job: MakeJob) -> None:
    store = open_store(directory)
    store.commit([SaveJob(before=None, after=make_job(1))])
    log = (directory / "queue.db-wal").read_bytes()
    store.close()
    (directory / "queue.db").unlink()  # a crash between the renames of setting aside
    (directory / "queue.db-wal").write_bytes(log)

    store = open_store(directory)

    assert jobs_in(store) == []
    store.close()


def test_damage_found_at_run_time_says_so_and_the_next_start_sets_it_aside(
    directory: Path, make_job: MakeJob, make_event: MakeEvent
) -> None:
    store = open_store(directory)
    job = make_job(1)
    store.commit([SaveJob(before=None, after=job), *(AppendEvent(make_event(seq, job)) for seq in range(1, 400))])
    store.close()
    store = open_store(directory)
    size = (directory / "queue.db").stat().st_size
    with (directory / "queue.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))

    with pytest.raises(StoreDamagedError, match=r"cannot read the store .*: it is damaged .* next start sets it aside"):
        store.events_after(0, None, 1000)

    store.close()
    store = open_store(directory)
    assert store.load().was_damaged is not None
    store.close()
