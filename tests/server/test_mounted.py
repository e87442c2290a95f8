"""The application without `bits-server`: messages of ASGI as any server would pass them."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.server.hostile_clients.client import Client

from openbits.core.packets import PROTOCOL, Header, PacketType
from openbits.server.app import Application
from openbits.server.model import Directory
from openbits.server.settings import Settings

INBOX = Directory(url_path="/inbox/", upload_enabled=True, allow_anonymous=True, quota_bytes=10**9)


@dataclass
class Call:
    """One request of a server that gives the body in these pieces, and what was answered."""

    pieces: list[bytes] = field(default_factory=list)
    ends: bool = True
    reads: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def receive(self) -> dict[str, Any]:
        self.reads += 1
        if not self.pieces:
            return {"type": "http.disconnect"} if not self.ends else {"type": "http.request"}
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or not self.ends}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "root" / "inbox").mkdir(parents=True)
    return Settings(root=tmp_path / "root", spool=tmp_path / "spool", directories=(INBOX,))


async def ask(
    application: Application, kind: str, path: str, *pieces: bytes, ends: bool = True, mounted_at: str = "", **more: Any
) -> Call:
    call = Call(pieces=list(pieces), ends=ends)
    fields = {"Host": "a", Header.PACKET_TYPE: kind, Header.SUPPORTED_PROTOCOLS: PROTOCOL, "Content-Length": "0"}
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "BITS_POST",
        "scheme": "https",
        "path": f"{mounted_at}{path}",
        "raw_path": f"{mounted_at}{path}".encode(),
        "query_string": b"",
        "root_path": mounted_at,
        "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
        "client": ("192.0.2.1", 1),
    }
    await application(scope, call.receive, call.send)
    return call


def with_application(settings: Settings, story: Callable[[Application], Awaitable[None]]) -> None:
    async def run() -> None:
        application = Application(settings)
        await application.start()
        try:
            await story(application)
        finally:
            await application.stop()

    asyncio.run(run())


async def create(application: Application, mounted_at: str = "") -> str:
    call = await ask(application, PacketType.CREATE_SESSION, "/inbox/a", mounted_at=mounted_at)
    assert call.status == 200
    return call.headers["bits-session-id"]


@pytest.mark.parametrize("mounted_at", ["", "/bits"])
def test_an_upload_works_wherever_the_application_is_mounted(settings: Settings, mounted_at: str) -> None:
    async def story(application: Application) -> None:
        session_id = await create(application, mounted_at)
        fields: dict[str, Any] = {"BITS_Session_Id": session_id, "Content_Range": "bytes 0-5/6", "Content_Length": "6"}
        call = await ask(
            application, PacketType.FRAGMENT, "/inbox/a", b"abc", b"", b"def", mounted_at=mounted_at, **fields
        )
        assert (call.status, call.headers["bits-received-content-range"]) == (200, "6")

    with_application(settings, story)
    assert (settings.root / "inbox" / "a").read_bytes() == b"abcdef"


def test_h11_the_verb_comes_through_the_h11_of_uvicorn(settings: Settings) -> None:
    """Without anything of `bits-server`: only its closed list of methods makes a parser refuse BITS_POST."""
    server = uvicorn.Server(uvicorn.Config(Application(settings), http="h11", lifespan="on", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        try:
            Client(listener.getsockname()[1]).upload("/inbox/a", bytes(300_000))
        finally:
            server.should_exit = True
            running.join()
    assert (settings.root / "inbox" / "a").read_bytes() == bytes(300_000)


def test_h8_nothing_is_read_of_a_body_that_is_refused(settings: Settings) -> None:
    """The first read is what makes a server ask for the body."""

    async def story(application: Application) -> None:
        session_id = await create(application)
        for content_range, status in (("bytes 3-5/6", 416), ("bytes 0-4/6", 400), ("bytes 0-5", 400)):
            fields: dict[str, Any] = {
                "BITS_Session_Id": session_id,
                "Content_Range": content_range,
                "Content_Length": "3",
            }
            call = await ask(application, PacketType.FRAGMENT, "/inbox/a", b"abc", **fields)
            assert (call.status, call.reads) == (status, 0)

    with_application(settings, story)


def test_f9_d15_what_came_before_the_client_went_is_kept(settings: Settings) -> None:
    async def story(application: Application) -> None:
        session_id = await create(application)
        fields: dict[str, Any] = {"BITS_Session_Id": session_id, "Content_Range": "bytes 0-5/6", "Content_Length": "6"}
        gone = await ask(application, PacketType.FRAGMENT, "/inbox/a", b"abc", ends=False, **fields)
        assert gone.status == 0
        fields |= {"Content_Range": "bytes 3-5/6", "Content_Length": "3"}
        call = await ask(application, PacketType.FRAGMENT, "/inbox/a", b"def", **fields)
        assert (call.status, call.headers["bits-received-content-range"]) == (200, "6")

    with_application(settings, story)
    assert (settings.root / "inbox" / "a").read_bytes() == b"abcdef"


def test_a_reload_brings_other_directories_to_everything(settings: Settings) -> None:
    async def story(application: Application) -> None:
        session_id = await create(application)
        other = replace(INBOX, url_path="/other/")
        await application.reload(replace(settings, directories=(other,)))
        assert dict(application._sessions.directories) == {"/other/": other}
        assert (await ask(application, PacketType.PING, "/inbox/a")).status == 404
        await application.reload(settings)
        closed = await ask(application, PacketType.CANCEL_SESSION, "/inbox/a", BITS_Session_Id=session_id)
        assert closed.headers["bits-error-code"] == "0x8020001F"

    with_application(settings, story)


@pytest.mark.parametrize("is_right", [True, False])
def test_the_lifespan_begins_and_ends_it_and_says_what_is_wrong(settings: Settings, is_right: bool) -> None:  # noqa: FBT001 -- a column
    said: list[dict[str, Any]] = []
    asked = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, Any]:
        return {"type": next(asked)}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    used = settings if is_right else replace(settings, root=settings.root / "missing")
    asyncio.run(Application(used)({"type": "lifespan"}, receive, send))
    kinds = [message["type"] for message in said]
    if is_right:
        assert kinds == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    else:
        assert kinds == ["lifespan.startup.failed"]
        assert "missing" in said[0]["message"]
