"""A user's own service: no root, no installation, one uid (identity.md T-18, design.md §1).

As root the tests act as a throw-away user; as anybody else, as that one.
"""

import ctypes
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import openbits
from openbits import BitsError, Outcome, TokenFlags
from openbits.api.connection import Connection, UnreachableError

BODY = b"own" * 100_000
E_ACCESSDENIED = 0x80070005
E_HANDLE = 0x80070006
RPC_S_SERVER_UNAVAILABLE = 0x800706BA
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000

HASTY_PROGRAM = """
import sys
from openbits.identity import spawner
from openbits.service import manager
manager.IDLE_SECONDS = 0.5
sys.exit(spawner.main(sys.argv[1:]))
"""
HASTY = (sys.executable, "-I", "-c", HASTY_PROGRAM)
"""The service, with less patience."""


@dataclass(frozen=True)
class Me:
    """Whose own service it is."""

    name: str
    uid: int
    gid: int


@pytest.fixture
def me(request: pytest.FixtureRequest) -> Any:
    if os.geteuid() == 0:
        return request.getfixturevalue("throwaway_user")()
    return Me(pwd.getpwuid(os.geteuid()).pw_name, os.geteuid(), os.getegid())


@pytest.fixture
def own(me: Any, make_service: Callable[..., Any]) -> Any:
    """A running service of `me`."""
    service = make_service(uid=me.uid)
    service.start()
    return service


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def download(client: openbits.Client, url: str, target: Path, flags: int = 0) -> str:
    """A download; with flags, both identities are one's own."""
    job = client.create_job("own")
    if flags:
        with client.open_process_token() as token, token.impersonate():
            job.set_helper_token()
        job.set_helper_token_flags(TokenFlags(flags))
    job.add_file(url, target)
    job.resume()
    assert job.wait(60) is Outcome.TRANSFERRED, job.error
    assert job.complete() == 0
    return job.state.name


# -- everything works for its own uid -------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_t18_downloads_with_and_without_a_helper_token_of_its_own(
    flags: int, me: Any, own: Any, site: Any, private_folder: Callable[[Any], Path], as_user: Callable[..., Any]
) -> None:
    url, target = site.put("/data", BODY), private_folder(me) / "data.bin"

    def story() -> tuple[str, str, int]:
        with own.client() as client:
            return download(client, url, target, flags), client.info["mode"], client.info["uid"]

    assert as_user(me, story) == ("ACKNOWLEDGED", "user", me.uid)
    assert target.read_bytes() == BODY
    assert target.stat().st_uid == me.uid
    assert site.uids("/data") == {me.uid}
    assert [path.name for path in target.parent.iterdir()] == ["data.bin"]


def test_t18_every_process_is_its_own(me: Any, own: Any) -> None:
    for pid in own.pids().values():
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert fields["Uid"].split() == [str(me.uid)] * 4
        assert fields["CapEff"].strip() == "0" * 16
    assert stat.S_IMODE(own.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE((own.state / "queue").stat().st_mode) == 0o700


# -- and for nobody else --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whom", ["root", "oneself"])
def test_t18_nobody_can_be_logged_on(whom: str, me: Any, own: Any, as_user: Callable[..., Any]) -> None:
    def story() -> tuple[int, str]:
        with own.client() as client, pytest.raises(BitsError) as caught:
            client.logon_user("root" if whom == "root" else me.name, "open sesame")
        return caught.value.hresult, str(caught.value)

    code, text = as_user(me, story)
    assert code == E_ACCESSDENIED
    assert f"serves uid {me.uid} alone" in text
    assert "use the machine's" in text


@pytest.mark.root
def test_t18_a_token_of_the_machines_service_is_none_here(
    me: Any, own: Any, service: Any, as_user: Callable[..., Any]
) -> None:
    def story() -> int:
        with own.client() as client:
            job = client.create_job("own")
            with token.impersonate(), pytest.raises(BitsError) as caught:
                job.set_helper_token()
            return caught.value.hresult

    with service.client() as client, client.open_process_token() as token:
        assert as_user(me, story) == E_HANDLE


CALLS: dict[str, dict[str, Any]] = {
    "CreateJob": {"display_name": "x", "type": "download", "umask": 0o22},
    "OpenJob": {"job_id": "00000000-0000-4000-8000-000000000000"},
    "GetJob": {"handle": 1},
    "Cancel": {"handle": 1},
    "OpenProcessToken": {"level": 3},
    "LogonUser": {"user": "root", "level": 3},
}


@pytest.mark.root
@pytest.mark.parametrize("who", ["root", "another user"])
def test_t18_whoever_else_connects_is_told_whom_it_serves(
    who: str, me: Any, own: Any, root: Any, throwaway_user: Callable[..., Any], as_user: Callable[..., Any]
) -> None:
    """Even if its user opened the way to the socket; the client library does not come so far (below)."""
    own.socket.chmod(0o666)
    stranger = root if who == "root" else throwaway_user()

    def story() -> dict[str, tuple[int, str]]:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(own.socket))
        connection = Connection(sock, str(own.socket))
        answers = {}
        for method, parameters in CALLS.items():
            with pytest.raises(BitsError) as caught:
                connection.call(method, parameters)
            answers[method] = caught.value.hresult, str(caught.value)
        connection.close()
        return answers

    for code, text in as_user(stranger, story).values():
        assert code == E_ACCESSDENIED
        assert f"own service of uid {me.uid} and serves that uid alone; you are uid {stranger.uid}" in text
        assert "use the machine's service or your own" in text


# -- what the client refuses before it says anything ----------------------------------------------------------------


def refusal(path: Path) -> tuple[int, str]:
    with pytest.raises(UnreachableError) as caught:
        openbits.Client(socket=str(path))
    return caught.value.hresult, str(caught.value)


@pytest.mark.root
@pytest.mark.parametrize("who", ["root", "another user"])
def test_t18_a_client_does_not_talk_to_a_listener_that_is_neither_root_nor_itself(
    who: str, me: Any, root: Any, throwaway_user: Callable[..., Any], as_user: Callable[..., Any], open_tmp_path: Path
) -> None:
    victim = root if who == "root" else throwaway_user()
    trap = open_tmp_path / "bitsd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(trap))
        trap.chmod(0o666)
        as_user(me, listener.listen)
        code, text = as_user(victim, refusal, trap)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            assert connection.recv(100) == b""
    assert code == RPC_S_SERVER_UNAVAILABLE
    assert f"cannot reach the service at {trap}" in text
    assert f"runs as uid {me.uid}, neither root nor you (uid {victim.uid})" in text
    assert "nothing was sent; set OPENBITS_SOCKET to the socket of a service you trust" in text


@pytest.mark.root
@pytest.mark.parametrize("who", ["root", "another user"])
def test_t18_a_client_does_not_even_connect_in_a_directory_of_somebody_else(
    who: str, me: Any, root: Any, throwaway_user: Callable[..., Any], as_user: Callable[..., Any], open_tmp_path: Path
) -> None:
    """Not even to root's own socket: whoever owns the directory could exchange it between two calls."""
    victim = root if who == "root" else throwaway_user()
    folder = open_tmp_path / "theirs"
    folder.mkdir()
    trap = folder / "bitsd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(trap))
        trap.chmod(0o666)
        listener.listen()
        listener.setblocking(False)
        os.chown(folder, me.uid, me.gid)
        code, text = as_user(victim, refusal, trap)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert code == RPC_S_SERVER_UNAVAILABLE
    assert f"directory {folder} belongs to uid {me.uid}, neither root nor you (uid {victim.uid})" in text


# -- started by the first client call -------------------------------------------------------------------------------


def alone(me: Any, environ: dict[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call as `me` with this environment alone, on a machine without a service of its own: /run is empty."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        groups = os.getgrouplist(me.name, me.gid)
        assert libc.unshare(CLONE_NEWNS) == 0
        assert libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) == 0
        assert libc.mount(b"none", b"/run", b"tmpfs", ctypes.c_ulong(0), None) == 0
        os.setgroups(groups)
        os.setresgid(me.gid, me.gid, me.gid)
        os.setresuid(me.uid, me.uid, me.uid)
    elif Path("/run/openbits").exists():
        pytest.skip("this machine has a service of its own")
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", **environ})
    return function(*arguments)


def machine_id() -> str:
    return Path("/etc/machine-id").read_text(encoding="ascii").strip()


PLACES: dict[str, tuple[dict[str, str], str, str]] = {
    "HOME": ({"HOME": "{}"}, "{}/.local/state/openbits/{id}", "{}/.local/state/openbits/{id}/bitsd.sock"),
    "XDG_STATE_HOME": (
        {"HOME": "/nowhere", "XDG_STATE_HOME": "{}/states"},
        "{}/states/openbits/{id}",
        "{}/states/openbits/{id}/bitsd.sock",
    ),
    "OPENBITS_STATE_DIR": ({"HOME": "{}", "OPENBITS_STATE_DIR": "{}/jobs"}, "{}/jobs", "{}/jobs/bitsd.sock"),
    "OPENBITS_SOCKET": (
        {"HOME": "{}", "OPENBITS_SOCKET": "{}/talk/here.sock"},
        "{}/.local/state/openbits/{id}",
        "{}/talk/here.sock",
    ),
}
"""design.md §1: environment, state directory, socket; `{}` is the home directory."""


@pytest.mark.parametrize("place", PLACES)
def test_t18_the_first_call_starts_it_and_the_second_finds_it(
    place: str,
    me: Any,
    root: Any,
    site: Any,
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    home = private_folder(me)
    environ, state, at = (
        json.loads(json.dumps(value).replace("{}", str(home)).replace("{id}", machine_id())) for value in PLACES[place]
    )
    url, target = site.put("/data", BODY), home / "data.bin"
    becomes = root if os.geteuid() == 0 else me

    def first() -> tuple[str, dict[str, int]]:
        with openbits.Client() as client:
            return download(client, url, target), dict(client.info["process_ids"])

    def second() -> dict[str, int]:
        with openbits.Client() as client:
            return dict(client.info["process_ids"])

    def by_hand() -> tuple[int, str]:
        command = [sys.executable, "-I", "-m", "openbits.identity.spawner", "--state-dir", state]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stderr

    end, pids = as_user(becomes, alone, me, environ, first)
    try:
        assert end == "ACKNOWLEDGED"
        assert (target.stat().st_uid, site.uids("/data")) == (me.uid, {me.uid})
        for path, mode in ((state, 0o700), (at, 0o600)):
            status = Path(path).stat()
            assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (me.uid, mode)
        assert as_user(becomes, alone, me, environ, second)["spawner"] == pids["spawner"]
        code, text = as_user(becomes, alone, me, environ, by_hand)
        assert code == 1
        assert f"{state} is in use by bitsd (pid {pids['spawner']}, socket {at})" in text
    finally:
        os.kill(pids["spawner"], signal.SIGTERM)
    eventually(lambda: not any(is_alive(pid) for pid in pids.values()))
    assert not Path(at).exists()


def test_t18_clients_that_start_it_at_the_same_moment_find_one_service(
    me: Any,
    root: Any,
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    home = private_folder(me)
    program = "import openbits; print(openbits.Client().info['process_ids']['spawner'])"

    def race() -> set[str]:
        command = [sys.executable, "-I", "-c", program]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
        return {client.communicate(timeout=60)[0].strip() for client in clients}

    pids = as_user(root if os.geteuid() == 0 else me, alone, me, {"HOME": str(home)}, race)
    (spawner,) = map(int, pids)
    os.kill(spawner, signal.SIGTERM)
    eventually(lambda: not is_alive(spawner))


# -- ends when it is idle -------------------------------------------------------------------------------------------


def test_t18_it_ends_when_nobody_is_connected_and_the_queue_is_empty(
    me: Any,
    make_service: Callable[..., Any],
    site: Any,
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
) -> None:
    """The end of another service that has nothing to do is the clock: one that has something to do outlives it."""
    target = private_folder(me) / "data.bin"
    url = site.put("/data", BODY)

    def wait_for_an_idle_one() -> None:
        other = make_service(uid=me.uid, command=HASTY)
        other.start()
        assert other.wait() == 0
        assert not other.socket.exists()

    def create() -> str:
        with service.client() as client:
            return str(client.create_job("kept").id)

    def connected() -> None:
        with service.client() as client:
            (job,) = client.jobs()
            job.add_file(url, target)
            job.resume()
            assert job.wait(60) is Outcome.TRANSFERRED
            assert job.complete() == 0
            go.send(b"empty")
            assert go.recv(1) == b"x"

    service = make_service(uid=me.uid, command=HASTY)
    service.start()
    pids = service.pids()
    as_user(me, create)
    wait_for_an_idle_one()
    assert is_alive(pids["spawner"]), "a job in the queue keeps it"
    here, go = socket.socketpair()
    with here, go:
        client = os.fork()
        if client == 0:
            try:
                as_user(me, connected)
            finally:
                os._exit(0)
        assert here.recv(5) == b"empty"
        wait_for_an_idle_one()
        assert is_alive(pids["spawner"]), "a client keeps it"
        here.send(b"x")
        os.waitpid(client, 0)
    assert service.wait() == 0
    assert not any(is_alive(pid) for pid in pids.values())
    assert not service.socket.exists()
    assert target.read_bytes() == BODY
    service.start()  # nothing is in its way
