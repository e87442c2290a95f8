"""Every method of a job in every state, against the running service: the table of tests/conformance/states.py."""

# ruff: noqa: N802, N803  # names of the interface

import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.states import CELLS, CODES, STATES, split
from tests.real.stories import running_service
from tests.transfer.faultserver import SILENCE, FaultServer, Request, Step, head, size_only, whole

from openbits import com

pytestmark = pytest.mark.root

OWN_JOB = frozenset(
    {
        *("Suspend", "Resume", "Cancel", "Complete", "AddFile", "AddFileSet", "AddFileWithRanges", "SetPriority"),
        *("SetProxySettings", "TakeOwnership", "SetNotifyInterface", "SetPeerCachingFlags", "ReplaceRemotePrefix"),
        *("SetProperty(DYNAMIC_CONTENT)", "Http.SetSecurityFlags(CRL)", "Http.SetHttpMethod"),
        *("Http.SetClientCertificateByID", "Http.SetClientCertificateByName", "Http.SetCustomHeaders"),
        *("Http.SetServerCertificateValidationInterface", "Http.MakeCustomHeadersWriteOnly"),
        *("Token.SetHelperToken", "Token.ClearHelperToken", "Token.SetHelperTokenFlags", "File.SetRemoteName"),
        *("File.SetValidationState", "File.SetValidationState(FALSE)", "File.UpdateDownloadPosition"),
        "File.RequestFileRanges",
    }
)
"""Methods that may end what other cells of the column need: each cell of theirs has a job of its own."""

PATIENT = "[clocks]\nfirst_byte_seconds = 600\nfloor_seconds = 600\n"
"""A silent server is no failure as long as these tests run."""

BODY = b"x" * 1000
STORE = "states"
"""A store of the machine with one certificate for clients."""
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
    """The queue with a job in every state, which the cells of the column share; some get one of their own."""

    def __init__(self, server: FaultServer, folder: Path, sha1: bytes) -> None:
        self.server = server
        self.sha1 = sha1
        self.folder = folder
        self.manager = com.BackgroundCopyManager()
        self._blocker = self._begin("TRANSFERRING", "blocker", com.BG_JOB_PRIORITY_HIGH)
        self._shared = {state: self._begin(state, "shared") for state in STATES}
        for state, job in self._shared.items():
            self._finish(state, job)

    def job(self, method: str, state: str) -> com.IBackgroundCopyJob5:
        if method not in OWN_JOB:
            return self._shared[state]
        job = self._begin(state, method)
        self._finish(state, job)
        return job

    def pair(self, job: com.IBackgroundCopyJob, path: str = "/ok") -> tuple[str, str]:
        host = "later.localhost" if path == "/later" else "127.0.0.1"  # a busy server is left alone by all jobs
        return self.server.url(path, host=host), str(self.folder / f"{job.GetId()}{path.replace('/', '-')}")

    def _begin(self, state: str, name: str, priority: int = com.BG_JOB_PRIORITY_FOREGROUND) -> com.IBackgroundCopyJob5:
        """Without a competitor a foreground job runs at once; a LOW one waits behind the blocker, which is HIGH."""
        job = self.manager.CreateJob(f"{state} {name}", com.BG_JOB_TYPE_DOWNLOAD).Job
        job.AddFile(*self.pair(job, PATHS.get(state, "/first")))
        job.SetPriority(com.BG_JOB_PRIORITY_LOW if state == "QUEUED" else priority)
        if state not in {"SUSPENDED", "CANCELLED"}:
            job.Resume()
        return job.QueryInterface(com.IBackgroundCopyJob5)

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
        level = com.RPC_C_IMP_LEVEL_IMPERSONATE  # SetHelperToken takes no less
        com.CoInitializeSecurity(None, -1, None, None, com.RPC_C_AUTHN_LEVEL_PKT, level, None, com.EOAC_NONE, None)
        yield Bench(server, Path(folder), _make_certificate(service.config / "certs" / STORE))
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


def _make_certificate(store: Path) -> bytes:
    """A store with one certificate for clients; its SHA-1."""
    store.mkdir(parents=True)
    path = store / "me.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=states"]
    subprocess.run(
        [*new, "-addext", "extendedKeyUsage=clientAuth", "-keyout", "/dev/null", "-out", str(path)],
        check=True,
        capture_output=True,
    )
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(path), "-noout", "-fingerprint", "-sha1"],
        check=True,
        capture_output=True,
        text=True,
    )
    return bytes.fromhex(shown.stdout.partition("=")[2].replace(":", ""))


class Accepting(com.IBackgroundCopyServerCertificateValidationCallback):
    """Accepts every certificate."""


def _arguments(bench: Bench, job: com.IBackgroundCopyJob) -> dict[str, tuple[Any, ...]]:
    """What each method is called with."""
    pair = bench.pair(job)
    value = com.BITS_JOB_PROPERTY_VALUE
    user = com.BG_BASIC_CREDENTIALS(UserName="user", Password="word")
    part = com.BG_FILE_RANGE(InitialOffset=0, Length=5)
    return {
        "AddFile": pair,
        "AddFileSet": ([com.BG_FILE_INFO(RemoteName=pair[0], LocalName=pair[1])],),
        "AddFileWithRanges": (*pair, [part]),
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
        "QueryInterface(peers)": (com.IBitsPeerCacheAdministration,),
        "SetNotifyCmdLine": ("/bin/true", "true"),
        "SetReplyFileName": (pair[1],),
        "SetCredentials": (com.BG_AUTH_CREDENTIALS(Target=1, Scheme=1, Credentials=user),),
        "RemoveCredentials": (com.BG_AUTH_TARGET_PROXY, com.BG_AUTH_SCHEME_DIGEST),
        "ReplaceRemotePrefix": ("http://", "HTTP://"),
        "ReplaceRemotePrefix(no)": ("http://another.example/", "http://h.example/"),
        "SetFileACLFlags": (com.BG_COPY_FILE_ALL,),
        "SetPeerCachingFlags": (com.BG_JOB_DISABLE_BRANCH_CACHE,),
        "SetMaximumDownloadTime": (100_000,),
        "SetProperty(ID_COST_FLAGS)": (1, value(Dword=com.BITS_JOB_TRANSFER_POLICY_ALWAYS)),
        "SetProperty(NOTIFICATION_CLSID)": (2, value(ClsID=uuid.UUID(int=0))),
        "SetProperty(DYNAMIC_CONTENT)": (3, value(Enable=True)),
        "SetProperty(HIGH_PERFORMANCE)": (4, value(Enable=True)),
        "SetProperty(MAX_DOWNLOAD_SIZE)": (5, value(Uint64=10**9)),
        "SetProperty(USE_STORED_CREDENTIALS)": (7, value(Target=com.BG_AUTH_TARGET_PROXY)),
        "SetProperty(MINIMUM_NOTIFICATION_INTERVAL_MS)": (9, value(Dword=100)),
        "SetProperty(ON_DEMAND_MODE)": (10, value(Enable=False)),
        "GetProperty(ID_COST_FLAGS)": (1,),
        "GetProperty(NOTIFICATION_CLSID)": (2,),
        "GetProperty(DYNAMIC_CONTENT)": (3,),
        "GetProperty(HIGH_PERFORMANCE)": (4,),
        "GetProperty(MAX_DOWNLOAD_SIZE)": (5,),
        "GetProperty(USE_STORED_CREDENTIALS)": (7,),
        "GetProperty(MINIMUM_NOTIFICATION_INTERVAL_MS)": (9,),
        "GetProperty(ON_DEMAND_MODE)": (10,),
        "Http.SetClientCertificateByID": (com.BG_CERT_STORE_LOCATION_LOCAL_MACHINE, STORE, bench.sha1),
        "Http.SetClientCertificateByName": (com.BG_CERT_STORE_LOCATION_LOCAL_MACHINE, STORE, "states"),
        "Http.SetCustomHeaders": ("X-State: any\r\n",),
        "Http.SetSecurityFlags": (com.BG_SSL_IGNORE_UNKNOWN_CA,),
        "Http.SetSecurityFlags(CRL)": (com.BG_SSL_ENABLE_CRL_CHECK,),
        "Http.SetHttpMethod": ("PROPFIND",),
        "Http.SetServerCertificateValidationInterface": (Accepting(),),
        "Token.SetHelperTokenFlags": (0,),
        "File.SetRemoteName": (bench.server.url("/other"),),
        "File.SetValidationState": (True,),
        "File.SetValidationState(FALSE)": (False,),
        "File.SetProperty": (1, com.BITS_FILE_PROPERTY_VALUE(String="x")),
        "File.GetProperty": (1,),
        "File.UpdateDownloadPosition": (5,),
        "File.RequestFileRanges": ([part],),
        "Files.Next": (1,),
        "Files.Skip": (1,),
        "Error.GetErrorDescription": (ENGLISH,),
        "Error.GetErrorContextDescription": (ENGLISH,),
    }


def _owner_of(job: com.IBackgroundCopyJob, prefix: str) -> Any:
    """The object that has the methods of a prefix."""
    match prefix:
        case "Http":
            return job.QueryInterface(com.IBackgroundCopyJobHttpOptions3)
        case "Token":
            return job.QueryInterface(com.IBitsTokenOptions)
        case "File":
            return job.EnumFiles().Next(1)[0].QueryInterface(com.IBackgroundCopyFile6)
        case "Files":
            return job.EnumFiles()
        case "Error":
            return job.GetError()
    return job


def _call(bench: Bench, job: com.IBackgroundCopyJob, method: str) -> int:
    """Call it; what it answers."""
    prefix, name, _ = split(method)
    if method == "Manager.GetJob":
        bench.manager.GetJob(job.GetId())
        return com.S_OK
    if method == "Manager.EnumJobs":
        jobs = bench.manager.EnumJobs(0)
        return com.S_OK if job.GetId() in {one.GetId() for one in jobs.Next(jobs.GetCount())} else com.BG_E_NOT_FOUND
    result = getattr(_owner_of(job, prefix), name)(*_arguments(bench, job).get(method, ()))
    is_value = name.startswith(("Get", "Is", "Enum", "Query", "Next", "Clone"))
    return com.S_OK if is_value else result


def _id(cell: tuple[str, str, str]) -> str:
    return f"{cell[0]}-{cell[1]}"


@pytest.mark.parametrize("cell", CELLS, ids=_id)
def test_a_method_in_a_state(bench: Bench, cell: tuple[str, str, str]) -> None:
    method, state, wanted = cell
    job = bench.job(method, state)
    assert state_of(job) == state
    expected, _, after = wanted.removesuffix("*").partition(">")
    text = ""
    try:
        result = _call(bench, job, method)
    except com.COMError as error:
        result, text = error.hresult, str(error)
    symbol, code = CODES[expected]
    assert result == code, f"{text or result} instead of {symbol}"
    if not wanted.endswith("*"):
        assert state_of(job) == (after or state)
    if method in OWN_JOB and state_of(job) not in {"ACKNOWLEDGED", "CANCELLED"}:
        job.Cancel()


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
        unknown = job.QueryInterface(com.IUnknown)
        options = job.QueryInterface(com.IBitsTokenOptions)
        assert options.QueryInterface(com.IUnknown) is unknown
        assert options.QueryInterface(com.IBackgroundCopyJob).QueryInterface(com.IUnknown) is unknown
