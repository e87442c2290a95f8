"""Uploads half way to a server that is silent then, and what is left of them when they are given up."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real import uploading
from tests.real.conftest import Service, run_as
from tests.real.uploading import WatchedServer
from tests.transfer.faultserver import SILENCE
from tests.transfer.uploadserver import honest, says_raw

from openbits.core.packets import PacketType

FIRST = 256 * 1024
"""Upload-protocol.md §7.4: the first fragment."""
SIZE = 3 << 20
CANCEL, CREATE, FRAGMENT, CLOSE, PING = (
    PacketType.CANCEL_SESSION,
    PacketType.CREATE_SESSION,
    PacketType.FRAGMENT,
    PacketType.CLOSE_SESSION,
    PacketType.PING,
)


class Server(WatchedServer):
    """An upload server that knows who connects, and may say nothing more."""

    def stalls(self) -> None:
        """The first fragment is taken, and of the next ones nothing is heard."""
        self.tell(FRAGMENT, honest, says_raw(SILENCE))


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def again(server: Server) -> Iterator[Callable[[], Server]]:
    """`again()`: the server is started anew where it was, with its sessions."""
    made: list[Server] = []

    def start() -> Server:
        made.append(Server(port=server.port))
        made[-1].sessions, made[-1].files = server.sessions, server.files
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def owner(throwaway_user: Callable[..., User]) -> User:
    return throwaway_user()


@pytest.fixture
def source(owner: User, private_folder: Callable[[Any], Path]) -> Path:
    path = private_folder(owner) / "report.bin"
    path.write_bytes(bytes(SIZE))
    path.chmod(0o644)
    return path


def begin(service: Service, user: Any, url: str, source: Path, **properties: Any) -> str:
    """A running upload job of this user."""
    return uploading.begin(service, user, url, source, **properties).id


def acknowledged(service: Service, job_id: str) -> int:
    with service.client() as client:
        return client.job(job_id).info()["bytes_transferred"]


@pytest.fixture
def half_way(
    service: Service, server: Server, owner: User, source: Path, eventually: Callable[..., Any]
) -> Callable[..., str]:
    """`half_way(**properties)`: a job whose server has taken the first fragment and says nothing more."""

    def make(**properties: Any) -> str:
        server.stalls()
        job_id = begin(service, owner, server.url("/in/report.bin"), source, **properties)
        eventually(lambda: acknowledged(service, job_id) == FIRST and len(server.sent(FRAGMENT)) == 2)
        return job_id

    return make


def cancel(service: Service, user: Any, job_id: str) -> tuple[int, str, float, list[str]]:
    """HRESULT, the state then, how long it took, and which jobs are there then."""

    def act() -> tuple[int, str, float, list[str]]:
        with service.client() as client:
            job = client.job(job_id)
            began = time.monotonic()
            hresult = job.cancel()
            took = time.monotonic() - began
            return hresult, job.state.name, took, [info["job_id"] for info in client.job_infos()]

    return run_as(user, act)


def is_gone(service: Service) -> bool:
    """Nothing of any job is in the store, nor of what was entrusted to one."""
    with contextlib.closing(sqlite3.connect(service.state / "queue" / "queue.db")) as store:
        counts = store.execute("SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM secrets)").fetchone()
    return bool(counts == (0, 0))


def admitted(service: Service) -> set[str]:
    """For whom the service may act without a connection of theirs."""
    return {path.name.partition(".")[0] for path in (service.state / "admitted").iterdir()}
