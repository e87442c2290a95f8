"""Packets that are none, and heads without end, against a real `bits-server` (upload-protocol.md §2, §5.1)."""

import itertools
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from tests.server.hostile_clients.client import Piece, Wire, request
from tests.server.hostile_clients.site import BODY, CA, CL, MALFORMED, SIZE, C, F, P, Site

from openbits.core import codes
from openbits.core.packets import PROTOCOL, Header


@pytest.mark.parametrize("length", ["", "-1", "+5", "0x5", "5, 6", "1e1", "99999999999999999999", "5 5"])
def test_h2_a_length_that_is_none_is_refused(site: Site, length: str) -> None:
    reply = site.client.say(request(P, "/inbox/x", ("Content-Length", length), body=b"12345"))
    assert reply is None or reply.status in {400, 411}


def test_h2_a_packet_without_length_is_refused(site: Site) -> None:
    reply = site.client.ask(C, "/inbox/x", length=None)
    assert reply.refusal == (411, codes.E_INVALIDARG)


@pytest.mark.parametrize("has_length", [False, True])
def test_h2_chunks_are_no_length(site: Site, has_length: bool) -> None:  # noqa: FBT001
    path = site.unpublished()
    session_id = site.client.create(path)
    data = request(
        F,
        path,
        ("Transfer-Encoding", "chunked"),
        session_id=session_id,
        span=Piece(0, 9, SIZE),
        length=10 if has_length else None,
        body=b"a\r\n0123456789\r\n0\r\n\r\n",
    )
    reply = site.client.say(data)
    assert reply is not None
    assert reply.status in {400, 411}
    assert site.client.received(path, session_id, SIZE) == 0


@pytest.mark.parametrize("kind", [C, P, CL, CA])
def test_h4_only_fragments_have_a_body(site: Site, kind: str) -> None:
    path = site.unpublished()
    session_id = site.client.create(path)
    reply = site.client.ask(kind, path, session_id="" if kind in {C, P} else session_id, body=b"x")
    assert reply.refusal == MALFORMED


def test_h5_long_values_are_refused(site: Site) -> None:
    assert site.client.ask(C, "/inbox/x", ("X-Long", "x" * 5000)).refusal == MALFORMED
    assert site.client.ask(P, "/inbox/x", ("X-Fitting", "x" * 4000)).status == 200


BOMBS: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "one endless line": lambda: itertools.repeat(b"x" * 65_536),
    "endless fields": lambda: itertools.repeat(b"X-Filling: filling\r\n" * 3000),
    "endless blank lines": lambda: itertools.repeat(b"\r\n" * 30_000),
    "an endless target": lambda: itertools.chain([b"BITS_POST /"], itertools.repeat(b"x" * 65_536)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_h5_a_head_without_end_is_not_read(site: Site, name: str) -> None:
    with Wire(site.server.port) as wire:
        if name == "endless fields":
            wire.send(b"BITS_POST /inbox/x HTTP/1.1\r\nHost: x\r\n")
        assert not wire.send_all_of(BOMBS[name]())


def test_3_2_at_most_a_hundred_protocols(site: Site) -> None:
    many = ", ".join([PROTOCOL] * 100)
    assert site.client.ask(C, "/inbox/x", (Header.SUPPORTED_PROTOCOLS, many)).status == 200
    assert site.client.ask(C, "/inbox/x", (Header.SUPPORTED_PROTOCOLS, f"{many} {PROTOCOL}")).refusal == MALFORMED
    foreign = "{11111111-2222-3333-4444-555555555555}"
    assert site.client.ask(C, "/inbox/x", (Header.SUPPORTED_PROTOCOLS, foreign)).refusal == MALFORMED


@pytest.mark.parametrize("kind", ["", "Ack", "Create", "Fragment\x00", "ping ping", "Upload", "x" * 4000])
def test_5_1_step_8_there_is_no_such_packet(site: Site, kind: str) -> None:
    reply = site.client.say(request(kind, "/inbox/x"))
    assert reply is not None
    assert reply.status == 400


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 100])
def test_h1_what_is_no_http_is_not_answered_with_success(site: Site, data: bytes) -> None:
    reply = site.client.say(data + b"\r\n\r\n")
    assert reply is None or reply.status in {400, 405, 505}


@pytest.mark.parametrize("kind", [C, P])
def test_d1_http_1_0_is_refused(site: Site, kind: str) -> None:
    assert site.client.ask(kind, "/inbox/x", version="HTTP/1.0").refusal == MALFORMED


@pytest.mark.parametrize("name", ["Host", Header.PACKET_TYPE, Header.SESSION_ID, "Content-Length"])
def test_5_1_step_1_two_of_a_field_are_refused(site: Site, name: str) -> None:
    path = site.unpublished()
    session_id = site.client.create(path)
    data = request(F, path, session_id=session_id, span=Piece(0, 9, SIZE), body=b"0123456789")
    head, _, body = data.partition(b"\r\n\r\n")
    again = {"Host": "other", Header.PACKET_TYPE: "Ping", Header.SESSION_ID: "{}", "Content-Length": "3"}[name]
    reply = site.client.say(head + f"\r\n{name}: {again}".encode() + b"\r\n\r\n" + body)
    assert reply is not None
    assert reply.status == 400
    assert site.client.received(path, session_id, SIZE) == 0


def test_what_follows_a_body_is_the_next_packet_and_what_is_in_it_is_none(site: Site) -> None:
    path = site.new("smuggled")
    session_id = site.client.create(path)
    inner = request(CA, path, session_id=session_id)
    site.published[path[1:]] = inner
    size = len(inner)
    data = request(F, path, session_id=session_id, span=Piece(0, size - 1, size), body=inner)
    with Wire(site.server.port) as wire:
        wire.send(request(P, path) + data + request(CL, path, session_id=session_id))
        replies = [wire.reply() for _ in range(3)]
    assert [reply and reply.status for reply in replies] == [200, 200, 200]


def test_a_body_that_is_longer_than_it_says_disturbs_nobody(site: Site) -> None:
    path = site.new()
    session_id = site.client.create(path)
    with Wire(site.server.port) as wire:
        wire.send(request(F, path, session_id=session_id, span=Piece(0, 9, SIZE), length=10) + BODY[:10] + b"surplus")
        first = wire.reply()
        assert first is not None
        assert (first.status, first.received) == (200, 10)
        wire.send(b"\r\n\r\n")
        second = wire.reply()
    assert second is None or second.status == 400
    assert site.client.fragment(path, session_id, Piece(10, SIZE - 1, SIZE), BODY).received == SIZE
