"""Tokens: proof of an identity as a descriptor, and the impersonation that puts one under the calls of a thread.

A token is made by the service (`Client.logon_user`, `Client.open_process_token`) or received from another program,
which may run as another user: `Token.send` there, `Token.receive` here, over any Unix socket.
Closing it does not take it away from a job that has it as helper token. Impersonation is a context variable: it
holds for the current thread or asyncio task, is not inherited by new threads, and changes no credential of the process.
"""

import array
import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Self

from openbits.channel import MAX_DESCRIPTORS, close_all
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

    def send(self, sock: socket.socket) -> None:
        """Pass a copy to the program at the other end, which then can act as this identity: judge that end first."""
        socket.send_fds(sock, [b"T"], [self.fileno()])

    @classmethod
    def receive(cls, sock: socket.socket) -> Self:
        """Take the token that the other end sends; whose it is, `Client.token_info` knows.

        Raises BitsError E_HANDLE, having closed whatever came, if it is not exactly one descriptor of a socket;
        TimeoutError as the socket does.
        """
        space = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
        _, ancillary, flags, _ = sock.recvmsg(1, space, socket.MSG_CMSG_CLOEXEC)
        received = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received.frombytes(data)
        count = f"more than {len(received)}" if flags & socket.MSG_CTRUNC else str(len(received))
        if count == "1" and stat.S_ISSOCK(os.fstat(received[0]).st_mode):
            return cls(received[0])
        close_all(received)
        what = "1 descriptor that is no socket" if count == "1" else f"{count} descriptors"
        raise BitsError(codes.E_HANDLE, f"cannot receive a token: {what} came; the sender must send one token")

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
