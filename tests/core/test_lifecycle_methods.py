"""State-changing methods in every state: jobs.md §3.3 typed out, and what §7.3 and §8.4 add to it."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.core.happened import transferred

from openbits.core import codes, events
from openbits.core.enums import JobState, JobType, Notice, Priority, TokenFlags
from openbits.core.errors import BitsError
from openbits.core.lifecycle import check_not_final, complete_result, is_forgotten, new_job, removable, step
from openbits.core.model import File, Job, JobError, Leftover, Now, Temporary
from openbits.core.properties import Properties

Make = Callable[..., Job]

TABLE = """
                  SUSPENDED    QUEUED       CONNECTING   TRANSFERRING TRANSIENT_ERROR ERROR        TRANSFERRED  ACKNOWLEDGED CANCELLED
Resume            QUEUED       .            .            .            QUEUED          QUEUED       .            INVALID      INVALID
Suspend           .            SUSPENDED    SUSPENDED    SUSPENDED    SUSPENDED       .            .            INVALID      INVALID
Cancel            CANCELLED    CANCELLED    CANCELLED    CANCELLED    CANCELLED       CANCELLED    CANCELLED    INVALID      INVALID
Complete/DOWNLOAD ACKNOWLEDGED ACKNOWLEDGED ACKNOWLEDGED ACKNOWLEDGED ACKNOWLEDGED    ACKNOWLEDGED ACKNOWLEDGED INVALID      INVALID
Complete/UPLOAD   INVALID      INVALID      INVALID      INVALID      INVALID         INVALID      ACKNOWLEDGED INVALID      INVALID
Setters           .            .            .            .            .               .            .            INVALID      INVALID
"""  # noqa: E501  # the table as the specification prints it

REQUESTS: dict[str, events.Event] = {
    "Resume": events.Resume(),
    "Suspend": events.Suspend(),
    "Cancel": events.Cancel(),
    "Complete": events.Complete(),
    "Setters": events.SetProperties(properties=Properties(description="new")),
}


def _cells() -> Iterator[tuple[str, JobState, str]]:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    for method, *cells in rows:
        for state, cell in zip(head, cells, strict=True):
            yield method, JobState[state], cell


@pytest.mark.parametrize(("method", "state", "expected"), list(_cells()))
def test_method_in_state(a_job: Make, now: Now, method: str, state: JobState, expected: str) -> None:
    name, _, job_type = method.partition("/")
    job = a_job(state, type=JobType[job_type or "DOWNLOAD"])
    if expected == "INVALID":
        with pytest.raises(BitsError) as refused:
            step(job, REQUESTS[name], now)
        assert refused.value.hresult == 0x80200002
        assert str(job.job_id) in str(refused.value)
        return
    after, effects = step(job, REQUESTS[name], now)
    if name == "Complete":
        assert events.PublishFiles() in effects
        after = _published(after, now)
    assert after.state is (state if expected == "." else JobState[expected])


def _published(job: Job, now: Now) -> Job:
    """The broker renames what is there, and says so."""
    for index, file in enumerate(job.files):
        if file.is_transferred and not file.is_published:
            job, _ = step(job, events.FilesPublished(file_indexes=(index,)), now)
    job, _ = step(job, events.PublishingEnded(error=None), now)
    return job


# -- Resume ---------------------------------------------------------------------------------------------------------


def test_resume_without_a_file_is_refused_and_says_what_to_do(a_job: Make, now: Now) -> None:
    with pytest.raises(BitsError, match="add one first") as refused:
        step(a_job(JobState.SUSPENDED, files=()), events.Resume(), now)
    assert refused.value.hresult == 0x80200003


def test_resume_begins_the_retries_and_the_no_progress_clock_anew(a_job: Make, now: Now) -> None:
    job = a_job(JobState.TRANSIENT_ERROR, attempt=7, stalled_seconds=900.0)
    after, _ = step(job, events.Resume(), now)
    assert (after.attempt, after.stalled_seconds, after.stalled_since, after.retry_at) == (0, 0.0, None, None)
    assert after.was_resumed


def test_resume_of_a_transferred_job_with_pending_files_queues_it(a_job: Make, a_file: Callable[..., File]) -> None:
    job = a_job(JobState.TRANSFERRED)
    after, _ = step(replace(job, files=(*job.files, a_file("second"))), events.Resume(), Now(wall=1.0, boot=1.0))
    assert after.state is JobState.QUEUED
    assert after.transferred_at is None


def test_resume_after_too_many_changes_of_the_remote_file_allows_new_ones(
    a_job: Make, a_file: Callable[..., File], now: Now
) -> None:
    after, _ = step(a_job(JobState.ERROR, files=(a_file(restarts=4),)), events.Resume(), now)
    assert after.files[0].restarts == 0


def test_resume_keeps_the_error_until_bytes_flow_again(a_job: Make, now: Now) -> None:
    after, _ = step(a_job(JobState.ERROR), events.Resume(), now)
    assert after.error is not None
    assert after.pending_notice is None


# -- refusals repeat the first error (user-pains 24) ------------------------------------------------------------------


def test_a_refusal_on_a_final_job_names_the_job_and_its_error(
    a_job: Make, an_error: Callable[..., JobError], now: Now
) -> None:
    job = a_job(
        JobState.CANCELLED,
        error=an_error(codes.BG_E_HTTP_ERROR_404),
        properties=Properties(display_name="nightly"),
    )
    with pytest.raises(BitsError) as refused:
        step(job, events.Complete(), now)
    text = str(refused.value)
    assert "cannot complete" in text
    assert '"nightly"' in text
    assert "0x80190194" in text


def test_complete_of_a_failed_upload_repeats_why_it_failed(a_job: Make, now: Now) -> None:
    with pytest.raises(BitsError, match="0x80190194"):
        step(a_job(JobState.ERROR, type=JobType.UPLOAD), events.Complete(), now)


# -- Complete ---------------------------------------------------------------------------------------------------------


def test_complete_of_an_active_job_stops_the_transfer_first(a_job: Make, now: Now) -> None:
    after, effects = step(a_job(JobState.TRANSFERRING), events.Complete(), now)
    assert effects == [events.StopTransfer(), events.PublishFiles()]
    assert after.is_completing
    assert after.state is JobState.SUSPENDED


def test_complete_keeps_finished_files_and_removes_the_others(
    a_job: Make, a_file: Callable[..., File], a_temporary: Callable[..., Temporary], now: Now
) -> None:
    whole = a_job(JobState.TRANSFERRED).files[0]
    half = a_file("second", temporary=a_temporary(".BIT00000002.tmp"), transferred_bytes=10)
    job, _ = step(a_job(JobState.SUSPENDED, files=(whole, half)), events.Complete(), now)
    job, _ = step(job, events.FilesPublished(file_indexes=(0,)), now)
    job, effects = step(job, events.PublishingEnded(error=None), now)
    assert job.state is JobState.ACKNOWLEDGED
    assert effects == [events.RemoveTemporaries()]
    assert [file.is_published for file in job.files] == [True, False]
    assert complete_result(job) == 0x00200017
    assert not is_forgotten(job)
    job, _ = step(job, events.TemporariesRemoved(file_indexes=(1,)), now)
    assert is_forgotten(job)


def test_complete_without_any_file_is_a_plain_success(a_job: Make, now: Now) -> None:
    job, _ = step(a_job(JobState.SUSPENDED, files=()), events.Complete(), now)
    job, effects = step(job, events.PublishingEnded(error=None), now)
    assert (job.state, effects, complete_result(job)) == (JobState.ACKNOWLEDGED, [], 0)


def test_complete_with_no_file_finished_is_partial(a_job: Make, now: Now) -> None:
    job, _ = step(a_job(JobState.QUEUED), events.Complete(), now)
    assert complete_result(_published(job, now)) == 0x00200017


def test_a_file_that_finishes_during_the_stop_counts_as_finished(a_job: Make, now: Now) -> None:
    job, _ = step(a_job(JobState.TRANSFERRING), events.Complete(), now)
    job, effects = step(job, transferred(1, 0, 100), now)
    assert effects == []
    job, effects = step(job, events.PublishingEnded(error=None), now)
    assert effects == [events.PublishFiles()]
    assert not job.state.is_final
    job = _published(job, now)
    assert (job.state, complete_result(job)) == (JobState.ACKNOWLEDGED, 0)


@pytest.mark.parametrize(
    ("before", "after_failure"),
    [
        (JobState.TRANSFERRED, JobState.TRANSFERRED),
        (JobState.SUSPENDED, JobState.SUSPENDED),
        (JobState.QUEUED, JobState.SUSPENDED),
        (JobState.TRANSFERRING, JobState.SUSPENDED),
        (JobState.TRANSIENT_ERROR, JobState.SUSPENDED),
        (JobState.ERROR, JobState.SUSPENDED),
    ],
)
def test_a_failed_rename_leaves_the_job_where_it_can_be_completed_again(
    a_job: Make, an_error: Callable[..., JobError], now: Now, before: JobState, after_failure: JobState
) -> None:
    job = a_job(before)
    first_error = job.error
    job, _ = step(job, events.Complete(), now)
    job, _ = step(job, events.PublishingEnded(error=an_error(codes.E_ACCESSDENIED)), now)
    assert job.state is after_failure
    assert not job.is_completing
    assert job.error == first_error
    step(job, events.Complete(), now)


def test_a_file_whose_temporary_was_lost_is_fetched_again_after_resume(
    a_job: Make, an_error: Callable[..., JobError], now: Now
) -> None:
    """TRANSFERRED means that all bytes are on the disk (reliability.md P3), so the job cannot stay there."""
    job, _ = step(a_job(JobState.TRANSFERRED), events.Complete(), now)
    temporary = job.files[0].temporary
    job, _ = step(job, events.PublishingEnded(error=an_error(codes.E_ACCESSDENIED), lost_file=0), now)
    assert (job.state, job.transferred_at, job.pending_notice) == (JobState.SUSPENDED, None, None)
    assert (job.files[0].temporary, job.files[0].transferred_bytes) == (None, 0)
    assert [leftover.temporary for leftover in job.leftovers] == [temporary]
    job, _ = step(job, events.Resume(), now)
    _, effects = step(job, events.SlotGranted(), now)
    assert effects == [events.StartTransfer(epoch=2)]


def test_a_transferred_job_whose_rename_failed_is_not_announced_twice(
    a_job: Make, an_error: Callable[..., JobError], now: Now
) -> None:
    job, _ = step(a_job(JobState.TRANSFERRED), events.Complete(), now)
    after, effects = step(job, events.PublishingEnded(error=an_error()), now)
    assert effects == []
    assert (after.pending_notice, after.notice_seq) == (Notice.TRANSFERRED, 1)


@pytest.mark.parametrize(
    "request_",
    [events.Resume(), events.Suspend(), events.Cancel(), REQUESTS["Setters"], events.HelperTokenSet(is_set=True)],
)
def test_a_job_that_is_being_completed_refuses_other_requests(a_job: Make, now: Now, request_: events.Event) -> None:
    job = a_job(JobState.TRANSFERRED, is_completing=True)
    with pytest.raises(BitsError, match="is being completed") as refused:
        step(job, request_, now)
    assert refused.value.hresult == 0x80200002


def test_a_second_complete_joins_the_first(a_job: Make, now: Now) -> None:
    job, _ = step(a_job(JobState.TRANSFERRED), events.Complete(), now)
    after, effects = step(job, events.Complete(), now)
    assert effects == []
    assert after.is_completing


def test_nothing_disturbs_a_job_that_is_being_completed(
    a_job: Make, an_error: Callable[..., JobError], now: Now
) -> None:
    job = a_job(JobState.SUSPENDED, is_completing=True)
    for event in (events.TokenLost(error=an_error()), events.InactivityExpired(), events.SlotRevoked()):
        assert step(job, event, now) == (job, [])


# -- Cancel, files, setters -------------------------------------------------------------------------------------------


def test_cancel_removes_partial_and_whole_temporaries_and_drops_the_notice(
    a_job: Make, a_file: Callable[..., File], a_temporary: Callable[..., Temporary], now: Now
) -> None:
    whole = a_job(JobState.TRANSFERRED).files[0]
    half = a_file("second", temporary=a_temporary(".BIT00000002.tmp"))
    job, effects = step(a_job(JobState.ERROR, files=(whole, a_file("third"), half)), events.Cancel(), now)
    assert effects == [events.RemoveTemporaries()]
    assert job.pending_notice is None
    assert removable(job) == (0, 2)
    job, _ = step(job, events.TemporariesRemoved(file_indexes=(0,)), now)
    assert removable(job) == (2,)
    assert not is_forgotten(job)


def test_leftovers_of_changed_identities_keep_the_tombstone(
    a_job: Make, a_temporary: Callable[..., Temporary], now: Now
) -> None:
    before = a_job(JobState.QUEUED)
    left = Leftover(directory=before.files[0].directory, temporary=a_temporary(by_helper=True, uid=1003))
    job, effects = step(replace(before, leftovers=(left,)), events.Cancel(), now)
    assert effects == [events.RemoveTemporaries()]
    assert not is_forgotten(job)
    job, _ = step(job, events.TemporariesRemoved(file_indexes=(), leftovers=(left,)), now)
    assert is_forgotten(job)


@pytest.mark.parametrize(("have", "more"), [(0, 2), (1, 1)])
def test_an_upload_has_exactly_one_file(
    a_job: Make, a_file: Callable[..., File], now: Now, have: int, more: int
) -> None:
    job = a_job(JobState.SUSPENDED, type=JobType.UPLOAD, files=(a_file(),) * have)
    with pytest.raises(BitsError) as refused:
        step(job, events.AddFiles(files=(a_file(),) * more), now)
    assert refused.value.hresult == 0x8020001C


def test_an_empty_list_of_files_is_refused(a_job: Make, now: Now) -> None:
    with pytest.raises(BitsError) as refused:
        step(a_job(), events.AddFiles(files=()), now)
    assert refused.value.hresult == 0x80070057


def test_files_may_be_added_while_the_job_transfers(a_job: Make, a_file: Callable[..., File], now: Now) -> None:
    after, effects = step(a_job(JobState.TRANSFERRING), events.AddFiles(files=(a_file("second"),)), now)
    assert (after.state, effects) == (JobState.TRANSFERRING, [])
    assert [file.name for file in after.files] == ["data.bin", "second"]


def test_helper_token_flags_may_change_in_every_state_that_is_not_final(a_job: Make, now: Now) -> None:
    for state in JobState:
        if not state.is_final:
            after, _ = step(a_job(state), events.SetHelperTokenFlags(flags=TokenFlags.NETWORK), now)
            assert after.helper_token_flags is TokenFlags.NETWORK


def test_flags_that_stay_the_same_do_not_disturb_the_transfer(a_job: Make, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING, helper_token_flags=TokenFlags.NETWORK)
    after, effects = step(job, events.SetHelperTokenFlags(flags=TokenFlags.NETWORK), now)
    assert (after.state, effects) == (JobState.TRANSFERRING, [])


def test_a_token_without_flags_is_unused(a_job: Make, now: Now) -> None:
    after, effects = step(a_job(JobState.TRANSFERRING), events.HelperTokenSet(is_set=True), now)
    assert (after.state, effects, after.had_helper_token) == (JobState.TRANSFERRING, [], True)


def test_a_cleared_token_is_not_missed_by_the_next_start(a_job: Make, now: Now) -> None:
    job = a_job(JobState.SUSPENDED, helper_token_flags=TokenFlags.NETWORK, had_helper_token=True)
    job, _ = step(job, events.HelperTokenSet(is_set=False), now)
    job, _ = step(job, events.ServiceRestarted(), now)
    assert job.state is JobState.SUSPENDED


def test_requests_touch_the_modification_time_and_news_without_effect_does_not(a_job: Make, now: Now) -> None:
    job = a_job(JobState.SUSPENDED)
    assert step(job, events.Suspend(), now)[0].modified_at == now.wall
    assert step(job, events.RetryDue(), now) == (job, [])
    assert step(a_job(JobState.TRANSFERRED), events.NoticeDelivered(1), now)[0].modified_at == job.modified_at


def test_auto_complete_switched_on_late_completes_a_transferred_job(a_job: Make, now: Now) -> None:
    setting = events.SetProperties(properties=Properties(auto_complete=True))
    after, effects = step(a_job(JobState.TRANSFERRED), setting, now)
    assert after.is_completing
    assert effects == [events.PublishFiles()]


def test_a_refused_file_must_be_transferred(a_job: Make, now: Now) -> None:
    with pytest.raises(BitsError) as refused:
        step(a_job(JobState.TRANSFERRING), events.ValidationRefused(file_index=0, is_from_peer=False), now)
    assert refused.value.hresult == 0x8000000A


def test_check_not_final_refuses_what_every_request_refuses(a_job: Make) -> None:
    check_not_final(a_job(JobState.ERROR))
    for job in (a_job(JobState.CANCELLED), a_job(JobState.TRANSFERRED, is_completing=True)):
        with pytest.raises(BitsError):
            check_not_final(job)


def test_a_new_job_is_suspended_and_empty(a_job: Make, now: Now) -> None:
    job = new_job(job_id=a_job().job_id, owner=a_job().owner, now=now, display_name="nightly", umask=0o027)
    assert (job.state, job.files, job.type, job.umask) == (JobState.SUSPENDED, (), JobType.DOWNLOAD, 0o027)
    assert (job.properties.display_name, job.properties.priority) == ("nightly", Priority.NORMAL)
    assert (job.created_at, job.modified_at, job.transferred_at) == (now.wall, now.wall, None)
