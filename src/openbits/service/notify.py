"""Notices: JobTransferred and JobError to whoever registered for them, at least once (jobs.md §12).

The target of a job is one subscriber of the event stream (the last SetNotify wins, it is not persisted). A pending
notice is stored with the job until it is acknowledged with success; a refused one is delivered again after the
minimum retry delay; one whose subscriber vanished waits for the next subscriber.
"""

import asyncio

from openbits.core import codes, events
from openbits.core.enums import Notice, NotifyFlags
from openbits.core.errors import BitsError
from openbits.core.model import Job, JobId
from openbits.service.engine import Engine
from openbits.service.events import Subscriber
from openbits.service.record import Record
from openbits.service.views import job_info

FLAG_OF = {Notice.TRANSFERRED: NotifyFlags.JOB_TRANSFERRED, Notice.ERROR: NotifyFlags.JOB_ERROR}


class Notifier:
    """Who is to be told of which job, and what is under way to them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._targets: dict[JobId, str] = {}
        self._sent: dict[JobId, tuple[str, int]] = {}
        self._retries: dict[JobId, asyncio.TimerHandle] = {}

    def register(self, record: Record, subscriber: Subscriber | None) -> None:
        """SetNotifyInterface; a pending notice is delivered at once, even if an earlier target had it before (N4)."""
        job_id = record.job.job_id
        self._forget_delivery(job_id)
        if subscriber is None:
            self._targets.pop(job_id, None)
            return
        self._targets[job_id] = subscriber.subscriber_id
        self.deliver(record)

    def deliver(self, record: Record) -> None:
        """Send the pending notice of a job, if there is one, its flag is set and somebody listens."""
        job = record.job
        target = self._engine.stream.find(self._targets.get(job.job_id, ""))
        if job.pending_notice is None or target is None or not _is_wanted(job):
            return
        if self._sent.get(job.job_id) == (target.subscriber_id, job.notice_seq):
            return
        self._sent[job.job_id] = (target.subscriber_id, job.notice_seq)
        now = self._engine.now()
        target.put(
            {
                "seq": self._engine.stream.committed_seq,
                "at": now.wall,
                "kind": "notice",
                "job_id": str(job.job_id),
                "job": job_info(record, self._engine.candidates(), now),
                "notice": job.pending_notice.value,
                "notice_seq": job.notice_seq,
            }
        )

    async def acknowledge(self, record: Record, uid: int, notice_seq: int, hresult: int) -> None:
        """The subscriber took the notice, or failed to: then it comes again (N5)."""
        job_id = record.job.job_id
        subscriber_id, sent_seq = self._sent.get(job_id, ("", -1))
        target = self._engine.stream.find(subscriber_id)
        if sent_seq != notice_seq or target is None or target.uid != uid:
            raise BitsError(codes.E_INVALIDARG, f"no notice {notice_seq} of job {job_id} was sent to you")
        if hresult == codes.S_OK:
            self._forget_delivery(job_id)
            await self._engine.apply(record, events.NoticeDelivered(notice_seq))
            return
        delay = record.job.properties.minimum_retry_delay_seconds
        if job_id in self._retries:  # refused twice
            self._retries[job_id].cancel()
        self._retries[job_id] = asyncio.get_running_loop().call_later(delay, self._again, record)

    def subscriber_gone(self, subscriber_id: str) -> None:
        """A stream ended: its jobs have no target until somebody registers again."""
        for job_id in [job_id for job_id, target in self._targets.items() if target == subscriber_id]:
            del self._targets[job_id]
            self._forget_delivery(job_id)

    def _again(self, record: Record) -> None:
        self._forget_delivery(record.job.job_id)
        self.deliver(record)

    def _forget_delivery(self, job_id: JobId) -> None:
        self._sent.pop(job_id, None)
        timer = self._retries.pop(job_id, None)
        if timer is not None:
            timer.cancel()


def _is_wanted(job: Job) -> bool:
    flags = job.properties.notify_flags
    if NotifyFlags.DISABLE in flags or job.pending_notice is None:
        return False
    return FLAG_OF[job.pending_notice] in flags
