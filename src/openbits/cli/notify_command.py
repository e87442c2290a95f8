"""`bits command`: the program that is run, as the caller, when a job has arrived or failed."""

import argparse

from openbits import commandline
from openbits.api.client import Client
from openbits.cli import exits
from openbits.cli.render import command_text
from openbits.cli.selection import REFERENCE, find_job
from openbits.core import codes
from openbits.core.errors import BitsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits command`."""
    parser.epilog = REFERENCE
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    setting = actions.add_parser("set", help="have a program run as you", epilog=_EPILOG)
    setting.add_argument("job", metavar="JOB", help="the job")
    setting.add_argument("program", metavar="PROGRAM", help="absolute path; nothing is searched for")
    setting.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="passed on word by word")
    for name, text in (("show", "what it is, and how it went"), ("remove", "run nothing any more")):
        actions.add_parser(name, help=text, epilog=REFERENCE).add_argument("job", metavar="JOB", help="the job")


_EPILOG = (
    "It runs when the job is transferred or in error, without a shell, until it ends with exit code 0; to have the "
    f"files it calls `bits complete`. The job is not passed by itself: make its id an argument. {REFERENCE}"
)


def run(options: argparse.Namespace) -> int:
    """`bits command set|show|remove`."""
    with Client() as client:
        job = find_job(client, options.job)
        if options.action == "set":
            job.set_notify_command_line(options.program, _parameters(options.program, options.arguments))
        elif options.action == "remove":
            job.set_notify_command_line(None)
        else:
            command = job.info()["notify_command"]
            print(command_text(command) if command is not None else "none")
    return exits.OK


def _parameters(program: str, arguments: list[str]) -> str | None:
    """The words in the quoting of the interface, with the program first; None if there are none."""
    if not arguments:
        return None
    try:
        return commandline.join([program, *arguments])
    except ValueError as error:
        raise BitsError(codes.E_INVALIDARG, f"cannot set the notify command: {error}; use a path without one") from None
