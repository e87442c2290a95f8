"""Watching a job until waiting for it is over: a progress line, heartbeat lines, or JSON lines.

On a terminal one line is drawn again and again. Elsewhere a line appears when the state changes and at least every
minute: nothing waits silently. All of it goes to standard error, JSON to standard output.
"""

import collections
import json
import os
import sys
import time
from typing import Protocol, TextIO

from openbits.api.client import Job, Outcome, outcome_of
from openbits.api.wire import JobInfo
from openbits.cli import exits, render
from openbits.cli.printing import columns_of
from openbits.core import codes

HEARTBEAT_SECONDS = 60.0
REDRAW_SECONDS = 1.0
RATE_WINDOW_SECONDS = 5.0


class Reporter(Protocol):
    """Shows one job as it moves. `now` is the wall clock."""

    def show(self, info: JobInfo, now: float) -> None:
        """There is news, or time has passed."""

    def end(self) -> None:
        """Nothing more comes."""


class Rate:
    """Bytes a second over the last few seconds."""

    def __init__(self) -> None:
        self._samples: collections.deque[tuple[float, int]] = collections.deque()

    def add(self, transferred_bytes: int, now: float) -> None:
        """So many bytes are here now; fewer than before mean that a file began again."""
        if self._samples and transferred_bytes < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, transferred_bytes))
        while len(self._samples) > 2 and self._samples[0][0] < now - RATE_WINDOW_SECONDS:
            self._samples.popleft()

    def bps(self) -> float:
        """Bytes a second, 0 while unknown."""
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


class Terminal:
    """One line that is drawn over itself."""

    def __init__(self) -> None:
        self._rate = Rate()

    def show(self, info: JobInfo, now: float) -> None:
        """Draw the line anew."""
        self._rate.add(info["bytes_transferred"], now)
        line = progress_line(info, self._rate.bps(), now)
        first = next(render.fitting(line, columns_of(sys.stderr) - 1))
        print(f"\r\x1b[K{first}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the last line standing."""
        print(file=sys.stderr)


class Heartbeat:
    """A line when the state changes, and every minute."""

    def __init__(self) -> None:
        self._rate = Rate()
        self._state = ""
        self._shown_at = 0.0

    def show(self, info: JobInfo, now: float) -> None:
        """Print a line if it is time for one."""
        self._rate.add(info["bytes_transferred"], now)
        if info["state"] == self._state and now - self._shown_at < HEARTBEAT_SECONDS:
            return
        self._state, self._shown_at = info["state"], now
        name = render.printable(info["properties"]["display_name"])
        print(f"{name}: {progress_line(info, self._rate.bps(), now)}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Every line was ended."""


class JsonLines:
    """Each state of the job as one line of JSON."""

    def show(self, info: JobInfo, now: float) -> None:
        """Print the job."""
        print(json.dumps({"event": "job", "at": now, "job": info}), flush=True)

    def end(self) -> None:
        """Every line was ended."""


def progress_line(info: JobInfo, bps: float, now: float) -> str:
    """Percent, bytes, rate, remaining time, and what it does or waits for."""
    return "  ".join([*amounts(info, bps), doing(info, now)])


def amounts(info: JobInfo, bps: float) -> list[str]:
    """Percent and bytes; rate and remaining time while bytes move. The reply of an upload is beside these numbers."""
    parts, reply = [render.progress(info)], info["reply"]
    if reply is not None and reply["bytes_total"] and info["state"] == "transferring":
        parts.append(f"reply {render.reply_state(reply)}")
    total, done = info["bytes_total"], info["bytes_transferred"]
    if bps > 0 and info["state"] == "transferring":
        parts.append(f"{render.size(bps)}/s")
        if total is not None and total > done:
            parts.append(f"{render.span((total - done) / bps)} left")
    return parts


def doing(info: JobInfo, now: float) -> str:
    """The phase, or the state and what the job waits for."""
    waiting = info["waiting"]
    if info["phase"]:
        return render.printable(info["phase"])
    if waiting is not None and info["state"] == "connecting":
        return render.printable(waiting["reason"])
    if waiting is not None and outcome_of(info) is None:
        return f"{info['state']}: {render.waiting_text(waiting, now)}"
    return info["state"]


def reporter_for(*, is_json: bool) -> Reporter:
    """The way to show progress here."""
    if is_json:
        return JsonLines()
    return Terminal() if can_draw(sys.stderr) else Heartbeat()


def can_draw(stream: TextIO) -> bool:
    """True for a terminal on which the cursor can be moved."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def watch(job: Job, reporter: Reporter, timeout_seconds: float | None = None) -> tuple[Outcome, JobInfo]:
    """Show the job until waiting for it is over: how it ended, and what it was then."""
    interval = REDRAW_SECONDS if isinstance(reporter, Terminal) else HEARTBEAT_SECONDS
    info = None
    try:
        for info in job.follow(interval=interval, timeout=timeout_seconds):
            reporter.show(info, time.time())
    finally:
        if info is not None:
            reporter.end()
    if info is None:
        info = job.info()
    return outcome_of(info) or Outcome.TIMEOUT, info


def exit_code(outcome: Outcome, info: JobInfo) -> int:
    """Exit code of a job that was waited for; one that publishes by itself and stays TRANSFERRED could not."""
    has_failed_to_publish = outcome is Outcome.TRANSFERRED and info["properties"].get("auto_complete")
    return exits.JOB_ERROR if has_failed_to_publish else exits.code_of_outcome(outcome)


def verdict(outcome: Outcome, info: JobInfo, now: float) -> list[str]:
    """What to tell about an end that is not plain success: why, and how to go on."""
    job_id = info["job_id"]
    reasons = list(render.reasons(info, now))
    match outcome:
        case Outcome.ERROR:
            error = info["error"]
            is_lost = error is not None and error["hresult"] == codes.BG_E_LOCAL_FILE_CHANGED  # for every attempt
            again = "" if is_lost else f"try again with: bits resume {job_id}; "
            return [*reasons[:1], f"{again}give up with: bits cancel {job_id}"]
        case Outcome.CANCELLED:
            return [f"job {job_id} was cancelled"]
        case Outcome.TIMEOUT:
            return [*reasons, f"job {job_id} is still {info['state']}; wait again with: bits wait {job_id}"]
        case Outcome.TRANSFERRED:
            return [*reasons, f"publish the files with: bits complete {job_id}"]
        case Outcome.ACKNOWLEDGED:
            return []
