"""The server of a campaign: versions that change when a client says PUT, some paths slower than others.

Of what is called `…parts…` a local file is made of `PARTS`, of anything else of the whole.
"""

import time
from typing import Any

from tests.real.versions import Versions
from tests.transfer.faultserver import Request, Step, head, size_only
from tests.transfer.rangeserver import one, several, spans_of

PARTS = [(600_000, None), (100, 300_000), (450_000, 7), (0, 100)]
"""Offset and length, in the order in which they are in the local file."""


def local(target: str, body: bytes) -> bytes:
    """What a local file is to be if this is the version of the remote one."""
    if "parts" not in target:
        return body
    return b"".join(body[start : None if length is None else start + length] for start, length in PARTS)


class Pages(Versions):
    """`/calm…` takes more than three seconds, time for a checkpoint, `/slow…` more than one, `/late…` nearly as long to
    begin, everything else a tenth of one.
    """

    def __init__(self) -> None:
        super().__init__(pause_seconds=0.004)
        self.server.answer("HEAD", self._sized)
        self.server.answer("PUT", self._renewed)

    def _sized(self, request: Request) -> Any:
        if request.target.startswith("/late"):
            time.sleep(0.8)  # the pace of a server that thinks
        return size_only(self._now(request), self._tag(request))

    def _renewed(self, request: Request) -> Any:
        self.put(request.target)
        return [head("200 OK", "Content-Length: 0")]

    def _get(self, request: Request) -> Any:
        """Ranges in order, one or several at once; of another version than was asked for the whole file."""
        spans, tag = spans_of(request), self._tag(request)
        if not spans or request.headers.get("if-range", "") not in tag:
            return super()._get(request)
        body = self._now(request)
        start, content = one(body, spans[0], tag) if len(spans) == 1 else several(body, spans, tag)
        return self._paced(_bytes(start), _bytes(content), self.pace(request.target))

    def pace(self, target: str) -> float:
        """See Versions."""
        return {"/calm": 0.25, "/slow": 0.1}.get(target[:5], self.pause_seconds)

    def forget(self, target: str) -> None:
        """Nobody asks for it any more."""
        self.bodies.pop(target, None)


def _bytes(step: Step) -> bytes:
    assert isinstance(step, bytes)
    return step
