"""What happens to a job without a client asking: slots, news of attempts, conditions, publishing, restarts."""

from dataclasses import replace

from openbits.core import abandoning, codes, events, notices, ranges, scheduler, transitions, uploading
from openbits.core.codes import CodeClass
from openbits.core.enums import JobState
from openbits.core.events import Event
from openbits.core.model import File, Job, Now, Range, Temporary
from openbits.core.moves import (
    Handler,
    InvariantBrokenError,
    Result,
    begin_completing,
    empty,
    enter,
    fail,
    fail_by_class,
    finished,
    flowing,
    go_on,
    moving_file,
    own_error,
    running_clock,
    start,
    with_arrived,
    with_copy,
    with_empty_file,
    with_file,
    with_files,
    with_progress,
    with_transfer_time,
    without_temporary,
)
from openbits.core.reply import with_proof
from openbits.core.timers import transferred_for
from openbits.core.wording import name_of

MAX_RESTARTS = 3
"""A file may begin again so often within RESTART_SECONDS before its job fails (OPEN-44)."""

RESTART_SECONDS = 86_400.0

NEWS = (
    events.TemporariesCreated,
    events.TemporaryAdopted,
    events.Connected,
    events.Progressed,
    events.Acknowledged,
    events.ReplyMoved,
    events.RangesFilled,
    events.FileRestarted,
    events.FilesTransferred,
    events.AttemptFailed,
    events.Postponed,
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
        if event.epoch != job.epoch:
            return True
        return not (job.state.is_active or (job.is_completing and _is_finish(job, event)))
    if isinstance(event, CONDITIONS):
        return job.is_completing or (job.state, type(event)) not in transitions.CONCERNED
    return False


def _is_finish(job: Job, event: Event) -> bool:
    if not isinstance(event, events.FilesTransferred):
        return False
    return not any(job.file_at(one.file_index).is_transferred for one in event.files)


# -- slots and news of attempts -------------------------------------------------------------------------------------


def _slot_granted(job: Job, _event: events.SlotGranted, now: Now) -> Result:
    if job.state is not JobState.QUEUED:
        raise InvariantBrokenError(f"a slot was granted to {name_of(job)}, which is {job.state.name}")
    ready, effects = go_on(enter(job, JobState.CONNECTING, now), now)
    return start(ready) if ready.state.is_active else (ready, effects)  # nothing left to move: on to the end at once


def _slot_revoked(job: Job, _event: events.SlotRevoked, now: Now) -> Result:
    return enter(job, JobState.QUEUED, now), []


def _temporaries_created(job: Job, event: events.TemporariesCreated, _now: Now) -> Result:
    after, changed = job, {}
    for made in event.files:
        index, file = made.file_index, moving_file(job, made.file_index)
        if file.temporary is not None and not _is_same(file, made.temporary):
            after = without_temporary(after, index)
        changed[index] = empty(file, temporary=made.temporary, note=made.note or file.note)
    return with_files(after, changed), []


def _is_same(file: File, made: Temporary) -> bool:
    """What was announced is there now, or has got its final name (HIGH_PERFORMANCE)."""
    known = file.temporary
    if known is None:
        return False
    is_placed = made.name == file.name and replace(known, name=made.name) == made
    return known.name == made.name or is_placed


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
    moving_file(job, event.file_index)
    return with_copy(job, event.file_index, event.temporary), [events.RemoveTemporaries()]


def _remote_directory_found(job: Job, event: events.RemoteDirectoryFound, _now: Now) -> Result:
    if job.state.is_final or job.files[event.file_index].present_remote_name != event.remote_name:
        return job, []
    return with_file(job, event.file_index, remote_directory=event.directory), []


def _connected(job: Job, event: events.Connected, now: Now) -> Result:
    index = event.file_index
    file = moving_file(job, index)
    after = flowing(with_files(job, {index: _told(file, event)}), now)
    outside = _range_outside(file, event)
    if outside is None:
        return _within_limit(after, index, now), []
    unasked = with_file(after, index, wanted=())  # else it would fail again
    detail = f"the range {ranges.shown(outside)} is not inside the file, which has {event.size_bytes} bytes"
    return fail(unasked, own_error(job, codes.BG_E_INVALID_RANGE, now, file_index=index, detail=detail), now), []


def _told(file: File, event: events.Connected) -> File:
    """The file with what the response told of it."""
    return replace(
        _renamed(file, event.remote_name),
        validators=event.validators,
        size_bytes=ranges.local_size(file.ranges, event.size_bytes) if file.ranges else event.size_bytes,
        note=event.note or file.note,
        response_headers=event.response_headers or file.response_headers,
        source_mode=event.source_mode,
    )


def _renamed(file: File, reported: str) -> File:
    """The file under the remote name that a redirect gives it (jobs.md §9.4), unless a client has a newer one."""
    if not reported or file.new_remote_name:
        return file
    given = file.given_remote_name or file.remote_name
    return replace(file, remote_name=reported, given_remote_name="" if reported == given else given)


def _range_outside(file: File, event: events.Connected) -> Range | None:
    """The first range of the file that the remote one does not have, as far as its size is known."""
    return None if event.size_bytes is None else ranges.first_outside((*file.ranges, *file.wanted), event.size_bytes)


def _progressed(job: Job, event: events.Progressed, now: Now) -> Result:
    index, arrived = event.file_index, event.transferred_bytes
    file = moving_file(job, index)
    is_growth = arrived > file.transferred_bytes
    after = with_file(with_transfer_time(job, now, is_running=True), index, transferred_bytes=arrived)
    if file.filled or file.wanted:
        after = with_arrived(after, index, ())
    return _within_limit(flowing(with_progress(after) if is_growth else after, now), index, now), []


def _ranges_filled(job: Job, event: events.RangesFilled, now: Now) -> Result:
    index = event.file_index
    before = moving_file(job, index)
    arrived = with_arrived(with_transfer_time(job, now, is_running=True), index, event.ranges)
    file = arrived.file_at(index)
    is_growth = file.arrived_bytes > before.arrived_bytes
    after = _within_limit(flowing(with_progress(arrived) if is_growth else arrived, now), index, now)
    if after.state is JobState.ERROR:
        return after, []
    if file.size_bytes is not None and file.transferred_bytes >= file.size_bytes:
        done = with_files(after, {index: finished(file)})
        return go_on(notices.with_file_notice(done, index), now)
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
    file = moving_file(job, event.file_index)
    since = file.restarts_since
    is_new_day = since is None or not 0 <= now.wall - since < RESTART_SECONDS
    restarts = 1 if is_new_day else file.restarts + 1
    is_in_parts = bool(file.ranges) or job.properties.on_demand_mode
    is_allowed = restarts <= MAX_RESTARTS and not is_in_parts
    note = f"{event.note}; begun again ({restarts} of {MAX_RESTARTS} times a day)" if is_allowed else event.note
    counted = {"restarts": restarts, "restarts_since": now.wall if is_new_day else since}
    after = with_empty_file(job, event.file_index, note=note, **counted)
    if is_allowed:
        return after, []
    often = "parts of it that were delivered are of no use any more" if is_in_parts else f"{restarts} times"
    detail = f"the file had to begin again, {often}; the last time because: {event.note}"
    error = own_error(job, event.hresult, now, file_index=event.file_index, detail=detail)
    return fail(after, error, now), []


def _files_transferred(job: Job, event: events.FilesTransferred, now: Now) -> Result:
    """All of them in one step, unless one of them may not be finished: then one after the other, up to that one."""
    moving = [(one, moving_file(job, one.file_index)) for one in event.files]
    whole = with_files(job, {one.file_index: _whole(file, one) for one, file in moving})
    is_bad = any(one.connected is not None and _range_outside(file, one.connected) for one, file in moving)
    if is_bad or _is_too_large(whole):
        return _transferred_singly(job, event, now) if len(moving) > 1 else (_refused(job, event.files[0], now), [])
    done = whole
    for one in event.files:
        done = notices.with_file_notice(done, one.file_index)
    done = uploading.with_end_of_reply(done)
    if job.is_completing:  # they finished during the stop and count as finished (jobs.md §8.4)
        return done, []
    return go_on(flowing(with_progress(done), now), now)


def _transferred_singly(job: Job, event: events.FilesTransferred, now: Now) -> Result:
    after, effects = job, list[events.Effect]()
    for one in event.files:
        if after.state.is_active or after.is_completing:
            after, effects = _files_transferred(after, replace(event, files=(one,)), now)
    return after, effects


def _refused(job: Job, one: events.TransferredFile, now: Now) -> Job:
    """The file does not count as finished: the job may not have so many bytes, or those asked for are not in it."""
    if job.is_completing:
        return job
    after = job if one.connected is None else _connected(job, one.connected, now)[0]
    if after.state is JobState.ERROR:
        return after
    here = with_file(after, one.file_index, size_bytes=one.size_bytes, transferred_bytes=one.size_bytes)
    return _within_limit(flowing(here, now), one.file_index, now)


def _whole(file: File, one: events.TransferredFile) -> File:
    """The file as it is when all its bytes are here."""
    told = file if one.connected is None else _told(file, one.connected)
    arrived = finished(
        told, size_bytes=one.size_bytes, transferred_bytes=one.size_bytes, has_source_acl=one.has_source_acl
    )
    if file.is_upload:  # it has its final name already (jobs.md §11.1)
        arrived = replace(arrived, is_published=True, temporary=None, session=None)
    return arrived


def _attempt_failed(job: Job, event: events.AttemptFailed, now: Now) -> Result:
    code_class = codes.classify(event.error.code)
    if event.is_transient or event.is_fatal:
        code_class = CodeClass.TRANSIENT if event.is_transient else CodeClass.FATAL
    index, told = event.error.file_index, event.response_headers
    after = job if index is None or not told else with_file(job, index, response_headers=told)
    if index is not None:
        after = with_files(after, {index: _renamed(after.files[index], event.remote_name)})
    return fail_by_class(after, event.error, code_class, event.spread, now), []


def _certificate_declined(job: Job, event: events.CertificateDeclined, now: Now) -> Result:
    return fail_by_class(job, event.error, CodeClass.TRANSIENT, event.spread, now), []


def _postponed(job: Job, event: events.Postponed, now: Now) -> Result:
    """Not an attempt: neither the count of failures nor the no-progress clock goes on."""
    wait_seconds = scheduler.retry_delay(1, 0.0, event.error.retry_after_seconds, 0.0) * (1 + event.spread)
    waiting = replace(enter(job, JobState.TRANSIENT_ERROR, now), error=event.error, stalled_since=None)
    return replace(waiting, retry_at=now.boot + wait_seconds), []


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


def _files_published(job: Job, event: events.FilesPublished, _now: Now) -> Result:
    changed = {}
    for index in event.file_indexes:
        file = job.file_at(index)
        if not (job.is_completing and file.is_transferred):
            raise InvariantBrokenError(f"file {index} of {name_of(job)} was published unasked")
        changed[index] = replace(with_proof(file), is_published=True, is_valid=True, temporary=None)
    return with_files(job, changed), []


def _publishing_ended(job: Job, event: events.PublishingEnded, now: Now) -> Result:
    if not job.is_completing:
        raise InvariantBrokenError(f"publishing ended of {name_of(job)}, which is not being completed")
    if event.error is None and any(file.is_transferred and file.temporary is not None for file in job.every_file):
        return job, [events.PublishFiles()]  # a file finished during the stop
    after = replace(job, is_completing=False)
    if event.error is None:
        return enter(after, JobState.ACKNOWLEDGED, now), []
    if event.lost_file is not None and event.lost_file != job.reply_index:  # which no server has any more
        after = without_temporary(after, event.lost_file)
    is_unfinished = job.state is JobState.ERROR or after.current_file is not None
    return (enter(after, JobState.SUSPENDED, now) if is_unfinished else after), []


def _temporaries_removed(job: Job, event: events.TemporariesRemoved, _now: Now) -> Result:
    after = replace(job, leftovers=tuple(item for item in job.leftovers if item not in event.leftovers))
    changed = {}
    for index in event.file_indexes:
        file = job.file_at(index)
        if not job.state.is_final and file.is_transferred:
            raise InvariantBrokenError(f"file {index} of {name_of(job)} is transferred and its temporary was removed")
        left = file if job.state.is_final else empty(file)  # a tombstone keeps its progress to be read
        changed[index] = replace(left, temporary=None)
    return with_files(after, changed), []


def _notice_delivered(job: Job, event: events.NoticeDelivered, _now: Now) -> Result:
    return notices.without_due(job, event.notice_seq), []


def _session_dropped(job: Job, event: events.SessionDropped, _now: Now) -> Result:
    if abandoning.abandoned(job) != event.file_index:
        return job, []
    return replace(with_file(job, event.file_index, session=None), secrets=()), []


def _secrets_resealed(job: Job, event: events.SecretsResealed, _now: Now) -> Result:
    return (replace(job, secrets=event.secrets) if job.secrets else job), []  # or they were erased meanwhile


HANDLERS: dict[type[Event], Handler] = {
    events.SlotGranted: _slot_granted,
    events.SlotRevoked: _slot_revoked,
    events.TemporariesCreated: _temporaries_created,
    events.LeftoverNoted: _leftover_noted,
    events.TemporaryAdopted: _temporary_adopted,
    events.RemoteDirectoryFound: _remote_directory_found,
    events.Connected: _connected,
    events.Progressed: _progressed,
    events.Acknowledged: uploading.acknowledged,
    events.ReplyMoved: uploading.reply_moved,
    events.RangesFilled: _ranges_filled,
    events.FileRestarted: _file_restarted,
    events.FilesTransferred: _files_transferred,
    events.AttemptFailed: _attempt_failed,
    events.Postponed: _postponed,
    events.CertificateDeclined: _certificate_declined,
    events.Blocked: _blocked,
    events.RetryDue: _retry_due,
    events.NoProgressExpired: _no_progress_expired,
    events.TransferTimeExceeded: _transfer_time_exceeded,
    events.TokenLost: _token_lost,
    events.InactivityExpired: _inactivity_expired,
    events.ServiceRestarted: _service_restarted,
    events.FilesPublished: _files_published,
    events.PublishingEnded: _publishing_ended,
    events.TemporariesRemoved: _temporaries_removed,
    events.NoticeDelivered: _notice_delivered,
    events.SessionDropped: _session_dropped,
    events.SecretsResealed: _secrets_resealed,
}
