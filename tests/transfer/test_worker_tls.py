"""TLS: whom the worker trusts, and how it tells that it does not (errors.md §5.1, reliability.md §5)."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.real.nginx import Certificates
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import CLOSE, FaultServer, head, whole

from openbits.core import codes

pytestmark = pytest.mark.real("openssl")

BODY = bytes(range(256)) * 1000
TAG = 'ETag: "a"'

StartWorker = Callable[..., WorkerProcess]
StartServer = Callable[[tuple[Path, Path]], FaultServer]


@pytest.fixture
def server(start_tls_server: StartServer, certificates: Certificates) -> FaultServer:
    """A server with a good certificate for 127.0.0.1."""
    made = start_tls_server(certificates.issue("IP:127.0.0.1"))
    made.serve(BODY, TAG)
    return made


def test_a_trusted_server_is_used(
    start_worker: StartWorker, server: FaultServer, certificates: Certificates, destination: Path
) -> None:
    worker = start_worker(ca=certificates.ca)
    for _ in range(2):  # the certificates are read more than once from the one descriptor
        assert worker.fetch(server.url(), destination).outcome == "transferred"
        assert destination.read_bytes() == BODY


def test_without_certificates_the_worker_says_what_to_install(
    start_worker: StartWorker, server: FaultServer, destination: Path
) -> None:
    story = start_worker().fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CA
    assert "package ca-certificates" in story.detail
    assert "[tls] ca_file" in story.detail
    assert not server.requests


@pytest.mark.parametrize("content", [b"", b"no certificate at all"])
def test_certificates_that_cannot_be_read_trust_nobody(
    start_worker: StartWorker, server: FaultServer, tmp_path: Path, destination: Path, content: bytes
) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_bytes(content)
    story = start_worker(ca=broken).fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CA
    assert not server.requests


@pytest.mark.parametrize(
    ("names", "days", "usage", "hresult"),
    [
        ("DNS:other.example", 2, "serverAuth", codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID),
        ("IP:127.0.0.1", -1, "serverAuth", codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID),
        ("IP:127.0.0.1", 2, "clientAuth", codes.ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE),
    ],
    ids=["name", "expired", "usage"],
)
def test_28_a_bad_certificate_is_fatal_with_its_own_code(
    start_worker: StartWorker,
    start_tls_server: StartServer,
    certificates: Certificates,
    destination: Path,
    names: str,
    days: int,
    usage: str,
    hresult: int,
) -> None:
    server = start_tls_server(certificates.issue(names, days=days, usage=usage))
    story = start_worker(ca=certificates.ca).fetch(server.url(), destination)
    assert story.hresult == hresult
    assert story.last["context"] == "general_transport"
    assert not server.requests, "nothing is said to a server that is not trusted"


def test_28_a_self_signed_certificate_has_no_known_issuer(
    start_worker: StartWorker, start_tls_server: StartServer, certificates: Certificates, destination: Path
) -> None:
    server = start_tls_server(certificates.self_signed())
    story = start_worker(ca=certificates.ca).fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CA


def test_28_another_authority_is_an_unknown_issuer(
    start_worker: StartWorker, server: FaultServer, tmp_path: Path, destination: Path
) -> None:
    story = start_worker(ca=Certificates(tmp_path).ca).fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CA


def test_a_server_that_wants_a_client_certificate_is_told_apart(
    start_worker: StartWorker, certificates: Certificates, destination: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.issue("IP:127.0.0.1"))
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    server = FaultServer(tls=context)
    try:
        story = start_worker(ca=certificates.ca).fetch(server.url(), destination)
        assert story.hresult == codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED
    finally:
        server.close()


@pytest.mark.parametrize(("sent", "outcome"), [(len(BODY), "transferred"), (1000, "failed")])
def test_27_a_missing_close_notify_matters_only_before_the_end(
    start_worker: StartWorker,
    server: FaultServer,
    certificates: Certificates,
    destination: Path,
    sent: int,
    outcome: str,
) -> None:
    server.answer("GET", [*whole(BODY, TAG)[:1], BODY[:sent], CLOSE])
    story = start_worker(ca=certificates.ca).fetch(server.url(), destination)
    assert story.outcome == outcome
    if outcome == "failed":
        assert story.hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR
        assert story.last["durable_bytes"] == sent


def test_27_without_a_length_a_missing_close_notify_is_a_cut(
    start_worker: StartWorker, server: FaultServer, certificates: Certificates, destination: Path
) -> None:
    server.answer("HEAD", [head("200 OK")])
    server.answer("GET", [head("200 OK", "Connection: close"), BODY, CLOSE])
    story = start_worker(ca=certificates.ca).fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR


def test_38_a_redirect_from_https_to_http_is_refused(
    start_worker: StartWorker, server: FaultServer, certificates: Certificates, destination: Path
) -> None:
    plain = FaultServer()
    try:
        plain.serve(BODY)
        for method in ("HEAD", "GET"):
            server.answer(method, [head("302 Found", f"Location: {plain.url()}", "Content-Length: 0")])
        story = start_worker(ca=certificates.ca).fetch(server.url(), destination)
        assert story.hresult == codes.ERROR_WINHTTP_REDIRECT_FAILED
        assert "https to http" in story.detail
        assert "redirect-allow-https-to-http" in story.detail
        assert not plain.requests
    finally:
        plain.close()


def test_a_port_where_no_tls_is_spoken_is_told_as_such(
    start_worker: StartWorker, certificates: Certificates, destination: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(ConnectionError):
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                peer.recv(65536)  # until the worker has gone

        answering = threading.Thread(target=answer)
        answering.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/file"
        story = start_worker(ca=certificates.ca).fetch(url, destination)
        answering.join()
    assert story.hresult == codes.ERROR_WINHTTP_SECURE_CHANNEL_ERROR
    assert "no TLS is spoken there" in story.detail


def test_an_upgrade_to_https_is_followed_and_verified(
    start_worker: StartWorker, server: FaultServer, certificates: Certificates, destination: Path
) -> None:
    plain = FaultServer()
    try:
        for method in ("HEAD", "GET"):
            plain.answer(method, [head("301 Moved", f"Location: {server.url()}", "Content-Length: 0")])
        assert start_worker(ca=certificates.ca).fetch(plain.url(), destination).outcome == "transferred"
        assert destination.read_bytes() == BODY
        untrusting = start_worker().fetch(plain.url(), destination)
        assert untrusting.hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CA
    finally:
        plain.close()


@pytest.mark.parametrize("is_redirected", [False, True])
def test_no_tls_connection_is_made_for_a_job_that_nobody_could_check_for(
    start_worker: StartWorker,
    server: FaultServer,
    certificates: Certificates,
    destination: Path,
    *,
    is_redirected: bool,
) -> None:
    """jobs.md §9.8 V6: not even to a trusted server, nor by way of a redirect."""
    worker = start_worker(ca=certificates.ca)
    worker.tls_refusal = {"hresult": codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED, "detail": "nobody to ask"}
    with contextlib.closing(FaultServer()) as plain:
        for method in ("HEAD", "GET"):
            plain.answer(method, [head("302 Found", f"Location: {server.url()}", "Content-Length: 0")])
        story = worker.fetch(plain.url() if is_redirected else server.url(), destination)
    assert story.outcome == "failed"
    assert story.hresult == codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED
    assert (story.news[-1]["context"], story.detail) == ("server_certificate_callback", "nobody to ask")
    worker.tls_refusal = None
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert {request.connection for request in server.requests} == {1}  # and nobody connected before
