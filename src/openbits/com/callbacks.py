"""Callback interfaces, which a program implements, and how news of a job becomes calls of them (jobs.md §12, §9.8).

Calls come on one thread of the library, one after the other; methods of the job may be called inside. JobTransferred
and JobError are repeated until they succeed, which means S_OK or no result at all: an exception or any other code has
them called again after the minimum retry delay of the job (N5). All FileTransferred of a job come before, and the next
only after the previous one succeeded (N1). JobModification and FileRangesTransferred are called once, whatever they
answer, at most once in each interval of MINIMUM_NOTIFICATION_INTERVAL_MS (N7).
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from openbits.api.notifications import CertificateCheck, ServerCertificate, job_of
from openbits.com.constants import BG_LENGTH_TO_EOF
from openbits.com.files import IBackgroundCopyError, IBackgroundCopyFile
from openbits.com.structures import BG_FILE_RANGE
from openbits.com.unknown import COMError, IUnknown
from openbits.core import codes

if TYPE_CHECKING:
    from openbits.com.job import IBackgroundCopyJob

_ONLY_S_OK, _EVERY_SUCCESS = range(1), range(0x80000000)
"""What counts as taken: for FileTransferred positive codes too (OPEN-52)."""

_X509_ASN_ENCODING = 1


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
    """With FileRangesTransferred."""

    def FileRangesTransferred(
        self, pJob: "IBackgroundCopyJob", pFile: IBackgroundCopyFile, rangeCount: int, ranges: list[BG_FILE_RANGE]
    ) -> int | None:
        """These parts of a file are here: those since the last call, merged; the result is ignored."""
        return codes.S_OK


class IBackgroundCopyServerCertificateValidationCallback(IUnknown, iid="4cec0d02-def7-4158-813a-c32a46945ff7"):
    """Derive from it and pass an object to SetServerCertificateValidationInterface."""

    def ValidateServerCertificate(  # noqa: PLR0917  # the documented signature
        self,
        pJob: "IBackgroundCopyJob",
        pFile: IBackgroundCopyFile,
        certLength: int,
        certData: bytes,
        certEncodingType: int,
        certStoreLength: int,
        certStoreData: bytes,
    ) -> int | None:
        """May the server of this file be talked to? Its certificate passed the usual checks; S_OK accepts it.

        `certData` is the certificate in DER (`certEncodingType` X509_ASN_ENCODING, 1); `certStoreData` those that lead
        from it to a trusted one, in DER one after the other, as `ssl.SSLContext.load_verify_locations` takes them.
        """
        return codes.S_OK


class Delivery:
    """Calls one callback object for one job; the handler that `Notifier` runs for its notices."""

    def __init__(self, job: "IBackgroundCopyJob", callback: IBackgroundCopyCallback) -> None:
        self.callback = callback
        self._job = job

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Hand over one notice; raises if the callback refused it."""
        callback, job = self.callback, self._job
        match event["notice"]:
            case "transferred":
                _taken(callback.JobTransferred, job, successes=_ONLY_S_OK)
            case "error":
                failure = job_of(event)["error"]
                if failure is not None:
                    _taken(callback.JobError, job, IBackgroundCopyError(job.job, failure), successes=_ONLY_S_OK)
            case "file-transferred" if isinstance(callback, IBackgroundCopyCallback2):
                _taken(callback.FileTransferred, job, IBackgroundCopyFile(job.job, event["file_index"]))
            case "modification":
                callback.JobModification(job, 0)
            case "ranges" if isinstance(callback, IBackgroundCopyCallback3):
                file = IBackgroundCopyFile(job.job, event["file_index"])
                ranges = [
                    BG_FILE_RANGE(
                        InitialOffset=one["offset"],
                        Length=BG_LENGTH_TO_EOF if one["length"] is None else one["length"],
                    )
                    for one in event["ranges"]
                ]
                callback.FileRangesTransferred(job, file, len(ranges), ranges)


def certificate_check(job: "IBackgroundCopyJob", callback: object) -> CertificateCheck:
    """What `Job.set_certificate_callback` takes, for this callback object. Raises E_NOINTERFACE if it is none."""
    if not isinstance(callback, IBackgroundCopyServerCertificateValidationCallback):
        name = type(callback).__name__
        raise COMError(
            codes.E_NOINTERFACE,
            f"{name} is no callback; derive it from IBackgroundCopyServerCertificateValidationCallback",
        )

    def check(asked: ServerCertificate) -> None:
        store = b"".join(asked.chain)
        file = IBackgroundCopyFile(job.job, asked.file_index)
        arguments = (job, file, len(asked.certificate), asked.certificate, _X509_ASN_ENCODING, len(store), store)
        _taken(callback.ValidateServerCertificate, *arguments, successes=_ONLY_S_OK)

    return check


def _taken(method: Callable[..., int | None], *arguments: object, successes: range = _EVERY_SUCCESS) -> None:
    """Call; a code that is no success as result is a failure, as an exception is."""
    result = method(*arguments)
    if isinstance(result, int) and codes.unsigned(result) not in successes:
        raise COMError(result, f"the callback answered {codes.label(result)}")
