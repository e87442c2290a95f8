"""What a program that was taken over tries; each attempt ends as `done` or as the name of an errno."""

import ctypes
import errno
import json
import os
import socket
from collections.abc import Callable, Mapping

TARGETS: dict[str, str] = json.loads(os.environ["OPENBITS_TEST_TARGETS"])
"""Read by the zygote at start; the environment of its children is empty."""

_PTRACE_ATTACH, _PIDFD_GETFD, _AT_EMPTY_PATH, _AT_FDCWD, _MS_BIND = 16, 438, 0x1000, -100, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A function of the C library; OSError if it returns -1."""
    if getattr(_libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


def tried(attempts: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    """Make all attempts."""
    results = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError as error:
            results[name] = errno.errorcode.get(error.errno or 0, str(error))
        else:
            results[name] = "done"
    return results


def opened(path: str, flags: int = os.O_RDONLY) -> None:
    """Open and close."""
    os.close(os.open(path, flags, 0o600))


def connected() -> None:
    """TCP to the server that the test runs."""
    socket.create_connection(("127.0.0.1", int(TARGETS["port"])), timeout=5).close()


def executed() -> None:
    """Run a program."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    if os.waitpid(pid, 0)[1] != 0:
        raise PermissionError(errno.EACCES, "the program did not run")


def stolen(pid: int) -> None:
    """Take a descriptor out of another process."""
    process = os.pidfd_open(pid)
    try:
        call("syscall", _PIDFD_GETFD, process, 0, 0)
    finally:
        os.close(process)


def linked(descriptor: int, path: str) -> None:
    """Give a name to an open file."""
    call("linkat", descriptor, b"", _AT_FDCWD, path.encode(), _AT_EMPTY_PATH)


def privileges(other_uid: int) -> dict[str, Callable[[], object]]:
    """What no child may do, whatever its identity."""
    own_process = int(TARGETS["own_process"])
    return {
        "become root": lambda: call("setresuid", 0, 0, 0),
        "become another user": lambda: call("setresuid", other_uid, other_uid, other_uid),
        "take a group": lambda: call("setgroups", 1, ctypes.byref(ctypes.c_uint32(0))),
        "change the root directory": lambda: os.chroot("/etc"),
        "mount": lambda: call("mount", b"/etc", b"/mnt", None, ctypes.c_ulong(_MS_BIND), None),
        "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
        "signal the zygote": lambda: os.kill(os.getppid(), 0),
        "trace the zygote": lambda: call("ptrace", _PTRACE_ATTACH, os.getppid(), None, None),
        "take a descriptor of the zygote": lambda: stolen(os.getppid()),
        "signal a process of its own user": lambda: os.kill(own_process, 0),
        "trace a process of its own user": lambda: call("ptrace", _PTRACE_ATTACH, own_process, None, None),
        "take a descriptor of its own user": lambda: stolen(own_process),
    }
