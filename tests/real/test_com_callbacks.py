"""Callbacks of the COM face and the running service: restarts, the last setter, late flags (jobs.md §12)."""

# ruff: noqa: N802, N803  # names of the interface

import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site
from tests.real.stories import cancel_all, create, real_user, running_service

from openbits import com

pytestmark = pytest.mark.root

Eventually = Callable[..., object]

BODY = secrets.token_bytes(20_000)


class Recorder(com.IBackgroundCopyCallback):
    """Notes each call; answers as often as told with a failure, then with S_OK."""

    def __init__(self, *answers: int, completes: bool = False) -> None:
        self.calls: list[str] = []
        self._answers = list(answers)
        self._completes = completes

    def JobTransferred(self, pJob: com.IBackgroundCopyJob) -> int:
        self.calls.append("transferred")
        if self._completes and not self._answers:
            assert pJob.Complete() == com.S_OK
        return self._answers.pop(0) if self._answers else com.S_OK

    def JobError(self, pJob: com.IBackgroundCopyJob, pError: com.IBackgroundCopyError) -> int:
        self.calls.append(f"error 0x{pError.GetError().Code:08X}")
        return com.S_OK

    def JobModification(self, pJob: com.IBackgroundCopyJob, dwReserved: int) -> int:
        self.calls.append("modification")
        return com.S_OK


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture
def service(running: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service of all tests here, with an empty queue, as COM of this process finds it."""
    monkeypatch.setenv("OPENBITS_SOCKET", str(running.socket))
    yield running
    com.CoUninitialize()
    cancel_all(running)


@pytest.fixture
def download(service: Service, site: Site, tmp_path: Path) -> Callable[..., com.IBackgroundCopyJob]:
    """`download(path="/file")`: a resumed job."""

    def make(path: str = "/file") -> com.IBackgroundCopyJob:
        assert service.pid
        site.put("/file", BODY)
        job = com.BackgroundCopyManager().CreateJob("call me", com.BG_JOB_TYPE_DOWNLOAD).Job
        job.AddFile(site.url + path, str(tmp_path / "file"))
        job.Resume()
        return job

    return make


def restart(service: Service) -> None:
    service.kill("manager")
    service.wait_until_it_answers()


def test_callbacks_outlast_a_restart_of_the_service(
    service: Service,
    site: Site,
    download: Callable[..., com.IBackgroundCopyJob],
    eventually: Eventually,
    tmp_path: Path,
) -> None:
    """Registered before, called after, and Complete works inside."""
    gate = site.gate("/file", 5_000)
    job, callback = download(), Recorder(completes=True)
    job.SetNotifyInterface(callback)
    eventually(lambda: job.GetProgress().BytesTransferred >= 5_000)
    restart(service)
    gate.set()
    eventually((tmp_path / "file").exists)
    eventually(lambda: job.GetNotifyInterface() is None)
    assert callback.calls == ["transferred"]
    eventually(lambda: not any(thread.name == "openbits-events" for thread in threading.enumerate()))


def test_a_notice_that_was_taken_is_not_told_again_after_a_restart(
    service: Service, download: Callable[..., com.IBackgroundCopyJob], eventually: Eventually
) -> None:
    job, callback = download(), Recorder()
    job.SetNotifyInterface(callback)
    eventually(lambda: callback.calls)
    for _ in range(2):
        restart(service)
        callback.calls.clear()
        eventually(lambda: _can_be_called(job))
        job.SetNotifyFlags(com.BG_NOTIFY_JOB_TRANSFERRED | com.BG_NOTIFY_JOB_MODIFICATION)
        eventually(lambda: job.SetDescription("x") or callback.calls)  # until the registration is there again
        assert set(callback.calls) == {"modification"}


def _can_be_called(job: com.IBackgroundCopyJob) -> bool:
    try:
        job.GetState()
    except com.COMError:
        return False
    else:
        return True


def test_a_notice_that_was_refused_is_told_again_by_the_restarted_service(
    service: Service, download: Callable[..., com.IBackgroundCopyJob], eventually: Eventually
) -> None:
    """S_FALSE is a refusal, too (OPEN-52); without the restart it would be told again after ten minutes."""
    job, callback = download(), Recorder(com.S_FALSE)
    job.SetNotifyInterface(callback)
    eventually(lambda: callback.calls)
    restart(service)
    eventually(lambda: len(callback.calls) == 2)
    assert callback.calls == ["transferred"] * 2


def test_the_last_setter_wins_and_the_earlier_one_is_let_go(
    service: Service, site: Site, download: Callable[..., com.IBackgroundCopyJob], eventually: Eventually
) -> None:
    gate = site.gate("/file", 5_000)
    job, callback = download(), Recorder()
    job.SetNotifyInterface(callback)
    told: list[str] = []
    with service.client() as other:
        other.job(job.GetId()).notify(lambda _, info: told.append(info["state"]))
        eventually(lambda: job.GetNotifyInterface() is None)
        gate.set()
        eventually(lambda: told)
        job.SetNotifyInterface(callback)  # the notice was taken: nothing is left for it
        job.SetNotifyFlags(com.BG_NOTIFY_JOB_TRANSFERRED | com.BG_NOTIFY_JOB_MODIFICATION)
        eventually(lambda: callback.calls)
    assert (told, set(callback.calls)) == (["transferred"], {"modification"})


def test_flags_that_are_set_later_tell_what_is_pending(
    download: Callable[..., com.IBackgroundCopyJob], eventually: Eventually
) -> None:
    """N11 (OPEN-53); DISABLE masks everything."""
    job, callback = download("/missing"), Recorder()
    job.SetNotifyFlags(com.BG_NOTIFY_JOB_TRANSFERRED | com.BG_NOTIFY_JOB_MODIFICATION | com.BG_NOTIFY_DISABLE)
    job.SetNotifyInterface(callback)
    eventually(lambda: job.GetState() == com.BG_JOB_STATE_ERROR)
    job.SetNotifyFlags(com.BG_NOTIFY_JOB_ERROR | com.BG_NOTIFY_DISABLE)
    assert callback.calls == []
    job.SetNotifyFlags(com.BG_NOTIFY_JOB_ERROR)
    eventually(lambda: callback.calls)
    assert callback.calls == ["error 0x80190194"]


def test_what_is_pending_is_dropped_when_the_job_leaves_the_state(
    site: Site, download: Callable[..., com.IBackgroundCopyJob], eventually: Eventually, tmp_path: Path
) -> None:
    """N8: the error was never told, and is over, though GetError still knows it (T24, jobs.md §3.6)."""
    job, callback = download("/later"), Recorder()
    eventually(lambda: job.GetState() == com.BG_JOB_STATE_ERROR)
    job.AddFile(site.put("/more", BODY), str(tmp_path / "more"))
    assert job.GetState() == com.BG_JOB_STATE_SUSPENDED
    assert job.GetError().GetError().Code == 0x80190194
    job.SetNotifyInterface(callback)
    job.SetNotifyFlags(com.BG_NOTIFY_JOB_ERROR | com.BG_NOTIFY_JOB_TRANSFERRED | com.BG_NOTIFY_JOB_MODIFICATION)
    eventually(lambda: callback.calls)
    job.SetNotifyFlags(com.BG_NOTIFY_JOB_ERROR | com.BG_NOTIFY_JOB_TRANSFERRED)
    site.put("/later", BODY)
    job.Resume()
    eventually(lambda: "transferred" in callback.calls)
    assert set(callback.calls) == {"modification", "transferred"}


def test_an_administrator_may_be_called_for_a_foreign_job(
    service: Service, site: Site, private_folder: Callable[[Any], Path], eventually: Eventually
) -> None:
    """A2: and hears of its end, so that the library lets go."""
    url = site.put("/file", BODY)
    with real_user() as owner:
        story = create(service, owner, [(url, private_folder(owner) / "file")])
        job, callback = com.BackgroundCopyManager().GetJob(story.id), Recorder()  # type: ignore[arg-type]
        job.SetNotifyInterface(callback)
        eventually(lambda: callback.calls)
        story.cancel()
        eventually(lambda: job.GetNotifyInterface() is None)
    assert callback.calls == ["transferred"]


def test_ownership_is_taken_with_the_codes_of_the_specification(
    service: Service, site: Site, private_folder: Callable[[Any], Path], eventually: Eventually
) -> None:
    """jobs.md §7.2: the callback stays with whoever set it; only administrators may take."""
    url = site.put("/file", BODY)
    told: list[str] = []
    with real_user() as owner:
        folder = private_folder(owner)
        folder.chmod(0o777)
        gate = site.gate("/file", 5_000)
        story = create(service, owner, [(url, folder / "file")])
        job = com.BackgroundCopyManager().GetJob(story.id)  # type: ignore[arg-type]
        with service.client() as client:
            token = client.logon_user(owner.name, None)
            other = client.job(story.id)
            other.notify(lambda _, info: told.append(info["owner_sid"]))
            with token, token.impersonate(), pytest.raises(com.COMError) as refused:
                com.IBackgroundCopyJob(other).TakeOwnership()
            assert refused.value.hresult == com.E_ACCESSDENIED
            assert job.TakeOwnership() == com.S_OK
            assert job.GetOwner() == "S-1-22-1-0"
            assert job.TakeOwnership() == com.S_OK  # also who already is the owner
            gate.set()
            eventually(lambda: told)
            job.Cancel()
            with pytest.raises(com.COMError) as refused:
                job.TakeOwnership()
            assert refused.value.hresult == com.BG_E_INVALID_STATE
    assert told == ["S-1-22-1-0"]
