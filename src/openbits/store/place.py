"""The directory the store lies in: who may own it, the file's mode, and what is done with a damaged file.

Whoever could write this directory could write the queue, so the answer to a wrong owner or mode is a refusal.
"""

import contextlib
import os
import stat
from datetime import datetime
from pathlib import Path

from openbits.store.changes import StoreError

COMPANIONS = ("-wal", "-shm", "-damage")
"""What SQLite keeps beside its file, and our note that it was found damaged."""


def check_directory(directory: Path) -> None:
    """Raise StoreError unless this is a directory of our own effective uid that nobody else may write."""
    try:
        status = directory.stat()
    except OSError as error:
        raise StoreError(
            f"cannot open the store in {directory}: {error.strerror}; the service makes this directory when it starts"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise StoreError(f"cannot open the store in {directory}: not a directory; move it aside")
    uid, mode = os.geteuid(), stat.S_IMODE(status.st_mode)
    if status.st_uid != uid or mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(
            f"cannot open the store in {directory}: it belongs to uid {status.st_uid} with mode {mode:04o}, but must "
            f"belong to uid {uid} and be writable by it alone; make sure who wrote it, then chown and chmod 0700 it"
        )


def make_private(path: Path) -> None:
    """Make the file if it is missing, for its owner alone; SQLite gives its companions the same mode."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def has_log(path: Path) -> bool:
    """True if SQLite has left its log behind: the last end was a crash."""
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def note_damage(path: Path, reason: str) -> None:
    """Have the next start set the file aside; without space for the note, damage is found once more."""
    with contextlib.suppress(OSError):
        path.with_name(f"{path.name}-damage").write_text(f"{reason}\n")


def noted_damage(path: Path) -> str:
    """What `note_damage` wrote about the file; empty if nothing is known against it."""
    try:
        return path.with_name(f"{path.name}-damage").read_text(errors="replace").strip() or "no reason was noted"
    except FileNotFoundError:
        return ""


def set_aside(path: Path, now: datetime) -> Path:
    """Rename a damaged file and its companions to `<name>.damaged-<utc>`; returns the new path of the file.

    The file goes first: a log without its file is dropped by SQLite, a file without its log would pass for a whole one.
    """
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S.%fZ}")
    path.rename(aside)
    for companion in COMPANIONS:
        source = path.with_name(path.name + companion)
        if source.exists():
            source.rename(aside.with_name(aside.name + companion))
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return aside
