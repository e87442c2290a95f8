"""How methods of the interface answer: failures as the one varlink error, long lists page by page."""

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import ParamSpec, TypeVar

from asyncvarlink import TypedVarlinkErrorReply

from openbits.api.wire import INTERFACE
from openbits.core import codes
from openbits.core.errors import BitsError

log = logging.getLogger("openbits.manager")

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

PAGE = 40
"""Items in one reply of a list: even with the longest names it stays below the message limit."""


class Failed(TypedVarlinkErrorReply, interface=INTERFACE):
    """Every failure: HRESULT as unsigned number, its symbol, and a text that names object, identity and next step."""

    class Parameters:
        """Parameters of the error."""

        hresult: int
        symbol: str
        message: str


def answered(method: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Turn BitsError into the varlink error; anything else is ours, is logged, and becomes E_FAIL."""

    @functools.wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except BitsError as error:
            raise failed(error) from None
        except Exception:
            log.exception("call_crashed method=%s", method.__name__)
            raise failed(BitsError(codes.E_FAIL, "internal error of the service; its log has the details")) from None

    return guarded


def answered_stream(method: Callable[P, AsyncIterator[R]]) -> Callable[P, AsyncIterator[R]]:
    """The same for a method with many replies."""

    @functools.wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        try:
            async for item in method(*args, **kwargs):
                yield item
        except BitsError as error:
            raise failed(error) from None

    return guarded


def pages(items: list[T]) -> Iterator[list[T]]:
    """Parts that fit into one message each; at least one, which may be empty."""
    for start in range(0, max(len(items), 1), PAGE):
        yield items[start : start + PAGE]


def failed(error: BitsError) -> Failed:
    """The varlink error of a BitsError."""
    return Failed(hresult=error.hresult, symbol=error.symbol, message=str(error))
