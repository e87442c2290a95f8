"""How libcurl gets the body of a request: its length is told before, its bytes are read when there is room for them.

A body is never sent in chunks (upload-protocol.md H2). It is read in the turn of the loop in which it goes out: one
piece of it is in memory, and libcurl's buffer, which has the same size.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pycurl

from openbits.core import codes, packets
from openbits.transfer.decisions import Body
from openbits.transfer.request import Breakage, Request, Tunnel
from openbits.transfer.throttle import Throttle

PIECE_BYTES: Final = 128 * 1024
"""Less than `memory.LARGE_BYTES`: with pages of their own for each piece, page faults would cost more than the rest."""

EXPECT_MS: Final = 2000
"""H8: so long the body waits for the server to say that it wants it."""

_NOTHING: Final = Body(read=lambda _offset, _size: b"", offset=0, length=0)


class Sent(NamedTuple):
    """How far the body of an exchange is: so much of it the kernel has taken, and has so much under way.

    `is_held`: a limit keeps the next bytes back.
    """

    taken_bytes: int
    under_way_bytes: int
    is_held: bool


NOTHING_SENT: Final = Sent(taken_bytes=0, under_way_bytes=0, is_held=False)


class Feed:
    """The body of one request, read from its start again whenever libcurl sends it again.

    `throttle`: the limit that it goes out under, in the turn of `who`; `resume` is called when it may go on.
    """

    def __init__(self, body: Body, throttle: Throttle | None, who: object, resume: Callable[[], None]) -> None:
        self.breakage: Breakage | None = None
        """Why it could not be read, which ends the exchange."""
        self._body = body
        self._throttle = throttle
        self._who = who
        self._resume = resume
        self._read_bytes = 0

    @property
    def is_held(self) -> bool:
        """True while the next bytes wait for the limit."""
        return self._throttle is not None and self._throttle.is_holding(self._who)

    def read(self, size: int) -> bytes | int:
        """The next bytes, as many as there is room for; libcurl does not ask beyond the last one."""
        if self._throttle is None:
            return self._read(size)
        if self._throttle.holds(self._who, self._resume):
            return int(pycurl.READFUNC_PAUSE)
        data = self._read(self._throttle.buffer_bytes(size))
        if isinstance(data, bytes):
            self._throttle.took(len(data))
        return data

    def _read(self, size: int) -> bytes | int:
        at = self._body.offset + self._read_bytes
        wanted = min(size, self._body.length - self._read_bytes)
        try:
            data = self._body.read(at, wanted)
        except OSError as error:
            return self._unread(at, codes.from_errno(error.errno or 0), error.strerror or "it cannot be read")
        except EOFError:
            data = b""
        if not data and wanted:
            return self._unread(at, codes.BG_E_LOCAL_FILE_CHANGED, "there is nothing any more")
        self._read_bytes += len(data)
        return data

    def _unread(self, at: int, hresult: int, why: str) -> int:
        words = f"reading what is to be sent, at byte {at}: {why}"
        self.breakage = Breakage(hresult=hresult, words=words, is_unread=True)
        return int(pycurl.READFUNC_ABORT)

    def seek(self, offset: int, _origin: int) -> int:
        """See CURLOPT_SEEKFUNCTION; libcurl counts from the start of the body."""
        self._read_bytes = offset
        return int(pycurl.SEEKFUNC_OK)


def body_of(request: Request) -> Body | None:
    """What is sent: a packet without a body says so (H2), whatever else has none says nothing."""
    if request.handshake is not None or request.tunnel is Tunnel.WANTED:  # neither is the request itself
        return None
    return request.body or (_NOTHING if request.method == packets.METHOD else None)


def fields(request: Request) -> list[bytes]:
    """What libcurl says, or does not say by itself, about waiting for the server's word (H8)."""
    if body_of(request) is None:
        return []
    return [b"Expect: 100-continue" if request.is_expecting else b"Expect:"]


def options(body: Body, feed: Feed) -> list[tuple[int, Any]]:
    """Of the handle of a request that has this body."""
    return [
        (pycurl.UPLOAD, 1),
        (pycurl.INFILESIZE_LARGE, body.length),
        (pycurl.READFUNCTION, feed.read),
        (pycurl.SEEKFUNCTION, feed.seek),
        (pycurl.UPLOAD_BUFFERSIZE, PIECE_BYTES),
        (pycurl.EXPECT_100_TIMEOUT_MS, EXPECT_MS),
    ]
