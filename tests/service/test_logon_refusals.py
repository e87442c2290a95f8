"""One PAM result, one HRESULT: the whole table of identity.md §9, and the words that people read."""

import pytest

from openbits.core import codes
from openbits.service.spawner_link import RefusedError, logon_refusal


@pytest.mark.parametrize(
    ("result", "hresult"),
    [
        (7, 0x8007052E),  # AUTH_ERR
        (10, 0x8007052E),  # USER_UNKNOWN
        (9, 0x8007052E),  # AUTHINFO_UNAVAIL
        (8, 0x8007052E),  # CRED_INSUFFICIENT
        (13, 0x80070701),  # ACCT_EXPIRED
        (12, 0x80070773),  # NEW_AUTHTOK_REQD
        (11, 0x80070775),  # MAXTRIES
        (6, 0x80070569),  # PERM_DENIED
        (4, 0x8007051F),  # SYSTEM_ERR, as everything else
        (None, 0x8007051F),  # no answer
        (29, 0x80070057),  # BAD_ITEM: the request was none
    ],
)
def test_each_pam_result_has_its_hresult_and_names_the_user(result: int | None, hresult: int) -> None:
    refused = logon_refusal("alice", RefusedError("logon-failed", "what the helper said", pam=result))
    assert refused.hresult == hresult
    assert str(refused).startswith("cannot log on as 'alice': ")
    assert "; " in codes.message(refused.hresult, str(refused)), "the next step"


def test_an_unknown_user_gets_the_words_of_a_wrong_password() -> None:
    unknown, wrong = (logon_refusal("alice", RefusedError("logon-failed", text, pam=pam)) for text, pam in SAID)
    assert (str(unknown), unknown.hresult) == (str(wrong), wrong.hresult)


SAID = (("User not known to the underlying authentication module", 10), ("Authentication failure", 7))


@pytest.mark.parametrize("result", [4, 29, None])
def test_what_pam_or_the_helper_said_is_passed_on_where_it_says_more(result: int | None) -> None:
    assert "the very cause" in str(logon_refusal("alice", RefusedError("logon-failed", "the very cause", pam=result)))


def test_other_refusals_stay_as_they_are() -> None:
    refused = RefusedError("own-service", "this service serves uid 1000 alone")
    assert logon_refusal("alice", refused) is refused
