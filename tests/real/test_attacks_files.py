"""Hostile neighbours in the destination folder, against the whole service (reliability.md §6)."""

import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import attacks
from tests.conftest import User
from tests.real import fuse, stories
from tests.real.conftest import Service, Site, run_as

from openbits.core import codes
from openbits.core.enums import Priority
from openbits.core.errors import BitsError

pytestmark = pytest.mark.root

BODY = secrets.token_bytes(400_000)
HELD_AT = 200_000
BATCH, MOST_BATCHES = 10, 1000

Eventually = Callable[..., Any]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with stories.running_service() as running:
        yield running


@pytest.fixture(scope="module")
def owner() -> Iterator[User]:
    with stories.real_user() as user:
        yield user


@pytest.fixture(scope="module")
def attacker() -> Iterator[User]:
    with stories.real_user() as user:
        yield user


@pytest.fixture
def precious(private_folder: Callable[[Any], Path], owner: User) -> Path:
    """A file of the owner's that no attack may change."""
    path = private_folder(owner) / "data.bin"
    path.write_bytes(b"precious")
    os.chown(path, owner.uid, owner.gid)
    path.chmod(0o600)
    return path


@pytest.fixture
def shared(private_folder: Callable[[Any], Path], attacker: User) -> Path:
    """A folder of the attacker in which everybody may create files: the owner downloads there."""
    folder = private_folder(attacker) / "shared"
    folder.parent.chmod(0o755)
    folder.mkdir()
    os.chown(folder, attacker.uid, attacker.gid)
    folder.chmod(0o777)
    return folder


@pytest.fixture
def held(service: Service, site: Site, owner: User, shared: Path) -> Iterator[tuple[stories.Job, threading.Event]]:
    """The owner's job, of whose only file the second half is held back."""
    url = site.put("/data", BODY)
    gate = site.gate("/data", HELD_AT)
    job = stories.create(service, owner, [(url, shared / "data.bin")])
    job.receives(HELD_AT)
    yield job, gate
    gate.set()
    stories.cancel_all(service)


def temporary(folder: Path) -> Path:
    (found,) = folder.glob(".BIT*.tmp")
    return found


def untouched(precious: Path, owner: User) -> bool:
    found = precious.lstat()
    return (precious.read_bytes(), found.st_uid, found.st_mode & 0o777, found.st_nlink) == (
        b"precious",
        owner.uid,
        0o600,
        1,
    )


@pytest.mark.attack(2)
@pytest.mark.parametrize("kind", ["symlink", "fifo", "copy", "directory"])
def test_a_temporary_that_was_replaced_is_neither_written_nor_published(
    kind: str,
    held: tuple[stories.Job, threading.Event],
    shared: Path,
    precious: Path,
    owner: User,
    attacker: User,
) -> None:
    """The job is suspended and resumed meanwhile, so the temporary has to be opened again by its name."""
    job, gate = held
    job.suspend()
    path = temporary(shared)

    def replace() -> None:
        content = b"x" * HELD_AT
        path.rename(shared / "stolen")
        if kind == "symlink":
            path.symlink_to(precious)
        elif kind == "fifo":
            os.mkfifo(path, 0o666)
        elif kind == "directory":
            path.mkdir(mode=0o777)
        else:
            path.write_bytes(content)
            path.chmod(0o666)

    run_as(attacker, replace)
    gate.set()
    job.resume()
    job.reaches("transferred")
    assert job.complete() in {codes.S_OK, codes.BG_S_UNABLE_TO_DELETE_FILES}
    final = shared / "data.bin"
    assert (final.read_bytes(), final.stat().st_uid) == (BODY, owner.uid)
    assert untouched(precious, owner)


@pytest.mark.attack(3)
def test_a_final_name_that_is_a_link_is_replaced_and_not_followed(
    held: tuple[stories.Job, threading.Event], shared: Path, precious: Path, owner: User, attacker: User
) -> None:
    job, gate = held
    run_as(attacker, lambda: (shared / "data.bin").symlink_to(precious))
    gate.set()
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    final = shared / "data.bin"
    assert not final.is_symlink()
    assert (final.read_bytes(), final.stat().st_uid) == (BODY, owner.uid)
    assert untouched(precious, owner)


@pytest.mark.attack(1, 3)
def test_folder_and_names_that_change_all_the_time_mislead_no_job(
    service: Service,
    site: Site,
    shared: Path,
    precious: Path,
    owner: User,
    attacker: User,
    record_property: Callable[[str, object], None],
) -> None:
    """The folder is fixed when files are added; then the attacker exchanges it with a link to the victim's own."""
    url = site.put("/small", b"content of the job")
    link = shared.with_name("link")
    link.symlink_to(precious.parent)
    ends: Counter[str] = Counter()
    for batch in range(MOST_BATCHES):
        if ends["completed"] and len(ends) > 1 and ends.total() >= attacks.ROUNDS // 100:
            break
        waiting = [
            stories.create(service, owner, [(url, shared / f"file{batch}-{number}")], is_resumed=False)
            for number in range(BATCH)
        ]
        pid = os.fork()
        if pid == 0:
            _exchange_for_ever(attacker, shared, link)
        try:
            ends.update(_end(job) for job in waiting)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if shared.is_symlink():
            shared.unlink()
            link.rename(shared)
            link.symlink_to(precious.parent)
    stories.cancel_all(service)
    record_property("tries", ends.total())
    assert untouched(precious, owner)
    assert stories.names(precious.parent) == ["data.bin"]
    assert ends["completed"] > 0, ends  # some found the folder in place, some did not
    assert len(ends) > 1, ends
    assert len(list(shared.glob("file*"))) == ends["completed"]


def _exchange_for_ever(attacker: User, first: Path, second: Path) -> None:
    import ctypes  # noqa: PLC0415  # in the child

    os.setresgid(attacker.gid, attacker.gid, attacker.gid)
    os.setresuid(attacker.uid, attacker.uid, attacker.uid)
    renameat2 = ctypes.CDLL(None).renameat2
    while True:
        renameat2(-100, bytes(first), -100, bytes(second), 2)


def _end(job: stories.Job) -> str:
    """How far a job gets."""
    job.set(priority=Priority.FOREGROUND)
    job.resume()
    state = job.reaches("transferred", "error", "transient_error")["state"]
    if state != "transferred":
        job.cancel()
        return state
    try:
        job.complete()
    except BitsError as error:
        job.cancel()
        return codes.label(error.hresult)
    return "completed"


@pytest.mark.attack(7)
@pytest.mark.parametrize(
    "way", ["/proc/{root}/root{folder}", "/proc/self/fd/0", "/proc/self/root{folder}", "/dev/fd/0"]
)
def test_a_path_through_proc_leads_nowhere(
    way: str, service: Service, owner: User, private_folder: Callable[[Any], Path]
) -> None:
    """Also /proc/self of the broker must not be a way into anything but the tree everybody sees."""
    folder = private_folder(owner)
    path = Path(way.format(root=os.getpid(), folder=folder)) / "x"

    def add() -> tuple[int, list[str]]:
        with service.client() as client:
            job = client.create_job("proc")
            try:
                job.add_file("http://127.0.0.1/x", path)
            except BitsError as error:
                return error.hresult, []
            finally:
                names = [file["local_name"] for file in job.files()]
                job.cancel()
            return codes.S_OK, names

    hresult, names = run_as(owner, add)
    if hresult == codes.S_OK:  # the same tree under another name: then it is resolved to what it is
        assert way == "/proc/self/root{folder}"
        assert names == [str(path)]
    else:
        assert codes.is_failure(hresult)


@pytest.mark.attack(9)
def test_a_file_system_that_never_answers_holds_up_its_user_alone(
    make_service: Callable[..., Service],
    site: Site,
    owner: User,
    attacker: User,
    private_folder: Callable[[Any], Path],
    eventually: Eventually,
) -> None:
    service = make_service()
    service.start()
    url = site.put("/data", BODY)
    trap, folder = private_folder(attacker), private_folder(owner)
    with fuse.mounted(trap, attacker.uid, silent={fuse.CREATE}) as hostile:
        trapped = stories.create(service, attacker, [(url, trap / "x")], priority=Priority.FOREGROUND)
        eventually(lambda: fuse.CREATE in hostile.seen)
        good = stories.create(service, owner, [(url, folder / "data.bin")], priority=Priority.FOREGROUND)
        good.reaches("transferred")
        assert good.complete() == codes.S_OK
        assert trapped.state in {"connecting", "transient_error", "queued"}
        trapped.suspend()
        assert trapped.state == "suspended"
        began_at = time.monotonic()
        service.stop()
        assert time.monotonic() - began_at < 20
    assert (folder / "data.bin").read_bytes() == BODY


@pytest.mark.attack(10)
def test_a_file_system_that_lies_about_its_files_gets_no_job_to_say_it_is_done(
    service: Service, site: Site, owner: User, private_folder: Callable[[Any], Path]
) -> None:
    place = private_folder(owner)
    with fuse.mounted(place, owner.uid):
        job = stories.create(
            service, owner, [(site.put("/data", BODY), place / "data.bin")], priority=Priority.FOREGROUND
        )
        state = job.reaches("transferred", "transient_error", "error")["state"]
        if state == "transferred":
            with pytest.raises(BitsError):
                job.complete()
            assert job.state in {"transferred", "suspended"}
        job.cancel()
