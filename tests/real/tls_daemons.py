"""Real servers for what concerns TLS alone: nginx and Apache with a certificate of ours, which ask for clients' ones.

Both serve the files of `root`, log what TLS was, and end by their pid.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.real.authority import Authority, Pair
from tests.real.processes import Daemon, free_port, make_own, program

_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
worker_processes 1;
{user}
events {{ worker_connections 512; }}
http {{
    log_format tls '$status|$request_uri|$ssl_protocol|$ssl_session_reused|$ssl_client_s_dn|$ssl_client_verify';
    access_log {folder}/access.log tls;
    limit_rate {bytes_a_second};
    root {root};
    keepalive_timeout {keepalive};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.key;
        ssl_session_cache shared:sessions:1m;
        ssl_protocols {protocols};
        {clients}
    }}
}}
"""

_APACHE = """
{modules}
ServerName localhost
ServerRoot {folder}
PidFile {folder}/httpd.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error.log
LogLevel info
LogFormat "%>s|%U|%{{SSL_PROTOCOL}}x|%{{SSL_SESSION_RESUMED}}x|%{{SSL_CLIENT_S_DN}}x|%{{SSL_CLIENT_VERIFY}}x" tls
CustomLog {folder}/access.log tls
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
MinSpareThreads 5
MaxSpareThreads 25
DocumentRoot {root}
SSLCertificateFile {folder}/server.pem
SSLCertificateKeyFile {folder}/server.key
SSLCACertificateFile {folder}/clients.pem
SSLProtocol {protocols}
SSLEngine on
Listen 127.0.0.1:{port}
<Directory {root}>
    Require all granted
</Directory>
<Location /secret>
    SSLVerifyClient require
    SSLVerifyDepth 3
</Location>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request. `client`: subject of the client's certificate; `verdict`: what the server thinks of it."""

    status: int
    path: str
    version: str
    is_resumed: bool
    client: str
    verdict: str


class TlsDaemon:
    """A server of ours; folders are such that other users can pass them."""

    def __init__(self, folder: Path, name: str, pair: Pair, clients: Authority | None) -> None:
        self.folder = folder / name
        self.folder.mkdir(mode=0o755)
        self.root = self.folder / "root"
        self.root.mkdir(mode=0o755)
        self.port = free_port()
        pair.files(self.folder)
        (self.folder / "clients.pem").write_text("" if clients is None else clients.pem)

    def url(self, path: str, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}{path}"

    def served(self) -> list[Served]:
        """All requests that are answered, in the order of their ends."""
        log = self.folder / "access.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [_served(line) for line in lines]


class TlsNginx(TlsDaemon):
    """nginx. `verify`: `on`, `optional`, or `off`; without keep-alive each request has a connection of its own."""

    def __init__(
        self,
        folder: Path,
        pair: Pair,
        *,
        clients: Authority | None = None,
        verify: str = "off",
        protocols: str = "TLSv1.2 TLSv1.3",
        is_kept_alive: bool = True,
        bytes_a_second: int = 0,
    ) -> None:
        super().__init__(folder, "nginx", pair, clients)
        asked = f"ssl_verify_client {verify}; ssl_verify_depth 3; ssl_client_certificate {self.folder}/clients.pem;"
        configuration = self.folder / "nginx.conf"
        configuration.write_text(
            _NGINX.format(
                folder=self.folder,
                root=self.root,
                port=self.port,
                protocols=protocols,
                keepalive=60 if is_kept_alive else 0,
                bytes_a_second=bytes_a_second,
                clients="" if clients is None else asked,
                user="user root;" if os.geteuid() == 0 else "",
            )
        )
        command: list[str | Path] = [program("nginx"), "-p", self.folder, "-c", configuration]
        self._daemon = Daemon(command, [self.port], self.folder / "nginx.log")

    def close(self) -> None:
        self._daemon.close()


class TlsApache(TlsDaemon):
    """Apache, which asks for a client's certificate when it sees that the request is for `/secret/…`."""

    def __init__(self, folder: Path, pair: Pair, *, clients: Authority, protocols: str = "-all +TLSv1.2") -> None:
        super().__init__(folder, "apache", pair, clients)
        (self.root / "secret").mkdir(mode=0o755)
        names = ("mpm_event", "authn_core", "authz_core", "ssl")
        modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in names)
        configuration = self.folder / "httpd.conf"
        configuration.write_text(
            _APACHE.format(modules=modules, folder=self.folder, root=self.root, port=self.port, protocols=protocols)
        )
        make_own(self.folder, "www-data")
        if os.geteuid() == 0:
            shutil.chown(self.folder, "root", "www-data")
            self.folder.chmod(0o775)
        command: list[str | Path] = [program("apache2"), "-d", self.folder, "-f", configuration, "-DFOREGROUND"]
        self._daemon = Daemon(command, [self.port], folder / "apache.log", account="www-data")

    def put(self, path: str, content: bytes) -> None:
        """A file that the server can read."""
        file = self.root / path
        file.write_bytes(content)
        file.chmod(0o644)
        if os.geteuid() == 0:
            shutil.chown(file, "www-data", "www-data")

    def close(self) -> None:
        self._daemon.close()


def _served(line: str) -> Served:
    status, path, version, reused, client, verdict = line.split("|")
    return Served(
        status=int(status),
        path=path,
        version=version,
        is_resumed=reused in {"r", "Resumed"},
        client="" if client == "-" else client,
        verdict=verdict,
    )
