"""The values of the job model: identity, file, error, job.

Everything here is frozen; a change is a new value made by `lifecycle.step`. Units: bytes, seconds; `*_at` is an
instant, other times are spans.
"""

import uuid
from dataclasses import dataclass, field

from openbits.core.enums import CertStore, ErrorContext, Integrity, JobState, JobType, Notice, TokenFlags
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
    media_type: str | None = None
    """Content-Type without parameters, in lower case: a login page of the network is not taken for a new version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A part of a remote file; `length_bytes` None: up to its end (BG_LENGTH_TO_EOF)."""

    offset: int
    length_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSession:
    """The session of an upload at its server, and how far it is (upload-protocol.md §7.5).

    `host`: BITS-Host-Id, for all packets but Create-Session; empty: that of the remote name. `fallback_seconds`: how
    long that host may be out of reach before the remote name's is asked again; None: for ever. `host_failed_at`: wall
    clock, when it first could not be reached since it last answered. `is_received`: the last byte was acknowledged.
    `reply_url`: absolute, as resolved against the URL the last fragment was sent to; empty: no reply.
    """

    session_id: str
    host: str = ""
    fallback_seconds: int | None = None
    host_failed_at: float | None = None
    is_received: bool = False
    reply_url: str = ""


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
    restarts_since: float | None = None
    """Wall clock: when the first of these was; they count for a day."""
    note: str = ""
    new_remote_name: str = ""
    """What SetRemoteName or ReplaceRemotePrefix gave; not stored: the next Resume makes it the remote name."""
    given_remote_name: str = ""
    """What a client named the remote file, if a redirect that is reported has given it another name since (§9.4)."""
    ranges: tuple[Range, ...] = ()
    """The parts that the local file is made of, in this order, without gaps; empty: the whole remote file."""
    wanted: tuple[Range, ...] = ()
    """Random access: what is to be fetched before the rest, in this order."""
    filled: tuple[Range, ...] = ()
    """Random access: what is there beside the first `transferred_bytes`, merged and sorted."""
    is_valid: bool = False
    """SetValidationState(TRUE)."""
    response_headers: str = ""
    """Header block of the last response for this file."""
    is_upload: bool = False
    """The local file is what is read; the temporary file and the one it becomes are in `remote_directory`."""
    remote_directory: Directory | None = None
    """file:// names: where the remote file is, fixed when somebody first could find it (P1)."""
    source_mode: int | None = None
    """file:// names: permission bits of the file that is read; the one that is made has no more (jobs.md §8.5)."""
    has_source_acl: bool = False
    """The file that is made has the access list of its source already (BG_COPY_FILE_DACL)."""
    session: UploadSession | None = None
    """An upload to a web server: its session there, whose acknowledged bytes are the `transferred_bytes`."""
    farthest_bytes: int = 0
    """The most that a server has acknowledged of an upload: what is not beyond it is no progress."""
    setbacks: int = 0
    """How often a session has gone back since then (jobs.md §11.1)."""

    @property
    def made_in(self) -> Directory:
        """Where the temporary file and then the final one is made; of an upload it must be known."""
        if not self.is_upload:
            return self.directory
        if self.remote_directory is None:
            raise ValueError(f"nobody knows yet where {self.remote_name} is")
        return self.remote_directory

    @property
    def is_placed(self) -> bool:
        """HIGH_PERFORMANCE: the temporary file has its final name from the start; nobody removes it (jobs.md §13)."""
        return not self.is_upload and self.temporary is not None and self.temporary.name == self.name

    @property
    def present_remote_name(self) -> str:
        """What requests ask for and clients see."""
        return self.new_remote_name or self.remote_name

    @property
    def client_remote_name(self) -> str:
        """What a client named the remote file, wherever redirects led: what proves who asks is for its server."""
        return self.new_remote_name or self.given_remote_name or self.remote_name

    @property
    def arrived_bytes(self) -> int:
        """Bytes on the disk, wherever in the file they are (BytesTransferred)."""
        if not self.filled:
            return self.transferred_bytes
        return self.transferred_bytes + sum(item.length_bytes or 0 for item in self.filled)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFile(File):
    """The local file for the answer of a server (jobs.md §11.2), moved like one that is downloaded.

    `remote_name`: the reply URL, empty before the server has told it. `size_bytes` None: the reply does not come yet.
    """

    remote_name: str = ""
    published: Temporary | None = None
    """What proves that the file with the final name is still the one that was published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Something entrusted to a job, encrypted (identity.md §14); `slot` says what it is, each once in a job."""

    slot: str
    key_id: str
    sealed: str
    """Base64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Which client certificate to use: by SHA-1 (hexadecimal) or, if that is empty, by a part of its subject."""

    location: CertStore
    store: str
    sha1: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """The program that is run for a notice, and as whom (jobs.md §12.5).

    Without a program the parameters are the class id of one that a manifest of the machine names (OPEN-51).
    """

    program: str
    parameters: str
    setter: Identity

    def runs_like(self, other: "CommandLine") -> bool:
        """True if both are the same program with the same parameters, of the same user."""
        mine, theirs = (self.program, self.parameters, self.setter.uid), (other.program, other.parameters)
        return mine == (*theirs, other.setter.uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNotice:
    """FileTransferred of one file, which nobody took yet; all notices of a job are numbered together."""

    file_index: int
    notice_seq: int


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
    owner_integrity: Integrity = Integrity.MEDIUM
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
    """Number of the last notice that was raised; the pending one has it."""
    untold_files: tuple[FileNotice, ...] = ()
    """What comes before the pending notice, in order (jobs.md N1); empty unless the job's flags ask for it."""
    command_line: CommandLine | None = None
    activation: CommandLine | None = None
    """The class of NOTIFICATION_CLSID, as that of whoever set it."""
    reply: ReplyFile | None = None
    """UPLOAD_REPLY: where the answer of the server goes; None: as `reply.file_of` says."""
    secrets: tuple[Secret, ...] = ()
    certificate: Certificate | None = None
    has_write_only_headers: bool = False
    needs_certificate_callback: bool = False
    """A certificate callback was set: without one the job must not connect (jobs.md §9.8 V6)."""
    transfer_seconds: float = 0.0
    """Time in CONNECTING and TRANSFERRING before `transferring_since`; Resume sets it to 0 (jobs.md §3.4)."""
    transferring_since: float | None = None
    """Boot clock; None while the job is not active."""
    settled_files: int = field(default=0, compare=False)
    """Every file before this index is transferred: where `current_file` begins to look. Not persisted."""

    @property
    def commands(self) -> tuple[CommandLine, ...]:
        """What may be run for the job: nothing any more when it is final."""
        given = (self.command_line, self.activation)
        return () if self.state.is_final else tuple(command for command in given if command is not None)

    @property
    def every_file(self) -> tuple[File, ...]:
        """The files, then the reply: what has a temporary file. Their places in it are the indexes of attempts."""
        return self.files if self.reply is None else (*self.files, self.reply)

    @property
    def reply_index(self) -> int:
        """The index of the reply."""
        return len(self.files)

    def file_at(self, index: int) -> File:
        """A file, or the reply."""
        if index == self.reply_index and self.reply is not None:
            return self.reply
        return self.files[index]

    def client_index(self, index: int) -> int:
        """The index of a file as clients know it: the reply is none of the files and goes with its upload."""
        return min(index, len(self.files) - 1)

    @property
    def is_resumable(self) -> bool:
        """False if every request begins at byte 0: of another method (jobs.md §9.9 M4), for made content (§13)."""
        return not (self.properties.http_method or self.properties.dynamic_content)

    @property
    def current_file(self) -> int | None:
        """Index of the first file that is not transferred; files move in their order (jobs.md S7)."""
        unsettled = range(self.settled_files, len(self.files))
        return next((index for index in unsettled if not self.files[index].is_transferred), None)

    @property
    def next_file(self) -> int | None:
        """Index of the first file to move: the current one; on demand the first of which something is wanted.

        None if nothing is to be moved, which on demand does not mean that the job is transferred (jobs.md §8.9).
        """
        if not self.properties.on_demand_mode:
            return self.current_file
        return next((index for index, file in enumerate(self.files) if file.wanted and not file.is_transferred), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Progress of a whole job (jobs.md §1.3); `bytes_total` is None as long as one size is unknown."""

    bytes_total: int | None
    bytes_transferred: int
    files_total: int
    files_transferred: int


def totals(job: Job) -> Totals:
    """Sum the files up (BG_JOB_PROGRESS)."""
    bytes_total = unknown = bytes_transferred = files_transferred = 0
    for file in job.files:  # one loop: a job may have thousands, and whoever watches it asks often
        if file.size_bytes is None:
            unknown += 1
        else:
            bytes_total += file.size_bytes
        bytes_transferred += file.arrived_bytes
        files_transferred += file.is_transferred
    return Totals(
        bytes_total=None if unknown else bytes_total,
        bytes_transferred=bytes_transferred,
        files_total=len(job.files),
        files_transferred=files_transferred,
    )
