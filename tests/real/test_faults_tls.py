"""The command `bits get` over real HTTPS: a service that dies in the middle, and a server nobody vouches for."""

import hashlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service
from tests.real.nginx import Certificates, Nginx
from tests.real.stories import Job, names

pytestmark = [pytest.mark.root, pytest.mark.real("nginx")]

SECURE_INVALID_CA = 0x80072F0D

SIZE = 20_000_000
BYTES_A_SECOND = 6_000_000


@pytest.fixture
def certificates(open_tmp_path: Path) -> Certificates:
    folder = open_tmp_path / "certificates"
    folder.mkdir(mode=0o755)
    return Certificates(folder)


@pytest.fixture
def nginx(open_tmp_path: Path, certificates: Certificates) -> Iterator[Nginx]:
    """A slow line."""
    folder = open_tmp_path / "nginx"
    folder.mkdir(mode=0o755)
    made = Nginx(folder, certificates, bytes_a_second=BYTES_A_SECOND)
    yield made
    made.close()


def _bits_get(service: Service, user: Any, url: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-I", "-m", "openbits.cli.main", "get", url, str(path)]
    environ = {"OPENBITS_SOCKET": str(service.socket), "PATH": os.environ["PATH"], "HOME": str(user.home)}
    return subprocess.Popen(
        command,
        env=environ,
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        cwd="/",
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _only_job(service: Service) -> Job:
    deadline = time.monotonic() + 10
    while True:
        with service.client() as client:
            infos = client.job_infos(all_users=True)
        if infos and infos[0]["files_total"]:
            return Job(service, infos[0]["job_id"])
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_bits_get_over_tls_outlasts_kill_9_of_the_whole_service_and_asks_for_the_rest_only(
    make_service: Callable[..., Service],
    nginx: Nginx,
    certificates: Certificates,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
) -> None:
    body = secrets.token_bytes(SIZE)
    (nginx.root / "file").write_bytes(body)
    user = throwaway_user()
    folder = private_folder(user)
    service = make_service()
    service.configure(f'[tls]\nca_file = "{certificates.ca}"\n')
    service.start()
    with _bits_get(service, user, nginx.url("/file", tls=True), folder / "file") as process:
        try:
            _only_job(service).saves(1_000_000)
            service.kill("spawner")
            service.start()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert str(folder / "file") in out
    assert names(folder) == ["file"]
    status = (folder / "file").stat()
    assert (status.st_uid, status.st_size) == (user.uid, SIZE)
    assert hashlib.sha256((folder / "file").read_bytes()).digest() == hashlib.sha256(body).digest()
    gets = [line for line in nginx.requests() if '"GET ' in line]
    (rest,) = [line for line in gets if '" 206 ' in line]
    assert int(rest.split('" 206 ')[1].split()[0]) <= SIZE - 1_000_000, "only what was not there was sent again"


def test_a_server_that_no_trusted_authority_vouches_for_is_an_error_with_a_clear_text(
    service: Service,
    nginx: Nginx,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
) -> None:
    (nginx.root / "file").write_bytes(b"content")
    user = throwaway_user()
    folder = private_folder(user)
    with _bits_get(service, user, nginx.url("/file", tls=True), folder / "file") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    job = _only_job(service)
    assert job.code == ("error", SECURE_INVALID_CA, "general_transport")
    for part in ("ERROR_WINHTTP_SECURE_INVALID_CA", "0x80072F0D", f"localhost:{nginx.tls_port}", "certificate"):
        assert part in job.error["message"], job.error["message"]
        assert part in err, err
    assert f"{user.name} (uid {user.uid})" in job.error["message"]
    assert f"bits resume {job.id}" in err
    assert f"bits cancel {job.id}" in err
    assert job.cancel() == 0
    assert names(folder) == []


def test_a_ca_file_that_cannot_be_read_leaves_no_server_trusted_and_says_so(
    make_service: Callable[..., Service],
    nginx: Nginx,
    certificates: Certificates,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
) -> None:
    """The manager reads it without privileges: nothing is trusted then rather than everything."""
    (nginx.root / "file").write_bytes(b"content")
    certificates.ca.chmod(0o600)
    user = throwaway_user()
    folder = private_folder(user)
    service = make_service()
    service.configure(f'[tls]\nca_file = "{certificates.ca}"\n')
    service.start()
    with _bits_get(service, user, nginx.url("/file", tls=True), folder / "file") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ca_file" in err
    assert f"ca_file_unreadable path={certificates.ca}" in service.log()
