"""Evaluating proxy scripts: from a script and a URL to proxies, without ever blocking the worker's loop.

The script runs in the sandbox (`pac_sandbox`); this is who watches it: answers its questions for addresses from
threads, up to a number, and gives it up after a while. The same question is not asked twice within a short time.
"""

import contextlib
import hashlib
import re
import selectors
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from openbits import channel
from openbits.channel import ChannelClosedError, Message
from openbits.core import pac
from openbits.core.pac import BadScriptError, Choice
from openbits.transfer.headers import printable
from openbits.transfer.loop import Loop, Timer
from openbits.transfer.pac_sandbox import Nursery
from openbits.transfer.urls import Target

WALL_SECONDS: Final = 10.0
"""How long one evaluation may take, look-ups included."""

MAX_LOOKUPS: Final = 32
"""Names that one evaluation may ask for: a name can carry data to its server."""

AT_ONCE: Final = 4
"""Evaluations under way; the others wait."""

ANSWERS_SECONDS: Final = 60.0
"""How long an answer for the same URL holds."""

MAX_ANSWERS: Final = 1024

_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?")
_QUERY: Final = re.compile(r"\?\S*")
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses of documentation: where packets to the world would leave from. None is sent."""

Done = Callable[[Choice | BadScriptError], None]


@dataclass(eq=False, slots=True)
class Evaluation:
    """One question to one script."""

    script: bytes
    target: Target
    done: Done
    key: bytes
    channel: socket.socket | None = None
    timer: Timer | None = None
    lookups: int = 0
    is_over: bool = False


class Evaluator:
    """Evaluates scripts for the transfers of one worker."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._nursery = Nursery()  # at the start, before anything secret and any thread is in this process
        self._waiting: deque[Evaluation] = deque()
        self._running: set[Evaluation] = set()
        self._answers: OrderedDict[bytes, tuple[float, Choice]] = OrderedDict()
        self._threads: ThreadPoolExecutor | None = None

    def evaluate(self, script: bytes, target: Target, done: Done) -> None:
        """Tell `done` which proxies the script names for this URL."""
        evaluation = Evaluation(script, target, done, _key(script, _url_of(target)))
        known = self._answers.get(evaluation.key)
        if known is not None and known[0] > self._loop.now():
            done(known[1])
            return
        self._waiting.append(evaluation)
        self._begin()

    def _begin(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            evaluation = self._waiting.popleft()
            self._running.add(evaluation)
            try:
                evaluation.channel = self._nursery.begin(evaluation.script, _question(evaluation.target))
            except (ChannelClosedError, OSError) as error:
                self._loop.post(partial(self._fail, evaluation, f"it cannot be run: {error}"))
                continue
            words = f"no answer within {WALL_SECONDS:g} s"
            evaluation.timer = self._loop.call_at(
                self._loop.now() + WALL_SECONDS, partial(self._fail, evaluation, words)
            )
            self._loop.watch(evaluation.channel.fileno(), selectors.EVENT_READ, partial(self._heard, evaluation))

    def _heard(self, evaluation: Evaluation, _events: int) -> None:
        assert evaluation.channel is not None  # noqa: S101  # it is what was heard of
        try:
            message, descriptors = channel.receive(evaluation.channel)
            channel.close_all(descriptors)
        except (ChannelClosedError, OSError):
            self._fail(evaluation, "it was ended for the time or the memory that it used")
            return
        if isinstance(message.get("resolve"), str):
            self._resolve(evaluation, message["resolve"])
        elif isinstance(message.get("answer"), str):
            self._answer(evaluation, message["answer"])
        else:
            self._fail(evaluation, _QUERY.sub("?…", printable(str(message.get("error")), 200)))

    def _answer(self, evaluation: Evaluation, answer: str) -> None:
        try:
            choice = pac.read_answer(answer)
        except BadScriptError as error:
            self._fail(evaluation, _QUERY.sub("?…", str(error)))
            return
        self._answers[evaluation.key] = (self._loop.now() + ANSWERS_SECONDS, choice)
        while len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)
        self._end(evaluation, choice)

    def _fail(self, evaluation: Evaluation, why: str) -> None:
        self._end(evaluation, BadScriptError(why))

    def _end(self, evaluation: Evaluation, result: Choice | BadScriptError) -> None:
        if evaluation.is_over:
            return
        evaluation.is_over = True
        self._release(evaluation)
        self._begin()
        evaluation.done(result)

    def _release(self, evaluation: Evaluation) -> None:
        self._running.discard(evaluation)
        if evaluation.timer is not None:
            evaluation.timer.cancel()
        if evaluation.channel is not None:
            self._loop.unwatch(evaluation.channel.fileno())
            evaluation.channel.close()

    # -- addresses ------------------------------------------------------------------------------------------------

    def _resolve(self, evaluation: Evaluation, name: str) -> None:
        evaluation.lookups += 1
        if evaluation.lookups > MAX_LOOKUPS:
            self._fail(evaluation, f"it asks for more than {MAX_LOOKUPS} names")
            return
        if not _HOST.fullmatch(name):
            self._tell(evaluation, ())
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pac")
        found = self._threads.submit(addresses_of, name)
        found.add_done_callback(
            lambda future: self._loop.post(lambda: self._tell(evaluation, future.result()))  # in the loop's thread
        )

    def _tell(self, evaluation: Evaluation, addresses: Sequence[str]) -> None:
        if evaluation.is_over or evaluation.channel is None:
            return
        with contextlib.suppress(ChannelClosedError):  # heard of by the loop
            channel.send(evaluation.channel, {"addresses": addresses})


def addresses_of(name: str) -> list[str]:
    """What the resolver of this machine says; none if it does not know the name."""
    try:
        found = socket.getaddrinfo(
            name.encode(), None, type=socket.SOCK_STREAM
        )  # text would be encoded by a late import
    except OSError:
        return []
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))


def own_addresses() -> list[str]:
    """From where this machine would send into the world; none if it is not connected."""
    found = []
    for family, elsewhere in _ELSEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            found.append(str(probe.getsockname()[0]).partition("%")[0])
    return found


def _url_of(target: Target) -> str:
    return pac.told_of(target.scheme, target.url, target.resource)


def _question(target: Target) -> Message:
    now = datetime.now(UTC)
    return {
        "url": _url_of(target),
        "host": target.host.removeprefix("[").removesuffix("]"),
        "local": now.astimezone().replace(tzinfo=None).isoformat(),
        "utc": now.replace(tzinfo=None).isoformat(),
        "addresses": own_addresses(),
    }


def _key(script: bytes, url: str) -> bytes:
    return hashlib.sha256(hashlib.sha256(script).digest() + url.encode()).digest()
