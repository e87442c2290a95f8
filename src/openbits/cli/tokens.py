"""`bits token`: the helper token of a job, its second identity.

It comes from a logon, or from a process that already is the helper (`openbits.cli.handover`).
The password comes from the terminal without echo, from standard input if that is no terminal, or from a descriptor;
never from the command line, which everybody on the machine can read.
"""

import argparse
import sys
from collections.abc import Sequence

from openbits.api.client import Client, Job
from openbits.api.tokens import Token
from openbits.cli import exits, render
from openbits.cli.selection import REFERENCE, find_job
from openbits.core import codes
from openbits.core.enums import TokenFlags
from openbits.core.errors import BitsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits token`."""
    parser.epilog = REFERENCE
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Parser)
    setting = actions.add_parser("set", help="log a user on and give the job that identity", epilog=REFERENCE)
    setting.add_argument("job", metavar="JOB", help="the job")
    setting.add_argument("--user", required=True, help="the second identity")
    setting.add_argument(
        "--flags",
        type=token_flags,
        default=TokenFlags.LOCAL_FILE,
        metavar="WORDS",
        help="what it is used for: local-file (default), network, or local-file,network; none: nothing yet",
    )
    source = setting.add_mutually_exclusive_group()
    source.add_argument("--password-fd", type=int, metavar="N", help="read the password from descriptor N")
    source.add_argument("--wait", action="store_true", help="no password: wait for `bits token open`, run by the user")
    source.add_argument(
        "--run",
        action="store_true",
        help="no password: run the command that follows, as in --run -- sudo -u USER bits token open; "
        "--to ADDRESS is put at its end, or the address where {} is",
    )
    setting.add_argument(
        "--timeout", type=float, default=300.0, metavar="SECONDS", help="longest wait for the token (default 300)"
    )
    opening = actions.add_parser("open", help="hand a token of your own identity to the owner of a job")
    opening.add_argument(
        "--to", required=True, metavar="ADDRESS", help="who waits and where: `bits token set` prints it"
    )
    opening.add_argument("--root", action="store_true", help="yes, a token of root")
    use = actions.add_parser("flags", help="change what it is used for, with or without a token", epilog=REFERENCE)
    use.add_argument("job", metavar="JOB", help="the job")
    use.add_argument(
        "flags", type=token_flags, metavar="WORDS", help="as in set; none: the owner does all, no token is needed"
    )
    for name, summary in (("clear", "drop the token; the flags stay"), ("show", "whose token it is, and its use")):
        actions.add_parser(name, help=summary, epilog=REFERENCE).add_argument("job", metavar="JOB", help="the job")


class _Parser(argparse.ArgumentParser):
    """Keeps what follows --run as it is, in `command`: argparse would look for options and `--` in it."""

    def parse_known_args(  # type: ignore[override]  # the overloads of the base say no more
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """The options, among them `command`, and what is none."""
        given = list(args or ())
        end = given.index("--run") + 1 if "--run" in given else len(given)
        options, rest = super().parse_known_args(given[:end], namespace)
        options.command = given[end:][1:] if given[end:][:1] == ["--"] else given[end:]
        return options, rest


def token_flags(words: str) -> TokenFlags:
    """Flags from `local-file,network` or `none`."""
    flags = TokenFlags(0)
    for word in () if words == "none" else words.split(","):
        if word not in render.FLAG_WORDS:
            raise argparse.ArgumentTypeError(f"{word!r} is unknown; use none, or some of {','.join(render.FLAG_WORDS)}")
        flags |= render.FLAG_WORDS[word]
    return flags


def run(options: argparse.Namespace) -> int:
    """Do the action."""
    if options.action == "open":
        from openbits.cli.handover import hand_over  # noqa: PLC0415  # only where a token changes hands

        hand_over(options.to, may_be_root=options.root)
        return exits.OK
    with Client() as client:
        job = find_job(client, options.job)
        if options.action == "clear":
            job.clear_helper_token()
        elif options.action == "flags":
            job.set_helper_token_flags(options.flags)
        elif options.action == "set":
            return _set(options, client, job)
        else:
            print(render.helper_text(job.info()))
    return exits.OK


def _set(options: argparse.Namespace, client: Client, job: Job) -> int:
    """Give the job a token of the user, and the flags."""
    if client.info["mode"] == "user":  # before anybody types a password or waits
        text = "your own service has no identity but yours; use the machine's, started by root (see: bits doctor)"
        raise BitsError(codes.E_ACCESSDENIED, f"cannot use a token of {options.user}: {text}")
    if not (options.run or options.wait):
        token = client.logon_user(options.user, read_password(options.user, options.password_fd))
    else:
        from openbits.cli.handover import TooLateError  # noqa: PLC0415  # only where a token changes hands

        try:
            token = _from_helper(options, client)
        except TooLateError as error:
            print(f"bits: {error}", file=sys.stderr)
            return exits.WAITING
    with token, token.impersonate():
        job.set_helper_token()
    job.set_helper_token_flags(options.flags)
    return exits.OK


def _from_helper(options: argparse.Namespace, client: Client) -> Token:
    from openbits.cli.handover import listening  # noqa: PLC0415  # only where a token changes hands

    with listening(options.user) as listener:
        if not options.run:
            print(
                f"waiting for {options.user}, who must run:  bits token open --to {listener.address}", file=sys.stderr
            )
            return listener.wait(client, options.timeout)
        if not options.command:
            raise BitsError(codes.E_INVALIDARG, "--run needs a command, as in --run -- sudo -u helper bits token open")
        return listener.run(options.command, client, options.timeout)


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
