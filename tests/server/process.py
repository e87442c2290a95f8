"""A real `bits-server` in a process of its own: started, killed, and started again on the same folders and port."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

START_SECONDS: Final = 20
PROGRAM: Final = (sys.executable, "-m", "openbits.server.program")


class ServerProcess:
    """`base` gets `root` with a folder `inbox`, the spool, the log and the settings. `directories`: TOML tables of
    virtual directories; `server`, `limits`: further lines of these tables.
    """

    def __init__(
        self, base: Path, directories: str, *, server: str = "", limits: str = "", program: tuple[str, ...] = PROGRAM
    ) -> None:
        self.base = base
        self.root = base / "root"
        self.inbox = self.root / "inbox"
        self.spool = base / "spool"
        self.log_path = base / "log"
        self.config = base / "bits-server.toml"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.inbox.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f'[server]\nroot = "{self.root}"\nspool = "{self.spool}"\nlisten = "127.0.0.1:{self.port}"\n'
            f"as_root = {'true' if os.geteuid() == 0 else 'false'}\n{server}\n[limits]\n{limits}\n{directories}\n"
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, "--config", str(self.config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                pytest.fail(f"bits-server does not start:\n{self.log()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait for the end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(START_SECONDS)

    def close(self) -> None:
        """End whatever still runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def rss_bytes(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    def log(self) -> str:
        """What it wrote."""
        return self.log_path.read_text(errors="replace")


def free_port() -> int:
    """One that nobody listens at now; the server gets the same one again after a restart."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
