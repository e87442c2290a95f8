"""One file of an attempt: who reads it, who makes it, what the worker is told, what is done after its last byte.

The file that is made is opened by its maker's broker: that of the local-file identity, or of the network identity for
an upload to a file of this machine. A file that is read (`file:`) is opened by the other one's. Only descriptors cross
from broker to worker. Whoever acts is noted first, so that a failure can be told of the right identity and file.
"""

import posixpath

from openbits.channel import Message, close_all
from openbits.core import codes, events, names
from openbits.core.access import Use
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import File
from openbits.core.proxies import Settings
from openbits.core.window import is_alone
from openbits.failpoints import failpoint
from openbits.service import finishing, orders
from openbits.service.children import Children
from openbits.service.engine import Engine
from openbits.service.entrusting import Entrusting, in_memory, parts_of
from openbits.service.failures import TemporaryLostError
from openbits.service.file_broker import Attributes, BrokerError
from openbits.service.identities import Source, source_for
from openbits.service.network_worker import NewsHandler, Worker
from openbits.service.opening import Opened, Opening, OvertakenError
from openbits.service.record import Record

NOBODY = Source(uid=-1, by=None, label="")


class FileTransfer:
    """A file on its way, from the choice of its identities to its last byte."""

    has_sink = True
    """Bytes are written here, and those that count are on the disk."""

    def __init__(self, engine: Engine, children: Children, record: Record, epoch: int, index: int) -> None:
        self.index = index
        self.is_alone = is_alone(record.job.file_at(index))
        """Nothing is moved beside it."""
        self.worker: Worker | None = None
        """Who has the order."""
        self.local = self.network = NOBODY
        self.acting = NOBODY
        """Who acts now, for the error object."""
        self.side = ErrorContext.LOCAL_FILE
        """Which file a broker that fails now is concerned with."""
        self.opened: Opened | None = None
        self._engine = engine
        self._children = children
        self._record = record
        self._epoch = epoch
        self._source: Attributes | None = None
        """What is read, if that is a file of this machine."""
        self._source_descriptor: int | None = None

    @property
    def file(self) -> File:
        """Its newest version."""
        return self._record.job.file_at(self.index)

    @property
    def client_index(self) -> int:
        """The file as clients know it, for the error object."""
        return self._record.job.client_index(self.index)

    @property
    def is_present(self) -> bool:
        """True while the job listens to this attempt; an order to stop it may be on its way."""
        return self._record.job.epoch == self._epoch and self._record.state.is_active

    @property
    def key(self) -> str:
        """Its name on the channel of the worker."""
        return f"{self._record.job_id}:{self._epoch}:{self.index}"

    @property
    def source_mode(self) -> int | None:
        """Permission bits of the file that is read."""
        return None if self._source is None else self._source.mode

    def choose_identities(self) -> None:
        """The row of identity.md §4 for each side of this file. Raises BitsError BG_E_TOKEN_REQUIRED."""
        is_upload, is_file = self.file.is_upload, self._path is not None
        local = Use.UPLOAD_SOURCE if is_upload else Use.DOWNLOAD_TEMPORARY
        self.local = source_for(self._record, local, ErrorContext.LOCAL_FILE)
        remote = Use.SMB_REMOTE_FILE if is_file else Use.SOCKET
        self.network = source_for(self._record, remote, ErrorContext.REMOTE_FILE)
        self.act(self.network)

    def act(self, identity: Source) -> None:
        """From now on it is this one."""
        self.acting = identity
        self.side = ErrorContext.LOCAL_FILE if identity is self.local else ErrorContext.REMOTE_FILE

    async def open(self, opening: Opening) -> None:
        """Have everything opened that the worker needs."""
        reader, maker = (self.local, self.network) if self.file.is_upload else (self.network, self.local)
        if self._path is not None:
            await self._find_remote_directory()
            self.act(reader)
            self._source_descriptor = await self._open_source(reader)
        self.act(maker)
        self.opened = await opening.open(self.index, maker)

    def close(self) -> None:
        """Let go of what was opened and not passed on."""
        close_all(self._held)
        self.opened = self._source_descriptor = None

    @property
    def _held(self) -> list[int]:
        held = (None if self.opened is None else self.opened.descriptor, self._source_descriptor)
        return [descriptor for descriptor in held if descriptor is not None]

    @property
    def _is_ready(self) -> bool:
        """What the order needs is open."""
        return self.opened is not None

    def _message(self, proxy: Settings) -> Message:
        offset = 0 if self.opened is None else self.opened.offset
        return orders.made(self._engine, self._record, self.file, offset, proxy)

    async def order(
        self, entrusting: Entrusting, worker: Worker, on_news: NewsHandler, at_a_time: int, told: set[Source]
    ) -> None:
        """Have the worker move it, when its turn comes; what was opened is the worker's from now on.

        `told`: see `Entrusting.collect`.
        Raises BitsError, BrokerError, RefusedError, ChildLostError.
        """
        proxies = await entrusting.proxies(self._record, self.file)
        policies, file = self._engine.policies, self.file
        entrusted = await entrusting.collect(self._record, file, policies, proxies.credentials, told)
        if not (self._is_ready and self.is_present):
            close_all(entrusted)
            raise OvertakenError
        message = self._message(proxies.settings)
        descriptors = [*self._held, *entrusted]
        self.opened = self._source_descriptor = None
        self.worker = worker
        worker.transfer(self.key, {**message, "at_a_time": at_a_time}, descriptors, on_news)
        failpoint("transfer.ordered")

    def count_durable(self, durable_bytes: int) -> None:
        """So many bytes are on the disk, as the worker says."""
        if durable_bytes > self.file.transferred_bytes:
            done = events.Progressed(epoch=self._epoch, file_index=self.index, transferred_bytes=durable_bytes)
            self._engine.apply(self._record, done)

    def elsewhere(self, _failed: Message) -> str:
        """Where else to look for what the worker could not get; empty: nowhere."""
        return ""

    def reposition(self) -> None:
        """Have what is wanted now fetched first."""
        if self.worker is not None:
            self.worker.reposition(self.key, in_memory(parts_of(self.file, is_wanted_told=True)))

    def cancel(self) -> None:
        """Have the worker forget it."""
        if self.worker is not None:
            self.worker.cancel(self.key)

    # -- files of this machine as remote files --------------------------------------------------------------------

    @property
    def _path(self) -> str | None:
        """Of the remote file, if it is one of this machine."""
        return names.path_of(self.file.present_remote_name)

    async def _find_remote_directory(self) -> None:
        """Nobody could find it before; of an owner's, a client's call has to let the service in."""
        file, network, path = self.file, self.network, self._path
        if file.remote_directory is not None or path is None:
            return
        broker = await self._children.broker(network.uid, network.by)
        directory, _ = await broker.resolve(path, is_source=not file.is_upload)
        if network.by is None:
            text = f"{directory.path} was not there, or was closed, until now; resume the job to let the service in"
            raise BitsError(codes.E_ACCESSDENIED, text, context=ErrorContext.REMOTE_FILE)
        found = events.RemoteDirectoryFound(
            file_index=self.index, remote_name=file.present_remote_name, directory=directory
        )
        await self._engine.apply(self._record, found)

    async def _open_source(self, reader: Source) -> int:
        file = self.file
        remote_name = posixpath.basename(self._path or "")
        directory, name = (file.directory, file.name) if file.is_upload else (file.remote_directory, remote_name)
        if directory is None:  # the job has got another remote name meanwhile
            raise OvertakenError
        broker = await self._children.broker(reader.uid, reader.by)
        self._source, descriptor = await broker.source(directory, name)
        return descriptor

    # -- after the last byte --------------------------------------------------------------------------------------

    @property
    def is_all_there(self) -> bool:
        """An upload that was cut off at its end, perhaps after its file got its name; access lists need the source."""
        file = self.file
        is_ours = file.temporary is not None and file.temporary.ino > 0 and file.temporary.uid == self.network.uid
        is_whole = bool(file.size_bytes) and file.transferred_bytes == file.size_bytes
        return file.is_upload and is_ours and is_whole and not self._parts

    @property
    def _parts(self) -> list[str]:
        """What is to be kept of the source besides its bytes."""
        return finishing.parts_to_keep(self._record.job, self.file)

    @property
    def is_last_step(self) -> bool:
        """What is ordered is all that there is to do for the file."""
        return True

    @property
    def has_to_be_finished(self) -> bool:
        """After its last byte, and before it counts as transferred."""
        return self._path is not None and (self.file.is_upload or bool(self._parts))

    def transferred(self, size_bytes: int, connected: events.Connected | None = None) -> events.TransferredFile:
        """It is done."""
        return events.TransferredFile(
            file_index=self.index, size_bytes=size_bytes, has_source_acl="acl" in self._parts, connected=connected
        )

    async def finish(self, size_bytes: int) -> None:
        """Give the file what it keeps of its source; an upload then gets its final name."""
        file, like = self.file, self._source
        if file.temporary is None or like is None:
            raise OvertakenError
        self.act(self.network if file.is_upload else self.local)
        async with self._record.filing:
            if self._parts:
                await finishing.dress(self._children, self.acting, file, like, self._parts)
        if file.is_upload:
            done = events.Progressed(epoch=self._epoch, file_index=self.index, transferred_bytes=size_bytes)
            await self._engine.apply(self._record, done)
            await self.publish()

    async def publish(self) -> None:
        """An upload has all its bytes: it gets its final name, unless it has it already."""
        if not self.is_present:
            raise OvertakenError
        try:
            async with self._record.filing:
                await finishing.publish(self._children, self.network, self._record.job, [self.file])
        except BrokerError as error:
            if not finishing.is_lost(error):
                raise
            if self.is_present:  # or the next attempt would look for the same bytes again
                await self._engine.apply(self._record, events.TemporariesRemoved(file_indexes=(self.index,)))
            text = f"the temporary file was lost, so the upload begins again: {error}"
            raise TemporaryLostError(codes.ERROR_FILE_NOT_FOUND, text, context=self.side) from error
