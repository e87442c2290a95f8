"""A worker in a process of its own, as the manager would drive it, and the servers it meets."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.real.nginx import Certificates, Nginx
from tests.transfer.faultserver import FaultServer

from openbits import channel
from openbits.channel import Message
from openbits.core.names import path_of

PROGRAM = """
import os, socket, sys
from openbits.transfer import worker
worker.run(socket.socket(fileno=int(sys.argv[1])))
os._exit(0)
"""

DEADLINE_SECONDS = 20
LAST_WORDS = {"transferred", "restarted", "failed"}

PATIENT = {"connect_seconds": 10, "first_byte_seconds": 10, "floor_bytes": 1, "floor_seconds": 10}


class WorkerProcess:
    """The manager's side of one network worker."""

    def __init__(
        self,
        *,
        limits: dict[str, float] | None = None,
        ca: Path | None = None,
        prefix: Sequence[str] = (),
        program: str = PROGRAM,
        passing: Sequence[int] = (),
    ) -> None:
        self.channel, theirs = channel.pair()
        self.channel.settimeout(DEADLINE_SECONDS)
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", "-c", program, *map(str, (theirs.fileno(), *passing))],
            pass_fds=[theirs.fileno(), *passing],
        )
        theirs.close()
        self.proxy = {"usage": "preconfig", "list": "", "bypass": ""}
        """What the next transfers are told of proxies."""
        self.tls_refusal: dict[str, object] | None = None
        """Why the next transfers may make no TLS connection."""
        self.headers: list[tuple[str, str]] | None = None
        """What the next transfers were entrusted with."""
        self.is_upload = False
        """Which of the two files of the next transfers is the local one."""
        self._news: dict[str, list[Message]] = {}
        self._keys = 0
        self.configure({**PATIENT, **(limits or {})}, ca)

    def configure(self, limits: dict[str, float], ca: Path | None) -> None:
        message = {"op": "configure", "limits": limits}
        if ca is None:
            channel.send(self.channel, message)
            return
        with ca.open("rb") as source:
            channel.send(self.channel, message, [source.fileno()])

    def start(self, url: str, path: Path, offset: int = 0, **validators: Any) -> str:
        """Begin a transfer into `path` (which keeps what it has); returns its key."""
        self._keys += 1
        key = f"job:{self._keys}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        entrusted = [] if self.headers is None else [_in_memory({"headers": self.headers})]
        source = path_of(url)
        entrusted = entrusted if source is None else [os.open(source, os.O_RDONLY)]
        try:
            self.send(
                {
                    "op": "transfer",
                    "transfer": key,
                    "url": url,
                    "offset": offset,
                    "validators": {"size_bytes": None, "etag": None, "last_modified": None, **validators},
                    "is_foreground": True,
                    "proxy": self.proxy,
                    "tls_refusal": self.tls_refusal,
                    "is_upload": self.is_upload,
                },
                [descriptor, *entrusted],
            )
        finally:
            channel.close_all([descriptor, *entrusted])
        return key

    def fetch(self, url: str, path: Path, offset: int = 0, **validators: Any) -> "Story":
        """A transfer to its end; what cannot be continued is ordered anew from byte 0, as the manager does."""
        story = self.story(self.start(url, path, offset, **validators))
        if story.outcome != "restarted":
            return story
        return Story([*story.news, *self.story(self.start(url, path)).news])

    def story(self, key: str) -> "Story":
        """All news of a transfer up to its last word."""
        while not (self._news.get(key) and self._news[key][-1]["event"] in LAST_WORDS):
            self.next_news()
        return Story(self._news.pop(key))

    def wait_for(self, key: str, event: str, *, until: Callable[[Message], bool] = lambda _: True) -> Message:
        """The first news of that kind that meets the condition."""
        seen = 0
        while True:
            for news in self._news.get(key, [])[seen:]:
                seen += 1
                if news["event"] == event and until(news):
                    return news
            self.next_news()

    def next_news(self) -> Message:
        """Wait for one more message, and keep it."""
        message, descriptors = channel.receive(self.channel)
        assert not descriptors
        self._news.setdefault(message["transfer"], []).append(message)
        return message

    def cancel(self, key: str) -> None:
        self.send({"op": "cancel", "transfer": key})

    def send(self, message: Message, descriptors: list[int] | None = None) -> None:
        channel.send(self.channel, message, descriptors or [])

    def cpu_seconds(self) -> float:
        """CPU time the process has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """How many descriptors the process has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def close(self) -> None:
        self.channel.close()
        try:
            assert self.process.wait(DEADLINE_SECONDS) == 0, "the worker crashed"
        finally:
            self.process.kill()
            self.process.wait()


def _in_memory(message: Message) -> int:
    memory = os.memfd_create("entrusted")
    os.write(memory, json.dumps(message).encode())
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


class Story:
    """The news of one transfer, in order."""

    def __init__(self, news: list[Message]) -> None:
        self.news = news
        self.last = news[-1]

    @property
    def outcome(self) -> str:
        """One of LAST_WORDS."""
        return str(self.last["event"])

    @property
    def hresult(self) -> int:
        assert self.outcome == "failed", self.last
        return int(self.last["hresult"])

    @property
    def detail(self) -> str:
        assert self.outcome == "failed", self.last
        return str(self.last["detail"])

    @property
    def connected(self) -> Message:
        """The last `connected`."""
        return next(news for news in reversed(self.news) if news["event"] == "connected")

    def told(self, *events: str) -> list[Message]:
        """The news of these kinds."""
        return [news for news in self.news if news["event"] in events]


@pytest.fixture
def start_worker() -> Iterator[Callable[..., WorkerProcess]]:
    """Factory of workers with limits and certificates of their own."""
    made: list[WorkerProcess] = []

    def make(*, limits: dict[str, float] | None = None, ca: Path | None = None) -> WorkerProcess:
        made.append(WorkerProcess(limits=limits, ca=ca))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    """A worker for all tests of a module: it must survive whatever a server does."""
    process = WorkerProcess()
    yield process
    process.close()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A fault server without TLS."""
    made = FaultServer()
    yield made
    made.close()


@pytest.fixture
def start_tls_server() -> Iterator[Callable[[tuple[Path, Path]], FaultServer]]:
    """Factory of fault servers with a certificate and its key."""
    made: list[FaultServer] = []

    def make(certificate_and_key: tuple[Path, Path]) -> FaultServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate_and_key)
        made.append(FaultServer(tls=context))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """Where the file goes."""
    return tmp_path / "temporary"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate authority of our own and server certificates of it."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Nginx]:
    """A real server, plain and TLS."""
    made = Nginx(tmp_path_factory.mktemp("nginx"), certificates)
    yield made
    made.close()
