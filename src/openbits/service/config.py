"""Settings of the service: `*.toml` of the configuration folder, in name order, later files winning.

Unknown tables or keys and wrong types are errors that name file, key and rule: a typing mistake in a security setting
must not pass silently. Read once at start.
"""

import contextlib
import enum
import grp
import tomllib
from dataclasses import dataclass, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from openbits.core.access import Settings as AccessSettings
from openbits.core.proxies import BadProxiesError
from openbits.core.proxies import Settings as ProxySettings
from openbits.core.proxy_files import Table
from openbits.core.sessions import LogonRequired
from openbits.core.system import SYSTEM_CA_FILES

PRIVILEGED_GROUPS = ("root", "sudo", "wheel", "admin", "disk", "shadow", "kmem", "docker", "lxd", "libvirt")


PERSONAL = frozenset({"proxy.toml", "credentials.toml"})
"""What a broker reads for the jobs of a user, of any service, in the folder where a service of his own has settings."""


class ConfigError(Exception):
    """A configuration file cannot be used; the text names file, key and rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """`[tls]`: `ca_file` replaces the system's trusted certificates (PEM)."""

    ca_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """`[clocks]`: connect, first byte, and the floor: at least `floor_bytes` in `floor_seconds`; then those of uploads.

    `send_seconds`: silence of a server that is sent a fragment. `answer_seconds`: for the answer to it;
    `application_seconds`: to the last one, where an application has to make a reply (upload-protocol.md §7.3, D29).
    """

    connect_seconds: int = 30
    first_byte_seconds: int = 60
    floor_bytes: int = 1024
    floor_seconds: int = 60
    send_seconds: int = 120
    answer_seconds: int = 300
    application_seconds: int = 960


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """`[http]`: whether servers have to have what BITS documents, and networks that no job connects to."""

    strict: bool = False
    """True: no size, no ranges, HEAD refused are errors (jobs.md §9.1), as on Windows."""
    denied_networks: tuple[str, ...] = ("169.254.0.0/16", "fe80::/10")
    """Link-local addresses: machines in clouds give away their secrets there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRules:
    """`[identity]`: groups whose members administrate the service, and groups that no helper token may have."""

    administrators: tuple[str, ...] = ()
    privileged_groups: tuple[str, ...] = PRIVILEGED_GROUPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """`[sessions]`: whether jobs wait for their owner to log on, and how the service knows who is logged on."""

    logon_required: LogonRequired = LogonRequired.NEVER
    assume_logged_on: tuple[str, ...] = ()
    """Accounts that are always logged on and never log off, beside those of the system; `*`: everybody."""
    bus_address: str = "unix:path=/run/dbus/system_bus_socket"
    """Where logind is; empty: not asked."""
    scan_seconds: int = 10
    """How often processes are looked at where there is no logind."""


class LogLevel(enum.StrEnum):
    """How much the manager says."""

    WARNING = "warning"
    INFO = "info"
    DEBUG = "debug"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """`[log]`: what goes to stderr, so to the journal or `bitsd.log`. No level shows secrets."""

    level: LogLevel = LogLevel.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings."""

    tls: Tls = Tls()
    clocks: Clocks = Clocks()
    http: Http = Http()
    identity: IdentityRules = IdentityRules()
    sessions: Sessions = Sessions()
    log: Log = Log()
    proxy: Table = Table()

    def access_settings(self) -> AccessSettings:
        """The identity rules with group names resolved; a name without a group is left out."""
        administrators = _group_ids(self.identity.administrators)
        privileged = administrators | _group_ids(self.identity.privileged_groups)
        return AccessSettings(
            administrators=frozenset(administrators), privileged_groups=frozenset(privileged), group_names=privileged
        )

    def proxy_settings(self) -> ProxySettings | None:
        """What `[proxy]` means; None: nothing. Raises BadProxiesError."""
        return self.proxy.settings("the settings of the service")

    def ca_file(self) -> str | None:
        """The file with the trusted certificates: the setting, else the first that the system has."""
        if self.tls.ca_file:
            return self.tls.ca_file
        return next((path for path in SYSTEM_CA_FILES if Path(path).is_file()), None)


def load(folder: Path, *, is_users_own: bool = False) -> Config:
    """Read the configuration folder; a folder that does not exist gives the defaults. Raises ConfigError.

    `is_users_own`: it is the folder of a user, who keeps files there that are no settings of a service (PERSONAL).
    """
    merged: dict[str, dict[str, Any]] = {}
    passed_over = PERSONAL if is_users_own else frozenset[str]()
    for path in sorted(path for path in folder.glob("*.toml") if path.name not in passed_over):
        try:
            document = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from error
        for name, table in document.items():
            _check(path, name, table)
            merged.setdefault(name, {}).update(table)
    values = {name: _SECTIONS[name](**_typed(name, table)) for name, table in merged.items()}
    config = Config(**values)
    try:
        config.proxy_settings()
    except BadProxiesError as error:
        raise ConfigError(f"{folder}: {error}") from error
    return config


_SECTIONS: dict[str, Any] = {
    "tls": Tls,
    "clocks": Clocks,
    "http": Http,
    "identity": IdentityRules,
    "sessions": Sessions,
    "log": Log,
    "proxy": Table,
}


_KINDS = {
    tuple: "a list of texts",
    bool: "true or false",
    int: "a whole number above 0",
    str: "a text",
}


def _check(path: Path, name: str, table: object) -> None:
    section = _SECTIONS.get(name)
    if section is None or not isinstance(table, dict):
        raise ConfigError(f"{path}: unknown table [{name}]; known: {', '.join(sorted(_SECTIONS))}")
    defaults = {field.name: field.default for field in fields(section)}
    for key, value in table.items():
        if key not in defaults:
            raise ConfigError(f"{path}: unknown key {name}.{key}; known: {', '.join(sorted(defaults))}")
        rule = _broken_rule(defaults[key], value)
        if rule:
            raise ConfigError(f"{path}: {name}.{key} must be {rule}")
        if key == "denied_networks":
            _check_networks(path, value)


def _broken_rule(default: object, value: object) -> str:
    """What a value of the kind of the default has to be; empty if it is."""
    if isinstance(default, enum.StrEnum):
        known = list(type(default))
        return "" if value in known else f"one of {', '.join(known)}"
    if isinstance(default, tuple):
        is_right = isinstance(value, list) and all(isinstance(item, str) for item in value)
    elif isinstance(default, bool):
        is_right = isinstance(value, bool)
    elif isinstance(default, int):
        is_right = isinstance(value, int) and not isinstance(value, bool) and value > 0
    else:
        is_right = isinstance(value, str)
    return "" if is_right else _KINDS[type(default)]


def _check_networks(path: Path, networks: list[str]) -> None:
    for text in networks:
        try:
            ip_network(text)
        except ValueError as error:
            raise ConfigError(f"{path}: http.denied_networks: {error}") from error


def _typed(name: str, table: dict[str, Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = {field.name: field.default for field in fields(_SECTIONS[name])}
    return {key: type(defaults[key])(value) for key, value in table.items()}


def _group_ids(names: tuple[str, ...]) -> dict[int, str]:
    """Names by gid, of those groups that exist."""
    found = {}
    for name in names:
        with contextlib.suppress(KeyError):
            found[grp.getgrnam(name).gr_gid] = name
    return found
