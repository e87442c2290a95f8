"""The shape of the table of codes, and the functions that add a row to it.

The rows stand in `codes_bits` (methods), `codes_transfer` (jobs), `codes_http` and `codes_system`; each row is the
one place of its number and yields that number as a module constant. Readers use `openbits.core.codes`, which loads
all of them; this module alone knows no row.
"""

import enum
from dataclasses import dataclass

from openbits.core.enums import ErrorContext


class CodeClass(enum.Enum):
    """What a code does, by the letters of errors.md §1; of several, the one it has in a transfer."""

    METHOD = "M"
    """Returned by a method only."""
    FATAL = "F"
    """Puts a job into ERROR."""
    TRANSIENT = "T"
    """Puts a job into TRANSIENT_ERROR with timed retry."""
    EVENT = "E"
    """Puts a job into TRANSIENT_ERROR until a condition ends."""
    CONTEXT = "X"
    """Names the place of an error."""
    INTERNAL = "I"
    """Historic or an identifier of the event log; never raised."""
    SUCCESS = "S"


@dataclass(frozen=True, slots=True)
class Code:
    """One HRESULT: unsigned value, symbol, class, usual context, what it means, and what the user does next."""

    value: int
    symbol: str
    code_class: CodeClass
    context: ErrorContext | None
    sentence: str
    next_step: str


ROWS: dict[int, Code] = {}


def method(symbol: str, value: int, sentence: str, next_step: str) -> int:
    """Add a code of class M."""
    return _add(Code(value, symbol, CodeClass.METHOD, None, sentence, next_step))


def fatal(symbol: str, value: int, context: ErrorContext, sentence: str, next_step: str) -> int:
    """Add a code of class F."""
    return _add(Code(value, symbol, CodeClass.FATAL, context, sentence, next_step))


def transient(symbol: str, value: int, context: ErrorContext, sentence: str, next_step: str) -> int:
    """Add a code of class T."""
    return _add(Code(value, symbol, CodeClass.TRANSIENT, context, sentence, next_step))


def event(symbol: str, value: int, context: ErrorContext, sentence: str, next_step: str) -> int:
    """Add a code of class E."""
    return _add(Code(value, symbol, CodeClass.EVENT, context, sentence, next_step))


def place(symbol: str, value: int, sentence: str) -> int:
    """Add the text identifier of an error context (class X)."""
    return _add(Code(value, symbol, CodeClass.CONTEXT, None, sentence, ""))


def internal(symbol: str, value: int, sentence: str) -> int:
    """Add a code that is known and never raised (class I)."""
    return _add(
        Code(value, symbol, CodeClass.INTERNAL, None, sentence, "look into the log of the program that used it")
    )


def success(symbol: str, value: int, sentence: str, next_step: str = "") -> int:
    """Add a success (class S)."""
    return _add(Code(value, symbol, CodeClass.SUCCESS, None, sentence, next_step))


def _add(code: Code) -> int:
    if code.value in ROWS:
        raise ValueError(f"{code.symbol} and {ROWS[code.value].symbol} have the same number 0x{code.value:08X}")
    ROWS[code.value] = code
    return code.value
