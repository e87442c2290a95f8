"""A BITS upload server on real sockets that is honest until it is told otherwise, packet by packet.

A test gives it, per type of packet, a list of acts; each packet takes the next one and the last one stays. What is not
told is `honest`: the packet is done as upload-protocol.md §5 and §6 say. An act gets the exchange and returns the steps
of the answer (`faultserver`). Where none reads the body the answer goes out before it, and the connection ends then.

What came is kept: `packets`, and of every fragment how many bytes of its body were read (`Packet.body_bytes`).
"""

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.transfer.faultserver import CLOSE, FaultServer, Step

from openbits.core.packets import PROTOCOL, ContentRange, Header, PacketError, PacketType, content_range, packet_type

MOST_HEAD_BYTES = 65_536
MOST_PACKETS = 300
"""A client that sends more runs in circles: it is hung up on, so that a test of it ends."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
GET = "GET"
"""What is asked for a reply, in place of a type of packet."""


@dataclass(slots=True)
class Packet:
    """What a client sent; header names are lower-case. `kind`: the type of packet, else the method."""

    kind: str
    method: str
    version: str
    target: str
    headers: dict[str, str]
    connection: int
    body_bytes: int = 0

    @property
    def path(self) -> str:
        """Without what a proxy is told before it."""
        return "/" + self.target.partition("://")[2].partition("/")[2] if "://" in self.target else self.target

    @property
    def session_id(self) -> str:
        return self.headers.get("bits-session-id", "")

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", "-1"))

    @property
    def range(self) -> ContentRange:
        return content_range(self.headers["content-range"])


@dataclass(slots=True)
class Upload:
    """A session. `total`: None before the first fragment."""

    session_id: str
    path: str
    data: bytearray = field(default_factory=bytearray)
    total: int | None = None

    @property
    def is_complete(self) -> bool:
        return self.total == len(self.data)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to a packet."""

    status: str = "200 OK"
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def steps(self) -> list[Step]:
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in self.fields), "", ""]
        return ["\r\n".join(lines).encode("latin-1"), self.body]

    def having(self, name: str, *values: str) -> "Answer":
        """With these values of a field in place of those it had; none: without it."""
        kept = [one for one in self.fields if one[0].lower() != name.lower()]
        return Answer(self.status, (*kept, *((name, value) for value in values)), self.body)

    def saying(self, status: str) -> "Answer":
        return Answer(status, self.fields, self.body)

    def bringing(self, body: bytes) -> "Answer":
        """With a body, which no Ack should have (H3)."""
        return Answer(self.status, self.having("Content-Length", str(len(body))).fields, body)


def ack(status: str = "200 OK", *fields: tuple[str, str]) -> Answer:
    """An Ack with these fields besides those that each has (§3.1)."""
    always = (("Pragma", "no-cache"), (Header.PACKET_TYPE, "Ack"), ("Content-Length", "0"))
    return Answer(status, (*always, *fields))


def refusal(status: str, code: int, context: str = "0x5", *fields: tuple[str, str]) -> Answer:
    """An Ack of an error (§10.1)."""
    text = f"0x{code:08X}" if code else "0x0"
    return ack(status, (Header.ERROR_CODE, text), (Header.ERROR, text), (Header.ERROR_CONTEXT, context), *fields)


UNKNOWN = refusal("500 Internal Server Error", 0x8020001F)
"""§5.1 step 10."""
MALFORMED = refusal("400 Bad Request", 0x80070057)


class Exchange:
    """One packet that waits for its answer."""

    def __init__(self, server: "UploadServer", connection: socket.socket, packet: Packet, early: bytes) -> None:
        self.server, self.packet = server, packet
        self.is_read = packet.length <= 0
        self.is_silent = False
        """Who expects 100 Continue does not get it."""
        self._connection = connection
        self._early = early
        """Of the body, what came with the head."""

    @property
    def rest(self) -> bytes:
        """What came after this packet."""
        return self._early

    def body(self, most_bytes: int | None = None) -> bytes:
        """The body, or so many bytes of it: whoever expects it is told to send. Raises ConnectionError."""
        wanted = max(0, self.packet.length if most_bytes is None else min(most_bytes, self.packet.length))
        if wanted and not self.is_silent and "expect" in self.packet.headers:
            self._connection.sendall(CONTINUE)
            self.is_silent = True
        parts, missing = [self._early[:wanted]], wanted - len(self._early)
        self._early = self._early[wanted:]
        self.packet.body_bytes += len(parts[0])
        while missing > 0:
            data = self._connection.recv(min(missing, 1 << 20))
            if not data:
                raise ConnectionAbortedError
            parts.append(data)
            missing -= len(data)
            self.packet.body_bytes += len(data)
        self.is_read = wanted >= self.packet.length
        return b"".join(parts)

    def honest(self) -> Answer:
        """What an honest server says; it does what the packet wants before."""
        return self.server.handle(self)


Act = Callable[[Exchange], Iterable[Step]]


def honest(exchange: Exchange) -> Iterable[Step]:
    """As the protocol says."""
    return exchange.honest().steps()


class UploadServer(FaultServer):
    """See above. `host_id`, `fallback_seconds`: what Create-Session gets; `reply`: what an upload is answered with."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.packets: list[Packet] = []
        self.sessions: dict[str, Upload] = {}
        self.files: dict[str, bytes] = {}
        """What was published, by path."""
        self.reply: bytes | None = None
        self.host_id = ""
        self.fallback_seconds: int | None = None
        self.name = host
        self.binds_urls = True
        """A session is good for its URL alone (D8)."""
        self.over = threading.Event()
        """Set when the server ends: acts that wait do not hold it up."""
        self._acts: dict[str, list[Act]] = {}
        self._ids = itertools.count(1)
        self._turn = threading.Lock()
        super().__init__(host=host, port=port, tls=tls)

    def tell(self, kind: str, *acts: Act) -> None:
        """What packets of this type get, one after the other; the last one stays."""
        with self._turn:
            self._acts[kind] = list(acts)

    def mend(self) -> None:
        """From now on honest, whatever was told; what it has it keeps."""
        self.host_id, self.fallback_seconds = "", None
        with self._turn:
            self._acts = {}

    def forget(self) -> None:
        """Lose all sessions."""
        self.sessions.clear()

    def sent(self, kind: str) -> list[Packet]:
        """The packets of this type, in order."""
        return [packet for packet in self.packets if packet.kind == kind]

    def close(self) -> None:
        """See FaultServer."""
        self.over.set()
        super().close()

    @property
    def body_bytes(self) -> int:
        """Of all fragments, as far as they were read."""
        return sum(packet.body_bytes for packet in self.packets)

    # -- connections --------------------------------------------------------------------------------------------------

    def _converse(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls is not None:
                connection = self._shake_hands(connection, self._tls)
            early = b""
            with connection:
                while (exchange := self._next(connection, number, early)) is not None:
                    self.packets.append(exchange.packet)
                    if len(self.packets) > MOST_PACKETS:
                        return
                    act = self._act_for(exchange.packet.kind)
                    if not self._say(connection, act(exchange)):
                        return
                    if not exchange.is_read:
                        _linger(connection)
                        return
                    early = exchange.rest

    def _next(self, connection: socket.socket, number: int, early: bytes) -> Exchange | None:
        data = early
        while b"\r\n\r\n" not in data:
            more = connection.recv(65_536)
            if not more or len(data) > MOST_HEAD_BYTES:
                return None
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        fields = (line.split(":", 1) for line in lines[1:])
        headers = {name.lower(): value.strip() for name, value in fields}
        kind = packet_type(headers.get("bits-packet-type", "")) or method
        return Exchange(self, connection, Packet(str(kind), method, version, target, headers, number), rest)

    def _act_for(self, kind: str) -> Act:
        with self._turn:
            acts = self._acts.get(kind) or [honest]
            return acts[0] if len(acts) == 1 else acts.pop(0)

    # -- honesty ------------------------------------------------------------------------------------------------------

    def handle(self, exchange: Exchange) -> Answer:
        """Do what the packet wants, and say what a server that works says."""
        if exchange.packet.method == GET:
            return self._send_reply()
        done = {
            PacketType.CREATE_SESSION: self._create,
            PacketType.PING: lambda _: ack(),
            PacketType.FRAGMENT: self._append,
            PacketType.CLOSE_SESSION: self._end,
            PacketType.CANCEL_SESSION: self._end,
        }
        if exchange.packet.kind not in done:
            return MALFORMED
        return done[PacketType(exchange.packet.kind)](exchange)

    def _create(self, exchange: Exchange) -> Answer:
        session_id = f"{{{next(self._ids):08X}-77D2-4B0E-9A53-0D1C6E2F8B44}}"
        self.sessions[session_id] = Upload(session_id, exchange.packet.path)
        fields = [(Header.PROTOCOL, PROTOCOL), (Header.SESSION_ID, session_id), ("Accept-Encoding", "identity")]
        if self.host_id:
            fields.append((Header.HOST_ID, self.host_id))
        if self.fallback_seconds is not None:
            fields.append((Header.FALLBACK_TIMEOUT, str(self.fallback_seconds)))
        return ack("200 OK", *fields)

    def _append(self, exchange: Exchange) -> Answer:
        """§6; of a body that breaks nothing is kept."""
        upload = self.sessions.get(exchange.packet.session_id)
        if upload is None or (self.binds_urls and upload.path != exchange.packet.path):
            return UNKNOWN
        try:
            wanted = exchange.packet.range
        except (PacketError, KeyError):
            return MALFORMED
        if wanted.length != exchange.packet.length or upload.total not in {None, wanted.total}:
            return MALFORMED
        known = (Header.SESSION_ID, upload.session_id)
        if wanted.first > len(upload.data):
            received = (Header.RECEIVED, str(len(upload.data)))
            return refusal("416 Requested Range Not Satisfiable", 0, "0x5", known, received)
        body = exchange.body()
        upload.total = wanted.total
        upload.data += body[len(upload.data) - wanted.first :]
        fields = [known, (Header.RECEIVED, str(len(upload.data)))]
        if upload.is_complete:
            self.files[upload.path] = bytes(upload.data)
            if self.reply is not None:
                fields.append((Header.REPLY_URL, self.reply_url))
        return ack("200 OK", *fields)

    def _end(self, exchange: Exchange) -> Answer:
        upload = self.sessions.pop(exchange.packet.session_id, None)
        return UNKNOWN if upload is None else ack("200 OK", (Header.SESSION_ID, upload.session_id))

    @property
    def reply_url(self) -> str:
        """Absolute, as our server tells it (§8.3)."""
        return self.url("/BITS-Sessions/Replies/responsefile.bin", host=self.name)

    def _send_reply(self) -> Answer:
        if self.reply is None:
            return Answer("404 Not Found", (("Content-Length", "0"),))
        return Answer("200 OK", (("Content-Length", str(len(self.reply))), ("ETag", '"reply"')), self.reply)


def _linger(connection: socket.socket) -> None:
    """H9: say that nothing more comes, and let the client read the answer before what it sends meets a reset."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(2)
    with contextlib.suppress(OSError):
        while connection.recv(65_536):
            pass


# -- acts -------------------------------------------------------------------------------------------------------------


def says(answer: Answer, *endings: Step) -> Act:
    """This, after the body was read, and nothing is done."""

    def act(exchange: Exchange) -> Iterable[Step]:
        exchange.body()
        return [*answer.steps(), *endings]

    return act


def says_early(answer: Answer, *, after_bytes: int = 0) -> Act:
    """This, after so many bytes of the body."""

    def act(exchange: Exchange) -> Iterable[Step]:
        exchange.body(after_bytes)
        return answer.steps()

    return act


def does_but(change: Callable[[Answer], Answer], *endings: Step) -> Act:
    """What the packet wants is done, what is said of it is changed."""
    return lambda exchange: [*change(exchange.honest()).steps(), *endings]


def says_raw(*steps: Step) -> Act:
    """These bytes, after the body was read, and nothing is done."""

    def act(exchange: Exchange) -> Iterable[Step]:
        exchange.body()
        return steps

    return act


def ends(how: Step = CLOSE, *, after_bytes: int | None = None, is_done: bool = False) -> Act:
    """No answer: the connection ends after so many bytes of the body, or all; `is_done`: the packet is obeyed."""

    def act(exchange: Exchange) -> Iterable[Step]:
        if is_done:
            exchange.honest()
        else:
            exchange.body(after_bytes)
        return [how]

    return act


def byte_by_byte(exchange: Exchange) -> Iterator[Step]:
    """An honest answer in packets of one byte."""
    for part in exchange.honest().steps():
        if isinstance(part, bytes):
            yield from (part[at : at + 1] for at in range(len(part)))


def without_continue(exchange: Exchange) -> Iterable[Step]:
    """100 is never sent; the body comes anyway (H8)."""
    exchange.is_silent = True
    return exchange.honest().steps()
