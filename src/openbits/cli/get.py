"""`bits get`: download now, in the foreground, and publish by itself; Ctrl-C leaves the job to the service."""

import argparse
import os

from openbits.api.client import Client
from openbits.cli import foreground, property_options, render
from openbits.cli.targets import destinations, is_remote
from openbits.core import codes
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
    foreground.add_arguments(parser, defaults={"parallel_files": PARALLEL_FILES})


def run(options: argparse.Namespace) -> int:
    """Create, add, resume as one. Then watch."""
    pairs = destinations(*split_operands(options.operands))
    name = options.name or os.path.basename(pairs[0][1])  # noqa: PTH119  # pathlib costs start-up time
    with Client() as client:
        job = client.create_job(name, auto_complete=True, **property_options.given(options))
        with foreground.all_or_nothing(client, job):
            job.add_files(pairs)
            job.resume()
        return foreground.follow(options, job, ", ".join(render.printable(path) for _, path in pairs))


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
