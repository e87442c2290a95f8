"""The host that a server names for the packets of a session, and the way back: upload-protocol.md §7.3, §12."""

import pytest
from tests.transfer.heads import answer
from tests.transfer.uploads import (
    CLOSE,
    CREATE,
    FIRST,
    FORGOTTEN,
    FRAGMENT,
    ORIGIN,
    PING,
    SESSION,
    Client,
    ack,
    opened,
    received,
    session,
)

from openbits.core.codes import CodeClass
from openbits.core.model import UploadSession
from openbits.transfer.transport import UploadStep

HOST = "node3.example.net"
THERE = ORIGIN.replace("files.example.net", HOST)
CERTIFICATE = 0x80072F06
DAY = 86_400


def hosted(**changes: object) -> UploadSession:
    return session(**{"host": HOST, "fallback_seconds": DAY, **changes})


def failed_at(client: Client) -> float | None:
    assert client.session is not None
    return client.session.host_failed_at


# -- the host is named


def test_12_after_create_the_host_is_pinged_and_gets_the_fragments() -> None:
    client = Client().hears(opened(host_id=HOST, host_id_fallback_timeout=DAY))
    assert (client.packet.type, client.packet.target.url) == (PING, THERE)
    assert (client.session, client.offset) == (hosted(), 0)
    client.hears(ack())
    assert (client.packet.type, client.packet.target.url) == (FRAGMENT, THERE)


def test_12_close_goes_there_too_and_create_never() -> None:
    assert Client(step=UploadStep.CLOSE, known=hosted(is_received=True)).packet.target.url == THERE
    client = Client(known=hosted(), offset=FIRST).hears(ack(), FORGOTTEN)
    assert (client.packet.type, client.packet.target.url) == (CREATE, ORIGIN)
    assert client.session is None


@pytest.mark.parametrize("seconds", [None, 4_294_967_295])
def test_7_3_without_a_time_or_with_the_largest_there_is_no_way_back(seconds: int | None) -> None:
    said = {} if seconds is None else {"host_id_fallback_timeout": seconds}
    client = Client().hears(opened(host_id=HOST, **said))
    assert client.session is not None
    assert client.session.fallback_seconds is None


def test_12_the_origin_by_its_own_name_is_no_other_host() -> None:
    client = Client().hears(opened(host_id="FILES.example.net", host_id_fallback_timeout=5))
    assert client.packet.type is FRAGMENT
    assert client.session == session()


@pytest.mark.parametrize("host", ["user@x.example", "x.example/y", "localhost", "169.254.169.254", "a" * 301])
def test_12_a_host_that_may_not_be_one_makes_the_answer_invalid(host: str) -> None:
    fail = Client().hears(opened(host_id=host)).fail
    assert (fail.hresult, fail.code_class) == (0x8020001B, CodeClass.TRANSIENT)


def test_12_a_time_that_is_no_number_makes_the_answer_invalid() -> None:
    assert Client().hears(opened(host_id=HOST, host_id_fallback_timeout="soon")).fail.hresult == 0x8020001B


# -- the host is out of reach


def test_7_3_the_time_runs_from_the_first_failure() -> None:
    first = Client(known=hosted(), offset=FIRST, wall=1000.0).loses()
    assert first.fail.hresult == 0x80072EFE
    assert failed_at(first) == 1000.0
    second = Client(known=first.session, offset=FIRST, wall=5000.0).loses()
    assert second.told == []  # nothing new
    assert [packet.target.url for packet in second.packets] == [THERE]


def test_7_3_after_it_the_origin_is_asked_with_the_same_session() -> None:
    client = Client(known=hosted(host_failed_at=1000.0), offset=FIRST, wall=1000.0 + DAY)
    assert (client.packet.type, client.packet.target.url) == (PING, ORIGIN)
    assert client.session == session()
    assert "out of reach" in client.told[0].note
    client.hears(ack())
    assert client.part[0] == FIRST
    assert dict(client.packet.fields)["BITS-Session-Id"] == SESSION


def test_7_3_and_not_before() -> None:
    client = Client(known=hosted(host_failed_at=1000.0), wall=999.0 + DAY)
    assert client.packet.target.url == THERE


def test_7_3_it_may_be_over_with_the_failure_itself() -> None:
    client = Client(known=hosted(fallback_seconds=0), offset=FIRST).loses()
    assert (client.packet.type, client.packet.target.url) == (PING, ORIGIN)
    assert client.session == session()


def test_7_3_the_way_back_of_close_closes() -> None:
    known = hosted(is_received=True, host_failed_at=0.0)
    client = Client(step=UploadStep.CLOSE, known=known, wall=float(DAY))
    assert (client.packet.type, client.packet.target.url) == (CLOSE, ORIGIN)


@pytest.mark.parametrize("status", [200, 500, 503])
def test_7_3_any_answer_of_the_host_ends_the_time(status: int) -> None:
    client = Client(known=hosted(host_failed_at=999.0), offset=FIRST).hears(ack(status))
    assert client.told[0].session == hosted()
    assert client.told[0].offset == FIRST


@pytest.mark.parametrize("status", [502, 503, 504])
def test_12_the_word_of_a_gateway_that_the_host_does_not_answer_begins_it(status: int) -> None:
    client = Client(known=hosted(), offset=FIRST, wall=1000.0).hears(answer(status))
    assert failed_at(client) == 1003.0
    assert client.fail.hresult == 0x80190000 | status


def test_7_3_without_a_way_back_the_host_is_asked_for_ever() -> None:
    known = hosted(fallback_seconds=None, host_failed_at=0.0)
    assert Client(known=known, wall=1e9).packet.target.url == THERE


def test_7_3_a_clock_that_was_put_back_begins_the_time_anew() -> None:
    client = Client(known=hosted(host_failed_at=5000.0), offset=FIRST, wall=1000.0).loses()
    assert failed_at(client) == 1000.0


def test_12_a_certificate_that_is_for_another_host_is_the_error() -> None:
    fail = Client(known=hosted(), offset=FIRST).loses(CERTIFICATE).fail
    assert (fail.hresult, fail.code_class) == (CERTIFICATE, None)


def test_12_a_failure_of_the_origin_has_no_such_time() -> None:
    client = Client(known=session(), offset=FIRST).loses()
    assert client.told == []


def test_a_host_of_a_row_that_is_none_is_left() -> None:
    client = Client(known=session(host="a b"), offset=FIRST)
    assert client.packet.target.url == ORIGIN
    assert client.session == session()


def test_12_a_foreign_server_after_the_way_back_begins_again() -> None:
    client = Client(known=hosted(fallback_seconds=0), offset=FIRST).loses().hears(ack(), FORGOTTEN)
    assert (client.packet.type, client.offset) == (CREATE, 0)


def test_7_3_answers_of_the_host_say_nothing_if_it_never_failed() -> None:
    client = Client(known=hosted(), offset=FIRST).hears(ack(), received(2 * FIRST))
    assert [told.offset for told in client.told] == [2 * FIRST]
