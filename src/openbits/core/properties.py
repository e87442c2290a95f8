"""The registry of job properties: each once, with type, default, limits and the rules for setting it.

`Properties` is the value a job carries; the metadata of its fields is the registry `PROPERTIES` that store, wire, API,
CLI and tests read (jobs.md §7.2, §13). A new property is a new field here and a new member of
`api.wire.PropertyValues`; `property_rules` applies what the rows say.
"""

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from openbits.core import codes
from openbits.core.enums import (
    CostFlags,
    FileAclFlags,
    JobState,
    JobType,
    NotifyFlags,
    PeerCachingFlags,
    Priority,
    ProxyUsage,
    SecurityFlags,
    Verb,
)

_EVERY_TYPE = frozenset(JobType)
_DOWNLOAD = frozenset({JobType.DOWNLOAD})
_NON_FINAL = frozenset(state for state in JobState if not state.is_final)
_BEFORE_TRANSFERRED = _NON_FINAL - {JobState.TRANSFERRED}
_STOPPED = frozenset({JobState.SUSPENDED, JobState.ERROR})
_DOWNLOADS_ONLY: Final[Mapping[str, Any]] = {
    "job_types": _DOWNLOAD,
    "wrong_type": codes.BG_E_PROPERTY_SUPPORTED_FOR_DOWNLOAD_JOBS_ONLY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """Values of all properties of one job."""

    display_name: str = field(
        default="", metadata={"doc": "name of the job, need not be unique", "com_name": "DisplayName", "longest": 256}
    )
    description: str = field(
        default="",
        metadata={"doc": "free text", "com_name": "Description", "longest": 1024, "may_have_lines": True},
    )
    priority: Priority = field(
        default=Priority.NORMAL, metadata={"doc": "order in the queue and manner of transfer", "com_name": "Priority"}
    )
    notify_flags: NotifyFlags = field(
        default=NotifyFlags.JOB_TRANSFERRED | NotifyFlags.JOB_ERROR,
        metadata={"doc": "events that the subscriber is told", "com_name": "NotifyFlags"},
    )
    minimum_retry_delay_seconds: int = field(
        default=600,
        metadata={
            "doc": "longest wait between two attempts after a transient error; smaller values than 5 become 5",
            "com_name": "MinimumRetryDelay",
            "unit": "seconds",
            "lowest": 5,
        },
    )
    no_progress_timeout_seconds: int = field(
        default=1_209_600,
        metadata={
            "doc": "how long a job without progress tries again before it fails; 0: it never tries again",
            "com_name": "NoProgressTimeout",
            "unit": "seconds",
        },
    )
    proxy_usage: ProxyUsage = field(
        default=ProxyUsage.PRECONFIG,
        metadata={
            "doc": "how a proxy is found; override: by proxy_list, which every other value empties",
            "com_name": "ProxySettings",
        },
    )
    proxy_list: str = field(
        default="",
        metadata={
            "doc": "proxies for override: [protocol=][protocol://]server[:port], separated by spaces",
            "com_name": "ProxySettings",
            "longest": 32_000,
            "too_long": codes.BG_E_PROXY_LIST_TOO_LARGE,
        },
    )
    proxy_bypass_list: str = field(
        default="",
        metadata={
            "doc": "hosts that override reaches directly: names, addresses, *.example.org, <local>",
            "com_name": "ProxySettings",
            "longest": 32_000,
            "too_long": codes.BG_E_PROXY_BYPASS_LIST_TOO_LARGE,
        },
    )
    maximum_download_seconds: int | None = field(
        default=None,
        metadata={
            "doc": "how long the job may be connecting and transferring altogether; without a value: as policy says",
            "com_name": "MaximumDownloadTime",
            "cli": "maximum-download-time",
            "unit": "seconds",
        },
    )
    file_acl_flags: FileAclFlags = field(
        default=FileAclFlags(0),
        metadata={
            "doc": "what of owner, group and access lists is copied with a file; not over HTTP",
            "com_name": "FileACLFlags",
            "undefined": codes.E_INVALIDARG,
            "settable_in": _BEFORE_TRANSFERRED,
        },
    )
    peer_caching_flags: PeerCachingFlags = field(
        default=PeerCachingFlags(0),
        metadata={"doc": "preferences for peer caching, which is not built", "com_name": "PeerCachingFlags"},
    )
    security_flags: SecurityFlags = field(
        default=SecurityFlags(0),
        metadata={
            "doc": "checks of certificates, and what to do with redirects, which are followed silently by default",
            "com_name": "SecurityFlags",
            "exclusive": SecurityFlags.REDIRECT_ALLOW_REPORT | SecurityFlags.REDIRECT_DISALLOW,
        },
    )
    http_method: str = field(
        default="",
        metadata={
            "doc": "another method than the usual one of the job's type; forces foreground priority",
            "com_name": "HttpMethod",
            "longest": 32,
            "too_long": codes.E_INVALIDARG,
            "is_http_token": True,
            "until_resumed": True,
        },
    )
    cost_flags: CostFlags | None = field(
        default=None,
        metadata={
            "doc": "cost states in which the job may transfer; without a value: as policy says",
            "com_property": "ID_COST_FLAGS",
            "com_member": "Dword",
        },
    )
    notification_clsid: str = field(
        default="",
        metadata={
            "doc": "class id of the program that is started for notices without a callback",
            "com_property": "NOTIFICATION_CLSID",
            "com_member": "ClsID",
            "longest": 38,
            "too_long": codes.E_INVALIDARG,
            "is_guid": True,
        },
    )
    dynamic_content: bool = field(
        default=False,
        metadata={
            "doc": "the server makes the content as it sends it: no size, no ranges, no resuming",
            "com_property": "DYNAMIC_CONTENT",
            "com_member": "Enable",
            "until_resumed": True,
            **_DOWNLOADS_ONLY,
        },
    )
    high_performance: bool = field(
        default=False,
        metadata={
            "doc": "write into the final file at once and do not remember progress",
            "com_property": "HIGH_PERFORMANCE",
            "com_member": "Enable",
            "until_files": True,
            **_DOWNLOADS_ONLY,
        },
    )
    max_download_size_bytes: int | None = field(
        default=None,
        metadata={
            "doc": "most bytes that the job may transfer; without a value: no limit",
            "com_property": "MAX_DOWNLOAD_SIZE",
            "com_member": "Uint64",
            "unit": "bytes",
            "bits": 64,
            "lowest": 1,
            "too_low": codes.BG_E_MAX_DOWNLOAD_SIZE_INVALID_VALUE,
            "until_resumed": True,
            **_DOWNLOADS_ONLY,
        },
    )
    use_stored_proxy_credentials: bool = field(
        default=False,
        metadata={
            "doc": "answer a proxy with the credentials stored for the network identity",
            "com_property": "USE_STORED_CREDENTIALS",
            "com_member": "Target",
        },
    )
    minimum_notification_interval_ms: int = field(
        default=500,
        metadata={
            "doc": "shortest time between two modification notices",
            "com_property": "MINIMUM_NOTIFICATION_INTERVAL_MS",
            "com_member": "Dword",
            "unit": "ms",
        },
    )
    on_demand_mode: bool = field(
        default=False,
        metadata={
            "doc": "fetch only ranges that are asked for",
            "com_property": "ON_DEMAND_MODE",
            "com_member": "Enable",
            "settable_in": _STOPPED,
            "wrong_state": codes.BG_E_READ_ONLY_WHEN_JOB_ACTIVE,
            **_DOWNLOADS_ONLY,
        },
    )
    parallel_files: int = field(
        default=1,
        metadata={
            "doc": "how many of its files are transferred at a time; 1: strictly one after the other, more than 128 "
            "become 128",
            "lowest": 1,
            "highest": 128,
        },
    )
    maximum_rate_bytes_per_second: int | None = field(
        default=None,
        metadata={
            "doc": "most that it may receive from web servers, from the next file or attempt on; without a value: no "
            "limit, less than 1024 become 1024",
            "unit": "bytes_per_second",
            "bits": 64,
            "lowest": 1024,
        },
    )
    segments: int = field(
        default=1,
        metadata={
            "doc": "how many connections at a time may fetch one file of 16 MiB or more; more than 16 become 16",
            "lowest": 1,
            "highest": 16,
            **_DOWNLOADS_ONLY,
        },
    )
    auto_complete: bool = field(
        default=False, metadata={"doc": "publish the files as soon as all are transferred, without a call of Complete"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One row of the registry: a field of `Properties` and the metadata of that field.

    Texts: `longest` counts characters, `too_long` is the code for more of them; `is_guid` and `is_http_token` say what
    they have to be if they are not empty. Integers have `bits` without sign, below `lowest` they are refused with
    `too_low` or, if there is none, silently raised; above `highest`, if there is one, they are silently lowered.
    `undefined` is the code for undefined members and flags; of the flags `exclusive` only one may be set.
    `is_optional`: None is a value too.

    `com_name` is the pair Get…/Set… of an interface, `com_property` the id of IBackgroundCopyJob5 and `com_member` the
    member of the union that carries its value. `cli`: another name on command lines than that of the field.

    Who may do `verb` may set it, in jobs of `job_types` (else `wrong_type`), in `settable_in` (else `wrong_state`),
    not after the first Resume (`until_resumed`) or after the first file (`until_files`).
    """

    name: str
    type: type
    default: object
    doc: str
    is_optional: bool
    com_name: str = ""
    com_property: str = ""
    com_member: str = ""
    cli: str = ""
    unit: str = ""
    longest: int = 0
    too_long: int = codes.BG_E_STRING_TOO_LONG
    may_have_lines: bool = False
    is_guid: bool = False
    is_http_token: bool = False
    bits: int = 32
    lowest: int = 0
    too_low: int | None = None
    highest: int | None = None
    undefined: int = codes.E_NOTIMPL
    exclusive: int = 0
    job_types: frozenset[JobType] = _EVERY_TYPE
    wrong_type: int = codes.E_NOTIMPL
    settable_in: frozenset[JobState] = _NON_FINAL
    wrong_state: int = codes.BG_E_INVALID_STATE
    until_resumed: bool = False
    until_files: bool = False
    verb: Verb = Verb.CHANGE

    @property
    def getter(self) -> str | None:
        """Method of a job interface that reads it; None for a property of IBackgroundCopyJob5 or that only we have."""
        return f"Get{self.com_name}" if self.com_name else None

    @property
    def setter(self) -> str | None:
        """Method of a job interface that sets it."""
        return f"Set{self.com_name}" if self.com_name else None

    @property
    def cli_name(self) -> str:
        """Name on command lines: `no-progress-timeout`."""
        return self.cli or self.name.removesuffix(f"_{self.unit}").replace("_", "-")


def _row(name: str, hint: Any, default: object, metadata: Mapping[str, Any]) -> Property:
    is_optional = isinstance(hint, types.UnionType)
    kind = typing.get_args(hint)[0] if is_optional else hint
    return Property(name=name, type=kind, default=default, is_optional=is_optional, **metadata)


DEFAULT_COST_FLAGS: Final[Mapping[Priority, CostFlags]] = {
    Priority.FOREGROUND: CostFlags(0x8000007F),
    Priority.HIGH: CostFlags(0x80000067),
    Priority.NORMAL: CostFlags(0x80000067),
    Priority.LOW: CostFlags(0x80000067),
}
"""Where a job without cost flags may transfer: not while roaming; in the background not near the cap (OPEN-56)."""

PROPERTIES: Final[Mapping[str, Property]] = {
    item.name: _row(item.name, item.type, item.default, item.metadata) for item in fields(Properties)
}
