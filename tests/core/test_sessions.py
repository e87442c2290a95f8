"""Log-off is an edge: what the difference of two pictures means, and whose jobs may run (identity.md §10)."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits.core.sessions import LogonRequired, Picture, Rules, Session, difference, is_of_person

ALICE, BOB, SERVICE = 1000, 1001, 999


def session(session_id: str, uid: int = ALICE, began_at: int = 1) -> Session:
    return Session(session_id=session_id, uid=uid, user_name=f"u{uid}", began_at=began_at)


def with_sessions(*sessions: Session) -> Picture:
    return Picture(sessions=frozenset(sessions))


def gone(before: Picture, after: Picture) -> tuple[set[str], set[int]]:
    found = difference(before, after)
    return {each.session_id for each in found.ended}, set(found.logged_off)


def test_the_last_session_is_the_log_off() -> None:
    two, one, none = with_sessions(session("1"), session("2")), with_sessions(session("2")), Picture()
    assert gone(two, one) == ({"1"}, set())
    assert gone(one, none) == ({"2"}, {ALICE})
    assert gone(none, one) == (set(), set())


def test_a_number_that_was_given_again_is_another_session() -> None:
    assert gone(with_sessions(session("1")), with_sessions(session("1", began_at=2))) == ({"1"}, {ALICE})
    assert gone(with_sessions(session("1")), with_sessions(session("1", BOB))) == ({"1"}, {ALICE})


def test_who_has_only_new_sessions_has_logged_off_in_between() -> None:
    """Nobody saw what happened while the bus was lost."""
    assert gone(with_sessions(session("1")), with_sessions(session("2"))) == ({"1"}, {ALICE})


def test_the_first_picture_logs_nobody_off() -> None:
    assert difference(None, Picture()) == difference(Picture(), Picture())
    assert not difference(None, with_sessions(session("1"))).ended


def test_lingering_is_no_session() -> None:
    lingering = frozenset({ALICE})
    before = replace(with_sessions(session("1")), lingering=lingering)
    assert gone(before, Picture(lingering=lingering)) == ({"1"}, {ALICE})


def test_presence_counts_where_nobody_knows_of_sessions() -> None:
    assert gone(Picture(present=frozenset({ALICE, BOB})), Picture(present=frozenset({BOB}))) == (set(), {ALICE})


@pytest.mark.parametrize(
    ("session_class", "counts"),
    [
        ("user", True),
        ("user-early", True),
        ("user-light", True),
        ("user-incomplete", False),
        ("greeter", False),
        ("lock-screen", False),
        ("background", False),
        ("background-light", False),
        ("manager", False),
        ("manager-early", False),
        ("none", False),
        ("", False),
    ],
)
def test_only_sessions_of_persons_count(session_class: str, counts: bool) -> None:  # noqa: FBT001  # a case
    assert is_of_person(session_class) is counts


SESSIONS = st.builds(session, st.sampled_from("12345"), st.sampled_from([ALICE, BOB]), st.integers(1, 2))
PICTURES = st.builds(
    lambda sessions, present: Picture(sessions=sessions, present=present),
    st.frozensets(SESSIONS, max_size=5),
    st.frozensets(st.sampled_from([ALICE, BOB]), max_size=2),
)


@given(st.lists(PICTURES, min_size=2, max_size=8))
def test_every_history_keeps_the_rules(pictures: list[Picture]) -> None:
    """No token outlives its session, nobody logs off who was not there, and who stays throughout stays."""
    for before, after in itertools.pairwise(pictures):
        found = difference(before, after)
        assert found.ended == {each for each in before.sessions if each not in after.sessions}
        for uid in (ALICE, BOB):
            was_on = uid in before.logged_on
            has_old_session = any(each in after.sessions for each in before.sessions if each.uid == uid)
            if uid in found.logged_off:
                assert was_on
                assert not has_old_session
                assert uid not in after.present
            elif was_on:
                assert has_old_session or uid in after.present
        assert difference(after, after) == difference(None, after), "nothing happened"


NEVER, SESSION, LINGER = LogonRequired.NEVER, LogonRequired.SESSION, LogonRequired.LINGER
HERE = with_sessions(session("1"))
LINGERING = Picture(lingering=frozenset({ALICE}))


@pytest.mark.parametrize(
    ("rule", "picture", "needed"),
    [
        (NEVER, Picture(), None),
        (NEVER, HERE, None),
        (SESSION, Picture(), SESSION),
        (SESSION, HERE, None),
        (SESSION, LINGERING, SESSION),
        (SESSION, Picture(present=frozenset({ALICE})), None),
        (SESSION, None, None),
        (LINGER, Picture(), LINGER),
        (LINGER, HERE, None),
        (LINGER, LINGERING, None),
        (LINGER, None, None),
    ],
)
def test_which_owners_have_to_log_on_first(
    rule: LogonRequired, picture: Picture | None, needed: LogonRequired | None
) -> None:
    rules = Rules(logon_required=rule)
    assert rules.logon_needed(ALICE, picture) is needed
    assert rules.logon_needed(SERVICE, picture) is None
    assert replace(rules, assumed={ALICE}).logon_needed(ALICE, picture) is None
    assert replace(rules, is_everybody_assumed=True).logon_needed(ALICE, picture) is None


def test_service_accounts_and_those_named_are_always_logged_on() -> None:
    rules = Rules(system_uid_max=500, assumed={ALICE})
    assert [uid for uid in (0, 500, 501, ALICE, BOB) if rules.is_logged_on(uid, Picture())] == [0, 500, ALICE]
    assert rules.is_logged_on(BOB, None), "nobody can be seen: everybody counts"
    assert rules.is_logged_on(BOB, with_sessions(session("1", BOB)))
