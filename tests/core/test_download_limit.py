"""MAX_DOWNLOAD_SIZE: a job whose files have more bytes than it may download fails (jobs.md §13)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from openbits.core import events
from openbits.core.enums import ErrorContext, JobState
from openbits.core.lifecycle import step
from openbits.core.model import File, Job, Now, Validators
from openbits.core.properties import Properties

Make = Callable[..., Job]
MakeFile = Callable[..., File]
CheckStep = Callable[[Job, events.Event, Job, list[events.Effect]], None]

LIMIT_REACHED = 0x80200064


@pytest.fixture
def limited(a_job: Make, a_file: MakeFile) -> Job:
    """A first file of 60 bytes is there, a second one is under way; 100 bytes are allowed."""
    first = a_file("first", size_bytes=60, transferred_bytes=60, is_transferred=True)
    files = (first, a_file("second"))
    return a_job(JobState.CONNECTING, files=files, properties=Properties(max_download_size_bytes=100))


def connected(size: int | None) -> events.Event:
    return events.Connected(epoch=1, file_index=1, validators=Validators(size_bytes=size), size_bytes=size)


def progressed(count: int) -> events.Event:
    return events.Progressed(epoch=1, file_index=1, transferred_bytes=count)


def transferred(size: int) -> events.Event:
    whole = events.TransferredFile(file_index=1, size_bytes=size)
    return events.FilesTransferred(epoch=1, files=(whole,))


@pytest.mark.parametrize("event", [connected(40), connected(None), progressed(40)])
def test_as_many_bytes_as_are_allowed_may_come(limited: Job, now: Now, event: events.Event) -> None:
    after, _ = step(limited, event, now)
    assert (after.state, after.error) == (JobState.TRANSFERRING, None)


def test_a_job_of_exactly_the_limit_is_transferred(limited: Job, now: Now) -> None:
    after, _ = step(limited, transferred(40), now)
    assert after.state is JobState.TRANSFERRED


@pytest.mark.parametrize("state", [JobState.CONNECTING, JobState.TRANSFERRING])
@pytest.mark.parametrize("event", [connected(41), progressed(41), transferred(41)])
def test_one_byte_more_is_an_error_of_the_file_that_has_it(
    limited: Job, now: Now, state: JobState, event: events.Event, check_step: CheckStep
) -> None:
    job = replace(limited, state=state)
    after, effects = step(job, event, now)
    check_step(job, event, after, effects)
    assert after.state is JobState.ERROR
    assert after.error is not None
    assert (after.error.code, after.error.context) == (LIMIT_REACHED, ErrorContext.REMOTE_FILE)
    assert after.error.file_index == 1
    assert "100 bytes" in after.error.detail
    assert not after.files[1].is_transferred
    assert effects[0] == events.StopTransfer()


def test_a_resumed_job_fails_again_with_the_first_word_of_the_server(limited: Job, now: Now) -> None:
    """The limit cannot be changed any more, and the bytes are no fewer."""
    job, _ = step(limited, transferred(41), now)
    for event in (events.Resume(), events.SlotGranted()):
        job, _ = step(job, event, now)
    assert job.state is JobState.CONNECTING
    again = events.Connected(epoch=job.epoch, file_index=1, validators=Validators(), size_bytes=41)
    assert step(job, again, now)[0].state is JobState.ERROR


def test_without_a_limit_any_number_of_bytes_may_come(limited: Job, now: Now) -> None:
    job = replace(limited, properties=Properties())
    assert step(job, transferred(2**63), now)[0].state is JobState.TRANSFERRED


def test_what_is_too_large_does_not_count_as_finished_when_complete_stops_it(limited: Job, now: Now) -> None:
    stopped, _ = step(limited, events.Complete(), now)
    assert step(stopped, transferred(41), now) == (stopped, [])
    finished, _ = step(stopped, transferred(40), now)
    assert finished.files[1].is_transferred
