"""No secret reaches the second hop of a redirect, whichever it is and wherever it leads (reliability.md §2).

The first hop is let in by its own means and redirects; the second asks for everything and records what it gets. What
proves nothing goes along (OPEN-46), and within one server everything does.
"""

import base64
import contextlib
import ssl
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.real.nginx import Certificates
from tests.transfer import authserver
from tests.transfer.authserver import PASSWORD, USER, ask, file
from tests.transfer.conftest import WorkerProcess
from tests.transfer.faultserver import FaultServer, Request, Step, head
from tests.transfer.forwardproxy import ForwardProxy
from tests.transfer.test_auth_ladder import credentials

from openbits.core.enums import SecurityFlags

TOKEN = "Canary70ken"  # a test
EVERYTHING = ("Negotiate", "NTLM", 'Digest realm="x", nonce="n", qop="auth"', 'Basic realm="x"')


@dataclass(frozen=True)
class Secret:
    """What the first hop asks for, and what the job has."""

    name: str
    asking: Callable[[Path], authserver.Answering] = lambda _accounts: file
    scheme: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)


SECRETS = (
    Secret("basic", lambda _: authserver.basic(), "basic"),
    Secret("digest", lambda _: authserver.Digest(), "digest"),
    Secret("ntlm", lambda accounts: authserver.Conversing("NTLM", accounts), "ntlm"),
    Secret("negotiate", lambda accounts: authserver.Conversing("Negotiate", accounts), "negotiate"),
    Secret("bearer", headers=[("Authorization", f"Bearer {TOKEN}")]),
    Secret("cookie", headers=[("Cookie", f"session={TOKEN}")]),
    Secret("token", headers=[("PRIVATE-TOKEN", TOKEN)]),
    Secret("api key", headers=[("X-Api-Key", TOKEN)]),
    Secret("proxy header", headers=[("Proxy-Authorization", f"Basic {TOKEN}")]),
)
ONE_REQUEST = [secret for secret in SECRETS if secret.scheme not in {"ntlm", "negotiate"}]
"""What does not need a connection; the test proxy makes a new one for each request."""


class Scene:
    """Two servers of each scheme, the worker, and where the first hop leads."""

    def __init__(self, worker: WorkerProcess, servers: dict[str, list[FaultServer]]) -> None:
        self.worker = worker
        self.servers = servers
        self.location = ""
        self.asks = True
        """The second hop asks for everything."""

    def play(self, secret: Secret, accounts: Path, first: FaultServer, host: str, destination: Path) -> None:
        """The first hop lets the job in and redirects, all other requests are the second hop's."""
        asking = secret.asking(accounts)

        def answer(request: Request) -> Sequence[Step]:
            if request.target != "/one":
                return ask(*EVERYTHING) if self.asks else file(request)
            steps = asking(request)
            is_in = isinstance(steps[0], bytes) and steps[0].startswith(b"HTTP/1.1 200")
            return [head("302 Found", f"Location: {self.location}", "Content-Length: 0")] if is_in else steps

        for server in {*self.servers["http"], *self.servers["https"], first}:
            server.answer("GET", answer)
        self.worker.headers = [*secret.headers, ("X-Tenant", "t1")]
        given = [credentials(secret.scheme)] if secret.scheme else []
        self.worker.entrusted = {"credentials": [*given, credentials("basic", target="proxy")]}
        self.worker.fetch(first.url("/one", host=host), destination)

    def hops(self, path: str) -> list[Request]:
        """The requests for this path at all servers."""
        every = [*self.servers["http"], *self.servers["https"]]
        return [request for server in every for request in server.requests if request.target == path]


@pytest.fixture(scope="module")
def pair(certificates: Certificates) -> tuple[Path, Path]:
    return certificates.issue("DNS:localhost", "DNS:sub.localhost", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def worker(certificates: Certificates) -> Iterator[WorkerProcess]:
    """One for all cells, which are a job each."""
    made = WorkerProcess(ca=certificates.ca)
    yield made
    made.close()


@pytest.fixture
def scene(worker: WorkerProcess, pair: tuple[Path, Path]) -> Iterator[Scene]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    with contextlib.ExitStack() as stack:
        plain = [stack.enter_context(contextlib.closing(FaultServer())) for _ in range(2)]
        secure = [stack.enter_context(contextlib.closing(FaultServer(tls=context))) for _ in range(2)]
        worker.job = uuid.uuid4().hex
        worker.proxy = {**worker.proxy, "usage": "no-proxy"}
        worker.security_flags = SecurityFlags.REDIRECT_ALLOW_HTTPS_TO_HTTP
        yield Scene(worker, {"http": plain, "https": secure})


Cell = tuple[str, str, Callable[[Scene], str]]

CELLS: dict[str, Cell] = {
    # name: scheme and host of the first hop, where it leads
    "scheme up": ("http", "localhost", lambda scene: scene.servers["https"][0].url("/two", host="localhost")),
    "scheme down": ("https", "localhost", lambda scene: scene.servers["http"][0].url("/two", host="localhost")),
    "port": ("http", "localhost", lambda scene: scene.servers["http"][1].url("/two", host="localhost")),
    "port, secure": ("https", "localhost", lambda scene: scene.servers["https"][1].url("/two", host="localhost")),
    "host": ("http", "localhost", lambda scene: scene.servers["http"][0].url("/two", host="127.0.0.1")),
    "host, secure": ("https", "localhost", lambda scene: scene.servers["https"][0].url("/two", host="127.0.0.1")),
    "subdomain": ("http", "localhost", lambda scene: scene.servers["http"][0].url("/two", host="sub.localhost")),
    "parent": ("http", "sub.localhost", lambda scene: scene.servers["http"][0].url("/two", host="localhost")),
    "trailing dot": ("http", "localhost", lambda scene: scene.servers["http"][0].url("/two", host="localhost.")),
    "userinfo": (
        "http",
        "localhost",
        lambda scene: scene.servers["http"][1].url("/two", host=f"{USER}:{TOKEN}@localhost"),
    ),
}


def assert_clean(requests: list[Request]) -> None:
    """The second hop was reached, nothing in its requests says who we are, and what proves nothing came along."""
    assert requests
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for request in requests:
        assert request.headers.keys().isdisjoint({"authorization", "proxy-authorization", "cookie"})
        assert request.headers["x-tenant"] == "t1"
        for secret in (PASSWORD, TOKEN, USER, encoded):
            assert secret not in repr(request)


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "accounts"
    monkeypatch.setenv("NTLM_USER_FILE", str(path))
    return path


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret.name)
@pytest.mark.parametrize("cell", CELLS)
def test_no_secret_reaches_the_second_hop(
    scene: Scene,
    accounts: Path,
    destination: Path,
    cell: str,
    secret: Secret,
    asks: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    scheme, host, location = CELLS[cell]
    scene.asks, scene.location = asks, location(scene)
    scene.play(secret, accounts, scene.servers[scheme][0], host, destination)
    assert_clean(scene.hops("/two"))
    if secret.scheme:
        assert any("authorization" in request.headers for request in scene.hops("/one")), "nothing could leak"


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("secret", ONE_REQUEST, ids=lambda secret: secret.name)
@pytest.mark.parametrize("cell", ["proxy change", "proxy to no proxy"])
def test_what_a_proxy_was_given_is_for_it_alone(
    scene: Scene,
    accounts: Path,
    destination: Path,
    cell: str,
    secret: Secret,
    asks: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    scene.asks = asks
    with contextlib.closing(_asking_proxy()) as first, contextlib.closing(ForwardProxy()) as second:
        is_change = cell == "proxy change"
        usage = {"usage": "override", "list": f"http={first.name} https={second.name}"}
        scene.worker.proxy = {**scene.worker.proxy, **usage, "bypass": "" if is_change else "127.0.0.1"}
        target = scene.servers["https" if is_change else "http"][1]
        scene.location = target.url("/two", host="127.0.0.1")
        scene.play(secret, accounts, scene.servers["http"][0], "localhost", destination)
        assert_clean(scene.hops("/two"))
        assert len(second.passed) > 0 or not is_change
        for passed in second.passed:
            assert "authorization" not in passed.head
        given = [passed for passed in first.passed if "proxy-authorization" in passed.head]
        assert bool(given), "nothing could leak"


def _asking_proxy() -> ForwardProxy:
    """Basic alone lets through, ours or the job's own header."""
    made = ForwardProxy("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="x"')
    made.admitted = "Proxy-Authorization: Basic "
    return made


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret.name)
def test_within_one_server_it_goes_along(scene: Scene, accounts: Path, destination: Path, secret: Secret) -> None:
    scene.asks = False
    server = scene.servers["http"][0]
    asking = secret.asking(accounts)

    def answer(request: Request) -> Sequence[Step]:
        steps = asking(request)
        is_in = isinstance(steps[0], bytes) and steps[0].startswith(b"HTTP/1.1 200") and request.target == "/one"
        return [head("302 Found", "Location: /two", "Content-Length: 0")] if is_in else steps

    server.answer("GET", answer)
    scene.worker.headers = [*secret.headers, ("X-Tenant", "t1")]
    scene.worker.entrusted = {"credentials": [credentials(secret.scheme)] if secret.scheme else []}
    story = scene.worker.fetch(server.url("/one", host="localhost"), destination)
    assert story.outcome == "transferred"
    (two,) = scene.hops("/two")
    if secret.scheme in {"basic", "digest"}:
        assert two.headers["authorization"].lower().startswith(secret.scheme)
    for name, value in secret.headers:
        assert name == "Proxy-Authorization" or two.headers[name.lower()] == value
