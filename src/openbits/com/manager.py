"""IBackgroundCopyManager and the classes that give it (jobs.md §2.2, §7.1)."""

import uuid
from typing import ClassVar

from openbits.com.constants import BG_JOB_ENUM
from openbits.com.files import describe_code
from openbits.com.job import IBackgroundCopyJob, IEnumBackgroundCopyJobs, defined
from openbits.com.security import service
from openbits.com.structures import CreatedJob
from openbits.com.unknown import COMError, IUnknown, mandatory, number
from openbits.core import codes
from openbits.core.enums import JobType


class IBackgroundCopyManager(IUnknown, iid="5ce34c0d-0dc9-4c1f-897c-daa1b78cee7c"):
    """The queue. It has no state of its own; any number of managers may exist."""

    def __init__(self) -> None:
        self._client = service()

    def CreateJob(self, DisplayName: str, Type: int) -> CreatedJob:
        """A new job, suspended, NORMAL, owned by the caller: the pair (JobId, Job)."""
        kind = defined(JobType, Type, "job type")
        job = self._client.create_job(mandatory(DisplayName, "DisplayName"), type=kind)
        return CreatedJob(job.id, IBackgroundCopyJob(job))

    def GetJob(self, jobID: uuid.UUID) -> IBackgroundCopyJob:
        """A job by id. Raises BG_E_NOT_FOUND, or E_ACCESSDENIED for somebody else's."""
        return IBackgroundCopyJob(self._client.job(mandatory(jobID, "jobID")))

    def EnumJobs(self, dwFlags: int) -> IEnumBackgroundCopyJobs:
        """The caller's jobs (0), or everybody's (BG_JOB_ENUM_ALL_USERS, administrators)."""
        if number(dwFlags, "dwFlags") & ~int(BG_JOB_ENUM.BG_JOB_ENUM_ALL_USERS):
            raise COMError(codes.E_NOTIMPL, f"flags {dwFlags:#x} are not defined; use 0 or BG_JOB_ENUM_ALL_USERS")
        return IEnumBackgroundCopyJobs([IBackgroundCopyJob(job) for job in self._client.jobs(all_users=bool(dwFlags))])

    def GetErrorDescription(self, hResult: int, LanguageId: int) -> str:
        """The meaning of a code in English; LanguageId 0 is the default language."""
        return describe_code(mandatory(hResult, "hResult"), LanguageId)


class BackgroundCopyManager(IBackgroundCopyManager):
    """The class object: calling it connects to the service, which is started if nobody runs it.

    The classes with a version mean "at least this version"; which interfaces exist says QueryInterface.
    """

    CLSID: ClassVar[uuid.UUID] = uuid.UUID("4991d34b-80a1-4291-83b6-3328366b9097")

    def __init_subclass__(cls, clsid: str) -> None:
        super().__init_subclass__()
        cls.CLSID = uuid.UUID(clsid)


class BackgroundCopyManager1_5(BackgroundCopyManager, clsid="f087771f-d74f-4c1a-bb8a-e16aca9124ea"):
    """Version 1.5."""


class BackgroundCopyManager2_0(BackgroundCopyManager, clsid="6d18ad12-bde3-4393-b311-099c346e6df9"):
    """Version 2.0."""


class BackgroundCopyManager2_5(BackgroundCopyManager, clsid="03ca98d6-ff5d-49b8-abc6-03dd84127020"):
    """Version 2.5."""


class BackgroundCopyManager3_0(BackgroundCopyManager, clsid="659cdea7-489e-11d9-a9cd-000d56965251"):
    """Version 3.0."""


class BackgroundCopyManager4_0(BackgroundCopyManager, clsid="bb6df56b-cace-11dc-9992-0019b93a3a84"):
    """Version 4.0."""


class BackgroundCopyManager5_0(BackgroundCopyManager, clsid="1ecca34c-e88a-44e3-8d6a-8921bde9e452"):
    """Version 5.0."""


class BackgroundCopyManager10_1(BackgroundCopyManager, clsid="4bd3e4e1-7bd4-4a2b-9964-496400de5193"):
    """Version 10.1."""


class BackgroundCopyManager10_2(BackgroundCopyManager, clsid="4575438f-a6c8-4976-b0fe-2f26b80d959e"):
    """Version 10.2."""


class BackgroundCopyManager10_3(BackgroundCopyManager, clsid="5fd42ad5-c04e-4d36-adc7-e08ff15737ad"):
    """Version 10.3."""
