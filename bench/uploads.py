"""One large upload: `bits put` to `bits-server` beside `curl -T` to nginx (WebDAV PUT), plain and TLS.

Sender and receiver count together: CPU is that of both, since each program has a server of its own. `bits` promises
that the file is on the disk of the server when it ends; `curl, synced` has it brought there afterwards.
"""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import measure, peers
from bench.measure import Cost, FailedError
from bench.place import Place

START_SECONDS: Final = 20

SETTINGS: Final = """
[server]
root = "{root}"
spool = "{spool}"
listen = "127.0.0.1:{port}"
as_root = {as_root}
log_level = "warning"
{tls}[directories."/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1000000000000
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running `bits-server`: where it is reached, its folder, its process."""

    url: str
    root: Path
    pid: int


def programs() -> frozenset[str]:
    """Who can upload here."""
    return frozenset({"curl", "curl, synced", peers.OURS})


def put(place: Place, size_bytes: int, program: str, *, tls: bool) -> Cost:
    """Upload the file once; what came is looked at and removed."""
    source = place.nginx.root / "upload" / "0000"
    folder = place.folder / "received"
    folder.mkdir()
    try:
        if program == peers.OURS:
            with _running(place, folder, tls=tls) as server:
                before = measure.Service(lambda: {"spawner": server.pid}).cpu_seconds()
                cost = measure.run([peers.BITS, "put", source, f"{server.url}/0000"], place.service)
                used = measure.Service(lambda: {"spawner": server.pid}).cpu_seconds() - before
                return _checked(replace(cost, cpu_seconds=cost.cpu_seconds + used), server.root / "0000", size_bytes)
        return _curl(place, source, size_bytes, tls=tls, is_synced=program != "curl")
    finally:
        shutil.rmtree(folder)


def _curl(place: Place, source: Path, size_bytes: int, *, tls: bool, is_synced: bool) -> Cost:
    target = place.nginx.root / "dav" / "0000"
    target.parent.mkdir(exist_ok=True)
    command: list[str | Path] = [
        *("curl", "-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert", place.certificates.ca),
        *("--upload-file", source, place.nginx.url("/dav/0000", tls=tls)),
    ]
    if is_synced:
        command = ["sh", "-c", '"$@" && sync -d "$0"', target, *command]
    nginx = measure.Service(lambda: {"spawner": place.nginx.pid})
    before = nginx.cpu_seconds()
    try:
        cost = measure.run(command)
        cost = replace(cost, peak_bytes={}, cpu_seconds=cost.cpu_seconds + nginx.cpu_seconds() - before)
        return _checked(cost, target, size_bytes)
    finally:
        target.unlink(missing_ok=True)


def _checked(cost: Cost, received: Path, size_bytes: int) -> Cost:
    if not received.is_file() or received.stat().st_size != size_bytes:
        raise FailedError(f"{received.name} was not received")
    return cost


@contextlib.contextmanager
def _running(place: Place, folder: Path, *, tls: bool) -> Iterator[Server]:
    root = folder / "root"
    root.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    secured = ""
    if tls:
        certificate, key = _certificate(place)
        secured = f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    settings = folder / "bits-server.toml"
    settings.write_text(
        SETTINGS.format(
            root=root, spool=folder / "spool", port=port, tls=secured, as_root=str(os.geteuid() == 0).lower()
        )
    )
    command: list[str | Path] = [Path(sys.executable).with_name("bits-server"), "--config", settings]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait_for(process, port, log)
        yield Server(url=f"{'https' if tls else 'http'}://localhost:{port}", root=root, pid=process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@functools.cache
def _certificate(place: Place) -> tuple[Path, Path]:
    return place.certificates.issue("DNS:localhost", "IP:127.0.0.1")


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise FailedError(f"bits-server does not start: {log.read_text()[-300:]}") from None
            time.sleep(0.02)
        else:
            return
