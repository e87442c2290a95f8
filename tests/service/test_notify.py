"""Notices: in which order, how many at a time, and when again (jobs.md §12); by which means: test_notify_programs."""

import asyncio
from dataclasses import replace

import pytest
from tests.service.noticebench import FILES, NoticeBench, heard, run, told

from openbits.core import codes, events
from openbits.core.enums import JobState, NotifyFlags
from openbits.core.errors import BitsError
from openbits.core.model import Identity
from openbits.service.deliveries import IN_FLIGHT, notice_info
from openbits.service.record import Record
from openbits.service.shares import Shares

# Order (N1)


def test_files_are_told_one_after_the_other_and_before_the_job() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(files=3, flags=FILES), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 3)
        assert record.job.state is JobState.TRANSFERRED
        seen = []
        for _ in range(4):
            (notice,) = heard(ear)
            seen.append((notice["notice"], notice.get("file_index")))
            await bench.answer(ear, notice)
        assert seen == [
            ("file-transferred", 0),
            ("file-transferred", 1),
            ("file-transferred", 2),
            ("transferred", None),
        ]
        assert heard(ear) == []

    run(story)


def test_the_next_one_is_sent_when_the_taking_of_this_one_is_on_the_disk() -> None:
    """After a crash the first is told again, and never the second before it."""

    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(files=2, flags=FILES), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 2)
        (first,) = heard(ear)
        flight = bench.notifier.flight(record.job_id, first["notice_seq"] or 0, 1000, None)
        assert flight is not None
        answered = asyncio.ensure_future(bench.notifier.acknowledge(flight, codes.S_OK))
        await bench.settle()
        assert (heard(ear), answered.done()) == ([], False)
        await bench.commits()
        assert told(ear) == [("file-transferred", 1)]
        await answered

    run(story)


def test_a_file_that_is_refused_keeps_back_what_follows() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(files=1, flags=FILES), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 1)
        await bench.answer(ear, heard(ear)[0], codes.E_FAIL)
        assert record.job.state is JobState.TRANSFERRED
        bench.wait(599.9)
        assert heard(ear) == []
        bench.wait(0.1)
        assert told(ear) == [("file-transferred", 0)]

    run(story)


@pytest.mark.parametrize(("hresult", "is_taken"), [(codes.S_OK, True), (codes.S_FALSE, True), (codes.E_FAIL, False)])
def test_a_file_is_taken_with_every_success(hresult: int, *, is_taken: bool) -> None:
    """OPEN-52."""

    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(files=1, flags=FILES), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 1)
        await bench.answer(ear, heard(ear)[0], hresult)
        assert told(ear) == ([("transferred", None)] if is_taken else [])

    run(story)


def test_the_job_is_told_without_its_files_unless_the_flag_asks_for_them() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(files=2), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 2)
        assert told(ear) == [("transferred", None)]

    run(story)


def test_files_that_nobody_was_told_of_wait_for_the_next_to_register() -> None:
    async def story(bench: NoticeBench) -> None:
        record = bench.job(files=2, flags=FILES)
        await bench.moves(record, 1)
        ear = bench.subscriber()
        bench.notifier.register(record, ear, None)
        assert told(ear) == [("file-transferred", 0)]
        bench.leave(ear)
        heir = bench.subscriber()
        bench.notifier.register(record, heir, None)
        assert told(heir) == [("file-transferred", 0)]

    run(story)


# Redelivery (N4, N5)


@pytest.mark.parametrize("hresult", [codes.S_FALSE, codes.E_FAIL])
def test_a_terminal_notice_is_taken_by_s_ok_alone_and_comes_again_after_the_minimum_retry_delay(hresult: int) -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await bench.failed(), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.answer(ear, heard(ear)[0], hresult)
        bench.wait(599.9)
        assert heard(ear) == []
        bench.wait(0.1)
        (again,) = heard(ear)
        await bench.answer(ear, again)
        bench.wait(10_000)
        assert (heard(ear), record.job.pending_notice, record.delivery) == ([], None, None)

    run(story)


def test_who_registers_while_a_refused_notice_waits_is_told_at_once() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear, other = await bench.failed(), bench.subscriber(), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.answer(ear, heard(ear)[0], codes.E_FAIL)
        bench.notifier.register(record, other, None)
        assert told(other) == [("error", None)]
        bench.wait(600)  # the timer of the one before is off
        assert told(other) == []

    run(story)


def test_the_last_to_register_wins_and_the_answer_of_the_one_before_has_no_say() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear, other = await bench.failed(), bench.subscriber(), bench.subscriber()
        bench.notifier.register(record, ear, None)
        (early,) = heard(ear)
        bench.notifier.register(record, other, None)
        (late,) = heard(other)
        assert [event["kind"] for event in heard(ear)] == ["replaced"]
        await bench.answer(ear, early)
        assert record.job.pending_notice is not None
        await bench.answer(other, late)
        assert record.job.pending_notice is None

    run(story)


def test_nobody_answers_for_another_user_or_twice() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await bench.failed(), bench.subscriber()
        bench.notifier.register(record, ear, None)
        (notice,) = heard(ear)
        number = notice["notice_seq"] or 0
        assert bench.notifier.flight(record.job_id, number, 1001, None) is None
        assert bench.notifier.flight(record.job_id, number, 1000, "another") is None
        assert bench.notifier.flight(record.job_id, number + 1, 1000, None) is None
        await bench.answer(ear, notice)
        assert bench.notifier.flight(record.job_id, number, 1000, None) is None

    run(story)


# Leaving the state, flags (N8, N11)


def test_what_is_pending_is_dropped_when_the_job_leaves_the_state() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await bench.failed(), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.answer(ear, heard(ear)[0], codes.E_FAIL)
        bench.engine.apply(record, events.Resume())
        await bench.commits()
        bench.wait(600)
        assert told(ear) == []

    run(story)


def test_the_notice_of_a_file_outlasts_suspend_and_resume_and_ends_with_the_job() -> None:
    """It belongs to the file, which stays finished."""

    async def story(bench: NoticeBench) -> None:
        record = bench.job(files=2, flags=FILES)
        await bench.moves(record, 1)
        for request in (events.Suspend(), events.Resume()):
            bench.engine.apply(record, request)
            await bench.commits()
        ear = bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.answer(ear, heard(ear)[0], codes.E_FAIL)
        bench.engine.apply(record, events.Cancel())
        await bench.commits()
        bench.wait(600)
        assert told(ear) == []

    run(story)


def set_flags(bench: NoticeBench, record: Record, flags: NotifyFlags) -> None:
    """SetNotifyFlags, as the interface does it."""
    changed = replace(record.job.properties, notify_flags=flags)
    bench.engine.apply(record, events.SetProperties(properties=changed, names=("notify_flags",)))
    bench.notifier.deliver(record)


def test_a_flag_that_is_set_later_tells_what_is_pending_and_disable_masks_all() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await bench.failed(), bench.subscriber()
        set_flags(bench, record, NotifyFlags.JOB_TRANSFERRED)
        bench.notifier.register(record, ear, None)
        assert told(ear) == []
        set_flags(bench, record, NotifyFlags.JOB_ERROR | NotifyFlags.DISABLE)
        assert told(ear) == []
        set_flags(bench, record, NotifyFlags.JOB_ERROR)
        assert told(ear) == [("error", None)]

    run(story)


def test_taking_the_flag_of_files_back_leaves_the_notice_of_the_job() -> None:
    async def story(bench: NoticeBench) -> None:
        record = bench.job(files=2, flags=FILES | NotifyFlags.DISABLE)
        ear = bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 2)
        assert told(ear) == []
        set_flags(bench, record, NotifyFlags.JOB_TRANSFERRED)
        await bench.commits()
        assert told(ear) == [("transferred", None)]

    run(story)


# Four at a time (N3, A59)


def test_four_notices_are_in_flight_for_a_user_and_the_fifth_waits_for_an_answer() -> None:
    """Over all jobs and connections of the user."""

    async def story(bench: NoticeBench) -> None:
        ears = [bench.subscriber() for _ in range(6)]
        records = [await bench.failed() for _ in ears]
        for record, ear in zip(records, ears, strict=True):
            bench.notifier.register(record, ear, None)
        flights = [heard(ear) for ear in ears]
        assert [len(flight) for flight in flights] == [1, 1, 1, 1, 0, 0]
        await bench.answer(ears[2], flights[2][0])
        assert [told(ear) for ear in ears[4:]] == [[("error", None)], []]
        await bench.answer(ears[0], flights[0][0], codes.E_FAIL)  # a refusal is an answer, too
        assert told(ears[5]) == [("error", None)]

    run(story)


def test_callbacks_that_hang_stall_their_own_user_alone() -> None:
    async def story(bench: NoticeBench) -> None:
        hanging = bench.subscriber()
        for _ in range(5):
            bench.notifier.register(await bench.failed(), hanging, None)
        assert len(told(hanging)) == 4
        other = bench.subscriber(1001)
        bench.notifier.register(await bench.failed(), other, None)
        assert told(other) == [("error", None)]

    run(story)


def test_a_subscriber_that_vanishes_frees_its_places() -> None:
    async def story(bench: NoticeBench) -> None:
        hanging, heir = bench.subscriber(), bench.subscriber()
        lost = [await bench.failed() for _ in range(4)]
        for record in lost:
            bench.notifier.register(record, hanging, None)
        bench.notifier.register(await bench.failed(), heir, None)
        assert told(heir) == []
        bench.leave(hanging)
        assert told(heir) == [("error", None)]
        for record in lost:  # they were not told
            bench.notifier.register(record, heir, None)
        assert len(told(heir)) == 3

    run(story)


def test_a_job_that_goes_on_or_ends_during_its_callback_keeps_the_place_until_the_answer() -> None:
    """The callback is running all the same; what it answers changes nothing (N10: it may complete the job itself)."""

    async def story(bench: NoticeBench) -> None:
        ear = bench.subscriber()
        records = [await bench.failed() for _ in range(5)]
        for record in records:
            bench.notifier.register(record, ear, None)
        flights = heard(ear)
        bench.engine.apply(records[0], events.Cancel())
        bench.engine.apply(records[1], events.Resume())
        await bench.commits()
        assert told(ear) == []
        await bench.answer(ear, flights[0], codes.E_FAIL)
        assert told(ear) == [("error", None)]
        bench.wait(600)
        assert told(ear) == []

    run(story)


def test_who_waits_in_line_and_needs_it_no_more_leaves_the_place_to_the_next() -> None:
    async def story(bench: NoticeBench) -> None:
        ear = bench.subscriber()
        records = [await bench.failed() for _ in range(6)]
        for record in records:
            bench.notifier.register(record, ear, None)
        flights = heard(ear)
        bench.engine.apply(records[4], events.Cancel())
        await bench.commits()
        heard(ear)
        await bench.answer(ear, flights[0])
        (last,) = heard(ear)
        assert last["job_id"] == str(records[5].job_id)

    run(story)


def test_a_job_that_nobody_wants_to_hear_of_any_more_leaves_the_line() -> None:
    async def story(bench: NoticeBench) -> None:
        records = [bench.job() for _ in range(IN_FLIGHT + 1)]
        woken: list[Record] = []
        shares = Shares(woken.append)
        assert [shares.take(1000, record) for record in records] == [True] * IN_FLIGHT + [False]
        assert shares.waiting(1000) == records[-1:]
        shares.leave(1000, records[-1])
        shares.leave(1001, records[-1])
        assert shares.waiting(1000) == []
        shares.give_back(1000)
        assert woken == []
        ear = bench.subscriber()
        failed = [await bench.failed() for _ in range(IN_FLIGHT + 1)]
        for record in failed:
            bench.notifier.register(record, ear, None)
        bench.notifier.register(failed[-1], None, None)
        assert bench.notifier._shares.waiting(1000) == []

    run(story)


def test_registering_again_takes_no_second_place() -> None:
    """After an overflow the library registers everything anew."""

    async def story(bench: NoticeBench) -> None:
        ear = bench.subscriber()
        records = [await bench.failed() for _ in range(4)]
        for _ in range(3):
            for record in records:
                bench.notifier.register(record, ear, None)
        flights = heard(ear)
        assert len(flights) == 12
        for flight in flights[:4]:
            await bench.answer(ear, flight)
        assert all(record.job.pending_notice is None for record in records)

    run(story)


# Others


def test_nobody_registers_for_a_job_that_is_over() -> None:
    async def story(bench: NoticeBench) -> None:
        record = await bench.failed()
        bench.engine.apply(record, events.Cancel())
        await bench.commits()
        with pytest.raises(BitsError) as caught:
            bench.notifier.register(record, bench.subscriber(), None)
        assert caught.value.hresult == codes.BG_E_INVALID_STATE

    run(story)


def test_a_new_owner_keeps_the_callback_which_learns_only_that_it_happened() -> None:
    """N9."""

    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(files=2, flags=FILES | NotifyFlags.JOB_MODIFICATION), bench.subscriber()
        bench.notifier.register(record, ear, 1000)
        bench.engine.apply(record, events.TakeOwnership(owner=Identity(uid=0, gid=0)))
        await bench.commits()
        heard(ear)
        await bench.moves(record, 2)
        (first,) = heard(ear)
        assert (first["notice"], first.get("file_index"), "job" in first) == ("file-transferred", 0, False)

    run(story)


def test_after_a_restart_everything_is_tried_again_at_once() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(files=2, flags=FILES), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 2)
        first = heard(ear)[0]
        await bench.answer(ear, first)
        await bench.answer(ear, heard(ear)[0], codes.E_FAIL)
        again = NoticeBench()
        again.load(bench.disk.jobs.values())
        await again.commits()
        (restored,) = again.engine.records.values()
        later = again.subscriber()
        again.notifier.register(restored, later, None)
        (notice,) = heard(later)
        assert (notice["notice"], notice.get("file_index")) == ("file-transferred", 1)

    run(story)


# What people are told of it


def test_a_notice_that_waits_says_what_for() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await bench.failed(), bench.subscriber()

        def said() -> tuple[str, str, float | None]:
            info = notice_info(record.job, record.delivery)
            assert info is not None
            assert info["notice"] == "error"
            assert info["hint"]
            return info["to"], info["next"], info["next_at"]

        assert said() == ("nobody", "it is delivered when a program registers for the job", None)
        for _ in range(4):
            bench.notifier.register(await bench.failed(), ear, None)
        bench.notifier.register(record, ear, None)
        waits = "it is sent when one of the 4 that uid 1000 has in flight was answered"
        assert said() == ("the callback of uid 1000", waits, None)
        flights = heard(ear)
        await bench.answer(ear, flights[0])
        assert said() == ("the callback of uid 1000", "the answer of the callback", None)
        await bench.answer(ear, heard(ear)[0], codes.E_ACCESSDENIED)
        failed = "everything is tried again: the callback answered E_ACCESSDENIED (0x80070005)"
        assert said() == ("the callback of uid 1000", failed, 1e9 + bench.boot + 600)
        set_flags(bench, record, NotifyFlags.JOB_TRANSFERRED)
        assert notice_info(record.job, record.delivery) is None

    run(story)
