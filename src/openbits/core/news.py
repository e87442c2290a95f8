"""What happens to a job without a client asking: slots, news of attempts, conditions, publishing, restarts."""

from dataclasses import replace

from openbits.core import codes, events, notices, ranges, transitions
from openbits.core.codes import CodeClass
from openbits.core.enums import JobState
from openbits.core.events import Event
from openbits.core.model import Job, Now
from openbits.core.moves import (
    Handler,
    InvariantBrokenError,
    Result,
    begin_completing,
    current_file,
    enter,
    fail,
    fail_by_class,
    flowing,
    go_on,
    own_error,
    running_clock,
    with_arrived,
    with_copy,
    with_empty_file,
    with_file,
    with_progress,
    with_transfer_time,
    without_temporary,
)
from openbits.core.timers import transferred_for
from openbits.core.wording import name_of

MAX_RESTARTS = 3
"""A remote file may change so often before its job fails (OPEN-44)."""

NEWS = (
    events.TemporaryCreated,
    events.TemporaryAdopted,
    events.Connected,
    events.Progressed,
    events.RangesFilled,
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
    events.InactivityExpired,
)
"""What may arrive in any state and matters only where the table has a row for it."""


def is_meaningless(job: Job, event: Event) -> bool:
    """Late news, or a condition that does not concern the present state: dropped silently."""
    if isinstance(event, NEWS):
        is_finish = isinstance(event, events.FileTransferred) and event.file_index == job.next_file
        return event.epoch != job.epoch or not (job.state.is_active or (job.is_completing and is_finish))
    if isinstance(event, CONDITIONS):
        return job.is_completing or (job.state, type(event)) not in transitions.CONCERNED
    return False


# -- slots and news of attempts -------------------------------------------------------------------------------------


def _slot_granted(job: Job, _event: events.SlotGranted, now: Now) -> Result:
    if job.state is not JobState.QUEUED:
        raise InvariantBrokenError(f"a slot was granted to {name_of(job)}, which is {job.state.name}")
    return go_on(enter(job, JobState.CONNECTING, now), now)  # if nothing is left to move, on to the end at once


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


def _remote_directory_found(job: Job, event: events.RemoteDirectoryFound, _now: Now) -> Result:
    if job.state.is_final or job.files[event.file_index].present_remote_name != event.remote_name:
        return job, []
    return with_file(job, event.file_index, remote_directory=event.directory), []


def _connected(job: Job, event: events.Connected, now: Now) -> Result:
    index, remote_bytes = event.file_index, event.size_bytes
    file = current_file(job, index)
    told = {
        "validators": event.validators,
        "size_bytes": ranges.local_size(file.ranges, remote_bytes) if file.ranges else remote_bytes,
        "note": event.note or file.note,
        "response_headers": event.response_headers or file.response_headers,
        "source_mode": event.source_mode,
    }
    after = flowing(with_file(job, index, **told), now)
    outside = None if remote_bytes is None else ranges.first_outside((*file.ranges, *file.wanted), remote_bytes)
    if outside is None:
        return _within_limit(after, index, now), []
    unasked = with_file(after, index, wanted=())  # else it would fail again
    detail = f"the range {ranges.shown(outside)} is not inside the file, which has {remote_bytes} bytes"
    return fail(unasked, own_error(job, codes.BG_E_INVALID_RANGE, now, file_index=index, detail=detail), now), []


def _progressed(job: Job, event: events.Progressed, now: Now) -> Result:
    index, arrived = event.file_index, event.transferred_bytes
    file = current_file(job, index)
    is_growth = arrived > file.transferred_bytes
    after = with_file(with_transfer_time(job, now, is_running=True), index, transferred_bytes=arrived)
    if file.filled or file.wanted:
        after = with_arrived(after, index, ())
    return _within_limit(flowing(with_progress(after) if is_growth else after, now), index, now), []


def _ranges_filled(job: Job, event: events.RangesFilled, now: Now) -> Result:
    index = event.file_index
    before = current_file(job, index)
    arrived = with_arrived(with_transfer_time(job, now, is_running=True), index, event.ranges)
    file = arrived.files[index]
    is_growth = file.arrived_bytes > before.arrived_bytes
    after = _within_limit(flowing(with_progress(arrived) if is_growth else arrived, now), index, now)
    if after.state is JobState.ERROR:
        return after, []
    if file.size_bytes is not None and file.transferred_bytes >= file.size_bytes:
        return go_on(_finished(after, index), now)
    is_at_rest = job.properties.on_demand_mode and not file.wanted
    return go_on(after, now) if is_at_rest else (after, [])


def _within_limit(job: Job, index: int, now: Now) -> Job:
    """The job, failed if its files have more bytes than it may download (MAX_DOWNLOAD_SIZE, jobs.md §13)."""
    if not _is_too_large(job):
        return job
    detail = f"its files have more than {job.properties.max_download_size_bytes} bytes"
    error = own_error(job, codes.BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED, now, file_index=index, detail=detail)
    return fail(job, error, now)


def _is_too_large(job: Job) -> bool:
    most = job.properties.max_download_size_bytes
    return most is not None and sum(max(file.size_bytes or 0, file.arrived_bytes) for file in job.files) > most


def _file_restarted(job: Job, event: events.FileRestarted, now: Now) -> Result:
    file = current_file(job, event.file_index)
    restarts = file.restarts + 1
    after = with_empty_file(job, event.file_index, restarts=restarts, note=event.note)
    is_in_parts = bool(file.ranges) or job.properties.on_demand_mode
    if restarts <= MAX_RESTARTS and not is_in_parts:
        return after, []
    often = "parts of it that were delivered are of no use any more" if is_in_parts else f"{restarts} times"
    detail = f"the file had to begin again, {often}; the last time because: {event.note}"
    error = own_error(job, codes.BG_E_REMOTE_FILE_CHANGED, now, file_index=event.file_index, detail=detail)
    return fail(after, error, now), []


def _file_transferred(job: Job, event: events.FileTransferred, now: Now) -> Result:
    current_file(job, event.file_index)
    size = event.size_bytes
    here = with_file(job, event.file_index, size_bytes=size, transferred_bytes=size)
    if _is_too_large(here):  # then it is not finished
        return (job if job.is_completing else _within_limit(flowing(here, now), event.file_index, now)), []
    moved = with_file(here, event.file_index, has_source_acl=event.has_source_acl)
    if job.files[event.file_index].is_upload:  # it has its final name already (jobs.md §11.1)
        moved = with_file(moved, event.file_index, is_published=True, temporary=None)
    done = _finished(moved, event.file_index)
    if job.is_completing:  # it finished during the stop and counts as finished (jobs.md §8.4)
        return done, []
    return go_on(flowing(with_progress(done), now), now)


def _finished(job: Job, index: int) -> Job:
    """All bytes of the file are here."""
    return notices.with_file_notice(with_file(job, index, is_transferred=True, filled=(), wanted=()), index)


def _attempt_failed(job: Job, event: events.AttemptFailed, now: Now) -> Result:
    code_class = codes.classify(event.error.code)
    if event.is_transient or event.is_fatal:
        code_class = CodeClass.TRANSIENT if event.is_transient else CodeClass.FATAL
    index, told = event.error.file_index, event.response_headers
    after = job if index is None or not told else with_file(job, index, response_headers=told)
    return fail_by_class(after, event.error, code_class, event.spread, now), []


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
    detail = f"the job was connecting and transferring for {transferred_for(job, now):.0f} s altogether"
    return fail(job, own_error(job, codes.BG_E_MAXDOWNLOAD_TIMEOUT, now, detail=detail), now), []


def _token_lost(job: Job, event: events.TokenLost, now: Now) -> Result:
    return fail(job, event.error, now), []


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
    return with_file(job, event.file_index, is_published=True, is_valid=True, temporary=None), []


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
    return notices.without_due(job, event.notice_seq), []


def _secrets_resealed(job: Job, event: events.SecretsResealed, _now: Now) -> Result:
    return (job if job.state.is_final else replace(job, secrets=event.secrets)), []


HANDLERS: dict[type[Event], Handler] = {
    events.SlotGranted: _slot_granted,
    events.SlotRevoked: _slot_revoked,
    events.TemporaryCreated: _temporary_created,
    events.LeftoverNoted: _leftover_noted,
    events.TemporaryAdopted: _temporary_adopted,
    events.RemoteDirectoryFound: _remote_directory_found,
    events.Connected: _connected,
    events.Progressed: _progressed,
    events.RangesFilled: _ranges_filled,
    events.FileRestarted: _file_restarted,
    events.FileTransferred: _file_transferred,
    events.AttemptFailed: _attempt_failed,
    events.CertificateDeclined: _certificate_declined,
    events.Blocked: _blocked,
    events.RetryDue: _retry_due,
    events.NoProgressExpired: _no_progress_expired,
    events.TransferTimeExceeded: _transfer_time_exceeded,
    events.TokenLost: _token_lost,
    events.InactivityExpired: _inactivity_expired,
    events.ServiceRestarted: _service_restarted,
    events.FilePublished: _file_published,
    events.PublishingEnded: _publishing_ended,
    events.TemporariesRemoved: _temporaries_removed,
    events.NoticeDelivered: _notice_delivered,
    events.SecretsResealed: _secrets_resealed,
}
