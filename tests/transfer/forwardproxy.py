"""A forward proxy on the loopback: plain requests and CONNECT, with a record of what was asked and by whom."""

import contextlib
import re
import socket
import ssl
import threading
from dataclasses import dataclass

from tests.peers import uid_of_peer

BUFFER_BYTES = 256 * 1024
"""Of sockets on the way: the kernel's own would hide how much somebody reads before he has enough."""

LINGER_SECONDS = 1.0
"""How long a client may go on sending after the server has hung up."""

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Passed:
    """One request: its line, its head in lower case, and the uid of the socket at the other end."""

    line: str
    head: str
    uid: int


class ForwardProxy:
    """Listens on a free port until closed, perhaps with TLS. With `refusal` (a status line) it passes nothing on."""

    def __init__(self, refusal: str = "", *fields: str, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.passed: list[Passed] = []
        self.admitted = ""
        """Text of a head that is passed on in spite of the refusal."""
        self._refusal = "\r\n".join([f"HTTP/1.1 {refusal}", "Content-Length: 0", *fields, "", ""]) if refusal else ""
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.name = f"127.0.0.1:{self.port}"
        self._start(self._accept)

    @property
    def lines(self) -> list[str]:
        """What was asked, in order."""
        return [passed.line for passed in self.passed]

    def uids(self) -> set[int]:
        """Who asked."""
        return {passed.uid for passed in self.passed}

    def close(self) -> None:
        """Drop everything and wait for the threads."""
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection of the proxy does not end"

    def _start(self, target: object, *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
                self._sockets.append(connection)
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                    self._sockets.append(connection)
                self._start(self._serve, connection)

    def _serve(self, client: socket.socket) -> None:
        """One request a connection: the answer to a plain one says that it is closed then."""
        with contextlib.suppress(OSError), client:
            data = b""
            while _HEAD_END not in data:
                if not (more := client.recv(65536)):
                    return
                data += more
            head = data.decode("latin-1")
            line = head.partition("\r\n")[0]
            self.passed.append(Passed(line, head.lower(), uid_of_peer(client)))
            if self._refusal and not (self.admitted and self.admitted in head):
                client.sendall(self._refusal.encode())
                return
            method, target, _ = line.split(" ")
            match = re.fullmatch(r"(?:http://)?([^/:]+):([0-9]+)(.*)", target)
            assert match is not None, f"a proxy was asked for {target}"
            server = socket.create_connection((match[1], int(match[2])))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            self._sockets.append(server)
            uphill = None
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
                uphill = self._start(pour, client, server)
            else:
                rest = head.partition("\r\n")[2]
                server.sendall(f"{method} {match[3]} HTTP/1.1\r\n{rest}".encode("latin-1"))
                if re.search(r"\r\ncontent-length: *[1-9]", head.lower()):
                    uphill = self._start(pour, client, server)  # what is not here of a body
                with contextlib.suppress(ConnectionError):
                    client.sendall(server.recv(65536).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            pour(server, client)
            if uphill is not None:
                uphill.join(LINGER_SECONDS)  # what is unread at the end would cost the client the answer
            client.shutdown(socket.SHUT_RDWR)  # wakes who still reads from it


def pour(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, up to its end and that too."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):  # also after a reset
        target.shutdown(socket.SHUT_WR)
