"""What can happen to a job (requests and events) and what then has to be done (effects).

Requests are imperatives and come from a caller; events are past participles and come from workers, brokers, timers
and the spawner. `lifecycle.step` takes either and returns effects, which the manager carries out after the commit.
"""

from dataclasses import dataclass

from openbits.core import codes
from openbits.core.enums import Integrity, TokenFlags
from openbits.core.model import (
    Certificate,
    CommandLine,
    Directory,
    File,
    Identity,
    JobError,
    Leftover,
    Range,
    ReplyFile,
    Secret,
    Temporary,
    UploadSession,
    Validators,
)
from openbits.core.properties import Properties


class Event:
    """Base of requests and events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddFiles(Event):
    """AddFile, AddFileSet: the files are checked and resolved; all or nothing. `secrets` were part of their names."""

    files: tuple[File, ...]
    secrets: tuple[Secret, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetProperties(Event):
    """Any setter: the new values of all properties, and which of them the caller named."""

    properties: Properties
    names: tuple[str, ...] = ()
    activation: CommandLine | None = None
    """With a new NOTIFICATION_CLSID: its class, as that of the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHelperTokenFlags(Event):
    """IBitsTokenOptions.SetHelperTokenFlags."""

    flags: TokenFlags


@dataclass(frozen=True, slots=True)
class HelperTokenSet(Event):
    """SetHelperToken or ClearHelperToken happened; `is_set` tells which. The token itself is never persisted."""

    is_set: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSecret(Event):
    """SetCredentials, SetCustomHeaders: what is in the slot of this one is replaced. Later requests have it."""

    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveSecret(Event):
    """RemoveCredentials, SetCustomHeaders(NULL)."""

    slot: str


@dataclass(frozen=True, slots=True)
class MakeHeadersWriteOnly(Event):
    """MakeCustomHeadersWriteOnly: nobody can read custom headers of this job any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCertificate(Event):
    """SetClientCertificateByID and ByName, RemoveClientCertificate (None)."""

    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class SetCertificateCallback(Event):
    """SetServerCertificateValidationInterface: from now on no server goes unchecked; not `is_set`: NULL took it back.

    The callback itself is never persisted, that there has to be one is (jobs.md §9.8 V6).
    """

    is_set: bool


@dataclass(frozen=True, slots=True)
class SetCommandLine(Event):
    """SetNotifyCmdLine; None removes it."""

    command_line: CommandLine | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReplyFile(Event):
    """SetReplyFileName: the checked and resolved place; None: beside the upload file, under a name of ours."""

    file: ReplyFile | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOwnership(Event):
    """TakeOwnership by an administrator: `owner` is the new one.

    `copies`: index and temporary file of the new owner for every file of which the old owner's temporary has bytes.
    """

    owner: Identity
    integrity: Integrity = Integrity.MEDIUM
    copies: tuple[tuple[int, Temporary], ...] = ()


@dataclass(frozen=True, slots=True)
class Suspend(Event):
    """Stop at once; partial data and checkpoint stay."""


@dataclass(frozen=True, slots=True)
class Resume(Event):
    """Make the job runnable again."""


@dataclass(frozen=True, slots=True)
class Cancel(Event):
    """Give the job up and remove its temporaries."""


@dataclass(frozen=True, slots=True)
class Complete(Event):
    """Publish what is transferred and end the job."""


@dataclass(frozen=True, slots=True)
class SlotGranted(Event):
    """The scheduler lets the job run (T4)."""


@dataclass(frozen=True, slots=True)
class SlotRevoked(Event):
    """Slice over, preempted, owner logged off, request must restart (T9)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedTemporary:
    """A (new) temporary file for this file, whose progress starts at 0. `note`: why it begins again."""

    file_index: int
    temporary: Temporary
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporariesCreated(Event):
    """The broker is going to make these temporary files (`ino` 0), or has made them."""

    epoch: int
    files: tuple[CreatedTemporary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftoverNoted(Event):
    """A temporary file that belongs to no file of the job yet: announced (`ino` 0) before it is made, then confirmed.

    Whatever happens next, the store knows it and it will be removed.
    """

    leftover: Leftover


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryAdopted(Event):
    """The file goes on in a temporary of another identity, a noted leftover that now has all its bytes."""

    epoch: int
    file_index: int
    temporary: Temporary


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteDirectoryFound(Event):
    """The directory of a file:// name that nobody could find when the file was added."""

    file_index: int
    remote_name: str
    directory: Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Event):
    """Connection up and first response accepted (T5); what the response told about the remote file."""

    epoch: int
    file_index: int
    validators: Validators
    size_bytes: int | None
    note: str = ""
    response_headers: str = ""
    source_mode: int | None = None
    """file:// names: permission bits of the file that is read."""
    remote_name: str = ""
    """Where redirects have led, if the job wants that reported (REDIRECT_ALLOW_REPORT)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed(Event):
    """So many bytes of the file are on the disk now."""

    epoch: int
    file_index: int
    transferred_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged(Event):
    """The server has so many bytes of an upload under this session, perhaps fewer than before; None: it has forgotten.

    When it has all of them it has told, too, where the reply is.
    """

    epoch: int
    file_index: int
    session: UploadSession | None
    acknowledged_bytes: int
    note: str = ""
    response_headers: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyMoved(Event):
    """The reply is asked for at another host from now on (upload-protocol.md §8.3 D20)."""

    epoch: int
    remote_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RangesFilled(Event):
    """These parts of the file, with their lengths, are on the disk now, whatever is before them (jobs.md §8.9).

    With the last one the file is transferred; if all that was requested on demand is here, the job rests (T11).
    """

    epoch: int
    file_index: int
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRestarted(Event):
    """The remote file changed or cannot be resumed: the file begins again at 0 (jobs.md §9.3).

    `hresult`: the error of the job if that happens too often.
    """

    epoch: int
    file_index: int
    note: str
    hresult: int = codes.BG_E_REMOTE_FILE_CHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferredFile:
    """All bytes of this file are on the disk; an uploaded one has its final name."""

    file_index: int
    size_bytes: int
    has_source_acl: bool = False
    """The temporary file has got the access list of its source (BG_COPY_FILE_DACL)."""
    connected: Connected | None = None
    """What is told of a file that came whole in one go: it was connected, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesTransferred(Event):
    """These files are transferred, in this order."""

    epoch: int
    files: tuple[TransferredFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(Event):
    """The attempt ended with an error; its class decides between T7, T8 and T12."""

    epoch: int
    error: JobError
    spread: float = 0.0
    """Random part of the retry delay, 0 to 0.1 (OPEN-08); passed in because nothing here is random."""
    is_transient: bool = False
    """True: transient whatever the class of the code, as the loss of a temporary file is (OPEN-34)."""
    is_fatal: bool = False
    """True: fatal whatever the class of the code; trying again cannot help."""
    response_headers: str = ""
    """Of the response that the attempt failed with, if it had any."""
    remote_name: str = ""
    """Where a redirect leads that the job does not follow (REDIRECT_DISALLOW)."""


@dataclass(frozen=True, slots=True)
class RetryDue(Event):
    """The retry timer ran out, or the blocking condition ended, or a network arrived (T13)."""


@dataclass(frozen=True, slots=True)
class NoProgressExpired(Event):
    """The no-progress timeout ran out (T14)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked(Event):
    """A condition forbids transfers now (T12): network lost, policy, cost, volume, power. Never counted as an error."""

    error: JobError


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed(Event):
    """The server is left alone now, because of what it answered to others (T12). Never counted as an error.

    The error says for how long (`retry_after_seconds`).
    """

    epoch: int
    error: JobError
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class TransferTimeExceeded(Event):
    """Accumulated transfer time went past the maximum download time (T17)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLost(Event):
    """The helper token is gone, or needed and absent (T18)."""

    error: JobError


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRemoteNames(Event):
    """SetRemoteName, ReplaceRemotePrefix: files and their other names, all or nothing; durable with the next Resume."""

    names: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRanges(Event):
    """RequestFileRanges: these parts of the file come first; on demand, nothing else comes."""

    file_index: int
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateDownloadPosition(Event):
    """What is missing of the file from this byte on comes first, then the rest."""

    file_index: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationAccepted(Event):
    """SetValidationState(TRUE)."""

    file_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRefused(Event):
    """SetValidationState(FALSE) on a file from the origin (T19) or from a peer (T20)."""

    file_index: int
    is_from_peer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateDeclined(Event):
    """The certificate callback declined or is missing (T21)."""

    epoch: int
    error: JobError
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class InactivityExpired(Event):
    """Nobody touched the job for the inactivity timeout (T23)."""


@dataclass(frozen=True, slots=True)
class ServiceRestarted(Event):
    """The service loaded the job from the store (T25)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesPublished(Event):
    """The broker renamed these files to their final names, or found that it had done so before."""

    file_indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingEnded(Event):
    """Complete has done all it could: None, or the error of the rename that failed (jobs.md §8.4)."""

    error: JobError | None
    lost_file: int | None = None
    """The file whose rename failed because its temporary is not the one we made: it has to be fetched again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporariesRemoved(Event):
    """The temporaries of these files and these leftovers are gone (of a final job: tombstones of the others stay)."""

    file_indexes: tuple[int, ...]
    leftovers: tuple[Leftover, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDropped(Event):
    """The server was told that this upload was given up, or is not told any more (`core.abandoning`)."""

    file_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsResealed(Event):
    """The same secrets under the newest key of the service."""

    secrets: tuple[Secret, ...]


@dataclass(frozen=True, slots=True)
class NoticeDelivered(Event):
    """Whoever was told took the notice with this number."""

    notice_seq: int


class Effect:
    """Base of effects; each is carried out after the commit of the step that returned it."""


@dataclass(frozen=True, slots=True)
class StartTransfer(Effect):
    """Let brokers and worker move the files of the job, as the attempt `epoch`, until StopTransfer."""

    epoch: int


@dataclass(frozen=True, slots=True)
class StopTransfer(Effect):
    """End whatever workers do for the job now."""


@dataclass(frozen=True, slots=True)
class RepositionTransfer(Effect):
    """Have what is wanted now of this file fetched first, if the attempt moves it already (jobs.md §8.9)."""

    file_index: int


@dataclass(frozen=True, slots=True)
class CancelSession(Effect):
    """Tell the server that the upload of this job was given up, however often it takes; then SessionDropped."""


@dataclass(frozen=True, slots=True)
class PublishFiles(Effect):
    """Rename every transferred file, report them as FilesPublished, then PublishingEnded."""


@dataclass(frozen=True, slots=True)
class RemoveTemporaries(Effect):
    """Remove what the job has no use for, `lifecycle.removable` and leftovers, through their makers' identities."""


@dataclass(frozen=True, slots=True)
class Notify(Effect):
    """Deliver this notice, which is the next one of the job."""

    notice_seq: int


@dataclass(frozen=True, slots=True)
class ForgetCommands(Effect):
    """These may not be run any more: the job has others, another owner, or is final."""

    commands: tuple[CommandLine, ...]
