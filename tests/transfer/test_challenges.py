"""What servers and proxies ask (RFC 9110 §11), as they write it and as nobody should."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits.transfer.challenges import MAX_CHALLENGES, Challenge, parse


def basic(realm: str) -> Challenge:
    return Challenge(scheme="basic", parameters={"realm": realm})


NTLM = Challenge(scheme="ntlm")
NEGOTIATE = Challenge(scheme="negotiate")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], []),
        ([""], []),
        (['Basic realm="files"'], [basic("files")]),
        (["BASIC realm=files"], [basic("files")]),
        (['Basic realm = "files"'], [basic("files")]),
        (['Basic REALM="files"'], [basic("files")]),
        (['Basic realm="a, b=c, Digest x"'], [basic("a, b=c, Digest x")]),
        ([r'Basic realm="a \"b\" \\ c"'], [basic(r'a "b" \ c')]),
        (['Basic realm=""'], [basic("")]),
        (["Negotiate", "NTLM"], [NEGOTIATE, NTLM]),
        (["Negotiate, NTLM"], [NEGOTIATE, NTLM]),
        ([' , Negotiate ,, NTLM\t, Basic realm="x",'], [NEGOTIATE, NTLM, basic("x")]),
        (['Basic realm="x", Negotiate'], [basic("x"), NEGOTIATE]),
        (["NTLM TlRMTVNTUAAC/+=="], [Challenge(scheme="ntlm", token="TlRMTVNTUAAC/+==")]),
        (["Negotiate YII=, NTLM"], [Challenge(scheme="negotiate", token="YII="), NTLM]),
        (
            ['Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"'],  # RFC 9110 §11.6.1
            [
                Challenge(scheme="newauth", parameters={"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
                basic("simple"),
            ],
        ),
        (
            ['Digest realm="r", nonce="n", qop="auth,auth-int", algorithm=SHA-256, stale=TRUE'],
            [
                Challenge(
                    scheme="digest",
                    parameters={
                        "realm": "r",
                        "nonce": "n",
                        "qop": "auth,auth-int",
                        "algorithm": "SHA-256",
                        "stale": "TRUE",
                    },
                )
            ],
        ),
    ],
)
def test_challenges_are_read_as_they_are_written(fields: list[str], expected: list[Challenge]) -> None:
    assert list(parse(fields)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (['Basic realm="one", realm="two"'], []),  # which one would be chance
        (['Basic realm="unended'], []),
        (['Basic realm="x" nonsense'], []),
        (['NTLM, Basic realm="x" "y"'], [NTLM]),
        (["=", "NTLM"], [NTLM]),
        (['"NTLM"', "Negotiate"], [NEGOTIATE]),
        (["NTLM @@@", "Negotiate"], [NEGOTIATE]),
        (["x" * 5000 + ' realm="a"', "NTLM"], [NTLM]),
    ],
)
def test_what_makes_no_sense_is_left_out_and_the_rest_counts(fields: list[str], expected: list[Challenge]) -> None:
    assert [one for one in parse(fields) if one.scheme in {"basic", "ntlm", "negotiate"}] == expected


def test_a_flood_of_challenges_is_cut() -> None:
    assert len(parse(["NTLM"] * 100)) == MAX_CHALLENGES
    assert len(parse([", ".join(["NTLM"] * 1000)])) == MAX_CHALLENGES


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 60_000,
        "a " * 30_000,
        'a="' * 20_000,
        "a=" * 30_000,
        "," * 60_000,
        'x a="' + "\\" * 60_000,
        " " * 60_000 + "a",
    ],
)
def test_a_header_of_64_kib_is_read_at_once(hostile: str) -> None:
    began = time.process_time()
    parse([hostile])
    parse([f"Basic {hostile}"])
    assert time.process_time() - began < 1


@given(st.lists(st.text(alphabet=st.characters(min_codepoint=9, max_codepoint=126), max_size=200), max_size=4))
def test_whatever_a_peer_sends_is_read_or_left_out(fields: list[str]) -> None:
    for challenge in parse(fields):
        assert challenge.scheme == challenge.scheme.lower() != ""
        assert not (challenge.token and challenge.parameters)


@given(
    st.lists(
        st.one_of(
            st.builds(
                lambda token: Challenge(scheme="ntlm", token=token), st.from_regex(r"[A-Za-z0-9+/]+=?", fullmatch=True)
            ),
            st.builds(basic, st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126))),
            st.just(NEGOTIATE),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_what_was_written_is_read_again(challenges: list[Challenge], is_one_field: bool) -> None:  # noqa: FBT001  # drawn
    texts = [_written(challenge) for challenge in challenges]
    assert list(parse([", ".join(texts)] if is_one_field else texts)) == challenges


def _written(challenge: Challenge) -> str:
    if challenge.token:
        return f"{challenge.scheme} {challenge.token}"
    quoted = (f'{name}="{_escaped(value)}"' for name, value in challenge.parameters.items())
    return f"{challenge.scheme} {', '.join(quoted)}".strip()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
