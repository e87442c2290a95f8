"""A real SOCKS5 server of our own (microsocks) on a free loopback port, open or with one user."""

from pathlib import Path

from tests.real.processes import Daemon, free_port, program


class Socks:
    """A running SOCKS5 server; with `user` it takes nobody else. It resolves names itself."""

    def __init__(self, folder: Path, *, user: str = "", password: str = "") -> None:
        self.port = free_port()
        self.name = f"127.0.0.1:{self.port}"
        self._log = folder / f"socks{self.port}.log"
        login = ["-u", user, "-P", password] if user else []
        command = [program("microsocks"), "-i", "127.0.0.1", "-p", str(self.port), *login]
        self._daemon = Daemon(command, [self.port], self._log)

    def targets(self) -> list[str]:
        """`host:port` of each connection that it made, in order."""
        lines = self._log.read_text().splitlines()
        return [line.rpartition("connected to ")[2] for line in lines if "connected to " in line]

    def close(self) -> None:
        """End it."""
        self._daemon.close()
