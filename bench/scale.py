"""A long queue and an idle service (design.md §9: G6, G7, G8; reliability.md P10), with the goals beside.

    make bench-scale                                     100,000 jobs of one file, three owners
    make bench-scale ARGS="--files 10 --rounds 3"        of ten files

The queue is written straight into the store (half of it suspended, half waiting behind a job of a higher level whose
server is slow), then the service is started on it. Creating a job is measured beside a bare write and fdatasync on the
same disk, in turns: the goal is a distance to that. At last a service is started on a queue of which it has to look at
every job, as all were waiting to try again. Needs root, as owners are other uids.
"""

import argparse
import contextlib
import functools
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.real.conftest import Person, Service, run_as  # needs the path above

import openbits
from openbits.core.enums import JobState, Priority
from openbits.core.model import Directory, File, Identity, Job
from openbits.core.properties import Properties
from openbits.store import SaveJob, open_store

BITS = str(Path(sys.executable).with_name("bits"))
OWNERS = (61001, 61002, 61003)
WAITING_STATES = (JobState.SUSPENDED, JobState.QUEUED)
WAITING_LEVELS = (Priority.NORMAL, Priority.LOW)
HOLD_SECONDS = 60
BATCH = 5_000
SYNC_BYTES = 4096
CREATES = 1000
CLIENTS = 20
MIB = 1 << 20


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="openbits-bench-", dir=options.folder))
    base.chmod(0o755)
    few, service, waking = (Service(folder(base / name), os.geteuid()) for name in ("few", "many", "waking"))
    try:
        few.start()
        print(f"{options.jobs} jobs of {options.files} file(s), medians of {options.rounds}\n")
        print(f"{'':58} {'measured':>12} {'soon':>14} {'goal':>14}")
        idle(service, options.rounds)
        owner = (service.state / "queue").stat()
        run_as(Person(uid=owner.st_uid, gid=owner.st_gid), fill, service.state / "queue", options.jobs, options.files)
        start(service, options.rounds)
        with slow_server() as url:
            hold_slot(service, url, base / "held")
            lists(service, options.rounds)
            creates(service, few, base)
        row("G6 manager at last, RSS", f"{rss(service):.0f} MiB", "< 200 MiB", "< 100 MiB")
        service.close()
        wakes(waking, options.jobs, options.files)
    finally:
        for one in (service, few, waking):
            one.close()
        shutil.rmtree(base, ignore_errors=True)


def folder(path: Path) -> Path:
    """A new one that every user may pass."""
    path.mkdir(mode=0o755)
    return path


def idle(service: Service, rounds: int) -> None:
    """G7 and G8: a command, and a service with nothing to do."""
    service.start()
    environ = {**os.environ, "OPENBITS_SOCKET": str(service.socket)}
    cpu = median(lambda: cpu_seconds([BITS, "list"], environ), rounds * 3)
    row("G7 bits list, CPU", f"{cpu:.3f} s", "<= 0.15 s", "<= 0.08 s")
    pss = sum(memory(pid, "smaps_rollup", "Pss") for pid in service.pids().values())
    row("G8 idle service, all processes, PSS", f"{pss:.0f} MiB", "<= 60 MiB", "<= 40 MiB")
    service.stop()


def start(service: Service, rounds: int) -> None:
    """From the start of the spawner to the first answer."""

    def ready() -> float:
        began = time.perf_counter()
        service.start()
        seconds = time.perf_counter() - began
        service.stop()
        return seconds

    row("G6 start to first answer", f"{median(ready, rounds):.2f} s", "< 2 s", "< 0.5 s")
    service.start()
    row("G6 manager after the start, RSS", f"{rss(service):.0f} MiB", "< 200 MiB", "< 100 MiB")
    pss = sum(memory(pid, "smaps_rollup", "Pss") for pid in service.pids().values())
    row("   all processes with this queue, PSS", f"{pss:.0f} MiB")


@contextlib.contextmanager
def slow_server() -> Iterator[str]:
    """Serves one large file at 40 KiB/s."""

    def drip() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(MIB)
            connection.sendall(
                b'HTTP/1.1 200 OK\r\nETag: "1"\r\nAccept-Ranges: bytes\r\nContent-Length: 1000000000\r\n\r\n'
            )
            while True:
                connection.sendall(bytes(4096))
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/large"
        listening.shutdown(socket.SHUT_RDWR)


def hold_slot(service: Service, url: str, path: Path) -> None:
    """Have one job run for as long as the measurement takes; all others of the background wait behind it."""
    with service.client() as client:
        job = client.create_job("the one that runs", priority=Priority.HIGH)
        job.add_file(url, path)
        job.resume()
        deadline = time.monotonic() + HOLD_SECONDS
        while job.info()["state"] != "transferring":
            if time.monotonic() > deadline:
                raise SystemExit(f"the job that holds the slot does not run: {job.info()['waiting']}")
            time.sleep(0.05)


def lists(service: Service, rounds: int) -> None:
    """The first page, all pages, and what others wait meanwhile."""

    def first_page() -> float:
        with service.client() as client:
            began = time.perf_counter()
            client.connection.stream("ListJobs", {"all_users": True})
            client.connection.next_reply()
            return time.perf_counter() - began

    row("G6 first page of all jobs", f"{median(first_page, rounds) * 1e3:.1f} ms", "< 200 ms", "< 50 ms")
    waits: list[float] = []
    is_over = threading.Event()
    asking = threading.Thread(target=ask_until, args=(service, is_over, waits))
    asking.start()
    began = time.perf_counter()
    listing = subprocess.run(
        [BITS, "list", "--all-users", "--json"],
        env={**os.environ, "OPENBITS_SOCKET": str(service.socket)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    seconds = time.perf_counter() - began
    is_over.set()
    asking.join()
    row(f"   {' '.join(listing.args[1:])}", f"{seconds:.1f} s")
    row("   another call meanwhile, p50 / p99", f"{spread(waits)} ms", "p99 < 50 ms")


def ask_until(service: Service, is_over: threading.Event, waits: list[float]) -> None:
    """Somebody else who uses the service."""
    with service.client() as client:
        while not is_over.is_set():
            began = time.perf_counter()
            client.call("Hello", {"level": 3}, client.connection)
            waits.append(time.perf_counter() - began)
            time.sleep(0.005)


def creates(service: Service, few: Service, base: Path) -> None:
    """CreateJob by one client, beside the bare cost of the disk and a service with an empty queue, and by many."""
    syncs: list[float] = []
    empty: list[float] = []
    waits: list[float] = []
    descriptor = os.open(base / "sync", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with service.client() as client, few.client() as other:
        for one in (client, other):
            one.create_job("the first of its owner")
        for number in range(CREATES):
            syncs.append(timed(functools.partial(sync, descriptor)))
            empty.append(timed(functools.partial(other.create_job, f"new {number}")))
            waits.append(timed(functools.partial(client.create_job, f"new {number}")))
    os.close(descriptor)
    row("   write and fdatasync of 4 KiB, p50 / p99", f"{spread(syncs)} ms")
    row("   create in an empty queue, p50 / p99", f"{spread(empty)} ms")
    row("   create, one client, p50 / p99", f"{spread(waits)} ms")
    beyond = (percentile(waits, 99) - percentile(syncs, 99)) * 1e3
    row("G6 create, one client: p99 beyond that of the sync", f"{beyond:.1f} ms", "< 5 ms", "< 1 ms")
    with ProcessPoolExecutor(CLIENTS) as pool:
        crowd = [pool.submit(create_many, str(service.socket), CREATES // 10) for _ in range(CLIENTS)]
        waits = [seconds for one in crowd for seconds in one.result()]
    row(f"   create, {CLIENTS} clients at once, p50 / p99", f"{spread(waits)} ms")


def wakes(service: Service, jobs: int, files: int) -> None:
    """A start that has to look at every job, as all were waiting to try again; what others wait meanwhile."""
    service.start()
    service.stop()
    owner = (service.state / "queue").stat()
    person = Person(uid=owner.st_uid, gid=owner.st_gid)
    run_as(person, fill, service.state / "queue", jobs, files, (JobState.TRANSIENT_ERROR,))
    began = time.perf_counter()
    service.start()
    row("G6 all jobs wake: start to first answer", f"{time.perf_counter() - began:.2f} s", "< 2 s", "< 0.5 s")
    waits: list[float] = []
    is_over = threading.Event()
    asking = threading.Thread(target=ask_until, args=(service, is_over, waits))
    asking.start()
    while "jobs_woken" not in service.log():
        time.sleep(0.5)
    row("   until the last one is queued", f"{time.perf_counter() - began:.1f} s")
    is_over.set()
    asking.join()
    row("   another call meanwhile, p50 / p99", f"{spread(waits)} ms", "p99 < 50 ms")
    peak = memory(service.pids()["manager"], "status", "VmHWM")
    row("G6 manager at its largest", f"{peak:.0f} MiB", "< 200 MiB", "< 100 MiB")


def create_many(path: str, count: int) -> list[float]:
    """One of many clients."""
    with openbits.Client(socket=path) as client:
        return [timed(lambda: client.create_job("of many")) for _ in range(count)]


def fill(directory: Path, jobs: int, files: int, states: Sequence[JobState] = WAITING_STATES) -> None:
    """Write the queue, as the manager's uid; the states by turns."""
    store = open_store(directory)
    store.load()
    now = time.time()
    for first in range(0, jobs, BATCH):
        batch = range(first, min(first + BATCH, jobs))
        queue = (a_job(number, files, now - jobs + number, states) for number in batch)
        store.commit([SaveJob(before=None, after=job) for job in queue])
    store.close()


def a_job(number: int, files: int, since: float, states: Sequence[JobState]) -> Job:
    """One of the queue."""
    uid = OWNERS[number % len(OWNERS)]
    here = Directory(path="/srv/in", dev=2049, ino=1_234_567)
    return Job(
        job_id=uuid.uuid4(),
        owner=Identity(uid=uid, gid=uid, groups=(uid,), name=f"user{uid}"),
        state=states[number % len(states)],
        properties=Properties(display_name=f"nightly {number}", priority=WAITING_LEVELS[number // 2 % 2]),
        files=tuple(
            File(
                remote_name=f"http://127.0.0.1:9/releases/{number}/{index}.tar.gz",
                local_name=f"/srv/in/{number}-{index}.tar.gz",
                directory=here,
                name=f"{number}-{index}.tar.gz",
            )
            for index in range(files)
        ),
        created_at=since,
        modified_at=since,
        state_since=since,
    )


def row(subject: str, measured: str, soon: str = "", goal: str = "") -> None:
    """One line of the table."""
    print(f"{subject:58} {measured:>12} {soon:>14} {goal:>14}", flush=True)


def median(measure: Callable[[], float], rounds: int) -> float:
    """Of so many measurements."""
    return statistics.median(measure() for _ in range(rounds))


def percentile(values: list[float], percent: int) -> float:
    """Of these values; nearest rank."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def spread(values: list[float]) -> str:
    """Median and 99th percentile in milliseconds."""
    return f"{percentile(values, 50) * 1e3:.1f} / {percentile(values, 99) * 1e3:.1f}"


def timed(act: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def sync(descriptor: int) -> None:
    """The least that a durable change costs."""
    os.write(descriptor, bytes(SYNC_BYTES))
    os.fdatasync(descriptor)


def cpu_seconds(command: list[str], environ: dict[str, str]) -> float:
    """User and system time of a command."""
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def rss(service: Service) -> float:
    """Resident memory of the manager in MiB."""
    return memory(service.pids()["manager"], "status", "VmRSS")


def memory(pid: int, page: str, name: str) -> float:
    """A line of /proc/<pid>/<page>, in MiB."""
    lines = Path(f"/proc/{pid}/{page}").read_text().splitlines()
    (found,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found) * 1024 / MIB


if __name__ == "__main__":
    main()
