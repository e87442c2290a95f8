"""What somebody is to be told of a job, and in which order (jobs.md §12).

At least once, one after the other (N1, N4): a file that finished, then that the job is TRANSFERRED or in ERROR. A
terminal notice is dropped when the job leaves the state (N8). That of a file belongs to the file, not to a state: it
stays over Suspend and Resume, and goes when the file begins again, when the flag is taken back, and with the job.

Only for the asking: a file that finishes while FILE_TRANSFERRED is not set is not told later (N11 is about the terminal
notice, which follows from the state; a job of a hundred thousand files would carry as many notices that nobody wants).
"""

from dataclasses import replace
from typing import NamedTuple

from openbits.core.enums import JobType, Notice, NotifyFlags
from openbits.core.model import FileNotice, Job

FLAG_OF = {
    Notice.TRANSFERRED: NotifyFlags.JOB_TRANSFERRED,
    Notice.ERROR: NotifyFlags.JOB_ERROR,
    Notice.FILE: NotifyFlags.FILE_TRANSFERRED,
    Notice.MODIFICATION: NotifyFlags.JOB_MODIFICATION,
    Notice.RANGES: NotifyFlags.FILE_RANGES_TRANSFERRED,
}
"""The flag that asks for each."""


class Due(NamedTuple):
    """The next notice of a job."""

    notice: Notice
    notice_seq: int
    file_index: int | None = None


def due(job: Job) -> Due | None:
    """The one to deliver before any other; None if there is nothing to tell."""
    if job.untold_files:
        first = job.untold_files[0]
        return Due(Notice.FILE, first.notice_seq, first.file_index)
    return terminal(job)


def terminal(job: Job) -> Due | None:
    """That the job is TRANSFERRED or in ERROR. A command line need not wait for files, of which it is never told."""
    return None if job.pending_notice is None else Due(job.pending_notice, job.notice_seq)


def is_wanted(job: Job, notice: Notice) -> bool:
    """The flags of the job ask for it; DISABLE masks all of them."""
    flags = job.properties.notify_flags
    return NotifyFlags.DISABLE not in flags and FLAG_OF[notice] in flags


def with_file_notice(job: Job, index: int) -> Job:
    """A file has finished: raise its notice, if it is one of a download, or the reply, and the job asks for it."""
    is_received = job.type is JobType.DOWNLOAD or index == job.reply_index
    if not is_received or NotifyFlags.FILE_TRANSFERRED not in job.properties.notify_flags:
        return job
    raised = FileNotice(file_index=job.client_index(index), notice_seq=job.notice_seq + 1)
    return replace(job, untold_files=(*job.untold_files, raised), notice_seq=raised.notice_seq)


def without(job: Job, index: int) -> Job:
    """The file is not finished any more: nobody is told that it is."""
    untold = tuple(one for one in job.untold_files if one.file_index != job.client_index(index))
    return job if len(untold) == len(job.untold_files) else replace(job, untold_files=untold)


def as_flags_say(job: Job) -> Job:
    """Drop the notices of files if the job does not ask for them any more."""
    is_asked = NotifyFlags.FILE_TRANSFERRED in job.properties.notify_flags
    return job if is_asked or not job.untold_files else replace(job, untold_files=())


def without_due(job: Job, notice_seq: int) -> Job:
    """The next notice, or the terminal one, was taken, if it has this number; an old one means nothing."""
    taken = next((one for one in (due(job), terminal(job)) if one is not None and one.notice_seq == notice_seq), None)
    if taken is None:
        return job
    if taken.notice is Notice.FILE:
        return replace(job, untold_files=job.untold_files[1:])
    return replace(job, pending_notice=None)
