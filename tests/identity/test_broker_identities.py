"""File brokers under real uids: the kernel decides, and the answer says what and why."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.identity.conftest import BrokerProcess

StartBroker = Callable[..., "BrokerProcess"]
RunAs = Callable[[int | None, Callable[[], Any]], Any]

pytestmark = pytest.mark.root

ALICE, BOB, STAFF = 61_001, 61_002, 61_010
NAME = ".BIT0123abcd.tmp"
NEXT_NAME = ".BIT0123abce.tmp"
LONG_AGO_NS = 784_111_777_000_000_000


def as_directory(place: Path) -> dict[str, Any]:
    """A directory as AddFile fixed it."""
    found = place.stat()
    return {"path": str(place), "dev": found.st_dev, "ino": found.st_ino}


def names(place: Path) -> list[str]:
    """What is in a directory."""
    return sorted(each.name for each in place.iterdir())


@pytest.fixture
def home(open_tmp_path: Path) -> Callable[..., Path]:
    """Factory `home(uid, mode=0o700)` of a directory that belongs to a uid."""

    def make_home(uid: int, mode: int = 0o700) -> Path:
        place = open_tmp_path / f"of-{uid}"
        place.mkdir()
        os.chown(place, uid, uid)
        place.chmod(mode)
        return place

    return make_home


@pytest.fixture
def mounted(open_tmp_path: Path) -> Iterator[Callable[..., None]]:
    """`mounted(place, *arguments of mount)`; taken off again at the end."""
    places: list[Path] = []

    def mount(place: Path, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, str(place)], check=True, capture_output=True)
        if "remount" not in ",".join(arguments):
            places.append(place)

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", str(place)], check=True, capture_output=True)
    assert str(open_tmp_path) not in Path("/proc/self/mounts").read_text(encoding="utf-8")


def test_the_published_file_belongs_to_the_identity(home: Callable[..., Path], start_broker: StartBroker) -> None:
    place = home(ALICE)
    broker = start_broker(ALICE)
    directory = broker.do("resolve", path=f"{place}/file")["directory"]
    broker.do("publish", directory=directory, temporary=broker.make(directory), umask=0o027)
    found = (place / "file").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (ALICE, ALICE, 0o640)


def test_who_may_not_create_files_hears_why_and_a_group_helps(open_tmp_path: Path, start_broker: StartBroker) -> None:
    place = open_tmp_path / "in"
    place.mkdir()
    os.chown(place, 0, STAFF)
    place.chmod(0o750)
    answer = start_broker(ALICE).fail("resolve", path=f"{place}/file")
    assert (answer["errno"], answer["step"], answer["subject"]) == (errno.EACCES, "directory", str(place))
    assert f"uid {ALICE} may not create files in {place} (mode 0750, owner 0:{STAFF})" in answer["text"]
    place.chmod(0o770)
    start_broker(ALICE, [STAFF]).do("resolve", path=f"{place}/file")


def test_a_right_taken_away_later_is_missed_when_the_file_is_made(
    home: Callable[..., Path], start_broker: StartBroker
) -> None:
    place = home(ALICE, 0o500)
    answer = start_broker(ALICE).fail("create", directory=as_directory(place), name=NAME)
    assert (answer["errno"], answer["step"]) == (errno.EACCES, "create")
    assert f"uid {ALICE} may not create files in {place} (mode 0500, owner {ALICE}:{ALICE})" in answer["text"]


def test_a_broker_reaches_nothing_in_the_private_directory_of_another(
    home: Callable[..., Path], start_broker: StartBroker
) -> None:
    """T-9, file worker of A cannot read B."""
    place = home(BOB)
    directory = as_directory(place)
    temporary = start_broker(BOB).make(directory)
    alice = start_broker(ALICE)
    answers = [
        alice.fail("resolve", path=f"{place}/file"),
        alice.fail("create", directory=directory, name=NEXT_NAME),
        alice.fail("reopen", directory=directory, temporary=temporary),
        alice.fail("publish", directory=directory, temporary=temporary),
        alice.fail("remove", directory=directory, temporary=temporary),
    ]
    assert [answer["errno"] for answer in answers] == [errno.EACCES] * 5
    assert names(place) == [NAME]
    assert (place / NAME).stat().st_uid == BOB


def test_in_a_directory_that_all_may_write_only_the_maker_handles_the_temporary_file(
    home: Callable[..., Path], start_broker: StartBroker
) -> None:
    """reliability.md R5: the permissions would let Alice rename or remove it; the recipe does not."""
    place = home(BOB, 0o777)
    directory = as_directory(place)
    temporary = start_broker(BOB).make(directory)
    alice = start_broker(ALICE)
    for claimed in (temporary, temporary | {"uid": ALICE}):
        assert alice.fail("reopen", directory=directory, temporary=claimed)["step"] == "changed"
        assert alice.fail("publish", directory=directory, temporary=claimed)["step"] == "changed"
        assert alice.fail("remove", directory=directory, temporary=claimed)["step"] == "changed"
    assert alice.fail("remove", directory=directory, temporary=temporary | {"ino": 0})["step"] == "changed"
    assert names(place) == [NAME]


def test_a_file_of_another_in_a_sticky_directory_is_not_replaced(
    home: Callable[..., Path], start_broker: StartBroker
) -> None:
    place = home(0, 0o1777)
    (place / "file").write_bytes(b"of root")
    broker = start_broker(ALICE)
    directory = broker.do("resolve", path=f"{place}/file")["directory"]
    answer = broker.fail("publish", directory=directory, temporary=broker.make(directory))
    assert (answer["errno"], answer["step"]) == (errno.EPERM, "publish")
    assert "sticky bit" in answer["text"]
    assert (place / "file").read_bytes() == b"of root"


def test_a_drop_box_that_may_be_written_but_not_read_is_enough(
    home: Callable[..., Path], start_broker: StartBroker
) -> None:
    place = home(0, 0o733)
    broker = start_broker(ALICE)
    directory = broker.do("resolve", path=f"{place}/file")["directory"]
    broker.do("publish", directory=directory, temporary=broker.make(directory))
    broker.do("remove", directory=directory, temporary=broker.make(directory))
    assert names(place) == ["file"]


def test_a_broker_confined_by_landlock_does_all_its_work_and_only_there(
    home: Callable[..., Path], start_broker: StartBroker
) -> None:
    place, other = home(ALICE), home(ALICE + 5, 0o777)
    entries = [(0x01, 7, 2**32 - 1), (0x02, 6, BOB), (0x04, 5, 2**32 - 1), (0x10, 7, 2**32 - 1), (0x20, 0, 2**32 - 1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(place, "system.posix_acl_default", acl)
    (place / "file").symlink_to("/etc/passwd")
    broker = start_broker(ALICE, confined_to=place)
    directory = broker.do("resolve", path=f"{place}/file")["directory"]
    temporary = broker.make(directory)
    broker.do("reopen", directory=directory, temporary=temporary)
    broker.do("publish", directory=directory, temporary=temporary)
    broker.do("remove", directory=directory, temporary=broker.make(directory))
    assert names(place) == ["file"]
    assert (place / "file").read_bytes() == b"transferred"
    assert stat.S_IMODE((place / "file").stat().st_mode) == 0o660

    start_broker(ALICE).do("create", directory=as_directory(other), name=NAME)
    answer = broker.fail("create", directory=as_directory(other), name=NEXT_NAME)
    assert (answer["errno"], answer["step"]) == (errno.EACCES, "create")
    assert names(other) == [NAME]


def test_a_read_only_file_system_is_called_by_its_name(
    home: Callable[..., Path], mounted: Callable[..., None], start_broker: StartBroker
) -> None:
    place = home(ALICE)
    temporary = start_broker(ALICE).make(as_directory(place))
    mounted(place, "--bind", str(place))
    mounted(place, "-o", "remount,bind,ro")
    broker = start_broker(ALICE)
    directory = as_directory(place)
    answers = {
        "directory": broker.fail("resolve", path=f"{place}/file"),
        "create": broker.fail("create", directory=directory, name=NEXT_NAME),
        "reopen": broker.fail("reopen", directory=directory, temporary=temporary),
        "publish": broker.fail("publish", directory=directory, temporary=temporary),
        "remove": broker.fail("remove", directory=directory, temporary=temporary),
    }
    for step, answer in answers.items():
        assert (answer["errno"], answer["step"]) == (errno.EROFS, step)
        assert "the file system is read-only; have it mounted read-write" in answer["text"]


def test_a_full_file_system_is_said_and_space_cures_it(
    home: Callable[..., Path], mounted: Callable[..., None], start_broker: StartBroker
) -> None:
    place = home(ALICE)
    mounted(place, "-t", "tmpfs", "-o", f"size=64k,nr_inodes=3,uid={ALICE},mode=0700", "tmpfs")
    (place / "takes").touch()
    (place / "inodes").touch()
    broker = start_broker(ALICE)
    directory = broker.do("resolve", path=f"{place}/file")["directory"]
    answer = broker.fail("create", directory=directory, name=NAME)
    assert (answer["errno"], answer["step"], answer["subject"]) == (errno.ENOSPC, "create", f"{place}/{NAME}")
    assert f"as uid {ALICE}: no space or no inode is left on the file system; free some" in answer["text"]
    (place / "takes").unlink()
    broker.do("publish", directory=directory, temporary=broker.make(directory))
    assert (place / "file").read_bytes() == b"transferred"


def test_another_volume_on_the_directory_is_noticed_and_the_right_one_again(
    home: Callable[..., Path], start_broker: StartBroker
) -> None:
    place = home(ALICE)
    broker = start_broker(ALICE)
    directory = broker.do("resolve", path=f"{place}/file")["directory"]
    temporary = broker.make(directory)
    with contextlib.ExitStack() as stack:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"uid={ALICE}", "tmpfs", str(place)], check=True)
        stack.callback(subprocess.run, ["umount", str(place)], check=True)
        answer = broker.fail("publish", directory=directory, temporary=temporary)
        assert (answer["errno"], answer["step"], answer["subject"]) == (errno.ESTALE, "volume", str(place))
        assert names(place) == []
    broker.do("publish", directory=directory, temporary=temporary)


def test_what_the_network_side_can_do_with_the_descriptor_it_is_handed(
    home: Callable[..., Path], start_broker: StartBroker, run_as: RunAs
) -> None:
    """T-9, network worker of B: it writes into A's file, and that is all (identity.md §11)."""
    place = home(ALICE)
    broker = start_broker(ALICE)
    directory = as_directory(place)
    answer, (descriptor,) = broker.ask("create", directory=directory, name=NAME)
    os.write(descriptor, b"bytes that are cut off again")

    def attempts() -> dict[str, int]:
        libc = ctypes.CDLL(None, use_errno=True)
        opened = f"/proc/self/fd/{descriptor}"
        acts: dict[str, Callable[[], object]] = {
            "write": lambda: os.pwrite(descriptor, b"transferred", 0),
            "cut": lambda: os.ftruncate(descriptor, len(b"transferred")),
            "sync": lambda: os.fdatasync(descriptor),
            "read": lambda: os.pread(descriptor, 1, 0),
            "reopen to read": lambda: os.open(opened, os.O_RDONLY),
            "reopen to write": lambda: os.open(opened, os.O_WRONLY),
            "chmod": lambda: os.fchmod(descriptor, 0o666),
            "chown": lambda: os.fchown(descriptor, BOB, BOB),
            "set times": lambda: os.utime(descriptor, ns=(0, 0)),
            "set xattr": lambda: os.setxattr(descriptor, "user.x", b""),
            "open by path": lambda: os.open(place / NAME, os.O_RDONLY),
            "list the directory": lambda: list(place.iterdir()),
        }
        results = {}
        for name, act in acts.items():
            try:
                act()
            except OSError as error:
                results[name] = error.errno or -1
            else:
                results[name] = 0
        results["become Alice"] = 0 if libc.setuid(ALICE) == 0 else ctypes.get_errno()
        return results

    assert run_as(BOB, attempts) == {
        "write": 0,
        "cut": 0,
        "sync": 0,
        "read": errno.EBADF,
        "reopen to read": errno.EACCES,
        "reopen to write": errno.EACCES,
        "chmod": errno.EPERM,
        "chown": errno.EPERM,
        "set times": errno.EPERM,
        "set xattr": errno.EACCES,
        "open by path": errno.EACCES,
        "list the directory": errno.EACCES,
        "become Alice": errno.EPERM,
    }
    os.close(descriptor)
    broker.do("publish", directory=directory, temporary=answer["temporary"])
    found = (place / "file").stat()
    assert (found.st_uid, (place / "file").read_bytes()) == (ALICE, b"transferred")
