"""A whole running service, real users who use it, and a web server that knows who connects.

The service runs from the installed package as users get it; each test has its own state directory and socket. To act
as another user a test forks, drops to that user in the child, and gets the result back.
"""

import contextlib
import hashlib
import http.server
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import pytest
from tests.peers import uid_of_peer
from tests.real import canaries

import openbits

P = ParamSpec("P")
R = TypeVar("R")

START_SECONDS = 30.0
SPAWNER = (sys.executable, "-I", "-m", "openbits.identity.spawner")


BASE_CONFIG = '[sessions]\nassume_logged_on = ["*"]\n[log]\nlevel = "debug"\n'
"""The users of tests come and go by forks; only the tests of sessions are about that. No level may show secrets."""


class Service:
    """One running service; `stop` and `start` again keep the state directory."""

    def __init__(
        self, base: Path, uid: int, environ: dict[str, str] | None = None, command: Sequence[str] = SPAWNER
    ) -> None:
        self.base = base
        self.uid = uid
        self.command = command
        """How the next start runs the spawner; `--state-dir` and `--socket` are added."""
        self.state = base / "state"
        self.socket = base / "run" / "bitsd.sock"
        self.config = base / "config"
        self.log_path = base / "bitsd.log"
        self._environ = environ or {}
        self._process: subprocess.Popen[bytes] | None = None
        for folder in (self.state, self.socket.parent, self.config):
            folder.mkdir(exist_ok=True)
            os.chown(folder, uid, uid)
            folder.chmod(0o755)
        (self.config / "base.toml").write_text(BASE_CONFIG)

    @property
    def pid(self) -> int:
        """Pid of the spawner."""
        assert self._process is not None
        return self._process.pid

    def configure(self, text: str) -> None:
        """Write the configuration that the next start reads."""
        (self.config / "test.toml").write_text(text)

    def set_policies(self, text: str) -> None:
        """Write the policies: the next start reads them, a running service within two seconds."""
        folder = self.config / "policy.d"
        folder.mkdir(exist_ok=True)
        (folder / "site.toml").write_text(text)

    def start(self) -> None:
        """Start, and return when it answers."""
        environ = {"PATH": os.environ["PATH"], "OPENBITS_CONFIG": str(self.config), "HOME": "/", **self._environ}
        identity: dict[str, Any] = {}
        if self.uid != os.geteuid():
            identity = {"user": self.uid, "group": self.uid, "extra_groups": []}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.command, "--state-dir", str(self.state), "--socket", str(self.socket)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                cwd="/",
                **identity,
            )
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """After a start, or after a part of it was killed."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.pids()
            except openbits.BitsError:
                if time.monotonic() > deadline or (self._process is not None and self._process.poll() is not None):
                    pytest.fail(f"the service does not answer:\n{self.log()}")
                time.sleep(0.02)
            else:
                return

    def client(self, level: openbits.Level = openbits.Level.IMPERSONATE) -> openbits.Client:
        """A client of this service under the identity of this process."""
        return openbits.Client(level, socket=str(self.socket))

    def pids(self) -> dict[str, int]:
        """Pids of the programs: spawner, zygote, manager, broker:UID, worker:UID."""

        def ask() -> dict[str, int]:
            with self.client() as client:
                return dict(client.info["process_ids"])

        if self.uid in {0, os.geteuid()}:
            return ask()
        return run_as(Person(uid=self.uid, gid=self.uid), ask)  # a client trusts only root's service and its own

    def kill(self, program: str) -> None:
        """Kill -9 one program by name, e.g. `worker`; `spawner` ends all of it."""
        for name, pid in self.pids().items():
            if name.partition(":")[0] == program:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if program == "spawner":
            assert self._process is not None
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait for the end."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=30)

    def has_ended(self) -> bool:
        """True if the spawner is dead, and reaped by this call."""
        return self._process is not None and self._process.poll() is not None

    def wait(self, seconds: float = 30) -> int:
        """Wait for an end that comes by itself; the exit status."""
        assert self._process is not None
        return self._process.wait(timeout=seconds)

    def close(self) -> None:
        """End whatever still runs, and look for secrets in what it leaves behind (`tests.real.canaries`)."""
        found = canaries.found_in_processes(self.pid) if self._process is not None else []
        self._end()
        found += canaries.found_in_files(self.state, self.log_path)
        assert not found, f"secrets are in clear in {found}"

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def log(self) -> str:
        """What the service wrote."""
        return self.log_path.read_text(errors="replace")


@pytest.fixture
def make_service(open_tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Factory `make_service(uid=…, environ=…, command=…)`; not started yet."""
    made: list[Service] = []

    def make(
        uid: int | None = None, environ: dict[str, str] | None = None, command: Sequence[str] = SPAWNER
    ) -> Service:
        base = open_tmp_path / f"service{len(made)}"
        base.mkdir(mode=0o755)
        made.append(Service(base, os.geteuid() if uid is None else uid, environ, command))
        return made[-1]

    yield make
    with contextlib.ExitStack() as endings:
        for service in made:
            endings.callback(service.close)


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """A running service of whoever runs the tests: the machine's kind for root, an own one otherwise."""
    running = make_service()
    running.start()
    return running


@pytest.fixture
def as_user() -> Callable[..., Any]:
    """`as_user(user, function, *args)`: the result of the call in a child that has become this user."""
    return run_as


@dataclass(frozen=True, kw_only=True)
class Person:
    """An identity without an account of its own: root, or bare numbers."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@pytest.fixture
def root() -> Person:
    """The superuser."""
    return Person(uid=0, gid=0)


def run_as(user: Any, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Fork, become `user` (a Person, or an account with all its groups), call; bring result or exception back."""
    groups = list(user.groups) if isinstance(user, Person) else os.getgrouplist(user.name, user.gid)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(user, groups, writing, lambda: function(*args, **kwargs))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        pytest.fail("the child ended without a result")
    is_good, value = pickle.loads(data)  # noqa: S301  # written by our own child
    if is_good:
        result: R = value
        return result
    error, trace = value
    error.add_note(trace)
    raise error


def _child(user: Any, groups: list[int], writing: int, call: Callable[[], object]) -> NoReturn:
    try:
        if os.geteuid() == 0:
            os.setgroups(groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
        result: tuple[bool, object] = (True, call())
    except openbits.BitsError as error:
        result = (False, (error, ""))
    except BaseException as error:  # noqa: BLE001  # everything is reported to the test
        result = (False, (AssertionError(f"{type(error).__name__}: {error}"), traceback.format_exc()))
    try:
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(result, pipe)
    finally:
        os._exit(0)


@dataclass(frozen=True)
class Seen:
    """One request: method, path, first byte asked for, and the uid of the socket at the other end."""

    method: str
    path: str
    first_byte: int
    uid: int
    headers: dict[str, str] = field(default_factory=dict, compare=False)
    """By lower-case name."""


LAST_MODIFIED = "Wed, 01 Oct 2025 12:00:00 GMT"


@dataclass
class Site:
    """What the recording server serves; change it at any time."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    modified: dict[str, str] = field(default_factory=dict)
    """Last-Modified where it is not that of everything else."""
    seen: list[Seen] = field(default_factory=list)
    gates: dict[str, tuple[int, threading.Event]] = field(default_factory=dict)
    """Path → so many bytes are sent, the rest when the event is set."""
    refuse_uids: set[int] = field(default_factory=set)
    has_ranges: bool = True
    url: str = ""

    def put(self, path: str, body: bytes) -> str:
        """Serve `body` at `path`; the whole URL."""
        self.bodies[path] = body
        self.tags[path] = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        return self.url + path

    def gate(self, path: str, after_bytes: int) -> threading.Event:
        """Hold the body back after so many bytes (counted from the start of the file) until the event is set."""
        event = threading.Event()
        self.gates[path] = (after_bytes, event)
        return event

    def headers(self, path: str, *names: str) -> list[dict[str, str]]:
        """These headers of all requests for the path, as far as they had them."""
        asked = [seen.headers for seen in self.seen if seen.path == path]
        return [{name: headers[name] for name in names if name in headers} for headers in asked]

    def uids(self, path: str) -> set[int]:
        """Uids of all sockets that asked for the path."""
        return {seen.uid for seen in self.seen if seen.path == path}

    def offsets(self, path: str) -> list[int]:
        """First bytes of the GET requests for the path, in order."""
        return [seen.first_byte for seen in self.seen if seen.path == path and seen.method == "GET"]


class _SiteServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # who finds it full tries again a second later, and then ever more rarely


def _handler_of(content: Site) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.head()

        def do_GET(self) -> None:
            first = self.head()
            body = content.bodies.get(self.path, b"")
            with contextlib.suppress(ConnectionError):
                stop, event = content.gates.get(self.path, (len(body), threading.Event()))
                if first < stop < len(body):
                    self.wfile.write(body[first:stop])
                    first = stop
                if first < len(body) and self.path in content.gates:
                    event.wait(60)
                self.wfile.write(body[first:])

        def head(self) -> int:
            uid = uid_of_peer(self.connection)
            body = content.bodies.get(self.path)
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = int(match.group(1)) if match and content.has_ranges else 0
            modified = content.modified.get(self.path, LAST_MODIFIED)
            if self.headers.get("If-Range", modified) not in {content.tags.get(self.path), modified}:
                first = 0
            headers = {name.lower(): value for name, value in self.headers.items()}
            content.seen.append(Seen(self.command, self.path, int(match.group(1)) if match else 0, uid, headers))
            if body is None or uid in content.refuse_uids:
                self.send_response(404 if body is None else 403)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return 1 << 62
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(body) - first))
            self.send_header("ETag", content.tags[self.path])
            self.send_header("Last-Modified", modified)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            return first

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # signature of the library
            pass

    return Handler


@pytest.fixture
def site() -> Iterator[Site]:
    """A loopback web server that records who asks."""
    content = Site()
    server = _SiteServer(("127.0.0.1", 0), _handler_of(content))
    content.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield content
    for _, event in content.gates.values():
        event.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def private_folder(open_tmp_path: Path) -> Callable[[Any], Path]:
    """`private_folder(user)`: a 0700 folder of this user."""
    counter = iter(range(1000))

    def make(user: Any) -> Path:
        folder = open_tmp_path / f"private{next(counter)}"
        folder.mkdir(mode=0o700)
        os.chown(folder, user.uid, user.gid)
        return folder

    return make
