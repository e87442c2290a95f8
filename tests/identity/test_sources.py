"""Files that are read to be copied, and what a copy keeps of them (jobs.md §8.5, §8.6, identity.md §12)."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openbits import channel
from openbits.identity import filecalls, paths, sources
from openbits.identity.path_errors import PathError
from openbits.identity.paths import Directory, Temporary

if TYPE_CHECKING:
    from tests.identity.conftest import BrokerProcess

StartBroker = Callable[..., "BrokerProcess"]
Refused = Callable[..., PathError]

LONG_AGO_NS = 1_000_000_000_123_456_789
ALICE, FRIENDS, BOB = 61_001, 61_009, 61_002
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 0xFFFFFFFF), (2, 4, BOB), (4, 4, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF))
)
"""u::rw- u:BOB:r-- g::r-- m::r-- o::---"""


@pytest.fixture
def file(place: Path) -> Path:
    made = place / "file"
    made.write_bytes(b"content")
    made.chmod(0o640)
    os.utime(made, ns=(1, LONG_AGO_NS))
    return made


@pytest.mark.usefixtures("bounded")
def test_a_file_is_opened_and_described(directory: Directory, file: Path, opener: filecalls.Opener) -> None:
    found, descriptor = sources.source(directory, b"file", opener)
    try:
        assert os.read(descriptor, 100) == b"content"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)
    status = file.stat()
    assert found == sources.Attributes(
        size_bytes=7, modified_ns=LONG_AGO_NS, mode=0o640, uid=status.st_uid, gid=status.st_gid, acl=None
    )


def _plant(place: Path, kind: str) -> None:
    path = place / "file"
    if kind == "symlink":
        (place / "other").write_bytes(b"not asked for")
        path.symlink_to(place / "other")
    elif kind == "dangling symlink":
        path.symlink_to(place / "nowhere")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


@pytest.mark.root
@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(
    ("kind", "number", "advice"),
    [
        ("symlink", errno.ELOOP, "name the file that it leads to"),
        ("dangling symlink", errno.ELOOP, "name the file that it leads to"),
        ("directory", errno.EISDIR, "name a file in it"),
        ("fifo", errno.EACCES, "only regular files"),
        ("socket", errno.EACCES, "only regular files"),
        ("device", errno.EACCES, "only regular files"),
        ("nothing", errno.ENOENT, "does not exist"),
    ],
)
def test_nothing_but_a_regular_file_is_opened(
    directory: Directory, place: Path, opener: filecalls.Opener, refused: Refused, kind: str, number: int, advice: str
) -> None:
    _plant(place, kind)
    error = refused(sources.source, directory, b"file", opener)
    assert (error.errno, error.step, error.subject) == (number, "read", bytes(place / "file"))
    assert advice in str(error)


@pytest.mark.usefixtures("bounded")
def test_a_file_with_more_names_is_read(directory: Directory, file: Path, opener: filecalls.Opener) -> None:
    """Unlike a temporary file: who may read it, the kernel decides."""
    os.link(file, file.with_name("another name"))
    os.close(sources.source(directory, b"file", opener)[1])


@pytest.mark.usefixtures("bounded")
def test_a_directory_that_was_replaced_is_not_read_from(
    directory: Directory, place: Path, opener: filecalls.Opener, refused: Refused
) -> None:
    place.rename(place.with_name("was"))
    place.mkdir()
    (place / "file").write_bytes(b"planted")
    assert refused(sources.source, directory, b"file", opener).step == "moved"
    (place / "file").unlink()
    place.rmdir()
    place.symlink_to(place.with_name("was"))
    assert refused(sources.source, directory, b"file", opener).step == "moved"


@pytest.mark.usefixtures("bounded")
def test_the_directory_of_a_source_is_fixed_whatever_is_in_it(
    place: Path, opener: filecalls.Opener, refused: Refused
) -> None:
    """Its name may be missing or anything, and nobody has to be able to write there: OPEN-31, jobs.md §10."""
    (place / "folder").mkdir()
    for name in ("missing", "folder"):
        found, last = paths.resolve(bytes(place / name), opener, is_source=True)
        assert (found.path, found.ino, last) == (bytes(place), place.stat().st_ino, name.encode())
    assert refused(paths.resolve, bytes(place / "folder"), opener).errno == errno.EISDIR
    assert refused(paths.resolve, bytes(place / "missing" / "x"), opener, is_source=True).step == "directory"


@pytest.mark.root
def test_who_may_not_read_is_told_whose_file_it_is(start_broker: StartBroker, open_tmp_path: Path) -> None:
    secret = open_tmp_path / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0o600)
    answer = start_broker(ALICE).fail("source", directory=_place(open_tmp_path), name="secret")
    assert (answer["errno"], answer["step"]) == (errno.EACCES, "read")
    assert f"as uid {ALICE}: it belongs to uid {secret.stat().st_uid} with mode 0600" in answer["text"]


def _place(folder: Path) -> dict[str, Any]:
    found = folder.stat()
    return {"path": str(folder), "dev": found.st_dev, "ino": found.st_ino}


# -- what the copy keeps


def like(**changes: Any) -> sources.Attributes:
    values = {"size_bytes": 7, "modified_ns": 0, "mode": 0o640, "uid": os.geteuid(), "gid": os.getegid(), "acl": None}
    return sources.Attributes(**{**values, **changes})


def test_a_mode_and_an_access_list_are_kept_until_the_file_has_its_name(
    directory: Directory,
    temporary: Temporary,
    place: Path,
    taken: Path,
    opener: filecalls.Opener,
    publish: Callable[..., None],
) -> None:
    sources.dress(directory, temporary, opener, like=like(acl=ACL), parts=["acl"])
    assert os.getxattr(taken, "system.posix_acl_access") == ACL
    publish(directory, temporary, umask=None, modified_ns=LONG_AGO_NS)
    found = (place / "file").stat()
    assert (found.st_mode & 0o7777, found.st_mtime_ns) == (0o640, LONG_AGO_NS)
    assert os.getxattr(place / "file", "system.posix_acl_access") == ACL


def test_a_mode_without_the_right_to_write_survives_publishing(
    directory: Directory, temporary: Temporary, place: Path, opener: filecalls.Opener, publish: Callable[..., None]
) -> None:
    sources.dress(directory, temporary, opener, like=like(mode=0o444), parts=["acl"])
    publish(directory, temporary, umask=None, modified_ns=None)
    assert (place / "file").stat().st_mode & 0o7777 == 0o444


def test_a_file_system_without_access_lists_gives_the_mode(
    directory: Directory,
    temporary: Temporary,
    taken: Path,
    opener: filecalls.Opener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no access lists")

    monkeypatch.setattr(os, "setxattr", refuse)
    sources.dress(directory, temporary, opener, like=like(acl=ACL), parts=["acl"])
    assert taken.stat().st_mode & 0o7777 == 0o640


def test_nobody_gives_a_file_away(
    directory: Directory, temporary: Temporary, opener: filecalls.Opener, refused: Refused
) -> None:
    sources.dress(directory, temporary, opener, like=like(), parts=["owner"])
    error = refused(sources.dress, directory, temporary, opener, like=like(uid=os.geteuid() + 1), parts=["owner"])
    assert (error.errno, error.step) == (errno.EPERM, "dress")


@pytest.mark.root
def test_a_group_is_kept_by_who_is_in_it(start_broker: StartBroker, open_tmp_path: Path) -> None:
    open_tmp_path.chmod(0o777)
    directory = _place(open_tmp_path)
    attributes = {"size_bytes": 0, "modified_ns": 0, "mode": 0o640, "uid": ALICE, "gid": FRIENDS, "acl": None}
    member = start_broker(ALICE, groups=[FRIENDS])
    made = member.make(directory)
    member.do("dress", directory=directory, temporary=made, like=attributes, parts=["owner", "group"])
    assert (open_tmp_path / made["name"]).stat().st_gid == FRIENDS
    stranger = start_broker(BOB)
    other = stranger.make(directory, ".BIT00000b0b.tmp")
    answer = stranger.fail("dress", directory=directory, temporary=other, like=attributes, parts=["group"])
    assert (answer["errno"], answer["step"]) == (errno.EPERM, "dress")
    assert f"in no group with gid {FRIENDS}" in answer["text"]


def test_only_our_own_temporary_is_dressed(
    directory: Directory, temporary: Temporary, taken: Path, opener: filecalls.Opener, refused: Refused
) -> None:
    taken.unlink()
    taken.write_bytes(b"planted")
    taken.chmod(0o600)
    error = refused(sources.dress, directory, temporary, opener, like=like(mode=0o666), parts=["acl"])
    assert error.step == "changed"
    assert taken.stat().st_mode & 0o777 == 0o600


SOURCE = {"directory": {"path": "/srv", "dev": 1, "ino": 1}, "name": "file"}
LIKE = {"size_bytes": 0, "modified_ns": 0, "mode": 0o640, "uid": 0, "gid": 0, "acl": None}
DRESS = {
    "directory": SOURCE["directory"],
    "temporary": {"name": ".BIT0123abcd.tmp", "dev": 1, "ino": 1, "birth_ns": 0, "uid": 0},
    "like": LIKE,
    "parts": ["acl"],
}


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "source", **SOURCE, "name": "../x"},
        {"op": "source", **SOURCE, "name": ""},
        {"op": "dress", **DRESS, "parts": ["everything"]},
        {"op": "dress", **DRESS, "parts": "acl"},
        {"op": "dress", **DRESS, "like": {**LIKE, "acl": "no hex"}},
        {"op": "dress", **DRESS, "like": {**LIKE, "mode": 0o4755}},
        {"op": "dress", **DRESS, "like": {**LIKE, "uid": -1}},
        {"op": "dress", **DRESS, "like": None},
    ],
    ids=repr,
)
def test_a_malformed_request_is_the_end(start_broker: StartBroker, request_: dict[str, Any]) -> None:
    broker = start_broker()
    channel.send(broker.control, {"id": 1, **request_})
    with pytest.raises(channel.ChannelClosedError):
        channel.receive(broker.control)
