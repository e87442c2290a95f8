"""Notices: JobTransferred and JobError to whoever registered for them, at least once (jobs.md §12).

The target of a job is one subscriber of the event stream (the last SetNotify wins, it is not persisted). A pending
notice is stored with the job until it is acknowledged with success; a refused one is delivered again after the
minimum retry delay; one whose subscriber vanished waits for the next subscriber. What is pending is dropped when the
job leaves the state (N8, `core.moves`).
"""

import asyncio

from openbits.api.wire import EventInfo
from openbits.core import codes, events
from openbits.core.enums import Notice, NotifyFlags
from openbits.core.errors import BitsError
from openbits.core.model import Job
from openbits.core.wording import name_of
from openbits.failpoints import failpoint
from openbits.service.engine import Engine
from openbits.service.events import Subscriber
from openbits.service.record import Record

FLAG_OF = {Notice.TRANSFERRED: NotifyFlags.JOB_TRANSFERRED, Notice.ERROR: NotifyFlags.JOB_ERROR}


class Notifier:
    """Who is to be told of which job, and what is under way to them; what it remembers is in the records."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def register(self, record: Record, subscriber: Subscriber | None, sees: int | None) -> int:
        """SetNotifyInterface; a pending notice is delivered at once, even if an earlier target had it before (N4).

        `sees`: the uid whose jobs the subscriber may see, None: everybody's. The number of the choice; whoever was
        chosen before is told that this one was `replaced`. Raises BG_E_INVALID_STATE for a final job.
        """
        if record.job.state.is_final:
            raise BitsError(
                codes.BG_E_INVALID_STATE, f"cannot register for the notices of {name_of(record.job)}: it is over"
            )
        previous = self._engine.stream.find(record.subscriber_id)
        if previous is not None and previous is not subscriber:
            previous.put({**self._event(record, "replaced"), "registration": record.registrations})
        _forget_delivery(record)
        record.subscriber_id = "" if subscriber is None else subscriber.subscriber_id
        record.subscriber_sees = sees
        record.registrations += 1
        self.deliver(record)
        return record.registrations

    def deliver(self, record: Record) -> None:
        """Send the pending notice of a job, if there is one, its flag is set and somebody listens."""
        job = record.job
        target = self._engine.stream.find(record.subscriber_id)
        if job.pending_notice is None or target is None or not _is_wanted(job):
            return
        if record.sent_notice == (target.subscriber_id, job.notice_seq):
            return
        record.sent_notice = (target.subscriber_id, job.notice_seq)
        failpoint("notice.due")
        notice = self._event(record, "notice")
        if record.is_open_to_subscriber:
            notice["job"] = self._engine.info(record)
        target.put({**notice, "notice": job.pending_notice.value, "notice_seq": job.notice_seq})
        failpoint("notice.queued")

    async def acknowledge(self, record: Record, uid: int, notice_seq: int, hresult: int) -> None:
        """The subscriber took the notice, or failed to: then it comes again (N5)."""
        subscriber_id, sent_seq = record.sent_notice or ("", -1)
        target = self._engine.stream.find(subscriber_id)
        if sent_seq != notice_seq or target is None or target.uid != uid:
            raise BitsError(codes.E_INVALIDARG, f"no notice {notice_seq} of job {record.job.job_id} was sent to you")
        if hresult == codes.S_OK:
            _forget_delivery(record)
            failpoint("notice.acknowledged")
            await self._engine.apply(record, events.NoticeDelivered(notice_seq))
            failpoint("notice.delivered")
            return
        if record.notice_timer is not None:  # refused twice
            record.notice_timer.cancel()
        delay = record.job.properties.minimum_retry_delay_seconds
        record.notice_timer = asyncio.get_running_loop().call_later(delay, self._again, record)

    def _again(self, record: Record) -> None:
        _forget_delivery(record)
        self.deliver(record)

    def _event(self, record: Record, kind: str) -> EventInfo:
        """What an event to the one registered subscriber has; it is not stored and repeats the last number."""
        now = self._engine.now().wall
        return {"seq": self._engine.stream.committed_seq, "at": now, "kind": kind, "job_id": str(record.job.job_id)}


def _forget_delivery(record: Record) -> None:
    record.sent_notice = None
    if record.notice_timer is not None:
        record.notice_timer.cancel()
        record.notice_timer = None


def _is_wanted(job: Job) -> bool:
    flags = job.properties.notify_flags
    if NotifyFlags.DISABLE in flags or job.pending_notice is None:
        return False
    return FLAG_OF[job.pending_notice] in flags
