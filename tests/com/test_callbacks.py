"""Callbacks: who is called for what, in which order, and what a failure leads to (jobs.md §12)."""

# ruff: noqa: N802, N803  # names of the interface

import threading
from collections.abc import Callable

import pytest
from tests.api.fakeservice import FakeService

from openbits import com

Eventually = Callable[..., object]


class Recorder(com.IBackgroundCopyCallback2):
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


def test_modifications_are_told_only_if_asked_for_and_terminal_states_have_their_own_call(
    job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    callback = Recorder()
    job.SetNotifyInterface(callback)
    job.SetNotifyFlags(com.BG_NOTIFY_JOB_TRANSFERRED | com.BG_NOTIFY_JOB_MODIFICATION)
    service.change(job.GetId(), "changed")
    service.change(job.GetId(), "progress", state="transferring")
    service.change(job.GetId(), state="transferred")
    service.notice(job.GetId(), "transferred")
    eventually(lambda: service.acknowledged)
    assert callback.calls == ["modification 0", "modification 0", "transferred nightly"]


def test_disable_masks_everything_that_the_client_decides(
    job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    callback = Recorder()
    job.SetNotifyInterface(callback)
    job.SetNotifyFlags(0x1F)  # all, and DISABLE
    service.change(job.GetId(), "changed")
    job.SetNotifyFlags(com.BG_NOTIFY_JOB_TRANSFERRED)
    service.notice(job.GetId(), "transferred")
    eventually(lambda: service.acknowledged)
    assert callback.calls == ["transferred nightly"]


def test_files_come_before_the_job_and_a_refused_one_keeps_the_job_back(
    job: com.IBackgroundCopyJob, service: FakeService, eventually: Eventually
) -> None:
    """N1: serialised, the next only after the previous succeeded, all before JobTransferred."""
    refused = com.COMError(0x80070005, "not now")
    callback = Recorder([refused, refused])
    job.AddFile("https://h/a", "/srv/a")
    job.AddFile("https://h/b", "/srv/b")
    job.SetNotifyInterface(callback)
    job.SetNotifyFlags(com.BG_NOTIFY_JOB_TRANSFERRED | com.BG_NOTIFY_FILE_TRANSFERRED)
    service.emit(
        {"kind": "file-transferred", "job_id": str(job.GetId()), "job": service.jobs[str(job.GetId())], "file_index": 0}
    )
    service.notice(job.GetId(), "transferred")
    eventually(lambda: len(service.acknowledged) == 1)
    service.emit(
        {"kind": "file-transferred", "job_id": str(job.GetId()), "job": service.jobs[str(job.GetId())], "file_index": 1}
    )
    service.notice(job.GetId(), "transferred")
    eventually(lambda: len(service.acknowledged) == 2)
    assert [code for _, code in service.acknowledged] == [0x80070005, 0]
    assert callback.calls == ["file /srv/a", "file /srv/a", "file /srv/a", "file /srv/b", "transferred nightly"]


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
