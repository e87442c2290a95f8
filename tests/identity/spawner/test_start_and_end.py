"""Start and end of the service: folders, socket, lock, generations, signals (design.md §2, docs/processes.md)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openbits import channel

if TYPE_CHECKING:
    from tests.identity.spawner.conftest import Service

pytestmark = pytest.mark.root

NOT_CAPABLE_OF_MOUNTS = ("setpriv", "--bounding-set", "-sys_admin", "--")
OTHER_UID = 54321


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestStart:
    def test_makes_its_folders_and_tells_the_manager_where_it_is(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        manager = service.manager()
        assert [mode_of(service.state / name) for name in (".", "queue", "admitted")] == [0o711, 0o700, 0o700]
        assert (service.state / "admitted").stat().st_uid == 0
        assert 100 <= (service.state / "queue").stat().st_uid <= 999
        assert mode_of(service.at) == 0o666
        assert manager.configured == {
            "event": "configured",
            "mode": "machine",
            "uid": 0,
            "store_dir": str(service.state / "queue"),
            "config_dir": "/etc/openbits",
            "socket": str(service.at),
            "pids": {"spawner": service.process.pid, "zygote": manager.configured["pids"]["zygote"]},
        }

    def test_runs_the_manager_as_the_owner_of_the_queue_and_remembers_it(
        self, start_service: Callable[..., Service], status_of: Callable[[int], dict[str, list[str]]]
    ) -> None:
        service = start_service()
        uid = str((service.state / "queue").stat().st_uid) if service.manager() else ""
        status = status_of(service.managers[0].pid)
        assert (status["Uid"], status["Gid"], status["Groups"]) == ([uid] * 4, [uid] * 4, [])
        assert {*status["CapEff"], *status["CapPrm"], *status["CapBnd"], *status["CapAmb"], *status["CapInh"]} == {
            "0" * 16
        }
        assert status["Name"] == ["bits-manager"]
        service.stop()
        again = start_service(state=service.state)
        assert status_of(again.manager().pid)["Uid"] == [uid] * 4

    def test_accepts_what_mktemp_made(self, start_service: Callable[..., Service]) -> None:
        state = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
        try:
            service = start_service(state=state)
            assert service.manager().configured["store_dir"] == str(state / "queue")
            assert mode_of(state) == 0o711
        finally:
            service.stop()
            subprocess.run(["rm", "-r", str(state)], check=True)

    def test_gives_a_manager_that_cannot_pass_its_store_in_a_private_mount(
        self, start_service: Callable[..., Service], open_folder: Path
    ) -> None:
        hidden = open_folder / "hidden"
        hidden.mkdir(0o700)
        service = start_service(state=hidden / "state")
        manager = service.manager()
        assert manager.configured["store_dir"] == "/mnt"
        assert Path(f"/proc/{manager.pid}/root/mnt").samefile(hidden / "state" / "queue")
        assert not Path("/mnt").samefile(hidden / "state" / "queue")

    def test_says_what_to_do_when_private_mounts_are_refused(
        self, start_service: Callable[..., Service], open_folder: Path
    ) -> None:
        hidden = open_folder / "hidden"
        hidden.mkdir(0o700)
        service = start_service(state=hidden / "state", command=NOT_CAPABLE_OF_MOUNTS)
        assert service.process.wait(15) == 1
        assert f"{hidden / 'state' / 'queue'} cannot be mounted privately" in service.said()
        assert "chmod o+x" in service.said()

    @pytest.mark.parametrize(("owner", "mode"), [(OTHER_UID, 0o755), (0, 0o775), (0, 0o757)])
    def test_refuses_a_state_directory_that_others_control(
        self, start_service: Callable[..., Service], open_folder: Path, owner: int, mode: int
    ) -> None:
        state = open_folder / "state"
        state.mkdir()
        os.chown(state, owner, owner)
        state.chmod(mode)
        service = start_service(state=state)
        assert service.process.wait(15) == 1
        assert f"{state} belongs to uid {owner} with mode {mode:04o}, but must belong to uid 0" in service.said()
        assert "chown and chmod" in service.said()
        assert list(state.iterdir()) == []

    def test_refuses_a_socket_folder_of_somebody_else(
        self, start_service: Callable[..., Service], open_folder: Path
    ) -> None:
        os.chown(open_folder, OTHER_UID, OTHER_UID)
        service = start_service(at=open_folder / "bitsd.sock")
        assert service.process.wait(15) == 1
        assert f"{open_folder} belongs to uid {OTHER_UID}" in service.said()

    def test_a_second_service_is_told_which_one_runs(self, start_service: Callable[..., Service]) -> None:
        first = start_service()
        first.manager()
        second = start_service(state=first.state)
        assert second.process.wait(15) == 1
        assert f"{first.state} is in use by bitsd (pid {first.process.pid}, socket {first.at})" in second.said()

    def test_a_socket_on_which_another_service_listens_is_left_alone(
        self, start_service: Callable[..., Service], open_folder: Path
    ) -> None:
        first = start_service()
        first.manager()
        second = start_service(state=open_folder / "state", at=first.at)
        assert second.process.wait(15) == 1
        assert f"another service listens on {first.at}" in second.said()
        first.connect().close()

    def test_a_stale_socket_is_replaced(self, start_service: Callable[..., Service]) -> None:
        first = start_service()
        first.manager()
        first.process.kill()
        first.process.wait()
        assert first.at.exists()
        assert start_service(state=first.state).manager().configured["mode"] == "machine"

    def test_a_file_in_the_place_of_the_socket_is_kept(
        self, start_service: Callable[..., Service], open_folder: Path
    ) -> None:
        os.chown(open_folder, 0, 0)
        precious = open_folder / "bitsd.sock"
        precious.write_text("precious")
        service = start_service(at=precious)
        assert service.process.wait(15) == 1
        assert f"{precious} exists and is not a socket" in service.said()
        assert precious.read_text() == "precious"

    def test_a_socket_path_may_be_longer_than_the_kernel_takes(
        self, start_service: Callable[..., Service], open_folder: Path
    ) -> None:
        folder = open_folder / ("x" * 120)
        service = start_service(at=folder / "bitsd.sock")
        before = Path.cwd()
        try:
            while not (folder / "bitsd.sock").exists():
                assert service.process.poll() is None
            os.chdir(folder)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("bitsd.sock")
                client.settimeout(15)
                assert client.recv(65536)
        finally:
            os.chdir(before)
        service.stop()
        assert not (folder / "bitsd.sock").exists()

    def test_first_manager_that_cannot_serve_ends_the_start_with_its_reason(
        self, start_service: Callable[..., Service]
    ) -> None:
        service = start_service(environ={"PROBE_MANAGER": "probe_failing_manager"})
        assert service.process.wait(15) == 1
        assert "cannot open the store in /x: no space" in service.said()

    def test_a_manager_that_has_served_and_cannot_go_on_is_followed_by_the_next(
        self, start_service: Callable[..., Service]
    ) -> None:
        service = start_service()
        first = service.manager()
        with pytest.raises(ConnectionError):
            first.ask("failed", text="cannot write the store in /x: no space")
        assert service.manager().pid != first.pid
        assert "cannot write the store in /x: no space" in service.said()


class TestStartedByAClient:
    def test_outlives_its_starter_and_logs_to_a_file(
        self,
        open_folder: Path,
        status_of: Callable[[int], dict[str, list[str]]],
        eventually: Callable[..., object],
    ) -> None:
        os.chown(open_folder, 0, 0)
        open_folder.chmod(0o755)
        state = open_folder / "state"
        environ = {**os.environ, "OPENBITS_STATE_DIR": str(state), "OPENBITS_SOCKET": str(open_folder / "bitsd.sock")}
        client = "import openbits; print(openbits.Client().info['process_ids']['spawner'])"
        done = subprocess.run(
            [sys.executable, "-c", client], env=environ, check=True, capture_output=True, text=True, timeout=30
        )
        spawner = int(done.stdout)
        try:
            assert status_of(spawner)["Name"] == ["bits-spawner"]
            assert os.getsid(spawner) != os.getsid(0)
            assert mode_of(state) == 0o711
            assert mode_of(state / "bitsd.log") == 0o600
            assert "started jobs=0" in (state / "bitsd.log").read_text()
        finally:
            os.kill(spawner, signal.SIGTERM)
            eventually(lambda: not is_alive(spawner))

    def test_tells_the_client_why_it_cannot_start(self, open_folder: Path) -> None:
        state = open_folder / "state"
        state.mkdir()
        os.chown(state, OTHER_UID, OTHER_UID)
        environ = {**os.environ, "OPENBITS_STATE_DIR": str(state), "OPENBITS_SOCKET": "/run/openbits-test.sock"}
        done = subprocess.run(
            [sys.executable, "-c", "import openbits; openbits.Client()"],
            env=environ,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert f"cannot start: {state} belongs to uid {OTHER_UID} with mode 0755, but must belong to" in done.stderr
        assert list(state.iterdir()) == []

    def test_tells_the_client_that_there_is_no_room_not_even_for_the_log(self, open_folder: Path) -> None:
        state = open_folder / "state"
        state.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0711", "tmpfs", str(state)], check=True)
        try:
            with contextlib.suppress(OSError), (state / "filler").open("wb", buffering=0) as filler:
                while filler.write(bytes(4096)):
                    pass
            environ = {**os.environ, "OPENBITS_STATE_DIR": str(state), "OPENBITS_SOCKET": "/run/openbits-test.sock"}
            done = subprocess.run(
                [sys.executable, "-c", "import openbits; openbits.Client()"],
                env=environ,
                check=False,
                capture_output=True,
                text=True,
                timeout=30,
            )
        finally:
            subprocess.run(["umount", str(state)], check=True)
        assert "could not be started with state directory" in done.stderr
        assert "No space left on device" in done.stderr


class TestOptions:
    def test_an_own_service_names_its_state_directory(self, free_uid: int) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("OPENBITS_")}
        command = [sys.executable, "-I", "-m", "openbits.identity.spawner"]
        done = subprocess.run(
            command, env=environ, user=free_uid, capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 2
        assert "--state-dir" in done.stderr


class TestEnd:
    def test_sigterm_removes_the_socket_and_ends_everything(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        manager = service.manager()
        child = manager.start("broker", 0, by=manager.cookie)
        assert service.stop() == 0
        assert not service.at.exists()
        assert not any(map(is_alive, [manager.pid, child.hello["pid"], *manager.configured["pids"].values()]))

    def test_kill_of_the_spawner_ends_everything(
        self, start_service: Callable[..., Service], eventually: Callable[..., object]
    ) -> None:
        service = start_service()
        manager = service.manager()
        child = manager.start("worker", 0, by=manager.cookie)
        service.process.kill()
        pids = [manager.pid, child.hello["pid"], manager.configured["pids"]["zygote"]]
        eventually(lambda: not any(map(is_alive, pids)))

    @pytest.mark.parametrize("victim", ["manager", "zygote"])
    def test_kill_of_manager_or_zygote_begins_anew(
        self, start_service: Callable[..., Service], eventually: Callable[..., object], victim: str
    ) -> None:
        service = start_service()
        first = service.manager()
        child = first.start("broker", 0, by=first.cookie)
        os.kill({"manager": first.pid, "zygote": first.configured["pids"]["zygote"]}[victim], signal.SIGKILL)
        first.control.close()  # the test holds a copy of the manager's end
        assert first.client.recv(1) == b""
        second = service.manager()
        assert second.configured["pids"]["spawner"] == first.configured["pids"]["spawner"]
        assert second.configured["pids"]["zygote"] != first.configured["pids"]["zygote"]
        eventually(lambda: not is_alive(first.pid) and not is_alive(child.hello["pid"]))
        if victim == "manager":
            assert (
                f"manager_ended uid={(service.state / 'queue').stat().st_uid} pid={first.pid} signal=9"
                in service.said()
            )

    @pytest.mark.parametrize(
        "request_of_a_broken_manager",
        [
            {"op": "open", "path": "/etc/shadow"},
            {"op": ["start"]},
            {"no op": 1},
            {"op": "start", "program": "manager", "uid": 0, "by": None},
            {"op": "start", "program": "broker", "uid": -1, "by": None},
            {"op": "start", "program": "broker", "uid": 0xFFFFFFFF, "by": None},
            {"op": "start", "program": "broker", "uid": True, "by": None},
            {"op": "start", "program": "broker", "uid": "0", "by": None},
            {"op": "token", "level": 3.0, "by": "own"},
            {"op": "logon", "level": 3, "by": "own"},
            {"op": "admit", "uid": 1000, "by": "own", "directories": [["/x", 1, 2]]},
            {"op": "admit", "uid": 1000, "by": "own", "directories": [{"path": "/x", "dev": 1}]},
        ],
    )
    def test_a_manager_that_breaks_the_contract_is_replaced(
        self, start_service: Callable[..., Service], request_of_a_broken_manager: dict[str, Any]
    ) -> None:
        service = start_service()
        broken = service.manager()
        request = dict(request_of_a_broken_manager)
        if request.get("by") == "own":
            request["by"] = broken.cookie
        channel.send(broken.control, {"id": 1, **request})
        with pytest.raises(channel.ChannelClosedError):
            channel.receive(broken.control)
        assert service.manager().ask("dismiss", uid=1000)[0]["ok"]
        assert "malformed request" in service.said()

    def test_a_manager_that_does_not_read_is_replaced(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        deaf = service.manager()
        with contextlib.suppress(channel.ChannelClosedError, TimeoutError):
            while True:  # until nothing more fits, or the spawner has hung up
                channel.send(deaf.control, {"op": "dismiss", "id": 1, "uid": 1000})
        assert service.manager().ask("dismiss", uid=1000)[0]["ok"]
        assert "the manager has read nothing" in service.said()

    def test_only_a_users_own_service_without_clients_may_finish(
        self, start_service: Callable[..., Service], free_uid: int
    ) -> None:
        machine = start_service()
        manager = machine.manager()
        channel.send(manager.control, {"op": "finish", "id": 0})
        assert manager.ask("dismiss", uid=1000)[0]["ok"]
        own = start_service(uid=free_uid)
        manager = own.manager()
        channel.send(manager.control, {"op": "finish", "id": 0})
        assert manager.ask("dismiss", uid=1000)[0]["ok"]  # the test's own connection keeps it
        manager.client.close()
        assert manager.event("disconnected")[0]["cookie"] == manager.cookie
        channel.send(manager.control, {"op": "finish", "id": 0})
        manager.control.close()
        assert own.process.wait(15) == 0
        assert not own.at.exists()
