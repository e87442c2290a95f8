"""The policies of the machine: each once, with its documented name, type, unit, default, range and effect.

`Policies` is the value that is in force; the metadata of its fields is the table `POLICIES`, by the documented names of
the group policies (jobs.md §17), that loader, API, CLI, documentation and tests read. A policy that is not used yet is
checked and shown all the same, so that a mistake in it is found when it is made.

Pure: `service.policies` reads the files.
"""

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

_COUNT_MAX = (1 << 32) - 1
_EXEMPT = "not for administrators and service accounts, who are not counted either"
_TRAFFIC = {"lowest": 0, "highest": 4_294_967_200, "unit": "kbit/s", "is_used": False}
_HOUR = {"lowest": 0, "highest": 23, "unit": "o'clock", "is_used": False}
_COSTS = {"lowest": 1, "highest": 5, "is_used": False}
_STATES = "1 always, 2 not roaming, 3 no surcharge, 4 standard, 5 unrestricted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The value of every policy; None: the administrator said nothing and there is no default."""

    job_inactivity_days: int = field(
        default=90,
        metadata={
            "name": "JobInactivityTimeout",
            "doc": "a job that nobody changed and that received nothing for so long is cancelled",
            "unit": "days",
            "lowest": 1,
            "highest": 999,
        },
    )
    max_download_seconds: int = field(
        default=7_776_000,
        metadata={
            "name": "MaxDownloadTime",
            "doc": "how long a job may be connecting and transferring altogether, if the job itself says nothing",
            "unit": "seconds",
            "lowest": 1,
            "highest": _COUNT_MAX,
        },
    )
    max_jobs_per_machine: int = field(
        default=300,
        metadata={
            "name": "MaxJobsPerMachine",
            "doc": f"jobs in the queue; {_EXEMPT}",
            "unit": "jobs",
            "lowest": 1,
            "highest": _COUNT_MAX,
        },
    )
    max_jobs_per_user: int = field(
        default=60,
        metadata={
            "name": "MaxJobsPerUser",
            "doc": f"jobs of one owner; must be below MaxJobsPerMachine; {_EXEMPT}",
            "unit": "jobs",
            "lowest": 1,
            "highest": _COUNT_MAX,
        },
    )
    max_jobs_per_display_name: int | None = field(
        default=None,
        metadata={
            "name": "MaxJobsPerDisplayName",
            "doc": "jobs that an owner may have under one display name, so that one application leaves room for the"
            f" others; {_EXEMPT}; BITS does not have this policy",
            "unit": "jobs",
            "lowest": 1,
            "highest": _COUNT_MAX,
        },
    )
    max_files_per_job: int = field(
        default=200,
        metadata={
            "name": "MaxFilesPerJob",
            "doc": "files of one job; not for jobs of administrators and service accounts",
            "unit": "files",
            "lowest": 1,
            "highest": _COUNT_MAX,
        },
    )
    max_ranges_per_file: int = field(
        default=500,
        metadata={
            "name": "MaxRangesPerFile",
            "doc": "ranges of one file; not for jobs of administrators and service accounts",
            "unit": "ranges",
            "lowest": 1,
            "highest": _COUNT_MAX,
        },
    )
    allow_service_notify_cmd_line: bool = field(
        default=False,
        metadata={
            "name": "AllowServiceNotifyCmdLine",
            "doc": "command lines of service accounts are run, too; those of uid 0 never are",
        },
    )
    max_internet_bandwidth_kbps: int | None = field(
        default=None,
        metadata={
            "name": "MaxInternetBandwidth",
            "doc": "what background jobs may use between MaxBandwidthValidFrom and MaxBandwidthValidTo; 0: nothing",
            **_TRAFFIC,
        },
    )
    max_bandwidth_valid_from: int = field(
        default=8, metadata={"name": "MaxBandwidthValidFrom", "doc": "when MaxInternetBandwidth begins", **_HOUR}
    )
    max_bandwidth_valid_to: int = field(
        default=17, metadata={"name": "MaxBandwidthValidTo", "doc": "when MaxInternetBandwidth ends", **_HOUR}
    )
    max_transfer_rate_off_schedule_kbps: int | None = field(
        default=None,
        metadata={
            "name": "MaxTransferRateOffSchedule",
            "doc": "what background jobs may use outside of these hours; without a value: no limit",
            **_TRAFFIC,
        },
    )
    enable_bandwidth_limits: bool = field(
        default=False,
        metadata={
            "name": "EnableBandwidthLimits",
            "doc": "the weekly work schedule applies, with a limit for each background priority",
            "is_used": False,
        },
    )
    enable_maintenance_limits: bool = field(
        default=False,
        metadata={
            "name": "EnableMaintenanceLimits",
            "doc": "the weekly maintenance schedule applies, which goes before all other limits",
            "is_used": False,
        },
    )
    foreground_transfer_policy: int | None = field(
        default=None,
        metadata={
            "name": "ForegroundTransferPolicy",
            "doc": f"when foreground jobs may use a costed network: {_STATES}",
            **_COSTS,
        },
    )
    high_transfer_policy: int | None = field(
        default=None,
        metadata={
            "name": "HighTransferPolicy",
            "doc": f"when jobs of high priority may use a costed network: {_STATES}",
            **_COSTS,
        },
    )
    normal_transfer_policy: int | None = field(
        default=None,
        metadata={
            "name": "NormalTransferPolicy",
            "doc": f"when jobs of normal priority may use a costed network: {_STATES}",
            **_COSTS,
        },
    )
    low_transfer_policy: int | None = field(
        default=None,
        metadata={
            "name": "LowTransferPolicy",
            "doc": f"when jobs of low priority may use a costed network: {_STATES}",
            **_COSTS,
        },
    )
    enable_peercaching: bool = field(
        default=False,
        metadata={"name": "EnablePeercaching", "doc": "peer caching, which is not built", "is_used": False},
    )
    disable_peer_caching_client: bool = field(
        default=False,
        metadata={"name": "DisablePeerCachingClient", "doc": "do not ask peers; with EnablePeercaching",
                  "is_used": False},
    )  # fmt: skip
    disable_peer_caching_server: bool = field(
        default=False,
        metadata={"name": "DisablePeerCachingServer", "doc": "do not serve peers; with EnablePeercaching",
                  "is_used": False},
    )  # fmt: skip
    max_cache_size_percent: int = field(
        default=1,
        metadata={
            "name": "MaxCacheSize",
            "doc": "part of the disk for the peer cache",
            "unit": "percent",
            "lowest": 1,
            "highest": 80,
            "is_used": False,
        },
    )
    max_content_age_days: int = field(
        default=90,
        metadata={
            "name": "MaxContentAge",
            "doc": "how long the peer cache keeps a file after its last use",
            "unit": "days",
            "lowest": 1,
            "highest": 120,
            "is_used": False,
        },
    )
    max_bandwidth_served_bps: int = field(
        default=1_048_576,
        metadata={
            "name": "MaxBandwidthServed",
            "doc": "what peers may be served with",
            "unit": "bit/s",
            "lowest": 1_048_576,
            "highest": 4_294_967_200,
            "is_used": False,
        },
    )
    disable_branch_cache: bool = field(
        default=False,
        metadata={"name": "DisableBranchCache", "doc": "no BranchCache for SMB, which is not built", "is_used": False},
    )
    use_lm_compat: int = field(
        default=2,
        metadata={
            "name": "UseLMCompat",
            "doc": "when implicit credentials are sent: 0 whenever a server or proxy asks, 2 only after SetCredentials"
            " without a user; 1 is the same as 0 here, where NTLM always is version 2 (LMCompatibilityLevel 3)",
            "choices": (0, 1, 2),
        },
    )
    disable_basic_auth_over_http: bool = field(
        default=False,
        metadata={
            "name": "DisableBasicAuthOverHttp",
            "doc": "no user and password of scheme Basic goes to a server over http, where everybody on the way reads"
            " them; proxies are not concerned; BITS does not have this policy",
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One row of the table; `field` is its name in `Policies`.

    A number is from `lowest` to `highest` or one of `choices`. `is_optional`: it may have no value.
    """

    name: str
    field: str
    type: type
    default: int | None
    doc: str
    is_optional: bool
    unit: str = ""
    lowest: int = 0
    highest: int = _COUNT_MAX
    choices: tuple[int, ...] = ()
    is_used: bool = True

    @property
    def rule(self) -> str:
        """What a value has to be, in words."""
        if self.type is bool:
            return "true or false"
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        return f"a whole number from {self.lowest} to {self.highest}"

    def accepts(self, value: object) -> bool:
        """Whether a policy file may say this."""
        if self.type is bool or isinstance(value, bool):
            return self.type is bool and isinstance(value, bool)
        if not isinstance(value, int):
            return False
        return value in self.choices if self.choices else self.lowest <= value <= self.highest


def _row(name: str, hint: Any, default: Any, metadata: Mapping[str, Any]) -> Policy:
    is_optional = isinstance(hint, types.UnionType)
    kind = typing.get_args(hint)[0] if is_optional else hint
    return Policy(field=name, type=kind, default=default, is_optional=is_optional, **metadata)


POLICIES: Final[Mapping[str, Policy]] = {
    row.name: row for row in (_row(item.name, item.type, item.default, item.metadata) for item in fields(Policies))
}
"""All policies by their documented names."""

DEFAULTS: Final = Policies()


def contradiction(policies: Policies) -> str:
    """What does not fit together; empty if all is well."""
    if policies.max_jobs_per_user < policies.max_jobs_per_machine:
        return ""
    return (
        f"MaxJobsPerUser ({policies.max_jobs_per_user}) must be below MaxJobsPerMachine"
        f" ({policies.max_jobs_per_machine}); set both"
    )
