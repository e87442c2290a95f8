"""Every HRESULT the product knows: `codes.BG_E_NOT_FOUND` and its fellows, and what each of them means.

The door to the one table of codes: its rows, with number, class, context, meaning and next step, are in `codes_bits`,
`codes_transfer`, `codes_http`, `codes_system` and `codes_winhttp`. Inside, a code is an unsigned 32-bit integer; every
function here accepts the signed form too, and knows an answer for any number. Not here: which of transient and fatal a
job gets in the end (errors.md §6), which also depends on the job (`lifecycle`).
"""

import errno as _errno
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from openbits.core import codes_bits as _bits
from openbits.core import codes_http as _http
from openbits.core import codes_system as _system
from openbits.core import codes_transfer as _transfer
from openbits.core import codes_winhttp as _winhttp
from openbits.core.codes_bits import *  # noqa: F403  # the door passes every constant on
from openbits.core.codes_http import *  # noqa: F403
from openbits.core.codes_system import *  # noqa: F403
from openbits.core.codes_table import ROWS
from openbits.core.codes_table import Code as Code  # noqa: PLC0414  # passed on
from openbits.core.codes_table import CodeClass as CodeClass  # noqa: PLC0414  # passed on
from openbits.core.codes_transfer import *  # noqa: F403
from openbits.core.codes_winhttp import *  # noqa: F403
from openbits.core.enums import ErrorContext

if TYPE_CHECKING:  # the model carries properties, whose checks need the codes
    from openbits.core.model import JobError

_FROM_ERRNO: Final[Mapping[int, int]] = {
    _errno.ENOENT: _system.ERROR_FILE_NOT_FOUND,
    _errno.ENOTDIR: _system.ERROR_PATH_NOT_FOUND,
    _errno.EMFILE: _system.ERROR_TOO_MANY_OPEN_FILES,
    _errno.ENFILE: _system.ERROR_TOO_MANY_OPEN_FILES,
    _errno.EACCES: _system.E_ACCESSDENIED,
    _errno.EPERM: _system.E_ACCESSDENIED,
    _errno.ENOMEM: _system.E_OUTOFMEMORY,
    _errno.EXDEV: _system.ERROR_NOT_SAME_DEVICE,
    _errno.EROFS: _system.ERROR_WRITE_PROTECT,
    _errno.EBUSY: _system.ERROR_SHARING_VIOLATION,
    _errno.EAGAIN: _system.ERROR_SHARING_VIOLATION,
    _errno.ETXTBSY: _system.ERROR_SHARING_VIOLATION,
    _errno.EEXIST: _system.ERROR_ALREADY_EXISTS,
    _errno.EINVAL: _system.E_INVALIDARG,
    _errno.ENOSPC: _system.ERROR_DISK_FULL,
    _errno.EDQUOT: _system.ERROR_DISK_QUOTA_EXCEEDED,
    _errno.ENAMETOOLONG: _system.ERROR_FILENAME_EXCED_RANGE,
    _errno.EFBIG: _system.ERROR_FILE_TOO_LARGE,
    _errno.EISDIR: _system.E_ACCESSDENIED,
    _errno.EIO: _system.ERROR_IO_DEVICE,
    _errno.ENODEV: _transfer.BG_E_DESTINATION_LOCKED,
    _errno.ENXIO: _transfer.BG_E_DESTINATION_LOCKED,
    _errno.ELOOP: _system.ERROR_CANT_RESOLVE_FILENAME,
    _errno.ESTALE: _transfer.BG_E_VOLUME_CHANGED,
    _errno.ETIMEDOUT: _winhttp.ERROR_WINHTTP_TIMEOUT,
    _errno.ECONNREFUSED: _winhttp.ERROR_WINHTTP_CANNOT_CONNECT,
    _errno.EHOSTUNREACH: _winhttp.ERROR_WINHTTP_CANNOT_CONNECT,
    _errno.ECONNRESET: _winhttp.ERROR_WINHTTP_CONNECTION_ERROR,
    _errno.EPIPE: _winhttp.ERROR_WINHTTP_CONNECTION_ERROR,
    _errno.ENETDOWN: _transfer.BG_E_NETWORK_DISCONNECTED,
    _errno.ENETUNREACH: _transfer.BG_E_NETWORK_DISCONNECTED,
}

_CONTEXTS: Final[Mapping[ErrorContext, int]] = {
    ErrorContext.NONE: _bits.BG_S_ERROR_CONTEXT_NONE,
    ErrorContext.UNKNOWN: _bits.BG_E_ERROR_CONTEXT_UNKNOWN,
    ErrorContext.GENERAL_QUEUE_MANAGER: _bits.BG_E_ERROR_CONTEXT_GENERAL_QUEUE_MANAGER,
    ErrorContext.QUEUE_MANAGER_NOTIFICATION: _bits.BG_E_ERROR_CONTEXT_QUEUE_MANAGER_NOTIFICATION,
    ErrorContext.LOCAL_FILE: _bits.BG_E_ERROR_CONTEXT_LOCAL_FILE,
    ErrorContext.REMOTE_FILE: _bits.BG_E_ERROR_CONTEXT_REMOTE_FILE,
    ErrorContext.GENERAL_TRANSPORT: _bits.BG_E_ERROR_CONTEXT_GENERAL_TRANSPORT,
    ErrorContext.REMOTE_APPLICATION: _bits.BG_E_ERROR_CONTEXT_REMOTE_APPLICATION,
    ErrorContext.SERVER_CERTIFICATE_CALLBACK: _bits.BG_E_ERROR_CONTEXT_SERVER_CERTIFICATE_CALLBACK,
}

_MAX_DETAIL_CHARACTERS = 1000
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,31}://)(?:[^/\s?#]*@)?(?P<rest>[^\s?#]*)(?P<secret>[?#]\S*)?", re.IGNORECASE
)
_UNPRINROWS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


def unsigned(value: int) -> int:
    """The 32-bit number without sign: -2145386494 is 0x80200002. Raises ValueError for what has no 32 bits."""
    if not -0x80000000 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{value} is no 32-bit code")
    return value & 0xFFFFFFFF


def is_failure(value: int) -> bool:
    """Severity bit set; S_FALSE and BG_S_* are successes (errors.md §1)."""
    return bool(unsigned(value) & 0x80000000)


def lookup(value: int) -> Code:
    """The row of a code, or a general one for a number that has none (errors.md §8)."""
    number = unsigned(value)
    return ROWS.get(number) or _general(number)


def symbol(value: int) -> str:
    """The name of a code, never empty."""
    return lookup(value).symbol


def label(value: int) -> str:
    """Name and number as people search for them: `BG_E_NOT_FOUND (0x80200001)`."""
    return f"{symbol(value)} (0x{unsigned(value):08X})"


def classify(value: int) -> CodeClass:
    """The class of a code in a transfer; an HTTP status without a row by errors.md §4.1, unknown failures transient.

    METHOD, CONTEXT and INTERNAL codes are not expected in a job error; there they count as unknown (E8).
    """
    return lookup(value).code_class


def from_http_status(status: int) -> int:
    """0x80190000 + status; a number that is no HTTP status is an invalid answer."""
    return _http.FACILITY_HTTP + status if 100 <= status <= 999 else _transfer.BG_E_INVALID_SERVER_RESPONSE


def from_errno(number: int, *, is_directory: bool = False) -> int:
    """The code of an errno (errors.md §5.2); E_FAIL for one that the table does not name.

    `is_directory`: what was missing is a directory. ENETUNREACH counts as no network; who knows that an interface is
    up reports ERROR_WINHTTP_CANNOT_CONNECT instead.
    """
    if number == _errno.ENOENT and is_directory:
        return _system.ERROR_PATH_NOT_FOUND
    return _FROM_ERRNO.get(number, _system.E_FAIL)


def context_description(context: ErrorContext) -> str:
    """Where an error happened, in words that a subject may follow (errors.md §3)."""
    return ROWS[_CONTEXTS[context]].sentence


def message(value: int, text: str = "") -> str:
    """What a failed method says: `text` (what cannot be done, and why), or the meaning of the code; then the next step.

    A text that names its next step itself, after a semicolon, stays as it is.
    """
    code = lookup(value)
    if "; " in text or not code.next_step:
        return text or code.sentence
    return f"{text or code.sentence}; {code.next_step}"


def next_step(value: int, detail: str = "", *, tries_again: bool) -> str:
    """What helps against the error of a job; one that does not try again by itself has to be resumed.

    A refusal (METHOD) that names its next step in `detail`, after a semicolon, knows it better than the table.
    """
    code = lookup(value)
    if code.code_class is CodeClass.METHOD:
        return detail.rpartition("; ")[2] if "; " in detail else code.next_step
    if tries_again or code.code_class is not CodeClass.TRANSIENT:
        return code.next_step
    if code.next_step.endswith("resume the job"):
        return code.next_step
    action, ends_so, _ = code.next_step.partition("; the job tries again by itself")
    return f"{action}, then resume the job" if ends_so else "resume the job to try again"


def describe(error: "JobError", *, tries_again: bool = False) -> str:
    """The one line that people read about a failed job: the cause, then the next step."""
    step = next_step(error.code, error.detail, tries_again=tries_again)
    return f"{describe_cause(error)}; {presentable(step)}" if step else describe_cause(error)


def describe_cause(error: "JobError") -> str:
    """Symbol and number, meaning, place and object, identity, what the other side said; what is unknown is left out.

    Queries and user parts of URLs are masked, since links are often signed there; characters that would break the line
    or steer a terminal become spaces (user-pains, message rules).
    """
    code = lookup(error.code)
    step = next_step(error.code, error.detail, tries_again=True)
    subject, detail = presentable(error.subject), presentable(error.detail.removesuffix(f"; {step}"))
    place = "" if error.context is ErrorContext.NONE else context_description(error.context)
    parts = [
        f"{label(error.code)}: {code.sentence}",
        f"{place} {subject}".strip(),
        f"as {presentable(error.identity)}" if error.identity else "",
        detail.removeprefix(f"{subject.partition('://')[2]}: ") if subject else detail,
        f"the server asks to wait {error.retry_after_seconds:.0f} s" if _is_asked_to_wait(error) else "",
    ]
    return "; ".join(part for part in parts if part)


def _is_asked_to_wait(error: "JobError") -> bool:
    """A server that was not reached has asked for nothing: it is we who leave it alone for so long."""
    return error.retry_after_seconds is not None and error.context is not ErrorContext.GENERAL_TRANSPORT


def presentable(text: str) -> str:
    """What others said, as a message shows it: one short line, queries and user parts of URLs masked."""
    masked = _URL.sub(lambda url: url["scheme"] + url["rest"] + ("?…" if url["secret"] else ""), text)
    line = _UNPRINROWS.sub(" ", masked).strip()
    return line if len(line) <= _MAX_DETAIL_CHARACTERS else f"{line[:_MAX_DETAIL_CHARACTERS]}…"


def _general(number: int) -> Code:
    """A row for a code without one."""
    facility, status = number & 0xFFFF0000, number & 0xFFFF
    again = "look into the log of the service; the job tries again by itself"
    if not number & 0x80000000:
        return Code(number, "UNKNOWN_SUCCESS", CodeClass.SUCCESS, None, "success of an unknown kind", "")
    if facility == _http.FACILITY_HTTP and 100 <= status <= 999:
        code_class = _http.class_of_status(status)
        step = again if code_class is CodeClass.TRANSIENT else "check the url and the server, then resume the job"
        sentence = f"the server answered with HTTP status {status}"
        return Code(number, f"HTTP_STATUS_{status}", code_class, ErrorContext.REMOTE_FILE, sentence, step)
    if facility == 0x80070000:
        context = ErrorContext.GENERAL_TRANSPORT if 12000 <= status <= 12199 else None
        sentence = f"the system reported error {status}"
        return Code(number, f"WIN32_ERROR_{status}", CodeClass.TRANSIENT, context, sentence, again)
    return Code(number, "UNKNOWN_FAILURE", CodeClass.TRANSIENT, None, "a failure of an unknown kind", again)
