"""The background transfer service for Linux: jobs, tokens and the clients that use them.

The names below are loaded when they are first used, so that importing the package costs next to nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openbits.api.aio import AsyncClient, AsyncJob
    from openbits.api.client import Client, Job, Outcome
    from openbits.api.tokens import Token
    from openbits.api.wire import ErrorInfo, EventInfo, FileInfo, JobInfo, ServiceInfo, TokenInfo, WaitingInfo
    from openbits.core.enums import (
        ErrorContext,
        JobState,
        JobType,
        Level,
        NotifyFlags,
        Priority,
        ProxyUsage,
        TokenFlags,
    )
    from openbits.core.errors import BitsError

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BitsError",
    "Client",
    "ErrorContext",
    "ErrorInfo",
    "EventInfo",
    "FileInfo",
    "Job",
    "JobInfo",
    "JobState",
    "JobType",
    "Level",
    "NotifyFlags",
    "Outcome",
    "Priority",
    "ProxyUsage",
    "ServiceInfo",
    "Token",
    "TokenFlags",
    "TokenInfo",
    "WaitingInfo",
]

_HOMES = {
    "openbits.api.aio": ("AsyncClient", "AsyncJob"),
    "openbits.api.client": ("Client", "Job", "Outcome"),
    "openbits.api.tokens": ("Token",),
    "openbits.api.wire": (
        "ErrorInfo",
        "EventInfo",
        "FileInfo",
        "JobInfo",
        "ServiceInfo",
        "TokenInfo",
        "WaitingInfo",
    ),
    "openbits.core.enums": (
        "ErrorContext",
        "JobState",
        "JobType",
        "Level",
        "NotifyFlags",
        "Priority",
        "ProxyUsage",
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
