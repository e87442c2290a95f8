"""What a fragment adds to what a session has: the rows F1 to F8 and F13 of upload-protocol.md §6, as one table.

Pure. F9 to F12 happen while bytes are written and are the business of `receiving` and `completion`. The syntax of F1 is
looked at by `core.packets.content_range`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openbits.core import codes
from openbits.core.packets import ContentRange
from openbits.server.model import RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A fragment and the session that it is for. `total`: of the session, None before its first fragment."""

    fragment: ContentRange
    body_length: int
    next_offset: int
    total: int | None
    maximum_upload_bytes: int
    max_fragment_bytes: int


@dataclass(frozen=True, slots=True)
class Append:
    """Pass over `skip` bytes of the body, then append `take`: nothing is appended if all is known (F7) or empty."""

    skip: int
    take: int


@dataclass(frozen=True, slots=True)
class _Refusal:
    row: str
    applies: Callable[[Facts], bool]
    status: int
    hresult: int
    words: str


_REFUSALS: Final = (
    _Refusal(
        "F1",
        lambda facts: facts.body_length != facts.fragment.length,
        400,
        codes.E_INVALIDARG,
        "Content-Length is not the length of Content-Range",
    ),
    _Refusal(
        "F2",
        lambda facts: facts.total is not None and facts.fragment.total != facts.total,
        400,
        codes.E_INVALIDARG,
        "Content-Range has another total than the fragments before",
    ),
    _Refusal(
        "F3",
        lambda facts: facts.fragment.total > facts.maximum_upload_bytes,
        500,
        codes.BG_E_TOO_LARGE,
        "the file is larger than BITSMaximumUploadSize",
    ),
    _Refusal(
        "F4",
        lambda facts: facts.body_length > facts.max_fragment_bytes,
        413,
        codes.BG_E_TOO_LARGE,
        "the fragment is larger than max_fragment",
    ),
    _Refusal(
        "F8",
        lambda facts: facts.fragment.first > facts.next_offset,
        416,
        0,
        "the fragment begins beyond the next byte wanted",
    ),
)
"""In this order; the first one that applies counts."""


def judge(facts: Facts) -> Append:
    """F5, F6, F7 and F13. Raises RefusedError: F1 to F4 and F8, with the next byte wanted."""
    for refusal in _REFUSALS:
        if refusal.applies(facts):
            words = f"{refusal.words}: {facts.fragment}, {facts.body_length} bytes"
            raise RefusedError(refusal.status, refusal.hresult, words, received=facts.next_offset)
    skip = min(facts.next_offset - facts.fragment.first, facts.body_length)
    return Append(skip=skip, take=facts.body_length - skip)
