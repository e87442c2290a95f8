"""Moving one file: the local-file identity's broker opens it, the network identity's worker fills it.

Only descriptors cross from broker to worker. Everything that goes wrong ends as an `AttemptFailed` event (or
`TokenLost`); its class in `core.codes` decides what happens next.
"""

import asyncio
import logging
import os
import random

from openbits.channel import Message
from openbits.core import codes, events, proxies
from openbits.core.access import Use
from openbits.core.enums import ErrorContext, Priority
from openbits.core.errors import BitsError
from openbits.core.model import File, JobError, Temporary, Validators
from openbits.core.wording import host_of, public_url
from openbits.failpoints import failpoint
from openbits.service.children import Broker, BrokerError, ChildLostError, Children, Worker
from openbits.service.engine import Engine
from openbits.service.identities import Source, source_for, source_of_maker
from openbits.service.record import Record
from openbits.service.spawner_link import RefusedError
from openbits.service.temporaries import PASSING_TROUBLE, BytesLostError, Temporaries

log = logging.getLogger("openbits.manager")

CHILD_ENDED = 0x8007042B
"""HRESULT_FROM_WIN32(ERROR_PROCESS_ABORTED): a broker or worker died; transient by rule E8."""

NO_IDENTITY = 0x80070525
"""HRESULT_FROM_WIN32(ERROR_NO_SUCH_USER): nothing vouches for the identity any more; transient by rule E8."""


CODE_OF_REFUSAL = {"broken": CHILD_ENDED, "own-service": codes.E_ACCESSDENIED}
"""The others mean that nothing vouches for the identity now."""

NOBODY = Source(uid=-1, by=None, label="")


class OvertakenError(Exception):
    """The job was stopped, and this attempt has not heard of it yet: it must not make a file now."""


class TemporaryLostError(BitsError):
    """The temporary file of an unfinished file was removed, replaced or cut more than once."""


class Transfers:
    """Starts and stops attempts."""

    def __init__(self, engine: Engine, children: Children, temporaries: Temporaries) -> None:
        self._engine = engine
        self._children = children
        self._temporaries = temporaries

    def start(self, record: Record, effect: events.StartTransfer) -> None:
        """Carry out StartTransfer; an effect that a later step has overtaken does nothing."""
        if record.job.epoch == effect.epoch and record.job.state.is_active:
            attempt = Attempt(self._engine, self._children, self._temporaries, record, effect)
            record.transfer = asyncio.get_running_loop().create_task(attempt.run())

    def stop(self, record: Record) -> None:
        """Carry out StopTransfer."""
        if record.transfer is not None:
            record.transfer.cancel()
            record.transfer = None


class Attempt:
    """One attempt at one file; cancelled as a task."""

    def __init__(
        self,
        engine: Engine,
        children: Children,
        temporaries: Temporaries,
        record: Record,
        order: events.StartTransfer,
    ) -> None:
        self._engine = engine
        self._children = children
        self._temporaries = temporaries
        self._record = record
        self._index = order.file_index
        self._epoch = order.epoch
        self._runs = 0
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """How a run of the worker ended: True if the file has to begin again."""
        self._local = self._network = NOBODY
        self._acting = NOBODY
        self._offset = 0

    @property
    def _file(self) -> File:
        return self._record.job.files[self._index]

    @property
    def _is_present(self) -> bool:
        """True while the job listens to this attempt; an order to stop it may be on its way."""
        return self._record.job.epoch == self._epoch and self._record.job.state.is_active

    @property
    def _key(self) -> str:
        """Name of the present run of the worker."""
        return f"{self._record.job.job_id}:{self._epoch}:{self._runs}"

    async def run(self) -> None:
        """Open, transfer, follow the news until the attempt is over."""
        try:
            while await self._run():
                self._runs += 1
                self._ended = asyncio.get_running_loop().create_future()
        except OvertakenError:
            return  # the order to stop is on its way
        except Exception as error:  # noqa: BLE001  # every way to fail must end as an event of the job
            self._failed(error)

    async def _run(self) -> bool:
        """One run of the worker: True if the row knows that the file has to begin again."""
        worker: Worker | None = None
        try:
            self._local = source_for(self._record, Use.DOWNLOAD_TEMPORARY, ErrorContext.LOCAL_FILE)
            self._network = source_for(self._record, Use.SOCKET, ErrorContext.REMOTE_FILE)
            self._acting = self._network
            self._check_proxies()
            self._acting = self._local
            async with self._record.filing:
                descriptor = await self._open()
            self._acting = self._network
            try:
                worker = await self._children.worker(self._network.uid, self._network.by)
            except BaseException:
                os.close(descriptor)
                raise
            worker.transfer(self._key, self._order(), descriptor, self._news)
            failpoint("transfer.ordered")
            return await self._ended
        except asyncio.CancelledError:
            if worker is not None:
                worker.cancel(self._key)
            raise

    def _order(self) -> Message:
        file = self._file
        validators = file.validators
        properties = self._record.job.properties
        return {
            "url": file.remote_name,
            "offset": self._offset,
            "validators": {
                "size_bytes": validators.size_bytes,
                "etag": validators.etag,
                "last_modified": validators.last_modified,
            },
            "is_foreground": properties.priority is Priority.FOREGROUND,
            "proxy": {
                "usage": properties.proxy_usage.name.lower(),
                "list": properties.proxy_list,
                "bypass": properties.proxy_bypass_list,
            },
        }

    def _check_proxies(self) -> None:
        """Setters store the lists unread; that they cannot be used is found here (jobs.md §7.2)."""
        settings = self._record.job.properties
        try:
            proxies.of_settings(settings.proxy_usage, settings.proxy_list, settings.proxy_bypass_list)
        except proxies.BadProxiesError as error:
            code = codes.BG_E_INVALID_PROXY_INFO
            raise BitsError(code, str(error), context=ErrorContext.GENERAL_TRANSPORT) from None

    # -- the local file -------------------------------------------------------------------------------------------

    async def _broker(self) -> Broker:
        """Asked for before each request: an idle one may be retired at any time."""
        return await self._children.broker(self._local.uid, self._local.by)

    async def _open(self) -> int:
        """A descriptor of the temporary file: the one that is there, a copy of another identity's, or a new one."""
        temporary = self._file.temporary
        if temporary is None:
            return await self._create()
        loss = note = ""
        if temporary.ino and temporary.uid != self._local.uid and self._file.transferred_bytes > 0:
            note = await self._adopt()
            temporary = self._file.temporary or temporary
        if temporary.ino and temporary.uid == self._local.uid:
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
        by_helper = self._local.by is not None
        try:
            copy = await self._temporaries.copy(self._record, self._index, self._local, by_helper=by_helper)
        except BytesLostError as error:
            log.warning("bytes_lost job=%s file=%d why=%s", self._record.job.job_id, self._index, error)
            return f"began again as {self._local.label}, who cannot have the bytes of the former identity: {error}"
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
            size, descriptor = await (await self._broker()).reopen(self._file.directory, temporary)
        except BrokerError as error:
            if error.step not in {"changed", "reopen"} or error.errno in PASSING_TROUBLE:
                raise
            return None, str(error)
        if size < self._file.transferred_bytes:
            os.close(descriptor)
            return None, f"somebody cut it from {self._file.transferred_bytes} to {size} bytes"
        self._offset = self._file.transferred_bytes
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
                f"see who else changes {self._file.directory.path}",
                context=ErrorContext.LOCAL_FILE,
            )
        self._record.lost_temporaries |= {self._index}

    async def _remove_old(self, temporary: Temporary) -> None:
        """Remove a temporary that cannot be used any more; if its maker is not there it becomes a leftover."""
        maker = source_of_maker(self._record, temporary, self._engine.token_holders())
        if maker is None:
            return
        directory = self._file.directory
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

        local, directory = self._local, self._file.directory
        by_helper = local.by is not None
        _, descriptor = await self._temporaries.make(local, directory, announce, retract, by_helper=by_helper)
        self._offset = 0
        await self._keep_spare(descriptor)
        return descriptor

    async def _keep_spare(self, descriptor: int) -> None:
        """For a helper's file; `descriptor` is closed if this attempt ends here."""
        if self._local.by is None:
            return
        try:
            await self._temporaries.keep_spare(self._record, self._index, self._local)
        except BaseException:
            os.close(descriptor)
            raise

    # -- news of the worker ---------------------------------------------------------------------------------------

    def _news(self, message: Message | None) -> None:
        if message is None:
            self._end_with(ChildLostError("the network worker ended"))
            return
        handler = getattr(self, f"_on_{message['event']}", None)
        if handler is None:
            self._end_with(ChildLostError(f"the network worker said {message['event']!r}"))
            return
        handler(message)
        self._engine.progressed(self._record)

    def _on_phase(self, message: Message) -> None:
        self._record.phase = str(message["text"])

    def _on_connected(self, message: Message) -> None:
        if message["offset"] < self._file.transferred_bytes:
            self._end_with(ChildLostError("the network worker cut bytes that count"))
            return
        validators = Validators(
            size_bytes=message["size_bytes"], etag=message["etag"], last_modified=message["last_modified"]
        )
        self._record.live_bytes = int(message["offset"])
        self._record.phase = f"receiving from {host_of(self._file.remote_name)}"
        self._apply(
            events.Connected(
                epoch=self._epoch,
                file_index=self._index,
                validators=validators,
                size_bytes=message["size_bytes"],
                note=str(message["note"]),
            )
        )

    def _on_restarted(self, message: Message) -> None:
        """The worker has cut nothing; it begins again when the row counts no byte any more (P2)."""
        self._record.live_bytes = 0
        reason = str(message["reason"])
        event = events.FileRestarted(epoch=self._epoch, file_index=self._index, note=reason)
        committed = self._engine.apply(self._record, event)
        failpoint("transfer.restart-heard")
        committed.add_done_callback(lambda done: self._finish(is_again=done.exception() is None and self._is_present))

    def _on_progressed(self, message: Message) -> None:
        self._record.live_bytes = int(message["transferred_bytes"])
        durable = int(message["durable_bytes"])
        failpoint("transfer.progress-heard")
        if durable > self._file.transferred_bytes:
            self._apply(events.Progressed(epoch=self._epoch, file_index=self._index, transferred_bytes=durable))

    def _on_transferred(self, message: Message) -> None:
        failpoint("transfer.end-heard")
        self._finish()
        self._apply(
            events.FileTransferred(epoch=self._epoch, file_index=self._index, size_bytes=int(message["size_bytes"]))
        )

    def _on_failed(self, message: Message) -> None:
        self._on_progressed({"transferred_bytes": message["durable_bytes"], "durable_bytes": message["durable_bytes"]})
        self._finish()
        context = ErrorContext[str(message["context"]).upper()]
        is_local = context is ErrorContext.LOCAL_FILE
        error = JobError(
            code=int(message["hresult"]),
            context=context,
            detail=str(message["detail"]),
            identity=(self._local if is_local else self._network).label,
            subject=_path(self._file) if is_local else public_url(self._file.remote_name),
            file_index=self._index,
            protocol=None if is_local else "http",
            at=self._engine.now().wall,
            retry_after_seconds=message["retry_after_seconds"],
        )
        self._apply(events.AttemptFailed(epoch=self._epoch, error=error, spread=random.uniform(0.0, 0.1)))  # noqa: S311  # spread of retries, not a secret

    def _finish(self, *, is_again: bool = False) -> None:
        if not self._ended.done():
            self._ended.set_result(is_again)

    def _end_with(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _apply(self, event: events.Event) -> None:
        self._engine.apply(self._record, event)

    # -- failures of our own side ---------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> None:
        job_error = job_error_of(error, self._file, self._index, self._engine.now().wall, self._acting.label)
        if job_error.code == codes.BG_E_TOKEN_REQUIRED:
            self._apply(events.TokenLost(error=job_error))
            return
        failed = events.AttemptFailed(
            epoch=self._epoch,
            error=job_error,
            spread=random.uniform(0.0, 0.1),  # noqa: S311  # as above
            is_transient=isinstance(error, TemporaryLostError),
        )
        self._apply(failed)


def job_error_of(error: Exception, file: File, index: int, at: float, identity: str) -> JobError:
    """The error object for a failure on our side of the transfer; `identity` is the label of who acted."""
    path = _path(file)
    if isinstance(error, BitsError):
        is_remote = error.context in {ErrorContext.REMOTE_FILE, ErrorContext.GENERAL_TRANSPORT}
        return JobError(
            code=error.hresult,
            context=error.context,
            detail=error.text,
            identity=identity,
            subject=public_url(file.remote_name) if is_remote else path,
            file_index=index,
            protocol="http" if is_remote else None,
            at=at,
        )
    if isinstance(error, BrokerError):
        return JobError(
            code=code_of_broker_error(error),
            context=ErrorContext.LOCAL_FILE,
            detail=str(error),
            identity=identity,
            subject=error.subject,
            file_index=index,
            at=at,
        )
    if isinstance(error, RefusedError):
        code = CODE_OF_REFUSAL.get(error.reason, NO_IDENTITY)
        context = ErrorContext.GENERAL_QUEUE_MANAGER
        return JobError(code=code, context=context, detail=str(error), identity=identity, at=at)
    if not isinstance(error, ChildLostError):
        log.error("attempt_crashed file=%s", path, exc_info=error)
    return JobError(
        code=CHILD_ENDED,
        context=ErrorContext.GENERAL_QUEUE_MANAGER,
        detail=str(error),
        identity=identity,
        file_index=index,
        at=at,
    )


def _path(file: File) -> str:
    return f"{file.directory.path}/{file.name}"


def code_of_broker_error(error: BrokerError) -> int:
    """HRESULT of a failed file operation (errors.md §5.2, identity.md P2)."""
    if error.step == "volume":
        return codes.BG_E_VOLUME_CHANGED
    if error.step in {"moved", "changed"}:
        return codes.E_ACCESSDENIED
    return codes.from_errno(error.errno, is_directory=error.step == "directory")
