"""The registry of job properties: each once, with type, default, limits and the rules for setting it.

`Properties` is the value a job carries; the metadata of its fields is the registry that store, wire, API, CLI and
tests read (jobs.md §7.2, §13).
"""

from dataclasses import dataclass

from openbits.core.enums import NotifyFlags, Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """Values of all properties of one job."""

    display_name: str = ""
    description: str = ""
    priority: Priority = Priority.NORMAL
    notify_flags: NotifyFlags = NotifyFlags.JOB_TRANSFERRED | NotifyFlags.JOB_ERROR
    minimum_retry_delay_seconds: int = 600
    no_progress_timeout_seconds: int = 1_209_600
    auto_complete: bool = False
