"""The packets of the BITS upload protocol: names, headers and their values, for client and server alike.

Pure: text in, values out (upload-protocol.md §3). What a packet means in a state is known by `transfer.upload` and
`server.session`.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

METHOD: Final = "BITS_POST"

PROTOCOL: Final = "{7df0354d-249b-430f-820d-3d2a9bef4931}"
"""BITS 1.5 upload protocol, the only one there is."""

MAX_VALUE_BYTES: Final = 4096
"""H5: the longest header value."""

MAX_PROTOCOLS: Final = 100

MAX_SESSION_ID: Final = 100

MAX_HOST_ID: Final = 300

MAX_REPLY_URL: Final = 2200

MAX_CONTENT_NAME: Final = 260

MAX_NUMBER: Final = 2**63 - 1

NEVER_SECONDS: Final = 4_294_967_295
"""BITS-Host-Id-Fallback-Timeout: never fall back."""


class PacketType(enum.StrEnum):
    """BITS-Packet-Type, as it is sent; compared without regard to case."""

    CREATE_SESSION = "Create-Session"
    PING = "Ping"
    FRAGMENT = "Fragment"
    CLOSE_SESSION = "Close-Session"
    CANCEL_SESSION = "Cancel-Session"
    ACK = "Ack"


class Header(enum.StrEnum):
    """Fields of the protocol, as they are sent (§3.1)."""

    PACKET_TYPE = "BITS-Packet-Type"
    SUPPORTED_PROTOCOLS = "BITS-Supported-Protocols"
    PROTOCOL = "BITS-Protocol"
    SESSION_ID = "BITS-Session-Id"
    CONTENT_NAME = "Content-Name"
    CONTENT_RANGE = "Content-Range"
    RECEIVED = "BITS-Received-Content-Range"
    HOST_ID = "BITS-Host-Id"
    FALLBACK_TIMEOUT = "BITS-Host-Id-Fallback-Timeout"
    REPLY_URL = "BITS-Reply-URL"
    ERROR_CODE = "BITS-Error-Code"
    ERROR = "BITS-Error"
    ERROR_CONTEXT = "BITS-Error-Context"
    ORIGINAL_URL = "BITS-Original-Request-URL"
    REQUEST_FILE = "BITS-Request-DataFile-Name"
    RESPONSE_FILE = "BITS-Response-DataFile-Name"
    STATIC_RESPONSE_URL = "BITS-Static-Response-URL"
    COPY_TO_DESTINATION = "BITS-Copy-File-To-Destination"
    METHOD_OVERRIDE = "X-HTTP-Method-Override"
    SHA256 = "X-BITS-SHA256"
    USER = "X-BITS-User"


MISSPELLED_RECEIVED: Final = "BITS-Recieved-Content-Range"
"""What a few servers send for RECEIVED; clients accept both (§3.2)."""

REQUIRED: Final[Mapping[PacketType, tuple[Header, ...]]] = {
    PacketType.CREATE_SESSION: (Header.SUPPORTED_PROTOCOLS,),
    PacketType.PING: (),
    PacketType.FRAGMENT: (Header.SESSION_ID, Header.CONTENT_RANGE),
    PacketType.CLOSE_SESSION: (Header.SESSION_ID,),
    PacketType.CANCEL_SESSION: (Header.SESSION_ID,),
}
"""What a request must have besides its type and length (§3.1)."""


class Origin(enum.IntEnum):
    """BITS-Error-Context: who found the error."""

    SERVER = 0x5
    APPLICATION = 0x7


class PacketError(ValueError):
    """A header value that the protocol does not allow; the text names field and rule."""


@dataclass(frozen=True, slots=True)
class ContentRange:
    """Bytes `first` to `last`, inclusive, of a file of `total`; the only one of an empty file is 0 to -1 of 0."""

    first: int
    last: int
    total: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        """As it is sent; of an empty file D16."""
        return f"bytes {self.first}-{self.last}/{self.total}" if self.total else "bytes */0"


_RANGE = re.compile(r"bytes[ \t]+(\d{1,19})-(-?\d{1,19})/(\d{1,19})", re.IGNORECASE | re.ASCII)
_EMPTY = re.compile(r"bytes[ \t]+(?:\*|0--1|0-0)/0", re.IGNORECASE | re.ASCII)
_GUID = re.compile(r"\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?", re.IGNORECASE)
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_BAD_IN_NAME = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f]')
_CODE = re.compile(r"(?:0?x)?([0-9a-f]{1,8})", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?")


def packet_type(value: str) -> PacketType | None:
    """None: there is no such packet."""
    return next((one for one in PacketType if one.lower() == value.strip().lower()), None)


def content_range(value: str) -> ContentRange:
    """F1: the range of a fragment, not compared with its length. Raises PacketError."""
    if _EMPTY.fullmatch(value.strip()):
        return ContentRange(0, -1, 0)
    match = _RANGE.fullmatch(value.strip())
    if match is None:
        raise PacketError(f"{Header.CONTENT_RANGE} must be bytes FIRST-LAST/TOTAL")
    first, last, total = map(int, match.groups())
    if max(first, last, total) > MAX_NUMBER:
        raise PacketError(f"{Header.CONTENT_RANGE} has a number above 2^63-1")
    if not first <= last < total:
        raise PacketError(f"{Header.CONTENT_RANGE} {first}-{last}/{total} is no range of a file")
    return ContentRange(first, last, total)


def protocols(value: str) -> list[str]:
    """The protocols that a client offers, in lower case with braces, most preferred first. Raises PacketError."""
    words = value.replace(",", " ").split()
    if not words or len(words) > MAX_PROTOCOLS:
        raise PacketError(f"{Header.SUPPORTED_PROTOCOLS} must have 1 to {MAX_PROTOCOLS} entries")
    if not all(map(_GUID.fullmatch, words)):
        raise PacketError(f"{Header.SUPPORTED_PROTOCOLS} has an entry that is no GUID")
    return [_canonical(word) for word in words]


def is_protocol(value: str) -> bool:
    """True of our protocol, however it is written."""
    return _canonical(value.strip()) == PROTOCOL


def _canonical(guid: str) -> str:
    return "{" + guid.strip("{}").lower() + "}"


def number(name: str, value: str) -> int:
    """A decimal number of bytes or seconds. Raises PacketError."""
    text = value.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > MAX_NUMBER:
        raise PacketError(f"{name} is no number of 0 to 2^63-1")
    return int(text)


def error_code(value: str) -> int:
    """An HRESULT as the servers in the field write it; 0: none. Raises PacketError."""
    match = _CODE.fullmatch(value.strip())
    if match is None:
        raise PacketError(f"{Header.ERROR_CODE} is no HRESULT")
    return int(match[1], 16)


def error_context(value: str) -> Origin:
    """Whoever it is, the server if it is not the application."""
    text = value.strip().lower().removeprefix("0x").lstrip("0")
    return Origin.APPLICATION if text == "7" else Origin.SERVER


def is_session_id(value: str) -> bool:
    """Anything visible of ASCII that is not too long; servers of ours give GUIDs."""
    return len(value) <= MAX_SESSION_ID and _VISIBLE.fullmatch(value) is not None


def is_content_name(value: str) -> bool:
    """A file name without a directory."""
    return 0 < len(value) <= MAX_CONTENT_NAME and not _BAD_IN_NAME.search(value)


def is_host_id(value: str) -> bool:
    """A host, with a port or without one (D5), and nothing else."""
    return len(value) <= MAX_HOST_ID and _HOST.fullmatch(value) is not None
