"""Who may use the server: a file of names, password hashes, groups and certificates, and the check of a password.

A line is `name:password:groups:certificates`; groups and certificates (SHA-256 in hex) are separated by commas, a
password is what `hashed` returns or empty for none. A line that begins with # says nothing. The file is read again when
it has changed. Passwords are in no log, exception or repr.
"""

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from openbits.server.model import User

_COST: Final = 2**14
_BLOCK: Final = 8
_MEMORY_BYTES: Final = 64 * 1024 * 1024
_CHECKS_AT_ONCE: Final = 2
"""So many password checks, of 16 MiB and tens of milliseconds each, run beside the transfers; one of each client, so
that whoever guesses does not keep all others waiting."""
_REMEMBERED: Final = 1024
"""So many names with the right password are known without another check, until their lines change."""
_NAME = re.compile(r"[A-Za-z0-9@._+\\-]{1,64}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class UsersError(Exception):
    """The file of users cannot be used; the text names file, line and rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the file."""

    name: str
    password: str = field(default="", repr=False)
    groups: frozenset[str] = frozenset()
    certificates: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """As it stands in the file."""
        return f"{self.name}:{self.password}:{','.join(sorted(self.groups))}:{','.join(sorted(self.certificates))}"


def hashed(password: str) -> str:
    """`scrypt$cost$salt$hash`; takes some tens of milliseconds."""
    salt = secrets.token_bytes(16)
    return f"scrypt${_COST}${_text(salt)}${_text(_scrypt(password, _COST, salt))}"


def is_right(password: str, known: str) -> bool:
    """True if it is the password of `hashed`; takes as long for nobody's hash."""
    kind, cost, salt, wanted = (known or _NOBODY).split("$")
    found = _scrypt(password, int(cost), base64.b64decode(salt))
    return hmac.compare_digest(found, base64.b64decode(wanted)) and bool(known) and kind == "scrypt"


def _scrypt(password: str, cost: int, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=_BLOCK, p=1, maxmem=_MEMORY_BYTES, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


_NOBODY: Final = f"scrypt${_COST}${_text(bytes(16))}${_text(bytes(32))}"
"""No password has this hash."""


class Users:
    """The users of a file, and whose password was right; an empty path: there is none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._version: tuple[int, int, int] | None = None
        self._by_name: dict[str, Entry] = {}
        self._by_certificate: dict[str, Entry] = {}
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, str] = OrderedDict()
        self._checks = asyncio.Semaphore(_CHECKS_AT_ONCE)
        self._turns = WeakValueDictionary[str, asyncio.Lock]()
        """Of clients who wait for a check."""

    def refresh(self) -> None:
        """Read the file if it has changed. Raises UsersError, and knows whom it knew."""
        if not self._path:
            return
        try:
            status = os.stat(self._path)  # noqa: PTH116 -- each request; a Path takes five times as long
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError)
            step = "`bits-server user add` makes one" if is_missing else "let the user of the server read it"
            raise UsersError(f"cannot read {self._path}: {error.strerror}; {step}") from error
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        if version != self._version:
            entries = read(Path(self._path))
            self._by_name = {one.name: one for one in entries}
            self._by_certificate = {fingerprint: one for one in entries for fingerprint in one.certificates}
            self._version = version

    async def with_password(self, name: str, password: str, client: str) -> User | None:
        """The user, if the password is right; a right one is checked once and then known by its HMAC.

        `client`: the address that asks.
        """
        entry = self._by_name.get(name)
        proof = hmac.digest(self._key, f"{name}\0{password}".encode(), "sha256")
        if entry is not None and self._remembered.get(proof) == entry.password:
            self._remembered.move_to_end(proof)
            return _user(entry)
        known = "" if entry is None else entry.password
        async with self._turns.setdefault(client, asyncio.Lock()), self._checks:
            if not await asyncio.to_thread(is_right, password, known):
                return None
        self._remembered[proof] = known
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return None if entry is None else _user(entry)

    def with_certificate(self, fingerprint: str, common_name: str) -> User | None:
        """The user whose line has the certificate, else the one whom its common name names, if that is a name."""
        entry = self._by_certificate.get(fingerprint)
        if entry is None and _NAME.fullmatch(common_name):
            entry = self._by_name.get(common_name, Entry(name=common_name))
        return None if entry is None else _user(entry, fingerprint)


def _user(entry: Entry, fingerprint: str = "") -> User:
    return User(name=entry.name, groups=entry.groups, fingerprint=fingerprint)


def read(path: Path) -> list[Entry]:
    """All lines. Raises UsersError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UsersError(f"cannot read {path}: {error}") from None
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        entry = _entry(line)
        if entry is None:
            raise UsersError(f"{path}, line {number}: must be name:password:groups:certificates; see docs/server.md")
        if entry.name in entries:
            raise UsersError(f"{path}, line {number}: {entry.name} has a line already")
        entries[entry.name] = entry
    return list(entries.values())


def _entry(line: str) -> Entry | None:
    parts = line.strip().split(":")
    if len(parts) != 4 or not _NAME.fullmatch(parts[0]):
        return None
    groups, certificates = (frozenset(filter(None, part.split(","))) for part in parts[2:])
    if not all(map(_FINGERPRINT.fullmatch, certificates)) or not (parts[1] == "" or _is_hash(parts[1])):
        return None
    return Entry(name=parts[0], password=parts[1], groups=groups, certificates=certificates)


def _is_hash(text: str) -> bool:
    parts = text.split("$")
    if len(parts) != 4 or parts[0] != "scrypt" or parts[1] not in {str(2**power) for power in range(14, 16)}:
        return False
    try:
        salt, wanted = (base64.b64decode(part, validate=True) for part in parts[2:])
    except ValueError:
        return False
    return len(salt) == 16 and len(wanted) == 32


def add(path: Path, entry: Entry, *, keeps_password: bool = False) -> None:
    """Add the user, or replace its line; `keeps_password`: the one it has stays. Raises UsersError."""
    if _entry(str(entry)) is None:
        rules = (
            "a name has letters, digits and @._+-, at most 64; a group no colon; a certificate is its SHA-256 in hex"
        )
        raise UsersError(f"cannot add {entry.name!r}: {rules}")

    def change(entries: list[Entry]) -> Iterable[Entry]:
        old = next((one for one in entries if one.name == entry.name), None)
        kept = replace(entry, password=old.password) if keeps_password and old else entry
        return [*(one for one in entries if one.name != entry.name), kept]

    _change(path, change)


def remove(path: Path, name: str) -> None:
    """Remove the user. Raises UsersError."""

    def change(entries: list[Entry]) -> Iterable[Entry]:
        if all(one.name != name for one in entries):
            raise UsersError(f"cannot remove {name}: {path} has no such user")
        return (one for one in entries if one.name != name)

    _change(path, change)


def _change(path: Path, change: Callable[[list[Entry]], Iterable[Entry]]) -> None:
    """Write the file anew beside itself, so that a server reads the old one or the new one and nothing between."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with _locked(path):
            lines = [str(entry) for entry in change(read(path) if path.exists() else [])]
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                if path.exists():  # the server goes on being able to read it
                    status = path.stat()
                    os.fchown(descriptor, status.st_uid, status.st_gid)
                    os.fchmod(descriptor, status.st_mode & 0o777)
                file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise UsersError(f"cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One change at a time, by whichever process; the folder is what does not change its inode."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
