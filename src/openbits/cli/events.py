"""`bits events`: what happens to jobs, as one numbered stream that can be taken up again where it was left.

Each stored event comes once and in order, also over restarts of the service; events that are not kept any more are
told as missed. It goes on until Ctrl-C.
"""

import argparse
import json
import sys
import uuid

from openbits.api.client import Client
from openbits.api.resuming import ResumingEvents
from openbits.api.wire import EventInfo
from openbits.cli import exits, render
from openbits.cli.selection import REFERENCE, find_job
from openbits.cli.watch import HEARTBEAT_SECONDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits events`."""
    parser.add_argument(
        "jobs", nargs="*", metavar="JOB", help="the jobs, also ids of jobs that are gone (default: all)"
    )
    parser.add_argument(
        "--from", dest="from_seq", type=number, metavar="N", help="the stored events after number N first (0: all kept)"
    )
    parser.add_argument(
        "--progress", action="store_true", help="also bytes and phases, which have no number of their own"
    )
    parser.add_argument("--all-users", action="store_true", help="events of everybody's jobs (administrators)")
    parser.add_argument("--json", action="store_true", help="print each event as one line of JSON")
    parser.epilog = f"Goes on until Ctrl-C. {REFERENCE}"


def number(text: str) -> int:
    """A sequence number."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of an event")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Print events until Ctrl-C."""
    with Client() as client:
        try:
            _follow(client, options)
        except KeyboardInterrupt:
            return exits.INTERRUPTED
    return exits.OK


def _follow(client: Client, options: argparse.Namespace) -> None:
    job_ids = [_job_id(client, reference) for reference in options.jobs] or None
    was_lost = False
    with ResumingEvents(client, from_seq=options.from_seq, job_ids=job_ids, all_users=options.all_users) as events:
        while True:
            event = events.next(1.0 if events.loss else HEARTBEAT_SECONDS)
            if event is not None and event["kind"] == "overflow":
                what = f"events up to number {event['seq']} are not kept any more; look at the jobs: bits list"
                print(f"bits: missed events: {what}", file=sys.stderr)
            if event is not None and (options.progress or event["kind"] != "progress"):
                print(json.dumps(event) if options.json else event_line(event), flush=True)
            elif events.loss is not None and not was_lost:
                print(f"bits: {events.loss.why}; waiting for the service, nothing gets lost", file=sys.stderr)
            elif event is None and events.loss is None and not sys.stderr.isatty():
                print(f"bits: no event since number {events.seq}; still listening", file=sys.stderr)
            was_lost = events.loss is not None


def event_line(event: EventInfo) -> str:
    """`1234  2026-11-21 14:20:01  3f9c2a10  state  transferring  nightly`, and why the job waits if it does."""
    info = event.get("job")
    parts = [f"{event['seq']:>6}", render.instant(event["at"]), f"{event['job_id'][: render.SHORT_ID]:<8}"]
    parts.append(f"{event['kind']:<16}")
    if info is None:
        parts.append(event.get("state") or "")
    else:
        parts += [f"{info['state']:<15}", render.printable(info["properties"]["display_name"])]
        if event["kind"] == "progress":
            parts.append(f"{render.progress(info)} {render.printable(info['phase'])}")
        elif info["waiting"] is not None:
            parts.append(render.printable(info["waiting"]["reason"]))
    return "  ".join(parts).rstrip()


def _job_id(client: Client, reference: str) -> uuid.UUID:
    """Of a job that is gone only the whole id says which one is meant."""
    try:
        return uuid.UUID(reference)
    except ValueError:
        return find_job(client, reference).id
