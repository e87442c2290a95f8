"""What is to be told of a job, in which order; what is a modification; the certificate callback (jobs.md §12)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.core.happened import transferred

from openbits.core import codes, events, notices
from openbits.core.enums import JobState, JobType, Notice, NotifyFlags
from openbits.core.errors import BitsError
from openbits.core.lifecycle import is_modification, step, wakes
from openbits.core.model import File, FileNotice, Job, Now
from openbits.core.properties import Properties

MakeJob = Callable[..., Job]

FILES = Properties(notify_flags=NotifyFlags.JOB_TRANSFERRED | NotifyFlags.JOB_ERROR | NotifyFlags.FILE_TRANSFERRED)
WITHOUT = Properties(notify_flags=NotifyFlags.JOB_TRANSFERRED)


def finish(job: Job, now: Now) -> tuple[Job, list[events.Effect]]:
    """The current file finishes."""
    assert job.current_file is not None
    return step(job, transferred(job.epoch, job.current_file, 100), now)


@pytest.fixture
def moving(a_job: MakeJob, a_file: Callable[..., File]) -> Job:
    """A job that moves the first of three files, and tells of each."""
    first = a_job(JobState.TRANSFERRING).files[0]
    return a_job(JobState.TRANSFERRING, files=(first, a_file("second"), a_file("third")), properties=FILES)


def test_files_come_before_the_job_in_the_order_in_which_they_finished(moving: Job, now: Now) -> None:
    job, notify = moving, []
    for _ in range(3):
        job, effects = finish(job, now)
        notify.append([effect for effect in effects if isinstance(effect, events.Notify)])
    assert notify == [[events.Notify(1)], [], [events.Notify(1)]]  # there may be a command line for the last one
    assert (job.state, job.notice_seq) == (JobState.TRANSFERRED, 4)
    order = []
    while (due := notices.due(job)) is not None:
        order.append((due.notice, due.notice_seq, due.file_index))
        job, effects = step(job, events.NoticeDelivered(due.notice_seq), now)
        assert effects == ([events.Notify(due.notice_seq + 1)] if due.notice is Notice.FILE else [])
    assert order == [
        (Notice.FILE, 1, 0),
        (Notice.FILE, 2, 1),
        (Notice.FILE, 3, 2),
        (Notice.TRANSFERRED, 4, None),
    ]


def test_only_the_next_one_can_be_taken(moving: Job, now: Now) -> None:
    job, _ = finish(finish(moving, now)[0], now)
    for number in (0, 2, 3):
        assert step(job, events.NoticeDelivered(number), now) == (job, [])


def test_the_terminal_notice_can_be_taken_before_those_of_files(moving: Job, now: Now) -> None:
    """By a command line, which is told of no file."""
    job = moving
    for _ in range(3):
        job, _ = finish(job, now)
    assert notices.terminal(job) == (Notice.TRANSFERRED, 4, None)
    after, effects = step(job, events.NoticeDelivered(4), now)
    assert (notices.terminal(after), after.untold_files, effects) == (None, job.untold_files, [events.Notify(1)])
    assert step(after, events.NoticeDelivered(4), now) == (after, [])


def test_a_file_is_told_if_the_flag_was_set_when_it_finished(moving: Job, now: Now) -> None:
    job, _ = finish(replace(moving, properties=WITHOUT), now)
    assert job.untold_files == ()
    asked, _ = step(job, events.SetProperties(properties=FILES, names=("notify_flags",)), now)
    assert notices.due(asked) is None
    told, _ = finish(asked, now)
    assert told.untold_files == (FileNotice(file_index=1, notice_seq=1),)


def test_disable_keeps_notices_pending(moving: Job, now: Now) -> None:
    flags = FILES.notify_flags | NotifyFlags.DISABLE
    job, _ = finish(replace(moving, properties=Properties(notify_flags=flags)), now)
    assert (len(job.untold_files), notices.is_wanted(job, Notice.FILE)) == (1, False)


def test_taking_the_flag_back_drops_the_files_and_makes_the_job_the_next(moving: Job, now: Now) -> None:
    job = moving
    for _ in range(3):
        job, _ = finish(job, now)
    after, effects = step(job, events.SetProperties(properties=WITHOUT, names=("notify_flags",)), now)
    assert (after.untold_files, effects) == ((), [events.Notify(4)])


def test_an_upload_tells_of_no_file(a_job: MakeJob, now: Now) -> None:
    """§12.1: a file of a download, or the reply."""
    job, _ = finish(a_job(JobState.TRANSFERRING, type=JobType.UPLOAD, properties=FILES), now)
    assert (job.untold_files, job.notice_seq) == ((), 1)


def test_a_file_that_begins_again_is_told_again_under_a_new_number(moving: Job, now: Now) -> None:
    """§8.8; whether it was told before or not."""
    refusal = events.ValidationRefused(file_index=0, is_from_peer=False)
    finished, _ = finish(moving, now)
    taken, _ = step(finished, events.NoticeDelivered(1), now)
    for job in (finished, taken):
        job, _ = step(job, refusal, now)  # noqa: PLW2901  # a story of one job
        assert (job.state, job.untold_files) == (JobState.ERROR, ())
        job, _ = step(job, events.Resume(), now)  # noqa: PLW2901
        job, _ = step(job, events.SlotGranted(), now)  # noqa: PLW2901
        job, _ = finish(job, now)  # noqa: PLW2901
        assert job.untold_files == (FileNotice(file_index=0, notice_seq=3),)


def test_file_notices_outlast_the_states_and_end_with_the_job(moving: Job, now: Now) -> None:
    """N8: what is pending belongs to its file, not to a state."""
    job, _ = finish(moving, now)
    for event in (events.Suspend(), events.Resume(), events.SlotGranted(), events.TransferTimeExceeded()):
        job, _ = step(job, event, now)
        assert len(job.untold_files) == 1, event
    over, _ = step(job, events.Cancel(), now)
    assert (over.untold_files, over.pending_notice, notices.due(over)) == ((), None, None)


def test_a_restart_goes_on_with_the_first_that_was_not_taken(moving: Job, now: Now) -> None:
    job, _ = step(finish(finish(moving, now)[0], now)[0], events.Suspend(), now)
    job, _ = step(job, events.NoticeDelivered(1), now)
    assert wakes(job)
    _, effects = step(job, events.ServiceRestarted(), now)
    assert events.Notify(2) in effects


# Modifications


def test_the_changes_to_error_and_transferred_are_no_modifications(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING)
    for event in (
        transferred(1, 0, 100),
        events.TransferTimeExceeded(),
    ):
        assert not is_modification(job, event, step(job, event, now)[0])


def test_every_other_change_is_one(a_job: MakeJob, a_file: Callable[..., File], now: Now) -> None:
    job = a_job(JobState.TRANSFERRING)
    for event in (
        events.Progressed(epoch=1, file_index=0, transferred_bytes=60),
        events.SetProperties(properties=Properties(description="x"), names=("description",)),
        events.AddFiles(files=(a_file("more"),)),
        events.Suspend(),
        events.SlotRevoked(),
        events.Cancel(),
        events.SetCertificateCallback(is_set=True),
    ):
        before = a_job(JobState.SUSPENDED) if isinstance(event, events.SetCertificateCallback) else job
        assert is_modification(before, event, step(before, event, now)[0]), event


def test_what_was_told_is_no_modification(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.ERROR)
    event = events.NoticeDelivered(job.notice_seq)
    assert not is_modification(job, event, step(job, event, now)[0])


# The certificate callback


@pytest.mark.parametrize("state", list(JobState))
def test_a_certificate_callback_is_set_in_a_paused_job_alone(a_job: MakeJob, state: JobState, now: Now) -> None:
    """V5; final jobs refuse every setter."""
    job = a_job(state)
    for is_set in (True, False):
        if state in {JobState.SUSPENDED, JobState.ERROR, JobState.TRANSFERRED}:
            job, effects = step(job, events.SetCertificateCallback(is_set=is_set), now)
            assert (job.needs_certificate_callback, job.state, effects) == (is_set, state, [])
            continue
        with pytest.raises(BitsError) as caught:
            step(job, events.SetCertificateCallback(is_set=is_set), now)
        expected = codes.BG_E_INVALID_STATE if state.is_final else codes.BG_E_READ_ONLY_WHEN_JOB_ACTIVE
        assert caught.value.hresult == expected


def test_the_need_for_a_certificate_callback_outlasts_restarts_and_owners(a_job: MakeJob, now: Now) -> None:
    """V6."""
    job = a_job(JobState.SUSPENDED, needs_certificate_callback=True)
    for event in (events.ServiceRestarted(), events.TakeOwnership(owner=replace(job.owner, uid=0))):
        job, _ = step(job, event, now)
        assert job.needs_certificate_callback
