"""The documented BITS interfaces by their own names: code written for BITS ports line by line.

    from openbits.com import BackgroundCopyManager, BG_JOB_PRIORITY_FOREGROUND, BG_JOB_TYPE_DOWNLOAD

    manager = BackgroundCopyManager()
    job_id, job = manager.CreateJob("nightly", BG_JOB_TYPE_DOWNLOAD)
    job.SetPriority(BG_JOB_PRIORITY_FOREGROUND)

Methods take parameters in documented order; out-parameters are the result (several: a named tuple), a method without
them returns its success code. Failure raises COMError. NULL is None, GUIDs are `uuid.UUID`, FILETIME values are
`datetime` in UTC. Every BG_*, E_*, RPC_* … constant is a name of this module.
"""

from openbits.com.callbacks import (
    IBackgroundCopyCallback,
    IBackgroundCopyCallback2,
    IBackgroundCopyCallback3,
    IBackgroundCopyServerCertificateValidationCallback,
)
from openbits.com.constants import (
    BG_AUTH_SCHEME,
    BG_AUTH_TARGET,
    BG_CERT_STORE_LOCATION,
    BG_COPY_FILE,
    BG_ENABLE_PEERCACHING,
    BG_ERROR_CONTEXT,
    BG_HTTP_REDIRECT_POLICY,
    BG_JOB_ENABLE_PEERCACHING,
    BG_JOB_ENUM,
    BG_JOB_PRIORITY,
    BG_JOB_PROXY_USAGE,
    BG_JOB_STATE,
    BG_JOB_TYPE,
    BG_NOTIFY,
    BG_SSL,
    BG_TOKEN,
    BITS_COST_STATE,
    BITS_FILE_PROPERTY_ID,
    BITS_JOB_PROPERTY_ID,
    BITS_JOB_TRANSFER_POLICY,
    CONSTANTS,
)
from openbits.com.file_versions import (
    IBackgroundCopyFile2,
    IBackgroundCopyFile3,
    IBackgroundCopyFile4,
    IBackgroundCopyFile5,
    IBackgroundCopyFile6,
)
from openbits.com.files import IBackgroundCopyError, IBackgroundCopyFile, IEnumBackgroundCopyFiles
from openbits.com.http_options import (
    IBackgroundCopyJobHttpOptions,
    IBackgroundCopyJobHttpOptions2,
    IBackgroundCopyJobHttpOptions3,
)
from openbits.com.interfaces import (
    IBitsPeer,
    IBitsPeerCacheAdministration,
    IBitsPeerCacheRecord,
    IEnumBitsPeerCacheRecords,
    IEnumBitsPeers,
)
from openbits.com.job import IBackgroundCopyJob, IBitsTokenOptions, IEnumBackgroundCopyJobs
from openbits.com.job_versions import (
    IBackgroundCopyJob2,
    IBackgroundCopyJob3,
    IBackgroundCopyJob4,
    IBackgroundCopyJob5,
)
from openbits.com.manager import (
    BackgroundCopyManager,
    BackgroundCopyManager1_5,
    BackgroundCopyManager2_0,
    BackgroundCopyManager2_5,
    BackgroundCopyManager3_0,
    BackgroundCopyManager4_0,
    BackgroundCopyManager5_0,
    BackgroundCopyManager10_1,
    BackgroundCopyManager10_2,
    BackgroundCopyManager10_3,
    IBackgroundCopyManager,
)
from openbits.com.security import (
    ERROR_NO_TOKEN,
    RPC_E_TOO_LATE,
    CloseHandle,
    CoInitializeEx,
    CoInitializeSecurity,
    CoUninitialize,
    GetCurrentProcess,
    GetCurrentThread,
    ImpersonateLoggedOnUser,
    LogonUser,
    OpenProcessToken,
    OpenThreadToken,
    RevertToSelf,
)
from openbits.com.structures import (
    BG_AUTH_CREDENTIALS,
    BG_BASIC_CREDENTIALS,
    BG_FILE_INFO,
    BG_FILE_PROGRESS,
    BG_FILE_RANGE,
    BG_JOB_PROGRESS,
    BG_JOB_REPLY_PROGRESS,
    BG_JOB_TIMES,
    BITS_FILE_PROPERTY_VALUE,
    BITS_JOB_PROPERTY_VALUE,
    ClientCertificate,
    CreatedJob,
    ErrorCode,
    FileRanges,
    NotifyCmdLine,
    PeerDownloadStats,
    ProxySettings,
    ReplyData,
)
from openbits.com.unknown import COMError, IUnknown
from openbits.core import codes

__all__ = [
    "BG_AUTH_CREDENTIALS",
    "BG_AUTH_SCHEME",
    "BG_AUTH_TARGET",
    "BG_BASIC_CREDENTIALS",
    "BG_CERT_STORE_LOCATION",
    "BG_COPY_FILE",
    "BG_ENABLE_PEERCACHING",
    "BG_ERROR_CONTEXT",
    "BG_FILE_INFO",
    "BG_FILE_PROGRESS",
    "BG_FILE_RANGE",
    "BG_HTTP_REDIRECT_POLICY",
    "BG_JOB_ENABLE_PEERCACHING",
    "BG_JOB_ENUM",
    "BG_JOB_PRIORITY",
    "BG_JOB_PROGRESS",
    "BG_JOB_PROXY_USAGE",
    "BG_JOB_REPLY_PROGRESS",
    "BG_JOB_STATE",
    "BG_JOB_TIMES",
    "BG_JOB_TYPE",
    "BG_NOTIFY",
    "BG_SSL",
    "BG_TOKEN",
    "BITS_COST_STATE",
    "BITS_FILE_PROPERTY_ID",
    "BITS_FILE_PROPERTY_VALUE",
    "BITS_JOB_PROPERTY_ID",
    "BITS_JOB_PROPERTY_VALUE",
    "BITS_JOB_TRANSFER_POLICY",
    "ERROR_NO_TOKEN",
    "RPC_E_TOO_LATE",
    "BackgroundCopyManager",
    "BackgroundCopyManager1_5",
    "BackgroundCopyManager2_0",
    "BackgroundCopyManager2_5",
    "BackgroundCopyManager3_0",
    "BackgroundCopyManager4_0",
    "BackgroundCopyManager5_0",
    "BackgroundCopyManager10_1",
    "BackgroundCopyManager10_2",
    "BackgroundCopyManager10_3",
    "COMError",
    "ClientCertificate",
    "CloseHandle",
    "CoInitializeEx",
    "CoInitializeSecurity",
    "CoUninitialize",
    "CreatedJob",
    "ErrorCode",
    "FileRanges",
    "GetCurrentProcess",
    "GetCurrentThread",
    "IBackgroundCopyCallback",
    "IBackgroundCopyCallback2",
    "IBackgroundCopyCallback3",
    "IBackgroundCopyError",
    "IBackgroundCopyFile",
    "IBackgroundCopyFile2",
    "IBackgroundCopyFile3",
    "IBackgroundCopyFile4",
    "IBackgroundCopyFile5",
    "IBackgroundCopyFile6",
    "IBackgroundCopyJob",
    "IBackgroundCopyJob2",
    "IBackgroundCopyJob3",
    "IBackgroundCopyJob4",
    "IBackgroundCopyJob5",
    "IBackgroundCopyJobHttpOptions",
    "IBackgroundCopyJobHttpOptions2",
    "IBackgroundCopyJobHttpOptions3",
    "IBackgroundCopyManager",
    "IBackgroundCopyServerCertificateValidationCallback",
    "IBitsPeer",
    "IBitsPeerCacheAdministration",
    "IBitsPeerCacheRecord",
    "IBitsTokenOptions",
    "IEnumBackgroundCopyFiles",
    "IEnumBackgroundCopyJobs",
    "IEnumBitsPeerCacheRecords",
    "IEnumBitsPeers",
    "IUnknown",
    "ImpersonateLoggedOnUser",
    "LogonUser",
    "NotifyCmdLine",
    "OpenProcessToken",
    "OpenThreadToken",
    "PeerDownloadStats",
    "ProxySettings",
    "ReplyData",
    "RevertToSelf",
]


def __getattr__(name: str) -> int:
    """A documented constant: of an enumeration, or an HRESULT."""
    value = CONSTANTS.get(name, getattr(codes, name, None))
    if isinstance(value, int):
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
