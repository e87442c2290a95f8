"""Client and Job: the queue as Python objects, blocking.

    with openbits.Client() as client:
        job = client.create_job("nightly", priority=openbits.Priority.FOREGROUND)
        job.add_file("https://example.org/a.iso", "/srv/a.iso")
        job.resume()
        if job.wait() is openbits.Outcome.TRANSFERRED:
            job.complete()

A Job holds an interface of the service: access was checked when it was obtained, under the identity of that moment;
later calls on it may run under another one (`with token.impersonate(): job.set_helper_token()`). Everything fails
with BitsError. Objects may be used from several threads. Nothing is cached: each getter asks the service.

Interfaces end with the service that gave them. Waiting for a job outlasts a restart of the service; any other call
that is under way then fails, and nobody but the caller knows whether to make it again: after `Client.reconnect` the
same objects work on.
"""

# ruff: noqa: PTH100  # pathlib costs start-up time

import collections
import contextlib
import enum
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

from openbits.api import calls, locate
from openbits.api.connection import Connection, ConnectionLostError
from openbits.api.framing import Parameters
from openbits.api.job_files import JobFiles
from openbits.api.job_options import JobOptions
from openbits.api.job_reply import JobReply
from openbits.api.tokens import Token
from openbits.api.wire import ErrorInfo, FileInfo, JobInfo, PoliciesInfo, ProxyExplanation, ServiceInfo, TokenInfo
from openbits.channel import close_all
from openbits.core.enums import JobState, JobType, Level, Priority, TokenFlags
from openbits.core.errors import BitsError

if TYPE_CHECKING:
    from openbits.api.notifications import EventStream, Notifier


class Outcome(enum.Enum):
    """How waiting for a job ended."""

    TRANSFERRED = "transferred"
    """All bytes are here and the job waits for Complete."""
    ACKNOWLEDGED = "acknowledged"
    """The files are published."""
    ERROR = "error"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class Client:
    """A connection to the service, which is started if nobody runs it (see `locate`).

    `level` is the impersonation level the service may use of us; `is_cloaking` says whether an impersonated token is
    sent with calls (dynamic cloaking) or the process identity is seen always. `socket` names another service.
    """

    def __init__(
        self, level: Level = Level.IMPERSONATE, *, is_cloaking: bool = True, socket: str | None = None
    ) -> None:
        self._place = place_of(socket)
        self.level = level
        self.is_cloaking = is_cloaking
        self.connection, self.info = locate.connect(level, self._place)
        self._released: collections.deque[tuple[Connection, int]] = collections.deque()
        self._notifier: Notifier | None = None
        self._guard = threading.Lock()

    info: ServiceInfo
    """Who answers, and as whom we are seen."""

    connection: Connection
    """The present connection; jobs hold the one that they were opened on."""

    def reconnect(self) -> None:
        """Connect anew if the service ended the conversation; jobs open themselves anew with their next call.

        Raises UnreachableError if there is no service yet.
        """
        self._reconnect(self._place)

    def rejoin(self) -> None:
        """The same with a service that runs; it is not started. For `Notifier`, which nobody has asked for a call."""
        self._reconnect(self._place._replace(may_start=False))

    def _reconnect(self, place: locate.Place) -> None:
        with self._guard:
            with contextlib.suppress(ConnectionLostError):
                self.connection.call("Hello", {"level": int(self.level)})
                return
            self.connection, self.info = locate.connect(self.level, place)

    def create_job(
        self,
        display_name: str,
        *,
        type: JobType = JobType.DOWNLOAD,  # noqa: A002  # the word of the interface
        priority: Priority = Priority.NORMAL,
        **properties: object,
    ) -> "Job":
        """A new job, suspended and empty, owned by the caller; properties as in `Job.set`, all or nothing."""
        connection = self.connection
        answer = self.call("CreateJob", calls.creation(display_name, type), connection)
        job = Job(self, uuid.UUID(answer["job_id"]), connection, answer["handle"])
        if priority is not Priority.NORMAL:
            properties["priority"] = priority
        if properties:
            try:
                job.set(**properties)
            except BaseException:
                with contextlib.suppress(BitsError):
                    job.cancel()
                raise
        return job

    def job(self, job_id: uuid.UUID | str) -> "Job":
        """An existing job. Raises BG_E_NOT_FOUND, or E_ACCESSDENIED if it is somebody else's."""
        name, connection = str(job_id), self.connection
        handle = self.call("OpenJob", {"job_id": name}, connection)["handle"]  # refuses what is no id
        return Job(self, uuid.UUID(name), connection, handle)

    def jobs(self, *, all_users: bool = False) -> list["Job"]:
        """The jobs of the caller, or of everybody (administrators); no completed or cancelled ones."""
        found = []
        for info in self.job_infos(all_users=all_users):
            try:
                found.append(self.job(info["job_id"]))
            except BitsError as error:
                if error.hresult not in calls.GONE:
                    raise
        return found

    def job_infos(self, *, all_users: bool = False) -> list[JobInfo]:
        """What `jobs` finds, as one snapshot of values in one call."""
        return self.collect("ListJobs", {"all_users": all_users}, "jobs")

    def logon_user(self, user: str, password: str | None, *, level: Level = Level.IMPERSONATE) -> Token:
        """Prove an account (PAM) and get its token; a wrong password takes seconds. Only root may omit it."""
        parameters = {"user": user, "password": password, "level": int(level)}
        with self.open_connection() as connection:
            return calls.token_of(*connection.call("LogonUser", parameters))

    def open_process_token(self, *, level: Level = Level.IMPERSONATE) -> Token:
        """A token of the caller's own identity, to be passed on; under impersonation a copy of that token."""
        return calls.token_of(*self.exchange("OpenProcessToken", {"level": int(level)}))

    def token_info(self, token: Token) -> TokenInfo:
        """What a token proves. Raises E_HANDLE for a descriptor that is no token of this service."""
        answer, received = self.connection.call("GetTokenInfo", {"token": 0}, [token.fileno()])
        close_all(received)
        return cast("TokenInfo", answer)

    def policies(self) -> PoliciesInfo:
        """Every policy of the machine: its value, and which line of which file says so."""
        return cast("PoliciesInfo", self.call("GetPolicies"))

    def explain_proxy(self, url: str) -> ProxyExplanation:
        """How the caller would ask for a URL: through which proxy, who says so, and what the proxy says to it."""
        return cast("ProxyExplanation", self.call("ExplainProxy", {"url": url}))

    def events(
        self, *, from_seq: int | None = None, job_ids: Iterable[uuid.UUID] | None = None, all_users: bool = False
    ) -> "EventStream":
        """Events of our jobs (administrators: of all), on a connection of their own; `from_seq`: those after it too."""
        from openbits.api.notifications import EventStream  # noqa: PLC0415  # most commands need no events

        return EventStream(self.connect_again(), calls.subscription(from_seq, job_ids, all_users=all_users))

    @property
    def notifier(self) -> "Notifier":
        """Delivers the notices of jobs on a thread of its own, started with the first registration."""
        from openbits.api.notifications import Notifier  # noqa: PLC0415  # most commands need no events

        with self._guard:
            if self._notifier is None:
                self._notifier = Notifier(self)
            return self._notifier

    def close(self) -> None:
        """End the connection; jobs go on. Job objects of this client are of no use any more."""
        if self._notifier is not None:
            self._notifier.close()
        self.connection.close()

    @property
    def is_closed(self) -> bool:
        """True if the connection is over, by `close` or by the service's end."""
        return self.connection.is_closed

    def call(
        self, method: str, parameters: Parameters | None = None, connection: Connection | None = None
    ) -> Parameters:
        """Call a method of docs/api.md by name, with the impersonated token where the method takes one.

        `connection`: where a handle among the parameters is good.
        """
        answer, received = self.exchange(method, parameters, connection)
        close_all(received)
        return answer

    def exchange(
        self, method: str, parameters: Parameters | None = None, connection: Connection | None = None
    ) -> tuple[Parameters, list[int]]:
        """The same for a method that answers with descriptors; they belong to who calls."""
        connection = self._ready(connection)
        return connection.call(method, *calls.with_token(method, parameters or {}, is_cloaking=self.is_cloaking))

    def collect(self, method: str, parameters: Parameters, key: str, connection: Connection | None = None) -> list[Any]:
        """The same for a method whose answer is the list `key`."""
        connection = self._ready(connection)
        wanted, descriptors = calls.with_token(method, parameters, is_cloaking=self.is_cloaking)
        return connection.collect(method, wanted, key, descriptors)

    def release(self, connection: Connection, handle: int) -> None:
        """Let go of an interface with the next call. Safe in finalizers, which may run in the middle of one."""
        self._released.append((connection, handle))

    def connect_again(self) -> Connection:
        """A further connection to the same service, at the same level."""
        return locate.connect(self.level, self._place)[0]

    @contextlib.contextmanager
    def open_connection(self) -> Iterator[Connection]:
        """A further connection for one slow call, so that the others do not wait behind it."""
        connection = self.connect_again()
        try:
            yield connection
        finally:
            connection.close()

    def _ready(self, connection: Connection | None) -> Connection:
        """The connection to use, after the released handles were told to the service."""
        while self._released:
            with contextlib.suppress(IndexError):
                released_on, handle = self._released.popleft()
                if released_on is self.connection and not released_on.is_closed:
                    released_on.call("ReleaseJob", {"handle": handle})
        return connection or self.connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Job(JobFiles, JobOptions, JobReply):
    """One interface on a job. Getters work on a completed or cancelled job too, as long as this object lives."""

    def __init__(self, client: Client, job_id: uuid.UUID, connection: Connection, handle: int) -> None:
        self.client = client
        self.id = job_id
        self._guard = threading.Lock()
        self._hold(connection, handle)

    def info(self) -> JobInfo:
        """Everything about the job at this moment."""
        return cast("JobInfo", self._call("GetJob")["job"])

    @property
    def state(self) -> JobState:
        """The state now."""
        return JobState[self.info()["state"].upper()]

    @property
    def error(self) -> ErrorInfo | None:
        """The error object: in ERROR and TRANSIENT_ERROR, and until the job transfers again."""
        return self.info()["error"]

    def files(self) -> list[FileInfo]:
        """The files in the order they were added."""
        connection, handle = self._interface()
        return self.client.collect("ListFiles", {"handle": handle}, "files", connection)

    def add_file(self, url: str, path: str | os.PathLike[str]) -> None:
        """Add one pair: remote name first, absolute local path of a file in an existing directory."""
        self.add_files([(url, path)])

    def add_files(self, files: Iterable[tuple[str, str | os.PathLike[str]]]) -> None:
        """Add pairs (url, absolute path), all or nothing."""
        self._call("AddFiles", **calls.additions(files))

    def set(self, **properties: object) -> None:
        """Set properties, all or nothing: those that docs/api.md lists, `core.properties` explains.

        Raises E_INVALIDARG, E_NOTIMPL for an undefined value, or the code of a property that may not be set now.
        """
        self._call("SetProperties", values=calls.wire_values(properties))

    def explain_proxy(self, url: str) -> ProxyExplanation:
        """How this job would ask for a URL: under which identity, through which proxy, and who says so."""
        return cast("ProxyExplanation", self._call("ExplainProxy", url=url))

    def suspend(self) -> None:
        """Stop at once; what was transferred stays."""
        self._call("Suspend")

    def resume(self) -> None:
        """Make the job runnable, or retry at once. Raises BG_E_EMPTY for a job without files."""
        self._call("Resume")

    def cancel(self) -> int:
        """Give the job up and remove its temporary files: S_OK, or BG_S_UNABLE_TO_DELETE_FILES."""
        return int(self._call("Cancel")["hresult"])

    def complete(self) -> int:
        """Publish what is transferred and end the job: S_OK, BG_S_PARTIAL_COMPLETE, BG_S_UNABLE_TO_DELETE_FILES."""
        return int(self._call("Complete")["hresult"])

    def take_ownership(self) -> None:
        """Become the owner (administrators): the caller, or the impersonated token.

        The helper token goes, its flags stay; files that were begun go on in copies of the new owner. Raises
        E_ACCESSDENIED, BG_E_INVALID_STATE or BG_E_NEW_OWNER_NO_FILE_ACCESS, and nothing was changed.
        """
        self._call("TakeOwnership")

    def set_helper_token(self) -> None:
        """Give the job the identity of this call as second identity: impersonate its token around the call."""
        self._call("SetHelperToken")

    def set_helper_token_flags(self, flags: TokenFlags) -> None:
        """Choose what the helper token opens; 0 returns to one identity for everything."""
        self._call("SetHelperTokenFlags", flags=int(flags))

    def clear_helper_token(self) -> None:
        """Drop the helper token; the flags stay."""
        self._call("ClearHelperToken")

    def notify(self, callback: "Callable[[Job, JobInfo], None] | None") -> None:
        """Have `callback(job, info)` called on a library thread when the job is TRANSFERRED or in ERROR.

        At least once: an exception means not taken, and it is called again after the minimum retry delay. It holds over
        restarts of the service, until the job is over, somebody else registers for it, or None ends it. Whoever lost
        the job to another owner may see nothing of it any more, and is not called.
        """
        if callback is None:
            self.client.notifier.forget(self)
            return
        from openbits.api.notifications import job_of  # noqa: PLC0415  # most commands need no events

        called = callback

        def handler(event: Mapping[str, Any]) -> None:
            if event["notice"] in {"transferred", "error"}:
                called(self, job_of(event))

        self.client.notifier.register(self, handler)

    def wait(self, timeout: float | None = None) -> Outcome:
        """Wait, by events, until the job needs nobody's patience any more; `timeout` in seconds.

        A restart of the service in between is waited for, too.
        """
        for info in self.follow(timeout=timeout):
            if (outcome := outcome_of(info)) is not None:
                return outcome
        return Outcome.TIMEOUT

    def follow(self, *, interval: float | None = None, timeout: float | None = None) -> Iterator[JobInfo]:
        """The job now, and after each event; ends with its outcome or after `timeout` seconds.

        `interval`: also without news after that many seconds.
        """
        from openbits.api.following import Blocking, Following  # noqa: PLC0415  # most commands follow nothing

        following = Following(self.id, self.client.info["caller_uid"], interval=interval, timeout=timeout)
        return Blocking(self).infos(following.steps())

    def release(self) -> None:
        """Let go of the interface now instead of with the last reference to this object."""
        self._finalizer()

    def _hold(self, connection: Connection, handle: int) -> None:
        self._connection, self._handle = connection, handle
        self._finalizer = weakref.finalize(self, self.client.release, connection, handle)
        self._finalizer.atexit = False

    def _interface(self) -> tuple[Connection, int]:
        """The handle and where it is good; a new one after `Client.reconnect`, opened as ourselves."""
        with self._guard:
            connection = self.client.connection
            if self._connection is not connection:
                answer, _ = connection.call("OpenJob", {"job_id": str(self.id)})
                self._finalizer.detach()
                self._hold(connection, answer["handle"])
            return self._connection, self._handle

    def _call(self, method: str, **parameters: object) -> Parameters:
        connection, handle = self._interface()
        return self.client.call(method, {"handle": handle, **parameters}, connection)

    def _exchange(self, method: str, **parameters: object) -> tuple[Parameters, list[int]]:
        connection, handle = self._interface()
        return self.client.exchange(method, {"handle": handle, **parameters}, connection)

    def open_again(self) -> "Job":
        """One more interface of the job, checked under the identity of this call; of a final job, too."""
        connection, handle = self._interface()
        parameters = {"job_id": str(self.id), "handle": handle}
        return Job(self.client, self.id, connection, self.client.call("OpenJob", parameters, connection)["handle"])

    def set_subscriber(self, subscriber: str | None) -> int:
        """Direct the notices of the job to an event stream (SetNotify), for `Notifier`; the registration's number."""
        return int(
            self._call("SetNotify", **({} if subscriber is None else {"subscriber": subscriber}))["registration"]
        )

    def set_certificate_subscriber(self, subscriber: str | None) -> None:
        """Direct questions about certificates to an event stream (SetCertificateCallback), for `Notifier`."""
        self._call("SetCertificateCallback", **calls.given(subscriber=subscriber))

    def __repr__(self) -> str:
        return f"<Job {self.id}>"


def outcome_of(info: JobInfo) -> Outcome | None:
    """What waiting for a job comes to in this state; None while it may still move by itself.

    A job with `auto_complete` goes on from TRANSFERRED by itself, unless publishing its files failed.
    """
    state = info["state"]
    if state == "transferred" and info["properties"].get("auto_complete") and info["complete_error"] is None:
        return None
    return Outcome(state) if state in {"transferred", "acknowledged", "error", "cancelled"} else None


def place_of(socket: str | None) -> locate.Place:
    """The service at this socket, which is not started from here; None: the usual one."""
    return locate.Place(os.path.abspath(socket), "", may_start=False) if socket else locate.locate()
