"""Having files on the disk, on helper threads, since that may take seconds and the loop serves other transfers.

Every sync costs the disk a flush, and each new file a commit of the file system's journal. So files that wait together
are brought to the disk by one sync of their file system where that is cheaper than one of each: what both cost is
measured as they happen, since it depends on the disk and on what everybody else has written there.
"""

import functools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from openbits.failpoints import failpoint
from openbits.transfer import filesystems
from openbits.transfer.loop import Loop, Timer

THREADS: Final = 4
"""Most syncs at a time: one slow disk does not hold up files on others."""

MOST_AT_ONCE: Final = 1
"""Syncs at a time of a file system that can be synced as one: who comes meanwhile waits for the next."""

MOST_TOGETHER: Final = 256

GATHER_SECONDS: Final = 0.01
"""From the beginning of a sync of such a file system to the next one, so that more files come along with that."""

Done = Callable[[OSError | None], None]


class Syncer(Protocol):
    """Runs syncs elsewhere and reports back in the loop's thread."""

    def submit(self, descriptor: int, done: Done) -> None:
        """Have the descriptor's data on the disk, then call `done`."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that is to be synced."""

    descriptor: int
    done: Done


class Costs:
    """What syncs of one file system have cost lately, in seconds; 0 if there was none."""

    WEIGHT: Final = 0.3
    RETRY_SECONDS: Final = 30.0

    def __init__(self) -> None:
        self.one = 0.0
        self.all = 0.0
        self._all_at = 0.0

    def together(self, waiting: int, now: float) -> bool:
        """True if so many files are better synced with the whole file system. What was costly is tried again later."""
        if waiting < 2:
            return False
        return now - self._all_at > self.RETRY_SECONDS or self.all < self.one * waiting

    def one_took(self, seconds: float) -> None:
        """Add a measurement."""
        self.one = self._mixed(self.one, seconds)

    def all_took(self, seconds: float, now: float) -> None:
        """Add a measurement; a sudden rise counts at once, as others wait behind it."""
        self.all = max(seconds, self._mixed(self.all, seconds))
        self._all_at = now

    def _mixed(self, before: float, seconds: float) -> float:
        return seconds if before == 0.0 else before + self.WEIGHT * (seconds - before)


class Disk:
    """What is to be done for one file system."""

    def __init__(self, costs: Costs | None) -> None:
        self.costs = costs
        """None: files are synced one by one."""
        self.waiting: deque[Waiting] = deque()
        self.syncs = 0
        """Under way."""
        self.rests_until = 0.0
        self.rest: Timer | None = None

    @property
    def is_ready(self) -> bool:
        """True if one more sync may begin; else the next one takes what waits now."""
        return bool(self.waiting) and (self.costs is None or (self.syncs < MOST_AT_ONCE and self.rest is None))

    def take(self, now: float) -> list[Waiting]:
        """The one that has waited longest, and the others if they are better synced along with it."""
        count = min(len(self.waiting), MOST_TOGETHER)
        if self.costs is None or not self.costs.together(count, now):
            count = 1
        taken = [self.waiting.popleft() for _ in range(count)]
        if not self.waiting and self.costs is not None:
            self.rests_until = now + GATHER_SECONDS
        return taken


class ThreadSyncer:
    """Daemon threads, started when needed, that do nothing but sync; what they do next the loop's thread decides."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._disks: dict[int, Disk] = {}
        self._work: queue.SimpleQueue[tuple[Disk, list[Waiting]]] = queue.SimpleQueue()
        self._threads = 0
        self._syncs = 0
        """Under way, or waiting for a thread."""

    def submit(self, descriptor: int, done: Done) -> None:
        """See Syncer."""
        device = os.fstat(descriptor).st_dev
        disk = self._disks.get(device)
        if disk is None:
            disk = self._disks[device] = Disk(Costs() if filesystems.is_synced_as_one(descriptor) else None)
        disk.waiting.append(Waiting(descriptor, done))
        self._go_on(disk)

    def _go_on(self, disk: Disk) -> None:
        while disk.is_ready:
            now = self._loop.now()
            if now < disk.rests_until:
                disk.rest = self._loop.call_at(disk.rests_until, functools.partial(self._rested, disk))
            else:
                self._begin(disk, now)

    def _rested(self, disk: Disk) -> None:
        disk.rest, disk.rests_until = None, 0.0
        self._go_on(disk)

    def _begin(self, disk: Disk, now: float) -> None:
        disk.syncs += 1
        self._syncs += 1
        if self._syncs > self._threads < THREADS:
            self._threads += 1
            threading.Thread(target=self._serve, name=f"sync-{self._threads}", daemon=True).start()
        self._work.put((disk, disk.take(now)))

    def _serve(self) -> None:
        while True:
            disk, batch = self._work.get()
            failpoint("sink.syncing")
            errors = _sync(batch, disk.costs)
            failpoint("sink.synced")
            self._loop.post(functools.partial(self._finish, disk, batch, errors))

    def _finish(self, disk: Disk, batch: list[Waiting], errors: list[OSError | None]) -> None:
        disk.syncs -= 1
        self._syncs -= 1
        for waiting, error in zip(batch, errors, strict=True):
            waiting.done(error)
        self._go_on(disk)


def _sync(batch: list[Waiting], costs: Costs | None) -> list[OSError | None]:
    """Sync them, together if there are several; what the file system cannot say of all is asked of each."""
    if len(batch) > 1 and costs is not None:
        began = time.monotonic()
        try:
            filesystems.sync_all(batch[0].descriptor)
        except OSError:  # perhaps of somebody else's file
            pass
        else:
            costs.all_took(time.monotonic() - began, began)
            return [_loss(waiting.descriptor) for waiting in batch]
    return [_sync_one(waiting.descriptor, costs) for waiting in batch]


def _loss(descriptor: int) -> OSError | None:
    """What of this file did not reach the disk, although its file system is synced."""
    try:
        filesystems.check_written(descriptor)
    except OSError as error:
        return error
    return None


def _sync_one(descriptor: int, costs: Costs | None) -> OSError | None:
    began = time.monotonic()
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        return error
    if costs is not None:
        costs.one_took(time.monotonic() - began)
    return None
