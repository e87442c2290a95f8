"""Proxies that are spoken to over TLS or SOCKS5 (jobs.md §9.7 and our extension of it)."""

import contextlib
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.nginx import Certificates
from tests.real.socks import Socks
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import FaultServer
from tests.transfer.forwardproxy import ForwardProxy

BODY = random.Random(7).randbytes(60_000)  # noqa: S311  # no secret


def through(worker: WorkerProcess, proxy_list: str) -> None:
    worker.proxy = {**worker.proxy, "usage": "override", "list": proxy_list}


# TLS to the proxy


@pytest.fixture
def tls_proxy(certificates: Certificates) -> Iterator[ForwardProxy]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.issue("DNS:localhost"))
    made = ForwardProxy(tls=context)
    yield made
    made.close()


@pytest.mark.real("openssl")
def test_a_plain_request_goes_to_an_https_proxy_inside_tls(
    certificates: Certificates,
    start_worker: Callable[..., WorkerProcess],
    server: FaultServer,
    tls_proxy: ForwardProxy,
    destination: Path,
) -> None:
    server.serve(BODY)
    worker = start_worker(ca=certificates.ca)
    through(worker, f"https://localhost:{tls_proxy.port}")
    story = worker.fetch(server.url(), destination)
    assert (story.outcome, destination.read_bytes() == BODY) == ("transferred", True)
    assert tls_proxy.lines == [f"GET {server.url()} HTTP/1.1"]


@pytest.mark.real("openssl")
def test_tls_goes_through_an_https_proxy_inside_tls(
    certificates: Certificates,
    start_worker: Callable[..., WorkerProcess],
    start_tls_server: Callable[..., FaultServer],
    tls_proxy: ForwardProxy,
    destination: Path,
) -> None:
    server = start_tls_server(certificates.issue("DNS:localhost"))
    server.serve(BODY)
    worker = start_worker(ca=certificates.ca)
    through(worker, f"https://localhost:{tls_proxy.port}")
    story = worker.fetch(server.url(host="localhost"), destination)
    assert (story.outcome, destination.read_bytes() == BODY) == ("transferred", True)
    assert tls_proxy.lines == [f"CONNECT localhost:{server.port} HTTP/1.1"]


@pytest.mark.real("openssl")
@pytest.mark.parametrize(
    ("host", "is_trusted", "code"), [("localhost", False, 0x80072F0D), ("127.0.0.1", True, 0x80072F06)]
)
def test_the_certificate_of_a_proxy_is_verified_as_that_of_a_server(
    certificates: Certificates,
    start_worker: Callable[..., WorkerProcess],
    server: FaultServer,
    tls_proxy: ForwardProxy,
    destination: Path,
    host: str,
    is_trusted: bool,  # noqa: FBT001  # a parameter of the test
    code: int,
) -> None:
    """Unknown issuer; a name that is not in it. Nothing is sent, neither through it nor past it."""
    server.serve(BODY)
    worker = start_worker(ca=certificates.ca if is_trusted else certificates.issue("DNS:other")[0])
    through(worker, f"https://{host}:{tls_proxy.port}")
    story = worker.fetch(server.url(), destination)
    assert story.hresult == code
    assert f"through proxy https://{host}:{tls_proxy.port}" in story.detail
    assert "proxy" in story.detail.rpartition(": ")[0].rpartition("through proxy")[2] or is_trusted
    assert (tls_proxy.passed, server.requests) == ([], [])


# SOCKS5

pytest_socks = pytest.mark.real("microsocks")


@pytest.fixture
def socks(tmp_path: Path) -> Iterator[Socks]:
    made = Socks(tmp_path)
    yield made
    made.close()


@pytest_socks
@pytest.mark.parametrize("word", ["socks5", "socks5h"])
def test_a_socks_proxy_looks_the_name_up_itself(
    worker: WorkerProcess, server: FaultServer, socks: Socks, destination: Path, word: str
) -> None:
    """Also under the name by which others know a proxy that does not: no name is asked for past the proxy."""
    server.serve(BODY)
    through(worker, f"{word}://{socks.name}")
    url = server.url(host="localhost")
    story = worker.fetch(url, destination)
    assert (story.outcome, destination.read_bytes() == BODY) == ("transferred", True)
    assert socks.targets() == [f"localhost:{server.port}"]
    assert [(request.target, request.headers["host"]) for request in server.requests] == [
        ("/file", f"localhost:{server.port}")
    ]


@pytest.mark.real("microsocks", "openssl")
def test_tls_goes_through_a_socks_proxy(
    certificates: Certificates,
    start_worker: Callable[..., WorkerProcess],
    start_tls_server: Callable[..., FaultServer],
    socks: Socks,
    destination: Path,
) -> None:
    server = start_tls_server(certificates.issue("DNS:localhost"))
    server.serve(BODY)
    worker = start_worker(ca=certificates.ca)
    through(worker, f"https=socks5://{socks.name}")
    story = worker.fetch(server.url(host="localhost"), destination)
    assert (story.outcome, destination.read_bytes() == BODY) == ("transferred", True)
    assert socks.targets() == [f"localhost:{server.port}"]


@pytest_socks
def test_a_server_that_the_socks_proxy_cannot_reach_is_transient_and_the_proxy_lives(
    worker: WorkerProcess, server: FaultServer, socks: Socks, destination: Path
) -> None:
    server.serve(BODY)
    through(worker, f"socks5://{socks.name}")
    story = worker.fetch("http://127.0.0.1:1/file", destination)
    assert story.hresult == 0x80072EFD
    assert f"through proxy socks5://{socks.name}" in story.detail
    assert worker.fetch(server.url(), destination).connected["note"] == ""


@pytest_socks
def test_a_socks_proxy_that_wants_a_password_is_a_refusal_like_407(
    worker: WorkerProcess, server: FaultServer, destination: Path, tmp_path: Path
) -> None:
    socks = Socks(tmp_path, user="me", password="secret")
    try:
        through(worker, f"socks5://{socks.name}")
        story = worker.fetch(server.url(), destination)
    finally:
        socks.close()
    assert story.hresult == 0x80190197
    assert server.requests == []


@pytest.fixture
def greeted() -> Iterator[tuple[str, list[bytes]]]:
    """A SOCKS server that hangs up after the greeting: its name, and what it was greeted with."""
    greetings = list[bytes]()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        greetings.append(connection.recv(64))

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", greetings
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_no_ticket_is_offered_to_a_socks_proxy(
    worker: WorkerProcess, destination: Path, greeted: tuple[str, list[bytes]]
) -> None:
    """RFC 1928: method 0 is none, 1 is GSSAPI, which libcurl offers by itself, and 2 user and password."""
    name, greetings = greeted
    through(worker, f"socks5://{name}")
    assert worker.fetch("http://h.example/file", destination).outcome == "failed"
    assert set(greetings) == {b"\x05\x01\x00"}


@pytest_socks
def test_user_and_password_go_to_a_socks_proxy(
    worker: WorkerProcess, server: FaultServer, destination: Path, tmp_path: Path
) -> None:
    """Credentials for target proxy with scheme basic (RFC 1929 has nothing else)."""
    server.serve(BODY)
    socks = Socks(tmp_path, user="me", password="secret")
    known = {"target": "proxy", "scheme": "basic", "user": "me", "password": "secret", "origin": None}
    try:
        through(worker, f"socks5://{socks.name}")
        worker.entrusted = {"credentials": [known]}
        assert worker.fetch(server.url(), destination).outcome == "transferred"
        worker.entrusted = {"credentials": [{**known, "password": "wrong"}]}
        assert worker.fetch(server.url(), destination).hresult == 0x80190197
    finally:
        worker.entrusted = {}
        socks.close()


@pytest_socks
def test_a_dead_socks_proxy_is_passed_over(
    worker: WorkerProcess, server: FaultServer, socks: Socks, destination: Path
) -> None:
    server.serve(BODY)
    through(worker, f"socks5://127.0.0.1:1 socks5://{socks.name}")
    story = worker.fetch(server.url(), destination)
    assert (story.outcome, story.connected["note"]) == ("transferred", "1 of the proxies could not be reached")
    assert len(socks.targets()) == 1
