"""Uploads that are given up: what stays of their jobs until the server was told (jobs.md §3.4, OPEN-21)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from openbits.core import abandoning, events
from openbits.core.enums import JobState, JobType, TokenFlags
from openbits.core.lifecycle import is_forgotten, step, wakes
from openbits.core.model import File, Identity, Job, Now, ReplyFile, Secret, Temporary, UploadSession
from openbits.core.properties import Properties

SESSION = UploadSession(session_id="{5C0E9F1A-77D2-4B0E-9A53-0D1C6E2F8B44}")
SECRET = Secret(slot="server/basic", key_id="k1", sealed="c2VhbGVk")
DAY = 86_400.0

UNFINISHED = [state for state in JobState if not state.is_final and state is not JobState.TRANSFERRED]


@pytest.fixture
def an_upload(a_job: Callable[..., Job], a_file: Callable[..., File]) -> Callable[..., Job]:
    """An upload job in this state whose server has half of the file; of its file, changes on top."""

    def make(state: JobState, job_type: JobType = JobType.UPLOAD, **changes: Any) -> Job:
        values = {"is_upload": True, "session": SESSION, "size_bytes": 100, "transferred_bytes": 50, **changes}
        return a_job(state, type=job_type, files=(a_file(**values),), secrets=(SECRET,))

    return make


@pytest.mark.parametrize("end", [events.Cancel(), events.InactivityExpired()], ids=lambda end: type(end).__name__)
@pytest.mark.parametrize("state", UNFINISHED)
def test_open21_it_is_cancelled_at_once_and_the_server_is_to_be_told(
    state: JobState, end: events.Event, an_upload: Callable[..., Job], now: Now
) -> None:
    job, effects = step(an_upload(state), end, now)
    assert job.state is JobState.CANCELLED
    assert effects.count(events.CancelSession()) == 1
    assert not is_forgotten(job)
    assert job.secrets == (SECRET,)  # the server may ask for them
    assert abandoning.abandoned(job) == 0


def test_open21_a_restart_goes_on_with_telling(an_upload: Callable[..., Job], now: Now) -> None:
    job, _ = step(an_upload(JobState.TRANSFERRING), events.Cancel(), now)
    after, effects = step(job, events.ServiceRestarted(), now)
    assert after == job
    assert events.CancelSession() in effects
    assert wakes(job)


def test_open21_what_was_entrusted_is_erased_with_the_session(an_upload: Callable[..., Job], now: Now) -> None:
    cancelled, _ = step(an_upload(JobState.TRANSFERRING), events.Cancel(), now)
    job, effects = step(cancelled, events.SessionDropped(file_index=0), now)
    assert (job.secrets, job.files[0].session, effects) == ((), None, [])
    assert is_forgotten(job)
    again, effects = step(job, events.SessionDropped(file_index=0), now)
    assert (again, effects) == (job, [])


def test_open21_they_are_not_sealed_anew_after_they_were_erased(an_upload: Callable[..., Job], now: Now) -> None:
    newer = Secret(slot="server/basic", key_id="k2", sealed="bmV3")
    cancelled, _ = step(an_upload(JobState.TRANSFERRING), events.Cancel(), now)
    job, _ = step(cancelled, events.SecretsResealed(secrets=(newer,)), now)
    assert job.secrets == (newer,)
    job, _ = step(job, events.SessionDropped(file_index=0), now)
    job, _ = step(job, events.SecretsResealed(secrets=(newer,)), now)
    assert job.secrets == ()


def test_a_reply_that_must_be_removed_keeps_the_record_but_not_the_secrets(
    an_upload: Callable[..., Job], a_file: Callable[..., File], a_temporary: Callable[..., Temporary], now: Now
) -> None:
    beside = a_file("answer")
    reply = ReplyFile(local_name="/srv/in/answer", directory=beside.directory, name="answer", temporary=a_temporary())
    upload = an_upload(JobState.TRANSFERRING, JobType.UPLOAD_REPLY, session=replace(SESSION, is_received=True))
    cancelled, effects = step(replace(upload, reply=reply), events.Cancel(), now)
    assert {events.CancelSession(), events.RemoveTemporaries()} <= set(effects)
    job, _ = step(cancelled, events.SessionDropped(file_index=0), now)
    assert job.secrets == ()
    assert not is_forgotten(job)


@pytest.mark.parametrize(("flags", "is_needed"), [(0, False), (1, False), (2, True), (3, True)])
def test_the_token_stays_only_where_the_helper_tells_the_server(
    flags: int,
    is_needed: bool,  # noqa: FBT001
    an_upload: Callable[..., Job],
    now: Now,
) -> None:
    """identity.md §4: sockets are the helper's with the flag NETWORK alone."""
    running = replace(an_upload(JobState.TRANSFERRING), helper_token_flags=TokenFlags(flags))
    assert not abandoning.needs_helper(running)
    cancelled, _ = step(running, events.Cancel(), now)
    assert abandoning.needs_helper(cancelled) is is_needed
    told, _ = step(cancelled, events.SessionDropped(file_index=0), now)
    assert not abandoning.needs_helper(told)


def test_a_finished_upload_is_left_alone(an_upload: Callable[..., Job], now: Now) -> None:
    """jobs.md §4: a finished upload stays; its session was closed."""
    done = an_upload(JobState.TRANSFERRED, is_transferred=True, is_published=True, session=None, transferred_bytes=100)
    job, effects = step(done, events.Cancel(), now)
    assert events.CancelSession() not in effects
    assert is_forgotten(job)
    assert job.secrets == ()


@pytest.mark.parametrize("job_type", [JobType.UPLOAD, JobType.UPLOAD_REPLY])
def test_a_received_upload_whose_session_is_open_is_told_of(
    job_type: JobType, an_upload: Callable[..., Job], now: Now
) -> None:
    """jobs.md §4: of an upload-reply the reply is cancelled; what a server keeps for it is not kept for a fortnight."""
    received = replace(SESSION, is_received=True, reply_url="https://files.example/reply")
    job, effects = step(an_upload(JobState.TRANSFERRING, job_type, session=received), events.Cancel(), now)
    assert events.CancelSession() in effects
    assert not is_forgotten(job)


def test_without_a_session_there_is_nothing_to_tell(an_upload: Callable[..., Job], now: Now) -> None:
    job, effects = step(an_upload(JobState.CONNECTING, session=None, transferred_bytes=0), events.Cancel(), now)
    assert events.CancelSession() not in effects
    assert is_forgotten(job)


def test_a_session_of_a_job_that_goes_on_is_not_dropped(an_upload: Callable[..., Job], now: Now) -> None:
    job = an_upload(JobState.TRANSFERRING)
    assert step(job, events.SessionDropped(file_index=0), now) == (job, [])


def test_section_7_5_another_owner_begins_again_at_0_without_the_old_session(
    an_upload: Callable[..., Job], now: Now
) -> None:
    job, _ = step(an_upload(JobState.SUSPENDED), events.TakeOwnership(owner=Identity(uid=0, gid=0)), now)
    (file,) = job.files
    assert (file.session, file.transferred_bytes, job.secrets) == (None, 0, ())


@pytest.mark.parametrize(
    ("no_progress_seconds", "passed_seconds", "left_seconds"),
    [
        (1_209_600, 0.0, DAY),
        (1_209_600, DAY - 1, 1.0),
        (1_209_600, DAY + 5, -5.0),
        (3_600, 0.0, 3_600.0),
        (3_600, 3_000.0, 600.0),
        (0, 0.0, 0.0),
        (1_209_600, -9_999.0, DAY),  # the wall clock was set back
    ],
)
def test_section_3_4_for_24_hours_or_the_no_progress_timeout_if_smaller(
    no_progress_seconds: int, passed_seconds: float, left_seconds: float, an_upload: Callable[..., Job]
) -> None:
    properties = Properties(no_progress_timeout_seconds=no_progress_seconds)
    job = replace(an_upload(JobState.CANCELLED), properties=properties)
    assert abandoning.seconds_left(job, job.state_since + passed_seconds) == left_seconds
