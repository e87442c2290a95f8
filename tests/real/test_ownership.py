"""TakeOwnership: what the new owner gets, what is taken away, and what the old owner can do about it (A4, A5, §8)."""

import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns.board import Board
from tests.conftest import User
from tests.real.conftest import Person, Service, Site, run_as
from tests.real.stories import Job, cancel_all, create, names, real_user, running_service

from openbits import BitsError, TokenFlags
from openbits.service.file_broker import ANSWER_SECONDS
from openbits.service.ownership import MAX_DIRECTORIES

pytestmark = pytest.mark.root

E_ACCESSDENIED = 0x80070005
BG_E_INVALID_STATE = 0x80200002
BG_E_NEW_OWNER_NO_FILE_ACCESS = 0x80200016
BG_E_TOKEN_REQUIRED = 0x80200056
ERROR_PROCESS_ABORTED = 0x8007042B
BG_S_UNABLE_TO_DELETE_FILES = 0x0020001A

BODY = secrets.token_bytes(700_000)
HALF = 300_000


@pytest.fixture(scope="module")
def alice() -> Iterator[User]:
    with real_user() as user:
        yield user


@pytest.fixture(scope="module")
def admin() -> Iterator[User]:
    """An administrator by configuration, who is not root."""
    with real_user() as user:
        yield user


@pytest.fixture(scope="module")
def bob() -> Iterator[User]:
    """Helper or stranger."""
    with real_user() as user:
        yield user


@pytest.fixture(scope="module")
def everyones(admin: User) -> Iterator[Service]:
    rules = f'[identity]\nadministrators = ["{admin.name}"]\n'
    with running_service(rules, policies="MaxFilesPerJob = 1000\n") as service:
        yield service


@pytest.fixture
def service(everyones: Service, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Ends the jobs of a test while its folder is still there."""
    request.getfixturevalue("open_tmp_path")
    yield everyones
    cancel_all(everyones)


@pytest.fixture
def shared(open_tmp_path: Path) -> Path:
    folder = open_tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def half(service: Service, site: Site, alice: User, shared: Path) -> Iterator[Job]:
    """A job of alice in the middle of its file."""
    url = site.put("/data", BODY)
    gate = site.gate("/data", HALF)
    job = create(service, alice, [(url, shared / "data")])
    job.saves(HALF)
    yield job
    gate.set()


@pytest.fixture
def whole(service: Service, site: Site, alice: User, shared: Path) -> Job:
    """A job of alice that waits for Complete."""
    job = create(service, alice, [(site.put("/data", BODY), shared / "data")])
    job.reaches("transferred")
    return job


def take(service: Service, job: Job) -> tuple[int, str]:
    """As whoever calls: HRESULT and text of TakeOwnership."""
    try:
        with service.client() as client:
            client.job(job.id).take_ownership()
    except BitsError as error:
        return error.hresult, str(error)
    return 0, ""


def temporaries(folder: Path) -> list[int]:
    """Uids of the temporary files in the folder."""
    return sorted(path.lstat().st_uid for path in folder.iterdir() if path.name.startswith(".BIT"))


def admitted(service: Service) -> set[int]:
    """Whom the spawner has admitted."""
    return {int(path.stem) for path in (service.state / "admitted").iterdir() if path.suffix == ".json"}


# -- what happens to the job ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["root", "admin"])
def test_a_job_in_the_middle_of_a_file_goes_on_at_the_byte_under_the_new_owner(
    who: str,
    service: Service,
    site: Site,
    half: Job,
    alice: User,
    admin: User,
    root: Any,
    shared: Path,
    eventually: Callable[..., Any],
) -> None:
    taker = {"root": root, "admin": admin}[who]
    assert run_as(taker, take, service, half) == (0, "")
    info = half.info()
    assert (info["owner_uid"], info["owner_sid"]) == (taker.uid, f"S-1-22-1-{taker.uid}")
    eventually(lambda: temporaries(shared) == [taker.uid])
    eventually(lambda: admitted(service) == {taker.uid})  # it was alice's last job
    for _, event in site.gates.values():
        event.set()
    half.reaches("transferred")
    assert (site.offsets("/data"), site.uids("/data")) == ([0, HALF], {alice.uid, taker.uid})
    assert half.complete() == 0
    published = shared / "data"
    assert (published.stat().st_uid, published.read_bytes() == BODY) == (taker.uid, True)
    assert names(shared) == ["data"]
    eventually(lambda: admitted(service) == set())
    assert '"act": "take-ownership"' in service.log()
    assert f'"former_owner_uid": {alice.uid}' in service.log()


def test_a_transferred_job_stays_so_and_its_file_belongs_to_the_new_owner(
    service: Service, whole: Job, root: Any, shared: Path, eventually: Callable[..., Any]
) -> None:
    assert run_as(root, take, service, whole) == (0, "")
    assert whole.state == "transferred"
    eventually(lambda: temporaries(shared) == [0])
    assert whole.complete() == 0
    assert ((shared / "data").stat().st_uid, (shared / "data").read_bytes() == BODY) == (0, True)
    assert (shared / "data").stat().st_mode & 0o777 == 0o644


def test_the_helper_token_goes_and_its_flags_and_files_stay(
    service: Service, site: Site, alice: User, bob: User, root: Any, shared: Path
) -> None:
    """OPEN-20: the next use yields BG_E_TOKEN_REQUIRED; with a token of the same helper the file goes on."""
    url = site.put("/data", BODY)
    gate = site.gate("/data", HALF)
    job = create(service, alice, [(url, shared / "data")], is_resumed=False)

    def equip() -> None:
        with service.client() as client:
            handle = client.job(job.id)
            with token.impersonate():
                handle.set_helper_token()
            handle.set_helper_token_flags(TokenFlags.LOCAL_FILE)
            handle.resume()

    with service.client() as client, client.logon_user(bob.name, None) as token:
        run_as(alice, equip)
        job.saves(HALF)
        assert run_as(root, take, service, job) == (0, "")
        assert job.reaches("error")["error"]["hresult"] == BG_E_TOKEN_REQUIRED  # type: ignore[index]  # it has one
        info = job.info()
        assert (info["helper_sid"], info["helper_token_flags"], info["owner_uid"]) == (None, 1, 0)
        gate.set()
        run_as(root, equip)
        job.reaches("transferred")
        assert job.complete() == 0
    assert (site.offsets("/data"), (shared / "data").stat().st_uid) == ([0, HALF], bob.uid)


def test_the_owner_who_is_administrator_strips_his_own_job(service: Service, root: Any) -> None:
    def story() -> tuple[str | None, int]:
        with service.client() as client:
            job = client.create_job("mine")
            job.set_helper_token()
            job.take_ownership()
            info = job.info()
            return info["helper_sid"], info["owner_uid"]

    assert run_as(root, story) == (None, 0)


def test_the_token_of_an_administrator_takes_ownership_for_its_user(
    service: Service, alice: User, admin: User, shared: Path
) -> None:
    """The identity of the call counts, as with CreateJob."""
    job = create(service, alice, [("http://127.0.0.1:1/x", shared / "x")], is_resumed=False)
    with service.client() as client, client.logon_user(admin.name, None) as token:
        handle = client.job(job.id)
        with token.impersonate():
            handle.take_ownership()
        assert handle.info()["owner_uid"] == admin.uid


# -- who may not ------------------------------------------------------------------------------------------------------


def test_the_owner_and_a_stranger_are_refused(service: Service, half: Job, alice: User, bob: User) -> None:
    code, text = run_as(alice, take, service, half)
    assert code == E_ACCESSDENIED
    assert text.startswith(
        f"cannot take ownership of job {half.id}: {alice.name} (uid {alice.uid}) is no administrator"
    )
    assert run_as(bob, take, service, half)[0] == E_ACCESSDENIED
    assert half.info()["owner_uid"] == alice.uid


def test_in_a_users_own_service_nobody_is_administrator(make_service: Callable[..., Service], free_uid: int) -> None:
    own = make_service(uid=free_uid)
    own.start()

    def story() -> tuple[int, str]:
        with own.client() as client:
            job = client.create_job("mine")
            try:
                job.take_ownership()
            except BitsError as error:
                return error.hresult, str(error)
            return 0, ""

    code, text = run_as(Person(uid=free_uid, gid=free_uid), story)
    assert code == E_ACCESSDENIED
    assert f"uid {free_uid} is no administrator; have root or a member of an administrators group do it" in text


def test_a_job_that_is_over_is_not_taken(service: Service, whole: Job, root: Any) -> None:
    def story() -> int:
        with service.client() as client:
            job = client.job(whole.id)
            job.cancel()
            try:
                job.take_ownership()
            except BitsError as error:
                return error.hresult
            return 0

    assert run_as(root, story) == BG_E_INVALID_STATE


@pytest.mark.parametrize("state", ["half", "whole"])
def test_without_access_to_the_folder_nothing_changes(
    state: str,
    service: Service,
    site: Site,
    alice: User,
    root: Any,
    private_folder: Callable[[Any], Path],
    eventually: Callable[..., Any],
) -> None:
    """Uid 0 has no capability in its broker: the kernel judges it by the permission bits."""
    folder = private_folder(alice)
    url = site.put("/data", BODY)
    gate = site.gate("/data", HALF)
    job = create(service, alice, [(url, folder / "data")])
    job.saves(HALF)
    if state == "whole":
        gate.set()
        job.reaches("transferred")
    before = names(folder)
    code, text = run_as(root, take, service, job)
    assert code == BG_E_NEW_OWNER_NO_FILE_ACCESS
    assert f"uid 0 may not create files in {folder} (mode 0700, owner {alice.uid}:{alice.gid}); give it write" in text
    assert "the job stays with its owner, and administrators may change it all the same" in text
    assert (job.info()["owner_uid"], names(folder)) == (alice.uid, before)
    eventually(lambda: admitted(service) == {alice.uid})
    gate.set()
    job.reaches("transferred")
    assert job.complete() == 0
    assert ((folder / "data").stat().st_uid, (folder / "data").read_bytes() == BODY) == (alice.uid, True)


# -- what the old owner can do about it -------------------------------------------------------------------------------


def test_a_handle_of_the_old_owner_is_worth_nothing_any_more(
    service: Service, whole: Job, alice: User, root: Any
) -> None:
    def story() -> list[int]:
        with service.client() as client:
            job = client.job(whole.id)
            os.write(ready, b"x")
            os.read(taken, 1)
            refused = []
            for act in (job.info, job.complete, job.cancel, job.resume, job.clear_helper_token, job.take_ownership):
                with pytest.raises(BitsError) as caught:
                    act()
                refused.append(caught.value.hresult)
            return refused

    waiting, ready = os.pipe()
    taken, go = os.pipe()
    results: list[list[int]] = []
    thread = threading.Thread(target=lambda: results.append(run_as(alice, story)))
    thread.start()
    os.read(waiting, 1)
    assert run_as(root, take, service, whole) == (0, "")
    os.write(go, b"x")
    thread.join()
    for descriptor in (waiting, ready, taken, go):
        os.close(descriptor)
    assert results == [[E_ACCESSDENIED] * 6]


def test_an_open_descriptor_of_the_old_file_changes_nothing(
    service: Service, half: Job, site: Site, alice: User, root: Any, shared: Path
) -> None:
    """What arrives for the new owner lands in a file that the old one can neither change nor read."""
    (name,) = [name for name in names(shared) if name.startswith(".BIT")]
    held = os.open(shared / name, os.O_RDWR)  # as alice could
    assert run_as(root, take, service, half) == (0, "")
    os.pwrite(held, b"\xff" * len(BODY), 0)
    for _, event in site.gates.values():
        event.set()
    half.reaches("transferred")
    assert os.pread(held, len(BODY), 0) == b"\xff" * len(BODY), "nothing of the new owner's came here"
    os.close(held)
    (made,) = [name for name in names(shared) if name.startswith(".BIT")]

    def look() -> str:
        try:
            (shared / made).read_bytes()
        except PermissionError:
            return "denied"
        return "read"

    assert run_as(alice, look) == "denied"
    assert half.complete() == 0
    assert (shared / "data").read_bytes() == BODY


@pytest.mark.parametrize("how", ["swapped", "linked", "symlink", "moved folder"])
def test_a_file_that_is_not_the_recorded_one_any_more_is_not_taken_over(
    how: str, service: Service, whole: Job, alice: User, root: Any, shared: Path, open_tmp_path: Path
) -> None:
    """The old owner puts something else in the place of his file, or of the folder, before the job is taken."""
    (name,) = names(shared)
    secret = open_tmp_path / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)

    def attack() -> None:
        if how == "linked":
            (shared / "second").hardlink_to(shared / name)
            return
        (shared / name).rename(shared / "away")
        if how == "symlink":
            (shared / name).symlink_to(secret)
        else:
            (shared / name).write_bytes(b"forged")

    if how == "moved folder":
        shared.rename(open_tmp_path / "elsewhere")
        shared.mkdir()
        shared.chmod(0o1777)
    else:
        run_as(alice, attack)
    code, text = run_as(root, take, service, whole)
    assert code == BG_E_NEW_OWNER_NO_FILE_ACCESS
    assert ("another directory is there" if how == "moved folder" else "see who else may write") in text
    assert whole.info()["owner_uid"] == alice.uid
    assert 0 not in temporaries(shared)
    if how == "moved folder":  # else the job cannot be cleaned up
        shared.rmdir()
        (open_tmp_path / "elsewhere").rename(shared)


def test_cancel_by_the_new_owner_says_when_something_of_the_old_one_stays(
    service: Service, half: Job, alice: User, root: Any, shared: Path, eventually: Callable[..., Any]
) -> None:
    """A5. It is removed by the old owner's own broker as soon as that can."""

    def keep_and_cancel() -> int:
        with service.client() as client:
            job = client.job(half.id)
            job.take_ownership()
            return job.cancel()

    shared.chmod(0o755)  # alice's broker may not remove hers now
    os.chown(shared, 0, 0)
    assert run_as(root, keep_and_cancel) == BG_S_UNABLE_TO_DELETE_FILES
    assert (temporaries(shared), admitted(service)) == ([alice.uid], {0, alice.uid})
    shared.chmod(0o1777)
    run_as(alice, lambda: service.client().close())
    eventually(lambda: temporaries(shared) == [])
    eventually(lambda: admitted(service) == set())


# -- calls of the old owner that are under way ------------------------------------------------------------------------


def connection_of(user: User, service: Service) -> socket.socket:
    """A connection that this user has made, in our hands."""
    ours, theirs = socket.socketpair()

    def connect() -> None:
        client = service.client()
        with client.connection.detach() as connection:
            socket.send_fds(theirs, [b"c"], [connection.fileno()])

    with ours, theirs:
        run_as(user, connect)
        _, (descriptor,), *_ = socket.recv_fds(ours, 1, 1)
    connection = socket.socket(fileno=descriptor)
    connection.settimeout(10)
    return connection


def ask(connection: socket.socket, method: str, **parameters: object) -> None:
    call = {"method": f"io.openbits.Service.{method}", "parameters": parameters}
    connection.sendall(json.dumps(call).encode() + b"\0")


def answer(connection: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\0"):
        data += connection.recv(1 << 16)
    parameters: dict[str, Any] = json.loads(data[:-1]).get("parameters", {})
    return parameters


def subscription(user: User, service: Service) -> Iterator[dict[str, Any]]:
    """The events that come to this user."""
    with connection_of(user, service) as connection:
        call = {"method": "io.openbits.Service.Subscribe", "more": True, "parameters": {"all_users": False}}
        connection.sendall(json.dumps(call).encode() + b"\0")
        waiting = b""
        while True:
            *messages, waiting = (waiting + connection.recv(1 << 16)).split(b"\0")
            yield from (json.loads(message)["parameters"]["event"] for message in messages)


def until(kind: str, stream: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """What comes up to the first event of this kind."""
    heard = [next(stream)]
    while heard[-1]["kind"] != kind:
        heard.append(next(stream))
    return heard


def test_the_callback_of_the_old_owner_learns_nothing_of_what_the_new_one_does(
    service: Service, half: Job, alice: User, root: Any, site: Site
) -> None:
    """N9: whoever registered stays registered; from then on the notices and the end come without the job."""
    stream = subscription(alice, service)
    with connection_of(alice, service) as connection:
        subscriber = next(stream)["subscriber"]
        ask(connection, "OpenJob", job_id=half.id)
        ask(connection, "SetNotify", handle=answer(connection)["handle"], subscriber=subscriber)
        assert "registration" in answer(connection)
        half.set(description="seen by its owner")
        assert "seen by its owner" in str(until("changed", stream))
        assert run_as(root, take, service, half) == (0, "")
        half.set(description="a secret of root")
        for _, event in site.gates.values():
            event.set()
        half.reaches("transferred")
        assert half.complete() == 0
        heard = until("removed", stream)
    assert "a secret of root" not in str(heard)
    assert [(event["kind"], event.get("notice"), event.get("state")) for event in heard if "job" not in event] == [
        ("notice", "transferred", None),
        ("state", None, "acknowledged"),
        ("removed", None, "acknowledged"),
    ]


def test_an_old_owner_who_stops_his_broker_keeps_nobody_waiting(service: Service, half: Job, alice: User) -> None:
    (broker,) = (pid for name, pid in service.pids().items() if name == f"broker:{alice.uid}")
    os.kill(broker, signal.SIGSTOP)
    try:
        code, text = take(service, half)
    finally:
        os.kill(broker, signal.SIGCONT)
    assert (code, f"uid {alice.uid} has not answered" in text) == (ERROR_PROCESS_ABORTED, True)
    assert half.info()["owner_uid"] == alice.uid
    assert take(service, half) == (0, "")


def test_an_old_owner_who_stops_his_broker_delays_no_cancel_for_long(
    service: Service, site: Site, alice: User, shared: Path, eventually: Callable[..., Any]
) -> None:
    """One silence is waited out, not one for each of the files; they are removed when he is back."""
    url = site.put("/data", BODY)
    job = create(service, alice, [(url, shared / str(number)) for number in range(4)])
    job.reaches("transferred")
    (broker,) = (pid for name, pid in service.pids().items() if name == f"broker:{alice.uid}")
    os.kill(broker, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert job.cancel() == BG_S_UNABLE_TO_DELETE_FILES
        assert time.monotonic() - begun < 2 * ANSWER_SECONDS
        assert temporaries(shared) == [alice.uid] * 4
    finally:
        os.kill(broker, signal.SIGCONT)
    run_as(alice, lambda: service.client().close())
    eventually(lambda: temporaries(shared) == [])
    eventually(lambda: admitted(service) == set())


def test_who_cancels_while_files_are_being_added_leaves_nobody_admitted(
    service: Service, site: Site, alice: User, shared: Path, eventually: Callable[..., Any]
) -> None:
    """It is the owner's last job, so the entry was erased before the new directory came."""
    first, second = ({"remote_name": site.url, "local_name": str(shared / name)} for name in ("early", "other/late"))
    (shared / "other").mkdir()
    (shared / "other").chmod(0o1777)
    with connection_of(alice, service) as connection:
        ask(connection, "CreateJob", display_name="story", type="download", umask=0o022)
        made = answer(connection)
        ask(connection, "AddFiles", handle=made["handle"], files=[first])
        assert answer(connection) == {}
        broker = service.pids()[f"broker:{alice.uid}"]
        os.kill(broker, signal.SIGSTOP)
        try:
            ask(connection, "AddFiles", handle=made["handle"], files=[second])
            assert Job(service, made["job_id"]).cancel() == 0
            eventually(lambda: admitted(service) == set())
        finally:
            os.kill(broker, signal.SIGCONT)
        assert answer(connection)["hresult"] == BG_E_INVALID_STATE
    eventually(lambda: admitted(service) == set())


def test_a_job_with_too_many_directories_is_not_taken_and_leaves_no_trace(
    service: Service, alice: User, root: Any, shared: Path
) -> None:
    """The entry of an administrator has a limit, which others must not use up."""
    folders = [shared / str(number) for number in range(MAX_DIRECTORIES + 1)]
    for folder in folders:
        folder.mkdir()
        folder.chmod(0o1777)
    create(service, root, [("http://127.0.0.1:1/x", shared / "x")], is_resumed=False)
    entry = service.state / "admitted" / "0.json"
    before = entry.read_text()
    job = create(service, alice, [("http://127.0.0.1:1/x", folder / "x") for folder in folders], is_resumed=False)
    code, text = run_as(root, take, service, job)
    assert code == BG_E_NEW_OWNER_NO_FILE_ACCESS
    assert f"its files go to {MAX_DIRECTORIES + 1} directories, the limit is {MAX_DIRECTORIES}; complete or" in text
    assert (entry.read_text(), job.info()["owner_uid"]) == (before, alice.uid)


def test_files_that_were_being_added_do_not_get_into_the_job_of_the_new_owner(
    service: Service, site: Site, alice: User, shared: Path
) -> None:
    """Whoever adds may hold up the broker that looks at the directory: it runs as him, so he may stop it."""
    pairs = [{"remote_name": site.put(f"/{name}", BODY), "local_name": str(shared / name)} for name in ("good", "evil")]
    with connection_of(alice, service) as connection:
        ask(connection, "CreateJob", display_name="story", type="download", umask=0o022)
        made = answer(connection)
        ask(connection, "AddFiles", handle=made["handle"], files=pairs[:1])
        assert answer(connection) == {}
        broker = service.pids()[f"broker:{alice.uid}"]
        os.kill(broker, signal.SIGSTOP)
        try:
            ask(connection, "AddFiles", handle=made["handle"], files=pairs[1:])
            job = Job(service, made["job_id"])
            assert take(service, job) == (0, "")
        finally:
            os.kill(broker, signal.SIGCONT)
        refusal = answer(connection)
    assert (refusal["hresult"], "has taken the job over" in refusal["message"]) == (E_ACCESSDENIED, True)
    assert [file["local_name"] for file in job.files()] == [str(shared / "good")]


# -- kill -9 in the middle --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fated() -> Iterator[tuple[Service, Board]]:
    """A service whose programs die at the point that is lit, and what lights it."""
    folder = Path(tempfile.mkdtemp(prefix="openbits-test-", dir="/tmp"))  # the one folder all uids can pass
    folder.chmod(0o755)
    bitsd = Path(__file__).parents[1] / "campaigns" / "bitsd.py"
    board = Board.make(folder / "board")
    made = Service(folder, 0, command=(sys.executable, "-I", str(bitsd), str(folder / "board")))
    made.start()
    yield made, board
    made.close()
    shutil.rmtree(folder)


def unknown_files(service: Service, folder: Path) -> list[str]:
    """Temporary files that the store does not know (P6)."""
    with closing(sqlite3.connect(service.state / "queue" / "queue.db")) as store:
        rows = store.execute("SELECT document FROM jobs UNION ALL SELECT document FROM files")
        known = "".join(document for (document,) in rows)
    return [name for name in names(folder) if name.startswith(".BIT") and name not in known]


@pytest.mark.parametrize(
    ("point", "nth"),
    [
        ("transfer.name-committed", 1),
        ("temporary.created", 1),
        ("transfer.file-created", 1),
        ("transfer.file-confirmed", 1),
        ("broker.done", 3),  # bytes copied, not answered
        ("step.taken", 3),  # the copy is whole
        ("step.committed", 3),  # the job is taken
        ("remove.unlinked", 1),
    ],
)
def test_whoever_dies_while_a_job_is_taken_it_has_one_owner_and_all_its_bytes(
    point: str,
    nth: int,
    fated: tuple[Service, Board],
    site: Site,
    alice: User,
    root: Any,
    shared: Path,
    eventually: Callable[..., Any],
) -> None:
    mortal, board = fated
    job = create(mortal, alice, [(site.put("/data", BODY), shared / "data")])
    job.reaches("transferred")
    manager = mortal.pids()["manager"]
    board.light(point, nth)
    with suppress(BitsError):
        run_as(root, take, mortal, job)
    pid = eventually(lambda: board.died(point))
    if pid == manager:
        eventually(lambda: not Path(f"/proc/{pid}").exists())
    mortal.wait_until_it_answers()
    assert not unknown_files(mortal, shared)
    info = job.info()
    assert info["state"] == "transferred"
    assert job.complete() in {0, BG_S_UNABLE_TO_DELETE_FILES}
    published = shared / "data"
    assert (published.stat().st_uid, published.read_bytes() == BODY) == (info["owner_uid"], True)
    run_as(alice, lambda: mortal.client().close())
    eventually(lambda: names(shared) == ["data"])
