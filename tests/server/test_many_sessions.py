"""500 uploads at once through one real `bits-server`: none waits for another, and memory does not follow their bytes.

`OPENBITS_ROUNDS=200` is the whole of it.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from tests.server.hostile_clients.client import Piece, Wire, request
from tests.server.process import PROGRAM, ServerProcess

from openbits.core.packets import PacketType

KIB: Final = 1024
SESSIONS: Final = 500
ROUNDS: Final = int(os.environ.get("OPENBITS_ROUNDS", "4"))
HALF: Final = os.urandom(8 * KIB)
FRAGMENT: Final = 2 * len(HALF)
TOTAL: Final = FRAGMENT * ROUNDS

BUFFERED_BYTES: Final = 256 * KIB
"""§6: so much of a request may be in memory."""
MOST_GROWTH_BYTES: Final = 8 * KIB * KIB

FEW_DESCRIPTORS: Final = 256
"""What a process may have open until it asks for more, as shells and systemd have it; a session needs two."""

DIRECTORY: Final = """
[directories."/inbox/"]
BITSUploadEnabled = true
BITSSessionLimitEnable = false
allow_anonymous = true
quota_bytes = 100_000_000_000
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    few = ("prlimit", f"--nofile={FEW_DESCRIPTORS}:")
    one = ServerProcess(tmp_path / "server", DIRECTORY, program=(*few, *PROGRAM))
    try:
        one.start()
        yield one
    finally:
        one.close()


class Upload:
    """One client and its session, whose bodies come when they are asked for, in halves."""

    def __init__(self, wire: Wire, number: int) -> None:
        self.name = f"{number:03}"
        self._wire = wire
        self._path = f"/inbox/{self.name}"
        wire.send(request(PacketType.CREATE_SESSION, self._path))
        self._session_id = self._accepted("bits-session-id")

    def begin(self, first: int) -> None:
        """The head of a fragment."""
        span = Piece(first, first + FRAGMENT - 1, TOTAL)
        self._say(PacketType.FRAGMENT, ("Expect", "100-continue"), span=span, length=FRAGMENT)

    def go_on(self) -> None:
        """Half of its body."""
        assert self._wire.is_asked_for_body()
        self._wire.send(HALF)

    def end(self) -> None:
        """The other half."""
        self._wire.send(HALF)

    def received(self) -> int:
        """What the server says that it has."""
        return int(self._accepted("bits-received-content-range"))

    def close(self) -> None:
        self._say(PacketType.CLOSE_SESSION)

    def is_closed(self) -> bool:
        return bool(self._accepted("bits-session-id"))

    def _say(self, kind: PacketType, *fields: tuple[str, str], span: object = "", length: int = 0) -> None:
        self._wire.send(request(kind, self._path, *fields, session_id=self._session_id, span=span, length=length))

    def _accepted(self, field: str) -> str:
        reply = self._wire.reply()
        assert reply is not None, "the connection was closed"
        assert reply.status == 200
        return reply.headers[field]


def test_6_11_memory_does_not_follow_what_500_sessions_bring_at_once(server: ServerProcess) -> None:
    idle = server.rss_bytes
    with contextlib.ExitStack() as opened:
        uploads = [Upload(opened.enter_context(Wire(server.port)), number) for number in range(SESSIONS)]
        taken = [_round(server, uploads, first) for first in range(0, TOTAL, FRAGMENT)]
        for upload in uploads:
            upload.close()
        assert all(upload.is_closed() for upload in uploads)
    assert max(taken) - idle < SESSIONS * BUFFERED_BYTES
    assert max(taken) - taken[0] < MOST_GROWTH_BYTES
    assert {path.name for path in server.inbox.iterdir()} == {upload.name for upload in uploads}
    assert all(path.read_bytes() == HALF * (2 * ROUNDS) for path in server.inbox.iterdir())
    assert "Traceback" not in server.log()


def _round(server: ServerProcess, uploads: Sequence[Upload], first: int) -> int:
    """A fragment of every session, all of them under way at the same time; the memory of the server then."""
    for upload in uploads:
        upload.begin(first)
    for upload in uploads:
        upload.go_on()
    taken = server.rss_bytes
    for upload in uploads:
        upload.end()
    assert {upload.received() for upload in uploads} == {first + FRAGMENT}
    return taken
