"""Digest against the examples of its documents, and challenges that cannot be answered."""

import re

import pytest

from openbits.transfer import digest
from openbits.transfer.challenges import parse

MUFASA = ("Mufasa", "Circle of Life")
RFC7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
QUESTION = digest.Question(
    method="GET",
    target="/dir/index.html",
    count=1,
    client_nonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
)


def asked(*fields: str) -> digest.Asked:
    found = digest.strongest(parse(fields))
    assert found is not None
    return found


def fields_of(answer: str) -> dict[str, str]:
    assert answer.startswith("Digest ")
    return {name: value.strip('"') for name, value in re.findall(r'([\w*]+)=("(?:[^"\\]|\\.)*"|[^,]+)', answer[7:])}


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616_come_out(algorithm: str, response: str) -> None:
    given = fields_of(digest.answer(asked(RFC7616.format(algorithm)), *MUFASA, QUESTION))
    assert given == {
        "username": "Mufasa",
        "realm": "http-auth@example.org",
        "uri": "/dir/index.html",
        "algorithm": algorithm,
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001",
        "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "qop": "auth",
        "response": response,
        "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
    }


def test_the_example_of_rfc_2617_comes_out() -> None:
    challenge = (
        'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    question = digest.Question(method="GET", target="/dir/index.html", count=1, client_nonce="0a4f113b")
    given = fields_of(digest.answer(asked(challenge), "Mufasa", "Circle Of Life", question))
    assert given["response"] == "6629fae49393a05397450978507c4ef1"
    assert "algorithm" not in given  # as asked


def test_the_old_form_without_qop_has_no_count() -> None:
    """RFC 2069 §2.4, with the response of its erratum 749."""
    challenge = (
        'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    given = fields_of(digest.answer(asked(challenge), "Mufasa", "CircleOfLife", QUESTION))
    assert given["response"] == "1949323746fe6a43ef61f9606e7febea"
    assert given.keys().isdisjoint({"nc", "cnonce", "qop"})


def test_a_name_is_hashed_where_that_is_asked_for() -> None:
    """RFC 7616 §3.9.2: the hashed name of the example."""
    challenge = (
        'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
        'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
        'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
    )
    question = digest.Question(
        method="GET", target="/doe.json", count=1, client_nonce="NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm"
    )
    given = fields_of(digest.answer(asked(challenge), "J\u00e4s\u00f8n Doe", "Secret, or not?", question))
    assert given["username"] == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
    assert given["userhash"] == "true"


def test_a_name_outside_ascii_is_sent_as_agreed() -> None:
    answered = digest.answer(asked('Digest realm="r", nonce="n", charset=UTF-8'), "J\u00e4", "x", QUESTION)
    assert "username*=UTF-8''J%C3%A4" in answered
    answered = digest.answer(asked('Digest realm="r", nonce="n"'), "J\u00e4", "x", QUESTION)
    assert 'username="J\u00e4"' in answered


def test_quotes_in_names_stay_inside() -> None:
    answered = digest.answer(asked('Digest realm="a\\"b", nonce="n"'), 'x", evil="1', "p", QUESTION)
    assert r'username="x\", evil=\"1"' in answered
    assert r'realm="a\"b"' in answered


def test_the_best_of_what_is_offered_is_taken() -> None:
    offered = [RFC7616.format(name) for name in ("MD5", "SHA-256", "SHA-512-256-sess")]
    assert asked(*offered).algorithm == "SHA-512-256-sess"
    assert asked(*offered[:2]).algorithm == "SHA-256"


def test_auth_is_preferred_to_auth_int_and_either_is_answered() -> None:
    assert fields_of(digest.answer(asked(RFC7616.format("MD5")), *MUFASA, QUESTION))["qop"] == "auth"
    only = 'Digest realm="r", nonce="n", qop="auth-int"'
    assert fields_of(digest.answer(asked(only), *MUFASA, QUESTION))["qop"] == "auth-int"


@pytest.mark.parametrize(
    "challenge",
    [
        'Digest realm="r"',
        'Digest nonce="n"',
        'Digest realm="r", nonce="n", algorithm=MD6',
        'Digest realm="r", nonce="n", qop="auth-conf"',
        'Basic realm="r"',
        "Digest",
    ],
)
def test_what_is_not_known_is_no_challenge(challenge: str) -> None:
    assert digest.strongest(parse([challenge])) is None
