"""Temporary files change hands: made by one identity, their bytes go on in a file of another (identity.md §12, P7).

A temporary file stays with the identity that made it. When another one is selected for local files (the helper token
ended and its flags were cleared, another helper was set, the job has a new owner), that one's broker makes a file of
its own and copies the durable bytes. What it copies from is a read-only descriptor:

- of a helper's file the *spare*, which the helper's broker passed when it made or reopened the file, because after the
  end of the token nobody can ask it again;
- of an owner's file one that the owner's broker opens now: the owner is admitted as long as he has a file here;
- else what the new identity may open itself, as the kernel decides.

The copy is a leftover of the job until it has all bytes, so a crash at any moment leaves nothing unknown.
"""

import errno
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from openbits.channel import close_all
from openbits.core import access, codes, events, lifecycle
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import Directory, File, Leftover, Temporary
from openbits.core.wording import name_of
from openbits.failpoints import failpoint
from openbits.identity.broker import COPY_BYTES, FILES_AT_ONCE
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.engine import Engine
from openbits.service.file_broker import Broker, BrokerError
from openbits.service.identities import Source
from openbits.service.record import Record
from openbits.service.spawner_link import RefusedError

log = logging.getLogger("openbits.manager")

NAME_TRIES = 8

MAX_SPARES = 64
"""Spares of the jobs of one owner; a further file would begin again under another identity."""

PASSING_TROUBLE = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EIO}
"""No reason to give up bytes: the next attempt may open the file."""

Announce = Callable[[int, Sequence[Temporary]], Awaitable[None]]
"""Takes temporary files, and how many were made before the first of them."""

Retract = Callable[[int], Awaitable[None]]
"""Takes back all that were announced but so many, which were made."""


class BytesLostError(Exception):
    """Nobody can read the bytes of the former identity any more."""


class Temporaries:
    """Makes temporary files, and moves their bytes into files of other identities."""

    def __init__(self, engine: Engine, children: Children, settings: access.Settings) -> None:
        self._engine = engine
        self._children = children
        self._settings = settings

    async def make(
        self, maker: Source, directory: Directory, count: int, announce: Announce, retract: Retract, *, by_helper: bool
    ) -> list[tuple[Temporary, int]]:
        """P3: new files of one directory and their write-only descriptors; all of them, or an error is raised.

        Their names are announced before they exist and what proves them before a byte is written; `retract` takes back
        the names of which no files were made.
        """
        made: list[tuple[Temporary, int]] = []
        try:
            for _ in range(NAME_TRIES):
                names = [f".BIT{secrets.token_hex(4)}.tmp" for _ in range(count - len(made))]
                place = Temporary(name="", dev=directory.dev, ino=0, birth_ns=0, uid=maker.uid, by_helper=by_helper)
                await announce(len(made), [replace(place, name=name) for name in names])
                failpoint("transfer.name-committed")
                try:
                    await self._create(maker, directory, names, made, announce, by_helper=by_helper)
                except BrokerError as error:
                    await retract(len(made))
                    if error.errno != errno.EEXIST:
                        raise
                else:
                    return made
        except BaseException:
            close_all([descriptor for _, descriptor in made])
            raise
        close_all([descriptor for _, descriptor in made])
        raise BitsError(
            codes.from_errno(errno.EEXIST),
            f"cannot find a free name for a temporary file in {directory.path}",
            context=ErrorContext.LOCAL_FILE,
        )

    async def _create(
        self,
        maker: Source,
        directory: Directory,
        names: Sequence[str],
        made: list[tuple[Temporary, int]],
        announce: Announce,
        *,
        by_helper: bool,
    ) -> None:
        """Have files of these names made, and add them to `made`; raises BrokerError at the first that cannot be."""
        while names:
            broker = await self._children.broker(maker.uid, maker.by)
            new = await broker.create(directory, names[:FILES_AT_ONCE])
            failpoint("transfer.file-created")
            count, names = len(made), names[len(new) :]
            made += [(Temporary(**proof, by_helper=by_helper), descriptor) for proof, descriptor in new]
            await announce(count, [temporary for temporary, _ in made[count:]])
            failpoint("transfer.file-confirmed")

    async def keep_spare(self, record: Record, index: int, helper: Source) -> None:
        """Have the helper's broker open its unfinished file for reading, for the time after the token."""
        file, token = record.job.file_at(index), record.helper_token
        temporary = file.temporary
        kept = record.spares.get(index)
        if temporary is None or token is None or (kept is not None and kept.temporary == temporary):
            return
        owner = record.job.owner
        if not access.may_hand_over(token.record.identity, owner, self._settings) or self._is_full(owner.uid):
            return
        try:
            descriptor = await self._read(helper, file.made_in, temporary)
        except (BrokerError, ChildLostError, RefusedError) as error:
            log.warning("no_spare job=%s name=%s why=%s", record.job.job_id, temporary.name, error)
            return
        record.keep_spare(index, temporary, descriptor)

    async def copy(self, record: Record, index: int, adopter: Source, *, by_helper: bool) -> Temporary:
        """A file of `adopter` with the durable bytes of this file; a leftover until an event gives it to the file.

        The caller holds `record.filing`. Raises BytesLostError; BitsError, BrokerError, RefusedError, ChildLostError
        if the adopter cannot make or fill its file, or nobody wants it any more.
        """
        file, planned = record.job.file_at(index), list[Leftover]()

        async def note(_: int, temporaries: Sequence[Temporary]) -> None:
            leftover = Leftover(directory=file.made_in, temporary=temporaries[0])
            planned.append(leftover)
            committed = self._engine.apply(record, events.LeftoverNoted(leftover=leftover))
            lifecycle.check_not_final(record.job)
            await committed

        async def retract(_: int) -> None:
            gone = (planned[-1],)
            await self._engine.apply(record, events.TemporariesRemoved(file_indexes=(), leftovers=gone))

        source = await self._source(record, index, adopter)
        try:
            ((copy, descriptor),) = await self.make(adopter, file.made_in, 1, note, retract, by_helper=by_helper)
            os.close(descriptor)
            await self._fill(record, file, adopter, copy, source)
        except BaseException:
            self.tidy(record)
            raise
        finally:
            os.close(source)
        log.info("bytes_copied job=%s name=%s to=%s", record.job.job_id, copy.name, adopter.label)
        return copy

    def tidy(self, record: Record) -> None:
        """Have the leftovers removed whose makers are there."""
        self._engine.hands.carry_out(record, events.RemoveTemporaries())

    async def _fill(self, record: Record, file: File, adopter: Source, copy: Temporary, source: int) -> None:
        """Piece by piece: other jobs of the identity have their turn in between, and so has the end of this one."""
        for offset in range(0, file.transferred_bytes, COPY_BYTES):
            lifecycle.check_not_final(record.job)
            length = min(COPY_BYTES, file.transferred_bytes - offset)
            piece = partial(_copy_piece, directory=file.made_in, copy=copy, source=source, at=offset, length=length)
            try:
                await self._children.with_broker(adopter.uid, adopter.by, piece)
            except BrokerError as error:
                if error.errno == errno.ENODATA:
                    raise BytesLostError(str(error)) from error
                raise

    async def _source(self, record: Record, index: int, adopter: Source) -> int:
        file = record.job.file_at(index)
        temporary, spare = file.temporary, record.spares.get(index)
        assert temporary is not None, f"{name_of(record.job)} has nothing to copy"  # noqa: S101  # for the type checker
        if spare is not None and spare.temporary == temporary:
            return os.dup(spare.descriptor)
        maker = Source(uid=temporary.uid, by=None, label=f"uid {temporary.uid}")
        readers = [adopter] if temporary.by_helper else [maker, adopter]
        why = ""
        for reader in readers:
            try:
                return await self._read(reader, file.made_in, temporary)
            except (BrokerError, RefusedError) as error:
                if isinstance(error, BrokerError) and error.errno in PASSING_TROUBLE:
                    raise
                why = str(error)
        raise BytesLostError(why)

    async def _read(self, reader: Source, directory: Directory, temporary: Temporary) -> int:
        return await self._children.with_broker(reader.uid, reader.by, lambda broker: broker.read(directory, temporary))

    def _is_full(self, owner_uid: int) -> bool:
        return sum(len(each.spares) for each in self._engine.records_of(owner_uid)) >= MAX_SPARES


async def _copy_piece(
    broker: Broker, *, directory: Directory, copy: Temporary, source: int, at: int, length: int
) -> None:
    await broker.copy(directory, copy, source, at, length)
