"""Real servers of tests as ordinary processes: found, started on free loopback ports, ended by their pid."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

START_SECONDS = 20
_PROGRAMS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


def program(name: str) -> str:
    """Path of a program of the system; servers are not in the path of ordinary users."""
    path = shutil.which(name, path=_PROGRAMS)
    assert path is not None, f"{name} is not installed"
    return path


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def make_own(path: Path, account: str) -> None:
    """Give a folder and what is in it to an account, and to nobody else; an ordinary user keeps it."""
    for one in (path, *path.rglob("*")):
        if os.geteuid() == 0:
            shutil.chown(one, account, account)
        one.chmod(0o700 if one.is_dir() else 0o600)


class Daemon:
    """A running server; `log` is the file that says why it did not start."""

    def __init__(
        self,
        command: Sequence[str | Path],
        ports: Sequence[int],
        log: Path,
        *,
        account: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, under an account of the system if we are root, and return when it accepts on all ports."""
        self._log = log
        identity = {"user": account, "group": account, "extra_groups": []} if account and os.geteuid() == 0 else {}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": os.environ["PATH"], **(environ or {})},
                **identity,  # type: ignore[call-overload]  # what subprocess takes, or nothing
            )
        try:
            for port in ports:
                self._wait(port)
        except BaseException:
            self.close()
            raise

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, self._log.read_text(errors="replace")
                assert time.monotonic() < deadline, f"nobody listens:\n{self._log.read_text(errors='replace')}"
                time.sleep(0.01)
            else:
                return

    def close(self) -> None:
        """SIGTERM, and SIGKILL for one that does not care."""
        self._process.terminate()
        try:
            self._process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
