"""An HTTP server for requests with bodies: a function of the test gets each, and reads of the body what it wants.

The function gets the request and its connection, and returns whether the connection is good for another request. What
was asked is kept in `requests`, with what was read of each body.
"""

import contextlib
import fcntl
import socket
import ssl
import sys
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Asked:
    """What a client sent; header names are lower-case. `body`: what was read of it."""

    method: str
    target: str
    headers: dict[str, str]
    connection: int
    peer: "socket.socket" = field(repr=False)
    rest: bytes = field(default=b"", repr=False)
    body: bytearray = field(default_factory=bytearray, repr=False)

    def read(self, size: int | None = None) -> bytes:
        """So much of the body, all of it without `size`, as its length was told."""
        wanted = int(self.headers["content-length"]) - len(self.body) if size is None else size
        while len(self.rest) < wanted:
            more = self.peer.recv(1 << 18)
            if not more:
                break
            self.rest += more
        data, self.rest = self.rest[:wanted], self.rest[wanted:]
        self.body += data
        return data

    def say(self, status: str, *fields: str, body: bytes = b"") -> bool:
        """An answer; True, since the connection goes on."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
        self.peer.sendall("\r\n".join(lines).encode("latin-1") + body)
        return True

    def settle(self) -> None:
        """Wait until the client cannot send any more, or has sent everything: nothing comes while it is not read."""
        before = -1
        while (now := unread_bytes(self.peer)) != before:
            before = now
            time.sleep(0.05)

    def want(self) -> None:
        """Say that the body may come."""
        self.peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


Act = Callable[[Asked], bool]


def unread_bytes(connection: socket.socket) -> int:
    """What has come and is not read."""
    return int.from_bytes(fcntl.ioctl(connection, termios.FIONREAD, bytes(4)), sys.byteorder)


def take(asked: Asked) -> bool:
    """Read the body and be content."""
    asked.read()
    return asked.say("200 OK", "BITS-Packet-Type: Ack")


class BodyServer:
    """Listens on a loopback port until closed; one thread per connection. The acts are for one request each."""

    def __init__(self, *acts: Act, tls: ssl.SSLContext | None = None, buffer_bytes: int = 0) -> None:
        self.requests: list[Asked] = []
        self.acts = list(acts) or [take]
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._count = 0
        self._listener = socket.socket()
        if buffer_bytes:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def url(self, path: str = "/inbox/file.bin") -> str:
        """Where the file goes."""
        return f"{'https' if self._tls else 'http'}://{'localhost' if self._tls else '127.0.0.1'}:{self.port}{path}"

    def close(self) -> None:
        """Drop everything and wait for the threads."""
        with self._lock:
            for one in [self._listener, *self._connections]:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection of the server does not end"

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a reset must not overtake an answer
                with self._lock:
                    self._connections.append(connection)
                    self._count += 1
                    self._start(self._converse, connection, self._count)

    def _converse(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._connections.append(connection)
            with connection:
                rest = b""
                while (asked := _read_head(connection, number, rest)) is not None:
                    with self._lock:
                        self.requests.append(asked)
                        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
                    if not act(asked):
                        return
                    rest = asked.rest


def _read_head(connection: socket.socket, number: int, data: bytes) -> Asked | None:
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    fields = (line.split(":", 1) for line in lines)
    headers = {name.lower(): value.strip() for name, value in fields}
    return Asked(method, target, headers, number, connection, rest)
