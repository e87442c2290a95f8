"""How methods of the interface answer: failures as the one varlink error, long lists page by page.

Here, because every call comes by, the audit log hears of refused calls and of what administrators do to foreign jobs.
"""

import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from asyncvarlink import TypedVarlinkErrorReply

from openbits.api.wire import INTERFACE
from openbits.core import codes
from openbits.core.errors import BitsError
from openbits.service import audit
from openbits.service.connections import Caller

log = logging.getLogger("openbits.manager")

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

CHANGES_NOTHING = frozenset(
    {
        "GetClientCertificate",
        "GetCustomHeaders",
        "GetFilledFileRanges",
        "GetJob",
        "GetReplyData",
        "GetResponseHeaders",
        "ListFiles",
        "ReleaseJob",
    }
)
"""Methods on a handle that are no act on the job."""

PAGE = 40
"""Items in one reply of a list: even with the longest names it stays below the message limit."""


class Failed(TypedVarlinkErrorReply, interface=INTERFACE):
    """Every failure: HRESULT as unsigned number, its symbol, and a text that names object, identity and next step."""

    class Parameters:
        """Parameters of the error."""

        hresult: int
        symbol: str
        message: str


class Interface(Protocol):
    """One connection's interface, as far as its methods are wrapped here."""

    @property
    def caller(self) -> Caller:
        """Who is at the other end."""


S = TypeVar("S", bound=Interface)


def answered(method: Callable[Concatenate[S, P], Awaitable[R]]) -> Callable[Concatenate[S, P], Awaitable[R]]:
    """Turn BitsError into the varlink error; anything else is ours, is logged, and becomes E_FAIL."""

    @functools.wraps(method)
    async def guarded(interface: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with _audited(interface.caller, method.__name__, kwargs):
            try:
                return await method(interface, *args, **kwargs)
            except BitsError:
                raise
            except Exception:
                log.exception("call_crashed method=%s", method.__name__)
                raise BitsError(codes.E_FAIL, "internal error of the service; its log has the details") from None

    return guarded


def answered_stream(
    method: Callable[Concatenate[S, P], AsyncIterator[R]],
) -> Callable[Concatenate[S, P], AsyncIterator[R]]:
    """The same for a method with many replies."""

    @functools.wraps(method)
    async def guarded(interface: S, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        with _audited(interface.caller, method.__name__, kwargs):
            async for item in method(interface, *args, **kwargs):
                yield item

    return guarded


@contextlib.contextmanager
def _audited(caller: Caller, call: str, parameters: Mapping[str, object]) -> Iterator[None]:
    """Tell the audit log how the call went, and a BitsError to who called."""
    handle = parameters.get("handle")
    opened = caller.handles.get(handle) if isinstance(handle, int) else None
    owner_uid = opened.record.job.owner.uid if opened is not None else None
    job_id = opened.record.job.job_id if opened is not None else parameters.get("job_id")
    try:
        yield
    except BitsError as error:
        audit.log("refused", caller.peer.identity, call=call, job=job_id, code=codes.label(error.hresult))
        raise failed(error) from None
    if opened is not None and opened.opened_by.uid != owner_uid and call not in CHANGES_NOTHING:
        audit.log("administer", opened.opened_by, call=call, job=job_id, owner=owner_uid)


def pages(items: Iterable[T], weight: Callable[[T], int] = lambda _: 1) -> Iterator[list[T]]:
    """Parts that fit into one message each; at least one, maybe empty. `weight`: as how many items one counts."""
    page: list[T] = []
    weighed = 0
    for item in items:
        weighed += weight(item)
        if page and weighed > PAGE:
            yield page
            page, weighed = [], weight(item)
        page.append(item)
    yield page


def failed(error: BitsError) -> Failed:
    """The varlink error of a BitsError."""
    return Failed(hresult=error.hresult, symbol=error.symbol, message=str(error))
