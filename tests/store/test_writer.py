"""The writer thread: one transaction for all who wait, acknowledged in order, and a failure that stays one."""

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from uuid import UUID

import pytest
from tests.store.reading import jobs_in

from openbits.core.model import Job
from openbits.store import AppendEvent, Change, ForgetJob, SaveJob, Store, StoredEvent, StoreError, Writer, open_store

PATIENCE_SECONDS = 10.0
MakeJob = Callable[..., Job]
MakeEvent = Callable[[int, Job], StoredEvent]


class GatedStore:
    """A store whose commits wait until the test lets them go."""

    def __init__(self) -> None:
        self.commits: list[list[Change]] = []
        self.started = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.failure: Exception | None = None

    def commit(self, changes: Sequence[Change]) -> None:
        self.commits.append(list(changes))
        self.started.release()
        assert self.gate.acquire(timeout=PATIENCE_SECONDS)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def gated() -> GatedStore:
    return GatedStore()


@pytest.fixture
def writer(gated: GatedStore) -> Iterator[Writer]:
    writer = Writer(gated)
    yield writer
    gated.gate.release(100)
    writer.close()


def change(number: int) -> ForgetJob:
    return ForgetJob(UUID(int=number))


def busy(writer: Writer, gated: GatedStore) -> Future[None]:
    """A first commit that is under way, so that what comes next has to wait."""
    future = writer.submit([change(0)])
    assert gated.started.acquire(timeout=PATIENCE_SECONDS)
    return future


def test_everything_that_waits_becomes_one_transaction_in_order(writer: Writer, gated: GatedStore) -> None:
    first = busy(writer, gated)
    waiting = [writer.submit([change(2 * n), change(2 * n + 1)]) for n in range(1, 50)]
    assert not first.done()

    gated.gate.release(2)
    for future in (first, *waiting):
        future.result(PATIENCE_SECONDS)

    assert gated.commits == [[change(0)], [change(n) for n in range(2, 100)]]


def test_futures_are_done_in_the_order_of_submission_and_after_the_commit(writer: Writer, gated: GatedStore) -> None:
    first = busy(writer, gated)
    done: list[int] = []
    ended = threading.Event()
    for number in range(100):
        future = writer.submit([change(number)])
        future.add_done_callback(functools.partial(lambda number, _: done.append(number), number))
    writer.submit([]).add_done_callback(lambda _: ended.set())

    gated.gate.release()
    first.result(PATIENCE_SECONDS)
    assert gated.started.acquire(timeout=PATIENCE_SECONDS)
    assert done == []  # the second commit has begun and not ended
    gated.gate.release()

    assert ended.wait(PATIENCE_SECONDS)
    assert done == list(range(100))


def test_a_failed_commit_fails_its_batch_and_everything_after_it(writer: Writer, gated: GatedStore) -> None:
    first = busy(writer, gated)
    batch = [writer.submit([change(number)]) for number in range(3)]
    gated.gate.release()
    first.result(PATIENCE_SECONDS)
    assert gated.started.acquire(timeout=PATIENCE_SECONDS)
    behind = writer.submit([change(7)])
    gated.failure = StoreError("cannot write the store: disk full")
    gated.gate.release()

    for future in (*batch, behind):
        assert future.exception(PATIENCE_SECONDS) is gated.failure
    gated.failure = None
    assert str(writer.submit([change(8)]).exception(PATIENCE_SECONDS)) == "cannot write the store: disk full"
    assert len(gated.commits) == 2


def test_a_broken_invariant_reaches_those_who_wait_too(writer: Writer, gated: GatedStore) -> None:
    gated.failure = TypeError("cannot store a value of type socket")
    gated.gate.release()

    assert writer.submit([change(1)]).exception(PATIENCE_SECONDS) is gated.failure


def test_close_commits_what_waits_and_refuses_what_comes_later(writer: Writer, gated: GatedStore) -> None:
    first = busy(writer, gated)
    waiting = [writer.submit([change(number)]) for number in range(3)]
    closing = threading.Thread(target=writer.close)
    closing.start()
    gated.gate.release(2)
    closing.join(PATIENCE_SECONDS)

    assert all(future.result(0) is None for future in (first, *waiting))
    assert len(gated.commits) == 2
    assert isinstance(writer.submit([change(9)]).exception(0), StoreError)
    writer.close()


def test_who_stops_waiting_has_submitted_all_the_same(writer: Writer, gated: GatedStore) -> None:
    first = busy(writer, gated)
    given_up = writer.submit([change(1)])
    after = writer.submit([change(2)])

    assert not given_up.cancel()
    gated.gate.release(2)

    for future in (first, given_up, after):
        future.result(PATIENCE_SECONDS)


def test_a_cancelled_asyncio_waiter_does_not_harm_the_thread(writer: Writer, gated: GatedStore) -> None:
    async def story() -> None:
        busy(writer, gated)
        given_up = asyncio.wrap_future(writer.submit([change(1)]))
        after = asyncio.wrap_future(writer.submit([change(2)]))
        given_up.cancel()
        gated.gate.release(2)
        await asyncio.wait_for(after, PATIENCE_SECONDS)

    asyncio.run(story())


def test_with_a_real_store_what_is_acknowledged_is_there(store: Store, directory: Path, make_job: MakeJob) -> None:
    jobs = [make_job(2) for _ in range(200)]

    with Writer(store) as writer:
        for future in [writer.submit([SaveJob(before=None, after=job)]) for job in jobs]:
            future.result(PATIENCE_SECONDS)
        refused = writer.submit([SaveJob(before=None, after=jobs[0])])
        assert "UNIQUE" in str(refused.exception(PATIENCE_SECONDS))

    store.close()
    store = open_store(directory)
    assert jobs_in(store) == jobs
    store.close()


def test_readers_on_other_threads_see_whole_commits_only(
    store: Store, make_job: MakeJob, make_event: MakeEvent
) -> None:
    """Events are committed in pairs, so a reader never counts an odd number of them."""
    job = make_job(0)
    seen: list[int] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            seen.append(len(store.events_after(0, None, -1)))

    reader = threading.Thread(target=read)
    reader.start()
    with Writer(store) as writer:
        for seq in range(1, 101, 2):
            pair = [AppendEvent(make_event(seq, job)), AppendEvent(make_event(seq + 1, job))]
            writer.submit(pair).result(PATIENCE_SECONDS)
    ended.set()
    reader.join(PATIENCE_SECONDS)

    assert len(set(seen)) > 1
    assert not [count for count in seen if count % 2]
