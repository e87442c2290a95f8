"""Entries of admitted owners: what is written, what is believed (design.md §2)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openbits.identity.statedir import COMMANDS_AT_ONCE, MAX_DIRECTORIES, AdmittedOwners

UID = 1000


def directory(number: int) -> dict[str, Any]:
    return {"path": f"/srv/in/{number}", "dev": 1, "ino": number}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def owners(folder: Path) -> Iterator[AdmittedOwners]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    yield AdmittedOwners(descriptor)
    os.close(descriptor)


def content(owners: AdmittedOwners, uid: int = UID) -> str | None:
    return content_of(owners, uid, "json")


def content_of(owners: AdmittedOwners, uid: int, name: str) -> str | None:
    entry = owners.open(uid, name)
    if entry is None:
        return None
    with os.fdopen(entry) as file:
        return file.read()


def test_nobody_is_admitted_at_first(owners: AdmittedOwners) -> None:
    assert content(owners) is None


def test_directories_add_up_and_each_is_listed_once(owners: AdmittedOwners) -> None:
    owners.add(UID, [directory(1)])
    owners.add(UID, [directory(2), directory(1)])
    text = content(owners)
    assert text is not None
    assert [text.count(f'"/srv/in/{number}"') for number in (1, 2)] == [1, 1]


def test_an_owner_may_be_admitted_without_directories(owners: AdmittedOwners) -> None:
    owners.add(UID, [])
    assert content(owners) is not None


def test_nothing_is_written_when_nothing_is_new(owners: AdmittedOwners, folder: Path) -> None:
    owners.add(UID, [directory(1)])
    before = (folder / "1000.json").stat()
    owners.add(UID, [directory(1)])
    assert (folder / "1000.json").stat().st_ino == before.st_ino


def test_entries_are_private_and_nothing_else_is_left(owners: AdmittedOwners, folder: Path) -> None:
    owners.add(UID, [directory(1)])
    assert [(path.name, path.stat().st_mode & 0o777) for path in folder.iterdir()] == [("1000.json", 0o600)]


def test_an_erased_owner_is_gone_and_erasing_again_is_no_error(owners: AdmittedOwners, folder: Path) -> None:
    owners.add(UID, [directory(1)])
    owners.erase(UID)
    owners.erase(UID)
    assert content(owners) is None
    assert list(folder.iterdir()) == []


def test_a_link_or_an_open_file_is_not_believed(owners: AdmittedOwners, folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.write_text("[]")
    elsewhere.chmod(0o600)
    (folder / "1000.json").symlink_to(elsewhere)
    (folder / "1001.json").write_text("[]")
    (folder / "1001.json").chmod(0o640)
    os.mkfifo(folder / "1002.json", 0o600)
    assert [content(owners, uid) for uid in (1000, 1001, 1002)] == [None, None, None]


def test_a_damaged_entry_is_written_anew_by_the_next_admission(owners: AdmittedOwners, folder: Path) -> None:
    (folder / "1000.json").write_text("[{")
    (folder / "1000.json").chmod(0o600)
    owners.add(UID, [directory(1)])
    assert content(owners) == '[{"path": "/srv/in/1", "dev": 1, "ino": 1}]'


def test_a_rest_of_an_interrupted_write_does_no_harm(owners: AdmittedOwners, folder: Path) -> None:
    (folder / "new").write_text("half of an entry, longer than what is written next, as it was left by a crash")
    (folder / "new").chmod(0o600)
    owners.add(UID, [directory(1)])
    assert content(owners) == '[{"path": "/srv/in/1", "dev": 1, "ino": 1}]'


COMMAND = f"{'a' * 32}-{'b' * 64}"


def test_a_command_is_allowed_for_one_user_until_it_is_erased(owners: AdmittedOwners, folder: Path) -> None:
    owners.allow(UID, COMMAND)
    owners.allow(UID, COMMAND)
    assert content_of(owners, UID, COMMAND) == ""
    assert content_of(owners, UID + 1, COMMAND) is None
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600]
    owners.erase(UID, COMMAND)
    owners.erase(UID, COMMAND)
    assert content_of(owners, UID, COMMAND) is None


def test_an_owner_and_his_commands_are_admitted_each_for_itself(owners: AdmittedOwners) -> None:
    owners.add(UID, [directory(1)])
    owners.allow(UID, COMMAND)
    owners.erase(UID)
    assert (content(owners), content_of(owners, UID, COMMAND)) == (None, "")


def test_an_allowed_command_is_on_the_disk_before_the_answer(
    owners: AdmittedOwners, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append([path.name for path in folder.iterdir()]))
    owners.allow(UID, COMMAND)
    assert synced == [[f"{UID}.{COMMAND}"]]


def test_all_commands_are_listed_page_by_page_and_no_owner(owners: AdmittedOwners) -> None:
    names = sorted(f"{uid}.{number:032x}-{'b' * 64}" for uid in (9, 10) for number in range(COMMANDS_AT_ONCE))
    for name in names:
        owners.allow(int(name.partition(".")[0]), name.partition(".")[2])
    owners.add(UID, [directory(1)])
    pages = [owners.commands("")]
    while pages[-1]:
        pages.append(owners.commands(pages[-1][-1]))
    assert [len(page) for page in pages] == [COMMANDS_AT_ONCE, COMMANDS_AT_ONCE, 0]
    assert [name for page in pages for name in page] == names


def test_directories_are_limited(owners: AdmittedOwners) -> None:
    owners.add(UID, [directory(number) for number in range(MAX_DIRECTORIES)])
    with pytest.raises(OSError, match="uid 1000 has jobs in 4096 directories already"):
        owners.add(UID, [directory(MAX_DIRECTORIES)])
