"""One notice on its way: how, to whom, how far it has come; and how that is told to people."""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass

from openbits.api.wire import NoticeInfo
from openbits.core import notices
from openbits.core.model import Job
from openbits.core.notices import Due

IN_FLIGHT = 4
"""Notices that may be in flight for one user (jobs.md §12.3 N3, identity.md A59)."""

Timer = Callable[[float, Callable[[], None]], asyncio.TimerHandle]
"""Calls a function after so many seconds, as `loop.call_later` does."""


class Means(enum.Enum):
    """How a notice is delivered, in the order of jobs.md §12.2."""

    CALLBACK = "the callback"
    PROGRAM = "the program of the notification class id"
    COMMAND = "the command line"


class Stage(enum.Enum):
    """How far it has come."""

    WAITING = enum.auto()
    """In line: as many notices as may be are in flight for this user."""
    SENT = enum.auto()
    """Handed over or begun; the answer is awaited."""
    FAILED = enum.auto()
    """Refused; `next_at` says when everything is tried again."""


@dataclass(slots=True, eq=False)
class Delivery:
    """The delivery of the next notice of a job; a record has at most one."""

    due: Due
    means: Means
    uid: int
    """Whose notice in flight it is."""
    since: float
    subscriber_id: str = ""
    """The event stream that is told; empty: a program is run."""
    stage: Stage = Stage.WAITING
    why: str = ""
    """How it failed."""
    next_at: float | None = None
    timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """It is not tried again."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def notice_info(job: Job, delivery: Delivery | None) -> NoticeInfo | None:
    """The next notice of a job, if somebody is to be told of it: to whom, since when, what comes next."""
    due = notices.due(job)
    if delivery is not None and delivery.due == notices.terminal(job):  # a command line does not wait for files
        due = delivery.due
    if due is None or not notices.is_wanted(job, due.notice):
        return None
    info: NoticeInfo = {
        "notice": due.notice.value,
        "file_index": due.file_index,
        "to": "nobody",
        "since": job.state_since,
        "next": "it is delivered when a program registers for the job",
        "next_at": None,
        "hint": "register a callback or set a command line; or complete or cancel the job, which drops it",
    }
    if delivery is None or delivery.due != due:
        return info
    info["to"], info["since"] = f"{delivery.means.value} of uid {delivery.uid}", delivery.since
    match delivery.stage:
        case Stage.WAITING:
            info["next"] = f"it is sent when one of the {IN_FLIGHT} that uid {delivery.uid} has in flight was answered"
            info["hint"] = "a callback that does not return holds up all notices of its user; end that program"
        case Stage.SENT:
            info["next"] = f"the answer of {delivery.means.value}"
            info["hint"] = "wait; if it does not return, end that program, and the next one to register is told"
        case Stage.FAILED:
            info["next"] = f"everything is tried again: {delivery.why}"
            info["next_at"] = delivery.next_at
            info["hint"] = "mend what refuses it; to be told at once, register again"
    return info
