"""IBackgroundCopyFile2 to 6 (jobs.md §7.11): what later versions of BITS added to a file."""

from collections.abc import Sequence

from openbits.com.constants import BG_LENGTH_TO_EOF, BITS_FILE_PROPERTY_ID
from openbits.com.files import IBackgroundCopyFile
from openbits.com.structures import BG_FILE_RANGE, BITS_FILE_PROPERTY_VALUE, FileRanges, PeerDownloadStats
from openbits.com.unknown import COMError, mandatory, structures
from openbits.core import codes

_U64 = range(2**64)


class IBackgroundCopyFile2(IBackgroundCopyFile, iid="83e81b93-0873-474d-8a8c-f2018b1a939c"):
    """Since 2.0: ranges, remote name."""

    def GetFileRanges(self) -> FileRanges:
        """The parts that the file is made of, as they were given; 0 and None for a whole file (S_FALSE)."""
        ranges = [_structure(info["offset"], info["length"]) for info in self._info()["ranges"]]
        return FileRanges(len(ranges), ranges or None)

    def SetRemoteName(self, Val: str) -> int:
        """Another URL; it outlives the service after the next Resume only. Raises E_INVALIDARG, E_NOTIMPL."""
        self._job.set_remote_name(self._index, mandatory(Val, "Val"))
        return codes.S_OK


class IBackgroundCopyFile3(IBackgroundCopyFile2, iid="659cdeaa-489e-11d9-a9cd-000d56965251"):
    """Since 3.0: temporary name, validation."""

    def GetTemporaryName(self) -> str:
        """The path under which the file is before Complete; empty while there is none."""
        return self._info()["temporary_name"] or ""

    def SetValidationState(self, state: bool) -> int:  # noqa: FBT001  # the parameter of the interface
        """Whether the content is right; FALSE fails the job, and Resume fetches the file anew. Raises E_PENDING."""
        self._job.set_validation_state(self._index, bool(mandatory(state, "state")))
        return codes.S_OK

    def GetValidationState(self) -> bool:
        """TRUE if it was set, or Complete was called; FALSE also means that nobody said anything."""
        return self._info()["is_valid"]

    def IsDownloadedFromPeer(self) -> bool:
        """FALSE: peer caching is not built."""
        self._info()
        return False


class IBackgroundCopyFile4(IBackgroundCopyFile3, iid="ef7e0655-7888-4960-b0e5-730846e03492"):
    """Since 4.0: peer statistics."""

    def GetPeerDownloadStats(self) -> PeerDownloadStats:
        """Bytes from the server, and from peers: none."""
        return PeerDownloadStats(self._info()["bytes_transferred"], 0)


class IBackgroundCopyFile5(IBackgroundCopyFile4, iid="85c1657f-dafc-40e8-8834-df18ea25717e"):
    """Since 5.0: file properties."""

    def SetProperty(self, PropertyId: int, PropertyValue: BITS_FILE_PROPERTY_VALUE) -> int:
        """There is none to set: BG_E_READ_ONLY_PROPERTY, or BG_E_UNKNOWN_PROPERTY_ID."""
        name = _property(PropertyId).name.removeprefix("BITS_FILE_PROPERTY_ID_")
        mandatory(PropertyValue, "PropertyValue")
        raise COMError(codes.BG_E_READ_ONLY_PROPERTY, f"{name} is what the server said; read it with GetProperty")

    def GetProperty(self, PropertyId: int) -> BITS_FILE_PROPERTY_VALUE:
        """HTTP_RESPONSE_HEADERS: of the last response, values of cookies left out; empty before the first (OPEN-27)."""
        _property(PropertyId)
        return BITS_FILE_PROPERTY_VALUE(String=self._job.response_headers(self._index))


class IBackgroundCopyFile6(IBackgroundCopyFile5, iid="cf6784f7-d677-49fd-9368-cb47aee9d1ad"):
    """Since 10.1: random access. Raises BG_E_RANDOM_ACCESS_NOT_SUPPORTED for what has to be fetched in order."""

    def UpdateDownloadPosition(self, offset: int) -> int:
        """What is missing from this byte on comes first."""
        self._job.update_download_position(self._index, _number(offset, "offset"))
        return codes.S_OK

    def RequestFileRanges(self, ranges: Sequence[BG_FILE_RANGE]) -> int:
        """These parts come first; on demand nothing else does. Raises BG_E_INVALID_RANGE."""
        given = structures(ranges, BG_FILE_RANGE, "ranges")
        parts = [(_number(one.InitialOffset, "InitialOffset"), _number(one.Length, "Length")) for one in given]
        self._job.request_ranges(self._index, parts)
        return codes.S_OK

    def GetFilledFileRanges(self) -> FileRanges:
        """What is here, merged and sorted."""
        ranges = [_structure(offset, length) for offset, length in self._job.filled_ranges(self._index)]
        return FileRanges(len(ranges), ranges or None)


def _structure(offset: int, length: int | None) -> BG_FILE_RANGE:
    return BG_FILE_RANGE(InitialOffset=offset, Length=BG_LENGTH_TO_EOF if length is None else length)


def _number(value: int | None, name: str) -> int:
    given = mandatory(value, name)
    if not isinstance(given, int) or given not in _U64:
        raise COMError(codes.E_INVALIDARG, f"{name} is {given!r}; give a whole number of 64 bits without sign")
    return given


def _property(property_id: int) -> BITS_FILE_PROPERTY_ID:
    try:
        return BITS_FILE_PROPERTY_ID(mandatory(property_id, "PropertyId"))
    except ValueError as error:
        known = ", ".join(f"{int(member)} ({member.name})" for member in BITS_FILE_PROPERTY_ID)
        raise COMError(
            codes.BG_E_UNKNOWN_PROPERTY_ID, f"{property_id} is no property of a file; there is {known}"
        ) from error
