"""Negotiate with a real KDC, a real Apache and a real squid, worker alone; the whole service is `tests/real`'s."""

import base64
import contextlib
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.apache import DOMAIN, Apache
from tests.real.conftest import Person
from tests.real.kdc import REALM, Kdc
from tests.real.nginx import Certificates
from tests.real.squid_auth import AskingSquid
from tests.transfer.authserver import Conversing, ask
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import FaultServer, Request, Step, whole
from tests.transfer.test_auth_conversations import LOGIN_FAILURE
from tests.transfer.test_auth_ladder import UNAUTHORIZED, credentials, give, told

pytestmark = [pytest.mark.root, pytest.mark.real("krb5kdc", "apache2", "squid", "openssl")]

BODY = bytes(range(256)) * 2000
PASSWORD = "Canary5ecret"  # a test


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
    made.add("dora", PASSWORD, life="3 seconds")
    yield made
    made.close()


@pytest.fixture(scope="module")
def apache(place: Path, kdc: Kdc, certificates: Certificates) -> Iterator[Apache]:
    made = Apache(place, certificates, kdc=kdc)
    made.set_password("bert", PASSWORD)
    (made.root / "file").write_bytes(BODY)
    yield made
    made.close()


@pytest.fixture
def worker(
    start_worker: Callable[..., WorkerProcess], kdc: Kdc, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> WorkerProcess:
    """Without tickets of its own."""
    monkeypatch.setenv("KRB5_CONFIG", str(kdc.config))
    monkeypatch.setenv("KRB5CCNAME", "MEMORY:none")
    return start_worker(ca=certificates.ca)


@contextlib.contextmanager
def silent_kdc(folder: Path) -> Iterator[Path]:
    """The configuration of a realm whose KDC takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = folder / "krb5.conf"
        config.write_text(
            f"[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\nudp_preference_limit = 1\n"
            f"[realms]\n{REALM} = {{\n kdc = 127.0.0.1:{silent.getsockname()[1]}\n}}\n"
        )
        yield config


def asked(apache: Apache, since: int) -> list[tuple[int, str, str]]:
    return [(one.status, one.user, one.scheme) for one in apache.asked()[since:]]


@pytest.mark.parametrize("is_tls", [False, True])
def test_user_and_password_are_tickets_kept_in_memory(
    worker: WorkerProcess,
    apache: Apache,
    destination: Path,
    is_tls: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    since = len(apache.asked())
    give(worker, credentials("negotiate", user="anna", password=PASSWORD))
    for _ in range(2):
        assert worker.fetch(apache.url("/negotiate/file", tls=is_tls), destination).outcome == "transferred"
        assert destination.read_bytes() == BODY
    assert (200, f"anna@{REALM}", "Negotiate") in asked(apache, since)


def test_a_server_that_wants_a_ticket_with_each_request_is_understood(
    worker: WorkerProcess, apache: Apache, destination: Path
) -> None:
    """Apache by default. The third file costs one request."""
    since = len(apache.asked())
    give(worker, credentials("negotiate", user="anna", password=PASSWORD))
    for _ in range(3):
        assert worker.fetch(apache.url("/negotiate/file"), destination).outcome == "transferred"
    statuses = [(status, scheme) for status, _, scheme in asked(apache, since)]
    first, second, third = (
        [(401, ""), (401, ""), (200, "Negotiate")],
        [(401, ""), (200, "Negotiate")],
        [(200, "Negotiate")],
    )
    assert statuses == first + second + third


def test_a_password_that_the_kdc_refuses_goes_nowhere(worker: WorkerProcess, apache: Apache, destination: Path) -> None:
    since = len(apache.asked())
    give(worker, credentials("negotiate", user="anna", password="wrong"))
    story = worker.fetch(apache.url("/negotiate/file"), destination)
    assert story.hresult == UNAUTHORIZED
    told(story, "asks Negotiate", "not sent: Negotiate as anna", "Kerberos:")
    assert {scheme for _, _, scheme in asked(apache, since)} == {""}


@pytest.mark.parametrize(("path", "scheme"), [("ntlm", "ntlm"), ("negotiate-ntlm", "negotiate")])
@pytest.mark.parametrize("is_tls", [False, True])
def test_a_user_whom_no_kdc_knows_is_spoken_of_in_ntlm(
    worker: WorkerProcess,
    apache: Apache,
    destination: Path,
    path: str,
    scheme: str,
    is_tls: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    since = len(apache.asked())
    give(worker, credentials(scheme, user=f"{DOMAIN}\\bert", password=PASSWORD))
    assert worker.fetch(apache.url(f"/{path}/file", tls=is_tls), destination).outcome == "transferred"
    assert any(status == 200 and user for status, user, _ in asked(apache, since))


def test_of_several_schemes_the_best_is_taken(worker: WorkerProcess, apache: Apache, destination: Path) -> None:
    since = len(apache.asked())
    give(worker, credentials("basic", user="anna"), credentials("negotiate", user="anna", password=PASSWORD))
    assert worker.fetch(apache.url("/several/file"), destination).outcome == "transferred"
    assert {scheme for _, _, scheme in asked(apache, since)} <= {"", "Negotiate"}


@pytest.mark.parametrize("scheme", ["basic", "digest", "negotiate", "ntlm"])
@pytest.mark.parametrize("is_tls", [False, True])
def test_a_proxy_is_answered_plain_and_for_a_tunnel(
    worker: WorkerProcess,
    apache: Apache,
    kdc: Kdc,
    place: Path,
    destination: Path,
    eventually: Callable[..., object],
    scheme: str,
    is_tls: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    folder = place / f"{scheme}{is_tls}"
    folder.mkdir()
    squid = AskingSquid(folder, scheme, user="anna", password=PASSWORD, kdc=kdc)
    try:
        worker.proxy = {**worker.proxy, "usage": "override", "list": squid.name}
        given = {"user": "anna", "password": PASSWORD}
        give(worker, credentials(scheme, target="proxy", **given), credentials("negotiate", **given))
        for _ in range(2):
            story = worker.fetch(apache.url("/negotiate/file", tls=is_tls), destination)
            assert story.outcome == "transferred", story.last
        assert destination.read_bytes() == BODY
        users = {"ntlm": {"a\\a"}}.get(scheme, {"anna", f"anna@{REALM}"})  # squid's helper cannot read all of it
        eventually(lambda: any(user in users for _, user, _, _ in squid.asked()))
    finally:
        squid.close()


@pytest.mark.parametrize("token", ["oRQwEqADCgEAoQsGCSqGSIb3EgECAg==", "AAAA"])
def test_a_server_that_cannot_prove_who_it_is_gets_no_further(
    worker: WorkerProcess, server: FaultServer, destination: Path, token: str
) -> None:
    """It takes the ticket and says that all is well, without the key that would tell it what was in there."""

    def answer(request: Request) -> list[Step]:
        if "authorization" in request.headers:
            return whole(b"forged", f"WWW-Authenticate: Negotiate {token}")
        return list(ask("Negotiate"))

    server.answer("GET", answer)
    give(worker, credentials("negotiate", user="anna", password=PASSWORD))
    story = worker.fetch(server.url(host="localhost"), destination)
    assert story.hresult == LOGIN_FAILURE
    told(story, "could not prove that it is localhost")
    assert destination.read_bytes() == b""


def test_nothing_but_kerberos_is_offered_with_a_ticket(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """Whatever other mechanisms the machine has: gss-ntlmssp would send a name of the machine, and more if asked."""
    server.answer("GET", ask("Negotiate"))
    give(worker, credentials("negotiate", user="anna", password=PASSWORD))
    worker.fetch(server.url(host="localhost"), destination)
    (sent,) = [request.headers["authorization"] for request in server.requests if "authorization" in request.headers]
    token = base64.b64decode(sent.removeprefix("Negotiate "))
    assert bytes.fromhex("2a864886f712010202") in token  # Kerberos
    assert bytes.fromhex("2b06010401823702020a") not in token  # NTLM


def test_a_kdc_that_does_not_answer_ends_with_the_connect_clock(
    start_worker: Callable[..., WorkerProcess],
    apache: Apache,
    destination: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with silent_kdc(tmp_path) as config:
        monkeypatch.setenv("KRB5_CONFIG", str(config))
        worker = start_worker(limits={"connect_seconds": 1})
        give(worker, credentials("negotiate", user="anna", password=PASSWORD))
        story = worker.fetch(apache.url("/negotiate/file"), destination)
        assert story.hresult == 0x80072EE2
        told(story, "no ticket within 1 s", "getting what proves our identity")
        worker.entrusted = {}
        assert worker.fetch(apache.url("/open/file"), destination).outcome == "transferred"


def test_a_server_that_the_kdc_does_not_know_is_spoken_to_in_ntlm(
    accounts: Path, worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """Though it knows the user; there is a service HTTP/localhost and none HTTP/127.0.0.1."""
    peer = Conversing("Negotiate", accounts)
    accounts.write_text(f":anna:{PASSWORD}\n")
    server.answer("GET", peer)
    give(worker, credentials("negotiate", user="anna", password=PASSWORD))
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert len(peer.users) == 1


def test_tickets_that_were_got_with_a_password_are_renewed_when_they_have_expired(
    start_worker: Callable[..., WorkerProcess],
    apache: Apache,
    kdc: Kdc,
    destination: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    exact = tmp_path / "krb5.conf"
    exact.write_text(kdc.config.read_text().replace("[libdefaults]", "[libdefaults]\n    clockskew = 1"))
    monkeypatch.setenv("KRB5_CONFIG", str(exact))
    worker = start_worker()
    give(worker, credentials("negotiate", user="dora", password=PASSWORD))

    def is_renewed() -> bool:
        story = worker.fetch(apache.url("/negotiate/file"), destination)
        assert story.outcome == "transferred", story.last
        return kdc.logons("dora") > 2  # one log-on is one for Kerberos and one for SPNEGO

    assert not is_renewed()
    eventually(is_renewed, 20)


def test_own_tickets_that_have_expired_are_said_to_have(
    start_worker: Callable[..., WorkerProcess],
    apache: Apache,
    kdc: Kdc,
    destination: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    cache = kdc.kinit(Person(uid=0, gid=0), PASSWORD, principal="anna", cache=tmp_path / "cache", life="1s")
    eventually(lambda: kdc.is_expired(cache))
    monkeypatch.setenv("KRB5_CONFIG", str(kdc.config))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{cache}")
    worker = start_worker()
    give(worker, credentials("negotiate", user=None, password=None))
    story = worker.fetch(apache.url("/negotiate/file"), destination)
    assert story.hresult == UNAUTHORIZED
    told(story, "not sent: Negotiate as the own identity: Kerberos: the tickets have expired")


def test_a_silent_kdc_holds_no_other_job_up(
    accounts: Path,
    start_worker: Callable[..., WorkerProcess],
    server: FaultServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with silent_kdc(tmp_path) as config:
        monkeypatch.setenv("KRB5_CONFIG", str(config))
        worker = start_worker(limits={"connect_seconds": 60})
        server.answer("GET", ask("Negotiate"))
        give(worker, credentials("negotiate", user="anna", password=PASSWORD))
        waiting = worker.start(server.url(), tmp_path / "waiting")
        worker.wait_for(waiting, "phase", until=lambda news: "proves our identity" in str(news["text"]))
        worker.job = "other"
        peer = Conversing("NTLM", accounts)
        server.answer("GET", peer)
        give(worker, credentials("ntlm"))
        assert worker.fetch(server.url(), tmp_path / "other").outcome == "transferred"
        worker.cancel(waiting)
