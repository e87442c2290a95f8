"""The requests of clients: when they are refused (jobs.md §3.3) and what they change."""

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from openbits.core import codes, events, file_requests, notices, secrets, transitions, uploading
from openbits.core.enums import JobState, JobType, SecurityFlags
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
    with_copy,
    with_empty_file,
    with_files,
    with_progress,
    without_temporary,
)
from openbits.core.properties import Properties
from openbits.core.property_rules import check_settable
from openbits.core.reply import set_reply_file
from openbits.core.wording import name_of

VERBS: dict[type[Event], str] = {
    events.AddFiles: "add files to",
    events.SetProperties: "change",
    events.SetHelperTokenFlags: "change the helper token flags of",
    events.HelperTokenSet: "change the helper token of",
    events.SetSecret: "set credentials or headers of",
    events.RemoveSecret: "remove credentials or headers of",
    events.MakeHeadersWriteOnly: "make write-only the headers of",
    events.SetCertificate: "change the client certificate of",
    events.SetCertificateCallback: "change the certificate callback of",
    events.SetCommandLine: "change the notify command of",
    events.SetReplyFile: "set the reply file of",
    events.TakeOwnership: "take ownership of",
    events.Suspend: "suspend",
    events.Resume: "resume",
    events.Cancel: "cancel",
    events.Complete: "complete",
    **file_requests.VERBS,
}
"""The requests: what a client may ask for, and how a refusal names it."""

STRIPPED: Mapping[str, Any] = {
    "had_helper_token": False,
    "secrets": (),
    "certificate": None,
    "has_write_only_headers": False,
    "command_line": None,
    "activation": None,
}
"""What TakeOwnership takes from a job (jobs.md §7.2): fields of Job, and their values afterwards.

A test asks it of every new field.
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
    for file in event.files:
        if file.ranges:
            file_requests.check_may_have_ranges(job, file.remote_name)
    entrusted = job.secrets
    for secret in event.secrets:
        entrusted = secrets.with_secret(entrusted, secret)
    after = replace(job, files=job.files + event.files, secrets=entrusted)
    return (enter(after, JobState.SUSPENDED, now) if job.state in NOTICE_OF else after), []


REQUEST_SETTINGS = attrgetter("priority", "proxy_usage", "proxy_list", "proxy_bypass_list", "peer_caching_flags")
"""What a request was made of: if it changes while one is under way, the job has to make another (T9)."""


CHECK_BEGAN = "begun again, because revocation of its server's certificate is to be checked now"


def _needs_another_request(before: Properties, after: Properties) -> bool:
    """Other security flags than the check of revocations, when it is switched on, are for later requests (T9)."""
    return _is_check_switched_on(before, after) or REQUEST_SETTINGS(after) != REQUEST_SETTINGS(before)


def _is_check_switched_on(before: Properties, after: Properties) -> bool:
    return SecurityFlags.ENABLE_CRL_CHECK in after.security_flags & ~before.security_flags


def _with_files_to_check(job: Job) -> Job:
    """Nobody asked whether their servers were revoked, so unfinished files begin again (jobs.md §9.6)."""
    for index, file in enumerate(job.every_file):
        is_https = file.present_remote_name.partition(":")[0].lower() == "https"
        if is_https and not (file.is_upload or file.is_transferred) and file.arrived_bytes:
            job = with_empty_file(job, index, note=CHECK_BEGAN)
    return job


def _set_properties(job: Job, event: events.SetProperties, now: Now) -> Result:
    check_settable(job, event.names, event.properties)
    before = job.properties
    after = notices.as_flags_say(replace(job, properties=event.properties))
    if "notification_clsid" in event.names:
        after = replace(after, activation=event.activation)
    if _is_check_switched_on(before, event.properties):
        after = _with_files_to_check(after)
    if job.state.is_active and _needs_another_request(before, event.properties):
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


def _set_secret(job: Job, event: events.SetSecret, _now: Now) -> Result:
    return replace(job, secrets=secrets.with_secret(job.secrets, event.secret)), []


def _remove_secret(job: Job, event: events.RemoveSecret, _now: Now) -> Result:
    return replace(job, secrets=secrets.without(job.secrets, event.slot)), []


def _make_headers_write_only(job: Job, _event: events.MakeHeadersWriteOnly, _now: Now) -> Result:
    return replace(job, has_write_only_headers=True), []


def _set_certificate(job: Job, event: events.SetCertificate, _now: Now) -> Result:
    return replace(job, certificate=event.certificate), []


CERTIFICATE_CALLBACK_IN = frozenset({JobState.SUSPENDED, *NOTICE_OF})
"""Where the certificate callback may change: the paused states (jobs.md §3.1, §9.8 V5)."""


def _set_certificate_callback(job: Job, event: events.SetCertificateCallback, _now: Now) -> Result:
    if job.state not in CERTIFICATE_CALLBACK_IN:
        raise BitsError(
            codes.BG_E_READ_ONLY_WHEN_JOB_ACTIVE,
            f"cannot change the certificate callback of {name_of(job)}: it is {job.state.name}; suspend it first",
        )
    return replace(job, needs_certificate_callback=event.is_set), []


def _set_command_line(job: Job, event: events.SetCommandLine, _now: Now) -> Result:
    return replace(job, command_line=event.command_line), []


def _take_ownership(job: Job, event: events.TakeOwnership, now: Now) -> Result:
    after = replace(
        job,
        owner=event.owner,
        owner_integrity=event.integrity,
        umask=job.umask | OTHERS_MAY_WRITE,
        properties=replace(job.properties, notification_clsid=""),  # it was that of whoever set it
        **STRIPPED,
    )
    if uploading.is_to_begin_again(after):
        after = uploading.begun_again(after)
    for index, copy in event.copies:
        after = with_copy(after, index, copy)
    for index, file in enumerate(after.every_file):
        made = file.temporary
        if made is not None and not made.by_helper and made.uid != event.owner.uid:
            if file.is_transferred:
                raise InvariantBrokenError(f"file {index} of {name_of(job)} stayed with the old owner")
            after = without_temporary(after, index)
    effects: list[events.Effect] = [events.RemoveTemporaries()] if after.leftovers else []
    return (enter(after, JobState.QUEUED, now) if job.state.is_active else after), effects


def _suspend(job: Job, _event: events.Suspend, now: Now) -> Result:
    return (enter(job, JobState.SUSPENDED, now) if job.state in transitions.RUNNABLE else job), []


def _resume(held: Job, _event: events.Resume, now: Now) -> Result:
    job = file_requests.with_durable_names(held)
    if job.state is JobState.QUEUED or job.state.is_active:
        return job, []
    if job.state is JobState.TRANSFERRED and job.current_file is None:
        return job, []
    if not job.files:
        raise BitsError(codes.BG_E_EMPTY, f"cannot resume {name_of(job)}: it has no file; add one first")
    files = {index: replace(file, restarts=0, setbacks=0) for index, file in enumerate(job.every_file)}
    fresh = replace(with_progress(with_files(job, files)), was_resumed=True, transfer_seconds=0.0)
    return enter(fresh, JobState.QUEUED, now), []


def _cancel(job: Job, _event: events.Cancel, now: Now) -> Result:
    return enter(job, JobState.CANCELLED, now), []


def _complete(job: Job, event: events.Complete, now: Now) -> Result:
    if job.is_completing:
        return job, []
    if job.type is not JobType.DOWNLOAD and job.state is not JobState.TRANSFERRED:
        why = f"an upload completes when it is TRANSFERRED, and it is {job.state.name}; resume or cancel it"
        raise _forbidden(job, type(event), why)
    return begin_completing(job, now)


HANDLERS: dict[type[Event], Handler] = {
    events.AddFiles: _add_files,
    events.SetProperties: _set_properties,
    events.SetHelperTokenFlags: _set_helper_token_flags,
    events.HelperTokenSet: _helper_token_set,
    events.SetSecret: _set_secret,
    events.RemoveSecret: _remove_secret,
    events.MakeHeadersWriteOnly: _make_headers_write_only,
    events.SetCertificate: _set_certificate,
    events.SetCertificateCallback: _set_certificate_callback,
    events.SetCommandLine: _set_command_line,
    events.SetReplyFile: set_reply_file,
    events.TakeOwnership: _take_ownership,
    events.Suspend: _suspend,
    events.Resume: _resume,
    events.Cancel: _cancel,
    events.Complete: _complete,
    **file_requests.HANDLERS,
}
