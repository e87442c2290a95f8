"""Heads under caps and fields by name (reliability.md §2, §5 rows 4-6 and 50-55)."""

import time
from email.utils import formatdate

import pytest

from openbits.transfer import headers
from openbits.transfer.headers import MAX_BLOCK_CHARACTERS, BadResponseError, ContentRange, Head, HeadCollector

NOON = 1_800_000_000.0


def collect(*lines: bytes) -> Head | None:
    collector = HeadCollector()
    found = None
    for line in lines:
        found = collector.feed(line) or found
    return found


def with_fields(*fields: tuple[str, str]) -> Head:
    return Head(status=200, status_line="HTTP/1.1 200 OK", fields=fields)


def test_a_head_is_complete_with_its_empty_line() -> None:
    collector = HeadCollector()
    assert collector.feed(b"HTTP/1.1 200 OK\r\n") is None
    assert collector.feed(b'ETag:  "a" \r\n') is None
    head = collector.feed(b"\r\n")
    block = 'HTTP/1.1 200 OK\r\nETag: "a"\r\n\r\n'
    assert head == Head(status=200, status_line="HTTP/1.1 200 OK", fields=(("etag", '"a"'),), block=block)


def test_bare_line_feeds_are_tolerated() -> None:
    head = collect(b"HTTP/1.0 200\n", b"Content-Length: 2\n", b"\n")
    assert head is not None
    assert headers.content_length(head) == 2


def test_interim_responses_are_swallowed() -> None:
    head = collect(b"HTTP/1.1 103 Early Hints\r\n", b"Link: x\r\n", b"\r\n", b"HTTP/1.1 204 No Content\r\n", b"\r\n")
    block = "HTTP/1.1 204 No Content\r\n\r\n"
    assert head == Head(status=204, status_line="HTTP/1.1 204 No Content", block=block)


def test_the_block_has_the_names_as_sent_and_no_values_of_cookies() -> None:
    head = collect(
        b"HTTP/1.1 200 O\xc3\x96\r\n", b"X-One:  a\tb \r\n", b"SET-Cookie: session=s3cret\r\n", b"x-one: c\r\n", b"\r\n"
    )
    assert head is not None
    lines = ["HTTP/1.1 200 O??", "X-One: a\tb", "SET-Cookie: (not stored)", "x-one: c", "", ""]
    assert head.block == "\r\n".join(lines)
    assert head.value("set-cookie") == "session=s3cret"


@pytest.mark.parametrize("name", ["Authentication-Info", "proxy-authentication-info"])
def test_the_block_has_nothing_by_which_a_password_could_be_guessed(name: str) -> None:
    head = collect(b"HTTP/1.1 200 OK\r\n", f'{name}: rspauth="6629fae4", nc=1\r\n'.encode(), b"\r\n")
    assert head is not None
    assert head.block == f"HTTP/1.1 200 OK\r\n{name}: (not stored)\r\n\r\n"


def test_a_long_block_loses_whole_lines_at_its_end() -> None:
    lines = [f"X-{number}: {'v' * 1000}\r\n".encode() for number in range(40)]
    head = collect(b"HTTP/1.1 200 OK\r\n", *lines, b"\r\n")
    assert head is not None
    assert len(head.fields) == 40
    assert head.block.endswith("v" * 1000 + "\r\n\r\n")
    assert MAX_BLOCK_CHARACTERS - 1010 < len(head.block) <= MAX_BLOCK_CHARACTERS


def test_a_switch_of_protocols_is_final() -> None:
    head = collect(b"HTTP/1.1 101 Switching Protocols\r\n", b"\r\n")
    assert head is not None
    assert head.status == 101


def test_trailers_change_nothing() -> None:
    collector = HeadCollector()
    collector.feed(b"HTTP/1.1 200 OK\r\n")
    assert collector.feed(b"\r\n") is not None
    assert collector.feed(b"Content-Length: 77\r\n") is None
    assert collector.feed(b"\r\n") is None


def test_the_seventeenth_interim_response_is_too_many() -> None:
    collector = HeadCollector()
    for _ in range(16):
        assert collector.feed(b"HTTP/1.1 100 Continue\r\n") is None
        assert collector.feed(b"\r\n") is None
    collector.feed(b"HTTP/1.1 100 Continue\r\n")
    with pytest.raises(BadResponseError, match="16 interim"):
        collector.feed(b"\r\n")


def test_the_hundred_and_first_field_is_too_many() -> None:
    collector = HeadCollector()
    collector.feed(b"HTTP/1.1 200 OK\r\n")
    for number in range(100):
        collector.feed(b"X-%d: y\r\n" % number)
    with pytest.raises(BadResponseError, match="100 header fields"):
        collector.feed(b"X: y\r\n")


def test_64_kib_of_header_is_the_limit() -> None:
    collector = HeadCollector()
    collector.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(BadResponseError, match="64 KiB"):
        collector.feed(b"X: " + b"a" * 64 * 1024)


@pytest.mark.parametrize(
    "line",
    [
        b"X Y: a\r\n",
        b": a\r\n",
        b" folded\r\n",
        b"no colon\r\n",
        b"X: \xfc\r\n",
        b"\xfc: x\r\n",
        b"X: a\0b\r\n",
        b"X: a\rb\r\n",
    ],
)
def test_malformed_fields_are_refused(line: bytes) -> None:
    with pytest.raises(BadResponseError, match="malformed header field"):
        collect(b"HTTP/1.1 200 OK\r\n", line)


@pytest.mark.parametrize(
    "line",
    [b"HTTP/3.7 200 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 1000 OK", b"HTTP/1.1 20O OK", b"HTTP/1.1 700 X", b"ICY 200 OK"],
)
def test_malformed_status_lines_are_refused(line: bytes) -> None:
    with pytest.raises(BadResponseError, match="malformed status line"):
        collect(line + b"\r\n", b"\r\n")


@pytest.mark.parametrize(
    ("values", "length"),
    [(["12"], 12), (["0"], 0), (["12, 12"], 12), (["12", "12"], 12), ([], None), ([str(2**63 - 1)], 2**63 - 1)],
)
def test_content_length(values: list[str], length: int | None) -> None:
    assert headers.content_length(with_fields(*(("content-length", value) for value in values))) == length


@pytest.mark.parametrize(
    "values",
    [["12, 13"], ["12", "13"], ["-1"], ["+1"], ["1e3"], [""], ["0x10"], [str(2**63)], [str(2**64)], ["9" * 40]],
)
def test_content_length_that_says_nothing_sure_is_refused(values: list[str]) -> None:
    with pytest.raises(BadResponseError, match="Content-Length"):
        headers.content_length(with_fields(*(("content-length", value) for value in values)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 5-9/10", ContentRange(5, 9, 10)),
        ("bytes 5-9/*", ContentRange(5, 9, None)),
        ("bytes */10", ContentRange(None, None, 10)),
        ("Bytes 0-0/1", ContentRange(0, 0, 1)),
        ("bytes 9-5/10", None),
        ("bytes 5-10/10", None),
        ("bytes 5-/10", None),
        ("bytes=5-9/10", None),
        ("lines 5-9/10", None),
        ("", None),
    ],
)
def test_content_range(text: str, expected: ContentRange | None) -> None:
    assert headers.content_range(with_fields(("content-range", text))) == expected


@pytest.mark.parametrize("fields", [(), (("transfer-encoding", "Chunked"),), (("content-length", "5"),)])
def test_one_way_to_see_the_end_of_a_body_is_fine(fields: tuple[tuple[str, str], ...]) -> None:
    headers.check_framing(with_fields(*fields))


@pytest.mark.parametrize(
    "fields",
    [
        (("transfer-encoding", "chunked"), ("content-length", "5")),
        (("transfer-encoding", "gzip, chunked"),),
        (("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")),
        (("transfer-encoding", "gzip"),),
    ],
)
def test_two_ways_to_see_it_are_refused(fields: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(BadResponseError):
        headers.check_framing(with_fields(*fields))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("0", 1.0),  # clamped: at least a second
        ("1000000000", 86_400.0),  # clamped: at most a day
        (formatdate(NOON + 300, usegmt=True), 300.0),
        (formatdate(NOON - 300, usegmt=True), 1.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 1.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert headers.retry_after(with_fields(("retry-after", text)), NOON) == seconds


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_the_three_forms_of_a_date_are_one_instant(text: str) -> None:
    assert headers.instant(text) == 784_111_777.0


@pytest.mark.parametrize("text", ["", "yesterday", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 999999 08:49:37 GMT"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert headers.instant(text) is None


@pytest.mark.parametrize(
    ("text", "tag"),
    [('"a"', '"a"'), ('W/"a"', 'W/"a"'), ("a", None), ('"a', None), ('"a b"', None), ('"' + "a" * 2000 + '"', None)],
)
def test_etag(text: str, tag: str | None) -> None:
    assert headers.etag(with_fields(("etag", text))) == tag


def test_contradicting_fields_are_refused() -> None:
    with pytest.raises(BadResponseError, match="2 different etag"):
        headers.etag(with_fields(("etag", '"a"'), ("etag", '"b"')))


@pytest.mark.parametrize(
    ("text", "coding"), [("identity", None), ("", None), ("gzip", "gzip"), ("identity, br", "br"), ("GZIP", "GZIP")]
)
def test_content_encoding(text: str, coding: str | None) -> None:
    assert headers.content_encoding(with_fields(("content-encoding", text))) == coding


def test_what_a_peer_says_is_shown_without_control_characters_and_not_endlessly() -> None:
    assert headers.printable("a\x1b[31m\n\u202eb", 20) == "a?[31m??b"
    assert headers.printable("x" * 50, 10) == "xxxxxxx..."


@pytest.mark.parametrize("line", [b"X:" + b" " * 60_000 + b"\x80", b"X: " + b"a " * 30_000 + b"\0", b"a" * 60_000])
def test_no_header_line_takes_a_second(line: bytes) -> None:
    collector, begun = HeadCollector(), time.monotonic()
    collector.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(BadResponseError):
        collector.feed(line + b"\r\n")
    assert time.monotonic() - begun < 1
