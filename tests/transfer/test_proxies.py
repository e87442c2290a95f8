"""Proxies as the worker uses them: plain requests, tunnels, dead ones, refusals (jobs.md §9.7)."""

import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.nginx import Certificates
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import FaultServer, head
from tests.transfer.forwardproxy import ForwardProxy

BODY = random.Random(5).randbytes(50_000)  # noqa: S311  # no secret


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    made = ForwardProxy()
    yield made
    made.close()


@pytest.fixture
def dead() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return f"127.0.0.1:{gone.getsockname()[1]}"


@pytest.fixture(autouse=True)
def no_proxy_is_left(worker: WorkerProcess) -> Iterator[None]:
    yield
    use(worker, "", usage="no-proxy")


def use(worker: WorkerProcess, proxy_list: str, bypass: str = "", usage: str = "override", **others: str) -> None:
    nothing = {"no_proxy": "", "script_url": ""}
    worker.proxy = {"usage": usage, "list": proxy_list, "bypass": bypass, **nothing, **others}


def test_a_plain_request_names_the_whole_url_to_the_proxy(
    worker: WorkerProcess, server: FaultServer, proxy: ForwardProxy, destination: Path
) -> None:
    server.serve(BODY)
    use(worker, proxy.name)
    story = worker.fetch(server.url("/a%7e?q=1"), destination)
    assert (story.outcome, destination.read_bytes() == BODY) == ("transferred", True)
    url = f"http://127.0.0.1:{server.port}/a%7e?q=1"
    assert proxy.lines == [f"GET {url} HTTP/1.1"]
    assert {request.headers["host"] for request in server.requests} == {f"127.0.0.1:{server.port}"}


def test_https_goes_through_a_tunnel_and_is_verified_to_its_end(
    certificates: Certificates,
    start_worker: Callable[..., WorkerProcess],
    start_tls_server: Callable[..., FaultServer],
    proxy: ForwardProxy,
    destination: Path,
) -> None:
    """The proxy's own answer to CONNECT is not taken for the server's, and the proxy sees no request."""
    server = start_tls_server(certificates.issue("DNS:localhost"))
    server.serve(BODY, 'ETag: "a"')
    trusting, strange = start_worker(ca=certificates.ca), start_worker()
    use(trusting, f"https={proxy.name}")
    story = trusting.fetch(server.url(host="localhost"), destination)
    assert (story.outcome, destination.read_bytes() == BODY) == ("transferred", True)
    assert story.connected["etag"] == '"a"'
    assert set(proxy.lines) == {f"CONNECT localhost:{server.port} HTTP/1.1"}
    assert not any("range" in passed.head or "/file" in passed.head for passed in proxy.passed)
    use(strange, f"https={proxy.name}")
    assert strange.fetch(server.url(host="localhost"), destination).hresult == 0x80072F0D


@pytest.mark.parametrize(
    ("proxy_list", "bypass", "is_used"),
    [
        ("http={}", "", True),
        ("https={}", "", False),
        ("https=127.0.0.1:1;{}", "", True),
        ("http://{}", "*.example.org", True),
        ("{}", "127.0.0.1", False),
        ("{}", "*", False),
        ("{}", "<local>", True),
    ],
)
def test_protocol_and_bypass_list_decide(
    worker: WorkerProcess,
    server: FaultServer,
    proxy: ForwardProxy,
    destination: Path,
    proxy_list: str,
    bypass: str,
    is_used: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    server.serve(BODY)
    use(worker, proxy_list.format(proxy.name), bypass)
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert len(proxy.lines) == (1 if is_used else 0)


def test_each_hop_of_a_redirect_chooses_anew(
    worker: WorkerProcess, server: FaultServer, proxy: ForwardProxy, destination: Path
) -> None:
    """localhost is bypassed, where it leads to is not."""
    target = server.url("/elsewhere")

    def answer(request: object) -> list[bytes]:
        if getattr(request, "target", "") == "/file":
            return [head("302 Found", f"Location: {target}", "Content-Length: 0")]
        body = BODY if getattr(request, "method", "") == "GET" else b""
        return [head("200 OK", f"Content-Length: {len(BODY)}"), body]

    server.answer("HEAD", answer)
    server.answer("GET", answer)
    use(worker, proxy.name, "<local>")
    assert worker.fetch(server.url(host="localhost"), destination).outcome == "transferred"
    assert proxy.lines == [f"GET {target} HTTP/1.1"]


def test_a_dead_proxy_is_passed_over_and_remembered(
    worker: WorkerProcess, server: FaultServer, proxy: ForwardProxy, destination: Path, dead: str
) -> None:
    server.serve(BODY)
    use(worker, f"{dead} no-such-host.invalid:3128 {proxy.name}")
    story = worker.fetch(server.url(), destination)
    assert story.outcome == "transferred"
    assert story.connected["note"] == "2 of the proxies could not be reached"
    assert len(proxy.lines) == 1


def test_when_all_proxies_are_dead_nothing_goes_past_them(
    worker: WorkerProcess, server: FaultServer, destination: Path, dead: str
) -> None:
    server.serve(BODY)
    use(worker, dead)
    story = worker.fetch(server.url(), destination)
    assert (story.hresult, story.last["context"]) == (0x80072EFD, "general_transport")
    assert f"through proxy {dead}" in story.detail
    assert server.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_credentials_is_named(
    worker: WorkerProcess, server: FaultServer, destination: Path, scheme: str
) -> None:
    proxy = ForwardProxy("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="x"')
    try:
        use(worker, proxy.name)
        story = worker.fetch(f"{scheme}://127.0.0.1:{server.port}/file", destination)
        assert story.hresult == 0x80190197
        assert f"through proxy {proxy.name}" in story.detail
        assert "the proxy answered" in story.detail
        assert 'Basic (realm "x")' in story.detail
        assert not any("authorization" in passed.head for passed in proxy.passed)
    finally:
        proxy.close()
    assert server.requests == []


def test_a_tunnel_that_fails_for_now_is_transient(worker: WorkerProcess, destination: Path) -> None:
    proxy = ForwardProxy("502 Bad Gateway")
    try:
        use(worker, proxy.name)
        assert worker.fetch("https://127.0.0.1:1/file", destination).hresult == 0x801901F6
    finally:
        proxy.close()


def test_no_proxy_is_direct(worker: WorkerProcess, server: FaultServer, destination: Path) -> None:
    server.serve(BODY)
    use(worker, "", usage="no-proxy")
    story = worker.fetch(server.url(), destination)
    assert (story.outcome, story.connected["note"]) == ("transferred", "")
