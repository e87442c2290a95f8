"""What the steps of a job are made of: changes that several events share.

`enter` is the one place where a state changes. This is no interface; `lifecycle.step` is.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from openbits.core import abandoning, codes, events, notices, ranges, scheduler, transitions
from openbits.core.codes import CodeClass
from openbits.core.enums import ErrorContext, JobState, Notice
from openbits.core.events import Effect
from openbits.core.model import File, Job, JobError, Leftover, Now, Range, ReplyFile, Temporary, Validators
from openbits.core.timers import transferred_for
from openbits.core.wording import label, name_of, public_url

Result = tuple[Job, list[Effect]]
"""The next version of the job, and what has to be done after it was committed."""

Handler = Callable[[Job, Any, Now], Result]

NOTICE_OF = {JobState.ERROR: Notice.ERROR, JobState.TRANSFERRED: Notice.TRANSFERRED}
"""The states on whose entry somebody has to be told (jobs.md §12.1)."""


class InvariantBrokenError(AssertionError):
    """Something happened that cannot happen: a defect of the manager, not of a client or a server."""


def enter(job: Job, state: JobState, now: Now) -> Job:
    """Change the state and every field that depends on it; clocks put down what they have counted: the store has it."""
    is_clock_alive = state in transitions.RUNNABLE
    stalled_since = running_clock(job, now) if job.stalled_since is None else now.boot
    transferred_at = None if state in {JobState.QUEUED, JobState.SUSPENDED} else job.transferred_at
    return replace(
        with_transfer_time(job, now, is_running=state.is_active),
        state=state,
        state_since=now.wall,
        error=None if state is JobState.TRANSFERRING else job.error,
        retry_at=None,
        retry_by_event=False,
        stalled_seconds=stalled_for(job, now) if is_clock_alive else 0.0,
        stalled_since=stalled_since if is_clock_alive else None,
        transferred_at=now.wall if state is JobState.TRANSFERRED else transferred_at,
        pending_notice=NOTICE_OF.get(state),
        notice_seq=job.notice_seq + (state in NOTICE_OF),
        untold_files=() if state.is_final else job.untold_files,
        secrets=job.secrets if abandoning.keeps_secrets(job, state) else (),
    )


def running_clock(job: Job, now: Now) -> float | None:
    """Start of the no-progress clock of a job that was stopped while it ran: goes on with what it had (OPEN-07)."""
    return now.boot if job.stalled_seconds > 0 else None


def stalled_for(job: Job, now: Now) -> float:
    """Seconds that the no-progress clock has run, before and since `stalled_since`."""
    return job.stalled_seconds + (now.boot - job.stalled_since if job.stalled_since is not None else 0.0)


def with_transfer_time(job: Job, now: Now, *, is_running: bool) -> Job:
    """What the clock of the maximum download time has counted is put down, so that the store has it; it goes on or not.

    A service that is killed loses what was counted since.
    """
    since = now.boot if is_running else None
    return replace(job, transfer_seconds=transferred_for(job, now), transferring_since=since)


def with_progress(job: Job) -> Job:
    """Bytes moved: failures are not consecutive any more, and the no-progress clock is set back."""
    return replace(job, attempt=0, stalled_seconds=0.0, stalled_since=None)


def with_files(job: Job, changed: Mapping[int, File]) -> Job:
    """The job with these files in place of those of the same indexes; the reply has a place of its own."""
    files, answer = list(job.files), job.reply
    for index, file in changed.items():
        if isinstance(file, ReplyFile):
            answer = file
        else:
            files[index] = file
    reopened = (index for index, file in changed.items() if not file.is_transferred)
    settled_files = min(job.settled_files, *reopened, len(files))
    return replace(job, files=tuple(files), reply=answer, settled_files=settled_files)


def with_file(job: Job, index: int, **changes: Any) -> Job:
    """The job with one file changed."""
    return with_files(job, {index: replace(job.file_at(index), **changes)})


def empty(file: File, **changes: Any) -> File:
    """The file at byte 0 again, whatever version of it the server has then; and changed."""
    return replace(
        file,
        is_transferred=False,
        is_published=False,
        is_valid=False,
        transferred_bytes=0,
        filled=(),
        validators=Validators(),
        has_source_acl=False,
        session=None,
        farthest_bytes=0,
        setbacks=0,
        **changes,
    )


def finished(file: File, **changes: Any) -> File:
    """The file with all its bytes, and changed."""
    return replace(file, is_transferred=True, filled=(), wanted=(), **changes)


def with_empty_file(job: Job, index: int, **changes: Any) -> Job:
    """The file begins again."""
    return with_files(notices.without(job, index), {index: empty(job.file_at(index), **changes)})


def with_arrived(job: Job, index: int, parts: tuple[Range, ...]) -> Job:
    """These parts of the file are here, too, and not wanted any more."""
    file = job.file_at(index)
    here = ranges.joined((*ranges.present(file), *parts))
    transferred_bytes, filled = ranges.progress(here)
    wanted = ranges.still_wanted(file, here)
    return with_file(job, index, transferred_bytes=transferred_bytes, filled=filled, wanted=wanted)


def without_temporary(job: Job, index: int) -> Job:
    """The file begins again; its temporary, which may still be there, is a leftover unless it has its final name."""
    file = job.file_at(index)
    if file.temporary is None or file.is_placed:
        return with_empty_file(job, index, temporary=None)
    leftover = Leftover(directory=file.made_in, temporary=file.temporary)
    return replace(with_empty_file(job, index, temporary=None), leftovers=(*job.leftovers, leftover))


def with_copy(job: Job, index: int, copy: Temporary) -> Job:
    """The file goes on in its copy, a leftover until now; progress and validators stay, the original is a leftover.

    Only the beginning of the file was copied: what was filled beyond it is to be fetched again.
    """
    file = job.file_at(index)
    others = tuple(item for item in job.leftovers if item.temporary != copy)
    if file.temporary is None or len(others) == len(job.leftovers):
        raise InvariantBrokenError(f"{copy.name} is no copy of file {index} of {name_of(job)}")
    originals = () if file.is_placed else (Leftover(directory=file.made_in, temporary=file.temporary),)
    after = with_file(job, index, temporary=copy, filled=(), has_source_acl=False)
    return replace(after, leftovers=(*others, *originals))


def moving_file(job: Job, index: int) -> File:
    """A file that an attempt reports about: one that is not transferred. Which of them it moves is its own matter."""
    file = job.file_at(index)
    if file.is_transferred:
        raise InvariantBrokenError(f"file {index} of {name_of(job)} is moved, and was transferred before")
    return file


def start(job: Job) -> Result:
    """Begin an attempt; its number makes all earlier news late."""
    epoch = job.epoch + 1
    return replace(_with_useful_bytes(job), epoch=epoch), [events.StartTransfer(epoch=epoch)]


def _with_useful_bytes(job: Job) -> Job:
    """What came of a file that cannot be continued is forgotten before it is asked for again."""
    if job.is_resumable:
        return job
    begun = (index for index, file in enumerate(job.files) if file.transferred_bytes and not file.is_transferred)
    return with_files(job, {index: empty(job.files[index]) for index in begun if not job.files[index].is_upload})


def flowing(job: Job, now: Now) -> Job:
    """The attempt has a connection: TRANSFERRING (T5). Other files of the job connect in that state."""
    return enter(job, JobState.TRANSFERRING, now) if job.state is JobState.CONNECTING else job


def go_on(job: Job, now: Now) -> Result:
    """What comes next in a slot: T10 if every file is transferred, T11 on demand; else the attempt moves the others."""
    current = job.current_file
    if current is None:
        return all_transferred(flowing(job, now), now)
    if job.next_file is None:
        return enter(job, JobState.SUSPENDED, now), []
    return replace(job, settled_files=current), []


def all_transferred(job: Job, now: Now) -> Result:
    """T10, and at once Complete if the job is to complete itself."""
    done = enter(job, JobState.TRANSFERRED, now)
    return begin_completing(done, now) if done.properties.auto_complete else (done, [])


def begin_completing(job: Job, now: Now) -> Result:
    """Complete was accepted: stop what runs, then publish; PublishingEnded decides."""
    stopped = enter(job, JobState.SUSPENDED, now) if job.state in transitions.RUNNABLE else job
    return replace(stopped, is_completing=True), [events.PublishFiles()]


def fail(job: Job, error: JobError, now: Now, *, is_counted: bool = True) -> Job:
    """Enter ERROR; failures while bytes move, and failed retries, are counted (jobs.md §3.6)."""
    count = job.error_count + (is_counted and _counts(job))
    return replace(enter(job, JobState.ERROR, now), error=error, error_count=count)


def _counts(job: Job) -> bool:
    return job.state is JobState.TRANSFERRING or (job.state is JobState.CONNECTING and job.attempt > 0)


def fail_by_class(job: Job, error: JobError, code_class: CodeClass, spread: float, now: Now) -> Job:
    """Transient or fatal, in the order of errors.md §6; what is neither E nor F is transient (OPEN-E8)."""
    limits = job.properties
    is_by_event = code_class is CodeClass.EVENT
    is_hopeless = (
        limits.no_progress_timeout_seconds == 0
        or bool(limits.http_method)
        or limits.minimum_retry_delay_seconds > limits.no_progress_timeout_seconds
    )
    if is_hopeless or code_class is CodeClass.FATAL:
        return fail(job, error, now, is_counted=not is_by_event)
    waiting = replace(enter(job, JobState.TRANSIENT_ERROR, now), error=error)
    if is_by_event:
        return replace(waiting, retry_by_event=True, stalled_since=None)
    attempt = job.attempt + 1
    delay = scheduler.retry_delay(attempt, limits.minimum_retry_delay_seconds, error.retry_after_seconds, spread)
    return replace(
        waiting,
        attempt=attempt,
        error_count=job.error_count + _counts(job),
        retry_at=now.boot + delay,
        stalled_since=now.boot,
    )


def own_error(job: Job, code: int, now: Now, *, file_index: int | None = None, detail: str = "") -> JobError:
    """An error that the queue itself finds; its context is that of the code."""
    return JobError(
        code=code,
        context=codes.lookup(code).context or ErrorContext.UNKNOWN,
        detail=detail,
        identity=label(job.owner),
        subject="" if file_index is None else public_url(job.file_at(file_index).present_remote_name),
        file_index=None if file_index is None else job.client_index(file_index),
        at=now.wall,
    )
