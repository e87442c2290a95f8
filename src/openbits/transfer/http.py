"""HTTP and HTTPS downloads: carries out what `download` decides, with a flow for the network and a sink for the bytes.

No decision about HTTP is taken here. What is here: the bytes and the way out, which always saves first what was
written.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from openbits.core import ranges
from openbits.core.model import Range, Validators
from openbits.transfer import transport, urls, version
from openbits.transfer.auth import Authentication
from openbits.transfer.backstage import Backstage, Helpers
from openbits.transfer.choosing import Chooser
from openbits.transfer.curl import Engine
from openbits.transfer.decisions import Accept, Ask, Decision, Fail, Finish, Restart
from openbits.transfer.download import Download, Terms
from openbits.transfer.flow import BREAK_OFF, DRAIN_BYTES
from openbits.transfer.headers import Head
from openbits.transfer.ladder import Logins
from openbits.transfer.lanes import PartsTransfer
from openbits.transfer.loop import Loop, Timer
from openbits.transfer.mechanisms import Mechanisms
from openbits.transfer.ranged import Parts
from openbits.transfer.request import Breakage
from openbits.transfer.saving import Saving, Work
from openbits.transfer.sink import Sink, Soon
from openbits.transfer.throttle import Limiter, Throttle
from openbits.transfer.tls_gate import Checks, Known
from openbits.transfer.transport import News, Order, Settings
from openbits.transfer.upload import Memory
from openbits.transfer.upload_http import HttpUpload
from openbits.transfer.urls import Origin
from openbits.transfer.way import Way

SEGMENTED_BYTES = 16 * 1024 * 1024
"""A file of which less is missing is not worth several connections."""

MOST_HEADLESS = 4096
"""So many servers that do not answer HEAD a worker remembers."""

MOST_UPLOADS = 1024
"""Of so many uploads a worker remembers what their earlier attempts have met."""

POOL_SECONDS = 5.0
"""How long the connections of a job are kept after its last transfer: its next file, or its next attempt."""


class Pool:
    """The connections of one job with one set of credentials: nobody else's requests go over them."""

    def __init__(self, engine: Engine, backstage: Backstage, logins: Logins, known: Known, throttle: Throttle) -> None:
        self.engine = engine
        self.throttle = throttle
        self.backstage = backstage
        self.logins = logins
        self.known = known
        self.users = 0
        self.end: Timer | None = None


@transport.register("http", "https")
class HttpTransport:
    """Downloads over HTTP; an engine, so a pool of connections, for each job."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self.chooser = Chooser(loop, settings)
        self._checks = Checks(loop, settings)
        self._helpers = Helpers(loop)
        self._limiter = settings.limiter or Limiter(loop)
        self._pools: dict[tuple[str, Authentication], Pool] = {}
        self._headless: set[Origin] = set()
        """Servers that do not answer HEAD; they are not asked again."""
        self._uploads: dict[str, Memory] = {}
        """Of the last jobs that have uploaded, the newest at the end."""

    def transfer(self, order: Order, sink: Sink, news: News) -> "HttpFile":
        """See Transport."""
        work = Work.over(self._way(order, news), sink)
        return HttpFile(work, self._headless, self._loop.soon, give_back=lambda: self._give_back(order))

    def upload(self, order: Order, news: News) -> HttpUpload:
        """A step of an upload that has not begun. Raises BadUrlError."""
        if order.upload is None:
            raise ValueError("no step of an upload")
        memory = self._uploads.pop(order.job, None) or Memory()
        if len(self._uploads) >= MOST_UPLOADS:
            self._uploads.pop(next(iter(self._uploads)))
        self._uploads[order.job] = memory
        return HttpUpload(self._way(order, news), order.upload, memory, give_back=lambda: self._give_back(order))

    def _way(self, order: Order, news: News) -> Way:
        """The connections of it are lent until they are given back. Raises BadUrlError."""
        origin = urls.parse(order.url)
        pool = self._borrow(order)
        return Way(
            order=order,
            origin=origin,
            news=news,
            engine=pool.engine,
            backstage=pool.backstage,
            logins=pool.logins,
            chooser=self.chooser,
            settings=self._settings,
            known=pool.known,
        )

    def _borrow(self, order: Order) -> Pool:
        pool = self._pools.get((order.job, order.authentication))
        if pool is None:
            pool = self._pools[order.job, order.authentication] = self._new_pool(order.authentication)
        if pool.end is not None:
            pool.end.cancel()
            pool.end = None
        pool.users += 1
        pool.throttle.limit(order.rate_bytes_per_second)
        return pool

    def _new_pool(self, given: Authentication) -> Pool:
        throttle = Throttle(self._limiter)

        def make_engine() -> Engine:
            return Engine(self._loop, self._settings, throttle)

        backstage = Backstage(self._loop, self._helpers, make_engine)
        return Pool(make_engine(), backstage, Logins(given, Mechanisms()), Known(self._checks), throttle)

    def _give_back(self, order: Order) -> None:
        pool = self._pools[order.job, order.authentication]
        pool.users -= 1
        if pool.users == 0:
            pool.logins.forget_refusals()
            pool.end = self._loop.call_at(self._loop.now() + POOL_SECONDS, lambda: self._close(order))

    def _close(self, order: Order) -> None:
        pool = self._pools.pop((order.job, order.authentication))
        pool.engine.close()
        pool.backstage.close()


class HttpFile:
    """One file, as a whole or in parts, and the connections that were lent for it; the way may change while it goes."""

    def __init__(self, work: Work, headless: set[Origin], soon: Soon, give_back: Callable[[], None]) -> None:
        self._work = work
        self._headless = headless
        self._soon = soon
        self._give_back: Callable[[], None] | None = give_back
        self._has_ranges = work.order.method == "GET" and not work.order.is_dynamic
        """As far as is known."""
        self._accepted: Validators | None = None
        order = work.order
        is_in_parts = bool(order.ranges or order.wanted or order.filled) or order.is_on_demand
        self._driver = self._in_parts(order.validators) if is_in_parts else self._whole()

    def begin(self) -> None:
        """See Transfer."""
        self._driver.begin()

    def tick(self, now: float) -> None:
        """See Transfer."""
        self._driver.tick(now)

    def cancel(self) -> None:
        """See Transfer."""
        self._driver.cancel()
        if self._give_back is not None:
            self._give_back()
            self._give_back = None

    def reposition(self, wanted: Sequence[Range]) -> None:
        """See Transfer. What comes as a whole comes in parts from now on, if there are any."""
        self._work = replace(self._work, order=replace(self._work.order, wanted=tuple(wanted)))
        if isinstance(self._driver, PartsTransfer):
            self._driver.reposition(wanted)
        else:
            self._divide()

    # -- as a whole, or in parts ----------------------------------------------------------------------------------

    def _whole(self) -> "HttpTransfer | PartsTransfer":
        return HttpTransfer(self._work, self._headless, self._on_accepted)

    def _in_parts(self, known: Validators) -> "HttpTransfer | PartsTransfer":
        work, order, begun = self._work, self._work.order, self._work.sink.position
        parts = Parts(
            parts=order.ranges,
            wanted=order.wanted,
            here=ranges.joined((Range(offset=0, length_bytes=begun), *order.filled)),
            is_on_demand=order.is_on_demand,
            is_strict=work.settings.is_strict,
            asks_head=work.origin.origin not in self._headless,
        )
        return PartsTransfer(work, parts, known, flows=order.segments, on_whole=self._gather)

    def _on_accepted(self, accept: Accept) -> None:
        """The whole file is coming; it may be worth several connections, or be wanted in another order."""
        self._accepted = accept.validators
        self._soon(self._divide)

    def _divide(self) -> None:
        """Go on in parts from where the file is now, if that is wanted and possible."""
        known, driver, order = self._accepted, self._driver, self._work.order
        size, position = known.size_bytes if known is not None else None, self._work.sink.position
        is_worth_it = order.segments > 1 and size is not None and size - position >= SEGMENTED_BYTES
        is_ordered = bool(order.wanted) and order.wanted[0].offset != position
        if known is None or size is None or driver.is_over or not self._has_ranges or not (is_worth_it or is_ordered):
            return
        if not isinstance(driver, PartsTransfer) and version.is_resumable(known):
            driver.cancel()
            self._driver = self._in_parts(known)
            self._driver.begin()

    def _gather(self, known: Validators, note: str) -> None:
        """There are no parts to be had: go on as a whole."""
        self._has_ranges = False
        order = replace(self._work.order, validators=known)
        self._work = replace(self._work, order=order, note=note)
        self._driver = self._whole()
        self._driver.begin()


class HttpTransfer(Saving):
    """One file as a whole, and who asks for it."""

    def __init__(self, work: Work, headless: set[Origin], on_accepted: Callable[[Accept], None]) -> None:
        super().__init__(work)
        self._headless = headless
        self._on_accepted = on_accepted
        self._download = Download(work.sink.position, work.order.validators, self._terms())
        self._flow = work.flow(self._route, self)
        self._pending: list[Decision] = []
        self._is_accepted = False
        self._skip_bytes = 0
        self._drained_bytes = 0

    def _terms(self) -> Terms:
        order, is_strict = self._work.order, self._work.settings.is_strict
        is_headless = order.method != "GET" or order.is_dynamic or self._work.origin.origin in self._headless
        return Terms(
            method=order.method,
            asks_head=(is_strict or not order.is_foreground) and not is_headless,
            is_foreground=order.is_foreground,
            is_strict=is_strict,
            is_dynamic=order.is_dynamic,
            size_limit_bytes=order.size_limit_bytes,
        )

    def begin(self) -> None:
        """See Transfer."""
        self._carry_out(self._download.begin())

    def cancel(self) -> None:
        """See Transfer."""
        self._flow.cancel()

    @property
    def size_bytes(self) -> int | None:
        """See Saving."""
        return self._download.size_bytes

    @property
    def step(self) -> str:
        """See Saving."""
        return self._flow.step

    def _look_at_clocks(self, now: float) -> None:
        self._flow.tick(now)

    # -- decisions ------------------------------------------------------------------------------------------------

    def _carry_out(self, decisions: list[Decision]) -> None:
        """What may happen only between exchanges: not inside libcurl's callbacks."""
        for decision in self._carry_out_writing(decisions):
            if isinstance(decision, Ask):
                self._pending = []
                self._is_accepted = False
                self._drained_bytes = 0
                self._flow.ask(decision)
            elif isinstance(decision, Finish | Fail | Restart):
                self._end(decision)
                return
        if self._sink.error is not None:
            self._end(self._local_failure(self._sink.error))

    def _carry_out_writing(self, decisions: list[Decision]) -> list[Decision]:
        """Restart and Accept, which have to come before the first byte of the body; returns what is left to do.

        Bytes that may be counted already are not cut: the run ends untouched, and says why.
        """
        for decision in decisions:
            try:
                if isinstance(decision, Restart) and self._sink.durable > 0:
                    return [decision]
                if isinstance(decision, Restart):
                    self._sink.begin(0, None)
                elif isinstance(decision, Accept):
                    self._sink.begin(decision.offset, decision.end)
                    self._is_accepted = True
                    self._skip_bytes = decision.skip_bytes
                    self._remember_head()
                    self._work.tell_accepted(self._route, decision.validators, decision.offset, decision.note)
                    self._on_accepted(decision)
            except OSError as error:
                self._sink.error = error
                return []
        return [decision for decision in decisions if not isinstance(decision, Restart | Accept)]

    # -- the answers, told by the flow ----------------------------------------------------------------------------

    def responded(self, head: Head) -> None:
        """See Asker."""
        self._work.news.responded(head.block)

    def answered(self, head: Head) -> int | None:
        """See Asker."""
        self._pending = self._carry_out_writing(self._download.answered(head, time.time()))
        is_over = any(isinstance(decision, Fail | Restart) for decision in self._pending)
        return BREAK_OFF if is_over or self._sink.error is not None else None

    def body(self, data: bytes) -> int | None:
        """See Asker."""
        if self._is_accepted:
            return self._write(data)
        self._drained_bytes += len(data)
        return BREAK_OFF if self._drained_bytes > DRAIN_BYTES else None

    def _write(self, data: bytes) -> int | None:
        """What is not here already; no more than the job may download."""
        if self._skip_bytes:
            here = min(self._skip_bytes, len(data))
            self._skip_bytes -= here
            data = data[here:]
        verdict = self._sink.write(data)
        excess = self._download.overflowed(self._sink.position)
        if excess is None:
            return verdict
        self._pending = [excess]
        return BREAK_OFF

    def _remember_head(self) -> None:
        """The server lets GET through and HEAD not; of a few thousand such servers nothing is remembered."""
        if self._download.has_refused_head and len(self._headless) < MOST_HEADLESS:
            self._headless.add(self._work.origin.origin)

    def ended(self) -> None:
        """See Asker."""
        if self._sink.error is not None:
            self._carry_out([])
        elif self._pending:
            self._carry_out(self._pending)
        elif self._is_accepted:
            self._carry_out(self._download.body_ended(self._sink.position))

    def broke(self, breakage: Breakage, step: str) -> None:
        """See Asker."""
        self._carry_out(self._pending or self._download.broke(breakage, step))

    def failed(self, fail: Fail) -> None:
        """See Asker."""
        self._end(fail)
