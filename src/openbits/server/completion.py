"""What happens when all bytes of an upload are there: the application is called, the file is published (§5.4, §9).

Each step is in the record before the next one begins, and each may be done again after a crash: an application whose
answer was not recorded is called again (§9.5), a file that was published already is found published. A client asks for
that by sending its final fragment once more (F7).
"""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Protocol, TypeVar

from openbits.core.packets import Header, Origin
from openbits.failpoints import failpoint
from openbits.server.entries import Entry
from openbits.server.model import (
    Ack,
    Commit,
    Directory,
    Notification,
    Outcome,
    Packet,
    RefusedError,
    Session,
    Stage,
    User,
    unknown_session,
)
from openbits.server.replies import reply_url
from openbits.server.storage import Storage

T = TypeVar("T")

FORBIDDEN: Final = 403
"""An application that says so is never called again for this session (§9.3)."""


class Notifier(Protocol):
    """Calls the application of a directory."""

    async def notify(
        self, directory: Directory, session: Session, user: User, request_file: Path, response_file: Path
    ) -> Outcome:
        """Whatever happens, in the words of §9.3."""


class Save(Protocol):
    """Changes the session of an entry and its record, unless it was ended meanwhile."""

    async def __call__(self, entry: Entry, *, is_durable: bool, **changes: object) -> None:
        """The record is written when this returns."""


class InThread(Protocol):
    """Runs what may block in another thread."""

    async def __call__(self, function: Callable[..., T], *arguments: object) -> T:
        """What the function returns."""


@dataclass(slots=True)
class Counters:
    """What has happened since the start."""

    created: int = 0
    notified: int = 0
    published: int = 0
    ended: int = 0
    """By Close-Session or Cancel-Session."""
    expired: int = 0
    """By a clean-up."""


class Completion:
    """Takes complete uploads further; whoever calls it has the turn of the entry."""

    def __init__(
        self,
        *,
        storage: Storage,
        notifier: Notifier,
        save: Save,
        in_thread: InThread,
        now: Callable[[], float],
        counters: Counters,
    ) -> None:
        self._storage = storage
        self._notifier = notifier
        self._save = save
        self._in_thread = in_thread
        self._now = now
        self._counters = counters

    async def complete(self, entry: Entry, packet: Packet) -> None:
        """All bytes are on the disk (F12). Raises RefusedError: the session stays, and this may be called again."""
        session = entry.known
        if session.stage is Stage.WAIT_FOR_CLOSE:
            return
        if not session.is_complete:
            sha256 = await self._in_thread(self._checksum, session) if packet.directory.checksum else ""
            await self._save(entry, is_durable=True, is_complete=True, sha256=sha256)
            failpoint("server.complete")
        if packet.directory.notification is Notification.NONE:
            await self._save(entry, is_durable=False, has_to_be_copied=True)
        elif not _is_accepted(session):
            await self._notify(entry, packet)
        if entry.known.has_to_be_copied and packet.directory.commit is Commit.FINAL:
            await self.publish(entry, packet.directory)
        elif entry.known.has_to_be_copied:  # nobody sends it again after this Ack
            await self._in_thread(self._storage.sync_request, session.session_id)
        await self._save(entry, is_durable=True, stage=Stage.WAIT_FOR_CLOSE, progressed_at=self._now())
        failpoint("server.waiting-for-close")
        if entry.known.is_published or not entry.known.has_to_be_copied:
            await self._in_thread(self._storage.remove_request, session.session_id)

    async def publish(self, entry: Entry, directory: Directory) -> None:
        """Give the file its final name. Raises RefusedError."""
        session = entry.known
        if session.is_published:
            return
        publish = functools.partial(
            self._storage.publish, mode=directory.mode, allow_overwrites=directory.allow_overwrites
        )
        await self._in_thread(publish, session.session_id, PurePosixPath(session.path))
        self._counters.published += 1
        failpoint("server.published")
        await self._save(entry, is_durable=True, is_published=True)

    async def _notify(self, entry: Entry, packet: Packet) -> None:
        """Call the application and record its answer. Raises RefusedError: it has not taken the file."""
        session = entry.known
        if session.application_status == FORBIDDEN:
            raise _refused_by_application(session)
        await self._save(entry, is_durable=False, stage=Stage.NOTIFY)
        try:
            outcome = await self._called(entry.known, packet)
        except BaseException:
            await self._save(entry, is_durable=False, stage=Stage.RECEIVING)
            raise
        failpoint("server.notified")
        await self._record(entry, packet, outcome)

    async def _called(self, session: Session, packet: Packet) -> Outcome:
        self._counters.notified += 1
        request = self._storage.request_file(session.session_id)
        response = self._storage.response_file(session.session_id)
        await self._in_thread(self._storage.prepare_reply, session.session_id)
        if packet.directory.notification is Notification.BY_REFERENCE:
            await self._in_thread(self._storage.share, session.session_id, PurePosixPath(session.path))
        return await self._notifier.notify(packet.directory, session, packet.user, request, response)

    async def _record(self, entry: Entry, packet: Packet, outcome: Outcome) -> None:
        changes: dict[str, object] = {
            "stage": Stage.RECEIVING,
            "application_status": outcome.status,
            "application_code": outcome.hresult,
        }
        if outcome.is_accepted:
            has_reply = outcome.has_reply and await self._in_thread(self._storage.sync_reply, entry.known.session_id)
            changes |= {
                "has_to_be_copied": outcome.has_to_be_copied,
                "reply_url": reply_url(packet.directory, entry.known) if has_reply else outcome.static_url,
                "has_reply_file": has_reply,
            }
        await self._save(entry, is_durable=True, **changes)
        if entry.is_ended:  # cancelled meanwhile: nobody wants the answer
            await self._in_thread(self._storage.remove, [entry.known.session_id])
            raise unknown_session(entry.known.session_id)
        failpoint("server.answer-recorded")
        if not outcome.is_accepted:
            raise _refused_by_application(entry.known)

    def _checksum(self, session: Session) -> str:
        with self._storage.request_file(session.session_id).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def fragment_ack(session: Session) -> Ack:
    """Of a fragment that was accepted; the final one has the reply, now and whenever it is asked for again."""
    fields = [(Header.SESSION_ID, session.session_id), (Header.RECEIVED, str(session.offset))]
    if session.stage is Stage.WAIT_FOR_CLOSE and session.reply_url:
        fields.append((Header.REPLY_URL, session.reply_url))
    return Ack(fields=tuple(fields))


def _is_accepted(session: Session) -> bool:
    return 200 <= session.application_status < 300


def _refused_by_application(session: Session) -> RefusedError:
    return RefusedError(
        session.application_status,
        session.application_code,
        f"the application of {session.directory} has answered {session.application_status}",
        origin=Origin.APPLICATION,
    )
