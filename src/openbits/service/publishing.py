"""Complete and Cancel: renaming and removing files through the identity that made them (jobs.md §8.4, P6, P7)."""

import asyncio
import logging
from collections.abc import Coroutine
from email.utils import parsedate_to_datetime

from openbits.core import codes, events, lifecycle
from openbits.core.enums import ErrorContext, JobState
from openbits.core.errors import BitsError
from openbits.core.model import Directory, File, Job, JobError, Temporary
from openbits.service.children import Broker, BrokerError, ChildLostError, Children
from openbits.service.engine import Engine
from openbits.service.identities import source_of_maker
from openbits.service.record import Record
from openbits.service.spawner_link import RefusedError
from openbits.service.transfers import job_error_of

log = logging.getLogger("openbits.manager")


class Publishing:
    """Carries out PublishFiles and RemoveTemporaries, one at a time for each job."""

    def __init__(self, engine: Engine, children: Children) -> None:
        self._engine = engine
        self._children = children
        self._tasks: set[asyncio.Task[None]] = set()

    def publish(self, record: Record) -> None:
        """Rename every transferred file; the answer to Complete follows."""
        self._run(self._publish(record))

    def remove(self, record: Record, file_indexes: tuple[int, ...]) -> None:
        """Remove temporaries; the answer to Complete or Cancel follows."""
        self._run(self._remove(record, file_indexes))

    def settle(self, record: Record) -> None:
        """Answer the Complete or Cancel of a job that is over and of which nothing has to be removed."""
        if lifecycle.is_forgotten(record.job):
            answer(record)

    def sweep(self, uid: int) -> None:
        """An identity is back: remove what final jobs and changed identities left behind under it."""
        for record in list(self._engine.records.values()):
            indexes = lifecycle.removable(record.job)
            if any(leftover.temporary.uid == uid for leftover in record.job.leftovers) or any(
                temporary.uid == uid for index in indexes if (temporary := record.job.files[index].temporary)
            ):
                self.remove(record, indexes)

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, record: Record) -> None:
        error: JobError | None = None
        for index, file in enumerate(record.job.files):
            if not file.is_transferred or file.is_published or file.temporary is None:
                continue
            try:
                broker = await self._maker_of(record, file.temporary)
                await broker.publish(file.directory, file.temporary, file.name, record.job.umask, _modified_ns(file))
            except Exception as failure:  # noqa: BLE001  # every way to fail is the answer to Complete
                error = job_error_of(failure, file, index, self._engine.now().wall)
                break
            await self._engine.apply(record, events.FilePublished(file_index=index))
        if error is None:
            record.publish_error = None
        else:
            record.publish_error = BitsError(error.code, codes.describe(error), context=error.context)
            log.warning("publish_failed job=%s why=%s", record.job.job_id, error.detail)
        await self._engine.apply(record, events.PublishingEnded(error=error))
        if error is not None:
            answer_failure(record, record.publish_error)
        elif not record.job.is_completing:
            self.settle(record)

    async def _remove(self, record: Record, file_indexes: tuple[int, ...]) -> None:
        removed = []
        for index in file_indexes:
            file = record.job.files[index]
            if file.temporary is not None and await self._removed(record, file.directory, file.temporary):
                removed.append(index)
        gone = [item for item in record.job.leftovers if await self._removed(record, item.directory, item.temporary)]
        if removed or gone:
            news = events.TemporariesRemoved(file_indexes=tuple(removed), leftovers=tuple(gone))
            await self._engine.apply(record, news)
        answer(record)

    async def _removed(self, record: Record, directory: Directory, temporary: Temporary) -> bool:
        try:
            broker = await self._maker_of(record, temporary)
            await broker.remove(directory, temporary)
        except (BitsError, BrokerError, ChildLostError, RefusedError) as error:
            log.warning("temporary_kept job=%s name=%s why=%s", record.job.job_id, temporary.name, error)
            return False
        return True

    async def _maker_of(self, record: Record, temporary: Temporary) -> Broker:
        maker = source_of_maker(record, temporary, self._engine.records.values())
        if maker is None:
            raise BitsError(
                codes.BG_E_TOKEN_REQUIRED,
                f"the temporary file belongs to the helper identity uid {temporary.uid}; set its token again",
                context=ErrorContext.LOCAL_FILE,
            )
        return await self._children.broker(maker.uid, maker.by)


def answer(record: Record) -> None:
    """Answer the Complete or Cancel that waits for this job."""
    if record.closing is not None and not record.closing.done():
        record.closing.set_result(_result(record.job))
    record.closing = None


def answer_failure(record: Record, error: BitsError | None) -> None:
    """Complete failed: its caller gets the error of the rename."""
    if record.closing is not None and not record.closing.done() and error is not None:
        record.closing.set_exception(error)
    record.closing = None


def _result(job: Job) -> int:
    if not lifecycle.is_forgotten(job):
        return codes.BG_S_UNABLE_TO_DELETE_FILES
    return lifecycle.complete_result(job) if job.state is JobState.ACKNOWLEDGED else codes.S_OK


def _modified_ns(file: File) -> int | None:
    """Last-Modified of the version that was transferred (jobs.md §8.5); None leaves the local time."""
    if not file.validators.last_modified:
        return None
    try:
        return int(parsedate_to_datetime(file.validators.last_modified).timestamp()) * 1_000_000_000
    except ValueError:
        return None
