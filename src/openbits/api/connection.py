"""One connection to the service: varlink over a Unix socket, blocking, with descriptors.

It is not a general varlink library and knows no job: `client` does. Rules that hold:

- Nothing is sent before the other end was judged: the socket's directory belongs to root or to us, and the process
  that listens there runs as root or as us. A stranger's socket never sees a password.
- One connection is one identity, the one of the moment it was opened, and one process: a fork must open its own.
- Calls are answered in order. An exchange that was cut short (Ctrl-C, time-out) closes the connection, because the
  answer that is still on its way would be taken for the next one's.
- Received descriptors belong to the caller; those nobody can own are closed at once.

Imports are light on purpose: this is most of what a command pays for at start-up.
"""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from openbits.api import framing
from openbits.api.framing import BrokenPeerError, Frames, Parameters
from openbits.core import codes
from openbits.core.errors import BitsError

CONNECT_SECONDS = 10
MAX_SOCKET_PATH_BYTES = 107
"""Longest path that fits into a socket address; a longer one goes through /proc/self/fd."""


class UnreachableError(BitsError):
    """No conversation with the service: RPC_S_SERVER_UNAVAILABLE, with the socket, the reason and the next step."""

    def __init__(self, path: str, why: str, hint: str) -> None:
        super().__init__(codes.RPC_S_SERVER_UNAVAILABLE, f"cannot reach the service at {path}: {why}; {hint}")
        self.path = path
        self.why = why


class NotListeningError(UnreachableError):
    """Nobody listens on the socket: a service may be started there."""


class ConnectionLostError(UnreachableError):
    """The service ended the conversation; jobs go on or wait in the queue, handles are gone."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why, "it may be restarting; jobs are kept, connect again")


class Connection:
    """A judged connection. Calls may come from several threads; they are made one after the other."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        self.path = path
        self._socket = sock
        self._lock = threading.Lock()
        self._frames = Frames()
        self._process_id = os.getpid()

    @classmethod
    def open(cls, path: str) -> "Connection":
        """Connect to the service that listens on `path`, or raise UnreachableError; nothing is sent yet."""
        directory, name = os.path.split(path)
        try:
            directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _unreachable(path, error) from error
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _judge_directory(path, directory, os.fstat(directory_fd).st_uid)
            _set_send_timeout(sock, CONNECT_SECONDS)
            is_short = len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES
            sock.connect(path if is_short else f"/proc/self/fd/{directory_fd}/{name}")
            _set_send_timeout(sock, 0)
            _judge_listener(path, sock)
        except OSError as error:
            sock.close()
            raise _unreachable(path, error) from error
        except BaseException:
            sock.close()
            raise
        finally:
            os.close(directory_fd)
        return cls(sock, path)

    def call(
        self,
        method: str,
        parameters: Parameters | None = None,
        descriptors: Sequence[int] = (),
        *,
        timeout_seconds: float | None = None,
    ) -> tuple[Parameters, list[int]]:
        """Call one method; its answer and the descriptors that came with it, which then belong to the caller.

        Raises BitsError with what the service said; a time-out is an UnreachableError and ends the connection.
        """
        with self._exchange(timeout_seconds):
            self._send(framing.request(method, parameters), descriptors)
            reply, received = self._receive()
        return framing.answer(reply, received), received

    def collect(self, method: str, parameters: Parameters, key: str, descriptors: Sequence[int] = ()) -> list[Any]:
        """Call a method whose answer is the list `key`; the service may spread it over several replies (`more`)."""
        items: list[Any] = []
        with self._exchange(None):
            self._send(framing.request(method, parameters, has_more=True), descriptors)
            is_over = False
            while not is_over:
                reply, received = self._receive()
                items += framing.answer(reply, received, wants_descriptors=False)[key]
                is_over = not framing.continues(reply)
        return items

    def stream(self, method: str, parameters: Parameters) -> None:
        """Start a call with many replies; read them with `next_reply`. The connection serves nothing else then."""
        with self._exchange(None):
            self._send(framing.request(method, parameters, has_more=True), ())

    def next_reply(self, timeout_seconds: float | None = None) -> Parameters:
        """The next reply of the stream. Raises TimeoutError, after which it may be called again."""
        try:
            self._socket_or_lost().settimeout(timeout_seconds)
            reply, received = self._receive()
        except TimeoutError:
            raise
        except OSError as error:
            raise self._lost(error.strerror or str(error)) from error
        return framing.answer(reply, received, wants_descriptors=False)

    def abort(self) -> None:
        """End the conversation from another thread: a read that waits there ends with ConnectionLostError."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; handles and subscriptions of this connection end with it."""
        self._socket.close()
        self._frames.close()

    def detach(self) -> socket.socket:
        """Give the socket away; this object is closed then. Only between calls."""
        return socket.socket(fileno=self._socket.detach())

    @property
    def is_closed(self) -> bool:
        """True if no call can be made any more."""
        return self._socket.fileno() < 0

    @contextlib.contextmanager
    def _exchange(self, timeout_seconds: float | None) -> Iterator[None]:
        """Hold the connection for one request and its replies; close it if that is cut short."""
        with self._lock:
            try:
                self._socket_or_lost().settimeout(timeout_seconds)
                yield
            except TimeoutError as error:
                self.close()
                raise UnreachableError(
                    self.path, f"no answer within {timeout_seconds:g} s", "see the journal of bitsd, or restart it"
                ) from error
            except OSError as error:
                raise self._lost(error.strerror or str(error)) from error
            except BitsError:
                raise
            except BaseException:
                self.close()
                raise

    def _socket_or_lost(self) -> socket.socket:
        if self.is_closed:
            raise ConnectionLostError(self.path, "the connection was closed")
        if os.getpid() != self._process_id:
            raise UnreachableError(
                self.path, "the connection belongs to the parent process", "open a Client after the fork"
            )
        return self._socket

    def _send(self, data: bytes, descriptors: Sequence[int]) -> None:
        sent = 0
        if descriptors:
            sent = socket.send_fds(self._socket, [data], descriptors)
        self._socket.sendall(memoryview(data)[sent:])

    def _receive(self) -> tuple[Parameters, list[int]]:
        """One message. What was read of an unfinished one is kept, so a time-out loses nothing."""
        try:
            while (message := self._frames.next()) is None:
                # Not socket.recv_fds: it drops its flags argument, and descriptors would leak into child processes.
                data, ancillary, flags, _ = self._socket.recvmsg(
                    framing.CHUNK_BYTES, framing.RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC
                )
                self._frames.feed(data, ancillary, flags)
        except BrokenPeerError as error:
            raise self._lost(str(error)) from error
        return message

    def _lost(self, why: str) -> ConnectionLostError:
        self.close()
        return ConnectionLostError(self.path, why)


def _set_send_timeout(sock: socket.socket, seconds: int) -> None:
    """Bound connect(): a socket in Python's own time-out mode fails at once when the backlog is full."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, 0))


def _judge_directory(path: str, directory: str, owner_uid: int) -> None:
    if owner_uid not in {0, os.geteuid()}:
        raise UnreachableError(
            path,
            f"directory {directory} belongs to uid {owner_uid}, neither root nor you (uid {os.geteuid()})",
            "nothing was sent; set OPENBITS_SOCKET to the socket of a service you trust",
        )


def peer_uid(sock: socket.socket) -> int:
    """Who is at the other end, as the kernel saw it: who called connect(), or on the client end listen()."""
    _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    return int(uid)


def _judge_listener(path: str, sock: socket.socket) -> None:
    uid = peer_uid(sock)
    if uid not in {0, os.geteuid()}:
        raise UnreachableError(
            path,
            f"the process that listens there runs as uid {uid}, neither root nor you (uid {os.geteuid()})",
            "nothing was sent; set OPENBITS_SOCKET to the socket of a service you trust",
        )


def _unreachable(path: str, error: OSError) -> UnreachableError:
    """Why a connection could not be made, in words; NotListeningError where starting a service would help."""
    start_it = f"start it with `bitsd --socket {path}`"
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return NotListeningError(path, "there is no such socket, so no service runs", start_it)
        case ConnectionRefusedError():
            return NotListeningError(path, "nobody listens on it any more (a stale socket file)", start_it)
        case PermissionError():
            return UnreachableError(path, f"permission denied for uid {os.geteuid()}", "ask the administrator")
        case TimeoutError() | BlockingIOError():
            return UnreachableError(path, "it does not accept connections", "see the journal of bitsd, or restart it")
        case _:
            return UnreachableError(path, error.strerror or str(error), "check OPENBITS_SOCKET")
