"""Files of this machine as remote files: who opens what, uploads, what goes wrong (jobs.md §8, §10, §11)."""

import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real import stories
from tests.real.conftest import Service, run_as

from openbits import JobType, TokenFlags
from openbits.core import codes
from openbits.core.enums import FileAclFlags
from openbits.core.errors import BitsError
from openbits.core.names import file_url
from openbits.transfer.filecopy import PIECE_BYTES

pytestmark = pytest.mark.root

BODY = secrets.token_bytes(700_000)
LARGE = secrets.token_bytes(3 * PIECE_BYTES + 1)
LONG_AGO_NS = 1_600_000_000_123_456_789

PrivateFolder = Callable[[Any], Path]
Eventually = Callable[..., Any]

LOCAL_BY_HELPER = {0: False, 1: True, 2: False, 3: True}
REMOTE_BY_HELPER = {0: False, 1: False, 2: True, 3: True}
"""identity.md §4, rows "UPLOAD: open local source", "DOWNLOAD: temporary file" and "SMB: open remote file"."""


HELD = """
import os, sys, threading, time
from openbits import failpoints
from openbits.identity import spawner

here = threading.local()

def passed(name):
    if name == "copy.piece":
        here.pieces = getattr(here, "pieces", 0) + 1
        while here.pieces == 2 and os.path.exists({gate!r}):
            time.sleep(0.01)

failpoints.arm(passed)
sys.exit(spawner.main())
"""
"""The service, whose copies wait before their second piece as long as there is a file of this name."""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    base = Path(tempfile.mkdtemp(prefix="openbits-test-"))
    base.chmod(0o755)
    made = Service(base, 0, command=(sys.executable, "-c", HELD.format(gate=str(base / "gate"))))
    made.start()
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(base)


@pytest.fixture
def gate(service: Service) -> Iterator[Callable[[], None]]:
    """Copies are held after their first piece, until this is called."""
    place = service.base / "gate"
    place.touch()
    yield lambda: place.unlink(missing_ok=True)
    place.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def owner() -> Iterator[User]:
    with stories.real_user() as user:
        yield user


@pytest.fixture(autouse=True)
def _clean(service: Service) -> Iterator[None]:
    yield
    stories.cancel_all(service)


def give(path: Path, user: Any, body: bytes = BODY, mode: int = 0o600) -> Path:
    """A file of this user."""
    path.write_bytes(body)
    os.chown(path, user.uid, user.gid)
    path.chmod(mode)
    os.utime(path, ns=(0, LONG_AGO_NS))
    return path


@contextlib.contextmanager
def helped(service: Service, helper: User, flags: int) -> Iterator[Any]:
    """The owner's client and a function that makes a job with this helper."""
    with service.client() as client:

        def make(kind: JobType) -> Any:
            job = client.create_job("two identities", type=kind)
            with client.logon_user(helper.name, helper.password) as token, token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(TokenFlags(flags))
            return job

        yield make


def start_with_helper(service: Service, helper: User, flags: int, kind: JobType, remote: str, local: str) -> str:
    with helped(service, helper, flags) as make:
        job = make(kind)
        job.add_file(remote, local)
        job.resume()
        return str(job.id)


# -- whose file is whose


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_t1_a_download_is_read_and_made_by_the_identities_of_the_table(
    flags: int, service: Service, throwaway_user: Callable[..., User], private_folder: PrivateFolder
) -> None:
    """The folders are closed to everybody else, so whoever opened the files was who the table names."""
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    local, remote = ((helper if by[flags] else owner) for by in (LOCAL_BY_HELPER, REMOTE_BY_HELPER))
    source = give(private_folder(remote) / "source", remote)
    target = private_folder(local) / "target"
    started = run_as(owner, start_with_helper, service, helper, flags, JobType.DOWNLOAD, str(source), str(target))
    job = stories.Job(service, started)
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    found = target.stat()
    assert (found.st_uid, found.st_mode & 0o7777, found.st_mtime_ns) == (local.uid, 0o600, LONG_AGO_NS)
    assert target.read_bytes() == BODY
    assert stories.names(target.parent) == ["target"]
    assert source.stat().st_mtime_ns == LONG_AGO_NS


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_t1_an_upload_is_read_and_made_by_the_identities_of_the_table(
    flags: int, service: Service, throwaway_user: Callable[..., User], private_folder: PrivateFolder
) -> None:
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    local, remote = ((helper if by[flags] else owner) for by in (LOCAL_BY_HELPER, REMOTE_BY_HELPER))
    source = give(private_folder(local) / "source", local)
    target = private_folder(remote) / "target"
    started = run_as(owner, start_with_helper, service, helper, flags, JobType.UPLOAD, str(target), str(source))
    job = stories.Job(service, started)
    job.reaches("transferred")
    assert target.read_bytes() == BODY, "final from TRANSFERRED on"
    assert [file["is_published"] for file in job.files()] == [True]
    found = target.stat()
    assert (found.st_uid, found.st_mode & 0o7777, found.st_mtime_ns) == (remote.uid, 0o600, LONG_AGO_NS)
    assert job.complete() == codes.S_OK
    assert stories.names(target.parent) == ["target"]


def test_a_helper_may_come_after_the_file(
    service: Service, throwaway_user: Callable[..., User], private_folder: PrivateFolder
) -> None:
    """Nobody could find the source when it was added; the helper's broker finds it when its turn comes."""
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    source = give(private_folder(helper) / "source", helper)
    target = private_folder(owner) / "target"

    def start() -> str:
        with service.client() as client:
            job = client.create_job("late helper")
            job.add_file(source.as_uri(), target)
            job.set_helper_token_flags(TokenFlags.NETWORK)
            with client.logon_user(helper.name, helper.password) as token, token.impersonate():
                job.set_helper_token()
            job.resume()
            return str(job.id)

    job = stories.Job(service, run_as(owner, start))
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("kind", [JobType.DOWNLOAD, JobType.UPLOAD])
def test_the_token_is_lost_in_the_middle(
    kind: JobType,
    service: Service,
    gate: Callable[[], None],
    throwaway_user: Callable[..., User],
    private_folder: PrivateFolder,
) -> None:
    """H4: ERROR BG_E_TOKEN_REQUIRED; the cure is a new token."""
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    theirs, ours = private_folder(helper), private_folder(owner)
    reader, folder = (owner, ours) if kind is JobType.UPLOAD else (helper, theirs)
    source = give(folder / "source", reader, LARGE)
    other = (theirs if kind is JobType.UPLOAD else ours) / "target"
    remote, local = (other, source) if kind is JobType.UPLOAD else (source, other)
    started = run_as(owner, start_with_helper, service, helper, 2, kind, str(remote), str(local))
    job = stories.Job(service, started)

    def lose() -> None:
        with service.client() as client:
            client.job(job.id).clear_helper_token()

    job.receives(PIECE_BYTES)
    run_as(owner, lose)
    job.reaches("error")
    assert job.code == ("error", codes.BG_E_TOKEN_REQUIRED, "remote_file")
    gate()

    def repair() -> None:
        with service.client() as client:
            found = client.job(job.id)
            with client.logon_user(helper.name, helper.password) as token, token.impersonate():
                found.set_helper_token()
            found.resume()

    run_as(owner, repair)
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    assert other.read_bytes() == LARGE


# -- what is missing or closed is said when the job runs (jobs.md §10)


def _no_folder(folder: Path, _: Any) -> Path:
    return folder / "missing" / "file"


def _no_file(folder: Path, _: Any) -> Path:
    return folder / "file"


def _closed_file(folder: Path, _: Any) -> Path:
    made = folder / "file"
    made.write_bytes(b"secret")
    made.chmod(0o600)
    return made


def _closed_folder(folder: Path, _: Any) -> Path:
    inside = folder / "closed"
    inside.mkdir(mode=0o700)
    return inside / "file"


def _link(folder: Path, user: Any) -> Path:
    made = folder / "file"
    made.symlink_to(give(folder / "other", user))
    return made


def _fifo(folder: Path, user: Any) -> Path:
    made = folder / "file"
    os.mkfifo(made, 0o666)
    os.chown(made, user.uid, user.gid)
    return made


def _socket(folder: Path, user: Any) -> Path:
    made = folder / "file"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(made))
    os.chown(made, user.uid, user.gid)
    return made


def _folder(folder: Path, _: Any) -> Path:
    made = folder / "file"
    made.mkdir()
    return made


SOURCES: dict[str, tuple[Callable[[Path, Any], Path], int]] = {
    "folder missing": (_no_folder, 0x80070003),
    "file missing": (_no_file, 0x80070002),
    "file closed": (_closed_file, 0x80070005),
    "folder closed": (_closed_folder, 0x80070005),
    "symlink": (_link, 0x80070781),
    "fifo": (_fifo, 0x80070005),
    "socket": (_socket, 0x80070005),
    "folder": (_folder, 0x80070005),
    "device": (lambda _folder, _user: Path("/dev/zero"), 0x80070005),
    "made up by the kernel": (lambda _folder, _user: Path("/proc/version"), codes.BG_E_MISSING_FILE_SIZE),
}


@pytest.mark.parametrize("what", SOURCES)
def test_a_source_that_cannot_be_used_is_an_error_after_resume(
    what: str, service: Service, owner: User, private_folder: PrivateFolder
) -> None:
    plant, code = SOURCES[what]
    source = plant(private_folder(owner), owner)
    folder = private_folder(owner)
    job = stories.create(service, owner, [(file_url(str(source)), folder / "target")])
    job.reaches("error")
    assert job.code == ("error", code, "remote_file")
    assert job.error["protocol"] == "file"
    assert f"uid {owner.uid}" in job.error["identity"]
    assert job.error["message"]
    assert job.cancel() == codes.S_OK
    assert stories.names(folder) == []


@pytest.mark.parametrize(
    ("what", "code"), [("file missing", 0x80070002), ("symlink", 0x80070781), ("fifo", 0x80070005)]
)
def test_the_local_source_of_an_upload_is_looked_at_when_it_is_read(
    what: str, code: int, service: Service, owner: User, private_folder: PrivateFolder
) -> None:
    """OPEN-31: no error of AddFile; context LOCAL_FILE."""
    source = SOURCES[what][0](private_folder(owner), owner)
    folder = private_folder(owner)
    job = stories.create(service, owner, [((folder / "target").as_uri(), source)], type=JobType.UPLOAD)
    job.reaches("error")
    assert job.code == ("error", code, "local_file")
    assert job.error["protocol"] is None
    assert stories.names(folder) == []


def test_a_missing_folder_of_a_local_source_is_an_error_of_add_file(
    service: Service, owner: User, private_folder: PrivateFolder
) -> None:
    """OPEN-30 holds for uploads too; that the folder may not be written does not matter."""
    folder = private_folder(owner)
    source = give(folder / "source", owner)
    with pytest.raises(BitsError) as refused:
        stories.create(service, owner, [("/srv/x", folder / "missing" / "source")], type=JobType.UPLOAD)
    assert refused.value.hresult == 0x80070003
    folder.chmod(0o500)
    os.chown(folder, 0, owner.gid)
    folder.chmod(0o550)
    out = private_folder(owner)
    job = stories.create(service, owner, [((out / "target").as_uri(), source)], type=JobType.UPLOAD)
    job.reaches("transferred")
    assert (out / "target").read_bytes() == BODY


@pytest.mark.parametrize("kind", [JobType.DOWNLOAD, JobType.UPLOAD])
def test_a_remote_folder_that_is_made_later_is_found_at_resume(
    kind: JobType, service: Service, owner: User, private_folder: PrivateFolder
) -> None:
    """The owner's broker may go only where a client's call let it in: Resume is one."""
    folder, late = private_folder(owner), private_folder(owner) / "late"
    local = folder / "local"
    if kind is JobType.UPLOAD:
        give(local, owner)
    job = stories.create(service, owner, [(str(late / "remote"), local)], type=kind)
    job.reaches("error")
    assert job.code == ("error", 0x80070003, "remote_file")
    late.mkdir(mode=0o700)
    os.chown(late, owner.uid, owner.gid)
    if kind is JobType.DOWNLOAD:
        give(late / "remote", owner)

    def resume() -> None:
        with service.client() as client:
            client.job(job.id).resume()

    run_as(owner, resume)
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    assert local.read_bytes() == (late / "remote").read_bytes() == BODY


@pytest.mark.parametrize(
    ("plant", "code"), [(_closed_folder, 0x80070005), (_no_folder, 0x80070003), (_folder, 0x80070005)]
)
def test_a_destination_that_cannot_be_used_is_an_error_after_resume(
    plant: Callable[[Path, Any], Path],
    code: int,
    service: Service,
    owner: User,
    private_folder: PrivateFolder,
) -> None:
    target = plant(private_folder(owner), owner)
    source = give(private_folder(owner) / "source", owner)
    job = stories.create(service, owner, [(target.as_uri(), source)], type=JobType.UPLOAD)
    job.reaches("error")
    assert job.code == ("error", code, "remote_file")
    assert job.error["protocol"] == "file"


def test_a_reply_cannot_come_from_a_file(service: Service, owner: User, private_folder: PrivateFolder) -> None:
    source = give(private_folder(owner) / "source", owner)
    with pytest.raises(BitsError) as refused:
        stories.create(service, owner, [("/srv/x", source)], type=JobType.UPLOAD_REPLY)
    assert refused.value.hresult == codes.E_INVALIDARG


# -- uploads


def test_an_upload_that_is_cancelled_leaves_nothing_and_a_finished_one_its_file(
    service: Service, gate: Callable[[], None], owner: User, private_folder: PrivateFolder, eventually: Eventually
) -> None:
    folder = private_folder(owner)
    source = give(private_folder(owner) / "source", owner, LARGE)
    job = stories.create(service, owner, [((folder / "target").as_uri(), source)], type=JobType.UPLOAD)
    job.receives(PIECE_BYTES)
    assert not (folder / "target").exists(), "never half a file at the final name"
    assert job.cancel() == codes.S_OK
    assert stories.names(folder) == []
    gate()
    again = stories.create(service, owner, [((folder / "target").as_uri(), source)], type=JobType.UPLOAD)
    again.reaches("transferred")
    assert again.cancel() == codes.S_OK
    assert stories.names(folder) == ["target"]
    eventually(again.is_gone)


@pytest.mark.parametrize("kind", [JobType.DOWNLOAD, JobType.UPLOAD])
def test_a_copy_that_was_stopped_goes_on_where_it_was(
    kind: JobType, service: Service, gate: Callable[[], None], owner: User, private_folder: PrivateFolder
) -> None:
    """What was there is marked meanwhile, and arrives with its mark."""
    folder = private_folder(owner)
    source, target = give(private_folder(owner) / "source", owner, LARGE), folder / "target"
    pair = (target.as_uri(), source) if kind is JobType.UPLOAD else (source.as_uri(), target)
    job = stories.create(service, owner, [pair], type=kind)
    job.saves(PIECE_BYTES)
    job.suspend()
    (partial,) = folder.iterdir()
    with partial.open("r+b") as file:
        file.write(b"mark")
    gate()
    job.resume()
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    assert stories.names(folder) == ["target"]
    assert target.read_bytes() == b"mark" + LARGE[4:]


def test_an_upload_whose_source_changes_while_it_is_stopped_is_over(
    service: Service, gate: Callable[[], None], owner: User, private_folder: PrivateFolder
) -> None:
    """jobs.md §9.3: recreate the job."""
    folder = private_folder(owner)
    source = give(private_folder(owner) / "source", owner, LARGE)
    job = stories.create(service, owner, [((folder / "target").as_uri(), source)], type=JobType.UPLOAD)
    job.saves(PIECE_BYTES)
    job.suspend()
    gate()
    os.utime(source, ns=(0, LONG_AGO_NS + 1))
    for _ in range(2):
        job.resume()
        job.reaches("error")
        assert job.code == ("error", codes.BG_E_LOCAL_FILE_CHANGED, "local_file")
    assert job.cancel() == codes.S_OK
    assert stories.names(folder) == []


@pytest.mark.parametrize("program", ["manager", "worker", "broker", "spawner"])
def test_whoever_is_killed_an_upload_arrives_whole_and_once(
    program: str, service: Service, gate: Callable[[], None], owner: User, private_folder: PrivateFolder
) -> None:
    folder = private_folder(owner)
    source = give(private_folder(owner) / "source", owner, LARGE)
    job = stories.create(
        service,
        owner,
        [((folder / "target").as_uri(), source)],
        type=JobType.UPLOAD,
        minimum_retry_delay_seconds=5,
    )
    job.receives(PIECE_BYTES)
    service.kill(program)
    gate()
    if program == "spawner":
        service.start()
    service.wait_until_it_answers()
    job.reaches("transferred", seconds=40)
    assert (folder / "target").read_bytes() == LARGE
    assert job.complete() == codes.S_OK
    assert stories.names(folder) == ["target"]


def test_a_crash_between_the_rename_and_the_row_is_no_second_upload(
    service: Service, owner: User, private_folder: PrivateFolder, eventually: Eventually
) -> None:
    """The manager dies as soon as the final name is there; the row may or may not know it."""
    for number in range(5):
        folder = private_folder(owner)
        target = folder / f"target{number}"
        source = give(private_folder(owner) / "source", owner)
        manager = service.pids()["manager"]
        job = stories.create(service, owner, [(target.as_uri(), source)], type=JobType.UPLOAD)
        while not target.exists():
            pass
        with contextlib.suppress(ProcessLookupError):
            os.kill(manager, 9)
        made = target.stat()
        source.unlink()  # what is there does not need it any more
        service.wait_until_it_answers()
        job.reaches("transferred", seconds=30)
        assert (target.stat().st_ino, target.read_bytes()) == (made.st_ino, BODY)
        assert stories.names(folder) == [target.name]
        assert job.complete() == codes.S_OK
        eventually(job.is_gone)


def test_an_upload_whose_whole_temporary_is_taken_away_begins_again(
    service: Service, gate: Callable[[], None], owner: User, private_folder: PrivateFolder
) -> None:
    """A folder is in the way of the final name, and with it the temporary file is removed."""
    folder = private_folder(owner)
    target = folder / "target"
    source = give(private_folder(owner) / "source", owner, LARGE)
    job = stories.create(
        service, owner, [(target.as_uri(), source)], type=JobType.UPLOAD, minimum_retry_delay_seconds=5
    )
    job.receives(PIECE_BYTES)
    target.mkdir()
    gate()
    job.reaches("error")
    (temporary,) = (path for path in folder.iterdir() if path != target)
    temporary.unlink()
    target.rmdir()
    job.resume()
    job.reaches("transferred", seconds=20)
    assert target.read_bytes() == LARGE
    assert stories.names(folder) == ["target"]


@pytest.mark.parametrize("kind", [JobType.DOWNLOAD, JobType.UPLOAD])
def test_a_copy_goes_on_under_a_new_owner(
    kind: JobType, service: Service, gate: Callable[[], None], owner: User, private_folder: PrivateFolder
) -> None:
    """TakeOwnership: the bytes go on in a file of the new owner, who is let in to both places."""
    there, here = private_folder(owner), private_folder(owner)
    for folder in (there, here):
        folder.chmod(0o777)
    source, target = give(there / "source", owner, LARGE, mode=0o644), here / "target"
    pair = (target.as_uri(), source) if kind is JobType.UPLOAD else (source.as_uri(), target)
    job = stories.create(service, owner, [pair], type=kind)
    job.saves(PIECE_BYTES)
    (partial,) = here.iterdir()
    with partial.open("r+b") as file:
        file.write(b"mark")
    with service.client() as client:
        client.job(job.id).take_ownership()
    gate()
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    assert stories.names(here) == ["target"]
    assert (target.stat().st_uid, target.read_bytes()) == (0, b"mark" + LARGE[4:])


# -- hostile neighbours


@pytest.fixture
def attacker() -> Iterator[User]:
    with stories.real_user() as user:
        yield user


@pytest.fixture
def shared(private_folder: PrivateFolder, attacker: User) -> Path:
    """A folder of the attacker in which everybody may create files."""
    folder = private_folder(attacker) / "shared"
    folder.parent.chmod(0o755)
    folder.mkdir()
    os.chown(folder, attacker.uid, attacker.gid)
    folder.chmod(0o777)
    return folder


def swap(folder: Path, victim: Path) -> Callable[[], None]:
    def act() -> None:
        folder.rename(folder.with_name("was"))
        folder.symlink_to(victim)

    return act


def test_a_source_folder_that_is_swapped_gives_away_nothing(
    service: Service, owner: User, attacker: User, shared: Path, private_folder: PrivateFolder
) -> None:
    secret = give(private_folder(owner) / "file", owner, b"secret")
    give(shared / "file", attacker, mode=0o644)
    folder = private_folder(owner)
    job = stories.create(service, owner, [((shared / "file").as_uri(), folder / "target")], is_resumed=False)
    run_as(attacker, swap(shared, secret.parent))
    job.resume()
    job.reaches("error")
    assert job.code == ("error", codes.E_ACCESSDENIED, "remote_file")
    assert job.cancel() == codes.S_OK
    assert stories.names(folder) == []


def test_a_source_that_is_swapped_gives_away_nothing(
    service: Service, owner: User, attacker: User, shared: Path, private_folder: PrivateFolder
) -> None:
    secret = give(private_folder(owner) / "file", owner, b"secret")
    folder = private_folder(owner)
    job = stories.create(service, owner, [((shared / "file").as_uri(), folder / "target")], is_resumed=False)
    run_as(attacker, lambda: (shared / "file").symlink_to(secret))
    job.resume()
    job.reaches("error")
    assert job.code == ("error", 0x80070781, "remote_file")


def test_a_destination_folder_that_is_swapped_gets_nothing(
    service: Service, owner: User, attacker: User, shared: Path, private_folder: PrivateFolder
) -> None:
    victim = private_folder(owner)
    precious = give(victim / "target", owner, b"precious")
    source = give(private_folder(owner) / "source", owner)
    job = stories.create(
        service, owner, [((shared / "target").as_uri(), source)], type=JobType.UPLOAD, is_resumed=False
    )
    run_as(attacker, swap(shared, victim))
    job.resume()
    job.reaches("error")
    assert job.code == ("error", codes.E_ACCESSDENIED, "remote_file")
    assert (stories.names(victim), precious.read_bytes()) == (["target"], b"precious")


def test_a_link_at_the_destination_is_replaced_and_not_followed(
    service: Service, owner: User, attacker: User, shared: Path, private_folder: PrivateFolder
) -> None:
    precious = give(private_folder(owner) / "precious", owner, b"precious")
    source = give(private_folder(owner) / "source", owner)
    run_as(attacker, lambda: (shared / "target").symlink_to(precious))
    job = stories.create(service, owner, [((shared / "target").as_uri(), source)], type=JobType.UPLOAD)
    job.reaches("transferred")
    assert precious.read_bytes() == b"precious"
    assert ((shared / "target").is_symlink(), (shared / "target").stat().st_uid) == (False, owner.uid)


def test_the_copy_of_a_private_file_is_private_too(
    service: Service, owner: User, private_folder: PrivateFolder
) -> None:
    """jobs.md §8.5: no more rights than the source, though the umask of the client would leave more."""
    folder = private_folder(owner)
    modes = {0o600: 0o600, 0o640: 0o640, 0o666: 0o644, 0o755: 0o644, 0o444: 0o444, 0o440: 0o440}
    pairs = [(str(give(folder / f"{mode:o}", owner, mode=mode)), folder / f"copy{mode:o}") for mode in modes]
    job = stories.create(service, owner, pairs)
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    assert {mode: (folder / f"copy{mode:o}").stat().st_mode & 0o7777 for mode in modes} == modes


def test_a_source_on_another_file_system_and_a_sparse_one(
    service: Service, owner: User, private_folder: PrivateFolder
) -> None:
    elsewhere = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/dev/shm"))
    elsewhere.chmod(0o755)
    try:
        give(elsewhere / "a", owner)
        sparse = give(elsewhere / "sparse", owner, b"x")
        os.truncate(sparse, 1 << 40)
        folder = private_folder(owner)
        job = stories.create(service, owner, [(str(elsewhere / "a"), folder / "a"), (str(sparse), folder / "sparse")])
        job.reaches("transferred")
        assert job.complete() == codes.S_OK
    finally:
        shutil.rmtree(elsewhere)
    assert (folder / "a").read_bytes() == BODY
    found = (folder / "sparse").stat()
    assert (found.st_size, found.st_blocks < 100_000) == (1 << 40, True)


# -- file ACL flags (jobs.md §8.6)


def test_an_access_list_goes_along_if_it_is_asked_for(
    service: Service, owner: User, private_folder: PrivateFolder
) -> None:
    folder = private_folder(owner)
    source = give(folder / "source", owner, mode=0o751)
    job = stories.create(
        service, owner, [(str(source), folder / "copy")], file_acl_flags=FileAclFlags.DACL | FileAclFlags.SACL
    )
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    assert (folder / "copy").stat().st_mode & 0o7777 == 0o751
    up = stories.create(
        service,
        owner,
        [((folder / "up").as_uri(), source)],
        type=JobType.UPLOAD,
        file_acl_flags=FileAclFlags.DACL,
    )
    up.reaches("transferred")
    assert (folder / "up").stat().st_mode & 0o7777 == 0o751


def test_an_owner_that_cannot_be_kept_is_a_transient_error(
    service: Service, owner: User, attacker: User, private_folder: PrivateFolder
) -> None:
    """jobs.md §8.6: missing privilege, TRANSIENT_ERROR with E_ACCESSDENIED; without the flag it goes on."""
    there = private_folder(attacker)
    there.chmod(0o755)
    source = give(there / "source", attacker, mode=0o644)
    folder = private_folder(owner)
    job = stories.create(service, owner, [(str(source), folder / "copy")], file_acl_flags=FileAclFlags.OWNER)
    job.reaches("transient_error")
    assert job.code == ("transient_error", codes.E_ACCESSDENIED, "local_file")
    assert str(attacker.uid) in job.error["message"]
    job.set(file_acl_flags=FileAclFlags(0))
    job.resume()
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    assert (folder / "copy").stat().st_uid == owner.uid
