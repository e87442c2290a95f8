"""File brokers and network workers of the identities that jobs need: started on demand, ended when idle.

A child is keyed by (program, uid, by): `by` is the connection or token that vouches for the identity, None the
admitted entry of a job's owner. Brokers of admitted entries are confined to the directories known when they started;
after a new directory was admitted the old broker is retired.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from openbits.failpoints import failpoint
from openbits.service.child import Child, ChildLostError, Key
from openbits.service.file_broker import Broker, BrokerError
from openbits.service.network_worker import Worker
from openbits.service.spawner_link import Cookie, SpawnerLink

log = logging.getLogger("openbits.manager")

T = TypeVar("T")

BROKER_TRIES = 3

RETIRED_SECONDS = 10.0
"""How long the last request of a retired broker may take before the next broker starts beside it."""


class Children:
    """The pool of brokers and workers."""

    def __init__(self, link: SpawnerLink, configure_worker: Callable[[Worker], None]) -> None:
        self._link = link
        self._configure_worker = configure_worker
        self._ready: dict[Key, Child] = {}
        self._starting: dict[Key, asyncio.Task[Child]] = {}
        self._retired: dict[Key, Child] = {}

    async def broker(self, uid: int, by: Cookie | None) -> Broker:
        """The file broker of an identity. Raises RefusedError, ChildLostError."""
        return cast("Broker", await self._child(Key("broker", uid, by), Broker))

    async def with_broker(self, uid: int, by: Cookie | None, act: Callable[[Broker], Awaitable[T]]) -> T:
        """What `act` does with the broker of an identity; it is done again if the broker dies, so it must bear that.

        Raises RefusedError, BrokerError, and ChildLostError if one broker after the other dies.
        """
        for _ in range(BROKER_TRIES - 1):
            with contextlib.suppress(ChildLostError):
                return await act(await self.broker(uid, by))
        return await act(await self.broker(uid, by))

    async def with_reader(self, uid: int, by: Cookie | None, act: Callable[[Broker], Awaitable[T]]) -> T:
        """`with_broker`, to read what is the identity's own: a confined broker that is older than that is replaced."""
        try:
            return await self.with_broker(uid, by, act)
        except BrokerError as error:
            if error.errno != errno.EACCES or by is not None:
                raise
        self.retire_confined(uid)
        return await self.with_broker(uid, by, act)

    async def worker(self, uid: int, by: Cookie | None) -> Worker:
        """The network worker of an identity. Raises RefusedError, ChildLostError."""
        return cast("Worker", await self._child(Key("worker", uid, by), Worker))

    def retire_confined(self, uid: int) -> None:
        """A directory was admitted for `uid`: its confined broker does not know it, the next one will."""
        child = self._ready.pop(Key("broker", uid, None), None)
        if child is not None:
            self._retired[child.key] = child
            failpoint("child.retired")
            child.retire()

    def retire_vouched(self, by: Cookie) -> None:
        """The connection or token is gone: children it vouched for end when their work is done."""
        for key in [key for key in self._ready if key.by == by]:
            self._ready.pop(key).retire()

    def process_ids(self) -> dict[str, int]:
        """Pids by program and uid, for people who look at the machine."""
        return {f"{child.key.program}:{child.key.uid}": child.pid for child in self._ready.values()}

    async def _child(self, key: Key, make: Callable[[Key, socket.socket, Callable[[Child], None]], Child]) -> Child:
        child = self._ready.get(key)
        if child is not None:
            return child
        task = self._starting.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._start(key, make))
            self._starting[key] = task
            task.add_done_callback(lambda _: self._starting.pop(key, None))
        return await asyncio.shield(task)

    async def _start(self, key: Key, make: Callable[[Key, socket.socket, Callable[[Child], None]], Child]) -> Child:
        if key in self._retired:  # what it was asked for last must be done before what the next one is asked for
            await asyncio.wait([self._retired.pop(key).ended], timeout=RETIRED_SECONDS)
        child = make(key, await self._link.start(key.program, key.uid, key.by), self._ended)
        await child.ready()
        if child.is_ended:  # between its hello and now
            raise ChildLostError(f"{key.program} of uid {key.uid} ended at once")
        if isinstance(child, Worker):
            self._configure_worker(child)
        self._ready[key] = child
        failpoint("child.ready")
        child.settle()
        log.info("child_started program=%s uid=%d pid=%d", key.program, key.uid, child.pid)
        return child

    def _ended(self, child: Child) -> None:
        if self._ready.get(child.key) is child:
            del self._ready[child.key]
        log.info("child_ended program=%s uid=%d pid=%d", child.key.program, child.key.uid, child.pid)
