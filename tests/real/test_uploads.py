"""Uploads to web servers by the whole service: steps, replies, interruptions (jobs.md §11, upload-protocol.md §7)."""

import os
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real import stories
from tests.real.conftest import Service, Site, run_as
from tests.real.uploading import ANSWER, BODY, WatchedServer, begin, held, reply_of, reply_progress, serving
from tests.transfer.faultserver import CLOSE as CLOSED
from tests.transfer.uploadserver import Act, Answer, Exchange, ack, honest, refusal, says

from openbits import AuthScheme, AuthTarget, BitsError, Job, JobType
from openbits.core import codes
from openbits.core.packets import Header, PacketType

pytestmark = pytest.mark.root

PrivateFolder = Callable[[Any], Path]
Eventually = Callable[..., Any]

FILE_NOT_FOUND, ACCESS_DENIED = 0x80070002, 0x80070005
INVALID_STATE, LOCAL_FILE_CHANGED, TOO_LARGE = 0x80200002, 0x8020001D, 0x80200020
FRAGMENT, CREATE, CLOSE = PacketType.FRAGMENT, PacketType.CREATE_SESSION, PacketType.CLOSE_SESSION


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with stories.running_service() as service:
        yield service


@pytest.fixture(scope="module")
def owner() -> Iterator[User]:
    with stories.real_user() as user:
        yield user


@pytest.fixture
def server() -> Iterator[WatchedServer]:
    with serving() as server:
        yield server


@pytest.fixture
def folder(owner: User, private_folder: PrivateFolder) -> Path:
    return private_folder(owner)


@pytest.fixture
def source(owner: User, folder: Path) -> Path:
    """A file of the owner's that nobody else may read."""
    return a_source(folder, owner)


@pytest.fixture(autouse=True)
def _clean(service: Service) -> Iterator[None]:
    yield
    stories.cancel_all(service)


def a_source(folder: Path, user: Any, body: bytes = BODY) -> Path:
    path = folder / "source"
    path.write_bytes(body)
    os.chown(path, user.uid, user.gid)
    path.chmod(0o600)
    return path


def asking(
    service: Service, owner: User, server: WatchedServer, source: Path, prepare: Callable[[Job], object]
) -> stories.Job:
    """A job that this was done to before it ran, and that has its reply."""

    def start() -> str:
        with service.client() as client:
            job = client.create_job("asks", type=JobType.UPLOAD_REPLY)
            job.add_file(server.url("/x"), source)
            prepare(job)
            job.resume()
            return str(job.id)

    job = stories.Job(service, run_as(owner, start))
    job.reaches("transferred")
    return job


# -- what comes out


@pytest.mark.parametrize("size", [0, 1, len(BODY)])
def test_a_file_is_at_the_server_when_the_job_is_transferred(
    size: int, service: Service, owner: User, server: WatchedServer, folder: Path
) -> None:
    """jobs.md §11.1; D16 for the empty one; Complete only acknowledges."""
    job = begin(service, owner, server.url("/inbox/data"), a_source(folder, owner, BODY[:size]))
    info = job.reaches("transferred")
    assert server.files == {"/inbox/data": BODY[:size]}
    assert (info["bytes_total"], info["bytes_transferred"], info["files_transferred"]) == (size, size, 1)
    assert len(server.sent(CLOSE)) == 1, "TRANSFERRED requires that Close is done"
    before = len(server.packets)
    assert job.complete() == codes.S_OK
    assert (len(server.packets), stories.names(folder)) == (before, ["source"])


def test_the_reply_is_there_before_complete_and_its_file_after(
    service: Service, owner: User, server: WatchedServer, folder: Path, source: Path
) -> None:
    """§8.4, OPEN-23; the reply is downloaded before Close (§5.5)."""
    server.reply = ANSWER

    def story() -> tuple[bytes, list[str], int, bytes, str]:
        with service.client() as client:
            job = client.create_job("asks", type=JobType.UPLOAD_REPLY)
            job.add_file(server.url("/inbox/data"), source)
            job.resume()
            job.wait(timeout=20)
            before, beside = job.reply_data(), stories.names(folder)
            name = job.reply_file_name()
            assert name is not None
            return before, beside, job.complete(), job.reply_data(), name

    before, beside, completed, after, name = run_as(owner, story)
    kinds = [packet.kind for packet in server.packets]
    assert kinds[-2:] == ["GET", CLOSE] or kinds[-3:] == ["HEAD", "GET", CLOSE]
    assert (before, after, completed) == (ANSWER, ANSWER, codes.S_OK)
    assert Path(name).name not in beside, "available only after Complete"
    found = Path(name).stat()
    assert (Path(name).read_bytes(), found.st_uid, found.st_mode & 0o7777) == (ANSWER, owner.uid, 0o644)
    assert stories.names(folder) == sorted(["source", Path(name).name])


def test_d19_without_a_reply_there_is_none(
    service: Service, owner: User, server: WatchedServer, folder: Path, source: Path
) -> None:
    job = begin(service, owner, server.url("/x"), source, JobType.UPLOAD_REPLY)
    job.reaches("transferred")
    assert reply_progress(service, owner, job.id) == (0, 0)
    assert reply_of(service, owner, job.id) == b""
    assert job.complete() == codes.S_OK
    assert stories.names(folder) == ["source"]


def test_an_empty_reply_is_an_empty_file_and_no_data(
    service: Service, owner: User, server: WatchedServer, folder: Path, source: Path
) -> None:
    """jobs.md §11.2: no reply data → empty file, GetReplyData gives NULL."""
    server.reply = b""
    job = begin(service, owner, server.url("/x"), source, JobType.UPLOAD_REPLY)
    job.reaches("transferred")
    assert reply_of(service, owner, job.id) == b""
    assert job.complete() == codes.S_OK
    assert sorted(path.stat().st_size for path in folder.iterdir()) == [0, len(BODY)]


def test_a_long_reply_is_read_from_its_file(
    service: Service, owner: User, server: WatchedServer, folder: Path, source: Path
) -> None:
    """jobs.md §7.4: BG_E_TOO_LARGE above 1 MiB."""
    server.reply = BODY
    job = begin(service, owner, server.url("/x"), source, JobType.UPLOAD_REPLY)
    job.reaches("transferred")
    assert reply_progress(service, owner, job.id) == (len(BODY), len(BODY))
    with pytest.raises(BitsError) as refused:
        reply_of(service, owner, job.id)
    assert refused.value.hresult == TOO_LARGE
    assert job.complete() == codes.S_OK
    assert [path.read_bytes() for path in folder.iterdir()] == [BODY, BODY]


def test_after_complete_another_file_under_that_name_is_not_the_reply(
    service: Service, owner: User, server: WatchedServer, source: Path
) -> None:
    server.reply = ANSWER

    def story() -> int:
        with service.client() as client:
            job = client.create_job("asks", type=JobType.UPLOAD_REPLY)
            job.add_file(server.url("/x"), source)
            job.resume()
            job.wait(timeout=20)
            job.complete()
            name = Path(job.reply_file_name() or "")
            name.rename(name.with_name("kept"))
            name.write_bytes(b"forged")
            try:
                job.reply_data()
            except BitsError as error:
                return error.hresult
            return codes.S_OK

    assert run_as(owner, story) == ACCESS_DENIED


# -- interruptions (§7.5)


def half_sent(service: Service, owner: User, server: WatchedServer, source: Path, **how: Any) -> stories.Job:
    """A job whose second fragment is not answered."""
    server.tell(FRAGMENT, honest, held(server.over), honest)
    job = begin(service, owner, server.url("/x"), source, **how)
    job.saves(256 * 1024)
    return job


def is_whole(server: WatchedServer, job: stories.Job) -> None:
    job.reaches("transferred", seconds=40)
    assert server.files == {"/x": BODY}
    assert len(server.sent(CREATE)) == 1, "the session went on"
    starts = [packet.range.first for packet in server.sent(FRAGMENT)]
    assert len(starts) - len(set(starts)) <= 1, "at most one fragment is sent twice for one interruption"


def test_suspend_and_resume(service: Service, owner: User, server: WatchedServer, source: Path) -> None:
    job = half_sent(service, owner, server, source)
    job.suspend()
    job.reaches("suspended")
    count = len(server.packets)
    job.resume()
    is_whole(server, job)
    assert server.packets[count].kind == PacketType.PING, "mandatory after resume (§7.1)"


@pytest.mark.parametrize("program", ["worker", "manager", "broker", "spawner"])
def test_kill_9(program: str, service: Service, owner: User, server: WatchedServer, source: Path) -> None:
    job = half_sent(service, owner, server, source, minimum_retry_delay_seconds=5)
    service.kill(program)
    if program == "spawner":
        service.start()
    service.wait_until_it_answers()
    job.reaches("queued", "connecting", "transferring", "transient_error", "transferred", seconds=20)
    if job.state == "transient_error":
        job.resume()
    if program == "broker":  # nobody needs it any more
        job.suspend()
        job.resume()
    is_whole(server, job)


def test_a_whole_upload_is_not_sent_again_for_its_reply(
    service: Service, owner: User, server: WatchedServer, source: Path
) -> None:
    """The reply is fetched from where it stopped, under the same session (§7.1 GET_REPLY)."""
    gate = threading.Event()
    server.reply = ANSWER
    server.tell("GET", held(gate))
    server.tell("HEAD", held(gate))
    job = begin(service, owner, server.url("/x"), source, JobType.UPLOAD_REPLY)
    deadline = len(BODY)
    job.saves(deadline)
    service.kill("spawner")
    service.start()
    gate.set()
    job.reaches("transferred", seconds=40)
    assert [packet.range.last for packet in server.sent(FRAGMENT)].count(len(BODY) - 1) == 1
    assert reply_of(service, owner, job.id) == ANSWER


def test_close_is_repeated_until_it_is_answered(
    service: Service, owner: User, server: WatchedServer, source: Path
) -> None:
    """§5.5: 5xx → the client sends it again."""
    server.tell(CLOSE, says(ack("503 Service Unavailable")), honest)
    job = begin(service, owner, server.url("/x"), source)
    job.reaches("transient_error")
    assert job.error["context"] == "remote_file"
    job.resume()
    job.reaches("transferred")
    assert (len(server.sent(CREATE)), len(server.sent(CLOSE))) == (1, 2)


# -- what is wrong with local files


def test_open_31_a_source_that_is_missing_is_an_error(service: Service, owner: User, folder: Path) -> None:
    job = begin(service, owner, "http://127.0.0.1:9/x", folder / "missing")
    job.reaches("error")
    assert job.code == ("error", FILE_NOT_FOUND, "local_file")


def test_a_source_that_changes_is_an_error(service: Service, owner: User, server: WatchedServer, source: Path) -> None:
    """jobs.md §9.3."""
    job = half_sent(service, owner, server, source)
    job.suspend()
    with source.open("ab") as file:
        file.write(b"more")
    job.resume()
    job.reaches("error")
    assert job.code == ("error", LOCAL_FILE_CHANGED, "local_file")


def test_the_reply_may_be_given_another_place_until_it_comes(
    service: Service, owner: User, server: WatchedServer, folder: Path, source: Path
) -> None:
    """jobs.md §7.4: BG_E_INVALID_STATE once the reply download began."""
    server.reply = ANSWER
    folder.chmod(0o500)
    job = begin(service, owner, server.url("/x"), source, JobType.UPLOAD_REPLY)
    job.reaches("error")
    assert job.code == ("error", ACCESS_DENIED, "local_file")
    folder.chmod(0o700)
    other = folder / "inside"
    other.mkdir()
    os.chown(other, owner.uid, owner.gid)
    gate = threading.Event()
    server.tell("GET", held(gate))

    def rename() -> int:
        with service.client() as client:
            try:
                client.job(job.id).set_reply_file_name(other / "answer")
            except BitsError as error:
                return error.hresult
            return codes.S_OK

    assert run_as(owner, rename) == codes.S_OK
    job.resume()
    wait_until(lambda: bool(list(other.iterdir())))
    assert run_as(owner, rename) == INVALID_STATE
    gate.set()
    job.reaches("transferred")
    assert job.complete() == codes.S_OK
    assert (other / "answer").read_bytes() == ANSWER
    assert len(server.sent(CREATE)) == 1


def wait_until(is_so: Callable[[], bool]) -> None:
    ready = threading.Event()
    for _ in range(2000):
        if is_so():
            return
        ready.wait(0.01)
    pytest.fail("it did not come to that")


def test_cancel_removes_what_has_come_of_the_reply(
    service: Service, owner: User, server: WatchedServer, folder: Path, source: Path
) -> None:
    server.reply = ANSWER
    server.tell("GET", held(server.over))
    job = begin(service, owner, server.url("/x"), source, JobType.UPLOAD_REPLY)
    wait_until(lambda: len(stories.names(folder)) > 1)
    assert job.cancel() == codes.S_OK
    assert stories.names(folder) == ["source"]
    assert server.files == {"/x": BODY}, "a finished upload stays (jobs.md §4)"


def test_uploads_have_one_method(service: Service, owner: User, server: WatchedServer, source: Path) -> None:
    """jobs.md §9.9 M2; another one is said to be impossible, and not passed over."""
    job = begin(service, owner, server.url("/x"), source, http_method="BITS_POST")
    job.reaches("transferred")
    assert {packet.method for packet in server.packets} == {"BITS_POST"}
    job = begin(service, owner, server.url("/x"), source, http_method="POST")
    job.reaches("error")
    assert job.code == ("error", codes.BG_E_UNSUPPORTED_JOB_CONFIGURATION, "general_queue_manager")
    assert "BITS_POST" in job.error["message"]


# -- errors of servers


def test_an_upload_that_is_refused_says_so(service: Service, owner: User, server: WatchedServer, source: Path) -> None:
    """§10.2, jobs.md §11.3: REMOTE_FILE and the size of the reply unknown: the upload."""
    server.tell(CREATE, says(refusal("403 Forbidden", ACCESS_DENIED)))
    job = begin(service, owner, server.url("/x"), source, JobType.UPLOAD_REPLY)
    job.reaches("error")
    assert job.code == ("error", ACCESS_DENIED, "remote_file")
    assert (job.error["file_index"], reply_progress(service, owner, job.id)) == (0, (None, 0))


def test_an_error_of_the_reply_is_one_of_a_file_that_clients_know(
    service: Service, owner: User, server: WatchedServer, source: Path
) -> None:
    server.reply = ANSWER
    missing = says(ack("404 Not Found"))
    server.tell("GET", missing)
    server.tell("HEAD", missing)
    job = begin(service, owner, server.url("/x"), source, JobType.UPLOAD_REPLY)
    job.reaches("error")
    assert job.code == ("error", codes.BG_E_HTTP_ERROR_404, "remote_file")
    assert (job.error["file_index"], job.error["subject"]) == (0, server.reply_url)
    server.mend()
    job.resume()
    job.reaches("transferred")
    assert len(server.sent(CREATE)) == 1


@pytest.mark.parametrize("absent", [says(ack("404 Not Found")), lambda _: [CLOSED]], ids=["404", "fails"])
def test_d20_a_reply_that_is_not_at_the_host_id_is_looked_for_at_the_origin(
    absent: Act, service: Service, owner: User, source: Path
) -> None:
    with serving(ANSWER) as origin, serving(ANSWER, host="127.0.0.2") as node:
        node.sessions = origin.sessions
        origin.host_id = f"127.0.0.2:{node.port}"
        node.tell("GET", absent)
        node.tell("HEAD", absent)
        job = begin(service, owner, origin.url("/x"), source, JobType.UPLOAD_REPLY)
        job.reaches("transferred")
        assert reply_of(service, owner, job.id) == ANSWER
        assert {packet.kind for packet in origin.packets} <= {CREATE, "GET", "HEAD"}
        assert node.files == {"/x": BODY}


def test_section_8_3_a_stranger_who_has_the_reply_learns_nothing(
    service: Service, owner: User, server: WatchedServer, site: Site, source: Path
) -> None:
    """Credentials and headers that say who asks go to the server of the upload alone."""
    elsewhere = site.put("/reply", ANSWER)

    def answered(exchange: Exchange) -> Any:
        return exchange.honest().having(Header.REPLY_URL, elsewhere).steps()

    server.tell(FRAGMENT, answered)

    job = asking(
        service,
        owner,
        server,
        source,
        lambda job: job.set_custom_headers("Authorization: Bearer s3cret\r\nX-Trace: 1\r\n"),
    )
    assert reply_of(service, owner, job.id) == ANSWER
    assert {packet.headers.get("authorization") for packet in server.packets} == {"Bearer s3cret"}
    asked = site.headers("/reply", "authorization", "x-trace")
    assert asked
    assert all(headers == {"x-trace": "1"} for headers in asked)


def locked(exchange: Exchange) -> Any:
    """For whom it knows alone."""
    if exchange.packet.headers.get("authorization") == f"Basic {b64encode(b'alice:open sesame').decode()}":
        return honest(exchange)
    challenge = (("WWW-Authenticate", 'Basic realm="inbox"'), ("Content-Length", "0"))
    return Answer("401 Unauthorized", challenge).steps()


def test_credentials_are_good_for_all_steps(service: Service, owner: User, server: WatchedServer, source: Path) -> None:
    """§8.1: the reply is downloaded by the normal rules, including authentication."""
    server.reply = ANSWER
    for kind in (*PacketType, "GET", "HEAD"):
        server.tell(kind, locked)

    job = asking(
        service,
        owner,
        server,
        source,
        lambda job: job.set_credentials(AuthTarget.SERVER, AuthScheme.BASIC, "alice", "open sesame"),
    )
    assert server.files == {"/x": BODY}
    assert reply_of(service, owner, job.id) == ANSWER


def test_the_server_of_the_upload_is_asked_with_what_proves_who_asks(
    service: Service, owner: User, server: WatchedServer, source: Path
) -> None:
    server.reply = ANSWER

    asking(service, owner, server, source, lambda job: job.set_custom_headers("Authorization: Bearer s3cret\r\n"))
    assert "GET" in {packet.kind for packet in server.packets}
    assert {packet.headers.get("authorization") for packet in server.packets} == {"Bearer s3cret"}
