"""What people keep in their homes for this service, and a broker reads for them: settings and stored credentials.

A broker of an admitted owner, whom nobody vouches for now, reaches these places and those of its jobs (`places`).
"""

# ruff: noqa: PTH118, PTH208  # paths are bytes, which pathlib does not carry

import contextlib
import errno
import json
import os
import stat
from pathlib import Path

from openbits.identity import snapshots, tickets
from openbits.identity.filecalls import Opener
from openbits.identity.path_errors import PATH_BYTES, failing, failure

FOLDERS = (".config/openbits", ".config/environment.d")
"""Below the home."""
MAX_BYTES = 256 * 1024
MAX_FILES = 64

_OURS = "proxy"
"""In the lines of an environment file that are the service's business; the others may have anybody's secrets."""


Place = tuple[Path, tuple[int, int] | None]
"""A path, and device and inode that it must lead to where that matters."""


def places(home: str, settings: str) -> list[Place]:
    """What a confined broker may read besides the directories of its jobs, as far as it is there.

    `home` is empty for a uid without an account, `settings` the folder of the service's own.
    """
    found = [*tickets.CONFIGURATIONS, Path(settings) / "certs"]
    if home.startswith("/"):
        found += [Path(home) / folder for folder in FOLDERS]
    return [*((path, None) for path in found), *_cache()]


def _cache() -> list[Place]:
    """The file of tickets, if it is one and of this identity: where it is, usually /tmp, anybody could put a link."""
    path = tickets.file_of(tickets.name_of_cache(""))
    with contextlib.suppress(OSError):
        status = None if path is None else path.lstat()
        if path is not None and status is not None and tickets.is_own_file(status):
            return [(path, (status.st_dev, status.st_ino))]
    return []


def read(path: bytes, opener: Opener, *, is_secret: bool) -> int:
    """Descriptor of a sealed copy of a small file. One with secrets must be this identity's and nobody else's to read.

    Raises PathError with step `read`: ENOENT if there is none, EPERM if others may read the secret, EFBIG.
    """
    if len(path) > PATH_BYTES:
        raise failure(errno.ENAMETOOLONG, "read", path)
    with failing("read", path):
        descriptor = opener(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, follow=True)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise failure(errno.EINVAL, "read", path, "it is no file; put one there, or move it away")
        if is_secret and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
            found = f"it has secrets, but mode {stat.S_IMODE(status.st_mode):04o} and owner uid {status.st_uid}"
            raise failure(errno.EPERM, "read", path, f"{found}; it must be yours alone (chmod 600)")
        with failing("read", path):
            size, memory = snapshots.sealed_copy(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
    if memory is None:
        raise failure(errno.EFBIG, "read", path, f"it has {size} bytes, at most {MAX_BYTES} are read")
    return memory


def read_folder(path: bytes, suffix: bytes, opener: Opener) -> int:
    """Descriptor of a memory file with the small environment files of a folder, in order of names.

    It is a JSON list of path and text. Lines without the word proxy are empty in it: they stay where they are.
    Raises PathError with step `read`: ENOENT if there is no such folder, and as `read` for each of the files.
    """
    if len(path) > PATH_BYTES:
        raise failure(errno.ENAMETOOLONG, "read", path)
    with failing("read", path):
        folder = opener(path, os.O_RDONLY | os.O_DIRECTORY, follow=True)
        try:
            names = sorted(os.fsencode(name) for name in os.listdir(folder))
        finally:
            os.close(folder)
    found = []
    for name in [name for name in names if name.endswith(suffix)][:MAX_FILES]:
        file = os.path.join(path, name)
        with os.fdopen(read(file, opener, is_secret=False), "rb") as copy:
            lines = copy.read().decode(errors="replace").splitlines()
            found.append((os.fsdecode(file), "\n".join(line if _OURS in line.lower() else "" for line in lines)))
    memory = os.memfd_create("settings", os.MFD_CLOEXEC)
    with os.fdopen(memory, "wb", closefd=False) as content:
        content.write(json.dumps(found).encode())
    os.lseek(memory, 0, os.SEEK_SET)
    return memory
