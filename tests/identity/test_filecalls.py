"""The calls beneath the path recipe: two ways to open without following a symlink (P2, P10), and statx."""

import errno
import os
from pathlib import Path

import pytest

from openbits.identity import filecalls
from openbits.identity.filecalls import Opener


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_openat2_the_walk_is_chosen(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filecalls, "openat2", refuse)
    assert filecalls.choose_opener() is filecalls.walk


def test_another_failure_of_openat2_does_not_choose_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(filecalls, "openat2", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        filecalls.choose_opener()


def test_this_kernel_has_openat2() -> None:
    assert filecalls.choose_opener() is filecalls.openat2


def test_no_opener_follows_a_symlink_in_any_component(opener: Opener, tmp_path: Path) -> None:
    (tmp_path / "real" / "in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "last").symlink_to("in")
    os.close(opener(bytes(tmp_path / "real" / "in"), os.O_PATH | os.O_DIRECTORY))
    for path in (tmp_path / "link" / "in", tmp_path / "real" / "last"):
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            opener(bytes(path), os.O_PATH | os.O_DIRECTORY)


def test_openat2_does_not_leave_the_directory(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    dir_fd = os.open(tmp_path / "in", os.O_PATH)
    try:
        for path in (b"..", bytes(tmp_path)):
            with pytest.raises(OSError, match="cross-device"):
                filecalls.openat2(path, os.O_PATH, dir_fd=dir_fd)
    finally:
        os.close(dir_fd)


def test_statx_agrees_with_stat_and_does_not_follow(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    dir_fd = os.open(tmp_path, os.O_PATH)
    try:
        for name in ("file", "link"):
            found, expected = filecalls.statx(dir_fd, name.encode()), os.lstat(tmp_path / name)
            assert (found.mode, found.links, found.uid) == (expected.st_mode, expected.st_nlink, expected.st_uid)
            assert (found.dev, found.ino, found.size_bytes) == (expected.st_dev, expected.st_ino, expected.st_size)
        assert filecalls.statx(dir_fd).ino == tmp_path.stat().st_ino
        with pytest.raises(FileNotFoundError):
            filecalls.statx(dir_fd, b"missing")
    finally:
        os.close(dir_fd)
