"""The requests of clients: when they are refused (jobs.md §3.3) and what they change."""

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from openbits.core import codes, events, transitions
from openbits.core.enums import JobState, JobType
from openbits.core.errors import BitsError
from openbits.core.events import Event
from openbits.core.model import Job, Now
from openbits.core.moves import (
    NOTICE_OF,
    Handler,
    InvariantBrokenError,
    Result,
    begin_completing,
    enter,
    fail,
    own_error,
    with_copy,
    with_empty_file,
    with_progress,
    without_temporary,
)
from openbits.core.wording import name_of

VERBS: dict[type[Event], str] = {
    events.AddFiles: "add files to",
    events.SetProperties: "change",
    events.SetHelperTokenFlags: "change the helper token flags of",
    events.HelperTokenSet: "change the helper token of",
    events.TakeOwnership: "take ownership of",
    events.Suspend: "suspend",
    events.Resume: "resume",
    events.Cancel: "cancel",
    events.Complete: "complete",
    events.ValidationRefused: "refuse a file of",
}
"""The requests: what a client may ask for, and how a refusal names it."""

STRIPPED: Mapping[str, Any] = {"had_helper_token": False}
"""What TakeOwnership takes from a job (jobs.md §7.2): fields of Job, and their values afterwards.

Credentials, client certificate, custom headers and command line belong here; a test asks it of every new field.
"""


OTHERS_MAY_WRITE = 0o022
"""Bits of a mode that the umask of an old owner must not leave to the files of the new one."""


def refuse_unless_allowed(job: Job, kind: type[Event]) -> None:
    """What holds for every request: the job is not final (jobs.md §2.3) and not being completed."""
    if job.state.is_final:
        raise _forbidden(job, kind, f"it was {'cancelled' if job.state is JobState.CANCELLED else 'completed'}")
    if job.is_completing and kind is not events.Complete:
        raise _forbidden(job, kind, "it is being completed; wait for the end of that")


def _forbidden(job: Job, kind: type[Event], why: str) -> BitsError:
    """BG_E_INVALID_STATE with a text that repeats the first error, so that the second does not hide it."""
    first = f"; its error was: {codes.describe(job.error)}" if job.error is not None else ""
    return BitsError(codes.BG_E_INVALID_STATE, f"cannot {VERBS[kind]} {name_of(job)}: {why}{first}")


def _add_files(job: Job, event: events.AddFiles, now: Now) -> Result:
    if not event.files:
        raise BitsError(codes.E_INVALIDARG, f"cannot add files to {name_of(job)}: the list is empty")
    if job.type is not JobType.DOWNLOAD and len(job.files) + len(event.files) > 1:
        raise BitsError(
            codes.BG_E_TOO_MANY_FILES, f"cannot add files to {name_of(job)}: an upload has exactly one file"
        )
    after = replace(job, files=job.files + event.files)
    return (enter(after, JobState.SUSPENDED, now) if job.state in NOTICE_OF else after), []


REQUEST_SETTINGS = attrgetter("priority", "proxy_usage", "proxy_list", "proxy_bypass_list")
"""What a request was made of: if it changes while one is under way, the job has to make another (T9)."""


def _set_properties(job: Job, event: events.SetProperties, now: Now) -> Result:
    before = job.properties
    after = replace(job, properties=event.properties)
    if job.state.is_active and REQUEST_SETTINGS(event.properties) != REQUEST_SETTINGS(before):
        return enter(after, JobState.QUEUED, now), []
    if job.state is JobState.TRANSFERRED and event.properties.auto_complete and not before.auto_complete:
        return begin_completing(after, now)
    return after, []


def _set_helper_token_flags(job: Job, event: events.SetHelperTokenFlags, now: Now) -> Result:
    after = replace(job, helper_token_flags=event.flags)
    is_restart = job.state.is_active and event.flags != job.helper_token_flags
    return (enter(after, JobState.QUEUED, now) if is_restart else after), []


def _helper_token_set(job: Job, event: events.HelperTokenSet, now: Now) -> Result:
    after = replace(job, had_helper_token=event.is_set)
    is_restart = job.state.is_active and job.helper_token_flags
    return (enter(after, JobState.QUEUED, now) if is_restart else after), []


def _take_ownership(job: Job, event: events.TakeOwnership, now: Now) -> Result:
    after = replace(job, owner=event.owner, umask=job.umask | OTHERS_MAY_WRITE, **STRIPPED)
    for index, copy in event.copies:
        after = with_copy(after, index, copy)
    for index, file in enumerate(after.files):
        made = file.temporary
        if made is not None and not made.by_helper and made.uid != event.owner.uid:
            if file.is_transferred:
                raise InvariantBrokenError(f"file {index} of {name_of(job)} stayed with the old owner")
            after = without_temporary(after, index)
    effects: list[events.Effect] = [events.RemoveTemporaries()] if after.leftovers else []
    return (enter(after, JobState.QUEUED, now) if job.state.is_active else after), effects


def _suspend(job: Job, _event: events.Suspend, now: Now) -> Result:
    return (enter(job, JobState.SUSPENDED, now) if job.state in transitions.RUNNABLE else job), []


def _resume(job: Job, _event: events.Resume, now: Now) -> Result:
    if job.state is JobState.QUEUED or job.state.is_active:
        return job, []
    if job.state is JobState.TRANSFERRED and job.current_file is None:
        return job, []
    if not job.files:
        raise BitsError(codes.BG_E_EMPTY, f"cannot resume {name_of(job)}: it has no file; add one first")
    files = tuple(replace(file, restarts=0) for file in job.files)
    return enter(replace(with_progress(job), files=files, was_resumed=True), JobState.QUEUED, now), []


def _cancel(job: Job, _event: events.Cancel, now: Now) -> Result:
    return enter(job, JobState.CANCELLED, now), []


def _complete(job: Job, event: events.Complete, now: Now) -> Result:
    if job.is_completing:
        return job, []
    if job.type is not JobType.DOWNLOAD and job.state is not JobState.TRANSFERRED:
        why = f"an upload completes when it is TRANSFERRED, and it is {job.state.name}; resume or cancel it"
        raise _forbidden(job, type(event), why)
    return begin_completing(job, now)


def _validation_refused(job: Job, event: events.ValidationRefused, now: Now) -> Result:
    index = event.file_index
    if not job.files[index].is_transferred:
        raise BitsError(codes.E_PENDING, f"cannot refuse file {index} of {name_of(job)}: it is not transferred yet")
    after = with_empty_file(job, index)
    if not event.is_from_peer and job.state is not JobState.ERROR:
        return fail(after, own_error(job, codes.BG_E_VALIDATION_FAILED, now, file_index=index), now), []
    is_requeued = event.is_from_peer and (job.state.is_active or job.state is JobState.TRANSFERRED)
    return (enter(after, JobState.QUEUED, now) if is_requeued else after), []


HANDLERS: dict[type[Event], Handler] = {
    events.AddFiles: _add_files,
    events.SetProperties: _set_properties,
    events.SetHelperTokenFlags: _set_helper_token_flags,
    events.HelperTokenSet: _helper_token_set,
    events.TakeOwnership: _take_ownership,
    events.Suspend: _suspend,
    events.Resume: _resume,
    events.Cancel: _cancel,
    events.Complete: _complete,
    events.ValidationRefused: _validation_refused,
}
