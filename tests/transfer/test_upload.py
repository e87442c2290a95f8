"""What the client of an upload does, answer by answer: upload-protocol.md §2, §4, §7.1, §7.2, §7.5, its decisions."""

import pytest
from tests.transfer.heads import answer
from tests.transfer.uploads import (
    CANCEL,
    CLOSE,
    CREATE,
    FIRST,
    FORGOTTEN,
    FRAGMENT,
    KIB,
    ORIGIN,
    PING,
    PROTOCOL,
    SESSION,
    SIZE,
    Client,
    ack,
    opened,
    received,
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
from openbits.transfer.upload import Memory

INVALID, NO_PROGRESS, NOT_FOUND = 0x8020001B, 0x80200024, 0x8020001F
FATAL, TRANSIENT = CodeClass.FATAL, CodeClass.TRANSIENT
ID, NAME, RANGE = "BITS-Session-Id", "Content-Name", "Content-Range"


def is_invalid(fail: Fail) -> bool:
    return (fail.hresult, fail.code_class, fail.context) == (INVALID, TRANSIENT, ErrorContext.REMOTE_FILE)


# -- §4, §7.1: one packet after the other


def test_7_1_a_small_file_is_three_round_trips() -> None:
    client = Client(size=100).hears(opened(), received(100))
    assert client.sent == [CREATE, FRAGMENT]
    assert client.is_finished
    assert Client(step=UploadStep.CLOSE, known=client.session).hears(ack()).is_finished


def test_4_2_create_offers_the_one_protocol() -> None:
    create = Client().packet
    assert dict(create.fields) == {"BITS-Supported-Protocols": PROTOCOL}
    assert create.target.url == ORIGIN


def test_4_3_a_fragment_says_which_part_it_is_and_of_which_session() -> None:
    client = sending(name="report-17.bin")
    fields = {ID: SESSION, NAME: "report-17.bin", RANGE: f"bytes 0-{FIRST - 1}/{SIZE}"}
    assert dict(client.packet.fields) == fields
    assert client.part == (0, FIRST - 1)


def test_4_4_close_and_cancel_name_the_session() -> None:
    close = Client(step=UploadStep.CLOSE, known=session(is_received=True), name="a.bin").packet
    assert (close.type, dict(close.fields)) == (CLOSE, {ID: SESSION, NAME: "a.bin"})
    cancel = Client(step=UploadStep.CANCEL, known=session()).packet
    assert (cancel.type, dict(cancel.fields)) == (CANCEL, {ID: SESSION})


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "a:b", "a\nb", "ü.bin", "x" * 261])
def test_3_2_a_name_that_no_field_can_carry_is_left_out(name: str) -> None:
    assert NAME not in dict(sending(name=name).packet.fields)


def test_7_1_an_old_session_is_pinged_first_and_goes_on_where_it_was() -> None:
    client = Client(known=session(), offset=FIRST)
    assert (client.packet.type, client.packet.fields) == (PING, ())  # D3: without the session id
    assert client.hears(ack()).part[0] == FIRST


def test_7_5_a_server_that_may_have_more_than_the_row_is_asked_with_little() -> None:
    client = resumed(FIRST)
    assert client.part == (FIRST, FIRST + 5 * KIB - 1)
    assert client.hears(received(3 * FIRST)).part == (3 * FIRST, SIZE - 1)


def test_7_5_the_last_fragment_comes_again_as_it_was() -> None:
    assert resumed(SIZE - FIRST + 1).part == (SIZE - FIRST + 1, SIZE - 1)


def test_7_1_the_whole_file_in_order_without_a_gap() -> None:
    client = sending()
    while not client.is_finished:
        client.hears(received(client.part[1] + 1))
    parts = [(packet.part.first, packet.part.last) for packet in client.packets if packet.type is FRAGMENT]
    assert [first for first, _ in parts] == [0, *(last + 1 for _, last in parts[:-1])]
    assert parts[-1][1] == SIZE - 1
    assert [told.offset for told in client.told] == [0, *(last + 1 for _, last in parts)]
    assert client.session is not None
    assert client.session.is_received


def test_7_1_nothing_is_sent_for_what_is_received_already() -> None:
    assert Client(known=session(is_received=True), offset=SIZE).is_finished


def test_d16_an_empty_file_is_one_fragment_of_nothing() -> None:
    client = sending(size=0)
    assert dict(client.packet.fields)[RANGE] == "bytes */0"
    assert client.packet.part.length == 0
    assert client.hears(received(0)).is_finished


def test_d16_a_server_that_does_not_know_empty_files_is_http_error_400() -> None:
    fail = sending(size=0).hears(ack(400)).fail
    assert (fail.hresult, fail.code_class) == (0x80190190, FATAL)


# -- Create-Session


def test_d7_no_protocol_in_the_answer_is_tolerated() -> None:
    assert Client().hears(ack(session_id=SESSION)).packet.type is FRAGMENT


@pytest.mark.parametrize("protocol", [PROTOCOL.upper(), PROTOCOL.strip("{}")])
def test_3_2_the_protocol_in_any_spelling(protocol: str) -> None:
    assert Client().hears(ack(session_id=SESSION, protocol=protocol)).packet.type is FRAGMENT


def test_4_2_another_protocol_is_fatal() -> None:
    fail = Client().hears(ack(session_id=SESSION, protocol="{00000000-0000-0000-0000-000000000000}")).fail
    assert (fail.hresult, fail.code_class) == (0x80200022, FATAL)


@pytest.mark.parametrize("status", [200, 201])
def test_4_2_200_and_201_are_success(status: int) -> None:
    assert Client().hears(ack(status, session_id=SESSION)).packet.type is FRAGMENT


@pytest.mark.parametrize("session_id", [None, "", "a b", "x" * 101, "\x7f"])
def test_3_2_create_without_a_usable_session_id_is_invalid(session_id: str | None) -> None:
    said = ack(protocol=PROTOCOL) if session_id is None else ack(protocol=PROTOCOL, session_id=session_id)
    assert is_invalid(Client().hears(said).fail)


def test_3_2_a_session_id_is_replayed_byte_for_byte() -> None:
    strange = "aB(7)~{x}=;\"'"
    assert dict(Client().hears(ack(session_id=strange)).packet.fields)[ID] == strange


# -- D4, D25: whose answer it is


def test_d4_an_answer_need_not_name_the_session() -> None:
    assert sending().hears(ack(received_content_range=FIRST)).part[0] == FIRST


def test_d4_the_case_of_a_guid_does_not_matter() -> None:
    assert sending().hears(ack(session_id=SESSION.lower(), received_content_range=FIRST)).part[0] == FIRST


@pytest.mark.parametrize("status", [200, 201, 416])
def test_d4_another_session_id_is_invalid(status: int) -> None:
    other = "{00000000-77D2-4B0E-9A53-0D1C6E2F8B44}"
    assert is_invalid(sending().hears(ack(status, session_id=other, received_content_range=FIRST)).fail)


@pytest.mark.parametrize("kind", [CREATE, PING, FRAGMENT, CLOSE, CANCEL], ids=str)
def test_d25_200_of_somebody_who_is_no_upload_server_is_invalid(kind: PacketType) -> None:
    made = {
        CREATE: Client(),
        PING: Client(known=session()),
        FRAGMENT: sending(),
        CLOSE: Client(step=UploadStep.CLOSE, known=session(is_received=True)),
        CANCEL: Client(step=UploadStep.CANCEL, known=session()),
    }
    assert is_invalid(made[kind].hears(answer(200, content_type="text/html")).fail)


def test_d25_the_fourth_invalid_answer_in_a_row_is_fatal_over_all_attempts() -> None:
    memory = Memory()
    classes = [
        resumed(0, memory=memory).hears(answer(200)).fail.code_class,
        resumed(0, memory=memory).hears(received("x")).fail.code_class,
        Client(known=session(), memory=memory).loses(INVALID).fail.code_class,
        resumed(0, memory=memory).hears(answer(200)).fail.code_class,
    ]
    assert classes == [TRANSIENT, TRANSIENT, TRANSIENT, FATAL]


def test_d25_a_byte_that_is_taken_in_between_begins_the_count_anew() -> None:
    memory = Memory()
    for _ in range(5):
        client = resumed(0, memory=memory).hears(received(FIRST), answer(200))
        assert is_invalid(client.fail)


# -- §7.2: from where it goes on


def test_7_2_as_far_as_was_sent() -> None:
    assert sending().hears(received(FIRST)).part[0] == FIRST


def test_7_2_part_of_it() -> None:
    assert sending().hears(received(1000)).part[0] == 1000


def test_7_2_more_than_was_sent() -> None:
    assert sending().hears(received(600_000)).part[0] == 600_000


def test_7_2_back_to_what_the_server_still_has() -> None:
    client = resumed(2 * FIRST).hears(received(100))
    assert client.part[0] == 100
    assert client.offset == 100
    assert "back to byte 100" in client.told[-1].note


@pytest.mark.parametrize("offset", [0, 100, FIRST, 600_000])
def test_7_2_416_says_the_same(offset: int) -> None:
    assert resumed(2 * FIRST).hears(received(offset, 416, error_code="0x0")).part[0] == offset


@pytest.mark.parametrize("status", [200, 416])
@pytest.mark.parametrize("offset", [SIZE + 1, 2**63, -1, "x", "1.5", "0x10"])
def test_7_2_what_is_no_byte_of_the_file_is_invalid(offset: int | str, status: int) -> None:
    assert is_invalid(sending().hears(received(offset, status)).fail)


def test_7_2_416_without_an_offset_is_invalid() -> None:
    assert is_invalid(sending().hears(ack(416)).fail)


@pytest.mark.parametrize("said", [ack(), ack(received_content_range="")], ids=["missing", "empty"])
def test_d17_200_without_an_offset_has_taken_all_of_it(said: Head) -> None:
    assert sending().hears(said).part[0] == FIRST


def test_3_2_the_misspelled_field_is_understood() -> None:
    assert sending().hears(ack(416, recieved_content_range=77)).part[0] == 77


def test_d14_416_of_an_overlap_goes_on_where_the_server_is() -> None:
    assert resumed(100).hears(received(FIRST, 416)).part[0] == FIRST


def test_7_2_the_same_byte_three_times_in_a_row_is_no_progress() -> None:
    client = resumed(FIRST).hears(received(FIRST), received(FIRST, 416))
    assert client.part[0] == FIRST
    fail = client.hears(received(FIRST)).fail
    assert (fail.hresult, fail.code_class) == (NO_PROGRESS, TRANSIENT)


def test_7_2_the_same_byte_twice_and_then_another_is_none() -> None:
    client = resumed(FIRST)
    for offset in range(FIRST + 1, FIRST + 9):
        client.hears(received(client.part[0]), received(client.part[0]), received(offset))
    assert client.part[0] == FIRST + 8


def test_7_2_a_server_that_goes_back_for_ever_is_no_progress() -> None:
    client = sending()
    for _ in range(3):
        client.hears(received(FIRST), received(0))
    fail = client.hears(received(FIRST), received(0)).fail
    assert (fail.hresult, fail.code_class) == (NO_PROGRESS, TRANSIENT)
    assert client.offset == 0


def test_7_2_a_server_that_has_lost_much_once_gets_it_again() -> None:
    client = resumed(800_000).hears(received(0))
    while not client.is_finished:
        client.hears(received(min(client.part[0] + 10_000, SIZE)))
    assert client.offset == SIZE


def test_7_2_416_with_all_bytes_is_the_end() -> None:
    assert resumed(FIRST).hears(received(SIZE, 416)).is_finished


# -- the session is forgotten


def test_7_1_a_forgotten_session_begins_again_at_0() -> None:
    client = resumed(FIRST).hears(FORGOTTEN)
    assert client.packet.type is CREATE
    assert (client.session, client.offset) == (None, 0)
    assert client.hears(opened()).part[0] == 0


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_10_2_whatever_the_status(status: int) -> None:
    assert sending().hears(refused(status, "8020001f", "")).packet.type is CREATE


def test_7_1_a_server_that_forgets_more_than_three_times_is_left_alone() -> None:
    client = sending()
    for _ in range(3):
        client.hears(received(FIRST), FORGOTTEN, opened())
    fail = client.hears(FORGOTTEN).fail
    assert (fail.hresult, fail.code_class) == (NOT_FOUND, TRANSIENT)
    assert client.session is None


def test_7_1_progress_beyond_the_farthest_byte_forgives() -> None:
    client = sending()
    for offset in range(1, 10):
        client.hears(received(offset), FORGOTTEN, opened())
    assert client.part[0] == 0


# -- §7.4: sizes within a conversation


def test_7_4_quick_fragments_grow_and_slow_ones_shrink() -> None:
    client = sending(size=2**30)
    client.seconds = 1.9
    assert client.hears(received(FIRST)).packet.part.length == 512 * KIB
    client.seconds = 10.1
    assert client.hears(received(3 * FIRST)).packet.part.length == FIRST


def test_7_4_413_sends_half_of_it_from_the_same_byte() -> None:
    client = sending().hears(received(1000), refused(413, "0x80200020", "0x5"))
    assert client.part == (1000, 1000 + FIRST // 2 - 1)


def test_7_4_413_of_the_smallest_fragment_is_fatal() -> None:
    client = sending()
    while client.packet.part.length > 5 * KIB:
        client.hears(refused(413, "0x80200020", "0x5"))
    fail = client.hears(refused(413, "0x80200020", "0x5")).fail
    assert (fail.hresult, fail.code_class) == (0x8019019D, FATAL)


def test_7_4_another_session_has_another_ceiling() -> None:
    client = sending(size=2**30)
    client.seconds = 1.0
    client.hears(refused(413), received(FIRST // 2))
    assert client.packet.part.length == FIRST // 2
    client.hears(FORGOTTEN, opened(), received(FIRST // 2))
    assert client.packet.part.length == FIRST


def test_7_4_what_a_limit_lets_through_in_2_s_is_the_size() -> None:
    assert sending(budget_bytes=20_000).packet.part.length == 20_000


def test_7_4_a_cut_connection_makes_the_next_attempt_smaller() -> None:
    memory = Memory()
    sending(memory=memory).loses()
    assert sending(memory=memory).packet.part.length == FIRST // 2


# -- §5.5: Close and Cancel


@pytest.mark.parametrize("step", [UploadStep.CLOSE, UploadStep.CANCEL])
def test_d13_a_session_that_is_gone_is_closed_and_cancelled(step: UploadStep) -> None:
    assert Client(step=step, known=session(is_received=True)).hears(FORGOTTEN).is_finished


@pytest.mark.parametrize("step", [UploadStep.CLOSE, UploadStep.CANCEL])
@pytest.mark.parametrize("status", [500, 501, 503, 505])
def test_5_5_another_5xx_is_tried_again_later(step: UploadStep, status: int) -> None:
    fail = Client(step=step, known=session(is_received=True)).hears(ack(status)).fail
    assert fail.code_class is TRANSIENT


@pytest.mark.parametrize("step", [UploadStep.CLOSE, UploadStep.CANCEL])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 302])
def test_5_5_what_the_server_will_not_hear_changes_nothing(step: UploadStep, status: int) -> None:
    client = Client(step=step, known=session(is_received=True), offset=SIZE).hears(ack(status))
    assert client.is_finished
    assert str(status) in client.told[-1].note
    assert client.session is not None


@pytest.mark.parametrize("step", [UploadStep.CLOSE, UploadStep.CANCEL])
def test_5_5_nor_does_a_login_that_it_refuses(step: UploadStep) -> None:
    client = Client(step=step, known=session(is_received=True)).loses(0x80190191, ErrorContext.REMOTE_FILE)
    assert client.is_finished


@pytest.mark.parametrize("step", [UploadStep.CLOSE, UploadStep.CANCEL])
def test_5_5_a_proxy_that_refuses_is_not_the_server(step: UploadStep) -> None:
    known = session(is_received=True)
    assert Client(step=step, known=known).hears(ack(407)).fail.hresult == 0x80190197
    assert Client(step=step, known=known).loses(0x80190197).fail.hresult == 0x80190197


def test_7_1_there_is_nothing_to_cancel_without_a_session() -> None:
    client = Client(step=UploadStep.CANCEL)
    assert client.is_finished
    assert client.packets == []


# -- §8: the reply

REPLY = "https://files.example.net/r"


def last(**options: object) -> Client:
    """The last fragment is under way."""
    return resumed(SIZE - 1, is_reply_wanted=True, **options)


def told_url(client: Client) -> str:
    assert client.is_finished
    assert client.session is not None
    assert client.session.is_received
    return client.session.reply_url


def test_8_1_the_last_answer_names_the_reply() -> None:
    assert told_url(last().hears(received(SIZE, reply_url=REPLY))) == REPLY


def test_8_3_a_relative_reply_is_that_of_where_the_fragment_was_sent() -> None:
    client = Client(known=session(host="node3.example.net"), offset=SIZE - 1, is_reply_wanted=True).hears(ack())
    assert told_url(client.hears(received(SIZE, reply_url="r\\{x}"))) == "https://node3.example.net/inbox/r/%7Bx%7D"


def test_d19_no_reply_url_is_no_reply() -> None:
    assert told_url(last().hears(received(SIZE))) == ""


def test_d19_strictly_it_is_fatal() -> None:
    fail = last(is_strict=True).hears(received(SIZE)).fail
    assert (fail.hresult, fail.code_class) == (INVALID, FATAL)


def test_d19_strict_says_nothing_of_a_plain_upload() -> None:
    assert resumed(SIZE - 1, is_strict=True).hears(received(SIZE)).is_finished


def test_8_2_a_plain_upload_ignores_the_reply_url_whatever_it_is() -> None:
    client = resumed(SIZE - 1).hears(received(SIZE, reply_url="javascript:x"))
    assert told_url(client) == ""


def test_8_3_a_reply_url_that_cannot_be_used_is_invalid_and_the_last_fragment_comes_again() -> None:
    client = last().hears(received(SIZE, reply_url="file:///etc/passwd"))
    assert is_invalid(client.fail)
    assert client.upload.offset == SIZE - 1


def test_8_1_all_bytes_by_416_without_the_reply_ask_for_it_once_more() -> None:
    client = resumed(100, is_reply_wanted=True).hears(received(SIZE, 416))
    assert client.part == (SIZE - 1, SIZE - 1)
    assert told_url(client.hears(received(SIZE, reply_url=REPLY))) == REPLY


def test_8_1_nor_is_there_none_before_the_last_byte_was_answered() -> None:
    client = resumed(100, is_reply_wanted=True).hears(received(SIZE))
    assert client.part == (SIZE - 1, SIZE - 1)
    assert told_url(client.hears(received(SIZE))) == ""  # D19


def test_8_1_and_not_for_ever() -> None:
    client = resumed(100, is_reply_wanted=True).hears(*[received(SIZE, 416)] * 4)
    assert client.fail.hresult == NO_PROGRESS


def test_d29_the_last_fragment_waits_for_the_application_and_so_does_the_first_after_a_break() -> None:
    client = resumed(0, is_reply_wanted=True)
    waits = [client.packet.is_application_awaited]
    while not client.hears(received(client.part[1] + 1)).is_finished:
        waits.append(client.packet.is_application_awaited)
    assert waits == [True, False, False, False, True]
    assert not resumed(SIZE - 1).packet.is_application_awaited


# -- fields that nobody can understand


def test_two_different_values_of_a_field_are_invalid() -> None:
    head: Head = answer(
        200,
        ("bits-received-content-range", "5"),
        ("bits-received-content-range", "6"),
        bits_packet_type="Ack",
    )
    assert is_invalid(sending().hears(head).fail)


@pytest.mark.parametrize("kind", ["ACK", "ack", " Ack "])
def test_3_2_the_packet_type_in_any_case(kind: str) -> None:
    assert sending().hears(answer(200, bits_packet_type=kind)).part[0] == FIRST


def test_h5_unknown_fields_mean_nothing() -> None:
    assert sending().hears(received(FIRST, strange_field="x")).part[0] == FIRST
