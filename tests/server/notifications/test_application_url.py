"""From the setting BITSServerNotificationURL to an address."""

import pytest

from openbits.server.application_url import MAX_URL, UrlError, address, is_static_url

DESTINATION = "https://files.example.net/v/sub/file.txt"
PUBLIC = "https://files.example.net"


def url(configured: str, destination: str = DESTINATION, public: str = PUBLIC) -> str:
    return address(configured, destination, public).url


@pytest.mark.parametrize(
    ("configured", "asked"),
    [
        ("http://app.example.net/hooks/ingest", "http://app.example.net/hooks/ingest"),
        ("http://app.example.net", "http://app.example.net/"),
        ("HTTP://App.Example.NET:8080/x", "http://app.example.net:8080/x"),
        ("https://app.example.net:443/x", "https://app.example.net/x"),
        ("http://[2001:db8::1]:81/x", "http://[2001:db8::1]:81/x"),
        ("http://app.example.net/a b/\u00e9?q=\u00e9#part", "http://app.example.net/a%20b/%C3%A9?q=%C3%A9"),
        ("http://b\u00fccher.example/x", "http://xn--bcher-kva.example/x"),
        ("unix:/run/app.sock:/hooks/ingest", "unix:/run/app.sock:/hooks/ingest"),
        ("unix:/run/app.sock", "unix:/run/app.sock:/"),
    ],
)
def test_s9_2_d21_an_absolute_url_is_used_as_it_is(configured: str, asked: str) -> None:
    assert url(configured) == asked


@pytest.mark.parametrize(
    ("configured", "asked"),
    [
        ("notify.cgi", "https://files.example.net/v/sub/notify.cgi"),
        ("../notify.cgi", "https://files.example.net/v/notify.cgi"),
        ("/app/notify", "https://files.example.net/app/notify"),
        ("notify.cgi?kind=1", "https://files.example.net/v/sub/notify.cgi?kind=1"),
    ],
)
def test_s9_2_a_relative_url_is_resolved_against_the_directory_of_the_destination(configured: str, asked: str) -> None:
    assert url(configured) == asked


def test_s13_the_host_that_a_client_names_is_never_notified() -> None:
    found = address("notify.cgi", "http://169.254.169.254:80/v/file.txt", "https://files.example.net:8443")
    assert (found.scheme, found.host, found.port) == ("https", "files.example.net", 8443)


@pytest.mark.parametrize(
    ("configured", "query", "asked"),
    [
        ("http://a/x", "tenant=42", "http://a/x?tenant=42"),
        ("http://a/x?kind=1", "tenant=42", "http://a/x?kind=1&tenant=42"),
        ("unix:/s:/x", "tenant=42", "unix:/s:/x?tenant=42"),
        ("http://a/x", 'q=%zz%2F \u00e9"<>', "http://a/x?q=%25zz%2F%20%C3%A9%22%3C%3E"),
        ("http://a/x", "@evil/?a=://b", "http://a/x?@evil/?a=://b"),
    ],
)
def test_s9_2_s13_the_query_of_the_destination_is_appended_escaped(configured: str, query: str, asked: str) -> None:
    assert url(configured, f"{DESTINATION}?{query}") == asked


def test_s9_2_it_has_at_most_2200_characters() -> None:
    configured = "http://a/x"
    room = MAX_URL - len(configured) - len("?")
    assert len(url(configured, f"{DESTINATION}?{'q' * room}")) == 2200
    with pytest.raises(UrlError, match="2201 characters"):
        url(configured, f"{DESTINATION}?{'q' * (room + 1)}")


@pytest.mark.parametrize(
    ("configured", "words"),
    [
        ("", "empty"),
        ("ftp://a/x", "'ftp'"),
        ("file:///etc/passwd", "'file'"),
        ("http:///x", "no host"),
        ("http://user:secret@a/x", "user information"),
        ("http://a:99999/x", "no URL"),
        ("http://[::1/x", "no URL"),
        ("//evil/x", "two slashes"),
        ("unix:app.sock", "absolute path"),
        ("unix:/run/app.sock:x", "slash"),
        (f"http://{chr(0xE9) * 70}/", "host"),
    ],
)
def test_s9_2_what_cannot_be_used_is_said(configured: str, words: str) -> None:
    with pytest.raises(UrlError, match=words) as caught:
        url(configured)
    assert "secret" not in str(caught.value)


def test_s9_2_a_relative_url_needs_a_public_url() -> None:
    with pytest.raises(UrlError, match="public_url"):
        url("notify.cgi", public="")


@pytest.mark.parametrize(
    ("found", "is_one"),
    [
        ("https://files.example.net/reply", True),
        ("http://h/" + "x" * 2191, True),
        ("http://h/" + "x" * 2192, False),
        ("reply.txt", False),
        ("file:///etc/passwd", False),
        ("http:///x", False),
        ("http://[::1/x", False),
        ("http://h/a b", False),
        ("http://h/\u00e9", False),
    ],
)
def test_s8_2_a_static_url_is_absolute_and_has_at_most_2200_characters(found: str, *, is_one: bool) -> None:
    assert is_static_url(found) is is_one
