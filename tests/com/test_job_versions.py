"""IBackgroundCopyJob2 to 5 over the fake service: what arrives there, what is refused before (jobs.md §7.4-§7.7)."""

import os
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.fakeservice import FailedError, FakeService, Values

from openbits import com

E_NOTIMPL, E_INVALIDARG = 0x80004001, 0x80070057
UNKNOWN_PROPERTY_ID = 0x80200057
STORED_CREDENTIALS_NOT_SUPPORTED = 0x80200066
INVALID_AUTH_TARGET, INVALID_AUTH_SCHEME = 0x80200027, 0x80200028
UNKNOWN = 2**64 - 1
GUID = uuid.UUID("d41bd4a4-6abd-4c1a-9d03-2b9b3f2e0f11")
NULL_GUID = uuid.UUID(int=0)


@pytest.fixture
def job5(job: com.IBackgroundCopyJob) -> com.IBackgroundCopyJob5:
    return job.QueryInterface(com.IBackgroundCopyJob5)


@pytest.fixture
def properties(job5: com.IBackgroundCopyJob5, service: FakeService) -> Values:
    """What the service keeps."""
    kept: Values = service.jobs[str(job5.GetId())]["properties"]
    return kept


def code_of(call: Callable[..., object], *arguments: object) -> int:
    with pytest.raises(com.COMError) as caught:
        call(*arguments)
    return caught.value.hresult


def value(**members: Any) -> com.BITS_JOB_PROPERTY_VALUE:
    return com.BITS_JOB_PROPERTY_VALUE(**members)


# -- Job5: properties -------------------------------------------------------------------------------------------------

DEFAULTS = [
    ("BITS_JOB_PROPERTY_ID_COST_FLAGS", value(Dword=0x80000067)),
    ("BITS_JOB_PROPERTY_NOTIFICATION_CLSID", value(ClsID=NULL_GUID)),
    ("BITS_JOB_PROPERTY_DYNAMIC_CONTENT", value(Enable=False)),
    ("BITS_JOB_PROPERTY_HIGH_PERFORMANCE", value(Enable=False)),
    ("BITS_JOB_PROPERTY_MAX_DOWNLOAD_SIZE", value(Uint64=UNKNOWN)),
    ("BITS_JOB_PROPERTY_USE_STORED_CREDENTIALS", value(Target=0)),
    ("BITS_JOB_PROPERTY_MINIMUM_NOTIFICATION_INTERVAL_MS", value(Dword=500)),
    ("BITS_JOB_PROPERTY_ON_DEMAND_MODE", value(Enable=False)),
]


@pytest.mark.parametrize(("name", "expected"), DEFAULTS)
def test_a_new_job_has_the_documented_properties(
    name: str, expected: com.BITS_JOB_PROPERTY_VALUE, job5: com.IBackgroundCopyJob5
) -> None:
    assert job5.GetProperty(getattr(com, name)) == expected


def test_cost_flags_by_default_follow_the_priority(job5: com.IBackgroundCopyJob5) -> None:
    job5.SetPriority(com.BG_JOB_PRIORITY_FOREGROUND)
    assert job5.GetProperty(com.BITS_JOB_PROPERTY_ID_COST_FLAGS).Dword == com.BITS_JOB_TRANSFER_POLICY_NOT_ROAMING


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("BITS_JOB_PROPERTY_ID_COST_FLAGS", value(Dword=0x800000FF), ("cost_flags", 0x800000FF)),
        ("BITS_JOB_PROPERTY_ID_COST_FLAGS", value(Dword=0), ("cost_flags", 0)),
        ("BITS_JOB_PROPERTY_ID_COST_FLAGS", value(Dword=com.BITS_JOB_TRANSFER_POLICY_ALWAYS),
         ("cost_flags", 0x800000FF)),
        ("BITS_JOB_PROPERTY_ID_COST_FLAGS", value(Dword=com.BITS_COST_STATE_ROAMING), ("cost_flags", 0x80)),
        ("BITS_JOB_PROPERTY_NOTIFICATION_CLSID", value(ClsID=GUID), ("notification_clsid", str(GUID))),
        ("BITS_JOB_PROPERTY_DYNAMIC_CONTENT", value(Enable=True), ("dynamic_content", True)),
        ("BITS_JOB_PROPERTY_HIGH_PERFORMANCE", value(Enable=True), ("high_performance", True)),
        ("BITS_JOB_PROPERTY_HIGH_PERFORMANCE", value(Enable=1), ("high_performance", True)),
        ("BITS_JOB_PROPERTY_MAX_DOWNLOAD_SIZE", value(Uint64=1), ("max_download_size_bytes", 1)),
        ("BITS_JOB_PROPERTY_MAX_DOWNLOAD_SIZE", value(Uint64=UNKNOWN), ("max_download_size_bytes", UNKNOWN)),
        ("BITS_JOB_PROPERTY_USE_STORED_CREDENTIALS", value(Target=2), ("use_stored_proxy_credentials", True)),
        ("BITS_JOB_PROPERTY_MINIMUM_NOTIFICATION_INTERVAL_MS", value(Dword=0),
         ("minimum_notification_interval_ms", 0)),
        ("BITS_JOB_PROPERTY_ON_DEMAND_MODE", value(Enable=True), ("on_demand_mode", True)),
    ],
)  # fmt: skip
def test_a_property_is_set_and_read_in_the_member_of_its_type(
    name: str,
    given: com.BITS_JOB_PROPERTY_VALUE,
    kept: tuple[str, object],
    job5: com.IBackgroundCopyJob5,
    properties: Values,
) -> None:
    assert job5.SetProperty(getattr(com, name), given) == com.S_OK
    assert (kept[0], properties[kept[0]]) == kept
    assert type(properties[kept[0]]) is type(kept[1])
    assert job5.GetProperty(getattr(com, name)) == given


def test_the_null_guid_is_sent_to_clear(job5: com.IBackgroundCopyJob5, properties: Values) -> None:
    properties["notification_clsid"] = str(GUID)
    job5.SetProperty(com.BITS_JOB_PROPERTY_NOTIFICATION_CLSID, value(ClsID=NULL_GUID))
    assert properties["notification_clsid"] == str(NULL_GUID)


@pytest.mark.parametrize("unknown", [0, 6, 8, 11, -1, 2**32])
def test_other_ids_are_unknown(unknown: int, job5: com.IBackgroundCopyJob5) -> None:
    assert code_of(job5.GetProperty, unknown) == UNKNOWN_PROPERTY_ID
    assert code_of(job5.SetProperty, unknown, value(Dword=1)) == UNKNOWN_PROPERTY_ID


@pytest.mark.parametrize(("name", "right"), DEFAULTS)
def test_a_value_in_another_member_is_an_invalid_argument(
    name: str, right: com.BITS_JOB_PROPERTY_VALUE, job5: com.IBackgroundCopyJob5, service: FakeService
) -> None:
    for wrong in (value(Dword=1), value(ClsID=GUID), value(Enable=True), value(Uint64=1), value(Target=2)):
        (member,) = [one for one in wrong.__slots__ if getattr(wrong, one) is not None]
        if getattr(right, member) is None:
            assert code_of(job5.SetProperty, getattr(com, name), wrong) == E_INVALIDARG
    assert "SetProperties" not in service.methods()


@pytest.mark.parametrize("target", [0, 1, 3])
def test_stored_credentials_are_for_proxies(target: int, job5: com.IBackgroundCopyJob5) -> None:
    code = code_of(job5.SetProperty, com.BITS_JOB_PROPERTY_USE_STORED_CREDENTIALS, value(Target=target))
    assert code == STORED_CREDENTIALS_NOT_SUPPORTED


def test_null_is_an_invalid_argument(job5: com.IBackgroundCopyJob5) -> None:
    for call, arguments in (
        (job5.SetProperty, (None, value(Dword=1))),
        (job5.SetProperty, (1, None)),
        (job5.GetProperty, (None,)),
        (job5.SetProperty, (2, value(ClsID="no guid"))),
        (job5.SetCredentials, (None,)),
        (job5.SetCredentials, (credentials(pair=None),)),
        (job5.RemoveCredentials, (None, 1)),
        (job5.RemoveCredentials, (1, None)),
        (job5.ReplaceRemotePrefix, (None, "https://n/")),
        (job5.ReplaceRemotePrefix, ("https://o/", None)),
        (job5.AddFileWithRanges, (None, "/a", [])),
        (job5.AddFileWithRanges, ("https://h/a", None, [])),
        (job5.AddFileWithRanges, ("https://h/a", "/a", None)),
        (job5.AddFileWithRanges, ("https://h/a", "/a", [None])),
        (job5.SetFileACLFlags, (None,)),
        (job5.SetPeerCachingFlags, (None,)),
        (job5.SetMaximumDownloadTime, (None,)),
    ):
        assert code_of(call, *arguments) == E_INVALIDARG, (call, arguments)


def test_what_is_no_structure_is_an_invalid_argument_that_is_not_repeated(job5: com.IBackgroundCopyJob5) -> None:
    pair = com.BG_BASIC_CREDENTIALS(UserName="alice", Password="s3cret")
    for call, arguments, needed in (
        (job5.SetCredentials, (("alice", "s3cret"),), "credentials is of type tuple; give a BG_AUTH_CREDENTIALS"),
        (job5.SetCredentials, (pair,), "credentials is of type BG_BASIC_CREDENTIALS; give a BG_AUTH_CREDENTIALS"),
        (job5.SetCredentials, (credentials(pair="s3cret"),), "Credentials is of type str; give a BG_BASIC_CREDENTIALS"),
        (job5.SetProperty, (5, 10**9), "PropertyValue is of type int; give a BITS_JOB_PROPERTY_VALUE"),
        (job5.AddFileSet, ([("https://h/a", "/a")],), "pFileSet is of type tuple; give a BG_FILE_INFO"),
        (job5.AddFileWithRanges, ("https://h/a", "/a", [(0, 5)]), "Ranges is of type tuple; give a BG_FILE_RANGE"),
        (job5.AddFileWithRanges, ("https://h/a", "/a", 5), "Ranges is of type int; give a list of BG_FILE_RANGE"),
    ):
        with pytest.raises(com.COMError) as caught:
            call(*arguments)
        assert caught.value.hresult == E_INVALIDARG
        assert needed in str(caught.value)
        assert "s3cret" not in str(caught.value)


def test_a_union_has_exactly_one_member() -> None:
    for members in ({}, {"Dword": 1, "Uint64": 1}):
        with pytest.raises(TypeError, match="exactly one of Dword, ClsID, Enable, Uint64, Target"):
            value(**members)
    assert value(Dword=0) == value(Dword=0)
    with pytest.raises(TypeError):
        com.BITS_FILE_PROPERTY_VALUE()


# -- Job4 and 3 -------------------------------------------------------------------------------------------------------


def test_numbers_of_job3_and_job4_are_kept(job5: com.IBackgroundCopyJob5, service: FakeService) -> None:
    assert (job5.GetFileACLFlags(), job5.GetPeerCachingFlags()) == (0, 0)
    assert job5.SetFileACLFlags(com.BG_COPY_FILE_ALL) == com.S_OK
    assert job5.SetPeerCachingFlags(com.BG_JOB_DISABLE_BRANCH_CACHE) == com.S_OK
    assert (job5.GetFileACLFlags(), job5.GetPeerCachingFlags()) == (15, 4)
    info = service.jobs[str(job5.GetId())]
    info.update(owner_integrity_level=0x4000, owner_is_elevated=True)
    assert (job5.GetOwnerIntegrityLevel(), job5.GetOwnerElevationState()) == (0x4000, True)


def test_the_maximum_download_time_is_what_holds(
    job5: com.IBackgroundCopyJob5, service: FakeService, properties: Values
) -> None:
    assert job5.GetMaximumDownloadTime() == 90 * 24 * 3600
    assert job5.SetMaximumDownloadTime(0xFFFFFFFF) == com.S_OK
    assert properties["maximum_download_seconds"] == 0xFFFFFFFF
    service.jobs[str(job5.GetId())]["maximum_download_seconds"] = 60
    assert job5.GetMaximumDownloadTime() == 60
    assert code_of(job5.SetMaximumDownloadTime, 2**32) == E_INVALIDARG


def test_ranges_arrive_in_the_order_given_and_to_the_end_is_no_length(
    job5: com.IBackgroundCopyJob5, service: FakeService
) -> None:
    ranges = [
        com.BG_FILE_RANGE(InitialOffset=100, Length=5),
        com.BG_FILE_RANGE(InitialOffset=0, Length=com.BG_LENGTH_TO_EOF),
    ]
    assert job5.AddFileWithRanges("https://h/a", "/srv/a", ranges) == com.S_OK
    (file,) = service.calls[-1].parameters["files"]
    assert (file["remote_name"], file["local_name"]) == ("https://h/a", "/srv/a")
    assert file["ranges"] == [{"offset": 100, "length": 5}, {"offset": 0, "length": None}]


@pytest.mark.parametrize(("changed", "result"), [(0, 1), (1, 0), (5, 0)])
def test_replacing_a_prefix_that_no_name_has_is_s_false(
    changed: int, result: int, job5: com.IBackgroundCopyJob5, service: FakeService
) -> None:
    service.overrides["ReplaceRemotePrefix"] = lambda _: {"files_changed": changed}
    assert job5.ReplaceRemotePrefix("https://old/", "https://new/") == result
    sent = service.calls[-1].parameters
    assert (sent["old_prefix"], sent["new_prefix"]) == ("https://old/", "https://new/")


# -- Job2: command line, reply, credentials ---------------------------------------------------------------------------


def test_a_command_line_and_none(job5: com.IBackgroundCopyJob5, service: FakeService) -> None:
    service.overrides["SetNotifyCmdLine"] = lambda _: {}
    for program, parameters in (("/bin/true", "true -x"), ("/bin/true", None), (None, None)):
        assert job5.SetNotifyCmdLine(program, parameters) == com.S_OK
        sent = service.calls[-1].parameters
        assert (sent.get("program"), sent.get("parameters")) == (program, parameters)
    service.overrides["GetNotifyCmdLine"] = lambda _: {"program": "/bin/true", "parameters": "true -x"}
    assert job5.GetNotifyCmdLine() == com.NotifyCmdLine(Program="/bin/true", Parameters="true -x")


def test_credentials_are_sent_and_removed(job5: com.IBackgroundCopyJob5, service: FakeService) -> None:
    service.overrides["SetCredentials"] = lambda _: {}
    for name, password in (("alice", "s3cret"), (None, None)):
        pair = com.BG_BASIC_CREDENTIALS(UserName=name, Password=password)
        assert job5.SetCredentials(credentials(com.BG_AUTH_TARGET_PROXY, com.BG_AUTH_SCHEME_NTLM, pair)) == com.S_OK
        sent = service.calls[-1].parameters
        assert (sent["target"], sent["scheme"]) == ("proxy", "ntlm")
        assert (sent.get("user"), sent.get("password")) == (name, password)
    for hresult in (com.S_OK, com.S_FALSE):
        answer = {"hresult": hresult}
        service.overrides["RemoveCredentials"] = lambda _: dict(answer)  # noqa: B023  # called at once
        assert job5.RemoveCredentials(com.BG_AUTH_TARGET_SERVER, com.BG_AUTH_SCHEME_BASIC) == hresult


MIB = 1 << 20


def a_reply(service: FakeService, job: com.IBackgroundCopyJob2, **values: object) -> None:
    reply = {"local_name": None, "bytes_total": None, "bytes_transferred": 0, **values}
    service.jobs[str(job.GetId())].update(type="upload_reply", reply=reply)


def test_a_download_has_no_reply(job5: com.IBackgroundCopyJob5, service: FakeService) -> None:
    def refuse(_: Values) -> Values:
        raise FailedError(E_NOTIMPL)

    service.overrides.update(SetReplyFileName=refuse, GetReplyData=refuse)
    for call in (job5.GetReplyProgress, job5.GetReplyFileName, job5.GetReplyData, lambda: job5.SetReplyFileName("/a")):
        assert code_of(call) == E_NOTIMPL


def test_reply_name_and_progress(job5: com.IBackgroundCopyJob5, service: FakeService) -> None:
    a_reply(service, job5)
    assert job5.GetReplyFileName() is None
    assert job5.GetReplyProgress() == com.BG_JOB_REPLY_PROGRESS(BytesTotal=UNKNOWN, BytesTransferred=0)
    a_reply(service, job5, local_name="/srv/answer", bytes_total=7, bytes_transferred=3)
    assert job5.GetReplyFileName() == "/srv/answer"
    assert job5.GetReplyProgress() == com.BG_JOB_REPLY_PROGRESS(BytesTotal=7, BytesTransferred=3)


@pytest.mark.parametrize(("name", "sent"), [("/srv/in/answer", "/srv/in/answer"), (None, None), ("", None)])
def test_the_reply_file_is_named_or_left_to_the_service(
    name: str | None, sent: str | None, job5: com.IBackgroundCopyJob5, service: FakeService
) -> None:
    service.overrides["SetReplyFileName"] = lambda _: {}
    assert job5.SetReplyFileName(name) == com.S_OK
    assert service.calls[-1].parameters.get("local_name") == sent


def test_reply_data_come_in_a_memory_file(job5: com.IBackgroundCopyJob5, service: FakeService) -> None:
    def give(_: Values) -> Values:
        memory = os.memfd_create("reply")
        os.write(memory, b"\0answer" * 100)
        service._keep.append(memory)
        return {"data": 0, "descriptors": [memory]}

    service.overrides["GetReplyData"] = give
    assert job5.GetReplyData() == (b"\0answer" * 100, 700)
    service.overrides["GetReplyData"] = lambda _: {"data": None}
    assert job5.GetReplyData() == com.ReplyData(None, 0)


def credentials(
    target: int = 1, scheme: int = 1, pair: com.BG_BASIC_CREDENTIALS | str | None = None
) -> com.BG_AUTH_CREDENTIALS:
    return com.BG_AUTH_CREDENTIALS(Target=target, Scheme=scheme, Credentials=pair)  # type: ignore[arg-type]  # also bad


def test_a_password_is_in_no_representation() -> None:
    given = credentials(pair=com.BG_BASIC_CREDENTIALS(UserName="alice", Password="s3cret"))
    assert "s3cret" not in f"{given!r} {given}"
    assert "alice" in repr(given)


def test_undefined_targets_and_schemes(job5: com.IBackgroundCopyJob5) -> None:
    pair = com.BG_BASIC_CREDENTIALS(UserName="alice", Password="x")
    for target in (0, 3):
        assert code_of(job5.SetCredentials, credentials(target, 1, pair)) == INVALID_AUTH_TARGET
        assert code_of(job5.RemoveCredentials, target, 1) == INVALID_AUTH_TARGET
    for scheme in (0, 6):
        assert code_of(job5.SetCredentials, credentials(2, scheme, pair)) == INVALID_AUTH_SCHEME
        assert code_of(job5.RemoveCredentials, 2, scheme) == INVALID_AUTH_SCHEME
