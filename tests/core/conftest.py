"""Values for the tests of the core: a moment, files, errors, a job as it looks in a given state; and the invariants."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from openbits.core import codes, events, transitions
from openbits.core.enums import ErrorContext, JobState, JobType, Notice, NotifyFlags
from openbits.core.lifecycle import is_forgotten
from openbits.core.model import Directory, File, Identity, Job, JobError, Now, Temporary

ALICE = Identity(uid=1000, gid=1000, name="alice")
WALL = 1_800_000_000.0
BOOT = 5_000.0


@pytest.fixture(scope="session")
def now() -> Now:
    return Now(wall=WALL, boot=BOOT)


@pytest.fixture(scope="session")
def a_temporary() -> Callable[..., Temporary]:
    def make(name: str = ".BIT00000001.tmp", **changes: Any) -> Temporary:
        values = {"dev": 1, "ino": 42, "birth_ns": 7, "uid": ALICE.uid, "by_helper": False, **changes}
        return Temporary(name=name, **values)

    return make


@pytest.fixture(scope="session")
def a_file() -> Callable[..., File]:
    def make(name: str = "data.bin", **changes: Any) -> File:
        return File(
            remote_name=f"https://bob:hunter2@files.example:8443/{name}?signature=s3cret",
            local_name=f"/srv/in/{name}",
            directory=Directory(path="/srv/in", dev=1, ino=2),
            name=name,
            **changes,
        )

    return make


@pytest.fixture(scope="session")
def an_error() -> Callable[..., JobError]:
    def make(code: int = codes.BG_E_CONNECT_FAILURE, **changes: Any) -> JobError:
        values = {"context": ErrorContext.GENERAL_TRANSPORT, "detail": "connection refused", "at": WALL, **changes}
        return JobError(code=code, **values)

    return make


@pytest.fixture(scope="session")
def a_job(
    a_file: Callable[..., File], a_temporary: Callable[..., Temporary], an_error: Callable[..., JobError]
) -> Callable[..., Job]:
    """A job in `state` with one file, all fields as they are in that state; changes on top."""
    half = a_file(temporary=a_temporary(), size_bytes=100, transferred_bytes=50)
    whole = a_file(temporary=a_temporary(), size_bytes=100, transferred_bytes=100, is_transferred=True)
    published = a_file(size_bytes=100, transferred_bytes=100, is_transferred=True, is_published=True)
    looks: dict[JobState, dict[str, Any]] = {
        JobState.SUSPENDED: {"files": (a_file(),), "epoch": 0},
        JobState.QUEUED: {"files": (a_file(),), "epoch": 0},
        JobState.CONNECTING: {"files": (a_file(),)},
        JobState.TRANSFERRING: {"files": (half,)},
        JobState.TRANSIENT_ERROR: {
            "files": (half,),
            "error": an_error(),
            "error_count": 1,
            "attempt": 1,
            "retry_at": BOOT + 60,
            "stalled_since": BOOT,
        },
        JobState.ERROR: {
            "files": (half,),
            "error": an_error(codes.BG_E_HTTP_ERROR_404),
            "pending_notice": Notice.ERROR,
            "notice_seq": 1,
        },
        JobState.TRANSFERRED: {
            "files": (whole,),
            "pending_notice": Notice.TRANSFERRED,
            "notice_seq": 1,
            "transferred_at": WALL - 5,
        },
        JobState.ACKNOWLEDGED: {"files": (published,), "notice_seq": 1, "transferred_at": WALL - 5},
        JobState.CANCELLED: {"files": (a_file(),)},
    }

    def make(state: JobState = JobState.SUSPENDED, **changes: Any) -> Job:
        values = {
            "job_id": uuid.UUID(int=state + 1),
            "owner": ALICE,
            "created_at": WALL - 100,
            "modified_at": WALL - 10,
            "state_since": WALL - 10,
            "was_resumed": state is not JobState.SUSPENDED,
            "epoch": 1,
            **looks[state],
            **changes,
        }
        return Job(state=state, **values)

    return make


def _check_step(before: Job, event: events.Event, after: Job, effects: list[events.Effect]) -> None:
    """The invariants of a step (design.md §4, reliability.md P4, P5)."""
    if before.state.is_final:
        assert after.state is before.state
    if after.state is not before.state:
        assert (before.state, type(event), after.state) in transitions.LEGAL
    assert after.epoch >= before.epoch
    assert after.error_count >= before.error_count
    has_left_active = before.state.is_active and not after.state.is_active
    assert (events.StopTransfer() in effects) == has_left_active
    assert not has_left_active or effects[0] == events.StopTransfer()
    starts = [effect for effect in effects if isinstance(effect, events.StartTransfer)]
    assert bool(starts) == (after.epoch > before.epoch)
    assert all(start.epoch == after.epoch for start in starts)
    announced = [effect for effect in effects if isinstance(effect, events.Notify)]
    first = after.untold_files[0].notice_seq if after.untold_files else after.notice_seq
    assert all(effect.notice_seq == first and (after.pending_notice or after.untold_files) for effect in announced)
    is_wanted = NotifyFlags.FILE_TRANSFERRED in before.properties.notify_flags
    is_told_of_files = is_wanted and before.type is JobType.DOWNLOAD
    finished = sum(new.is_transferred > old.is_transferred for old, new in zip(before.files, after.files, strict=False))
    assert after.notice_seq - before.notice_seq == (
        after.state is not before.state and after.state in {JobState.ERROR, JobState.TRANSFERRED}
    ) + (finished if is_told_of_files else 0)
    _check_job(after)


def _check_job(job: Job) -> None:
    """The invariants of a job at rest."""
    assert all(file.is_transferred for file in job.files[: job.settled_files])
    told = {JobState.ERROR: Notice.ERROR, JobState.TRANSFERRED: Notice.TRANSFERRED}
    assert job.pending_notice in {None, told.get(job.state)}
    numbers = [notice.notice_seq for notice in job.untold_files] + [job.notice_seq] * (job.pending_notice is not None)
    assert numbers == sorted(set(numbers))
    assert all(number <= job.notice_seq for number in numbers)
    assert all(job.files[notice.file_index].is_transferred for notice in job.untold_files)
    assert not job.untold_files or not job.state.is_final
    assert not job.untold_files or NotifyFlags.FILE_TRANSFERRED in job.properties.notify_flags
    assert job.retry_at is None or job.state is JobState.TRANSIENT_ERROR
    assert not job.retry_by_event or (job.state is JobState.TRANSIENT_ERROR and job.retry_at is None)
    if job.state is JobState.TRANSIENT_ERROR:
        assert (job.retry_at is not None) is not job.retry_by_event
    if job.state in {JobState.ERROR, JobState.TRANSIENT_ERROR}:
        assert job.error is not None
    if job.state in {JobState.TRANSFERRING, JobState.TRANSFERRED}:
        assert job.error is None
    if job.state.is_active:
        assert job.next_file is not None
    if job.state is JobState.TRANSFERRED:
        assert job.current_file is None
        assert job.transferred_at is not None
    if job.state is JobState.ACKNOWLEDGED:
        assert not any(file.is_transferred and file.temporary for file in job.files)
    if job.is_completing:
        assert job.state in {JobState.SUSPENDED, JobState.ERROR, JobState.TRANSFERRED}
    if job.stalled_since is not None:
        assert job.state in transitions.RUNNABLE
    assert not is_forgotten(job) or job.state.is_final


@pytest.fixture(scope="session")
def check_step() -> Callable[[Job, events.Event, Job, list[events.Effect]], None]:
    """Assert what must hold for every step, whatever happened."""
    return _check_step
