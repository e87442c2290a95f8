"""Slow clients, many sessions, death and full disks, against a real `bits-server` (upload-protocol.md §6, §13)."""

import contextlib
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest
from tests.server.hostile_clients.client import Client, Piece, Wire, request
from tests.server.hostile_clients.site import BODY, FULL, MOST_GROWTH_BYTES, SETTINGS, SIZE, C, F, P, Site
from tests.server.process import ServerProcess


def test_13_heads_that_never_end_hold_up_nobody(site: Site) -> None:
    wires = [Wire(site.server.port) for _ in range(200)]
    for wire in wires:
        wire.send(b"BITS_POST /inbox/x HTTP/1.1\r\nHost: x\r\n")
    site.client.upload(site.new(), BODY)
    began = time.monotonic()
    for wire in wires:
        reply = wire.reply()
        assert reply is None or reply.status in {400, 408}
        wire.close()
    assert time.monotonic() - began < 10


def test_13_a_body_that_hardly_comes_is_ended_and_what_came_is_kept(site: Site) -> None:
    path = site.new()
    session_id = site.client.create(path)
    with Wire(site.server.port) as wire:
        wire.send(request(F, path, session_id=session_id, span=Piece(0, SIZE - 1, SIZE), length=SIZE) + BODY[:500])
        began = time.monotonic()
        at = 500
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 15:
                wire.send(BODY[at : at + 1])
                at += 1
                time.sleep(0.05)
        assert time.monotonic() - began < 15, "it is waited for ever"
    known = site.client.received(path, session_id, SIZE)
    assert known <= at
    assert site.client.fragment(path, session_id, Piece(known, SIZE - 1, SIZE), BODY).received == SIZE


def test_13_a_client_that_does_not_read_its_answers_holds_up_nobody(site: Site) -> None:
    with Wire(site.server.port) as wire:
        wire.send(request(P, "/inbox/x") * 300)
        site.client.upload(site.new(), BODY)


ABANDONED: Final = int(os.environ.get("OPENBITS_ABANDONED", "1000"))


def test_13_abandoned_sessions_cost_little(site: Site) -> None:
    """`OPENBITS_ABANDONED=100000` is the whole of it; a restart takes no longer, and memory does not follow."""
    path = site.unpublished()
    before = site.server.rss_bytes
    with Wire(site.server.port) as wire:
        for _ in range(ABANDONED):
            wire.send(request(C, path))
            reply = wire.reply()
            assert reply is not None
            assert reply.status == 200
    assert site.server.rss_bytes - before < MOST_GROWTH_BYTES
    began = time.monotonic()
    site.server.stop()
    site.server.start()
    assert time.monotonic() - began < 5
    assert site.server.rss_bytes - before < MOST_GROWTH_BYTES


# -- death and full disks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_acknowledged_bytes_survive_a_kill_at_any_moment(site: Site, seed: int) -> None:
    """Acknowledged means written: after SIGKILL the session goes on at the last acknowledged byte or beyond."""
    draw = random.Random(seed)  # noqa: S311  # to be repeated
    path = site.new()
    session_id = site.client.create(path)
    known = 0
    while known < SIZE:
        last = min(SIZE, known + draw.randint(1, 30_000)) - 1
        wire = Wire(site.server.port)
        head = request(F, path, session_id=session_id, span=Piece(known, last, SIZE), length=last - known + 1)
        wire.send(head + BODY[known : last + 1])
        time.sleep(draw.random() * 0.004)
        site.server.kill()
        reply = wire.reply()
        wire.close()
        if reply is not None:
            assert (reply.status, reply.received) == (200, last + 1)
            known = last + 1
        site.server.start()
        if known < SIZE:
            probe = site.client.fragment(path, session_id, Piece(SIZE - 1, SIZE - 1, SIZE), BODY)
            assert probe.received >= known, "acknowledged bytes are lost"
            known = probe.received
    assert site.client.close(path, session_id).status == 200


@pytest.mark.root
def test_f10_a_full_disk_keeps_what_it_has(tmp_path: Path) -> None:
    base = tmp_path / "small"
    base.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", base], check=True)
    server = ServerProcess(base, SETTINGS)
    try:
        server.start()
        client = Client(server.port)
        body = BODY * 20
        size = len(body)
        path = "/inbox/large"
        session_id = client.create(path)
        assert client.fragment(path, session_id, Piece(0, SIZE - 1, size), body).status == 200
        filler = base / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(65_536))
                file.flush()
        reply = client.fragment(path, session_id, Piece(SIZE, 10 * SIZE - 1, size), body)
        assert reply.refusal == FULL
        filler.unlink()
        known = client.received(path, session_id, size)
        assert known >= SIZE
        for first in range(known, size, 5 * SIZE):
            last = min(size, first + 5 * SIZE) - 1
            assert client.fragment(path, session_id, Piece(first, last, size), body).received == last + 1
        assert client.close(path, session_id).status == 200
        assert (server.inbox / "large").read_bytes() == body
    finally:
        server.close()
        subprocess.run(["umount", "--lazy", base], check=True)


def test_memory_is_flat_after_all_this(site: Site) -> None:
    """Runs last."""
    assert site.server.rss_bytes - site.rss_at_first_bytes < MOST_GROWTH_BYTES
