"""Every kind of job, every event: what must hold whatever happens."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.core.happened import created, transferred

from openbits.core import codes, events, transitions
from openbits.core.enums import CertStore, JobState, JobType, NotifyFlags, Priority, TokenFlags
from openbits.core.errors import BitsError
from openbits.core.lifecycle import HANDLERS, InvariantBrokenError, step, wakes
from openbits.core.model import (
    Certificate,
    CommandLine,
    File,
    FileNotice,
    Identity,
    Job,
    JobError,
    Leftover,
    Now,
    Range,
    ReplyFile,
    Secret,
    Temporary,
    UploadSession,
    Validators,
)
from openbits.core.properties import Properties

MakeJob = Callable[..., Job]

COPY = ".BIT0000c09e.tmp"

RECEIVED = UploadSession(session_id="{1}", is_received=True, reply_url="https://files.example:8443/reply")

ROOT = Identity(uid=0, gid=0, name="root")

IMPOSSIBLE = {(events.SlotGranted, state) for state in JobState if state is not JobState.QUEUED}
"""What only a defect of the manager can bring about; publishing events are so too unless the job is completing."""


@pytest.fixture(scope="module")
def every_job(
    a_job: MakeJob,
    a_file: Callable[..., File],
    a_temporary: Callable[..., Temporary],
    an_error: Callable[..., JobError],
) -> list[Job]:
    whole = a_job(JobState.TRANSFERRED).files[0]
    half = a_job(JobState.TRANSFERRING).files[0]
    jobs = [a_job(state) for state in JobState]
    jobs += [a_job(state, type=JobType.UPLOAD) for state in JobState]
    jobs += [
        a_job(state, files=(whole, half, a_file("third")))
        for state in JobState
        if state not in {JobState.TRANSFERRED, JobState.ACKNOWLEDGED}
    ]
    jobs += [a_job(state, properties=Properties(auto_complete=True)) for state in JobState]
    jobs += [a_job(state, properties=Properties(no_progress_timeout_seconds=0)) for state in JobState]
    jobs += [a_job(state, helper_token_flags=TokenFlags.LOCAL_FILE, had_helper_token=True) for state in JobState]
    jobs += [
        a_job(state, is_completing=True, files=(whole,) if state is not JobState.ERROR else (whole, half))
        for state in (JobState.SUSPENDED, JobState.ERROR, JobState.TRANSFERRED)
    ]
    published = a_job(JobState.ACKNOWLEDGED).files[0]
    jobs += [
        a_job(state, is_completing=True, files=(published,) if state is JobState.TRANSFERRED else (published, half))
        for state in (JobState.SUSPENDED, JobState.ERROR, JobState.TRANSFERRED)
    ]
    asked = replace(half, wanted=(Range(offset=50, length_bytes=20),))
    on_demand = Properties(on_demand_mode=True)
    jobs += [
        a_job(state, files=files, properties=on_demand)
        for state in (JobState.SUSPENDED, JobState.QUEUED, JobState.CONNECTING, JobState.TRANSFERRING)
        for files in ((asked,), (half, asked), (asked, half))
    ]
    jobs += [
        a_job(JobState.QUEUED, files=(half,), properties=on_demand),
        a_job(JobState.TRANSFERRING, files=(replace(half, ranges=(Range(offset=0, length_bytes=50),)),)),
        a_job(JobState.CONNECTING, files=(replace(half, ranges=(Range(offset=0, length_bytes=50),)),)),
    ]
    told_of_files = Properties(notify_flags=NotifyFlags.JOB_TRANSFERRED | NotifyFlags.FILE_TRANSFERRED)
    untold = (FileNotice(file_index=0, notice_seq=1),)
    jobs += [a_job(state, properties=told_of_files) for state in JobState]
    jobs += [
        a_job(state, files=(whole, half), properties=told_of_files, untold_files=untold, notice_seq=2)
        for state in JobState
        if not state.is_final and state is not JobState.TRANSFERRED
    ]
    jobs += [a_job(JobState.TRANSFERRED, properties=told_of_files, untold_files=untold, notice_seq=2)]
    jobs += [a_job(state, type=JobType.UPLOAD_REPLY) for state in JobState]
    jobs += _uploads(a_job, a_file, a_temporary)
    jobs += [a_job(state, properties=Properties(max_download_size_bytes=4)) for state in JobState]
    jobs += [
        a_job(JobState.SUSPENDED, files=()),
        a_job(JobState.TRANSFERRING, files=(replace(half, restarts=3),)),
        a_job(JobState.QUEUED, files=(whole,), error=an_error(), attempt=3, stalled_since=1.0),
        a_job(JobState.CONNECTING, files=(replace(half, restarts=3),), error=an_error(), attempt=2),
        a_job(JobState.TRANSIENT_ERROR, retry_at=None, retry_by_event=True, stalled_since=None, stalled_seconds=9.0),
        a_job(JobState.CANCELLED, files=(whole, half)),
        a_job(JobState.TRANSFERRING, leftovers=(Leftover(directory=half.directory, temporary=a_temporary(COPY)),)),
        a_job(JobState.ACKNOWLEDGED, files=(a_file(temporary=a_temporary()),)),
    ]
    return jobs


def _uploads(a_job: MakeJob, a_file: Callable[..., File], a_temporary: Callable[..., Temporary]) -> list[Job]:
    """Uploads to web servers that are going round in circles, and those whose replies are on their way."""
    sent = a_file(is_upload=True, size_bytes=100, transferred_bytes=100, session=RECEIVED)
    stuck = replace(sent, transferred_bytes=50, farthest_bytes=80, setbacks=2, session=UploadSession(session_id="{1}"))
    place = sent.directory
    reply = ReplyFile(
        local_name="/srv/in/reply",
        directory=place,
        name="reply",
        remote_name=RECEIVED.reply_url,
        temporary=a_temporary(),
        size_bytes=100,
        transferred_bytes=50,
    )
    active = (JobState.CONNECTING, JobState.TRANSFERRING)
    jobs = [a_job(state, type=JobType.UPLOAD, files=(stuck,)) for state in active]
    hasty = Properties(no_progress_timeout_seconds=0)
    jobs += [a_job(state, type=JobType.UPLOAD, files=(stuck,), properties=hasty) for state in active]
    jobs += [
        a_job(state, type=JobType.UPLOAD_REPLY, files=(sent,), reply=reply)
        for state in JobState
        if state not in {JobState.TRANSFERRED, JobState.ACKNOWLEDGED}
    ]
    whole = replace(sent, is_transferred=True, is_published=True, session=None)
    answer = replace(reply, is_transferred=True, transferred_bytes=100)
    completing = a_job(
        JobState.TRANSFERRED, type=JobType.UPLOAD_REPLY, files=(whole,), reply=answer, is_completing=True
    )
    return [*jobs, completing]


def every_event(
    job: Job, a_file: File, a_temporary: Temporary, error: Callable[..., JobError]
) -> Iterator[events.Event]:
    """Each event at least once; news both of the present attempt and of an older one."""
    yield from _settings(job)
    yield events.LeftoverNoted(leftover=Leftover(directory=a_file.directory, temporary=a_temporary))
    yield events.AddFiles(files=(a_file,))
    for simple in (
        events.Suspend,
        events.Resume,
        events.Cancel,
        events.Complete,
        events.SlotGranted,
        events.SlotRevoked,
        events.RetryDue,
        events.NoProgressExpired,
        events.TransferTimeExceeded,
        events.InactivityExpired,
        events.ServiceRestarted,
    ):
        yield simple()
    yield events.Blocked(error=error(codes.BG_E_NETWORK_DISCONNECTED))
    yield events.TokenLost(error=error(codes.BG_E_TOKEN_REQUIRED))
    yield events.PublishingEnded(error=None)
    yield events.PublishingEnded(error=error(codes.E_ACCESSDENIED))
    if any(file.is_transferred for file in job.files):
        yield events.PublishingEnded(error=error(codes.E_ACCESSDENIED), lost_file=0)
    for index in range(len(job.files)):
        yield from _of_file(job, index, a_file)
    for seq in (job.notice_seq, job.notice_seq - 1):
        yield events.NoticeDelivered(seq)
    for epoch in (job.epoch, job.epoch - 1):
        yield from _of_attempt(epoch, job.next_file or 0, a_temporary, error)
        if job.reply is not None:
            yield from _of_reply(epoch, job, a_temporary)


def _settings(job: Job) -> Iterator[events.Event]:
    """What clients set of a job."""
    for flag in (True, False):
        yield events.HelperTokenSet(is_set=flag)
        yield events.SetProperties(properties=replace(job.properties, priority=Priority.LOW, auto_complete=flag))
        yield events.SetCertificateCallback(is_set=flag)
    yield events.SetProperties(properties=replace(job.properties, notify_flags=NotifyFlags.JOB_ERROR))
    yield events.SetHelperTokenFlags(flags=TokenFlags.NETWORK)
    for owner in (job.owner, ROOT):
        yield events.TakeOwnership(owner=owner)
    for command in (None, CommandLine(program="/bin/true", parameters="", setter=job.owner)):
        yield events.SetCommandLine(command)
    yield events.SetReplyFile(file=None)
    secret = Secret(slot="headers", key_id="k", sealed="c2VhbGVk")
    yield events.SetSecret(secret=secret)
    yield events.RemoveSecret(slot="headers")
    yield events.SecretsResealed(secrets=(secret,))
    yield events.MakeHeadersWriteOnly()
    yield events.SetCertificate(certificate=Certificate(location=CertStore.CURRENT_USER, store="MY", subject="alice"))


def _of_file(job: Job, index: int, a_file: File) -> Iterator[events.Event]:
    """What concerns one file and no attempt."""
    yield events.FilesPublished(file_indexes=(index,))
    for name in (job.files[index].remote_name, "file:///elsewhere"):
        yield events.RemoteDirectoryFound(file_index=index, remote_name=name, directory=a_file.directory)
    yield events.TemporariesRemoved(file_indexes=(index,))
    yield events.SessionDropped(file_index=index)
    for is_from_peer in (True, False):
        yield events.ValidationRefused(file_index=index, is_from_peer=is_from_peer)
    yield events.ValidationAccepted(file_index=index)
    yield events.SetRemoteNames(names=((index, "https://other.example/data.bin"),))
    yield events.RequestRanges(file_index=index, ranges=(Range(offset=10, length_bytes=60),))
    yield events.UpdateDownloadPosition(file_index=index, offset=70)


def _of_attempt(
    epoch: int, index: int, a_temporary: Temporary, error: Callable[..., JobError]
) -> Iterator[events.Event]:
    """The news of an attempt."""
    yield created(epoch, index, a_temporary)
    yield events.TemporaryAdopted(epoch=epoch, file_index=index, temporary=replace(a_temporary, name=COPY))
    yield events.Connected(epoch=epoch, file_index=index, validators=Validators(), size_bytes=None)
    yield events.Connected(epoch=epoch, file_index=index, validators=Validators(), size_bytes=5)
    yield events.Progressed(epoch=epoch, file_index=index, transferred_bytes=60)
    for session in (None, UploadSession(session_id="{1}"), RECEIVED):
        for acknowledged in (10, 60):
            yield events.Acknowledged(epoch=epoch, file_index=index, session=session, acknowledged_bytes=acknowledged)
    for end in (70, 100):
        filled = (Range(offset=50, length_bytes=end - 50),)
        yield events.RangesFilled(epoch=epoch, file_index=index, ranges=filled)
    yield events.FileRestarted(epoch=epoch, file_index=index, note="changed")
    yield transferred(epoch, index, 100)
    yield events.CertificateDeclined(epoch=epoch, error=error(codes.E_FAIL))
    for code in (codes.BG_E_CONNECTION_CLOSED, codes.BG_E_HTTP_ERROR_403, codes.BG_E_DESTINATION_LOCKED):
        yield events.Postponed(epoch=epoch, error=replace(error(codes.HTTP_STATUS_429), retry_after_seconds=40.0))
        yield events.AttemptFailed(epoch=epoch, error=error(code), spread=0.05)


def _of_reply(epoch: int, job: Job, a_temporary: Temporary) -> Iterator[events.Event]:
    """The news of an attempt that moves a reply."""
    index = job.reply_index
    yield created(epoch, index, a_temporary)
    yield events.Connected(epoch=epoch, file_index=index, validators=Validators(), size_bytes=100)
    yield events.Progressed(epoch=epoch, file_index=index, transferred_bytes=60)
    yield events.FileRestarted(epoch=epoch, file_index=index, note="changed")
    yield events.ReplyMoved(epoch=epoch, remote_name="https://other.example/reply")
    yield transferred(epoch, index, 100)


def _is_impossible(job: Job, event: events.Event) -> bool:
    if isinstance(event, events.FilesPublished):
        return not (job.is_completing and job.files[event.file_indexes[0]].is_transferred)
    if isinstance(event, events.TemporaryAdopted):
        is_heard = job.state.is_active and event.epoch == job.epoch
        return is_heard and event.temporary not in [leftover.temporary for leftover in job.leftovers]
    if isinstance(event, events.TakeOwnership):
        is_heard = not job.state.is_final and not job.is_completing and event.owner != job.owner
        return is_heard and any(file.is_transferred and file.temporary for file in job.files)
    if isinstance(event, events.PublishingEnded):
        return not job.is_completing
    if isinstance(event, events.TemporariesRemoved):
        return not job.state.is_final and job.files[event.file_indexes[0]].is_transferred
    return (type(event), job.state) in IMPOSSIBLE


def test_every_event_in_every_state_keeps_the_invariants(
    every_job: list[Job],
    a_file: Callable[..., File],
    a_temporary: Callable[..., Temporary],
    an_error: Callable[..., JobError],
    check_step: Callable[[Job, events.Event, Job, list[events.Effect]], None],
    now: Now,
) -> None:
    seen: set[type[events.Event]] = set()
    moves: set[tuple[JobState, type[events.Event], JobState]] = set()
    for job in every_job:
        for event in every_event(job, a_file("more"), a_temporary(".BIT00000009.tmp"), an_error):
            seen.add(type(event))
            if _is_impossible(job, event):
                with pytest.raises(InvariantBrokenError):
                    step(job, event, now)
                continue
            try:
                after, effects = step(job, event, now)
            except BitsError as refused:
                assert str(job.job_id) in refused.text  # noqa: PT017  # most of the calls are allowed
                continue
            check_step(job, event, after, effects)
            if after.state is not job.state:
                moves.add((job.state, type(event), after.state))
    assert seen == set(HANDLERS), "an event without a sample"
    assert transitions.LEGAL - moves <= UNREACHED, "a row of the table that no sample reaches"


UNREACHED = {
    (JobState.SUSPENDED, events.Resume, JobState.SUSPENDED),  # T3 changes nothing
    (JobState.TRANSFERRED, events.Resume, JobState.QUEUED),  # AddFiles leaves TRANSFERRED before files can be pending
}


def test_events_that_do_not_matter_give_the_very_same_job(every_job: list[Job], now: Now) -> None:
    for job in every_job:
        if (job.state, events.RetryDue) not in transitions.CONCERNED:
            after, effects = step(job, events.RetryDue(), now)
            assert after is job
            assert effects == []


def test_every_event_has_a_handler() -> None:
    known = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert set(HANDLERS) == known - {events.Event}


def test_a_job_that_need_not_wake_is_as_a_restart_leaves_it(every_job: list[Job], now: Now) -> None:
    asleep = [job for job in every_job if not wakes(job)]
    for job in asleep:
        stored = replace(job, retry_at=None, stalled_since=None)
        assert step(stored, events.ServiceRestarted(), now) == (stored, [])
    assert {job.state for job in asleep} >= {JobState.QUEUED, JobState.SUSPENDED}
    assert all(wakes(job) for job in every_job if job.state.is_active or job.is_completing or job.pending_notice)
