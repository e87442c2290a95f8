"""The session records in one SQLite file of the spool: one program, one thread that reads and writes, many who wait.

What was asked for while a commit ran becomes the next one, as a single transaction: one sync serves everybody who
waits. A commit survives the death of the process (WAL); a power cut only if somebody in it asked for that
(`is_durable`): synchronous is NORMAL for the many commits of fragments, which cost no sync, and FULL for what peers
rely on: that bytes are on the disk, that an upload is complete, what an application answered. A record that is too old
costs a client some bytes sent again, nothing more; a later durable commit makes all the earlier ones durable.

Where the machine was started anew since, only the durable bytes of a session count (§6); that is settled once, when the
store is opened.
"""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Final, TypeVar

from openbits.failpoints import failpoint
from openbits.server.model import Session, Stage

TOMBSTONE_SECONDS: Final = 3600
MAX_TOMBSTONES: Final = 10_000
"""D13."""
BATCH: Final = 500
"""Records that one step of a clean-up looks at."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_VERSION: Final = 1
_COLUMNS: Final = tuple(one.name for one in fields(Session))
_SCHEMA: Final = """
CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY, directory TEXT NOT NULL, path TEXT NOT NULL, url TEXT NOT NULL, user TEXT NOT NULL,
    fingerprint TEXT NOT NULL, stage TEXT NOT NULL, created_at REAL NOT NULL, progressed_at REAL NOT NULL,
    total INTEGER, offset INTEGER NOT NULL, durable INTEGER NOT NULL, is_complete INTEGER NOT NULL,
    is_published INTEGER NOT NULL, has_to_be_copied INTEGER NOT NULL, application_status INTEGER NOT NULL,
    application_code INTEGER NOT NULL, reply_url TEXT NOT NULL, has_reply_file INTEGER NOT NULL, host_id TEXT NOT NULL,
    sha256 TEXT NOT NULL
);
CREATE INDEX sessions_of_user ON sessions (directory, user, created_at);
CREATE INDEX sessions_by_progress ON sessions (directory, progressed_at);
CREATE TABLE tombstones (
    session_id TEXT PRIMARY KEY, directory TEXT NOT NULL, path TEXT NOT NULL, user TEXT NOT NULL,
    fingerprint TEXT NOT NULL, ended_at REAL NOT NULL
);
CREATE INDEX tombstones_by_age ON tombstones (ended_at);
CREATE TABLE boot (boot_id TEXT NOT NULL);
"""
_INSERT: Final = (
    f"INSERT INTO sessions ({', '.join(_COLUMNS)}) "  # noqa: S608  # our names
    f"VALUES ({', '.join('?' * len(_COLUMNS))})"
)
_CHANGES: Final = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
_SAVE: Final = f"{_INSERT} ON CONFLICT (session_id) DO UPDATE SET {_CHANGES}"
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM sessions"  # noqa: S608  # our names
_row: Final[Callable[[Session], tuple[object, ...]]] = attrgetter(*_COLUMNS)
_NEXT_STEPS: Final = {
    sqlite3.SQLITE_FULL: "free space on its file system",
    sqlite3.SQLITE_READONLY: "make the file and its file system writable",
    sqlite3.SQLITE_CANTOPEN: "check the permissions of its directory",
    sqlite3.SQLITE_BUSY: "another bits-server uses this spool: give each server its own, or end the other one",
    sqlite3.SQLITE_CORRUPT: "move the file away: clients begin their uploads anew",
    sqlite3.SQLITE_NOTADB: "move the file away: clients begin their uploads anew",
}

T = TypeVar("T")
Act = Callable[[sqlite3.Connection], T]


class StoreError(Exception):
    """The records cannot be read or written; the text names the file and the next step. `is_full`: no space."""

    def __init__(self, text: str, *, is_full: bool = False) -> None:
        super().__init__(text)
        self.is_full = is_full


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Whose ended session it was (D13)."""

    directory: str
    path: str
    user: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What Create-Session has to respect; 0: no limit."""

    sessions_of_user: int
    sessions_in_all: int


class Store:
    """The open store; the constructor raises StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = self._opened()
        counts = "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM tombstones)"
        self._count: int
        self._tombstones: int
        self._count, self._tombstones = self._connection.execute(counts).fetchone()
        self._waiting: list[_Asked] = []
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="session-store", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """How many sessions there are."""
        return self._count

    async def create(self, session: Session, limits: Limits) -> bool:
        """False if the user or the server has too many sessions."""

        def act(connection: sqlite3.Connection) -> bool:
            if 0 < limits.sessions_in_all <= self._count:
                return False
            of_user = (session.directory, session.user)
            if limits.sessions_of_user and _count_of_user(connection, of_user) >= limits.sessions_of_user:
                return False
            connection.execute(_INSERT, _row(session))
            self._count += 1
            return True

        return await self._ask(act)

    async def load(self, session_id: str) -> Session | None:
        """The record, if there is one."""

        def act(connection: sqlite3.Connection) -> Session | None:
            row = connection.execute(f"{_SELECT} WHERE session_id = ?", (session_id,)).fetchone()
            return _session(row) if row else None

        return await self._ask(act)

    async def save(self, session: Session, *, is_durable: bool) -> None:
        """Write the record of a session that is there."""
        await self._ask(lambda connection: _execute(connection, _SAVE, _row(session)), is_durable=is_durable)

    async def admit(self, session: Session, quota_bytes: int) -> bool:
        """Write the record with its total, unless the totals of this user's uploads would exceed the quota."""

        def act(connection: sqlite3.Connection) -> bool:
            if quota_bytes:
                (others,) = connection.execute(
                    "SELECT coalesce(sum(total), 0) FROM sessions "
                    "WHERE directory = ? AND user = ? AND session_id <> ? AND NOT is_published "
                    "AND (stage <> ? OR has_to_be_copied)",
                    (session.directory, session.user, session.session_id, Stage.WAIT_FOR_CLOSE),
                ).fetchone()
                if others + (session.total or 0) > quota_bytes:
                    return False
            connection.execute(_SAVE, _row(session))
            return True

        return await self._ask(act)

    async def end(self, session: Session, now: float) -> None:
        """Remove the record of a session that its client ended, and leave a tombstone."""

        def act(connection: sqlite3.Connection) -> None:
            if _delete(connection, session.session_id):
                self._count -= 1
                self._bury(connection, session, now)

        await self._ask(act)

    async def forget(self, session_ids: Sequence[str]) -> None:
        """Remove records that nobody will ask for again."""

        def act(connection: sqlite3.Connection) -> None:
            self._count -= sum(_delete(connection, session_id) for session_id in session_ids)

        await self._ask(act)

    async def tombstone(self, session_id: str, now: float) -> Tombstone | None:
        """Of a session that was closed or cancelled within the last hour."""

        def act(connection: sqlite3.Connection) -> Tombstone | None:
            row = connection.execute(
                "SELECT directory, path, user, fingerprint FROM tombstones WHERE session_id = ? AND ended_at >= ?",
                (session_id, now - TOMBSTONE_SECONDS),
            ).fetchone()
            return Tombstone(*row) if row else None

        return await self._ask(act)

    async def expired(self, directory: str, before: float) -> list[str]:
        """Some sessions of the directory without progress since then, the oldest first."""
        query = (
            "SELECT session_id FROM sessions WHERE directory = ? AND progressed_at < ? ORDER BY progressed_at LIMIT ?"
        )
        return await self._ask(lambda connection: _names(connection, query, (directory, before, BATCH)))

    async def excess(self, directory: str, limit: int) -> list[str]:
        """Some of the surplus: the most recent sessions of users of the directory who have more than `limit`."""

        def act(connection: sqlite3.Connection) -> list[str]:
            found: list[str] = []
            users = "SELECT user, count(*) FROM sessions WHERE directory = ? GROUP BY user HAVING count(*) > ?"
            for user, count in connection.execute(users, (directory, limit)).fetchall():
                found += _names(
                    connection,
                    "SELECT session_id FROM sessions WHERE directory = ? AND user = ? "
                    "ORDER BY created_at DESC, rowid DESC LIMIT ?",
                    (directory, user, min(count - limit, BATCH - len(found))),
                )
            return found

        return await self._ask(act)

    async def of_directory(self, directory: str) -> list[str]:
        """Some sessions of the directory."""
        query = "SELECT session_id FROM sessions WHERE directory = ? LIMIT ?"
        return await self._ask(lambda connection: _names(connection, query, (directory, BATCH)))

    async def directories(self) -> set[str]:
        """Those that have sessions, configured or not."""
        return set(await self._ask(lambda connection: _names(connection, "SELECT DISTINCT directory FROM sessions")))

    async def unknown(self, session_ids: Sequence[str]) -> list[str]:
        """Those of them that have no record."""

        def act(connection: sqlite3.Connection) -> list[str]:
            query = "SELECT 1 FROM sessions WHERE session_id = ?"
            return [one for one in session_ids if connection.execute(query, (one,)).fetchone() is None]

        return await self._ask(act)

    async def forget_tombstones(self, now: float) -> None:
        """Those that are older than an hour."""
        query = "DELETE FROM tombstones WHERE ended_at < ?"

        def act(connection: sqlite3.Connection) -> None:
            self._tombstones -= connection.execute(query, (now - TOMBSTONE_SECONDS,)).rowcount

        await self._ask(act)

    def close(self) -> None:
        """Do what was asked, then end. Twice is no error."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        self._connection.close()

    def _bury(self, connection: sqlite3.Connection, session: Session, now: float) -> None:
        connection.execute(
            "INSERT INTO tombstones VALUES (?, ?, ?, ?, ?, ?)",
            (session.session_id, session.directory, session.path, session.user, session.fingerprint, now),
        )
        self._tombstones += 1
        if self._tombstones > MAX_TOMBSTONES:
            oldest = "SELECT session_id FROM tombstones ORDER BY ended_at, rowid LIMIT 1"
            connection.execute(f"DELETE FROM tombstones WHERE session_id = ({oldest})")  # noqa: S608  # our text
            self._tombstones -= 1

    async def _ask(self, act: Act[T], *, is_durable: bool = False) -> T:
        """Have the thread do it; it is committed when this returns. Raises StoreError."""
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()  # whoever stops waiting has asked all the same

        def settle(connection: sqlite3.Connection) -> Callable[[], None]:
            result = act(connection)
            return lambda: answer.set_result(result)

        with self._changed:
            if self._is_closed:
                raise StoreError(f"cannot use {self._path}: the server is ending; try again later")
            self._waiting.append(_Asked(act=settle, fail=answer.set_exception, is_durable=is_durable))
            self._changed.notify()
        return await asyncio.wrap_future(answer)

    def _run(self) -> None:
        while batch := self._next_batch():
            counts = self._count, self._tombstones
            try:
                answers = self._commit(batch)
            except Exception as error:  # noqa: BLE001  # also a broken invariant must reach those who wait
                self._count, self._tombstones = counts
                for asked in batch:
                    asked.fail(self._told(error))
            else:
                for answer in answers:
                    answer()

    def _next_batch(self) -> list["_Asked"]:
        """Everything that waits; empty when closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            batch, self._waiting = self._waiting, []
        return batch

    def _commit(self, batch: Sequence["_Asked"]) -> list[Callable[[], None]]:
        is_durable = any(asked.is_durable for asked in batch)
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
        self._connection.execute("BEGIN")
        try:
            answers = [asked.act(self._connection) for asked in batch]
            failpoint("server.committing")
            self._connection.execute("COMMIT")
            failpoint("server.committed")
        except BaseException:
            if self._connection.in_transaction:  # SQLite has rolled back by itself when the disk is full
                self._connection.execute("ROLLBACK")
            raise
        return answers

    def _opened(self) -> sqlite3.Connection:
        """Raises StoreError."""
        connection = None
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(self._path, timeout=0.0, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # one server per spool
            is_new = self._is_new(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("BEGIN IMMEDIATE")
            if is_new:
                _make_tables(connection)
            _count_boot(connection)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise self._told(error) from error
        return connection

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, _VERSION}:
            connection.close()
            raise StoreError(f"cannot open {self._path}: it is of a newer OpenBITS; start that, or use another spool")
        return bool(version == 0)

    def _told(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error | OSError):
            return error
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CANTOPEN) & 0xFF
        step = _NEXT_STEPS.get(code, "check the disk and its free space")
        return StoreError(f"cannot use {self._path}: {error}; {step}", is_full=code == sqlite3.SQLITE_FULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    act: Callable[[sqlite3.Connection], Callable[[], None]]
    fail: Callable[[BaseException], None]
    is_durable: bool


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in filter(str.strip, _SCHEMA.split(";")):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _count_boot(connection: sqlite3.Connection) -> None:
    """After a start of the machine the durable bytes count; no application is being called any more."""
    boot_id = _BOOT_ID.read_text().strip()
    if connection.execute("SELECT boot_id FROM boot").fetchone() != (boot_id,):
        connection.execute("UPDATE sessions SET offset = durable WHERE offset > durable")
        connection.execute("DELETE FROM boot")
        connection.execute("INSERT INTO boot VALUES (?)", (boot_id,))
    connection.execute("UPDATE sessions SET stage = ? WHERE stage = ?", (Stage.RECEIVING, Stage.NOTIFY))


def _count_of_user(connection: sqlite3.Connection, of_user: tuple[str, str]) -> int:
    (count,) = connection.execute("SELECT count(*) FROM sessions WHERE directory = ? AND user = ?", of_user).fetchone()
    return int(count)


def _delete(connection: sqlite3.Connection, session_id: str) -> int:
    return connection.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,)).rowcount


def _execute(connection: sqlite3.Connection, query: str, values: Sequence[object]) -> None:
    connection.execute(query, values)


def _names(connection: sqlite3.Connection, query: str, values: Sequence[object] = ()) -> list[str]:
    return [name for (name,) in connection.execute(query, values)]


_FLAGS: Final = frozenset({"is_complete", "is_published", "has_to_be_copied", "has_reply_file"})


def _session(row: Sequence[object]) -> Session:
    values = dict(zip(_COLUMNS, row, strict=True))
    values |= {name: bool(values[name]) for name in _FLAGS}
    return Session(**{**values, "stage": Stage(values["stage"])})  # type: ignore[arg-type]  # the schema has the types
