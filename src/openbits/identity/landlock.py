"""Landlock: the process gives up file access, for good. Called after the drop; standard library only.

Descriptors that are open already, or that arrive later, keep their rights: that is how a confined worker writes a file.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = (1 << bit for bit in (1, 2, 3, 5, 8, 14))
_READ = _READ_FILE | _READ_DIR
_CHANGE = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # rights known to an ABI; 16 from 5 on
_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Version of Landlock in this kernel; 0 without it."""
    return max(int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)), 0)


def restrict(reads: Iterable[int], changes: Iterable[int], *, is_network_allowed: bool) -> None:
    """Allow to read, or also to change, these files and those below these directories (O_PATH), and no other file.

    Nothing may be executed, no link, folder or special file made; no new TCP unless it is allowed (ABI 4). Signals and
    abstract sockets of processes outside are out of reach too where the kernel can do that (ABI 6).
    """
    version = abi()
    handled = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("=QQQ", handled, 0 if is_network_allowed or version < 4 else 3, 3 if version >= 6 else 0)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for access, paths in ((_READ, reads), (_CHANGE, changes)):
        for path in paths:
            fitting = handled if stat.S_ISDIR(os.fstat(path).st_mode) else handled & _OF_FILES
            _call(_ADD_RULE, ruleset, 1, struct.pack("=Qi", access & fitting, path), 0)
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
