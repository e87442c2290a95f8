"""`bits put`: upload a file now, in the foreground, and complete by itself; Ctrl-C leaves the job to the service."""

import argparse
import os
import stat

from openbits.api.client import Client
from openbits.cli import foreground, property_options
from openbits.cli.entrusted import SCHEMES
from openbits.cli.render import printable
from openbits.cli.targets import is_folder, is_remote, upload_target
from openbits.cli.tokens import read_password
from openbits.core import codes
from openbits.core.enums import AuthScheme, AuthTarget, JobType
from openbits.core.errors import BitsError
from openbits.core.properties import PROPERTIES

USELESS = frozenset(
    {rule.name for rule in PROPERTIES.values() if JobType.UPLOAD not in rule.job_types} | {"parallel_files", "segments"}
)
"""Properties that mean nothing to an upload: it has one file, in one session, over one connection."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits put`."""
    parser.usage = "%(prog)s [-h] [--reply FILE] [--user NAME] [--name NAME] [--detach] [--json] [properties] FILE URL"
    parser.add_argument("file", metavar="FILE", help="the file to upload")
    parser.add_argument(
        "url",
        metavar="URL",
        help="what it becomes at a server for BITS uploads, or an absolute path of this machine; "
        "if it ends with / the name of the file is added",
    )
    parser.add_argument("--reply", metavar="FILE", help="have what the server's application answers saved as this file")
    parser.add_argument(
        "--user", help="who you are to the server; the password is asked for, or read from standard input"
    )
    parser.add_argument("--scheme", choices=SCHEMES, default=SCHEMES[0], help="how it is told (default basic)")
    parser.add_argument("--password-fd", type=int, metavar="N", help="read the password from descriptor N")
    foreground.add_arguments(parser, without=USELESS)


def run(options: argparse.Namespace) -> int:
    """Create, add, resume as one. Then watch."""
    path = _source(options.file)
    url = _target(options.url, path)
    reply = None if options.reply is None else _reply_path(options.reply)
    password = _password(options)
    kind = JobType.UPLOAD if reply is None else JobType.UPLOAD_REPLY
    name = options.name or os.path.basename(path)  # noqa: PTH119  # pathlib costs start-up time
    with Client() as client:
        job = client.create_job(name, type=kind, auto_complete=True, **property_options.given(options))
        with foreground.all_or_nothing(client, job):
            if password is not None:
                scheme = AuthScheme[options.scheme.upper()]
                job.set_credentials(AuthTarget.SERVER, scheme, options.user, password)
            if reply is not None:
                job.set_reply_file_name(reply)
            job.add_file(url, path)
            job.resume()
        return foreground.follow(options, job, f"{printable(path)} -> {printable(url)}")


def _password(options: argparse.Namespace) -> str | None:
    """Asked for before there is a job; None: nobody is named. Raises E_INVALIDARG."""
    if options.user is not None:
        return read_password(options.user, options.password_fd)
    if options.password_fd is not None:
        raise BitsError(codes.E_INVALIDARG, "cannot use --password-fd without --user; say whose password it is")
    return None


def _source(file: str) -> str:
    """The absolute path of the file, which is there. Raises BitsError; the service looks again, and decides."""
    path = os.path.abspath(file)  # noqa: PTH100  # resolve() would follow links now, as us
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        text = f"cannot put {path!r}: {error.strerror}; name a file that you can read"
        raise BitsError(codes.from_errno(error.errno or 0), text) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        step = "an upload has one file; pack several into one, as with tar"
        raise BitsError(codes.E_INVALIDARG, f"cannot put {path!r}: it is {kind}; {step}")
    return path


def _target(url: str, path: str) -> str:
    """The remote name. Raises E_INVALIDARG."""
    if not is_remote(url):
        step = "begin it with https:// or http://, or give an absolute path of this machine; the file comes first"
        raise BitsError(codes.E_INVALIDARG, f"cannot put {path!r} to {url!r}: it is no URL; {step}")
    return upload_target(url, path)


def _reply_path(reply: str) -> str:
    """The absolute path of the reply. Raises E_INVALIDARG."""
    if is_folder(reply):
        raise BitsError(codes.E_INVALIDARG, f"cannot save the reply as {reply!r}: it is a folder; add a file name")
    return os.path.abspath(reply)  # noqa: PTH100  # as above
