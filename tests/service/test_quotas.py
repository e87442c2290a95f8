"""Who may have how many: at the limit and beyond it, and who is exempt."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.service.enginebench import Bench, a_job

from openbits.core import codes, events
from openbits.core.access import Settings
from openbits.core.enums import JobState
from openbits.core.errors import BitsError
from openbits.core.model import Identity, Job
from openbits.core.policies import Policies
from openbits.core.properties import Properties
from openbits.service.quotas import Quotas

ALICE = Identity(uid=1000, gid=1000, name="alice")
BOB = Identity(uid=1001, gid=1001, name="bob")
ROOT = Identity(uid=0, gid=0)
SERVICE = Identity(uid=999, gid=999)
OPERATOR = Identity(uid=1002, gid=1002, groups=(27,))


def jobs_of(owner: Identity, count: int, name: str = "nightly", state: JobState = JobState.SUSPENDED) -> list[Job]:
    """So many jobs of this owner."""
    made = [replace(a_job(state), owner=owner, properties=Properties(display_name=name)) for _ in range(count)]
    return [replace(job, files=()) for job in made]


def told(policies: Policies, *jobs: Job, ask: Callable[[Quotas], object]) -> BitsError | None:
    """What the limits say about a queue of these jobs; None: nothing."""

    async def story() -> BitsError | None:
        bench = Bench()
        bench.load(jobs)
        bench.engine.set_policies(policies)
        try:
            ask(Quotas(bench.engine, Settings(administrators=frozenset({27})), system_uid_max=999))
        except BitsError as refusal:
            return refusal
        return None

    return asyncio.run(story())


def one_more(owner: Identity, name: str = "one more") -> Callable[[Quotas], object]:
    return lambda quotas: quotas.check_new_job(owner, name)


@pytest.mark.parametrize(("count", "is_refused"), [(59, False), (60, True), (61, True)])
def test_an_ordinary_user_has_60_jobs(count: int, *, is_refused: bool) -> None:
    refusal = told(Policies(), *jobs_of(ALICE, count), ask=one_more(ALICE))
    assert (refusal is not None) is is_refused
    if refusal is not None:
        assert refusal.hresult == codes.BG_E_TOO_MANY_JOBS_PER_USER
        assert f"alice (uid 1000) has {count} jobs, and policy MaxJobsPerUser allows 60" in refusal.text
    assert told(Policies(), *jobs_of(ALICE, count), ask=one_more(BOB)) is None


@pytest.mark.parametrize("owner", [ROOT, SERVICE, OPERATOR])
def test_administrators_and_service_accounts_are_not_limited_and_not_counted(owner: Identity) -> None:
    few = Policies(max_jobs_per_user=2, max_jobs_per_machine=3)
    assert told(few, *jobs_of(owner, 9), ask=one_more(owner)) is None
    assert told(few, *jobs_of(owner, 9), *jobs_of(BOB, 2), ask=one_more(ALICE)) is None
    refusal = told(few, *jobs_of(owner, 9), *jobs_of(BOB, 2), *jobs_of(ALICE, 1), ask=one_more(ALICE))
    assert refusal is not None
    assert refusal.hresult == codes.BG_E_TOO_MANY_JOBS_PER_MACHINE
    assert "3 jobs of ordinary users" in refusal.text


def test_the_limit_of_the_user_is_looked_at_first() -> None:
    few = Policies(max_jobs_per_user=2, max_jobs_per_machine=3)
    refusal = told(few, *jobs_of(ALICE, 2), *jobs_of(BOB, 1), ask=one_more(ALICE))
    assert refusal is not None
    assert refusal.hresult == codes.BG_E_TOO_MANY_JOBS_PER_USER


def test_jobs_in_every_state_but_the_final_ones_count() -> None:
    one_of_each = [job for state in JobState if not state.is_final for job in jobs_of(ALICE, 1, state=state)]
    assert len(one_of_each) == 7
    limit = Policies(max_jobs_per_user=8)
    assert told(limit, *one_of_each, ask=one_more(ALICE)) is None
    assert told(limit, *one_of_each, *jobs_of(ALICE, 1), ask=one_more(ALICE)) is not None


def test_a_job_counts_for_whom_it_belongs_to_now_and_not_after_its_end() -> None:
    async def story() -> None:
        bench = Bench()
        bench.load([*jobs_of(ALICE, 3), *jobs_of(BOB, 1)])
        first, second, *_ = bench.engine.records.values()
        bench.engine.apply(first, events.Suspend())
        assert bench.engine.job_counts == {1000: 3, 1001: 1}
        bench.engine.apply(first, events.TakeOwnership(owner=BOB))
        assert bench.engine.job_counts == {1000: 2, 1001: 2}
        bench.engine.apply(second, events.Cancel())
        assert bench.engine.job_counts == {1000: 1, 1001: 2}
        bench.queued_job()
        assert bench.engine.job_counts == {1000: 2, 1001: 2}

    asyncio.run(story())


def test_the_refusal_says_what_fills_the_queue_and_from_when_it_is() -> None:
    old = [replace(job, created_at=1_000_000_000.0) for job in jobs_of(ALICE, 1, "backup")]
    refusal = told(Policies(), *old, *jobs_of(ALICE, 59, "browser update"), ask=one_more(ALICE))
    assert refusal is not None
    assert "59 have the name 'browser update', the oldest is from 2001-09-09 01:46 UTC" in refusal.text
    assert "bits cancel" in refusal.text


@pytest.mark.parametrize(("name", "is_refused"), [("browser update", True), ("backup", False), ("new", False)])
def test_one_display_name_leaves_room_for_others_if_a_policy_says_so(name: str, *, is_refused: bool) -> None:
    queue = [*jobs_of(ALICE, 2, "browser update"), *jobs_of(ALICE, 1, "backup"), *jobs_of(BOB, 5, "new")]
    refusal = told(Policies(max_jobs_per_display_name=2), *queue, ask=one_more(ALICE, name))
    assert (refusal is not None) is is_refused
    assert told(Policies(), *queue, ask=one_more(ALICE, name)) is None


@pytest.mark.parametrize(
    ("there", "more", "is_refused"), [(0, 200, False), (199, 1, False), (199, 2, True), (0, 201, True)]
)
def test_a_job_of_an_ordinary_user_has_200_files(there: int, more: int, *, is_refused: bool) -> None:
    refusal = told(Policies(), ask=lambda quotas: quotas.check_files(ALICE, there, more))
    assert (refusal is not None) is is_refused
    assert refusal is None or refusal.hresult == codes.BG_E_TOO_MANY_FILES_IN_JOB
    assert told(Policies(), ask=lambda quotas: quotas.check_files(SERVICE, there, more)) is None


def test_a_file_of_an_ordinary_user_has_500_ranges() -> None:
    found: list[int | None] = []
    for owner in (ALICE, ROOT, SERVICE, OPERATOR):
        assert told(Policies(), ask=lambda quotas, owner=owner: found.append(quotas.most_ranges(owner))) is None  # type: ignore[misc]
    assert found == [500, None, None, None]
