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


class NoticeInfo(TypedDict):
    """The next notice of a job: what (as in EventInfo), to whom, since when, what happens next and what can be done."""

    notice: str
    file_index: int | None
    to: str
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
    maximum_download_seconds: int | None
    file_acl_flags: int
    peer_caching_flags: int
    security_flags: int
    http_method: str
    cost_flags: int | None
    notification_clsid: str
    dynamic_content: bool
    high_performance: bool
    max_download_size_bytes: int | None
    use_stored_proxy_credentials: bool
    minimum_notification_interval_ms: int
    on_demand_mode: bool
    parallel_files: int
    maximum_rate_bytes_per_second: int | None
    segments: int
    auto_complete: bool


class RangeInfo(TypedDict):
    """A part of a file; `length` null: up to its end."""

    offset: int
    length: int | None


class NotifyCommandInfo(TypedDict):
    """The notify command of a job, and as whom it is run; `note`: why it is not, or how its last run failed."""

    program: str
    parameters: str
    setter_uid: int
    setter_name: str
    note: str


class FileInfo(TypedDict):
    """One file of a job; `ranges`: the parts of the remote file that it is made of, empty if it is the whole."""

    remote_name: str
    local_name: str
    bytes_total: int | None
    bytes_transferred: int
    is_transferred: bool
    is_published: bool
    is_valid: bool
    ranges: list[RangeInfo]
    temporary_name: str | None
    note: str


class ReplyInfo(TypedDict):
    """Where the reply of an upload-reply job goes, and its progress; `bytes_total` None: it does not come yet."""

    local_name: str | None
    bytes_total: int | None
    bytes_transferred: int


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
    owner_integrity_level: int
    """RID of the owner when the job was created or taken over: 0x2000, 0x3000 (elevated), 0x4000 (no session)."""
    owner_is_elevated: bool
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
    maximum_download_seconds: int
    """How long the job may be connecting and transferring altogether: its own value, else that of the policy."""
    transfer_seconds: float
    """How long it was since the last Resume that made it runnable."""
    expires_at: float | None
    """When it is cancelled if nothing changes (policy JobInactivityTimeout); null for a final job."""
    phase: str
    """What the transfer does at this moment, in words ("connecting to host:443, TLS handshake"); empty when idle."""
    waiting: WaitingInfo | None
    notice: NoticeInfo | None
    """The next notice that somebody is to be told of, which nobody took yet."""
    helper_token_flags: int
    helper_sid: str | None
    helper_name: str | None
    notify_command: NotifyCommandInfo | None
    entrusted: list[str]
    """Names of what was entrusted to the job: `server/basic`, …, `headers`, `url/https://host:443`, `certificate`."""
    reply: ReplyInfo | None
    """None: the job is of another type."""


class NamesToAdd(TypedDict):
    """One pair of AddFiles: remote name first, absolute local path."""

    remote_name: str
    local_name: str


class FileToAdd(NamesToAdd, total=False):
    """A pair, and of which parts of the remote file the local one is to be made; without any, of the whole."""

    ranges: list[RangeInfo] | None


class DirectorySeen(TypedDict):
    """What a path leads to in the mount namespace of the caller: device and inode, as stat says them there."""

    dev: int
    ino: int


class CertificateInfo(TypedDict):
    """Which client certificate a job uses: by its SHA-1 in hexadecimal, or (that is empty) by a part of its subject."""

    location: str
    """current_user | local_machine"""
    store: str
    sha1: str
    subject: str


class CertificateQuestion(TypedDict):
    """May this server be talked to? Its certificate passed the usual checks, and no request was sent yet."""

    number: int
    file_index: int
    server: str
    """host:port"""
    certificate: str
    """DER, as base64."""
    chain: list[str]
    """The certificates that led to a trusted one, the same way."""


class EventHead(TypedDict):
    """What every entry of the event stream has."""

    seq: int
    at: float
    kind: str
    job_id: str


class EventInfo(EventHead, total=False):
    """One entry of the event stream.

    `seq` grows by one from event to event of the whole service; a subscriber sees those of the jobs it may see.
    Stored events have the `state` of the job at that time, live ones the whole `job` as well. `kind`: subscribed
    (always the first; carries `subscriber`), created, files-added, changed (a property), state, expiring (the job will
    be cancelled for inactivity; told again after a restart), progress (not stored; seq repeats the last one),
    file-transferred (one file or several), token, owner, removed, overflow (the stream was too slow: read the state
    anew), ended (the service stops).

    To whoever registered for the job alone, also when another owner took it:
    notice, with `notice_seq`: transferred, error (both with `job`, unless it is another owner's) or file-transferred
    (`file_index`), to be answered with AcknowledgeNotice;
    notice, without: modification or ranges (`file_index`, `ranges`), only of jobs that it may see, without an answer;
    replaced (another SetNotify ended this `registration`); certificate (`question`, for AnswerCertificate);
    and the end of the job, `state` alone.
    """

    job: JobInfo | None
    state: str | None
    file_index: int | None
    notice: str | None
    notice_seq: int | None
    ranges: list[RangeInfo] | None
    subscriber: str | None
    registration: int | None
    question: CertificateQuestion | None


class PolicyInfo(TypedDict):
    """One policy: `kind` is number or boolean, as which `value` and `default` are 0 or 1; null is no value."""

    name: str
    kind: str
    value: int | None
    default: int | None
    unit: str
    rule: str
    """What a value has to be."""
    doc: str
    origin: str
    """`file:line` that sets it; empty: the default is in force."""
    is_used: bool
    """False: it is checked and shown, and nothing goes by it yet."""


class PoliciesInfo(TypedDict):
    """The policies in force; `problem`: why what the files say now is not, empty if it is."""

    folder: str
    problem: str
    policies: list[PolicyInfo]


class ProxyProblem(TypedDict):
    """Why it cannot be said, or what is wrong with the proxy."""

    hresult: int
    text: str


class ProxyExplanation(TypedDict):
    """How a URL would be asked for, and who says so."""

    url: str
    """Without user information and query."""
    uid: int
    identity: str
    """Who would ask, and whose settings count: `alice (uid 1000)`."""
    usage: str
    """no-proxy | override | autodetect | script"""
    source: str
    """Who says so: the job, a file, the settings of the service."""
    why: str
    """What decided: the list, an exception, a proxy script."""
    choice: list[str]
    """What would be tried, in this order: proxies, or `direct`; empty with a problem."""
    notes: list[str]
    asked: str | None
    """The proxy that was asked, once and without credentials; null: there is none to ask."""
    answer: str
    schemes: list[str]
    """Of authentication, that it offers; empty: it wants none, or did not say."""
    problem: ProxyProblem | None


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
