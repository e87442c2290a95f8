"""Which ticket cache of Kerberos an identity has, and what is in it (identity.md §13).

A network worker opens no file of a user, and a cache is replaced whenever its user gets new tickets. So the broker of
the identity reads it for each order that may need it, and the worker gets a copy in memory. Caches that are no files
(KEYRING, KCM, …) the library opens by itself, under the uid of the worker. Standard library only.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from openbits.identity import snapshots
from openbits.identity.filecalls import Opener
from openbits.identity.path_errors import failing, failing_as, failure

CONFIGURATION = Path("/etc/krb5.conf")
CONFIGURATIONS = (CONFIGURATION, Path("/etc/krb5.conf.d"))
"""What a broker has to be able to read to know the name of the cache."""
MAX_BYTES = 1 << 20

_DEFAULT = "FILE:/tmp/krb5cc_%{uid}"
_MAX_DEPTH = 8
_ENTRY = re.compile(r"\s*default_ccache_name\s*=\s*\"?([^\s\"]+)")
_INCLUDED = re.compile(r"[A-Za-z0-9_-]+|[^.].*\.conf")


def name_of_cache(named: str, configuration: Path = CONFIGURATION) -> str:
    """Full name of the cache, `FILE:/tmp/krb5cc_1000`: of the token (`named`), else the library's default for this uid.

    The parameters of the default that are known here: uid, euid, USERID and TEMP.
    """
    name = named or next(_defaults(configuration, 0), _DEFAULT)
    uid = str(os.geteuid())
    for parameter, value in (("uid", uid), ("euid", uid), ("USERID", uid), ("TEMP", "/tmp")):  # noqa: S108  # the library's
        name = name.replace(f"%{{{parameter}}}", value)
    return f"FILE:{name}" if name.startswith("/") else name


def file_of(name: str) -> Path | None:
    """The file of a cache that is one."""
    kind, _, path = name.partition(":")
    return Path(path) if kind == "FILE" and path.startswith("/") else None


def is_own_file(status: os.stat_result) -> bool:
    """True of a regular file of this identity: nobody else has put it there."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def read(named: str, opener: Opener) -> tuple[str, int | None]:
    """Name of the cache, and a sealed copy of it if it is a file.

    Raises PathError with step `read`: ENOENT if there is no cache; EPERM for one that somebody else has put there.
    """
    name = name_of_cache(named)
    path = file_of(name)
    if path is None:
        return name, None
    subject = os.fsencode(path)
    with failing("read", subject), failing_as("read", subject, _whose(path)):
        descriptor = opener(subject, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not is_own_file(os.fstat(descriptor)):
            raise failure(errno.EPERM, "read", subject, _whose(path))
        with failing("read", subject):
            size, memory = snapshots.sealed_copy(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
    if memory is None:
        raise failure(errno.EFBIG, "read", subject, f"it has {size} bytes, at most {MAX_BYTES} are used; kinit anew")
    return name, memory


def _whose(path: Path) -> str:
    """Why a file of tickets that is there is not taken."""
    try:
        return f"it belongs to uid {path.lstat().st_uid}, or is no file; have it removed, then get tickets again"
    except OSError:
        return ""


def _defaults(path: Path, depth: int) -> Iterator[str]:
    """What the configuration and the files it includes say, in their order: the first one counts."""
    section = ""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if line.startswith("["):
            section = line.strip()
        elif word in {"include", "includedir"} and depth < _MAX_DEPTH:
            for included in _included(Path(rest.strip()), is_folder=word == "includedir"):
                yield from _defaults(included, depth + 1)
        elif section == "[libdefaults]" and (found := _ENTRY.match(line)):
            yield found[1]


def _included(path: Path, *, is_folder: bool) -> list[Path]:
    if not is_folder:
        return [path]
    try:
        return sorted(one for one in path.iterdir() if _INCLUDED.fullmatch(one.name))
    except OSError:
        return []
