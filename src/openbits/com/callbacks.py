"""Callback interfaces, which a program implements, and how news of a job becomes calls of them (jobs.md §12).

Calls come on one thread of the library, one after the other; methods of the job may be called inside. JobTransferred
and JobError are repeated until they succeed, which means S_OK or no result at all: an exception or any other code has
them called again after the minimum retry delay of the job (N5). All FileTransferred of a job come before, and the next
only after the previous one succeeded (N1).
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from openbits.api.notifications import job_of
from openbits.com.files import IBackgroundCopyError, IBackgroundCopyFile
from openbits.com.unknown import COMError, IUnknown
from openbits.core import codes
from openbits.core.enums import NotifyFlags

if TYPE_CHECKING:
    from openbits.com.job import IBackgroundCopyJob

_MODIFICATIONS = frozenset({"files-added", "changed", "state", "progress", "file-transferred"})
_ONLY_S_OK, _EVERY_SUCCESS = range(1), range(0x80000000)
"""What counts as taken: for FileTransferred positive codes too (OPEN-52)."""
_TERMINAL_STATES = frozenset({"transferred", "error"})


class IBackgroundCopyCallback(IUnknown, iid="97ea99c7-0186-4ad4-8df9-c5b4e0ed6b22"):
    """Derive from it and pass an object to SetNotifyInterface. Methods that are not overridden succeed."""

    def JobTransferred(self, pJob: "IBackgroundCopyJob") -> int | None:
        """All files are transferred; call Complete to make them visible."""
        return codes.S_OK

    def JobError(self, pJob: "IBackgroundCopyJob", pError: IBackgroundCopyError) -> int | None:
        """The job is in ERROR."""
        return codes.S_OK

    def JobModification(self, pJob: "IBackgroundCopyJob", dwReserved: int) -> int | None:
        """Something about the job changed; the result is ignored."""
        return codes.S_OK


class IBackgroundCopyCallback2(IBackgroundCopyCallback, iid="659cdeac-489e-11d9-a9cd-000d56965251"):
    """With FileTransferred."""

    def FileTransferred(self, pJob: "IBackgroundCopyJob", pFile: IBackgroundCopyFile) -> int | None:
        """One file of a download is transferred."""
        return codes.S_OK


class IBackgroundCopyCallback3(IBackgroundCopyCallback2, iid="98c97bd2-e32b-4ad8-a528-95fd8b16bd42"):
    """With FileRangesTransferred, which is called for jobs with random access only; this version has none."""


class Delivery:
    """Calls one callback object for one job; the handler that `Notifier` runs."""

    def __init__(self, job: "IBackgroundCopyJob", callback: IBackgroundCopyCallback) -> None:
        self.callback = callback
        self._job = job
        self._untaken_files: list[int] = []

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Hand over one event; raises if the callback refused it."""
        kind, info = event["kind"], event.get("job")
        if info is None:  # the job of another owner, taken from ours (N9)
            if kind == "notice":
                self._deliver_notice(event)
            return
        flags = NotifyFlags(info["properties"].get("notify_flags", 0))
        if NotifyFlags.DISABLE in flags:
            return
        if kind == "notice":
            self._deliver_files()
            self._deliver_notice(event)
            return
        is_told_of_files = isinstance(self.callback, IBackgroundCopyCallback2)
        if kind == "file-transferred" and NotifyFlags.FILE_TRANSFERRED in flags and is_told_of_files:
            self._untaken_files.append(event["file_index"])
            self._deliver_files()
        is_own_event = kind == "state" and info["state"] in _TERMINAL_STATES
        if kind in _MODIFICATIONS and NotifyFlags.JOB_MODIFICATION in flags and not is_own_event:
            self.callback.JobModification(self._job, 0)

    def _deliver_notice(self, event: Mapping[str, Any]) -> None:
        if event["notice"] == "transferred":
            _taken(self.callback.JobTransferred, self._job, successes=_ONLY_S_OK)
        elif (failure := job_of(event)["error"]) is not None:
            error = IBackgroundCopyError(self._job.job, failure)
            _taken(self.callback.JobError, self._job, error, successes=_ONLY_S_OK)

    def _deliver_files(self) -> None:
        """In order; what is refused is tried again with the next event, and keeps back the notice until then."""
        if not isinstance(self.callback, IBackgroundCopyCallback2):
            return
        while self._untaken_files:
            file = IBackgroundCopyFile(self._job.job, self._untaken_files[0])
            _taken(self.callback.FileTransferred, self._job, file)
            del self._untaken_files[0]


def _taken(method: Callable[..., int | None], *arguments: object, successes: range = _EVERY_SUCCESS) -> None:
    """Call; a code that is no success as result is a failure, as an exception is."""
    result = method(*arguments)
    if isinstance(result, int) and codes.unsigned(result) not in successes:
        raise COMError(result, f"the callback answered {codes.label(result)}")
