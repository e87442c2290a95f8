"""The decisions of a download, without network, file or clock (jobs.md §9.1-§9.5, reliability.md §5 with note A)."""

import errno

import pytest

from openbits.core import codes
from openbits.core.enums import ErrorContext
from openbits.core.model import Validators
from openbits.transfer import urls
from openbits.transfer.download import Accept, Breakage, Decision, Download, Fail, Finish, Restart, Send
from openbits.transfer.headers import Head

URL = "http://a.example/file?key=secret"
MONDAY = "Mon, 02 Nov 2026 10:00:00 GMT"
TUESDAY = "Tue, 03 Nov 2026 10:00:00 GMT"
STRONG = Validators(size_bytes=1000, etag='"a"', last_modified=MONDAY)
WALL = 1_800_000_000.0


def answer(status: int, **fields: str | int) -> Head:
    """A response head; field names with underscores."""
    named = tuple((name.replace("_", "-"), str(value)) for name, value in fields.items())
    return Head(status=status, status_line=f"HTTP/1.1 {status} Reason", fields=named)


def fresh() -> Download:
    """A download with nothing here whose HEAD went out."""
    download = Download(urls.parse(URL), 0, Validators())
    assert sent(download.begin()) == ("HEAD", URL, {})
    return download


def at_get(head: Head | None = None) -> Download:
    """A download with nothing here whose GET went out."""
    download = fresh()
    assert sent(download.answered(head or answer(200, content_length=1000), WALL)) == ("GET", URL, {})
    return download


def resumed(known: Validators = STRONG, offset: int = 400) -> Download:
    """A download with bytes here whose range request went out."""
    download = Download(urls.parse(URL), offset, known)
    method, _, fields = sent(download.begin())
    assert (method, fields["Range"]) == ("GET", f"bytes={offset}-")
    return download


def sent(decisions: list[Decision]) -> tuple[str, str, dict[str, str]]:
    """The request of the last decision."""
    decision = decisions[-1]
    assert isinstance(decision, Send), decisions
    return decision.request.method, decision.request.target.url, dict(decision.request.headers)


def accepted(decisions: list[Decision]) -> Accept:
    decision = decisions[-1]
    assert isinstance(decision, Accept), decisions
    return decision


def failure(decisions: list[Decision]) -> Fail:
    (decision,) = decisions
    assert isinstance(decision, Fail), decisions
    return decision


# -- nothing here yet


def test_a_fresh_download_is_head_then_one_plain_get_then_done() -> None:
    download = at_get()
    assert download.answered(answer(200, content_length=1000, etag='"a"', last_modified=MONDAY), WALL) == [
        Accept(offset=0, end=1000, validators=STRONG, note="")
    ]
    assert download.body_ended(1000) == [Finish(size_bytes=1000, modified_at=1793613600.0)]


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_refused_head_is_tried_as_get_and_told(status: int) -> None:
    download = fresh()
    assert sent(download.answered(answer(status), WALL)) == ("GET", URL, {})
    note = accepted(download.answered(answer(200, content_length=5), WALL)).note
    assert note == f"HEAD refused ({status}), GET works"


def test_a_server_that_hangs_up_on_head_is_asked_by_get() -> None:
    download = fresh()
    hung_up = Breakage(hresult=codes.ERROR_WINHTTP_CONNECTION_ERROR, words="empty reply", is_unanswered=True)
    assert sent(download.broke(hung_up, "waiting")) == ("GET", URL, {})
    assert failure(download.broke(hung_up, "waiting")).hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR


@pytest.mark.parametrize("status", [401, 407, 408, 410, 429, 502, 503])
def test_another_refusal_of_head_is_the_end_of_the_attempt(status: int) -> None:
    assert failure(fresh().answered(answer(status), WALL)).hresult == 0x80190000 + status


def test_when_head_and_get_disagree_on_the_size_get_wins() -> None:
    download = at_get(answer(200, content_length=7))
    assert accepted(download.answered(answer(200, content_length=9), WALL)).end == 9
    assert download.body_ended(9) == [Finish(size_bytes=9, modified_at=None)]


def test_an_unknown_size_is_accepted_with_a_note() -> None:
    download = at_get(answer(200))
    decision = accepted(download.answered(answer(200, transfer_encoding="chunked"), WALL))
    assert decision.end is None
    assert decision.validators.size_bytes is None
    assert "size unknown" in decision.note
    assert download.body_ended(123) == [Finish(size_bytes=123, modified_at=None)]


def test_no_content_is_an_empty_file_only_if_head_said_so() -> None:
    download = at_get(answer(204, content_length=0))
    assert accepted(download.answered(answer(204), WALL)).end == 0
    assert failure(at_get().answered(answer(204), WALL)).hresult == codes.BG_E_HTTP_ERROR_204


@pytest.mark.parametrize(
    "head",
    [
        answer(206, content_range="bytes 0-9/10", content_length=10),
        answer(200, content_length=10, content_encoding="gzip"),
        answer(200, content_length=10, transfer_encoding="chunked"),
        answer(200, transfer_encoding="gzip, chunked"),
        answer(200, content_length="12, 13"),
        answer(200, content_length=-1),
        answer(200, content_length=2**64),
    ],
)
def test_an_answer_that_breaks_the_rules_is_fatal(head: Head) -> None:
    failed = failure(at_get().answered(head, WALL))
    assert failed.hresult == codes.BG_E_INVALID_SERVER_RESPONSE
    assert failed.context is ErrorContext.REMOTE_FILE


@pytest.mark.parametrize("status", [101, 201, 202, 205, 300, 304, 305, 404, 410, 421, 451, 500, 503, 599])
def test_any_other_status_is_its_code(status: int) -> None:
    failed = failure(at_get().answered(answer(status), WALL))
    assert failed.hresult == 0x80190000 + status
    assert failed.context is ErrorContext.REMOTE_FILE


def test_a_failure_names_host_path_step_and_answer_but_no_query() -> None:
    failed = failure(at_get().answered(answer(404), WALL))
    assert failed.detail == "a.example/file: GET: the server answered HTTP/1.1 404 Reason"


def test_retry_after_is_passed_on() -> None:
    assert failure(at_get().answered(answer(503, retry_after=30), WALL)).retry_after_seconds == 30.0
    assert failure(at_get().answered(answer(503, retry_after="soon"), WALL)).retry_after_seconds is None


def test_a_401_names_the_schemes_the_server_offers() -> None:
    head = Head(
        status=401,
        status_line="HTTP/1.1 401 Unauthorized",
        fields=(("www-authenticate", "Negotiate"), ("www-authenticate", 'Basic realm="x"')),
    )
    assert "offering Negotiate, Basic" in failure(at_get().answered(head, WALL)).detail


# -- bytes are here


@pytest.mark.parametrize(
    ("known", "guard"),
    [
        (STRONG, '"a"'),
        (Validators(size_bytes=1000, etag='W/"a"', last_modified=MONDAY), MONDAY),
        (Validators(size_bytes=1000, last_modified=MONDAY), MONDAY),
        (Validators(size_bytes=1000, etag='W/"a"'), None),
        (Validators(etag='"a"'), '"a"'),
    ],
)
def test_a_resume_is_guarded_by_the_best_validator(known: Validators, guard: str | None) -> None:
    _, _, fields = sent(Download(urls.parse(URL), 400, known).begin())
    assert fields == ({"Range": "bytes=400-"} | ({"If-Range": guard} if guard else {}))


def test_without_validators_nothing_can_be_resumed() -> None:
    download = Download(urls.parse(URL), 400, Validators(size_bytes=1000))
    assert sent(download.begin()) == ("GET", URL, {})
    decision = accepted(download.answered(answer(200, content_length=1000), WALL))
    assert decision.offset == 0
    assert "resume not possible" in decision.note


def test_a_file_that_is_whole_needs_no_network() -> None:
    begun = Download(urls.parse(URL), 1000, STRONG).begin()
    assert begun[0] == Accept(offset=1000, end=1000, validators=STRONG, note="all bytes were here already")
    assert begun[1:] == [Finish(size_bytes=1000, modified_at=1793613600.0)]


def test_a_part_that_fits_is_appended() -> None:
    download = resumed()
    part = answer(206, content_range="bytes 400-999/1000", content_length=600, etag='"a"', last_modified=MONDAY)
    assert download.answered(part, WALL) == [Accept(offset=400, end=1000, validators=STRONG, note="")]
    assert download.body_ended(1000) == [Finish(size_bytes=1000, modified_at=1793613600.0)]


def test_a_part_need_not_repeat_the_validators_that_guarded_it() -> None:
    part = answer(206, content_range="bytes 400-999/1000", content_length=600)
    assert accepted(resumed().answered(part, WALL)).validators == STRONG


def test_a_part_that_ends_early_is_continued() -> None:
    download = resumed()
    first = answer(206, content_range="bytes 400-599/1000", content_length=200, etag='"a"')
    assert accepted(download.answered(first, WALL)).end == 600
    assert sent(download.body_ended(600)) == ("GET", URL, {"Range": "bytes=600-", "If-Range": '"a"'})
    rest = answer(206, content_range="bytes 600-999/1000", content_length=400, etag='"a"')
    assert accepted(download.answered(rest, WALL)).offset == 600


def test_a_part_without_any_byte_is_not_asked_for_again_and_again() -> None:
    download = resumed()
    download.answered(answer(206, content_range="bytes 400-999/1000", etag='"a"'), WALL)
    assert failure(download.body_ended(400)).hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR


@pytest.mark.parametrize(
    ("known", "part"),
    [
        (STRONG, answer(206, content_range="bytes 300-999/1000", content_length=700)),  # row 10
        (STRONG, answer(206, content_length=600)),  # row 12
        (STRONG, answer(206, content_range="bytes 400-/1000", content_length=600)),
        (STRONG, answer(206, content_type="multipart/byteranges; boundary=x", content_length=800)),  # row 14
        (STRONG, answer(206, content_range="bytes 400-999/1000", content_length=601)),
        (STRONG, answer(206, content_range="bytes */1000")),
        (STRONG, answer(206, content_range="bytes 400-1999/*", content_length=1600)),
        (Validators(etag='"a"'), answer(206, content_range="bytes 400-999/*", content_length=600, etag='"a"')),
        (
            Validators(size_bytes=1000, etag='W/"a"'),
            answer(206, content_range="bytes 400-999/1000"),
        ),  # row 19: no proof
        (STRONG, answer(416)),
    ],
)
def test_a_part_that_cannot_be_used_begins_again_with_a_note(known: Validators, part: Head) -> None:
    download = resumed(known)
    decisions = download.answered(part, WALL)
    assert isinstance(decisions[0], Restart)
    assert decisions[0].reason.startswith("resume not possible with this server (")
    assert sent(decisions) == ("GET", URL, {})
    decision = accepted(download.answered(answer(200, content_length=1000, etag='"a"'), WALL))
    assert (decision.offset, decision.note) == (0, decisions[0].reason)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (answer(206, content_range="bytes 400-1999/2000", content_length=1600), "size 1000 -> 2000"),  # row 13
        (answer(206, content_range="bytes 400-999/1000", content_length=600, etag='"b"'), 'ETag "a" -> "b"'),  # row 17
        (
            answer(206, content_range="bytes 400-999/1000", content_length=600, last_modified=TUESDAY),
            f"Last-Modified {MONDAY} -> {TUESDAY}",
        ),
        (answer(416, content_range="bytes */300"), "size 1000 -> 300"),  # row 16
        (answer(412), "not the one we began with"),
    ],
)
def test_another_version_restarts_the_file(head: Head, reason: str) -> None:
    download = resumed()
    decisions = download.answered(head, WALL)
    assert isinstance(decisions[0], Restart)
    assert reason in decisions[0].reason
    assert sent(decisions) == ("GET", URL, {})
    assert accepted(download.answered(answer(200, content_length=300), WALL)).offset == 0


def test_a_416_of_a_file_that_is_whole_is_success() -> None:
    known = Validators(etag='"a"')  # the size was unknown so far
    decisions = resumed(known).answered(answer(416, content_range="bytes */400"), WALL)
    assert isinstance(decisions[0], Accept)
    assert decisions[0].offset == 400
    assert decisions[1:] == [Finish(size_bytes=400, modified_at=None)]


def test_the_whole_file_of_the_same_version_is_taken_from_its_start_and_the_hop_is_named() -> None:
    head = answer(200, content_length=1000, etag='"a"', server="nginx", via="1.1 proxy")
    note = "resume not possible with this server (asked for bytes=400-, got 200, Server: nginx, Via: 1.1 proxy)"
    seen = Validators(size_bytes=1000, etag='"a"')
    assert resumed().answered(head, WALL) == [Restart(note), Accept(offset=0, end=1000, validators=seen, note=note)]


def test_the_whole_file_of_another_version_is_a_restart_without_another_request() -> None:
    decisions = resumed().answered(answer(200, content_length=900, etag='"b"'), WALL)
    assert isinstance(decisions[0], Restart)
    assert 'ETag "a" -> "b"' in decisions[0].reason
    assert accepted(decisions).offset == 0
    assert accepted(decisions).end == 900


def test_a_gzip_part_is_refused() -> None:
    head = answer(206, content_range="bytes 400-999/1000", content_length=600, content_encoding="gzip")
    assert failure(resumed().answered(head, WALL)).hresult == codes.BG_E_INVALID_SERVER_RESPONSE


def test_after_three_restarts_the_run_gives_up() -> None:
    download = resumed()
    for version in range(1, 5):
        changed = answer(206, content_range="bytes 400-999/1000", content_length=600, etag=f'"{version}"')
        decisions = download.answered(changed, WALL)
        if version == 4:
            break
        assert isinstance(decisions[0], Restart)
        whole = answer(200, content_length=1000, etag=f'"{version}"')
        accepted(download.answered(whole, WALL))
        sent(download.body_ended(400))  # it came short; the rest is asked for
    failed = failure(decisions)
    assert failed.hresult == codes.BG_E_REMOTE_FILE_CHANGED
    assert "began again 3 times" in failed.detail


# -- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_with_the_same_method_and_range(status: int) -> None:
    download = resumed()
    decisions = download.answered(answer(status, location="https://user:pass@b.example/x?s=1"), WALL)
    assert sent(decisions) == ("GET", "https://b.example/x?s=1", {"Range": "bytes=400-", "If-Range": '"a"'})


def test_each_request_follows_its_own_redirects() -> None:
    download = fresh()
    head = download.answered(answer(302, location="/for-head"), WALL)
    assert sent(head)[:2] == ("HEAD", "http://a.example/for-head")
    get = download.answered(answer(200, content_length=5), WALL)
    assert sent(get)[:2] == ("GET", URL)


def test_ten_hops_are_followed_and_not_one_more() -> None:
    download = at_get()
    for hop in range(10):
        assert sent(download.answered(answer(302, location=f"/hop{hop}"), WALL))[0] == "GET"
    failed = failure(download.answered(answer(302, location="/hop10"), WALL))
    assert failed.hresult == codes.ERROR_WINHTTP_REDIRECT_FAILED
    assert "more than 10 redirects" in failed.detail


@pytest.mark.parametrize("location", ["/file?key=secret", "file:///etc/passwd", "http://[/", "/x\r\ny"])
def test_loops_and_foreign_schemes_are_the_end(location: str) -> None:
    failed = failure(at_get().answered(answer(302, location=location), WALL))
    assert failed.hresult == codes.ERROR_WINHTTP_REDIRECT_FAILED
    assert "secret" not in failed.detail


def test_no_way_leads_from_https_to_http() -> None:
    download = fresh()
    download.answered(answer(302, location="https://a.example/x"), WALL)
    failed = failure(download.answered(answer(302, location="http://a.example/y"), WALL))
    assert failed.hresult == codes.ERROR_WINHTTP_REDIRECT_FAILED
    assert "redirected from a.example/file" in failed.detail


def test_a_redirect_without_location_is_its_status() -> None:
    assert failure(at_get().answered(answer(302), WALL)).hresult == codes.BG_E_HTTP_ERROR_302


# -- what breaks


def test_a_connection_that_breaks_in_the_body_fails_the_attempt() -> None:
    download = at_get()
    download.answered(answer(200, content_length=1000), WALL)
    broken = Breakage(hresult=codes.ERROR_WINHTTP_CONNECTION_ERROR, words="reset by peer")
    failed = failure(download.broke(broken, "receiving from a.example:80"))
    assert failed.hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR
    assert failed.context is ErrorContext.GENERAL_TRANSPORT
    assert failed.detail == "a.example/file: receiving from a.example:80: reset by peer"


@pytest.mark.parametrize(
    ("number", "hresult"),
    [(errno.ENOSPC, 0x80070070), (errno.EDQUOT, 0x8007050F), (errno.EIO, 0x8007045D), (errno.EFBIG, 0x800700DF)],
)
def test_a_file_that_cannot_be_written_is_a_local_failure(number: int, hresult: int) -> None:
    download = at_get()
    download.answered(answer(200, content_length=1000), WALL)
    failed = download.cannot_write(OSError(number, "the reason"), 250, "the words of the sink")
    assert (failed.hresult, failed.context) == (hresult, ErrorContext.LOCAL_FILE)
    assert failed.detail == "a.example/file: writing at byte 250: the words of the sink"
    assert download.size_bytes == 1000


# -- custom headers (jobs.md §7.8, OPEN-46)

CUSTOM = (("X-Tenant", "t1"), ("Authorization", "Bearer s3cret"), ("cookie", "c=1"))


def test_custom_headers_go_with_every_request_of_the_job() -> None:
    download = Download(urls.parse(URL), 400, STRONG, custom=CUSTOM)
    _, _, fields = sent(download.begin())
    assert fields == {**dict(CUSTOM), "Range": "bytes=400-", "If-Range": '"a"'}
    _, _, fields = sent(download.answered(answer(416, content_range="bytes */10"), WALL))
    assert fields == dict(CUSTOM)
    download = Download(urls.parse(URL), 0, Validators(), custom=CUSTOM)
    assert sent(download.begin()) == ("HEAD", URL, dict(CUSTOM))
    assert sent(download.answered(answer(200, content_length=10), WALL)) == ("GET", URL, dict(CUSTOM))


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
    ],
)
def test_what_proves_who_asks_is_for_the_origin_alone(location: str, is_same: bool) -> None:  # noqa: FBT001
    download = Download(urls.parse(URL), 0, Validators(), custom=CUSTOM)
    download.begin()
    _, _, fields = sent(download.answered(answer(302, location=location), WALL))
    assert fields == (dict(CUSTOM) if is_same else {"X-Tenant": "t1"})


def test_the_way_back_to_the_origin_has_them_again() -> None:
    download = Download(urls.parse(URL), 0, Validators(), custom=CUSTOM)
    download.begin()
    download.answered(answer(302, location="http://b.example/x"), WALL)
    _, _, fields = sent(download.answered(answer(302, location="http://a.example/y"), WALL))
    assert fields == dict(CUSTOM)


def test_a_request_shows_no_header_in_its_repr() -> None:
    download = Download(urls.parse(URL), 0, Validators(), custom=CUSTOM)
    assert "s3cret" not in repr(download.begin())
