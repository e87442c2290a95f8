"""Layer 1 of who is logged on: login1 on the system bus (identity.md §10).

A signal says only that something has changed; facts come from answers to our own questions, so that nobody on the bus
can tell us who logged off. Each change leads to one whole picture. While bus or logind is away there is none.

A session out of which somebody went with processes running in it is "closing" until they end. It is over for us; since
no signal tells that, the sessions are looked at from time to time.
"""

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Callable
from typing import Any, NoReturn

from jeepney import DBusAddress, DBusErrorResponse, HeaderFields, Message, MessageType, new_method_call
from jeepney.auth import BEGIN, Authenticator
from jeepney.bus import get_bus
from jeepney.bus_messages import MatchRule, message_bus
from jeepney.io.asyncio import DBusConnection
from jeepney.wrappers import unwrap_msg

from openbits.core.sessions import Picture, Session, is_of_person

log = logging.getLogger("openbits.manager")

ANSWER_SECONDS = 5.0
"""A bus that takes longer counts as lost."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
"""Pause before the bus is tried again; it doubles."""

_NAME, _MANAGER = "org.freedesktop.login1", "org.freedesktop.login1.Manager"
_SESSION, _USER = "org.freedesktop.login1.Session", "org.freedesktop.login1.User"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_CLOSING = "closing"
_NO_SESSION = "org.freedesktop.login1.NoSessionForPID"
_LOGIND = DBusAddress("/org/freedesktop/login1", bus_name=_NAME, interface=_MANAGER)


def _changes() -> list[MatchRule]:
    """What says that something has changed: sessions and users come and go, a class changes, logind begins anew."""
    class_changed = MatchRule(
        type="signal", sender=_NAME, interface=_PROPERTIES, path_namespace="/org/freedesktop/login1/session"
    )
    owner_changed = MatchRule(type="signal", sender=message_bus.bus_name, member="NameOwnerChanged")
    owner_changed.add_arg_condition(0, _NAME)
    return [MatchRule(type="signal", sender=_NAME, interface=_MANAGER), class_changed, owner_changed]


class LogindError(Exception):
    """The bus or logind does not answer, or not as it should; the text says what."""


class Logind:
    """Gives a picture after each change, as long as `run` runs."""

    def __init__(
        self,
        address: str,
        look_seconds: float,
        *,
        is_linger_wanted: bool,
        is_wanted: Callable[[], bool],
        on_picture: Callable[[Picture], None],
    ) -> None:
        self.tried = asyncio.Event()
        """The first attempt has given a picture or has failed."""
        self._address = address
        self._look_seconds = look_seconds
        self._is_wanted = is_wanted
        self._is_linger_wanted = is_linger_wanted
        self._on_picture = on_picture
        self._connection: DBusConnection | None = None
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._serials = itertools.count(1)
        self._is_changed = asyncio.Event()
        self._known: dict[str, Session | None] = {}
        """By object path: the session, None if it is not that of a person, or closing."""
        self._stale: set[str] = set()
        """Paths that a signal named: what is known of them is asked for again."""
        self._listing = asyncio.Lock()

    async def run(self) -> NoReturn:
        """Watch; when the bus is lost, try again."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._watch()
            except Exception as error:  # noqa: BLE001  # whatever comes over the bus, jobs go on
                if self._connection is not None:
                    log.warning("logind_lost why=%s", str(error) or type(error).__name__)
                    pause = FIRST_PAUSE_SECONDS
                elif not self.tried.is_set():
                    log.info("logind_absent own_uid=%d why=%s", os.getuid(), str(error) or type(error).__name__)
            finally:
                self._connection = None
                self.tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def session_of(self, pid: int) -> Session | None:
        """The session of a person that a process belongs to, None if it belongs to none. Raises LogindError."""
        try:
            (path,) = await self._ask(new_method_call(_LOGIND, "GetSessionByPID", "u", (pid,)))
            state = (await self._properties(path, _SESSION))["State"]
        except DBusErrorResponse as error:
            if error.name == _NO_SESSION:
                return None
            raise LogindError(str(error)) from None
        if state == _CLOSING:
            raise LogindError("it is over, and what was left running in it gets no token")
        if path not in self._known:
            await self._look_again()
        if path not in self._known:
            raise LogindError("it ended a moment ago")
        return self._known[path]

    async def _look_again(self) -> None:
        try:
            await self._list()
        except DBusErrorResponse as error:
            raise LogindError(str(error)) from None

    # -- one connection -------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Connect, and tell of every change until the connection is lost."""
        reader, writer = await asyncio.open_unix_connection(get_bus(self._address))
        tasks: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await _authenticate(reader, writer)
            self._connection = DBusConnection(reader, writer)
            self._known.clear()
            tasks = [asyncio.create_task(self._read(self._connection)), asyncio.create_task(self._tell())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(LogindError("the system bus closed the connection"))
                    future.exception()  # who waits may not run any more
            writer.close()

    async def _read(self, connection: DBusConnection) -> None:
        while True:
            message = await connection.receive()
            fields = message.header.fields
            if message.header.message_type is MessageType.signal:
                self._note(message)
                continue
            future = self._waiting.get(fields.get(HeaderFields.reply_serial))
            if future is not None and not future.done():
                future.set_result(message)

    def _note(self, signal: Message) -> None:
        """Something has changed: about the paths in the signal, or about all, if logind itself went or came."""
        fields = signal.header.fields
        if fields.get(HeaderFields.member) == "NameOwnerChanged":
            self._stale.update(self._known)
        self._stale.update(part for part in (fields.get(HeaderFields.path), *signal.body) if isinstance(part, str))
        self._is_changed.set()

    async def _tell(self) -> None:
        await self._ask(message_bus.Hello())
        for rule in _changes():
            await self._ask(message_bus.AddMatch(rule))
        while True:
            self._is_changed.clear()
            try:
                await self._list()
            except DBusErrorResponse as error:  # logind begins anew, or a session went in between
                log.warning("logind_does_not_answer why=%s", error)
                self.tried.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._is_changed.wait(), LONGEST_PAUSE_SECONDS)
            else:
                await self._wait()

    async def _wait(self) -> None:
        """For a signal, or the time to look whether a session is closing."""
        while not self._is_changed.is_set():
            try:
                await asyncio.wait_for(self._is_changed.wait(), self._look_seconds)
            except TimeoutError:
                if self._is_wanted():
                    self._stale.update(path for path, session in self._known.items() if session is not None)
                    return

    async def _list(self) -> None:
        """Make a whole picture and hand it over."""
        async with self._listing:
            while self._stale:
                self._known.pop(self._stale.pop(), None)
            (listed,) = await self._ask(new_method_call(_LOGIND, "ListSessions"))
            paths = [path for _, _, _, _, path in listed]
            known = {path: self._known[path] if path in self._known else await self._session(path) for path in paths}
            self._known = known
            sessions = frozenset(session for session in self._known.values() if session is not None)
            lingering = await self._lingering({session.uid for session in sessions}) if self._is_linger_wanted else ()
            self._on_picture(Picture(sessions=sessions, lingering=frozenset(lingering)))
            self.tried.set()

    async def _session(self, path: str) -> Session | None:
        found = await self._properties(path, _SESSION)
        if not is_of_person(found["Class"]) or found["State"] == _CLOSING:
            return None
        return Session(
            session_id=found["Id"], uid=found["User"][0], user_name=found["Name"], began_at=found["Timestamp"]
        )

    async def _lingering(self, logged_on: set[int]) -> list[int]:
        """Who lingers, of those without a session; nothing tells when that is changed for somebody who has one."""
        (users,) = await self._ask(new_method_call(_LOGIND, "ListUsers"))
        rest = [(uid, path) for uid, _, path in users if uid not in logged_on]
        return [uid for uid, path in rest if (await self._properties(path, _USER))["Linger"]]

    async def _properties(self, path: str, interface: str) -> dict[str, Any]:
        target = DBusAddress(path, bus_name=_NAME, interface=_PROPERTIES)
        (found,) = await self._ask(new_method_call(target, "GetAll", "s", (interface,)))
        return {name: value for name, (_, value) in found.items()}

    async def _ask(self, message: Message) -> tuple[Any, ...]:
        """Send a call and wait for its answer. Raises DBusErrorResponse, LogindError."""
        connection = self._connection
        if connection is None:
            raise LogindError("there is no connection to the system bus")
        serial = next(self._serials)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[serial] = future
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await connection.send(message, serial=serial)
                answer = await future
        except (OSError, TimeoutError) as error:
            raise LogindError(f"no answer from the system bus: {error or 'time is over'}") from None
        finally:
            self._waiting.pop(serial, None)
        body: tuple[Any, ...] = unwrap_msg(answer)
        return body


async def _authenticate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say who we are; the bus knows it from the kernel."""
    greeting = Authenticator()
    for line in greeting:
        writer.write(line)
        greeting.feed(await reader.readuntil(b"\r\n"))
    writer.write(BEGIN)
