"""Which job an argument means: an id, the beginning of one (4 characters or more), or a display name.

A name that several jobs have is refused with their ids: guessing completes or cancels the wrong job.
"""

import contextlib
import uuid

from openbits.api.client import Client, Job
from openbits.api.wire import JobInfo
from openbits.core import codes
from openbits.core.errors import BitsError

REFERENCE = "JOB is an id, the beginning of one (4 characters or more), or a display name that only one job has."

SHORTEST_PREFIX = 4


def find_job(client: Client, reference: str) -> Job:
    """The one job that is meant. Raises BG_E_NOT_FOUND, or E_INVALIDARG with the ids if there are several."""
    with contextlib.suppress(ValueError):
        return client.job(uuid.UUID(reference))
    found = matching(client.job_infos(), reference)
    if not found:
        with contextlib.suppress(BitsError):  # administrators may mean a job of somebody else
            found = matching(client.job_infos(all_users=True), reference)
    if len(found) == 1:
        return client.job(found[0]["job_id"])
    if not found:
        raise BitsError(codes.BG_E_NOT_FOUND, f"no job has the id or name {reference!r}; see: bits list")
    ids = ", ".join(info["job_id"] for info in found)
    raise BitsError(codes.E_INVALIDARG, f"{reference!r} may mean {len(found)} jobs: {ids}; use one of these ids")


def matching(infos: list[JobInfo], reference: str) -> list[JobInfo]:
    """The jobs whose id begins with the reference or whose display name is it."""
    prefix = reference.strip("{").lower()
    is_prefix = len(prefix) >= SHORTEST_PREFIX
    return [
        info
        for info in infos
        if (is_prefix and info["job_id"].startswith(prefix)) or info["properties"]["display_name"] == reference
    ]
