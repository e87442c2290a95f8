"""What a directory may take at a time: max_connections and max_bandwidth (upload-protocol.md §11).

Bodies and files are slowed down to the bandwidth; a request that would have to wait long before its first byte is
answered with 503 and Retry-After.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator

from openbits.server.model import Directory, RefusedError

LONGEST_WAIT_SECONDS = 10.0
BUSY_SECONDS = 5
"""Retry-After of a directory with all its connections in use."""


class Bucket:
    """Bytes that may pass, `rate` of them a second, a second's worth at once. Instants are of a monotonic clock."""

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._free_at = now

    def wait(self, now: float) -> float:
        """How long until something may pass."""
        return max(0.0, self._free_at - now)

    def take(self, count: int, now: float) -> float:
        """Take bytes that are here already; how long to wait before the next ones."""
        self._free_at = max(self._free_at, now - 1.0) + count / self._rate
        return self.wait(now)


class Limits:
    """The requests in progress of each directory, and its bucket."""

    def __init__(self) -> None:
        self._busy: Counter[str] = Counter()
        self._buckets: dict[tuple[str, int], Bucket] = {}

    @contextlib.contextmanager
    def one_more(self, directory: Directory) -> Iterator[None]:
        """For as long as a request takes. Raises RefusedError: not now."""
        if 0 < directory.max_connections <= self._busy[directory.url_path]:
            raise RefusedError(503, None, "max_connections", retry_after_seconds=BUSY_SECONDS)
        bucket = self._bucket(directory)
        wait = bucket.wait(time.monotonic()) if bucket else 0.0
        if wait > LONGEST_WAIT_SECONDS:
            raise RefusedError(503, None, "max_bandwidth", retry_after_seconds=math.ceil(wait))
        self._busy[directory.url_path] += 1
        try:
            yield
        finally:
            self._busy[directory.url_path] -= 1

    async def passed(self, directory: Directory, count: int) -> None:
        """So many bytes came or went; returns when the next ones may."""
        bucket = self._bucket(directory)
        wait = bucket.take(count, time.monotonic()) if bucket else 0.0
        if wait:
            await asyncio.sleep(wait)

    def _bucket(self, directory: Directory) -> Bucket | None:
        """One for each directory and rate, so that a changed setting counts at once."""
        rate = directory.max_bandwidth_bytes_per_second
        if not rate:
            return None
        key = (directory.url_path, rate)
        if key not in self._buckets:
            self._buckets[key] = Bucket(rate, time.monotonic())
        return self._buckets[key]
