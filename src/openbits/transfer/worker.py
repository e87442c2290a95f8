"""The network worker: a program with one identity that moves bytes between sockets and descriptors it was handed.

It opens no user's path and decides nothing about jobs. Its one loop waits for the control channel, the connections and
the clocks together; it ends when the channel closes or the manager says something it cannot mean (docs/processes.md,
"Manager ↔ network worker").
"""

import json
import os
import selectors
import socket
from collections.abc import Callable
from typing import Final

from openbits import channel as channels
from openbits.channel import ChannelClosedError, Message
from openbits.core import proxies
from openbits.core.enums import ErrorContext, ProxyUsage
from openbits.core.model import Validators
from openbits.core.proxies import Proxies
from openbits.failpoints import failpoint
from openbits.transfer import filecopy, http, transport
from openbits.transfer.loop import Loop, Timer
from openbits.transfer.sink import Sink, ThreadSyncer
from openbits.transfer.transport import Limits, Order, Refusal, Settings, Transfer, Transport
from openbits.transfer.urls import BadUrlError, UnknownSchemeError

TICK_SECONDS: Final = 0.5
"""How often clocks are looked at and progress is told, while there is a transfer."""

MAX_CA_BYTES: Final = 16 * 1024 * 1024

_TRANSPORT_MODULES: Final = (http, filecopy)
"""Importing them registers them; late imports would fail under a dropped uid."""


def run(channel: socket.socket) -> None:
    """Serve the manager at the other end until the channel closes."""
    Worker(channel).run()


class BrokenPeerError(Exception):
    """The manager said something that is not in the contract."""


class Worker:
    """The control channel and the transfers it asked for."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(True)  # a manager that does not read holds us up, which is right
        self._channel = channel
        self._loop = Loop()
        self._syncer = ThreadSyncer(self._loop.post)
        self._transports: dict[str, Transport] | None = None
        self._active: dict[str, Active] = {}
        self._ticker: Timer | None = None
        self._operations: dict[str, Callable[[Message, list[int]], None]] = {
            "configure": self._configure,
            "transfer": self._transfer,
            "cancel": self._cancel,
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
        )
        ca_file = _keep_certificates(descriptors.pop()) if descriptors else None
        self._transports = transport.build(self._loop, Settings(limits=limits, ca_file=ca_file))

    def _transfer(self, message: Message, descriptors: list[int]) -> None:
        key, url, offset = str(message["transfer"]), str(message["url"]), int(message["offset"])
        scheme = url.partition(":")[0].lower()
        is_copy = scheme in transport.COPYING
        is_complete = len(descriptors) == 2 or (len(descriptors) == 1 and not is_copy)
        if self._transports is None or key in self._active or not is_complete or offset < 0:
            raise BrokenPeerError(f"transfer {key} makes no sense now")
        order = Order(
            url=url,
            validators=_validators(message["validators"]),
            proxies=_proxies(message["proxy"]),
            source=descriptors.pop() if is_copy else None,
            is_upload=message["is_upload"] is True,
            headers=_headers(descriptors.pop()) if len(descriptors) == 2 else (),
            tls_refusal=_refusal(message["tls_refusal"]),
        )
        sink = Sink(descriptors.pop(), self._syncer, offset, self._loop.now())
        active = Active(self, key, sink)
        try:
            if scheme not in self._transports:
                raise UnknownSchemeError(scheme, self._transports)
            active.transfer = self._transports[scheme].transfer(order, sink, active)
        except BadUrlError as error:
            active.failed(error.hresult, ErrorContext.GENERAL_TRANSPORT, str(error), None)
            sink.close()
            return
        self._active[key] = active
        active.transfer.begin()
        failpoint("worker.begun")
        if self._ticker is None:
            self._tick_later()

    def _cancel(self, message: Message, descriptors: list[int]) -> None:
        channels.close_all(descriptors)
        active = self._active.pop(str(message["transfer"]), None)
        if active is not None:  # else its last word is on the way
            active.stop()

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
    """A transfer under way: its key on the channel, its sink, and the news it tells."""

    transfer: Transfer

    def __init__(self, worker: Worker, key: str, sink: Sink) -> None:
        self._worker = worker
        self._key = key
        self._sink = sink
        self._told = (sink.position, sink.durable)
        self._headers = ""

    def tick(self, now: float) -> None:
        """Look at the clocks, have data synced, tell the progress."""
        self.transfer.tick(now)
        self._sink.sync_if_due(now)
        progress = (self._sink.position, self._sink.durable)
        if progress != self._told:
            self._told = progress
            failpoint("worker.durable")
            self._tell("progressed", transferred_bytes=progress[0], durable_bytes=progress[1])
            failpoint("worker.progress-told")

    def stop(self) -> None:
        """No further news, nothing held."""
        self.transfer.cancel()
        self._sink.close()

    # -- News -----------------------------------------------------------------------------------------------------

    def phase(self, text: str) -> None:
        """See News."""
        self._tell("phase", text=text)

    def responded(self, headers: str) -> None:
        """See News."""
        self._headers = headers

    def connected(self, validators: Validators, offset: int, note: str) -> None:
        """See News."""
        self._tell(
            "connected",
            size_bytes=validators.size_bytes,
            etag=validators.etag,
            last_modified=validators.last_modified,
            offset=offset,
            note=note,
            headers=self._headers,
        )
        failpoint("worker.connected-told")

    def restarted(self, reason: str) -> None:
        """See News."""
        self._worker.forget(self._key)
        failpoint("worker.restarted")
        self._tell("restarted", reason=reason)

    def transferred(self, size_bytes: int, modified_at: float | None) -> None:
        """See News."""
        self._worker.forget(self._key)
        failpoint("worker.transferred")
        self._tell("transferred", size_bytes=size_bytes, modified_at=modified_at)
        failpoint("worker.transferred-told")

    def failed(self, hresult: int, context: ErrorContext, detail: str, retry_after_seconds: float | None) -> None:
        """See News."""
        self._worker.forget(self._key)
        self._tell(
            "failed",
            hresult=hresult,
            context=context.name.lower(),
            detail=detail,
            retry_after_seconds=retry_after_seconds,
            durable_bytes=self._sink.durable,
            headers=self._headers,
        )

    def _tell(self, event: str, **fields: object) -> None:
        self._worker.send({"event": event, "transfer": self._key, **fields})


def _validators(given: Message) -> Validators:
    size = given["size_bytes"]
    return Validators(
        size_bytes=None if size is None else int(size),
        etag=_text_or_none(given["etag"]),
        last_modified=_text_or_none(given["last_modified"]),
    )


def _refusal(given: Message | None) -> Refusal | None:
    return None if given is None else Refusal(hresult=int(given["hresult"]), detail=str(given["detail"]))


def _proxies(given: Message) -> Proxies:
    """The manager has checked them: settings that cannot be read are a broken manager (ValueError)."""
    return proxies.of_settings(ProxyUsage[str(given["usage"]).upper()], str(given["list"]), str(given["bypass"]))


def _headers(descriptor: int) -> tuple[tuple[str, str], ...]:
    """What was entrusted to the job, from a memory file."""
    try:
        with os.fdopen(descriptor, "rb") as memory:
            entrusted = json.loads(memory.read())
    except OSError as error:
        raise BrokenPeerError("what was entrusted to the job cannot be read") from error
    return tuple((str(name), str(value)) for name, value in entrusted["headers"])


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def _keep_certificates(descriptor: int) -> str:
    """Copy the certificates into memory of our own; returns a path that libcurl can read again and again.

    Given a path, libcurl caches the parsed store between connections, which it does not do for certificates in memory;
    this path works without any access to the file system.
    """
    with os.fdopen(descriptor, "rb") as source:
        data = source.read(MAX_CA_BYTES)
    memory = os.memfd_create("openbits-ca", os.MFD_CLOEXEC)
    with os.fdopen(memory, "wb", closefd=False) as copy:
        copy.write(data)
    return f"/proc/self/fd/{memory}"
