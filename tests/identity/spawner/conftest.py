"""A real spawner with probe programs; the test itself plays the manager and the clients.

`start_service(...)` starts one; `service.manager()` takes the place of its manager; `connect_as(uid)` is a client.
"""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from openbits import channel
from openbits.channel import Message

HARNESS = Path(__file__).with_name("harness.py")
DEADLINE_SECONDS = 15.0


@dataclass(eq=False)
class Manager:
    """The manager's end of the channel, in the hands of the test."""

    control: socket.socket
    client: socket.socket
    cookie: str
    """Of the connection of root by which the test came in."""
    configured: Message
    pid: int
    events: list[tuple[Message, list[int]]] = field(default_factory=list)
    number: int = 0
    opened: list[socket.socket] = field(default_factory=list)
    """Closed with the manager."""

    def ask(self, op: str, *descriptors: int, **fields: Any) -> tuple[Message, list[int]]:
        """A request and its answer; events that come in between are kept."""
        self.number += 1
        channel.send(self.control, {"op": op, "id": self.number, **fields}, descriptors)
        while True:
            message, received = channel.receive(self.control)
            if message.get("reply") == self.number:
                return message, received
            self.events.append((message, received))

    def event(self, name: str) -> tuple[Message, list[int]]:
        """The next event of that name; others are kept."""
        for position, (message, _) in enumerate(self.events):
            if message.get("event") == name:
                return self.events.pop(position)
        while True:
            message, received = channel.receive(self.control)
            if message.get("event") == name:
                return message, received
            self.events.append((message, received))

    def connected(self) -> tuple[str, Message, socket.socket]:
        """The next connection: cookie, record, the connection itself."""
        message, (descriptor, *process) = self.event("connected")
        channel.close_all(process)
        return message["cookie"], message["record"], self.own(descriptor)

    def start(self, program: str, uid: int, by: str | None = None) -> "Child":
        """A child that must start."""
        answer, descriptors = self.ask("start", program=program, uid=uid, by=by)
        assert answer["ok"], answer
        return Child(self.own(*descriptors))

    def own(self, descriptor: int) -> socket.socket:
        """The socket behind a descriptor that came from the spawner."""
        self.opened.append(socket.socket(fileno=descriptor))
        self.opened[-1].settimeout(DEADLINE_SECONDS)
        return self.opened[-1]

    def is_silent(self) -> bool:
        """True if nothing has come from the spawner."""
        return not self.events and not select.select([self.control], [], [], 0.2)[0]

    def close(self) -> None:
        for _, descriptors in self.events:
            channel.close_all(descriptors)
        for end in (self.control, self.client, *self.opened):
            end.close()


class Child:
    """The manager's end of the channel of a probe child."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.control.settimeout(DEADLINE_SECONDS)
        self.hello, _ = channel.receive(control)

    def do(self, what: str, **fields: Any) -> Message:
        channel.send(self.control, {"do": what, **fields})
        return channel.receive(self.control)[0]

    def errno_of_open(self, path: Path, flags: int = os.O_RDONLY) -> int:
        return int(self.do("open", path=str(path), flags=flags)["errno"])


@dataclass(eq=False)
class Service:
    """A running spawner."""

    process: subprocess.Popen[bytes]
    state: Path
    at: Path
    """The path of its socket."""
    errors: Path
    managers: list[Manager] = field(default_factory=list)
    peers: list[tuple[int, socket.socket]] = field(default_factory=list)
    """Processes that made connections, and what keeps them."""

    def connect(self) -> socket.socket:
        """A connection of this process, as soon as the service listens; it is accepted when the manager is ready."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(DEADLINE_SECONDS)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                client.connect(str(self.at))
            except (FileNotFoundError, ConnectionRefusedError):
                assert self.process.poll() is None, self.errors.read_text()
                assert time.monotonic() < deadline, self.errors.read_text()
                time.sleep(0.01)
            else:
                return client

    def connect_as(self, uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> socket.socket:
        """A connection made by a process of that identity, which stays until the service is stopped."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups(list(groups))
                os.setresgid(*[uid if gid is None else gid] * 3)
                os.setresuid(uid, uid, uid)
                os.closerange(3, theirs.fileno())  # connections that were made before, too
                os.closerange(theirs.fileno() + 1, 4096)
                with self.connect() as client:
                    socket.send_fds(theirs, [b"x"], [client.fileno()])
                theirs.recv(1)
            finally:
                os._exit(0)
        theirs.close()
        self.peers.append((pid, ours))
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
        client = socket.socket(fileno=descriptor)
        client.settimeout(DEADLINE_SECONDS)
        return client

    def manager(self) -> Manager:
        """Take the place of the manager that runs now."""
        client = self.connect()
        data, (descriptor,), _, _ = socket.recv_fds(client, 65536, 1)
        configured, connected = json.loads(data)
        control = socket.socket(fileno=descriptor)
        control.settimeout(DEADLINE_SECONDS)
        (pid,) = children_of(configured["pids"]["zygote"])
        manager = Manager(control, client, connected["cookie"], configured, pid)
        self.managers.append(manager)
        return manager

    def said(self) -> str:
        """What the service wrote to stderr."""
        return self.errors.read_text()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        for manager in self.managers:
            manager.close()
        for pid, end in self.peers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            end.close()
        self.peers.clear()
        return self.process.wait(DEADLINE_SECONDS)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def status_of() -> Callable[[int], dict[str, list[str]]]:
    """The fields of /proc/<pid>/status."""

    def read(pid: int) -> dict[str, list[str]]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {name: value.split() for name, value in (line.split(":", 1) for line in lines)}

    return read


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every uid may pass and write."""
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def start_service() -> Iterator[Callable[..., Service]]:
    """Factory of services: root's, or that of `uid`. `command` goes before the interpreter."""
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))
    folder.chmod(0o711)
    made: list[Service] = []

    def start(
        *,
        uid: int = 0,
        state: Path | None = None,
        at: Path | None = None,
        command: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Service:
        home = folder / f"home-{uid}"
        home.mkdir(0o711, exist_ok=True)
        os.chown(home, uid, uid)
        state = state or home / "state"
        at = at or (home / "run" / "bitsd.sock" if uid == 0 else state / "bitsd.sock")
        errors = folder / f"errors-{len(made)}"
        line = [*command, sys.executable, str(HARNESS), "--state-dir", str(state), "--socket", str(at), *options]
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                line, stderr=stderr, user=uid, group=uid, extra_groups=[], env={**os.environ, **(environ or {})}
            )
        made.append(Service(process, state, at, errors))
        return made[-1]

    yield start
    for service in made:
        service.stop()
    shutil.rmtree(folder)
