"""P1 to P3 of the path recipe (identity.md §12), in both ways to open: directory and creation."""

import dataclasses
import errno
import os
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbits.identity import filecalls, paths
from openbits.identity.filecalls import Opener
from openbits.identity.path_errors import PathError
from openbits.identity.paths import Directory, Temporary

RunAs = Callable[[int | None, Callable[[], Any]], Any]
Refused = Callable[..., PathError]
Publish = Callable[[Directory, Temporary], None]
Acts = Callable[[Directory, Temporary], dict[str, Callable[[], object]]]

NAME = b".BIT0123abcd.tmp"

pytestmark = pytest.mark.usefixtures("bounded")


def names(place: Path) -> list[str]:
    """What is in a directory."""
    return sorted(each.name for each in place.iterdir())


# -- P1: the directory is resolved once --------------------------------------------------------------------------------


def test_a_destination_gets_the_canonical_path_and_the_identity_of_its_directory(
    opener: Opener, tmp_path: Path
) -> None:
    real = tmp_path / "real"
    (real / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    found, name = paths.resolve(bytes(tmp_path / "link" / "deep" / "file"), opener)
    expected = (real / "deep").stat()
    assert found == Directory(path=bytes(real / "deep"), dev=expected.st_dev, ino=expected.st_ino)
    assert name == b"file"


def test_a_name_need_not_be_utf_8(opener: Opener, tmp_path: Path) -> None:
    place = os.path.join(bytes(tmp_path), b"caf\xe9")  # noqa: PTH118  # bytes
    os.mkdir(place)  # noqa: PTH102
    found, name = paths.resolve(place + b"/na\xefve", opener)
    assert (found.path, name) == (place, b"na\xefve")


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (b"", errno.EINVAL),
        (b"relative/file", errno.EINVAL),
        (b"/tmp/nul\0byte", errno.EINVAL),
        (b"/tmp/../etc/file", errno.EINVAL),
        (b"/tmp/./file", errno.EINVAL),
        (b"//tmp/file", errno.EINVAL),
        (b"/tmp/..", errno.EINVAL),
        (b"/", errno.EISDIR),
        (b"/tmp/", errno.EISDIR),
        (b"/tmp/" + b"n" * 256, errno.ENAMETOOLONG),
        (b"/" + b"n" * 256 + b"/file", errno.ENAMETOOLONG),
        (b"/tmp" + b"/nnn" * 1023 + b"/", errno.ENAMETOOLONG),
    ],
)
def test_a_path_that_breaks_the_rules_is_refused(path: bytes, number: int, opener: Opener, refused: Refused) -> None:
    error = refused(paths.resolve, path, opener)
    assert (error.errno, error.step, error.subject) == (number, "directory", path)


def test_a_name_of_255_bytes_is_accepted(opener: Opener, tmp_path: Path) -> None:
    assert paths.resolve(bytes(tmp_path) + b"/" + b"n" * 255, opener)[1] == b"n" * 255


def test_a_missing_directory_is_named_by_its_first_missing_component(
    opener: Opener, refused: Refused, tmp_path: Path
) -> None:
    error = refused(paths.resolve, bytes(tmp_path / "no" / "such" / "file"), opener)
    assert (error.errno, error.step) == (errno.ENOENT, "directory")
    assert f"{tmp_path}/no does not exist; make the directory first" in str(error)


def test_a_file_on_the_way_is_not_a_directory(opener: Opener, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "note").touch()
    error = refused(paths.resolve, bytes(tmp_path / "note" / "file"), opener)
    assert (error.errno, error.step) == (errno.ENOTDIR, "directory")
    assert f"{tmp_path}/note is not a directory" in str(error)


def test_a_symlink_loop_and_an_endless_chain_are_refused(opener: Opener, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert refused(paths.resolve, bytes(tmp_path / "a" / "file"), opener).errno == errno.ELOOP
    for number in range(2000):
        (tmp_path / f"{number}").symlink_to(f"{number + 1}")
    (tmp_path / "2000").mkdir()
    assert refused(paths.resolve, bytes(tmp_path / "0" / "file"), opener).errno == errno.ELOOP


def test_an_existing_file_or_symlink_may_be_the_destination(opener: Opener, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "to-directory").symlink_to("/")
    for name in ("file", "link", "to-directory"):
        assert paths.resolve(bytes(tmp_path / name), opener)[1] == name.encode()


def test_an_existing_directory_may_not_be_the_destination(opener: Opener, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    error = refused(paths.resolve, bytes(tmp_path / "folder"), opener)
    assert (error.errno, error.step) == (errno.EISDIR, "directory")
    assert f"{tmp_path}/folder as uid {os.geteuid()}: it is a directory" in str(error)


@pytest.mark.attack(6)
def test_a_fifo_socket_or_device_may_not_be_the_destination(opener: Opener, refused: Refused, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "fifo", tmp_path / "socket", Path("/dev/null")):
            error = refused(paths.resolve, bytes(path), opener)
            assert (error.errno, error.step) == (errno.EEXIST, "directory")


@pytest.mark.attack(7)
def test_a_magic_link_leads_nowhere_new(opener: Opener, refused: Refused, tmp_path: Path) -> None:
    """reliability.md §6 row 7: refused by openat2; without it resolved to the plain path, which is what counts."""
    with_magic = f"/proc/self/root{tmp_path}/file".encode()
    if opener is filecalls.openat2:
        assert refused(paths.resolve, with_magic, opener).errno == errno.ELOOP
    else:
        assert paths.resolve(with_magic, opener)[0].path == bytes(tmp_path)


def test_who_may_not_create_files_hears_which_right_is_missing(
    opener: Opener, refused: Refused, open_tmp_path: Path, run_as: RunAs, ordinary_uid: int | None
) -> None:
    place = open_tmp_path / "in"
    place.mkdir()
    owner = place.stat()

    def told() -> list[object]:
        error = refused(paths.resolve, bytes(place / "file"), opener)
        return [error.errno, error.step, os.fsdecode(error.subject), str(error)]

    for mode in (0o555, 0o666):
        place.chmod(mode)
        number, step, subject, text = run_as(ordinary_uid, told)
        assert (number, step, subject) == (errno.EACCES, "directory", str(place))
        uid = os.geteuid() if ordinary_uid is None else ordinary_uid
        rights = f"(mode 0{mode:o}, owner {owner.st_uid}:{owner.st_gid})"
        assert text.startswith(f"uid {uid} may not create files in {place} {rights}")
    place.chmod(0o755)


def test_who_may_not_pass_hears_which_directory_is_closed(
    opener: Opener, refused: Refused, open_tmp_path: Path, run_as: RunAs, ordinary_uid: int | None
) -> None:
    closed = open_tmp_path / "closed"
    (closed / "in").mkdir(parents=True)
    (open_tmp_path / "link").symlink_to("closed/in")
    closed.chmod(0)

    def told(parent: str) -> Callable[[], list[object]]:
        def resolve() -> list[object]:
            error = refused(paths.resolve, bytes(open_tmp_path / parent / "file"), opener)
            return [error.errno, error.step, str(error)]

        return resolve

    number, step, text = run_as(ordinary_uid, told("closed/in"))
    assert (number, step) == (errno.EACCES, "directory")
    assert f"may not enter {closed} (mode 0000, owner" in text
    number, step, text = run_as(ordinary_uid, told("link"))
    assert (number, step) == (errno.EACCES, "directory")
    assert f"may not go where {open_tmp_path}/link leads" in text
    closed.chmod(0o755)


# -- P2: the directory is still that one -------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["create", "reopen", "publish", "remove"])
class TestAnotherDirectory:
    """Somebody put another directory where the destination directory was: nothing is touched in it."""

    def test_with_the_same_path(
        self,
        act: str,
        directory: Directory,
        place: Path,
        temporary: Temporary,
        taken: Path,
        acts: Acts,
        refused: Refused,
    ) -> None:
        place.rename(place.with_name("away"))
        place.mkdir()
        taken.write_bytes(b"foreign")
        error = refused(acts(directory, temporary)[act])
        assert (error.errno, error.step, error.subject) == (errno.EACCES, "moved", directory.path)
        assert names(place) == [taken.name]

    def test_through_a_symlink_even_to_the_right_one(
        self, act: str, directory: Directory, place: Path, temporary: Temporary, acts: Acts, refused: Refused
    ) -> None:
        place.rename(place.with_name("away"))
        place.symlink_to("away")
        assert refused(acts(directory, temporary)[act]).step == "moved"

    def test_through_a_symlink_further_up(
        self, act: str, opener: Opener, acts: Acts, refused: Refused, tmp_path: Path
    ) -> None:
        (tmp_path / "up" / "in").mkdir(parents=True)
        directory, _ = paths.resolve(bytes(tmp_path / "up" / "in" / "file"), opener)
        made, descriptor = paths.create(directory, NAME, opener)
        os.close(descriptor)
        (tmp_path / "up").rename(tmp_path / "away")
        (tmp_path / "up").symlink_to("away")
        assert refused(acts(directory, made)[act]).step == "moved"

    def test_on_another_volume(
        self, act: str, directory: Directory, temporary: Temporary, acts: Acts, refused: Refused
    ) -> None:
        elsewhere = dataclasses.replace(directory, dev=directory.dev + 1)
        error = refused(acts(elsewhere, temporary)[act])
        assert (error.errno, error.step, error.subject) == (errno.ESTALE, "volume", directory.path)

    def test_or_none_at_all(
        self, act: str, directory: Directory, place: Path, temporary: Temporary, acts: Acts, refused: Refused
    ) -> None:
        place.rename(place.with_name("away"))
        error = refused(acts(directory, temporary)[act])
        assert (error.errno, error.step, error.subject) == (errno.ENOENT, "directory", directory.path)


# -- P3: create --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_temporary_file_is_private_and_open_for_writing_only(
    umask: int, directory: Directory, place: Path, taken: Path, opener: Opener
) -> None:
    before = time.time_ns()
    previous = os.umask(umask)
    try:
        made, descriptor = paths.create(directory, NAME, opener)
    finally:
        os.umask(previous)
    try:
        found = os.fstat(descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.read(descriptor, 1)
        assert os.write(descriptor, b"x") == 1
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)
    assert stat.S_ISREG(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert (made.name, made.dev, made.ino, made.uid) == (NAME, found.st_dev, found.st_ino, os.geteuid())
    assert before - 1_000_000_000 < made.birth_ns < time.time_ns()
    assert names(place) == [taken.name]


def test_a_name_that_is_taken_is_never_reused(
    directory: Directory, place: Path, taken: Path, opener: Opener, refused: Refused
) -> None:
    victim = place / "victim"
    for plant in (lambda: taken.write_bytes(b""), lambda: taken.symlink_to(victim), lambda: os.mkfifo(taken)):
        plant()
        error = refused(paths.create, directory, NAME, opener)
        assert (error.errno, error.step) == (errno.EEXIST, "create")
        assert error.subject == directory.path + b"/" + NAME
        taken.unlink()
    assert not victim.exists()


def test_a_file_that_the_file_system_gives_to_somebody_else_is_not_kept(
    directory: Directory, place: Path, opener: Opener, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root on a network file system that squashes it: our uid is not the owner of what we make."""
    someone_else = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: someone_else)
    error = refused(paths.create, directory, NAME, opener)
    assert (error.errno, error.step) == (errno.EPERM, "create")
    assert names(place) == []
