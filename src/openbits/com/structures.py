"""Structures with their documented members (jobs.md §1.3), and the pairs that several out-parameters become.

Sizes are bytes, BG_SIZE_UNKNOWN where nobody knows; instants are `datetime` in UTC, None for a zero FILETIME.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from openbits.com.constants import BG_ERROR_CONTEXT, BG_JOB_PROXY_USAGE, BG_SIZE_UNKNOWN

if TYPE_CHECKING:
    from openbits.com.job import IBackgroundCopyJob


@dataclass(frozen=True, slots=True, kw_only=True)
class BG_FILE_INFO:
    """One pair for AddFileSet: remote name first."""

    RemoteName: str
    LocalName: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BG_FILE_PROGRESS:
    """Progress of one file; Completed says that the user can see it."""

    BytesTotal: int
    BytesTransferred: int
    Completed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BG_JOB_PROGRESS:
    """Progress of a job."""

    BytesTotal: int
    BytesTransferred: int
    FilesTotal: int
    FilesTransferred: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BG_JOB_TIMES:
    """Times of a job."""

    CreationTime: datetime | None
    ModificationTime: datetime | None
    TransferCompletionTime: datetime | None


class CreatedJob(NamedTuple):
    """What CreateJob gives."""

    JobId: uuid.UUID
    Job: "IBackgroundCopyJob"


class ErrorCode(NamedTuple):
    """What IBackgroundCopyError.GetError gives."""

    Context: BG_ERROR_CONTEXT
    Code: int


class ProxySettings(NamedTuple):
    """What GetProxySettings gives; the lists are None unless the usage is OVERRIDE."""

    ProxyUsage: BG_JOB_PROXY_USAGE
    ProxyList: str | None
    ProxyBypassList: str | None


def size(known: int | None) -> int:
    """A size as the structures carry it."""
    return BG_SIZE_UNKNOWN if known is None else known


def filetime(seconds: float | None) -> datetime | None:
    """An instant as the structures carry it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
