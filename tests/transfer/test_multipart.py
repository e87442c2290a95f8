"""The parser of multipart/byteranges: any cut gives the same, hostile bodies cost neither time nor memory (R7)."""

import itertools
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.transfer.rangeserver import several

from openbits.transfer import multipart
from openbits.transfer.headers import BadResponseError, ContentRange, Head
from openbits.transfer.multipart import Multipart

BODY = bytes(range(256)) * 8
BOUNDARY = "THIS_SEPARATES"

SPANS = st.lists(
    st.tuples(st.integers(0, len(BODY) - 1), st.integers(0, 400)).map(
        lambda pair: (pair[0], min(len(BODY) - 1, sum(pair)))
    ),
    min_size=1,
    max_size=8,
)
NASTY = st.lists(
    st.sampled_from(
        [
            b"--THIS_SEPARATES",
            b"--",
            b"\r\n",
            b"\n",
            b"\r",
            b"Content-Range: bytes 0-3/9",
            b"X: y",
            b"abcd",
            b" ",
            b"\0",
        ]
    )
    | st.binary(max_size=20),
    max_size=40,
).map(b"".join)


def content_of(spans: Sequence[tuple[int, int]]) -> bytes:
    _, content = several(BODY, spans)
    assert isinstance(content, bytes)
    return content


def outcome(pieces: Sequence[bytes]) -> tuple[list[tuple[ContentRange, bytes]], bool, str]:
    """The parts, whether the end came, and what is wrong with the body."""
    parser, parts = Multipart(BOUNDARY), list[tuple[ContentRange, bytes]]()
    try:
        for piece in pieces:
            for item in parser.feed(piece):
                if isinstance(item, ContentRange):
                    parts.append((item, b""))
                else:
                    parts[-1] = (parts[-1][0], parts[-1][1] + item)
    except BadResponseError as error:
        return parts, False, str(error)
    return parts, parser.is_over, ""


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[left:right] for left, right in itertools.pairwise(edges)]


@given(SPANS, st.lists(st.integers(0, 10_000), max_size=20))
def test_what_was_sent_comes_out_however_it_is_cut(spans: list[tuple[int, int]], places: list[int]) -> None:
    parts, is_over, wrong = outcome(cut(content_of(spans), places))
    assert (is_over, wrong) == (True, "")
    assert [data for _, data in parts] == [BODY[first : last + 1] for first, last in spans]
    assert [(part.first, part.last, part.total) for part, _ in parts] == [(*span, len(BODY)) for span in spans]


@given(NASTY, st.lists(st.integers(0, 10_000), max_size=20))
def test_the_cut_makes_no_difference_to_any_body(data: bytes, places: list[int]) -> None:
    whole = outcome([data])
    assert outcome(cut(data, places)) == whole
    assert outcome([data[index : index + 1] for index in range(len(data))]) == whole


@given(SPANS, st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_a_damaged_body_never_gives_more_than_it_promised(
    spans: list[tuple[int, int]], place: int, damage: bytes
) -> None:
    content = content_of(spans)
    place %= len(content)
    parts, _, _ = outcome([content[:place] + damage + content[place + len(damage) :]])
    for part, data in parts:
        assert part.first is not None
        assert part.last is not None
        assert len(data) <= part.last + 1 - part.first


@pytest.mark.parametrize(
    "start",
    [b"x", b" ", b"\r\n\r\n" + b" ", b"\r\n--THIS_SEPARATES\r\nX: ", b"\r\n--THIS_SEPARATES\r\nX:" + b" "],
    ids=["letters", "spaces", "after two lines", "field", "space of a field"],
)
def test_an_endless_line_ends_soon(start: bytes) -> None:
    begun = time.monotonic()
    assert "a line of more than 1024 bytes" in outcome([start, *[start[-1:] * 65_536] * 100])[2]
    assert time.monotonic() - begun < 1


def test_ten_thousand_parts_take_no_second() -> None:
    spans = [(index % 1000, index % 1000) for index in range(10_000)]
    content = content_of(spans)
    begun = time.monotonic()
    parts, is_over, wrong = outcome([content[index : index + 100] for index in range(0, len(content), 100)])
    assert (len(parts), is_over, wrong) == (10_000, True, "")
    assert time.monotonic() - begun < 1


BROKEN = {
    "closing boundary first": b"\r\n--THIS_SEPARATES--\r\n",
    "no Content-Range": b"--THIS_SEPARATES\r\nContent-Type: a/b\r\n\r\nabc",
    "two of them": b"--THIS_SEPARATES\r\nContent-Range: bytes 0-0/9\r\nContent-Range: bytes 0-1/9\r\n\r\n",
    "not satisfied": b"--THIS_SEPARATES\r\nContent-Range: bytes */9\r\n\r\n",
    "backwards": b"--THIS_SEPARATES\r\nContent-Range: bytes 5-2/9\r\n\r\n",
    "beyond the total": b"--THIS_SEPARATES\r\nContent-Range: bytes 5-9/9\r\n\r\n",
    "a line that is no field": b"--THIS_SEPARATES\r\nhello\r\n",
    "more content than promised": b"--THIS_SEPARATES\r\nContent-Range: bytes 0-0/9\r\n\r\nabc\r\n",
    "another boundary": b"--THIS_SEPARATES\r\nContent-Range: bytes 0-0/9\r\n\r\na\r\n--OTHER\r\n",
    "a longer boundary": b"--THIS_SEPARATES2\r\n",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_a_broken_body_is_refused(body: bytes) -> None:
    assert outcome([body])[2]


def test_a_line_feed_is_enough_and_an_epilogue_is_ignored() -> None:
    body = b"--THIS_SEPARATES \nContent-Range: bytes 0-2/9\n\nabc\n--THIS_SEPARATES--\nwhat\never"
    assert outcome([body]) == ([(ContentRange(0, 2, 9), b"abc")], True, "")


def head(kind: str) -> Head:
    return Head(status=206, status_line="", fields=(("content-type", kind),))


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/byteranges; boundary=abc", "abc"),
        ('Multipart/ByteRanges; Boundary="a b:c"', "a b:c"),
        ("multipart/byteranges;charset=x;boundary=abc ", "abc"),
        ("multipart/byteranges; boundary=abc; x=y", "abc"),
        ("application/octet-stream", None),
        ("multipart/mixed; boundary=abc", None),
        ("", None),
    ],
)
def test_the_boundary_is_that_of_the_content_type(kind: str, boundary: str | None) -> None:
    assert multipart.boundary_of(head(kind)) == boundary


@pytest.mark.parametrize(
    "parameter", ["", "; boundary", '; boundary=""', "; boundary=a\x01", f"; boundary={'x' * 71}", "; b=c"]
)
def test_a_boundary_that_is_none_is_refused(parameter: str) -> None:
    with pytest.raises(BadResponseError):
        multipart.boundary_of(head(f"multipart/byteranges{parameter}"))


def test_a_field_of_many_spaces_costs_no_time() -> None:
    begun = time.monotonic()
    with pytest.raises(BadResponseError):
        multipart.boundary_of(head("multipart/byteranges;" + " " * 60_000 + "boundary=\x01"))
    assert time.monotonic() - begun < 1
