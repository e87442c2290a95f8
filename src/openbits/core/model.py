"""The values of the job model: identity, file, error, job.

Everything here is frozen; a change is a new value made by `lifecycle.step`. Units: bytes, seconds; `*_at` is an
instant, other times are spans.
"""

import uuid
from dataclasses import dataclass

from openbits.core.enums import ErrorContext, JobState, JobType, Notice, TokenFlags
from openbits.core.properties import Properties

JobId = uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A Unix identity as the kernel reported it."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    name: str = ""

    @property
    def sid(self) -> str:
        """`S-1-22-1-<uid>`, the Unix-user SID form of Samba (identity.md §8)."""
        return f"S-1-22-1-{self.uid}"


@dataclass(frozen=True, slots=True)
class Now:
    """The present: wall clock for people, boot clock (runs through sleep, ignores clock steps) for timers."""

    wall: float
    boot: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A destination directory, fixed when the file was added (path recipe P1)."""

    path: str
    dev: int
    ino: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Temporary:
    """A temporary file beside its destination and what proves that it is still the same one (P4)."""

    name: str
    dev: int
    ino: int
    birth_ns: int
    uid: int
    by_helper: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What identifies the version of the remote file that the bytes so far belong to (jobs.md §9.3)."""

    size_bytes: int | None = None
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One remote/local pair of a job and its progress. `transferred_bytes` counts bytes that are on the disk."""

    remote_name: str
    local_name: str
    directory: Directory
    name: str
    temporary: Temporary | None = None
    validators: Validators = Validators()
    size_bytes: int | None = None
    transferred_bytes: int = 0
    is_transferred: bool = False
    is_published: bool = False
    restarts: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A temporary file that the job does not use any more and whose maker was not there to remove it."""

    directory: Directory
    temporary: Temporary


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """The error object of a job (jobs.md §3.6): what failed, for whom, on what, and what the other side said."""

    code: int
    context: ErrorContext
    detail: str = ""
    identity: str = ""
    subject: str = ""
    file_index: int | None = None
    protocol: str | None = None
    at: float = 0.0
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job. Only `lifecycle.step` makes new versions of it."""

    job_id: JobId
    type: JobType = JobType.DOWNLOAD
    state: JobState = JobState.SUSPENDED
    properties: Properties = Properties()
    owner: Identity
    umask: int = 0o022
    files: tuple[File, ...] = ()
    error: JobError | None = None
    error_count: int = 0
    created_at: float
    modified_at: float
    transferred_at: float | None = None
    state_since: float
    helper_token_flags: TokenFlags = TokenFlags(0)
    had_helper_token: bool = False
    was_resumed: bool = False
    is_completing: bool = False
    epoch: int = 0
    """Number of the current attempt; news from an older one is dropped."""
    attempt: int = 0
    """Consecutive failed attempts without progress in between; chooses the retry delay."""
    retry_at: float | None = None
    """Boot clock; not persisted, since a restart requeues every transient error (T25)."""
    retry_by_event: bool = False
    """Waiting for a condition to end, not for the retry timer (errors.md class E)."""
    stalled_seconds: float = 0.0
    """How long the no-progress clock had run before `stalled_since`."""
    stalled_since: float | None = None
    """Boot clock; None while the no-progress clock stands."""
    leftovers: tuple[Leftover, ...] = ()
    pending_notice: Notice | None = None
    notice_seq: int = 0

    @property
    def current_file(self) -> int | None:
        """Index of the first file that is not transferred; files move strictly in order (jobs.md S7)."""
        return next((index for index, file in enumerate(self.files) if not file.is_transferred), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Progress of a whole job (jobs.md §1.3); `bytes_total` is None as long as one size is unknown."""

    bytes_total: int | None
    bytes_transferred: int
    files_total: int
    files_transferred: int


def totals(job: Job) -> Totals:
    """Sum the files up (BG_JOB_PROGRESS)."""
    sizes = [file.size_bytes for file in job.files]
    known = [size for size in sizes if size is not None]
    return Totals(
        bytes_total=sum(known) if len(known) == len(sizes) else None,
        bytes_transferred=sum(file.transferred_bytes for file in job.files),
        files_total=len(job.files),
        files_transferred=sum(file.is_transferred for file in job.files),
    )
