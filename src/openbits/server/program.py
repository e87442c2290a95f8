"""`bits-server`: serves a folder over HTTP: uploads by the BITS protocol, downloads with ranges; and keeps its users.

    bits-server --root /srv/files --listen 127.0.0.1:8008
    bits-server --config /etc/bits-server/bits-server.toml
    bits-server user add NAME --users FILE

docs/server.md has everything. Needs the extra `server`.
"""

import argparse
import asyncio
import getpass
import importlib.util
import logging
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from openbits.server import users
from openbits.server.model import Directory
from openbits.server.settings import Settings, default_spool
from openbits.server.settings_file import SettingsError, address, check_private, load
from openbits.version import VERSION

_EXTRA: Final = ("uvicorn", "h11", "prometheus_client")
_QUICK_QUOTA_BYTES: Final = 16 * 1024**3
"""What everybody together may have in the spool with --allow-anonymous-uploads."""
_MISUSED: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the status to exit with."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if words[:1] == ["user"]:
            return _user(_user_parser().parse_args(words[1:]))
        return _serve(_parser().parse_args(words))
    except (SettingsError, users.UsersError) as error:
        sys.stderr.write(f"bits-server: {error}\n")
        return _MISUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bits-server",
        description="Serve a folder: BITS uploads, downloads with ranges. `bits-server user --help`: its users.",
    )
    parser.add_argument("--version", action="version", version=f"openbits {VERSION}")
    parser.add_argument("--root", type=Path, metavar="DIR", help="the folder to serve")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where to accept connections (127.0.0.1:8008)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the settings; without it --root is needed")
    parser.add_argument("--users", type=Path, metavar="FILE", help="these users may upload (bits-server user add)")
    parser.add_argument("--plain-passwords", action="store_true", help="accept passwords without TLS")
    parser.add_argument(
        "--allow-anonymous-uploads", action="store_true", help="everybody may upload; only on a loopback address"
    )
    parser.add_argument("--as-root", action="store_true", help="do run as root")
    return parser


def _user_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bits-server user", description="Users who may use the server.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    add = verbs.add_parser("add", help="add a user, or change one; asks for the password, or reads it from stdin")
    add.add_argument("--group", action="append", default=[], metavar="NAME", help="a group of the user; repeatable")
    add.add_argument(
        "--certificate", action="append", default=[], metavar="SHA256", help="of a client certificate; repeatable"
    )
    add.add_argument("--no-password", action="store_true", help="certificates only")
    remove = verbs.add_parser("remove", help="remove a user")
    for verb in (add, remove):
        verb.add_argument("name", metavar="NAME")
    for verb in (add, remove, verbs.add_parser("list", help="names and groups")):
        verb.add_argument("--users", type=Path, required=True, metavar="FILE", help="the file of the users")
    return parser


def _user(options: argparse.Namespace) -> int:
    if options.verb == "list":
        for entry in users.read(options.users):
            sys.stdout.write(" ".join([entry.name, *sorted(entry.groups)]) + "\n")
        return 0
    if options.verb == "remove":
        users.remove(options.users, options.name)
        return 0
    password = "" if options.no_password else users.hashed(_password(options.name))
    fingerprints = frozenset(text.replace(":", "").lower() for text in options.certificate)
    groups = frozenset(options.group)
    users.add(
        options.users, users.Entry(name=options.name, password=password, groups=groups, certificates=fingerprints)
    )
    return 0


def _password(name: str) -> str:
    """Typed twice at a terminal, else the first line of the standard input; never an argument."""
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = getpass.getpass(f"password of {name}: ")
        if getpass.getpass("again: ") != password:
            raise users.UsersError("cannot set the password: the two were not the same")
    if not password:
        raise users.UsersError(f"cannot set an empty password for {name}; --no-password: certificates only")
    return password


def _settings(options: argparse.Namespace) -> Settings:
    """What file and command line say. Raises SettingsError."""
    changes: dict[str, Any] = {}
    if options.root is not None:
        changes["root"] = options.root.resolve()
    if options.listen is not None:
        try:
            changes["listen"] = address(options.listen)
        except ValueError:
            raise SettingsError(f"--listen {options.listen}: must be HOST:PORT, such as 127.0.0.1:8008") from None
    if options.users is not None:
        changes["users_file"] = str(options.users.resolve())
    for name in ("plain_passwords", "as_root"):
        if getattr(options, name):
            changes[name] = True
    if options.config is not None:
        if options.allow_anonymous_uploads:
            raise SettingsError("--allow-anonymous-uploads is for a server without --config; there: allow_anonymous")
        return load(options.config, changes)
    return _quick(options, changes)


def _quick(options: argparse.Namespace, changes: dict[str, Any]) -> Settings:
    """Without a file: everybody may read, users may upload; everybody may upload only if that was said."""
    if "root" not in changes:
        raise SettingsError("nothing to serve: name a folder with --root DIR, or the settings with --config FILE")
    directory = Directory(
        url_path="/",
        upload_enabled=options.allow_anonymous_uploads or options.users is not None,
        allow_anonymous=options.allow_anonymous_uploads,
        allow_anonymous_reading=True,
        quota_bytes=_QUICK_QUOTA_BYTES if options.allow_anonymous_uploads else 0,
    )
    changes |= {"spool": default_spool(changes["root"]), "is_local": options.allow_anonymous_uploads}
    settings = Settings(directories=(directory,), **changes)
    if options.allow_anonymous_uploads and not settings.listen.is_loopback:
        raise SettingsError(
            f"--allow-anonymous-uploads would let everybody who reaches {settings.listen} fill the disk;"
            " listen on 127.0.0.1, or give people --users, or allow it in a file (--config, docs/server.md)"
        )
    check_private(settings)
    return settings


def _check(settings: Settings) -> None:
    """What no file can be right or wrong about alone. Raises SettingsError."""
    if os.geteuid() == 0 and not settings.as_root:
        raise SettingsError(
            "it should not run as root: start it as the account that owns the files, or say --as-root (server.as_root)"
        )
    if not settings.root.is_dir():
        raise SettingsError(f"cannot serve {settings.root}: it is no folder; make it, or name another root")
    if settings.users_file:
        users.Users(settings.users_file).refresh()


def _serve(options: argparse.Namespace) -> int:
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        words = f"not installed: {', '.join(missing)}; install OpenBITS with its extra: pip install '.[server]'"
        raise SettingsError(words)
    from openbits.server.serving import Service  # noqa: PLC0415 -- not before what it imports is known to be there

    settings = _settings(options)
    _check(settings)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s", level=settings.log_level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a session needs two: connection and file
    service = Service(settings, lambda: _settings(options))
    return asyncio.run(service.run())


if __name__ == "__main__":
    sys.exit(main())
