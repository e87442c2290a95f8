"""Landlock by itself, in a process of its own; no root needed (identity.md §11)."""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from openbits.identity import landlock


@pytest.fixture
def errno_inside() -> Callable[..., int]:
    """`errno_inside(act, reads=…, changes=…)`: errno of an act in a child that confined itself; 0 if it succeeded."""

    def run(
        act: Callable[[], object],
        *,
        reads: Sequence[Path] = (),
        changes: Sequence[Path] = (),
        is_network_allowed: bool = False,
    ) -> int:
        pid = os.fork()
        if pid == 0:
            status = 255
            try:
                granted = [[os.open(path, os.O_PATH) for path in paths] for paths in (reads, changes)]
                _no_new_privileges()
                landlock.restrict(*granted, is_network_allowed=is_network_allowed)
                status = _errno_of(act)
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run


def _no_new_privileges() -> None:
    landlock._libc.prctl(38, 1, 0, 0, 0)


def _errno_of(act: Callable[[], object]) -> int:
    try:
        act()
    except OSError as error:
        return error.errno or 255
    return 0


def test_this_kernel_has_it() -> None:
    assert landlock.abi() >= 1


def test_a_file_is_granted_alone(errno_inside: Callable[..., int], tmp_path: Path) -> None:
    for name in ("file", "beside"):
        (tmp_path / name).write_text("x")
    file = tmp_path / "file"
    assert errno_inside(file.read_text, reads=[file]) == 0
    assert errno_inside((tmp_path / "beside").read_text, reads=[file]) == errno.EACCES
    assert errno_inside(lambda: file.write_text("y"), reads=[file]) == errno.EACCES
    assert errno_inside(lambda: os.listdir(tmp_path), reads=[file]) == errno.EACCES  # noqa: PTH208  # the call itself


def test_grants_count_below_their_directory_only(errno_inside: Callable[..., int], tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside / "deep", outside):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    assert errno_inside((inside / "deep" / "file").read_bytes, reads=[inside]) == 0
    assert errno_inside((outside / "file").read_bytes, reads=[inside]) == errno.EACCES
    assert errno_inside((inside / "deep" / "file").read_bytes) == errno.EACCES


def test_reading_is_not_changing(errno_inside: Callable[..., int], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    new = tmp_path / "new"
    forbidden: list[Callable[[], object]] = [lambda: file.write_text("y"), file.unlink, new.touch]
    for act in [*forbidden, lambda: os.truncate(file, 0), lambda: file.rename(new)]:
        assert errno_inside(act, reads=[tmp_path]) == errno.EACCES
    assert file.read_text() == "x"
    allowed: list[Callable[[], object]] = [new.touch, lambda: file.rename(new), new.unlink]
    for act in allowed:
        assert errno_inside(act, changes=[tmp_path]) == 0


def test_changing_does_not_cover_links_folders_and_execution(errno_inside: Callable[..., int], tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for act in (
        lambda: (tmp_path / "link").symlink_to("/etc"),
        (tmp_path / "folder").mkdir,
        lambda: os.mkfifo(tmp_path / "fifo"),
        lambda: os.execv(program, ["program"]),
    ):
        assert errno_inside(act, changes=[tmp_path]) == errno.EACCES


def test_a_descriptor_that_is_open_keeps_its_rights(errno_inside: Callable[..., int], tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert errno_inside(lambda: os.ftruncate(file.fileno(), 7)) == 0
        assert errno_inside(lambda: os.pwrite(file.fileno(), b"x", 0)) == 0
    assert (tmp_path / "file").stat().st_size == 7


@pytest.mark.skipif(landlock.abi() < 4, reason="Landlock of this kernel does not know TCP")
def test_network_goes_unless_it_is_allowed(errno_inside: Callable[..., int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def connect() -> None:
            socket.socket().connect(server.getsockname())

        assert errno_inside(connect) == errno.EACCES
        assert errno_inside(connect, is_network_allowed=True) == 0


@pytest.mark.skipif(landlock.abi() < 6, reason="Landlock of this kernel does not know signals")
def test_processes_outside_cannot_be_signalled(errno_inside: Callable[..., int]) -> None:
    assert errno_inside(lambda: os.kill(os.getppid(), 0)) == errno.EPERM
