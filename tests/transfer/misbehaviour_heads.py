"""The table of reliability.md §5, rows 44 to 60: codings, broken heads, refusals, portals, and poisoned connections."""

from dataclasses import replace
from typing import Final

from tests.transfer import misbehaviour_acts as do
from tests.transfer.faultserver import CLOSE, date
from tests.transfer.misbehaviours import (
    BROKEN,
    CUT,
    FRESH,
    LATE,
    OPEN,
    PARTS,
    PLAIN,
    TLS,
    TUNNEL,
    A,
    Row,
    Told,
    Version,
    capped,
    fatal,
    sound,
    status,
    transient,
    whole,
)

GZIPPED: Final = do.with_field("Content-Encoding", "gzip")
EVIL: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
PAGE: Final = b"<html>please log in</html>"
FLIPPED: Final = Version(body=A[:190_000] + bytes([A[190_000] ^ 1]) + A[190_001:])

RETRY_AFTER: Final = (
    # what the server says, what is waited
    ("0", 1.0),
    ("1000000000", 86_400.0),
    ("30", 30.0),
    (date(1_000_000_000), 1.0),
    ("soon", None),
)


def _waits(told: Told, seconds: float | None) -> None:
    """It is asked once, and then waited."""
    assert told.last.last["retry_after_seconds"] == seconds
    assert len([request for request in told.requests if request.method == "GET"]) == 1


CODINGS: Final = (
    Row(number=44, name="gzip", act=do.saying(GZIPPED), expected=fatal(BROKEN)),
    Row(
        number=44,
        name="gzip-in-transfer",
        act=do.saying(lambda one: do.in_chunks()(one).having("Transfer-Encoding", "gzip, chunked")),
        expected=fatal(BROKEN),
    ),
    Row(
        number=45,
        name="double-gzip",
        act=do.saying(do.with_field("Content-Encoding", "gzip, gzip")),
        expected=fatal(BROKEN),
    ),
    Row(
        number=45,
        name="1000-layers",
        act=do.saying(do.with_field("Content-Encoding", ", ".join(["gzip"] * 1000))),
        expected=fatal(BROKEN),
    ),
    Row(number=45, name="bomb", act=do.bomb("gzip", do.layered(50) * 64, 10_000), expected=capped(BROKEN)),
    Row(
        number=46,
        name="gzip-of-the-rest-only",
        act=lambda request, _: (GZIPPED(sound(request)) if "range" in request.headers else sound(request)).steps(),
        expected=fatal(BROKEN),
        but={FRESH: whole()},
    ),
    *(
        Row(
            number=47,
            name="chunk",
            variant=variant,
            act=do.saying(
                lambda one, size=size: replace(do.in_chunks()(one), body=size + b"\r\nhi\r\n0\r\n\r\n"),  # type: ignore[misc]
            ),
            expected=fatal(BROKEN),
        )
        for variant, size in (("huge", b"F" * 40), ("negative", b"-2"), ("no-number", b"xyz"))
    ),
    Row(
        number=47,
        name="chunk-extension",
        variant="1-MiB",
        act=do.saying(do.in_chunks(end=b"0;x=" + b"y" * 1_048_576 + b"\r\n\r\n")),
        expected=whole().instead_of("ER/CAP", "libcurl reads past extensions without keeping them: nothing grows"),
    ),
    Row(
        number=47,
        name="chunk-extension",
        variant="endless",
        act=do.saying(do.in_chunks(end=b"0;x="), *[b"y" * 65_536] * 100_000),
        expected=transient(LATE).instead_of(
            "ER/CAP", "extensions are no bytes of the file: the progress floor ends them, and nothing grows"
        ),
        kinds=(FRESH,),
    ),
    Row(number=48, name="chunks-without-end", act=do.saying(do.in_chunks(end=b""), CLOSE), expected=transient(CUT)),
    Row(
        number=49,
        name="trailers",
        act=do.saying(do.in_chunks(end=b'0\r\nContent-Length: 77\r\nAuthorization: x\r\nETag: "z"\r\n\r\n')),
        expected=whole(),
    ),
)

HEADS: Final = (
    Row(number=50, name="http-0.9", act=do.instead(A, CLOSE), expected=fatal(BROKEN)),
    *(
        Row(
            number=51,
            name="status",
            variant=line,
            act=do.instead(f"HTTP/{line} OK\r\nContent-Length: 2\r\n\r\nhi".encode()),
            expected=fatal(BROKEN),
        )
        for line in ("3.7 200", "1.1 099", "1.1 1000", "1.1 20O")
    ),
    Row(number=52, name="endless-line", act=do.endless_head(b"x"), expected=capped(BROKEN)),
    Row(number=52, name="endless-fields", act=do.endless_head(b"X-Many: 1\r\n"), expected=capped(BROKEN)),
    Row(
        number=52,
        name="10000-fields",
        act=do.with_raw(b"\r\n".join([b"X-Many: 1"] * 10_000)),
        expected=fatal(BROKEN),
    ),
    *(
        Row(number=53, name="interim-flood", variant=line[:3], act=do.flood(line), expected=capped(BROKEN))
        for line in ("100 Continue", "102 Processing", "103 Early Hints")
    ),
    Row(
        number=54,
        name="bare-lf",
        act=lambda request, count: [
            b"".join(one for one in do.saying(do.unchanged)(request, count) if isinstance(one, bytes)).replace(
                b"\r\n", b"\n", 7
            )
        ],
        expected=whole(),
        kinds=(FRESH,),
        ways=(PLAIN, TLS, TUNNEL),  # the proxy of the tests knows lines by CR LF
    ),
    Row(
        number=54,
        name="folded-line",
        act=do.with_raw(b"X-Folded: a\r\n  b"),
        expected=whole().instead_of("ER", "libcurl unfolds before anybody sees them, as RFC 9112 §5.2 asks of clients"),
    ),
    *(
        Row(number=54, name="in-a-field", variant=variant, act=do.with_raw(line), expected=fatal(BROKEN))
        for variant, line in (
            ("nul", b"X: a\0b"),
            ("non-ascii", b"X: \xfc"),
            ("cr", b"X: a\rb"),
            ("no-colon", b"bogus"),
            ("no-name", b": x"),
            ("space-before-colon", b"X : y"),
        )
    ),
)

REFUSALS: Final = (
    *(
        Row(
            number=55,
            name="503",
            variant=text[:10],
            act=do.answer("503 Busy", ("Retry-After", text)),
            expected=transient(status(503)),
            check=lambda told, seconds=seconds: _waits(told, seconds),  # type: ignore[misc]
        )
        for text, seconds in RETRY_AFTER
    ),
    Row(
        number=56,
        name="429-storm",
        act=do.answer("429 Too Many Requests", ("Retry-After", "30")),
        expected=transient(status(429)),
        check=lambda told: _waits(told, 30.0),
    ),
    Row(
        number=57,
        name="page-in-place-of-the-file",
        act=do.answer("200 OK", ("Content-Type", "text/html"), body=PAGE),
        expected=transient(status(511)),
        asks_head=True,
    ),
    Row(number=58, name="511", act=do.answer("511 Login"), expected=transient(status(511))),
    Row(
        number=58,
        name="redirect-to-a-login",
        act=do.redirected("http://{aside}/login"),
        expected=transient(status(511)),
        ways=OPEN,
        aside=do.answer("200 OK", ("Content-Type", "text/html"), body=PAGE),
        aside_host="localhost",
        path="/file.iso",
    ),
    Row(
        number=59,
        name="wrong-bytes",
        act=do.of(FLIPPED),
        expected=whole(FLIPPED).instead_of(
            "ER if digest given; else documented", "BITS has no digest to compare with: nobody here can know"
        ),
    ),
    Row(number=60, name="second-answer", act=do.poisoned(EVIL), expected=whole()),
    Row(
        number=60,
        name="answer-behind-head",
        act=do.poisoned(EVIL, ["HEAD"]),
        expected=whole(),
        kinds=(FRESH, PARTS),
        is_head_too=True,
        asks_head=True,
    ),
)

SAYINGS: Final = (*CODINGS, *HEADS, *REFUSALS)
