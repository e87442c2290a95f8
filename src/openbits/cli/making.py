"""`bits create`, `add`, `set`: a job made step by step, where `bits get` does it all at once."""

import argparse
import json
import re
import sys

from openbits.api.client import Client
from openbits.cli import exits, property_options
from openbits.cli.selection import REFERENCE, find_job
from openbits.cli.targets import destination, is_remote
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
        help="default: download; an upload has one file, upload-reply also gets what the server answers to it",
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
    parser.usage = "%(prog)s [-h] [--range FIRST-LAST …] JOB (URL PATH [URL PATH …] | -)"
    parser.add_argument("job", metavar="JOB", help="the job")
    parser.add_argument(
        "pairs",
        nargs="+",
        metavar="URL PATH",
        help="a URL or an absolute path of this machine, and the file it becomes, or an existing folder that it goes "
        "into (of an upload: where the file goes, and the file); "
        "`-`: one pair a line from standard input, URL first, then a space and the path",
    )
    parser.add_argument(
        "--range",
        action="append",
        dest="ranges",
        metavar="FIRST-LAST",
        help="make the file of this part of the remote one: first and last byte, counted from 0; `FIRST-` goes to the "
        "end. More than one: one after the other, in this order, without gaps. The server has to honour ranges",
    )
    parser.epilog = f"All are added or none. {REFERENCE}"


def run_add(options: argparse.Namespace) -> int:
    """Add pairs, all or nothing."""
    pairs = [(url, destination(url, path)) for url, path in _pairs(options.pairs)]
    parts = [_part(text) for text in options.ranges or ()]
    if parts and len(pairs) != 1:
        raise BitsError(codes.E_INVALIDARG, f"cannot add {len(pairs)} files with --range; add each by itself")
    with Client() as client:
        job = find_job(client, options.job)
        if parts:
            job.add_file_with_ranges(*pairs[0], parts)
        else:
            job.add_files(pairs)
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


def _part(text: str) -> tuple[int, int | None]:
    """Offset and length of `FIRST-LAST`. Raises E_INVALIDARG."""
    found = re.fullmatch(r"([0-9]{1,20})-([0-9]{1,20})?", text)
    if found is None or (found[2] is not None and int(found[2]) < int(found[1])):
        raise BitsError(codes.E_INVALIDARG, f"cannot read the range {text!r}; write FIRST-LAST or FIRST-, as 0-499")
    first = int(found[1])
    return first, None if found[2] is None else int(found[2]) - first + 1


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
        if not is_remote(url) or "://" in path:
            raise BitsError(
                codes.E_INVALIDARG, f"cannot add {url!r} to {path!r}: it is no URL; write each URL before its path"
            )
    return pairs


def _pair_of_line(number: int, line: str) -> tuple[str, str]:
    words = line.split(maxsplit=1)
    if len(words) < 2 or not is_remote(words[0]) or "://" in words[1]:
        why = "write a URL, a space and a path; no file was added"
        raise BitsError(codes.E_INVALIDARG, f"cannot read line {number}, {line.strip()!r}: {why}")
    return words[0], words[1].strip()
