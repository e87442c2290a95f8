"""Ranges, random access, validation and properties of files with the running service (jobs.md §8.4, §8.7 to §8.9)."""

import os
import secrets
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, Site, run_as
from tests.real.stories import Job, cancel_all, create, names, real_user, running_service

from openbits import BitsError, com
from openbits.core import codes, ranges

pytestmark = pytest.mark.root

BODY = secrets.token_bytes(300_000)
HALF = 150_000
BIG = 2**64 - 1


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service() as made:
        yield made


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    yield running
    cancel_all(running)


@pytest.fixture(scope="module")
def owner() -> Iterator[Any]:
    with real_user() as user:
        yield user


@pytest.fixture
def folder(private_folder: Callable[[Any], Path], owner: Any) -> Path:
    return private_folder(owner)


def code_of(call: Callable[..., object], *arguments: Any) -> int:
    """The code of a call that fails, whose text says what to do."""
    with pytest.raises(BitsError) as caught:
        call(*arguments)
    assert "; " in str(caught.value)
    return caught.value.hresult


def story(service: Service, user: Any, act: Callable[[Any], Any], **properties: Any) -> Any:
    """What `act` makes of a new job, as this user; the job stays."""

    def as_user() -> Any:
        with service.client() as client:
            return act(client.create_job("parts", **properties))

    return run_as(user, as_user)


# -- AddFileWithRanges ------------------------------------------------------------------------------------------------

BAD_RANGES: dict[int, list[list[tuple[int, int | None]]]] = {
    codes.E_INVALIDARG: [[], [(-1, 5)], [(0, -1)], [(BIG + 1, 1)], [(0, BIG + 1)]],
    codes.BG_E_INVALID_RANGE: [[(0, 0)], [(BIG, 1)], [(BIG, None)], [(BIG - 1, 2)], [(1, BIG - 1), (0, 0)]],
    codes.BG_E_OVERLAPPING_RANGES: [[(0, 5), (0, 5)], [(9, 5), (0, 10)], [(100, 5), (100, 0)], [(0, None), (7, 1)]],
    codes.BG_E_TOO_MANY_RANGES_IN_FILE: [[(2 * number, 1) for number in range(501)]],
}


@pytest.mark.parametrize(("code", "lists"), BAD_RANGES.items(), ids=[codes.symbol(code) for code in BAD_RANGES])
def test_ranges_that_are_refused_leave_no_file(
    service: Service, owner: Any, folder: Path, code: int, lists: list[Any]
) -> None:
    def act(job: Any) -> tuple[set[int], int]:
        add = job.add_file_with_ranges
        found = {code_of(add, "http://127.0.0.1:9/file", folder / "file", parts) for parts in lists}
        return found, len(job.files())

    assert story(service, owner, act) == ({code}, 0)


def test_the_limit_of_a_policy_is_not_for_administrators(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        job = client.create_job("many")
        most = [(2 * number, 1) for number in range(ranges.MOST)]
        job.add_file_with_ranges("http://127.0.0.1:9/file", tmp_path / "file", most)
        (file,) = job.files()
        assert len(file["ranges"]) == ranges.MOST
        assert file["bytes_total"] == ranges.MOST
        more = [*most, (2 * ranges.MOST, 1)]
        code = code_of(job.add_file_with_ranges, "http://127.0.0.1:9/file", tmp_path / "file", more)
        assert code == codes.BG_E_TOO_MANY_RANGES_IN_FILE


def test_made_content_has_no_ranges(service: Service, owner: Any, folder: Path) -> None:
    def act(job: Any) -> int:
        return code_of(job.add_file_with_ranges, "http://127.0.0.1:9/file", folder / "file", [(0, 5)])

    assert story(service, owner, act, dynamic_content=True) == codes.BG_E_UNSUPPORTED_JOB_CONFIGURATION


def test_a_file_with_ranges_is_kept_as_it_was_added(service: Service, owner: Any, folder: Path) -> None:
    """Its size is known before the job runs, unless a range goes to the end."""

    def act(job: Any) -> str:
        job.add_file_with_ranges("http://127.0.0.1:9/file", folder / "file", [(100, 100), (900, None)])
        job.add_file_with_ranges("http://127.0.0.1:9/file", folder / "other", [(0, 5), (50, 5)])
        return str(job.id)

    job = Job(service, story(service, owner, act))
    first, second = job.files()
    assert first["ranges"] == [{"offset": 100, "length": 100}, {"offset": 900, "length": None}]
    assert (first["bytes_total"], second["bytes_total"]) == (None, 10)
    service.kill("manager")
    assert job.files() == [first, second]


# -- random access and on-demand mode ---------------------------------------------------------------------------------


def test_on_demand_nothing_is_fetched_that_was_not_requested(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    """OPEN-41; what happens to requests is in `test_file_ranges`."""
    url = site.put("/file", BODY)
    job = create(service, owner, [(url, folder / "file")], on_demand_mode=True)
    waiting = job.reaches("suspended")["waiting"]
    assert waiting is not None
    assert "nothing of its files is requested" in waiting["reason"]
    assert site.seen == []
    with service.client() as client:
        client.job(job.id).request_ranges(0, [(0, 1000)])
    assert job.state == "suspended"
    assert site.seen == []
    job.set(on_demand_mode=False)
    job.resume()
    job.reaches("transferred")
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == BODY


def test_what_is_here_of_an_ordinary_download(service: Service, site: Site, owner: Any, folder: Path) -> None:
    url = site.put("/file", BODY)
    gate = site.gate("/file", HALF)
    job = create(service, owner, [(url, folder / "file")])
    job.saves(HALF)
    with service.client() as client:
        held = client.job(job.id)
        assert held.filled_ranges(0) == [(0, HALF)]
        held.update_download_position(0, HALF + 7)
        held.request_ranges(0, [(HALF + 1, 5), (HALF, None)])
        for parts in ([(0, len(BODY) + 1)], [(len(BODY), None)], [(0, 0)]):
            assert code_of(held.request_ranges, 0, parts) == codes.BG_E_INVALID_RANGE
        assert code_of(held.request_ranges, 1, [(0, 1)]) == codes.E_INVALIDARG
        assert code_of(held.update_download_position, 0, -1) == codes.E_INVALIDARG
        assert job.state == "transferring", "hints do not disturb the transfer"
        gate.set()
        job.reaches("transferred")
        assert held.filled_ranges(0) == [(0, len(BODY))]
        held.complete()
        assert held.filled_ranges(0) == [(0, len(BODY))]
        assert code_of(held.request_ranges, 0, [(0, 1)]) == codes.BG_E_INVALID_STATE


def test_a_file_with_ranges_has_no_random_access(service: Service, owner: Any, folder: Path) -> None:
    def act(job: Any) -> set[int]:
        job.add_file_with_ranges("http://127.0.0.1:9/file", folder / "file", [(0, 5)])
        return {
            code_of(job.request_ranges, 0, [(0, 1)]),
            code_of(job.update_download_position, 0, 0),
            code_of(job.filled_ranges, 0),
        }

    assert story(service, owner, act) == {codes.BG_E_RANDOM_ACCESS_NOT_SUPPORTED}


# -- validation, temporary name, properties ---------------------------------------------------------------------------


def test_a_file_that_is_not_valid_is_fetched_again(service: Service, site: Site, owner: Any, folder: Path) -> None:
    url = site.put("/file", BODY)
    job = create(service, owner, [(url, folder / "file")])
    job.reaches("transferred")
    site.put("/file", better := secrets.token_bytes(100))
    with service.client() as client:
        client.job(job.id).set_validation_state(0, False)
        assert job.code == ("error", codes.BG_E_VALIDATION_FAILED, "remote_file")
        (file,) = job.files()
        assert (file["bytes_transferred"], file["is_transferred"], file["is_valid"]) == (0, False, False)
        assert code_of(client.job(job.id).set_validation_state, 0, True) == codes.E_PENDING
        job.resume()
        job.reaches("transferred")
        client.job(job.id).set_validation_state(0, True)
    service.kill("manager")
    assert job.files()[0]["is_valid"], "a verdict outlives the service"
    assert job.complete() == 0
    assert (folder / "file").read_bytes() == better


def test_complete_validates_and_drops_what_was_refused(service: Service, site: Site, owner: Any, folder: Path) -> None:
    urls = [site.put("/one", BODY), site.put("/two", BODY)]
    job = create(service, owner, [(url, folder / url[-3:]) for url in urls])
    job.reaches("transferred")
    with service.client() as client:
        held = client.job(job.id)
        held.set_validation_state(1, False)
        assert held.complete() == codes.BG_S_PARTIAL_COMPLETE
        assert [file["is_valid"] for file in held.files()] == [True, False]
    assert names(folder) == ["one"]


def test_a_file_through_all_its_interfaces(
    service: Service, site: Site, owner: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBITS_SOCKET", str(service.socket))
    url = site.put("/file", BODY)
    gate = site.gate("/file", HALF)
    job = create(service, owner, [(url, folder / "file")], is_resumed=False)

    def held() -> Any:
        (file,) = com.BackgroundCopyManager().GetJob(uuid.UUID(job.id)).EnumFiles().Next(1)
        return file.QueryInterface(com.IBackgroundCopyFile6)

    def fresh() -> None:
        file = held()
        assert file.GetTemporaryName() == ""
        assert file.GetProperty(com.BITS_FILE_PROPERTY_ID_HTTP_RESPONSE_HEADERS).String == ""
        assert file.GetFileRanges() == (0, None)
        assert file.GetFilledFileRanges() == (0, None)
        assert file.GetValidationState() is False
        assert file.GetPeerDownloadStats() == (0, 0)

    def transferring() -> None:
        file = held()
        temporary = Path(file.GetTemporaryName())
        assert temporary.parent == folder
        assert temporary.read_bytes()[:HALF] == BODY[:HALF], "it can be read while it grows (§8.3)"
        assert file.GetFilledFileRanges() == (1, [com.BG_FILE_RANGE(InitialOffset=0, Length=HALF)])
        assert file.GetPeerDownloadStats() == (HALF, 0)
        assert file.IsDownloadedFromPeer() is False
        told = file.GetProperty(com.BITS_FILE_PROPERTY_ID_HTTP_RESPONSE_HEADERS).String
        assert told.startswith("HTTP/1.1 200 OK\r\n")
        assert f"\r\nContent-Length: {len(BODY)}\r\n" in told
        with pytest.raises(com.COMError) as caught:
            file.SetValidationState(True)
        assert caught.value.hresult == com.E_PENDING
        refusals: tuple[tuple[Callable[[], object], int], ...] = (
            (lambda: file.GetProperty(2), com.BG_E_UNKNOWN_PROPERTY_ID),
            (lambda: file.SetProperty(2, com.BITS_FILE_PROPERTY_VALUE(String="x")), com.BG_E_UNKNOWN_PROPERTY_ID),
            (lambda: file.SetProperty(1, com.BITS_FILE_PROPERTY_VALUE(String="x")), com.BG_E_READ_ONLY_PROPERTY),
            (lambda: file.RequestFileRanges(None), com.E_INVALIDARG),
            (lambda: file.RequestFileRanges([None]), com.E_INVALIDARG),
            (lambda: file.UpdateDownloadPosition(None), com.E_INVALIDARG),
            (lambda: file.UpdateDownloadPosition(2**64), com.E_INVALIDARG),
            (lambda: file.SetValidationState(None), com.E_INVALIDARG),
        )
        for call, code in refusals:
            with pytest.raises(com.COMError) as caught:
                call()
            assert caught.value.hresult == code
        tail = com.BG_FILE_RANGE(InitialOffset=HALF, Length=com.BG_LENGTH_TO_EOF)
        assert file.RequestFileRanges([tail]) == com.S_OK
        assert file.UpdateDownloadPosition(HALF) == com.S_OK

    run_as(owner, fresh)
    job.resume()
    job.saves(HALF)
    run_as(owner, transferring)
    gate.set()
    job.reaches("transferred")

    def transferred() -> None:
        file = held()
        assert file.SetValidationState(True) == com.S_OK
        assert file.GetValidationState() is True

    run_as(owner, transferred)
    assert job.complete() == 0


def test_a_refusal_of_the_server_is_the_last_response(service: Service, site: Site, owner: Any, folder: Path) -> None:
    job = create(service, owner, [(f"{site.url}/missing", folder / "file")])
    job.reaches("error")
    with service.client() as client:
        assert client.job(job.id).response_headers(0).startswith("HTTP/1.1 404 Not Found\r\n")
        service.kill("manager")
    with service.client() as client:
        assert client.job(job.id).response_headers(0).startswith("HTTP/1.1 404 Not Found\r\n")


# -- Complete: what the other stories do not have (jobs.md §8.4) ------------------------------------------------------


def test_complete_without_one_whole_file_is_partial_and_leaves_nothing(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    """OPEN-36."""
    url = site.put("/file", BODY)
    site.gate("/file", HALF)
    job = create(service, owner, [(url, folder / "file")])
    job.saves(HALF)
    assert job.complete() == codes.BG_S_PARTIAL_COMPLETE
    assert names(folder) == []


def test_complete_of_a_job_without_files_is_a_success(service: Service, owner: Any) -> None:
    """OPEN-36."""
    assert story(service, owner, lambda job: job.complete()) == codes.S_OK


def test_a_failed_rename_of_an_unfinished_job_leaves_it_suspended(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    """OPEN-37; what was renamed stays, and the next Complete goes on with the rest."""
    urls = [site.put(f"/{name}", BODY) for name in ("one", "two", "three")]
    site.gate("/three", HALF)
    job = create(service, owner, [(url, folder / url.rpartition("/")[2]) for url in urls])
    job.receives(2 * len(BODY) + HALF)
    (folder / "two").mkdir()
    with pytest.raises(BitsError):
        job.complete()
    assert job.state == "suspended"
    assert [file["is_published"] for file in job.files()] == [True, False, False]
    (folder / "two").rmdir()
    assert job.complete() == codes.BG_S_PARTIAL_COMPLETE
    assert names(folder) == ["one", "two"]


def test_a_file_belongs_to_whose_identity_made_it_not_to_the_administrator_who_completes(
    service: Service, site: Site, owner: Any, folder: Path
) -> None:
    """OPEN-38 as identity.md has it: nobody but the owner, or the helper, may own what is in the folder."""
    job = create(service, owner, [(site.put("/file", BODY), folder / "file")])
    job.reaches("transferred")
    assert os.geteuid() == 0
    assert job.complete() == 0
    assert (folder / "file").stat().st_uid == owner.uid
