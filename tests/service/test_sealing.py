"""Secrets of an older master key come under the newest part by part, beside the work."""

import asyncio
from dataclasses import replace

from tests.service.enginebench import Bench, a_job

from openbits.core.enums import JobState
from openbits.core.model import Job
from openbits.service import sealing
from openbits.service.engine import WAKE_SLICE
from openbits.service.vault import Vault

OLD, NEW, LOST = b"o" * 32, b"n" * 32, b"l" * 32
KEYS = Vault([OLD, NEW])
SLOT = "server/basic"


def a_job_with_secret(key: bytes, state: JobState = JobState.SUSPENDED) -> Job:
    job = a_job(state)
    return replace(job, secrets=(Vault([key]).seal(job.job_id, job.owner.uid, SLOT, "Canary5ecret"),))


def newest(bench: Bench, job: Job) -> bool:
    """True if the disk has the secret of the job under the newest key."""
    (secret,) = bench.disk.jobs[job.job_id].secrets
    return secret.key_id == KEYS.newest


def test_a_part_is_on_the_disk_before_the_next_is_read() -> None:
    async def story() -> None:
        bench = Bench()
        jobs = [a_job_with_secret(OLD) for _ in range(2 * WAKE_SLICE + 1)]
        bench.load(jobs)
        renewing = asyncio.create_task(sealing.renew(bench.engine, KEYS, [job.job_id for job in jobs]))
        for done in (WAKE_SLICE, 2 * WAKE_SLICE, len(jobs)):
            await bench.settle()
            assert len(bench.disk.reads) == done
            bench.disk.commit()
            assert [newest(bench, job) for job in jobs] == [True] * done + [False] * (len(jobs) - done)
        await bench.settle()
        assert renewing.done()
        assert all(KEYS.open(job, bench.disk.jobs[job.job_id].secrets[0]) == "Canary5ecret" for job in jobs)

    asyncio.run(story())


def test_what_does_not_open_or_is_gone_is_passed_over_and_nothing_is_written_of_it() -> None:
    async def story() -> None:
        bench = Bench()
        kept, gone, renewed = a_job_with_secret(LOST), a_job_with_secret(OLD), a_job_with_secret(OLD)
        bench.load([kept, renewed])
        renewing = asyncio.create_task(sealing.renew(bench.engine, KEYS, [job.job_id for job in (kept, gone, renewed)]))
        await bench.settle()
        assert len(bench.disk.waiting) == 1
        bench.disk.commit()
        await bench.settle()
        assert renewing.done()
        assert bench.disk.jobs[kept.job_id].secrets == kept.secrets
        assert newest(bench, renewed)

    asyncio.run(story())


def test_it_ends_when_the_store_fails() -> None:
    async def story() -> None:
        bench = Bench()
        jobs = [a_job_with_secret(OLD) for _ in range(2 * WAKE_SLICE)]
        bench.load(jobs)
        renewing = asyncio.create_task(sealing.renew(bench.engine, KEYS, [job.job_id for job in jobs]))
        await bench.settle()
        bench.disk.fail()
        await renewing
        assert bench.failures
        assert len(bench.disk.reads) == WAKE_SLICE

    asyncio.run(story())
