"""Structures with their documented members (jobs.md §1.3), and the pairs that several out-parameters become.

Sizes are bytes, BG_SIZE_UNKNOWN where nobody knows; instants are `datetime` in UTC, None for a zero FILETIME.
"""

import uuid
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from openbits.com.constants import (
    BG_AUTH_SCHEME,
    BG_AUTH_TARGET,
    BG_CERT_STORE_LOCATION,
    BG_ERROR_CONTEXT,
    BG_JOB_PROXY_USAGE,
    BG_SIZE_UNKNOWN,
)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class BG_FILE_RANGE:
    """A part of a remote file; Length BG_LENGTH_TO_EOF: up to its end."""

    InitialOffset: int
    Length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BG_JOB_REPLY_PROGRESS:
    """Progress of the reply; BytesTotal is BG_SIZE_UNKNOWN until its download starts (jobs.md §11.3)."""

    BytesTotal: int
    BytesTransferred: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BG_BASIC_CREDENTIALS:
    """A name and a password; both NULL: the implicit credentials of the identity. `repr` shows no password."""

    UserName: str | None
    Password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BG_AUTH_CREDENTIALS:
    """Credentials for a server or proxy and the scheme they are for."""

    Target: BG_AUTH_TARGET | int
    Scheme: BG_AUTH_SCHEME | int
    Credentials: BG_BASIC_CREDENTIALS


class _Union:
    """A structure of which exactly one member is set."""

    __slots__ = ()

    def __post_init__(self) -> None:
        names = [one.name for one in fields(self)]  # type: ignore[arg-type]  # what derives from it are dataclasses
        if sum(getattr(self, name) is not None for name in names) != 1:
            raise TypeError(f"{type(self).__name__} is a union: give exactly one of {', '.join(names)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BITS_JOB_PROPERTY_VALUE(_Union):
    """The value of a job property, in the member that jobs.md §13 names for it."""

    Dword: int | None = None
    ClsID: uuid.UUID | None = None
    Enable: bool | None = None
    Uint64: int | None = None
    Target: BG_AUTH_TARGET | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BITS_FILE_PROPERTY_VALUE(_Union):
    """The value of a file property."""

    String: str | None = None


class NotifyCmdLine(NamedTuple):
    """What GetNotifyCmdLine gives; two empty strings if none is set."""

    Program: str
    Parameters: str


class ReplyData(NamedTuple):
    """What GetReplyData gives; no reply: None and 0."""

    Buffer: bytes | None
    Length: int


class CreatedJob(NamedTuple):
    """What CreateJob gives."""

    JobId: uuid.UUID
    Job: "IBackgroundCopyJob"


class ErrorCode(NamedTuple):
    """What IBackgroundCopyError.GetError gives."""

    Context: BG_ERROR_CONTEXT
    Code: int


class FileRanges(NamedTuple):
    """What GetFileRanges and GetFilledFileRanges give; without any 0 and None."""

    RangeCount: int
    Ranges: list[BG_FILE_RANGE] | None


class PeerDownloadStats(NamedTuple):
    """What GetPeerDownloadStats gives, in bytes."""

    FromOrigin: int
    FromPeers: int


class ProxySettings(NamedTuple):
    """What GetProxySettings gives; the lists are None unless the usage is OVERRIDE."""

    ProxyUsage: BG_JOB_PROXY_USAGE
    ProxyList: str | None
    ProxyBypassList: str | None


class ClientCertificate(NamedTuple):
    """What GetClientCertificate gives; the hash, or the subject, is None if it was chosen by the other."""

    StoreLocation: BG_CERT_STORE_LOCATION
    StoreName: str
    CertHashBlob: bytes | None
    SubjectName: str | None


def size(known: int | None) -> int:
    """A size as the structures carry it."""
    return BG_SIZE_UNKNOWN if known is None else known


def filetime(seconds: float | None) -> datetime | None:
    """An instant as the structures carry it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
