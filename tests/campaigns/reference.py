"""The reference model of the job campaign: what every call answers and leaves behind (jobs.md, errors.md).

Its world is made so that every job comes to rest: of the kinds of remote files `good` arrives, `gone` is a 404, `busy`
a 503 that asks for an hour, `silent` never answers and `half` stops in the middle. A foreground job runs at once; every
other one waits behind a job that never ends. What a call answers is a set of codes: more than one only where several
rules of the documents apply at once.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.campaigns.rules import (
    ACKNOWLEDGED,
    ACTIVE,
    BG_S_PARTIAL_COMPLETE,
    CANCELLED,
    CONNECTING,
    CRL_CHECK,
    E_ACCESSDENIED,
    E_INVALIDARG,
    E_PENDING,
    EMPTY,
    ERROR,
    ERROR_INFORMATION_UNAVAILABLE,
    FINAL,
    HTTP_404,
    HTTP_503,
    INVALID_AUTH_SCHEME,
    INVALID_AUTH_TARGET,
    INVALID_STATE,
    NOT_FOUND,
    PASSWORD_TOO_LARGE,
    QUEUED,
    REMOTE_FILE,
    S_FALSE,
    S_OK,
    SETTINGS,
    SUSPENDED,
    TRANSFERRED,
    TRANSFERRING,
    TRANSIENT_ERROR,
    UNSUPPORTED_JOB_CONFIGURATION,
    USERNAME_TOO_LARGE,
    VALIDATION_FAILED,
    RefusedError,
    member,
    text,
)

Codes = frozenset[int]


@dataclass(slots=True, kw_only=True)
class RefFile:
    """One file: its kind, and how far it is. `size` None: not known yet."""

    kind: str
    remote_name: str
    local_name: str
    new_name: str = ""
    """What SetRemoteName or ReplaceRemotePrefix gave; durable with the next Resume (§7.11)."""
    size: int | None = None
    is_done: bool = False
    is_published: bool = False
    is_valid: bool = False

    @property
    def shown_name(self) -> str:
        """What GetRemoteName says."""
        return self.new_name or self.remote_name


@dataclass(slots=True, kw_only=True)
class RefJob:
    """One job; `error` is (code, context, file index)."""

    values: dict[str, Any]
    state: str = SUSPENDED
    files: list[RefFile] = field(default_factory=list)
    error: tuple[int, int, int] | None = None
    least_errors: int = 0
    """GetErrorCount is at least this; retries of a job in TRANSIENT_ERROR may have added to it (§3.6)."""
    was_resumed: bool = False
    credentials: set[tuple[int, int]] = field(default_factory=set)
    is_write_only: bool = False
    """MakeCustomHeadersWriteOnly."""
    is_completing_itself: bool = False
    """auto_complete: publish as soon as everything is here (design.md §8)."""

    @property
    def is_final(self) -> bool:
        """Completed or cancelled."""
        return self.state in FINAL

    @property
    def pending(self) -> list[RefFile]:
        """What has not arrived."""
        return [file for file in self.files if not file.is_done]


class Reference:
    """All jobs, by a number of the machine's; each method is a call and gives the codes it may answer."""

    def __init__(self, body_size: int) -> None:
        self.jobs: dict[int, RefJob] = {}
        self._body_size = body_size

    # -- the manager (§7.1) -------------------------------------------------------------------------------------------

    def create(self, job: int, name: object, kind: object) -> Codes:
        """CreateJob (T1): a name that is too long is E_INVALIDARG here (OPEN-17)."""
        try:
            kept = text(256, E_INVALIDARG)(name)
            member(2)(kind)
        except RefusedError as refused:
            return frozenset({refused.code})
        values = {key: setting.default for key, setting in SETTINGS.items()}
        self.jobs[job] = RefJob(values={**values, "DisplayName": kept})
        return frozenset({S_OK})

    def find(self, job: int) -> Codes:
        """GetJob: final jobs are not found."""
        return frozenset({NOT_FOUND if self.jobs[job].is_final else S_OK})

    # -- setters (§7.2 and the later interfaces) ----------------------------------------------------------------------

    def set(self, job: int, name: str, *arguments: object) -> Codes:
        """Any setter of SETTINGS."""
        found, setting = self.jobs[job], SETTINGS[name]
        refusals = {INVALID_STATE} if found.is_final else set()
        is_late = (setting.until_resumed and found.was_resumed) or (setting.until_files and bool(found.files))
        if is_late or found.state in setting.is_refused_in:
            refusals.add(setting.wrong_state)
        try:
            value = setting.judge(*arguments)
        except RefusedError as refused:
            refusals.add(refused.code)
        if refusals:
            return frozenset(refusals)
        before = found.values[name]
        found.values[name] = value
        is_restart = name in {"Priority", "ProxySettings", "PeerCachingFlags"} and before != value
        is_stricter = name == "SecurityFlags" and bool(value & ~before & CRL_CHECK)
        if (is_restart or is_stricter) and found.state in ACTIVE:
            found.state = QUEUED  # T9
        if found.state == TRANSIENT_ERROR and found.values["NoProgressTimeout"] == 0:
            found.state = ERROR  # T14
        self._settle(found)
        return frozenset({S_OK})

    def fixed(self, job: int, code: int, *, is_setter: bool) -> Codes:
        """A call that changes nothing here: its one code, and for setters that of final jobs and odd configurations."""
        found = self.jobs[job]
        if is_setter and found.is_final:
            return frozenset({INVALID_STATE} | ({code} - {S_OK, S_FALSE}))
        is_odd = is_setter and found.values["3 Enable"] and code >> 31
        return frozenset({code, UNSUPPORTED_JOB_CONFIGURATION} if is_odd else {code})

    def set_credentials(self, job: int, target: int, scheme: int, user: str | None, password: str | None) -> Codes:
        """SetCredentials (§7.4, OPEN-24)."""
        found = self.jobs[job]
        explicit_only = scheme in {1, 2, 5}
        rules = {
            INVALID_STATE: found.is_final,
            INVALID_AUTH_TARGET: target not in {1, 2},
            INVALID_AUTH_SCHEME: scheme not in {1, 2, 3, 4, 5},
            E_INVALIDARG: (user is None) != (password is None) or (explicit_only and user is None),
            USERNAME_TOO_LARGE: len(user or "") > 300,
            PASSWORD_TOO_LARGE: len(password or "") > 65_536,
        }
        refusals = frozenset(code for code, is_broken in rules.items() if is_broken)
        if not refusals:
            found.credentials.add((target, scheme))
        return refusals or frozenset({S_OK})

    def remove_credentials(self, job: int, target: int, scheme: int) -> Codes:
        """RemoveCredentials: S_FALSE if the pair is not set."""
        found = self.jobs[job]
        rules = {
            INVALID_STATE: found.is_final,
            INVALID_AUTH_TARGET: target not in {1, 2},
            INVALID_AUTH_SCHEME: scheme not in {1, 2, 3, 4, 5},
        }
        refusals = frozenset(code for code, is_broken in rules.items() if is_broken)
        if refusals:
            return refusals
        code = S_OK if (target, scheme) in found.credentials else S_FALSE
        found.credentials.discard((target, scheme))
        return frozenset({code})

    def make_write_only(self, job: int) -> Codes:
        """MakeCustomHeadersWriteOnly: always S_OK, on a final job the rule of all setters may be older (§2.3)."""
        found = self.jobs[job]
        found.is_write_only |= not found.is_final
        return frozenset({INVALID_STATE, S_OK} if found.is_final else {S_OK})

    def complete_itself(self, job: int, *, is_wanted: bool) -> Codes:
        """Our property `auto_complete`."""
        found = self.jobs[job]
        if found.is_final:
            return frozenset({INVALID_STATE})
        found.is_completing_itself = is_wanted
        self._settle(found)
        return frozenset({S_OK})

    # -- files (§7.2, §8.1) -------------------------------------------------------------------------------------------

    def add(self, job: int, files: list[RefFile], refusal: int = S_OK) -> Codes:
        """AddFile, AddFileSet; `refusal`: what is wrong with the arguments, nothing is added then (OPEN-15)."""
        found = self.jobs[job]
        refusals = {INVALID_STATE} if found.is_final else set()
        if refusal:
            refusals.add(refusal)
        if refusals:
            return frozenset(refusals)
        found.files += files
        if found.state in {ERROR, TRANSFERRED}:
            found.state = SUSPENDED  # T24
        self._settle(found)
        return frozenset({S_OK})

    def rename(self, job: int, names: dict[int, str], refusal: int = S_OK) -> Codes:
        """SetRemoteName and ReplaceRemotePrefix with the new names of these files (§7.5, §7.11); none: S_FALSE."""
        found = self.jobs[job]
        refusals = {INVALID_STATE} if found.is_final else set()
        if refusal:
            refusals.add(refusal)
        if refusals:
            return frozenset(refusals)
        for index, name in names.items():
            found.files[index].new_name = name
        if found.state in ACTIVE and found.files.index(found.pending[0]) in names:
            found.state = QUEUED  # T9
        self._settle(found)
        return frozenset({S_OK if names else S_FALSE})

    def validate(self, job: int, index: int, *, is_valid: bool) -> Codes:
        """SetValidationState of a file that came from its origin (§8.8, T19)."""
        found = self.jobs[job]
        file = found.files[index]
        refusals = {INVALID_STATE} if found.is_final else set()
        if not file.is_done:
            refusals.add(E_PENDING)
        if refusals:
            return frozenset(refusals)
        file.is_valid = is_valid
        if not is_valid:
            file.is_done = False
            self._fail(found, ERROR, VALIDATION_FAILED, index)
        return frozenset({S_OK})

    # -- the state methods (§3.3, §7.3, §8.4) -------------------------------------------------------------------------

    def resume(self, job: int) -> Codes:
        """T2, T3, T13, T16; on TRANSFERRED nothing happens (OPEN-03)."""
        found = self.jobs[job]
        if found.is_final:
            return frozenset({INVALID_STATE})
        if found.state == SUSPENDED and not found.files:
            return frozenset({EMPTY})
        for file in found.files:
            file.remote_name, file.new_name = file.shown_name, ""
        if found.state in {SUSPENDED, TRANSIENT_ERROR, ERROR}:
            found.state, found.was_resumed = QUEUED, True
        self._settle(found)
        return frozenset({S_OK})

    def suspend(self, job: int) -> Codes:
        """T15; jobs in ERROR and TRANSFERRED stay what they are (OPEN-04)."""
        found = self.jobs[job]
        if found.is_final:
            return frozenset({INVALID_STATE})
        if found.state in {QUEUED, CONNECTING, TRANSFERRING, TRANSIENT_ERROR}:
            found.state = SUSPENDED
        return frozenset({S_OK})

    def cancel(self, job: int) -> Codes:
        """T23."""
        found = self.jobs[job]
        if found.is_final:
            return frozenset({INVALID_STATE})
        self._end(found, CANCELLED)
        return frozenset({S_OK})

    def complete(self, job: int) -> Codes:
        """T22: a download completes in every state, partially where files are missing (OPEN-36)."""
        found = self.jobs[job]
        if found.is_final:
            return frozenset({INVALID_STATE})
        code = BG_S_PARTIAL_COMPLETE if found.pending else S_OK
        self._publish(found)
        return frozenset({code})

    def take_ownership(self, job: int) -> Codes:
        """By its owner: the job goes on, an active one with new requests, which lack what was taken (§7.2, OPEN-20)."""
        found = self.jobs[job]
        if found.is_final:
            return frozenset({INVALID_STATE})
        for name, setting in SETTINGS.items():
            if setting.is_stripped:
                found.values[name] = setting.default
        found.credentials, found.is_write_only = set(), False
        if found.state in ACTIVE:
            found.state = QUEUED
        self._settle(found)
        return frozenset({S_OK})

    # -- what getters say ---------------------------------------------------------------------------------------------

    def get(self, job: int, name: str) -> tuple[int, Any]:
        """Code and value of a getter whose name is that of a setting."""
        found = self.jobs[job]
        if name == "CustomHeaders" and found.is_write_only:
            return E_ACCESSDENIED, None
        value = found.values[name]
        if name == "1 Dword" and value is None:  # NOT_ROAMING in the foreground, else STANDARD (OPEN-56)
            value = 0x8000007F if found.values["Priority"] == 0 else 0x80000067
        return S_OK, value

    def progress(self, job: int) -> tuple[int | None, int, int]:
        """GetProgress without the bytes: their total, number of files and of those that are here (§1.3)."""
        files = self.jobs[job].files
        sizes = [file.size for file in files]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        return total, len(files), sum(file.is_done for file in files)

    def error(self, job: int) -> tuple[Codes, tuple[int, int, int] | None]:
        """GetError: the object stays until the job reaches TRANSFERRING (§3.6)."""
        error = self.jobs[job].error
        return frozenset({S_OK if error else ERROR_INFORMATION_UNAVAILABLE}), error

    # -- the service and its world ------------------------------------------------------------------------------------

    def restart(self) -> None:
        """T25; nobody can have an interface of a final job any more."""
        self.jobs = {number: job for number, job in self.jobs.items() if not job.is_final}
        for job in self.jobs.values():
            if job.state in {*ACTIVE, TRANSIENT_ERROR}:
                job.state = QUEUED
            for file in job.files:
                file.new_name = ""
            self._settle(job)

    def _settle(self, job: RefJob) -> None:
        """Let a job in QUEUED run if it has the priority, file by file, until it rests (T4 to T8, T10, S7)."""
        if job.state == QUEUED and job.values["Priority"] == 0:
            job.state = CONNECTING
            for index, file in enumerate(job.files):
                if not file.is_done and not self._fetch(job, index, file):
                    break
            else:
                self._flow(job)
                job.state = TRANSFERRED
        if job.state == TRANSFERRED and job.is_completing_itself and not job.pending:
            self._publish(job)

    def _fetch(self, job: RefJob, index: int, file: RefFile) -> bool:
        """One file; False if the job comes to rest with it."""
        match file.kind:
            case "good":
                self._flow(job)
                file.size, file.is_done = self._body_size, True
                return True
            case "half":
                self._flow(job)
                file.size = self._body_size
            case "gone":
                self._fail(job, ERROR, HTTP_404, index)
            case "busy":
                is_hopeless = job.values["NoProgressTimeout"] < max(1, job.values["MinimumRetryDelay"])
                self._fail(job, ERROR if is_hopeless else TRANSIENT_ERROR, HTTP_503, index)
        return False

    def _flow(self, job: RefJob) -> None:
        """T5: the error object is discarded."""
        job.state, job.error = TRANSFERRING, None

    def _fail(self, job: RefJob, state: str, code: int, index: int, context: int = REMOTE_FILE) -> None:
        job.least_errors += job.state == TRANSFERRING
        job.state, job.error = state, (code, context, index)

    def _publish(self, job: RefJob) -> None:
        for file in job.files:
            file.is_published = file.is_done
            file.is_valid |= file.is_done  # §8.8: never set, Complete called
        self._end(job, ACKNOWLEDGED)

    def _end(self, job: RefJob, state: str) -> None:
        """Secrets are erased with the job (identity.md S9)."""
        job.state = state
        job.credentials.clear()
        job.values["CustomHeaders"] = None
