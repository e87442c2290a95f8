"""A worker in a process of its own, as the manager would drive it, and the servers it meets."""

import contextlib
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
from openbits.core.enums import SecurityFlags
from openbits.core.names import path_of

PROGRAM = """
import os, socket, sys
from openbits.transfer import worker
worker.run(socket.socket(fileno=int(sys.argv[1])))
os._exit(0)
"""

DEADLINE_SECONDS = 20
VERSION = ("size_bytes", "etag", "last_modified", "media_type")
LAST_WORDS = {"transferred", "restarted", "failed"}

PATIENT = {
    "connect_seconds": 10,
    "first_byte_seconds": 10,
    "floor_bytes": 1,
    "floor_seconds": 10,
    "send_seconds": 10,
    "answer_seconds": 10,
    "application_seconds": 20,
}


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
        is_strict: bool = False,
        denied_networks: Sequence[str] = (),
    ) -> None:
        self.keeps_sessions = True
        """The sessions of uploads are in the store when they are told."""
        self.channel, theirs = channel.pair()
        self.channel.settimeout(DEADLINE_SECONDS)
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", "-c", program, *map(str, (theirs.fileno(), *passing))],
            pass_fds=[theirs.fileno(), *passing],
        )
        theirs.close()
        self.proxy = {"usage": "no-proxy", "list": "", "bypass": "", "no_proxy": "", "script_url": ""}
        """What the next transfers are told of proxies."""
        self.tls_refusal: dict[str, object] | None = None
        """Why the next transfers may make no TLS connection."""
        self.security_flags = SecurityFlags(0)
        """What the next transfers are told of certificates and redirects."""
        self.has_certificate_callback = False
        """Whether the next transfers show certificates before they say anything; `decide` answers."""
        self.entrusted: dict[str, object] = {}
        """What else the next transfers find in the memory file."""
        self.headers: list[tuple[str, str]] | None = None
        """What the next transfers were entrusted with."""
        self.at_a_time = 1
        """How many of the next transfers of a job may run together."""
        self.authentication = {"implicit_server": False, "implicit_proxy": False, "basic_over_http": True}
        """What the next transfers are told of the policies about that."""
        self.is_upload = False
        """Which of the two files of the next transfers is the local one."""
        self.given_url: str | None = None
        """What a client named the file of the next transfers, if it is not their URL."""
        self.is_foreground = True
        """Of what priority the next transfers are: others ask HEAD first."""
        self.method = "GET"
        self.is_dynamic = False
        self.size_limit_bytes: int | None = None
        """How the next transfers are asked for, and how large their file may be."""
        self.is_on_demand = False
        """Whether of the next transfers only what is wanted comes; their ranges are in `entrusted`."""
        self.segments = 1
        """How many connections the next transfers may have."""
        self.rate_bytes_per_second: int | None = None
        """What the job of the next transfers may receive."""
        self._news: dict[str, list[Message]] = {}
        self.job = "job"
        """Whose the next transfers are."""
        self._keys = 0
        self._http = {"is_strict": is_strict, "denied_networks": list(denied_networks)}
        self.configure({**PATIENT, **(limits or {})}, ca)

    def configure(self, limits: dict[str, float], ca: Path | None) -> None:
        message = {"op": "configure", "limits": limits, "http": self._http}
        if ca is None:
            channel.send(self.channel, message)
            return
        with ca.open("rb") as source:
            channel.send(self.channel, message, [source.fileno()])

    def start(self, url: str, path: Path, offset: int = 0, **validators: Any) -> str:
        """Begin a transfer into `path` (which keeps what it has); returns its key."""
        self._keys += 1
        key = f"{self.job}:{self._keys}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        given = {**self.entrusted, "headers": self.headers or []}
        entrusted = [_in_memory(given)] if self.entrusted or self.headers is not None else []
        source = path_of(url)
        entrusted = entrusted if source is None else [os.open(source, os.O_RDONLY)]
        try:
            self.send(self.order(key, url, offset, **validators), [descriptor, *entrusted])
        finally:
            channel.close_all([descriptor, *entrusted])
        return key

    def order(self, key: str, url: str, offset: int = 0, **validators: Any) -> Message:
        """What the worker is told of a transfer."""
        return {
            "op": "transfer",
            "transfer": key,
            "url": url,
            "is_on_demand": self.is_on_demand,
            "segments": self.segments,
            "offset": offset,
            "validators": {**dict.fromkeys(VERSION), **validators},
            "security_flags": int(self.security_flags),
            "is_foreground": self.is_foreground,
            "at_a_time": self.at_a_time,
            "given_url": url if self.given_url is None else self.given_url,
            "method": self.method,
            "is_dynamic": self.is_dynamic,
            "size_limit_bytes": self.size_limit_bytes,
            "rate_bytes_per_second": self.rate_bytes_per_second,
            "proxy": self.proxy,
            "tls_refusal": self.tls_refusal,
            "authentication": self.authentication,
            "has_certificate_callback": self.has_certificate_callback,
            "is_upload": self.is_upload,
        }

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
        news = self._news.setdefault(message["transfer"], [])
        if "connected" in message:  # a file that came whole in one go has no news of its own for that
            news.append({"event": "connected", "transfer": message["transfer"], **message["connected"]})
        news.append(message)
        if self.keeps_sessions and message["event"] == "acknowledged" and message["session"] is not None:
            with contextlib.suppress(channel.ChannelClosedError):  # which the next news will tell
                self.send({"op": "kept", "transfer": message["transfer"]})
        return message

    def decide(self, question: Message, hresult: int) -> None:
        """What the certificate callback says to news `certificate`."""
        answer = {"op": "certificate-verdict", "number": question["number"], "hresult": hresult}
        self.send({**answer, "transfer": question["transfer"]})

    def reposition(self, key: str, *wanted: tuple[int, int | None]) -> None:
        """From now on this is wanted first."""
        memory = _in_memory({"wanted": wanted})
        self.send({"op": "reposition", "transfer": key}, [memory])
        os.close(memory)

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
        """The last `connected`; of a file that came whole in one go it is part of `transferred`."""
        told = (news.get("connected", news) for news in reversed(self.news))
        return next(news for news in told if "validators" in news or "etag" in news)

    def told(self, *events: str) -> list[Message]:
        """The news of these kinds."""
        return [news for news in self.news if news["event"] in events]


@pytest.fixture
def start_worker() -> Iterator[Callable[..., WorkerProcess]]:
    """Factory of workers with limits, certificates and other settings of their own."""
    made: list[WorkerProcess] = []

    def make(**options: Any) -> WorkerProcess:
        made.append(WorkerProcess(**options))
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
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the other side of NTLM finds its users; the worker has none of it."""
    path = tmp_path / "accounts"
    monkeypatch.setenv("NTLM_USER_FILE", str(path))
    return path


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
