"""The server as an ASGI application: packets of the upload protocol and downloads, wherever it is mounted.

What a packet means in a state is known by `sessions`; here it is checked, answered, logged and counted.
"""

import asyncio
import os
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from openbits.core import codes
from openbits.core.packets import Header, PacketType
from openbits.server import answers, checks, downloads, files, paths
from openbits.server.access import Access
from openbits.server.answers import Send
from openbits.server.body import Body, Receive
from openbits.server.limits import Limits
from openbits.server.log import Entry, log
from openbits.server.metrics import Metrics
from openbits.server.model import Ack, Directory, RefusedError, User
from openbits.server.notify import Notifier, fault
from openbits.server.request import MALFORMED, Request, from_scope
from openbits.server.sessions import Sessions
from openbits.server.settings import Settings
from openbits.server.storage import StorageError
from openbits.server.store import StoreError
from openbits.server.users import Users

CLEANUP_SECONDS: Final = 60
"""How often the sessions are asked whether a clean-up is due (§11)."""


class Application:
    """The application; `start` and `stop`, or the lifespan of ASGI, begin and end it."""

    def __init__(self, settings: Settings) -> None:
        self.metrics = Metrics()
        self._limits = Limits()
        self._use(settings)

    def _use(self, settings: Settings) -> None:
        self._settings = settings
        self._faults = {one.url_path: fault(one, settings.public_url) for one in settings.directories}
        self._access = Access(
            Users(settings.users_file),
            takes_plain_passwords=settings.plain_passwords,
            trusts_common_names=settings.tls.common_names,
            is_local=settings.is_local,
        )
        for url_path, words in self._faults.items():
            if words:
                log.warning("uploads_refused directory=%s reason=%s", url_path, words)

    async def start(self) -> None:
        """Open root and spool. Raises StorageError, StoreError, OSError."""
        settings = self._settings
        async with AsyncExitStack() as stack:
            self._root = files.Root(settings.root)
            stack.callback(self._root.close)
            notifier = Notifier(settings.public_url)
            stack.callback(notifier.close)
            self._sessions = await Sessions.open(
                settings.root,
                settings.spool,
                notifier,
                _by_path(settings),
                max_sessions_total=settings.max_sessions_total,
            )
            stack.push_async_callback(self._sessions.stop)
            self.metrics.watch(self._sessions)
            stack.push_async_callback(_end, asyncio.create_task(self._clean()))
            self._parts = stack.pop_all()

    async def stop(self) -> None:
        """Keep what came, and end."""
        await self._parts.aclose()

    async def reload(self, settings: Settings) -> None:
        """Other directories and users from now on; where uploads are not enabled any more sessions end (§11)."""
        enabled = {one.url_path for one in settings.directories if one.upload_enabled}
        disabled = [one for one in self._settings.directories if one.upload_enabled and one.url_path not in enabled]
        self._use(replace(settings, root=self._settings.root, spool=self._settings.spool))
        self._sessions.directories = _by_path(settings)
        for directory in disabled:
            await self._sessions.disable(directory)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(from_scope(scope), receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except (StorageError, StoreError, OSError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _clean(self) -> None:
        while True:
            try:
                await self._sessions.clean_up(time.time())
            except (StoreError, OSError):
                log.exception("cleanup_failed")
            await asyncio.sleep(CLEANUP_SECONDS)

    async def _answer(self, request: Request, receive: Receive, send: Send) -> None:
        """One request, to its end; whatever becomes of it is logged and counted."""
        directory = self._settings.directory_of(request.target.path)
        entry = Entry(client=request.client, path=request.target.path, kind=request.method)
        entry.directory = "" if directory is None else directory.url_path
        try:
            if checks.is_packet(request, directory):
                await self._answer_packet(request, Body(receive), entry, send)
            else:
                await self._answer_download(request, directory, entry, send)
        except ConnectionError as error:
            entry.reason = entry.reason or str(error)
        finally:
            entry.write()
            self.metrics.count(entry)

    async def _answer_packet(self, request: Request, body: Body, entry: Entry, send: Send) -> None:
        try:
            packet = await checks.checked(request, self._settings, self._access, entry)
            with self._limits.one_more(packet.packet.directory):
                body.pass_through(partial(self._limits.passed, packet.packet.directory))
                ack = await self._process(packet, body)
            entry.session_id = dict(ack.fields).get(Header.SESSION_ID, "")
            if packet.is_overridden and packet.kind is PacketType.CREATE_SESSION:
                ack = replace(ack, status=HTTPStatus.CREATED)  # H12
            ack = answers.accepted(ack)
        except RefusedError as refusal:
            ack, entry.hresult, entry.reason = answers.refused(refusal), refusal.hresult or 0, refusal.words
        finally:
            entry.body_bytes = body.received_bytes
        entry.status = ack.status
        await answers.send(send, ack)

    async def _process(self, checked: checks.Checked, body: Body) -> Ack:
        packet = checked.packet
        match checked.kind:
            case PacketType.CREATE_SESSION:
                if words := self._faults[packet.directory.url_path]:
                    raise RefusedError(500, codes.E_INVALIDARG, words)  # §9.2
                return await self._sessions.create(packet)
            case PacketType.FRAGMENT:
                assert checked.content_range is not None  # noqa: S101 -- every checked Fragment has it
                return await self._sessions.fragment(packet, checked.content_range, checked.length, body)
            case PacketType.CLOSE_SESSION:
                return await self._sessions.close(packet)
            case PacketType.CANCEL_SESSION:
                return await self._sessions.cancel(packet)
            case _:  # Ping
                return Ack()

    async def _answer_download(self, request: Request, found: Directory | None, entry: Entry, send: Send) -> None:
        """GET and HEAD; nothing else is known."""
        try:
            directory = _to_read(request, found)
            user = await self._access.user(request)
            entry.user = user.name
            with self._limits.one_more(directory):
                file = await self._open(request, directory, user)
                try:
                    await downloads.send(request, file, entry, send, partial(self._limits.passed, directory))
                finally:
                    os.close(file.descriptor)
        except RefusedError as refusal:
            entry.status, entry.reason = refusal.status, refusal.words
            await downloads.refuse(request, refusal, send)

    async def _open(self, request: Request, directory: Directory, user: User) -> files.OpenFile:
        """The file that was asked for, if this user may have it. Raises RefusedError."""
        path = request.target.path
        if found := paths.reply_of(path):
            owner = self._settings.directory_of(found[0])
            if owner is None:
                raise RefusedError(404, None, "no virtual directory")
            self._access.check(request, user, owner, allows_anonymous=owner.allow_anonymous)
            reply = await self._sessions.open_reply(owner, found[1], user)
            return files.OpenFile(descriptor=reply.descriptor, size=reply.size, modified_at=reply.modified)
        allows_anonymous = directory.allow_anonymous or directory.allow_anonymous_reading
        self._access.check(request, user, directory, allows_anonymous=allows_anonymous)
        if not directory.is_readable:
            raise RefusedError(403, None, "the directory is not readable")
        if path.endswith("/"):
            raise RefusedError(404, None, "there are no listings")
        return await asyncio.to_thread(self._root.open, paths.relative(path))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _by_path(settings: Settings) -> dict[str, Directory]:
    return {one.url_path: one for one in settings.directories}


def _to_read(request: Request, directory: Directory | None) -> Directory:
    """Where a download would be from. Raises RefusedError."""
    if request.method not in downloads.METHODS:
        raise RefusedError(405, None, "unknown method")
    if request.is_malformed:
        raise RefusedError(400, None, MALFORMED)
    if directory is None:
        raise RefusedError(404, None, "no virtual directory")
    return directory
