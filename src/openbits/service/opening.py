"""Opening the temporary file of an attempt, through the broker of the identity that makes it.

It is the one that is there, a copy of what another identity made, or a new one; what cannot be used any more is removed
by its maker, or becomes a leftover.
"""

import logging
import os

from openbits.core import codes, events
from openbits.core.enums import ErrorContext
from openbits.core.model import File, Temporary
from openbits.failpoints import failpoint
from openbits.service.children import Broker, BrokerError, ChildLostError, Children
from openbits.service.engine import Engine
from openbits.service.failures import TemporaryLostError
from openbits.service.identities import Source, source_of_maker
from openbits.service.record import Record
from openbits.service.spawner_link import RefusedError
from openbits.service.temporaries import PASSING_TROUBLE, BytesLostError, Temporaries

log = logging.getLogger("openbits.manager")

NOBODY = Source(uid=-1, by=None, label="")


class OvertakenError(Exception):
    """The job was stopped, and this attempt has not heard of it yet: it must not make a file now."""


class Opening:
    """The temporary file of one attempt."""

    def __init__(
        self,
        engine: Engine,
        children: Children,
        temporaries: Temporaries,
        record: Record,
        order: events.StartTransfer,
    ) -> None:
        self.offset = 0
        """From where on the opened file is to be written."""
        self._engine = engine
        self._children = children
        self._temporaries = temporaries
        self._record = record
        self._index = order.file_index
        self._epoch = order.epoch
        self._maker = NOBODY

    @property
    def _file(self) -> File:
        return self._record.job.files[self._index]

    @property
    def _context(self) -> ErrorContext:
        return ErrorContext.REMOTE_FILE if self._file.is_upload else ErrorContext.LOCAL_FILE

    async def _broker(self) -> Broker:
        """Asked for before each request: an idle one may be retired at any time."""
        return await self._children.broker(self._maker.uid, self._maker.by)

    async def open(self, maker: Source) -> int:
        """A descriptor of the temporary file: the one that is there, a copy of another identity's, or a new one."""
        self._maker = maker
        temporary = self._file.temporary
        if temporary is None:
            return await self._create()
        loss = note = ""
        if temporary.ino and temporary.uid != self._maker.uid and self._file.transferred_bytes > 0:
            note = await self._adopt()
            temporary = self._file.temporary or temporary
        if temporary.ino and temporary.uid == self._maker.uid:
            descriptor, loss = await self._reopen(temporary)
            if descriptor is not None:
                return descriptor
        is_counted = bool(loss) and self._file.transferred_bytes > 0
        await self._remove_old(temporary)
        if is_counted:
            self._count_loss(temporary, loss)
        return await self._create(note)

    async def _adopt(self) -> str:
        """Go on in a copy of our own, or say why the file has to begin again."""
        by_helper = self._maker.by is not None
        try:
            copy = await self._temporaries.copy(self._record, self._index, self._maker, by_helper=by_helper)
        except BytesLostError as error:
            log.warning("bytes_lost job=%s file=%d why=%s", self._record.job.job_id, self._index, error)
            return f"began again as {self._maker.label}, who cannot have the bytes of the former identity: {error}"
        failpoint("copy.filled")
        event = events.TemporaryAdopted(epoch=self._epoch, file_index=self._index, temporary=copy)
        committed = self._engine.apply(self._record, event)
        if self._file.temporary != copy:
            self._temporaries.tidy(self._record)
            raise OvertakenError
        await committed
        failpoint("copy.adopted")
        return ""

    async def _reopen(self, temporary: Temporary) -> tuple[int | None, str]:
        """The descriptor, or why the file is lost (OPEN-34)."""
        try:
            size, descriptor = await (await self._broker()).reopen(self._file.made_in, temporary)
        except BrokerError as error:
            if error.step not in {"changed", "reopen"} or error.errno in PASSING_TROUBLE:
                raise
            return None, str(error)
        if size < self._file.transferred_bytes:
            os.close(descriptor)
            return None, f"somebody cut it from {self._file.transferred_bytes} to {size} bytes"
        self.offset = self._file.transferred_bytes
        failpoint("transfer.reopened")
        await self._keep_spare(descriptor)
        return descriptor, ""

    def _count_loss(self, temporary: Temporary, why: str) -> None:
        """Once silently, then as an error that is tried again (OPEN-34)."""
        log.warning("temporary_lost job=%s name=%s why=%s", self._record.job.job_id, temporary.name, why)
        if self._index in self._record.lost_temporaries:
            raise TemporaryLostError(
                codes.ERROR_FILE_NOT_FOUND,
                f"the temporary file {temporary.name} was lost again, so the file begins again: {why}; "
                f"see who else changes {self._file.made_in.path}",
                context=self._context,
            )
        self._record.lost_temporaries |= {self._index}

    async def _remove_old(self, temporary: Temporary) -> None:
        """Remove a temporary that cannot be used any more; if its maker is not there it becomes a leftover."""
        maker = source_of_maker(self._record, temporary, self._engine.token_holders())
        if maker is None:
            return
        directory = self._file.made_in
        try:
            await self._children.with_broker(maker.uid, maker.by, lambda broker: broker.remove(directory, temporary))
        except (BrokerError, ChildLostError, RefusedError) as error:
            log.warning("temporary_kept job=%s name=%s why=%s", self._record.job.job_id, temporary.name, error)
            if not isinstance(error, BrokerError) or error.step != "changed":  # then it is not ours to remove
                return
        failpoint("transfer.old-removed")
        await self._engine.apply(self._record, events.TemporariesRemoved(file_indexes=(self._index,)))

    async def _create(self, note: str = "") -> int:
        """P3; progress begins at 0, and `note` says why it begins again."""

        async def announce(temporary: Temporary) -> None:
            event = events.TemporaryCreated(epoch=self._epoch, file_index=self._index, temporary=temporary, note=note)
            committed = self._engine.apply(self._record, event)
            if self._file.temporary != temporary:  # the job does not listen to this attempt any more
                raise OvertakenError
            await committed

        async def retract(_: Temporary) -> None:
            await self._engine.apply(self._record, events.TemporariesRemoved(file_indexes=(self._index,)))

        local, directory = self._maker, self._file.made_in
        by_helper = local.by is not None
        _, descriptor = await self._temporaries.make(local, directory, announce, retract, by_helper=by_helper)
        self.offset = 0
        await self._keep_spare(descriptor)
        return descriptor

    async def _keep_spare(self, descriptor: int) -> None:
        """For a helper's file; `descriptor` is closed if this attempt ends here."""
        if self._maker.by is None:
            return
        try:
            await self._temporaries.keep_spare(self._record, self._index, self._maker)
        except BaseException:
            os.close(descriptor)
            raise
