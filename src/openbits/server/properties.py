"""The properties of a virtual directory: the name of each in the file, the field it becomes, and what it may be (§11).

One table; settings, messages and documentation read it. Names that begin with BITS are those of the IIS extension and
mean what they mean there. Pure.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

from openbits.core import packets
from openbits.server.model import CleanupUnits, Commit, Directory, Notification

MAX_SECONDS: Final = 2**32 - 1
MAX_URL: Final = 2200
MIN_FRAGMENT_BYTES: Final = 5 * 1024
"""No client makes fragments smaller than that (§7.4): below it a 413 would be the end."""
CLEANUP_LIMITS: Final = {CleanupUnits.MINUTES: 60, CleanupUnits.HOURS: 24, CleanupUnits.DAYS: 360}
"""The largest BITSCleanupCount of each unit."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be, in words, and how it is read; `read` raises ValueError for everything else."""

    words: str
    read: Callable[[object], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """A property: `field` is that of `model.Directory`."""

    name: str
    field: str
    kind: Kind
    is_inherited: bool = True


def _flag(value: object) -> bool:
    if isinstance(value, int) and value in {0, 1}:
        return bool(value)
    raise ValueError


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError


def _size(value: object) -> int:
    """BITSMaximumUploadSize is a text in IIS; a number is as good, and the empty text is no limit."""
    if value == "":
        return packets.MAX_NUMBER
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return _whole(int(value), 1, packets.MAX_NUMBER)
    return _whole(value, 1, packets.MAX_NUMBER)


def _mode(value: object) -> int:
    """Permissions as a text of octal digits; nothing that is uploaded may be run (§13)."""
    bits = int(_text(value), 8)
    if bits & ~0o666:
        raise ValueError
    return bits


def _names(value: object) -> frozenset[str]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return frozenset(value)
    raise ValueError


def _host(value: object) -> str:
    if value == "" or (isinstance(value, str) and packets.is_host_id(value)):
        return value
    raise ValueError


def _path(value: object) -> str:
    if value == "" or _text(value).startswith("/"):
        return _text(value)
    raise ValueError


def _url(value: object) -> str:
    if len(_text(value)) <= MAX_URL:
        return _text(value)
    raise ValueError


def _whole(value: object, low: int, high: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise ValueError


def number(low: int, high: int) -> Kind:
    """A whole number of a range."""
    return Kind(f"a whole number from {low} to {high}", lambda value: _whole(value, low, high))


def choice(members: type[enum.Enum]) -> Kind:
    """One of the values of an enumeration."""
    known = {member.value: member for member in members}

    def read(value: object) -> enum.Enum:
        if isinstance(value, bool) or not isinstance(value, (int, str)) or value not in known:
            raise ValueError
        return known[value]

    return Kind(f"one of {', '.join(map(str, known))}", read)


FLAG: Final = Kind("true or false (or 1 or 0)", _flag)
TEXT: Final = Kind("a text", _text)
NAMES: Final = Kind("a list of texts", _names)
_SIZE: Final = Kind('a number of bytes above 0, as a number or a text; "" is no limit', _size)
_MODE: Final = Kind('permissions without execution as a text of octal digits, such as "0640"', _mode)
_HOST: Final = Kind(f"a host or an address, perhaps with a port, of at most {packets.MAX_HOST_ID} characters", _host)
_PATH: Final = Kind("an absolute path", _path)
_URL: Final = Kind(f"a text of at most {MAX_URL} characters", _url)

PROPERTIES: Final = (
    Property(name="BITSUploadEnabled", field="upload_enabled", kind=FLAG, is_inherited=False),
    Property(name="BITSSessionTimeout", field="session_timeout_seconds", kind=number(1, MAX_SECONDS)),
    Property(name="BITSMaximumUploadSize", field="maximum_upload_bytes", kind=_SIZE),
    Property(name="BITSServerNotificationType", field="notification", kind=choice(Notification)),
    Property(name="BITSServerNotificationURL", field="notification_url", kind=_URL),
    Property(name="BITSHostId", field="host_id", kind=_HOST),
    Property(name="BITSHostIdFallbackTimeout", field="host_id_fallback_seconds", kind=number(0, MAX_SECONDS)),
    Property(name="BITSAllowOverwrites", field="allow_overwrites", kind=FLAG),
    Property(name="BITSCleanupUseDefault", field="cleanup_use_default", kind=FLAG),
    Property(name="BITSCleanupCount", field="cleanup_count", kind=number(1, 360)),
    Property(name="BITSCleanupUnits", field="cleanup_units", kind=choice(CleanupUnits)),
    Property(name="BITSSessionLimitEnable", field="session_limit_enable", kind=FLAG),
    Property(name="BITSNumberOfSessionsLimit", field="session_limit", kind=number(1, MAX_SECONDS)),
    Property(name="notification_secret_file", field="notification_secret_file", kind=_PATH),
    Property(name="notification_negotiate", field="is_negotiating", kind=FLAG),
    Property(name="notification_ca_file", field="notification_ca_file", kind=_PATH),
    Property(name="notification_timeout", field="notification_timeout_seconds", kind=number(1, 900)),
    Property(name="max_reply", field="maximum_reply_bytes", kind=number(1, packets.MAX_NUMBER)),
    Property(name="max_fragment", field="max_fragment_bytes", kind=number(MIN_FRAGMENT_BYTES, packets.MAX_NUMBER)),
    Property(name="max_connections", field="max_connections", kind=number(0, MAX_SECONDS)),
    Property(name="max_bandwidth", field="max_bandwidth_bytes_per_second", kind=number(0, packets.MAX_NUMBER)),
    Property(name="commit", field="commit", kind=choice(Commit)),
    Property(name="mode", field="mode", kind=_MODE),
    Property(name="method_override", field="method_override", kind=FLAG),
    Property(name="allow_users", field="allow_users", kind=NAMES),
    Property(name="allow_groups", field="allow_groups", kind=NAMES),
    Property(name="allow_anonymous", field="allow_anonymous", kind=FLAG),
    Property(name="allow_anonymous_reading", field="allow_anonymous_reading", kind=FLAG),
    Property(name="readable", field="is_readable", kind=FLAG),
    Property(name="checksum", field="checksum", kind=FLAG),
    Property(name="quota_bytes", field="quota_bytes", kind=number(0, packets.MAX_NUMBER)),
)

BY_NAME: Final[Mapping[str, Property]] = {one.name: one for one in PROPERTIES}


def default(one: Property) -> Any:
    """What a directory has that says nothing."""
    found = next(field for field in fields(Directory) if field.name == one.field)
    assert found.default is not MISSING, one  # noqa: S101 -- a mistake in the table above, not of a user
    return found.default


def broken_rule(directory: Directory) -> str:
    """What the properties of a directory contradict each other in, in words; empty if nothing."""
    largest = CLEANUP_LIMITS[directory.cleanup_units]
    if directory.cleanup_count > largest:
        return f"BITSCleanupCount must be at most {largest} with BITSCleanupUnits {directory.cleanup_units.value}"
    if directory.upload_enabled and directory.allow_anonymous and not directory.quota_bytes:
        return "uploads with allow_anonymous need a quota_bytes above 0"
    return ""
