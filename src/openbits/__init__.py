"""The background transfer service for Linux: jobs, tokens and the clients that use them.

The names below are loaded when they are first used, so that importing the package costs next to nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openbits.api.aio import AsyncClient, AsyncJob
    from openbits.api.client import Client, Job, Outcome
    from openbits.api.notifications import ServerCertificate
    from openbits.api.tokens import Token
    from openbits.api.wire import (
        CertificateInfo,
        ErrorInfo,
        EventInfo,
        FileInfo,
        JobInfo,
        ServiceInfo,
        TokenInfo,
        WaitingInfo,
    )
    from openbits.core.enums import (
        AuthScheme,
        AuthTarget,
        CertStore,
        CostFlags,
        ErrorContext,
        FileAclFlags,
        JobState,
        JobType,
        Level,
        NotifyFlags,
        PeerCachingFlags,
        Priority,
        ProxyUsage,
        SecurityFlags,
        TokenFlags,
    )
    from openbits.core.errors import BitsError

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "AuthScheme",
    "AuthTarget",
    "BitsError",
    "CertStore",
    "CertificateInfo",
    "Client",
    "CostFlags",
    "ErrorContext",
    "ErrorInfo",
    "EventInfo",
    "FileAclFlags",
    "FileInfo",
    "Job",
    "JobInfo",
    "JobState",
    "JobType",
    "Level",
    "NotifyFlags",
    "Outcome",
    "PeerCachingFlags",
    "Priority",
    "ProxyUsage",
    "SecurityFlags",
    "ServerCertificate",
    "ServiceInfo",
    "Token",
    "TokenFlags",
    "TokenInfo",
    "WaitingInfo",
]

_HOMES = {
    "openbits.api.aio": ("AsyncClient", "AsyncJob"),
    "openbits.api.client": ("Client", "Job", "Outcome"),
    "openbits.api.notifications": ("ServerCertificate",),
    "openbits.api.tokens": ("Token",),
    "openbits.api.wire": (
        "CertificateInfo",
        "ErrorInfo",
        "EventInfo",
        "FileInfo",
        "JobInfo",
        "ServiceInfo",
        "TokenInfo",
        "WaitingInfo",
    ),
    "openbits.core.enums": (
        "AuthScheme",
        "AuthTarget",
        "CertStore",
        "CostFlags",
        "ErrorContext",
        "FileAclFlags",
        "JobState",
        "JobType",
        "Level",
        "NotifyFlags",
        "PeerCachingFlags",
        "Priority",
        "ProxyUsage",
        "SecurityFlags",
        "TokenFlags",
    ),
    "openbits.core.errors": ("BitsError",),
}


def __getattr__(name: str) -> object:
    """Load a public name from its home."""
    import importlib  # noqa: PLC0415  # only when a name is used

    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
