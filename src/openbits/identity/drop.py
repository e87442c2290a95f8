"""Child start: what a fork of the zygote does before other code runs in it, in the order of identity.md §11.

Every step is checked; a child that cannot finish the sequence says why and ends. In a user's own service the same
sequence runs without the rights of root: nothing is left to drop, and any other uid fails the check.
"""

import contextlib
import ctypes
import json
import os
import platform
import pwd
import resource
import signal
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from openbits.channel import Message
from openbits.identity import landlock, personal, seccomp

KEPT_VARIABLES = {"PATH", "LANG", "TZ"}
MOUNT_POINT = "/mnt"
"""Where a manager that cannot pass the folders above its store sees it, in a mount namespace of its own."""
NETWORK_WORKER_READS = ("etc", "usr", "lib*", "run/systemd/resolve", "run/nscd")
_PDEATHSIG, _DUMPABLE, _NAME, _CAPBSET_READ, _CAPBSET_DROP, _NO_NEW_PRIVS = 1, 4, 15, 23, 24, 38  # of prctl
_MDWE = 65  # of prctl, too
_NEW_MOUNTS, _MS_BIND, _MS_RECURSIVE_SLAVE = 0x20000, 0x1000, 0x84000
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}.get(platform.machine())
_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


class NoAccountError(Exception):
    """Groups were to be looked up, but the uid has no account any more."""


def become(order: Message, control: socket.socket, entry: int | None, parent: int) -> Message:
    """Become the identity of the order for good; returns the hello. `entry`: admitted entry to be confined to."""
    uid = order["uid"]
    directories = None if entry is None else json.loads(os.pread(entry, os.fstat(entry).st_size, 0))
    keep_only(control.fileno())
    for name in os.environ.keys() - KEPT_VARIABLES:
        del os.environ[name]
    set_name(order["program"])
    if os.geteuid() == 0:
        if order.get("private_mount") is not None:
            _mount_privately(order["private_mount"])
        _take_identity(uid, *(_look_up(uid) if order["groups"] is None else (order["gid"], order["groups"])))
    _call("capset", struct.pack("=Ii", 0x20080522, 0), bytes(24))  # only uid 0 still has some
    if os.getresuid() != (uid,) * 3 or (uid != 0 and _libc.setuid(0) != -1):
        raise PermissionError(f"the kernel left uids {os.getresuid()}")
    if _KEYCTL is not None:
        _libc.syscall(_KEYCTL, 1, None)  # join a new session keyring; where that is refused there is none to leak
    _call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
    if order["program"] != "notify":  # whose program may well compile itself while it runs
        _libc.prctl(_MDWE, 1, 0, 0, 0)  # no memory that was writable becomes code (Linux 6.3)
    os.umask(0o077)
    end_with(parent)  # the change of uid would have cleared it
    _call("prctl", _DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _confine(order, directories)
    identity = {"uid": uid, "gid": os.getgid(), "groups": os.getgroups()}
    return {"hello": order["program"], "pid": os.getpid(), **identity, "landlock": landlock.abi()}


def _confine(order: Message, directories: list[Message] | None) -> None:
    """What this program never needs goes: files, network, programs."""
    if landlock.abi() and order["program"] == "worker":
        read_only = [(name, None) for pattern in NETWORK_WORKER_READS for name in Path("/").glob(pattern)]
        landlock.restrict(_opened(read_only), (), is_network_allowed=True)
    elif landlock.abi() and order["program"] == "manager":
        root, store = [(Path("/"), None)], [(Path(order["store"]), None)]
        landlock.restrict(_opened(root), _opened(store), is_network_allowed=False)
    elif landlock.abi() and directories is not None:
        readable, changeable = (
            [(Path(item["path"]), (item["dev"], item["ino"])) for item in directories if _is_read_only(item) is which]
            for which in (True, False)
        )
        _, _, home = _account(order["uid"]) or (0, [], "")
        own = personal.places(home, order["settings"])
        landlock.restrict(_opened([*readable, *own]), _opened(changeable), is_network_allowed=False)
    if order["program"] not in {"worker", "notify"}:  # one has the network, the other is there to start a program
        seccomp.refuse_network_and_programs()


def _is_read_only(directory: Message) -> bool:
    return directory.get("is_read_only") is True


def keep_only(descriptor: int) -> None:
    """Close every descriptor but this one and stderr; stdin and stdout become /dev/null."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def set_name(program: str) -> None:
    """The name of this process in ps and top: bits-<program>."""
    name = ctypes.create_string_buffer(f"bits-{program}".encode())
    _call("prctl", _NAME, ctypes.addressof(name), 0, 0, 0)


def end_with(parent: int) -> None:
    """Be killed when the parent process ends; at once if it has ended already."""
    _call("prctl", _PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _take_identity(uid: int, gid: int, groups: list[int]) -> None:
    capability = 0
    while (is_held := _libc.prctl(_CAPBSET_READ, capability, 0, 0, 0)) >= 0:
        if is_held:
            _call("prctl", _CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresgid() != (gid,) * 3 or set(os.getgroups()) != set(groups):
        raise PermissionError(f"the kernel left gids {os.getresgid()} and groups {os.getgroups()}")


def _look_up(uid: int) -> tuple[int, list[int]]:
    """Group and groups of an account."""
    account = _account(uid)
    if account is None:
        raise NoAccountError(f"uid {uid} has no account any more")
    return account[:2]


def _account(uid: int) -> tuple[int, list[int], str] | None:
    """Group, groups and home of an account, asked in a child: name services leave descriptors and state behind."""
    answers, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(KeyError):
            account = pwd.getpwuid(uid)
            groups = os.getgrouplist(account.pw_name, account.pw_gid)
            os.write(answer, json.dumps([account.pw_gid, groups, account.pw_dir]).encode())
        os._exit(0)
    os.close(answer)
    with os.fdopen(answers) as lines:
        found = lines.read()
    os.waitpid(pid, 0)
    return tuple(json.loads(found)) if found else None


def _mount_privately(folder: str) -> None:
    try:
        _call("unshare", _NEW_MOUNTS)
        _call("mount", None, b"/", None, ctypes.c_ulong(_MS_RECURSIVE_SLAVE), None)
        _call("mount", os.fsencode(folder), MOUNT_POINT.encode(), None, ctypes.c_ulong(_MS_BIND), None)
    except OSError as error:
        remedy = "make every folder above it passable (chmod o+x), or name another with --state-dir"
        raise OSError(error.errno, f"{folder} cannot be mounted privately ({error}); {remedy}") from error


def _opened(places: Sequence[tuple[Path, tuple[int, int] | None]]) -> Iterator[int]:
    """Descriptors of the places that are there, and are still the ones meant by (dev, ino)."""
    for path, meant in places:
        with contextlib.suppress(OSError, ValueError):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            status = os.fstat(descriptor)
            if meant in (None, (status.st_dev, status.st_ino)):
                yield descriptor
            os.close(descriptor)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
