"""The sessions of the server: Create-Session, Fragment, Close-Session and Cancel-Session, and what becomes of them.

Requests of one session take turns (`entries`); what a packet does in which stage is the table of `session`, what a
fragment adds is the table of `fragments`. A packet is processed in a task of its own: when its client goes away,
the body that was being read ends, but nothing else is interrupted, above all no call of an application.
"""

import asyncio
import errno
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from openbits.core import codes
from openbits.core.packets import PROTOCOL, ContentRange, Header, PacketType
from openbits.failpoints import failpoint
from openbits.server import cleanup, fragments
from openbits.server.completion import Completion, Counters, Notifier, fragment_ack
from openbits.server.entries import PATIENCE_SECONDS, RETRY_AFTER_SECONDS, STALL_SECONDS, Entries, Entry
from openbits.server.model import (
    MAX_SESSIONS,
    Ack,
    Directory,
    Packet,
    RefusedError,
    Session,
    Stage,
    User,
    unknown_session,
)
from openbits.server.receiving import MAX_PIECES, PIECE_BYTES, Body, Reading, SpoolFile
from openbits.server.session import ACTS, Act, is_expired, is_of, is_of_user
from openbits.server.storage import Reply, Storage
from openbits.server.store import Limits, Store, StoreError, Tombstone

T = TypeVar("T")

FILE_NAME: Final = "sessions.db"
"""In the spool."""
ENDING_SECONDS: Final = 10.0
"""What is not done that long after the end of the server was asked for is cut off: an application being called."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_BUILT_IN: Final = Directory(url_path="/")
"""What a directory is cleaned by that has sessions but is not configured any more."""


class Sessions:
    """All sessions; `open` makes it, in the loop that will use it. `directories`: by their URL paths."""

    def __init__(
        self,
        storage: Storage,
        store: Store,
        notifier: Notifier,
        directories: Mapping[str, Directory],
        *,
        max_sessions_total: int = MAX_SESSIONS,
        patience_seconds: float = PATIENCE_SECONDS,
        stall_seconds: float = STALL_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.directories = directories
        self.counters = Counters()
        self._storage = storage
        self._store = store
        self._max_sessions = max_sessions_total
        self._patience_seconds = patience_seconds
        self._stall_seconds = stall_seconds
        self._now = now
        self._entries = Entries(store, storage)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._schedule = cleanup.Schedule()
        self._completion = Completion(
            storage=storage,
            notifier=notifier,
            save=self._entries.save,
            in_thread=self._entries.in_thread,
            now=now,
            counters=self.counters,
        )

    @classmethod
    async def open(
        cls,
        root: Path,
        spool: Path,
        notifier: Notifier,
        directories: Mapping[str, Directory],
        *,
        max_sessions_total: int = MAX_SESSIONS,
    ) -> Self:
        """Open root and spool. Raises StorageError, StoreError."""
        storage = Storage(root, spool)
        try:
            store = await asyncio.to_thread(Store, spool / FILE_NAME)
        except BaseException:
            storage.close()
            raise
        return cls(storage, store, notifier, directories, max_sessions_total=max_sessions_total)

    @property
    def count(self) -> int:
        """How many sessions there are."""
        return self._store.count

    @property
    def in_use(self) -> int:
        """How many of them are asked about, or have bytes on the way to the disk."""
        return len(self._entries)

    async def stop(self) -> None:
        """End: bodies that come are given up, what came of them is kept and synced."""
        self._entries.give_up_readings()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=ENDING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._entries.close()
        await asyncio.to_thread(self._store.close)
        self._storage.close()

    async def create(self, packet: Packet) -> Ack:
        """Another session, whatever there is. Raises RefusedError: 400, 403, 404 (§5.4), 503 (D26)."""
        return await self._owned(self._create(packet))

    async def fragment(self, packet: Packet, content_range: ContentRange, body_length: int, body: Body) -> Ack:
        """Bytes of an upload (§6). Everything that can be refused is refused before the first read of the body (H8).

        Raises RefusedError; ConnectionError when the client is gone, or when it has sent a newer request while nothing
        came: there is nobody to be answered then, and bytes that came count (F9).
        """
        reading = Reading(body)
        try:
            return await self._owned(self._fragment(packet, content_range, body_length, reading))
        except asyncio.CancelledError:
            reading.give_up()
            raise

    async def close(self, packet: Packet) -> Ack:
        """The client is done: publish what still has to be, forget the session. Raises RefusedError."""
        return await self._owned(self._end(packet, PacketType.CLOSE_SESSION))

    async def cancel(self, packet: Packet) -> Ack:
        """The client gives up; a published file stays. Raises RefusedError."""
        return await self._owned(self._end(packet, PacketType.CANCEL_SESSION))

    async def open_reply(self, directory: Directory, session_id: str, user: User) -> Reply:
        """The response file of a session of this user. Raises RefusedError 404; whose it is is not told."""
        return await self._owned(self._open_reply(directory, session_id, user))

    async def clean_up(self, now: float) -> None:
        """Clean the directories that are due; asked for every minute or so. Raises StoreError, OSError."""
        due = self._schedule.due(self.directories, now)
        if due:
            gone = await self._store.directories() - self.directories.keys()
            for directory in [*due, *(replace(_BUILT_IN, url_path=path) for path in gone)]:
                self.counters.expired += await cleanup.clean(directory, self._store, self._entries, now)
            await cleanup.sweep(self._store, self._storage, self._entries, now)

    async def disable(self, directory: Directory) -> None:
        """End all sessions of a directory in which uploads were just disabled (§11); published files stay."""
        while session_ids := await self._store.of_directory(directory.url_path):
            await self._entries.revoke(session_ids)

    async def _create(self, packet: Packet) -> Ack:
        directory, now = packet.directory, self._now()
        await self._entries.in_thread(
            lambda: self._storage.check_destination(
                packet.destination.path, allow_overwrites=directory.allow_overwrites
            )
        )
        session = Session(
            session_id="{" + str(uuid.uuid4()).upper() + "}",
            directory=directory.url_path,
            path=str(packet.destination.path),
            url=packet.destination.url,
            user=packet.user.name,
            fingerprint=packet.user.fingerprint,
            created_at=now,
            progressed_at=now,
            host_id=directory.host_id,
        )
        most = 2 * directory.session_limit if directory.session_limit_enable else 0
        limits = Limits(sessions_of_user=most, sessions_in_all=self._max_sessions)
        if not await self._store.create(session, limits):
            words = "too many sessions: close or cancel some, or wait for the next clean-up"
            raise RefusedError(503, None, words, retry_after_seconds=RETRY_AFTER_SECONDS)
        self.counters.created += 1
        fields = [(Header.PROTOCOL, PROTOCOL), (Header.SESSION_ID, session.session_id)]
        host = []
        if directory.host_id:
            host = [
                (Header.HOST_ID, directory.host_id),
                (Header.FALLBACK_TIMEOUT, str(directory.host_id_fallback_seconds)),
            ]
        return Ack(fields=(*fields, *host, ("Accept-Encoding", "identity")))

    async def _fragment(self, packet: Packet, fragment: ContentRange, length: int, reading: Reading) -> Ack:
        async with self._claim(packet) as entry:
            try:
                async with entry.turn(self._patience_seconds, self._stall_seconds):
                    await self._take(entry, packet, fragment, length, reading)
                    return fragment_ack(entry.known)
            except ConnectionError:
                raise
            except (RefusedError, StoreError, OSError) as error:
                refusal = _refusal(error)
                refusal.session_id = packet.session_id
                if not entry.is_ended:
                    refusal.received = entry.known.offset
                raise refusal from error

    async def _take(self, entry: Entry, packet: Packet, fragment: ContentRange, length: int, reading: Reading) -> None:
        """Judge, admit, receive, complete."""
        if entry.known.offset and ACTS[entry.known.stage, PacketType.FRAGMENT] is Act.RECEIVE:
            await self._entries.open_file(entry)
        append = fragments.judge(_facts(packet.directory, entry.known, fragment, length))
        if entry.known.total is None:
            await self._admit(entry, packet.directory, fragment.total)
        entry.reading = reading
        if append.take:
            await self._receive(entry, append, reading)
        else:
            await _pass_over(reading, append.skip)
        entry.reading = None
        if entry.is_ended:
            raise unknown_session(packet.session_id)
        if entry.known.offset == fragment.total:
            if entry.known.stage is Stage.RECEIVING:
                await self._sync(entry)
            await self._completion.complete(entry, packet)

    async def _admit(self, entry: Entry, directory: Directory, total: int) -> None:
        """Before the first byte: is there room for all of them (§13)? Raises RefusedError (F10)."""
        if total > self._storage.free_bytes():
            words = f"the spool has no room for {total} bytes; free space on its file system"
            raise RefusedError(500, codes.ERROR_DISK_FULL, words)
        admitted = replace(entry.known, total=total)
        if not await self._store.admit(admitted, directory.quota_bytes):
            words = f"with {total} bytes more this user would exceed quota_bytes of {directory.url_path}"
            raise RefusedError(500, codes.ERROR_DISK_FULL, words)
        entry.session = admitted

    async def _receive(self, entry: Entry, append: fragments.Append, reading: Reading) -> None:
        """Read the body to its end and append what is new; what came is kept, whatever happens (F9 to F11, D15)."""
        file = await self._entries.open_file(entry)
        before = file.offset
        try:
            await fill(file, append, reading)
        finally:
            failpoint("server.data-written")
            if file.offset != before:
                await self._entries.save(entry, is_durable=False, progressed_at=self._now())
                failpoint("server.row-written")
            if file.has_failed:
                await self._entries.close_file(entry)

    async def _sync(self, entry: Entry) -> None:
        """Before completion all bytes are on the disk; an empty file is made here (F13). Raises OSError (F11)."""
        file = await self._entries.open_file(entry)
        try:
            await file.sync()
        except OSError:
            await self._entries.save(entry, is_durable=False)
            await self._entries.close_file(entry)
            raise

    async def _end(self, packet: Packet, packet_type: PacketType) -> Ack:
        ack = Ack(fields=((Header.SESSION_ID, packet.session_id),))
        try:
            async with self._claim(packet) as entry:
                if ACTS[entry.known.stage, packet_type] is Act.DISOWN:
                    await self._bury(entry)
                    return ack
                async with entry.turn(self._patience_seconds, self._stall_seconds):
                    if ACTS[entry.known.stage, packet_type] is Act.FINISH:
                        ack = await self._finished(entry, packet, ack)
                    await self._entries.close_file(entry)
                    await self._entries.in_thread(self._storage.remove, [packet.session_id])
                    failpoint("server.removed")
                    await self._bury(entry)
        except RefusedError as refusal:
            refusal.session_id = packet.session_id
            if refusal.hresult == codes.BG_E_SESSION_NOT_FOUND and await self._is_buried(packet):
                return ack
            raise
        return ack

    async def _finished(self, entry: Entry, packet: Packet, ack: Ack) -> Ack:
        """Publish what still has to be (D11); the Ack with the checksum, if there is one (D28)."""
        if entry.known.has_to_be_copied:
            await self._completion.publish(entry, packet.directory)
        if not entry.known.sha256:
            return ack
        return replace(ack, fields=(*ack.fields, (Header.SHA256, entry.known.sha256)))

    async def _bury(self, entry: Entry) -> None:
        entry.is_ended = True
        await self._store.end(entry.known, self._now())
        self.counters.ended += 1

    async def _is_buried(self, packet: Packet) -> bool:
        """D13: this sender has closed or cancelled it already."""
        whose = Tombstone(
            packet.directory.url_path, str(packet.destination.path), packet.user.name, packet.user.fingerprint
        )
        return await self._store.tombstone(packet.session_id, self._now()) == whose

    async def _open_reply(self, directory: Directory, session_id: str, user: User) -> Reply:
        timeout, now = directory.session_timeout_seconds, self._now()

        def is_mine(session: Session) -> bool:
            is_there = session.has_reply_file and not is_expired(session, timeout, now)
            return is_there and is_of_user(session, directory, user)

        try:
            async with self._entries.claim(session_id, is_mine) as entry:
                reply = await self._entries.in_thread(self._storage.open_reply, session_id)
                if reply is not None:
                    await self._entries.save(entry, is_durable=False, progressed_at=self._now())
                    return reply
        except RefusedError as refusal:
            raise RefusedError(404, None, refusal.words) from refusal
        raise RefusedError(404, None, "the response file is gone")

    def _claim(self, packet: Packet) -> AbstractAsyncContextManager[Entry]:
        """§5.1 step 10."""
        timeout, now = packet.directory.session_timeout_seconds, self._now()
        return self._entries.claim(
            packet.session_id, lambda session: is_of(packet, session) and not is_expired(session, timeout, now)
        )

    async def _owned(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it to its end, whether or not somebody waits for it. Raises RefusedError for what fails here."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        try:
            return await asyncio.shield(task)
        except ConnectionError:
            raise
        except (StoreError, OSError) as error:
            raise _refusal(error) from error

    def _forget(self, task: asyncio.Task[Any]) -> None:
        """What happened to a packet that nobody waits for is no news."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


async def fill(file: SpoolFile, append: fragments.Append, reading: Reading) -> None:
    """Append what is new of the body in large pieces. Raises ConnectionError, OSError: what came before is kept."""
    skip, left = append.skip, append.take
    pieces: list[bytes] = []
    size = 0
    try:
        while left:
            piece = await reading.read()
            if not piece:
                raise ConnectionResetError("the body of the fragment ended early")
            new = piece[skip : skip + left]
            skip -= min(skip, len(piece))
            left -= len(new)
            pieces.append(new)
            size += len(new)
            if size >= PIECE_BYTES or len(pieces) == MAX_PIECES:
                full, pieces, size = pieces, [], 0
                await file.append(full)
    finally:
        if size:
            await file.append(pieces)


async def _pass_over(reading: Reading, length: int) -> None:
    """Read a body whose bytes are all known (F7)."""
    while length > 0:
        piece = await reading.read()
        if not piece:
            raise ConnectionResetError("the body of the fragment ended early")
        length -= len(piece)


def _facts(directory: Directory, session: Session, fragment: ContentRange, length: int) -> fragments.Facts:
    return fragments.Facts(
        fragment=fragment,
        body_length=length,
        next_offset=session.offset,
        total=session.total,
        maximum_upload_bytes=directory.maximum_upload_bytes,
        max_fragment_bytes=directory.max_fragment_bytes,
    )


def _refusal(error: RefusedError | StoreError | OSError) -> RefusedError:
    """F10, F11."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, StoreError):
        return RefusedError(500, codes.ERROR_DISK_FULL if error.is_full else codes.E_FAIL, str(error))
    if error.errno in _FULL:
        return RefusedError(500, codes.ERROR_DISK_FULL, f"{error.strerror}; free space on the file system of the spool")
    return RefusedError(500, codes.from_errno(error.errno or 0), f"a file of the spool: {error.strerror}")
