"""Suspend, Resume, Cancel and Complete at every moment, and what users do to their folders meanwhile.

Nothing is left behind, nothing of somebody else's is touched, a failure tells what to do and works after the repair.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site
from tests.real.stories import Job, cancel_all, create, names, real_user, running_service

from openbits import BitsError

pytestmark = pytest.mark.root

BG_E_INVALID_STATE = 0x80200002
BG_E_VOLUME_CHANGED = 0x8020000E
BG_S_PARTIAL_COMPLETE = 0x00200017
BG_S_UNABLE_TO_DELETE_FILES = 0x0020001A
E_ACCESSDENIED = 0x80070005
FILE_NOT_FOUND = 0x80070002

BODY = secrets.token_bytes(700_000)
HALF = 300_000


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The service of all tests here, with an empty queue."""
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
    """A job that has received half of its file and waits at the gate; the rest comes at the second request."""
    url = site.put("/file", BODY)
    site.gate("/file", HALF)
    job = create(service, owner, [(url, folder / "file")])
    job.receives(HALF)
    del site.gates["/file"]
    return job


def _temporary(folder: Path) -> Path:
    (name,) = [name for name in names(folder) if name.startswith(".BIT")]
    return folder / name


def _ends_well(job: Job, folder: Path) -> None:
    job.reaches("transferred")
    assert job.complete() == 0
    assert names(folder) == ["file"]
    assert (folder / "file").read_bytes() == BODY


# -- suspend, resume, cancel ------------------------------------------------------------------------------------------


def test_suspend_in_the_middle_keeps_the_bytes_and_resume_asks_for_the_rest(
    half: Job, site: Site, folder: Path
) -> None:
    half.saves(HALF)
    half.suspend()
    info = half.info()
    assert info["bytes_transferred"] == HALF
    waiting = info["waiting"]
    assert info["state"] == "suspended"
    assert waiting is not None
    assert (waiting["reason"], waiting["hint"]) == ("suspended", "resume it")
    half.suspend()
    half.resume()
    half.resume()
    _ends_well(half, folder)
    assert site.offsets("/file")[-1] == HALF


def test_a_hundred_changes_of_mind_end_in_the_same_file(half: Job, folder: Path) -> None:
    for _ in range(50):
        half.suspend()
        half.resume()
    _ends_well(half, folder)


@pytest.mark.parametrize("moment", ["at once", "connecting", "in the middle", "suspended", "error", "transferred"])
def test_cancel_leaves_nothing_at_any_moment(
    moment: str, service: Service, site: Site, owner: Any, folder: Path, eventually: Callable[..., Any]
) -> None:
    url = site.put("/file", BODY)
    if moment == "error":
        del site.bodies["/file"]
    if moment in {"connecting", "in the middle", "suspended"}:
        site.gate("/file", 0 if moment == "connecting" else HALF)
    job = create(service, owner, [(url, folder / "file")])
    match moment:
        case "connecting":
            eventually(lambda: site.offsets("/file"))
        case "in the middle" | "suspended":
            job.receives(HALF)
        case "error" | "transferred":
            job.reaches(moment)
    if moment == "suspended":
        job.suspend()
    assert job.cancel() == 0
    assert names(folder) == []
    assert job.is_gone()
    with pytest.raises(BitsError) as caught:
        job.info()
    assert caught.value.hresult == 0x80200001  # BG_E_NOT_FOUND


def test_cancel_after_cancel_and_after_complete_is_an_invalid_state(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    job = create(service, owner, [(site.put("/file", BODY), folder / "file")])
    job.reaches("transferred")
    with service.client() as client:
        held = client.job(job.id)
        assert held.complete() == 0
        for act in (held.complete, held.cancel, held.resume, held.suspend):
            with pytest.raises(BitsError) as caught:
                act()
            assert caught.value.hresult == BG_E_INVALID_STATE
            assert "completed" in str(caught.value)
        assert held.info()["state"] == "acknowledged", "getters work on a final job"
    assert names(folder) == ["file"]


@pytest.mark.parametrize("moment", ["in the middle", "transferred"])
def test_cancel_while_the_broker_is_dead_removes_the_file_all_the_same(
    moment: str, half: Job, service: Service, folder: Path
) -> None:
    if moment == "transferred":
        half.suspend()
        half.resume()
        half.reaches("transferred")
    service.kill("broker")
    assert half.cancel() == 0
    assert names(folder) == []


def test_complete_while_the_broker_is_dead_publishes_all_the_same(half: Job, service: Service, folder: Path) -> None:
    half.suspend()
    half.resume()
    half.reaches("transferred")
    service.kill("broker")
    _ends_well(half, folder)


# -- complete ---------------------------------------------------------------------------------------------------------


def test_complete_in_the_middle_publishes_what_is_there(service: Service, site: Site, owner: Any, folder: Path) -> None:
    urls = [site.put("/one", BODY), site.put("/two", BODY), site.put("/three", BODY)]
    site.gate("/two", HALF)
    job = create(service, owner, [(url, folder / url.rpartition("/")[2]) for url in urls])
    job.receives(len(BODY) + HALF)
    assert len(names(folder)) >= 2, "the third file may be prepared already"
    assert job.complete() == BG_S_PARTIAL_COMPLETE
    assert names(folder) == ["one"]
    assert (folder / "one").read_bytes() == BODY
    assert job.is_gone()


def test_a_directory_in_place_of_the_file_is_an_error_of_complete_which_works_after_the_repair(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    pairs = [(site.put("/one", BODY), folder / "one"), (site.put("/two", BODY), folder / "two")]
    job = create(service, owner, pairs)
    job.reaches("transferred")
    (folder / "two").mkdir()
    with pytest.raises(BitsError) as caught:
        job.complete()
    assert caught.value.hresult == E_ACCESSDENIED
    for part in (f"{folder}/two", "it is a directory", f"{owner.name} (uid {owner.uid})"):
        assert part in str(caught.value)
    info = job.info()
    assert info["state"] == "transferred"
    assert info["waiting"] is not None
    assert f"Complete failed: {caught.value.symbol}" in info["waiting"]["reason"]
    assert [file["is_published"] for file in job.files()] == [True, False]
    assert (folder / "one").read_bytes() == BODY, "already renamed files stay visible (jobs.md §8.4)"
    (folder / "two").rmdir()
    assert job.complete() == 0
    assert names(folder) == ["one", "two"]


def test_an_existing_file_is_replaced_and_a_symlink_too_but_not_what_it_points_to(
    service: Service, site: Site, owner: Any, folder: Path, open_tmp_path: Path
) -> None:
    victim = open_tmp_path / "victim"
    victim.write_text("precious")
    (folder / "link").symlink_to(victim)
    (folder / "old").write_text("old")
    url = site.put("/file", BODY)
    job = create(service, owner, [(url, folder / "link"), (url, folder / "old")])
    job.reaches("transferred")
    assert job.complete() == 0
    assert victim.read_text() == "precious"
    assert not (folder / "link").is_symlink()
    assert (folder / "link").read_bytes() == (folder / "old").read_bytes() == BODY


# -- what users do to the folder --------------------------------------------------------------------------------------


def _remove(temporary: Path, _owner: Any) -> None:
    temporary.unlink()


def _replace(temporary: Path, owner: Any) -> None:
    temporary.unlink()
    temporary.write_bytes(b"mine now")
    os.chown(temporary, owner.uid, owner.gid)


def _cut(temporary: Path, _owner: Any) -> None:
    os.truncate(temporary, 10)


def _link(temporary: Path, _owner: Any) -> None:
    os.link(temporary, temporary.with_name("second name"))


def _fifo(temporary: Path, owner: Any) -> None:
    temporary.unlink()
    os.mkfifo(temporary)
    os.chown(temporary, owner.uid, owner.gid)


STAYS: dict[Callable[[Path, Any], None], Callable[[Path], list[str]]] = {
    _remove: lambda _: [],
    _replace: lambda temporary: [temporary.name],
    _cut: lambda _: [],
    _link: lambda _: ["second name"],
    _fifo: lambda temporary: [temporary.name],
}
"""What is done to the temporary file, and what of that is not ours to remove."""


@pytest.mark.parametrize("harm", STAYS, ids=lambda harm: harm.__name__)
def test_a_temporary_file_that_was_tampered_with_begins_again(
    harm: Callable[[Path, Any], None], half: Job, site: Site, folder: Path, owner: Any
) -> None:
    """OPEN-34, P4, P5."""
    half.saves(HALF)
    half.suspend()
    temporary = _temporary(folder)
    harm(temporary, owner)
    stays = {name: (folder / name).lstat().st_ino for name in STAYS[harm](temporary)}
    half.resume()
    half.reaches("transferred")
    assert site.offsets("/file")[-1] == 0
    assert half.complete() == 0
    assert names(folder) == sorted(["file", *stays])
    assert (folder / "file").read_bytes() == BODY
    assert {name: (folder / name).lstat().st_ino for name in stays} == stays


def test_a_temporary_file_that_is_lost_a_second_time_is_a_transient_error_that_says_so(
    half: Job, site: Site, folder: Path, owner: Any
) -> None:
    site.gate("/file", HALF)
    half.saves(HALF)
    half.suspend()
    _temporary(folder).unlink()
    half.resume()
    half.reaches("transferring")
    half.saves(HALF)
    half.suspend()
    _temporary(folder).unlink()
    del site.gates["/file"]
    half.resume()
    half.reaches("transient_error")
    assert half.code == ("transient_error", FILE_NOT_FOUND, "local_file")
    for part in (str(folder), f"{owner.name} (uid {owner.uid})", "see who else changes"):
        assert part in half.error["message"]
    _ends_well(half, folder)


@pytest.mark.parametrize("harm", STAYS, ids=lambda harm: harm.__name__)
def test_a_transferred_file_that_was_tampered_with_is_fetched_again_after_resume(
    harm: Callable[[Path, Any], None], half: Job, folder: Path, owner: Any
) -> None:
    half.suspend()
    half.resume()
    half.reaches("transferred")
    temporary = _temporary(folder)
    harm(temporary, owner)
    stays = STAYS[harm](temporary)
    if harm is _cut:  # the same file, and nobody reads it again: what the owner does to it is the owner's business
        assert half.complete() == 0
        return
    with pytest.raises(BitsError) as caught:
        half.complete()
    assert caught.value.hresult in {E_ACCESSDENIED, FILE_NOT_FOUND}
    info = half.info()
    assert info["state"] == "suspended", "not everything is here any more (OPEN-37)"
    assert info["waiting"] is not None
    assert f"Complete failed: {caught.value.symbol}" in info["waiting"]["reason"]
    assert "bits resume" in info["waiting"]["hint"]
    half.resume()
    half.reaches("transferred")
    half.complete()
    assert names(folder) == sorted(["file", *stays])
    assert (folder / "file").read_bytes() == BODY


def test_another_directory_in_the_place_of_the_destination_is_denied(half: Job, folder: Path, owner: Any) -> None:
    """P2: what was fixed when the file was added is the directory, not its name."""
    half.suspend()
    kept = folder.with_name("kept")
    folder.rename(kept)
    folder.mkdir()
    os.chown(folder, owner.uid, owner.gid)
    half.resume()
    half.reaches("error")
    assert half.code == ("error", E_ACCESSDENIED, "local_file")
    for part in (str(folder), "another directory is there", f"{owner.name} (uid {owner.uid})"):
        assert part in half.error["message"]
    assert names(folder) == []
    folder.rmdir()
    kept.rename(folder)
    half.resume()
    _ends_well(half, folder)


def test_cancel_with_the_directory_gone_says_so_and_cleans_up_when_it_is_back(
    half: Job, service: Service, folder: Path, owner: Any, as_user: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    half.suspend()
    away = folder.with_name("away")
    folder.rename(away)
    assert half.cancel() == BG_S_UNABLE_TO_DELETE_FILES
    assert half.is_gone()
    assert len(names(away)) == 1
    away.rename(folder)

    def visit() -> None:
        with service.client() as client:
            assert client.job_infos() == []

    as_user(owner, visit)
    eventually(lambda: names(folder) == [])


def test_a_directory_that_was_closed_is_an_error_that_names_the_right(half: Job, folder: Path, owner: Any) -> None:
    half.suspend()
    _temporary(folder).unlink()
    folder.chmod(0o500)
    half.resume()
    half.reaches("error")
    assert half.code == ("error", E_ACCESSDENIED, "local_file")
    for part in (f"uid {owner.uid} may not create files in {folder}", "mode 0500", f"{owner.name} (uid {owner.uid})"):
        assert part in half.error["message"]
    folder.chmod(0o700)
    half.resume()
    _ends_well(half, folder)
