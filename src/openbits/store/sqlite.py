"""The store in one SQLite file, `queue.db`, in a directory of the manager: jobs, their files, the event stream.

A commit is on the disk when it returns (WAL, synchronous FULL) and is whole or absent after a crash at any moment.
One thread at a time may commit (see `openbits.store.writer`); the reading functions may be called from any thread
and do not wait for a commit.

A start reads the heads of the jobs alone; `job` reads one whole, from the newest commit.

Damaged is what SQLite or the codec cannot read: the start that finds it, or the one after the run that found it, sets
it aside beside the new, empty store and `Loaded.was_damaged` names it (jobs.md §18, OPEN-66). `check` looks at
everything, beside the work, as that takes longer than the rest of a start; after a crash every page is looked at first.
A full disk, a read-only file system or a store of a newer OpenBITS is not damage: StoreError, nothing is touched.
"""

import contextlib
import errno
import itertools
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from openbits.core.model import File, Job, JobId, Secret
from openbits.failpoints import failpoint
from openbits.store import codec, place, schema
from openbits.store.changes import (
    AppendEvent,
    Change,
    ForgetJob,
    Loaded,
    SaveJob,
    StoreDamagedError,
    StoredEvent,
    StoreError,
    coalesce,
)

FILE_NAME = "queue.db"
KEPT_EVENTS = 10_000
"""At least so many of the newest events are kept; older ones go in batches of TRIM_EVENTS."""
TRIM_EVENTS = 1_000
LOCK_WAIT_SECONDS = 10.0
"""How long a lock of another program (somebody looks with the sqlite3 shell) is waited for."""
LOG_KEPT_BYTES = 16 << 20
"""A write-ahead log that grew beyond this is cut back after the next checkpoint."""

_HEADS = "SELECT job_id, owner_uid, state, priority, state_since, modified_at, wakes FROM jobs ORDER BY id"
_FIRST_ORPHAN = "SELECT min(job) FROM files WHERE job NOT IN (SELECT id FROM jobs)"
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NEXT_STEPS = {
    sqlite3.SQLITE_FULL: "free space on its file system",
    sqlite3.SQLITE_READONLY: "make the file and its file system writable",
    sqlite3.SQLITE_CANTOPEN: "check the permissions of its directory",
    sqlite3.SQLITE_BUSY: "end the program that holds a lock on it",
    sqlite3.SQLITE_IOERR: "check the disk and its free space",
}
"""What to do about a primary SQLite result code."""
_ERRNOS = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}


class Store:
    """An open store; `open_store` makes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._was_damaged: Path | None = None
        self._damage = ""
        self._events_lock = threading.Lock()
        self._first_seq = self._last_seq = 0
        self._has_erased = False
        try:
            self._open()
        except StoreDamagedError as damage:
            self._start_empty(damage)

    @property
    def first_seq(self) -> int:
        """Number of the oldest event that is kept: a subscriber that resumes further back has missed some."""
        return self._first_seq

    def load(self) -> Loaded:
        """Read the heads of the whole queue, once, before the first commit; what cannot be read is set aside.

        Raises StoreError if the disk fails.
        """
        try:
            with self._read(self._jobs) as reading:
                heads = [codec.head_from_row(row) for row in reading.execute(_HEADS)]
        except StoreDamagedError as damage:
            self.close()
            self._start_empty(damage)
            heads = []
        return Loaded(heads=heads, last_seq=self._last_seq, was_damaged=self._was_damaged, damage=self._damage)

    def check(self) -> None:
        """Look for damage that nobody has come across; from any thread, while others read and write.

        Raises StoreDamagedError, and the next start sets the store aside; StoreError if the disk fails.
        """
        with contextlib.ExitStack() as opened:
            with _told("open", self._path):
                connection = _connect(self._path, opened)
            with self._read(connection) as reading:
                _check_pages(reading, self._path)
                (orphan,) = reading.execute(_FIRST_ORPHAN).fetchone()
                if orphan is not None:
                    raise ValueError(f"there are files, but no job {orphan}")
                for row in reading.execute("SELECT * FROM events"):
                    codec.event_from_row(row)

    def commit(self, changes: Sequence[Change]) -> None:
        """Carry out all changes or none of them; they are on the disk when this returns.

        Raises StoreError: no space, input/output error, or changes that do not fit what is stored.
        """
        first_seq, last_seq = self._first_seq, self._last_seq
        with self._noting_damage(), _told("write", self._path), self._transaction():
            failpoint("store.begun")
            for change in coalesce(changes):
                match change:
                    case ForgetJob(job_id):
                        self._forget(job_id)
                    case SaveJob(before=before, after=after):
                        self._save(before, after)
                        failpoint("store.job-saved")
                    case AppendEvent(event):
                        last_seq = self._append(event, last_seq)
            if last_seq - first_seq >= KEPT_EVENTS + TRIM_EVENTS:
                first_seq = last_seq - KEPT_EVENTS + 1
                self._writing.execute("DELETE FROM events WHERE seq < ?", (first_seq,))
        self._first_seq, self._last_seq = first_seq, last_seq
        if self._has_erased:
            self._empty_log()

    def job(self, job_id: JobId) -> Job:
        """The job with its files as the newest commit left it; one thread reads jobs.

        Raises StoreError: it is not there, it is damaged, or the disk fails.
        """
        with self._read(self._jobs) as reading:
            return _read_job(reading, job_id)

    def jobs_of_other_keys(self, key_id: str) -> list[JobId]:
        """The jobs with secrets that are not under this key, oldest first."""
        query = "SELECT DISTINCT jobs.job_id FROM secrets JOIN jobs ON secrets.job = jobs.id WHERE key_id <> ?"
        with self._read(self._jobs) as reading:
            return [JobId(job_id) for (job_id,) in reading.execute(f"{query} ORDER BY jobs.id", (key_id,))]

    def events_after(self, seq: int, owner_uid: int | None, limit: int) -> list[StoredEvent]:
        """The events after number `seq`, oldest first: of one owner's jobs or of all (None); -1 is no limit."""
        return self._read_events(
            "SELECT * FROM events WHERE seq > :seq AND (:owner_uid IS NULL OR owner_uid = :owner_uid) "
            "ORDER BY seq LIMIT :limit",
            {"seq": seq, "owner_uid": owner_uid, "limit": limit},
        )

    def close(self) -> None:
        """Close the file; the writer is closed before."""
        for connection in (self._jobs, self._events, self._writing):
            connection.close()

    def _open(self) -> None:
        with _told("open", self._path), contextlib.ExitStack() as opened:
            place.make_private(self._path)
            self._has_erased = place.has_log(self._path)  # for all we know: a crash may have come before it was emptied
            if noted := place.noted_damage(self._path):
                raise StoreDamagedError(noted)
            self._writing = _connect(self._path, opened)
            _lift(self._writing, self._path, is_suspect=self._has_erased)
            self._jobs, self._events = (_connect(self._path, opened) for _ in range(2))
            for reading in (self._jobs, self._events):
                reading.execute("PRAGMA query_only = ON")
            oldest, newest = self._events.execute(
                "SELECT (SELECT min(seq) FROM events), coalesce(max(seq), 0) FROM sqlite_sequence"
            ).fetchone()
            self._last_seq = newest
            self._first_seq = newest + 1 if oldest is None else oldest
            opened.pop_all()  # nothing went wrong: they stay open

    def _start_empty(self, damage: StoreDamagedError) -> None:
        self._damage = str(damage)
        with _told("set aside", self._path):
            self._was_damaged = place.set_aside(self._path, datetime.now(UTC))
        self._open()

    def _save(self, before: Job | None, after: Job) -> None:
        if before is None:
            job = self._writing.execute(
                "INSERT INTO jobs (job_id, owner_uid, state, priority, state_since, modified_at, wakes, document) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                codec.job_to_row(after),
            ).lastrowid
        else:
            found = self._writing.execute("SELECT id FROM jobs WHERE job_id = ?", (str(after.job_id),)).fetchone()
            if found is None:
                raise StoreError(f"cannot save job {after.job_id}: it is not in the store {self._path}")
            (job,) = found
            if not codec.is_same_row(before, after):
                self._writing.execute(
                    "UPDATE jobs SET (job_id, owner_uid, state, priority, state_since, modified_at, wakes, document) "
                    "= (?, ?, ?, ?, ?, ?, ?, ?) WHERE id = ?",
                    (*codec.job_to_row(after), job),
                )
        self._save_files(job, before.files if before else (), after.files)
        self._save_secrets(job, before.secrets if before else (), after.secrets)

    def _save_files(self, job: int | None, before: Sequence[File], after: Sequence[File]) -> None:
        """Write the files that are other objects than before: values are frozen, so the same object is unchanged."""
        pairs = enumerate(itertools.zip_longest(before, after))
        changed = [(index, new) for index, (old, new) in pairs if new is not old]
        self._writing.executemany(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
            [(job, index, *codec.file_to_row(file)) for index, file in changed if file is not None],
        )
        if len(after) < len(before):
            self._writing.execute("DELETE FROM files WHERE job = ? AND file_index >= ?", (job, len(after)))

    def _save_secrets(self, job: int | None, before: Sequence[Secret], after: Sequence[Secret]) -> None:
        if after is before:
            return
        gone = set(before) - set(after)
        if gone:
            self._has_erased = True
            self._writing.executemany(
                "DELETE FROM secrets WHERE job = ? AND slot = ?", [(job, secret.slot) for secret in gone]
            )
        self._writing.executemany(
            "INSERT INTO secrets VALUES (?, ?, ?, ?)",
            [(job, secret.slot, secret.key_id, secret.sealed) for secret in after if secret not in before],
        )

    def _forget(self, job_id: JobId) -> None:
        of_job = "WHERE job = (SELECT id FROM jobs WHERE job_id = ?)"
        if self._writing.execute(f"DELETE FROM secrets {of_job}", (str(job_id),)).rowcount:  # noqa: S608  # our text
            self._has_erased = True
        self._writing.execute("DELETE FROM jobs WHERE job_id = ?", (str(job_id),))

    def _empty_log(self) -> None:
        """Erased secrets are gone from the pages (`secure_delete`); the log, which has old pages, begins anew.

        Where a reader or the disk is in the way it is done after the next commit: this one is on the disk already.
        """
        with contextlib.suppress(sqlite3.Error):
            is_busy, _, _ = self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._has_erased = bool(is_busy)

    def _append(self, event: StoredEvent, last_seq: int) -> int:
        if event.seq != last_seq + 1:
            raise StoreError(f"cannot append event {event.seq}: the last one in {self._path} is {last_seq}")
        self._writing.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", codec.event_to_row(event))
        return event.seq

    def _read_events(self, query: str, parameters: dict[str, object]) -> list[StoredEvent]:
        with self._events_lock, self._read(self._events) as reading:
            return [codec.event_from_row(row) for row in reading.execute(query, parameters)]

    @contextlib.contextmanager
    def _read(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        """A reading connection; a row that the codec cannot read is damage like a page that SQLite cannot read."""
        with self._noting_damage(), _told("read", self._path):
            connection.execute("BEGIN")  # all that is read together is of one commit
            try:
                yield connection
            except (ValueError, TypeError, AttributeError) as error:
                raise _damaged("read", self._path, error) from error
            finally:
                connection.rollback()

    @contextlib.contextmanager
    def _noting_damage(self) -> Iterator[None]:
        """What is found damaged now is set aside by the next start, which may not come across it by itself."""
        try:
            yield
        except StoreDamagedError as damage:
            place.note_damage(self._path, str(damage))
            raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writing.execute("BEGIN IMMEDIATE")
        try:
            yield
            failpoint("store.committing")
            self._writing.execute("COMMIT")
            failpoint("store.committed")
        except BaseException:
            if self._writing.in_transaction:  # SQLite has rolled back by itself when the disk is full
                self._writing.execute("ROLLBACK")
            raise


def open_store(directory: Path) -> Store:
    """Open the store of the directory, make it if there is none, lift an older schema.

    Raises StoreError: directory of a wrong owner or mode, store of a newer OpenBITS, disk full, input/output error.
    """
    place.check_directory(directory)
    return Store(directory / FILE_NAME)


def _read_job(reading: sqlite3.Connection, job_id: JobId) -> Job:
    found = reading.execute("SELECT id, document FROM jobs WHERE job_id = ?", (str(job_id),)).fetchone()
    if found is None:
        raise StoreError(f"cannot read job {job_id}: it is not in the store; start the service again")
    number, document = found
    files: list[File] = []
    for index, *row in reading.execute(
        "SELECT file_index, transferred_bytes, is_transferred, is_published, document FROM files "
        "WHERE job = ? ORDER BY file_index",
        (number,),
    ):
        if index != len(files):
            raise ValueError(f"file {len(files)} of job {job_id} is missing")
        files.append(codec.file_from_row(tuple(row)))
    rows = reading.execute("SELECT slot, key_id, sealed FROM secrets WHERE job = ? ORDER BY slot", (number,))
    secrets = [Secret(slot=slot, key_id=key_id, sealed=sealed) for slot, key_id, sealed in rows]
    return codec.job_from_document(str(job_id), document, files, secrets)


def _connect(path: Path, opened: contextlib.ExitStack) -> sqlite3.Connection:
    """A connection in autocommit mode, for whichever thread holds it at the moment; `opened` will close it."""
    connection = sqlite3.connect(path, timeout=LOCK_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    opened.callback(connection.close)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten (identity.md S9)
    connection.execute("PRAGMA temp_store = MEMORY")  # the manager can write nowhere else
    connection.execute(f"PRAGMA journal_size_limit = {LOG_KEPT_BYTES}")
    return connection


def _lift(connection: sqlite3.Connection, path: Path, *, is_suspect: bool) -> None:
    """Lift an older schema; refuse what is no store, a newer one, or damaged as far as is looked at here."""
    number, known = schema.version(connection), len(schema.STEPS)
    if not schema.is_ours(connection):
        raise StoreDamagedError(f"cannot open the store {path}: not a store of OpenBITS")
    if number > known:
        raise StoreError(
            f"cannot open the store {path}: the store was written by a newer OpenBITS (schema {number}, this one knows "
            f"{known}); install that version or move {path.parent} aside"
        )
    if is_suspect or 0 < number < known:
        _check_pages(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    schema.lift(connection)
    if not schema.is_whole(connection):
        raise _damaged("open", path, "a table is missing")


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged("read", path, " ".join(verdict.split()))


@contextlib.contextmanager
def _told(verb: str, path: Path) -> Iterator[None]:
    """Errors of SQLite and of the system as StoreError with the next step."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None and isinstance(error, sqlite3.OperationalError):  # the module itself: text is not UTF-8
            raise _damaged(verb, path, error) from error
        primary = (code or 0) & 0xFF
        if primary in _DAMAGE:
            raise _damaged(verb, path, error) from error
        next_step = _NEXT_STEPS.get(primary, "see what the service logged before")
        then = "the service then goes on by itself" if verb == "write" else "then start the service again"
        text = f"cannot {verb} the store {path}: {error}; {next_step}, {then}"
        raise StoreError(text, _ERRNOS.get(primary, errno.EIO)) from error
    except OSError as error:
        text = f"cannot {verb} the store {path}: {error.strerror}; check its directory"
        raise StoreError(text, error.errno or errno.EIO) from error


def _damaged(verb: str, path: Path, reason: object) -> StoreDamagedError:
    return StoreDamagedError(f"cannot {verb} the store {path}: it is damaged ({reason}); the next start sets it aside")
