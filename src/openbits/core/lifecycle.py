"""The life of a job: `step(job, event, now)` gives the next version of the job and the effects to carry out.

Pure: no clock, no random, no I/O. The rules that hold:

* the state changes in `moves.enter` alone, and only along a row of `transitions.TRANSITIONS`;
* news carries the epoch of its attempt; late news (older epoch, or the job is not active any more) is dropped;
* a condition (timer, network, token) that means nothing in the present state is dropped;
* a request that the state forbids raises BitsError; what cannot happen at all raises InvariantBrokenError;
* effects that follow from the state alone are added in `step`, not by the handlers: StopTransfer (always the first)
  when a job stops being active, Notify when another notice is the next or the terminal one, RemoveTemporaries at the
  end, CancelSession then if a server knows of an upload that was given up (`abandoning`); the last three come again
  after a restart of the service, which may have cut them off (and with them the removal of leftovers);
  ForgetCommands when the job gives up a program that may be run for it (`service.commands` makes up for a lost one);
* a job that is being completed is in SUSPENDED, ERROR or TRANSFERRED: Complete stops the transfer first. Until
  PublishingEnded it refuses every request; another Complete joins the first.

Handlers are in `requests` (what clients ask for) and `news` (everything else), what they share in `moves`.
"""

from dataclasses import replace

from openbits.core import abandoning, codes, events, news, notices, requests, transitions
from openbits.core.enums import Integrity, JobType
from openbits.core.events import Effect, Event
from openbits.core.model import Identity, Job, JobId, Now
from openbits.core.moves import NOTICE_OF, Result
from openbits.core.moves import InvariantBrokenError as InvariantBrokenError  # noqa: PLC0414  # passed on
from openbits.core.properties import Properties
from openbits.core.timers import next_timer as next_timer  # noqa: PLC0414  # passed on
from openbits.core.timers import timer_event as timer_event  # noqa: PLC0414  # passed on

HANDLERS = {**requests.HANDLERS, **news.HANDLERS}


def new_job(
    *,
    job_id: JobId,
    owner: Identity,
    now: Now,
    display_name: str,
    type: JobType = JobType.DOWNLOAD,  # noqa: A002  # the name of the field
    umask: int = 0o022,
    owner_integrity: Integrity = Integrity.MEDIUM,
) -> Job:
    """CreateJob (T1): SUSPENDED, without files, all properties at their defaults."""
    return Job(
        job_id=job_id,
        type=type,
        properties=Properties(display_name=display_name),
        owner=owner,
        owner_integrity=owner_integrity,
        umask=umask,
        created_at=now.wall,
        modified_at=now.wall,
        state_since=now.wall,
    )


def step(job: Job, event: Event, now: Now) -> Result:
    """Let `event` happen to `job`: the next version of it, and what has to be done after that was committed.

    Raises BitsError for a request that is refused (jobs.md §3.3) and InvariantBrokenError for an impossible event.
    Whatever means nothing any more gives the same job and no effect.
    """
    kind = type(event)
    handler = HANDLERS.get(kind)
    if handler is None:
        raise InvariantBrokenError(f"{kind.__name__} is no event of a job")
    if kind in requests.HANDLERS:
        requests.refuse_unless_allowed(job, kind)
    elif news.is_meaningless(job, event):
        return job, []
    after, effects = handler(job, event, now)
    is_moved = after.state is not job.state
    if is_moved and (job.state, kind, after.state) not in transitions.LEGAL:
        raise InvariantBrokenError(f"no transition {job.state.name} to {after.state.name} by {kind.__name__}")
    if is_activity(job, event, after):
        after = replace(after, modified_at=now.wall)
    return after, [*_before(job, after), *effects, *_afterwards(job, after, is_restart=kind is events.ServiceRestarted)]


def _is_change(job: Job, event: Event, after: Job) -> bool:
    """What ModificationTime counts (jobs.md §2.3)."""
    return after.state is not job.state or type(event) in requests.HANDLERS or after.files is not job.files


def is_activity(job: Job, event: Event, after: Job) -> bool:
    """Whether this step sets the modification time, and with it the inactivity timer, back (jobs.md §2.3, §3.4).

    A restart of the service is nobody's activity: the queue of a machine that is often restarted is cleaned up, too.
    """
    return not isinstance(event, events.ServiceRestarted) and _is_change(job, event, after)


def is_modification(job: Job, event: Event, after: Job) -> bool:
    """JobModification tells of it (jobs.md §12.1): every change but those to the states that have notices of their own.

    Bytes on their way to the disk are no step, and are modifications too.
    """
    has_own_notice = after.state is not job.state and after.state in NOTICE_OF
    return not has_own_notice and _is_change(job, event, after)


def is_told_of(job: Job, event: Event, after: Job) -> bool:
    """True if somebody who has registered for the job hears of it by another notice than those of states and files.

    Ranges that have come are told of also if the job ends with them (FileRangesTransferred).
    """
    return is_modification(job, event, after) or (isinstance(event, events.RangesFilled) and after is not job)


def _before(job: Job, after: Job) -> list[Effect]:
    return [events.StopTransfer()] if job.state.is_active and not after.state.is_active else []


def _afterwards(job: Job, after: Job, *, is_restart: bool) -> list[Effect]:
    effects: list[Effect] = []
    is_over = after.state.is_final and not is_forgotten(after)
    due = notices.due(after)
    is_another = (due, notices.terminal(after)) != (notices.due(job), notices.terminal(job))
    if due is not None and (is_restart or is_another):
        effects.append(events.Notify(due.notice_seq))
    if (after.state is not job.state and is_over) or (is_restart and (is_over or after.leftovers)):
        effects.append(events.RemoveTemporaries())
    if (after.state is not job.state or is_restart) and abandoning.abandoned(after) is not None:
        effects.append(events.CancelSession())
    given_up = tuple(one for one in job.commands if not any(map(one.runs_like, after.commands)))
    if given_up:
        effects.append(events.ForgetCommands(given_up))
    return effects


def check_not_final(job: Job, kind: type[Event] = events.SetProperties) -> None:
    """Refuse what every request refuses, for those who act before they step: the job is final or being completed.

    Raises BitsError BG_E_INVALID_STATE, whose text names the request `kind`.
    """
    requests.refuse_unless_allowed(job, kind)


def admitted_uids(job: Job) -> set[int]:
    """Whom the service must be able to act for without a connection: the owner, and old owners with a leftover."""
    return {job.owner.uid, *(left.temporary.uid for left in job.leftovers if not left.temporary.by_helper)}


def removable(job: Job) -> tuple[int, ...]:
    """Indexes of the files whose temporaries are of no use any more: those that a final job still has."""
    if not job.state.is_final:
        return ()
    everything = enumerate(job.every_file)
    return tuple(index for index, file in everything if file.temporary is not None and not file.is_placed)


def is_forgotten(job: Job) -> bool:
    """Nothing is left to do for the job: its row may go. Until then a final job is a tombstone."""
    is_over = job.state.is_final and not removable(job) and not job.leftovers
    return is_over and abandoning.abandoned(job) is None


def complete_result(job: Job) -> int:
    """What a successful Complete returns (jobs.md §8.4): BG_S_PARTIAL_COMPLETE if any file was not transferred."""
    return codes.S_OK if job.current_file is None else codes.BG_S_PARTIAL_COMPLETE


def wakes(job: Job) -> bool:
    """Whether a start of the service has to look at a job that it finds stored like this.

    It need not if the restart (T25) changes nothing and asks for nothing.
    """
    stored = replace(job, retry_at=None, stalled_since=None, transferring_since=None)
    after, effects = step(stored, events.ServiceRestarted(), Now(wall=0.0, boot=1.0))
    return bool(effects) or after != stored
