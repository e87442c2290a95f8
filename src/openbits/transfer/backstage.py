"""What the flows of a job need besides its shared connections: connections of their own, and somebody who may wait.

A conversation that authenticates a connection (NTLM, Negotiate) must not be joined by the requests of another transfer:
it gets an engine of its own, with one connection, which the next transfer of the job takes over. Calls that may ask the
KDC block, so helper threads make them: those of one job one after the other, since a wrong password must not be tried
twice at a time, those of different jobs together. What nobody waits for any more is skipped.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from openbits.transfer.curl import Engine
from openbits.transfer.ladder import Said
from openbits.transfer.loop import Loop
from openbits.transfer.mechanisms import MechanismError

MOST_THREADS: Final = 4
"""So many jobs may wait for a silent KDC without the others noticing."""

Outcome = Said | MechanismError


class Task:
    """One call; `cancel` at any time."""

    def __init__(self, call: Callable[[], Said], then: Callable[[Outcome], None]) -> None:
        self._call = call
        self._then: Callable[[Outcome], None] | None = then

    def cancel(self) -> None:
        """Nobody waits for it."""
        self._then = None

    def run(self, loop: Loop) -> None:
        """In a helper thread."""
        if self._then is None:
            return
        try:
            outcome: Outcome = self._call()
        except MechanismError as error:
            outcome = error
        except Exception as error:  # noqa: BLE001  # without the thread others would wait for ever
            outcome = MechanismError(f"unexpected {type(error).__name__}: {error}")
        loop.post(lambda: self._tell(outcome))

    def _tell(self, outcome: Outcome) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(outcome)


class Lane:
    """The calls of one job."""

    def __init__(self) -> None:
        self.tasks: deque[Task] = deque()
        self.is_served = False


class Helpers:
    """The threads of a worker; begun when they are first needed."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        self._served = 0
        """How many lanes have calls."""
        self._threads = 0

    def run(self, lane: Lane, call: Callable[[], Said], then: Callable[[Outcome], None]) -> Task:
        """Have the call made, and call back in the loop."""
        task = Task(call, then)
        with self._lock:
            lane.tasks.append(task)
            if lane.is_served:
                return task
            lane.is_served = True
            self._served += 1
            if self._threads < min(self._served, MOST_THREADS):
                self._threads += 1
                threading.Thread(target=self._serve, name="proofs", daemon=True).start()
        self._lanes.put(lane)
        return task

    def _serve(self) -> None:
        while True:
            lane = self._lanes.get()
            lane.tasks[0].run(self._loop)
            with self._lock:
                lane.tasks.popleft()
                if lane.tasks:
                    self._lanes.put(lane)
                else:
                    lane.is_served = False
                    self._served -= 1


class Backstage:
    """Of one job."""

    def __init__(self, loop: Loop, helpers: Helpers, make_engine: Callable[[], Engine]) -> None:
        self._loop = loop
        self._make_engine = make_engine
        self._idle: list[Engine] = []
        self._helpers = helpers
        self._lane = Lane()

    def run(self, call: Callable[[], Said], then: Callable[[Outcome], None]) -> Task:
        """Have a call made that may take long, and call back in the loop."""
        return self._helpers.run(self._lane, call, then)

    def lend(self) -> Engine:
        """An engine for one flow; the connection in it may be authenticated already."""
        return self._idle.pop() if self._idle else self._make_engine()

    def take_back(self, engine: Engine) -> None:
        """The flow is over."""
        self._idle.append(engine)

    def later(self, callback: Callable[[], None]) -> None:
        """Call back when nothing else is being called: not from inside libcurl."""
        self._loop.call_at(self._loop.now(), callback)

    def close(self) -> None:
        """Close the connections that nobody has."""
        for engine in self._idle:
            engine.close()
        self._idle.clear()
