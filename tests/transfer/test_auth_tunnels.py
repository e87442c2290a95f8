"""NTLM, alone and inside Negotiate, with a proxy on the way to TLS: a tunnel is got in a conversation, on the wire."""

import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from tests.real.nginx import Certificates
from tests.transfer.authserver import BODY, USER, Answering, Conversing, ask, file
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import CLOSE, RESET, SILENCE, FaultServer, Request, Step, head
from tests.transfer.test_auth_conversations import LOGIN_FAILURE, scheme_of
from tests.transfer.test_auth_ladder import PROXY_UNAUTHORIZED, credentials, give, told
from tests.transfer.tunnelproxy import TunnelProxy, tunnel

from openbits.core import codes
from openbits.core.enums import AuthScheme, AuthTarget, SecurityFlags
from openbits.core.proxies import Kind, Proxy
from openbits.transfer import auth
from openbits.transfer.auth import Authentication, Credential, Peer
from openbits.transfer.challenges import parse
from openbits.transfer.ladder import Logins, Way
from openbits.transfer.mechanisms import MechanismError, Mechanisms

pytestmark = pytest.mark.real("openssl")

ASKS = "407 Proxy Authentication Required"
TRICKED = ["TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw==", "TlRMTVNTUAADAAAA", "AAAA", "%%%", "A" * 4000]
"""In place of the second message: the first, the third, and what is none."""


@pytest.fixture
def proxy() -> Iterator[TunnelProxy]:
    made = TunnelProxy()
    yield made
    made.close()


@pytest.fixture
def start_server(
    start_tls_server: Callable[[tuple[Path, Path]], FaultServer], certificates: Certificates
) -> Callable[[], FaultServer]:
    """Factory of servers that have the file and ask nobody."""

    def make() -> FaultServer:
        made = start_tls_server(certificates.issue("DNS:localhost"))
        made.answer("GET", file)
        return made

    return make


@pytest.fixture
def server(start_server: Callable[[], FaultServer]) -> FaultServer:
    return start_server()


@pytest.fixture
def worker(start_worker: Callable[..., WorkerProcess], certificates: Certificates, proxy: TunnelProxy) -> WorkerProcess:
    made = start_worker(ca=certificates.ca)
    through(made, proxy.name)
    give(made, credentials("ntlm", target="proxy"), credentials("basic", target="proxy", user="other"))
    return made


def through(worker: WorkerProcess, proxies: str) -> None:
    worker.proxy = {**worker.proxy, "usage": "override", "list": proxies}


def fetch(worker: WorkerProcess, server: FaultServer, destination: Path, *paths: str) -> None:
    """Files that have to come."""
    for path in paths:
        story = worker.fetch(server.url(path, host="localhost"), destination)
        assert story.outcome == "transferred", story.last
        assert story.connected["note"] == ""
        assert destination.read_bytes() == BODY


@pytest.mark.parametrize("name", ["NTLM", "Negotiate"])
def test_a_tunnel_is_got_in_a_conversation_and_the_next_files_use_it(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path, name: str
) -> None:
    peer = proxy.asks(name, accounts)
    give(worker, credentials(scheme_of(name), target="proxy"))
    fetch(worker, server, destination, "/one", "/two")
    assert proxy.words() == ["", f"{name} 1", f"{name} 3"]
    assert [request.connection for request in proxy.requests] == [1, 2, 2]
    assert {request.target for request in proxy.requests} == {f"localhost:{server.port}"}
    assert [request.connection for request in server.requests] == [1, 1]
    assert [user.rpartition("\\")[2] for user in peer.users.values()] == [USER]


def test_the_proxy_alone_sees_what_is_for_it_and_nothing_that_is_for_the_server(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path
) -> None:
    """Each is conversed with, the server on the connection that the proxy has let through."""
    proxy.asks("NTLM", accounts)
    peer = Conversing("NTLM", accounts)
    server.answer("GET", peer)
    worker.headers = [("Cookie", "for the server"), ("X-Job", "for the server")]
    give(worker, credentials("ntlm", target="proxy"), credentials("ntlm"))
    fetch(worker, server, destination, "/one", "/two")
    assert {name for request in proxy.requests for name in request.headers} == {
        "host", "user-agent", "proxy-connection", "proxy-authorization"
    }  # fmt: skip
    assert not any(name.startswith("proxy-") for request in server.requests for name in request.headers)
    assert proxy.words() == ["", "NTLM 1", "NTLM 3"]
    assert {request.connection for request in server.requests} == {1}
    assert len(peer.users) == 1


def test_a_wrong_password_is_sent_once_and_nothing_after_it(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path
) -> None:
    peer = proxy.asks("NTLM", accounts, others=['Basic realm="x"'])
    wrong = credentials("ntlm", target="proxy", password="wrong")
    give(worker, wrong, credentials("basic", target="proxy", user="other"))
    story = worker.fetch(server.url(host="localhost"), destination)
    assert story.hresult == PROXY_UNAUTHORIZED
    told(story, "asks NTLM, Basic", f"sent: NTLM as {USER}, refused", "not used: Basic as other")
    assert (proxy.words(), peer.refusals) == (["", "NTLM 1", "NTLM 3"], 1)
    assert server.requests == []
    assert story.last["headers"] == "", "what a proxy says of a tunnel is not taken for the server's answer"


@pytest.mark.parametrize("ending", [CLOSE, RESET])
def test_a_conversation_that_is_broken_off_is_begun_twice_and_then_it_is_over(
    worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path, ending: Step
) -> None:
    def answer(request: Request) -> Sequence[Step]:
        known = "proxy-authorization" in request.headers
        return [ending] if known else ask("NTLM", 'Basic realm="x"', status=ASKS)

    proxy.answer("CONNECT", answer)
    story = worker.fetch(server.url(host="localhost"), destination)
    assert story.hresult == LOGIN_FAILURE
    assert [word for word in proxy.words() if word] == ["NTLM 1", "NTLM 1"]
    assert server.requests == []


def test_the_third_message_does_not_go_over_another_connection(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path
) -> None:
    """A proxy that does not keep the connection after its second message."""
    peer = Conversing("NTLM", accounts, is_proxy=True, let_in=tunnel)
    proxy.answer("CONNECT", lambda request: [*peer(request), CLOSE])
    assert worker.fetch(server.url(host="localhost"), destination).hresult == LOGIN_FAILURE
    assert [word for word in proxy.words() if word] == ["NTLM 1", "NTLM 1"]
    assert (peer.users, server.requests) == ({}, [])


def test_a_proxy_of_http_1_0_that_keeps_the_connection_is_conversed_with(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path
) -> None:
    peer = Conversing("NTLM", accounts, is_proxy=True, let_in=tunnel)

    def answer(request: Request) -> Sequence[Step]:
        first, *others = peer(request)
        assert isinstance(first, bytes)
        old = first.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"\r\n", b"\r\nProxy-Connection: keep-alive\r\n", 1)
        return [old, *others]

    proxy.answer("CONNECT", answer)
    fetch(worker, server, destination, "/one")
    assert proxy.words() == ["", "NTLM 1", "NTLM 3"]


@pytest.mark.parametrize("token", TRICKED)
def test_a_second_message_that_is_none_ends_it(
    worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path, token: str
) -> None:
    def answer(request: Request) -> Sequence[Step]:
        more = f" {token}" if "proxy-authorization" in request.headers else ""
        return ask(f"NTLM{more}", 'Basic realm="x"', status=ASKS)

    proxy.answer("CONNECT", answer)
    story = worker.fetch(server.url(host="localhost"), destination)
    assert story.hresult == PROXY_UNAUTHORIZED
    assert proxy.words() == ["", "NTLM 1"]
    assert server.requests == []


def test_a_second_message_before_the_first_is_none(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path
) -> None:
    """Somebody else's challenge, in answer to a request without a word: it is not answered."""
    peer = Conversing("NTLM", accounts, is_proxy=True, let_in=tunnel)
    begun = Request("CONNECT", "", {"proxy-authorization": f"NTLM {TRICKED[0]}"}, 99)

    def answer(request: Request) -> Sequence[Step]:
        return peer(request if "proxy-authorization" in request.headers else begun)

    proxy.answer("CONNECT", answer)
    fetch(worker, server, destination, "/one")
    assert proxy.words() == ["", "NTLM 1", "NTLM 3"]


def test_who_is_let_in_at_the_first_word_says_no_other(
    worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path
) -> None:
    proxy.answer("CONNECT", ask("NTLM", status=ASKS), tunnel)
    fetch(worker, server, destination, "/one")
    assert proxy.words() == ["", "NTLM 1"]


def test_a_proxy_that_knows_us_and_makes_no_tunnel_says_why(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path
) -> None:
    refusal = [head("503 Service Unavailable", "Content-Length: 5"), b"later"]
    proxy.answer("CONNECT", Conversing("NTLM", accounts, is_proxy=True, let_in=lambda _request: refusal))
    story = worker.fetch(server.url(host="localhost"), destination)
    assert story.hresult == codes.from_http_status(503)
    told(story, "the proxy answered 503 to CONNECT", f"through proxy {proxy.name}")
    assert proxy.words() == ["", "NTLM 1", "NTLM 3"]


@pytest.mark.parametrize(
    "fields", [[f"X-{number}: 1" for number in range(101)], [f"X: {'x' * 9000}" for _ in range(8)]]
)
@pytest.mark.parametrize("status", [ASKS, "200 OK"])
def test_the_heads_of_a_proxy_have_the_limits_of_those_of_servers(
    worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path, fields: list[str], status: str
) -> None:
    proxy.answer("CONNECT", ask("NTLM", status=ASKS), ask("NTLM", fields=fields, status=status))
    story = worker.fetch(server.url(host="localhost"), destination)
    assert story.hresult == codes.BG_E_INVALID_SERVER_RESPONSE
    assert server.requests == []


def test_a_proxy_that_falls_silent_has_the_clock_of_servers(
    start_worker: Callable[..., WorkerProcess], proxy: TunnelProxy, destination: Path
) -> None:
    worker = start_worker(limits={"first_byte_seconds": 1})
    through(worker, proxy.name)
    give(worker, credentials("ntlm", target="proxy"))
    proxy.answer("CONNECT", ask("NTLM", status=ASKS), [SILENCE])
    story = worker.fetch("https://files.test/one", destination)
    assert story.hresult == codes.ERROR_WINHTTP_TIMEOUT
    told(story, "waiting for the tunnel to files.test:443", "no answer within 1 s (first-byte clock)")


def test_the_certificate_is_the_servers_as_without_a_proxy(
    accounts: Path,
    start_worker: Callable[..., WorkerProcess],
    proxy: TunnelProxy,
    server: FaultServer,
    destination: Path,
) -> None:
    proxy.asks("NTLM", accounts)
    worker = start_worker()
    through(worker, proxy.name)
    give(worker, credentials("ntlm", target="proxy"))
    assert worker.fetch(server.url(host="localhost"), destination).hresult == codes.ERROR_WINHTTP_SECURE_INVALID_CA
    worker.security_flags = SecurityFlags.IGNORE_UNKNOWN_CA
    fetch(worker, server, destination, "/one")
    other = worker.fetch(server.url(), destination)
    assert other.hresult == codes.ERROR_WINHTTP_SECURE_CERT_CN_INVALID
    assert len(server.requests) == 1


def test_a_tunnel_that_the_proxy_has_closed_is_made_anew(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path
) -> None:
    """By the same proxy: that there is no tunnel does not mean that it cannot be reached."""
    proxy.asks("NTLM", accounts)
    server.answer("GET", lambda request: [*file(request), CLOSE])
    other = TunnelProxy()
    try:
        through(worker, f"{proxy.name} {other.name}")
        fetch(worker, server, destination, "/one", "/two", "/three")
    finally:
        other.close()
    assert proxy.words() == ["", *["NTLM 1", "NTLM 3"] * 3]
    assert other.requests == []


def test_a_redirect_to_another_server_has_a_tunnel_of_its_own(
    accounts: Path,
    worker: WorkerProcess,
    proxy: TunnelProxy,
    server: FaultServer,
    start_server: Callable[[], FaultServer],
    destination: Path,
) -> None:
    proxy.asks("NTLM", accounts)
    there = start_server()
    there.answer("GET", [head("302 Found", f"Location: {server.url(host='localhost')}", "Content-Length: 0")])
    fetch(worker, there, destination, "/one")
    asked = [request.target.rpartition(":")[2] for request in proxy.requests]
    assert asked == [str(there.port)] * 3 + [str(server.port)] * 2
    assert proxy.words() == ["", "NTLM 1", "NTLM 3", "NTLM 1", "NTLM 3"]


def test_another_proxy_has_tunnels_of_its_own(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path
) -> None:
    proxy.asks("NTLM", accounts)
    fetch(worker, server, destination, "/one")
    other = TunnelProxy()
    try:
        other.asks("NTLM", accounts)
        through(worker, other.name)
        fetch(worker, server, destination, "/two")
        assert other.words() == ["", "NTLM 1", "NTLM 3"]
    finally:
        other.close()
    assert len({request.connection for request in server.requests}) == 2


def test_another_job_and_other_credentials_do_not_come_in_with_it(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, destination: Path
) -> None:
    proxy.asks("NTLM", accounts)
    fetch(worker, server, destination, "/one")
    worker.job, worker.entrusted = "other", {}
    assert worker.fetch(server.url(host="localhost"), destination).hresult == PROXY_UNAUTHORIZED
    worker.job = "job"
    assert worker.fetch(server.url(host="localhost"), destination).hresult == PROXY_UNAUTHORIZED
    assert len(server.requests) == 1


def test_files_that_run_together_have_a_tunnel_each(
    accounts: Path, worker: WorkerProcess, proxy: TunnelProxy, server: FaultServer, tmp_path: Path
) -> None:
    peer = proxy.asks("NTLM", accounts)
    worker.at_a_time = 3
    urls = [server.url(f"/{number}", host="localhost") for number in range(6)]
    keys = [worker.start(url, tmp_path / str(number)) for number, url in enumerate(urls)]
    assert [worker.story(key).outcome for key in keys] == ["transferred"] * 6
    for connection in {request.connection for request in proxy.requests} - {1}:
        own = [request for request in proxy.requests if request.connection == connection]
        assert ["proxy-authorization" in request.headers for request in own] in ([False], [True, True])
    assert 1 <= len(peer.users) <= 3


class Bound(Mechanisms):
    """Says nothing; keeps what a conversation was to be bound to."""

    def __init__(self) -> None:
        super().__init__()
        self.certificates = list[str]()

    def begin(self, credential: Credential, peer: Peer, certificate: str) -> NoReturn:
        self.certificates.append(certificate)
        raise MechanismError("a test")


@pytest.mark.parametrize(("kind", "certificate"), [(Kind.HTTP, ""), (Kind.HTTPS, "PEM")])
def test_a_conversation_in_clear_is_bound_to_no_certificate_of_another_connection(kind: Kind, certificate: str) -> None:
    """The tunnel before this one had the server's."""
    mechanisms = Bound()
    given = Credential(target=AuthTarget.PROXY, scheme=AuthScheme.NTLM, user=USER, password="x")  # a test
    logins = Logins(Authentication(credentials=(given,)), mechanisms)
    peer = auth.proxy(Proxy(host="proxy.example", port=3128, kind=kind))
    ladder = logins.ladder(peer, auth.server(("https", "files.example", 443)), Way.TUNNEL)
    ladder.prepare("CONNECT", "files.example:443")
    ladder.challenged(parse(["NTLM"]), ASKS, None)
    assert ladder.work is not None
    with pytest.raises(MechanismError):
        ladder.work.call("PEM")
    assert mechanisms.certificates == [certificate]


@pytest.mark.parametrize("words", [2, 3])
def test_what_is_cancelled_on_the_way_leaves_nothing_open(
    accounts: Path,
    worker: WorkerProcess,
    proxy: TunnelProxy,
    server: FaultServer,
    destination: Path,
    eventually: Callable[..., object],
    words: int,
) -> None:
    """In the middle of the conversation, or when hands are to be shaken with a server that says nothing."""
    peer = proxy.asks("NTLM", accounts)
    silent: list[Answering] = (
        [lambda _request: [head("200 OK"), SILENCE]] if words == 3 else [lambda _request: [SILENCE]]
    )
    proxy.answer("CONNECT", *[peer] * (words - 1), *silent)
    key = worker.start(server.url(host="localhost"), destination)
    eventually(lambda: len(proxy.requests) == words)
    worker.cancel(key)
    eventually(proxy.is_left, 4)  # before the connections of the job end anyway


def test_a_proxy_that_is_spoken_to_over_tls_cannot_be_conversed_with_and_that_is_said(
    accounts: Path,
    start_worker: Callable[..., WorkerProcess],
    certificates: Certificates,
    server: FaultServer,
    destination: Path,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.issue("DNS:localhost"))
    proxy = TunnelProxy(tls=context)
    try:
        proxy.asks("NTLM", accounts, others=['Basic realm="x"'])
        worker = start_worker(ca=certificates.ca)
        through(worker, f"https://localhost:{proxy.port}")
        give(worker, credentials("ntlm", target="proxy"), credentials("basic", target="proxy", user="other"))
        story = worker.fetch(server.url(host="localhost"), destination)
    finally:
        proxy.close()
    assert story.hresult == PROXY_UNAUTHORIZED
    told(story, "asks NTLM, Basic", "more than one step", "not used: Basic as other")
    assert proxy.words() == ["", "NTLM 1"]
    assert server.requests == []
