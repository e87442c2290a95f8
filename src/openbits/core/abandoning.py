"""Uploads that were given up: their server is told so after the job is over (jobs.md §3.4 "Upload cancel", OPEN-21).

A cancelled job whose upload has a session stays as a tombstone, which nobody sees and no limit counts. It keeps what
was entrusted to it, because the server may ask for that, until the server has been told or so much time has passed that
its own clean-up will do. Sessions of finished uploads are closed: those files stay where they are.
"""

from typing import Final

from openbits.core.access import Use, Who, identity_for
from openbits.core.enums import JobState
from openbits.core.model import File, Job

LONGEST_SECONDS: Final = 86_400.0
"""A server that was not reached so long after Cancel is not told any more."""


def has_session(file: File) -> bool:
    """The server keeps something for this upload that is not finished."""
    return file.session is not None and not file.is_transferred


def keeps_secrets(job: Job, state: JobState) -> bool:
    """False if what was entrusted to the job is erased when it enters this state."""
    return not state.is_final or (state is JobState.CANCELLED and any(map(has_session, job.files)))


def abandoned(job: Job) -> int | None:
    """Index of the upload whose session the server is to forget; None if there is nothing to tell (any more)."""
    if job.state is not JobState.CANCELLED:
        return None
    return next((index for index, file in enumerate(job.files) if has_session(file)), None)


def needs_helper(job: Job) -> bool:
    """The helper of the job is who tells the server: its token is kept until then."""
    return abandoned(job) is not None and identity_for(job.helper_token_flags, Use.SOCKET) is Who.HELPER


def seconds_left(job: Job, now_wall: float) -> float:
    """How long the server may still be told: by the wall clock, but never longer than a job that was cancelled now."""
    most = min(LONGEST_SECONDS, float(job.properties.no_progress_timeout_seconds))
    return min(most, job.state_since + most - now_wall)
