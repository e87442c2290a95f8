"""The part of the varlink interface that adds, reads and changes files of jobs (docs/api.md)."""

import contextlib
import math
from collections.abc import AsyncIterator

from asyncvarlink import varlinkmethod

from openbits.api.wire import DirectorySeen, FileInfo, FileToAdd, RangeInfo
from openbits.core import access, codes, events, file_requests, lifecycle, ranges
from openbits.core.access import Verb
from openbits.core.errors import BitsError
from openbits.core.names import check_url
from openbits.core.wording import label
from openbits.service import url_credentials
from openbits.service.answers import PAGE, answered, answered_stream, pages
from openbits.service.connections import Handle
from openbits.service.methods import Methods
from openbits.service.views import file_infos, range_infos, ranges_of


class FileMethods(Methods):
    """Files of jobs; `file_index` counts from 0 in the order they were added."""

    @varlinkmethod(return_parameter="files")
    @answered_stream
    async def ListFiles(self, *, handle: int) -> AsyncIterator[list[FileInfo]]:
        """The files of a job in the order they were added, page by page."""
        for page in pages(file_infos(self._handle(handle).record), _weight):
            yield page

    @varlinkmethod
    @answered
    async def AddFiles(
        self, *, handle: int, files: list[FileToAdd], directories: dict[str, DirectorySeen] | None = None
    ) -> None:
        """Add files, all or nothing; what the caller sees at the directories must be what the service sees."""
        opened = self._handle(handle)
        job = opened.record.job
        files, entrusted = url_credentials.taken_out(job, files, self._context.vault)
        if entrusted and not access.may(opened.opened_by, Verb.SET_CREDENTIALS, job.owner.uid, self._context.access):
            text = f"cannot add a URL with a user: only {label(job.owner)}, the owner, may entrust secrets to the job"
            raise BitsError(codes.E_ACCESSDENIED, f"{text}; leave the user out of it")
        await self._context.adding.add(opened.record, files, opened.by, directories or {}, entrusted)

    @varlinkmethod
    @answered
    async def SetRemoteName(self, *, handle: int, file_index: int, remote_name: str) -> None:
        """Another URL for one file; durable with the next Resume (jobs.md §7.11)."""
        await self._set_remote_names(self._handle(handle), ((file_index, remote_name),))

    @varlinkmethod(return_parameter="files_changed")
    @answered
    async def ReplaceRemotePrefix(self, *, handle: int, old_prefix: str, new_prefix: str) -> int:
        """Another beginning for all remote names that have the old one, all or none; how many that are."""
        record = self._handle(handle).record
        lifecycle.check_not_final(record.job, events.SetRemoteNames)
        names = file_requests.with_prefix(record.job, old_prefix, new_prefix)
        if names:
            await self._set_remote_names(self._handle(handle), names)
        return len(names)

    async def _set_remote_names(self, opened: Handle, names: file_requests.Renamed) -> None:
        kept = {}
        for index, name in names:
            with contextlib.suppress(BitsError):  # which the request will say
                kept[index] = check_url(name)
        found = await self._context.adding.places.find(opened.record, opened.by, kept)
        committed = self._engine.apply(opened.record, events.SetRemoteNames(names=names))
        for directory in found:
            self._engine.apply(opened.record, directory)
        await committed

    @varlinkmethod
    @answered
    async def SetValidationState(self, *, handle: int, file_index: int, is_valid: bool) -> None:
        """What the caller thinks of the content of a transferred file (jobs.md §8.8)."""
        verdict = events.ValidationAccepted(file_index=file_index)
        refusal = events.ValidationRefused(file_index=file_index, is_from_peer=False)
        await self._engine.apply(self._handle(handle).record, verdict if is_valid else refusal)

    @varlinkmethod
    @answered
    async def RequestFileRanges(self, *, handle: int, file_index: int, ranges: list[RangeInfo]) -> None:
        """Have these parts of the file fetched first; on demand nothing else is (jobs.md §8.9)."""
        request = events.RequestRanges(file_index=file_index, ranges=ranges_of(ranges))
        await self._engine.apply(self._handle(handle).record, request)

    @varlinkmethod
    @answered
    async def UpdateDownloadPosition(self, *, handle: int, file_index: int, offset: int) -> None:
        """Have what is missing from this byte on fetched first."""
        request = events.UpdateDownloadPosition(file_index=file_index, offset=offset)
        await self._engine.apply(self._handle(handle).record, request)

    @varlinkmethod(return_parameter="ranges")
    @answered
    async def GetFilledFileRanges(self, *, handle: int, file_index: int) -> list[RangeInfo]:
        """What is here of a file, merged and sorted."""
        job = self._handle(handle).record.job
        return range_infos(ranges.present(file_requests.check_random_access(job, file_index)))

    @varlinkmethod(return_parameter="headers")
    @answered
    async def GetResponseHeaders(self, *, handle: int, file_index: int) -> str:
        """Header block of the last response for a file, without the values of cookies; empty before the first one."""
        return file_requests.file_of(self._handle(handle).record.job, file_index).response_headers


def _weight(file: FileInfo) -> int:
    """As how many files one counts in a page: the ranges of one may be longer than all the rest."""
    return 1 + math.ceil(len(file["ranges"]) * PAGE / ranges.MOST)
