"""ENABLE_CRL_CHECK: revoked or not is known before anything is said to the server (jobs.md §9.6)."""

import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.real.authority import CLIENT, DER, PEM, Authority
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import RESET, SILENCE, FaultServer, head, whole
from tests.transfer.forwardproxy import ForwardProxy
from tests.transfer.tlsserver import TlsServer

from openbits.core import codes
from openbits.core.enums import SecurityFlags
from openbits.transfer import tls_revocation

BODY = b"content" * 1000
HOST = "127.0.0.1"
CHECK = SecurityFlags.ENABLE_CRL_CHECK
UNKNOWN = codes.ERROR_WINHTTP_SECURE_CERT_REV_FAILED
REVOKED = codes.ERROR_WINHTTP_SECURE_CERT_REVOKED


class Place:
    """Where lists are published."""

    def __init__(self) -> None:
        self.server = FaultServer()

    def url(self, name: str = "/crl") -> str:
        return self.server.url(name)

    def publish(self, crl: x509.CertificateRevocationList) -> None:
        self.server.answer("GET", whole(crl.public_bytes(DER)))


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.server.close()


@pytest.fixture
def root() -> Authority:
    return Authority()


@pytest.fixture
def worker(root: Authority, tmp_path: Path) -> Iterator[WorkerProcess]:
    made = WorkerProcess(ca=root.file(tmp_path))
    made.security_flags = CHECK
    yield made
    made.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., TlsServer]]:
    with contextlib.ExitStack() as stack:

        def start(authority: Authority, **options: str) -> TlsServer:
            server = TlsServer(tmp_path, authority.issue(HOST, **options))  # type: ignore[arg-type]
            stack.callback(server.close)
            server.serve(BODY)
            return server

        yield start


Serve = Callable[..., TlsServer]


def test_a_server_that_is_not_revoked_is_used_and_the_list_fetched_once(
    worker: WorkerProcess, serve: Serve, root: Authority, place: Place, destination: Path
) -> None:
    server = serve(root, crl_url=place.url())
    place.publish(root.crl())
    for _ in range(3):
        assert worker.fetch(server.url(), destination).outcome == "transferred"
        destination.unlink()
    assert len(place.server.requests) == 1
    assert [request.method for request in place.server.requests] == ["GET"]


def test_a_revoked_server_is_refused_before_anything_is_said_to_it(
    worker: WorkerProcess, root: Authority, place: Place, destination: Path, tmp_path: Path
) -> None:
    pair = root.issue(HOST, crl_url=place.url(), subject="gone")
    root.revoke(pair)
    place.publish(root.crl())
    with contextlib.closing(TlsServer(tmp_path, pair)) as server:
        server.serve(BODY)
        story = worker.fetch(server.url(), destination)
        assert story.hresult == REVOKED
        assert "CN=gone" in story.detail
        assert not server.requests
        worker.security_flags = SecurityFlags(0)
        assert worker.fetch(server.url(), destination).outcome == "transferred", "only if the job wants to know"


def test_a_revoked_intermediate_is_refused_too(
    worker: WorkerProcess, serve: Serve, root: Authority, place: Place, destination: Path
) -> None:
    between = Authority("Between", above=root, crl_url=place.url("/of-root"))
    server = serve(between, crl_url=place.url("/of-between"))
    lists = {"/of-root": root.crl, "/of-between": between.crl}
    place.server.answer("GET", lambda request: whole(lists[request.target]().public_bytes(DER)))
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert {request.target for request in place.server.requests} == {"/of-root", "/of-between"}
    root.revoke(between)
    worker.entrusted = {"revocation_lists": root.crl().public_bytes(PEM).decode()}
    worker.job = "other"
    assert worker.fetch(server.url(), destination).hresult == REVOKED


def test_a_local_list_is_enough_while_it_is_fresh(
    worker: WorkerProcess, serve: Serve, root: Authority, place: Place, destination: Path
) -> None:
    server = serve(root, crl_url=place.url())
    place.publish(root.crl())
    worker.entrusted = {"revocation_lists": "other text\n" + root.crl().public_bytes(PEM).decode()}
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert not place.server.requests
    worker.entrusted = {"revocation_lists": root.crl(hours=(-3, -1)).public_bytes(PEM).decode()}
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert len(place.server.requests) == 1


def test_a_local_list_tells_of_a_revocation_without_any_network(
    worker: WorkerProcess, root: Authority, destination: Path, tmp_path: Path
) -> None:
    pair = root.issue(HOST)
    root.revoke(pair)
    worker.entrusted = {"revocation_lists": root.crl().public_bytes(PEM).decode()}
    with contextlib.closing(TlsServer(tmp_path, pair)) as server:
        assert worker.fetch(server.url(), destination).hresult == REVOKED


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ([head("404 Not Found", "Content-Length: 0")], "404"),
        ([RESET], "crl"),
        (whole(b"no list at all"), "no revocation list"),
        (whole(Authority("Stranger").crl().public_bytes(DER)), "counts"),
        (whole(Authority().crl().public_bytes(DER)), "counts"),  # of the same name, signed by another key
        (whole(Authority().crl(hours=(-3, -1)).public_bytes(DER)), "counts"),
        ([head("302 Found", "Location: https://127.0.0.1:1/crl", "Content-Length: 0")], "TLS"),
        ([head("200 OK", f"Content-Length: {17 << 20}"), bytes(17 << 20)], "16 MiB"),
    ],
    ids=["404", "reset", "garbage", "stranger", "forged", "old", "https", "large"],
)
def test_where_nobody_can_say_the_file_is_refused(
    worker: WorkerProcess,
    serve: Serve,
    root: Authority,
    place: Place,
    destination: Path,
    answer: list[bytes],
    why: str,
) -> None:
    server = serve(root, crl_url=place.url("/crl?secret"))
    place.server.answer("GET", answer)
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNKNOWN
    assert why in story.detail, story.detail
    assert "secret" not in story.detail
    assert "ENABLE_CRL_CHECK" in story.detail, "the next step"
    assert not server.requests


def test_a_certificate_that_names_no_list_is_refused(
    worker: WorkerProcess, serve: Serve, root: Authority, destination: Path
) -> None:
    assert worker.fetch(serve(root).url(), destination).hresult == UNKNOWN


def test_a_place_that_does_not_answer_is_given_up_and_the_worker_serves_others_meanwhile(
    worker: WorkerProcess, serve: Serve, root: Authority, place: Place, destination: Path, tmp_path: Path
) -> None:
    place.server.answer("GET", [SILENCE])
    key = worker.start(serve(root, crl_url=place.url()).url(), destination)
    worker.wait_for(key, "phase", until=lambda news: "revoked" in news["text"])
    worker.security_flags = SecurityFlags(0)
    worker.job = "other"
    assert worker.fetch(serve(root).url(), tmp_path / "other").outcome == "transferred"
    story = worker.story(key)
    assert story.hresult == UNKNOWN
    assert "10 s" in story.detail


def test_a_transfer_can_be_cancelled_while_a_list_is_fetched(
    worker: WorkerProcess, serve: Serve, root: Authority, place: Place, destination: Path
) -> None:
    place.server.answer("GET", [SILENCE])
    server = serve(root, crl_url=place.url())
    key = worker.start(server.url(), destination)
    worker.wait_for(key, "phase", until=lambda news: "revoked" in news["text"])
    worker.cancel(key)
    place.publish(root.crl())
    assert worker.fetch(server.url(), destination).outcome == "transferred"


def test_lists_are_fetched_through_the_proxies_of_the_job(
    worker: WorkerProcess, serve: Serve, root: Authority, place: Place, destination: Path
) -> None:
    server = serve(root, crl_url=place.url())
    place.publish(root.crl())
    with contextlib.closing(ForwardProxy()) as proxy:
        worker.proxy = {**worker.proxy, "usage": "override", "list": proxy.name}
        assert worker.fetch(server.url(), destination).outcome == "transferred"
        assert f"GET {place.url()} HTTP/1.1" in proxy.lines


def test_what_was_entrusted_to_the_job_does_not_go_to_where_the_lists_are(
    worker: WorkerProcess, serve: Serve, root: Authority, place: Place, destination: Path
) -> None:
    server = serve(root, crl_url=place.url())
    place.publish(root.crl())
    worker.headers = [("Authorization", "Bearer canary"), ("X-Token", "canary")]
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    (asked,) = place.server.requests
    assert "canary" not in repr(asked)


def test_an_issuer_that_is_ignored_leaves_nothing_to_verify_a_list_with(
    worker: WorkerProcess, serve: Serve, place: Place, destination: Path
) -> None:
    stranger = Authority("Between", above=Authority("Stranger"))
    stranger.between = ()  # which the server does not send
    worker.security_flags = CHECK | SecurityFlags.IGNORE_UNKNOWN_CA
    place.publish(stranger.crl())
    assert worker.fetch(serve(stranger, crl_url=place.url()).url(), destination).hresult == UNKNOWN


def test_no_other_flag_ignores_a_revocation(
    worker: WorkerProcess, root: Authority, destination: Path, tmp_path: Path
) -> None:
    pair = root.issue("other.example", days=(-3, -1), usage=[CLIENT])
    root.revoke(pair)
    worker.security_flags = SecurityFlags(0x1F)
    worker.entrusted = {"revocation_lists": root.crl().public_bytes(PEM).decode()}
    with contextlib.closing(TlsServer(tmp_path, pair)) as server:
        assert worker.fetch(server.url(), destination).hresult == REVOKED


# -- certificates that somebody made to harm


def test_a_certificate_may_not_send_the_worker_everywhere(
    worker: WorkerProcess, serve: Serve, root: Authority, place: Place, destination: Path
) -> None:
    """A thousand places to look, of anybody's servers, and words about each that no message has room for."""
    place.server.answer("GET", [head("404 Not Found", "Content-Length: 0")])
    server = serve(root, crl_url=" ".join(place.url(f"/{number}/{'x' * 60}") for number in range(500)))
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNKNOWN
    assert len(place.server.requests) == tls_revocation.MAX_PLACES
    long = serve(root, crl_url=place.url(f"/{'x' * 10_000}"))
    assert worker.fetch(long.url(), destination).hresult == UNKNOWN
    assert len(place.server.requests) == tls_revocation.MAX_PLACES


def test_a_certificate_with_a_subject_that_cannot_be_read_is_refused(
    worker: WorkerProcess, destination: Path, tmp_path: Path
) -> None:
    """Nobody has signed it, which the job ignores: so its subject was looked at by nobody before."""
    pair = Authority("Elsewhere").issue(HOST, subject="AAAA")
    broken = pair.certificate.public_bytes(DER).replace(b"\x0c\x04AAAA", b"\x13\x04\xff\xfe\xff\xfe")
    certificate, key = pair.files(tmp_path, "broken")
    certificate.write_text(ssl.DER_cert_to_PEM_cert(broken))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    worker.security_flags = CHECK | SecurityFlags.IGNORE_UNKNOWN_CA
    with contextlib.closing(FaultServer(tls=context)) as server:
        server.serve(BODY)
        assert worker.fetch(server.url(), destination).hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CERT
        assert not server.requests
