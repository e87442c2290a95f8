"""Modifications: told at most once an interval, merged in between, not of what has a notice of its own (N7)."""

from dataclasses import replace

import pytest
from tests.core.happened import transferred
from tests.service.noticebench import NoticeBench, heard, run, told
from tests.service.test_notify import set_flags

from openbits.core import events
from openbits.core.enums import JobState, NotifyFlags
from openbits.core.model import Identity, Range
from openbits.service.events import Subscriber
from openbits.service.modifications import BACKLOG
from openbits.service.record import Record

MODIFICATIONS = NotifyFlags.JOB_MODIFICATION | NotifyFlags.JOB_ERROR
RANGES = NotifyFlags.FILE_RANGES_TRANSFERRED

TOLD = [("modification", None)]


async def watched(bench: NoticeBench, flags: NotifyFlags = MODIFICATIONS, files: int = 1) -> tuple[Record, Subscriber]:
    """A job that is CONNECTING, and who registered for it; nothing is left to be told."""
    record, ear = bench.job(files=files, flags=flags), bench.subscriber()
    bench.notifier.register(record, ear, None)
    bench.engine.apply(record, events.Resume())
    await bench.commits()
    bench.wait(10)
    heard(ear)
    assert record.job.state is JobState.CONNECTING
    return record, ear


async def described(bench: NoticeBench, record: Record, text: str) -> None:
    """SetDescription."""
    changed = replace(record.job.properties, description=text)
    bench.engine.apply(record, events.SetProperties(properties=changed, names=("description",)))
    await bench.commits()


def test_the_first_is_told_at_once_and_the_others_once_at_the_end_of_the_interval() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench)
        await described(bench, record, "0")
        assert told(ear) == TOLD
        for number in range(20):
            await described(bench, record, str(number))
        bench.wait(0.499)
        assert told(ear) == []
        bench.wait(0.001)
        assert told(ear) == TOLD
        bench.wait(10)
        assert told(ear) == []
        await described(bench, record, "at once again")
        assert told(ear) == TOLD

    run(story)


@pytest.mark.parametrize(("interval_ms", "expected"), [(100, 11), (500, 3), (2000, 1)])
def test_bytes_are_told_at_the_rate_that_the_job_has(interval_ms: int, expected: int) -> None:
    """MINIMUM_NOTIFICATION_INTERVAL_MS; a thousand pieces of a second are not a thousand calls."""

    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench)
        properties = replace(record.job.properties, minimum_notification_interval_ms=interval_ms)
        record.job = replace(record.job, properties=properties)
        for count in range(1, 1002):
            record.live[0] = count
            bench.engine.progressed(record)
            if count <= 1000:
                bench.wait(0.001)
        assert len(told(ear)) == expected

    run(story)


def test_the_intervals_of_jobs_are_their_own() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench)
        other = bench.job(flags=MODIFICATIONS)
        bench.notifier.register(other, ear, None)
        await bench.commits()
        bench.wait(10)
        heard(ear)
        await described(bench, record, "x")
        await described(bench, other, "x")
        assert {event["job_id"] for event in heard(ear)} == {str(record.job_id), str(other.job_id)}

    run(story)


@pytest.mark.parametrize(
    "flags", [NotifyFlags.JOB_ERROR, MODIFICATIONS | NotifyFlags.DISABLE, NotifyFlags.FILE_TRANSFERRED]
)
def test_nobody_is_told_who_did_not_ask(flags: NotifyFlags) -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench, flags)
        await described(bench, record, "x")
        bench.wait(10)
        assert told(ear) == []

    run(story)


def test_a_flag_that_is_taken_back_within_the_interval_has_nothing_told_at_its_end() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench)
        await described(bench, record, "1")
        await described(bench, record, "2")
        assert told(ear) == TOLD
        set_flags(bench, record, NotifyFlags.JOB_ERROR)
        await bench.commits()
        bench.wait(10)
        assert (told(ear), bench.alarms) == ([], [])

    run(story)


@pytest.mark.parametrize("state", [JobState.ERROR, JobState.TRANSFERRED])
def test_the_changes_to_error_and_to_transferred_have_notices_of_their_own(state: JobState) -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench, MODIFICATIONS | NotifyFlags.JOB_TRANSFERRED)
        if state is JobState.ERROR:
            bench.engine.apply(record, events.TransferTimeExceeded())
            await bench.commits()
        else:
            await bench.moves(record, 1)
        bench.wait(10)
        assert told(ear) == [("error" if state is JobState.ERROR else "transferred", None)]
        bench.engine.apply(record, events.Cancel())
        await bench.commits()
        assert ("modification", None) in told(ear)

    run(story)


def test_every_other_change_of_state_and_a_finished_file_are_modifications() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench, files=2)
        for event in (
            transferred(record.job.epoch, 0, 5),
            events.Suspend(),
            events.Resume(),
        ):
            bench.engine.apply(record, event)
            await bench.commits()
            bench.wait(10)
            assert told(ear) in (TOLD, TOLD * 2), event

    run(story)


def test_what_only_the_service_has_to_know_is_none() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench)
        bench.engine.apply(record, events.TransferTimeExceeded())
        await bench.commits()
        notice = heard(ear)[-1]
        await bench.answer(ear, notice)
        bench.wait(10)
        assert told(ear) == []

    run(story)


def test_whoever_lost_the_job_to_another_owner_hears_of_no_modification() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench)
        record.subscriber_sees = 1000
        bench.engine.apply(record, events.TakeOwnership(owner=Identity(uid=0, gid=0)))
        await bench.commits()
        await described(bench, record, "a secret of root")
        bench.wait(10)
        assert heard(ear) == []

    run(story)


def test_a_subscriber_that_does_not_read_gets_them_merged_when_it_does() -> None:
    """Never queued without bound: a callback may hang for hours while bytes come in."""

    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench)
        for number in range(10 * BACKLOG):
            record.live[0] = number
            bench.engine.progressed(record)
            bench.wait(0.5)
        assert len(told(ear)) == BACKLOG
        bench.wait(0.5)
        assert told(ear) == TOLD

    run(story)


# FileRangesTransferred


async def filled(bench: NoticeBench, record: Record, *parts: tuple[int, int], index: int = 0) -> None:
    ranges = tuple(Range(offset=offset, length_bytes=length) for offset, length in parts)
    bench.engine.apply(record, events.RangesFilled(epoch=record.job.epoch, file_index=index, ranges=ranges))
    await bench.commits()


def test_ranges_are_told_since_the_last_time_and_merged() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench, RANGES)
        await filled(bench, record, (100, 10))
        await filled(bench, record, (300, 5))
        await filled(bench, record, (200, 10), (210, 10))
        first = heard(ear)
        bench.wait(0.5)
        assert [(event["file_index"], event["ranges"]) for event in [*first, *heard(ear)]] == [
            (0, [{"offset": 100, "length": 10}]),
            (0, [{"offset": 200, "length": 20}, {"offset": 300, "length": 5}]),
        ]
        bench.wait(10)
        assert heard(ear) == []

    run(story)


def test_ranges_and_modifications_share_the_interval_and_have_flags_of_their_own() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await watched(bench, RANGES | NotifyFlags.JOB_MODIFICATION)
        await filled(bench, record, (100, 10))
        bench.wait(0.5)
        assert sorted(told(ear), key=str) == [("modification", None), ("ranges", 0)]
        set_flags(bench, record, NotifyFlags.JOB_MODIFICATION)
        await bench.commits()
        bench.wait(10)
        heard(ear)
        await filled(bench, record, (400, 10))
        assert told(ear) == TOLD

    run(story)
