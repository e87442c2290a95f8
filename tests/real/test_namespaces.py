"""Callers in other namespaces: what they see at a path, and what they may do (identity.md §8, test T-16)."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.audited import entries
from tests.real.conftest import Person, Service, run_as
from tests.real.stories import real_user, running_service

from openbits import BitsError

pytestmark = pytest.mark.root

E_INVALIDARG = 0x80070057
E_ACCESSDENIED = 0x80070005

CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
URL = "http://127.0.0.1:9/file"
ROOT = Person(uid=0, gid=0)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One service for the module."""
    with running_service() as made:
        yield made


@pytest.fixture(scope="module")
def alice() -> Iterator[User]:
    """Who lives in a container of her own."""
    with real_user() as user:
        yield user


@pytest.fixture
def folders(open_tmp_path: Path, alice: User) -> dict[str, Path]:
    """Two folders of alice."""
    made = {name: open_tmp_path / name for name in ("shared", "private")}
    for folder in made.values():
        folder.mkdir()
        os.chown(folder, alice.uid, alice.gid)
    return made


def in_private_mounts(user: User, mount: Callable[[Any], int], story: Callable[[], Any]) -> Any:
    """What `story` returns as `user`, in a mount namespace in which `mount(libc)` was done."""

    def enter() -> Any:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(CLONE_NEWNS) == 0
        assert libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) == 0
        assert mount(libc) == 0
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        return story()

    return run_as(ROOT, enter)


def add(service: Service, *paths: Path) -> tuple[int, str, int]:
    """Code and text of adding these to a new job, and how many files it has then."""
    with service.client() as client:
        job = client.create_job("from inside")
        code, text = 0, ""
        try:
            job.add_files([(URL, path) for path in paths])
        except BitsError as error:
            code, text = error.hresult, str(error)
        count = len(job.files())
        job.cancel()
        return code, text, count


def a_tmpfs_on(folder: Path) -> Callable[[Any], int]:
    """As PrivateTmp and containers do it; everybody may write there."""
    return lambda libc: int(libc.mount(b"none", bytes(folder), b"tmpfs", ctypes.c_ulong(0), b"mode=1777"))


@pytest.mark.attack(8)
def test_t16_a_file_that_would_land_elsewhere_is_refused_before_it_is_added(
    service: Service, alice: User, folders: dict[str, Path]
) -> None:
    """All or nothing: also the file whose directory both see is not added."""
    shared, private = folders["shared"] / "a", folders["private"] / "b"
    code, text, count = in_private_mounts(alice, a_tmpfs_on(folders["private"]), lambda: add(service, shared, private))
    assert (code, count) == (E_INVALIDARG, 0)
    assert f"cannot use {private}: the path is not the same for the service" in text
    assert "use a directory that both see" in text


def test_t16_another_directory_of_the_same_file_system_is_noticed_too(
    service: Service, alice: User, folders: dict[str, Path]
) -> None:
    shared, private = (bytes(folders[name]) for name in ("shared", "private"))

    def bind(libc: Any) -> int:
        return int(libc.mount(shared, private, None, ctypes.c_ulong(MS_BIND), None))

    code, text, _ = in_private_mounts(alice, bind, lambda: add(service, folders["private"] / "b"))
    assert (code, "not the same for the service" in text) == (E_INVALIDARG, True)


def test_t16_who_sees_the_same_directory_is_served_from_any_mount_namespace(
    service: Service, alice: User, folders: dict[str, Path], open_tmp_path: Path
) -> None:
    """Through a symlink, a bind mount of the folder onto itself, and with a path that is not normal."""
    shared = folders["shared"]
    link = open_tmp_path / "link"
    link.symlink_to(shared)
    targets = [shared / "a", link / "b", Path(f"{folders['private']}/../shared/./c")]

    def bind(libc: Any) -> int:
        return int(libc.mount(bytes(shared), bytes(shared), None, ctypes.c_ulong(MS_BIND), None))

    assert in_private_mounts(alice, bind, lambda: add(service, *targets)) == (0, "", 3)


def test_t16_a_directory_that_only_the_helper_can_see_is_not_compared(
    service: Service, alice: User, private_folder: Callable[[Any], Path]
) -> None:
    with real_user() as beth, service.client() as client, client.logon_user(beth.name, None) as token:
        target = private_folder(beth) / "inner"
        target.mkdir()
        os.chown(target, beth.uid, beth.gid)

        def story() -> int:
            with service.client() as own:
                job = own.create_job("of both")
                with token.impersonate():
                    job.set_helper_token()
                job.set_helper_token_flags(1)  # type: ignore[arg-type]  # local files
                job.add_file(URL, target / "x")
                return len(job.files())

        assert run_as(alice, story) == 1


SEEN_WRONGLY: list[Any] = [
    {"/tmp": {"dev": "1", "ino": 2}},  # noqa: S108
    {"/tmp": {"dev": 1}},  # noqa: S108
    {"/tmp": [1, 2]},  # noqa: S108
    {"/tmp": None},  # noqa: S108
    [],
    "x",
    7,
]


@pytest.mark.parametrize("seen", SEEN_WRONGLY, ids=str)
def test_what_is_not_in_the_form_of_the_interface_is_refused(
    seen: Any, service: Service, alice: User, folders: dict[str, Path]
) -> None:
    pair = {"remote_name": URL, "local_name": str(folders["shared"] / "a")}

    def story() -> tuple[int, int]:
        with service.client() as client:
            job = client.create_job("malformed")
            handle = client.call("OpenJob", {"job_id": str(job.id)})["handle"]
            try:
                client.call("AddFiles", {"handle": handle, "files": [pair], "directories": seen})
            except BitsError as error:
                return error.hresult, len(job.files())
            return 0, len(job.files())

    assert run_as(alice, story) == (E_INVALIDARG, 0)


def test_numbers_that_no_directory_has_only_hurt_who_sends_them(
    service: Service, alice: User, folders: dict[str, Path]
) -> None:
    """And without them nothing is compared: other clients need not send what they see."""
    folder = str(folders["shared"])
    pair = {"remote_name": URL, "local_name": f"{folder}/a"}

    def story() -> list[int]:
        codes = []
        with service.client() as client:
            handle = client.call("CreateJob", {"display_name": "x", "type": "download", "umask": 0o22})["handle"]
            for seen in ({folder: {"dev": -1, "ino": 2**70}}, {"/elsewhere\0": {"dev": 1, "ino": 1}}, {}, None):
                try:
                    client.call("AddFiles", {"handle": handle, "files": [pair], "directories": seen})
                except BitsError as error:
                    codes.append(error.hresult)
                else:
                    codes.append(0)
        return codes

    assert run_as(alice, story) == [E_INVALIDARG, 0, 0, 0]


# -- user namespaces --------------------------------------------------------------------------------------------------

CALLS: dict[str, dict[str, Any]] = {
    "CreateJob": {"display_name": "x", "type": "download", "umask": 0o22},
    "OpenJob": {"job_id": "JOB"},
    "ListJobs": {"all_users": False},
    "AddFiles": {"handle": 1, "files": []},
    "SetProperties": {"handle": 1, "values": {"description": "x"}},
    "Suspend": {"handle": 1},
    "Resume": {"handle": 1},
    "Cancel": {"handle": 1},
    "Complete": {"handle": 1},
    "SetHelperToken": {"handle": 1},
    "ClearHelperToken": {"handle": 1},
    "SetHelperTokenFlags": {"handle": 1, "flags": 1},
    "OpenProcessToken": {"level": 3},
    "LogonUser": {"user": "root", "level": 3},
    "AcknowledgeNotice": {"job_id": "JOB", "notice_seq": 1, "hresult": 0},
    "SetCertificateCallback": {"handle": 1},
    "AnswerCertificate": {"question": 1, "hresult": 0},
    "GetJob": {"handle": 1},
}

INSIDE = """
import json, os, socket, sys
answers = {"uid inside": os.getuid()}
with socket.socket(socket.AF_UNIX) as raw:
    raw.connect(sys.argv[1])
    for method, parameters in json.loads(sys.argv[2]).items():
        message = {"method": f"io.openbits.Service.{method}", "parameters": parameters, "more": method == "ListJobs"}
        raw.sendall(json.dumps(message).encode() + bytes(1))
        answer = b""
        while not answer.endswith(bytes(1)):
            answer += raw.recv(65536)
        answers[method] = json.loads(answer[:-1]).get("parameters", {}).get("hresult")
print(json.dumps(answers))
"""


@pytest.mark.attack(8)
def test_t16_a_caller_in_another_user_namespace_is_refused_every_call(service: Service, alice: User) -> None:
    """The kernel calls her by her outer uid, and she is root inside: neither gives her anything (A8)."""

    def create() -> str:
        with service.client() as client:
            return str(client.create_job("outside").id)

    job_id = run_as(alice, create)
    calls = json.loads(json.dumps(CALLS).replace("JOB", job_id))
    line = ["unshare", "--user", "--map-root-user", sys.executable, "-I", "-c", INSIDE, str(service.socket)]
    said = subprocess.run(
        [*line, json.dumps(calls)], user=alice.uid, group=alice.gid, extra_groups=[], capture_output=True, check=True
    ).stdout
    answers = json.loads(said)
    assert answers.pop("uid inside") == 0
    assert answers == dict.fromkeys(CALLS, E_ACCESSDENIED)
    refused = [entry for entry in entries(service, "refused") if entry["caller_uid"] == alice.uid]
    assert {entry["call"] for entry in refused} >= {"CreateJob", "SetHelperToken", "AcknowledgeNotice"}


EVADE = """
import os, socket, sys
created = 0
for _ in range(50):
    with socket.socket(socket.AF_UNIX) as shared:
        if (pid := os.fork()) == 0:
            shared.connect(sys.argv[1])
            os._exit(0)
        os.waitpid(pid, 0)
        try:
            shared.sendall(sys.argv[2].encode() + bytes(1))
            created += b"job_id" in shared.recv(65536)
        except ConnectionError:
            pass
print(created)
"""


@pytest.mark.attack(8)
def test_t16_a_connection_whose_maker_is_gone_is_not_served(service: Service, alice: User) -> None:
    """Or a caller in another user namespace would have a child connect and leave, and nobody could tell."""
    call = json.dumps({"method": "io.openbits.Service.CreateJob", "parameters": CALLS["CreateJob"]})
    line = ["unshare", "--user", "--map-root-user", sys.executable, "-I", "-c", EVADE, str(service.socket), call]
    done = subprocess.run(
        line, user=alice.uid, group=alice.gid, extra_groups=[], capture_output=True, check=True, timeout=60
    )
    assert done.stdout == b"0\n"
