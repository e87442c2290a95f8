"""The part of the varlink interface that makes, finds, reads, changes and ends jobs (docs/api.md)."""

import math
import uuid
from collections.abc import AsyncIterator
from typing import TypedDict

from asyncvarlink import FileDescriptor, varlinkmethod

from openbits.api.wire import JobInfo, PropertyValues
from openbits.core import codes, events, lifecycle, property_rules
from openbits.core.access import Verb
from openbits.core.enums import JobState, JobType
from openbits.core.errors import BitsError
from openbits.core.model import CommandLine
from openbits.core.wording import name_of
from openbits.failpoints import failpoint
from openbits.service import audit
from openbits.service.answers import answered, answered_stream, pages
from openbits.service.connections import Handle
from openbits.service.methods import Methods, check_may_act
from openbits.service.record import Record


class Created(TypedDict):
    """Answer of CreateJob."""

    job_id: str
    handle: int


class JobMethods(Methods):
    """Jobs and the four acts on their state."""

    @varlinkmethod
    @answered
    async def CreateJob(
        self,
        *,
        display_name: str,
        type: str,  # noqa: A002  # name on the wire
        umask: int,
        token: FileDescriptor | None = None,  # wire name
    ) -> Created:
        """Create a job; its owner is the caller."""
        call = self._call(token)
        with call:
            check_may_act(call.token, call.identity, "create a job")
            self._may(call.identity, Verb.CREATE_JOB, None)
            property_rules.check_display_name_at_create(display_name)
            if type.upper() not in JobType.__members__:
                known = ", ".join(each.name.lower() for each in JobType)
                raise BitsError(codes.E_NOTIMPL, f"{type!r} is not a job type; use one of {known}")
            self._context.quotas.check_new_job(call.identity, display_name)
            integrity = await self._integrity(call)
            await self._spawner(self._context.adding.admit(call.identity.uid, call.cookie, set(), set()))
            failpoint("create.admitted")
            job = lifecycle.new_job(
                job_id=uuid.uuid4(),
                owner=call.identity,
                display_name=display_name,
                type=JobType[type.upper()],
                umask=umask & 0o777,
                owner_integrity=integrity,
                now=self._engine.now(),
            )
            try:
                self._context.quotas.check_new_job(call.identity, display_name)  # others may have been faster
                record, committed = self._engine.create(job)
            finally:
                self._engine.let_go({call.identity.uid})
            await committed
            audit.log("create", job.owner, job=job.job_id, display_name=display_name, type=type)
            return {"job_id": str(job.job_id), "handle": self._open(record, call)}

    @varlinkmethod(return_parameter="handle")
    @answered
    async def OpenJob(self, *, job_id: str, handle: int | None = None, token: FileDescriptor | None = None) -> int:
        """Obtain a job's interface: here, and only here, access to it is checked. `handle` finds a final job, too."""
        with self._call(token) as call:
            held = None if handle is None else self._handle(handle).record
            record = held if held is not None and str(held.job.job_id) == job_id else self._find(job_id)
            self._may(call.identity, Verb.OPEN_JOB, record)
            return self._open(record, call)

    @varlinkmethod
    @answered
    async def ReleaseJob(self, *, handle: int) -> None:
        """Let go of an interface."""
        self._call(None).close()
        released = self._caller.handles.pop(handle, None)
        if released is not None and released.token is not None:
            released.token.close()

    @varlinkmethod(return_parameter="jobs")
    @answered_stream
    async def ListJobs(self, *, all_users: bool, token: FileDescriptor | None = None) -> AsyncIterator[list[JobInfo]]:
        """The jobs of the caller, or of everybody for administrators, page by page; no final ones."""
        with self._call(token) as call:
            self._may(call.identity, Verb.LIST_ALL if all_users else Verb.LIST_OWN, None)
            uid = call.identity.uid
        chosen = list(self._engine.records.values() if all_users else self._engine.records_of(uid))
        for page in pages((record for record in chosen if not record.state.is_final), _weight):
            yield [self._engine.info(record) for record in page]

    @varlinkmethod(return_parameter="job")
    @answered
    async def GetJob(self, *, handle: int) -> JobInfo:
        """Everything about a job, also about a final one while the handle is held."""
        record = self._handle(handle).record
        return self._engine.info(record)

    @varlinkmethod
    @answered
    async def SetProperties(self, *, handle: int, values: PropertyValues) -> None:
        """Set properties, all or nothing."""
        opened = self._handle(handle)
        record = opened.record
        class_id = property_rules.changed(record.job.properties, dict(values), record.job.type).notification_clsid
        activation = _activation(opened, class_id) if "notification_clsid" in values and class_id else None
        async with self._allowed(record, activation, opened.by):
            self._handle(handle)  # the job may have got another owner meanwhile, or other values
            changed = property_rules.changed(record.job.properties, dict(values), record.job.type)
            request = events.SetProperties(properties=changed, names=tuple(values), activation=activation)
            committed = self._engine.apply(record, request)
        await committed
        self._context.notifier.deliver(record)

    @varlinkmethod
    @answered
    async def Suspend(self, *, handle: int) -> None:
        """Stop the transfer and keep what is there."""
        await self._engine.apply(self._handle(handle).record, events.Suspend())

    @varlinkmethod
    @answered
    async def Resume(self, *, handle: int) -> None:
        """Make the job runnable."""
        opened = self._handle(handle)
        found = await self._context.adding.places.find(opened.record, opened.by)
        is_at_rest = opened.record.state in {JobState.SUSPENDED, JobState.TRANSIENT_ERROR, JobState.ERROR}
        is_hurried = is_at_rest and opened.record.job.was_resumed
        committed = self._engine.apply(opened.record, events.Resume())
        opened.record.is_hurried = is_hurried
        for directory in found:
            self._engine.apply(opened.record, directory)
        await committed

    @varlinkmethod(return_parameter="hresult")
    @answered
    async def Cancel(self, *, handle: int) -> int:
        """Give the job up and remove its temporary files."""
        record = self._handle(handle).record
        return await self._close(record, events.Cancel())

    @varlinkmethod(return_parameter="hresult")
    @answered
    async def Complete(self, *, handle: int, token: FileDescriptor | None = None) -> int:
        """Publish what is transferred and end the job."""
        with self._call(token):
            record = self._handle(handle).record
            return await self._close(record, events.Complete())

    @varlinkmethod
    @answered
    async def TakeOwnership(self, *, handle: int, token: FileDescriptor | None = None) -> None:
        """Become the owner (administrators); what the old one entrusted to the job is taken away."""
        record = self._handle(handle).record
        with self._call(token) as call:
            check_may_act(call.token, call.identity, f"take ownership of {name_of(record.job)}")
            await self._context.ownership.take(record, call.identity, call.cookie, await self._integrity(call))


def _activation(opened: Handle, class_id: str) -> CommandLine:
    """The class as that of whoever obtained the handle. Raises BitsError if that was only to identify."""
    check_may_act(opened.token, opened.opened_by, f"have the program of class {class_id} run")
    return CommandLine(program="", parameters=class_id, setter=opened.opened_by)


def _weight(record: Record) -> int:
    """As how many jobs one counts in a page: proxy lists and parameters may be much longer than all the rest."""
    settings, command = record.job.properties, record.job.command_line
    parameters = command.parameters if command is not None else ""
    return 1 + math.ceil((len(settings.proxy_list) + len(settings.proxy_bypass_list) + len(parameters)) / 1024)
