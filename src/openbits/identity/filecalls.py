"""The file system calls of the path recipe that Python has no function for (identity.md §12).

`openat2` and `walk` are two ways to open a path without following one symlink; `choose_opener` says which of them this
kernel allows. `statx` is fstatat with the birth time. Nothing here knows what a job or a temporary file is.
"""

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from typing import Protocol

AT_FDCWD = -100

_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_STATX_BASIC_AND_BIRTH = 0x7FF | 0x800
_STATX_BIRTH = 0x800
_STATX_BYTES = 256
_STATX_HEAD = struct.Struct("=IIQIIIHHQQQQ qIi qIi qIi qIi IIII")


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t]
_syscall.restype = ctypes.c_long
_statx = _libc.statx
_statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p]
_statx.restype = ctypes.c_int


class Opener(Protocol):
    """Opens `path`, close-on-exec, without following a symlink anywhere; raises OSError.

    An absolute path starts at the root; a path relative to `dir_fd` stays beneath it. `path` has no `.` and no `..`.
    With `follow` symlinks are followed: only for the one resolution of P1.
    """

    def __call__(self, path: bytes, flags: int, *, mode: int = 0, dir_fd: int = AT_FDCWD, follow: bool = False) -> int:
        """The new descriptor."""


def openat2(path: bytes, flags: int, *, mode: int = 0, dir_fd: int = AT_FDCWD, follow: bool = False) -> int:
    """The Opener of kernels from 5.6 on (P2, P3): the kernel refuses symlinks, magic links and ways out."""
    resolve = _RESOLVE_NO_MAGICLINKS
    if not follow:
        resolve |= _RESOLVE_NO_SYMLINKS
    if dir_fd != AT_FDCWD:
        resolve |= _RESOLVE_BENEATH
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        descriptor: int = _syscall(_SYS_OPENAT2, dir_fd, path, ctypes.byref(how), ctypes.sizeof(how))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number), path)


def walk(path: bytes, flags: int, *, mode: int = 0, dir_fd: int = AT_FDCWD, follow: bool = False) -> int:
    """The Opener without openat2 (P10): one openat(O_NOFOLLOW|O_PATH) for each component.

    With `follow` magic links are followed too; resolving checks afterwards that the canonical path leads to the
    same directory, so they gain nothing.
    """
    flags |= os.O_CLOEXEC
    if follow:
        return os.open(path, flags, mode, dir_fd=None if dir_fd == AT_FDCWD else dir_fd)
    step = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    here = os.open(b"/", step) if path.startswith(b"/") else os.dup(dir_fd)
    try:
        *parents, name = path.strip(b"/").split(b"/")
        for parent in parents:
            below = os.open(parent, step, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name or b".", flags | os.O_NOFOLLOW, mode, dir_fd=here)
    finally:
        os.close(here)


def choose_opener() -> Opener:
    """`openat2`, or `walk` where the kernel has none (ENOSYS) or a seccomp filter forbids it (EPERM)."""
    try:
        os.close(openat2(b"/", os.O_PATH))
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EPERM}:
            return walk
        raise
    return openat2


_PIECE_BYTES = 1 << 20
_NO_COPY_HERE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV}
"""How a kernel, a file system or a seccomp filter says that it knows no copy_file_range."""


def copy_range(source: int, target: int, offset: int, length: int) -> int:
    """Copy bytes to the same place of another file, without a copy in memory where the kernel can; raises OSError.

    Returns how many were copied: fewer than `length` only if the source ends there.
    """
    done = 0
    while done < length:
        at, wanted = offset + done, length - done
        try:
            step = os.copy_file_range(source, target, wanted, at, at)
        except OSError as error:
            if error.errno not in _NO_COPY_HERE:
                raise
            step = os.pwrite(target, os.pread(source, min(wanted, _PIECE_BYTES), at), at)
        if step == 0:
            break
        done += step
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What statx says of a file. `birth_ns`: nanoseconds since the epoch, 0 if the file system has no such time."""

    mode: int
    links: int
    uid: int
    dev: int
    ino: int
    birth_ns: int
    size_bytes: int


def statx(dir_fd: int, name: bytes = b"") -> Status:
    """Status of `name` in the directory, not following a symlink; without a name of the descriptor itself."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    flags = _AT_SYMLINK_NOFOLLOW | (0 if name else _AT_EMPTY_PATH)
    while _statx(dir_fd, name, flags, _STATX_BASIC_AND_BIRTH, buffer) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number), name)
    mask, _, _, links, uid, _, mode, _, ino, size_bytes, *rest = _STATX_HEAD.unpack_from(buffer)
    birth_seconds, birth_nanoseconds = rest[5:7]
    dev_major, dev_minor = rest[-2:]
    return Status(
        mode=mode,
        links=links,
        uid=uid,
        dev=os.makedev(dev_major, dev_minor),
        ino=ino,
        birth_ns=birth_seconds * 1_000_000_000 + birth_nanoseconds if mask & _STATX_BIRTH else 0,
        size_bytes=size_bytes,
    )
