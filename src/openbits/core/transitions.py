"""The transitions of a job, T1 to T25 of jobs.md §3.2, as data.

`lifecycle.step` refuses every change of state that has no row here. A number may have several rows, since one row
knows one set of events; rows that say more than the specification's table carry the reason in their note.
"""

from dataclasses import dataclass

from openbits.core.enums import JobState
from openbits.core.events import (
    Acknowledged,
    AddFiles,
    AttemptFailed,
    Blocked,
    Cancel,
    CertificateDeclined,
    Complete,
    Connected,
    Event,
    FileRestarted,
    FilesTransferred,
    HelperTokenSet,
    InactivityExpired,
    NoProgressExpired,
    Postponed,
    Progressed,
    PublishingEnded,
    RangesFilled,
    RequestRanges,
    Resume,
    RetryDue,
    ServiceRestarted,
    SetHelperTokenFlags,
    SetProperties,
    SetRemoteNames,
    SlotGranted,
    SlotRevoked,
    Suspend,
    TakeOwnership,
    TokenLost,
    TransferTimeExceeded,
    ValidationRefused,
)

QUEUED = JobState.QUEUED
CONNECTING = JobState.CONNECTING
TRANSFERRING = JobState.TRANSFERRING
SUSPENDED = JobState.SUSPENDED
ERROR = JobState.ERROR
TRANSIENT_ERROR = JobState.TRANSIENT_ERROR
TRANSFERRED = JobState.TRANSFERRED
ACKNOWLEDGED = JobState.ACKNOWLEDGED
CANCELLED = JobState.CANCELLED

ACTIVE = tuple(state for state in JobState if state.is_active)
UNFINISHED = tuple(state for state in JobState if state.is_unfinished)
NON_FINAL = tuple(state for state in JobState if not state.is_final)
RUNNABLE = (QUEUED, *ACTIVE, TRANSIENT_ERROR)
"""The action states of jobs.md §3.1: these move on by themselves."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: `number` of jobs.md §3.2, states it starts from, events that cause it, state it ends in."""

    number: str
    sources: tuple[JobState, ...]
    events: tuple[type[Event], ...]
    target: JobState
    note: str


TRANSITIONS: tuple[Transition, ...] = (
    Transition("T1", (), (), SUSPENDED, "CreateJob: lifecycle.new_job"),
    Transition("T2", (SUSPENDED,), (Resume,), QUEUED, "at least one file"),
    Transition("T3", (SUSPENDED,), (Resume,), SUSPENDED, "no file: BG_E_EMPTY"),
    Transition("T4", (QUEUED,), (SlotGranted,), CONNECTING, "the scheduler grants a slot"),
    Transition("T5", (CONNECTING,), (Connected,), TRANSFERRING, "first response accepted; the error is discarded"),
    Transition("T5", (CONNECTING,), (Progressed, RangesFilled, FilesTransferred), TRANSFERRING, "bytes prove it"),
    Transition("T5", (CONNECTING,), (Acknowledged,), TRANSFERRING, "the server of an upload has answered"),
    Transition("T6", (CONNECTING,), (AttemptFailed,), TRANSIENT_ERROR, "the connection fails"),
    Transition("T7", ACTIVE, (AttemptFailed,), TRANSIENT_ERROR, "recoverable error"),
    Transition("T8", ACTIVE, (AttemptFailed,), ERROR, "fatal error"),
    Transition("T7", ACTIVE, (Acknowledged,), TRANSIENT_ERROR, "the server of an upload goes back again and again"),
    Transition("T8", ACTIVE, (Acknowledged,), ERROR, "the same, of a job that does not try again"),
    Transition("T8", ACTIVE, (FileRestarted,), ERROR, "the remote file changed once too often (OPEN-44)"),
    Transition("T8", ACTIVE, (Connected, Progressed, FilesTransferred), ERROR, "more than MAX_DOWNLOAD_SIZE allows"),
    Transition("T8", ACTIVE, (RangesFilled,), ERROR, "more than MAX_DOWNLOAD_SIZE allows"),
    Transition("T8", ACTIVE, (Connected,), ERROR, "a range is not inside the remote file (jobs.md §8.7 R5)"),
    Transition("T9", ACTIVE, (SlotRevoked,), QUEUED, "slice over, preempted, owner logged off"),
    Transition("T9", ACTIVE, (SetProperties,), QUEUED, "priority (S10), proxies, peer caching; CRL check on"),
    Transition("T9", ACTIVE, (SetHelperTokenFlags, HelperTokenSet), QUEUED, "the request needs another identity"),
    Transition("T9", ACTIVE, (TakeOwnership,), QUEUED, "the request needs another identity"),
    Transition("T9", ACTIVE, (SetRemoteNames,), QUEUED, "the request needs another name"),
    Transition("T9", ACTIVE, (RequestRanges,), QUEUED, "on-demand job: ranges of an earlier file come first"),
    Transition("T10", (TRANSFERRING,), (FilesTransferred, RangesFilled), TRANSFERRED, "all files done"),
    Transition("T10", (CONNECTING,), (FilesTransferred, RangesFilled), TRANSFERRED, "T5 and T10 in one step"),
    Transition("T10", (QUEUED,), (SlotGranted,), TRANSFERRED, "no file is left: T4, T5, T10 in one step, no traffic"),
    Transition("T11", (TRANSFERRING,), (RangesFilled, FilesTransferred), SUSPENDED, "on-demand job, files incomplete"),
    Transition("T11", (CONNECTING,), (RangesFilled, FilesTransferred), SUSPENDED, "T5 and T11 in one step"),
    Transition("T11", (QUEUED,), (SlotGranted,), SUSPENDED, "on-demand job, nothing requested: no traffic (OPEN-41)"),
    Transition("T12", (QUEUED, *ACTIVE), (Blocked,), TRANSIENT_ERROR, "a condition forbids transfers"),
    Transition("T12", ACTIVE, (AttemptFailed,), TRANSIENT_ERROR, "an attempt found such a condition (class E)"),
    Transition("T12", ACTIVE, (Postponed,), TRANSIENT_ERROR, "the server asked for time (reliability.md §5 row 56)"),
    Transition("T13", (TRANSIENT_ERROR,), (RetryDue, Resume), QUEUED, "delay over, condition ended, network, Resume"),
    Transition("T14", (TRANSIENT_ERROR,), (NoProgressExpired,), ERROR, "no-progress timeout over"),
    Transition("T14", ACTIVE, (AttemptFailed, CertificateDeclined), ERROR, "retry impossible: TRANSIENT_ERROR skipped"),
    Transition("T14", (QUEUED, *ACTIVE), (Blocked,), ERROR, "retry impossible: TRANSIENT_ERROR skipped"),
    Transition("T15", RUNNABLE, (Suspend,), SUSPENDED, "Suspend"),
    Transition("T15", RUNNABLE, (Complete,), SUSPENDED, "Complete stops the transfer first"),
    Transition("T16", (ERROR,), (Resume,), QUEUED, "the cause was removed"),
    Transition("T16", (TRANSFERRED,), (Resume,), QUEUED, "files are pending (OPEN-03)"),
    Transition("T17", ACTIVE, (TransferTimeExceeded,), ERROR, "BG_E_MAXDOWNLOAD_TIMEOUT"),
    Transition("T18", UNFINISHED, (TokenLost,), ERROR, "BG_E_TOKEN_REQUIRED"),
    Transition("T18", UNFINISHED, (ServiceRestarted,), ERROR, "the restart ended the token (identity.md I-13)"),
    Transition(
        "T19", (*UNFINISHED, TRANSFERRED), (ValidationRefused,), ERROR, "file from the origin: BG_E_VALIDATION_FAILED"
    ),
    Transition("T20", (*ACTIVE, TRANSFERRED), (ValidationRefused,), QUEUED, "file from a peer: fetched anew"),
    Transition("T21", ACTIVE, (CertificateDeclined,), TRANSIENT_ERROR, "later files connect in TRANSFERRING"),
    Transition("T22", (SUSPENDED, ERROR, TRANSFERRED), (PublishingEnded,), ACKNOWLEDGED, "Complete succeeded"),
    Transition("T22", (ERROR,), (PublishingEnded,), SUSPENDED, "a rename failed, job was not TRANSFERRED (OPEN-37)"),
    Transition("T22", (TRANSFERRED,), (PublishingEnded,), SUSPENDED, "a temporary was lost: fetch that file again"),
    Transition("T23", NON_FINAL, (Cancel, InactivityExpired), CANCELLED, "given up"),
    Transition("T24", (ERROR, TRANSFERRED), (AddFiles,), SUSPENDED, "OPEN-02: Resume moves the new files only"),
    Transition("T25", (*ACTIVE, TRANSIENT_ERROR), (ServiceRestarted,), QUEUED, "whatever was active is queued again"),
)

LEGAL: frozenset[tuple[JobState, type[Event], JobState]] = frozenset(
    (source, event, row.target) for row in TRANSITIONS for source in row.sources for event in row.events
)
"""Every change of state there is: state, event, next state."""

CONCERNED: frozenset[tuple[JobState, type[Event]]] = frozenset((source, event) for source, event, _ in LEGAL)
"""In which states an event means something."""
