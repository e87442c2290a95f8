"""Ticket caches of network identities, as orders need them: asked for once for many files of an attempt.

A broker of that identity reads the cache. The manager has a sealed copy for a short while, passes it on with each
order, and does not read it; whoever reads it does so from its beginning, since all have one offset.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from openbits.service.file_broker import BrokerError
from openbits.service.identities import Source
from openbits.service.record import Record

REMEMBERED_SECONDS: Final = 30.0
"""Tickets that an attempt of hours needs are renewed meanwhile."""

Ask = Callable[[Source], Awaitable[tuple[str, int | None]]]
"""Has a broker asked: name of the cache, and descriptor of a copy if it is a file. Raises BrokerError."""

_Attempt = tuple[UUID, int, Source]


class TicketCopies:
    """What brokers have said of the tickets of present attempts."""

    def __init__(self, ask: Ask, remembered_seconds: float = REMEMBERED_SECONDS) -> None:
        self._ask = ask
        self._remembered_seconds = remembered_seconds
        self._known: dict[_Attempt, tuple[dict[str, str], int | None]] = {}

    async def of_attempt(self, record: Record, network: Source) -> tuple[dict[str, str], list[int]]:
        """Name of the ticket cache, or why there is none, and its copy if it is a file; the caller closes it."""
        attempt = (record.job_id, record.job.epoch, network)
        if attempt not in self._known:
            found = await self._found(network)
            self._forget(attempt)
            self._known[attempt] = found
            asyncio.get_running_loop().call_later(self._remembered_seconds, self._forget, attempt)
        told, copy = self._known[attempt]
        return told, [] if copy is None else [os.dup(copy)]

    async def _found(self, network: Source) -> tuple[dict[str, str], int | None]:
        try:
            name, copy = await self._ask(network)
        except BrokerError as error:
            return {"name": "", "problem": str(error)}, None
        return {"name": name, "problem": ""}, copy

    def _forget(self, attempt: _Attempt) -> None:
        _, copy = self._known.pop(attempt, ({}, None))
        if copy is not None:
            os.close(copy)
