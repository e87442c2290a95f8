"""What begins again at byte 0 and how often, reported names, servers that want time (jobs.md §9.3, §9.4, §9.9, §13)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from openbits.core import codes, events, scheduler
from openbits.core.enums import JobState, JobType, Priority
from openbits.core.lifecycle import step
from openbits.core.model import File, Job, JobError, Now, Validators
from openbits.core.names import peer_of, reported_url
from openbits.core.properties import Properties

MakeJob = Callable[..., Job]
MakeFile = Callable[..., File]
MakeError = Callable[..., JobError]

DAY = 86_400.0
CUSTOM = Properties(http_method="PROPFIND", priority=Priority.FOREGROUND)
DYNAMIC = Properties(dynamic_content=True, priority=Priority.FOREGROUND)


def restarted(job: Job, now: Now, **more: int) -> Job:
    event = events.FileRestarted(epoch=job.epoch, file_index=0, note="size 1 -> 2", **more)
    return step(job, event, now)[0]


# -- the budget of restarts


def test_the_fourth_restart_within_a_day_is_the_error_that_its_cause_says(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING)
    for hour in range(3):
        job = restarted(job, Now(wall=now.wall + hour * 3600, boot=now.boot))
        assert job.state is JobState.TRANSFERRING
    later = Now(wall=now.wall + DAY - 1, boot=now.boot)
    changed = restarted(job, later)
    assert (changed.state, changed.error and changed.error.code) == (JobState.ERROR, codes.BG_E_REMOTE_FILE_CHANGED)
    unable = restarted(job, later, hresult=codes.BG_E_INSUFFICIENT_RANGE_SUPPORT)
    assert unable.error is not None
    assert unable.error.code == codes.BG_E_INSUFFICIENT_RANGE_SUPPORT
    assert "the last time because: size 1 -> 2" in unable.error.detail


def test_after_a_day_restarts_are_counted_anew(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING)
    for _ in range(3):
        job = restarted(job, now)
    job = restarted(job, Now(wall=now.wall + DAY, boot=now.boot))
    assert (job.state, job.files[0].restarts) == (JobState.TRANSFERRING, 1)


def test_a_clock_that_was_set_back_counts_anew_and_never_longer(a_job: MakeJob, now: Now) -> None:
    job = restarted(a_job(JobState.TRANSFERRING), now)
    job = restarted(job, Now(wall=now.wall - 10 * DAY, boot=now.boot))
    assert job.files[0].restarts == 1
    assert job.files[0].restarts_since == now.wall - 10 * DAY


# -- what cannot be continued


@pytest.mark.parametrize("properties", [CUSTOM, DYNAMIC])
def test_an_attempt_begins_at_byte_0(a_job: MakeJob, a_file: MakeFile, now: Now, properties: Properties) -> None:
    begun = a_file("a", transferred_bytes=50, size_bytes=100, validators=Validators(etag='"a"'))
    done = a_file("b", transferred_bytes=9, size_bytes=9, is_transferred=True)
    job = a_job(JobState.QUEUED, files=(begun, done), properties=properties)
    after, _ = step(job, events.SlotGranted(), now)
    assert (after.files[0].transferred_bytes, after.files[0].validators) == (0, Validators())
    assert after.files[1] == done
    assert not job.is_resumable


def test_other_attempts_keep_what_is_there(a_job: MakeJob, a_file: MakeFile, now: Now) -> None:
    job = a_job(JobState.QUEUED, files=(a_file("a", transferred_bytes=50, size_bytes=100),))
    assert step(job, events.SlotGranted(), now)[0].files[0].transferred_bytes == 50
    assert job.is_resumable


@pytest.mark.parametrize("code", [codes.ERROR_WINHTTP_TIMEOUT, codes.BG_E_HTTP_ERROR_503])
def test_with_another_method_every_error_is_fatal(a_job: MakeJob, an_error: MakeError, now: Now, code: int) -> None:
    """jobs.md M4, errors.md §6 row 1."""
    failed = events.AttemptFailed(epoch=1, error=an_error(code))
    custom, _ = step(a_job(JobState.TRANSFERRING, properties=CUSTOM), failed, now)
    assert custom.state is JobState.ERROR
    usual, _ = step(a_job(JobState.TRANSFERRING), failed, now)
    assert usual.state is JobState.TRANSIENT_ERROR
    dynamic, _ = step(a_job(JobState.TRANSFERRING, properties=DYNAMIC), failed, now)
    assert dynamic.state is JobState.TRANSIENT_ERROR


def test_with_another_method_a_condition_is_fatal_too(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    blocked = events.Blocked(error=an_error(codes.BG_E_NETWORK_DISCONNECTED))
    assert step(a_job(JobState.TRANSFERRING, properties=CUSTOM), blocked, now)[0].state is JobState.ERROR


# -- redirects that are reported

FINAL = "https://cdn.example/data?sig=1"


def connected(remote_name: str = FINAL) -> events.Connected:
    return events.Connected(
        epoch=1, file_index=0, validators=Validators(size_bytes=100), size_bytes=100, remote_name=remote_name
    )


def test_a_reported_redirect_is_the_remote_name_and_what_was_given_is_kept(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.CONNECTING)
    given = job.files[0].remote_name
    after, _ = step(job, connected(), now)
    assert (after.files[0].present_remote_name, after.files[0].given_remote_name) == (FINAL, given)
    again, _ = step(after, connected("https://cdn2.example/x"), now)
    assert (again.files[0].remote_name, again.files[0].given_remote_name) == ("https://cdn2.example/x", given)
    back, _ = step(again, connected(given), now)
    assert (back.files[0].remote_name, back.files[0].given_remote_name) == (given, "")


def test_a_redirect_that_is_refused_is_the_remote_name_of_the_failed_job(
    a_job: MakeJob, an_error: MakeError, now: Now
) -> None:
    error = an_error(codes.BG_E_HTTP_ERROR_302, file_index=0)
    failed = events.AttemptFailed(epoch=1, error=error, remote_name=FINAL)
    after, _ = step(a_job(JobState.CONNECTING), failed, now)
    assert (after.state, after.files[0].remote_name) == (JobState.ERROR, FINAL)


def test_a_name_that_a_client_gives_is_given(a_job: MakeJob, now: Now) -> None:
    job, _ = step(a_job(JobState.CONNECTING), connected(), now)
    named, _ = step(job, events.SetRemoteNames(names=((0, "https://new.example/x"),)), now)
    assert named.files[0].present_remote_name == "https://new.example/x"
    durable, _ = step(named, events.Resume(), now)
    assert (durable.files[0].remote_name, durable.files[0].given_remote_name) == ("https://new.example/x", "")


@pytest.mark.parametrize(
    ("url", "reported"),
    [
        (FINAL, FINAL),
        ("file:///etc/passwd", ""),
        ("ftp://a.example/x", ""),
        ("https://user:pass@a.example/x", ""),
        ("https://a.example/" + "x/" * 1200, ""),
        ("https://a.example/" + "x" * 261, ""),
        ("", ""),
    ],
)
def test_only_what_a_client_could_have_given_is_reported(url: str, reported: str) -> None:
    assert reported_url(url) == reported


@pytest.mark.parametrize(
    ("url", "peer"),
    [
        ("https://A.example/x?y", "https://a.example:443"),
        ("http://a.example:8080/", "http://a.example:8080"),
        ("HTTP://[::1]/x", "http://[::1]:80"),
    ],
)
def test_whose_server_a_url_is_of(url: str, peer: str) -> None:
    assert peer_of(url) == peer


# -- servers that asked for time


def held(an_error: MakeError, seconds: float = 40.0) -> events.Postponed:
    return events.Postponed(
        epoch=1, error=an_error(codes.HTTP_STATUS_429, retry_after_seconds=seconds, detail="it asked for time")
    )


@pytest.mark.parametrize("properties", [Properties(), CUSTOM, Properties(no_progress_timeout_seconds=0)])
def test_a_job_that_waits_for_a_server_has_not_failed(
    a_job: MakeJob, an_error: MakeError, now: Now, properties: Properties
) -> None:
    """Not even one whose errors are all fatal: nothing was tried."""
    job = a_job(JobState.CONNECTING, attempt=2, error_count=5, properties=properties)
    after, effects = step(job, held(an_error), now)
    assert (after.state, after.attempt, after.error_count) == (JobState.TRANSIENT_ERROR, 2, 5)
    assert after.retry_at == now.boot + 40
    assert after.stalled_since is None, "the no-progress clock stands"
    assert effects == [events.StopTransfer()]
    due, _ = step(after, events.RetryDue(), now)
    assert due.state is JobState.QUEUED


def test_it_says_why_since_when_and_until_when(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    after, _ = step(a_job(JobState.CONNECTING), held(an_error), now)
    waiting = scheduler.waiting_for(after, [], now)
    assert waiting is not None
    assert waiting.reason.startswith("held up: HTTP_STATUS_429 (0x801901AD)")
    assert "it asked for time" in waiting.reason
    assert (waiting.since, waiting.next_at) == (now.wall, now.wall + 40)


def test_late_news_of_a_held_attempt_means_nothing(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    job = a_job(JobState.CONNECTING, epoch=2)
    assert step(job, held(an_error), now) == (job, [])
    job = replace(a_job(JobState.SUSPENDED), type=JobType.DOWNLOAD)
    assert step(job, held(an_error), now) == (job, [])
