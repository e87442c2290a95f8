"""What `bits doctor` looks at: one function for each subject, which only looks and never starts or changes anything.

The kernel is asked as this process sees it; inside a container that may be less than the service sees.
"""

# ruff: noqa: PTH110, PTH112, PTH116, PTH120  # pathlib costs start-up time

import ctypes
import errno
import grp
import os
import platform
import pwd
import resource
import socket
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from openbits.api import locate
from openbits.api.wire import JobInfo, PoliciesInfo, ServiceInfo
from openbits.cli import render
from openbits.core.system import KERBEROS_LIBRARY, SYSTEM_CA_FILES
from openbits.version import VERSION

OK, WARN, FAIL = "ok", "warn", "fail"

SMALLEST_FREE_BYTES = 1 << 30
FEWEST_DESCRIPTORS = 256
PAM_FILE = "/etc/pam.d/openbits"

_LANDLOCK_CREATE_RULESET, _OPENAT2 = 444, 437  # the same on every architecture
_SO_PEERPIDFD = 77
_TIME_ERROR = 5  # adjtimex(2): not synchronised


class Finding(NamedTuple):
    """One line: how it is, about what, what was found, and (unless ok) what to do."""

    level: str
    subject: str
    text: str
    step: str = ""


def client() -> Iterator[Finding]:
    """The program that runs."""
    yield Finding(OK, "client", f"bits {VERSION}, Python {platform.python_version()}")


def service(info: ServiceInfo) -> Iterator[Finding]:
    """Who answered."""
    kind = "the machine's service" if info["mode"] == "machine" else f"the own service of uid {info['uid']}"
    parts = ", ".join(f"{name} {pid}" for name, pid in sorted(info["process_ids"].items()))
    yield Finding(OK, "service", f"{kind} answers; you are {render.printable(info['caller_name']) or '-'} "
                  f"(uid {info['caller_uid']}) to it; processes: {parts}")  # fmt: skip
    if info["version"] == VERSION:
        yield Finding(OK, "version", f"the service has the version of this client, {VERSION}")
    else:
        text = f"the service has version {render.printable(info['version'])}, this client {VERSION}"
        yield Finding(WARN, "version", text, "restart the service after an update")


def policies(info: PoliciesInfo) -> Iterator[Finding]:
    """Whether what the policy files say is in force."""
    if info["problem"]:
        yield Finding(FAIL, "policies", f"not in force: {render.printable(info['problem'])}", "mend that file")
        return
    count = sum(bool(one["origin"]) for one in info["policies"])
    unused = [one["name"] for one in info["policies"] if one["origin"] and not one["is_used"]]
    text = f"{count} set by files in {render.printable(info['folder'])}"
    yield Finding(OK, "policies", text + (f"; not used yet: {', '.join(unused)}" if unused else ""))


def sockets(place: locate.Place) -> Iterator[Finding]:
    """The socket and the directory that it is in."""
    yield Finding(OK, "chosen", f"{place.socket}: {place.why}")
    for subject, path in (("directory", os.path.dirname(place.socket)), ("socket", place.socket)):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            yield Finding(OK, subject, f"{path} is not there; it appears when the service starts")
            continue
        except OSError as error:
            yield Finding(WARN, subject, f"cannot look at {path}: {error.strerror}", "ask as its owner")
            continue
        text = f"{path} belongs to {_name(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"
        is_ours = status.st_uid in {0, os.geteuid()}
        is_closed = not (subject == "directory" and status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX)
        step = "use a socket in a directory of root or of yours that others cannot write"
        yield Finding(OK, subject, text) if is_ours and is_closed else Finding(FAIL, subject, text, step)


def state_directory(path: str) -> Iterator[Finding]:
    """Where the queue is, and the space there."""
    there = path
    while not os.path.isdir(there) and there != "/":
        there = os.path.dirname(there)
    try:
        status = os.statvfs(there)
    except OSError as error:
        yield Finding(WARN, "state", f"cannot look at {path}: {error.strerror}", "ask as its owner")
        return
    free = status.f_bavail * status.f_frsize
    text = f"{path}: {render.size(free)} free" + ("" if there == path else f" (seen at {there})")
    if free < SMALLEST_FREE_BYTES:
        yield Finding(WARN, "state", text, "make room: without space the service cannot save its queue and stops")
    else:
        yield Finding(OK, "state", text)


def kernel() -> Iterator[Finding]:
    """What confinement and identities rest on."""
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if abi > 0:
        yield Finding(OK, "landlock", f"ABI {abi} in kernel {platform.release()}")
    else:
        text = f"kernel {platform.release()} does not offer it to this process"
        step = "use Linux 5.13 or newer with lsm=landlock; without it jobs of root wait for root's connection"
        yield Finding(WARN, "landlock", text, step)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            os.close(ours.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD))
            yield Finding(OK, "peer pidfd", "SO_PEERPIDFD works")
        except OSError as error:
            step = "use Linux 6.5 or newer: the user namespace of callers is judged by it"
            yield Finding(WARN, "peer pidfd", f"SO_PEERPIDFD: {error.strerror}", step)
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, 0)
    descriptor = libc.syscall(_OPENAT2, -100, b"/", how, ctypes.c_size_t(ctypes.sizeof(how)))
    if descriptor >= 0:
        os.close(descriptor)
        yield Finding(OK, "openat2", "works")
    else:
        why = os.strerror(ctypes.get_errno() or errno.ENOSYS)
        yield Finding(WARN, "openat2", why, "use Linux 5.6 or newer; paths are walked part by part until then")


def logons() -> Iterator[Finding]:
    """The PAM service of LogonUser."""
    if os.path.exists(PAM_FILE):
        yield Finding(OK, "pam", PAM_FILE)
    else:
        yield Finding(OK, "pam", f"the packaged default on top of the system's stack; {PAM_FILE} would replace it")


def certificates() -> Iterator[Finding]:
    """Whom HTTPS trusts unless the configuration of the service says otherwise."""
    path = next((path for path in SYSTEM_CA_FILES if os.access(path, os.R_OK)), None)
    if path is None:
        step = "install the package ca-certificates, or set tls.ca_file in the configuration"
        yield Finding(WARN, "ca file", "the system has none that can be read, so https fails", step)
    else:
        yield Finding(OK, "ca file", path)


def kerberos() -> Iterator[Finding]:
    """Whether jobs can prove who they are with tickets; those that need not are fine without."""
    try:
        ctypes.CDLL(KERBEROS_LIBRARY)
    except OSError:
        text = f"{KERBEROS_LIBRARY} is not here, so no tickets are used; if they are to be: install libgssapi-krb5-2"
        yield Finding(OK, "kerberos", text)
    else:
        yield Finding(OK, "kerberos", f"{KERBEROS_LIBRARY} is here")


def clock(now: float) -> Iterator[Finding]:
    """Certificates, limits and the log depend on it."""
    told = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    if now < os.stat(__file__).st_mtime:
        yield Finding(FAIL, "clock", f"{told} is before this program was installed", "set it: certificates fail so")
        return
    is_synchronised = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) != _TIME_ERROR
    yield Finding(OK, "clock", told if is_synchronised else f"{told}; nobody keeps it synchronised")


def you() -> Iterator[Finding]:
    """Identity and limits of this process."""
    groups = ", ".join(_group_name(gid) for gid in sorted({os.getegid(), *os.getgroups()}))
    yield Finding(OK, "you", f"{_name(os.geteuid())}, groups {groups}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FEWEST_DESCRIPTORS:
        text = f"{soft} open files (at most {hard})"
        yield Finding(
            WARN,
            "limits",
            text,
            f"raise it, e.g. ulimit -n 1024; below {FEWEST_DESCRIPTORS} a service that you start fails",
        )
    else:
        yield Finding(OK, "limits", f"{soft} open files")


def jobs(infos: list[JobInfo], now: float) -> Iterator[Finding]:
    """Your jobs that wait for you."""
    stuck = [info for info in infos if info["state"] in {"error", "transient_error", "transferred"}]
    ids = render.short_ids([info["job_id"] for info in infos])
    for info in stuck:
        name = render.printable(info["properties"]["display_name"])
        why = next(render.reasons(info, now), info["state"]).removeprefix("error: ")
        text = f'{ids[info["job_id"]]} "{name}" is {info["state"]}: {why}'
        yield Finding(WARN, "job", text, f"bits explain {info['job_id']}")
    if not stuck:
        yield Finding(OK, "jobs", f"{len(infos)} of yours in the queue, none needs you")


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid} without an account"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
