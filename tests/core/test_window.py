"""Which files an attempt takes next (jobs.md S7; docs/processes.md, "Files of an attempt")."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from openbits.core.enums import JobState
from openbits.core.model import File, Job, Range
from openbits.core.properties import Properties
from openbits.core.window import due, room

MakeJob = Callable[..., Job]
MakeFile = Callable[..., File]


@pytest.mark.parametrize(
    ("at_a_time", "under_way", "finished", "more"),
    [
        (1, 0, 0, 2),  # the first one, and one ahead
        (1, 2, 0, 0),
        (1, 1, 1, 1),
        (1, 1, 8, 8),
        (8, 0, 0, 9),
        (8, 8, 2, 2),
        (8, 8 + 64, 500, 0),
        (8, 8 + 33, 500, 0),  # not worth two commits yet
        (8, 8 + 32, 500, 32),
        (128, 0, 10_000, 64),  # never more than a message has room for
        (1, 9, 0, 0),  # fewer at a time than when these were taken
    ],
)
def test_as_many_are_ahead_as_were_finished(
    a_job: MakeJob, at_a_time: int, under_way: int, finished: int, more: int
) -> None:
    job = a_job(JobState.TRANSFERRING, properties=Properties(parallel_files=at_a_time))
    assert room(job, under_way, finished) == more


def test_files_come_in_their_order_and_what_is_transferred_is_passed(a_job: MakeJob, a_file: MakeFile) -> None:
    files = tuple(a_file(name, is_transferred=name in "bd") for name in "abcdef")
    job = a_job(JobState.TRANSFERRING, files=files)
    assert due(job, 0, 2, is_idle=True) == ([0, 2], 3)
    assert due(job, 3, 2, is_idle=False) == ([4, 5], 6)
    assert due(job, 6, 2, is_idle=False) == ([], 6)
    assert due(job, 0, 0, is_idle=False) == ([], 0)


def test_a_file_of_this_machine_waits_until_nothing_moves_and_then_moves_alone(
    a_job: MakeJob, a_file: MakeFile
) -> None:
    local = replace(a_file("b"), remote_name="file:///srv/b")
    job = a_job(JobState.TRANSFERRING, files=(a_file("a"), local, a_file("c")))
    assert due(job, 0, 9, is_idle=True) == ([0], 1)
    assert due(job, 1, 9, is_idle=False) == ([], 1)
    assert due(job, 1, 9, is_idle=True) == ([1], 2)
    assert due(job, 2, 9, is_idle=True) == ([2], 3)


def test_an_upload_moves_alone(a_job: MakeJob, a_file: MakeFile) -> None:
    job = a_job(JobState.TRANSFERRING, files=(a_file("a", is_upload=True),))
    assert due(job, 0, 9, is_idle=False) == ([], 0)
    assert due(job, 0, 9, is_idle=True) == ([0], 1)


def test_on_demand_only_what_is_wanted_is_taken(a_job: MakeJob, a_file: MakeFile) -> None:
    wanted = (Range(offset=0, length_bytes=5),)
    files = (a_file("a"), a_file("b", wanted=wanted), a_file("c"))
    job = a_job(JobState.TRANSFERRING, files=files, properties=Properties(on_demand_mode=True))
    assert due(job, 0, 9, is_idle=True) == ([1], 3)
