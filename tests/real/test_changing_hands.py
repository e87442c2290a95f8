"""Another identity for local files in the middle of a file: the bytes stay (identity.md §5, §12; P6, P7).

The owner and the helper both may make files in the folder; neither may read what the other made there.
"""

import contextlib
import os
import secrets
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.conftest import Service, Site, run_as
from tests.real.stories import Job, cancel_all, names, real_user, running_service

import openbits
from openbits import BitsError, TokenFlags

pytestmark = pytest.mark.root

BG_E_TOKEN_REQUIRED = 0x80200056
BG_S_UNABLE_TO_DELETE_FILES = 0x0020001A

BODY = secrets.token_bytes(700_000)
HALF = 300_000


@pytest.fixture
def shared(open_tmp_path: Path) -> Path:
    folder = open_tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


class Story:
    """A job of which half a file is on the disk under the helper."""

    def __init__(self, service: Service, site: Site, folder: Path, owner: Any, helper: Any) -> None:
        self.service, self.site, self.folder, self.owner, self.helper = service, site, folder, owner, helper
        self.url = site.put("/data", BODY)
        self.gate = site.gate("/data", HALF)
        self.job: Job

    def begin(self, token: openbits.Token, flags: TokenFlags, *, setter: Any = None, until: int = HALF) -> None:
        """The owner makes the job; `setter`, or the owner too, gives it the token."""

        def make() -> str:
            with self.service.client() as client:
                job = client.create_job("half")
                job.add_file(self.url, self.folder / "early")  # in the folder before it is the helper's business
                return str(job.id)

        self.job = Job(self.service, run_as(self.owner, make))
        run_as(setter or self.owner, self.equip, token, flags)
        self.job.resume()
        self.job.saves(until)
        assert {path.stat().st_uid for path in self.folder.iterdir()} == {self.helper.uid}

    def equip(self, token: openbits.Token, flags: TokenFlags) -> None:
        with self.service.client() as client:
            job = client.job(self.job.id)
            with token.impersonate():
                job.set_helper_token()
            job.set_helper_token_flags(flags)

    def set_flags(self, flags: int, *, is_cleared: bool = False) -> None:
        """As the owner."""

        def act() -> None:
            with self.service.client() as client:
                job = client.job(self.job.id)
                if is_cleared:
                    job.clear_helper_token()
                job.set_helper_token_flags(TokenFlags(flags))

        run_as(self.owner, act)

    def lose(self, token: openbits.Token) -> None:
        """The token ends for everybody."""
        with socket.socket(fileno=os.dup(token.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
        self.job.reaches("error")
        assert self.job.error["hresult"] == BG_E_TOKEN_REQUIRED

    def temporaries(self) -> dict[str, int]:
        """Uid of each temporary file in the folder."""
        found = {}
        for name in names(self.folder):
            with contextlib.suppress(FileNotFoundError):  # removed since
                if name.startswith(".BIT"):
                    found[name] = (self.folder / name).stat().st_uid
        return found

    def ends_well(self, uid: int, offsets: list[int]) -> int:
        """The rest arrives from the byte that was reached; the result of Complete."""
        self.gate.set()
        self.job.reaches("transferred")
        assert self.site.offsets("/data") == offsets
        (file,) = self.job.files()
        assert file["temporary_name"] is not None
        assert Path(file["temporary_name"]).stat().st_uid == uid
        result = self.job.complete()
        published = self.folder / "early"
        assert (published.stat().st_uid, published.read_bytes() == BODY) == (uid, True)
        return result


@pytest.fixture(scope="module")
def everyones() -> Iterator[Service]:
    with running_service() as service:
        yield service


@pytest.fixture
def service(everyones: Service, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Ends the jobs of a test while its folder is still there."""
    request.getfixturevalue("open_tmp_path")
    yield everyones
    cancel_all(everyones)


@pytest.fixture(scope="module")
def owner() -> Iterator[User]:
    with real_user() as user:
        yield user


@pytest.fixture(scope="module")
def helper() -> Iterator[User]:
    with real_user() as user:
        yield user


@pytest.fixture
def story(service: Service, site: Site, owner: User, helper: User, shared: Path) -> Story:
    return Story(service, site, shared, owner, helper)


@pytest.fixture
def token(service: Service, story: Story) -> Iterator[openbits.Token]:
    with service.client() as client, client.logon_user(story.helper.name, None) as token:
        yield token


@pytest.mark.parametrize("flags", [1, 3])
def test_repair_by_clearing_the_flags_goes_on_at_the_byte_as_the_owner(
    flags: int, story: Story, token: openbits.Token, eventually: Callable[..., Any]
) -> None:
    """Repair 2 of BG_E_TOKEN_REQUIRED. What the helper made is removed when the helper is back."""
    story.begin(token, TokenFlags(flags))
    (old,) = story.temporaries()
    story.lose(token)
    story.set_flags(0)
    story.job.resume()
    assert story.ends_well(story.owner.uid, [0, HALF]) == BG_S_UNABLE_TO_DELETE_FILES
    assert story.site.uids("/data") == {story.owner.uid} | ({story.helper.uid} if flags == 3 else set())
    assert story.temporaries() == {old: story.helper.uid}

    def come_back() -> None:
        with story.service.client() as client:
            job = client.create_job("cleaning up")
            with again.impersonate():
                job.set_helper_token()
            job.cancel()

    with story.service.client() as client, client.logon_user(story.helper.name, None) as again:
        run_as(story.owner, come_back)
        eventually(lambda: not story.temporaries())


def test_repair_by_the_same_helper_goes_on_in_the_same_file(story: Story, token: openbits.Token) -> None:
    """Repair 1."""
    story.begin(token, TokenFlags.LOCAL_FILE)
    before = story.temporaries()
    story.lose(token)
    with story.service.client() as client, client.logon_user(story.helper.name, None) as again:
        run_as(story.owner, story.equip, again, TokenFlags.LOCAL_FILE)
        story.job.resume()
        assert story.temporaries() == before
        assert story.ends_well(story.helper.uid, [0, HALF]) == 0


@pytest.mark.parametrize("state", ["error", "transferring", "suspended"])
def test_another_helper_goes_on_at_the_byte(
    state: str, story: Story, token: openbits.Token, throwaway_user: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    other = throwaway_user()
    story.begin(token, TokenFlags.LOCAL_FILE)
    if state == "error":
        story.lose(token)
    if state == "suspended":
        story.job.suspend()
    with story.service.client() as client, client.logon_user(other.name, None) as others:
        run_as(story.owner, story.equip, others, TokenFlags.LOCAL_FILE)
        story.job.resume()
        eventually(lambda: other.uid in story.temporaries().values())
        assert story.ends_well(other.uid, [0, HALF]) == BG_S_UNABLE_TO_DELETE_FILES  # the first one's token is gone


def test_flags_from_files_to_network_change_both_identities_and_keep_the_bytes(
    story: Story, token: openbits.Token, eventually: Callable[..., Any]
) -> None:
    story.begin(token, TokenFlags.LOCAL_FILE)
    story.set_flags(2)
    eventually(
        lambda: list(story.temporaries().values()) == [story.owner.uid]
    )  # the helper was there to remove its own
    assert story.ends_well(story.owner.uid, [0, HALF]) == 0
    assert story.site.uids("/data") == {story.owner.uid, story.helper.uid}


def test_flags_back_and_forth_keep_the_bytes_too(story: Story, token: openbits.Token) -> None:
    """The owner's file goes on in one of the helper: the owner's broker is asked for the bytes."""
    story.begin(token, TokenFlags.LOCAL_FILE)
    story.job.suspend()
    for flags, uid in ((0, story.owner.uid), (1, story.helper.uid)):
        story.set_flags(flags)
        story.job.resume()
        story.job.reaches("transferring")
        story.job.suspend()
        assert uid in story.temporaries().values()
    story.job.resume()
    assert story.ends_well(story.helper.uid, [0, HALF, HALF, HALF]) == 0


def test_the_bytes_of_a_privileged_helper_do_not_go_to_the_owner(
    service: Service, site: Site, throwaway_user: Callable[..., Any], shared: Path, root: Any
) -> None:
    """He may not choose the flags of such a token, so he does not get by a repair what they would have given him."""
    story = Story(service, site, shared, throwaway_user(), throwaway_user(groups=("sudo",)))
    with service.client() as client, client.logon_user(story.helper.name, None) as token:
        story.begin(token, TokenFlags.LOCAL_FILE | TokenFlags.NETWORK, setter=root)
        run_as(story.owner, story.job.suspend)
        story.set_flags(0, is_cleared=True)
        story.job.resume()
        story.gate.set()
        story.job.reaches("transferred")
    assert site.offsets("/data") == [0, 0]
    (file,) = story.job.files()
    owner = f"{story.owner.name} (uid {story.owner.uid})"
    assert file["note"].startswith(f"began again as {owner}, who cannot have the bytes of the former identity: ")
    assert file["note"].endswith(f": uid {story.helper.uid} made it with mode 0600")


@pytest.mark.parametrize("program", ["manager", "broker"])
def test_the_death_of_a_program_before_the_change(
    program: str, story: Story, token: openbits.Token, eventually: Callable[..., Any]
) -> None:
    """The manager's descriptor dies with it: the file begins again and says so. A broker's death costs nothing."""
    story.begin(token, TokenFlags.LOCAL_FILE)
    story.job.suspend()
    story.service.kill(program)
    story.service.wait_until_it_answers()
    story.set_flags(0)
    story.job.resume()
    result = story.ends_well(story.owner.uid, [0, HALF] if program == "broker" else [0, 0])
    assert result == (0 if program == "broker" else BG_S_UNABLE_TO_DELETE_FILES)
    if program == "manager":
        assert set(story.temporaries().values()) == {story.helper.uid}
    else:
        eventually(lambda: not story.temporaries())


def spares(service: Service) -> int:
    """Descriptors of temporary files that the manager holds."""
    found = 0
    for link in Path(f"/proc/{service.pids()['manager']}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            found += ".BIT" in str(link.readlink())
    return found


def test_descriptors_do_not_pile_up(story: Story, token: openbits.Token, eventually: Callable[..., Any]) -> None:
    """P10: one spare for an unfinished file of a helper, none for a finished one or a job that is over."""

    story.begin(token, TokenFlags.LOCAL_FILE)
    eventually(lambda: spares(story.service) == 1)
    for _ in range(3):
        story.job.suspend()
        story.job.resume()
        story.job.reaches("transferring")
    eventually(lambda: spares(story.service) == 1)
    story.gate.set()
    story.job.reaches("transferred")
    eventually(lambda: spares(story.service) == 0)


def test_cancel_takes_the_spare_along(story: Story, token: openbits.Token, eventually: Callable[..., Any]) -> None:
    story.begin(token, TokenFlags.LOCAL_FILE)
    assert story.job.cancel() == 0
    eventually(lambda: spares(story.service) == 0)


BIG = secrets.token_bytes(48 << 20)
"""Three pieces of a copy."""


def unknown_files(story: Story) -> set[str]:
    """Temporary files that the store does not know (P6)."""
    with contextlib.closing(sqlite3.connect(story.service.state / "queue" / "queue.db")) as store:
        rows = store.execute("SELECT document FROM jobs UNION ALL SELECT document FROM files")
        known = "".join(document for (document,) in rows)
    return {name for name in story.temporaries() if name not in known}


@pytest.mark.parametrize("program", ["manager", "broker"])
def test_whatever_is_killed_in_the_middle_of_a_copy_no_file_is_forgotten(
    program: str, story: Story, token: openbits.Token
) -> None:
    """P2, P6, P12: a broker's death is not even noticed; after the manager's the file may have to begin again."""
    story.site.put("/data", BIG)
    story.gate = story.site.gate("/data", 47 << 20)
    story.begin(token, TokenFlags.LOCAL_FILE, until=47 << 20)
    story.lose(token)
    story.set_flags(0)
    killer = threading.Timer(secrets.SystemRandom().uniform(0.0, 0.1), story.service.kill, (program,))
    killer.start()
    with contextlib.suppress(BitsError):
        story.job.resume()
    killer.join()
    story.service.wait_until_it_answers()
    story.job.resume()
    story.gate.set()
    story.job.reaches("transferred")
    assert not unknown_files(story)
    assert program == "manager" or story.site.offsets("/data") == [0, 47 << 20]
    assert story.job.complete() == BG_S_UNABLE_TO_DELETE_FILES
    published = story.folder / "early"
    assert (published.stat().st_uid, published.read_bytes() == BIG) == (story.owner.uid, True)
    assert set(story.temporaries().values()) == {story.helper.uid}
