"""A real bits-server behind nginx and squid, and through squid, as docs/server-proxies.md says."""

import base64
import hashlib
import random
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.real.nginx import Certificates
from tests.server.applications import Application
from tests.server.proxies import Client, Site, a_server, forward_squid, site_behind

from openbits.core.packets import PacketType

pytestmark = pytest.mark.real("nginx", "squid", "openssl")

MEBIBYTE = 1 << 20
WINDOWS_FRAGMENT = 13 * MEBIBYTE
"""The largest that Windows sends (H13)."""
CONTENT = random.Random(7).randbytes(WINDOWS_FRAGMENT + 1000)  # noqa: S311  # no secret
UNKNOWN = "{00000000-0000-0000-0000-000000000000}"
"""No session."""
BASIC = "Basic " + base64.b64encode(b"anna:geheim").decode()


@pytest.fixture(scope="module", params=["nginx", "squid"])
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, process: Application
) -> Iterator[Site]:
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))  # squid has an account of its own
    folder.chmod(0o755)
    with site_behind(request.param, folder, certificates, process) as made:
        yield made
    shutil.rmtree(folder)


@pytest.fixture
def site(proxied: Site, process: Application) -> Iterator[Site]:
    """Empty folders, and an application that has not been asked yet."""
    process.forget()
    yield proxied
    for path in proxied.server.root.rglob("*"):
        if path.is_file():
            path.unlink()


only_nginx = pytest.mark.parametrize("proxied", ["nginx"], indirect=True)
only_squid = pytest.mark.parametrize("proxied", ["squid"], indirect=True)


def put(client: Client, path: str, content: bytes = CONTENT) -> dict[str, str]:
    """A whole upload in fragments as large as Windows sends them; the fields of the last Ack."""
    session = client.create(path)
    fields: dict[str, str] = {}
    for first in range(0, len(content), WINDOWS_FRAGMENT):
        piece = content[first : first + WINDOWS_FRAGMENT]
        span = first, first + len(piece) - 1, len(content)
        answer = client.fragment(path, session, span, piece)
        assert (answer.status, answer.fields["bits-received-content-range"]) == (200, str(first + len(piece))), answer
        fields = answer.fields
    return fields


def test_h13_fragments_of_13_mib_come_through(site: Site) -> None:
    client = site.connect()
    assert client.packet(PacketType.PING, "/inbox/report.bin").status == 200
    fields = put(client, "/inbox/report.bin")
    assert (site.server.inbox / "report.bin").read_bytes() == CONTENT
    answer = client.packet(PacketType.CLOSE_SESSION, "/inbox/report.bin", fields["bits-session-id"])
    assert (answer.status, answer.fields["bits-packet-type"], answer.body) == (200, "Ack", b"")


def test_users_say_their_password_to_the_proxy_over_tls(site: Site) -> None:
    nobody = site.connect().packet(PacketType.PING, "/private/report.bin")
    assert (nobody.status, nobody.fields["www-authenticate"].startswith("Basic")) == (401, True)
    wrong = site.connect(authorization="Basic " + base64.b64encode(b"anna:falsch").decode())
    assert wrong.packet(PacketType.PING, "/private/report.bin").status == 401
    anna = site.connect(authorization=BASIC)
    put(anna, "/private/report.bin", b"secret")
    assert (site.server.root / "private" / "report.bin").read_bytes() == b"secret"
    assert site.connect().ask("GET", "/private/report.bin").status == 401
    assert anna.ask("GET", "/private/report.bin").body == b"secret"
    assert "user=anna" in site.server.log()
    assert "geheim" not in site.server.log()


def test_what_a_client_says_of_itself_in_the_place_of_the_proxy_does_not_count(site: Site) -> None:
    client = site.connect(authorization=BASIC)
    lies = {"X-Forwarded-Proto": "http", "X-Forwarded-For": "10.9.9.9"}
    assert client.packet(PacketType.PING, "/private/report.bin", fields=lies).status == 200
    assert "10.9.9.9" not in site.server.log()


def test_s8_3_the_reply_is_fetched_through_the_proxy(site: Site, application: Application) -> None:
    reply = random.Random(8).randbytes(3 * MEBIBYTE)  # noqa: S311  # no secret
    application.answer(body=reply, fields=[["BITS-Copy-File-To-Destination", "yes"]])
    client = site.connect()
    fields = put(client, "/answered/report.bin?tenant=42")
    session = fields["bits-session-id"]
    path = f"/answered/BITS-Sessions/Replies/{quote(session)}/responsefile.bin"
    assert fields["bits-reply-url"] == site.url + path
    asked = application.only()
    assert asked.fields["bits-original-request-url"] == f"{site.url}/answered/report.bin?tenant=42"
    assert (asked.length, asked.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert client.ask("GET", path).body == reply
    assert int(client.ask("HEAD", path).fields["content-length"]) == len(reply)
    part = client.ask("GET", path, fields={"Range": "bytes=1000000-1999999"})
    assert (part.status, part.body) == (206, reply[1_000_000:2_000_000])
    assert part.fields["content-range"] == f"bytes 1000000-1999999/{len(reply)}"
    assert client.packet(PacketType.CLOSE_SESSION, "/answered/report.bin?tenant=42", session).status == 200
    assert client.ask("GET", path).status == 404
    assert (site.server.root / "answered" / "report.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 409, 503, 599])
def test_s9_3_what_the_application_refuses_comes_through(site: Site, application: Application, status: int) -> None:
    application.answer(status, fields=[["BITS-Error-Code", "0xA0040001"]], body=b"<html>no</html>")
    client = site.connect()
    session = client.create("/answered/report.bin")
    answer = client.fragment("/answered/report.bin", session, (0, 3, 4), b"four")
    told = {name: answer.fields[name] for name in ("bits-packet-type", "bits-error-code", "bits-error-context")}
    assert (answer.status, answer.body) == (status, b"")
    assert told == {"bits-packet-type": "Ack", "bits-error-code": "0xA0040001", "bits-error-context": "0x7"}


def test_f8_fragments_out_of_step_come_back_as_such_beyond_4_gib_too(site: Site) -> None:
    client = site.connect()
    session = client.create("/inbox/large.bin")
    answer = client.fragment("/inbox/large.bin", session, (5_000_000_000, 5_000_000_003, 6_000_000_000), b"four")
    assert (answer.status, answer.fields["bits-received-content-range"]) == (416, "0")
    assert answer.fields["bits-error-code"] == "0x0"


def fragment_head(session: str, length: int, *fields: str) -> bytes:
    """Of a fragment that is a whole file."""
    lines = [
        "BITS_POST /inbox/report.bin HTTP/1.1",
        "Host: localhost",
        "BITS-Packet-Type: Fragment",
        f"BITS-Session-Id: {session}",
        f"Content-Range: bytes 0-{length - 1}/{length}",
        f"Content-Length: {length}",
        *fields,
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def test_h8_who_waits_for_100_continue_gets_it(site: Site) -> None:
    session = site.connect().create("/inbox/report.bin")
    with tls_connection(site) as connection, connection.makefile("rb") as answer:
        connection.sendall(fragment_head(session, len(CONTENT), "Expect: 100-continue", "Connection: close"))
        assert answer.readline() == b"HTTP/1.1 100 Continue\r\n"
        connection.sendall(CONTENT)
        assert b"HTTP/1.1 200" in answer.read()
    assert (site.server.inbox / "report.bin").read_bytes() == CONTENT


@only_nginx  # squid hangs up on who still sends; see the page
def test_h9_a_fragment_that_is_refused_before_its_body_gets_its_answer(site: Site) -> None:
    body = bytes(WINDOWS_FRAGMENT)
    answer = site.connect().fragment("/inbox/report.bin", UNKNOWN, (0, len(body) - 1, len(body)), body)
    assert (answer.status, answer.fields["bits-error-code"]) == (500, "0x8020001F")


@only_squid  # nginx says 100 Continue by itself
def test_h8_h9_who_waits_for_100_continue_gets_the_refusal_in_its_place(site: Site) -> None:
    with tls_connection(site) as connection, connection.makefile("rb") as answer:
        connection.sendall(fragment_head(UNKNOWN, len(CONTENT), "Expect: 100-continue", "Connection: close"))
        assert answer.readline().startswith(b"HTTP/1.1 500 ")
        assert b"bits-error-code: 0x8020001f" in answer.read().lower()


def test_f9_d15_what_came_before_the_line_was_cut_counts(site: Site, eventually: Callable[..., object]) -> None:
    client = site.connect()
    session = client.create("/inbox/report.bin")
    total = len(CONTENT)
    with tls_connection(site) as connection:
        connection.sendall(fragment_head(session, total) + CONTENT[: 8 * MEBIBYTE])

    def wanted() -> int:
        answer = client.fragment("/inbox/report.bin", session, (total - 1, total - 1, total), CONTENT[-1:])
        return int(answer.fields["bits-received-content-range"]) if answer.status == 416 else 0

    kept = eventually(wanted, 40)
    assert isinstance(kept, int)
    assert MEBIBYTE <= kept <= 8 * MEBIBYTE
    rest = client.fragment("/inbox/report.bin", session, (kept, total - 1, total), CONTENT[kept:])
    assert rest.status == 200
    assert (site.server.inbox / "report.bin").read_bytes() == CONTENT


def tls_connection(site: Site) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(site.trusted))
    plain = socket.create_connection(("127.0.0.1", site.port), timeout=30)
    return context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("public_url", ["", "https://files.example.net/prefix"])
def test_reply_urls_have_the_public_url_and_without_one_what_the_proxy_says(
    public_url: str, open_tmp_path: Path, application: Application
) -> None:
    (open_tmp_path / "certificates").mkdir()
    certificates = Certificates(open_tmp_path / "certificates")
    application.answer(body=b"the reply")
    with site_behind("nginx", open_tmp_path, certificates, application, public_url) as site:
        fields = put(site.connect(), "/answered/report.bin", b"content")
    base = public_url or site.url
    assert fields["bits-reply-url"].startswith(f"{base}/answered/BITS-Sessions/Replies/%7B")
    assert application.only().fields["bits-original-request-url"] == f"{base}/answered/report.bin"


def test_uploads_come_through_a_proxy_of_the_client(open_tmp_path: Path, application: Application) -> None:
    application.answer(body=b"the reply")
    server = a_server(open_tmp_path, application)
    squid = forward_squid(open_tmp_path)
    client = Client(squid.port, prefix=server.url)
    try:
        put(client, "/inbox/report.bin")
        fields = put(client, "/answered/report.bin")
        reply = fields["bits-reply-url"]
        assert reply.startswith(f"{server.url}/answered/BITS-Sessions/Replies/%7B")
        assert client.ask("GET", reply.removeprefix(server.url)).body == b"the reply"
    finally:
        client.close()
        squid.close()
        server.close()
    assert (server.inbox / "report.bin").read_bytes() == CONTENT
    assert squid.requests()[0] == ("BITS_POST", f"{server.url}/inbox/report.bin")
