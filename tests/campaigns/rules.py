"""The reference model of the job campaign, first half: codes, states, and what setters take (jobs.md §2.3, §7, §13).

It imports nothing of the service; numbers and rules stand here a second time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

S_OK, S_FALSE, BG_S_PARTIAL_COMPLETE = 0x0, 0x1, 0x00200017
E_NOTIMPL, E_NOINTERFACE, E_PENDING = 0x80004001, 0x80004002, 0x8000000A
E_ACCESSDENIED, E_INVALIDARG, NULL_REFERENCE = 0x80070005, 0x80070057, 0x800706F4
NOT_FOUND, INVALID_STATE, EMPTY = 0x80200001, 0x80200002, 0x80200003
ERROR_INFORMATION_UNAVAILABLE = 0x8020000F
PROXY_LIST_TOO_LARGE, PROXY_BYPASS_LIST_TOO_LARGE = 0x80200018, 0x80200019
STRING_TOO_LONG = 0x80200021
USERNAME_TOO_LARGE, PASSWORD_TOO_LARGE = 0x80200025, 0x80200026
INVALID_AUTH_TARGET, INVALID_AUTH_SCHEME = 0x80200027, 0x80200028
VALIDATION_FAILED, UNKNOWN_PROPERTY_ID = 0x80200053, 0x80200057
READ_ONLY_AFTER_ADDFILE, READ_ONLY_AFTER_RESUME = 0x80200061, 0x80200062
MAX_DOWNLOAD_SIZE_INVALID, STORED_CREDENTIALS_NOT_SUPPORTED = 0x80200063, 0x80200066
UNSUPPORTED_JOB_CONFIGURATION, READ_ONLY_WHEN_JOB_ACTIVE = 0x80200072, 0x80200075
HTTP_404, HTTP_503 = 0x80190194, 0x801901F7
REMOTE_FILE, GENERAL_TRANSPORT = 5, 6
CRL_CHECK = 0x1

Judge = Callable[..., Any]
"""Takes the arguments of a setter; gives the value that is kept, or raises RefusedError."""

SUSPENDED, QUEUED, CONNECTING, TRANSFERRING = "SUSPENDED", "QUEUED", "CONNECTING", "TRANSFERRING"
TRANSIENT_ERROR, ERROR, TRANSFERRED = "TRANSIENT_ERROR", "ERROR", "TRANSFERRED"
ACKNOWLEDGED, CANCELLED = "ACKNOWLEDGED", "CANCELLED"
ACTIVE: Final = {CONNECTING, TRANSFERRING}
FINAL: Final = {ACKNOWLEDGED, CANCELLED}


class RefusedError(Exception):
    """The arguments break a rule; `code` is what the call answers."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code:#x}")
        self.code = code


def text(longest: int, too_long: int = STRING_TOO_LONG, null: int = E_INVALIDARG) -> Judge:
    """A text of at most so many characters; NULL is not allowed (§2.3, OPEN-01, OPEN-17)."""

    def judge(value: object) -> str:
        if not isinstance(value, str):
            raise RefusedError(null if value is None else E_INVALIDARG)
        if len(value) > longest:
            raise RefusedError(too_long)
        return value

    return judge


def number(lowest: int = 0, bits: int = 32) -> Judge:
    """A number without sign; a smaller one than `lowest` is raised to it (§3.4)."""

    def judge(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
            raise RefusedError(E_INVALIDARG)
        return max(value, lowest)

    return judge


def member(highest: int) -> Judge:
    """A value of an enumeration; an undefined one is E_NOTIMPL (§2.3)."""

    def judge(value: object) -> int:
        if value is None:
            raise RefusedError(E_INVALIDARG)
        if not isinstance(value, int) or not 0 <= value <= highest:
            raise RefusedError(E_NOTIMPL)
        return value

    return judge


def flags(defined: int, undefined: int = E_NOTIMPL, null: int = E_INVALIDARG) -> Judge:
    """Bits; undefined ones are E_NOTIMPL unless the method says otherwise (§2.3)."""

    def judge(value: object) -> int:
        if value is None:
            raise RefusedError(null)
        given: int = number()(value)
        if given & ~defined:
            raise RefusedError(undefined)
        return given

    return judge


def proxies(usage: object, servers: object, bypass: object) -> tuple[int, str | None, str | None]:
    """SetProxySettings (§7.2, OPEN-49): the lists belong to OVERRIDE and to nothing else."""
    given = member(3)(usage)
    if given == 2:
        if servers is None:
            raise RefusedError(E_INVALIDARG)
        kept = text(32_000, PROXY_LIST_TOO_LARGE)(servers)
        return given, kept, text(32_000, PROXY_BYPASS_LIST_TOO_LARGE)(bypass or "") or None
    if servers is not None or bypass is not None:
        raise RefusedError(E_INVALIDARG)
    return given, None, None


def security(value: object) -> int:
    """SetSecurityFlags (§1.2): bits, and in the middle of them a field whose three values are the redirect policies."""
    given: int = flags(0x0B1F, null=NULL_REFERENCE)(value)
    if given & 0x0700 == 0x0300:
        raise RefusedError(E_NOTIMPL)
    return given


def command(program: object, parameters: object) -> tuple[str, str]:
    """SetNotifyCmdLine (§7.4, OPEN-22); two empty texts are none."""
    if program is None and parameters is None:
        return "", ""
    kept = text(260)(program)
    if not kept.startswith("/"):
        raise RefusedError(E_INVALIDARG)
    return kept, text(4000)(parameters or "")


def headers(value: object) -> str | None:
    """SetCustomHeaders (§7.8, OPEN-25): 16,384 characters with the terminator, lines that a client may decide about."""
    if value is None:
        return None
    kept: str = text(16_383)(value)
    names = [line.partition(":")[0].lower() for line in kept.split("\r\n") if line]
    if any(not name.replace("-", "").isalnum() or name in {"host", "range", "content-length"} for name in names):
        raise RefusedError(E_INVALIDARG)
    return kept


def method(value: object) -> str:
    """SetHttpMethod (§9.9 M2, M6), of which only the usual one is drawn."""
    if text(32, E_INVALIDARG, NULL_REFERENCE)(value) != "GET":
        raise RefusedError(E_INVALIDARG)
    return "GET"


def proxy_target(value: object) -> int:
    """USE_STORED_CREDENTIALS: proxies only (§13)."""
    if value != 2:
        raise RefusedError(STORED_CREDENTIALS_NOT_SUPPORTED)
    return 2


def above_zero(value: object) -> int:
    """MAX_DOWNLOAD_SIZE (§13)."""
    given: int = number(bits=64)(value)
    if given == 0:
        raise RefusedError(MAX_DOWNLOAD_SIZE_INVALID)
    return given


def switch(value: object) -> bool:
    """A property that is on or off."""
    if not isinstance(value, bool):
        raise RefusedError(E_INVALIDARG)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One pair Get…/Set…: what the setter takes, what the getter says at first, when it may be set."""

    judge: Judge
    default: Any
    wrong_state: int = INVALID_STATE
    is_refused_in: frozenset[str] = frozenset()
    until_resumed: bool = False
    until_files: bool = False
    is_stripped: bool = False
    """TakeOwnership takes it away (§7.2)."""


SETTINGS: Final[dict[str, Setting]] = {
    "DisplayName": Setting(judge=text(256), default=""),
    "Description": Setting(judge=text(1024), default=""),
    "Priority": Setting(judge=member(3), default=2),
    "NotifyFlags": Setting(judge=flags(0x3F), default=3),
    "MinimumRetryDelay": Setting(judge=number(lowest=5), default=600),
    "NoProgressTimeout": Setting(judge=number(), default=1_209_600),
    "ProxySettings": Setting(judge=proxies, default=(0, None, None)),
    "NotifyCmdLine": Setting(judge=command, default=("", ""), is_stripped=True),
    "FileACLFlags": Setting(judge=flags(15, E_INVALIDARG), default=0, is_refused_in=frozenset({TRANSFERRED})),
    "PeerCachingFlags": Setting(judge=flags(7), default=0),
    "MaximumDownloadTime": Setting(judge=number(), default=7_776_000),
    "SecurityFlags": Setting(judge=security, default=0),
    "CustomHeaders": Setting(judge=headers, default=None, is_stripped=True),
    "HttpMethod": Setting(judge=method, default="GET", wrong_state=READ_ONLY_AFTER_RESUME, until_resumed=True),
    "1 Dword": Setting(judge=flags(0xC00000FF), default=None),
    "3 Enable": Setting(judge=switch, default=False, wrong_state=READ_ONLY_AFTER_RESUME, until_resumed=True),
    "4 Enable": Setting(judge=switch, default=False, wrong_state=READ_ONLY_AFTER_ADDFILE, until_files=True),
    "5 Uint64": Setting(judge=above_zero, default=2**64 - 1, wrong_state=READ_ONLY_AFTER_RESUME, until_resumed=True),
    "7 Target": Setting(judge=proxy_target, default=0),
    "9 Dword": Setting(judge=number(), default=500),
    "10 Enable": Setting(
        judge=switch,
        default=False,
        wrong_state=READ_ONLY_WHEN_JOB_ACTIVE,
        is_refused_in=frozenset({QUEUED, CONNECTING, TRANSFERRING, TRANSIENT_ERROR, TRANSFERRED}),  # OPEN-57
    ),
}
"""By the name of the method without Get and Set; properties of IBackgroundCopyJob5 by id and member of the union."""
