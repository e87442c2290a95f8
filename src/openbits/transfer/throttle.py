"""Fixed limits: token buckets, and the transfers that wait until there are tokens again (bandwidth.md §6).

What comes and what goes out have one limit.

libcurl's own limit lets a second's budget through at once; ours 50 ms of it. Who has taken what was there is paused
and goes on in the order in which the others were. Nothing is called while nothing waits.
"""

import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from openbits.transfer.loop import Loop, Timer

DEPTH_SECONDS: Final = 0.05
"""What may come at once after a silence, as time at the full rate."""

TICK_SECONDS: Final = 0.01

RECEIVE_SECONDS: Final = 0.1
"""What the kernel may hold for a connection: more would come over the wire faster than the limit at first."""

LEAST_BUFFER_BYTES: Final = 1024

Take = Callable[[bytes], int | None]


class Bucket:
    """So many bytes a second, as time goes by; None: as many as there are. Instants are those of the loop's clock.

    It may go into debt by the bytes of one call, since these are here already; they are missing afterwards.
    """

    def __init__(self, bytes_per_second: int | None, now: float) -> None:
        self.bytes_per_second = bytes_per_second
        self._tokens = 0.0
        self._at = now

    def change(self, bytes_per_second: int | None, now: float) -> None:
        """Another rate, from now on."""
        if bytes_per_second != self.bytes_per_second:
            self.bytes_per_second = bytes_per_second
            self._tokens = min(self._tokens, 0.0) if bytes_per_second is not None else 0.0
            self._at = now

    def may_take(self, now: float) -> bool:
        """True if the next bytes may come."""
        rate = self.bytes_per_second
        if rate is None:
            return True
        self._tokens = min(self._tokens + rate * (now - self._at), rate * DEPTH_SECONDS)
        self._at = now
        return self._tokens > 0

    def take(self, size_bytes: int) -> None:
        """They came."""
        if self.bytes_per_second is not None:
            self._tokens -= size_bytes


class Waiting(NamedTuple):
    """A transfer that waits: its own limit, and how it goes on."""

    own: Bucket
    resume: Callable[[], None]


class Limiter:
    """The limit of a worker, and all its transfers that wait for tokens, in the order they came."""

    def __init__(self, loop: Loop) -> None:
        self.bucket = Bucket(None, loop.now())
        self.now = loop.now
        self._loop = loop
        self._waiting: dict[object, Waiting] = {}
        self._timer: Timer | None = None
        self._is_resuming = False

    def limit(self, bytes_per_second: int | None) -> None:
        """What all transfers together may receive, from now on."""
        self.bucket.change(bytes_per_second, self.now())

    def may_take(self, own: Bucket) -> bool:
        """True if a transfer under this other limit may take bytes now; not past those that wait for their turn."""
        if self._waiting and not self._is_resuming:
            return False
        return self._has_tokens(own)

    def wait(self, who: object, own: Bucket, resume: Callable[[], None]) -> None:
        """Call `resume` once there are tokens."""
        self._waiting[who] = Waiting(own, resume)
        if self._timer is None:
            self._tick_later()

    def forget(self, who: object) -> None:
        """It is over."""
        self._waiting.pop(who, None)

    def is_waiting(self, who: object) -> bool:
        """True if it waits for tokens."""
        return who in self._waiting

    def _has_tokens(self, own: Bucket) -> bool:
        now = self.now()
        return own.may_take(now) and self.bucket.may_take(now)

    def _tick_later(self) -> None:
        self._timer = self._loop.call_at(self.now() + TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        """Each goes on that finds tokens; who waits again is behind the others."""
        self._timer = None
        self._is_resuming = True
        for who, waiting in list(self._waiting.items()):
            if self._has_tokens(waiting.own) and self._waiting.pop(who, None) is not None:  # else another one ended it
                waiting.resume()
        self._is_resuming = False
        if self._waiting and self._timer is None:
            self._tick_later()


class Throttle:
    """The limit of a job within that of its worker."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._own = Bucket(None, limiter.now())

    def limit(self, bytes_per_second: int | None) -> None:
        """What the job may receive, from now on."""
        self._own.change(bytes_per_second, self._limiter.now())

    def governed(self, who: object, take: Take, resume: Callable[[], None], pause: int) -> Take:
        """`take`, which answers `pause` while there are no tokens; then `resume` is called when there are again."""

        def taken(data: bytes) -> int | None:
            if self.holds(who, resume):
                return pause
            self.took(len(data))
            return take(data)

        return taken

    def holds(self, who: object, resume: Callable[[], None]) -> bool:
        """True while there are no tokens; then `resume` is called when there are again."""
        limiter, own = self._limiter, self._own
        is_unlimited = own.bytes_per_second is None and limiter.bucket.bytes_per_second is None
        if is_unlimited or limiter.may_take(own):
            return False
        limiter.wait(who, own, resume)
        return True

    def took(self, size_bytes: int) -> None:
        """Bytes came, or go out."""
        self._own.take(size_bytes)
        self._limiter.bucket.take(size_bytes)

    def is_holding(self, who: object) -> bool:
        """True if it waits for tokens."""
        return self._limiter.is_waiting(who)

    def forget(self, who: object) -> None:
        """It is over."""
        self._limiter.forget(who)

    def buffer_bytes(self, usual: int) -> int:
        """How much may be read from a connection, or sent, at once."""
        rate = self.bytes_per_second
        return usual if rate is None else max(LEAST_BUFFER_BYTES, min(usual, int(rate * TICK_SECONDS)))

    def prepare(self, descriptor: int) -> None:
        """Have the kernel hold little for a connection that will be made."""
        rate = self.bytes_per_second
        if rate is not None:
            connection = socket.socket(fileno=descriptor)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(rate * RECEIVE_SECONDS))
            connection.detach()

    @property
    def bytes_per_second(self) -> int | None:
        """What the job can have at most, alone in its worker; None: as much as there is."""
        rates = (self._own.bytes_per_second, self._limiter.bucket.bytes_per_second)
        return min((rate for rate in rates if rate is not None), default=None)
