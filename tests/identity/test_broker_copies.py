"""A file goes on under another identity: its broker copies the bytes into a file of its own (ops `read` and `copy`)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openbits import channel
from openbits.identity import filecalls
from openbits.identity.broker import COPY_BYTES

if TYPE_CHECKING:
    from tests.identity.conftest import BrokerProcess

StartBroker = Callable[..., "BrokerProcess"]

ALICE, BOB = 61_001, 61_002
BOBS, ALICES = ".BIT00000b0b.tmp", ".BIT000a11ce.tmp"
BYTES = b"transferred"
"""What `BrokerProcess.make` writes."""


@pytest.fixture
def shared(open_tmp_path: Path) -> Path:
    """A directory in which everybody may make files and nobody may remove those of others."""
    place = open_tmp_path / "shared"
    place.mkdir()
    place.chmod(0o1777)
    return place


@pytest.fixture
def directory(shared: Path) -> dict[str, Any]:
    found = shared.stat()
    return {"path": str(shared), "dev": found.st_dev, "ino": found.st_ino}


@pytest.fixture
def bobs(start_broker: StartBroker, directory: dict[str, Any]) -> tuple[BrokerProcess, dict[str, Any]]:
    """Bob's broker and the temporary file it made."""
    broker = start_broker(BOB)
    return broker, broker.make(directory, BOBS)


@pytest.fixture
def source(bobs: tuple[BrokerProcess, dict[str, Any]], directory: dict[str, Any]) -> Iterator[int]:
    """A descriptor that Bob's broker passed."""
    broker, temporary = bobs
    answer, (descriptor,) = broker.ask("read", directory=directory, temporary=temporary)
    assert answer == {"ok": True}
    yield descriptor
    os.close(descriptor)


def ask_for_copy(
    broker: BrokerProcess, descriptors: list[int], directory: dict[str, Any], temporary: dict[str, Any], **fields: Any
) -> channel.Message:
    request = {"id": 7, "op": "copy", "directory": directory, "temporary": temporary, "offset": 0, **fields}
    channel.send(broker.control, {"length": len(BYTES), **request}, descriptors)
    answer, received = channel.receive(broker.control)
    assert received == []
    return answer


@pytest.mark.root
def test_the_bytes_of_one_identity_go_on_in_a_file_of_another(
    start_broker: StartBroker, directory: dict[str, Any], shared: Path, source: int
) -> None:
    alice = start_broker(ALICE, confined_to=shared)
    temporary = alice.do("create", directory=directory, name=ALICES)["temporary"]
    for offset, length in ((0, 5), (5, 6)):
        answer = ask_for_copy(alice, [source], directory, temporary, offset=offset, length=length)
        assert answer == {"reply": 7, "ok": True}
    made = (shared / ALICES).stat()
    assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (ALICE, 0o600)
    assert (shared / ALICES).read_bytes() == (shared / BOBS).read_bytes() == BYTES


@pytest.mark.root
def test_the_passed_descriptor_reads_and_does_not_write(source: int) -> None:
    assert os.pread(source, 100, 0) == BYTES
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(source, b"x", 0)


@pytest.mark.root
def test_who_may_not_read_a_file_of_another_hears_whose_it_is(
    start_broker: StartBroker, directory: dict[str, Any], bobs: tuple[BrokerProcess, dict[str, Any]], shared: Path
) -> None:
    answer = start_broker(ALICE).fail("read", directory=directory, temporary=bobs[1])
    text = f"cannot read {shared}/{BOBS} as uid {ALICE}: uid {BOB} made it with mode 0600"
    assert answer == {"errno": errno.EACCES, "step": "read", "subject": f"{shared}/{BOBS}", "text": text}


@pytest.mark.root
def test_the_kernel_lets_read_what_is_open_to_others(
    start_broker: StartBroker, directory: dict[str, Any], bobs: tuple[BrokerProcess, dict[str, Any]], shared: Path
) -> None:
    (shared / BOBS).chmod(0o644)
    _, (descriptor,) = start_broker(ALICE).ask("read", directory=directory, temporary=bobs[1])
    assert os.pread(descriptor, 100, 0) == BYTES
    os.close(descriptor)


@pytest.mark.root
@pytest.mark.parametrize("how", ["replaced", "linked", "symlink"])
def test_what_is_not_the_recorded_file_is_not_read(
    how: str,
    start_broker: StartBroker,
    directory: dict[str, Any],
    bobs: tuple[BrokerProcess, dict[str, Any]],
    shared: Path,
) -> None:
    """P4: the old owner puts something else in its place, or keeps a second name of it."""
    path = shared / BOBS
    if how == "linked":
        (shared / "second").hardlink_to(path)
    else:
        path.rename(shared / "away")
        path.symlink_to("away") if how == "symlink" else path.write_bytes(b"forged bytes")
        os.chown(path, BOB, BOB, follow_symlinks=False)
    for broker in (bobs[0], start_broker(ALICE)):
        assert broker.fail("read", directory=directory, temporary=bobs[1])["step"] == "changed"


@pytest.mark.root
def test_bytes_are_copied_into_ones_own_file_only(
    start_broker: StartBroker,
    directory: dict[str, Any],
    bobs: tuple[BrokerProcess, dict[str, Any]],
    shared: Path,
    source: int,
) -> None:
    """Also where the kernel would allow it: further bytes must not land where somebody else can change them."""
    (shared / BOBS).chmod(0o666)
    answer = ask_for_copy(start_broker(ALICE), [source], directory, bobs[1])
    assert (answer["ok"], answer["step"]) == (False, "changed")


def test_a_source_that_was_cut_is_told(tmp_path: Path, start_broker: StartBroker) -> None:
    found = tmp_path.stat()
    directory = {"path": str(tmp_path), "dev": found.st_dev, "ino": found.st_ino}
    broker = start_broker()
    temporary = broker.do("create", directory=directory, name=ALICES)["temporary"]
    (tmp_path / "source").write_bytes(BYTES[:-1])
    with (tmp_path / "source").open("rb") as source:
        answer = ask_for_copy(broker, [source.fileno()], directory, temporary)
    assert (answer["errno"], answer["step"]) == (errno.ENODATA, "copy")
    assert answer["text"].endswith("somebody cut the file that it is made from")


@pytest.mark.parametrize("wrong", ["none", "two", "pipe", "directory", "too long", "no offset"])
def test_a_malformed_copy_ends_the_broker(wrong: str, tmp_path: Path, start_broker: StartBroker) -> None:
    """A pipe would make it wait for ever, a long copy keep the others waiting."""
    found = tmp_path.stat()
    directory = {"path": str(tmp_path), "dev": found.st_dev, "ino": found.st_ino}
    broker = start_broker()
    temporary = broker.make(directory)
    regular, folder = os.open(tmp_path / temporary["name"], os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    reading, writing = os.pipe()
    passed = {"none": [], "two": [regular, regular], "pipe": [reading], "directory": [folder]}.get(wrong, [regular])
    odd: dict[str, dict[str, Any]] = {"too long": {"length": COPY_BYTES + 1}, "no offset": {"offset": None}}
    with pytest.raises(channel.ChannelClosedError):
        ask_for_copy(broker, passed, directory, temporary, **odd.get(wrong, {}))
    channel.close_all([regular, folder, reading, writing])
    assert broker.wait() == 0


@pytest.mark.parametrize("refusal", [None, errno.EXDEV, errno.ENOSYS, errno.EPERM])
def test_bytes_are_copied_with_and_without_the_kernels_help(
    refusal: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        assert refusal is not None
        raise OSError(refusal, "refused")

    if refusal is not None:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    data = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(data)
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("wb") as target:
        ends = (source.fileno(), target.fileno())
        assert filecalls.copy_range(*ends, 100, 2_000_000) == 2_000_000
        assert filecalls.copy_range(*ends, 0, 100) == 100
        assert filecalls.copy_range(*ends, 2_000_100, 5_000_000) == 999_900
    assert (tmp_path / "target").read_bytes() == data


def test_a_disk_that_fails_is_not_taken_for_a_kernel_that_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "copy_file_range", fail)
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="full"):
        filecalls.copy_range(file.fileno(), file.fileno(), 0, 1)
