"""What must hold after any crash: the promises P1 to P7 of reliability.md as checks of a running, recovered service.

Three views are held against each other and against the ledger: what the service answers, what its store says, and
what is in the users' folders. Jobs go on meanwhile, so a view may be a moment older than another: a problem counts
when it is still there after `PATIENCE_SECONDS`. What no kill can show (that a sync was made) is not here: P3 is
checked as far as the bytes behind a row go.
"""

import contextlib
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.campaigns.actors import Taken
from tests.campaigns.inbox import REPLY, Inbox
from tests.campaigns.ledger import Entry
from tests.campaigns.pages import local
from tests.real.conftest import Service
from tests.real.versions import Versions

from openbits import BitsError, Client
from openbits.api.wire import EventInfo, JobInfo
from openbits.core.model import File, Job, ReplyFile
from openbits.core.transitions import LEGAL
from openbits.store import codec

PATIENCE_SECONDS = 10.0
BAD_NEWS = re.compile(
    r"(call|attempt|filing)_crashed|InvariantBroken|store_damaged|commit_failed|was never retrieved|malformed request"
)
"""In the log of the service: a defect whatever was killed."""
LEGAL_PAIRS = {(source.name.lower(), target.name.lower()) for source, _, target in LEGAL}

Problems = Iterator[str]


def lasting(look: Callable[[], Iterable[str]]) -> list[str]:
    """The problems that are still there after a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while problems := list(look()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return problems


class History:
    """The event stream, read piece by piece over every restart: no gap, no number twice, legal paths (P4)."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.last_seq = 0
        self.states: dict[str, list[str]] = {}
        self.ended_at: dict[str, int] = {}
        """Number of the event with which a job became final."""

    def read_on(self) -> Problems:
        """Take in what happened since the last look."""
        with (
            self._service.client() as client,
            client.events(from_seq=self.last_seq, all_users=True) as events,
        ):
            newest = events.first["seq"]
            if newest < self.last_seq:
                yield f"event {self.last_seq} was told and is gone: the newest is {newest} (P1, P4)"
            while self.last_seq < newest:
                event = events.next(5)
                if event is None or event["seq"] != self.last_seq + 1:
                    yield f"event {self.last_seq + 1} is missing, there came {event} (P4)"
                    return
                self.last_seq += 1
                yield from self._take(event)

    def _take(self, event: EventInfo) -> Problems:
        states = self.states.setdefault(event["job_id"], [])
        state = str(event.get("state"))
        if not states and event["kind"] != "created":
            yield f"job {event['job_id']} begins with {event['kind']} (P4)"
        if states and states[-1] in {"acknowledged", "cancelled"} and event["kind"] != "removed":
            yield f"job {event['job_id']} is over and has the event {event['kind']} (P4)"
        if states and states[-1] != state and (states[-1], state) not in LEGAL_PAIRS:
            yield f"job {event['job_id']} went from {states[-1]} to {state} (P4)"
        if state in {"acknowledged", "cancelled"}:
            self.ended_at.setdefault(event["job_id"], event["seq"])
        states.append(state)


def stored_jobs(service: Service) -> list[Job]:
    """The queue as it is in the store, in one consistent look."""
    path = service.state / "queue" / "queue.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        store.execute("BEGIN")
        files: dict[int, list[File]] = {}
        for job, _, *row in store.execute("SELECT * FROM files ORDER BY job, file_index"):
            files.setdefault(job, []).append(codec.file_from_row(tuple(row)))
        rows = store.execute("SELECT id, job_id, document FROM jobs ORDER BY id").fetchall()
        return [codec.job_from_document(job_id, text, files.get(number, ())) for number, job_id, text in rows]


class Oracle:
    """Looks at everything after a round."""

    def __init__(self, service: Service, versions: Versions, inbox: Inbox, folders: list[Path]) -> None:
        self.service = service
        self.versions = versions
        self.inbox = inbox
        self.folders = folders
        self.history = History(service)
        self.taken: dict[str, list[Taken]] = {}
        self._log_read = 0

    def look(self, entries: list[Entry], collect: Callable[[], Iterable[Taken]]) -> list[str]:
        """All problems that last, after a round; `collect` brings the notices that arrived since the last call."""
        problems = list(self.log_problems())
        problems += self.history.read_on()
        problems += lasting(lambda: self._queue(entries))
        problems += self.history.read_on()
        for entry in entries:
            problems += self._entry_end(entry)
            problems += self._final_files(entry) if entry.kind == "download" else self._sent_files(entry)
            problems += self._reply(entry)
        problems += lasting(lambda: self._store(entries))
        problems += lasting(lambda: self._undelivered(entries))
        problems += self._notices(entries, collect)
        return problems

    def log_problems(self) -> Problems:
        """Bad news in what the service wrote since the last time."""
        with self.service.log_path.open(errors="replace") as log:
            log.seek(self._log_read)
            for line in log:
                if BAD_NEWS.search(line):
                    yield f"the log says: {line.strip()}"
            self._log_read = log.tell()

    # -- the queue as the service tells it (P1) -----------------------------------------------------------------------

    def _queue(self, entries: list[Entry]) -> Problems:
        with self.service.client() as client:
            infos = {info["job_id"]: info for info in client.job_infos(all_users=True)}
            names = {info["properties"]["display_name"]: info["job_id"] for info in infos.values()}
            for entry in entries:
                if entry.is_doubtful:
                    entry.job_id, entry.is_doubtful = names.get(entry.name), False
                info = infos.get(entry.job_id or "")
                if info is not None:
                    yield from self._listed(entry, info, client)
                elif entry.job_id is not None and entry.end is None and not entry.ends:
                    yield f"{entry.name} is lost, though it was acknowledged (P1)"
            known = {entry.job_id for entry in entries}
            for job_id, info in infos.items():
                if job_id not in known:
                    yield f"{info['properties']['display_name']} ({job_id}) is there and nobody made it (P1)"

    def _listed(self, entry: Entry, info: JobInfo, client: Client) -> Problems:
        if entry.end is not None:
            yield f"{entry.name} was {entry.end} and is back as {info['state']} (P1)"
            return
        if info["owner_uid"] != entry.uid:
            yield f"{entry.name} belongs to {info['owner_uid']} instead of {entry.uid} (P1)"
        for name, possible in entry.values.items():
            if None not in possible and info["properties"].get(name) not in possible:
                yield f"{entry.name}: {name} is {info['properties'].get(name)!r}, acknowledged was {possible} (P1)"
        if (flags := info["helper_token_flags"]) not in entry.flags:
            yield f"{entry.name}: helper token flags {flags}, acknowledged were {entry.flags} (P1, T-8)"
        if entry.is_suspended and info["state"] not in {"suspended", "error", "transferred"}:
            yield f"{entry.name} was suspended and is {info['state']} (P1)"
        may_rest = entry.was_completed or entry.may_be("on_demand_mode")  # it has all that was asked for
        if entry.is_suspended is False and info["state"] == "suspended" and not may_rest:
            yield f"{entry.name} was resumed and is suspended (P1)"
        try:
            paths = {Path(file["local_name"]) for file in client.job(info["job_id"]).files()}
        except BitsError as error:  # a job that completes itself may end now: the next look will see
            yield f"{entry.name} was listed and cannot be opened: {error} (P1)"
            return
        yield from self._added(entry, paths)

    def _added(self, entry: Entry, paths: set[Path]) -> Problems:
        """Every AddFiles that was answered, and of each other one all or nothing."""
        for doubtful in list(entry.doubtful_files):
            here = paths & doubtful.keys()
            if here and here != doubtful.keys():
                yield f"{entry.name}: of the files {sorted(doubtful)} only {sorted(here)} were added (P1)"
            entry.doubtful_files.remove(doubtful)
            entry.files |= doubtful if here else {}
        if paths != entry.files.keys():
            yield f"{entry.name} has the files {sorted(paths)} instead of {sorted(entry.files)} (P1)"

    def _entry_end(self, entry: Entry) -> Problems:
        """The end that the events tell is one that was asked for (P1), and the acknowledged one."""
        states = self.history.states.get(entry.job_id or "", [])
        told = states[-1] if states and states[-1] in {"acknowledged", "cancelled"} else None
        if told is not None and entry.end is None:
            if told not in entry.ends:
                yield f"{entry.name} is {told} and nobody asked for that (P1)"
            entry.end = told
        if entry.end is not None and entry.job_id is not None and told != entry.end:
            yield f"{entry.name} is {entry.end}, and its events end with {states[-1:]} (P1)"

    # -- what is at final names (P2, P3, P7) --------------------------------------------------------------------------

    def _final_files(self, entry: Entry) -> Problems:
        files = dict(entry.files)
        for doubtful in entry.doubtful_files:
            files |= doubtful
        for path, target in files.items():
            try:
                body, status = path.read_bytes(), path.stat()
            except FileNotFoundError:
                if entry.is_whole and path in entry.files:
                    yield f"{entry.name} is complete and {path} is missing (P3)"
                continue
            if entry.may_be("high_performance") and not entry.is_whole:
                continue  # it is written there, and left there
            if body not in self.versions_of(target):
                yield f"{path} is a mix: {self.nearest(body, target)} (P2)"
            if status.st_uid not in entry.makers:
                yield f"{path} belongs to {status.st_uid}, possible were {entry.makers} (P7)"
            if not entry.was_completed:
                yield f"{path} is published and nobody completed {entry.name} (P5)"

    def _sent_files(self, entry: Entry) -> Problems:
        """What is at the server is the local file, received once.

        The server gets a session anew only if nobody was told of the former one: then that one got nothing.
        """
        for path, target in entry.files.items():
            sent, sessions = self.inbox.files.get(target), self.inbox.received.get(target, set())
            if sent is not None and sent != path.read_bytes():
                yield f"{entry.name}: the server has {len(sent)} bytes of {path} that are others (P2)"
            if len(sessions) > 1:
                yield f"{entry.name}: the server has received {path} in {len(sessions)} sessions"
            if entry.is_whole and sent is None:
                yield f"{entry.name} is complete and the server has no {target} (P3)"

    def _reply(self, entry: Entry) -> Problems:
        """The reply is whole, and where only its identity could put it."""
        place = entry.reply_path
        if place is None:
            return
        if not place.exists():
            if entry.is_whole:
                yield f"{entry.name} is complete and {place} is missing (P3)"
            return
        if place.read_bytes() != REPLY:
            yield f"{place} is not the reply (P2)"
        if (uid := place.stat().st_uid) not in entry.makers:
            yield f"{place} belongs to {uid}, possible were {entry.makers} (P7)"
        if not entry.was_completed:
            yield f"{place} is published and nobody completed {entry.name} (P5)"

    def versions_of(self, target: str) -> list[bytes]:
        """What a local file may be."""
        return [local(target, body) for body in self.versions.bodies[target]]

    def nearest(self, body: bytes, target: str) -> str:
        """Where a body leaves each version it should be."""
        versions = self.versions_of(target)
        same = [
            next((at for at, (ours, theirs) in enumerate(zip(body, version, strict=False)) if ours != theirs), None)
            for version in versions
        ]
        return f"{len(body)} bytes, which differ from versions 1 … {len(versions)} at {same}"

    # -- what the store says (P3, P6) ---------------------------------------------------------------------------------

    def _store(self, entries: list[Entry]) -> Problems:
        jobs = stored_jobs(self.service)
        by_id = {entry.job_id: entry for entry in entries}
        known = set()
        for job in jobs:
            known |= {leftover.temporary.name for leftover in job.leftovers}
            for file in job.every_file:
                if file.temporary is not None:
                    known.add(file.temporary.name)
                    if not job.state.is_final and not job.is_completing:
                        yield from self._row(job, file, by_id.get(str(job.job_id)))
        for folder in self.folders:
            for path in folder.rglob(".BIT*"):
                if path.name not in known:
                    yield f"{path} is a temporary file that no row names (P6)"

    def _row(self, job: Job, file: File, entry: Entry | None) -> Problems:
        """The bytes that the row counts are in the file it names, and of the version it names."""
        temporary = file.temporary
        assert temporary is not None
        if not temporary.ino:
            return
        where = f"{job.properties.display_name}: {file.directory.path}/{temporary.name}"
        path = Path(file.directory.path, temporary.name)
        try:
            body, status = path.read_bytes(), path.stat()
        except FileNotFoundError:
            if file.transferred_bytes:  # else it begins again with a file of its own whenever it goes on
                yield f"{where} is missing and its row counts {file.transferred_bytes} bytes (P6)"
            return
        if status.st_uid != temporary.uid or (entry is not None and status.st_uid not in entry.makers):
            yield f"{where} belongs to {status.st_uid} (P7)"
        count = file.transferred_bytes
        if len(body) < count:
            yield f"{where} has {len(body)} bytes, its row counts {count} (P3)"
        yield from self._counted(file, body, where)

    def _counted(self, file: File, body: bytes, where: str) -> Problems:
        """What the row counts is of the version it names."""
        count = file.transferred_bytes
        if isinstance(file, ReplyFile):
            if body[:count] != REPLY[:count]:
                yield f"{where}: its {count} bytes are not of the reply (P2)"
        elif count and file.validators.etag is not None:
            target, tag = "/" + file.remote_name.rpartition("/")[2], file.validators.etag
            version = self.versions_of(target)[int(tag.strip('"')) - 1]
            for part in file.filled:
                end = part.offset + (part.length_bytes or 0)
                if body[part.offset : end] != version[part.offset : end]:
                    yield f"{where}: bytes {part.offset} to {end} are not of version {tag} (P2)"
            if body[:count] != version[:count] or (file.is_transferred and count != len(version)):
                yield f"{where}: its {count} bytes are not of version {tag}: {self.nearest(body, target)} (P2)"

    # -- notices (P5) -------------------------------------------------------------------------------------------------

    def _undelivered(self, entries: list[Entry]) -> Problems:
        """Whoever listens hears of every job that waits for him."""
        pending = {str(job.job_id): job.notice_seq for job in stored_jobs(self.service) if job.pending_notice}
        for entry in entries:
            if entry.is_listening and entry.job_id in pending:
                yield f"{entry.name}: notice {pending[entry.job_id]} is not delivered (P5)"

    def _notices(self, entries: list[Entry], collect: Callable[[], Iterable[Taken]]) -> Problems:
        jobs = {str(job.job_id): job for job in stored_jobs(self.service)}
        for notice in collect():  # after the rows: whoever takes a notice acknowledges it later
            self.taken.setdefault(notice.job_id, []).append(notice)
        for entry in entries:
            taken = self.taken.get(entry.job_id or "", [])
            job = jobs.get(entry.job_id or "")
            is_told = job is not None and job.state.name in {"TRANSFERRED", "ERROR"} and job.pending_notice is None
            is_told = is_told and (job is None or job.command_line is None or job.command_line.program != "/bin/true")
            if is_told and job is not None and job.notice_seq not in {notice.notice_seq for notice in taken}:
                yield f"{entry.name}: notice {job.notice_seq} counts as delivered and nobody took it (P5)"
            ended_at = self.history.ended_at.get(entry.job_id or "")
            if entry.end == "cancelled" and ended_at is not None:
                for notice in taken:
                    if notice.seq >= ended_at:
                        yield f"{entry.name} was cancelled at event {ended_at}, and then came {notice} (P5)"
