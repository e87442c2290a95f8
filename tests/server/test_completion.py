"""Complete uploads of directories with an application (§5.3 NOTIFY, §9.3, §9.5, D29), as the sessions see them.

The application here is the notifier itself; its conversation over HTTP has tests of its own.
"""

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.uploading import INBOX, NOT_FOUND, Application, Desk, answer, field, refused, story

from openbits.core.packets import Header, Origin
from openbits.server.model import Commit, Notification, Outcome

HOOK = replace(INBOX, notification=Notification.BY_REFERENCE, notification_url="http://app.example/hook")
TAKEN, COPIED = Outcome(status=200), Outcome(status=200, has_to_be_copied=True)


def response_of(desk: Desk, session_id: str) -> Path:
    return desk.spool / "BITS-Sessions" / "Replies" / session_id / "responsefile.bin"


@story
async def test_s9_3_the_application_sees_the_whole_file_and_it_is_not_published_unless_it_asks(tmp_path: Path) -> None:
    async with Desk(tmp_path, HOOK, application=Application(TAKEN)) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, b"01234", 10)
        assert desk.application.seen == []
        ack = await desk.send(packet, 5, b"56789", 10)
        assert desk.application.seen == [b"0123456789"]
        assert Header.REPLY_URL not in dict(ack.fields)
        assert list(desk.inbox.iterdir()) == []
        assert desk.spooled == []  # the request file goes after the answer unless it is copied
        assert await desk.send(packet, 5, b"56789", 10) == ack
        assert len(desk.application.seen) == 1
        await desk.sessions.close(packet)


@story
async def test_s9_3_the_application_has_the_file_copied_to_its_destination(tmp_path: Path) -> None:
    async with Desk(tmp_path, HOOK, application=Application(COPIED)) as desk:
        await desk.upload("a.bin", b"0123")
        assert (desk.inbox / "a.bin").read_bytes() == b"0123"


@story
async def test_d11_with_commit_at_close_the_copy_waits_for_close(tmp_path: Path) -> None:
    async with Desk(tmp_path, replace(HOOK, commit=Commit.CLOSE), application=Application(COPIED)) as desk:
        packet = desk.packet(await desk.upload("a.bin", b"0123"))
        assert list(desk.inbox.iterdir()) == []
        await desk.sessions.close(packet)
        assert (desk.inbox / "a.bin").read_bytes() == b"0123"


@story
async def test_s8_1_a_reply_is_announced_opened_by_its_owner_alone_and_gone_after_close(tmp_path: Path) -> None:
    application = Application(Outcome(status=200, has_reply=True), reply=b"thank you")
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.create())
        ack = await desk.send(packet, 0, b"0123", 4)
        url = field(ack, Header.REPLY_URL)
        escaped = packet.session_id.replace("{", "%7B").replace("}", "%7D")
        assert url == f"https://h/inbox/BITS-Sessions/Replies/{escaped}/responsefile.bin"
        await desk.restart()
        assert await desk.send(packet, 0, b"0123", 4) == ack  # F7: the cached Ack
        with open((await desk.sessions.open_reply(HOOK, packet.session_id, packet.user))[0], "rb") as reply:  # noqa: ASYNC230, PTH123
            assert reply.read() == b"thank you"
        stranger = replace(packet.user, name="bob")
        assert (await refused(desk.sessions.open_reply(HOOK, packet.session_id, stranger))).status == 404
        assert (await refused(desk.sessions.open_reply(INBOX, "{unknown}", packet.user))).status == 404
        await desk.sessions.close(packet)
        assert (await refused(desk.sessions.open_reply(HOOK, packet.session_id, packet.user))).status == 404
        assert not response_of(desk, packet.session_id).exists()


@story
async def test_s7_3_the_download_of_the_reply_is_progress(tmp_path: Path) -> None:
    application = Application(Outcome(status=200, has_reply=True), reply=b"thank you")
    async with Desk(tmp_path, replace(HOOK, session_timeout_seconds=100), application=application) as desk:
        packet = desk.packet(await desk.upload("a.bin", b"0123"))
        for _ in range(3):
            desk.now += 90
            with open((await desk.sessions.open_reply(HOOK, packet.session_id, packet.user))[0], "rb"):  # noqa: ASYNC230, PTH123
                pass
        await desk.sessions.close(packet)
        assert desk.sessions.count == 0


@story
async def test_s7_3_a_reply_is_gone_after_the_session_time_out_even_before_the_clean_up(tmp_path: Path) -> None:
    application = Application(Outcome(status=200, has_reply=True), reply=b"thank you")
    async with Desk(tmp_path, replace(HOOK, session_timeout_seconds=100), application=application) as desk:
        packet = desk.packet(await desk.upload("a.bin", b"0123"))
        desk.now += 101
        expired = replace(HOOK, session_timeout_seconds=100)
        assert (await refused(desk.sessions.open_reply(expired, packet.session_id, packet.user))).status == 404


@pytest.mark.parametrize("reply", [None, b""])
@story
async def test_d19_an_absent_or_empty_reply_is_no_reply(tmp_path: Path, reply: bytes | None) -> None:
    application = Application(Outcome(status=200, has_reply=True), reply=reply)
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.create())
        ack = await desk.send(packet, 0, b"0123", 4)
        assert Header.REPLY_URL not in dict(ack.fields)


@story
async def test_s8_2_a_static_reply_is_passed_on_verbatim_and_not_served(tmp_path: Path) -> None:
    static = "http://elsewhere.example/Reply%20{x}"
    async with Desk(tmp_path, HOOK, application=Application(Outcome(status=200, static_url=static))) as desk:
        packet = desk.packet(await desk.create())
        assert field(await desk.send(packet, 0, b"0123", 4), Header.REPLY_URL) == static
        assert (await refused(desk.sessions.open_reply(HOOK, packet.session_id, packet.user))).status == 404


@story
async def test_a_reply_that_is_a_symlink_or_a_fifo_is_none(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    application = Application(Outcome(status=200, has_reply=True), reply=b"thank you")
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.upload("a.bin", b"0123"))
        response = response_of(desk, packet.session_id)
        response.unlink()
        response.symlink_to(secret)
        assert (await refused(desk.sessions.open_reply(HOOK, packet.session_id, packet.user))).status == 404


@story
async def test_s9_3_a_refusal_has_status_and_code_of_the_application_and_the_final_fragment_tries_again(
    tmp_path: Path,
) -> None:
    application = Application(Outcome(status=500, hresult=0xA0000001), COPIED, reply=b"not to be had")
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, b"01", 4)
        refusal = await refused(desk.send(packet, 2, b"23", 4))
        assert answer(refusal) == (500, 0xA0000001, 4)
        assert refusal.origin is Origin.APPLICATION
        assert (await refused(desk.sessions.open_reply(HOOK, packet.session_id, packet.user))).status == 404
        await desk.restart()
        assert field(await desk.send(packet, 2, b"23", 4), Header.RECEIVED) == "4"  # F7, §9.4
        assert application.seen == [b"0123", b"0123"]
        assert (desk.inbox / "a.bin").read_bytes() == b"0123"


@story
async def test_a_file_that_a_crash_left_published_is_never_cut_nor_written_again(tmp_path: Path) -> None:
    application = Application(Outcome(status=500), COPIED)
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.create())
        assert (await refused(desk.send(packet, 0, b"0123", 4))).status == 500
        published = desk.inbox / "a.bin"
        published.hardlink_to(
            desk.requests / packet.session_id / "requestfile.bin"
        )  # what a crash behind the link leaves
        os.truncate(published, 2)  # and somebody has gone on with the file since
        await desk.restart()
        assert field(await desk.send(packet, 0, b"0123", 4), Header.RECEIVED) == "4"
        assert published.read_bytes() == b"01"


@story
async def test_a_complete_file_that_lost_bytes_is_asked_for_again(tmp_path: Path) -> None:
    application = Application(Outcome(status=500), COPIED)
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.create())
        assert answer(await refused(desk.send(packet, 0, b"0123", 4))) == (500, 0, 4)
        await desk.restart()
        os.truncate(desk.requests / packet.session_id / "requestfile.bin", 1)
        assert answer(await refused(desk.send(packet, 3, b"3", 4))) == (416, 0, 1)
        assert field(await desk.send(packet, 1, b"12", 4), Header.RECEIVED) == "3"
        assert len(application.seen) == 1
        await desk.sessions.stop()
        with closing(sqlite3.connect(desk.spool / "sessions.db")) as connection:
            assert connection.execute("SELECT offset, is_complete FROM sessions").fetchall() == [(3, 0)]
        desk.sessions = desk.opened()
        await desk.send(packet, 3, b"3", 4)
        assert application.seen == [b"0123", b"0123"]
        assert (desk.inbox / "a.bin").read_bytes() == b"0123"


@story
async def test_s9_3_403_is_final(tmp_path: Path) -> None:
    application = Application(Outcome(status=403, hresult=0x80190193), COPIED)
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.create())
        first = await refused(desk.send(packet, 0, b"0123", 4))
        await desk.restart()
        again = await refused(desk.send(packet, 0, b"0123", 4))
        assert answer(first) == answer(again) == (403, 0x80190193, 4)
        assert again.origin is Origin.APPLICATION
        assert len(application.seen) == 1
        await desk.sessions.close(packet)
        assert (list(desk.inbox.iterdir()), desk.spooled) == ([], [])


@story
async def test_an_application_that_took_a_file_is_not_called_again_when_publishing_failed(tmp_path: Path) -> None:
    application = Application(COPIED)
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.create())
        (desk.inbox / "a.bin").write_text("theirs")
        assert (await refused(desk.send(packet, 0, b"0123", 4))).status == 403
        (desk.inbox / "a.bin").unlink()
        await desk.restart()
        await desk.send(packet, 0, b"0123", 4)
        assert application.seen == [b"0123"]
        assert (desk.inbox / "a.bin").read_bytes() == b"0123"


@story
async def test_d29_a_client_that_gave_up_and_sends_again_meets_the_same_notification(tmp_path: Path) -> None:
    application = Application(COPIED)
    application.may_answer.clear()
    desk = Desk(tmp_path, HOOK, application=application)
    desk.patience_seconds = 0.2
    await desk.restart()
    async with desk:
        packet = desk.packet(await desk.create())
        impatient = asyncio.create_task(desk.send(packet, 0, b"0123", 4))
        await application.is_called.wait()
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        refusal = await refused(desk.send(packet, 0, b"0123", 4))
        assert (refusal.status, refusal.retry_after_seconds is None) == (503, False)
        assert (await refused(desk.sessions.close(packet))).status == 503  # Close waits, too
        application.may_answer.set()
        desk.sessions._patience_seconds = 30.0
        assert field(await desk.send(packet, 0, b"0123", 4), Header.RECEIVED) == "4"
        assert len(application.seen) == 1
        assert (desk.inbox / "a.bin").read_bytes() == b"0123"


@story
async def test_s5_3_cancel_during_the_notification_does_not_wait_and_drops_the_answer(tmp_path: Path) -> None:
    application = Application(Outcome(status=200, has_to_be_copied=True, has_reply=True), reply=b"thank you")
    application.may_answer.clear()
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.create())
        final = asyncio.create_task(desk.send(packet, 0, b"0123", 4))
        await application.is_called.wait()
        assert (await asyncio.wait_for(desk.sessions.cancel(packet), 10.0)).status == 200
        assert desk.spooled == [packet.session_id]  # the application may be reading
        assert (await desk.sessions.cancel(packet)).status == 200  # D13
        application.may_answer.set()
        assert answer(await refused(final)) == (500, NOT_FOUND, None)
        assert (desk.spooled, list(desk.inbox.iterdir()), desk.sessions.count) == ([], [], 0)
        assert not response_of(desk, packet.session_id).exists()


@story
async def test_s5_3_cancel_while_the_answer_is_being_recorded_drops_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = Application(Outcome(status=200, has_to_be_copied=True, has_reply=True), reply=b"thank you")
    is_answered, is_cancelled = threading.Event(), threading.Event()
    async with Desk(tmp_path, HOOK, application=application) as desk:
        sync_reply = desk.sessions._storage.sync_reply

        def on_a_slow_disk(session_id: str) -> bool:
            is_answered.set()
            is_cancelled.wait(10.0)
            return sync_reply(session_id)

        monkeypatch.setattr(desk.sessions._storage, "sync_reply", on_a_slow_disk)
        packet = desk.packet(await desk.create())
        final = asyncio.create_task(desk.send(packet, 0, b"0123", 4))
        assert await asyncio.to_thread(is_answered.wait, 10.0)
        assert (await desk.sessions.cancel(packet)).status == 200
        is_cancelled.set()
        assert answer(await refused(final)) == (500, NOT_FOUND, None)
        assert (desk.spooled, list(desk.inbox.iterdir()), desk.sessions.count) == ([], [], 0)
        assert not response_of(desk, packet.session_id).exists()


@story
async def test_s9_5_what_the_application_answered_is_on_the_disk_before_the_ack(tmp_path: Path) -> None:
    application = Application(COPIED)
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.create())
        (desk.inbox / "a.bin").write_text("theirs")
        assert (await refused(desk.send(packet, 0, b"0123", 4))).status == 403
        await desk.sessions.stop()
        with closing(sqlite3.connect(desk.spool / "sessions.db")) as connection:
            row = connection.execute("SELECT application_status, has_to_be_copied, is_complete, durable FROM sessions")
            assert row.fetchall() == [(200, 1, 1, 4)]
        desk.sessions = desk.opened()


@story
async def test_a_notifier_that_fails_leaves_a_session_that_can_be_tried_again(tmp_path: Path) -> None:
    application = Application(COPIED)
    async with Desk(tmp_path, HOOK, application=application) as desk:
        packet = desk.packet(await desk.create())
        outcomes, application.outcomes = application.outcomes, []
        with pytest.raises(IndexError):
            await desk.send(packet, 0, b"0123", 4)
        application.outcomes = outcomes
        assert field(await desk.send(packet, 0, b"0123", 4), Header.RECEIVED) == "4"


@story
async def test_s9_6_the_group_of_the_destination_may_read_the_request_and_write_the_reply(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []

    class Looking(Application):
        async def notify(self, directory, session, user, request_file, response_file):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            for path in (request_file, request_file.parent, response_file.parent):
                status = path.stat()
                seen.append((status.st_mode & 0o7777, status.st_gid, path.parent.parent.stat().st_mode & 0o1))
            return await super().notify(directory, session, user, request_file, response_file)

    async with Desk(tmp_path, HOOK, application=Looking(TAKEN)) as desk:
        await desk.upload("a.bin", b"0123")
        group = desk.inbox.stat().st_gid
        assert [mode for mode, _, _ in seen] == [0o640, 0o750, 0o2770]
        assert {gid for _, gid, _ in seen} == {group}
        assert seen[0][2] == 1  # whoever knows the id may pass
