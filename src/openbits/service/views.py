"""What the API shows of a job: model values as wire types."""

from collections.abc import Sequence

from openbits.api.wire import ErrorInfo, FileInfo, JobInfo, WaitingInfo
from openbits.core import codes, properties, scheduler
from openbits.core.model import JobError, Now, totals
from openbits.service.record import Record


def job_info(record: Record, candidates: Sequence[scheduler.Candidate], now: Now) -> JobInfo:
    """A job with its progress, its error and why it waits."""
    job = record.job
    sums = totals(job)
    helper = record.helper_token.record.identity if record.helper_token is not None else None
    return {
        "job_id": str(job.job_id),
        "type": job.type.name.lower(),
        "state": job.state.name.lower(),
        "state_since": job.state_since,
        "properties": properties.to_wire(job.properties),
        "owner_uid": job.owner.uid,
        "owner_name": job.owner.name,
        "owner_sid": job.owner.sid,
        "bytes_total": sums.bytes_total,
        "bytes_transferred": _live(record, sums.bytes_transferred),
        "files_total": sums.files_total,
        "files_transferred": sums.files_transferred,
        "created_at": job.created_at,
        "modified_at": job.modified_at,
        "transferred_at": job.transferred_at,
        "error": error_info(job.error) if job.error is not None else None,
        "error_count": job.error_count,
        "complete_error": error_info(record.complete_error) if record.complete_error is not None else None,
        "phase": record.phase,
        "waiting": waiting_info(record, candidates, now),
        "helper_token_flags": int(job.helper_token_flags),
        "helper_sid": helper.sid if helper is not None else None,
        "helper_name": helper.name if helper is not None else None,
    }


def file_infos(record: Record) -> list[FileInfo]:
    """The files of a job in the order they were added."""
    current = record.job.current_file
    return [
        {
            "remote_name": file.remote_name,
            "local_name": file.local_name,
            "bytes_total": file.size_bytes,
            "bytes_transferred": (
                record.live_bytes if index == current and record.live_bytes is not None else file.transferred_bytes
            ),
            "is_transferred": file.is_transferred,
            "is_published": file.is_published,
            "temporary_name": f"{file.directory.path}/{file.temporary.name}" if file.temporary else None,
            "note": file.note,
        }
        for index, file in enumerate(record.job.files)
    ]


def error_info(error: JobError) -> ErrorInfo:
    """The error object with the one sentence that users read."""
    return {
        "hresult": error.code,
        "symbol": codes.symbol(error.code),
        "context": error.context.name.lower(),
        "message": codes.describe(error),
        "detail": codes.presentable(error.detail),
        "identity": error.identity,
        "subject": error.subject,
        "file_index": error.file_index,
        "protocol": error.protocol,
        "at": error.at,
    }


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


def _live(record: Record, durable_bytes: int) -> int:
    """Bytes on the disk, and those of the current file that are still on their way there."""
    current = record.job.current_file
    if record.live_bytes is None or current is None:
        return durable_bytes
    return durable_bytes - record.job.files[current].transferred_bytes + record.live_bytes
