"""`bits watch`: jobs as they move, a line for each, until none of them moves by itself any more.

On a terminal the lines are drawn again and again. Elsewhere a line appears when a job changes what it does and at
least every minute. It shows only: Ctrl-C leaves the jobs alone.
"""

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from openbits.api.client import Client, Outcome, outcome_of
from openbits.api.resuming import ResumingEvents
from openbits.api.wire import EventInfo, JobInfo
from openbits.cli import exits, render
from openbits.cli.printing import columns_of
from openbits.cli.selection import REFERENCE, find_job
from openbits.cli.watch import (
    HEARTBEAT_SECONDS,
    REDRAW_SECONDS,
    Rate,
    amounts,
    can_draw,
    exit_code,
    verdict,
)

ROWS_A_JOB = 2

REFRESH_SECONDS = 10.0
"""What a job waits for may change without an event of its own: all are read anew this often."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits watch`."""
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="the jobs (default: all of yours, new ones too)")
    parser.add_argument("--all-users", action="store_true", help="jobs of everybody (administrators)")
    parser.add_argument("--json", action="store_true", help="print JSON lines: each state of a job, and its result")
    parser.epilog = f"Ends when every job is transferred, in error or gone; Ctrl-C leaves the jobs alone. {REFERENCE}"


def run(options: argparse.Namespace) -> int:
    """Show the jobs until all of them are over."""
    view: View = JsonView() if options.json else Screen() if can_draw(sys.stdout) else Lines()
    with Client() as client:
        try:
            return Watching(client, options.jobs, view, all_users=options.all_users).run()
        except KeyboardInterrupt:
            print("\nbits: stopped watching; the jobs go on", file=sys.stderr)
            return exits.INTERRUPTED


class View(Protocol):
    """Shows jobs. `now` is the wall clock; `note` is what people should know besides."""

    interval: float
    """Seconds after which it wants to show them again without news."""

    def show(self, infos: Sequence[JobInfo], changed: JobInfo | None, now: float, note: str) -> None:
        """There is news of the job `changed`, or (None) time has passed."""

    def end(self, infos: Sequence[JobInfo], now: float) -> None:
        """All are over."""


class Watching:
    """The jobs that are watched and what was last heard of them."""

    def __init__(self, client: Client, references: Sequence[str], view: View, *, all_users: bool) -> None:
        self._client, self._view = client, view
        self._named = [find_job(client, reference) for reference in references]
        self._infos = {str(job.id): job.info() for job in self._named}
        mine = client.info["caller_uid"]
        self._all_users = all_users or any(info["owner_uid"] != mine for info in self._infos.values())

    def run(self) -> int:
        """Until all are over; the exit code of the first that failed."""
        job_ids = [job.id for job in self._named] or None
        with ResumingEvents(self._client, job_ids=job_ids, all_users=self._all_users) as events:
            self._infos = {str(job.id): job.info() for job in self._named}  # what ended before the events began
            self._refresh()
            refreshed_at = time.monotonic()
            self._view.show(self._listed(), None, time.time(), "")
            while not self._is_over():
                event = events.next(self._view.interval)
                if event is not None:
                    self._take(event)
                if events.loss is None and time.monotonic() - refreshed_at >= REFRESH_SECONDS:
                    self._refresh()
                    refreshed_at = time.monotonic()
                changed = self._infos.get(event["job_id"]) if event is not None else None
                note = f"{events.loss.why}; waiting for the service" if events.loss is not None else ""
                self._view.show(self._listed(), changed, time.time(), note)
        self._view.end(self._listed(), time.time())
        return next((code for code in map(_code, self._listed()) if code), exits.OK)

    def _listed(self) -> list[JobInfo]:
        return sorted(self._infos.values(), key=lambda info: (info["created_at"], info["job_id"]))

    def _is_over(self) -> bool:
        return all(outcome_of(info) is not None for info in self._infos.values())

    def _refresh(self) -> set[str]:
        """Read the jobs anew; the ids of all that are in the queue."""
        self._client.reconnect()
        there = {info["job_id"]: info for info in self._client.job_infos(all_users=self._all_users)}
        self._infos |= {name: info for name, info in there.items() if not self._named or name in self._infos}
        return set(there)

    def _take(self, event: EventInfo) -> None:
        """A job that left the queue while the service was away has only its last state in the stored events."""
        known, info, state = self._infos.get(event["job_id"]), event.get("job"), event.get("state")
        if info is not None:
            self._infos[info["job_id"]] = info
        elif known is not None and state is not None:
            self._infos[event["job_id"]] = {**known, "state": state, "waiting": None, "phase": ""}
            if state == "error":
                self._refresh()  # it is in the queue, with the reason
        if event["kind"] == "overflow":
            self._drop_what_is_gone()

    def _drop_what_is_gone(self) -> None:
        """Events were missed: what is not in the queue any more ended in a way that nobody can tell now."""
        there = self._refresh()
        for job_id, info in list(self._infos.items()):
            if job_id not in there and outcome_of(info) is None:
                del self._infos[job_id]
                print(f"bits: job {job_id} left the queue; how is not known any more", file=sys.stderr)


class Screen:
    """Lines that are drawn over themselves; a long one goes on below, in ROWS_A_JOB rows at most."""

    interval = REDRAW_SECONDS

    def __init__(self) -> None:
        self._rates: dict[str, Rate] = {}
        self._drawn = 0

    def show(self, infos: Sequence[JobInfo], changed: JobInfo | None, now: float, note: str) -> None:
        """Draw all lines anew."""
        width = columns_of(sys.stdout) - 1
        texts = [*_lines(infos, self._rates, now), *([note] if note else [])]
        lines = [part for text in texts for part in itertools.islice(render.fitting(text, width), ROWS_A_JOB)]
        height = _rows() - 1
        if len(lines) > height:
            lines = [*lines[: height - 1], f"… {len(lines) - height + 1} more lines"[:width]]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        body = "".join(f"\x1b[K{line}\n" for line in lines)
        print(f"{up}\r{body}\x1b[J", end="", flush=True)
        self._drawn = len(lines)

    def end(self, infos: Sequence[JobInfo], now: float) -> None:
        """Leave the lines standing, and say how to go on."""
        _say_verdicts(infos, now)


class Lines:
    """A line when a job does something else, and for each job every minute."""

    interval = HEARTBEAT_SECONDS

    def __init__(self) -> None:
        self._rates: dict[str, Rate] = {}
        self._shown: dict[str, tuple[str, float]] = {}
        self._note = ""

    def show(self, infos: Sequence[JobInfo], changed: JobInfo | None, now: float, note: str) -> None:
        """Print the lines that are due."""
        if note and note != self._note:
            print(f"bits: {note}", file=sys.stderr)
        self._note = note
        for info, line in zip(infos, _lines(infos, self._rates, now), strict=True):
            shown, shown_at = self._shown.get(info["job_id"], ("", 0.0))
            waiting = info["waiting"]
            news = f"{info['state']} {info['phase']} {waiting['reason'] if waiting else ''}"
            if news != shown or now - shown_at >= HEARTBEAT_SECONDS:
                self._shown[info["job_id"]] = (news, now)
                print(line, flush=True)

    def end(self, infos: Sequence[JobInfo], now: float) -> None:
        """Say how to go on."""
        _say_verdicts(infos, now)


class JsonView:
    """JSON lines as of `bits wait --json`: each state of a job, and its result."""

    interval = HEARTBEAT_SECONDS

    def show(self, infos: Sequence[JobInfo], changed: JobInfo | None, now: float, note: str) -> None:
        """Print what changed; all of them at first and after a silence."""
        for info in infos if changed is None else [changed]:
            print(json.dumps({"event": "job", "at": now, "job": info}), flush=True)

    def end(self, infos: Sequence[JobInfo], now: float) -> None:
        """Print the results."""
        for info in infos:
            outcome = outcome_of(info) or Outcome.TIMEOUT
            result = {"event": "result", "outcome": outcome.value, "exit_code": _code(info), "job": info}
            print(json.dumps(result), flush=True)


def job_line(info: JobInfo, short_id: str, bps: float, now: float) -> str:
    """`3f9c2a10 nightly  transferring 12 s  45% 1.2 GiB/2.6 GiB  3.1 MiB/s  2 min left  receiving from h:443`.

    A job that waits says when it goes on, then why it does not now: the reason may be long.
    """
    name = render.printable(info["properties"]["display_name"])
    head = [f"{short_id} {name}", f"{info['state']} {render.span(now - info['state_since'])}", *amounts(info, bps)]
    waiting = info["waiting"]
    if info["phase"]:
        return "  ".join([*head, render.printable(info["phase"])])
    if waiting is None:
        return "  ".join(head)
    if waiting["next_at"] is not None:
        head.append(f"next in {render.span(waiting['next_at'] - now)}")
    what = f"{waiting['reason']}; next: {waiting['next']}" + (f"; hint: {waiting['hint']}" if waiting["hint"] else "")
    return "  ".join([*head, render.printable(what)])


def _lines(infos: Sequence[JobInfo], rates: dict[str, Rate], now: float) -> Iterable[str]:
    ids = render.short_ids([info["job_id"] for info in infos])
    for info in infos:
        rate = rates.setdefault(info["job_id"], Rate())
        rate.add(info["bytes_transferred"], now)
        yield job_line(info, ids[info["job_id"]], rate.bps(), now)


def _code(info: JobInfo) -> int:
    return exit_code(outcome_of(info) or Outcome.TIMEOUT, info)


def _say_verdicts(infos: Sequence[JobInfo], now: float) -> None:
    if not infos:
        print("bits: no job is in the queue; make one with: bits get URL", file=sys.stderr)
    for info in infos:
        for line in verdict(outcome_of(info) or Outcome.TIMEOUT, info, now):
            print(f"bits: {line}", file=sys.stderr)


def _rows() -> int:
    try:
        return max(os.get_terminal_size(sys.stdout.fileno()).lines or 24, 4)
    except (OSError, ValueError):
        return 24
