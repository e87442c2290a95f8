"""A small file as a sealed copy in memory, for who may not have a descriptor of the file itself (op `snapshot`)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openbits import channel
from openbits.identity import snapshots

if TYPE_CHECKING:
    from tests.identity.conftest import BrokerProcess

StartBroker = Callable[..., "BrokerProcess"]

ALICE, BOB = 61_001, 61_002
BYTES = b"transferred"
"""What `BrokerProcess.make` writes."""


@pytest.fixture
def shared(open_tmp_path: Path) -> Path:
    """A directory in which everybody may make files."""
    place = open_tmp_path / "shared"
    place.mkdir()
    place.chmod(0o1777)
    return place


@pytest.fixture
def directory(shared: Path) -> dict[str, Any]:
    found = shared.stat()
    return {"path": str(shared), "dev": found.st_dev, "ino": found.st_ino}


@pytest.fixture
def alice(start_broker: StartBroker, shared: Path) -> BrokerProcess:
    """A broker as it is without a connection of its identity."""
    return start_broker(ALICE, confined_to=shared)


def content_of(broker: BrokerProcess, **fields: Any) -> tuple[int, bytes]:
    answer, (descriptor,) = broker.ask("snapshot", most=100, **fields)
    try:
        assert answer["ok"], answer
        return int(answer["size_bytes"]), os.pread(descriptor, 1000, 0)
    finally:
        os.close(descriptor)


def published(temporary: dict[str, Any]) -> dict[str, Any]:
    """What proves that a file is the one that this became."""
    return {**temporary, "name": "file"}


@pytest.mark.root
def test_a_temporary_and_what_it_was_published_as(alice: BrokerProcess, directory: dict[str, Any]) -> None:
    temporary = alice.make(directory)
    assert content_of(alice, directory=directory, temporary=temporary) == (len(BYTES), BYTES)
    alice.do("publish", directory=directory, temporary=temporary)
    assert content_of(alice, directory=directory, temporary=published(temporary)) == (len(BYTES), BYTES)
    assert alice.fail("snapshot", directory=directory, temporary=temporary, most=100)["errno"] == errno.ENOENT


@pytest.mark.root
def test_of_what_is_too_long_only_the_size_is_told(alice: BrokerProcess, directory: dict[str, Any]) -> None:
    temporary = alice.make(directory)
    fields = {"directory": directory, "temporary": temporary}
    assert alice.ask("snapshot", **fields, most=len(BYTES) - 1) == ({"ok": True, "size_bytes": len(BYTES)}, [])
    _, descriptors = alice.ask("snapshot", **fields, most=len(BYTES))
    assert len(descriptors) == 1
    channel.close_all(descriptors)


@pytest.mark.root
def test_the_copy_shows_nothing_of_later_and_nobody_can_change_it(
    alice: BrokerProcess, directory: dict[str, Any], shared: Path
) -> None:
    temporary = alice.make(directory)
    alice.do("publish", directory=directory, temporary=temporary)
    _, (descriptor,) = alice.ask("snapshot", directory=directory, temporary=published(temporary), most=100)
    (shared / "file").write_bytes(b"private diary")
    assert os.pread(descriptor, 1000, 0) == BYTES
    for change in (
        lambda: os.pwrite(descriptor, b"x", 0),
        lambda: os.truncate(descriptor, 0),
        lambda: os.truncate(descriptor, 50),
    ):
        with pytest.raises(PermissionError):
            change()
    os.close(descriptor)


@pytest.mark.root
@pytest.mark.parametrize("what", ["symlink", "fifo", "directory", "file"])
def test_another_file_under_the_final_name_is_not_read(
    what: str, alice: BrokerProcess, directory: dict[str, Any], shared: Path
) -> None:
    """A FIFO would hang, a symlink lead to any file of hers; and any other file is not the reply of the job."""
    temporary = alice.make(directory)
    alice.do("publish", directory=directory, temporary=temporary)
    made = shared / "file"
    made.rename(shared / "ours")
    if what == "file":
        made.write_bytes(BYTES)
        os.chown(made, ALICE, ALICE)
    elif what == "symlink":
        (shared / "diary").write_bytes(b"private")
        made.symlink_to("diary")
    elif what == "fifo":
        os.mkfifo(made, 0o666)
    else:
        made.mkdir()
    assert alice.fail("snapshot", directory=directory, temporary=published(temporary), most=100)["step"] == "changed"


@pytest.mark.root
def test_whose_file_it_is_decides_the_kernel(
    start_broker: StartBroker, alice: BrokerProcess, directory: dict[str, Any], shared: Path
) -> None:
    temporary = alice.make(directory)
    alice.do("publish", directory=directory, temporary=temporary)
    (shared / "file").chmod(0o600)
    bob = start_broker(BOB)
    failed = bob.fail("snapshot", directory=directory, temporary=published(temporary), most=100)
    assert failed["errno"] == errno.EACCES


@pytest.mark.root
@pytest.mark.parametrize(
    "fields", [{"temporary": {"name": "../etc/passwd"}}, {"most": -1}, {"most": 1 << 25}, {"temporary": None}]
)
def test_a_request_out_of_bounds_ends_the_broker(
    fields: dict[str, Any], alice: BrokerProcess, directory: dict[str, Any]
) -> None:
    temporary = alice.make(directory)
    given = fields.get("temporary", {})
    request = {
        "directory": directory,
        "most": 5,
        **fields,
        "temporary": {**temporary, **given} if given is not None else 0,
    }
    with pytest.raises(channel.ChannelClosedError):
        alice.ask("snapshot", **request)


def test_a_file_that_grows_meanwhile_is_cut_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"12345")
    really = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        found = really(descriptor)
        with path.open("ab") as file:
            file.write(b"67890")
        return found

    with path.open("rb") as file:
        monkeypatch.setattr(os, "fstat", fstat)
        size, memory = snapshots.sealed_copy(file.fileno(), 7)
        monkeypatch.undo()
    assert memory is not None
    assert (size, os.pread(memory, 100, 0)) == (7, b"1234567")
    os.close(memory)
