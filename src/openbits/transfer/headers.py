"""The head of an HTTP response: collected under caps, checked, then read by name.

Values in, values out. libcurl splits the bytes into lines; whether the lines make an acceptable head is decided here
(reliability.md §2 "unbounded headers", §5 rows 4-6, 50-55). libcurl has unfolded continuation lines before.
"""

import functools
import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_HEAD_BYTES = 64 * 1024
"""All lines of one exchange together: interim responses, final head, trailers."""

MAX_FIELDS = 100

MAX_INTERIM = 16

MAX_BLOCK_CHARACTERS = 16 * 1024
"""Of a head that is told and stored (HTTP_RESPONSE_HEADERS): a message between processes has room for it."""

MAX_DATE = 64
"""Characters of a date: twice as many as the longest form of HTTP has."""

MAX_LENGTH = 2**63 - 1

RETRY_AFTER_SECONDS = (1.0, 86_400.0)
"""Retry-After is clamped to this span (reliability.md §5 row 55)."""

_SECRETS = frozenset({"set-cookie", "set-cookie2", "authentication-info", "proxy-authentication-info"})
_UNTOLD = "(not stored)"

_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-5][0-9][0-9])(?: .*)?")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~]*)")
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)", re.IGNORECASE)
_ETAG = re.compile(r'(?:W/)?"[!#-~]*"')


class BadResponseError(ValueError):
    """The response breaks HTTP or one of our caps; the text says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A final response head: status, the status line as sent, fields with lower-case names in order."""

    status: int
    status_line: str
    fields: tuple[tuple[str, str], ...] = ()
    block: str = ""
    """All of it as sent, for people: lines that end in CR LF, the last one empty; see `_block`."""

    def values(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for field, value in self.fields if field == name]

    def value(self, name: str) -> str | None:
        """The value of a field that may appear once; repeated alike is fine. Raises BadResponseError."""
        values = set(self.values(name))
        if len(values) > 1:
            raise BadResponseError(f"{len(values)} different {name} fields")
        return values.pop() if values else None


@dataclass(frozen=True, slots=True)
class ContentRange:
    """`Content-Range: bytes first-last/total`; `first` and `last` are None for `*`, as `total` is."""

    first: int | None
    last: int | None
    total: int | None


class HeadCollector:
    """Takes the header lines of one exchange as libcurl delivers them."""

    def __init__(self) -> None:
        self._bytes = 0
        self._interim = 0
        self._status_line = ""
        self._fields: list[tuple[str, str]] = []
        self._lines: list[str] = []
        self._is_complete = False
        self.has_continued = False
        """The server has said that it wants the body of the request."""

    def feed(self, line: bytes) -> Head | None:
        """The final head once its last line came, else None. Trailers are counted and ignored.

        Raises BadResponseError on a broken line and when a cap is exceeded.
        """
        self._bytes += len(line)
        if self._bytes > MAX_HEAD_BYTES:
            raise BadResponseError(f"more than {MAX_HEAD_BYTES // 1024} KiB of header")
        if self._is_complete:
            return None
        text = line.rstrip(b"\r\n").decode("ascii", "replace")
        if not self._status_line:
            self._status_line = text
            return None
        if text:
            self._add_field(text)
            return None
        return self._finish()

    def _add_field(self, text: str) -> None:
        if len(self._fields) >= MAX_FIELDS:
            raise BadResponseError(f"more than {MAX_FIELDS} header fields")
        name, value = field_of(text)
        self._fields.append((name.lower(), value))
        self._lines.append(f"{name}: {_UNTOLD if name.lower() in _SECRETS else value}")

    def _finish(self) -> Head | None:
        match = _STATUS_LINE.fullmatch(self._status_line)
        if match is None:
            raise BadResponseError(f"malformed status line {printable(self._status_line, 60)!r}")
        status = int(match[1])
        line = printable(self._status_line, 120)
        head = Head(status=status, status_line=line, fields=tuple(self._fields), block=_block(line, self._lines))
        self._status_line = ""
        self._fields = []
        self._lines = []
        if status < 200 and status != 101:  # libcurl hands out 101 as final, and so do we
            self.has_continued |= status == 100
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise BadResponseError(f"more than {MAX_INTERIM} interim responses")
            return None
        self._is_complete = True
        return head


def field_of(line: str) -> tuple[str, str]:
    """Name and value of a header line, the name as sent. Raises BadResponseError."""
    match = _FIELD.fullmatch(line)
    if match is None:
        raise BadResponseError(f"malformed header field {printable(line, 40)!r}")
    return match[1], match[2].strip(" \t")


def _block(status_line: str, lines: list[str]) -> str:
    """Status line and fields as one text of at most MAX_BLOCK_CHARACTERS: what does not fit is left out, whole lines.

    The values of cookies are not in it: they are secrets of a session that nobody here goes on with; nor is what proves
    that a server knows the password (`rspauth` of Digest), by which it could be guessed. The block is stored in clear
    and shown to administrators (identity.md S7).
    """
    room = MAX_BLOCK_CHARACTERS - len(status_line) - 4
    kept = [status_line]
    for line in lines:
        room -= len(line) + 2
        if room < 0:
            break
        kept.append(line)
    return "\r\n".join([*kept, "", ""])


def check_framing(head: Head) -> None:
    """Refuse heads whose body length two readers could see differently (row 6). Raises BadResponseError."""
    codings = [coding.strip().lower() for value in head.values("transfer-encoding") for coding in value.split(",")]
    if codings and head.values("content-length"):
        raise BadResponseError("both Content-Length and Transfer-Encoding")
    if codings not in ([], ["chunked"]):
        raise BadResponseError(f"Transfer-Encoding {printable(', '.join(codings), 40)!r} was not asked for")


def content_length(head: Head) -> int | None:
    """The length of the body, None if the head does not say. A list of equal numbers is one number (row 4)."""
    numbers = {number.strip() for value in head.values("content-length") for number in value.split(",")}
    if not numbers:
        return None
    if len(numbers) > 1:
        raise BadResponseError("different Content-Length values")
    text = numbers.pop()
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > MAX_LENGTH:
        raise BadResponseError(f"Content-Length {printable(text, 40)!r}")
    return int(text)


def content_range(head: Head) -> ContentRange | None:
    """The Content-Range field, None if it is missing or makes no sense."""
    match = _CONTENT_RANGE.fullmatch(head.value("content-range") or "")
    if match is None:
        return None
    first, last, total = (None if text in {None, "*"} else int(text) for text in match.groups())
    if first is not None and last is not None and (last < first or (total is not None and last >= total)):
        return None
    return ContentRange(first, last, total)


def content_encoding(head: Head) -> str | None:
    """The coding of the body if it has one other than identity."""
    codings = [coding.strip() for value in head.values("content-encoding") for coding in value.split(",")]
    foreign = [coding for coding in codings if coding.lower() not in {"", "identity"}]
    return printable(", ".join(foreign), 40) or None


def media_type(head: Head) -> str | None:
    """The Content-Type without parameters, in lower case; None if missing or contradicting."""
    values = {value.partition(";")[0].strip().lower() for value in head.values("content-type")}
    return printable(values.pop(), 100) or None if len(values) == 1 else None


def etag(head: Head) -> str | None:
    """The entity tag, None if missing or malformed."""
    text = head.value("etag")
    return text if text is not None and len(text) <= 1024 and _ETAG.fullmatch(text) else None


def is_strong(tag: str | None) -> bool:
    """True of an entity tag that promises the same bytes."""
    return tag is not None and not tag.startswith("W/")


def last_modified(head: Head) -> str | None:
    """The Last-Modified field as sent, None if missing, no date, or one with a comment: it is told, stored and sent."""
    text = head.value("last-modified")
    return text if text is not None and len(text) <= MAX_DATE and instant(text) is not None else None


@functools.lru_cache(maxsize=64)  # files of one server have the same dates again and again
def instant(text: str) -> float | None:
    """Seconds since the epoch of an HTTP date in any of its three forms, None if it is none."""
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def retry_after(head: Head, wall: float) -> float | None:
    """Seconds the server asks us to wait, clamped; None if it does not ask or the field is garbage."""
    values = head.values("retry-after")
    if len(values) != 1:
        return None
    if re.fullmatch("[0-9]{1,18}", values[0]):
        seconds = float(values[0])
    else:
        moment = instant(values[0])
        if moment is None:
            return None
        seconds = moment - wall
    low, high = RETRY_AFTER_SECONDS
    return min(max(seconds, low), high)


def printable(text: str, limit: int) -> str:
    """What a peer said, safe to show: printable ASCII, at most `limit` characters."""
    clean = "".join(character if " " <= character <= "~" else "?" for character in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."
