"""libcurl, one request at a time: easy handles on one multi handle that is driven by the worker's loop.

All knowledge about libcurl is here; what an answer means is not (`download`). What libcurl would do by itself and we
decide elsewhere is off: redirects, proxies but the one a request names, .netrc, decoding, HTTP/0.9, foreign protocols.

HTTP/1.1 is asked for: one big body flows without HTTP/2's window updates and frames, and several transfers get a
connection each instead of sharing one congestion window. Connections are kept and used again by libcurl's own cache.
"""

import re
from collections.abc import Callable
from typing import Any, Final, Protocol

import pycurl

from openbits.core import codes
from openbits.transfer.download import Breakage, Request
from openbits.transfer.headers import printable
from openbits.transfer.loop import Loop, Timer
from openbits.transfer.transport import Settings

BUFFER_BYTES = 512 * 1024

KEEPALIVE_SECONDS = 60

NO_CA = (
    "no trusted certificates are known, so no server can be verified; "
    "install the package ca-certificates or set [tls] ca_file in the configuration of the service"
)

_FIELDS: Final = (("User-Agent", "OpenBITS"), ("Accept", "*/*"), ("Accept-Encoding", "identity"))
"""What every request has besides Host, unless it has its own of that name; nothing else goes out."""

_BINDING: Final = frozenset({"authorization", "proxy-authorization"})
"""Some schemes authenticate the connection: it is not shared with requests of other jobs."""

_SUPPRESS_CONNECT_HEADERS: Final = 265
"""CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl does not name: the proxy's answer to CONNECT is no answer of ours."""

_ERRORS: Final[tuple[tuple[int, str, int], ...]] = (
    # libcurl's code, words that its message must contain, what it means; the first row that fits counts
    (pycurl.E_UNSUPPORTED_PROTOCOL, "", codes.BG_E_INVALID_SERVER_RESPONSE),  # HTTP/0.9, impossible status lines
    (pycurl.E_URL_MALFORMAT, "", codes.ERROR_WINHTTP_INVALID_URL),
    (pycurl.E_COULDNT_RESOLVE_PROXY, "", codes.ERROR_WINHTTP_NAME_NOT_RESOLVED),
    (pycurl.E_COULDNT_RESOLVE_HOST, "", codes.ERROR_WINHTTP_NAME_NOT_RESOLVED),
    (pycurl.E_COULDNT_CONNECT, "", codes.ERROR_WINHTTP_CANNOT_CONNECT),
    (pycurl.E_FTP_WEIRD_SERVER_REPLY, "", codes.BG_E_INVALID_SERVER_RESPONSE),
    (pycurl.E_PARTIAL_FILE, "", codes.ERROR_WINHTTP_CONNECTION_ERROR),
    (pycurl.E_OUT_OF_MEMORY, "", codes.E_OUTOFMEMORY),
    (pycurl.E_OPERATION_TIMEDOUT, "", codes.ERROR_WINHTTP_TIMEOUT),
    (pycurl.E_SSL_CONNECT_ERROR, "certificate required", codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED),
    (pycurl.E_SSL_CONNECT_ERROR, "", codes.ERROR_WINHTTP_SECURE_CHANNEL_ERROR),
    (pycurl.E_SSL_CIPHER, "", codes.ERROR_WINHTTP_SECURE_CHANNEL_ERROR),
    (pycurl.E_GOT_NOTHING, "", codes.ERROR_WINHTTP_CONNECTION_ERROR),
    (pycurl.E_SEND_ERROR, "", codes.ERROR_WINHTTP_CONNECTION_ERROR),
    (pycurl.E_RECV_ERROR, "certificate required", codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED),
    (pycurl.E_RECV_ERROR, "chunk", codes.BG_E_INVALID_SERVER_RESPONSE),
    (pycurl.E_RECV_ERROR, "", codes.ERROR_WINHTTP_CONNECTION_ERROR),
    (pycurl.E_BAD_CONTENT_ENCODING, "", codes.BG_E_INVALID_SERVER_RESPONSE),
    (pycurl.E_SSL_CACERT_BADFILE, "", codes.ERROR_WINHTTP_SECURE_INVALID_CA),
    (pycurl.E_SSL_INVALIDCERTSTATUS, "", codes.ERROR_WINHTTP_SECURE_INVALID_CERT),
    (100, "", codes.BG_E_INVALID_SERVER_RESPONSE),  # CURLE_TOO_LARGE, which pycurl does not name: endless header line
)

_OTHER_ERROR: Final = codes.ERROR_WINHTTP_CONNECTION_ERROR
"""What libcurl has no row for is transient (errors.md OPEN-E8)."""

_VERDICTS: Final[dict[int, int]] = {
    # X509_V_ERR_* of the certificate that was refused
    1: codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID,  # no verdict: the chain is good, libcurl found another name in it
    2: codes.ERROR_WINHTTP_SECURE_INVALID_CA,  # issuer of the issuer unknown
    3: codes.ERROR_WINHTTP_SECURE_CERT_REV_FAILED,
    9: codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID,  # not yet valid
    10: codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID,  # expired
    18: codes.ERROR_WINHTTP_SECURE_INVALID_CA,  # self-signed
    19: codes.ERROR_WINHTTP_SECURE_INVALID_CA,  # self-signed in the chain
    20: codes.ERROR_WINHTTP_SECURE_INVALID_CA,  # issuer unknown
    21: codes.ERROR_WINHTTP_SECURE_INVALID_CA,  # chain incomplete
    23: codes.ERROR_WINHTTP_SECURE_CERT_REVOKED,
    26: codes.ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE,
    62: codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID,
    64: codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID,  # the same for an address
}

_OTHER_VERDICT: Final = codes.ERROR_WINHTTP_SECURE_INVALID_CERT

_SECRETS: Final = re.compile(r"\?\S*")


class Listener(Protocol):
    """Follows one exchange. Called from inside libcurl, except `ended`: only `ended` may send the next request."""

    def connected(self) -> None:
        """The connection is up and the request goes out."""

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
        self._request = request
        self._forget = forget
        self.listener = listener

    def cancel(self) -> None:
        """Break off without a word to the listener. Not from inside libcurl's callbacks."""
        if not self._is_over:
            self._last_step = self.connecting_step()
            self._is_over = True
            self._forget()

    def connecting_step(self) -> str:
        """What is, or in the end was, being waited for before the connection is up, for people."""
        target, proxy = self._request.target, self._request.proxy
        if self._is_over:
            return self._last_step
        if self._handle.getinfo(pycurl.NAMELOOKUP_TIME) == 0:
            return f"looking up {target.host}" if proxy is None else f"looking up proxy {proxy.host}"
        if self._handle.getinfo(pycurl.CONNECT_TIME) == 0 or target.scheme == "http":
            return f"connecting to {target.peer}" if proxy is None else f"connecting to proxy {proxy.label}"
        return f"TLS handshake with {target.peer}" + ("" if proxy is None else f" through proxy {proxy.label}")

    def breakage(self, number: int, words: str, settings: Settings) -> Breakage:
        """What libcurl's error means: the one table, and for certificates OpenSSL's verdict."""
        words = _SECRETS.sub("?…", printable(words, 300)) or f"libcurl error {number}"
        hresult = next((code for row, part, code in _ERRORS if row == number and part in words), _OTHER_ERROR)
        if number == pycurl.E_OPERATION_TIMEDOUT:
            limit = settings.limits.connect_seconds
            words = f"not through {self.connecting_step()} within {limit:g} s (connect clock)"
        if number == pycurl.E_PEER_FAILED_VERIFICATION:
            hresult = _VERDICTS.get(self._handle.getinfo(pycurl.SSL_VERIFYRESULT), _OTHER_VERDICT)
        if number in {pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE} and settings.ca_file is None:
            words = NO_CA
        is_proxy_dead = False
        if self._request.proxy is not None:
            is_proxy_dead = self._handle.getinfo(pycurl.CONNECT_TIME) == 0
            status = self._handle.getinfo(pycurl.HTTP_CONNECTCODE)
            if status >= 300:  # no tunnel
                hresult, words = codes.from_http_status(status), f"the proxy answered {status} to CONNECT"
        return Breakage(
            hresult=hresult,
            words=words,
            is_unanswered=number == pycurl.E_GOT_NOTHING,
            is_proxy_dead=is_proxy_dead,
        )


class Engine:
    """Sends requests over one pool of connections; one engine per thing that must not share connections."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self._timer: Timer | None = None
        self._exchanges: dict[Any, Exchange] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._socket_changed)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._timer_changed)

    def send(self, request: Request, listener: Listener) -> Exchange:
        """Begin an exchange; the listener hears from it once the loop runs again."""
        handle = pycurl.Curl()
        self._configure(handle, request, listener)
        exchange = Exchange(handle, request, listener, lambda: self._release(handle))
        self._exchanges[handle] = exchange
        self._multi.add_handle(handle)
        return exchange

    def _configure(self, handle: "pycurl.Curl", request: Request, listener: Listener) -> None:
        """Everything libcurl is told about a request. Sockets and credentials would be set here."""
        own = {name.lower() for name, _ in request.headers}
        usual = [(name, value) for name, value in _FIELDS if name.lower() not in own]
        fields = [_line(name, value) for name, value in (*usual, *request.headers)]
        is_whole_url = request.proxy is not None and request.target.scheme == "http"  # https is tunnelled
        for option, value in (
            (pycurl.URL, request.target.url),
            (pycurl.NOBODY if request.method == "HEAD" else pycurl.HTTPGET, 1),
            (pycurl.HTTPHEADER, fields),
            (pycurl.PREREQFUNCTION, _on_connected(listener)),
            (pycurl.HEADERFUNCTION, listener.header),
            (pycurl.WRITEFUNCTION, listener.body),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.HTTP09_ALLOWED, 0),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.REQUEST_TARGET, request.target.url if is_whole_url else request.target.resource),
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.PROXY, "" if request.proxy is None else f"http://{request.proxy.label}"),
            (pycurl.NOPROXY, "*" if request.proxy is None else ""),
            (pycurl.HEADEROPT, pycurl.HEADER_SEPARATE),
            (pycurl.PROXYHEADER, [_line(*_FIELDS[0])]),
            (_SUPPRESS_CONNECT_HEADERS, 1),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.NOSIGNAL, 1),
            (pycurl.FRESH_CONNECT, bool(own & _BINDING)),
            (pycurl.FORBID_REUSE, bool(own & _BINDING)),
            (pycurl.BUFFERSIZE, BUFFER_BYTES),
            (pycurl.TCP_KEEPALIVE, 1),
            (pycurl.TCP_KEEPIDLE, KEEPALIVE_SECONDS),
            (pycurl.TCP_KEEPINTVL, KEEPALIVE_SECONDS),
            # the connect clock is libcurl's own: it shares the time out among the addresses of a host
            (pycurl.CONNECTTIMEOUT_MS, int(self._settings.limits.connect_seconds * 1000)),
            (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
        ):
            handle.setopt(option, value)
        handle.unsetopt(pycurl.CAPATH)
        if self._settings.ca_file is None:
            handle.unsetopt(pycurl.CAINFO)
        else:
            handle.setopt(pycurl.CAINFO, self._settings.ca_file)

    def _release(self, handle: "pycurl.Curl") -> None:
        del self._exchanges[handle]
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
        breakage = exchange.breakage(*error, self._settings) if error is not None else None
        exchange.cancel()
        exchange.listener.ended(breakage)


def _line(name: str, value: str) -> bytes:
    """A field as libcurl takes it: a colon without a value would remove the field, a semicolon sends it empty."""
    return f"{name}: {value}".encode() if value else f"{name};".encode()


def _on_connected(listener: Listener) -> Callable[[str, str, int, int], int]:
    def connected(_primary_ip: str, _local_ip: str, _primary_port: int, _local_port: int) -> int:
        listener.connected()
        return int(pycurl.PREREQFUNC_OK)

    return connected
