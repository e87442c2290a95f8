"""Requests with bodies to servers and proxies that ask who somebody is (upload-protocol.md §13, identity.md §7)."""

import base64
import hashlib
import random
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.real.nginx import Certificates
from tests.transfer.asking import Asking, Outcome, Source
from tests.transfer.authserver import PASSWORD, REALM, USER, Conversing, ask, basic
from tests.transfer.bodyserver import Act, Asked, BodyServer, take
from tests.transfer.faultserver import Request, Step, head
from tests.transfer.tunnelproxy import TunnelProxy, tunnel

from openbits.core.enums import AuthScheme, AuthTarget
from openbits.core.packets import METHOD
from openbits.core.proxies import Proxy
from openbits.transfer.auth import Authentication, Credential
from openbits.transfer.decisions import Ask, Fail
from openbits.transfer.headers import Head

MIB = 1024 * 1024
DATA = random.Random(3).randbytes(2 * MIB)  # noqa: S311  # any bytes
PING = (("BITS-Packet-Type", "Ping"),)
FRAGMENT = (("BITS-Packet-Type", "Fragment"),)
OK = head("200 OK", "Content-Length: 0")

Peer = Callable[[Request], Sequence[Step]]
Start = Callable[..., Any]


def let_in(_request: Request) -> Sequence[Step]:
    """What somebody gets who is known."""
    return [OK]


def guarded(peer: Peer, *, is_early: bool) -> Act:
    """Ask like `peer`; a body that is refused is read before that is said, or costs the connection."""

    def act(asked: Asked) -> bool:
        steps = peer(Request(asked.method, asked.target, asked.headers, asked.connection))
        is_refused = steps[0] != OK
        has_body = int(asked.headers["content-length"]) > 0
        if not (is_refused and is_early):
            asked.read()
        elif has_body:
            asked.settle()
        for step in steps:
            assert isinstance(step, bytes)
            asked.peer.sendall(step)
        return not (is_refused and is_early and has_body)

    return act


def given(scheme: AuthScheme, target: AuthTarget = AuthTarget.SERVER) -> Authentication:
    return Authentication(credentials=(Credential(target=target, scheme=scheme, user=USER, password=PASSWORD),))


@pytest.fixture
def start() -> Iterator[Start]:
    """A server that acts like this, and somebody who asks there."""
    made: list[BodyServer | Asking | TunnelProxy] = []

    def make(*acts: Act, tls: ssl.SSLContext | None = None, **options: Any) -> tuple[BodyServer, Asking]:
        server = BodyServer(*acts, tls=tls)
        asking = Asking(server.url(), **options)
        made.extend((asking, server))
        return server, asking

    yield make
    for one in made:
        one.close()


def send(asking: Asking, size_bytes: int = MIB) -> Outcome:
    """A fragment, from the start of the data on."""
    body = Source(DATA).body(0, size_bytes)
    return asking.ask(Ask(METHOD, FRAGMENT, body=body, opening=PING))


def status(outcome: Outcome) -> int:
    assert isinstance(outcome, Head), outcome
    return outcome.status


def kinds(server: BodyServer) -> list[str]:
    """The packets that came, each with a + if it said who we are."""
    fields = ("authorization", "proxy-authorization")
    return [
        asked.headers["bits-packet-type"] + ("+" if any(name in asked.headers for name in fields) else "")
        for asked in server.requests
    ]


def bodies(server: BodyServer) -> list[bytes]:
    """What was read of fragments."""
    return [bytes(asked.body) for asked in server.requests if asked.body]


@pytest.mark.parametrize("is_early", [False, True])
def test_basic_is_said_with_the_body_and_from_then_on_at_once(start: Start, *, is_early: bool) -> None:
    peer = basic()

    def known(request: Request) -> Sequence[Step]:
        steps = peer(request)
        return steps if b"401" in bytes(steps[0])[:20] else [OK]  # type: ignore[arg-type]

    server, asking = start(guarded(known, is_early=is_early), given=given(AuthScheme.BASIC))
    assert [status(send(asking)) for _ in range(2)] == [200, 200]
    assert kinds(server) == ["Fragment", "Fragment+", "Fragment+"]
    assert bodies(server)[-2:] == [DATA[:MIB]] * 2


class BodyDigest:
    """Digest that covers the body if `qop` says so, checked as in RFC 7616 §3.4."""

    def __init__(self, qop: str) -> None:
        self._qop = qop
        self.used: list[str] = []

    def __call__(self, asked: Asked) -> bool:
        body = asked.read()
        text = asked.headers.get("authorization", "")
        if not text:
            return asked.say("401 No", f'WWW-Authenticate: Digest realm="{REALM}", nonce="n", qop="{self._qop}"')
        fields = {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|[^",\s]+)', text)}

        def md5(data: str) -> str:
            return hashlib.md5(data.encode()).hexdigest()  # noqa: S324  # what the protocol has

        second = f"{asked.method}:{asked.target}"
        if fields["qop"] == "auth-int":
            second += ":" + hashlib.md5(body).hexdigest()  # noqa: S324
        middle = f"{fields['nonce']}:{fields['nc']}:{fields['cnonce']}:{fields['qop']}"
        expected = md5(f"{md5(f'{USER}:{REALM}:{PASSWORD}')}:{middle}:{md5(second)}")
        self.used.append(fields["qop"])
        return asked.say("200 OK" if fields["response"] == expected else "403 Forged")


@pytest.mark.parametrize(
    ("qop", "used"), [("auth", "auth"), ("auth-int,auth", "auth"), ("auth,auth-int", "auth"), ("auth-int", "auth-int")]
)
def test_digest_covers_the_body_only_where_it_has_to(start: Start, qop: str, used: str) -> None:
    peer = BodyDigest(qop)
    server, asking = start(peer, given=given(AuthScheme.DIGEST))
    assert [status(send(asking, size)) for size in (MIB, 1, 700_000)] == [200] * 3
    assert status(asking.ask(Ask(METHOD, PING))) == 200, "a packet without a body has the digest of nothing"
    assert set(peer.used) == {used}
    assert kinds(server) == ["Fragment", *["Fragment+"] * 3, "Ping+"]


def test_a_body_that_cannot_be_read_for_its_digest_is_told_as_any(start: Start) -> None:
    server, asking = start(BodyDigest("auth-int"), given=given(AuthScheme.DIGEST))
    source = Source(DATA)
    body = source.body(0, MIB)

    def read_once(offset: int, size: int) -> bytes:
        if len(server.requests) > 0 and size == MIB:
            raise OSError(5, "Input/output error")
        return source.read(offset, size) if not server.requests else b""

    outcome = asking.ask(Ask(METHOD, FRAGMENT, body=type(body)(read=read_once, offset=0, length=MIB), opening=PING))
    assert getattr(outcome, "is_unread", False), outcome


@pytest.mark.parametrize("is_early", [False, True])
@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate"])
def test_s13_a_conversation_is_held_with_packets_that_have_no_body(
    start: Start, accounts: Path, scheme: str, *, is_early: bool
) -> None:
    peer = Conversing(scheme, accounts, let_in=let_in)
    server, asking = start(guarded(peer, is_early=is_early), given=given(AuthScheme[scheme.upper()]))
    assert [status(send(asking)) for _ in range(3)] == [200] * 3
    assert kinds(server) == ["Fragment", "Ping", "Ping+", "Ping+", "Fragment", "Fragment", "Fragment"]
    assert [asked.connection for asked in server.requests] == [1, 2, 2, 2, 2, 2, 2]
    assert bodies(server)[-3:] == [DATA[:MIB]] * 3
    assert [asked.headers["content-length"] for asked in server.requests[1:4]] == ["0"] * 3


def test_s13_a_ping_of_who_asks_opens_the_connection_for_what_follows(start: Start, accounts: Path) -> None:
    peer = Conversing("NTLM", accounts, let_in=let_in)
    server, asking = start(guarded(peer, is_early=True), given=given(AuthScheme.NTLM))
    assert status(asking.ask(Ask(METHOD, PING))) == 200
    assert [status(send(asking)) for _ in range(2)] == [200, 200]
    assert kinds(server) == ["Ping", "Ping", "Ping+", "Ping+", "Ping", "Fragment", "Fragment"]
    assert bodies(server) == [DATA[:MIB]] * 2


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate"])
def test_s13_a_new_connection_is_opened_before_the_next_body(start: Start, accounts: Path, scheme: str) -> None:
    """The server closes the connection after each fragment."""
    peer = Conversing(scheme, accounts, let_in=let_in)
    guard = guarded(peer, is_early=True)

    def act(asked: Asked) -> bool:
        goes_on = guard(asked)
        return goes_on and asked.headers["content-length"] == "0"

    server, asking = start(act, given=given(AuthScheme[scheme.upper()]))
    assert [status(send(asking)) for _ in range(3)] == [200] * 3
    opened = ["Ping", "Ping+", "Ping+", "Fragment"]
    assert kinds(server) == ["Fragment", *opened * 3]
    assert bodies(server) == [DATA[:MIB]] * 3, "no byte of a body went out in vain, but for the first"


def test_s13_a_server_that_ends_the_connection_after_every_ack_gets_bodies_with_the_conversation(
    start: Start, accounts: Path
) -> None:
    peer = Conversing("NTLM", accounts, let_in=let_in)

    def act(asked: Asked) -> bool:
        steps = peer(Request(asked.method, asked.target, asked.headers, asked.connection))
        asked.read()
        for step in steps:
            assert isinstance(step, bytes)
            asked.peer.sendall(step)
        return steps[0] != OK

    server, asking = start(act, given=given(AuthScheme.NTLM))
    assert [status(send(asking, 1000)) for _ in range(2)] == [200, 200]
    assert kinds(server)[-3:] == ["Fragment", "Fragment+", "Fragment+"]
    assert bodies(server)[-1] == DATA[:1000]
    assert kinds(server).count("Ping") == 2, "it is opened in vain twice, and then no more"


@pytest.mark.parametrize("size_bytes", [1000, MIB + 1])
def test_s13_a_server_that_asks_about_each_request_gets_its_word_with_the_body(
    start: Start, accounts: Path, size_bytes: int
) -> None:
    """The words go out without an expectation: its refusal would cost the connection that they are said on."""
    peer = Conversing("NTLM", accounts, let_in=let_in)

    def act(asked: Asked) -> bool:
        if "authorization" not in asked.headers:
            peer.users.pop(asked.connection, None)
        steps = peer(Request(asked.method, asked.target, asked.headers, asked.connection))
        is_refused = steps[0] != OK
        is_waiting = "expect" in asked.headers
        if is_waiting and not is_refused:
            asked.want()
        if not (is_waiting and is_refused):
            asked.read()
        for step in steps:
            assert isinstance(step, bytes)
            asked.peer.sendall(step)
        return not (is_waiting and is_refused)

    server, asking = start(act, given=given(AuthScheme.NTLM))
    assert [status(send(asking, size_bytes)) for _ in range(2)] == [200, 200]
    assert kinds(server)[-1] == "Fragment+"
    assert bodies(server)[-1] == DATA[:size_bytes]
    assert len(server.requests) < 16


def test_a_wrong_password_is_said_once_and_not_with_every_packet(start: Start, accounts: Path) -> None:
    peer = Conversing("NTLM", accounts, let_in=let_in)
    wrong = Credential(target=AuthTarget.SERVER, scheme=AuthScheme.NTLM, user=USER, password="wrong")
    _, asking = start(guarded(peer, is_early=True), given=Authentication(credentials=(wrong,)))
    outcome = send(asking)
    assert isinstance(outcome, Fail)
    assert f"sent: NTLM as {USER}, refused" in outcome.detail
    assert peer.refusals == 1


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate"])
def test_s13_a_proxy_that_relays_is_opened_like_a_server(accounts: Path, scheme: str) -> None:
    peer = Conversing(scheme, accounts, let_in=let_in, is_proxy=True)
    proxy = BodyServer(guarded(peer, is_early=True))
    known = given(AuthScheme[scheme.upper()], AuthTarget.PROXY)
    through = Proxy(host="127.0.0.1", port=proxy.port)
    asking = Asking("http://files.example/inbox/file", given=known, proxy=through)
    try:
        assert [status(send(asking)) for _ in range(2)] == [200, 200]
    finally:
        asking.close()
        proxy.close()
    assert kinds(proxy) == ["Fragment", "Ping", "Ping+", "Ping+", "Fragment", "Fragment"]
    assert {asked.target for asked in proxy.requests} == {"http://files.example/inbox/file"}
    assert bodies(proxy) == [DATA[:MIB]] * 2


@pytest.fixture
def tunnels() -> Iterator[TunnelProxy]:
    made = TunnelProxy()
    yield made
    made.close()


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate", "Basic"])
def test_bodies_go_through_a_tunnel_that_has_to_be_asked_for(
    start: Start, accounts: Path, certificates: Certificates, tunnels: TunnelProxy, scheme: str
) -> None:
    if scheme == "Basic":
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        def answer(request: Request) -> Sequence[Step]:
            if request.headers.get("proxy-authorization") != f"Basic {pair}":
                return ask('Basic realm="x", charset="UTF-8"', status="407 Proxy Authentication Required")
            return tunnel(request)

        tunnels.answer("CONNECT", answer)
    else:
        tunnels.asks(scheme, accounts)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificates.issue("DNS:localhost"))
    server, asking = start(
        take,
        tls=tls,
        ca=certificates.ca,
        given=given(AuthScheme[scheme.upper()], AuthTarget.PROXY),
        proxy=Proxy(host="127.0.0.1", port=tunnels.port),
    )
    assert [status(send(asking)) for _ in range(2)] == [200, 200]
    assert kinds(server) == ["Fragment", "Fragment"]
    assert bodies(server) == [DATA[:MIB]] * 2
    assert all("content-length" not in request.headers for request in tunnels.requests)


def test_a_client_certificate_goes_with_a_body_as_with_anything(start: Start, certificates: Certificates) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificates.issue("DNS:localhost"))
    tls.load_verify_locations(certificates.ca)
    tls.verify_mode = ssl.CERT_REQUIRED
    pem = "".join(path.read_text() for path in certificates.issue("DNS:client", usage="clientAuth"))
    server, asking = start(take, tls=tls, ca=certificates.ca, certificate=pem)
    assert [status(send(asking)) for _ in range(2)] == [200, 200]
    assert bodies(server) == [DATA[:MIB]] * 2
