"""Where the records of the queue are found without looking at all of them: by owner, by turn, by time, by litter.

It also counts the jobs that are not over, since the limits of jobs are looked at with each new one.

A change of one job costs a few binary searches (and the move of a block of pointers that a list needs), whatever the
length of the queue.
"""

import bisect
from collections.abc import Iterator, Mapping
from itertools import islice

from openbits.core import lifecycle
from openbits.core.enums import JobState, Priority
from openbits.core.model import Job, JobId
from openbits.core.policies import DEFAULTS, Policies
from openbits.service.record import Record


class Ordered:
    """Records in the order of an instant; those of one instant in the order of their creation."""

    def __init__(self) -> None:
        self._items: list[tuple[float, int, Record]] = []

    def __iter__(self) -> Iterator[Record]:
        return (record for _, _, record in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, instant: float, record: Record) -> None:
        """Enter a record that is not in it."""
        bisect.insort(self._items, (instant, record.number, record))

    def remove(self, instant: float, record: Record) -> None:
        """Take out a record that was added with this instant."""
        del self._items[bisect.bisect_left(self._items, (instant, record.number))]

    @property
    def first(self) -> float | None:
        """The earliest instant."""
        return self._items[0][0] if self._items else None

    def until(self, instant: float) -> list[Record]:
        """The records whose instant has come."""
        return [record for _, _, record in self._items[: bisect.bisect_right(self._items, instant, key=_instant)]]


def _instant(item: tuple[float, int, Record]) -> float:
    return item[0]


class Index:
    """Every record of the queue: `add` it, `leave` before each change of it, `enter` after that, `drop` it at last."""

    def __init__(self) -> None:
        self.policies: Policies = DEFAULTS
        self.records: dict[JobId, Record] = {}
        self.job_counts: dict[int, int] = {}
        """How many jobs of each owner are not over."""
        self.by_owner: dict[int, dict[JobId, Record]] = {}
        self.active: dict[JobId, Record] = {}
        self.timers = Ordered()
        self._due: dict[JobId, float] = {}
        self._lines: dict[tuple[Priority, int], Ordered] = {}
        self._littered: dict[int, dict[JobId, Record]] = {}

    def add(self, record: Record) -> None:
        """A record that is new to the queue; of its job, only what the record itself tells is looked at."""
        self.records[record.job_id] = record
        self.by_owner.setdefault(record.owner_uid, {})[record.job_id] = record
        if record.state is JobState.QUEUED:
            self._line_of(record).add(record.queued_at, record)
        self._count(record, 1)

    def leave(self, record: Record) -> None:
        """Forget where a record stands, before its job or an instant of it changes."""
        if record.state is JobState.QUEUED:
            line = self._line_of(record)
            line.remove(record.queued_at, record)
            if not line:
                del self._lines[record.priority, record.owner_uid]
        self._count(record, -1)
        self.active.pop(record.job_id, None)
        due = self._due.pop(record.job_id, None)
        if due is not None:
            self.timers.remove(due, record)
        for uid in _litter(record.job):
            self._take(self._littered, uid, record)

    def enter(self, record: Record) -> None:
        """Put a record where it stands now."""
        if record.state is JobState.QUEUED:
            self._line_of(record).add(record.queued_at, record)
        elif record.state.is_active:
            self.active[record.job_id] = record
        self._count(record, 1)
        instants = (lifecycle.next_timer(record.job, self.policies), record.look_again_at)
        due = min((instant for instant in instants if instant is not None), default=None)
        if due is not None:
            self._due[record.job_id] = due
            self.timers.add(due, record)
        for uid in _litter(record.job):
            self._littered.setdefault(uid, {})[record.job_id] = record

    def hand_over(self, record: Record, owner_uid: int) -> None:
        """The job belonged to `owner_uid` and has another owner now."""
        self._take(self.by_owner, owner_uid, record)
        self.by_owner.setdefault(record.owner_uid, {})[record.job_id] = record

    def drop(self, record: Record) -> None:
        """The job is out of the queue; it has left its place."""
        del self.records[record.job_id]
        self._take(self.by_owner, record.owner_uid, record)

    def heads(self, count: Mapping[Priority, int]) -> Iterator[Record]:
        """Of each line so many of the first as its level counts."""
        for (priority, _), line in self._lines.items():
            yield from islice(line, count[priority])

    def littered(self, uid: int) -> list[Record]:
        """The jobs that left temporaries of this uid behind and do not use them any more."""
        return list(self._littered.get(uid, {}).values())

    def _count(self, record: Record, change: int) -> None:
        if record.state.is_final:
            return
        count = self.job_counts.get(record.owner_uid, 0) + change
        self.job_counts[record.owner_uid] = count
        if not count:
            del self.job_counts[record.owner_uid]

    def _line_of(self, record: Record) -> Ordered:
        key = record.priority, record.owner_uid
        if key not in self._lines:
            self._lines[key] = Ordered()
        return self._lines[key]

    @staticmethod
    def _take(groups: dict[int, dict[JobId, Record]], uid: int, record: Record) -> None:
        group = groups.get(uid, {})
        group.pop(record.job_id, None)
        if not group:
            groups.pop(uid, None)


def _litter(job: Job) -> set[int]:
    """Uids of the temporaries that are of no use to the job any more."""
    mine = (job.file_at(index).temporary for index in lifecycle.removable(job))
    litter = (*mine, *(leftover.temporary for leftover in job.leftovers))
    return {temporary.uid for temporary in litter if temporary is not None}
