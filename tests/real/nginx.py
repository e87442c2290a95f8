"""A real nginx of our own: free loopback ports, plain and TLS, a document root, a certificate authority.

Nothing of the machine's nginx is used but the program. Ends by pid.
"""

import shutil
import socket
import subprocess
import time
from pathlib import Path

START_SECONDS = 15

CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
{user}
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    sendfile on;
    limit_rate {bytes_a_second};
    root {root};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        location /dav/ {{ dav_methods PUT; }}
    }}
    server {{
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols {tls_protocols};
        location /dav/ {{ dav_methods PUT; }}
    }}
}}
"""


class Certificates:
    """A certificate authority and the server certificates it signs; `ca` is the file to trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signed = 0
        self.ca, self._ca_key = self._self_signed("Test Authority")

    def issue(self, *names: str, days: int = 2, usage: str = "serverAuth") -> tuple[Path, Path]:
        """Certificate and key for these names (`DNS:localhost`, `IP:127.0.0.1`); negative days: expired."""
        key, request, certificate = self._paths("key", "csr", "pem")
        extensions = self._folder / f"{certificate.stem}.ext"
        extensions.write_text(f"subjectAltName={','.join(names)}\nextendedKeyUsage={usage}\n")
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=server")
        _openssl(
            *("x509", "-req", "-in", request, "-out", certificate, "-days", str(days), "-extfile", extensions),
            *("-CA", self.ca, "-CAkey", self._ca_key, "-CAcreateserial"),
        )
        return certificate, key

    def self_signed(self) -> tuple[Path, Path]:
        """Certificate and key that no authority vouches for."""
        return self._self_signed("localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")

    def _self_signed(self, name: str, *options: str) -> tuple[Path, Path]:
        key, certificate = self._paths("key", "pem")
        request = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}")
        _openssl(*request, *options, "-keyout", key, "-out", certificate)
        return certificate, key

    def _paths(self, *suffixes: str) -> tuple[Path, ...]:
        self._signed += 1
        return tuple(self._folder / f"{self._signed}.{suffix}" for suffix in suffixes)


class Nginx:
    """A running nginx that serves `root` and takes files by PUT below `/dav/`; both ports have the same files."""

    def __init__(
        self,
        folder: Path,
        certificates: Certificates,
        *,
        root: Path | None = None,
        tls_protocols: str = "TLSv1.3",
        bytes_a_second: int = 0,
    ) -> None:
        self._folder = folder
        self.root = root or folder / "root"
        self.root.mkdir(exist_ok=True)
        self.port, self.tls_port = _free_port(), _free_port()
        certificate, key = certificates.issue("DNS:localhost", "IP:127.0.0.1")
        configuration = folder / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                folder=folder,
                root=self.root,
                port=self.port,
                tls_port=self.tls_port,
                certificate=certificate,
                key=key,
                tls_protocols=tls_protocols,
                bytes_a_second=bytes_a_second,
                user="user root;" if folder.owner() == "root" else "",
            )
        )
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        assert program is not None, "nginx is not installed"
        self._process = subprocess.Popen(
            [program, "-p", folder, "-c", configuration],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    def url(self, path: str, *, tls: bool = False, host: str = "localhost") -> str:
        """URL of a file below the root: `url("/file")`."""
        return f"https://{host}:{self.tls_port}{path}" if tls else f"http://{host}:{self.port}{path}"

    def requests(self) -> list[str]:
        """Lines of the access log."""
        return (self._folder / "access.log").read_text().splitlines()

    def close(self) -> None:
        """End it; its workers end with it."""
        self._process.terminate()
        self._process.wait(START_SECONDS)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        for port in (self.port, self.tls_port):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert self._process.poll() is None, (self._folder / "error.log").read_text()
                    assert time.monotonic() < deadline, "nginx does not listen"
                    time.sleep(0.01)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
