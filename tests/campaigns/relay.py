"""A relay between an uploading client and its server, which knows the fragments that pass and stops at any byte.

It reads requests as a server would, so it knows which bytes of the file have gone by and how often. At a byte that was
asked for it holds the connection until whoever asked has done what is to happen there, and then goes on or cuts it.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from openbits.core.packets import content_range

HOLD_SECONDS: Final = 120
_HEAD_END: Final = b"\r\n\r\n"


@dataclass(slots=True)
class Passed:
    """One fragment: where it begins, how long it said it was, how much of it passed, after how many interruptions."""

    first: int
    length: int
    epoch: int
    carried: int = 0

    @property
    def end(self) -> int:
        return self.first + self.carried


def _without(span: tuple[int, int], fragment: Passed) -> list[tuple[int, int]]:
    """What of the span was not in the fragment."""
    first, end = span
    if not fragment.carried:
        return [span]
    left, right = (first, min(end, fragment.first)), (max(first, fragment.end), end)
    return [part for part in dict.fromkeys((left, right)) if part[0] < part[1]]


class Relay:
    """Listens on a loopback port until closed; one server behind it."""

    def __init__(self, server_port: int) -> None:
        self.fragments: list[Passed] = []
        self.tripped = threading.Event()
        """The byte that was asked for has come, and waits."""
        self._server_port = server_port
        self._stop_at: int | None = None
        self._held: list[threading.Event] = []
        """What lets a connection go on, the one that was held first in front."""
        self._epoch = 0
        """How often something has happened: a stop, or an answer that was cut."""
        self._cut_answer_after: int | None = None
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def stop_at(self, position: int) -> None:
        """Hold the connection that brings this byte of the file; `tripped` says so, `release` lets it go on."""
        self.tripped.clear()
        with self._lock:
            self._stop_at = position

    def release(self) -> None:
        """Let the connection go on that was held first."""
        with self._lock:
            self._held.pop(0).set()

    def cut(self) -> None:
        """Reset all connections, on both sides."""
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.shutdown(socket.SHUT_RDWR)

    def cut_answer(self, after_bytes: int) -> None:
        """Reset the connection of the next answer in its middle."""
        with self._lock:
            self._cut_answer_after = after_bytes

    def close(self) -> None:
        """Drop everything and wait for the threads."""
        while self._held:
            self.release()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection of the relay does not end"

    # -- what was counted ---------------------------------------------------------------------------------------------

    def sent_twice(self) -> dict[int, int]:
        """By interruption: of how many fragments bytes were sent again after it, and before the next one.

        Bytes that had been sent several times count for the last of them.
        """
        again: dict[int, set[int]] = {}
        for number, later in enumerate(self.fragments):
            spans = [(later.first, later.end)]
            for index in range(number - 1, -1, -1):
                early = self.fragments[index]
                rest = [part for span in spans for part in _without(span, early)]
                if rest != spans:
                    again.setdefault(later.epoch, set()).add(index)
                spans = rest
        return {epoch: len(numbers) for epoch, numbers in again.items()}

    @property
    def carried_bytes(self) -> int:
        return sum(one.carried for one in self.fragments)

    # -- connections --------------------------------------------------------------------------------------------------

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:  # it is dead now; so is this connection
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()
                    continue
                with self._lock:
                    self._sockets |= {client, server}
                self._start(self._carry, client, server, Requests(self))
                self._start(self._answer, server, client)

    def _carry(self, source: socket.socket, target: socket.socket, requests: "Requests") -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                for part in requests.divided(data):
                    target.sendall(part)
        self._end(source, target)

    def _answer(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    after, self._cut_answer_after = self._cut_answer_after, None
                    self._epoch += after is not None
                if after is not None:
                    target.sendall(data[:after])
                    self.cut()
                    break
                target.sendall(data)
        self._end(source, target)

    def _end(self, *ends: socket.socket) -> None:
        with self._lock:
            for one in ends:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                if one in self._sockets:
                    self._sockets.discard(one)
                else:
                    one.close()  # the other direction has ended before

    # -- told by the requests -----------------------------------------------------------------------------------------

    def begin(self, first: int, length: int) -> Passed:
        """A fragment comes."""
        with self._lock:
            made = Passed(first, length, self._epoch)
            self.fragments.append(made)
            return made

    def until_stop(self, position: int, size: int) -> int:
        """How many of these bytes may pass before something is to happen."""
        with self._lock:
            stop = self._stop_at
        return size if stop is None or not position <= stop < position + size else stop - position

    def hold(self) -> None:
        """Something is to happen here."""
        with self._lock:
            if self._stop_at is None:
                return
            self._stop_at = None
            self._epoch += 1
            released = threading.Event()
            self._held.append(released)
        self.tripped.set()
        assert released.wait(HOLD_SECONDS), "nobody releases the relay"


class Requests:
    """The requests of one connection, as far as they have come."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._head = b""
        self._fragment: Passed | None = None
        self._missing = 0

    def divided(self, data: bytes) -> Iterable[bytes]:
        """The same bytes, in parts that end where the relay is to stop; heads come whole."""
        while data:
            if self._missing == 0:
                self._head += data
                head, found, data = self._head.partition(_HEAD_END)
                if not found:
                    return
                self._begin(head)
                yield head + found
                self._head = b""
                continue
            part, data = data[: self._missing], data[self._missing :]
            yield from self._body(part)

    def _begin(self, head: bytes) -> None:
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        values = {name.lower(): value.decode() for name, value in fields.items()}
        self._missing = int(values.get(b"content-length", "0"))
        self._fragment = None
        if self._missing:
            self._fragment = self._relay.begin(content_range(values[b"content-range"]).first, self._missing)

    def _body(self, part: bytes) -> Iterable[bytes]:
        fragment = self._fragment
        assert fragment is not None
        while part:
            passing = self._relay.until_stop(fragment.end, len(part))
            piece, part = part[:passing], part[passing:]
            if piece:
                yield piece
                fragment.carried += len(piece)
                self._missing -= len(piece)
            if part:
                self._relay.hold()
