"""Seccomp: the process gives up system calls, for good. Called after the drop; standard library only.

Landlock knows files and TCP; this knows the rest of the network, on every kernel and without root.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from typing import TypeVar

_NUMBERS = {  # of 64-bit programs: AUDIT_ARCH_*; socket; execve, execveat
    "x86_64": (0xC000003E, 41, (59, 322)),
    "aarch64": (0xC00000B7, 198, (221, 281)),
    "riscv64": (0xC00000F3, 198, (221, 281)),
}
_IO_URING_SETUP = 425
"""Its requests make sockets too, and no filter sees them."""
_X32_BIT = 0x40000000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of classic BPF
_NR, _ARCH, _FIRST_ARGUMENT, _THIRD_ARGUMENT = 0, 4, 16, 32  # offsets in struct seccomp_data of a little-endian machine
_COMPUTING = {
    # mmap and mprotect; then what else it takes to compute and to talk over sockets that are there: read, write, close,
    # fstat, lseek, munmap, mremap, brk, madvise, futex, rt_sigaction, rt_sigprocmask, rt_sigreturn, restart_syscall,
    # sendmsg, recvmsg, clock_gettime, gettimeofday, time, getpid, gettid, getrandom, rseq, exit, exit_group
    "x86_64": ("9 10", "0 1 3 5 8 11 25 12 28 202 13 14 15 219 46 47 228 96 201 39 186 318 334 60 231"),
    "aarch64": ("222 226", "63 64 57 80 62 215 216 214 233 98 134 135 139 128 211 212 113 169 172 178 278 293 93 94"),
}
_COMPUTING["riscv64"] = _COMPUTING["aarch64"]
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_DIE = (_RETURN, 0, 0, _KILL)
_GET_SECCOMP, _SET_SECCOMP, _MODE_FILTER = 21, 22, 2  # of prctl
_AF_UNIX = 1
_PROT_EXEC = 4
_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)

T = TypeVar("T")


def refuse_network_and_programs() -> None:
    """No socket but a Unix one (EAFNOSUPPORT), no execve (EACCES); calls of another architecture kill the process.

    Nothing happens on a machine whose numbers are not in the table, or whose kernel has no seccomp.
    """
    numbers = _known(_NUMBERS)
    if numbers is not None:
        _install(_program(*numbers))


def allow_only_computing() -> None:
    """Nothing but memory, time and the descriptors that are open: every other call kills the process.

    Raises OSError ENOSYS on a machine whose numbers are not in the table, or whose kernel has no seccomp: whoever asks
    for this has something to run that must not run without.
    """
    allowed, numbers = _known(_COMPUTING), _known(_NUMBERS)
    if allowed is None or numbers is None:
        raise OSError(errno.ENOSYS, f"no seccomp filter is known for {platform.machine()}")
    mapping, others = (map(int, row.split()) for row in allowed)
    may_map = [(_IF_EQUAL, 0, 4, number) for number in mapping]
    no_code = [(_LOAD, 0, 0, _THIRD_ARGUMENT), (_IF_ANY_BIT, 1, 0, _PROT_EXEC), (_RETURN, 0, 0, _ALLOW), _DIE]
    _install(
        [
            (_LOAD, 0, 0, _ARCH),
            (_IF_EQUAL, 1, 0, numbers[0]),
            _DIE,
            (_LOAD, 0, 0, _NR),
            *(step for test in may_map for step in (test, *no_code)),
            *(step for number in others for step in ((_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW))),
            _DIE,
        ]
    )


def _known(table: Mapping[str, T]) -> T | None:
    """The row of this machine, if it runs 64-bit programs on a kernel with seccomp."""
    is_usable = ctypes.sizeof(ctypes.c_void_p) == 8 and _libc.prctl(_GET_SECCOMP, 0, 0, 0, 0) >= 0
    return table.get(platform.machine()) if is_usable else None


def _install(program: Sequence[tuple[int, int, int, int]]) -> None:
    """Each step: operation, steps to skip if true and if false, operand."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    if _libc.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(header), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def _program(arch: int, socket: int, programs: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
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
