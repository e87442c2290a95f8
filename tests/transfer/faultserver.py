"""An HTTP server that says exactly the bytes it is told, so that every broken framing can be produced.

A test gives it, per method, a list of answers; each request takes the next one and the last one stays. An answer is a
list of steps (bytes to send, and those below that are none), or a function of the request that returns one. After the
steps the connection is read again for the next request, unless a step ended it. What was asked is kept in `requests`.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate

BUFFER_BYTES = 256 * 1024
"""Of what is sent: the kernel's own would hide how much somebody reads before he has enough."""


class Ending:
    """A step that is no bytes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


CLOSE = Ending("CLOSE")
"""Close the connection in order (FIN; over TLS without close_notify)."""
END = Ending("END")
"""Close the connection as it should be (over TLS with close_notify)."""
RESET = Ending("RESET")
"""Close it with RST."""
TOGETHER = Ending("TOGETHER")
"""What follows is sent in as few packets as possible, however many steps it has."""
SILENCE = Ending("SILENCE")
"""Say nothing more until the client goes away."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the client sent; header names are lower-case."""

    method: str
    target: str
    headers: dict[str, str]
    connection: int

    @property
    def offset(self) -> int | None:
        """N of `Range: bytes=N-`."""
        wanted = self.headers.get("range")
        return None if wanted is None else int(wanted.removeprefix("bytes=").removesuffix("-"))


Step = bytes | Ending
Answer = Sequence[Step] | Callable[[Request], Iterable[Step]]


def head(status: str, *fields: str) -> bytes:
    """The bytes of a response head: `head("200 OK", "Content-Length: 2")`."""
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


def whole(body: bytes, *fields: str) -> list[Step]:
    """200 with Content-Length and body."""
    return [head("200 OK", f"Content-Length: {len(body)}", *fields), body]


def size_only(body: bytes, *fields: str) -> list[Step]:
    """What HEAD gets for the same file."""
    return whole(body, *fields)[:1]


def part(body: bytes, start: int, *fields: str) -> list[Step]:
    """206 with the rest of `body` from `start` on."""
    last, total = len(body) - 1, len(body)
    rest = body[start:]
    return [
        head(
            "206 Partial Content",
            f"Content-Range: bytes {start}-{last}/{total}",
            f"Content-Length: {len(rest)}",
            *fields,
        ),
        rest,
    ]


def date(seconds: float) -> str:
    """An HTTP date."""
    return formatdate(seconds, usegmt=True)


class FaultServer:
    """Listens on a loopback port (0: a free one) until closed; one thread per connection."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.sent_bytes = 0
        """Of all answers, as far as the kernel took them."""
        self._answers: dict[str, list[Answer]] = {}
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def answer(self, method: str, *answers: Answer) -> None:
        """What requests with this method get, one after the other; the last one stays."""
        self._answers[method] = list(answers)

    def serve(self, body: bytes, *fields: str) -> None:
        """A sound file without range support."""
        self.answer("HEAD", size_only(body, *fields))
        self.answer("GET", whole(body, *fields))

    def serve_ranges(self, body: bytes, *fields: str) -> None:
        """A sound file with range support that honours every Range."""

        def get(request: Request) -> Sequence[Step]:
            return whole(body, *fields) if request.offset is None else part(body, request.offset, *fields)

        self.answer("HEAD", size_only(body, *fields))
        self.answer("GET", get)

    def url(self, path: str = "/file", *, host: str = "127.0.0.1") -> str:
        """Where the file is."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def asked(self, method: str) -> list[Request]:
        """The requests with this method, in order."""
        return [request for request in self.requests if request.method == method]

    def close(self) -> None:
        """Drop everything and wait for the threads."""
        with self._lock:
            for sock in [self._listener, *self._connections]:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection of the fault server does not end"

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
                with self._lock:
                    self._connections.append(connection)
                    self._start(self._converse, connection, len(self._connections))

    def _converse(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls is not None:
                connection = self._shake_hands(connection, self._tls)
            with connection:
                while (request := _read_request(connection, number)) is not None:
                    self.requests.append(request)
                    if not self._say(connection, self._next_answer(request)):
                        return

    def _shake_hands(self, connection: socket.socket, tls: ssl.SSLContext) -> socket.socket:
        """The connection with TLS. After a failed handshake the client gets the time to read why (no RST)."""
        raw = connection.dup()
        with self._lock:
            self._connections.append(raw)
        try:
            secure = tls.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
        except OSError:
            with raw:
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass
            raise
        raw.close()
        with self._lock:
            self._connections.append(secure)
        return secure

    def _say(self, connection: socket.socket, steps: Iterable[Step]) -> bool:
        """True if the connection is good for another request."""
        for step in steps:
            if isinstance(step, bytes):
                connection.sendall(step)
                self.sent_bytes += len(step)
            elif step is TOGETHER:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            elif step is SILENCE:
                while connection.recv(65536):
                    pass
                return False
            else:
                if step is END and isinstance(connection, ssl.SSLSocket):
                    connection.unwrap()
                if step is RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        return True

    def _next_answer(self, request: Request) -> Iterable[Step]:
        with self._lock:
            answers = self._answers[request.method]
            answer = answers[0] if len(answers) == 1 else answers.pop(0)
        return answer(request) if callable(answer) else answer


def _read_request(connection: socket.socket, number: int) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    lines = data.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    fields = (line.split(":", 1) for line in lines[1:] if line)
    return Request(method, target, {name.lower(): value.strip() for name, value in fields}, number)
