"""Uploads to a directory are disabled while it has sessions (§11): whoever uses them finds out, and none comes back."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.server.uploading import NOT_FOUND, Desk, Pieces, answer, refused, story

from openbits.core.packets import ContentRange
from openbits.server.model import Session


@story
async def test_disabling_a_directory_ends_its_sessions_and_leaves_what_was_published(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        done = desk.packet(await desk.upload("done", b"0123"), "done")
        busy = desk.packet(await desk.create("busy"), "busy")
        slow = Pieces(b"01", then="silence")
        fragment = asyncio.create_task(desk.sessions.fragment(busy, ContentRange(0, 9, 20), 10, slow))
        await slow.is_waiting.wait()
        await desk.sessions.disable(desk.directory)
        with pytest.raises(ConnectionError):
            await fragment
        for packet in (done, busy):
            assert answer(await refused(desk.sessions.close(packet))) == (500, NOT_FOUND, None)
        assert [path.name for path in desk.inbox.iterdir()] == ["done"]
        assert (desk.sessions.count, desk.spooled) == (0, [])


@story
async def test_a_session_whose_directory_is_just_being_disabled_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_begun, may_go_on = threading.Event(), threading.Event()
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        remove = desk.sessions._storage.remove

        def on_a_slow_disk(session_ids: Sequence[str]) -> None:
            is_begun.set()
            may_go_on.wait(10.0)
            remove(session_ids)

        monkeypatch.setattr(desk.sessions._storage, "remove", on_a_slow_disk)
        disabling = asyncio.create_task(desk.sessions.disable(desk.directory))
        assert await asyncio.to_thread(is_begun.wait, 10.0)
        late = asyncio.create_task(refused(desk.send(packet, 0, b"01", 4)))
        await asyncio.wait({late}, timeout=1.0)
        may_go_on.set()
        await disabling
        assert answer(await late) == (500, NOT_FOUND, None)
        assert (desk.sessions.count, desk.spooled) == (0, [])


@story
async def test_an_upload_whose_directory_was_disabled_meanwhile_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Desk(tmp_path) as desk:
        packet = desk.packet(await desk.create())
        save = desk.sessions._store.save

        async def saved_and_disabled(session: Session, *, is_durable: bool) -> None:
            await save(session, is_durable=is_durable)
            monkeypatch.undo()
            await desk.sessions.disable(desk.directory)

        monkeypatch.setattr(desk.sessions._store, "save", saved_and_disabled)
        assert answer(await refused(desk.send(packet, 0, b"0123", 4))) == (500, NOT_FOUND, None)
        assert (desk.sessions.count, desk.spooled, list(desk.inbox.iterdir())) == (0, [], [])
