"""Moving one file: brokers open, the network identity's worker moves the bytes (docs/processes.md).

The file that is made is opened by its maker's broker: that of the local-file identity, or of the network identity for
an upload to a file of this machine. A file that is read (`file:`) is opened by the other one's. Only descriptors cross
from broker to worker. Everything that goes wrong ends as an `AttemptFailed` event (or `TokenLost`); its class in
`core.codes` decides what happens next.
"""

import asyncio
import logging
import posixpath
import random

from openbits.channel import Message, close_all
from openbits.core import codes, events, names
from openbits.core.access import Use
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import File, JobError, Validators
from openbits.core.wording import host_of, public_url
from openbits.failpoints import failpoint
from openbits.service import finishing, orders
from openbits.service.children import Attributes, BrokerError, ChildLostError, Children, Worker
from openbits.service.engine import Engine
from openbits.service.failures import CannotFetchError, TemporaryLostError, job_error_of, path_of, protocol_of
from openbits.service.identities import Source, source_for
from openbits.service.opening import NOBODY, Opening, OvertakenError
from openbits.service.record import Record
from openbits.service.temporaries import Temporaries
from openbits.service.vault import Vault

log = logging.getLogger("openbits.manager")


class Transfers:
    """Starts and stops attempts."""

    def __init__(self, engine: Engine, children: Children, temporaries: Temporaries, vault: Vault) -> None:
        self._engine = engine
        self._children = children
        self._temporaries = temporaries
        self._vault = vault

    def start(self, record: Record, effect: events.StartTransfer) -> None:
        """Carry out StartTransfer; an effect that a later step has overtaken does nothing."""
        if record.job.epoch == effect.epoch and record.job.state.is_active:
            attempt = Attempt(self._engine, self._children, self._temporaries, record, effect, vault=self._vault)
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
        *,
        vault: Vault,
    ) -> None:
        self._engine = engine
        self._children = children
        self._temporaries = temporaries
        self._vault = vault
        self._record = record
        self._index = order.file_index
        self._epoch = order.epoch
        self._runs = 0
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """How a run of the worker ended: True if the file has to begin again."""
        self._size: int | None = None
        """Of the whole file, when the worker has moved all of it."""
        self._opening = Opening(engine, children, temporaries, record, order)
        self._local = self._network = NOBODY
        self._acting = NOBODY
        self._side = ErrorContext.LOCAL_FILE
        """Which file a broker that fails now is concerned with."""
        self._source: Attributes | None = None
        """What is read, if that is a file of this machine."""

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
        passed: list[int] = []
        try:
            self._choose_identities()
            if self._is_all_there:
                await self._publish(self._file.transferred_bytes)
                return False
            orders.check(self._record.job, self._file)
            async with self._record.filing:
                await self._open_all(passed)
            self._act(self._network)
            worker = await self._children.worker(self._network.uid, self._network.by)
            order = orders.made(self._engine, self._record, self._file, self._opening.offset)
            descriptors, passed = [*passed, *orders.entrusted(self._vault, self._record.job, self._file)], []
            worker.transfer(self._key, order, descriptors, self._news)
            failpoint("transfer.ordered")
            if await self._ended:
                return True
            if self._size is not None and self._has_to_be_finished:
                await self._finish_file(self._size)
        except asyncio.CancelledError:
            if worker is not None:
                worker.cancel(self._key)
            raise
        finally:
            close_all(passed)
        return False

    def _choose_identities(self) -> None:
        """The row of identity.md §4 for each side of this file."""
        is_upload, is_file = self._file.is_upload, self._path is not None
        local = Use.UPLOAD_SOURCE if is_upload else Use.DOWNLOAD_TEMPORARY
        self._local = source_for(self._record, local, ErrorContext.LOCAL_FILE)
        remote = Use.SMB_REMOTE_FILE if is_file else Use.SOCKET
        self._network = source_for(self._record, remote, ErrorContext.REMOTE_FILE)
        self._act(self._network)

    def _act(self, identity: Source) -> None:
        """Who acts from now on, for the error object."""
        self._acting = identity
        self._side = ErrorContext.LOCAL_FILE if identity is self._local else ErrorContext.REMOTE_FILE

    async def _open_all(self, passed: list[int]) -> None:
        """Add the descriptors for the worker: of the file that is made, and of a file that is read."""
        reader, maker = (self._local, self._network) if self._file.is_upload else (self._network, self._local)
        source = None
        if self._path is not None:
            await self._find_remote_directory()
            self._act(reader)
            source = await self._open_source(reader)
        try:
            self._act(maker)
            passed.append(await self._opening.open(maker))
        finally:
            if source is not None:
                passed.append(source)

    # -- files of this machine as remote files --------------------------------------------------------------------

    @property
    def _path(self) -> str | None:
        """Of the remote file, if it is one of this machine."""
        return names.path_of(self._file.present_remote_name)

    async def _find_remote_directory(self) -> None:
        """Nobody could find it before; of an owner's, a client's call has to let the service in."""
        file, network, path = self._file, self._network, self._path
        if file.remote_directory is not None or path is None:
            return
        broker = await self._children.broker(network.uid, network.by)
        directory, _ = await broker.resolve(path, is_source=not file.is_upload)
        if network.by is None:
            text = f"{directory.path} was not there, or was closed, until now; resume the job to let the service in"
            raise BitsError(codes.E_ACCESSDENIED, text, context=ErrorContext.REMOTE_FILE)
        found = events.RemoteDirectoryFound(
            file_index=self._index, remote_name=file.present_remote_name, directory=directory
        )
        await self._engine.apply(self._record, found)

    async def _open_source(self, reader: Source) -> int:
        file = self._file
        remote_name = posixpath.basename(self._path or "")
        directory, name = (file.directory, file.name) if file.is_upload else (file.remote_directory, remote_name)
        if directory is None:  # the job has got another remote name meanwhile
            raise OvertakenError
        broker = await self._children.broker(reader.uid, reader.by)
        self._source, descriptor = await broker.source(directory, name)
        return descriptor

    @property
    def _is_all_there(self) -> bool:
        """An upload that was cut off at its end, perhaps after its file got its name; access lists need the source."""
        file = self._file
        is_ours = file.temporary is not None and file.temporary.ino > 0 and file.temporary.uid == self._network.uid
        is_whole = bool(file.size_bytes) and file.transferred_bytes == file.size_bytes
        return file.is_upload and is_ours and is_whole and not self._parts

    @property
    def _parts(self) -> list[str]:
        """What is to be kept of the source besides its bytes."""
        return finishing.parts_to_keep(self._record.job, self._file)

    @property
    def _has_to_be_finished(self) -> bool:
        """After its last byte, and before it counts as transferred."""
        return self._path is not None and (self._file.is_upload or bool(self._parts))

    async def _finish_file(self, size: int) -> None:
        """Give the file what it keeps of its source; an upload then gets its final name."""
        file, like = self._file, self._source
        if file.temporary is None or like is None:
            raise OvertakenError
        self._act(self._network if file.is_upload else self._local)
        async with self._record.filing:
            if self._parts:
                await finishing.dress(self._children, self._acting, file, like, self._parts)
        if file.is_upload:
            done = events.Progressed(epoch=self._epoch, file_index=self._index, transferred_bytes=size)
            await self._engine.apply(self._record, done)
            await self._publish(size)
        else:
            self._transferred(size)

    async def _publish(self, size: int) -> None:
        """An upload has all its bytes: it gets its final name, unless it has it already, and is transferred."""
        if not self._is_present:
            raise OvertakenError
        try:
            async with self._record.filing:
                await finishing.publish(self._children, self._network, self._record.job, self._file)
        except BrokerError as error:
            if not finishing.is_lost(error):
                raise
            if self._is_present:  # or the next attempt would look for the same bytes again
                await self._engine.apply(self._record, events.TemporariesRemoved(file_indexes=(self._index,)))
            text = f"the temporary file was lost, so the upload begins again: {error}"
            raise TemporaryLostError(codes.ERROR_FILE_NOT_FOUND, text, context=self._side) from error
        self._transferred(size)

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
        if self._path is None:
            self._record.phase = f"receiving from {host_of(self._file.present_remote_name)}"
        self._apply(
            events.Connected(
                epoch=self._epoch,
                file_index=self._index,
                validators=validators,
                size_bytes=message["size_bytes"],
                note=str(message["note"]),
                source_mode=self._source.mode if self._source is not None else None,
                response_headers=str(message["headers"]),
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
        self._size = int(message["size_bytes"])
        self._finish()
        if not self._has_to_be_finished:
            self._transferred(self._size)

    def _transferred(self, size: int) -> None:
        transferred = events.FileTransferred(
            epoch=self._epoch,
            file_index=self._index,
            size_bytes=size,
            has_source_acl="acl" in self._parts,
        )
        self._apply(transferred)

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
            subject=path_of(self._file) if is_local else public_url(self._file.present_remote_name),
            file_index=self._index,
            protocol=None if is_local else protocol_of(self._file),
            at=self._engine.now().wall,
            retry_after_seconds=message["retry_after_seconds"],
        )
        spread = random.uniform(0.0, 0.1)  # noqa: S311  # spread of retries, not a secret
        if context is ErrorContext.SERVER_CERTIFICATE_CALLBACK:
            self._apply(events.CertificateDeclined(epoch=self._epoch, error=error, spread=spread))
            return
        failed = events.AttemptFailed(
            epoch=self._epoch, error=error, spread=spread, response_headers=str(message["headers"])
        )
        self._apply(failed)

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
        at = self._engine.now().wall
        job_error = job_error_of(error, self._file, self._index, at, self._acting.label, side=self._side)
        if job_error.code == codes.BG_E_TOKEN_REQUIRED:
            self._apply(events.TokenLost(error=job_error))
            return
        failed = events.AttemptFailed(
            epoch=self._epoch,
            error=job_error,
            spread=random.uniform(0.0, 0.1),  # noqa: S311  # as above
            is_transient=isinstance(error, TemporaryLostError | finishing.MissingPrivilegeError),
            is_fatal=isinstance(error, CannotFetchError),
        )
        self._apply(failed)
