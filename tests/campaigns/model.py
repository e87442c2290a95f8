"""A reference model of the queue as its users see it, written from jobs.md §3.3, §8.4, §14 and identity.md I-13, I-15.

It shares nothing with the service but numbers of codes. A job's world is made of three kinds of remote file, so that
every state is one that lasts: `good` arrives, `gone` is a 404, `silent` keeps the job running for ever. What a verb
answers is a set: more than one code only where the documents leave it to the moment.
"""

from dataclasses import dataclass, field

S_OK = 0
BG_S_PARTIAL_COMPLETE = 0x00200017
BG_S_UNABLE_TO_DELETE_FILES = 0x0020001A
BG_E_NOT_FOUND = 0x80200001
BG_E_INVALID_STATE = 0x80200002
BG_E_EMPTY = 0x80200003
BG_E_TOKEN_REQUIRED = 0x80200056
BG_E_HTTP_ERROR_404 = 0x80190194
E_ACCESSDENIED = 0x80070005

ROOT, LOCAL_FILE, NETWORK = 0, 1, 2

Codes = frozenset[int]


def only(code: int) -> Codes:
    """One possible answer."""
    return frozenset({code})


@dataclass(slots=True)
class ModelFile:
    """A file of a job: its kind, and who holds what has arrived."""

    kind: str
    is_done: bool = False
    is_helpers: bool = False


@dataclass(slots=True)
class ModelJob:
    """One job. `state`: suspended, running, error, transferred, acknowledged or cancelled."""

    owner: int
    state: str = "suspended"
    files: list[ModelFile] = field(default_factory=list)
    error: int | None = None
    description: str = ""
    flags: int = 0
    has_token: bool = False
    had_token: bool = False
    is_touched_by_helper: bool = False
    """A temporary of the helper may be there."""
    holders: set[int] = field(default_factory=set)
    """Who has had the job's interface since the service started."""

    @property
    def is_final(self) -> bool:
        """It is over."""
        return self.state in {"acknowledged", "cancelled"}

    @property
    def pending(self) -> list[ModelFile]:
        """The files that have not arrived."""
        return [file for file in self.files if not file.is_done]


class Model:
    """All jobs by name; each method is a verb by a caller and gives the codes it may answer."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}

    def create(self, caller: int, name: str) -> Codes:
        """CreateJob (T1)."""
        self.jobs[name] = ModelJob(caller, holders={caller})
        return only(S_OK)

    def _refusal(self, caller: int, job: ModelJob) -> Codes | None:
        """What every verb meets before it does anything (jobs.md §2.3, §6)."""
        if caller not in job.holders:
            if job.is_final:
                return only(BG_E_NOT_FOUND)
            if caller not in {job.owner, ROOT}:
                return only(E_ACCESSDENIED)
            job.holders.add(caller)
        return only(BG_E_INVALID_STATE) if job.is_final else None

    def add(self, caller: int, name: str, kind: str) -> Codes:
        """AddFile (T24 for finished jobs); the directory is checked as the local-file identity."""
        job = self.jobs[name]
        if (refusal := self._refusal(caller, job)) is not None:
            return refusal
        if job.flags & LOCAL_FILE and not job.has_token:
            return only(BG_E_TOKEN_REQUIRED)
        job.files.append(ModelFile(kind))
        if job.state in {"error", "transferred"}:
            job.state = "suspended"
        self._settle(job)
        return only(S_OK)

    def describe(self, caller: int, name: str, text: str) -> Codes:
        """SetDescription."""
        job = self.jobs[name]
        if (refusal := self._refusal(caller, job)) is not None:
            return refusal
        job.description = text
        return only(S_OK)

    def resume(self, caller: int, name: str) -> Codes:
        """Resume (T2, T3, T16, OPEN-03, I-15)."""
        job = self.jobs[name]
        if (refusal := self._refusal(caller, job)) is not None:
            return refusal
        if job.state in {"running", "transferred"}:
            return only(S_OK)
        if not job.files:
            return only(BG_E_EMPTY)
        job.state = "running"
        self._settle(job)
        return only(S_OK)

    def suspend(self, caller: int, name: str) -> Codes:
        """Suspend (T15, OPEN-04)."""
        job = self.jobs[name]
        if (refusal := self._refusal(caller, job)) is not None:
            return refusal
        if job.state == "running":
            job.state = "suspended"
        return only(S_OK)

    def cancel(self, caller: int, name: str) -> Codes:
        """Cancel (T23)."""
        job = self.jobs[name]
        if (refusal := self._refusal(caller, job)) is not None:
            return refusal
        answers = self._over(job, only(S_OK))
        job.state = "cancelled"
        job.has_token = False
        return answers

    def complete(self, caller: int, name: str) -> Codes:
        """Complete (T22, §8.4, OPEN-36, OPEN-37, I-12)."""
        job = self.jobs[name]
        if (refusal := self._refusal(caller, job)) is not None:
            return refusal
        if any(file.is_done and file.is_helpers for file in job.files) and not self._is_helper_here():
            if job.state != "transferred":
                job.state = "suspended"
            return only(BG_E_TOKEN_REQUIRED)
        answers = self._over(job, only(BG_S_PARTIAL_COMPLETE if job.pending else S_OK))
        job.state = "acknowledged"
        job.has_token = False
        return answers

    def set_token(self, caller: int, name: str) -> Codes:
        """SetHelperToken with a token of the one helper."""
        job = self.jobs[name]
        if (refusal := self._refusal(caller, job)) is not None:
            return refusal
        job.has_token = job.had_token = True
        self._settle(job)
        return only(S_OK)

    def clear_token(self, caller: int, name: str) -> Codes:
        """ClearHelperToken; the flags stay."""
        job = self.jobs[name]
        if (refusal := self._refusal(caller, job)) is not None:
            return refusal
        job.has_token = job.had_token = False
        self._settle(job)
        return only(S_OK)

    def set_flags(self, caller: int, name: str, flags: int) -> Codes:
        """SetHelperTokenFlags."""
        job = self.jobs[name]
        if (refusal := self._refusal(caller, job)) is not None:
            return refusal
        job.flags = flags
        self._settle(job)
        return only(S_OK)

    def restart(self) -> None:
        """The service ends, in order or by SIGKILL, and is there again (T25, I-13)."""
        for job in self.jobs.values():
            job.has_token = False
            job.holders.clear()
        for job in self.jobs.values():
            if job.flags and job.had_token and job.state in {"suspended", "running"}:
                job.state, job.error = "error", BG_E_TOKEN_REQUIRED
            self._settle(job)

    def _settle(self, job: ModelJob) -> None:
        """Let a running job run: files strictly in order, each under the identity that the flags choose (H5, T10)."""
        while job.state == "running":
            file = next(iter(job.pending), None)
            if file is None:
                job.state = "transferred"
            elif job.flags and not job.has_token:
                job.state, job.error = "error", BG_E_TOKEN_REQUIRED
            elif file.kind == "good":
                file.is_done, file.is_helpers = True, bool(job.flags & LOCAL_FILE)
                job.is_touched_by_helper |= file.is_helpers
            else:
                job.is_touched_by_helper |= bool(job.flags & LOCAL_FILE)
                if file.kind == "silent":
                    return
                job.state, job.error = "error", BG_E_HTTP_ERROR_404

    def _is_helper_here(self) -> bool:
        """Some job holds a token of the helper, by which its files can be published and removed."""
        return any(job.has_token for job in self.jobs.values())

    def _over(self, job: ModelJob, answers: Codes) -> Codes:
        """A temporary of a helper who is not there cannot be removed; whether there is one is up to the moment."""
        is_stuck = job.is_touched_by_helper and not self._is_helper_here()
        return answers | only(BG_S_UNABLE_TO_DELETE_FILES) if is_stuck else answers
