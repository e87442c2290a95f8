"""Where a client finds its reply."""

import dataclasses

import pytest

from openbits.core.packets import MAX_REPLY_URL
from openbits.server.model import Directory, Session
from openbits.server.replies import reply_url

ID = "{5C0E9F1A-77D2-4B0E-9A53-0D1C6E2F8B44}"
TAIL = "BITS-Sessions/Replies/%7B5C0E9F1A-77D2-4B0E-9A53-0D1C6E2F8B44%7D/responsefile.bin"
INBOX = Directory(url_path="/inbox/")


def session(url: str, path: str = "inbox/report.bin", host_id: str = "") -> Session:
    return Session(
        session_id=ID,
        directory="/inbox/",
        path=path,
        url=url,
        user="",
        created_at=0,
        progressed_at=0,
        host_id=host_id,
    )


def test_s8_3_it_is_absolute_and_percent_encoded_and_has_no_query() -> None:
    found = reply_url(INBOX, session("https://files.example.net/inbox/report.bin?tenant=42"))
    assert found == f"https://files.example.net/inbox/{TAIL}"


@pytest.mark.parametrize(
    ("url", "path", "folder"),
    [
        ("http://h/inbox/a/b/report.bin", "inbox/a/b/report.bin", "http://h/inbox/"),
        ("http://h:8080/INBOX%2d1/r", "INBOX-1/r", "http://h:8080/INBOX%2d1/"),
        ("https://h/behind/proxy/inbox/r", "inbox/r", "https://h/behind/proxy/inbox/"),
        ("http://[::1]:81/inbox/r", "inbox/r", "http://[::1]:81/inbox/"),
    ],
)
def test_s5_2_it_is_below_the_directory_of_the_session(url: str, path: str, folder: str) -> None:
    assert reply_url(INBOX, session(url, path)) == folder + TAIL


@pytest.mark.parametrize(
    ("url", "path"), [("http://h/report.bin", "report.bin"), ("http://h/a/report.bin", "a/report.bin")]
)
def test_s5_2_it_is_below_a_directory_that_is_the_root(url: str, path: str) -> None:
    root = Directory(url_path="/")
    assert reply_url(root, session(url, path)) == f"http://h/{TAIL}"


@pytest.mark.parametrize(
    ("origin", "host_id", "authority"),
    [
        ("files.example.net", "node3.example.net", "node3.example.net"),
        ("files.example.net:8443", "node3.example.net", "node3.example.net:8443"),
        ("files.example.net:8443", "node3.example.net:9443", "node3.example.net:9443"),
        ("files.example.net", "node3.example.net:9443", "node3.example.net:9443"),
        ("[2001:db8::1]:8443", "10.0.0.3", "10.0.0.3:8443"),
        ("files.example.net:8443", "[2001:db8::3]", "[2001:db8::3]:8443"),
        ("[2001:db8::1]", "[2001:db8::3]:81", "[2001:db8::3]:81"),
    ],
)
def test_s12_d5_the_host_id_takes_the_place_of_the_host(origin: str, host_id: str, authority: str) -> None:
    found = reply_url(INBOX, session(f"https://{origin}/inbox/report.bin", host_id=host_id))
    assert found == f"https://{authority}/inbox/{TAIL}"


def test_s3_2_it_is_never_longer_than_2200_characters() -> None:
    found = reply_url(INBOX, session(f"http://{'h' * 2200}/inbox/report.bin"))
    assert (found, len(found) <= MAX_REPLY_URL) == (f"/inbox/{TAIL}", True)


def test_s3_2_a_host_that_is_none_does_not_break_the_field() -> None:
    odd = session("http://h/inbox/report.bin")
    found = reply_url(INBOX, dataclasses.replace(odd, url="http://h\u00e9 x/inbox/report.bin"))
    assert found.isascii()
    assert " " not in found
