"""The way of the packets of an upload: redirects (upload-protocol.md D24), the server's word for a body (H8)."""

import pytest
from tests.transfer.heads import answer
from tests.transfer.test_route import redirected, sent, way

from openbits.core.enums import SecurityFlags
from openbits.core.packets import METHOD
from openbits.transfer.decisions import Ask, Body
from openbits.transfer.request import Request
from openbits.transfer.route import Answer, Route

URL = "http://a.example/inbox/file?x=1"
FIELDS = (("BITS-Packet-Type", "Create-Session"),)
CREATE = Ask(METHOD, FIELDS, is_followed=True)
FRAGMENT = Ask(METHOD, FIELDS, body=Body(read=lambda _offset, size: bytes(size), offset=0, length=1))
ANY = [SecurityFlags(0), SecurityFlags.REDIRECT_DISALLOW, SecurityFlags.REDIRECT_ALLOW_HTTPS_TO_HTTP]


@pytest.mark.parametrize("flags", ANY)
@pytest.mark.parametrize("status", [307, 308])
def test_d24_a_redirect_within_the_authority_is_followed_where_the_question_allows_it(
    status: int, flags: SecurityFlags
) -> None:
    route = way(URL, flags=flags)
    sent(route, route.ask(CREATE))
    request = redirected(route, status, "/other?y=2")
    assert (request.method, request.target.url) == (METHOD, "http://a.example/other?y=2")
    assert FIELDS[0] in request.headers


@pytest.mark.parametrize("flags", ANY)
@pytest.mark.parametrize(
    ("question", "status", "location"),
    [
        *((CREATE, status, "/other") for status in (300, 301, 302, 303, 304)),
        *((CREATE, 307, location) for location in ("http://b.example/", "http://a.example:81/", "https://a.example/")),
        *((CREATE, 308, location) for location in ("", "ftp://a.example/", "http://[", "//b.example/inbox/file")),
        *((FRAGMENT, status, "/other") for status in (301, 302, 303, 307, 308)),
        (Ask(METHOD, FIELDS), 307, "/other"),
    ],
)
def test_d24_every_other_redirect_of_a_packet_is_its_answer(
    question: Ask, status: int, location: str, flags: SecurityFlags
) -> None:
    route = way(URL, flags=flags)
    sent(route, route.ask(question))
    assert isinstance(route.answered(answer(status, location=location)), Answer)
    assert route.target.url == URL
    assert route.refused_to == ""


def test_d24_a_circle_of_redirects_ends() -> None:
    route = way(URL)
    sent(route, route.ask(CREATE))
    redirected(route, 307, "/b")
    move = route.answered(answer(307, location=URL))
    assert "leads back" in getattr(move, "detail", "")


def large(length: int = 2**20 + 1) -> Ask:
    return Ask(METHOD, FIELDS, body=Body(read=lambda _offset, size: bytes(size), offset=0, length=length))


def asked(route: Route, question: Ask) -> Request:
    return sent(route, route.ask(question))


@pytest.mark.parametrize(("length", "is_expecting"), [(0, False), (2**20, False), (2**20 + 1, True)])
def test_h8_what_has_more_than_a_mebibyte_waits_for_the_word(length: int, *, is_expecting: bool) -> None:
    assert asked(way(URL), large(length)).is_expecting is is_expecting


@pytest.mark.parametrize(
    ("status", "has_continued", "is_asked_again"),
    [(200, True, True), (200, False, False), (403, False, True), (500, False, True), (416, True, True)],
)
def test_h8_who_takes_a_body_without_a_word_is_not_asked_for_one_again(
    status: int, *, has_continued: bool, is_asked_again: bool
) -> None:
    route = way(URL)
    asked(route, large())
    assert isinstance(route.answered(answer(status), has_continued=has_continued), Answer)
    assert asked(route, large()).is_expecting is is_asked_again


def test_a_page_in_place_of_an_ack_is_left_to_who_asked() -> None:
    route = way("http://a.example/inbox/file.zip")
    asked(route, CREATE)
    head = answer(200, **{"content-type": "text/html", "content-length": "10"})
    assert isinstance(route.answered(head), Answer)
