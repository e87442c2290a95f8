"""What the API shows of a job: model values as wire types."""

from collections.abc import Iterable, Sequence

from openbits.api.wire import ErrorInfo, FileInfo, JobInfo, NotifyCommandInfo, RangeInfo, ReplyInfo, WaitingInfo
from openbits.core import codes, property_rules, ranges, reply, scheduler, secrets, timers, uploading
from openbits.core.enums import JobState, JobType
from openbits.core.model import Job, JobError, Now, Range, totals
from openbits.core.policies import DEFAULTS, Policies
from openbits.core.wording import instant
from openbits.service.deliveries import notice_info
from openbits.service.record import Record


def job_info(
    record: Record, candidates: Sequence[scheduler.Candidate], now: Now, policies: Policies = DEFAULTS
) -> JobInfo:
    """A job with its progress, its error and why it waits."""
    job = record.job
    sums = totals(job)
    helper = record.helper_token.record.identity if record.helper_token is not None else None
    return {
        "job_id": str(job.job_id),
        "type": job.type.name.lower(),
        "state": job.state.name.lower(),
        "state_since": job.state_since,
        "properties": property_rules.to_wire(job.properties),
        "owner_uid": job.owner.uid,
        "owner_name": job.owner.name,
        "owner_sid": job.owner.sid,
        "owner_integrity_level": int(job.owner_integrity),
        "owner_is_elevated": job.owner_integrity.is_elevated,
        "bytes_total": sums.bytes_total,
        "bytes_transferred": _live(record, sums.bytes_transferred),
        "files_total": sums.files_total,
        "files_transferred": sums.files_transferred,
        "created_at": job.created_at,
        "modified_at": job.modified_at,
        "transferred_at": job.transferred_at,
        "error": error_info(job.error, tries_again=_tries_again(job)) if job.error is not None else None,
        "error_count": job.error_count,
        "complete_error": error_info(record.complete_error) if record.complete_error is not None else None,
        "phase": record.phase,
        "waiting": _with_expiry(_with_command(waiting_info(record, candidates, now), record), record, now, policies),
        "maximum_download_seconds": timers.maximum_download_seconds(job, policies),
        "transfer_seconds": timers.transferred_for(job, now),
        "expires_at": None if job.state.is_final else round(now.wall + _expires_in(record, now, policies)),
        "notice": notice_info(job, record.delivery),
        "helper_token_flags": int(job.helper_token_flags),
        "helper_sid": helper.sid if helper is not None else None,
        "helper_name": helper.name if helper is not None else None,
        "notify_command": _notify_command_info(record),
        "entrusted": list(secrets.entrusted(job)),
        "reply": reply_info(record),
    }


def file_infos(record: Record) -> list[FileInfo]:
    """The files of a job in the order they were added."""
    return [
        {
            "remote_name": file.present_remote_name,
            "local_name": file.local_name,
            "bytes_total": file.size_bytes,
            "bytes_transferred": record.live.get(index, file.arrived_bytes),
            "is_transferred": file.is_transferred,
            "is_published": file.is_published,
            "is_valid": file.is_valid,
            "ranges": range_infos(file.ranges),
            "temporary_name": f"{file.made_in.path}/{file.temporary.name}" if file.temporary else None,
            "note": uploading.note(record.job, file),
        }
        for index, file in enumerate(record.job.files)
    ]


def range_infos(parts: Iterable[Range]) -> list[RangeInfo]:
    """Parts of a file."""
    return [{"offset": item.offset, "length": item.length_bytes} for item in parts]


def _notify_command_info(record: Record) -> NotifyCommandInfo | None:
    command = record.job.command_line
    if command is None:
        return None
    return {
        "program": command.program,
        "parameters": command.parameters,
        "setter_uid": command.setter.uid,
        "setter_name": command.setter.name,
        "note": record.command_note,
    }


def ranges_of(infos: Sequence[RangeInfo]) -> tuple[Range, ...]:
    """And back; BG_LENGTH_TO_EOF is the same as no length."""
    lengths = [None if item.get("length") == ranges.TO_EOF else item.get("length") for item in infos]
    return tuple(Range(offset=item["offset"], length_bytes=given) for item, given in zip(infos, lengths, strict=True))


def reply_info(record: Record) -> ReplyInfo | None:
    """The reply of an upload-reply job."""
    job = record.job
    if job.type is not JobType.UPLOAD_REPLY:
        return None
    file = reply.file_of(job)
    return {
        "local_name": file.local_name if file is not None else None,
        "bytes_total": file.size_bytes if file is not None else None,
        "bytes_transferred": record.live.get(job.reply_index, file.arrived_bytes) if file is not None else 0,
    }


def error_info(error: JobError, *, tries_again: bool = False) -> ErrorInfo:
    """The error object with the one sentence that users read, which says whether they have to resume the job."""
    return {
        "hresult": error.code,
        "symbol": codes.symbol(error.code),
        "context": error.context.name.lower(),
        "message": codes.describe(error, tries_again=tries_again),
        "detail": codes.presentable(error.detail),
        "identity": error.identity,
        "subject": error.subject,
        "file_index": error.file_index,
        "protocol": error.protocol,
        "at": error.at,
    }


def _tries_again(job: Job) -> bool:
    return job.state not in {JobState.ERROR, JobState.SUSPENDED}


def waiting_info(record: Record, candidates: Sequence[scheduler.Candidate], now: Now) -> WaitingInfo | None:
    """Why the job does not move; None while it does."""
    if record.complete_error is not None and not record.job.state.is_active:
        is_whole = record.job.current_file is None
        verb, cure = ("Complete", "remove the cause, then: bits complete") if is_whole else ("Resume", "bits resume")
        return {
            "reason": f"Complete failed: {codes.describe_cause(record.complete_error)}",
            "since": record.job.state_since,
            "next": f"nothing until {verb} is called",
            "next_at": None,
            "hint": f"{cure} {record.job.job_id}",
        }
    waiting = scheduler.waiting_for(record.job, candidates, now)
    if waiting is None:
        return None
    return {
        "reason": waiting.reason,
        "since": waiting.since,
        "next": waiting.next,
        "next_at": waiting.next_at,
        "hint": waiting.hint,
    }


def _with_command(waiting: WaitingInfo | None, record: Record) -> WaitingInfo | None:
    """The same with what keeps the notify command from taking the notice, and when it is run again."""
    if waiting is None or record.job.pending_notice is None or not record.command_note:
        return waiting
    told: WaitingInfo = {**waiting, "reason": f"{waiting['reason']}; its notify command {record.command_note}"}
    if record.delivery is not None and record.delivery.next_at is not None:
        told["next"], told["next_at"] = "its notify command is run again", record.delivery.next_at
        told["hint"] = f"{waiting['hint']}, or see to the notify command"
    return told


def _with_expiry(waiting: WaitingInfo | None, record: Record, now: Now, policies: Policies) -> WaitingInfo | None:
    """The same with what is announced: that the job will be cancelled for inactivity."""
    if waiting is None or now.boot < timers.is_announced_at(record.changed_at, policies):
        return waiting
    end, days = instant(round(now.wall + _expires_in(record, now, policies))), policies.job_inactivity_days
    expiry = f"without any change it is cancelled on {end}, after {days} days (policy JobInactivityTimeout)"
    return {**waiting, "hint": f"{waiting['hint']}; {expiry}"}


def _expires_in(record: Record, now: Now, policies: Policies) -> float:
    return timers.expires_at(record.changed_at, policies) - now.boot


def _live(record: Record, durable_bytes: int) -> int:
    """Bytes on the disk, and those of the files on the move that are still on their way there."""
    files = record.job.files
    live = ((index, arrived) for index, arrived in record.live.items() if index < len(files))
    return durable_bytes + sum(arrived - files[index].arrived_bytes for index, arrived in live)
