"""Root and spool: what may be a destination, publishing at once or not at all, and what an attacker leaves behind."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from tests.server.uploading import ACCESS_DENIED, INVALID, NO_PATH

from openbits.server.model import RefusedError
from openbits.server.storage import Storage, StorageError

ID = "{S}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With a folder `inbox`."""
    path = tmp_path / "root"
    (path / "inbox").mkdir(parents=True)
    return path


@pytest.fixture
def storage(tmp_path: Path, root: Path) -> Iterator[Storage]:
    """Open; the spool is beside the root."""
    storage = Storage(root, tmp_path / "spool")
    yield storage
    storage.close()


def fill(storage: Storage, data: bytes, session_id: str = ID) -> None:
    descriptor = storage.open_request(session_id)
    os.write(descriptor, data)
    os.close(descriptor)


def publish(storage: Storage, name: str, session_id: str = ID, *, mode: int = 0o640, overwrite: bool = False) -> None:
    storage.publish(session_id, PurePosixPath(name), mode=mode, allow_overwrites=overwrite)


def everything_below(path: Path) -> list[str]:
    return sorted(str(one.relative_to(path)) for one in path.rglob("*"))


def make_special(root: Path) -> None:
    (root / "inbox" / "file").write_text("theirs")
    (root / "inbox" / "folder").mkdir()
    (root / "outside").symlink_to("/")
    (root / "inner").symlink_to("inbox")
    (root / "inbox" / "link").symlink_to("file")
    (root / "inbox" / "broken").symlink_to("nothing")
    os.mkfifo(root / "inbox" / "pipe")


REFUSED = [
    pytest.param("none/a", (404, NO_PATH), id="S5.4-no-parent"),
    pytest.param("inbox/file/a", (404, NO_PATH), id="S5.4-parent-is-a-file"),
    pytest.param("inbox/folder", (400, INVALID), id="S5.4-directory"),
    pytest.param(".", (400, INVALID), id="S5.4-root"),
    pytest.param("inbox/file", (403, ACCESS_DENIED), id="D12-exists"),
    pytest.param("inbox/link", (403, ACCESS_DENIED), id="S13-symlink"),
    pytest.param("inbox/broken", (403, ACCESS_DENIED), id="S13-broken-symlink"),
    pytest.param("inbox/pipe", (403, ACCESS_DENIED), id="S13-fifo"),
    pytest.param("outside/tmp/a", (403, ACCESS_DENIED), id="S13-symlink-out"),
    pytest.param("inner/a", (403, ACCESS_DENIED), id="S13-symlink-inside"),
    pytest.param("../a", (403, ACCESS_DENIED), id="S13-dot-dot"),
    pytest.param("inbox/../inbox/a", (403, ACCESS_DENIED), id="S13-dot-dot-inside"),
    pytest.param("/tmp/a", (403, ACCESS_DENIED), id="S13-absolute"),  # noqa: S108
]


@pytest.mark.parametrize(("name", "expected"), REFUSED)
def test_a_destination_is_refused_before_anything_is_created(
    storage: Storage, root: Path, tmp_path: Path, name: str, expected: tuple[int, int]
) -> None:
    make_special(root)
    fill(storage, b"0123")
    before = everything_below(tmp_path)
    with pytest.raises(RefusedError) as caught:
        storage.check_destination(PurePosixPath(name), allow_overwrites=False)
    assert (caught.value.status, caught.value.hresult) == expected
    with pytest.raises(RefusedError) as caught:
        publish(storage, name)
    assert (caught.value.status, caught.value.hresult) == expected
    assert everything_below(tmp_path) == before
    assert (root / "inbox" / "file").read_text() == "theirs"


@pytest.mark.parametrize("name", ["inbox/folder", "inbox/link", "inbox/broken", "inbox/pipe"])
def test_d12_overwrites_replace_files_alone(storage: Storage, root: Path, name: str) -> None:
    make_special(root)
    fill(storage, b"0123")
    with pytest.raises(RefusedError):
        storage.check_destination(PurePosixPath(name), allow_overwrites=True)
    with pytest.raises(RefusedError):
        publish(storage, name, overwrite=True)
    assert (root / "inbox" / "file").read_text() == "theirs"


def test_a_good_destination_is_accepted_and_nothing_is_made(storage: Storage, root: Path) -> None:
    storage.check_destination(PurePosixPath("inbox/a"), allow_overwrites=False)
    (root / "inbox" / "b").write_text("theirs")
    storage.check_destination(PurePosixPath("inbox/b"), allow_overwrites=True)
    assert everything_below(root) == ["inbox", "inbox/b"]


@pytest.mark.root
def test_a_directory_in_which_the_server_may_not_write_is_refused_before_the_first_byte(
    storage: Storage, root: Path
) -> None:
    (root / "inbox").chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(RefusedError) as caught:
            storage.check_destination(PurePosixPath("inbox/a"), allow_overwrites=False)
    finally:
        os.seteuid(0)
    assert (caught.value.status, caught.value.hresult) == (403, ACCESS_DENIED)
    assert f"may not create files in {root}/inbox; make it writable" in caught.value.words


def test_d12_an_existing_file_is_replaced_at_once_if_that_is_allowed(storage: Storage, root: Path) -> None:
    target = root / "inbox" / "a"
    target.write_text("theirs, and longer")
    fill(storage, b"0123")
    with target.open() as reader:
        publish(storage, "inbox/a", overwrite=True)
        assert reader.read() == "theirs, and longer"  # who reads the old file reads the old file
    assert target.read_bytes() == b"0123"
    storage.remove([ID])
    assert (target.read_bytes(), target.stat().st_nlink) == (b"0123", 1)


@pytest.mark.parametrize("overwrite", [False, True])
def test_s5_4_publishing_again_after_a_crash_finds_its_own_file(
    storage: Storage, root: Path, *, overwrite: bool
) -> None:
    fill(storage, b"0123")
    for _ in range(2):
        publish(storage, "inbox/a", overwrite=overwrite)
    assert (root / "inbox" / "a").read_bytes() == b"0123"
    assert everything_below(root) == ["inbox", "inbox/a"]


def test_s5_4_a_replacement_that_a_crash_left_behind_does_no_harm(storage: Storage, root: Path, tmp_path: Path) -> None:
    (root / "inbox" / "a").write_text("theirs")
    fill(storage, b"0123")
    (tmp_path / "spool/BITS-Sessions/Requests" / ID / "replacement").write_text("older")
    publish(storage, "inbox/a", overwrite=True)
    assert (root / "inbox" / "a").read_bytes() == b"0123"


@pytest.mark.parametrize(("mode", "expected"), [(0o640, 0o640), (0o4777, 0o666), (0o600, 0o600)])
def test_s13_published_files_are_never_executable(storage: Storage, root: Path, mode: int, expected: int) -> None:
    fill(storage, b"0123")
    publish(storage, "inbox/a", mode=mode)
    assert (root / "inbox" / "a").stat().st_mode & 0o7777 == expected


@pytest.mark.root
def test_a_published_file_has_the_group_that_its_directory_gives(storage: Storage, root: Path) -> None:
    os.chown(root / "inbox", -1, 4321)
    (root / "inbox").chmod(0o2775)
    fill(storage, b"0123")
    publish(storage, "inbox/a")
    status = (root / "inbox" / "a").stat()
    assert (status.st_gid, status.st_mode & 0o7777) == (4321, 0o640)


def test_s5_5_a_request_file_that_vanished_is_404(storage: Storage) -> None:
    with pytest.raises(RefusedError) as caught:
        publish(storage, "inbox/a")
    assert (caught.value.status, caught.value.hresult) == (404, NO_PATH)
    assert ID not in caught.value.words, "§13: the log has no whole session ids"


def test_names_that_are_not_text_are_names(storage: Storage, root: Path) -> None:
    fill(storage, b"0123")
    name = os.fsdecode(b"\xff\xfe \xe4")
    publish(storage, f"inbox/{name}")
    assert os.listdir(os.fsencode(root / "inbox")) == [b"\xff\xfe \xe4"]  # noqa: PTH208


def test_the_spool_is_closed_to_everybody_who_does_not_know_an_id(storage: Storage, tmp_path: Path) -> None:
    fill(storage, b"0123")
    area = tmp_path / "spool" / "BITS-Sessions"
    assert [path.stat().st_mode & 0o777 for path in (area, area / "Requests", area / "Replies")] == [0o711] * 3
    assert (area / "Requests" / ID).stat().st_mode & 0o777 == 0o700
    assert (area / "Requests" / ID / "requestfile.bin").stat().st_mode & 0o777 == 0o600


def test_what_an_application_left_beside_its_reply_goes_and_what_it_points_to_stays(
    storage: Storage, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("stays")
    storage.prepare_reply(ID)
    place = storage.response_file(ID).parent
    (place / "link").symlink_to(precious)
    (place / "folder").mkdir()
    os.mkfifo(place / "folder" / "pipe")
    storage.remove([ID])
    assert not place.exists()
    assert (precious / "file").read_text() == "stays"


def test_a_response_that_is_no_regular_file_is_no_reply(storage: Storage, tmp_path: Path) -> None:
    storage.prepare_reply(ID)
    response = storage.response_file(ID)
    assert storage.open_reply(ID) is None
    os.mkfifo(response)
    assert storage.open_reply(ID) is None  # at once: a fifo would have us wait for a writer
    response.unlink()
    response.symlink_to(tmp_path / "x")
    assert storage.open_reply(ID) is None
    response.unlink()
    with contextlib.chdir(response.parent), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(response.name)
    assert storage.open_reply(ID) is None


def test_an_older_response_is_not_the_answer_to_a_new_call(storage: Storage) -> None:
    storage.prepare_reply(ID)
    storage.response_file(ID).write_text("of the call before")
    storage.prepare_reply(ID)
    assert storage.open_reply(ID) is None


@pytest.mark.parametrize("area", ["Requests", "Replies"])
def test_s5_4_what_an_ack_promises_has_its_names_on_the_disk_too(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, area: str
) -> None:
    fsync = os.fsync
    synced: set[int] = set()

    def noted(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    fill(storage, b"data")
    storage.prepare_reply(ID)
    storage.response_file(ID).write_bytes(b"reply")
    monkeypatch.setattr(os, "fsync", noted)
    if area == "Requests":
        storage.sync_request(ID)
    else:
        assert storage.sync_reply(ID)
    place = tmp_path / "spool" / "BITS-Sessions" / area
    assert {place.stat().st_ino, (place / ID).stat().st_ino} <= synced


def test_a_root_that_is_not_there_is_named_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=rf"cannot use {tmp_path}/none: No such file or directory; make it"):
        Storage(tmp_path / "none", tmp_path / "spool")
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("inner", ["", "BITS-Sessions", "BITS-Sessions/Requests", "BITS-Sessions/Replies"])
def test_s13_a_spool_in_which_everybody_may_rename_is_none(tmp_path: Path, root: Path, inner: str) -> None:
    folder = tmp_path / "spool" / inner
    folder.mkdir(parents=True)
    folder.chmod(0o1777)
    with pytest.raises(StorageError, match=rf"cannot use {folder}: .* or name another spool"):
        Storage(root, tmp_path / "spool")


@pytest.mark.root
def test_s13_a_spool_that_somebody_else_has_made_is_none(tmp_path: Path, root: Path) -> None:
    """In a folder like /tmp whoever is first owns the name."""
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o755)
    os.chown(spool, 65534, 65534)
    with pytest.raises(StorageError, match=rf"cannot use {spool}: somebody else owns it"):
        Storage(root, spool)


@contextlib.contextmanager
def memory_at(path: Path, size: str = "1m") -> Iterator[Path]:
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.root
def test_root_and_spool_must_be_on_one_file_system(tmp_path: Path, root: Path) -> None:
    with memory_at(tmp_path / "memory") as memory, pytest.raises(StorageError, match="another file system") as caught:
        Storage(root, memory / "spool")
    assert "beside the root" in str(caught.value)


@pytest.mark.root
def test_a_destination_on_another_mount_is_refused_before_the_first_byte(storage: Storage, root: Path) -> None:
    (root / "other").mkdir()
    with memory_at(root / "other"):
        with pytest.raises(RefusedError) as caught:
            storage.check_destination(PurePosixPath("other/a"), allow_overwrites=False)
        assert (caught.value.status, caught.value.hresult) == (500, 0x80070011)
        assert "another file system" in caught.value.words


@pytest.mark.root
def test_a_bind_mount_of_the_same_file_system_is_another_mount(storage: Storage, root: Path, tmp_path: Path) -> None:
    (root / "bound").mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "spool", root / "bound"], check=True)
    try:
        with pytest.raises(RefusedError) as caught:
            storage.check_destination(PurePosixPath("bound/a"), allow_overwrites=False)
        assert caught.value.hresult == 0x80070011
    finally:
        subprocess.run(["umount", root / "bound"], check=True)
