"""NTLM and Negotiate without a KDC: conversations on one connection, with pyspnego as the other side, on the wire."""

import contextlib
import hashlib
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.real.nginx import Certificates
from tests.transfer.authserver import BODY, PASSWORD, USER, Conversing, ask
from tests.transfer.conftest import Story, WorkerProcess
from tests.transfer.faultserver import CLOSE, RESET, FaultServer, Request, Step, head
from tests.transfer.forwardproxy import ForwardProxy
from tests.transfer.test_auth_ladder import PROXY_UNAUTHORIZED, UNAUTHORIZED, credentials, give, proofs, told

LOGIN_FAILURE = 0x80072EEF


@pytest.fixture
def worker(start_worker: Callable[..., WorkerProcess]) -> WorkerProcess:
    return start_worker()


def scheme_of(name: str) -> str:
    """The slot for a scheme as servers call it."""
    return name.lower()


@pytest.mark.parametrize("name", ["NTLM", "Negotiate"])
def test_a_password_is_proved_on_one_connection_which_the_next_files_use(
    accounts: Path, worker: WorkerProcess, server: FaultServer, destination: Path, name: str
) -> None:
    peer = Conversing(name, accounts)
    server.answer("GET", peer)
    give(worker, credentials(scheme_of(name)))
    for path in ("/one", "/two"):
        assert worker.fetch(server.url(path), destination).outcome == "transferred"
        assert destination.read_bytes() == BODY
    assert proofs(server) == ["", "", name, name, ""]
    assert [request.connection for request in server.requests] == [1, 2, 2, 2, 2]
    assert [user.rpartition("\\")[2] for user in peer.users.values()] == [USER]


@pytest.mark.parametrize("name", ["NTLM", "Negotiate"])
def test_a_wrong_password_is_sent_once(
    accounts: Path, worker: WorkerProcess, server: FaultServer, destination: Path, name: str
) -> None:
    peer = Conversing(name, accounts, others=['Basic realm="x"'])
    server.answer("GET", peer)
    give(worker, credentials(scheme_of(name), password="wrong"), credentials("basic", user="other"))  # a test
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNAUTHORIZED
    told(story, f"asks {name}, Basic", f"sent: {name} as {USER}", "refused", "not used: Basic as other")
    assert peer.refusals == 1
    assert "Basic" not in proofs(server)


def test_what_remains_may_follow_if_it_is_as_strong_and_another_account(
    accounts: Path, worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    ntlm = Conversing("NTLM", accounts)
    server.answer("GET", lambda request: _with(ntlm(request), "Negotiate"))
    give(worker, credentials("negotiate", user=None, password=None), credentials("ntlm"))
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert "Negotiate" not in proofs(server)  # there are no tickets here


def _with(answer: Sequence[Step], challenge: str) -> list[Step]:
    """The same, and one more challenge in it."""
    first, *others = answer
    assert isinstance(first, bytes)
    return [first.replace(b"WWW-Auth", b"WWW-Authenticate: " + challenge.encode() + b"\r\nWWW-Auth", 1), *others]


def test_the_own_identity_without_tickets_says_so(
    worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    server.answer("GET", ask("Negotiate", 'Basic realm="x"'))
    give(worker, credentials("negotiate", user=None, password=None), credentials("basic"))
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNAUTHORIZED
    told(story, "not sent: Negotiate as the own identity", "Kerberos", f"not used: Basic as {USER}")
    assert set(proofs(server)) == {""}


def broken_off(server: FaultServer, worker: WorkerProcess, destination: Path, *ending: Step) -> Story:
    """The other side ends the connection in place of its second word, each time."""

    def answer(request: Request) -> list[Step]:
        if "authorization" in request.headers:
            return list(ending)
        return list(ask("NTLM", 'Basic realm="x"'))

    server.answer("GET", answer)
    give(worker, credentials("ntlm"), credentials("basic", user="other"))
    return worker.fetch(server.url(), destination)


@pytest.mark.parametrize("ending", [CLOSE, RESET])
def test_a_conversation_that_is_broken_off_is_begun_twice_and_then_it_is_over(
    worker: WorkerProcess, server: FaultServer, destination: Path, ending: Step
) -> None:
    """Row 34: no fall to Basic."""
    story = broken_off(server, worker, destination, ending)
    assert story.hresult == LOGIN_FAILURE
    assert proofs(server).count("NTLM") == 2
    assert "Basic" not in proofs(server)


def test_a_conversation_does_not_go_on_over_another_connection(
    accounts: Path, worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """A server that closes after its second word: the third, which proves the password, is for nobody else."""
    peer = Conversing("NTLM", accounts)

    def answer(request: Request) -> list[Step]:
        return [*peer(request), CLOSE] if "authorization" in request.headers else list(peer(request))

    server.answer("GET", answer)
    give(worker, credentials("ntlm"))
    story = worker.fetch(server.url(), destination)
    assert story.hresult == LOGIN_FAILURE
    assert peer.users == {}
    for request in server.requests:
        given = request.headers.get("authorization", "")
        assert not given.startswith("NTLM TlRMTVNTUAAD"), "the proof went over another connection"


@pytest.mark.parametrize("token", ["AAAA", "TlRMTVNTUAACAAAA", "x", "TlRMTVNTUAAB" + "A" * 4000, ""])
def test_a_broken_second_word_ends_it(
    worker: WorkerProcess, server: FaultServer, destination: Path, token: str
) -> None:
    def answer(request: Request) -> list[Step]:
        more = f" {token}" if "authorization" in request.headers and token else ""
        return list(ask(f"NTLM{more}", 'Basic realm="x"'))

    server.answer("GET", answer)
    give(worker, credentials("ntlm"), credentials("basic", user="other"))
    story = worker.fetch(server.url(), destination)
    assert story.hresult == UNAUTHORIZED
    assert proofs(server) == ["", "", "NTLM"]


@pytest.mark.parametrize("is_bound", [True, False])
@pytest.mark.parametrize("name", ["NTLM", "Negotiate"])
def test_over_tls_it_is_bound_to_the_certificate_of_the_server(
    accounts: Path,
    start_worker: Callable[..., WorkerProcess],
    start_tls_server: Callable[[tuple[Path, Path]], FaultServer],
    certificates: Certificates,
    destination: Path,
    name: str,
    is_bound: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """RFC 5929 §4: tls-server-end-point. Who relays the conversation has another certificate."""
    pair = certificates.issue("IP:127.0.0.1")
    shown = ssl.PEM_cert_to_DER_cert(_first(pair[0].read_text()))
    digest = hashlib.sha256(shown if is_bound else b"another").digest()
    server = start_tls_server(pair)
    peer = Conversing(name, accounts, bindings=b"tls-server-end-point:" + digest)
    server.answer("GET", peer)
    worker = start_worker(ca=certificates.ca)
    give(worker, credentials(scheme_of(name)))
    story = worker.fetch(server.url(), destination)
    if is_bound:
        assert story.outcome == "transferred"
        assert len(peer.users) == 1
    else:
        assert story.hresult == UNAUTHORIZED
        assert (peer.users, peer.refusals) == ({}, 1)


def _first(pem: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return pem[pem.index(begin) : pem.index(end) + len(end)]


@pytest.mark.parametrize("name", ["NTLM", "Negotiate"])
def test_a_proxy_is_conversed_with_on_one_connection_too(
    accounts: Path, worker: WorkerProcess, server: FaultServer, destination: Path, name: str
) -> None:
    peer = Conversing(name, accounts, is_proxy=True)
    server.answer("GET", peer)
    worker.proxy = {**worker.proxy, "usage": "override", "list": f"127.0.0.1:{server.port}"}
    give(worker, credentials(scheme_of(name), target="proxy"))
    for path in ("one", "two"):
        assert worker.fetch(f"http://files.test/{path}", destination).outcome == "transferred"
    assert [request.connection for request in server.requests] == [1, 2, 2, 2, 2]
    sent = [request.headers.get("proxy-authorization", "").partition(" ")[0] for request in server.requests]
    assert sent == ["", "", name, name, ""]
    assert not any("authorization" in request.headers for request in server.requests)


def test_a_server_behind_a_tunnel_that_asks_like_a_proxy_is_given_nothing(
    start_worker: Callable[..., WorkerProcess],
    start_tls_server: Callable[[tuple[Path, Path]], FaultServer],
    certificates: Certificates,
    destination: Path,
) -> None:
    """Row 35."""
    server = start_tls_server(certificates.issue("IP:127.0.0.1"))
    server.answer("GET", ask('Basic realm="x"', status="407 Proxy Authentication Required"))
    worker = start_worker(ca=certificates.ca)
    give(worker, credentials("basic", target="proxy"), credentials("basic"))
    with contextlib.closing(ForwardProxy()) as proxy:
        worker.proxy = {**worker.proxy, "usage": "override", "list": proxy.name}
        story = worker.fetch(server.url(), destination)
    assert story.hresult == PROXY_UNAUTHORIZED
    told(story, "the server answered 407", "as only a proxy may")
    assert len(server.requests) == 1
    assert server.requests[0].headers.keys().isdisjoint({"authorization", "proxy-authorization"})


def test_a_conversation_is_held_also_where_a_new_connection_was_asked_for(
    accounts: Path, worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    """421: the request has to come over another connection, and with it all words about it over that one."""
    peer = Conversing("NTLM", accounts)
    server.answer("GET", [head("421 Misdirected Request", "Content-Length: 0")], peer)
    give(worker, credentials("ntlm"))
    assert worker.fetch(server.url(), destination).outcome == "transferred"


def test_files_that_run_together_have_a_connection_each(
    accounts: Path, worker: WorkerProcess, server: FaultServer, tmp_path: Path
) -> None:
    peer = Conversing("NTLM", accounts)
    server.answer("GET", peer)
    give(worker, credentials("ntlm"))
    worker.at_a_time = 3
    keys = [worker.start(server.url(f"/{number}"), tmp_path / str(number)) for number in range(6)]
    assert [worker.story(key).outcome for key in keys] == ["transferred"] * 6
    for connection in peer.users:
        own = [request for request in server.requests if request.connection == connection]
        sent = [request.headers.get("authorization", "")[: len("NTLM TlRMTVNTUAAB")] for request in own]
        assert sent[:3] == ["", "NTLM TlRMTVNTUAAB", "NTLM TlRMTVNTUAAD"]
        assert set(sent[3:]) <= {""}
    assert len(peer.users) <= 3


def test_another_job_does_not_come_in_with_it(
    accounts: Path, worker: WorkerProcess, server: FaultServer, destination: Path
) -> None:
    peer = Conversing("NTLM", accounts)
    server.answer("GET", peer)
    give(worker, credentials("ntlm"))
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    worker.job = "other"
    worker.entrusted = {}
    assert worker.fetch(server.url(), destination).hresult == UNAUTHORIZED
    worker.job = "job"
    assert worker.fetch(server.url(), destination).hresult == UNAUTHORIZED, "the job has lost its credentials"
    assert PASSWORD not in repr([request.headers for request in server.requests])
