"""`bits token`: the helper token of a job, its second identity.

The password comes from the terminal without echo, from standard input if that is no terminal, or from a descriptor;
never from the command line, which everybody on the machine can read.
"""

import argparse
import sys

from openbits.api.client import Client
from openbits.cli import exits, render
from openbits.cli.jobs import REFERENCE
from openbits.cli.selection import find_job
from openbits.core import codes
from openbits.core.enums import TokenFlags
from openbits.core.errors import BitsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits token`."""
    parser.epilog = REFERENCE
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    setting = actions.add_parser("set", help="log a user on and give the job that identity", epilog=REFERENCE)
    setting.add_argument("job", metavar="JOB", help="the job")
    setting.add_argument("--user", required=True, help="the second identity")
    setting.add_argument(
        "--flags",
        type=token_flags,
        default=TokenFlags.LOCAL_FILE,
        metavar="WORDS",
        help="what it is used for: local-file (default), network, or local-file,network",
    )
    setting.add_argument("--password-fd", type=int, metavar="N", help="read the password from descriptor N")
    for name, summary in (("clear", "drop the token; the flags stay"), ("show", "whose token it is, and its use")):
        actions.add_parser(name, help=summary, epilog=REFERENCE).add_argument("job", metavar="JOB", help="the job")


def token_flags(words: str) -> TokenFlags:
    """Flags from `local-file,network`."""
    flags = TokenFlags(0)
    for word in words.split(","):
        if word not in render.FLAG_WORDS:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(render.FLAG_WORDS)}")
        flags |= render.FLAG_WORDS[word]
    return flags


def run(options: argparse.Namespace) -> int:
    """Do the action."""
    with Client() as client:
        job = find_job(client, options.job)
        if options.action == "clear":
            job.clear_helper_token()
        elif options.action == "set":
            password = read_password(options.user, options.password_fd)
            with client.logon_user(options.user, password) as token, token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(options.flags)
        else:
            print(render.helper_text(job.info()))
    return exits.OK


def read_password(user: str, descriptor: int | None) -> str:
    """The first line of the descriptor, of the terminal (asked for, without echo) or of standard input."""
    if descriptor is not None:
        try:
            with open(descriptor, encoding="utf-8") as file:  # noqa: PTH123  # a descriptor, not a path
                return _line(file.readline())
        except (OSError, ValueError) as error:
            raise BitsError(
                codes.E_INVALIDARG, f"cannot read the password from descriptor {descriptor}: {error}; open it first"
            ) from error
    if not sys.stdin.isatty():
        return _line(sys.stdin.readline())
    import getpass  # noqa: PLC0415  # only for people at a terminal

    return getpass.getpass(f"Password of {user}: ")


def _line(text: str) -> str:
    if not text:
        raise BitsError(codes.E_INVALIDARG, "cannot read the password: the input is empty; give it as one line")
    return text.removesuffix("\n")
