"""News of jobs: the event stream, and the thread that hands notices to callbacks.

A notice with a number (a file or the job is done) is delivered at least once: the callback's success acknowledges it,
an exception has the service deliver it again after the minimum retry delay. One without (a modification) wants no
answer. A service that was restarted hears of every registration again; after an `overflow`, too, which brings every
pending notice again. The service decides who is told what; the stream of the thread carries nothing else.

Certificate callbacks hang on the same stream. They are not registered again after a restart: the job has to be
suspended for that, so its program has to know (jobs.md §9.8 V3, V5).
"""

import base64
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from openbits.api.connection import Connection, ConnectionLostError, UnreachableError
from openbits.api.framing import Parameters
from openbits.api.wire import EventInfo, JobInfo
from openbits.core import codes
from openbits.core.errors import BitsError

if TYPE_CHECKING:
    import uuid

    from openbits.api.client import Client, Job

Handler = Callable[[Mapping[str, Any]], None]

_FINAL = frozenset({"acknowledged", "cancelled"})

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0
"""Between two looks for a service that went away."""


class EventStream:
    """One Subscribe call on a connection that belongs to this object; iterate, or ask with a time-out."""

    def __init__(self, connection: Connection, parameters: Parameters) -> None:
        self._connection = connection
        try:
            connection.stream("Subscribe", parameters)
            first = self.next()
            assert first is not None  # without a time-out  # noqa: S101
        except BaseException:
            connection.close()
            raise
        self.first = first
        self.subscriber = str(first.get("subscriber"))

    def next(self, timeout: float | None = None) -> EventInfo | None:
        """The next event; None if there is none within `timeout` seconds."""
        try:
            reply = self._connection.next_reply(timeout)
        except TimeoutError:
            return None
        event = cast("EventInfo", reply["event"])
        if event["kind"] == "ended":
            raise ConnectionLostError(self._connection.path, "the service stops")
        return event

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EventInfo:
        event = self.next()
        if event is None:  # only with a time-out
            raise StopIteration
        return event

    def abort(self) -> None:
        """End it from another thread."""
        self._connection.abort()

    def close(self) -> None:
        """End the subscription."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(slots=True, eq=False)
class Registration:
    """One job and who hears of it."""

    job: "Job"
    handler: Handler
    subscriber: str
    """The stream that the service is told of; if that is not the present one, it has to be told again."""
    number: int = 0
    taken: int = 0
    """The last notice that the handler took; the acknowledgement may have been lost, the notice is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificate:
    """What a certificate callback is asked about: may this server be talked to? All certificates are DER."""

    file_index: int
    """The file of the job that comes from there."""
    server: str
    """host:port"""
    certificate: bytes
    chain: list[bytes]
    """Those that lead from it to a trusted one."""


CertificateCheck = Callable[[ServerCertificate], None]
"""Accepts by returning; an exception refuses, and its code is the error of the job."""


class Notifier:
    """Calls handlers on one thread, one after the other; handlers may call any method of their job.

    The thread lives as long as there is a registration. If the service goes away it waits until it is back (it does not
    start it), connects the client anew and registers everything again.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._lock = threading.Lock()
        self._is_closed = False
        self._wake = threading.Event()
        """Ends the pause between two looks for the service: there is something to do."""
        self._registered: dict[str, Registration] = {}
        self._checks: dict[str, CertificateCheck] = {}
        self._stream: EventStream | None = None
        self._heard: EventStream | None = None
        """The stream that the thread reads, and will close."""
        self._thread: threading.Thread | None = None

    def register(self, job: "Job", handler: Handler) -> None:
        """Hand events of the job to `handler`, its notices until one is taken; replaces an earlier handler.

        A notice that waits already is delivered at once. The handler is let go when the job is final, and when another
        program registers for the job. Raises BitsError, and the earlier handler stays.
        """
        name = str(job.id)
        with self._lock:
            stream = self._open()
            registration = Registration(job, handler, stream.subscriber)
            previous = self._registered.get(name)
            self._registered[name] = registration  # before the call: the notice may be faster than its answer
            self._start()
        try:
            _announce(registration, stream)
        except BaseException:
            with self._lock:
                if previous is not None:
                    self._registered[name] = previous
            if previous is None:
                self._drop(registration)
            raise

    def forget(self, job: "Job") -> None:
        """No more news of the job, for nobody."""
        with self._lock:
            registration = self._registered.get(str(job.id))
        try:
            job.set_subscriber(None)
        finally:
            if registration is not None:
                self._drop(registration)

    def check_certificates(self, job: "Job", check: CertificateCheck) -> None:
        """Have `check` asked about the servers of the job; replaces an earlier one. It holds as long as the stream.

        Raises BitsError, and there is no check of this process any more.
        """
        name = str(job.id)
        with self._lock:
            stream = self._open()
            self._checks[name] = check
            self._start()
        try:
            job.set_certificate_subscriber(stream.subscriber)
        except BaseException:
            self._drop_check(name)
            raise

    def forget_certificates(self, job: "Job") -> None:
        """Nobody is asked any more, and nobody has to be."""
        job.set_certificate_subscriber(None)
        self._drop_check(str(job.id))

    def handler(self, job_id: "uuid.UUID") -> Handler | None:
        """The handler this process has registered for a job."""
        with self._lock:
            registration = self._registered.get(str(job_id))
        return None if registration is None else registration.handler

    def close(self) -> None:
        """End the thread after the handler it is in."""
        with self._lock:
            self._is_closed = True
            self._registered.clear()
            self._checks.clear()
            self._end_stream()
            self._wake.set()

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (stream := self._next_stream()) is not None:
            try:
                with stream:
                    self._announce_all(stream)
                    for event in stream:
                        self._dispatch(stream, event)
            except BitsError as error:
                self._lost(stream, error)

    def _next_stream(self) -> EventStream | None:
        """The stream to listen to, once there is a service; None if there is nobody left to call."""
        pause = _PAUSE_SECONDS
        while True:
            with self._lock:
                if self._is_closed or not (self._registered or self._checks):
                    self._end_stream()
                    self._thread = None
                    return None
                if self._stream is not None:
                    self._heard = self._stream
                    return self._stream
                self._wake.clear()
            try:
                self._client.rejoin()
                self._offer(self._client.events(job_ids=()))
            except BitsError:  # still away
                self._wake.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _offer(self, stream: EventStream) -> None:
        with self._lock:
            if self._stream is None and not self._is_closed:
                self._stream = stream
                return
        stream.close()  # a registration was faster

    def _lost(self, stream: EventStream, error: BitsError) -> None:
        with self._lock:
            if self._stream is not stream:
                return  # ended by us
            self._stream = None
            count, checks = len(self._registered), len(self._checks)
            self._checks.clear()
        logging.getLogger("openbits").warning(
            "events_lost registrations=%d certificate_checks=%d why=%s", count, checks, error
        )

    def _announce_all(self, stream: EventStream, *, again: bool = False) -> None:
        """Tell the service of the registrations that it does not know by this stream, or of all of them again."""
        with self._lock:
            waiting = [one for one in self._registered.values() if again or one.subscriber != stream.subscriber]
        for registration in waiting:
            try:
                _announce(registration, stream)
            except UnreachableError:
                raise
            except BitsError:  # final since, or nothing of ours any more
                self._drop(registration)

    def _dispatch(self, stream: EventStream, event: EventInfo) -> None:
        if event["kind"] == "overflow":
            self._announce_all(stream, again=True)
            return
        with self._lock:
            registration = self._registered.get(event["job_id"])
            check = self._checks.get(event["job_id"])
        if event["kind"] == "certificate":
            self._check(check, event)
        elif event["kind"] == "notice":
            self._tell(stream, registration, event)
        elif event.get("state") in _FINAL:
            self._drop_check(event["job_id"])
            if registration is not None:
                self._drop(registration)
        elif registration is not None and event.get("registration") == registration.number:  # replaced
            self._drop(registration)

    def _tell(self, stream: EventStream, registration: Registration | None, event: EventInfo) -> None:
        """Call the handler, unless it took this notice before or the job went on meanwhile; then answer the service."""
        number = event.get("notice_seq")
        if number is None:
            if registration is not None:
                _run_handler(registration.handler, event)
            return
        hresult = codes.BG_E_INVALID_STATE  # nobody was called, and whoever is to be called hears of it again
        if registration is not None and number == registration.taken:
            hresult = codes.S_OK
        elif registration is not None and _is_current(registration.job, event):
            hresult = _run_handler(registration.handler, event)
            registration.taken = number if hresult == codes.S_OK else registration.taken
        head = {"job_id": event["job_id"], "notice_seq": number, "subscriber": stream.subscriber}
        self._answer("AcknowledgeNotice", {**head, "hresult": hresult})

    def _check(self, check: CertificateCheck | None, event: EventInfo) -> None:
        """Ask; the answer of one that is gone is the same as none."""
        asked = event.get("question")
        if asked is None:
            return
        hresult = codes.BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED
        if check is not None:
            called = check
            question = ServerCertificate(
                file_index=asked["file_index"],
                server=asked["server"],
                certificate=base64.b64decode(asked["certificate"]),
                chain=[base64.b64decode(one) for one in asked["chain"]],
            )
            hresult = _run_handler(lambda _: called(question), event)
        self._answer("AnswerCertificate", {"question": asked["number"], "hresult": hresult})

    def _answer(self, method: str, parameters: Parameters) -> None:
        try:
            self._client.call(method, parameters)
        except UnreachableError:  # without the answer the service would wait for ever
            raise
        except BitsError:
            return  # nobody waits for it any more

    def _drop(self, registration: Registration) -> None:
        """Let go of a handler, and of the stream with the last one."""
        with self._lock:
            name = str(registration.job.id)
            if self._registered.get(name) is registration:
                del self._registered[name]
            self._end_if_idle()

    def _drop_check(self, name: str) -> None:
        with self._lock:
            self._checks.pop(name, None)
            self._end_if_idle()

    def _open(self) -> EventStream:
        """With the lock held: the stream, a new one if there is none."""
        self._stream = self._stream or self._client.events(job_ids=())
        return self._stream

    def _start(self) -> None:
        """With the lock held: somebody may be called now."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="openbits-events", daemon=True)
            self._thread.start()
        self._wake.set()

    def _end_if_idle(self) -> None:
        if not (self._registered or self._checks):
            self._end_stream()
            self._wake.set()

    def _end_stream(self) -> None:
        """With the lock held: the thread, which may be waiting for the next event, hears that it is over."""
        stream, self._stream = self._stream, None
        if stream is not None and stream is self._heard:
            stream.abort()
        elif stream is not None:
            stream.close()


def job_of(event: Mapping[str, Any]) -> JobInfo:
    """The job that a notice is about. Raises BitsError E_ACCESSDENIED if it has an owner now who is not this user."""
    if event.get("job") is None:
        raise BitsError(
            codes.E_ACCESSDENIED,
            f"cannot tell what became of job {event['job_id']}: it has another owner now; stop listening for it",
        )
    return cast("JobInfo", event["job"])


def _announce(registration: Registration, stream: EventStream) -> None:
    registration.subscriber = stream.subscriber
    registration.number = registration.job.set_subscriber(stream.subscriber)


def _is_current(job: "Job", event: EventInfo) -> bool:
    """True while the job is in the state that the notice is about: what is pending ends with it (jobs.md N8).

    The notice of a file, which comes without the job, ends when the job is over.
    """
    told = event.get("job")
    try:
        info = job.info()
    except UnreachableError:
        raise
    except BitsError as error:  # another owner took the job: its callback stays (N9)
        return told is None and error.hresult == codes.E_ACCESSDENIED
    if told is None:
        return info["state"] not in _FINAL
    return (info["state"], info["state_since"]) == (told["state"], told["state_since"])


def _run_handler(handler: Handler, event: EventInfo) -> int:
    """The handler's verdict as HRESULT: S_OK, the code of a BitsError, or E_FAIL; nothing it raises ends the thread."""
    try:
        handler(cast("Mapping[str, Any]", event))
    except BitsError as error:
        logging.getLogger("openbits").warning("callback_failed job=%s why=%s", event["job_id"], error)
        return error.hresult if error.hresult & 0x80000000 else codes.E_FAIL
    except BaseException:
        logging.getLogger("openbits").exception("callback_failed job=%s", event["job_id"])
        return codes.E_FAIL
    return codes.S_OK
