"""Names, numbers and identifiers as documented: jobs.md §1 and §2.1, written down here a second time."""

import uuid

import pytest

from openbits import com

IIDS = {
    "IBackgroundCopyManager": "5ce34c0d-0dc9-4c1f-897c-daa1b78cee7c",
    "IBackgroundCopyJob": "37668d37-507e-4160-9316-26306d150b12",
    "IBackgroundCopyJob2": "54b50739-686f-45eb-9dff-d6a9a0faa9af",
    "IBackgroundCopyJob3": "443c8934-90ff-48ed-bcde-26f5c7450042",
    "IBackgroundCopyJob4": "659cdeae-489e-11d9-a9cd-000d56965251",
    "IBackgroundCopyJob5": "e847030c-bbba-4657-af6d-484aa42bf1fe",
    "IBackgroundCopyJobHttpOptions": "f1bd1079-9f01-4bdc-8036-f09b70095066",
    "IBackgroundCopyJobHttpOptions2": "b591a192-a405-4fc3-8323-4c5c542578fc",
    "IBackgroundCopyJobHttpOptions3": "8a9263d3-fd4c-4eda-9b28-30132a4d4e3c",
    "IBitsTokenOptions": "9a2584c3-f7d2-457a-9a5e-22b67bffc7d2",
    "IEnumBackgroundCopyJobs": "1af4f612-3b71-466f-8f58-7b6f73ac57ad",
    "IEnumBackgroundCopyFiles": "ca51e165-c365-424c-8d41-24aaa4ff3c40",
    "IBackgroundCopyFile": "01b7bd23-fb88-4a77-8490-5891d3e4653a",
    "IBackgroundCopyFile2": "83e81b93-0873-474d-8a8c-f2018b1a939c",
    "IBackgroundCopyFile3": "659cdeaa-489e-11d9-a9cd-000d56965251",
    "IBackgroundCopyFile4": "ef7e0655-7888-4960-b0e5-730846e03492",
    "IBackgroundCopyFile5": "85c1657f-dafc-40e8-8834-df18ea25717e",
    "IBackgroundCopyFile6": "cf6784f7-d677-49fd-9368-cb47aee9d1ad",
    "IBackgroundCopyError": "19c613a0-fcb8-4f28-81ae-897c3d078f81",
    "IBackgroundCopyCallback": "97ea99c7-0186-4ad4-8df9-c5b4e0ed6b22",
    "IBackgroundCopyCallback2": "659cdeac-489e-11d9-a9cd-000d56965251",
    "IBackgroundCopyCallback3": "98c97bd2-e32b-4ad8-a528-95fd8b16bd42",
    "IBackgroundCopyServerCertificateValidationCallback": "4cec0d02-def7-4158-813a-c32a46945ff7",
    "IBitsPeerCacheAdministration": "659cdead-489e-11d9-a9cd-000d56965251",
    "IBitsPeerCacheRecord": "659cdeaf-489e-11d9-a9cd-000d56965251",
    "IEnumBitsPeerCacheRecords": "659cdea4-489e-11d9-a9cd-000d56965251",
    "IBitsPeer": "659cdea2-489e-11d9-a9cd-000d56965251",
    "IEnumBitsPeers": "659cdea5-489e-11d9-a9cd-000d56965251",
}

CLSIDS = {
    "": "4991d34b-80a1-4291-83b6-3328366b9097",
    "1_5": "f087771f-d74f-4c1a-bb8a-e16aca9124ea",
    "2_0": "6d18ad12-bde3-4393-b311-099c346e6df9",
    "2_5": "03ca98d6-ff5d-49b8-abc6-03dd84127020",
    "3_0": "659cdea7-489e-11d9-a9cd-000d56965251",
    "4_0": "bb6df56b-cace-11dc-9992-0019b93a3a84",
    "5_0": "1ecca34c-e88a-44e3-8d6a-8921bde9e452",
    "10_1": "4bd3e4e1-7bd4-4a2b-9964-496400de5193",
    "10_2": "4575438f-a6c8-4976-b0fe-2f26b80d959e",
    "10_3": "5fd42ad5-c04e-4d36-adc7-e08ff15737ad",
}

NUMBERS = {
    **{f"BG_JOB_STATE_{name}": number for number, name in enumerate(
        ("QUEUED", "CONNECTING", "TRANSFERRING", "SUSPENDED", "ERROR", "TRANSIENT_ERROR", "TRANSFERRED",
         "ACKNOWLEDGED", "CANCELLED")
    )},
    **{f"BG_JOB_TYPE_{name}": number for number, name in enumerate(("DOWNLOAD", "UPLOAD", "UPLOAD_REPLY"))},
    **{f"BG_JOB_PRIORITY_{name}": number for number, name in enumerate(("FOREGROUND", "HIGH", "NORMAL", "LOW"))},
    "BG_NOTIFY_JOB_TRANSFERRED": 1,
    "BG_NOTIFY_JOB_ERROR": 2,
    "BG_NOTIFY_DISABLE": 4,
    "BG_NOTIFY_JOB_MODIFICATION": 8,
    "BG_NOTIFY_FILE_TRANSFERRED": 16,
    "BG_NOTIFY_FILE_RANGES_TRANSFERRED": 32,
    "BG_TOKEN_LOCAL_FILE": 1,
    "BG_TOKEN_NETWORK": 2,
    "BG_JOB_ENUM_ALL_USERS": 1,
    "BG_ERROR_CONTEXT_NONE": 0,
    "BG_ERROR_CONTEXT_LOCAL_FILE": 4,
    "BG_ERROR_CONTEXT_REMOTE_FILE": 5,
    "BG_ERROR_CONTEXT_SERVER_CERTIFICATE_CALLBACK": 8,
    "BG_SIZE_UNKNOWN": 0xFFFFFFFFFFFFFFFF,
    "BG_LENGTH_TO_EOF": 0xFFFFFFFFFFFFFFFF,
    **{f"BG_JOB_PROXY_USAGE_{name}": number for number, name in enumerate(
        ("PRECONFIG", "NO_PROXY", "OVERRIDE", "AUTODETECT")
    )},
    "BG_AUTH_TARGET_SERVER": 1,
    "BG_AUTH_TARGET_PROXY": 2,
    **{f"BG_AUTH_SCHEME_{name}": number for number, name in enumerate(
        ("BASIC", "DIGEST", "NTLM", "NEGOTIATE", "PASSPORT"), 1
    )},
    **{f"BG_CERT_STORE_LOCATION_{name}": number for number, name in enumerate(
        ("CURRENT_USER", "LOCAL_MACHINE", "CURRENT_SERVICE", "SERVICES", "USERS", "CURRENT_USER_GROUP_POLICY",
         "LOCAL_MACHINE_GROUP_POLICY", "LOCAL_MACHINE_ENTERPRISE")
    )},
    "BITS_JOB_PROPERTY_ID_COST_FLAGS": 1,
    "BITS_JOB_PROPERTY_NOTIFICATION_CLSID": 2,
    "BITS_JOB_PROPERTY_DYNAMIC_CONTENT": 3,
    "BITS_JOB_PROPERTY_HIGH_PERFORMANCE": 4,
    "BITS_JOB_PROPERTY_MAX_DOWNLOAD_SIZE": 5,
    "BITS_JOB_PROPERTY_USE_STORED_CREDENTIALS": 7,
    "BITS_JOB_PROPERTY_MINIMUM_NOTIFICATION_INTERVAL_MS": 9,
    "BITS_JOB_PROPERTY_ON_DEMAND_MODE": 10,
    "BITS_FILE_PROPERTY_ID_HTTP_RESPONSE_HEADERS": 1,
    "BITS_JOB_TRANSFER_POLICY_ALWAYS": 0x800000FF,
    "BITS_JOB_TRANSFER_POLICY_NOT_ROAMING": 0x8000007F,
    "BITS_JOB_TRANSFER_POLICY_NO_SURCHARGE": 0x8000006F,
    "BITS_JOB_TRANSFER_POLICY_STANDARD": 0x80000067,
    "BITS_JOB_TRANSFER_POLICY_UNRESTRICTED": 0x80000021,
    "BITS_COST_STATE_UNRESTRICTED": 0x1,
    "BITS_COST_STATE_CAPPED_USAGE_UNKNOWN": 0x2,
    "BITS_COST_STATE_BELOW_CAP": 0x4,
    "BITS_COST_STATE_NEAR_CAP": 0x8,
    "BITS_COST_STATE_OVERCAP_CHARGED": 0x10,
    "BITS_COST_STATE_OVERCAP_THROTTLED": 0x20,
    "BITS_COST_STATE_USAGE_BASED": 0x40,
    "BITS_COST_STATE_ROAMING": 0x80,
    "BITS_COST_STATE_RESERVED": 0x40000000,
    "BITS_COST_OPTION_IGNORE_CONGESTION": 0x80000000,
    "BG_COPY_FILE_OWNER": 1,
    "BG_COPY_FILE_GROUP": 2,
    "BG_COPY_FILE_DACL": 4,
    "BG_COPY_FILE_SACL": 8,
    "BG_COPY_FILE_ALL": 15,
    "BG_SSL_ENABLE_CRL_CHECK": 0x0001,
    "BG_SSL_IGNORE_CERT_CN_INVALID": 0x0002,
    "BG_SSL_IGNORE_CERT_DATE_INVALID": 0x0004,
    "BG_SSL_IGNORE_UNKNOWN_CA": 0x0008,
    "BG_SSL_IGNORE_CERT_WRONG_USAGE": 0x0010,
    "BG_HTTP_REDIRECT_POLICY_MASK": 0x0700,
    "BG_HTTP_REDIRECT_POLICY_ALLOW_SILENT": 0x0000,
    "BG_HTTP_REDIRECT_POLICY_ALLOW_REPORT": 0x0100,
    "BG_HTTP_REDIRECT_POLICY_DISALLOW": 0x0200,
    "BG_HTTP_REDIRECT_POLICY_ALLOW_HTTPS_TO_HTTP": 0x0800,
    "BG_ENABLE_PEERCACHING_CLIENT": 1,
    "BG_ENABLE_PEERCACHING_SERVER": 2,
    "BG_DISABLE_BRANCH_CACHE": 4,
    "BG_JOB_ENABLE_PEERCACHING_CLIENT": 1,
    "BG_JOB_ENABLE_PEERCACHING_SERVER": 2,
    "BG_JOB_DISABLE_BRANCH_CACHE": 4,
    "RPC_C_IMP_LEVEL_IMPERSONATE": 3,
    "EOAC_DYNAMIC_CLOAKING": 0x40,
    "LOGON32_LOGON_INTERACTIVE": 2,
    "S_OK": 0,
    "S_FALSE": 1,
    "E_ACCESSDENIED": 0x80070005,
    "BG_E_TOKEN_REQUIRED": 0x80200056,
    "BG_S_PARTIAL_COMPLETE": 0x00200017,
}  # fmt: skip


@pytest.mark.parametrize(("name", "iid"), IIDS.items())
def test_every_interface_has_its_documented_iid(name: str, iid: str) -> None:
    interface = getattr(com, name)
    assert uuid.UUID(iid) == interface.IID
    assert issubclass(interface, com.IUnknown)
    assert name in com.__all__


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("version", "clsid"), CLSIDS.items())
def test_every_manager_class_has_its_class_id_and_gives_the_manager(version: str, clsid: str) -> None:
    manager_class = getattr(com, f"BackgroundCopyManager{version}")
    assert uuid.UUID(clsid) == manager_class.CLSID
    assert isinstance(manager_class(), com.IBackgroundCopyManager)


@pytest.mark.parametrize(("name", "number"), NUMBERS.items())
def test_constants_have_their_documented_numbers(name: str, number: int) -> None:
    assert getattr(com, name) == number


def test_what_is_no_constant_is_no_attribute() -> None:
    for name in ("BG_NONSENSE", "lookup", "ROWS"):
        with pytest.raises(AttributeError, match=name):
            getattr(com, name)


NOT_BUILT = [name for name in IIDS if "Peer" in name]


@pytest.mark.parametrize("name", NOT_BUILT)
def test_an_interface_that_is_not_built_is_detected_by_query_interface(name: str, job: com.IBackgroundCopyJob) -> None:
    with pytest.raises(com.COMError, match=name) as caught:
        job.QueryInterface(getattr(com, name))
    assert (caught.value.hresult, caught.value.name) == (0x80004002, "E_NOINTERFACE")


@pytest.mark.parametrize("name", [name for name in IIDS if name.startswith("IBackgroundCopyJob")])
def test_every_interface_of_a_job_leads_to_every_other(name: str, job: com.IBackgroundCopyJob) -> None:
    """jobs.md §2.1; IUnknown stays the identity of the object."""
    interface = getattr(com, name)
    found = job.QueryInterface(interface)
    assert type(found) is interface
    assert found.QueryInterface(com.IUnknown) is job
    assert type(found.QueryInterface(com.IBitsTokenOptions)) is com.IBitsTokenOptions
    assert type(found.QueryInterface(com.IBackgroundCopyJob)) is com.IBackgroundCopyJob


def test_a_class_of_ones_own_is_no_interface(job: com.IBackgroundCopyJob) -> None:
    class Mine(com.IBackgroundCopyJob5):
        pass

    for interface in (Mine, com.IBackgroundCopyJob.__mro__[1]):
        with pytest.raises(com.COMError) as caught:
            job.QueryInterface(interface)
        assert caught.value.hresult == 0x80004002


def test_an_interface_of_another_object_is_none_of_this(job: com.IBackgroundCopyJob) -> None:
    with pytest.raises(com.COMError):
        job.QueryInterface(com.IBackgroundCopyManager)
    with pytest.raises(com.COMError):
        com.BackgroundCopyManager().QueryInterface(com.IBackgroundCopyJob)
    manager = com.BackgroundCopyManager()
    assert manager.QueryInterface(com.IBackgroundCopyManager) is manager
