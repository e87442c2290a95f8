"""An upload to a web server in the life of a job: its steps, what its server acknowledges (upload-protocol.md §7).

Each step is one order to a worker, and what came of it is committed before the next: a server forgets session and reply
when it is told to close, so the row has to know before that the file is received, and where the whole reply is. Only
after that the file counts as transferred.
"""

import enum
from dataclasses import replace

from openbits.core import codes, events, names, reply
from openbits.core.model import File, Job, Now, UploadSession
from openbits.core.moves import (
    Result,
    empty,
    fail_by_class,
    flowing,
    moving_file,
    own_error,
    with_file,
    with_files,
    with_progress,
    with_transfer_time,
    without_temporary,
)

MAX_SETBACKS = 3
"""A server may go back so often without having got beyond what it had before (jobs.md §11.1)."""


class Step(enum.StrEnum):
    """What is to be done next for an upload to a web server."""

    SEND = "send"
    """Have the server take all bytes."""
    REPLY = "reply"
    """Download the reply."""
    CLOSE = "close"
    """End the session."""


def is_by_protocol(file: File) -> bool:
    """It is uploaded to a web server."""
    return file.is_upload and names.path_of(file.present_remote_name) is None


def next_step(job: Job) -> Step:
    """What an upload to a web server needs that is not transferred."""
    session = job.files[0].session
    if session is None or not session.is_received:
        return Step.SEND
    answer = job.reply
    is_coming = answer is not None and bool(answer.remote_name) and not answer.is_transferred
    return Step.REPLY if is_coming else Step.CLOSE


def moved_index(job: Job, index: int) -> int:
    """What has to be moved for this file: the file itself, or the reply to it."""
    is_reply = is_by_protocol(job.files[index]) and next_step(job) is Step.REPLY
    return job.reply_index if is_reply else index


def may_be_session(file: File, session: UploadSession | None) -> bool:
    """False if the reply is nothing of the web, or would come in the clear although the file went out by https."""
    if session is None or not session.reply_url:
        return True
    is_kept = names.reported_url(session.reply_url) == session.reply_url
    is_downgrade = not session.reply_url.lower().startswith("https:")
    return is_kept and not (is_downgrade and file.client_remote_name.lower().startswith("https:"))


def note(job: Job, file: File) -> str:
    """What is not as usual about a file, and no error; also that its job fails before it may leave a host id (§12)."""
    session, limit = file.session, job.properties.no_progress_timeout_seconds
    if session is None or not session.host or session.fallback_seconds is None or limit > session.fallback_seconds:
        return file.note
    warning = (
        f"{session.host} is asked for {session.fallback_seconds} s before the host of the URL is asked again, and"
        f" without progress the job fails after {limit} s; raise no-progress-timeout"
    )
    return f"{file.note}; {warning}" if file.note else warning


# -- news of attempts -----------------------------------------------------------------------------------------------


def acknowledged(job: Job, event: events.Acknowledged, now: Now) -> Result:
    """The handler of Acknowledged."""
    index, session, arrived = event.file_index, event.session, event.acknowledged_bytes
    file = moving_file(job, index)
    is_new_end = session is not None and session.is_received and not (file.session and file.session.is_received)
    is_growth = arrived > file.farthest_bytes or is_new_end
    setbacks = 0 if is_growth else file.setbacks + _is_setback(file, event)
    counted = with_file(
        with_transfer_time(job, now, is_running=True),
        index,
        session=session,
        transferred_bytes=arrived,
        farthest_bytes=max(arrived, file.farthest_bytes),
        setbacks=setbacks,
        note=event.note or file.note,
        response_headers=event.response_headers or file.response_headers,
    )
    after = flowing(with_progress(counted) if is_growth else counted, now)
    if session is not None and is_new_end:
        after = _with_reply(after, session.reply_url)
    return (_going_round(after, index, now) if setbacks >= MAX_SETBACKS else after), []


def _is_setback(file: File, event: events.Acknowledged) -> bool:
    """The same session has fewer bytes than before; a new one has none, of course."""
    before, after = file.session, event.session
    is_same = before is not None and after is not None and before.session_id == after.session_id
    return is_same and event.acknowledged_bytes < file.transferred_bytes


def _going_round(job: Job, index: int, now: Now) -> Job:
    detail = f"the server went back {MAX_SETBACKS} times without getting beyond what it had before"
    error = own_error(job, codes.BG_E_NO_PROGRESS, now, file_index=index, detail=detail)
    return fail_by_class(with_file(job, index, setbacks=0), error, codes.classify(error.code), 0.0, now)


def _with_reply(job: Job, url: str) -> Job:
    """The server has the file, and the job knows where its reply is; what it has of an earlier one is of no use."""
    answer = reply.file_of(job)
    if answer is None:
        return job
    fresh = replace(job, reply=replace(answer, size_bytes=None, remote_name=url, given_remote_name=""))
    return fresh if answer.temporary is None else without_temporary(fresh, job.reply_index)


def reply_moved(job: Job, event: events.ReplyMoved, _now: Now) -> Result:
    """The handler of ReplyMoved: what came from the other host is not mixed with what comes from this one."""
    moving_file(job, job.reply_index)
    fresh = without_temporary(job, job.reply_index)
    place = {"remote_name": event.remote_name, "given_remote_name": ""}
    after = with_file(fresh, job.reply_index, **place, size_bytes=None)
    return after, [events.RemoveTemporaries()] if after.leftovers else []


def with_end_of_reply(job: Job) -> Job:
    """Something of the job is transferred: an upload whose reply has not come before it has an empty one (D19)."""
    answer = reply.file_of(job)
    if answer is None or answer.size_bytes is not None:
        return job
    return replace(job, reply=replace(answer, size_bytes=0))


def is_to_begin_again(job: Job) -> bool:
    """With another owner: an upload to a web server that is not transferred, with what has come of its reply."""
    return job.current_file is not None and any(map(is_by_protocol, job.files))


def begun_again(job: Job) -> Job:
    """The upload begins at byte 0, in a session of its own: what its server has belongs to another owner (§7.5)."""
    file, answer = job.files[0], job.reply
    fresh = with_files(job, {0: empty(file)})
    if answer is None:
        return fresh
    gone = without_temporary(fresh, fresh.reply_index)
    return with_file(gone, gone.reply_index, remote_name="", given_remote_name="", size_bytes=None)
