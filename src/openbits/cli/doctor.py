"""`bits doctor`: is everything there that jobs need. It looks, and never starts or changes anything.

Exit code 6 if no service answers, else 1 if a check fails, else 0: warnings do not count.
"""

import argparse
import json
import time
from collections.abc import Iterator
from typing import cast

from openbits.api import locate
from openbits.api.connection import NotListeningError, UnreachableError
from openbits.api.wire import JobInfo, PoliciesInfo, ServiceInfo
from openbits.cli import checks, exits, render
from openbits.cli.checks import FAIL, WARN, Finding
from openbits.cli.printing import put
from openbits.core import codes
from openbits.core.enums import Level
from openbits.core.errors import BitsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits doctor`."""
    parser.add_argument("--json", action="store_true", help="print a JSON array of level, subject, text and step")
    parser.epilog = "Looks only. Exit code 6: no service answers; 1: a check failed; warnings do not count."


def run(options: argparse.Namespace) -> int:
    """Print what was found."""
    code, findings = exits.OK, []
    for finding in _findings():
        findings.append(finding)
        if finding.level == FAIL:
            code = code or exits.JOB_ERROR
        if not options.json:
            _print(finding)
    if options.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    is_there = any(finding.subject == "version" for finding in findings)
    return code if is_there else exits.UNREACHABLE


def _findings() -> Iterator[Finding]:
    yield from checks.client()
    yield from checks.you()
    try:
        place = locate.locate()
    except BitsError as error:
        yield Finding(FAIL, "chosen", f"{error.text} [{codes.label(error.hresult)}]", "mend the environment")
    else:
        yield from checks.sockets(place)
        yield from _service(place)
        yield from checks.state_directory(place.state_directory)
    yield from checks.kernel()
    yield from checks.logons()
    yield from checks.certificates()
    yield from checks.kerberos()
    yield from checks.clock(time.time())


def _service(place: locate.Place) -> Iterator[Finding]:
    try:
        info, jobs, policies = _ask(place)
    except NotListeningError as error:
        step = "any command starts it, e.g. bits list" if place.may_start else "ask the administrator to start it"
        yield Finding(WARN if place.may_start else FAIL, "service", error.why, step)
    except UnreachableError as error:
        yield Finding(FAIL, "service", f"{error.text} [{codes.label(error.hresult)}]", "remove the cause named there")
    except BitsError as error:
        yield Finding(FAIL, "service", f"{error.text} [{codes.label(error.hresult)}]", "see the journal of bitsd")
    else:
        yield from checks.service(info)
        yield from checks.policies(policies)
        yield from checks.jobs(jobs, time.time())


def _ask(place: locate.Place) -> tuple[ServiceInfo, list[JobInfo], PoliciesInfo]:
    """Who answers, the jobs of this user, and the policies."""
    connection, info = locate.greet(place, Level.IDENTIFY)
    try:
        jobs = connection.collect("ListJobs", {"all_users": False}, "jobs")
        policies, _ = connection.call("GetPolicies")
        return info, jobs, cast("PoliciesInfo", policies)
    finally:
        connection.close()


def _print(finding: Finding) -> None:
    step = f"; {finding.step}" if finding.step else ""
    put([render.printable(f"{finding.level:<5} {finding.subject:<11} {finding.text}{step}")], indent=18)
