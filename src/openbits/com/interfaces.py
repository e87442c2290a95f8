"""Interfaces that are declared and not built: QueryInterface for one of them answers E_NOINTERFACE.

Programs detect features that way (jobs.md §2.1). An interface moves to its module when its methods work.
"""

from openbits.com.files import IBackgroundCopyFile
from openbits.com.job import IBackgroundCopyJob
from openbits.com.unknown import IUnknown


class IBackgroundCopyJob2(IBackgroundCopyJob, iid="54b50739-686f-45eb-9dff-d6a9a0faa9af"):
    """Since 1.5: command line, reply, credentials."""


class IBackgroundCopyJob3(IBackgroundCopyJob2, iid="443c8934-90ff-48ed-bcde-26f5c7450042"):
    """Since 2.0: ranges, remote prefix, file ACL flags."""


class IBackgroundCopyJob4(IBackgroundCopyJob3, iid="659cdeae-489e-11d9-a9cd-000d56965251"):
    """Since 3.0: peer caching, integrity, maximum download time."""


class IBackgroundCopyJob5(IBackgroundCopyJob4, iid="e847030c-bbba-4657-af6d-484aa42bf1fe"):
    """Since 5.0: job properties."""


class IBackgroundCopyJobHttpOptions(IUnknown, iid="f1bd1079-9f01-4bdc-8036-f09b70095066"):
    """Since 2.5: client certificates, custom headers, security flags."""


class IBackgroundCopyJobHttpOptions2(IBackgroundCopyJobHttpOptions, iid="b591a192-a405-4fc3-8323-4c5c542578fc"):
    """Since 10.2: HTTP method."""


class IBackgroundCopyJobHttpOptions3(IBackgroundCopyJobHttpOptions2, iid="8a9263d3-fd4c-4eda-9b28-30132a4d4e3c"):
    """Since 10.3: certificate callback, write-only headers."""


class IBackgroundCopyFile2(IBackgroundCopyFile, iid="83e81b93-0873-474d-8a8c-f2018b1a939c"):
    """Since 2.0: ranges, remote name."""


class IBackgroundCopyFile3(IBackgroundCopyFile2, iid="659cdeaa-489e-11d9-a9cd-000d56965251"):
    """Since 3.0: temporary name, validation."""


class IBackgroundCopyFile4(IBackgroundCopyFile3, iid="ef7e0655-7888-4960-b0e5-730846e03492"):
    """Since 4.0: peer statistics."""


class IBackgroundCopyFile5(IBackgroundCopyFile4, iid="85c1657f-dafc-40e8-8834-df18ea25717e"):
    """Since 5.0: file properties."""


class IBackgroundCopyFile6(IBackgroundCopyFile5, iid="cf6784f7-d677-49fd-9368-cb47aee9d1ad"):
    """Since 10.1: random access."""


class IBackgroundCopyServerCertificateValidationCallback(IUnknown, iid="4cec0d02-def7-4158-813a-c32a46945ff7"):
    """Since 10.3, implemented by the client."""


class IBitsPeerCacheAdministration(IUnknown, iid="659cdead-489e-11d9-a9cd-000d56965251"):
    """Since 3.0: peer caching, which is not built."""


class IBitsPeerCacheRecord(IUnknown, iid="659cdeaf-489e-11d9-a9cd-000d56965251"):
    """Since 3.0: peer caching, which is not built."""


class IEnumBitsPeerCacheRecords(IUnknown, iid="659cdea4-489e-11d9-a9cd-000d56965251"):
    """Since 3.0: peer caching, which is not built."""


class IBitsPeer(IUnknown, iid="659cdea2-489e-11d9-a9cd-000d56965251"):
    """Since 3.0: peer caching, which is not built."""


class IEnumBitsPeers(IUnknown, iid="659cdea5-489e-11d9-a9cd-000d56965251"):
    """Since 3.0: peer caching, which is not built."""
