"""Where proxy scripts run: a process that can compute, ask us for addresses, and nothing else.

A script is written by whoever serves it, or by whoever answers to the name `wpad` in a foreign network. So each
evaluation has a process of its own, and no script meets another one's leavings. It is forked from a *nursery*, which
the worker forks when it starts: nothing that was entrusted to a job has been in that memory. The process has the
identity of the worker, no files and no network (seccomp, not one descriptor more), 64 MiB and one second of CPU; what
else it wants it asks over its socket: `{"resolve": name}`, answered with `{"addresses": [...]}`. Its last word is
`{"answer": text}` or `{"error": text}`. If there is none, the limits ended it.
"""

import contextlib
import functools
import json
import mmap
import os
import resource
import signal
import socket
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NoReturn

from dukpy import JSRuntimeError, _dukpy

from openbits import channel
from openbits.channel import ChannelClosedError, Message
from openbits.core.pac_functions import Function, Surroundings, functions
from openbits.identity import drop, seccomp

CPU_SECONDS: Final = 1

MEMORY_BYTES: Final = 64 * 1024 * 1024

MAX_ANSWER: Final = 8192
"""Characters of an answer or of an error that go back."""

MAX_SHOWN: Final = 60
"""Characters of what should have been an answer."""

_PRECISION_BYTES: Final = 1 << 20

_PRELUDE: Final = """
(function (names, call) {
  for (const name of names) {
    Object.defineProperty(globalThis, name, {
      configurable: true, writable: true, value: (...given) => call(name, ...given),
    });
  }
})(NAMES, globalThis.call_python);
"""

_QUESTION: Final = """
(function (url, host) {
  const find = typeof FindProxyForURL === "function" ? FindProxyForURL
    : typeof FindProxyForURLEx === "function" ? FindProxyForURLEx : null;
  return find === null ? {missing: true} : {found: find(url, host)};
})(URL, HOST)
"""


class Nursery:
    """The worker's side: a forked process from which evaluations are forked."""

    def __init__(self) -> None:
        self._channel, theirs = channel.pair()
        worker = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _run(theirs, worker)
        theirs.close()

    def begin(self, script: bytes, question: Message) -> socket.socket:
        """Evaluate; the socket of the process that does. Raises ChannelClosedError if the nursery has ended.

        `question`: url, host, the local and the UTC time (ISO 8601) and the addresses of the machine.
        """
        ours, theirs = channel.pair()
        memory = os.memfd_create("script", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(memory), "wb") as file:
                file.write(script)
            channel.send(self._channel, question, [memory, theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(memory)
            theirs.close()
        return ours

    def close(self) -> None:
        """End it, and wait until it has."""
        self._channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


# In the nursery


def _run(orders: socket.socket, worker: int) -> NoReturn:
    try:
        os.closerange(3, orders.fileno())
        os.closerange(orders.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        drop.end_with(worker)
        drop.set_name("pac")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
        orders.setblocking(True)
        _serve(orders)
    except ChannelClosedError:
        os._exit(0)
    except BaseException:  # noqa: BLE001  # nothing may escape into the code of the worker
        traceback.print_exc()
    finally:
        os._exit(1)


def _serve(orders: socket.socket) -> None:
    nursery, most_bytes = os.getpid(), _address_space_bytes() + MEMORY_BYTES
    while True:
        question, descriptors = channel.receive(orders)
        if os.fork() == 0:
            orders.close()
            _evaluate(question, *descriptors, nursery=nursery, most_bytes=most_bytes)
        channel.close_all(descriptors)


def _address_space_bytes() -> int:
    """How much this process has, found by trying: a worker may not look into /proc."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    fits, too_little = _within(1 << 46, before[1]), 0
    while fits - too_little > _PRECISION_BYTES:
        tried = (fits + too_little) // 2
        try:
            resource.setrlimit(resource.RLIMIT_AS, (tried, before[1]))
            mmap.mmap(-1, mmap.PAGESIZE).close()
        except (OSError, ValueError, MemoryError):
            too_little = tried
        else:
            fits = tried
    resource.setrlimit(resource.RLIMIT_AS, before)
    return fits


def _within(value: int, hard_limit: int) -> int:
    return value if hard_limit == resource.RLIM_INFINITY else min(value, hard_limit)


# In the process of one evaluation


def _evaluate(question: Message, script_fd: int, socket_fd: int, *, nursery: int, most_bytes: int) -> NoReturn:
    try:
        drop.end_with(nursery)
        with os.fdopen(script_fd, "rb") as file:
            file.seek(0)
            script = file.read()
        worker = socket.socket(fileno=socket_fd)
        _confine(most_bytes)
        channel.send(worker, _answer_of(worker, script, question))
        os._exit(0)
    finally:
        os._exit(1)


def _confine(most_bytes: int) -> None:
    """Give up everything but computing. Raises OSError where that is impossible."""
    dead_end, other_end = os.pipe()
    os.close(other_end)
    for standard in range(3):  # an engine that is taken over shall have no log to write to
        os.dup2(dead_end, standard)
    os.close(dead_end)
    limits = (
        (resource.RLIMIT_AS, most_bytes),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
    )
    for limit, value in limits:
        allowed = _within(value, resource.getrlimit(limit)[1])
        resource.setrlimit(limit, (allowed, allowed))
    seccomp.allow_only_computing()


def _answer_of(worker: socket.socket, script: bytes, question: Message) -> Message:
    @functools.cache  # many a script asks for the same host in every line
    def resolve(name: str) -> Sequence[str]:
        channel.send(worker, {"resolve": name[:255]})
        answer, _ = channel.receive(worker)
        return [str(address) for address in answer["addresses"]]

    around = Surroundings(
        local=datetime.fromisoformat(question["local"]),
        utc=datetime.fromisoformat(question["utc"]),
        addresses=tuple(question["addresses"]),
        resolve=resolve,
    )
    try:
        engine = _Engine(functions(around))
        engine.run(_PRELUDE.replace("NAMES", json.dumps(engine.names)))
        engine.run(script)
        asked = _QUESTION.replace("URL, HOST", f"{json.dumps(question['url'])}, {json.dumps(question['host'])}")
        found = engine.run(asked)
    except (JSRuntimeError, MemoryError, RecursionError, ValueError) as error:
        words = str(error).splitlines()[:1]  # the other lines name functions
        return {"error": "".join(words)[:MAX_ANSWER] or type(error).__name__}
    if not isinstance(found, dict) or "missing" in found:
        return {"error": "it has no function FindProxyForURL"}
    answer = found.get("found")
    if isinstance(answer, str):
        return {"answer": answer[:MAX_ANSWER]}
    return {"error": f"FindProxyForURL returned no text but {json.dumps(answer)[:MAX_SHOWN]}"}


class _Engine:
    """A bare context of the JavaScript engine: what it calls back, by the names that its extension module expects.

    The interpreter that the library offers has files, the environment and modules for its scripts; this has nothing.
    """

    def __init__(self, known: Mapping[str, Function]) -> None:
        self._known = known
        self._ctx = _dukpy.create_context()

    @property
    def names(self) -> list[str]:
        """Of the functions that a script may call."""
        return list(self._known)

    def run(self, source: str | bytes) -> object:
        """Evaluate as a script of the global context. Raises JSRuntimeError."""
        code = source.encode() if isinstance(source, str) else source
        answer = _dukpy.eval_string(self, code, b"{}", False, "script")
        return None if answer is None else json.loads(answer)

    def _check_exported_function_exists(self, name: bytes) -> bool:
        return name.decode() in self._known

    def _call_python(self, name: bytes, arguments: bytes) -> bytes:
        return json.dumps(self._known[name.decode()](*json.loads(arguments))).encode()
