"""The event stream for asyncio (docs/api.md, Subscribe)."""

import asyncio
from typing import Self, cast

from openbits.api import framing
from openbits.api.aio_connection import AsyncConnection, Replies, Reply
from openbits.api.connection import ConnectionLostError
from openbits.api.framing import Parameters
from openbits.api.wire import EventInfo


class AsyncEventStream:
    """One subscription on a connection of its own; iterate, or ask with a time-out."""

    def __init__(self, connection: AsyncConnection, replies: Replies, first: EventInfo) -> None:
        self._connection = connection
        self._replies = replies
        self.first = first
        self.subscriber = str(first.get("subscriber"))

    @classmethod
    async def open(cls, connection: AsyncConnection, parameters: Parameters) -> Self:
        """Subscribe on a connection that belongs to the stream from now on."""
        try:
            replies = await connection.begin(framing.request("Subscribe", parameters, has_more=True))
            return cls(connection, replies, _event(await replies.next()))
        except BaseException:
            connection.close()
            raise

    async def next(self, timeout: float | None = None) -> EventInfo | None:  # noqa: ASYNC109  # None is an answer
        """The next event; None if there is none within `timeout` seconds. Raises ConnectionLostError."""
        try:
            async with asyncio.timeout(timeout):
                event = _event(await self._replies.next())
        except TimeoutError:
            return None
        if event["kind"] == "ended":
            raise ConnectionLostError(self._connection.path, "the service stops")
        return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EventInfo:
        event = await self.next()
        assert event is not None  # without a time-out  # noqa: S101
        return event

    def close(self) -> None:
        """End the subscription."""
        self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


def _event(reply: Reply) -> EventInfo:
    return cast("EventInfo", framing.answer(*reply, wants_descriptors=False)["event"])
