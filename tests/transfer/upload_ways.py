"""Upload servers that misbehave on the way: answers of others, bodies, connections, clocks (see `upload_rows`)."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from tests.transfer.faultserver import CLOSE as HANG_UP
from tests.transfer.faultserver import RESET, SILENCE, TOGETHER, Step
from tests.transfer.misbehaviour_ways import CERTIFICATE_FAULTS
from tests.transfer.misbehaviours import BROKEN, CUT, LATE, OPEN, PLAIN, SECURE, status
from tests.transfer.upload_refusals import plain
from tests.transfer.upload_rows import CA, CL, PLAIN_ONLY, C, F, P, fragments
from tests.transfer.upload_stage import (
    CANCEL,
    CLOSE,
    FRESH,
    RESUME,
    SIZE,
    Row,
    Told,
    failed,
    fatal,
    repeated,
    transient,
    whole,
)
from tests.transfer.uploadserver import (
    Act,
    Answer,
    Exchange,
    ack,
    byte_by_byte,
    does_but,
    ends,
    honest,
    says,
    says_early,
    says_raw,
    without_continue,
)

from openbits.core import codes
from openbits.core.enums import SecurityFlags
from openbits.core.packets import Header

LARGE: Final = 6 * 1024 * 1024
"""Has fragments beyond 1 MiB (H8)."""
HUGE: Final = 48 * 1024 * 1024
"""Has fragments that no buffer on the way takes."""


def body_of(size: int) -> Callable[[Answer], Answer]:
    return lambda answer: answer.bringing(b"x" * size)


def endless(exchange: Exchange) -> Iterable[Step]:
    """An Ack whose body does not end: 256 MiB at most."""
    yield exchange.honest().having("Content-Length").steps()[0]
    yield from itertools.repeat(b"x" * 65_536, 4096)


def in_chunks(exchange: Exchange) -> Iterable[Step]:
    head = exchange.honest().having("Content-Length").having("Transfer-Encoding", "chunked").steps()[0]
    return [head, b"4\r\nbody\r\n0\r\n\r\n"]


def stalls(exchange: Exchange) -> Iterable[Step]:
    """A fragment that is too large for all buffers is not read; the others are taken."""
    if exchange.packet.length < 8 * 1024 * 1024:
        return exchange.honest().steps()
    exchange.server.over.wait(60)
    return [RESET]


def refuses_expectations(exchange: Exchange) -> Iterable[Step]:
    """417 to whoever expects something (H8)."""
    if "expect" not in exchange.packet.headers:
        return exchange.honest().steps()
    return Answer("417 Expectation Failed", (("Content-Length", "0"),)).steps()


def at_most(limit: int, is_early: bool) -> Act:  # noqa: FBT001  # bound in a table
    """413 to every fragment that is larger (F4)."""

    def act(exchange: Exchange) -> Iterable[Step]:
        if exchange.packet.length <= limit:
            return exchange.honest().steps()
        if not is_early:
            exchange.body()
        return ack("413 Payload Too Large", (Header.ERROR_CODE, "0x80200020"), (Header.ERROR_CONTEXT, "0x5")).steps()

    return act


# -- D25: who answered? -----------------------------------------------------------------------------------------------

FOREIGN: Final = (
    *(
        Row(
            rule="D25",
            name=f"200-without-packet-type-to-{packet}",
            told={packet: [does_but(lambda answer: answer.having(Header.PACKET_TYPE))]},
            expected=repeated(),
            kinds=(RESUME,) if packet == P else (FRESH,),
            ways=OPEN,
        )
        for packet in (C, P, F)
    ),
    *(
        Row(
            rule="D25",
            name=f"html-to-{packet}",
            told={packet: [says(plain(200))]},
            expected=repeated(),
            kinds=(RESUME,) if packet == P else (FRESH,),
        )
        for packet in (C, P, F)
    ),
    Row(
        rule="D25",
        name="packet-type-is-no-ack",
        told={C: [does_but(lambda answer: answer.having(Header.PACKET_TYPE, "Ping"))]},
        expected=repeated(),
        ways=PLAIN_ONLY,
    ),
    Row(
        rule="3.2",
        name="packet-type-in-upper-case",
        told={one: [does_but(lambda answer: answer.having(Header.PACKET_TYPE, "ACK"))] for one in (C, P, F, CL)},
        expected=whole(),
        kinds=(FRESH, RESUME),
    ),
    Row(rule="D25", name="html-to-close", told={CL: [says(plain(200))]}, step=CLOSE, expected=failed(BROKEN)),
)

# -- H3, H5, H6, H8, H9: answers, bodies, connections -----------------------------------------------------------------

ALL: Final = (C, P, F, CL)


def always(act: Act) -> Mapping[str, list[Act]]:
    return {packet: [act] for packet in ALL}


BODIES: Final = (
    *(
        Row(rule="H3", name=f"ack-with-{size}-bytes", told=always(does_but(body_of(size))), expected=whole())
        for size in (15, 1024, 1_000_000)
    ),
    Row(rule="H3", name="ack-in-chunks", told=always(in_chunks), expected=whole(), kinds=(FRESH, RESUME)),
    Row(rule="H3", name="ack-without-end", told={F: [endless]}, expected=whole(), ways=(PLAIN, *SECURE)),
    Row(
        rule="H6",
        name="closed-after-each-ack",
        told=always(does_but(lambda answer: answer.having("Connection", "close"), HANG_UP)),
        expected=whole(),
        kinds=(FRESH, RESUME),
    ),
    Row(rule="H6", name="closed-unannounced", told=always(does_but(lambda answer: answer, HANG_UP)), expected=whole()),
    Row(rule="H6", name="byte-by-byte", told=always(byte_by_byte), expected=whole(), ways=(PLAIN, *SECURE)),
    Row(
        rule="H5",
        name="unknown-fields-of-6-KiB",
        told=always(does_but(lambda answer: answer.having("X-Filling", "x" * 6000))),
        expected=whole(),
    ),
    Row(
        rule="H5",
        name="head-of-10-MiB",
        told={F: [does_but(lambda answer: answer.having("X-Filling", "x" * 10_000_000))]},
        expected=failed(BROKEN),
        ways=(PLAIN, *SECURE),
    ),
    Row(
        rule="H8",
        name="100-never-sent",
        told={F: [without_continue]},
        expected=whole(),
        size_bytes=LARGE,
        most_bytes=LARGE,
        ways=(PLAIN, *SECURE),
    ),
    Row(
        rule="H8",
        name="417",
        told={F: [refuses_expectations]},
        expected=whole(),
        size_bytes=LARGE,
        most_bytes=2 * LARGE,
        ways=(PLAIN, *SECURE),
    ),
    Row(
        rule="H9",
        name="403-before-the-body",
        told={F: [says_early(ack("403 Forbidden", (Header.ERROR_CODE, "0x80070005"), (Header.ERROR_CONTEXT, "5")))]},
        expected=fatal(codes.E_ACCESSDENIED),
        most_bytes=0,
        ways=(PLAIN, *SECURE),
    ),
    Row(
        rule="H9",
        name="503-in-the-body",
        told={F: [says_early(ack("503 Service Unavailable", ("Retry-After", "120")), after_bytes=1000)]},
        expected=transient(status(503)),
        check=lambda told: _waits(told, 120),
        ways=(PLAIN, *SECURE),
    ),
    *(
        Row(
            rule="7.4",
            name=f"413-above-{limit}{'-early' if is_early else ''}",
            told={F: [at_most(limit, is_early)]},
            expected=whole(),
            most_bytes=5 * SIZE,
            ways=(PLAIN, *SECURE),
        )
        for limit in (100_000, 20_000)
        for is_early in (False, True)
    ),
    Row(
        rule="7.4",
        name="413-for-ever",
        told={F: [at_most(0, is_early=False)]},
        expected=fatal(status(413)),
        check=fragments(8),
    ),
)

# -- interruptions and clocks -----------------------------------------------------------------------------------------


def _waits(told: Told, seconds: float | None) -> None:
    assert told.last["retry_after_seconds"] == seconds


def busy(value: str) -> Act:
    return says(ack("503 Service Unavailable", ("Retry-After", value)))


INTERRUPTED: Final = (
    *(
        Row(
            rule="10.2",
            name=f"{packet}-{name}",
            told={packet: [act]},
            expected=transient(CUT, context="general_transport"),
            kinds=(RESUME,) if packet == P else (FRESH,),
        )
        for packet in (C, P, F)
        for name, act in (("closed", ends()), ("reset", ends(RESET)))
    ),
    *(
        Row(
            rule="10.2",
            name=f"body-cut-by-{how}",
            told={F: [honest, ends(how, after_bytes=100_000)]},
            expected=transient(CUT, context="general_transport"),
        )
        for how in (HANG_UP, RESET)
    ),
    Row(
        rule="F7",
        name="ack-is-lost",
        told={F: [honest, ends(RESET, is_done=True), honest]},
        expected=whole(attempts=2),
        most_bytes=2 * SIZE,
    ),
    Row(
        rule="7.3",
        name="no-answer",
        told={F: [says_raw(SILENCE)]},
        expected=transient(LATE, context="general_transport"),
    ),
    Row(
        rule="7.3",
        name="no-answer-to-create",
        told={C: [says_raw(SILENCE)]},
        expected=transient(LATE, context="general_transport"),
    ),
    Row(
        rule="D18",
        name="body-is-not-read",
        told={F: [stalls]},
        expected=transient(LATE, context="general_transport"),
        size_bytes=HUGE,
        most_bytes=HUGE,
        ways=(PLAIN, *SECURE),
    ),
    Row(
        rule="C5",
        name="half-a-head",
        told={F: [says_raw(b"HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n", SILENCE)]},
        expected=transient(LATE, context="general_transport"),
    ),
    Row(
        rule="C5",
        name="half-a-head-then-the-end",
        told={F: [says_raw(b"HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n", HANG_UP)]},
        expected=failed(CUT, BROKEN),
    ),
    *(
        Row(rule="C5", name=f"garbage-{name}", told={F: [says_raw(head, HANG_UP)]}, expected=failed(BROKEN))
        for name, head in (
            ("status-20O", b"HTTP/1.1 20O OK\r\nContent-Length: 0\r\n\r\n"),
            ("no-status-line", b"<html>hello</html>"),
            ("http-3.7", b"HTTP/3.7 200 OK\r\nContent-Length: 0\r\n\r\n"),
            ("two-lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
            ("length-and-chunks", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx"),
        )
    ),
    *(
        Row(
            rule="10.2",
            name=f"retry-after-{value}",
            told={F: [busy(value)]},
            expected=transient(status(503)),
            check=lambda told, seconds=seconds: _waits(told, seconds),  # type: ignore[misc]  # bound per row
            ways=PLAIN_ONLY,
        )
        for value, seconds in (("120", 120), ("1000000000", 86_400), ("soon", None))
    ),
    *(
        Row(
            rule="5.5",
            name=f"{packet}-{name}",
            told={packet: [act]},
            step=step,
            expected=transient(CUT, context="general_transport"),
            ways=PLAIN_ONLY,
        )
        for step, packet in ((CLOSE, CL), (CANCEL, CA))
        for name, act in (("closed", ends()), ("reset", ends(RESET)))
    ),
)

# -- what any web server may do (reliability.md §5) -------------------------------------------------------------------


def poisoned(exchange: Exchange) -> Iterable[Step]:
    """An Ack, and with it another one that claims everything: it is no answer to what is asked next (row 60)."""
    answer = exchange.honest()
    total = exchange.packet.range.total
    return [TOGETHER, *answer.steps(), *answer.having(Header.RECEIVED, str(total)).steps()]


def interim(exchange: Exchange) -> Iterable[Step]:
    """100,000 answers that are none."""
    yield from itertools.repeat(b"HTTP/1.1 102 Processing\r\nX-Filling: filling\r\n\r\n" * 100, 1000)
    yield from exchange.honest().steps()


def endless_head(exchange: Exchange) -> Iterable[Step]:
    """64 MiB of fields at most."""
    yield exchange.honest().steps()[0][:-2]  # type: ignore[index]  # bytes
    yield from itertools.repeat(b"X-Filling: filling\r\n" * 3000, 1100)


def trickle(exchange: Exchange) -> Iterable[Step]:
    """A head of which a byte comes now and then."""
    head = exchange.honest().steps()[0]
    assert isinstance(head, bytes)
    for at in range(len(head)):
        yield head[at : at + 1]
        exchange.server.over.wait(0.3)


WEB_SERVERS: Final = (
    Row(rule="C5", name="60-poisoned", told={F: [poisoned]}, expected=whole(attempts=4), most_bytes=4 * SIZE),
    Row(rule="C5", name="53-interim-answers", told={F: [interim]}, expected=failed(BROKEN), ways=(PLAIN, *SECURE)),
    Row(rule="C5", name="52-endless-head", told={F: [endless_head]}, expected=failed(BROKEN), ways=(PLAIN, *SECURE)),
    Row(rule="C5", name="23-slow-head", told={F: [trickle]}, expected=failed(LATE), ways=(PLAIN, *SECURE)),
    *(
        Row(
            rule="C5",
            name=f"28-certificate-{certificate}{'-allowed' if is_allowed else ''}",
            certificate=certificate,
            flags=flag if is_allowed else SecurityFlags(0),
            expected=whole() if is_allowed else fatal(code, context=""),
            ways=SECURE,
            most_bytes=SIZE if is_allowed else 0,
            is_lost=not is_allowed,
        )
        for certificate, code, flag in CERTIFICATE_FAULTS
        for is_allowed in (False, True)
    ),
)

ON_THE_WAY: Final = (*FOREIGN, *BODIES, *INTERRUPTED, *WEB_SERVERS)
