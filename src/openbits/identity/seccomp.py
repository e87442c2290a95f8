"""Seccomp: the process gives up system calls, for good. Called after the drop; standard library only.

Landlock knows files and TCP; this knows the rest of the network, on every kernel and without root.
"""

import ctypes
import errno
import os
import platform
import struct

_NUMBERS = {  # of 64-bit programs: AUDIT_ARCH_*; socket; execve, execveat
    "x86_64": (0xC000003E, 41, (59, 322)),
    "aarch64": (0xC00000B7, 198, (221, 281)),
    "riscv64": (0xC00000F3, 198, (221, 281)),
}
_IO_URING_SETUP = 425
"""Its requests make sockets too, and no filter sees them."""
_X32_BIT = 0x40000000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of classic BPF
_NR, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data of a little-endian machine
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_GET_SECCOMP, _SET_SECCOMP, _MODE_FILTER = 21, 22, 2  # of prctl
_AF_UNIX = 1
_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def refuse_network_and_programs() -> None:
    """No socket but a Unix one (EAFNOSUPPORT), no execve (EACCES); calls of another architecture kill the process.

    Nothing happens on a machine whose numbers are not in the table, or whose kernel has no seccomp.
    """
    numbers = _NUMBERS.get(platform.machine()) if ctypes.sizeof(ctypes.c_void_p) == 8 else None
    if numbers is None or _libc.prctl(_GET_SECCOMP, 0, 0, 0, 0) < 0:
        return
    program = _program(*numbers)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    if _libc.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(header), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def _program(arch: int, socket: int, programs: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Each step: operation, steps to skip if true and if false, operand."""
    refused = [(_IF_EQUAL, 0, 1, number) for number in programs]
    return [
        (_LOAD, 0, 0, _ARCH),
        (_IF_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
        (_IF_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
        *(step for test in refused for step in (test, (_RETURN, 0, 0, _ERRNO | errno.EACCES))),
        (_IF_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_IF_EQUAL, 1, 0, socket),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_IF_EQUAL, 0, 1, _AF_UNIX),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT),
    ]
