"""The world of the job campaign: the service on a disk that syncs at once, its server, and a job that never ends."""

import itertools
from collections.abc import Callable
from pathlib import Path

from tests.real.conftest import Service
from tests.transfer.faultserver import SILENCE, FaultServer, Request, Step, head

import openbits
from openbits import com
from openbits.api.notifications import EventStream
from openbits.api.wire import JobInfo

BODY = b"there is one version of this file\n" * 30
HALF = 10
PATIENT = "[clocks]\nconnect_seconds = 100000\nfirst_byte_seconds = 100000\nfloor_seconds = 100000\n"
"""A silent server is no failure."""
FIELDS = ('ETag: "one"', "Accept-Ranges: bytes")


def answer(request: Request) -> list[Step]:
    """What each kind of file does to its job."""
    kind, length = request.target.rpartition("/")[2].partition("-")[0], len(BODY)
    match kind:
        case "silent":
            return [SILENCE]
        case "gone":
            return [head("404 Not Found", "Content-Length: 0")]
        case "busy":
            return [head("503 Service Unavailable", "Retry-After: 3600", "Content-Length: 0")]
    if request.method == "HEAD":
        return [head("200 OK", f"Content-Length: {length}", *FIELDS)]
    first = request.offset or 0
    span = (f"Content-Range: bytes {first}-{length - 1}/{length}",) if first else ()
    start = head("206 Partial Content" if first else "200 OK", f"Content-Length: {length - first}", *span, *FIELDS)
    return [start, BODY[first:]] if kind == "good" else [start, BODY[first:HALF], SILENCE]


class World:
    """The service, its queue as COM and as Client see it, the server, and a job that never gives its slot back."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.folder = folder
        self.server = FaultServer()
        for method in ("HEAD", "GET"):
            self.server.answer(method, answer)
        self.numbers = itertools.count()
        self.calls = self.restarts = 0
        self.patience_seconds = 20.0
        self._connect()
        with service.client() as client:
            blocker = client.create_job("blocker", priority=openbits.Priority.HIGH)
            blocker.add_file(self.server.url("/half-blocker"), folder / "blocker")
            blocker.resume()
            self.blocker = str(blocker.id)
        self._wait_for_blocker()

    def url(self, name: str) -> str:
        """Where the file of that name is; a server that is busy has nothing else, since all jobs leave it alone."""
        return self.server.url(f"/{name}", host=f"{name}.localhost" if name.startswith("busy") else "127.0.0.1")

    def restart(self, *, is_orderly: bool) -> None:
        """End the service or its manager, and connect anew when it is there again."""
        self._disconnect()
        self.restarts += 1
        if is_orderly:
            self.service.stop()
            self.service.start()
        else:
            old = self.service.pids()["manager"]
            self.service.kill("spawner" if self.restarts % 4 == 0 else "manager")
            if self.service.has_ended():
                self.service.start()
            self.service.wait_until_it_answers()
            while self.service.pids()["manager"] == old:  # it is dying, and answers what it has read before
                self.service.wait_until_it_answers()
        self._connect()
        self._wait_for_blocker()

    def _connect(self) -> None:
        self.client = self.service.client()
        self.events: EventStream = self.client.events()
        self.manager = com.BackgroundCopyManager()

    def _disconnect(self) -> None:
        self.events.close()
        self.client.close()
        com.CoUninitialize()

    def _wait_for_blocker(self) -> None:
        self.wait_until(lambda: self.infos()[self.blocker]["state"] == "transferring", "the blocker runs")

    def infos(self) -> dict[str, JobInfo]:
        """The whole queue."""
        return {info["job_id"]: info for info in self.client.job_infos()}

    def wait_until(self, is_true: Callable[[], bool], what: str) -> None:
        """Look again after each event, until it is so."""
        while not is_true():
            if self.events.next(self.patience_seconds) is None:
                self.patience_seconds = 1.0  # the same again, shrunk by Hypothesis, does not take that long
                raise AssertionError(f"nothing happens any more, and it is not so that {what}")

    def close(self) -> None:
        with self.service.client() as client:
            client.job(self.blocker).cancel()
        self._disconnect()
        self.server.close()
