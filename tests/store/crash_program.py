"""Commits without end and says what was acknowledged: `crash_program.py DIRECTORY SEED`, to be killed.

Each submission saves one job with the event's number as progress of its files and appends that event; one line per
acknowledged submission: `<seq> <job_id>`. The first line says that it opens the store.
"""

import functools
import os
import random
import signal
import sys
import threading
import uuid
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from openbits.core.model import Directory, File, Identity, Job, JobId
from openbits.store import AppendEvent, SaveJob, StoredEvent, Writer, open_store

PIPELINE = 8
LIFE_SECONDS = 60


def new_job(chance: random.Random) -> Job:
    """A job with two files."""
    here = Directory(path="/srv", dev=1, ino=2)
    files = tuple(File(remote_name=f"https://h/{n}", local_name=f"/srv/{n}", directory=here, name=n) for n in "ab")
    job_id = uuid.UUID(int=chance.getrandbits(128))
    owner = Identity(uid=1000, gid=1000)
    return Job(job_id=job_id, owner=owner, created_at=1.0, modified_at=1.0, state_since=1.0, files=files)


def with_progress(job: Job, seq: int) -> Job:
    """Row of the job and rows of its files carry the same number."""
    files = tuple(replace(file, transferred_bytes=seq) for file in job.files)
    return replace(job, files=files, notice_seq=seq)


def acknowledge(seq: int, job_id: JobId, slots: threading.Semaphore, future: Future[None]) -> None:
    """Say that the submission is on the disk."""
    future.result()  # a failure goes to stderr and keeps its slot, until the alarm ends the program
    os.write(1, f"{seq} {job_id}\n".encode())
    slots.release()


def main() -> None:
    """Submit until killed."""
    signal.alarm(LIFE_SECONDS)
    os.write(1, b"opening\n")
    chance = random.Random(int(sys.argv[2]))  # noqa: S311  # a workload, not a secret
    store = open_store(Path(sys.argv[1]))
    loaded = store.load()
    jobs = dict(enumerate(store.job(head.job_id) for head in loaded.heads))
    slots = threading.Semaphore(PIPELINE)
    writer = Writer(store)
    for seq in range(loaded.last_seq + 1, sys.maxsize):
        number = chance.randrange(20)
        before = jobs.get(number)
        jobs[number] = after = with_progress(before or new_job(chance), seq)
        event = StoredEvent(seq=seq, at=1.0, kind="state", job_id=after.job_id, owner_uid=1000)
        slots.acquire()
        future = writer.submit([SaveJob(before=before, after=after), AppendEvent(event)])
        future.add_done_callback(functools.partial(acknowledge, seq, after.job_id, slots))


if __name__ == "__main__":
    main()
