"""What every transport has to stand (design.md §6), and the adapters that make each of them meet it.

The suite is `test_conformance`; a further transport is one more class here, and one more row in `REMOTES`. A remote
holds one file. It can be told to let a transfer wait in the middle, and to end it too early.
"""

import contextlib
import functools
import itertools
import os
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from tests.real.nginx import Certificates
from tests.transfer.conftest import Story, WorkerProcess
from tests.transfer.faultserver import CLOSE, FaultServer, Request, Step, date, head, part, size_only, whole
from tests.transfer.upload_stage import Upload, new_session
from tests.transfer.uploadserver import Exchange, UploadServer, does_but, honest
from tests.transfer.uploadserver import Upload as Session

from openbits.channel import ChannelClosedError, Message
from openbits.core import codes
from openbits.core.names import file_url
from openbits.core.packets import Header, PacketType
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

    @property
    def drive(self) -> Callable[..., WorkerProcess]:
        """How a worker is driven: as the manager does it for this transport."""

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
    drive = WorkerProcess

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
    drive = WorkerProcess

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


class UploadRemote:
    """An upload: the file comes from this machine, and what is called the destination is what the server has of it."""

    short: int | None = codes.ERROR_WINHTTP_CONNECTION_ERROR
    is_limited = True

    def __init__(self, folder: Path) -> None:
        self.options: Mapping[str, Any] = {}
        self.source = folder / "source"
        self._server = UploadServer()
        self._versions = itertools.count(MONDAY)
        self.url = self._server.url("/inbox/file")
        self._is_cut = False

    @property
    def drive(self) -> Callable[..., WorkerProcess]:
        return functools.partial(UploadWorker, self)

    def put(self, body: bytes) -> Known:
        self.source.write_bytes(body)
        version = next(self._versions) * 1_000_000_000 + 7
        os.utime(self.source, ns=(0, version))
        return {"size_bytes": len(body), "last_modified": str(version)}

    def hold(self, data: bytes) -> str:
        """The server has so much of the file already, in a session of this name."""
        session_id = "{00000000-77D2-4B0E-9A53-0D1C6E2F8B44}"
        self._server.sessions = {session_id: Session(session_id, "/inbox/file", bytearray(data), None)}
        return session_id

    def arrived(self) -> bytes:
        """What the server has."""
        unfinished = [bytes(one.data) for one in self._server.sessions.values()]
        return self._server.files.get("/inbox/file", (unfinished or [b""])[-1])

    def start_worker(self, **options: Any) -> WorkerProcess:
        return self.drive(**options)

    @contextlib.contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        gate = threading.Event()
        self._is_cut = False

        def act(exchange: Exchange) -> Iterable[Step]:
            if len(self._server.sessions[exchange.packet.session_id].data) >= HELD_AT:
                gate.wait(60)
                if self._is_cut:
                    return [CLOSE]
            return honest(exchange)

        self._server.tell(PacketType.FRAGMENT, act)
        yield gate.set
        gate.set()

    def cut(self, release: Callable[[], None]) -> None:
        self._is_cut = True
        release()

    def mend(self) -> None:
        self._server.mend()

    def lie(self) -> tuple[str, int]:
        self.put(b"123456789")
        self._server.tell(PacketType.FRAGMENT, does_but(lambda answer: answer.having(Header.RECEIVED, "10")))
        return self.url, codes.BG_E_INVALID_SERVER_RESPONSE

    def close(self) -> None:
        self._server.close()


class UploadWorker(WorkerProcess):
    """A worker whose transfers are uploads of the remote's source; after its end a transfer's path has what arrived."""

    def __init__(self, remote: UploadRemote, **options: Any) -> None:
        super().__init__(**options)
        self._remote = remote
        self._paths: dict[str, Path] = {}

    def start(self, url: str, path: Path, offset: int = 0, **validators: Any) -> str:
        upload = Upload(self, url, self._remote.source)
        if offset:
            upload.session = new_session(self._remote.hold(path.read_bytes()[:offset]))
            upload.acknowledged_bytes = offset
        upload.known = validators
        key = upload.start()
        self._paths[key] = path
        return key

    def story(self, key: str) -> Story:
        story = super().story(key)
        self._paths[key].write_bytes(self._remote.arrived())
        return story

    def next_news(self) -> Message:
        """What is acknowledged is the progress, and is as durable as it gets."""
        message = super().next_news()
        if message["event"] == "acknowledged":
            size = message["acknowledged_bytes"]
            progress = {"event": "progressed", "transferred_bytes": size, "durable_bytes": size}
            self._news[message["transfer"]].append({"transfer": message["transfer"], **progress})
        return message


REMOTES: Mapping[str, Callable[[Path], Remote]] = {
    "http": HttpRemote,
    "https": HttpsRemote,
    "file": FileRemote,
    "upload": UploadRemote,
}

CHANGED = "a changed source ends an upload with BG_E_LOCAL_FILE_CHANGED, nothing begins again (upload-protocol.md §7.1)"
NOT_WRITTEN = "an upload writes nothing on this machine; that a server's disk is full is a case of tests/server"

MEANINGLESS: Mapping[str, str] = {
    # tests that say nothing of uploads, and why
    "test_another_version_begins_again_after_the_row_has_forgotten_the_bytes": CHANGED,
    "test_a_version_of_the_same_size_is_another_one_too": CHANGED,
    "test_a_file_that_changes_meanwhile_is_never_a_mix": CHANGED,
    "test_nothing_counts_before_it_is_on_the_disk": NOT_WRITTEN,
    "test_a_full_disk_is_transient_says_what_is_missing_and_keeps_what_it_has": NOT_WRITTEN,
    "test_a_descriptor_that_cannot_be_written_is_a_local_failure": NOT_WRITTEN,
}
