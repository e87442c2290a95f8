"""The documented interfaces, typed from jobs.md §2.1, §2.2, §7 and §14: ids, parents, methods with their parameters.

Out-parameters are results in Python, so only what a caller passes is named; a count and its array are one list. What a
client implements has the parameters that the service passes, counts included.
"""

from dataclasses import dataclass
from typing import Final

_TABLE = """
IBackgroundCopyManager 1.0 IUnknown 5ce34c0d-0dc9-4c1f-897c-daa1b78cee7c §7.1
    CreateJob DisplayName Type
    GetJob jobID
    EnumJobs dwFlags
    GetErrorDescription hResult LanguageId
IBackgroundCopyJob 1.0 IUnknown 37668d37-507e-4160-9316-26306d150b12 §7.2
    AddFileSet pFileSet
    AddFile RemoteUrl LocalName
    EnumFiles
    Suspend
    Resume
    Cancel
    Complete
    GetId
    GetType
    GetProgress
    GetTimes
    GetState
    GetError
    GetOwner
    SetDisplayName Val
    GetDisplayName
    SetDescription Val
    GetDescription
    SetPriority Val
    GetPriority
    SetNotifyFlags Val
    GetNotifyFlags
    SetNotifyInterface Val
    GetNotifyInterface
    SetMinimumRetryDelay Seconds
    GetMinimumRetryDelay
    SetNoProgressTimeout Seconds
    GetNoProgressTimeout
    GetErrorCount
    SetProxySettings ProxyUsage ProxyList ProxyBypassList
    GetProxySettings
    TakeOwnership
IBackgroundCopyJob2 1.5 IBackgroundCopyJob 54b50739-686f-45eb-9dff-d6a9a0faa9af §7.4
    SetNotifyCmdLine Program Parameters
    GetNotifyCmdLine
    GetReplyProgress
    GetReplyData
    SetReplyFileName ReplyFileName
    GetReplyFileName
    SetCredentials credentials
    RemoveCredentials Target Scheme
IBackgroundCopyJob3 2.0 IBackgroundCopyJob2 443c8934-90ff-48ed-bcde-26f5c7450042 §7.5
    ReplaceRemotePrefix OldPrefix NewPrefix
    AddFileWithRanges RemoteUrl LocalName Ranges
    SetFileACLFlags Flags
    GetFileACLFlags
IBackgroundCopyJob4 3.0 IBackgroundCopyJob3 659cdeae-489e-11d9-a9cd-000d56965251 §7.6
    SetPeerCachingFlags Flags
    GetPeerCachingFlags
    GetOwnerIntegrityLevel
    GetOwnerElevationState
    SetMaximumDownloadTime Timeout
    GetMaximumDownloadTime
IBackgroundCopyJob5 5.0 IBackgroundCopyJob4 e847030c-bbba-4657-af6d-484aa42bf1fe §7.7
    SetProperty PropertyId PropertyValue
    GetProperty PropertyId
IBackgroundCopyJobHttpOptions 2.5 IUnknown f1bd1079-9f01-4bdc-8036-f09b70095066 §7.8
    SetClientCertificateByID StoreLocation StoreName pCertHashBlob
    SetClientCertificateByName StoreLocation StoreName SubjectName
    RemoveClientCertificate
    GetClientCertificate
    SetCustomHeaders RequestHeaders
    GetCustomHeaders
    SetSecurityFlags Flags
    GetSecurityFlags
IBackgroundCopyJobHttpOptions2 10.2 IBackgroundCopyJobHttpOptions b591a192-a405-4fc3-8323-4c5c542578fc §7.8
    SetHttpMethod Method
    GetHttpMethod
IBackgroundCopyJobHttpOptions3 10.3 IBackgroundCopyJobHttpOptions2 8a9263d3-fd4c-4eda-9b28-30132a4d4e3c §7.8
    SetServerCertificateValidationInterface certValidationCallback
    MakeCustomHeadersWriteOnly
IBitsTokenOptions 4.0 IUnknown 9a2584c3-f7d2-457a-9a5e-22b67bffc7d2 §14
    SetHelperTokenFlags UsageFlags
    GetHelperTokenFlags
    SetHelperToken
    ClearHelperToken
    GetHelperTokenSid
IEnumBackgroundCopyJobs 1.0 IUnknown 1af4f612-3b71-466f-8f58-7b6f73ac57ad §7.10
    Next celt
    Skip celt
    Reset
    Clone
    GetCount
IEnumBackgroundCopyFiles 1.0 IUnknown ca51e165-c365-424c-8d41-24aaa4ff3c40 §7.10
    Next celt
    Skip celt
    Reset
    Clone
    GetCount
IBackgroundCopyFile 1.0 IUnknown 01b7bd23-fb88-4a77-8490-5891d3e4653a §7.11
    GetRemoteName
    GetLocalName
    GetProgress
IBackgroundCopyFile2 2.0 IBackgroundCopyFile 83e81b93-0873-474d-8a8c-f2018b1a939c §7.11
    GetFileRanges
    SetRemoteName Val
IBackgroundCopyFile3 3.0 IBackgroundCopyFile2 659cdeaa-489e-11d9-a9cd-000d56965251 §7.11
    GetTemporaryName
    SetValidationState state
    GetValidationState
    IsDownloadedFromPeer
IBackgroundCopyFile4 4.0 IBackgroundCopyFile3 ef7e0655-7888-4960-b0e5-730846e03492 §7.11
    GetPeerDownloadStats
IBackgroundCopyFile5 5.0 IBackgroundCopyFile4 85c1657f-dafc-40e8-8834-df18ea25717e §7.11
    SetProperty PropertyId PropertyValue
    GetProperty PropertyId
IBackgroundCopyFile6 10.1 IBackgroundCopyFile5 cf6784f7-d677-49fd-9368-cb47aee9d1ad §7.11
    UpdateDownloadPosition offset
    RequestFileRanges ranges
    GetFilledFileRanges
IBackgroundCopyError 1.0 IUnknown 19c613a0-fcb8-4f28-81ae-897c3d078f81 §7.12
    GetError
    GetFile
    GetErrorDescription LanguageId
    GetErrorContextDescription LanguageId
    GetProtocol
IBackgroundCopyCallback 1.0 IUnknown 97ea99c7-0186-4ad4-8df9-c5b4e0ed6b22 §7.13
    JobTransferred pJob
    JobError pJob pError
    JobModification pJob dwReserved
IBackgroundCopyCallback2 3.0 IBackgroundCopyCallback 659cdeac-489e-11d9-a9cd-000d56965251 §7.13
    FileTransferred pJob pFile
IBackgroundCopyCallback3 10.1 IBackgroundCopyCallback2 98c97bd2-e32b-4ad8-a528-95fd8b16bd42 §7.13
    FileRangesTransferred pJob pFile rangeCount ranges
IBackgroundCopyServerCertificateValidationCallback 10.3 IUnknown 4cec0d02-def7-4158-813a-c32a46945ff7 §7.13
    ValidateServerCertificate pJob pFile certLength certData certEncodingType certStoreLength certStoreData
IBitsPeerCacheAdministration 3.0 IUnknown 659cdead-489e-11d9-a9cd-000d56965251 §16
    GetMaximumCacheSize
    SetMaximumCacheSize Bytes
    GetMaximumContentAge
    SetMaximumContentAge Seconds
    GetConfigurationFlags
    SetConfigurationFlags Flags
    EnumRecords
    GetRecord id
    ClearRecords
    DeleteRecord id
    DeleteUrl url
    EnumPeers
    ClearPeers
    DiscoverPeers
IBitsPeerCacheRecord 3.0 IUnknown 659cdeaf-489e-11d9-a9cd-000d56965251 §16
    GetId
    GetOriginUrl
    GetFileSize
    GetFileModificationTime
    GetLastAccessTime
    IsFileValidated
    GetFileRanges
IEnumBitsPeerCacheRecords 3.0 IUnknown 659cdea4-489e-11d9-a9cd-000d56965251 §16
    Next celt
    Skip celt
    Reset
    Clone
    GetCount
IBitsPeer 3.0 IUnknown 659cdea2-489e-11d9-a9cd-000d56965251 §16
    GetPeerName
    IsAuthenticated
    IsAvailable
IEnumBitsPeers 3.0 IUnknown 659cdea5-489e-11d9-a9cd-000d56965251 §16
    Next celt
    Skip celt
    Reset
    Clone
    GetCount
"""

NOT_BUILT: Final = frozenset(
    {
        "IBitsPeerCacheAdministration",
        "IBitsPeerCacheRecord",
        "IEnumBitsPeerCacheRecords",
        "IBitsPeer",
        "IEnumBitsPeers",
    }
)
"""Peer caching (design.md §9): nobody gets these interfaces, QueryInterface says E_NOINTERFACE."""

MANAGER_CLASSES: Final = {
    "BackgroundCopyManager": "4991d34b-80a1-4291-83b6-3328366b9097",
    "BackgroundCopyManager1_5": "f087771f-d74f-4c1a-bb8a-e16aca9124ea",
    "BackgroundCopyManager2_0": "6d18ad12-bde3-4393-b311-099c346e6df9",
    "BackgroundCopyManager2_5": "03ca98d6-ff5d-49b8-abc6-03dd84127020",
    "BackgroundCopyManager3_0": "659cdea7-489e-11d9-a9cd-000d56965251",
    "BackgroundCopyManager4_0": "bb6df56b-cace-11dc-9992-0019b93a3a84",
    "BackgroundCopyManager5_0": "1ecca34c-e88a-44e3-8d6a-8921bde9e452",
    "BackgroundCopyManager10_1": "4bd3e4e1-7bd4-4a2b-9964-496400de5193",
    "BackgroundCopyManager10_2": "4575438f-a6c8-4976-b0fe-2f26b80d959e",
    "BackgroundCopyManager10_3": "5fd42ad5-c04e-4d36-adc7-e08ff15737ad",
}
"""Class ids (jobs.md §2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method and the parameters that a caller passes, in documented order."""

    interface: str
    name: str
    parameters: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """`IBackgroundCopyJob.Suspend`."""
        return f"{self.interface}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """An interface with the methods that it adds to those of its parent."""

    name: str
    since: str
    parent: str
    iid: str
    section: str
    methods: tuple[Method, ...]

    @property
    def is_built(self) -> bool:
        """False if nobody gets it."""
        return self.name not in NOT_BUILT


def _read() -> dict[str, Interface]:
    found: dict[str, Interface] = {}
    for block in _TABLE.strip().replace("\n    ", "\t").splitlines():
        first, *lines = block.split("\t")
        name, since, parent, iid, section = first.split()
        methods = tuple(
            Method(interface=name, name=words[0], parameters=tuple(words[1:])) for words in map(str.split, lines)
        )
        found[name] = Interface(name=name, since=since, parent=parent, iid=iid, section=section, methods=methods)
    return found


INTERFACES: Final = _read()
METHODS: Final = {method.full_name: method for one in INTERFACES.values() for method in one.methods}
