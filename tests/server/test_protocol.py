"""Connections of a real `bits-server`: H6, H8, H9 of upload-protocol.md, the times of §13, and how connections end."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from tests.server.conftest import StartServer
from tests.server.hostile_clients.client import Client, Piece, Wire, request
from tests.server.process import ServerProcess
from uvicorn.config import Config
from uvicorn.server import ServerState

from openbits.core import codes
from openbits.core.packets import PacketType
from openbits.server.protocol import Connection, bound
from openbits.server.settings import Limits

C, P, F, CL = PacketType.CREATE_SESSION, PacketType.PING, PacketType.FRAGMENT, PacketType.CLOSE_SESSION

DIRECTORIES = """
[directories."/inbox/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 10000000000
max_fragment = 20000000
[directories."/slow/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 10000000000
max_bandwidth = 1000000
[directories."/one/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 10000000000
max_connections = 1
"""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECT = ("Expect", "100-continue")
MIB = 1024 * 1024

Eventually = Callable[..., object]


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    one = start_server(DIRECTORIES)
    for name in ("slow", "one"):
        (one.root / name).mkdir()
    return one


def connect(server: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def until_end(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65_536):
            data += more
    return data


def test_h8_the_body_is_asked_for_when_everything_else_is_right(server: ServerProcess) -> None:
    client = Client(server.port)
    session_id = client.create("/inbox/a")
    with connect(server) as connection:
        connection.sendall(request(F, "/inbox/a", EXPECT, session_id=session_id, span=Piece(0, 4, 5), length=5))
        assert connection.recv(len(CONTINUE)) == CONTINUE
        connection.sendall(b"12345")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(request(P, "/inbox/a"))  # the connection goes on
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert (server.inbox / "a").read_bytes() == b"12345"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"session_id": "{unknown}", "span": Piece(0, 4, 5)}, 500),
        ({"session_id": "known", "span": Piece(2, 6, 7)}, 416),
        ({"session_id": "known", "span": Piece(0, 3, 5)}, 400),
        ({"session_id": "known", "span": "bytes 0-4/*"}, 400),
    ],
)
def test_h8_the_body_of_what_is_refused_is_not_asked_for(
    server: ServerProcess, fields: dict[str, object], status: int
) -> None:
    session_id = Client(server.port).create("/inbox/a")
    known = fields | ({"session_id": session_id} if fields["session_id"] == "known" else {})
    with connect(server) as connection:
        connection.sendall(request(F, "/inbox/a", EXPECT, length=5, **known))  # type: ignore[arg-type]  # passed on
        answer = until_end(connection)  # nobody knows whether the body comes: so the connection ends (H9)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert CONTINUE not in answer


def test_h9_after_a_small_refused_body_the_connection_goes_on(server: ServerProcess) -> None:
    with Wire(server.port) as wire:
        wire.send(request(F, "/inbox/a", session_id="{unknown}", span=Piece(0, 65_535, 65_536), body=b"x" * 65_536))
        first = wire.reply()
        wire.send(request(P, "/inbox/a"))
        second = wire.reply()
    assert first is not None
    assert first.refusal == (500, codes.BG_E_SESSION_NOT_FOUND)
    assert "connection" not in first.headers
    assert second is not None
    assert second.status == 200


def test_h9_a_client_that_still_sends_a_large_refused_body_gets_the_answer(server: ServerProcess) -> None:
    """If the server just closed, the kernel would reset the connection; on some systems the answer is lost then."""
    size = 10 * MIB
    with connect(server) as connection:
        connection.sendall(request(F, "/inbox/a", session_id="{unknown}", span=Piece(0, size - 1, size), length=size))
        connection.sendall(b"x" * size)
        answer = until_end(connection)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"bits-error-code: 0x8020001f" in answer.lower()
    assert b"connection: close" in answer.lower()


def test_h2_what_is_in_chunks_is_never_taken_for_a_request(server: ServerProcess) -> None:
    hidden = request(P, "/inbox/hidden")
    chunks = f"{len(hidden):x}\r\n".encode() + hidden + b"\r\n0\r\n\r\n"
    with connect(server) as connection:
        data = request(
            F, "/inbox/a", ("Transfer-Encoding", "chunked"), session_id="{x}", span=Piece(0, 1, 2), length=None
        )
        connection.sendall(data + b"\r\n".join([chunks, hidden]))
        answer = until_end(connection)
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_h6_packets_follow_each_other_on_one_connection_and_may_come_at_once(server: ServerProcess) -> None:
    session_id = Client(server.port).create("/inbox/a")
    body = bytes(range(256)) * 4096  # 1 MiB
    half = len(body) // 2
    parts = [(0, half), (half, len(body))]
    packets = [
        request(F, "/inbox/a", session_id=session_id, span=Piece(first, end - 1, len(body)), body=body[first:end])
        for first, end in parts
    ]
    with Wire(server.port) as wire:
        wire.send(request(P, "/inbox/a") + packets[0] + request(P, "/inbox/a") + packets[1])
        replies = [wire.reply() for _ in range(4)]
    assert [reply and reply.status for reply in replies] == [200, 200, 200, 200]
    assert (server.inbox / "a").read_bytes() == body


@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_packet_may_come_in_any_pieces(server: ServerProcess, step: int) -> None:
    session_id = Client(server.port).create("/inbox/a")
    data = request(F, "/inbox/a", session_id=session_id, span=Piece(0, 99, 100), body=b"y" * 100)
    with Wire(server.port) as wire:
        for at in range(0, len(data), step):
            wire.send(data[at : at + step])
        reply = wire.reply()
    assert reply is not None
    assert (reply.status, reply.received) == (200, 100)


def test_the_client_that_says_close_is_closed(server: ServerProcess) -> None:
    with Wire(server.port) as wire:
        wire.send(request(P, "/inbox/a", ("Connection", "close")))
        reply = wire.reply()
        assert reply is not None
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert wire.ended()


def test_an_answer_does_not_wait_for_the_acknowledgement_of_the_last_one(server: ServerProcess) -> None:
    """With Nagle's algorithm each would take the 40 ms that the client's kernel waits."""
    session_id = Client(server.port).create("/inbox/a")
    (server.inbox / "small").write_text("small")
    took, loaded = [], []
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(20):
            head = request(
                F, "/inbox/a", session_id=session_id, span=Piece(at * 1000, at * 1000 + 999, 100_000), length=1000
            )
            started = time.monotonic()
            connection.sendall(head)
            connection.sendall(b"z" * 1000)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
            took.append(time.monotonic() - started)
            started = time.monotonic()
            connection.sendall(b"GET /inbox/small HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while not answer.endswith(b"small"):
                answer += connection.recv(65_536)
            loaded.append(time.monotonic() - started)
    assert sorted(took)[10] < 0.03
    assert sorted(loaded)[10] < 0.03


def test_refusals_of_what_is_no_http_are_acks(server: ServerProcess) -> None:
    reply = Client(server.port).say(b"BITS_POST /inbox/a HTTP/1.1\r\nno colon\r\n\r\n")
    assert reply is not None
    assert reply.refusal == (400, codes.E_INVALIDARG)
    assert (reply.headers["bits-packet-type"], reply.headers["content-length"]) == ("Ack", "0")


LIMITS = """
head_seconds = 1
idle_seconds = 1
body_bytes_per_second = 1000
body_window_seconds = 1
body_grace_seconds = 1
connections = 3
"""


@pytest.mark.parametrize("start", [b"", b"BITS_POST /inb", b"BITS_POST /inbox/a HTTP/1.1\r\nHost: a\r\n"])
def test_13_a_head_that_does_not_come_ends_the_connection(start_server: StartServer, start: bytes) -> None:
    server = start_server(DIRECTORIES, limits=LIMITS)
    with connect(server) as connection:
        connection.sendall(start)
        assert until_end(connection) == b""


def test_13_a_connection_without_a_next_request_ends(start_server: StartServer) -> None:
    server = start_server(DIRECTORIES, limits=LIMITS)
    with connect(server) as connection:
        connection.sendall(request(P, "/inbox/a"))
        assert until_end(connection).startswith(b"HTTP/1.1 200 ")


def test_13_a_body_that_is_too_slow_is_given_up_and_what_came_is_kept(start_server: StartServer) -> None:
    server = start_server(DIRECTORIES, limits=LIMITS)
    client = Client(server.port)
    session_id = client.create("/inbox/a")
    with connect(server) as connection:
        connection.sendall(
            request(F, "/inbox/a", session_id=session_id, span=Piece(0, 99_999, 100_000), length=100_000)
        )
        connection.sendall(b"x" * 700)
        assert until_end(connection) == b""
    assert client.received("/inbox/a", session_id, 100_000) == 700  # D15


def test_13_a_body_that_is_fast_enough_is_not_given_up(start_server: StartServer) -> None:
    server = start_server(DIRECTORIES, limits=LIMITS)
    session_id = Client(server.port).create("/inbox/a")
    with Wire(server.port) as wire:
        wire.send(request(F, "/inbox/a", session_id=session_id, span=Piece(0, 9999, 10_000), length=10_000))
        ends_at = time.monotonic() + 4  # several times grace and window
        for at in range(20):
            wire.send(b"x" * 500)
            time.sleep(max(0.0, ends_at - time.monotonic()) / (20 - at))  # the speed is what is tested
        reply = wire.reply()
    assert reply is not None
    assert (reply.status, reply.received) == (200, 10_000)


def test_13_a_client_that_does_not_read_its_download_is_given_up(
    start_server: StartServer, eventually: Eventually
) -> None:
    server = start_server(DIRECTORIES, limits=LIMITS)
    with (server.inbox / "large").open("wb") as file:
        file.truncate(200 * MIB)
    with connect(server) as connection:
        connection.sendall(b"GET /inbox/large HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: "type=GET" in server.log())
    assert "status=200" in server.log()


def test_more_connections_than_allowed_are_told_when_to_come_again(start_server: StartServer) -> None:
    server = start_server(DIRECTORIES, limits=LIMITS.replace("idle_seconds = 1", "idle_seconds = 30"))
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.port)) for _ in range(4)]
        replies = []
        for wire in wires:
            wire.send(request(P, "/inbox/a"))
            replies.append(wire.reply())
    refused = [reply for reply in replies if reply is not None and reply.status == 503]
    assert refused
    assert all(int(reply.headers["retry-after"]) > 0 for reply in refused)


def test_11_max_connections_of_a_directory(server: ServerProcess) -> None:
    client = Client(server.port)
    session_id = client.create("/one/a")
    with Wire(server.port) as wire:
        wire.send(request(F, "/one/a", EXPECT, session_id=session_id, span=Piece(0, 9, 10), length=10))
        assert wire._socket.recv(len(CONTINUE)) == CONTINUE  # it is in progress now
        busy = client.ask(P, "/one/a")
        assert client.ask(P, "/inbox/a").status == 200
        wire.send(b"0123456789")
        assert wire.reply() is not None
    assert (busy.status, busy.code) == (503, 0)
    assert int(busy.headers["retry-after"]) > 0
    assert client.ask(P, "/one/a").status == 200


def test_11_max_bandwidth_of_a_directory_slows_bodies_and_downloads_down(server: ServerProcess) -> None:
    client = Client(server.port)
    body = b"b" * 3_000_000
    started = time.monotonic()
    client.upload("/slow/a", body)
    took = time.monotonic() - started
    assert 1.5 < took < 10  # 3 MB at 1 MB/s, the first second's worth at once
    started = time.monotonic()
    reply = client.say(b"GET /slow/a HTTP/1.1\r\nHost: a\r\n\r\n")
    assert reply is not None
    assert reply.body == body
    assert time.monotonic() - started > 1.5


def test_memory_stays_flat_while_a_fast_client_meets_a_slow_directory(server: ServerProcess) -> None:
    client = Client(server.port)
    session_id = client.create("/slow/a")
    before = server.rss_bytes
    with connect(server) as connection:
        connection.settimeout(2)
        connection.sendall(
            request(F, "/slow/a", session_id=session_id, span=Piece(0, 50 * MIB - 1, 50 * MIB), length=50 * MIB)
        )
        with contextlib.suppress(TimeoutError):
            connection.sendall(b"m" * (50 * MIB))
        assert server.rss_bytes - before < 8 * MIB


def test_a_download_ends_when_its_file_shrinks(server: ServerProcess) -> None:
    path = server.root / "slow" / "a"
    path.write_bytes(b"s" * 3_000_000)
    with connect(server) as connection:
        connection.sendall(b"GET /slow/a HTTP/1.1\r\nHost: a\r\n\r\n")
        head = connection.recv(65_536)
        path.write_bytes(b"")
        assert b"content-length: 3000000" in head
        assert len(head) + len(until_end(connection)) < 3_000_000
    assert "Traceback" not in server.log()


def test_sigterm_keeps_what_a_running_fragment_brought(start_server: StartServer) -> None:
    server = start_server(DIRECTORIES, limits="shutdown_seconds = 1")
    client = Client(server.port)
    session_id = client.create("/inbox/a")
    with connect(server) as connection:
        connection.sendall(
            request(F, "/inbox/a", EXPECT, session_id=session_id, span=Piece(0, 99_999, 100_000), length=100_000)
        )
        assert connection.recv(len(CONTINUE)) == CONTINUE
        connection.sendall(b"k" * 60_000)
        assert server.stop() == 0
    server.start()
    assert client.received("/inbox/a", session_id, 100_000) == 60_000


def test_sigterm_lets_a_running_fragment_end(start_server: StartServer) -> None:
    server = start_server(DIRECTORIES, limits="shutdown_seconds = 20")
    session_id = Client(server.port).create("/inbox/a")
    with connect(server) as connection, connect(server) as idle:
        connection.sendall(request(F, "/inbox/a", EXPECT, session_id=session_id, span=Piece(0, 9, 10), length=10))
        assert connection.recv(len(CONTINUE)) == CONTINUE
        os.kill(server.pid, signal.SIGTERM)
        assert until_end(idle) == b""  # it has begun to end
        connection.sendall(b"0123456789")
        assert until_end(connection).startswith(b"HTTP/1.1 200 ")
    assert server.stop() == 0
    assert (server.inbox / "a").read_bytes() == b"0123456789"


def test_nothing_is_logged_as_a_failure(server: ServerProcess) -> None:
    """Resets in every part of a packet are no failures of the server."""
    client = Client(server.port)
    session_id = client.create("/inbox/a")
    data = request(F, "/inbox/a", session_id=session_id, span=Piece(0, 99, 100), body=b"r" * 100)
    for end in range(0, len(data), 20):
        wire = Wire(server.port)
        wire.send(data[:end])
        wire.reset()
    client.ask(P, "/inbox/a")
    assert "Traceback" not in server.log()


def test_h9_the_rest_of_a_body_is_drained_although_much_of_it_was_queued() -> None:
    """The application answers without a look at 200,000 bytes that are there; 20,000 more are still to come."""
    asyncio.run(asyncio.wait_for(_answered_without_reading(), 20))


async def _until_left(connection: object, count: int) -> None:
    """No more than so many bytes of the body are still to come."""
    exchange = cast("Connection", connection)._exchange
    while exchange is not None and exchange.body_bytes > count:  # noqa: ASYNC110 -- nothing in there tells tests
        await asyncio.sleep(0.001)


async def _answered_without_reading() -> None:
    state = ServerState()

    async def application(_scope: object, _receive: object, send: Callable[..., Awaitable[None]]) -> None:
        (connection,) = state.connections
        await _until_left(connection, 20_000)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    protocol = bound(Limits())
    config = Config(application, http=protocol, lifespan="off", log_config=None)  # type: ignore[arg-type]  # see serving
    config.load()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 220000\r\n\r\n" + b"x" * 200_000)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.write(b"x" * 10_000)
    (connection,) = state.connections
    await _until_left(connection, 10_000)
    writer.write(b"x" * 10_000 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    listener.close()
