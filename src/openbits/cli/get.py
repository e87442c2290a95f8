"""`bits get`: download now, in the foreground, and publish by itself; Ctrl-C leaves the job to the service."""

import argparse
import contextlib
import json
import os
import sys
import time

from openbits.api.client import Client, Job, Outcome
from openbits.cli import exits, property_options, render
from openbits.cli.targets import destinations, is_remote
from openbits.cli.watch import exit_code, reporter_for, verdict, watch
from openbits.core import codes
from openbits.core.enums import Priority
from openbits.core.errors import BitsError

PARALLEL_FILES = 8
"""Somebody waits: what hides the time between request and answer, and no server takes for an attack."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits get`."""
    parser.usage = "%(prog)s [-h] [--name NAME] [--detach] [--json] [properties] URL… [PATH]"
    parser.add_argument(
        "operands",
        nargs="+",
        metavar="URL… [PATH]",
        help="URLs or absolute paths of this machine, then a file or folder (default: .)",
    )
    parser.add_argument("--name", help="display name of the job (default: the first file's)")
    parser.add_argument("--detach", action="store_true", help="do not wait: print the id of the job and leave it alone")
    parser.add_argument("--json", action="store_true", help="print the job as JSON lines, the last one with the result")
    property_options.add_options(
        parser,
        without=("display_name", "auto_complete"),
        defaults={"priority": Priority.FOREGROUND, "parallel_files": PARALLEL_FILES},
    )
    parser.epilog = "Ctrl-C leaves the job to the service, which goes on."


def run(options: argparse.Namespace) -> int:
    """Create, add, resume as one: nothing is left behind if a part of it fails. Then watch."""
    pairs = destinations(*split_operands(options.operands))
    name = options.name or os.path.basename(pairs[0][1])  # noqa: PTH119  # pathlib costs start-up time
    with Client() as client:
        job = client.create_job(name, auto_complete=True, **property_options.given(options))
        try:
            job.add_files(pairs)
            job.resume()
        except BaseException:
            with contextlib.suppress(BitsError):  # it may be the service that failed
                client.reconnect()
                job.cancel()
            raise
        if options.detach:
            print(json.dumps({"event": "job", "at": time.time(), "job": job.info()}) if options.json else job.id)
            return exits.OK
        try:
            return _watch(job, [path for _, path in pairs], is_json=options.json)
        except KeyboardInterrupt:
            print(f"\nbits: the job goes on in the background; wait for it with: bits wait {job.id}", file=sys.stderr)
            return exits.INTERRUPTED


def split_operands(operands: list[str]) -> tuple[list[str], str]:
    """URLs, and the path behind them: the last operand if it is no URL. Raises E_INVALIDARG.

    Before the last one an absolute path is the name of a file of this machine, as file:// URLs are.
    """
    is_path_given = "://" not in operands[-1]
    urls, path = (operands[:-1], operands[-1]) if is_path_given else (operands, ".")
    strange = next((url for url in urls if not is_remote(url)), None)
    if strange is not None or not urls:
        what = strange if strange is not None else operands[-1]
        step = "begin it with https:// or http://, and write URLs first, then one PATH"
        raise BitsError(codes.E_INVALIDARG, f"cannot get {what!r}: it is no URL; {step}")
    return urls, path


def _watch(job: Job, paths: list[str], *, is_json: bool) -> int:
    started = time.time()
    outcome, info = watch(job, reporter_for(is_json=is_json))
    now = time.time()
    code = exit_code(outcome, info)
    if is_json:
        print(json.dumps({"event": "result", "outcome": outcome.value, "exit_code": code, "job": info}))
    elif outcome is Outcome.ACKNOWLEDGED:
        seconds = max(now - started, 0.001)
        amount, names = info["bytes_transferred"], ", ".join(map(render.printable, paths))
        print(f"{names}: {render.size(amount)} in {render.span(seconds)}, {render.size(amount / seconds)}/s")
    for line in verdict(outcome, info, now):
        print(f"bits: {line}", file=sys.stderr)
    return code
