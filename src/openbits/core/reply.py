"""The reply of an upload-reply job: where the answer of the server goes and when it can be read (jobs.md §7.4, §11.2).

Without a name of the client's the file is beside the upload file and called after the job, so that the name is the
same whenever somebody asks. How the answer comes is not known here.
"""

import posixpath
from dataclasses import replace

from openbits.core import codes, events
from openbits.core.enums import JobState, JobType
from openbits.core.errors import BitsError
from openbits.core.model import File, Job, Now, ReplyFile
from openbits.core.moves import Result
from openbits.core.wording import name_of

MAX_DATA_BYTES = 1 << 20
"""The longest reply that GetReplyData gives."""


def check_type(job: Job) -> None:
    """Raises BitsError E_NOTIMPL unless the job has a reply."""
    if job.type is not JobType.UPLOAD_REPLY:
        what = f"{name_of(job)} is of type {job.type.name} and has no reply"
        raise BitsError(codes.E_NOTIMPL, f"{what}; create an UPLOAD_REPLY job for that")


def check_changeable(job: Job) -> None:
    """Raises BitsError E_NOTIMPL, or BG_E_INVALID_STATE once the reply is coming."""
    check_type(job)
    file = job.reply
    is_coming = file is not None and (file.temporary is not None or file.size_bytes is not None)
    if is_coming or job.state is JobState.TRANSFERRED:
        text = f"cannot change the reply file of {name_of(job)}: the reply is there or coming; read it where it is"
        raise BitsError(codes.BG_E_INVALID_STATE, text)


def check_readable(job: Job) -> None:
    """Whether GetReplyData may answer: before and after Complete (OPEN-23).

    Raises BitsError E_NOTIMPL, BG_E_INVALID_STATE before the job is TRANSFERRED, BG_E_TOO_LARGE.
    """
    check_type(job)
    if job.state not in {JobState.TRANSFERRED, JobState.ACKNOWLEDGED}:
        step = "wait until it is TRANSFERRED"
        text = f"cannot read the reply of {name_of(job)}: it is {job.state.name}; {step}"
        raise BitsError(codes.BG_E_INVALID_STATE, text)
    if job.reply is not None:
        check_size(job, job.reply.size_bytes or 0)


def check_size(job: Job, size_bytes: int) -> None:
    """Raises BitsError BG_E_TOO_LARGE for a reply that is not given as data."""
    if size_bytes > MAX_DATA_BYTES:
        text = f"cannot give the reply of {name_of(job)} as data: it has {size_bytes} bytes"
        raise BitsError(codes.BG_E_TOO_LARGE, f"{text}, the limit is {MAX_DATA_BYTES}; complete the job, read the file")


def file_of(job: Job) -> ReplyFile | None:
    """Where the reply goes; None as long as neither its name nor the upload file is known."""
    if job.type is not JobType.UPLOAD_REPLY or job.reply is not None or not job.files:
        return job.reply
    upload = job.files[0]
    name = f"BIT-{job.job_id}.reply"
    path = posixpath.join(posixpath.dirname(upload.local_name), name)
    return ReplyFile(local_name=path, directory=upload.directory, name=name)


def with_proof(file: File) -> File:
    """A file that gets its final name now: of a reply what proves it is kept, so that GetReplyData reads that very one.

    Others may have the name by then (OPEN-23: the reply is read after Complete, too).
    """
    if not isinstance(file, ReplyFile) or file.temporary is None:
        return file
    return replace(file, published=replace(file.temporary, name=file.name))


def set_reply_file(job: Job, event: events.SetReplyFile, _now: Now) -> Result:
    """The handler of SetReplyFile."""
    check_changeable(job)
    known = job.reply
    named = replace(job, reply=event.file)
    place = file_of(named)
    if known is None or place is None or not known.remote_name:
        return named, []
    return replace(job, reply=replace(place, remote_name=known.remote_name)), []  # its directory may have been refused
