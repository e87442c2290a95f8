"""Who may do what (jobs.md §6), the helper token's rules (identity.md §2, §3), who opens what (identity.md §4)."""

import itertools

import pytest

from openbits.core import access, codes
from openbits.core.access import Settings, Use, Who
from openbits.core.enums import Level, TokenFlags, Verb
from openbits.core.errors import BitsError
from openbits.core.model import Identity

SUDO, OPERATORS = 27, 900
SETTINGS = Settings(
    administrators=frozenset({OPERATORS}),
    privileged_groups=frozenset({0, SUDO}),
    group_names={SUDO: "sudo", OPERATORS: "operators"},
)

ROOT = Identity(uid=0, gid=0, groups=(0,), name="root")
ALICE = Identity(uid=1001, gid=1001, groups=(1001, 100), name="alice")
BOB = Identity(uid=1002, gid=1002, groups=(1002, 100), name="bob")
OPERATOR = Identity(uid=1003, gid=1003, groups=(1003, OPERATORS), name="operator")
SUDOER = Identity(uid=1004, gid=1004, groups=(1004, SUDO), name="sudoer")
OWNER_UID = ALICE.uid

# Verbs

EVERYBODY = {"root", "alice", "bob", "operator", "sudoer"}
ADMINISTRATORS = {"root", "operator"}

ALLOWED = {
    Verb.CREATE_JOB: EVERYBODY,
    Verb.LOG_ON: EVERYBODY,
    Verb.LIST_OWN: EVERYBODY,
    Verb.LIST_ALL: ADMINISTRATORS,
    Verb.OPEN_JOB: ADMINISTRATORS | {"alice"},
    Verb.READ: ADMINISTRATORS | {"alice"},
    Verb.CHANGE: ADMINISTRATORS | {"alice"},
    Verb.SET_CREDENTIALS: {"alice"},
    Verb.SET_HELPER_TOKEN: ADMINISTRATORS | {"alice"},
    Verb.TAKE_OWNERSHIP: ADMINISTRATORS,
}


@pytest.mark.parametrize("verb", list(Verb))
def test_who_may_do_what_with_the_job_of_alice(verb: Verb) -> None:
    callers = (ROOT, ALICE, BOB, OPERATOR, SUDOER)
    assert {caller.name for caller in callers if access.may(caller, verb, OWNER_UID, SETTINGS)} == ALLOWED[verb]


def test_without_settings_only_uid_0_is_administrator() -> None:
    assert access.is_administrator(ROOT, Settings())
    assert not any(access.is_administrator(identity, Settings()) for identity in (ALICE, OPERATOR, SUDOER))


def test_a_primary_group_counts_as_much_as_another() -> None:
    by_primary_group = Identity(uid=1005, gid=OPERATORS)
    assert access.is_administrator(by_primary_group, SETTINGS)
    assert access.is_privileged_helper(Identity(uid=1006, gid=SUDO), OWNER_UID, SETTINGS)


def test_nobody_owns_what_has_no_owner() -> None:
    assert not access.may(ALICE, Verb.CHANGE, None, SETTINGS)
    assert not access.may(ALICE, Verb.SET_CREDENTIALS, None, SETTINGS)


# The helper token


def refusal(act: object, *arguments: object) -> int:
    """The code that a check raises, 0 if it lets pass."""
    assert callable(act)
    try:
        act(*arguments, OWNER_UID, SETTINGS)
    except BitsError as error:
        return error.hresult
    return 0


@pytest.mark.parametrize(
    ("caller", "helper", "expected"),
    [  # T-2: owner or not, administrator or not, helper administrator or not
        (ALICE, BOB, 0),
        (ALICE, SUDOER, 0x80070005),
        (BOB, BOB, 0x80070005),
        (BOB, SUDOER, 0x80070005),
        (OPERATOR, BOB, 0),
        (OPERATOR, SUDOER, 0),
        (ROOT, BOB, 0),
        (ROOT, SUDOER, 0),
        (ALICE, ROOT, 0x80070005),
        (ALICE, OPERATOR, 0x80070005),
        (SUDOER, BOB, 0x80070005),
    ],
)
def test_a_helper_token_needs_the_owner_and_an_ordinary_helper_or_an_administrator(
    caller: Identity, helper: Identity, expected: int
) -> None:
    assert refusal(access.check_set_helper_token, caller, helper, Level.IMPERSONATE) == expected
    assert refusal(access.check_set_helper_token_flags, caller, helper) == expected


@pytest.mark.parametrize("helper", [BOB, SUDOER, ROOT])
def test_an_owner_who_is_an_administrator_may_use_any_helper(helper: Identity) -> None:
    access.check_set_helper_token(OPERATOR, helper, Level.IMPERSONATE, OPERATOR.uid, SETTINGS)
    access.check_set_helper_token_flags(OPERATOR, helper, OPERATOR.uid, SETTINGS)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Level.ANONYMOUS, 0x80070005),
        (Level.IDENTIFY, 0x80010123),
        (Level.IMPERSONATE, 0),
        (Level.DELEGATE, 0),
    ],
)
def test_the_level_of_the_call_decides(level: Level, expected: int) -> None:
    assert refusal(access.check_set_helper_token, ALICE, BOB, level) == expected
    assert refusal(access.check_set_helper_token, ROOT, BOB, level) == expected


def test_a_stranger_learns_nothing_from_the_level() -> None:
    assert refusal(access.check_set_helper_token, BOB, BOB, Level.IDENTIFY) == 0x80070005


def test_the_owner_is_an_allowed_helper_whatever_the_groups() -> None:
    access.check_set_helper_token(SUDOER, SUDOER, Level.IMPERSONATE, SUDOER.uid, SETTINGS)
    assert not access.is_privileged_helper(SUDOER, SUDOER.uid, SETTINGS)
    assert access.is_privileged_helper(SUDOER, OWNER_UID, SETTINGS)


def test_flags_may_be_set_while_there_is_no_token() -> None:
    assert refusal(access.check_set_helper_token_flags, ALICE, None) == 0
    assert refusal(access.check_set_helper_token_flags, BOB, None) == 0x80070005


@pytest.mark.parametrize(("caller", "expected"), [(ALICE, 0), (ROOT, 0), (OPERATOR, 0), (BOB, 0x80070005)])
def test_the_other_methods_want_owner_or_administrator(caller: Identity, expected: int) -> None:
    assert refusal(access.check_helper_token_caller, caller) == expected


def test_the_refusal_names_identity_group_and_next_step() -> None:
    with pytest.raises(BitsError) as caught:
        access.check_set_helper_token(ALICE, SUDOER, Level.IMPERSONATE, OWNER_UID, SETTINGS)
    assert str(caught.value) == (
        "cannot set sudoer (uid 1004) as helper token: sudoer (uid 1004) is in the privileged group sudo, and"
        " alice (uid 1001) is no administrator; use a helper without these rights, or have an administrator make the"
        " call"
    )


def test_a_group_without_a_name_is_told_by_number_and_an_identity_too() -> None:
    helper = Identity(uid=1009, gid=0)
    with pytest.raises(
        BitsError, match=r"cannot set uid 1009 as helper token: uid 1009 is in the privileged group gid 0"
    ):
        access.check_set_helper_token(ALICE, helper, Level.IMPERSONATE, OWNER_UID, SETTINGS)


def test_a_refused_stranger_is_not_told_who_the_owner_is() -> None:
    with pytest.raises(BitsError) as caught:
        access.check_helper_token_caller(BOB, OWNER_UID, SETTINGS)
    assert "bob (uid 1002)" in str(caught.value)
    assert "1001" not in str(caught.value)
    assert caught.value.hresult == codes.E_ACCESSDENIED


# Which identity for what

O, H = Who.OWNER, Who.HELPER  # noqa: E741  # the letters of the specification's table

IDENTITIES = {
    Use.UPLOAD_SOURCE: (O, H, O, H),
    Use.DOWNLOAD_TEMPORARY: (O, H, O, H),
    Use.REPLY_FILE: (O, H, O, H),
    Use.DIRECTORY_CHECK: (O, H, O, H),
    Use.SMB_REMOTE_FILE: (O, O, H, H),
    Use.SOCKET: (O, O, H, H),
    Use.SERVER_CHALLENGE_IMPLICIT: (O, O, H, H),
    Use.PROXY_CHALLENGE_IMPLICIT: (O, O, H, H),
    Use.PROXY_STORED_CREDENTIALS: (O, O, H, H),
    Use.PROXY_DETECTION: (O, O, H, H),
    Use.PROXY_USER_SETTINGS: (O, O, H, H),
    Use.EXPLICIT_CREDENTIALS: (Who.AS_GIVEN, Who.AS_GIVEN, Who.AS_GIVEN, Who.AS_GIVEN),
    Use.CLIENT_CERTIFICATE: (O, O, O, O),
    Use.CUSTOM_HEADERS: (O, O, O, O),
    Use.CALLBACK: (Who.SETTER, Who.SETTER, Who.SETTER, Who.SETTER),
    Use.COMMAND_LINE: (Who.SETTER, Who.SETTER, Who.SETTER, Who.SETTER),
    Use.QUEUE: (Who.SERVICE, Who.SERVICE, Who.SERVICE, Who.SERVICE),
}


@pytest.mark.parametrize(("use", "flags"), list(itertools.product(Use, range(4))))
def test_every_use_has_its_identity(use: Use, flags: int) -> None:
    assert access.identity_for(TokenFlags(flags), use) is IDENTITIES[use][flags]


@pytest.mark.parametrize(
    ("flags", "owner_uid", "expected"),
    [(0, 1001, True), (1, 1001, True), (2, 1001, False), (3, 1001, False), (2, 0, True), (3, 0, True)],
)
def test_a_client_certificate_and_a_network_helper_exclude_each_other(
    flags: int, owner_uid: int, *, expected: bool
) -> None:
    assert access.may_use_client_certificate(TokenFlags(flags), owner_uid) is expected
