"""TakeOwnership: an administrator becomes the owner of a job (jobs.md §7.2, identity.md §8).

Nothing of the new owner ever lands in a file that the old one can read or change: what the old owner made is copied
before the job changes hands, into files that the new owner's broker makes, and all of it or nothing. The kernel
decides whether that broker may: uid 0 too acts without any capability. Files of a helper stay the helper's, since
with the flags that made them the owner's rights on files do not matter. An upload begins again with a session of the
new owner's; the server of the old one is told once that it was given up (upload-protocol.md §7.5).
"""

from openbits.core import access, codes, events, lifecycle, reply, uploading
from openbits.core.enums import ErrorContext, Integrity, Verb
from openbits.core.errors import BitsError
from openbits.core.model import Directory, File, Identity, Temporary
from openbits.core.wording import label, name_of
from openbits.identity import statedir
from openbits.service import audit
from openbits.service.abandoned import Abandoned
from openbits.service.adding import Adding
from openbits.service.child import ChildLostError
from openbits.service.engine import Engine
from openbits.service.failures import CHILD_ENDED, code_of_broker_error
from openbits.service.file_broker import BrokerError
from openbits.service.identities import Source
from openbits.service.places import directories_of
from openbits.service.record import Record
from openbits.service.spawner_link import Cookie, RefusedError
from openbits.service.temporaries import BytesLostError, Temporaries

MAX_DIRECTORIES = statedir.MAX_DIRECTORIES // 16
"""Directories of a job that can be taken over: it must not fill the entry of an administrator."""


class Ownership:
    """Gives jobs another owner."""

    def __init__(
        self,
        engine: Engine,
        adding: Adding,
        temporaries: Temporaries,
        abandoned: Abandoned,
        settings: access.Settings,
    ) -> None:
        self._engine = engine
        self._abandoned = abandoned
        self._adding = adding
        self._temporaries = temporaries
        self._settings = settings

    async def take(self, record: Record, owner: Identity, by: Cookie, integrity: Integrity) -> None:
        """Make the caller `owner` the owner; `by` vouches for its identity.

        Raises BitsError, and nothing was changed: E_ACCESSDENIED, BG_E_INVALID_STATE, BG_E_NEW_OWNER_NO_FILE_ACCESS,
        or the code of what kept the bytes from being copied.
        """
        former = record.job.owner
        if not access.may(owner, Verb.TAKE_OWNERSHIP, former.uid, self._settings):
            text = f"cannot take ownership of job {record.job.job_id}: {label(owner)} is no administrator"
            raise BitsError(codes.E_ACCESSDENIED, f"{text}; have root or a member of an administrators group do it")
        lifecycle.check_not_final(record.job, events.TakeOwnership)
        try:
            async with record.filing:  # no attempt opens a file meanwhile
                await self._hand_over(record, owner, by, integrity)
            await self._admit(record, owner, by)  # its last job may have ended meanwhile, and the entry with it
        finally:
            self._engine.let_go({owner.uid})  # or this one has
        audit.log(
            "take-ownership", owner, job=record.job.job_id, former_owner_uid=former.uid, former_owner_name=former.name
        )

    async def _hand_over(self, record: Record, owner: Identity, by: Cookie, integrity: Integrity) -> None:
        if record.job.state.is_active:
            await self._engine.apply(record, events.SlotRevoked())
        order = None
        try:
            _check_directories(record, owner)
            await self._admit(record, owner, by)
            copies = await self._copies(record, owner, by)
            order = await self._abandoned.farewell(record)
            _check_directories(record, owner)  # files may have been added meanwhile
            taking = events.TakeOwnership(owner=owner, integrity=integrity, copies=copies)
            committed = self._engine.apply(record, taking)
        except BaseException:
            if order is not None:
                order.drop()
            self._temporaries.tidy(record)
            raise
        self._abandoned.say(order)
        record.drop_token()
        await committed

    async def _admit(self, record: Record, owner: Identity, by: Cookie) -> None:
        try:
            await self._adding.admit(owner.uid, by, *_directories(record))
        except RefusedError as error:
            raise BitsError(error.hresult, f"cannot take ownership of {name_of(record.job)}: {error}") from error

    async def _copies(self, record: Record, owner: Identity, by: Cookie) -> tuple[tuple[int, Temporary], ...]:
        """For every file with bytes of the old owner one of the new owner, in which they are, too."""
        adopter = Source(uid=owner.uid, by=by, label=label(owner))
        copies = []
        waiting = () if uploading.is_to_begin_again(record.job) else record.job.every_file
        for index, file in enumerate(waiting):
            if _must_be_copied(file, owner):
                try:
                    copy = await self._temporaries.copy(record, index, adopter, by_helper=False)
                except (BytesLostError, BrokerError, ChildLostError, RefusedError) as error:
                    raise _not_copied(record, error) from error
                copies.append((index, copy))
        return tuple(copies)


def _directories(record: Record) -> tuple[set[Directory], set[Directory]]:
    """Where files of the job are still to be made, and where they are read."""
    answer = reply.file_of(record.job)
    waiting = [file for file in record.job.files if not file.is_published]
    return directories_of(waiting if answer is None else (*waiting, answer))


def _check_directories(record: Record, owner: Identity) -> None:
    """The directories of a job of his own are in the owner's entry already."""
    count = sum(map(len, _directories(record)))
    if owner.uid != record.job.owner.uid and count > MAX_DIRECTORIES:
        what = f"cannot take ownership of {name_of(record.job)}: its files go to {count} directories, "
        advice = f"the limit is {MAX_DIRECTORIES}; complete or cancel it as it is, which an administrator may"
        raise BitsError(codes.BG_E_NEW_OWNER_NO_FILE_ACCESS, what + advice, context=ErrorContext.LOCAL_FILE)


def _must_be_copied(file: File, owner: Identity) -> bool:
    made = file.temporary
    is_old_owners = made is not None and not made.by_helper and made.uid != owner.uid
    return is_old_owners and (file.is_transferred or file.transferred_bytes > 0)


def _not_copied(record: Record, error: Exception) -> BitsError:
    what = f"cannot take ownership of {name_of(record.job)}: {error}"
    code = CHILD_ENDED
    if isinstance(error, RefusedError):
        code = error.hresult
    if isinstance(error, BrokerError):
        code = code_of_broker_error(error)
    if isinstance(error, BytesLostError) or code == codes.E_ACCESSDENIED:
        code = codes.BG_E_NEW_OWNER_NO_FILE_ACCESS
        what = f"{what}; the job stays with its owner, and administrators may change it all the same"
    return BitsError(code, what, context=ErrorContext.LOCAL_FILE)
