"""Enumerations and flags of the job model: spellings and numbers of spec jobs.md §1.1 and §1.2."""

import enum


class JobState(enum.IntEnum):
    """BG_JOB_STATE (jobs.md §1.1, meaning in §3.1)."""

    QUEUED = 0
    CONNECTING = 1
    TRANSFERRING = 2
    SUSPENDED = 3
    ERROR = 4
    TRANSIENT_ERROR = 5
    TRANSFERRED = 6
    ACKNOWLEDGED = 7
    CANCELLED = 8

    @property
    def is_final(self) -> bool:
        """Complete or Cancel was accepted; nothing changes any more."""
        return self in {JobState.ACKNOWLEDGED, JobState.CANCELLED}

    @property
    def is_active(self) -> bool:
        """A worker is busy for the job."""
        return self in {JobState.CONNECTING, JobState.TRANSFERRING}

    @property
    def is_unfinished(self) -> bool:
        """Before TRANSFERRED and not given up: what a lost token or a lost network concerns (T18)."""
        return self in {
            JobState.SUSPENDED,
            JobState.QUEUED,
            JobState.CONNECTING,
            JobState.TRANSFERRING,
            JobState.TRANSIENT_ERROR,
        }


class JobType(enum.IntEnum):
    """BG_JOB_TYPE."""

    DOWNLOAD = 0
    UPLOAD = 1
    UPLOAD_REPLY = 2


class Priority(enum.IntEnum):
    """BG_JOB_PRIORITY: the smaller number is the more urgent."""

    FOREGROUND = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class ProxyUsage(enum.IntEnum):
    """BG_JOB_PROXY_USAGE (meaning in jobs.md §9.7)."""

    PRECONFIG = 0
    NO_PROXY = 1
    OVERRIDE = 2
    AUTODETECT = 3


class ErrorContext(enum.IntEnum):
    """BG_ERROR_CONTEXT (errors.md §3)."""

    NONE = 0
    UNKNOWN = 1
    GENERAL_QUEUE_MANAGER = 2
    QUEUE_MANAGER_NOTIFICATION = 3
    LOCAL_FILE = 4
    REMOTE_FILE = 5
    GENERAL_TRANSPORT = 6
    REMOTE_APPLICATION = 7
    SERVER_CERTIFICATE_CALLBACK = 8


class NotifyFlags(enum.IntFlag):
    """BG_NOTIFY_* (jobs.md §1.2)."""

    JOB_TRANSFERRED = 0x01
    JOB_ERROR = 0x02
    DISABLE = 0x04
    JOB_MODIFICATION = 0x08
    FILE_TRANSFERRED = 0x10
    FILE_RANGES_TRANSFERRED = 0x20


class TokenFlags(enum.IntFlag):
    """BG_TOKEN_*: which resources the helper token opens (identity.md §4)."""

    LOCAL_FILE = 1
    NETWORK = 2


class FileAclFlags(enum.IntFlag):
    """BG_COPY_FILE_*: what of the ownership and access of a file its copy keeps (jobs.md §8.6)."""

    OWNER = 1
    GROUP = 2
    DACL = 4
    SACL = 8


class PeerCachingFlags(enum.IntFlag):
    """BG_JOB_ENABLE_PEERCACHING_* and BG_JOB_DISABLE_BRANCH_CACHE: stored, there is no peer cache (jobs.md §16)."""

    CLIENT = 1
    SERVER = 2
    DISABLE_BRANCH_CACHE = 4


class SecurityFlags(enum.IntFlag):
    """BG_SSL_* and BG_HTTP_REDIRECT_POLICY_* (jobs.md §9.4, §9.6); no redirect flag: followed silently."""

    ENABLE_CRL_CHECK = 0x0001
    IGNORE_CERT_CN_INVALID = 0x0002
    IGNORE_CERT_DATE_INVALID = 0x0004
    IGNORE_UNKNOWN_CA = 0x0008
    IGNORE_CERT_WRONG_USAGE = 0x0010
    REDIRECT_ALLOW_REPORT = 0x0100
    REDIRECT_DISALLOW = 0x0200
    REDIRECT_ALLOW_HTTPS_TO_HTTP = 0x0800


class CostFlags(enum.IntFlag):
    """BITS_COST_STATE_*: the cost states in which a job may transfer (jobs.md §15.2)."""

    UNRESTRICTED = 0x1
    CAPPED_USAGE_UNKNOWN = 0x2
    BELOW_CAP = 0x4
    NEAR_CAP = 0x8
    OVERCAP_CHARGED = 0x10
    OVERCAP_THROTTLED = 0x20
    USAGE_BASED = 0x40
    ROAMING = 0x80
    RESERVED = 0x40000000
    IGNORE_CONGESTION = 0x80000000


class AuthTarget(enum.IntEnum):
    """BG_AUTH_TARGET: who is given the credentials."""

    SERVER = 1
    PROXY = 2


class AuthScheme(enum.IntEnum):
    """BG_AUTH_SCHEME."""

    BASIC = 1
    DIGEST = 2
    NTLM = 3
    NEGOTIATE = 4
    PASSPORT = 5


class CertStore(enum.IntEnum):
    """BG_CERT_STORE_LOCATION; the first two exist here (identity.md §13)."""

    CURRENT_USER = 0
    LOCAL_MACHINE = 1
    CURRENT_SERVICE = 2
    SERVICES = 3
    USERS = 4
    CURRENT_USER_GROUP_POLICY = 5
    LOCAL_MACHINE_GROUP_POLICY = 6
    LOCAL_MACHINE_ENTERPRISE = 7


class Integrity(enum.IntEnum):
    """Integrity level of an owner: the RID of its SID (identity.md §8, OPEN-13)."""

    MEDIUM = 0x2000
    HIGH = 0x3000
    """Elevated: the superuser in a session of somebody who logged on."""
    SYSTEM = 0x4000
    """The superuser without a session."""

    @property
    def is_elevated(self) -> bool:
        """Whether GetOwnerElevationState says so."""
        return self >= Integrity.HIGH


class Level(enum.IntEnum):
    """Impersonation level of a connection or token (identity.md §8)."""

    ANONYMOUS = 1
    IDENTIFY = 2
    IMPERSONATE = 3
    DELEGATE = 4


class Verb(enum.Enum):
    """What a caller wants to do; `access.RULES` says who may."""

    CREATE_JOB = enum.auto()
    LOG_ON = enum.auto()
    LIST_OWN = enum.auto()
    LIST_ALL = enum.auto()
    OPEN_JOB = enum.auto()
    READ = enum.auto()
    CHANGE = enum.auto()
    """Every setter without a rule of its own, adding files, suspend, resume, cancel, complete."""
    SET_CREDENTIALS = enum.auto()
    """Credentials, client certificate, custom headers (identity.md A13)."""
    SET_HELPER_TOKEN = enum.auto()
    """Every method of IBitsTokenOptions; `access.check_set_helper_token` adds the rules about the helper."""
    TAKE_OWNERSHIP = enum.auto()


class Notice(enum.Enum):
    """What somebody is told of a job (jobs.md §12.1). The first two are terminal: one of them may be pending."""

    TRANSFERRED = "transferred"
    ERROR = "error"
    FILE = "file-transferred"
    MODIFICATION = "modification"
    RANGES = "ranges"
