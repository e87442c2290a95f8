"""AUTODETECT in a network that has a script: names, files and connections are real ones (jobs.md §9.7)."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import FaultServer, Request, Step, head, whole
from tests.transfer.forwardproxy import ForwardProxy

pytestmark = [pytest.mark.root, pytest.mark.real("unshare")]

BODY = random.Random(9).randbytes(20_000)  # noqa: S311  # no secret
ADDRESS = "127.77.0.1"
"""Of the loopback, and nobody else's: a script is asked for on port 80."""

IN_A_NETWORK = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'


@pytest.fixture
def wpad() -> Iterator[FaultServer]:
    made = FaultServer(host=ADDRESS, port=80)
    yield made
    made.close()


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    made = ForwardProxy()
    yield made
    made.close()


@pytest.fixture
def in_network(tmp_path: Path) -> Iterator[Callable[[str, str], WorkerProcess]]:
    """A worker in a network with these hosts and this resolv.conf; whoever has no name there is unknown at once."""
    made = list[WorkerProcess]()

    def make(hosts: str, resolver: str) -> WorkerProcess:
        files = (tmp_path / "hosts", tmp_path / "resolv.conf")
        for path, text in zip(
            files, (f"127.0.0.1 localhost\n{hosts}\n", f"nameserver {ADDRESS}\n{resolver}\n"), strict=True
        ):
            path.write_text(text)
        prefix = ("unshare", "--mount", "sh", "-c", IN_A_NETWORK, "sh", *map(str, files))
        made.append(WorkerProcess(prefix=prefix))
        made[-1].proxy = {**made[-1].proxy, "usage": "autodetect"}
        return made[-1]

    yield make
    for worker in made:
        worker.close()


def script(proxy: ForwardProxy) -> list[Step]:
    return whole(f"function FindProxyForURL() {{ return 'PROXY {proxy.name}'; }}".encode())


def asked(wpad: FaultServer) -> list[str]:
    return [f"{request.headers['host']}{request.target}" for request in wpad.requests]


def test_the_script_of_the_network_decides(
    in_network: Callable[[str, str], WorkerProcess],
    wpad: FaultServer,
    server: FaultServer,
    proxy: ForwardProxy,
    destination: Path,
) -> None:
    server.serve(BODY)
    wpad.answer("GET", script(proxy))
    worker = in_network(f"{ADDRESS} wpad", "")
    for path in ("/1", "/2"):
        assert worker.fetch(server.url(path), destination).outcome == "transferred"
    assert len(proxy.lines) == 2
    assert asked(wpad) == ["wpad/wpad.dat"]


def test_the_domains_above_are_asked_in_order_and_no_top_level_domain(
    in_network: Callable[[str, str], WorkerProcess],
    wpad: FaultServer,
    server: FaultServer,
    proxy: ForwardProxy,
    destination: Path,
) -> None:
    """Who answers without a script is passed over; wpad.org, which has one here, is never asked."""
    server.serve(BODY)
    names = ["wpad", "wpad.a.b.example.org", "wpad.b.example.org", "wpad.example.org", "wpad.org"]

    def answer(request: Request) -> list[Step]:
        host = request.headers["host"]
        if host == "wpad.a.b.example.org":
            return whole(b"<html>welcome</html>")
        return script(proxy) if host in {"wpad.example.org", "wpad.org"} else [head("404 No", "Content-Length: 0")]

    wpad.answer("GET", answer)
    worker = in_network(f"{ADDRESS} {' '.join(names)}", "search a.b.example.org")
    assert worker.fetch(server.url(), destination).outcome == "transferred"
    assert len(proxy.lines) == 1
    assert asked(wpad) == [f"{name}/wpad.dat" for name in names[:4]]


def test_a_network_without_a_script_is_direct_and_the_file_says_so(
    in_network: Callable[[str, str], WorkerProcess], wpad: FaultServer, server: FaultServer, destination: Path
) -> None:
    """0x80072F94. The one server called wpad has no script; nobody else is called so."""
    server.serve(BODY)
    wpad.answer("GET", [head("404 Not Found", "Content-Length: 0")])
    worker = in_network(f"{ADDRESS} wpad\n{ADDRESS} wpad.org", "search corp.example.org")
    story = worker.fetch(server.url(), destination)
    assert story.outcome == "transferred"
    assert story.connected["note"].startswith("no proxy script was found (wpad/wpad.dat: ")
    assert "wpad.example.org" in story.connected["note"]
    assert asked(wpad) == ["wpad/wpad.dat"]


def test_a_script_that_is_there_and_cannot_be_got_is_transient(
    in_network: Callable[[str, str], WorkerProcess], wpad: FaultServer, server: FaultServer, destination: Path
) -> None:
    server.serve(BODY)
    wpad.answer("GET", [head("503 Later", "Content-Length: 0")])
    story = in_network(f"{ADDRESS} wpad", "").fetch(server.url(), destination)
    assert story.hresult == 0x80072F87
    assert server.requests == []
