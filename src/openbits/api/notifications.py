"""News of jobs: the event stream, and the thread that hands notices to callbacks.

A notice (JobTransferred, JobError) is delivered at least once: the callback's success acknowledges it, an exception
has the service deliver it again after the minimum retry delay. Other events may be lost under load; after an
`overflow` the registrations are made anew, which brings every pending notice again.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

from openbits.api.connection import Connection, ConnectionLostError
from openbits.api.framing import Parameters
from openbits.api.wire import EventInfo
from openbits.core import codes
from openbits.core.errors import BitsError

if TYPE_CHECKING:
    import uuid

    from openbits.api.client import Client, Job

Handler = Callable[[Mapping[str, Any]], None]

_FINAL = frozenset({"acknowledged", "cancelled"})


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


class Notifier:
    """Calls handlers on one thread, one after the other; handlers may call any method of their job."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._lock = threading.Lock()
        self._registered: dict[str, tuple[Job, Handler]] = {}
        self._stream: EventStream | None = None

    def register(self, job: "Job", handler: Handler) -> None:
        """Hand events of the job to `handler`, its notices until one is taken; replaces an earlier handler.

        A notice that waits already is delivered at once. The handler is let go when the job is final.
        """
        name = str(job.id)
        with self._lock:
            stream = self._running_stream()
            previous = self._registered.get(name)
            self._registered[name] = (job, handler)  # before the call: the notice may be faster than its answer
        try:
            job.set_subscriber(stream.subscriber)
        except BaseException:
            with self._lock:
                if previous is None:
                    self._registered.pop(name, None)
                else:
                    self._registered[name] = previous
            raise

    def forget(self, job: "Job") -> None:
        """No more news of the job, for nobody."""
        job.set_subscriber(None)
        with self._lock:
            self._registered.pop(str(job.id), None)

    def handler(self, job_id: "uuid.UUID") -> Handler | None:
        """The handler this process has registered for a job."""
        with self._lock:
            return self._registered.get(str(job_id), (None, None))[1]

    def close(self) -> None:
        """End the thread after the handler it is in."""
        with self._lock:
            self._registered.clear()
            if self._stream is not None:
                self._stream.abort()
                self._stream = None

    def _running_stream(self) -> EventStream:
        if self._stream is None:
            self._stream = self._client.events()
            threading.Thread(target=self._run, args=(self._stream,), name="openbits-events", daemon=True).start()
        return self._stream

    def _run(self, stream: EventStream) -> None:
        try:
            with stream:
                for event in stream:
                    self._dispatch(stream, event)
        except BitsError as error:
            with self._lock:
                if self._stream is not stream:
                    return  # closed by us
                self._stream = None
                lost = len(self._registered)
                self._registered.clear()
            if lost:
                logging.getLogger("openbits").warning("events_lost registrations=%d why=%s", lost, error)

    def _dispatch(self, stream: EventStream, event: EventInfo) -> None:
        if event["kind"] == "overflow":
            self._register_again(stream)
            return
        with self._lock:
            job, handler = self._registered.get(event["job_id"], (None, None))
        if job is None or handler is None:
            return
        hresult = _run_handler(handler, event)
        if event["kind"] == "notice":
            self._acknowledge(event, hresult)
        info = event.get("job")
        if event["kind"] == "removed" or (info is not None and info["state"] in _FINAL):
            with self._lock:
                self._registered.pop(event["job_id"], None)

    def _acknowledge(self, event: EventInfo, hresult: int) -> None:
        answer = {"job_id": event["job_id"], "notice_seq": event.get("notice_seq"), "hresult": hresult}
        with contextlib.suppress(BitsError):  # the job may be final by now: nothing is left to acknowledge
            self._client.call("AcknowledgeNotice", answer)

    def _register_again(self, stream: EventStream) -> None:
        with self._lock:
            jobs = [job for job, _ in self._registered.values()]
        for job in jobs:
            with contextlib.suppress(BitsError):  # final since: its removal was among what we missed
                job.set_subscriber(stream.subscriber)
                continue
            with self._lock:
                self._registered.pop(str(job.id), None)


def _run_handler(handler: Handler, event: EventInfo) -> int:
    """The handler's verdict as HRESULT: S_OK, the code of a BitsError, or E_FAIL."""
    try:
        handler(cast("Mapping[str, Any]", event))
    except BitsError as error:
        logging.getLogger("openbits").warning("callback_failed job=%s why=%s", event["job_id"], error)
        return error.hresult if error.hresult & 0x80000000 else codes.E_FAIL
    except Exception:
        logging.getLogger("openbits").exception("callback_failed job=%s", event["job_id"])
        return codes.E_FAIL
    return codes.S_OK
