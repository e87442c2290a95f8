"""State directory and socket: where they are, who may own them, the lock, the uid of the manager.

What has a wrong owner or mode is neither used nor repaired: the text says what to do. Standard library only.
"""

import fcntl
import grp
import os
import pwd
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from openbits.identity.drop import MOUNT_POINT

MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
FREE_UIDS = range(899, 99, -1)
"""Where a uid for the manager is looked for: system uids, below those that useradd hands out first."""


class StartError(Exception):
    """The service cannot start; the text names path, owner, mode and the next step."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Absolute paths of one service: state directory, socket, configuration folder."""

    state: Path
    socket: Path
    config: Path


@dataclass(frozen=True, kw_only=True)
class State:
    """The checked state directory: descriptors of the lock and of `admitted/`, uid and gid of the manager, its store.

    `store` is the folder as the manager sees it; `private_mount` the true one if it has to be mounted there.
    """

    lock: int
    admitted: int
    manager: tuple[int, int]
    store: str
    private_mount: str | None


def places(environ: Mapping[str, str], uid: int, state: str | None, listen_at: str | None) -> Places:
    """Options first, then the environment, then the usual places of the machine's (root) or a user's own service."""
    state, listen_at = state or environ.get("OPENBITS_STATE_DIR"), listen_at or environ.get("OPENBITS_SOCKET")
    if uid == 0:
        folder, config, usual = "/var/lib/openbits", "/etc/openbits", "/run/openbits/bitsd.sock"
    else:
        folder = f"{_base(environ, 'XDG_STATE_HOME', '~/.local/state')}/openbits/{_machine_id()}"
        config = f"{_base(environ, 'XDG_CONFIG_HOME', '~/.config')}/openbits"
        usual = f"{state or folder}/bitsd.sock"
    if not (state or folder).startswith("~"):
        config = environ.get("OPENBITS_CONFIG") or config
        paths = (Path(state or folder).resolve(), Path(listen_at or usual).absolute(), Path(config).absolute())
        return Places(state=paths[0], socket=paths[1], config=paths[2])
    raise StartError("no home directory is known; set HOME, or use --state-dir")


def prepare(place: Places, uid: int) -> State:
    """Check or make the state directory and lock it for the life of this process. Raises StartError, OSError."""
    _own_folder(place.state, uid)
    if uid == 0 and not any(place.state.iterdir()):
        place.state.chmod(0o711)  # new, or made by mktemp -d: the manager has to pass
    lock = os.open(place.state / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartError(f"{place.state} is in use by bitsd {os.pread(lock, 200, 0).decode()}") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"(pid {os.getpid()}, socket {place.socket})".encode(), 0)
    admitted, store = place.state / "admitted", place.state / "queue"
    _own_folder(admitted, uid)
    store.mkdir(0o700, exist_ok=True)
    if uid == 0 and store.lstat().st_uid == 0:
        os.chown(store, *_free_identity(), follow_symlinks=False)
    status = store.lstat()
    if not stat.S_ISDIR(status.st_mode) or uid not in {0, status.st_uid}:
        raise StartError(f"{store} is not a folder of uid {uid}; check who made it, then move it away")
    is_hidden = uid == 0 and not _is_passable(place.state, status.st_uid, status.st_gid)
    return State(
        lock=lock,
        admitted=os.open(admitted, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW),
        manager=(status.st_uid, status.st_gid),
        store=MOUNT_POINT if is_hidden else str(store),
        private_mount=str(store) if is_hidden else None,
    )


def listen(path: Path, uid: int) -> socket.socket:
    """The listening socket, in a folder of root or our own; a stale one is replaced. Raises StartError, OSError."""
    path.parent.mkdir(0o755, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    owner = os.fstat(folder).st_uid
    if owner not in {0, uid}:
        raise StartError(f"{path.parent} belongs to uid {owner}, who could replace the socket; use another --socket")
    is_long = len(os.fsencode(path)) > 107  # sockaddr_un
    address = f"/proc/self/fd/{folder}/{path.name}" if is_long else str(path)
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(f"{path} exists and is not a socket; move it away, or use another --socket")
        with suppress(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            probe.connect(address)
            raise StartError(f"another service listens on {path}; stop it, or use another --socket")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    path.chmod(0o666 if uid == 0 else 0o600)
    listener.listen(1024)
    listener.setblocking(False)
    os.close(folder)
    return listener


def _base(environ: Mapping[str, str], name: str, usual: str) -> str:
    value = environ.get(name, "")  # a relative one is ignored: the XDG rule
    return value if value.startswith("/") else os.path.expanduser(usual)  # noqa: PTH111  # Path raises without a home


def _machine_id() -> str:
    for path in MACHINE_ID_FILES:
        with suppress(OSError):
            return path.read_text(encoding="ascii").strip()
    return os.uname().nodename


def _own_folder(path: Path, uid: int) -> None:
    """A folder of our own that nobody else may write, made if it is missing."""
    path.mkdir(0o700, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_uid != uid or status.st_mode & 0o022:
        raise StartError(
            f"{path} belongs to uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):04o}, but must belong to "
            f"uid {uid} and be writable by it alone; check who made it, then chown and chmod it, or use --state-dir"
        )


def _free_identity() -> tuple[int, int]:
    """For the manager: the account `openbits`, else numbers that nothing uses; no account is created silently."""
    with suppress(KeyError):
        account = pwd.getpwnam("openbits")
        return account.pw_uid, account.pw_gid
    taken = {account.pw_uid for account in pwd.getpwall()} | {group.gr_gid for group in grp.getgrall()}
    for path in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            taken |= {int(word) for line in lines if line.startswith(("Uid:", "Gid:")) for word in line.split()[1:]}
    uid = next((uid for uid in FREE_UIDS if uid not in taken), None)
    if uid is None:
        raise StartError("no system uid is free for the manager; create an account: useradd --system openbits")
    return uid, uid


def _is_passable(path: Path, uid: int, gid: int) -> bool:
    """True if this identity can reach the folder by its path (access lists only make a mount needless)."""
    status = path.stat()
    needed = stat.S_IXUSR if status.st_uid == uid else stat.S_IXGRP if status.st_gid == gid else stat.S_IXOTH
    return bool(status.st_mode & needed) and (path == path.parent or _is_passable(path.parent, uid, gid))
