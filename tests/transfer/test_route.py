"""The way to an answer: redirects, what goes along, new connections (jobs.md §9.4, reliability.md §2, §5)."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.transfer.heads import answer

from openbits.core import codes
from openbits.core.enums import ErrorContext, SecurityFlags
from openbits.transfer import urls
from openbits.transfer.decisions import Ask, Fail
from openbits.transfer.request import Breakage, Request
from openbits.transfer.route import Answer, Broken, Choose, Move, Route, Send

URL = "http://a.example/file?key=secret"
CUSTOM = (("X-Tenant", "t1"), ("Authorization", "Bearer s3cret"), ("cookie", "c=1"))
ALL, OPEN = set(CUSTOM), {CUSTOM[0]}
RANGE = (("Range", "bytes=400-"), ("If-Range", '"a"'))
SILENT = SecurityFlags(0)
REPORT = SecurityFlags.REDIRECT_ALLOW_REPORT
DISALLOW = SecurityFlags.REDIRECT_DISALLOW
DOWNGRADE = SecurityFlags.REDIRECT_ALLOW_HTTPS_TO_HTTP


def way(
    url: str = URL,
    custom: Sequence[tuple[str, str]] = (),
    flags: SecurityFlags = SILENT,
    **more: Any,
) -> Route:
    return Route(urls.parse(url), custom, flags, **more)


def sent(route: Route, move: Move) -> Request:
    """The request that goes out in the end: everything is asked directly."""
    while isinstance(move, Choose):
        move = route.chosen((None,), ())
    assert isinstance(move, Send), move
    return move.request


def asked(route: Route, question: Ask | None = None) -> Request:
    return sent(route, route.ask(question or Ask("GET")))


def redirected(route: Route, status: int, location: str) -> Request:
    return sent(route, route.answered(answer(status, location=location)))


def fields(request: Request) -> set[tuple[str, str]]:
    return {*request.headers, *request.proofs, *request.proxy_proofs}


def failed(move: Move) -> Fail:
    assert isinstance(move, Fail), move
    return move


# -- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_with_the_same_method_and_range(status: int) -> None:
    route = way()
    asked(route, Ask("GET", RANGE))
    request = redirected(route, status, "https://user:pass@b.example/x?s=1")
    assert (request.method, request.target.url, request.headers) == ("GET", "https://b.example/x?s=1", RANGE)


def test_each_question_begins_at_the_origin() -> None:
    route = way()
    assert asked(route, Ask("HEAD")).method == "HEAD"
    assert redirected(route, 302, "/for-head").target.url == "http://a.example/for-head"
    assert asked(route).target.url == URL


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
        (301, "PROPFIND", "PROPFIND"),
        (303, "PROPFIND", "GET"),
        (303, "HEAD", "HEAD"),
    ],
)
def test_another_method_stays_unless_the_answer_is_elsewhere(status: int, method: str, then: str) -> None:
    route = way()
    asked(route, Ask(method, (("Content-Length", "0"),)))
    request = redirected(route, status, "/x")
    assert request.method == then
    assert request.headers == ((("Content-Length", "0"),) if method == then else ())


def test_ten_hops_are_followed_and_not_one_more() -> None:
    route = way()
    asked(route)
    for hop in range(10):
        redirected(route, 302, f"/hop{hop}")
    fail = failed(route.answered(answer(302, location="/hop10")))
    assert (fail.hresult, fail.context) == (codes.ERROR_WINHTTP_REDIRECT_FAILED, ErrorContext.GENERAL_TRANSPORT)
    assert "more than 10 redirects" in fail.detail


@pytest.mark.parametrize(
    "location", ["/file?key=secret", "file:///etc/passwd", "ftp://b.example/x", "http://[/", "/x\r\ny"]
)
def test_loops_and_foreign_schemes_are_the_end(location: str) -> None:
    route = way()
    asked(route)
    fail = failed(route.answered(answer(302, location=location)))
    assert fail.hresult == codes.ERROR_WINHTTP_REDIRECT_FAILED
    assert "secret" not in fail.detail


def test_from_https_to_http_leads_a_flag_alone() -> None:
    route = way("https://a.example/x")
    asked(route)
    assert failed(route.answered(answer(302, location="http://a.example/y"))).hresult == 0x80072F7C
    route = way("https://a.example/x", flags=DOWNGRADE)
    asked(route)
    assert redirected(route, 302, "http://a.example/y").target.scheme == "http"


@pytest.mark.parametrize("head", [answer(302), answer(300, location="/x"), answer(305, location="/x"), answer(304)])
def test_what_is_no_redirect_is_an_answer(head: Any) -> None:
    route = way()
    asked(route)
    assert route.answered(head) == Answer(head)


# -- what is reported (jobs.md §9.4)


def test_silently_followed_redirects_change_no_name() -> None:
    route = way()
    asked(route)
    redirected(route, 302, "https://b.example/x")
    assert (route.redirected_to, route.refused_to) == ("", "")


def test_the_end_of_reported_redirects_is_the_name_without_user_information() -> None:
    route = way(flags=REPORT)
    asked(route)
    assert route.redirected_to == ""
    redirected(route, 302, "https://b.example/x")
    redirected(route, 302, "https://user:pass@c.example/y?s=1")
    assert route.redirected_to == "https://c.example/y?s=1"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_disallowed_redirect_is_its_status_and_names_the_target(status: int) -> None:
    route = way(flags=DISALLOW)
    asked(route)
    fail = failed(route.answered(answer(status, location="https://u:p@b.example/x?s=1")))
    assert (fail.hresult, fail.context) == (0x80190000 + status, ErrorContext.REMOTE_FILE)
    assert route.refused_to == "https://b.example/x?s=1"
    assert "b.example/x" in fail.detail
    assert "s=1" not in fail.detail


def test_a_disallowed_redirect_to_another_kind_of_name_is_not_taken_over() -> None:
    route = way(flags=DISALLOW)
    asked(route)
    assert failed(route.answered(answer(302, location="file:///etc/passwd"))).hresult == codes.BG_E_HTTP_ERROR_302
    assert route.refused_to == ""


# -- custom headers (jobs.md §7.8, OPEN-46)


@pytest.mark.parametrize(
    "name", ["X-Amz-Security-Token", "PRIVATE-TOKEN", "x-api-key", "X-Auth", "X-Authentication", "Session", "X-Secret"]
)
def test_a_header_that_says_who_asks_is_known_by_its_name(name: str) -> None:
    """What OPEN-46 calls Authorization-type."""
    harmless = {("X-Tenant", "t1"), ("X-Author", "anna"), ("X-Keyboard", "de")}
    route = way(custom=[(name, "s3cret"), *sorted(harmless)])
    assert fields(asked(route)) == {(name, "s3cret"), *harmless}
    assert fields(redirected(route, 302, "http://elsewhere.example/b")) == harmless


def test_custom_headers_go_with_every_request_of_the_job() -> None:
    route = way(custom=CUSTOM)
    assert fields(asked(route, Ask("HEAD"))) == ALL
    assert fields(asked(route, Ask("GET", RANGE))) == {*CUSTOM, *RANGE}


@pytest.mark.parametrize(
    ("location", "is_same"),
    [
        ("/elsewhere", True),
        ("http://a.example:80/elsewhere", True),
        ("http://A.EXAMPLE/elsewhere", True),
        ("http://a.example:8080/elsewhere", False),
        ("https://a.example/elsewhere", False),
        ("http://b.example/elsewhere", False),
        ("http://a.example.evil/elsewhere", False),
        ("http://a.example./elsewhere", False),
    ],
)
def test_what_proves_who_asks_is_for_the_origin_alone(location: str, is_same: bool) -> None:  # noqa: FBT001
    route = way(custom=CUSTOM)
    asked(route)
    assert fields(redirected(route, 302, location)) == (ALL if is_same else OPEN)


def test_the_way_back_to_the_origin_has_them_again() -> None:
    route = way(custom=CUSTOM)
    asked(route)
    assert fields(redirected(route, 302, "http://b.example/x")) == OPEN
    assert fields(redirected(route, 302, "http://a.example/y")) == ALL


def test_where_a_refused_redirect_led_is_no_server_that_a_client_has_named() -> None:
    """The next attempt asks there; what proves who asks stays with the server of the first name."""
    given = urls.parse(URL).origin
    assert fields(asked(way("http://b.example/x", custom=CUSTOM, given=given))) == OPEN
    assert fields(asked(way("http://a.example/y", custom=CUSTOM, given=given))) == ALL


def test_a_request_shows_no_header_in_its_repr() -> None:
    route = way(custom=CUSTOM)
    assert "s3cret" not in repr(asked(route))


# -- 421, unclean connections


def test_a_server_that_is_not_responsible_is_asked_once_more_on_a_new_connection() -> None:
    route = way(custom=CUSTOM)
    first = asked(route, Ask("GET", RANGE))
    assert not first.is_on_new_connection
    again = sent(route, route.answered(answer(421)))
    assert again.is_on_new_connection
    assert (again.target, again.headers) == (first.target, first.headers)
    assert route.answered(answer(421)) == Answer(answer(421))
    asked(route)
    assert sent(route, route.answered(answer(421))).is_on_new_connection, "each question has a try"


def test_a_connection_with_something_unasked_on_it_is_replaced_once() -> None:
    route = way()
    asked(route)
    unclean = Breakage(hresult=codes.E_ACCESSDENIED, words="", is_unclean=True)
    assert sent(route, route.broke(unclean, "waiting")).is_on_new_connection
    assert isinstance(route.broke(unclean, "waiting"), Broken)


# -- login pages of networks (row 58)


@pytest.mark.parametrize(
    ("url", "location", "status", "media_type", "is_login"),
    [
        ("http://a.example/x.zip", "http://login.example/", 200, "text/html; charset=utf-8", True),
        ("http://a.example/x.ZIP?v=1", "https://login.example/", 200, "text/html", True),
        ("http://a.example/x.zip", "http://login.example/", 200, "application/zip", False),
        ("http://a.example/x.zip", "http://login.example/", 404, "text/html", False),
        ("http://a.example/x.zip", "http://a.example/excuse", 200, "text/html", False),
        ("http://a.example/x.html", "http://login.example/", 200, "text/html", False),
        ("http://a.example/x", "http://login.example/", 200, "text/html", False),
        ("https://a.example/x.zip", "https://login.example/", 200, "text/html", False),
    ],
)
def test_a_page_of_another_server_is_not_the_file_that_was_asked_for(
    url: str,
    location: str,
    status: int,
    media_type: str,
    is_login: bool,  # noqa: FBT001
) -> None:
    route = way(url)
    asked(route)
    redirected(route, 302, location)
    head = answer(status, content_type=media_type)
    move = route.answered(head)
    if is_login:
        assert failed(move).hresult == 0x801901FF
        assert "login.example" in failed(move).detail
    else:
        assert move == Answer(head)


# -- where it went


def test_the_place_names_host_path_and_redirect_but_no_query() -> None:
    route = way()
    asked(route)
    redirected(route, 302, "https://b.example:8443/x?s=1")
    assert route.place == "b.example:8443/x (redirected from a.example/file)"
    assert route.peer == "https://b.example:8443"
