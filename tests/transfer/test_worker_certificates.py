"""What a worker makes of the certificates of servers when a job has flags about them, seen from the servers (§9.6)."""

import base64
import contextlib
import itertools
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.authority import CLIENT, Authority, Pair, self_signed
from tests.real.socks import Socks
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import CLOSE, FaultServer, head
from tests.transfer.forwardproxy import ForwardProxy
from tests.transfer.tlsserver import TlsServer

from openbits.core import codes
from openbits.core.enums import SecurityFlags

BODY = os.urandom(100_000)
HOST = "127.0.0.1"
TAG = 'ETag: "a"'

CA = codes.ERROR_WINHTTP_SECURE_INVALID_CA
DATE = codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID
NAME = codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID
USAGE = codes.ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE

FLAGS = {
    CA: SecurityFlags.IGNORE_UNKNOWN_CA,
    DATE: SecurityFlags.IGNORE_CERT_DATE_INVALID,
    NAME: SecurityFlags.IGNORE_CERT_CN_INVALID,
    USAGE: SecurityFlags.IGNORE_CERT_WRONG_USAGE,
}
NO_CRL = SecurityFlags.ENABLE_CRL_CHECK
ALL = FLAGS[CA] | FLAGS[DATE] | FLAGS[NAME] | FLAGS[USAGE]
EXPIRED = (-3, -1)

StartServer = Callable[..., TlsServer]
StartWorker = Callable[..., WorkerProcess]


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority()


@pytest.fixture
def worker(root: Authority, tmp_path: Path) -> Iterator[WorkerProcess]:
    made = WorkerProcess(ca=root.file(tmp_path))
    yield made
    made.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[StartServer]:
    """Factory of servers with a file of BODY."""
    with contextlib.ExitStack() as stack:

        def start(pair: Pair, **options: Any) -> TlsServer:
            server = TlsServer(tmp_path, pair, **options)
            stack.callback(server.close)
            server.serve(BODY, TAG)
            return server

        yield start


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Nobody listens there: it is bound."""
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        yield bound.getsockname()[1]


BAD: dict[int, Callable[[Authority], Pair]] = {
    CA: lambda _: Authority("Stranger").issue(HOST),
    DATE: lambda root: root.issue(HOST, days=EXPIRED),
    NAME: lambda root: root.issue("other.example"),
    USAGE: lambda root: root.issue(HOST, usage=[CLIENT]),
}


@pytest.mark.parametrize("wrong", BAD, ids=["ca", "date", "name", "usage"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_flag_ignores_its_class_and_no_other(
    worker: WorkerProcess,
    serve: StartServer,
    root: Authority,
    destination: Path,
    wrong: int,
    version: ssl.TLSVersion,
) -> None:
    server = serve(BAD[wrong](root), versions=(version, version))
    for flags in (SecurityFlags(0), ALL & ~FLAGS[wrong]):
        worker.security_flags = flags
        story = worker.fetch(server.url(), destination)
        assert story.hresult == wrong
        assert story.last["context"] == "general_transport"
        assert not server.requests, "nothing is said to a server that is not trusted"
    worker.security_flags = FLAGS[wrong]
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_all_classes_at_once_need_all_flags(worker: WorkerProcess, serve: StartServer, destination: Path) -> None:
    server = serve(Authority("Stranger").issue("other.example", days=EXPIRED, usage=[CLIENT]))
    for some in itertools.combinations(FLAGS.values(), 3):
        worker.security_flags = some[0] | some[1] | some[2]
        missing = next(code for code, flag in FLAGS.items() if flag not in some)
        assert worker.fetch(server.url(), destination).hresult == missing
    assert not server.requests
    worker.security_flags = ALL
    assert worker.fetch(server.url(), destination).outcome == "transferred"


def test_a_self_signed_certificate_needs_one_flag(worker: WorkerProcess, serve: StartServer, destination: Path) -> None:
    worker.security_flags = FLAGS[CA]
    assert worker.fetch(serve(self_signed(HOST)).url(), destination).outcome == "transferred"


def test_an_intermediate_that_is_expired_needs_the_flag(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path
) -> None:
    server = serve(Authority("Between", above=root, days=EXPIRED).issue(HOST))
    assert worker.fetch(server.url(), destination).hresult == DATE
    worker.security_flags = FLAGS[DATE]
    assert worker.fetch(server.url(), destination).outcome == "transferred"


@pytest.mark.parametrize("flags", [SecurityFlags(0), FLAGS[NAME]], ids=["none", "name"])
def test_an_error_tells_what_the_certificate_says(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path, flags: SecurityFlags
) -> None:
    """user-pains 31: version, subject, issuer, expiry, names; with a flag of another class or without any."""
    pair = root.issue("files.example", subject="www", days=EXPIRED)
    worker.security_flags = flags
    detail = worker.fetch(serve(pair).url(), destination).detail
    expiry = f"{pair.certificate.not_valid_after_utc:%Y-%m-%d}"
    for part in ("TLS 1.3", "certificate has expired", "CN=www", "CN=Test Root", expiry, "files.example", HOST):
        assert part in detail, detail


def test_what_was_ignored_is_not_ignored_after_a_redirect_to_another_server_that_is_worse(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path
) -> None:
    """Flags are of the job, decisions of one server."""
    second = serve(Authority("Stranger").issue(HOST, days=EXPIRED))
    first = serve(root.issue(HOST, days=EXPIRED))
    for method in ("HEAD", "GET"):
        first.answer(method, [head("302 Found", f"Location: {second.url()}", "Content-Length: 0")])
    worker.security_flags = FLAGS[DATE]
    assert worker.fetch(first.url(), destination).hresult == CA
    assert not second.requests
    worker.security_flags |= FLAGS[CA]
    assert worker.fetch(first.url(), destination).outcome == "transferred"


def test_a_connection_with_another_key_is_not_used_before_it_is_looked_at(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path
) -> None:
    """The pin: what was ignored for one key is not ignored for the next."""
    server = serve(root.issue(HOST, days=EXPIRED), has_sessions=False)  # a resumed session proves the old key
    worker.security_flags = FLAGS[DATE]

    def change(_request: object) -> list[Any]:
        server.show(Authority("Stranger").issue(HOST))
        return [head("200 OK", f"Content-Length: {len(BODY)}", TAG), BODY[:1000], CLOSE]

    server.answer("GET", change)
    key = worker.start(server.url(), destination)
    story = worker.story(key)
    asked = len(server.requests)
    again = worker.fetch(server.url(), destination, 1000, etag='"a"', size_bytes=len(BODY))
    assert story.outcome == "failed"
    assert again.hresult == CA
    assert len(server.requests) == asked, "who has another key is asked nothing"


def test_a_renewed_certificate_is_looked_at_and_used(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path
) -> None:
    server = serve(root.issue(HOST, days=EXPIRED), has_sessions=False)
    worker.security_flags = FLAGS[DATE]
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    server.show(root.issue(HOST))
    server.answer("GET", [head("200 OK", f"Content-Length: {len(BODY)}", "Connection: close"), BODY, CLOSE])
    for _ in range(3):
        destination.unlink()
        assert worker.fetch(server.url(), destination).outcome == "transferred"


def test_the_flags_of_one_job_say_nothing_of_another(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path
) -> None:
    server = serve(root.issue(HOST, days=EXPIRED))
    worker.security_flags = FLAGS[DATE]
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    asked = len(server.requests)
    worker.security_flags = SecurityFlags(0)
    worker.job = "other"
    assert worker.fetch(server.url(), destination).hresult == DATE
    worker.job = "job"
    assert worker.fetch(server.url(), destination).hresult == DATE, "nor of the same one when they are taken back"
    assert len(server.requests) == asked


def test_behind_a_proxy_it_is_the_server_that_is_looked_at(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path
) -> None:
    server = serve(root.issue(HOST, days=EXPIRED))
    with contextlib.closing(ForwardProxy()) as proxy:
        worker.proxy = {**worker.proxy, "usage": "override", "list": f"{HOST}:{proxy.port}"}
        assert worker.fetch(server.url(), destination).hresult == DATE
        worker.security_flags = FLAGS[DATE]
        assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert destination.read_bytes() == BODY


def test_a_dead_proxy_is_passed_over_before_the_look_too(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path, unused_port: int
) -> None:
    server = serve(root.issue(HOST, days=EXPIRED))
    worker.security_flags = FLAGS[DATE]
    with contextlib.closing(ForwardProxy()) as proxy:
        worker.proxy = {**worker.proxy, "usage": "override", "list": f"{HOST}:{unused_port} {HOST}:{proxy.port}"}
        assert worker.fetch(server.url(), destination).outcome == "transferred"


def test_behind_a_proxy_over_tls_it_is_the_server_that_is_looked_at(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path, tmp_path: Path
) -> None:
    """Two handshakes, and the flags are for the inner one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*root.issue(HOST).files(tmp_path, "proxy"))
    server = serve(root.issue(HOST, days=EXPIRED))
    with contextlib.closing(ForwardProxy(tls=context)) as proxy:
        worker.proxy = {**worker.proxy, "usage": "override", "list": f"https://{proxy.name}"}
        assert worker.fetch(server.url(), destination).hresult == DATE
        worker.security_flags = FLAGS[DATE]
        story = worker.fetch(server.url(), destination)
        assert story.outcome == "transferred", story.last
        assert all(line.startswith("CONNECT ") for line in proxy.lines)


@pytest.mark.parametrize("flags", [SecurityFlags(0), ALL], ids=["none", "all"])
def test_a_proxy_over_tls_is_verified_in_full_whatever_the_flags(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path, tmp_path: Path, flags: SecurityFlags
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*root.issue(HOST, days=EXPIRED).files(tmp_path, "proxy"))
    server = serve(root.issue(HOST))
    worker.security_flags = flags
    with contextlib.closing(ForwardProxy(tls=context)) as proxy:
        worker.proxy = {**worker.proxy, "usage": "override", "list": f"https://{proxy.name}"}
        story = worker.fetch(server.url(), destination)
        assert story.hresult == DATE
        assert "proxy" in story.detail
        assert not proxy.passed
    assert not server.handshakes


def test_a_proxy_that_asks_who_we_are_is_told_when_we_only_look_too(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path
) -> None:
    server = serve(root.issue(HOST, days=EXPIRED))
    worker.security_flags = FLAGS[DATE]
    secret = base64.b64encode(b"user:word").decode()
    with contextlib.closing(ForwardProxy("407 Authenticate", 'Proxy-Authenticate: Basic realm="p"')) as proxy:
        proxy.admitted = f"Proxy-Authorization: Basic {secret}"
        worker.proxy = {**worker.proxy, "usage": "override", "list": proxy.name}
        login = {"target": "proxy", "scheme": "basic", "user": "user", "password": "word", "origin": None}
        worker.entrusted = {"credentials": [login]}
        story = worker.fetch(server.url(), destination)
        assert story.outcome == "transferred", story.last
    assert not [request for request in server.requests if "proxy-authorization" in request.headers]


def test_a_server_that_cannot_be_reached_is_told_as_without_a_look(
    worker: WorkerProcess, destination: Path, unused_port: int
) -> None:
    worker.security_flags = FLAGS[DATE]
    story = worker.fetch(f"https://{HOST}:{unused_port}/file", destination)
    assert story.hresult == codes.ERROR_WINHTTP_CANNOT_CONNECT


def test_the_connect_clock_holds_for_the_look(
    start_worker: StartWorker, root: Authority, tmp_path: Path, destination: Path
) -> None:
    """A server that accepts and does not shake hands."""
    worker = start_worker(limits={"connect_seconds": 0.5}, ca=root.file(tmp_path))
    worker.security_flags = FLAGS[DATE]
    with contextlib.closing(FaultServer()) as silent:
        story = worker.fetch(f"https://{HOST}:{silent.port}/file", destination)
    assert story.hresult == codes.ERROR_WINHTTP_TIMEOUT
    assert f"TLS handshake with {HOST}:{silent.port}" in story.detail


def test_several_files_of_a_job_need_one_look(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path
) -> None:
    server = serve(root.issue(HOST, days=EXPIRED))
    worker.security_flags = FLAGS[DATE]
    for _ in range(5):
        assert worker.fetch(server.url(), destination).outcome == "transferred"
        destination.unlink()
    assert len(server.handshakes) == 2, "the look, and the connection that is kept"


def test_nothing_is_looked_at_without_a_reason(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path
) -> None:
    server = serve(root.issue(HOST))
    worker.security_flags = SecurityFlags.REDIRECT_ALLOW_REPORT
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert len(server.handshakes) == 1


# -- versions, protocols, sessions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_tls_1_2_and_1_3_are_spoken_and_http_1_1_alone_is_asked_for(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path, version: ssl.TLSVersion
) -> None:
    server = serve(root.issue(HOST), versions=(version, version))
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    (shaken,) = server.handshakes
    assert shaken.version == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    assert shaken.protocol == "http/1.1"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("flags", [SecurityFlags(0), ALL], ids=["none", "all"])
def test_tls_1_1_is_refused_whatever_the_flags(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path, flags: SecurityFlags
) -> None:
    old = (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1)
    server = serve(root.issue(HOST), versions=old)
    server._context.set_ciphers("ALL:@SECLEVEL=0")
    worker.security_flags = flags
    story = worker.fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_SECURE_CHANNEL_ERROR
    assert "TLS 1.2" in story.detail, story.detail
    assert not server.handshakes


# -- client certificates ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clients() -> Authority:
    return Authority("Clients")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("flags", [SecurityFlags(0), FLAGS[DATE]], ids=["none", "looked at"])
def test_a_client_certificate_is_shown_to_the_server_that_asks(
    worker: WorkerProcess,
    serve: StartServer,
    root: Authority,
    clients: Authority,
    destination: Path,
    version: ssl.TLSVersion,
    flags: SecurityFlags,
) -> None:
    pair = Authority("Between clients", above=clients).issue(usage=[CLIENT], subject="alice")
    days = EXPIRED if flags else (-1, 2)
    server = serve(root.issue(HOST, days=days), clients=clients, is_client_required=True, versions=(version, version))
    worker.security_flags = flags
    assert worker.fetch(server.url(), destination).hresult == codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED
    worker.entrusted = {"certificate": pair.pem + pair.key_pem}
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert server.handshakes[-1].client == pair.chain[0]


def test_a_server_that_would_take_a_certificate_is_used_without_one(
    worker: WorkerProcess, serve: StartServer, root: Authority, clients: Authority, destination: Path
) -> None:
    """OPEN-47."""
    server = serve(root.issue(HOST), clients=clients)
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert server.handshakes[-1].client is None


def test_a_client_certificate_is_shown_to_no_other_server(
    worker: WorkerProcess, serve: StartServer, root: Authority, clients: Authority, destination: Path
) -> None:
    """Hop 2 of the credential matrix: another port is another server."""
    pair = clients.issue(usage=[CLIENT], subject="alice")
    second = serve(root.issue(HOST), clients=clients)
    first = serve(root.issue(HOST), clients=clients)
    for method in ("HEAD", "GET"):
        first.answer(method, [head("302 Found", f"Location: {second.url()}", "Content-Length: 0")])
    worker.entrusted = {"certificate": pair.pem + pair.key_pem}
    assert worker.fetch(first.url(), destination).outcome == "transferred"
    assert [shaken.client for shaken in first.handshakes] == [None, pair.chain[0]], "after a look without it"
    assert {shaken.client for shaken in second.handshakes} == {None}


def test_a_client_certificate_is_for_the_server_that_the_client_has_named(
    worker: WorkerProcess, serve: StartServer, root: Authority, clients: Authority, destination: Path
) -> None:
    """Not for where a redirect led that the job does not follow, though its file is named so now."""
    pair = clients.issue(usage=[CLIENT], subject="alice")
    server = serve(root.issue(HOST), clients=clients)
    worker.given_url = f"https://{HOST}:1/file"
    worker.entrusted = {"certificate": pair.pem + pair.key_pem}
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert {shaken.client for shaken in server.handshakes} == {None}


@pytest.mark.parametrize("flags", [SecurityFlags(0), FLAGS[NAME]], ids=["none", "looked at"])
def test_a_client_certificate_is_not_shown_to_a_server_that_is_not_trusted(
    worker: WorkerProcess,
    serve: StartServer,
    clients: Authority,
    destination: Path,
    flags: SecurityFlags,
) -> None:
    pair = clients.issue(usage=[CLIENT], subject="alice")
    server = serve(Authority("Stranger").issue(HOST), clients=clients)
    worker.security_flags = flags
    worker.entrusted = {"certificate": pair.pem + pair.key_pem}
    assert worker.fetch(server.url(), destination).hresult == CA
    assert {shaken.client for shaken in server.handshakes} <= {None}


def test_a_key_that_does_not_fit_its_certificate_is_said_so(
    worker: WorkerProcess, serve: StartServer, root: Authority, clients: Authority, destination: Path
) -> None:
    one, other = (clients.issue(usage=[CLIENT], subject="alice") for _ in range(2))
    server = serve(root.issue(HOST), clients=clients, is_client_required=True)
    worker.entrusted = {"certificate": one.pem + other.key_pem}
    story = worker.fetch(server.url(), destination)
    assert story.hresult == codes.ERROR_WINHTTP_CLIENT_CERT_NO_PRIVATE_KEY
    assert "PRIVATE" not in story.detail


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("days", [(-1, 2), EXPIRED], ids=["stranger", "expired"])
def test_a_client_certificate_that_the_server_does_not_like_is_forbidden(
    worker: WorkerProcess,
    serve: StartServer,
    root: Authority,
    clients: Authority,
    destination: Path,
    version: ssl.TLSVersion,
    days: tuple[float, float],
) -> None:
    """identity.md A41: BG_E_HTTP_ERROR_403, also where the server says it by an alert."""
    issuer = clients if days == EXPIRED else Authority("Stranger")
    pair = issuer.issue(usage=[CLIENT], subject="mallory", days=days)
    server = serve(root.issue(HOST), clients=clients, is_client_required=True, versions=(version, version))
    worker.entrusted = {"certificate": pair.pem + pair.key_pem}
    story = worker.fetch(server.url(), destination)
    assert story.hresult == codes.from_http_status(403), story.detail


def test_connections_with_a_client_certificate_are_not_shared_with_requests_without(
    worker: WorkerProcess, serve: StartServer, root: Authority, clients: Authority, destination: Path
) -> None:
    pair = clients.issue(usage=[CLIENT], subject="alice")
    server = serve(root.issue(HOST), clients=clients)
    for certificate in (pair.pem + pair.key_pem, None):
        worker.entrusted = {"certificate": certificate}
        assert worker.fetch(server.url(), destination).outcome == "transferred"
        destination.unlink()
    assert [shaken.client for shaken in server.handshakes] == [None, pair.chain[0], None]
    assert not any(shaken.is_resumed for shaken in server.handshakes)


@pytest.mark.real("microsocks")
def test_behind_a_socks_proxy_flags_are_for_the_server_as_well(
    worker: WorkerProcess, serve: StartServer, root: Authority, destination: Path, tmp_path: Path
) -> None:
    """The look goes through the proxy too; it is the proxy that looks names up."""
    server = serve(root.issue("localhost", days=EXPIRED))
    socks = Socks(tmp_path)
    url = server.url(host="localhost")
    try:
        worker.proxy = {**worker.proxy, "usage": "override", "list": f"socks5://{socks.name}"}
        worker.security_flags = ALL & ~FLAGS[DATE]
        assert worker.fetch(url, destination).hresult == DATE
        assert not server.requests
        worker.security_flags = FLAGS[DATE]
        assert worker.fetch(url, destination).outcome == "transferred"
        assert destination.read_bytes() == BODY
    finally:
        socks.close()
    assert set(socks.targets()) == {f"localhost:{server.port}"}
