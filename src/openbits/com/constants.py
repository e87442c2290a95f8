"""Enumerations and constants by their documented names (jobs.md §1.1, §1.2).

Every member of an enumeration is also a constant of `openbits.com`; numbers that the core knows come from there.
"""

import enum
from typing import Final

from openbits.core.enums import (
    AuthScheme,
    AuthTarget,
    CertStore,
    CostFlags,
    ErrorContext,
    FileAclFlags,
    JobState,
    JobType,
    NotifyFlags,
    PeerCachingFlags,
    Priority,
    ProxyUsage,
    SecurityFlags,
    TokenFlags,
)


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


class BG_AUTH_TARGET(enum.IntEnum):
    """Who is given credentials."""

    BG_AUTH_TARGET_SERVER = AuthTarget.SERVER
    BG_AUTH_TARGET_PROXY = AuthTarget.PROXY


class BG_AUTH_SCHEME(enum.IntEnum):
    """How credentials are given."""

    BG_AUTH_SCHEME_BASIC = AuthScheme.BASIC
    BG_AUTH_SCHEME_DIGEST = AuthScheme.DIGEST
    BG_AUTH_SCHEME_NTLM = AuthScheme.NTLM
    BG_AUTH_SCHEME_NEGOTIATE = AuthScheme.NEGOTIATE
    BG_AUTH_SCHEME_PASSPORT = AuthScheme.PASSPORT


class BG_CERT_STORE_LOCATION(enum.IntEnum):
    """Where a client certificate is looked up."""

    BG_CERT_STORE_LOCATION_CURRENT_USER = CertStore.CURRENT_USER
    BG_CERT_STORE_LOCATION_LOCAL_MACHINE = CertStore.LOCAL_MACHINE
    BG_CERT_STORE_LOCATION_CURRENT_SERVICE = CertStore.CURRENT_SERVICE
    BG_CERT_STORE_LOCATION_SERVICES = CertStore.SERVICES
    BG_CERT_STORE_LOCATION_USERS = CertStore.USERS
    BG_CERT_STORE_LOCATION_CURRENT_USER_GROUP_POLICY = CertStore.CURRENT_USER_GROUP_POLICY
    BG_CERT_STORE_LOCATION_LOCAL_MACHINE_GROUP_POLICY = CertStore.LOCAL_MACHINE_GROUP_POLICY
    BG_CERT_STORE_LOCATION_LOCAL_MACHINE_ENTERPRISE = CertStore.LOCAL_MACHINE_ENTERPRISE


class BITS_JOB_PROPERTY_ID(enum.IntEnum):
    """Which property IBackgroundCopyJob5 sets or gets; 6 and 8 are not public (jobs.md §13)."""

    BITS_JOB_PROPERTY_ID_COST_FLAGS = 1
    BITS_JOB_PROPERTY_NOTIFICATION_CLSID = 2
    BITS_JOB_PROPERTY_DYNAMIC_CONTENT = 3
    BITS_JOB_PROPERTY_HIGH_PERFORMANCE = 4
    BITS_JOB_PROPERTY_MAX_DOWNLOAD_SIZE = 5
    BITS_JOB_PROPERTY_USE_STORED_CREDENTIALS = 7
    BITS_JOB_PROPERTY_MINIMUM_NOTIFICATION_INTERVAL_MS = 9
    BITS_JOB_PROPERTY_ON_DEMAND_MODE = 10


class BITS_FILE_PROPERTY_ID(enum.IntEnum):
    """Which property IBackgroundCopyFile5 gets."""

    BITS_FILE_PROPERTY_ID_HTTP_RESPONSE_HEADERS = 1


class BITS_COST_STATE(enum.IntFlag):
    """What a transfer over the network of the moment costs."""

    BITS_COST_STATE_UNRESTRICTED = CostFlags.UNRESTRICTED
    BITS_COST_STATE_CAPPED_USAGE_UNKNOWN = CostFlags.CAPPED_USAGE_UNKNOWN
    BITS_COST_STATE_BELOW_CAP = CostFlags.BELOW_CAP
    BITS_COST_STATE_NEAR_CAP = CostFlags.NEAR_CAP
    BITS_COST_STATE_OVERCAP_CHARGED = CostFlags.OVERCAP_CHARGED
    BITS_COST_STATE_OVERCAP_THROTTLED = CostFlags.OVERCAP_THROTTLED
    BITS_COST_STATE_USAGE_BASED = CostFlags.USAGE_BASED
    BITS_COST_STATE_ROAMING = CostFlags.ROAMING
    BITS_COST_STATE_RESERVED = CostFlags.RESERVED
    BITS_COST_OPTION_IGNORE_CONGESTION = CostFlags.IGNORE_CONGESTION


class BITS_JOB_TRANSFER_POLICY(enum.IntEnum):
    """Usual masks of cost states (jobs.md §15.2)."""

    BITS_JOB_TRANSFER_POLICY_ALWAYS = 0x800000FF
    BITS_JOB_TRANSFER_POLICY_NOT_ROAMING = 0x8000007F
    BITS_JOB_TRANSFER_POLICY_NO_SURCHARGE = 0x8000006F
    BITS_JOB_TRANSFER_POLICY_STANDARD = 0x80000067
    BITS_JOB_TRANSFER_POLICY_UNRESTRICTED = 0x80000021


class BG_COPY_FILE(enum.IntFlag):
    """What of owner, group and access lists is copied with a file."""

    BG_COPY_FILE_OWNER = FileAclFlags.OWNER
    BG_COPY_FILE_GROUP = FileAclFlags.GROUP
    BG_COPY_FILE_DACL = FileAclFlags.DACL
    BG_COPY_FILE_SACL = FileAclFlags.SACL
    BG_COPY_FILE_ALL = 15


class BG_SSL(enum.IntFlag):
    """Security flags of the HTTP options: checks of the server's certificate."""

    BG_SSL_ENABLE_CRL_CHECK = SecurityFlags.ENABLE_CRL_CHECK
    BG_SSL_IGNORE_CERT_CN_INVALID = SecurityFlags.IGNORE_CERT_CN_INVALID
    BG_SSL_IGNORE_CERT_DATE_INVALID = SecurityFlags.IGNORE_CERT_DATE_INVALID
    BG_SSL_IGNORE_UNKNOWN_CA = SecurityFlags.IGNORE_UNKNOWN_CA
    BG_SSL_IGNORE_CERT_WRONG_USAGE = SecurityFlags.IGNORE_CERT_WRONG_USAGE


class BG_HTTP_REDIRECT_POLICY(enum.IntFlag):
    """Security flags of the HTTP options: one policy within the mask, and a permission outside it (jobs.md §9.4)."""

    BG_HTTP_REDIRECT_POLICY_ALLOW_SILENT = 0
    BG_HTTP_REDIRECT_POLICY_ALLOW_REPORT = SecurityFlags.REDIRECT_ALLOW_REPORT
    BG_HTTP_REDIRECT_POLICY_DISALLOW = SecurityFlags.REDIRECT_DISALLOW
    BG_HTTP_REDIRECT_POLICY_ALLOW_HTTPS_TO_HTTP = SecurityFlags.REDIRECT_ALLOW_HTTPS_TO_HTTP


class BG_ENABLE_PEERCACHING(enum.IntFlag):
    """Peer caching of the computer, which is not built."""

    BG_ENABLE_PEERCACHING_CLIENT = 1
    BG_ENABLE_PEERCACHING_SERVER = 2
    BG_DISABLE_BRANCH_CACHE = 4


class BG_JOB_ENABLE_PEERCACHING(enum.IntFlag):
    """Preferences of a job for peer caching."""

    BG_JOB_ENABLE_PEERCACHING_CLIENT = PeerCachingFlags.CLIENT
    BG_JOB_ENABLE_PEERCACHING_SERVER = PeerCachingFlags.SERVER
    BG_JOB_DISABLE_BRANCH_CACHE = PeerCachingFlags.DISABLE_BRANCH_CACHE


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

BG_LENGTH_TO_EOF: Final = 2**64 - 1
"""Length of a range that ends with the file."""

ENUMERATIONS: Final[tuple[type[enum.IntEnum | enum.IntFlag], ...]] = (
    BG_JOB_STATE,
    BG_JOB_TYPE,
    BG_JOB_PRIORITY,
    BG_JOB_PROXY_USAGE,
    BG_ERROR_CONTEXT,
    BG_NOTIFY,
    BG_TOKEN,
    BG_JOB_ENUM,
    BG_AUTH_TARGET,
    BG_AUTH_SCHEME,
    BG_CERT_STORE_LOCATION,
    BITS_JOB_PROPERTY_ID,
    BITS_FILE_PROPERTY_ID,
    BITS_COST_STATE,
    BITS_JOB_TRANSFER_POLICY,
    BG_COPY_FILE,
    BG_SSL,
    BG_HTTP_REDIRECT_POLICY,
    BG_ENABLE_PEERCACHING,
    BG_JOB_ENABLE_PEERCACHING,
    COINIT,
    RPC_C_AUTHN_LEVEL,
    RPC_C_IMP_LEVEL,
    EOLE_AUTHENTICATION_CAPABILITIES,
    LOGON32,
)

CONSTANTS: Final[dict[str, int]] = {
    "BG_SIZE_UNKNOWN": BG_SIZE_UNKNOWN,
    "BG_LENGTH_TO_EOF": BG_LENGTH_TO_EOF,
    "BG_HTTP_REDIRECT_POLICY_MASK": 0x0700,
    "LOGON32_PROVIDER_DEFAULT": 0,
    **{name: member for enumeration in ENUMERATIONS for name, member in enumeration.__members__.items()},
}
