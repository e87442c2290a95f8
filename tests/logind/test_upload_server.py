"""bits-server as systemd runs it: its unit, its account, its sandbox, and an upload by the service of the machine."""

import os
import pwd
from pathlib import Path

import pytest
from tests.logind.conftest import run

pytestmark = pytest.mark.root

SETTINGS = Path("/etc/bits-server/bits-server.toml")
FILES = Path("/var/lib/bits-server/files")
UPLOADS = """
[directories."/in/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 100000000
"""


def test_the_installed_server_takes_an_upload_within_its_sandbox(tmp_path: Path) -> None:
    SETTINGS.write_text(SETTINGS.read_text() + UPLOADS)
    account = pwd.getpwnam("bits-server")
    folder = FILES / "in"
    source = tmp_path / "report.bin"
    source.write_bytes(os.urandom(3_000_000))
    run("systemctl", "start", "bits-server.service")  # Type=notify: returns when it accepts connections
    folder.mkdir()
    os.chown(folder, account.pw_uid, account.pw_gid)
    try:
        run("/usr/local/bin/bits", "put", str(source), "http://127.0.0.1:8008/in/report.bin")
        assert (folder / "report.bin").read_bytes() == source.read_bytes()
        assert (folder / "report.bin").stat().st_uid == account.pw_uid
        process = int(run("systemctl", "show", "--value", "--property", "MainPID", "bits-server.service"))
        status = Path(f"/proc/{process}/status").read_text()
        assert f"Uid:\t{account.pw_uid}\t" in status
        assert "Seccomp:\t2" in status
        run("systemctl", "reload", "bits-server.service")
        assert run("systemctl", "is-active", "bits-server.service") == "active"
    finally:
        run("systemctl", "stop", "bits-server.service")
