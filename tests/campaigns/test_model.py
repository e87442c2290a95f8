"""Random calls of the public API of the running service, with restarts in between, held against `reference`.

`make campaign-model N=…` makes at least N calls; a failing sequence is shrunk by Hypothesis and printed as a program.
What is drawn is one call: a method with valid or invalid arguments. After each the whole queue is compared. A job that
moves is waited for by its events; nothing here sleeps.
"""

import functools
import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from tests.campaigns.drawn import ACTIONS, KINDS, NAMES
from tests.campaigns.reference import Codes, Reference, RefFile, RefJob
from tests.campaigns.world import BODY, HALF, PATIENT, World
from tests.real.conftest import Service

import openbits
from openbits import com
from openbits.api.wire import FileInfo, JobInfo

pytestmark = pytest.mark.root

CALLS = int(os.environ.get("OPENBITS_MODEL_CALLS", "3000"))
STEPS = 50
MOST_JOBS = 3
RESTARTS = 120
"""Before one of the first so many calls of a sequence the service is ended; most sequences are over before."""


@pytest.fixture
def world(make_service: Callable[..., Service], open_tmp_path: Path) -> Iterator[World]:
    service = make_service()
    memory = Path(tempfile.mkdtemp(prefix="openbits-model-", dir="/dev/shm"))  # a sync takes no time there
    memory.chmod(0o711)
    service.state = memory / "state"
    service.configure(PATIENT)
    service.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBITS_SOCKET", str(service.socket))
        made = World(service, open_tmp_path)
        yield made
        print(f"the log ends with:\n{service.log()[-4000:]}")  # noqa: T201  # shown if the test failed
        made.close()
    service.close()
    shutil.rmtree(memory)


WIRE_NAMES = {
    "DisplayName": "display_name",
    "Description": "description",
    "NotifyFlags": "notify_flags",
    "MinimumRetryDelay": "minimum_retry_delay_seconds",
    "NoProgressTimeout": "no_progress_timeout_seconds",
    "FileACLFlags": "file_acl_flags",
    "PeerCachingFlags": "peer_caching_flags",
    "SecurityFlags": "security_flags",
    "3 Enable": "dynamic_content",
    "4 Enable": "high_performance",
    "9 Dword": "minimum_notification_interval_ms",
    "10 Enable": "on_demand_mode",
}
"""Properties that are compared after every call, by their names in the two faces; the others when they are got."""

picks = st.integers(0, MOST_JOBS)


class Campaign(RuleBasedStateMachine):
    """One sequence of calls."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.reference = Reference(len(BODY))
        self.jobs: dict[int, com.IBackgroundCopyJob5] = {}
        self.options: dict[int, tuple[com.IUnknown, ...]] = {}
        """The other interfaces of each job."""
        self.numbers = itertools.count()
        self.restart_at = 0
        self.folder = world.folder / f"files{next(world.numbers)}"
        self.folder.mkdir()

    # -- rules: each is one call --------------------------------------------------------------------------------------

    @rule(pick=picks, index=st.integers(0, 3), action=st.sampled_from(ACTIONS))
    def call(self, pick: int, index: int, action: tuple[Any, ...]) -> None:
        """Any call but CreateJob and those of the enumerator; one rule, so that the weights are ours."""
        kind, *arguments = action
        if all(job.is_final for job in self.reference.jobs.values()):
            self._create("job", 0)
        self.restart_at -= 1
        if self.restart_at == 0:
            self.restart(is_orderly=bool(index % 2))
        if kind in {"rename", "validate", "get_file"}:
            if self.reference.jobs[self._job(pick)].files:
                getattr(self, kind)(pick, index, *arguments)
        else:
            getattr(self, kind)(pick, *arguments)

    @initialize(
        kinds=st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=3), restart_at=st.integers(0, RESTARTS)
    )
    def begin(self, kinds: list[str], restart_at: int) -> None:
        """Two jobs: one runs, the other waits behind the one that never ends."""
        self.restart_at = restart_at
        for priority in (0, 2):
            self._create("job", 0)
            job = max(self.jobs)
            self._set(job, "Priority", (priority,))
            for kind in kinds:
                self._add(job, [kind])
            self._call(job, "Resume", self.reference.resume(job))
        self._compare()

    @precondition(lambda self: sum(not job.is_final for job in self.reference.jobs.values()) < MOST_JOBS)
    @rule(arguments=st.sampled_from(NAMES))
    def create(self, arguments: tuple[Any, int]) -> None:
        self._create(*arguments)
        self._compare()

    def set(self, pick: int, call: tuple[str, tuple[Any, ...]]) -> None:
        self._set(self._job(pick), *call)
        self._compare()

    def verb(self, pick: int, verb: str) -> None:
        job = self._job(pick)
        method = "".join(word.capitalize() for word in verb.split("_"))
        self._call(job, method, getattr(self.reference, verb)(job))
        self._compare()

    def add(self, pick: int, kinds: list[str]) -> None:
        self._add(self._job(pick), kinds)
        self._compare()

    def add_badly(self, pick: int, bad: tuple[Any, Any, int], is_set: bool) -> None:  # noqa: FBT001  # by name
        job, (remote, local, code) = self._job(pick), bad
        expected = self.reference.add(job, [], code)
        if is_set:
            good = com.BG_FILE_INFO(RemoteName="http://h.example/f", LocalName=str(self.folder / "f"))
            wrong = com.BG_FILE_INFO(RemoteName=remote, LocalName=local)
            self._call(job, "AddFileSet", expected, [good, wrong])
        else:
            self._call(job, "AddFile", expected, remote, local)
        self._compare()

    def call_fixed(self, pick: int, call: tuple[str, tuple[Any, ...], int, bool]) -> None:
        """What changes nothing in this world."""
        job, (method, arguments, code, is_setter) = self._job(pick), call
        self._call(job, method, self.reference.fixed(job, code, is_setter=is_setter), *arguments)
        self._compare()

    def give_credentials(self, pick: int, given: tuple[int, int, str | None, str | None], is_set: bool) -> None:  # noqa: FBT001  # by name
        job, (target, scheme, user, password) = self._job(pick), given
        if is_set:
            pair = com.BG_BASIC_CREDENTIALS(UserName=user, Password=password)
            credentials = com.BG_AUTH_CREDENTIALS(Target=target, Scheme=scheme, Credentials=pair)
            self._call(job, "SetCredentials", self.reference.set_credentials(job, *given), credentials)
        else:
            expected = self.reference.remove_credentials(job, target, scheme)
            self._call(job, "RemoveCredentials", expected, target, scheme)
        self._compare()

    def make_write_only(self, pick: int) -> None:
        job = self._job(pick)
        self._call(job, "MakeCustomHeadersWriteOnly", self.reference.make_write_only(job))
        self._get(job, "CustomHeaders")

    def replace_prefix(self, pick: int, bad: int | None) -> None:
        """The names of all files of this server, or an argument that is no prefix."""
        job, old = self._job(pick), self.world.server.url("/")
        files = enumerate(self.reference.jobs[job].files)
        names = {} if bad else {index: file.shown_name.replace(old, f"{old}again/", 1) for index, file in files}
        expected = self.reference.rename(job, names, bad or 0)
        self._call(job, "ReplaceRemotePrefix", expected, old, "" if bad else f"{old}again/")
        self._compare()

    def rename(self, pick: int, index: int, bad: str | None) -> None:
        """SetRemoteName of one file: another name for the same kind, or none that can be one."""
        job = self._job(pick)
        files = self.reference.jobs[job].files
        if not files:
            return
        index %= len(files)
        name = bad if bad is not None else self.world.url(f"{files[index].kind}-{next(self.world.numbers)}")
        expected = self.reference.rename(job, {index: name}, 0 if bad is None else 0x80070057)
        code, result = _outcome(lambda: self._file(job, index).SetRemoteName(name))
        self._judge(f"SetRemoteName({name!r:.40})", result if code == 0 else code, expected)
        self._compare()

    def validate(self, pick: int, index: int, is_valid: bool) -> None:  # noqa: FBT001  # by name
        job = self._job(pick)
        known = self.reference.jobs[job]
        if not known.files or (known.state == "ERROR" and not is_valid):
            return  # of two errors at once the documents do not say which one stays
        index %= len(known.files)
        expected = self.reference.validate(job, index, is_valid=is_valid)
        code, result = _outcome(lambda: self._file(job, index).SetValidationState(is_valid))
        self._judge("SetValidationState", result if code == 0 else code, expected)
        assert self._file(job, index).GetValidationState() == known.files[index].is_valid
        self._compare()

    def get_file(self, pick: int, index: int, what: int) -> None:
        """A getter of a file."""
        job = self._job(pick)
        files = self.reference.jobs[job].files
        if not files:
            return
        known, file = files[index % len(files)], self._file(job, index % len(files))
        self.world.calls += 1
        match what:
            case 0:
                assert (file.GetRemoteName(), file.GetLocalName()) == (known.shown_name, known.local_name)
            case 1:
                progress = file.GetProgress()
                assert (progress.BytesTotal, progress.Completed) == (_size(known.size), known.is_published)
            case 2:
                assert file.GetFileRanges() == (0, None)
            case 3:
                assert (file.IsDownloadedFromPeer(), file.GetPeerDownloadStats()[1]) == (False, 0)
            case 4:
                assert isinstance(file.GetProperty(1).String, str)
            case 5:
                assert _outcome(lambda: file.GetProperty(2))[0] == 0x80200057
            case 6:
                assert file.GetValidationState() == known.is_valid

    def complete_itself(self, pick: int, is_wanted: bool) -> None:  # noqa: FBT001  # by name
        """The Pythonic client on the same job."""
        number = self._job(pick)
        expected = self.reference.complete_itself(number, is_wanted=is_wanted)
        try:
            self.jobs[number].job.set(auto_complete=is_wanted)
            code = 0
        except openbits.BitsError as error:
            code = error.hresult
        self._judge("set(auto_complete)", code, expected)
        self._compare()

    def get(self, pick: int, name: str) -> None:
        self._get(self._job(pick), name)

    @rule(pick=picks, steps=st.lists(st.tuples(st.sampled_from(["Next", "Skip", "Reset", "Clone"]), st.integers(0, 3))))
    def enumerate_files(self, pick: int, steps: list[tuple[str, int]]) -> None:
        """The enumerator against a list with a position."""
        number = self._job(pick)
        names = [file.local_name for file in self.reference.jobs[number].files]
        files, position = self.jobs[number].EnumFiles(), 0
        assert files.GetCount() == len(names)
        for step, count in steps:
            self.world.calls += 1
            match step:
                case "Next":
                    assert [file.GetLocalName() for file in files.Next(count)] == names[position : position + count]
                    position = min(position + count, len(names))
                case "Skip":
                    assert files.Skip(count) == int(position + count > len(names))
                    position = min(position + count, len(names))
                case "Reset":
                    position = 0
                    assert files.Reset() == 0
                case "Clone":
                    files = files.Clone()

    def restart(self, *, is_orderly: bool) -> None:
        """Of the service, or of what is left of it after kill -9."""
        ids = {number: job.GetId() for number, job in self.jobs.items()}
        self.jobs.clear()
        before = dict(self.reference.jobs)
        self.world.restart(is_orderly=is_orderly)
        self.reference.restart()
        for number, job_id in ids.items():
            code, job = _outcome(functools.partial(self.world.manager.GetJob, job_id))
            self._judge("GetJob", code, frozenset({0x80200001 if before[number].is_final else 0}))
            if code == 0:
                self._take(number, job)
        if not self.jobs:
            self._create("job", 0)
        self._compare()

    # -- one call, and what must be equal after it --------------------------------------------------------------------

    def _job(self, pick: int) -> int:
        """One that is not over, if there is any; but the last number is for all."""
        living = [number for number in sorted(self.jobs) if not self.reference.jobs[number].is_final]
        candidates = living if living and pick < MOST_JOBS else sorted(self.jobs)
        return candidates[pick % len(candidates)]

    def _create(self, name: Any, kind: int) -> None:
        number = next(self.numbers)
        expected = self.reference.create(number, name, kind)
        code, made = _outcome(lambda: self.world.manager.CreateJob(name, kind))
        self._judge("CreateJob", code, expected)
        if code == 0:
            self._take(number, made.Job)

    def _take(self, number: int, job: com.IBackgroundCopyJob) -> None:
        self.jobs[number] = job.QueryInterface(com.IBackgroundCopyJob5)
        others: tuple[type[com.IUnknown], ...] = (com.IBackgroundCopyJobHttpOptions3, com.IBitsTokenOptions)
        self.options[number] = tuple(job.QueryInterface(other) for other in others)

    def _file(self, number: int, index: int) -> com.IBackgroundCopyFile6:
        files = self.jobs[number].EnumFiles()
        files.Skip(index)
        return files.Next(1)[0].QueryInterface(com.IBackgroundCopyFile6)

    def _method(self, number: int, name: str) -> Callable[..., Any]:
        """On whichever interface of the job it is."""
        found: Callable[..., Any] = next(
            getattr(one, name) for one in (self.jobs[number], *self.options[number]) if hasattr(one, name)
        )
        return found

    def _add(self, number: int, kinds: list[str]) -> None:
        files = []
        for kind in kinds:
            name = f"{kind}-{next(self.world.numbers)}"
            files.append(RefFile(kind=kind, remote_name=self.world.url(name), local_name=str(self.folder / name)))
        expected = self.reference.add(number, files)
        pairs = [com.BG_FILE_INFO(RemoteName=file.remote_name, LocalName=file.local_name) for file in files]
        if len(pairs) == 1:
            self._call(number, "AddFile", expected, pairs[0].RemoteName, pairs[0].LocalName)
        else:
            self._call(number, "AddFileSet", expected, pairs)

    def _set(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        """A property of IBackgroundCopyJob5 is named by its id and the member of the union."""
        expected = self.reference.set(number, name, *arguments)
        property_id, _, member = name.partition(" ")
        if member:
            value = com.BITS_JOB_PROPERTY_VALUE(**{member: arguments[0]})
            self._call(number, "SetProperty", expected, int(property_id), value)
        else:
            self._call(number, f"Set{name}", expected, *arguments)
        self._get(number, name)

    def _call(self, number: int, method: str, expected: Codes, *arguments: Any) -> None:
        code, result = _outcome(lambda: self._method(number, method)(*arguments))
        is_code = method.startswith(("Set", "Remove", "Replace", "Suspend", "Resume", "Cancel", "Complete", "Take"))
        self._judge(f"{method}{arguments!r:.80}", result if code == 0 and is_code else code, expected)

    def _judge(self, what: str, code: int, expected: Codes) -> None:
        self.world.calls += 1
        assert code in expected, f"{what} answered {code:#x} instead of {', '.join(map(hex, expected))}"

    def _get(self, number: int, name: str) -> None:  # noqa: C901, PLR0912  # one table of getters
        job, known = self.jobs[number], self.reference.jobs[number]
        self.world.calls += 1
        match name:
            case "GetJob":
                code, _ = _outcome(lambda: self.world.manager.GetJob(job.GetId()))
                self._judge(name, code, self.reference.find(number))
            case "EnumJobs":
                jobs = self.world.manager.EnumJobs(0)
                found = {one.GetId() for one in jobs.Next(jobs.GetCount())} - {uuid.UUID(self.world.blocker)}
                living = {n for n, one in self.reference.jobs.items() if not one.is_final}
                assert found == {self.jobs[n].GetId() for n in living}
            case "GetError":
                codes, error = self.reference.error(number)
                code, made = _outcome(job.GetError)
                self._judge(name, code, codes)
                if error is not None:
                    assert made.GetError() == (error[1], error[0])
                    assert made.GetFile().GetLocalName() == known.files[error[2]].local_name
            case "GetProgress":
                total, files, done = self.reference.progress(number)
                progress = job.GetProgress()
                assert (progress.FilesTotal, progress.FilesTransferred) == (files, done)
                assert progress.BytesTotal == _size(total)
            case "GetState":
                assert job.GetState().name == f"BG_JOB_STATE_{known.state}"
            case "GetTimes":
                times = job.GetTimes()
                assert times.CreationTime is not None
                assert times.ModificationTime is not None
                assert times.CreationTime <= times.ModificationTime
                if known.state == "TRANSFERRED":
                    assert times.TransferCompletionTime is not None
            case "GetType":
                assert job.GetType() == 0
            case "GetNotifyInterface":
                assert job.GetNotifyInterface() is None
            case "GetOwner":
                assert job.GetOwner() == "S-1-22-1-0"
            case "GetErrorCount":
                assert job.GetErrorCount() >= known.least_errors
            case "EnumFiles":
                names = [(file.GetRemoteName(), file.GetLocalName()) for file in job.EnumFiles().Next(99)]
                assert names == [(file.shown_name, file.local_name) for file in known.files]
            case "GetId":
                unknown = job.QueryInterface(com.IUnknown)
                assert all(one.QueryInterface(com.IUnknown) is unknown for one in self.options[number])
            case _:
                self._get_setting(number, name)

    def _get_setting(self, number: int, name: str) -> None:
        code, wanted = self.reference.get(number, name)
        property_id, _, member = name.partition(" ")
        if member:
            found = getattr(self.jobs[number].GetProperty(int(property_id)), member)
        else:
            got, found = _outcome(self._method(number, f"Get{name}"))
            self._judge(f"Get{name}", got, frozenset({code}))
        assert code or found == wanted, f"{name} is {found!r:.200} instead of {wanted!r:.200}"

    def _compare(self) -> None:
        """All jobs are what the reference says, as soon as they have come to rest."""
        wrong: dict[str, Any] = {}

        def is_equal() -> bool:
            infos = self.world.infos()
            wrong.clear()
            for number, job in self.jobs.items():
                expected = self.reference.jobs[number]
                info = infos.get(str(job.job.id)) or job.job.info()
                if (found := _seen(info)) != (wanted := _wanted(expected, self.reference.progress(number))):
                    wrong[f"job {number}"] = f"{found} instead of {wanted}"
                else:
                    files = [_file_seen(file) for file in job.job.files()]
                    if files != (known := [_file_wanted(file) for file in expected.files]):
                        wrong[f"files of job {number}"] = f"{files} instead of {known}"
            known_ids = {str(job.job.id) for job in self.jobs.values()} | {self.world.blocker}
            assert infos.keys() <= known_ids, "there is a job that nobody made"
            return not wrong

        try:
            self.world.wait_until(is_equal, "all is as the reference says")
        except AssertionError as error:
            raise AssertionError(f"{error}: {wrong}") from None

    def teardown(self) -> None:
        for job in self.jobs.values():
            _outcome(job.Cancel)
        shutil.rmtree(self.folder)


def _outcome(call: Callable[[], Any]) -> tuple[int, Any]:
    """Code and result of a call."""
    try:
        return 0, call()
    except com.COMError as error:
        return error.hresult, None


def _size(known: int | None) -> int:
    return 2**64 - 1 if known is None else known


def _wanted(job: RefJob, progress: tuple[int | None, int, int]) -> tuple[Any, ...]:
    error = None if job.error is None else job.error[0]
    return job.state, *progress, error, job.values["Priority"], [job.values[name] for name in WIRE_NAMES]


def _seen(info: JobInfo) -> tuple[Any, ...]:
    error = None if info["error"] is None else info["error"]["hresult"]
    values: Any = info["properties"]
    progress = info["bytes_total"], info["files_total"], info["files_transferred"]
    priority = openbits.Priority[values["priority"].upper()]
    return info["state"].upper(), *progress, error, priority, [values[name] for name in WIRE_NAMES.values()]


def _file_wanted(file: RefFile) -> tuple[Any, ...]:
    return file.shown_name, file.local_name, file.size, file.is_done, file.is_published, True


def _file_seen(file: FileInfo) -> tuple[Any, ...]:
    """The bytes are all of a file that is here, and at most what the server gave of one that is not."""
    most = file["bytes_total"] if file["is_transferred"] else HALF if file["bytes_total"] else 0
    is_plausible = file["bytes_transferred"] in ({most} if file["is_transferred"] else range((most or 0) + 1))
    names = file["remote_name"], file["local_name"]
    return *names, file["bytes_total"], file["is_transferred"], file["is_published"], is_plausible


def test_every_call_does_what_the_reference_says(world: World) -> None:
    examples = 0
    while world.calls < CALLS or not world.restarts:  # how many calls a sequence makes is up to Hypothesis
        examples = max(10, (CALLS - world.calls) // (2 * STEPS))
        run_state_machine_as_test(
            lambda: Campaign(world),  # type: ignore[arg-type]  # any callable will do
            settings=settings(
                max_examples=examples,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=[Phase.generate],  # a failure is told at once: shrinking it takes many minutes
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    print(f"{world.calls} calls, {world.restarts} restarts of the service")  # noqa: T201  # the record of a campaign
