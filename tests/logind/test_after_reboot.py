"""The second boot: what the first one left goes on by itself; then upgrade and removal."""

import http.server
import threading
from pathlib import Path

import pytest
from tests.logind.conftest import Machine, run, unit
from tests.real.conftest import Site, _handler_of

from openbits.api.locate import MACHINE_DIRECTORY, MACHINE_STATE_DIRECTORY

pytestmark = pytest.mark.root

BODY = b"l" * 900_000
HELD_AT = 400_000
INSTALL = "/root/clone/packaging/install"


def test_a_queued_job_goes_on_after_the_reboot() -> None:
    job_id, port = Path("/var/lib/trial").read_text().split()
    assert unit("ActiveState") == "active"
    assert Path(MACHINE_DIRECTORY).stat().st_mode & 0o7777 == 0o755
    site = Site()
    site.put("/left", BODY)
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), _handler_of(site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        job = Machine().job(job_id)
        job.resume()
        job.reaches("transferred", seconds=60)
        server.shutdown()
    assert site.offsets("/left")[-1] >= HELD_AT
    assert job.complete() == 0
    target = Path("/home/traveller/left")
    assert (target.read_bytes(), target.owner()) == (BODY, "traveller")


def test_an_upgrade_keeps_the_settings_and_a_removal_the_queue() -> None:
    settings = Path("/etc/openbits/openbits.toml")
    settings.write_text("[clocks]\nconnect_seconds = 31\n")
    run("systemctl", "stop", "openbits.service")
    queue = Path(MACHINE_STATE_DIRECTORY, "queue")
    run("chown", "-R", "4711:4711", str(queue))  # as a service leaves it that ran before there was the account
    run("sh", INSTALL)
    assert {path.owner() for path in (queue, queue / "queue.db")} == {"openbits"}
    assert settings.read_text() == "[clocks]\nconnect_seconds = 31\n"
    run("systemctl", "restart", "openbits.service")
    assert Machine().pids()["spawner"] == int(unit("MainPID"))
    assert "left in place" in run("sh", "-c", f"sh {INSTALL} remove 2>&1")
    assert unit("LoadState") == "not-found"
    assert not [
        path
        for path in ("bin/bits", "bin/bitsd", "bin/bits-server", "lib/openbits")
        if Path("/usr/local", path).exists()
    ]
    assert not Path(MACHINE_DIRECTORY).exists()
    assert (queue / "queue.db").exists()
    assert settings.exists()
