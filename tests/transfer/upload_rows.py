"""Upload servers that misbehave: what each packet gets, and what has to come of it, typed from upload-protocol.md.

The words are those of `upload_stage` and `uploadserver`. This file: offsets and sessions; `upload_refusals`: statuses
and codes; `upload_ways`: bodies, connections and clocks; `upload_places`: redirects, host ids and replies.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Final

from tests.transfer.faultserver import Step
from tests.transfer.upload_stage import (
    FIRST,
    FRESH,
    RESUME,
    SIZE,
    A,
    Row,
    Told,
    fatal,
    repeated,
    transient,
    whole,
)
from tests.transfer.uploadserver import (
    UNKNOWN,
    Act,
    Exchange,
    UploadServer,
    ack,
    does_but,
    honest,
    refusal,
    says,
)

from openbits.core import codes
from openbits.core.packets import MISSPELLED_RECEIVED, PROTOCOL, Header, PacketType

C, P, F, CL, CA = (
    PacketType.CREATE_SESSION,
    PacketType.PING,
    PacketType.FRAGMENT,
    PacketType.CLOSE_SESSION,
    PacketType.CANCEL_SESSION,
)
PLAIN_ONLY: Final = ("plain",)


# -- what the rows do -------------------------------------------------------------------------------------------------


def received(value: str) -> Act:
    """The fragment is taken, and this is said of how far it is."""
    return does_but(lambda answer: answer.having(Header.RECEIVED, value))


def losing(keep: Callable[[Exchange, int], int]) -> Act:
    """The fragment is taken, then all bytes from `keep` (of exchange and what was there before) on are lost."""

    def act(exchange: Exchange) -> Iterable[Step]:
        upload = exchange.server.sessions[exchange.packet.session_id]
        before = len(upload.data)
        answer = exchange.honest()
        del upload.data[keep(exchange, before) :]
        return answer.having(Header.RECEIVED, str(len(upload.data))).steps()

    return act


def never_beyond(limit: int) -> Act:
    """Everything is lost whenever it becomes more than this."""

    def act(exchange: Exchange) -> Iterable[Step]:
        return (honest if exchange.packet.range.last < limit else losing(lambda *_: 0))(exchange)

    return act


def out_of_step(offset: int | None, name: str = Header.RECEIVED) -> Act:
    """416, and everything from `offset` on is lost; None: nothing is said of it."""

    def act(exchange: Exchange) -> Iterable[Step]:
        upload = exchange.server.sessions[exchange.packet.session_id]
        exchange.body()
        if offset is not None:
            del upload.data[offset:]
        fields: list[tuple[str, str]] = [(Header.SESSION_ID, upload.session_id)]
        fields += [] if offset is None else [(name, str(offset))]
        return refusal("416 Requested Range Not Satisfiable", 0, "0x5", *fields).steps()

    return act


def forgets(exchange: Exchange) -> Iterable[Step]:
    """All sessions are gone, also this one."""
    exchange.body()
    exchange.server.forget()
    return UNKNOWN.steps()


def same_session_again(exchange: Exchange) -> Iterable[Step]:
    """Create-Session gives the session that there is, and what it has stays."""
    server = exchange.server
    if not server.sessions:
        return exchange.honest().steps()
    (session_id,) = server.sessions
    return ack("200 OK", (Header.PROTOCOL, PROTOCOL), (Header.SESSION_ID, session_id)).steps()


def having(size: int) -> Callable[[UploadServer], None]:
    """The server has so many bytes of the upload of which the row knows HELD."""

    def prepare(server: UploadServer) -> None:
        (upload,) = server.sessions.values()
        upload.data[:] = A[:size]

    return prepare


def creates(most: int, least: int = 1) -> Callable[[Told], None]:
    def check(told: Told) -> None:
        assert least <= len(told.sent(C)) <= most

    return check


def fragments(most: int) -> Callable[[Told], None]:
    def check(told: Told) -> None:
        assert len(told.sent(F)) <= most, "it runs in circles"

    return check


def starts_again_at(offset: int) -> Callable[[Told], None]:
    """A fragment that begins there came after one that began later."""

    def check(told: Told) -> None:
        starts = [packet.range.first for packet in told.sent(F)]
        assert any(later == offset for early, later in itertools.pairwise(starts) if early >= offset), starts

    return check


# -- §7.2: offsets ----------------------------------------------------------------------------------------------------

NO_OFFSETS: Final = (
    ("beyond-the-size", str(SIZE + 1)),
    ("negative", "-1"),
    ("no-number", "12abc"),
    ("hexadecimal", "0x10"),
    ("huge", str(2**63)),
    ("float", "1e3"),
)

OFFSETS: Final = (
    *(
        Row(
            rule="7.2",
            name=f"ack-{name}",
            told={F: [received(value)]},
            expected=repeated(),
            kinds=(FRESH, RESUME),
        )
        for name, value in NO_OFFSETS
    ),
    Row(rule="7.2", name="416-without-offset", told={F: [out_of_step(None)]}, expected=repeated()),
    *(
        Row(
            rule="7.2",
            name=f"416-{name}",
            told={F: [honest, does_but(lambda _, value=value: refusal("416 No", 0, "0x5", (Header.RECEIVED, value)))]},  # type: ignore[misc]  # bound per row
            expected=repeated(),
        )
        for name, value in NO_OFFSETS
    ),
    Row(
        rule="D17",
        name="ack-without-offset",
        told={F: [does_but(lambda answer: answer.having(Header.RECEIVED))]},
        expected=whole(),
        kinds=(FRESH, RESUME),
        check=fragments(3),
    ),
    Row(
        rule="3.2",
        name="misspelled-on-416",
        told={F: [honest, out_of_step(FIRST, MISSPELLED_RECEIVED), honest]},
        expected=whole(),
        check=fragments(4),
    ),
    Row(
        rule="7.2",
        name="partial-accept",
        told={F: [losing(lambda _, before: before + 1000), honest]},
        expected=whole(),
        kinds=(FRESH, RESUME),
        most_bytes=2 * SIZE,
    ),
    Row(
        rule="7.2",
        name="one-byte-more-each-time",
        told={F: [*[losing(lambda _, before: before + 1)] * 6, honest]},
        expected=whole(),
        most_bytes=8 * SIZE,
    ),
    Row(
        rule="7.2",
        name="rewind",
        told={F: [honest, losing(lambda *_: 7), honest]},
        expected=whole(),
        check=starts_again_at(7),
    ),
    Row(rule="7.2", name="416-rewind", told={F: [honest, out_of_step(7), honest]}, expected=whole()),
    Row(
        rule="7.2",
        name="server-has-more",
        prepare=having(900_000),
        expected=whole(),
        kinds=(RESUME,),
        most_bytes=SIZE,
        check=fragments(2),
    ),
    Row(
        rule="7.2",
        name="server-has-everything",
        prepare=having(SIZE),
        expected=whole(),
        kinds=(RESUME,),
        most_bytes=SIZE,
        check=fragments(1),
    ),
    Row(
        rule="7.2",
        name="server-has-less",
        prepare=having(0),
        expected=whole(),
        kinds=(RESUME,),
        most_bytes=2 * SIZE,
    ),
    Row(
        rule="7.2",
        name="never-a-byte",
        told={F: [losing(lambda _, before: before)]},
        expected=transient(codes.BG_E_NO_PROGRESS),
        kinds=(FRESH, RESUME),
        most_bytes=4 * SIZE,
        check=fragments(4),
    ),
    Row(
        rule="7.2",
        name="416-for-ever",
        told={F: [out_of_step(0)]},
        expected=transient(codes.BG_E_NO_PROGRESS),
        most_bytes=4 * SIZE,
        check=fragments(4),
    ),
    Row(
        rule="7.2",
        name="rewinds-for-ever",
        told={F: [never_beyond(FIRST)]},
        expected=transient(codes.BG_E_NO_PROGRESS),
        most_bytes=20 * SIZE,
        check=fragments(20),
    ),
)

# -- sessions ---------------------------------------------------------------------------------------------------------


def with_session(value: str) -> Act:
    return does_but(lambda answer: answer.having(Header.SESSION_ID, value))


SESSIONS: Final = (
    Row(
        rule="D4",
        name="other-session-in-ack",
        told={F: [with_session("{11111111-2222-3333-4444-555555555555}")]},
        expected=repeated(),
        kinds=(FRESH, RESUME),
    ),
    Row(
        rule="D4",
        name="no-session-in-ack",
        told={
            F: [does_but(lambda answer: answer.having(Header.SESSION_ID))],
            CL: [does_but(lambda answer: answer.having(Header.SESSION_ID))],
        },
        expected=whole(),
    ),
    Row(
        rule="4.2",
        name="create-without-session",
        told={C: [does_but(lambda answer: answer.having(Header.SESSION_ID))]},
        expected=repeated(),
        most_bytes=0,
    ),
    *(
        Row(
            rule="3.2",
            name=f"create-with-{name}",
            told={C: [with_session(value)]},
            expected=repeated(),
            most_bytes=0,
        )
        for name, value in (("id-of-101-characters", "x" * 101), ("blanks-in-id", "a b"), ("bytes-in-id", "\xe9\xe9"))
    ),
    Row(
        rule="D7",
        name="create-without-protocol",
        told={C: [does_but(lambda answer: answer.having(Header.PROTOCOL))]},
        expected=whole(),
    ),
    Row(
        rule="4.2",
        name="foreign-protocol",
        told={C: [does_but(lambda answer: answer.having(Header.PROTOCOL, "{11111111-2222-3333-4444-555555555555}"))]},
        expected=fatal(codes.BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH),
        most_bytes=0,
    ),
    Row(
        rule="4.2",
        name="protocol-in-upper-case-without-braces",
        told={C: [does_but(lambda answer: answer.having(Header.PROTOCOL, PROTOCOL.strip("{}").upper()))]},
        expected=whole(),
    ),
    Row(
        rule="4.2",
        name="create-says-201",
        told={C: [does_but(lambda one: one.saying("201 Created"))]},
        expected=whole(),
    ),
    Row(
        rule="7.1",
        name="server-forgets",
        told={F: [honest, forgets, honest]},
        expected=whole(),
        most_bytes=2 * SIZE,
        check=creates(2, 2),
    ),
    Row(
        rule="7.1",
        name="server-has-forgotten",
        told={F: [forgets, honest]},
        expected=whole(),
        kinds=(RESUME,),
        most_bytes=2 * SIZE,
        check=creates(1),
    ),
    Row(
        rule="7.1",
        name="server-forgets-for-ever",
        told={F: [forgets]},
        expected=transient(codes.BG_E_SESSION_NOT_FOUND),
        kinds=(FRESH, RESUME),
        most_bytes=6 * SIZE,
        check=creates(5),
    ),
    Row(
        rule="5.3",
        name="duplicate-create",
        told={F: [honest, says(UNKNOWN), honest], C: [same_session_again]},
        expected=whole(),
        most_bytes=2 * SIZE,
        check=creates(2, 2),
    ),
)

ABOUT_SESSIONS: Final = (*OFFSETS, *SESSIONS)
