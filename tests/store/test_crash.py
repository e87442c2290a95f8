"""kill -9 at random moments (reliability.md P1, P4): acknowledged is there, all is whole, numbers have no gap."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from tests.store.reading import jobs_in

from openbits.store import open_store

ROUNDS = 20
PROGRAM = Path(__file__).with_name("crash_program.py")


def killed_after(directory: Path, seed: int, *, lines: int, seconds: float = 0.0) -> dict[int, str]:
    """Run the program until it has acknowledged so many submissions, kill it; all it acknowledged: job by number."""
    command = [sys.executable, str(PROGRAM), str(directory), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"opening\n"
        first = [process.stdout.readline() for _ in range(lines)]
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().splitlines(keepends=True)
    assert process.returncode == -signal.SIGKILL
    whole = [line.decode().split() for line in (*first, *rest) if line.endswith(b"\n")]
    return {int(seq): job_id for seq, job_id in whole}


def assert_sound(directory: Path, acknowledged: dict[int, str]) -> None:
    """Everything acknowledged is there, nothing is half there, the numbers have no gap."""
    store = open_store(directory)
    with closing(sqlite3.connect(directory / "queue.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    loaded, jobs = store.load(), jobs_in(store)
    events = store.events_after(0, None, -1)
    store.close()

    assert loaded.was_damaged is None
    assert [event.seq for event in events] == list(range(1, loaded.last_seq + 1))
    assert acknowledged.items() <= {event.seq: str(event.job_id) for event in events}.items()
    last_seq_of = {event.job_id: event.seq for event in events}
    assert {job.job_id: job.notice_seq for job in jobs} == last_seq_of
    assert all(file.transferred_bytes == job.notice_seq for job in jobs for file in job.files)


def test_nothing_acknowledged_is_lost_and_nothing_is_half_there(directory: Path) -> None:
    chance = random.Random(20)  # noqa: S311  # a workload, not a secret
    acknowledged: dict[int, str] = {}
    for seed in range(ROUNDS):
        acknowledged |= killed_after(directory, seed, lines=chance.choice([0, 1, 2, 10, 50, 300]))
        assert_sound(directory, acknowledged)
    assert len(acknowledged) > ROUNDS


def test_a_store_whose_making_was_cut_short_is_made_at_the_next_start(tmp_path: Path) -> None:
    chance = random.Random(21)  # noqa: S311  # a workload, not a secret
    for seed in range(ROUNDS):
        directory = tmp_path / str(seed)
        directory.mkdir(mode=0o700)
        acknowledged = killed_after(directory, seed, lines=0, seconds=chance.uniform(0.0, 0.005))
        assert_sound(directory, acknowledged)
