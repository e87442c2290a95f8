"""The part of AsyncJob about the reply of an upload-reply job; what each method does says `job_reply`."""

import os

from openbits.api import calls
from openbits.api.framing import Parameters
from openbits.api.wire import JobInfo


class AsyncJobReply:
    """Methods of AsyncJob."""

    async def info(self) -> JobInfo:
        """Everything about the job at this moment."""
        raise NotImplementedError

    async def _call(self, method: str, **parameters: object) -> Parameters:
        raise NotImplementedError

    async def _exchange(self, method: str, **parameters: object) -> tuple[Parameters, list[int]]:
        raise NotImplementedError

    async def set_reply_file_name(self, path: str | os.PathLike[str] | None) -> None:
        """Where the reply goes; None: beside the upload file."""
        await self._call("SetReplyFileName", **calls.reply_file(path))

    async def reply_file_name(self) -> str | None:
        """Path of the reply; None as long as neither its name nor the upload file is known."""
        return calls.reply_of(await self.info())["local_name"]

    async def reply_progress(self) -> tuple[int | None, int]:
        """Bytes in total and transferred; the total is None until the reply comes."""
        reply = calls.reply_of(await self.info())
        return reply["bytes_total"], reply["bytes_transferred"]

    async def reply_data(self) -> bytes:
        """The reply itself, also after Complete while this object lives; empty if there is none."""
        return calls.bytes_of(*await self._exchange("GetReplyData"))
