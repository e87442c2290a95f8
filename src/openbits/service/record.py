"""What the manager keeps in memory of a job: always its record, the job itself while somebody needs it.

A hundred thousand jobs wait in the store; in memory each is a record of half a kilobyte. `Record.job` reads the job
when it is asked for, and the shelf lets go of jobs that nothing is going on with. A job is read only while no commit of
it is under way, so there is never a second version of it.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from openbits.core.enums import JobState, Priority
from openbits.core.model import Job, JobError, JobId, Temporary
from openbits.service.deliveries import Delivery
from openbits.service.spawner_link import Token

KEPT = 10_000
"""So many jobs and files together stay in memory (some ten megabytes), more only while something goes on with them."""
RANGE_BYTES = 200
"""What a range of a file takes in memory."""
LOOKS = 64
"""How many jobs are looked at for one to let go of, each time one comes in."""


class Shelf:
    """What all records share: how a job is read, the jobs in memory as they came, and who holds a helper token."""

    def __init__(self, read: Callable[[JobId], Job]) -> None:
        self.read = read
        self.token_holders: dict[JobId, Record] = {}
        self._held: deque[Record] = deque()
        self._size = 0

    def put(self, record: "Record", before: Job | None, after: Job) -> None:
        """A record holds `after` now, and held `before`; others may have to make room.

        How much it takes is looked at when it comes, and with each change while it is not active: a job on
        the move is kept in any case, and one of thousands of files takes a step for each bunch of them.
        """
        if before is None:
            self._held.append(record)
        if before is None or not after.state.is_active or len(before.files) != len(after.files):
            size = _size(after)
            self._size += size - record.size
            record.size = size
        for _ in range(min(LOOKS, len(self._held))):
            if self._size <= KEPT:
                return
            oldest = self._held.popleft()
            if oldest is record or oldest.is_busy:
                self._held.append(oldest)
            else:
                self._size -= oldest.size
                oldest.size = 0
                oldest.let_go()


class Spare(NamedTuple):
    """Read-only descriptor of an unfinished file that a helper made; see `service.temporaries`."""

    temporary: Temporary
    descriptor: int


@dataclass(slots=True, eq=False)
class CertificateCallback:
    """Who is asked about the certificates of servers (jobs.md §9.8), and what it accepted since it was set (V4)."""

    subscriber_id: str
    sees: int | None
    """As `Record.subscriber_sees`."""
    accepted: set[tuple[str, bytes]] = field(default_factory=set)
    """host:port and SHA-256 of the certificate."""


@dataclass(slots=True, eq=False)
class Record:
    """A job in the manager. Handles keep it after the job has left the queue, so that getters still work."""

    shelf: Shelf
    number: int
    """Records are numbered in the order of their creation."""
    job_id: JobId
    owner_uid: int
    state: JobState
    priority: Priority
    is_stored: bool = True
    """False after the job was forgotten: then there is nothing to read it from."""
    commits: int = 0
    """Changes of this job on their way to the disk."""
    size: int = 0
    """What the shelf counts for it; 0: the job is not in memory."""
    transfer: "asyncio.Task[None] | None" = None
    live: dict[int, int] = field(default_factory=dict)
    """Bytes that arrived of each file on the move, by its index; not all of them on the disk yet."""
    phase: str = ""
    closing: "asyncio.Future[int] | None" = None
    """Result of the Complete or Cancel that is being carried out."""
    command_note: str = ""
    """How the last run of its notify command failed."""
    complete_error: JobError | None = None
    """Why the last Complete failed; the job stays and says so."""
    spares: dict[int, Spare] = field(default_factory=dict)
    """By the index of the file."""
    lost_temporaries: frozenset[int] = frozenset()
    """Indexes of files that began again because their temporary was gone; the next time is an error (OPEN-34)."""
    subscriber_id: str = ""
    """The event stream that gets the notices of the job (SetNotifyInterface); it may have ended."""
    subscriber_sees: int | None = None
    """The uid whose jobs it may see because it was chosen for one, None: everybody's; the job may change hands."""
    registrations: int = 0
    """How often that was chosen: the number of the present choice."""
    delivery: Delivery | None = None
    """The next notice of the job on its way to somebody; None: there is none, or nobody to tell."""
    certificate_callback: CertificateCallback | None = None
    last_progress_at: float = 0.0
    last_served_at: float = 0.0
    queued_at: float = 0.0
    active_since: float = 0.0
    changed_at: float = 0.0
    """When the job was last modified: its `modified_at` on the boot clock, which may be before the machine started."""
    told_of_expiry_at: float | None = None
    """The `changed_at` of which it was announced that the job will be cancelled for inactivity."""
    is_hurried: bool = False
    """Its next attempt, not its first, was asked for by hand: servers that want time are asked all the same."""
    look_again_at: float | None = None
    """Boot clock: when a job that waits for a condition to end is tried again; see `engine.CONDITION_SECONDS`."""
    _job: Job | None = None
    _clocks: tuple[float | None, float | None] | None = None
    """The boot-clock instants of a job that was let go of: the store does not have them."""
    _token: Token | None = None
    _filing: asyncio.Lock | None = field(default=None, repr=False)

    @property
    def job(self) -> Job:
        """The newest version of the job. Raises BitsError if it has to be read and the store is broken."""
        if self._job is None:
            job = self.shelf.read(self.job_id)
            if self._clocks is not None:
                retry_at, stalled_since = self._clocks
                job = replace(job, retry_at=retry_at, stalled_since=stalled_since)
            self.job = job
            return job
        return self._job

    @job.setter
    def job(self, job: Job) -> None:
        before, self._job = self._job, job
        self.owner_uid, self.state, self.priority = job.owner.uid, job.state, job.properties.priority
        self.shelf.put(self, before, job)

    @property
    def helper_token(self) -> Token | None:
        """The second identity of the job; it belongs to the record, which closes it."""
        return self._token

    @helper_token.setter
    def helper_token(self, token: Token | None) -> None:
        self._token = token
        if token is not None:
            self.shelf.token_holders[self.job_id] = self
        else:
            self.shelf.token_holders.pop(self.job_id, None)

    def drop_token(self) -> None:
        """Let go of the helper token."""
        if self._token is not None:
            self._token.close()
            self.helper_token = None

    @property
    def is_open_to_subscriber(self) -> bool:
        """False if the job now belongs to somebody whose jobs are not for whoever registered for it."""
        return self.subscriber_sees in {None, self.owner_uid}

    @property
    def is_busy(self) -> bool:
        """Something goes on with the job, or it has names that are not stored, so it stays in memory."""
        return self.commits > 0 or self.state.is_active or self._has_new_names

    @property
    def _has_new_names(self) -> bool:
        return self._job is not None and any(file.new_remote_name for file in self._job.files)

    def let_go(self) -> None:
        """Forget the job until it is asked for; one that is not in the store any more is kept."""
        if self.is_stored and self._job is not None:
            clocks = (self._job.retry_at, self._job.stalled_since)
            self._clocks = clocks if clocks != (None, None) else None
            self._job = None

    @property
    def filing(self) -> asyncio.Lock:
        """Held while files are opened, copied, published or removed: one such act at a time."""
        if self._filing is None:
            self._filing = asyncio.Lock()
        return self._filing

    def keep_spare(self, file_index: int, temporary: Temporary, descriptor: int) -> None:
        """Hold this descriptor, which belongs to the record from now on, in place of an earlier one of the file."""
        self._drop_spare(file_index)
        self.spares[file_index] = Spare(temporary, descriptor)
        self.drop_useless_spares()

    def drop_useless_spares(self) -> None:
        """Let go of the spares but those of unfinished files of a job that may go on."""
        for index, spare in list(self.spares.items()):
            file = self.job.file_at(index)
            if self.job.state.is_final or file.is_transferred or file.temporary != spare.temporary:
                self._drop_spare(index)

    def _drop_spare(self, file_index: int) -> None:
        spare = self.spares.pop(file_index, None)
        if spare is not None:
            os.close(spare.descriptor)


def _size(job: Job) -> int:
    """In units of a kilobyte or so, what strangers can make long included: headers of servers, ranges, secrets."""
    long_bytes = sum(len(secret.sealed) for secret in job.secrets)
    for file in job.every_file:
        ranges = len(file.ranges) + len(file.wanted) + len(file.filled)
        long_bytes += len(file.response_headers) + RANGE_BYTES * ranges
    return 1 + len(job.files) + long_bytes // 1024
