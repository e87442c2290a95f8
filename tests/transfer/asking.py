"""Somebody who asks over a real flow in this process: route, gate, libcurl and loop as in a worker, but no transfer."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from openbits.core.enums import SecurityFlags
from openbits.core.model import Validators
from openbits.core.pac import Choice
from openbits.core.packets import METHOD
from openbits.core.proxies import Proxy
from openbits.core.proxies import Settings as ProxySettings
from openbits.transfer import urls
from openbits.transfer.auth import NOTHING, Authentication
from openbits.transfer.backstage import Backstage, Helpers
from openbits.transfer.choosing import Chooser, Chosen, Done
from openbits.transfer.curl import Engine
from openbits.transfer.decisions import Ask, Body, Fail
from openbits.transfer.flow import BREAK_OFF, Flow
from openbits.transfer.headers import Head
from openbits.transfer.ladder import Logins
from openbits.transfer.loop import Loop
from openbits.transfer.mechanisms import Mechanisms
from openbits.transfer.request import Breakage
from openbits.transfer.throttle import Limiter, Throttle
from openbits.transfer.tls_gate import Checks, Known
from openbits.transfer.transport import Limits, News, Order, Settings
from openbits.transfer.way import Way

DEADLINE_SECONDS = 20.0
TICK_SECONDS = 0.05

LIMITS = Limits(
    connect_seconds=5,
    first_byte_seconds=5,
    floor_bytes=1,
    floor_seconds=5,
    send_seconds=5,
    answer_seconds=5,
    application_seconds=5,
)

Outcome = Head | Breakage | Fail


class Rounds(Loop):
    """A loop that can be run more than once."""

    def go_on(self) -> None:
        """After `stop`."""
        self._is_stopped = False


class Through:
    """Chooses what the test says: that is no matter here, and the real one forks a process for scripts."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice

    def choose(self, _settings: ProxySettings, _target: urls.Target, done: Done) -> None:
        """See Chooser."""
        done(Chosen(choice=self._choice))

    def died(self, _proxy: Proxy) -> None:
        """See Chooser."""


class Source:
    """What is sent; what was read of it is kept."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, size: int) -> bytes:
        self.reads.append((offset, size))
        return self.data[offset : offset + size]

    def body(self, offset: int = 0, length: int | None = None) -> Body:
        return Body(read=self.read, offset=offset, length=len(self.data) - offset if length is None else length)


class Asking:
    """Asks one question after the other, and waits for each."""

    def __init__(
        self,
        url: str,
        *,
        limits: Limits = LIMITS,
        given: Authentication = NOTHING,
        proxy: Proxy | None = None,
        ca: Path | None = None,
        certificate: str | None = None,
    ) -> None:
        self._loop = loop = Rounds()
        settings = Settings(limits=limits, ca_file=None if ca is None else str(ca))
        self.throttle = throttle = Throttle(Limiter(loop))

        def engine() -> Engine:
            return Engine(loop, settings, throttle)

        origin = urls.parse(url)
        order = Order(
            job="job",
            url=url,
            validators=Validators(),
            security_flags=SecurityFlags(0),
            authentication=given,
            client_certificate=certificate,
        )
        self._way = Way(
            order=order,
            origin=origin,
            news=cast("News", None),
            engine=engine(),
            backstage=Backstage(loop, Helpers(loop), engine),
            logins=Logins(given, Mechanisms()),
            chooser=cast("Chooser", Through((proxy,))),
            settings=settings,
            known=Known(Checks(loop, settings)),
        )
        self.route = self._way.route()
        self.flow: Flow = self._way.flow(self.route, self)
        self.outcomes: list[Outcome] = []
        self._asked = 0
        self.steps: list[str] = []
        """What was being waited for, each as long as it was."""
        self._head: Head | None = None
        self.body_bytes = 0

    def packet(
        self, body: Body | None = None, *fields: tuple[str, str], answer_seconds: float | None = None
    ) -> Outcome:
        """A packet to its end."""
        return self.ask(Ask(METHOD, fields, body=body, answer_seconds=answer_seconds))

    def ask(self, question: Ask) -> Outcome:
        """A question to its end."""
        self.begin(question)
        outcome = self.wait()
        assert outcome is not None
        return outcome

    def begin(self, question: Ask) -> None:
        """Put a question; `wait` has the answer."""
        self._head = None
        self._asked += 1
        self.flow.ask(question)

    def wait(self, *, until: Callable[[], bool] = lambda: False) -> Outcome | None:
        """Go on until there is an answer, or until that."""
        deadline = self._loop.now() + DEADLINE_SECONDS

        def is_over() -> bool:
            return len(self.outcomes) == self._asked or until()

        def tick() -> None:
            self.flow.tick(self._loop.now())
            if self.flow.step not in self.steps[-1:]:
                self.steps.append(self.flow.step)
            if is_over() or self._loop.now() > deadline:
                self._loop.stop()
            else:
                self._loop.call_at(self._loop.now() + TICK_SECONDS, tick)

        tick()
        self._loop.run()
        self._loop.go_on()
        assert is_over(), self.steps
        return self.outcomes[-1] if len(self.outcomes) == self._asked else None

    def close(self) -> None:
        """Drop the connections."""
        self.flow.cancel()
        self._way.engine.close()
        self._way.backstage.close()
        self._loop.close()

    # -- the answers, told by the flow ----------------------------------------------------------------------------

    def responded(self, head: Head) -> None:
        """See Asker."""

    def answered(self, head: Head) -> int | None:
        """See Asker."""
        self._head = head
        return None

    def body(self, data: bytes) -> int | None:
        """See Asker."""
        self.body_bytes += len(data)
        return BREAK_OFF if self.body_bytes > 1 << 20 else None

    def ended(self) -> None:
        """See Asker."""
        assert self._head is not None
        self._over(self._head)

    def broke(self, breakage: Breakage, _step: str) -> None:
        """See Asker."""
        self._over(breakage)

    def failed(self, fail: Fail) -> None:
        """See Asker."""
        self._over(fail)

    def _over(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
