"""What every transport has to stand (design.md §6), and the adapters that make each of them meet it.

The suite is `test_conformance`; a further transport is one more class here, and one more row in `REMOTES`. A remote
holds one file. It can be told to let a transfer wait in the middle, and to end it too early.
"""

import contextlib
import itertools
import os
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from tests.real.nginx import Certificates
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import CLOSE, FaultServer, Request, Step, date, head, part, size_only, whole

from openbits.channel import ChannelClosedError, Message
from openbits.core import codes
from openbits.core.names import file_url
from openbits.transfer.filecopy import PIECE_BYTES

HELD_AT = PIECE_BYTES
"""So many bytes a transfer that is held may move."""

BODY = os.urandom(1000) * (3 * PIECE_BYTES // 1000)
OTHER = os.urandom(999) * (3 * PIECE_BYTES // 1000)
"""Another version, with another size."""

MONDAY = 1_793_613_600

Known = dict[str, Any]


class Remote(Protocol):
    """One transport with the file at its other end."""

    url: str
    short: int | None
    """The code for a body that ends too early; None if that is another version."""
    is_limited: bool
    """Whether the limit of a job holds for it: what comes from this machine itself costs nobody's network."""

    options: Mapping[str, Any]
    """What a worker is started with to come to the other end."""

    def put(self, body: bytes) -> Known:
        """Have this as a new version of the file; what a transfer is told of a version that it has bytes of."""

    def start_worker(self, **options: Any) -> WorkerProcess:
        """A worker whose transfers can be held."""

    def held(self) -> AbstractContextManager[Callable[[], None]]:
        """The next transfer waits after HELD_AT bytes until the returned function is called, or the block ends."""

    def cut(self, release: Callable[[], None]) -> None:
        """The held transfer goes on, and finds the end of the file at HELD_AT."""

    def mend(self) -> None:
        """The file is whole again, in the same version."""

    def lie(self) -> tuple[str, int]:
        """A URL whose size is not what is told of it, and the code for that."""

    def close(self) -> None:
        """Let everything go on, and end."""


class HttpRemote:
    """A web server that answers as it is told."""

    short: int | None = codes.ERROR_WINHTTP_CONNECTION_ERROR
    is_limited = True

    def __init__(self, folder: Path) -> None:
        self.options: Mapping[str, Any] = {}
        self._server = self._make_server(folder)
        self._body = b""
        self._tags = itertools.count()
        self._tag = ""
        self._is_cut = False
        self.url = self._server.url()

    def put(self, body: bytes) -> Known:
        self._body, self._tag = body, f'"{next(self._tags)}"'
        self.mend()
        return {"size_bytes": len(body), "etag": self._tag, "last_modified": date(MONDAY)}

    def mend(self) -> None:
        self._server.answer("HEAD", size_only(self._body, *self._fields))
        self._server.answer("GET", self._present)

    def _make_server(self, _folder: Path) -> FaultServer:
        return FaultServer()

    def start_worker(self, **options: Any) -> WorkerProcess:
        return WorkerProcess(**self.options, **options)

    @contextlib.contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        gate, body, fields = threading.Event(), self._body, self._fields
        self._is_cut = False

        def get(_: Request) -> Iterable[Step]:
            yield head("200 OK", f"Content-Length: {len(body)}", *fields)
            yield body[:HELD_AT]
            gate.wait(60)
            yield CLOSE if self._is_cut else body[HELD_AT:]

        self._server.answer("HEAD", size_only(body, *fields))
        self._server.answer("GET", get)
        yield gate.set
        gate.set()

    def cut(self, release: Callable[[], None]) -> None:
        self._is_cut = True
        release()

    def lie(self) -> tuple[str, int]:
        self._server.answer("HEAD", size_only(b"123456789"))
        self._server.answer("GET", [head("200 OK", "Content-Length: 9"), b"1234", CLOSE])
        return self.url, codes.ERROR_WINHTTP_CONNECTION_ERROR

    def close(self) -> None:
        self._server.close()

    @property
    def _fields(self) -> tuple[str, ...]:
        return (f"ETag: {self._tag}", f"Last-Modified: {date(MONDAY)}")

    def _present(self, request: Request) -> Sequence[Step]:
        """What a sound server answers to a range, and to a guard of another version."""
        guard = request.headers.get("if-range")
        if request.offset is None or guard not in {None, self._tag}:
            return whole(self._body, *self._fields)
        return part(self._body, request.offset, *self._fields)


DYING = """
import os, socket, sys
from openbits import failpoints
from openbits.transfer import worker
failpoints.arm(lambda name: os._exit(9) if name == "sink.syncing" else None)
worker.run(socket.socket(fileno=int(sys.argv[1])))
"""
"""A worker that dies where it would ask the disk for the first time."""


def told_until_death(process: WorkerProcess) -> list[Message]:
    """What a worker says until it dies as DYING does."""
    told: list[Message] = []
    with contextlib.suppress(ChannelClosedError):
        while True:
            told.append(process.next_news())
    assert process.process.wait(10) == 9
    process.channel.close()
    return told


HOLDING = """
import os, socket, sys, threading
from openbits import failpoints
from openbits.transfer import worker
gate, here = int(sys.argv[2]), threading.local()
def passed(name):
    if name == "copy.piece":
        here.pieces = getattr(here, "pieces", 0) + 1
        if here.pieces == 2:
            os.read(gate, 1)
failpoints.arm(passed)
worker.run(socket.socket(fileno=int(sys.argv[1])))
os._exit(0)
"""
"""A worker whose copies wait before their second piece; each has a thread of its own."""


class HttpsRemote(HttpRemote):
    """The same over TLS."""

    def _make_server(self, folder: Path) -> FaultServer:
        place = folder / "authority"
        place.mkdir()
        certificates = Certificates(place)
        self.options = {"ca": certificates.ca}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificates.issue("IP:127.0.0.1"))
        return FaultServer(tls=context)


class FileRemote:
    """A file of this machine."""

    short: int | None = None
    is_limited = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / "remote file"
        self._versions = itertools.count(MONDAY)
        self._body = b""
        self._gate: int | None = None
        self.options: Mapping[str, Any] = {}
        self.url = file_url(str(self._path))

    def put(self, body: bytes) -> Known:
        self._body = body
        self._path.write_bytes(body)
        version = next(self._versions) * 1_000_000_000 + 7
        os.utime(self._path, ns=(0, version))
        return {"size_bytes": len(body), "last_modified": str(version)}

    def mend(self) -> None:
        self.put(self._body)

    def start_worker(self, **options: Any) -> WorkerProcess:
        self.close()
        reading, self._gate = os.pipe()
        try:
            return WorkerProcess(**{"program": HOLDING, "passing": [reading], **options})
        finally:
            os.close(reading)

    @contextlib.contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        yield self.close
        self.close()

    def cut(self, release: Callable[[], None]) -> None:
        os.truncate(self._path, HELD_AT)
        release()

    def lie(self) -> tuple[str, int]:
        return file_url("/proc/self/status"), codes.BG_E_MISSING_FILE_SIZE

    def close(self) -> None:
        if self._gate is not None:
            os.close(self._gate)
            self._gate = None


REMOTES: Mapping[str, Callable[[Path], Remote]] = {"http": HttpRemote, "https": HttpsRemote, "file": FileRemote}
