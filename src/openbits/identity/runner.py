"""The notify runner: runs one program for its user when a job is TRANSFERRED or in ERROR (jobs.md §12.5).

Started as a child of that user who set the command line, without its connection if need be; hence it runs nothing but
what the spawner has recorded for that user: the text that it is told must have the recorded name. It opens no path
itself but a manifest of the machine's (OPEN-51); the kernel opens the program, under the identity of the user.

The program gets no shell, no terminal, no descriptor but /dev/null, and an environment made here. It ends with the
channel: then its process group gets SIGKILL, as does what is left of the group when the program has ended. Standard
library only.
"""

import ctypes
import errno
import os
import pwd
import resource
import select
import signal
import socket
import stat
import subprocess
import tomllib
import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path

from openbits import channel, commandline
from openbits.channel import ChannelClosedError, Message

PATH, LANG = "/usr/local/bin:/usr/bin:/bin", "C.UTF-8"
UMASK = 0o022
"""The usual one of a login; that of the user is not known."""
USUAL_DESCRIPTORS = 1024
"""The soft limit that programs expect, select(2) above all; the service has a far higher one."""
_PDEATHSIG = 1  # of prctl
_libc = ctypes.CDLL(None, use_errno=True)


def run(control: socket.socket, allowed: str, config_dir: str, at: str) -> None:
    """Carry out the one order that comes: run what has the recorded name; `at` is the socket of the service."""
    _libc.prctl(_PDEATHSIG, 0, 0, 0, 0)  # killed at once it would leave the group; the channel ends with the service
    with suppress(ChannelClosedError):
        order, descriptors = channel.receive(control)
        channel.close_all(descriptors)
        try:
            process = _start(order, allowed, config_dir, at)
        except OSError as error:
            channel.send(control, {"event": "failed", "errno": error.errno, "text": error.strerror or str(error)})
            return
        with suppress(ChannelClosedError):
            channel.send(control, {"event": "started", "pid": process.pid})
        status = _wait(process, control)
        channel.send(control, {"event": "ended", "signal" if status < 0 else "code": abs(status)})


def _start(order: Message, allowed: str, config_dir: str, at: str) -> "subprocess.Popen[bytes]":
    """Start the program. Raises OSError: EPERM for what is not the recorded command, else what the kernel says."""
    program, parameters = order["program"], order["parameters"]
    if commandline.name(order["job_id"], program, parameters) != allowed:
        raise PermissionError(errno.EPERM, "this is not the command that its user has set")
    words = commandline.split(program, parameters) if program else _words_of_class(Path(config_dir), parameters)
    try:
        account = pwd.getpwuid(os.getuid())
        return subprocess.Popen(
            words,
            executable=program or words[0],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(account, at),
            umask=UMASK,
            start_new_session=True,
            preexec_fn=partial(_prepare, account.pw_dir, os.getpid()),  # noqa: PLW1509  # this process has one thread
        )
    except KeyError:
        raise OSError(errno.ENOENT, f"uid {os.getuid()} has no account any more") from None
    except ValueError:
        raise OSError(errno.EINVAL, "the command has characters that no argument can have") from None


def _words_of_class(config_dir: Path, class_id: str) -> list[str]:
    """Program and arguments from `activation.d/<class id>.toml`, which nobody but root, or we, could have written."""
    try:
        path = config_dir / "activation.d" / f"{uuid.UUID(class_id)}.toml"
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123  # pathlib cannot
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid not in {0, os.getuid()} or status.st_mode & 0o022:
                raise PermissionError(errno.EPERM, f"{path} could have been written by others than root")
            manifest = tomllib.load(file)
        words: list[str] = [manifest["program"], *manifest.get("arguments", [])]
        is_right = isinstance(manifest.get("arguments", []), list) and all(isinstance(word, str) for word in words)
    except FileNotFoundError:
        raise OSError(errno.ENOENT, f"no program is registered for the class {class_id}: {path} is missing") from None
    except (KeyError, TypeError, ValueError) as error:
        raise OSError(errno.EINVAL, f"the manifest of the class {class_id} cannot be used: {error!r}") from None
    if not is_right or not words[0].startswith("/"):
        raise OSError(errno.EINVAL, f"{path} must have program, an absolute path, and may have arguments, texts")
    return words


def _environment(account: pwd.struct_passwd, at: str) -> dict[str, str]:
    """What a login sets, the folder of a session that is there, and where the service is that has the job."""
    environment = {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
        "PATH": PATH,
        "LANG": LANG,
        "OPENBITS_SOCKET": at,
    }
    session = Path(f"/run/user/{account.pw_uid}")
    with suppress(OSError):
        if session.stat().st_uid == account.pw_uid:
            environment["XDG_RUNTIME_DIR"] = str(session)
    return environment


def _prepare(home: str, runner: int) -> None:
    """In the child, before the program: what a fork of the zygote has and a program does not expect."""
    _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != runner:
        os._exit(1)
    for number in signal.valid_signals():
        with suppress(OSError, ValueError):  # the two that nobody can change
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    usual = USUAL_DESCRIPTORS if most == resource.RLIM_INFINITY else min(USUAL_DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
    with suppress(OSError):  # then it stays in /
        os.chdir(home)


def _wait(process: "subprocess.Popen[bytes]", control: socket.socket) -> int:
    """Until the program or the channel ends; exit code, or the negative signal. Nothing of its group is left then."""
    ended = os.pidfd_open(process.pid)
    either = select.poll()
    either.register(ended, select.POLLIN)
    either.register(control, select.POLLIN)
    either.poll()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the number is nobody else's
    os.close(ended)
    return process.wait()
