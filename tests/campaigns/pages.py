"""The server of a campaign: versions that change when a client says PUT, some paths slower than others."""

import time
from typing import Any

from tests.real.versions import Versions
from tests.transfer.faultserver import Request, head, size_only


class Pages(Versions):
    """`/slow…` takes more than a second, `/late…` nearly as long to begin, everything else a tenth of one."""

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

    def pace(self, target: str) -> float:
        """See Versions."""
        return 0.1 if target.startswith("/slow") else self.pause_seconds

    def forget(self, target: str) -> None:
        """Nobody asks for it any more."""
        self.bodies.pop(target, None)
