"""The program `bits`.

Each command has a row in COMMANDS; its module is loaded when the command is used, so that the others cost nothing.
"""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from openbits.version import VERSION


class Command(NamedTuple):
    """Where a command is made: its module, the functions that add its arguments and run it, and what helps people."""

    group: str
    module: str
    add_arguments: str
    run: str
    doing: str
    """As in "cannot …"."""
    summary: str
    example: str


MAKE, LOOK, STEER, EXPLAIN = "make jobs", "look at them", "steer them", "find out why"

COMMANDS = {
    "get": Command(
        MAKE, "get", "add_arguments", "run", "get the files", "download now and publish by itself",
        "bits get https://www.gnu.org/licenses/gpl-3.0.txt",
    ),
    "put": Command(
        MAKE, "put", "add_arguments", "run", "put the file", "upload now and complete by itself",
        "bits put report.pdf https://files.example/inbox/",
    ),
    "create": Command(
        MAKE, "making", "add_create_arguments", "run_create", "create the job", "a new job, suspended and empty",
        "bits create nightly --priority low --auto-complete",
    ),
    "add": Command(
        MAKE, "making", "add_add_arguments", "run_add", "add the files", "add files to a job",
        "bits add nightly https://data.example/set.tar /srv/in/",
    ),
    "set": Command(
        MAKE, "making", "add_set_arguments", "run_set", "set the properties", "change properties of a job",
        "bits set nightly priority=high minimum-retry-delay=60",
    ),
    "token": Command(
        MAKE, "tokens", "add_arguments", "run", "change the helper token", "the second identity of a job",
        "bits token set nightly --user backup --flags local-file",
    ),
    "command": Command(
        MAKE, "notify_command", "add_arguments", "run", "change the notify command", "a program to run at the end",
        "bits command set nightly /usr/local/bin/arrived nightly",
    ),
    "credentials": Command(
        MAKE, "entrusted", "add_credentials_arguments", "run_credentials", "change the credentials",
        "user and password for a server or proxy", "bits credentials set nightly --user alice",
    ),
    "headers": Command(
        MAKE, "entrusted", "add_headers_arguments", "run_headers", "change the custom headers",
        "headers that every request of a job has", "bits headers show nightly",
    ),
    "certificate": Command(
        MAKE, "entrusted", "add_certificate_arguments", "run_certificate", "change the client certificate",
        "which client certificate a job uses", "bits certificate set nightly --subject alice",
    ),
    "list": Command(
        LOOK, "jobs", "add_list_arguments", "run_list", "list the jobs", "the jobs of the queue", "bits list",
    ),
    "show": Command(
        LOOK, "jobs", "add_show_arguments", "run_show", "show the job", "everything about one job", "bits show 3f9c",
    ),
    "watch": Command(
        LOOK, "live", "add_arguments", "run", "watch the jobs", "jobs as they move, one line each", "bits watch",
    ),
    "wait": Command(
        LOOK, "jobs", "add_wait_arguments", "run_wait", "wait", "wait until jobs are transferred",
        "bits wait --timeout 3600 nightly",
    ),
    "events": Command(
        LOOK, "events", "add_arguments", "run", "follow the events", "what happens to jobs, numbered and resumable",
        "bits events --from 1200 --json",
    ),
    "resume": Command(
        STEER, "jobs", "add_job_arguments", "run_resume", "resume the jobs", "let jobs run, or retry now",
        "bits resume nightly",
    ),
    "suspend": Command(
        STEER, "jobs", "add_job_arguments", "run_suspend", "suspend the jobs", "stop jobs, keep their bytes",
        "bits suspend nightly",
    ),
    "complete": Command(
        STEER, "jobs", "add_job_arguments", "run_complete", "complete the jobs", "publish what is transferred",
        "bits complete nightly",
    ),
    "cancel": Command(
        STEER, "jobs", "add_job_arguments", "run_cancel", "cancel the jobs", "give jobs up", "bits cancel nightly",
    ),
    "take": Command(
        STEER, "jobs", "add_job_arguments", "run_take", "take the jobs", "become the owner of jobs (administrators)",
        "bits take 3f9c",
    ),
    "explain": Command(
        EXPLAIN, "explain", "add_arguments", "run", "explain it", "why a job does what it does; what a code means",
        "bits explain 0x80200013",
    ),
    "policy": Command(
        EXPLAIN, "policy", "add_arguments", "run", "show the policies", "what the administrator allows, and where",
        "bits policy show --effective --why",
    ),
    "proxy": Command(
        EXPLAIN, "proxy", "add_arguments", "run", "explain the proxy", "through which proxy, why, and as whom",
        "bits proxy explain https://data.example/set.tar",
    ),
    "doctor": Command(
        EXPLAIN, "doctor", "add_arguments", "run", "examine the service", "is everything there that jobs need",
        "bits doctor",
    ),
}  # fmt: skip

EXIT_CODES = (
    "0 done", "1 job error", "2 usage", "3 partial", "4 waiting or time-out", "5 denied", "6 service not reachable",
)  # fmt: skip

OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""How standard output fails; whatever else fails is a BitsError."""

USAGE = 2
INTERRUPTED = 130
READER_LEFT = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    _mend_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = COMMANDS.get(given[0]) if given else None
    try:
        code = _overview(given) if command is None else _run(given[0], command, given[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return READER_LEFT
    return code


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    command = COMMANDS[name]
    module = importlib.import_module(f"openbits.cli.{command.module}")
    parser = argparse.ArgumentParser(prog=f"bits {name}", description=command.summary, formatter_class=_formatter)
    add_arguments: Callable[[argparse.ArgumentParser], None] = getattr(module, command.add_arguments)
    add_arguments(parser)
    parser.epilog = " ".join(filter(None, (parser.epilog, f"Example: {command.example}")))
    return parser


def _run(name: str, command: Command, arguments: list[str]) -> int:
    parser = parser_of(name)
    from openbits.cli.exits import complain, complain_of_output  # noqa: PLC0415  # not for `bits --help`
    from openbits.core.errors import BitsError  # noqa: PLC0415

    run: Callable[[argparse.Namespace], int] = getattr(
        importlib.import_module(f"openbits.cli.{command.module}"), command.run
    )
    try:
        code = run(parser.parse_args(arguments))
        sys.stdout.flush()
    except BitsError as error:
        doing = command.doing.replace("change", "show") if arguments[:1] == ["show"] else command.doing
        return complain(doing, error)
    except OSError as error:
        if error.errno not in OUTPUT_ERRORS:
            raise
        _drop_output()
        return complain_of_output(error)
    return code


def _mend_streams() -> None:
    """Every standard stream is there, and no text can fail to be written for its characters.

    A closed descriptor would be given to the next file, and `print` to a missing stderr goes to stdout.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # a descriptor, for good
    if hasattr(sys.stdout, "reconfigure"):  # not so where a program has put its own object there
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """What is still buffered must not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Help of fixed width: asking for the terminal's loads shutil, on every command, help or not."""
    return argparse.HelpFormatter(prog, width=79)


def _overview(given: list[str]) -> int:
    """`bits`, `bits --help`, `bits --version`, or a command that does not exist."""
    width = max(map(len, COMMANDS))
    lines: list[str] = []
    for group in (MAKE, LOOK, STEER, EXPLAIN):
        lines.append(f"{group}:")
        lines += [
            f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items() if command.group == group
        ]
    lines += ["", "`bits COMMAND --help` says more."]
    lines += [f"exit codes: {', '.join(EXIT_CODES[:4])},", f"            {', '.join(EXIT_CODES[4:])}"]
    parser = argparse.ArgumentParser(
        prog="bits",
        description="Transfers that go on when you leave.",
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bits {VERSION}")
    parser.add_argument("command", metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help=argparse.SUPPRESS)
    if given:
        parser.parse_args(given)  # ends here for --help and --version
        parser.print_usage(sys.stderr)
        print(f"bits: there is no command {given[0]!r}; see: bits --help", file=sys.stderr)
    else:
        parser.print_help(sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
