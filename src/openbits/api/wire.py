"""The varlink interface `io.openbits.Service` in types: what crosses the socket between a client and the manager.

Enumerations travel as the lower-case names of `core.enums`, flags as integers, instants as seconds since the epoch,
job ids as canonical UUID text. The methods are listed in docs/api.md; `service.methods_*` implement them. Every
failure is the one varlink error `io.openbits.Service.Failed` (`Failure`).
"""

from typing import TypedDict

INTERFACE = "io.openbits.Service"
FAILED = f"{INTERFACE}.Failed"

MAX_MESSAGE_BYTES = 1 << 20
"""A longer message in either direction closes the connection (identity.md S10)."""


class Failure(TypedDict):
    """Parameters of the error Failed: the HRESULT as unsigned number, its symbol and a text with the next step."""

    hresult: int
    symbol: str
    message: str


class ErrorInfo(TypedDict):
    """The error object of a job (IBackgroundCopyError)."""

    hresult: int
    symbol: str
    context: str
    message: str
    """One line with all of it: symbol and number, meaning, place and object, identity, detail, next step."""
    detail: str
    """What the other side said, or what exactly failed; empty if there is nothing to add."""
    identity: str
    subject: str
    file_index: int | None
    protocol: str | None
    at: float


class WaitingInfo(TypedDict):
    """Why a job does not move: reason, since when, what happens next and when, what the user can do."""

    reason: str
    since: float
    next: str
    next_at: float | None
    hint: str


class PropertyValues(TypedDict, total=False):
    """Values of the property registry by name; enumerations as in the module head."""

    display_name: str
    description: str
    priority: str
    notify_flags: int
    minimum_retry_delay_seconds: int
    no_progress_timeout_seconds: int
    proxy_usage: str
    proxy_list: str
    proxy_bypass_list: str
    auto_complete: bool


class FileInfo(TypedDict):
    """One file of a job."""

    remote_name: str
    local_name: str
    bytes_total: int | None
    bytes_transferred: int
    is_transferred: bool
    is_published: bool
    temporary_name: str | None
    note: str


class JobInfo(TypedDict):
    """A job as its owner sees it."""

    job_id: str
    type: str
    state: str
    state_since: float
    properties: PropertyValues
    owner_uid: int
    owner_name: str
    owner_sid: str
    bytes_total: int | None
    bytes_transferred: int
    files_total: int
    files_transferred: int
    created_at: float
    modified_at: float
    transferred_at: float | None
    error: ErrorInfo | None
    error_count: int
    complete_error: ErrorInfo | None
    """Why the last Complete failed, also the one a job with auto_complete begins by itself; the job waits then."""
    phase: str
    """What the transfer does at this moment, in words ("connecting to host:443, TLS handshake"); empty when idle."""
    waiting: WaitingInfo | None
    helper_token_flags: int
    helper_sid: str | None
    helper_name: str | None


class FileToAdd(TypedDict):
    """One pair of AddFiles: remote name first, absolute local path."""

    remote_name: str
    local_name: str


class DirectorySeen(TypedDict):
    """What a path leads to in the mount namespace of the caller: device and inode, as stat says them there."""

    dev: int
    ino: int


class EventHead(TypedDict):
    """What every entry of the event stream has."""

    seq: int
    at: float
    kind: str
    job_id: str


class EventInfo(EventHead, total=False):
    """One entry of the event stream.

    `seq` grows by one from event to event of the whole service; a subscriber sees those of the jobs it may see.
    Stored events have the `state` of the job at that time, live ones the whole `job` as well; whoever registered for
    a job that another owner took hears its notices and its end, without `job`. `kind`: subscribed
    (always the first; carries `subscriber`), created, files-added, changed (a property), state, progress (not
    stored; seq repeats the last one), file-transferred, token, owner, removed, notice (JobTransferred or JobError to
    deliver: answer with AcknowledgeNotice), replaced (another SetNotify ended this `registration`), overflow (the
    stream was too slow: read the state anew), ended (the service stops).
    """

    job: JobInfo | None
    state: str | None
    file_index: int | None
    notice: str | None
    notice_seq: int | None
    subscriber: str | None
    registration: int | None


class TokenInfo(TypedDict):
    """What a token proves."""

    uid: int
    gid: int
    groups: list[int]
    name: str
    sid: str
    level: int


class ServiceInfo(TypedDict):
    """Who answers: the machine's service or one user's own, and whom it serves."""

    version: str
    mode: str
    """machine | user"""
    uid: int
    """uid of the spawner: 0 for the machine's service."""
    caller_uid: int
    caller_name: str
    process_ids: dict[str, int]
