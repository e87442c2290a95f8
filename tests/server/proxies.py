"""Real proxies before or beside a `bits-server`, configured as docs/server-proxies.md says.

What is taken from the page is changed where a test needs other ports, names and files, and nowhere else: a replacement
whose text is not on the page fails.
"""

import contextlib
import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.real.nginx import Certificates
from tests.real.processes import Daemon, free_port, program
from tests.server.applications import Application
from tests.server.process import ServerProcess

from openbits.core.packets import METHOD, PROTOCOL, Header, PacketType

Fields = Mapping[str, str]
NO_FIELDS: Fields = MappingProxyType({})

PAGE = Path(__file__).parents[2] / "docs" / "server-proxies.md"

_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
{user}
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""

_SQUID = """
{lines}
pinger_enable off
pid_filename none
coredump_dir {folder}
cache_log {folder}/cache.log
access_log stdio:{folder}/access.log
visible_hostname squid.test
shutdown_lifetime 0 seconds
"""


def documented(language: str, number: int, replacements: Mapping[str, str]) -> str:
    """The `number`th example of the page in a language, with other values of some settings."""
    text = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[number]
    for old, new in replacements.items():
        assert old in text, f"{old} is not in the example"
        text = text.replace(old, new)
    return str(text)


class Nginx:
    """nginx with TLS before a server."""

    def __init__(self, folder: Path, port: int, server_port: int, certificate: tuple[Path, Path]) -> None:
        folder.mkdir()
        values = {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/ssl/files.example.net.pem": str(certificate[0]),
            "/etc/ssl/files.example.net.key": str(certificate[1]),
            "127.0.0.1:8008": f"127.0.0.1:{server_port}",
        }
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _NGINX.format(
                folder=folder,
                server=documented("nginx", 0, values),
                user="user root;" if os.geteuid() == 0 else "",
            )
        )
        command: list[str | Path] = [program("nginx"), "-p", folder, "-c", configuration]
        self._daemon = Daemon(command, [port], folder / "start.log")

    def close(self) -> None:
        self._daemon.close()


class Squid:
    """squid with these lines; `folder` is one that its own account may write to."""

    def __init__(self, folder: Path, port: int, lines: str) -> None:
        folder.mkdir()
        folder.chmod(0o777)
        self.folder = folder
        self.port = port
        configuration = folder / "squid.conf"
        configuration.write_text(_SQUID.format(folder=folder, lines=lines))
        command: list[str | Path] = [program("squid"), "-N", "-n", f"test{port}", "-f", configuration]
        self._daemon = Daemon(command, [port], folder / "start.log")

    def requests(self) -> list[tuple[str, str]]:
        """Method and target of each, in order."""
        lines = [line.split() for line in (self.folder / "access.log").read_text().splitlines()]
        return [(line[5], line[6]) for line in lines if not line[6].startswith("error:")]

    def close(self) -> None:
        self._daemon.close()


def reverse_squid(folder: Path, port: int, server_port: int, certificate: tuple[Path, Path]) -> Squid:
    """squid with TLS before a server."""
    shutil.copy(certificate[0], folder / "squid.pem")
    shutil.copy(certificate[1], folder / "squid.key")
    (folder / "squid.key").chmod(0o644)  # of a test: squid has an account of its own
    values = {
        "https_port 443": f"https_port 127.0.0.1:{port}",
        "/etc/ssl/files.example.net.pem": str(folder / "squid.pem"),
        "/etc/ssl/files.example.net.key": str(folder / "squid.key"),
        "parent 8008": f"parent {server_port}",
    }
    return Squid(folder / "squid", port, documented("squid", 0, values))


def forward_squid(folder: Path) -> Squid:
    """squid between a client and all servers."""
    port = free_port()
    return Squid(folder / "squid", port, documented("squid", 1, {"http_port 3128": f"http_port 127.0.0.1:{port}"}))


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; names of fields in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


class Client:
    """Sends packets and GETs over one connection, as they are given."""

    def __init__(self, port: int, *, trusted: Path | None = None, prefix: str = "", authorization: str = "") -> None:
        """`trusted`: authorities of a server with TLS; `prefix`: before every path, of absolute targets."""
        if trusted is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        else:
            context = ssl.create_default_context(cafile=str(trusted))
            self._connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
        self._prefix = prefix
        self._fields = {"Authorization": authorization} if authorization else {}

    def ask(self, method: str, path: str, body: bytes = b"", fields: Fields = NO_FIELDS) -> Answer:
        """One request."""
        self._begin(method, path, body, fields)
        return self.answer()

    def _begin(self, method: str, path: str, body: bytes, fields: Fields) -> None:
        self._connection.request(method, self._prefix + path, body, {**self._fields, **fields})

    def answer(self) -> Answer:
        """To what was begun."""
        response = self._connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())

    def packet(
        self, kind: PacketType, path: str, session: str = "", body: bytes = b"", fields: Fields = NO_FIELDS
    ) -> Answer:
        """One packet."""
        self._begin_packet(kind, path, session, body, fields)
        return self.answer()

    def _begin_packet(self, kind: PacketType, path: str, session: str, body: bytes, fields: Fields) -> None:
        known = {Header.PACKET_TYPE: kind.value, "Content-Length": str(len(body))}
        if session:
            known[Header.SESSION_ID] = session
        self._begin(METHOD, path, body, {**known, **fields})

    def create(self, path: str) -> str:
        """A new session."""
        answer = self.packet(PacketType.CREATE_SESSION, path, fields={Header.SUPPORTED_PROTOCOLS: PROTOCOL})
        assert answer.status == 200, answer
        return answer.fields["bits-session-id"]

    def fragment(self, path: str, session: str, span: tuple[int, int, int], body: bytes) -> Answer:
        """First and last byte, and of how many."""
        self.begin_fragment(path, session, span, body)
        return self.answer()

    def begin_fragment(self, path: str, session: str, span: tuple[int, int, int], body: bytes) -> None:
        """The same; `answer` gives the answer."""
        named = "bytes {}-{}/{}".format(*span)
        self._begin_packet(PacketType.FRAGMENT, path, session, body, {Header.CONTENT_RANGE: named})

    def close(self) -> None:
        self._connection.close()


DIRECTORIES = """
[directories."/inbox/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1099511627776
[directories."/private/"]
BITSUploadEnabled = true
[directories."/answered/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1099511627776
BITSServerNotificationType = 2
BITSServerNotificationURL = "{application}"
"""

USER, PASSWORD = "anna", "geheim"


def a_server(folder: Path, application: Application, settings: str = "") -> ServerProcess:
    """A running server with these directories and the user; `settings`: further lines of its table `server`."""
    users = folder / "users"
    command = [sys.executable, "-m", "openbits.server.program", "user", "add", USER, "--users", str(users)]
    subprocess.run(command, input=f"{PASSWORD}\n", text=True, check=True)
    directories = DIRECTORIES.format(application=application.url("/hook"))
    server = ServerProcess(folder / "server", directories, server=f'users_file = "{users}"\n{settings}')
    for name in ("private", "answered"):
        (server.root / name).mkdir()
    server.start()
    return server


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server behind a proxy with TLS."""

    port: int
    trusted: Path
    server: ServerProcess
    clients: list[Client]

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def connect(self, *, authorization: str = "") -> Client:
        """A client of the proxy."""
        self.clients.append(Client(self.port, trusted=self.trusted, authorization=authorization))
        return self.clients[-1]


@contextlib.contextmanager
def site_behind(
    kind: str,
    folder: Path,
    certificates: Certificates,
    application: Application,
    public_url: str = "https://localhost:{}",
) -> Iterator[Site]:
    """A site behind `nginx` or `squid`; `folder` is one that other accounts can pass. `public_url` gets the port."""
    port = free_port()
    settings = f'trusted_proxies = ["127.0.0.1"]\npublic_url = "{public_url.format(port)}"'
    with contextlib.ExitStack() as ends:
        server = ends.enter_context(contextlib.closing(a_server(folder, application, settings)))
        certificate = certificates.issue("DNS:localhost")
        if kind == "nginx":
            ends.enter_context(contextlib.closing(Nginx(folder / "nginx", port, server.port, certificate)))
        else:
            ends.enter_context(contextlib.closing(reverse_squid(folder, port, server.port, certificate)))
        clients: list[Client] = []
        yield Site(port=port, trusted=certificates.ca, server=server, clients=clients)
        for client in clients:
            client.close()
