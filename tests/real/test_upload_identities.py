"""T-1 for uploads and replies over HTTP: whose files, whose sockets (identity.md §4), with the real `bits-server`."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real import stories
from tests.real.conftest import Service, run_as
from tests.real.uploading import ANSWER, BODY, Doorman, begin, reply_of, start_with_helper
from tests.server.applications import Application
from tests.server.process import ServerProcess

from openbits import JobType, TokenFlags
from openbits.core import codes

pytestmark = pytest.mark.root

PrivateFolder = Callable[[Any], Path]

LOCAL_BY_HELPER = {0: False, 1: True, 2: False, 3: True}
"""Rows "UPLOAD: open local source" and "UPLOAD-REPLY: create and rename reply file"."""
NETWORK_BY_HELPER = {0: False, 1: False, 2: True, 3: True}
"""Row "the socket itself"."""
TOKEN_REQUIRED = 0x80200056
ACCESS_DENIED = 0x80070005

DIRECTORY = """
[directories."/inbox/"]
BITSUploadEnabled = true
allow_anonymous = true
quota_bytes = 1000000000
BITSServerNotificationType = 2
BITSServerNotificationURL = "{url}"
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with stories.running_service() as service:
        yield service


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server, whose application publishes the file and answers it."""
    base = tmp_path_factory.mktemp("server")
    with contextlib.ExitStack() as ending:
        application = Application(base / "application")
        ending.callback(application.close)
        application.answer(fields=[["BITS-Copy-File-To-Destination", "yes"]], body=ANSWER)
        made = ServerProcess(base / "server", DIRECTORY.format(url=application.url("/hook")))
        ending.callback(made.close)
        made.start()
        yield made


@pytest.fixture
def door(server: ServerProcess) -> Iterator[Doorman]:
    door = Doorman(server.port)
    yield door
    door.close()


@pytest.fixture(autouse=True)
def _clean(service: Service) -> Iterator[None]:
    yield
    stories.cancel_all(service)


def give(folder: Path, user: Any) -> Path:
    """A file in this folder that nobody else may read."""
    path = folder / "source"
    path.write_bytes(BODY)
    os.chown(path, user.uid, user.gid)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", [JobType.UPLOAD, JobType.UPLOAD_REPLY])
def test_t1_files_and_sockets_are_of_the_identities_of_the_table(
    kind: JobType,
    flags: int,
    service: Service,
    server: ServerProcess,
    door: Doorman,
    throwaway_user: Callable[..., User],
    private_folder: PrivateFolder,
) -> None:
    """The folder is closed to everybody else, so whoever opened the file was who the table names."""
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    local, network = ((helper if by[flags] else owner) for by in (LOCAL_BY_HELPER, NETWORK_BY_HELPER))
    folder = private_folder(local)
    source = give(folder, local)
    name = f"{kind.name}-{flags}"
    job = stories.Job(
        service, run_as(owner, start_with_helper, service, helper, flags, kind, f"{door.url}/inbox/{name}", source)
    )
    job.reaches("transferred", seconds=30)
    assert (server.inbox / name).read_bytes() == BODY
    assert door.uids == {network.uid}, "of uploads, replies and closing"
    if kind is JobType.UPLOAD_REPLY:
        assert reply_of(service, owner, job.id) == ANSWER
    assert job.complete() == codes.S_OK
    others = [path for path in folder.iterdir() if path != source]
    found = [(path.stat().st_uid, path.stat().st_mode & 0o7777, path.read_bytes()) for path in others]
    assert found == ([(local.uid, 0o644, ANSWER)] if kind is JobType.UPLOAD_REPLY else [])


@pytest.mark.parametrize("flags", [0, 2])
def test_a_source_that_only_the_other_identity_may_read_is_not_sent(
    flags: int,
    service: Service,
    server: ServerProcess,
    throwaway_user: Callable[..., User],
    open_tmp_path: Path,
) -> None:
    """Neither the helper of the network nor the service lends its rights to the file of the owner."""
    owner, helper = throwaway_user(), throwaway_user(password="open sesame")
    folder = open_tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    source = give(folder, helper)
    url = f"{server.url}/inbox/closed-{flags}"
    job = stories.Job(service, run_as(owner, start_with_helper, service, helper, flags, JobType.UPLOAD, url, source))
    job.reaches("error")
    assert job.code == ("error", ACCESS_DENIED, "local_file")
    assert f"uid {owner.uid}" in job.error["identity"]
    assert not (server.inbox / f"closed-{flags}").exists()


def test_an_upload_in_the_name_of_a_helper_waits_for_its_token(
    service: Service, server: ServerProcess, throwaway_user: Callable[..., User], private_folder: PrivateFolder
) -> None:
    """jobs.md §14 H5: nothing is sent as the owner in its place."""
    owner = throwaway_user()
    source = give(private_folder(owner), owner)

    def start() -> str:
        with service.client() as client:
            job = client.create_job("no helper", type=JobType.UPLOAD)
            job.add_file(f"{server.url}/inbox/waits", source)
            job.set_helper_token_flags(TokenFlags.NETWORK)
            job.resume()
            return str(job.id)

    job = stories.Job(service, run_as(owner, start))
    job.reaches("error")
    assert job.code == ("error", TOKEN_REQUIRED, "remote_file")
    assert not (server.inbox / "waits").exists()


def test_an_administrator_who_takes_an_upload_sends_it_anew(
    service: Service,
    server: ServerProcess,
    door: Doorman,
    throwaway_user: Callable[..., User],
    open_tmp_path: Path,
) -> None:
    """upload-protocol.md §7.5: another owner abandons the session and restarts at 0, as itself."""
    owner = throwaway_user()
    folder = open_tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    source = give(folder, owner)
    source.chmod(0o644)
    job = begin(service, owner, f"{door.url}/inbox/taken", source, JobType.UPLOAD_REPLY, priority="low")
    job.suspend()
    with service.client() as client:
        client.job(job.id).take_ownership()
    door.uids.clear()
    job.resume()
    job.reaches("transferred", seconds=30)
    assert (server.inbox / "taken").read_bytes() == BODY
    assert door.uids <= {0, owner.uid}, "the owner's: the last word to the server"
    with service.client() as client:
        assert client.job(job.id).reply_data() == ANSWER
    assert job.complete() == codes.S_OK
    (reply,) = [path for path in folder.iterdir() if path != source]
    assert (reply.stat().st_uid, reply.read_bytes()) == (0, ANSWER)
