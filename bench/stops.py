"""Files that do not come in one go: parts of one, and one that its user stops and resumes again and again.

`bits` is driven through its Python API here. Everybody is stopped as soon as the file in the output folder has so many
bytes; what was fetched twice the server's log tells.
"""

import contextlib
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import measure, peers
from bench.measure import MIB, Cost, FailedError
from bench.peers import Command, Task
from bench.place import Place

import openbits
from openbits.core.enums import Priority
from openbits.core.errors import BitsError

FILE_BYTES: Final = 512 * MIB
NAME: Final = "0000"

RANGES: Final = 200
PART_BYTES: Final = 256 * 1024
RANGES_BYTES: Final = RANGES * PART_BYTES
RANGES_TITLE: Final = f"{RANGES} ranges of {PART_BYTES // 1024} KiB of one file"

STOPS: Final = 50
RATE: Final = 256 * MIB
RESUME_TITLE: Final = (
    f"one file of {FILE_BYTES // MIB} MiB, stopped and resumed {STOPS} times, from a server at {RATE // MIB} MiB/s"
)
RESUME_HEADING: Final = "  seconds    ms per stop   fetched, of the file"

PATIENCE_SECONDS: Final = 300
POLL_SECONDS: Final = 0.002


def ranges(place: Place, program: str, *, tls: bool) -> Cost:
    """Fetch parts that lie apart: curl into a file each, over one connection."""
    step = FILE_BYTES // RANGES
    starts = [number * step for number in range(RANGES)]
    url = place.nginx.url(f"/ranges/{NAME}", tls=tls)
    if program == peers.OURS:
        parts = [(start, PART_BYTES) for start in starts]
        return measure.act(lambda: _ranges_by_api(url, place.output / NAME, parts), place.service)
    task = _task(place, tls=tls)
    usual = f'cacert="{task.ca}"\nnoproxy="*"\nfail\nurl="{url}"'
    asked = [f'{usual}\noutput="{place.output}/{start}"\nrange={start}-{start + PART_BYTES - 1}' for start in starts]
    listed = task.listed("ranges", ["\nnext\n".join(asked)])
    return measure.run(["curl", "-q", "--silent", "--show-error", "--config", listed])


def _ranges_by_api(url: str, path: Path, parts: list[tuple[int, int]]) -> None:
    with openbits.Client() as client:
        job = client.create_job("ranges", priority=Priority.FOREGROUND, auto_complete=True)
        try:
            job.add_file_with_ranges(url, path, parts)
            _finish(job)
        except BitsError as error:
            job.cancel()
            raise FailedError(str(error)) from None


def resume(place: Place, program: str) -> Cost:
    """Fetch the file with so many stops, at the same bytes for all."""
    with place.slow_server(RATE) as nginx:
        task = replace(_task(place, tls=False), base=nginx.url("/resume"))
        points = [FILE_BYTES * number // (STOPS + 1) for number in range(1, STOPS + 1)]
        if program == peers.OURS:
            cost = measure.act(lambda: _resume_by_api(task, place.output, points), place.service)
        else:
            command = _continuing(program, task, place.output)
            cost = measure.act(lambda: _resume_by_signals(command, place.output, points))
        if [path.stat().st_size for path in place.output.iterdir()] != [FILE_BYTES]:
            raise FailedError("the file is not whole")
        fetched = sum(int(line.split('" ')[1].split()[1]) for line in nginx.requests())
    per_stop = (cost.wall_seconds - FILE_BYTES / RATE) / STOPS * 1000
    return replace(cost, extra={"ms_per_stop": per_stop, "fetched_of_file": fetched / FILE_BYTES})


def tell_resume(cost: Cost) -> str:
    """Figures of one program."""
    return f"{cost.wall_seconds:9.2f} {cost.extra['ms_per_stop']:14.0f} {cost.extra['fetched_of_file']:22.2f}"


def _resume_by_api(task: Task, output: Path, points: list[int]) -> None:
    with openbits.Client() as client:
        job = client.create_job("resume", priority=Priority.FOREGROUND, auto_complete=True)
        job.add_file(task.urls[0], output / NAME)
        for point in points:
            job.resume()
            _until_fetched(output, point)
            job.suspend()
        _finish(job)


def _resume_by_signals(command: Command, output: Path, points: list[int]) -> None:
    for point in points:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _until_fetched(output, point)
        finally:
            process.terminate()
            process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for control in output.glob("*.aria2"):
        control.unlink()


def _continuing(program: str, task: Task, output: Path) -> Command:
    """The command that goes on where the last one was stopped."""
    option = {"curl": ("--continue-at", "-"), "aria2c": ("--continue=true",), "wget2": ("--continue",)}[program]
    command = list(peers.PROGRAMS[program](task, output))
    return [command[0], command[1], *option, *command[2:]]


def _finish(job: openbits.Job) -> None:
    job.resume()
    outcome = job.wait(PATIENCE_SECONDS)
    if outcome is not openbits.Outcome.ACKNOWLEDGED:
        raise FailedError(f"{outcome.value}: {job.error['detail'] if job.error else ''}")


def _fetched(output: Path) -> int:
    """How long the file in the folder is."""
    longest = 0
    with os.scandir(output) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                longest = max(longest, entry.stat().st_size)
    return longest


def _until_fetched(output: Path, point: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _fetched(output) < point:
        if time.monotonic() > deadline:
            raise FailedError(f"no progress to byte {point} within {PATIENCE_SECONDS} s")
        time.sleep(POLL_SECONDS)


def _task(place: Place, *, tls: bool) -> Task:
    return Task(
        base=place.nginx.url("", tls=tls),
        names=(NAME,),
        total_bytes=FILE_BYTES,
        parallel=1,
        ca=place.certificates.ca,
        scratch=place.scratch,
    )
