"""Reads the settings of the server: one TOML file, checked as a whole before anything is served.

Unknown tables or keys and wrong types are errors that name file, key and rule: a typing mistake in a security setting
must not pass silently. Read at the start and again on SIGHUP.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from openbits.server import paths
from openbits.server.model import Directory
from openbits.server.properties import BY_NAME, FLAG, NAMES, TEXT, Kind, broken_rule, number
from openbits.server.settings import Address, Limits, Settings, Tls, default_spool


class SettingsError(Exception):
    """The settings cannot be used; the text names file, key and rule."""


def address(value: object) -> Address:
    """`HOST:PORT`, `[IPV6]:PORT`; raises ValueError."""
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    bare = host.removeprefix("[").removesuffix("]")
    if not (colon and bare and port.isascii() and port.isdigit() and int(port) < 65_536) or (":" in host) == (
        bare == host
    ):
        raise ValueError
    return Address(host=bare, port=int(port))


def _absolute(value: object) -> Path:
    if isinstance(value, str) and value.startswith("/"):
        return Path(value)
    raise ValueError


def _file(value: object) -> str:
    return str(_absolute(value))


def _level(value: object) -> str:
    if value in {"warning", "info", "debug"}:
        return str(value)
    raise ValueError


def _public_url(value: object) -> str:
    text = str(TEXT.read(value))
    parts = urlsplit(text)
    if text and (parts.scheme not in {"http", "https"} or not parts.hostname or set("?#@ ") & set(text)):
        raise ValueError
    return text.rstrip("/")


def _proxies(value: object) -> tuple[str, ...]:
    """Each by its address: what names no host, or any, would be believed by mistake."""
    return tuple(sorted(str(ip_address(name)) for name in NAMES.read(value)))


_FOLDER: Final = Kind("an absolute path", _absolute)
_FILE: Final = Kind("an absolute path", _file)
_ADDRESS: Final = Kind('a text like "127.0.0.1:8008" or "[::1]:8008"', address)
_SECONDS: Final = number(1, 86_400)

SERVER: Final[Mapping[str, Kind]] = {
    "root": _FOLDER,
    "spool": _FOLDER,
    "listen": _ADDRESS,
    "users_file": _FILE,
    "plain_passwords": FLAG,
    "public_url": Kind('a text like "https://files.example.net"', _public_url),
    "trusted_proxies": Kind('a list of addresses, such as ["127.0.0.1"]', _proxies),
    "metrics": _ADDRESS,
    "log_level": Kind("one of warning, info, debug", _level),
    "max_sessions_total": number(1, 10_000_000),
    "as_root": FLAG,
}
TLS: Final[Mapping[str, Kind]] = {
    "certificate": _FILE,
    "key": _FILE,
    "client_ca": _FILE,
    "client_required": FLAG,
    "common_names": FLAG,
}
LIMITS: Final[Mapping[str, Kind]] = {
    "connections": number(1, 1_000_000),
    "head_seconds": _SECONDS,
    "idle_seconds": _SECONDS,
    "body_bytes_per_second": number(0, 2**32),
    "body_window_seconds": _SECONDS,
    "body_grace_seconds": number(0, 86_400),
    "shutdown_seconds": _SECONDS,
}
TABLES: Final = ("server", "tls", "limits", "directories")


def check_private(settings: Settings, file: Path | None = None) -> None:
    """Refuse to serve what says who may do what, and unfinished uploads; `file`: of the settings. Raises SettingsError.

    Whoever may download it would have the hashes of all passwords, whoever may overwrite it would be anybody.
    """
    places = [("these settings", file), ("spool", settings.spool), ("users_file", settings.users_file)]
    tls = settings.tls
    places += [("tls.certificate", tls.certificate), ("tls.key", tls.key), ("tls.client_ca", tls.client_ca)]
    for one in settings.directories:
        places.append(("notification_secret_file", one.notification_secret_file))
        places.append(("notification_ca_file", one.notification_ca_file))
    root = settings.root.resolve()
    for name, path in [(name, Path(place).resolve()) for name, place in places if place]:
        if path.is_relative_to(root):
            served = settings.directory_of("/".join(["", *path.relative_to(root).parts, ""]))
            if served is not None:
                raise SettingsError(
                    f"{name}: {path} would be served, as a part of {served.url_path}; move it out of {settings.root}"
                )


def load(path: Path, changes: dict[str, Any]) -> Settings:
    """The settings of a file; `changes`: fields of Settings that the command line sets. Raises SettingsError."""
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; name a file that this user can read") from error
    except ValueError as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    source = _Source(path)
    source.check_names("the file", document, TABLES)
    values = source.table(document, "server", SERVER) | changes
    if "root" not in values:
        raise SettingsError(f"{path}: server.root is missing; name the folder to serve, there or with --root")
    tls = Tls(**source.table(document, "tls", TLS))
    source.check_tls(tls)
    given: dict[str, Any] = {
        "spool": default_spool(values["root"]),
        "tls": tls,
        "limits": Limits(**source.table(document, "limits", LIMITS)),
        "directories": source.directories(document.get("directories", {})),
    }
    settings = Settings(**(given | values))
    check_private(settings, path)
    return settings


@dataclass(frozen=True, slots=True)
class _Source:
    """The tables of one file."""

    path: Path

    def check_names(self, label: str, values: object, known: tuple[str, ...]) -> None:
        """Refuse what is no table, and keys that there are none of."""
        if not isinstance(values, dict):
            raise SettingsError(f"{self.path}: {label} must be a table")
        for name in values:
            if name not in known:
                raise SettingsError(f"{self.path}: unknown {name} in {label}; known: {', '.join(known)}")

    def table(self, document: dict[str, Any], name: str, kinds: Mapping[str, Kind]) -> dict[str, Any]:
        """A table with its values read."""
        values = document.get(name, {})
        self.check_names(f"[{name}]", values, tuple(kinds))
        return {key: self._read(f"{name}.{key}", kinds[key], value) for key, value in values.items()}

    def _read(self, key: str, kind: Kind, value: object) -> Any:
        try:
            return kind.read(value)
        except ValueError:
            raise SettingsError(f"{self.path}: {key} must be {kind.words}") from None

    def check_tls(self, tls: Tls) -> None:
        """Refuse what is only half of a setting."""
        if bool(tls.certificate) != bool(tls.key):
            raise SettingsError(f"{self.path}: tls.certificate and tls.key need each other")
        if tls.client_ca and not tls.certificate:
            raise SettingsError(f"{self.path}: tls.client_ca needs tls.certificate and tls.key")
        if (tls.client_required or tls.common_names) and not tls.client_ca:
            raise SettingsError(f"{self.path}: tls.client_required and tls.common_names need tls.client_ca")

    def directories(self, tables: object) -> tuple[Directory, ...]:
        """Every virtual directory. In the order of names parents come before their children, which inherit (§11)."""
        if not isinstance(tables, dict):
            raise SettingsError(f'{self.path}: [directories] must have tables, such as [directories."/inbox/"]')
        inherited: dict[str, dict[str, Any]] = {}
        found = []
        for url_path in sorted(tables):
            parent = max((path for path in inherited if url_path.startswith(path)), key=len, default="")
            fields = inherited.get(parent, {}) | self._properties(url_path, tables[url_path])
            found.append(Directory(url_path=url_path, **fields))
            inherited[url_path] = {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
            if rule := broken_rule(found[-1]):
                raise SettingsError(f'{self.path}: [directories."{url_path}"]: {rule}')
        return tuple(found)

    def _properties(self, url_path: str, values: object) -> dict[str, Any]:
        label = f'directories."{url_path}"'
        if not paths.is_directory_path(url_path):
            raise SettingsError(
                f"{self.path}: {label} must be a path that begins and ends with a slash, without escapes"
            )
        self.check_names(f"[{label}]", values, tuple(BY_NAME))
        assert isinstance(values, dict)  # noqa: S101 -- checked just above; this tells the type checker
        return {
            BY_NAME[name].field: self._read(f"{label}.{name}", BY_NAME[name].kind, value)
            for name, value in values.items()
        }


_OWN_FIELDS: Final = frozenset(one.field for one in BY_NAME.values() if not one.is_inherited)
