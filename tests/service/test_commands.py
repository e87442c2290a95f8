"""Programs for notices in the manager: who may have one run, when it waits, and what the spawner has recorded."""

import asyncio
import socket
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from tests.service.enginebench import Bench

from openbits import channel, commandline
from openbits.core import events
from openbits.core.enums import JobState, Notice, NotifyFlags
from openbits.core.model import CommandLine, Identity, Job
from openbits.core.policies import Policies
from openbits.core.properties import Properties
from openbits.service.commands import Commands
from openbits.service.record import Record
from openbits.service.spawner_link import RefusedError, SpawnerLink

ROOT, SERVICE, ALICE, BOB = (Identity(uid=uid, gid=uid, name=f"user{uid}") for uid in (0, 999, 1000, 1001))


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """The accounts of the machine, where they are not called `user<uid>`."""
    others: dict[int, str] = {}
    monkeypatch.setattr("openbits.service.commands.name_of_uid", lambda uid: others.get(uid, f"user{uid}"))
    return others


class Link:
    """A spawner that records, and whose runners are played by the test."""

    def __init__(self) -> None:
        self.recorded: set[tuple[int, str]] = set()
        self.log: list[str] = []
        self.runners: list[socket.socket] = []
        self.refusal: str = ""

    async def allow_command(self, uid: int, name: str, by: str) -> None:
        if self.refusal:
            raise RefusedError(self.refusal, "refused")
        self.recorded.add((uid, name))
        self.log.append(f"allow {uid} {by}")
        await asyncio.sleep(0)

    async def forget_command(self, uid: int, name: str) -> None:
        self.recorded.discard((uid, name))
        self.log.append(f"forget {uid}")

    async def commands(self, after: str) -> list[str]:
        return sorted(name for name in (f"{uid}.{name}" for uid, name in self.recorded) if name > after)[:2]

    async def start(self, program: str, uid: int, by: str | None, *, command: str) -> socket.socket:
        self.log.append(f"start {program} {uid} {by}")
        if (uid, command) not in self.recorded:
            raise RefusedError("not-admitted", f"uid {uid} has not set this command")
        ours, theirs = channel.pair()
        theirs.setblocking(False)
        channel.send(theirs, {"hello": "notify", "pid": 7})
        self.runners.append(theirs)
        return ours


class World:
    """An engine, a spawner, and the commands between them."""

    def __init__(self) -> None:
        self.bench, self.link = Bench(), Link()
        self.logged_on = {ROOT.uid, SERVICE.uid, ALICE.uid, BOB.uid}
        self.possible: list[Record] = []
        self.commands = Commands(
            self.bench.engine,
            cast("SpawnerLink", self.link),
            system_uid_max=999,
            is_logged_on=lambda uid: uid in self.logged_on,
            on_possible=self.possible.append,
        )

    def job(self, setter: Identity = ALICE, owner: Identity = ALICE, **fields: Any) -> Record:
        """A transferred job of which nobody was told, with a command line that is recorded."""
        command = CommandLine(program="/bin/true", parameters="", setter=setter)
        made = Job(
            job_id=uuid.uuid4(),
            owner=owner,
            created_at=0,
            modified_at=0,
            state_since=0,
            **{
                "state": JobState.TRANSFERRED,
                "pending_notice": Notice.TRANSFERRED,
                "notice_seq": 1,
                "command_line": command,
                **fields,
            },
        )
        record, _ = self.bench.engine.create(made)
        self.link.recorded |= {name_of(record, one) for one in made.commands}
        return record

    async def heard(self) -> dict[str, Any]:
        """The order of the latest runner."""
        while True:
            try:
                return channel.receive(self.link.runners[-1])[0]
            except (BlockingIOError, IndexError):
                await asyncio.sleep(0.001)

    def tell(self, **message: Any) -> None:
        channel.send(self.link.runners[-1], message)

    async def settled(self) -> None:
        """Everything that was begun without waiting is done."""
        while self.commands._tasks:
            await asyncio.gather(*self.commands._tasks)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.001)


def name_of(record: Record, command: CommandLine) -> tuple[int, str]:
    name = commandline.name(str(record.job_id), command.program, command.parameters)
    return command.setter.uid, name


def run(story: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = World()
        try:
            await story(world)
        finally:
            for runner in world.link.runners:
                runner.close()
            await asyncio.sleep(0.01)  # their ends are heard

    asyncio.run(whole())


# -- when it is wanted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"state": JobState.ERROR, "pending_notice": Notice.ERROR}, True),
        ({"pending_notice": None}, False),
        ({"command_line": None}, False),
        ({"properties": Properties(notify_flags=NotifyFlags.JOB_ERROR)}, False),
        ({"properties": Properties(notify_flags=NotifyFlags.JOB_TRANSFERRED | NotifyFlags.DISABLE)}, False),
        ({"properties": Properties(notify_flags=NotifyFlags(0))}, False),
    ],
)
def test_it_is_wanted_for_a_pending_notice_whose_flag_is_set(fields: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    async def story(world: World) -> None:
        assert world.commands.is_wanted(world.job(**fields).job) is expected

    run(story)


@pytest.mark.parametrize("is_allowed", [False, True])
@pytest.mark.parametrize(
    ("setter", "owner", "expected"),
    [
        (ALICE, ALICE, "always"),
        (BOB, ALICE, "always"),
        (ROOT, ALICE, "never"),
        (ROOT, ROOT, "never"),
        (SERVICE, SERVICE, "policy"),
        (SERVICE, ALICE, "policy"),
        (ALICE, SERVICE, "policy"),
        (ALICE, ROOT, "policy"),
    ],
)
def test_nothing_is_run_as_root_and_for_service_accounts_as_the_policy_says(
    setter: Identity, owner: Identity, expected: str, *, is_allowed: bool
) -> None:
    async def story(world: World) -> None:
        world.bench.engine.set_policies(Policies(allow_service_notify_cmd_line=is_allowed))
        record = world.job(setter, owner, activation=CommandLine(program="", parameters="x", setter=setter))
        is_wanted = expected == "always" or (expected == "policy" and is_allowed)
        assert world.commands.is_wanted(record.job) is is_wanted
        if not is_wanted:
            assert not await world.commands.run(record)
            assert not await world.commands.activate(record)
            assert not any(line.startswith("start") for line in world.link.log)
            assert record.command_note.startswith("is not run: ")

    run(story)


def test_it_waits_for_the_logon_of_its_setter_and_ends_with_his_log_off() -> None:
    async def story(world: World) -> None:
        world.logged_on = {ALICE.uid}
        record = world.job(BOB, ALICE)
        assert not world.commands.is_wanted(record.job)
        assert record.command_note == "is not run: user1001 (uid 1001) is not logged on; it is run at the next logon"
        world.commands.look_again()
        assert world.possible == []
        world.logged_on.add(BOB.uid)
        world.commands.look_again()
        world.commands.look_again()
        assert world.possible == [record]
        assert world.commands.is_wanted(record.job)
        running = asyncio.create_task(world.commands.run(record))
        await world.heard()
        world.tell(event="started", pid=9)
        await until(lambda: all(runner.started.done() for runner in world.commands._running))
        world.logged_on.discard(BOB.uid)
        world.commands.look_again()
        assert not await running
        assert record.command_note == "was ended before it was done"

    run(story)


# -- how it ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("news", "is_taken", "note"),
    [
        ([{"event": "started", "pid": 9}, {"event": "ended", "code": 0}], True, ""),
        ([{"event": "started", "pid": 9}, {"event": "ended", "code": 3}], False, "ended with exit code 3"),
        ([{"event": "started", "pid": 9}, {"event": "ended", "signal": 15}], False, "was killed by SIGTERM"),
        ([{"event": "started", "pid": 9}, {"event": "ended", "signal": 40}], False, "was killed by signal 40"),
        (
            [{"event": "failed", "errno": 2, "text": "No such file"}],
            False,
            "was not started: No such file (errno 2)",
        ),
    ],
)
def test_exit_code_zero_takes_the_notice_and_nothing_else(
    news: list[dict[str, Any]], note: str, *, is_taken: bool
) -> None:
    async def story(world: World) -> None:
        record = world.job()
        running = asyncio.create_task(world.commands.run(record))
        order = await world.heard()
        assert order == {"op": "run", "job_id": str(record.job_id), "program": "/bin/true", "parameters": ""}
        for message in news:
            world.tell(**message)
        assert await running is is_taken
        assert record.command_note == note
        assert world.link.log == ["start notify 1000 None"]

    run(story)


def test_what_the_spawner_refuses_is_a_failure() -> None:
    async def story(world: World) -> None:
        record = world.job()
        world.link.recorded.clear()
        assert not await world.commands.run(record)
        assert record.command_note == "was not started: uid 1000 has not set this command"

    run(story)


def test_one_program_of_a_class_serves_all_jobs_of_its_user() -> None:
    async def story(world: World) -> None:
        activation = CommandLine(program="", parameters="class", setter=ALICE)
        first, second = (world.job(command_line=None, activation=activation) for _ in range(2))
        both = asyncio.gather(world.commands.activate(first), world.commands.activate(second))
        order = await world.heard()
        assert (order["program"], order["parameters"]) == ("", "class")
        world.tell(event="started", pid=9)
        assert all(await both)
        assert len(world.link.runners) == 1
        world.tell(event="ended", code=0)
        world.link.runners[-1].close()
        await until(lambda: not world.commands._servers)
        again = asyncio.create_task(world.commands.activate(second))
        await until(lambda: len(world.link.runners) == 2)
        await world.heard()
        world.tell(event="failed", errno=2, text="no")
        assert not await again
        assert world.commands._servers == {}

    run(story)


# -- what is recorded ----------------------------------------------------------------------------------------------

NEW = CommandLine(program="/bin/new", parameters="", setter=ALICE)


def test_a_command_is_recorded_before_the_job_has_it() -> None:
    async def story(world: World) -> None:
        record = world.job(command_line=None)
        async with world.commands.allowed(record, NEW, "cookie"):
            assert name_of(record, NEW) in world.link.recorded
            world.bench.engine.apply(record, events.SetCommandLine(NEW))
        await world.settled()
        assert world.link.log == ["allow 1000 cookie"]

    run(story)


def test_a_command_that_the_job_does_not_get_is_forgotten() -> None:
    async def story(world: World) -> None:
        record = world.job(command_line=None)
        with pytest.raises(KeyError):
            async with world.commands.allowed(record, NEW, "cookie"):
                raise KeyError
        await world.settled()
        assert world.link.recorded == set()

    run(story)


def test_a_refused_record_is_told() -> None:
    async def story(world: World) -> None:
        world.link.refusal = "unknown-cookie"
        record = world.job(command_line=None)
        with pytest.raises(RefusedError):
            async with world.commands.allowed(record, NEW, "cookie"):
                pytest.fail("it is not recorded")

    run(story)


def test_nothing_is_recorded_for_root() -> None:
    async def story(world: World) -> None:
        record = world.job(command_line=None)
        command = replace(NEW, setter=ROOT)
        async with world.commands.allowed(record, command, "cookie"):
            world.bench.engine.apply(record, events.SetCommandLine(command))
        world.commands.forget(record.job_id, command)
        await world.settled()
        assert world.link.log == []

    run(story)


def test_a_command_that_is_set_anew_while_it_is_being_forgotten_stays() -> None:
    """The job gives it up and gets it again before the spawner has heard of either."""

    async def story(world: World) -> None:
        record = world.job(command_line=NEW)
        world.bench.engine.apply(record, events.SetCommandLine(None))
        world.commands.forget(record.job_id, NEW)
        async with world.commands.allowed(record, NEW, "cookie"):
            world.bench.engine.apply(record, events.SetCommandLine(NEW))
        await world.settled()
        assert name_of(record, NEW) in world.link.recorded

    run(story)


def test_a_start_forgets_what_no_job_has_and_nothing_else() -> None:
    async def story(world: World) -> None:
        kept = world.job()
        activated = world.job(command_line=None, activation=replace(NEW, program="", parameters="class"))
        expected = set(world.link.recorded)
        gone = world.job(command_line=None)
        for stale in (
            name_of(gone, NEW),
            name_of(kept, NEW),
            (BOB.uid, name_of(activated, NEW)[1]),
            (1, f"{'0' * 32}-{'1' * 64}"),
        ):
            world.link.recorded.add(stale)
        await world.commands.sweep()
        assert world.link.recorded == expected

    run(story)


def test_it_is_not_run_for_another_account_that_has_the_uid_now(accounts: dict[int, str]) -> None:
    async def story() -> None:
        world = World()
        record = world.job()
        accounts[ALICE.uid] = "somebody"
        async with asyncio.timeout(5):
            assert not await world.commands.run(record)
        assert world.link.log == []
        assert record.command_note.startswith("was not started: 'user1000' has set it, and uid 1000 is 'somebody' now;")

    asyncio.run(story())
