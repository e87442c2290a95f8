"""Moving the files of a job: brokers open, the network identity's worker moves the bytes (docs/processes.md).

An attempt is one run of the job's slot. It moves `parallel_files` files at a time in the order of the job, and prepares
more ahead (`core.window`): their temporary files are made and their orders given before their turn comes, so the
worker, which lets so many transfers have the network at a time, never waits for the disk or for us.

What several files have in common is done once: names, proofs and ends of files are committed in bunches.

Everything that goes wrong ends as an `AttemptFailed` event (or `TokenLost`); its class in `core.codes` decides what
happens next. What goes wrong with a file that is only prepared counts in its turn, when nothing moves any more.
"""

import asyncio
import base64
import logging
import random
from dataclasses import replace
from functools import partial
from itertools import groupby

from openbits.channel import Message
from openbits.core import codes, events, names, ranges, window
from openbits.core.enums import ErrorContext
from openbits.core.model import Directory, JobError, JobId, Range, Validators
from openbits.core.wording import host_of, public_url
from openbits.failpoints import failpoint
from openbits.service import finishing, orders
from openbits.service.certificate_checks import CertificateChecks
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.engine import Engine
from openbits.service.entrusting import Entrusting
from openbits.service.failures import CannotFetchError, TemporaryLostError, job_error_of, path_of, protocol_of
from openbits.service.file_ends import FileEnds
from openbits.service.file_transfer import FileTransfer
from openbits.service.hosts import HeldBackError, Hosts
from openbits.service.identities import Source
from openbits.service.opening import Opening, OvertakenError
from openbits.service.record import Record
from openbits.service.temporaries import Temporaries
from openbits.service.upload_transfer import UploadTransfer, transfer_of

log = logging.getLogger("openbits.manager")

MOST_QUESTIONS = 2048
"""About certificates, of one attempt, without an answer: 128 files at a time may have 16 connections each."""

MOST_PARTS = 2 * ranges.MOST
"""Of one file, apart from each other: more than can be asked for."""


class Transfers:
    """Starts and stops attempts."""

    def __init__(
        self,
        engine: Engine,
        children: Children,
        temporaries: Temporaries,
        entrusting: Entrusting,
        certificate_checks: CertificateChecks,
    ) -> None:
        self._certificate_checks = certificate_checks
        self._hosts = Hosts(lambda: engine.now().boot)
        self._engine = engine
        self._children = children
        self._temporaries = temporaries
        self._entrusting = entrusting
        self._attempts: dict[JobId, Attempt] = {}

    def start(self, record: Record, effect: events.StartTransfer) -> None:
        """Carry out StartTransfer; an effect that a later step has overtaken does nothing."""
        if record.job.epoch == effect.epoch and record.job.state.is_active:
            opening = Opening(self._engine, self._children, self._temporaries, record, effect.epoch)
            attempt = Attempt(
                self._engine,
                self._children,
                self._entrusting,
                opening,
                record,
                hosts=self._hosts,
                certificate_checks=self._certificate_checks,
            )
            self._attempts[record.job_id] = attempt
            record.transfer = asyncio.get_running_loop().create_task(attempt.run())
            record.transfer.add_done_callback(lambda _: self._forget(record.job_id, attempt))

    def _forget(self, job_id: JobId, attempt: "Attempt") -> None:
        if self._attempts.get(job_id) is attempt:
            del self._attempts[job_id]

    def reposition(self, record: Record, effect: events.RepositionTransfer) -> None:
        """Carry out RepositionTransfer."""
        attempt = self._attempts.get(record.job_id)
        if attempt is not None:
            attempt.reposition(effect.file_index)

    def stop(self, record: Record) -> None:
        """Carry out StopTransfer."""
        if record.transfer is not None:
            record.transfer.cancel()
            record.transfer = None


class Attempt:
    """One run of the slot of a job; cancelled as a task."""

    def __init__(
        self,
        engine: Engine,
        children: Children,
        entrusting: Entrusting,
        opening: Opening,
        record: Record,
        *,
        hosts: Hosts,
        certificate_checks: CertificateChecks,
    ) -> None:
        self._certificate_checks = certificate_checks
        self._questions: set[asyncio.Task[None]] = set()
        """To the certificate callback."""
        self._hosts = hosts
        self._is_hurried, record.is_hurried = record.is_hurried, False
        self._engine = engine
        self._children = children
        self._entrusting = entrusting
        self._opening = opening
        self._record = record
        self._epoch = record.job.epoch
        self._next = record.job.settled_files
        """Index of the first file that was not taken yet."""
        self._live: dict[int, FileTransfer] = {}
        """Files that were taken and are not at their end."""
        self._again: list[FileTransfer] = []
        """Those of them whose bytes the row does not count any more: they are ordered anew."""
        self._saved: list[tuple[FileTransfer, int]] = []
        """Files with all their bytes, and how many, that have to be finished."""
        self._is_cautious = False
        """Something could not be prepared: one file after the other from now on."""
        self._failure: Exception | None = None
        self._concern: FileTransfer | None = None
        """The file that is dealt with now, for the error object."""
        self._changed = asyncio.Event()
        self._ends = FileEnds(engine, record, self._epoch, is_idle=lambda: not self._live, on_counted=self._changed.set)

    @property
    def _is_present(self) -> bool:
        """True while the job listens to this attempt; an order to stop it may be on its way."""
        return self._record.job.epoch == self._epoch and self._record.state.is_active

    async def run(self) -> None:
        """Move files until the job has none left, is stopped, or one fails."""
        try:
            while self._is_present:
                await self._go_on()
        except OvertakenError:
            return  # the order to stop is on its way
        except Exception as error:  # noqa: BLE001  # every way to fail must end as an event of the job
            self._failed(error)
        finally:
            self._ends.count()  # Complete counts what was finished by then
            for question in self._questions:
                question.cancel()
            for transfer in reversed(self._live.values()):  # or each one that ends would let another one begin
                transfer.cancel()

    async def _go_on(self) -> None:
        """Do the next thing there is to do, or wait for news."""
        self._changed.clear()
        if self._failure is not None:
            raise self._failure
        if self._saved:
            await self._finish(*self._saved.pop(0))
        elif taken := self._take():
            await self._prepare(taken)
        elif self._live or self._ends.are_waiting:
            await self._changed.wait()
        else:
            raise RuntimeError("the job is active, and none of its files can be moved")

    # -- which files come next ------------------------------------------------------------------------------------

    def _take(self) -> list[FileTransfer]:
        """The files to prepare now; none while enough are under way."""
        if self._again:
            return [self._again.pop(0)]
        if not self._live and not self._ends.are_waiting and self._next >= len(self._record.job.files):
            self._next = self._record.job.settled_files  # what is wanted on demand may be before what was wanted first
        most = window.room(self._record.job, len(self._live), self._ends.total)
        if self._is_cautious or any(transfer.is_alone for transfer in self._live.values()):
            most = 0 if self._live or self._ends.are_waiting else 1
        indexes, self._next = window.due(self._record.job, self._next, most, is_idle=not self._live)
        taken = [transfer_of(self._engine, self._children, self._record, self._epoch, index) for index in indexes]
        self._live.update((transfer.index, transfer) for transfer in taken)
        return taken

    # -- preparing ------------------------------------------------------------------------------------------------

    async def _prepare(self, taken: list[FileTransfer]) -> None:
        """Open and order these files; what fails while others move is tried again when they have moved."""
        try:
            await self._begin(taken)
        except OvertakenError:
            raise
        except Exception as error:
            ahead = [transfer for transfer in taken if transfer.worker is None]
            if len(self._live) == 1:
                raise
            log.info("not_prepared job=%s file=%d why=%s", self._record.job_id, ahead[0].index, error)
            self._is_cautious, self._next = True, ahead[0].index
            for transfer in ahead:
                del self._live[transfer.index]

    async def _begin(self, taken: list[FileTransfer]) -> None:
        try:
            for transfer in taken:
                self._concern = transfer
                transfer.choose_identities()
                if transfer.is_all_there:
                    await transfer.publish()
                    self._ended(transfer, transfer.transferred(transfer.file.transferred_bytes))
                    return
                orders.check(self._record.job, transfer.file)
                if not self._is_hurried:
                    self._hosts.check(orders.peer(self._record.job, transfer.file), transfer.network.uid)
            async with self._record.filing:
                await self._open(taken)
            await self._order(taken)
        finally:
            for transfer in taken:
                transfer.close()

    async def _open(self, taken: list[FileTransfer]) -> None:
        """Files without a temporary one get theirs together, if the same identity makes them in one directory."""
        for (is_new, _), group in groupby(taken, self._kind):
            transfers = list(group)
            first = self._concern = transfers[0]
            if is_new:
                first.act(first.local)
                opened = await self._opening.create([transfer.index for transfer in transfers], first.local)
                for transfer, one in zip(transfers, opened, strict=True):
                    transfer.act(transfer.local)
                    transfer.opened = one
                continue
            for transfer in transfers:
                self._concern = transfer
                await transfer.open(self._opening)

    @staticmethod
    def _kind(transfer: FileTransfer) -> tuple[bool, Directory]:
        file = transfer.file
        return file.temporary is None and not transfer.is_alone, file.directory

    async def _order(self, taken: list[FileTransfer]) -> None:
        told = set[Source]()
        for transfer in taken:
            self._concern = transfer
            transfer.act(transfer.network)
            worker = await self._children.worker(transfer.network.uid, transfer.network.by)
            at_a_time = self._record.job.properties.parallel_files
            await transfer.order(self._entrusting, worker, partial(self._news, transfer), at_a_time, told)

    # -- news of the worker ---------------------------------------------------------------------------------------

    def _news(self, transfer: FileTransfer, message: Message | None) -> None:
        if message is None:
            self._end_with(transfer, ChildLostError("the network worker ended"))
            return
        handler = getattr(self, f"_on_{message['event']}", None)
        if handler is None:
            self._end_with(transfer, ChildLostError(f"the network worker said {message['event']!r}"))
            return
        handler(transfer, message)
        self._engine.progressed(self._record)

    def _on_phase(self, transfer: FileTransfer, message: Message) -> None:
        self._enter_phase(transfer, str(message["text"]))

    def _enter_phase(self, transfer: FileTransfer, text: str) -> None:
        is_reply = transfer.index == self._record.job.reply_index
        self._record.phase = f"fetching the reply: {text}" if is_reply else text

    def _on_certificate(self, transfer: FileTransfer, message: Message) -> None:
        """The worker waits, before it says anything to a server, for what the client thinks of its certificate."""
        if len(self._questions) >= MOST_QUESTIONS:
            self._end_with(transfer, ChildLostError(f"the network worker asked {MOST_QUESTIONS} things at a time"))
            return
        asking = asyncio.get_running_loop().create_task(self._ask_client(transfer, message))
        self._questions.add(asking)
        asking.add_done_callback(self._questions.discard)

    async def _ask_client(self, transfer: FileTransfer, message: Message) -> None:
        certificate, *chain = [base64.b64decode(one) for one in (message["certificate"], *message["chain"])]
        server, index = str(message["server"]), self._record.job.client_index(transfer.index)
        hresult = await self._certificate_checks.ask(self._record, index, server, certificate, chain)
        if transfer.worker is not None:
            transfer.worker.decide(transfer.key, int(message["number"]), hresult)

    def _on_connected(self, transfer: FileTransfer, message: Message) -> None:
        connected = self._connected(transfer, message)
        if connected is None:
            return
        self._record.live[transfer.index] = max(int(message["offset"]), transfer.file.arrived_bytes)
        if not transfer.is_alone:
            self._enter_phase(transfer, f"receiving from {host_of(transfer.file.present_remote_name)}")
        self._apply(connected)

    def _connected(self, transfer: FileTransfer, message: Message) -> events.Connected | None:
        if transfer.has_sink and message["offset"] < transfer.file.transferred_bytes:
            self._end_with(transfer, ChildLostError("the network worker cut bytes that count"))
            return None
        size_bytes = message["size_bytes"]
        self._hosts.answered(str(message["peer"]), transfer.network.uid)
        version = Validators(**{name: message[name] for name in ("size_bytes", "etag", "last_modified", "media_type")})
        return events.Connected(
            epoch=self._epoch,
            file_index=transfer.index,
            validators=version,
            size_bytes=size_bytes,
            note=str(message["note"]),
            source_mode=transfer.source_mode,
            response_headers=str(message["headers"]),
            remote_name=names.reported_url(str(message["remote_name"])),
        )

    def _on_restarted(self, transfer: FileTransfer, message: Message) -> None:
        """The worker has cut nothing; it begins again when the row counts no byte any more (P2)."""
        self._record.live[transfer.index] = 0
        transfer.worker = None
        event = events.FileRestarted(
            epoch=self._epoch,
            file_index=transfer.index,
            note=str(message["reason"]),
            hresult=int(message["hresult"]),
        )
        committed = self._engine.apply(self._record, event)
        failpoint("transfer.restart-heard")
        committed.add_done_callback(lambda _: self._order_again(transfer))

    def _order_again(self, transfer: FileTransfer) -> None:
        self._again.append(transfer)
        self._changed.set()

    def reposition(self, index: int) -> None:
        """What is wanted first of this file has changed; one that is not ordered yet is ordered so."""
        transfer = self._live.get(index)
        if transfer is not None and self._is_present:
            transfer.reposition()

    def _on_filled(self, transfer: FileTransfer, message: Message) -> None:
        """Parts of a file are here, perhaps the last one, or the last one that is wanted on demand."""
        index = transfer.index
        self._record.live[index] = int(message["transferred_bytes"])
        failpoint("transfer.part-heard")
        parts = tuple(Range(offset=int(offset), length_bytes=int(length)) for offset, length in message["ranges"])
        if len(transfer.file.filled) + len(parts) > MOST_PARTS:
            self._end_with(transfer, ChildLostError(f"the network worker told of more than {MOST_PARTS} parts"))
            return
        self._apply(events.RangesFilled(epoch=self._epoch, file_index=index, ranges=parts))
        if transfer.file.is_transferred or not window.is_to_be_moved(self._record.job, transfer.file):
            transfer.cancel()
            self._record.live.pop(index, None)
            self._live.pop(index, None)
            self._changed.set()

    def _on_progressed(self, transfer: FileTransfer, message: Message) -> None:
        beyond = transfer.file.arrived_bytes - transfer.file.transferred_bytes
        self._record.live[transfer.index] = int(message["transferred_bytes"]) + beyond
        failpoint("transfer.progress-heard")
        if not self._record.job.properties.high_performance:  # which begins again after a crash (jobs.md §13)
            transfer.count_durable(int(message["durable_bytes"]))

    def _on_transferred(self, transfer: FileTransfer, message: Message) -> None:
        failpoint("transfer.end-heard")
        size_bytes, told = int(message["size_bytes"]), message.get("connected")
        connected = None if told is None else self._connected(transfer, told)
        if told is not None and connected is None:
            return
        if not transfer.has_to_be_finished:
            self._ended(transfer, transfer.transferred(size_bytes, connected))
            return
        if connected is not None:
            self._apply(connected)
        self._saved.append((transfer, size_bytes))
        self._changed.set()

    async def _finish(self, transfer: FileTransfer, size_bytes: int) -> None:
        self._concern = transfer
        await transfer.finish(size_bytes)
        if transfer.is_last_step:
            self._ended(transfer, transfer.transferred(size_bytes))
            return
        del self._live[transfer.index]
        self._record.live.pop(transfer.index, None)

    def _on_acknowledged(self, transfer: FileTransfer, message: Message) -> None:
        """The server of an upload has answered."""
        if not (isinstance(transfer, UploadTransfer) and transfer.hear(message)):
            self._end_with(transfer, ChildLostError("the network worker told of a session that cannot be"))
            return
        self._hosts.answered(str(message["peer"]), transfer.network.uid)
        self._record.live[transfer.index] = int(message["acknowledged_bytes"])

    def _on_failed(self, transfer: FileTransfer, message: Message) -> None:
        transfer.count_durable(int(message["durable_bytes"]))
        if url := transfer.elsewhere(message):
            self._look_elsewhere(transfer, url)
            return
        self._live.pop(transfer.index, None)
        context = ErrorContext[str(message["context"]).upper()]
        is_local = context is ErrorContext.LOCAL_FILE
        is_reply = transfer.index != transfer.client_index
        file = transfer.file
        error = JobError(
            code=int(message["hresult"]),
            context=context,
            detail=str(message["detail"]),
            identity=(transfer.local if is_local else transfer.network).label,
            subject=path_of(file) if is_local else public_url(file.present_remote_name),
            file_index=transfer.client_index,
            protocol=None if is_local else protocol_of(file),
            at=self._engine.now().wall,
            retry_after_seconds=message["retry_after_seconds"],
        )
        self._hosts.failed(str(message["peer"]), transfer.network.uid, error.code, error.retry_after_seconds)
        spread = random.uniform(0.0, 0.1)  # noqa: S311  # spread of retries, not a secret
        self._ends.count()
        if context is ErrorContext.SERVER_CERTIFICATE_CALLBACK:
            self._apply(events.CertificateDeclined(epoch=self._epoch, error=error, spread=spread))
            return
        failed = events.AttemptFailed(
            epoch=self._epoch,
            error=error,
            spread=spread,
            is_transient=bool(message["is_transient"]),
            is_fatal=bool(message["is_fatal"]),
            response_headers="" if is_reply else str(message["headers"]),
            remote_name="" if is_reply else names.reported_url(str(message["remote_name"])),
        )
        self._apply(failed)

    def _look_elsewhere(self, transfer: FileTransfer, url: str) -> None:
        """The reply is not where it was looked for."""
        transfer.worker = None
        self._record.live.pop(transfer.index, None)
        committed = self._apply(events.ReplyMoved(epoch=self._epoch, remote_name=url))
        committed.add_done_callback(lambda _: self._order_again(transfer))

    # -- ends of files --------------------------------------------------------------------------------------------

    def _ended(self, transfer: FileTransfer, whole: events.TransferredFile) -> None:
        """The file is transferred."""
        del self._live[transfer.index]
        self._changed.set()
        self._ends.add(whole)

    def _end_with(self, transfer: FileTransfer, error: Exception) -> None:
        if self._failure is None:
            self._concern, self._failure = transfer, error
        self._changed.set()

    def _apply(self, event: events.Event) -> "asyncio.Future[None]":
        return self._engine.apply(self._record, event)

    # -- failures of our own side ---------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> None:
        self._ends.count()
        concern = self._concern
        if concern is None:
            raise error
        at = self._engine.now().wall
        job_error = job_error_of(error, concern.file, concern.client_index, at, concern.acting.label, side=concern.side)
        if job_error.code == codes.BG_E_TOKEN_REQUIRED:
            self._apply(events.TokenLost(error=job_error))
            return
        spread = random.uniform(0.0, 0.1)  # noqa: S311  # as above
        if isinstance(error, HeldBackError):
            held = replace(job_error, retry_after_seconds=error.wait_seconds)
            self._apply(events.Postponed(epoch=self._epoch, error=held, spread=spread))
            return
        failed = events.AttemptFailed(
            epoch=self._epoch,
            error=job_error,
            spread=spread,
            is_transient=isinstance(error, TemporaryLostError | finishing.MissingPrivilegeError),
            is_fatal=isinstance(error, CannotFetchError),
        )
        self._apply(failed)
