"""Which service a client talks to, and starting one (design.md §1)."""

import contextlib
import json
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.api.fakeservice import FakeService

from openbits.api import locate
from openbits.api.connection import Connection, ConnectionLostError, UnreachableError
from openbits.api.locate import Place
from openbits.core.enums import Level
from openbits.core.errors import BitsError

HOME = {"HOME": "/home/alice"}
MACHINE_ID = Path("/etc/machine-id").read_text().strip() if Path("/etc/machine-id").exists() else os.uname().nodename


@pytest.fixture
def machine(tmp_path: Path) -> str:
    """Stands for /run/openbits; exists."""
    folder = tmp_path / "run"
    folder.mkdir()
    return str(folder)


def where(environ: dict[str, str], euid: int, machine_directory: str) -> Place:
    return locate.locate(environ, euid, machine_directory)._replace(why="")


def test_a_place_says_why_it_is_this_one(machine: str) -> None:
    found = [
        locate.locate({**HOME, "OPENBITS_SOCKET": "/x/y.sock"}, 1000, machine),
        locate.locate(HOME, 0, machine),
        locate.locate(HOME, 1000, machine),
        locate.locate(HOME, 1000, "/nowhere"),
    ]
    assert [place.why for place in found] == [
        "OPENBITS_SOCKET names it",
        "the machine's service, because you are root",
        f"the machine's service, because {machine} exists",
        "your own service, because /nowhere does not exist",
    ]


def test_the_override_wins_over_an_installed_service(machine: str) -> None:
    environ = {**HOME, "OPENBITS_SOCKET": "/x/y.sock", "OPENBITS_STATE_DIR": "/x/state"}
    assert where(environ, 1000, machine) == Place("/x/y.sock", "/x/state", may_start=True)


def test_an_installed_service_is_used_and_an_ordinary_user_may_not_start_it(machine: str) -> None:
    assert where(HOME, 1000, machine) == Place(f"{machine}/bitsd.sock", "/var/lib/openbits", may_start=False)


def test_root_uses_the_machines_paths_whether_they_exist_or_not(machine: str) -> None:
    assert where(HOME, 0, machine) == Place(f"{machine}/bitsd.sock", "/var/lib/openbits", may_start=True)
    assert where(HOME, 0, "/nowhere") == Place("/nowhere/bitsd.sock", "/var/lib/openbits", may_start=True)


def test_without_an_installation_a_user_has_a_service_of_his_own_in_the_state_directory() -> None:
    own = f"/home/alice/.local/state/openbits/{MACHINE_ID}"
    assert where(HOME, 1000, "/nowhere") == Place(f"{own}/bitsd.sock", own, may_start=True)
    own = f"/s/openbits/{MACHINE_ID}"
    assert locate.locate({**HOME, "XDG_STATE_HOME": "/s"}, 1000, "/nowhere").state_directory == own
    assert where({**HOME, "OPENBITS_STATE_DIR": "/d"}, 1000, "/nowhere") == Place("/d/bitsd.sock", "/d", True)


def test_a_relative_xdg_value_is_ignored_and_a_relative_override_refused() -> None:
    ignored = locate.locate({**HOME, "XDG_STATE_HOME": "s"}, 1000, "/nowhere")
    assert ignored.state_directory.startswith("/home/alice/")
    for name in ("OPENBITS_SOCKET", "OPENBITS_STATE_DIR"):
        with pytest.raises(BitsError, match=f"{name}=bitsd.sock.*absolute") as caught:
            locate.locate({**HOME, name: "bitsd.sock"}, 1000, "/nowhere")
        assert caught.value.hresult == 0x80070057


def test_an_installed_service_that_does_not_answer_is_an_error_that_says_why(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "MACHINE_DIRECTORY", machine)
    monkeypatch.setattr(locate, "_start", lambda _: pytest.fail("started another service"))
    with pytest.raises(UnreachableError, match=r"no service runs.*which root starts.*OPENBITS_SOCKET") as caught:
        locate.connect(place=locate.locate(HOME, 1000, machine))
    assert caught.value.hresult == 0x800706BA


# -- starting one -------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "bitsd.sock"), str(tmp_path / "state"), may_start=True)


@pytest.fixture
def spawner(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """`spawner(order)`: what starting the service does from now on (see fakespawner)."""
    program = tmp_path / "python-fake"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fakespawner.py")} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))

    yield lambda order: monkeypatch.setenv("FAKE_SPAWNER", order)

    pid = Path(place.state_directory, "pid")
    if pid.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)


def starts(place: Place) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(place.state_directory, "starts").read_text().splitlines()]


def test_nobody_listens_so_the_service_is_started_with_its_places_and_configuration(
    place: Place, spawner: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBITS_CONFIG", "/etc/other")
    spawner("serve")
    connection, info = locate.connect(Level.IDENTIFY, place)
    connection.close()
    assert info["mode"] == "user"
    command = ["-I", "-m", "openbits.identity.spawner", "--state-dir", place.state_directory, "--socket", place.socket]
    assert starts(place) == [{"argv": [*command, "--config-dir", "/etc/other"]}]


@pytest.mark.parametrize(
    ("environ", "uid", "expected"),
    [
        ({}, 0, "/etc/openbits"),
        ({}, 1000, "/home/alice/.config/openbits"),
        ({"XDG_CONFIG_HOME": "/c"}, 1000, "/c/openbits"),
        ({"XDG_CONFIG_HOME": "c"}, 1000, "/home/alice/.config/openbits"),
        ({"XDG_CONFIG_HOME": "/c", "OPENBITS_CONFIG": "/d"}, 1000, "/d"),
        ({"OPENBITS_CONFIG": "/d"}, 0, "/d"),
    ],
)
def test_settings_are_those_of_who_starts_the_service(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], uid: int, expected: str
) -> None:
    monkeypatch.setattr(os, "environ", {**HOME, **environ})
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert locate._config_directory() == expected


def test_a_started_service_is_nobodys_child_in_a_session_of_its_own_and_logs_to_a_private_file(
    place: Place, spawner: Callable[[str], None]
) -> None:
    spawner("serve")
    locate.connect(place=place)[0].close()
    process = Path("/proc", Path(place.state_directory, "pid").read_text())
    parent, _, session = process.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1:4]
    assert int(parent) != os.getpid()
    assert int(session) != os.getsid(0)
    assert process.joinpath("cwd").readlink() == Path("/")
    log = Path(place.state_directory, "bitsd.log")
    assert [process.joinpath("fd", str(number)).readlink() for number in (0, 2)] == [Path("/dev/null"), log]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.attack(30)
def test_a_log_that_is_a_link_is_not_followed(place: Place, spawner: Callable[[str], None], tmp_path: Path) -> None:
    Path(place.state_directory).mkdir(0o755)
    Path(place.state_directory, "bitsd.log").symlink_to(tmp_path / "target")
    spawner("serve")
    with pytest.raises(UnreachableError, match=r"cannot write .*bitsd\.log"):
        locate.connect(place=place)
    assert not (tmp_path / "target").exists()


@pytest.mark.attack(30)
def test_in_a_state_directory_that_others_may_write_no_log_is_made(
    place: Place, spawner: Callable[[str], None]
) -> None:
    Path(place.state_directory).mkdir()
    Path(place.state_directory).chmod(0o777)
    spawner("cannot start: others may write there")
    with pytest.raises(UnreachableError, match="others may write there"):
        locate.connect(place=place)
    assert not Path(place.state_directory, "bitsd.log").exists()


def test_the_reason_is_the_last_one_of_this_start(place: Place, spawner: Callable[[str], None]) -> None:
    Path(place.state_directory).mkdir(0o700)
    Path(place.state_directory, "bitsd.log").write_text("spawner: cannot start: an old reason\n")
    spawner("manager: ERROR the cause\nspawner: cannot start: the new reason\nzygote: last words\n")
    with pytest.raises(UnreachableError, match="the new reason; remove the cause"):
        locate.connect(place=place)


@pytest.mark.attack(30)
def test_a_stale_socket_does_no_harm(place: Place, spawner: Callable[[str], None]) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(place.socket)
    spawner("serve")
    locate.connect(place=place)[0].close()


def test_a_running_service_is_not_started_again(place: Place, spawner: Callable[[str], None]) -> None:
    fake = FakeService(Path(place.socket))
    spawner("serve")
    locate.connect(place=place)[0].close()
    fake.close()
    assert not Path(place.state_directory).exists()


def test_the_reason_of_a_failed_start_reaches_the_user(place: Place, spawner: Callable[[str], None]) -> None:
    spawner("cannot start: the disk is on fire")
    with pytest.raises(UnreachableError, match="the disk is on fire") as caught:
        locate.connect(place=place)
    assert caught.value.hresult == 0x800706BA
    assert place.state_directory in str(caught.value)
    assert len(starts(place)) == 1


def test_clients_that_start_at_once_all_end_up_connected_to_the_one_service(
    place: Place, spawner: Callable[[str], None]
) -> None:
    spawner("slow")
    connections: list[Connection] = []
    threads = [threading.Thread(target=lambda: connections.append(locate.connect(place=place)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(connections) == 3
    for connection in connections:
        connection.close()


def test_a_service_that_ends_at_this_moment_is_looked_for_again(place: Place, spawner: Callable[[str], None]) -> None:
    """It had accepted the connection into its backlog, then closed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place.socket)
    listener.listen(1)

    def end() -> None:
        sock, _ = listener.accept()
        listener.close()
        sock.close()

    ending = threading.Thread(target=end)
    ending.start()
    spawner("serve")
    locate.connect(place=place)[0].close()
    ending.join(10)


def test_a_service_that_keeps_hanging_up_is_an_error_in_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "WINNER_SECONDS", 0.2)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place.socket)
    listener.listen(8)

    def hang_up() -> None:
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(ConnectionLostError):
        locate.connect(place=place)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


@pytest.mark.parametrize("executable", ["", None, "/usr/sbin/nginx"])
def test_a_program_that_embeds_python_starts_the_interpreter_of_its_prefix(
    executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(sys.exec_prefix, "bin")
    monkeypatch.setattr(sys, "executable", executable)
    names = (f"python{sys.version_info.major}.{sys.version_info.minor}", "python3")
    assert locate._interpreter() in {str(folder / name) for name in names}


def test_without_any_interpreter_the_error_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(sys, "exec_prefix", "/nowhere")
    with pytest.raises(UnreachableError, match="no Python interpreter"):
        locate.connect(place=place)


def test_a_program_that_ignores_its_children_gets_the_service_too(place: Place, spawner: Callable[[str], None]) -> None:
    """With SIGCHLD ignored the kernel collects the spawner; its exit code is nobody's."""
    spawner("serve")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        locate.connect(place=place)[0].close()
    finally:
        signal.signal(signal.SIGCHLD, before)
