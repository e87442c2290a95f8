"""Settings of the server, as values; `settings_file` reads them, docs/server.md explains them. Pure."""

from dataclasses import dataclass
from pathlib import Path

from openbits.server.model import MAX_SESSIONS, Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where connections are accepted; port 0: the kernel chooses."""

    host: str = "127.0.0.1"
    port: int = 8008

    def __str__(self) -> str:
        """As it is written in settings and URLs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Only programs of this machine can connect."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """`[tls]`: PEM files; without a certificate the server speaks plain HTTP."""

    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    """Authorities of client certificates; empty: none are asked for."""
    client_required: bool = False
    """True: a connection without a client certificate is not accepted."""
    common_names: bool = False
    """True: the common name of a client certificate is the name of a user, without the users file naming it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`[limits]`: what one connection, and all of them, may take."""

    connections: int = 2000
    head_seconds: int = 30
    """From the first byte of a request, or the connection, to the end of its head."""
    idle_seconds: int = 120
    """How long a connection may wait for its next request."""
    body_bytes_per_second: int = 1024
    body_window_seconds: int = 60
    """A body must bring so many bytes a second on the average of such a time,"""
    body_grace_seconds: int = 30
    """but not before so long."""
    shutdown_seconds: int = 10
    """How long a request may go on after SIGTERM; what a fragment brought is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. `directories`: every virtual directory with the properties it inherits."""

    root: Path
    spool: Path
    listen: Address = Address()
    directories: tuple[Directory, ...] = ()
    users_file: str = ""
    plain_passwords: bool = False
    """True: passwords are accepted without TLS."""
    public_url: str = ""
    """What clients see instead of scheme and host of a request, as `https://files.example.net`."""
    trusted_proxies: tuple[str, ...] = ()
    """Whose X-Forwarded-Proto and X-Forwarded-For are believed."""
    metrics: Address | None = None
    log_level: str = "info"
    max_sessions_total: int = MAX_SESSIONS
    as_root: bool = False
    is_local: bool = False
    """True: whoever says no name is served at `localhost` and addresses alone. Any other name may be one that a web
    page has led here, whose visitors' browsers then ask on its behalf (DNS rebinding)."""
    tls: Tls = Tls()
    limits: Limits = Limits()

    def directory_of(self, path: str) -> Directory | None:
        """The directory with the longest prefix of the decoded path of a URL."""
        under = [one for one in self.directories if path.startswith(one.url_path)]
        return max(under, key=lambda one: len(one.url_path), default=None)


def default_spool(root: Path) -> Path:
    """Beside the served tree (D10): on its file system, unless the root is a mount point."""
    return root.parent / f".{root.name}.bits-spool"
