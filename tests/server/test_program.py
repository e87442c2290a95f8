"""The program `bits-server`: what it refuses to start with, what it says, users, signals, metrics."""

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.server.conftest import StartServer
from tests.server.hostile_clients.client import Client
from tests.server.process import PROGRAM, free_port

from openbits.core.packets import PacketType
from openbits.server import users

C, P = PacketType.CREATE_SESSION, PacketType.PING
Eventually = Callable[..., object]

AS_ROOT = ("--as-root",) if os.geteuid() == 0 else ()


def run(*arguments: str, stdin: str = "", user: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments], input=stdin, capture_output=True, text=True, timeout=30, check=False, user=user
    )


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """The process, what it says at the start, and its port."""
    with subprocess.Popen([*PROGRAM, *AS_ROOT, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "unfinished uploads" in line:
                break
        found = re.search(r"at https?://\S+:(\d+)/", said)
        assert found is not None, said
        try:
            yield process, said, int(found[1])
        finally:
            process.terminate()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a").write_text("hello")
    return folder


def download(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        body: bytes = answer.read()
        return body


def test_root_and_listen_are_enough_to_serve_files_and_nobody_may_upload(root: Path) -> None:
    with running("--root", str(root), "--listen", "127.0.0.1:0") as (process, said, port):
        assert download(port, "/a") == b"hello"
        assert Client(port).ask(C, "/b").status == 501
        assert f"serving {root} at http://127.0.0.1:{port}/" in said
        assert "no uploads; downloads by everybody" in said
        assert f"unfinished uploads: {root.parent}/.files.bits-spool" in said
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_anonymous_uploads_have_to_be_asked_for(root: Path) -> None:
    with running("--root", str(root), "--listen", "127.0.0.1:0", "--allow-anonymous-uploads") as (_, said, port):
        assert "uploads by everybody" in said
        Client(port, host="localhost").upload("/b", b"0123456789")
    assert (root / "b").read_bytes() == b"0123456789"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("[::1]:1", 200),
        ("LocalHost", 200),
        ("page.example.org", 403),
        ("localhost.evil.org", 403),
    ],
)
def test_anonymous_uploads_are_not_for_web_pages_that_lead_their_visitors_here(
    root: Path, host: str, status: int
) -> None:
    """DNS rebinding: a browser then says BITS_POST for any page, and reads the answers."""
    with running("--root", str(root), "--listen", "127.0.0.1:0", "--allow-anonymous-uploads") as (_, _said, port):
        client = Client(port, host=host)
        assert client.ask(C, "/b").status == status
        assert client.ask("", "/a", method="GET", length=None).status == status


def test_anonymous_uploads_are_for_this_machine_only(root: Path) -> None:
    done = run(*AS_ROOT, "--root", str(root), "--listen", "0.0.0.0:0", "--allow-anonymous-uploads")
    assert done.returncode == 2
    assert "would let everybody who reaches 0.0.0.0:0 fill the disk; listen on 127.0.0.1" in done.stderr


def test_users_may_upload(root: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "users")
    assert run("user", "add", "alice", "--users", file, "--group", "ops", stdin="right\n").returncode == 0
    options = ("--root", str(root), "--listen", "127.0.0.1:0", "--users", file, "--plain-passwords")
    with running(*options) as (_, said, port):
        assert "uploads by all users; downloads by everybody" in said
        assert "passwords are accepted without TLS" in said
        Client(port, "alice", "right").upload("/b", b"0123456789")
        assert Client(port, "alice", "wrong").ask(C, "/c").status == 401
        assert run("user", "add", "bob", "--users", file, stdin="also\n").returncode == 0  # at once
        assert Client(port, "bob", "also").ask(C, "/c").status == 200
        assert run("user", "remove", "alice", "--users", file).returncode == 0
        assert Client(port, "alice", "right").ask(C, "/c").status == 401
    assert (root / "b").read_bytes() == b"0123456789"


def test_settings_with_which_nobody_can_log_on_are_told(root: Path, tmp_path: Path) -> None:
    file, config = tmp_path / "users", tmp_path / "server.toml"
    assert run("user", "add", "alice", "--users", str(file), stdin="right\n").returncode == 0
    server = f'[server]\nroot = "{root}"\nlisten = "127.0.0.1:0"\n'
    uploads = '[directories."/"]\nBITSUploadEnabled = true\n'
    for more, words in (
        ("", "nobody can log on: name a file of users"),
        (f'users_file = "{file}"\n', "nobody can log on without TLS"),
        (f'users_file = "{file}"\ntrusted_proxies = ["127.0.0.1"]\n', ""),
    ):
        config.write_text(server + more + uploads)
        with running("--config", str(config)) as (_, said, _port):
            assert words in said
            assert ("nobody" in said) == bool(words)


def test_user_verbs(tmp_path: Path) -> None:
    file = str(tmp_path / "users")
    fingerprint = ":".join(["AB"] * 32)
    assert run("user", "add", "node", "--users", file, "--no-password", "--certificate", fingerprint).returncode == 0
    assert run("user", "add", "alice", "--users", file, "--group", "b", "--group", "a", stdin="x\n").returncode == 0
    assert run("user", "list", "--users", file).stdout == "node\nalice a b\n"
    assert users.read(Path(file))[0].certificates == {"ab" * 32}
    for arguments, stdin, words in [
        (("add", "carol"), "\n", "cannot set an empty password for carol; --no-password"),
        (("add", "a:b"), "x\n", "cannot add 'a:b'"),
        (("add", "dave", "--certificate", "short"), "x\n", "SHA-256"),
        (("remove", "eve"), "", "cannot remove eve"),
    ]:
        done = run("user", *arguments, "--users", file, stdin=stdin)
        assert done.returncode == 2
        assert words in done.stderr
    assert run("user", "list", "--users", str(tmp_path / "nothing")).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to serve: name a folder with --root DIR, or the settings with --config FILE"),
        (("--root", "{tmp}/missing"), "cannot serve {tmp}/missing: it is no folder; make it, or name another root"),
        (("--root", "{tmp}", "--listen", "nonsense"), "--listen nonsense: must be HOST:PORT"),
        (("--root", "{tmp}", "--listen", "192.0.2.1:0"), "cannot listen on 192.0.2.1:0"),
        (
            ("--root", "{tmp}", "--users", "{tmp}-missing"),
            "cannot read {tmp}-missing: No such file or directory; `bits-server user add` makes one",
        ),
        (("--root", "{tmp}", "--users", "{tmp}/users"), "users_file: {tmp}/users would be served"),
        (("--config", "{tmp}/missing"), "cannot read {tmp}/missing: No such file or directory; name a file"),
        (("--config", "{tmp}/x", "--allow-anonymous-uploads"), "is for a server without --config"),
    ],
)
def test_what_it_cannot_start_with_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run(*AS_ROOT, *(word.format(tmp=tmp_path) for word in arguments))
    assert done.returncode == 2
    assert words.format(tmp=tmp_path) in done.stderr
    assert done.stderr.startswith("bits-server: ")
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_is_told(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(*AS_ROOT, "--root", str(root), "--listen", where)
    assert (done.returncode, done.stderr) == (
        2,
        f"bits-server: cannot listen on {where} (server.listen): Address already in use; choose another address\n",
    )


@pytest.mark.root
def test_it_does_not_run_as_root_by_itself(root: Path) -> None:
    done = run("--root", str(root))
    assert done.returncode == 2
    assert "it should not run as root" in done.stderr
    assert "--as-root" in done.stderr


@pytest.mark.root
def test_it_needs_no_privilege(open_tmp_path: Path) -> None:
    """As an account that owns the folder and its parent."""
    account = pwd.getpwnam("nobody")
    folder = open_tmp_path / "files"
    folder.mkdir()
    for path in (open_tmp_path, folder):
        os.chown(path, account.pw_uid, account.pw_gid)
    port = free_port()
    command = [*PROGRAM, "--root", str(folder), "--listen", f"127.0.0.1:{port}", "--allow-anonymous-uploads"]
    source = str(Path(__file__).parents[2] / "src")
    readable = subprocess.run(["setpriv", "--reuid=nobody", "--clear-groups", "test", "-r", source], check=False)
    if readable.returncode:
        pytest.skip("needs sources that nobody can read")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, user="nobody", group=account.pw_gid) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "unfinished uploads" in line:
                break
        Client(port, host="localhost").upload("/b", b"0123456789")
        process.terminate()
    assert (folder / "b").read_bytes() == b"0123456789"
    assert (folder / "b").stat().st_uid == account.pw_uid


def test_a_missing_extra_is_told_in_one_line(root: Path) -> None:
    """The modules that the extra brings cannot be found."""
    hidden = (
        "import importlib.util as u, sys; real = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'uvicorn' else real(name, *rest)\n"
        "from openbits.server.program import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden, "--root", str(root)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (
        done.stderr == "bits-server: not installed: uvicorn; install OpenBITS with its extra: pip install '.[server]'\n"
    )
    assert done.returncode == 2


TABLES = '[directories."/inbox/"]\nBITSUploadEnabled = true\nallow_anonymous = true\nquota_bytes = 1000\n'


def test_sighup_reads_the_settings_again_and_disabling_ends_sessions(
    start_server: StartServer, eventually: Eventually
) -> None:
    """§11: disabling cleans the directory's sessions."""
    server = start_server(TABLES)
    client = Client(server.port)
    session_id = client.create("/inbox/a")
    text = server.config.read_text()
    server.config.write_text(text.replace("BITSUploadEnabled = true", "BITSUploadEnabled = false"))
    os.kill(server.pid, signal.SIGHUP)
    eventually(lambda: "settings_reloaded" in server.log())
    assert client.ask(C, "/inbox/a").status == 501
    server.config.write_text(text)
    os.kill(server.pid, signal.SIGHUP)
    eventually(lambda: server.log().count("settings_reloaded") == 2)
    assert client.cancel("/inbox/a", session_id).refusal == (500, 0x8020001F)
    assert client.ask(C, "/inbox/a").status == 200


def test_a_mistake_at_sighup_changes_nothing(start_server: StartServer, eventually: Eventually) -> None:
    server = start_server(TABLES)
    server.config.write_text(server.config.read_text() + "BITSUploadsEnabled = true\n")
    os.kill(server.pid, signal.SIGHUP)
    eventually(lambda: "settings_refused" in server.log())
    assert "unknown BITSUploadsEnabled" in server.log()
    assert Client(server.port).ask(C, "/inbox/a").status == 200


def test_systemd_is_told_when_connections_are_accepted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with running("--root", str(root), "--listen", "127.0.0.1:0") as (_, _, port):
            assert notices.recv(100) == b"READY=1"
            assert download(port, "/a") == b"hello"


def test_metrics_have_a_listener_of_their_own(start_server: StartServer) -> None:
    port = free_port()
    server = start_server(TABLES, server=f'metrics = "127.0.0.1:{port}"')
    client = Client(server.port)
    client.create("/inbox/a")
    client.ask("Made-Up-Type", "/inbox/a")
    text = download(port, "/metrics").decode()
    assert 'openbits_server_requests_total{status="200",type="Create-Session"} 1.0' in text
    assert "openbits_server_sessions 1.0" in text
    assert "Made-Up" not in text
    assert client.say(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").status == 404  # type: ignore[union-attr]


def test_the_spool_on_another_file_system_is_told(tmp_path: Path) -> None:
    other = Path("/dev/shm")  # noqa: S108 -- the one other file system that every machine has
    if other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm on a file system of its own")
    root = tmp_path / "root"
    root.mkdir()
    config = tmp_path / "a.toml"
    spool = other / f"openbits-test-{os.getpid()}"
    config.write_text(f'[server]\nroot = "{root}"\nspool = "{spool}"\nlisten = "127.0.0.1:0"\n')
    try:
        done = run(*AS_ROOT, "--config", str(config))
    finally:
        if spool.exists():
            subprocess.run(["rm", "-r", str(spool)], check=True)
    assert done.returncode == 2
    assert str(spool) in done.stderr
    assert done.stderr.count("\n") == 1
