"""How often a broker is asked for tickets: once for the files of an attempt that are ordered together."""

import asyncio
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openbits.service.file_broker import BrokerError
from openbits.service.identities import Source
from openbits.service.ticket_copies import TicketCopies

ANNA = Source(uid=65_534, by=None, label="anna")
BERT = Source(uid=65_533, by=None, label="bert")


class Broker:
    """Has a new version of the tickets each time, or none."""

    def __init__(self) -> None:
        self.asked = list[str]()
        self.has_tickets = True
        self.made = list[int]()

    async def tickets(self, network: Source) -> tuple[str, int | None]:
        self.asked.append(network.label)
        if not self.has_tickets:
            raise BrokerError({"errno": 2, "step": "read", "subject": "/cache", "text": "no such file"})
        memory = os.memfd_create("tickets")
        os.write(memory, f"{network.label} {len(self.asked)}".encode())
        self.made.append(memory)
        return "FILE:/cache", memory

    def is_closed(self) -> bool:
        links = [Path(f"/proc/self/fd/{one}") for one in self.made]
        return not any(link.is_symlink() and "memfd:tickets" in str(link.readlink()) for link in links)


@pytest.fixture
def broker() -> Broker:
    return Broker()


def attempt(epoch: int = 1, job: int = 7) -> Any:
    return SimpleNamespace(job_id=uuid.UUID(int=job), job=SimpleNamespace(epoch=epoch))


async def passed_on(copies: TicketCopies, record: Any, network: Source = ANNA) -> str:
    """What is in the copy that goes with an order, and what the order says if there is none."""
    told, descriptors = await copies.of_attempt(record, network)
    if not descriptors:
        return told["problem"]
    assert told == {"name": "FILE:/cache", "problem": ""}
    (copy,) = descriptors
    text = os.pread(copy, 100, 0).decode()
    os.close(copy)
    return text


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # the kernel is asked, and calls nobody
            await asyncio.sleep(0.01)


def test_the_files_of_an_attempt_share_one_copy(broker: Broker) -> None:
    async def order() -> list[str]:
        copies = TicketCopies(broker.tickets)
        return [await passed_on(copies, attempt()) for _ in range(500)]

    assert asyncio.run(order()) == ["anna 1"] * 500
    assert broker.asked == ["anna"]


def test_another_attempt_another_job_and_another_identity_do_not(broker: Broker) -> None:
    async def order() -> list[str]:
        copies = TicketCopies(broker.tickets)
        ways = [(attempt(1), ANNA), (attempt(2), ANNA), (attempt(1, job=8), ANNA), (attempt(1), BERT)]
        return [await passed_on(copies, *way) for way in ways]

    assert asyncio.run(order()) == ["anna 1", "anna 2", "anna 3", "bert 4"]


def test_a_long_attempt_asks_again_and_keeps_nothing_open(broker: Broker) -> None:
    async def order() -> str:
        copies = TicketCopies(broker.tickets, remembered_seconds=0.01)
        assert await passed_on(copies, attempt()) == "anna 1"
        await until(broker.is_closed)
        again = await passed_on(copies, attempt())
        await until(broker.is_closed)
        return again

    assert asyncio.run(order()) == "anna 2"


def test_that_there_are_none_is_remembered_as_well(broker: Broker) -> None:
    broker.has_tickets = False

    async def order() -> list[str]:
        copies = TicketCopies(broker.tickets)
        return [await passed_on(copies, attempt()) for _ in range(3)]

    assert all("no such file" in text for text in asyncio.run(order()))
    assert broker.asked == ["anna"]
