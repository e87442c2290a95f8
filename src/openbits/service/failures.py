"""What a failure on our side of a transfer means: error objects and codes for brokers, children and refusals."""

import logging

from openbits.core import codes, names
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import File, JobError
from openbits.core.wording import public_url
from openbits.service.child import ChildLostError
from openbits.service.file_broker import BrokerError
from openbits.service.spawner_link import RefusedError

log = logging.getLogger("openbits.manager")

CHILD_ENDED = 0x8007042B
"""HRESULT_FROM_WIN32(ERROR_PROCESS_ABORTED): a broker or worker died; transient by rule E8."""

NO_IDENTITY = 0x80070525
"""HRESULT_FROM_WIN32(ERROR_NO_SUCH_USER): nothing vouches for the identity any more; transient by rule E8."""


CODE_OF_REFUSAL = {"broken": CHILD_ENDED, "own-service": codes.E_ACCESSDENIED}
"""The others mean that nothing vouches for the identity now."""


class CannotFetchError(BitsError):
    """Nobody here can move the file, or not the part of it that is wanted."""


class TemporaryLostError(BitsError):
    """The temporary file of an unfinished file was removed, replaced or cut more than once."""


def job_error_of(
    error: Exception, file: File, index: int, at: float, identity: str, *, side: ErrorContext = ErrorContext.LOCAL_FILE
) -> JobError:
    """The error object for a failure on our side of the transfer; `identity` is the label of who acted.

    `side`: which of the two files a broker was concerned with.
    """
    path = path_of(file)
    if isinstance(error, BitsError):
        is_remote = error.context in {ErrorContext.REMOTE_FILE, ErrorContext.GENERAL_TRANSPORT}
        return JobError(
            code=error.hresult,
            context=error.context,
            detail=error.text,
            identity=identity,
            subject=public_url(file.present_remote_name) if is_remote else path,
            file_index=index,
            protocol=protocol_of(file) if is_remote else None,
            at=at,
        )
    if isinstance(error, BrokerError):
        return JobError(
            code=code_of_broker_error(error),
            context=side,
            detail=str(error),
            identity=identity,
            subject=error.subject,
            file_index=index,
            protocol=protocol_of(file) if side is ErrorContext.REMOTE_FILE else None,
            at=at,
        )
    if isinstance(error, RefusedError):
        code = CODE_OF_REFUSAL.get(error.reason, NO_IDENTITY)
        context = ErrorContext.GENERAL_QUEUE_MANAGER
        return JobError(code=code, context=context, detail=str(error), identity=identity, at=at)
    if not isinstance(error, ChildLostError):
        log.error("attempt_crashed file=%s", path, exc_info=error)
    return JobError(
        code=CHILD_ENDED,
        context=ErrorContext.GENERAL_QUEUE_MANAGER,
        detail=str(error),
        identity=identity,
        file_index=index,
        at=at,
    )


def path_of(file: File) -> str:
    """The local file."""
    return f"{file.directory.path}/{file.name}"


def protocol_of(file: File) -> str:
    """What GetProtocol says of the remote file (jobs.md §10)."""
    return "http" if names.path_of(file.present_remote_name) is None else "file"


def code_of_broker_error(error: BrokerError) -> int:
    """HRESULT of a failed file operation (errors.md §5.2, identity.md P2)."""
    if error.step == "volume":
        return codes.BG_E_VOLUME_CHANGED
    if error.step in {"moved", "changed"}:
        return codes.E_ACCESSDENIED
    return codes.from_errno(error.errno, is_directory=error.step == "directory")
