"""A connection that was kept has died: the request goes out again, through a tunnel that is made anew for that."""

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.nginx import Certificates
from tests.transfer.conftest import WorkerProcess
from tests.transfer.forwardproxy import ForwardProxy
from tests.transfer.upload_stage import Upload

from openbits.core import codes

pytestmark = pytest.mark.real("openssl")

BODY = b"0123456789"
WHOLE = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: "1"\r\n\r\n0123456789'
ACK = (
    b"HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nBITS-Session-Id: {7}\r\n"
    b"BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\nContent-Length: 0\r\n\r\n"
)
REST = b'HTTP/1.1 206 Partial Content\r\nContent-Length: 8\r\nContent-Range: bytes 2-9/10\r\nETag: "1"\r\n\r\n23456789'


class DroppingServer:
    """A TLS server that answers the first request with `first`, drops the connection at the second, and answers others
    with `others`, or drops them too. `is_orderly`: it takes leave.
    """

    def __init__(self, certificate: Path, key: Path, *, is_orderly: bool) -> None:
        self.first, self.others = WHOLE, REST
        self.requests = 0
        self._numbers = itertools.count(1)
        self._is_orderly = is_orderly
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.name = f"localhost:{self._listener.getsockname()[1]}"
        self.url = f"https://{self.name}/file"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(connection, server_side=True) as secured:
            while secured.recv(65536):
                self.requests = next(self._numbers)
                answer = {1: self.first, 2: b""}.get(self.requests, self.others)
                if not answer:
                    if self._is_orderly:
                        secured.unwrap()
                    return
                secured.sendall(answer)


@pytest.fixture(params=[True, False], ids=["orderly", "cut"])
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[DroppingServer]:
    made = DroppingServer(*certificates.issue("DNS:localhost"), is_orderly=request.param)
    yield made
    made.close()


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    made = ForwardProxy()
    yield made
    made.close()


@pytest.mark.parametrize("denied", [[], ["169.254.0.0/16"]], ids=["anywhere", "denied networks"])
def test_the_word_of_the_proxy_about_the_new_tunnel_is_no_answer(
    server: DroppingServer, proxy: ForwardProxy, certificates: Certificates, tmp_path: Path, denied: list[str]
) -> None:
    worker = WorkerProcess(ca=certificates.ca, denied_networks=denied)
    try:
        worker.proxy.update(usage="override", list=proxy.name)
        assert worker.fetch(server.url, tmp_path / "a").outcome == "transferred"
        (tmp_path / "b").write_bytes(BODY[:2])
        story = worker.fetch(server.url, tmp_path / "b", 2, size_bytes=10, etag='"1"')
    finally:
        worker.close()
    assert (story.outcome, [one["connected"]["offset"] for one in story.told("transferred")]) == ("transferred", [2])
    assert (tmp_path / "b").read_bytes() == BODY
    assert server.requests == 3
    assert proxy.lines == [f"CONNECT {server.name} HTTP/1.1"] * 2  # the second tunnel is used


def test_nor_is_it_the_answer_to_a_fragment(
    server: DroppingServer, proxy: ForwardProxy, certificates: Certificates, tmp_path: Path
) -> None:
    """§10.2: a connection that is reset is a transient error, and no answer that breaks the protocol (D25)."""
    server.first, server.others = ACK, b""
    source = tmp_path / "source"
    source.write_bytes(BODY)
    worker = WorkerProcess(ca=certificates.ca)
    try:
        worker.proxy.update(usage="override", list=proxy.name)
        story = Upload(worker, server.url, source).attempt()
    finally:
        worker.close()
    assert (story.outcome, story.hresult) == ("failed", codes.ERROR_WINHTTP_CONNECTION_ERROR)
