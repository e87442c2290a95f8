"""System calls on files that Python does not have, and what is known of file systems; nothing about transfers."""

import ctypes
import errno
import os
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate64.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.syncfs.argtypes = (ctypes.c_int,)
_libc.fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

_KEEP_SIZE: Final = 1
"""FALLOC_FL_KEEP_SIZE: the length of the file goes on to say how much of it was written."""

_WAIT_BEFORE: Final = 1
"""SYNC_FILE_RANGE_WAIT_BEFORE: nothing is written, and errors of what was written are told."""

_EXT, _XFS, _BTRFS = 0xEF53, 0x58465342, 0x9123683E

_RESERVING: Final = frozenset({_EXT, _XFS})
"""Where an allocation is a matter of milliseconds whatever the size, and does not change how the file is stored."""

_SYNCING_AS_ONE: Final = frozenset({_EXT, _XFS, _BTRFS})
"""Where one sync of the file system makes all its files as durable as a sync of each does."""

_STATFS_BYTES: Final = 256


def kind_of(descriptor: int) -> int:
    """The magic number of the file system of a file (statfs(2)); 0 if it does not say."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(descriptor, buffer) != 0:
        return 0
    return int(ctypes.c_long.from_buffer(buffer).value)  # the first member, f_type


def is_synced_as_one(descriptor: int) -> bool:
    """True if `sync_all` is as good as fdatasync for files of this file system.

    Before Linux 5.8 it said nothing of data that could not be written.
    """
    release = tuple(int("0" + part) for part in os.uname().release.split("-")[0].split(".")[:2] if part.isdecimal())
    return release >= (5, 8) and kind_of(descriptor) in _SYNCING_AS_ONE


def sync_all(descriptor: int) -> None:
    """Have everything on the disk that was written to this file system (syncfs(2)). Raises OSError."""
    if _libc.syncfs(descriptor) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def check_written(descriptor: int) -> None:
    """Raise OSError if data of this file could not be written since it was last asked for. The disk is not asked.

    `sync_all` tells nobody of what was lost before its descriptor was opened, perhaps of a file that was open by then.
    """
    if _libc.sync_file_range(descriptor, 0, 0, _WAIT_BEFORE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def free_bytes(descriptor: int) -> int | None:
    """What the file system has left for this identity, None if it does not say."""
    try:
        figures = os.fstatvfs(descriptor)
    except OSError:
        return None
    return figures.f_bavail * figures.f_frsize


def reserve(descriptor: int, start: int, end: int) -> None:
    """Have room for these bytes of a file, which keeps its length. Raises OSError (ENOSPC, EDQUOT) if there is none.

    Room is taken where that is quick; elsewhere, and where quota is not asked, only what is free now is looked at.
    """
    if kind_of(descriptor) in _RESERVING:
        if _libc.fallocate64(descriptor, _KEEP_SIZE, start, end - start) == 0:
            return
        number = ctypes.get_errno()
        if number in {errno.ENOSPC, errno.EDQUOT}:
            os.ftruncate(descriptor, start)  # what it could get belongs to others again
            raise OSError(number, os.strerror(number))
    free = free_bytes(descriptor)
    if free is not None and free < end - start:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
