"""Bodies to a real Apache that asks who somebody is: it answers before it has read them (upload-protocol.md §13)."""

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.apache import Apache
from tests.real.kdc import Kdc
from tests.real.nginx import Certificates
from tests.transfer.asking import Asking, Source
from tests.transfer.test_auth_bodies import FRAGMENT, PING

from openbits.core.enums import AuthScheme, AuthTarget
from openbits.core.packets import METHOD
from openbits.transfer.auth import Authentication, Credential
from openbits.transfer.decisions import Ask
from openbits.transfer.headers import Head

pytestmark = [pytest.mark.root, pytest.mark.real("krb5kdc", "apache2", "openssl")]

USER, PASSWORD = "bert", "Canary5ecret"  # a test
DATA = random.Random(5).randbytes(3 * 1024 * 1024)  # noqa: S311  # any bytes
METHOD_NOT_ALLOWED = 405
"""What Apache says of a packet once it knows who sends it: there is nothing behind it that takes one."""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))  # the one folder all uids can pass
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def kdc(place: Path) -> Iterator[Kdc]:
    made = Kdc(place)
    made.add("anna", PASSWORD)
    yield made
    made.close()


@pytest.fixture(scope="module")
def apache(place: Path, kdc: Kdc, certificates: Certificates) -> Iterator[Apache]:
    made = Apache(place, certificates, kdc=kdc)
    made.set_password(USER, PASSWORD)
    (made.root / "file").write_bytes(b"")
    yield made
    made.close()


@pytest.mark.parametrize("size_bytes", [1, 900_000, 3 * 1024 * 1024])
@pytest.mark.parametrize(
    ("path", "scheme", "user"),
    [
        ("basic", AuthScheme.BASIC, USER),
        ("digest", AuthScheme.DIGEST, USER),
        ("ntlm", AuthScheme.NTLM, USER),
        ("negotiate-ntlm", AuthScheme.NEGOTIATE, USER),
        ("negotiate", AuthScheme.NEGOTIATE, "anna"),
    ],
)
@pytest.mark.parametrize("is_over_tls", [False, True])
def test_s13_a_body_reaches_a_server_that_wants_to_know_who_sends_it(
    apache: Apache,
    kdc: Kdc,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    scheme: AuthScheme,
    user: str,
    size_bytes: int,
    *,
    is_over_tls: bool,
) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(kdc.config))
    own = Credential(target=AuthTarget.SERVER, scheme=scheme, user=user, password=PASSWORD)
    url = apache.url(f"/{path}/file", tls=is_over_tls)
    asking = Asking(url, given=Authentication(credentials=(own,)), ca=certificates.ca)
    try:
        for _ in range(3):
            body = Source(DATA).body(0, size_bytes)
            outcome = asking.ask(Ask(METHOD, FRAGMENT, body=body, opening=PING))
            assert isinstance(outcome, Head), outcome
            assert outcome.status == METHOD_NOT_ALLOWED
    finally:
        asking.close()
