"""libcurl, one request at a time: easy handles on one multi handle that is driven by the worker's loop.

All knowledge about libcurl is here; what an answer means is not (`download`). What libcurl would do by itself and we
decide elsewhere is off: redirects, proxies but the one a request names, .netrc, decoding, HTTP/0.9, foreign protocols.

HTTP/1.1 is asked for: one big body flows without HTTP/2's window updates and frames, and several transfers get a
connection each instead of sharing one congestion window. Connections are kept and used again by libcurl's own cache.
"""

import contextlib
import re
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

import pycurl

from openbits.core import codes
from openbits.core.proxies import Kind
from openbits.transfer import bodies, curl_errors, curl_tls, sockets
from openbits.transfer.addresses import is_in
from openbits.transfer.bodies import Feed, Sent
from openbits.transfer.curl_tunnel import Tunnels
from openbits.transfer.headers import printable
from openbits.transfer.kept import Kept
from openbits.transfer.loop import Loop, Timer
from openbits.transfer.request import Breakage, Request, Tunnel
from openbits.transfer.throttle import Throttle
from openbits.transfer.transport import Settings

BUFFER_BYTES = 512 * 1024

KEEPALIVE_SECONDS = 60

_FIELDS: Final = (("User-Agent", "OpenBITS"), ("Accept", "*/*"), ("Accept-Encoding", "identity"))
"""What every request has besides Host, unless it has its own of that name; nothing else goes out."""

_SOCKS5_AUTH: Final = 267
"""CURLOPT_SOCKS5_AUTH, which pycurl does not name: user and password, never a ticket that nobody asked us to show."""

_NO_ANSWER: Final = frozenset({pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR})
"""The connection ended; over TLS, and by a reset, the second one."""

_NOT_SENT: Final = frozenset({*_NO_ANSWER, pycurl.E_SEND_ERROR})
"""The connection ended before the request was sent, or with it."""

_NO_HEAD: Final = frozenset({pycurl.E_WRITE_ERROR, pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_FTP_WEIRD_SERVER_REPLY})
"""The first line was refused, by us or by libcurl."""

_PROXY_REFUSED: Final = 97
"""CURLE_PROXY, which pycurl does not name: a SOCKS proxy answered, and it was a refusal."""

_PROXY_SCHEMES: Final = {Kind.HTTP: "http", Kind.HTTPS: "https", Kind.SOCKS5: "socks5h"}

_SECRETS: Final = re.compile(r"\?\S*")


class Listener(Protocol):
    """Follows one exchange. Called from inside libcurl, except `ended`: only `ended` may send the next request."""

    def connected(self, local_port: int) -> None:
        """The connection is up and the request goes out; header lines before are a proxy's, about the tunnel."""

    def reconnecting(self) -> None:
        """It was a kept one and is dead: libcurl makes another one, before a byte of an answer has come."""

    def header(self, line: bytes) -> int | None:
        """A header line; -1 breaks the exchange off."""

    def body(self, data: bytes) -> int | None:
        """Bytes of the body; -1 breaks the exchange off."""

    def ended(self, breakage: Breakage | None) -> None:
        """The exchange is over: None if libcurl saw it whole."""


class Exchange:
    """One request on its way and its answer."""

    def __init__(self, handle: "pycurl.Curl", request: Request, listener: Listener, forget: Callable[[], None]) -> None:
        self._handle = handle
        self._is_over = False
        self._last_step = ""
        self.request = request
        self._forget = forget
        self.listener = listener
        self.denied = ""
        """The last address that it could have gone to if that were allowed."""
        self.is_allowed = False
        """Another address was tried."""
        self.is_tunnel_made = False
        """The proxy has agreed: the connection is the tunnel that was wanted."""
        self.is_without_tunnel = False
        """There was none for it."""
        self.has_connection = False
        """One was made or chosen."""
        self.kept: tuple[int, int] | None = None
        """The kept connection over TLS that the request goes out on, and how much had been read from it before."""
        self.feed: Feed | None = None
        """The body of the request."""

    def went_over(self, kept: int) -> None:
        """The request goes out over TLS, perhaps over this kept connection; it may also be closed by now."""
        with contextlib.suppress(OSError):
            self.kept = (kept, sockets.read_bytes(kept))

    def lose_connection(self) -> None:
        """If it had a kept one, that is dead: libcurl makes another one by itself."""
        if self.has_connection:
            self.has_connection = False
            self.kept = None
            self.listener.reconnecting()

    def has_heard_nothing(self) -> bool:
        """True if nothing was read since the request went out over a kept connection: what comes is no answer.

        OpenSSL reads ahead, and what it has of a server's surplus nobody sees until it comes as the next answer (row
        60).
        """
        if self.kept is None:
            return False
        descriptor, before = self.kept
        with contextlib.suppress(OSError):
            if sockets.read_bytes(descriptor) <= before:
                return True
        self.kept = None
        return False

    def sent(self) -> Sent:
        """How much of the body has gone out."""
        under_way = 0
        descriptor = self._handle.getinfo(pycurl.ACTIVESOCKET)
        if descriptor >= 0:  # else the connection is lost, and libcurl makes another one
            with contextlib.suppress(OSError):
                under_way = sockets.unsent_bytes(descriptor)
        taken = int(self._handle.getinfo(pycurl.SIZE_UPLOAD_T))
        is_held = self.feed is not None and self.feed.is_held
        return Sent(taken_bytes=taken, under_way_bytes=under_way, is_held=is_held)

    def cancel(self) -> None:
        """Break off without a word to the listener. Not from inside libcurl's callbacks."""
        if not self._is_over:
            self._last_step = self.connecting_step()
            self._is_over = True
            self._forget()

    def connecting_step(self) -> str:
        """What is, or in the end was, being waited for before the connection is up, for people."""
        target, proxy = self.request.target, self.request.proxy
        if self._is_over:
            return self._last_step
        if self._handle.getinfo(pycurl.NAMELOOKUP_TIME) == 0:
            return f"looking up {target.host}" if proxy is None else f"looking up proxy {proxy.host}"
        if self._handle.getinfo(pycurl.CONNECT_TIME) == 0 or target.scheme == "http":
            return f"connecting to {target.peer}" if proxy is None else f"connecting to proxy {proxy.label}"
        return f"TLS handshake with {target.peer}" + ("" if proxy is None else f" through proxy {proxy.label}")

    def _is_unreached(self) -> bool:
        """A connection of before has no time of connecting, and a tunnel that we have not is not out of reach."""
        is_without = self._handle.getinfo(pycurl.CONNECT_TIME) == 0 and not self.has_connection
        return is_without and not self.is_without_tunnel

    def breakage(self, number: int, words: str, settings: Settings) -> Breakage:
        """What libcurl's error means: the one table, and for certificates OpenSSL's verdict."""
        if self.feed is not None and self.feed.breakage is not None:
            return self.feed.breakage
        words = _SECRETS.sub("?…", printable(words, 300)) or f"libcurl error {number}"
        hresult = curl_errors.hresult(number, words)
        is_aborted = number == pycurl.E_ABORTED_BY_CALLBACK
        is_elsewhere = self.request.local_port is not None and (is_aborted or self.is_without_tunnel)
        if number == pycurl.E_COULDNT_CONNECT and self.denied and not self.is_allowed:
            which = f"{self.denied} is an address that denied_networks under [http]"
            hresult, words = codes.E_ACCESSDENIED, f"{which} in the settings of the service forbids"
        if number == pycurl.E_OPERATION_TIMEDOUT:
            limit = settings.limits.connect_seconds
            words = f"not through {self.connecting_step()} within {limit:g} s (connect clock)"
        if number == pycurl.E_PEER_FAILED_VERIFICATION:
            hresult, whose = curl_tls.verdict(self._handle, words)
            words = f"{whose}{words}"
        words = curl_tls.explained(number, words, settings.ca_file)
        if self.request.proxy is not None:
            status = self._handle.getinfo(pycurl.HTTP_CONNECTCODE)
            if status >= 300:  # no tunnel
                hresult, words = codes.from_http_status(status), f"the proxy answered {status} to CONNECT"
        return Breakage(
            hresult=hresult,
            words=words,
            is_unanswered=number in _NO_ANSWER and self._handle.getinfo(pycurl.RESPONSE_CODE) == 0,
            needs_look=curl_tls.needs_look(number, words, self._handle, self.request),
            is_unclean=self._is_unclean(number),
            is_elsewhere=is_elsewhere,
            is_unreached=number != _PROXY_REFUSED and self._is_unreached(),
            needs_tunnel=self.is_without_tunnel,
        )

    def _is_unclean(self, number: int) -> bool:
        """True if the kept connection, not this request, is the reason.

        libcurl itself sends a request again that such a connection has not answered, unless it ended under a body.
        """
        if number == pycurl.E_ABORTED_BY_CALLBACK or (self.kept is not None and number in _NO_HEAD):
            return True
        is_kept = self.has_connection and self._handle.getinfo(pycurl.NUM_CONNECTS) == 0
        is_silent = self._handle.getinfo(pycurl.RESPONSE_CODE) == 0
        return self.feed is not None and is_kept and is_silent and number in _NOT_SENT


class Engine:
    """Sends requests over one pool of connections; one engine per thing that must not share connections."""

    def __init__(self, loop: Loop, settings: Settings, throttle: Throttle | None = None) -> None:
        self._loop = loop
        self._settings = settings
        self._throttle = throttle
        self._timer: Timer | None = None
        self._exchanges: dict[Any, Exchange] = {}
        self.certificate = ""
        """What the server showed on the newest connection of a pinned request (PEM), empty without TLS."""
        self._kept = Kept()
        """libcurl uses a connection again within a second without a look at it: what a server has sent beyond its
        answer would be taken for the next one (row 60).
        """
        self._tunnels = Tunnels()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._socket_changed)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._timer_changed)

    def send(self, request: Request, listener: Listener) -> Exchange:
        """Begin an exchange; the listener hears from it once the loop runs again."""
        handle = pycurl.Curl()
        self._configure(handle, request, listener)
        exchange = Exchange(handle, request, listener, lambda: self._release(handle))
        exchange.feed = self._feed(handle, request)
        handle.setopt(pycurl.PREREQFUNCTION, self._on_connected(exchange))
        handle.setopt(pycurl.HEADERFUNCTION, self._on_header(exchange))
        self._exchanges[handle] = exchange
        if self._throttle is not None:
            self._limit(handle, listener, self._throttle)
        if request.tunnel is Tunnel.OURS:
            handle.setopt(pycurl.OPENSOCKETFUNCTION, self._on_entering(exchange))
        else:
            handle.setopt(pycurl.OPENSOCKETFUNCTION, self._on_connecting(exchange))
        for option, value in self._tunnels.options(request):
            handle.setopt(option, value)
        self._multi.add_handle(handle)
        return exchange

    def close(self) -> None:
        """Close the connections; no exchange is under way."""
        self._multi.close()
        self._tunnels.close()

    @property
    def bytes_per_second(self) -> int | None:
        """The limit that its requests go under; None: none."""
        return None if self._throttle is None else self._throttle.bytes_per_second

    def _feed(self, handle: "pycurl.Curl", request: Request) -> Feed | None:
        """What the body of the request is read through, if it has one."""
        body = bodies.body_of(request)
        if body is None:
            return None
        feed = Feed(body, self._throttle, handle, lambda: self._resume(handle))
        for option, value in bodies.options(body, feed):
            handle.setopt(option, value)
        return feed

    def _configure(self, handle: "pycurl.Curl", request: Request, listener: Listener) -> None:
        """Everything libcurl is told about a request. Sockets and credentials would be set here."""
        own = {name.lower() for name, _ in request.headers}
        usual = [(name, value) for name, value in _FIELDS if name.lower() not in own]
        fields = [_line(name, value) for name, value in (*usual, *request.headers, *request.proofs)]
        fields += bodies.fields(request)
        proxy = request.proxy
        is_relayed = proxy is not None and proxy.kind is not Kind.SOCKS5
        is_whole_url = is_relayed and request.target.scheme == "http"  # https is tunnelled
        agent = () if is_whole_url else _FIELDS[:1]  # of CONNECT; what is relayed has all fields of the request
        for option, value in (
            (pycurl.URL, request.target.url),
            (pycurl.NOBODY if request.method == "HEAD" else pycurl.HTTPGET, 1),
            (pycurl.HTTPHEADER, fields),
            (pycurl.CUSTOMREQUEST, None if request.method in {"GET", "HEAD"} else request.method),
            (pycurl.WRITEFUNCTION, listener.body),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.HTTP09_ALLOWED, 0),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.REQUEST_TARGET, request.target.url if is_whole_url else request.target.resource),
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.PROXY, "" if proxy is None else f"{_PROXY_SCHEMES[proxy.kind]}://{proxy.host}:{proxy.port}"),
            (pycurl.NOPROXY, "*" if proxy is None else ""),
            (_SOCKS5_AUTH, pycurl.HTTPAUTH_BASIC),
            *_socks_login(request.proxy_login),
            (pycurl.HEADEROPT, pycurl.HEADER_SEPARATE),
            (pycurl.PROXYHEADER, [_line(*one) for one in (*agent, *request.proxy_proofs)]),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.NOSIGNAL, 1),
            (pycurl.FRESH_CONNECT, _is_fresh(request)),
            (pycurl.FORBID_REUSE, request.is_unshared),
            (pycurl.BUFFERSIZE, BUFFER_BYTES),
            (pycurl.TCP_KEEPALIVE, 1),
            (pycurl.TCP_KEEPIDLE, KEEPALIVE_SECONDS),
            (pycurl.TCP_KEEPINTVL, KEEPALIVE_SECONDS),
            # the connect clock is libcurl's own: it shares the time out among the addresses of a host
            (pycurl.CONNECTTIMEOUT_MS, int(self._settings.limits.connect_seconds * 1000)),
            (pycurl.OPT_CERTINFO, request.is_pinned),
            *curl_tls.options(request, self._settings.ca_file),
        ):
            if value is None:
                handle.unsetopt(option)
            else:
                handle.setopt(option, value)

    def _limit(self, handle: "pycurl.Curl", listener: Listener, throttle: Throttle) -> None:
        """Receive no faster than the throttle lets."""

        def prepare(descriptor: int, _purpose: int) -> int:
            throttle.prepare(descriptor)
            return int(pycurl.SOCKOPT_OK)

        take = throttle.governed(handle, listener.body, lambda: self._resume(handle), pycurl.WRITEFUNC_PAUSE)
        handle.setopt(pycurl.WRITEFUNCTION, take)
        handle.setopt(pycurl.BUFFERSIZE, throttle.buffer_bytes(BUFFER_BYTES))
        handle.setopt(pycurl.SOCKOPTFUNCTION, prepare)

    def _resume(self, handle: "pycurl.Curl") -> None:
        """Take what was held back, and go on reading; an error of it is told as that of any exchange."""
        with contextlib.suppress(pycurl.error):
            handle.pause(pycurl.PAUSE_CONT)
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _on_connecting(self, exchange: Exchange) -> Callable[[int, Any], object]:
        """Called for each address of a server or proxy before anything is sent there: not even a handshake is."""

        def opened(_purpose: int, address: Any) -> object:
            exchange.lose_connection()
            if is_in(str(address.addr[0]), self._settings.denied):
                exchange.denied = str(address.addr[0])
                return pycurl.SOCKET_BAD
            exchange.is_allowed = True
            try:
                made = socket.socket(address.family, address.socktype, address.protocol)
            except OSError:
                return pycurl.SOCKET_BAD
            if exchange.request.tunnel is Tunnel.WANTED:
                self._tunnels.dialled(made)
            else:
                self._loop.soon(made.close)  # libcurl has a copy then
            return made

        return opened

    def _on_entering(self, exchange: Exchange) -> Callable[[int, Any], object]:
        """Called when no connection of before can be used: a tunnel is."""

        def entered(_purpose: int, _address: Any) -> object:
            tunnel = self._tunnels.take(exchange.request)
            if tunnel is None:
                exchange.is_without_tunnel = True
                return pycurl.SOCKET_BAD
            self._loop.soon(tunnel.close)
            return tunnel

        return entered

    def _on_connected(self, exchange: Exchange) -> Callable[[str, str, int, int], int]:
        """Called when a connection was made or chosen, before the request goes out on it."""
        request, listener = exchange.request, exchange.listener

        def connected(_primary_ip: str, _local_ip: str, _primary_port: int, local_port: int) -> int:
            exchange.has_connection = True
            exchange.kept = None  # libcurl may be here again, after a kept connection that ended
            kept = self._kept.find(local_port)
            if sockets.has_input(kept):
                return int(pycurl.PREREQFUNC_ABORT)
            if kept is not None and request.target.scheme == "https":
                exchange.went_over(kept)
            if request.local_port not in {None, local_port}:
                return int(pycurl.PREREQFUNC_ABORT)
            listener.connected(local_port)
            return int(pycurl.PREREQFUNC_OK)

        return connected

    def _on_header(self, exchange: Exchange) -> Callable[[bytes], int | None]:
        """What takes header lines, if they can be of an answer: those that were there before the request cannot."""
        take = exchange.listener.header
        if exchange.request.target.scheme != "https":
            return take

        def header(line: bytes) -> int | None:
            return -1 if exchange.has_heard_nothing() else take(line)

        return header

    def _release(self, handle: "pycurl.Curl") -> None:
        if self._exchanges.pop(handle).request.tunnel is Tunnel.WANTED:
            self._tunnels.let_go()
        if self._throttle is not None:
            self._throttle.forget(handle)
        self._multi.remove_handle(handle)
        handle.close()

    # -- libcurl asks, the loop answers ---------------------------------------------------------------------------

    def _socket_changed(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._loop.unwatch(descriptor)
        else:  # POLL_IN, POLL_OUT and POLL_INOUT have the bits of EVENT_READ and EVENT_WRITE
            self._loop.watch(descriptor, what, lambda events: self._act(descriptor, events))

    def _timer_changed(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds >= 0:
            self._timer = self._loop.call_at(self._loop.now() + milliseconds / 1000, self._timer_due)

    def _timer_due(self) -> None:
        self._timer = None
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, descriptor: int, events: int) -> None:
        self._multi.socket_action(descriptor, events)
        while True:
            left, whole, broken = self._multi.info_read()
            for handle in whole:
                self._ended(handle, None)
            for handle, number, words in broken:
                self._ended(handle, (number, words))
            if left == 0:
                return

    def _ended(self, handle: "pycurl.Curl", error: tuple[int, str] | None) -> None:
        exchange = self._exchanges[handle]
        port, descriptor = handle.getinfo(pycurl.LOCAL_PORT), handle.getinfo(pycurl.ACTIVESOCKET)
        self._kept.forget(port)
        if descriptor >= 0 and exchange.request.handshake is None:  # the connection of a look is gone with it
            self._kept.keep(descriptor, port)
        if exchange.request.tunnel is Tunnel.WANTED:
            made, is_kept = exchange.is_tunnel_made, descriptor >= 0
            self._tunnels.answered(exchange.request, port, is_made=made, is_kept=is_kept)
        elif exchange.request.is_pinned and handle.getinfo(pycurl.NUM_CONNECTS) > 0:
            self.certificate = _leaf(handle.getinfo(pycurl.INFO_CERTINFO))
        breakage = exchange.breakage(*error, self._settings) if error is not None else None
        exchange.cancel()
        exchange.listener.ended(breakage)


def _is_fresh(request: Request) -> bool:
    """Whether no connection of before may be used."""
    return request.local_port is None and (request.is_on_new_connection or request.is_unshared)


def _leaf(chain: list[list[tuple[str, str]]]) -> str:
    """The certificate (PEM) of whom the connection is with, empty without TLS."""
    return next((value for name, value in chain[0] if name == "Cert"), "") if chain else ""


def _socks_login(login: tuple[str, str] | None) -> tuple[tuple[int, object], ...]:
    if login is None:
        return ()
    user, password = (part.encode() for part in login)
    return (pycurl.PROXYUSERNAME, user), (pycurl.PROXYPASSWORD, password)


def _line(name: str, value: str) -> bytes:
    """A field as libcurl takes it: a colon without a value would remove the field, a semicolon sends it empty."""
    return f"{name}: {value}".encode() if value else f"{name};".encode()
