"""IBackgroundCopyFile, whose versions are in `file_versions`, and IBackgroundCopyError (jobs.md §7.11, §7.12)."""

from openbits.api.client import Job
from openbits.api.wire import ErrorInfo, FileInfo
from openbits.com.constants import BG_ERROR_CONTEXT
from openbits.com.enumerators import Snapshot
from openbits.com.structures import BG_FILE_PROGRESS, ErrorCode, size
from openbits.com.unknown import COMError, IUnknown, number
from openbits.core import codes
from openbits.core.enums import ErrorContext

_CONTEXTS_WITH_FILE = frozenset(
    {
        ErrorContext.LOCAL_FILE,
        ErrorContext.REMOTE_FILE,
        ErrorContext.GENERAL_TRANSPORT,
        ErrorContext.REMOTE_APPLICATION,
        ErrorContext.SERVER_CERTIFICATE_CALLBACK,
    }
)
"""Contexts whose error concerns a file, if one was in progress (errors.md §3)."""

_ENGLISH = 0x09
_LANGUAGE_MASK = 0x3FF


class IBackgroundCopyFile(IUnknown, iid="01b7bd23-fb88-4a77-8490-5891d3e4653a"):
    """One file of a job. Names and progress are read anew with each call."""

    def __init__(self, job: Job, index: int, unknown: IUnknown | None = None) -> None:
        self._job = job
        self._index = index
        self._unknown = self if unknown is None else unknown
        """The identity of the object, as COM has it: the interface that the others came from."""

    def _query(self, interface: type[IUnknown]) -> IUnknown | None:
        if interface is IUnknown:
            return self._unknown
        if issubclass(interface, IBackgroundCopyFile):
            return interface(self._job, self._index, self._unknown)
        return None

    def GetRemoteName(self) -> str:
        """The URL."""
        return self._info()["remote_name"]

    def GetLocalName(self) -> str:
        """The absolute path."""
        return self._info()["local_name"]

    def GetProgress(self) -> BG_FILE_PROGRESS:
        """Bytes in total and transferred; Completed after Complete has put the file in place."""
        info = self._info()
        return BG_FILE_PROGRESS(
            BytesTotal=size(info["bytes_total"]),
            BytesTransferred=info["bytes_transferred"],
            Completed=info["is_published"],
        )

    def _info(self) -> FileInfo:
        return self._job.files()[self._index]


class IEnumBackgroundCopyFiles(Snapshot[IBackgroundCopyFile], iid="ca51e165-c365-424c-8d41-24aaa4ff3c40"):
    """The files of a job in the order they were added."""


class IBackgroundCopyError(IUnknown, iid="19c613a0-fcb8-4f28-81ae-897c3d078f81"):
    """The error of a job as it was when this object was obtained (OPEN-28)."""

    def __init__(self, job: Job, info: ErrorInfo) -> None:
        self._job = job
        self._info = info
        self._context = ErrorContext[info["context"].upper()]

    def GetError(self) -> ErrorCode:
        """Context and code."""
        return ErrorCode(BG_ERROR_CONTEXT(int(self._context)), self._info["hresult"])

    def GetFile(self) -> IBackgroundCopyFile:
        """The file it concerns. Raises BG_E_FILE_NOT_AVAILABLE if it concerns none."""
        index = self._info["file_index"]
        if index is None or self._context not in _CONTEXTS_WITH_FILE:
            raise COMError(codes.BG_E_FILE_NOT_AVAILABLE)
        return IBackgroundCopyFile(self._job, index)

    def GetErrorDescription(self, LanguageId: int) -> str:
        """What failed, for whom, on what, and what to do, in one line of English."""
        _check_language(LanguageId, is_default_allowed=False)
        return self._info["message"]

    def GetErrorContextDescription(self, LanguageId: int) -> str:
        """Where it failed, in words."""
        _check_language(LanguageId, is_default_allowed=False)
        return codes.context_description(self._context)

    def GetProtocol(self) -> str:
        """`http` (also for https) or `file`. Raises BG_E_PROTOCOL_NOT_AVAILABLE if it concerns no protocol."""
        protocol = self._info["protocol"]
        if protocol is None:
            raise COMError(codes.BG_E_PROTOCOL_NOT_AVAILABLE)
        return protocol


def describe_code(hresult: int, language_id: int) -> str:
    """IBackgroundCopyManager.GetErrorDescription: the meaning of any code (errors.md §8)."""
    _check_language(language_id, is_default_allowed=True)
    if not isinstance(hresult, int):
        raise COMError(codes.E_INVALIDARG, f"cannot describe {hresult!r}: a code is a whole number")
    try:
        code = codes.lookup(hresult)
    except ValueError as error:
        raise COMError(codes.E_INVALIDARG, f"cannot describe {hresult}: {error}") from error
    return f"{codes.label(hresult)}: {code.sentence}" + (f"; {code.next_step}" if code.next_step else "")


def _check_language(language_id: int, *, is_default_allowed: bool) -> None:
    """English is the one language of the texts; 0 means the default, where that is allowed."""
    if number(language_id, "LanguageId") == 0 and not is_default_allowed:
        raise COMError(codes.E_INVALIDARG, "LanguageId is 0; give a language, for example 0x0409 (English)")
    if language_id & _LANGUAGE_MASK not in {0, _ENGLISH}:
        raise COMError(
            codes.ERROR_RESOURCE_LANG_NOT_FOUND, f"no texts in language 0x{language_id:04X}; use 0x0409 (English)"
        )
