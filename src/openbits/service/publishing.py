"""Complete and Cancel: renaming and removing files through the identity that made them (jobs.md §8.4, P6, P7)."""

import asyncio
import enum
import json
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine, Iterable, Sequence

from openbits.core import abandoning, codes, events, lifecycle
from openbits.core.enums import ErrorContext, JobState
from openbits.core.errors import BitsError
from openbits.core.model import File, Job, JobError, Leftover, Temporary
from openbits.core.wording import label
from openbits.failpoints import failpoint
from openbits.identity.broker import FILES_AT_ONCE
from openbits.service import finishing
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.engine import Engine
from openbits.service.failures import job_error_of
from openbits.service.file_broker import NAMES_BYTES, Broker, BrokerError
from openbits.service.identities import Source, source_of_maker
from openbits.service.record import Record
from openbits.service.spawner_link import RefusedError

log = logging.getLogger("openbits.manager")


class Removal(enum.Enum):
    """What became of a temporary file that is of no use any more."""

    DONE = enum.auto()
    KEPT = enum.auto()
    """It could not be removed now: a later sweep tries again."""
    NOT_OURS = enum.auto()
    """Another file has its name: that one stays, and there is nothing left to remove (P7)."""


class Publishing:
    """Carries out PublishFiles and RemoveTemporaries, one at a time for each job."""

    def __init__(self, engine: Engine, children: Children) -> None:
        self._engine = engine
        self._children = children
        self._tasks: set[asyncio.Task[None]] = set()

    def publish(self, record: Record) -> None:
        """Rename every transferred file; the answer to Complete follows."""
        self._run(self._publish(record))

    def remove(self, record: Record) -> None:
        """Remove temporaries that are of no use; the answer to Complete or Cancel follows."""
        self._run(self._remove(record))

    def settle(self, record: Record) -> None:
        """Answer the Complete or Cancel of a job that is over and of which nothing has to be removed."""
        if lifecycle.is_forgotten(record.job):
            answer(record, is_clean=True)

    def sweep(self, uid: int) -> None:
        """An identity is back: remove what final jobs and changed identities left behind under it."""
        for record in self._engine.littered(uid):
            self.remove(record)

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, BitsError):  # which is a failed commit: the engine has told it
            log.error("filing_crashed", exc_info=error)

    async def _publish(self, record: Record) -> None:
        async with record.filing:
            error, lost_file = await self._publish_all(record)
            record.complete_error = error
            if error is not None:
                log.warning("publish_failed job=%s why=%s", record.job.job_id, error.detail)
            failpoint("complete.all-renamed")
            await self._engine.apply(record, events.PublishingEnded(error=error, lost_file=lost_file))
            failpoint("complete.ended")
        if error is not None:
            answer_failure(record, BitsError(error.code, codes.describe(error), context=error.context))
        elif not record.job.is_completing:
            self.settle(record)

    async def _publish_all(self, record: Record) -> tuple[JobError | None, int | None]:
        """Rename the files in their order: the first error, and the index of the file if its temporary is lost."""
        waiting = deque(index for index, file in enumerate(record.job.every_file) if _is_to_be_published(file))
        while waiting:
            index, file = waiting[0], record.job.file_at(waiting[0])
            bunch = _bunch(record.job, waiting)
            try:
                count = await self._publish_some(record, [record.job.file_at(each) for each in bunch])
            except Exception as failure:  # noqa: BLE001  # every way to fail is the answer to Complete
                at, told_index = self._engine.now().wall, record.job.client_index(index)
                error = job_error_of(failure, file, told_index, at, _label_of_maker(record, file))
                return error, index if finishing.is_lost(failure) else None
            failpoint("complete.renamed")
            await self._engine.apply(record, events.FilesPublished(file_indexes=tuple(bunch[:count])))
            failpoint("complete.row-written")
            for _ in range(count):
                waiting.popleft()
        return None, None

    async def _publish_some(self, record: Record, files: Sequence[File]) -> int:
        temporary = files[0].temporary
        assert temporary is not None, f"{files[0].local_name} has no temporary file"  # noqa: S101  # the type checker
        maker = _maker_of(record, temporary, ())  # a token of another job was not given for this (I-12)
        return await finishing.publish(self._children, maker, record.job, files)

    async def _remove(self, record: Record) -> None:
        """Remove what is of no use now; then a job that was over by then is answered."""
        async with record.filing:
            is_over, unused = record.job.state.is_final, lifecycle.removable(record.job)
            results = {index: await self._removed(record, record.job.file_at(index)) for index in unused}
            leftovers = {item: await self._removed(record, item) for item in record.job.leftovers}
            news = events.TemporariesRemoved(
                file_indexes=tuple(index for index, result in results.items() if result is not Removal.KEPT),
                leftovers=tuple(item for item, result in leftovers.items() if result is not Removal.KEPT),
            )
            failpoint("remove.unlinked")
            if (news.file_indexes or news.leftovers) and not lifecycle.is_forgotten(record.job):
                await self._engine.apply(record, news)
                failpoint("remove.row-written")
        if is_over:
            if not abandoning.needs_helper(record.job):
                record.drop_token()  # not before: the helper's files are removed by the helper
            is_clean = {*results.values(), *leftovers.values()} <= {Removal.DONE}
            answer(record, is_clean=is_clean)

    async def _removed(self, record: Record, item: File | Leftover) -> Removal:
        temporary = item.temporary
        if temporary is None:  # somebody else was faster
            return Removal.DONE

        def remove(broker: Broker) -> Awaitable[None]:
            return broker.remove(item.made_in if isinstance(item, File) else item.directory, temporary)

        try:
            maker = _maker_of(record, temporary, self._engine.token_holders())
            await self._children.with_broker(maker.uid, maker.by, remove)
        except (BitsError, BrokerError, ChildLostError, RefusedError) as error:
            log.warning("temporary_kept job=%s name=%s why=%s", record.job.job_id, temporary.name, error)
            return Removal.NOT_OURS if isinstance(error, BrokerError) and error.step == "changed" else Removal.KEPT
        return Removal.DONE


def _is_to_be_published(file: File) -> bool:
    return file.is_transferred and not file.is_published and file.temporary is not None


def _bunch(job: Job, waiting: Iterable[int]) -> list[int]:
    """The first of those that wait, and the next ones of the same directory and maker that a message has room for."""
    bunch, room = list[int](), NAMES_BYTES
    for index in waiting:
        first, file = job.file_at(bunch[0] if bunch else index), job.file_at(index)
        room -= len(json.dumps(file.name))
        is_alike = file.made_in == first.made_in and _maker_uid(file) == _maker_uid(first)
        if bunch and (not is_alike or room < 0 or len(bunch) == FILES_AT_ONCE):
            break
        bunch.append(index)
    return bunch


def _maker_uid(file: File) -> int | None:
    return None if file.temporary is None else file.temporary.uid


def _maker_of(record: Record, temporary: Temporary, others: Iterable[Record]) -> Source:
    maker = source_of_maker(record, temporary, others)
    if maker is None:
        raise BitsError(
            codes.BG_E_TOKEN_REQUIRED,
            f"the temporary file belongs to the helper identity uid {temporary.uid}; set its token again",
            context=ErrorContext.LOCAL_FILE,
        )
    return maker


def _label_of_maker(record: Record, file: File) -> str:
    uid = file.temporary.uid if file.temporary is not None else record.job.owner.uid
    return label(record.job.owner) if uid == record.job.owner.uid else f"uid {uid}"


def answer(record: Record, *, is_clean: bool) -> None:
    """Answer the Complete or Cancel that waits for this job, which is over; `is_clean`: nothing was left behind."""
    failpoint("close.answering")
    if record.closing is not None and not record.closing.done():
        is_complete = record.job.state is JobState.ACKNOWLEDGED
        result = lifecycle.complete_result(record.job) if is_complete else codes.S_OK
        record.closing.set_result(result if is_clean else codes.BG_S_UNABLE_TO_DELETE_FILES)
    record.closing = None


def answer_failure(record: Record, error: BitsError) -> None:
    """Complete failed: its caller gets the error of the rename."""
    if record.closing is not None and not record.closing.done():
        record.closing.set_exception(error)
    record.closing = None
