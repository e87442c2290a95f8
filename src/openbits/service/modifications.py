"""JobModification and FileRangesTransferred: told at most once an interval, and merged in between (jobs.md §12.3 N7).

The first is told at once; what happens within MINIMUM_NOTIFICATION_INTERVAL_MS after it is told once, at its end.
Nobody answers these and nothing of them is stored: a subscriber that is not there, or too slow, hears less.
"""

from dataclasses import dataclass, field

from openbits.api.wire import EventInfo, RangeInfo
from openbits.core import notices, ranges
from openbits.core.enums import Notice
from openbits.core.model import JobId, Range
from openbits.service.deliveries import Timer
from openbits.service.engine import Engine
from openbits.service.events import Subscriber
from openbits.service.record import Record

BACKLOG = 100
"""While so many events wait for a subscriber it is too slow: nothing is added, only merged."""


@dataclass(slots=True, eq=False)
class Untold:
    """What happened to a job within the present interval."""

    is_modified: bool = False
    filled: dict[int, tuple[Range, ...]] = field(default_factory=dict)
    """By file."""


class Modifications:
    """The jobs whose interval runs, and what is told at its end."""

    def __init__(self, engine: Engine, timer: Timer) -> None:
        self._engine = engine
        self._timer = timer
        self._untold: dict[JobId, Untold] = {}

    def happened(self, record: Record) -> None:
        """Something about the job changed, and that is on the disk if it is stored at all."""
        if self._target(record, Notice.MODIFICATION) is not None:
            untold, is_first = self._note(record)
            untold.is_modified = True
            if is_first:
                self._tell(record)

    def ranges_filled(self, record: Record, file_index: int, filled: tuple[Range, ...]) -> None:
        """These parts of a file are here now."""
        if self._target(record, Notice.RANGES) is not None:
            untold, is_first = self._note(record)
            untold.filled[file_index] = ranges.joined((*untold.filled.get(file_index, ()), *filled))
            if is_first:
                self._tell(record)

    def _note(self, record: Record) -> tuple[Untold, bool]:
        """Where to note it, and whether no interval runs."""
        untold = self._untold.get(record.job_id)
        if untold is not None:
            return untold, False
        return self._untold.setdefault(record.job_id, Untold()), True

    def _target(self, record: Record, notice: Notice) -> Subscriber | None:
        """Whom to tell: the callback, unless it is that of another owner, who may not see the job any more."""
        target = self._engine.stream.find(record.subscriber_id)
        if target is None or not record.is_open_to_subscriber or not notices.is_wanted(record.job, notice):
            return None
        return target

    def _tell(self, record: Record) -> None:
        """Begin an interval with what is to be told."""
        untold = self._untold[record.job_id]
        target = self._target(record, Notice.MODIFICATION)
        if untold.is_modified and target is not None and target.queue.qsize() < BACKLOG:
            target.put(self._event(record, Notice.MODIFICATION))
            untold.is_modified = False
        target = self._target(record, Notice.RANGES)
        if untold.filled and target is not None and target.queue.qsize() < BACKLOG:
            for index, filled in untold.filled.items():
                told: list[RangeInfo] = [{"offset": one.offset, "length": one.length_bytes} for one in filled]
                target.put({**self._event(record, Notice.RANGES), "file_index": index, "ranges": told})
            untold.filled = {}
        interval = record.job.properties.minimum_notification_interval_ms / 1000
        self._timer(interval, lambda: self._ended(record))

    def _ended(self, record: Record) -> None:
        untold = self._untold[record.job_id]
        is_heard = any(self._target(record, notice) for notice in (Notice.MODIFICATION, Notice.RANGES))
        if is_heard and (untold.is_modified or untold.filled):
            self._tell(record)
        else:
            del self._untold[record.job_id]

    def _event(self, record: Record, notice: Notice) -> EventInfo:
        seq, now = self._engine.stream.committed_seq, self._engine.now().wall
        return {"seq": seq, "at": now, "kind": "notice", "job_id": str(record.job_id), "notice": notice.value}
