"""The worker and the TLS of real servers: nginx and Apache (jobs.md §9.6, reliability.md §5 row 29)."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.real.authority import CLIENT, Authority, Pair
from tests.real.tls_daemons import TlsApache, TlsNginx
from tests.transfer.conftest import WorkerProcess

from openbits.core import codes
from openbits.core.enums import SecurityFlags

pytestmark = pytest.mark.real("nginx", "apache2")

BODY = os.urandom(200_000)


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def clients() -> Authority:
    return Authority("Clients")


@pytest.fixture
def alice(clients: Authority) -> Pair:
    return Authority("Between clients", above=clients).issue(usage=[CLIENT], subject="alice")


@pytest.fixture
def worker(root: Authority, tmp_path: Path) -> Iterator[WorkerProcess]:
    made = WorkerProcess(ca=root.file(tmp_path))
    yield made
    made.close()


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize(
    "flags", [SecurityFlags(0), SecurityFlags.IGNORE_CERT_DATE_INVALID], ids=["verified", "pinned"]
)
def test_connections_of_one_job_resume_their_session_and_those_of_another_do_not(
    worker: WorkerProcess, root: Authority, tmp_path: Path, destination: Path, protocol: str, flags: SecurityFlags
) -> None:
    days = (-3.0, -1.0) if flags else (-1.0, 2.0)
    worker.security_flags = flags
    with closing(
        TlsNginx(tmp_path, root.issue("localhost", days=days), protocols=protocol, is_kept_alive=False)
    ) as nginx:
        (nginx.root / "file").write_bytes(BODY)
        for job in ("one", "one", "one", "two"):
            worker.job = job
            assert worker.fetch(nginx.url("/file"), destination).outcome == "transferred"
            destination.unlink()
        gets = nginx.served()
    assert [served.is_resumed for served in gets] == [False, True, True, False]
    assert {served.version for served in gets} == {protocol}


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_a_second_look_sees_as_much_as_the_first(
    worker: WorkerProcess, root: Authority, tmp_path: Path, destination: Path, protocol: str
) -> None:
    """Servers show no certificate in a session that goes on, so the look has none."""
    worker.security_flags = SecurityFlags.IGNORE_CERT_CN_INVALID
    with closing(TlsNginx(tmp_path, root.issue("localhost", days=(-3, -1)), protocols=protocol)) as nginx:
        for _ in range(3):
            story = worker.fetch(nginx.url("/file"), destination)
            assert story.hresult == codes.ERROR_WINHTTP_SECURE_CERT_DATE_INVALID
            assert "CN=server" in story.detail


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_nginx_sees_the_client_certificate_with_its_chain(
    worker: WorkerProcess,
    root: Authority,
    clients: Authority,
    alice: Pair,
    tmp_path: Path,
    destination: Path,
    protocol: str,
) -> None:
    with closing(
        TlsNginx(tmp_path, root.issue("localhost"), clients=clients, verify="on", protocols=protocol)
    ) as nginx:
        (nginx.root / "file").write_bytes(BODY)
        worker.entrusted = {"certificate": alice.pem + alice.key_pem}
        assert worker.fetch(nginx.url("/file"), destination).outcome == "transferred"
        assert {(served.client, served.verdict) for served in nginx.served()} == {("CN=alice", "SUCCESS")}


def test_nginx_that_wants_a_client_certificate_is_told_apart_from_a_bad_url(
    worker: WorkerProcess, root: Authority, clients: Authority, tmp_path: Path, destination: Path
) -> None:
    """OPEN-47. It lets everybody in, and then answers 400, as it does to URLs that it cannot read."""
    with closing(TlsNginx(tmp_path, root.issue("localhost"), clients=clients, verify="on")) as nginx:
        (nginx.root / "file").write_bytes(BODY)
        story = worker.fetch(nginx.url("/file"), destination)
    assert story.hresult == codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED
    assert "answered HTTP/1.1 400 Bad Request" in story.detail


def test_nginx_that_may_see_a_client_certificate_serves_without(
    worker: WorkerProcess, root: Authority, clients: Authority, tmp_path: Path, destination: Path
) -> None:
    with closing(TlsNginx(tmp_path, root.issue("localhost"), clients=clients, verify="optional")) as nginx:
        (nginx.root / "file").write_bytes(BODY)
        assert worker.fetch(nginx.url("/file"), destination).outcome == "transferred"


def test_400_of_a_server_that_wants_no_certificate_is_400(
    worker: WorkerProcess, root: Authority, tmp_path: Path, destination: Path
) -> None:
    with closing(TlsNginx(tmp_path, root.issue("localhost"))) as nginx:
        story = worker.fetch(nginx.url("/%00"), destination)
    assert story.hresult == codes.from_http_status(400)


def test_a_client_certificate_of_a_stranger_is_refused_for_good(
    worker: WorkerProcess, root: Authority, clients: Authority, tmp_path: Path, destination: Path
) -> None:
    stranger = Authority("Stranger").issue(usage=[CLIENT], subject="mallory")
    with closing(TlsNginx(tmp_path, root.issue("localhost"), clients=clients, verify="on")) as nginx:
        (nginx.root / "file").write_bytes(BODY)
        worker.entrusted = {"certificate": stranger.pem + stranger.key_pem}
        story = worker.fetch(nginx.url("/file"), destination)
    assert story.hresult == codes.from_http_status(400), "nginx has a status of its own for it"


@pytest.mark.parametrize("protocols", ["-all +TLSv1.2", "-all +TLSv1.3"], ids=["renegotiation", "after the handshake"])
@pytest.mark.parametrize(
    "flags", [SecurityFlags(0), SecurityFlags.IGNORE_CERT_DATE_INVALID], ids=["verified", "pinned"]
)
def test_29_a_certificate_that_is_asked_for_later_is_shown(
    worker: WorkerProcess,
    root: Authority,
    clients: Authority,
    alice: Pair,
    open_tmp_path: Path,
    destination: Path,
    protocols: str,
    flags: SecurityFlags,
) -> None:
    worker.security_flags = flags
    with closing(TlsApache(open_tmp_path, root.issue("localhost"), clients=clients, protocols=protocols)) as apache:
        apache.put("secret/file", BODY)
        apache.put("file", BODY)
        assert worker.fetch(apache.url("/file"), destination).outcome == "transferred"
        refused = worker.fetch(apache.url("/secret/file"), destination)
        assert refused.hresult in {codes.from_http_status(403), codes.ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED}
        worker.entrusted = {"certificate": alice.pem + alice.key_pem}
        destination.unlink()
        assert worker.fetch(apache.url("/secret/file"), destination).outcome == "transferred"
        assert apache.served()[-1].client == "CN=alice"
    assert destination.read_bytes() == BODY
