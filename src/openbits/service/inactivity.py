"""Cancels jobs that nobody has touched for a long time, and says so before (jobs.md §3.4, policy JobInactivityTimeout).

The queue is looked at part by part, at the start and then every SWEEP_SECONDS; of each job the instant of its last
change is enough, which its record has. While the service runs, that instant is on the boot clock: setting the wall
clock changes nothing.
"""

import asyncio
import itertools
import logging
from collections.abc import Iterable

from openbits.core import events, timers
from openbits.service.engine import Engine
from openbits.service.record import Record

log = logging.getLogger("openbits.manager")

SWEEP_SECONDS = 600.0
SLICE = 2_000
"""So many jobs are looked at in a turn."""
READ_SLICE = 50
"""So many are announced or cancelled in a turn: those are read, and the store gets them before the next ones."""


class Inactivity:
    """Sweeps the queue of a running service."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_due = asyncio.Event()
        self._expired: list[Record] = []
        """Whose time ran out; one that changes before its turn to go is not inactive any more, and stays."""

    def begin(self) -> None:
        """The queue was loaded, and nothing of it has begun to run."""
        self._expired, _ = self._near(self._engine.records.values())
        self._end_some()

    async def run(self) -> None:
        """Sweep again and again, until the store fails."""
        while True:
            self._is_due.clear()  # before: what changes during a sweep asks for another one
            await self.sweep()
            try:
                await asyncio.wait_for(self._is_due.wait(), SWEEP_SECONDS)
            except TimeoutError:
                continue

    def sweep_soon(self) -> None:
        """The policy has changed."""
        self._is_due.set()

    async def sweep(self) -> None:
        """Look at every job of the queue once."""
        records = iter(list(self._engine.records.values()))
        while True:
            while self._expired:
                await _stored(self._end_some())
            part = list(itertools.islice(records, SLICE))
            if not part:
                return
            self._expired, soon = self._near(part)
            for first in range(0, len(soon), READ_SLICE):
                _, still = self._near(soon[first : first + READ_SLICE])
                await _stored([self._announce(record) for record in still])
            await asyncio.sleep(0)

    def _near(self, records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
        """Those that have to go, and those of which that is to be announced."""
        now, policies = self._engine.now().boot, self._engine.policies
        latest = now - timers.is_announced_at(0.0, policies)
        over, soon = [], []
        for record in records:
            if record.changed_at > latest or record.state.is_final:
                continue
            if now >= timers.expires_at(record.changed_at, policies):
                over.append(record)
            elif record.told_of_expiry_at != record.changed_at:
                soon.append(record)
        return over, soon

    def _announce(self, record: Record) -> "asyncio.Future[None]":
        record.told_of_expiry_at = record.changed_at
        left = timers.expires_at(record.changed_at, self._engine.policies) - self._engine.now().boot
        log.warning("job_expiring job=%s owner=%d hours_left=%.1f", record.job_id, record.owner_uid, left / 3600)
        return self._engine.announce(record, "expiring")

    def _end_some(self) -> "list[asyncio.Future[None]]":
        ended, self._expired = self._expired[:READ_SLICE], self._expired[READ_SLICE:]
        over, _ = self._near(ended)
        return [self._end(record) for record in over]

    def _end(self, record: Record) -> "asyncio.Future[None]":
        committed = self._engine.apply(record, events.InactivityExpired())
        if record.state.is_final:  # one that is being completed ends by itself
            days = self._engine.policies.job_inactivity_days
            log.warning("job_expired job=%s owner=%d days=%d", record.job_id, record.owner_uid, days)
        return committed


async def _stored(committed: "Iterable[asyncio.Future[None]]") -> None:
    """Wait for these commits; a failed one ends the manager."""
    await asyncio.gather(*committed, return_exceptions=True)
