"""Files for download: GET and HEAD with single ranges and validators (H14), of the root and of replies.

Files below the root are opened by openat2, without symlinks; nothing but a regular file is sent, and no listing.
"""

import email.utils
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from openbits.identity.filecalls import choose_opener
from openbits.server.model import RefusedError

PIECE_BYTES: Final = 256 * 1024
"""What is read and sent at a time."""

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """A regular file, open for reading; whoever has it closes the descriptor."""

    descriptor: int
    size: int
    modified_at: float

    @property
    def etag(self) -> str:
        """Strong: published files are replaced, not changed, and the clock of files is finer than that."""
        return f'"{self.size:x}-{round(self.modified_at * 1e6):x}"'


class Root:
    """The served folder."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._opener = choose_opener()
        self._descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(self, path: PurePosixPath) -> OpenFile:
        """Open a file for reading. Raises RefusedError: there is none that may be read.

        Nothing else is opened, not even for a moment: whoever waits at the other end of a pipe would go on.
        """
        try:
            found = self._opener(os.fsencode(path), os.O_PATH, dir_fd=self._descriptor)
            try:
                status = os.fstat(found)
                if not stat.S_ISREG(status.st_mode):
                    raise RefusedError(404, None, "no regular file")
                descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                os.close(found)
        except PermissionError as error:
            raise RefusedError(403, None, f"the server may not read it: {error.strerror}") from None
        except OSError as error:
            raise RefusedError(404, None, f"no such file: {error.strerror}") from None
        return OpenFile(descriptor=descriptor, size=status.st_size, modified_at=status.st_mtime)

    def close(self) -> None:
        """Open nothing more."""
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a GET is answered: these bytes, from `first`; `length` is 0 without a body."""

    status: int
    fields: tuple[tuple[str, str], ...] = ()
    first: int = 0
    length: int = 0


def answer(request: Mapping[str, str], file: OpenFile, *, now: float) -> Answer:
    """RFC 9110 for one representation; `request`: fields by lower-case name."""
    modified = email.utils.formatdate(min(file.modified_at, now), usegmt=True)
    fields = (("etag", file.etag), ("last-modified", modified), ("accept-ranges", "bytes"))
    status = _precondition(request, file)
    if status:
        return Answer(status=status, fields=fields)
    span = _span(request, file, modified)
    if span is None:
        return Answer(status=200, fields=fields, length=file.size)
    first, last = span
    if first > last:
        return Answer(status=416, fields=(*fields, ("content-range", f"bytes */{file.size}")))
    content_range = ("content-range", f"bytes {first}-{last}/{file.size}")
    return Answer(status=206, fields=(*fields, content_range), first=first, length=last - first + 1)


def _precondition(request: Mapping[str, str], file: OpenFile) -> int:
    """412, 304, or 0: go on. A condition on the validator takes the place of the one on the date."""
    if "if-match" in request:
        if not _is_named(request["if-match"], file.etag):
            return 412
    elif _is_after(file, request.get("if-unmodified-since", "")) is True:
        return 412
    if "if-none-match" in request:
        return 304 if _is_named(request["if-none-match"].replace("W/", ""), file.etag) else 0
    return 304 if _is_after(file, request.get("if-modified-since", "")) is False else 0


def _is_named(tags: str, etag: str) -> bool:
    return etag in {tag.strip() for tag in tags.split(",")} or tags.strip() == "*"


def _is_after(file: OpenFile, date: str) -> bool | None:
    """The file is newer than the date, in whole seconds; None: that is no date."""
    try:
        return int(file.modified_at) > email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _span(request: Mapping[str, str], file: OpenFile, modified: str) -> tuple[int, int] | None:
    """First and last byte; last before first: the range has no byte of the file; None: the whole file.

    Several ranges, other units and nonsense are answered by the whole file, as RFC 9110 allows.
    """
    match = _RANGE.fullmatch(request.get("range", "").strip())
    if match is None or request.get("if-range", modified) not in {modified, file.etag}:
        return None
    first, last = match.groups()
    if first and (not last or int(first) <= int(last)):
        return int(first), min(int(last) if last else file.size, file.size - 1)
    if last and not first:
        return max(file.size - int(last), 0), file.size - 1 if int(last) else -1
    return None
