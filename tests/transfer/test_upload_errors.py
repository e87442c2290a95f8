"""What errors of upload servers mean for a job: the tables of upload-protocol.md §9.4 and §10.2, row by row."""

from collections.abc import Callable

import pytest
from tests.transfer.heads import answer
from tests.transfer.uploads import (
    CLOSE,
    CREATE,
    FRAGMENT,
    PING,
    SESSION,
    Client,
    ack,
    refused,
    resumed,
    sending,
    session,
)

from openbits.core.codes import CodeClass
from openbits.core.enums import ErrorContext
from openbits.core.packets import PacketType
from openbits.transfer.decisions import Fail
from openbits.transfer.headers import Head
from openbits.transfer.transport import UploadStep

FATAL, TRANSIENT = CodeClass.FATAL, CodeClass.TRANSIENT
SERVER, APPLICATION = ErrorContext.REMOTE_FILE, ErrorContext.REMOTE_APPLICATION
HTTP = 0x80190000


def waiting_for(kind: PacketType) -> Client:
    """A client whose packet of this type is under way."""
    made: dict[PacketType, Callable[[], Client]] = {
        CREATE: Client,
        PING: lambda: Client(known=session(), offset=1),
        FRAGMENT: sending,
        CLOSE: lambda: Client(step=UploadStep.CLOSE, known=session(is_received=True)),
    }
    client = made[kind]()
    assert client.packet.type is kind
    return client


def fail_of(kind: PacketType, head: Head) -> Fail:
    return waiting_for(kind).hears(head).fail


# -- §9.4: the application behind the server


@pytest.mark.parametrize(
    ("status", "code_class"),
    [
        *((status, FATAL) for status in (300, 301, 302, 303, 304, 305, 307)),
        *((status, TRANSIENT) for status in (306, 308, 399)),
        *((status, TRANSIENT) for status in (408, 409)),
        *((status, FATAL) for status in (400, 401, 403, 404, 410, 413, 416, 429, 499)),
        *((status, FATAL) for status in (501, 505)),
        *((status, TRANSIENT) for status in (500, 502, 503, 504, 507, 599)),
        *((status, TRANSIENT) for status in (202, 204, 600)),
    ],
)
def test_9_4_an_error_of_the_application_by_its_status(status: int, code_class: CodeClass) -> None:
    fail = fail_of(FRAGMENT, refused(status, f"0x{HTTP | status:08X}", "0x7"))
    assert (fail.code_class, fail.context, fail.hresult) == (code_class, APPLICATION, HTTP | status)


def test_9_4_the_status_counts_whatever_code_the_application_gives() -> None:
    fail = fail_of(FRAGMENT, refused(503, "0xA0040001", "0x7"))
    assert (fail.hresult, fail.code_class, fail.context) == (0xA0040001, TRANSIENT, APPLICATION)
    for code in ("0x80070005", "0x80070057", "0x8020001F"):
        assert fail_of(FRAGMENT, refused(500, code, "7")).code_class is TRANSIENT


def test_9_4_a_transient_error_sends_the_last_fragment_again_at_the_next_attempt() -> None:
    client = resumed(900_000, size=900_001)
    assert client.part == (900_000, 900_000)
    client.hears(refused(503, "0x801901F7", "0x7"))
    again = resumed(900_000, size=900_001)
    assert again.part == (900_000, 900_000)


# -- §10.2: the server itself, or who answers in its place


@pytest.mark.parametrize("kind", [CREATE, PING, FRAGMENT], ids=str)
@pytest.mark.parametrize(
    ("status", "code_class"),
    [
        *((status, FATAL) for status in (401, 407, 403)),
        *((status, FATAL) for status in (400, 404, 405, 411, 414)),
        *((status, TRANSIENT) for status in (408, 429, 500, 502, 503, 504)),
        *((status, FATAL) for status in (501, 505)),
        *((status, FATAL) for status in (300, 301, 302, 303, 304, 305, 307)),
        (308, TRANSIENT),
    ],
)
@pytest.mark.parametrize("make", [ack, answer], ids=["ack", "D25-intermediary"])
def test_10_2_by_status(make: object, status: int, code_class: CodeClass, kind: PacketType) -> None:
    assert callable(make)
    fail = fail_of(kind, make(status))
    assert (fail.hresult, fail.code_class, fail.context) == (HTTP | status, code_class, SERVER)


def test_10_2_409_is_fatal_on_create_and_transient_elsewhere() -> None:
    assert fail_of(CREATE, ack(409)).code_class is FATAL
    assert fail_of(PING, ack(409)).code_class is TRANSIENT
    assert fail_of(FRAGMENT, ack(409)).code_class is TRANSIENT


@pytest.mark.parametrize("code", ["0x80200020", "0x80070057", "0x80070005", "0x80200022", "0x80200023"])
@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_10_2_codes_that_are_fatal_whatever_the_status(code: str, status: int) -> None:
    fail = fail_of(FRAGMENT, refused(status, code, "0x5"))
    assert (fail.hresult, fail.code_class, fail.context) == (int(code, 16), FATAL, SERVER)


@pytest.mark.parametrize("code", ["0x80070070", "0x80070112"])
@pytest.mark.parametrize("status", [400, 500, 501])
def test_10_2_a_full_disk_of_the_server_is_transient(code: str, status: int) -> None:
    fail = fail_of(FRAGMENT, refused(status, code, "0x5"))
    assert (fail.hresult, fail.code_class, fail.context) == (int(code, 16), TRANSIENT, SERVER)


@pytest.mark.parametrize(("status", "code_class"), [(500, TRANSIENT), (404, FATAL)])
def test_10_2_any_other_code_is_the_error_and_the_status_its_class(status: int, code_class: CodeClass) -> None:
    fail = fail_of(FRAGMENT, refused(status, "0x80004005", "0x5"))
    assert (fail.hresult, fail.code_class) == (0x80004005, code_class)


@pytest.mark.parametrize("code", ["0x0", "0x00000001", "nonsense", ""])
def test_10_2_a_code_that_is_no_failure_is_none(code: str) -> None:
    assert fail_of(FRAGMENT, refused(500, code)).hresult == HTTP | 500


@pytest.mark.parametrize("code", ["0x80070005", "x80070005", "80070005", "0X80070005"])
def test_3_2_the_code_in_every_spelling(code: str) -> None:
    assert fail_of(FRAGMENT, refused(500, code)).hresult == 0x80070005


def test_d6_both_names_of_the_code_are_read_and_the_longer_one_first() -> None:
    assert fail_of(FRAGMENT, ack(500, error="0x80070005")).hresult == 0x80070005
    assert fail_of(FRAGMENT, ack(500, error="0x80070005", error_code="0x80070057")).hresult == 0x80070057
    assert fail_of(FRAGMENT, ack(500, error="0x80070005", error_code="0x0")).hresult == 0x80070005


@pytest.mark.parametrize(
    ("context", "expected"),
    [("0x7", APPLICATION), ("7", APPLICATION), ("0x5", SERVER), ("", SERVER), ("0x9", SERVER), ("?", SERVER)],
)
def test_3_2_an_unknown_context_is_the_server(context: str, expected: ErrorContext) -> None:
    assert fail_of(FRAGMENT, ack(500, error_code="0x80004005", error_context=context)).context is expected


# -- Retry-After


@pytest.mark.parametrize(("said", "seconds"), [("120", 120.0), ("86400", 86_400.0), ("9999999", 86_400.0)])
def test_10_2_retry_after_is_told_up_to_24_h(said: str, seconds: float) -> None:
    assert fail_of(FRAGMENT, ack(503, retry_after=said)).retry_after_seconds == seconds


def test_10_2_retry_after_of_a_fatal_error_means_nothing() -> None:
    assert fail_of(FRAGMENT, ack(403, retry_after="5")).retry_after_seconds is None


# -- transport failures


@pytest.mark.parametrize("kind", [CREATE, PING, FRAGMENT, CLOSE], ids=str)
def test_10_2_no_answer_is_what_it_was(kind: PacketType) -> None:
    fail = waiting_for(kind).loses(0x80072EFE).fail
    assert (fail.hresult, fail.context, fail.code_class) == (0x80072EFE, ErrorContext.GENERAL_TRANSPORT, None)


# -- words


def test_messages_name_the_packet_the_answer_and_what_it_may_mean() -> None:
    words = fail_of(CREATE, ack(405, server="web/1")).detail
    assert "Create-Session" in words
    assert "HTTP/1.1 405 Reason" in words
    assert "no upload server" in words
    assert "may not be overwritten" in fail_of(CREATE, refused(403, "0x80070005", "0x5")).detail
    assert "application" in fail_of(FRAGMENT, refused(500, "0x801901F4", "0x7")).detail
    for status in (400, 404, 405, 501):
        assert "uploads" not in fail_of(FRAGMENT, refused(status, f"0x{HTTP | status:08X}", "0x7")).detail
    assert "disk of the server" in fail_of(FRAGMENT, refused(500, "0x80070070", "0x5")).detail
    assert "disk" not in fail_of(FRAGMENT, refused(408, "0x80070112", "0x7")).detail
    assert SESSION not in fail_of(FRAGMENT, ack(500, session_id=SESSION)).detail
