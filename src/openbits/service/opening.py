"""Opening the temporary files of an attempt, through the broker of the identity that makes them.

It is the one that is there, a copy of what another identity made, or a new one; what cannot be used any more is removed
by its maker, or becomes a leftover. New ones are made several at a time: two commits and one request for all of them.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from openbits.channel import close_all
from openbits.core import codes, events
from openbits.core.enums import ErrorContext
from openbits.core.model import File, Temporary
from openbits.failpoints import failpoint
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.engine import Engine
from openbits.service.failures import TemporaryLostError
from openbits.service.file_broker import BrokerError
from openbits.service.identities import Source, source_of_maker
from openbits.service.record import Record
from openbits.service.spawner_link import RefusedError
from openbits.service.temporaries import PASSING_TROUBLE, BytesLostError, Temporaries

log = logging.getLogger("openbits.manager")


class OvertakenError(Exception):
    """The job was stopped, and this attempt has not heard of it yet: it must not make a file now."""


class Opened(NamedTuple):
    """A write-only descriptor, which belongs to whoever asked for it, and from where on the file is to be written."""

    descriptor: int
    offset: int


class Opening:
    """The temporary files of one attempt; the caller holds `record.filing`."""

    def __init__(
        self, engine: Engine, children: Children, temporaries: Temporaries, record: Record, epoch: int
    ) -> None:
        self._engine = engine
        self._children = children
        self._temporaries = temporaries
        self._record = record
        self._epoch = epoch

    def _file(self, index: int) -> File:
        return self._record.job.file_at(index)

    async def open(self, index: int, maker: Source) -> Opened:
        """The temporary file of one file: the one that is there, a copy of another identity's, or a new one."""
        temporary = self._file(index).temporary
        if temporary is None:
            return (await self.create([index], maker))[0]
        loss = note = ""
        if temporary.ino and temporary.uid != maker.uid and self._file(index).transferred_bytes > 0:
            note = await self._adopt(index, maker)
            temporary = self._file(index).temporary or temporary
        if temporary.ino and temporary.uid == maker.uid:
            opened, loss = await self._reopen(index, temporary, maker)
            if opened is not None:
                return opened
        is_counted = bool(loss) and self._file(index).arrived_bytes > 0
        if not self._file(index).is_placed:
            await self._remove_old(index, temporary)
        if is_counted:
            self._count_loss(index, temporary, loss)
        return (await self.create([index], maker, note))[0]

    async def create(self, indexes: Sequence[int], maker: Source, note: str = "") -> list[Opened]:
        """P3: new files for these, which are all made in one directory; progress begins at 0, `note` says why again."""

        async def announce(count: int, temporaries: Sequence[Temporary]) -> None:
            pairs = zip(indexes[count:], temporaries, strict=False)  # those that were made may be fewer
            files = tuple(events.CreatedTemporary(file_index=index, temporary=made, note=note) for index, made in pairs)
            committed = self._engine.apply(record, events.TemporariesCreated(epoch=self._epoch, files=files))
            if self._file(files[0].file_index).temporary != files[0].temporary:  # the job does not listen any more
                raise OvertakenError
            await committed

        async def retract(count: int) -> None:
            await self._engine.apply(record, events.TemporariesRemoved(file_indexes=tuple(indexes[count:])))

        record, directory, by_helper = self._record, self._file(indexes[0]).made_in, maker.by is not None
        made = await self._temporaries.make(maker, directory, len(indexes), announce, retract, by_helper=by_helper)
        opened = [Opened(descriptor, 0) for _, descriptor in made]
        try:
            if record.job.properties.high_performance:
                pairs = zip(indexes, made, strict=True)
                placed = [await self._place(index, maker, temporary) for index, (temporary, _) in pairs]
                await announce(0, placed)
        except BaseException:
            close_all([one.descriptor for one in opened])
            raise
        await self._keep_spares(indexes, maker, opened)
        return opened

    async def _place(self, index: int, maker: Source, temporary: Temporary) -> Temporary:
        """Written straight into the destination (jobs.md §13); a crash before the row says so leaves it empty."""
        file = self._file(index)
        broker = await self._children.broker(maker.uid, maker.by)
        await broker.place(file.made_in, temporary, file.name)
        failpoint("transfer.placed")
        return replace(temporary, name=file.name)

    async def _adopt(self, index: int, maker: Source) -> str:
        """Go on in a copy of the maker's own, or say why the file has to begin again."""
        try:
            copy = await self._temporaries.copy(self._record, index, maker, by_helper=maker.by is not None)
        except BytesLostError as error:
            log.warning("bytes_lost job=%s file=%d why=%s", self._record.job.job_id, index, error)
            return f"began again as {maker.label}, who cannot have the bytes of the former identity: {error}"
        failpoint("copy.filled")
        event = events.TemporaryAdopted(epoch=self._epoch, file_index=index, temporary=copy)
        committed = self._engine.apply(self._record, event)
        if self._file(index).temporary != copy:
            self._temporaries.tidy(self._record)
            raise OvertakenError
        await committed
        failpoint("copy.adopted")
        return ""

    async def _reopen(self, index: int, temporary: Temporary, maker: Source) -> tuple[Opened | None, str]:
        """The descriptor, or why the file is lost (OPEN-34)."""
        file = self._file(index)
        try:
            broker = await self._children.broker(maker.uid, maker.by)
            size, descriptor = await broker.reopen(file.made_in, temporary)
        except BrokerError as error:
            if error.step not in {"changed", "reopen"} or error.errno in PASSING_TROUBLE:
                raise
            return None, str(error)
        end = max((item.offset + (item.length_bytes or 0) for item in file.filled), default=file.transferred_bytes)
        if size < end:
            os.close(descriptor)
            return None, f"somebody cut it from {end} to {size} bytes"
        failpoint("transfer.reopened")
        opened = Opened(descriptor, file.transferred_bytes)
        await self._keep_spares([index], maker, [opened])
        return opened, ""

    def _count_loss(self, index: int, temporary: Temporary, why: str) -> None:
        """Once silently, then as an error that is tried again (OPEN-34)."""
        log.warning("temporary_lost job=%s name=%s why=%s", self._record.job.job_id, temporary.name, why)
        file = self._file(index)
        if index in self._record.lost_temporaries:
            raise TemporaryLostError(
                codes.ERROR_FILE_NOT_FOUND,
                f"the temporary file {temporary.name} was lost again, so the file begins again: {why}; "
                f"see who else changes {file.made_in.path}",
                context=ErrorContext.REMOTE_FILE if file.is_upload else ErrorContext.LOCAL_FILE,
            )
        self._record.lost_temporaries |= {index}

    async def _remove_old(self, index: int, temporary: Temporary) -> None:
        """Remove a temporary that cannot be used any more; if its maker is not there it becomes a leftover."""
        maker = source_of_maker(self._record, temporary, self._engine.token_holders())
        if maker is None:
            return
        directory = self._file(index).made_in
        try:
            await self._children.with_broker(maker.uid, maker.by, lambda broker: broker.remove(directory, temporary))
        except (BrokerError, ChildLostError, RefusedError) as error:
            log.warning("temporary_kept job=%s name=%s why=%s", self._record.job.job_id, temporary.name, error)
            if not isinstance(error, BrokerError) or error.step != "changed":  # then it is not ours to remove
                return
        failpoint("transfer.old-removed")
        await self._engine.apply(self._record, events.TemporariesRemoved(file_indexes=(index,)))

    async def _keep_spares(self, indexes: Sequence[int], maker: Source, opened: Sequence[Opened]) -> None:
        """Of a helper's files; the descriptors are closed if the attempt ends here."""
        if maker.by is None:
            return
        try:
            for index in indexes:
                await self._temporaries.keep_spare(self._record, index, maker)
        except BaseException:
            close_all([one.descriptor for one in opened])
            raise
