"""Admitted owners: whose jobs may go on without a connection, and in which directories. One root-owned file per uid.

Written by the spawner alone, after it has seen the owner. Standard library only.
"""

import contextlib
import json
import os
import stat

from openbits.channel import Message

MAX_DIRECTORIES = 4096


class AdmittedOwners:
    """The folder `admitted/` (a descriptor); entries are `<uid>.json`."""

    def __init__(self, folder: int) -> None:
        self._folder = folder

    def open(self, uid: int) -> int | None:
        """Descriptor of the entry; None if there is none, or one that somebody else could have written."""
        try:
            entry = os.open(f"{uid}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._folder)
        except OSError:
            return None
        status = os.fstat(entry)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return entry
        os.close(entry)
        return None

    def add(self, uid: int, directories: list[Message]) -> None:
        """Add directories to the entry, making it if it is missing; on the disk when this returns."""
        entry, known = self.open(uid), []
        if entry is not None:
            with os.fdopen(entry) as file, contextlib.suppress(ValueError):
                known = json.load(file)
        new = [directory for directory in directories if directory not in known]
        if entry is not None and not new:
            return
        if len(known) + len(new) > MAX_DIRECTORIES:
            raise OSError(f"uid {uid} has jobs in {len(known)} directories already; complete or cancel some")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        temporary = os.open("new", flags, 0o600, dir_fd=self._folder)
        with os.fdopen(temporary, "w") as file:
            json.dump(known + new, file)
            file.flush()
            os.fsync(temporary)
        os.rename("new", f"{uid}.json", src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)

    def erase(self, uid: int) -> None:
        """Forget an owner; one who is not admitted is not an error."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{uid}.json", dir_fd=self._folder)
            os.fsync(self._folder)
