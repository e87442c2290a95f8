"""Notices: callback, program of a class, command line, and when each has its turn (jobs.md §12.2, N6, C5)."""

from dataclasses import replace

from tests.service.noticebench import COMMAND, FILES, NoticeBench, heard, run, told

from openbits.core import codes, events, notices
from openbits.core.enums import Notice
from openbits.core.model import Identity
from openbits.service.deliveries import notice_info
from openbits.service.record import Record

CLASS_ID = "0b5a3b25-2b4b-4d2c-9f6a-3d1c54f4e001"


def set_class_id(record: Record) -> None:
    """NOTIFICATION_CLSID."""
    record.job = replace(record.job, activation=replace(COMMAND, program="", parameters=CLASS_ID))


def set_command(record: Record) -> None:
    """SetNotifyCmdLine."""
    record.job = replace(record.job, command_line=COMMAND)


def test_the_callback_goes_before_the_program_and_the_program_before_the_command_line() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await bench.failed(command_line=COMMAND), bench.subscriber()
        assert [what for what, _ in bench.programs.runs] == ["command"]
        await bench.ends(is_taken=False)
        bench.notifier.register(record, ear, None)
        assert told(ear) == [("error", None)]
        assert len(bench.programs.runs) == 1

    run(story)


def test_a_class_id_has_its_program_started_which_registers_by_itself() -> None:
    async def story(bench: NoticeBench) -> None:
        record = bench.job()
        set_class_id(record)
        bench.engine.apply(record, events.Resume())
        await bench.commits()
        bench.engine.apply(record, events.TransferTimeExceeded())
        await bench.commits()
        assert [what for what, _ in bench.programs.runs] == ["activation"]
        await bench.ends(is_taken=True)
        assert record.job.pending_notice is not None
        ear = bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.answer(ear, heard(ear)[0])
        bench.wait(600)
        assert len(bench.programs.runs) == 1
        assert notices.due(record.job) is None

    run(story)


def test_a_program_that_does_not_register_is_started_again_after_the_delay() -> None:
    async def story(bench: NoticeBench) -> None:
        record = bench.job(flags=FILES)
        set_class_id(record)
        await bench.moves(record, 1)
        await bench.ends(is_taken=True)
        bench.wait(599)
        await bench.settle()
        assert len(bench.programs.runs) == 1
        bench.wait(1)
        await bench.settle()
        assert [what for what, _ in bench.programs.runs] == ["activation", "activation"]

    run(story)


def test_who_may_be_told_after_all_does_not_wait_for_the_end_of_the_delay() -> None:
    """The user of a program logged on, or a command line was set (C7)."""

    async def story(bench: NoticeBench) -> None:
        record, ear = await bench.failed(), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.answer(ear, heard(ear)[0], codes.E_FAIL)
        bench.notifier.try_again(record)
        assert told(ear) == [("error", None)]
        bench.notifier.try_again(record)  # it is on its way
        assert told(ear) == []

    run(story)


def test_a_callback_that_fails_has_the_command_line_run_in_its_place() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(), bench.subscriber()
        set_command(record)
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 1)
        await bench.answer(ear, heard(ear)[0], codes.E_FAIL)
        assert [what for what, _ in bench.programs.runs] == ["command"]
        await bench.ends(is_taken=True)
        bench.wait(600)
        assert (told(ear), record.job.pending_notice, len(bench.programs.runs)) == ([], None, 1)
        assert record.delivery is None

    run(story)


def test_what_an_old_owner_s_command_took_the_new_owner_still_gets() -> None:
    """TakeOwnership removes the command line, which may be running: its notice was for somebody else."""

    async def story(bench: NoticeBench) -> None:
        record = await bench.failed(command_line=COMMAND)
        bench.engine.apply(record, events.TakeOwnership(owner=Identity(uid=0, gid=0)))
        await bench.commits()
        await bench.ends(is_taken=True)
        assert record.job.pending_notice is Notice.ERROR
        ear = bench.subscriber(uid=0)
        bench.notifier.register(record, ear, None)
        assert told(ear) == [("error", None)]

    run(story)


def test_if_both_fail_everything_comes_again_after_the_delay_without_end() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(), bench.subscriber()
        set_command(record)
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 1)
        for round_number in range(1, 4):
            await bench.answer(ear, heard(ear)[0], codes.E_FAIL)
            await bench.ends(is_taken=False)
            assert len(bench.programs.runs) == round_number
            bench.wait(599)
            assert heard(ear) == []
            bench.wait(1)

    run(story)


def test_a_callback_that_vanishes_has_the_command_line_run() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(), bench.subscriber()
        set_command(record)
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 1)
        bench.leave(ear)
        await bench.settle()
        assert [what for what, _ in bench.programs.runs] == ["command"]

    run(story)


def test_the_command_line_is_not_for_files() -> None:
    async def story(bench: NoticeBench) -> None:
        record = bench.job(files=2, flags=FILES)
        set_command(record)
        await bench.moves(record, 1)
        assert bench.programs.runs == []

    run(story)


def test_the_command_line_does_not_wait_for_files_that_nobody_hears_of() -> None:
    """C1: there is no callback. Whoever registers later is told of the files, and not of the job again."""

    async def story(bench: NoticeBench) -> None:
        record = bench.job(files=2, flags=FILES)
        set_command(record)
        await bench.moves(record, 2)
        bench.notifier.deliver(record)
        assert [what for what, _ in bench.programs.runs] == ["command"]
        info = notice_info(record.job, record.delivery)
        assert info is not None
        assert (info["notice"], info["to"]) == ("transferred", "the command line of uid 1000")
        await bench.ends(is_taken=False)
        bench.wait(600)
        await bench.settle()
        assert len(bench.programs.runs) == 2
        await bench.ends(is_taken=True)
        bench.wait(600)
        ear = bench.subscriber()
        bench.notifier.register(record, ear, None)
        (first,) = heard(ear)
        await bench.answer(ear, first)
        (second,) = heard(ear)
        await bench.answer(ear, second)
        assert [first.get("file_index"), second.get("file_index")] == [0, 1]
        assert (told(ear), notices.due(record.job), len(bench.programs.runs)) == ([], None, 2)

    run(story)


def test_a_callback_that_refuses_a_file_keeps_the_command_line_back_too() -> None:
    """N1: what comes after the file was not refused, and has not been told."""

    async def story(bench: NoticeBench) -> None:
        record, ear = bench.job(flags=FILES), bench.subscriber()
        set_command(record)
        bench.notifier.register(record, ear, None)
        await bench.moves(record, 1)
        await bench.answer(ear, heard(ear)[0], codes.E_FAIL)
        await bench.settle()
        assert bench.programs.runs == []

    run(story)


def test_a_program_that_does_not_take_the_files_has_the_command_line_run_for_the_job() -> None:
    async def story(bench: NoticeBench) -> None:
        record = bench.job(flags=FILES)
        set_class_id(record)
        set_command(record)
        await bench.moves(record, 1)
        await bench.ends(is_taken=False)
        assert [what for what, _ in bench.programs.runs] == ["activation", "command"]

    run(story)


def test_a_program_that_was_started_has_the_delay_to_register_before_the_command_line_is_run() -> None:
    async def story(bench: NoticeBench) -> None:
        registers, is_mute = bench.job(), bench.job()
        for record in (registers, is_mute):
            set_class_id(record)
            set_command(record)
            await bench.moves(record, 1)
            await bench.ends(is_taken=True)
        assert [what for what, _ in bench.programs.runs] == ["activation", "activation"]
        bench.notifier.register(registers, bench.subscriber(), None)
        bench.wait(599)
        await bench.settle()
        assert len(bench.programs.runs) == 2
        bench.wait(1)
        await bench.settle()
        assert [what for what, _ in bench.programs.runs[2:]] == ["command"]
        await bench.ends(is_taken=True)
        assert (registers.job.pending_notice, is_mute.job.pending_notice) == (Notice.TRANSFERRED, None)

    run(story)


def test_a_job_that_its_program_completed_is_not_told_again() -> None:
    """C5: whatever the program's exit code."""

    async def story(bench: NoticeBench) -> None:
        record = await bench.failed(command_line=COMMAND)
        bench.engine.apply(record, events.Cancel())
        await bench.commits()
        await bench.ends(is_taken=False)
        bench.wait(600)
        await bench.settle()
        assert len(bench.programs.runs) == 1

    run(story)


def test_a_callback_that_registers_while_the_program_runs_is_told_and_may_be_the_one_that_takes_it() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await bench.failed(command_line=COMMAND), bench.subscriber()
        bench.notifier.register(record, ear, None)
        await bench.answer(ear, heard(ear)[0])
        await bench.ends(is_taken=False)
        bench.wait(600)
        await bench.settle()
        assert (record.job.pending_notice, len(bench.programs.runs)) == (None, 1)

    run(story)


def test_a_program_that_fails_late_does_not_disturb_the_callback_that_came_meanwhile() -> None:
    async def story(bench: NoticeBench) -> None:
        record, ear = await bench.failed(command_line=COMMAND), bench.subscriber()
        bench.notifier.register(record, ear, None)
        assert told(ear) == [("error", None)]
        await bench.ends(is_taken=False)
        bench.wait(600)
        assert told(ear) == []

    run(story)


def test_programs_count_into_the_four_of_the_user_who_set_them() -> None:
    async def story(bench: NoticeBench) -> None:
        for _ in range(5):
            await bench.failed(command_line=COMMAND)
        assert len(bench.programs.runs) == 4
        ear, other = bench.subscriber(), bench.subscriber(1001)
        for one in (ear, other):
            bench.notifier.register(await bench.failed(), one, None)
        assert (told(ear), told(other)) == ([], [("error", None)])
        for _, run_of in bench.programs.runs[:2]:
            run_of.set_result(True)
        await bench.commits()
        assert (len(bench.programs.runs), told(ear)) == (5, [("error", None)])

    run(story)


def test_a_command_line_that_waits_in_line_is_run_and_not_the_callback_that_failed_before() -> None:
    async def story(bench: NoticeBench) -> None:
        ear, busy = bench.subscriber(1001), bench.subscriber(1000)
        for _ in range(4):
            bench.notifier.register(await bench.failed(), busy, None)
        flights = heard(busy)
        record = await bench.failed()
        set_command(record)
        bench.notifier.register(record, ear, None)
        await bench.answer(ear, heard(ear)[0], codes.E_FAIL)
        assert (bench.programs.runs, told(ear)) == ([], [])
        await bench.answer(busy, flights[0])
        assert ([what for what, _ in bench.programs.runs], told(ear)) == (["command"], [])

    run(story)
