"""Hostile neighbours and secrets of uploads, against the whole service and `bits-server` (reliability.md §6)."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real import canaries, stories
from tests.real.canaries import canary
from tests.real.conftest import Service, run_as
from tests.real.uploading import ANSWER, BODY, WatchedServer, begin, held, reply_of, serving
from tests.server.applications import Application
from tests.server.process import ServerProcess
from tests.transfer.uploadserver import honest

from openbits import AuthScheme, AuthTarget, BitsError, JobType
from openbits.core.packets import PacketType
from openbits.server import users

pytestmark = pytest.mark.root

ACCESS_DENIED, LOCAL_FILE_CHANGED, AUTH_REFUSED = 0x80070005, 0x8020001D, 0x80190191
FRAGMENT = PacketType.FRAGMENT

DIRECTORIES = """
[directories."/inbox/"]
BITSUploadEnabled = true
BITSServerNotificationType = 2
BITSServerNotificationURL = "{url}"
notification_secret_file = "{secret}"
[directories."/plain/"]
BITSUploadEnabled = true
"""


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
def server() -> Iterator[WatchedServer]:
    with serving() as server:
        yield server


@pytest.fixture
def shared(private_folder: Callable[[Any], Path], attacker: User) -> Path:
    """A folder of the attacker in which everybody may create files: the owner uploads from there."""
    folder = private_folder(attacker) / "shared"
    folder.parent.chmod(0o755)
    folder.mkdir()
    os.chown(folder, attacker.uid, attacker.gid)
    folder.chmod(0o777)
    return folder


@pytest.fixture(autouse=True)
def _clean(service: Service) -> Iterator[None]:
    yield
    stories.cancel_all(service)


@pytest.mark.attack(4)
@pytest.mark.parametrize("kind", ["store", "socket", "temporary"])
def test_what_the_kernel_denies_is_not_sent_by_whatever_link(
    kind: str, service: Service, owner: User, attacker: User, server: WatchedServer, shared: Path
) -> None:
    """Root makes the links, so that no sysctl is what saves us."""
    if kind == "store":
        target = service.state / "queue" / "queue.db"
    elif kind == "socket":
        target = service.socket
    else:
        target = shared / ".BIT0.tmp"
        target.write_bytes(b"of the owner")
        os.chown(target, owner.uid, owner.gid)
        target.chmod(0o600)
    if target.stat().st_dev != shared.stat().st_dev:
        pytest.skip("hard links cannot lead there")
    (shared / "link").hardlink_to(target)
    job = begin(service, attacker, server.url("/stolen"), shared / "link")
    job.reaches("error")
    assert job.code == ("error", ACCESS_DENIED, "local_file")
    assert not server.packets, "nothing was even announced"


@pytest.mark.attack(5)
@pytest.mark.parametrize("how", ["other size", "same size", "symlink"])
def test_a_source_that_was_swapped_while_the_job_waits_is_not_mixed_with_it(
    how: str, service: Service, owner: User, attacker: User, server: WatchedServer, shared: Path
) -> None:
    source = shared / "source"
    source.write_bytes(BODY)
    os.chown(source, owner.uid, owner.gid)
    server.tell(FRAGMENT, honest, held(server.over), honest)
    job = begin(service, owner, server.url("/x"), source)
    job.saves(256 * 1024)
    job.suspend()

    def swap() -> None:
        source.rename(shared / "stolen")
        if how == "symlink":
            source.symlink_to(shared / "stolen")
        else:
            source.write_bytes(b"x" * (len(BODY) if how == "same size" else 5))
            source.chmod(0o666)

    run_as(attacker, swap)
    job.resume()
    job.reaches("error")
    assert job.error["context"] == "local_file"
    assert how == "symlink" or job.error["hresult"] == LOCAL_FILE_CHANGED
    assert "/x" not in server.files


@pytest.mark.attack(5)
def test_a_source_that_was_swapped_while_it_is_sent_is_sent_as_it_was(
    service: Service, owner: User, attacker: User, server: WatchedServer, shared: Path
) -> None:
    """What was opened stays open: the name does not matter any more."""
    source = shared / "source"
    source.write_bytes(BODY)
    os.chown(source, owner.uid, owner.gid)
    swapped = threading.Event()
    server.tell(FRAGMENT, honest, held(swapped), honest)
    job = begin(service, owner, server.url("/x"), source)
    job.saves(256 * 1024)

    def swap() -> None:
        source.rename(shared / "stolen")
        source.write_bytes(b"x" * len(BODY))

    run_as(attacker, swap)
    swapped.set()
    job.reaches("transferred", seconds=40)
    assert server.files == {"/x": BODY}


@pytest.mark.attack(6)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_is_no_regular_file_is_not_a_source_and_nobody_waits_for_it(
    kind: str, service: Service, owner: User, server: WatchedServer, shared: Path
) -> None:
    source = shared / "source"
    if kind == "fifo":
        os.mkfifo(source, 0o666)
        source.chmod(0o666)
    elif kind == "folder":
        source.mkdir()
    else:
        source = Path("/dev/zero")
    job = begin(service, owner, server.url("/x"), source)
    job.reaches("error", seconds=5)
    assert job.error["context"] == "local_file"
    assert not server.packets


@pytest.fixture
def answered(
    service: Service, owner: User, server: WatchedServer, shared: Path, private_folder: Callable[[Any], Path]
) -> stories.Job:
    """The owner's finished upload-reply; its reply goes to the folder of the attacker."""
    server.reply = ANSWER
    source = private_folder(owner) / "source"
    source.write_bytes(BODY)
    os.chown(source, owner.uid, owner.gid)

    def start() -> str:
        with service.client() as client:
            job = client.create_job("asks", type=JobType.UPLOAD_REPLY)
            job.add_file(server.url("/x"), source)
            job.set_reply_file_name(shared / "reply")
            job.resume()
            return str(job.id)

    job = stories.Job(service, run_as(owner, start))
    job.reaches("transferred", seconds=40)
    return job


@pytest.mark.attack(3)
def test_a_reply_replaces_a_link_and_does_not_follow_it(
    owner: User, attacker: User, answered: stories.Job, shared: Path, private_folder: Callable[[Any], Path]
) -> None:
    precious = private_folder(owner) / "precious"
    precious.write_bytes(b"precious")
    os.chown(precious, owner.uid, owner.gid)
    run_as(attacker, lambda: (shared / "reply").symlink_to(precious))
    assert answered.complete() == 0
    assert ((shared / "reply").read_bytes(), (shared / "reply").is_symlink()) == (ANSWER, False)
    assert precious.read_bytes() == b"precious"


@pytest.mark.attack(2)
@pytest.mark.parametrize("kind", ["symlink", "fifo", "copy"])
def test_a_reply_that_was_swapped_is_neither_read_nor_published(
    kind: str,
    service: Service,
    owner: User,
    attacker: User,
    answered: stories.Job,
    shared: Path,
    private_folder: Callable[[Any], Path],
) -> None:
    """What GetReplyData hands over to the owner is what the server has said, or nothing."""
    precious = private_folder(owner) / "precious"
    precious.write_bytes(b"precious")
    os.chown(precious, owner.uid, owner.gid)

    def swap() -> None:
        (temporary,) = shared.glob(".BIT*.tmp")
        temporary.rename(shared / "stolen")
        if kind == "symlink":
            temporary.symlink_to(precious)
        elif kind == "fifo":
            os.mkfifo(temporary, 0o666)
        else:
            temporary.write_bytes(ANSWER[::-1])
            temporary.chmod(0o666)

    run_as(attacker, swap)
    with pytest.raises(BitsError, match="reply"):
        reply_of(service, owner, answered.id)
    with pytest.raises(BitsError):
        answered.complete()
    assert not (shared / "reply").exists()
    assert precious.read_bytes() == b"precious"


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[tuple[ServerProcess, Application, str]]:
    """A real server with the user anna, and her password; its application wants a secret, too."""
    with contextlib.ExitStack() as ending:
        application = Application(tmp_path / "application")
        ending.callback(application.close)
        application.answer(fields=[["BITS-Copy-File-To-Destination", "yes"]], body=ANSWER)
        secret, password, file = tmp_path / "secret", canary(), tmp_path / "users"
        secret.write_text(f"Bearer {canary()}\n")
        secret.chmod(0o600)
        users.add(file, users.Entry(name="anna", password=users.hashed(password)))
        directories = DIRECTORIES.format(url=application.url(f"/hook?key={canary()}"), secret=secret)
        settings = f'users_file = "{file}"\nplain_passwords = true\nlog_level = "debug"\n'
        server = ServerProcess(tmp_path / "server", directories, server=settings)
        ending.callback(server.close)
        server.start()
        (server.root / "plain").mkdir()
        yield server, application, password


def uploaded(service: Service, owner: User, url: str, source: Path, password: str, kind: JobType) -> stories.Job:
    """A job that says this password, and one in its headers."""

    def start() -> str:
        with service.client() as client:
            job = client.create_job("asks", type=kind)
            job.add_file(url, source)
            job.set_credentials(AuthTarget.SERVER, AuthScheme.BASIC, "anna", password)
            job.set_custom_headers(f"X-Api-Key: {canary()}\r\n")
            job.resume()
            return str(job.id)

    return stories.Job(service, run_as(owner, start))


def test_t14_secrets_of_an_upload_are_nowhere_to_be_found_on_either_side(
    service: Service,
    owner: User,
    inbox: tuple[ServerProcess, Application, str],
    private_folder: Callable[[Any], Path],
) -> None:
    """Refused, answered, cancelled half-way: the service itself is searched when it is closed."""
    server, application, password = inbox
    source = private_folder(owner) / "source"
    source.write_bytes(BODY)
    os.chown(source, owner.uid, owner.gid)
    refused = uploaded(service, owner, f"{server.url}/plain/a", source, canary(), JobType.UPLOAD)
    refused.reaches("error")
    assert refused.error["hresult"] == AUTH_REFUSED
    answered = uploaded(service, owner, f"{server.url}/inbox/b", source, password, JobType.UPLOAD_REPLY)
    answered.reaches("transferred", seconds=40)
    assert reply_of(service, owner, answered.id) == ANSWER
    answered.complete()
    server.kill()
    server.start()
    assert (server.inbox / "b").read_bytes() == BODY
    assert canaries.MARK.decode() in application.asked()[0].fields["authorization"]
    assert not canaries.found_in_files(server.log_path, server.spool, server.root)
    assert not canaries.found_in_processes(server.pid)
