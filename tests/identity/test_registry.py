"""The one rule that the manager cannot bend: who vouches for whom (design.md §2, docs/processes.md `start`)."""

import socket
from collections.abc import Iterator

import pytest

from openbits.channel import Message
from openbits.identity.registry import Entry, RefusedError, Registry

ROOT, ALICE, BOB = 0, 1000, 1001


class People:
    """A registry with one connection of each uid, made up."""

    def __init__(self, own_uid: int, *uids: int, is_foreign: bool = False) -> None:
        self.registry = Registry(own_uid)
        self._ends = [socket.socket() for _ in uids]
        for uid, end in zip(uids, self._ends, strict=True):
            record = {"uid": uid, "gid": uid, "groups": [uid + 7], "name": "", "is_foreign_userns": is_foreign}
            self.registry.entries[f"connection of {uid}"] = Entry(record, (end,))

    def start(self, uid: int, by: int | None, *, is_admitted: bool = False, has_landlock: bool = True) -> Message | str:
        """What is granted, or the word it is refused with."""
        cookie = None if by is None else f"connection of {by}"
        try:
            return self.registry.judge(uid, cookie, is_admitted=is_admitted, has_landlock=has_landlock)
        except RefusedError as refusal:
            return str(refusal.answer["refused"])

    def close(self) -> None:
        for end in self._ends:
            end.close()


@pytest.fixture
def people() -> Iterator[People]:
    made = People(ROOT, ROOT, ALICE, BOB)
    yield made
    made.close()


def groups_of(uid: int) -> Message:
    return {"gid": uid, "groups": [uid + 7]}


OF_THE_ACCOUNT: Message = {"gid": None, "groups": None}
FREE, CONFINED = {"is_confined": False}, {"is_confined": True}


@pytest.mark.parametrize("is_admitted", [False, True])
@pytest.mark.parametrize("uid", [ROOT, ALICE])
def test_everybody_vouches_for_oneself(people: People, uid: int, is_admitted: bool) -> None:  # noqa: FBT001  # a case
    assert people.start(uid, uid, is_admitted=is_admitted) == {**groups_of(uid), **FREE}


@pytest.mark.parametrize("is_admitted", [False, True])
@pytest.mark.parametrize(("uid", "by"), [(ROOT, ALICE), (BOB, ALICE), (ALICE, BOB)])
def test_nobody_vouches_for_another(people: People, uid: int, by: int, is_admitted: bool) -> None:  # noqa: FBT001
    assert people.start(uid, by, is_admitted=is_admitted) == "not-admitted"


def test_root_vouches_for_the_admitted_with_the_groups_of_their_account(people: People) -> None:
    assert people.start(ALICE, ROOT) == "not-admitted"
    assert people.start(ALICE, ROOT, is_admitted=True) == {**OF_THE_ACCOUNT, **FREE}


def test_the_admitted_need_nobody_but_are_confined(people: People) -> None:
    assert people.start(ALICE, None) == "not-admitted"
    assert people.start(ALICE, None, is_admitted=True) == {**groups_of(ALICE), **CONFINED}
    assert people.start(4711, None, is_admitted=True) == {**OF_THE_ACCOUNT, **CONFINED}


def test_root_is_admitted_only_where_it_can_be_confined(people: People) -> None:
    assert people.start(ROOT, None, is_admitted=True) == {**groups_of(ROOT), **CONFINED}
    assert people.start(ROOT, None, is_admitted=True, has_landlock=False) == "no-landlock"
    assert people.start(ROOT, ROOT, has_landlock=False) == {**groups_of(ROOT), **FREE}
    assert people.start(ALICE, None, is_admitted=True, has_landlock=False) == {**groups_of(ALICE), **CONFINED}


def test_a_cookie_that_is_not_there_vouches_for_nobody(people: People) -> None:
    assert people.start(4711, 4711, is_admitted=True) == "unknown-cookie"


def test_another_user_namespace_vouches_for_nobody_and_lends_no_groups() -> None:
    people = People(ROOT, ROOT, ALICE, is_foreign=True)
    for uid in (ROOT, ALICE):
        assert people.start(uid, uid, is_admitted=True) == "unknown-cookie"
        assert people.start(uid, None, is_admitted=True) == {**OF_THE_ACCOUNT, **CONFINED}
    people.close()


def test_a_users_own_service_serves_that_user_alone() -> None:
    people = People(ALICE, ROOT, ALICE, BOB)
    for by in (ROOT, ALICE, BOB, None):
        for uid in (ROOT, BOB):
            assert people.start(uid, by, is_admitted=True) == "own-service"
    assert people.start(ALICE, ALICE) == {**groups_of(ALICE), **FREE}
    assert people.start(ALICE, BOB, is_admitted=True) == "not-admitted"
    people.close()


def test_the_ticket_cache_of_a_logon_goes_with_its_token_and_the_tokens_made_of_it(people: People) -> None:
    logged_on = {**groups_of(ALICE), "uid": ALICE, "name": "alice", "ccache": "FILE:/run/tickets"}
    _, entry, end = people.registry.add_token(logged_on, 4)
    cookie, copy, other_end = people.registry.add_token(entry.record, 3)
    granted = people.registry.judge(ALICE, cookie, is_admitted=False, has_landlock=True)
    assert granted == {**groups_of(ALICE), **FREE, "ccache": "FILE:/run/tickets"}
    _, plain, third_end = people.registry.add_token({**logged_on, "ccache": None}, 4)
    assert "ccache" not in plain.record
    for socket_ in (end, other_end, third_end, *entry.ends, *copy.ends, *plain.ends):
        socket_.close()
