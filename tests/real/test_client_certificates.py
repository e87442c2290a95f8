"""T-15: client certificates before a real Apache: whose store, whose key, and the flag NETWORK (A40, A41)."""

import hashlib
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real import canaries
from tests.real.authentication import BODY, PROGRAMS, World, keep, world
from tests.real.conftest import Person
from tests.real.stories import cancel_all

from openbits.core.enums import CertStore

pytestmark = [pytest.mark.root, pytest.mark.real(*PROGRAMS)]

NETWORK = 2
ROOT = Person(uid=0, gid=0)
USER, MACHINE = CertStore.CURRENT_USER, CertStore.LOCAL_MACHINE
NO_PRIVATE_KEY, NO_ACCESS_PRIVATE_KEY = 0x80072F99, 0x80072F9A
CERTIFICATE_NEEDED, FORBIDDEN = 0x80072F0C, 0x80190193
PATH = "/open/file"


@pytest.fixture(scope="module")
def whole() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture
def here(whole: World) -> Iterator[World]:
    """The world, with an empty store and no jobs of the test before."""
    store = whole.owner.home / ".config" / "openbits" / "certs"
    shutil.rmtree(store, ignore_errors=True)
    whole.skip = len(whole.apache.asked())
    yield whole
    cancel_all(whole.service)


def put(here: World, usage: str = "clientAuth", *, has_key: bool = True) -> str:
    """A certificate in the owner's store, its key beside it for the owner alone; its SHA-1."""
    certificate, key = here.certificates.issue("DNS:client", usage=usage)
    keep(here.owner, "certs/MY/client.pem", certificate.read_text(), 0o644)
    if has_key:
        keep(here.owner, "certs/MY/client.key", key.read_text())
    return sha1_of(certificate)


def sha1_of(certificate: Path) -> str:
    return hashlib.sha1(ssl.PEM_cert_to_DER_cert(certificate.read_text()), usedforsecurity=False).hexdigest()


def shown(here: World) -> set[str]:
    """Subjects of the certificates that the server was shown in this test."""
    return {one.certificate for one in here.apache.asked()[here.skip :]}


class TestOwner:
    def test_certificate_and_key_of_the_owner_are_shown_where_they_are_required(self, here: World) -> None:
        job = here.job(here.apache.certificate_url(PATH), is_resumed=False)
        here.choose_certificate(job, USER, sha1=put(here))
        job.resume()
        assert here.is_fetched(job)
        assert shown(here) == {"CN=server"}  # as the test authority names everybody

    def test_the_key_is_in_clear_nowhere_but_in_its_store(self, here: World) -> None:
        """T-14; a key that a message quotes or the store keeps is found by a line of it."""
        job = here.job(here.apache.certificate_url(PATH), is_resumed=False)
        here.choose_certificate(job, USER, sha1=put(here))
        job.resume()
        assert here.is_fetched(job)
        store = here.owner.home / ".config" / "openbits"
        line = (store / "certs" / "MY" / "client.key").read_bytes().splitlines()[1][:40]
        service = here.service
        assert canaries.found_in_files(service.state, service.log_path, mark=line) == []
        assert canaries.found_in_files(store, mark=line) == [str(store / "certs" / "MY" / "client.key")]

    def test_by_subject(self, here: World) -> None:
        put(here)
        job = here.job(here.apache.certificate_url(PATH), is_resumed=False)
        here.choose_certificate(job, USER, subject="server")
        job.resume()
        assert here.is_fetched(job)

    def test_a_server_that_requires_none_is_shown_none_unless_it_asks(self, here: World) -> None:
        sha1 = put(here)
        for url, subjects in (
            (here.apache.certificate_url(PATH, is_required=False), {"CN=server"}),
            (here.apache.url(PATH, tls=True), {""}),
        ):
            here.skip = len(here.apache.asked())
            job = here.job(url, is_resumed=False)
            here.choose_certificate(job, USER, sha1=sha1)
            job.resume()
            assert here.is_fetched(job)
            assert shown(here) == subjects

    def test_a_key_that_is_gone_is_told_and_mended(self, here: World) -> None:
        sha1 = put(here)
        job = here.job(here.apache.certificate_url(PATH), is_resumed=False)
        here.choose_certificate(job, USER, sha1=sha1)
        key = here.owner.home / ".config/openbits/certs/MY/client.key"
        content = key.read_text()
        key.unlink()
        job.resume()
        code, text = here.failure(job)
        assert code == NO_PRIVATE_KEY
        assert "client.key" in text
        keep(here.owner, "certs/MY/client.key", content)
        job.resume()
        assert here.is_fetched(job)

    def test_a_key_of_the_machine_that_the_owner_may_not_read_is_no_key(self, here: World) -> None:
        certificate, key = here.certificates.issue("DNS:client", usage="clientAuth")
        folder = here.service.config / "certs" / "MY"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(certificate, folder / "machine.pem")
        shutil.copy(key, folder / "machine.key")
        (folder / "machine.pem").chmod(0o644)
        (folder / "machine.key").chmod(0o600)
        job = here.job(here.apache.certificate_url(PATH), is_resumed=False)
        here.choose_certificate(job, MACHINE, sha1=sha1_of(certificate))
        job.resume()
        assert here.failure(job)[0] == NO_ACCESS_PRIVATE_KEY
        subprocess.run(["chgrp", str(here.owner.gid), folder / "machine.key"], check=True)
        (folder / "machine.key").chmod(0o640)
        job.resume()
        assert here.is_fetched(job)

    def test_without_one_a_server_that_requires_it_is_no_riddle(self, here: World) -> None:
        code, text = here.failure(here.job(here.apache.certificate_url(PATH)))
        assert code == CERTIFICATE_NEEDED
        assert "client certificate" in text


class TestNetworkIdentity:
    def test_the_helper_cannot_use_the_owners_key_and_nothing_is_connected(self, here: World) -> None:
        """A40."""
        job = here.job(here.apache.certificate_url(PATH), is_resumed=False)
        here.choose_certificate(job, USER, sha1=put(here))
        here.set_helper(job, NETWORK)
        job.resume()
        code, text = here.failure(job)
        assert code == NO_ACCESS_PRIVATE_KEY
        assert here.owner.name in text
        assert here.apache.asked()[here.skip :] == []

    def test_after_the_flag_was_cleared_the_job_goes_on(self, here: World) -> None:
        job = here.job(here.apache.certificate_url(PATH), is_resumed=False)
        here.choose_certificate(job, USER, sha1=put(here))
        here.set_helper(job, NETWORK)
        job.resume()
        here.failure(job)
        here.set_helper(job, 0)
        job.resume()
        assert here.is_fetched(job)

    def test_a_certificate_of_root_goes_with_the_helper(self, here: World) -> None:
        certificate, key = here.certificates.issue("DNS:client", usage="clientAuth")
        folder = here.service.config / "certs" / "MY"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(certificate, folder / "root.pem")
        shutil.copy(key, folder / "root.key")
        (folder / "root.key").chmod(0o600)
        job = here.job(here.apache.certificate_url(PATH), user=ROOT, is_resumed=False)
        here.choose_certificate(job, MACHINE, sha1=sha1_of(certificate), user=ROOT)
        here.set_helper(job, NETWORK, user=ROOT)
        job.resume()
        job.reaches("transferred", "error")
        assert job.state == "transferred", job.error
        assert here.content(job) == BODY
        assert shown(here) == {"CN=server"}
