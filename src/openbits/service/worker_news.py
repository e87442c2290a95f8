"""What a network worker may say: the form of its messages, in one table (docs/processes.md).

A worker talks to strangers, so it is the first to be taken over. It is believed about its own transfers; but a number
that no store can hold, or a field that is not there, would harm the jobs of others. So a message that is not of this
form is the end of the worker. How long texts are is the channel's business.
"""

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from openbits.channel import Message
from openbits.core import packets
from openbits.core.enums import ErrorContext
from openbits.core.model import UploadSession

MOST: Final = 2**63 - 1
"""The largest number of bytes that a file has and a store holds."""


class MalformedNewsError(ValueError):
    """A worker said what the contract does not have."""


Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _is_hresult(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**32


def _is_seconds(value: Any) -> bool:
    return type(value) in {int, float} and math.isfinite(value) and abs(value) <= MOST


def _is_part(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and sum(value) <= MOST


def _is_base64(value: Any) -> bool:
    try:
        return bool(base64.b64decode(value, validate=True))
    except (TypeError, ValueError):
        return False


def _is_context(value: Any) -> bool:
    return isinstance(value, str) and value.upper() in ErrorContext.__members__


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_session_id(value: Any) -> bool:
    return isinstance(value, str) and packets.is_session_id(value)


def _is_host(value: Any) -> bool:
    return isinstance(value, str) and (not value or packets.is_host_id(value))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


_WAY: Final[Mapping[str, Check]] = {"headers": _is_text, "peer": _is_text, "remote_name": _is_text}

_CONNECTED: Final[Mapping[str, Check]] = {
    "size_bytes": _or_none(_is_number),
    "etag": _or_none(_is_text),
    "last_modified": _or_none(_is_text),
    "media_type": _or_none(_is_text),
    "offset": _is_number,
    "note": _is_text,
    **_WAY,
}

FIELDS: Final[Mapping[str, Mapping[str, Check]]] = {
    "phase": {"text": _is_text},
    "certificate": {
        "number": _is_number,
        "server": _is_text,
        "certificate": _is_base64,
        "chain": _list_of(_is_base64),
    },
    "connected": _CONNECTED,
    "acknowledged": {
        "session": _or_none(_is_object),
        "acknowledged_bytes": _is_number,
        "note": _is_text,
        "headers": _is_text,
        "peer": _is_text,
    },
    "progressed": {"transferred_bytes": _is_number, "durable_bytes": _is_number},
    "filled": {"ranges": _list_of(_is_part), "transferred_bytes": _is_number},
    "restarted": {"reason": _is_text, "hresult": _is_hresult},
    "transferred": {"size_bytes": _is_number, "modified_at": _or_none(_is_seconds)},
    "failed": {
        "hresult": _is_hresult,
        "context": _is_context,
        "detail": _is_text,
        "retry_after_seconds": _or_none(_is_seconds),
        "is_transient": _is_flag,
        "is_fatal": _is_flag,
        "durable_bytes": _is_number,
        **_WAY,
    },
    "explained": {
        "choice": _list_of(_or_none(_is_text)),
        "why": _is_text,
        "notes": _list_of(_is_text),
        "asked": _or_none(_is_text),
        "answer": _is_text,
        "schemes": _list_of(_is_text),
        "problem": _or_none(_is_object),
    },
}
"""The events, and their fields besides `event` and `transfer`."""

_WITHIN: Final[Mapping[tuple[str, str], Mapping[str, Check]]] = {
    ("transferred", "connected"): _CONNECTED,
    ("acknowledged", "session"): {
        "session_id": _is_session_id,
        "host": _is_host,
        "fallback_seconds": _or_none(_is_number),
        "host_failed_at": _or_none(_is_seconds),
        "is_received": _is_flag,
        "reply_url": _is_text,
    },
    ("explained", "problem"): {"hresult": _is_hresult, "text": _is_text},
}
"""Fields that are objects and may be missing or null."""


def session_of(told: Message | None) -> UploadSession | None:
    """The session of an acknowledgement that was checked."""
    if told is None:
        return None
    return UploadSession(**{field: told[field] for field in _WITHIN["acknowledged", "session"]})


def check(message: Message) -> None:
    """Raises MalformedNewsError with event and field."""
    event = message.get("event")
    if not isinstance(event, str) or event not in FIELDS or not isinstance(message.get("transfer"), str):
        raise MalformedNewsError(f"no event {str(event)[:40]!a} of a transfer is known")
    _check_fields(event, message, FIELDS[event])
    for (name, field), fields in _WITHIN.items():
        if name == event and (told := message.get(field)) is not None:
            _check_fields(f"{event}.{field}", told, fields)


def _check_fields(where: str, told: Any, fields: Mapping[str, Check]) -> None:
    for name, is_right in fields.items():
        if not isinstance(told, dict) or name not in told or not is_right(told[name]):
            raise MalformedNewsError(f"{where} has no {name} of the form it should have")
