"""The part of AsyncJob about what a job does with its files beside adding them whole."""

import os
from collections.abc import Iterable

from openbits.api import calls
from openbits.api.calls import Part
from openbits.api.framing import Parameters


class AsyncJobFiles:
    """Methods of AsyncJob; parameters and errors as of `JobFiles`."""

    async def _call(self, method: str, **parameters: object) -> Parameters:
        raise NotImplementedError

    async def add_file_with_ranges(self, url: str, path: str | os.PathLike[str], ranges: Iterable[Part]) -> None:
        """Add a file that is made of these parts of the remote one, in this order, without gaps."""
        await self._call("AddFiles", **calls.additions([(url, path)], ranges))

    async def set_remote_name(self, index: int, url: str) -> None:
        """Fetch the file from elsewhere; bytes that are here stay if size and time stamp are the same there."""
        await self._call("SetRemoteName", file_index=index, remote_name=url)

    async def replace_remote_prefix(self, old: str, new: str) -> int:
        """The same for all files whose URL begins with `old`, case counting, all or none; how many that are."""
        return int((await self._call("ReplaceRemotePrefix", old_prefix=old, new_prefix=new))["files_changed"])

    async def set_validation_state(self, index: int, is_valid: bool) -> None:  # noqa: FBT001  # the parameter of the interface
        """Say whether the content of a transferred file is right; if not, the job fails and `resume` repeats it."""
        await self._call("SetValidationState", file_index=index, is_valid=is_valid)

    async def request_ranges(self, index: int, ranges: Iterable[Part]) -> None:
        """Have these parts of a file fetched first; with `on_demand_mode` nothing else is."""
        await self._call("RequestFileRanges", file_index=index, ranges=calls.range_infos(ranges))

    async def update_download_position(self, index: int, offset: int) -> None:
        """Have what is missing of a file from this byte on fetched first. Raises BG_E_RANDOM_ACCESS_NOT_SUPPORTED."""
        await self._call("UpdateDownloadPosition", file_index=index, offset=offset)

    async def filled_ranges(self, index: int) -> list[Part]:
        """What is here of a file, merged and sorted. Raises BG_E_RANDOM_ACCESS_NOT_SUPPORTED."""
        return calls.parts((await self._call("GetFilledFileRanges", file_index=index))["ranges"])

    async def response_headers(self, index: int) -> str:
        """Header block of the last HTTP response for a file, values of cookies left out; empty before the first one."""
        return str((await self._call("GetResponseHeaders", file_index=index))["headers"])
