"""The arithmetic of fragments, row for row of upload-protocol.md §6; expected values are the page's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbits.core.packets import ContentRange
from openbits.server.fragments import Append, Facts, judge
from openbits.server.model import RefusedError


def facts(
    first: int, last: int, total: int, *, known: int, of: int | None = None, length: int | None = None, **limits: int
) -> Facts:
    """A fragment for a session that has `known` bytes of `of`."""
    fragment = ContentRange(first, last, total)
    return Facts(
        fragment=fragment,
        body_length=fragment.length if length is None else length,
        next_offset=known,
        total=of,
        maximum_upload_bytes=limits.get("maximum", 2**63 - 1),
        max_fragment_bytes=limits.get("most", 2**63 - 1),
    )


ACCEPTED = [
    pytest.param(facts(0, 9, 100, known=0), Append(0, 10), id="F5-first"),
    pytest.param(facts(50, 99, 100, known=50, of=100), Append(0, 50), id="F5-last"),
    pytest.param(facts(7, 7, 100, known=7, of=100), Append(0, 1), id="F5-one-byte"),
    pytest.param(facts(2**62, 2**62 + 4, 2**63 - 1, known=2**62, of=2**63 - 1), Append(0, 5), id="F5-beyond-4-GiB"),
    pytest.param(facts(5, 14, 100, known=8, of=100), Append(3, 7), id="F6-D14-overlap"),
    pytest.param(facts(0, 99, 100, known=99, of=100), Append(99, 1), id="F6-D14-all-but-one-known"),
    pytest.param(facts(5, 9, 100, known=10, of=100), Append(5, 0), id="F7-just-known"),
    pytest.param(facts(0, 3, 100, known=50, of=100), Append(4, 0), id="F7-long-known"),
    pytest.param(facts(0, 99, 100, known=100, of=100), Append(100, 0), id="F7-the-whole-file-again"),
    pytest.param(facts(0, -1, 0, known=0), Append(0, 0), id="F13-D16-empty-file"),
    pytest.param(facts(0, -1, 0, known=0, of=0), Append(0, 0), id="F13-D16-empty-file-again"),
]

REFUSED = [
    pytest.param(facts(0, 9, 100, known=4, length=9), (400, 0x80070057), id="F1-body-shorter-than-range"),
    pytest.param(facts(0, 9, 100, known=4, length=11), (400, 0x80070057), id="F1-body-longer-than-range"),
    pytest.param(facts(0, -1, 0, known=0, length=1), (400, 0x80070057), id="F1-body-for-an-empty-file"),
    pytest.param(facts(4, 9, 101, known=4, of=100), (400, 0x80070057), id="F2-another-total"),
    pytest.param(facts(0, 99, 100, known=200, of=200), (400, 0x80070057), id="F2-another-total-when-all-is-known"),
    pytest.param(facts(0, 9, 101, known=0, maximum=100), (500, 0x80200020), id="F3-file-too-large"),
    pytest.param(facts(0, 10, 100, known=0, most=10), (413, 0x80200020), id="F4-fragment-too-large"),
    pytest.param(facts(5, 9, 100, known=4, of=100), (416, 0), id="F8-gap-of-one-byte"),
    pytest.param(facts(5, 9, 100, known=0), (416, 0), id="F8-gap-before-the-first-byte"),
]


@pytest.mark.parametrize(("given_facts", "expected"), ACCEPTED)
def test_what_is_appended(given_facts: Facts, expected: Append) -> None:
    assert judge(given_facts) == expected


@pytest.mark.parametrize(("given_facts", "expected"), REFUSED)
def test_what_is_refused_says_which_byte_is_wanted(given_facts: Facts, expected: tuple[int, int]) -> None:
    with pytest.raises(RefusedError) as caught:
        judge(given_facts)
    assert (caught.value.status, caught.value.hresult) == expected
    assert caught.value.received == given_facts.next_offset


def test_f3_f4_limits_themselves_are_allowed() -> None:
    assert judge(facts(0, 9, 10, known=0, maximum=10, most=10)) == Append(0, 10)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40), st.integers(0, 40))
def test_f5_to_f8_no_byte_is_lost_or_doubled(known: int, first: int, length: int, rest: int) -> None:
    total = max(known, first + length) + rest
    if first > known:
        with pytest.raises(RefusedError):
            judge(facts(first, first + length - 1, total, known=known, of=total))
        return
    append = judge(facts(first, first + length - 1, total, known=known, of=total))
    assert append.skip + append.take == length
    taken = list(range(first, first + length))[append.skip :]
    assert taken == [byte for byte in range(first, first + length) if byte >= known]
