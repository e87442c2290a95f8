"""The program `bits`.

Each command has a row in COMMANDS; its module is loaded when the command is used, so that the others cost nothing.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from openbits.version import VERSION


class Command(NamedTuple):
    """Where a command is made: its module, the functions that add its arguments and run it, and one line about it."""

    module: str
    add_arguments: str
    run: str
    doing: str
    """As in "cannot …"."""
    summary: str


COMMANDS = {
    "get": Command("get", "add_arguments", "run", "get the files", "download now and publish by itself"),
    "list": Command("jobs", "add_list_arguments", "run_list", "list the jobs", "the jobs of the queue"),
    "show": Command("jobs", "add_show_arguments", "run_show", "show the job", "everything about one job"),
    "wait": Command("jobs", "add_wait_arguments", "run_wait", "wait", "wait until jobs are transferred"),
    "suspend": Command("jobs", "add_job_arguments", "run_suspend", "suspend the jobs", "stop jobs, keep their bytes"),
    "resume": Command("jobs", "add_job_arguments", "run_resume", "resume the jobs", "let jobs run, or retry now"),
    "complete": Command(
        "jobs", "add_job_arguments", "run_complete", "complete the jobs", "publish what is transferred"
    ),
    "cancel": Command("jobs", "add_job_arguments", "run_cancel", "cancel the jobs", "give jobs up"),
    "token": Command("tokens", "add_arguments", "run", "change the helper token", "the second identity of a job"),
}

EXIT_CODES = (
    "exit codes: 0 done, 1 job error, 2 usage, 3 partial, 4 waiting or time-out, 5 denied, 6 service not reachable"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = COMMANDS.get(given[0]) if given else None
    if command is None:
        return _overview(given)
    try:
        code = _run(given[0], command, given[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader left. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _run(name: str, command: Command, arguments: list[str]) -> int:
    module = importlib.import_module(f"openbits.cli.{command.module}")
    from openbits.cli.exits import complain  # noqa: PLC0415  # not for `bits --help`
    from openbits.core.errors import BitsError  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog=f"bits {name}", description=command.summary, formatter_class=_formatter)
    add_arguments: Callable[[argparse.ArgumentParser], None] = getattr(module, command.add_arguments)
    add_arguments(parser)
    run: Callable[[argparse.Namespace], int] = getattr(module, command.run)
    try:
        return run(parser.parse_args(arguments))
    except BitsError as error:
        return complain(command.doing, error)


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Help of fixed width: asking for the terminal's loads shutil, on every command, help or not."""
    return argparse.HelpFormatter(prog, width=100)


def _overview(given: list[str]) -> int:
    """`bits`, `bits --help`, `bits --version`, or a command that does not exist."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="bits",
        description="Downloads that go on when you leave.",
        epilog=f"commands:\n{commands}\n\n`bits COMMAND --help` says more.\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bits {VERSION}")
    parser.add_argument("command", metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help=argparse.SUPPRESS)
    parser.parse_args(given)
    parser.error(f"there is no command {given[0]!r}; see: bits --help")


if __name__ == "__main__":
    sys.exit(main())
