"""What connections cost: TLS sessions are resumed within a job, and within a job alone."""

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.nginx import Certificates
from tests.transfer.conftest import WorkerProcess

pytestmark = pytest.mark.real("openssl")

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"


class ClosingServer:
    """A TLS server that closes after each answer, and notes of each connection whether its session was resumed."""

    def __init__(self, certificate: Path, key: Path, version: ssl.TLSVersion) -> None:
        self.was_resumed: list[bool] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.maximum_version = version
        self._listener = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
        self.url = f"https://localhost:{self._listener.getsockname()[1]}/file"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.was_resumed.append(bool(connection.session_reused))
                connection.recv(65536)
                connection.sendall(ANSWER)
                connection.unwrap().close()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[ClosingServer]:
    made = ClosingServer(*certificates.issue("DNS:localhost"), request.param)
    yield made
    made.close()


def test_sessions_are_resumed_within_a_job_and_within_a_job_alone(
    server: ClosingServer, certificates: Certificates, tmp_path: Path
) -> None:
    worker = WorkerProcess(ca=certificates.ca)
    try:
        for job, name in (("first", "a"), ("first", "b"), ("second", "c")):
            worker.job = job
            assert worker.fetch(server.url, tmp_path / name).outcome == "transferred"
    finally:
        worker.close()
    assert server.was_resumed == [False, True, False]
    assert {path.name for path in tmp_path.iterdir() if path.read_bytes() == b"body"} == {"a", "b", "c"}
