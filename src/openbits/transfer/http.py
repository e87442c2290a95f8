"""HTTP and HTTPS downloads: carries out what `download` decides, with `curl` for the network and a sink for the bytes.

No decision about HTTP is taken here. What is here: one exchange after the other, the clocks of a connection that is
up, and the way out, which always saves first what was written.
"""

import enum
import time
from typing import Final

from openbits.core import codes
from openbits.core.enums import ErrorContext
from openbits.transfer import transport, urls
from openbits.transfer.curl import Engine, Exchange
from openbits.transfer.download import Accept, Breakage, Decision, Download, Fail, Finish, Request, Restart, Send
from openbits.transfer.headers import BadResponseError, HeadCollector
from openbits.transfer.loop import Loop
from openbits.transfer.sink import Sink
from openbits.transfer.transport import Limits, News, Order, Refusal, Settings, last_word

DRAIN_BYTES: Final = 64 * 1024
"""Body of a redirect or a refusal that is read for the sake of the connection; a longer one costs it."""

_BREAK_OFF: Final = -1


class Stage(enum.Enum):
    """Where the present exchange is; libcurl runs the clock of the first, we those of the next two."""

    CONNECTING = enum.auto()
    WAITING = enum.auto()
    RECEIVING = enum.auto()
    OVER = enum.auto()


@transport.register("http", "https")
class HttpTransport:
    """Downloads over HTTP; one engine for all, since nothing is sent that would bind a connection to a job."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._settings = settings
        self._engine = Engine(loop, settings)

    def transfer(self, order: Order, sink: Sink, news: News) -> "HttpTransfer":
        """See Transport."""
        download = Download(urls.parse(order.url), sink.position, order.validators, order.proxies, order.headers)
        made = HttpTransfer(download, sink, news, self._engine, self._settings.limits)
        made.tls_refusal = order.tls_refusal
        return made


class HttpTransfer:
    """One file, and the listener of its exchanges."""

    def __init__(self, download: Download, sink: Sink, news: News, engine: Engine, limits: Limits) -> None:
        self._download = download
        self._sink = sink
        self._news = news
        self._engine = engine
        self._limits = limits
        self.tls_refusal: Refusal | None = None
        self._phase = ""
        self._outcome: Finish | Fail | Restart | None = None
        self._exchange: Exchange | None = None
        self._stage = Stage.OVER
        self._stage_at = 0.0
        self._floor_from = 0
        self._collector = HeadCollector()
        self._pending: list[Decision] = []
        self._is_accepted = False
        self._drained_bytes = 0

    def begin(self) -> None:
        """See Transfer."""
        self._carry_out(self._download.begin())

    def cancel(self) -> None:
        """See Transfer."""
        self._stage = Stage.OVER
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    def tick(self, now: float) -> None:
        """See Transfer."""
        if self._outcome is None:
            self._look_at_clocks(now)
        if self._outcome is None and self._sink.error is not None:  # a sync failed while bytes were coming in
            self._end(self._local_failure(self._sink.error))
        text = self._phase_text()
        if text != self._phase:
            self._phase = text
            self._news.phase(text)

    # -- decisions ------------------------------------------------------------------------------------------------

    def _carry_out(self, decisions: list[Decision]) -> None:
        """What may happen only between exchanges: not inside libcurl's callbacks."""
        for decision in self._carry_out_writing(decisions):
            if isinstance(decision, Send):
                self._send(decision.request)
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
                    self._news.connected(decision.validators, decision.offset, decision.note)
            except OSError as error:
                self._sink.error = error
                return []
        return [decision for decision in decisions if not isinstance(decision, Restart | Accept)]

    def _send(self, request: Request) -> None:
        refusal = self.tls_refusal
        if refusal is not None and request.target.scheme == "https":  # the one place from which requests go out
            context = ErrorContext.SERVER_CERTIFICATE_CALLBACK
            self._end(Fail(hresult=refusal.hresult, context=context, detail=refusal.detail))
            return
        self._collector = HeadCollector()
        self._pending = []
        self._is_accepted = False
        self._drained_bytes = 0
        self._enter(Stage.CONNECTING)
        self._exchange = self._engine.send(request, self)

    def _end(self, outcome: Finish | Fail | Restart) -> None:
        """Save what was written, then say the last word; the first outcome counts."""
        if self._outcome is None:
            self._outcome = outcome
            self.cancel()
            self._sink.flush(self._saved)

    def _saved(self) -> None:
        outcome = self._outcome
        if isinstance(outcome, Finish) and self._sink.error is not None:
            outcome = self._local_failure(self._sink.error)
        if outcome is not None:
            last_word(outcome, self._news)

    def _local_failure(self, error: OSError) -> Fail:
        return self._download.cannot_write(
            error, self._sink.position, self._sink.refusal(error, self._download.size_bytes)
        )

    # -- clocks ---------------------------------------------------------------------------------------------------

    def _enter(self, stage: Stage) -> None:
        self._stage = stage
        self._stage_at = time.monotonic()
        self._floor_from = self._moved_bytes

    @property
    def _moved_bytes(self) -> int:
        return self._sink.position + self._drained_bytes

    def _look_at_clocks(self, now: float) -> None:
        limits = self._limits
        elapsed = now - self._stage_at
        if self._stage is Stage.WAITING and elapsed >= limits.first_byte_seconds:
            self._time_out(f"no answer within {limits.first_byte_seconds:g} s (first-byte clock)")
        elif self._stage is Stage.RECEIVING and elapsed >= limits.floor_seconds:
            moved = self._moved_bytes - self._floor_from
            if moved < limits.floor_bytes:
                self._time_out(
                    f"{moved} bytes in {limits.floor_seconds:g} s, less than the {limits.floor_bytes} of the "
                    "progress floor"
                )
            else:
                self._enter(Stage.RECEIVING)

    def _time_out(self, words: str) -> None:
        step = self._step_text()
        self._end(self._download.failed(Breakage(hresult=codes.ERROR_WINHTTP_TIMEOUT, words=words), step))

    def _step_text(self) -> str:
        peer = self._download.target.peer
        match self._stage:
            case Stage.WAITING:
                return f"waiting for the answer of {peer}"
            case Stage.RECEIVING:
                return f"receiving from {peer}"
            case _:
                return self._exchange.connecting_step() if self._exchange else f"connecting to {peer}"

    def _phase_text(self) -> str:
        return "saving to the disk" if self._outcome is not None else self._step_text()

    # -- the exchange, told by libcurl ----------------------------------------------------------------------------

    def connected(self) -> None:
        """See Listener."""
        self._enter(Stage.WAITING)

    def header(self, line: bytes) -> int | None:
        """See Listener."""
        try:
            head = self._collector.feed(line)
        except BadResponseError as error:
            self._pending = [self._download.bad_response(error)]
            return _BREAK_OFF
        if head is not None:
            self._news.responded(head.block)
            self._enter(Stage.RECEIVING)
            self._pending = self._carry_out_writing(self._download.answered(head, time.time()))
            if self._sink.error is not None or any(isinstance(decision, Fail | Restart) for decision in self._pending):
                return _BREAK_OFF
        return None

    def body(self, data: bytes) -> int | None:
        """See Listener."""
        if self._is_accepted:
            return self._sink.write(data)
        self._drained_bytes += len(data)
        return _BREAK_OFF if self._drained_bytes > DRAIN_BYTES else None

    def ended(self, breakage: Breakage | None) -> None:
        """See Listener."""
        step, self._stage = self._step_text(), Stage.OVER
        self._exchange = None
        if self._sink.error is not None:
            self._carry_out([])
        elif self._pending:
            self._carry_out(self._pending)
        elif breakage is not None:
            self._carry_out(self._download.broke(breakage, step))
        elif self._is_accepted:
            self._carry_out(self._download.body_ended(self._sink.position))
        else:
            words = "the connection was closed in the middle of the header"
            half = Breakage(hresult=codes.ERROR_WINHTTP_CONNECTION_ERROR, words=words)
            self._carry_out(self._download.broke(half, step))
