"""`bitsd`, the spawner: accepts, judges, hands over; the only program of the service that stays root.

It parses no client input, opens no user's path and uses no network. This file is its start and its end; the work is
done by one generation after the other (`generation.py`). Standard library only.
"""

import argparse
import os
import resource
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path

from openbits.identity import drop, statedir, zygote
from openbits.identity.generation import Generation
from openbits.identity.statedir import Places, StartError

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 30.0
"""Pause before the next generation; it doubles, and begins anew after a generation of STEADY_SECONDS."""
STEADY_SECONDS = 60.0
_READY = b"ready"


def main(arguments: Sequence[str] | None = None, programs: Mapping[str, str] = zygote.PROGRAMS) -> int:
    """Run the service until SIGTERM; with --detach return as soon as it is ready (0) or has failed (1)."""
    parser = argparse.ArgumentParser(prog="bitsd", description="The OpenBITS service.")
    parser.add_argument("--state-dir", metavar="DIR", help="folder of the queue; made if it is missing")
    parser.add_argument("--socket", metavar="PATH", help="where clients connect")
    parser.add_argument("--detach", action="store_true", help="return as soon as the service is ready")
    options = parser.parse_args(arguments)
    report = None
    try:
        place = statedir.places(os.environ, os.geteuid(), options.state_dir, options.socket)
        if options.detach:
            news, writing = os.pipe()
            if os.fork() != 0:
                os.close(writing)
                return _wait_for(news)
            os.setsid()
            drop.keep_only(writing)
            report = os.fdopen(writing, "wb", buffering=0)
        _run(place, programs, report)
    except (StartError, OSError) as error:
        if not _tell(report, f"cannot start: {error}".encode()):
            _log(f"cannot start: {error}")
        return 1
    return 0


def _wait_for(news: int) -> int:
    """The front process of --detach: exit status, once the service is ready or has said why not."""
    with os.fdopen(news, "rb") as lines:
        outcome = lines.read()
    if outcome != _READY:
        _log(outcome.decode(errors="replace") or "ended before it was ready; see bitsd.log in the state directory")
    return int(outcome != _READY)


def _tell(report: FileIO | None, outcome: bytes) -> bool:
    """Tell the front process of --detach, if there is one that still waits to hear."""
    if report is None or report.closed:
        return False
    with suppress(BrokenPipeError), report:
        report.write(outcome)
    return True


def _run(place: Places, programs: Mapping[str, str], report: FileIO | None) -> None:
    """Start, steady state, end."""
    uid = os.geteuid()
    os.umask(0o022 if uid == 0 else 0o077)
    os.chdir("/")
    drop.set_name("spawner")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    state = statedir.prepare(place, uid)
    if report is not None:
        _log_to(place.state / "bitsd.log")
    listener = statedir.listen(place.socket, uid)
    wake, alarm = socket.socketpair()
    alarm.setblocking(False)
    signal.set_wakeup_fd(alarm.fileno())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the zygote and logon helpers
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        _serve(lambda: Generation(place, state, listener, wake, programs), wake, report)
    finally:
        with suppress(FileNotFoundError):
            place.socket.unlink()


def _serve(begin: Callable[[], Generation], wake: socket.socket, report: FileIO | None) -> None:
    """One generation after the other until a signal comes; StartError if none can serve at all."""
    pause, has_served = FIRST_PAUSE_SECONDS, False
    while True:
        began_at = time.monotonic()
        try:
            generation = begin()
            ending = generation.run(lambda: _tell(report, _READY))
            has_served = has_served or generation.is_ready
        except OSError as error:
            ending = str(error)  # no process or descriptor to begin with
        if ending is None:
            return
        if not has_served:
            raise StartError(ending)
        if time.monotonic() - began_at > STEADY_SECONDS:
            pause = FIRST_PAUSE_SECONDS
        _log(f"generation_ended why={ending!r} next_in_seconds={pause}")
        if select.select([wake], [], [], pause)[0]:
            return
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _log_to(path: Path) -> None:
    """Append what goes to stderr, here and in all children, to a file of our own."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(log).st_mode):
        raise StartError(f"{path} is not a regular file; move it away")
    os.dup2(log, 2)
    os.close(log)


def _log(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"spawner: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
