"""Uploads in the life of a job (jobs.md §4, §11.1), and remote directories that are found late."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.core.happened import created, transferred

from openbits.core import codes, events
from openbits.core.enums import JobState, JobType
from openbits.core.errors import BitsError
from openbits.core.file_requests import check_may_be_remote
from openbits.core.lifecycle import complete_result, is_forgotten, removable, step
from openbits.core.model import Directory, File, Job, Leftover, Now, Temporary

HERE, THERE = Directory(path="/home/alice", dev=1, ino=3), Directory(path="/srv/out", dev=2, ino=4)
MakeTemporary = Callable[..., Temporary]
MakeJob = Callable[..., Job]


@pytest.fixture
def upload(a_temporary: MakeTemporary) -> File:
    """Half of it is there."""
    return File(
        remote_name="file:///srv/out/final",
        local_name="/home/alice/source",
        directory=HERE,
        name="source",
        is_upload=True,
        remote_directory=THERE,
        temporary=a_temporary(),
        size_bytes=100,
        transferred_bytes=50,
    )


def an_upload(a_job: MakeJob, upload: File, state: JobState = JobState.TRANSFERRING) -> Job:
    return a_job(state, type=JobType.UPLOAD, files=(upload,))


def test_a_file_that_is_uploaded_has_its_final_name_at_once(a_job: MakeJob, upload: File, now: Now) -> None:
    """jobs.md §1.3: Completed TRUE when the upload is finished; §11.1: final from TRANSFERRED on."""
    moved, _ = step(an_upload(a_job, upload), transferred(1, 0, 100), now)
    (file,) = moved.files
    assert moved.state is JobState.TRANSFERRED
    assert (file.is_transferred, file.is_published, file.temporary) == (True, True, None)


def test_complete_only_acknowledges_an_upload(a_job: MakeJob, upload: File, now: Now) -> None:
    moved, _ = step(an_upload(a_job, upload), transferred(1, 0, 100), now)
    completing, effects = step(moved, events.Complete(), now)
    assert effects == [events.PublishFiles()]
    done, _ = step(completing, events.PublishingEnded(error=None), now)
    assert (done.state, complete_result(done), is_forgotten(done)) == (JobState.ACKNOWLEDGED, codes.S_OK, True)


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final and state.name != "TRANSFERRED"])
def test_complete_is_refused_before(a_job: MakeJob, upload: File, now: Now, state: JobState) -> None:
    with pytest.raises(BitsError) as refused:
        step(an_upload(a_job, upload, state), events.Complete(), now)
    assert refused.value.hresult == codes.BG_E_INVALID_STATE


def test_cancel_removes_what_is_unfinished_and_leaves_what_is_there(a_job: MakeJob, upload: File, now: Now) -> None:
    """jobs.md §4."""
    job = an_upload(a_job, upload)
    cancelled, _ = step(job, events.Cancel(), now)
    assert removable(cancelled) == (0,)
    moved, _ = step(job, transferred(1, 0, 100), now)
    assert removable(step(moved, events.Cancel(), now)[0]) == ()


def test_what_is_left_of_an_upload_is_beside_its_destination(
    a_job: MakeJob, a_temporary: MakeTemporary, upload: File, now: Now
) -> None:
    another = created(1, 0, a_temporary(".BIT0000000f.tmp"))
    after, _ = step(an_upload(a_job, upload), another, now)
    assert after.leftovers == (Leftover(directory=THERE, temporary=a_temporary()),)


def test_an_upload_has_exactly_one_file(a_job: MakeJob, upload: File, now: Now) -> None:
    empty = a_job(type=JobType.UPLOAD, files=())
    for files, job in (((upload, upload), empty), ((upload,), an_upload(a_job, upload))):
        with pytest.raises(BitsError) as refused:
            step(job, events.AddFiles(files=files), now)
        assert refused.value.hresult == codes.BG_E_TOO_MANY_FILES
    assert step(empty, events.AddFiles(files=(upload,)), now)[0].files == (upload,)


@pytest.mark.parametrize(("kind", "is_allowed"), [(JobType.UPLOAD, True), (JobType.UPLOAD_REPLY, False)])
def test_a_reply_comes_from_a_server_alone(a_job: MakeJob, kind: JobType, *, is_allowed: bool) -> None:
    """jobs.md §8.1: SMB not for upload-reply."""
    job = a_job(type=kind)
    check_may_be_remote(job, "https://example.org/x")
    if is_allowed:
        check_may_be_remote(job, "file:///srv/x")
        return
    with pytest.raises(BitsError) as refused:
        check_may_be_remote(job, "file:///srv/x")
    assert refused.value.hresult == codes.E_INVALIDARG


def test_a_remote_directory_that_is_found_later_is_fixed_for_its_name_alone(
    a_job: MakeJob, upload: File, now: Now
) -> None:
    lost = an_upload(a_job, replace(upload, remote_directory=None), JobState.QUEUED)
    found = events.RemoteDirectoryFound(file_index=0, remote_name=upload.remote_name, directory=THERE)
    assert step(lost, found, now)[0].files[0].remote_directory == THERE
    other = replace(found, remote_name="file:///srv/elsewhere")
    assert step(lost, other, now)[0].files[0].remote_directory is None
    with pytest.raises(ValueError, match="nobody knows yet"):
        _ = lost.files[0].made_in


def test_what_only_methods_say_is_fatal_if_an_attempt_says_so(
    a_job: MakeJob, an_error: Callable[..., object], now: Now
) -> None:
    failed = events.AttemptFailed(epoch=1, error=an_error(codes.E_NOTIMPL), is_fatal=True)  # type: ignore[arg-type]
    assert step(a_job(JobState.CONNECTING), failed, now)[0].state is JobState.ERROR
    assert step(a_job(JobState.CONNECTING), replace(failed, is_fatal=False), now)[0].state is JobState.TRANSIENT_ERROR


def test_the_rights_of_a_source_are_kept_until_the_file_is_published(a_job: MakeJob, now: Now) -> None:
    job = a_job(JobState.CONNECTING)
    file = job.files[0]
    connected = events.Connected(epoch=1, file_index=0, validators=file.validators, size_bytes=100, source_mode=0o640)
    after, _ = step(job, connected, now)
    done, _ = step(after, transferred(1, 0, 100, has_source_acl=True), now)
    assert (done.files[0].source_mode, done.files[0].has_source_acl) == (0o640, True)
