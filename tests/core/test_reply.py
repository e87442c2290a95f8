"""The reply of an upload-reply job: its name, its progress, when it can be read (jobs.md §7.4, §11.2)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from openbits.core import events, reply
from openbits.core.enums import JobState, JobType
from openbits.core.errors import BitsError
from openbits.core.lifecycle import step
from openbits.core.model import Directory, File, Job, Now, ReplyFile, Temporary

Make = Callable[..., Job]

E_NOTIMPL, INVALID_STATE, TOO_LARGE = 0x80004001, 0x80200002, 0x80200020
MIB = 1 << 20

ELSEWHERE = ReplyFile(
    local_name="/home/alice/answer", directory=Directory(path="/home/alice", dev=3, ino=4), name="answer"
)


@pytest.fixture
def an_upload(a_job: Make) -> Make:
    def make(state: JobState = JobState.SUSPENDED, **changes: object) -> Job:
        return a_job(state, type=JobType.UPLOAD_REPLY, **changes)

    return make


def code_of(call: Callable[[], object]) -> int:
    with pytest.raises(BitsError) as caught:
        call()
    assert "; " in caught.value.text
    return caught.value.hresult


@pytest.mark.parametrize("job_type", [JobType.DOWNLOAD, JobType.UPLOAD])
def test_other_jobs_have_no_reply(a_job: Make, now: Now, job_type: JobType) -> None:
    job = a_job(JobState.SUSPENDED, type=job_type)
    assert code_of(lambda: step(job, events.SetReplyFile(file=ELSEWHERE), now)) == E_NOTIMPL
    assert code_of(lambda: reply.check_readable(job)) == E_NOTIMPL
    assert reply.file_of(job) is None


def test_no_name_before_there_is_a_file_and_then_one_beside_it_that_stays(an_upload: Make, now: Now) -> None:
    empty = an_upload(files=())
    assert reply.file_of(empty) is None
    job = an_upload()
    generated = reply.file_of(job)
    assert generated is not None
    assert generated.directory == job.files[0].directory
    assert generated.local_name == f"/srv/in/{generated.name}"
    assert generated.name != job.files[0].name
    resumed, _ = step(job, events.Resume(), now)
    assert reply.file_of(resumed) == generated


def test_two_jobs_with_the_same_file_have_two_replies(an_upload: Make) -> None:
    names = {reply.file_of(an_upload(state)) for state in (JobState.SUSPENDED, JobState.QUEUED)}
    assert len(names) == 2


@pytest.mark.parametrize("state", [one for one in JobState if not one.is_final and one is not JobState.TRANSFERRED])
def test_a_name_is_set_and_taken_back_until_the_reply_comes(an_upload: Make, now: Now, state: JobState) -> None:
    job = an_upload(state)
    named, effects = step(job, events.SetReplyFile(file=ELSEWHERE), now)
    assert (reply.file_of(named), named.state, effects) == (ELSEWHERE, state, [])
    assert named.modified_at == now.wall
    again, _ = step(named, events.SetReplyFile(file=None), now)
    assert reply.file_of(again) == reply.file_of(job)


TEMPORARY = Temporary(name=".BIT00000001.tmp", dev=3, ino=5, birth_ns=1, uid=1000, by_helper=False)


@pytest.mark.parametrize("coming", [replace(ELSEWHERE, size_bytes=0), replace(ELSEWHERE, temporary=TEMPORARY)])
def test_a_reply_that_is_coming_keeps_its_name(an_upload: Make, now: Now, coming: ReplyFile) -> None:
    job = an_upload(JobState.TRANSFERRING, reply=coming)
    for file in (ELSEWHERE, None):
        assert code_of(lambda file=file: step(job, events.SetReplyFile(file=file), now)) == INVALID_STATE  # type: ignore[misc]  # a value of the loop


@pytest.mark.parametrize("state", [JobState.TRANSFERRED, JobState.ACKNOWLEDGED, JobState.CANCELLED])
def test_a_job_that_has_its_reply_or_is_over_keeps_the_name(an_upload: Make, now: Now, state: JobState) -> None:
    assert code_of(lambda: step(an_upload(state), events.SetReplyFile(file=ELSEWHERE), now)) == INVALID_STATE


@pytest.mark.parametrize("state", list(JobState))
def test_a_reply_is_read_before_and_after_complete_and_never_else(an_upload: Make, state: JobState) -> None:
    job = an_upload(state, reply=replace(ELSEWHERE, size_bytes=MIB))
    if state in {JobState.TRANSFERRED, JobState.ACKNOWLEDGED}:
        reply.check_readable(job)
    else:
        assert code_of(lambda: reply.check_readable(job)) == INVALID_STATE


def test_a_reply_above_one_mebibyte_is_not_given_as_data(an_upload: Make) -> None:
    job = an_upload(JobState.TRANSFERRED, reply=replace(ELSEWHERE, size_bytes=MIB + 1))
    assert code_of(lambda: reply.check_readable(job)) == TOO_LARGE


def test_a_reply_belongs_to_the_job_whoever_owns_it(an_upload: Make, now: Now, a_file: Callable[..., File]) -> None:
    job = an_upload(files=(a_file(),), reply=ELSEWHERE)
    taken, _ = step(job, events.TakeOwnership(owner=replace(job.owner, uid=0)), now)
    assert taken.reply == ELSEWHERE
