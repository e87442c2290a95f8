"""`bits create`, `add`, `set`: a job made step by step, where `bits get` does it all at once."""

import argparse
import json
import sys

from openbits.api.client import Client
from openbits.cli import exits, property_options
from openbits.cli.selection import REFERENCE, find_job
from openbits.cli.targets import destination
from openbits.core import codes
from openbits.core.enums import JobType
from openbits.core.errors import BitsError


def add_create_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits create`."""
    parser.add_argument("name", metavar="NAME", help="display name of the job, need not be unique")
    parser.add_argument(
        "--type",
        choices=[kind.name.lower().replace("_", "-") for kind in JobType],
        default=JobType.DOWNLOAD.name.lower(),
        help="default: download",
    )
    property_options.add_options(parser, without=("display_name",))
    parser.add_argument("--json", action="store_true", help="print the job as a JSON object instead of its id")
    parser.epilog = "Prints the id of the job. Then: bits add, bits resume."


def run_create(options: argparse.Namespace) -> int:
    """A suspended, empty job; its id on standard output."""
    with Client() as client:
        kind = JobType[options.type.upper().replace("-", "_")]
        job = client.create_job(options.name, type=kind, **property_options.given(options))
        print(json.dumps(job.info()) if options.json else job.id)
    return exits.OK


def add_add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits add`."""
    parser.usage = "%(prog)s [-h] JOB (URL PATH [URL PATH …] | -)"
    parser.add_argument("job", metavar="JOB", help="the job")
    parser.add_argument(
        "pairs",
        nargs="+",
        metavar="URL PATH",
        help="a URL and the file it becomes, or an existing folder that it goes into; "
        "`-`: one pair a line from standard input, URL first, then a space and the path",
    )
    parser.epilog = f"All are added or none. {REFERENCE}"


def run_add(options: argparse.Namespace) -> int:
    """Add pairs, all or nothing."""
    pairs = [(url, destination(url, path)) for url, path in _pairs(options.pairs)]
    with Client() as client:
        find_job(client, options.job).add_files(pairs)
    return exits.OK


def add_set_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits set`."""
    parser.add_argument("job", metavar="JOB", help="the job")
    parser.add_argument(
        "assignments",
        nargs="+",
        metavar="NAME=VALUE",
        help=f"{', '.join(property_options.BY_CLI_NAME)}; `bits create --help` says what they are",
    )
    parser.epilog = f"All are set or none; a switch is yes or no. {REFERENCE}"


def run_set(options: argparse.Namespace) -> int:
    """Set properties, all or nothing."""
    values = property_options.assigned(options.assignments)
    with Client() as client:
        find_job(client, options.job).set(**values)
    return exits.OK


def _pairs(operands: list[str]) -> list[tuple[str, str]]:
    """URL and path, as they were written. Raises E_INVALIDARG."""
    if operands == ["-"]:
        return [_pair_of_line(number, line) for number, line in enumerate(sys.stdin, 1) if line.strip()]
    if len(operands) % 2:
        raise BitsError(
            codes.E_INVALIDARG, f"cannot add {operands[-1]!r}: it has no path; write pairs of URL and PATH, or - alone"
        )
    pairs = list(zip(operands[::2], operands[1::2], strict=True))
    for url, path in pairs:
        if "://" not in url:
            raise BitsError(
                codes.E_INVALIDARG, f"cannot add {url!r} to {path!r}: it is no URL; write each URL before its path"
            )
    return pairs


def _pair_of_line(number: int, line: str) -> tuple[str, str]:
    words = line.split(maxsplit=1)
    if len(words) < 2 or "://" not in words[0]:
        why = "write a URL, a space and a path; no file was added"
        raise BitsError(codes.E_INVALIDARG, f"cannot read line {number}, {line.strip()!r}: {why}")
    return words[0], words[1].strip()
