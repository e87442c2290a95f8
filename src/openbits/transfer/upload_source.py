"""The local file of an upload: a descriptor that the worker was handed, read piece by piece.

Its version is its size and modification time (jobs.md §9.3). A file that changes while it is sent would arrive as a mix
of two: that is an error, which is looked for before each fragment and after the last one.
"""

import os
from typing import Final

from openbits.core import codes
from openbits.core.enums import ErrorContext
from openbits.core.model import Validators
from openbits.transfer.decisions import Fail
from openbits.transfer.filecopy import version_of, words_of

_NANOSECONDS: Final = 1_000_000_000


class Source:
    """The file; the descriptor is closed with it. `known`: the version that the job has begun with, if it has begun."""

    def __init__(self, descriptor: int, known: Validators) -> None:
        self._descriptor = descriptor
        self._is_closed = False
        self.version = known
        self.modified_at = 0.0

    def look(self) -> Fail | None:
        """Why the upload cannot go on, if it cannot; the first look tells which version it is."""
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            return self._failure(codes.from_errno(error.errno or 0), f"looking at the file: {error.strerror}")
        seen, known = version_of(status), self.version
        if known.size_bytes is None:
            self.version = known = seen
        if (seen.size_bytes, seen.last_modified) != (known.size_bytes, known.last_modified):
            return self._failure(codes.BG_E_LOCAL_FILE_CHANGED, f"it changed ({words_of(known)} -> {words_of(seen)})")
        self.modified_at = status.st_mtime_ns / _NANOSECONDS
        return None

    @property
    def size_bytes(self) -> int:
        """Of the version that is sent."""
        return self.version.size_bytes or 0

    def read(self, offset: int, size: int) -> bytes:
        """See Body."""
        return os.pread(self._descriptor, size, offset)

    def unread(self, hresult: int, words: str) -> Fail:
        """It could not be read, in these words; what is missing at its end has changed."""
        return self.look() or self._failure(hresult, words)

    def close(self) -> None:
        """Nothing is read any more."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self._descriptor)

    @staticmethod
    def _failure(hresult: int, words: str) -> Fail:
        return Fail(hresult=hresult, context=ErrorContext.LOCAL_FILE, detail=words)
