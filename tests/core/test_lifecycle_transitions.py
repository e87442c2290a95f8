"""Each transition of jobs.md §3.2 by its number, with what the job carries and causes on the way."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.core.happened import created, transferred

from openbits.core import codes, events
from openbits.core.enums import ErrorContext, JobState, JobType, Notice, Priority, ProxyUsage, TokenFlags
from openbits.core.errors import BitsError
from openbits.core.lifecycle import (
    InvariantBrokenError,
    is_forgotten,
    new_job,
    next_timer,
    removable,
    step,
    timer_event,
)
from openbits.core.model import File, Job, JobError, Leftover, Now, Range, Temporary, Validators
from openbits.core.properties import Properties
from openbits.core.timers import gives_up_at
from openbits.core.transitions import TRANSITIONS

MakeJob = Callable[..., Job]
MakeFile = Callable[..., File]
MakeError = Callable[..., JobError]

DAY = 86_400.0


def later(now: Now, seconds: float) -> Now:
    return Now(wall=now.wall + seconds, boot=now.boot + seconds)


def connected(epoch: int, file_index: int = 0, **changes: object) -> events.Connected:
    told = {"validators": Validators(size_bytes=100, etag='"a"'), "size_bytes": 100, **changes}
    return events.Connected(epoch=epoch, file_index=file_index, **told)  # type: ignore[arg-type]  # values of a dict


def failed(error: JobError, spread: float = 0.0) -> events.AttemptFailed:
    return events.AttemptFailed(epoch=1, error=error, spread=spread)


def test_the_table_knows_every_number_of_the_specification() -> None:
    assert {row.number for row in TRANSITIONS} == {f"T{number}" for number in range(1, 26)}


def test_t1_a_created_job_is_suspended(a_job: MakeJob, now: Now) -> None:
    assert new_job(job_id=a_job().job_id, owner=a_job().owner, now=now, display_name="").state is JobState.SUSPENDED


def test_t2_resume_queues_a_job_with_a_file(a_job: MakeJob, now: Now) -> None:
    after, effects = step(a_job(JobState.SUSPENDED), events.Resume(), now)
    assert (after.state, effects, after.was_resumed, after.state_since) == (JobState.QUEUED, [], True, now.wall)


def test_t3_resume_without_file_leaves_it_suspended(a_job: MakeJob, now: Now) -> None:
    with pytest.raises(BitsError) as refused:
        step(a_job(JobState.SUSPENDED, files=()), events.Resume(), now)
    assert refused.value.hresult == codes.BG_E_EMPTY


def test_t4_a_slot_starts_the_first_file_that_is_not_there(a_job: MakeJob, a_file: MakeFile, now: Now) -> None:
    files = (a_file("first", is_transferred=True), a_file("second"))
    after, effects = step(a_job(JobState.QUEUED, epoch=6, files=files), events.SlotGranted(), now)
    assert after.state is JobState.CONNECTING
    assert effects == [events.StartTransfer(epoch=7)]
    assert after.epoch == 7


def test_t4_a_slot_for_a_job_that_is_not_queued_is_a_defect(a_job: MakeJob, now: Now) -> None:
    with pytest.raises(InvariantBrokenError):
        step(a_job(JobState.SUSPENDED), events.SlotGranted(), now)


def test_t5_the_first_response_discards_the_error_and_tells_about_the_file(
    a_job: MakeJob, an_error: MakeError, now: Now
) -> None:
    job = a_job(JobState.CONNECTING, error=an_error(), error_count=2)
    after, effects = step(job, connected(1, note="resume not possible with this server"), now)
    assert (after.state, effects, after.error, after.error_count) == (JobState.TRANSFERRING, [], None, 2)
    assert after.files[0].size_bytes == 100
    assert after.files[0].validators.etag == '"a"'
    assert after.files[0].note == "resume not possible with this server"


def test_t5_bytes_prove_a_connection(a_job: MakeJob, now: Now) -> None:
    after, _ = step(a_job(JobState.CONNECTING), events.Progressed(epoch=1, file_index=0, transferred_bytes=7), now)
    assert (after.state, after.files[0].transferred_bytes) == (JobState.TRANSFERRING, 7)


def test_t6_a_failed_connection_is_tried_again_and_not_counted(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    after, effects = step(a_job(JobState.CONNECTING), failed(an_error(codes.BG_E_CONNECT_FAILURE)), now)
    assert (after.state, effects) == (JobState.TRANSIENT_ERROR, [events.StopTransfer()])
    assert (after.retry_at, after.attempt, after.error_count) == (now.boot + 1, 1, 0)
    assert after.error == an_error(codes.BG_E_CONNECT_FAILURE)
    assert after.pending_notice is None


def test_t6_a_failed_retry_counts(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    after, _ = step(a_job(JobState.CONNECTING, attempt=1, error_count=1), failed(an_error()), now)
    assert (after.error_count, after.attempt, after.retry_at) == (2, 2, now.boot + 5)


def test_t7_a_recoverable_error_waits_and_counts(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    after, effects = step(a_job(JobState.TRANSFERRING), failed(an_error(codes.BG_E_CONNECTION_CLOSED), 0.1), now)
    assert (after.state, effects) == (JobState.TRANSIENT_ERROR, [events.StopTransfer()])
    assert after.error_count == 1
    assert after.retry_at == pytest.approx(now.boot + 1.1)
    assert after.files[0].transferred_bytes == 50


def test_t7_an_unknown_code_is_transient(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    after, _ = step(a_job(JobState.TRANSFERRING), failed(an_error(0x8007042B)), now)
    assert after.state is JobState.TRANSIENT_ERROR


def test_t7_a_lost_temporary_is_transient_whatever_its_code(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    event = events.AttemptFailed(epoch=1, error=an_error(codes.ERROR_FILE_NOT_FOUND), is_transient=True)
    after, _ = step(a_job(JobState.TRANSFERRING), event, now)
    assert after.state is JobState.TRANSIENT_ERROR
    assert step(a_job(JobState.TRANSFERRING), replace(event, is_transient=False), now)[0].state is JobState.ERROR


def test_t7_the_servers_retry_after_is_honoured(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    error = an_error(codes.BG_E_HTTP_ERROR_503, retry_after_seconds=120.0)
    after, _ = step(a_job(JobState.TRANSFERRING), failed(error), now)
    assert after.retry_at == now.boot + 120


def test_t8_a_fatal_error_ends_the_attempts_and_is_told(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    after, effects = step(a_job(JobState.TRANSFERRING), failed(an_error(codes.BG_E_HTTP_ERROR_404)), now)
    assert after.state is JobState.ERROR
    assert effects == [events.StopTransfer(), events.Notify(1)]
    assert (after.pending_notice, after.notice_seq, after.error_count) == (Notice.ERROR, 1, 1)


def test_t8_a_remote_file_may_change_three_times(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING)
    changed = events.FileRestarted(epoch=1, file_index=0, note="ETag a, now b")
    for restarts in (1, 2, 3):
        job, effects = step(replace(job, files=(replace(job.files[0], transferred_bytes=9),)), changed, now)
        assert (job.state, effects) == (JobState.TRANSFERRING, [])
        assert (job.files[0].restarts, job.files[0].transferred_bytes) == (restarts, 0)
        assert job.files[0].note == f"ETag a, now b; begun again ({restarts} of 3 times a day)"
    job, effects = step(job, changed, now)
    assert (job.state, job.files[0].note) == (JobState.ERROR, "ETag a, now b")
    assert effects == [events.StopTransfer(), events.Notify(1)]
    assert job.error is not None
    assert (job.error.code, job.error.context) == (0x80200073, ErrorContext.REMOTE_FILE)
    assert job.error.subject == "https://files.example:8443/data.bin"


@pytest.mark.parametrize("state", [JobState.CONNECTING, JobState.TRANSFERRING])
@pytest.mark.parametrize(
    "event",
    [
        events.SlotRevoked(),
        events.SetProperties(properties=Properties(priority=Priority.LOW)),
        events.SetProperties(properties=Properties(proxy_usage=ProxyUsage.NO_PROXY)),
        events.SetProperties(properties=Properties(proxy_list="p")),
        events.SetProperties(properties=Properties(proxy_bypass_list="h")),
        events.SetHelperTokenFlags(flags=TokenFlags.NETWORK),
    ],
)
def test_t9_the_request_stops_and_the_job_is_queued(
    a_job: MakeJob, now: Now, state: JobState, event: events.Event
) -> None:
    after, effects = step(a_job(state), event, now)
    assert (after.state, effects) == (JobState.QUEUED, [events.StopTransfer()])


def test_t9_another_token_restarts_a_request_that_uses_it(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING, helper_token_flags=TokenFlags.LOCAL_FILE)
    after, effects = step(job, events.HelperTokenSet(is_set=True), now)
    assert (after.state, effects) == (JobState.QUEUED, [events.StopTransfer()])


def test_t9_another_property_does_not_stop_the_transfer(a_job: MakeJob, now: Now) -> None:
    after, effects = step(
        a_job(JobState.TRANSFERRING), events.SetProperties(properties=Properties(description="new")), now
    )
    assert (after.state, effects, after.properties.description) == (JobState.TRANSFERRING, [], "new")


def test_t10_files_move_one_after_the_other_and_then_the_job_is_transferred(
    a_job: MakeJob, a_file: MakeFile, now: Now
) -> None:
    job = a_job(JobState.TRANSFERRING, files=(a_file("first"), a_file("second")))
    job, effects = step(job, transferred(1, 0, 100), now)
    assert (job.state, effects, job.current_file) == (JobState.TRANSFERRING, [], 1)  # the same attempt moves the next
    job, effects = step(job, connected(1, 1), now)
    assert (job.state, effects) == (JobState.TRANSFERRING, [])
    job, effects = step(job, transferred(1, 1, 0), now)
    assert job.state is JobState.TRANSFERRED
    assert effects == [events.StopTransfer(), events.Notify(1)]
    assert (job.pending_notice, job.transferred_at) == (Notice.TRANSFERRED, now.wall)
    assert [(file.size_bytes, file.transferred_bytes) for file in job.files] == [(100, 100), (0, 0)]


def test_t10_a_job_may_complete_itself(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING, properties=Properties(auto_complete=True))
    after, effects = step(job, transferred(1, 0, 100), now)
    assert (after.state, after.is_completing) == (JobState.TRANSFERRED, True)
    assert effects == [events.StopTransfer(), events.PublishFiles(), events.Notify(1)]


def test_t10_a_slot_for_a_job_with_nothing_left_to_move_finishes_it_without_traffic(
    a_job: MakeJob, an_error: MakeError, now: Now
) -> None:
    whole = a_job(JobState.TRANSFERRED).files
    job, effects = step(a_job(JobState.QUEUED, files=whole, error=an_error()), events.SlotGranted(), now)
    assert (job.state, effects, job.error) == (JobState.TRANSFERRED, [events.Notify(1)], None)


def test_t11_an_on_demand_job_stops_when_the_requested_ranges_are_here(a_job: MakeJob, now: Now) -> None:
    begun = a_job(JobState.TRANSFERRING).files[0]
    wanted = (Range(offset=60, length_bytes=10), Range(offset=90, length_bytes=10))
    job = a_job(
        JobState.TRANSFERRING, files=(replace(begun, wanted=wanted),), properties=Properties(on_demand_mode=True)
    )
    half, effects = step(job, events.RangesFilled(epoch=1, file_index=0, ranges=wanted[:1]), now)
    assert (half.state, effects, half.files[0].wanted) == (JobState.TRANSFERRING, [], wanted[1:])
    after, effects = step(half, events.RangesFilled(epoch=1, file_index=0, ranges=wanted[1:]), now)
    assert (after.state, effects) == (JobState.SUSPENDED, [events.StopTransfer()])
    assert after.files[0].filled == wanted


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.CONNECTING, JobState.TRANSFERRING])
def test_t12_a_blocked_job_waits_for_the_event_and_nothing_is_counted(
    a_job: MakeJob, an_error: MakeError, now: Now, state: JobState
) -> None:
    blocked = events.Blocked(error=an_error(codes.BG_E_NETWORK_DISCONNECTED))
    after, effects = step(a_job(state), blocked, now)
    assert after.state is JobState.TRANSIENT_ERROR
    assert effects == ([events.StopTransfer()] if state.is_active else [])
    assert (after.retry_by_event, after.retry_at, after.error_count, after.attempt) == (True, None, 0, 0)
    assert next_timer(after) is None


def test_t12_an_attempt_that_finds_the_volume_locked_waits_for_it(
    a_job: MakeJob, an_error: MakeError, now: Now
) -> None:
    after, _ = step(a_job(JobState.TRANSFERRING), failed(an_error(codes.BG_E_DESTINATION_LOCKED)), now)
    assert (after.state, after.retry_by_event, after.error_count) == (JobState.TRANSIENT_ERROR, True, 0)


def test_t12_a_suspended_job_does_not_care(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    job = a_job(JobState.SUSPENDED)
    assert step(job, events.Blocked(error=an_error(codes.BG_E_BLOCKED_BY_POLICY)), now) == (job, [])


@pytest.mark.parametrize("event", [events.RetryDue(), events.Resume()])
def test_t13_the_end_of_the_delay_or_resume_queues_the_job(a_job: MakeJob, now: Now, event: events.Event) -> None:
    after, effects = step(a_job(JobState.TRANSIENT_ERROR), event, now)
    assert (after.state, effects, after.retry_at) == (JobState.QUEUED, [], None)
    assert after.error is not None, "GetError works until TRANSFERRING (jobs.md §3.6)"


def test_t13_the_retry_timer_rings_when_its_time_has_come(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.TRANSIENT_ERROR)
    assert next_timer(job) == now.boot + 60
    assert timer_event(job, later(now, 59)) is None
    assert timer_event(job, later(now, 60)) == events.RetryDue()


def test_t14_the_last_error_stays_when_the_no_progress_timeout_is_over(
    a_job: MakeJob, an_error: MakeError, now: Now
) -> None:
    job = a_job(JobState.TRANSIENT_ERROR, retry_at=now.boot + 15 * DAY)
    assert next_timer(job) == now.boot + 14 * DAY
    assert timer_event(job, later(now, 14 * DAY)) == events.NoProgressExpired()
    after, effects = step(job, events.NoProgressExpired(), later(now, 14 * DAY))
    assert (after.state, effects) == (JobState.ERROR, [events.Notify(1)])
    assert after.error == an_error(codes.BG_E_CONNECT_FAILURE)
    assert after.error_count == 1


@pytest.mark.parametrize(
    "limits",
    [
        Properties(no_progress_timeout_seconds=0),
        Properties(no_progress_timeout_seconds=60, minimum_retry_delay_seconds=61),
    ],
)
def test_t14_without_hope_of_a_retry_every_error_is_fatal(
    a_job: MakeJob, an_error: MakeError, now: Now, limits: Properties
) -> None:
    job = a_job(JobState.CONNECTING, properties=limits)
    for event in (
        failed(an_error(codes.BG_E_CONNECT_FAILURE)),
        failed(an_error(codes.BG_E_NETWORK_DISCONNECTED)),
        events.CertificateDeclined(epoch=1, error=an_error(codes.E_FAIL)),
        events.Blocked(error=an_error(codes.BG_E_NETWORK_DISCONNECTED)),
    ):
        after, effects = step(job, event, now)
        assert (after.state, effects) == (JobState.ERROR, [events.StopTransfer(), events.Notify(1)])


def test_t14_a_network_that_is_gone_is_not_counted_even_when_it_is_fatal(
    a_job: MakeJob, an_error: MakeError, now: Now
) -> None:
    job = a_job(JobState.TRANSFERRING, properties=Properties(no_progress_timeout_seconds=0))
    after, _ = step(job, events.Blocked(error=an_error(codes.BG_E_NETWORK_DISCONNECTED)), now)
    assert (after.state, after.error_count) == (JobState.ERROR, 0)
    after, _ = step(job, failed(an_error(codes.BG_E_CONNECTION_CLOSED)), now)
    assert (after.state, after.error_count) == (JobState.ERROR, 1)


def test_t14_a_delay_as_long_as_the_timeout_still_allows_retries(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    limits = Properties(no_progress_timeout_seconds=600, minimum_retry_delay_seconds=600)
    after, _ = step(a_job(JobState.CONNECTING, properties=limits), failed(an_error()), now)
    assert after.state is JobState.TRANSIENT_ERROR


@pytest.mark.parametrize(
    "state", [JobState.QUEUED, JobState.CONNECTING, JobState.TRANSFERRING, JobState.TRANSIENT_ERROR]
)
def test_t15_suspend_stops_at_once_and_keeps_the_data(a_job: MakeJob, now: Now, state: JobState) -> None:
    job = a_job(state)
    after, effects = step(job, events.Suspend(), now)
    assert after.state is JobState.SUSPENDED
    assert effects == ([events.StopTransfer()] if state.is_active else [])
    assert after.files == job.files
    assert (after.retry_at, after.stalled_since, after.stalled_seconds) == (None, None, 0.0)


def test_t16_resume_queues_a_failed_job_and_drops_its_notice(a_job: MakeJob, now: Now) -> None:
    after, effects = step(a_job(JobState.ERROR), events.Resume(), now)
    assert (after.state, effects, after.pending_notice) == (JobState.QUEUED, [], None)


def test_t17_the_maximum_download_time_ends_the_job(a_job: MakeJob, now: Now) -> None:
    after, effects = step(a_job(JobState.TRANSFERRING), events.TransferTimeExceeded(), now)
    assert after.state is JobState.ERROR
    assert effects == [events.StopTransfer(), events.Notify(1)]
    assert after.error is not None
    assert (after.error.code, after.error.context) == (0x80200054, ErrorContext.GENERAL_QUEUE_MANAGER)
    assert after.error.identity == "alice (uid 1000)"


@pytest.mark.parametrize(
    "state",
    [
        JobState.SUSPENDED,
        JobState.QUEUED,
        JobState.CONNECTING,
        JobState.TRANSFERRING,
        JobState.TRANSIENT_ERROR,
    ],
)
def test_t18_a_lost_token_fails_every_unfinished_job(
    a_job: MakeJob, an_error: MakeError, now: Now, state: JobState
) -> None:
    error = an_error(codes.BG_E_TOKEN_REQUIRED)
    after, effects = step(a_job(state), events.TokenLost(error=error), now)
    assert (after.state, after.error) == (JobState.ERROR, error)
    assert effects[-1] == events.Notify(1)


@pytest.mark.parametrize("state", [JobState.ERROR, JobState.TRANSFERRED, JobState.ACKNOWLEDGED, JobState.CANCELLED])
def test_t18_what_is_finished_does_not_need_the_token(
    a_job: MakeJob, an_error: MakeError, now: Now, state: JobState
) -> None:
    job = a_job(state)
    assert step(job, events.TokenLost(error=an_error(codes.BG_E_TOKEN_REQUIRED)), now) == (job, [])


def test_t19_a_refused_file_from_the_origin_fails_the_job_and_resume_fetches_it_again(a_job: MakeJob, now: Now) -> None:
    job, effects = step(a_job(JobState.TRANSFERRED), events.ValidationRefused(file_index=0, is_from_peer=False), now)
    assert (job.state, effects) == (JobState.ERROR, [events.Notify(2)])
    assert job.error is not None
    assert (job.error.code, job.error.context) == (0x80200053, ErrorContext.REMOTE_FILE)
    assert (job.files[0].transferred_bytes, job.files[0].is_transferred) == (0, False)
    job, _ = step(job, events.Resume(), now)
    assert job.transferred_at is None
    _, effects = step(job, events.SlotGranted(), now)
    assert effects == [events.StartTransfer(epoch=2)]


def test_t20_a_refused_file_from_a_peer_is_fetched_from_the_origin(a_job: MakeJob, now: Now) -> None:
    after, effects = step(a_job(JobState.TRANSFERRED), events.ValidationRefused(file_index=0, is_from_peer=True), now)
    assert (after.state, effects) == (JobState.QUEUED, [])
    assert (after.transferred_at, after.pending_notice, after.error) == (None, None, None)
    assert after.current_file == 0


def test_t20_a_suspended_job_stays_suspended(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.SUSPENDED, files=a_job(JobState.TRANSFERRED).files)
    after, _ = step(job, events.ValidationRefused(file_index=0, is_from_peer=True), now)
    assert (after.state, after.current_file) == (JobState.SUSPENDED, 0)


@pytest.mark.parametrize("state", [JobState.CONNECTING, JobState.TRANSFERRING])
def test_t21_a_declined_certificate_is_tried_again(
    a_job: MakeJob, an_error: MakeError, now: Now, state: JobState
) -> None:
    error = an_error(codes.E_FAIL, context=ErrorContext.SERVER_CERTIFICATE_CALLBACK)
    after, effects = step(a_job(state), events.CertificateDeclined(epoch=1, error=error), now)
    assert (after.state, effects) == (JobState.TRANSIENT_ERROR, [events.StopTransfer()])
    assert (after.error, after.retry_at) == (error, now.boot + 1)


def test_t22_complete_publishes_and_ends_the_job(a_job: MakeJob, now: Now) -> None:
    job, effects = step(a_job(JobState.TRANSFERRED), events.Complete(), now)
    assert effects == [events.PublishFiles()]
    job, effects = step(job, events.FilesPublished(file_indexes=(0,)), now)
    assert (job.files[0].is_published, job.files[0].temporary, effects) == (True, None, [])
    job, effects = step(job, events.PublishingEnded(error=None), now)
    assert (job.state, effects, job.pending_notice) == (JobState.ACKNOWLEDGED, [], None)
    assert job.transferred_at is not None


def test_t22_an_upload_has_nothing_to_rename(a_job: MakeJob, a_file: MakeFile, now: Now) -> None:
    job = a_job(JobState.TRANSFERRED, type=JobType.UPLOAD, files=(a_file(is_transferred=True),))
    job, _ = step(job, events.Complete(), now)
    job, effects = step(job, events.PublishingEnded(error=None), now)
    assert (job.state, effects) == (JobState.ACKNOWLEDGED, [])


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
@pytest.mark.parametrize("event", [events.Cancel(), events.InactivityExpired()])
def test_t23_a_job_is_given_up_in_every_state(a_job: MakeJob, now: Now, state: JobState, event: events.Event) -> None:
    job = a_job(state)
    after, effects = step(job, event, now)
    has_temporary = job.files[0].temporary is not None
    assert after.state is JobState.CANCELLED
    assert effects == [
        *([events.StopTransfer()] if state.is_active else []),
        *([events.RemoveTemporaries()] if has_temporary else []),
    ]


@pytest.mark.parametrize("state", [JobState.ERROR, JobState.TRANSFERRED])
def test_t24_more_files_suspend_a_job_that_had_ended(
    a_job: MakeJob, a_file: MakeFile, now: Now, state: JobState
) -> None:
    job = a_job(state)
    after, effects = step(job, events.AddFiles(files=(a_file("second"),)), now)
    assert (after.state, effects, after.pending_notice) == (JobState.SUSPENDED, [], None)
    assert after.files[0] == job.files[0]
    assert after.transferred_at is None


@pytest.mark.parametrize("state", [JobState.CONNECTING, JobState.TRANSFERRING, JobState.TRANSIENT_ERROR])
def test_t25_after_a_restart_whatever_was_active_is_queued(a_job: MakeJob, now: Now, state: JobState) -> None:
    job = a_job(state)
    after, _ = step(job, events.ServiceRestarted(), now)
    assert (after.state, after.error, after.files) == (JobState.QUEUED, job.error, job.files)
    assert (after.retry_at, after.stalled_since) == (None, None)


@pytest.mark.parametrize("state", [JobState.SUSPENDED, JobState.QUEUED, JobState.ERROR, JobState.TRANSFERRED])
def test_t25_the_others_are_as_they_were(a_job: MakeJob, now: Now, state: JobState) -> None:
    job = a_job(state)
    after, effects = step(job, events.ServiceRestarted(), now)
    assert after == job
    assert effects == ([events.Notify(1)] if job.pending_notice else [])


@pytest.mark.parametrize("state", list(JobState))
def test_t25_a_job_whose_token_ended_with_the_service_fails(a_job: MakeJob, now: Now, state: JobState) -> None:
    job = a_job(state, helper_token_flags=TokenFlags.LOCAL_FILE, had_helper_token=True)
    after, effects = step(job, events.ServiceRestarted(), now)
    if not state.is_unfinished:
        assert after.state is state
        return
    assert after.state is JobState.ERROR
    assert effects[-1] == events.Notify(1)
    assert after.error is not None
    assert (after.error.code, after.error.context) == (0x80200056, ErrorContext.GENERAL_QUEUE_MANAGER)


def test_t25_flags_without_a_token_fail_at_first_need_only(a_job: MakeJob, now: Now) -> None:
    after, _ = step(a_job(JobState.QUEUED, helper_token_flags=TokenFlags.NETWORK), events.ServiceRestarted(), now)
    assert after.state is JobState.QUEUED


def test_t25_a_complete_that_was_cut_off_goes_on(a_job: MakeJob, now: Now) -> None:
    for state in (JobState.SUSPENDED, JobState.ERROR, JobState.TRANSFERRED):
        job = a_job(state, is_completing=True, helper_token_flags=TokenFlags.LOCAL_FILE, had_helper_token=True)
        after, effects = step(job, events.ServiceRestarted(), now)
        assert (after, effects[0]) == (job, events.PublishFiles())


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.ACKNOWLEDGED])
def test_t25_a_tombstone_tries_again_to_remove_its_temporaries(
    a_job: MakeJob, a_file: MakeFile, a_temporary: Callable[..., Temporary], now: Now, state: JobState
) -> None:
    job = a_job(state, files=(a_file(), a_file("second", temporary=a_temporary())))
    assert step(job, events.ServiceRestarted(), now) == (job, [events.RemoveTemporaries()])


# -- the no-progress clock (jobs.md §3.4, OPEN-07) --------------------------------------------------------------------


def test_the_clock_starts_with_the_first_error_and_bytes_set_it_back(
    a_job: MakeJob, an_error: MakeError, now: Now
) -> None:
    job, _ = step(a_job(JobState.TRANSFERRING), failed(an_error()), now)
    assert (job.stalled_since, job.stalled_seconds) == (now.boot, 0.0)
    job, _ = step(job, events.RetryDue(), later(now, 1))
    job, _ = step(job, events.SlotGranted(), later(now, 1))
    same = events.Progressed(epoch=job.epoch, file_index=0, transferred_bytes=50)
    job, _ = step(job, same, later(now, 2))
    assert (job.attempt, gives_up_at(job)) == (1, now.boot + 14 * DAY)
    job, _ = step(job, replace(same, transferred_bytes=51), later(now, 3))
    assert (job.attempt, job.stalled_since, job.stalled_seconds) == (0, None, 0.0)


def test_a_second_failure_without_progress_does_not_restart_the_clock(
    a_job: MakeJob, an_error: MakeError, now: Now
) -> None:
    job = a_job(JobState.CONNECTING, attempt=1, stalled_since=now.boot - 100, stalled_seconds=20.0)
    job, _ = step(job, failed(an_error()), now)
    assert (job.stalled_seconds, job.stalled_since) == (120.0, now.boot)
    assert next_timer(replace(job, retry_at=None)) == now.boot + 14 * DAY - 120


def test_the_clock_stands_while_the_job_is_blocked(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    job = a_job(JobState.QUEUED, stalled_since=now.boot - 100)
    job, _ = step(job, events.Blocked(error=an_error(codes.BG_E_NETWORK_DISCONNECTED)), now)
    assert (job.stalled_seconds, job.stalled_since) == (100.0, None)
    job, _ = step(job, events.RetryDue(), later(now, 30 * DAY))
    assert (job.stalled_seconds, job.stalled_since) == (100.0, now.boot + 30 * DAY)


def test_the_clock_survives_a_restart_with_a_new_boot_clock(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.TRANSIENT_ERROR, stalled_seconds=500.0, stalled_since=now.boot)
    job, _ = step(job, events.ServiceRestarted(), Now(wall=now.wall + 60, boot=3.0))
    assert (job.stalled_seconds, job.stalled_since) == (500.0, 3.0)


# -- late and odd news ------------------------------------------------------------------------------------------------


def test_news_of_an_older_attempt_is_dropped(a_job: MakeJob, an_error: MakeError, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING, epoch=2)
    for event in (
        connected(1),
        events.Progressed(epoch=1, file_index=0, transferred_bytes=99),
        transferred(1, 0, 100),
        failed(an_error()),
    ):
        assert step(job, event, now) == (job, [])


def test_news_of_a_stopped_job_is_dropped(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.SUSPENDED, epoch=1)
    assert step(job, events.Progressed(epoch=1, file_index=0, transferred_bytes=99), now) == (job, [])


def test_news_of_a_file_that_is_transferred_is_a_defect(a_job: MakeJob, a_file: MakeFile, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING, files=(a_file("first", is_transferred=True), a_file("second")))
    with pytest.raises(InvariantBrokenError):
        step(job, events.Progressed(epoch=1, file_index=0, transferred_bytes=1), now)


def test_a_new_temporary_begins_at_zero_and_the_old_one_is_remembered(
    a_job: MakeJob, a_temporary: Callable[..., Temporary], now: Now
) -> None:
    job = a_job(JobState.TRANSFERRING)
    new = a_temporary(".BIT00000002.tmp", ino=0)
    job, effects = step(job, created(1, 0, new), now)
    assert effects == []
    assert (job.files[0].temporary, job.files[0].transferred_bytes) == (new, 0)
    assert job.leftovers == (Leftover(directory=job.files[0].directory, temporary=a_temporary()),)
    confirmed = replace(new, ino=77)
    job, _ = step(job, created(1, 0, confirmed), now)
    assert (job.files[0].temporary, len(job.leftovers)) == (confirmed, 1)


def test_an_unfinished_file_that_lost_its_temporary_begins_again(a_job: MakeJob, now: Now) -> None:
    after, _ = step(a_job(JobState.CONNECTING), events.TemporariesRemoved(file_indexes=(0,)), now)
    assert (after.files[0].temporary, after.files[0].transferred_bytes) == (None, 0)


def test_a_notice_is_taken_once_and_an_old_one_means_nothing(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.ERROR, notice_seq=4)
    assert step(job, events.NoticeDelivered(3), now) == (job, [])
    after, effects = step(job, events.NoticeDelivered(4), now)
    assert (after.pending_notice, after.notice_seq, effects) == (None, 4, [])


# -- several files of one attempt -------------------------------------------------------------------------------------


def ends(*indexes: int, epoch: int = 1, size_bytes: int = 100, **more: Any) -> events.FilesTransferred:
    """These files end in one turn."""
    files = tuple(events.TransferredFile(file_index=index, size_bytes=size_bytes, **more) for index in indexes)
    return events.FilesTransferred(epoch=epoch, files=files)


def test_files_may_end_in_any_order_and_the_last_one_ends_the_job(a_job: MakeJob, a_file: MakeFile, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING, files=tuple(a_file(name) for name in "abcd"))
    job, effects = step(job, ends(2), now)
    assert (job.state, effects, job.current_file) == (JobState.TRANSFERRING, [], 0)
    job, effects = step(job, ends(0, 1), now)
    assert (job.state, effects, job.current_file) == (JobState.TRANSFERRING, [], 3)
    job, effects = step(job, ends(3), now)
    assert (job.state, effects) == (JobState.TRANSFERRED, [events.StopTransfer(), events.Notify(1)])


def test_what_is_told_of_files_that_came_whole_is_what_a_response_says(
    a_job: MakeJob, a_file: MakeFile, now: Now
) -> None:
    version = Validators(size_bytes=5, etag='"v"')
    told = events.Connected(
        epoch=1, file_index=0, validators=version, size_bytes=5, note="n", response_headers="HTTP/1.1 200 OK"
    )
    job = a_job(JobState.CONNECTING, files=(a_file("a"), a_file("b")))
    job, _ = step(job, ends(0, size_bytes=5, connected=told), now)
    (file, _) = job.files
    assert (file.validators, file.size_bytes, file.note) == (version, 5, "n")
    assert (file.response_headers, file.is_transferred, job.state) == ("HTTP/1.1 200 OK", True, JobState.TRANSFERRING)


def test_of_files_that_end_together_those_before_one_too_many_count(a_job: MakeJob, a_file: MakeFile, now: Now) -> None:
    limit = Properties(max_download_size_bytes=250)
    job = a_job(JobState.TRANSFERRING, properties=limit, files=tuple(a_file(name) for name in "abcd"))
    job, effects = step(job, ends(0, 1, 2, 3), now)
    assert [file.is_transferred for file in job.files] == [True, True, False, False]
    assert (job.state, effects[0]) == (JobState.ERROR, events.StopTransfer())
    assert job.error is not None
    assert (job.error.code, job.error.file_index) == (codes.BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED, 2)


def test_files_that_end_during_the_stop_count_as_finished_all_of_them(
    a_job: MakeJob, a_file: MakeFile, a_temporary: Callable[..., Temporary], now: Now
) -> None:
    files = tuple(a_file(name, temporary=a_temporary(f".BIT0000000{name}.tmp")) for name in "abc")
    job, _ = step(a_job(JobState.TRANSFERRING, files=files), events.Complete(), now)
    job, effects = step(job, ends(0, 2), now)
    assert (effects, [file.is_transferred for file in job.files]) == ([], [True, False, True])
    assert step(job, events.PublishingEnded(error=None), now)[1] == [events.PublishFiles()]


def test_a_file_that_began_again_is_looked_for_anew(a_job: MakeJob, a_file: MakeFile, now: Now) -> None:
    job = a_job(JobState.TRANSFERRING, files=tuple(a_file(name) for name in "abc"))
    job, _ = step(job, ends(0, 1), now)
    assert (job.current_file, job.settled_files) == (2, 2)
    job, _ = step(job, events.ValidationRefused(file_index=0, is_from_peer=True), now)
    assert (job.state, job.current_file) == (JobState.QUEUED, 0)


def test_names_and_proofs_of_several_temporaries_are_one_step_each(
    a_job: MakeJob, a_file: MakeFile, a_temporary: Callable[..., Temporary], now: Now
) -> None:
    job = a_job(JobState.CONNECTING, files=(a_file("a"), a_file("b")))
    planned = [a_temporary(f".BIT0000000{number}.tmp", ino=0) for number in (1, 2)]
    for made in (planned, [replace(one, ino=7) for one in planned]):
        new = tuple(events.CreatedTemporary(file_index=index, temporary=one) for index, one in enumerate(made))
        job, effects = step(job, events.TemporariesCreated(epoch=1, files=new), now)
        assert ([file.temporary for file in job.files], effects, job.leftovers) == (made, [], ())


# -- HIGH_PERFORMANCE (jobs.md §13) -----------------------------------------------------------------------------------


def test_a_file_that_has_its_final_name_is_the_one_that_was_made(
    a_job: MakeJob, a_file: MakeFile, a_temporary: Callable[..., Temporary], now: Now
) -> None:
    made = a_temporary(".BIT00000002.tmp")
    job = a_job(JobState.CONNECTING, files=(a_file("data.bin", temporary=made),))
    job, _ = step(job, created(1, 0, replace(made, name="data.bin")), now)
    assert (job.files[0].is_placed, job.leftovers) == (True, ())


def test_what_was_written_straight_into_the_destination_is_never_removed(
    a_job: MakeJob, a_file: MakeFile, a_temporary: Callable[..., Temporary], now: Now
) -> None:
    half = a_file("data.bin", temporary=a_temporary("data.bin"), transferred_bytes=50)
    job = a_job(JobState.TRANSFERRING, files=(half,))
    cancelled, _ = step(job, events.Cancel(), now)
    assert (removable(cancelled), is_forgotten(cancelled)) == ((), True)
    again, _ = step(job, created(1, 0, a_temporary(".BIT00000003.tmp", ino=0)), now)
    assert (again.leftovers, again.files[0].transferred_bytes) == ((), 0)
