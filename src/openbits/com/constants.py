"""Enumerations and constants by their documented names (jobs.md §1.1, §1.2).

Every member of an enumeration is also a constant of `openbits.com`; numbers that the core knows come from there.
"""

import enum
from typing import Final

from openbits.core.enums import ErrorContext, JobState, JobType, NotifyFlags, Priority, ProxyUsage, TokenFlags


class BG_JOB_STATE(enum.IntEnum):
    """State of a job."""

    BG_JOB_STATE_QUEUED = JobState.QUEUED
    BG_JOB_STATE_CONNECTING = JobState.CONNECTING
    BG_JOB_STATE_TRANSFERRING = JobState.TRANSFERRING
    BG_JOB_STATE_SUSPENDED = JobState.SUSPENDED
    BG_JOB_STATE_ERROR = JobState.ERROR
    BG_JOB_STATE_TRANSIENT_ERROR = JobState.TRANSIENT_ERROR
    BG_JOB_STATE_TRANSFERRED = JobState.TRANSFERRED
    BG_JOB_STATE_ACKNOWLEDGED = JobState.ACKNOWLEDGED
    BG_JOB_STATE_CANCELLED = JobState.CANCELLED


class BG_JOB_TYPE(enum.IntEnum):
    """Type of a job."""

    BG_JOB_TYPE_DOWNLOAD = JobType.DOWNLOAD
    BG_JOB_TYPE_UPLOAD = JobType.UPLOAD
    BG_JOB_TYPE_UPLOAD_REPLY = JobType.UPLOAD_REPLY


class BG_JOB_PRIORITY(enum.IntEnum):
    """Priority of a job: the smaller number is the more urgent."""

    BG_JOB_PRIORITY_FOREGROUND = Priority.FOREGROUND
    BG_JOB_PRIORITY_HIGH = Priority.HIGH
    BG_JOB_PRIORITY_NORMAL = Priority.NORMAL
    BG_JOB_PRIORITY_LOW = Priority.LOW


class BG_JOB_PROXY_USAGE(enum.IntEnum):
    """How a job finds its proxy."""

    BG_JOB_PROXY_USAGE_PRECONFIG = ProxyUsage.PRECONFIG
    BG_JOB_PROXY_USAGE_NO_PROXY = ProxyUsage.NO_PROXY
    BG_JOB_PROXY_USAGE_OVERRIDE = ProxyUsage.OVERRIDE
    BG_JOB_PROXY_USAGE_AUTODETECT = ProxyUsage.AUTODETECT


class BG_ERROR_CONTEXT(enum.IntEnum):
    """Where an error happened."""

    BG_ERROR_CONTEXT_NONE = ErrorContext.NONE
    BG_ERROR_CONTEXT_UNKNOWN = ErrorContext.UNKNOWN
    BG_ERROR_CONTEXT_GENERAL_QUEUE_MANAGER = ErrorContext.GENERAL_QUEUE_MANAGER
    BG_ERROR_CONTEXT_QUEUE_MANAGER_NOTIFICATION = ErrorContext.QUEUE_MANAGER_NOTIFICATION
    BG_ERROR_CONTEXT_LOCAL_FILE = ErrorContext.LOCAL_FILE
    BG_ERROR_CONTEXT_REMOTE_FILE = ErrorContext.REMOTE_FILE
    BG_ERROR_CONTEXT_GENERAL_TRANSPORT = ErrorContext.GENERAL_TRANSPORT
    BG_ERROR_CONTEXT_REMOTE_APPLICATION = ErrorContext.REMOTE_APPLICATION
    BG_ERROR_CONTEXT_SERVER_CERTIFICATE_CALLBACK = ErrorContext.SERVER_CERTIFICATE_CALLBACK


class BG_NOTIFY(enum.IntFlag):
    """What a job notifies of."""

    BG_NOTIFY_JOB_TRANSFERRED = NotifyFlags.JOB_TRANSFERRED
    BG_NOTIFY_JOB_ERROR = NotifyFlags.JOB_ERROR
    BG_NOTIFY_DISABLE = NotifyFlags.DISABLE
    BG_NOTIFY_JOB_MODIFICATION = NotifyFlags.JOB_MODIFICATION
    BG_NOTIFY_FILE_TRANSFERRED = NotifyFlags.FILE_TRANSFERRED
    BG_NOTIFY_FILE_RANGES_TRANSFERRED = NotifyFlags.FILE_RANGES_TRANSFERRED


class BG_TOKEN(enum.IntFlag):
    """What the helper token is used for."""

    BG_TOKEN_LOCAL_FILE = TokenFlags.LOCAL_FILE
    BG_TOKEN_NETWORK = TokenFlags.NETWORK


class BG_JOB_ENUM(enum.IntFlag):
    """Which jobs EnumJobs lists."""

    BG_JOB_ENUM_ALL_USERS = 0x01


class COINIT(enum.IntEnum):
    """Threading model; callbacks arrive on a thread of the library under each of them."""

    COINIT_MULTITHREADED = 0x0
    COINIT_APARTMENTTHREADED = 0x2


class RPC_C_AUTHN_LEVEL(enum.IntEnum):
    """Authentication level; the kernel vouches for the peer of a local socket under each of them."""

    RPC_C_AUTHN_LEVEL_DEFAULT = 0
    RPC_C_AUTHN_LEVEL_NONE = 1
    RPC_C_AUTHN_LEVEL_CONNECT = 2
    RPC_C_AUTHN_LEVEL_CALL = 3
    RPC_C_AUTHN_LEVEL_PKT = 4
    RPC_C_AUTHN_LEVEL_PKT_INTEGRITY = 5
    RPC_C_AUTHN_LEVEL_PKT_PRIVACY = 6


class RPC_C_IMP_LEVEL(enum.IntEnum):
    """Impersonation level: what the service may do with our identity (identity.md §8)."""

    RPC_C_IMP_LEVEL_DEFAULT = 0
    RPC_C_IMP_LEVEL_ANONYMOUS = 1
    RPC_C_IMP_LEVEL_IDENTIFY = 2
    RPC_C_IMP_LEVEL_IMPERSONATE = 3
    RPC_C_IMP_LEVEL_DELEGATE = 4


class EOLE_AUTHENTICATION_CAPABILITIES(enum.IntFlag):
    """Capabilities for CoInitializeSecurity; dynamic cloaking sends the token of the thread with each call."""

    EOAC_NONE = 0x0
    EOAC_STATIC_CLOAKING = 0x20
    EOAC_DYNAMIC_CLOAKING = 0x40


class LOGON32(enum.IntEnum):
    """Type of a logon; PAM decides the same way for each."""

    LOGON32_LOGON_INTERACTIVE = 2
    LOGON32_LOGON_NETWORK = 3
    LOGON32_LOGON_BATCH = 4
    LOGON32_LOGON_SERVICE = 5
    LOGON32_LOGON_NETWORK_CLEARTEXT = 8


BG_SIZE_UNKNOWN: Final = 2**64 - 1
"""Size of a file or job that is not known yet."""

ENUMERATIONS: Final[tuple[type[enum.IntEnum | enum.IntFlag], ...]] = (
    BG_JOB_STATE,
    BG_JOB_TYPE,
    BG_JOB_PRIORITY,
    BG_JOB_PROXY_USAGE,
    BG_ERROR_CONTEXT,
    BG_NOTIFY,
    BG_TOKEN,
    BG_JOB_ENUM,
    COINIT,
    RPC_C_AUTHN_LEVEL,
    RPC_C_IMP_LEVEL,
    EOLE_AUTHENTICATION_CAPABILITIES,
    LOGON32,
)

CONSTANTS: Final[dict[str, int]] = {
    "BG_SIZE_UNKNOWN": BG_SIZE_UNKNOWN,
    "LOGON32_PROVIDER_DEFAULT": 0,
    **{name: member for enumeration in ENUMERATIONS for name, member in enumeration.__members__.items()},
}
