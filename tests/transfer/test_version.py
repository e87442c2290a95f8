"""What makes two answers the same version of a file (jobs.md §9.3, OPEN-43; reliability.md §5 rows 17-20, note A)."""

import pytest
from tests.transfer.heads import MONDAY, TUESDAY, answer

from openbits.core.model import Validators
from openbits.transfer import version

KNOWN = Validators(size_bytes=1000, etag='"a"', last_modified=MONDAY)
A_SECOND_LATER = "Mon, 02 Nov 2026 10:00:01 GMT"
SPELT_OTHERWISE = "Monday, 02-Nov-26 10:00:00 GMT"


def test_a_head_tells_size_tag_date_and_type() -> None:
    head = answer(200, content_length=7, etag='"a"', last_modified=MONDAY, content_type="Text/HTML; charset=utf-8")
    assert version.seen_in(head) == Validators(size_bytes=7, etag='"a"', last_modified=MONDAY, media_type="text/html")
    assert version.seen_in(answer(200)) == Validators()


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (Validators(size_bytes=1001), "size 1000 -> 1001"),
        (Validators(etag='"b"'), 'ETag "a" -> "b"'),
        (Validators(last_modified=A_SECOND_LATER), f"Last-Modified {MONDAY} -> {A_SECOND_LATER}"),
        (Validators(size_bytes=1000, etag='"b"', last_modified=MONDAY), 'ETag "a" -> "b"'),
    ],
)
def test_another_size_tag_or_second_is_another_version(seen: Validators, told: str) -> None:
    assert version.difference(KNOWN, seen) == f"the file changed on the server ({told})"
    assert not version.is_same(KNOWN, seen)


@pytest.mark.parametrize(
    "seen",
    [
        KNOWN,
        Validators(etag='"a"'),
        Validators(etag='W/"a"'),
        Validators(last_modified=SPELT_OTHERWISE),
        Validators(size_bytes=1000, last_modified=MONDAY, media_type="text/html"),
    ],
)
def test_the_same_version_may_be_told_in_part_and_in_other_words(seen: Validators) -> None:
    assert version.difference(KNOWN, seen) is None
    assert version.is_same(KNOWN, seen)


@pytest.mark.parametrize("seen", [Validators(), Validators(size_bytes=1000)])
def test_a_size_alone_contradicts_nothing_and_proves_nothing(seen: Validators) -> None:
    assert version.difference(KNOWN, seen) is None
    assert not version.is_same(KNOWN, seen)
    assert not version.is_resumable(seen)


@pytest.mark.parametrize(
    ("seen", "is_only_tag"),
    [
        (Validators(size_bytes=1000, etag='"b"', last_modified=MONDAY), True),
        (Validators(size_bytes=1000, etag='W/"b"', last_modified=SPELT_OTHERWISE), True),
        (Validators(size_bytes=1000, etag='W/"a"', last_modified=MONDAY), False),
        (Validators(size_bytes=1000, etag='"b"', last_modified=TUESDAY), False),
        (Validators(size_bytes=999, etag='"b"', last_modified=MONDAY), False),
        (Validators(size_bytes=1000, etag='"b"'), False),
        (Validators(etag='"b"', last_modified=MONDAY), False),
    ],
)
def test_a_tag_is_doubted_only_if_date_and_size_agree(seen: Validators, is_only_tag: bool) -> None:  # noqa: FBT001
    assert version.is_only_tag(KNOWN, seen) is is_only_tag


RANGE = ("Range", "bytes=400-")


@pytest.mark.parametrize(
    ("known", "guards"),
    [
        (KNOWN, ['"a"', MONDAY]),
        (Validators(etag='W/"a"', last_modified=MONDAY), [MONDAY]),
        (Validators(etag='"a"'), ['"a"']),
        (Validators(etag='W/"a"'), []),
    ],
)
def test_the_ladder_goes_from_the_strong_tag_over_the_date_to_the_whole_file(
    known: Validators, guards: list[str]
) -> None:
    conditional = [(RANGE, ("If-Range", guard)) for guard in guards]
    assert version.ladder(known, 400) == [*conditional, (RANGE,), ()]


@pytest.mark.parametrize(
    ("known", "seen", "is_portal"),
    [
        ("application/zip", Validators(size_bytes=300, media_type="text/html"), True),
        ("application/zip", Validators(media_type="text/html"), True),
        ("text/html", Validators(size_bytes=300, media_type="text/html"), False),
        (None, Validators(size_bytes=300, media_type="text/html"), False),
        ("application/zip", Validators(size_bytes=300, media_type="application/zip"), False),
        ("application/zip", Validators(size_bytes=1000, media_type="text/html"), False),
    ],
)
def test_a_page_of_another_size_is_no_version_of_what_was_no_page(
    known: str | None,
    seen: Validators,
    is_portal: bool,  # noqa: FBT001
) -> None:
    assert version.is_portal(Validators(size_bytes=1000, media_type=known), seen) is is_portal
