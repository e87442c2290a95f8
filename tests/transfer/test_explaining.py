"""What a worker tells about the proxy of a URL: asked once, without credentials, nothing transferred."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.socks import Socks
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import FaultServer, whole
from tests.transfer.forwardproxy import ForwardProxy

from openbits.channel import Message

CHALLENGES = ("Proxy-Authenticate: Negotiate", 'Proxy-Authenticate: Basic realm="x", Digest realm="y", nonce="1"')


@pytest.fixture
def refusing() -> Iterator[ForwardProxy]:
    made = ForwardProxy("407 Proxy Authentication Required", *CHALLENGES)
    yield made
    made.close()


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    made = ForwardProxy()
    yield made
    made.close()


def explained(worker: WorkerProcess, url: str, usage: str, **settings: str) -> Message:
    settings = {"list": "", "bypass": "", "no_proxy": "", "script_url": "", **settings}
    worker.send({"op": "explain", "transfer": "e", "url": url, "proxy": {"usage": usage, **settings}})
    while True:
        message = worker.next_news()
        if message["event"] == "explained":
            return message


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_schemes_that_a_proxy_offers_are_told(
    worker: WorkerProcess, server: FaultServer, refusing: ForwardProxy, scheme: str
) -> None:
    told = explained(worker, f"{scheme}://127.0.0.1:{server.port}/x?key=1", "override", list=f"{refusing.name} other:1")
    assert told["choice"] == [refusing.name, "other:1"]
    assert told["asked"] == refusing.name
    assert told["answer"] == "HTTP/1.1 407 Proxy Authentication Required"
    assert told["schemes"] == ["negotiate", "basic", "digest"]
    assert told["problem"] is None
    assert len(refusing.passed) == 1
    assert "authorization" not in refusing.passed[0].head
    assert server.requests == []


def test_a_proxy_that_lets_everybody_through_says_so(
    worker: WorkerProcess, server: FaultServer, proxy: ForwardProxy
) -> None:
    server.serve(b"body")
    told = explained(worker, server.url("/x"), "override", list=proxy.name)
    assert (told["answer"], told["schemes"], told["problem"]) == ("HTTP/1.1 200 OK", [], None)
    assert [request.method for request in server.requests] == ["HEAD"]


def test_of_https_the_tunnel_is_the_answer_whoever_is_at_its_end(worker: WorkerProcess, proxy: ForwardProxy) -> None:
    """Nobody there speaks TLS; that is not the proxy's fault, and nobody asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.01)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        worker.send({"op": "explain", "transfer": "e", "url": url, "proxy": settings(proxy.name)})
        listener.settimeout(20)
        connection, _ = listener.accept()
        connection.recv(1)
        connection.close()
        told = worker.next_news()
    assert (told["answer"], told["problem"]) == ("HTTP/1.1 200 Connection established", None)


def settings(proxy_list: str) -> dict[str, str]:
    return {"usage": "override", "list": proxy_list, "bypass": "", "no_proxy": "", "script_url": ""}


@pytest.mark.parametrize(
    ("usage", "given", "why"),
    [
        ("no-proxy", {}, "no proxy is set"),
        ("override", {"list": "https=p:1"}, "the list has no proxy for http"),
        ("override", {"list": "p:1", "bypass": "*.example"}, "h.example is an exception (*.example)"),
        ("override", {"list": "p:1", "no_proxy": "example"}, "h.example is an exception (example)"),
    ],
)
def test_why_there_is_none_is_told_and_nobody_is_asked(
    worker: WorkerProcess, usage: str, given: dict[str, str], why: str
) -> None:
    told = explained(worker, "http://h.example/", usage, **given)
    assert (told["choice"], told["why"], told["asked"], told["problem"]) == ([None], why, None, None)


def test_a_dead_proxy_is_a_problem(worker: WorkerProcess) -> None:
    told = explained(worker, "http://h.example/", "override", list="127.0.0.1:1")
    assert told["problem"]["hresult"] == 0x80072EFD
    assert told["asked"] == "127.0.0.1:1"


@pytest.mark.real("microsocks")
def test_a_socks_proxy_that_wants_a_password_is_a_problem(worker: WorkerProcess, tmp_path: Path) -> None:
    socks = Socks(tmp_path, user="me", password="secret")
    try:
        told = explained(worker, "http://127.0.0.1:1/", "override", list=f"socks5://{socks.name}")
    finally:
        socks.close()
    assert told["problem"]["hresult"] == 0x80190197


def test_a_script_is_named_as_the_reason_or_the_problem(
    start_worker: Callable[..., WorkerProcess], server: FaultServer
) -> None:
    worker = start_worker()
    server.answer("GET", whole(b"function FindProxyForURL() { return 'DIRECT'; }"))
    place = f"127.0.0.1:{server.port}"
    told = explained(worker, "http://h.example/", "script", script_url=server.url("/good.pac"))
    assert (told["choice"], told["why"]) == ([None], f"the proxy script of {place}/good.pac")
    server.answer("GET", whole(b"function FindProxyForURL() { throw 'no'; }"))
    told = explained(worker, "http://h.example/", "script", script_url=server.url("/bad.pac"))
    assert (told["choice"], told["problem"]["hresult"]) == ([], 0x80072F86)


def test_a_url_that_leads_nowhere_is_a_problem_and_the_worker_lives(worker: WorkerProcess) -> None:
    assert explained(worker, "http://", "no-proxy")["problem"]["hresult"] == 0x80072EE5
    assert explained(worker, "http://h/", "no-proxy")["problem"] is None
