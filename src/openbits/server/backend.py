"""The back-end client: one request to a server application over http, https or a Unix socket (§9.1).

One connection, one POST, one answer; no redirect, no proxy and no environment counts. Everything waits on the event
loop; what could block it (names, files, Kerberos) is done by the threads of a `Helpers`. Memory is bounded: a body goes
from or to its file in pieces, a head has at most 16 KiB.
"""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Final, ParamSpec, TypeVar

import h11

from openbits.core import codes
from openbits.core.system import SYSTEM_CA_FILES
from openbits.server.application_url import Address

PHASE_SECONDS: Final = 300.0
"""What each of sending, waiting for the headers and reading the body may take (§7.3)."""

_PIECE_BYTES: Final = 256 * 1024
_THREADS: Final = 16

_P = ParamSpec("_P")
_T = TypeVar("_T")

_VERIFICATION: Final = {
    9: codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID,
    10: codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID,
    18: codes.ERROR_WINHTTP_SECURE_INVALID_CA,
    19: codes.ERROR_WINHTTP_SECURE_INVALID_CA,
    20: codes.ERROR_WINHTTP_SECURE_INVALID_CA,
    21: codes.ERROR_WINHTTP_SECURE_INVALID_CA,
    62: codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID,
    64: codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID,
}
"""By OpenSSL's number of what is wrong with a certificate."""


class BackendError(Exception):
    """The application did not answer, or not so that it can be read; the text says what happened, for people."""

    def __init__(self, hresult: int, words: str) -> None:
        super().__init__(words)
        self.hresult = hresult


class TooLongError(Exception):
    """The body of the answer is longer than is allowed."""


class Helpers:
    """Threads of our own: those of the loop are for the files of uploads, and slow names must not hold them up."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="notifying")

    async def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What the function returns; who is cancelled does not wait for its end."""
        return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))

    async def on_file(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The same with an open file: its end is waited for in any case, so that the file can be closed then."""
        done = asyncio.ensure_future(self.call(function, *args, **kwargs))
        try:
            return await asyncio.shield(done)
        finally:
            await asyncio.wait((done,))

    def close(self) -> None:
        """No calls any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Exchange:
    """One request and its answer, on a connection of its own. Phases raise TimeoutError, BackendError and OSError.

    OSError is about files of ours; what the network does is a BackendError.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, helpers: Helpers, phase_seconds: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._helpers = helpers
        self._phase_seconds = phase_seconds
        self._http = h11.Connection(h11.CLIENT)

    async def ask(self, target: str, fields: Sequence[tuple[bytes, bytes]], body: BinaryIO | None) -> h11.Response:
        """Send the request and its body, as long as the fields say; the head of the answer.

        An answer may come before the whole body is sent: the rest stays unsent then.
        """
        head = h11.Request(method="POST", target=target, headers=list(fields))
        sending = asyncio.create_task(self._send(head, body))
        answering = asyncio.create_task(self._response())
        try:
            async with asyncio.timeout(self._phase_seconds):
                await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                await self._sent(sending)
            async with asyncio.timeout(self._phase_seconds):
                return await answering
        finally:
            for task in (sending, answering):
                task.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)

    async def discard(self) -> None:
        """Read the body to its end, which says that the application has done its work."""
        async with asyncio.timeout(self._phase_seconds):
            while await self._piece():
                pass

    async def store(self, file: BinaryIO, limit_bytes: int) -> int:
        """Write the body to the file; its length. Raises TooLongError."""
        length = 0
        gathered = bytearray()
        async with asyncio.timeout(self._phase_seconds):
            while piece := await self._piece():
                length += len(piece)
                if length > limit_bytes:
                    raise TooLongError
                gathered += piece
                if len(gathered) >= _PIECE_BYTES:
                    await self._helpers.on_file(file.write, bytes(gathered))
                    gathered.clear()
            await self._helpers.on_file(file.write, bytes(gathered))
        return length

    async def _send(self, head: h11.Request, body: BinaryIO | None) -> None:
        await self._write(head)
        while body is not None and (piece := await self._helpers.on_file(body.read, _PIECE_BYTES)):
            await self._write(h11.Data(data=piece))
        await self._write(h11.EndOfMessage())

    async def _write(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        self._writer.write(self._http.send(event) or b"")
        with _network():
            await self._writer.drain()

    @staticmethod
    async def _sent(sending: asyncio.Task[None]) -> None:
        """A connection that ends while something is sent may have brought an answer: reading decides that."""
        with contextlib.suppress(BackendError):
            await sending

    async def _response(self) -> h11.Response:
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event

    async def _piece(self) -> bytes:
        """The next bytes of the body, empty at its end."""
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if isinstance(event, h11.Data) and event.data:
                return bytes(event.data)
        return b""

    async def _event(self) -> object:
        """What comes next, of h11's events: only those of an answer that is not at its end."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise _unreadable(str(error)) from None
            if event is not h11.NEED_DATA:
                return event
            with _network():
                data = await self._reader.read(_PIECE_BYTES)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise BackendError(codes.ERROR_WINHTTP_CONNECTION_ERROR, "it closed the connection without an answer")
            self._http.receive_data(data)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """What verifies an application by these authorities; empty: by those of the machine. Raises BackendError."""
    trusted = ca_file or next((path for path in SYSTEM_CA_FILES if os.access(path, os.R_OK)), None)
    try:
        context = ssl.create_default_context(cafile=trusted)
    except OSError as error:  # of the file, and SSLError of what is in it
        words = f"the authorities of notification_ca_file {ca_file} cannot be read ({error})"
        raise BackendError(codes.ERROR_WINHTTP_SECURE_INVALID_CA, words) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextlib.asynccontextmanager
async def connected(
    address: Address, tls: ssl.SSLContext | None, helpers: Helpers, phase_seconds: float
) -> AsyncIterator[Exchange]:
    """A connection to the application for one exchange; gone afterwards. Connecting belongs to the sending.

    Raises TimeoutError and BackendError.
    """
    async with asyncio.timeout(phase_seconds):
        with _network():
            reader, writer = await _connect(address, tls, helpers)
    try:
        yield Exchange(reader, writer, helpers, phase_seconds)
    finally:
        writer.transport.abort()


async def _connect(
    address: Address, tls: ssl.SSLContext | None, helpers: Helpers
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.scheme == "unix":
        return await asyncio.open_unix_connection(address.host, limit=_PIECE_BYTES)
    over_tls: dict[str, Any] = {}
    if tls is not None:  # a handshake is limited as the phase is; asyncio's own limit would not look like a time-out
        over_tls = {"ssl": tls, "server_hostname": address.host, "ssl_handshake_timeout": PHASE_SECONDS}
    failures: list[OSError] = []
    for ip in await helpers.call(_addresses, address.host, address.port):
        try:
            return await asyncio.open_connection(ip, address.port, limit=_PIECE_BYTES, **over_tls)
        except ssl.SSLError:
            raise
        except OSError as error:
            failures.append(error)
    raise failures[0]


def _addresses(host: str, port: int) -> list[str]:
    """In the order in which they are to be tried."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """What the network raises, as a BackendError; a time-out stays one."""
    try:
        yield
    except TimeoutError:
        raise
    except socket.gaierror as error:
        raise BackendError(codes.ERROR_WINHTTP_NAME_NOT_RESOLVED, f"its name is not found ({error.strerror})") from None
    except ssl.SSLCertVerificationError as error:
        hresult = _VERIFICATION.get(error.verify_code, codes.ERROR_WINHTTP_SECURE_INVALID_CERT)
        raise BackendError(hresult, f"its certificate is refused: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise BackendError(codes.ERROR_WINHTTP_SECURE_CHANNEL_ERROR, f"TLS failed ({error.reason})") from None
    except OSError as error:
        hresult = codes.from_errno(error.errno or errno.ECONNRESET)  # asyncio has no number for a lost connection
        words = error.strerror or str(error) or type(error).__name__
        raise BackendError(hresult, f"the connection failed ({words})") from None


def _unreadable(words: str) -> BackendError:
    return BackendError(codes.ERROR_WINHTTP_INVALID_SERVER_RESPONSE, f"its answer cannot be read ({words:.100})")
