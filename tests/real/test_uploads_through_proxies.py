"""`bits put` to a `bits-server` behind nginx and squid, and through squid: docs/server-proxies.md."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.conftest import Person, Service
from tests.real.nginx import Certificates
from tests.real.test_cli import Shell
from tests.server.applications import Application
from tests.server.proxies import PASSWORD, USER, a_server, forward_squid, site_behind

pytestmark = [pytest.mark.root, pytest.mark.real("nginx", "squid", "openssl")]

CONTENT = random.Random(9).randbytes(20_000_000)  # noqa: S311  # no secret
REPLY = random.Random(10).randbytes(3_000_000)  # noqa: S311  # no secret


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    made = Application(tmp_path / "application")
    made.answer(body=REPLY, fields=[["BITS-Copy-File-To-Destination", "yes"]])
    yield made
    made.close()


@pytest.fixture
def shell(
    make_service: Callable[..., Service], certificates: Certificates, tmp_path: Path, root: Person
) -> Iterator[Shell]:
    """Of root, whose service trusts the authority of the proxies; the folder has the file `report.bin`."""
    service = make_service()
    authorities = service.config / "authorities.pem"
    authorities.write_bytes(certificates.ca.read_bytes())
    service.configure(f'[tls]\nca_file = "{authorities}"\n')
    service.start()
    (tmp_path / "report.bin").write_bytes(CONTENT)
    made = Shell(root, service, tmp_path)
    yield made
    made.be_patient_no_more()


@pytest.mark.parametrize("proxy", ["nginx", "squid"])
def test_an_upload_to_a_server_behind_a_proxy(
    proxy: str, shell: Shell, open_tmp_path: Path, certificates: Certificates, application: Application
) -> None:
    with site_behind(proxy, open_tmp_path, certificates, application) as site:
        shell.bits("put", "report.bin", f"{site.url}/private/", "--user", USER, typed=f"{PASSWORD}\n")
        assert (site.server.root / "private" / "report.bin").read_bytes() == CONTENT
        shell.bits("put", "report.bin", f"{site.url}/answered/", "--reply", "answer.bin")
        assert (site.server.root / "answered" / "report.bin").read_bytes() == CONTENT
        assert (shell.folder / "answer.bin").read_bytes() == REPLY
        assert application.only().fields["bits-original-request-url"] == f"{site.url}/answered/report.bin"


def test_an_upload_through_a_proxy_of_the_client(shell: Shell, open_tmp_path: Path, application: Application) -> None:
    server = a_server(open_tmp_path, application)
    squid = forward_squid(open_tmp_path)
    proxied = ("proxy-usage=override", f"proxy-list=127.0.0.1:{squid.port}")
    try:
        shell.bits("put", "report.bin", f"{server.url}/inbox/", *(f"--{one}" for one in proxied))
        shell.bits(
            "put", "report.bin", f"{server.url}/answered/", "--reply", "answer.bin", *(f"--{one}" for one in proxied)
        )
    finally:
        squid.close()
        server.close()
    assert (server.inbox / "report.bin").read_bytes() == CONTENT
    assert (shell.folder / "answer.bin").read_bytes() == REPLY
    assert ("BITS_POST", f"{server.url}/inbox/report.bin") in squid.requests()
