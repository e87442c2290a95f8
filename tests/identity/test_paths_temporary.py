"""P4, P5 and P7 of the path recipe (identity.md §12): a temporary file and its impostors."""

import dataclasses
import errno
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openbits.identity import paths
from openbits.identity.filecalls import Opener
from openbits.identity.path_errors import PathError
from openbits.identity.paths import Directory, Publication, Temporary

RunAs = Callable[[int | None, Callable[[], Any]], Any]
Refused = Callable[..., PathError]
Publish = Callable[[Directory, Temporary], None]
Acts = Callable[[Directory, Temporary], dict[str, Callable[[], object]]]

NAME = b".BIT0123abcd.tmp"

pytestmark = pytest.mark.usefixtures("bounded")


def names(place: Path) -> list[str]:
    """What is in a directory."""
    return sorted(each.name for each in place.iterdir())


# -- P4, P5: reopen ----------------------------------------------------------------------------------------------------


def test_a_temporary_file_is_reopened_with_its_bytes(
    directory: Directory, temporary: Temporary, taken: Path, opener: Opener
) -> None:
    size_bytes, descriptor = paths.reopen(directory, temporary, opener)
    try:
        assert size_bytes == len(b"transferred")
        os.pwrite(descriptor, b"!", size_bytes)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.read(descriptor, 1)
    finally:
        os.close(descriptor)
    assert taken.read_bytes() == b"transferred!"


def test_a_vanished_temporary_file_cannot_be_reopened(
    directory: Directory, temporary: Temporary, taken: Path, opener: Opener, refused: Refused
) -> None:
    taken.unlink()
    error = refused(paths.reopen, directory, temporary, opener)
    assert (error.errno, error.step) == (errno.ENOENT, "reopen")


def _symlink(taken: Path, victim: Path) -> None:
    taken.unlink()
    taken.symlink_to(victim)


def _other_file(taken: Path, _victim: Path) -> None:
    taken.rename(taken.with_name("moved-away"))
    taken.write_bytes(b"foreign")


def _hard_link_of_another(taken: Path, victim: Path) -> None:
    taken.unlink()
    taken.hardlink_to(victim)


def _fifo(taken: Path, _victim: Path) -> None:
    taken.unlink()
    os.mkfifo(taken)


def _folder(taken: Path, _victim: Path) -> None:
    taken.unlink()
    taken.mkdir()


IMPOSTORS = [_symlink, _other_file, _hard_link_of_another, _fifo, _folder]


@pytest.mark.parametrize("plant", IMPOSTORS)
@pytest.mark.parametrize("act", ["reopen", "publish", "remove"])
@pytest.mark.attack(2)
def test_an_impostor_is_recognised_and_nothing_foreign_is_touched(
    act: str,
    plant: Callable[[Path, Path], None],
    directory: Directory,
    place: Path,
    temporary: Temporary,
    taken: Path,
    acts: Acts,
    refused: Refused,
) -> None:
    victim = place / "victim"
    victim.write_bytes(b"precious")
    victim.chmod(0o640)
    plant(taken, victim)
    before = {each: os.lstat(place / each) for each in names(place)}
    error = refused(acts(directory, temporary)[act])
    assert (error.errno, error.step, error.subject) == (errno.EACCES, "changed", bytes(taken))
    assert {each: os.lstat(place / each) for each in names(place)} == before
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("act", ["reopen", "publish"])
@pytest.mark.attack(2)
def test_a_second_name_of_the_temporary_file_is_not_accepted(
    act: str, directory: Directory, place: Path, temporary: Temporary, taken: Path, acts: Acts, refused: Refused
) -> None:
    (place / "second").hardlink_to(taken)
    error = refused(acts(directory, temporary)[act])
    assert (error.step, error.errno) == ("changed", errno.EACCES)
    assert "2 names" in str(error)


@pytest.mark.parametrize("change", [{"birth_ns": 1}, {"uid": 1}, {"ino": 1}, {"dev": 1}])
@pytest.mark.parametrize("act", ["reopen", "publish", "remove"])
def test_device_inode_birth_and_owner_must_all_agree(
    act: str,
    change: dict[str, int],
    directory: Directory,
    temporary: Temporary,
    taken: Path,
    acts: Acts,
    refused: Refused,
) -> None:
    """An inode is given out again: the birth time tells its new file from ours."""
    values = {key: getattr(temporary, key) + by for key, by in change.items()}
    error = refused(acts(directory, dataclasses.replace(temporary, **values))[act])
    assert error.step == "changed"
    assert taken.read_bytes() == b"transferred"


@pytest.mark.parametrize("plant", [_symlink, _other_file, _hard_link_of_another, _fifo])
@pytest.mark.parametrize("act", ["reopen", "publish"])
@pytest.mark.attack(2)
def test_an_impostor_that_appears_between_check_and_open_is_recognised_too(
    act: str,
    plant: Callable[[Path, Path], None],
    directory: Directory,
    place: Path,
    temporary: Temporary,
    taken: Path,
    opener: Opener,
    refused: Refused,
) -> None:
    victim = place / "victim"
    victim.write_bytes(b"precious")
    mode = victim.stat().st_mode

    def late(path: bytes, flags: int, *, mode: int = 0, dir_fd: int = -100, follow: bool = False) -> int:
        if path == NAME:
            plant(taken, victim)
        return opener(path, flags, mode=mode, dir_fd=dir_fd, follow=follow)

    if act == "reopen":
        error = refused(paths.reopen, directory, temporary, late)
    else:
        file = Publication(temporary=temporary, name=b"file", umask=0, modified_ns=0)
        error = refused(paths.publish, directory, [file], late)
    assert error.step == "changed"
    assert (victim.read_bytes(), victim.stat().st_mode) == (b"precious", mode)
    assert not (place / "file").exists()


@pytest.fixture
def leased(temporary: Temporary, taken: Path) -> Iterator[Temporary]:
    """Its owner has a lease, and does not let go of it when the kernel asks (until lease-break-time, 45 s)."""
    with taken.open("rb") as held:
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield temporary
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        signal.signal(signal.SIGIO, before)


@pytest.mark.parametrize("act", ["read", "reopen", "publish"])
def test_a_lease_on_the_file_keeps_nobody_waiting(
    act: str, directory: Directory, leased: Temporary, place: Path, opener: Opener, acts: Acts, refused: Refused
) -> None:
    """P5: O_NONBLOCK. The same file can be opened when the lease has ended."""
    error = refused({**acts(directory, leased), "read": lambda: paths.read(directory, leased, opener)}[act])
    assert (error.errno, error.step) == (errno.EAGAIN, act)
    assert "another process holds a lease on it" in str(error)
    assert names(place) == [NAME.decode()]


# -- P7: remove --------------------------------------------------------------------------------------------------------


def test_a_temporary_file_is_removed_once_and_its_absence_is_success(
    directory: Directory, place: Path, temporary: Temporary, opener: Opener
) -> None:
    paths.remove(directory, temporary, opener)
    assert names(place) == []
    paths.remove(directory, temporary, opener)


def test_a_removal_is_durable_before_the_answer(
    directory: Directory, temporary: Temporary, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    paths.remove(directory, temporary, opener)
    assert synced == [directory.ino]


def test_removing_takes_our_name_even_if_the_file_has_another(
    directory: Directory, place: Path, temporary: Temporary, taken: Path, opener: Opener
) -> None:
    (place / "second").hardlink_to(taken)
    paths.remove(directory, temporary, opener)
    assert names(place) == ["second"]


class TestAnAnnouncedTemporary:
    """The manager committed the name, then the machine stopped: nobody knows whether the file was made."""

    @pytest.fixture
    def announced(self, directory: Directory) -> Temporary:
        return Temporary(name=NAME, dev=directory.dev, ino=0, birth_ns=0, uid=os.geteuid())

    def test_that_was_not_made(self, directory: Directory, opener: Opener, announced: Temporary) -> None:
        paths.remove(directory, announced, opener)

    def test_that_was_made(self, directory: Directory, place: Path, opener: Opener, announced: Temporary) -> None:
        os.close(paths.create(directory, NAME, opener)[1])
        paths.remove(directory, announced, opener)
        assert names(place) == []

    def test_whose_name_somebody_else_uses(
        self, directory: Directory, place: Path, taken: Path, opener: Opener, refused: Refused, announced: Temporary
    ) -> None:
        victim = place / "victim"
        victim.touch()
        for plant in (
            lambda: taken.write_bytes(b"not empty"),
            lambda: taken.symlink_to(victim),
            lambda: taken.hardlink_to(victim),
            lambda: os.mkfifo(taken),
        ):
            plant()
            assert refused(paths.remove, directory, announced, opener).step == "changed"
            taken.unlink()
        assert victim.exists()

    def test_is_never_published_or_reopened(
        self, directory: Directory, opener: Opener, publish: Publish, refused: Refused, announced: Temporary
    ) -> None:
        os.close(paths.create(directory, NAME, opener)[1])
        assert refused(paths.reopen, directory, announced, opener).step == "changed"
        assert refused(publish, directory, announced).step == "changed"
