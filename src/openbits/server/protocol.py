"""HTTP/1.1 for `bits-server`: a connection that uvicorn runs, with h11 for the heads and `exchange` for the bodies.

What uvicorn's own does not have, and uploads need: bodies without copies, a time for heads, a least speed for bodies,
refusals in the words of the protocol, the certificate of the client, and a close that lets the client read the answer.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import h11
from cryptography import x509
from uvicorn.config import Config
from uvicorn.server import ServerState

from openbits.core import codes
from openbits.server import answers
from openbits.server.exchange import Exchange, Flow
from openbits.server.settings import Limits

log = logging.getLogger("openbits.server")

HEAD_BYTES: Final = 64 * 1024
"""The longest head; of longer ones nothing more is read."""

READ_BYTES: Final = 128 * 1024
"""What is read from a socket at once, for all connections into the same buffer, since each read is passed on at once.

asyncio's own reads make new memory of this size for each record of TLS, 16 KiB, and give most of it back: page faults
that cost as much as all the rest.
"""

AHEAD_BYTES: Final = 64 * 1024
"""What of a next request is read while one is answered."""

LINGER_SECONDS: Final = 5
"""How long a client that still sends may take to read why it should not."""


class Connection(asyncio.BufferedProtocol):
    """One connection; `limits` and `buffer` are set by the class that `bound` makes."""

    limits: Limits
    buffer: memoryview

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._server = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_event_loop()
        self._parser = _parser()
        self._exchange: Exchange | None = None
        self._ahead = b""
        self._timer: asyncio.TimerHandle | None = None
        self._tls: dict[str, Any] = {}
        self._is_ending = False
        self._is_lingering = False

    # ---- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there; its head has to come."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- of a stream socket; this tells the type checker
        self._transport = transport
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:  # asyncio does it only where it listens
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._flow = Flow(transport)
        self._tls = _tls_extension(transport)
        self._server.connections.add(self)  # type: ignore[arg-type]  # its type names those of uvicorn alone
        self._wait(self.limits.head_seconds, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._server.connections.discard(self)
        self._wait(None)
        if self._exchange is not None:
            self._exchange.lose()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many are there."""
        self._take(bytes(self.buffer[:nbytes]))

    def _take(self, data: bytes) -> None:
        """Body of the request, or a head."""
        exchange = self._exchange
        if self._is_lingering:
            return
        if exchange is None and not self._ahead:
            self._parse(data)
            return
        if exchange is not None:
            data = exchange.feed(data)
        self._ahead += data
        if len(self._ahead) > AHEAD_BYTES:
            self._flow.read(is_wanted=False)
        if exchange is not None and exchange.is_complete:
            self._next_if_drained()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._flow.allow_writing(is_possible=False)

    def resume_writing(self) -> None:
        """It has read enough."""
        self._flow.allow_writing(is_possible=True)

    def shutdown(self) -> None:
        """The server ends: a request may finish until it is cancelled, an idle connection is closed."""
        self._is_ending = True
        if self._exchange is None:
            self._transport.close()

    # ---- heads

    def _parse(self, data: bytes) -> None:
        if self._parser.trailing_data == (b"", False):
            self._wait(self.limits.head_seconds, self._transport.abort)
        self._parser.receive_data(data)
        try:
            event = self._parser.next_event()
        except h11.RemoteProtocolError:
            self._refuse()
            return
        if isinstance(event, h11.Request):
            self._start(event)

    def _start(self, head: h11.Request) -> None:
        """A head is there: the application begins, and gets the body as it comes."""
        rest, _ = self._parser.trailing_data
        fields = self._server.default_headers
        exchange = Exchange(self._parser, head, self._flow, default_fields=fields, ended=self._ended)
        self._exchange = exchange
        self._wait(self.limits.body_grace_seconds + self.limits.body_window_seconds, partial(self._check_speed, 0, 0))
        application: Callable[..., Any] = self._config.loaded_app
        if len(self._server.connections) > self.limits.connections:
            application = answers.too_many
        task = self._loop.create_task(self._run(application, exchange))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)
        if rest:
            self._take(rest)

    async def _run(self, application: Callable[..., Any], exchange: Exchange) -> None:
        """The application answers everything itself; one that has not is broken, and so is the connection."""
        try:
            await application(self._scope(exchange.head), exchange.receive, exchange.send)
        except ConnectionError:
            pass
        except Exception:
            log.exception("request_failed")
        finally:
            if not exchange.is_complete:
                self._transport.abort()

    def _scope(self, head: h11.Request) -> dict[str, Any]:
        raw_path, _, query = head.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.http_version.decode("ascii"),
            "method": head.method.decode("ascii"),
            "scheme": "https" if self._tls else "http",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": list(head.headers),
            "client": _address(self._transport.get_extra_info("peername")),
            "server": _address(self._transport.get_extra_info("sockname")),
            "state": self._app_state.copy(),
            "extensions": {"tls": self._tls} if self._tls else {},
        }

    def _refuse(self) -> None:
        """Step 1 of §5.1: what is no HTTP, or has no end, is answered and not read on."""
        refused = answers.refusal(400, codes.E_INVALIDARG)
        fields = [*self._server.default_headers, *answers.encoded(refused), (b"connection", b"close")]
        for event in (h11.Response(status_code=400, headers=fields, reason=b"Bad Request"), h11.EndOfMessage()):
            self._transport.write(self._parser.send(event) or b"")
        self._linger()

    # ---- after a request

    def _ended(self) -> None:
        """The response is written."""
        self._server.total_requests += 1
        self._flow.read(is_wanted=True)
        self._wait(self.limits.idle_seconds, self._transport.abort)
        exchange = self._exchange
        if self._is_ending or exchange is None or not exchange.is_persistent:
            self._linger()
        else:
            self._next_if_drained()

    def _next_if_drained(self) -> None:
        """The next request begins where the body of the last one ends (H9)."""
        if self._exchange is None or self._exchange.body_bytes or self._transport.is_closing():
            return
        self._exchange = None
        self._parser = _parser()
        if self._ahead:
            self._loop.call_soon(self._parse_ahead)

    def _parse_ahead(self) -> None:
        """Not at once: the application that has just answered is still running."""
        ahead, self._ahead = self._ahead, b""
        if not self._transport.is_closing():
            self._flow.read(is_wanted=True)
            self._parse(ahead)

    def _linger(self) -> None:
        """Close so that the client reads the answer: what it still sends is read, or the kernel would reset it."""
        if self._transport.is_closing():
            return
        exchange = self._exchange
        if exchange is not None and not exchange.body_bytes and not exchange.has_lost_the_next:
            self._transport.close()
            return
        self._is_lingering = True
        self._flow.read(is_wanted=True)
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # the client has gone before
                self._transport.write_eof()
        self._wait(LINGER_SECONDS, self._transport.close)

    # ---- times

    def _wait(self, seconds: float | None, then: Callable[[], object] | None = None) -> None:
        """One timer for each connection; None: nothing is waited for."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None or then is None else self._loop.call_later(seconds, then)

    def _check_speed(self, received_before: int, sent_before: int) -> None:
        """Give up a client that sends below the least speed although it could, or reads nothing of the answer."""
        exchange = self._exchange
        if exchange is None or exchange.is_complete:
            return
        least = self.limits.body_bytes_per_second * self.limits.body_window_seconds
        received, sent = exchange.received_bytes, self._flow.sent_bytes
        is_slow = exchange.is_receiving and received - received_before < least
        if is_slow or (self._flow.is_blocked and sent == sent_before):
            exchange.lose()
            self._transport.abort()
            return
        self._wait(self.limits.body_window_seconds, partial(self._check_speed, received, sent))


def bound(limits: Limits) -> type[Connection]:
    """The class of the connections of a server: uvicorn makes them itself, and knows nothing of our limits.

    The buffer is that of one server, which has one loop in one thread.
    """
    return type("BoundConnection", (Connection,), {"limits": limits, "buffer": memoryview(bytearray(READ_BYTES))})


def _parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)


def _address(name: object) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def _tls_extension(transport: asyncio.Transport) -> dict[str, Any]:
    """The extension `tls` of ASGI; empty without TLS."""
    layer = transport.get_extra_info("ssl_object")
    if not isinstance(layer, ssl.SSLObject):
        return {}
    shown = layer.getpeercert(binary_form=True)
    chain = [ssl.DER_cert_to_PEM_cert(shown)] if shown else []
    name = x509.load_der_x509_certificate(shown).subject.rfc4514_string() if shown else None
    return {
        "server_cert": None,
        "client_cert_chain": chain,
        "client_cert_name": name,
        "tls_version": None,
        "cipher_suite": None,
    }
