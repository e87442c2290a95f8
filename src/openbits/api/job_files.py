"""The part of Job about what a job does with its files beside adding them whole."""

import os
from collections.abc import Iterable

from openbits.api import calls
from openbits.api.calls import Part
from openbits.api.framing import Parameters


class JobFiles:
    """Methods of Job. `index` is the place of a file in `files`; a part of a file is a pair of offset and length."""

    def _call(self, method: str, **parameters: object) -> Parameters:
        raise NotImplementedError

    def add_file_with_ranges(self, url: str, path: str | os.PathLike[str], ranges: Iterable[Part]) -> None:
        """Add a file that is made of these parts of the remote one, in this order, without gaps.

        A length of None means up to the end. Raises BG_E_INVALID_RANGE, BG_E_OVERLAPPING_RANGES,
        BG_E_TOO_MANY_RANGES_IN_FILE, BG_E_UNSUPPORTED_JOB_CONFIGURATION, E_NOTIMPL for uploads.
        """
        self._call("AddFiles", **calls.additions([(url, path)], ranges))

    def set_remote_name(self, index: int, url: str) -> None:
        """Fetch the file from elsewhere; bytes that are here stay if size and time stamp are the same there.

        Suspend, set, resume: the name is kept over a restart of the service only after the next `resume`.
        """
        self._call("SetRemoteName", file_index=index, remote_name=url)

    def replace_remote_prefix(self, old: str, new: str) -> int:
        """The same for all files whose URL begins with `old`, case counting, all or none; how many that are."""
        return int(self._call("ReplaceRemotePrefix", old_prefix=old, new_prefix=new)["files_changed"])

    def set_validation_state(self, index: int, is_valid: bool) -> None:  # noqa: FBT001  # the parameter of the interface
        """Say whether the content of a transferred file is right; if it is not, the job fails and `resume` repeats it.

        Raises E_PENDING for a file that is not transferred yet.
        """
        self._call("SetValidationState", file_index=index, is_valid=is_valid)

    def request_ranges(self, index: int, ranges: Iterable[Part]) -> None:
        """Have these parts of a file fetched first; with `on_demand_mode` nothing else is.

        Raises BG_E_INVALID_RANGE, BG_E_RANDOM_ACCESS_NOT_SUPPORTED.
        """
        self._call("RequestFileRanges", file_index=index, ranges=calls.range_infos(ranges))

    def update_download_position(self, index: int, offset: int) -> None:
        """Have what is missing of a file from this byte on fetched first. Raises BG_E_RANDOM_ACCESS_NOT_SUPPORTED."""
        self._call("UpdateDownloadPosition", file_index=index, offset=offset)

    def filled_ranges(self, index: int) -> list[Part]:
        """What is here of a file, merged and sorted. Raises BG_E_RANDOM_ACCESS_NOT_SUPPORTED."""
        return calls.parts(self._call("GetFilledFileRanges", file_index=index)["ranges"])

    def response_headers(self, index: int) -> str:
        """Header block of the last HTTP response for a file, values of cookies left out; empty before the first one."""
        return str(self._call("GetResponseHeaders", file_index=index)["headers"])
