"""The certificate callback of a job: who is asked whether a server may be talked to (jobs.md §9.8).

Asked after the usual checks, before a request is sent. The callback is a subscriber, as that of notices is, and not
persisted; that a job needs one is (V6): without it, no server is talked to over TLS. What was accepted is not asked
again until another callback is set (V4), and what is being asked is not asked twice.
"""

import asyncio
import base64
import hashlib
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from openbits.core import codes, events
from openbits.core.enums import ErrorContext
from openbits.core.errors import BitsError
from openbits.core.model import JobId
from openbits.service.engine import Engine
from openbits.service.events import Subscriber
from openbits.service.record import CertificateCallback, Record

log = logging.getLogger("openbits.manager")

ANSWER_SECONDS = 120.0
"""A callback that does not return within this time is not reachable: its job must not hold a slot for ever."""


Pair = tuple[str, bytes]
"""host:port and SHA-256 of the certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a server showed: certificates are DER."""

    file_index: int
    server: str
    certificate: bytes
    chain: tuple[bytes, ...]


@dataclass(slots=True, eq=False)
class Question:
    """Asked and not answered yet."""

    job_id: JobId
    subscriber: Subscriber
    answer: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class CertificateChecks:
    """Sets callbacks, asks them, takes their answers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._questions: dict[int, Question] = {}
        self._asked: dict[tuple[CertificateCallback, Pair], asyncio.Task[int]] = {}
        """What is being asked: by which callback, and of what. Several files of a job may want to know the same."""
        self._numbers = itertools.count(1)

    async def set(self, record: Record, subscriber: Subscriber | None, sees: int | None) -> None:
        """The last setter wins (V5); None takes the callback back, and the need for one. `sees` as for notices.

        Raises BG_E_READ_ONLY_WHEN_JOB_ACTIVE unless the job is paused.
        """
        committed = self._engine.apply(record, events.SetCertificateCallback(is_set=subscriber is not None))
        record.certificate_callback = None
        if subscriber is not None:
            record.certificate_callback = CertificateCallback(subscriber.subscriber_id, sees)
        await committed

    async def ask(
        self, record: Record, file_index: int, server: str, certificate: bytes, chain: Sequence[bytes]
    ) -> int:
        """S_OK if the callback accepts the certificate of `server` (host:port), else the HRESULT of the refusal (V2).

        BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED if there is nobody who answers (V3).
        """
        callback, target = record.certificate_callback, _target(self._engine, record)
        if callback is None or target is None:
            return codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED
        pair = (server, hashlib.sha256(certificate).digest())
        if pair in callback.accepted:
            return codes.S_OK
        key = (callback, pair)
        if key not in self._asked:
            shown = Shown(file_index=file_index, server=server, certificate=certificate, chain=tuple(chain))
            asking = self._asked[key] = asyncio.get_running_loop().create_task(self._answer(record, target, shown))
            asking.add_done_callback(lambda _: self._asked.pop(key))
        hresult = await asyncio.shield(self._asked[key])
        if hresult == codes.S_OK:
            callback.accepted.add(pair)
        return hresult

    async def _answer(self, record: Record, target: Subscriber, shown: Shown) -> int:
        number = next(self._numbers)
        question = self._questions[number] = Question(record.job_id, target)
        target.put(
            {
                "seq": self._engine.stream.committed_seq,
                "at": self._engine.now().wall,
                "kind": "certificate",
                "job_id": str(record.job_id),
                "question": {
                    "number": number,
                    "file_index": shown.file_index,
                    "server": shown.server,
                    "certificate": base64.b64encode(shown.certificate).decode(),
                    "chain": [base64.b64encode(one).decode() for one in shown.chain],
                },
            }
        )
        try:
            return await asyncio.wait_for(question.answer, ANSWER_SECONDS)
        except TimeoutError:
            log.warning("certificate_unanswered job=%s server=%.100r", record.job_id, shown.server)
            return codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED
        finally:
            del self._questions[number]

    def answer(self, number: int, uid: int, hresult: int) -> None:
        """The callback returned: S_OK accepts, everything else refuses. Raises E_INVALIDARG."""
        question = self._questions.get(number)
        if question is None or question.subscriber.uid != uid or question.answer.done():
            raise BitsError(codes.E_INVALIDARG, f"no certificate question {number} waits for an answer of yours")
        is_refusal_without_code = hresult != codes.S_OK and not codes.is_failure(hresult)
        question.answer.set_result(codes.E_FAIL if is_refusal_without_code else codes.unsigned(hresult))

    def gone(self, subscriber: Subscriber) -> None:
        """A subscriber vanished: what it was asked stays without an answer."""
        for question in self._questions.values():
            if question.subscriber is subscriber and not question.answer.done():
                question.answer.set_result(codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED)


def refusal(engine: Engine, record: Record) -> BitsError | None:
    """Why this job may make no TLS connection now; None if it needs no callback, or has somebody to ask (V3, V6)."""
    if not record.job.needs_certificate_callback or _target(engine, record) is not None:
        return None
    code = codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED
    text = "the program that checks the certificates of servers is gone; set it again, then resume the job"
    return BitsError(code, text, context=ErrorContext.SERVER_CERTIFICATE_CALLBACK)


def _target(engine: Engine, record: Record) -> Subscriber | None:
    """Who is asked; whoever lost the job to another owner does not learn where that one's job connects to."""
    callback = record.certificate_callback
    if callback is None or callback.sees not in {None, record.owner_uid}:
        return None
    return engine.stream.find(callback.subscriber_id)
