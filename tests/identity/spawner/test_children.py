"""Children: under whom the manager may start one, and what the kernel lets it do then (design.md §2, T-11)."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openbits import channel

if TYPE_CHECKING:
    from tests.conftest import User
    from tests.identity.spawner.conftest import Service

pytestmark = pytest.mark.root

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def directory(path: Path) -> dict[str, Any]:
    return {"path": str(path), "dev": path.stat().st_dev, "ino": path.stat().st_ino}


@pytest.fixture
def owned_folder(open_folder: Path) -> Callable[[str, int], Path]:
    """Factory `owned_folder(name, uid)` of folders with one file, `old`."""

    def make(name: str, uid: int) -> Path:
        path = open_folder / name
        path.mkdir(0o700)
        (path / "old").write_text("old")
        for entry in (path / "old", path):
            os.chown(entry, uid, uid)
        return path

    return make


class TestWhoMayStart:
    def test_a_connection_vouches_for_its_own_uid_and_groups(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        manager = service.manager()
        groups = list(range(50_000, 50_300))
        with service.connect_as(40_001, 40_002, groups):
            cookie, _, _ = manager.connected()
            for program in ("broker", "worker"):
                hello = manager.start(program, 40_001, by=cookie).hello
                assert hello == {
                    "hello": program,
                    "pid": hello["pid"],
                    "uid": 40_001,
                    "gid": 40_002,
                    "groups": groups,
                    "landlock": hello["landlock"],
                }

    def test_a_child_has_its_own_program_in_memory_and_not_the_managers(
        self, start_service: Callable[..., Service]
    ) -> None:
        service = start_service()
        manager = service.manager()
        with service.connect_as(40_001):
            cookie, _, _ = manager.connected()
            worker = manager.start("worker", 40_001, by=cookie)
            carried = [worker.do("carries", module=name)["is_carried"] for name in ("probe_child", "probe_manager")]
        assert carried == [True, False]

    @pytest.mark.parametrize("uid", [0, 40_002, 65_534])
    def test_a_connection_vouches_for_no_other_uid(self, start_service: Callable[..., Service], uid: int) -> None:
        service = start_service()
        manager = service.manager()
        with service.connect_as(40_001):
            cookie, _, _ = manager.connected()
            answer, descriptors = manager.ask("start", program="broker", uid=uid, by=cookie)
        assert (answer["ok"], answer["refused"], descriptors) == (False, "not-admitted", [])

    @pytest.mark.parametrize(("by", "reason"), [("12345", "unknown-cookie"), (None, "not-admitted")])
    def test_nobody_vouches_for_a_stranger(self, start_service: Callable[..., Service], by: str, reason: str) -> None:
        answer, _ = start_service().manager().ask("start", program="worker", uid=40_001, by=by)
        assert (answer["ok"], answer["refused"]) == (False, reason)

    def test_root_vouches_for_admitted_owners_only(
        self, start_service: Callable[..., Service], throwaway_user: Callable[..., User], open_folder: Path
    ) -> None:
        user = throwaway_user(groups=("audio", "video"))
        manager = start_service().manager()
        answer, _ = manager.ask("start", program="broker", uid=user.uid, by=manager.cookie)
        assert answer["refused"] == "not-admitted"
        assert manager.ask("admit", uid=user.uid, by=manager.cookie, directories=[])[0]["ok"]
        child = manager.start("broker", user.uid, by=manager.cookie)
        assert child.hello["gid"] == user.gid
        assert set(child.hello["groups"]) == set(os.getgrouplist(user.name, user.gid))
        assert child.errno_of_open(open_folder / "new", CREATE) == 0  # not confined

    def test_an_admitted_owner_has_the_groups_of_its_connection_if_there_is_one(
        self, start_service: Callable[..., Service]
    ) -> None:
        service = start_service()
        manager = service.manager()
        with service.connect_as(40_001, 40_002, [40_003]):
            cookie, _, _ = manager.connected()
            assert manager.ask("admit", uid=40_001, by=cookie, directories=[])[0]["ok"]
            hello = manager.start("broker", 40_001).hello
            assert (hello["gid"], hello["groups"]) == (40_002, [40_003])

    def test_an_admitted_owner_without_account_is_told_so(self, start_service: Callable[..., Service]) -> None:
        manager = start_service().manager()
        assert manager.ask("admit", uid=40_001, by=manager.cookie, directories=[])[0]["ok"]
        hello = manager.start("broker", 40_001).hello
        assert (hello["hello"], hello["refused"]) == (None, "no-account")
        assert "uid 40001 has no account" in hello["text"]

    def test_only_the_owner_and_root_admit(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        manager = service.manager()
        with service.connect_as(40_001):
            cookie, _, _ = manager.connected()
            for by, reason in ((cookie, "not-admitted"), ("1", "unknown-cookie"), (None, "unknown-cookie")):
                answer, _ = manager.ask("admit", uid=0, by=by, directories=[])
                assert (answer["ok"], answer["refused"]) == (False, reason)
        assert not list((service.state / "admitted").iterdir())

    def test_a_dismissed_owner_is_a_stranger_again(self, start_service: Callable[..., Service]) -> None:
        manager = start_service().manager()
        assert manager.ask("admit", uid=0, by=manager.cookie, directories=[])[0]["ok"]
        assert manager.ask("dismiss", uid=0)[0]["ok"]
        assert manager.ask("dismiss", uid=0)[0]["ok"]
        assert manager.ask("start", program="broker", uid=0, by=None)[0]["refused"] == "not-admitted"

    def test_an_admission_outlives_manager_and_service(self, start_service: Callable[..., Service]) -> None:
        first = start_service()
        manager = first.manager()
        assert manager.ask("admit", uid=0, by=manager.cookie, directories=[])[0]["ok"]
        first.process.kill()
        first.process.wait()
        assert start_service(state=first.state).manager().start("broker", 0).hello["uid"] == 0

    def test_a_users_own_service_starts_for_that_user_alone(
        self, start_service: Callable[..., Service], free_uid: int, open_folder: Path
    ) -> None:
        service = start_service(uid=free_uid)
        manager = service.manager()
        with service.connect_as(free_uid):
            cookie, record, _ = manager.connected()
            assert (record["uid"], manager.configured["mode"], manager.configured["uid"]) == (
                free_uid,
                "user",
                free_uid,
            )
            child = manager.start("broker", free_uid, by=cookie)
            assert child.errno_of_open(open_folder / "new", CREATE) == 0
            assert manager.ask("admit", uid=free_uid, by=cookie, directories=[])[0]["ok"]
            assert manager.start("worker", free_uid).hello["uid"] == free_uid
            for by in (cookie, manager.cookie, None):
                answer, _ = manager.ask("start", program="broker", uid=0, by=by)
                assert (answer["ok"], answer["refused"]) == (False, "own-service")


class TestDrop:
    def test_nothing_of_root_is_left(
        self, start_service: Callable[..., Service], status_of: Callable[[int], dict[str, list[str]]]
    ) -> None:
        service = start_service()
        manager = service.manager()
        with service.connect_as(40_001, 40_002, [40_003]):
            cookie, _, _ = manager.connected()
            for uid, gid, groups, by in ((40_001, 40_002, [40_003], cookie), (0, 0, os.getgroups(), manager.cookie)):
                for program in ("broker", "worker"):
                    status = status_of(manager.start(program, uid, by=by).hello["pid"])
                    assert status["Uid"] == [str(uid)] * 4
                    assert status["Gid"] == [str(gid)] * 4
                    assert status["Groups"] == [str(group) for group in groups]
                    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                        assert status[name] == ["0" * 16]
                    assert (status["NoNewPrivs"], status["Name"]) == (["1"], [f"bits-{program}"])

    def test_no_process_of_the_same_uid_may_look_inside(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        manager = service.manager()
        with service.connect_as(40_001):
            cookie, _, _ = manager.connected()
            pid = manager.start("worker", 40_001, by=cookie).hello["pid"]
            for name in ("fd", "environ", "maps", "mem"):
                look = [
                    sys.executable,
                    "-c",
                    f"import os; os.listdir('/proc/{pid}/fd'); open('/proc/{pid}/{name}').read(1)",
                ]
                done = subprocess.run(look, user=40_001, group=40_001, capture_output=True, text=True, check=False)
                assert "PermissionError" in done.stderr
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert next(line for line in limits.splitlines() if "core file" in line).split()[4:6] == ["0", "0"]

    def test_environment_and_descriptors_of_the_starter_stay_outside(
        self, start_service: Callable[..., Service]
    ) -> None:
        environ = {"http_proxy": "x", "SSL_CERT_FILE": "x", "KRB5CCNAME": "x", "PYTHONWARNINGS": "", "TZ": "UTC"}
        manager = start_service(environ=environ).manager()
        seen = manager.start("broker", 0, by=manager.cookie).do("look")
        assert set(seen["environ"]) <= {"PATH", "LANG", "TZ"}
        assert seen["environ"]["TZ"] == "UTC"
        assert seen["umask"] == 0o077
        assert len(seen["descriptors"]) == 4  # null, null, stderr, its channel
        assert seen["parent"] == manager.configured["pids"]["zygote"]

    def test_ends_with_its_channel(
        self, start_service: Callable[..., Service], eventually: Callable[..., object]
    ) -> None:
        manager = start_service().manager()
        child = manager.start("broker", 0, by=manager.cookie)
        child.control.close()
        eventually(lambda: not Path(f"/proc/{child.hello['pid']}").exists())  # and was reaped

    def test_is_killed_with_its_parent_even_under_another_uid(
        self, start_service: Callable[..., Service], eventually: Callable[..., object]
    ) -> None:
        service = start_service()
        manager = service.manager()
        with service.connect_as(40_001):
            cookie, _, _ = manager.connected()
            pid = manager.start("worker", 40_001, by=cookie).hello["pid"]
            os.kill(pid, signal.SIGSTOP)  # it cannot end by itself
            os.kill(manager.configured["pids"]["zygote"], signal.SIGKILL)
            eventually(lambda: not Path(f"/proc/{pid}").exists())

    def test_does_not_start_half_dropped(self, start_service: Callable[..., Service]) -> None:
        service = start_service(command=("setpriv", "--bounding-set", "-setgid", "--"))
        assert service.process.wait(15) == 1
        assert "cannot start manager as uid" in service.said()


class TestConfinement:
    def test_an_admitted_broker_works_in_its_directories_and_nowhere_else(
        self, start_service: Callable[..., Service], owned_folder: Callable[[str, int], Path]
    ) -> None:
        service = start_service()
        manager = service.manager()
        inside, outside = owned_folder("inside", 40_001), owned_folder("outside", 40_001)
        with service.connect_as(40_001):
            cookie, _, _ = manager.connected()
            assert manager.ask("admit", uid=40_001, by=cookie, directories=[directory(inside)])[0]["ok"]
            child = manager.start("broker", 40_001)
            assert child.hello["landlock"] >= 1
            assert child.errno_of_open(inside / "old") == 0
            assert child.errno_of_open(inside / "new", CREATE) == 0
            assert child.errno_of_open(inside / "old", os.O_WRONLY | os.O_TRUNC) == 0
            assert child.do("rename", path=str(inside / "new"), to=str(inside / "old"))["errno"] == 0
            for path, flags in (
                (outside / "old", os.O_RDONLY),
                (outside / "new", CREATE),
                (Path("/etc/passwd"), os.O_RDONLY),
                (inside / ".." / "outside" / "old", os.O_RDONLY),
            ):
                assert child.errno_of_open(path, flags) == errno.EACCES
            assert child.do("rename", path=str(inside / "old"), to=str(outside / "new"))["errno"] != 0

    def test_an_admitted_broker_only_reads_where_it_was_let_in_to_read(
        self, start_service: Callable[..., Service], owned_folder: Callable[[str, int], Path]
    ) -> None:
        manager = start_service().manager()
        source, target = owned_folder("source", 0), owned_folder("target", 0)
        directories = [{**directory(source), "is_read_only": True}, directory(target)]
        assert manager.ask("admit", uid=0, by=manager.cookie, directories=directories)[0]["ok"]
        child = manager.start("broker", 0)
        assert child.errno_of_open(source / "old") == 0
        assert child.errno_of_open(source / "old", os.O_WRONLY) == errno.EACCES
        assert child.errno_of_open(source / "new", CREATE) == errno.EACCES
        assert child.do("rename", path=str(source / "old"), to=str(target / "new"))["errno"] != 0
        assert child.errno_of_open(target / "new", CREATE) == 0

    def test_an_admitted_broker_also_reads_what_its_owner_keeps_for_the_service(
        self, start_service: Callable[..., Service], throwaway_user: Callable[..., User]
    ) -> None:
        user, other = throwaway_user(), throwaway_user()
        manager = start_service().manager()
        for one in (user, other):
            folder = one.home / ".config" / "openbits"
            folder.mkdir(parents=True)
            (folder / "credentials.toml").write_text("secret")
            (one.home / "diary").write_text("private")
            subprocess.run(["chown", "-R", f"{one.uid}:{one.gid}", one.home], check=True)
        (other.home / "diary").chmod(0o644)
        other.home.chmod(0o755)
        assert manager.ask("admit", uid=user.uid, by=manager.cookie, directories=[])[0]["ok"]
        child = manager.start("broker", user.uid)
        kept = user.home / ".config" / "openbits" / "credentials.toml"
        assert child.errno_of_open(kept) == 0
        assert child.errno_of_open(kept, os.O_WRONLY) == errno.EACCES
        assert child.errno_of_open(user.home / "diary") == errno.EACCES
        assert child.errno_of_open(other.home / "diary") == errno.EACCES

    @pytest.mark.parametrize("is_link", [True, False])
    def test_what_somebody_else_put_in_the_place_of_the_tickets_lets_nobody_in(
        self,
        is_link: bool,  # noqa: FBT001  # a case
        start_service: Callable[..., Service],
        throwaway_user: Callable[..., User],
    ) -> None:
        """Their usual place is /tmp; where `fs.protected_symlinks` is on, the kernel does not follow such a link."""
        user, stranger = throwaway_user(), throwaway_user()
        secrets, cache = user.home / "keys", Path(f"/tmp/krb5cc_{user.uid}")  # noqa: S108  # the place
        secrets.mkdir()
        (secrets / "key").write_text("secret")
        subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", user.home], check=True)
        manager = start_service().manager()
        assert manager.ask("admit", uid=user.uid, by=manager.cookie, directories=[])[0]["ok"]
        if is_link:
            cache.symlink_to(secrets)
            os.lchown(cache, stranger.uid, stranger.gid)
        else:
            cache.write_text("tickets")
            os.chown(cache, user.uid, user.gid)
        try:
            child = manager.start("broker", user.uid)
            assert child.errno_of_open(secrets / "key") == errno.EACCES
            assert (child.errno_of_open(cache) == 0) is not is_link
        finally:
            cache.unlink()

    def test_the_same_broker_is_free_while_its_owner_vouches(
        self, start_service: Callable[..., Service], owned_folder: Callable[[str, int], Path]
    ) -> None:
        service = start_service()
        manager = service.manager()
        folder = owned_folder("folder", 40_001)
        with service.connect_as(40_001):
            cookie, _, _ = manager.connected()
            assert manager.start("broker", 40_001, by=cookie).errno_of_open(folder / "old") == 0

    def test_a_directory_that_was_exchanged_is_left_out(
        self, start_service: Callable[..., Service], owned_folder: Callable[[str, int], Path], open_folder: Path
    ) -> None:
        manager = start_service().manager()
        meant, kept = owned_folder("meant", 0), owned_folder("kept", 0)
        gone = {"path": str(open_folder / "gone"), "dev": 1, "ino": 2}
        odd = {"path": "/\x00", "dev": 1, "ino": 2}
        directories = [directory(meant), gone, odd, directory(kept)]
        assert manager.ask("admit", uid=0, by=manager.cookie, directories=directories)[0]["ok"]
        meant.rename(open_folder / "moved")
        (open_folder / "meant").symlink_to("/etc")
        child = manager.start("broker", 0)
        assert child.errno_of_open(kept / "old") == 0
        assert child.errno_of_open(open_folder / "meant" / "passwd") == errno.EACCES
        assert child.errno_of_open(open_folder / "moved" / "old") == errno.EACCES

    def test_an_admitted_broker_of_root_is_confined_too(
        self, start_service: Callable[..., Service], owned_folder: Callable[[str, int], Path]
    ) -> None:
        manager = start_service().manager()
        folder = owned_folder("folder", 0)
        assert manager.ask("admit", uid=0, by=manager.cookie, directories=[directory(folder)])[0]["ok"]
        child = manager.start("broker", 0)
        assert child.errno_of_open(folder / "old") == 0
        assert child.errno_of_open(Path("/etc/shadow")) == errno.EACCES

    def test_a_worker_reads_name_service_files_and_nothing_else_but_reaches_the_network(
        self, start_service: Callable[..., Service], owned_folder: Callable[[str, int], Path]
    ) -> None:
        service = start_service()
        manager = service.manager()
        folder = owned_folder("folder", 40_001)
        with service.connect_as(40_001), socket.create_server(("127.0.0.1", 0)) as server:
            cookie, _, _ = manager.connected()
            worker = manager.start("worker", 40_001, by=cookie)
            assert worker.errno_of_open(Path("/etc/passwd")) == 0
            assert worker.errno_of_open(folder / "old") == errno.EACCES
            assert worker.errno_of_open(folder / "new", CREATE) == errno.EACCES
            assert worker.do("connect", port=server.getsockname()[1])["errno"] == 0

    def test_an_admitted_broker_has_no_network(self, start_service: Callable[..., Service]) -> None:
        manager = start_service().manager()
        assert manager.ask("admit", uid=0, by=manager.cookie, directories=[])[0]["ok"]
        with socket.create_server(("127.0.0.1", 0)) as server:
            child = manager.start("broker", 0)
            assert child.do("connect", port=server.getsockname()[1])["errno"] == errno.EACCES

    @pytest.mark.parametrize(("mode", "owner"), [(0o644, 0), (0o660, 0), (0o600, 40_001)])
    def test_an_entry_that_others_could_read_or_write_admits_nobody(
        self, start_service: Callable[..., Service], mode: int, owner: int
    ) -> None:
        service = start_service()
        manager = service.manager()
        assert manager.ask("admit", uid=0, by=manager.cookie, directories=[])[0]["ok"]
        entry = service.state / "admitted" / "0.json"
        assert (entry.stat().st_mode & 0o777, entry.stat().st_uid) == (0o600, 0)
        entry.chmod(mode)
        os.chown(entry, owner, 0)
        assert manager.ask("start", program="broker", uid=0, by=None)[0]["refused"] == "not-admitted"

    def test_a_damaged_entry_starts_nothing(self, start_service: Callable[..., Service]) -> None:
        service = start_service()
        manager = service.manager()
        assert manager.ask("admit", uid=0, by=manager.cookie, directories=[])[0]["ok"]
        (service.state / "admitted" / "0.json").write_text('[{"path": "/')
        hello = manager.start("broker", 0).hello
        assert (hello["hello"], hello["refused"]) == (None, "broken")
        with pytest.raises(channel.ChannelClosedError):
            channel.receive(manager.opened[-1])
