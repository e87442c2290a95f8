"""The network worker: a program with one identity that moves bytes between sockets and descriptors it was handed.

It opens no user's path and decides nothing about jobs. Its one loop waits for the control channel, the connections and
the clocks together; it ends when the channel closes or the manager says something it cannot mean (docs/processes.md,
"Manager ↔ network worker").
"""

import base64
import itertools
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from ipaddress import ip_network
from typing import Any, Final

from openbits import channel as channels
from openbits.channel import ChannelClosedError, Message
from openbits.core.codes import CodeClass
from openbits.core.enums import ErrorContext
from openbits.core.model import Range, UploadSession, Validators
from openbits.failpoints import failpoint
from openbits.transfer import filecopy, http, memory, messages, transport
from openbits.transfer.decisions import Fail
from openbits.transfer.explaining import explain
from openbits.transfer.http import HttpTransport
from openbits.transfer.loop import Loop, Timer
from openbits.transfer.messages import BrokenPeerError
from openbits.transfer.sink import Sink
from openbits.transfer.syncing import ThreadSyncer
from openbits.transfer.throttle import Limiter
from openbits.transfer.tickets import TicketCache
from openbits.transfer.transport import Limits, Order, Settings, Transfer, Transport
from openbits.transfer.turns import Turns
from openbits.transfer.upload_http import HttpUpload
from openbits.transfer.urls import BadUrlError, UnknownSchemeError

TICK_SECONDS: Final = 0.5
"""How often clocks are looked at and progress is told, while there is a transfer."""

MOST_RANGES: Final = 1000
"""Told in one message."""

MOST_WORDS: Final = 4000
"""Characters for people: a message has room for them, whatever a server made of them."""

MAX_CA_BYTES: Final = 16 * 1024 * 1024

_TRANSPORT_MODULES: Final = (http, filecopy)
"""Importing them registers them; late imports would fail under a dropped uid."""


def run(channel: socket.socket) -> None:
    """Serve the manager at the other end until the channel closes."""
    memory.give_back()
    Worker(channel).run()


class Worker:
    """The control channel and the transfers it asked for."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(True)  # a manager that does not read holds us up, which is right
        self._channel = channel
        self._loop = Loop()
        self._syncer = ThreadSyncer(self._loop)
        self._limiter = Limiter(self._loop)
        self._transports: dict[str, Transport] | None = None
        self._active: dict[str, Active] = {}
        self.turns = Turns()
        self._tickets = TicketCache()
        self._ticker: Timer | None = None
        self._operations: dict[str, Callable[[Message, list[int]], None]] = {
            "configure": self._configure,
            "transfer": self._transfer,
            "cancel": self._cancel,
            "limit": self._limit,
            "reposition": self._reposition,
            "explain": self._explain,
            "certificate-verdict": self._certificate_verdict,
            "kept": self._kept,
        }

    def run(self) -> None:
        """Serve until the channel closes."""
        self._loop.watch(self._channel.fileno(), selectors.EVENT_READ, lambda _events: self._receive())
        self._loop.run()
        for active in self._active.values():
            active.stop()

    def send(self, message: Message) -> None:
        """Tell the manager; if it is gone there is nothing left to do."""
        try:
            channels.send(self._channel, message)
        except ChannelClosedError:
            self._loop.stop()

    def forget(self, key: str) -> None:
        """The last word about a transfer was said."""
        active = self._active.pop(key, None)
        if active is not None:  # else it was refused before it began
            active.stop()

    def _receive(self) -> None:
        try:
            message, descriptors = channels.receive(self._channel)
        except ChannelClosedError:
            self._loop.stop()
            return
        try:
            self._dispatch(message, descriptors)
        except (BrokenPeerError, KeyError, TypeError, ValueError):
            channels.close_all(descriptors)
            self._loop.stop()

    def _dispatch(self, message: Message, descriptors: list[int]) -> None:
        operation = self._operations.get(str(message.get("op")))
        if operation is None:
            raise BrokenPeerError("unknown operation")
        operation(message, descriptors)

    # -- operations -----------------------------------------------------------------------------------------------

    def _configure(self, message: Message, descriptors: list[int]) -> None:
        if self._transports is not None or len(descriptors) > 1:
            raise BrokenPeerError("configured twice")
        given = message["limits"]
        limits = Limits(
            connect_seconds=float(given["connect_seconds"]),
            first_byte_seconds=float(given["first_byte_seconds"]),
            floor_bytes=int(given["floor_bytes"]),
            floor_seconds=float(given["floor_seconds"]),
            send_seconds=float(given["send_seconds"]),
            answer_seconds=float(given["answer_seconds"]),
            application_seconds=float(given["application_seconds"]),
        )
        rules = message["http"]
        settings = Settings(
            limits=limits,
            ca_file=_keep_certificates(descriptors.pop()) if descriptors else None,
            is_strict=rules["is_strict"] is True,
            denied=tuple(map(ip_network, rules["denied_networks"])),
            limiter=self._limiter,
        )
        self._transports = transport.build(self._loop, settings)

    def _transfer(self, message: Message, descriptors: list[int]) -> None:
        key, offset = str(message["transfer"]), int(message["offset"])
        if self._transports is None or key in self._active or offset < 0:
            raise BrokenPeerError(f"transfer {key} makes no sense now")
        given = messages.sort(message, descriptors)
        self._use_tickets(given.entrusted.get("tickets"), given.tickets)
        order = messages.read(message, given, self._tickets.problem)
        sink = None
        if given.target is not None:
            sink = Sink(given.target, self._syncer, self._loop.soon, offset, self._loop.now())
        active = self._active[key] = Active(self, key, sink, order.source, offset)
        begin = partial(active.begin, order, self._transports)
        self.turns.enter(key.rpartition(":")[0], key, int(message["at_a_time"]), begin)
        if self._ticker is None and self._active:
            self._tick_later()

    def _use_tickets(self, given: Mapping[str, Any] | None, copy: int | None) -> None:
        """Those of the newest order that needs some: they are all of the same identity."""
        if given is not None:
            self._tickets.use(str(given["name"]), str(given["problem"]), copy, time.time())

    def _cancel(self, message: Message, descriptors: list[int]) -> None:
        channels.close_all(descriptors)
        key = str(message["transfer"])
        active = self._active.pop(key, None)
        if active is not None:  # else its last word is on the way
            active.stop()
            self.turns.leave(key)

    def _limit(self, message: Message, descriptors: list[int]) -> None:
        channels.close_all(descriptors)
        self._limiter.limit(messages.number_or_none(message["bytes_per_second"]))

    def _reposition(self, message: Message, descriptors: list[int]) -> None:
        wanted = messages.ranges(messages.entrusted(descriptors.pop())["wanted"])
        active = self._active.get(str(message["transfer"]))
        if active is not None:  # else its last word is on the way
            active.reposition(wanted)

    def _explain(self, message: Message, descriptors: list[int]) -> None:
        channels.close_all(descriptors)
        key = str(message["transfer"])
        over_http = self._transports["http"] if self._transports is not None else None
        if not isinstance(over_http, HttpTransport):
            raise BrokenPeerError("explain before configure")
        explain(
            over_http.chooser,
            str(message["url"]),
            messages.proxies(message["proxy"]),
            lambda told: self.send({"event": "explained", "transfer": key, **told}),
        )

    def _kept(self, message: Message, descriptors: list[int]) -> None:
        channels.close_all(descriptors)
        active = self._active.get(str(message["transfer"]))
        if active is not None:  # else its last word is on the way
            active.kept()

    def _certificate_verdict(self, message: Message, descriptors: list[int]) -> None:
        channels.close_all(descriptors)
        active = self._active.get(str(message["transfer"]))
        if active is not None:  # else its last word is on the way
            active.decided(int(message["number"]), int(message["hresult"]))

    # -- clock ----------------------------------------------------------------------------------------------------

    def _tick_later(self) -> None:
        self._ticker = self._loop.call_at(self._loop.now() + TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        now = self._loop.now()
        for active in list(self._active.values()):
            active.tick(now)
        if self._active:
            self._tick_later()


class Active:
    """A transfer under way or waiting for its turn: its key on the channel, its sink, and the news it tells.

    An upload to a web server has no sink: what the server acknowledges is its progress.
    """

    def __init__(
        self, worker: Worker, key: str, sink: Sink | None, source: int | None, acknowledged_bytes: int
    ) -> None:
        self._worker = worker
        self._key = key
        self._sink = sink
        self._source = source
        """Of the order, until there is a transfer that owns it."""
        self._acknowledged_bytes = acknowledged_bytes
        self._transfer: Transfer | None = None
        self._told = (0, 0) if sink is None else (sink.position, sink.durable)
        self._numbers = itertools.count(1)
        self._questions: dict[int, Callable[[int], None]] = {}
        """About certificates of servers, not answered yet."""
        self._headers = ""
        self._way = {"peer": "", "remote_name": ""}
        self._wanted: tuple[Range, ...] | None = None
        """What is to be fetched first, if that has changed since the order was given."""
        self._connected: Message | None = None
        """What was accepted and not told yet: a file that comes whole in one go needs no news of its own for it."""

    def reposition(self, wanted: tuple[Range, ...]) -> None:
        """Fetch this first; if its turn has not come yet, then."""
        if self._transfer is not None:
            self._transfer.reposition(wanted)
        self._wanted = wanted

    def begin(self, order: Order, transports: Mapping[str, Transport]) -> None:
        """Its turn has come."""
        scheme = order.url.partition(":")[0].lower()
        order = order if self._wanted is None else replace(order, wanted=self._wanted)
        try:
            if scheme not in transports:
                raise UnknownSchemeError(scheme, transports)
            self._transfer = self._made(transports[scheme], order)
        except BadUrlError as error:
            context = ErrorContext.GENERAL_TRANSPORT
            self.failed(Fail(hresult=error.hresult, context=context, detail=str(error)))
            return
        self._source = None
        self._transfer.begin()
        failpoint("worker.begun")

    def _made(self, over: Transport, order: Order) -> Transfer:
        if self._sink is not None:
            return over.transfer(order, self._sink, self)
        if not isinstance(over, HttpTransport):
            raise BrokenPeerError("an upload without a file to write")
        return over.upload(order, self)

    def kept(self) -> None:
        """The session of the upload is in the store."""
        if isinstance(self._transfer, HttpUpload):
            self._transfer.kept()

    def tick(self, now: float) -> None:
        """Look at the clocks, have data synced, tell the progress."""
        if self._transfer is None:
            return
        self._transfer.tick(now)
        self._tell_connected()
        if self._sink is not None:
            self._save(self._sink, now)

    def _save(self, sink: Sink, now: float) -> None:
        sink.sync_if_due(now)
        progress = (sink.position, sink.durable)
        if progress != self._told:
            self._told = progress
            failpoint("worker.durable")
            self._tell("progressed", transferred_bytes=progress[0], durable_bytes=progress[1])
            failpoint("worker.progress-told")

    def stop(self) -> None:
        """No further news, nothing held."""
        if self._transfer is not None:
            self._transfer.cancel()
        if self._source is not None:
            os.close(self._source)
            self._source = None
        if self._sink is not None:
            self._sink.close()

    # -- News -----------------------------------------------------------------------------------------------------

    def certificate(self, server: str, certificate: bytes, chain: list[bytes], then: Callable[[int], None]) -> None:
        """See News."""
        number = next(self._numbers)
        self._questions[number] = then
        shown = {"certificate": _base64(certificate), "chain": [_base64(one) for one in chain]}
        self._tell("certificate", number=number, server=server, **shown)

    def decided(self, number: int, hresult: int) -> None:
        """The client has answered."""
        then = self._questions.pop(number, None)
        if then is not None:
            then(hresult)

    def phase(self, text: str) -> None:
        """See News."""
        self._tell("phase", text=text)

    def responded(self, headers: str) -> None:
        """See News."""
        self._headers = headers

    def went(self, peer: str, remote_name: str) -> None:
        """See News."""
        self._way = {"peer": peer, "remote_name": remote_name}

    def connected(self, validators: Validators, offset: int, note: str) -> None:
        """See News."""
        self._connected = {
            "size_bytes": validators.size_bytes,
            "etag": validators.etag,
            "last_modified": validators.last_modified,
            "media_type": validators.media_type,
            "offset": offset,
            "note": note[:MOST_WORDS],
            "headers": self._headers,
            **self._way,
        }

    def acknowledged(self, session: UploadSession | None, offset: int, note: str) -> None:
        """See News."""
        self._tell_connected()
        self._acknowledged_bytes = offset
        failpoint("worker.acknowledged")
        self._tell(
            "acknowledged",
            session=None if session is None else asdict(session),
            acknowledged_bytes=offset,
            note=note[:MOST_WORDS],
            headers=self._headers,
            peer=self._way["peer"],
        )
        failpoint("worker.acknowledged-told")

    def filled(self, parts: Sequence[Range], arrived_bytes: int) -> None:
        """See News."""
        self._tell_connected()
        failpoint("worker.part-durable")
        for first in range(0, len(parts), MOST_RANGES):
            told = [[part.offset, part.length_bytes] for part in parts[first : first + MOST_RANGES]]
            self._tell("filled", ranges=told, transferred_bytes=arrived_bytes)
        failpoint("worker.part-told")

    def saving(self) -> None:
        """See News."""
        self._worker.turns.save(self._key)

    def restarted(self, reason: str, hresult: int) -> None:
        """See News."""
        self._tell_connected()
        self._worker.turns.restart(self._key)
        self._worker.forget(self._key)
        failpoint("worker.restarted")
        self._tell("restarted", reason=reason, hresult=hresult)

    def transferred(self, size_bytes: int, modified_at: float | None) -> None:
        """See News."""
        self._worker.forget(self._key)
        failpoint("worker.transferred")
        connected = {} if self._connected is None else {"connected": self._connected}
        self._tell("transferred", size_bytes=size_bytes, modified_at=modified_at, **connected)
        self._worker.turns.leave(self._key)
        failpoint("worker.transferred-told")

    def failed(self, fail: Fail) -> None:
        """See News."""
        self._tell_connected()
        self._worker.forget(self._key)
        tell = partial(
            self._tell,
            "failed",
            hresult=fail.hresult,
            context=fail.context.name.lower(),
            detail=fail.detail[:MOST_WORDS],
            retry_after_seconds=fail.retry_after_seconds,
            is_transient=fail.code_class is CodeClass.TRANSIENT,
            is_fatal=fail.code_class is CodeClass.FATAL,
            durable_bytes=self._acknowledged_bytes if self._sink is None else self._sink.durable,
            headers=self._headers,
            **self._way,
        )
        self._worker.turns.fail(self._key, tell)

    def _tell_connected(self) -> None:
        if self._connected is not None:
            self._tell("connected", **self._connected)
            self._connected = None
            failpoint("worker.connected-told")

    def _tell(self, event: str, **fields: object) -> None:
        self._worker.send({"event": event, "transfer": self._key, **fields})


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _keep_certificates(descriptor: int) -> str:
    """Copy the certificates into memory of our own; returns a path that libcurl can read again and again.

    Given a path, libcurl caches the parsed store between connections, which it does not do for certificates in memory;
    this path works without any access to the file system.
    """
    with os.fdopen(descriptor, "rb") as source:
        data = source.read(MAX_CA_BYTES)
    kept = os.memfd_create("openbits-ca", os.MFD_CLOEXEC)
    with os.fdopen(kept, "wb", closefd=False) as copy:
        copy.write(data)
    return f"/proc/self/fd/{kept}"
