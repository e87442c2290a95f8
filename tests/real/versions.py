"""A slow server whose files change now and then."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

from tests.transfer.faultserver import FaultServer, Request, Step, head, size_only

SIZE = 700_000
CHUNK = 50_000


class Versions:
    """A slow server whose files change now and then: each body is one version, told apart by its tag."""

    def __init__(self, pause_seconds: float = 0.01) -> None:
        self.pause_seconds = pause_seconds
        self.server = FaultServer()
        self.bodies: dict[str, list[bytes]] = {}
        self.server.answer("HEAD", lambda request: size_only(self._now(request), self._tag(request)))
        self.server.answer("GET", self._get)

    def put(self, path: str) -> str:
        """A new version; the URL."""
        self.bodies.setdefault(path, []).append(secrets.token_bytes(SIZE))
        return self.server.url(path)

    def _now(self, request: Request) -> bytes:
        return self.bodies[request.target][-1]

    def _tag(self, request: Request) -> str:
        return f'ETag: "{len(self.bodies[request.target])}"'

    def _get(self, request: Request) -> Any:
        body, tag = self._now(request), self._tag(request)
        first = request.offset or 0
        if first and request.headers.get("if-range", "") not in tag:
            first = 0
        fields = [f"Content-Length: {SIZE - first}", tag]
        if first:
            fields.append(f"Content-Range: bytes {first}-{SIZE - 1}/{SIZE}")
        start = head("206 Partial Content" if first else "200 OK", *fields)
        return self._paced(start, body[first:], self.pace(request.target))

    def pace(self, _target: str) -> float:
        """Seconds between two pieces of this file: the pace of a slow line."""
        return self.pause_seconds

    def _paced(self, start: bytes, body: bytes, pause_seconds: float) -> Iterator[Step]:
        yield start
        for offset in range(0, len(body), CHUNK):
            yield body[offset : offset + CHUNK]
            time.sleep(pause_seconds)
