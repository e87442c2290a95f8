"""What people type in their sessions: `python -m tests.logind.acts NAME ARGUMENTS`."""

import sys
from collections.abc import Callable

import openbits
from openbits import TokenFlags


def begin(url: str, path: str, helper: str, password: str, flags: str) -> str:
    """A job with a helper token of this session, resumed; its id."""
    with openbits.Client() as client:
        job = client.create_job("trial")
        _give_token(client, job, helper, password)
        job.set_helper_token_flags(TokenFlags(int(flags)))
        job.add_file(url, path)
        job.resume()
        return str(job.id)


def begin_alone(url: str, path: str) -> str:
    """A job under its owner only, resumed; its id."""
    with openbits.Client() as client:
        job = client.create_job("trial")
        job.add_file(url, path)
        job.resume()
        return str(job.id)


def repair(job_id: str, helper: str, password: str) -> str:
    """Repair 1: a new token, then Resume."""
    with openbits.Client() as client:
        job = client.job(job_id)
        _give_token(client, job, helper, password)
        job.resume()
        return "repaired"


def repair_alone(job_id: str) -> str:
    """Repair 2: without the helper, then Resume."""
    with openbits.Client() as client:
        job = client.job(job_id)
        job.set_helper_token_flags(TokenFlags(0))
        job.resume()
        return "repaired"


def _give_token(client: openbits.Client, job: openbits.Job, helper: str, password: str) -> None:
    with client.logon_user(helper, password) as token, token.impersonate():
        job.set_helper_token()


ACTS: dict[str, Callable[..., str]] = {act.__name__: act for act in (begin, begin_alone, repair, repair_alone)}

if __name__ == "__main__":
    print("ANSWER", ACTS[sys.argv[1]](*sys.argv[2:]), "", sep="=")  # noqa: T201  # this is the answer
