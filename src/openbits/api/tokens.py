"""Tokens: proof of an identity as a descriptor, and the impersonation that puts one under the calls of a thread.

A token is made by the service (`Client.logon_user`, `Client.open_process_token`) or received from another program.
Closing it does not take it away from a job that has it as helper token. Impersonation is a context variable: it
holds for the current thread or asyncio task, is not inherited by new threads, and changes no credential of the process.
"""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Self

from openbits.core import codes
from openbits.core.errors import BitsError


class Token:
    """One token descriptor. It belongs to this object; `close` it, or use the token as a context manager."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor, to be sent with a call or passed on. Raises BitsError E_HANDLE after `close`."""
        if self._descriptor < 0:
            raise BitsError(codes.E_HANDLE, "cannot use this token: it was closed; log on again")
        return self._descriptor

    def duplicate(self) -> "Token":
        """A second token object for the same identity, to be closed on its own."""
        return Token(os.dup(self.fileno()))

    def close(self) -> None:
        """Close the descriptor; the identity ends with the last copy anywhere. Closing twice is no error."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @contextlib.contextmanager
    def impersonate(self) -> Iterator["Token"]:
        """Within the block every call of this thread or task in which the caller matters is made under this token."""
        self.fileno()
        previous = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(previous)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()

    def __repr__(self) -> str:
        return f"<Token {'closed' if self._descriptor < 0 else self._descriptor}>"


_current: ContextVar[Token | None] = ContextVar("openbits_token", default=None)


def current() -> Token | None:
    """The token this thread or task impersonates, if any."""
    return _current.get()


def set_current(token: Token | None) -> Token | None:
    """Impersonate a token (None: nobody) until further notice; the one before. For the COM-faithful face only."""
    previous = _current.get()
    _current.set(token)
    return previous
