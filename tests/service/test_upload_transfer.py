"""What a server acknowledges of an upload, on its way to the store (upload-protocol.md §7.5)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

import pytest
from tests.service.enginebench import HERE, Bench

from openbits.core import events
from openbits.core.enums import JobState, JobType
from openbits.core.model import File, UploadSession
from openbits.core.uploading import Step
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.network_worker import Worker
from openbits.service.upload_transfer import ReplyTransfer, UploadTransfer, transfer_of

SESSION = UploadSession(session_id="{1}")
RECEIVED = UploadSession(session_id="{1}", is_received=True, reply_url="https://h/r")


class UploadBench(Bench):
    """An upload-reply that has a slot, and what moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.record = self.queued_job()
        self.transfer: UploadTransfer

    async def begin(self) -> None:
        """The job gets its slot, and is an upload."""
        await self.commits()
        await self.commits()
        file = File(remote_name="https://h/a", local_name="/srv/a", directory=HERE, name="a", is_upload=True)
        self.record.job = replace(self.record.job, type=JobType.UPLOAD_REPLY, files=(file,))
        assert self.record.job.state is JobState.CONNECTING
        self.transfer = self.next_transfer(0)

    def next_transfer(self, index: int) -> UploadTransfer:
        return cast("UploadTransfer", transfer_of(self.engine, cast("Children", None), self.record, 1, index))

    def tell(self, count: int, session: UploadSession | None = SESSION) -> None:
        told = events.Acknowledged(epoch=1, file_index=0, session=session, acknowledged_bytes=count)
        self.transfer.acknowledged(told)

    @property
    def row(self) -> tuple[UploadSession | None, int]:
        file = self.record.job.files[0]
        return file.session, file.transferred_bytes


def in_loop(story: Callable[[UploadBench], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = UploadBench()
        await bench.begin()
        await story(bench)

    asyncio.run(run())


def test_growth_waits_for_the_commit_before_it_and_only_the_last_counts() -> None:
    async def story(bench: UploadBench) -> None:
        bench.tell(0)
        for count in range(10, 200, 10):
            bench.tell(count)
        assert (len(bench.disk.waiting), bench.row) == (1, (SESSION, 0))
        await bench.commits()
        assert (len(bench.disk.waiting), bench.row) == (1, (SESSION, 190))
        await bench.commits()
        assert bench.disk.waiting == []

    in_loop(story)


@pytest.mark.parametrize(("session", "count"), [(SESSION, 5), (None, 0), (RECEIVED, 30)])
def test_all_else_goes_to_the_store_at_once_and_in_order(session: UploadSession | None, count: int) -> None:
    """A step back, a session that is lost, the end."""

    async def story(bench: UploadBench) -> None:
        for told in (0, 10, 20):
            bench.tell(told)
        bench.tell(count, session)
        assert bench.row == (session, count)
        assert bench.record.job.files[0].farthest_bytes == max(20, count), "what was before it was not passed over"
        await bench.commits()
        assert bench.row == (session, count)

    in_loop(story)


def test_a_failure_leaves_nothing_untold() -> None:
    async def story(bench: UploadBench) -> None:
        bench.tell(0)
        bench.tell(70)
        bench.transfer.count_durable(70)
        assert bench.row == (SESSION, 70)

    in_loop(story)


def test_the_next_step_waits_for_the_disk() -> None:
    """A server that was told to close has neither session nor reply any more."""

    async def story(bench: UploadBench) -> None:
        bench.tell(30)
        bench.tell(60, RECEIVED)
        assert (bench.transfer.has_to_be_finished, bench.transfer.is_last_step) == (True, False)
        finishing = asyncio.ensure_future(bench.transfer.finish(60))
        await bench.settle()
        assert not finishing.done()
        await bench.commits()
        assert finishing.done()
        reply = transfer_of(bench.engine, cast("Children", None), bench.record, 1, 1)
        assert isinstance(reply, ReplyTransfer)
        ending = asyncio.ensure_future(reply.finish(5))
        await bench.settle()
        assert not ending.done()
        await bench.commits()
        assert ending.done()
        close = bench.next_transfer(0)
        assert (close._step, close.is_last_step, close.has_to_be_finished) == (Step.CLOSE, True, False)
        assert close.transferred(0).size_bytes == 60

    in_loop(story)


class FakeWorker:
    """Remembers which sessions it was told of."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def kept(self, key: str) -> None:
        self.told.append(key)


def test_a_worker_hears_when_a_new_session_is_on_the_disk_and_never_before() -> None:
    """What it sends before that would be sent again, and received twice, after a crash."""

    async def story(bench: UploadBench) -> None:
        worker = FakeWorker()
        bench.transfer.worker = cast("Worker", worker)
        bench.tell(0)
        await bench.settle()
        assert worker.told == []
        await bench.commits()
        assert worker.told == [bench.transfer.key]
        bench.tell(10)
        await bench.commits()
        assert len(worker.told) == 1, "it is the same session"
        bench.tell(0, UploadSession(session_id="{2}"))
        await bench.commits()
        assert len(worker.told) == 2
        bench.tell(0, UploadSession(session_id="{3}"))
        bench.disk.fail()
        await bench.settle()
        assert len(worker.told) == 2, "the disk has not got it"

    in_loop(story)


def test_a_worker_that_says_more_than_its_server_is_not_believed() -> None:
    async def story(bench: UploadBench) -> None:
        bench.tell(60)
        finishing = asyncio.ensure_future(bench.transfer.finish(60))
        await bench.commits()
        with pytest.raises(ChildLostError):
            await finishing

    in_loop(story)
