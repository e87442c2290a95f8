"""State directory and socket: who may own them, the lock, the uid of the manager, the admitted owners.

What has a wrong owner or mode is neither used nor repaired: the text says what to do. Standard library only.
"""

import fcntl
import grp
import json
import os
import pwd
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from openbits.channel import Message
from openbits.failpoints import failpoint
from openbits.identity.drop import MOUNT_POINT

MAX_DIRECTORIES = 4096
"""Directories of one admitted owner."""
COMMANDS_AT_ONCE = 256
"""Names in one answer; each has about a hundred bytes."""
FREE_UIDS = range(899, 99, -1)
"""Where a uid for the manager is looked for: system uids, below those that useradd hands out first."""


class StartError(OSError):
    """The service cannot start; the text names path, owner, mode and the next step."""


class AdmittedOwners:
    """Whose jobs may go on without a connection, and in which directories: `admitted/<uid>.json`.

    Beside them, empty, which notify command may be run for whom: `admitted/<uid>.<name>` (`commandline.name`). Written
    by the spawner alone, after it has seen the owner, or the user of the command.
    """

    def __init__(self, folder: int) -> None:
        self._folder = folder

    def open(self, uid: int, name: str = "json") -> int | None:
        """Descriptor of the entry; None if there is none, or one that somebody else could have written."""
        try:
            entry = os.open(f"{uid}.{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._folder)
        except OSError:
            return None
        status = os.fstat(entry)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return entry
        os.close(entry)
        return None

    def add(self, uid: int, directories: list[Message]) -> None:
        """Add directories to the entry, making it if it is missing; on the disk when this returns."""
        entry, known = self.open(uid), []
        if entry is not None:
            with os.fdopen(entry) as file, suppress(ValueError):
                known = json.load(file)
        new = [directory for directory in directories if directory not in known]
        if entry is not None and not new:
            return
        if len(known) + len(new) > MAX_DIRECTORIES:
            raise OSError(f"uid {uid} has jobs in {len(known)} directories already; complete or cancel some")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        temporary = os.open("new", flags, 0o600, dir_fd=self._folder)
        with os.fdopen(temporary, "w") as file:
            json.dump(known + new, file)
            file.flush()
            os.fsync(temporary)
        failpoint("admitted.synced")
        os.rename("new", f"{uid}.json", src_dir_fd=self._folder, dst_dir_fd=self._folder)
        failpoint("admitted.renamed")
        os.fsync(self._folder)
        failpoint("admitted.written")

    def allow(self, uid: int, name: str) -> None:
        """Allow a command; on the disk when this returns."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
        os.close(os.open(f"{uid}.{name}", flags, 0o600, dir_fd=self._folder))
        failpoint("command.allowed")
        os.fsync(self._folder)

    def commands(self, after: str) -> list[str]:
        """The first names of commands behind this one, as `<uid>.<name>`."""
        entries = os.listdir(self._folder)  # noqa: PTH208  # a descriptor
        return sorted(entry for entry in entries if "-" in entry and entry > after)[:COMMANDS_AT_ONCE]

    def erase(self, uid: int, name: str = "json") -> None:
        """Forget an owner or a command; what is not there is not an error."""
        with suppress(FileNotFoundError):
            os.unlink(f"{uid}.{name}", dir_fd=self._folder)
            failpoint("admitted.erased")
            os.fsync(self._folder)


class State(NamedTuple):
    """The checked state directory: lock, admitted owners, how the manager is started and where it sees the store."""

    lock: int
    admitted: AdmittedOwners
    manager: Message


def prepare(place: Path, at: Path) -> State:
    """Check or make the state directory and lock it for the life of this process, which listens at `at`.

    Raises StartError, OSError.
    """
    uid, place = os.geteuid(), place.resolve()
    admitted, store = place / "admitted", place / "queue"
    _own_folder(place)
    if uid == 0 and {path.name for path in place.iterdir()} <= {"bitsd.log"}:
        place.chmod(0o711)  # new, or made by mktemp -d: the manager has to pass
    lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartError(f"{place} is in use by bitsd {os.pread(lock, 200, 0).decode()}") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"(pid {os.getpid()}, socket {at})".encode(), 0)
    _own_folder(admitted)
    store.mkdir(0o700, exist_ok=True)
    if uid == 0 and store.lstat().st_uid == 0:
        os.chown(store, *_free_identity(), follow_symlinks=False)
    status = store.lstat()
    if not stat.S_ISDIR(status.st_mode) or uid not in {0, status.st_uid}:
        raise StartError(f"{store} is not a folder of uid {uid}; check who made it, then move it away")
    identity = {"uid": status.st_uid, "gid": status.st_gid, "groups": []}
    manager: Message = {"program": "manager", **identity, "store": str(store)}
    if uid == 0 and not _is_passable(place, status.st_uid, status.st_gid):
        manager |= {"private_mount": str(store), "store": MOUNT_POINT}
    owners = AdmittedOwners(os.open(admitted, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
    return State(lock, owners, manager)


def listen(path: Path) -> socket.socket:
    """The listening socket, in a folder of root or our own; a stale one is replaced. Raises StartError, OSError."""
    path.parent.mkdir(0o755, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    owner = os.fstat(folder).st_uid
    if owner not in {0, os.geteuid()}:
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
    path.chmod(0o666 if os.geteuid() == 0 else 0o600)
    listener.listen(1024)
    listener.setblocking(False)
    os.close(folder)
    return listener


def _own_folder(path: Path) -> None:
    """A folder of our own that nobody else may write, made if it is missing."""
    path.mkdir(0o700, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise StartError(
            f"{path} belongs to uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):04o}, but must belong to "
            f"uid {os.geteuid()} and be writable by it alone; check who made it, then chown and chmod it, or use "
            "--state-dir"
        )


def _free_identity() -> tuple[int, int]:
    """For the manager: the account `openbits`, else a number that nothing uses; no account is created silently."""
    with suppress(KeyError):
        account = pwd.getpwnam("openbits")
        return account.pw_uid, account.pw_gid
    taken = {account.pw_uid for account in pwd.getpwall()} | {group.gr_gid for group in grp.getgrall()}
    for uid in set(FREE_UIDS) - taken:
        try:
            os.getpriority(os.PRIO_USER, uid)
        except ProcessLookupError:  # no process has it, as in a container
            return uid, uid
    raise StartError("no system uid is free for the manager; create an account: useradd --system openbits")


def _is_passable(path: Path, uid: int, gid: int) -> bool:
    """True if this identity can reach the folder by its path (access lists only make a mount needless)."""
    status = path.stat()
    needed = stat.S_IXUSR if status.st_uid == uid else stat.S_IXGRP if status.st_gid == gid else stat.S_IXOTH
    return bool(status.st_mode & needed) and (path == path.parent or _is_passable(path.parent, uid, gid))
