"""An upload server that knows who connects, and jobs that upload to it."""

import contextlib
import secrets
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.peers import uid_of_peer
from tests.real import stories
from tests.real.conftest import Service, run_as
from tests.transfer.faultserver import Step
from tests.transfer.uploadserver import Act, Exchange, UploadServer, honest

from openbits import JobType, TokenFlags

BODY = secrets.token_bytes(3_000_000)
"""More than one fragment: they begin with 256 KiB (upload-protocol.md §7.4)."""

ANSWER = b"the answer of the application"


class WatchedServer(UploadServer):
    """Its connections, by number, and the uids of their other ends as the kernel says."""

    def __init__(self, **given: Any) -> None:
        self.uids: dict[int, int] = {}
        super().__init__(**given)

    def _converse(self, connection: socket.socket, number: int) -> None:
        self.uids[number] = uid_of_peer(connection)
        super()._converse(connection, number)

    def uids_of(self, kind: str) -> list[int]:
        """Who sent the packets of this kind."""
        return [self.uids[packet.connection] for packet in self.sent(kind)]


@contextlib.contextmanager
def serving(reply: bytes | None = None, **given: Any) -> Iterator[WatchedServer]:
    server = WatchedServer(**given)
    server.reply = reply
    try:
        yield server
    finally:
        server.close()


def held(event: threading.Event, act: Act = honest) -> Act:
    """The same, when the event is set."""

    def wait(exchange: Exchange) -> Iterable[Step]:
        event.wait(60)
        return act(exchange)

    return wait


def begin(
    service: Service, user: Any, url: str, source: Path, kind: JobType = JobType.UPLOAD, **properties: Any
) -> stories.Job:
    """A job of `user` that uploads this file."""
    return stories.create(service, user, [(url, source)], type=kind, **properties)


def reply_of(service: Service, user: Any, job_id: str) -> bytes:
    """GetReplyData, called by this user."""
    data: bytes = _with_job(service, user, job_id, lambda job: job.reply_data())
    return data


def reply_progress(service: Service, user: Any, job_id: str) -> tuple[int | None, int]:
    """GetReplyProgress, called by this user."""
    progress: tuple[int | None, int] = _with_job(service, user, job_id, lambda job: job.reply_progress())
    return progress


def _with_job(service: Service, user: Any, job_id: str, act: Callable[[Any], Any]) -> Any:
    def ask() -> Any:
        with service.client() as client:
            return act(client.job(job_id))

    return run_as(user, ask)


def start_with_helper(service: Service, helper: Any, flags: int, kind: JobType, url: str, source: Path) -> str:
    """A job with this helper, made by whoever calls."""
    with service.client() as client:
        job = client.create_job("two identities", type=kind)
        with client.logon_user(helper.name, helper.password) as token, token.impersonate():
            job.set_helper_token()
        job.set_helper_token_flags(TokenFlags(flags))
        job.add_file(url, source)
        job.resume()
        return str(job.id)


class Doorman:
    """A door before a server, which knows whose connections come through: the uids that the kernel says."""

    def __init__(self, server_port: int) -> None:
        self.uids: set[int] = set()
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Let nobody in any more, and wait for those who are in."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "somebody does not leave"
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                guest, _ = self._listener.accept()
                self.uids.add(uid_of_peer(guest))
                self._threads.append(threading.Thread(target=self._lead, args=(guest,)))
                self._threads[-1].start()

    def _lead(self, guest: socket.socket) -> None:
        """Carry what both sides say, until one of them leaves, or the door is closed for half a second."""
        address = ("127.0.0.1", self._server_port)
        with contextlib.suppress(OSError), guest, socket.create_connection(address) as house:
            others = {guest: house, house: guest}
            while self._threads[0].is_alive():
                for speaker in select.select(others, (), (), 0.5)[0]:
                    data = speaker.recv(1 << 16)
                    if not data:
                        return
                    others[speaker].sendall(data)
