"""HTTP downloads in parts: carries out what `ranged` decides, with one flow or several and regions of one sink.

No decision about HTTP is taken here. Every line has a flow, so a connection, of its own; what comes goes to the region
of the sink where it belongs, and is told when it is on the disk. A line that fails while others go on is let go, and
what it had to fetch is left to them; the last one that fails ends the attempt.
"""

import time
from collections.abc import Callable, Sequence

from openbits.core import ranges
from openbits.core.model import Range, Validators
from openbits.transfer.decisions import Ask, Decision, Fail, Restart
from openbits.transfer.flow import BREAK_OFF, DRAIN_BYTES
from openbits.transfer.headers import BadResponseError, Head
from openbits.transfer.pieces import Piece
from openbits.transfer.ranged import Fetch, GoWhole, Known, Lane, Parts, Proceed
from openbits.transfer.request import Breakage
from openbits.transfer.saving import Saving, Work
from openbits.transfer.sink import Region

OnWhole = Callable[[Validators, str], None]
"""Called between exchanges, with nothing under way and nothing told beyond what the sink has: version, and why."""


class PartsTransfer(Saving):
    """One file in parts, by so many flows at a time."""

    def __init__(self, work: Work, parts: Parts, known: Validators, *, flows: int, on_whole: OnWhole) -> None:
        super().__init__(work)
        self._fetch = Fetch(parts, known)
        self._on_whole = on_whole
        self._lines = [Line(self, work) for _ in range(flows)]
        self._is_fresh = not parts.here
        """Nothing is here that anybody was told of."""
        self._is_contiguous = len(parts.here) == 0 or parts.here == (Range(offset=0, length_bytes=self._sink.position),)
        """Nothing was told that is not at the beginning of the file."""
        self._written: list[Written] = []
        self._position = self._sink.position

    def begin(self) -> None:
        """See Transfer."""
        if self._is_contiguous:
            self._cut(self._sink.position)
        self._begin()

    def cancel(self) -> None:
        """See Transfer."""
        for line in self._lines:
            line.stop()

    def reposition(self, wanted: Sequence[Range]) -> None:
        """Fetch this first, from now on. Not from inside libcurl's callbacks."""
        if self._outcome is not None:
            return
        broken = self._fetch.reposition(wanted, [line.lane for line in self._lines])
        for line in self._busy:
            if line.lane in broken:
                line.stop()
        self._go_on()

    @property
    def size_bytes(self) -> int | None:
        """See Saving."""
        return self._fetch.size_bytes

    @property
    def step(self) -> str:
        """See Saving."""
        busy = self._busy
        return busy[0].flow.step if busy else "waiting for ranges to be requested"

    @property
    def position(self) -> int:
        """See Saving."""
        return self._position

    def _look_at_clocks(self, now: float) -> None:
        for line in self._busy:
            line.flow.tick(now)
        self._tell_filled()

    def _saved(self) -> None:
        self._tell_filled()
        super()._saved()

    @property
    def _busy(self) -> "list[Line]":
        return [line for line in self._lines if line.is_busy]

    # -- decisions ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._sink.error is None:
            self.carry_out(self._lines[0], self._fetch.begin(self._lines[0].lane))
        else:
            self._end(self._local_failure(self._sink.error))

    def carry_out(self, line: "Line", decisions: list[Decision]) -> None:
        """What may happen only between exchanges: not inside libcurl's callbacks."""
        if self._sink.error is not None:
            self._end(self._local_failure(self._sink.error))
        for decision in decisions:
            if self._outcome is not None:
                return
            match decision:
                case Ask():
                    line.ask(decision)
                case Known():
                    self.tell(line, decision)
                case Fail():
                    self.fail(line, decision)
                case Restart():
                    self._restart(decision)
                    return
                case GoWhole():
                    self._go_whole(decision)
                    return
                case _:
                    pass
        if self._outcome is None:
            self._go_on()

    def _go_on(self) -> None:
        """Every free line gets something to do; if there is nothing left at all, the file may be whole."""
        free = [line for line in self._lines if not line.is_busy]
        assigned = [line for line in free if self._fetch.assign(line.lane, self._others(line))]
        for line in assigned:
            line.ask(self._fetch.question(line.lane))
        whole = self._fetch.finish
        if whole is not None and not self._busy:
            self._end(whole)

    def _others(self, line: "Line") -> list[Lane]:
        return [other.lane for other in self._lines if other is not line]

    def tell(self, line: "Line", known: Known) -> None:
        """What was accepted, and every time there is more to be noted."""
        self._work.tell_accepted(line.route, known.validators, self._sink.position, known.note)

    def fail(self, line: "Line", fail: Fail) -> None:
        """A line is of no use; the others, if there are any that work, do without."""
        self._fetch.give_up(line.lane)
        line.stop()
        others = [other for other in self._lines if other is not line]
        if fail.retry_after_seconds is None and any(other.is_busy or other.has_worked for other in others):
            self._lines = others
            self._fetch.noted(f"{len(self._lines)} connections at a time ({fail.detail})")
            self._go_on()
        else:
            self._end(fail, line.route)

    def _restart(self, restart: Restart) -> None:
        """Bytes that were told are not cut: the run ends, and who counts them begins the next one."""
        if not self._is_fresh:
            self._end(restart)
            return
        self.cancel()
        self._cut(0)
        self._fetch.forget()
        self._begin()

    def _go_whole(self, decision: GoWhole) -> None:
        """The same for bytes that a whole file cannot be continued with."""
        if not self._is_contiguous:
            self._end(Restart(decision.note))
            return
        self.cancel()
        self._on_whole(self._fetch.version, decision.note)

    def _cut(self, offset: int) -> None:
        """The file has nothing beyond `offset`."""
        self._written.clear()
        try:
            self._sink.begin(offset, None)
        except OSError as error:
            self._sink.error = error

    # -- bytes ----------------------------------------------------------------------------------------------------

    def answered(self, line: "Line", head: Head) -> list[Decision]:
        """The response to the question of a line. Raises BadResponseError."""
        decisions = self._fetch.answered(line.lane, head, time.time())
        for decision in [*decisions, *(self._fetch.accepted() if Proceed() in decisions else [])]:
            if isinstance(decision, Known):
                self.tell(line, decision)
        return [decision for decision in decisions if not isinstance(decision, Known)]

    def region(self, piece: Piece) -> Region:
        """Where the bytes of this piece go."""
        region = self._sink.region(piece.local, piece.end)
        self._written.append(Written(region))
        return region

    def write(self, region: Region, data: bytes) -> int | None:
        """The next bytes of a region; -1 if the file cannot take them."""
        verdict = region.write(data)
        self._position = region.position
        self._fetch.arrived(len(data))
        return verdict

    def unreadable(self, line: "Line", error: BadResponseError) -> list[Decision]:
        """The body is broken."""
        return self._fetch.unreadable(line.lane, error)

    def ended(self, line: "Line") -> None:
        """An answer that was accepted is over."""
        self.carry_out(line, self._fetch.ended(line.lane))

    def broke(self, line: "Line", breakage: Breakage, step: str) -> None:
        """There is no whole answer."""
        self.carry_out(line, self._fetch.broke(line.lane, breakage, step))

    def _tell_filled(self) -> None:
        """What is on the disk now and was not before."""
        told = [news for written in self._written for news in written.news()]
        used = {id(line.region) for line in self._busy}
        self._written = [one for one in self._written if one.is_growing or id(one.region) in used]
        if told:
            self._is_fresh = self._is_contiguous = False
            self._work.news.filled(ranges.joined(told), self._fetch.arrived_bytes)


class Written:
    """A region and how much of it was told."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self._told = region.durable

    @property
    def is_growing(self) -> bool:
        """True if more of it will be durable."""
        return self.region.durable < self.region.position

    def news(self) -> list[Range]:
        """What is durable and was not told."""
        start, self._told = self._told, self.region.durable
        return [Range(offset=start, length_bytes=self._told - start)] if self._told > start else []


class Line:
    """One flow, what it asks for, and the region that its bytes go to."""

    def __init__(self, transfer: PartsTransfer, work: Work) -> None:
        self.lane = Lane()
        self.route = work.route()
        self.flow = work.flow(self.route, self)
        self.is_busy = False
        self.has_worked = False
        """Bytes have come this way."""
        self.region: Region | None = None
        self._transfer = transfer
        self._news = work.news
        self._pending: list[Decision] = []
        self._is_proceeding = False
        self._drained_bytes = 0

    def ask(self, question: Ask) -> None:
        """Send the question. Not from inside libcurl's callbacks."""
        self.is_busy = True
        self.region = None
        self._pending = []
        self._is_proceeding = False
        self._drained_bytes = 0
        self.flow.ask(question)

    def stop(self) -> None:
        """Break off. Not from inside libcurl's callbacks."""
        self.flow.cancel()
        self.is_busy = False

    # -- the answers, told by the flow ----------------------------------------------------------------------------

    def responded(self, head: Head) -> None:
        """See Asker."""
        self._news.responded(head.block)

    def answered(self, head: Head) -> int | None:
        """See Asker."""
        decisions = self._transfer.answered(self, head)
        self._is_proceeding = Proceed() in decisions
        self._pending = [decision for decision in decisions if decision != Proceed()]
        return BREAK_OFF if any(isinstance(one, Fail | Restart | GoWhole) for one in self._pending) else None

    def body(self, data: bytes) -> int | None:
        """See Asker."""
        if not self._is_proceeding:
            self._drained_bytes += len(data)
            return BREAK_OFF if self._drained_bytes > DRAIN_BYTES else None
        try:
            verdict = self._write(data)
        except BadResponseError as error:
            self._is_proceeding = False
            self._pending = self._transfer.unreadable(self, error)
            return BREAK_OFF
        is_enough = self.lane.is_cut_short or self.lane.ignored_bytes > DRAIN_BYTES
        return BREAK_OFF if is_enough else verdict

    def _write(self, data: bytes) -> int | None:
        for piece, part in self.lane.feed(data):
            if self.region is None or self.region.position != piece.local or self.region.is_whole:
                self.region = self._transfer.region(piece)
            self.has_worked = True
            verdict = self._transfer.write(self.region, part)
            if verdict is not None:
                return verdict
        return None

    def ended(self) -> None:
        """See Asker."""
        self.is_busy = False
        if self._is_proceeding:
            self._transfer.ended(self)
        else:
            self._transfer.carry_out(self, self._pending)

    def broke(self, breakage: Breakage, step: str) -> None:
        """See Asker."""
        self.is_busy = False
        if self._pending:
            self._transfer.carry_out(self, self._pending)
        else:
            self._transfer.broke(self, breakage, step)

    def failed(self, fail: Fail) -> None:
        """See Asker."""
        self.is_busy = False
        self._transfer.carry_out(self, [fail])
