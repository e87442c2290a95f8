"""Telling servers of uploads that were given up, after their jobs are over (jobs.md §3.4 "Upload cancel", OPEN-21).

Cancel is done when the job is CANCELLED; nobody waits for a server. What is left of the job then is a record that
nobody sees (`core.abandoning`). A worker of the network identity says Cancel-Session, again after the retry delays of
the job if the server cannot be reached, and whatever comes of it, the record goes in the end.

It is the identity of this job that speaks, and nobody else who happens to be the same user: a helper token counts
only as long as it is this job's. Once it has ended (its owner logged off, the service was started anew) nobody may say
anything in its name, and the server's own clean-up has to do: a token that was given for another job was not given to
prove its identity to the server of this one.
"""

import asyncio
import base64
import itertools
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field

from openbits.channel import Message, close_all
from openbits.core import abandoning, codes, events, scheduler
from openbits.core.access import Use
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import JobId
from openbits.failpoints import failpoint
from openbits.service import orders
from openbits.service.certificate_checks import CertificateChecks
from openbits.service.child import ChildLostError
from openbits.service.children import Children
from openbits.service.engine import LONGEST_WAIT_SECONDS, Engine
from openbits.service.entrusting import Entrusting
from openbits.service.file_broker import BrokerError
from openbits.service.identities import source_for
from openbits.service.network_worker import Worker
from openbits.service.record import Record
from openbits.service.spawner_link import RefusedError

log = logging.getLogger("openbits.manager")

AT_A_TIME = 4
"""Of the sessions of one owner: a server that answers slowly holds up those of the same owner alone."""

MOST = 256
"""Of one owner. Servers of further ones are not told: nobody fills the store with jobs that no limit counts."""

PREPARING_SECONDS = 5.0
"""So long TakeOwnership waits for what the order needs; then the server is not told."""

OBSTACLES = (BitsError, BrokerError, ChildLostError, RefusedError, OSError)
"""What may keep an order from being given; OSError: no descriptor or no memory is left for it."""


@dataclass(eq=False)
class Farewell:
    """An order to cancel a session, ready to be given: once, or never."""

    worker: Worker
    key: str
    message: Message = field(repr=False)
    descriptors: list[int]

    def give(self, on_news: Callable[[Message | None], None]) -> None:
        """Have the worker do it. Raises ChildLostError."""
        descriptors, self.descriptors = self.descriptors, []
        self.worker.transfer(self.key, self.message, descriptors, on_news)

    def drop(self) -> None:
        """It is not given."""
        close_all(self.descriptors)
        self.descriptors = []


class Abandoned:
    """Carries out CancelSession, and says farewell to servers when a job changes hands."""

    def __init__(
        self, engine: Engine, children: Children, entrusting: Entrusting, certificate_checks: CertificateChecks
    ) -> None:
        self._engine = engine
        self._children = children
        self._entrusting = entrusting
        self._certificate_checks = certificate_checks
        self._numbers = itertools.count(1)
        self._tasks: dict[JobId, asyncio.Task[None]] = {}
        self._questions: set[asyncio.Task[None]] = set()
        self._owners: dict[int, list[JobId]] = {}
        """The jobs of each owner whose servers are being told."""
        self._doors: dict[int, asyncio.Semaphore] = {}

    def cancel(self, record: Record) -> None:
        """Carry out CancelSession."""
        if record.job_id in self._tasks:
            return
        jobs = self._owners.setdefault(record.owner_uid, [])
        is_one_too_many = len(jobs) >= MOST
        jobs.append(record.job_id)
        self._doors.setdefault(record.owner_uid, asyncio.Semaphore(AT_A_TIME))
        work = self._drop(record, f"{MOST} others wait") if is_one_too_many else self._see_to(record)
        task = self._tasks[record.job_id] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda done: self._ended(record.job_id, record.owner_uid, done))

    def _ended(self, job_id: JobId, owner_uid: int, task: "asyncio.Task[None]") -> None:
        del self._tasks[job_id]
        self._owners[owner_uid].remove(job_id)
        if not self._owners[owner_uid]:
            del self._owners[owner_uid], self._doors[owner_uid]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, BitsError):  # which is a failed commit: the engine has told it
            log.error("abandoning_crashed", exc_info=error)

    async def _see_to(self, record: Record) -> None:
        """Tell the server until it has heard it, or it is too late."""
        end = self._engine.now().boot + abandoning.seconds_left(record.job, self._engine.now().wall)
        for attempt in itertools.count(1):
            try:
                async with self._doors[record.owner_uid]:
                    answer = await self._tell(record)
            except OBSTACLES as error:
                if isinstance(error, BitsError) and error.hresult == codes.BG_E_TOKEN_REQUIRED:
                    await self._drop(record, str(error))
                    return
                why, retry_after = str(error), None
            else:
                if answer["event"] == "transferred":
                    await self._drop(record, "")
                    return
                why, retry_after = codes.label(answer["hresult"]), answer["retry_after_seconds"]
            delay = self._delay(record, attempt, retry_after)
            if self._engine.now().boot + delay > end:
                await self._drop(record, why)
                return
            log.info("session_not_cancelled job=%s next_in=%.0f why=%s", record.job_id, delay, why)
            await self._sleep_until(self._engine.now().boot + delay)

    def _delay(self, record: Record, attempt: int, retry_after_seconds: float | None) -> float:
        minimum = record.job.properties.minimum_retry_delay_seconds
        spread = random.uniform(0.0, 0.1)  # noqa: S311  # spread of retries, not a secret
        return scheduler.retry_delay(attempt, minimum, retry_after_seconds, spread)

    async def _sleep_until(self, instant: float) -> None:
        """On the boot clock, which the loop's is not: that one stands while the machine sleeps."""
        while (left := instant - self._engine.now().boot) > 0:  # noqa: ASYNC110  # no clock can be waited for
            await asyncio.sleep(min(left, LONGEST_WAIT_SECONDS))

    async def _drop(self, record: Record, why_untold: str) -> None:
        """The record goes, with what was entrusted to the job, and its helper token."""
        if why_untold:
            log.warning("session_given_up job=%s why=%s", record.job_id, why_untold)
        else:
            log.info("session_cancelled job=%s", record.job_id)
        index = abandoning.abandoned(record.job)
        failpoint("abandoned.told")
        if index is not None:
            await self._engine.apply(record, events.SessionDropped(file_index=index))
        async with record.filing:  # the reply file of a helper is removed by the helper
            record.drop_token()

    # -- one order ------------------------------------------------------------------------------------------------

    async def _tell(self, record: Record) -> Message:
        """What the worker says in the end. Raises what is in OBSTACLES."""
        index = abandoning.abandoned(record.job)
        if index is None:
            return {"event": "transferred"}
        order = await self._prepared(record, index)
        told: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def hear(message: Message | None) -> None:
            if message is not None and message["event"] == "certificate":
                self._spawn(self._ask_client(record, index, order, message))
            elif not told.done() and (message is None or message["event"] in {"transferred", "failed"}):
                if message is None:
                    told.set_exception(ChildLostError("the network worker ended"))
                else:
                    told.set_result(message)

        order.give(hear)
        try:
            return await told
        finally:
            order.worker.cancel(order.key)

    async def _prepared(self, record: Record, index: int) -> Farewell:
        """The order, and who carries it out. Raises what is in OBSTACLES."""
        file = record.job.files[index]
        orders.check(record.job, file)
        network = source_for(record, Use.SOCKET, ErrorContext.REMOTE_FILE)
        worker = await self._children.worker(network.uid, network.by)
        proxies = await self._entrusting.proxies(record, file)
        policies = self._engine.policies
        entrusted = await self._entrusting.collect(record, file, policies, proxies.credentials, set())
        message = orders.cancelling(self._engine, record, file, proxies.settings)
        key = f"{record.job_id}:cancel-{next(self._numbers)}:{index}"
        return Farewell(worker=worker, key=key, message={**message, "at_a_time": 1}, descriptors=entrusted)

    async def _ask_client(self, record: Record, index: int, order: Farewell, message: Message) -> None:
        certificate, *chain = [base64.b64decode(one) for one in (message["certificate"], *message["chain"])]
        server, number = str(message["server"]), int(message["number"])
        hresult = await self._certificate_checks.ask(record, index, server, certificate, chain)
        order.worker.decide(order.key, number, hresult)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        question = asyncio.get_running_loop().create_task(work)
        self._questions.add(question)
        question.add_done_callback(self._questions.discard)

    # -- jobs that change hands -----------------------------------------------------------------------------------

    async def farewell(self, record: Record) -> Farewell | None:
        """What the former owner's side has to say to the server, for when the job has its new owner (§7.5).

        It is said once: what was entrusted to the job is not kept any longer than the job is his. None: there is
        nothing to say, or it cannot be said.
        """
        index = next((at for at, file in enumerate(record.job.files) if abandoning.has_session(file)), None)
        if index is None:
            return None
        try:
            return await asyncio.wait_for(self._prepared(record, index), PREPARING_SECONDS)
        except OBSTACLES as error:  # among them the TimeoutError of these seconds
            log.warning("session_given_up job=%s why=%s", record.job_id, str(error) or "it takes too long")
            return None

    def say(self, order: Farewell | None) -> None:
        """The job has changed hands; nobody waits for the answer."""
        if order is None:
            return

        def hear(message: Message | None) -> None:
            if message is not None and message["event"] == "certificate":  # whose callback it was is gone
                refused = codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED
                order.worker.decide(order.key, int(message["number"]), refused)

        with suppress(ChildLostError):
            order.give(hear)
