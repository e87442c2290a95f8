"""Where packets and replies of an upload may go: upload-protocol.md §8.3, §12, D5, D20, D27."""

import pytest

from openbits.transfer import upload_hosts, urls
from openbits.transfer.upload_answers import BadAnswerError

HTTPS = "https://files.example.net/inbox/report.bin?tenant=42"
HTTP = "http://files.example.net/inbox/report.bin"


@pytest.mark.parametrize(
    ("url", "host_id", "expected"),
    [
        (HTTPS, "node3.example.net", "https://node3.example.net/inbox/report.bin?tenant=42"),
        (HTTP, "10.1.2.3", "http://10.1.2.3/inbox/report.bin"),
        (HTTP, "[2001:db8::1]", "http://[2001:db8::1]/inbox/report.bin"),
        ("http://h.example.net:8080/x", "n.example.net", "http://n.example.net:8080/x"),
    ],
)
def test_12_the_host_part_is_replaced_and_the_rest_stays(url: str, host_id: str, expected: str) -> None:
    assert upload_hosts.at_host(urls.parse(url), host_id).url == expected


@pytest.mark.parametrize(
    ("host_id", "peer"),
    [("node3.example.net:8443", "node3.example.net:8443"), ("[2001:db8::1]:81", "[2001:db8::1]:81")],
)
def test_d5_a_port_in_the_host_id_is_taken(host_id: str, peer: str) -> None:
    assert upload_hosts.at_host(urls.parse("http://h.example.net:8080/x"), host_id).peer == peer


@pytest.mark.parametrize(
    "host_id",
    [
        "user@node.example.net",
        "user:password@node.example.net",
        "node.example.net/path",
        "https://node.example.net",
        "file:///etc",
        "node example",
        "node.example.net?x",
        "node.example.net#x",
        "node.example.net\\x",
        "node.example.net:99999",
        "node.example.net:0",
        "[::::]",
        "a" * 301,
        "..",
    ],
)
def test_12_what_is_no_host_is_refused(host_id: str) -> None:
    with pytest.raises(BadAnswerError):
        upload_hosts.at_host(urls.parse(HTTPS), host_id)


@pytest.mark.parametrize(
    "host_id",
    [
        "localhost",
        "LOCALHOST",
        "a.localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",  # noqa: S104  # nothing is bound
        "0",
        "169.254.169.254",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.1.1]",
    ],
)
def test_12_this_machine_and_its_link_are_refused_from_a_public_origin(host_id: str) -> None:
    for origin in (HTTPS, "https://93.184.215.14/x"):
        with pytest.raises(BadAnswerError, match="this machine"):
            upload_hosts.at_host(urls.parse(origin), host_id)


@pytest.mark.parametrize("origin", ["http://127.0.0.1/x", "http://localhost/x", "http://10.0.0.5/x", "http://[::1]/x"])
def test_12_and_are_not_from_an_origin_that_is_there_itself(origin: str) -> None:
    assert upload_hosts.at_host(urls.parse(origin), "127.0.0.2").host == "127.0.0.2"


@pytest.mark.parametrize(
    ("origin", "other", "may"),
    [
        (HTTPS, "https://node.elsewhere.org/", True),
        (HTTP, "http://files.example.net:81/", True),
        (HTTP, "http://node3.example.net/", True),
        (HTTP, "http://NODE3.Example.net/", True),
        (HTTP, "http://example.net/", False),
        (HTTP, "http://node.elsewhere.org/", False),
        (HTTP, "http://evilexample.net/", False),
        ("http://example.net/", "http://node.example.net/", True),
        ("http://example.co.uk/", "http://other.co.uk/", False),
        ("http://files.example.co.uk/", "http://node.example.co.uk/", True),
        ("http://example.net/", "http://other.net/", False),
        ("http://10.0.0.1/", "http://10.0.0.2/", False),
        ("http://10.0.0.1/", "http://10.0.0.1:81/", True),
        ("http://files/", "http://node/", False),
    ],
)
def test_d27_who_may_know_who_we_are(origin: str, other: str, may: bool) -> None:  # noqa: FBT001  # of a parameter
    assert upload_hosts.may_know_us(urls.parse(origin), urls.parse(other)) is may


# -- §8.3


SENT_TO = urls.parse("https://node3.example.net/inbox/report.bin?tenant=42")
ID = "{5C0E9F1A-77D2-4B0E-9A53-0D1C6E2F8B44}"
ESCAPED = "%7B5C0E9F1A-77D2-4B0E-9A53-0D1C6E2F8B44%7D"


def reply(text: str, origin: str = HTTPS) -> str:
    return upload_hosts.reply_url(urls.parse(origin), SENT_TO, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"BITS-Sessions\\Replies\\{ID}\\responsefile.bin",
            f"https://node3.example.net/inbox/BITS-Sessions/Replies/{ESCAPED}/responsefile.bin",
        ),
        (f"/r/{ESCAPED}", f"https://node3.example.net/r/{ESCAPED}"),
        ("https://files.example.net/r", "https://files.example.net/r"),
        ("https://elsewhere.org:8443/r?x=1&y", "https://elsewhere.org:8443/r?x=1&y"),
        ("a b", "https://node3.example.net/inbox/a%20b"),
        ("100%", "https://node3.example.net/inbox/100%25"),
        ("50%zz%41", "https://node3.example.net/inbox/50%25zz%41"),
        ('<">^`|', "https://node3.example.net/inbox/%3C%22%3E%5E%60%7C"),
        ("r#part", "https://node3.example.net/inbox/r"),
        ("https://user:secret@elsewhere.org/r", "https://elsewhere.org/r"),
    ],
)
def test_8_3_a_reply_url_is_made_absolute_against_where_the_fragment_was_sent(text: str, expected: str) -> None:
    assert reply(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "ftp://elsewhere.org/r",
        "http://node3.example.net/r",
        "https://[::1]/r",
        "https://localhost/r",
        "https://169.254.169.254/latest",
        "a" * 2201,
        "https://elsewhere.org/" + "a" * 261,
    ],
)
def test_8_3_and_a_foreign_scheme_a_downgrade_and_what_is_too_long_are_refused(text: str) -> None:
    with pytest.raises(BadAnswerError):
        reply(text)


def test_8_3_an_upload_over_http_may_be_answered_over_https() -> None:
    sent_to = urls.parse(HTTP)
    assert upload_hosts.reply_url(sent_to, sent_to, "https://files.example.net/r") == "https://files.example.net/r"
