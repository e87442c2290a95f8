"""`bits policy`: what the administrator allows, and where that is said."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from openbits.api.client import Client
from openbits.api.wire import PolicyInfo
from openbits.cli import exits, render
from openbits.cli.printing import put


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits policy`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    showing = actions.add_parser("show", help="the policies that files set")
    showing.add_argument("--effective", action="store_true", help="those with their default value, too")
    showing.add_argument("--why", action="store_true", help="also where each value comes from, and what it does")
    showing.add_argument(
        "--json", action="store_true", help="print a JSON object: folder, problem, and the policies with all of it"
    )
    parser.epilog = (
        "Exit code 1: the files have a mistake, so that the service still goes by what they said before; it is printed."
    )


def run(options: argparse.Namespace) -> int:
    """Print them."""
    with Client() as client:
        info = client.policies()
    shown = [one for one in info["policies"] if one["origin"] or options.effective]
    if options.json:
        print(json.dumps({**info, "policies": [_plain(one) for one in shown]}, indent=2))
    elif shown:
        put(lines(shown, is_explained=options.why), indent=8)
    else:
        print(f"no file in {render.printable(info['folder'])} sets a policy; all of them: bits policy show --effective")
    if info["problem"]:
        print(f"bits: not in force: {render.printable(info['problem'])}", file=sys.stderr)
        return exits.JOB_ERROR
    return exits.OK


def lines(policies: Sequence[PolicyInfo], *, is_explained: bool) -> Iterator[str]:
    """A line for each: name, value, where it comes from; what it does below."""
    width = max(len(one["name"]) for one in policies)
    for one in policies:
        notes = [] if one["is_used"] else ["not used yet"]
        if is_explained:
            notes.append(f"from {one['origin']}" if one["origin"] else "the default")
        note = f"  ({', '.join(notes)})" if notes else ""
        yield render.printable(f"{one['name']:<{width}}  {value_text(one)}{note}")
        if is_explained:
            yield render.printable(f"{'':<{width}}  {one['doc']}; {one['rule']}")


def value_text(policy: PolicyInfo) -> str:
    """`60 jobs`, `yes`, `not set`."""
    value = policy["value"]
    if value is None:
        return "not set"
    return ("no", "yes")[value] if policy["kind"] == "boolean" else f"{value} {policy['unit']}".rstrip()


def _plain(policy: PolicyInfo) -> dict[str, object]:
    """As JSON says it: a boolean is true or false."""
    is_boolean = policy["kind"] == "boolean"
    values = {name: policy[name] for name in ("value", "default")}
    return {**policy, **{name: bool(value) if is_boolean else value for name, value in values.items()}}
