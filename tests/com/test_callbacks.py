"""Callbacks: who is called for what, in which order, and what a failure leads to (jobs.md §12)."""

# ruff: noqa: N802, N803  # names of the interface

import threading
from collections.abc import Callable

import pytest
from tests.api.fakeservice import FakeService

from openbits import com

Eventually = Callable[..., object]


class Recorder(com.IBackgroundCopyCallback3):
    """Notes each call; fails as often as told."""

    def __init__(self, failures: list[object] | None = None) -> None:
        self.calls: list[str] = []
        self.failures = failures or []

    def JobTransferred(self, pJob: com.IBackgroundCopyJob) -> int | None:
        return self._called(f"transferred {pJob.GetDisplayName()}")

    def JobError(self, pJob: com.IBackgroundCopyJob, pError: com.IBackgroundCopyError) -> int | None:
        return self._called(f"error 0x{pError.GetError().Code:08X}")

    def JobModification(self, pJob: com.IBackgroundCopyJob, dwReserved: int) -> int | None:
        return self._called(f"modification {dwReserved}")

    def FileTransferred(self, pJob: com.IBackgroundCopyJob, pFile: com.IBackgroundCopyFile) -> int | None:
        return self._called(f"file {pFile.GetLocalName()}")

    def FileRangesTransferred(
        self,
        pJob: com.IBackgroundCopyJob,
        pFile: com.IBackgroundCopyFile,
        rangeCount: int,
        ranges: list[com.BG_FILE_RANGE],
    ) -> int | None:
        told = " ".join(f"{one.InitialOffset}+{one.Length}" for one in ranges)
        return self._called(f"{rangeCount} ranges of {pFile.GetLocalName()}: {told}")

    def _called(self, what: str) -> int | None:
        self.calls.append(what)
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, Exception):
            raise failure
        return failure if isinstance(failure, int) else None


ERROR = {"hresult": 0x80200056, "symbol": "BG_E_TOKEN_REQUIRED", "context": "local_file", "message": "no token"}


def test_job_transferred_is_called_on_another_thread_and_may_complete_the_job(
    job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    done = threading.Event()

    class Completer(com.IBackgroundCopyCallback):
        def JobTransferred(self, pJob: com.IBackgroundCopyJob) -> int:
            assert threading.current_thread() is not threading.main_thread()
            assert pJob.GetState() == com.BG_JOB_STATE_TRANSFERRED
            pJob.Complete()
            done.set()
            return com.S_OK

    callback = Completer()
    assert job.SetNotifyInterface(callback) == com.S_OK
    assert job.GetNotifyInterface() is callback
    service.change(job.GetId(), state="transferred")
    service.notice(job.GetId(), "transferred")
    assert done.wait(10)
    assert job.GetState() == com.BG_JOB_STATE_ACKNOWLEDGED
    eventually(lambda: job.GetNotifyInterface() is None)  # the library lets go of it when the job is final


def test_job_error_brings_the_error_object(
    job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    callback = Recorder()
    job.SetNotifyInterface(callback)
    service.change(job.GetId(), state="error", error={**ERROR, "file_index": None, "protocol": None})
    service.notice(job.GetId(), "error")
    eventually(lambda: service.acknowledged)
    assert callback.calls == ["error 0x80200056"]
    assert service.acknowledged[0][1] == 0


@pytest.mark.parametrize(
    ("failure", "hresult"),
    [
        (com.COMError(0x80070005, "no"), 0x80070005),
        (RuntimeError("bug"), 0x80004005),
        (0x80004005, 0x80004005),
        (-2147467259, 0x80004005),
        (com.S_FALSE, 0x80004005),  # a success for FileTransferred only (OPEN-52)
        (2**40, 0x80004005),
    ],
)
def test_an_exception_or_a_failure_code_has_bits_call_again(
    failure: object, hresult: int, job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    callback = Recorder([failure])
    job.SetNotifyInterface(callback)
    service.notice(job.GetId(), "transferred")
    eventually(lambda: len(service.acknowledged) == 1)
    service.notice(job.GetId(), "transferred")
    eventually(lambda: len(service.acknowledged) == 2)
    assert callback.calls == ["transferred nightly"] * 2
    assert [code for _, code in service.acknowledged] == [hresult, 0]


def test_each_notice_has_its_method_and_only_those_with_a_number_are_answered(
    job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    callback = Recorder()
    job.AddFile("https://h/a", "/srv/a")
    job.AddFile("https://h/b", "/srv/b")
    job.SetNotifyInterface(callback)
    service.tell(job.GetId(), "modification")
    ranges = [{"offset": 0, "length": 5}, {"offset": 7, "length": None}]
    service.tell(job.GetId(), "ranges", file_index=1, ranges=ranges)
    service.tell(job.GetId(), "file-transferred", notice_seq=1, file_index=1)
    service.notice(job.GetId(), "transferred", seq=2)
    eventually(lambda: len(service.acknowledged) == 2)
    assert callback.calls == [
        "modification 0",
        "2 ranges of /srv/b: 0+5 7+18446744073709551615",
        "file /srv/b",
        "transferred nightly",
    ]


@pytest.mark.parametrize("failure", [com.E_FAIL, com.COMError(com.E_FAIL, "no"), RuntimeError("bug")])
@pytest.mark.parametrize("notice", ["modification", "ranges"])
def test_what_is_told_without_a_number_is_not_told_again(
    notice: str, failure: object, job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    """N7: the result is ignored."""
    callback = Recorder([failure])
    job.AddFile("https://h/a", "/srv/a")
    job.SetNotifyInterface(callback)
    service.tell(job.GetId(), notice, file_index=0, ranges=[])
    service.notice(job.GetId(), "transferred")
    eventually(lambda: service.acknowledged)
    assert (len(callback.calls), service.acknowledged[0][1]) == (2, 0)


@pytest.mark.parametrize(
    ("failure", "hresult"),
    [
        (None, 0),
        (com.S_OK, 0),
        (com.S_FALSE, 0),
        (com.E_FAIL, com.E_FAIL),
        (com.COMError(com.E_FAIL, "no"), com.E_FAIL),
    ],
)
def test_a_file_is_taken_with_every_code_that_is_no_failure(
    failure: object, hresult: int, job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    """OPEN-52."""
    job.AddFile("https://h/a", "/srv/a")
    job.SetNotifyInterface(Recorder([failure]))
    service.tell(job.GetId(), "file-transferred", notice_seq=1, file_index=0)
    eventually(lambda: service.acknowledged)
    assert service.acknowledged == [(str(job.GetId()), hresult)]


@pytest.mark.parametrize("interface", [com.IBackgroundCopyCallback, com.IBackgroundCopyCallback2])
def test_a_callback_of_an_earlier_version_succeeds_with_what_it_does_not_know(
    interface: type[com.IBackgroundCopyCallback],
    job: com.IBackgroundCopyJob,
    service: FakeService,
    eventually: Eventually,
) -> None:
    job.AddFile("https://h/a", "/srv/a")
    job.SetNotifyInterface(interface())
    service.tell(job.GetId(), "ranges", file_index=0, ranges=[])
    service.tell(job.GetId(), "file-transferred", notice_seq=1, file_index=0)
    eventually(lambda: service.acknowledged)
    assert service.acknowledged[0][1] == 0


@pytest.mark.parametrize(
    ("notice", "calls", "answer"), [("transferred", ["transferred nightly"], 0), ("error", [], 0x80070005)]
)
def test_a_job_that_another_owner_took_is_told_without_what_is_in_it(
    notice: str,
    calls: list[str],
    answer: int,
    job: com.IBackgroundCopyJob,
    service: FakeService,
    eventually: Eventually,
) -> None:
    """N9: the callback stays. An error object would show the job, so who registers next hears of the error."""
    callback = Recorder()
    job.SetNotifyInterface(callback)
    job_id = str(job.GetId())
    service.emit({"kind": "notice", "job_id": job_id, "notice": notice, "notice_seq": 1}, only=service.targets[job_id])
    eventually(lambda: service.acknowledged)
    assert (callback.calls, service.acknowledged) == (calls, [(job_id, answer)])


def test_null_removes_the_callback(job: com.IBackgroundCopyJob, service: FakeService) -> None:
    job.SetNotifyInterface(Recorder())
    assert job.SetNotifyInterface(None) == com.S_OK
    assert job.GetNotifyInterface() is None
    assert service.targets == {}


def test_methods_that_are_not_overridden_succeed(
    job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    job.SetNotifyInterface(com.IBackgroundCopyCallback3())
    service.notice(job.GetId(), "transferred")
    eventually(lambda: service.acknowledged)
    assert service.acknowledged[0][1] == 0


class Checker(com.IBackgroundCopyServerCertificateValidationCallback):
    """Answers as told, and notes what it was asked."""

    def __init__(self, answer: int | None) -> None:
        self.answer = answer
        self.asked: tuple[object, ...] = ()

    def ValidateServerCertificate(
        self,
        pJob: com.IBackgroundCopyJob,
        pFile: com.IBackgroundCopyFile,
        certLength: int,
        certData: bytes,
        certEncodingType: int,
        certStoreLength: int,
        certStoreData: bytes,
    ) -> int | None:
        name = pFile.GetLocalName()
        self.asked = (name, certLength, certData, certEncodingType, certStoreLength, certStoreData)
        return self.answer


@pytest.mark.parametrize(
    ("answer", "hresult"),
    [(None, 0), (com.S_OK, 0), (com.S_FALSE, com.E_FAIL), (com.E_ACCESSDENIED, com.E_ACCESSDENIED)],
)
def test_a_certificate_callback_is_asked_with_the_documented_arguments(
    answer: int | None, hresult: int, job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    """V2: S_OK accepts, nothing else does."""
    checker = Checker(answer)
    job.AddFile("https://h/a", "/srv/a")
    options = job.QueryInterface(com.IBackgroundCopyJobHttpOptions3)
    assert options.SetServerCertificateValidationInterface(checker) == com.S_OK
    service.ask(job.GetId(), 1, "h:443", b"\x30leaf", [b"\x30middle", b"\x30root"])
    eventually(lambda: service.certificate_answers)
    assert service.certificate_answers == [(1, hresult)]
    assert checker.asked == ("/srv/a", 5, b"\x30leaf", 1, 12, b"\x30middle\x30root")


def test_something_else_is_no_certificate_callback_and_null_takes_it_back(
    job: com.IBackgroundCopyJob, service: FakeService
) -> None:
    options = job.QueryInterface(com.IBackgroundCopyJobHttpOptions3)
    with pytest.raises(com.COMError) as caught:
        options.SetServerCertificateValidationInterface(com.IBackgroundCopyCallback())  # type: ignore[arg-type]
    assert caught.value.hresult == com.E_NOINTERFACE
    options.SetServerCertificateValidationInterface(Checker(com.S_OK))
    assert list(service.certificate_targets) == [str(job.GetId())]
    assert options.SetServerCertificateValidationInterface(None) == com.S_OK
    assert service.certificate_targets == {}
