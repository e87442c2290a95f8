"""What the manager keeps in memory beside a job: its token, its running transfer, what is not worth storing."""

import asyncio
from dataclasses import dataclass, field

from openbits.core.model import Job, JobError
from openbits.service.spawner_link import Token


@dataclass(slots=True, eq=False)
class Record:
    """A job in the manager. Handles keep it after the job has left the queue, so that getters still work."""

    job: Job
    helper_token: Token | None = None
    transfer: "asyncio.Task[None] | None" = None
    live_bytes: int | None = None
    """Bytes of the current file that arrived, not all of them on the disk yet; None outside a transfer."""
    phase: str = ""
    closing: "asyncio.Future[int] | None" = None
    """Result of the Complete or Cancel that is being carried out."""
    complete_error: JobError | None = None
    """Why the last Complete failed; the job stays and says so."""
    filing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while files are published or removed: one such act at a time."""
    lost_temporaries: set[int] = field(default_factory=set)
    """Indexes of files that began again because their temporary was gone; the next time is an error (OPEN-34)."""
    last_progress_at: float = 0.0
    last_served_at: float = 0.0
    queued_at: float = 0.0
    active_since: float = 0.0
    look_again_at: float | None = None
    """Boot clock: when a job that waits for a condition to end is tried again; see `engine.CONDITION_SECONDS`."""

    def drop_token(self) -> None:
        """Let go of the helper token."""
        if self.helper_token is not None:
            self.helper_token.close()
            self.helper_token = None
