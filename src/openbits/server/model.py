"""The values of the upload server: settings of a directory, who asks, a session, what is answered.

Everything here is frozen. Units: bytes, seconds; `*_at` is an instant of the wall clock.
"""

import enum
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from openbits.core import codes
from openbits.core.packets import MAX_NUMBER, Origin

MEBIBYTE = 1024 * 1024

MAX_SESSIONS = 10_000
"""Of a server, unless its settings say otherwise (§11: max_sessions_total)."""


class Notification(enum.IntEnum):
    """BITSServerNotificationType."""

    NONE = 0
    BY_REFERENCE = 1
    BY_VALUE = 2


class Commit(enum.StrEnum):
    """When an upload gets its final name (D11)."""

    FINAL = "final"
    CLOSE = "close"


class CleanupUnits(enum.IntEnum):
    """BITSCleanupUnits."""

    MINUTES = 0
    HOURS = 1
    DAYS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The settings of a virtual directory (upload-protocol.md §11); `url_path` ends with a slash, as `/inbox/`."""

    url_path: str
    upload_enabled: bool = False
    session_timeout_seconds: int = 1_209_600
    maximum_upload_bytes: int = MAX_NUMBER
    notification: Notification = Notification.NONE
    notification_url: str = ""
    notification_secret_file: str = ""
    """Where the `Authorization` value of notifications is read from (§9.6); empty: none is sent."""
    is_negotiating: bool = False
    """Notifications answer Negotiate with the credentials of the service."""
    notification_ca_file: str = ""
    """Which authorities (PEM) a notification over https trusts; empty: those of the machine."""
    notification_timeout_seconds: int = 300
    """What sending, the wait for the headers and the body may take together, 1 to 900; each 300 at most (§7.3)."""
    maximum_reply_bytes: int = 1024 * MEBIBYTE
    """The longest reply that is taken from the body of an answer (§8.2)."""
    host_id: str = ""
    host_id_fallback_seconds: int = 86_400
    allow_overwrites: bool = False
    cleanup_use_default: bool = True
    cleanup_count: int = 12
    cleanup_units: CleanupUnits = CleanupUnits.HOURS
    session_limit_enable: bool = True
    session_limit: int = 50
    max_fragment_bytes: int = 64 * MEBIBYTE
    max_connections: int = 0
    max_bandwidth_bytes_per_second: int = 0
    commit: Commit = Commit.FINAL
    mode: int = 0o640
    method_override: bool = False
    allow_users: frozenset[str] = frozenset({"*"})
    allow_groups: frozenset[str] = frozenset({"*"})
    allow_anonymous: bool = False
    """Anybody may upload and, if it is readable, read; needs a quota (§13)."""
    allow_anonymous_reading: bool = False
    quota_bytes: int = 0
    """What all sessions of one user may have in the spool; 0: no limit."""
    checksum: bool = False
    """The SHA-256 of what was received is computed, and told in the Ack of Close-Session (D28)."""
    is_readable: bool = True
    """GET and HEAD of its files are answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who asks; the name is empty of an anonymous one. `fingerprint`: SHA-256 of the client certificate, if any."""

    name: str = ""
    groups: frozenset[str] = frozenset()
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where an upload goes: below the root of the server, decoded and checked (§13).

    `url`: the request's absolute URL with its query, as notifications tell it; scheme and authority are those of the
    setting `public_url`, if there is one. `path`: relative to the root.
    """

    url: str
    path: PurePosixPath


class Stage(enum.StrEnum):
    """Of a session (§5.3); NOTIFY is where the application is called."""

    RECEIVING = "receiving"
    NOTIFY = "notify"
    WAIT_FOR_CLOSE = "wait-for-close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One upload (§5.2)."""

    session_id: str
    directory: str
    """`Directory.url_path`."""
    path: str
    """`Destination.path`."""
    url: str
    user: str
    fingerprint: str = ""
    stage: Stage = Stage.RECEIVING
    created_at: float
    progressed_at: float
    total: int | None = None
    offset: int = 0
    """Bytes that were written."""
    durable: int = 0
    """Bytes that certainly survive a power cut."""
    is_complete: bool = False
    """All bytes came; an application may still have to be called, or called again."""
    is_published: bool = False
    has_to_be_copied: bool = False
    """The application asked for the file at its destination, or there is no application."""
    application_status: int = 0
    """What the application answered last; 403 is final (§9.3)."""
    application_code: int = 0
    reply_url: str = ""
    """Absolute: the session's own reply or a static one; empty: there is none."""
    has_reply_file: bool = False
    host_id: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """An answer to a packet: status, and fields besides those that every Ack has."""

    status: int = 200
    fields: tuple[tuple[str, str], ...] = ()


class RefusedError(Exception):
    """A packet is refused: status, HRESULT (0: a code of zero is sent; None: none is), who found it, and why.

    `received`: the next byte wanted, if the session is known. `retry_after_seconds`: of 429 and 503.
    `words` are for the log, never for the client.
    """

    def __init__(
        self,
        status: int,
        hresult: int | None,
        words: str,
        *,
        origin: Origin = Origin.SERVER,
        received: int | None = None,
        retry_after_seconds: int | None = None,
        session_id: str = "",
    ) -> None:
        super().__init__(words)
        self.status = status
        self.hresult = hresult
        self.words = words
        self.origin = origin
        self.received = received
        self.retry_after_seconds = retry_after_seconds
        self.session_id = session_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A checked request (§5.1 steps 1 to 9): who sends it, where to, with which session."""

    directory: Directory
    destination: Destination
    user: User
    session_id: str = ""
    content_name: str = field(default="", repr=False)


def unknown_session(session_id: str) -> RefusedError:
    """§5.1 step 10: no such session, expired, or somebody else's, which is not told."""
    return RefusedError(500, codes.BG_E_SESSION_NOT_FOUND, "no such session", session_id=session_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a notification (§9.3).

    `hresult`: of a refusal. `has_reply`: the response file is the reply, if there is one and something is in it (D19).
    """

    status: int
    hresult: int = 0
    has_to_be_copied: bool = False
    static_url: str = ""
    has_reply: bool = False

    @property
    def is_accepted(self) -> bool:
        """The application has taken the file."""
        return 200 <= self.status < 300
