"""`bits list`, `show`, `wait`, `suspend`, `resume`, `cancel`, `complete`, `take`: the queue and the verbs of a job."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable

from openbits.api.client import Client, Job
from openbits.api.wire import JobInfo
from openbits.cli import exits, render
from openbits.cli.printing import put
from openbits.cli.selection import REFERENCE, find_job
from openbits.cli.watch import exit_code, reporter_for, verdict, watch
from openbits.core import codes
from openbits.core.errors import BitsError


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits list`."""
    parser.add_argument("--all-users", action="store_true", help="jobs of everybody (administrators)")
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run_list(options: argparse.Namespace) -> int:
    """The jobs of the queue, and for each that does not move the reason."""
    with Client() as client:
        infos = client.job_infos(all_users=options.all_users)
    infos.sort(key=lambda info: info["created_at"])
    if options.json:
        print(json.dumps(infos, indent=2))
    elif infos:
        put(render.table(infos, time.time(), has_owner=options.all_users), indent=8)
    return exits.OK


def add_show_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits show`."""
    parser.add_argument("job", metavar="JOB", help="the job")
    parser.add_argument("--json", action="store_true", help="print a JSON object; its files are in `files`")
    parser.epilog = REFERENCE


def run_show(options: argparse.Namespace) -> int:
    """Everything about one job."""
    with Client() as client:
        job = find_job(client, options.job)
        info, files = job.info(), job.files()
    if options.json:
        print(json.dumps({**info, "files": files}, indent=2))
    else:
        put(render.details(info, files, time.time()), indent=13)
    return exits.OK


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows a verb."""
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="the jobs")
    parser.epilog = REFERENCE


def run_suspend(options: argparse.Namespace) -> int:
    """Stop at once; what was transferred stays."""
    return _each(options.jobs, "suspend", _quietly(Job.suspend))


def run_resume(options: argparse.Namespace) -> int:
    """Make the jobs runnable, or retry at once."""
    return _each(options.jobs, "resume", _quietly(Job.resume))


def run_cancel(options: argparse.Namespace) -> int:
    """Give the jobs up and remove their temporary files."""
    return _each(options.jobs, "cancel", lambda job: _ended(job, job.cancel()))


def run_complete(options: argparse.Namespace) -> int:
    """Publish what is transferred."""
    return _each(options.jobs, "complete", _complete)


def run_take(options: argparse.Namespace) -> int:
    """Become the owner of the jobs."""
    return _each(options.jobs, "take", _quietly(Job.take_ownership))


def add_wait_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits wait`."""
    add_job_arguments(parser)
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="give up waiting after this long (exit code 4)"
    )
    parser.add_argument("--json", action="store_true", help="print the jobs as JSON lines")


def run_wait(options: argparse.Namespace) -> int:
    """Wait for each job in turn until it is transferred, acknowledged, cancelled or in error."""
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    try:
        return _each(options.jobs, "wait for", lambda job: _wait(job, deadline, is_json=options.json))
    except KeyboardInterrupt:
        print("\nbits: stopped waiting; the jobs go on", file=sys.stderr)
        return exits.INTERRUPTED


def _wait(job: Job, deadline: float | None, *, is_json: bool) -> int:
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    outcome, info = watch(job, reporter_for(is_json=is_json), left)
    code = exit_code(outcome, info)
    if is_json:
        print(json.dumps({"event": "result", "outcome": outcome.value, "exit_code": code, "job": info}), flush=True)
    for line in verdict(outcome, info, time.time()):
        print(f"bits: {line}", file=sys.stderr)
    return code


def _complete(job: Job) -> int:
    """What a failed job gives up is said together with why it failed: that is the last occasion."""
    before = job.info()
    hresult = job.complete()
    code = _ended(job, hresult)
    kept, total = before["files_transferred"], before["files_total"]
    if hresult == codes.BG_S_PARTIAL_COMPLETE or (hresult != codes.S_OK and kept < total):
        print(f"bits: job {job.id}: {kept} of {total} files were published, the others dropped", file=sys.stderr)
        _repeat_first_error(job, before, "")
        return exits.PARTIAL  # also where the code is that of temporary files which stayed
    return code


def _repeat_first_error(job: Job, info: JobInfo, told: str) -> None:
    """A later failure never hides why the job failed (errors that were told just now are not repeated)."""
    error = info["error"] or info["complete_error"]
    if error is not None and error["message"] not in told:
        at = render.instant(error["at"])
        print(f"bits: job {job.id} had failed at {at}: {render.error_text(error)}", file=sys.stderr)


def _each(references: list[str], verb: str, act: Callable[[Job], int]) -> int:
    """Do it to every job, whatever happens to the others; the exit code of the first that failed."""
    first_failure = exits.OK
    with Client() as client:
        for reference in references:
            job = None
            try:
                job = find_job(client, reference)
                code = act(job)
            except BitsError as error:
                code = exits.complain(f"{verb} {reference}", error)
                if client.is_closed:
                    return first_failure or code
                if job is not None:
                    with contextlib.suppress(BitsError):
                        _repeat_first_error(job, job.info(), error.text)
            first_failure = first_failure or code
    return first_failure


def _quietly(method: Callable[[Job], None]) -> Callable[[Job], int]:
    def act(job: Job) -> int:
        method(job)
        return exits.OK

    return act


def _ended(job: Job, hresult: int) -> int:
    """Cancel and Complete may succeed with a remark."""
    if hresult != codes.S_OK:
        print(f"bits: job {job.id}: {codes.lookup(hresult).sentence} [{codes.label(hresult)}]", file=sys.stderr)
    return exits.code_of_success(hresult)
