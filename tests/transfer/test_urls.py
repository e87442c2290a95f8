"""URLs as a download understands them (jobs.md §8.1, §9.4; reliability.md §5 rows 36-42)."""

import pytest

from openbits.core import codes
from openbits.transfer import urls
from openbits.transfer.urls import BadUrlError, RedirectRefusedError

BASE = urls.parse("https://a.example/dir/file?q=1")


@pytest.mark.parametrize(
    ("url", "sent", "peer", "label"),
    [
        ("http://a.example", "http://a.example/", "a.example:80", "a.example/"),
        ("https://a.example/x?sig=1", "https://a.example/x?sig=1", "a.example:443", "a.example/x"),
        ("HTTP://a.example:8080/x", "http://a.example:8080/x", "a.example:8080", "a.example:8080/x"),
        ("https://user:pass@a.example/x#part", "https://a.example/x", "a.example:443", "a.example/x"),
        ("http://[::1]:81/x", "http://[::1]:81/x", "[::1]:81", "[::1]:81/x"),
        ("http://[fe80::1%25eth0]/x", "http://[fe80::1%25eth0]/x", "[fe80::1%25eth0]:80", "[fe80::1%25eth0]/x"),
        ("http://a.example/../x/./%2e", "http://a.example/../x/./%2e", "a.example:80", "a.example/../x/./%2e"),
    ],
)
def test_a_url_is_sent_without_user_information_and_fragment(url: str, sent: str, peer: str, label: str) -> None:
    target = urls.parse(url)
    assert (target.url, target.peer, target.label) == (sent, peer, label)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http:///path",
        "http://a b/",
        "http://a.example/x\r\nEvil: 1",
        "http://a.example/\0",
        "http://a.example:99999/",
        "http://a.example:0/",
        "http://a.example:x/",
        "http://ä.example/",
        "http://a\\@b.example/",
        "http://[::1/",
        "http://%61.example/",
    ],
)
def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(BadUrlError) as caught:
        urls.parse(url)
    assert caught.value.hresult == codes.ERROR_WINHTTP_INVALID_URL


@pytest.mark.parametrize("url", ["ftp://a.example/x", "file:///etc/passwd", "a.example/x", "//a.example/x"])
def test_another_scheme_is_unknown(url: str) -> None:
    with pytest.raises(BadUrlError) as caught:
        urls.parse(url)
    assert caught.value.hresult == codes.ERROR_WINHTTP_UNRECOGNIZED_SCHEME


def test_the_refusal_does_not_repeat_what_may_be_secret() -> None:
    with pytest.raises(BadUrlError) as caught:
        urls.parse("http://user:secret@a.example:x/?key=secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/other", "https://a.example/other"),
        ("other", "https://a.example/dir/other"),
        ("../other", "https://a.example/other"),
        ("?q=2", "https://a.example/dir/file?q=2"),
        ("//b.example/x", "https://b.example/x"),
        ("https://b.example/x", "https://b.example/x"),
        ("https://user:pass@b.example/x", "https://b.example/x"),
        ("  /a b  ", "https://a.example/a%20b"),
    ],
)
def test_a_redirect_is_resolved_against_the_url(location: str, url: str) -> None:
    assert urls.redirect(BASE, location).url == url


def test_an_upgrade_to_https_is_followed() -> None:
    assert urls.redirect(urls.parse("http://a.example/x"), "https://a.example/x").scheme == "https"


@pytest.mark.parametrize(
    "location",
    [
        "http://a.example/x",
        "file:///etc/passwd",
        "ftp://a.example/x",
        "data:text/plain,x",
        "unix:/run/x",
        "gopher://a.example/",
        "",
        "http://[/",
        "/x\r\nEvil: 1",
        "/" + "x" * 10_000,
    ],
)
def test_a_redirect_that_must_not_be_followed_is_refused(location: str) -> None:
    with pytest.raises(RedirectRefusedError):
        urls.redirect(BASE, location)
