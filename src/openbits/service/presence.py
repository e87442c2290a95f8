"""Layer 4 of who is logged on, where there is no logind: who has a process (identity.md §10).

A uid is there while a process of it runs that is not one of our children, and while it is connected. It has gone when
two scans in a row have found neither.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NoReturn

from openbits.core.sessions import Picture

PROCESSES = Path("/proc")


class Presence:
    """Gives a picture after each scan, as long as `run` runs and somebody wants to know."""

    def __init__(
        self,
        zygote_pid: int,
        scan_seconds: float,
        *,
        connected: Callable[[], AbstractSet[int]],
        is_wanted: Callable[[], bool],
        on_picture: Callable[[Picture], None],
    ) -> None:
        self._zygote_pid = zygote_pid
        self._scan_seconds = scan_seconds
        self._connected = connected
        self._is_wanted = is_wanted
        self._on_picture = on_picture
        self._before: AbstractSet[int] = frozenset()
        self._found: AbstractSet[int] = frozenset()
        """What the last two scans found."""
        self._came: set[int] = set()
        """Who has connected since the last scan began."""

    async def run(self) -> NoReturn:
        """Scan again and again."""
        while True:
            await asyncio.sleep(self._scan_seconds)
            if self._is_wanted():
                await self.scan()

    async def scan(self) -> None:
        """Look at all processes, in a thread: the loop does not wait for /proc."""
        came, self._came = self._came, set()
        running = await asyncio.to_thread(running_uids, self._zygote_pid)
        self._before, self._found = self._found, running | self._connected() | came | self._came
        self._tell()

    def greet(self, uid: int) -> None:
        """A connection proves presence; without it a short visit between two scans would be seen by nobody."""
        self._came.add(uid)
        if uid not in self._found:
            self._found |= {uid}
            self._tell()

    def _tell(self) -> None:
        self._on_picture(Picture(present=frozenset(self._before | self._found)))


def running_uids(zygote_pid: int) -> set[int]:
    """Real uid of every process but zombies and those below the zygote, who act for somebody who may be gone."""
    uids, parents = dict[int, int](), dict[int, int]()
    for folder in PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError, KeyError):  # it has ended
            fields = dict(_fields((folder / "status").read_text(errors="replace")))
            if fields["State"] not in {"Z", "X"}:
                pid = int(folder.name)
                uids[pid], parents[pid] = int(fields["Uid"]), int(fields["PPid"])
    below, found = set[int](), {zygote_pid}
    while found := {pid for pid, parent in parents.items() if parent in found} - below:
        below |= found
    return {uid for pid, uid in uids.items() if pid not in below}


def _fields(status: str) -> Iterator[tuple[str, str]]:
    """Name and first word of each line."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        yield name, value.split(maxsplit=1)[0] if value.strip() else ""


def are_processes_visible() -> bool:
    """False where /proc hides those of others (hidepid): then nothing follows from not seeing somebody."""
    try:
        (PROCESSES / "1" / "status").read_text(errors="replace")
    except OSError:
        return False
    return True
