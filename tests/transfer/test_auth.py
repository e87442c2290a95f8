"""Which credentials of a job are for whom (identity.md §7, §13; jobs.md §9.4)."""

import pytest

from openbits.core.enums import AuthScheme, AuthTarget
from openbits.core.proxies import Kind, Proxy
from openbits.transfer import auth
from openbits.transfer.auth import Authentication, Credential, Peer

HOME = auth.server(("https", "files.example", 443))
PROXY = auth.proxy(Proxy(host="px.example", port=3128))
S, P = AuthTarget.SERVER, AuthTarget.PROXY
BASIC, DIGEST, NTLM, NEGOTIATE, PASSPORT = AuthScheme


def explicit(scheme: AuthScheme, target: AuthTarget = S, origin: str | None = None) -> Credential:
    return Credential(target=target, scheme=scheme, user="anna", password="Canary5ecret", origin=origin)


def implicit(scheme: AuthScheme, target: AuthTarget = S) -> Credential:
    return Credential(target=target, scheme=scheme)


def usable(peer: Peer, *credentials: Credential, home: Peer = HOME) -> list[AuthScheme]:
    return [one.scheme for one in auth.usable(Authentication(credentials=credentials), peer, home).credentials]


def test_the_strongest_comes_first() -> None:
    given = [explicit(scheme) for scheme in (BASIC, DIGEST, NTLM, NEGOTIATE)]
    assert usable(HOME, *given) == [NEGOTIATE, NTLM, DIGEST, BASIC]


def test_a_server_gets_none_of_the_proxy_and_a_proxy_none_of_the_server() -> None:
    assert usable(HOME, explicit(BASIC, P), explicit(DIGEST)) == [DIGEST]
    assert usable(PROXY, explicit(BASIC, P), explicit(DIGEST)) == [BASIC]


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [
        ("http", "files.example", 443),
        ("http", "files.example", 80),
        ("https", "files.example", 8443),
        ("https", "files.example.", 443),
        ("https", "www.files.example", 443),
        ("https", "example", 443),
        ("https", "evil.example", 443),
    ],
)
def test_a_redirect_elsewhere_gets_nothing_and_is_told_why(scheme: str, host: str, port: int) -> None:
    peer = auth.server((scheme, host, port))
    given = Authentication(
        credentials=(explicit(BASIC), explicit(DIGEST), explicit(NTLM), implicit(NEGOTIATE)),
        is_implicit_for_server=True,
    )
    found = auth.usable(given, peer, HOME)
    assert found.credentials == ()
    assert "https://files.example:443" in found.notes[0]


def test_the_same_host_over_https_in_place_of_http_is_home() -> None:
    home = auth.server(("http", "files.example", 80))
    assert usable(HOME, explicit(BASIC), home=home) == [BASIC]
    assert usable(auth.server(("https", "files.example", 8443)), explicit(BASIC), home=home) == []
    assert usable(HOME, explicit(BASIC), home=auth.server(("http", "files.example", 8080))) == []


def test_what_came_with_a_url_is_for_its_server_alone_and_comes_before_the_slot() -> None:
    of_url = explicit(BASIC, origin="https://files.example:443")
    other = explicit(BASIC, origin="https://other.example:443")
    assert auth.usable(Authentication(credentials=(explicit(BASIC), of_url, other)), HOME, HOME).credentials == (
        of_url,
        explicit(BASIC),
    )


def test_what_came_with_a_proxy_is_for_it_alone() -> None:
    stored = explicit(BASIC, P, origin="px.example:3128")
    assert usable(PROXY, stored) == [BASIC]
    assert usable(auth.proxy(Proxy(host="px2.example", port=3128)), stored) == []
    assert usable(auth.proxy(Proxy(host="px.example", port=1080, kind=Kind.SOCKS5)), stored) == []
    socks = explicit(BASIC, P, origin="socks5://px.example:1080")
    assert usable(auth.proxy(Proxy(host="px.example", port=1080, kind=Kind.SOCKS5)), socks) == [BASIC]


def test_the_own_identity_is_used_only_if_the_job_or_a_policy_says_so() -> None:
    """A64, A65."""
    assert usable(HOME) == []
    assert usable(HOME, implicit(NEGOTIATE)) == [NEGOTIATE]
    for target, peer, other in ((S, HOME, PROXY), (P, PROXY, HOME)):
        given = Authentication(is_implicit_for_server=target is S, is_implicit_for_proxy=target is P)
        assert [one.is_implicit for one in auth.usable(given, peer, HOME).credentials] == [True]
        assert auth.usable(given, other, HOME).credentials == ()


def test_a_policy_does_not_take_the_place_of_what_the_job_was_given() -> None:
    given = Authentication(credentials=(explicit(NEGOTIATE),), is_implicit_for_server=True)
    assert auth.usable(given, HOME, HOME).credentials == (explicit(NEGOTIATE),)


@pytest.mark.parametrize(("credential", "why"), [(implicit(NTLM), "NTLM"), (explicit(PASSPORT), "Passport")])
def test_what_cannot_be_used_is_said(credential: Credential, why: str) -> None:
    found = auth.usable(Authentication(credentials=(credential,)), HOME, HOME)
    assert found.credentials == ()
    assert why in found.notes[0]


def test_basic_goes_over_http_only_if_the_policy_allows_it() -> None:
    """A67. The way to a proxy is in clear in any case."""
    home = auth.server(("http", "files.example", 80))
    given = Authentication(credentials=(explicit(BASIC), explicit(BASIC, P)), may_send_basic_over_http=False)
    assert auth.usable(given, home, home).credentials == ()
    assert "in clear" in auth.usable(given, home, home).notes[0]
    assert [one.scheme for one in auth.usable(given, HOME, HOME).credentials] == [BASIC]
    assert [one.scheme for one in auth.usable(given, PROXY, home).credentials] == [BASIC]


def test_no_text_shows_a_password() -> None:
    given = auth.read(
        {"implicit_server": False, "implicit_proxy": False, "basic_over_http": True},
        [{"target": "server", "scheme": "basic", "user": "anna", "password": "Canary5ecret", "origin": None}],
    )
    assert given.credentials == (explicit(BASIC),)
    assert "Canary5ecret" not in f"{given!r} {given.credentials[0].label}"
