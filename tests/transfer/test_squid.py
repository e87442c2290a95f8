"""The worker through a real proxy: squid in front of nginx, plain and through a tunnel."""

import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.nginx import Certificates, Nginx
from tests.transfer.conftest import WorkerProcess

pytestmark = pytest.mark.real("squid", "nginx", "openssl")

BODY = random.Random(6).randbytes(3_000_000)  # noqa: S311  # no secret

CONFIGURATION = """
http_port 127.0.0.1:{port}
http_access allow all
cache deny all
pinger_enable off
pid_filename none
coredump_dir {folder}
cache_log {folder}/cache.log
access_log stdio:{folder}/access.log
visible_hostname squid.test
shutdown_lifetime 0 seconds
"""


class Squid:
    """A running squid that passes everything on; its log is in a folder that its own account may write to."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "access.log"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.name = f"127.0.0.1:{port}"
        configuration = folder / "squid.conf"
        configuration.write_text(CONFIGURATION.format(port=port, folder=folder))
        program = shutil.which("squid", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        assert program is not None, "squid is not installed"
        self._process = subprocess.Popen(
            [program, "-N", "-n", f"test{port}", "-f", configuration],  # the name of its shared memory, too
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert self._process.poll() is None, (folder / "cache.log").read_text()
                assert time.monotonic() < deadline, "squid does not listen"
                time.sleep(0.01)

    def requests(self) -> list[str]:
        """Method and target of each request, in order."""
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return [f"{line[5]} {line[6]}" for line in lines if not line[6].startswith("error:")]

    def close(self) -> None:
        """End it so that it takes its shared memory along."""
        self._process.terminate()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def squid() -> Iterator[Squid]:
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))  # squid has an account of its own
    folder.chmod(0o777)
    made = Squid(folder)
    yield made
    made.close()
    shutil.rmtree(folder)


def test_files_and_rests_of_files_come_through(
    certificates: Certificates, nginx: Nginx, squid: Squid, destination: Path
) -> None:
    (nginx.root / "through").write_bytes(BODY)
    worker = WorkerProcess(ca=certificates.ca)
    worker.proxy = {**worker.proxy, "usage": "override", "list": squid.name}
    try:
        for tls in (False, True):
            url = nginx.url("/through", tls=tls)
            told = worker.fetch(url, destination).connected
            assert destination.read_bytes() == BODY
            with destination.open("r+b") as half:
                half.truncate(1_000_000)
            known = {name: told[name] for name in ("size_bytes", "etag", "last_modified")}
            story = worker.fetch(url, destination, 1_000_000, **known)
            assert (story.outcome, story.connected["offset"]) == ("transferred", 1_000_000)
            assert destination.read_bytes() == BODY
            destination.unlink()
        refused = worker.fetch("https://127.0.0.1:1/", destination)
        assert refused.hresult == 0x801901F7  # 503: squid could not connect
    finally:
        worker.close()
    plain = nginx.url("/through")
    asked = squid.requests()
    assert asked[:2] == [f"GET {plain}"] * 2
    assert set(asked[2:]) <= {f"CONNECT localhost:{nginx.tls_port}", "CONNECT 127.0.0.1:1"}
