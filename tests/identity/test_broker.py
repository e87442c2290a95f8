"""The file broker as a process: what it answers, and when it ends."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openbits import channel
from openbits.identity.broker import run
from openbits.service.file_broker import NAMES_BYTES

if TYPE_CHECKING:
    from tests.identity.conftest import BrokerProcess

StartBroker = Callable[..., "BrokerProcess"]
RunAs = Callable[[int | None, Callable[[], Any]], Any]

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


def test_a_file_from_its_path_to_its_final_name(tmp_path: Path, start_broker: StartBroker) -> None:
    broker = start_broker()
    answer = broker.do("resolve", path=f"{tmp_path}/file")
    assert answer == {"directory": as_directory(tmp_path), "name": "file", "others": 0}
    directory = answer["directory"]

    answer, (descriptor,) = broker.ask("create", directory=directory, name=NAME)
    os.write(descriptor, b"first half, ")
    os.close(descriptor)
    found = (tmp_path / NAME).stat()
    temporary = answer.pop("temporary")
    assert answer == {"ok": True}
    assert temporary.pop("birth_ns") > 0
    assert temporary == {"name": NAME, "dev": found.st_dev, "ino": found.st_ino, "uid": os.geteuid()}

    temporary = broker.do("create", directory=directory, name=NEXT_NAME)["temporary"]
    answer, (descriptor,) = broker.ask("reopen", directory=directory, temporary=temporary)
    assert answer == {"ok": True, "size_bytes": 0}
    os.write(descriptor, b"transferred")
    os.close(descriptor)

    for _ in range(2):  # the answer may get lost in a crash of the manager
        assert broker.do("publish", directory=directory, temporary=temporary, modified_ns=LONG_AGO_NS) == {}
    assert (tmp_path / "file").read_bytes() == b"transferred"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert (tmp_path / "file").stat().st_mtime_ns == LONG_AGO_NS


def test_removing_answers_with_nothing(tmp_path: Path, start_broker: StartBroker) -> None:
    broker = start_broker()
    directory = as_directory(tmp_path)
    temporary = broker.make(directory)
    for _ in range(2):
        assert broker.do("remove", directory=directory, temporary=temporary) == {}
    assert names(tmp_path) == []
    announced = {"name": NAME, "dev": directory["dev"], "ino": 0, "birth_ns": 0, "uid": os.geteuid()}
    broker.do("create", directory=directory, name=NAME)
    assert broker.do("remove", directory=directory, temporary=announced) == {}
    assert names(tmp_path) == []


def test_a_refusal_has_errno_step_subject_and_text(tmp_path: Path, start_broker: StartBroker) -> None:
    broker = start_broker()
    directory = as_directory(tmp_path)
    temporary = broker.make(directory)
    (tmp_path / "file").mkdir()
    answer = broker.fail("publish", directory=directory, temporary=temporary)
    text = f"cannot publish {tmp_path}/file as uid {os.geteuid()}: it is a directory; "
    assert answer.pop("text").startswith(text)
    assert answer == {"errno": errno.EISDIR, "step": "publish", "subject": f"{tmp_path}/file"}
    (tmp_path / "file").rmdir()
    broker.do("publish", directory=directory, temporary=temporary)


def test_several_files_of_a_directory_are_made_and_published_by_one_request_each(
    tmp_path: Path, start_broker: StartBroker
) -> None:
    broker, directory = start_broker(), as_directory(tmp_path)
    many = [f".BIT{number:08x}.tmp" for number in range(64)]
    answer, descriptors = broker.send("create", directory=directory, names=many)
    assert [one["name"] for one in answer["temporaries"]] == many == names(tmp_path)
    for number, descriptor in enumerate(descriptors):
        os.write(descriptor, b"%d" % number)
    channel.close_all(descriptors)
    files = [
        {"temporary": one, "name": f"file{number}", "umask": 0o022, "modified_ns": None}
        for number, one in enumerate(answer["temporaries"])
    ]
    for _ in range(2):  # the answer may get lost in a crash of the manager
        assert broker.send("publish", directory=directory, files=files) == ({"ok": True, "published": 64}, [])
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {
        f"file{number}": b"%d" % number for number in range(64)
    }


def test_what_comes_before_a_file_that_cannot_be_made_is_made(tmp_path: Path, start_broker: StartBroker) -> None:
    broker, directory = start_broker(), as_directory(tmp_path)
    (tmp_path / NEXT_NAME).write_bytes(b"taken")
    answer, descriptors = broker.send("create", directory=directory, names=[NAME, NEXT_NAME, ".BIT00000009.tmp"])
    channel.close_all(descriptors)
    assert ([one["name"] for one in answer["temporaries"]], len(descriptors)) == ([NAME], 1)
    assert names(tmp_path) == sorted([NAME, NEXT_NAME])
    answer, _ = broker.send("create", directory=directory, names=[NEXT_NAME, ".BIT00000009.tmp"])
    assert (answer["ok"], answer["errno"]) == (False, errno.EEXIST)


def test_what_comes_before_a_file_that_cannot_be_published_is_published(
    tmp_path: Path, start_broker: StartBroker
) -> None:
    broker, directory = start_broker(), as_directory(tmp_path)
    made = [broker.make(directory, f".BIT0000000{number}.tmp") for number in range(3)]
    files = [
        {"temporary": one, "name": name, "umask": 0o022, "modified_ns": None}
        for one, name in zip(made, ("first", "second", "third"), strict=True)
    ]
    (tmp_path / "second").mkdir()
    assert broker.send("publish", directory=directory, files=files) == ({"ok": True, "published": 1}, [])
    assert names(tmp_path) == [made[1]["name"], made[2]["name"], "first", "second"]
    answer, _ = broker.send("publish", directory=directory, files=files[1:])
    assert (answer["ok"], answer["errno"], answer["subject"]) == (False, errno.EISDIR, f"{tmp_path}/second")


def test_the_largest_requests_fit_into_a_message() -> None:
    """A path of 4096 bytes, each six characters in JSON, and final names as long as the manager lets them be."""
    path = ("/" + "\x01" * 255) * 15 + "/" + "\x01" * 240
    temporary = {"name": NAME, "dev": 2**64 - 1, "ino": 2**64 - 1, "birth_ns": -(2**63), "uid": 2**32 - 1}
    file = {"temporary": temporary, "name": "n" * (NAMES_BYTES // 64), "umask": 0o777, "modified_ns": -(2**63)}
    place = {"path": path, "dev": 2**64 - 1, "ino": 2**64 - 1}
    encoded = channel.encode({"id": 2**32, "op": "publish", "directory": place, "files": [file] * 64})
    assert len(encoded) <= channel.MESSAGE_BYTES


def test_other_files_of_a_folder_are_fixed_along_up_to_the_first_that_is_refused(
    tmp_path: Path, start_broker: StartBroker
) -> None:
    """P1 for several: what is wrong with the next one is said when that is asked for."""
    broker = start_broker()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    path = f"{tmp_path}/first"
    for refused in ("folder", "fifo"):
        answer = broker.do("resolve", path=path, others=["new", "file", refused, "behind"])
        assert answer == {"directory": as_directory(tmp_path), "name": "first", "others": 2}
        assert broker.fail("resolve", path=f"{tmp_path}/{refused}", others=["new"])["subject"].endswith(refused)
    assert broker.do("resolve", path=path, others=["folder"], is_source=True)["others"] == 1


def test_names_that_are_not_utf_8_travel_both_ways(tmp_path: Path, start_broker: StartBroker) -> None:
    os.mkdir(bytes(tmp_path) + b"/caf\xe9")  # noqa: PTH102  # bytes
    broker = start_broker()
    answer = broker.do("resolve", path=f"{tmp_path}/caf\udce9/na\udcefve")
    assert answer["directory"]["path"] == f"{tmp_path}/caf\udce9"
    assert answer["name"] == "na\udcefve"
    temporary = broker.make(answer["directory"])
    broker.do("publish", directory=answer["directory"], temporary=temporary, name=answer["name"])
    assert [bytes(each.name, "utf-8", "surrogateescape") for each in tmp_path.glob("*/*")] == [b"na\xefve"]


def test_the_longest_paths_fit_into_the_answer(start_broker: StartBroker) -> None:
    """4096 bytes, each of which takes six characters in JSON."""
    broker = start_broker()
    for component in ("\udcff" * 255, "\x01" * 255):
        path = ("/" + component) * 16
        assert broker.fail("resolve", path=path)["errno"] == errno.ENOENT
        assert broker.fail("resolve", path=path + "x")["errno"] == errno.ENAMETOOLONG


DIRECTORY = {"path": "/srv", "dev": 1, "ino": 2}
TEMPORARY = {"name": NAME, "dev": 1, "ino": 3, "birth_ns": 4, "uid": 0}
FILE = {"temporary": TEMPORARY, "name": "file", "umask": 0o022, "modified_ns": None}
PUBLISH = {"id": 1, "op": "publish", "directory": DIRECTORY}


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"id": 1},
        {"id": 1, "op": "steal"},
        {"id": 1, "op": ["resolve"], "path": "/srv/file"},
        {"op": "resolve", "path": "/srv/file"},
        {"id": None, "op": "resolve", "path": "/srv/file"},
        {"id": 1, "op": "resolve"},
        {"id": 1, "op": "resolve", "path": 7},
        {"id": 1, "op": "resolve", "path": "/srv/\ud800"},
        {"id": 1, "op": "resolve", "path": "/file", "others": "name"},
        {"id": 1, "op": "resolve", "path": "/file", "others": ["../name"]},
        {"id": 1, "op": "resolve", "path": "/file", "others": [7]},
        {"id": 1, "op": "resolve", "path": "/file", "others": ["name"] * 65},
        {"id": 1, "op": "create", "directory": DIRECTORY},
        {"id": 1, "op": "create", "directory": DIRECTORY, "names": NAME},
        {"id": 1, "op": "create", "directory": DIRECTORY, "names": []},
        {"id": 1, "op": "create", "directory": DIRECTORY, "names": [NAME] * 65},
        {"id": 1, "op": "create", "directory": "/srv", "names": [NAME]},
        {"id": 1, "op": "create", "directory": DIRECTORY, "names": ["authorized_keys"]},
        {"id": 1, "op": "create", "directory": DIRECTORY, "names": [f"../{NAME}"]},
        {"id": 1, "op": "create", "directory": DIRECTORY, "names": [f"{NAME}\n"]},
        {"id": 1, "op": "create", "directory": DIRECTORY | {"path": "srv"}, "names": [NAME]},
        {"id": 1, "op": "create", "directory": DIRECTORY | {"path": "/srv/../etc"}, "names": [NAME]},
        {"id": 1, "op": "create", "directory": DIRECTORY | {"path": "/srv\0"}, "names": [NAME]},
        {"id": 1, "op": "create", "directory": DIRECTORY | {"dev": "1"}, "names": [NAME]},
        {"id": 1, "op": "create", "directory": DIRECTORY | {"ino": True}, "names": [NAME]},
        {"id": 1, "op": "create", "directory": DIRECTORY | {"ino": -1}, "names": [NAME]},
        {"id": 1, "op": "create", "directory": DIRECTORY | {"ino": 1.0}, "names": [NAME]},
        {"id": 1, "op": "reopen", "directory": DIRECTORY},
        {"id": 1, "op": "remove", "directory": DIRECTORY, "temporary": TEMPORARY | {"name": "precious"}},
        {"id": 1, "op": "remove", "directory": DIRECTORY, "temporary": TEMPORARY | {"birth_ns": None}},
        {"id": 1, "op": "remove", "directory": DIRECTORY, "temporary": TEMPORARY | {"uid": 2**64}},
        {**PUBLISH, "files": FILE},
        {**PUBLISH, "files": []},
        {**PUBLISH, "files": [NAME]},
        {**PUBLISH, "files": [FILE] * 65},
        {**PUBLISH, "files": [FILE | {"name": "a/b"}]},
        {**PUBLISH, "files": [FILE | {"name": ".."}]},
        {**PUBLISH, "files": [FILE | {"name": ""}]},
        {**PUBLISH, "files": [FILE | {"name": "n" * 256}]},
        {**PUBLISH, "files": [FILE | {"name": "nul\0"}]},
        {**PUBLISH, "files": [FILE | {"umask": 0o4022}]},
        {**PUBLISH, "files": [FILE | {"umask": "022"}]},
        {**PUBLISH, "files": [FILE | {"modified_ns": "now"}]},
        {**PUBLISH, "files": [FILE | {"modified_ns": 2**63}]},
    ],
)
def test_a_malformed_request_ends_the_broker(request_: dict[str, Any], start_broker: StartBroker) -> None:
    broker = start_broker()
    channel.send(broker.control, request_)
    with pytest.raises(channel.ChannelClosedError):
        channel.receive(broker.control)
    assert broker.wait() == 0


def test_what_is_no_message_ends_the_broker(start_broker: StartBroker) -> None:
    for junk in (b"\xff\xfe", b"[]", b"{", b'{"id":' + b"9" * 5000 + b"}"):
        broker = start_broker()
        broker.control.send(junk)
        with pytest.raises(channel.ChannelClosedError):
            channel.receive(broker.control)


def test_unknown_fields_are_ignored_and_surplus_descriptors_closed(tmp_path: Path, start_broker: StartBroker) -> None:
    broker = start_broker()
    readable, writable = os.pipe()
    channel.send(broker.control, {"id": 7, "op": "resolve", "path": f"{tmp_path}/file", "new": 1}, [writable])
    os.close(writable)
    assert channel.receive(broker.control)[0]["ok"] is True
    assert os.read(readable, 1) == b""
    os.close(readable)


@pytest.mark.usefixtures("bounded")
def test_the_broker_keeps_no_descriptor_that_it_has_passed(tmp_path: Path) -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        for name in (NAME, NEXT_NAME):
            channel.send(ours, {"id": 1, "op": "create", "directory": as_directory(tmp_path), "names": [name]})
        ours.shutdown(socket.SHUT_WR)
        before = len(list(Path("/proc/self/fd").iterdir()))
        run(theirs)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        for _ in range(2):
            channel.close_all(channel.receive(ours)[1])


def test_a_broker_ends_when_its_channel_closes(start_broker: StartBroker) -> None:
    assert start_broker().end() == 0


def test_a_manager_that_is_gone_before_the_answer_ends_the_broker(tmp_path: Path, start_broker: StartBroker) -> None:
    broker = start_broker()
    channel.send(broker.control, {"id": 7, "op": "create", "directory": as_directory(tmp_path), "names": [NAME]})
    assert broker.end() == 0
