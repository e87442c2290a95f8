"""`bits credentials`, `bits headers`, `bits certificate`: what the owner of a job entrusts to it.

Secrets come from the terminal without echo, from standard input if that is no terminal, or from a descriptor; never
from the command line, which everybody on the machine can read. They are encrypted with the job.
"""

import argparse
import sys

from openbits.api.client import Client, Job
from openbits.cli import exits
from openbits.cli.render import printable
from openbits.cli.selection import REFERENCE, find_job
from openbits.cli.tokens import read_password
from openbits.core import codes
from openbits.core.enums import AuthScheme, AuthTarget, CertStore
from openbits.core.errors import BitsError

TARGETS = [target.name.lower() for target in AuthTarget]
SCHEMES = [scheme.name.lower() for scheme in AuthScheme]
LOCATIONS = {"user": CertStore.CURRENT_USER, "machine": CertStore.LOCAL_MACHINE}


def add_credentials_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits credentials`."""
    parser.epilog = REFERENCE
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    setting = _action(actions, "set", "give the job a user and a password, which nothing shows again")
    removing = _action(actions, "remove", "take them away")
    for each in (setting, removing):
        each.add_argument("--target", choices=TARGETS, default=TARGETS[0], help="who asks for them (default server)")
        each.add_argument("--scheme", choices=SCHEMES, default=SCHEMES[0], help="how they are given (default basic)")
    who = setting.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", help="the user; the password is asked for, or read from standard input")
    who.add_argument("--own-identity", action="store_true", help="those of the job's identity (ntlm, negotiate)")
    setting.add_argument("--password-fd", type=int, metavar="N", help="read the password from descriptor N")


def add_headers_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits headers`."""
    parser.epilog = REFERENCE
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    setting = _action(actions, "set", "lines `Name: value` from standard input, sent with every request of the job")
    setting.add_argument("--fd", type=int, metavar="N", help="read them from descriptor N")
    _action(actions, "show", "print them, to the owner")
    _action(actions, "remove", "take them away")
    _action(actions, "write-only", "let nobody read headers of this job any more, for good")


def add_certificate_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits certificate`."""
    parser.epilog = REFERENCE
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    setting = _action(actions, "set", "choose the client certificate of the job")
    setting.add_argument(
        "--location",
        choices=LOCATIONS,
        default="user",
        help="user (default): stores are folders of PEM files in ~/.config/openbits/certs; machine: in "
        "/etc/openbits/certs",
    )
    setting.add_argument("--store", default="MY", help="name of the store (default MY)")
    which = setting.add_mutually_exclusive_group(required=True)
    which.add_argument("--sha1", metavar="HEX", help="the certificate with this SHA-1")
    which.add_argument("--subject", metavar="TEXT", help='the first for clients with this in its subject: "CN, O, C"')
    _action(actions, "show", "which one it is")
    _action(actions, "remove", "use none")


def run_credentials(options: argparse.Namespace) -> int:
    """`bits credentials set|remove`."""
    target, scheme = AuthTarget[options.target.upper()], AuthScheme[options.scheme.upper()]
    with Client() as client:
        job = find_job(client, options.job)
        if options.action == "set":
            password = None if options.own_identity else read_password(options.user, options.password_fd)
            job.set_credentials(target, scheme, options.user, password)
        elif not job.remove_credentials(target, scheme):
            print(f"bits: there were no {options.scheme} credentials for the {options.target}", file=sys.stderr)
    return exits.OK


def run_headers(options: argparse.Namespace) -> int:
    """`bits headers set|show|remove|write-only`."""
    with Client() as client:
        job = find_job(client, options.job)
        match options.action:
            case "set":
                job.set_custom_headers("".join(f"{line}\r\n" for line in _read_lines(options.fd)))
            case "remove":
                job.set_custom_headers(None)
            case "write-only":
                job.make_custom_headers_write_only()
            case _:
                for line in (job.custom_headers() or "").splitlines():
                    print(printable(line))
    return exits.OK


def run_certificate(options: argparse.Namespace) -> int:
    """`bits certificate set|show|remove`."""
    with Client() as client:
        job = find_job(client, options.job)
        if options.action == "set":
            location = LOCATIONS[options.location]
            job.set_client_certificate(
                location, options.store, sha1=(options.sha1 or "").replace(":", ""), subject=options.subject or ""
            )
        elif options.action == "show":
            print(_certificate_text(job))
        elif not job.remove_client_certificate():
            print("bits: there was no client certificate", file=sys.stderr)
    return exits.OK


def _certificate_text(job: Job) -> str:
    chosen = job.client_certificate()
    location = next(name for name, store in LOCATIONS.items() if store.name.lower() == chosen["location"])
    what = f"sha1 {chosen['sha1']}" if chosen["sha1"] else f"subject {printable(chosen['subject'])!r}"
    return f"{what} of {printable(chosen['store'])} ({location})"


def _read_lines(descriptor: int | None) -> list[str]:
    """The lines of the descriptor or of standard input; empty ones at the end are none."""
    try:
        if descriptor is None:
            text = sys.stdin.read()
        else:
            with open(descriptor, encoding="utf-8") as file:  # noqa: PTH123  # a descriptor, not a path
                text = file.read()
    except (OSError, ValueError) as error:
        text = f"cannot read the headers: {error}; give text, one header a line"
        raise BitsError(codes.E_INVALIDARG, text) from error
    lines = text.rstrip("\r\n").replace("\r\n", "\n").split("\n")
    if lines == [""]:
        raise BitsError(codes.E_INVALIDARG, "cannot read the headers: the input is empty; to take them away: remove")
    return lines


def _action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, epilog=REFERENCE)
    parser.add_argument("job", metavar="JOB", help="the job")
    return parser
