"""What the decisions of a transfer are made of: told by the pure side (`download`), carried out by the driver."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from openbits.core import codes
from openbits.core.codes import CodeClass
from openbits.core.enums import ErrorContext
from openbits.core.model import Validators


def step_of(method: str, fields: Iterable[tuple[str, str]]) -> str:
    """Method and range of a request, for people."""
    wanted = "".join(f" ({value})" for name, value in fields if name == "Range")
    return f"{method}{wanted}"


class Decision:
    """Base of what the driver is told to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a request brings: so many bytes from `offset` on of what `read` reads (offset and size to bytes).

    It is read again from its start whenever the request goes out again. `read` raises OSError, and EOFError where the
    source has less than it should; the exchange is broken off then, and who asked knows why.
    """

    read: Callable[[int, int], bytes] = field(repr=False)
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Ask(Decision):
    """Ask the origin this next, when the present exchange is over; `fields` besides those of every request.

    `answer_seconds`: how long the answer may take after the last byte of the request; None: the first-byte clock.
    `opening`: fields of a packet without a body, which goes first where a connection has to be let in before it may
    bring one (upload-protocol.md §13). `is_followed`: of packets, that a redirect within the authority leads on (D24).
    """

    method: str
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: Body | None = None
    answer_seconds: float | None = None
    opening: tuple[tuple[str, str], ...] | None = field(default=None, repr=False)
    is_followed: bool = False

    @property
    def step(self) -> str:
        """Method and range, for people."""
        return step_of(self.method, self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept(Decision):
    """Write the body that follows from `offset` on, at most up to `end`; the file has nothing beyond `offset`.

    `skip_bytes`: the body begins with so many bytes that are here already.
    """

    offset: int
    end: int | None
    validators: Validators
    note: str
    skip_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Restart(Decision):
    """What was written cannot be continued: the file begins again, before anything that follows in the list.

    `hresult`: the error of the job if that happens too often.
    """

    reason: str
    hresult: int = codes.BG_E_REMOTE_FILE_CHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Decision):
    """The file is whole."""

    size_bytes: int
    modified_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail(Decision):
    """The attempt is over. `detail`: which step, what the other side said; the driver puts before it where.

    `code_class`: whether another attempt may help; None: what the code says by itself.
    """

    hresult: int
    context: ErrorContext
    detail: str
    retry_after_seconds: float | None = None
    code_class: CodeClass | None = None


def failure(hresult: int, step: str, words: str, retry_after_seconds: float | None = None) -> Fail:
    """The end of an attempt on the way to the remote file, in the context that the code has there."""
    context = codes.lookup(hresult).context
    if context in {None, ErrorContext.LOCAL_FILE}:  # those of the system have no other one in the table
        context = ErrorContext.GENERAL_TRANSPORT
    return Fail(hresult=hresult, context=context, detail=f"{step}: {words}", retry_after_seconds=retry_after_seconds)
