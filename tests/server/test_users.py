"""The users of the server: the file, passwords, certificates."""

import asyncio
import os
import stat
import threading
from pathlib import Path

import pytest

from openbits.server import users
from openbits.server.model import User
from openbits.server.users import Entry, Users, UsersError

FINGERPRINT = "ab" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users"


def check(known: Users, name: str, password: str) -> User | None:
    known.refresh()
    return asyncio.run(known.with_password(name, password, "192.0.2.1"))


def test_a_user_who_was_added_is_known_by_password_with_groups(file: Path) -> None:
    users.add(file, Entry(name="alice", password=users.hashed("correct horse"), groups=frozenset({"ops", "staff"})))
    known = Users(str(file))
    assert check(known, "alice", "correct horse") == User(name="alice", groups=frozenset({"ops", "staff"}))
    assert check(known, "alice", "correct horse") is not None  # from memory
    for name, password in [
        ("alice", "wrong"),
        ("alice", ""),
        ("bob", "correct horse"),
        ("", ""),
        ("ALICE", "correct horse"),
    ]:
        assert check(known, name, password) is None


def test_a_user_without_a_password_has_none_that_is_right(file: Path) -> None:
    users.add(file, Entry(name="robot", certificates=frozenset({FINGERPRINT})))
    known = Users(str(file))
    assert check(known, "robot", "") is None
    assert known.with_certificate(FINGERPRINT, "") == User(name="robot", fingerprint=FINGERPRINT)
    assert known.with_certificate("cd" * 32, "") is None


def test_a_common_name_names_a_user_of_the_file_or_one_without_groups(file: Path) -> None:
    users.add(file, Entry(name="node1", groups=frozenset({"farm"})))
    known = Users(str(file))
    known.refresh()
    assert known.with_certificate(FINGERPRINT, "node1") == User(
        name="node1", groups=frozenset({"farm"}), fingerprint=FINGERPRINT
    )
    assert known.with_certificate(FINGERPRINT, "node2") == User(name="node2", fingerprint=FINGERPRINT)
    assert known.with_certificate(FINGERPRINT, "a b:c") is None


def test_a_changed_password_counts_at_once_and_the_old_one_no_longer(file: Path) -> None:
    users.add(file, Entry(name="alice", password=users.hashed("old")))
    known = Users(str(file))
    assert check(known, "alice", "old") is not None
    users.add(file, Entry(name="alice", password=users.hashed("new")))
    assert check(known, "alice", "old") is None
    assert check(known, "alice", "new") is not None
    users.remove(file, "alice")
    assert check(known, "alice", "new") is None


def test_a_right_password_costs_one_check_and_a_wrong_one_each_time(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.add(file, Entry(name="alice", password=users.hashed("right")))
    known, asked = Users(str(file)), []
    real = users.is_right

    def counted(password: str, hashed: str) -> bool:
        asked.append(password)
        return real(password, hashed)

    monkeypatch.setattr(users, "is_right", counted)
    for password in ("right", "right", "wrong", "wrong"):
        check(known, "alice", password)
    assert asked == ["right", "wrong", "wrong"]


def test_s13_whoever_guesses_passwords_keeps_nobody_else_waiting(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users.add(file, Entry(name="alice", password=users.hashed("right")))
    known, real, is_over = Users(str(file)), users.is_right, threading.Event()
    known.refresh()

    def slow(password: str, hashed: str) -> bool:
        return real(password, hashed) if password == "right" else is_over.wait(60)

    monkeypatch.setattr(users, "is_right", slow)

    async def log_on() -> User | None:
        guesses = [asyncio.create_task(known.with_password("alice", f"wrong {n}", "192.0.2.1")) for n in range(20)]
        await asyncio.sleep(0)  # all of them have begun
        try:
            async with asyncio.timeout(30):
                return await known.with_password("alice", "right", "198.51.100.1")
        finally:
            is_over.set()
            await asyncio.gather(*guesses)

    assert asyncio.run(log_on()) is not None


def test_the_password_is_in_no_file_and_no_repr(file: Path) -> None:
    entry = Entry(name="alice", password=users.hashed("canary"))
    users.add(file, entry)
    assert "canary" not in file.read_text()
    assert entry.password not in repr(entry)
    assert users.hashed("canary") != users.hashed("canary")  # each has its salt


def test_the_file_is_private_and_keeps_mode_and_owner(file: Path) -> None:
    users.add(file, Entry(name="alice"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    users.add(file, Entry(name="bob"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [entry.name for entry in users.read(file)] == ["alice", "bob"]
    assert os.listdir(file.parent) == ["users"]  # noqa: PTH208 -- nothing is left over


@pytest.mark.root
def test_a_file_that_root_changes_still_belongs_to_the_server(file: Path) -> None:
    users.add(file, Entry(name="alice"))
    os.chown(file, 12_345, 23_456)
    users.add(file, Entry(name="bob"))
    assert (file.stat().st_uid, file.stat().st_gid) == (12_345, 23_456)


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice:::::",
        "al ice:::",
        ":::",
        "alice:plain-password::",
        "alice:scrypt$1$c2FsdA==$aGFzaA==::",
        f"alice:scrypt$1073741824${'A' * 22}==${'A' * 43}=::",  # would take all the memory
        "alice:::no-fingerprint",
    ],
)
def test_a_line_that_is_none_is_told_with_its_number(file: Path, line: str) -> None:
    file.write_text(f"# users\n\n{line}\n")
    with pytest.raises(UsersError, match=r"users, line 3: must be name:password:groups:certificates"):
        users.read(file)


def test_two_lines_for_one_name_are_a_mistake(file: Path) -> None:
    file.write_text("alice:::\nalice::ops:\n")
    with pytest.raises(UsersError, match="line 2: alice has a line already"):
        users.read(file)


@pytest.mark.parametrize("entry", [Entry(name="a:b"), Entry(name=""), Entry(name="a", groups=frozenset({"x:y"}))])
def test_what_would_break_the_file_is_not_added(file: Path, entry: Entry) -> None:
    with pytest.raises(UsersError, match="cannot add"):
        users.add(file, entry)
    assert not file.exists()


def test_a_user_who_is_not_there_cannot_be_removed(file: Path) -> None:
    users.add(file, Entry(name="alice"))
    with pytest.raises(UsersError, match="cannot remove bob"):
        users.remove(file, "bob")
    assert [entry.name for entry in users.read(file)] == ["alice"]


def test_users_stay_known_when_the_file_is_broken(file: Path) -> None:
    users.add(file, Entry(name="alice", password=users.hashed("right")))
    known = Users(str(file))
    known.refresh()
    file.write_text("broken\n")
    with pytest.raises(UsersError):
        known.refresh()
    assert asyncio.run(known.with_password("alice", "right", "192.0.2.1")) is not None
