"""What people are told of an upload beside its progress (upload-protocol.md §12, last row but one)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from openbits.core import uploading
from openbits.core.enums import JobState, JobType
from openbits.core.model import File, Job, UploadSession
from openbits.core.properties import Properties

SESSION = UploadSession(session_id="{1}", host="node3.example", fallback_seconds=86_400)


@pytest.mark.parametrize(
    ("session", "no_progress_seconds", "is_warned"),
    [
        (SESSION, 86_401, False),
        (SESSION, 86_400, True),
        (SESSION, 600, True),
        (replace(SESSION, fallback_seconds=None), 600, False),  # never falls back
        (replace(SESSION, host=""), 600, False),
        (None, 600, False),
    ],
)
def test_section_12_a_job_that_fails_before_it_falls_back_is_warned_of(
    session: UploadSession | None,
    no_progress_seconds: int,
    is_warned: bool,  # noqa: FBT001
    a_job: Callable[..., Job],
    a_file: Callable[..., File],
) -> None:
    file = a_file(is_upload=True, session=session, note="sent again")
    properties = Properties(no_progress_timeout_seconds=no_progress_seconds)
    job = a_job(JobState.TRANSFERRING, type=JobType.UPLOAD, files=(file,), properties=properties)
    told = uploading.note(job, file)
    assert told.startswith("sent again")
    assert ("node3.example" in told) is is_warned
    assert ("raise no-progress-timeout" in told) is is_warned
