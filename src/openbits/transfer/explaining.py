"""What `bits proxy explain` wants to know of the network: what would be tried for a URL, and what the proxy says to it.

The choice is made as for a transfer. Then the first proxy of it is asked once, without any credentials: HEAD of the
URL, or, for https, a tunnel to its server, which says by itself whether the proxy wants somebody to prove who he is.
Whatever it answers, nothing is tried a second time.
"""

from collections.abc import Callable
from typing import Final

from openbits.channel import Message
from openbits.core.proxies import Proxy
from openbits.core.proxies import Settings as ProxySettings
from openbits.transfer import challenges, urls
from openbits.transfer.choosing import Chooser, Chosen
from openbits.transfer.curl import Exchange
from openbits.transfer.decisions import Fail
from openbits.transfer.headers import BadResponseError, Head, HeadCollector
from openbits.transfer.loop import Timer
from openbits.transfer.request import Breakage, Request
from openbits.transfer.urls import BadUrlError, Target

PROBE_SECONDS: Final = 15.0

Tell = Callable[[Message], None]


def explain(chooser: Chooser, url: str, settings: ProxySettings, tell: Tell) -> None:
    """Tell the fields of the event `explained` (docs/processes.md), perhaps at once."""
    try:
        target = urls.parse(url)
    except BadUrlError as error:
        tell(_told(problem={"hresult": error.hresult, "text": str(error)}))
        return

    def chosen(result: Chosen | Fail) -> None:
        if isinstance(result, Fail):
            tell(_told(problem={"hresult": result.hresult, "text": result.detail}))
            return
        told = _told(
            choice=[None if proxy is None else proxy.label for proxy in result.choice],
            why=result.why,
            notes=list(result.notes),
        )
        proxy = result.choice[0]
        if proxy is None:
            tell(told)
        else:
            Probe(chooser, target, proxy, lambda found: tell({**told, **found})).begin()

    chooser.choose(settings, target, chosen)


def _told(**fields: object) -> Message:
    nothing: Message = {"choice": [], "why": "", "notes": [], "problem": None}
    return {**nothing, "asked": None, "answer": "", "schemes": [], **fields}


class Probe:
    """One question to one proxy; the listener of its exchange."""

    def __init__(self, chooser: Chooser, target: Target, proxy: Proxy, done: Tell) -> None:
        self._loop = chooser.loop
        self._engine = chooser.engine
        self._target = target
        self._proxy = proxy
        self._done = done
        self._exchange: Exchange | None = None
        self._timer: Timer | None = None
        self._collector = HeadCollector()
        self._tunnel: Head | None = None
        self._head: Head | None = None
        self._is_connected = False

    def begin(self) -> None:
        """Ask."""
        self._timer = self._loop.call_at(self._loop.now() + PROBE_SECONDS, self._time_out)
        request = Request(method="HEAD", target=self._target, proxy=self._proxy, is_unshared=True)
        self._exchange = self._engine.send(request, self)

    def _time_out(self) -> None:
        if self._exchange is not None:
            self._exchange.cancel()
        self._over(f"no answer within {PROBE_SECONDS:g} s", None)

    def _over(self, answer: str, head: Head | None, hresult: int | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        asked = challenges.parse(head.values("proxy-authenticate")) if head is not None and head.status == 407 else ()
        schemes = list(dict.fromkeys(challenge.scheme for challenge in asked))
        problem = None if hresult is None else {"hresult": hresult, "text": answer}
        self._done({"asked": self._proxy.label, "answer": answer, "schemes": schemes, "problem": problem})

    # -- the exchange, told by libcurl ----------------------------------------------------------------------------

    def connected(self, local_port: int) -> None:
        """See Listener: what comes now is of the server."""
        self._is_connected = True
        self._collector = HeadCollector()

    def reconnecting(self) -> None:
        """See Listener: it has no connection of before."""

    def header(self, line: bytes) -> int | None:
        """See Listener."""
        try:
            head = self._collector.feed(line)
        except BadResponseError:
            return -1
        if head is not None and self._is_connected:
            self._head = head
        elif head is not None:
            self._tunnel = head
        return None

    def body(self, data: bytes) -> int | None:
        """See Listener: HEAD has none."""
        return -1

    def ended(self, breakage: Breakage | None) -> None:
        """See Listener: the first thing that the proxy said counts; what is beyond it is not its fault."""
        head = self._tunnel or self._head
        if head is not None:
            self._over(head.status_line, head)
        elif breakage is not None:
            self._over(breakage.words, None, breakage.hresult)
        else:
            self._over("it lets everybody through", None)
