"""How a file operation fails, in words: identity, object, what refuses, next step.

Used by `paths` and `sources`. The step words are those of docs/processes.md: a step that is an act (`create`, `reopen`,
`read`, `copy`, `dress`, `publish`, `remove`), or why a directory (`directory`, `volume`, `moved`) or temporary file
(`changed`) cannot be used.
Accounts are shown by number: a broker must not ask the name service, which may lie in the network.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

# ruff: noqa: PTH116, PTH118  # paths are bytes, which pathlib does not carry

PATH_BYTES = 4096
"""Longest path of a destination (OPEN-29)."""

NAME_BYTES = 255
"""Longest component of a path (OPEN-29)."""

_SHOWN_CHARACTERS = 400

_ACTS = {"create", "reopen", "read", "copy", "dress", "publish", "remove"}

_REASONS = {
    errno.EACCES: "permission denied; this uid needs write and search permission on the directory",
    errno.EAGAIN: "another process holds a lease on it and has been told to let go; try again in a minute",
    errno.EDQUOT: "the disk quota is used up; delete files or have the quota raised, then try again",
    errno.EEXIST: "a file of this name exists; choose another name",
    errno.EIO: "input/output error; look into the kernel log and check the disk, then try again",
    errno.EISDIR: "it is a directory; choose another file name or move the directory away",
    errno.ENAMETOOLONG: f"more than {NAME_BYTES} bytes in a component or {PATH_BYTES} in all; choose a shorter path",
    errno.ENOENT: "it does not exist",
    errno.ENOSPC: "no space or no inode is left on the file system; free some, then try again",
    errno.EPERM: "not permitted; a file there is immutable, or somebody else's in a directory with the sticky bit",
    errno.EROFS: "the file system is read-only; have it mounted read-write or choose another directory",
}
"""What an errno means here and what to do next; the others are told in the words of the C library."""


class PathError(Exception):
    """A file operation failed. `step` is a step word of docs/processes.md, `subject` the path concerned."""

    def __init__(self, number: int, step: str, subject: bytes, text: str) -> None:
        super().__init__(text)
        self.errno = number
        self.step = step
        self.subject = subject


@contextlib.contextmanager
def failing(step: str, subject: bytes) -> Iterator[None]:
    """What the kernel refuses inside is a failure at this step."""
    try:
        yield
    except OSError as error:
        raise failure(error.errno or 0, step, subject) from error


@contextlib.contextmanager
def failing_as(step: str, subject: bytes, reason: str) -> Iterator[None]:
    """The same with a reason of its own for what is not permitted."""
    try:
        yield
    except PermissionError as error:
        raise failure(error.errno or 0, step, subject, reason) from error


def failure(number: int, step: str, subject: bytes, reason: str = "") -> PathError:
    """The error with the usual reason of its errno, or a better one."""
    reason = reason or _REASONS.get(number) or os.strerror(number).lower()
    verb = step if step in _ACTS else "use"
    return PathError(number, step, subject, f"cannot {verb} {_shown(subject)} as uid {os.geteuid()}: {reason}")


def volume_changed(path: bytes) -> PathError:
    """The canonical path lies on another device (P2)."""
    reason = "it lies on another volume than when the file was added; mount that one again"
    return failure(errno.ESTALE, "volume", path, reason)


def moved(path: bytes) -> PathError:
    """Another directory of the same device has the canonical path (P2)."""
    reason = "another directory is there than when the file was added; move it back or add the file again"
    return failure(errno.EACCES, "moved", path, reason)


def changed(path: bytes, what: str) -> PathError:
    """The temporary file is not the one that was made (P4, P5)."""
    reason = f"{what}, so it is not the temporary file that was made; see who else may write to its directory"
    return failure(errno.EACCES, "changed", path, reason)


def may_not_create(step: str, path: bytes, status: os.stat_result) -> PathError:
    """The directory, whose status is given, lets this identity make no files."""
    text = f"uid {os.geteuid()} may not create files in {_shown(path)} ({_rights(status)})"
    advice = "give it write and search permission there or choose another directory"
    return PathError(errno.EACCES, step, path, f"{text}; {advice}")


def unreachable(number: int, path: bytes) -> PathError:
    """The directory cannot be opened: says which component of its path is the reason."""
    reached, status, following = _obstacle(path)
    if number == errno.EACCES:
        where = f"may not enter {_shown(reached)} ({_rights(status)})"
        if os.path.lexists(following):
            where = f"may not go where {_shown(following)} leads"
        text = f"cannot use {_shown(path)}: uid {os.geteuid()} {where}; choose another directory or have it opened"
        return PathError(number, "directory", path, text)
    reasons = {
        errno.ENOENT: f"{_shown(following)} does not exist; make the directory first",
        errno.ENOTDIR: f"{_shown(following)} is not a directory; choose another path",
    }
    return failure(number, "directory", path, reasons.get(number, ""))


def _obstacle(path: bytes) -> tuple[bytes, os.stat_result, bytes]:
    """The last directory on the way that this identity reaches, its status, and the component that it does not."""
    reached = following = b"/"
    status = os.stat(reached)
    for component in path.split(b"/")[1:]:
        following = os.path.join(reached, component)
        try:
            found = os.stat(following)
        except OSError:
            break
        if not stat.S_ISDIR(found.st_mode):
            break
        reached, status = following, found
    return reached, status, following


def _rights(status: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}:{status.st_gid}"


def _shown(path: bytes) -> str:
    """The path for people: nothing in it can forge a line of a log or command a terminal."""
    text = path.decode("utf-8", "surrogateescape")
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[: _SHOWN_CHARACTERS // 2]}…{text[-_SHOWN_CHARACTERS // 2 :]}"
    return text
