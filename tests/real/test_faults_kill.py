"""Kill -9 of every program at any moment, under work of two owners and a helper: P1, P2, P4, P6, P7, P12.

`OPENBITS_KILL_ROUNDS` (default 25) and `OPENBITS_KILL_SEED` choose how much and which; a failure names its seed.
"""

import contextlib
import itertools
import os
import random
import secrets
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import Service, run_as
from tests.real.stories import Job, names
from tests.real.versions import Versions

from openbits import BitsError, Priority, TokenFlags
from openbits.core.transitions import LEGAL

pytestmark = pytest.mark.root

ROUNDS = int(os.environ.get("OPENBITS_KILL_ROUNDS", "25"))
SEED = int(os.environ.get("OPENBITS_KILL_SEED", str(secrets.randbelow(10**9))))

PROGRAMS = ("worker", "broker", "manager", "zygote", "spawner")
SERVER_UNAVAILABLE = 0x800706BA

PASSWORD = "open sesame"

LEGAL_PAIRS = {(source.name.lower(), target.name.lower()) for source, _, target in LEGAL}


@dataclass
class Planned:
    """A job as its creator knows it: what was acknowledged must be there."""

    name: str
    owner: Any
    paths: dict[Path, str]
    has_helper: bool = False
    is_auto: bool = False
    job_id: str | None = None
    acknowledged: list[str] = field(default_factory=list)


def _make(service: Service, plan: Planned, urls: dict[Path, str], helper: str) -> tuple[str | None, list[str]]:
    """Create, add, resume as the owner; what was acknowledged until the service went away, if it did."""
    acknowledged: list[str] = []
    job_id = None
    try:
        with service.client() as client:
            job = client.create_job(plan.name, priority=Priority.FOREGROUND, auto_complete=plan.is_auto)
            job_id = str(job.id)
            acknowledged.append("created")
            if plan.has_helper:
                with client.logon_user(helper, PASSWORD) as token, token.impersonate():
                    job.set_helper_token()
                job.set_helper_token_flags(TokenFlags.LOCAL_FILE)
            job.add_files([(url, path) for path, url in urls.items()])
            acknowledged.append("added")
            job.resume()
            acknowledged.append("resumed")
    except BitsError as error:
        if error.hresult not in {SERVER_UNAVAILABLE, 0x8007042B}:  # gone, or its broker died three times
            raise
    return job_id, acknowledged


class Campaign:
    """The work, the killing and the looking."""

    def __init__(self, service: Service, owners: list[Any], helper: Any, folders: dict[int, Path]) -> None:
        self.service = service
        self.owners = owners
        self.helper = helper
        self.folders = folders
        self.versions = Versions()
        self.random = random.Random(SEED)  # noqa: S311  # to be repeated
        self.plans: list[Planned] = []
        self.done: list[Planned] = []
        self.given_up: list[Planned] = []
        self.unsure: list[Planned] = []
        self._numbers = itertools.count()

    def round(self) -> None:
        """Work while something is killed; afterwards everything acknowledged is there."""
        program = self.random.choice(PROGRAMS)
        delay = self.random.uniform(0, 0.5)
        pids = self.service.pids()
        chosen = [pid for name, pid in pids.items() if name.partition(":")[0] == program]
        if not chosen:  # no worker or broker runs: then the one that would have it started
            program, chosen = "manager", [pids["manager"]]
        killer = threading.Thread(target=self._kill, args=(chosen, delay))
        killer.start()
        try:
            for _ in range(self.random.randint(1, 3)):
                self._work()
        finally:
            killer.join()
        if program == "spawner":
            self.service.wait()
            self.service.start()
        if program not in {"worker", "broker"}:
            self._wait_for_another_than(pids["manager"])
        self._look()

    def _kill(self, pids: list[int], delay: float) -> None:
        time.sleep(delay)  # the moment is the point
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _wait_for_another_than(self, manager: int) -> None:
        """Until the next manager answers: the old one may live a little longer than the zygote."""
        deadline = time.monotonic() + 20
        while True:
            self.service.wait_until_it_answers()
            with contextlib.suppress(BitsError):
                if self.service.pids()["manager"] != manager:
                    return
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _work(self) -> None:
        act = self.random.choice([self._create, self._create, self._change, self._change, self._renew])
        act()

    def _create(self) -> None:
        number = next(self._numbers)
        owner = self.random.choice(self.owners)
        has_helper = number % 5 == 4
        folder = self.folders[self.helper.uid if has_helper else owner.uid]
        count = self.random.randint(1, 2)
        paths = {folder / f"{number}-{index}": f"/{number}-{index}" for index in range(count)}
        plan = Planned(f"job {number}", owner, paths, has_helper, is_auto=number % 4 == 3 and not has_helper)
        urls = {path: self.versions.put(name) for path, name in paths.items()}
        plan.job_id, plan.acknowledged = run_as(owner, _make, self.service, plan, urls, self.helper.name)
        (self.plans if plan.job_id else self.unsure).append(plan)

    def _renew(self) -> None:
        """A file changes on the server."""
        if self.versions.bodies:
            self.versions.put(self.random.choice(list(self.versions.bodies)))

    def _change(self) -> None:
        """A verb on a job; what is acknowledged must have happened."""
        if not self.plans:
            return
        plan = self.random.choice(self.plans)
        assert plan.job_id is not None
        verb = self.random.choice(["suspend", "resume", "resume", "cancel", "complete"])
        try:
            getattr(Job(self.service, plan.job_id), verb)()
        except BitsError as error:
            if error.hresult == SERVER_UNAVAILABLE and verb in {"cancel", "complete"}:
                self._move(plan, self.unsure)
            return
        if verb in {"cancel", "complete"}:
            self._move(plan, self.given_up if verb == "cancel" else self.done)

    def _move(self, plan: Planned, to: list[Planned]) -> None:
        self.plans.remove(plan)
        to.append(plan)

    # -- what must hold -----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        with self.service.client() as client:
            infos = {info["job_id"]: info for info in client.job_infos(all_users=True)}
        for plan in list(self.plans):
            info = infos.get(plan.job_id or "")
            if info is None:
                assert plan.is_auto, f"{plan.name} is lost, though {plan.acknowledged} was acknowledged (P1)"
                self._move(plan, self.done)
                continue
            assert info["properties"]["display_name"] == plan.name
            if "added" in plan.acknowledged:
                assert info["files_total"] == len(plan.paths)
        for plan in self.given_up + self.done:
            assert plan.job_id not in infos, f"{plan.name} is back (P1)"
        for plan in self.given_up:
            assert not [path for path in plan.paths if path.exists()], f"{plan.name} was cancelled and published"
        self._look_at_files()

    def _look_at_files(self) -> None:
        for plan in self.plans + self.done + self.unsure:
            uid = self.helper.uid if plan.has_helper else plan.owner.uid
            for path, name in plan.paths.items():
                if path.exists():
                    assert path.read_bytes() in self.versions.bodies[name], f"{path} is a mix (P2)"
                    assert path.stat().st_uid == uid, f"{path} belongs to another one (P7)"

    def unknown_files(self) -> list[str]:
        """Temporary files that the store does not know (P6); it also knows those of jobs that are over."""
        with contextlib.closing(sqlite3.connect(self.service.state / "queue" / "queue.db")) as store:
            query = "SELECT document FROM jobs UNION ALL SELECT document FROM files"
            known = "".join(document for (document,) in store.execute(query))
        found = [name for folder in self.folders.values() for name in names(folder)]
        return [name for name in found if name.startswith(".BIT") and name not in known]

    def finish(self) -> None:
        """Every job ends without an operator, but those that lost a token, which get it again."""
        for plan in list(self.plans):
            assert plan.job_id is not None
            job = Job(self.service, plan.job_id)
            if not job.is_gone():
                self._end(plan, job)
        with self.service.client() as client:
            for rest in client.jobs(all_users=True):  # created without an acknowledgement, or not ended with one
                rest.cancel()
        self._visit()

    def _end(self, plan: Planned, job: Job) -> None:
        info = job.info()
        if info["state"] in {"suspended", "error"} and info["files_total"]:
            if plan.has_helper:
                run_as(plan.owner, _repair, self.service, job.id, self.helper.name)
            else:
                assert info["state"] == "suspended", info["error"]
                job.resume()
        if info["files_total"] == 0:
            assert job.cancel() == 0
            return
        if plan.is_auto:
            deadline = time.monotonic() + 60
            while not job.is_gone():
                assert time.monotonic() < deadline, job.info()
                time.sleep(0.05)
        else:
            self._complete(plan, job)
        for path, name in plan.paths.items():
            assert path.read_bytes() in self.versions.bodies[name]

    def _complete(self, plan: Planned, job: Job) -> None:
        info = job.reaches("transferred", "error", seconds=60)
        if info["state"] == "error" or (plan.has_helper and info["helper_sid"] is None):
            assert plan.has_helper, info["error"]
            run_as(plan.owner, _repair, self.service, job.id, self.helper.name)
            job.reaches("transferred", seconds=60)
        assert job.complete() == 0

    def _visit(self) -> None:
        """Everybody comes by: what waited for an identity is cleaned up then."""

        def come(*, with_token: bool) -> None:
            with self.service.client() as client:
                if with_token:
                    job = client.create_job("cleaning up")
                    with client.logon_user(self.helper.name, PASSWORD) as token, token.impersonate():
                        job.set_helper_token()
                    job.cancel()

        for user in [*self.owners, self.helper]:
            run_as(user, come, with_token=user is not self.helper)

    def history(self) -> dict[str, list[str]]:
        """States of every job in order, from the stored events; their numbers are without a gap (P4)."""
        states: dict[str, list[str]] = {}
        with self.service.client() as client, client.events(from_seq=0, all_users=True) as events:
            last = events.first["seq"]
            for number in range(1, last + 1):
                event = events.next(5)
                assert event is not None
                assert event["seq"] == number
                states.setdefault(event["job_id"], []).append(str(event.get("state")))
        return states


def _repair(service: Service, job_id: str, helper: str) -> None:
    with service.client() as client:
        job = client.job(job_id)
        with client.logon_user(helper, PASSWORD) as token, token.impersonate():
            job.set_helper_token()
        job.resume()


@pytest.fixture
def campaign(
    service: Service, throwaway_user: Callable[..., Any], private_folder: Callable[[Any], Path]
) -> Iterator[Campaign]:
    helper = throwaway_user(password=PASSWORD)
    owners = [throwaway_user(), throwaway_user()]
    made = Campaign(service, owners, helper, {user.uid: private_folder(user) for user in (*owners, helper)})
    yield made
    made.versions.server.close()


def test_nothing_is_lost_mixed_or_left_behind_whatever_is_killed(
    campaign: Campaign, eventually: Callable[..., Any]
) -> None:
    try:
        for _ in range(ROUNDS):
            campaign.round()
            eventually(lambda: not campaign.unknown_files())
        campaign.finish()
        campaign._look_at_files()
        eventually(lambda: not campaign.unknown_files())
        for states in campaign.history().values():
            pairs = {(before, after) for before, after in itertools.pairwise(states) if before != after}
            assert pairs <= LEGAL_PAIRS, f"{states} is no path of the state machine (P4)"
        for folder in campaign.folders.values():
            assert not [name for name in names(folder) if name.startswith(".BIT")]
    except BaseException as error:
        error.add_note(f"OPENBITS_KILL_SEED={SEED}\n{campaign.service.log()[-6000:]}")
        raise
    assert len(campaign.plans) + len(campaign.done) + len(campaign.given_up) > ROUNDS / 4
