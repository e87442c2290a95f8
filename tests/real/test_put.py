"""`bits put` as people type it, to a real `bits-server`: what arrives, how it ends, what it says when it cannot be."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.conftest import Service, Site
from tests.server.applications import Application
from tests.server.process import ServerProcess

pytestmark = pytest.mark.root

BITS = (sys.executable, "-I", "-m", "openbits.cli.main")
BODY = bytes(range(256)) * 4096
"""1 MiB: several fragments."""

ANYBODY = """
[directories."/inbox/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1_000_000_000
"""
DIRECTORIES = f"""{ANYBODY}
[directories."/inbox/small/"]
BITSUploadEnabled = true
BITSMaximumUploadSize = 1000
[directories."/shut/"]
BITSUploadEnabled = false
"""


@pytest.fixture
def server(open_tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(open_tmp_path / "server", DIRECTORIES)
    (made.inbox / "small").mkdir()
    (made.root / "shut").mkdir()
    made.start()
    yield made
    made.close()


class Shell:
    """An ordinary user in a folder of his own, in which is the file `a b.bin`."""

    def __init__(self, service: Service, user: User, folder: Path) -> None:
        self.folder, self._user = folder, user
        self._environ = {"PATH": os.environ["PATH"], "OPENBITS_SOCKET": str(service.socket), "HOME": str(folder)}
        (folder / "a b.bin").write_bytes(BODY)
        os.chown(folder / "a b.bin", user.uid, user.gid)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Run `bits` with these."""
        return subprocess.Popen(
            [*BITS, *arguments],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=self._user.uid,
            group=self._user.gid,
            extra_groups=[],
        )

    def bits(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def shell(service: Service, throwaway_user: Callable[..., User], private_folder: Callable[[Any], Path]) -> Shell:
    user = throwaway_user()
    return Shell(service, user, private_folder(user))


def test_the_file_is_there_when_it_ends(shell: Shell, server: ServerProcess) -> None:
    code, out, err = shell.bits("put", "a b.bin", f"{server.url}/inbox/")
    assert (code, (server.inbox / "a b.bin").read_bytes() == BODY) == (0, True), err
    assert out.startswith(f"{shell.folder}/a b.bin -> {server.url}/inbox/a%20b.bin: 1.0 MiB in ")
    assert shell.bits("list") == (0, "", "")


def test_an_empty_file_is_a_file(shell: Shell, server: ServerProcess) -> None:
    """D16."""
    (shell.folder / "empty").touch(mode=0o644)
    code, _, err = shell.bits("put", "empty", f"{server.url}/inbox/")
    assert (code, (server.inbox / "empty").stat().st_size) == (0, 0), err


def test_ctrl_c_leaves_it_to_the_service_which_goes_on(
    shell: Shell, server: ServerProcess, eventually: Callable[..., object]
) -> None:
    process = shell.start("put", "--maximum-rate", "500000", "a b.bin", f"{server.url}/inbox/")
    eventually(lambda: "transferring" in shell.bits("list")[1])
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the job goes on in the background; wait for it with: bits wait " in err
    eventually(lambda: shell.bits("list")[1] == "", 30)
    assert (server.inbox / "a b.bin").read_bytes() == BODY


def test_a_server_that_is_started_anew_costs_no_more_than_time(
    shell: Shell, server: ServerProcess, eventually: Callable[..., object]
) -> None:
    process = shell.start("put", "--maximum-rate", "500000", "a b.bin", f"{server.url}/inbox/")
    eventually(lambda: any(path.stat().st_size for path in server.spool.rglob("requestfile.bin")))
    server.kill()
    eventually(lambda: "transient_error" in shell.bits("list")[1])
    server.start()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (server.inbox / "a b.bin").read_bytes() == BODY


@pytest.fixture
def application(open_tmp_path: Path) -> Iterator[Application]:
    made = Application(open_tmp_path / "application")
    yield made
    made.close()


@pytest.fixture
def answering(open_tmp_path: Path, application: Application) -> Iterator[ServerProcess]:
    """A server behind which an application gets each file, and answers."""
    lines = f'BITSServerNotificationType = 2\nBITSServerNotificationURL = "{application.url("/ingest")}"\n'
    made = ServerProcess(open_tmp_path / "answering", f"{ANYBODY}{lines}")
    made.start()
    yield made
    made.close()


def test_what_an_application_answers_is_the_reply_file(
    shell: Shell, answering: ServerProcess, application: Application
) -> None:
    application.answer(body=b'{"rows": 7}')
    code, out, err = shell.bits("put", "--reply", "answer.json", "a b.bin", f"{answering.url}/inbox/")
    assert code == 0, err
    assert application.only().sha256 == hashlib.sha256(BODY).hexdigest()
    assert (shell.folder / "answer.json").read_text() == '{"rows": 7}'
    assert f"reply: {shell.folder}/answer.json, 11 B\n" in out


def test_an_application_that_refuses_is_named_as_who_refused(
    shell: Shell, answering: ServerProcess, application: Application
) -> None:
    """§9.3, §9.4: 422 is fatal, and of the application."""
    application.answer(422)
    code, _, err = shell.bits("put", "--reply", "answer.json", "a b.bin", f"{answering.url}/inbox/")
    assert code == 1
    assert "HTTP_STATUS_422 (0x801901A6)" in err
    assert "in the server application behind the upload" in err
    assert not (shell.folder / "answer.json").exists()


def test_a_folder_of_this_machine_takes_uploads_too(shell: Shell) -> None:
    (shell.folder / "out").mkdir(mode=0o777)
    (shell.folder / "out").chmod(0o777)
    for url in (f"{shell.folder}/out", f"file://{shell.folder}/out/"):
        code, _, err = shell.bits("put", "a b.bin", url)
        assert (code, (shell.folder / "out" / "a b.bin").read_bytes() == BODY) == (0, True), err


@pytest.mark.parametrize(
    ("path", "meaning", "next_step"),
    [
        ("/inbox/taken", "the file exists and may not be overwritten", "use another name or user"),
        ("/inbox/missing/x", "the folder does not exist there", "name another folder"),
        ("/inbox/small", "the name may be that of a folder there", "add the name of the file to the URL"),
        ("/inbox/small/x", "BG_E_TOO_LARGE (0x80200020)", "raise the limit of the server"),
        ("/shut/x", "perhaps uploads are not enabled there, or it is no upload server", "have uploads enabled"),
        ("/x", "the folder does not exist there, or uploads are not enabled for it", "or have it made or enabled"),
    ],
)
def test_what_the_server_refuses_is_said_in_words_with_what_helps(
    path: str, meaning: str, next_step: str, shell: Shell, server: ServerProcess
) -> None:
    (server.inbox / "taken").write_bytes(b"before")
    code, out, err = shell.bits("put", "a b.bin", server.url + path)
    assert (code, out) == (1, "")
    assert meaning in err
    assert next_step in err
    assert "bits resume " in err
    assert (server.inbox / "taken").read_bytes() == b"before"
    assert {one.name for one in server.inbox.iterdir()} == {"taken", "small"}


def test_a_web_server_that_knows_no_uploads_is_told_from_one_that_refuses(shell: Shell, site: Site) -> None:
    code, _, err = shell.bits("put", "a b.bin", f"{site.url}/in/")
    assert code == 1
    assert "501" in err
    assert "it is no upload server" in err
    assert "name another folder, or have uploads enabled there" in err
