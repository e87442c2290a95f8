"""Where a comparison happens: a folder, an nginx with files in it, and a service that trusts its certificates."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import MIB, Service
from tests.real.nginx import Certificates, Nginx

import openbits


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """All that sections need. `output` is emptied between runs, `scratch` holds lists."""

    folder: Path
    certificates: Certificates
    nginx: Nginx
    service: Service
    output: Path
    scratch: Path

    def fill(self, section: str, names: tuple[str, ...], size_bytes: int) -> None:
        """Have files of random bytes in a folder of the server, and in its page cache."""
        (self.nginx.root / section).mkdir()
        for name in names:
            _fill(self.nginx.root / section / name, size_bytes)

    def empty(self) -> None:
        """Forget what was fetched, and let the disk come to rest."""
        shutil.rmtree(self.output)
        self.output.mkdir()
        os.sync()

    @contextlib.contextmanager
    def slow_server(self, bytes_per_second: int) -> Iterator[Nginx]:
        """Another one for the same files that sends no connection more than this."""
        folder = self.folder / "slow"
        folder.mkdir()
        nginx = Nginx(folder, self.certificates, root=self.nginx.root, bytes_a_second=bytes_per_second)
        try:
            yield nginx
        finally:
            nginx.close()
            shutil.rmtree(folder)


@contextlib.contextmanager
def made(parent: Path) -> Iterator[Place]:
    """A place of our own below this folder."""
    folder = Path(tempfile.mkdtemp(prefix="openbits-bench-", dir=parent))
    folder.chmod(0o755)
    try:
        certificates = Certificates(folder)
        nginx = Nginx(folder, certificates)
        try:
            for name in ("output", "scratch", "config"):
                (folder / name).mkdir()
            with _service(folder, certificates.ca) as service:
                yield Place(
                    folder=folder,
                    certificates=certificates,
                    nginx=nginx,
                    service=service,
                    output=folder / "output",
                    scratch=folder / "scratch",
                )
        finally:
            nginx.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def file_system(path: Path) -> str:
    """What kind of file system a folder is on."""
    told = subprocess.run(["stat", "--file-system", "--format=%T", path], check=True, capture_output=True, text=True)
    return told.stdout.strip()


@contextlib.contextmanager
def _service(folder: Path, ca: Path) -> Iterator[Service]:
    (folder / "config" / "bench.toml").write_text(f'[tls]\nca_file = "{ca}"\n')
    os.environ["OPENBITS_CONFIG"] = str(folder / "config")
    os.environ["OPENBITS_STATE_DIR"] = str(folder / "state")
    os.environ["OPENBITS_SOCKET"] = str(folder / "bitsd.sock")
    pid = _process_ids()["spawner"]
    pidfd = os.pidfd_open(pid)
    try:
        yield Service(_process_ids)
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        os.close(pidfd)


def _process_ids() -> dict[str, int]:
    with openbits.Client() as client:
        return dict(client.info["process_ids"])


def _fill(path: Path, size_bytes: int) -> None:
    piece = os.urandom(min(size_bytes, 16 * MIB))
    with path.open("wb") as file:
        while file.tell() < size_bytes:
            file.write(piece[: size_bytes - file.tell()])
