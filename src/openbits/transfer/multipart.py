"""The body of a 206 with several ranges: multipart/byteranges, taken apart as it arrives (RFC 9110 §14.6).

Values in, values out. How the bytes are cut into pieces makes no difference, what is kept is bounded, and each byte is
looked at once: the length of a part is known from its Content-Range, so that nothing is searched for in its content.
The limits are those of jobs.md §8.7 R7.
"""

import enum
import re
from collections.abc import Iterator
from typing import Final

from openbits.transfer.headers import BadResponseError, ContentRange, Head, content_range, field_of, printable

MAX_OTHER_BYTES: Final = 180
"""Of header fields besides Content-Range and Content-Type, in each part (R7)."""

MAX_LINE_BYTES: Final = 1024

MAX_LEADING_LINES: Final = 2
"""Empty lines between the header of the response and the first boundary (R7)."""

_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
"""What RFC 2046 allows."""


class _Place(enum.Enum):
    """Where in the body the next byte is."""

    LEADING = enum.auto()
    FIELDS = enum.auto()
    CONTENT = enum.auto()
    TRAILING = enum.auto()
    OVER = enum.auto()


def boundary_of(head: Head) -> str | None:
    """The boundary if the body is multipart/byteranges, else None. Raises BadResponseError without a usable one."""
    kind = head.value("content-type") or ""
    if kind.partition(";")[0].strip().lower() != "multipart/byteranges":
        return None
    for parameter in kind.split(";")[1:]:
        name, _, value = parameter.partition("=")
        value = value.strip()
        if value.startswith('"') and value.endswith('"'):
            value = value[1:-1]
        if name.strip().lower() == "boundary" and _BOUNDARY.fullmatch(value):
            return value
    raise BadResponseError(f"no usable boundary in Content-Type {printable(kind, 100)!r}")


class Multipart:
    """Takes the body piece by piece."""

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"--" + boundary.encode("ascii")
        self._place = _Place.LEADING
        self._line = bytearray()
        self._empty_lines = 0
        self._fields: list[tuple[str, str]] = []
        self._other_bytes = 0
        self._left = 0

    @property
    def is_over(self) -> bool:
        """True if the closing boundary came."""
        return self._place is _Place.OVER

    def feed(self, data: bytes) -> Iterator[ContentRange | bytes]:
        """The beginnings of parts and their content. Raises BadResponseError; then nothing that follows counts.

        A range that is told has first and last byte. What comes behind the closing boundary is ignored.
        """
        at = 0
        while at < len(data) and self._place is not _Place.OVER:
            if self._place is _Place.CONTENT:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._place = _Place.TRAILING
                yield piece
                continue
            end = data.find(b"\n", at, at + MAX_LINE_BYTES + 1)
            self._line += data[at : end + 1 or at + MAX_LINE_BYTES + 1]
            if len(self._line) > MAX_LINE_BYTES:
                raise BadResponseError(f"a line of more than {MAX_LINE_BYTES} bytes between two parts")
            if end < 0:
                return
            at = end + 1
            line = bytes(self._line).rstrip(b"\r\n")
            self._line.clear()
            if self._place is not _Place.FIELDS:
                self._between(line)
            elif (part := self._fields_line(line)) is not None:
                yield part

    def _between(self, line: bytes) -> None:
        """A line before a part: empty ones, then the boundary. Behind a part there is the rest of its last line."""
        if not line.strip(b" \t"):
            self._empty_lines += 1
            most = MAX_LEADING_LINES if self._place is _Place.LEADING else 1
            if self._empty_lines > most:
                raise BadResponseError(f"more than {most} empty lines before a boundary")
            return
        kind = line.rstrip(b" \t")
        if kind == self._delimiter + b"--" and self._place is _Place.TRAILING:
            self._place = _Place.OVER
        elif kind == self._delimiter:
            self._place = _Place.FIELDS
            self._fields = []
            self._other_bytes = self._empty_lines = 0
        else:
            shown = printable(line.decode("ascii", "replace"), 60)
            raise BadResponseError(f"{shown!r} where a boundary of multipart/byteranges is due")

    def _fields_line(self, line: bytes) -> ContentRange | None:
        """A line of the header of a part; the range when it is whole."""
        if line:
            name, value = field_of(line.decode("ascii", "replace"))
            name = name.lower()
            if name not in {"content-range", "content-type"}:
                self._other_bytes += len(line) + 2
                if self._other_bytes > MAX_OTHER_BYTES:
                    raise BadResponseError(f"more than {MAX_OTHER_BYTES} bytes of further header fields in a part")
            elif any(known == name for known, _ in self._fields):
                raise BadResponseError(f"two {name} fields in a part")
            self._fields.append((name, value))
            return None
        part = content_range(Head(status=206, status_line="", fields=tuple(self._fields)))
        if part is None or part.first is None or part.last is None:
            raise BadResponseError("a part without a usable Content-Range")
        self._place = _Place.CONTENT
        self._left = part.last + 1 - part.first
        return part
