"""The decisions of a download, without network, file or clock (jobs.md §9.1-§9.3, §9.9, §13; reliability.md §5)."""

from typing import Any

import pytest
from tests.transfer.heads import MONDAY, MONDAY_AT, TUESDAY, answer

from openbits.core import codes
from openbits.core.enums import ErrorContext
from openbits.core.model import Validators
from openbits.transfer.decisions import Accept, Ask, Decision, Fail, Finish, Restart
from openbits.transfer.download import Download, Terms
from openbits.transfer.headers import BadResponseError, Head
from openbits.transfer.request import Breakage

STRONG = Validators(size_bytes=1000, etag='"a"', last_modified=MONDAY)
WALL = 1_800_000_000.0
FROM_400 = {"Range": "bytes=400-"}


def fresh(**terms: Any) -> Download:
    """A foreground download with nothing here whose GET went out."""
    download = Download(0, Validators(), Terms(**terms))
    assert sent(download.begin()) == ("GET", {})
    return download


def background(**terms: Any) -> Download:
    """A background download with nothing here whose HEAD went out."""
    download = Download(0, Validators(), Terms(asks_head=True, is_foreground=False, **terms))
    assert sent(download.begin()) == ("HEAD", {})
    return download


def resumed(known: Validators = STRONG, offset: int = 400, **terms: Any) -> Download:
    """A download with bytes here whose range request went out."""
    download = Download(offset, known, Terms(**terms))
    method, fields = sent(download.begin())
    assert (method, fields["Range"]) == ("GET", f"bytes={offset}-")
    return download


def sent(decisions: list[Decision]) -> tuple[str, dict[str, str]]:
    """The question of the last decision."""
    decision = decisions[-1]
    assert isinstance(decision, Ask), decisions
    return decision.method, dict(decision.fields)


def accepted(decisions: list[Decision]) -> Accept:
    decision = decisions[-1]
    assert isinstance(decision, Accept), decisions
    return decision


def failure(decisions: list[Decision]) -> Fail:
    (decision,) = decisions
    assert isinstance(decision, Fail), decisions
    return decision


def restart(decisions: list[Decision]) -> Restart:
    decision = decisions[0]
    assert isinstance(decision, Restart), decisions
    return decision


def part(first: int = 400, last: int = 999, total: int | str = 1000, **fields: Any) -> Head:
    """A sound 206."""
    return answer(206, content_range=f"bytes {first}-{last}/{total}", content_length=last + 1 - first, **fields)


# -- nothing here yet


def test_a_foreground_file_costs_one_request() -> None:
    download = fresh()
    assert download.answered(answer(200, content_length=1000, etag='"a"', last_modified=MONDAY), WALL) == [
        Accept(offset=0, end=1000, validators=STRONG, note="")
    ]
    assert download.body_ended(1000) == [Finish(size_bytes=1000, modified_at=MONDAY_AT)]


def test_a_background_file_is_head_then_one_plain_get() -> None:
    download = background()
    assert sent(download.answered(answer(200, content_length=1000), WALL)) == ("GET", {})
    assert accepted(download.answered(answer(200, content_length=1000), WALL)).end == 1000


@pytest.mark.parametrize("status", [400, 403, 404, 405, 406, 411, 500, 501])
def test_a_refused_head_is_tried_as_get_and_told(status: int) -> None:
    download = background()
    assert sent(download.answered(answer(status), WALL)) == ("GET", {})
    note = accepted(download.answered(answer(200, content_length=5), WALL)).note
    assert note == f"HEAD refused ({status}), GET works; HEAD skipped from now on for this host"
    assert download.has_refused_head


def test_a_server_that_hangs_up_on_head_is_asked_by_get() -> None:
    download = background()
    hung_up = Breakage(hresult=codes.ERROR_WINHTTP_CONNECTION_ERROR, words="empty reply", is_unanswered=True)
    assert sent(download.broke(hung_up, "waiting")) == ("GET", {})
    assert failure(download.broke(hung_up, "waiting")).hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR


@pytest.mark.parametrize("status", [401, 407, 408, 410, 429, 502, 503])
def test_another_refusal_of_head_is_the_end_of_the_attempt(status: int) -> None:
    download = background()
    assert failure(download.answered(answer(status), WALL)).hresult == 0x80190000 + status
    assert not download.has_refused_head


def test_when_head_and_get_disagree_on_the_size_get_wins() -> None:
    download = background()
    download.answered(answer(200, content_length=7), WALL)
    assert accepted(download.answered(answer(200, content_length=9), WALL)).end == 9
    assert download.body_ended(9) == [Finish(size_bytes=9, modified_at=None)]


def test_an_unknown_size_is_accepted_with_a_note() -> None:
    download = fresh()
    decision = accepted(download.answered(answer(200, transfer_encoding="chunked"), WALL))
    assert decision.end is None
    assert decision.validators.size_bytes is None
    assert "size unknown" in decision.note
    assert download.body_ended(123) == [Finish(size_bytes=123, modified_at=None)]


def test_a_file_without_any_byte_is_a_normal_file() -> None:
    download = fresh()
    assert accepted(download.answered(answer(200, content_length=0), WALL)).end == 0
    assert download.body_ended(0) == [Finish(size_bytes=0, modified_at=None)]


def test_a_transformed_answer_counts_as_the_file() -> None:
    assert accepted(fresh().answered(answer(203, content_length=5), WALL)).end == 5


def test_no_content_is_an_empty_file_only_if_head_said_so() -> None:
    download = background()
    download.answered(answer(204, content_length=0), WALL)
    assert accepted(download.answered(answer(204), WALL)).end == 0
    assert failure(fresh().answered(answer(204), WALL)).hresult == codes.BG_E_HTTP_ERROR_204


@pytest.mark.parametrize(
    "head",
    [
        answer(206, content_range="bytes 0-9/10", content_length=10),
        answer(200, content_length=10, content_encoding="gzip"),
        answer(200, content_length="12, 13"),
        answer(200, content_length=-1),
        answer(200, content_length=2**64),
    ],
)
def test_an_answer_that_breaks_the_rules_is_refused(head: Head) -> None:
    with pytest.raises(BadResponseError):
        fresh().answered(head, WALL)


@pytest.mark.parametrize("status", [101, 201, 202, 205, 207, 300, 304, 305, 404, 410, 421, 451, 500, 503, 511, 599])
def test_any_other_status_is_its_code(status: int) -> None:
    failed = failure(fresh().answered(answer(status), WALL))
    assert failed.hresult == 0x80190000 + status
    assert failed.context is ErrorContext.REMOTE_FILE


def test_a_failure_names_step_answer_and_hop() -> None:
    failed = failure(fresh().answered(answer(404, server="nginx", via="1.1 squid"), WALL))
    assert failed.detail == "GET: the server answered HTTP/1.1 404 Reason, Server: nginx, Via: 1.1 squid"


def test_retry_after_is_passed_on() -> None:
    assert failure(fresh().answered(answer(503, retry_after=30), WALL)).retry_after_seconds == 30.0
    assert failure(fresh().answered(answer(503, retry_after="soon"), WALL)).retry_after_seconds is None


def test_a_401_names_the_schemes_the_server_offers() -> None:
    head = answer(401, ("www-authenticate", "Negotiate"), ("www-authenticate", 'Basic realm="x"'))
    assert "offering Negotiate, Basic" in failure(fresh().answered(head, WALL)).detail


def test_a_connection_that_breaks_fails_the_attempt() -> None:
    download = fresh()
    download.answered(answer(200, content_length=1000), WALL)
    broken = Breakage(hresult=codes.ERROR_WINHTTP_CONNECTION_ERROR, words="reset by peer")
    failed = failure(download.broke(broken, "receiving from a.example:80"))
    assert (failed.hresult, failed.context) == (codes.ERROR_WINHTTP_CONNECTION_ERROR, ErrorContext.GENERAL_TRANSPORT)
    assert failed.detail == "receiving from a.example:80: reset by peer"


# -- bytes are here


def test_without_validators_nothing_can_be_resumed() -> None:
    download = Download(400, Validators(size_bytes=1000))
    begun = download.begin()
    assert restart(begun).hresult == codes.BG_E_INSUFFICIENT_RANGE_SUPPORT
    assert sent(begun) == ("GET", {})
    decision = accepted(download.answered(answer(200, content_length=1000), WALL))
    assert (decision.offset, decision.skip_bytes) == (0, 0)
    assert "resume not possible" in decision.note


def test_a_file_that_is_whole_needs_no_network() -> None:
    begun = Download(1000, STRONG).begin()
    assert begun[0] == Accept(offset=1000, end=1000, validators=STRONG, note="all bytes were here already")
    assert begun[1:] == [Finish(size_bytes=1000, modified_at=MONDAY_AT)]


def test_a_resume_asks_no_head_whatever_the_priority() -> None:
    method, fields = sent(Download(400, STRONG, Terms(asks_head=True, is_foreground=False)).begin())
    assert (method, fields) == ("GET", {**FROM_400, "If-Range": '"a"'})


def test_a_part_that_fits_is_appended() -> None:
    download = resumed()
    assert download.answered(part(etag='"a"', last_modified=MONDAY), WALL) == [
        Accept(offset=400, end=1000, validators=STRONG, note="")
    ]
    assert download.body_ended(1000) == [Finish(size_bytes=1000, modified_at=MONDAY_AT)]


def test_a_part_need_not_repeat_the_validators_that_guarded_it() -> None:
    assert accepted(resumed().answered(part(), WALL)).validators == STRONG


def test_what_a_part_tells_besides_is_not_taken_for_the_version_of_the_first_byte() -> None:
    known = Validators(size_bytes=1000, last_modified=MONDAY)
    assert accepted(resumed(known).answered(part(etag='"x"', last_modified=MONDAY), WALL)).validators == known


def test_a_part_that_ends_early_is_continued() -> None:
    download = resumed()
    assert accepted(download.answered(part(last=599, etag='"a"'), WALL)).end == 600
    assert sent(download.body_ended(600)) == ("GET", {"Range": "bytes=600-", "If-Range": '"a"'})
    assert accepted(download.answered(part(600, etag='"a"'), WALL)).offset == 600


def test_a_part_without_any_byte_is_not_asked_for_again_and_again() -> None:
    download = resumed()
    download.answered(part(etag='"a"'), WALL)
    assert failure(download.body_ended(400)).hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR


@pytest.mark.parametrize(
    ("known", "head"),
    [
        (STRONG, part(300)),  # row 10
        (STRONG, answer(206, content_length=600)),  # row 12
        (STRONG, answer(206, content_range="bytes 400-/1000", content_length=600)),
        (STRONG, answer(206, content_type="multipart/byteranges; boundary=x", content_length=800)),  # row 14
        (STRONG, answer(206, content_range="bytes 400-999/1000", content_length=601)),
        (STRONG, answer(206, content_range="bytes */1000")),
        (STRONG, answer(206, content_range="bytes 400-1999/*", content_length=1600)),
        (Validators(etag='"a"'), part(total="*", etag='"a"')),
        (Validators(size_bytes=1000, etag='W/"a"'), part()),  # row 19: no proof
        (STRONG, answer(416)),
        (STRONG, answer(416, content_range="bytes */1000")),
    ],
)
class TestAPartThatCannotBeUsed:
    def test_is_followed_by_the_whole_file_past_what_is_here(self, known: Validators, head: Head) -> None:
        download = resumed(known)
        assert sent(download.answered(head, WALL)) == ("GET", {})
        seen = answer(200, last_modified=MONDAY) if known.last_modified else answer(200, etag=known.etag or "")
        decision = accepted(download.answered(seen, WALL))
        assert (decision.offset, decision.skip_bytes) == (400, 400)
        assert decision.note.startswith("resume not possible with this server (")
        assert decision.note.endswith("; the first 400 bytes come again and are left out")

    def test_is_followed_by_a_restart_if_nothing_proves_the_version(self, known: Validators, head: Head) -> None:
        download = resumed(known)
        download.answered(head, WALL)
        decisions = download.answered(answer(200, content_length=1000), WALL)
        assert restart(decisions).hresult == codes.BG_E_INSUFFICIENT_RANGE_SUPPORT
        assert (accepted(decisions).offset, accepted(decisions).skip_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (part(last=1999, total=2000), "size 1000 -> 2000"),  # row 13
        (part(etag='"b"'), 'ETag "a" -> "b"'),  # row 17
        (part(last_modified=TUESDAY), f"Last-Modified {MONDAY} -> {TUESDAY}"),
        (answer(416, content_range="bytes */300"), "size 1000 -> 300"),  # row 16
        (answer(412), "not the one we began with"),
    ],
)
def test_another_version_restarts_the_file(head: Head, reason: str) -> None:
    download = resumed()
    decisions = download.answered(head, WALL)
    assert reason in restart(decisions).reason
    assert restart(decisions).hresult == codes.BG_E_REMOTE_FILE_CHANGED
    assert sent(decisions) == ("GET", {})
    assert accepted(download.answered(answer(200, content_length=300), WALL)).offset == 0


def test_the_whole_file_of_another_version_is_a_restart_without_another_request() -> None:
    decisions = resumed().answered(answer(200, content_length=900, etag='"b"'), WALL)
    assert 'ETag "a" -> "b"' in restart(decisions).reason
    assert (accepted(decisions).offset, accepted(decisions).end, accepted(decisions).skip_bytes) == (0, 900, 0)


def test_a_416_of_a_file_that_is_whole_is_success() -> None:
    known = Validators(etag='"a"')  # the size was unknown so far
    decisions = resumed(known).answered(answer(416, content_range="bytes */400"), WALL)
    assert isinstance(decisions[0], Accept)
    assert decisions[0].offset == 400
    assert decisions[1:] == [Finish(size_bytes=400, modified_at=None)]


def test_a_gzip_part_is_refused() -> None:
    with pytest.raises(BadResponseError, match="gzip"):
        resumed().answered(part(content_encoding="gzip"), WALL)


# -- a range that is ignored: down the ladder


def test_the_ladder_ends_in_reading_past_what_is_here_and_the_hop_is_named() -> None:
    download = resumed()
    whole = answer(200, content_length=1000, etag='"a"', last_modified=MONDAY, server="nginx", via="1.1 proxy")
    assert sent(download.answered(whole, WALL)) == ("GET", {**FROM_400, "If-Range": MONDAY})
    assert sent(download.answered(whole, WALL)) == ("GET", FROM_400)
    note = (
        "resume not possible with this server (GET (bytes=400-) got 200, Server: nginx, Via: 1.1 proxy); "
        "the first 400 bytes come again and are left out"
    )
    expected = Accept(offset=400, end=1000, validators=STRONG, note=note, skip_bytes=400)
    assert download.answered(whole, WALL) == [expected]
    assert download.body_ended(1000) == [Finish(size_bytes=1000, modified_at=MONDAY_AT)]


@pytest.mark.parametrize("rung", [1, 2])
def test_a_server_that_honours_a_later_rung_costs_no_byte_twice(rung: int) -> None:
    download = resumed()
    for _ in range(rung):
        download.answered(answer(200, content_length=1000, etag='"a"', last_modified=MONDAY), WALL)
    decision = accepted(download.answered(part(etag='"a"', last_modified=MONDAY), WALL))
    assert (decision.offset, decision.skip_bytes, decision.note) == (400, 0, "")


def test_a_server_that_says_it_has_no_ranges_is_not_asked_again() -> None:
    whole = answer(200, content_length=1000, etag='"a"', accept_ranges="none")
    assert accepted(resumed().answered(whole, WALL)).skip_bytes == 400


def test_the_whole_file_without_a_version_begins_again() -> None:
    decisions = resumed().answered(answer(200, content_length=1000), WALL)
    assert "which names no version" in restart(decisions).reason
    assert (accepted(decisions).offset, accepted(decisions).skip_bytes) == (0, 0)


def test_a_version_that_changes_on_the_way_down_is_noticed() -> None:
    download = resumed()
    download.answered(answer(200, content_length=1000, etag='"a"', last_modified=MONDAY), WALL)
    decisions = download.answered(answer(200, content_length=1000, etag='"b"', last_modified=TUESDAY), WALL)
    assert "changed on the server" in restart(decisions).reason


def test_after_three_restarts_the_run_gives_up_and_cuts_nothing() -> None:
    download = resumed()
    for number in range(1, 4):
        assert restart(download.answered(part(etag=f'"{number}"'), WALL))
        accepted(download.answered(answer(200, content_length=1000, etag=f'"{number}"'), WALL))
        sent(download.body_ended(400))  # it came short; the rest is asked for
    failed = failure(download.answered(answer(200, content_length=1000, etag='"4"'), WALL))
    assert failed.hresult == codes.BG_E_REMOTE_FILE_CHANGED
    assert 'began again 3 times; the file changed on the server (ETag "3" -> "4")' in failed.detail


# -- an ETag that may be that of the request (row 18)


def tagged(tag: str) -> Head:
    return part(etag=tag, last_modified=MONDAY)


def test_another_tag_with_the_same_date_and_size_is_asked_about() -> None:
    assert sent(resumed().answered(tagged('"b"'), WALL)) == ("GET", {**FROM_400, "If-Range": '"a"'})


def test_the_same_new_tag_twice_is_a_new_version() -> None:
    download = resumed()
    download.answered(tagged('"b"'), WALL)
    assert 'ETag "a" -> "b"' in restart(download.answered(tagged('"b"'), WALL)).reason


def test_a_server_of_two_nodes_comes_back_to_the_first_tag() -> None:
    download = resumed()
    download.answered(tagged('"b"'), WALL)
    assert accepted(download.answered(tagged('"a"'), WALL)).offset == 400


def test_a_tag_that_is_new_each_time_says_nothing() -> None:
    download = resumed()
    download.answered(tagged('"b"'), WALL)
    decision = accepted(download.answered(tagged('"c"'), WALL))
    assert decision.offset == 400
    assert decision.validators == Validators(size_bytes=1000, last_modified=MONDAY), "the next run asks by the date"
    assert decision.note == "the ETag is new in each answer; size and Last-Modified tell the version"


def test_a_tag_that_is_new_each_time_makes_the_date_the_guard() -> None:
    download = resumed()
    for number in range(2):
        decisions = download.answered(answer(200, content_length=1000, etag=f'"{number}"', last_modified=MONDAY), WALL)
    assert sent(decisions) == ("GET", {**FROM_400, "If-Range": MONDAY})
    assert accepted(download.answered(tagged('"z"'), WALL)).offset == 400


# -- login pages of networks (rows 57, 58)


PAGE = answer(200, content_length=300, content_type="text/html; charset=utf-8")


def test_a_login_page_in_place_of_known_bytes_is_transient_and_costs_nothing() -> None:
    known = Validators(size_bytes=1000, etag='"a"', media_type="application/zip")
    failed = failure(resumed(known).answered(PAGE, WALL))
    assert failed.hresult == 0x801901FF
    assert "a web page of 300 bytes came in place of 1000 bytes of application/zip" in failed.detail


def test_a_login_page_after_head_told_another_file_is_transient() -> None:
    download = background()
    download.answered(answer(200, content_length=1000, content_type="application/zip"), WALL)
    assert failure(download.answered(PAGE, WALL)).hresult == 0x801901FF


def test_a_page_that_changes_is_a_new_version() -> None:
    known = Validators(size_bytes=1000, etag='"a"', media_type="text/html")
    decisions = resumed(known).answered(PAGE, WALL)
    assert restart(decisions)


# -- strict (jobs.md §9.1)


def test_strict_head_without_a_size_is_fatal_in_the_background() -> None:
    failed = failure(background(is_strict=True).answered(answer(200), WALL))
    assert failed.hresult == codes.BG_E_MISSING_FILE_SIZE


def test_strict_a_refused_head_is_its_status() -> None:
    assert failure(background(is_strict=True).answered(answer(403), WALL)).hresult == codes.BG_E_HTTP_ERROR_403


def test_strict_background_asks_for_a_range_and_takes_it() -> None:
    download = background(is_strict=True)
    decisions = download.answered(answer(200, content_length=1000), WALL)
    assert sent(decisions) == ("GET", {"Range": "bytes=0-"})
    decision = accepted(download.answered(part(0, etag='"a"'), WALL))
    assert (decision.offset, decision.end, decision.skip_bytes) == (0, 1000, 0)


@pytest.mark.parametrize("head", [answer(200, content_length=1000), answer(206, content_length=1000), answer(416)])
def test_strict_a_range_that_is_not_honoured_is_fatal_in_the_background(head: Head) -> None:
    download = background(is_strict=True)
    download.answered(answer(200, content_length=1000), WALL)
    assert failure(download.answered(head, WALL)).hresult == codes.BG_E_INSUFFICIENT_RANGE_SUPPORT


def test_strict_an_empty_file_has_no_range() -> None:
    download = background(is_strict=True)
    assert sent(download.answered(answer(200, content_length=0), WALL)) == ("GET", {})


def test_strict_http_1_0_is_named_when_something_is_missing_and_tolerated_otherwise() -> None:
    missing = background(is_strict=True).answered(answer(200, version="1.0"), WALL)
    assert failure(missing).hresult == codes.BG_E_INSUFFICIENT_HTTP_SUPPORT
    download = background(is_strict=True)
    assert sent(download.answered(answer(200, content_length=10, version="1.0"), WALL))[0] == "GET"


def test_strict_foreground_is_relieved_below_two_gigabytes() -> None:
    for size, fields in ((2 * 1024**3 - 1, {}), (2 * 1024**3, {"Range": "bytes=0-"})):
        download = Download(0, Validators(), Terms(asks_head=True, is_foreground=True, is_strict=True))
        download.begin()
        assert sent(download.answered(answer(200, content_length=size), WALL)) == ("GET", fields)
    relieved = Download(0, Validators(), Terms(asks_head=True, is_foreground=True, is_strict=True))
    relieved.begin()
    assert sent(relieved.answered(answer(200), WALL)) == ("GET", {})


def test_strict_a_resume_needs_ranges_unless_it_is_relieved() -> None:
    whole = answer(200, content_length=1000, etag='"a"', accept_ranges="none")
    failed = failure(resumed(is_foreground=False, is_strict=True).answered(whole, WALL))
    assert failed.hresult == codes.BG_E_INSUFFICIENT_RANGE_SUPPORT
    assert accepted(resumed(is_foreground=True, is_strict=True).answered(whole, WALL)).skip_bytes == 400


# -- what cannot be resumed: other methods (jobs.md §9.9), made content (§13)


def test_dynamic_content_needs_no_size() -> None:
    assert accepted(fresh(is_dynamic=True, is_strict=True).answered(answer(200), WALL)).end is None


@pytest.mark.parametrize("terms", [{"is_dynamic": True}, {"method": "PROPFIND"}])
def test_what_is_made_for_each_request_is_never_continued(terms: dict[str, Any]) -> None:
    begun = Download(400, STRONG, Terms(**terms)).begin()
    assert restart(begun)
    assert sent(begun) == (terms.get("method", "GET"), {})
    download = Download(0, Validators(), Terms(**terms))
    download.begin()
    accepted(download.answered(answer(200, content_length=1000, etag='"a"'), WALL))
    assert failure(download.body_ended(400)).hresult == codes.ERROR_WINHTTP_CONNECTION_ERROR


@pytest.mark.parametrize(
    ("method", "fields"), [("POST", {"Content-Length": "0"}), ("PUT", {"Content-Length": "0"}), ("PROPFIND", {})]
)
def test_another_method_is_asked_at_once_and_says_that_it_brings_no_body(method: str, fields: dict[str, str]) -> None:
    assert sent(Download(0, Validators(), Terms(method=method)).begin()) == (method, fields)


@pytest.mark.parametrize("status", [200, 201, 203, 207])
def test_another_method_has_other_successes(status: int) -> None:
    download = Download(0, Validators(), Terms(method="PROPFIND"))
    download.begin()
    assert accepted(download.answered(answer(status, content_length=5), WALL)).end == 5


# -- MAX_DOWNLOAD_SIZE (jobs.md §13)


def test_a_file_that_is_announced_too_large_is_refused_before_its_body() -> None:
    failed = failure(fresh(size_limit_bytes=999).answered(answer(200, content_length=1000), WALL))
    assert failed.hresult == codes.BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED
    assert accepted(fresh(size_limit_bytes=1000).answered(answer(200, content_length=1000), WALL)).end == 1000


def test_a_file_of_unknown_size_is_refused_when_the_byte_comes() -> None:
    download = fresh(size_limit_bytes=1000)
    accepted(download.answered(answer(200), WALL))
    assert download.overflowed(1000) is None
    excess = download.overflowed(1001)
    assert excess is not None
    assert excess.hresult == codes.BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED


def test_a_resumed_file_that_turns_out_too_large_is_refused() -> None:
    download = resumed(Validators(etag='"a"'), size_limit_bytes=999)
    assert failure(download.answered(part(etag='"a"'), WALL)).hresult == codes.BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED
