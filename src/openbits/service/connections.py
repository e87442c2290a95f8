"""Client connections: the varlink protocol with our limits, and what a connection remembers.

Connections come from the spawner with the record it made at accept; the identity of every call is that record, or a
token that the call carries. One interface instance a connection.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from asyncvarlink import VarlinkInterface, VarlinkInterfaceRegistry, VarlinkTransport
from asyncvarlink.serverprotocol import VarlinkInterfaceServerProtocol
from asyncvarlink.serviceinterface import VarlinkServiceInterface
from asyncvarlink.types import FileDescriptorArray, JSONObject

from openbits.api.wire import MAX_MESSAGE_BYTES
from openbits.core.enums import Integrity, Level
from openbits.core.model import Identity
from openbits.service.record import Record
from openbits.service.spawner_link import Cookie, Token
from openbits.service.spawner_link import Record as PeerRecord
from openbits.version import VERSION

log = logging.getLogger("openbits.manager")

MAX_UNSENT_REPLIES = 256
MAX_HANDLES = 4096


@dataclass(slots=True, eq=False)
class Handle:
    """An interface pointer: the job, and who obtained it (the access check was made then: identity.md §8)."""

    record: Record
    opened_by: Identity
    by: Cookie
    token: Token | None


@dataclass(slots=True, eq=False)
class Caller:
    """One connection: who is at the other end, and the handles it holds."""

    peer: PeerRecord
    process: int | None = None
    """Pidfd of the peer, where the kernel tells it."""
    level: Level = Level.IMPERSONATE
    integrity: Integrity | None = None
    """None as long as nobody has asked."""
    handles: dict[int, Handle] = field(default_factory=dict)
    next_handle: int = 1
    is_closed: bool = False

    def close(self) -> None:
        """The connection ended: its handles go, and with them the tokens they hold."""
        self.is_closed = True
        if self.process is not None:
            os.close(self.process)
            self.process = None
        for handle in self.handles.values():
            if handle.token is not None:
                handle.token.close()
        self.handles.clear()


class Call:
    """The identity one call is made under: the connection's, or that of the token it carries; and at which level.

    A token is sent over the connection, so the lower level of both counts (A22).
    """

    def __init__(self, caller: Caller, token: Token | None) -> None:
        self.token = token
        self.process = caller.process
        self.cookie: Cookie = token.record.cookie if token is not None else caller.peer.cookie
        self.identity = token.record.identity if token is not None else caller.peer.identity
        self.level = min(token.record.level, caller.level) if token is not None else caller.level

    def close(self) -> None:
        """Let go of the token's descriptor."""
        if self.token is not None:
            self.token.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transport(VarlinkTransport):
    """Reads large chunks, takes at most four descriptors (the kernel closes what does not fit)."""

    MAX_RECV_FDS = 4

    def _handle_read_socket(self) -> None:
        self._sock_receive_fds(64 * 1024)


class Protocol(VarlinkInterfaceServerProtocol):
    """Closes a connection that sends a message above the limit or does not read its answers."""

    def __init__(self, registry: VarlinkInterfaceRegistry, on_lost: Callable[[], None]) -> None:
        super().__init__(registry)
        self._on_lost = on_lost
        self._unsent = 0

    def message_received(self, data: bytes, fds: FileDescriptorArray | None) -> None:
        """Bytes from the client."""
        end = data.find(b"\0")
        if len(self._recv_buffer) + (len(data) if end < 0 else end + 1) > MAX_MESSAGE_BYTES:
            log.warning("message_too_long limit_bytes=%d", MAX_MESSAGE_BYTES)
            self.abort()
            return
        try:
            super().message_received(data, fds)
        except (ValueError, RecursionError):  # no text, or JSON that is nested too deeply
            self.abort()

    def send_message(
        self,
        obj: JSONObject,
        fds: list[int] | None = None,
        autoclose: bool = True,  # noqa: FBT001, FBT002  # signature of the library
    ) -> "asyncio.Future[None]":
        """Queue a reply."""
        self._unsent += 1
        future = super().send_message(obj, fds, autoclose)
        future.add_done_callback(self._sent)
        if self._unsent > MAX_UNSENT_REPLIES:
            log.warning("replies_not_read limit=%d", MAX_UNSENT_REPLIES)
            self.abort()
        return future

    def error_received(self, err: Exception, data: bytes, fds: FileDescriptorArray | None) -> None:
        """What is not JSON ends the connection."""
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        self._on_lost()

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def _sent(self, future: "asyncio.Future[None]") -> None:
        self._unsent -= 1
        future.exception()


def serve(sock: socket.socket, interface: VarlinkInterface, on_lost: Callable[[], None]) -> Protocol:
    """Serve one connection; `on_lost` is called when it is over.

    The socket is shut down at the end, because the spawner holds a copy that it only watches.
    """
    registry = VarlinkInterfaceRegistry()
    registry.register_interface(interface)
    registry.register_interface(
        VarlinkServiceInterface("OpenBITS", "OpenBITS", VERSION, "https://openbits.invalid", registry)
    )
    watcher = os.dup(sock.fileno())

    def lost() -> None:
        with socket.socket(fileno=watcher) as copy, contextlib.suppress(OSError):  # the peer was faster
            copy.shutdown(socket.SHUT_RDWR)
        on_lost()

    protocol = Protocol(registry, lost)
    Transport(asyncio.get_running_loop(), sock, sock, protocol, boundary_predictor=None)
    return protocol
