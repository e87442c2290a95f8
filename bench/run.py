"""OpenBITS beside curl, aria2c, wget2 and rclone, through the whole service (design.md §9: G1, G2, G3, G5).

    make bench                                              all sections, 5 rounds
    make bench ARGS="--only large,small --rounds 3"         some
    make bench ARGS="--only large --size-mib 512 --json"    for programs; the table goes to stderr

Rounds are interleaved, so that all meet the same machine; told are medians. Everything comes over loopback from one
nginx whose files are in the page cache. CPU is that of every process that took part but the server: for `bits` its
client and all processes of the service. `bits` promises that the bytes are on the disk when it ends; of the others
only `curl, synced` does.
"""

import argparse
import json
import os
import platform
import signal
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

import pycurl
from bench import measure, peers, place, sections
from bench.measure import MIB, Cost, FailedError
from bench.sections import SECTIONS, Row


def main() -> None:
    """Run what the arguments ask for and print the table."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends too
    results: list[dict[str, Any]] = []
    output = sys.stderr if options.json else sys.stdout
    with place.made(options.folder) as here:
        machine = _machine(here.folder)
        for name, words in machine.items():
            print(f"{name}: {words}", file=output)
        for section in options.only:
            for row in SECTIONS[section](here, options):
                results.extend(_compare(here, row, options, output))
    if options.json:
        print(json.dumps({"machine": machine, "rounds": options.rounds, "results": results}, indent=1))


def _options() -> sections.Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections (default: {','.join(SECTIONS)})")
    parser.add_argument("--programs", default=",".join(peers.PROGRAMS), help="as named in the table, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size-mib", type=int, default=4096, help="of the large file (default: 4096)")
    parser.add_argument("--parallel", type=int, default=8, help="files at a time (default: 8)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="below it everything is done")
    parser.add_argument("--json", action="store_true", help="print the results as JSON, the table on stderr")
    given = parser.parse_args()
    only, known = given.only.split(","), set(given.programs.split(","))
    if not set(only) <= set(SECTIONS):
        parser.error(f"unknown section among {given.only}; known are {', '.join(SECTIONS)}")
    return sections.Options(
        only=tuple(only),
        programs=tuple(name for name in peers.PROGRAMS if name in known or name.partition(",")[0] in known),
        rounds=given.rounds,
        size_mib=given.size_mib,
        parallel=given.parallel,
        folder=given.folder,
        json=given.json,
    )


def _machine(folder: Path) -> dict[str, str]:
    """What the figures depend on."""
    return {
        **peers.versions(),
        "bits": f"{pycurl.version}, Python {platform.python_version()} ({ssl.OPENSSL_VERSION})",
        "machine": f"{os.cpu_count()} processors, Linux {platform.release()}",
        "files": f"fetched to {place.file_system(folder)}, served from the page cache",
    }


def _compare(here: place.Place, row: Row, options: sections.Options, output: Any) -> list[dict[str, Any]]:
    """Interleaved rounds of one row of the section; one result for each program."""
    print(f"\n{row.title}\n{'':14} {row.heading}", file=output, flush=True)
    costs: dict[str, list[Cost]] = {
        name: [] for name in options.programs if peers.is_there(name) and name in row.programs
    }
    refused: dict[str, str] = {}
    names = list(costs)
    for turn in range(options.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody is always behind the same one
            if name not in refused:
                try:
                    costs[name].append(row.measure(name))
                except FailedError as error:
                    refused[name] = str(error)
                here.empty()
    medians = {name: measure.median(found) for name, found in costs.items() if found and name not in refused}
    base = medians.get(peers.BASE)
    for name, cost in medians.items():
        print(f"{name:14} {row.line(cost, base)}", file=output, flush=True)
    for name, words in refused.items():
        print(f"{name:14} {words}", file=output, flush=True)
    return [_result(row, name, cost) for name, cost in medians.items()] + [
        {"section": row.section, "row": row.title, "program": name, "failed": words} for name, words in refused.items()
    ]


def _result(row: Row, name: str, cost: Cost) -> dict[str, Any]:
    return {
        "section": row.section,
        "row": row.title,
        "program": name,
        "wall_seconds": round(cost.wall_seconds, 4),
        "mib_per_second": round(row.total_bytes / MIB / cost.wall_seconds, 1),
        "cpu_seconds_per_gb": round(cost.cpu_seconds / (row.total_bytes / 1e9), 4),
        "peak_mib": {who or name: round(size / MIB, 1) for who, size in cost.peak_bytes.items()},
        **cost.extra,
    }


if __name__ == "__main__":
    main()
