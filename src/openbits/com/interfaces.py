"""Interfaces that are declared and not built: QueryInterface for one of them answers E_NOINTERFACE.

Programs detect features that way (jobs.md §2.1). An interface moves to its module when its methods work.
"""

from openbits.com.unknown import IUnknown


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
