"""Files that are read to be copied: opening them, and what the copy keeps of them (jobs.md §8.5, §8.6).

Part of the path recipe, for the one identity of the broker: the directory is the one that was fixed (P2), the name is
one component of it and never followed, and only a regular file is opened.
"""

# ruff: noqa: PTH118  # paths are bytes, which pathlib does not carry

import errno
import os
import stat
from collections.abc import Container
from dataclasses import dataclass

from openbits.identity import acl
from openbits.identity.filecalls import Opener, Status, statx
from openbits.identity.path_errors import failing, failing_as, failure
from openbits.identity.paths import AT_ONCE, Directory, Temporary, open_temporary, opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What is kept of a file that is read: size, modification time, permission bits, owners, access list if any."""

    size_bytes: int
    modified_ns: int
    mode: int
    uid: int
    gid: int
    acl: bytes | None


def source(directory: Directory, name: bytes, opener: Opener) -> tuple[Attributes, int]:
    """Attributes and read-only descriptor of a regular file that is to be transferred; its name is not followed.

    Nothing else is opened, not even for a moment, and nothing is waited for. Whether this identity may read it, the
    kernel decides; raises PathError with step `read`.
    """
    subject = os.path.join(directory.path, name)
    with opened(directory, opener) as dir_fd, failing("read", subject):
        path_fd = opener(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=dir_fd)
        try:
            found = statx(path_fd)
            _check_regular(found, subject)
            file_fd = os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY | AT_ONCE)
        except PermissionError as error:
            owner = f"it belongs to uid {found.uid} with mode {stat.S_IMODE(found.mode):04o}"
            raise failure(errno.EACCES, "read", subject, f"{owner}; have reading allowed") from error
        finally:
            os.close(path_fd)
        try:
            return _attributes(file_fd), file_fd
        except BaseException:
            os.close(file_fd)
            raise


def dress(
    directory: Directory, temporary: Temporary, opener: Opener, *, like: Attributes, parts: Container[str]
) -> None:
    """Give the temporary file these parts of what its source has: `owner`, `group`, `acl` (jobs.md §8.6), durably.

    Raises PathError with step `dress`, EPERM if this identity may not. Without access lists on its file system the file
    gets the mode alone.
    """
    subject = os.path.join(directory.path, temporary.name)
    with opened(directory, opener) as dir_fd, failing("dress", subject):
        file_fd, _ = open_temporary(dir_fd, temporary, subject, opener)
        try:
            if "owner" in parts and like.uid != os.geteuid():
                raise failure(errno.EPERM, "dress", subject, f"nobody but root may give it to uid {like.uid}")
            if "group" in parts:
                with failing_as("dress", subject, f"it is in no group with gid {like.gid}"):
                    os.fchown(file_fd, -1, like.gid)
            if "acl" in parts:
                acl.give(file_fd, like.mode, like.acl)
            os.fsync(file_fd)
        finally:
            os.close(file_fd)


def _check_regular(found: Status, path: bytes) -> None:
    if stat.S_ISREG(found.mode):
        return
    if stat.S_ISLNK(found.mode):
        raise failure(errno.ELOOP, "read", path, "it is a symbolic link; name the file that it leads to")
    if stat.S_ISDIR(found.mode):
        raise failure(errno.EISDIR, "read", path, "it is a directory; name a file in it")
    raise failure(errno.EACCES, "read", path, "it is a device, FIFO or socket; only regular files are transferred")


def _attributes(file_fd: int) -> Attributes:
    found = os.fstat(file_fd)
    return Attributes(
        size_bytes=found.st_size,
        modified_ns=found.st_mtime_ns,
        mode=found.st_mode & 0o777,
        uid=found.st_uid,
        gid=found.st_gid,
        acl=acl.of_file(file_fd),
    )
