"""At most four notices are in flight for each user (jobs.md §12.3 N3, identity.md A59).

A share is taken when a notice is sent, and given back when its answer comes or can come no more. Whoever finds none
waits in line, so a callback that hangs holds up the notices of its own user, and nobody else's.
"""

from collections import Counter
from collections.abc import Callable

from openbits.core.model import JobId
from openbits.service.deliveries import IN_FLIGHT
from openbits.service.record import Record


class Shares:
    """Counts by uid; `wake` is called with the job that is next in line, which may take the share then."""

    def __init__(self, wake: Callable[[Record], None]) -> None:
        self._wake = wake
        self._taken: Counter[int] = Counter()
        self._lines: dict[int, dict[JobId, Record]] = {}

    def take(self, uid: int, record: Record) -> bool:
        """Take a share; False: all are taken, and the job waits in line, where it has one place."""
        if self._taken[uid] < IN_FLIGHT:
            self._taken[uid] += 1
            return True
        self._lines.setdefault(uid, {})[record.job_id] = record
        return False

    def give_back(self, uid: int) -> None:
        """The next in line gets the share; one that does not want it any more leaves it to those behind."""
        self._taken[uid] -= 1
        while self._taken[uid] < IN_FLIGHT and (line := self._lines.get(uid)):
            record = line.pop(next(iter(line)))
            self._wake(record)
        if not self._lines.get(uid, True):
            del self._lines[uid]
        if not self._taken[uid]:
            del self._taken[uid]

    def leave(self, uid: int, record: Record) -> None:
        """The job waits no more."""
        self._lines.get(uid, {}).pop(record.job_id, None)

    def waiting(self, uid: int) -> list[Record]:
        """Who waits in line."""
        return list(self._lines.get(uid, {}).values())
