"""Codes of the HTTP facility: 0x80190000 + status (errors.md §4.2), and the rule for statuses without a row (§4.1).

Statuses that have no symbol in the documentation are called HTTP_STATUS_<n>.
"""

from typing import Final

from openbits.core.codes_table import CodeClass as _CodeClass
from openbits.core.codes_table import fatal as _fatal
from openbits.core.codes_table import transient as _transient
from openbits.core.enums import ErrorContext as _Context

FACILITY_HTTP: Final = 0x80190000

_FATAL_REDIRECTS = frozenset({300, 301, 302, 303, 304, 305, 307})
_TRANSIENT_REFUSALS = frozenset({408, 409})
_FATAL_FAILURES = frozenset({501, 505})


def class_of_status(status: int) -> _CodeClass:
    """Transient or fatal by the general rule (errors.md §4.1)."""
    is_fatal = (
        status in _FATAL_REDIRECTS
        or (400 <= status <= 499 and status not in _TRANSIENT_REFUSALS)
        or status in _FATAL_FAILURES
    )
    return _CodeClass.FATAL if is_fatal else _CodeClass.TRANSIENT


def _refused(symbol: str, value: int, sentence: str, next_step: str) -> int:
    return _fatal(symbol, value, _Context.REMOTE_FILE, f"{sentence} (HTTP {value & 0xFFFF})", next_step)


def _failed(symbol: str, value: int, sentence: str, next_step: str = "") -> int:
    step = next_step or "wait for the next attempt, or resume the job to try now"
    return _transient(symbol, value, _Context.REMOTE_FILE, f"{sentence} (HTTP {value & 0xFFFF})", step)


# 1xx and 2xx: success where another success was due

BG_E_HTTP_ERROR_100: Final = _failed("BG_E_HTTP_ERROR_100", 0x80190064, "the server never sent its final answer")
BG_E_HTTP_ERROR_101: Final = _failed("BG_E_HTTP_ERROR_101", 0x80190065, "the server switched protocols unasked")
BG_E_HTTP_ERROR_200: Final = _failed("BG_E_HTTP_ERROR_200", 0x801900C8, "a plain answer came where another was due")
BG_E_HTTP_ERROR_201: Final = _failed("BG_E_HTTP_ERROR_201", 0x801900C9, "the server created something unexpectedly")
BG_E_HTTP_ERROR_202: Final = _failed("BG_E_HTTP_ERROR_202", 0x801900CA, "the server put the request off")
BG_E_HTTP_ERROR_203: Final = _failed("BG_E_HTTP_ERROR_203", 0x801900CB, "the answer was transformed on its way")
BG_E_HTTP_ERROR_204: Final = _failed("BG_E_HTTP_ERROR_204", 0x801900CC, "the answer has no content")
BG_E_HTTP_ERROR_205: Final = _failed("BG_E_HTTP_ERROR_205", 0x801900CD, "the server asks to reset a form")
BG_E_HTTP_ERROR_206: Final = _failed("BG_E_HTTP_ERROR_206", 0x801900CE, "the server sent a part of the file unasked")

# 3xx: redirects that were not or cannot be followed

BG_E_HTTP_ERROR_300: Final = _refused(
    "BG_E_HTTP_ERROR_300", 0x8019012C, "the server offers several files", "choose one of them and use its url"
)
BG_E_HTTP_ERROR_301: Final = _refused(
    "BG_E_HTTP_ERROR_301",
    0x8019012D,
    "the file moved for good and the redirect was not followed",
    "use the new url, or allow redirects for the job",
)
BG_E_HTTP_ERROR_302: Final = _refused(
    "BG_E_HTTP_ERROR_302",
    0x8019012E,
    "the file is elsewhere for now and the redirect was not followed",
    "use the other url, or allow redirects for the job",
)
BG_E_HTTP_ERROR_303: Final = _refused(
    "BG_E_HTTP_ERROR_303",
    0x8019012F,
    "the server points to another url and the redirect was not followed",
    "use the other url, or allow redirects for the job",
)
BG_E_HTTP_ERROR_304: Final = _refused(
    "BG_E_HTTP_ERROR_304",
    0x80190130,
    "the server says that the file is unchanged, which nobody asked",
    "check the caches between here and the server, then resume the job",
)
BG_E_HTTP_ERROR_305: Final = _refused(
    "BG_E_HTTP_ERROR_305",
    0x80190131,
    "the server asks for a certain proxy, which is never followed",
    "set that proxy for the job if you trust it, then resume",
)
BG_E_HTTP_ERROR_307: Final = _refused(
    "BG_E_HTTP_ERROR_307",
    0x80190133,
    "the file is elsewhere for now and the redirect was not followed",
    "use the other url, or allow redirects for the job",
)
HTTP_STATUS_308: Final = _refused(
    "HTTP_STATUS_308",
    0x80190134,
    "the file moved for good and the redirect was not followed",
    "use the new url, or allow redirects for the job",
)

# 4xx: the server refuses

BG_E_HTTP_ERROR_400: Final = _refused(
    "BG_E_HTTP_ERROR_400",
    0x80190190,
    "the server does not understand the request",
    "check the url of the file, and whether it begins with http or https",
)
BG_E_HTTP_ERROR_401: Final = _refused(
    "BG_E_HTTP_ERROR_401",
    0x80190191,
    "the server wants credentials, and none or the wrong ones were given",
    "set the credentials of the job, or its own header (bits credentials set, bits headers set), then resume it;"
    " the bytes so far are kept",
)
BG_E_HTTP_ERROR_402: Final = _refused(
    "BG_E_HTTP_ERROR_402", 0x80190192, "the server wants a payment", "settle it with the operator, then resume the job"
)
BG_E_HTTP_ERROR_403: Final = _refused(
    "BG_E_HTTP_ERROR_403",
    0x80190193,
    "the server refuses access to the file",
    "use an account or client certificate with access, or a fresh link, then resume the job",
)
BG_E_HTTP_ERROR_404: Final = _refused(
    "BG_E_HTTP_ERROR_404",
    0x80190194,
    "the server has no such file",
    "check the url",
)
BG_E_HTTP_ERROR_405: Final = _refused(
    "BG_E_HTTP_ERROR_405", 0x80190195, "the server does not allow this http method here", "check the url and the method"
)
BG_E_HTTP_ERROR_406: Final = _refused(
    "BG_E_HTTP_ERROR_406", 0x80190196, "the server has no acceptable form of the file", "check the url of the file"
)
BG_E_HTTP_ERROR_407: Final = _refused(
    "BG_E_HTTP_ERROR_407",
    0x80190197,
    "the proxy wants credentials, and none or the wrong ones were given",
    "set the credentials of the job for it, or its own header (bits credentials set --target proxy, bits headers set),"
    " then resume the job",
)
BG_E_HTTP_ERROR_408: Final = _failed("BG_E_HTTP_ERROR_408", 0x80190198, "the server was tired of waiting for us")
BG_E_HTTP_ERROR_409: Final = _failed("BG_E_HTTP_ERROR_409", 0x80190199, "the request conflicts with another one")
BG_E_HTTP_ERROR_410: Final = _refused(
    "BG_E_HTTP_ERROR_410", 0x8019019A, "the file was removed for good", "look for the file at another url"
)
BG_E_HTTP_ERROR_411: Final = _refused(
    "BG_E_HTTP_ERROR_411", 0x8019019B, "the server wants to know a length first", "check server and proxy"
)
BG_E_HTTP_ERROR_412: Final = _refused(
    "BG_E_HTTP_ERROR_412",
    0x8019019C,
    "the file on the server is not the one the transfer began with",
    "resume the job to begin the file anew",
)
BG_E_HTTP_ERROR_413: Final = _refused(
    "BG_E_HTTP_ERROR_413",
    0x8019019D,
    "the request is too large for the server",
    "raise the request limit of the server, then resume the job",
)
BG_E_HTTP_ERROR_414: Final = _refused(
    "BG_E_HTTP_ERROR_414", 0x8019019E, "the url is too long for the server", "use a shorter url"
)
BG_E_HTTP_ERROR_415: Final = _refused(
    "BG_E_HTTP_ERROR_415", 0x8019019F, "the server does not take this type of content", "check the url of the upload"
)
BG_E_HTTP_ERROR_416: Final = _refused(
    "BG_E_HTTP_ERROR_416",
    0x801901A0,
    "the server does not have the requested range",
    "compare the size of the remote file with what was asked, then resume the job",
)
BG_E_HTTP_ERROR_417: Final = _refused(
    "BG_E_HTTP_ERROR_417", 0x801901A1, "the server cannot meet the expectation of the request", "check the proxy"
)
HTTP_STATUS_421: Final = _refused(
    "HTTP_STATUS_421", 0x801901A5, "the request reached a server that is not in charge", "check the url and the proxy"
)
HTTP_STATUS_425: Final = _failed("HTTP_STATUS_425", 0x801901A9, "the server found the request too early")
HTTP_STATUS_429: Final = _failed(
    "HTTP_STATUS_429",
    0x801901AD,
    "the server had too many requests from here",
    "nothing: the job waits as long as the server asks and tries again by itself",
)
BG_E_HTTP_ERROR_449: Final = _refused(
    "BG_E_HTTP_ERROR_449", 0x801901C1, "the server wants an action by a person first", "open the url in a browser"
)

# 5xx: the server failed

BG_E_HTTP_ERROR_500: Final = _failed("BG_E_HTTP_ERROR_500", 0x801901F4, "the server had an internal error")
BG_E_HTTP_ERROR_501: Final = _refused(
    "BG_E_HTTP_ERROR_501",
    0x801901F5,
    "the server does not support what was asked",
    "check the url",
)
BG_E_HTTP_ERROR_502: Final = _failed("BG_E_HTTP_ERROR_502", 0x801901F6, "a gateway got a bad answer from its server")
BG_E_HTTP_ERROR_503: Final = _failed("BG_E_HTTP_ERROR_503", 0x801901F7, "the server is overloaded or in maintenance")
BG_E_HTTP_ERROR_504: Final = _failed("BG_E_HTTP_ERROR_504", 0x801901F8, "a gateway got no answer from its server")
BG_E_HTTP_ERROR_505: Final = _refused(
    "BG_E_HTTP_ERROR_505",
    0x801901F9,
    "the server does not support this version of http",
    "use another server or proxy",
)
HTTP_STATUS_507: Final = _failed("HTTP_STATUS_507", 0x801901FB, "the server has no space left")
HTTP_STATUS_511: Final = _failed(
    "HTTP_STATUS_511",
    0x801901FF,
    "the network wants a login of its own first",
    "log in to the network in a browser; the job tries again by itself",
)
