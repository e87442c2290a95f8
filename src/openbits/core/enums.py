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
    """A terminal event that somebody has yet to be told (jobs.md §12.1)."""

    TRANSFERRED = "transferred"
    ERROR = "error"
