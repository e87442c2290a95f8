"""IBackgroundCopyJob2 to 5 at a real service: kept over a restart, refused where documented (jobs.md §7).

All properties in all states are in tests/core/test_property_states.py; here is the way through all layers.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.conftest import Person, Service, Site, run_as
from tests.real.stories import real_user, running_service

from openbits import BitsError, JobType, com
from openbits.core.enums import JobState
from openbits.core.model import Temporary
from openbits.core.reply import file_of
from openbits.identity.filecalls import statx
from openbits.store import open_store
from openbits.store.changes import SaveJob

pytestmark = pytest.mark.root

S_OK, S_FALSE = 0, 1
E_NOTIMPL = 0x80004001
E_ACCESSDENIED = 0x80070005
E_INVALIDARG = 0x80070057
PATH_NOT_FOUND = 0x80070003
INVALID_STATE = 0x80200002
DOWNLOADS_ONLY = 0x80200060
AFTER_ADDFILE, AFTER_RESUME = 0x80200061, 0x80200062
MAX_SIZE_INVALID, MAX_SIZE_REACHED = 0x80200063, 0x80200064
WHEN_ACTIVE = 0x80200075
TOO_LARGE = 0x80200020

GUID = uuid.UUID("d41bd4a4-6abd-4c1a-9d03-2b9b3f2e0f11")
URL = "http://127.0.0.1:9/a"


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBITS_SOCKET", str(made.socket))
        yield made
        com.CoUninitialize()


@pytest.fixture(scope="module")
def alice() -> Iterator[User]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="openbits-test-") as made:
        yield Path(made)


@pytest.fixture
def make(running: Service) -> Iterator[Callable[[int], com.IBackgroundCopyJob5]]:
    """Jobs of the types; they are cancelled at the end."""
    assert running.pid
    made = []

    def create(job_type: int = com.BG_JOB_TYPE_DOWNLOAD) -> com.IBackgroundCopyJob5:
        job = com.BackgroundCopyManager().CreateJob("versions", job_type).Job
        made.append(job)
        return job.QueryInterface(com.IBackgroundCopyJob5)

    yield create
    for job in made:
        code_of(job.Cancel)


def code_of(call: Callable[..., Any], *arguments: Any) -> int:
    """HRESULT of a call; S_OK for whatever succeeds."""
    try:
        call(*arguments)
    except com.COMError as error:
        return error.hresult
    return S_OK


def value(**members: Any) -> com.BITS_JOB_PROPERTY_VALUE:
    return com.BITS_JOB_PROPERTY_VALUE(**members)


ALL = {
    com.BITS_JOB_PROPERTY_ID_COST_FLAGS: value(Dword=0x80000067),
    com.BITS_JOB_PROPERTY_NOTIFICATION_CLSID: value(ClsID=GUID),
    com.BITS_JOB_PROPERTY_DYNAMIC_CONTENT: value(Enable=True),
    com.BITS_JOB_PROPERTY_HIGH_PERFORMANCE: value(Enable=True),
    com.BITS_JOB_PROPERTY_MAX_DOWNLOAD_SIZE: value(Uint64=2**64 - 1),
    com.BITS_JOB_PROPERTY_USE_STORED_CREDENTIALS: value(Target=com.BG_AUTH_TARGET_PROXY),
    com.BITS_JOB_PROPERTY_MINIMUM_NOTIFICATION_INTERVAL_MS: value(Dword=0xFFFFFFFF),
    com.BITS_JOB_PROPERTY_ON_DEMAND_MODE: value(Enable=True),
}


def test_what_was_set_is_there_after_a_restart(running: Service, make: Callable[..., com.IBackgroundCopyJob5]) -> None:
    job = make()
    for number, one in ALL.items():
        if number != com.BITS_JOB_PROPERTY_NOTIFICATION_CLSID:  # which has to be registered
            assert job.SetProperty(number, one) == S_OK
    job.SetFileACLFlags(15)
    job.SetPeerCachingFlags(7)
    job.SetMaximumDownloadTime(60)
    job_id = job.GetId()
    running.stop()
    running.start()
    com.CoUninitialize()
    again = com.BackgroundCopyManager().GetJob(job_id).QueryInterface(com.IBackgroundCopyJob5)
    for number, one in ALL.items():
        if number != com.BITS_JOB_PROPERTY_NOTIFICATION_CLSID:
            assert again.GetProperty(number) == one
    assert (again.GetFileACLFlags(), again.GetPeerCachingFlags(), again.GetMaximumDownloadTime()) == (15, 7, 60)
    again.Cancel()


def test_a_property_is_refused_with_the_documented_code(
    make: Callable[..., com.IBackgroundCopyJob5], folder: Path
) -> None:
    job = make()
    size, dynamic = com.BITS_JOB_PROPERTY_MAX_DOWNLOAD_SIZE, com.BITS_JOB_PROPERTY_DYNAMIC_CONTENT
    assert code_of(job.SetProperty, size, value(Uint64=0)) == MAX_SIZE_INVALID
    assert code_of(job.SetProperty, size, value(Uint64=2**64)) == E_INVALIDARG
    assert code_of(job.SetProperty, com.BITS_JOB_PROPERTY_ID_COST_FLAGS, value(Dword=0x100)) == E_NOTIMPL
    assert code_of(job.SetFileACLFlags, 16) == E_INVALIDARG
    assert code_of(job.SetPeerCachingFlags, 8) == E_NOTIMPL
    job.AddFile(URL, str(folder / "a"))
    high = com.BITS_JOB_PROPERTY_HIGH_PERFORMANCE
    assert code_of(job.SetProperty, high, value(Enable=True)) == AFTER_ADDFILE
    job.Resume()
    on_demand = com.BITS_JOB_PROPERTY_ON_DEMAND_MODE
    assert code_of(job.SetProperty, on_demand, value(Enable=True)) == WHEN_ACTIVE
    assert code_of(job.SetProperty, size, value(Uint64=1)) == AFTER_RESUME
    assert code_of(job.SetProperty, dynamic, value(Enable=True)) == AFTER_RESUME
    job.Cancel()
    assert code_of(job.SetPeerCachingFlags, 1) == INVALID_STATE
    assert job.GetProperty(dynamic) == value(Enable=False), "getters go on"


@pytest.mark.parametrize("job_type", [com.BG_JOB_TYPE_UPLOAD, com.BG_JOB_TYPE_UPLOAD_REPLY])
def test_what_is_for_downloads_is_refused_for_uploads(
    make: Callable[..., com.IBackgroundCopyJob5], job_type: int
) -> None:
    job = make(job_type)
    for number, one in ALL.items():
        if one.Enable is not None or one.Uint64 is not None:
            assert code_of(job.SetProperty, number, one) == DOWNLOADS_ONLY
    assert job.SetProperty(com.BITS_JOB_PROPERTY_MINIMUM_NOTIFICATION_INTERVAL_MS, value(Dword=0)) == S_OK


def test_a_job_larger_than_it_may_be_fails(
    make: Callable[..., com.IBackgroundCopyJob5], site: Site, folder: Path, eventually: Callable[..., object]
) -> None:
    url = site.put("/large", b"x" * 1001)
    for limit, expected in ((1001, com.BG_JOB_STATE_TRANSFERRED), (1000, com.BG_JOB_STATE_ERROR)):
        job = make()
        job.SetProperty(com.BITS_JOB_PROPERTY_MAX_DOWNLOAD_SIZE, value(Uint64=limit))
        job.SetPriority(com.BG_JOB_PRIORITY_FOREGROUND)
        job.AddFile(url, str(folder / str(limit)))
        job.Resume()
        eventually(lambda job=job, expected=expected: job.GetState() == expected)
    assert job.GetError().GetError() == (com.BG_ERROR_CONTEXT_REMOTE_FILE, MAX_SIZE_REACHED)
    assert "1000 more (max_download_size)" in job.GetError().GetErrorDescription(0x0409)
    asked = len(site.seen)
    job.Resume()
    eventually(lambda: len(site.seen) > asked and job.GetState() == com.BG_JOB_STATE_ERROR)
    assert job.GetErrorCount() == 0, "it had never begun to transfer (jobs.md §3.6)"


def test_who_made_a_job_decides_its_integrity_until_somebody_takes_it(
    running: Service, make: Callable[..., com.IBackgroundCopyJob5], alice: User
) -> None:
    """There is no logind here, so nobody is in a session (identity.md §8)."""
    ours = make()
    assert (ours.GetOwnerIntegrityLevel(), ours.GetOwnerElevationState()) == (0x4000, True)

    def as_alice() -> tuple[str, int, bool]:
        with running.client() as client:
            job = client.create_job("hers")
            info = job.info()
            return str(job.id), info["owner_integrity_level"], info["owner_is_elevated"]

    job_id, level, is_elevated = run_as(alice, as_alice)
    assert (level, is_elevated) == (0x2000, False)
    hers = com.BackgroundCopyManager().GetJob(uuid.UUID(job_id)).QueryInterface(com.IBackgroundCopyJob4)
    assert (hers.GetOwnerIntegrityLevel(), hers.GetOwnerElevationState()) == (0x2000, False)
    hers.TakeOwnership()
    assert (hers.GetOwnerIntegrityLevel(), hers.GetOwnerElevationState()) == (0x4000, True)
    hers.Cancel()


# -- the reply of an upload-reply job ---------------------------------------------------------------------------------


def test_a_download_and_an_upload_have_no_reply(make: Callable[..., com.IBackgroundCopyJob5], folder: Path) -> None:
    for job_type in (com.BG_JOB_TYPE_DOWNLOAD, com.BG_JOB_TYPE_UPLOAD):
        job = make(job_type)
        for call in (job.GetReplyProgress, job.GetReplyData, job.GetReplyFileName):
            assert code_of(call) == E_NOTIMPL
        assert code_of(job.SetReplyFileName, str(folder / "answer")) == E_NOTIMPL


def test_the_reply_file_is_named_or_generated(
    running: Service, make: Callable[..., com.IBackgroundCopyJob5], folder: Path
) -> None:
    job = make(com.BG_JOB_TYPE_UPLOAD_REPLY)
    assert job.GetReplyFileName() is None
    assert job.GetReplyProgress() == com.BG_JOB_REPLY_PROGRESS(BytesTotal=com.BG_SIZE_UNKNOWN, BytesTransferred=0)
    assert code_of(job.GetReplyData) == INVALID_STATE
    source = folder / "upload"
    source.write_bytes(b"mine")
    job.AddFile("http://127.0.0.1:9/upload", str(source))
    generated = job.GetReplyFileName()
    assert generated is not None
    assert Path(generated).parent == folder
    assert generated != str(source)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    assert job.SetReplyFileName(str(elsewhere / ".." / "elsewhere" / "answer")) == S_OK
    assert job.GetReplyFileName() == str(elsewhere / "answer")
    running.stop()
    running.start()
    com.CoUninitialize()
    again = com.BackgroundCopyManager().GetJob(job.GetId()).QueryInterface(com.IBackgroundCopyJob2)
    assert again.GetReplyFileName() == str(elsewhere / "answer")
    assert again.SetReplyFileName(None) == S_OK
    assert again.GetReplyFileName() == generated
    again.Cancel()
    assert code_of(again.SetReplyFileName, None) == INVALID_STATE


def test_a_reply_file_that_cannot_be_is_refused(
    make: Callable[..., com.IBackgroundCopyJob5], folder: Path, running: Service, alice: User
) -> None:
    job = make(com.BG_JOB_TYPE_UPLOAD_REPLY)
    longest = f"{folder}/{'n' * 255}"
    for name, code in (
        (longest, S_OK),
        (longest + "n", E_INVALIDARG),
        ("/" + "d/" * 2047 + "x", E_INVALIDARG),
        ("relative", E_INVALIDARG),
        (f"{folder}/%TEMP%/x", E_INVALIDARG),
        (f"{folder}/", E_INVALIDARG),
        (f"{folder}/missing/x", PATH_NOT_FOUND),
    ):
        assert code_of(job.SetReplyFileName, name) == code, name
    folder.chmod(0o755)

    def as_alice() -> int:
        with running.client() as client:
            hers = client.create_job("hers", type=JobType.UPLOAD_REPLY)
            try:
                hers.set_reply_file_name(folder / "answer")
            except BitsError as error:
                return error.hresult
            return S_OK

    assert run_as(alice, as_alice) == E_ACCESSDENIED


def with_reply(running: Service, job: com.IBackgroundCopyJob2, content: bytes, *, is_published: bool) -> None:
    """Make the job TRANSFERRED and its reply be there: in the store, between two runs."""
    job_id, name = job.GetId(), Path(job.GetReplyFileName() or "")
    temporary = name.with_name(".BIT0a1b2c3d.tmp")
    path = name if is_published else temporary
    path.write_bytes(content)
    path.chmod(0o600)
    with path.open("rb") as file:
        found = statx(file.fileno())
    made = Temporary(name=temporary.name, dev=found.dev, ino=found.ino, birth_ns=found.birth_ns, uid=0, by_helper=False)
    running.stop()

    def in_the_store() -> None:
        store = open_store(running.state / "queue")
        store.load()
        before = store.job(job_id)
        reply = file_of(before)
        assert reply is not None
        kept, published = (None, replace(made, name=name.name)) if is_published else (made, None)
        reply = replace(reply, size_bytes=len(content), is_published=is_published, temporary=kept, published=published)
        files = tuple(replace(one, is_transferred=True) for one in before.files)
        after = replace(before, state=JobState.TRANSFERRED, transferred_at=1.0, reply=reply, files=files)
        store.commit([SaveJob(before=before, after=after)])
        store.close()

    owner = (running.state / "queue").stat()
    run_as(Person(uid=owner.st_uid, gid=owner.st_gid, groups=()), in_the_store)
    running.start()
    com.CoUninitialize()


@pytest.mark.parametrize("is_published", [False, True])
@pytest.mark.parametrize("content", [b"", b"the answer \0\xff" * 4096, b"x" * (1 << 20)])
def test_the_reply_is_read_by_a_broker_and_given_as_data(
    running: Service, folder: Path, content: bytes, *, is_published: bool
) -> None:
    source = folder / "upload"
    source.write_bytes(b"mine")
    job = com.BackgroundCopyManager().CreateJob("x", com.BG_JOB_TYPE_UPLOAD_REPLY).Job
    job.AddFile("http://127.0.0.1:9/upload", str(source))
    job_id = job.GetId()
    with_reply(running, job.QueryInterface(com.IBackgroundCopyJob2), content, is_published=is_published)
    again = com.BackgroundCopyManager().GetJob(job_id).QueryInterface(com.IBackgroundCopyJob2)
    assert again.GetState() == com.BG_JOB_STATE_TRANSFERRED
    assert again.GetReplyProgress().BytesTotal == len(content)
    assert again.GetReplyData() == (content or None, len(content))
    assert code_of(again.SetReplyFileName, None) == INVALID_STATE
    again.Cancel()
    assert code_of(again.GetReplyData) == INVALID_STATE


def test_a_reply_above_one_mebibyte_is_read_from_its_file(running: Service, folder: Path) -> None:
    source = folder / "upload"
    source.write_bytes(b"mine")
    job = com.BackgroundCopyManager().CreateJob("x", com.BG_JOB_TYPE_UPLOAD_REPLY).Job
    job.AddFile("http://127.0.0.1:9/upload", str(source))
    job_id = job.GetId()
    with_reply(running, job.QueryInterface(com.IBackgroundCopyJob2), b"x" * ((1 << 20) + 1), is_published=True)
    again = com.BackgroundCopyManager().GetJob(job_id).QueryInterface(com.IBackgroundCopyJob2)
    assert code_of(again.GetReplyData) == TOO_LARGE
    again.Cancel()
