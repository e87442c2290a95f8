"""A forward proxy on the loopback: plain requests and CONNECT, with a record of what was asked and by whom."""

import contextlib
import re
import socket
import threading
from dataclasses import dataclass

from tests.peers import uid_of_peer

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Passed:
    """One request: its line, its head in lower case, and the uid of the socket at the other end."""

    line: str
    head: str
    uid: int


class ForwardProxy:
    """Listens on a free port until closed. With `refusal` (a status line) it passes nothing on."""

    def __init__(self, refusal: str = "", *fields: str) -> None:
        self.passed: list[Passed] = []
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

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
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
            if self._refusal:
                client.sendall(self._refusal.encode())
                return
            method, target, _ = line.split(" ")
            match = re.fullmatch(r"(?:http://)?([^/:]+):([0-9]+)(.*)", target)
            assert match is not None, f"a proxy was asked for {target}"
            server = socket.create_connection((match[1], int(match[2])))
            self._sockets.append(server)
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
                self._start(_pour, client, server)
            else:
                rest = head.partition("\r\n")[2]
                server.sendall(f"{method} {match[3]} HTTP/1.1\r\n{rest}".encode("latin-1"))
                client.sendall(server.recv(65536).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            _pour(server, client)


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
