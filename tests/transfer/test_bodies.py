"""Bodies of requests on the wire: upload-protocol.md H2, H8, H9, D18, D29, over real sockets."""

import errno
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.real.nginx import Certificates
from tests.transfer.asking import LIMITS, Asking, Outcome, Source
from tests.transfer.bodyserver import Act, Asked, BodyServer, take

from openbits.core import codes
from openbits.transfer.bodies import PIECE_BYTES
from openbits.transfer.decisions import Ask, Body
from openbits.transfer.headers import Head
from openbits.transfer.request import Breakage

MIB = 1024 * 1024
DATA = random.Random(13).randbytes(13 * MIB)  # noqa: S311  # any bytes

StartServer = Callable[..., BodyServer]
StartAsking = Callable[..., Asking]


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    made: list[BodyServer] = []

    def make(*acts: Act, **options: Any) -> BodyServer:
        made.append(BodyServer(*acts, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def start_asking() -> Iterator[StartAsking]:
    made: list[Asking] = []

    def make(url: str, **options: Any) -> Asking:
        made.append(Asking(url, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def server(start_server: StartServer) -> BodyServer:
    return start_server()


@pytest.fixture
def asking(server: BodyServer, start_asking: StartAsking) -> Asking:
    return start_asking(server.url())


def status(outcome: Outcome | None) -> int:
    assert isinstance(outcome, Head), outcome
    return outcome.status


def breakage(outcome: Outcome) -> Breakage:
    assert isinstance(outcome, Breakage), outcome
    return outcome


# -- what is sent


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (0, 13 * MIB), (5 * MIB + 1, 3), (13 * MIB - 5121, 5121)])
def test_h2_a_body_goes_out_whole_with_its_length_told_before(
    server: BodyServer, asking: Asking, offset: int, length: int
) -> None:
    source = Source(DATA)
    assert status(asking.packet(source.body(offset, length))) == 200
    (asked,) = server.requests
    assert (asked.method, asked.headers["content-length"]) == ("BITS_POST", str(length))
    assert "transfer-encoding" not in asked.headers
    assert bytes(asked.body) == DATA[offset : offset + length]


def test_a_body_is_read_in_pieces_one_after_the_other(server: BodyServer, asking: Asking) -> None:
    source = Source(DATA)
    assert status(asking.packet(source.body(1000))) == 200
    assert max(size for _, size in source.reads) <= PIECE_BYTES == 128 * 1024
    ends = [1000, *(offset + size for offset, size in source.reads)]
    assert [offset for offset, _ in source.reads] == ends[:-1]
    assert ends[-1] == len(DATA)
    assert bytes(server.requests[0].body) == DATA[1000:]


def test_h2_a_packet_without_a_body_says_so(server: BodyServer, asking: Asking) -> None:
    fields = ("BITS-Packet-Type", "Ping")
    assert status(asking.packet(None, fields)) == 200
    (asked,) = server.requests
    assert asked.headers["content-length"] == "0"
    assert asked.headers["bits-packet-type"] == "Ping"
    assert not {"transfer-encoding", "expect", "content-type"} & set(asked.headers)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_requests_without_a_body_say_nothing_of_one(
    start_server: StartServer, start_asking: StartAsking, method: str
) -> None:
    server = start_server(lambda asked: asked.say("200 OK"))
    assert status(start_asking(server.url()).ask(Ask(method))) == 200
    assert not {"content-length", "expect", "transfer-encoding"} & set(server.requests[0].headers)


def test_packets_follow_each_other_over_one_connection(server: BodyServer, asking: Asking) -> None:
    source = Source(DATA)
    for at in range(0, 4 * MIB, MIB):
        assert status(asking.packet(source.body(at, MIB))) == 200
    assert status(asking.packet()) == 200
    assert {asked.connection for asked in server.requests} == {1}
    assert b"".join(asked.body for asked in server.requests) == DATA[: 4 * MIB]


def test_what_is_done_is_told(start_server: StartServer, start_asking: StartAsking) -> None:
    def act(asked: Asked) -> bool:
        time.sleep(0.2)
        asked.read()
        time.sleep(0.2)
        return asked.say("200 OK")

    server = start_server(act, buffer_bytes=4096)
    asking = start_asking(server.url())
    assert status(asking.packet(Source(DATA).body())) == 200
    peer = f"127.0.0.1:{server.port}"
    assert [step for step in asking.steps if not step.startswith(("looking", "connecting"))] == [
        f"sending to {peer}",
        f"waiting for the answer of {peer}",
    ]


# -- H8: Expect


@pytest.mark.parametrize(("length", "expected"), [(1, None), (MIB, None), (MIB + 1, "100-continue")])
def test_h8_only_a_large_body_waits_for_the_word_of_the_server(
    start_server: StartServer, start_asking: StartAsking, length: int, expected: str | None
) -> None:
    def act(asked: Asked) -> bool:
        if "expect" in asked.headers:
            asked.want()
        return take(asked)

    server = start_server(act)
    asking = start_asking(server.url())
    for _ in range(2):
        assert status(asking.packet(Source(DATA).body(0, length))) == 200
    assert [asked.headers.get("expect") for asked in server.requests] == [expected] * 2
    assert all(bytes(asked.body) == DATA[:length] for asked in server.requests)


def test_h8_a_server_without_a_word_gets_the_body_after_two_seconds_and_is_not_asked_again(
    server: BodyServer, asking: Asking
) -> None:
    began = time.monotonic()
    assert status(asking.packet(Source(DATA).body())) == 200
    assert 1.9 < time.monotonic() - began < 4
    began = time.monotonic()
    assert status(asking.packet(Source(DATA).body())) == 200
    assert time.monotonic() - began < 1.5
    assert [asked.headers.get("expect") for asked in server.requests] == ["100-continue", None]
    assert all(bytes(asked.body) == DATA for asked in server.requests)


def test_h8_who_refuses_the_expectation_gets_the_request_once_more_without(
    start_server: StartServer, start_asking: StartAsking
) -> None:
    server = start_server(lambda asked: asked.say("417 Expectation Failed") and False, take)
    asking = start_asking(server.url())
    assert status(asking.packet(Source(DATA).body())) == 200
    assert status(asking.packet(Source(DATA).body())) == 200
    assert [asked.headers.get("expect") for asked in server.requests] == ["100-continue", None, None]
    assert [len(asked.body) for asked in server.requests] == [0, len(DATA), len(DATA)]


def test_a_417_to_what_expected_nothing_is_the_answer(start_server: StartServer, start_asking: StartAsking) -> None:
    server = start_server(lambda asked: asked.say("417 Expectation Failed") and False)
    assert status(start_asking(server.url()).packet(Source(DATA).body(0, 2 * MIB))) == 417
    assert len(server.requests) == 2


def test_h8_a_refusal_before_the_body_costs_no_byte_of_it(start_server: StartServer, start_asking: StartAsking) -> None:
    def refuse(asked: Asked) -> bool:
        asked.say("403 Forbidden")
        with asked.peer:
            asked.peer.shutdown(socket.SHUT_WR)
            asked.body += asked.rest
            while more := asked.peer.recv(65536):
                asked.body += more
        return False

    server = start_server(refuse)
    source = Source(DATA)
    assert status(start_asking(server.url()).packet(source.body())) == 403
    assert (bytes(server.requests[0].body), source.reads) == (b"", [])


# -- H9: answers before the end of the body


def refusing(code: int, *, after_bytes: int) -> Act:
    """Say no when so many bytes of the body are read, and close at once: what is unread resets the connection.

    Not while the client is in the middle of a word: of a reset libcurl tells, and not of what came before it.
    """

    def act(asked: Asked) -> bool:
        asked.read(after_bytes)
        asked.settle()
        asked.say(f"{code} No", "BITS-Packet-Type: Ack")
        return False

    return act


@pytest.mark.parametrize("code", [403, 413, 416, 500, 503])
@pytest.mark.parametrize("after_bytes", [0, 100_000])
@pytest.mark.parametrize("is_over_tls", [False, True])
def test_h9_an_answer_before_the_end_of_the_body_reaches_who_asked(
    start_server: StartServer,
    start_asking: StartAsking,
    certificates: Certificates,
    code: int,
    after_bytes: int,
    *,
    is_over_tls: bool,
) -> None:
    tls = None
    if is_over_tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificates.issue("DNS:localhost"))
    no = refusing(code, after_bytes=after_bytes)
    server = start_server(no, no, take, tls=tls)
    asking = start_asking(server.url(), ca=certificates.ca)
    body = Source(DATA).body(0, MIB)
    assert [status(asking.packet(body)) for _ in range(3)] == [code, code, 200]
    assert [asked.connection for asked in server.requests] == [1, 2, 3], "no connection is left in the middle of a body"
    assert bytes(server.requests[2].body) == DATA[:MIB]


def test_h9_what_a_refused_fragment_left_is_not_taken_for_the_next_packet(
    start_server: StartServer, start_asking: StartAsking
) -> None:
    """The server would go on with the connection."""

    def act(asked: Asked) -> bool:
        asked.say("413 No")
        while asked.peer.recv(65536):
            pass
        return False

    server = start_server(act, take)
    asking = start_asking(server.url())
    asking.throttle.limit(100_000)  # so it is not all under way already
    assert status(asking.packet(Source(DATA).body(0, MIB))) == 413
    asking.throttle.limit(None)
    assert status(asking.packet(Source(DATA).body(0, 1000))) == 200
    assert [(asked.connection, len(asked.body)) for asked in server.requests] == [(1, 0), (2, 1000)]


# -- connections that end


def reset(asked: Asked) -> bool:
    """In the middle of the body."""
    asked.read(100_000)
    asked.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def close_in_silence(asked: Asked) -> bool:
    """As a server that has no time for kept connections any more: the body is on its way already."""
    asked.read(1)
    return False


@pytest.mark.parametrize("end", [reset, close_in_silence])
def test_a_kept_connection_that_ends_under_a_body_costs_a_new_one_and_no_more(
    start_server: StartServer, start_asking: StartAsking, end: Act
) -> None:
    server = start_server(take, end, take)
    asking = start_asking(server.url())
    source = Source(DATA)
    assert status(asking.packet(source.body(0, 1000))) == 200
    assert status(asking.packet(source.body(1000, MIB))) == 200
    assert [asked.connection for asked in server.requests] == [1, 1, 2]
    assert bytes(server.requests[2].body) == DATA[1000 : 1000 + MIB], "from its start"


def test_a_kept_connection_that_ends_while_it_is_written_to_costs_a_new_one_too(
    start_server: StartServer, start_asking: StartAsking, certificates: Certificates
) -> None:
    """libcurl does not try again then; about every third reset hits it while it encrypts."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificates.issue("DNS:localhost"))
    server = start_server(*[take, reset] * 30, take, tls=tls)
    asking = start_asking(server.url(), ca=certificates.ca)
    body = Source(DATA).body(0, MIB)
    assert {status(asking.packet(body)) for _ in range(31)} == {200}
    assert len(server.requests) == 61


@pytest.mark.parametrize("end", [reset, close_in_silence])
def test_a_new_connection_that_ends_under_a_body_is_told(
    start_server: StartServer, start_asking: StartAsking, end: Act
) -> None:
    server = start_server(end)
    found = breakage(start_asking(server.url()).packet(Source(DATA).body(0, MIB)))
    assert found.hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR
    assert not found.is_unread
    assert len(server.requests) == 1


def test_a_connection_that_always_ends_is_tried_once_more_and_no_oftener(
    start_server: StartServer, start_asking: StartAsking
) -> None:
    server = start_server(take, reset)
    asking = start_asking(server.url())
    assert status(asking.packet()) == 200
    assert breakage(asking.packet(Source(DATA).body(0, MIB))).hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR
    assert [asked.connection for asked in server.requests] == [1, 1, 2]


def test_421_has_the_body_sent_again_over_a_new_connection(
    start_server: StartServer, start_asking: StartAsking
) -> None:
    def elsewhere(asked: Asked) -> bool:
        asked.read()
        return asked.say("421 Misdirected Request")

    server = start_server(elsewhere, take)
    assert status(start_asking(server.url()).packet(Source(DATA).body(0, MIB))) == 200
    assert [(asked.connection, len(asked.body)) for asked in server.requests] == [(1, MIB), (2, MIB)]


# -- sources that fail


def unreadable(number: int) -> Callable[[int, int], bytes]:
    def read(offset: int, size: int) -> bytes:
        if offset >= PIECE_BYTES:
            raise OSError(number, "Input/output error")
        return DATA[offset : offset + size]

    return read


def ended(offset: int, _size: int) -> bytes:
    raise EOFError(offset)


@pytest.mark.parametrize(
    ("read", "hresult"),
    [
        (unreadable(errno.EIO), codes.from_errno(errno.EIO)),
        (unreadable(errno.EACCES), codes.from_errno(errno.EACCES)),
        (ended, codes.BG_E_LOCAL_FILE_CHANGED),
        (lambda offset, size: DATA[offset : min(offset + size, 700_000)], codes.BG_E_LOCAL_FILE_CHANGED),
    ],
    ids=["EIO", "EACCES", "EOFError", "shorter"],
)
def test_a_body_that_cannot_be_read_ends_the_exchange_and_nothing_is_made_up_for_it(
    start_server: StartServer, start_asking: StartAsking, read: Callable[[int, int], bytes], hresult: int
) -> None:
    server = start_server(take)
    asking = start_asking(server.url())
    assert status(asking.packet()) == 200
    found = breakage(asking.packet(Body(read=read, offset=0, length=MIB)))
    assert (found.hresult, found.is_unread, found.is_unclean) == (hresult, True, False)
    assert "byte" in found.words
    assert status(asking.packet(Source(DATA).body(0, 10))) == 200
    *before, last = server.requests
    assert (last.connection, len(last.body)) == (2, 10)
    assert [asked.headers["content-length"] for asked in before] in (["0"], ["0", str(MIB)]), "it is not tried again"
    assert all(len(asked.body) < MIB for asked in before)


# -- clocks


def test_d18_a_server_that_takes_no_byte_is_given_up(start_server: StartServer, start_asking: StartAsking) -> None:
    gone: list[bytes] = []

    def act(asked: Asked) -> bool:
        time.sleep(1.5)
        gone.append(asked.read())
        return False

    server = start_server(act, buffer_bytes=4096)
    limits = replace(LIMITS, send_seconds=0.5, answer_seconds=0.1, first_byte_seconds=0.1)
    began = time.monotonic()
    found = breakage(start_asking(server.url(), limits=limits).packet(Source(DATA).body(0, MIB)))
    assert found.hresult == codes.ERROR_WINHTTP_TIMEOUT
    assert "no byte was taken for 0.5 s (send clock)" in found.words
    assert time.monotonic() - began < 1.4


def test_d18_a_slow_server_is_not_given_up_while_it_takes_something(
    start_server: StartServer, start_asking: StartAsking
) -> None:
    def act(asked: Asked) -> bool:
        for _ in range(20):
            time.sleep(0.1)
            asked.read(30_000)
        return take(asked)

    server = start_server(act, buffer_bytes=4096)
    limits = replace(LIMITS, send_seconds=0.5, first_byte_seconds=0.5)
    asking = start_asking(server.url(), limits=limits)
    assert status(asking.packet(Source(DATA).body(0, MIB))) == 200
    assert bytes(server.requests[0].body) == DATA[:MIB]


def answering_after(seconds: float) -> Act:
    def act(asked: Asked) -> bool:
        asked.read()
        time.sleep(seconds)
        return asked.say("200 OK")

    return act


@pytest.mark.parametrize(("answer_seconds", "is_patient"), [(5.0, True), (0.3, False), (None, False)])
@pytest.mark.parametrize("length", [0, 100_000])
def test_d29_the_answer_may_take_as_long_as_the_question_says(
    start_server: StartServer, start_asking: StartAsking, answer_seconds: float | None, length: int, *, is_patient: bool
) -> None:
    server = start_server(answering_after(0.8))
    limits = replace(LIMITS, first_byte_seconds=0.3)
    body = Source(DATA).body(0, length) if length else None
    outcome = start_asking(server.url(), limits=limits).packet(body, answer_seconds=answer_seconds)
    if is_patient:
        assert status(outcome) == 200
    else:
        clock = "first-byte" if answer_seconds is None else "answer"
        assert f"no answer within 0.3 s ({clock} clock)" in breakage(outcome).words


# -- limits


def test_what_goes_out_keeps_the_limit_of_the_job(server: BodyServer, asking: Asking) -> None:
    before = asking.flow.bytes_per_second
    asking.throttle.limit(1_000_000)
    assert (before, asking.flow.bytes_per_second) == (None, 1_000_000)
    began = time.monotonic()
    assert status(asking.packet(Source(DATA).body(0, 600_000))) == 200
    assert 0.5 < time.monotonic() - began < 1.5
    assert bytes(server.requests[0].body) == DATA[:600_000]


def test_d18_a_limit_of_ours_is_no_silence_of_the_server(server: BodyServer, start_asking: StartAsking) -> None:
    """2000 bytes a second go out in pieces of 1024, so half a second is silence each time."""
    asking = start_asking(server.url(), limits=replace(LIMITS, send_seconds=0.2))
    asking.throttle.limit(2000)
    assert status(asking.packet(Source(DATA).body(0, 4000))) == 200
    assert bytes(server.requests[0].body) == DATA[:4000]


def test_a_limit_that_is_lifted_lets_the_rest_go_at_once(server: BodyServer, asking: Asking) -> None:
    asking.throttle.limit(10_000)
    began = time.monotonic()
    asking.begin(Ask("BITS_POST", body=Source(DATA).body(0, MIB)))
    assert asking.wait(until=lambda: time.monotonic() - began > 0.5) is None
    asking.throttle.limit(None)
    assert status(asking.wait()) == 200
    assert time.monotonic() - began < 3
    assert bytes(server.requests[0].body) == DATA[:MIB]
