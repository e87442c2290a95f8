"""The board: memory that a campaign shares with every process of the service it tests.

It is mapped by the campaign and by the spawner before its first fork, so all programs have it, whatever they may open
by then. For each failpoint it counts how often it was passed, and has a fuse: at which further pass to die.
"""

import mmap
import os
import signal
import struct
from pathlib import Path

from tests.campaigns.points import POINTS

_CELL = struct.Struct("=III")  # passes, fuse (0: none), pid that died
_OFFSETS = {name: index * _CELL.size for index, name in enumerate(POINTS)}


class Board:
    """One file of cells, mapped; `Board.make` for the campaign, `Board(path)` for the service."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._cells = mmap.mmap(file.fileno(), len(POINTS) * _CELL.size)

    @classmethod
    def make(cls, path: Path) -> "Board":
        """An empty board in a new file."""
        path.write_bytes(bytes(len(POINTS) * _CELL.size))
        path.chmod(0o600)
        return cls(path)

    def passed(self, name: str) -> None:
        """In the service: count, and die here if the fuse has burned down."""
        at = _OFFSETS[name]
        passes, fuse, died = _CELL.unpack_from(self._cells, at)
        _CELL.pack_into(self._cells, at, passes + 1, max(0, fuse - 1), os.getpid() if fuse == 1 else died)
        if fuse == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def light(self, name: str, nth: int) -> None:
        """Have the process die that passes `name` for the nth time from now."""
        passes, _, _ = _CELL.unpack_from(self._cells, _OFFSETS[name])
        _CELL.pack_into(self._cells, _OFFSETS[name], passes, nth, 0)

    def put_out(self, name: str) -> int:
        """Take the fuse away; the pid that died of it, 0 if none did."""
        passes, _, died = _CELL.unpack_from(self._cells, _OFFSETS[name])
        _CELL.pack_into(self._cells, _OFFSETS[name], passes, 0, 0)
        return int(died)

    def died(self, name: str) -> int:
        """The pid that died there since the fuse was lit, 0 if none did."""
        return int(_CELL.unpack_from(self._cells, _OFFSETS[name])[2])

    def never_passed(self) -> list[str]:
        """The points that no process has passed yet."""
        return [name for name, at in _OFFSETS.items() if not _CELL.unpack_from(self._cells, at)[0]]
