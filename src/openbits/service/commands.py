"""Programs that are run for notices: a job's command line, and the program of its notification class (jobs.md §12).

Each runs as the user who set it, in a runner of its own (`identity.runner`). The spawner starts one for what it has
recorded for that user alone, so a record is made before the job has the command (`allowed`) and erased after the job
has it no more; one that a crash left behind is erased at the next start (`sweep`).

Nothing is run as root, for a service account (C8), or while its user is not logged on (C10), which is the rule of
`core.sessions`, whatever `logon_required` says: a job may go on without its owner, a program of somebody should not
appear while he is away. It is run at the next logon, and ends with a log-off.
"""

import asyncio
import logging
import signal
import socket
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from openbits import channel, commandline
from openbits.channel import Message
from openbits.core import notices
from openbits.core.model import CommandLine, Identity, Job, JobId
from openbits.core.wording import label
from openbits.failpoints import failpoint
from openbits.service import audit
from openbits.service.child import Child, ChildLostError, Key
from openbits.service.engine import Engine
from openbits.service.identities import name_of_uid
from openbits.service.record import Record
from openbits.service.spawner_link import Cookie, RefusedError, SpawnerLink

log = logging.getLogger("openbits.manager")

ERROR_EVENT, LAUNCH_EVENT = 63, 64
"""Numbers of the event log: a program returned an error; it could not be started (jobs.md §19)."""

Recorded = tuple[int, str]
"""Uid and name (`commandline.name`) of a command in the state directory of the spawner."""


class NotStartedError(Exception):
    """The kernel would not start the program, or the runner not ask it to."""


class Runner(Child):
    """A notify runner: takes one order, and ends after it; ended early, it ends the program."""

    def __init__(self, key: Key, sock: socket.socket, on_end: Callable[[Child], None]) -> None:
        super().__init__(key, sock, on_end)
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[int] = loop.create_future()
        """Pid of the program; NotStartedError or ChildLostError."""
        self.result: asyncio.Future[str] = loop.create_future()
        """How it ended, empty: with exit code 0; ChildLostError."""

    @property
    def is_busy(self) -> bool:
        """Until it ends."""
        return not self.is_ended

    def order(self, job_id: JobId, command: CommandLine) -> None:
        """Have the program started."""
        text = {"program": command.program, "parameters": command.parameters}
        self._channel.send({"op": "run", "job_id": str(job_id), **text})

    def handle(self, message: Message, descriptors: list[int]) -> None:
        """News of the program."""
        channel.close_all(descriptors)
        match message["event"]:
            case "started":
                self.started.set_result(int(message["pid"]))
            case "failed":
                self.started.set_exception(NotStartedError(f"{message['text']} (errno {message['errno']})"))
            case "ended" if "signal" in message:
                self.result.set_result(f"was killed by {_name_of_signal(int(message['signal']))}")
            case "ended":
                self.result.set_result(f"ended with exit code {message['code']}" if message["code"] else "")

    def lost(self) -> None:
        """The runner is gone, and the program with it."""
        for future in (self.started, self.result):
            if not future.done():
                future.set_exception(ChildLostError("its runner ended before it"))
            future.exception()  # nobody may be waiting any more


class Commands:
    """Runs them, and keeps the records of the spawner as the jobs are."""

    def __init__(
        self,
        engine: Engine,
        link: SpawnerLink,
        *,
        system_uid_max: int,
        is_logged_on: Callable[[int], bool],
        on_possible: Callable[[Record], None],
    ) -> None:
        self._engine = engine
        self._link = link
        self._system_uid_max = system_uid_max
        self._is_logged_on = is_logged_on
        self._on_possible = on_possible
        self._allowing: Counter[Recorded] = Counter()
        """Recorded for jobs that do not have them yet."""
        self._waiting: dict[JobId, tuple[CommandLine, Identity]] = {}
        """What may not be run now, and the owners of the jobs."""
        self._running: set[Runner] = set()
        self._servers: dict[Recorded, asyncio.Task[Runner]] = {}
        """Programs of classes that run, by uid and class id: one serves all jobs of its user."""
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what may be run ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def allowed(self, record: Record, command: CommandLine | None, by: Cookie) -> AsyncIterator[None]:
        """Around the step that gives this command to a job: it is recorded before, and forgotten if that fails.

        `by` vouches for its setter. Nothing is recorded for root, whose commands are not run. Raises RefusedError.
        """
        if command is None or command.setter.uid == 0:
            yield
            return
        recorded = _recorded(record.job_id, command)
        self._allowing[recorded] += 1
        try:
            await self._link.allow_command(*recorded, by)
            failpoint("command.recorded")
            yield
        finally:
            self._allowing[recorded] -= 1
            if not self._allowing[recorded]:
                del self._allowing[recorded]
            self.forget(record.job_id, command)

    def forget(self, job_id: JobId, command: CommandLine) -> None:
        """Have the record of a command erased, if the job does not have it (any more)."""
        self._waiting.pop(job_id, None)
        if command.setter.uid != 0:
            self._spawn(self._forget(_recorded(job_id, command)))

    async def sweep(self) -> None:
        """After a start: erase the records of commands that no job has."""
        names = await self._link.commands("")
        while names:
            for entry in names:
                uid, _, name = entry.partition(".")
                await self._forget((int(uid), name))
            names = await self._link.commands(names[-1])

    def _has(self, recorded: Recorded) -> bool:
        record = self._engine.records.get(uuid.UUID(recorded[1].partition("-")[0]))
        return record is not None and any(_recorded(record.job_id, one) == recorded for one in record.job.commands)

    async def _forget(self, recorded: Recorded) -> None:
        if recorded in self._allowing or self._has(recorded):
            return
        try:
            await self._link.forget_command(*recorded)
        except RefusedError as error:
            log.warning("command_kept uid=%d why=%s", recorded[0], error)

    # -- notices --------------------------------------------------------------------------------------------------

    def is_wanted(self, job: Job) -> bool:
        """A command line is set, the flag of the pending notice too, and it may be run now."""
        notice, command = job.pending_notice, job.command_line
        if notice is None or command is None or not notices.is_wanted(job, notice):
            return False
        return self._may_run(job, command)

    async def run(self, record: Record) -> bool:
        """Run the command line to its end: True if it took the notice, by exit code 0."""
        command = record.job.command_line
        if command is None or not self._may_run(record.job, command):
            return False
        try:
            runner = await self._launch(record, command)
        except (NotStartedError, RefusedError, ChildLostError) as error:
            return self._not_started(record, command, error)
        try:
            failed = await runner.result
        except ChildLostError:
            failed = "was ended before it was done"
        record.command_note = failed
        if failed:
            log.warning(
                "command_failed id=%d job=%s uid=%d program=%r why=%s",
                *(ERROR_EVENT, record.job_id, command.setter.uid, command.program, failed),
            )
        return not failed

    async def activate(self, record: Record) -> bool:
        """Have the program of the notification class run, which registers by itself: True if it runs now."""
        command = record.job.activation
        if command is None or not self._may_run(record.job, command):
            return False
        key = (command.setter.uid, command.parameters)
        task = self._servers.get(key)
        if task is None:
            task = self._servers[key] = asyncio.get_running_loop().create_task(self._serve(key, record, command))
        try:
            await asyncio.shield(task)
        except (NotStartedError, RefusedError, ChildLostError) as error:
            return self._not_started(record, command, error)
        return True

    async def _serve(self, key: Recorded, record: Record, command: CommandLine) -> Runner:
        try:
            runner = await self._launch(record, command)
        except BaseException:
            del self._servers[key]
            raise
        runner.ended.add_done_callback(lambda _: self._servers.pop(key, None))
        return runner

    async def _launch(self, record: Record, command: CommandLine) -> Runner:
        """A runner whose program has started. Raises RefusedError, ChildLostError, NotStartedError."""
        uid, name = _recorded(record.job_id, command)
        former, present = command.setter.name, await asyncio.to_thread(name_of_uid, uid)
        if former and present and former != present:  # an account was deleted, and its uid given to another
            raise NotStartedError(f"{former!r} has set it, and uid {uid} is {present!r} now; set it again or remove it")
        control = await self._link.start("notify", uid, None, command=name)
        runner = Runner(Key("notify", uid, None), control, lambda _: self._running.discard(runner))
        self._running.add(runner)
        await runner.ready()
        runner.order(record.job_id, command)
        pid = await runner.started
        failpoint("command.started")
        audit.log("run-command", command.setter, job=record.job_id, program=_named(command))
        log.info("command_started job=%s uid=%d pid=%d program=%r", record.job_id, uid, pid, _named(command))
        return runner

    def _not_started(self, record: Record, command: CommandLine, error: Exception) -> bool:
        record.command_note = f"was not started: {error}"
        log.warning(
            "command_not_started id=%d job=%s uid=%d program=%r why=%s",
            *(LAUNCH_EVENT, record.job_id, command.setter.uid, _named(command), error),
        )
        return False

    # -- who may --------------------------------------------------------------------------------------------------

    def look_again(self) -> None:
        """Sessions or policies changed: what may be run now is due, what runs for somebody who has gone ends."""
        for runner in list(self._running):
            if not self._is_logged_on(runner.key.uid):
                runner.end()
        for job_id in [job_id for job_id, waiting in self._waiting.items() if not self._obstacle(*waiting)]:
            del self._waiting[job_id]
            record = self._engine.records.get(job_id)
            if record is not None:
                self._on_possible(record)

    def _may_run(self, job: Job, command: CommandLine) -> bool:
        why = self._obstacle(command, job.owner)
        record = self._engine.records.get(job.job_id)
        if record is not None:
            record.command_note = why and f"is not run: {why}"
        if why:
            self._waiting[job.job_id] = command, job.owner
        return not why

    def _obstacle(self, command: CommandLine, owner: Identity) -> str:
        """What keeps a program from being run now, in words; empty if nothing does."""
        if command.setter.uid == 0:
            return "no program is run as root; have an ordinary user set it"
        for identity in (command.setter, owner):
            if identity.uid <= self._system_uid_max and not self._engine.policies.allow_service_notify_cmd_line:
                return f"{label(identity)} is a service account; policy AllowServiceNotifyCmdLine would allow it"
        if not self._is_logged_on(command.setter.uid):
            return f"{label(command.setter)} is not logged on; it is run at the next logon"
        return ""

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _recorded(job_id: JobId, command: CommandLine) -> Recorded:
    return command.setter.uid, commandline.name(str(job_id), command.program, command.parameters)


def _named(command: CommandLine) -> str:
    return command.program or f"class {command.parameters}"


def _name_of_signal(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
