"""Server applications that are notified of uploads.

`Application` is a real one, a process of its own: a small web server that answers as the file `how.json` of its folder
says and writes down what it was asked (§9). `RawApplication` answers with bytes, whatever they are. Run as a program
this file is the process: `applications.py FOLDER PORT`, or a path in the place of the port.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import os
import shutil
import socket
import socketserver
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One notification as the application has seen it; field names in lower case."""

    method: str
    target: str
    version: str
    fields: dict[str, str]
    length: int
    sha256: str
    """Of the body."""


class Application:
    """A running application. `address`: `127.0.0.1` or, with `tls` (certificate, key), `localhost`, or a socket."""

    def __init__(
        self,
        folder: Path,
        *,
        tls: tuple[Path, Path] | None = None,
        has_socket: bool = False,
        account: str | None = None,
    ) -> None:
        from tests.real.processes import Daemon, free_port  # noqa: PLC0415  # the program itself does without

        folder.mkdir()
        if account is not None:
            shutil.chown(folder, account, account)
        self._folder = folder
        self._tls = tls is not None
        self._socket = folder / "socket" if has_socket else None
        self._port = 0 if has_socket else free_port()
        self.answer()
        place = str(self._socket or self._port)
        command = [sys.executable, "-W", "error", __file__, str(folder), place, *map(str, tls or ())]
        self._daemon = Daemon(command, [] if has_socket else [self._port], folder / "log", account=account)
        deadline = time.monotonic() + START_SECONDS
        while self._socket is not None and not self._socket.exists():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.01)

    def url(self, path: str) -> str:
        """For the setting BITSServerNotificationURL."""
        if self._socket is not None:
            return f"unix:{self._socket}:{path}"
        return f"https://localhost:{self._port}{path}" if self._tls else f"http://127.0.0.1:{self._port}{path}"

    def answer(self, status: int = 200, **how: Any) -> None:
        """How it answers from now on.

        `fields`: of the head; `body`, or `body_bytes` of zeros; `is_chunked`; `reply`: what it writes into the response
        file, and `copies`: where it copies the request file to, if it is told of files; `waits`: it does so until
        `release`; `hangs`: "head" or "body", where it goes silent; `is_early`: it reads no body.
        """
        if isinstance(how.get("body"), bytes):
            how["body"] = base64.b64encode(how["body"]).decode()
        new = self._folder / "how.new"
        new.write_text(json.dumps({"status": status, **how}))
        new.replace(self._folder / "how.json")

    def asked(self) -> list[Asked]:
        """All notifications so far, in the order of their ends."""
        log = self._folder / "asked"
        return [Asked(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []

    def release(self) -> None:
        """Who waits goes on."""
        (self._folder / "released").touch()

    def only(self) -> Asked:
        """The one and only notification."""
        (asked,) = self.asked()
        return asked

    def forget(self) -> None:
        """As if it were new."""
        for name in ("asked", "released"):
            (self._folder / name).unlink(missing_ok=True)
        self.answer()

    def close(self) -> None:
        """End it."""
        self._daemon.close()


@dataclass
class RawApplication:
    """Reads a head and sends these bytes, then closes; `is_silent`: keeps the connection open."""

    answer: bytes
    is_silent: bool = False
    asked: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/app"
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for one in (self._listener, *self._open):
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            head = b""
            while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                head += data
            self.asked.append(head)
            with contextlib.suppress(ConnectionError):  # it has heard enough
                connection.sendall(self.answer)
            if self.is_silent:
                self._open.append(connection)
            else:
                connection.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request of the program."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def do_POST(self) -> None:
        how = json.loads((self.folder / "how.json").read_text())
        digest, length = hashlib.sha256(), 0
        missing = 0 if how.get("is_early") else int(self.headers["Content-Length"])
        while missing and (data := self.rfile.read(min(missing, 1 << 20))):
            digest.update(data)
            length += len(data)
            missing -= len(data)
        self._write_down(length, digest.hexdigest())
        while how.get("waits") and not (self.folder / "released").exists():
            time.sleep(0.01)
        if "copies" in how:
            shutil.copyfile(self.headers["BITS-Request-DataFile-Name"], how["copies"])
        if "reply" in how and "BITS-Response-DataFile-Name" in self.headers:
            Path(self.headers["BITS-Response-DataFile-Name"]).write_text(how["reply"])
        if how.get("hangs") == "head":
            self._hang()
        self._answer(how)
        if how.get("is_early"):
            self._hang()
        self.close_connection = True

    def address_string(self) -> str:
        return "somebody"  # of a Unix socket there is no address

    def _answer(self, how: dict[str, Any]) -> None:
        body = base64.b64decode(how.get("body", ""))
        length = how.get("body_bytes", len(body))
        self.send_response(how["status"])
        for name, value in how.get("fields", []):
            self.send_header(name, value)
        is_chunked = how.get("is_chunked", False)
        self.send_header(*(("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", str(length))))
        self.end_headers()
        if how.get("hangs") == "body":
            self.wfile.write(body[:1])
            self._hang()
        for piece in [bytes(1 << 20)] * (length >> 20) if "body_bytes" in how else [body]:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _hang(self) -> None:
        """Say nothing, read nothing, to the end of the process."""
        threading.Event().wait()

    def _write_down(self, length: int, sha256: str) -> None:
        asked = {
            "method": self.command,
            "target": self.path,
            "version": self.request_version,
            "fields": {name.lower(): value for name, value in self.headers.items()},
            "length": length,
            "sha256": sha256,
        }
        descriptor = os.open(self.folder / "asked", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(asked).encode() + b"\n")
        finally:
            os.close(descriptor)


class _OnSocket(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class _OnPort(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


def _main(folder: str, place: str, *tls: str) -> None:
    _Handler.folder = Path(folder)
    server = _OnPort(("127.0.0.1", int(place)), _Handler) if place.isdigit() else _OnSocket(place, _Handler)
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    _main(*sys.argv[1:])
