"""Which service a client talks to, and how it is started when nobody runs it (design.md §1).

1. `OPENBITS_SOCKET`;
2. the machine's service if /run/openbits exists: never silently another one;
3. for root, the machine's service on its usual paths;
4. the user's own service, in the state directory (`OPENBITS_STATE_DIR` or `$XDG_STATE_HOME/openbits/<machine-id>`).

A service is started only when nobody listens on its socket and by somebody who may: root, or the user whose own it is,
or whoever named the paths. Clients that start it at the same moment need no agreement: the lock on the state
directory lets one spawner win, and every client connects to the winner.
"""

# ruff: noqa: PTH100, PTH103, PTH111, PTH112, PTH117, PTH118, PTH119, PTH120, PTH123  # pathlib costs start-up time

import contextlib
import os
import select
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple, cast

from openbits.api.connection import Connection, ConnectionLostError, NotListeningError, UnreachableError
from openbits.api.wire import ServiceInfo
from openbits.core import codes
from openbits.core.enums import Level
from openbits.core.errors import BitsError

SOCKET_NAME = "bitsd.sock"
MACHINE_DIRECTORY = "/run/openbits"
MACHINE_STATE_DIRECTORY = "/var/lib/openbits"
MACHINE_CONFIG_DIRECTORY = "/etc/openbits"
LOG_NAME = "bitsd.log"
"""In the state directory: what a service that a client started says."""

HELLO_SECONDS = 30.0
START_SECONDS = 60.0
"""How long the service may take until it answers, or ends and has said why."""

WINNER_SECONDS = 5.0
"""How long to look for a service that somebody else is starting or ending at this moment."""

_PAUSE_SECONDS, _LOOK_SECONDS = 0.1, 0.02
_COMPLAINT_BYTES = 8192

_IN_USE = "in use"
"""In the spawner's reason: another one holds the lock on the state directory, so it is starting or ending now."""


class Place(NamedTuple):
    """Where a service is or would be, whether this client may start it there, and why it is this one."""

    socket: str
    state_directory: str
    may_start: bool
    why: str = ""


def locate(
    environ: Mapping[str, str] = os.environ, euid: int | None = None, machine_directory: str = MACHINE_DIRECTORY
) -> Place:
    """The service this process talks to. Raises BitsError E_INVALIDARG if an override is not an absolute path."""
    uid = os.geteuid() if euid is None else euid
    socket = _absolute(environ, "OPENBITS_SOCKET")
    state = _absolute(environ, "OPENBITS_STATE_DIR")
    machine_socket = os.path.join(machine_directory, SOCKET_NAME)
    if socket:
        state = state or (MACHINE_STATE_DIRECTORY if uid == 0 else _own_state(environ))
        return Place(socket, state, may_start=True, why="OPENBITS_SOCKET names it")
    if uid == 0 or os.path.isdir(machine_directory):
        reason = "because you are root" if uid == 0 else f"because {machine_directory} exists"
        why = f"the machine's service, {reason}"
        return Place(machine_socket, state or MACHINE_STATE_DIRECTORY, may_start=uid == 0, why=why)
    why = f"your own service, because {machine_directory} does not exist"
    state = state or _own_state(environ)
    return Place(os.path.join(state, SOCKET_NAME), state, may_start=True, why=why)


def connect(level: Level = Level.IMPERSONATE, place: Place | None = None) -> tuple[Connection, ServiceInfo]:
    """A connection at an impersonation level, and who answered; starts the service if nobody listens.

    Raises UnreachableError (RPC_S_SERVER_UNAVAILABLE) with the socket, the reason and the next step.
    """
    place = place or locate()
    deadline = time.monotonic() + WINNER_SECONDS
    failure = None
    while True:
        try:
            return greet(place, level)
        except NotListeningError as error:
            if not place.may_start:
                raise _not_ours_to_start(error) from error
            is_hopeless = bool(failure) and _IN_USE not in str(failure)
            if failure is not None and (is_hopeless or time.monotonic() >= deadline):
                raise _not_started(place, failure or "it ended as soon as it had started") from error
            failure = _start(place)
        except ConnectionLostError:
            # A service that ends at this moment accepted us and closed: look again, it may have to be started.
            if time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


def greet(place: Place, level: Level) -> tuple[Connection, ServiceInfo]:
    """The same with a service that runs: this never starts one. Raises NotListeningError if nobody listens."""
    connection = Connection.open(place.socket)
    try:
        answer, _ = connection.call("Hello", {"level": int(level)}, timeout_seconds=HELLO_SECONDS)
    except BaseException:
        connection.close()
        raise
    return connection, cast("ServiceInfo", answer)


def _absolute(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if value and not os.path.isabs(value):
        raise BitsError(codes.E_INVALIDARG, f"cannot use {name}={value}: it must be an absolute path")
    return value


def _own_state(environ: Mapping[str, str]) -> str:
    base = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # the XDG rule: a relative value is ignored
        home = environ.get("HOME") or os.path.expanduser("~")
        if not os.path.isabs(home):
            raise BitsError(
                codes.E_INVALIDARG, "cannot find your home directory: set HOME, XDG_STATE_HOME or OPENBITS_STATE_DIR"
            )
        base = os.path.join(home, ".local", "state")
    return os.path.join(base, "openbits", _machine_id())


def _machine_id() -> str:
    """Names this machine, so that a home directory on several machines holds one queue for each."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            with open(path, encoding="ascii") as file:
                if text := file.read().strip():
                    return text
        except (OSError, UnicodeDecodeError):
            continue
    return os.uname().nodename


def _config_directory() -> str:
    """Where a service that we start finds its settings: ours, or those of the machine."""
    named = os.environ.get("OPENBITS_CONFIG")
    if named or os.geteuid() == 0:
        return os.path.abspath(named or MACHINE_CONFIG_DIRECTORY)
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.config"), "openbits")


def _start(place: Place) -> str:
    """Run the spawner: empty as soon as the service answers, else the reason why it does not."""
    interpreter = _interpreter()
    if interpreter is None:
        return f"no Python interpreter found (sys.executable is {sys.executable!r})"
    options = ["--state-dir", place.state_directory, "--socket", place.socket, "--config-dir", _config_directory()]
    try:
        log = _open_log(place.state_directory)
    except OSError as error:
        return f"cannot write {place.state_directory}/{LOG_NAME}: {error.strerror}"
    begins_at = os.lseek(log, 0, os.SEEK_END)
    try:
        ending = _leave_behind([interpreter, "-I", "-m", "openbits.identity.spawner", *options], log)
        try:
            return "" if _answers(place, ending) else _complaint(log, begins_at)
        finally:
            os.close(ending)
    except TimeoutError:
        return f"it was not ready within {START_SECONDS:g} s; see {place.state_directory}/{LOG_NAME}"
    except OSError as error:
        return f"cannot run /bin/sh: {error.strerror}"
    finally:
        os.close(log)


def _open_log(directory: str) -> int:
    """Where the service says what happens; both are made if missing. In a directory that others may write: nowhere."""
    os.makedirs(directory, 0o700, exist_ok=True)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return os.memfd_create(LOG_NAME)  # the spawner says what is wrong, and ends
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return os.open(LOG_NAME, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)


def _leave_behind(command: list[str], log: int) -> int:
    """Run a program in a session of its own that is nobody's child, so that it outlives us and leaves us no zombie.

    /bin/sh does it, because a program with threads should not fork. The result is at end of file as soon as the program
    has ended: it is the far end of its stdout, on which it says nothing.
    """
    ending, stdout = os.pipe()
    try:
        process_id = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", 'cd / && exec "$@" </dev/null &', "sh", *command],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
            setsid=True,
        )
        with contextlib.suppress(ChildProcessError):  # we ignore SIGCHLD
            os.waitpid(process_id, 0)
    except OSError:
        os.close(ending)
        raise
    finally:
        os.close(stdout)
    return ending


def _answers(place: Place, ending: int) -> bool:
    """Wait until the service answers, whoever started it; False if ours has ended. Raises TimeoutError."""
    end = select.poll()
    end.register(ending, select.POLLIN)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        has_ended = bool(end.poll(_LOOK_SECONDS * 1000))
        try:
            greet(place, Level.IDENTIFY)[0].close()
        except (NotListeningError, ConnectionLostError):
            if has_ended:
                return False
        else:
            return True
    raise TimeoutError


def _complaint(log: int, begins_at: int) -> str:
    """Why the spawner ended, in its own words."""
    begins_at = max(begins_at, os.fstat(log).st_size - _COMPLAINT_BYTES)
    lines = os.pread(log, _COMPLAINT_BYTES, begins_at).decode(errors="replace").split("\n")
    reasons = [line for line in lines if "cannot start: " in line] or [line for line in lines if line.strip()]
    if reasons:
        return reasons[-1].strip()
    try:
        os.write(log, b"the spawner ended without a word\n")
    except OSError as error:
        return f"cannot write {LOG_NAME} in the state directory: {error.strerror}"
    return "it ended without a word"


def _interpreter() -> str | None:
    """The Python that runs us; a program that embeds Python (or is frozen) names itself there, or nothing."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [sys.executable] if os.path.basename(sys.executable or "").startswith(("python", "pypy")) else []
    candidates += [os.path.join(sys.exec_prefix, "bin", name) for name in (version, "python3")]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def _not_ours_to_start(error: UnreachableError) -> UnreachableError:
    hint = (
        f"{MACHINE_DIRECTORY} exists, so the machine's service is used, which root starts: ask the administrator, or "
        "set OPENBITS_SOCKET to use another one"
    )
    is_machine = os.path.dirname(error.path) == MACHINE_DIRECTORY
    return UnreachableError(error.path, error.why, hint if is_machine else "start it there, or leave out the path")


def _not_started(place: Place, reason: str) -> UnreachableError:
    return UnreachableError(
        place.socket,
        f"no service runs and it could not be started with state directory {place.state_directory}: {reason}",
        f"remove the cause; {LOG_NAME} there says more, or start it by hand: bitsd --state-dir DIR --socket PATH",
    )
