"""One large file, durable: the network worker beside `curl -o`, plain and TLS (design §9, G1 for the engine alone).

    python -m bench.engine [--folder DIR] [--gib N] [--rounds N]

Both fetch the same file from the same nginx on loopback, in turns; curl's output is synced too. Told are medians: wall
time, CPU of the client per GB, and the two ratios. A folder in memory (the default) measures the engine, a folder on a
disk the disk.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.real.nginx import Certificates, Nginx
from tests.transfer.conftest import WorkerProcess

PIECE = os.urandom(1 << 24)


@dataclass(frozen=True, slots=True)
class Run:
    """One fetch."""

    seconds: float
    cpu_seconds: float


def by_curl(url: str, ca: Path, output: Path) -> Run:
    """The peer."""
    began = time.monotonic()
    process = subprocess.Popen(["curl", "--silent", "--fail", "--cacert", ca, "--output", output, url])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"curl failed with {process.returncode}")
    with output.open("rb") as file:
        os.fdatasync(file.fileno())
    return Run(time.monotonic() - began, usage.ru_utime + usage.ru_stime)


def by_worker(worker: WorkerProcess, url: str, output: Path) -> Run:
    """Ours."""
    began, cpu = time.monotonic(), worker.cpu_seconds()
    story = worker.fetch(url, output)
    if story.outcome != "transferred":
        raise SystemExit(f"the worker failed: {story.last}")
    return Run(time.monotonic() - began, worker.cpu_seconds() - cpu)


def tell(scheme: str, name: str, runs: list[Run], gigabytes: float) -> tuple[float, float]:
    """One line; returns throughput in GB/s and CPU seconds per GB."""
    seconds = statistics.median(run.seconds for run in runs)
    cpu = statistics.median(run.cpu_seconds for run in runs)
    print(f"{scheme:6} {name:7} {gigabytes / seconds:6.2f} GB/s {cpu / gigabytes:6.2f} CPU s/GB")
    return gigabytes / seconds, cpu / gigabytes


def main() -> None:
    """Start the server and compare, plain and TLS."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))  # noqa: S108  # memory, on purpose
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size = int(options.gib * (1 << 30))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        certificates = Certificates(folder)
        nginx = Nginx(folder, certificates)
        worker = WorkerProcess(ca=certificates.ca)
        try:
            with (nginx.root / "large").open("wb") as file:
                while file.tell() < size:
                    file.write(PIECE[: size - file.tell()])
            for scheme in ("http", "https"):
                compare(scheme, nginx, worker, certificates.ca, options.rounds)
        finally:
            worker.close()
            nginx.close()


def compare(scheme: str, nginx: Nginx, worker: WorkerProcess, ca: Path, rounds: int) -> None:
    """Fetch in turns and tell the medians."""
    url, output = nginx.url("/large", tls=scheme == "https"), nginx.root.parent / "output"
    curl_runs, our_runs = [], []
    for _ in range(rounds):
        curl_runs.append(by_curl(url, ca, output))
        output.unlink()
        our_runs.append(by_worker(worker, url, output))
        output.unlink()
    gigabytes = (nginx.root / "large").stat().st_size / 1e9
    curl_speed, curl_cpu = tell(scheme, "curl", curl_runs, gigabytes)
    our_speed, our_cpu = tell(scheme, "worker", our_runs, gigabytes)
    print(f"{scheme:6} ratio   {our_speed / curl_speed:6.2f} x throughput, {our_cpu / curl_cpu:.2f} x CPU per GB")


if __name__ == "__main__":
    main()
