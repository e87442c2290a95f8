"""The requests that concern single files: other remote names, validation, random access (jobs.md §7.5, §7.11, §8.9)."""

from collections.abc import Iterable
from dataclasses import replace

from openbits.core import codes, events, ranges
from openbits.core.enums import JobState, JobType
from openbits.core.errors import BitsError
from openbits.core.events import Event
from openbits.core.model import File, Job, Now, Range
from openbits.core.moves import Handler, Result, enter, fail, own_error, with_empty_file, with_file
from openbits.core.names import check_url, is_http
from openbits.core.wording import name_of, public_url

Renamed = tuple[tuple[int, str], ...]
"""Indexes of files and the remote names that they are to have."""


def file_of(job: Job, index: int) -> File:
    """The file with this index. Raises BitsError E_INVALIDARG."""
    if not 0 <= index < len(job.files):
        count = len(job.files)
        raise BitsError(codes.E_INVALIDARG, f"{name_of(job)} has no file {index}, it has {count}; count from 0")
    return job.files[index]


# -- names ----------------------------------------------------------------------------------------------------------


def check_may_have_ranges(job: Job, remote_name: str) -> None:
    """R1 of jobs.md §8.7. Raises BitsError E_NOTIMPL, BG_E_UNSUPPORTED_JOB_CONFIGURATION or E_INVALIDARG."""
    refused = f"cannot add {public_url(remote_name)} with ranges to {name_of(job)}"
    if job.type is not JobType.DOWNLOAD:
        raise BitsError(codes.E_NOTIMPL, f"{refused}: it is an upload; add ranges to download jobs")
    if job.properties.dynamic_content:
        why = "its dynamic_content is on, and made content has no ranges; use another job"
        raise BitsError(codes.BG_E_UNSUPPORTED_JOB_CONFIGURATION, f"{refused}: {why}")
    if not is_http(remote_name):
        raise BitsError(codes.E_INVALIDARG, f"{refused}: only http and https have ranges; add the whole file")


def check_may_be_remote(job: Job, remote_name: str) -> None:
    """jobs.md §8.1: a reply comes from a server alone. Raises BitsError E_INVALIDARG."""
    if job.type is JobType.UPLOAD_REPLY and not is_http(remote_name):
        refused = f"cannot add {public_url(remote_name)} to {name_of(job)}"
        raise BitsError(
            codes.E_INVALIDARG, f"{refused}: only http and https answer with a reply; use a job of type upload"
        )


def with_prefix(job: Job, old: str, new: str) -> Renamed:
    """What ReplaceRemotePrefix changes: every present name that begins with `old`, case counting.

    Raises BitsError E_NOTIMPL for an upload, E_INVALIDARG for an empty prefix.
    """
    _check_download(job)
    for name, value in (("old", old), ("new", new)):
        if not value:
            raise BitsError(codes.E_INVALIDARG, f"the {name} prefix is empty; give the beginning of remote names")
    return tuple(
        (index, new + file.present_remote_name[len(old) :])
        for index, file in enumerate(job.files)
        if file.present_remote_name.startswith(old)
    )


def _set_remote_names(job: Job, event: events.SetRemoteNames, now: Now) -> Result:
    """All or none. Size and time stamp alone say whether the file goes on behind another name (§9.3): no entity tag."""
    _check_download(job)
    files = list(job.files)
    for number, wanted in event.names:
        before, name = file_of(job, number), check_url(wanted)
        if before.ranges:
            check_may_have_ranges(job, name)
        if name != before.present_remote_name:
            undurable = "" if name == before.remote_name else name
            known = before.validators if before.is_transferred else replace(before.validators, etag=None)
            files[number] = replace(before, new_remote_name=undurable, validators=known, remote_directory=None)
    after = replace(job, files=tuple(files))
    is_restart = job.state.is_active and any(_may_be_moving(job, index) for index in _changed(job, after))
    return (enter(after, JobState.QUEUED, now) if is_restart else after), []


def _changed(job: Job, after: Job) -> list[int]:
    pairs = enumerate(zip(job.files, after.files, strict=True))
    return [index for index, (old, new) in pairs if new is not old]


def _may_be_moving(job: Job, index: int) -> bool:
    """A request for this file may be under way: its turn has come, or it was prepared for that."""
    file = job.files[index]
    return not file.is_transferred and (file.temporary is not None or index == job.next_file)


def _check_download(job: Job) -> None:
    if job.type is not JobType.DOWNLOAD:
        raise BitsError(codes.E_NOTIMPL, f"{name_of(job)} is an upload, whose remote name is fixed; make a new job")


def with_durable_names(job: Job) -> Job:
    """What Resume makes of names that were set since the last one."""
    if not any(file.new_remote_name for file in job.files):
        return job
    return replace(job, files=tuple(_with_durable_name(file) for file in job.files))


def _with_durable_name(file: File) -> File:
    if not file.new_remote_name:
        return file
    return replace(file, remote_name=file.new_remote_name, new_remote_name="", given_remote_name="")


# -- validation -----------------------------------------------------------------------------------------------------


def _validation_accepted(job: Job, event: events.ValidationAccepted, _now: Now) -> Result:
    _check_transferred(job, event.file_index)
    return with_file(job, event.file_index, is_valid=True), []


def _validation_refused(job: Job, event: events.ValidationRefused, now: Now) -> Result:
    index = event.file_index
    _check_transferred(job, index)
    after = with_empty_file(job, index)
    if event.is_from_peer:
        is_requeued = job.state.is_active or job.state is JobState.TRANSFERRED
        return (enter(after, JobState.QUEUED, now) if is_requeued else after), []
    if job.state is not JobState.ERROR:
        return fail(after, own_error(job, codes.BG_E_VALIDATION_FAILED, now, file_index=index), now), []
    first = codes.describe_cause(job.error) if job.error is not None else "nobody knows why"
    error = own_error(job, codes.BG_E_VALIDATION_FAILED, now, file_index=index, detail=f"it had failed before: {first}")
    return replace(after, error=error), []


def _check_transferred(job: Job, index: int) -> None:
    if not file_of(job, index).is_transferred:
        raise BitsError(codes.E_PENDING, f"cannot validate file {index} of {name_of(job)}: it is not transferred yet")
    if job.type is not JobType.DOWNLOAD:
        raise BitsError(codes.E_NOTIMPL, f"{name_of(job)} is an upload; only downloaded files are validated")


# -- random access --------------------------------------------------------------------------------------------------


def check_random_access(job: Job, index: int) -> File:
    """The file, if it can be fetched in any order. Raises BitsError BG_E_RANDOM_ACCESS_NOT_SUPPORTED."""
    file = file_of(job, index)
    reasons: Iterable[tuple[bool, str]] = (
        (job.type is not JobType.DOWNLOAD, "the job is an upload"),
        (job.properties.dynamic_content, "the job's dynamic_content is on"),
        (bool(file.ranges), "it was added with ranges"),
        (not is_http(file.present_remote_name), "its remote name is neither http nor https"),
    )
    for is_obstacle, why in reasons:
        if is_obstacle:
            refused = f"cannot access file {index} of {name_of(job)} at random: {why}; transfer it as a whole"
            raise BitsError(codes.BG_E_RANDOM_ACCESS_NOT_SUPPORTED, refused)
    return file


def _request_ranges(job: Job, event: events.RequestRanges, now: Now) -> Result:
    file = check_random_access(job, event.file_index)
    try:
        ranges.check_request(event.ranges, file.size_bytes)
        after = _with_wanted(job, event.file_index, ranges.requested(file, event.ranges))
    except BitsError as error:
        refused = f"cannot request ranges of file {event.file_index} of {name_of(job)}: {error.text}"
        raise BitsError(error.hresult, refused) from None
    is_restart = job.state.is_active and after.next_file != job.next_file
    return (enter(after, JobState.QUEUED, now), []) if is_restart else _repositioned(after, event.file_index)


def _update_download_position(job: Job, event: events.UpdateDownloadPosition, _now: Now) -> Result:
    file = check_random_access(job, event.file_index)
    if not 0 <= event.offset <= ranges.TO_EOF:
        text = f"cannot move {name_of(job)} to byte {event.offset}: an offset has 64 bits without sign"
        raise BitsError(codes.E_INVALIDARG, text)
    is_on_demand = job.properties.on_demand_mode
    wanted = ranges.repositioned(file, event.offset, is_on_demand=is_on_demand)
    return _repositioned(_with_wanted(job, event.file_index, wanted), event.file_index)


def _repositioned(job: Job, index: int) -> Result:
    """An attempt that moves the file goes on with what is wanted now."""
    is_moving = job.state.is_active and not job.files[index].is_transferred
    return job, [events.RepositionTransfer(file_index=index)] if is_moving else []


def _with_wanted(job: Job, index: int, wanted: tuple[Range, ...]) -> Job:
    ranges.check_number(len(wanted) + len(job.files[index].filled))
    return with_file(job, index, wanted=wanted)


HANDLERS: dict[type[Event], Handler] = {
    events.SetRemoteNames: _set_remote_names,
    events.ValidationAccepted: _validation_accepted,
    events.ValidationRefused: _validation_refused,
    events.RequestRanges: _request_ranges,
    events.UpdateDownloadPosition: _update_download_position,
}

VERBS: dict[type[Event], str] = {
    events.SetRemoteNames: "change remote names of",
    events.ValidationAccepted: "accept a file of",
    events.ValidationRefused: "refuse a file of",
    events.RequestRanges: "request ranges of a file of",
    events.UpdateDownloadPosition: "change the download position of a file of",
}
"""How a refusal names these requests."""
