"""The part of the varlink interface about the reply of an upload-reply job (docs/api.md)."""

from asyncvarlink import FileDescriptor, varlinkmethod

from openbits.api.wire import DirectorySeen
from openbits.service import replies
from openbits.service.answers import answered
from openbits.service.methods import Methods


class ReplyMethods(Methods):
    """Where a reply goes, and what is in it; its progress is in JobInfo."""

    @varlinkmethod
    @answered
    async def SetReplyFileName(
        self, *, handle: int, local_name: str | None = None, directories: dict[str, DirectorySeen] | None = None
    ) -> None:
        """Choose the file; without a name it goes beside the upload file."""
        opened = self._handle(handle)
        await self._context.adding.set_reply_file(opened.record, local_name, opened.by, directories or {})

    @varlinkmethod(return_parameter="data")
    @answered
    async def GetReplyData(self, *, handle: int) -> FileDescriptor | None:
        """A sealed memory file with the reply; none if there is no reply."""
        opened = self._handle(handle)
        descriptor = await replies.read(opened.record, opened.by, self._context.children)
        return None if descriptor is None else FileDescriptor(descriptor, should_close=True)
