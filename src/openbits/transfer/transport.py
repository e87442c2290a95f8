"""What moves files: the protocol every transport follows, and the registry of transports by URL scheme.

A transport lives in the worker's one loop and never blocks it. It gets an order, a sink that already holds the
descriptor, and somebody to tell the news; it opens no path. What it must do in every fault is one suite of tests for
all transports (design §6).
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from openbits.core.enums import SecurityFlags
from openbits.core.model import Range, UploadSession, Validators
from openbits.core.proxies import Settings as ProxySettings
from openbits.transfer.addresses import Network
from openbits.transfer.auth import NOTHING, Authentication
from openbits.transfer.decisions import Fail, Finish, Restart
from openbits.transfer.loop import Loop
from openbits.transfer.sink import Sink
from openbits.transfer.throttle import Limiter


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The clocks of an exchange: connected within, first answer within, then `floor_bytes` in `floor_seconds`.

    Of uploads: the longest silence of a connection that takes the body of a request, the longest wait for the answer to
    one, and for that of an application that has to make a reply (upload-protocol.md §7.3, D29).
    """

    connect_seconds: float
    first_byte_seconds: float
    floor_bytes: int
    floor_seconds: float
    send_seconds: float
    answer_seconds: float
    application_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for all transfers of a worker. `ca_file`: a readable PEM file of trusted certificates, if any.

    `is_strict`: servers that lack what BITS needs are errors, as documented (jobs.md §9.1).
    `denied`: no connection is made to an address of these networks.
    `limiter`: what all of them together may receive from web servers; none: no limit but those of the jobs.
    """

    limits: Limits
    ca_file: str | None
    is_strict: bool = False
    denied: tuple[Network, ...] = ()
    limiter: Limiter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why no TLS connection may be made: nobody could check the certificate of the server (jobs.md §9.8 V6)."""

    hresult: int
    detail: str


class UploadStep(enum.StrEnum):
    """What is to be done for an upload to a web server; the manager commits what came of it before the next one."""

    SEND = "send"
    """Have the server take all bytes: session, fragments."""
    CLOSE = "close"
    """End the session of an upload that is received, whose reply is here."""
    CANCEL = "cancel"
    """Have the server forget an upload that is not wanted any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOrder:
    """Of an upload to a web server. `session`: None: there is none yet. `acknowledged_bytes`: how far it is.

    `name`: of the local file, for Content-Name. `is_reply_wanted`: the answer to the last byte may take as long as an
    application needs.
    """

    step: UploadStep
    session: UploadSession | None
    acknowledged_bytes: int
    name: str
    is_reply_wanted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Move the file behind `url`; bytes that are here already belong to version `validators`.

    `proxies`: the settings by which each request chooses (`choosing`).
    `job`: whose transfer it is; connections are not shared with others.
    `headers`: names and values of fields that every request has, in place of those of the same names that it had by
    itself. They are secrets.
    `source`: for transports that copy from a file of this machine, a descriptor to read it, which the transfer owns.
    `given_url`: what a client named the file, if `url` is where a redirect led; what proves who asks is for its server.
    `is_upload`: the source is the local file, what is made the remote one.
    `upload`: of an upload to a web server; the source is the descriptor of the local file, and there is no sink.
    `authentication`: what the job may prove itself with, to whoever asks.
    `method`: of the requests; another one than GET cannot be resumed, nor can what `is_dynamic`.
    `has_certificate_callback`: nothing is said to a server over TLS before the client has seen its certificate.
    `client_certificate`: certificates and key (PEM) for the server of `url`.
    `revocation_lists`: those of this machine (PEM).
    `size_limit_bytes`: largest size of the file that the job may download, if there is a limit.
    `ranges`: what the local file is made of, in this order; none: all of the remote one.
    `wanted`: what comes first; `is_on_demand`: nothing else comes. `filled`: what is here beyond the first bytes.
    `rate_bytes_per_second`: what the job may receive from web servers, from this order on; None: as much as it can.
    `segments`: how many connections may fetch the file at a time, if it is large.
    """

    job: str
    url: str
    validators: Validators
    security_flags: SecurityFlags
    proxies: ProxySettings = ProxySettings()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    source: int | None = None
    is_upload: bool = False
    upload: UploadOrder | None = None
    tls_refusal: Refusal | None = None
    has_certificate_callback: bool = False
    client_certificate: str | None = field(default=None, repr=False)
    revocation_lists: bytes = field(default=b"", repr=False)
    is_foreground: bool = True
    method: str = "GET"
    is_dynamic: bool = False
    given_url: str = ""
    size_limit_bytes: int | None = None
    ranges: tuple[Range, ...] = ()
    wanted: tuple[Range, ...] = ()
    filled: tuple[Range, ...] = ()
    is_on_demand: bool = False
    segments: int = 1
    rate_bytes_per_second: int | None = None
    authentication: Authentication = NOTHING


class News(Protocol):
    """Takes what happens to one transfer; `transferred`, `restarted` and `failed` are last words. docs/processes.md."""

    def phase(self, text: str) -> None:
        """What it is doing now, for people."""

    def responded(self, headers: str) -> None:
        """A final response came, of whatever kind: its header block (`headers.Head.block`). It goes along with news."""

    def went(self, peer: str, remote_name: str) -> None:
        """How the way ended; it goes along with news.

        `peer`: scheme, host and port that the last request went to; empty if it went through a proxy. `remote_name`:
        what the file has to be called from now on (jobs.md §9.4); empty: as it is.
        """

    def certificate(self, server: str, certificate: bytes, chain: list[bytes], then: Callable[[int], None]) -> None:
        """Have the certificate (DER) of `server` (host:port) shown to the client; call back with its HRESULT."""

    def connected(self, validators: Validators, offset: int, note: str) -> None:
        """The first response was accepted; bytes are written from `offset` on."""

    def acknowledged(self, session: UploadSession | None, offset: int, note: str) -> None:
        """An upload: the server has `offset` bytes of it under this session; None: it has forgotten it.

        It may be less than before (upload-protocol.md §7.2).
        """

    def filled(self, parts: Sequence[Range], arrived_bytes: int) -> None:
        """These parts of the file, with their lengths, are on the disk; so many bytes of it have come altogether."""

    def saving(self) -> None:
        """All its bytes have come and are brought to the disk: it needs the network no more."""

    def restarted(self, reason: str, hresult: int) -> None:
        """The bytes that are here cannot be continued. They are untouched: who counts them has to forget them first.

        `hresult`: what the error is if that happens too often.
        """

    def transferred(self, size_bytes: int, modified_at: float | None) -> None:
        """All bytes are on the disk."""

    def failed(self, fail: Fail) -> None:
        """The attempt is over; what could be saved is on the disk."""


def last_word(outcome: Finish | Fail | Restart, news: News) -> None:
    """Say how a transfer ended; what it wrote is saved."""
    match outcome:
        case Restart(reason=reason, hresult=hresult):
            news.restarted(reason, hresult)
        case Finish(size_bytes=size_bytes, modified_at=modified_at):
            news.transferred(size_bytes, modified_at)
        case Fail():
            news.failed(outcome)


class Transfer(Protocol):
    """One file on its way."""

    def begin(self) -> None:
        """Start; news may come before this returns."""

    def tick(self, now: float) -> None:
        """Called about twice a second while the transfer lives: look at the clocks, tell the phase."""

    def reposition(self, wanted: Sequence[Range]) -> None:
        """Fetch this first from now on, if the transport can; on demand nothing else. Comes only after `begin`."""

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
