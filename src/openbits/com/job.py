"""IBackgroundCopyJob and IBitsTokenOptions (jobs.md §7.2, §7.3, §14).

Each interface pointer is a handle of the service: access was checked when QueryInterface (or CreateJob, GetJob, the
enumerator) gave it, under the identity of that call; what is called on it later may run under another identity.
"""

import enum
import uuid
from collections.abc import Sequence
from typing import TypeVar

from openbits.api.client import Job
from openbits.com.callbacks import Delivery, IBackgroundCopyCallback
from openbits.com.constants import BG_JOB_PRIORITY, BG_JOB_PROXY_USAGE, BG_JOB_STATE, BG_JOB_TYPE
from openbits.com.enumerators import Snapshot
from openbits.com.files import IBackgroundCopyError, IBackgroundCopyFile, IEnumBackgroundCopyFiles
from openbits.com.structures import BG_FILE_INFO, BG_JOB_PROGRESS, BG_JOB_TIMES, ProxySettings, filetime, size
from openbits.com.unknown import COMError, IUnknown, mandatory, number, structures
from openbits.core import codes, enums
from openbits.core.enums import JobState, JobType, Priority, TokenFlags

Numbered = TypeVar("Numbered", bound=enum.IntEnum)


class JobInterface(IUnknown):
    """What the interfaces of a job share: the handle, and the way from one to another.

    IUnknown is the identity of the object, as in COM: all interfaces that come from one another by QueryInterface give
    the same one, the first of them. Every other interface is a handle of its own, whose access was checked.
    """

    def __init__(self, job: Job, unknown: IUnknown | None = None) -> None:
        self.job = job
        self._unknown = self if unknown is None else unknown

    def _query(self, interface: type[IUnknown]) -> IUnknown | None:
        if interface is IUnknown:
            return self._unknown
        if not issubclass(interface, JobInterface) or "IID" not in vars(interface):
            return None
        return interface(self.job.open_again(), self._unknown)


class IBackgroundCopyJob(JobInterface, iid="37668d37-507e-4160-9316-26306d150b12"):
    """A job. Setters return S_OK; they fail with BG_E_INVALID_STATE once the job is completed or cancelled."""

    def AddFileSet(self, pFileSet: Sequence[BG_FILE_INFO]) -> int:
        """Add files, all or nothing."""
        pairs = structures(pFileSet, BG_FILE_INFO, "pFileSet")
        self.job.add_files(
            [(mandatory(pair.RemoteName, "RemoteName"), mandatory(pair.LocalName, "LocalName")) for pair in pairs]
        )
        return codes.S_OK

    def AddFile(self, RemoteUrl: str, LocalName: str) -> int:
        """Add one file: URL first, absolute path in an existing directory."""
        self.job.add_file(mandatory(RemoteUrl, "RemoteUrl"), mandatory(LocalName, "LocalName"))
        return codes.S_OK

    def EnumFiles(self) -> IEnumBackgroundCopyFiles:
        """The files in the order they were added."""
        return IEnumBackgroundCopyFiles(
            [IBackgroundCopyFile(self.job, index) for index in range(len(self.job.files()))]
        )

    def Suspend(self) -> int:
        """Stop at once; what was transferred stays."""
        self.job.suspend()
        return codes.S_OK

    def Resume(self) -> int:
        """Make the job runnable. Raises BG_E_EMPTY for a job without files."""
        self.job.resume()
        return codes.S_OK

    def Cancel(self) -> int:
        """Give the job up: S_OK or BG_S_UNABLE_TO_DELETE_FILES."""
        return self.job.cancel()

    def Complete(self) -> int:
        """Make the files visible: S_OK, BG_S_PARTIAL_COMPLETE or BG_S_UNABLE_TO_DELETE_FILES."""
        return self.job.complete()

    def GetId(self) -> uuid.UUID:
        """The id of the job."""
        return self.job.id

    def GetType(self) -> BG_JOB_TYPE:
        """Download, upload or upload-reply."""
        return BG_JOB_TYPE(int(JobType[self.job.info()["type"].upper()]))

    def GetProgress(self) -> BG_JOB_PROGRESS:
        """Bytes and files, in total and transferred."""
        info = self.job.info()
        return BG_JOB_PROGRESS(
            BytesTotal=size(info["bytes_total"]),
            BytesTransferred=info["bytes_transferred"],
            FilesTotal=info["files_total"],
            FilesTransferred=info["files_transferred"],
        )

    def GetTimes(self) -> BG_JOB_TIMES:
        """When it was created, last changed, and transferred (None before)."""
        info = self.job.info()
        return BG_JOB_TIMES(
            CreationTime=filetime(info["created_at"]),
            ModificationTime=filetime(info["modified_at"]),
            TransferCompletionTime=filetime(info["transferred_at"]),
        )

    def GetState(self) -> BG_JOB_STATE:
        """The state now."""
        return BG_JOB_STATE(int(JobState[self.job.info()["state"].upper()]))

    def GetError(self) -> IBackgroundCopyError:
        """The error object. Raises BG_E_ERROR_INFORMATION_UNAVAILABLE while there is none (jobs.md §3.6)."""
        info = self.job.error
        if info is None:
            raise COMError(codes.BG_E_ERROR_INFORMATION_UNAVAILABLE)
        return IBackgroundCopyError(self.job, info)

    def GetOwner(self) -> str:
        """SID of the owner: `S-1-22-1-<uid>`."""
        return self.job.info()["owner_sid"]

    def SetDisplayName(self, Val: str) -> int:
        """At most 256 characters, else BG_E_STRING_TOO_LONG."""
        return self._set(display_name=mandatory(Val, "Val"))

    def GetDisplayName(self) -> str:
        """The name for people."""
        return self.job.info()["properties"]["display_name"]

    def SetDescription(self, Val: str) -> int:
        """At most 1024 characters, else BG_E_STRING_TOO_LONG."""
        return self._set(description=mandatory(Val, "Val"))

    def GetDescription(self) -> str:
        """The description, empty by default."""
        return self.job.info()["properties"]["description"]

    def SetPriority(self, Val: int) -> int:
        """Raises E_NOTIMPL for an undefined value."""
        return self._set(priority=defined(Priority, Val, "priority"))

    def GetPriority(self) -> BG_JOB_PRIORITY:
        """NORMAL by default."""
        return BG_JOB_PRIORITY(int(Priority[self.job.info()["properties"]["priority"].upper()]))

    def SetNotifyFlags(self, Val: int) -> int:
        """Which events are notified. Raises E_NOTIMPL for undefined bits."""
        return self._set(notify_flags=number(Val, "Val"))

    def GetNotifyFlags(self) -> int:
        """JOB_TRANSFERRED | JOB_ERROR by default."""
        return self.job.info()["properties"]["notify_flags"]

    def SetNotifyInterface(self, Val: IBackgroundCopyCallback | None) -> int:
        """Who is called (None: nobody). The last caller wins; a notice that waits already is delivered."""
        notifier = self.job.client.notifier
        if Val is None:
            notifier.forget(self.job)
        elif isinstance(Val, IBackgroundCopyCallback):
            notifier.register(self.job, Delivery(self, Val))
        else:
            raise COMError(
                codes.E_NOINTERFACE, f"{type(Val).__name__} is no callback; derive it from IBackgroundCopyCallback"
            )
        return codes.S_OK

    def GetNotifyInterface(self) -> IBackgroundCopyCallback | None:
        """The callback this process has set; another process's is None (OPEN-19)."""
        handler = self.job.client.notifier.handler(self.job.id)
        return handler.callback if isinstance(handler, Delivery) else None

    def SetMinimumRetryDelay(self, Seconds: int) -> int:
        """Seconds between attempts; less than 5 becomes 5."""
        return self._set(minimum_retry_delay_seconds=number(Seconds, "Seconds"))

    def GetMinimumRetryDelay(self) -> int:
        """600 by default."""
        return self.job.info()["properties"]["minimum_retry_delay_seconds"]

    def SetNoProgressTimeout(self, Seconds: int) -> int:
        """Seconds of retries without progress until the job is in ERROR; 0: every error is fatal."""
        return self._set(no_progress_timeout_seconds=number(Seconds, "Seconds"))

    def GetNoProgressTimeout(self) -> int:
        """14 days by default."""
        return self.job.info()["properties"]["no_progress_timeout_seconds"]

    def GetErrorCount(self) -> int:
        """How often the transfer was interrupted; never reset."""
        return self.job.info()["error_count"]

    def SetProxySettings(self, ProxyUsage: int, ProxyList: str | None, ProxyBypassList: str | None) -> int:
        """How the job finds its proxy; with OVERRIDE by the lists, which are NULL for every other usage (jobs.md §9.7).

        What the lists say is read when the job transfers: then an unusable one is the job's error
        BG_E_INVALID_PROXY_INFO. Raises E_NOTIMPL for an undefined usage, E_INVALIDARG,
        BG_E_PROXY_LIST_TOO_LARGE, BG_E_PROXY_BYPASS_LIST_TOO_LARGE.
        """
        usage = defined(enums.ProxyUsage, ProxyUsage, "proxy usage")
        if usage is enums.ProxyUsage.OVERRIDE:
            mandatory(ProxyList, "ProxyList")
        elif ProxyList is not None or ProxyBypassList is not None:
            raise COMError(codes.E_INVALIDARG, f"lists are for OVERRIDE, not for {usage.name}; give NULL (None) twice")
        return self._set(proxy_usage=usage, proxy_list=ProxyList or "", proxy_bypass_list=ProxyBypassList or "")

    def GetProxySettings(self) -> ProxySettings:
        """Usage and lists; PRECONFIG by default, lists only for OVERRIDE."""
        values = self.job.info()["properties"]
        usage = BG_JOB_PROXY_USAGE(int(enums.ProxyUsage[values["proxy_usage"].upper()]))
        return ProxySettings(usage, values["proxy_list"] or None, values["proxy_bypass_list"] or None)

    def TakeOwnership(self) -> int:
        """Make the caller the owner; the helper token goes, its flags stay (OPEN-20), and the callback stays.

        Raises E_ACCESSDENIED unless the caller is an administrator, BG_E_NEW_OWNER_NO_FILE_ACCESS.
        """
        self.job.take_ownership()
        return codes.S_OK

    def _set(self, **properties: object) -> int:
        self.job.set(**properties)
        return codes.S_OK


class IBitsTokenOptions(JobInterface, iid="9a2584c3-f7d2-457a-9a5e-22b67bffc7d2"):
    """The helper token of a job: a second identity (identity.md §3). It is never stored; the flags are."""

    def SetHelperTokenFlags(self, UsageFlags: int) -> int:
        """BG_TOKEN_LOCAL_FILE, BG_TOKEN_NETWORK, both, or 0 for one identity only."""
        self.job.set_helper_token_flags(TokenFlags(number(UsageFlags, "UsageFlags")))
        return codes.S_OK

    def GetHelperTokenFlags(self) -> int:
        """The flags."""
        return self.job.info()["helper_token_flags"]

    def SetHelperToken(self) -> int:
        """Give the job the identity of this call: impersonate the helper around it."""
        self.job.set_helper_token()
        return codes.S_OK

    def ClearHelperToken(self) -> int:
        """Drop the token; the flags stay."""
        self.job.clear_helper_token()
        return codes.S_OK

    def GetHelperTokenSid(self) -> str | None:
        """SID of the helper identity, None if no token is set."""
        return self.job.info()["helper_sid"]


class IEnumBackgroundCopyJobs(Snapshot[IBackgroundCopyJob], iid="1af4f612-3b71-466f-8f58-7b6f73ac57ad"):
    """Jobs, in no particular order."""


def defined(enumeration: type[Numbered], value: int, name: str) -> Numbered:
    """The member of a number; an undefined one is E_NOTIMPL, not E_INVALIDARG (jobs.md §2.3)."""
    try:
        return enumeration(mandatory(value, name))
    except ValueError as error:
        raise COMError(codes.E_NOTIMPL, f"{value} is no defined {name}; use a documented value") from error
