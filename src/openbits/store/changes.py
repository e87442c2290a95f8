"""What a store is told and what it tells: changes, stored events, the loaded queue, errors.

No database here: every kind of store takes these values. A change says what the manager has already done in memory;
the store decides nothing.
"""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from openbits.core.enums import JobState, Priority
from openbits.core.model import Job, JobId


class StoreError(Exception):
    """The store cannot be opened, read or written; the text names the file and the next step.

    `errno` is what the disk lacks: ENOSPC, EROFS, or EIO for everything else.
    """

    def __init__(self, text: str, number: int = errno.EIO) -> None:
        super().__init__(text)
        self.errno = number


class StoreDamagedError(StoreError):
    """What the store holds cannot be read (BG_E_DATABASE_CORRUPT); the next start sets it aside (jobs.md §18)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One entry of the event stream; `data` holds what JSON can say.

    The caller numbers events from `Loaded.last_seq` + 1 on, without a gap.
    """

    seq: int
    at: float
    kind: str
    job_id: JobId
    owner_uid: int
    file_index: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveJob:
    """Make the stored job equal to `after`; `before` is what is stored (None: the job is new)."""

    before: Job | None
    after: Job


@dataclass(frozen=True, slots=True)
class ForgetJob:
    """Remove the job and its files; its events stay. A job that is not there is no error."""

    job_id: JobId


@dataclass(frozen=True, slots=True)
class AppendEvent:
    """Append one event to the stream."""

    event: StoredEvent


Change = SaveJob | ForgetJob | AppendEvent


class Head(NamedTuple):
    """What a start reads of a job: enough to queue and to list it. `Store.job` reads the rest.

    A tuple, since a start makes a hundred thousand of them.
    """

    job_id: JobId
    owner_uid: int
    state: JobState
    priority: Priority
    state_since: float
    """Wall clock, as the next."""
    modified_at: float
    wakes: bool
    """A start has to look at the whole job (`lifecycle.wakes`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a start finds: the heads of the jobs in the order of their creation and the number of the last event.

    `was_damaged` is where an unreadable store was set aside (its temporaries are left behind), `damage` what was wrong
    with it; None and empty if all is well.
    """

    heads: list[Head]
    last_seq: int
    was_damaged: Path | None
    damage: str


def coalesce(changes: Iterable[Change]) -> list[Change]:
    """The shortest list that leads to the same end: forgotten jobs, then one save per job, then all events.

    Several saves of one job become one, from the first `before` to the last `after`.
    """
    forgotten: dict[JobId, ForgetJob] = {}
    saves: dict[JobId, SaveJob] = {}
    events: list[AppendEvent] = []
    for change in changes:
        match change:
            case SaveJob(after=after):
                first = saves.get(after.job_id, change)
                saves[after.job_id] = SaveJob(before=first.before, after=after)
            case ForgetJob(job_id):
                saves.pop(job_id, None)
                forgotten[job_id] = change
            case AppendEvent():
                events.append(change)
    return [*forgotten.values(), *saves.values(), *events]
