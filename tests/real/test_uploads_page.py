"""The five minutes of docs/uploads.md: what a reader types is run, in order, by an ordinary user."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.conftest import Service
from tests.real.processes import free_port

pytestmark = pytest.mark.root

PAGE = (Path(__file__).parents[2] / "docs" / "uploads.md").read_text()
BLOCKS = re.findall(r"(?:^    .+\n)+", PAGE.partition("## Five minutes")[2].partition("\n## ")[0], re.MULTILINE)
PASSWORD = "the-password-of-the-page"


def run(script: str, service: Service, user: User, folder: Path) -> subprocess.CompletedProcess[str]:
    """The lines of a block in a shell, on a port that nobody has; the server ends with them."""
    commands = script.replace("8008", str(free_port())) + "\nkill $!\n"
    return subprocess.run(
        ["/bin/sh", "-e", "-c", commands],
        cwd=folder,
        input=f"{PASSWORD}\n",
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OPENBITS_SOCKET": str(service.socket),
            "HOME": str(folder),
        },
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_first_block_uploads_a_file(
    service: Service, throwaway_user: Callable[..., User], private_folder: Callable[[Any], Path]
) -> None:
    user = throwaway_user()
    folder = private_folder(user)
    done = run(BLOCKS[0], service, user, folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "inbox" / "report.txt").read_text() == "hello\n"
    assert done.stdout.splitlines()[-1] == "hello"


def test_the_second_block_uploads_as_a_user_with_a_password(
    service: Service, throwaway_user: Callable[..., User], private_folder: Callable[[Any], Path]
) -> None:
    user = throwaway_user()
    folder = private_folder(user)
    (folder / "inbox").mkdir()
    (folder / "report.txt").write_text("hello\n")
    for path in (folder / "inbox", folder / "report.txt"):
        os.chown(path, user.uid, user.gid)
    script = f"PASSWORD=$(cat)\n{BLOCKS[1]}"
    for command in ("bits-server user add", "bits put"):  # a reader types it when it is asked for
        script = script.replace(command, f'echo "$PASSWORD" | {command}')
    done = run(script, service, user, folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "inbox" / "report.txt").read_text() == "hello\n"
