"""AsyncClient and AsyncJob: the asyncio twins of `Client` and `Job`.

    async with openbits.AsyncClient() as client:
        job = await client.create_job("nightly", priority=openbits.Priority.FOREGROUND)
        await job.add_file("https://example.org/a.iso", "/srv/a.iso")
        await job.resume()
        if await job.wait() is openbits.Outcome.TRANSFERRED:
            await job.complete()

Every method has the name, the parameters and the errors of its twin. What a twin has as a property and what asks the
service is a method here. Nothing blocks the loop; finding, and if need be starting, the service has a thread for that
moment. Objects belong to the loop they were made on. Cancelling a call does not undo it: the service may have begun.
"""

import asyncio
import collections
import contextlib
import os
import uuid
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, Self, cast

from openbits.api import calls, following, locate
from openbits.api import client as blocking
from openbits.api.aio_connection import AsyncConnection
from openbits.api.aio_events import AsyncEventStream
from openbits.api.aio_job_files import AsyncJobFiles
from openbits.api.aio_job_options import AsyncJobOptions
from openbits.api.aio_job_reply import AsyncJobReply
from openbits.api.client import Outcome, outcome_of
from openbits.api.connection import Connection, ConnectionLostError
from openbits.api.framing import Parameters
from openbits.api.tokens import Token
from openbits.api.wire import ErrorInfo, FileInfo, JobInfo, PoliciesInfo, ProxyExplanation, ServiceInfo, TokenInfo
from openbits.channel import close_all
from openbits.core.enums import JobState, JobType, Level, Priority, TokenFlags
from openbits.core.errors import BitsError


class AsyncClient:
    """A connection to the service; parameters as of `Client`. Open it with `async with` or `connect`."""

    def __init__(
        self, level: Level = Level.IMPERSONATE, *, is_cloaking: bool = True, socket: str | None = None
    ) -> None:
        self.level = level
        self.is_cloaking = is_cloaking
        self._socket = socket
        self._released: collections.deque[tuple[AsyncConnection, int]] = collections.deque()
        self._guard = asyncio.Lock()
        self._callbacks: blocking.Client | None = None
        """Delivers notices on its thread, as it does for the blocking API; made with the first registration."""

    info: ServiceInfo
    connection: AsyncConnection
    place: locate.Place

    async def connect(self) -> None:
        """Find the service, start it if nobody runs it, and connect. Raises UnreachableError."""
        self.place = blocking.place_of(self._socket)
        self.connection, self.info = await self._connect()

    async def reconnect(self) -> None:
        """As `Client.reconnect`."""
        async with self._guard:
            with contextlib.suppress(ConnectionLostError):
                await self.connection.call("Hello", {"level": int(self.level)})
                return
            self.connection, self.info = await self._connect()

    async def create_job(
        self,
        display_name: str,
        *,
        type: JobType = JobType.DOWNLOAD,  # noqa: A002  # the word of the interface
        priority: Priority = Priority.NORMAL,
        **properties: object,
    ) -> "AsyncJob":
        """A new job, suspended and empty, owned by the caller; properties as in `AsyncJob.set`, all or nothing."""
        connection = self.connection
        answer = await self.call("CreateJob", calls.creation(display_name, type), connection)
        job = AsyncJob(self, uuid.UUID(answer["job_id"]), connection, answer["handle"])
        if priority is not Priority.NORMAL:
            properties["priority"] = priority
        if properties:
            try:
                await job.set(**properties)
            except BaseException:
                with contextlib.suppress(BitsError):
                    await job.cancel()
                raise
        return job

    async def job(self, job_id: uuid.UUID | str) -> "AsyncJob":
        """An existing job. Raises BG_E_NOT_FOUND, or E_ACCESSDENIED if it is somebody else's."""
        name, connection = str(job_id), self.connection
        answer = await self.call("OpenJob", {"job_id": name}, connection)
        return AsyncJob(self, uuid.UUID(name), connection, answer["handle"])

    async def jobs(self, *, all_users: bool = False) -> list["AsyncJob"]:
        """The jobs of the caller, or of everybody (administrators); no completed or cancelled ones."""
        found = []
        for info in await self.job_infos(all_users=all_users):
            try:
                found.append(await self.job(info["job_id"]))
            except BitsError as error:
                if error.hresult not in calls.GONE:
                    raise
        return found

    async def job_infos(self, *, all_users: bool = False) -> list[JobInfo]:
        """What `jobs` finds, as one snapshot of values in one call."""
        return await self.collect("ListJobs", {"all_users": all_users}, "jobs")

    async def logon_user(self, user: str, password: str | None, *, level: Level = Level.IMPERSONATE) -> Token:
        """Prove an account (PAM) and get its token; a wrong password takes seconds. Only root may omit it."""
        connection, _ = await self._connect()
        try:
            parameters = {"user": user, "password": password, "level": int(level)}
            return calls.token_of(*await connection.call("LogonUser", parameters))
        finally:
            connection.close()

    async def open_process_token(self, *, level: Level = Level.IMPERSONATE) -> Token:
        """A token of the caller's own identity, to be passed on; under impersonation a copy of that token."""
        return calls.token_of(*await self.exchange("OpenProcessToken", {"level": int(level)}))

    async def token_info(self, token: Token) -> TokenInfo:
        """What a token proves. Raises E_HANDLE for a descriptor that is no token of this service."""
        answer, received = await self.connection.call("GetTokenInfo", {"token": 0}, [token.fileno()])
        close_all(received)
        return cast("TokenInfo", answer)

    async def policies(self) -> PoliciesInfo:
        """Every policy of the machine: its value, and which line of which file says so."""
        return cast("PoliciesInfo", await self.call("GetPolicies"))

    async def explain_proxy(self, url: str) -> ProxyExplanation:
        """How the caller would ask for a URL: through which proxy, who says so, and what the proxy says to it."""
        return cast("ProxyExplanation", await self.call("ExplainProxy", {"url": url}))

    async def events(
        self, *, from_seq: int | None = None, job_ids: Iterable[uuid.UUID] | None = None, all_users: bool = False
    ) -> AsyncEventStream:
        """Events of our jobs (administrators: of all), on a connection of their own; `from_seq`: those after it too."""
        connection, _ = await self._connect()
        return await AsyncEventStream.open(connection, calls.subscription(from_seq, job_ids, all_users=all_users))

    async def close(self) -> None:
        """End the connection; jobs go on. Job objects of this client are of no use any more."""
        if self._callbacks is not None:
            await asyncio.to_thread(self._callbacks.close)
        self.connection.close()

    @property
    def is_closed(self) -> bool:
        """True if the connection is over, by `close` or by the service's end."""
        return self.connection.is_closed

    async def call(
        self, method: str, parameters: Parameters | None = None, connection: AsyncConnection | None = None
    ) -> Parameters:
        """Call a method of docs/api.md by name, with the impersonated token where the method takes one."""
        answer, received = await self.exchange(method, parameters, connection)
        close_all(received)
        return answer

    async def exchange(
        self, method: str, parameters: Parameters | None = None, connection: AsyncConnection | None = None
    ) -> tuple[Parameters, list[int]]:
        """The same for a method that answers with descriptors; they belong to who calls."""
        await self._tell_released()
        wanted, descriptors = calls.with_token(method, parameters or {}, is_cloaking=self.is_cloaking)
        return await (connection or self.connection).call(method, wanted, descriptors)

    async def collect(
        self, method: str, parameters: Parameters, key: str, connection: AsyncConnection | None = None
    ) -> list[Any]:
        """The same for a method whose answer is the list `key`."""
        await self._tell_released()
        wanted, descriptors = calls.with_token(method, parameters, is_cloaking=self.is_cloaking)
        return await (connection or self.connection).collect(method, wanted, key, descriptors)

    def release(self, connection: AsyncConnection, handle: int) -> None:
        """Let go of an interface with the next call. Safe in finalizers."""
        self._released.append((connection, handle))

    async def callbacks(self) -> blocking.Client:
        """The client whose thread delivers notices."""
        async with self._guard:
            if self._callbacks is None:
                self._callbacks = await asyncio.to_thread(
                    blocking.Client, self.level, is_cloaking=self.is_cloaking, socket=self.place.socket
                )
            return self._callbacks

    async def _connect(self) -> tuple[AsyncConnection, ServiceInfo]:
        connection, info = await _connect(self.level, self.place)
        return AsyncConnection(connection), info

    async def _tell_released(self) -> None:
        while self._released:
            released_on, handle = self._released.popleft()
            if released_on is self.connection and not released_on.is_closed:
                await released_on.call("ReleaseJob", {"handle": handle})

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncJob(AsyncJobFiles, AsyncJobOptions, AsyncJobReply):
    """One interface on a job. Getters work on a completed or cancelled job too, as long as this object lives."""

    def __init__(self, client: AsyncClient, job_id: uuid.UUID, connection: AsyncConnection, handle: int) -> None:
        self.client = client
        self.id = job_id
        self._guard = asyncio.Lock()
        self._hold(connection, handle)

    async def info(self) -> JobInfo:
        """Everything about the job at this moment."""
        return cast("JobInfo", (await self._call("GetJob"))["job"])

    async def state(self) -> JobState:
        """The state now."""
        return JobState[(await self.info())["state"].upper()]

    async def error(self) -> ErrorInfo | None:
        """The error object: in ERROR and TRANSIENT_ERROR, and until the job transfers again."""
        return (await self.info())["error"]

    async def files(self) -> list[FileInfo]:
        """The files in the order they were added."""
        connection, handle = await self._interface()
        return await self.client.collect("ListFiles", {"handle": handle}, "files", connection)

    async def add_file(self, url: str, path: str | os.PathLike[str]) -> None:
        """Add one pair: remote name first, absolute local path of a file in an existing directory."""
        await self.add_files([(url, path)])

    async def add_files(self, files: Iterable[tuple[str, str | os.PathLike[str]]]) -> None:
        """Add pairs (url, absolute path), all or nothing."""
        await self._call("AddFiles", **calls.additions(files))

    async def set(self, **properties: object) -> None:
        """Set properties of the registry, all or nothing; as `Job.set`."""
        await self._call("SetProperties", values=calls.wire_values(properties))

    async def explain_proxy(self, url: str) -> ProxyExplanation:
        """How this job would ask for a URL: under which identity, through which proxy, and who says so."""
        return cast("ProxyExplanation", await self._call("ExplainProxy", url=url))

    async def suspend(self) -> None:
        """Stop at once; what was transferred stays."""
        await self._call("Suspend")

    async def resume(self) -> None:
        """Make the job runnable, or retry at once. Raises BG_E_EMPTY for a job without files."""
        await self._call("Resume")

    async def cancel(self) -> int:
        """Give the job up and remove its temporary files: S_OK, or BG_S_UNABLE_TO_DELETE_FILES."""
        return int((await self._call("Cancel"))["hresult"])

    async def complete(self) -> int:
        """Publish what is transferred and end the job: S_OK, BG_S_PARTIAL_COMPLETE, BG_S_UNABLE_TO_DELETE_FILES."""
        return int((await self._call("Complete"))["hresult"])

    async def take_ownership(self) -> None:
        """Become the owner (administrators), as `Job.take_ownership`."""
        await self._call("TakeOwnership")

    async def set_helper_token(self) -> None:
        """Give the job the identity of this call as second identity: impersonate its token around the call."""
        await self._call("SetHelperToken")

    async def set_helper_token_flags(self, flags: TokenFlags) -> None:
        """Choose what the helper token opens; 0 returns to one identity for everything."""
        await self._call("SetHelperTokenFlags", flags=int(flags))

    async def clear_helper_token(self) -> None:
        """Drop the helper token; the flags stay."""
        await self._call("ClearHelperToken")

    async def notify(self, callback: Callable[["AsyncJob", JobInfo], Awaitable[None]] | None) -> None:
        """Have the coroutine function `callback(job, info)` run on this loop when the job is TRANSFERRED or in ERROR.

        At least once: an exception means not taken, and it is called again after the minimum retry delay. None ends it.
        """
        client = await self.client.callbacks()
        twin = await asyncio.to_thread(client.job, self.id)
        if callback is None:
            await asyncio.to_thread(twin.notify, None)
            return
        called, loop = callback, asyncio.get_running_loop()

        async def deliver(info: JobInfo) -> None:
            await called(self, info)

        def hand_over(_: blocking.Job, info: JobInfo) -> None:
            asyncio.run_coroutine_threadsafe(deliver(info), loop).result()

        await asyncio.to_thread(twin.notify, hand_over)

    async def wait(self, timeout: float | None = None) -> Outcome:  # noqa: ASYNC109  # running out of it is an answer
        """Wait, by events, until the job needs nobody's patience any more; `timeout` in seconds.

        A restart of the service in between is waited for, too.
        """
        async with contextlib.aclosing(self.follow(timeout=timeout)) as infos:
            async for info in infos:
                if (outcome := outcome_of(info)) is not None:
                    return outcome
        return Outcome.TIMEOUT

    async def follow(
        self,
        *,
        interval: float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # as above
    ) -> AsyncGenerator[JobInfo]:
        """The job now, and after each event; ends with its outcome or after `timeout` seconds.

        `interval`: also without news after that many seconds.
        """
        caller_uid = self.client.info["caller_uid"]
        steps = following.Following(self.id, caller_uid, interval=interval, timeout=timeout).steps()
        performer = _Performer(self)
        try:
            step = next(steps)
            while True:
                answer: object = None
                if isinstance(step, following.Show):
                    yield step.info
                else:
                    try:
                        answer = await performer.perform(step)
                    except BitsError as error:
                        step = steps.throw(error)
                        continue
                step = steps.send(answer)
        except StopIteration:
            pass
        finally:
            performer.close()

    def release(self) -> None:
        """Let go of the interface now instead of with the last reference to this object."""
        self._finalizer()

    def _hold(self, connection: AsyncConnection, handle: int) -> None:
        self._connection, self._handle = connection, handle
        self._finalizer = weakref.finalize(self, self.client.release, connection, handle)
        self._finalizer.atexit = False

    async def _interface(self) -> tuple[AsyncConnection, int]:
        """The handle and where it is good; a new one after `AsyncClient.reconnect`, opened as ourselves."""
        async with self._guard:
            connection = self.client.connection
            if self._connection is not connection:
                answer, _ = await connection.call("OpenJob", {"job_id": str(self.id)})
                self._finalizer.detach()
                self._hold(connection, answer["handle"])
            return self._connection, self._handle

    async def _call(self, method: str, **parameters: object) -> Parameters:
        connection, handle = await self._interface()
        return await self.client.call(method, {"handle": handle, **parameters}, connection)

    async def _exchange(self, method: str, **parameters: object) -> tuple[Parameters, list[int]]:
        connection, handle = await self._interface()
        return await self.client.exchange(method, {"handle": handle, **parameters}, connection)

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id}>"


class _Performer:
    """Carries the steps of `following` out."""

    def __init__(self, job: AsyncJob) -> None:
        self._job = job
        self._events: AsyncEventStream | None = None

    async def perform(self, step: following.Step) -> object:
        match step:
            case following.ReadJob():
                return await self._job.info()
            case following.OpenEvents(from_seq, all_users):
                self.close()
                self._events = await self._job.client.events(
                    from_seq=from_seq, job_ids=[self._job.id], all_users=all_users
                )
                return self._events.first["seq"]
            case following.NextEvent(seconds) if self._events is not None:
                return await self._events.next(seconds)
            case following.Reconnect():
                await self._job.client.reconnect()
            case following.Pause(seconds):
                await asyncio.sleep(seconds)
        return None

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None


async def _connect(level: Level, place: locate.Place) -> tuple[Connection, ServiceInfo]:
    """`locate.connect` on a thread; if nobody waits for its result any more, the connection is closed."""
    attempt = asyncio.ensure_future(asyncio.to_thread(locate.connect, level, place))
    try:
        return await asyncio.shield(attempt)
    except asyncio.CancelledError:
        attempt.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(attempt: "asyncio.Future[tuple[Connection, ServiceInfo]]") -> None:
    if attempt.exception() is None:
        attempt.result()[0].close()
