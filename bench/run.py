"""Comparisons with curl through the whole service (design.md §9, G1 and G7): side by side, medians of several rounds.

    make bench                     both, 1 GiB, 5 rounds
    make bench ARGS="--size-mib 256 --rounds 3"

G1: one large file, plain and TLS, `bits get` (foreground job, identities, commits, durable) beside `curl -o`, which
leaves its file in memory, and `curl -o` with a sync, which promises what we promise. CPU is that of every process that
took part, the service's included. G7: CPU time of a
command up to its end. Interleaved rounds, so that both meet the same machine.
"""

import argparse
import contextlib
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import openbits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.real.nginx import Certificates, Nginx  # needs the path above

BITS = str(Path(sys.executable).with_name("bits"))
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Wall time and CPU time of one download, seconds."""

    wall: float
    cpu: float


def main() -> None:
    """Run what the arguments ask for and print one table each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with bench_folder() as base:
        certificates = Certificates(base)
        nginx = Nginx(base, certificates)
        try:
            fill(nginx.root / "large", options.size_mib)
            with service(base, certificates.ca):
                g1(nginx, certificates.ca, base / "out", options.size_mib, options.rounds)
                g7(options.rounds * 3)
        finally:
            nginx.close()


def g1(nginx: Nginx, ca: Path, out: Path, size_mib: int, rounds: int) -> None:
    """One large file; curl once as it is and once with the sync that makes its file as durable as ours."""
    out.mkdir(exist_ok=True)
    print(f"G1: one file of {size_mib} MiB, medians of {rounds} interleaved rounds\n")
    print("                       MiB/s   CPU s/GiB")
    for words, tls in (("plain", False), ("TLS 1.3", True)):
        url = nginx.url("/large", tls=tls)
        curl = ["curl", "-s", *(["--cacert", str(ca)] if tls else []), "-o", str(out / "curl"), url]
        durable = ["sh", "-c", '"$@" && sync -d "$0"', str(out / "curl"), *curl]
        runs: dict[str, list[Cost]] = {"curl": [], "curl, synced": [], "bits": []}
        for _ in range(rounds):
            for name, command, other_cpu in (
                ("curl", curl, no_cpu),
                ("curl, synced", durable, no_cpu),
                ("bits", [BITS, "get", url, str(out / "bits")], service_cpu),
            ):
                runs[name].append(measure(command, other_cpu))
                for path in out.iterdir():
                    path.unlink()
                os.sync()
        costs = {name: median(run) for name, run in runs.items()}
        for name, cost in costs.items():
            print(f"  {words:8} {name:13} {size_mib / cost.wall:6.0f} {cost.cpu * 1024 / size_mib:10.2f}")
        for peer in ("curl", "curl, synced"):
            throughput, cpu = costs[peer].wall / costs["bits"].wall, costs["bits"].cpu / costs[peer].cpu
            print(f"  {words:8} bits beside {peer}: {throughput:.2f} x its throughput, {cpu:.2f} x its CPU per GiB")
    print()


def g7(rounds: int) -> None:
    """CPU of short commands."""
    print(f"G7: CPU time of a command, median of {rounds}\n")
    for command in (["--help"], ["list"], ["list", "--json"]):
        costs = [measure([BITS, *command], no_cpu) for _ in range(rounds)]
        print(f"  bits {' '.join(command):12} {median(costs).cpu:6.3f} s CPU   {median(costs).wall:6.3f} s wall")
    bare = [measure([sys.executable, "-c", "pass"], no_cpu) for _ in range(rounds)]
    print(f"  {'python -c pass':17} {median(bare).cpu:6.3f} s CPU   {median(bare).wall:6.3f} s wall")


def measure(command: list[str], other_cpu: Callable[[], float]) -> Cost:
    """Run a command; its CPU and what `other_cpu` grew by."""
    before, other_before, started = children_cpu(), other_cpu(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    return Cost(wall, children_cpu() - before + other_cpu() - other_before)


def no_cpu() -> float:
    """For commands that nobody else works for."""
    return 0.0


def median(costs: list[Cost]) -> Cost:
    """Median of each."""
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def children_cpu() -> float:
    """CPU of our ended children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def service_cpu() -> float:
    """CPU that the living processes of the service have used so far."""
    with openbits.Client() as client:
        pids = set(client.info["process_ids"].values())
    used = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) / TICKS
    return used


def fill(path: Path, size_mib: int) -> None:
    """A file of random bytes."""
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(size_mib):
            file.write(block)


@contextlib.contextmanager
def bench_folder() -> Iterator[Path]:
    """A folder of our own."""
    base = Path(tempfile.mkdtemp(prefix="openbits-bench-"))
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def service(base: Path, ca: Path) -> Iterator[None]:
    """A service of our own that trusts our certificate authority."""
    (base / "config").mkdir()
    (base / "config" / "bench.toml").write_text(f'[tls]\nca_file = "{ca}"\n')
    os.environ["OPENBITS_CONFIG"] = str(base / "config")
    os.environ["OPENBITS_STATE_DIR"] = str(base / "state")
    os.environ["OPENBITS_SOCKET"] = str(base / "bitsd.sock")
    with openbits.Client() as client:
        pid = client.info["process_ids"]["spawner"]
    try:
        yield
    finally:
        os.kill(pid, signal.SIGTERM)


if __name__ == "__main__":
    main()
