"""The clean-up (§11): when it is due, what it ends, what it leaves alone."""

import asyncio
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.uploading import INBOX, NOT_FOUND, Application, Desk, Pieces, answer, refused, story

from openbits.core.packets import ContentRange
from openbits.server.cleanup import Schedule, period_seconds
from openbits.server.model import CleanupUnits, Directory, Notification, Outcome, Session, User
from openbits.server.store import _INSERT, _row

DAY = 86_400.0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, 12 * 3600, id="default"),
        pytest.param({"cleanup_count": 1, "cleanup_units": CleanupUnits.DAYS}, 12 * 3600, id="default-wins"),
        pytest.param({"cleanup_use_default": False, "cleanup_count": 30, "cleanup_units": 0}, 1800, id="minutes"),
        pytest.param({"cleanup_use_default": False, "cleanup_count": 5, "cleanup_units": 1}, 5 * 3600, id="hours"),
        pytest.param({"cleanup_use_default": False, "cleanup_count": 360, "cleanup_units": 2}, 360 * DAY, id="days"),
    ],
)
def test_s11_the_period(changes: dict[str, int], expected: float) -> None:
    if "cleanup_units" in changes:
        changes = {**changes, "cleanup_units": CleanupUnits(changes["cleanup_units"])}
    assert period_seconds(replace(INBOX, **changes)) == expected  # type: ignore[arg-type]


def test_a_directory_is_due_at_the_start_and_whenever_its_period_is_over() -> None:
    often = replace(
        INBOX, url_path="/often/", cleanup_use_default=False, cleanup_count=1, cleanup_units=CleanupUnits(0)
    )
    directories: dict[str, Directory] = {one.url_path: one for one in (INBOX, often)}
    schedule = Schedule()
    due = [[one.url_path for one in schedule.due(directories, at)] for at in (0.0, 59.0, 60.0, 119.0, 43_200.0)]
    assert due == [["/inbox/", "/often/"], [], ["/often/"], [], ["/inbox/", "/often/"]]


@story
async def test_expired_sessions_go_with_their_files_and_published_files_stay(tmp_path: Path) -> None:
    async with Desk(tmp_path, replace(INBOX, session_timeout_seconds=100)) as desk:
        done = desk.packet(await desk.upload("done", b"0123"), "done")
        old = desk.packet(await desk.create("old"), "old")
        await desk.send(old, 0, b"01", 4)
        desk.now += 60
        young = desk.packet(await desk.create("young"), "young")
        await desk.send(young, 0, b"01", 4)
        await desk.restart()
        desk.now += 60
        await desk.sessions.clean_up(desk.now)
        assert (desk.sessions.count, desk.spooled) == (1, [young.session_id])
        assert desk.sessions.counters.expired == 2
        assert (desk.inbox / "done").read_bytes() == b"0123"
        for packet in (done, old):
            assert answer(await refused(desk.sessions.close(packet))) == (500, NOT_FOUND, None)  # no tombstone
        await desk.send(young, 2, b"23", 4)


@story
async def test_a_session_whose_bytes_are_coming_is_left_alone(tmp_path: Path) -> None:
    async with Desk(tmp_path, replace(INBOX, session_timeout_seconds=100)) as desk:
        packet = desk.packet(await desk.create())
        body = Pieces(b"01", then="silence")
        fragment = asyncio.create_task(desk.sessions.fragment(packet, ContentRange(0, 3, 4), 4, body))
        await body.is_waiting.wait()
        desk.now += 1000
        await desk.sessions.clean_up(desk.now)
        assert desk.sessions.count == 1
        fragment.cancel()
        await asyncio.wait({fragment})


@story
async def test_d26_the_most_recent_sessions_above_the_limit_go_and_the_limit_itself_stays(tmp_path: Path) -> None:
    async with Desk(tmp_path, replace(INBOX, session_limit=3)) as desk:
        ids = []
        for number in range(5):
            desk.now += 1
            ids.append(await desk.create(f"{number}", user=User(name="ann")))
        for number in range(3):
            await desk.create(f"{number}", user=User(name="bob"))
        await desk.sessions.clean_up(desk.now)
        assert desk.sessions.count == 6
        for number, session_id in enumerate(ids):
            packet = desk.packet(session_id, str(number), user=User(name="ann"))
            if number < 3:
                assert (await desk.sessions.cancel(packet)).status == 200
            else:
                assert answer(await refused(desk.sessions.cancel(packet))) == (500, NOT_FOUND, None)


@story
async def test_a_session_that_is_just_being_removed_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Desk(tmp_path, replace(INBOX, session_limit=1)) as desk:
        await desk.create()
        desk.now += 1
        packet = desk.packet(await desk.create())
        storage = desk.sessions._storage
        remove, begun, may_go_on = storage.remove, threading.Event(), threading.Event()

        def slow(session_ids: Iterable[str]) -> None:
            begun.set()
            may_go_on.wait(10)
            remove(session_ids)

        monkeypatch.setattr(storage, "remove", slow)
        cleaning = asyncio.create_task(desk.sessions.clean_up(desk.now))
        await asyncio.to_thread(begun.wait, 10)
        try:
            assert answer(await refused(desk.send(packet, 0, b"0123", 4))) == (500, NOT_FOUND, None)
        finally:
            may_go_on.set()
            await cleaning
        assert (desk.sessions.count, desk.spooled, list(desk.inbox.iterdir())) == (1, [], [])


@story
async def test_without_the_limit_of_a_user_nothing_is_too_much(tmp_path: Path) -> None:
    async with Desk(tmp_path, replace(INBOX, session_limit=1, session_limit_enable=False)) as desk:
        for _ in range(5):
            await desk.create()
        await desk.sessions.clean_up(desk.now)
        assert desk.sessions.count == 5


@story
async def test_what_the_spool_has_of_no_session_goes_after_an_hour(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        desk.now = time.time()
        packet = desk.packet(await desk.create())
        await desk.send(packet, 0, b"01", 4)
        replies = desk.requests.parent / "Replies"
        for name in ("{OLD}", "{NEW}"):
            (desk.requests / name).mkdir()
            (desk.requests / name / "requestfile.bin").write_bytes(b"0123")
        (replies / "{OLD}").mkdir()
        (desk.requests / "probe-1").write_bytes(b"")
        for path in (desk.requests / "{OLD}", replies / "{OLD}", desk.requests / "probe-1"):
            os.utime(path, (desk.now - 3601, desk.now - 3601))
        os.utime(desk.requests / "{NEW}", (desk.now - 3500, desk.now - 3500))
        os.utime(desk.requests / packet.session_id, (desk.now - 9999, desk.now - 9999))
        await desk.restart()
        await desk.sessions.clean_up(desk.now)
        assert desk.spooled == sorted(["{NEW}", packet.session_id])
        assert list(replies.iterdir()) == []


@story
async def test_sessions_of_a_directory_that_is_not_configured_any_more_expire(tmp_path: Path) -> None:
    async with Desk(tmp_path) as desk:
        await desk.create()
        desk.directories = {"/other/": replace(INBOX, url_path="/other/")}
        await desk.restart()
        desk.now += 14 * DAY - 1
        await desk.sessions.clean_up(desk.now)
        assert desk.sessions.count == 1
        desk.now += 2 + DAY
        await desk.sessions.clean_up(desk.now)
        assert desk.sessions.count == 0


@story
async def test_a_pending_reply_expires_with_its_session(tmp_path: Path) -> None:
    hook = replace(INBOX, notification=Notification.BY_VALUE, session_timeout_seconds=100)
    application = Application(Outcome(status=200, has_reply=True), reply=b"thank you")
    async with Desk(tmp_path, hook, application=application) as desk:
        await desk.upload("a.bin", b"0123")
        desk.now += 101
        await desk.restart()
        await desk.sessions.clean_up(desk.now)
        assert list((desk.requests.parent / "Replies").iterdir()) == []
        assert desk.sessions.count == 0


@story
async def test_a_hundred_thousand_abandoned_sessions_are_cheap(tmp_path: Path) -> None:
    desk = Desk(tmp_path, replace(INBOX, session_limit_enable=False))
    desk.max_sessions = 200_000
    await desk.restart()
    async with desk:
        row = Session(
            session_id="", directory="/inbox/", path="inbox/a", url="u", user="ann", created_at=0.0, progressed_at=0.0
        )
        names = [f"{{{number:06}}}" for number in range(100_000)]
        rows = [_row(replace(row, session_id=name, offset=4)) for name in names]
        await desk.sessions._store._ask(lambda connection: connection.executemany(_INSERT, rows) and None)
        for name in names[:2000]:
            (desk.requests / name).mkdir()
            (desk.requests / name / "requestfile.bin").write_bytes(b"0123")
        made = time.monotonic()
        await desk.restart()
        restarted = time.monotonic()
        await desk.upload("a.bin", b"0123")
        uploaded = time.monotonic()
        await desk.sessions.clean_up(desk.now + 15 * DAY)
        cleaned = time.monotonic()
        assert (desk.sessions.count, desk.spooled) == (0, [])
        assert restarted - made < 20.0
        assert uploaded - restarted < 10.0
        assert cleaned - uploaded < 60.0
