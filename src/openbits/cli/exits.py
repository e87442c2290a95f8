"""How a command ends: exit codes and the one form of error messages.

0 done, 1 job error, 2 usage, 3 partial, 4 still waiting or time-out, 5 denied, 6 service not reachable; 130 Ctrl-C.
With several jobs the code is that of the first that failed.
"""

import sys
from typing import Final

from openbits.api.client import Outcome
from openbits.cli import render
from openbits.core import codes
from openbits.core.errors import BitsError

OK: Final = 0
JOB_ERROR: Final = 1
USAGE: Final = 2
PARTIAL: Final = 3
WAITING: Final = 4
DENIED: Final = 5
UNREACHABLE: Final = 6
INTERRUPTED: Final = 130

_OF_CODE: Final = {
    codes.E_INVALIDARG: USAGE,
    codes.E_NOTIMPL: USAGE,
    codes.BG_E_STRING_TOO_LONG: USAGE,
    codes.BG_E_INVALID_RANGE: USAGE,
    codes.BG_E_OVERLAPPING_RANGES: USAGE,
    codes.BG_E_MAX_DOWNLOAD_SIZE_INVALID_VALUE: USAGE,
    codes.E_ACCESSDENIED: DENIED,
    codes.CO_E_FAILEDTOIMPERSONATE: DENIED,
    codes.ERROR_LOGON_FAILURE: DENIED,
    codes.ERROR_ACCOUNT_EXPIRED: DENIED,
    codes.ERROR_PASSWORD_MUST_CHANGE: DENIED,
    codes.ERROR_ACCOUNT_LOCKED_OUT: DENIED,
    codes.ERROR_LOGON_TYPE_NOT_GRANTED: DENIED,
    codes.ERROR_NO_LOGON_SERVERS: DENIED,
    codes.RPC_S_SERVER_UNAVAILABLE: UNREACHABLE,
    codes.BG_S_PARTIAL_COMPLETE: PARTIAL,
}

_OF_OUTCOME: Final = {
    Outcome.TRANSFERRED: OK,
    Outcome.ACKNOWLEDGED: OK,
    Outcome.ERROR: JOB_ERROR,
    Outcome.CANCELLED: JOB_ERROR,
    Outcome.TIMEOUT: WAITING,
}


def code_of(error: BitsError) -> int:
    """Exit code of a failed call."""
    return _OF_CODE.get(error.hresult, JOB_ERROR)


def code_of_success(hresult: int) -> int:
    """Exit code of a success code: 0, or 3 for a partial Complete."""
    return _OF_CODE.get(hresult, OK)


def code_of_outcome(outcome: Outcome) -> int:
    """Exit code of waiting for a job."""
    return _OF_OUTCOME[outcome]


def complain(doing: str, error: BitsError) -> int:
    """Say on standard error what could not be done, with symbol and number; the exit code."""
    text = error.text if error.text.startswith("cannot ") else f"cannot {doing}: {error.text}"
    print(f"bits: {render.printable(text)} [{codes.label(error.hresult)}]", file=sys.stderr)
    return code_of(error)


def complain_of_output(error: OSError) -> int:
    """Standard output cannot be written, as on a full disk; the exit code."""
    code = codes.from_errno(error.errno or 0)
    why = error.strerror or str(error)
    print(f"bits: cannot write the output: {why}; what was asked for is done [{codes.label(code)}]", file=sys.stderr)
    return JOB_ERROR
