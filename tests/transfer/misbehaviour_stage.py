"""Where the sixty misbehaviours are played: a real worker, the ways to a server, and what is left of a transfer."""

import contextlib
import itertools
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding
from tests.real.authority import Authority, Pair, self_signed
from tests.transfer.conftest import Story, WorkerProcess
from tests.transfer.faultserver import FaultServer, Request, Step, date
from tests.transfer.forwardproxy import ForwardProxy
from tests.transfer.misbehaviours import (
    FIRST,
    PARTS,
    PROXY,
    RANGES,
    RESUME,
    SECURE,
    SIZE,
    TUNNEL,
    TYPE,
    A,
    Act,
    Row,
    Told,
    Version,
    sound,
)

from openbits.core.enums import SecurityFlags

HOST: Final = "127.0.0.1"
DENIED: Final = "127.0.0.2"

CLOCKS: Final = {"connect_seconds": 5.0, "first_byte_seconds": 1.0, "floor_bytes": 1000, "floor_seconds": 1.0}

MOST_ATTEMPTS: Final = 40


def made_of(body: bytes) -> bytes:
    """What a file of the ranges is made of."""
    return b"".join(body[first : None if length is None else first + length] for first, length in RANGES)


def file_of(kind: str, version: Version) -> bytes:
    return made_of(version.body) if kind == PARTS else version.body


class Certificates:
    """What servers show, by the name of a row."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._good = Authority("Good Root")
        self.ca = self._good.file(folder)
        revoked = self._good.issue(HOST, subject="gone")
        self._good.revoke(revoked)
        self.revoked_pem = self._good.crl().public_bytes(Encoding.PEM).decode()
        good = self._good.issue(HOST)
        self._pairs: dict[str, Pair] = {
            "expired": self._good.issue(HOST, days=(-3, -1)),
            "other-name": self._good.issue("other.example"),
            "self-signed": self_signed(HOST),
            "unknown-ca": Authority("Another Root").issue(HOST),
            "revoked": revoked,
            **dict.fromkeys(("", "client-optional", "client-required", "h2-alone"), good),
        }

    def context(self, name: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*self._pairs[name].files(self._folder, name or "good"))
        if name.startswith("client"):
            made.load_verify_locations(cadata=self._good.pem)
            made.verify_mode = ssl.CERT_REQUIRED if name == "client-required" else ssl.CERT_OPTIONAL
        made.set_alpn_protocols(["h2"] if name == "h2-alone" else ["http/1.1"])
        return made


class Stage:
    """One worker for all cells of a way: it must survive whatever a server does."""

    def __init__(self, way: str, folder: Path) -> None:
        self.way = way
        self._certificates = Certificates(folder)
        self.worker = WorkerProcess(limits=CLOCKS, ca=self._certificates.ca, denied_networks=[f"{DENIED}/32"])
        self._cells = itertools.count()
        self.rss_at_first_bytes = 0
        self._descriptors_at_first = 0
        self._warm_up(folder / "warm")

    def close(self) -> None:
        self.worker.close()

    def _warm_up(self, path: Path) -> None:
        """Some sound files, so that what a worker needs once is there before it is measured."""
        with contextlib.closing(self.sound_server()) as server:
            server.answer("GET", lambda request: sound(request).steps())
            for number in range(20):
                self.worker.job = f"warm-{number % 4}"
                assert self.worker.fetch(server.url(), path).outcome == "transferred"
                path.unlink()
        self.rss_at_first_bytes = self.rss_bytes
        self._descriptors_at_first = self.worker.descriptors()

    def wait_for_descriptors(self) -> None:
        """Until there are no more than at first; connections are kept for some seconds."""
        deadline = time.monotonic() + 30
        while self.worker.descriptors() > self._descriptors_at_first:
            assert time.monotonic() < deadline, "descriptors are not given back"
            time.sleep(0.2)

    @property
    def rss_bytes(self) -> int:
        lines = Path(f"/proc/{self.worker.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    @contextlib.contextmanager
    def cell(self, row: Row, kind: str, folder: Path) -> "Iterator[Cell]":
        """A server that misbehaves, and a job of its own that meets it."""
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(contextlib.closing(self._server(row.certificate)))
            aside = None
            if row.aside is not None:
                host = HOST if row.aside_host == "localhost" else row.aside_host
                aside = stack.enter_context(contextlib.closing(FaultServer(host=host)))
            usage = {"usage": "no-proxy", "list": ""}
            if self.way in {PROXY, TUNNEL}:
                proxy = stack.enter_context(contextlib.closing(ForwardProxy()))
                usage = {"usage": "override", "list": proxy.name}
            self.worker.proxy = {**self.worker.proxy, **usage}
            self.worker.job = f"{self.way}-{next(self._cells)}"
            self.worker.security_flags = row.flags
            self.worker.is_foreground = not row.asks_head
            self.worker.method = row.method
            entrusted: dict[str, Any] = {"credentials": list(row.credentials)}
            if row.certificate == "revoked":
                entrusted["revocation_lists"] = self._certificates.revoked_pem
            cell = Cell(self, row, kind, server, aside, folder / "temporary", entrusted)
            stack.callback(cell.close)
            yield cell

    def _server(self, certificate: str) -> FaultServer:
        return FaultServer(tls=self._certificates.context(certificate) if self.way in SECURE else None)

    def sound_server(self) -> FaultServer:
        """One with a good certificate."""
        return self._server("")


class Cell:
    """One row, one kind of transfer, one way."""

    def __init__(
        self,
        stage: Stage,
        row: Row,
        kind: str,
        server: FaultServer,
        aside: FaultServer | None,
        path: Path,
        entrusted: dict[str, Any],
    ) -> None:
        self.row, self.kind, self.server, self.path = row, kind, server, path
        self._stage, self._worker, self._aside, self._entrusted = stage, stage.worker, aside, entrusted
        self.durable_bytes = row.held_bytes if kind == RESUME else 0
        self.filled: list[tuple[int, int]] = []
        usual = {"size_bytes": SIZE, "etag": FIRST.etag, "last_modified": date(FIRST.modified), "media_type": TYPE}
        self._known: dict[str, Any] = {**usual, **row.known} if kind == RESUME else {}
        if kind == RESUME:
            path.write_bytes(A[: row.held_bytes])
        self._misbehave()

    def _misbehave(self) -> None:
        counts = itertools.count()
        names = {b"{self}": f"{HOST}:{self.server.port}".encode()}
        if self._aside is not None and self.row.aside is not None:
            names[b"{aside}"] = f"{self.row.aside_host}:{self._aside.port}".encode()
            answer_all(self._aside, self.row.aside, itertools.count(), names)
        answer_all(self.server, self.row.act, counts, names)
        if not self.row.is_head_too:
            self.server.answer("HEAD", lambda request: sound(request).steps())

    def close(self) -> None:
        """End the server that there is now."""
        self.server.close()

    def attempt(self) -> Story:
        """The file is ordered, as it is now."""
        ranges = {"ranges": RANGES, "filled": self.filled} if self.kind == PARTS else {}
        self._worker.entrusted = {**self._entrusted, **ranges}
        url = self.server.url(self.row.path)
        story = self._worker.story(self._worker.start(url, self.path, self.durable_bytes, **self._known))
        self._remember(story)
        return story

    def run(self) -> list[Story]:
        """As the manager does it: what cannot be continued begins anew, at most three times."""
        stories = [self.attempt()]
        while stories[-1].outcome == "restarted" and len(stories) < 4:
            stories.append(self.attempt())
        return stories

    def mend(self, version: Version) -> None:
        """From now on the server is sound and has this version."""
        if self.row.certificate:
            self.server.close()
            self.server = self._stage.sound_server()
            self._worker.security_flags = SecurityFlags(0)
        self._entrusted = {}
        for method in ("HEAD", "GET", "POST"):
            self.server.answer(method, lambda request: sound(request, version).steps())

    def fetch_another(self) -> bytes:
        """Another, sound file of the same job, over connections that are there."""
        path = self.path.with_name("another")
        self._worker.entrusted = {}
        self._worker.method = "GET"
        story = self._worker.fetch(self.server.url("/another"), path)
        assert story.outcome == "transferred", story.last
        return path.read_bytes()

    def told(self, stories: Sequence[Story]) -> Told:
        aside = [] if self._aside is None else list(self._aside.requests)
        requests = list(self.server.requests)
        return Told(way=self._stage.way, kind=self.kind, stories=list(stories), requests=requests, aside=aside)

    def arrived(self) -> bytes:
        return self.path.read_bytes()

    def check_kept(self, version: Version = FIRST) -> None:
        """What counts as being here is of one version."""
        expected, have = file_of(self.kind, version), self.arrived()
        assert have[: self.durable_bytes] == expected[: self.durable_bytes], "bytes that count are others"
        for offset, length in self.filled:
            assert have[offset : offset + length] == expected[offset : offset + length], "a part has other bytes"

    @property
    def kept_bytes(self) -> int:
        return self.durable_bytes + sum(length for _, length in self.filled)

    def _remember(self, story: Story) -> None:
        """What the manager's row knows after this."""
        if story.outcome == "restarted":
            self.durable_bytes, self.filled, self._known = 0, [], {}
            return
        self.filled += [(offset, length) for news in story.told("filled") for offset, length in news["ranges"]]
        if self.kind != PARTS:
            self.durable_bytes = story.last.get("durable_bytes", self.durable_bytes)
        for news in story.told("connected"):
            self._known = news.get("validators") or {name: news[name] for name in self._names if name in news}

    _names = ("size_bytes", "etag", "last_modified", "media_type")


def answer_all(server: FaultServer, act: Act, counts: Iterator[int], names: dict[bytes, bytes]) -> None:
    """Have the server act like this, whatever the method; with names filled in."""

    def steps(request: Request) -> Iterable[Step]:
        for step in act(request, counts):
            if isinstance(step, bytes) and step.startswith(b"HTTP/") and b"{" in step:
                for name, value in names.items():
                    step = step.replace(name, value)  # noqa: PLW2901  # the same step
            yield step

    for method in ("HEAD", "GET", "POST"):
        server.answer(method, steps)
