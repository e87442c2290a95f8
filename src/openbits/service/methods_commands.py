"""The part of the varlink interface about programs that are run for notices (docs/api.md)."""

from typing import TypedDict

from asyncvarlink import FileDescriptor, varlinkmethod

from openbits.core import command_lines, events, lifecycle
from openbits.core.model import CommandLine
from openbits.core.wording import name_of
from openbits.service.answers import answered
from openbits.service.methods import Methods, check_may_act


class CommandLineInfo(TypedDict):
    """Answer of GetNotifyCmdLine: two empty texts if there is none."""

    program: str
    parameters: str


class CommandMethods(Methods):
    """The notify command line."""

    @varlinkmethod
    @answered
    async def SetNotifyCmdLine(
        self,
        *,
        handle: int,
        program: str | None = None,
        parameters: str | None = None,
        token: FileDescriptor | None = None,
    ) -> None:
        """Run a program as the caller when the job is TRANSFERRED or in ERROR; without program: no more."""
        record = self._handle(handle).record
        given = command_lines.check(program, parameters)
        lifecycle.check_not_final(record.job, events.SetCommandLine)
        with self._call(token) as call:
            check_may_act(call.token, call.identity, f"have a command of {name_of(record.job)} run")
            command = None
            if given is not None:
                command = CommandLine(program=given[0], parameters=given[1], setter=call.identity)
            async with self._allowed(record, command, call.cookie):
                self._handle(handle)  # the job may have got another owner meanwhile
                committed = self._engine.apply(record, events.SetCommandLine(command))
                record.command_note = ""
        await committed
        self._context.notifier.try_again(record)

    @varlinkmethod
    @answered
    async def GetNotifyCmdLine(self, *, handle: int) -> CommandLineInfo:
        """Program and parameters as they were set."""
        command = self._handle(handle).record.job.command_line
        if command is None:
            return {"program": "", "parameters": ""}
        return {"program": command.program, "parameters": command.parameters}
