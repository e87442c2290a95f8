"""Arguments of the job interfaces and the manager: NULL, undefined, at the limit and beyond (jobs.md §2.3, §7, §8.1).

Those of the HTTP options and of credentials are in test_com_http_options.
"""

import secrets
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, run_as
from tests.real.stories import real_user, running_service

from openbits import BitsError, com
from openbits.core import codes

pytestmark = pytest.mark.root

S_OK = 0
E_NOTIMPL = 0x80004001
E_ACCESSDENIED = 0x80070005
E_INVALIDARG = 0x80070057
STRING_TOO_LONG = 0x80200021
PROXY_LIST_TOO_LARGE, BYPASS_LIST_TOO_LARGE = 0x80200018, 0x80200019
FILENAME_TOO_LONG = 0x800700CE
INVALID_STATE, TOO_MANY_FILES, WITH_CUSTOM_METHOD = 0x80200002, 0x8020001C, 0x80200071
INVALID_RANGE, OVERLAPPING_RANGES = 0x8020002B, 0x8020002C
UNKNOWN_PROPERTY_ID, MAX_DOWNLOAD_SIZE_INVALID, STORED_NOT_SUPPORTED = 0x80200057, 0x80200063, 0x80200066

OVERRIDE, NO_PROXY, PRECONFIG, AUTODETECT = 2, 1, 0, 3


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBITS_SOCKET", str(made.socket))
        yield made
        com.CoUninitialize()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="openbits-test-") as made:
        yield Path(made)


@pytest.fixture
def manager(running: Service) -> com.BackgroundCopyManager:
    assert running.pid
    return com.BackgroundCopyManager()


@pytest.fixture
def job(manager: com.BackgroundCopyManager) -> Iterator[com.IBackgroundCopyJob5]:
    made = manager.CreateJob("limits", com.BG_JOB_TYPE_DOWNLOAD).Job
    yield made.QueryInterface(com.IBackgroundCopyJob5)
    made.Cancel()


def code_of(call: Callable[..., Any], *arguments: Any) -> int:
    """HRESULT of a call; S_OK for whatever succeeds."""
    try:
        call(*arguments)
    except com.COMError as error:
        return error.hresult
    return S_OK


def url(length: int) -> str:
    """A URL of so many characters in segments that are short enough."""
    start = "http://h.example/"
    return start + ("a" * 199 + "/") * ((length - len(start)) // 200) + "b" * ((length - len(start)) % 200)


def part(offset: Any, length: Any) -> com.BG_FILE_RANGE:
    return com.BG_FILE_RANGE(InitialOffset=offset, Length=length)


def one(**member: Any) -> com.BITS_JOB_PROPERTY_VALUE:
    return com.BITS_JOB_PROPERTY_VALUE(**member)


OF_A_JOB: list[tuple[str, tuple[Any, ...], int]] = [
    ("SetDisplayName", ("n" * 256,), S_OK),
    ("SetDisplayName", ("n" * 257,), STRING_TOO_LONG),
    ("SetDisplayName", ("",), S_OK),
    ("SetDisplayName", (None,), E_INVALIDARG),
    ("SetDisplayName", (5,), E_INVALIDARG),
    ("SetDescription", ("d" * 1024,), S_OK),
    ("SetDescription", ("d" * 1025,), STRING_TOO_LONG),
    ("SetDescription", ("\U0001f300" * 1024,), S_OK),
    ("SetDescription", (None,), E_INVALIDARG),
    ("SetPriority", (0,), S_OK),
    ("SetPriority", (3,), S_OK),
    ("SetPriority", (4,), E_NOTIMPL),
    ("SetPriority", (-1,), E_NOTIMPL),
    ("SetPriority", (None,), E_INVALIDARG),
    ("SetNotifyFlags", (0,), S_OK),
    ("SetNotifyFlags", (0x3F,), S_OK),
    ("SetNotifyFlags", (0x40,), E_NOTIMPL),
    ("SetNotifyFlags", (0xFFFFFFFF,), E_NOTIMPL),
    ("SetNotifyFlags", (None,), E_INVALIDARG),
    ("SetNotifyFlags", ("3",), E_INVALIDARG),
    ("SetNotifyInterface", (object(),), 0x80004002),
    ("SetMinimumRetryDelay", (0,), S_OK),
    ("SetMinimumRetryDelay", (0xFFFFFFFF,), S_OK),
    ("SetMinimumRetryDelay", (0x100000000,), E_INVALIDARG),
    ("SetMinimumRetryDelay", (-1,), E_INVALIDARG),
    ("SetMinimumRetryDelay", (None,), E_INVALIDARG),
    ("SetNoProgressTimeout", (0xFFFFFFFF,), S_OK),
    ("SetNoProgressTimeout", (0x100000000,), E_INVALIDARG),
    ("SetNoProgressTimeout", (None,), E_INVALIDARG),
    ("SetProxySettings", (PRECONFIG, None, None), S_OK),
    ("SetProxySettings", (NO_PROXY, None, None), S_OK),
    ("SetProxySettings", (AUTODETECT, None, None), S_OK),
    ("SetProxySettings", (OVERRIDE, "p:3128", None), S_OK),
    ("SetProxySettings", (OVERRIDE, "p" * 4_001, "h" * 4_001), S_OK),
    ("SetProxySettings", (OVERRIDE, "p" * 32_000, "h" * 32_000), S_OK),
    ("SetProxySettings", (OVERRIDE, "p" * 32_001, None), PROXY_LIST_TOO_LARGE),
    ("SetProxySettings", (OVERRIDE, "p", "h" * 32_001), BYPASS_LIST_TOO_LARGE),
    ("SetProxySettings", (OVERRIDE, None, None), E_INVALIDARG),
    ("SetProxySettings", (OVERRIDE, None, "h"), E_INVALIDARG),
    ("SetProxySettings", (NO_PROXY, "p", None), E_INVALIDARG),
    ("SetProxySettings", (NO_PROXY, "", None), E_INVALIDARG),
    ("SetProxySettings", (PRECONFIG, None, "h"), E_INVALIDARG),
    ("SetProxySettings", (AUTODETECT, None, ""), E_INVALIDARG),
    ("SetProxySettings", (4, None, None), E_NOTIMPL),
    ("SetProxySettings", (None, None, None), E_INVALIDARG),
    ("AddFileSet", (None,), E_INVALIDARG),
    ("AddFileSet", ([],), E_INVALIDARG),
    ("AddFileSet", ([None],), E_INVALIDARG),
    ("AddFile", (None, "/f"), E_INVALIDARG),
    ("AddFile", ("http://h.example/f", None), E_INVALIDARG),
    ("AddFile", ("http://h.example/f", "relative"), E_INVALIDARG),
    ("AddFile", ("http://h.example/f", ""), E_INVALIDARG),
    ("AddFile", ("", "/f"), E_INVALIDARG),
    ("AddFile", ("ftp://h.example/f", "/f"), E_INVALIDARG),
    ("AddFile", ("http://h.example/f", "/no/such/folder/f"), 0x80070003),
    ("AddFile", (url(2201), "/f"), E_INVALIDARG),
    ("AddFile", ("http://h.example/" + "s" * 261, "/f"), E_INVALIDARG),
    ("AddFile", ("http://h.example/f", "/" + "n" * 256), FILENAME_TOO_LONG),
    ("AddFile", ("http://h.example/f", "/n" * 2048), FILENAME_TOO_LONG),
    ("SetNotifyCmdLine", ("/" + "p" * 259, None), S_OK),
    ("SetNotifyCmdLine", ("/" + "p" * 260, None), STRING_TOO_LONG),
    ("SetNotifyCmdLine", ("/bin/true", "p" * 4000), S_OK),
    ("SetNotifyCmdLine", ("/bin/true", "p" * 4001), STRING_TOO_LONG),
    ("SetNotifyCmdLine", (None, "true"), E_INVALIDARG),
    ("SetNotifyCmdLine", ("true", "true"), E_INVALIDARG),
    ("SetNotifyCmdLine", (None, None), S_OK),
    ("SetNotifyCmdLine", (5, None), E_INVALIDARG),
    ("SetReplyFileName", ("/srv/reply",), E_NOTIMPL),
    ("SetCredentials", (None,), E_INVALIDARG),
    ("RemoveCredentials", (None, 1), E_INVALIDARG),
    ("RemoveCredentials", (1, None), E_INVALIDARG),
    ("ReplaceRemotePrefix", (None, "http://h/"), E_INVALIDARG),
    ("ReplaceRemotePrefix", ("http://h/", None), E_INVALIDARG),
    ("ReplaceRemotePrefix", ("", "http://h/"), E_INVALIDARG),
    ("ReplaceRemotePrefix", ("http://h/", ""), E_INVALIDARG),
    ("AddFileWithRanges", ("http://h.example/f", "/f", None), E_INVALIDARG),
    ("AddFileWithRanges", ("http://h.example/f", "/f", []), E_INVALIDARG),
    ("AddFileWithRanges", ("http://h.example/f", "/f", [None]), E_INVALIDARG),
    ("AddFileWithRanges", (None, "/f", [part(0, 1)]), E_INVALIDARG),
    ("AddFileWithRanges", ("http://h.example/f", "relative", [part(0, 1)]), E_INVALIDARG),
    ("AddFileWithRanges", ("http://h.example/f", "/f", [part(2**64, 1)]), E_INVALIDARG),
    ("AddFileWithRanges", ("http://h.example/f", "/f", [part(2**64 - 1, 1)]), INVALID_RANGE),
    ("AddFileWithRanges", ("http://h.example/f", "/f", [part(2**64 - 2, 2**64 - 1)]), S_OK),
    ("AddFileWithRanges", ("http://h.example/f", "/f", [part(2**64 - 2, 3)]), INVALID_RANGE),
    ("AddFileWithRanges", ("http://h.example/f", "/f", [part(0, 0)]), INVALID_RANGE),
    ("AddFileWithRanges", ("http://h.example/f", "/f", [part(0, 5), part(4, 1)]), OVERLAPPING_RANGES),
    ("AddFileWithRanges", ("http://h.example/f", "/f", [part(100, 5), part(100, 0)]), OVERLAPPING_RANGES),
    ("AddFileWithRanges", ("http://h.example/f", "/f", [part(5, 5), part(0, 5)]), S_OK),
    ("SetFileACLFlags", (15,), S_OK),
    ("SetFileACLFlags", (16,), E_INVALIDARG),
    ("SetFileACLFlags", (2**32,), E_INVALIDARG),
    ("SetFileACLFlags", (None,), E_INVALIDARG),
    ("SetPeerCachingFlags", (7,), S_OK),
    ("SetPeerCachingFlags", (8,), E_NOTIMPL),
    ("SetPeerCachingFlags", (None,), E_INVALIDARG),
    ("SetMaximumDownloadTime", (0xFFFFFFFF,), S_OK),
    ("SetMaximumDownloadTime", (0x100000000,), E_INVALIDARG),
    ("SetMaximumDownloadTime", (None,), E_INVALIDARG),
    ("SetProperty", (1, one(Dword=0xC00000FF)), S_OK),
    ("SetProperty", (1, one(Dword=0x100)), E_NOTIMPL),
    ("SetProperty", (1, one(Dword=2**32)), E_INVALIDARG),
    ("SetProperty", (2, one(ClsID=uuid.UUID(int=0))), S_OK),
    ("SetProperty", (2, one(ClsID="no GUID")), E_INVALIDARG),
    ("SetProperty", (3, one(Enable=True)), S_OK),
    ("SetProperty", (3, one(Enable="yes")), E_INVALIDARG),
    ("SetProperty", (3, one(Dword=1)), E_INVALIDARG),
    ("SetProperty", (5, one(Uint64=1)), S_OK),
    ("SetProperty", (5, one(Uint64=2**64 - 1)), S_OK),
    ("SetProperty", (5, one(Uint64=2**64)), E_INVALIDARG),
    ("SetProperty", (5, one(Uint64=0)), MAX_DOWNLOAD_SIZE_INVALID),
    ("SetProperty", (6, one(Dword=0)), UNKNOWN_PROPERTY_ID),
    ("SetProperty", (8, one(Dword=0)), UNKNOWN_PROPERTY_ID),
    ("SetProperty", (7, one(Target=1)), STORED_NOT_SUPPORTED),
    ("SetProperty", (7, one(Target=2)), S_OK),
    ("SetProperty", (9, one(Dword=0xFFFFFFFF)), S_OK),
    ("SetProperty", (9, one(Dword=2**32)), E_INVALIDARG),
    ("SetProperty", (None, one(Dword=0)), E_INVALIDARG),
    ("SetProperty", (1, None), E_INVALIDARG),
    ("GetProperty", (0,), UNKNOWN_PROPERTY_ID),
    ("GetProperty", (11,), UNKNOWN_PROPERTY_ID),
    ("GetProperty", (None,), E_INVALIDARG),
    ("QueryInterface", (None,), E_INVALIDARG),
    ("QueryInterface", (com.IBackgroundCopyManager,), 0x80004002),
]


def named(rows: list[tuple[str, tuple[Any, ...], int]]) -> list[Any]:
    """The rows with names by which docs/conformance.md finds them: method and code, and a number from the second on."""
    seen: Counter[str] = Counter()
    found = []
    for method, arguments, expected in rows:
        name = f"{method}-{codes.symbol(expected)}"
        seen[name] += 1
        found.append(pytest.param(method, arguments, expected, id=f"{name}-{seen[name]}" if seen[name] > 1 else name))
    return found


@pytest.mark.parametrize(("method", "arguments", "expected"), named(OF_A_JOB))
def test_an_argument_of_a_job(job: com.IBackgroundCopyJob5, method: str, arguments: Any, expected: int) -> None:
    assert code_of(getattr(job, method), *arguments) == expected


OF_THE_MANAGER: list[tuple[str, tuple[Any, ...], int]] = [
    ("CreateJob", ("n" * 257, 0), E_INVALIDARG),
    ("CreateJob", (None, 0), E_INVALIDARG),
    ("CreateJob", ("n", None), E_INVALIDARG),
    ("CreateJob", ("n", 3), E_NOTIMPL),
    ("CreateJob", ("n", -1), E_NOTIMPL),
    ("GetJob", (None,), E_INVALIDARG),
    ("GetJob", (uuid.uuid4(),), 0x80200001),
    ("GetJob", (uuid.UUID(int=0),), 0x80200001),
    ("EnumJobs", (0,), S_OK),
    ("EnumJobs", (1,), S_OK),
    ("EnumJobs", (2,), E_NOTIMPL),
    ("EnumJobs", (0x80000001,), E_NOTIMPL),
    ("EnumJobs", (None,), E_INVALIDARG),
    ("EnumJobs", (-1,), E_INVALIDARG),
    ("GetErrorDescription", (0x80200001, 0), S_OK),
    ("GetErrorDescription", (-2145386495, 0x0409), S_OK),
    ("GetErrorDescription", (0x8019FFFF, 0x0809), S_OK),
    ("GetErrorDescription", (0x80200001, 0x0407), 0x80070717),
    ("GetErrorDescription", (None, 0), E_INVALIDARG),
    ("GetErrorDescription", (0x80200001, None), E_INVALIDARG),
    ("GetErrorDescription", (2**32, 0), E_INVALIDARG),
    ("GetErrorDescription", ("0x80200001", 0), E_INVALIDARG),
]


@pytest.mark.parametrize(("method", "arguments", "expected"), named(OF_THE_MANAGER))
def test_an_argument_of_the_manager(
    manager: com.BackgroundCopyManager, method: str, arguments: Any, expected: int
) -> None:
    assert code_of(getattr(manager, method), *arguments) == expected


def test_the_longest_names_are_kept_whole(job: com.IBackgroundCopyJob, folder: Path) -> None:
    pairs = [
        (url(2200), str(folder / "f")),
        ("http://h.example/" + "s" * 260, str(folder / "g")),
        ("http://h.example/f", str(folder / ("n" * 255))),
    ]
    assert len(pairs[0][0]) == 2200
    for remote, local in pairs:
        assert job.AddFile(remote, local) == S_OK
    files = job.EnumFiles()
    assert [(file.GetRemoteName(), file.GetLocalName()) for file in files.Next(3)] == pairs


def test_one_bad_file_adds_none_of_a_set(job: com.IBackgroundCopyJob, folder: Path) -> None:
    good = com.BG_FILE_INFO(RemoteName="http://h.example/f", LocalName=str(folder / "f"))
    bad = com.BG_FILE_INFO(RemoteName="http://h.example/f", LocalName="relative")
    null = com.BG_FILE_INFO(RemoteName=None, LocalName="/f")  # type: ignore[arg-type]
    for last in (bad, null):
        assert code_of(job.AddFileSet, [good, last]) == E_INVALIDARG
    assert job.EnumFiles().GetCount() == 0


def test_what_was_set_is_given_back(job: com.IBackgroundCopyJob) -> None:
    assert job.GetProxySettings() == (com.BG_JOB_PROXY_USAGE_PRECONFIG, None, None)
    job.SetProxySettings(com.BG_JOB_PROXY_USAGE_OVERRIDE, "http=a:1 b", "<local> *.example.org")
    assert job.GetProxySettings() == (2, "http=a:1 b", "<local> *.example.org")
    assert job.GetProxySettings().ProxyUsage is com.BG_JOB_PROXY_USAGE.BG_JOB_PROXY_USAGE_OVERRIDE
    job.SetProxySettings(com.BG_JOB_PROXY_USAGE_OVERRIDE, "c", None)
    assert job.GetProxySettings() == (2, "c", None)
    job.SetProxySettings(com.BG_JOB_PROXY_USAGE_NO_PROXY, None, None)
    assert job.GetProxySettings() == (1, None, None)
    job.SetMinimumRetryDelay(4)
    assert job.GetMinimumRetryDelay() == 5


def test_a_refused_setting_leaves_the_earlier_one(job: com.IBackgroundCopyJob) -> None:
    job.SetProxySettings(com.BG_JOB_PROXY_USAGE_OVERRIDE, "p:1", "h")
    secret = secrets.token_hex(8)
    with pytest.raises(com.COMError) as refused:
        job.SetProxySettings(com.BG_JOB_PROXY_USAGE_OVERRIDE, f"http://me:{secret}@p", None)
    assert refused.value.hresult == E_INVALIDARG
    assert secret not in str(refused.value)
    assert job.GetProxySettings() == (2, "p:1", "h")


def test_enumerators_refuse_what_is_no_number(job: com.IBackgroundCopyJob, folder: Path) -> None:
    for name in "abc":
        job.AddFile("http://h.example/f", str(folder / name))
    files = job.EnumFiles()
    for wrong in (None, -1, "1", 2**32):
        assert code_of(files.Next, wrong) == code_of(files.Skip, wrong) == E_INVALIDARG
    assert (files.Next(0), len(files.Next(2)), files.Skip(1), files.Skip(1)) == ([], 2, com.S_OK, com.S_FALSE)
    assert (files.Clone().Next(1), files.Reset(), len(files.Next(0xFFFFFFFF))) == ([], com.S_OK, 3)


def test_enum_jobs_for_everybody(running: Service, manager: com.BackgroundCopyManager) -> None:
    """0 is one's own, also for administrators; ALL_USERS is for them alone; a snapshot of the set with live values."""
    with real_user() as user:

        def as_user() -> tuple[str, int, int, int]:
            com.CoUninitialize()
            own = com.BackgroundCopyManager()
            job_id, job = own.CreateJob("theirs", com.BG_JOB_TYPE_DOWNLOAD)
            jobs = own.EnumJobs(0)
            job.SetDisplayName("renamed")
            own.CreateJob("later", com.BG_JOB_TYPE_DOWNLOAD)
            (seen,) = jobs.Next(9)
            assert seen.GetDisplayName() == "renamed"
            return str(job_id), jobs.GetCount(), own.EnumJobs(0).GetCount(), code_of(own.EnumJobs, 1)

        theirs, count, count_later, refusal = run_as(user, as_user)
        assert (count, count_later, refusal) == (1, 2, E_ACCESSDENIED)

        def ids(flags: int) -> set[str]:
            jobs = manager.EnumJobs(flags)
            return {str(job.GetId()) for job in jobs.Next(jobs.GetCount())}

        assert theirs not in ids(0)
        assert theirs in ids(com.BG_JOB_ENUM_ALL_USERS)
        jobs = manager.EnumJobs(com.BG_JOB_ENUM_ALL_USERS)
        for job in jobs.Next(jobs.GetCount()):
            job.Cancel()
        assert {job.GetState() for job in (jobs.Reset(), jobs.Next(9))[1]} == {com.BG_JOB_STATE_CANCELLED}
    assert running.pid


def test_an_upload_has_one_file_without_ranges_or_another_name(
    manager: com.BackgroundCopyManager, folder: Path
) -> None:
    """BG_E_TOO_MANY_FILES adds nothing; what is for downloads is E_NOTIMPL; Complete has to wait (jobs.md §3.3, §4)."""
    for job_type in (com.BG_JOB_TYPE_UPLOAD, com.BG_JOB_TYPE_UPLOAD_REPLY):
        job = manager.CreateJob("upload", job_type).Job.QueryInterface(com.IBackgroundCopyJob5)
        local = folder / "source"
        local.write_bytes(b"mine")
        pair = ("http://127.0.0.1:9/upload", str(local))
        both = [com.BG_FILE_INFO(RemoteName=pair[0], LocalName=pair[1])] * 2
        assert code_of(job.AddFileSet, both) == TOO_MANY_FILES
        assert code_of(job.AddFileWithRanges, *pair, [part(0, 1)]) == E_NOTIMPL
        assert job.EnumFiles().GetCount() == 0
        assert job.AddFile(*pair) == S_OK
        assert code_of(job.AddFile, *pair) == code_of(job.AddFileSet, both[:1]) == TOO_MANY_FILES
        (file,) = job.EnumFiles().Next(9)
        assert code_of(file.QueryInterface(com.IBackgroundCopyFile2).SetRemoteName, "http://h/") == E_NOTIMPL
        assert code_of(job.ReplaceRemotePrefix, "http://", "https://") == E_NOTIMPL
        assert code_of(job.Complete) == INVALID_STATE
        assert job.Cancel() == S_OK


def test_a_method_of_ones_own_goes_with_nothing_that_needs_the_usual_one(
    manager: com.BackgroundCopyManager, job: com.IBackgroundCopyJob5
) -> None:
    """jobs.md §9.9 M3 and M5, in either order; M2: the usual method does nothing."""
    assert job.QueryInterface(com.IBackgroundCopyJobHttpOptions2).SetHttpMethod("GET") == S_OK
    assert (job.SetPriority(3), job.GetPriority()) == (S_OK, 3)
    assert job.QueryInterface(com.IBackgroundCopyJobHttpOptions2).SetHttpMethod("PROPFIND") == S_OK
    assert job.GetPriority() == com.BG_JOB_PRIORITY_FOREGROUND
    assert code_of(job.SetPriority, 3) == WITH_CUSTOM_METHOD
    for number in (com.BITS_JOB_PROPERTY_DYNAMIC_CONTENT, com.BITS_JOB_PROPERTY_ON_DEMAND_MODE):
        assert code_of(job.SetProperty, number, one(Enable=True)) == WITH_CUSTOM_METHOD
        other = manager.CreateJob("first", com.BG_JOB_TYPE_DOWNLOAD).Job.QueryInterface(com.IBackgroundCopyJob5)
        assert other.SetProperty(number, one(Enable=True)) == S_OK
        options = other.QueryInterface(com.IBackgroundCopyJobHttpOptions2)
        assert code_of(options.SetHttpMethod, "PROPFIND") == WITH_CUSTOM_METHOD
        other.Cancel()


def test_the_flags_of_a_helper_token(job: com.IBackgroundCopyJob5) -> None:
    options = job.QueryInterface(com.IBitsTokenOptions)
    for flags, code in ((0, S_OK), (3, S_OK), (4, E_INVALIDARG), (2**31, E_INVALIDARG), (None, E_INVALIDARG)):
        assert code_of(options.SetHelperTokenFlags, flags) == code
    assert options.GetHelperTokenFlags() == 3


@pytest.mark.parametrize("text", ["", "no GUID", "01234567-89ab-cdef-0123-456789abcde", "{}", "' OR 1 --", "\x00" * 36])
def test_a_guid_that_is_none(manager: com.BackgroundCopyManager, job: com.IBackgroundCopyJob5, text: str) -> None:
    """In GetJob there is no such job; as a class it is an invalid argument whose text says what a GUID looks like."""
    assert code_of(manager.GetJob, text) in {E_INVALIDARG, 0x80200001}
    assert code_of(job.SetProperty, 2, one(ClsID=text)) == E_INVALIDARG


def test_two_clients_race_on_one_job(running: Service, manager: com.BackgroundCopyManager) -> None:
    """Whoever comes second is told so: one Cancel succeeds, and a setter works before it or is refused after it."""
    for _ in range(20):
        job_id, job = manager.CreateJob("race", com.BG_JOB_TYPE_DOWNLOAD)
        start = threading.Barrier(3)
        answers: dict[str, int] = {}

        def act(
            name: str, method: str, *arguments: Any, job_id: Any = job_id, start: Any = start, answers: Any = answers
        ) -> None:
            with running.client() as client:
                held = client.job(job_id)
                start.wait()
                try:
                    answers[name] = getattr(held, method)(*arguments) or S_OK
                except BitsError as error:
                    answers[name] = error.hresult

        calls = [("first", "cancel"), ("second", "cancel"), ("third", "take_ownership")]
        threads = [threading.Thread(target=act, args=call) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted((answers["first"], answers["second"])) == [S_OK, INVALID_STATE]
        assert answers["third"] in {S_OK, INVALID_STATE}
        assert job.GetState() == com.BG_JOB_STATE_CANCELLED
