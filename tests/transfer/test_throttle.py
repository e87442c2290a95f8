"""Fixed limits (bandwidth.md §6, design.md §9 G5): the bucket as arithmetic, and a worker that keeps a limit."""

import bisect
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.nginx import Certificates, Nginx
from tests.transfer.conftest import WorkerProcess

from openbits.transfer.loop import Loop
from openbits.transfer.throttle import TICK_SECONDS, Bucket, Limiter, Throttle

CHUNK = 16 * 1024
SLOT_SECONDS = 0.1
PAUSE = 99

Samples = list[tuple[float, int]]


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.mark.parametrize("rate", [100_000, 2_000_000, 20_000_000])
@pytest.mark.parametrize("chunk", [1024, CHUNK])
def test_the_mean_is_the_limit_and_no_slot_has_twice_of_it(rate: int, chunk: int) -> None:
    """Somebody who always has bytes and looks every tick: 10 s."""
    bucket, samples, sent = Bucket(rate, 0.0), [(0.0, 0)], 0
    for tick in range(1000):
        now = tick * TICK_SECONDS
        while bucket.may_take(now):
            bucket.take(chunk)
            sent += chunk
        samples.append((now, sent))
    assert sent == pytest.approx(rate * 10, rel=0.02)
    assert worst_slot(samples) <= max(2 * rate * SLOT_SECONDS, chunk)


def test_a_silence_is_no_credit() -> None:
    bucket = Bucket(1_000_000, 0.0)
    assert not bucket.may_take(0.0), "nothing to begin with"
    assert bucket.may_take(3600.0)
    taken = 0
    while bucket.may_take(3600.0):
        bucket.take(1000)
        taken += 1000
    assert taken <= 51_000, "50 ms of it"


def test_bytes_beyond_the_limit_are_missing_afterwards() -> None:
    bucket = Bucket(1_000_000, 0.0)
    assert bucket.may_take(0.001)
    bucket.take(101_000)
    assert not bucket.may_take(0.1)
    assert bucket.may_take(0.102)


def test_without_a_limit_everything_may_come() -> None:
    bucket = Bucket(None, 0.0)
    bucket.take(10**12)
    assert bucket.may_take(0.0)
    bucket.change(1_000_000, 5.0)
    assert not bucket.may_take(5.0)
    assert bucket.may_take(5.001), "what came before does not count"


class Taker:
    """A transfer that always has bytes: it takes until it has to wait, and then again."""

    def __init__(self, name: str, throttle: Throttle, order: list[str]) -> None:
        self._order = order
        self._take = throttle.governed(self, lambda _data: order.append(name), self.go_on, PAUSE)

    def go_on(self) -> None:
        while self._take(bytes(CHUNK)) is None:
            pass


@pytest.mark.parametrize("is_of_worker", [False, True])
def test_who_has_waited_longest_goes_on_first(loop: Loop, *, is_of_worker: bool) -> None:
    """Three transfers of one job with a limit, or of three jobs under the limit of the worker: each gets its share."""
    limiter, order = Limiter(loop), list[str]()
    throttles = [Throttle(limiter) for _ in range(3)] if is_of_worker else [Throttle(limiter)] * 3
    (limiter if is_of_worker else throttles[0]).limit(1_000_000)
    for name, throttle in zip("abc", throttles, strict=True):
        Taker(name, throttle, order).go_on()
    loop.call_at(loop.now() + 0.6, loop.stop)
    loop.run()
    counts = sorted(order.count(name) for name in "abc")
    assert sum(counts) == pytest.approx(0.6 * 1_000_000 / CHUNK, rel=0.15)
    assert counts[0] >= counts[2] - 2


def test_nobody_goes_past_those_that_wait(loop: Loop) -> None:
    throttle, order = Throttle(Limiter(loop)), list[str]()
    throttle.limit(1_000_000)
    Taker("first", throttle, order).go_on()
    order.clear()
    began = loop.now()
    while loop.now() < began + 2 * TICK_SECONDS:
        pass  # there are tokens by now
    Taker("newcomer", throttle, order).go_on()
    assert order == []
    loop.call_at(loop.now() + 3 * TICK_SECONDS, loop.stop)
    loop.run()
    assert order[0] == "first"


def test_nothing_ticks_when_nobody_waits(loop: Loop) -> None:
    throttle, order = Throttle(Limiter(loop)), list[str]()
    throttle.limit(1_000_000)
    taker = Taker("a", throttle, order)
    taker.go_on()
    throttle.forget(taker)
    wakes: list[float] = []
    loop.call_at(loop.now() + 0.1, loop.stop)
    patience = loop._patience  # how often it waits is what is tried

    def counted() -> float | None:
        wakes.append(loop.now())
        return patience()

    loop._patience = counted  # type: ignore[method-assign]
    loop.run()
    assert len(wakes) <= 4


class TestWorker:
    """With a real server."""

    pytestmark = pytest.mark.real("nginx", "openssl")

    @pytest.fixture
    def worker(self, certificates: Certificates) -> Iterator[WorkerProcess]:
        process = WorkerProcess(ca=certificates.ca)
        yield process
        process.close()

    @pytest.fixture
    def content(self, nginx: Nginx) -> bytes:
        data = os.urandom(4_000_000)
        (nginx.root / "limited").write_bytes(data)
        return data

    @pytest.mark.parametrize("tls", [False, True])
    def test_a_job_keeps_its_limit(
        self, worker: WorkerProcess, nginx: Nginx, content: bytes, destination: Path, *, tls: bool
    ) -> None:
        rate = worker.rate_bytes_per_second = 2_000_000
        cpu = worker.cpu_seconds()
        key = worker.start(nginx.url("/limited", tls=tls), destination)
        samples = watched(destination, len(content))
        assert worker.story(key).outcome == "transferred"
        assert destination.read_bytes() == content
        (began, first), (ended, last) = samples[0], samples[-1]
        assert (last - first) / (ended - began) == pytest.approx(rate, rel=0.05)
        assert worst_slot(samples) <= 2 * rate * SLOT_SECONDS
        assert worker.cpu_seconds() - cpu < 0.5 * (ended - began), "it waits, and does not turn"

    def test_files_of_a_job_share_its_limit(
        self, worker: WorkerProcess, nginx: Nginx, content: bytes, tmp_path: Path
    ) -> None:
        worker.rate_bytes_per_second, worker.at_a_time = 4_000_000, 4
        began = time.monotonic()
        keys = [worker.start(nginx.url("/limited"), tmp_path / str(number)) for number in range(2)]
        halfway = [worker.wait_for(key, "progressed", until=lambda news: news["transferred_bytes"] > 0) for key in keys]
        assert all(0 < news["transferred_bytes"] < len(content) for news in halfway), "both move"
        assert all(worker.story(key).outcome == "transferred" for key in keys)
        assert time.monotonic() - began >= 0.95 * 2 * len(content) / worker.rate_bytes_per_second
        assert all((tmp_path / str(number)).read_bytes() == content for number in range(2))

    def test_the_limit_of_the_worker_holds_for_what_is_under_way_and_ends(
        self, worker: WorkerProcess, nginx: Nginx, content: bytes, destination: Path
    ) -> None:
        worker.send({"op": "limit", "bytes_per_second": 10_000})
        key = worker.start(nginx.url("/limited"), destination)
        worker.wait_for(key, "progressed")
        assert destination.stat().st_size < 100_000
        began = time.monotonic()
        worker.send({"op": "limit", "bytes_per_second": None})
        assert worker.story(key).outcome == "transferred"
        assert time.monotonic() - began < 2, "at once"
        assert destination.read_bytes() == content

    def test_a_transfer_that_waits_can_be_cancelled(
        self, worker: WorkerProcess, nginx: Nginx, content: bytes, destination: Path
    ) -> None:
        worker.rate_bytes_per_second = 10_000
        key = worker.start(nginx.url("/limited"), destination)
        worker.wait_for(key, "progressed")
        worker.cancel(key)
        worker.rate_bytes_per_second = None
        assert worker.fetch(nginx.url("/limited"), destination.with_name("other")).outcome == "transferred"
        assert destination.with_name("other").read_bytes() == content

    @pytest.mark.root
    def test_a_disk_that_fills_up_ends_a_transfer_that_waits(
        self, worker: WorkerProcess, nginx: Nginx, content: bytes, destination: Path
    ) -> None:
        """The error comes with bytes that were held back."""
        worker.rate_bytes_per_second = 400_000
        full = Path("/dev/full")
        key = worker.start(nginx.url("/limited"), full)
        story = worker.story(key)
        assert story.last["context"] == "local_file"
        assert content
        assert not destination.exists()


def watched(path: Path, size_bytes: int) -> Samples:
    """How the file grows, from its first byte to its last."""
    samples: Samples = []
    deadline = time.monotonic() + 20
    while not samples or samples[-1][1] < size_bytes:
        assert time.monotonic() < deadline, f"it has {samples[-1:]} of {size_bytes} bytes"
        length = path.stat().st_size
        if length and (not samples or length > samples[-1][1]):
            samples.append((time.monotonic(), length))
        time.sleep(0.002)
    return samples


def worst_slot(samples: Samples) -> int:
    """Most bytes that came within a slot."""
    instants = [instant for instant, _ in samples]
    before = [bisect.bisect_left(instants, instant - SLOT_SECONDS + 1e-9) for instant in instants]
    return max(sent - samples[index][1] for (_, sent), index in zip(samples, before, strict=True))
