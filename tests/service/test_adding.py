"""When the spawner is asked to admit an owner: once for what is new, and again after its last job has ended."""

import asyncio
from collections.abc import Sequence
from typing import cast

from tests.service.enginebench import Bench

from openbits.core.model import Directory
from openbits.service.adding import Adding
from openbits.service.children import Children
from openbits.service.quotas import Quotas
from openbits.service.spawner_link import Cookie, SpawnerLink

HERE, THERE = Directory(path="/srv", dev=1, ino=2), Directory(path="/mnt", dev=1, ino=3)


class Spawner:
    """Remembers what it was asked, and which brokers have to know of a new directory."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, set[Directory], set[Directory]]] = []
        self.retired: list[int] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def admit(self, uid: int, by: Cookie, made: Sequence[Directory], read: Sequence[Directory]) -> None:
        assert by == "7"
        self.asked.append((uid, set(made), set(read)))
        await self.answers.wait()

    def retire_confined(self, uid: int) -> None:
        self.retired.append(uid)

    def adding(self) -> Adding:
        """The part under test."""
        return Adding(Bench().engine, cast("Children", self), cast("SpawnerLink", self), cast("Quotas", None))


def test_an_owner_is_admitted_once_and_for_each_new_directory() -> None:
    async def story() -> None:
        spawner = Spawner()
        adding = spawner.adding()
        for _ in range(3):
            await adding.admit(1000, "7", set(), set())
        assert (spawner.asked, spawner.retired) == ([(1000, set(), set())], [])
        for _ in range(2):
            await adding.admit(1000, "7", {HERE}, {THERE})
        assert (spawner.asked[1:], spawner.retired) == ([(1000, {HERE}, {THERE})], [1000])
        await adding.admit(1000, "7", {THERE}, {HERE})  # whoever may make files there may read them
        assert spawner.asked[2:] == [(1000, {THERE}, set())]
        await adding.admit(1001, "7", set(), set())
        assert spawner.asked[3:] == [(1001, set(), set())]

    asyncio.run(story())


def test_after_the_last_job_of_an_owner_the_spawner_is_asked_again() -> None:
    async def story() -> None:
        spawner = Spawner()
        adding = spawner.adding()
        await adding.admit(1000, "7", {HERE}, set())
        adding.forget(1000)
        await adding.admit(1000, "7", {HERE}, set())
        assert len(spawner.asked) == 2

    asyncio.run(story())


def test_an_owner_who_is_dismissed_while_the_spawner_is_asked_is_not_taken_for_admitted() -> None:
    async def story() -> None:
        spawner = Spawner()
        adding = spawner.adding()
        spawner.answers.clear()
        first = asyncio.create_task(adding.admit(1000, "7", set(), set()))
        await asyncio.sleep(0)
        adding.forget(1000)
        spawner.answers.set()
        await first
        await adding.admit(1000, "7", set(), set())
        assert len(spawner.asked) == 2

    asyncio.run(story())
