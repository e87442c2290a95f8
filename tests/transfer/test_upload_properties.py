"""Whatever a server says: an upload skips no byte, makes no tight loop, and is whole only if the server said so."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transfer.heads import answer
from tests.transfer.uploads import FRAGMENT, Client, ack, opened, received, refused, session

from openbits.transfer.headers import Head

SIZE = 600_000
MOST_IN_VAIN = 64
"""Packets without a byte beyond the farthest: the setbacks and standstills that are allowed, 413 down to 5 KiB."""

OFFSETS = st.one_of(
    st.integers(min_value=0, max_value=SIZE),
    st.integers(min_value=-5, max_value=2**63 + 5),
    st.sampled_from([0, SIZE, SIZE - 1, SIZE + 1, 262_144]),
)

HEADS = st.one_of(
    st.builds(received, OFFSETS, st.sampled_from([200, 201, 416])),
    st.builds(received, OFFSETS, st.sampled_from([200, 500, 503]), reply_url=st.text("abc:/{}\\% ", max_size=20)),
    st.builds(ack, st.integers(min_value=100, max_value=599)),
    st.builds(opened),
    st.builds(opened, host_id=st.sampled_from(["node.example.net", "x@y", "localhost"])),
    st.builds(
        refused,
        st.sampled_from([400, 403, 409, 413, 416, 500, 503]),
        st.sampled_from(["", "0x0", "0x8020001F", "0x80200020", "0x80070070"]),
        st.sampled_from(["", "0x5", "0x7"]),
    ),
    st.builds(answer, st.integers(min_value=100, max_value=599)),
)

LIKELY = st.one_of(st.just(ack(200)), st.builds(received, st.integers(min_value=0, max_value=SIZE)), st.just(opened()))


def says_all(head: Head) -> bool:
    """True of a server's word that it has every byte."""
    return dict(head.fields).get("bits-received-content-range") == str(SIZE)


@settings(max_examples=600)
@given(
    heads=st.lists(st.one_of(LIKELY, HEADS), max_size=40),
    offset=st.integers(min_value=0, max_value=SIZE),
    is_old=st.booleans(),
    is_reply_wanted=st.booleans(),
)
def test_no_answer_makes_the_client_skip_a_byte_or_claim_what_nobody_has_said(
    heads: list[Head],
    offset: int,
    is_old: bool,  # noqa: FBT001  # drawn
    is_reply_wanted: bool,  # noqa: FBT001
) -> None:
    known = session() if is_old else None
    client = Client(known=known, offset=offset, size=SIZE, is_reply_wanted=is_reply_wanted)
    acknowledged = offset if is_old else 0
    for head in heads:
        if client.is_over:
            break
        packet, before = client.packet, len(client.told)
        client.hears(head)
        if not client.is_over and client.packet.type is FRAGMENT:
            said = dict(head.fields).get("bits-received-content-range")
            wanted = client.told[-1].offset if client.told else acknowledged
            first = client.packet.part.first
            assert first <= wanted  # nothing is passed over that the server was not told to have
            assert first == min(wanted, SIZE - 1)
            if len(client.told) > before and packet.type is FRAGMENT and client.told[-1].session is not None:
                assert client.told[-1].offset == (int(said) if said else packet.part.last + 1)
        if client.is_finished:
            assert packet.type is FRAGMENT
            assert head.status in {200, 201, 416}
            implied = packet.part.last + 1 == SIZE and "bits-received-content-range" not in dict(head.fields)
            assert says_all(head) or implied
            assert client.told[-1].offset == SIZE


@settings(max_examples=400)
@given(said=st.lists(HEADS, min_size=1, max_size=8), is_old=st.booleans())
def test_no_server_that_repeats_itself_is_asked_for_ever_without_progress(
    said: list[Head],
    is_old: bool,  # noqa: FBT001  # drawn
) -> None:
    client = Client(known=session() if is_old else None, size=SIZE)
    farthest = in_vain = 0
    for head in itertools.cycle(said):
        if client.is_over or in_vain > MOST_IN_VAIN:
            break
        client.hears(head)
        here = max((told.offset for told in client.told), default=0)
        in_vain = 0 if here > farthest else in_vain + 1
        farthest = max(farthest, here)
    assert in_vain <= MOST_IN_VAIN
