"""Every method of the base interfaces in every state, against the running service (jobs.md §3.3, §7).

The table is typed from the specification. A cell says what the call gives and in which state the job is afterwards:
`ok`, `part` (BG_S_PARTIAL_COMPLETE), `inv` (BG_E_INVALID_STATE), `none` (BG_E_ERROR_INFORMATION_UNAVAILABLE), `gone`
(BG_E_NOT_FOUND), `noif` (E_NOINTERFACE); then `>STATE` if the state changes, `*` if the call may have the
scheduler move the job.
"""

# ruff: noqa: E501, N802, N803  # the table; names of the interface

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.stories import running_service
from tests.transfer.faultserver import SILENCE, FaultServer, Request, Step, head, size_only, whole

from openbits import com

pytestmark = pytest.mark.root

TABLE = """
                           SUSPENDED     QUEUED        CONNECTING    TRANSFERRING  TRANSIENT_ERROR ERROR        TRANSFERRED   ACKNOWLEDGED CANCELLED
Suspend                    ok            ok>SUSPENDED  ok>SUSPENDED  ok>SUSPENDED  ok>SUSPENDED  ok             ok            inv          inv
Resume                     ok>QUEUED     ok            ok            ok            ok>QUEUED     ok>QUEUED      ok            inv          inv
Cancel                     ok>CANCELLED  ok>CANCELLED  ok>CANCELLED  ok>CANCELLED  ok>CANCELLED  ok>CANCELLED   ok>CANCELLED  inv          inv
Complete                   part>ACKNOWLEDGED part>ACKNOWLEDGED part>ACKNOWLEDGED part>ACKNOWLEDGED part>ACKNOWLEDGED part>ACKNOWLEDGED ok>ACKNOWLEDGED inv inv
AddFile                    ok            ok            ok            ok            ok            ok>SUSPENDED   ok>SUSPENDED  inv          inv
AddFileSet                 ok            ok            ok            ok            ok            ok>SUSPENDED   ok>SUSPENDED  inv          inv
SetPriority                ok            ok            ok>QUEUED     ok>QUEUED     ok            ok             ok            inv          inv
SetProxySettings           ok            ok            ok*           ok*           ok            ok             ok            inv          inv
TakeOwnership              ok            ok            ok*           ok*           ok            ok             ok            inv          inv
SetDisplayName             ok            ok            ok            ok            ok            ok             ok            inv          inv
SetDescription             ok            ok            ok            ok            ok            ok             ok            inv          inv
SetNotifyFlags             ok            ok            ok            ok            ok            ok             ok            inv          inv
SetNotifyInterface         ok            ok            ok            ok            ok            ok             ok            inv          inv
SetNotifyInterface(NULL)   ok            ok            ok            ok            ok            ok             ok            inv          inv
SetMinimumRetryDelay       ok            ok            ok            ok            ok            ok             ok            inv          inv
SetNoProgressTimeout       ok            ok            ok            ok            ok            ok             ok            inv          inv
EnumFiles                  ok            ok            ok            ok            ok            ok             ok            ok           ok
GetId                      ok            ok            ok            ok            ok            ok             ok            ok           ok
GetType                    ok            ok            ok            ok            ok            ok             ok            ok           ok
GetProgress                ok            ok            ok            ok            ok            ok             ok            ok           ok
GetTimes                   ok            ok            ok            ok            ok            ok             ok            ok           ok
GetState                   ok            ok            ok            ok            ok            ok             ok            ok           ok
GetError                   none          none          none          none          ok            ok             none          none         none
GetOwner                   ok            ok            ok            ok            ok            ok             ok            ok           ok
GetDisplayName             ok            ok            ok            ok            ok            ok             ok            ok           ok
GetDescription             ok            ok            ok            ok            ok            ok             ok            ok           ok
GetPriority                ok            ok            ok            ok            ok            ok             ok            ok           ok
GetNotifyFlags             ok            ok            ok            ok            ok            ok             ok            ok           ok
GetNotifyInterface         ok            ok            ok            ok            ok            ok             ok            ok           ok
GetMinimumRetryDelay       ok            ok            ok            ok            ok            ok             ok            ok           ok
GetNoProgressTimeout       ok            ok            ok            ok            ok            ok             ok            ok           ok
GetErrorCount              ok            ok            ok            ok            ok            ok             ok            ok           ok
GetProxySettings           ok            ok            ok            ok            ok            ok             ok            ok           ok
QueryInterface             ok            ok            ok            ok            ok            ok             ok            ok           ok
QueryInterface(Job2)       noif          noif          noif          noif          noif          noif           noif          noif         noif
Manager.GetJob             ok            ok            ok            ok            ok            ok             ok            gone         gone
Manager.EnumJobs           ok            ok            ok            ok            ok            ok             ok            gone         gone
File.GetRemoteName         ok            ok            ok            ok            ok            ok             ok            ok           ok
File.GetLocalName          ok            ok            ok            ok            ok            ok             ok            ok           ok
File.GetProgress           ok            ok            ok            ok            ok            ok             ok            ok           ok
Files.Next                 ok            ok            ok            ok            ok            ok             ok            ok           ok
Files.Skip                 ok            ok            ok            ok            ok            ok             ok            ok           ok
Files.Reset                ok            ok            ok            ok            ok            ok             ok            ok           ok
Files.Clone                ok            ok            ok            ok            ok            ok             ok            ok           ok
Files.GetCount             ok            ok            ok            ok            ok            ok             ok            ok           ok
Error.GetError             none          none          none          none          ok            ok             none          none         none
Error.GetFile              none          none          none          none          ok            ok             none          none         none
Error.GetErrorDescription  none          none          none          none          ok            ok             none          none         none
Error.GetErrorContextDescription none    none          none          none          ok            ok             none          none         none
Error.GetProtocol          none          none          none          none          ok            ok             none          none         none
"""

CODES = {
    "ok": 0,
    "part": 0x00200017,
    "inv": 0x80200002,
    "none": 0x8020000F,
    "gone": 0x80200001,
    "noif": 0x80004002,
}

STATES, *ROWS = [line.split() for line in TABLE.strip().splitlines()]

OWN_JOB = frozenset(
    {"Suspend", "Resume", "Cancel", "Complete", "AddFile", "AddFileSet", "SetPriority", "SetProxySettings"}
    | {"TakeOwnership", "SetNotifyInterface"}
)
"""Methods that may end what other cells of the column need: each cell of theirs has a job of its own."""

CELLS = [(method, state, cell) for method, *cells in ROWS for state, cell in zip(STATES, cells, strict=True)]

PATIENT = "[clocks]\nfirst_byte_seconds = 600\nfloor_seconds = 600\n"
"""A silent server is no failure as long as these tests run."""

BODY = b"x" * 1000
ENGLISH = 0x0409


def _answer(request: Request) -> list[Step]:
    """What each path does to its job."""
    match request.target:
        case "/stall":
            return [SILENCE]
        case "/half" if request.method == "GET":
            return [head("200 OK", f"Content-Length: {len(BODY)}"), BODY[:10], SILENCE]
        case "/later":
            return [head("503 Service Unavailable", "Retry-After: 3600", "Content-Length: 0")]
        case "/missing":
            return [head("404 Not Found", "Content-Length: 0")]
    return whole(BODY) if request.method == "GET" else size_only(BODY)


PATHS = {
    "CONNECTING": "/stall",
    "TRANSFERRING": "/half",
    "TRANSIENT_ERROR": "/later",
    "ERROR": "/missing",
}


class Bench:
    """The queue with jobs in all states: a shared one for each, and one for each cell that needs its own."""

    def __init__(self, server: FaultServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.manager = com.BackgroundCopyManager()
        self._blocker = self._begin("TRANSFERRING", "blocker", com.BG_JOB_PRIORITY_HIGH)
        self.jobs = {(method, state): self._begin(state, method) for method in ("", *OWN_JOB) for state in STATES}
        for (_, state), job in self.jobs.items():
            self._finish(state, job)

    def job(self, method: str, state: str) -> com.IBackgroundCopyJob:
        return self.jobs[method if method in OWN_JOB else "", state]

    def pair(self, job: com.IBackgroundCopyJob, path: str = "/ok") -> tuple[str, str]:
        return self.server.url(path), str(self.folder / f"{job.GetId()}{path.replace('/', '-')}")

    def _begin(self, state: str, name: str, priority: int = com.BG_JOB_PRIORITY_FOREGROUND) -> com.IBackgroundCopyJob:
        """Without a competitor a foreground job runs at once; a LOW one waits behind the blocker, which is HIGH."""
        job = self.manager.CreateJob(f"{state} {name}", com.BG_JOB_TYPE_DOWNLOAD).Job
        job.AddFile(*self.pair(job, PATHS.get(state, "/first")))
        job.SetPriority(com.BG_JOB_PRIORITY_LOW if state == "QUEUED" else priority)
        if state not in {"SUSPENDED", "CANCELLED"}:
            job.Resume()
        return job

    def _finish(self, state: str, job: com.IBackgroundCopyJob) -> None:
        if state == "ACKNOWLEDGED":
            reaches(job, "TRANSFERRED")
            assert job.Complete() == com.S_OK
        elif state == "CANCELLED":
            assert job.Cancel() == com.S_OK
        reaches(job, state)
        if state in {"SUSPENDED", "TRANSIENT_ERROR", "ERROR", "TRANSFERRED"}:
            job.SetPriority(com.BG_JOB_PRIORITY_LOW)  # so that Resume leaves it QUEUED


def state_of(job: com.IBackgroundCopyJob) -> str:
    return job.GetState().name.removeprefix("BG_JOB_STATE_")


def reaches(job: com.IBackgroundCopyJob, state: str) -> None:
    deadline = time.monotonic() + 20
    while state_of(job) != state:
        assert time.monotonic() < deadline, f"{job.GetDisplayName()} is {state_of(job)}"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    server = FaultServer()
    for method in ("HEAD", "GET"):
        server.answer(method, _answer)
    with (
        running_service(PATIENT) as service,
        tempfile.TemporaryDirectory(prefix="openbits-test-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("OPENBITS_SOCKET", str(service.socket))
        yield Bench(server, Path(folder))
        com.CoUninitialize()
    server.close()


class Recorder(com.IBackgroundCopyCallback):
    """Counts what is told of each job."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []
        self._lock = threading.Lock()

    def JobTransferred(self, pJob: com.IBackgroundCopyJob) -> int:
        return self._note("JobTransferred", pJob)

    def JobError(self, pJob: com.IBackgroundCopyJob, pError: com.IBackgroundCopyError) -> int:
        assert pError.GetError().Code == 0x80190194
        return self._note("JobError", pJob)

    def JobModification(self, pJob: com.IBackgroundCopyJob, dwReserved: int) -> int:
        assert dwReserved == 0
        return self._note("JobModification", pJob)

    def _note(self, method: str, job: com.IBackgroundCopyJob) -> int:
        with self._lock:
            self.calls.append((method, job.GetId()))
        return com.S_OK


def _call(bench: Bench, job: com.IBackgroundCopyJob, method: str) -> Any:
    """Call it; the result, or raise."""
    owner, _, name = method.rpartition(".")
    if owner == "Manager":
        if name == "GetJob":
            return bench.manager.GetJob(job.GetId())
        jobs = bench.manager.EnumJobs(0)
        return com.S_OK if job.GetId() in {one.GetId() for one in jobs.Next(jobs.GetCount())} else com.BG_E_NOT_FOUND
    if owner == "File":
        return getattr(job.EnumFiles().Next(1)[0], name)()
    if owner == "Files":
        return getattr(job.EnumFiles(), name)(*{"Next": (1,), "Skip": (1,)}.get(name, ()))
    if owner == "Error":
        return getattr(job.GetError(), name)(*((ENGLISH,) if "Description" in name else ()))
    arguments: dict[str, tuple[Any, ...]] = {
        "AddFile": bench.pair(job),
        "AddFileSet": ([com.BG_FILE_INFO(RemoteName=bench.pair(job)[0], LocalName=bench.pair(job)[1])],),
        "SetPriority": (com.BG_JOB_PRIORITY_LOW,),
        "SetProxySettings": (com.BG_JOB_PROXY_USAGE_NO_PROXY, None, None),
        "SetDisplayName": ("new",),
        "SetDescription": ("new",),
        "SetNotifyFlags": (com.BG_NOTIFY_JOB_ERROR,),
        "SetNotifyInterface": (Recorder(),),
        "SetNotifyInterface(NULL)": (None,),
        "SetMinimumRetryDelay": (700,),
        "SetNoProgressTimeout": (900_000,),
        "QueryInterface": (com.IBitsTokenOptions,),
        "QueryInterface(Job2)": (com.IBackgroundCopyJob2,),
    }
    return getattr(job, method.partition("(")[0])(*arguments.get(method, ()))


@pytest.mark.parametrize(("method", "state", "cell"), CELLS)
def test_a_method_in_a_state(bench: Bench, method: str, state: str, cell: str) -> None:
    job = bench.job(method, state)
    assert state_of(job) == state
    expected, _, after = cell.removesuffix("*").partition(">")
    try:
        result = _call(bench, job, method)
    except com.COMError as error:
        result = error.hresult
    else:
        result = result if isinstance(result, int) and not result.__class__.__name__.startswith("BG_") else com.S_OK
        result = com.S_OK if method.rpartition(".")[2].startswith("Get") and method != "Manager.GetJob" else result
    assert result == CODES[expected]
    if not cell.endswith("*"):
        assert state_of(job) == (after or state)


def test_the_table_has_every_method_of_the_interfaces() -> None:
    """50 rows in 9 states: 450 cells; the callback's three methods make 27 more below."""
    rows = {method for method, _, _ in CELLS}
    interfaces = {
        "": com.IBackgroundCopyJob,
        "Manager.": com.IBackgroundCopyManager,
        "File.": com.IBackgroundCopyFile,
        "Files.": com.IEnumBackgroundCopyFiles.__mro__[1],
        "Error.": com.IBackgroundCopyError,
    }
    wanted = {
        f"{prefix}{name}" for prefix, interface in interfaces.items() for name in vars(interface) if name[0].isupper()
    }
    without_a_job = {"Manager.CreateJob", "Manager.GetErrorDescription", "IID", *(f"{one}IID" for one in interfaces)}
    assert wanted - without_a_job <= rows
    assert (len(rows), len(CELLS)) == (50, 450)


CALLBACKS = """
                SUSPENDED QUEUED CONNECTING TRANSFERRING TRANSIENT_ERROR ERROR TRANSFERRED ACKNOWLEDGED CANCELLED
JobTransferred  -         -      -          -            -               -     yes         -            -
JobError        -         -      -          -            -               yes   -           -            -
JobModification yes       yes    yes        yes          yes             yes   yes         -            -
"""


def test_who_is_called_in_a_state(bench: Bench, eventually: Callable[..., object]) -> None:
    """Registered late, the terminal state is told; a change of a property is a modification (jobs.md §12)."""
    callback = Recorder()
    jobs = {bench.job("", state).GetId(): (state, bench.job("", state)) for state in STATES}
    for state, job in jobs.values():
        if state not in {"ACKNOWLEDGED", "CANCELLED"}:
            job.SetNotifyFlags(com.BG_NOTIFY_JOB_TRANSFERRED | com.BG_NOTIFY_JOB_ERROR | com.BG_NOTIFY_JOB_MODIFICATION)
            job.SetNotifyInterface(callback)
            assert job.GetNotifyInterface() is callback
            job.SetDescription("something to tell")
    head_line, *rows = [line.split() for line in CALLBACKS.strip().splitlines()]
    expected = {
        (row[0], state) for row in rows for state, cell in zip(head_line, row[1:], strict=True) if cell == "yes"
    }
    assert len(rows) * len(head_line) == 27

    def called() -> set[tuple[str, str]]:
        return {(method, jobs[job_id][0]) for method, job_id in callback.calls}  # type: ignore[index]

    eventually(lambda: called() >= expected)
    assert called() == expected
    assert sum(method != "JobModification" for method, _ in callback.calls) == 2


def test_values_in_the_states(bench: Bench) -> None:
    """What getters say where the specification fixes it (jobs.md §1.3, §3.6, §7.2)."""
    for state in STATES:
        job = bench.job("", state)
        progress, times = job.GetProgress(), job.GetTimes()
        is_whole = state in {"TRANSFERRED", "ACKNOWLEDGED"}
        is_known = is_whole or state == "TRANSFERRING"
        assert job.GetType() == com.BG_JOB_TYPE_DOWNLOAD
        assert job.GetOwner() == "S-1-22-1-0"
        assert progress.BytesTotal == (len(BODY) if is_known else com.BG_SIZE_UNKNOWN)
        assert (progress.FilesTotal, progress.FilesTransferred) == (1, int(is_whole))
        assert (times.TransferCompletionTime is not None) == is_whole
        (file,) = job.EnumFiles().Next(2)
        assert file.GetProgress().Completed == (state == "ACKNOWLEDGED")
        assert job.QueryInterface(com.IUnknown) is job
        options = job.QueryInterface(com.IBitsTokenOptions)
        assert options.QueryInterface(com.IUnknown) is job
        assert options.QueryInterface(com.IBackgroundCopyJob).QueryInterface(com.IUnknown) is job
