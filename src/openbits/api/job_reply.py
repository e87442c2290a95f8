"""The part of Job about the reply of an upload-reply job (jobs.md §7.4); other types answer E_NOTIMPL."""

import os

from openbits.api import calls
from openbits.api.framing import Parameters
from openbits.api.wire import JobInfo


class JobReply:
    """Methods of Job."""

    def info(self) -> JobInfo:
        """Everything about the job at this moment."""
        raise NotImplementedError

    def _call(self, method: str, **parameters: object) -> Parameters:
        raise NotImplementedError

    def _exchange(self, method: str, **parameters: object) -> tuple[Parameters, list[int]]:
        raise NotImplementedError

    def set_reply_file_name(self, path: str | os.PathLike[str] | None) -> None:
        """Where the reply goes: an absolute path in an existing directory; None: beside the upload file.

        Raises BG_E_INVALID_STATE once the reply is coming, E_INVALIDARG, E_ACCESSDENIED, E_NOTIMPL.
        """
        self._call("SetReplyFileName", **calls.reply_file(path))

    def reply_file_name(self) -> str | None:
        """Path of the reply; None as long as neither its name nor the upload file is known."""
        return calls.reply_of(self.info())["local_name"]

    def reply_progress(self) -> tuple[int | None, int]:
        """Bytes in total and transferred; the total is None until the reply comes (jobs.md §11.3)."""
        reply = calls.reply_of(self.info())
        return reply["bytes_total"], reply["bytes_transferred"]

    def reply_data(self) -> bytes:
        """The reply itself, also after Complete while this object lives; empty if there is none.

        Raises BG_E_INVALID_STATE before the job is TRANSFERRED, BG_E_TOO_LARGE above 1 MiB, E_NOTIMPL.
        """
        return calls.bytes_of(*self._exchange("GetReplyData"))
