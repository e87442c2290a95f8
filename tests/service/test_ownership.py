"""TakeOwnership and the room in the new owner's admitted entry, which others must not use up."""

import asyncio
from typing import cast

import pytest
from tests.service.enginebench import Bench

from openbits.core import access, codes, events
from openbits.core.enums import Integrity
from openbits.core.errors import BitsError
from openbits.core.model import Directory, File, Identity
from openbits.service.abandoned import Abandoned
from openbits.service.adding import Adding
from openbits.service.ownership import MAX_DIRECTORIES, Ownership
from openbits.service.record import Record
from openbits.service.spawner_link import Cookie
from openbits.service.temporaries import Temporaries

ROOT = Identity(uid=0, gid=0)


class SlowSpawner:
    """An Adding whose spawner takes its time; the old owner adds files meanwhile."""

    def __init__(self, bench: Bench, record: Record, count: int) -> None:
        self._bench, self._record, self._count = bench, record, count
        self.admitted: list[set[Directory]] = []

    async def admit(self, _uid: int, _by: Cookie, made: set[Directory], _read: set[Directory]) -> None:
        self.admitted.append(made)
        places = (Directory(path=f"/srv/{number}", dev=1, ino=100 + number) for number in range(self._count))
        files = [File(remote_name="http://x/", local_name="", directory=place, name="x") for place in places]
        self._bench.engine.apply(self._record, events.AddFiles(files=tuple(files)))


class Tidied:
    """Temporaries of a job that has none."""

    def tidy(self, _record: Record) -> None:
        pass


class NothingToSay:
    """No server knows of the job."""

    async def farewell(self, _record: Record) -> None:
        pass

    def say(self, _order: None) -> None:
        pass


def test_directories_that_come_while_a_job_is_taken_count_too() -> None:
    async def story() -> None:
        bench = Bench()
        record = bench.queued_job()
        spawner = SlowSpawner(bench, record, MAX_DIRECTORIES)
        parts = cast("Adding", spawner), cast("Temporaries", Tidied()), cast("Abandoned", NothingToSay())
        ownership = Ownership(bench.engine, *parts, access.Settings())
        taking = asyncio.create_task(ownership.take(record, ROOT, "1", Integrity.SYSTEM))
        while not taking.done():
            await bench.commits()
        with pytest.raises(BitsError, match=f"its files go to {MAX_DIRECTORIES + 1} directories") as refused:
            await taking
        assert refused.value.hresult == codes.BG_E_NEW_OWNER_NO_FILE_ACCESS
        assert (record.job.owner.uid, [len(each) for each in spawner.admitted]) == (1000, [1])

    asyncio.run(story())
