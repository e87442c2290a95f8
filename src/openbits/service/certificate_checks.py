"""The certificate callback of a job: who is asked whether a server may be talked to (jobs.md §9.8).

Asked after the usual checks, before a request is sent. The callback is a subscriber, as that of notices is, and not
persisted; that a job needs one is (V6): without it, no server is talked to over TLS. What was accepted is not asked
again until another callback is set (V4).

The connection that stops between handshake and request to ask is not built yet: `refusal` says what happens instead,
and the worker makes no TLS connection while there is one.
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
                    "file_index": file_index,
                    "server": server,
                    "certificate": base64.b64encode(certificate).decode(),
                    "chain": [base64.b64encode(one).decode() for one in chain],
                },
            }
        )
        try:
            hresult = await asyncio.wait_for(question.answer, ANSWER_SECONDS)
        except TimeoutError:
            log.warning("certificate_unanswered job=%s server=%s", record.job_id, server)
            return codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED
        finally:
            del self._questions[number]
        if hresult == codes.S_OK:
            callback.accepted.add(pair)
        return hresult

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
    """Why this job may make no TLS connection now; None if it needs no callback."""
    if not record.job.needs_certificate_callback:
        return None
    context = ErrorContext.SERVER_CERTIFICATE_CALLBACK
    if _target(engine, record) is None:
        code = codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED
        return BitsError(code, "the program that checks the certificates of servers is gone", context=context)
    text = "asking the certificate callback of a job is not built yet, so nothing was connected over TLS"
    return BitsError(codes.E_NOTIMPL, text, context=context)


def _target(engine: Engine, record: Record) -> Subscriber | None:
    """Who is asked; whoever lost the job to another owner does not learn where that one's job connects to."""
    callback = record.certificate_callback
    if callback is None or callback.sees not in {None, record.owner_uid}:
        return None
    return engine.stream.find(callback.subscriber_id)
