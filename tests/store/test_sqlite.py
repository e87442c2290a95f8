"""The store: what is committed is there, whole, in order; only what differs is written; a full disk harms nothing."""

import contextlib
import itertools
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.store.reading import jobs_in

from openbits.core.enums import JobState, Priority
from openbits.core.model import Job
from openbits.core.properties import Properties
from openbits.store import AppendEvent, ForgetJob, Head, SaveJob, Store, StoredEvent, StoreError, open_store, sqlite

MakeJob = Callable[..., Job]
MakeEvent = Callable[[int, Job], StoredEvent]


def progressed(job: Job, index: int, transferred_bytes: int) -> Job:
    file = replace(job.files[index], transferred_bytes=transferred_bytes)
    return replace(job, files=(*job.files[:index], file, *job.files[index + 1 :]))


def reopened(store: Store, directory: Path) -> Store:
    store.close()
    return open_store(directory)


@contextlib.contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """The writing statements that the store gives to SQLite."""
    seen: list[str] = []
    store._writing.set_trace_callback(lambda text: seen.append(text) if not text.startswith("SELECT") else None)
    yield seen
    store._writing.set_trace_callback(None)


def test_jobs_come_back_in_the_order_of_their_creation(store: Store, directory: Path, make_job: MakeJob) -> None:
    jobs = [make_job(files) for files in (0, 3, 1)]
    for job in jobs:
        store.commit([SaveJob(before=None, after=job)])
    store.commit([SaveJob(before=jobs[0], after=replace(jobs[0], state=JobState.QUEUED))])

    store = reopened(store, directory)

    assert jobs_in(store) == [replace(jobs[0], state=JobState.QUEUED), *jobs[1:]]
    store.close()


def test_a_commit_is_synchronous_and_keeps_references_whole(store: Store) -> None:
    asked = [store._writing.execute(f"PRAGMA {name}").fetchone() for name in ("synchronous", "foreign_keys")]
    assert asked == [(2,), (1,)]  # FULL, on


def test_progress_of_one_file_writes_one_row(store: Store, make_job: MakeJob) -> None:
    job = make_job(200)
    store.commit([SaveJob(before=None, after=job)])

    with statements(store) as seen:
        store.commit([SaveJob(before=job, after=progressed(job, 17, 4096))])

    assert [text.split(" VALUES")[0] for text in seen] == ["BEGIN IMMEDIATE", "INSERT OR REPLACE INTO files", "COMMIT"]
    assert jobs_in(store)[0].files[17].transferred_bytes == 4096


def test_a_change_of_state_leaves_the_files_alone(store: Store, make_job: MakeJob) -> None:
    job = make_job(200)
    store.commit([SaveJob(before=None, after=job)])

    with statements(store) as seen:
        store.commit([SaveJob(before=job, after=replace(job, state=JobState.ERROR))])

    assert [text.split(" ")[0] for text in seen] == ["BEGIN", "UPDATE", "COMMIT"]


def test_files_can_be_added_and_taken_away(store: Store, make_job: MakeJob) -> None:
    job, more = make_job(2), make_job(5)
    store.commit([SaveJob(before=None, after=job)])

    store.commit([SaveJob(before=job, after=replace(job, files=more.files))])
    assert jobs_in(store)[0].files == more.files
    store.commit([SaveJob(before=replace(job, files=more.files), after=replace(job, files=more.files[:1]))])
    assert jobs_in(store)[0].files == more.files[:1]


def test_several_saves_of_one_job_in_one_batch_are_one(store: Store, make_job: MakeJob) -> None:
    job, other = make_job(3), make_job(1)
    store.commit([SaveJob(before=None, after=job)])
    steps = [job, progressed(job, 0, 1), progressed(job, 0, 2)]
    steps.append(replace(progressed(steps[-1], 1, 9), state=JobState.TRANSFERRING))

    with statements(store) as seen:
        pairs = [SaveJob(before=before, after=after) for before, after in itertools.pairwise(steps)]
        store.commit([*pairs, SaveJob(before=None, after=other)])

    assert len([text for text in seen if text.startswith("UPDATE jobs")]) == 1
    assert len([text for text in seen if text.startswith("INSERT OR REPLACE INTO files")]) == 3  # two and the other's
    assert jobs_in(store) == [steps[-1], other]


def test_a_forgotten_job_takes_its_files_along_and_leaves_its_history(
    store: Store, directory: Path, make_job: MakeJob, make_event: MakeEvent
) -> None:
    job, other = make_job(3), make_job(1)
    store.commit([SaveJob(before=None, after=job), SaveJob(before=None, after=other), AppendEvent(make_event(1, job))])

    store.commit([ForgetJob(job.job_id), AppendEvent(make_event(2, job))])

    store = reopened(store, directory)
    assert jobs_in(store) == [other]
    left = [(event.seq, event.job_id) for event in store.events_after(0, None, -1)]
    assert left == [(1, job.job_id), (2, job.job_id)]
    store.close()


def test_a_job_saved_and_forgotten_in_one_batch_was_never_there(store: Store, make_job: MakeJob) -> None:
    job = make_job(1)

    store.commit([SaveJob(before=None, after=job), ForgetJob(job.job_id)])
    store.commit([ForgetJob(job.job_id)])

    assert jobs_in(store) == []


def test_saving_a_job_that_is_not_there_is_refused(store: Store, make_job: MakeJob) -> None:
    job = make_job(1)

    with pytest.raises(StoreError, match=rf"cannot save job {job.job_id}: it is not in the store"):
        store.commit([SaveJob(before=job, after=replace(job, state=JobState.QUEUED))])


def test_a_batch_that_does_not_fit_is_absent_as_a_whole(store: Store, make_job: MakeJob, make_event: MakeEvent) -> None:
    job, twice = make_job(1), make_job(1)
    store.commit([SaveJob(before=None, after=twice), AppendEvent(make_event(1, twice))])

    with pytest.raises(StoreError, match="UNIQUE"):
        store.commit(
            [SaveJob(before=None, after=job), AppendEvent(make_event(2, job)), SaveJob(before=None, after=twice)]
        )
    with pytest.raises(StoreError, match=r"cannot append event 9: the last one in .* is 1"):
        store.commit([SaveJob(before=None, after=job), AppendEvent(make_event(9, job))])

    assert jobs_in(store) == [twice]
    assert [event.seq for event in store.events_after(0, None, 10)] == [1]
    store.commit([AppendEvent(make_event(2, twice))])
    assert store.load().last_seq == 2


def test_events_are_read_from_a_number_on_and_by_owner(store: Store, make_job: MakeJob, make_event: MakeEvent) -> None:
    alice, bob = make_job(owner_uid=1000), make_job(owner_uid=1001)
    events = [make_event(seq, alice if seq % 2 else bob) for seq in range(1, 9)]
    store.commit([AppendEvent(event) for event in events])

    assert store.events_after(0, None, 100) == events
    assert store.events_after(3, None, 2) == events[3:5]
    assert [event.seq for event in store.events_after(2, 1001, 100)] == [4, 6, 8]
    assert store.events_after(8, None, 100) == []


def test_old_events_are_trimmed_and_numbers_go_on_without_a_gap(
    store: Store, directory: Path, make_job: MakeJob, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "KEPT_EVENTS", 100)
    monkeypatch.setattr(sqlite, "TRIM_EVENTS", 10)
    job = make_job()
    assert store.first_seq == 1

    counts: list[int] = []
    for seq in range(1, 501):
        store.commit([AppendEvent(make_event(seq, job))])
        kept = [event.seq for event in store.events_after(0, None, -1)]
        assert kept == list(range(store.first_seq, seq + 1))
        counts.append(len(kept))
    assert counts[:100] == list(range(1, 101))
    assert set(counts[100:]) == set(range(100, 111))

    first_seq = store.first_seq
    store = reopened(store, directory)
    assert store.load().last_seq == 500
    assert store.first_seq == first_seq > 1
    store.close()


def test_a_number_is_never_used_again_even_if_all_events_are_gone(
    store: Store, directory: Path, make_job: MakeJob, make_event: MakeEvent
) -> None:
    job = make_job()
    store.commit([AppendEvent(make_event(seq, job)) for seq in range(1, 6)])
    store._writing.execute("DELETE FROM events")

    store = reopened(store, directory)

    assert store.load().last_seq == 5
    assert store.first_seq == 6
    store.commit([AppendEvent(make_event(6, job))])
    store.close()


def test_what_queries_look_for_has_a_column(store: Store, make_job: MakeJob) -> None:
    job = replace(
        make_job(1, owner_uid=1234), state=JobState.TRANSFERRING, properties=Properties(priority=Priority.LOW)
    )
    store.commit([SaveJob(before=None, after=job)])

    columns = "SELECT owner_uid, state, priority FROM jobs"
    assert store._events.execute(columns).fetchall() == [(1234, 2, 3)]
    store.commit([SaveJob(before=job, after=replace(job, state=JobState.ERROR))])
    assert store._events.execute(columns).fetchall() == [(1234, 4, 3)]


def test_a_start_reads_the_heads_alone(store: Store, make_job: MakeJob) -> None:
    job = replace(make_job(2, owner_uid=1234), state=JobState.QUEUED, state_since=7.5, modified_at=8.5)
    running = replace(make_job(), state=JobState.TRANSFERRING)
    store.commit([SaveJob(before=None, after=one) for one in (job, running)])

    assert store.load().heads == [
        Head(job.job_id, 1234, JobState.QUEUED, Priority.NORMAL, 7.5, 8.5, wakes=False),
        Head(
            running.job_id,
            1000,
            JobState.TRANSFERRING,
            Priority.NORMAL,
            running.state_since,
            running.modified_at,
            wakes=True,
        ),
    ]


def test_a_job_that_is_not_there_is_no_damage(store: Store, directory: Path, make_job: MakeJob) -> None:
    with pytest.raises(StoreError, match=r"cannot read job .*: it is not in the store") as failed:
        store.job(make_job().job_id)
    assert type(failed.value) is StoreError
    store = reopened(store, directory)
    assert store.load().was_damaged is None
    store.close()


def test_a_lock_of_another_program_is_named_and_does_no_harm(
    directory: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOCK_WAIT_SECONDS", 0.05)
    store = open_store(directory)
    with contextlib.closing(sqlite3.connect(directory / "queue.db", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"cannot write the store .* locked; end the program that holds a lock"):
            store.commit([SaveJob(before=None, after=make_job(1))])
        assert jobs_in(store) == []  # reading goes on

    store.commit([SaveJob(before=None, after=make_job(1))])
    store.close()


def test_a_full_store_fails_whole_batches_and_works_again_with_space(
    store: Store, directory: Path, make_job: MakeJob, make_event: MakeEvent
) -> None:
    first = make_job(10)
    store.commit([SaveJob(before=None, after=first), AppendEvent(make_event(1, first))])
    (pages,) = store._writing.execute("PRAGMA page_count").fetchone()
    store._writing.execute(f"PRAGMA max_page_count = {pages + 2}")
    many = [SaveJob(before=None, after=make_job(10)) for _ in range(50)]

    with pytest.raises(StoreError, match=r"cannot write the store .*queue\.db: .*full; free space") as failed:
        store.commit([AppendEvent(make_event(2, first)), *many])
    assert type(failed.value) is StoreError  # not damage
    assert jobs_in(store) == [first]
    assert store.load().last_seq == 1

    store._writing.execute("PRAGMA max_page_count = 100000")
    store.commit([AppendEvent(make_event(2, first)), *many])
    store = reopened(store, directory)
    assert len(jobs_in(store)) == 51
    assert store.load().last_seq == 2
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "openbits-test", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def remount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)


def commit_without_end(store: Store, make_job: MakeJob, acknowledged: list[Job]) -> None:
    while True:
        job = make_job(10)
        store.commit([SaveJob(before=None, after=job)])
        acknowledged.append(job)


@pytest.mark.root
def test_a_full_disk_is_no_damage_and_everything_acknowledged_outlives_it(small_disk: Path, make_job: MakeJob) -> None:
    store = open_store(small_disk)
    acknowledged: list[Job] = []

    with pytest.raises(StoreError, match=r"cannot write the store .* free space"):
        commit_without_end(store, make_job, acknowledged)
    assert jobs_in(store) == acknowledged
    with contextlib.suppress(StoreError):  # whether there is room to open it depends on the last few pages
        store = reopened(store, small_disk)
    remount(small_disk, "size=4m")

    store = reopened(store, small_disk)
    loaded = store.load()
    assert acknowledged
    assert jobs_in(store) == acknowledged
    assert loaded.was_damaged is None
    store.commit([SaveJob(before=None, after=make_job(10)) for _ in range(20)])
    assert len(jobs_in(store)) == len(acknowledged) + 20
    store.close()


@pytest.mark.root
def test_a_read_only_file_system_is_no_damage(small_disk: Path, make_job: MakeJob) -> None:
    job = make_job(1)
    store = open_store(small_disk)
    store.commit([SaveJob(before=None, after=job)])
    store.close()
    remount(small_disk, "ro")

    with pytest.raises(StoreError, match=r"cannot open the store .*queue\.db: Read-only file system") as failed:
        open_store(small_disk)
    assert type(failed.value) is StoreError

    remount(small_disk, "rw")
    store = open_store(small_disk)
    assert jobs_in(store) == [job]
    store.close()
