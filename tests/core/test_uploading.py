"""Uploads to web servers in the life of a job: steps, acknowledged bytes, the reply (upload-protocol.md §7, §8)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.core.happened import created, transferred

from openbits.core import events, lifecycle, reply, window
from openbits.core.enums import ErrorContext, JobState, JobType, Notice, NotifyFlags, SecurityFlags
from openbits.core.lifecycle import InvariantBrokenError, step
from openbits.core.model import (
    Directory,
    File,
    Identity,
    Job,
    JobError,
    Leftover,
    Now,
    ReplyFile,
    Temporary,
    UploadSession,
    Validators,
    totals,
)
from openbits.core.properties import Properties
from openbits.core.uploading import Step, may_be_session, next_step

MakeJob = Callable[..., Job]
MakeTemporary = Callable[..., Temporary]

NO_PROGRESS = 0x80200024
FILE_NOT_FOUND = 0x80070002
SIZE = 100
OPEN = UploadSession(session_id="{5C0E9F1A-77D2-4B0E-9A53-0D1C6E2F8B44}")
REPLY_URL = "https://files.example/BITS-Sessions/Replies/1/responsefile.bin"
RECEIVED = replace(OPEN, is_received=True)
ANSWERED = replace(RECEIVED, reply_url=REPLY_URL)
UPLOAD, REPLY = 0, 1


@pytest.fixture
def a_upload(a_file: Callable[..., File]) -> Callable[..., File]:
    def make(**changes: object) -> File:
        return a_file(is_upload=True, **{"size_bytes": SIZE, **changes})

    return make


@pytest.fixture
def an_upload(a_job: MakeJob, a_upload: Callable[..., File]) -> MakeJob:
    """An upload-reply in TRANSFERRING, its file as `file` says."""

    def make(state: JobState = JobState.TRANSFERRING, kind: JobType = JobType.UPLOAD_REPLY, **changes: object) -> Job:
        reply_file, properties = changes.pop("reply", None), changes.pop("properties", Properties())
        return a_job(state, type=kind, files=(a_upload(**changes),), reply=reply_file, properties=properties)

    return make


def acknowledged(session: UploadSession | None, count: int, epoch: int = 1) -> events.Acknowledged:
    return events.Acknowledged(epoch=epoch, file_index=UPLOAD, session=session, acknowledged_bytes=count)


def after(job: Job, now: Now, *happened: events.Event) -> Job:
    for event in happened:
        job, _ = step(job, event, now)
    return job


def test_an_upload_is_sent_answered_and_closed_one_step_after_the_other(
    an_upload: MakeJob, a_temporary: MakeTemporary, now: Now
) -> None:
    """§7.1 FRAGMENT → GET_REPLY → CLOSE; TRANSFERRED requires Close done."""
    job = an_upload(JobState.CONNECTING)
    assert (next_step(job), window.due(job, 0, 1, is_idle=True)[0]) == (Step.SEND, [UPLOAD])
    job = after(job, now, acknowledged(OPEN, 0), acknowledged(OPEN, SIZE))
    assert (job.state, next_step(job)) == (JobState.TRANSFERRING, Step.SEND), (
        "the last byte is not acknowledged as such"
    )
    job = after(job, now, acknowledged(ANSWERED, SIZE))
    assert (next_step(job), window.due(job, 0, 1, is_idle=True)[0]) == (Step.REPLY, [REPLY])
    job = after(job, now, created(1, REPLY, a_temporary()), transferred(1, REPLY, 7))
    assert (job.state, next_step(job)) == (JobState.TRANSFERRING, Step.CLOSE)
    assert window.due(job, 0, 1, is_idle=True)[0] == [UPLOAD]
    job = after(job, now, transferred(1, UPLOAD, SIZE))
    assert (job.state, job.files[0].session) == (JobState.TRANSFERRED, None)
    assert job.reply is not None
    assert job.reply.size_bytes == 7


def test_a_plain_upload_ignores_the_reply(an_upload: MakeJob, now: Now) -> None:
    """§8.2: a plain-upload client ignores it."""
    job = after(an_upload(kind=JobType.UPLOAD), now, acknowledged(ANSWERED, SIZE))
    assert (next_step(job), job.reply) == (Step.CLOSE, None)


def test_d19_an_upload_reply_without_reply_ends_with_an_empty_one(an_upload: MakeJob, now: Now) -> None:
    job = after(an_upload(), now, acknowledged(RECEIVED, SIZE))
    assert next_step(job) is Step.CLOSE
    assert job.reply is None or job.reply.size_bytes is None, (
        "an error of the close belongs to the upload (jobs.md §11.3)"
    )
    job = after(job, now, transferred(1, UPLOAD, SIZE))
    assert job.state is JobState.TRANSFERRED
    assert job.reply is not None
    assert (job.reply.size_bytes, job.reply.temporary) == (0, None)


def test_d19_a_place_for_the_reply_does_not_make_one(an_upload: MakeJob, now: Now) -> None:
    place = ReplyFile(local_name="/home/alice/r", directory=Directory(path="/home/alice", dev=1, ino=9), name="r")
    job = after(an_upload(), now, events.SetReplyFile(file=place), acknowledged(RECEIVED, SIZE))
    assert next_step(job) is Step.CLOSE
    job = after(job, now, transferred(1, UPLOAD, SIZE))
    assert (job.state, job.reply) == (JobState.TRANSFERRED, replace(place, size_bytes=0))


def test_the_reply_knows_its_url_and_its_size_is_unknown(an_upload: MakeJob, now: Now) -> None:
    job = after(an_upload(), now, acknowledged(ANSWERED, SIZE))
    assert job.reply is not None
    assert (job.reply.remote_name, job.reply.size_bytes, job.reply.name) == (REPLY_URL, None, f"BIT-{job.job_id}.reply")


def test_the_reply_is_none_of_the_files_and_of_their_progress(an_upload: MakeJob, now: Now) -> None:
    """jobs.md §1.3: BG_JOB_PROGRESS is about the upload only."""
    job = after(an_upload(), now, acknowledged(ANSWERED, SIZE))
    job = after(job, now, events.Connected(epoch=1, file_index=REPLY, validators=Validators(), size_bytes=7))
    job = after(job, now, events.Progressed(epoch=1, file_index=REPLY, transferred_bytes=5))
    sums = totals(job)
    assert (sums.bytes_total, sums.bytes_transferred, sums.files_total, sums.files_transferred) == (SIZE, SIZE, 1, 0)
    assert job.reply is not None
    assert (job.reply.size_bytes, job.reply.transferred_bytes) == (7, 5)


def test_the_reply_has_a_notice_of_its_own_and_the_upload_none(an_upload: MakeJob, now: Now) -> None:
    """jobs.md §4, §12.1: FileTransferred for the reply; its index is one that clients know."""
    flags = NotifyFlags.JOB_TRANSFERRED | NotifyFlags.FILE_TRANSFERRED
    job = after(an_upload(properties=Properties(notify_flags=flags)), now, acknowledged(ANSWERED, SIZE))
    job = after(job, now, transferred(1, REPLY, 7))
    assert [notice.file_index for notice in job.untold_files] == [0]
    job = after(job, now, transferred(1, UPLOAD, SIZE))
    assert (len(job.untold_files), job.pending_notice) == (1, Notice.TRANSFERRED)


# -- progress -------------------------------------------------------------------------------------------------------


def test_bytes_count_as_progress_only_beyond_the_farthest(an_upload: MakeJob, now: Now) -> None:
    job = replace(an_upload(), attempt=4)
    job = after(job, now, acknowledged(OPEN, 60))
    assert job.attempt == 0
    job = after(replace(job, attempt=4), now, acknowledged(None, 0), acknowledged(OPEN, 0), acknowledged(OPEN, 60))
    assert (job.attempt, job.files[0].transferred_bytes) == (4, 60)
    assert after(job, now, acknowledged(OPEN, 61)).attempt == 0


def test_progress_that_is_shown_drops_when_a_server_goes_back(an_upload: MakeJob, now: Now) -> None:
    """§7.2: v ≤ a: rewind to v; progress shown to the user drops."""
    job = after(an_upload(), now, acknowledged(OPEN, 60), acknowledged(OPEN, 20))
    assert (totals(job).bytes_transferred, job.state) == (20, JobState.TRANSFERRING)


def test_a_server_that_goes_back_repeatedly_makes_no_progress(an_upload: MakeJob, now: Now) -> None:
    """jobs.md §11.1: BG_E_NO_PROGRESS (transient)."""
    circle = (acknowledged(OPEN, 60), acknowledged(OPEN, 20))
    job = after(an_upload(), now, *circle, *circle)
    assert job.state is JobState.TRANSFERRING
    job = after(job, now, *circle)
    assert job.state is JobState.TRANSIENT_ERROR
    assert job.error is not None
    assert (job.error.code, job.error.file_index, job.retry_at is not None) == (NO_PROGRESS, 0, True)
    assert job.files[0].session == OPEN, "the session goes on"
    again = after(job, now, events.RetryDue(), events.SlotGranted())
    assert after(again, now, replace(acknowledged(OPEN, 10), epoch=again.epoch)).state is JobState.TRANSFERRING


def test_going_back_once_in_a_while_is_allowed(an_upload: MakeJob, now: Now) -> None:
    job = an_upload()
    for farther in range(30, 90, 10):
        job = after(job, now, acknowledged(OPEN, farther), acknowledged(OPEN, farther - 5))
    assert job.state is JobState.TRANSFERRING


def test_a_new_session_is_no_step_back(an_upload: MakeJob, now: Now) -> None:
    """§7.1 ERROR: SESSION_NOT_FOUND → a new one at 0; that it goes on for ever the worker counts."""
    other = replace(OPEN, session_id="{2}")
    job = an_upload()
    for _ in range(6):
        job = after(job, now, acknowledged(OPEN, 60), acknowledged(None, 0), acknowledged(other, 0))
    assert job.state is JobState.TRANSFERRING
    for session in (OPEN, other) * 3:
        job = after(job, now, acknowledged(session, 60), acknowledged(replace(session, session_id="{3}"), 0))
    assert job.state is JobState.TRANSFERRING


def test_an_empty_file_that_is_received_is_progress(an_upload: MakeJob, now: Now) -> None:
    """D16."""
    job = replace(an_upload(size_bytes=0), attempt=2)
    assert after(job, now, acknowledged(RECEIVED, 0)).attempt == 0


# -- interruptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [events.Suspend(), events.SlotRevoked(), events.ServiceRestarted()])
def test_section_7_5_an_upload_goes_on_from_the_row(an_upload: MakeJob, now: Now, stop: events.Event) -> None:
    job = after(an_upload(), now, acknowledged(OPEN, 60), stop)
    assert (job.files[0].session, job.files[0].transferred_bytes) == (OPEN, 60)
    resumed = after(job, now, events.Resume())
    assert (resumed.state, resumed.files[0].session, next_step(resumed)) == (JobState.QUEUED, OPEN, Step.SEND)


def test_section_7_5_what_was_received_is_not_sent_again(an_upload: MakeJob, now: Now) -> None:
    job = after(an_upload(), now, acknowledged(ANSWERED, SIZE), events.ServiceRestarted())
    assert next_step(job) is Step.REPLY


def test_a_source_that_is_missing_is_an_error(an_upload: MakeJob, now: Now) -> None:
    """OPEN-31."""
    error = JobError(code=FILE_NOT_FOUND, context=ErrorContext.LOCAL_FILE, file_index=0)
    assert after(an_upload(), now, events.AttemptFailed(epoch=1, error=error)).state is JobState.ERROR


def test_checking_revocations_begins_the_reply_again_and_not_the_upload(an_upload: MakeJob, now: Now) -> None:
    """jobs.md §9.6: it restarts what is being downloaded."""
    job = after(an_upload(), now, acknowledged(ANSWERED, SIZE))
    job = after(job, now, events.Progressed(epoch=1, file_index=REPLY, transferred_bytes=5))
    checked = replace(job.properties, security_flags=SecurityFlags.ENABLE_CRL_CHECK)
    job = after(job, now, events.SetProperties(properties=checked, names=("security_flags",)))
    assert job.reply is not None
    assert (job.files[0].transferred_bytes, job.reply.transferred_bytes) == (SIZE, 0)


# -- the reply ------------------------------------------------------------------------------------------------------


@pytest.fixture
def coming(an_upload: MakeJob, a_temporary: MakeTemporary, now: Now) -> Job:
    """Five bytes of seven of the reply are here."""
    job = after(an_upload(), now, acknowledged(ANSWERED, SIZE), created(1, REPLY, a_temporary()))
    job = after(job, now, events.Connected(epoch=1, file_index=REPLY, validators=Validators(), size_bytes=7))
    return after(job, now, events.Progressed(epoch=1, file_index=REPLY, transferred_bytes=5))


def test_d20_a_reply_at_another_host_begins_again(coming: Job, a_temporary: MakeTemporary, now: Now) -> None:
    job, effects = step(coming, events.ReplyMoved(epoch=1, remote_name="https://origin.example/r"), now)
    assert job.reply is not None
    assert job.reply.remote_name == "https://origin.example/r"
    assert (job.reply.transferred_bytes, job.reply.size_bytes, job.reply.temporary) == (0, None, None)
    assert job.leftovers == (Leftover(directory=coming.files[0].directory, temporary=a_temporary()),)
    assert effects == [events.RemoveTemporaries()]


def test_an_earlier_reply_is_not_mixed_with_that_of_a_new_session(coming: Job, now: Now) -> None:
    for url in (REPLY_URL, f"{REPLY_URL}?2"):
        other = replace(ANSWERED, session_id="{2}", reply_url=url)
        job = after(coming, now, acknowledged(None, 0), acknowledged(other, SIZE))
        assert job.reply is not None
        assert (job.reply.remote_name, job.reply.transferred_bytes, len(job.leftovers)) == (url, 0, 1)
        assert job.reply.size_bytes is None


def test_cancel_removes_the_reply(coming: Job, now: Now) -> None:
    assert lifecycle.removable(after(coming, now, events.Cancel())) == (REPLY,)


def complete(job: Job, now: Now) -> Job:
    return after(job, now, transferred(1, REPLY, 7), transferred(1, UPLOAD, SIZE), events.Complete())


def test_complete_gives_the_reply_its_name_and_what_proves_it_stays(
    coming: Job, a_temporary: MakeTemporary, now: Now
) -> None:
    """jobs.md §8.4; OPEN-23: the reply is read after Complete, too: that very file."""
    job = after(complete(coming, now), now, events.FilesPublished(file_indexes=(REPLY,)))
    assert job.reply is not None
    assert (job.reply.is_published, job.reply.temporary) == (True, None)
    assert job.reply.published == replace(a_temporary(), name=job.reply.name)
    done = after(job, now, events.PublishingEnded(error=None))
    assert (done.state, lifecycle.is_forgotten(done)) == (JobState.ACKNOWLEDGED, True)


def test_complete_waits_for_the_reply_to_be_published(coming: Job, now: Now) -> None:
    completing = complete(coming, now)
    again, effects = step(completing, events.PublishingEnded(error=None), now)
    assert (again.state, effects) == (JobState.TRANSFERRED, [events.PublishFiles()])


def test_a_reply_that_was_lost_is_not_fetched_again(coming: Job, now: Now) -> None:
    """No server has it any more: Complete says so each time, and Cancel is left."""
    lost = JobError(code=FILE_NOT_FOUND, context=ErrorContext.LOCAL_FILE)
    job = after(complete(coming, now), now, events.PublishingEnded(error=lost, lost_file=REPLY))
    assert (job.state, job.is_completing, job.current_file) == (JobState.TRANSFERRED, False, None)
    assert job.reply is not None
    assert job.reply.is_transferred, "or the next Complete would succeed without it"
    assert job.reply.temporary is not None
    assert after(job, now, events.Complete()).is_completing
    assert after(job, now, events.Cancel()).state is JobState.CANCELLED


def test_a_reply_whose_directory_was_refused_may_go_elsewhere(an_upload: MakeJob, now: Now) -> None:
    """SetReplyFileName: until the download has begun (jobs.md §7.4); the URL is that of the server's."""
    job = after(an_upload(), now, acknowledged(ANSWERED, SIZE))
    place = ReplyFile(local_name="/home/alice/r", directory=Directory(path="/home/alice", dev=1, ino=9), name="r")
    job = after(job, now, events.SetReplyFile(file=place))
    assert job.reply == replace(place, remote_name=REPLY_URL)
    back = after(job, now, events.SetReplyFile(file=None))
    assert back.reply is not None
    assert (back.reply.name, back.reply.remote_name) == (f"BIT-{job.job_id}.reply", REPLY_URL)


def test_what_fails_of_a_reply_names_a_file_that_clients_know(coming: Job, now: Now) -> None:
    for _ in range(4):
        coming = after(coming, now, events.FileRestarted(epoch=1, file_index=REPLY, note="it changed"))
    assert coming.state is JobState.ERROR
    assert coming.error is not None
    assert coming.error.file_index == 0
    assert coming.error.subject.startswith("https://files.example/BITS-Sessions")


# -- other hands ----------------------------------------------------------------------------------------------------

ROOT = Identity(uid=0, gid=0)


def test_section_7_5_with_another_owner_the_upload_begins_again(coming: Job, now: Now) -> None:
    job = after(coming, now, events.TakeOwnership(owner=ROOT))
    assert (job.files[0].session, job.files[0].transferred_bytes, next_step(job)) == (None, 0, Step.SEND)
    assert job.reply is not None
    assert (job.reply.remote_name, job.reply.size_bytes, job.reply.temporary) == ("", None, None)
    assert len(job.leftovers) == 1


def test_a_finished_upload_stays_finished_in_other_hands(coming: Job, a_temporary: MakeTemporary, now: Now) -> None:
    done = after(coming, now, transferred(1, REPLY, 7), transferred(1, UPLOAD, SIZE))
    copy = a_temporary(".BIT0000000c.tmp", uid=0)
    noted = after(done, now, events.LeftoverNoted(leftover=Leftover(directory=done.files[0].directory, temporary=copy)))
    taken = after(noted, now, events.TakeOwnership(owner=ROOT, copies=((REPLY, copy),)))
    assert taken.reply is not None
    assert (taken.state, taken.reply.temporary, taken.reply.is_transferred) == (JobState.TRANSFERRED, copy, True)
    with pytest.raises(InvariantBrokenError):
        step(done, events.TakeOwnership(owner=ROOT), now)


# -- what a worker tells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "url", "is_allowed"),
    [
        ("https", "https://h/r", True),
        ("http", "http://h/r", True),
        ("http", "https://h/r", True),
        ("https", "http://h/r", False),
        ("http", "file:///etc/shadow", False),
        ("http", "javascript:alert(1)", False),
        ("http", "/etc/shadow", False),
        ("http", "http://u:p@h/r", False),
        ("http", "", True),
    ],
)
def test_section_8_3_replies_are_of_the_web_and_never_worse_protected(
    a_upload: Callable[..., File], origin: str, url: str, *, is_allowed: bool
) -> None:
    file = replace(a_upload(), remote_name=f"{origin}://files.example/x")
    assert may_be_session(file, replace(RECEIVED, reply_url=url)) is is_allowed
    assert may_be_session(file, None)


def test_the_default_place_of_the_reply_is_beside_the_upload(an_upload: MakeJob) -> None:
    place = reply.file_of(an_upload())
    assert place is not None
    assert place.directory == an_upload().files[0].directory
