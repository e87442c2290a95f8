"""What a run cost: wall time, CPU of every process that took part, peak memory; nothing is told here."""

import os
import resource
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_SECONDS = 0.05
"""How often the memory of a running program is looked at; the kernel keeps the highest figure meanwhile."""

PATIENCE_SECONDS = 300
"""Who takes longer has failed."""

MIB = 1 << 20

TICKS = os.sysconf("SC_CLK_TCK")


class FailedError(Exception):
    """A program could not do what it was asked; the text says what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One run: seconds on the clock, seconds of CPU, and the peak resident memory of processes by name, in bytes."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, float] = field(default_factory=dict)
    """Other figures of the section, by name."""


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure."""

    def of(figures: Iterable[float]) -> float:
        return statistics.median(figures)

    return Cost(
        wall_seconds=of(cost.wall_seconds for cost in costs),
        cpu_seconds=of(cost.cpu_seconds for cost in costs),
        peak_bytes={name: int(of(cost.peak_bytes[name] for cost in costs)) for name in costs[0].peak_bytes},
        extra={name: of(cost.extra[name] for cost in costs) for name in costs[0].extra},
    )


def run(command: Sequence[str | Path], watching: "Service | None" = None) -> Cost:
    """Run a program to its end; with a service that works for it, its CPU and memory too. Raises FailedError."""
    if watching is not None:
        watching.reset_peaks()
    name = "" if watching is None else "client"
    others = 0.0 if watching is None else watching.cpu_seconds()
    used, began = _children_cpu_seconds(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = _wait(process)
    words = process.communicate()[1]
    wall = time.perf_counter() - began
    if process.returncode != 0:
        raise FailedError(f"{Path(command[0]).name} ended with {process.returncode}: {words.strip()[-300:]}")
    cpu = _children_cpu_seconds() - used
    peaks = {name: peak}
    if watching is not None:
        cpu += watching.cpu_seconds() - others
        peaks.update(watching.peaks())
    return Cost(wall_seconds=wall, cpu_seconds=cpu, peak_bytes=peaks)


def act(deed: Callable[[], None], watching: "Service | None" = None) -> Cost:
    """Do something in this process, which starts others for it; with a service, its CPU and memory too."""
    if watching is not None:
        watching.reset_peaks()
    others = 0.0 if watching is None else watching.cpu_seconds()
    used, began = _children_cpu_seconds() + time.process_time(), time.perf_counter()
    deed()
    wall = time.perf_counter() - began
    cpu = _children_cpu_seconds() + time.process_time() - used
    if watching is None:
        return Cost(wall_seconds=wall, cpu_seconds=cpu)
    return Cost(wall_seconds=wall, cpu_seconds=cpu + watching.cpu_seconds() - others, peak_bytes=watching.peaks())


class Service:
    """The processes of a running service, from its spawner down."""

    def __init__(self, process_ids: Callable[[], Mapping[str, int]]) -> None:
        self._process_ids = process_ids
        self._spawner = process_ids()["spawner"]

    def cpu_seconds(self) -> float:
        """CPU that its processes have used so far, those included that have ended."""
        return sum(_cpu_seconds(pid) for pid in _family(self._spawner))

    def reset_peaks(self) -> None:
        """Begin anew with the peaks, where the kernel lets us."""
        for pid in _family(self._spawner):
            try:
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            except OSError:  # not ours: the peak since its start is told
                continue

    def peaks(self) -> Mapping[str, int]:
        """Peak resident memory of manager and workers (the largest) since the last reset, in bytes."""
        found: dict[str, int] = {}
        for name, pid in self._process_ids().items():
            kind = name.partition(":")[0]
            if kind in {"manager", "worker"}:
                found[kind] = max(found.get(kind, 0), _peak_bytes(pid))
        return found


def _wait(process: "subprocess.Popen[str]") -> int:
    """Wait for its end, or bring it about; returns its peak memory in bytes. It is left to be reaped."""
    peak, pidfd, deadline = 0, os.pidfd_open(process.pid), time.monotonic() + PATIENCE_SECONDS
    try:
        while not select.select([pidfd], [], [], SAMPLE_SECONDS)[0]:
            peak = max(peak, _peak_bytes(process.pid))
            if time.monotonic() > deadline:
                process.kill()
    finally:
        os.close(pidfd)
    return peak


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _peak_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _cpu_seconds(pid: int) -> float:
    """Its own and that of the children it has reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def _family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found.extend(map(int, task.read_text().split()))
            except OSError:
                continue
    return found
