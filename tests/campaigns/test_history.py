"""Random histories of the API with restarts and kill -9, held against the reference model (reliability.md C8).

`make campaign-history N=…` runs N histories; a failing one is shrunk by Hypothesis and printed as a program.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.campaigns.actors import PASSWORD, Act, Actor, Answer
from tests.campaigns.model import ROOT, Codes, Model, ModelJob
from tests.real.conftest import Person, Service
from tests.transfer.faultserver import SILENCE, FaultServer, Request, Step, head, size_only, whole

from openbits.api.wire import JobInfo

pytestmark = pytest.mark.root

HISTORIES = int(os.environ.get("OPENBITS_HISTORIES", "20"))
STEPS = 15
MOST_JOBS = 2
"""Few, so that one history does much with each."""
BODY = b"a file of which there is one version only\n" * 100


@dataclass
class World:
    """The service, its users and the server; one for all histories."""

    service: Service
    actors: dict[int, Actor]
    owners: list[int]
    folder: Path
    server: FaultServer
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def infos(self) -> dict[str, JobInfo]:
        """The queue, by display name."""
        with self.service.client() as client:
            return {info["properties"]["display_name"]: info for info in client.job_infos(all_users=True)}


def _head(request: Request) -> list[Step]:
    if request.target.startswith("/silent"):
        return [SILENCE]
    return [head("404 Not Found", "Content-Length: 0")] if request.target.startswith("/gone") else size_only(BODY)


def _get(request: Request) -> list[Step]:
    return whole(BODY) if request.target.startswith("/good") else _head(request)


@pytest.fixture
def world(service: Service, throwaway_user: Callable[..., Any], open_tmp_path: Path) -> Iterator[World]:
    helper, owners = throwaway_user(password=PASSWORD), [throwaway_user(), throwaway_user()]
    folder = open_tmp_path / "common"
    folder.mkdir()
    folder.chmod(0o1777)
    users = [Person(uid=ROOT, gid=0), *owners]
    actors = {user.uid: Actor(user, str(service.socket), helper.name) for user in users}
    server = FaultServer()
    server.answer("HEAD", _head)
    server.answer("GET", _get)
    yield World(service, actors, [owner.uid for owner in owners], folder, server)
    for actor in actors.values():
        actor.close()
    server.close()


KINDS = ["good", "gone", "silent"]
KIND_LISTS = st.lists(st.sampled_from(KINDS), max_size=2)
STATE_VERBS = ["resume", "resume", "suspend", "suspend", "complete", "complete", "cancel"]
VERBS = [*STATE_VERBS, "add", "describe", "flags", "flags", "help", "help", "clear", "restart", "kill"]


class History(RuleBasedStateMachine):
    """One history: verbs of three callers, and what ends the service."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.model = Model()
        self.ids: dict[str, str] = {}
        self.opened: set[tuple[int, str]] = set()

    def _call(self, caller: int, name: str, verb: str, expected: Codes, **arguments: Any) -> None:
        answer = self._answer(caller, name, Act(verb, name, arguments))
        code = answer.value if answer.kind == "error" else answer.value or 0
        assert answer.kind != "lost", answer
        wanted = ", ".join(map(hex, expected))
        assert code in expected, f"{verb} of {name} by {caller}: {code:#x} {answer.text}; expected {wanted}"

    def _answer(self, caller: int, name: str, act: Act) -> Answer:
        """Open the job first if this caller has not; who may not hears so then."""
        actor = self.world.actors[caller]
        if (caller, name) not in self.opened:
            (answer,) = actor.do(Act("open", name, {"job_id": self.ids[name]}))
            if answer.kind == "error":
                return answer
            self.opened.add((caller, name))
        return actor.do(act)[0]

    # -- rules --------------------------------------------------------------------------------------------------------

    @initialize(owner=st.integers(0, 1), kinds=KIND_LISTS)
    def begin(self, owner: int, kinds: list[str]) -> None:
        self.create(owner, kinds, is_resumed=True)

    @precondition(lambda self: len(self.ids) < MOST_JOBS)
    @rule(owner=st.integers(0, 1), kinds=KIND_LISTS, is_resumed=st.booleans())
    def create(self, owner: int, kinds: list[str], *, is_resumed: bool) -> None:
        caller, name = self.world.owners[owner], f"history-{next(self.world.numbers)}"
        (answer,) = self.world.actors[caller].do(Act("create", name))
        assert answer.kind == "ok", answer
        self.ids[name] = answer.value
        self.opened.add((caller, name))
        self.model.create(caller, name)
        for kind in kinds:
            self._add(caller, name, kind)
        self._call(caller, name, "set", frozenset({0}), priority="foreground")  # nobody waits for a slot
        if is_resumed:
            self._call(caller, name, "resume", self.model.resume(caller, name))

    def _add(self, caller: int, name: str, kind: str) -> None:
        target = f"/{kind}-{next(self.world.numbers)}"
        files = [(self.world.server.url(target), str(self.world.folder / target[1:]))]
        self._call(caller, name, "add", self.model.add(caller, name, kind), files=files)

    @rule(pick=st.integers(0, 5), last=st.booleans(), verb=st.sampled_from(VERBS), number=st.integers(0, 3))
    def act(self, pick: int, last: bool, verb: str, number: int) -> None:  # noqa: FBT001  # Hypothesis names them
        """One call, of the owner in four of six cases, on the first or the last job."""
        name = sorted(self.ids)[-last]
        caller = {0: ROOT, 1: self.world.owners[0]}.get(pick, self.model.jobs[name].owner)
        match verb:
            case "add":
                self._add(caller, name, KINDS[number % 3])
            case "describe":
                expected = self.model.describe(caller, name, str(number))
                self._call(caller, name, "set", expected, description=str(number))
            case "flags":
                self._call(caller, name, "flags", self.model.set_flags(caller, name, number), flags=number)
            case "restart" | "kill":
                self._restart(is_orderly=verb == "restart")
            case "help":
                self._call(caller, name, "help", self.model.set_token(caller, name))
            case "clear":
                self._call(caller, name, "clear", self.model.clear_token(caller, name))
            case _:
                self._call(caller, name, verb, getattr(self.model, verb)(caller, name))

    def _restart(self, *, is_orderly: bool) -> None:
        if is_orderly:
            self.world.service.stop()
            self.world.service.start()
        else:
            old = self.world.service.pids()["manager"]
            self.world.service.kill("manager")
            while self.world.service.pids()["manager"] == old:
                self.world.service.wait_until_it_answers()
        self.model.restart()
        self.opened.clear()

    # -- what must be equal after each --------------------------------------------------------------------------------

    @invariant()
    def is_as_the_model_says(self) -> None:
        expected = {name: _shown(job) for name, job in self.model.jobs.items() if not job.is_final}
        found: dict[str, Any] = {}

        def is_equal() -> bool:
            infos = self.world.infos()
            found.clear()
            found.update({name: _seen(info) for name, info in infos.items() if name in self.model.jobs})
            return found == expected

        deadline = time.monotonic() + 10
        while not is_equal():
            assert time.monotonic() < deadline, f"the queue is {found} instead of {expected}"
            time.sleep(0.01)

    def teardown(self) -> None:
        for name, job in self.model.jobs.items():
            if not job.is_final:
                self._call(ROOT, name, "cancel", self.model.cancel(ROOT, name))


def _shown(job: ModelJob) -> tuple[Any, ...]:
    error = job.error if job.state == "error" else None
    arrived = sum(file.is_done for file in job.files)
    return job.state, len(job.files), arrived, job.description, job.flags, job.has_token, error


def _seen(info: JobInfo) -> tuple[Any, ...]:
    state = "running" if info["state"] in {"queued", "connecting", "transferring"} else info["state"]
    error = info["error"]["hresult"] if info["error"] is not None and state == "error" else None
    progress = info["files_total"], info["files_transferred"], info["properties"]["description"]
    return state, *progress, info["helper_token_flags"], info["helper_sid"] is not None, error


def test_the_queue_does_what_the_model_says_whatever_happens(world: World) -> None:
    run_state_machine_as_test(
        lambda: History(world),  # type: ignore[arg-type]  # any callable will do
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
