"""One generation of the service: a zygote, the manager it starts, and the connections and tokens of that manager.

The root loop. It waits for nobody: while the manager has messages to read, nothing new is accepted or asked. It
believes the kernel about identities and the manager about nothing; what it grants is the table OPERATIONS, what each
message means docs/processes.md. When a part breaks the generation ends, its children by SIGKILL; the spawner makes
the next one. Standard library only.
"""

import errno
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, TypeVar

from openbits import channel
from openbits.channel import ChannelClosedError, Message
from openbits.identity import landlock, zygote
from openbits.identity.admitted import AdmittedOwners
from openbits.identity.registry import RefusedError, Registry
from openbits.identity.statedir import Places, State

STUCK_SECONDS = 30.0
"""A manager that has read nothing for so long counts as dead."""
PAUSE_SECONDS = 0.1
"""Pause of accept when descriptors have run out; also how often something temporary is looked at."""
FAREWELL_SECONDS, LAST_WORDS_SECONDS = zygote.FAREWELL_SECONDS + 2, 0.5
"""How long the children may take to end when the service stops, and when the generation broke."""
LOGON_SECONDS = 60.0
MAX_LOGONS = 8
LOGON_COMMAND: Sequence[str] = (sys.executable, "-I", "-m", "openbits.identity.logon")
LOGON_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
NO_LOGON_SERVERS = 0x8007051F  # identity.md §9
T = TypeVar("T")
Answer = tuple[Message, Sequence[int]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Logon:
    """A logon helper that has not answered yet; `process` is its pidfd."""

    number: int
    level: int
    helper: socket.socket
    process: int
    expires_at: float


class Generation:
    """Runs until it breaks or is asked to stop; everything it made ends with it."""

    def __init__(
        self, place: Places, state: State, listener: socket.socket, wake: socket.socket, programs: Mapping[str, str]
    ) -> None:
        self.is_ready = False
        """True once the manager has said hello, unless it then says that it cannot serve."""
        self._is_stopping = False
        self._uid, self._place, self._state, self._listener = os.geteuid(), place, state, listener
        self._registry, self._admitted = Registry(self._uid), AdmittedOwners(state.admitted)
        self._outgoing: deque[Answer] = deque()
        self._read_at = self._accept_at = time.monotonic()
        self._logons: set[Logon] = set()
        self._zygote_pid, self._zygote = zygote.fork(programs)
        self._zygote_process = os.pidfd_open(self._zygote_pid)
        self._manager, theirs = channel.pair()
        for near in (self._zygote, self._manager):
            near.setblocking(False)
        identity = {"uid": state.manager[0], "gid": state.manager[1], "groups": []}
        with theirs:
            order = {"program": "manager", **identity, "private_mount": state.private_mount}
            channel.send(self._zygote, order, [theirs.fileno()])
        self._poll, self._handlers = select.epoll(), dict[int, Callable[[], None]]()
        self._watch(wake, self._stop, select.EPOLLIN)
        self._watch(listener, self._accept)
        self._watch(self._manager, self._hear)
        self._watch(self._zygote, self._lose_zygote)

    def run(self, on_ready: Callable[[], object]) -> str | None:
        """Serve; returns why the generation broke, None if it was asked to stop."""
        self._on_ready = on_ready
        try:
            while not self._is_stopping:
                self._turn(time.monotonic())
        except ChannelClosedError as ending:
            return str(ending)
        finally:
            self._end(FAREWELL_SECONDS if self._is_stopping else LAST_WORDS_SECONDS)
        return None

    def _turn(self, now: float) -> None:
        """Handle one event; only one, since its handler may close what others of the same moment are about."""
        is_unread, is_paused = bool(self._outgoing), now < self._accept_at
        self._poll.modify(self._manager, select.EPOLLOUT if is_unread else select.EPOLLIN)
        self._poll.modify(self._listener, select.EPOLLIN if self.is_ready and not (is_unread or is_paused) else 0)
        is_temporary = is_unread or is_paused or self._logons
        for descriptor, _ in self._poll.poll(PAUSE_SECONDS if is_temporary else None, 1):
            self._handlers[descriptor]()
        if is_unread and now > self._read_at + STUCK_SECONDS:
            raise ChannelClosedError(f"the manager has read nothing for {STUCK_SECONDS:g} s")
        for logon in self._logons:
            if now > logon.expires_at:
                _kill(logon.process)

    def _end(self, patience_seconds: float) -> None:
        self._manager.close()
        self._zygote.close()
        for logon in self._logons:
            _kill(logon.process)
            os.close(logon.process)
            logon.helper.close()
        zygote_end = select.poll()
        zygote_end.register(self._zygote_process, select.POLLIN)
        if not zygote_end.poll(patience_seconds * 1000):
            _kill(self._zygote_process)
            zygote_end.poll()
        os.close(self._zygote_process)
        for entry in self._registry.entries.values():
            with suppress(OSError):
                entry.end.shutdown(socket.SHUT_RDWR)
            entry.end.close()
            if entry.helper is not None:
                entry.helper.close()
        for _, descriptors in self._outgoing:
            channel.close_all(descriptors)
        self._poll.close()

    def _watch(self, end: socket.socket, handler: Callable[[], None], events: int = 0) -> None:
        """Call the handler on these events, and whenever the far end is gone."""
        self._handlers[end.fileno()] = handler
        self._poll.register(end, events)

    def _forget(self, end: socket.socket) -> None:
        del self._handlers[end.fileno()]
        self._poll.unregister(end)
        end.close()

    # -- events ---------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._is_stopping = True

    def _lose_zygote(self) -> None:
        raise ChannelClosedError("the zygote ended")

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.ECONNABORTED}:  # descriptors or memory
                self._accept_at = time.monotonic() + PAUSE_SECONDS
            return
        copy = -1
        try:
            copy = os.dup(connection.fileno())
            cookie = self._registry.add_connection(connection)
        except (OSError, RefusedError):
            channel.close_all([copy])
            connection.close()
            return
        self._watch(connection, partial(self._lost, cookie, "disconnected"))
        record = self._registry.entries[cookie].record
        self._tell({"event": "connected", "cookie": cookie, "record": record}, [copy])

    def _lost(self, cookie: str, event: str) -> None:
        """The far end of a connection or token is gone, or the logon helper behind a token."""
        entry = self._registry.entries.pop(cookie)
        self._forget(entry.end)
        if entry.helper is not None:
            self._forget(entry.helper)
        self._tell({"event": event, "cookie": cookie})

    def _tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send to the manager now or as soon as it reads; the descriptors are closed then."""
        self._outgoing.append((message, descriptors))
        self._flush()

    def _flush(self) -> None:
        with suppress(BlockingIOError):
            while self._outgoing:
                channel.send(self._manager, *self._outgoing[0])
                channel.close_all(self._outgoing.popleft()[1])
                self._read_at = time.monotonic()

    def _hear(self) -> None:
        """The manager can be written to, or has written; a message that is not in the contract is its end."""
        if self._outgoing:
            self._flush()
            return
        message, descriptors = channel.receive(self._manager)
        try:
            if self.is_ready:
                self._obey(message, descriptors)
            else:
                self._greet(message)
        finally:
            channel.close_all(descriptors)

    def _greet(self, hello: Message) -> None:
        if hello.get("hello") != "manager":
            raise ChannelClosedError(str(hello.get("text", "the manager sent something else than its hello")))
        self.is_ready = True
        configured = {"event": "configured", "mode": "user" if self._uid else "machine", "uid": self._uid}
        paths = {
            "store_dir": self._state.store,
            "config_dir": str(self._place.config),
            "socket": str(self._place.socket),
        }
        self._tell({**configured, **paths, "pids": {"spawner": os.getpid(), "zygote": self._zygote_pid}})
        self._on_ready()

    # -- requests -------------------------------------------------------------------------------------------------

    def _obey(self, request: Message, descriptors: list[int]) -> None:
        number, operation = _field(request, "id", int), self.OPERATIONS.get(_field(request, "op", str))
        if operation is None:
            raise ChannelClosedError("malformed request of the manager: unknown op")
        try:
            answer = operation(self, request, descriptors)
        except RefusedError as refusal:
            answer = refusal.answer, ()
        except ChannelClosedError:
            raise
        except OSError as error:
            text = error.strerror or str(error)
            answer = {"ok": False, "refused": "broken", "text": text, "errno": error.errno}, ()
        if answer is not None:
            self._tell({"reply": number, "ok": True, **answer[0]}, answer[1])

    def _start(self, request: Message, _: list[int]) -> Answer:
        program, uid = _field(request, "program", str), _uid(request)
        if program not in {"broker", "worker"}:
            raise ChannelClosedError("malformed request of the manager: unknown program")
        entry = self._admitted.open(uid)
        confinement = [] if entry is None else [entry]
        try:
            has_landlock = landlock.abi() > 0
            order = self._registry.judge(uid, request.get("by"), is_admitted=bool(entry), has_landlock=has_landlock)
            ours, theirs = channel.pair()
            with theirs:
                passed = [theirs.fileno(), *(confinement if order["is_confined"] else ())]
                channel.send(self._zygote, {"program": program, "uid": uid, **order}, passed)
            return {}, [ours.detach()]
        finally:
            channel.close_all(confinement)

    def _token(self, request: Message, _: list[int]) -> Answer:
        return self._issue(self._registry.find(request.get("by")).record, _field(request, "level", int))

    def _logon(self, request: Message, descriptors: list[int]) -> None:
        caller, level = self._registry.find(request.get("by")).record, _field(request, "level", int)
        if self._uid != 0:
            text = f"cannot log anybody on: this service serves uid {self._uid} alone; use the machine's"
            raise RefusedError("own-service", text)
        if len(self._logons) >= MAX_LOGONS:
            raise _logon_failed(f"{MAX_LOGONS} logons are under way; try again")
        if len(descriptors) != 1:
            raise ChannelClosedError("malformed request of the manager: one descriptor expected")
        ours, theirs = channel.pair()
        with theirs:
            places = [(os.POSIX_SPAWN_DUP2, descriptors[0], 0), (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)]
            command = [*LOGON_COMMAND, "--caller-uid", str(caller["uid"])]
            defaults = [signal.SIGCHLD]  # which we ignore
            pid = os.posix_spawn(command[0], command, LOGON_ENVIRONMENT, file_actions=places, setsigdef=defaults)
        expires_at = time.monotonic() + LOGON_SECONDS
        process = os.pidfd_open(pid)
        logon = Logon(number=request["id"], level=level, helper=ours, process=process, expires_at=expires_at)
        self._logons.add(logon)
        self._watch(ours, partial(self._logged_on, logon), select.EPOLLIN)

    def _logged_on(self, logon: Logon) -> None:
        self._logons.discard(logon)
        os.close(logon.process)
        try:
            record, descriptors = channel.receive(logon.helper)
            channel.close_all(descriptors)
            if not record["ok"]:
                raise _logon_failed(record["text"], record["hresult"])
            answer, descriptors = self._issue(record, logon.level, logon.helper)
        except (ChannelClosedError, RefusedError, OSError) as error:
            self._forget(logon.helper)
            refusal = error if isinstance(error, RefusedError) else _logon_failed("PAM gave no answer; see its log")
            answer, descriptors = refusal.answer, []
        self._tell({"reply": logon.number, "ok": True, **answer}, descriptors)

    def _issue(self, record: Message, level: int, helper: socket.socket | None = None) -> tuple[Message, list[int]]:
        """A token that ends with the last copy of the descriptor returned here."""
        cookie, theirs = self._registry.add_token(record, level, helper)
        entry, lost = self._registry.entries[cookie], partial(self._lost, cookie, "token-ended")
        self._watch(entry.end, lost)
        if helper is not None:
            self._poll.modify(helper, 0)
            self._handlers[helper.fileno()] = lost
        return {"cookie": cookie, "record": entry.record}, [theirs.detach()]

    def _admit(self, request: Message, _: list[int]) -> Answer:
        uid, voucher = _uid(request), self._registry.find(request.get("by")).record
        directories: list[Message] = [
            {"path": _field(item, "path", str), "dev": _field(item, "dev", int), "ino": _field(item, "ino", int)}
            for item in _field(request, "directories", list)
        ]
        if voucher["uid"] not in (0, uid) or self._uid not in (0, uid):
            raise RefusedError("not-admitted", f"uid {voucher['uid']} cannot admit uid {uid}")
        self._admitted.add(uid, directories)
        return {}, ()

    def _dismiss(self, request: Message, _: list[int]) -> Answer:
        self._admitted.erase(_uid(request))
        return {}, ()

    def _finish(self, _: Message, __: list[int]) -> None:
        """A user's own service has nothing to do; a client that came meanwhile keeps it."""
        self._is_stopping = self._uid != 0 and all(entry.is_token for entry in self._registry.entries.values())

    def _fail(self, request: Message, _: list[int]) -> None:
        self.is_ready = False
        raise ChannelClosedError(_field(request, "text", str))

    OPERATIONS: ClassVar[Mapping[str, Callable[["Generation", Message, list[int]], Answer | None]]] = {
        "start": _start,
        "token": _token,
        "logon": _logon,
        "admit": _admit,
        "dismiss": _dismiss,
        "finish": _finish,
        "failed": _fail,
    }
    """All that the manager may ask; a request that is not here is the end of it."""


def _field(request: object, name: str, kind: type[T]) -> T:
    value = request.get(name) if isinstance(request, dict) else None
    if type(value) is not kind:
        raise ChannelClosedError(f"malformed request of the manager: field {name} is not of type {kind.__name__}")
    return value


def _uid(request: Message) -> int:
    uid = _field(request, "uid", int)
    if not 0 <= uid < 0xFFFFFFFF:  # which means "leave as it is" to setresuid
        raise ChannelClosedError("malformed request of the manager: no such uid")
    return uid


def _logon_failed(text: str, hresult: int = NO_LOGON_SERVERS) -> RefusedError:
    return RefusedError("logon-failed", text, hresult=hresult)


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)
