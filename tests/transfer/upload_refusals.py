"""Upload servers that refuse: statuses, codes and their spellings, errors of an application (see `upload_rows`)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tests.transfer.faultserver import Step
from tests.transfer.misbehaviours import status
from tests.transfer.upload_rows import CA, CL, PLAIN_ONLY, C, F, P
from tests.transfer.upload_stage import (
    CANCEL,
    CLOSE,
    FRESH,
    RESUME,
    SIZE,
    Expected,
    Row,
    fatal,
    transient,
    whole,
)
from tests.transfer.uploadserver import (
    UNKNOWN,
    Act,
    Answer,
    Exchange,
    ack,
    honest,
    refusal,
    says,
)

from openbits.core import codes
from openbits.core.packets import Header

REMOTE, APPLICATION = "remote_file", "remote_application"

# -- §10.2: statuses --------------------------------------------------------------------------------------------------

FATAL_STATUSES: Final = (400, 401, 403, 404, 405, 411, 414, 501, 505)
TRANSIENT_STATUSES: Final = (408, 429, 500, 502, 503, 504)
NAMES: Final = {FRESH: C, RESUME: P}
"""The first packet of an attempt of that kind."""


def plain(number: int) -> Answer:
    """What an intermediary says, who knows of no packets."""
    body = b"<html>no</html>"
    return Answer(f"{number} Whatever", (("Content-Type", "text/html"), ("Content-Length", str(len(body)))), body)


def bare(number: int) -> Answer:
    """An Ack without a code."""
    return ack(f"{number} Whatever")


def _of_status(number: int, packet: str, context: str = REMOTE) -> Expected:
    """§10.2: 409 is fatal for Create-Session alone."""
    is_fatal = number in FATAL_STATUSES or (number == 409 and packet == C)
    return (fatal if is_fatal else transient)(status(number), context=context)


STATUSES: Final = tuple(
    Row(
        rule="10.2",
        name=f"{packet}-{say.__name__}-{number}",
        told={packet: [*([honest] if packet == F else []), says(say(number))]},
        expected=_of_status(number, packet),
        kinds=(RESUME,) if packet == P else (FRESH,),
        ways=PLAIN_ONLY,
        most_bytes=SIZE if packet == F else 0,
    )
    for packet in (C, P, F)
    for say in (plain, bare)
    for number in (*FATAL_STATUSES, 409, *TRANSIENT_STATUSES)
)

ENDS: Final = (
    *(
        Row(
            rule="5.5",
            name=f"close-{number}",
            told={CL: [says(bare(number))]},
            step=CLOSE,
            expected=whole(),
            ways=PLAIN_ONLY,
        )
        for number in (400, 403, 404, 409, 413)
    ),
    *(
        Row(
            rule="5.5",
            name=f"close-{number}",
            told={CL: [says(bare(number))]},
            step=CLOSE,
            expected=transient(status(number)),
            ways=PLAIN_ONLY,
        )
        for number in (500, 501, 503)
    ),
    Row(rule="D13", name="close-session-not-found", told={CL: [says(UNKNOWN)]}, step=CLOSE, expected=whole()),
    Row(rule="5.5", name="cancel-500", told={CA: [says(bare(500))]}, step=CANCEL, expected=transient(status(500))),
    Row(rule="5.5", name="cancel-404", told={CA: [says(bare(404))]}, step=CANCEL, expected=whole(), ways=PLAIN_ONLY),
    Row(rule="5.5", name="cancel-session-not-found", told={CA: [says(UNKNOWN)]}, step=CANCEL, expected=whole()),
)

# -- §10.1, §10.2: codes ----------------------------------------------------------------------------------------------

OF_SERVER: Final[Sequence[tuple[str, int, Callable[..., Expected]]]] = (
    ("500 Internal Server Error", codes.BG_E_TOO_LARGE, fatal),
    ("400 Bad Request", codes.E_INVALIDARG, fatal),
    ("503 Service Unavailable", codes.E_INVALIDARG, fatal),
    ("403 Forbidden", codes.E_ACCESSDENIED, fatal),
    ("501 Not Implemented", codes.E_ACCESSDENIED, fatal),
    ("400 Bad Request", codes.BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH, fatal),
    ("403 Forbidden", codes.BG_E_SERVER_EXECUTE_ENABLE, fatal),
    ("500 Internal Server Error", 0x80070070, transient),
    ("500 Internal Server Error", 0x80070112, transient),
)


def spelled(name: str, value: str, context: str = "0x5") -> Answer:
    return ack("500 Internal Server Error", (name, value), (Header.ERROR_CONTEXT, context))


SPELLINGS: Final = (
    # what is sent, and what is understood: the code, and where
    (spelled(Header.ERROR_CODE, "x80200020"), fatal(codes.BG_E_TOO_LARGE)),
    (spelled(Header.ERROR_CODE, "80200020"), fatal(codes.BG_E_TOO_LARGE)),
    (spelled(Header.ERROR, "0x80200020"), fatal(codes.BG_E_TOO_LARGE)),
    (spelled(Header.ERROR_CODE, "0X80200020"), fatal(codes.BG_E_TOO_LARGE)),
    (spelled(Header.ERROR_CODE, "0x80200020", "5"), fatal(codes.BG_E_TOO_LARGE)),
    (spelled(Header.ERROR_CODE, "0x80200020", ""), fatal(codes.BG_E_TOO_LARGE)),
    (spelled(Header.ERROR_CODE, "0x80200020", "0x9"), fatal(codes.BG_E_TOO_LARGE)),
    (spelled(Header.ERROR_CODE, "0x0"), transient(status(500))),
    (spelled(Header.ERROR_CODE, "nonsense"), transient(status(500))),
    (spelled(Header.ERROR_CODE, "0x80200020" * 1000), transient(status(500))),
)

CODES: Final = (
    *(
        Row(
            rule="10.2",
            name=f"{packet}-{label[:3]}-{codes.symbol(code)}",
            told={packet: [says(refusal(label, code))]},
            expected=expected(code),
            ways=PLAIN_ONLY,
        )
        for packet in (C, F)
        for label, code, expected in OF_SERVER
    ),
    *(
        Row(rule="3.2", name=f"code-spelled-{number}", told={F: [says(answer)]}, expected=expected, ways=PLAIN_ONLY)
        for number, (answer, expected) in enumerate(SPELLINGS)
    ),
)

# -- §9.4: errors of the application ----------------------------------------------------------------------------------

FATAL_OF_APPLICATION: Final = (300, 301, 302, 303, 304, 305, 307, 400, 403, 404, 405, 410, 418, 499, 501, 505)
TRANSIENT_OF_APPLICATION: Final = (306, 399, 408, 409, 500, 502, 503, 504, 507, 599)
VENDOR: Final = 0xA0001234
"""A code of an application: it has the customer bit."""


def last_fragment(answer: Answer) -> Sequence[Act]:
    """Only the fragment with the last byte is refused, by the application."""

    def act(exchange: Exchange) -> Iterable[Step]:
        done = exchange.honest()
        is_last = exchange.packet.range.last + 1 == exchange.packet.range.total
        return (answer if is_last else done).steps()

    return [act]


APPLICATION_ERRORS: Final = tuple(
    Row(
        rule="9.4",
        name=f"{number}-{codes.label(code)}",
        told={F: last_fragment(refusal(f"{number} Whatever", code, context))},
        expected=(fatal if number in FATAL_OF_APPLICATION else transient)(code, context=APPLICATION),
        ways=PLAIN_ONLY,
        most_bytes=2 * SIZE,
    )
    for number in (*FATAL_OF_APPLICATION, *TRANSIENT_OF_APPLICATION)
    for code, context in ((status(number), "0x7"), (VENDOR, "7"))
)

REFUSALS: Final = (*STATUSES, *ENDS, *CODES, *APPLICATION_ERRORS)
