"""A private system bus with a stand-in for logind on it: sessions begin and end when the test says so.

It answers the questions that the service asks the real one (org.freedesktop.login1(5)) and sends the same signals. A
process is in the session that it has claimed, by a file with its pid as the name.
"""

import contextlib
import dataclasses
import itertools
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection

NAME = "org.freedesktop.login1"
MANAGER = DBusAddress("/org/freedesktop/login1", interface="org.freedesktop.login1.Manager")

BUS = """<busconfig>
  <type>custom</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"""


@dataclass(frozen=True)
class Login:
    """A session that the stand-in lists."""

    session_id: str
    uid: int
    name: str
    session_class: str = "user"
    state: str = "active"
    began_at: int = field(default_factory=itertools.count(1_700_000_000_000_000).__next__)

    @property
    def path(self) -> str:
        return f"/org/freedesktop/login1/session/_{self.session_id.replace('-', '_2d')}"


class Login1:
    """Bus and stand-in; `log_in` and `log_out` return when the signals are on the bus."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logins: dict[str, Login] = {}
        self.lingering: dict[int, str] = {}
        self.on_question: Callable[[], None] | None = None
        """Called once, when somebody has asked for the session of a process, and before the answer is sent."""
        self.listing_seconds = 0.0
        """How long it takes to list the sessions."""
        self.claims, self._requests = folder / "claims", folder / "requests"
        for each in (self.claims, self._requests):
            each.mkdir()
            each.chmod(0o1777)
        self._socket = folder / "bus.sock"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._connection: DBusConnection | None = None
        self._serving: threading.Thread | None = None
        self._sending = threading.Lock()

    @property
    def address(self) -> str:
        return f"unix:path={self._socket}"

    # -- what a machine does --------------------------------------------------------------------------------------

    def start_bus(self) -> None:
        """Start dbus-daemon, and return when it takes connections."""
        config = self.folder / "bus.conf"
        config.write_text(BUS.format(socket=self._socket))
        self._socket.unlink(missing_ok=True)
        command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address"]
        self._daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert self._daemon.stdout is not None
        assert self._daemon.stdout.readline(), "dbus-daemon did not start"
        threading.Thread(target=self._operate, daemon=True).start()

    def stop_bus(self) -> None:
        """The bus goes, and with it everybody's connection."""
        daemon, self._daemon = self._daemon, None
        assert daemon is not None
        assert daemon.stdout is not None
        daemon.terminate()
        daemon.wait(timeout=10)
        daemon.stdout.close()
        self._end_serving()

    def start_logind(self) -> None:
        """Take the name and answer."""
        self._connection = open_dbus_connection(self.address)
        self._connection.send_and_get_reply(message_bus.RequestName(NAME))
        self._serving = threading.Thread(target=self._serve, args=(self._connection,), daemon=True)
        self._serving.start()

    def stop_logind(self) -> None:
        """Let go of the name; sessions go on, as they do when the real one begins anew."""
        assert self._connection is not None
        self._connection.sock.shutdown(2)
        self._end_serving()

    def log_in(self, session_id: str, user: Any, session_class: str = "user") -> Login:
        login = Login(session_id, user.uid, user.name, session_class)
        self.logins[session_id] = login
        self._signal("SessionNew", "so", (session_id, login.path))
        return login

    def log_out(self, session_id: str) -> None:
        login = self.logins.pop(session_id)
        self._signal("SessionRemoved", "so", (session_id, login.path))

    def leave(self, session_id: str) -> None:
        """Log off, with a process left running: the session is closing until that ends, and no signal tells it."""
        self.logins[session_id] = dataclasses.replace(self.logins[session_id], state="closing")

    def set_linger(self, user: Any, *, is_on: bool) -> None:
        """For somebody without a session the real one makes or removes the user object."""
        if is_on:
            self.lingering[user.uid] = user.name
        else:
            del self.lingering[user.uid]
        self._signal("UserNew" if is_on else "UserRemoved", "uo", (user.uid, _user_path(user.uid)))

    def set_class(self, session_id: str, session_class: str) -> None:
        """A login that was half done is whole now."""
        login = dataclasses.replace(self.logins[session_id], session_class=session_class)
        self.logins[session_id] = login
        changed = DBusAddress(login.path, interface="org.freedesktop.DBus.Properties")
        body: tuple[Any, ...] = ("org.freedesktop.login1.Session", {"Class": ("s", session_class)}, [])
        self._signal("PropertiesChanged", "sa{sv}as", body, changed)

    def claim(self, session_id: str) -> None:
        """Called in a process: it is in that session."""
        (self.claims / str(os.getpid())).write_text(session_id)

    def ask_log_out(self, session_id: str, *, is_waited_for: bool = True) -> None:
        """Called in a process of a user: have a session end."""
        request = self._requests / session_id
        request.touch()
        while is_waited_for and request.exists():
            time.sleep(0.01)

    def _operate(self) -> None:
        while self._daemon is not None:
            for request in self._requests.iterdir():
                self.log_out(request.name)
                request.unlink()
            time.sleep(0.01)

    # -- the bus --------------------------------------------------------------------------------------------------

    def _signal(self, member: str, signature: str, body: tuple[Any, ...], emitter: DBusAddress = MANAGER) -> None:
        if self._serving is not None and self._connection is not None:
            self._send(self._connection, new_signal(emitter, member, signature, body))

    def _send(self, connection: DBusConnection, message: Message) -> None:
        with self._sending, contextlib.suppress(OSError):
            connection.send(message)

    def _end_serving(self) -> None:
        if self._serving is not None and self._connection is not None:
            self._serving.join(timeout=10)
            self._connection.close()
        self._serving = self._connection = None

    def _serve(self, connection: DBusConnection) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                message = connection.receive()
                if message.header.message_type is MessageType.method_call:
                    threading.Thread(target=self._answer, args=(connection, message), daemon=True).start()

    def _answer(self, connection: DBusConnection, call: Message) -> None:
        path, member = call.header.fields[HeaderFields.path], call.header.fields[HeaderFields.member]
        if member == "ListSessions":
            time.sleep(self.listing_seconds)
        reply = self._reply(call, path, member)
        if member == "GetSessionByPID":
            on_question, self.on_question = self.on_question, None
            if on_question is not None:
                on_question()
        self._send(connection, reply)

    def _reply(self, call: Message, path: str, member: str) -> Message:
        logins = list(self.logins.values())
        if member == "ListSessions":
            listed = [(login.session_id, login.uid, login.name, "", login.path) for login in logins]
            return new_method_return(call, "a(susso)", (listed,))
        if member == "ListUsers":
            users = {login.uid: login.name for login in logins} | self.lingering
            return new_method_return(call, "a(uso)", ([(uid, name, _user_path(uid)) for uid, name in users.items()],))
        if member == "GetSessionByPID":
            return self._reply_about(call, self.claims / str(call.body[0]))
        found = next((_properties(login) for login in logins if login.path == path), None)
        if "/user/" in path:
            found = {"Linger": ("b", int(path.rpartition("_")[2]) in self.lingering)}
        if found is None:
            return new_error(call, "org.freedesktop.DBus.Error.UnknownObject", "s", (path,))
        return new_method_return(call, "a{sv}", (found,))

    def _reply_about(self, call: Message, claim: Path) -> Message:
        login = self.logins.get(claim.read_text()) if claim.exists() else None
        if login is None:
            return new_error(call, "org.freedesktop.login1.NoSessionForPID", "s", ("no session",))
        return new_method_return(call, "o", (login.path,))


def _user_path(uid: int) -> str:
    return f"/org/freedesktop/login1/user/_{uid}"


def _properties(login: Login) -> dict[str, tuple[str, Any]]:
    return {
        "Id": ("s", login.session_id),
        "User": ("(uo)", (login.uid, _user_path(login.uid))),
        "Name": ("s", login.name),
        "Timestamp": ("t", login.began_at),
        "Class": ("s", login.session_class),
        "Active": ("b", True),
        "State": ("s", login.state),
    }


@contextlib.contextmanager
def login1_on_private_bus(folder: Path) -> Iterator[Login1]:
    """A bus with the stand-in on it; both end with the block."""
    made = Login1(folder)
    made.start_bus()
    try:
        made.start_logind()
        yield made
    finally:
        made.stop_bus()
