"""The filter by itself, in a process of its own; no root needed (design.md §2)."""

import ctypes
import errno
import os
import platform
import signal
import socket
from collections.abc import Callable

import pytest

from openbits.identity import seccomp

pytestmark = pytest.mark.skipif(platform.machine() not in seccomp._NUMBERS, reason="no numbers for this machine")

IO_URING_SETUP, X32_GETPID = 425, 0x40000000 + 39


def ended(act: Callable[[], object]) -> int:
    """Errno of an act in a child under the filter, 0 if it succeeded; a negative signal if it was killed."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            seccomp._libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
            seccomp.refuse_network_and_programs()
            status = 0
            act()
        except OSError as error:
            status = error.errno or 255
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def system_call(number: int) -> None:
    if ctypes.CDLL(None, use_errno=True).syscall(number, 0, None) == -1:
        raise OSError(ctypes.get_errno(), "syscall")


def test_unix_sockets_files_and_forks_stay() -> None:
    def work() -> None:
        near, far = socket.socketpair()
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).close()
        near.send(b"x")
        assert far.recv(1) == b"x"
        os.close(os.open("/etc/passwd", os.O_RDONLY))
        if os.fork() == 0:
            os._exit(0)
        os.wait()

    assert ended(work) == 0


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_VSOCK, -1])
def test_no_other_socket_is_made(family: int) -> None:
    assert ended(lambda: socket.socket(family, socket.SOCK_DGRAM)) == errno.EAFNOSUPPORT


def test_no_program_is_started() -> None:
    assert ended(lambda: os.execv("/bin/true", ["true"])) == errno.EACCES
    assert ended(lambda: os.execve(os.open("/bin/true", os.O_RDONLY), ["true"], {})) == errno.EACCES


def test_no_ring_makes_sockets_behind_the_filter() -> None:
    assert ended(lambda: system_call(IO_URING_SETUP)) == errno.EPERM


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only there are numbers for two architectures in one")
def test_calls_by_the_numbers_of_another_architecture_kill() -> None:
    assert ended(lambda: system_call(X32_GETPID)) == -signal.SIGSYS


def test_an_unknown_machine_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    assert ended(lambda: socket.socket(socket.AF_INET).close()) == 0
