"""Every state and reason as people see it: a job that does not move says why, since when, what next, what to do."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from tests.api.fakeservice import FakeService
from tests.cli.conftest import Result
from tests.core.conftest import a_file, a_job, a_temporary, an_error, now

from openbits.core import codes, scheduler
from openbits.core.codes_table import ROWS, CodeClass
from openbits.core.enums import JobState, Priority
from openbits.core.model import Identity, Job, JobError, Now
from openbits.core.properties import Properties
from openbits.core.scheduler import Candidate
from openbits.service.views import job_info

__all__ = ["a_file", "a_job", "a_temporary", "an_error", "now"]

Bits = Callable[..., Result]
MakeJob = Callable[..., Job]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What the manager keeps of a job, as far as it is shown."""

    job: Job
    phase: str = ""
    live: dict[int, int] = dataclasses.field(default_factory=dict)
    helper_token: None = None
    complete_error: JobError | None = None
    delivery: None = None
    command_note: str = ""
    changed_at: float = 0.0


def shown(record: Record, candidates: Sequence[Candidate], now: Now) -> Any:
    return job_info(cast("Any", record), candidates, now)


BOB = Identity(uid=2000, gid=2000, name="bob")
RETRIED = [value for value, row in ROWS.items() if row.code_class in {CodeClass.TRANSIENT, CodeClass.EVENT}]
FINAL = [value for value, row in ROWS.items() if row.code_class is CodeClass.FATAL]


def holder(job: Job, **changes: Any) -> Candidate:
    """A job that has the slot."""
    values = {"owner_uid": job.owner.uid, "priority": Priority.NORMAL, "is_active": True, "is_runnable": False}
    return Candidate(job_id=job.job_id, queued_at=0.0, active_since=4990.0, **{**values, **changes})


@pytest.fixture
def explained(bits: Bits, service: FakeService, now: Now) -> Callable[..., str]:
    """`explained(job, …)`: what `bits explain` says of it, after `list`, `show` and `explain` were found complete."""

    def explain(job: Job, candidates: tuple[Candidate, ...] = (), **record: Any) -> str:
        info = shown(Record(job=job, **record), candidates, now)
        service.jobs.clear()
        service.jobs[info["job_id"]] = info
        service.files[info["job_id"]] = []
        listed = bits("list").out
        details = bits("show", info["job_id"]).out
        told = bits("explain", info["job_id"]).out
        for text, pattern in (
            (listed, r"(?m)^    (waiting|error): \S.*"),
            (listed, r"(?m)^    next: \S.*"),
            (details, r"(?m)^(waiting|error) +\S.*"),
            (details, r"(?m)^next +\S.*"),
            (told, r"(?m)^state +\w+, since \d.*"),
            (told, r"(?m)^why +\S.*, since \d.*"),
            (told, r"(?m)^next +\S.*"),
            (told, r"(?m)^hint +\S.*"),
        ):
            assert re.search(pattern, text), f"{pattern} is not in:\n{text}"
        assert "hunter2" not in told + listed
        assert "s3cret" not in told + listed
        return told

    return explain


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final and state.name != "TRANSFERRING"])
def test_every_state_that_is_no_progress_is_explained(
    state: JobState, a_job: MakeJob, explained: Callable[..., str]
) -> None:
    explained(a_job(state))


def test_an_empty_job_wants_a_file(a_job: MakeJob, explained: Callable[..., str]) -> None:
    assert "add a file" in explained(a_job(files=()))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "turn behind job"),
        ({"owner_uid": BOB.uid}, "another job"),
        ({"priority": Priority.HIGH}, "higher priority"),
        ({"priority": Priority.LOW}, "its slot"),
        ({"is_resumable": False}, "turn behind job"),
    ],
)
def test_who_has_the_slot_is_told_and_only_ones_own_job_is_named(
    changes: dict[str, Any], word: str, a_job: MakeJob, explained: Callable[..., str]
) -> None:
    other = a_job(JobState.TRANSFERRING)
    told = explained(a_job(JobState.QUEUED), (holder(other, **changes),))
    assert word in told
    assert (str(other.job_id) in told) is (word in {"turn behind job", "higher priority"})


def test_all_slots_of_foreground_jobs_may_be_taken(a_job: MakeJob, explained: Callable[..., str]) -> None:
    taken = [holder(a_job(), priority=Priority.FOREGROUND)] * scheduler.DEFAULT_SETTINGS.max_foreground_jobs
    told = explained(a_job(JobState.QUEUED, properties=Properties(priority=Priority.FOREGROUND)), tuple(taken))
    assert "slots of foreground jobs" in told


@pytest.mark.parametrize("code", RETRIED, ids=codes.symbol)
@pytest.mark.parametrize("by_event", [False, True])
def test_every_passing_error_says_when_the_job_goes_on(
    code: int,
    by_event: bool,  # noqa: FBT001
    a_job: MakeJob,
    an_error: Callable[..., Any],
    explained: Callable[..., str],
) -> None:
    times = {"retry_at": None, "retry_by_event": True} if by_event else {}
    told = explained(a_job(JobState.TRANSIENT_ERROR, error=an_error(code), **times))
    assert codes.label(code) in told
    assert ("goes on when that condition ends" if by_event else ": attempt 2; it gives up on ") in told


@pytest.mark.parametrize("code", FINAL, ids=codes.symbol)
def test_every_lasting_error_says_what_to_do(
    code: int, a_job: MakeJob, an_error: Callable[..., Any], explained: Callable[..., str]
) -> None:
    told = explained(a_job(JobState.ERROR, error=an_error(code, subject="https://h/a?s3cret", identity="beth (uid 7)")))
    assert codes.label(code) in told
    assert f"next step  {codes.lookup(code).next_step}" in told
    assert "https://h/a?…" in told
    assert "beth (uid 7)" in told
    assert "connection refused" in told


TRANSIENT = [value for value in RETRIED if ROWS[value].code_class is CodeClass.TRANSIENT]


@pytest.mark.parametrize("code", TRANSIENT, ids=codes.symbol)
def test_a_job_that_gave_up_promises_no_further_attempt(
    code: int, a_job: MakeJob, an_error: Callable[..., Any], explained: Callable[..., str], bits: Bits
) -> None:
    told = explained(a_job(JobState.ERROR, error=an_error(code)))
    _, colon, step = told.partition("next step")
    assert colon
    for text in (step, told.partition("hint ")[2].partition("\n")[0], bits("list").out):
        assert "resume the job" in text
        assert "by itself" not in text
        assert "next attempt" not in text


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_complete_that_failed_says_how_to_go_on(
    is_whole: bool,  # noqa: FBT001
    a_job: MakeJob,
    an_error: Callable[..., Any],
    explained: Callable[..., str],
) -> None:
    job = a_job(JobState.TRANSFERRED if is_whole else JobState.SUSPENDED)
    told = explained(job, complete_error=an_error(codes.ERROR_DISK_FULL))
    assert "Complete failed: ERROR_DISK_FULL (0x80070070)" in told
    assert f"bits {'complete' if is_whole else 'resume'} {job.job_id}" in told


def test_a_job_that_is_being_completed_says_so(a_job: MakeJob, explained: Callable[..., str]) -> None:
    job = dataclasses.replace(a_job(JobState.TRANSFERRED), is_completing=True)
    assert "being completed" in explained(job)


def test_nothing_is_made_up_for_a_job_that_moves(bits: Bits, service: FakeService, a_job: MakeJob, now: Now) -> None:
    info = shown(Record(job=a_job(JobState.TRANSFERRING), phase="receiving from h:443"), (), now)
    service.jobs[info["job_id"]] = info
    service.files[info["job_id"]] = []
    assert len(bits("list").out.splitlines()) == 2
    assert "it is fine and moves: receiving from h:443" in bits("explain", info["job_id"]).out
