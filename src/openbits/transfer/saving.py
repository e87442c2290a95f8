"""What every way of fetching a file over HTTP shares: the way out through requests, and the end, which saves first.

A file is fetched as a whole (`http`) or in parts (`lanes`); both ask through flows that are made here, tell here what
was accepted, and end here: what was written is brought to the disk before the last word.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

from openbits.core import codes
from openbits.core.enums import ErrorContext
from openbits.transfer.decisions import Fail, Finish, Restart
from openbits.transfer.route import Route
from openbits.transfer.sink import Sink
from openbits.transfer.transport import last_word
from openbits.transfer.way import Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Way):
    """The way to a remote file, and where it is written."""

    sink: Sink

    @classmethod
    def over(cls, way: Way, sink: Sink) -> "Work":
        """Over this way, into this file."""
        return cls(sink=sink, **{one.name: getattr(way, one.name) for one in fields(way)})


class Saving(ABC):
    """A transfer and how it ends: what was written is on the disk before the last word."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._sink = work.sink
        self._route = work.route()
        self._outcome: Finish | Fail | Restart | None = None
        self._phase = ""

    @abstractmethod
    def cancel(self) -> None:
        """See Transfer: no exchange goes on."""

    @property
    @abstractmethod
    def size_bytes(self) -> int | None:
        """How large the file is, as far as that is known."""

    @property
    @abstractmethod
    def step(self) -> str:
        """What is being waited for, for people."""

    @property
    def position(self) -> int:
        """Where the last byte was written, or could not be."""
        return self._sink.position

    @property
    def is_over(self) -> bool:
        """True if the last word is said, or waits for the disk alone."""
        return self._outcome is not None

    def tick(self, now: float) -> None:
        """See Transfer."""
        if self._outcome is None:
            self._look_at_clocks(now)
        if self._outcome is None and self._sink.error is not None:  # a sync failed while bytes were coming in
            self._end(self._local_failure(self._sink.error))
        text = "saving to the disk" if self._outcome is not None else self.step
        if text != self._phase:
            self._phase = text
            self._work.news.phase(text)

    @abstractmethod
    def _look_at_clocks(self, now: float) -> None:
        """Of all flows."""

    def _end(self, outcome: Finish | Fail | Restart, route: Route | None = None) -> None:
        """Save what was written, then say the last word; the first outcome counts. `route`: where it failed."""
        if self._outcome is None:
            if isinstance(outcome, Fail):
                failed_at = route or self._route
                self._work.news.went(failed_at.peer, failed_at.refused_to)
                outcome = self._work.placed(failed_at, outcome)
            self._outcome = outcome
            self.cancel()
            if isinstance(outcome, Finish):
                self._work.news.saving()
            self._sink.flush(self._saved)

    def _saved(self) -> None:
        outcome = self._outcome
        if isinstance(outcome, Finish) and self._sink.error is not None:
            outcome = self._work.placed(self._route, self._local_failure(self._sink.error))
        if outcome is not None:
            last_word(outcome, self._work.news)

    def _local_failure(self, error: OSError) -> Fail:
        """What a refused write or sync means."""
        words = self._sink.refusal(error, self.size_bytes)
        detail = f"writing at byte {self.position}: {words}"
        return Fail(hresult=codes.from_errno(error.errno or 0), context=ErrorContext.LOCAL_FILE, detail=detail)
