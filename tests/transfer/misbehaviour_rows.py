"""The table of reliability.md §5, rows 1 to 27: bodies, sizes, versions, clocks; see `misbehaviours` for the words."""

from typing import Final

from tests.transfer import misbehaviour_acts as do
from tests.transfer.faultserver import CLOSE, END, RESET, SILENCE, date
from tests.transfer.misbehaviours import (
    BROKEN,
    CUT,
    FIRST,
    FRESH,
    HELD,
    LATE,
    MONDAY,
    NEXT,
    NO_RANGES,
    OPEN,
    PARTS,
    RESUME,
    SHORT,
    SIZE,
    A,
    B,
    Row,
    Told,
    Version,
    fatal,
    multipart,
    restarted,
    sound,
    spans,
    transient,
    whole,
)

from openbits.core import codes

LONGER: Final = Version(body=A + b"more")
SHORTER: Final = Version(body=SHORT[:50_000], etag='"s"')
WEAK: Final = Version(etag='W/"a"')
LATER: Final = Version(modified=MONDAY + 1)
IN_THE_FUTURE: Final = Version(modified=4_102_444_800)
RETAGGED: Final = Version(body=B, etag='"b"')

PAST_THE_PREFIX: Final = whole().instead_of(
    "RS",
    "the whole file is asked for, proves to be of the same version, and is read past what is here (note A 4)",
)


def guarded_by_date_alone(told: Told) -> None:
    assert all('"' not in request.headers.get("if-range", "") for request in told.requests)


def asked_once(told: Told) -> None:
    assert len([request for request in told.requests if request.method == "GET"]) == 1


LENGTHS: Final = (
    Row(number=1, name="short-body-fin", act=do.cut_after(0.5, CLOSE), expected=transient(CUT)),
    Row(number=2, name="long-body", act=do.poisoned(b"x" * 5000), expected=whole()),
    Row(number=3, name="no-length", act=do.saying(do.with_length(), END), expected=whole()),
    *(
        Row(number=4, name="length", variant=value, act=do.saying(do.with_length(value)), expected=fatal(BROKEN))
        for value in ("-1", str(2**64), "12, 13", "+5", "0x10", "")
    ),
    Row(
        number=4,
        name="length",
        variant="equal-list",
        act=do.saying(lambda one: one.having("Content-Length", f"{len(one.body)}, {len(one.body)}")),
        expected=whole(),
    ),
    Row(number=5, name="two-lengths", act=do.saying(do.with_length("12", "13")), expected=fatal(BROKEN)),
    Row(
        number=6,
        name="length-and-chunked",
        act=do.saying(lambda one: one.having("Transfer-Encoding", "chunked")),
        expected=fatal(BROKEN),
    ),
    Row(
        number=7,
        name="head-has-other-size",
        act=lambda request, _: (
            [sound(request).having("Content-Length", str(SIZE + 5)).steps()[0]]
            if request.method == "HEAD"
            else sound(request).steps()
        ),
        expected=whole(),
        is_head_too=True,
        asks_head=True,
    ),
    *(
        Row(
            number=8,
            name="head-refused",
            variant=status[:3],
            act=lambda request, count, status=status: (  # type: ignore[misc]  # the default is bound per row
                do.answer(status)(request, count) if request.method == "HEAD" else sound(request).steps()
            ),
            expected=whole(),
            is_head_too=True,
            asks_head=True,
        )
        for status in ("405 Method Not Allowed", "403 Forbidden", "501 Not Implemented")
    ),
)

RANGES: Final = (
    Row(
        number=9,
        name="200-to-a-range",
        act=do.without("range"),
        expected=whole(),
        but={PARTS: fatal(NO_RANGES)},
        check=lambda told: asked_once(told) if told.kind == FRESH else None,
    ),
    Row(
        number=10,
        name="206-with-other-start",
        act=do.once(do.saying(do.with_field("Content-Range", f"bytes 7-{SIZE - 1}/{SIZE}"))),
        expected=PAST_THE_PREFIX,
        kinds=(RESUME,),
    ),
    Row(
        number=10,
        name="part-with-other-start",
        act=do.with_body(lambda body: body.replace(b"bytes 0-29999", b"bytes 7-29999")),
        expected=fatal(BROKEN),
        kinds=(PARTS,),
    ),
    Row(
        number=11,
        name="206-shorter",
        act=do.once(do.with_range(f"bytes={HELD}-{HELD + 9_999}")),
        expected=whole(),
        kinds=(RESUME,),
    ),
    Row(
        number=11,
        name="206-shorter",
        variant="one-of-several",
        act=lambda request, count: do.with_range(request.headers["range"].partition(",")[0])(request, count),
        expected=whole(),
        kinds=(PARTS,),
    ),
    Row(
        number=12,
        name="206-without-content-range",
        act=do.once(do.saying(do.with_field("Content-Range"))),
        expected=PAST_THE_PREFIX,
        kinds=(RESUME,),
    ),
    Row(
        number=12,
        name="part-without-content-range",
        act=do.with_body(lambda body: body.replace(b"Content-Range", b"X-Some-Range-")),
        expected=fatal(BROKEN).instead_of("RS", "a file of ranges cannot be had otherwise; it would come to the same"),
        kinds=(PARTS,),
    ),
    Row(
        number=13,
        name="206-with-other-total",
        act=do.of(LONGER),
        expected=restarted(LONGER),
        kinds=(RESUME,),
    ),
    Row(
        number=13,
        name="206-with-other-total",
        variant="than-before",
        act=do.once(do.of(FIRST), LONGER),
        expected=restarted(LONGER),
        kinds=(PARTS,),
        is_head_too=True,
    ),
    Row(
        number=14,
        name="206-multipart-for-one-range",
        act=lambda request, _: (multipart(FIRST, asked) if (asked := spans(request, SIZE)) else sound(request)).steps(),
        expected=PAST_THE_PREFIX.instead_of("parse or RS", PAST_THE_PREFIX.why),
        kinds=(RESUME,),
    ),
    Row(
        number=15,
        name="416-of-a-whole-file",
        act=do.of(FIRST),
        expected=whole(),
        kinds=(RESUME,),
        held_bytes=SIZE,
        known={"size_bytes": None},
    ),
    Row(
        number=16,
        name="416-after-truncation",
        act=do.without("if-range", version=SHORTER),
        expected=restarted(SHORTER),
        kinds=(RESUME,),
    ),
    Row(
        number=16,
        name="416-after-truncation",
        variant="than-before",
        act=do.once(do.of(FIRST), SHORTER),
        expected=fatal(codes.BG_E_INVALID_RANGE).instead_of(
            "RS", "the file begins again, and its ranges are outside of what there is now (jobs.md §8.7 R5)"
        ),
        kinds=(PARTS,),
        is_head_too=True,
    ),
)

VERSIONS: Final = (
    Row(number=17, name="etag-changes", act=do.of(RETAGGED), expected=restarted(RETAGGED), kinds=(RESUME,)),
    Row(number=17, name="etag-and-date-change", act=do.of(NEXT), expected=restarted(), kinds=(RESUME,)),
    Row(
        number=17,
        name="etag-changes",
        variant="after-head",
        act=do.once(do.of(FIRST), NEXT),
        expected=restarted(),
        kinds=(PARTS,),
        is_head_too=True,
    ),
    Row(number=18, name="etag-each-time", act=do.other_tag_each_time, expected=whole()),
    Row(
        number=19,
        name="weak-etag",
        act=do.of(WEAK),
        expected=whole(),
        is_head_too=True,
        known={"etag": WEAK.etag},
        check=guarded_by_date_alone,
    ),
    Row(
        number=20,
        name="date-in-the-future",
        act=do.of(IN_THE_FUTURE),
        expected=whole(),
        is_head_too=True,
        known={"last_modified": date(IN_THE_FUTURE.modified)},
    ),
    Row(number=20, name="date-moves-1s", act=do.of(LATER), expected=restarted(LATER), kinds=(RESUME,)),
    Row(
        number=20,
        name="date-moves-1s",
        variant="after-head",
        act=do.once(do.of(FIRST), LATER),
        expected=restarted(LATER),
        kinds=(PARTS,),
        is_head_too=True,
    ),
    Row(
        number=21,
        name="if-range-with-etag-ignored",
        act=lambda request, count: (
            do.without("range")(request, count)
            if '"' in request.headers.get("if-range", "")
            else sound(request).steps()
        ),
        expected=whole(),
        kinds=(RESUME, PARTS),
    ),
    Row(
        number=22,
        name="accept-ranges-none",
        act=do.saying(do.with_field("Accept-Ranges", "none")),
        expected=whole(),
        is_head_too=True,
    ),
)

CLOCKS: Final = (
    Row(number=23, name="slow-loris", act=do.trickle, expected=transient(LATE)),
    Row(number=24, name="silence", act=do.instead(SILENCE), expected=transient(LATE)),
    Row(
        number=24,
        name="silence",
        variant="in-the-head",
        act=do.instead(b"HTTP/1.1 200 OK\r\nX: ", SILENCE),
        expected=transient(LATE),
    ),
    Row(number=25, name="silence-at-99", act=do.cut_after(0.99, SILENCE), expected=transient(LATE)),
    Row(number=26, name="reset-each-part", act=do.reset_each_part, expected=whole(by_resumes=True)),
    Row(number=27, name="no-goodbye", variant="at-the-end", act=do.saying(do.unchanged, CLOSE), expected=whole()),
    Row(number=27, name="no-goodbye", variant="early", act=do.cut_after(0.3, CLOSE), expected=transient(CUT)),
    Row(number=27, name="reset-early", act=do.cut_after(0.3, RESET), expected=transient(CUT)),
    Row(
        number=27,
        name="no-goodbye",
        variant="size-unknown",
        act=do.saying(do.with_length(), CLOSE),
        expected=transient(CUT),
        but=dict.fromkeys(OPEN, whole()),
        kinds=(FRESH,),
    ),
)

BODIES: Final = (*LENGTHS, *RANGES, *VERSIONS, *CLOCKS)
