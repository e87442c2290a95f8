"""Real `Sessions` on real folders, without HTTP: packets as the layer above hands them over, bodies, an application."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import ParamSpec, Self

import pytest

from openbits.core.packets import ContentRange, Header
from openbits.server.model import Ack, Destination, Directory, Outcome, Packet, RefusedError, Session, User
from openbits.server.sessions import FILE_NAME, Sessions
from openbits.server.storage import Storage
from openbits.server.store import Store

P = ParamSpec("P")

INBOX = Directory(url_path="/inbox/", upload_enabled=True)
ANONYMOUS = User()
DISK_FULL, ACCESS_DENIED, INVALID = 0x80070070, 0x80070005, 0x80070057
NOT_FOUND, TOO_LARGE, NO_PATH = 0x8020001F, 0x80200020, 0x80070003


class Pieces:
    """A body that comes in these pieces; then it ends, or the client is gone, or nothing comes any more."""

    def __init__(self, *pieces: bytes, then: str = "end") -> None:
        self._pieces = list(pieces)
        self._then = then
        self.is_asked = asyncio.Event()
        """The first read has begun: 100-continue was sent."""
        self.is_waiting = asyncio.Event()
        """All pieces were taken."""

    async def read(self) -> bytes:
        self.is_asked.set()
        if self._pieces:
            return self._pieces.pop(0)
        self.is_waiting.set()
        if self._then == "gone":
            raise ConnectionResetError("the client is gone")
        if self._then == "silence":
            await asyncio.Event().wait()
        return b""


class Application:
    """Answers notifications with `outcomes` in turn, then with the last of them; writes `reply` where it is told to."""

    def __init__(self, *outcomes: Outcome, reply: bytes | None = None) -> None:
        self.outcomes = list(outcomes)
        self.reply = reply
        self.seen: list[bytes] = []
        """The request file of each call."""
        self.is_called = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def notify(
        self, directory: Directory, session: Session, user: User, request_file: Path, response_file: Path
    ) -> Outcome:
        self.seen.append(await asyncio.to_thread(request_file.read_bytes))
        self.is_called.set()
        await self.may_answer.wait()
        if self.reply is not None:
            await asyncio.to_thread(response_file.write_bytes, self.reply)
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]


class Desk:
    """The sessions of one server; `restart` ends it in order and opens another on the same folders."""

    def __init__(self, base: Path, *directories: Directory, application: Application | None = None) -> None:
        self.inbox = base / "root" / "inbox"
        self.spool = base / "spool"
        self.requests = self.spool / "BITS-Sessions" / "Requests"
        self.inbox.mkdir(parents=True, exist_ok=True)
        self.directory = directories[0] if directories else INBOX
        self.directories: Mapping[str, Directory] = {one.url_path: one for one in (*directories, self.directory)}
        self.application = application or Application(Outcome(status=200))
        self.now = 1_000_000.0
        self.patience_seconds = 30.0
        self.stall_seconds = 2.0
        self.max_sessions = 10_000
        self.sessions = self.opened()

    def opened(self) -> Sessions:
        storage = Storage(self.inbox.parent, self.spool)
        return Sessions(
            storage,
            Store(self.spool / FILE_NAME),
            self.application,
            self.directories,
            max_sessions_total=self.max_sessions,
            patience_seconds=self.patience_seconds,
            stall_seconds=self.stall_seconds,
            now=lambda: self.now,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sessions.stop()

    async def restart(self) -> None:
        await self.sessions.stop()
        self.sessions = self.opened()

    def packet(
        self, session_id: str = "", name: str = "a.bin", *, user: User = ANONYMOUS, query: str = "", host: str = "h"
    ) -> Packet:
        url_path = self.directory.url_path
        return Packet(
            directory=self.directory,
            destination=Destination(
                url=f"https://{host}{url_path}{name}{query}", path=PurePosixPath(url_path.strip("/")) / name
            ),
            user=user,
            session_id=session_id,
        )

    async def create(self, name: str = "a.bin", *, user: User = ANONYMOUS) -> str:
        return field(await self.sessions.create(self.packet(name=name, user=user)), Header.SESSION_ID)

    async def send(self, packet: Packet, first: int, data: bytes, total: int) -> Ack:
        """One fragment of `data` at `first`."""
        last = first + len(data) - 1
        return await self.sessions.fragment(packet, ContentRange(first, last, total), len(data), Pieces(data))

    async def upload(self, name: str, data: bytes, *, user: User = ANONYMOUS) -> str:
        """Create and one fragment, up to the final Ack; the id of the session."""
        session_id = await self.create(name, user=user)
        await self.send(self.packet(session_id, name, user=user), 0, data, len(data))
        return session_id

    @property
    def spooled(self) -> list[str]:
        """What the spool has requests of."""
        return sorted(path.name for path in self.requests.iterdir())


def story(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """A test that is told in a loop of its own."""

    @functools.wraps(test)
    def told(*arguments: P.args, **named: P.kwargs) -> None:
        async def tell() -> None:
            await test(*arguments, **named)

        asyncio.run(tell())

    return told


async def refused(answer: Awaitable[object]) -> RefusedError:
    """The refusal that is sure to come."""
    with pytest.raises(RefusedError) as caught:
        await answer
    return caught.value


def field(ack: Ack, name: str) -> str:
    """The value of a field that must be there."""
    return dict(ack.fields)[name]


def answer(refusal: RefusedError) -> tuple[int, int | None, int | None]:
    """Status, code and next byte wanted."""
    return refusal.status, refusal.hresult, refusal.received
