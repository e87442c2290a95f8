"""TLS of a real `bits-server`: versions, ALPN (H1), certificates of clients, passwords, reload."""

import base64
import hashlib
import http.client
import os
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.real.nginx import Certificates
from tests.server.conftest import StartServer
from tests.server.process import ServerProcess

from openbits.core.packets import PROTOCOL, PacketType
from openbits.server import users

C, F, P = PacketType.CREATE_SESSION, PacketType.FRAGMENT, PacketType.PING
Eventually = Callable[..., object]

DIRECTORIES = """
[directories."/inbox/"]
BITSUploadEnabled = true
[tls]
certificate = "{certificate}"
key = "{key}"
client_ca = "{ca}"
{more}
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def own(certificates: Certificates) -> tuple[Path, Path]:
    return certificates.issue("DNS:localhost", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def client_pair(certificates: Certificates) -> tuple[Path, Path]:
    """Its common name is `server`, as of all that `Certificates` issues."""
    return certificates.issue("DNS:client", usage="clientAuth")


@pytest.fixture
def start(
    start_server: StartServer, certificates: Certificates, own: tuple[Path, Path], tmp_path: Path
) -> Callable[..., ServerProcess]:
    def begin(more: str = "", *, fingerprint: str = "") -> ServerProcess:
        file = tmp_path / "users"
        users.add(file, users.Entry(name="alice", password=users.hashed("right")))
        users.add(file, users.Entry(name="robot", certificates=frozenset(filter(None, [fingerprint]))))
        tables = DIRECTORIES.format(certificate=own[0], key=own[1], ca=certificates.ca, more=more)
        return start_server(tables, server=f'users_file = "{file}"')

    return begin


def context_of(certificates: Certificates, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


def ask(
    server: ServerProcess, context: ssl.SSLContext, kind: str, *fields: tuple[str, str]
) -> http.client.HTTPResponse:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
    own = {"BITS-Packet-Type": kind, "Content-Length": "0", "BITS-Supported-Protocols": PROTOCOL}
    connection.request("BITS_POST", "/inbox/a", headers=own | dict(fields))
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def fingerprint_of(pair: tuple[Path, Path]) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair[0].read_text())).hexdigest()


def test_a_password_is_taken_over_tls(start: Callable[..., ServerProcess], certificates: Certificates) -> None:
    server = start()
    context = context_of(certificates)
    basic = "Basic " + base64.b64encode(b"alice:right").decode()
    assert ask(server, context, C, ("Authorization", basic)).status == 200
    refused = ask(server, context, C)
    assert (refused.status, (refused.headers["www-authenticate"] or "")[:5]) == (401, "Basic")


def test_a_certificate_of_the_file_is_its_user(
    start: Callable[..., ServerProcess],
    certificates: Certificates,
    client_pair: tuple[Path, Path],
    eventually: Eventually,
) -> None:
    server = start(fingerprint=fingerprint_of(client_pair))
    assert ask(server, context_of(certificates, client_pair), C).status == 200
    eventually(lambda: "user=robot" in server.log())
    other = certificates.issue("DNS:client", usage="clientAuth")
    assert ask(server, context_of(certificates, other), C).status == 401


def test_a_common_name_is_a_user_only_if_that_was_said(
    start: Callable[..., ServerProcess],
    certificates: Certificates,
    client_pair: tuple[Path, Path],
    eventually: Eventually,
) -> None:
    context = context_of(certificates, client_pair)
    assert ask(start(), context, C).status == 401
    server = start("common_names = true")
    assert ask(server, context, C).status == 200
    eventually(lambda: "user=server" in server.log())


def test_a_certificate_of_nobody_we_trust_ends_the_connection(
    start: Callable[..., ServerProcess], certificates: Certificates
) -> None:
    stranger = certificates.self_signed()
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        ask(start("common_names = true"), context_of(certificates, stranger), C)


def test_client_required_means_no_connection_without_one(
    start: Callable[..., ServerProcess], certificates: Certificates, client_pair: tuple[Path, Path]
) -> None:
    server = start("client_required = true\ncommon_names = true")
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        ask(server, context_of(certificates), P)
    assert ask(server, context_of(certificates, client_pair), P).status == 200


@pytest.mark.parametrize(
    ("offered", "agreed"), [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), ([], None)]
)
def test_h1_alpn_is_http_1_1_and_nothing_else(
    start: Callable[..., ServerProcess], certificates: Certificates, offered: list[str], agreed: str | None
) -> None:
    context = context_of(certificates)
    if offered:
        context.set_alpn_protocols(offered)
    with (
        socket.create_connection(("127.0.0.1", start().port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as layer,
    ):
        assert layer.selected_alpn_protocol() == agreed
        assert layer.version() in {"TLSv1.2", "TLSv1.3"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_tls_is_refused(start: Callable[..., ServerProcess], certificates: Certificates) -> None:
    context = context_of(certificates)
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", start().port), timeout=20) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_an_upload_over_tls_arrives_and_comes_back(
    start: Callable[..., ServerProcess], certificates: Certificates, client_pair: tuple[Path, Path]
) -> None:
    server = start("common_names = true")
    body = os.urandom(13 * 1024 * 1024)  # the largest fragment of Windows clients
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.port, context=context_of(certificates, client_pair), timeout=60
    )
    session_id = ask(server, context_of(certificates, client_pair), C).headers["bits-session-id"]
    fields = {
        "BITS-Packet-Type": F,
        "BITS-Session-Id": session_id,
        "Content-Range": f"bytes 0-{len(body) - 1}/{len(body)}",
        "Expect": "100-continue",
    }
    connection.request("BITS_POST", "/inbox/a", body=body, headers=fields)
    answer = connection.getresponse()
    answer.read()
    assert (answer.status, answer.headers["bits-received-content-range"]) == (200, str(len(body)))
    connection.request("GET", "/inbox/a")
    assert connection.getresponse().read() == body
    connection.close()


def test_a_new_certificate_is_shown_after_sighup(
    start: Callable[..., ServerProcess], certificates: Certificates, own: tuple[Path, Path], eventually: Eventually
) -> None:
    server = start()
    shown = ssl.get_server_certificate(("127.0.0.1", server.port), timeout=20)
    fresh = certificates.issue("DNS:localhost", "IP:127.0.0.1")
    text = server.config.read_text().replace(str(own[0]), str(fresh[0])).replace(str(own[1]), str(fresh[1]))
    server.config.write_text(text)
    os.kill(server.pid, signal.SIGHUP)
    eventually(lambda: "settings_reloaded" in server.log())
    assert ssl.get_server_certificate(("127.0.0.1", server.port), timeout=20) != shown
    assert ask(server, context_of(certificates), P).status == 401


def test_a_certificate_that_cannot_be_used_is_told(start: Callable[..., ServerProcess]) -> None:
    server = start()
    server.stop()
    server.config.write_text(server.config.read_text().replace("key = ", 'key = "/etc/hostname" # '))
    with pytest.raises(pytest.fail.Exception):
        server.start()
    assert "cannot use tls.certificate" in server.log()
    assert "Traceback" not in server.log()
