"""Full and read-only disks under the destination and under the state directory (reliability.md P1, P12, C4)."""

import contextlib
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site
from tests.real.stories import create, names

from openbits import BitsError

pytestmark = pytest.mark.root

DISK_FULL = 0x80070070
WRITE_PROTECT = 0x80070013
SERVER_UNAVAILABLE = 0x800706BA

BODY = secrets.token_bytes(700_000)
DISK_BYTES = 400 * 1024

MOST_GENERATIONS = 8
"""In the first 13 s the spawner tries after 0.1, 0.2, 0.4, 0.8, 1.6, 3.2 and 6.4 s."""


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs of its own on a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "openbits-test", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.fixture
def owner(throwaway_user: Callable[..., Any]) -> Any:
    return throwaway_user()


@pytest.fixture
def small(open_tmp_path: Path, owner: Any) -> Iterator[Path]:
    """A folder of the owner on a disk that is too small."""
    folder = open_tmp_path / "small"
    folder.mkdir()
    with disk(folder, f"size={DISK_BYTES},mode=0700,uid={owner.uid},gid={owner.gid}"):
        yield folder


# -- the destination --------------------------------------------------------------------------------------------------


def test_a_full_disk_is_waited_for_and_names_path_identity_and_room(
    service: Service, site: Site, owner: Any, small: Path, private_folder: Callable[[Any], Path]
) -> None:
    job = create(service, owner, [(site.put("/file", BODY), small / "file")])
    info = job.reaches("transient_error")
    assert job.code == ("transient_error", DISK_FULL, "local_file")
    error = job.error
    assert (error["file_index"], error["protocol"]) == (0, None)  # errors.md §3: a file, and no protocol
    needed = len(BODY) - info["bytes_transferred"]
    for part in (
        f"{small}/file",
        f"{owner.name} (uid {owner.uid})",
        f"needs {needed} more bytes of room",
        "free space",
    ):
        assert part in error["message"], error["message"]
    assert error["identity"] == f"{owner.name} (uid {owner.uid})"
    waiting = info["waiting"]
    assert waiting is not None
    assert waiting["next_at"] is not None
    assert 0 < info["bytes_transferred"] <= DISK_BYTES

    elsewhere = private_folder(owner)
    other = create(service, owner, [(site.url + "/file", elsewhere / "file")])
    other.reaches("transferred")
    assert other.complete() == 0, "others proceed"

    remount(small, "size=2m")
    job.resume()
    job.reaches("transferred")
    assert site.offsets("/file")[-1] > 0, "what was there is kept"
    assert job.complete() == 0
    assert names(small) == ["file"]
    assert (small / "file").read_bytes() == BODY


def test_a_job_on_a_full_disk_goes_on_by_itself_when_there_is_room_and_does_not_spin_before(
    service: Service, site: Site, owner: Any, small: Path
) -> None:
    job = create(service, owner, [(site.put("/file", BODY), small / "file")], auto_complete=True)
    job.reaches("transient_error")
    deadline = time.monotonic() + 10
    while "attempt 2 failed" not in (job.info()["waiting"] or {"reason": ""})["reason"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(site.offsets("/file")) <= 3
    remount(small, "size=2m")
    deadline = time.monotonic() + 12  # the third attempt is 5 s after the second
    while not job.is_gone():
        assert time.monotonic() < deadline, job.info()
        time.sleep(0.05)
    assert (small / "file").read_bytes() == BODY


@pytest.mark.attack(24)
def test_a_disk_without_an_inode_left_is_full_too(service: Service, site: Site, owner: Any, small: Path) -> None:
    job = create(service, owner, [(site.put("/file", BODY[:1000]), small / "file")], is_resumed=False)
    remount(small, "nr_inodes=2")
    (small / "other").touch()
    job.resume()
    job.reaches("transient_error")
    assert job.code == ("transient_error", DISK_FULL, "local_file")
    for part in (str(small), f"{owner.name} (uid {owner.uid})", "inode"):
        assert part in job.error["message"]
    (small / "other").unlink()
    job.resume()
    job.reaches("transferred")
    assert job.complete() == 0
    assert names(small) == ["file"]


def test_a_read_only_disk_is_refused_when_the_file_is_added(service: Service, owner: Any, small: Path) -> None:
    remount(small, "ro")
    with pytest.raises(BitsError) as caught:
        create(service, owner, [("http://127.0.0.1:9/file", small / "file")])
    assert caught.value.hresult == WRITE_PROTECT
    for part in (str(small), f"{owner.name} (uid {owner.uid})", "the file system is read-only"):
        assert part in str(caught.value)


def test_a_disk_that_became_read_only_is_an_error_and_a_resume_after_the_repair_ends_well(
    service: Service, site: Site, owner: Any, small: Path
) -> None:
    job = create(service, owner, [(site.put("/file", BODY[:1000]), small / "file")], is_resumed=False)
    remount(small, "ro")
    job.resume()
    job.reaches("error")
    assert job.code == ("error", WRITE_PROTECT, "local_file")
    for part in (str(small), f"{owner.name} (uid {owner.uid})", "read-only"):
        assert part in job.error["message"]
    remount(small, "rw")
    job.resume()
    job.reaches("transferred")
    remount(small, "ro")
    with pytest.raises(BitsError) as caught:
        job.complete()
    assert caught.value.hresult == WRITE_PROTECT
    assert job.state == "transferred"
    remount(small, "rw")
    assert job.complete() == 0
    assert names(small) == ["file"]


# -- the state directory ----------------------------------------------------------------------------------------------


@pytest.fixture
def cramped(make_service: Callable[..., Service]) -> Iterator[Service]:
    """A service whose state directory is a small disk, its log included."""
    made = make_service()
    with disk(made.state, "size=2m,mode=0711,uid=0,gid=0"):
        made.log_path = made.state / "bitsd.log"
        made.start()
        yield made
        made.close()


def _fill(folder: Path) -> Path:
    """Take all room that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def _create_until_it_fails(service: Service) -> tuple[list[str], int, str]:
    """Ids of the jobs whose creation succeeded; code and text of the error then."""
    made = []
    try:
        with service.client() as client:
            while True:
                made.append(str(client.create_job("x" * 200).id))
    except BitsError as error:
        return made, error.hresult, str(error)


@pytest.mark.attack(24)
def test_a_full_state_directory_is_told_and_survived_and_nothing_acknowledged_is_lost(
    cramped: Service, site: Site, owner: Any, private_folder: Callable[[Any], Path], as_user: Callable[..., Any]
) -> None:
    folder = private_folder(owner)
    waiting = create(cramped, owner, [(site.put("/file", BODY), folder / "file")], is_resumed=False)
    filler = _fill(cramped.state)
    filled_at = time.monotonic()
    made, code, text = as_user(owner, _create_until_it_fails, cramped)
    assert code == DISK_FULL, text
    for part in ("nothing was changed", "queue.db", "full", "free space"):
        assert part in text, text

    with pytest.raises(BitsError) as caught:
        _create_and_drop(cramped)
    assert caught.value.hresult in {DISK_FULL, SERVER_UNAVAILABLE}
    assert "free space" in str(caught.value) or "may be restarting" in str(caught.value), str(caught.value)

    managers = _managers_until(cramped, filled_at + 4)
    assert len(managers) <= MOST_GENERATIONS, "it spins"
    filler.unlink()
    cramped.wait_until_it_answers()
    with cramped.client() as client:
        infos = client.job_infos(all_users=True)
        assert {info["job_id"] for info in infos} == {*made, waiting.id}
        for job in client.jobs(all_users=True):
            if str(job.id) != waiting.id:
                assert job.cancel() == 0
    waiting.resume()
    waiting.reaches("transferred")
    assert waiting.complete() == 0
    assert (folder / "file").read_bytes() == BODY
    assert names(folder) == ["file"]


def _create_and_drop(service: Service) -> None:
    """Until the service goes away too, if it has come back meanwhile."""
    for _ in range(1000):
        with service.client() as client:
            client.create_job("y" * 200)


def _managers_until(service: Service, instant: float) -> set[int]:
    """Pids of the managers that are seen up to that time."""
    seen = set()
    while time.monotonic() < instant:
        for path in Path("/proc").glob("[0-9]*/comm"):
            with contextlib.suppress(OSError):
                status = path.with_name("status").read_text()
                if path.read_text() == "bits-manager\n" and f"PPid:\t{_zygote_of(service)}\n" in status:
                    seen.add(int(path.parent.name))
        time.sleep(0.02)
    return seen


def _zygote_of(service: Service) -> int:
    children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
    return int(children[0]) if children else 0


def test_a_transfer_outlives_a_state_directory_that_fills_up_under_it(
    cramped: Service, site: Site, owner: Any, private_folder: Callable[[Any], Path]
) -> None:
    """P12: the next checkpoint cannot be committed; when there is room again it goes on without anybody."""
    folder = private_folder(owner)
    gate = site.gate("/file", 300_000)
    job = create(cramped, owner, [(site.put("/file", BODY), folder / "file")], auto_complete=True)
    job.saves(300_000)
    filler = _fill(cramped.state)
    gate.set()
    job_is_done = folder / "file"
    deadline = time.monotonic() + 3
    while not job_is_done.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    filler.unlink()
    cramped.wait_until_it_answers()
    deadline = time.monotonic() + 20
    while not job.is_gone():
        assert time.monotonic() < deadline, job.info()
        time.sleep(0.05)
    assert names(folder) == ["file"]
    assert (folder / "file").read_bytes() == BODY
    assert (folder / "file").stat().st_uid == owner.uid


def test_a_service_that_cannot_start_for_want_of_space_says_so(make_service: Callable[..., Service]) -> None:
    made = make_service()
    command = [*made.command, "--state-dir", str(made.state), "--socket", str(made.socket)]
    with disk(made.state, "size=64k,mode=0711,uid=0,gid=0"):
        filler = _fill(made.state)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert "cannot start" in done.stderr
        assert "No space left on device" in done.stderr or "full" in done.stderr
        filler.unlink()
