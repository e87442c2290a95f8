"""What goes with an order: policies, inherited credentials, stored ones; the values are those of identity.md §7."""

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
from tests.real.canaries import assert_hidden, canary

from openbits.core import codes, secrets
from openbits.core.enums import CertStore, TokenFlags
from openbits.core.errors import BitsError
from openbits.core.model import Certificate, Directory, File, Identity, Job
from openbits.core.policies import DEFAULTS
from openbits.service import entrusting
from openbits.service.entrusting import Credentials, Entrusting, parsed
from openbits.service.vault import Vault

Pair = tuple[str | None, str | None]

KEYS = Vault([b"k" * 32])
_NOBODY: Any = None
"""Who is not asked in these tests."""

IMPLICIT: Pair = (None, None)
EXPLICIT: Pair = ("anna", "Canary5ecret")


def a_file(url: str = "http://files.example/a") -> File:
    return File(remote_name=url, local_name="/d/a", directory=Directory(path="/d", dev=1, ino=1), name="a")


def a_job(slots: dict[str, Pair] | None = None, *, uid: int = 1000) -> Job:
    job = Job(
        job_id=uuid.UUID(int=7), owner=Identity(uid=uid, gid=100), created_at=1.0, modified_at=1.0, state_since=1.0
    )
    sealed = [KEYS.seal(job.job_id, uid, slot, json.dumps(pair)) for slot, pair in (slots or {}).items()]
    return replace(job, secrets=tuple(sealed))


def passed(slots: dict[str, Pair], url: str = "http://files.example/a") -> list[tuple[Any, ...]]:
    """Target, scheme, user, origin of what the worker gets."""
    made = Entrusting(_NOBODY, KEYS, _NOBODY, _NOBODY)
    found = made._credentials(a_job(slots), a_file(url))
    return sorted((one.target, one.scheme, one.user or "", one.origin or "") for one in found)


@pytest.mark.parametrize(("value", "is_sent"), [(0, True), (1, True), (2, False)])
def test_the_policy_says_whether_implicit_credentials_are_sent_unasked(value: int, is_sent: bool) -> None:  # noqa: FBT001  # a case
    """A65; 1 compares the LM level, of which there is one here, with 2."""
    rules = entrusting.rules(replace(DEFAULTS, use_lm_compat=value))
    assert (rules["implicit_server"], rules["implicit_proxy"]) == (is_sent, is_sent)


def test_without_policies_nothing_implicit_is_sent_and_basic_may_go_in_clear() -> None:
    assert entrusting.rules(DEFAULTS) == {"implicit_server": False, "implicit_proxy": False, "basic_over_http": True}
    assert not entrusting.rules(replace(DEFAULTS, disable_basic_auth_over_http=True))["basic_over_http"]


@pytest.mark.parametrize(
    ("slots", "for_server"),
    [
        ({"proxy/negotiate": IMPLICIT}, [("negotiate", "")]),
        ({"proxy/ntlm": IMPLICIT, "proxy/negotiate": IMPLICIT}, [("negotiate", ""), ("ntlm", "")]),
        ({"proxy/negotiate": IMPLICIT, "server/negotiate": IMPLICIT}, [("negotiate", "")]),
        ({"proxy/negotiate": IMPLICIT, "server/ntlm": IMPLICIT}, [("negotiate", ""), ("ntlm", "")]),
        ({"proxy/negotiate": IMPLICIT, "server/basic": EXPLICIT}, [("basic", "anna")]),
        ({"proxy/negotiate": EXPLICIT}, []),
        ({"proxy/basic": EXPLICIT}, []),
        ({"server/negotiate": IMPLICIT}, [("negotiate", "")]),
    ],
)
def test_implicit_proxy_credentials_serve_the_server_unless_it_has_explicit_ones(
    slots: dict[str, Pair], for_server: list[tuple[str, str]]
) -> None:
    """A42."""
    found = [(scheme, user) for target, scheme, user, _ in passed(slots) if target == "server"]
    assert found == for_server


def test_what_was_part_of_a_url_goes_to_its_server_alone() -> None:
    slots = {"url/https://files.example:443": EXPLICIT, "proxy/negotiate": IMPLICIT}
    implicit = [("proxy", "negotiate", "", "")]
    own = [("server", "basic", "anna", "https://files.example:443")]
    assert passed(slots, "https://FILES.example/b") == implicit + own
    for other in ("http://files.example/b", "https://files.example:444/b", "https://other.example/b"):
        assert passed(slots, other) == [*implicit, ("server", "negotiate", "", "")]


def test_where_a_redirect_leads_changes_nothing_of_what_a_file_is_entrusted_with() -> None:
    """Its remote name is where it was redirected to, its requests go to the server that the client named (§9.4)."""
    given, target = "https://files.example/b", "http://elsewhere.example/c"
    redirected = replace(a_file(given), remote_name=target, given_remote_name=given)
    own, others = "url/https://files.example:443", "url/http://elsewhere.example:80"
    made = Entrusting(_NOBODY, KEYS, _NOBODY, _NOBODY)
    (found,) = made._credentials(a_job({own: EXPLICIT, others: ("bob", "x")}), redirected)
    assert (found.user, found.origin) == ("anna", "https://files.example:443")
    certificate = Certificate(location=CertStore.CURRENT_USER, store="MY", sha1="0" * 40, subject="")
    with pytest.raises(BitsError) as caught:
        entrusting.check(replace(a_job(), certificate=certificate, helper_token_flags=TokenFlags.NETWORK), redirected)
    assert caught.value.hresult == 0x80072F9A
    renamed = replace(redirected, new_remote_name="http://elsewhere.example/d")
    assert [one.user for one in made._credentials(a_job({own: EXPLICIT, others: ("bob", "x")}), renamed)] == ["bob"]


def test_nothing_that_was_passed_shows_itself() -> None:
    assert_hidden(Credentials(target="server", scheme="basic", user="anna", password=canary()))


@pytest.mark.parametrize(
    ("flags", "uid", "url", "is_refused"),
    [
        (TokenFlags(0), 1000, "https://h/a", False),
        (TokenFlags.LOCAL_FILE, 1000, "https://h/a", False),
        (TokenFlags.NETWORK, 1000, "https://h/a", True),
        (TokenFlags.NETWORK | TokenFlags.LOCAL_FILE, 1000, "https://h/a", True),
        (TokenFlags.NETWORK, 0, "https://h/a", False),
        (TokenFlags.NETWORK, 1000, "http://h/a", False),
    ],
)
def test_a_certificate_of_the_owner_is_none_for_the_network_identity_of_another(
    flags: TokenFlags,
    uid: int,
    url: str,
    is_refused: bool,  # noqa: FBT001  # a case
) -> None:
    """A40."""
    certificate = Certificate(location=CertStore.CURRENT_USER, store="MY", sha1="0" * 40, subject="")
    job = replace(a_job(uid=uid), certificate=certificate, helper_token_flags=flags)
    if not is_refused:
        entrusting.check(job, a_file(url))
        entrusting.check(replace(job, certificate=None), a_file(url))
        return
    with pytest.raises(BitsError) as caught:
        entrusting.check(job, a_file(url))
    assert caught.value.hresult == 0x80072F9A
    entrusting.check(replace(job, certificate=None), a_file(url))


STORED = """
[[proxy]]
host = "proxy.example"
port = 3128
scheme = "Digest"
user = "anna"
password = "Canary5ecret"
"""


def test_stored_credentials_are_for_their_proxy_alone() -> None:
    assert parsed((STORED + STORED.replace("3128", "8080")).encode(), "place") == [
        Credentials(
            target="proxy", scheme="digest", user="anna", password="Canary5ecret", origin=f"proxy.example:{port}"
        )
        for port in (3128, 8080)
    ]


@pytest.mark.parametrize(
    "text",
    [
        STORED.replace('"Canary5ecret"', "Canary5ecret"),
        STORED.replace("port = 3128", 'port = "3128"'),
        STORED.replace("port = 3128", "port = true"),
        STORED.replace("Digest", "Kerberos"),
        STORED.replace("password", "passwort"),
        STORED.replace('user = "anna"\n', ""),
        STORED + 'realm = "x"\n',
        STORED.replace("[[proxy]]", "[proxy]"),
        STORED.replace("[[proxy]]", "[[server]]"),
        STORED + '[[server]]\nhost = "x"\n',
        "proxy = 5\n",
        "proxy = [5]\n",
        "\x00",
        "",
    ],
)
def test_a_file_that_is_not_as_it_must_be_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(BitsError) as caught:
        parsed(text.encode(), "/home/anna/credentials.toml of anna (uid 1000)")
    assert caught.value.hresult == codes.BG_E_INVALID_CREDENTIALS == 0x80200040
    assert "/home/anna/credentials.toml of anna (uid 1000)" in str(caught.value)
    assert_hidden(caught.value, caught.value.__cause__, caught.value.__context__ if text == STORED else None)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BitsError):
        parsed(b"\xff\xfe", "place")


def test_every_slot_of_a_job_has_its_row() -> None:
    job = a_job({f"{target}/{scheme}": EXPLICIT for target in ("server", "proxy") for scheme in ("basic", "passport")})
    assert [(target, scheme) for target, scheme, _ in secrets.credentials(job)] == [
        ("server", "basic"), ("server", "passport"), ("proxy", "basic"), ("proxy", "passport"),
    ]  # fmt: skip
