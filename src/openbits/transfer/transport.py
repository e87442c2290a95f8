"""What moves files: the protocol every transport follows, and the registry of transports by URL scheme.

A transport lives in the worker's one loop and never blocks it. It gets an order, a sink that already holds the
descriptor, and somebody to tell the news; it opens no path. What it must do in every fault is one suite of tests for
all transports (design §6).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from openbits.core.enums import ErrorContext
from openbits.core.model import Validators
from openbits.core.proxies import DIRECT, Proxies
from openbits.transfer.download import Fail, Finish, Restart
from openbits.transfer.loop import Loop
from openbits.transfer.sink import Sink


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The three clocks: connected within, first answer within, then at least `floor_bytes` in `floor_seconds`."""

    connect_seconds: float
    first_byte_seconds: float
    floor_bytes: int
    floor_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for all transfers of a worker. `ca_file`: a readable PEM file of trusted certificates, if any."""

    limits: Limits
    ca_file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why no TLS connection may be made: nobody could check the certificate of the server (jobs.md §9.8 V6)."""

    hresult: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Move the file behind `url`, through `proxies`; bytes that are here already belong to version `validators`.

    `headers`: names and values of fields that every request has, in place of those of the same names that it had by
    itself. They are secrets.
    `source`: for transports that copy from a file of this machine, a descriptor to read it, which the transfer owns.
    `is_upload`: the source is the local file, what is made the remote one.
    """

    url: str
    validators: Validators
    proxies: Proxies = DIRECT
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    source: int | None = None
    is_upload: bool = False
    tls_refusal: Refusal | None = None


class News(Protocol):
    """Takes what happens to one transfer; `transferred`, `restarted` and `failed` are last words. docs/processes.md."""

    def phase(self, text: str) -> None:
        """What it is doing now, for people."""

    def responded(self, headers: str) -> None:
        """A final response came, of whatever kind: its header block (`headers.Head.block`). It goes along with news."""

    def connected(self, validators: Validators, offset: int, note: str) -> None:
        """The first response was accepted; bytes are written from `offset` on."""

    def restarted(self, reason: str) -> None:
        """The bytes that are here cannot be continued. They are untouched: who counts them has to forget them first."""

    def transferred(self, size_bytes: int, modified_at: float | None) -> None:
        """All bytes are on the disk."""

    def failed(self, hresult: int, context: ErrorContext, detail: str, retry_after_seconds: float | None) -> None:
        """The attempt is over; what could be saved is on the disk."""


def last_word(outcome: Finish | Fail | Restart, news: News) -> None:
    """Say how a transfer ended; what it wrote is saved."""
    match outcome:
        case Restart(reason=reason):
            news.restarted(reason)
        case Finish(size_bytes=size_bytes, modified_at=modified_at):
            news.transferred(size_bytes, modified_at)
        case Fail(hresult=hresult, context=context, detail=detail, retry_after_seconds=retry_after_seconds):
            news.failed(hresult, context, detail, retry_after_seconds)


class Transfer(Protocol):
    """One file on its way."""

    def begin(self) -> None:
        """Start; news may come before this returns."""

    def tick(self, now: float) -> None:
        """Called about twice a second while the transfer lives: look at the clocks, tell the phase."""

    def cancel(self) -> None:
        """Stop at once, with no further news; may be called at any moment after `begin`, also after the last news."""


class Transport(Protocol):
    """Makes transfers of its URL schemes."""

    def transfer(self, order: Order, sink: Sink, news: News) -> Transfer:
        """A transfer that has not begun; it continues at the position of the sink. Raises BadUrlError."""


Factory = Callable[[Loop, Settings], Transport]

_FACTORIES: dict[str, Factory] = {}

COPYING: set[str] = set()
"""Schemes whose orders come with a source."""

_F = TypeVar("_F", bound=Factory)


def register(*schemes: str, is_copying: bool = False) -> Callable[[_F], _F]:
    """Class decorator: this transport moves files of these URL schemes; a copying one needs a source."""

    def enter(factory: _F) -> _F:
        _FACTORIES.update(dict.fromkeys(schemes, factory))
        COPYING.update(schemes if is_copying else ())
        return factory

    return enter


def build(loop: Loop, settings: Settings) -> dict[str, Transport]:
    """One instance of every registered transport, by scheme."""
    made = {factory: factory(loop, settings) for factory in set(_FACTORIES.values())}
    return {scheme: made[factory] for scheme, factory in _FACTORIES.items()}
