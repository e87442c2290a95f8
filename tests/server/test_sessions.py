"""Sessions from Create to Close on real folders: the states of §5.3, the rows of §6 that write, concurrency, ends."""

import asyncio
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.uploading import (
    ACCESS_DENIED,
    DISK_FULL,
    INBOX,
    INVALID,
    NO_PATH,
    NOT_FOUND,
    TOO_LARGE,
    Desk,
    Pieces,
    answer,
    field,
    refused,
    story,
)

from openbits.core.packets import ContentRange, Header
from openbits.server.model import Commit, Session, User

ANN, BOB = User(name="ann"), User(name="bob")


@story
async def test_create_answers_protocol_session_host_id_and_identity(tmp_path: Path) -> None:
    directory = replace(INBOX, host_id="node3.example.net", host_id_fallback_seconds=60)
    async with Desk(tmp_path, directory) as desk:
        ack = await desk.sessions.create(desk.packet())
        names = [name for name, _ in ack.fields]
        assert ack.status == 200
        assert field(ack, "BITS-Protocol") == "{7df0354d-249b-430f-820d-3d2a9bef4931}"
        assert field(ack, "BITS-Host-Id") == "node3.example.net"
        assert field(ack, "BITS-Host-Id-Fallback-Timeout") == "60"
        assert field(ack, "Accept-Encoding") == "identity"
        assert len(names) == len(set(names)) == 5
        session_id = field(ack, "BITS-Session-Id")
        assert session_id == session_id.upper()
        assert (session_id[0], session_id[-1], len(session_id)) == ("{", "}", 38)
        assert desk.spooled == []  # nothing is made before the first byte


@story
async def test_without_a_host_id_there_is_no_fallback_time_out(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        ack = await desk.sessions.create(desk.packet())
        assert {name for name, _ in ack.fields}.isdisjoint({Header.HOST_ID, Header.FALLBACK_TIMEOUT})


@story
async def test_f5_f12_d11_the_file_is_published_with_the_ack_of_the_final_fragment(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        first = await desk.send(packet, 0, b"01234", 10)
        assert first.fields == (("BITS-Session-Id", packet.session_id), ("BITS-Received-Content-Range", "5"))
        assert list(desk.inbox.iterdir()) == []
        last = await desk.send(packet, 5, b"56789", 10)
        assert last.fields == (("BITS-Session-Id", packet.session_id), ("BITS-Received-Content-Range", "10"))
        published = desk.inbox / "a.bin"
        assert published.read_bytes() == b"0123456789"
        assert published.stat().st_mode & 0o7777 == 0o640
        assert (await desk.sessions.close(packet)).fields == (("BITS-Session-Id", packet.session_id),)
        assert published.read_bytes() == b"0123456789"
        assert desk.spooled == []
        assert desk.sessions.count == 0


@story
async def test_f13_d16_an_empty_file_is_published(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        ack = await desk.sessions.fragment(packet, ContentRange(0, -1, 0), 0, Pieces())
        assert field(ack, Header.RECEIVED) == "0"
        assert (desk.inbox / "a.bin").read_bytes() == b""
        await desk.sessions.close(packet)


@story
async def test_f6_d14_stored_bytes_are_never_rewritten(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, b"01234", 10)
        ack = await desk.send(packet, 2, b"xxx56789", 10)
        assert field(ack, Header.RECEIVED) == "10"
        assert (desk.inbox / "a.bin").read_bytes() == b"0123456789"


@story
async def test_f7_known_bytes_are_read_and_change_nothing(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, b"01234", 10)
        body = Pieces(b"xx", b"x")
        ack = await desk.sessions.fragment(packet, ContentRange(1, 3, 10), 3, body)
        assert field(ack, Header.RECEIVED) == "5"
        assert await body.read() == b""  # the connection stays usable
        await desk.send(packet, 5, b"56789", 10)
        assert (desk.inbox / "a.bin").read_bytes() == b"0123456789"


@story
async def test_h8_what_is_refused_is_refused_before_the_body_is_asked_for(tmp_path: Path) -> None:
    async with Desk(tmp_path, replace(INBOX, maximum_upload_bytes=50, max_fragment_bytes=20, quota_bytes=40)) as desk:
        known = desk.packet(await desk.create())
        await desk.send(known, 0, b"01234", 10)
        new = desk.packet(await desk.create())
        rows = [
            ("F1", known, ContentRange(5, 9, 10), 4, (400, INVALID, 5)),
            ("F2", known, ContentRange(5, 9, 11), 5, (400, INVALID, 5)),
            ("F3", new, ContentRange(0, 9, 51), 10, (500, TOO_LARGE, 0)),
            ("F4", new, ContentRange(0, 20, 30), 21, (413, TOO_LARGE, 0)),
            ("F8", known, ContentRange(6, 9, 10), 4, (416, 0, 5)),
            ("F10 quota", new, ContentRange(0, 9, 31), 10, (500, DISK_FULL, 0)),
            ("no session", desk.packet("{X}"), ContentRange(0, 9, 10), 10, (500, NOT_FOUND, None)),
        ]
        for row, packet, content_range, length, expected in rows:
            body = Pieces(bytes(length))
            refusal = await refused(desk.sessions.fragment(packet, content_range, length, body))
            assert answer(refusal) == expected, row
            assert refusal.session_id == packet.session_id
            assert not body.is_asked.is_set(), row
        await desk.send(new, 0, bytes(10), 30)  # exactly the quota
        assert not (desk.requests / "{X}").exists()


@story
async def test_f10_a_file_that_has_no_room_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        body = Pieces(b"0")
        refusal = await refused(desk.sessions.fragment(packet, ContentRange(0, 0, 2**62), 1, body))
        assert answer(refusal) == (500, DISK_FULL, 0)
        assert not body.is_asked.is_set()


@pytest.mark.parametrize("then", ["gone", "end"])
@story
async def test_f9_d15_what_came_before_the_connection_broke_counts(tmp_path: Path, then: str) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        with pytest.raises(ConnectionError):
            await desk.sessions.fragment(packet, ContentRange(0, 9, 10), 10, Pieces(b"012", b"3456", then=then))
        await desk.restart()
        refusal = await refused(desk.send(packet, 9, b"9", 10))
        assert answer(refusal) == (416, 0, 7)
        await desk.send(packet, 7, b"789", 10)
        assert (desk.inbox / "a.bin").read_bytes() == b"0123456789"


@story
async def test_d9_a_second_request_waits_for_the_first(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.stall_seconds = 0.1
    await desk.restart()
    async with desk:
        packet = desk.packet(await desk.create())
        slow = Pieces(b"01", then="silence")
        first = asyncio.create_task(desk.sessions.fragment(packet, ContentRange(0, 9, 20), 10, slow))
        await slow.is_waiting.wait()
        second = asyncio.create_task(desk.send(packet, 2, b"23456789", 20))
        await asyncio.sleep(0)
        assert not second.done()
        with pytest.raises(ConnectionError):  # a zombie: its read is ended when nothing comes
            await first
        assert field(await second, Header.RECEIVED) == "10"  # and the bytes that arrived whole count


@story
async def test_d9_who_waits_too_long_is_sent_away_and_a_body_that_comes_is_left_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.patience_seconds, desk.stall_seconds = 0.2, 60.0
    await desk.restart()
    async with desk:
        packet = desk.packet(await desk.create())
        slow = Pieces(b"01", then="silence")
        first = asyncio.create_task(desk.sessions.fragment(packet, ContentRange(0, 9, 20), 10, slow))
        await slow.is_waiting.wait()
        for second in (desk.send(packet, 2, b"2", 20), desk.sessions.close(packet), desk.sessions.cancel(packet)):
            refusal = await refused(second)
            assert (refusal.status, refusal.hresult, refusal.session_id) == (503, None, packet.session_id)
            assert refusal.retry_after_seconds
        assert not first.done()
        first.cancel()
        desk.sessions._patience_seconds = 30.0
        assert field(await desk.send(packet, 2, b"2", 20), Header.RECEIVED) == "3"


@story
async def test_a_record_that_was_read_late_does_not_replace_what_is_known_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        store = desk.sessions._store
        load, was_read, may_go_on = store.load, asyncio.Event(), asyncio.Event()

        async def late(session_id: str) -> Session | None:
            found = await load(session_id)
            was_read.set()
            await may_go_on.wait()
            return found

        monkeypatch.setattr(store, "load", late)
        second = asyncio.create_task(desk.send(packet, 5, b"56789", 10))
        await was_read.wait()
        monkeypatch.setattr(store, "load", load)
        await desk.send(packet, 0, b"01234", 10)
        may_go_on.set()
        assert field(await second, Header.RECEIVED) == "10"


@story
async def test_step_10_nobody_else_finds_a_session_busy_or_not(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        mine = desk.packet(await desk.create(user=ANN), user=ANN)
        slow = Pieces(b"01", then="silence")
        first = asyncio.create_task(desk.sessions.fragment(mine, ContentRange(0, 9, 20), 10, slow))
        await slow.is_waiting.wait()
        strangers = [
            desk.packet(mine.session_id, user=BOB),
            desk.packet(mine.session_id),
            desk.packet(mine.session_id, name="b.bin", user=ANN),
            desk.packet(mine.session_id, user=User(name="ann", fingerprint="other")),
        ]
        for stranger in strangers:
            for call in (
                desk.send(stranger, 0, b"x", 20),
                desk.sessions.close(stranger),
                desk.sessions.cancel(stranger),
            ):
                refusal = await asyncio.wait_for(refused(call), 10.0)
                assert answer(refusal) == (500, NOT_FOUND, None)
        assert not first.done()
        first.cancel()
        await asyncio.wait({first})
        elsewhere = desk.packet(mine.session_id, user=ANN, host="node3")  # D8: the host part may differ
        assert field(await desk.send(elsewhere, 2, b"2", 20), Header.RECEIVED) == "3"


@story
async def test_a_client_that_goes_away_ends_its_body_and_nothing_else(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        slow = Pieces(b"0123", then="silence")
        request = asyncio.create_task(desk.sessions.fragment(packet, ContentRange(0, 9, 10), 10, slow))
        await slow.is_waiting.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert field(await desk.send(packet, 4, b"456789", 10), Header.RECEIVED) == "10"
        assert (desk.inbox / "a.bin").read_bytes() == b"0123456789"


@story
async def test_close_of_a_partial_upload_discards_it(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, b"01234", 10)
        assert (await desk.sessions.close(packet)).status == 200
        assert (list(desk.inbox.iterdir()), desk.spooled, desk.sessions.count) == ([], [], 0)


@story
async def test_cancel_discards_a_partial_upload_and_leaves_a_published_one(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        partial = desk.packet(await desk.create("part"), "part")
        await desk.send(partial, 0, b"01234", 10)
        whole = desk.packet(await desk.upload("whole", b"0123"), "whole")
        for packet in (partial, whole):
            assert (await desk.sessions.cancel(packet)).status == 200
            assert desk.sessions.in_use == 0  # nothing holds the file, its room is free
        assert [path.name for path in desk.inbox.iterdir()] == ["whole"]
        assert (desk.spooled, desk.sessions.count) == ([], 0)


@pytest.mark.parametrize("verb", ["close", "cancel"])
@story
async def test_d13_a_repeated_end_is_a_success_for_the_same_sender_for_an_hour(tmp_path: Path, verb: str) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.upload("a.bin", b"0123", user=ANN), user=ANN)
        await desk.sessions.close(packet)
        await desk.restart()
        assert (await getattr(desk.sessions, verb)(packet)).fields == (("BITS-Session-Id", packet.session_id),)
        for stranger in (replace(packet, user=BOB), desk.packet(packet.session_id, "b.bin", user=ANN)):
            assert answer(await refused(getattr(desk.sessions, verb)(stranger))) == (500, NOT_FOUND, None)
        assert answer(await refused(desk.send(packet, 0, b"0123", 4))) == (500, NOT_FOUND, None)
        desk.now += 3601
        assert answer(await refused(getattr(desk.sessions, verb)(packet))) == (500, NOT_FOUND, None)


@story
async def test_two_closes_at_once_are_both_answered(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.upload("a.bin", b"0123"))
        acks = await asyncio.gather(desk.sessions.close(packet), desk.sessions.close(packet))
        assert [ack.status for ack in acks] == [200, 200]
        assert desk.sessions.counters.ended == 1


@story
async def test_d11_commit_at_close(tmp_path: Path) -> None:
    async with Desk(tmp_path, replace(INBOX, commit=Commit.CLOSE)) as desk:
        closed = desk.packet(await desk.upload("a", b"0123"), "a")
        cancelled = desk.packet(await desk.upload("b", b"0123"), "b")
        vanished = desk.packet(await desk.upload("c", b"0123"), "c")
        await desk.restart()
        assert list(desk.inbox.iterdir()) == []
        assert field(await desk.send(closed, 0, b"0123", 4), Header.RECEIVED) == "4"  # replayed, published no earlier
        assert list(desk.inbox.iterdir()) == []
        await desk.sessions.close(closed)
        await desk.sessions.cancel(cancelled)
        (desk.requests / vanished.session_id / "requestfile.bin").unlink()
        assert answer(await refused(desk.sessions.close(vanished))) == (404, NO_PATH, None)  # §5.5
        assert [path.name for path in desk.inbox.iterdir()] == ["a"]
        assert (desk.inbox / "a").read_bytes() == b"0123"


@story
async def test_d12_an_existing_file_is_refused_at_create_and_again_at_commit(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        (desk.inbox / "a.bin").write_text("theirs")
        assert answer(await refused(desk.sessions.create(desk.packet()))) == (403, ACCESS_DENIED, None)
        assert answer(await refused(desk.send(packet, 0, b"0123", 4))) == (403, ACCESS_DENIED, 4)
        assert (desk.inbox / "a.bin").read_text() == "theirs"
        (desk.inbox / "a.bin").unlink()
        assert field(await desk.send(packet, 0, b"0123", 4), Header.RECEIVED) == "4"  # the client may try again
        assert (desk.inbox / "a.bin").read_text() == "0123"


@story
async def test_two_sessions_for_one_name_the_first_to_commit_wins(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        one, other = desk.packet(await desk.create()), desk.packet(await desk.create())
        assert one.session_id != other.session_id
        results = await asyncio.gather(
            desk.send(one, 0, b"1111", 4), desk.send(other, 0, b"2222", 4), return_exceptions=True
        )
        statuses = sorted(getattr(result, "status", 0) for result in results)
        assert statuses == [200, 403]
        assert (desk.inbox / "a.bin").read_bytes() in {b"1111", b"2222"}


@story
async def test_two_sessions_for_one_name_with_overwrites_the_last_one_stays(tmp_path: Path) -> None:
    async with Desk(tmp_path, replace(INBOX, allow_overwrites=True)) as desk:
        one, other = desk.packet(await desk.create()), desk.packet(await desk.create())
        await desk.send(one, 0, b"1111", 4)
        await desk.send(other, 0, b"22", 2)
        await desk.send(one, 0, b"1111", 4)  # replayed: it was published before, and is not again
        assert (desk.inbox / "a.bin").read_bytes() == b"22"


@story
async def test_d26_create_is_refused_above_twice_the_limit_of_a_user_and_above_that_of_all(tmp_path: Path) -> None:
    desk = Desk(tmp_path, replace(INBOX, session_limit=2))
    desk.max_sessions = 6
    await desk.restart()
    async with desk:
        sessions = [await desk.create(user=ANN) for _ in range(4)]
        refusal = await refused(desk.create(user=ANN))
        assert (refusal.status, refusal.hresult) == (503, None)
        assert refusal.retry_after_seconds
        for _ in range(2):
            await desk.create(user=BOB)
        assert (await refused(desk.create(user=User(name="eve")))).status == 503
        await desk.sessions.cancel(desk.packet(sessions[0], user=ANN))
        await desk.create(user=ANN)


@story
async def test_step_10_an_expired_session_is_not_found_even_before_the_clean_up(tmp_path: Path) -> None:
    async with Desk(tmp_path, replace(INBOX, session_timeout_seconds=100)) as desk:
        packet = desk.packet(await desk.create())
        desk.now += 90
        await desk.send(packet, 0, b"01234", 10)  # progress
        desk.now += 90
        await desk.send(packet, 5, b"5", 10)
        desk.now += 101
        assert answer(await refused(desk.send(packet, 6, b"6", 10))) == (500, NOT_FOUND, None)


@story
async def test_a_restart_in_each_stage_loses_nothing(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        await desk.restart()
        await desk.send(packet, 0, b"01234", 10)
        await desk.restart()
        ack = await desk.send(packet, 5, b"56789", 10)
        assert field(ack, Header.RECEIVED) == "10"
        await desk.restart()
        assert await desk.send(packet, 5, b"56789", 10) == ack  # replayed
        await desk.sessions.close(packet)
        assert (desk.inbox / "a.bin").read_bytes() == b"0123456789"


@story
async def test_the_file_counts_where_it_is_shorter_than_the_record(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, b"0123456", 10)
        await desk.restart()
        os.truncate(desk.requests / packet.session_id / "requestfile.bin", 4)
        assert answer(await refused(desk.send(packet, 7, b"789", 10))) == (416, 0, 4)
        await desk.send(packet, 4, b"456789", 10)
        assert (desk.inbox / "a.bin").read_bytes() == b"0123456789"


@story
async def test_bytes_beyond_the_record_are_cut(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, b"0123", 10)
        await desk.restart()
        with (desk.requests / packet.session_id / "requestfile.bin").open("ab") as file:
            file.write(b"what no record counts, longer than the file")
        await desk.send(packet, 4, b"456789", 10)
        assert (desk.inbox / "a.bin").read_bytes() == b"0123456789"


@story
async def test_f5_offsets_beyond_4_gib_are_written_and_told(tmp_path: Path) -> None:
    far = 2**32 + 5
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, b"begin", far + 3)
        await desk.sessions.stop()
        os.truncate(desk.requests / packet.session_id / "requestfile.bin", far)  # a hole
        with closing(sqlite3.connect(desk.spool / "sessions.db")) as store, store:
            store.execute("UPDATE sessions SET offset = ?, durable = ?", (far, far))
        desk.sessions = desk.opened()
        ack = await desk.send(packet, far, b"end", far + 3)
        assert field(ack, Header.RECEIVED) == str(far + 3)
        with (desk.inbox / "a.bin").open("rb") as file:
            assert os.fstat(file.fileno()).st_size == far + 3
            assert file.read(6) == b"begin\0"
            file.seek(far - 1)
            assert file.read() == b"\0end"


@story
async def test_d28_the_checksum_of_what_was_received_comes_with_close(tmp_path: Path) -> None:
    async with Desk(tmp_path, replace(INBOX, checksum=True)) as desk:
        packet = desk.packet(await desk.upload("a.bin", b"abc"))
        (desk.inbox / "a.bin").write_bytes(b"changed since")
        await desk.restart()
        ack = await desk.sessions.close(packet)
        expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, "abc"
        assert field(ack, "X-BITS-SHA256") == expected


@story
async def test_many_sessions_at_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, replace(INBOX, session_limit=1000))
    async with desk:

        async def upload(number: int) -> None:
            name, data = f"{number}.bin", bytes([number % 251]) * 3000
            packet = desk.packet(await desk.create(name), name)
            for first in range(0, 3000, 1000):
                await desk.send(packet, first, data[first : first + 1000], 3000)
            await desk.sessions.close(packet)
            assert (desk.inbox / name).read_bytes() == data

        await asyncio.gather(*(upload(number) for number in range(500)))
        assert (desk.sessions.count, desk.sessions.in_use) == (0, 0)
        assert desk.sessions.counters.published == 500
