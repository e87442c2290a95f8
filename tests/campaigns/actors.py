"""The users of a campaign: processes of their own identity that act as they are told and take notices all the time.

An actor outlasts every restart of the service. Its answers say what it was told: `ok`, `error` (with the HRESULT), or
`lost`: the service went away in the middle, so that nobody knows.
"""

import contextlib
import http.client
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tests.real.conftest import Person

from openbits import BitsError, Client, Job, JobType, Priority, TokenFlags

SERVER_UNAVAILABLE = 0x800706BA
NOT_FOUND = 0x80200001
HANDLE = 0x80070006
PATIENCE_SECONDS = 20.0
PASSWORD = "open sesame"


@dataclass(frozen=True, slots=True)
class Act:
    """One call: the verb, the display name of the job, the rest."""

    verb: str
    job: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it: `ok` with a value, `error` with the HRESULT as value, `lost`."""

    act: Act
    kind: str
    value: Any = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """A notice that arrived: its job, its number, and the number of the last event when it was sent."""

    job_id: str
    notice_seq: int
    seq: int


class Actor:
    """The campaign's end: tells the process what to do and hears what came of it."""

    def __init__(self, user: Any, socket: str, helper: str) -> None:
        self.user = user
        self.uid: int = user.uid
        groups = list(user.groups) if isinstance(user, Person) else os.getgrouplist(user.name, user.gid)
        self._here, there = multiprocessing.Pipe()
        self._late: list[Taken] = []
        self.pid = os.fork()
        if self.pid == 0:
            self._here.close()
            _run(user, groups, lambda: _Player(socket, helper).serve(there))
        there.close()

    def begin(self, acts: Sequence[Act]) -> None:
        """Have the acts done, one after the other; `end` brings the answers."""
        self._here.send(list(acts))

    def has_ended(self) -> bool:
        """True if `end` does not have to wait."""
        return self._here.poll(0)

    def end(self) -> tuple[list[Answer], list[Taken]]:
        """The answers, and the notices since the last time."""
        result: tuple[list[Answer], list[Taken]] = self._here.recv()
        return result

    def do(self, *acts: Act) -> list[Answer]:
        """Begin and end; the notices are there with the next `notices`."""
        self.begin(acts)
        answers, taken = self.end()
        self._late += taken
        return answers

    def notices(self) -> list[Taken]:
        """What was taken since the last time."""
        self.do()
        late, self._late = self._late, []
        return late

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):  # it may have crashed
            self._here.send(None)
        os.waitpid(self.pid, 0)


def _run(user: Any, groups: list[int], body: Any) -> NoReturn:
    try:
        os.setgroups(groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        body()
    except BaseException:  # noqa: BLE001  # it must not return into the code of the campaign
        traceback.print_exc()
    finally:
        os._exit(0)


class _Player:
    """The actor's own end."""

    def __init__(self, socket: str, helper: str) -> None:
        self._socket = socket
        self._helper = helper
        self._client: Client | None = None
        self._jobs: dict[str, Job] = {}
        self._token: Any = None
        self._ear = _Ear(socket)

    def serve(self, campaign: "multiprocessing.connection.Connection[Any, Any]") -> None:
        while (acts := campaign.recv()) is not None:
            campaign.send(([self._perform(act) for act in acts], self._ear.taken_since()))

    def _perform(self, act: Act) -> Answer:
        try:
            self._connect()
            return Answer(act, "ok", getattr(self, f"_{act.verb}")(act.job, **act.arguments))
        except BitsError as error:
            if error.hresult == SERVER_UNAVAILABLE:
                return Answer(act, "lost", text=str(error))
            return Answer(act, "error", error.hresult, str(error))

    def _connect(self) -> None:
        """Whoever finds no service waits for it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if self._client is None:
                    self._client = Client(socket=self._socket)
                self._client.reconnect()
            except BitsError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def _job(self, name: str) -> Job:
        assert self._client is not None
        if name not in self._jobs:
            for info in self._client.job_infos():
                if info["properties"]["display_name"] == name:
                    self._jobs[name] = self._client.job(info["job_id"])
                    break
            else:
                raise BitsError(NOT_FOUND, f"no job of mine is called {name}")
        return self._jobs[name]

    # -- verbs --------------------------------------------------------------------------------------------------------

    def _create(self, name: str, kind: str = "download") -> str:
        assert self._client is not None
        self._jobs[name] = self._client.create_job(name, type=JobType[kind.upper()])
        return str(self._jobs[name].id)

    def _open(self, name: str, job_id: str) -> None:
        """Obtain the interface, of somebody else's job too."""
        assert self._client is not None
        self._jobs[name] = self._client.job(job_id)

    def _add(self, name: str, files: list[tuple[str, str]], parts: list[tuple[int, int | None]] | None = None) -> None:
        """`parts`: what the one file is made of."""
        if parts is None:
            self._job(name).add_files(files)
        else:
            ((url, path),) = files
            self._job(name).add_file_with_ranges(url, path, parts)

    def _want(self, name: str, parts: list[tuple[int, int]]) -> None:
        """Have these parts of the first file fetched now."""
        self._job(name).request_ranges(0, parts)

    def _set(self, name: str, **values: object) -> None:
        if "priority" in values:
            values["priority"] = Priority[str(values["priority"]).upper()]
        self._job(name).set(**values)

    def _suspend(self, name: str) -> None:
        self._job(name).suspend()

    def _resume(self, name: str) -> None:
        self._job(name).resume()

    def _cancel(self, name: str) -> int:
        return self._job(name).cancel()

    def _complete(self, name: str) -> int:
        return self._job(name).complete()

    def _help(self, name: str) -> None:
        """Set the helper token, logging on if there is none or the service that gave it is gone."""
        assert self._client is not None
        job = self._job(name)
        for _ in range(2):
            is_new = self._token is None
            if is_new:
                self._token = self._client.logon_user(self._helper, PASSWORD)
            try:
                with self._token.impersonate():
                    job.set_helper_token()
            except BitsError as error:
                self._token.close()
                self._token = None
                if is_new or error.hresult == SERVER_UNAVAILABLE:
                    raise
            else:
                return

    def _flags(self, name: str, flags: int) -> None:
        self._job(name).set_helper_token_flags(TokenFlags(flags))

    def _clear(self, name: str) -> None:
        self._job(name).clear_helper_token()

    def _notify(self, name: str) -> None:
        self._ear.listen_for(str(self._job(name).id))

    def _command(self, name: str, program: str) -> None:
        self._job(name).set_notify_command_line(program)

    def _await(self, name: str, states: list[str], seconds: float, saved_bytes: int = 1 << 62) -> str:
        """Wait a while for a state, or for so many bytes."""
        deadline = time.monotonic() + seconds
        while True:
            info = self._job(name).info()
            is_there = info["state"] in states or info["bytes_transferred"] >= saved_bytes
            if is_there or time.monotonic() > deadline:
                return info["state"]
            time.sleep(0.01)

    def _begun(self, name: str) -> None:
        """Wait a while for the name of a temporary file."""
        deadline = time.monotonic() + 2.0
        while not any(file["temporary_name"] for file in self._job(name).files()) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _renew(self, _: str, url: str) -> None:
        """The file changes on its server."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        connection.request("PUT", parts.path)
        connection.getresponse().read()
        connection.close()


class _Ear(threading.Thread):
    """Takes the notices of the actor's jobs; after a restart it registers anew, as every client has to."""

    def __init__(self, socket: str) -> None:
        super().__init__(daemon=True)
        self._socket = socket
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._taken: list[Taken] = []
        self.start()

    def listen_for(self, job_id: str) -> None:
        with self._lock:
            self._wanted.add(job_id)

    def taken_since(self) -> list[Taken]:
        with self._lock:
            taken, self._taken = self._taken, []
        return taken

    def run(self) -> None:
        while True:
            try:
                with Client(socket=self._socket) as client, client.events() as stream:
                    self._listen(client, stream, set())
            except BitsError:
                time.sleep(0.05)

    def _listen(self, client: Client, stream: Any, registered: set[str]) -> None:
        while True:
            with self._lock:
                new = self._wanted - registered
            for job_id in new:
                registered.add(job_id)
                try:
                    client.job(job_id).set_subscriber(stream.subscriber)
                except BitsError as error:
                    if error.hresult == SERVER_UNAVAILABLE:
                        raise
                    with self._lock:  # it is over
                        self._wanted.discard(job_id)
            event = stream.next(0.1)
            if event is not None and event["kind"] == "notice":
                notice_seq = event["notice_seq"]
                with self._lock:
                    self._taken.append(Taken(event["job_id"], notice_seq, event["seq"]))
                answer = {"job_id": event["job_id"], "notice_seq": notice_seq, "hresult": 0}
                try:
                    client.call("AcknowledgeNotice", answer)
                except BitsError as error:
                    if error.hresult == SERVER_UNAVAILABLE:
                        raise
