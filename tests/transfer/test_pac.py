"""Proxy scripts as the worker uses them: got, run, obeyed, believed for a while (jobs.md §9.7; errors.md 5.1)."""

import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.nginx import Certificates
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import SILENCE, FaultServer, Step, head, whole
from tests.transfer.forwardproxy import ForwardProxy

from openbits.transfer.scripts import MAX_BYTES, domains_above, places

BODY = random.Random(8).randbytes(30_000)  # noqa: S311  # no secret


@pytest.fixture
def worker(start_worker: Callable[..., WorkerProcess]) -> WorkerProcess:
    """One that knows no script yet."""
    return start_worker()


@pytest.fixture
def scripts() -> Iterator[FaultServer]:
    """Where the script is."""
    made = FaultServer()
    yield made
    made.close()


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


def by_script(worker: WorkerProcess, scripts: FaultServer, script: str | bytes = "") -> None:
    if script:
        scripts.answer("GET", whole(script if isinstance(script, bytes) else script.encode()))
    worker.proxy = {**worker.proxy, "usage": "script", "script_url": scripts.url("/proxy.pac")}


def returning(expression: str) -> str:
    return f"function FindProxyForURL(url, host) {{ return {expression}; }}"


def test_the_script_decides_for_each_url(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, proxy: ForwardProxy, destination: Path
) -> None:
    server.serve(BODY)
    by_script(worker, scripts, returning(f"shExpMatch(url, '*/far/*') ? 'PROXY {proxy.name}' : 'DIRECT'"))
    for path in ("/near/file", "/far/file", "/far/file?q=1"):
        assert worker.fetch(server.url(path), destination).outcome == "transferred"
    assert proxy.lines == [f"GET {server.url(path)} HTTP/1.1" for path in ("/far/file", "/far/file?q=1")]
    assert len(scripts.requests) == 1  # believed for a while
    asked = scripts.requests[0]
    assert (asked.target, "authorization" in asked.headers, "cookie" in asked.headers) == ("/proxy.pac", False, False)


def test_each_hop_of_a_redirect_asks_the_script(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, proxy: ForwardProxy, destination: Path
) -> None:
    target = server.url("/elsewhere")
    redirect = head("302 Found", f"Location: {target}", "Content-Length: 0")
    server.answer("GET", lambda asked: [redirect] if asked.target == "/file" else whole(BODY))
    by_script(worker, scripts, returning(f"shExpMatch(url, '*/elsewhere') ? 'PROXY {proxy.name}' : 'DIRECT'"))
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert proxy.lines == [f"GET {target} HTTP/1.1"]


def test_of_https_the_script_sees_the_server_alone(
    worker: WorkerProcess, scripts: FaultServer, destination: Path, dead: str
) -> None:
    by_script(worker, scripts, f"function FindProxyForURL(url, host) {{ throw url + ' ' + host; }} // {dead}")
    story = worker.fetch("https://files.example:8443/signed?key=canary", destination)
    assert story.hresult == 0x80072F86
    assert "https://files.example:8443/ files.example" in story.detail
    assert "canary" not in story.detail


def test_what_an_error_of_a_script_repeats_of_a_url_has_no_query(
    worker: WorkerProcess, scripts: FaultServer, destination: Path
) -> None:
    by_script(worker, scripts, "function FindProxyForURL(url, host) { throw url; }")
    story = worker.fetch("http://files.example/signed?key=canary", destination)
    assert "http://files.example/signed?" in story.detail
    assert "canary" not in story.detail


def test_proxies_of_an_answer_are_tried_in_order(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, proxy: ForwardProxy, destination: Path, dead: str
) -> None:
    """The dead one is asked once; then it is passed over for a while."""
    server.serve(BODY)
    by_script(worker, scripts, returning(f"'PROXY {dead}; PROXY {proxy.name}; DIRECT'"))
    first = worker.fetch(server.url("/1"), destination)
    assert first.connected["note"] == "1 of the proxies could not be reached"
    second = worker.fetch(server.url("/2"), destination)
    assert second.connected["note"] == f"passed over for a while, because it could not be reached: {dead}"
    assert len(proxy.lines) == 2


def test_direct_at_the_end_is_what_the_script_allows(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, destination: Path, dead: str
) -> None:
    server.serve(BODY)
    by_script(worker, scripts, returning(f"'PROXY {dead}; DIRECT'"))
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    by_script(worker, scripts)


def test_without_it_nothing_goes_past_dead_proxies(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, destination: Path, dead: str
) -> None:
    server.serve(BODY)
    by_script(worker, scripts, returning(f"'PROXY {dead}; SOCKS5 {dead}'"))
    story = worker.fetch(server.url(), destination)
    assert (story.hresult, story.last["context"]) == (0x80072EFD, "general_transport")
    assert server.requests == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("function FindProxyForURL(", "SyntaxError"),
        ("// FindProxyForURL is not here", "no function FindProxyForURL"),
        (returning("null"), "returned no text but null"),
        (returning("''"), "names no proxy"),
        (returning("'SOCKS4 a:1'"), "names no proxy"),
        (returning("(() => { for (;;) {} })()"), "ended for the time or the memory"),
        (
            returning("Array.from({length: 40}, (_, n) => dnsResolve('n' + n + '.invalid')).join()"),
            "more than 32 names",
        ),
    ],
)
def test_a_faulty_script_is_transient_and_no_way_past_the_proxies(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, destination: Path, script: str, words: str
) -> None:
    server.serve(BODY)
    by_script(worker, scripts, script)
    story = worker.fetch(server.url(), destination)
    assert (story.hresult, story.last["context"]) == (0x80072F86, "general_transport")
    assert f"the proxy script of 127.0.0.1:{scripts.port}/proxy.pac failed" in story.detail
    assert words in story.detail
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([head("404 Not Found", "Content-Length: 0")], "404 Not Found"),
        ([head("500 Oops", "Content-Length: 0")], "500 Oops"),
        ([head("401 Unauthorized", "Content-Length: 0", 'WWW-Authenticate: Basic realm="x"')], "401 Unauthorized"),
        (whole(b"<html>not what was asked for</html>"), "no proxy script"),
        (
            [head("200 OK", f"Content-Length: {2 * MAX_BYTES}"), b"/* FindProxyForURL */" + b" " * MAX_BYTES, SILENCE],
            f"more than {MAX_BYTES} bytes",
        ),
        ([head("302 Found", "Location: http://elsewhere.example/", "Content-Length: 0")], "elsewhere.example"),
        ([head("302 Found", "Location: /again", "Content-Length: 0")], "which is not followed"),
        ([b"nonsense\r\n\r\n"], ""),
        ([head("200 OK", "Content-Length: 100"), b"FindProxyForURL"], ""),
    ],
)
def test_a_script_that_cannot_be_got_is_transient_and_no_way_past_the_proxies(
    worker: WorkerProcess,
    server: FaultServer,
    scripts: FaultServer,
    destination: Path,
    answer: list[Step],
    words: str,
) -> None:
    server.serve(BODY)
    scripts.answer("GET", answer)
    by_script(worker, scripts)
    story = worker.fetch(server.url(), destination)
    assert (story.hresult, story.last["context"]) == (0x80072F87, "general_transport")
    assert "the proxy script cannot be got" in story.detail
    assert words in story.detail
    assert server.requests == []
    assert all("authorization" not in asked.headers for asked in scripts.requests)


def test_a_script_that_does_not_come_is_given_up(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, destination: Path
) -> None:
    scripts.answer("GET", [SILENCE])
    by_script(worker, scripts)
    key = worker.start(server.url(), destination)
    assert worker.wait_for(key, "phase")["text"] == f"choosing a proxy for 127.0.0.1:{server.port}"
    story = worker.story(key)
    assert story.hresult == 0x80072F87
    assert "no script within 10 s" in story.detail


def test_a_redirect_on_the_same_server_leads_to_the_script(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, destination: Path
) -> None:
    server.serve(BODY)
    script = whole(returning("'DIRECT'").encode())
    moved = [head("301 Moved", "Location: /moved", "Content-Length: 0")]
    scripts.answer("GET", lambda asked: script if asked.target == "/moved" else moved)
    by_script(worker, scripts)
    assert worker.fetch(server.url(), destination).outcome == "transferred"


def test_a_redirect_to_another_server_is_not_followed(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, destination: Path
) -> None:
    """Another port is another server, also where a script is."""
    server.answer("GET", whole(returning("'DIRECT'").encode()))
    scripts.answer("GET", [head("302 Found", f"Location: {server.url('/p.pac')}", "Content-Length: 0")])
    by_script(worker, scripts)
    story = worker.fetch(server.url(), destination)
    assert story.hresult == 0x80072F87
    assert "which is not followed" in story.detail
    assert server.requests == []


def test_a_script_in_the_letters_of_its_country_is_read(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, destination: Path
) -> None:
    server.serve(BODY)
    by_script(worker, scripts, b"\xef\xbb\xbf// utf-8\n" + returning("'DIRECT'").encode())
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    other = {**worker.proxy, "script_url": scripts.url("/latin.pac")}
    scripts.answer("GET", whole("// für\n".encode("latin-1") + returning("'DIRECT'").encode()))
    worker.proxy = other
    assert worker.fetch(server.url(), destination).outcome == "transferred"


@pytest.mark.real("openssl")
def test_a_script_may_be_at_an_https_url_and_is_verified(
    certificates: Certificates,
    start_worker: Callable[..., WorkerProcess],
    start_tls_server: Callable[..., FaultServer],
    server: FaultServer,
    destination: Path,
) -> None:
    server.serve(BODY)
    scripts = start_tls_server(certificates.issue("DNS:localhost"))
    scripts.answer("GET", whole(returning("'DIRECT'").encode()))
    for ca, code in ((certificates.ca, None), (certificates.issue("DNS:other")[0], 0x80072F87)):
        worker = start_worker(ca=ca)
        worker.proxy = {**worker.proxy, "usage": "script", "script_url": scripts.url("/p", host="localhost")}
        story = worker.fetch(server.url(), destination)
        assert (story.hresult if code else story.outcome) == (code or "transferred")


def test_names_are_looked_up_for_the_script(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, proxy: ForwardProxy, destination: Path
) -> None:
    server.serve(BODY)
    script = returning(
        f"dnsResolve('localhost') === '127.0.0.1' && !isResolvable('no-such-host.invalid') ? 'PROXY {proxy.name}' : ''"
    )
    by_script(worker, scripts, script)
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert len(proxy.lines) == 1


def test_a_transfer_that_is_cancelled_meanwhile_leaves_nothing(
    worker: WorkerProcess, server: FaultServer, scripts: FaultServer, destination: Path
) -> None:
    """And the script is there for the next one."""
    server.serve(BODY)
    by_script(
        worker, scripts, returning("(() => { const to = Date.now() + 300; while (Date.now() < to) {} })() || 'DIRECT'")
    )
    for _ in range(20):
        worker.cancel(worker.start(server.url("/cancelled"), destination))
    assert worker.fetch(server.url("/file"), destination).outcome == "transferred"
    assert {asked.target for asked in server.requests} == {"/file"}


# WPAD


@pytest.mark.parametrize(
    ("domain", "above"),
    [
        ("example.org", ["example.org"]),
        ("corp.example.org", ["corp.example.org", "example.org"]),
        ("a.b.Example.COM.", ["a.b.example.com", "b.example.com", "example.com"]),
        ("corp.example.co.uk", ["corp.example.co.uk", "example.co.uk"]),
        ("example.co.uk", ["example.co.uk"]),
        ("example.de", ["example.de"]),
        ("a.example.de", ["a.example.de"]),
        ("org", []),
        ("", []),
        ("a..b.example", []),
        ("1.168.192", []),
        ("evil/../x.example", []),
    ],
)
def test_only_domains_of_one_organisation_are_asked(domain: str, above: list[str]) -> None:
    """Never a top-level domain, and below a country nothing that may be everybody's (co.uk)."""
    assert domains_above(domain) == above


def test_the_places_of_a_network_script() -> None:
    resolver = "# search no.example\nnameserver 192.0.2.1\nsearch x.example.org example.org b.test.example ; options\n"
    assert places(resolver) == [
        "http://wpad/wpad.dat",
        "http://wpad.x.example.org/wpad.dat",
        "http://wpad.example.org/wpad.dat",
        "http://wpad.b.test.example/wpad.dat",
        "http://wpad.test.example/wpad.dat",
    ]
    assert places("domain corp.example.net\n")[1:] == [
        "http://wpad.corp.example.net/wpad.dat",
        "http://wpad.example.net/wpad.dat",
    ]
    assert places("") == ["http://wpad/wpad.dat"]
    assert len(places("search " + " ".join(f"a.b.c.d{n}.example" for n in range(100)))) == 16
