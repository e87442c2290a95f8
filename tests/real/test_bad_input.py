"""Names, ids and destinations that are refused: code, object, identity and missing right are in the answer.

One service and one user for all rows: a refusal leaves nothing behind, which the last test looks at.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import User
from tests.real.conftest import Service, run_as
from tests.real.stories import real_user, running_service

from openbits import BitsError

pytestmark = pytest.mark.root

E_INVALIDARG = 0x80070057
E_ACCESSDENIED = 0x80070005
E_NOTIMPL = 0x80004001
E_FAIL = 0x80004005  # what is no method name at all breaks the protocol
E_HANDLE = 0x80070006
PATH_NOT_FOUND = 0x80070003
FILENAME_EXCED_RANGE = 0x800700CE
ALREADY_EXISTS = 0x800700B7
CANT_RESOLVE_FILENAME = 0x80070781
BG_E_NOT_FOUND = 0x80200001
BG_E_EMPTY = 0x80200003
BG_E_STRING_TOO_LONG = 0x80200021

URL = "http://127.0.0.1:9/file"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One service for the module."""
    with running_service(policies="MaxFilesPerJob = 1000\n") as made:
        yield made


@pytest.fixture(scope="module")
def place(service: Service) -> Path:
    """A work folder that other uids can pass."""
    return service.base


@pytest.fixture(scope="module")
def alice() -> Iterator[User]:
    """The user who gets it wrong."""
    with real_user() as user:
        yield user


@pytest.fixture(scope="module")
def home(place: Path, alice: User) -> Path:
    """A folder of hers, with things in it."""
    folder = place / "home"
    folder.mkdir(mode=0o755)
    (folder / "file").write_text("a file")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    for path in (folder, *folder.iterdir()):
        os.chown(path, alice.uid, alice.gid, follow_symlinks=False)
    return folder


@pytest.fixture
def refused(service: Service, alice: User) -> Callable[..., BitsError]:
    """`refused(url, path)`: the error that alice gets from add_file."""

    def refuse(url: str, path: str) -> BitsError:
        def story() -> tuple[int, str]:
            with service.client() as client:
                job = client.create_job("wrong")
                try:
                    with pytest.raises(BitsError) as caught:
                        job.add_file(url, path)
                    assert job.info()["files_total"] == 0
                    return caught.value.hresult, str(caught.value)
                finally:
                    job.cancel()

        return BitsError(*run_as(alice, story))

    return refuse


WRONG_PATHS = {
    # what is given: code, what the message must name
    "file.bin": (E_INVALIDARG, "'file.bin'", "absolute path"),
    "../file.bin": (E_INVALIDARG, "'../file.bin'", "absolute path"),
    "": (E_INVALIDARG, "''", "absolute path"),
    "$HOME/file.bin": (E_INVALIDARG, "$HOME", "not expanded"),
    "/srv/${TARGET}/file.bin": (E_INVALIDARG, "${TARGET}", "not expanded"),
    "%TEMP%\\file.bin": (E_INVALIDARG, "%TEMP%", "not expanded"),
    "~/file.bin": (E_INVALIDARG, "~", "not expanded"),
    "/srv/a\rb": (E_INVALIDARG, "'/srv/a\\rb'", "line break"),
    "/srv/a\nb": (E_INVALIDARG, "'/srv/a\\nb'", "line break"),
    "/srv/a\0b": (E_INVALIDARG, "'/srv/a\\x00b'", "NUL"),
    "/srv/\ud800": (E_INVALIDARG, "'/srv/\\ud800'", "no file name can have"),
    "/srv/": (E_INVALIDARG, "'/srv/'", "names a directory"),
    "/srv/..": (E_INVALIDARG, "'/srv/..'", "names a directory"),
    "/srv/" + "a" * 256: (FILENAME_EXCED_RANGE, "'/srv/aaa", "255 for each name"),
    "/srv" + "/abcdefghi" * 410: (FILENAME_EXCED_RANGE, "'/srv/abc", "4095 bytes"),
}


@pytest.mark.parametrize("path", WRONG_PATHS, ids=lambda path: ascii(path)[:30])
@pytest.mark.attack(18)
def test_a_local_name_that_cannot_be_meant_is_refused_with_the_rule(
    path: str, refused: Callable[..., BitsError]
) -> None:
    code, shown, rule = WRONG_PATHS[path]
    error = refused(URL, path)
    assert error.hresult == code
    assert shown in str(error)
    assert rule in str(error)
    assert "\n" not in str(error)
    assert "\r" not in str(error)


WRONG_URLS = {
    "ftp://127.0.0.1/file": "http, https",
    "file://server/share/file": "other machines",
    "\\\\server\\share\\file": "SMB",
    "file:///srv/": "directory",
    "gopher://127.0.0.1/file": "http, https",
    "127.0.0.1/file": "scheme",
    "": "URL characters",
    "http://": "host is missing",
    "http:///file": "host is missing",
    "http://[::1/file": "not a URL",
    "http://127.0.0.1:99999/file": "not a URL",
    "http://127.0.0.1/a b": "URL characters",
    "http://127.0.0.1/a\r\nX-Evil: 1": "URL characters",
    "http://127.0.0.1/a\0": "URL characters",
    "http://me:secret@/file": "host is missing",
    "http://me:secret@127.0.0.1:99999/file": "not a URL",
    "ftp://me:secret@127.0.0.1/file": "http, https",
    "http://127.0.0.1/" + "a" * 2300: "2200",
}


@pytest.mark.parametrize("url", WRONG_URLS, ids=lambda url: ascii(url)[:30])
@pytest.mark.attack(18)
def test_a_remote_name_that_cannot_be_meant_is_refused_with_the_rule(
    url: str, refused: Callable[..., BitsError], home: Path
) -> None:
    error = refused(url, str(home / "new"))
    assert error.hresult == E_INVALIDARG
    assert WRONG_URLS[url] in str(error)
    assert "secret" not in str(error)
    assert "\n" not in str(error)


def test_a_missing_directory_is_named(refused: Callable[..., BitsError], home: Path, alice: User) -> None:
    error = refused(URL, str(home / "missing" / "deeper" / "file"))
    assert error.hresult == PATH_NOT_FOUND
    assert f"{home}/missing does not exist" in str(error)
    assert f"{alice.name} (uid {alice.uid})" in str(error)


def test_a_file_in_place_of_a_directory_is_named(refused: Callable[..., BitsError], home: Path) -> None:
    error = refused(URL, str(home / "file" / "below"))
    assert error.hresult == PATH_NOT_FOUND
    assert f"{home}/file is not a directory" in str(error)


def test_a_directory_that_may_not_be_written_names_identity_object_and_right(
    refused: Callable[..., BitsError], place: Path, alice: User
) -> None:
    closed = place / "of root"
    closed.mkdir(mode=0o755)
    error = refused(URL, str(closed / "file"))
    assert error.hresult == E_ACCESSDENIED
    for part in (alice.name, f"uid {alice.uid} may not create files in {closed}", "mode 0755, owner 0:0", "write"):
        assert part in str(error)


def test_a_directory_that_may_not_be_entered_names_the_component(
    refused: Callable[..., BitsError], place: Path, alice: User
) -> None:
    closed = place / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    error = refused(URL, str(closed / "inner" / "file"))
    assert error.hresult == E_ACCESSDENIED
    assert f"uid {alice.uid} may not enter {closed} (mode 0700, owner 0:0)" in str(error)


def test_a_destination_that_is_no_file_is_refused(refused: Callable[..., BitsError], home: Path) -> None:
    error = refused(URL, str(home / "folder"))
    assert (error.hresult, "it is a directory" in str(error)) == (E_ACCESSDENIED, True)
    error = refused(URL, str(home / "fifo"))
    assert (error.hresult, "FIFO" in str(error)) == (ALREADY_EXISTS, True)
    assert refused(URL, str(home / "loop" / "file")).hresult == CANT_RESOLVE_FILENAME
    assert refused(URL, "/proc/self/root/tmp/file").hresult == CANT_RESOLVE_FILENAME


def test_files_are_added_all_or_none(service: Service, alice: User, home: Path) -> None:
    def story() -> None:
        with service.client() as client:
            job = client.create_job("half wrong")
            with pytest.raises(BitsError):
                job.add_files([(URL, home / "good"), (URL, home / "missing" / "bad")])
            assert job.files() == []
            with pytest.raises(BitsError) as caught:
                job.add_files([])
            assert caught.value.hresult == E_INVALIDARG
            with pytest.raises(BitsError) as caught:
                job.resume()
            assert caught.value.hresult == BG_E_EMPTY
            job.cancel()

    run_as(alice, story)


def test_a_name_that_is_not_utf_8_is_a_name(service: Service, alice: User, home: Path) -> None:
    path = os.fsdecode(os.fsencode(home) + b"/caf\xe9")

    def story() -> None:
        with service.client() as client:
            job = client.create_job("latin")
            job.add_file(URL, path)
            assert job.files()[0]["local_name"] == path
            job.cancel()

    run_as(alice, story)


@pytest.mark.attack(18)
def test_a_thousand_directories_of_long_names_are_no_reason_to_stop(service: Service, alice: User, home: Path) -> None:
    """What the spawner has to record of them is longer than any message it takes."""
    folders = [home / f"{number:04}{'x' * 200}" for number in range(500)]
    for folder in folders:
        folder.mkdir()
        os.chown(folder, alice.uid, alice.gid)

    def story() -> int:
        with service.client() as client:
            job = client.create_job("many")
            job.add_files([(URL, folder / "file") for folder in folders])
            count = len(job.files())
            job.cancel()
            return count

    assert run_as(alice, story) == 500
    for folder in folders:
        folder.rmdir()


@pytest.mark.attack(19)
def test_an_unknown_job_is_not_found_and_a_foreign_one_is_denied(service: Service, alice: User) -> None:
    with service.client() as client:
        foreign = client.create_job("of root")
        name = str(foreign.id)

        def story() -> None:
            with service.client() as own:
                for unknown in (str(uuid.uuid4()), "no id at all", "", "x" * 100_000):
                    with pytest.raises(BitsError) as caught:
                        own.call("OpenJob", {"job_id": unknown})
                    assert caught.value.hresult == BG_E_NOT_FOUND
                    assert len(str(caught.value)) < 400
                with pytest.raises(BitsError) as caught:
                    own.job(name)
                assert caught.value.hresult == E_ACCESSDENIED
                assert f"{alice.name} (uid {alice.uid})" in str(caught.value)
                with pytest.raises(BitsError) as caught:
                    own.job_infos(all_users=True)
                assert caught.value.hresult == E_ACCESSDENIED
                assert own.job_infos() == []
                with pytest.raises(BitsError) as caught:
                    own.call("GetJob", {"handle": 4711})
                assert caught.value.hresult == E_HANDLE

        run_as(alice, story)
        foreign.cancel()


WRONG_CALLS: list[tuple[str, dict[str, Any], int]] = [
    ("CreateJob", {"display_name": "x" * 257, "type": "download", "umask": 0}, E_INVALIDARG),
    ("CreateJob", {"display_name": "x", "type": "sideload", "umask": 0}, E_NOTIMPL),
    ("CreateJob", {"display_name": 7, "type": "download", "umask": 0}, E_INVALIDARG),
    ("CreateJob", {"display_name": "x"}, E_INVALIDARG),
    ("CreateJob", {"display_name": "x", "type": "download", "umask": "022"}, E_INVALIDARG),
    ("CreateJob", {"display_name": "x", "type": "download", "umask": 0, "token": 3}, E_INVALIDARG),
    ("Hello", {"level": 0}, E_INVALIDARG),
    ("Hello", {"level": 5}, E_INVALIDARG),
    ("NoSuchMethod", {}, E_NOTIMPL),
    ("__init__", {}, E_FAIL),
    ("_find", {"job_id": ""}, E_FAIL),
    ("AcknowledgeNotice", {"job_id": str(uuid.uuid4()), "notice_seq": 1, "hresult": 0}, BG_E_NOT_FOUND),
    ("AcknowledgeNotice", {"job_id": "no id at all", "notice_seq": 1, "hresult": 0}, BG_E_NOT_FOUND),
    ("AcknowledgeNotice", {"job_id": str(uuid.uuid4()), "notice_seq": 1, "hresult": 1 << 40}, E_INVALIDARG),
    ("AnswerCertificate", {"question": 1, "hresult": 0}, E_INVALIDARG),
    ("SetCertificateCallback", {"handle": 4711}, E_HANDLE),
]


@pytest.mark.parametrize(("method", "parameters", "code"), WRONG_CALLS, ids=lambda value: str(value)[:20])
def test_a_wrong_call_is_answered_and_the_connection_goes_on(
    method: str, parameters: dict[str, Any], code: int, service: Service, alice: User
) -> None:
    def story() -> tuple[int, bool]:
        with service.client() as client:
            with pytest.raises(BitsError) as caught:
                client.call(method, parameters)
            return caught.value.hresult, client.job_infos() == []

    assert run_as(alice, story) == (code, True)


WRONG_VALUES: list[tuple[dict[str, Any], int]] = [
    ({"display_name": "x" * 257}, BG_E_STRING_TOO_LONG),
    ({"description": "x" * 1025}, BG_E_STRING_TOO_LONG),
    ({"priority": "urgent"}, E_NOTIMPL),
    ({"notify_flags": 0x1000}, E_NOTIMPL),
    ({"minimum_retry_delay_seconds": -1}, E_INVALIDARG),
    ({"no_progress_timeout_seconds": 1 << 40}, E_INVALIDARG),
    ({"auto_complete": "yes"}, E_INVALIDARG),
]


@pytest.mark.parametrize(("values", "code"), WRONG_VALUES, ids=lambda value: str(value)[:30])
def test_a_wrong_property_is_refused_and_the_others_of_the_call_stay(
    values: dict[str, Any], code: int, service: Service, alice: User
) -> None:
    def story() -> tuple[int, str]:
        with service.client() as client:
            job = client.create_job("before")
            with pytest.raises(BitsError) as caught:
                job.set(**{"display_name": "after", **values})
            name = job.info()["properties"]["display_name"]
            job.cancel()
            return caught.value.hresult, name

    assert run_as(alice, story) == (code, "before")


def test_nothing_of_all_this_was_left_behind(service: Service, home: Path) -> None:
    """Runs last: no job, no temporary file, no internal error, no crash."""
    with service.client() as client:
        assert client.job_infos(all_users=True) == []
    assert sorted(path.name for path in home.iterdir()) == ["fifo", "file", "folder", "loop"]
    for word in ("Traceback", "call_crashed", "CRITICAL"):
        assert word not in service.log(), service.log()
