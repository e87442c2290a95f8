"""The part of the varlink interface that adds, reads and changes files of jobs (docs/api.md)."""

from collections.abc import AsyncIterator

from asyncvarlink import varlinkmethod

from openbits.api.wire import DirectorySeen, FileInfo, FileToAdd
from openbits.service.answers import answered, answered_stream, pages
from openbits.service.methods import Methods
from openbits.service.views import file_infos


class FileMethods(Methods):
    """Files of jobs."""

    @varlinkmethod(return_parameter="files")
    @answered_stream
    async def ListFiles(self, *, handle: int) -> AsyncIterator[list[FileInfo]]:
        """The files of a job in the order they were added, page by page."""
        for page in pages(file_infos(self._handle(handle).record)):
            yield page

    @varlinkmethod
    @answered
    async def AddFiles(
        self, *, handle: int, files: list[FileToAdd], directories: dict[str, DirectorySeen] | None = None
    ) -> None:
        """Add files, all or nothing; what the caller sees at the directories must be what the service sees."""
        opened = self._handle(handle)
        await self._context.adding.add(opened.record, files, opened.by, directories or {})
