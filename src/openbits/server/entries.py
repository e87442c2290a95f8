"""Sessions that somebody asks for, or whose bytes are on their way to the disk; requests of one session take turns.

What an entry says is newer than the record in the store; when nobody needs it any more the record alone remains.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, TypeVar

from openbits.server.model import RefusedError, Session, unknown_session
from openbits.server.receiving import Reading, SpoolFile
from openbits.server.storage import Storage
from openbits.server.store import Store, StoreError

T = TypeVar("T")

THREADS: Final = 16
"""For what may wait for the disk."""
PATIENCE_SECONDS: Final = 30.0
"""How long a request waits for an earlier one of its session (§5.1 step 11, D9)."""
STALL_SECONDS: Final = 2.0
"""A body of which nothing came for so long is given up when a newer request of its session waits."""
RETRY_AFTER_SECONDS: Final = 30

_log = logging.getLogger(__name__)


class Entry:
    """The session, its open file and whose turn it is."""

    def __init__(self) -> None:
        self.session: Session | None = None
        """None until it is read from the store, or there is none."""
        self.file: SpoolFile | None = None
        self.is_ended = False
        """The record is being removed, or is gone; nothing may be saved any more."""
        self.claims = 0
        """Requests that are being answered or wait."""
        self.reading: Reading | None = None
        self._turn = asyncio.Lock()

    @property
    def known(self) -> Session:
        """The session, for whoever has its turn."""
        if self.session is None:
            raise LookupError("the session was not read yet")
        return self.session

    @property
    def is_idle(self) -> bool:
        """Nobody needs it."""
        return self.claims == 0 and (self.file is None or not self.file.is_busy)

    @asynccontextmanager
    async def turn(self, patience_seconds: float, stall_seconds: float) -> AsyncIterator[Session]:
        """Wait for the earlier requests. Raises RefusedError: 503, or the session was ended meanwhile."""
        if self.claims > 1:
            await self._wait(patience_seconds, stall_seconds)
        else:
            await self._turn.acquire()
        try:
            if self.is_ended:
                raise unknown_session(self.known.session_id)
            yield self.known
        finally:
            self.reading = None
            self._turn.release()

    async def _wait(self, patience_seconds: float, stall_seconds: float) -> None:
        """Have the turn when this returns."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_seconds
        waiting = loop.create_task(self._turn.acquire())
        try:
            while not waiting.done() and loop.time() < deadline:
                if self.reading is not None and self.reading.is_stalled(stall_seconds):
                    self.reading.give_up()
                await asyncio.wait({waiting}, timeout=min(stall_seconds, deadline - loop.time()))
        except BaseException:
            if waiting.done():
                self._turn.release()
            waiting.cancel()
            raise
        if not waiting.done():
            waiting.cancel()
            words = "an earlier request of this session is still being processed"
            raise RefusedError(503, None, words, retry_after_seconds=RETRY_AFTER_SECONDS)


class Entries:
    """All of them, and their way to store and spool and back."""

    def __init__(self, store: Store, storage: Storage) -> None:
        self._store = store
        self._storage = storage
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="spool")
        self._entries: dict[str, Entry] = {}
        self._retiring: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._entries)

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Run what may wait for the disk in another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    @asynccontextmanager
    async def claim(self, session_id: str, is_mine: Callable[[Session], bool]) -> AsyncIterator[Entry]:
        """The entry of a session. Raises RefusedError: there is none, or it is not for whoever asks, which is the same.

        That is known before anything is waited for: nobody can tell a foreign session that is busy from none.
        """
        if session_id in self._retiring:
            raise unknown_session(session_id)
        entry = self._entries.setdefault(session_id, Entry())
        entry.claims += 1
        try:
            if entry.session is None:
                found = await self._store.load(session_id)
                entry.session = entry.session or found  # somebody else may have read it, and changed it since
            if entry.session is None or entry.is_ended or not is_mine(entry.session):
                raise unknown_session(session_id)
            yield entry
        finally:
            entry.claims -= 1
            self._let_go(session_id, entry)

    async def save(self, entry: Entry, *, is_durable: bool, **changes: object) -> None:
        """See completion.Save; the record says of the bytes what is known of the file.

        Raises StoreError: the session is as it was, and bytes that the record does not count do not count.
        """
        before = entry.known
        if entry.file is not None:
            changes |= {"offset": entry.file.offset, "durable": entry.file.durable}
        entry.session = replace(before, **changes)  # type: ignore[arg-type]  # the names are those of fields
        if entry.is_ended:
            return
        try:
            await self._store.save(entry.session, is_durable=is_durable)
        except StoreError:
            entry.session = before
            await self.close_file(entry)
            raise

    async def open_file(self, entry: Entry) -> SpoolFile:
        """The file of the session, open; the session then says what the file has, which may be less (§6)."""
        if entry.file is not None:
            return entry.file
        session = entry.known
        descriptor = await self.in_thread(self._storage.open_request, session.session_id)
        status = os.fstat(descriptor)
        offset = session.offset
        if status.st_nlink == 1:  # else it has been published: it is whole, and no longer ours to cut
            offset = min(offset, status.st_size)
            os.ftruncate(descriptor, offset)
        durable = min(session.durable, offset)
        if offset < session.offset:
            entry.session = replace(session, offset=offset, durable=durable, is_complete=False)
        entry.file = SpoolFile(descriptor, offset, durable, self._executor, lambda: self._synced(entry))
        return entry.file

    async def close_file(self, entry: Entry) -> None:
        """Have done with the file; whatever is not synced now stays as it is."""
        if entry.file is not None:
            file, entry.file = entry.file, None
            await file.settle()
            file.close()

    async def retire(self, session_ids: Sequence[str]) -> int:
        """Remove sessions and their files, but for those that are in use; how many these were."""
        idle = [one for one in session_ids if one not in self._entries and one not in self._retiring]
        self._retiring.update(idle)
        try:
            await self.in_thread(self._storage.remove, idle)
            await self._store.forget(idle)
        finally:
            self._retiring.difference_update(idle)
        return len(idle)

    async def revoke(self, session_ids: Sequence[str]) -> None:
        """Remove sessions and their files, those in use, too: who uses them finds out."""
        self._retiring.update(session_ids)
        for entry in filter(None, map(self._entries.get, session_ids)):
            entry.is_ended = True
            if entry.reading is not None:
                entry.reading.give_up()
        try:
            await self.in_thread(self._storage.remove, session_ids)
            await self._store.forget(session_ids)
        finally:
            self._retiring.difference_update(session_ids)

    def give_up_readings(self) -> None:
        """End all bodies that come."""
        for entry in self._entries.values():
            if entry.reading is not None:
                entry.reading.give_up()

    async def close(self) -> None:
        """Sync and save everything; nobody asks any more."""
        for entry in list(self._entries.values()):
            if entry.file is not None:
                with suppress(OSError):  # bytes that are not on the disk do not count
                    await entry.file.sync()
                self._synced(entry)
        await asyncio.gather(*self._tasks)
        self._executor.shutdown()

    def _synced(self, entry: Entry) -> None:
        """The file has more durable bytes, or, where that failed, fewer bytes that count."""
        entry.claims += 1
        task = asyncio.get_running_loop().create_task(self._save_synced(entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _save_synced(self, entry: Entry) -> None:
        """Beside whoever has the turn: what is recorded now is about bytes alone."""
        try:
            if entry.file is not None and not entry.is_ended:
                entry.session = replace(entry.known, offset=entry.file.offset, durable=entry.file.durable)
                await self._store.save(entry.session, is_durable=True)
        except StoreError as error:
            _log.warning("what was synced could not be recorded: %s", error)
        finally:
            entry.claims -= 1
            self._let_go(entry.known.session_id, entry)

    def _let_go(self, session_id: str, entry: Entry) -> None:
        if entry.is_idle and self._entries.get(session_id) is entry:
            del self._entries[session_id]
            if entry.file is not None:
                entry.file.close()
