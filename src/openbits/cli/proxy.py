"""`bits proxy`: through which proxy a URL would be asked for, who says so, and what the proxy says."""

import argparse
import json
import sys
from collections.abc import Iterator

from openbits.api.client import Client
from openbits.api.wire import ProxyExplanation
from openbits.cli import exits, render
from openbits.cli.printing import put
from openbits.cli.selection import REFERENCE, find_job
from openbits.core import codes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `bits proxy`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    explaining = actions.add_parser("explain", help="what would be tried for a URL, and why")
    explaining.add_argument("url", metavar="URL", help="http or https; nothing is downloaded")
    explaining.add_argument("--job", metavar="JOB", help="as this job would; else as yourself")
    explaining.add_argument("--json", action="store_true", help="print a JSON object")
    parser.epilog = (
        "The proxy is asked once, without credentials. Exit code 1: nobody can say which one it is, or that one cannot"
        f" be used; it is printed why. {REFERENCE}"
    )


def run(options: argparse.Namespace) -> int:
    """Ask and print."""
    with Client() as client:
        asking = client if options.job is None else find_job(client, options.job)
        explanation = asking.explain_proxy(options.url)
    if options.json:
        print(json.dumps(explanation, indent=2))
    else:
        put(lines(explanation), indent=13)
    problem = explanation["problem"]
    if problem is None:
        return exits.OK
    text = f"cannot say more: {problem['text']}"
    print(f"bits: {render.printable(text)} [{codes.label(problem['hresult'])}]", file=sys.stderr)
    return exits.JOB_ERROR


def lines(explanation: ProxyExplanation) -> Iterator[str]:
    """One line for each thing that people ask."""
    rows = [
        ("url", explanation["url"]),
        ("identity", explanation["identity"]),
        ("settings", _settings(explanation)),
        ("tried", ", then ".join(explanation["choice"]) or "not known"),
        ("because", explanation["why"] or "see below"),
        *(("note", note) for note in explanation["notes"]),
    ]
    if explanation["asked"] is not None:
        rows.append(("asked", explanation["asked"]))
        rows.append(("it says", explanation["answer"]))
    if explanation["schemes"]:
        rows.append(("it offers", ", ".join(explanation["schemes"])))
    return (f"{name:<12} {render.printable(text)}" for name, text in rows)


def _settings(explanation: ProxyExplanation) -> str:
    return f"{explanation['usage']}, says {explanation['source']}" if explanation["source"] else "not known"
