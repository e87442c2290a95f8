"""The manager's loop: effects and answers follow the commit, a failed commit stops it, conditions are tried again."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.core.happened import transferred
from tests.service.enginebench import Bench

from openbits.api.wire import EventInfo
from openbits.core import codes, events
from openbits.core.enums import ErrorContext, JobState
from openbits.core.errors import BitsError
from openbits.core.model import Identity, JobError
from openbits.service.engine import CONDITION_SECONDS
from openbits.service.events import Subscriber
from openbits.service.notify import Notifier
from openbits.service.views import file_infos


def test_nothing_is_started_or_answered_before_it_is_on_the_disk() -> None:
    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        await bench.settle()  # the scheduler grants the slot: in memory the job is CONNECTING
        assert record.job.state is JobState.CONNECTING
        answer = bench.engine.apply(record, events.Suspend())
        await bench.settle()
        assert bench.hands.effects == []
        assert not answer.done()
        bench.disk.commit()
        await bench.settle()
        assert bench.hands.effects == [events.StartTransfer(1), events.StopTransfer()]
        assert answer.done()

    asyncio.run(story())


def test_a_failed_commit_is_reported_and_nothing_is_carried_out() -> None:
    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        answer = bench.engine.apply(record, events.Suspend())
        bench.disk.fail()
        await bench.settle()
        assert [str(error) for error in bench.failures[:1]] == ["disk full"]
        assert bench.hands.effects == []
        with pytest.raises(BitsError, match="nothing was changed"):
            await answer

    asyncio.run(story())


def test_a_condition_that_ended_is_found_by_trying_again_after_a_minute() -> None:
    """BG_E_NETWORK_DISCONNECTED has no retry timer (jobs.md §3.5), yet the job must go on by itself (P12)."""

    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        await bench.settle()
        error = JobError(code=codes.BG_E_NETWORK_DISCONNECTED, context=ErrorContext.GENERAL_TRANSPORT)
        bench.engine.apply(record, events.Blocked(error=error))
        assert record.job.retry_at is None
        states = [record.job.state.name]
        for step in (CONDITION_SECONDS - 0.1, 0.1):
            bench.boot += step
            bench.engine._timer_ran_out()
            states.append(record.job.state.name)
        assert states == ["TRANSIENT_ERROR", "TRANSIENT_ERROR", "QUEUED"]

    asyncio.run(story())


def test_event_numbers_have_no_gap_and_go_to_the_store_with_their_step() -> None:
    async def story() -> None:
        bench = Bench()
        bench.queued_job()
        await bench.settle()
        stored = [change.event for changes, _ in bench.disk.waiting for change in changes if hasattr(change, "event")]
        assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
        assert [event.kind for event in stored] == ["created", "files-added", "state", "state"]

    asyncio.run(story())


def test_who_registered_for_a_job_that_another_owner_took_hears_notices_and_the_end_alone() -> None:
    """N9 keeps the callback after TakeOwnership; what the new owner does with the job is not the old one's business."""

    async def story() -> None:
        bench = Bench()
        notifier = Notifier(bench.engine)
        record = bench.queued_job()
        old, new = (Subscriber(uid, sees_all=False, job_ids=None) for uid in (1000, 0))
        for subscriber in (old, new):
            bench.engine.stream.add(subscriber)
        notifier.register(record, old, 1000)
        await bench.commits()
        assert {event["kind"] for event in heard(old) if event.get("job")} >= {"created", "state"}
        bench.engine.apply(record, events.SlotRevoked())
        bench.engine.apply(record, events.TakeOwnership(owner=Identity(uid=0, gid=0), copies=()))
        secret = replace(record.job.properties, description="a secret of root")
        bench.engine.apply(record, events.SetProperties(properties=secret))
        await bench.commits()
        bench.engine.apply(record, events.TransferTimeExceeded())
        await bench.commits()
        bench.engine.progressed(record)
        notifier.deliver(record)
        (notice,) = heard(old)
        assert set(notice) == {"seq", "at", "kind", "job_id", "notice", "notice_seq"}
        assert (notice["kind"], notice.get("notice")) == ("notice", "error")
        told = [event for event in heard(new) if event["kind"] != "owner"]
        assert {"changed", "state", "progress"} <= {event["kind"] for event in told}
        assert all("a secret of root" in str(event["job"]) for event in told)
        bench.engine.apply(record, events.Cancel())
        await bench.commits()
        assert [(event["kind"], event.get("state"), "job" in event) for event in heard(old)] == [
            ("state", "cancelled", False),
            ("removed", "cancelled", False),
        ]
        assert ["job" in event for event in heard(new)] == [True, True]

    asyncio.run(story())


def test_the_bytes_of_one_file_are_not_shown_as_those_of_the_next() -> None:
    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        second = replace(record.job.files[0], name="b", local_name="/srv/b")
        bench.engine.apply(record, events.AddFiles(files=(second,)))
        await bench.commits()
        record.live[0] = 1020
        bench.engine.apply(record, transferred(record.job.epoch, 0, 1020))
        assert record.state is JobState.TRANSFERRING
        assert [file["bytes_transferred"] for file in file_infos(record)] == [1020, 0]
        assert bench.engine.info(record)["bytes_transferred"] == 1020

    asyncio.run(story())


def test_progress_is_told_now_and_then_and_what_came_last_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer that stalls right after its first bytes must not leave its watchers with none of them."""

    async def story() -> None:
        bench = Bench()
        later: list[tuple[float, Callable[[], None]]] = []

        def call_later(delay: float, act: Callable[..., None], *arguments: object) -> None:
            later.append((delay, lambda: act(*arguments)))

        record, watcher = bench.queued_job(), Subscriber(1000, sees_all=False, job_ids=None)
        await bench.commits()
        bench.engine.stream.add(watcher)
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)
        for live_bytes in (1, 2, 3):
            record.live[0] = live_bytes
            bench.engine.progressed(record)
            bench.boot += 0.1
        assert [event["kind"] for event in heard(watcher)] == ["progress"]
        ((delay, act),) = later
        assert delay == pytest.approx(0.4)
        act()
        (last,) = heard(watcher)
        assert last["job"]
        assert last["job"]["bytes_transferred"] == 3

    asyncio.run(story())


@pytest.mark.parametrize(("sees", "is_told"), [(None, True), (1000, True), (1001, False)])
def test_whoever_registered_through_a_handle_hears_what_the_handle_shows(sees: int | None, *, is_told: bool) -> None:
    """An administrator, or a program that obtained the job with a token of its owner: its stream is another uid's."""

    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        program = Subscriber(1001, sees_all=False, job_ids=None)
        bench.engine.stream.add(program)
        notifier = Notifier(bench.engine)
        notifier.register(record, program, sees)
        await bench.commits()
        bench.engine.apply(record, events.TransferTimeExceeded())
        notifier.deliver(record)
        assert [(event.get("notice"), "job" in event) for event in heard(program)] == [("error", is_told)]

    asyncio.run(story())


def heard(subscriber: Subscriber) -> list[EventInfo]:
    """What waits for this subscriber."""
    waiting = [subscriber.queue.get_nowait() for _ in range(subscriber.queue.qsize())]
    return [event for event in waiting if event is not None]
