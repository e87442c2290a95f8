"""What a proxy script is told and what its answer means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits.core.pac import MAX_CHOICES, BadScriptError, Choice, read_answer, told_of


def label(choice: Choice) -> str:
    return ", ".join("direct" if proxy is None else proxy.label for proxy in choice)


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ("DIRECT", "direct"),
        ("PROXY a:80", "a:80"),
        ("PROXY a", "a:80"),
        ("PROXY a:8080; PROXY b:81; DIRECT", "a:8080, b:81, direct"),
        ("HTTP a:1", "a:1"),
        ("HTTPS b:443", "https://b:443"),
        ("HTTPS b", "https://b:443"),
        ("SOCKS5 c:1080", "socks5://c:1080"),
        ("SOCKS c", "socks5://c:1080"),
        ("proxy a:1;direct", "a:1, direct"),
        ("  PROXY\ta:1 ;; ", "a:1"),
        ("PROXY [2001:db8::1]:3128", "[2001:db8::1]:3128"),
        ("PROXY a:1; PROXY a:1", "a:1"),
        ("SOCKS4 c:1; PROXY a:1", "a:1"),
        ("PROXY a:99999; PROXY b:1", "b:1"),
        ("PROXY u:p@a:1; DIRECT", "direct"),
        ("QUIC a:1; PROXY http://a; PROXY; PROXY a:1 b; PROXY a:1", "a:1"),
    ],
)
def test_an_answer_names_proxies_in_order(answer: str, meaning: str) -> None:
    assert label(read_answer(answer)) == meaning


@pytest.mark.parametrize(
    "answer", ["", " ; ", "SOCKS4 c:1", "a:80", "PROXY", "DIRECTLY", "PROXY a:0", "PROXY [::zz]:1"]
)
def test_an_answer_that_names_nothing_is_a_fault_and_no_way_past_the_proxies(answer: str) -> None:
    with pytest.raises(BadScriptError):
        read_answer(answer)


def test_an_answer_without_end_is_cut() -> None:
    answer = ";".join(f"PROXY p{number}:1" for number in range(10_000))
    assert len(read_answer(answer)) == MAX_CHOICES


@given(st.text(max_size=100) | st.text("PROXYHTSCKDIE5; :.a1[]\t", max_size=80))
def test_any_answer_is_read_or_refused(answer: str) -> None:
    try:
        choice = read_answer(answer)
    except BadScriptError as error:
        assert str(error).isascii()  # noqa: PT017  # either way is right
        return
    assert choice
    assert all(proxy is None or 0 < proxy.port < 65536 for proxy in choice)


@pytest.mark.parametrize(
    ("scheme", "url", "resource", "told"),
    [
        ("https", "https://h.example/signed/path?key=secret", "/signed/path?key=secret", "https://h.example/"),
        ("https", "https://h.example:8443/", "/", "https://h.example:8443/"),
        ("http", "http://h.example/path?q=1", "/path?q=1", "http://h.example/path?q=1"),
    ],
)
def test_of_https_only_scheme_and_server_are_told(scheme: str, url: str, resource: str, told: str) -> None:
    assert told_of(scheme, url, resource) == told
