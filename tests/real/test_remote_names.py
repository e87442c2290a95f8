"""SetRemoteName and ReplaceRemotePrefix with the running service (jobs.md §7.5, §7.11, §9.3)."""

import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site, run_as
from tests.real.stories import Job, cancel_all, create, real_user, running_service

import openbits
from openbits import BitsError, com

pytestmark = pytest.mark.root

E_INVALIDARG = 0x80070057
INVALID_STATE = 0x80200002
BODY = secrets.token_bytes(400_000)
HALF = 200_000


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    yield running
    cancel_all(running)


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: Any) -> Path:
    return private_folder(owner)


@pytest.fixture
def half(service: Service, site: Site, owner: Any, folder: Path) -> Job:
    """A job that has received half of `/old/file` and hears no more from there."""
    url = site.put("/old/file", BODY)
    site.gate("/old/file", HALF)
    job = create(service, owner, [(url, folder / "file")])
    job.saves(HALF)
    return job


def rename(job: Job, url: str, index: int = 0) -> None:
    with job.service.client() as client:
        client.job(job.id).set_remote_name(index, url)


def name_of(job: Job, index: int = 0) -> str:
    return job.files()[index]["remote_name"]


def test_the_same_version_elsewhere_goes_on_where_the_first_server_stopped(half: Job, site: Site, folder: Path) -> None:
    """Size and time stamp are the version; that another server has another entity tag is no change (§9.3)."""
    url = site.put("/new/file", BODY)
    site.tags["/new/file"] = '"of another server"'
    half.suspend()
    rename(half, url)
    assert name_of(half) == url
    half.resume()
    half.reaches("transferred")
    assert site.offsets("/new/file") == [HALF]
    assert half.complete() == 0
    assert (folder / "file").read_bytes() == BODY


@pytest.mark.parametrize("what", ["size", "time stamp"])
def test_another_version_elsewhere_begins_again(half: Job, site: Site, folder: Path, what: str) -> None:
    other = BODY[:-1] if what == "size" else secrets.token_bytes(len(BODY))
    url = site.put("/new/file", other)
    if what == "time stamp":
        site.modified["/new/file"] = "Thu, 02 Oct 2025 12:00:00 GMT"
    half.suspend()
    rename(half, url)
    half.resume()
    half.reaches("transferred")
    assert half.complete() == 0
    assert (folder / "file").read_bytes() == other


def test_an_active_job_goes_on_at_the_new_place_without_resume(half: Job, site: Site, folder: Path) -> None:
    """T9; the name is not durable before the next Resume, but it counts at once."""
    rename(half, site.put("/new/file", BODY))
    half.reaches("transferred")
    assert site.offsets("/new/file") == [HALF]
    assert half.complete() == 0
    assert (folder / "file").read_bytes() == BODY


def test_a_name_outlives_the_manager_after_resume_only(half: Job, site: Site) -> None:
    old, url = name_of(half), site.url + "/nowhere/file"
    half.suspend()
    rename(half, url)
    half.service.kill("manager")
    assert name_of(half) == old
    assert half.files()[0]["bytes_transferred"] == HALF
    rename(half, url)
    half.resume()
    half.suspend()
    half.service.kill("manager")
    assert name_of(half) == url


def test_a_finished_file_is_not_fetched_again(service: Service, site: Site, owner: Any, folder: Path) -> None:
    url = site.put("/file", BODY)
    job = create(service, owner, [(url, folder / "file")])
    job.reaches("transferred")
    rename(job, site.put("/other", b"other"))
    job.resume()
    assert job.state == "transferred"
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == BODY
    assert site.uids("/other") == set()


def test_a_prefix_is_replaced_in_all_names_or_in_none(service: Service, site: Site, owner: Any, folder: Path) -> None:
    pairs = [(site.put(f"/{place}/{name}", BODY), folder / f"{place}{name}") for place in "ab" for name in "12"]
    job = create(service, owner, pairs, is_resumed=False)
    for name in "12":
        site.put(f"/mirror/{name}", BODY)
    with service.client() as client:
        held = client.job(job.id)
        assert held.replace_remote_prefix(f"{site.url}/A/", f"{site.url}/mirror/") == 0, "case counts"
        assert held.replace_remote_prefix(f"{site.url[1:]}/a/", f"{site.url}/mirror/") == 0, "at the beginning only"
        with pytest.raises(BitsError) as caught:
            held.replace_remote_prefix(f"{site.url}/", f"{site.url}/" + "x/" * 1100)
        assert caught.value.hresult == E_INVALIDARG
        for old, new in (("", site.url), (site.url, ""), (f"{site.url}/", "ftp://h/")):
            with pytest.raises(BitsError) as caught:
                held.replace_remote_prefix(old, new)
            assert caught.value.hresult == E_INVALIDARG
        assert [file["remote_name"] for file in held.files()] == [url for url, _ in pairs], "all or none"
        assert held.replace_remote_prefix(f"{site.url}/a/", f"{site.url}/mirror/") == 2
        assert [file["remote_name"] for file in held.files()] == [
            f"{site.url}/mirror/1",
            f"{site.url}/mirror/2",
            pairs[2][0],
            pairs[3][0],
        ]
    job.resume()
    job.reaches("transferred")
    assert job.complete() == 0
    assert site.uids("/mirror/1") == {owner.uid}
    assert site.uids("/a/1") == set()


def test_names_by_their_documented_methods(
    service: Service, site: Site, owner: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBITS_SOCKET", str(service.socket))

    def story() -> None:
        _, job = com.BackgroundCopyManager().CreateJob("names", com.BG_JOB_TYPE_DOWNLOAD)
        job.AddFile(f"{site.url}/a", str(folder / "a"))
        later = job.QueryInterface(com.IBackgroundCopyJob3)
        assert later.ReplaceRemotePrefix("https://nobody/", "https://other/") == com.S_FALSE
        assert later.ReplaceRemotePrefix(site.url, f"{site.url}/x") == com.S_OK
        (file,) = job.EnumFiles().Next(1)
        assert file.GetRemoteName() == f"{site.url}/x/a"
        second = file.QueryInterface(com.IBackgroundCopyFile2)
        assert second.SetRemoteName(f"{site.url}/y") == com.S_OK
        assert file.GetRemoteName() == f"{site.url}/y"
        for name in (None, "", "ftp://h/a", f"{site.url}/" + "a" * 261):
            with pytest.raises(com.COMError) as caught:
                second.SetRemoteName(name)  # type: ignore[arg-type]
            assert caught.value.hresult == E_INVALIDARG
        job.Cancel()
        with pytest.raises(com.COMError) as caught:
            second.SetRemoteName(f"{site.url}/z")
        assert caught.value.hresult == INVALID_STATE
        with pytest.raises(com.COMError) as caught:
            later.ReplaceRemotePrefix(site.url, f"{site.url}/z")
        assert caught.value.hresult == INVALID_STATE

    run_as(owner, story)


def test_two_clients_race_a_new_name_against_the_end_of_the_job(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    """Whoever comes too late hears BG_E_INVALID_STATE; the job ends once, and its files are whole."""
    url = site.put("/file", BODY)
    jobs = [create(service, owner, [(url, folder / str(number))]) for number in range(5)]
    for job in jobs:
        job.reaches("transferred")
        start = threading.Barrier(2)
        codes: list[int] = []

        def renames(job: Job = job, start: threading.Barrier = start, codes: list[int] = codes) -> None:
            with service.client() as client:
                held = client.job(job.id)
                start.wait()
                for number in range(20):
                    try:
                        held.set_remote_name(0, f"{site.url}/other{number}")
                        codes.append(0)
                    except BitsError as error:
                        codes.append(error.hresult)

        other = threading.Thread(target=renames)
        other.start()
        with service.client() as client:
            held = client.job(job.id)
            start.wait()
            assert held.complete() == 0
            assert held.state is openbits.JobState.ACKNOWLEDGED
        other.join()
        assert codes == sorted(codes), "after the end, no name is taken"
        assert set(codes) <= {0, INVALID_STATE}
    assert {path.read_bytes() for path in folder.iterdir()} == {BODY}
