"""Where misbehaving upload servers are met: a real worker that is driven as the manager drives it, a server, a file.

`Upload` is the manager's row of one upload, kept as the news tell it: each attempt goes on with what the last one left.
"""

import contextlib
import itertools
import os
import random
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.transfer import uploadserver
from tests.transfer.conftest import Story, WorkerProcess, _in_memory
from tests.transfer.faultserver import Step
from tests.transfer.forwardproxy import ForwardProxy
from tests.transfer.misbehaviour_stage import HOST, Certificates
from tests.transfer.misbehaviours import PROXY, SECURE, TUNNEL, WAYS
from tests.transfer.uploadserver import Act, Exchange, Packet, UploadServer

from openbits.core import codes
from openbits.core.codes import CodeClass
from openbits.core.enums import SecurityFlags

SIZE: Final = 1_000_000
"""Three fragments: of 256 KiB, of 512 KiB, and the rest (§7.4)."""
HELD: Final = 300_000
"""Bytes that a server has of an upload that is resumed."""
FIRST: Final = 256 * 1024
FRESH, RESUME = KINDS = ("fresh", "resume")
SEND, CLOSE, CANCEL = "send", "close", "cancel"
PATH: Final = "/inbox/report 17.bin"
TARGET: Final = "/inbox/report%2017.bin"
REPLY: Final = b"reply" * 1000

CLOCKS: Final = {
    "connect_seconds": 5.0,
    "first_byte_seconds": 1.0,
    "floor_bytes": 1000,
    "floor_seconds": 1.0,
    "send_seconds": 2.0,
    "answer_seconds": 1.0,
    "application_seconds": 1.0,
}

A: Final = random.Random(7).randbytes(SIZE)  # noqa: S311  # any bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What has to come of it. `outcome`: OK, TR (transient), ER (fatal), REPEATED (D25: transient, fatal after three
    of the same), FAILED (either). `context` of a failure, if it matters. `attempts`: that an OK may take.
    """

    outcome: str
    codes: frozenset[int] = frozenset()
    context: str = ""
    attempts: int = 1


def whole(*, attempts: int = 1) -> Expected:
    return Expected(outcome="OK", attempts=attempts)


def transient(*code: int, context: str = "remote_file") -> Expected:
    return Expected(outcome="TR", codes=frozenset(code), context=context)


def fatal(*code: int, context: str = "remote_file") -> Expected:
    return Expected(outcome="ER", codes=frozenset(code), context=context)


def repeated() -> Expected:
    """Not an answer of the protocol: transient, fatal when it comes again and again (§7.2, D25)."""
    invalid = frozenset({codes.BG_E_INVALID_SERVER_RESPONSE})
    return Expected(outcome="REPEATED", codes=invalid, context="remote_file")


def failed(*code: int) -> Expected:
    """Whatever class."""
    return Expected(outcome="FAILED", codes=frozenset(code))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One misbehaviour: what packets of a type get, one after the other; the last act stays. `rule`: of the protocol.

    `but`: kinds or ways of which something else is expected. `step`: before which the server is honest. `most_bytes`:
    so much the server may read of bodies before the failure or the end.
    """

    rule: str
    name: str
    told: Mapping[str, Sequence[Act]] = field(default_factory=dict)
    expected: Expected
    but: Mapping[str, Expected] = field(default_factory=dict)
    kinds: tuple[str, ...] = (FRESH,)
    ways: tuple[str, ...] = WAYS
    step: str = SEND
    size_bytes: int = SIZE
    held_bytes: int = HELD
    most_bytes: int = 3 * SIZE
    prepare: Callable[[UploadServer], None] | None = None
    aside: Mapping[str, Sequence[Act]] | None = None
    """Another server, openly, whose host and port is `{aside}` in what the first one says."""
    certificate: str = ""
    """What the server shows, if not a good one; see `misbehaviour_stage`."""
    flags: SecurityFlags = SecurityFlags(0)  # noqa: RUF009  # a frozen value
    is_reply_wanted: bool = False
    is_strict: bool = False
    is_lost: bool = False
    """What was told keeps a sound server from ending it, too."""
    check: Callable[["Told"], None] | None = None

    @property
    def id(self) -> str:
        return f"{self.rule}-{self.name}"

    def of(self, kind: str, way: str) -> Expected:
        return next((self.but[key] for key in (f"{kind}-{way}", kind, way) if key in self.but), self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a cell left behind, for what a row has to see besides."""

    kind: str
    way: str
    stories: list[Story]
    server: UploadServer
    aside: UploadServer | None
    upload: "Upload"

    @property
    def last(self) -> dict[str, Any]:
        return self.stories[-1].last

    def sent(self, kind: str) -> list[Packet]:
        return self.server.sent(kind)


def is_fatal(last: Mapping[str, Any]) -> bool:
    """The class of a failure: what the worker says of it, else that of its code."""
    if last.get("is_fatal") or last.get("is_transient"):
        return bool(last.get("is_fatal"))
    return codes.classify(last["hresult"]) is CodeClass.FATAL


class Upload:
    """The manager's side of one upload to `url`, as its row would know it."""

    def __init__(self, worker: WorkerProcess, url: str, path: Path, *, is_reply_wanted: bool = False) -> None:
        self.worker, self.url, self.path = worker, url, path
        self.is_reply_wanted = is_reply_wanted
        self.session: dict[str, Any] | None = None
        self.acknowledged_bytes = 0
        self.known: dict[str, Any] = {}

    def resume(self, session_id: str, acknowledged_bytes: int) -> None:
        """As if an earlier attempt had come so far."""
        status = self.path.stat()
        self.session = new_session(session_id)
        self.acknowledged_bytes = acknowledged_bytes
        self.known = {"size_bytes": status.st_size, "last_modified": str(status.st_mtime_ns)}

    def start(self, step: str = SEND) -> str:
        """Order the step; returns its key."""
        worker = self.worker
        worker._keys += 1
        key = f"{worker.job}:{worker._keys}"
        worker.is_upload, worker.method = True, "BITS_POST"
        part = {"step": step, "session": self.session, "name": self.path.name, "is_reply_wanted": self.is_reply_wanted}
        order = {**worker.order(key, self.url, self.acknowledged_bytes, **self.known), "upload": part}
        descriptors = [os.open(self.path, os.O_RDONLY)] if step == SEND else []
        if worker.entrusted or worker.headers is not None:
            descriptors.append(_in_memory({**worker.entrusted, "headers": worker.headers or []}))
        try:
            worker.send(order, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            worker.is_upload, worker.method = False, "GET"
        return key

    def attempt(self, step: str = SEND) -> Story:
        """Order the step, wait for its end, and remember what was told of it."""
        return self.remember(self.worker.story(self.start(step)))

    def remember(self, story: Story) -> Story:
        """What the row knows after this."""
        for news in story.news:
            if news["event"] == "connected":
                self.known = {name: news[name] for name in ("size_bytes", "etag", "last_modified", "media_type")}
            elif news["event"] == "acknowledged":
                self.session, self.acknowledged_bytes = news["session"], news["acknowledged_bytes"]
        return story


def new_session(session_id: str) -> dict[str, Any]:
    """As it is told when it was just made (docs/processes.md)."""
    return {
        "session_id": session_id,
        "host": "",
        "fallback_seconds": None,
        "host_failed_at": None,
        "is_received": False,
        "reply_url": "",
    }


class Stage:
    """One worker for all cells of a way: it must survive whatever a server does."""

    def __init__(self, way: str, folder: Path, *, is_strict: bool = False) -> None:
        self.way = way
        self.certificates = Certificates(folder)
        self.worker = WorkerProcess(limits=CLOCKS, ca=self.certificates.ca, is_strict=is_strict)
        self._cells = itertools.count()
        self._warm_up(folder / "warm")
        self.rss_at_first_bytes = self.rss_bytes

    def _warm_up(self, path: Path) -> None:
        """Some sound uploads, so that what a worker needs once is there before it is measured."""
        path.write_bytes(A * 48)
        with contextlib.closing(UploadServer(tls=self.tls())) as server:
            for number in range(4):
                self.worker.job = f"warm-{number}"
                assert Upload(self.worker, server.url(f"/{number}"), path).attempt().outcome == "transferred"

    def tls(self, certificate: str = "") -> ssl.SSLContext | None:
        """For a server of this way."""
        return self.certificates.context(certificate) if self.way in SECURE else None

    def close(self) -> None:
        self.worker.close()

    @property
    def rss_bytes(self) -> int:
        lines = Path(f"/proc/{self.worker.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    @contextlib.contextmanager
    def cell(self, row: Row, kind: str, folder: Path) -> "Iterator[Cell]":
        """A server that misbehaves, and a job of its own that meets it."""
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(contextlib.closing(UploadServer(tls=self.tls(row.certificate))))
            aside = None
            if row.aside is not None:
                aside = stack.enter_context(contextlib.closing(UploadServer(tls=self.tls())))
                aside.sessions, aside.files = server.sessions, server.files
            usage = {"usage": "no-proxy", "list": ""}
            if self.way in {PROXY, TUNNEL}:
                proxy = stack.enter_context(contextlib.closing(ForwardProxy()))
                usage = {"usage": "override", "list": proxy.name}
            self.worker.proxy = {**self.worker.proxy, **usage}
            self.worker.job = f"{self.way}-{next(self._cells)}"
            self.worker.security_flags = row.flags
            yield Cell(self, row, kind, server, aside, folder)


class Cell:
    """One row, one kind of upload, one way."""

    def __init__(
        self, stage: Stage, row: Row, kind: str, server: UploadServer, aside: UploadServer | None, folder: Path
    ) -> None:
        self.row, self.kind, self.server, self.aside = row, kind, server, aside
        self._stage = stage
        self.body = (A * -(-row.size_bytes // SIZE))[: row.size_bytes]
        path = folder / PATH.rpartition("/")[2]
        path.write_bytes(self.body)
        self.upload = Upload(stage.worker, server.url(TARGET), path, is_reply_wanted=row.is_reply_wanted)
        if kind == RESUME:
            self._hold()
        if row.prepare is not None:
            row.prepare(server)
        if row.step != SEND:
            assert self.upload.attempt().outcome == "transferred"
        self._misbehave()

    def _hold(self) -> None:
        """The server and the row know of an upload that was interrupted."""
        exchange_id = "{0000HELD-77D2-4B0E-9A53-0D1C6E2F8B44}"
        held = uploadserver.Upload(exchange_id, TARGET, bytearray(self.body[: self.row.held_bytes]), len(self.body))
        self.server.sessions[exchange_id] = held
        self.upload.resume(exchange_id, self.row.held_bytes)

    def _misbehave(self) -> None:
        names = {b"{self}": f"{HOST}:{self.server.port}".encode()}
        if self.aside is not None:
            names[b"{aside}"] = f"{HOST}:{self.aside.port}".encode()
            self.server.host_id = self.server.host_id.replace("{aside}", names[b"{aside}"].decode())
            for kind, acts in (self.row.aside or {}).items():
                self.aside.tell(kind, *(_named(act, names) for act in acts))
        for kind, acts in self.row.told.items():
            self.server.tell(kind, *(_named(act, names) for act in acts))

    def run(self) -> list[Story]:
        """Attempts of the step until it does what is expected, at most so many as that may take."""
        expected = self.row.of(self.kind, self._stage.way)
        most = 4 if expected.outcome == "REPEATED" else expected.attempts
        stories = [self.upload.attempt(self.row.step)]
        while len(stories) < most and stories[-1].outcome == "failed" and not is_fatal(stories[-1].last):
            stories.append(self.upload.attempt(self.row.step))
        return stories

    def told(self, stories: list[Story]) -> Told:
        return Told(
            kind=self.kind,
            way=self._stage.way,
            stories=stories,
            server=self.server,
            aside=self.aside,
            upload=self.upload,
        )

    def finish(self) -> None:
        """A sound server from now on: what is missing is sent, and the session is closed."""
        self.server.mend()
        if self.aside is not None:
            self.aside.mend()
        for step in (SEND, CLOSE) if self.row.step == SEND else (self.row.step,):
            story = self.upload.attempt(step)
            assert story.outcome == "transferred", story.last

    def send_another(self) -> None:
        """Another, small file of the same job to a sound server."""
        path = self.upload.path.with_name("another")
        path.write_bytes(b"another file")
        with contextlib.closing(UploadServer()) as server:
            usage = self._stage.worker.proxy
            self._stage.worker.proxy = {**usage, "usage": "no-proxy", "list": ""}
            story = Upload(self._stage.worker, server.url("/another"), path).attempt()
            self._stage.worker.proxy = usage
            assert story.outcome == "transferred", story.last
            assert server.files == {"/another": b"another file"}


def _named(act: Act, names: Mapping[bytes, bytes]) -> Act:
    """With the names of servers filled in in what it says."""

    def steps(exchange: Exchange) -> Iterator[Step]:
        for step in act(exchange):
            if isinstance(step, bytes) and step.startswith(b"HTTP/") and b"{" in step:
                for name, value in names.items():
                    step = step.replace(name, value)  # noqa: PLW2901  # the same step
            yield step

    return steps
