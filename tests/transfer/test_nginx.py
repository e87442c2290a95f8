"""The worker against a real server: nginx, plain and TLS."""

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.nginx import Certificates, Nginx
from tests.transfer.conftest import WorkerProcess

from openbits.core import codes

pytestmark = pytest.mark.real("nginx", "openssl")

SIZE = 20_000_000


@pytest.fixture(scope="module")
def worker(certificates: Certificates) -> Iterator[WorkerProcess]:
    """Trusts the authority of nginx's certificate."""
    process = WorkerProcess(ca=certificates.ca)
    yield process
    process.close()


@pytest.fixture(scope="module")
def content(nginx: Nginx) -> bytes:
    """The file `/large` on the server."""
    data = random.Random(1).randbytes(SIZE)  # noqa: S311  # no secret
    (nginx.root / "large").write_bytes(data)
    return data


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_arrives_as_it_is(
    worker: WorkerProcess, nginx: Nginx, content: bytes, destination: Path, scheme: str
) -> None:
    story = worker.fetch(nginx.url("/large", tls=scheme == "https"), destination)
    assert story.last["size_bytes"] == SIZE
    assert story.last["modified_at"] == int((nginx.root / "large").stat().st_mtime)
    assert digest(destination.read_bytes()) == digest(content)


@pytest.mark.parametrize("offset", [1, 4096, 12_345_678, SIZE - 1, SIZE])
def test_a_resume_at_any_byte_gives_the_same_file(
    worker: WorkerProcess, nginx: Nginx, content: bytes, destination: Path, scheme: str, offset: int
) -> None:
    url = nginx.url("/large", tls=scheme == "https")
    told = worker.fetch(url, destination).connected
    known = {name: told[name] for name in ("size_bytes", "etag", "last_modified")}
    destination.write_bytes(content[:offset])
    story = worker.fetch(url, destination, offset, **known)
    assert story.connected["offset"] == offset
    assert digest(destination.read_bytes()) == digest(content)


def test_a_file_that_changed_on_the_server_is_fetched_anew(
    worker: WorkerProcess, nginx: Nginx, destination: Path, scheme: str
) -> None:
    remote = nginx.root / "changing"
    remote.write_bytes(b"old" * 1000)
    told = worker.fetch(nginx.url("/changing", tls=scheme == "https"), destination).connected
    known = {name: told[name] for name in ("size_bytes", "etag", "last_modified")}
    remote.write_bytes(b"newer" * 1000)
    destination.write_bytes(b"old" * 500)
    story = worker.fetch(nginx.url("/changing", tls=scheme == "https"), destination, 1500, **known)
    assert story.told("restarted")
    assert destination.read_bytes() == b"newer" * 1000


def test_a_missing_file_is_404(worker: WorkerProcess, nginx: Nginx, destination: Path) -> None:
    assert worker.fetch(nginx.url("/missing"), destination).hresult == codes.BG_E_HTTP_ERROR_404


@pytest.mark.usefixtures("content")
def test_the_name_in_the_certificate_counts(worker: WorkerProcess, nginx: Nginx, destination: Path) -> None:
    story = worker.fetch(nginx.url("/large", tls=True, host="other.localhost"), destination)
    assert story.hresult == codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID
    assert worker.fetch(nginx.url("/large", tls=True, host="127.0.0.1"), destination).outcome == "transferred"


def test_a_server_without_tls_fails_the_handshake(worker: WorkerProcess, nginx: Nginx, destination: Path) -> None:
    story = worker.fetch(nginx.url("/large").replace("http:", "https:"), destination)
    assert story.hresult == codes.ERROR_WINHTTP_SECURE_CHANNEL_ERROR


def test_an_unknown_authority_is_refused(nginx: Nginx, destination: Path, tmp_path: Path) -> None:
    stranger = WorkerProcess(ca=Certificates(tmp_path).ca)
    try:
        story = stranger.fetch(nginx.url("/large", tls=True), destination)
        assert story.hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CA
    finally:
        stranger.close()


def test_many_small_files_over_few_connections(
    worker: WorkerProcess, nginx: Nginx, tmp_path: Path, scheme: str
) -> None:
    folder = nginx.root / "small"
    folder.mkdir(exist_ok=True)
    names = [str(number) for number in range(100)]
    for name in names:
        (folder / name).write_text(f"content of {name}")
    keys = [worker.start(nginx.url(f"/small/{name}", tls=scheme == "https"), tmp_path / name) for name in names]
    for key, name in zip(keys, names, strict=True):
        assert worker.story(key).outcome == "transferred"
        assert (tmp_path / name).read_text() == f"content of {name}"


@pytest.fixture
def calls(nginx: Nginx, content: bytes, certificates: Certificates, destination: Path, tmp_path: Path) -> str:
    """The file system calls of a worker at work, from its first look at the certificates on."""
    log = tmp_path / "strace"
    strace = ["strace", "-f", "-qq", "-e", "trace=%file,fdatasync", "-o", str(log)]
    traced = WorkerProcess(ca=certificates.ca, prefix=strace)
    assert traced.fetch(nginx.url("/large", tls=True), destination).outcome == "transferred"
    assert traced.fetch("http://no-such-host.invalid/", destination).outcome == "failed"
    traced.close()
    assert destination.read_bytes() == content
    _, first, rest = log.read_text().partition('openat(AT_FDCWD, "/proc/self/fd/')
    return first + rest


@pytest.mark.real("strace")
def test_a_worker_opens_no_path_but_those_of_the_name_service(calls: str) -> None:
    paths = set(re.findall(r'\w+\((?:AT_FDCWD, |\d+, )?"([^"]+)"', calls)) - {"/"}
    assert any(path.startswith("/etc/") for path in paths), "the name was not looked up, or strace saw nothing"
    allowed = (
        "/etc/",
        "/proc/self/fd/",
        "/run/systemd/resolve/",
        "/run/systemd/machines/",
        "/lib/",
        "/usr/lib/",
        "/var/run/nscd/",
    )
    assert not [path for path in paths if not path.startswith(allowed)]


@pytest.mark.real("strace")
def test_what_is_transferred_was_synced(calls: str) -> None:
    assert "fdatasync(" in calls
