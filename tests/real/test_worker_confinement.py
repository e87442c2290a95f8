"""Brokers and workers of the running service, looked at from outside (identity.md §11, §16 T-9 and T-11).

What they could do if somebody took them over is in test_compromised.py.
"""

import ctypes
import os
import re
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openbits import BitsError, TokenFlags, channel

pytestmark = pytest.mark.root

BODY = b"b" * 700_000
CERTIFICATES = "/memfd:openbits-ca (deleted)"
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
E_ACCESSDENIED = 0x80070005
PIDFD_GETFD, PTRACE_ATTACH, SO_COOKIE = 438, 16, 57


def status_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, value in (line.split(":", 1) for line in lines)}


def is_alive(pid: int) -> bool:
    try:
        return status_of(pid)["State"][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# -- the real programs, in the middle of a download -----------------------------------------------------------------


@dataclass(frozen=True)
class Download:
    """A download under two identities that is held back: the helper's broker, the owner's worker."""

    service: Any
    owner: Any
    helper: Any
    target: Path
    pids: dict[str, int]
    job_id: str

    @property
    def broker(self) -> int:
        return self.pids[f"broker:{self.helper.uid}"]

    @property
    def worker(self) -> int:
        return self.pids[f"worker:{self.owner.uid}"]


@pytest.fixture
def download(
    service: Any,
    site: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
    eventually: Callable[..., Any],
) -> Iterator[Download]:
    owner, helper = throwaway_user(groups=("audio", "video")), throwaway_user(groups=("games", "users"))
    url = site.put("/data", BODY)
    gate = site.gate("/data", 300_000)
    target = private_folder(helper) / "data.bin"

    def begin() -> str:
        with service.client() as client:
            job = client.create_job("held back")
            with token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(TokenFlags.LOCAL_FILE)
            job.add_file(url, target)
            job.resume()
            return str(job.id)

    with service.client() as client:
        with client.logon_user(helper.name, None) as token:
            job_id = as_user(owner, begin)
        job = client.job(job_id)
        eventually(lambda: job.info()["bytes_transferred"] >= 300_000)
    yield Download(service, owner, helper, target, service.pids(), job_id)
    gate.set()


def test_t11_each_process_has_one_identity_and_no_privilege(download: Download) -> None:
    manager_uid = (download.service.state / "queue").stat().st_uid
    people = {download.broker: download.helper, download.worker: download.owner}
    for pid, user in people.items():
        status = status_of(pid)
        assert status["Uid"] == [str(user.uid)] * 4
        assert status["Gid"] == [str(user.gid)] * 4
        assert {int(group) for group in status["Groups"]} == set(os.getgrouplist(user.name, user.gid))
    manager = status_of(download.pids["manager"])
    assert manager["Uid"] == [str(manager_uid)] * 4
    assert manager["Groups"] == []
    assert manager_uid not in {0, download.owner.uid, download.helper.uid}
    for pid in (*people, download.pids["manager"]):
        status = status_of(pid)
        assert [status[name] for name in CAPABILITIES] == [["0" * 16]] * 5
        assert (status["NoNewPrivs"], status["Umask"], status["TracerPid"]) == (["1"], ["0077"], ["0"])
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size\s+0\s+0\s", limits)
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0  # not dumpable


@pytest.mark.attack(21)
@pytest.mark.parametrize("program", ["broker", "worker"])
def test_t11_not_even_its_own_user_looks_inside(program: str, download: Download, as_user: Callable[..., Any]) -> None:
    pid: int = getattr(download, program)
    user = download.helper if program == "broker" else download.owner

    def look() -> dict[str, str]:
        libc = ctypes.CDLL(None, use_errno=True)
        remote = struct.pack("=QQ", 0x1000, 1)

        def system_call(name: str, *arguments: object) -> None:
            if getattr(libc, name)(*arguments) == -1:
                raise OSError(ctypes.get_errno(), name)

        def read_memory() -> None:
            system_call("process_vm_readv", pid, bytes(remote), 1, bytes(remote), 1, 0)

        attempts: dict[str, Callable[[], object]] = {
            name: lambda name=name: Path(f"/proc/{pid}/{name}").read_bytes()  # type: ignore[misc]
            for name in ("mem", "environ", "maps", "auxv", "io")
        }
        attempts |= {name: lambda name=name: Path(f"/proc/{pid}/{name}").readlink() for name in ("cwd", "exe", "root")}  # type: ignore[misc]
        attempts |= {
            "descriptors": lambda: list(Path(f"/proc/{pid}/fd").iterdir()),
            "trace": lambda: system_call("ptrace", PTRACE_ATTACH, pid, None, None),
            "read memory": read_memory,
            "take a descriptor": lambda: system_call("syscall", PIDFD_GETFD, os.pidfd_open(pid), 0, 0),
        }
        got = {}
        for name, attempt in attempts.items():
            try:
                attempt()
            except PermissionError:
                got[name] = "denied"
            except OSError as error:
                got[name] = str(error)
            else:
                got[name] = "done"
        return got

    assert set(as_user(user, look).values()) == {"denied"}


def test_t11_no_descriptor_of_anybody_else_is_open(download: Download) -> None:
    """Null, log, control channel; and file, connection and trusted certificates where they belong."""
    temporary = next(path for path in download.target.parent.iterdir() if path.name.startswith(".BIT"))
    common = {"0": "/dev/null", "1": "/dev/null", "2": str(download.service.log_path)}
    for pid, files in ((download.broker, set()), (download.worker, {str(temporary), CERTIFICATES})):
        found = descriptors_of(pid)
        assert {number: found.pop(number) for number in common} == common
        assert {target for target in found.values() if target.startswith("/")} == files
        sockets = {target for target in found.values() if target.startswith("socket:")}
        named_or_listening = unix_sockets("/proc/net/unix")
        assert len({target for target in sockets if target in named_or_listening}) <= 2
        assert not any(named_or_listening.get(target) for target in sockets)  # no listener, no client's connection
        rest = {target.partition(":")[0] for target in found.values() if not target.startswith(("/", "socket:"))}
        assert rest <= {"anon_inode"}


def descriptors_of(pid: int) -> dict[str, str]:
    """Number → what it is, as the kernel names it."""
    return {entry.name: str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def unix_sockets(table: str) -> dict[str, str]:
    """`socket:[inode]` → path of every Unix socket that has one; empty for pairs."""
    rows = (line.split() for line in Path(table).read_text().splitlines()[1:])
    return {f"socket:[{row[6]}]": row[7] if len(row) > 7 else "" for row in rows}


def test_t11_only_the_worker_has_an_internet_connection(download: Download) -> None:
    """And the manager, the spawner and the broker have none."""
    tcp = {f"socket:[{line.split()[9]}]" for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    udp = {f"socket:[{line.split()[9]}]" for line in Path("/proc/net/udp").read_text().splitlines()[1:]}
    with_internet = set()
    for name, pid in download.pids.items():
        if set(descriptors_of(pid).values()) & (tcp | udp):
            with_internet.add(name)
    assert with_internet == {f"worker:{download.owner.uid}"}


@pytest.mark.parametrize("victim", ["spawner", "zygote"])
def test_t11_everything_dies_with_its_parent(victim: str, download: Download, eventually: Callable[..., Any]) -> None:
    """Also children that cannot end by themselves."""
    for pid in (download.broker, download.worker):
        os.kill(pid, signal.SIGSTOP)
    os.kill(download.pids[victim], signal.SIGKILL)
    gone = set(download.pids) - ({"spawner"} if victim == "zygote" else set())
    eventually(lambda: not any(is_alive(download.pids[name]) for name in gone - {victim}))


@pytest.mark.attack(11)
def test_the_running_spawner_refuses_its_own_manager_a_uid_it_has_not_seen(
    service: Any, free_uid: int, throwaway_user: Callable[..., Any], as_user: Callable[..., Any]
) -> None:
    """design.md §2: the manager is stopped and its channel used in its name, as somebody who took it over would."""
    stranger, connected, admitted = throwaway_user(), throwaway_user(), throwaway_user()
    manager = service.pids()["manager"]
    near, far = socket.socketpair()

    def connect() -> None:
        with service.client() as client:
            socket.send_fds(far, [b"x"], [client.connection._socket.fileno()])

    def create_job() -> None:
        with service.client() as client:
            client.create_job("there is a job")

    as_user(admitted, create_job)
    as_user(connected, connect)
    _, descriptors, _, _ = socket.recv_fds(near, 1, 1)
    os.kill(manager, signal.SIGSTOP)
    try:
        (cookie,) = connections_of(manager, str(service.socket))
        (control,) = sockets_of(manager, socket.SOCK_SEQPACKET)
        with near, far, control:
            control.settimeout(10)

            def ask(uid: int, by: str | None) -> str:
                channel.send(control, {"op": "start", "id": 10**9, "program": "broker", "uid": uid, "by": by})
                while True:
                    answer, received = channel.receive(control)
                    channel.close_all(received)
                    if answer.get("reply") == 10**9:
                        return "started" if answer["ok"] else f"{answer['refused']}: {answer['text']}"

            for uid in (stranger.uid, free_uid, 0):
                refusal = f"not-admitted: uid {uid} is neither connected nor admitted; it must connect once"
                assert ask(uid, None) == refusal
                assert ask(uid, cookie).startswith(f"not-admitted: uid {connected.uid} cannot act for uid {uid}; ")
                assert ask(uid, "1").startswith("unknown-cookie: ")
            assert ask(admitted.uid, cookie).startswith("not-admitted: ")  # nobody vouches for somebody else
            assert ask(connected.uid, cookie) == "started"
            assert ask(admitted.uid, None) == "started"
    finally:
        os.kill(manager, signal.SIGCONT)
        channel.close_all(descriptors)


def connections_of(manager: int, address: str) -> set[str]:
    """Cookies of the clients' connections that the manager holds."""
    found = list(sockets_of(manager, socket.SOCK_STREAM))
    cookies = {str(cookie_of(sock)) for sock in found if sock.getsockname() == address}
    for sock in found:
        sock.close()
    return cookies


def cookie_of(sock: socket.socket) -> int:
    (cookie,) = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))
    return int(cookie)


def sockets_of(pid: int, kind: int) -> Iterator[socket.socket]:
    """Copies of the Unix sockets of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    for number, target in descriptors_of(pid).items():
        if target.startswith("socket:"):
            sock = socket.socket(fileno=libc.syscall(PIDFD_GETFD, process, int(number), 0))
            if sock.family == socket.AF_UNIX and sock.type == kind:
                yield sock
            else:
                sock.close()
    os.close(process)


# -- the real broker and the wrong folder ---------------------------------------------------------------------------


def test_t9_a_file_for_the_private_folder_of_another_user_is_refused_by_name(
    service: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
) -> None:
    alice, bob = throwaway_user(), throwaway_user()
    folder = private_folder(bob)

    def story() -> tuple[int, str, int]:
        with service.client() as client:
            job = client.create_job("wrong folder")
            with pytest.raises(BitsError) as caught:
                job.add_file("http://127.0.0.1/x", folder / "x")
            return caught.value.hresult, str(caught.value), len(job.files())

    code, text, files = as_user(alice, story)
    assert (code, files, list(folder.iterdir())) == (E_ACCESSDENIED, 0, [])
    assert f"cannot use {folder}/x as {alice.name} (uid {alice.uid})" in text
    assert str(folder) in text
    assert "another folder" in text or "chmod" in text or "owner" in text


@pytest.mark.attack(1)
def test_t9_a_directory_exchanged_for_a_link_into_another_users_folder_leads_nowhere(
    service: Any,
    site: Any,
    root: Any,
    throwaway_user: Callable[..., Any],
    private_folder: Callable[[Any], Path],
    as_user: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    """P2, also for root's job: the directory is the one of AddFile, not whatever its name leads to later."""
    alice, bob = throwaway_user(), throwaway_user()
    theirs = private_folder(bob)
    for owner in (alice, root):
        mine = private_folder(owner) / "in"
        mine.mkdir()
        os.chown(mine, owner.uid, owner.gid)

        def begin(mine: Path = mine) -> str:
            with service.client() as client:
                job = client.create_job("exchanged")
                job.add_file(site.put("/data", BODY), mine / "data.bin")
                mine.rename(mine.with_name("moved"))
                mine.symlink_to(theirs)
                job.resume()
                return str(job.id)

        job_id = as_user(owner, begin)
        with service.client() as client:
            job = client.job(job_id)
            error = eventually(lambda job=job: job.error)
        assert (error["hresult"], error["context"]) == (E_ACCESSDENIED, "local_file"), error
        assert list(theirs.iterdir()) == []
        assert list(mine.with_name("moved").iterdir()) == []
