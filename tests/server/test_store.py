"""The records of sessions: limits, quota, tombstones, a start after a crash and after a power cut, damage."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.uploading import story

from openbits.server.model import Session, Stage
from openbits.server.store import Limits, Store, StoreError

NO_LIMITS = Limits(sessions_of_user=0, sessions_in_all=0)
FULL = Session(
    session_id="{1}",
    directory="/inbox/",
    path="inbox/a.bin",
    url="https://h/inbox/a.bin?x",
    user="ann",
    fingerprint="f",
    stage=Stage.WAIT_FOR_CLOSE,
    created_at=1.5,
    progressed_at=2.5,
    total=2**63 - 1,
    offset=2**63 - 1,
    durable=2**62,
    is_complete=True,
    is_published=True,
    has_to_be_copied=True,
    application_status=200,
    application_code=0xFFFFFFFF,
    reply_url="https://h/r",
    has_reply_file=True,
    host_id="n",
    sha256="00",
)
PLAIN = Session(session_id="{2}", directory="/inbox/", path="a", url="u", user="ann", created_at=1.0, progressed_at=1.0)


@asynccontextmanager
async def opened(base: Path) -> AsyncIterator[Store]:
    store = Store(base / "sessions.db")
    try:
        yield store
    finally:
        store.close()


@pytest.mark.parametrize("session", [FULL, PLAIN], ids=["all-fields", "new"])
@story
async def test_a_session_comes_back_as_it_was_saved(tmp_path: Path, session: Session) -> None:
    async with opened(tmp_path) as store:
        assert await store.create(session, NO_LIMITS)
        changed = replace(session, offset=7, reply_url="other")
        await store.save(changed, is_durable=True)
    async with opened(tmp_path) as store:
        assert await store.load(session.session_id) == changed
        assert await store.load("{unknown}") is None
        assert store.count == 1


@story
async def test_two_sessions_never_have_one_id(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create(PLAIN, NO_LIMITS)
        with pytest.raises(StoreError):
            await store.create(replace(PLAIN, user="bob"), NO_LIMITS)
        assert store.count == 1
        assert await store.load(PLAIN.session_id) == PLAIN


@story
async def test_d26_limits_count_sessions_of_the_user_in_the_directory_and_of_all(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        limits = Limits(sessions_of_user=2, sessions_in_all=4)
        for number, (directory, user) in enumerate(
            [("/inbox/", "ann"), ("/inbox/", "ann"), ("/other/", "ann"), ("/inbox/", "bob")]
        ):
            new = replace(PLAIN, session_id=f"{{{number}}}", directory=directory, user=user)
            assert await store.create(new, limits)
        assert not await store.create(replace(PLAIN, session_id="{9}", user="eve"), limits)  # four in all
        await store.forget(["{3}"])
        assert not await store.create(replace(PLAIN, session_id="{9}"), limits)  # two of ann
        assert await store.create(replace(PLAIN, session_id="{9}", user="eve"), limits)


@story
async def test_f10_the_quota_counts_totals_of_what_the_user_has_in_the_spool(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        rows = [
            replace(PLAIN, session_id="{a}", total=50),
            replace(PLAIN, session_id="{g}", total=10, stage=Stage.WAIT_FOR_CLOSE, has_to_be_copied=True),
            replace(PLAIN, session_id="{b}", total=1000, is_published=True),
            replace(PLAIN, session_id="{c}", total=1000, user="bob"),
            replace(PLAIN, session_id="{d}", total=1000, directory="/other/"),
            replace(PLAIN, session_id="{f}", total=1000, stage=Stage.WAIT_FOR_CLOSE),
            replace(PLAIN, session_id="{e}"),
        ]
        for row in rows:
            await store.create(row, NO_LIMITS)
        assert not await store.admit(replace(rows[-1], total=41), 100)
        assert await store.load("{e}") == rows[-1]
        assert await store.admit(replace(rows[-1], total=40), 100)
        assert await store.admit(replace(rows[-1], total=40), 100)  # its own total counts once
        assert await store.load("{e}") == replace(rows[-1], total=40)


@story
async def test_d13_tombstones_last_an_hour(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create(FULL, NO_LIMITS)
        await store.end(FULL, 1000.0)
        assert await store.load("{1}") is None
        found = await store.tombstone("{1}", 1000.0 + 3600)
        assert found is not None
        assert (found.directory, found.path, found.user, found.fingerprint) == ("/inbox/", "inbox/a.bin", "ann", "f")
        assert await store.tombstone("{1}", 1000.0 + 3601) is None
        await store.forget_tombstones(1000.0 + 3601)
        assert await store.tombstone("{1}", 1000.0) is None


@story
async def test_d13_there_are_at_most_ten_thousand_tombstones_and_the_oldest_go(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        rows = [replace(PLAIN, session_id=f"{{{number}}}") for number in range(10_002)]
        await asyncio.gather(*(store.create(row, NO_LIMITS) for row in rows))
        await asyncio.gather(*(store.end(row, number / 10) for number, row in enumerate(rows)))
        known = [await store.tombstone(f"{{{number}}}", 1001.0) is not None for number in (0, 1, 2, 10_001)]
        assert known == [False, False, True, True]


@story
async def test_s6_after_a_crash_of_the_server_what_was_written_counts(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create(replace(PLAIN, offset=70, durable=30), NO_LIMITS)
    async with opened(tmp_path) as store:
        assert await store.load("{2}") == replace(PLAIN, offset=70, durable=30)


@story
async def test_s6_after_a_start_of_the_machine_what_was_synced_counts(tmp_path: Path) -> None:
    whole = replace(PLAIN, session_id="{w}", offset=70, durable=70, is_complete=True)
    async with opened(tmp_path) as store:
        await store.create(replace(PLAIN, offset=70, durable=30), NO_LIMITS)
        await store.create(whole, NO_LIMITS)
    with closing(sqlite3.connect(tmp_path / "sessions.db")) as connection:
        connection.execute("UPDATE boot SET boot_id = 'another'")
        connection.commit()
    async with opened(tmp_path) as store:
        assert await store.load("{2}") == replace(PLAIN, offset=30, durable=30)
        assert await store.load("{w}") == whole
        await store.save(replace(PLAIN, offset=70, durable=30), is_durable=False)
    async with opened(tmp_path) as store:  # once per start of the machine
        assert await store.load("{2}") == replace(PLAIN, offset=70, durable=30)


@story
async def test_s5_3_nobody_is_calling_an_application_after_a_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create(replace(PLAIN, stage=Stage.NOTIFY, is_complete=True), NO_LIMITS)
    async with opened(tmp_path) as store:
        assert await store.load("{2}") == replace(PLAIN, is_complete=True)


@story
async def test_one_spool_belongs_to_one_server(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(StoreError, match=r"sessions\.db.*another bits-server uses this spool"):
            Store(tmp_path / "sessions.db")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param("PRAGMA user_version = 99", "newer OpenBITS", id="newer"),
        pytest.param(None, "move the file away", id="no-database"),
    ],
)
def test_what_cannot_be_opened_is_named_with_the_next_step(tmp_path: Path, damage: str | None, words: str) -> None:
    path = tmp_path / "sessions.db"
    if damage is None:
        path.write_bytes(b"no database, but long enough to be looked at" * 100)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(damage)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=words) as caught:
        Store(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


@story
async def test_a_closed_store_says_so_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        pass
    with pytest.raises(StoreError, match="the server is ending"):
        await store.load("{1}")
    assert (tmp_path / "sessions.db").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["sessions.db"]  # noqa: PTH208  # the log is gone after an end in order


@story
async def test_one_failure_does_not_end_the_store(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(StoreError):
            await store.save(replace(PLAIN, user=None), is_durable=False)  # type: ignore[arg-type]  # NOT NULL
        await store.create(PLAIN, NO_LIMITS)
        assert await store.load("{2}") == PLAIN


@story
async def test_what_is_in_one_transaction_with_a_failure_fails_and_does_not_count(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        bad = replace(PLAIN, session_id="{bad}", user=None)  # type: ignore[arg-type]  # NOT NULL
        with store._changed:  # so that the thread takes both at once
            both = [
                asyncio.create_task(store.create(PLAIN, NO_LIMITS)),
                asyncio.create_task(store.save(bad, is_durable=False)),
            ]
            await asyncio.sleep(0)
        results = await asyncio.gather(*both, return_exceptions=True)
        assert [type(result) for result in results] == [StoreError, StoreError]
        assert (store.count, await store.load("{2}")) == (0, None)
