"""An upload to a web server as a file of an attempt: its steps (`core.uploading`), each one order to a worker.

The local file is opened by its reader's broker, that of the local-file identity, and sent by the worker of the network
identity. A reply is made as a downloaded file is, by the local-file identity. What came of a step is on the disk before
the next one is ordered: after Close the server has neither session nor reply.
"""

import asyncio

from openbits.channel import Message
from openbits.core import codes, events, uploading
from openbits.core.access import Use
from openbits.core.enums import ErrorContext
from openbits.core.model import UploadSession
from openbits.core.proxies import Settings
from openbits.core.uploading import Step
from openbits.failpoints import failpoint
from openbits.service import orders, reply_urls
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.engine import Engine
from openbits.service.file_transfer import FileTransfer
from openbits.service.identities import source_for
from openbits.service.opening import Opening
from openbits.service.record import Record
from openbits.service.worker_news import session_of


def transfer_of(engine: Engine, children: Children, record: Record, epoch: int, index: int) -> FileTransfer:
    """What moves this file, or the reply."""
    kind: type[FileTransfer] = FileTransfer
    if index == record.job.reply_index:
        kind = ReplyTransfer
    elif uploading.is_by_protocol(record.job.files[index]):
        kind = UploadTransfer
    return kind(engine, children, record, epoch, index)


class UploadTransfer(FileTransfer):
    """The step SEND or CLOSE."""

    has_sink = False

    def __init__(self, engine: Engine, children: Children, record: Record, epoch: int, index: int) -> None:
        super().__init__(engine, children, record, epoch, index)
        self._step = uploading.next_step(record.job)
        self._committed: asyncio.Future[None] | None = None
        """The commit of what was acknowledged last."""
        self._waiting: events.Acknowledged | None = None
        """What was acknowledged since: it is committed when that is done."""

    async def open(self, _opening: Opening) -> None:
        """To close a session nothing has to be open."""
        if self._step is Step.SEND:
            self.act(self.local)
            self._source_descriptor = await self._open_source(self.local)

    @property
    def _is_ready(self) -> bool:
        return self._step is Step.CLOSE or self._source_descriptor is not None

    def _message(self, proxy: Settings) -> Message:
        return orders.of_step(self._engine, self._record, self.file, self._step, proxy)

    # -- news of the worker ---------------------------------------------------------------------------------------

    def hear(self, message: Message) -> bool:
        """What the worker tells of the session; False: that cannot be."""
        session = session_of(message["session"])
        if not uploading.may_be_session(self.file, session):
            return False
        told = events.Acknowledged(
            epoch=self._epoch,
            file_index=self.index,
            session=session,
            acknowledged_bytes=int(message["acknowledged_bytes"]),
            note=str(message["note"]),
            response_headers=str(message["headers"]),
        )
        self.acknowledged(told)
        return True

    def acknowledged(self, event: events.Acknowledged) -> None:
        """A server has taken something: mere growth is committed when the commit before it is done, all else at once.

        A fast server acknowledges more fragments than a disk has commits; of those in between the last one counts.
        """
        file, waiting = self.file, self._waiting
        before = file.transferred_bytes if waiting is None else waiting.acknowledged_bytes
        is_growth = event.session == file.session and event.acknowledged_bytes >= before
        if is_growth and self._committed is not None and not self._committed.done():
            self._waiting = event
            return
        self.count_durable(0)
        self._commit(event)

    def _commit(self, event: events.Acknowledged) -> None:
        failpoint("upload.acknowledged-heard")
        is_new = event.session is not None and not _is_same(event.session, self.file.session)
        self._committed = self._engine.apply(self._record, event)
        self._committed.add_done_callback(lambda done: self._go_on(done, event.session if is_new else None))

    def _go_on(self, committed: "asyncio.Future[None]", session: UploadSession | None) -> None:
        """A commit is done. The worker waits for that of a new session, or what it sends under it were sent again."""
        if committed.cancelled() or committed.exception() is not None:
            return
        if session is not None and _is_same(session, self.file.session) and self.worker is not None:
            self.worker.kept(self.key)
        self.count_durable(0)

    def count_durable(self, _durable_bytes: int) -> None:
        """What a worker tells in the end it has told before, with the session."""
        if self._waiting is not None:
            event, self._waiting = self._waiting, None
            self._commit(event)

    # -- after the last byte --------------------------------------------------------------------------------------

    @property
    def is_all_there(self) -> bool:
        """What the server has the worker asks it."""
        return False

    @property
    def has_to_be_finished(self) -> bool:
        """The session is closed after the server has taken all bytes, and the row says so."""
        return self._step is Step.SEND

    @property
    def is_last_step(self) -> bool:
        """After Close the file counts as transferred."""
        return self._step is Step.CLOSE

    def transferred(self, _size_bytes: int, connected: events.Connected | None = None) -> events.TransferredFile:
        """The server has acknowledged all of it."""
        size_bytes = self.file.transferred_bytes
        return events.TransferredFile(file_index=self.index, size_bytes=size_bytes, connected=connected)

    async def finish(self, _size_bytes: int) -> None:
        """Wait until the row says what the server has."""
        while self._waiting is not None or (self._committed is not None and not self._committed.done()):
            self.count_durable(0)
            if self._committed is not None:
                await asyncio.shield(self._committed)
        session = self.file.session
        if self.is_present and (session is None or not session.is_received):
            raise ChildLostError("the network worker sent all of the file, and no server has received it")
        failpoint("upload.received")


def _is_same(session: UploadSession, other: UploadSession | None) -> bool:
    return other is not None and session.session_id == other.session_id


class ReplyTransfer(FileTransfer):
    """The step REPLY: a download, whose end does not end the job."""

    def choose_identities(self) -> None:
        """The row of identity.md §4 for each side. Raises BitsError BG_E_TOKEN_REQUIRED."""
        self.local = source_for(self._record, Use.REPLY_FILE, ErrorContext.LOCAL_FILE)
        self.network = source_for(self._record, Use.SOCKET, ErrorContext.REMOTE_FILE)
        self.act(self.network)

    @property
    def is_last_step(self) -> bool:
        """The session is still to be closed."""
        return False

    @property
    def has_to_be_finished(self) -> bool:
        """The row has to say that it is whole before the server is told to forget it."""
        return True

    def elsewhere(self, failed: Message) -> str:
        """D20: not at the host id of the server, so perhaps at its own."""
        is_absent = failed["hresult"] == codes.BG_E_HTTP_ERROR_404
        is_unreached = failed["context"] == ErrorContext.GENERAL_TRANSPORT.name.lower()
        return reply_urls.elsewhere(self._record.job) if is_absent or is_unreached else ""

    async def finish(self, size_bytes: int) -> None:
        """It is transferred: commit that."""
        whole = events.FilesTransferred(epoch=self._epoch, files=(self.transferred(size_bytes),))
        await self._engine.apply(self._record, whole)
        failpoint("reply.whole")
