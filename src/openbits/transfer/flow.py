"""A flow: one question after the other over a route, each as one or more exchanges of libcurl, with their clocks.

No decision about HTTP is taken here. A flow finds the way to the answer (`route`), says what it waits for, and ends
what takes too long; the answer and its body go to whoever asked.
"""

import enum
import time
from collections.abc import Callable
from typing import Final, Protocol

from openbits.core import codes
from openbits.core.proxies import Settings as ProxySettings
from openbits.transfer.backstage import Backstage, Outcome, Task
from openbits.transfer.bodies import NOTHING_SENT, body_of
from openbits.transfer.choosing import Chooser, Chosen
from openbits.transfer.curl import Engine, Exchange
from openbits.transfer.decisions import Ask, Fail, failure
from openbits.transfer.headers import BadResponseError, Head, HeadCollector, check_framing
from openbits.transfer.proofs import Hold, Prove
from openbits.transfer.request import Breakage, Request, Tunnel
from openbits.transfer.route import EXPECTATION_FAILED, Answer, Broken, Choose, Move, Route, Send, is_tunnel
from openbits.transfer.transport import Limits
from openbits.transfer.urls import Target

DRAIN_BYTES: Final = 64 * 1024
"""Body of a redirect or a refusal that is read for the sake of the connection; a longer one costs it."""

BREAK_OFF: Final = -1
"""What a callback returns to libcurl so that the exchange ends."""


class Stage(enum.Enum):
    """Where the present exchange is; who chooses proxies has a clock, libcurl that of connecting, we the others."""

    CHOOSING = enum.auto()
    PROVING = enum.auto()
    HELD = enum.auto()
    CHECKING = enum.auto()
    CONNECTING = enum.auto()
    SENDING = enum.auto()
    WAITING = enum.auto()
    RECEIVING = enum.auto()
    OVER = enum.auto()


class Asker(Protocol):
    """Who asks. Of `answered` and `body`, which are called from inside libcurl, -1 breaks the exchange off."""

    def responded(self, head: Head) -> None:
        """A final response came, of whatever hop."""

    def answered(self, head: Head) -> int | None:
        """The response to the question came. Raises BadResponseError."""

    def body(self, data: bytes) -> int | None:
        """Bytes of its body."""

    def ended(self) -> None:
        """The response is over, whole or broken off by the asker: the next question may be asked."""

    def broke(self, breakage: Breakage, step: str) -> None:
        """There is no whole response: the next question may be asked."""

    def failed(self, fail: Fail) -> None:
        """There is no way to an answer."""


Then = Callable[[Request | Fail], None]


class Gate(Protocol):
    """Through which requests go out."""

    @property
    def step(self) -> str:
        """What it waits for, for people."""

    def admit(self, request: Request, then: Then) -> None:
        """Call back, perhaps at once: with what is to be sent, or why nothing may be."""

    def learnt(self, sent: Request, breakage: Breakage | None) -> bool:
        """An exchange is over without an answer: True if its request has to come again, because more is known now."""

    def doubts(self, sent: Request, head: Head) -> bool:
        """True if this answer is to be dropped, because it may mean something else; `learnt` is called next."""

    def cancel(self) -> None:
        """Nobody waits any more."""


class Flow:
    """Questions of one asker, one at a time."""

    def __init__(
        self,
        route: Route,
        engine: Engine,
        limits: Limits,
        asker: Asker,
        gate: Gate,
        *,
        chooser: Chooser,
        proxies: ProxySettings,
        backstage: Backstage,
    ) -> None:
        self.route = route
        self._chooser = chooser
        self._proxies = proxies
        self._choosing: object = None
        self._engine = engine
        self._backstage = backstage
        self._pinned: Engine | None = None
        """For requests over a connection that is only ours."""
        self._local_port: int | None = None
        self._proving: Task | None = None
        self._limits = limits
        self._asker = asker
        self._gate = gate
        self._exchange: Exchange | None = None
        self._stage = Stage.OVER
        self._stage_at = 0.0
        self._floor_from = 0
        self._moved_bytes = 0
        self._sent_so_far = NOTHING_SENT
        self._collector = HeadCollector()
        self._move: Move | None = None
        self._sent: Request | None = None
        """What went out."""
        self._drained_bytes = 0
        self._is_broken_off = False

    def ask(self, question: Ask) -> None:
        """Ask the origin. Not from inside libcurl's callbacks."""
        self._carry_out(self.route.ask(question))

    def cancel(self) -> None:
        """Stop without a word to the asker. Not from inside libcurl's callbacks."""
        self._stage = Stage.OVER
        self._choosing = None
        self._gate.cancel()
        if self._proving is not None:
            self._proving.cancel()
            self._proving = None
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
        self.route.abandon()
        if self._pinned is not None:
            self._backstage.take_back(self._pinned)
            self._pinned = None

    def tick(self, now: float) -> None:
        """Look at the clocks."""
        limits, elapsed = self._limits, now - self._stage_at
        if self._stage is Stage.SENDING:
            self._look_at_sending(elapsed)
        elif self._stage is Stage.WAITING and elapsed >= self._answer_seconds:
            self._time_out(f"no answer within {self._answer_seconds:g} s ({self._answer_clock} clock)")
        elif self._stage is Stage.PROVING and elapsed >= limits.connect_seconds:
            self._time_out(f"no ticket within {limits.connect_seconds:g} s (connect clock)")
        elif self._stage is Stage.RECEIVING and elapsed >= limits.floor_seconds:
            moved = self._moved_bytes - self._floor_from
            if moved >= limits.floor_bytes:
                self._enter(Stage.RECEIVING)
                return
            floor = f"less than the {limits.floor_bytes} of the progress floor"
            self._time_out(f"{moved} bytes in {limits.floor_seconds:g} s, {floor}")

    def _look_at_sending(self, elapsed: float) -> None:
        """D18: it is silence that counts, and not that of a limit of ours."""
        if self._exchange is None or self._sent is None or self._sent.body is None:
            return
        sent, before = self._exchange.sent(), self._sent_so_far
        self._sent_so_far = sent
        if sent.taken_bytes >= self._sent.body.length and sent.under_way_bytes == 0:
            self._enter(Stage.WAITING)
        elif sent != before or sent.is_held:
            self._enter(Stage.SENDING)
        elif elapsed >= self._limits.send_seconds:
            words = f"no byte was taken for {self._limits.send_seconds:g} s (send clock)"
            self._time_out(f"{words}, after {sent.taken_bytes} of {self._sent.body.length}")

    @property
    def _answer_seconds(self) -> float:
        own = self._sent.answer_seconds if self._sent is not None else None
        return self._limits.first_byte_seconds if own is None else own

    @property
    def _answer_clock(self) -> str:
        return "first-byte" if self._sent is None or self._sent.answer_seconds is None else "answer"

    @property
    def is_waiting(self) -> bool:
        """True while all of the request is sent and nothing of the answer came."""
        return self._stage is Stage.WAITING

    @property
    def bytes_per_second(self) -> int | None:
        """The limit that the present exchange, or the next one, goes under; None: none."""
        return self._engine.bytes_per_second

    @property
    def step(self) -> str:
        """What is being waited for, for people."""
        peer = self.route.target.peer
        steps = {
            Stage.CHOOSING: f"choosing a proxy for {peer}",
            Stage.PROVING: f"getting what proves our identity to {peer}",
            Stage.HELD: f"waiting for another file of the job to be let in by {peer}",
            Stage.CHECKING: self._gate.step,
            Stage.SENDING: f"sending to {peer}",
            Stage.WAITING: f"waiting for the answer of {peer}",
            Stage.RECEIVING: f"receiving from {peer}",
        }
        if self._is_asking_for_tunnel and self._stage in {Stage.WAITING, Stage.RECEIVING}:
            return f"waiting for the tunnel to {peer}"
        if self._stage in steps:
            return steps[self._stage]
        return self._exchange.connecting_step() if self._exchange else f"connecting to {peer}"

    def _carry_out(self, move: Move) -> None:
        """What may happen only between exchanges."""
        match move:
            case Send(request=request):
                self._send(request)
            case Choose(target=target):
                self._choose(target)
            case Prove():
                self._prove(move)
            case Hold():
                self._enter(Stage.HELD)
                move.ladder.space.wait(lambda: self._backstage.later(lambda: self._released(move)))
            case Answer():
                self._asker.ended()
            case Broken(breakage=breakage, step=step):
                self._asker.broke(breakage, step)
            case Fail():
                self._asker.failed(move)

    def _choose(self, target: Target) -> None:
        choosing = self._choosing = object()

        def chosen(result: Chosen | Fail) -> None:
            if self._choosing is choosing:  # else nobody waits for it any more
                self._choosing = None
                self._carry_out(result if isinstance(result, Fail) else self.route.chosen(result.choice, result.notes))

        self._enter(Stage.CHOOSING)
        self._chooser.choose(self._proxies, target, chosen)

    def _prove(self, prove: Prove) -> None:
        certificate = self._pinned.certificate if self._pinned is not None else ""

        def proved(outcome: Outcome) -> None:
            self._proving = None
            self._carry_out(self.route.proved(prove, outcome))

        self._enter(Stage.PROVING)
        self._proving = self._backstage.run(lambda: prove.work.call(certificate), proved)

    def _released(self, hold: Hold) -> None:
        if self._stage is Stage.HELD:  # else it was cancelled
            self._carry_out(self.route.released(hold))

    def _send(self, request: Request) -> None:
        if request.tunnel is Tunnel.WANTED:  # nothing is said to the server
            self._admitted(request)
            return
        self._enter(Stage.CHECKING)
        self._gate.admit(request, self._admitted)

    def _admitted(self, admitted: Request | Fail) -> None:
        """The one place from which requests go out."""
        if isinstance(admitted, Fail):
            self._stage = Stage.OVER
            self._asker.failed(admitted)
            return
        self._sent = admitted
        self._collector = HeadCollector()
        self._move = None
        self._drained_bytes = 0
        self._is_broken_off = False
        self._enter(Stage.CONNECTING)
        self._exchange = self._engine_for(admitted).send(admitted, self)

    def _engine_for(self, request: Request) -> Engine:
        if not request.is_pinned:
            return self._engine
        if self._pinned is None:
            self._pinned = self._backstage.lend()
        return self._pinned

    def _enter(self, stage: Stage) -> None:
        self._stage = stage
        self._stage_at = time.monotonic()
        self._floor_from = self._moved_bytes

    def _time_out(self, words: str) -> None:
        step = self.step
        self.cancel()
        self._asker.broke(Breakage(hresult=codes.ERROR_WINHTTP_TIMEOUT, words=words), step)

    # -- the exchange, told by libcurl ----------------------------------------------------------------------------

    def connected(self, local_port: int) -> None:
        """See Listener."""
        self._local_port = local_port
        self._collector = HeadCollector()
        self._sent_so_far = NOTHING_SENT
        self._enter(Stage.SENDING if self._is_bringing_something else Stage.WAITING)

    def reconnecting(self) -> None:
        """See Listener. What a proxy says of the new tunnel is no answer."""
        self._collector = HeadCollector()
        self._enter(Stage.CONNECTING)

    def header(self, line: bytes) -> int | None:
        """See Listener."""
        try:
            head = self._collector.feed(line)
            return None if head is None else self._headed(head)
        except BadResponseError as error:
            words = f"the answer is broken: {error}"
            self._move = failure(codes.BG_E_INVALID_SERVER_RESPONSE, self.route.step, words)
            return BREAK_OFF

    def _headed(self, head: Head) -> int | None:
        """A head is whole. Raises BadResponseError."""
        if self._stage is Stage.CONNECTING:
            self._move = self.route.tunnel_answered(head)
            return BREAK_OFF if isinstance(self._move, Fail) else None
        self._enter(Stage.RECEIVING)
        if self._is_asking_for_tunnel:
            return self._tunnel_answered(head)
        self._asker.responded(head)
        check_framing(head)
        self._move = self.route.answered(head, self._local_port, has_continued=self._collector.has_continued)
        if not isinstance(self._move, Answer):
            return BREAK_OFF if isinstance(self._move, Fail) or self._is_expectation_refused(head) else None
        if self._sent is not None and self._gate.doubts(self._sent, head):
            self._move = None
            return BREAK_OFF
        return self._broken_off(self._asker.answered(head))

    def _is_expectation_refused(self, head: Head) -> bool:
        """True if libcurl would send the request again by itself."""
        return self._sent is not None and self._sent.is_expecting and head.status == EXPECTATION_FAILED

    @property
    def _is_bringing_something(self) -> bool:
        body = body_of(self._sent) if self._sent is not None else None
        return body is not None and body.length > 0

    @property
    def _is_asking_for_tunnel(self) -> bool:
        return self._sent is not None and self._sent.tunnel is Tunnel.WANTED

    def _tunnel_answered(self, head: Head) -> int | None:
        """The connection is wanted if the proxy agrees, its words if it asks, and neither if it refuses."""
        self._move = self.route.wanted_tunnel_answered(head, self._local_port)
        is_refused = isinstance(self._move, Broken | Fail)
        if self._exchange is not None:
            self._exchange.is_tunnel_made = is_tunnel(head) and not is_refused
        return BREAK_OFF if is_tunnel(head) or is_refused else None

    def body(self, data: bytes) -> int | None:
        """See Listener."""
        self._moved_bytes += len(data)
        if isinstance(self._move, Answer):
            return self._broken_off(self._asker.body(data))
        self._drained_bytes += len(data)
        return BREAK_OFF if self._drained_bytes > DRAIN_BYTES else None

    def _broken_off(self, verdict: int | None) -> int | None:
        self._is_broken_off = verdict == BREAK_OFF
        return verdict

    def ended(self, breakage: Breakage | None) -> None:
        """See Listener."""
        step, self._stage = self.step, Stage.OVER
        if breakage is not None and breakage.is_unreached and self.route.proxy is not None:
            self._chooser.died(self.route.proxy)
        self._exchange = None
        move = self._move
        if move is None and self._sent is not None and self._gate.learnt(self._sent, breakage):
            self._carry_out(self.route.again())
            return
        if move is None and breakage is None:
            words = "the connection was closed in the middle of the header"
            breakage = Breakage(hresult=codes.ERROR_WINHTTP_CONNECTION_ERROR, words=words)
        if breakage is not None and (move is None or (isinstance(move, Answer) and not self._is_broken_off)):
            move = self.route.broke(breakage, step)
        if move is not None:
            self._carry_out(move)
