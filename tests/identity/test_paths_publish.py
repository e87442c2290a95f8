"""P6 of the path recipe (identity.md §12): what a published file is, and that a crash loses nothing."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbits.identity import paths
from openbits.identity.filecalls import Opener
from openbits.identity.path_errors import PathError
from openbits.identity.paths import Directory, Publication, Temporary

RunAs = Callable[[int | None, Callable[[], Any]], Any]
Refused = Callable[..., PathError]
Publish = Callable[..., None]
Acts = Callable[[Directory, Temporary], dict[str, Callable[[], object]]]

LONG_AGO_NS = 784_111_777_123_456_789  # Sun, 06 Nov 1994 08:49:37 GMT and a bit

pytestmark = pytest.mark.usefixtures("bounded")


def names(place: Path) -> list[str]:
    """What is in a directory."""
    return sorted(each.name for each in place.iterdir())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0, 0o666), (0o777, 0)])
def test_the_published_file_has_mode_0666_less_the_umask_of_the_client(
    umask: int, mode: int, directory: Directory, place: Path, temporary: Temporary, publish: Publish
) -> None:
    publish(directory, temporary, umask=umask, modified_ns=None)
    assert names(place) == ["file"]
    found = (place / "file").stat()
    assert stat.S_IMODE(found.st_mode) == mode
    assert (found.st_uid, found.st_ino) == (os.geteuid(), temporary.ino)


def test_special_bits_are_never_published(
    directory: Directory, place: Path, temporary: Temporary, taken: Path, publish: Publish
) -> None:
    taken.chmod(0o6711)
    publish(directory, temporary)
    assert stat.S_IMODE((place / "file").stat().st_mode) == 0o644


def test_the_modification_time_is_that_of_the_remote_file(
    directory: Directory, place: Path, temporary: Temporary, taken: Path, publish: Publish
) -> None:
    os.utime(taken, ns=(1_000, 2_000))
    publish(directory, temporary, umask=0o022, modified_ns=LONG_AGO_NS)
    found = (place / "file").stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000, LONG_AGO_NS)


def test_without_a_remote_time_the_local_time_stays(
    directory: Directory, place: Path, temporary: Temporary, taken: Path, publish: Publish
) -> None:
    os.utime(taken, ns=(1_000, 2_000))
    publish(directory, temporary)
    assert (place / "file").stat().st_mtime_ns == 2_000


def test_publishing_replaces_an_existing_file(
    directory: Directory, place: Path, temporary: Temporary, publish: Publish
) -> None:
    (place / "file").write_bytes(b"old")
    publish(directory, temporary)
    assert names(place) == ["file"]
    assert (place / "file").read_bytes() == b"transferred"


@pytest.mark.attack(3)
def test_publishing_replaces_a_symlink_itself(
    directory: Directory, place: Path, temporary: Temporary, publish: Publish
) -> None:
    (place / "victim").write_bytes(b"precious")
    (place / "file").symlink_to("victim")
    publish(directory, temporary)
    assert not (place / "file").is_symlink()
    assert (place / "file").read_bytes() == b"transferred"
    assert (place / "victim").read_bytes() == b"precious"


def test_publishing_onto_a_directory_is_refused_and_works_once_it_is_gone(
    directory: Directory, place: Path, temporary: Temporary, publish: Publish, refused: Refused
) -> None:
    (place / "file").mkdir()
    error = refused(publish, directory, temporary)
    assert (error.errno, error.step, error.subject) == (errno.EISDIR, "publish", bytes(place / "file"))
    assert "it is a directory; choose another file name or move the directory away" in str(error)
    (place / "file").rmdir()
    publish(directory, temporary)
    assert (place / "file").read_bytes() == b"transferred"


def test_publishing_twice_is_publishing_once(
    directory: Directory, place: Path, temporary: Temporary, publish: Publish
) -> None:
    """The answer to the first request was lost in a crash: the manager asks again."""
    publish(directory, temporary)
    publish(directory, temporary)
    assert names(place) == ["file"]


def test_what_was_lost_is_not_published(
    directory: Directory, place: Path, temporary: Temporary, taken: Path, publish: Publish, refused: Refused
) -> None:
    taken.unlink()
    (place / "file").write_bytes(b"of somebody else")
    error = refused(publish, directory, temporary)
    assert (error.errno, error.step, error.subject) == (errno.ENOENT, "publish", bytes(taken))
    assert (place / "file").read_bytes() == b"of somebody else"


@pytest.mark.attack(2)
def test_a_file_that_takes_the_name_of_the_temporary_at_the_last_moment_is_not_published(
    directory: Directory,
    place: Path,
    temporary: Temporary,
    taken: Path,
    publish: Publish,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def swap(_: int) -> None:
        taken.rename(place / "away")
        taken.write_bytes(b"foreign")

    monkeypatch.setattr(os, "fsync", swap)
    assert refused(publish, directory, temporary).step == "changed"
    assert names(place) == [taken.name, "away"]


class PowerCutError(BaseException):
    """The machine stops here."""


class Calls:
    """What publishing asks of the kernel, in order; before the call number `cut_at` the machine stops."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self.cut_at: int | None = None
        for name in ("fchmod", "utime", "fsync", "rename"):
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            is_directory = name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            self.seen.append("fsync of the directory" if is_directory else name)
            if len(self.seen) == self.cut_at:
                raise PowerCutError
            return call(*arguments, **options)

        return watched


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_data_and_metadata_are_durable_before_the_name_and_the_name_before_the_answer(
    directory: Directory, temporary: Temporary, publish: Publish, calls: Calls
) -> None:
    publish(directory, temporary, umask=0o022, modified_ns=LONG_AGO_NS)
    assert calls.seen == ["fchmod", "utime", "fsync", "rename", "fsync of the directory"]


def test_of_several_files_all_are_durable_before_the_first_name_and_the_directory_is_synced_once(
    directory: Directory, place: Path, opener: Opener, calls: Calls
) -> None:
    files = []
    for number in range(3):
        temporary, descriptor = paths.create(directory, b".BIT0000000%d.tmp" % number, opener)
        os.close(descriptor)
        name = b"file%d" % number
        files.append(Publication(temporary=temporary, name=name, umask=0o022, modified_ns=LONG_AGO_NS))
    calls.seen.clear()
    assert paths.publish(directory, files, opener) == 3
    assert calls.seen == [*["fchmod", "utime"] * 3, *["fsync"] * 3, *["rename"] * 3, "fsync of the directory"]
    assert names(place) == ["file0", "file1", "file2"]


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_crash_anywhere_leaves_the_temporary_or_the_final_file_and_publishing_again_ends_it(
    cut: int, directory: Directory, place: Path, temporary: Temporary, taken: Path, publish: Publish, calls: Calls
) -> None:
    (place / "file").write_bytes(b"old")
    calls.cut_at = cut
    with pytest.raises(PowerCutError):
        publish(directory, temporary, umask=0o022, modified_ns=LONG_AGO_NS)
    is_renamed = cut == 5
    assert taken.exists() is not is_renamed
    assert (place / "file").read_bytes() == (b"transferred" if is_renamed else b"old")
    publish(directory, temporary, umask=0o022, modified_ns=LONG_AGO_NS)
    assert calls.seen[-1] == "fsync of the directory"
    found = (place / "file").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o644, LONG_AGO_NS)
    assert names(place) == ["file"]


@pytest.mark.parametrize("mode", [0, 0o444])
def test_a_crash_after_the_mode_was_set_is_cured_even_if_it_took_the_owner_the_right_to_write(
    mode: int, open_tmp_path: Path, opener: Opener, publish: Publish, run_as: RunAs, ordinary_uid: int | None
) -> None:
    place = open_tmp_path / "in"
    place.mkdir()
    place.chmod(0o777)

    def publish_again() -> list[int]:
        directory, name = paths.resolve(bytes(place / "file"), opener)
        temporary, descriptor = paths.create(directory, b".BIT0123abcd.tmp", opener)
        os.fchmod(descriptor, mode)
        os.close(descriptor)
        size_bytes, descriptor = paths.reopen(directory, temporary, opener)
        os.fchmod(descriptor, mode)
        os.close(descriptor)
        publish(directory, temporary, name=name, umask=0o666 & ~mode, modified_ns=None)
        return [size_bytes, stat.S_IMODE((place / "file").stat().st_mode)]

    assert run_as(ordinary_uid, publish_again) == [0, mode]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space or no inode is left on the file system; free some"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EIO, "input/output error; look into the kernel log"),
    ],
)
def test_what_the_disk_refuses_is_said_with_identity_object_and_next_step(
    number: int,
    words: str,
    directory: Directory,
    place: Path,
    temporary: Temporary,
    taken: Path,
    publish: Publish,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    error = refused(publish, directory, temporary)
    assert (error.errno, error.step, error.subject) == (number, "publish", bytes(place / "file"))
    assert str(error).startswith(f"cannot publish {place}/file as uid {os.geteuid()}: {words}")
    assert names(place) == [taken.name]
