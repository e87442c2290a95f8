"""The ends of the files of an attempt, counted together a moment after they came, so that one commit serves many.

An end waits for others only while other files move; what is told during a commit is in the next one.
"""

import asyncio
from collections.abc import Callable

from openbits.core import events
from openbits.service.engine import Engine
from openbits.service.record import Record

COUNT_SECONDS = 0.01
"""So long the end of a file waits for those of others, while other files move: one commit serves them all."""


class FileEnds:
    """Of one attempt. `is_idle`: whether no other file moves; `on_counted`: called when the job has counted some."""

    def __init__(
        self, engine: Engine, record: Record, epoch: int, *, is_idle: Callable[[], bool], on_counted: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._record = record
        self._epoch = epoch
        self._is_idle = is_idle
        self._on_counted = on_counted
        self._waiting: list[events.TransferredFile] = []
        """Files at their end that the job does not count yet."""
        self._timer: asyncio.TimerHandle | None = None
        """When they are counted."""
        self._is_committing = False
        """The ends counted last are on their way to the store."""
        self.total = 0
        """How many there were in this attempt."""

    @property
    def are_waiting(self) -> bool:
        """Some are not counted yet."""
        return bool(self._waiting)

    def add(self, whole: events.TransferredFile) -> None:
        """The file is transferred. The job counts it with others, a moment later, but at once if nothing else moves."""
        self._waiting.append(whole)
        self.total += 1
        self._count_soon()

    def count(self) -> None:
        """Have the job count what waits, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        whole, self._waiting = tuple(self._waiting), []
        if not whole:
            return
        self._is_committing = True
        committed = self._engine.apply(self._record, events.FilesTransferred(epoch=self._epoch, files=whole))
        for one in whole:
            self._record.live.pop(one.file_index, None)
        self._on_counted()
        committed.add_done_callback(lambda _: self._counted())

    def _count_soon(self) -> None:
        if self._is_committing:
            return  # and looks again afterwards
        is_idle = self._is_idle()
        if self._timer is not None and is_idle:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(0.0 if is_idle else COUNT_SECONDS, self.count)

    def _counted(self) -> None:
        self._is_committing = False
        if self._waiting:
            self._count_soon()
