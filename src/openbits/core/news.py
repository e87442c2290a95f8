"""What happens to a job without a client asking: slots, news of attempts, conditions, publishing, restarts."""

from dataclasses import replace

from openbits.core import codes, events, transitions
from openbits.core.codes import CodeClass
from openbits.core.enums import JobState
from openbits.core.events import Event
from openbits.core.model import Job, Now
from openbits.core.moves import (
    Handler,
    InvariantBrokenError,
    Result,
    all_transferred,
    begin_completing,
    current_file,
    enter,
    fail,
    fail_by_class,
    flowing,
    own_error,
    running_clock,
    start,
    with_copy,
    with_empty_file,
    with_file,
    with_progress,
    without_temporary,
)
from openbits.core.wording import name_of

MAX_RESTARTS = 3
"""A remote file may change so often before its job fails (OPEN-44)."""

NEWS = (
    events.TemporaryCreated,
    events.TemporaryAdopted,
    events.Connected,
    events.Progressed,
    events.FileRestarted,
    events.FileTransferred,
    events.AttemptFailed,
    events.CertificateDeclined,
)
"""What an attempt reports; only the present attempt is listened to."""

CONDITIONS = (
    events.SlotRevoked,
    events.RetryDue,
    events.NoProgressExpired,
    events.Blocked,
    events.TransferTimeExceeded,
    events.TokenLost,
    events.RequestedRangesFilled,
    events.InactivityExpired,
)
"""What may arrive in any state and matters only where the table has a row for it."""


def is_meaningless(job: Job, event: Event) -> bool:
    """Late news, or a condition that does not concern the present state: dropped silently."""
    if isinstance(event, NEWS):
        is_finish = isinstance(event, events.FileTransferred) and event.file_index == job.current_file
        return event.epoch != job.epoch or not (job.state.is_active or (job.is_completing and is_finish))
    if isinstance(event, CONDITIONS):
        return job.is_completing or (job.state, type(event)) not in transitions.CONCERNED
    return False


# -- slots and news of attempts -------------------------------------------------------------------------------------


def _slot_granted(job: Job, _event: events.SlotGranted, now: Now) -> Result:
    if job.state is not JobState.QUEUED:
        raise InvariantBrokenError(f"a slot was granted to {name_of(job)}, which is {job.state.name}")
    connecting = enter(job, JobState.CONNECTING, now)
    index = job.current_file
    if index is None:  # nothing is left to move: through CONNECTING and TRANSFERRING (T4, T5) without traffic
        return all_transferred(flowing(connecting, now), now)
    return start(connecting, index)


def _slot_revoked(job: Job, _event: events.SlotRevoked, now: Now) -> Result:
    return enter(job, JobState.QUEUED, now), []


def _temporary_created(job: Job, event: events.TemporaryCreated, _now: Now) -> Result:
    file = current_file(job, event.file_index)
    is_confirmed = file.temporary is not None and file.temporary.name == event.temporary.name
    emptied = job if is_confirmed else without_temporary(job, event.file_index)
    return with_empty_file(emptied, event.file_index, temporary=event.temporary, note=event.note or file.note), []


def _leftover_noted(job: Job, event: events.LeftoverNoted, _now: Now) -> Result:
    if job.state.is_final:  # nothing is made for it any more
        return job, []
    noted = event.leftover
    others = tuple(
        item
        for item in job.leftovers
        if (item.directory, item.temporary.name) != (noted.directory, noted.temporary.name)
    )
    return replace(job, leftovers=(*others, noted)), []


def _temporary_adopted(job: Job, event: events.TemporaryAdopted, _now: Now) -> Result:
    current_file(job, event.file_index)
    return with_copy(job, event.file_index, event.temporary), [events.RemoveTemporaries()]


def _connected(job: Job, event: events.Connected, now: Now) -> Result:
    note = event.note or current_file(job, event.file_index).note
    told = {"validators": event.validators, "size_bytes": event.size_bytes, "note": note}
    return flowing(with_file(job, event.file_index, **told), now), []


def _progressed(job: Job, event: events.Progressed, now: Now) -> Result:
    is_growth = event.transferred_bytes > current_file(job, event.file_index).transferred_bytes
    after = with_file(job, event.file_index, transferred_bytes=event.transferred_bytes)
    return flowing(with_progress(after) if is_growth else after, now), []


def _file_restarted(job: Job, event: events.FileRestarted, now: Now) -> Result:
    restarts = current_file(job, event.file_index).restarts + 1
    after = with_empty_file(job, event.file_index, restarts=restarts, note=event.note)
    if restarts <= MAX_RESTARTS:
        return after, []
    detail = f"the file had to begin again {restarts} times, the last time because: {event.note}"
    error = own_error(job, codes.BG_E_REMOTE_FILE_CHANGED, now, file_index=event.file_index, detail=detail)
    return fail(after, error, now), []


def _file_transferred(job: Job, event: events.FileTransferred, now: Now) -> Result:
    current_file(job, event.file_index)
    size = event.size_bytes
    done = with_file(job, event.file_index, is_transferred=True, size_bytes=size, transferred_bytes=size)
    if job.is_completing:  # it finished during the stop and counts as finished (jobs.md §8.4)
        return done, []
    after = flowing(with_progress(done), now)
    index = after.current_file
    return all_transferred(after, now) if index is None else start(after, index)


def _attempt_failed(job: Job, event: events.AttemptFailed, now: Now) -> Result:
    code_class = CodeClass.TRANSIENT if event.is_transient else codes.classify(event.error.code)
    return fail_by_class(job, event.error, code_class, event.spread, now), []


def _certificate_declined(job: Job, event: events.CertificateDeclined, now: Now) -> Result:
    return fail_by_class(job, event.error, CodeClass.TRANSIENT, event.spread, now), []


# -- conditions, publishing, the service itself ---------------------------------------------------------------------


def _blocked(job: Job, event: events.Blocked, now: Now) -> Result:
    return fail_by_class(job, event.error, CodeClass.EVENT, 0.0, now), []


def _retry_due(job: Job, _event: events.RetryDue, now: Now) -> Result:
    return enter(job, JobState.QUEUED, now), []


def _no_progress_expired(job: Job, _event: events.NoProgressExpired, now: Now) -> Result:
    return enter(job, JobState.ERROR, now), []  # the last error stays as it is (OPEN-10)


def _transfer_time_exceeded(job: Job, _event: events.TransferTimeExceeded, now: Now) -> Result:
    return fail(job, own_error(job, codes.BG_E_MAXDOWNLOAD_TIMEOUT, now), now), []


def _token_lost(job: Job, event: events.TokenLost, now: Now) -> Result:
    return fail(job, event.error, now), []


def _requested_ranges_filled(job: Job, _event: events.RequestedRangesFilled, now: Now) -> Result:
    return enter(job, JobState.SUSPENDED, now), []


def _inactivity_expired(job: Job, _event: events.InactivityExpired, now: Now) -> Result:
    return enter(job, JobState.CANCELLED, now), []


def _service_restarted(job: Job, _event: events.ServiceRestarted, now: Now) -> Result:
    """T25. The boot clock may have begun anew, and no helper token outlives the service (identity.md I-13)."""
    awake = replace(job, stalled_since=running_clock(job, now))
    if job.is_completing:
        return awake, [events.PublishFiles()]
    if job.state is JobState.TRANSFERRED and job.properties.auto_complete and job.current_file is None:
        return begin_completing(awake, now)  # it failed for a reason that may have gone with the old service
    if job.helper_token_flags and job.had_helper_token and job.state.is_unfinished:
        error = own_error(job, codes.BG_E_TOKEN_REQUIRED, now, detail="the token ended when the service stopped")
        return fail(awake, error, now), []
    if job.state.is_active or job.state is JobState.TRANSIENT_ERROR:
        return enter(awake, JobState.QUEUED, now), []
    return awake, []


def _file_published(job: Job, event: events.FilePublished, _now: Now) -> Result:
    if not (job.is_completing and job.files[event.file_index].is_transferred):
        raise InvariantBrokenError(f"file {event.file_index} of {name_of(job)} was published unasked")
    return with_file(job, event.file_index, is_published=True, temporary=None), []


def _publishing_ended(job: Job, event: events.PublishingEnded, now: Now) -> Result:
    if not job.is_completing:
        raise InvariantBrokenError(f"publishing ended of {name_of(job)}, which is not being completed")
    if event.error is None and any(file.is_transferred and file.temporary is not None for file in job.files):
        return job, [events.PublishFiles()]  # a file finished during the stop
    after = replace(job, is_completing=False)
    if event.error is None:
        return enter(after, JobState.ACKNOWLEDGED, now), []
    if event.lost_file is not None:
        after = without_temporary(after, event.lost_file)
    is_unfinished = job.state is JobState.ERROR or after.current_file is not None
    return (enter(after, JobState.SUSPENDED, now) if is_unfinished else after), []


def _temporaries_removed(job: Job, event: events.TemporariesRemoved, _now: Now) -> Result:
    after = replace(job, leftovers=tuple(item for item in job.leftovers if item not in event.leftovers))
    for index in event.file_indexes:
        if job.state.is_final:  # a tombstone keeps its progress to be read
            after = with_file(after, index, temporary=None)
        elif job.files[index].is_transferred:
            raise InvariantBrokenError(f"file {index} of {name_of(job)} is transferred and its temporary was removed")
        else:  # the bytes are gone with their file
            after = with_empty_file(after, index, temporary=None)
    return after, []


def _notice_delivered(job: Job, event: events.NoticeDelivered, _now: Now) -> Result:
    return (replace(job, pending_notice=None) if event.notice_seq == job.notice_seq else job), []


HANDLERS: dict[type[Event], Handler] = {
    events.SlotGranted: _slot_granted,
    events.SlotRevoked: _slot_revoked,
    events.TemporaryCreated: _temporary_created,
    events.LeftoverNoted: _leftover_noted,
    events.TemporaryAdopted: _temporary_adopted,
    events.Connected: _connected,
    events.Progressed: _progressed,
    events.FileRestarted: _file_restarted,
    events.FileTransferred: _file_transferred,
    events.AttemptFailed: _attempt_failed,
    events.CertificateDeclined: _certificate_declined,
    events.Blocked: _blocked,
    events.RetryDue: _retry_due,
    events.NoProgressExpired: _no_progress_expired,
    events.TransferTimeExceeded: _transfer_time_exceeded,
    events.TokenLost: _token_lost,
    events.RequestedRangesFilled: _requested_ranges_filled,
    events.InactivityExpired: _inactivity_expired,
    events.ServiceRestarted: _service_restarted,
    events.FilePublished: _file_published,
    events.PublishingEnded: _publishing_ended,
    events.TemporariesRemoved: _temporaries_removed,
    events.NoticeDelivered: _notice_delivered,
}
