"""How many jobs, files and ranges ordinary users may have (jobs.md §17).

Administrators and service accounts are neither limited nor counted. Limits are looked at when something is made or
added, never afterwards. First comes the limit of the user, then that of the machine (OPEN-65). What counts is whose job
it is: an administrator who adds files to the job of somebody else adds to the files of that one.

The kernel tells which uid calls, and nothing about the program that the caller could not choose. So a limit for an
application goes by the display name that the application gives its jobs: it keeps an application that never completes
anything from locking the others of its user out; it stops nobody who wants to evade it.
"""

from collections import Counter

from openbits.core import access, codes
from openbits.core.access import Settings as AccessSettings
from openbits.core.errors import BitsError
from openbits.core.model import Identity
from openbits.core.wording import instant, label
from openbits.service.engine import Engine

LOOKED_AT = 1_000
"""So many of the newest jobs of an owner are looked at for their names: nobody waits while they are read."""


class Quotas:
    """Refuses what goes beyond the policies that are in force."""

    def __init__(self, engine: Engine, settings: AccessSettings, system_uid_max: int) -> None:
        self._engine = engine
        self._settings = settings
        self._system_uid_max = system_uid_max
        self._exempt: dict[int, bool] = {}
        """What was found of the owners of jobs, by uid."""

    def is_exempt(self, identity: Identity) -> bool:
        """True for administrators and service accounts (identity.md §8)."""
        is_service = identity.uid <= self._system_uid_max
        return is_service or access.is_administrator(identity, self._settings)

    def check_new_job(self, owner: Identity, display_name: str) -> None:
        """Refuse one job more. Raises BitsError BG_E_TOO_MANY_JOBS_PER_USER or BG_E_TOO_MANY_JOBS_PER_MACHINE."""
        self._exempt[owner.uid] = self.is_exempt(owner)
        if self._exempt[owner.uid]:
            return
        policies, counts = self._engine.policies, self._engine.job_counts
        own = counts.get(owner.uid, 0)
        if own >= policies.max_jobs_per_user:
            text = f"MaxJobsPerUser allows {policies.max_jobs_per_user}: {self._who_fills_it(owner.uid)}"
            raise _refused(codes.BG_E_TOO_MANY_JOBS_PER_USER, f"{label(owner)} has {own} jobs, and policy {text}")
        most = policies.max_jobs_per_display_name
        if most is not None and (same := self._names(owner.uid)[display_name]) >= most:
            text = f"{label(owner)} has {same} jobs of this name, and policy MaxJobsPerDisplayName allows {most}"
            raise _refused(codes.BG_E_TOO_MANY_JOBS_PER_USER, text)
        machine = policies.max_jobs_per_machine
        if sum(counts.values()) < machine:  # whoever they belong to
            return
        counted = sum(count for uid, count in counts.items() if not self._is_exempt_uid(uid))
        if counted >= machine:
            text = f"the queue has {counted} jobs of ordinary users, and policy MaxJobsPerMachine allows {machine}"
            raise _refused(codes.BG_E_TOO_MANY_JOBS_PER_MACHINE, text)

    def check_files(self, owner: Identity, there: int, more: int) -> None:
        """Refuse more files for a job that has some. Raises BitsError BG_E_TOO_MANY_FILES_IN_JOB."""
        most = self._engine.policies.max_files_per_job
        if there + more > most and not self.is_exempt(owner):
            raise BitsError(
                codes.BG_E_TOO_MANY_FILES_IN_JOB,
                f"cannot add {more} files to a job that has {there}: policy MaxFilesPerJob allows jobs of"
                f" {label(owner)} {most} files; put the others into another job",
            )

    def most_ranges(self, owner: Identity) -> int | None:
        """How many ranges a file of this owner may have (MaxRangesPerFile); None: no policy says."""
        return None if self.is_exempt(owner) else self._engine.policies.max_ranges_per_file

    def _is_exempt_uid(self, uid: int) -> bool:
        """The same of an owner that may not have called since the service began: then its job tells its groups."""
        if uid not in self._exempt:
            owner = next((record.job.owner for record in self._engine.records_of(uid)), None)
            if owner is None:
                return False
            self._exempt[uid] = self.is_exempt(owner)
        return self._exempt[uid]

    def _names(self, uid: int) -> Counter[str]:
        """How often each display name occurs among the newest jobs of an owner."""
        newest = list(self._engine.records_of(uid))[-LOOKED_AT:]
        return Counter(record.job.properties.display_name for record in newest if not record.state.is_final)

    def _who_fills_it(self, uid: int) -> str:
        names = self._names(uid).most_common(1)
        oldest = next(record.job.created_at for record in self._engine.records_of(uid) if not record.state.is_final)
        shown = "".join(f"{count} have the name {name[:60]!r}, " for name, count in names)
        return f"{shown}the oldest is from {instant(oldest)}"


def _refused(code: int, why: str) -> BitsError:
    step = "complete or cancel some (bits list, bits cancel), or have the administrator raise the policy"
    return BitsError(code, f"cannot create the job: {why}; {step}")
