"""Fragments that overlap, leave gaps, lie or break off, against a real `bits-server` (upload-protocol.md §6)."""

import itertools
import random
import threading
from typing import Final

import pytest
from tests.server.hostile_clients.client import Piece, Reply, Wire, request
from tests.server.hostile_clients.site import BODY, MALFORMED, OTHER, REFUSED, SIZE, UNKNOWN, F, Site

from openbits.core import codes
from openbits.core.packets import Header


@pytest.mark.parametrize("seed", range(8))
def test_f5_f6_f7_f8_in_whatever_order_pieces_come_each_byte_is_kept_once(site: Site, seed: int) -> None:
    """The first that brings a byte has brought it: what overlaps comes with other bytes, and changes nothing (D14)."""
    draw = random.Random(seed)  # noqa: S311  # to be repeated
    path = site.new()
    session_id = site.client.create(path)
    known = 0
    while known < SIZE:
        first = max(0, min(SIZE - 1, known + draw.randint(-40_000, 15_000)))
        last = min(SIZE - 1, first + draw.randint(0, 40_000))
        body = OTHER[:known] + BODY[known:]
        reply = site.client.fragment(path, session_id, Piece(first, last, SIZE), body)
        if first > known:
            assert (reply.status, reply.received, reply.code) == (416, known, 0)
        else:
            known = max(known, last + 1)
            assert (reply.status, reply.received) == (200, known)
        assert reply.session_id == session_id
    assert site.client.close(path, session_id).status == 200


def test_f5_f8_single_bytes(site: Site) -> None:
    path = site.new()
    session_id = site.client.create(path)
    for at in (0, 1, 2):
        beyond = site.client.fragment(path, session_id, Piece(at + 1, at + 1, SIZE), BODY)
        assert (beyond.status, beyond.received) == (416, at), "a gap of one byte (F8)"
        assert site.client.fragment(path, session_id, Piece(at, at, SIZE), BODY).received == at + 1
    assert site.client.fragment(path, session_id, Piece(3, SIZE - 1, SIZE), BODY).received == SIZE


BAD_RANGES: Final = (
    "bytes 0-9",
    "bytes 0-9/*",
    "bytes 9-0/100000",
    "bytes 0-100000/100000",
    "bytes 99991-100000/100000",
    "bytes -1-8/100000",
    "bytes 0-9/9223372036854775808",
    "bytes 18446744073709551615-18446744073709551624/18446744073709551616",
    "bytes +0-9/100000",
    "bytes 0x0-0x9/100000",
    "lines 0-9/100000",
    "0-9/100000",
    "bytes 0-9/100000, bytes 10-19/100000",
    "bytes=0-9/100000",
    "bytes 0\xad9/100000",
    "bytes */100000",
    "",
)


@pytest.mark.parametrize("text", BAD_RANGES, ids=range(len(BAD_RANGES)))
def test_f1_a_range_that_is_none_has_no_effect(site: Site, text: str) -> None:
    path = site.new()
    session_id = site.client.create(path)
    site.client.fragment(path, session_id, Piece(0, 99, SIZE), BODY)
    reply = site.client.ask(F, path, (Header.CONTENT_RANGE, text), session_id=session_id, body=b"0123456789")
    assert reply.refusal == MALFORMED
    assert site.client.received(path, session_id, SIZE) == 100
    assert site.client.fragment(path, session_id, Piece(100, SIZE - 1, SIZE), BODY).received == SIZE


@pytest.mark.parametrize("length", [1, 9, 11, 1000])
def test_f1_a_length_that_is_not_that_of_the_range_has_no_effect(site: Site, length: int) -> None:
    path = site.unpublished()
    session_id = site.client.create(path)
    reply = site.client.ask(F, path, session_id=session_id, span=Piece(0, 9, SIZE), body=b"x" * length)
    assert reply.refusal == MALFORMED
    assert site.client.received(path, session_id, SIZE) == 0


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "identity, gzip"])
def test_f1_only_identity_is_understood(site: Site, name: str) -> None:
    path = site.unpublished()
    session_id = site.client.create(path)
    reply = site.client.ask(
        F, path, ("Content-Encoding", name), session_id=session_id, span=Piece(0, 9, SIZE), body=b"0123456789"
    )
    assert reply.refusal == MALFORMED


def test_f2_another_total_has_no_effect_before_and_after_the_last_byte(site: Site) -> None:
    path = site.new()
    session_id = site.client.create(path)
    site.client.fragment(path, session_id, Piece(0, 99, SIZE), BODY)
    for total in (SIZE - 1, SIZE + 1):
        assert site.client.fragment(path, session_id, Piece(100, 199, total), BODY).refusal == MALFORMED
    assert site.client.fragment(path, session_id, Piece(100, SIZE - 1, SIZE), BODY).received == SIZE
    assert site.client.fragment(path, session_id, Piece(0, 99, SIZE + 1), BODY).refusal == MALFORMED
    assert site.client.fragment(path, session_id, Piece(0, 99, SIZE), OTHER).received == SIZE, "replayed (F7)"


def test_f3_a_file_that_is_too_large_keeps_no_byte(site: Site) -> None:
    path = site.unpublished(folder="small")
    session_id = site.client.create(path)
    reply = site.client.fragment(path, session_id, Piece(0, 9, 1001), BODY)
    assert reply.refusal == (500, codes.BG_E_TOO_LARGE)
    assert site.client.cancel(path, session_id).status == 200


def test_f4_a_fragment_that_is_too_large_is_refused_before_it_is_read(site: Site) -> None:
    path = site.unpublished()
    session_id = site.client.create(path)
    total = 1 << 40
    head = request(F, path, session_id=session_id, span=Piece(0, total - 1, total), length=total)
    with Wire(site.server.port) as wire:
        wire.send(head)
        reply = wire.reply()
        assert reply is not None
        assert reply.status == 413
        assert not wire.send_all_of(itertools.repeat(bytes(65_536)))


@pytest.mark.parametrize("how", ["finish", "reset"])
def test_f9_of_a_body_that_breaks_what_came_may_count_and_is_right(site: Site, how: str) -> None:
    path = site.new()
    session_id = site.client.create(path)
    wire = Wire(site.server.port)
    wire.send(request(F, path, session_id=session_id, span=Piece(0, SIZE - 1, SIZE), length=SIZE) + BODY[:60_000])
    getattr(wire, how)()
    assert wire.reply() is None if how == "finish" else True
    wire.close()
    known = site.client.received(path, session_id, SIZE)
    assert 0 <= known <= 60_000
    assert site.client.fragment(path, session_id, Piece(known, SIZE - 1, SIZE), BODY).received == SIZE


def test_f13_an_empty_file(site: Site) -> None:
    for text in ("bytes */0", "bytes 0--1/0", "bytes 0-0/0"):
        path = site.new("empty")
        site.published[path[1:]] = b""
        session_id = site.client.create(path)
        reply = site.client.ask(F, path, session_id=session_id, span=text)
        assert (reply.status, reply.received) == (200, 0)
        assert site.client.close(path, session_id).status == 200


def test_5_4_two_sessions_of_one_name_the_first_to_end_wins(site: Site) -> None:
    path = site.new()
    first, second = site.client.create(path), site.client.create(path)
    assert first != second
    half = Piece(0, SIZE // 2 - 1, SIZE)
    site.client.fragment(path, first, half, BODY)
    site.client.fragment(path, second, half, OTHER)
    rest = Piece(SIZE // 2, SIZE - 1, SIZE)
    assert site.client.fragment(path, first, rest, BODY).status == 200
    assert site.client.fragment(path, second, rest, OTHER).refusal == REFUSED


def test_5_5_a_close_before_the_last_byte_publishes_nothing(site: Site) -> None:
    path = site.unpublished()
    session_id = site.client.create(path)
    site.client.fragment(path, session_id, Piece(0, SIZE - 2, SIZE), BODY)
    assert site.client.close(path, session_id).status == 200
    assert site.client.fragment(path, session_id, Piece(SIZE - 1, SIZE - 1, SIZE), BODY).refusal == UNKNOWN


def test_d9_one_fragment_at_a_time_however_many_connections_send_it(site: Site) -> None:
    path = site.new()
    session_id = site.client.create(path)
    replies: list[Reply] = []

    def send() -> None:
        replies.append(site.client.fragment(path, session_id, Piece(0, SIZE - 1, SIZE), BODY))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(reply.status, reply.received) for reply in replies if reply.status == 200} == {(200, SIZE)}
    assert {reply.status for reply in replies} <= {200, 503}
    assert site.client.close(path, session_id).status == 200
