"""IBackgroundCopyFile to File6 over the fake service."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.api.fakeservice import FakeService, Values

from openbits import com

VERSIONS = [
    com.IBackgroundCopyFile,
    com.IBackgroundCopyFile2,
    com.IBackgroundCopyFile3,
    com.IBackgroundCopyFile4,
    com.IBackgroundCopyFile5,
    com.IBackgroundCopyFile6,
]
PART = com.BG_FILE_RANGE(InitialOffset=5, Length=10)
REST = com.BG_FILE_RANGE(InitialOffset=20, Length=com.BG_LENGTH_TO_EOF)


@pytest.fixture
def file(job: com.IBackgroundCopyJob) -> com.IBackgroundCopyFile:
    """The first file as the enumerator gives it."""
    job.AddFile("http://h/a", "/srv/a")
    return job.EnumFiles().Next(1)[0]


@pytest.fixture
def last(file: com.IBackgroundCopyFile) -> com.IBackgroundCopyFile6:
    """The same with all methods."""
    return file.QueryInterface(com.IBackgroundCopyFile6)


def hresult_of(call: Callable[..., object], *arguments: Any) -> int:
    with pytest.raises(com.COMError) as caught:
        call(*arguments)
    return caught.value.hresult


def test_every_version_leads_to_every_other_and_to_one_identity(file: com.IBackgroundCopyFile) -> None:
    for version in VERSIONS:
        found = file.QueryInterface(version)
        assert type(found) is version
        assert found.GetRemoteName() == "http://h/a"
        assert found.QueryInterface(com.IUnknown) is file.QueryInterface(com.IUnknown)
        for other in VERSIONS:
            assert type(found.QueryInterface(other)) is other
    assert hresult_of(file.QueryInterface, com.IBackgroundCopyJob) == com.E_NOINTERFACE


def test_the_file_of_an_error_has_all_versions(service: FakeService, job: com.IBackgroundCopyJob) -> None:
    job.AddFile("http://h/a", "/srv/a")
    error = {
        "hresult": com.BG_E_HTTP_ERROR_404,
        "symbol": "BG_E_HTTP_ERROR_404",
        "context": "remote_file",
        "message": "not there; check the URL",
        "detail": "",
        "identity": "",
        "subject": "http://h/a",
        "file_index": 0,
        "protocol": "http",
        "at": 1.0,
    }
    service.change(job.GetId(), state="error", error=error)
    file = job.GetError().GetFile().QueryInterface(com.IBackgroundCopyFile6)
    assert file.GetLocalName() == "/srv/a"


def test_ranges_are_given_back_in_their_order(job: com.IBackgroundCopyJob) -> None:
    job.QueryInterface(com.IBackgroundCopyJob3).AddFileWithRanges("http://h/a", "/srv/a", [REST, PART])
    (file,) = job.EnumFiles().Next(1)
    assert file.QueryInterface(com.IBackgroundCopyFile2).GetFileRanges() == (2, [REST, PART])


def test_a_whole_file_has_no_ranges(last: com.IBackgroundCopyFile6) -> None:
    assert last.GetFileRanges() == (0, None)


def test_setters_ask_the_service_and_return_s_ok(service: FakeService, last: com.IBackgroundCopyFile6) -> None:
    asked: list[Values] = []

    def remember(parameters: Values) -> Values:
        asked.append(parameters)
        return {}

    for method in ("SetRemoteName", "SetValidationState", "RequestFileRanges", "UpdateDownloadPosition"):
        service.overrides[method] = remember
    assert last.SetRemoteName("http://h/b") == com.S_OK
    assert last.SetValidationState(False) == com.S_OK
    assert last.RequestFileRanges([PART, REST]) == com.S_OK
    assert last.UpdateDownloadPosition(2**64 - 1) == com.S_OK
    told = [{key: value for key, value in one.items() if key not in {"handle", "file_index"}} for one in asked]
    assert told == [
        {"remote_name": "http://h/b"},
        {"is_valid": False},
        {"ranges": [{"offset": 5, "length": 10}, {"offset": 20, "length": 2**64 - 1}]},
        {"offset": 2**64 - 1},
    ]


def test_what_is_null_or_no_number_of_64_bits_is_invalid(last: Any) -> None:
    for call, arguments in (
        (last.SetRemoteName, [None]),
        (last.SetValidationState, [None]),
        (last.SetProperty, [1, None]),
        (last.RequestFileRanges, [None]),
        (last.RequestFileRanges, [[None]]),
        (last.RequestFileRanges, [[com.BG_FILE_RANGE(InitialOffset=-1, Length=1)]]),
        (last.RequestFileRanges, [[com.BG_FILE_RANGE(InitialOffset=0, Length=2**64)]]),
        (last.UpdateDownloadPosition, [None]),
        (last.UpdateDownloadPosition, [2**64]),
        (last.UpdateDownloadPosition, ["0"]),
        (last.GetProperty, [None]),
    ):
        assert hresult_of(call, *arguments) == com.E_INVALIDARG


def test_the_one_property_is_read_only(service: FakeService, last: com.IBackgroundCopyFile6) -> None:
    service.overrides["GetResponseHeaders"] = lambda _: {"headers": "HTTP/1.1 200 OK\r\n\r\n"}
    value = com.BITS_FILE_PROPERTY_VALUE(String="x")
    assert last.GetProperty(com.BITS_FILE_PROPERTY_ID_HTTP_RESPONSE_HEADERS).String == "HTTP/1.1 200 OK\r\n\r\n"
    assert hresult_of(last.SetProperty, 1, value) == com.BG_E_READ_ONLY_PROPERTY
    for unknown in (0, 2):
        assert hresult_of(last.GetProperty, unknown) == com.BG_E_UNKNOWN_PROPERTY_ID
        assert hresult_of(last.SetProperty, unknown, value) == com.BG_E_UNKNOWN_PROPERTY_ID


def test_what_is_here_and_where(service: FakeService, last: com.IBackgroundCopyFile6) -> None:
    assert (last.GetTemporaryName(), last.GetPeerDownloadStats()) == ("", (0, 0))
    assert (last.GetValidationState(), last.IsDownloadedFromPeer()) == (False, False)
    (files,) = service.files.values()
    files[0].update(temporary_name="/srv/.BIT00000001.tmp", bytes_transferred=7, is_valid=True)
    service.overrides["GetFilledFileRanges"] = lambda _: {"ranges": [{"offset": 0, "length": 7}]}
    assert (last.GetTemporaryName(), last.GetPeerDownloadStats()) == ("/srv/.BIT00000001.tmp", (7, 0))
    assert (last.GetValidationState(), last.IsDownloadedFromPeer()) == (True, False)
    assert last.GetFilledFileRanges() == (1, [com.BG_FILE_RANGE(InitialOffset=0, Length=7)])
