"""Which proxies a request tries: the lists that settings have, or the script that they name, and who was dead lately.

One `Chooser` a worker: scripts, their answers and dead proxies are known to all of its transfers. What cannot be
found out is a failure, and never a way past the proxies; only where the network has no script at all (AUTODETECT) the
request goes directly, and the file says so.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from openbits.core import codes, pac, proxies
from openbits.core.pac import BadScriptError, Choice
from openbits.core.proxies import Proxies, Proxy, Usage
from openbits.core.proxies import Settings as ProxySettings
from openbits.transfer.curl import Engine
from openbits.transfer.decisions import Fail, failure
from openbits.transfer.loop import Loop
from openbits.transfer.pac import Evaluator
from openbits.transfer.scripts import Found, Script, Scripts
from openbits.transfer.transport import Settings
from openbits.transfer.urls import Target

DEAD_SECONDS: Final = 300.0
"""How long a proxy that could not be reached is tried after all others."""

STEP: Final = "choosing a proxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What to try, in this order. `notes`: what people should know about it. `why`: what decided."""

    choice: Choice
    notes: tuple[str, ...] = ()
    why: str = ""


Done = Callable[[Chosen | Fail], None]


class Chooser:
    """Chooses for the transfers of one worker."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self.loop = loop
        self.engine = Engine(loop, settings)
        """For what is asked about proxies: connections that no transfer uses."""
        self._evaluator = Evaluator(loop)
        self._scripts = Scripts(loop, self.engine)
        self._dead: dict[Proxy, float] = {}

    def choose(self, settings: ProxySettings, target: Target, done: Done) -> None:
        """Tell `done` what to try for this URL, perhaps at once; whoever asks may have lost interest by then."""
        if settings.usage in {Usage.AUTODETECT, Usage.SCRIPT}:
            self._scripts.get(settings, lambda found: self._got(found, target, done))
            return
        listed = _read(settings)
        found = listed.of(target.scheme, target.host, target.port)
        exception = listed.why_bypassed(target.host, target.port)
        if exception:
            why = f"{target.host} is an exception ({exception})"
        elif settings.usage is Usage.NO_PROXY:
            why = "no proxy is set"
        else:
            why = "the list of proxies" if found else f"the list has no proxy for {target.scheme}"
        done(self._ordered(Chosen(choice=tuple(found) or pac.DIRECT, why=why)))

    def died(self, proxy: Proxy) -> None:
        """It could not be reached."""
        now = self.loop.now()
        self._dead = {other: until for other, until in self._dead.items() if until > now}
        self._dead[proxy] = now + DEAD_SECONDS

    def _got(self, found: Found, target: Target, done: Done) -> None:
        if isinstance(found, Script):
            self._evaluator.evaluate(found.code, target, lambda result: self._ran(found, result, done))
        elif found.is_certain:
            note = f"no proxy script was found ({found.why}), connected directly"
            done(Chosen(choice=pac.DIRECT, notes=(note,), why="the network has no proxy script"))
        else:
            words = f"the proxy script cannot be got: {found.why}"
            done(failure(codes.ERROR_WINHTTP_UNABLE_TO_DOWNLOAD_SCRIPT, STEP, words))

    def _ran(self, script: Script, result: Choice | BadScriptError, done: Done) -> None:
        if isinstance(result, BadScriptError):
            words = f"the proxy script of {script.place} failed: {result}"
            done(failure(codes.ERROR_WINHTTP_BAD_AUTO_PROXY_SCRIPT, STEP, words))
        else:
            done(self._ordered(Chosen(choice=result, why=f"the proxy script of {script.place}")))

    def _ordered(self, chosen: Chosen) -> Chosen:
        """Who was dead lately comes last."""
        now = self.loop.now()
        dead = [proxy for proxy in chosen.choice if proxy is not None and self._dead.get(proxy, 0.0) > now]
        if not dead or len(dead) == len(chosen.choice):
            return chosen
        living = [proxy for proxy in chosen.choice if proxy not in dead]
        told = ", ".join(proxy.label for proxy in dead)
        note = f"passed over for a while, because it could not be reached: {told}"
        return replace(chosen, choice=(*living, *dead), notes=(*chosen.notes, note))


@functools.lru_cache(maxsize=64)
def _read(settings: ProxySettings) -> Proxies:
    """The manager has read them before: they can be."""
    return proxies.read(settings)
