"""A job that is made and watched at once: what `bits get` and `bits put` share. Ctrl-C leaves it to the service."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping

from openbits.api.client import Client, Job, Outcome
from openbits.api.wire import JobInfo
from openbits.cli import exits, property_options, render
from openbits.cli.watch import exit_code, reporter_for, verdict, watch
from openbits.core.enums import Priority
from openbits.core.errors import BitsError


def add_arguments(
    parser: argparse.ArgumentParser, *, without: Collection[str] = (), defaults: Mapping[str, object] | None = None
) -> None:
    """The options of both; `without` and `defaults` are about properties, as in `property_options.add_options`."""
    parser.add_argument("--name", help="display name of the job (default: the first file's)")
    parser.add_argument("--detach", action="store_true", help="do not wait: print the id of the job and leave it alone")
    parser.add_argument("--json", action="store_true", help="print the job as JSON lines, the last one with the result")
    property_options.add_options(
        parser,
        without={"display_name", "auto_complete", *without},
        defaults={"priority": Priority.FOREGROUND, **(defaults or {})},
    )
    parser.epilog = "Ctrl-C leaves the job to the service, which goes on."


@contextlib.contextmanager
def all_or_nothing(client: Client, job: Job) -> Iterator[None]:
    """Nothing is left behind if a part of what makes the job fails."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(BitsError):  # it may be the service that failed
            client.reconnect()
            job.cancel()
        raise


def follow(options: argparse.Namespace, job: Job, what: str) -> int:
    """Watch the job, or leave it alone; the exit code. `what` has arrived when it is over."""
    if options.detach:
        print(json.dumps({"event": "job", "at": time.time(), "job": job.info()}) if options.json else job.id)
        return exits.OK
    try:
        return _watch(job, what, is_json=options.json)
    except KeyboardInterrupt:
        print(f"\nbits: the job goes on in the background; wait for it with: bits wait {job.id}", file=sys.stderr)
        return exits.INTERRUPTED


def _watch(job: Job, what: str, *, is_json: bool) -> int:
    started = time.time()
    outcome, info = watch(job, reporter_for(is_json=is_json))
    now = time.time()
    code = exit_code(outcome, info)
    if is_json:
        print(json.dumps({"event": "result", "outcome": outcome.value, "exit_code": code, "job": info}))
    elif outcome is Outcome.ACKNOWLEDGED:
        seconds = max(now - started, 0.001)
        amount = info["bytes_transferred"]
        print(f"{what}: {render.size(amount)} in {render.span(seconds)}, {render.size(amount / seconds)}/s")
        _tell_reply(info)
    for line in verdict(outcome, info, now):
        print(f"bits: {line}", file=sys.stderr)
    return code


def _tell_reply(info: JobInfo) -> None:
    reply = info["reply"]
    if reply is None:
        return
    if reply["bytes_total"]:
        print(f"reply: {render.printable(reply['local_name'] or '-')}, {render.size(reply['bytes_total'])}")
    else:
        print("reply: the server sent none")
