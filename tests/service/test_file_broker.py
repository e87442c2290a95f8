"""A broker that does not answer, as whoever it runs as can arrange, and the order of its answers."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.service.enginebench import HERE

from openbits import channel
from openbits.core.model import Temporary
from openbits.service import file_broker
from openbits.service.child import ChildLostError, Key
from openbits.service.file_broker import Broker, BrokerError, Publication

TEMPORARY = Temporary(name=".BIT0123abcd.tmp", dev=1, ino=2, birth_ns=3, uid=4, by_helper=False)
PUBLICATION = Publication(temporary=TEMPORARY, name="file", umask=0o022, modified_ns=None)


class Peer:
    """A broker in the manager, and what it is asked, answered by the test."""

    def __init__(self) -> None:
        ours, self._theirs = channel.pair()
        self.broker = Broker(Key("broker", 4, None), ours, lambda _: None)
        self._theirs.setblocking(False)
        self.tell(hello=True, pid=1)

    def tell(self, *descriptors: int, **message: Any) -> None:
        channel.send(self._theirs, message, list(descriptors))

    async def asked(self) -> str:
        """The op of the next request."""
        while True:
            try:
                return str(channel.receive(self._theirs)[0]["op"])
            except BlockingIOError:
                await asyncio.sleep(0.001)

    async def is_not_asked(self) -> bool:
        await asyncio.sleep(0)
        try:
            channel.receive(self._theirs)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self.broker.end()
        self._theirs.close()


def run(story: Callable[[Peer], Awaitable[None]]) -> None:
    async def whole() -> None:
        peer = Peer()
        try:
            await peer.broker.ready()
            await story(peer)
        finally:
            peer.close()
            await peer.broker.ended

    asyncio.run(whole())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANSWER_SECONDS", "PUBLISH_SECONDS"):
        monkeypatch.setattr(file_broker, name, 0.1)


ACTS: dict[str, Callable[[Broker], Awaitable[object]]] = {
    "read": lambda broker: broker.read(HERE, TEMPORARY),
    "remove": lambda broker: broker.remove(HERE, TEMPORARY),
    "publish": lambda broker: broker.publish(HERE, [PUBLICATION]),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("act", ACTS)
def test_a_silent_broker_is_not_waited_for_and_not_asked_again_before_it_speaks(act: str) -> None:
    async def story(peer: Peer) -> None:
        for _ in range(2):
            with pytest.raises(
                ChildLostError, match=r"file broker of uid 4 has not answered for .* s; is it stopped\?"
            ):
                await ACTS[act](peer.broker)
        assert await peer.asked() == act
        assert await peer.is_not_asked()

    run(story)


@pytest.mark.usefixtures("impatient")
def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    async def story(peer: Peer) -> None:
        with pytest.raises(ChildLostError):
            await peer.broker.read(HERE, TEMPORARY)
        later = asyncio.create_task(peer.broker.resolve("/srv/file"))
        assert [await peer.asked(), await peer.asked()] == ["read", "resolve"]
        reading, writing = os.pipe()
        peer.tell(writing, reply=1, ok=True)
        peer.tell(reply=2, ok=False, errno=2, step="directory", subject="/srv", text="it is this one")
        with pytest.raises(BrokerError, match="it is this one"):
            await later
        os.close(writing)
        assert os.read(reading, 1) == b"", "the descriptor that came too late is closed"
        os.close(reading)
        assert not peer.broker.is_busy

    run(story)


def test_a_broker_that_answers_is_waited_for_however_long_the_line_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of these requests waits for half as long again as the limit."""
    monkeypatch.setattr(file_broker, "ANSWER_SECONDS", 1.0)

    async def story(peer: Peer) -> None:
        line = [asyncio.create_task(peer.broker.remove(HERE, TEMPORARY)) for _ in range(10)]
        for number in range(1, 11):
            assert await peer.asked() == "remove"
            await asyncio.sleep(0.15)
            peer.tell(reply=number, ok=True)
        await asyncio.gather(*line)

    run(story)
