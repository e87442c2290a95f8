"""Getting proxy scripts: from the URL that settings name, or from the network (WPAD by names).

What a network says by itself decides where everything goes, so names are asked for with care: `wpad` as the resolver
completes it, then `wpad.` and each search domain of this machine, then the domains above those, but never one of which
nobody knows that a single organisation owns it (`domains_above`). Asked directly, without credentials; a redirect may
not leave the server. Where every name is unknown, or nothing at it has a script, there is none.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openbits.core import codes
from openbits.core.proxies import Settings as ProxySettings
from openbits.core.proxies import Usage
from openbits.core.wording import public_url
from openbits.transfer import urls
from openbits.transfer.curl import Engine, Exchange
from openbits.transfer.headers import BadResponseError, Head, HeadCollector
from openbits.transfer.loop import Loop, Timer
from openbits.transfer.request import Breakage, Request
from openbits.transfer.urls import Target

MAX_BYTES: Final = 1 << 20

FETCH_SECONDS: Final = 10.0

KEPT_SECONDS: Final = 300.0
"""How long a script, or that there is none, is believed."""

FAILED_SECONDS: Final = 10.0
"""The same for a script that cannot be got: the files of a job do not ask one by one."""

MAX_REDIRECTS: Final = 3

MAX_DOMAINS: Final = 6

MAX_PLACES: Final = 16

RESOLVER: Final = Path("/etc/resolv.conf")

_FOLLOWED: Final = frozenset({301, 302, 303, 307, 308})

_NO_SCRIPT: Final = frozenset({401, 403, 404, 405, 410, 501})
"""Answers of a server that has none."""

_NOBODY: Final = frozenset({codes.ERROR_WINHTTP_NAME_NOT_RESOLVED, codes.ERROR_WINHTTP_CANNOT_CONNECT})

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")

_CALLABLE: Final = b"FindProxyForURL"


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and where it is from."""

    code: bytes
    place: str


@dataclass(frozen=True, slots=True)
class Missing:
    """There is none. `is_certain`: nothing was found where one could have been; else it could not be got."""

    why: str
    is_certain: bool


Found = Script | Missing
Done = Callable[[Found], None]


def domains_above(domain: str) -> list[str]:
    """The domain, and those above it that belong to the same organisation as far as that can be known without a list.

    Two labels at least; three below a country (`example.co.uk`: `co.uk` is everybody's, and who knows of `example.de`).
    """
    labels = domain.lower().strip(".").split(".")
    if len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdecimal():
        return []
    fewest = 3 if len(labels[-1]) == 2 else 2
    above = [".".join(labels[cut:]) for cut in range(1, len(labels) - fewest + 1)]
    return [".".join(labels), *above]


def places(resolver: str) -> list[str]:
    """The URLs at which a network may have a script, by the text of resolv.conf."""
    domains = list[str]()
    for line in resolver.splitlines():
        word, *rest = line.split() or [""]
        if word in {"search", "domain"}:
            domains = rest  # the last line counts
    above = [name for domain in domains[:MAX_DOMAINS] for name in domains_above(domain)]
    found = ["http://wpad/wpad.dat", *(f"http://wpad.{name}/wpad.dat" for name in dict.fromkeys(above))]
    return found[:MAX_PLACES]


class Scripts:
    """The scripts that transfers of one worker need, each got once in a while."""

    def __init__(self, loop: Loop, engine: Engine) -> None:
        self._loop = loop
        self._engine = engine
        self._known: dict[str, tuple[float, Found]] = {}
        self._waiting: dict[str, list[Done]] = {}
        self._searches: dict[str, Search] = {}

    def get(self, settings: ProxySettings, done: Done) -> None:
        """Tell `done` the script that the settings mean."""
        key = settings.script_url if settings.usage is Usage.SCRIPT else ""
        known = self._known.get(key)
        if known is not None and known[0] > self._loop.now():
            done(known[1])
            return
        self._waiting.setdefault(key, []).append(done)
        if key not in self._searches:
            where = [key] if key else places(_text_of(RESOLVER))
            search = self._searches[key] = Search(
                self._loop, self._engine, where, lambda found: self._got(key, found), is_named=bool(key)
            )
            search.begin()

    def _got(self, key: str, found: Found) -> None:
        del self._searches[key]
        is_sure, now = isinstance(found, Script) or found.is_certain, self._loop.now()
        self._known = {other: known for other, known in self._known.items() if known[0] > now}
        self._known[key] = (now + (KEPT_SECONDS if is_sure else FAILED_SECONDS), found)
        for done in self._waiting.pop(key, []):
            done(found)


class Search:
    """Asks one place after the other until one has a script; the listener of its exchanges.

    `is_named`: it has to be at the one place; else it may be that there is none.
    """

    def __init__(self, loop: Loop, engine: Engine, where: Iterable[str], done: Done, *, is_named: bool) -> None:
        self._loop = loop
        self._engine = engine
        self._places = list(where)
        self._is_named = is_named
        self._done = done
        self._exchange: Exchange | None = None
        self._timer: Timer | None = None
        self._target: Target | None = None
        self._hops = 0
        self._collector = HeadCollector()
        self._head: Head | None = None
        self._body = bytearray()
        self._tried: list[str] = []

    def begin(self) -> None:
        """Ask the next place; later, so that nobody hears of the end before this returns."""
        self._loop.post(self._next)

    def _next(self) -> None:
        if not self._places:
            self._done(Missing("; ".join(self._tried), is_certain=not self._is_named))
            return
        self._hops = 0
        url = self._places.pop(0)
        try:
            target = urls.parse(url)
        except urls.BadUrlError as error:
            self._done(Missing(f"{public_url(url)}: {error}", is_certain=False))
            return
        self._timer = self._loop.call_at(self._loop.now() + FETCH_SECONDS, self._time_out)
        self._send(target)

    def _send(self, target: Target) -> None:
        self._target = target
        self._collector, self._head, self._body = HeadCollector(), None, bytearray()
        self._exchange = self._engine.send(Request(method="GET", target=target), self)

    def _time_out(self) -> None:
        if self._exchange is not None:
            self._exchange.cancel()
        self._over(f"no script within {FETCH_SECONDS:g} s", is_nothing=False)

    def _over(self, words: str, *, is_nothing: bool) -> None:
        """The place has none. `is_nothing`: there certainly is none, or it is nobody's."""
        if self._timer is not None:
            self._timer.cancel()
        self._exchange = None
        self._tried.append(f"{self._target.label if self._target else ''}: {words}")
        if is_nothing and not self._is_named:
            self._next()
        else:
            self._done(Missing("; ".join(self._tried), is_certain=False))

    # -- the exchange, told by libcurl ----------------------------------------------------------------------------

    def connected(self, local_port: int) -> None:
        """See Listener."""

    def reconnecting(self) -> None:
        """See Listener: there is no proxy."""

    def header(self, line: bytes) -> int | None:
        """See Listener."""
        try:
            self._head = self._collector.feed(line) or self._head
        except BadResponseError:
            return -1
        return None

    def body(self, data: bytes) -> int | None:
        """See Listener."""
        self._body += data
        return -1 if len(self._body) > MAX_BYTES else None

    def ended(self, breakage: Breakage | None) -> None:
        """See Listener."""
        self._exchange = None
        head, target = self._head, self._target
        if len(self._body) > MAX_BYTES:
            self._over(f"more than {MAX_BYTES} bytes", is_nothing=False)
        elif breakage is not None:
            self._over(breakage.words, is_nothing=breakage.hresult in _NOBODY)
        elif head is None or target is None:
            self._over("no answer", is_nothing=False)
        elif head.status in _FOLLOWED and (location := head.value("location")) is not None:
            self._follow(target, location)
        elif head.status != 200:
            self._over(f"the server answered {head.status_line}", is_nothing=head.status in _NO_SCRIPT)
        elif _CALLABLE not in self._body:
            self._over("what is there is no proxy script", is_nothing=True)
        else:
            if self._timer is not None:
                self._timer.cancel()
            self._done(Script(_as_utf8(bytes(self._body)), target.label))

    def _follow(self, target: Target, location: str) -> None:
        self._hops += 1
        try:
            following = urls.redirect(target, location)
        except urls.RedirectRefusedError as error:
            self._over(str(error), is_nothing=False)
            return
        if self._hops > MAX_REDIRECTS or following.origin != target.origin:
            self._over(f"it redirects to {following.label}, which is not followed", is_nothing=False)
        else:
            self._send(following)


def _as_utf8(code: bytes) -> bytes:
    """Old scripts have comments in the letters of their country."""
    try:
        return code.decode().removeprefix("\ufeff").encode()
    except UnicodeDecodeError:
        return code.decode("latin-1").encode()


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
