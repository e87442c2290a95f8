"""`bits get`: download now, in the foreground, and publish by itself; Ctrl-C leaves the job to the service."""

import argparse
import contextlib
import json
import os
import sys
import time
from urllib.parse import unquote, urlsplit

from openbits.api.client import Client, Job, Outcome
from openbits.cli import exits, render
from openbits.cli.watch import reporter_for, verdict, watch
from openbits.core import codes
from openbits.core.enums import Priority
from openbits.core.errors import BitsError

MAX_NAME_BYTES = 255
FALLBACK_NAME = "download"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits get`."""
    parser.usage = "%(prog)s [-h] [--name NAME] [--priority PRIORITY] [--json] URL… [PATH]"
    parser.add_argument("operands", nargs="+", metavar="URL… [PATH]", help="URLs, then a file or folder (default: .)")
    parser.add_argument("--name", help="display name of the job (default: the first file's)")
    parser.add_argument(
        "--priority",
        choices=[priority.name.lower() for priority in Priority],
        default=Priority.FOREGROUND.name.lower(),
        help="default: foreground, which uses all bandwidth",
    )
    parser.add_argument("--json", action="store_true", help="print the job as JSON lines, the last one with the result")


def run(options: argparse.Namespace) -> int:
    """Create, add, resume as one: nothing is left behind if a part of it fails. Then watch."""
    pairs = destinations(*split_operands(options.operands))
    name = options.name or os.path.basename(pairs[0][1])  # noqa: PTH119  # pathlib costs start-up time
    with Client() as client:
        job = client.create_job(name, priority=Priority[options.priority.upper()], auto_complete=True)
        try:
            job.add_files(pairs)
            job.resume()
        except BaseException:
            with contextlib.suppress(BitsError):  # it may be the service that failed
                client.reconnect()
                job.cancel()
            raise
        try:
            return _watch(job, [path for _, path in pairs], is_json=options.json)
        except KeyboardInterrupt:
            print(f"\nbits: the job goes on in the background; watch it with: bits wait {job.id}", file=sys.stderr)
            return exits.INTERRUPTED


def split_operands(operands: list[str]) -> tuple[list[str], str]:
    """URLs, and the path behind them: the last operand if it is no URL. Raises E_INVALIDARG."""
    is_path_given = "://" not in operands[-1]
    urls, path = (operands[:-1], operands[-1]) if is_path_given else (operands, ".")
    strange = next((url for url in urls if "://" not in url), None)
    if strange is not None or not urls:
        what = strange if strange is not None else operands[-1]
        raise BitsError(codes.E_INVALIDARG, f"cannot get {what!r}: it is no URL; write URLs first, then one PATH")
    return urls, path


def destinations(urls: list[str], path: str) -> list[tuple[str, str]]:
    """Pairs of URL and absolute local path. Raises E_INVALIDARG where two files would be one."""
    is_folder = os.path.isdir(path) or path.endswith("/")  # noqa: PTH112
    if len(urls) > 1 and not is_folder:
        raise BitsError(codes.E_INVALIDARG, f"cannot put {len(urls)} files into {path!r}: it is no existing folder")
    base = os.path.abspath(path)  # noqa: PTH100  # resolve() would follow links now, as us
    pairs = [(url, os.path.join(base, safe_name(url)) if is_folder else base) for url in urls]  # noqa: PTH118
    taken: dict[str, str] = {}
    for url, local in pairs:
        if local in taken:
            raise BitsError(
                codes.E_INVALIDARG,
                f"cannot get {taken[local]} and {url} at once: both would be {local}; get one by one",
            )
        taken[local] = url
    return pairs


def safe_name(url: str) -> str:
    """The last segment of the URL's path as one file name: no separators, no control characters, never `..`."""
    segment = unquote(urlsplit(url).path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = render.printable(segment).strip()
    if name[:1] in {"~", "$", "%"}:  # the service takes these for variables that somebody forgot to expand
        name = f"_{name[1:]}"
    name = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return FALLBACK_NAME if name in {"", ".", ".."} else name


def _watch(job: Job, paths: list[str], *, is_json: bool) -> int:
    started = time.time()
    outcome, info = watch(job, reporter_for(is_json=is_json))
    now = time.time()
    code = exits.code_of_outcome(outcome)
    if outcome is Outcome.TRANSFERRED:  # by itself it would be acknowledged: publishing failed
        code = exits.JOB_ERROR
    if is_json:
        print(json.dumps({"event": "result", "outcome": outcome.value, "exit_code": code, "job": info}))
    elif outcome is Outcome.ACKNOWLEDGED:
        seconds = max(now - started, 0.001)
        amount = info["bytes_transferred"]
        print(f"{', '.join(paths)}: {render.size(amount)} in {render.span(seconds)}, {render.size(amount / seconds)}/s")
    for line in verdict(outcome, info, now):
        print(f"bits: {line}", file=sys.stderr)
    return code
