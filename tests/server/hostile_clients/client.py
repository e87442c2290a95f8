"""A client of an upload server that says exactly the bytes it is told, on a socket of its own."""

import contextlib
import hashlib
import socket
import struct
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from openbits.core.packets import PROTOCOL, Header, PacketType

PATIENCE_SECONDS: Final = 20
LENGTH_OF_BODY: Final = -1
"""Of a packet: Content-Length is that of its body."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def code(self) -> int:
        """BITS-Error-Code; 0: none."""
        return int(self.headers.get("bits-error-code", "0x0"), 16)

    @property
    def received(self) -> int:
        """BITS-Received-Content-Range."""
        return int(self.headers["bits-received-content-range"])

    @property
    def session_id(self) -> str:
        return self.headers["bits-session-id"]

    @property
    def refusal(self) -> tuple[int, int]:
        """Status and code."""
        return self.status, self.code


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `first` to `last` of a file of `total`."""

    first: int
    last: int
    total: int

    def __str__(self) -> str:
        return f"bytes {self.first}-{self.last}/{self.total}"


def request(
    kind: str,
    path: str,
    *fields: tuple[str, str],
    session_id: str = "",
    span: object = "",
    body: bytes = b"",
    length: int | None = LENGTH_OF_BODY,
    version: str = "HTTP/1.1",
    method: str = "BITS_POST",
) -> bytes:
    """The bytes of a packet. `length` None: no Content-Length."""
    own = [("Host", "files.example.net"), (Header.PACKET_TYPE, kind)]
    own += [(Header.SUPPORTED_PROTOCOLS, PROTOCOL)] if kind == PacketType.CREATE_SESSION else []
    own += [(Header.SESSION_ID, session_id)] if session_id else []
    own += [(Header.CONTENT_RANGE, str(span))] if span else []
    own += [] if length is None else [("Content-Length", str(len(body) if length == LENGTH_OF_BODY else length))]
    given = {name.lower() for name, _ in fields}
    kept = [one for one in own if one[0].lower() not in given]
    lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in (*kept, *fields)), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class Wire:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self._data = b""
        self._asks_head = False
        """The last request was one for a head alone."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Close with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def finish(self) -> None:
        """Say that nothing more comes."""
        self._socket.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> None:
        self._asks_head = data.startswith(b"HEAD ")
        self._socket.sendall(data)

    def send_all_of(self, parts: Iterable[bytes]) -> bool:
        """Send until the server has enough, which it must have in time; True if it let all of it come."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with contextlib.suppress(OSError):
            for part in parts:
                self._socket.sendall(part)
                assert time.monotonic() < deadline, "it is read for ever"
            return True
        return False

    def is_asked_for_body(self) -> bool:
        """Wait for the next answer; True if it is 100 and nothing else (H8)."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            more = self._socket.recv(65_536)
            if not more:
                return False
            data += more
        return data == b"HTTP/1.1 100 Continue\r\n\r\n"

    def reply(self) -> Reply | None:
        """The next answer that is not 100; None: the connection ended without one."""
        while True:
            with contextlib.suppress(ConnectionError):
                while b"\r\n\r\n" not in self._data:
                    more = self._socket.recv(65_536)
                    if not more:
                        return None
                    self._data += more
            head, found, self._data = self._data.partition(b"\r\n\r\n")
            if not found:
                return None
            lines = head.decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ")[1])
            fields = (line.split(":", 1) for line in lines[1:])
            headers = {name.lower(): value.strip() for name, value in fields}
            if status != 100:
                length = 0 if self._asks_head else int(headers.get("content-length", "0"))
                return Reply(status, headers, self._body(length))

    def ended(self) -> bool:
        """Wait for the end of the connection; True when it comes with nothing before it."""
        with contextlib.suppress(ConnectionError):
            return not self._data and not self._socket.recv(65_536)
        return not self._data

    def _body(self, length: int) -> bytes:
        while len(self._data) < length:
            more = self._socket.recv(65_536)
            assert more, "the body of an answer ends too early"
            self._data += more
        body, self._data = self._data[:length], self._data[length:]
        return body


class Client:
    """Packets to one server, each on a connection of its own. `host`: what they ask for, if not for the usual one."""

    def __init__(self, port: int, user: str = "", password: str = "", host: str = "") -> None:
        self.port = port
        proof = b64encode(f"{user}:{password}".encode()).decode()
        self.fields: tuple[tuple[str, str], ...] = (("Authorization", f"Basic {proof}"),) if user else ()
        self.fields += (("Host", host),) if host else ()

    def say(self, data: bytes) -> Reply | None:
        """These bytes, and what is answered."""
        with Wire(self.port) as wire:
            with contextlib.suppress(ConnectionError):
                wire.send(data)
            return wire.reply()

    def ask(self, kind: str, path: str, *fields: tuple[str, str], **options: object) -> Reply:
        """A packet, and its answer."""
        reply = self.say(request(kind, path, *self.fields, *fields, **options))  # type: ignore[arg-type]  # passed on
        assert reply is not None, f"{kind} {path} was not answered"
        return reply

    def create(self, path: str) -> str:
        """A new session."""
        reply = self.ask(PacketType.CREATE_SESSION, path)
        assert reply.status == 200, reply
        return reply.session_id

    def fragment(self, path: str, session_id: str, piece: Piece, body: bytes) -> Reply:
        """These bytes of the file; `body` is the whole of it."""
        part = body[piece.first : piece.last + 1]
        return self.ask(PacketType.FRAGMENT, path, session_id=session_id, span=piece, body=part)

    def close(self, path: str, session_id: str) -> Reply:
        return self.ask(PacketType.CLOSE_SESSION, path, session_id=session_id)

    def cancel(self, path: str, session_id: str) -> Reply:
        return self.ask(PacketType.CANCEL_SESSION, path, session_id=session_id)

    def received(self, path: str, session_id: str, total: int) -> int:
        """How far the server is: a gap asks for it without changing anything (F8)."""
        reply = self.ask(
            PacketType.FRAGMENT, path, session_id=session_id, span=Piece(total - 1, total - 1, total), body=b"?"
        )
        assert reply.status == 416, reply
        return reply.received

    def upload(self, path: str, body: bytes) -> None:
        """An honest upload."""
        session_id = self.create(path)
        half = len(body) // 2
        for first, last in ((0, half - 1), (half, len(body) - 1)):
            reply = self.fragment(path, session_id, Piece(first, last, len(body)), body)
            assert (reply.status, reply.received) == (200, last + 1)
        assert self.close(path, session_id).status == 200


def tree(folder: Path) -> dict[str, str]:
    """All that is below a folder, links not followed: what it is, of a file the hash of its content."""
    return dict(_walk(folder, folder))


def _walk(base: Path, folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        name = str(path.relative_to(base))
        if path.is_symlink():
            yield name, f"link to {path.readlink()}"
        elif path.is_dir():
            yield name, "folder"
            yield from _walk(base, path)
        else:
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()
