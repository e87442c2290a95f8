"""How well a fixed limit is kept: the length of the file in the output folder, looked at every few milliseconds."""

import bisect
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import measure, peers
from bench.measure import Cost
from bench.peers import Task
from bench.place import Place

LIMITS: Final = (2_000_000, 20_000_000)
"""Bytes a second."""

SECONDS: Final = 6

SLOT_SECONDS: Final = 0.1
POLL_SECONDS: Final = 0.003

HEADING: Final = "     mean of the limit   worst 100 ms of the limit   CPU s per s"

Samples = list[tuple[float, int]]


def limited(place: Place, task: Task, rate: int, program: str) -> Cost:
    """Fetch with the limit, and see how the file grows."""
    samples: Samples = []
    is_over = threading.Event()
    watching = threading.Thread(target=_watch, args=(place.output, samples, is_over))
    watching.start()
    try:
        command = peers.PROGRAMS[program](replace(task, rate_bytes_per_second=rate), place.output)
        cost = measure.run(command, place.service if program == peers.OURS else None)
    finally:
        is_over.set()
        watching.join()
    (began, _), (ended, whole) = samples[0], next(one for one in samples if one[1] == samples[-1][1])
    extra = {
        "mean_of_limit": (whole - samples[0][1]) / (ended - began) / rate,
        "worst_slot_of_limit": worst_slot_bytes(samples) / SLOT_SECONDS / rate,
        "cpu_seconds_per_second": cost.cpu_seconds / cost.wall_seconds,
    }
    return replace(cost, extra=extra)


def worst_slot_bytes(samples: Samples) -> int:
    """Most bytes that came within any slot between two samples."""
    instants = [instant for instant, _ in samples]
    before = (bisect.bisect_left(instants, instant - SLOT_SECONDS) for instant in instants)
    return max(after[1] - samples[max(0, index)][1] for after, index in zip(samples, before, strict=True))


def tell(cost: Cost) -> str:
    """Figures of one program."""
    mean, worst, cpu = (cost.extra[name] for name in ("mean_of_limit", "worst_slot_of_limit", "cpu_seconds_per_second"))
    return f"{mean:22.3f} {worst:27.2f} {cpu:13.3f}"


def _watch(output: Path, samples: Samples, is_over: threading.Event) -> None:
    """Note how long the longest file is, from its first byte on."""
    while not is_over.wait(POLL_SECONDS):
        with os.scandir(output) as entries:
            lengths = [entry.stat().st_size for entry in entries]
        longest = max(lengths, default=0)
        if longest and (not samples or longest >= samples[-1][1]):
            samples.append((time.monotonic(), longest))
