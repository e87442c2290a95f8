"""Which files of a job an attempt takes next, and how many it has under way (jobs.md S7, design.md §8).

`parallel_files` move at a time, in the order of the job. More are prepared ahead: as many as were finished in this
attempt, so one while a few large files come, and a good bunch when there are thousands of small ones. Bunches are worth
two commits: nothing is taken until half of those ahead are used up. Files of this machine and uploads are alone: each
needs more than a worker.
"""

from openbits.core import names, uploading
from openbits.core.model import File, Job

MOST_AHEAD = 64
"""Files that are prepared and do not move yet; also the largest bunch."""


def is_alone(file: File) -> bool:
    """It is moved with nothing beside it."""
    return file.is_upload or names.path_of(file.present_remote_name) is not None


def room(job: Job, under_way: int, finished: int) -> int:
    """How many more files to take while so many are under way and so many were finished in this attempt."""
    ahead = min(max(finished, 1), MOST_AHEAD)
    free = job.properties.parallel_files + ahead - under_way
    return min(free, MOST_AHEAD) if free * 2 >= ahead else 0


def due(job: Job, first: int, most: int, *, is_idle: bool) -> tuple[list[int], int]:
    """The next files to take, at most so many, from index `first` on; and the index behind what was looked at.

    `is_idle`: no other file is under way, so that one that has to be alone may begin. An upload may need its reply
    moved, whose index is given then (`uploading.moved_index`).
    """
    taken: list[int] = []
    for index in range(first, len(job.files)):
        file = job.files[index]
        if len(taken) == most:
            return taken, index
        if not is_to_be_moved(job, file):
            continue
        if is_alone(file):
            moved = uploading.moved_index(job, index)
            return ([moved], index + 1) if is_idle and not taken else (taken, index)
        taken.append(index)
    return taken, len(job.files)


def is_to_be_moved(job: Job, file: File) -> bool:
    """Something of it is to be fetched: on demand what was requested, else all that is not here."""
    return not file.is_transferred and (bool(file.wanted) or not job.properties.on_demand_mode)
