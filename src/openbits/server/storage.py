"""The files of the server: a root that uploads are published below, and a spool that they grow in (§5.2, §5.4, §13).

Both are on one file system, as publishing is a hard link to the file in the spool: it appears whole, under a name that
nobody else has, and whoever does it again after a crash finds its own file there. Everything below the root is reached
through one descriptor, without following a symlink and never out of it. Only `publish` creates anything there.

Blocking: called from threads, but for `free_bytes`.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from openbits.core import codes
from openbits.failpoints import failpoint
from openbits.identity import filecalls
from openbits.server.model import RefusedError

AREA: Final = "BITS-Sessions"
REQUESTS: Final = "Requests"
REPLIES: Final = "Replies"
REQUEST_FILE: Final = "requestfile.bin"
RESPONSE_FILE: Final = "responsefile.bin"

_REPLACEMENT: Final = "replacement"
_PUBLIC_BITS: Final = 0o666
"""Published files are never executable, whatever mode is configured (§13)."""
_PASSABLE: Final = 0o711
"""Who knows the id of a session may pass, for applications that are called by reference; nobody else can list."""
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class StorageError(Exception):
    """Root and spool cannot be used as they are; the text names the path and the next step."""


class Reply(NamedTuple):
    """An open response file; `modified`: seconds of the wall clock."""

    descriptor: int
    size: int
    modified: float


class _Volume(NamedTuple):
    """Where hard links are possible: inside one mount of one device."""

    device: int
    mount: str


class Storage:
    """Open root and spool; the constructor makes the spool if it is missing, and raises StorageError."""

    def __init__(self, root: Path, spool: Path) -> None:
        self._area = spool / AREA
        self._opener = filecalls.choose_opener()
        self._root_path = root
        with ExitStack() as opened:
            self._root = _opened(opened, root, "make it, or name another root")
            for folder in (spool, self._area, self._area / REQUESTS, self._area / REPLIES):
                with _told(folder, "make it writable for the user of the server, or name another spool (server.spool)"):
                    folder.mkdir(mode=_PASSABLE, exist_ok=True)
                _check_ours(folder)
            self._requests = _opened(opened, self._area / REQUESTS, "check its permissions")
            self._replies = _opened(opened, self._area / REPLIES, "check its permissions")
            self._volume = _volume(self._requests)
            if _volume(self._root) != self._volume:
                raise StorageError(
                    f"the spool {spool} is on another file system or mount than the root {root}, so that finished "
                    "uploads cannot be published at once; name a spool on the same one, beside the root"
                )
            _check_links(self._requests, spool)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close root and spool."""
        self._opened.close()

    def free_bytes(self) -> int:
        """What the file system of the spool has for this user."""
        status = os.fstatvfs(self._requests)
        return status.f_bavail * status.f_frsize

    def check_destination(self, path: PurePosixPath, *, allow_overwrites: bool) -> None:
        """Whether something can be published there, before anything is created (§5.4, D12). Raises RefusedError."""
        with self._parent(path) as parent:
            existing = _status(path.name, parent)
            if existing is not None:
                _check_replacing(path, existing, allow_overwrites=allow_overwrites)
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=parent, effective_ids=True):
                raise _denied(f"the server may not create files in {self._shown(path.parent)}; make it writable")
            if _volume(parent) != self._volume:
                words = f"{self._shown(path.parent)} is on another file system or mount than the spool"
                raise RefusedError(500, codes.ERROR_NOT_SAME_DEVICE, f"{words}; give it a server of its own")

    def open_request(self, session_id: str) -> int:
        """The file that a session's bytes are in, new or old, for reading and writing; raises OSError."""
        _make(self._requests, session_id)
        folder = os.open(session_id, _OPEN_DIRECTORY, dir_fd=self._requests)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(REQUEST_FILE, flags, 0o600, dir_fd=folder)
        finally:
            os.close(folder)

    def publish(self, session_id: str, path: PurePosixPath, *, mode: int, allow_overwrites: bool) -> None:
        """Give the file its final name; it and the name are on the disk when this returns. Again is no error.

        Raises RefusedError: nothing was published; the file is still in the spool.
        """
        try:
            self._publish(session_id, path, mode=mode, allow_overwrites=allow_overwrites)
        except OSError as error:
            raise RefusedError(
                500, codes.from_errno(error.errno or 0), f"cannot publish {self._shown(path)}: {error.strerror}"
            ) from error

    def request_file(self, session_id: str) -> Path:
        """What an application is told."""
        return self._area / REQUESTS / session_id / REQUEST_FILE

    def response_file(self, session_id: str) -> Path:
        """Where the application or the server writes the reply."""
        return self._area / REPLIES / session_id / RESPONSE_FILE

    def prepare_reply(self, session_id: str) -> None:
        """Make the place of the response file, without one; raises OSError."""
        _make(self._replies, session_id)
        with suppress(FileNotFoundError):
            self.response_file(session_id).unlink()

    def share(self, session_id: str, path: PurePosixPath) -> None:
        """Let the group of the destination's directory read the request and write the response (§9.1).

        The server must be a member of that group; where it is not, its own group takes that place. Raises OSError,
        RefusedError.
        """
        with self._parent(path) as parent:
            group = os.fstat(parent).st_gid
        rights = ((self._requests, 0o750), (self._replies, 0o2770))
        for area, mode in rights:
            with suppress(PermissionError):
                os.chown(session_id, -1, group, dir_fd=area, follow_symlinks=False)
            os.chmod(session_id, mode, dir_fd=area)
        with self._request_folder(session_id) as folder:
            with suppress(PermissionError):
                os.chown(REQUEST_FILE, -1, group, dir_fd=folder, follow_symlinks=False)
            os.chmod(REQUEST_FILE, 0o640, dir_fd=folder)

    def open_reply(self, session_id: str) -> Reply | None:
        """The response file, which an application may have written; None if there is no regular one."""
        flags = os.O_RDONLY | os.O_NONBLOCK
        try:
            name = f"{session_id}/{RESPONSE_FILE}".encode()
            descriptor = self._opener(name, flags, dir_fd=self._replies)
        except OSError:
            return None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            return None
        return Reply(descriptor, status.st_size, status.st_mtime)

    def sync_reply(self, session_id: str) -> bool:
        """Have the response file on the disk; False if there is none, or nothing in it. Raises OSError."""
        reply = self.open_reply(session_id)
        if reply is None:
            return False
        try:
            os.fsync(reply.descriptor)
        finally:
            os.close(reply.descriptor)
        _sync_names(self._replies, session_id)
        return reply.size > 0

    def sync_request(self, session_id: str) -> None:
        """Have the name of the session's file on the disk, where its bytes are already; raises OSError."""
        _sync_names(self._requests, session_id)

    def remove_request(self, session_id: str) -> None:
        """Remove the session's bytes from the spool; a published file stays. What is not there is no error."""
        _remove(self._requests, session_id)

    def remove(self, session_ids: Iterable[str]) -> None:
        """Remove all that the spool has of these sessions; what cannot go now is found by the clean-up again."""
        for session_id in session_ids:
            _remove(self._requests, session_id)
            _remove(self._replies, session_id)

    def entries(self, before: float) -> Iterator[str]:
        """Names in the spool that were last changed before that instant; each may come twice."""
        for folder in (self._requests, self._replies):
            with os.scandir(folder) as found:
                for entry in found:
                    with suppress(FileNotFoundError):
                        if entry.stat(follow_symlinks=False).st_mtime < before:
                            yield entry.name

    @contextmanager
    def _parent(self, path: PurePosixPath) -> Iterator[int]:
        """The directory of a destination. Raises RefusedError, with the status of §10.1."""
        if path == PurePosixPath():
            raise _is_directory(path)
        if path.is_absolute() or ".." in path.parts:
            raise _denied(f"{path} is no path below the root")
        try:
            descriptor = self._opener(bytes(path.parent), os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._root)
        except OSError as error:
            raise self._no_parent(path, error) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _no_parent(self, path: PurePosixPath, error: OSError) -> RefusedError:
        shown = self._shown(path.parent)
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return RefusedError(404, codes.ERROR_PATH_NOT_FOUND, f"there is no directory {shown}; create it")
        if error.errno in {errno.ELOOP, errno.EXDEV, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}:
            return _denied(f"the directory {shown} cannot be used: {error.strerror}; no symlink may lead there")
        return RefusedError(500, codes.from_errno(error.errno or 0), f"cannot open {shown}: {error.strerror}")

    def _publish(self, session_id: str, path: PurePosixPath, *, mode: int, allow_overwrites: bool) -> None:
        with ExitStack() as opened:
            parent = opened.enter_context(self._parent(path))
            try:
                folder = opened.enter_context(self._request_folder(session_id))
                request = os.open(REQUEST_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            except FileNotFoundError:
                words = f"the uploaded file is gone from {self._area / REQUESTS}; upload it again"
                raise RefusedError(404, codes.ERROR_PATH_NOT_FOUND, words) from None
            opened.callback(os.close, request)
            status = os.fstat(parent)
            if status.st_mode & stat.S_ISGID:  # a file made there would have its group
                with suppress(PermissionError):
                    os.fchown(request, -1, status.st_gid)
            os.fchmod(request, mode & _PUBLIC_BITS)
            os.fsync(request)
            failpoint("server.publishing")
            try:
                os.link(REQUEST_FILE, path.name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                existing = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
                if not os.path.samestat(existing, os.fstat(request)):
                    _check_replacing(path, existing, allow_overwrites=allow_overwrites)
                    _replace(folder, path.name, parent)
            failpoint("server.linked")
            os.fsync(parent)

    @contextmanager
    def _request_folder(self, session_id: str) -> Iterator[int]:
        descriptor = os.open(session_id, _OPEN_DIRECTORY, dir_fd=self._requests)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _shown(self, path: PurePosixPath) -> str:
        return str(self._root_path / path)


def _replace(folder: int, name: str, parent: int) -> None:
    """Put a second link to the request file in the place of what is there, so that it can be done again."""
    with suppress(FileNotFoundError):
        os.unlink(_REPLACEMENT, dir_fd=folder)
    os.link(REQUEST_FILE, _REPLACEMENT, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.rename(_REPLACEMENT, name, src_dir_fd=folder, dst_dir_fd=parent)


def _check_replacing(path: PurePosixPath, existing: os.stat_result, *, allow_overwrites: bool) -> None:
    """Raises RefusedError unless it is a file that may be replaced."""
    if stat.S_ISDIR(existing.st_mode):
        raise _is_directory(path)
    if not stat.S_ISREG(existing.st_mode):
        raise _denied(f"{path} exists and is no regular file; remove it or upload under another name")
    if not allow_overwrites:
        raise _denied(f"{path} exists; remove it, upload under another name, or set BITSAllowOverwrites")


def _is_directory(path: PurePosixPath) -> RefusedError:
    return RefusedError(400, codes.E_INVALIDARG, f"{path} is a directory; add a file name to the URL")


def _denied(words: str) -> RefusedError:
    return RefusedError(403, codes.E_ACCESSDENIED, words)


def _status(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _make(area: int, session_id: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(session_id, 0o700, dir_fd=area)


def _sync_names(area: int, session_id: str) -> None:
    """To sync a file does not promise that it is found again."""
    folder = os.open(session_id, _OPEN_DIRECTORY, dir_fd=area)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    os.fsync(area)


def _remove(area: int, session_id: str) -> None:
    """Not through symlinks; an application may have left in the place of its reply what it liked."""
    with suppress(OSError):
        try:
            shutil.rmtree(session_id, dir_fd=area)
        except NotADirectoryError:
            os.unlink(session_id, dir_fd=area)


def _opened(opened: ExitStack, path: Path, step: str) -> int:
    with _told(path, step):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return descriptor


@contextmanager
def _told(path: Path, step: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot use {path}: {error.strerror}; {step}") from error


def _check_ours(folder: Path) -> None:
    """Whoever else may rename in the spool could read what is uploaded, and say whose it is."""
    status = folder.stat()
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & stat.S_IWOTH:
        raise StorageError(
            f"cannot use {folder}: somebody else owns it or may write to it; give it to the user of the server alone "
            "(chown, chmod o-w), or name another spool"
        )


def _volume(descriptor: int) -> _Volume:
    with open(f"/proc/self/fdinfo/{descriptor}") as info:  # noqa: PTH123  # a line of the kernel, no file of anybody's
        mount = next(line.split()[1] for line in info if line.startswith("mnt_id:"))
    return _Volume(os.fstat(descriptor).st_dev, mount)


def _check_links(folder: int, spool: Path) -> None:
    """Whether this file system has hard links."""
    probe, second = f"probe-{os.getpid()}", f"second-{os.getpid()}"
    with _told(spool, "name a spool and a root on a file system with hard links"), ExitStack() as made:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder))
        made.callback(os.unlink, probe, dir_fd=folder)
        os.link(probe, second, src_dir_fd=folder, dst_dir_fd=folder)
        os.unlink(second, dir_fd=folder)
