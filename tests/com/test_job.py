"""IBackgroundCopyManager, IBackgroundCopyJob, files, errors and enumerators over the fake service."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.api.fakeservice import FailedError, FakeService

from openbits import com

ENGLISH = 0x0409

ERROR = {
    "hresult": 0x80190194,
    "symbol": "BG_E_HTTP_ERROR_404",
    "context": "remote_file",
    "message": "not there; check the URL",
    "identity": "",
    "subject": "https://h/a",
    "file_index": 0,
    "protocol": "http",
    "at": 1.0,
}


def hresult_of(call: Any, *arguments: Any) -> int:
    """The code of a call that fails."""
    with pytest.raises(com.COMError) as caught:
        call(*arguments)
    return caught.value.hresult


@pytest.mark.usefixtures("service")
def test_create_job_gives_the_pair_of_id_and_job() -> None:
    job_id, job = com.BackgroundCopyManager().CreateJob("nightly", com.BG_JOB_TYPE_DOWNLOAD)
    assert job.GetId() == job_id
    assert isinstance(job_id, uuid.UUID)
    assert (job.GetDisplayName(), job.GetType(), job.GetState()) == ("nightly", 0, com.BG_JOB_STATE_SUSPENDED)
    assert job.GetOwner().startswith("S-1-22-1-")


@pytest.mark.usefixtures("service")
def test_what_is_undefined_is_not_implemented_and_what_is_null_is_invalid(job: com.IBackgroundCopyJob) -> None:
    manager = com.BackgroundCopyManager()
    assert hresult_of(manager.CreateJob, "x", 9) == 0x80004001
    assert hresult_of(manager.CreateJob, None, 0) == 0x80070057
    assert hresult_of(manager.EnumJobs, 2) == 0x80004001
    assert hresult_of(job.SetPriority, 4) == 0x80004001
    assert hresult_of(job.SetDisplayName, None) == 0x80070057
    assert hresult_of(job.SetDescription, None) == 0x80070057
    assert hresult_of(job.AddFile, None, "/a") == 0x80070057
    assert hresult_of(job.AddFileSet, None) == 0x80070057
    assert hresult_of(job.SetNotifyInterface, object()) == 0x80004002
    assert hresult_of(manager.GetJob, uuid.uuid4()) == 0x80200001


def test_setters_return_s_ok_and_getters_give_the_value_back(job: com.IBackgroundCopyJob) -> None:
    assert job.SetDisplayName("new") == com.S_OK
    assert job.SetDescription("why") == com.S_OK
    assert job.SetPriority(com.BG_JOB_PRIORITY_HIGH) == com.S_OK
    assert job.SetNotifyFlags(com.BG_NOTIFY_JOB_ERROR | com.BG_NOTIFY_DISABLE) == com.S_OK
    assert job.SetMinimumRetryDelay(60) == com.S_OK
    assert job.SetNoProgressTimeout(0) == com.S_OK
    assert (job.GetDisplayName(), job.GetDescription(), job.GetPriority()) == ("new", "why", 1)
    assert (job.GetNotifyFlags(), job.GetMinimumRetryDelay(), job.GetNoProgressTimeout()) == (6, 60, 0)
    assert job.GetErrorCount() == 0


def test_a_fresh_job_has_no_bytes_and_a_fresh_file_an_unknown_size(
    job: com.IBackgroundCopyJob, service: FakeService
) -> None:
    empty = com.BG_JOB_PROGRESS(BytesTotal=0, BytesTransferred=0, FilesTotal=0, FilesTransferred=0)
    assert job.GetProgress() == empty
    assert job.AddFile("https://h/a", "/srv/a") == com.S_OK
    service.jobs[str(job.GetId())]["bytes_total"] = None
    assert job.GetProgress().BytesTotal == 2**64 - 1
    (file,) = job.EnumFiles().Next(5)
    assert (file.GetRemoteName(), file.GetLocalName()) == ("https://h/a", "/srv/a")
    assert file.GetProgress() == com.BG_FILE_PROGRESS(BytesTotal=2**64 - 1, BytesTransferred=0, Completed=False)


def test_a_file_is_completed_when_the_user_can_see_it_and_not_before(
    job: com.IBackgroundCopyJob, service: FakeService
) -> None:
    job.AddFile("https://h/a", "/srv/a")
    (file,) = job.EnumFiles().Next(1)
    info = service.files[str(job.GetId())][0]
    info.update(bytes_total=5, bytes_transferred=5, is_transferred=True)
    assert file.GetProgress() == com.BG_FILE_PROGRESS(BytesTotal=5, BytesTransferred=5, Completed=False)
    info["is_published"] = True
    assert file.GetProgress().Completed


def test_times_are_utc_and_none_for_never(job: com.IBackgroundCopyJob, service: FakeService) -> None:
    service.jobs[str(job.GetId())].update(created_at=0.0, modified_at=1.5)
    assert job.GetTimes() == com.BG_JOB_TIMES(
        CreationTime=datetime(1970, 1, 1, tzinfo=UTC),
        ModificationTime=datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC),
        TransferCompletionTime=None,
    )


def test_add_file_set_takes_a_list_of_pairs(job: com.IBackgroundCopyJob) -> None:
    pairs = [com.BG_FILE_INFO(RemoteName=f"https://h/{n}", LocalName=f"/srv/{n}") for n in "abc"]
    assert job.AddFileSet(pairs) == com.S_OK
    assert [file.GetLocalName() for file in job.EnumFiles().Next(9)] == ["/srv/a", "/srv/b", "/srv/c"]


def test_the_four_state_methods(job: com.IBackgroundCopyJob) -> None:
    assert hresult_of(job.Resume) == 0x80200003  # BG_E_EMPTY
    job.AddFile("https://h/a", "/srv/a")
    assert job.Resume() == com.S_OK
    assert job.GetState() == com.BG_JOB_STATE_QUEUED
    assert job.Suspend() == com.S_OK
    assert job.Complete() == com.S_OK
    assert job.GetState() == com.BG_JOB_STATE_ACKNOWLEDGED  # a getter on a final job works
    for method in (job.Complete, job.Cancel, job.Suspend, job.Resume):
        assert hresult_of(method) == 0x80200002  # BG_E_INVALID_STATE


def test_success_codes_are_results_and_no_errors(job: com.IBackgroundCopyJob, service: FakeService) -> None:
    service.overrides["Complete"] = lambda _: {"hresult": 0x00200017}
    service.overrides["Cancel"] = lambda _: {"hresult": 0x0020001A}
    assert job.Complete() == com.BG_S_PARTIAL_COMPLETE
    assert job.Cancel() == com.BG_S_UNABLE_TO_DELETE_FILES


@pytest.mark.usefixtures("service")
def test_enumerators_are_snapshots_with_a_position() -> None:
    manager = com.BackgroundCopyManager()
    for name in "abcde":
        manager.CreateJob(name, com.BG_JOB_TYPE_DOWNLOAD)
    jobs = manager.EnumJobs(0)
    manager.CreateJob("later", com.BG_JOB_TYPE_DOWNLOAD)
    assert jobs.GetCount() == 5
    assert [job.GetDisplayName() for job in jobs.Next(2)] == ["a", "b"]
    copy = jobs.Clone()
    assert jobs.Skip(2) == com.S_OK
    assert [job.GetDisplayName() for job in jobs.Next(5)] == ["e"]
    assert jobs.Next(1) == []
    assert [job.GetDisplayName() for job in copy.Next(1)] == ["c"]
    assert copy.Skip(3) == com.S_FALSE
    assert copy.Next(1) == []
    assert jobs.Reset() == com.S_OK
    assert len(jobs.Next(9)) == jobs.GetCount() == 5
    assert hresult_of(jobs.Next, -1) == 0x80070057


def test_all_users_is_passed_on_and_its_refusal_is_access_denied(service: FakeService) -> None:
    def refuse(parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["all_users"]:
            raise FailedError(com.E_ACCESSDENIED)
        return {"jobs": []}

    service.overrides["ListJobs"] = refuse
    manager = com.BackgroundCopyManager()
    assert manager.EnumJobs(0).GetCount() == 0
    assert hresult_of(manager.EnumJobs, com.BG_JOB_ENUM_ALL_USERS) == 0x80070005


def test_the_error_object_is_a_snapshot_of_the_jobs_error(job: com.IBackgroundCopyJob, service: FakeService) -> None:
    assert hresult_of(job.GetError) == 0x8020000F  # BG_E_ERROR_INFORMATION_UNAVAILABLE
    job.AddFile("https://h/a", "/srv/a")
    service.jobs[str(job.GetId())].update(state="error", error=dict(ERROR))
    error = job.GetError()
    service.jobs[str(job.GetId())]["error"] = None
    context, code = error.GetError()
    assert (context, code) == (com.BG_ERROR_CONTEXT_REMOTE_FILE, 0x80190194)
    assert error.GetFile().GetRemoteName() == "https://h/a"
    assert error.GetProtocol() == "http"
    assert error.GetErrorDescription(ENGLISH) == "not there; check the URL"
    assert "remote file" in error.GetErrorContextDescription(ENGLISH)
    assert hresult_of(error.GetErrorDescription, 0) == 0x80070057
    assert hresult_of(error.GetErrorContextDescription, 0) == 0x80070057
    assert hresult_of(error.GetErrorDescription, 0x0407) == 0x80070717


@pytest.mark.parametrize(
    ("context", "has_file"),
    [
        ("none", False),
        ("unknown", False),
        ("general_queue_manager", False),
        ("queue_manager_notification", False),
        ("local_file", True),
        ("remote_file", True),
        ("general_transport", True),
        ("remote_application", True),
        ("server_certificate_callback", True),
    ],
)
def test_only_some_contexts_concern_a_file(
    context: str,
    has_file: bool,  # noqa: FBT001  # a parameter of the test
    job: com.IBackgroundCopyJob,
    service: FakeService,
) -> None:
    job.AddFile("https://h/a", "/srv/a")
    service.jobs[str(job.GetId())]["error"] = {**ERROR, "context": context, "protocol": None}
    error = job.GetError()
    if has_file:
        assert error.GetFile().GetLocalName() == "/srv/a"
    else:
        assert hresult_of(error.GetFile) == 0x80200004
    assert hresult_of(error.GetProtocol) == 0x80200005


@pytest.mark.usefixtures("service")
def test_the_manager_describes_every_code_also_as_a_signed_number() -> None:
    manager = com.BackgroundCopyManager()
    assert "BG_E_INVALID_STATE (0x80200002)" in manager.GetErrorDescription(-2145386494, 0)
    assert "503" in manager.GetErrorDescription(0x801901F7, ENGLISH)
    assert manager.GetErrorDescription(0x80071234, ENGLISH)
    assert hresult_of(manager.GetErrorDescription, 0x80200002, 0x040C) == 0x80070717
    assert hresult_of(manager.GetErrorDescription, 2**40, 0) == 0x80070057
